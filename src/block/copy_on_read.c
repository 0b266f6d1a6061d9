/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copy on read: see filter.h.
 *
 * A read asks first where its data lies.  Where that is not the first layer,
 * whole clusters around it are read and written there, with that range locked
 * against the guest's changes, so that none is overwritten by what was there
 * before it.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"
#include "block/filter.h"
#include "block/filter_int.h"

/* Copied in one go, at most; a cluster is 2 MiB at most. */
#define COPY_MAX (2u << 20)
#define COPY_ALIGN 65536u

struct cor {
	struct blk_node n;
	struct co_pool cos;
	struct range_locks locks;
	bool warned;
};

struct cor_job {
	struct cor *k;
	struct blk_req *r;
};

static uint64_t cor_unit(const struct cor *k)
{
	return k->n.i.cluster ? k->n.i.cluster : COPY_ALIGN;
}

/* Of [from, to): what the first layer does not have is read, and written there. */
static int copy_piece(struct cor *k, struct co *c, uint64_t from, uint64_t len, bool zero)
{
	void *buf;
	int ret;

	if (zero)
		return co_zeroes(c, k->n.file, from, len, true);
	buf = io_buf(len);
	if (!buf)
		return -ENOMEM;
	ret = co_rw(c, k->n.file, BLK_READ, from, buf, len);
	if (!ret)
		ret = co_rw(c, k->n.file, BLK_WRITE, from, buf, len);
	free(buf);
	return ret;
}

static int copy_clusters(struct cor *k, struct co *c, uint64_t from, uint64_t to)
{
	struct blk_extent top, all;
	struct range_lock l;
	int ret = 0;

	range_lock(c, &k->locks, &l, from, to, true);
	while (from < to && !ret) {
		ret = co_status(c, k->n.file, from, MIN(to - from, COPY_MAX), true, &top);
		if (ret || top.allocated) {
			from += ret ? 0 : top.len;
			continue;
		}
		ret = co_status(c, k->n.file, from, top.len, false, &all);
		if (!ret)
			ret = copy_piece(k, c, from, all.len, all.zero);
		from += ret ? 0 : all.len;
	}
	range_unlock(&k->locks, &l);
	return ret;
}

/* Brings in what [off, off+len) lacks. */
static int bring_in(struct cor *k, struct co *c, uint64_t off, uint64_t len)
{
	uint64_t unit = cor_unit(k), end = off + len;
	struct blk_extent x;
	int ret = 0;

	for (uint64_t at = off; at < end && !ret; at += x.len) {
		ret = co_status(c, k->n.file, at, end - at, true, &x);
		if (ret || x.allocated)
			continue;
		ret = copy_clusters(k, c, align_down(at, unit), MIN(align_up(at + x.len, unit), k->n.i.size));
	}
	return ret;
}

static void cor_read(struct co *c, void *arg)
{
	struct cor_job *j = arg;
	struct cor *k = j->k;
	struct blk_req *r = j->r, below;
	int ret = bring_in(k, c, r->offset, r->len);

	free(j);
	if (ret && !k->warned) {
		log_warn("disk '%s': what is read cannot be kept in its first layer (error %d)", k->n.path ? k->n.path : "", -ret);
		k->warned = true;
	}
	below = *r;
	blk_finish(r, co_submit(c, k->n.file, &below));
}

static void cor_change(struct co *c, void *arg)
{
	struct cor_job *j = arg;
	struct cor *k = j->k;
	struct blk_req *r = j->r, below = *r;
	struct range_lock l;
	int ret;

	free(j);
	range_lock(c, &k->locks, &l, r->offset, r->offset + r->len, false);
	ret = co_submit(c, k->n.file, &below);
	range_unlock(&k->locks, &l);
	blk_finish(r, ret);
}

static void cor_submit(struct blk_node *n, struct blk_req *r)
{
	struct cor *k = container_of(n, struct cor, n);
	struct cor_job *j;

	if (r->op == BLK_FLUSH || r->op == BLK_STATUS) {
		filter_pass(n->file, r);
		return;
	}
	j = malloc(sizeof(*j));
	if (j) {
		*j = (struct cor_job){ k, r };
		if (!co_start(&k->cos, r->op == BLK_READ ? cor_read : cor_change, j))
			return;
	}
	free(j);
	blk_finish(r, -ENOMEM);
}

static void cor_close(struct blk_node *n)
{
	struct cor *k = container_of(n, struct cor, n);

	blk_close(n->file);
	co_pool_fini(&k->cos);
	blk_node_fini(n);
	free(k);
}

static const struct blk_driver cor_driver = {
	.name = "copy-on-read",
	.filter = true,
	.submit = cor_submit,
	.wait = filter_wait,
	.resize = filter_resize,
	.reopen = filter_reopen,
	.close = cor_close,
};

int blk_copy_on_read_new(struct blk_node *child, struct blk_node **out, struct err *e)
{
	struct cor *k;

	if (child->i.read_only)
		return err_set(e, -EINVAL, "disk '%s': copy-on-read writes to the image, which is open read-only",
			       child->path ? child->path : "");
	k = calloc(1, sizeof(*k));
	if (!k || filter_init(&k->n, child, &cor_driver)) {
		free(k);
		return err_set(e, -ENOMEM, "out of memory");
	}
	range_locks_init(&k->locks);
	*out = &k->n;
	return 0;
}
