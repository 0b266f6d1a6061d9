/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A migration's further connections, over which memory goes side by side (QEMU's multifd).
 *
 * The source makes them after `begin`, which says how many there will be, and each begins with
 *
 *	S hello		with MIG_JOINS, and the id of the migration that it belongs to
 *	S join		u32 which one it is; MIG_LANE_LATE is another kind (migrate_late.h)
 *	D joined
 *
 * From then on each is one thread's on both sides and carries pages, zeros and, at a round's end, round; complete is its last record.  A page goes
 * over the same connection every time (by its number), so that what is newer comes later, and no round has to wait for
 * another connection at the destination.  What the first connection says last, `complete`, counts when all have said it.
 *
 * Threads: those of the migration (migrate_out.c, migrate_in.c), unless said otherwise.
 */
#ifndef LODGE_VM_MIGRATE_LANES_H
#define LODGE_VM_MIGRATE_LANES_H

#include "vm/migrate_int.h"
#include "vm/migrate_ram.h"

/* ---- the source's ---- */

/* One of them, or the first connection, where there are none. */
struct mig_lane {
	struct mig *g;
	unsigned no;			/* below n */
	unsigned n;			/* how many share the memory */
	struct mig_chan *chan;
	struct mig_tx *tx;
};

struct mig_lanes_out;

/* A connection that joins the migration. Errors are those of connecting, or EREMOTEIO. */
int mig_join(struct mig *g, uint32_t no, struct mig_chan *c, struct err *e);
/* n connections, with a thread each.  The message is in g->e. */
int mig_lanes_connect(struct mig *g, unsigned n, int level, struct mig_lanes_out **out);
/* Has each thread do fn with its own lane, and waits for all.  The first error there was, its message in g->e. */
int mig_lanes_do(struct mig_lanes_out *l, int (*fn)(void *opaque, struct mig_lane *lane, struct err *e), void *opaque);
void mig_lanes_out_free(struct mig_lanes_out *l);	/* NULL: nothing */

/* ---- the destination's ---- */

struct mig_lanes_in;

/* Waits for n connections that join, and, unless it is NULL, for the late one; others are told that it is not their turn.  Begins to receive. */
int mig_lanes_accept(struct mig *g, unsigned n, struct mig_chan *late, struct mig_rx *rx, struct mig_lanes_in **out);
/* What wakes the first connection's thread: one of them has failed. -1: there is none */
int mig_lanes_alarm(const struct mig_lanes_in *l);
/* Records that have come so far. */
uint64_t mig_lanes_heard(struct mig_lanes_in *l);
/* Bytes that have come so far. */
uint64_t mig_lanes_bytes(struct mig_lanes_in *l);
/* Until all have said `complete`, or one has failed: its error, its message in g->e. */
int mig_lanes_wait(struct mig_lanes_in *l);
void mig_lanes_in_free(struct mig_lanes_in *l);		/* NULL: nothing */

#endif
