/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of a VM inside its qcow2 disks, under one name (QEMU's savevm, loadvm, delvm): a snapshot in each disk that is written to,
 * and the VM's state (vmstate.h) in one of them, behind the disk's end.
 *
 * Saving: the state is written, then each disk gets its snapshot, that with the state last; so a snapshot with state
 * tells that all others are there.  They are known to belong together by date and clock.  What fails takes away what was made.
 *
 * Loading: all is read and checked, and the devices have taken the state once, before anything is changed that cannot
 * be undone.  What fails until then leaves the guest as it was; what fails later (an image that cannot be written or read any more) leaves it
 * standing still, half the one and half the other.
 *
 * All functions: loop thread, machine lock held.
 */
#ifndef LODGE_VM_SAVEVM_H
#define LODGE_VM_SAVEVM_H

#include <stdbool.h>

#include "base/err.h"
#include "vm/config.h"

struct disk;
struct vm;

#define VM_TAG_MAX 255

/* Which disks take part. */
struct vm_inside_disks {
	bool listed;			/* else all that are written to */
	bool disk[VM_MAX_DISKS];
	unsigned state;			/* that has the state, or gets it */
};

/* ret, e: how it went. */
typedef void (*vm_inside_done)(void *opaque, int ret, const struct err *e);

/* The guest stands still meanwhile and goes on then, if it ran.  tag: NULL makes one of the date.  replace: another of that name goes;
 * else EEXIST.  An error here, or `done` is called later; never from inside.  EBUSY, ENOTSUP name what is in the way. */
int vm_savevm(struct vm *vm, const char *tag, bool replace, const struct vm_inside_disks *disks, vm_inside_done done, void *opaque,
	      struct err *e);
int vm_loadvm(struct vm *vm, const char *tag, const struct vm_inside_disks *disks, vm_inside_done done, void *opaque, struct err *e);
/* All of that name are gone, if there were any; the guest may run. */
int vm_delvm(struct vm *vm, const char *tag, const struct vm_inside_disks *disks, struct err *e);
/* In the place of a boot. */
int vm_loadvm_start(struct vm *vm, const char *tag, struct err *e);

/* For vm.c: it stands still, or somebody wanted it to go on before it did; the loop will not run any more. */
void vm_inside_parked(struct vm *vm);
void vm_inside_cancel(struct vm *vm);

#endif
