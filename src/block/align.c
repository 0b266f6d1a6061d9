/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sectors of 512 bytes on something that takes only larger blocks (an NBD server):
 * reads are widened, and a change of part of a block is a read, a change and a
 * write, while that block is locked against other changes.  The size of what is below is a
 * multiple of its blocks.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"
#include "block/filter.h"
#include "block/filter_int.h"

struct aligner {
	struct blk_node n;
	uint32_t block;
	struct co_pool cos;
	struct range_locks locks;
};

struct align_job {
	struct aligner *a;
	struct blk_req *r;
};

static int read_widened(struct aligner *a, struct co *c, struct blk_req *r)
{
	uint64_t from = align_down(r->offset, a->block), to = align_up(r->offset + r->len, a->block);
	uint8_t *buf = io_buf(to - from);
	int ret = buf ? co_rw(c, a->n.file, BLK_READ, from, buf, to - from) : -ENOMEM;

	if (!ret)
		iov_from_buf(r->iov, r->niov, 0, buf + (r->offset - from), r->len);
	free(buf);
	return ret;
}

/* The edges of [from, to) that the request leaves as they are. */
static int read_edges(struct aligner *a, struct co *c, const struct blk_req *r, uint8_t *buf, uint64_t from, uint64_t to)
{
	uint64_t end = r->offset + r->len, last = to - a->block;
	int ret = 0;

	if (r->offset != from || (end < to && last == from))
		ret = co_rw(c, a->n.file, BLK_READ, from, buf, a->block);
	if (!ret && end < to && last != from)
		ret = co_rw(c, a->n.file, BLK_READ, last, buf + (last - from), a->block);
	return ret;
}

static int write_widened(struct aligner *a, struct co *c, struct blk_req *r)
{
	uint64_t from = align_down(r->offset, a->block), to = align_up(r->offset + r->len, a->block);
	uint8_t *buf = io_buf(to - from);
	struct iovec v = { buf, to - from };
	struct blk_req below = { .op = BLK_WRITE, .offset = from, .len = to - from, .iov = &v, .niov = 1, .fua = r->fua };
	int ret = buf ? read_edges(a, c, r, buf, from, to) : -ENOMEM;

	if (!ret) {
		if (r->op == BLK_WRITE)
			iov_to_buf(r->iov, r->niov, 0, buf + (r->offset - from), r->len);
		else
			memset(buf + (r->offset - from), 0, r->len);
		ret = co_submit(c, a->n.file, &below);
	}
	free(buf);
	return ret;
}

/* Zeros: whole blocks as such, the rest as data. */
static int zero_widened(struct aligner *a, struct co *c, struct blk_req *r)
{
	uint64_t end = r->offset + r->len, from = align_up(r->offset, a->block), to = align_down(end, a->block);
	struct blk_req head = *r, middle = *r, tail = *r;
	int ret = 0;

	if (from >= to)
		return write_widened(a, c, r);
	head.len = from - r->offset;
	middle.offset = from;
	middle.len = to - from;
	tail.offset = to;
	tail.len = end - to;
	if (head.len)
		ret = write_widened(a, c, &head);
	if (!ret && tail.len)
		ret = write_widened(a, c, &tail);
	return ret ? ret : co_submit(c, a->n.file, &middle);
}

/* A discard is a hint; one of whole blocks is passed on. */
static int discard_inside(struct aligner *a, struct co *c, const struct blk_req *r)
{
	struct blk_req below = *r;
	uint64_t end = align_down(r->offset + r->len, a->block);

	below.offset = align_up(r->offset, a->block);
	if (below.offset >= end)
		return 0;
	below.len = end - below.offset;
	return co_submit(c, a->n.file, &below);
}

/* What is said of the block in which the request begins is so of the part that is asked for. */
static int status_widened(struct aligner *a, struct co *c, struct blk_req *r)
{
	struct blk_req below = *r;
	uint64_t skip = r->offset % a->block;
	int ret;

	below.offset -= skip;
	below.len = align_up(r->len + skip, a->block);
	ret = co_submit(c, a->n.file, &below);
	if (ret)
		return ret;
	r->ext->len = r->ext->len > skip ? MIN(r->ext->len - skip, r->len) : 0;
	r->ext->offset += skip;
	if (r->ext->len)
		return 0;
	/* The server tells blocks apart that are smaller than what it takes. */
	*r->ext = (struct blk_extent){ .len = BLK_SECTOR, .allocated = true, .data = true, .file = a->n.path };
	return 0;
}

static void align_run(struct co *c, void *arg)
{
	struct align_job j = *(struct align_job *)arg;
	struct aligner *a = j.a;
	struct blk_req *r = j.r, whole;
	struct range_lock l;
	int ret;

	free(arg);
	if (r->op == BLK_READ || r->op == BLK_STATUS) {
		blk_finish(r, r->op == BLK_READ ? read_widened(a, c, r) : status_widened(a, c, r));
		return;
	}
	range_lock(c, &a->locks, &l, align_down(r->offset, a->block), align_up(r->offset + r->len, a->block), true);
	if ((r->offset | r->len) % a->block == 0) {
		whole = *r;
		ret = co_submit(c, a->n.file, &whole);
	} else if (r->op == BLK_DISCARD) {
		ret = discard_inside(a, c, r);
	} else {
		ret = r->op == BLK_WRITE ? write_widened(a, c, r) : zero_widened(a, c, r);
	}
	range_unlock(&a->locks, &l);
	blk_finish(r, ret);
}

/* A change of whole blocks must keep clear of what others do to parts of them, and so takes its lock as well. */
static void align_submit(struct blk_node *n, struct blk_req *r)
{
	struct aligner *a = container_of(n, struct aligner, n);
	struct align_job *j;

	/* An open-ended node's size follows writes; what is below may not let it. */
	n->i.size = n->file->i.size;
	if (r->op == BLK_FLUSH || (r->op == BLK_READ && (r->offset | r->len) % a->block == 0)) {
		filter_pass(n->file, r);
		return;
	}
	j = malloc(sizeof(*j));
	if (j) {
		*j = (struct align_job){ a, r };
		if (!co_start(&a->cos, align_run, j))
			return;
	}
	free(j);
	blk_finish(r, -ENOMEM);
}

static void align_close(struct blk_node *n)
{
	struct aligner *a = container_of(n, struct aligner, n);

	blk_close(n->file);
	co_pool_fini(&a->cos);
	blk_node_fini(n);
	free(a);
}

static const struct blk_driver align_driver = {
	.name = "align",
	.submit = align_submit,
	.wait = filter_wait,
	.resize = filter_resize,
	.extend = filter_extend,
	.reopen = filter_reopen,
	.close = align_close,
};

int blk_align_new(struct blk_node *child, uint32_t block, struct blk_node **out)
{
	struct aligner *a = calloc(1, sizeof(*a));

	if (!a || filter_init(&a->n, child, &align_driver)) {
		free(a);
		return -ENOMEM;
	}
	a->block = block;
	a->n.i.request_align = block;
	a->n.i.physical_block = MAX(a->n.i.physical_block, block);
	range_locks_init(&a->locks);
	*out = &a->n;
	return 0;
}
