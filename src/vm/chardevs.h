/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Named chardevs, and the ports of the virtio serial device that lead to them. */
#ifndef LODGE_VM_CHARDEVS_H
#define LODGE_VM_CHARDEVS_H

#include <stdbool.h>
#include <stddef.h>

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
struct vm_chardev;
/*
 * While the guest runs: another one (of which c's texts may go afterwards; c->fd is taken over, on error too), which for a pty tells its
 * name; EEXIST, ENOSPC and what opening it says.  `mux`: it is a mux on this chardev that nobody uses, which is not to be had by its own name any more; else NULL.
 */
int vm_chardev_add(struct vm *vm, const struct vm_chardev *c, const char *mux, char *pty, size_t pty_len, struct err *e);
/* Puts it in the place of the one with its id, whose users go on with it. ENOENT, ENOTSUP: that one is a mux. */
int vm_chardev_change(struct vm *vm, const struct vm_chardev *c, char *pty, size_t pty_len, struct err *e);
/* ENOENT, EBUSY: somebody uses it. */
int vm_chardev_remove(struct vm *vm, const char *id, struct err *e);
/* The i-th and its name; NULL: there are no more. */
struct chardev *vm_chardev_nth(struct vm *vm, unsigned i, const char **id);
/* The name of port `number`; NULL: none is there. */
const char *vm_port_name(struct vm *vm, unsigned number);
#define VM_PORT_AGENT "org.qemu.guest_agent.0"
#define VM_PORT_CLIPBOARD "com.redhat.spice.0"
/* The number of a port; 0: there is none. And how many places there are. */
unsigned vm_port_number(struct vm *vm, const char *name);
unsigned vm_port_places(const struct vm *vm);

#endif
