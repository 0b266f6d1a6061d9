/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What filters and jobs share: passing requests on, requests waited for in
 * coroutines, ranges of a disk that are locked against each other.
 */
#ifndef LODGE_BLOCK_FILTER_INT_H
#define LODGE_BLOCK_FILTER_INT_H

#include "base/co.h"
#include "base/list.h"
#include "block/blk.h"

/* Makes n, whose memory is the caller's, a filter over child. ENOMEM */
int filter_init(struct blk_node *n, struct blk_node *child, const struct blk_driver *drv);
/* Hands r to `to` as it is; r ends as that does. */
void filter_pass(struct blk_node *to, struct blk_req *r);
/* For struct blk_driver. */
void filter_wait(struct blk_node *n);
int filter_resize(struct blk_node *n, uint64_t size, struct err *e);
int filter_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e);
int filter_extend(struct blk_node *n, uint64_t size);

/* A request, waited for by a coroutine.  r: op, offset, len and what goes with them. 0 or -errno */
int co_submit(struct co *c, struct blk_node *n, struct blk_req *r);
int co_rw(struct co *c, struct blk_node *n, enum blk_op op, uint64_t off, void *buf, size_t len);
int co_zeroes(struct co *c, struct blk_node *n, uint64_t off, uint64_t len, bool unmap);
int co_status(struct co *c, struct blk_node *n, uint64_t off, uint64_t len, bool shallow, struct blk_extent *ext);
int co_flush(struct co *c, struct blk_node *n);
/* Memory that is good for direct I/O; free(). */
void *io_buf(size_t len);

/* Ranges that coroutines hold, shared or alone, first come first served. */
struct range_locks {
	struct list all;		/* held and waiting, by arrival */
};
struct range_lock {
	struct list in;
	uint64_t from, to;
	bool alone, held;
	struct co *co;
};
void range_locks_init(struct range_locks *rl);
/* l lives until range_unlock, on the coroutine's stack. */
void range_lock(struct co *c, struct range_locks *rl, struct range_lock *l, uint64_t from, uint64_t to, bool alone);
/* Runs those whose turn it is now. */
void range_unlock(struct range_locks *rl, struct range_lock *l);

#endif
