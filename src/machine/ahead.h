/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest RAM is made by the host page by page as it is first touched, which costs
 * the vCPU that touches it 2 us a page and more.  Where a vCPU goes through fresh
 * memory chunk by chunk, a thread makes the next chunks meanwhile: one, or half as
 * many as the run has had, 16 at most.
 */
#ifndef LODGE_MACHINE_AHEAD_H
#define LODGE_MACHINE_AHEAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"

#define MEM_AHEAD_SHIFT 21	/* of a chunk's size */

struct mem_ahead {
	uint8_t *host;
	uint64_t size;
	uint32_t n;			/* chunks, the last may be short */
	bool started;
	bool large;			/* the thread's, once it runs: chunks are to be pages of 2 MiB */
	uintptr_t thread;		/* pthread_t */
	_Atomic uint32_t want;		/* AHEAD_*: number of a chunk + 1, or 0; the newest wish counts */
	_Atomic bool idle;
	_Atomic uint64_t n_made;	/* chunks */
	_Atomic uint8_t met[];		/* by chunk: somebody has been there */
};

/* Books for `size` bytes of shared memory at `host`, for `large` a multiple of 2 MiB; NULL: no memory for that. */
struct mem_ahead *mem_ahead_new(uint8_t *host, uint64_t size, bool large);
void mem_ahead_free(struct mem_ahead *a);
/* Starts the thread, if the host has a CPU for it; what fails leaves things as they are. */
void mem_ahead_start(struct mem_ahead *a);
void mem_ahead_first(struct mem_ahead *a, uint64_t chunk);

/* Somebody is about to access the page at this offset; any thread.  General registers only (cpu/translate/light.c). */
static inline void mem_ahead_met(struct mem_ahead *a, uint64_t offset)
{
	if (unlikely(!atomic_load_explicit(&a->met[offset >> MEM_AHEAD_SHIFT], memory_order_relaxed)))
		mem_ahead_first(a, offset >> MEM_AHEAD_SHIFT);
}

#endif
