/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See ahead.h.  vCPUs leave their wish in one word, which the thread waits for as
 * a futex.  A wish is for the chunk beyond one that was just met beside one that
 * had been: single accesses here and there wish for nothing.  The chunk is made
 * from its far end, so that a vCPU that arrives meanwhile does the other half.
 */
#include "machine/ahead.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/confine.h"
#include "machine/mem.h"

#define CHUNK (1ull << MEM_AHEAD_SHIFT)
#define PIECE (256ull << 10)		/* made in one go */
#define STACK (64u << 10)

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25		/* glibc has it since 2.37 */
#endif

/* In `want`, beside a chunk's number + 1. */
#define AHEAD_DOWN (1u << 31)
#define AHEAD_STOP (1u << 30)

/* Not libc's: what calls this has the guest's vector registers in the host's. */
static long futex(_Atomic uint32_t *word, long op, long val)
{
	register long timeout __asm__("r10") = 0;
	long r = SYS_futex;

	__asm__ volatile("syscall" : "+a"(r) : "D"(word), "S"(op | FUTEX_PRIVATE_FLAG), "d"(val), "r"(timeout) : "rcx", "r11", "memory");
	return r;
}

static void wish(struct mem_ahead *a, uint32_t want)
{
	atomic_store(&a->want, want);		/* pairs with worker: idle, then want */
	if (atomic_load(&a->idle))
		futex(&a->want, FUTEX_WAKE, 1);
}

void mem_ahead_first(struct mem_ahead *a, uint64_t chunk)
{
	uint32_t n = (uint32_t)chunk;
	bool below = n && atomic_load_explicit(&a->met[n - 1], memory_order_relaxed);
	bool above = n + 1 < a->n && atomic_load_explicit(&a->met[n + 1], memory_order_relaxed);

	atomic_store_explicit(&a->met[n], 1, memory_order_relaxed);
	if (!a->started || below == above)
		return;
	if (below && n + 1 < a->n)
		wish(a, n + 1 + 1);
	else if (above && n)
		wish(a, (n - 1 + 1) | AHEAD_DOWN);
}

/*
 * One page of 2 MiB takes a tenth of the time of 512 small ones, but several times as long where the host is a VM whose
 * own host takes free memory away: so only for who asks for it.  The kernel (since Linux 6.1) makes one of a range that
 * has at least a page, whatever the settings say of large pages in shared memory, and whoever touches the range
 * meanwhile waits for it.
 */
static bool make_large(struct mem_ahead *a, uint64_t at)
{
	if (madvise(a->host + at, PAGE_4K, MADV_POPULATE_WRITE))
		return false;
	if (!madvise(a->host + at, CHUNK, MADV_COLLAPSE))
		return true;
	if (errno == EINVAL)
		a->large = false;
	return false;
}

/* False: the kernel does not know how (before Linux 5.14). */
static bool make(struct mem_ahead *a, uint32_t n, bool down)
{
	uint64_t at = n * CHUNK, len = MIN(CHUNK, a->size - at);

	if (a->large && len == CHUNK && make_large(a, at)) {
		atomic_fetch_add_explicit(&a->n_made, 1, memory_order_relaxed);
		return true;
	}
	for (uint64_t done = 0; done < len; done += PIECE) {
		uint64_t piece = MIN(PIECE, len - done), from = at + (down ? done : len - done - piece);

		if (madvise(a->host + from, piece, MADV_POPULATE_WRITE))
			return errno != EINVAL;
		if (atomic_load_explicit(&a->want, memory_order_relaxed) & AHEAD_STOP)
			return true;
	}
	atomic_fetch_add_explicit(&a->n_made, 1, memory_order_relaxed);
	return true;
}

#define FURTHEST 16u

/* How many chunks of a run that has come up to n are to be made: the longer the run, the more, at most half of it. */
static unsigned how_many(const struct mem_ahead *a, uint32_t n, bool down)
{
	unsigned run = 0;

	while (run < 2 * FURTHEST && (down ? n + 1 + run < a->n : run < n) &&
	       atomic_load_explicit(&a->met[down ? n + 1 + run : n - 1 - run], memory_order_relaxed))
		run++;
	return MAX(run / 2, 1u);
}

/* The chunks that were made last are [lo, hi). */
struct made {
	uint32_t lo, hi;
};

static bool make_run(struct mem_ahead *a, struct made *m, uint32_t n, bool down)
{
	for (unsigned left = how_many(a, n, down); left && n < a->n; left--, n += down ? -1u : 1u) {	/* below 0 is beyond, too */
		if (n >= m->lo && n < m->hi)
			continue;
		if (!make(a, n, down))
			return false;
		if (n + 1 == m->lo)
			m->lo = n;
		else if (n == m->hi)
			m->hi = n + 1;
		else
			*m = (struct made){ n, n + 1 };
		if (atomic_load_explicit(&a->want, memory_order_relaxed))
			break;
	}
	return true;
}

static void *worker(void *opaque)
{
	struct mem_ahead *a = opaque;
	struct made made = { 0, 0 };

	pthread_setname_np(pthread_self(), "lodge-ram");
	confine_enter(CONFINE_IO);
	for (;;) {
		uint32_t want = atomic_exchange(&a->want, 0);

		if (want & AHEAD_STOP)
			return NULL;
		if (want) {
			if (!make_run(a, &made, (want & ~AHEAD_DOWN) - 1, want & AHEAD_DOWN))
				return NULL;
			continue;
		}
		atomic_store(&a->idle, true);
		if (!atomic_load(&a->want))
			futex(&a->want, FUTEX_WAIT, 0);
		atomic_store(&a->idle, false);
	}
}

struct mem_ahead *mem_ahead_new(uint8_t *host, uint64_t size, bool large)
{
	uint64_t n = (size + CHUNK - 1) >> MEM_AHEAD_SHIFT;
	struct mem_ahead *a = n < AHEAD_STOP ? calloc(1, sizeof(*a) + n) : NULL;

	if (!a)
		return NULL;
	a->host = host;
	a->size = size;
	a->large = large;
	a->n = (uint32_t)n;
	return a;
}

void mem_ahead_start(struct mem_ahead *a)
{
	sigset_t all, old;
	pthread_attr_t attr;
	cpu_set_t cpus;
	pthread_t t;

	if (a->started || (!sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_COUNT(&cpus) < 2) || pthread_attr_init(&attr))
		return;
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (!pthread_create(&t, &attr, worker, a)) {
		a->thread = (uintptr_t)t;
		a->started = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

void mem_ahead_free(struct mem_ahead *a)
{
	if (!a)
		return;
	if (a->started) {
		wish(a, AHEAD_STOP);
		pthread_join((pthread_t)a->thread, NULL);
	}
	free(a);
}
