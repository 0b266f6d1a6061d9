/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Firmware and what it boots from: found, ordered and handed to the platform. */
#ifndef LODGE_VM_FIRMWARE_H
#define LODGE_VM_FIRMWARE_H

#include "vm/internal.h"

/* What a device that can be booted from is, by the letter that --boot order= has for it. */
enum { VM_BOOT_FLOPPY = 'a', VM_BOOT_DISK = 'c', VM_BOOT_CDROM = 'd', VM_BOOT_NET = 'n' };

/* The guest can boot from the device with this Open Firmware path (as firmware's boot order has it:
 * platform_boot_path makes it for virtio devices); devices of a kind are tried in the order of the calls.
 * Those with a bootindex (0 or more) come before all others, the lowest first; -1: none. An empty path is nothing to
 * boot from. -ENOMEM. */
int vm_bootable(struct vm *vm, char kind, const char *path, int bootindex, struct err *e);
/* The same for the virtio device added last. */
int vm_bootable_virtio(struct vm *vm, char kind, int bootindex, struct err *e);
/* Is what a disk begins with (VM_DISK_HEAD bytes) a GPT with an EFI system partition, and nothing that a BIOS
 * would boot: no code in the first sector, no BIOS boot partition?  Foreign data. */
#define VM_DISK_HEAD (34 * 512)
bool vm_disk_is_uefi(const uint8_t head[VM_DISK_HEAD]);
/* The first disk decides about firmware where the user does not.  The node's lock held; it is read and waited for. */
void vm_look_at_disk(struct vm *vm, struct blk_node *node);
/* All devices are there: the files of fw_cfg, and firmware if the configuration has some.  Machine lock held. */
int vm_add_firmware(struct vm *vm, struct err *e);
void vm_free_firmware(struct vm *vm);

/* Is the file, by its name, a build of OVMF that needs system management mode, which there is not? */
bool vm_firmware_needs_smm(const char *file);

/* firmware_vars.c: opens the file of the guest's UEFI variables, or makes it from the template, and puts it into fw. */
int vm_vars_open(struct vm *vm, const char *template, struct platform_firmware *fw, struct err *e);
void vm_vars_free(struct vm *vm);	/* the machine's devices are gone */
/* Migration: the file is closed, and its lock gone; opened again, or for the first time, as it is. */
void vm_vars_release(struct vm *vm);
int vm_vars_take(struct vm *vm, struct err *e);

#endif
