/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filters: nodes over one other node that show its contents and do something
 * about requests on the way.  What each kind promises stands with its function
 * here; their common inside is filter_int.h.
 *
 * A filter owns the node below it (n->file).  Its n->format is NULL, since what
 * works on images of a format must be given the image's own node
 * (blk_skip_filters).
 */
#ifndef LODGE_BLOCK_FILTER_H
#define LODGE_BLOCK_FILTER_H

#include "block/blk.h"

/* The node below all filters of n; n itself if it is none. */
struct blk_node *blk_skip_filters(struct blk_node *n);

/*
 * Limits, as QEMU's throttle groups have them: a bucket leaks at `avg` a second, and a request passes unless
 * the bucket is full; it then pours in its size (or 1).  With `max` the rate may be that high for `length`
 * seconds after quiet times.
 */
struct blk_rate {
	uint64_t avg, max;		/* a second; 0: no limit, and no more than avg */
	unsigned length;		/* seconds of burst; 0: 1 */
};
enum blk_rate_of { BLK_RATE_TOTAL, BLK_RATE_READ, BLK_RATE_WRITE };
struct blk_throttle_opts {
	struct blk_rate bytes[3], ops[3];	/* by blk_rate_of; either the total or the other two */
	uint64_t op_size;		/* a request longer than this counts as several; 0: as one */
};
bool blk_throttle_wanted(const struct blk_throttle_opts *o);
/* EINVAL: what excludes each other, or a burst below the average; the message says it with the options' names. */
int blk_throttle_check(const struct blk_throttle_opts *o, struct err *e);
/* Requests wait their turn, reads among reads and what changes data among such; flushes pass, and so does all when
 * the node is drained.  Takes child over if it succeeds. EINVAL, ENOMEM */
int blk_throttle_new(struct blk_node *child, const struct blk_throttle_opts *o, struct blk_node **out, struct err *e);
/* Other limits from now on, for all of the node's group. */
int blk_throttle_set(struct blk_node *n, const struct blk_throttle_opts *o, struct err *e);

/* One budget for several nodes, which may be on different loops: those that want more than there is take turns.  Any thread. */
struct blk_throttle_group;
int blk_throttle_group_new(const struct blk_throttle_opts *o, struct blk_throttle_group **out, struct err *e);	/* the caller's */
struct blk_throttle_group *blk_throttle_group_ref(struct blk_throttle_group *g);
void blk_throttle_group_unref(struct blk_throttle_group *g);	/* NULL is as good */
bool blk_throttle_group_used(const struct blk_throttle_group *g);	/* are there owners but the caller? */
int blk_throttle_group_set(struct blk_throttle_group *g, const struct blk_throttle_opts *o, struct err *e);
void blk_throttle_group_get(struct blk_throttle_group *g, struct blk_throttle_opts *out);
/* A node that is a member. ENOMEM */
int blk_throttle_new_in(struct blk_node *child, struct blk_throttle_group *g, struct blk_node **out, struct err *e);
struct blk_throttle_group *blk_throttle_group_of(struct blk_node *n);
/* Leaves its group for another one; what waits goes on to wait there.  The node's loop's lock held. */
void blk_throttle_join(struct blk_node *n, struct blk_throttle_group *g);

/* What is read from below the first layer of an image is written into that layer (as whole clusters), so that it is
 * there the next time.  That it cannot be written is no reason not to give it.  The image must be writable, and have
 * a backing file for this to be of use.  Takes child over. EINVAL, ENOMEM */
int blk_copy_on_read_new(struct blk_node *child, struct blk_node **out, struct err *e);

/* Sectors of 512 bytes on a child that takes only whole blocks of so many bytes (a power of two above 512, and its size a
 * multiple).  For protocol nodes. Takes child over. ENOMEM */
int blk_align_new(struct blk_node *child, uint32_t block, struct blk_node **out);

/* Errors and delays on purpose, for tests. */
struct blk_fault {
	unsigned ops;			/* BIT(BLK_READ) ...: which requests; 0: all */
	uint64_t from, to;		/* that touch [from, to) bytes; to 0: the end. Flushes always do. */
	unsigned nth;			/* fires from the n-th such request on; 0 and 1: the first */
	bool once;			/* and never again */
	bool after;			/* done below first, then reported as failed (a lost answer) */
	int error;			/* EIO, ENOSPC ...; 0: none, only the delay */
	uint64_t delay_ns;		/* before the request goes on its way or fails; drains do not wait for it */
};
/* Takes child over. ENOMEM */
int blk_fault_new(struct blk_node *child, struct blk_node **out);
/* The first rule that fires decides. ENOMEM */
int blk_fault_add(struct blk_node *n, const struct blk_fault *f);
void blk_fault_clear(struct blk_node *n);
/* How often a rule has fired. */
unsigned blk_fault_fired(const struct blk_node *n);

#endif
