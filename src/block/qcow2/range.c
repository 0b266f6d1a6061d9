/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests without data: discard, write zeroes, status.
 *
 * Whole clusters change in the tables only.  A discarded cluster reads as zeros
 * (version 2 with a backing file cannot say that, and keeps its data); what it
 * occupied goes back to the host after the next commit.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/internal.h"

#define COMMIT_FREED 1024
#define MAX_STATUS_STEPS 256

/* How a range is emptied. */
struct mode {
	bool unmap;			/* give the place back */
	bool discard;			/* a hint: leave alone what is not there */
	bool drop;			/* beyond the disk's end: as if never written */
};

/* What a whole cluster's entry becomes; false: stays as it is. */
static bool emptied(const struct qcow2 *q, struct entry old, uint64_t off, struct mode m, struct entry *out)
{
	bool host = !(old.e & OFLAG_COMPRESSED) && ((old.e & OFFSET_MASK) || (q->ext_data && (old.e & OFLAG_COPIED)));
	bool nothing = !host && !(old.e & OFLAG_COMPRESSED), shows_zero = !backing_part(q, off, q->cluster);
	bool zero = q->ext_l2 ? old.bitmap == 0xffffffffull << 32 : q->version >= 3 && (old.e & OFLAG_ZERO);
	bool keep = host && !m.unmap && (old.e & OFLAG_COPIED);

	*out = (struct entry){ 0 };
	if (m.drop)
		return old.e || old.bitmap;
	if (nothing && (zero || shows_zero || m.discard))
		return false;
	if (zero && host && !m.unmap)
		return false;
	out->e = keep ? (old.e & OFFSET_MASK) | OFLAG_COPIED : 0;
	out->bitmap = q->ext_l2 && (keep || !shows_zero) ? 0xffffffffull << 32 : 0;
	if (!q->ext_l2 && (keep || !shows_zero))
		out->e |= OFLAG_ZERO;
	return true;
}

/* The entries of one slice, from off on. [lock] */
static int empty_slice(struct qcow2 *q, struct co *c, uint64_t off, uint64_t end, struct mode m)
{
	struct slice *s;
	int ret = l2_get_for_write(q, c, off, &s);

	for (; !ret && off < end; off += q->cluster) {
		struct entry old = entry_get(q, s, off), new;

		if (!emptied(q, old, off, m, &new))
			continue;
		if (!(new.e & OFFSET_MASK))
			ret = free_entry_later(q, old, m.unmap);
		if (!ret)
			entry_set(q, s, off, new);
	}
	return ret;
}

/* Is there no table, and nothing to be said by making one? */
static bool nothing_there(const struct qcow2 *q, uint64_t off, uint64_t end, struct mode m)
{
	return !(q->l1[l1_index(q, off)] & OFFSET_MASK) && (m.discard || !backing_part(q, off, end - off));
}

/* [lock] */
static int empty_locked(struct qcow2 *q, struct co *c, uint64_t off, uint64_t end, struct mode m)
{
	int ret = 0;

	while (off < end && !ret) {
		uint64_t stop = MIN(end, slice_end(q, off)), table = BIT64(q->cluster_bits + q->l2_bits);

		if (l1_index(q, off) >= q->l1_size) {
			ret = q_broken(q, "an L1 table too short for the disk", l1_index(q, off));
		} else if (nothing_there(q, off, stop, m)) {
			/* On to the next table, if the backing file does not end inside this one. */
			if (m.discard || !backing_part(q, off, table))
				stop = MIN(end, align_down(off, table) + table);
		} else {
			ret = empty_slice(q, c, off, stop, m);
		}
		if (!ret && q->n_freed > COMMIT_FREED)
			ret = q_commit(q, c);
		off = stop;
	}
	return ret;
}

static int empty_clusters(struct qcow2 *q, struct co *c, uint64_t off, uint64_t end, struct mode m)
{
	int ret;

	co_lock(c, &q->lock);
	ret = empty_locked(q, c, off, end, m);
	co_unlock(&q->lock);
	return ret;
}

int drop_clusters(struct qcow2 *q, struct co *c, uint64_t off, uint64_t end)
{
	return empty_locked(q, c, off, end, (struct mode){ .unmap = true, .discard = true, .drop = true });
}

/* End of the last cluster that lies wholly in [.., end): the disk's end completes its cluster. */
static uint64_t whole_end(const struct qcow2 *q, uint64_t end)
{
	return end == q->n.i.size ? align_up(end, q->cluster) : align_down(end, q->cluster);
}

int do_discard(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len)
{
	uint64_t from = align_up(off, q->cluster), to = whole_end(q, off + len);
	int ret;

	if (to <= from || (q->version < 3 && q->n.backing))
		return 0;
	if (q->autoclear & AUTOCLEAR_RAW_DATA)
		return q_op(q, c, q->data, BLK_WRITE_ZEROES, off, len, true);
	ret = empty_clusters(q, c, from, to, (struct mode){ .unmap = true, .discard = true });
	if (!ret && q->ext_data)
		ret = q_op(q, c, q->data, BLK_DISCARD, from, MIN(to, q->n.i.size) - from, true);
	return ret;
}

/* Zeros as data, a cluster's worth at a time, where there are none yet. */
static int write_zeros(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len)
{
	uint64_t step;
	uint8_t *zeros;
	int ret = 0;

	if (!len)
		return 0;
	zeros = q_buf(MIN(len, (uint64_t)q->cluster));
	if (!zeros)
		return -ENOMEM;
	memset(zeros, 0, MIN(len, (uint64_t)q->cluster));
	for (uint64_t at = off; at < off + len && !ret; at += step) {
		struct blk_extent x = { 0 };
		struct blk_req r = { .op = BLK_STATUS, .offset = at, .ext = &x };
		struct iovec v;

		step = MIN(off + len, align_down(at, q->cluster) + q->cluster) - at;
		v = (struct iovec){ zeros, step };
		r.len = step;
		ret = do_status(q, c, &r);
		if (!ret && !(x.zero && x.len >= step))
			ret = do_write(q, c, at, step, &v, 1);
	}
	free(zeros);
	return ret;
}

int do_zeroes(struct qcow2 *q, struct co *c, uint64_t off, uint64_t len, bool unmap)
{
	uint64_t from = align_up(off, q->cluster), to = whole_end(q, off + len);
	bool raw = q->autoclear & AUTOCLEAR_RAW_DATA;
	/* Version 2 has no word for zeros: only where nothing is they show. */
	bool as_data = to <= from || (q->version < 3 && (q->n.backing || !unmap));
	int ret;

	/* The data file alone must tell the contents. */
	if (raw)
		return q_op(q, c, q->data, BLK_WRITE_ZEROES, off, len, unmap);
	if (as_data)
		return write_zeros(q, c, off, len);
	ret = write_zeros(q, c, off, from - off);
	ret = ret ? ret : empty_clusters(q, c, from, to, (struct mode){ .unmap = unmap });
	if (!ret && unmap && q->ext_data)
		ret = q_op(q, c, q->data, BLK_DISCARD, from, MIN(to, q->n.i.size) - from, true);
	return ret || off + len <= to ? ret : write_zeros(q, c, to, off + len - to);
}

static int status_backing(struct qcow2 *q, struct co *c, struct blk_req *r, uint64_t len)
{
	struct blk_req sub = { .op = BLK_STATUS, .offset = r->offset, .len = len, .ext = r->ext };
	struct group g;
	int ret;

	group_init(&g, q, c);
	ret = group_status(&g, q->n.backing, &sub);
	r->ext->depth++;
	return ret;
}

static void describe(const struct qcow2 *q, const struct run *run, struct blk_extent *x)
{
	x->zero = run->kind == KIND_ZERO || run->kind == KIND_UNALLOCATED;
	x->data = !x->zero;
	x->allocated = run->kind != KIND_UNALLOCATED;
	x->compressed = run->kind == KIND_COMPRESSED;
	x->has_offset = !q->crypt_method && (run->kind == KIND_NORMAL || (run->kind == KIND_ZERO && run->has_host));
	x->offset = x->has_offset ? run->host : 0;
	x->file = q->store->path ? q->store->path : q->n.path;
}

static bool same(const struct run *a, const struct run *b)
{
	return a->kind == b->kind && (a->kind != KIND_NORMAL || a->host + a->len == b->host) &&
	       (a->kind != KIND_ZERO || (!a->has_host && !b->has_host));
}

int do_status(struct qcow2 *q, struct co *c, struct blk_req *r)
{
	struct run first = { 0 }, next;
	struct slice *s;
	uint64_t part;
	int ret = 0;

	co_lock(c, &q->lock);
	for (unsigned i = 0; i < MAX_STATUS_STEPS && first.len < r->len && !ret; i++) {
		ret = l2_get(q, c, r->offset + first.len, &s);
		ret = ret ? ret : map_run(q, s, r->offset + first.len, r->len - first.len, &next);
		if (ret || (i && !same(&first, &next)))
			break;
		if (i)
			first.len += next.len;
		else
			first = next;
	}
	co_unlock(&q->lock);
	if (!first.len)
		return ret;
	*r->ext = (struct blk_extent){ .len = first.len };
	describe(q, &first, r->ext);
	if (first.kind != KIND_UNALLOCATED || r->shallow)
		return 0;
	part = backing_part(q, r->offset, first.len);
	if (part)
		return status_backing(q, c, r, part);
	return 0;
}
