/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where everything is: the guest-physical map, ports and interrupt numbers of
 * both machines.  Nothing outside platform/ knows these.
 *
 * Guest-physical memory (pc and micro alike unless said)
 *   0000_0000  RAM      up to 640 KiB; the last KiB is the (empty) EBDA
 *   000a_0000  hole     VGA window: no RAM behind it
 *   000c_0000  RAM      shadow area; 000e_0000 ACPI tables, 000f_0000 SMBIOS.  With firmware: its ROM, shadowed by PAM (pc)
 *   0010_0000  RAM      up to LAYOUT_LOW_MAX (2.75 GiB)
 *   c000_0000  PCI      32-bit BARs (pc), 512 MiB; firmware puts them, and ECAM, where it likes between RAM and the I/O APIC
 *   d000_0000  virtio-mmio slots (micro), 512 bytes each
 *   e000_0000  ECAM     256 buses (pc)
 *   fec0_0000  I/O APIC
 *   fed0_0000  HPET     (pc)
 *   fed1_c000  chipset configuration, if firmware puts it there (pc)
 *   fed4_0000  TPM, if there is one (pc)
 *   feda_0000  VM generation ID, if there is one
 *   fee0_0000  local APIC
 *   ffc0_0000  firmware (pc), up to 4 GiB
 *   1_0000_0000  RAM    the rest
 *   above RAM  PCI      64-bit BARs (pc), to the end of the physical address space
 *
 * Low memory while booting
 *   0500  GDT         7000  boot_params / hvm_start_info / Multiboot information
 *   9000  page tables (PML4, PDPT, 4 PDs: the first 4 GiB, identity)
 *   20000 command line (up to 64 KiB)      30000 module and memory lists
 */
#ifndef LODGE_PLATFORM_X86_LAYOUT_H
#define LODGE_PLATFORM_X86_LAYOUT_H

#include <stdint.h>

#define LAYOUT_KIB 1024ull
#define LAYOUT_MIB (1024 * LAYOUT_KIB)
#define LAYOUT_GIB (1024 * LAYOUT_MIB)

#define LAYOUT_EBDA 0x9fc00ull
#define LAYOUT_LOW_END 0xa0000ull
#define LAYOUT_SHADOW 0xc0000ull
#define LAYOUT_ACPI 0xe0000ull
#define LAYOUT_ACPI_SIZE 0x10000ull
#define LAYOUT_SMBIOS 0xf0000ull
#define LAYOUT_SMBIOS_SIZE 0x10000ull
#define LAYOUT_HIGH_START 0x100000ull

/* End of RAM below 4 GiB at most: SeaBIOS puts ECAM there. */
#define LAYOUT_LOW_MAX 0xb0000000ull
#define LAYOUT_4G 0x100000000ull
#define LAYOUT_PCI32 0xc0000000ull
#define LAYOUT_PCI32_SIZE 0x20000000ull
#define LAYOUT_PCI_IO 0xc000u		/* I/O BARs */
#define LAYOUT_PCI_IO_SIZE 0x4000u
#define LAYOUT_PCI32_FIRST 0x80000000ull	/* where firmware's BARs begin at the earliest */
#define LAYOUT_PCI32_END 0xfec00000ull
#define LAYOUT_ECAM 0xe0000000ull
#define LAYOUT_ECAM_BUSES 256u
#define LAYOUT_VIRTIO_MMIO 0xd0000000ull
#define LAYOUT_VIRTIO_MMIO_SLOTS 32u
#define LAYOUT_GED 0xfea00000ull	/* micro: power button and sleep registers */
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_HPET 0xfed00000ull
#define LAYOUT_TPM 0xfed40000ull
#define LAYOUT_VMGENID 0xfeda0000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_LAPIC_SIZE 0x1000ull

#define LAYOUT_FIRMWARE_MAX (16 * LAYOUT_MIB)	/* of an image; it ends at 4 GiB */
#define LAYOUT_BIOS_SHADOW (128 * LAYOUT_KIB)	/* its last part, below 1 MiB */

/* Boot-time structures in low memory. */
#define LAYOUT_BOOT_GDT 0x500ull
#define LAYOUT_BOOT_INFO 0x7000ull
#define LAYOUT_BOOT_PT 0x9000ull
#define LAYOUT_CMDLINE 0x20000ull
#define LAYOUT_CMDLINE_MAX 0x10000ull
#define LAYOUT_BOOT_LISTS 0x30000ull
#define LAYOUT_BOOT_LISTS_SIZE 0x10000ull

/* Ports. */
#define LAYOUT_PORT_COM1 0x3f8
#define LAYOUT_PORT_COM2 0x2f8
#define LAYOUT_PORT_COM3 0x3e8
#define LAYOUT_PORT_COM4 0x2e8
#define LAYOUT_PORT_RTC 0x70
#define LAYOUT_PORT_PVPANIC 0x505
#define LAYOUT_PORT_DEBUGCON 0xe9
#define LAYOUT_PORT_FIRMWARE_LOG 0x402
#define LAYOUT_PORT_DEBUG_EXIT 0xf4
#define LAYOUT_PORT_FW_CFG 0x510
#define LAYOUT_PORT_PM 0x600
#define LAYOUT_PORT_PCIHP 0xcc0		/* where QEMU's Q35 has it */
#define LAYOUT_PORT_CPUHP 0xcd8		/* likewise, and OVMF looks there */
#define LAYOUT_PORT_SMI 0xb2
#define LAYOUT_PORT_RESET 0xcf9
#define LAYOUT_PORT_FLOPPY 0x3f0	/* to 0x3f7, but 0x3f6 */
#define LAYOUT_PORT_DMA_LOW 0x00
#define LAYOUT_PORT_DMA_PAGES 0x80
#define LAYOUT_PORT_DMA_HIGH 0xc0
#define LAYOUT_DMA_FLOPPY 2		/* channel */
#define LAYOUT_PORT_VGA 0x3b0		/* 0x3b0..0x3df */
#define LAYOUT_PORT_DISPI 0x1ce

/* General purpose events. */
#define LAYOUT_GPE_PCIHP 1
#define LAYOUT_GPE_CPUHP 2
#define LAYOUT_GPE_VMGENID 5

/* PCI slots with a place of their own: what is added takes the first free one. */
#define LAYOUT_PCI_VGA (0x1b << 3)
/* Slots of the root bus whose cards may come and go: below those of root ports and the chipset. */
#define LAYOUT_PCI_HOT_FIRST 1
#define LAYOUT_PCI_HOT_LAST 22

/* Global system interrupts. Below 16: also 8259 inputs (pc). */
#define LAYOUT_GSI_PIT 0		/* arrives at I/O APIC pin 2 */
#define LAYOUT_GSI_KBD 1
#define LAYOUT_GSI_COM2 3		/* and COM4 */
#define LAYOUT_GSI_COM1 4		/* and COM3 */
#define LAYOUT_GSI_TPM 5
#define LAYOUT_GSI_FLOPPY 6
#define LAYOUT_GSI_RTC 8
#define LAYOUT_GSI_SCI 9
#define LAYOUT_GSI_MOUSE 12
#define LAYOUT_GSI_PCI 16		/* INTA..INTD of slot 0: 16..19 */
#define LAYOUT_PIC_PCI_A 10		/* INTA, INTC for an OS that uses the 8259 */
#define LAYOUT_PIC_PCI_B 11		/* INTB, INTD */
#define LAYOUT_PCI_CHIPSET_SLOT 25	/* from here on pins are not rotated */
#define LAYOUT_PCI_LPC 0xf8		/* 00:1f.0 */
#define LAYOUT_PCI_SMBUS 0xfb		/* 00:1f.3 */
#define LAYOUT_GSI_COUNT 24
#define LAYOUT_IOAPIC_ID 0		/* I/O APIC IDs are a space of their own with ACPI */

/* micro: virtio-mmio slot n, below LAYOUT_VIRTIO_MMIO_SLOTS. */
unsigned micro_slot_gsi(unsigned slot);
uint64_t micro_slot_base(unsigned slot);

#endif
