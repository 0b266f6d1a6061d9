/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where guest clusters lie: L1 table (in memory), L2 tables (cached slices), and
 * their entries, decoded.  With extended L2 entries a cluster has 32 subclusters,
 * each with a kind of its own.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/internal.h"

uint32_t l1_index(const struct qcow2 *q, uint64_t off)
{
	return (uint32_t)(off >> (q->cluster_bits + q->l2_bits));
}

static uint64_t l2_index(const struct qcow2 *q, uint64_t off)
{
	return (off >> q->cluster_bits) & (BIT64(q->l2_bits) - 1);
}

uint64_t slice_off(const struct qcow2 *q, uint64_t table, uint64_t off)
{
	return table + align_down(l2_index(q, off) * q->entry_size, q->l2c.size);
}

uint64_t slice_end(const struct qcow2 *q, uint64_t off)
{
	uint64_t span = (uint64_t)(q->l2c.size / q->entry_size) << q->cluster_bits;

	return align_down(off, span) + span;
}

static uint8_t *entry_at(const struct qcow2 *q, const struct slice *s, uint64_t off)
{
	return s->data + (l2_index(q, off) * q->entry_size & (q->l2c.size - 1));
}

struct entry entry_get(const struct qcow2 *q, const struct slice *s, uint64_t off)
{
	const uint8_t *p = entry_at(q, s, off);

	return (struct entry){ ld_be64(p), q->ext_l2 ? ld_be64(p + 8) : 0 };
}

void entry_set(struct qcow2 *q, struct slice *s, uint64_t off, struct entry e)
{
	uint8_t *p = entry_at(q, s, off);

	st_be64(p, e.e);
	if (q->ext_l2)
		st_be64(p + 8, e.bitmap);
	cache_dirty(&q->l2c, s);
}

bool host_ok(const struct qcow2 *q, uint64_t host)
{
	return !(host & (q->cluster - 1)) && host <= MAX_HOST - q->cluster;
}

/* The kind of subcluster `sub`; -EIO for what no writer may write. */
static int kind_of(const struct qcow2 *q, struct entry e, unsigned sub, uint64_t off, struct run *out)
{
	uint64_t host = e.e & OFFSET_MASK;
	bool alloc = true, zero = e.e & OFLAG_ZERO, has_host = host || (q->ext_data && (e.e & OFLAG_COPIED));

	if (e.e & OFLAG_COMPRESSED) {
		out->kind = KIND_COMPRESSED;
		out->host = e.e;
		return q->ext_data ? -EIO : 0;
	}
	if (q->ext_l2) {
		alloc = e.bitmap >> sub & 1;
		zero = e.bitmap >> (sub + 32) & 1;
		if ((alloc && zero) || (alloc && !has_host))
			return -EIO;
	} else if (q->version < 3) {
		zero = false;
	}
	if (has_host && (!host_ok(q, host) || (q->ext_data && host != align_down(off, q->cluster))))
		return -EIO;
	out->has_host = has_host;
	out->kind = zero ? KIND_ZERO : has_host && alloc ? KIND_NORMAL : KIND_UNALLOCATED;
	out->host = host + (off & (q->cluster - 1));
	out->copied = e.e & OFLAG_COPIED;
	return 0;
}

static bool goes_on(const struct run *a, const struct run *b)
{
	if (a->kind != b->kind)
		return false;
	return a->kind == KIND_UNALLOCATED || a->kind == KIND_ZERO ||
	       (a->kind == KIND_NORMAL && a->host + a->len == b->host && a->copied == b->copied);
}

int map_run(struct qcow2 *q, const struct slice *s, uint64_t off, uint64_t max, struct run *out)
{
	uint64_t unit = BIT64(q->sub_bits), end = slice_end(q, off);
	struct run next = { 0 };

	*out = (struct run){ .kind = KIND_UNALLOCATED };
	if (!s) {
		end = align_down(off, BIT64(q->cluster_bits + q->l2_bits)) + BIT64(q->cluster_bits + q->l2_bits);
		out->len = MIN(max, end - off);
		return 0;
	}
	for (uint64_t at = off; at < end && at - off < max; at = align_down(at, unit) + unit) {
		unsigned sub = (unsigned)((at & (q->cluster - 1)) >> q->sub_bits);
		int ret = kind_of(q, entry_get(q, s, at), sub, at, &next);

		if (ret)
			return at > off ? 0 : q_broken(q, "an entry of an L2 table", s->off);
		if (at == off) {
			*out = next;
			out->len = 0;
		} else if (!goes_on(out, &next)) {
			break;
		}
		/* Compressed: to the end of the cluster, whatever the subclusters. */
		if (next.kind == KIND_COMPRESSED) {
			out->len = MIN(max, align_down(at, q->cluster) + q->cluster - at);
			return 0;
		}
		out->len = MIN(max, align_down(at, unit) + unit - off);
	}
	return 0;
}

int l2_peek(struct qcow2 *q, uint64_t off, struct slice **out)
{
	uint32_t i = l1_index(q, off);
	uint64_t table = i < q->l1_size ? q->l1[i] & OFFSET_MASK : 0;

	*out = NULL;
	if (!table)
		return 1;
	if (!host_ok(q, table))
		return q_broken(q, "an entry of the L1 table", i);
	*out = cache_peek(&q->l2c, slice_off(q, table, off));
	if (*out)
		(*out)->l1_index = i;
	return *out != NULL;
}

int l2_get(struct qcow2 *q, struct co *c, uint64_t off, struct slice **out)
{
	uint32_t i = l1_index(q, off);
	int ret = l2_peek(q, off, out);

	if (ret)
		return ret < 0 ? ret : 0;
	ret = cache_get(q, c, &q->l2c, slice_off(q, q->l1[i] & OFFSET_MASK, off), out);
	if (!ret)
		(*out)->l1_index = i;
	return ret;
}

void l1_set(struct qcow2 *q, uint32_t i, uint64_t v)
{
	q->l1[i] = v;
	if (!(q->l1_dirty[i / 64] >> (i % 64) & 1))
		q->n_l1_dirty++;
	q->l1_dirty[i / 64] |= BIT64(i % 64);
}

static int copy_table(struct qcow2 *q, struct co *c, uint64_t from, uint64_t to)
{
	struct slice *s;
	uint8_t *buf = q_buf(q->cluster);
	int ret = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0; !ret && at < q->cluster; at += q->l2c.size) {
		ret = cache_get(q, c, &q->l2c, from + at, &s);
		if (!ret)
			memcpy(buf + at, s->data, q->l2c.size);
	}
	if (!ret)
		ret = q_rw(q, c, q->n.file, BLK_WRITE, to, buf, q->cluster);
	free(buf);
	return ret;
}

/* A table of our own for L1 entry i: new and empty, or a copy of one that a snapshot uses too. */
static int own_table(struct qcow2 *q, struct co *c, uint32_t i)
{
	uint64_t old = q->l1[i] & OFFSET_MASK, table;
	bool zero;
	int ret = alloc_clusters(q, c, 1, &table, &zero);

	if (ret)
		return ret;
	cache_drop(&q->l2c, table, q->cluster);
	if (old)
		ret = copy_table(q, c, old, table);
	else if (!zero)
		ret = zero_clusters(q, c, table, 1);
	if (!ret && old)
		ret = free_later(q, old, 1, false);
	if (ret) {
		free_now(q, c, table, 1);
		return ret;
	}
	l1_set(q, i, table | OFLAG_COPIED);
	return 0;
}

int l2_get_for_write(struct qcow2 *q, struct co *c, uint64_t off, struct slice **out)
{
	uint32_t i = l1_index(q, off);
	int ret;

	if (i >= q->l1_size)
		return q_broken(q, "an L1 table too short for the disk", i);
	if ((q->l1[i] & OFFSET_MASK) && !host_ok(q, q->l1[i] & OFFSET_MASK))
		return q_broken(q, "an entry of the L1 table", i);
	if (!(q->l1[i] & OFFSET_MASK) || !(q->l1[i] & OFLAG_COPIED)) {
		ret = own_table(q, c, i);
		if (ret)
			return ret;
	}
	return l2_get(q, c, off, out);
}

uint64_t backing_part(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	return off < q->backing_size ? MIN(len, q->backing_size - off) : 0;
}
