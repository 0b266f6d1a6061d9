/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A thread with a loop of its own, for devices whose work should share a thread
 * neither with vCPUs nor with the machine's loop.
 *
 * What such a device owns is protected by the I/O thread's lock, which is its
 * loop's.  Order: the machine lock first, then that of one I/O thread.  So a
 * callback on the I/O thread may not take the machine lock; what needs both
 * (interrupts, requests to the machine) is deferred.
 */
#ifndef LODGE_MACHINE_IOTHREAD_H
#define LODGE_MACHINE_IOTHREAD_H

#include <stdbool.h>

#include "machine/machine.h"

struct iothread;

/* Runs once, soon, on the I/O thread with the machine lock and the I/O thread's held. */
struct iothread_work {
	void (*cb)(void *opaque);
	void *opaque;
	bool pending;
	struct iothread_work *next;
};

/* Starts the thread; `name` is what tools show, cut to 15 characters. 0 or -errno */
int iothread_new(struct machine *m, const char *name, struct iothread **out);
/* Ends it. No lock held; everything that used the loop is gone. NULL is allowed. */
void iothread_free(struct iothread *t);

struct loop *iothread_loop(struct iothread *t);
const char *iothread_name(const struct iothread *t);
long iothread_tid(const struct iothread *t);	/* the host's id of the thread; 0 before it runs */
/*
 * For those whose owner may have no I/O thread and then lives on the machine's loop (t NULL): the machine lock, which is
 * held, protects it, so there is nothing to lock, and work is done at once.
 */
void iothread_lock(struct iothread *t);
void iothread_unlock(struct iothread *t);

/* The I/O thread's lock held. Posting twice runs it once. */
void iothread_defer(struct iothread *t, struct iothread_work *w);
/* The I/O thread's lock held: w is not run any more. No-op if it is not pending. */
void iothread_cancel(struct iothread *t, struct iothread_work *w);

#endif
