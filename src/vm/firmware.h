/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Firmware and what it boots from: found, ordered and handed to the platform. */
#ifndef LODGE_VM_FIRMWARE_H
#define LODGE_VM_FIRMWARE_H

#include "vm/internal.h"

/* What a device that can be booted from is, by the letter that --boot order= has for it. */
enum { VM_BOOT_DISK = 'c', VM_BOOT_CDROM = 'd', VM_BOOT_NET = 'n' };

/* The guest can boot from the device with this Open Firmware path (as firmware's boot order has it:
 * platform_boot_path makes it for virtio devices); devices of a kind are tried in the order of the calls.
 * An empty path is nothing to boot from. -ENOMEM. */
int vm_bootable(struct vm *vm, char kind, const char *path, struct err *e);
/* The same for the virtio device added last. */
int vm_bootable_virtio(struct vm *vm, char kind, struct err *e);
/* All devices are there: the files of fw_cfg, and firmware if the configuration has some.  Machine lock held. */
int vm_add_firmware(struct vm *vm, struct err *e);
void vm_free_firmware(struct vm *vm);

#endif
