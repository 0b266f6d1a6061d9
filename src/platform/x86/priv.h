/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the platform: what its files share. */
#ifndef LODGE_PLATFORM_X86_PRIV_H
#define LODGE_PLATFORM_X86_PRIV_H

#include "platform/x86/acpi/aml.h"
#include "platform/x86/e820.h"
#include "platform/x86/layout.h"
#include "platform/x86/platform.h"

struct acpi_cpuhp;
struct acpi_ged;
struct acpi_pcihp;
struct acpi_pm;
struct fw_cfg;
struct i8237;
struct i82078;
struct i8259;
struct i82093aa;
struct ich9_lpc;
struct lapics;
struct mc146818;
struct q35_mch;
struct vmgenid;
struct boot_start;

/* What differs between the machines. */
struct platform_kind_ops {
	const char *name;
	int (*build)(struct platform *p, struct err *e);
	int (*add_virtio)(struct platform *p, struct virtio_dev *d, struct pci_bus *bus, int devfn, struct err *e);
	void (*power_button)(struct platform *p);
	void (*init_without_firmware)(struct platform *p);	/* after a reset; NULL: nothing to do */
	bool legacy;		/* 8259, PIT, keyboard controller */
};

extern const struct platform_kind_ops platform_pc, platform_micro;

struct platform {
	struct machine *m;
	struct cpu_engine *engine;
	struct platform_config cfg;	/* strings are the caller's */
	const struct platform_kind_ops *kind;
	unsigned phys_bits;
	struct e820 e820;
	const char *boot_kind;

	/* Interrupts: gsi_wire() leads to the user-space chips or the engine. */
	bool kernel_irqchip;
	struct i8259 *pic;
	struct i82093aa *ioapic;
	struct lapics *lapics;
	struct irq pic_in[16], ioapic_in[LAYOUT_GSI_COUNT];
	struct irq_or shared[LAYOUT_GSI_COUNT];	/* GSIs with several sources: gsi_share */
	unsigned n_shared[LAYOUT_GSI_COUNT];
	bool pirq_level[4];
	int pirq_route[4];	/* 8259 input, or -1 */

	struct mc146818 *rtc;
	struct acpi_pm *pm;
	struct acpi_ged *ged;
	struct acpi_cpuhp *cpuhp;	/* NULL: CPUs neither come nor go */
	struct acpi_pcihp *pcihp;	/* NULL: cards of the root bus neither come nor go */
	struct pci_bus *pci;
	struct q35_mch *mch;
	struct ich9_lpc *lpc;
	struct fw_cfg *fw_cfg;
	struct i8237 *dma;		/* both NULL without floppy drives */
	struct i82078 *floppy;
	struct vmgenid *vmgenid;	/* or NULL */
	bool firmware;			/* it runs, and does what platform_boot else does */
	struct pci_dev *last_card;	/* the virtio device added last; only before the machine runs */
	const char *last_kind;		/* "scsi", "ethernet", ...: by its class */
	uint64_t pci64_base, pci64_size;

	unsigned n_mmio;		/* micro: virtio-mmio slots used */
};

/* irqs.c: chips or engine; after it the wires work. */
int irqs_build(struct platform *p, struct err *e);
/* GSI n, 0..23, with one source. */
struct irq gsi_wire(struct platform *p, unsigned n);
/* One more source of a shared GSI: the wire is high while any is. */
struct irq gsi_share(struct platform *p, unsigned n);
/* PCI PIRQ A..D: GSI 16+n for the I/O APIC, for the 8259 where the LPC bridge routes it. */
struct irq pirq_wire(struct platform *p, unsigned n);
/* The LPC bridge's routing has changed. */
void pirq_routed(void *platform);

/* parts.c: TPM and VM generation ID, if there are any; the wires and the ACPI chips are there. */
int parts_build(struct platform *p, struct err *e);

/* cpus.c: what CPUs that come and go need, if they may; how many there are, for firmware. */
int cpus_build(struct platform *p, struct err *e);
unsigned cpus_count(const struct platform *p);

/* slots.c: the registers, if cards of the root bus may come and go; the PCI root is there. */
int slots_build(struct platform *p, struct err *e);

/* platform.c: a vCPU's first state, or that of one that waits for SIPI (start is for the boot processor only). */
int platform_set_vcpu(struct platform *p, unsigned id, const struct boot_start *start, struct err *e);

/* memory.c: the first address behind RAM and all memory that may come; what the tables say of it. */
struct acpi_config;
uint64_t memory_top(const struct platform *p);
void memory_acpi_config(const struct platform *p, struct acpi_config *c);

int serial_build(struct platform *p, struct err *e);
/* video.c: the VGA, if there is one. */
int video_build(struct platform *p, struct err *e);

/* floppy.c: its drives, for the ACPI tables. */
struct acpi_config;
void floppy_acpi_config(const struct platform *p, struct acpi_config *c);

/* firmware_tables.c: the tables as files for firmware, made anew when it asks for them. */
int firmware_add_tables(struct platform *p, struct err *e);
/* firmware_kernel.c: kernel, initrds and command line as fw_cfg items. */
int firmware_add_kernel(struct platform *p, const struct platform_firmware *fw, struct err *e);
/* tables.c: SMBIOS at guest-physical address base. */
int tables_smbios(const struct platform *p, uint64_t base, bool bios_told, struct aml *out);
/* tables.c: what the ACPI tables say of the machine as it stands without firmware. */
struct acpi_config;
void tables_acpi_config(const struct platform *p, struct acpi_config *c);
/* ACPI and SMBIOS into guest memory. *rsdp: where the RSDP is. */
int tables_write(struct platform *p, uint64_t *rsdp, struct err *e);

#endif
