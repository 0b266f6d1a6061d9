/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of a qcow2 node: from submit to answer.
 *
 * Every request is tracked (struct track, in the request's private words) in
 * order of arrival.  Reads, and writes that change no mapping or change it in one
 * go, are shared; all else is exclusive on its clusters and waits for, and holds
 * up, what overlaps.  The fast path answers or forwards what the cached tables
 * describe as one piece, without a coroutine; the rest runs in one.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/iov.h"
#include "base/log.h"
#include "block/qcow2/internal.h"

#define SUB_IOV 8
#define MAX_IDLE_SUBS 256

#define TRACKED 6
struct track {
	struct list all;
	uint64_t from, to;		/* guest clusters, [from, to) */
	bool exclusive, running;
};
_Static_assert(sizeof(struct track) <= 6 * sizeof(uint64_t), "drv[TRACKED] says so, drv[7] is the result");

static struct track *track_of(struct blk_req *r) { return (struct track *)(void *)r->drv; }
static struct blk_req *req_of(struct track *t) { return (struct blk_req *)(void *)((char *)t - offsetof(struct blk_req, drv)); }

/* A request to a child, for one of ours or for a group. */
struct sub {
	struct blk_req r;
	struct qcow2 *q;
	struct blk_req *up;
	struct group *g;
	struct iovec *big, iov[SUB_IOV];
	struct sub *next;
};

static struct sub *sub_new(struct qcow2 *q)
{
	struct sub *s = q->sub_idle;

	if (s) {
		q->sub_idle = s->next;
		q->n_sub_idle--;
	} else {
		s = malloc(sizeof(*s));
		if (!s)
			return NULL;
		s->q = q;
	}
	s->r = (struct blk_req){ 0 };
	s->up = NULL;
	s->g = NULL;
	s->big = NULL;
	return s;
}

static void sub_free(struct sub *s)
{
	struct qcow2 *q = s->q;

	free(s->big);
	if (q->n_sub_idle >= MAX_IDLE_SUBS) {
		free(s);
		return;
	}
	s->next = q->sub_idle;
	q->sub_idle = s;
	q->n_sub_idle++;
}

static void sub_done(struct blk_req *r, int ret)
{
	struct sub *s = container_of(r, struct sub, r);
	struct blk_req *up = s->up;
	struct group *g = s->g;

	sub_free(s);
	if (up) {
		blk_finish(up, ret);
		return;
	}
	if (ret && !g->ret)
		g->ret = ret;
	if (!--g->pending && g->waiting)
		co_resume(g->c);
}

void qcow2_subs_free(struct qcow2 *q)
{
	while (q->sub_idle) {
		struct sub *s = q->sub_idle;

		q->sub_idle = s->next;
		free(s);
	}
}

void group_init(struct group *g, struct qcow2 *q, struct co *c)
{
	*g = (struct group){ .c = c, .q = q };
}

static void group_sub(struct group *g, struct sub *s, struct blk_node *n)
{
	s->g = g;
	s->r.done = sub_done;
	g->pending++;
	blk_submit(n, &s->r);
}

void group_iov(struct group *g, struct blk_node *n, enum blk_op op, uint64_t off, uint64_t len, const struct iovec *iov,
	       unsigned niov, uint64_t at)
{
	struct sub *s = sub_new(g->q);
	int k;

	if (!s) {
		g->ret = -ENOMEM;
		return;
	}
	s->r.op = op;
	s->r.offset = off;
	s->r.len = len;
	s->r.iov = s->iov;
	k = iov_slice(iov, niov, at, len, s->iov, SUB_IOV);
	if (k < 0) {
		s->big = calloc(niov, sizeof(*s->big));
		k = s->big ? iov_slice(iov, niov, at, len, s->big, niov) : -1;
		s->r.iov = s->big;
	}
	if (k < 0) {
		g->ret = -ENOMEM;
		sub_free(s);
		return;
	}
	s->r.niov = (unsigned)k;
	group_sub(g, s, n);
}

int group_wait(struct group *g)
{
	g->waiting = true;
	while (g->pending)
		co_wait(g->c);
	return g->ret;
}

int q_rw(struct qcow2 *q, struct co *c, struct blk_node *n, enum blk_op op, uint64_t off, void *buf, size_t len)
{
	struct iovec v = { buf, len };
	struct group g;

	group_init(&g, q, c);
	group_iov(&g, n, op, off, len, &v, 1, 0);
	return group_wait(&g);
}

int q_op(struct qcow2 *q, struct co *c, struct blk_node *n, enum blk_op op, uint64_t off, uint64_t len, bool unmap)
{
	struct sub *s = sub_new(q);
	struct group g;

	if (!s)
		return -ENOMEM;
	group_init(&g, q, c);
	s->r.op = op;
	s->r.offset = off;
	s->r.len = len;
	s->r.unmap = unmap;
	group_sub(&g, s, n);
	return group_wait(&g);
}

int group_status(struct group *g, struct blk_node *n, const struct blk_req *r)
{
	struct sub *s = sub_new(g->q);

	if (!s)
		return -ENOMEM;
	s->r = *r;
	group_sub(g, s, n);
	return group_wait(g);
}

int q_barrier(struct qcow2 *q, struct co *c)
{
	int ret = q->ext_data ? q_op(q, c, q->store, BLK_FLUSH, 0, 0, false) : 0;

	return ret ? ret : q_op(q, c, q->n.file, BLK_FLUSH, 0, 0, false);
}

void *q_buf(size_t len)
{
	return aligned_alloc(4096, align_up(MAX(len, (size_t)1), 4096));
}

static void mark_done(struct blk_req *r, int ret)
{
}

int q_broken(struct qcow2 *q, const char *what, uint64_t where)
{
	if (!q->broken)
		log_warn("image '%s' is damaged (%s at %llu): it is not written any more; see to it with a check",
			 q->n.path ? q->n.path : "", what, (unsigned long long)where);
	q->broken = true;
	if (q->damaged || q->n.i.read_only)
		return -EIO;
	q->damaged = true;
	if (!q->ready)
		return -EIO;
	/* Found anywhere, perhaps where nothing can be waited for: a flush of our own has it marked. */
	q->mark = (struct blk_req){ .op = BLK_FLUSH, .done = mark_done };
	blk_submit(&q->n, &q->mark);
	return -EIO;
}

int q_stuck(struct qcow2 *q, const char *what)
{
	if (!q->broken)
		log_warn("image '%s': %s, because of an error of the host: it is not written any more until it is opened anew",
			 q->n.path ? q->n.path : "", what);
	q->broken = true;
	return -EIO;
}

/* ---- reading ---- */


/* One compressed cluster's part [off, off+len) of the request, which begins at byte `at` of it. */
static int read_from_compressed(struct qcow2 *q, struct co *c, uint64_t e, uint64_t off, uint64_t len,
				const struct iovec *iov, unsigned niov, uint64_t at)
{
	uint8_t *buf = q_buf(q->cluster);
	int ret = buf ? read_compressed(q, c, e, buf) : -ENOMEM;

	if (!ret)
		iov_from_buf(iov, niov, at, buf + (off & (q->cluster - 1)), len);
	free(buf);
	return ret;
}

static void read_backing(struct qcow2 *q, struct group *g, uint64_t off, uint64_t len, const struct iovec *iov,
			 unsigned niov, uint64_t at)
{
	uint64_t part = backing_part(q, off, len);

	if (part)
		group_iov(g, q->n.backing, BLK_READ, off, part, iov, niov, at);
	iov_memset(iov, niov, at + part, 0, len - part);
}

int q_read(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov, unsigned niov)
{
	struct group g;
	uint64_t at = 0;
	int ret = 0;

	group_init(&g, q, c);
	while (at < len && !ret && !g.ret) {
		struct slice *s;
		struct run run;

		ret = l2_peek(q, off + at, &s);
		if (ret == 0) {
			/* Unlocking runs others, which may take the slice away: look again. */
			co_lock(c, &q->lock);
			ret = l2_get(q, c, off + at, &s);
			co_unlock(&q->lock);
			continue;
		}
		ret = ret < 0 ? ret : map_run(q, s, off + at, len - at, &run);
		if (ret)
			break;
		if (run.kind == KIND_NORMAL)
			group_iov(&g, q->data, BLK_READ, run.host, run.len, iov, niov, at);
		else if (run.kind == KIND_ZERO)
			iov_memset(iov, niov, at, 0, run.len);
		else if (run.kind == KIND_UNALLOCATED)
			read_backing(q, &g, off + at, run.len, iov, niov, at);
		else
			ret = read_from_compressed(q, c, run.host, off + at, run.len, iov, niov, at);
		at += run.len;
	}
	return group_wait(&g) ? g.ret : ret;
}

/* ---- the fast path: true if the request is answered or under way ---- */

static bool forward(struct qcow2 *q, struct blk_req *r, struct blk_node *to, uint64_t off)
{
	struct sub *s = sub_new(q);

	if (!s)
		return false;
	s->r.op = r->op;
	s->r.offset = off;
	s->r.len = r->len;
	s->r.iov = r->iov;
	s->r.niov = r->niov;
	s->r.done = sub_done;
	s->up = r;
	blk_submit(to, &s->r);
	return true;
}

static bool fast_read(struct qcow2 *q, struct blk_req *r)
{
	struct slice *s;
	struct run run;
	uint64_t part;

	if (l2_peek(q, r->offset, &s) <= 0 || map_run(q, s, r->offset, r->len, &run) || run.len < r->len)
		return false;
	switch (run.kind) {
	case KIND_NORMAL:
		return forward(q, r, q->data, run.host);
	case KIND_ZERO:
		break;
	case KIND_UNALLOCATED:
		part = backing_part(q, r->offset, r->len);
		if (part == r->len)
			return forward(q, r, q->n.backing, r->offset);
		if (part)
			return false;
		break;
	case KIND_COMPRESSED:
		return false;
	}
	iov_memset(r->iov, r->niov, 0, 0, r->len);
	blk_finish(r, 0);
	return true;
}

/*
 * A write to clusters that were never there, show nothing of a backing file and
 * get a place in the file that was never used: it reads as zeros around what is
 * written, so the tables can refer to it at once, and all is as before if the
 * write fails or is lost in a crash.
 */
static bool fast_alloc(struct qcow2 *q, struct blk_req *r, struct slice *s)
{
	uint64_t first = align_down(r->offset, q->cluster), end = align_up(r->offset + r->len, q->cluster);
	uint64_t l1e = q->l1[l1_index(q, r->offset)], host;

	if (q->lock.held || !q->zero_beyond || q->crypt_method || q->ext_l2 || q->ext_data || !(l1e & OFLAG_COPIED) ||
	    end > slice_end(q, r->offset) || backing_part(q, first, end - first))
		return false;
	for (uint64_t off = first; off < end; off += q->cluster) {
		struct entry e = entry_get(q, s, off);

		if (e.e & ~OFLAG_ZERO)
			return false;
	}
	if (!alloc_clusters_fast(q, (end - first) >> q->cluster_bits, &host))
		return false;
	for (uint64_t off = first; off < end; off += q->cluster)
		entry_set(q, s, off, (struct entry){ .e = (host + (off - first)) | OFLAG_COPIED });
	return forward(q, r, q->data, host + (r->offset - first));
}

static bool fast_write(struct qcow2 *q, struct blk_req *r)
{
	struct slice *s;
	struct run run;

	if (r->fua || r->compress || q->broken)
		return false;
	if (l2_peek(q, r->offset, &s) <= 0 || !s || map_run(q, s, r->offset, r->len, &run))
		return false;
	if (run.kind == KIND_NORMAL)
		return run.copied && run.len == r->len && forward(q, r, q->data, run.host);
	return run.kind != KIND_COMPRESSED && fast_alloc(q, r, s);
}

/* ---- the slow path ---- */

/* Nobody else may write it either, until it is repaired.  Version 2 has no way to say so. */
void q_mark_damage(struct qcow2 *q, struct co *c)
{
	uint8_t *h;
	int ret;

	if (!q->damaged || q->version < 3 || q->incompat & INCOMPAT_CORRUPT)
		return;
	h = q_buf(512);
	ret = h ? q_rw(q, c, q->n.file, BLK_READ, 0, h, 512) : -ENOMEM;
	q->incompat |= INCOMPAT_CORRUPT;
	if (!ret) {
		st_be64(h + H_INCOMPAT, ld_be64(h + H_INCOMPAT) | INCOMPAT_CORRUPT);
		ret = q_rw(q, c, q->n.file, BLK_WRITE, 0, h, 512);
	}
	ret = ret ? ret : q_barrier(q, c);
	if (ret)
		log_warn("image '%s' could not be marked as corrupt: %s", q->n.path ? q->n.path : "", strerror(-ret));
	free(h);
}

static int flush_all(struct qcow2 *q, struct co *c)
{
	int ret = 0;

	if (q->n.i.read_only)
		return 0;
	co_lock(c, &q->lock);
	q_mark_damage(q, c);
	q_settle_flags(q, c);
	ret = q_clean(q) ? 0 : q_commit(q, c);
	co_unlock(&q->lock);
	return ret ? ret : q_barrier(q, c);
}

static int run_slow(struct qcow2 *q, struct co *c, struct blk_req *r)
{
	int ret;

	switch (r->op) {
	case BLK_READ:
		return q_read(q, c, r->offset, r->len, r->iov, r->niov);
	case BLK_FLUSH:
		return flush_all(q, c);
	case BLK_STATUS:
		return do_status(q, c, r);
	case BLK_WRITE:
		ret = q->broken ? -EIO : r->compress ? do_write_compressed(q, c, r->offset, r->len, r->iov, r->niov)
						     : do_write(q, c, r->offset, r->len, r->iov, r->niov);
		break;
	case BLK_DISCARD:
		ret = q->broken ? -EIO : do_discard(q, c, r->offset, r->len);
		break;
	case BLK_WRITE_ZEROES:
		ret = q->broken ? -EIO : do_zeroes(q, c, r->offset, r->len, r->unmap);
		break;
	default:
		return -EINVAL;
	}
	return !ret && r->fua ? flush_all(q, c) : ret;
}

struct slow {
	struct qcow2 *q;
	struct blk_req *r;
};

static void slow_main(struct co *c, void *arg)
{
	struct slow *s = arg;
	struct blk_req *r = s->r;

	/* s is on the stack of start(), which is gone after the first wait. */
	blk_finish(r, run_slow(s->q, c, r));
}

static void start_slow(struct qcow2 *q, struct blk_req *r)
{
	struct slow s = { q, r };

	if (co_start(&q->cos, slow_main, &s))
		blk_finish(r, -ENOMEM);
}

/* ---- who may run beside whom ---- */

static bool overlap(const struct track *a, const struct track *b)
{
	return a->from < b->to && b->from < a->to;
}

static bool may_run(struct qcow2 *q, struct track *t)
{
	bool earlier = true;

	if (!t->exclusive && !q->n_exclusive)
		return true;
	list_for_each(p, &q->reqs) {
		struct track *o = list_entry(p, struct track, all);

		if (o == t)
			earlier = false;
		else if ((earlier || o->running) && (o->exclusive || t->exclusive) && overlap(o, t))
			return false;
	}
	return true;
}

static bool tracked(const struct blk_req *r)
{
	return r->op != BLK_FLUSH;
}

/* Its turn has come. */
static void start(struct qcow2 *q, struct blk_req *r)
{
	struct track *t = track_of(r);

	t->running = true;
	if (!t->exclusive) {
		if (r->op == BLK_READ && fast_read(q, r))
			return;
		if (r->op == BLK_WRITE && fast_write(q, r))
			return;
		if (r->op != BLK_READ && r->op != BLK_STATUS) {
			t->exclusive = true;
			q->n_exclusive++;
			if (!may_run(q, t)) {
				t->running = false;
				q->n_waiting++;
				return;
			}
		}
	}
	start_slow(q, r);
}

void qcow2_submit(struct blk_node *n, struct blk_req *r)
{
	struct qcow2 *q = to_q(n);
	struct track *t = track_of(r);

	if (!tracked(r)) {
		if (!q->lock.held && !q->ext_data && !q->damaged && !q->flags_due && q_clean(q) && forward(q, r, n->file, 0))
			return;
		start_slow(q, r);
		return;
	}
	t->from = r->offset >> q->cluster_bits;
	t->to = (r->offset + r->len + q->cluster - 1) >> q->cluster_bits;
	t->exclusive = t->running = false;
	r->drv[TRACKED] = 1;
	list_add_tail(&q->reqs, &t->all);
	if (may_run(q, t))
		start(q, r);
	else
		q->n_waiting++;
}

void qcow2_finished(struct blk_node *n, struct blk_req *r)
{
	struct qcow2 *q = to_q(n);
	struct track *t = track_of(r);

	/* A request that failed the checks never came to us. */
	if (!tracked(r) || !r->drv[TRACKED])
		return;
	r->drv[TRACKED] = 0;
	list_del(&t->all);
	/* Also what failed: it may have been written in part. */
	if (q->n_recording && r->op != BLK_READ && r->op != BLK_STATUS)
		bitmaps_mark(q, r->offset, r->len);
	q->n_exclusive -= t->exclusive;
	if (!q->n_waiting)
		return;
	list_for_each_safe(p, &q->reqs) {
		struct track *o = list_entry(p, struct track, all);

		if (!o->running && may_run(q, o)) {
			q->n_waiting--;
			start(q, req_of(o));
		}
	}
}

void qcow2_wait(struct blk_node *n)
{
	struct qcow2 *q = to_q(n);
	struct blk_node *child[] = { n->file, q->store, q->data, n->backing, q->crew };

	for (unsigned i = 0; i < ARRAY_LEN(child); i++) {
		if (child[i] && child[i]->in_flight) {
			blk_progress(child[i]);
			return;
		}
	}
}

/* ---- working on the whole image ---- */

struct alone {
	struct qcow2 *q;
	int (*fn)(struct qcow2 *q, struct co *c, void *arg);
	void *arg;
	int ret;
	bool done;
};

static void alone_main(struct co *c, void *arg)
{
	struct alone *a = arg;

	co_lock(c, &a->q->lock);
	a->ret = a->fn(a->q, c, a->arg);
	co_unlock(&a->q->lock);
	a->done = true;
}

int q_alone(struct qcow2 *q, int (*fn)(struct qcow2 *q, struct co *c, void *arg), void *arg)
{
	struct alone a = { .q = q, .fn = fn, .arg = arg };
	struct blk_req all = { 0 };
	struct track *t = track_of(&all);

	/* What callbacks submit while we wait queues up behind this. */
	blk_drain(&q->n);
	t->from = 0;
	t->to = UINT64_MAX;
	t->exclusive = t->running = true;
	list_add_tail(&q->reqs, &t->all);
	q->n_exclusive++;
	if (co_start(&q->cos, alone_main, &a))
		a.ret = -ENOMEM;
	else
		while (!a.done)
			qcow2_wait(&q->n);
	all.drv[TRACKED] = 1;
	qcow2_finished(&q->n, &all);
	return a.ret;
}
