/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Engines that work on whole disks: copying one into another, comparing two,
 * committing an overlay, giving an overlay another backing file.
 *
 * blk_copy is asynchronous and fit for a running VM's loop (it does not notice
 * writes to what it has copied: that is a mirror's task).  The others wait, by
 * turning the loop, and are for tools; so is blk_copy_run.  Nothing here may be
 * called from inside a callback of a node, except blk_copy_cancel.
 */
#ifndef LODGE_BLOCK_COPY_H
#define LODGE_BLOCK_COPY_H

#include "block/blk.h"

#define BLK_COPY_MAX_IN_FLIGHT 64
#define BLK_COPY_MAX_SPARSE (16u << 20)

struct blk_copy_stats {
	uint64_t total, handled;	/* bytes to look at, and done with */
	uint64_t data, zeroes;		/* bytes written, and made zeros by requests without data */
	uint64_t unreadable;		/* salvage: bytes that became zeros because they could not be read */
};

struct blk_copy_opts {
	struct blk_node *src, *dst;	/* of the same loop */
	uint64_t src_off, dst_off, len;	/* bytes, multiples of 512, inside both nodes */
	unsigned depth;			/* copy only what the first so many layers of src provide; 0: all of it */
	unsigned in_flight;		/* chunks at a time, 0: 8. Memory: each has 512 KiB, or `sparse` or a
					 * cluster to compress if those are more */
	uint32_t sparse;		/* so many zeros (multiple of 512) in data are not written as data; 0: written */
	bool out_of_order;		/* writes need not be submitted in order of offset */
	bool compress;			/* dst_off is a multiple of the cluster size then */
	bool target_zero;		/* dst reads as zeros: none need be written */
	bool salvage;			/* what cannot be read becomes zeros */
	uint64_t rate;			/* bytes of data per second, 0: no limit */
	/* All may be NULL. On the loop's thread, under its lock. */
	bool (*progress)(void *opaque, const struct blk_copy_stats *s);		/* false: that is enough, cancel */
	void (*unreadable)(void *opaque, uint64_t off, uint64_t len, int ret);	/* in src */
	void (*done)(void *opaque, int ret);	/* nothing is in flight any more; may call blk_copy_free */
	void *opaque;
};

/* How it ended. */
struct blk_copy_result {
	int ret;			/* 0 or -errno (-ECANCELED) */
	bool in_target;			/* else in the source */
	uint64_t offset;		/* in that node, where it happened */
	struct blk_copy_stats stats;
};

struct blk_copy;

/* -EINVAL: options that make no sense together; -ENOMEM. Then `done` is not called. */
int blk_copy_start(const struct blk_copy_opts *o, struct blk_copy **out);
/* Begins nothing new; `done` follows, with -ECANCELED unless it was over already. */
void blk_copy_cancel(struct blk_copy *c);
const struct blk_copy_result *blk_copy_result(const struct blk_copy *c);
/* After `done`. NULL is allowed. */
void blk_copy_free(struct blk_copy *c);
/* All of it, waited for; o->done is not used. The message names the side and place. */
int blk_copy_run(const struct blk_copy_opts *o, struct blk_copy_stats *out, struct err *e);

/* ---- two disks side by side (compare.c) ---- */

struct blk_pairs_opts {
	struct blk_node *a, *b;
	uint64_t a_off, b_off, len;	/* bytes, multiples of 512; what is past the end of one reads as zeros */
	/* Are the first bytes of [off, off + *len) of the range to be passed over? *len becomes how many the answer
	 * is for. Below 0: stop with that error. NULL: none are. */
	int (*skip)(void *opaque, uint64_t off, uint64_t *len);
	/* What the extents are there, before they are read; x->len is not to be used. Not 0: stop and return that.
	 * NULL: nobody asks. */
	int (*status)(void *opaque, uint64_t off, const struct blk_extent *a, const struct blk_extent *b);
	/* What both have at byte off of the range, in order, not across multiples of 256 KiB; where both are known to
	 * be zeros is left out. Not 0: stop and return that. */
	int (*look)(void *opaque, uint64_t off, size_t len, const uint8_t *a, const uint8_t *b);
	bool (*progress)(void *opaque, uint64_t handled, uint64_t total);	/* false: cancel. May be NULL */
	void *opaque;
};

/* 0, what a callback said, or -errno and a message that names the disk. */
int blk_pairs(const struct blk_pairs_opts *o, struct err *e);

enum blk_difference { BLK_SAME, BLK_CONTENT_DIFFERS, BLK_STATUS_DIFFERS };
struct blk_compare_opts {
	struct blk_node *a, *b;
	uint64_t a_off, b_off, len;	/* as above */
	bool strict;			/* what is allocated, and what are zeros, must be the same as well */
	bool (*progress)(void *opaque, uint64_t handled, uint64_t total);	/* as above */
	void *opaque;
};
/* *at: first sector (its byte offset in the range) that differs. 0 whatever was found, or -errno. */
int blk_compare(const struct blk_compare_opts *o, enum blk_difference *out, uint64_t *at, struct err *e);

/* ---- several disks one after another (concat.c) ---- */

/* A read-only node over n nodes, which it then owns. */
int blk_concat(struct blk_node **nodes, unsigned n, struct blk_node **out);

/* ---- overlays (overlay.c); top is a qcow2 node ---- */

struct blk_work {			/* what both have in common */
	unsigned in_flight;
	uint64_t rate;
	bool (*progress)(void *opaque, uint64_t handled, uint64_t total);	/* as above */
	void *opaque;
};

/*
 * Writes what `top` and the layers between have into the backing file `depth` layers below (1: top's own),
 * which must be open for writing and becomes as long as top if it is shorter; flushed when it returns.  With
 * `empty` (depth 1 only) top is then made empty.  After an error top is as it was.
 */
int blk_commit(struct blk_node *top, unsigned depth, bool empty, const struct blk_work *w, struct err *e);

/*
 * Makes `top` show what it shows now when its backing file is `base` (NULL: none; beyond its end: zeros),
 * by copying what differs, then names it: `name` and `format` as they are to be written.  A crash leaves
 * the image as it was, some clusters larger.  top->backing stays open and out of use.
 */
int blk_rebase(struct blk_node *top, struct blk_node *base, const char *name, const char *format, const struct blk_work *w,
	       struct err *e);

#endif
