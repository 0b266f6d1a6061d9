/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that comes after its guest (QEMU's post-copy).
 *
 * The source makes one connection more when the migration begins (migrate_lanes.h, MIG_LANE_LATE).  When it is asked to, it stops the guest at
 * once and says on the first connection which pages have not come, or not as they are now:
 *
 *	S late ...	a map of all memory
 *	S complete	with MIG_LATE; loaded, take, taken, go, running as always
 *
 * and on the other one, from complete on, both ways:
 *
 *	D want		pages that somebody there waits for
 *	S pages, zeros	those first, and all others
 *	D all		that was the last one
 *
 * The destination drops what it has of such pages, and has the kernel tell it who touches one (userfaultfd(2), of missing
 * pages of a memfd): vCPUs, devices, disks, the kernel itself.  They wait where they are; the thread that brings pages takes no
 * lock that one of them could have.
 *
 * Who owns the guest is settled as ever, by `go`.  From then on the source never runs it, and keeps all memory until it hears `all`: when the connection
 * breaks both sides pause, the destination's vCPUs waiting for pages, and go on over another one:
 *
 *	S hello		with MIG_RESUMES and the id
 *	D missing ...	a map of what has not come; then as above.  Or all
 *
 * A side that ends while pages are missing takes the guest with it.  Before `go` a connection that breaks is the end of the
 * attempt, on both sides: what waits for pages gets zeros, and what was made of them is thrown away.
 */
#ifndef LODGE_VM_MIGRATE_LATE_H
#define LODGE_VM_MIGRATE_LATE_H

#include "vm/migrate_int.h"

/* ---- maps of pages, as `late` and `missing` have them: u64 first page, a multiple of 64; u64s with a bit for each page ---- */

int mig_map_send(struct mig_chan *c, enum mig_type type, const uint64_t *map, uint64_t pages, struct err *e);
/* The next piece, which begins at *at pages; foreign data.  All there is when *at is `pages`. EPROTO */
int mig_map_take(uint64_t *map, uint64_t pages, uint64_t *at, const uint8_t *p, size_t len, struct err *e);
uint64_t mig_map_count(const uint64_t *map, uint64_t pages);

/* ---- the source's ---- */

/* Sends the pages of g->todo, those first that are asked for, until the destination has said `all`. An error: the connection is of no use any
 * more.  Any thread, one at a time. */
int mig_late_serve(struct mig *g, struct mig_chan *c, int level, struct err *e);

/* ---- the destination's: by its thread ---- */

struct mig_late;

/* Could it be done here?  ENOTSUP and others, with the cure. */
int mig_late_possible(struct vm *vm, struct err *e);
/* Pages of the map are missing from here on, and come over c, which is its own then; the map is freed by it. Nothing runs.  The message is in g->e. */
int mig_late_begin(struct mig *g, struct mig_chan *c, uint64_t *map, struct mig_late **out);
/* The guest is about to be ours.  Has all gone well so far?  EPIPE: the connection broke, and memory is not what it should be. The message is in g->e. */
int mig_late_own(struct mig_late *l);
/* Another connection, which is its own then. */
void mig_late_go_on(struct mig_late *l, struct mig_chan *c);
/* Pages that are missing; any thread. */
uint64_t mig_late_left(struct mig_late *l);
/* Ends one that is over, or that has not got the guest; NULL: nothing.  What waits for pages gets zeros. */
void mig_late_free(struct mig_late *l);
/* Loop: all is there, and code may run natively. */
void mig_late_done(struct mig *g);
/* The connection is to break. */
void mig_late_break(struct mig_late *l);

#endif
