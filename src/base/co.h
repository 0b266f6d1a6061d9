/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Coroutines: functions with a stack of their own that can stop in the middle
 * and go on later, for code with many steps that each wait for I/O.
 *
 * A coroutine runs on the thread that resumes it, which may be another one each
 * time; what protects the data it uses (the loop's lock) must be held by every
 * thread that resumes it.  It must not keep addresses of thread-local things
 * (errno) over a wait.  Nothing here locks.
 */
#ifndef LODGE_BASE_CO_H
#define LODGE_BASE_CO_H

#include <stdbool.h>

struct co;

/* Stacks kept for the next coroutine; all zero at first. */
struct co_pool {
	struct co *idle;
	unsigned n_idle;
};

/* Runs fn(c, arg) until it first waits or ends.  0 or -ENOMEM (nothing ran). */
int co_start(struct co_pool *p, void (*fn)(struct co *c, void *arg), void *arg);
/* Only by c itself: back to whoever resumed it, until it is resumed again. */
void co_wait(struct co *c);
/* c waits, and is not the caller.  Returns when it waits again or has ended. */
void co_resume(struct co *c);
/* No coroutine of the pool is alive any more. */
void co_pool_fini(struct co_pool *p);

/* Mutual exclusion among coroutines, first come first served. */
struct co_mutex {
	bool held;
	struct co *first, *last;	/* waiting */
};
void co_lock(struct co *c, struct co_mutex *m);
/* Hands over to, and runs, the next in line. */
void co_unlock(struct co_mutex *m);

#endif
