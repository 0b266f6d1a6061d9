/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The inside of jobs.  job.c is the engine: workers (coroutines) copy what is
 * `todo`, a piece at a time, while a filter over the image tells them what the guest
 * does; the job's end is looked after by a callback of the loop.  mirror.c and
 * backup.c say what a write means, commit.c uses a mirror.
 *
 * Ranges: a worker holds its piece alone from clearing its bits until it is in the
 * target; so does a write while it must not meet that (see the job's `write`).
 * Whoever parks (the slot is held, nothing to do, the rate) holds no range.
 */
#ifndef LODGE_BLOCK_JOB_INT_H
#define LODGE_BLOCK_JOB_INT_H

#include "block/filter_int.h"
#include "block/job.h"

#define JOB_PIECE (1u << 20)
#define JOB_MAX_WORKERS 32

struct job_worker {
	struct blk_job *j;
	struct co *co;			/* NULL: it has ended */
	bool parked;
	uint8_t *buf;			/* JOB_PIECE */
};

struct job_kind {
	const char *name;
	bool ready;			/* ends by blk_job_complete only */
	/* A guest's write, zeroes or discard: does it below, and what must be done about it. Returns what the guest gets. */
	int (*write)(struct blk_job *j, struct co *c, struct blk_req *r);
	/* Under hold, the filter taken out; to `ret` (0: all went well). Closes or uses the target. Returns the job's result. */
	int (*end)(struct blk_job *j, int ret);
};

struct job_filter {
	struct blk_node n;
	struct blk_job *j;
};

struct blk_job {
	const struct job_kind *kind;
	struct blk_job_opts o;
	struct blk_node *slot, *target;
	struct job_filter *filter;	/* NULL: none (any more) */
	struct blk_node *from;		/* read from here instead of below the filter (commit of lower layers) */

	struct blk_dirty *todo;
	uint64_t cursor;
	unsigned scan_depth;		/* todo is first found by looking what so many layers have; 0: it is given */
	unsigned copy_depth;		/* of a piece only what so many layers have; 0: all */
	bool scanned, both;		/* both: writes go to source and target (mirror) */
	bool in_chain;			/* the target is below the source, and may be written only where that hides it */
	bool ready, completing, switch_over, cancelled, stop, final, ended;
	bool paused, pending, finalized;
	unsigned skip_depth;		/* of a piece not what so many layers have (stream) */
	int ret;
	struct err e;
	uint64_t copied, copying;	/* bytes; copying: taken out of todo, but not there yet */
	unsigned tries;

	struct co_pool cos;
	struct range_locks locks;
	struct job_worker workers[JOB_MAX_WORKERS];
	unsigned n_workers, alive;
	struct loop_bh turn;
	struct loop_timer pace;
	int64_t next_ns;		/* not before this is more copied */
	struct blk_slot_wait held;
	bool waits_held;

	/* backup */
	struct blk_dirty *bitmap, *before;
	struct blk_node *map_image;	/* has the persistent bitmap, if it is still there; NULL: none */
	char *map_name;
	bool endless;			/* BLK_SYNC_NONE: cancel is its end */
	/* commit */
	unsigned top, base;
	bool claimed;
	char *base_name;		/* or of a stream; NULL: as the layer above it called it */
};

/* All zero but for what is given here; nothing is to be done yet. size: of what is copied from. */
int job_new(const struct job_kind *kind, struct blk_node *slot, struct blk_node *target, uint64_t size,
	    const struct blk_job_opts *o, struct blk_job **out, struct err *e);
/* Puts the filter in its place; the slot is held. ENOMEM */
int job_insert_filter(struct blk_job *j);
/* Starts the workers; nothing can fail any more. */
void job_start(struct blk_job *j);
/* Before it was started. */
void job_discard(struct blk_job *j);
/* The job is over with this error, the first of its kind counts. what: "the target cannot be written" ... */
void job_fail(struct blk_job *j, int ret, const char *what, uint64_t off);
/* There is more to do. */
void job_wake(struct blk_job *j);
/* Where the disk's data is read. */
struct blk_node *job_source(const struct blk_job *j);
/* Copies [off, off+len), locked by the caller; buf has room for JOB_PIECE. Fails the job. */
int job_copy(struct blk_job *j, struct co *c, uint64_t off, uint64_t len, uint8_t *buf);
/* EINVAL unless target can take the disk's place. */
int job_check_target(const struct blk_node *slot, const struct blk_node *target, const char *what, struct err *e);
/* The layer so many below the disk's image; NULL: there are not so many. */
struct blk_node *job_layer(struct blk_node *slot, unsigned depth);
/* What `over` is to call base in place of the layer `last`: malloc'ed; NULL: it has no path, or no memory. */
char *job_base_name(const struct blk_node *over, struct blk_node *last, const struct blk_node *base);
/* Puts the filter over the image, and starts it.  ENOMEM: it is discarded, and its claim on the slot given up. */
int job_begin(struct blk_job *j, struct blk_job **out, struct err *e);
/* A mirror in all but name, for commit. */
int mirror_write(struct blk_job *j, struct co *c, struct blk_req *r);

#endif
