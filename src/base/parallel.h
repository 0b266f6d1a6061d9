/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One piece of work in many parts, done by as many threads as there are CPUs. */
#ifndef LODGE_BASE_PARALLEL_H
#define LODGE_BASE_PARALLEL_H

#include <stddef.h>

#define PARALLEL_MAX 16u	/* threads, the caller's among them */

/*
 * Calls fn for each i in [0, n), on this thread and others, which have this one's signal mask and system calls; worker is below PARALLEL_MAX and belongs to one thread
 * at a time, for memory of its own.  Parts are begun in order.  Returns when all have ended: 0, or what the first part, by its number, returned that did not return 0; those
 * after it may not have been begun then.
 */
int parallel_for(size_t n, int (*fn)(void *opaque, unsigned worker, size_t i), void *opaque);

#endif
