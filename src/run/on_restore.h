/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A command in a guest that goes on from a snapshot, by QEMU's guest agent. */
#ifndef LODGE_RUN_ON_RESTORE_H
#define LODGE_RUN_ON_RESTORE_H

#include "base/err.h"

/*
 * Has /bin/sh in the guest run the command and waits for its end, two minutes in all.  socket: the agent's, which need not be there yet; it must appear while
 * process `vmm` lives (0: it is there).  ETIMEDOUT, EPIPE; EREMOTEIO: the command ended with another status than 0.
 */
int on_restore(const char *socket, const char *command, long vmm, struct err *e);
/* The same beside the caller, which is about to become the VMM: by a child of its own that says on standard error what is wrong. */
int on_restore_later(const char *socket, const char *command, struct err *e);

#endif
