/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that are waited for, for tools that have nothing else to do.  The
 * node is driven until the answer is there; the loop need not turn.
 */
#include <stddef.h>

#include "base/bits.h"
#include "block/blk.h"

struct waited {
	struct blk_req r;
	bool done;
	int ret;
};

static void waited_done(struct blk_req *r, int ret)
{
	struct waited *w = container_of(r, struct waited, r);

	w->ret = ret;
	w->done = true;
}

static int wait_for(struct blk_node *n, struct waited *w)
{
	w->r.done = waited_done;
	blk_submit(n, &w->r);
	while (!w->done)
		blk_progress(n);
	return w->ret;
}

static int transfer(struct blk_node *n, enum blk_op op, uint64_t off, void *buf, size_t len, bool compress)
{
	struct iovec v = { buf, len };
	struct waited w = { .r = { .op = op, .offset = off, .len = len, .iov = &v, .niov = 1, .compress = compress } };

	return wait_for(n, &w);
}

int blk_pread(struct blk_node *n, uint64_t off, void *buf, size_t len)
{
	return transfer(n, BLK_READ, off, buf, len, false);
}

/* What is written is only read, but an iovec has no const. */
int blk_pwrite(struct blk_node *n, uint64_t off, const void *buf, size_t len)
{
	return transfer(n, BLK_WRITE, off, (void *)(uintptr_t)buf, len, false);
}

int blk_pwrite_compressed(struct blk_node *n, uint64_t off, const void *buf, size_t len)
{
	return transfer(n, BLK_WRITE, off, (void *)(uintptr_t)buf, len, true);
}

int blk_pdiscard(struct blk_node *n, uint64_t off, uint64_t len)
{
	struct waited w = { .r = { .op = BLK_DISCARD, .offset = off, .len = len } };

	return wait_for(n, &w);
}

int blk_pwrite_zeroes(struct blk_node *n, uint64_t off, uint64_t len, bool unmap)
{
	struct waited w = { .r = { .op = BLK_WRITE_ZEROES, .offset = off, .len = len, .unmap = unmap } };

	return wait_for(n, &w);
}

int blk_flush(struct blk_node *n)
{
	struct waited w = { .r = { .op = BLK_FLUSH } };

	return wait_for(n, &w);
}

int blk_block_status(struct blk_node *n, uint64_t off, uint64_t len, bool shallow, struct blk_extent *ext)
{
	struct waited w = { .r = { .op = BLK_STATUS, .offset = off, .len = len, .shallow = shallow, .ext = ext } };

	return wait_for(n, &w);
}
