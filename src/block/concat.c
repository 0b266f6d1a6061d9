/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Several disks one after another, to be read as one: what an image was split into,
 * or disks that become partitions' worth of one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "block/copy.h"

struct concat {
	struct blk_node n;
	unsigned n_parts;
	struct part {
		struct blk_node *node;
		uint64_t from, to;	/* of the whole */
	} parts[];
};

/* A request's share of one part. */
struct share {
	struct blk_req r;
	struct whole *w;
};

struct whole {
	struct blk_req *up;
	unsigned pending;
	int ret;
	struct share *shares;
	struct iovec *iov;		/* of all shares: niov each */
};

static void whole_end(struct whole *w)
{
	if (--w->pending)
		return;
	blk_finish(w->up, w->ret);
	free(w->shares);
	free(w->iov);
	free(w);
}

static void share_done(struct blk_req *r, int ret)
{
	struct whole *w = container_of(r, struct share, r)->w;

	w->ret = w->ret ? w->ret : ret;
	whole_end(w);
}

static const struct part *part_at(const struct concat *k, uint64_t off)
{
	unsigned i = 0;

	while (off >= k->parts[i].to)
		i++;
	return &k->parts[i];
}

static unsigned count_parts(const struct concat *k, const struct blk_req *r)
{
	return (unsigned)(part_at(k, r->offset + r->len - 1) - part_at(k, r->offset)) + 1;
}

static void submit_share(const struct part *p, struct whole *w, unsigned i)
{
	const struct blk_req *up = w->up;
	uint64_t from = MAX(up->offset, p->from), to = MIN(up->offset + up->len, p->to);
	struct share *s = &w->shares[i];
	struct iovec *iov = up->op == BLK_READ ? w->iov + (size_t)i * up->niov : NULL;
	int k = iov ? iov_slice(up->iov, up->niov, from - up->offset, to - from, iov, up->niov) : 0;

	s->w = w;
	s->r = *up;
	s->r.offset = from - p->from;
	s->r.len = to - from;
	s->r.iov = iov;
	s->r.niov = k > 0 ? (unsigned)k : 0;
	s->r.done = share_done;
	w->pending++;
	blk_submit(p->node, &s->r);
}

static void concat_submit(struct blk_node *n, struct blk_req *r)
{
	struct concat *k = container_of(n, struct concat, n);
	unsigned parts = r->op == BLK_READ ? count_parts(k, r) : 1;
	struct whole *w;

	if (r->op == BLK_FLUSH) {
		blk_finish(r, 0);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (w) {
		w->shares = calloc(MAX(parts, 1u), sizeof(*w->shares));
		w->iov = calloc((size_t)MAX(parts, 1u) * MAX(r->niov, 1u), sizeof(*w->iov));
	}
	if (!w || !w->shares || !w->iov) {
		if (w) {
			free(w->shares);
			free(w->iov);
		}
		free(w);
		blk_finish(r, -ENOMEM);
		return;
	}
	w->up = r;
	w->pending = 1;
	for (unsigned i = 0; i < parts; i++)
		submit_share(part_at(k, r->offset) + i, w, i);
	whole_end(w);
}

static void concat_wait(struct blk_node *n)
{
	struct concat *k = container_of(n, struct concat, n);

	for (unsigned i = 0; i < k->n_parts; i++) {
		if (k->parts[i].node->in_flight) {
			blk_progress(k->parts[i].node);
			return;
		}
	}
}

static void concat_close(struct blk_node *n)
{
	struct concat *k = container_of(n, struct concat, n);

	for (unsigned i = 0; i < k->n_parts; i++)
		blk_close(k->parts[i].node);
	blk_node_fini(n);
	free(k);
}

static const struct blk_driver concat_driver = {
	.name = "concat",
	.submit = concat_submit,
	.wait = concat_wait,
	.close = concat_close,
};

int blk_concat(struct blk_node **nodes, unsigned n, struct blk_node **out)
{
	struct concat *k;
	uint64_t size = 0;

	if (!n)
		return -EINVAL;
	k = calloc(1, sizeof(*k) + n * sizeof(k->parts[0]));
	if (!k)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		k->parts[i] = (struct part){ .node = nodes[i], .from = size };
		if (add_overflows(size, nodes[i]->i.size, &size) || size > INT64_MAX) {
			free(k);
			return -EFBIG;
		}
		k->parts[i].to = size;
	}
	k->n_parts = n;
	blk_node_init(&k->n, nodes[0]->loop, &concat_driver);
	k->n.path = strdup(nodes[0]->path ? nodes[0]->path : "");
	k->n.i = (struct blk_info){ .size = size, .request_align = BLK_SECTOR, .physical_block = BLK_SECTOR,
				    .read_only = true };
	if (!k->n.path) {
		blk_node_fini(&k->n);
		free(k);
		return -ENOMEM;
	}
	*out = &k->n;
	return 0;
}
