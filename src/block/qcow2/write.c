/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes that need a place first, or a copy of what is around them.
 *
 * New clusters are filled completely (what was there before, the new data, what
 * was there behind it: one request), and only then does the table refer to them;
 * the commit that writes the table has a barrier between.  Where the old contents
 * are zeros and the place reads as zeros nothing is copied.  With subclusters only
 * whole subclusters are filled, unless the cluster had data elsewhere.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/iov.h"
#include "block/qcow2/internal.h"

#define MAX_ALLOC (4u << 20)

/* One allocation: n clusters for guest clusters from `first` on. */
struct plan {
	uint64_t first, n, host;
	uint64_t pos, end;		/* what the request writes there */
	uint64_t from, to;		/* what must be written, old contents included */
	bool own;			/* the guest cluster's place already: nothing was allocated */
	bool zero;			/* reads as zeros */
	bool skip_head, skip_tail;
};

static bool has_data(const struct qcow2 *q, struct entry e)
{
	if (e.e & OFLAG_COMPRESSED)
		return true;
	if (q->ext_l2)
		return (uint32_t)e.bitmap != 0;
	return (e.e & OFFSET_MASK) && !(q->version >= 3 && (e.e & OFLAG_ZERO));
}

/* Does [off, off+len), inside one slice, read as zeros? */
static bool reads_zero(struct qcow2 *q, const struct slice *s, uint64_t off, uint64_t len)
{
	struct run run;

	for (uint64_t at = off; at < off + len; at += run.len) {
		if (map_run(q, s, at, off + len - at, &run))
			return false;
		if (run.kind != KIND_ZERO && (run.kind != KIND_UNALLOCATED || backing_part(q, at, run.len)))
			return false;
	}
	return true;
}

/* How many clusters from p->first on need a place, up to the request's end. */
static uint64_t count_clusters(struct qcow2 *q, const struct slice *s, const struct plan *p, uint64_t end)
{
	uint64_t limit = MIN(slice_end(q, p->first), p->first + MAX((uint64_t)q->cluster, (uint64_t)MAX_ALLOC)), at;
	struct run run;

	limit = MIN(limit, align_up(end, q->cluster));
	for (at = p->first + q->cluster; at < limit; at += q->cluster) {
		if (map_run(q, s, at, q->cluster, &run) || (run.kind == KIND_NORMAL && run.copied) ||
		    (run.has_host && run.copied))
			break;
	}
	return (at - p->first) >> q->cluster_bits;
}

/* [lock] */
static int make_plan(struct qcow2 *q, struct co *c, const struct run *run, uint64_t pos, uint64_t len, struct plan *p)
{
	uint64_t unit = BIT64(q->sub_bits), last;
	struct slice *s;
	int ret = l2_get_for_write(q, c, pos, &s);

	if (ret)
		return ret;
	p->pos = pos;
	p->first = align_down(pos, q->cluster);
	p->own = run->kind != KIND_COMPRESSED && run->has_host && run->copied && !q->ext_data;
	p->n = p->own ? 1 : count_clusters(q, s, p, pos + len);
	p->end = MIN(pos + len, p->first + (p->n << q->cluster_bits));
	last = align_down(p->end - 1, q->cluster);
	p->from = !p->own && has_data(q, entry_get(q, s, p->first)) ? p->first : align_down(pos, unit);
	p->to = !p->own && has_data(q, entry_get(q, s, last)) ? last + q->cluster : align_up(p->end, unit);
	p->skip_head = reads_zero(q, s, p->from, pos - p->from);
	p->skip_tail = reads_zero(q, s, p->end, p->to - p->end);
	p->zero = false;
	if (q->ext_data)
		p->host = p->first;
	else if (p->own)
		p->host = run->host - (pos - p->first);
	else
		ret = alloc_clusters(q, c, p->n, &p->host, &p->zero);
	/* What was never written reads as zeros, which are noise when decrypted. */
	p->zero = p->zero && !q->crypt_method;
	p->skip_head = p->skip_head && p->zero;
	p->skip_tail = p->skip_tail && p->zero;
	return ret;
}

/* The pieces around the request's, and all of it in one write. */
static int write_around(struct qcow2 *q, struct co *c, const struct plan *p, const struct iovec *iov, unsigned niov, uint64_t at)
{
	uint64_t head = p->skip_head ? 0 : p->pos - p->from, tail = p->skip_tail ? 0 : p->to - p->end;
	uint8_t *buf = head + tail ? q_buf(head + tail) : NULL;
	struct iovec *v = calloc(niov + 2, sizeof(*v)), piece;
	unsigned n = 0;
	struct group g;
	int k, ret = v && (buf || !(head + tail)) ? 0 : -ENOMEM;

	if (!ret && head) {
		piece = v[n++] = (struct iovec){ buf, head };
		ret = q_read(q, c, p->from, head, &piece, 1);
	}
	if (!ret) {
		k = iov_slice(iov, niov, at, p->end - p->pos, v + n, niov);
		ret = k < 0 ? -EINVAL : 0;
		n += k < 0 ? 0 : (unsigned)k;
	}
	if (!ret && tail) {
		piece = v[n++] = (struct iovec){ buf + head, tail };
		ret = q_read(q, c, p->end, tail, &piece, 1);
	}
	if (!ret) {
		group_init(&g, q, c);
		group_iov(&g, q->data, BLK_WRITE, p->host + (p->pos - head - p->first), head + (p->end - p->pos) + tail, v,
			  n, 0);
		ret = group_wait(&g);
	}
	free(v);
	free(buf);
	return ret;
}

static uint32_t sub_mask(const struct qcow2 *q, uint64_t cluster, uint64_t from, uint64_t to)
{
	uint64_t a = MAX(from, cluster), b = MIN(to, cluster + q->cluster);
	unsigned first = (unsigned)((a - cluster) >> q->sub_bits), n = (unsigned)((b - a) >> q->sub_bits);

	return (uint32_t)((BIT64(n) - 1) << first);
}

/* The tables now refer to the new places. [lock] */
static int link_plan(struct qcow2 *q, struct co *c, const struct plan *p)
{
	for (uint64_t i = 0; i < p->n; i++) {
		uint64_t off = p->first + (i << q->cluster_bits);
		struct entry old, new = { .e = (p->host + (i << q->cluster_bits)) | OFLAG_COPIED };
		struct slice *s;
		int ret = l2_get_for_write(q, c, off, &s);

		if (ret)
			return ret;
		old = entry_get(q, s, off);
		if (q->ext_l2) {
			uint32_t written = sub_mask(q, off, p->from, p->to);

			if (!(old.e & OFLAG_COMPRESSED))
				new.bitmap = old.bitmap;
			new.bitmap = (new.bitmap & ~((uint64_t)written << 32)) | written;
		}
		if (!p->own)
			ret = free_entry_later(q, old, false);
		if (ret)
			return ret;
		entry_set(q, s, off, new);
	}
	return 0;
}

static int write_new(struct qcow2 *q, struct co *c, struct plan *p, const struct iovec *iov, unsigned niov, uint64_t at)
{
	int ret = write_around(q, c, p, iov, niov, at);

	co_lock(c, &q->lock);
	if (!ret)
		ret = link_plan(q, c, p);
	/* Some entries may refer to their part already if linking failed: then it all stays taken. */
	else if (!p->own && !q->ext_data)
		free_now(q, c, p->host, p->n);
	co_unlock(&q->lock);
	return ret;
}

static int write_some(struct qcow2 *q, struct co *c, uint64_t pos, uint64_t len, const struct iovec *iov, unsigned niov,
		      uint64_t at, uint64_t *done)
{
	struct slice *s;
	struct plan p;
	struct run run;
	struct group g;
	bool in_place = false;
	int ret;

	co_lock(c, &q->lock);
	ret = l2_get_for_write(q, c, pos, &s);
	ret = ret ? ret : map_run(q, s, pos, len, &run);
	if (!ret) {
		in_place = run.kind == KIND_NORMAL && run.copied;
		if (!in_place)
			ret = make_plan(q, c, &run, pos, len, &p);
	}
	co_unlock(&q->lock);
	if (ret)
		return ret;
	if (!in_place) {
		*done = p.end - pos;
		return write_new(q, c, &p, iov, niov, at);
	}
	*done = run.len;
	group_init(&g, q, c);
	group_iov(&g, q->data, BLK_WRITE, run.host, run.len, iov, niov, at);
	return group_wait(&g);
}

int do_write(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, const struct iovec *iov, unsigned niov)
{
	uint64_t done = 0;
	int ret = 0;

	for (uint64_t at = 0; at < len && !ret; at += done)
		ret = write_some(q, c, off + at, len - at, iov, niov, at, &done);
	return ret;
}
