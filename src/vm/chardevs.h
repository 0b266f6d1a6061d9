/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Named chardevs, and the ports of the virtio serial device that lead to them. */
#ifndef LODGE_VM_CHARDEVS_H
#define LODGE_VM_CHARDEVS_H

#include <stdbool.h>

#include "base/err.h"

struct chardev;
struct vm;

/* Machine lock held.  NULL: no such one. */
struct chardev *vm_chardev(struct vm *vm, const char *id);
/*
 * It for one that will attach to it; ENOENT, EBUSY (somebody has, and it is no mux) and others with a message.  On a mux it is a place
 * of its own, which has what is typed at first unless `behind`.
 */
int vm_chardev_take(struct vm *vm, const char *id, bool behind, struct chardev **out, struct err *e);
/* Gives back what was taken; detached already. */
void vm_chardev_release(struct vm *vm, struct chardev *chr);
/* The i-th and its name; NULL: there are no more. */
struct chardev *vm_chardev_nth(struct vm *vm, unsigned i, const char **id);
/* The name of port `number`; NULL: none is there. */
const char *vm_port_name(struct vm *vm, unsigned number);
/* A port while the guest runs.  EEXIST: one of that name; EBUSY: the chardev is in use; ENOENT: no such chardev; ENOSPC; ENODEV: no
 * serial device. */
int vm_port_add(struct vm *vm, const char *name, const char *chardev, struct err *e);
int vm_port_remove(struct vm *vm, const char *name, struct err *e);

#endif
