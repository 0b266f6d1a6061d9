/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Native user code: guest programs that compute for long without the kernel run
 * as they are in a process of their own (sandbox.h), on the host's MMU.
 *
 * A space is such a process for one of the guest's address spaces (a value of
 * CR3) on one vCPU.  Its mappings are a TLB: pages of guest RAM at their guest
 * addresses, with the rights that the guest's tables gave when they were mapped.
 * What flushes a TLB marks mappings dead or the space stale; before anything runs
 * there again, dead ones are unmapped and stale ones compared with the tables.
 * Whatever stops the process is looked at by interp, which repeats the
 * instruction; so faults, exceptions and devices are exactly as without.
 *
 * Worth it only for user code that stays for some microseconds: each way there
 * and back costs ten.  What a program did lately decides (struct direct_record).
 */
#ifndef LODGE_CPU_TRANSLATE_DIRECT_H
#define LODGE_CPU_TRANSLATE_DIRECT_H

#include <sched.h>

#include "cpu/translate/sandbox.h"
#include "cpu/translate/translate.h"

#define DIRECT_SPACES 6			/* of each vCPU */
#define DIRECT_RECORDS 64
#define DIRECT_MAP_BITS 16
#define DIRECT_MAP_SIZE (1u << DIRECT_MAP_BITS)
#define DIRECT_MAP_MAX 40000u		/* the host allows a process 65,530 mappings */
#define DIRECT_DEAD 64u
#define DIRECT_SPEEDUP 4		/* of native over translated code, for comparing stays */

/* A mapping: page address and DM_*, offset in guest RAM. */
struct direct_map {
	uint64_t key, offset;
};
#define DM_USED 1u
#define DM_WRITE 2u
#define DM_EXEC 4u
#define DM_LARGE 8u		/* 2 MiB */
#define DM_DEAD 16u		/* to be unmapped before anything runs */
#define DM_GONE 32u		/* unmapped: looking for another goes on behind it */

struct direct_space {
	uint64_t cr3;			/* 0: none */
	struct sandbox sb;
	struct direct_map *map;		/* a hash table, open addressing */
	unsigned n, n_gone;		/* entries used; and gone */
	uint32_t *list;			/* where those used are, and some that are not any more */
	unsigned n_list;
	bool stale;			/* all may be wrong */
	unsigned n_dead;		/* some are: those at dead[], or, if there are more, any */
	uint32_t dead[DIRECT_DEAD];
	uint64_t last;			/* host TSC when it last ran */
	uint64_t wants;			/* page whose absence the guest was told of, or 0 */
};

/* How an address space has behaved; ticks of the host's TSC, of native code. */
struct direct_record {
	uint64_t cr3;
	uint64_t stay;			/* how long user code stays, lately */
	uint64_t total;
	bool on;
};

struct xl_direct {
	struct xl_cpu *x;
	bool always;
	bool impossible;		/* the host does not let us */
	uint64_t stay_on, stay_off, stay_brief, stay_most, total_least;	/* ticks, see direct.c */
	uint64_t since;			/* host TSC when it last stopped, or was turned to */
	uint64_t handoff;		/* what going there and back costs, in ticks */
	pthread_mutex_t lock;		/* the spaces' maps, and running */
	pid_t running;			/* or 0 */
	bool bound;			/* the thread is, to one CPU of the host */
	bool brief;			/* the last stretch was too short to let the host's scheduler choose */
	cpu_set_t allowed;		/* those it may be on else */
	struct direct_space space[DIRECT_SPACES];
	struct direct_record record[DIRECT_RECORDS];
	uint64_t n_run, n_syscall, n_fault, n_kick, n_signal, n_mapped, n_unmapped, n_spaces, n_cleared, n_checked, ticks;
};

/* --- direct_light.c: as light.c --- */
/* CPL has changed from or to 3. True: the run loop is to go on. */
bool xl_direct_crossed(struct xl_cpu *x);
static inline bool xl_direct_crosses(const struct xl_cpu *x)
{
	return unlikely(x->direct != NULL) && x->was_user != (x->ic.c.cpl == 3);
}
struct direct_record *xl_direct_record(struct xl_direct *d, uint64_t cr3);
void xl_direct_stayed(struct xl_direct *d, struct direct_record *r, uint64_t ticks);
/* The mapping is dead. d->lock is held. */
void xl_direct_kill(struct direct_space *s, struct direct_map *m);
static inline unsigned xl_direct_hash(uint64_t page) { return (unsigned)(page * 0x9e3779b97f4a7c15ull >> (64 - DIRECT_MAP_BITS)); }
/* The mapping that page lies in, or NULL. [the vCPU's thread, which alone makes and removes them] */
struct direct_map *xl_direct_find(struct direct_space *s, uint64_t page);
/* page as x86_cpu.tlb_flushed has it. */
void xl_direct_flushed(struct xl_direct *d, uint64_t page);

/* --- direct.c --- */
/* Does the host's CPU have what it takes? */
bool xl_direct_possible(void);
/* Each vCPU's, if the host can (and `what` is not off): *d stays NULL otherwise. Status 0 or -ENOMEM. */
int xl_direct_new(struct xl_cpu *x, enum cpu_direct what, struct xl_direct **d);
void xl_direct_free(struct xl_direct *d);
/* User code at s.rip, which is to run natively, does until something needs the run loop. */
void xl_direct_run(struct xl_cpu *x);
/* The thread may be anywhere again, if native code is not run for brief moments any more. */
void xl_direct_unbind(struct xl_direct *d);
void xl_direct_kick(struct interp_cpu *ic);
void xl_direct_marked(void *xe, uint64_t page);
void xl_direct_stats(const struct xl_engine *xe, engine_stat_fn fn, void *opaque);

#endif
