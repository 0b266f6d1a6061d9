/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a configuration to a running guest: what the programs share that start one. */
#ifndef LODGE_RUN_START_H
#define LODGE_RUN_START_H

#include "base/err.h"
#include "vm/conf.h"

/* --vsock without all that it takes: a CID, and a socket beside the control sockets' folders, of the guest's name (lodge-qemu: of
 * its CID, which is what QEMU's guests differ by). */
int start_place_vsock(struct conf *c, struct err *e);
/* Whether the configuration makes sense: EINVAL and others, with a message. */
int start_check(const struct conf *c, struct err *e);
/*
 * Becomes lodge-vmm (exec), which gets the tree through an inherited memfd.  With "daemonize" a child does, in a session of its
 * own, and this returns when the guest is ready: 0, or the child's exit status (> 0) if it came to nothing.
 * Else it returns only with an error: < 0, with a message.
 */
int start_vmm(struct conf *c, struct err *e);

#endif
