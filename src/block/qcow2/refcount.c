/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts of host clusters: looking them up, changing them, finding free ones.
 *
 * All refcounts of the file are in blocks of one cluster, found through a table.
 * A block that is missing stands for zeros; it is made when a cluster it describes
 * is first taken, and lies in the first of those clusters.  The table grows by
 * moving behind everything that is in use.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "block/qcow2/internal.h"

uint64_t rc_field_get(const uint8_t *b, uint64_t i, unsigned order)
{
	switch (order) {
	case 3: return b[i];
	case 4: return ld_be16(b + i * 2);
	case 5: return ld_be32(b + i * 4);
	case 6: return ld_be64(b + i * 8);
	default: {
		unsigned bits = 1u << order, shift = (unsigned)(i * bits) & 7;

		return (unsigned)(b[i * bits / 8] >> shift) & ((1u << bits) - 1);
	}
	}
}

void rc_field_set(uint8_t *b, uint64_t i, unsigned order, uint64_t v)
{
	switch (order) {
	case 3: b[i] = (uint8_t)v; break;
	case 4: st_be16(b + i * 2, (uint16_t)v); break;
	case 5: st_be32(b + i * 4, (uint32_t)v); break;
	case 6: st_be64(b + i * 8, v); break;
	default: {
		unsigned bits = 1u << order, shift = (unsigned)(i * bits) & 7, mask = ((1u << bits) - 1) << shift;
		uint8_t *p = b + i * bits / 8;

		*p = (uint8_t)((*p & ~mask) | ((unsigned)v << shift));
	}
	}
}

uint64_t rc_max(const struct qcow2 *q)
{
	return q->rc_order == 6 ? UINT64_MAX : BIT64(1u << q->rc_order) - 1;
}

/* Refcounts in a slice. */
static uint64_t per_slice(const struct qcow2 *q)
{
	return (uint64_t)q->rbc.size * 8 >> q->rc_order;
}

/* Where the slice with the refcount of a cluster lies; 0: there is no block yet. */
static int slice_place(struct qcow2 *q, uint64_t cluster, uint64_t *off)
{
	uint64_t i = cluster >> q->rb_bits, block = i < q->rt_size ? q->rt[i] & RT_OFFSET_MASK : 0;

	*off = 0;
	if (!block)
		return 0;
	if (!host_ok(q, block))
		return q_broken(q, "an entry of the refcount table", i);
	*off = block + (cluster & (BIT64(q->rb_bits) - 1)) / per_slice(q) * q->rbc.size;
	return 0;
}

int rc_get(struct qcow2 *q, struct co *c, uint64_t cluster, uint64_t *out)
{
	struct slice *s;
	uint64_t off;
	int ret = slice_place(q, cluster, &off);

	*out = 0;
	if (ret || !off)
		return ret;
	ret = cache_get(q, c, &q->rbc, off, &s);
	if (!ret)
		*out = rc_field_get(s->data, cluster & (per_slice(q) - 1), q->rc_order);
	return ret;
}

static void seen(struct qcow2 *q, uint64_t end)
{
	q->end = MAX(q->end, end);
}

/* Would something be written over the header or the tables whose place the header tells? */
static bool holds_tables(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	const struct { uint64_t off, len; } t[] = {
		{ 0, q->cluster },
		{ q->l1_off, (uint64_t)q->l1_size * 8 },
		{ q->rt_off, (uint64_t)q->rt_size * 8 },
		{ q->crypt_off, q->crypt_len },
	};

	for (unsigned i = 0; i < ARRAY_LEN(t); i++)
		if (t[i].len && off < t[i].off + t[i].len && t[i].off < off + len)
			return true;
	return false;
}

int zero_clusters(struct qcow2 *q, struct co *c, uint64_t off, uint64_t n)
{
	return q_op(q, c, q->n.file, BLK_WRITE_ZEROES, off, n << q->cluster_bits, true);
}

static int rc_set(struct qcow2 *q, struct co *c, uint64_t cluster, uint64_t v)
{
	struct slice *s;
	uint64_t off;
	int ret = slice_place(q, cluster, &off);

	if (ret)
		return ret;
	if (!off)
		return q_broken(q, "a missing refcount block", cluster);
	ret = cache_get(q, c, &q->rbc, off, &s);
	if (ret)
		return ret;
	rc_field_set(s->data, cluster & (per_slice(q) - 1), q->rc_order, v);
	cache_dirty(&q->rbc, s);
	return 0;
}

/* Puts an empty block for index i of the table at `cluster`. */
static int place_block(struct qcow2 *q, struct co *c, uint64_t i, uint64_t cluster)
{
	uint64_t off = cluster << q->cluster_bits;
	bool zero = q->zero_beyond && cluster >= q->end;
	int ret;

	cache_drop(&q->rbc, off, q->cluster);
	seen(q, cluster + 1);
	ret = zero ? 0 : zero_clusters(q, c, off, 1);
	if (!ret)
		q->rt[i] = off;
	return ret;
}

/*
 * A larger table, so that it has an entry i: new blocks and the table go to the
 * clusters that block i describes (and the next, if there are that many).  The old
 * one stays valid until the header names the new one.
 */
static int grow_table(struct qcow2 *q, struct co *c, uint64_t i)
{
	uint64_t per_block = BIT64(q->rb_bits), per_cluster = q->cluster / 8;
	uint64_t old_off = q->rt_off, old_n = (uint64_t)q->rt_size * 8 >> q->cluster_bits;
	uint64_t size = MAX(i + 1, (uint64_t)q->rt_size * 3 / 2), n_table, n_blocks = 1, base = i << q->rb_bits, *bigger;
	uint32_t old_size = q->rt_size;
	int ret = 0;

	do {
		size = MAX(size, i + n_blocks);
		n_table = (size + per_cluster - 1) / per_cluster;
		size = n_table * per_cluster;
		n_blocks = (n_table + n_blocks + per_block - 1) / per_block;
	} while (n_blocks * per_block < n_table + n_blocks || size < i + n_blocks);
	if (size * 8 > MAX_RT_BYTES)
		return -EFBIG;
	if (holds_tables(q, base << q->cluster_bits, (n_blocks + n_table) << q->cluster_bits))
		return q_broken(q, "a refcount table too short", i);
	bigger = calloc(size, 8);
	if (!bigger)
		return -ENOMEM;
	memcpy(bigger, q->rt, (size_t)old_size * 8);
	free(q->rt);
	q->rt = bigger;
	q->rt_size = (uint32_t)size;
	for (uint64_t k = 0; k < n_blocks && !ret; k++)
		ret = place_block(q, c, i + k, base + k);
	seen(q, base + n_blocks + n_table);
	for (uint64_t k = 0; k < n_blocks + n_table && !ret; k++)
		ret = rc_set(q, c, base + k, 1);
	ret = ret ? ret : cache_write(q, c, &q->rbc, NULL);
	ret = ret ? ret : write_table(q, c, (base + n_blocks) << q->cluster_bits, q->rt, size, n_table << q->cluster_bits);
	ret = ret ? ret : q_barrier(q, c);
	if (ret) {
		/* As if it had not been tried; what was written is in use by nobody. */
		cache_drop(&q->rbc, base << q->cluster_bits, n_blocks << q->cluster_bits);
		memset(q->rt + old_size, 0, (size - old_size) * 8);
		q->rt_size = old_size;
		return ret;
	}
	q->rt_off = (base + n_blocks) << q->cluster_bits;
	ret = write_header(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret)
		return q_stuck(q, "its refcount table could not be moved");
	q->rt_dirty = false;
	return free_now(q, c, old_off, old_n);
}

/* The block for index i, in cluster `at`, which it or another that is there counts. */
static int place_counted(struct qcow2 *q, struct co *c, uint64_t i, uint64_t at)
{
	int ret = place_block(q, c, i, at);

	if (ret)
		return ret;
	ret = rc_set(q, c, at, 1);
	if (ret) {
		/* A block that does not count itself would be given away. */
		cache_drop(&q->rbc, at << q->cluster_bits, q->cluster);
		q->rt[i] = 0;
		return ret;
	}
	q->rt_dirty = true;
	return 0;
}

/* Makes the block that describes `cluster`. */
static int make_block(struct qcow2 *q, struct co *c, uint64_t cluster)
{
	uint64_t i = cluster >> q->rb_bits, at = i << q->rb_bits;

	if (at << q->cluster_bits > MAX_HOST - q->cluster)
		return -EFBIG;
	if (holds_tables(q, at << q->cluster_bits, q->cluster))
		return q_broken(q, "a missing refcount block", i);
	if (i >= q->rt_size)
		return grow_table(q, c, i);
	return place_counted(q, c, i, at);
}

int rc_assign(struct qcow2 *q, struct co *c, uint64_t cluster, uint64_t v)
{
	uint64_t off;
	int ret = slice_place(q, cluster, &off);

	if (!ret && !off && !v)
		return 0;
	if (!ret && !off)
		ret = make_block(q, c, cluster);
	return ret ? ret : rc_set(q, c, cluster, v);
}

int rc_add(struct qcow2 *q, struct co *c, uint64_t cluster, int delta, uint64_t *after)
{
	uint64_t v, off;
	int ret = slice_place(q, cluster, &off);

	if (!ret && !off && delta > 0)
		ret = make_block(q, c, cluster);
	ret = ret ? ret : rc_get(q, c, cluster, &v);
	if (ret)
		return ret;
	if (delta < 0 && v < (uint64_t)-delta)
		return q_broken(q, "a cluster in use that counts as free", cluster << q->cluster_bits);
	if (delta > 0 && v > rc_max(q) - (uint64_t)delta)
		return -ERANGE;
	v += (uint64_t)(int64_t)delta;
	if (after)
		*after = v;
	return rc_set(q, c, cluster, v);
}

/* First free cluster at or after `from`, or the first whose block is missing; *have: there is a block. */
static int next_free(struct qcow2 *q, struct co *c, uint64_t from, uint64_t *out, bool *have)
{
	for (uint64_t at = from;; at = (at / per_slice(q) + 1) * per_slice(q)) {
		struct slice *s;
		uint64_t off, i = at & (per_slice(q) - 1);
		int ret = slice_place(q, at, &off);

		*out = at;
		*have = off != 0;
		if (ret || !off)
			return ret;
		ret = cache_get(q, c, &q->rbc, off, &s);
		if (ret)
			return ret;
		for (; i < per_slice(q); i++, at++) {
			if (rc_field_get(s->data, i, q->rc_order) == 0) {
				*out = at;
				return 0;
			}
		}
		at--;
	}
}

/* The block for index i, in free cluster `at`, which has a block that counts it. */
static int make_block_in(struct qcow2 *q, struct co *c, uint64_t i, uint64_t at)
{
	if (holds_tables(q, at << q->cluster_bits, q->cluster))
		return q_broken(q, "a table in clusters that count as free", at << q->cluster_bits);
	return place_counted(q, c, i, at);
}

/*
 * n free clusters in a row, whose blocks are all there.  A new block usually takes the first cluster of its own area, but a
 * run as long as an area (small clusters, wide refcounts) would never be found that way: then it takes the first of the run.
 */
static int find_free(struct qcow2 *q, struct co *c, uint64_t n, uint64_t *first)
{
	uint64_t start = q->hint, at = q->hint;
	bool have;

	while (at - start < n) {
		uint64_t got;
		int ret = next_free(q, c, at, &got, &have);

		if (!ret && !have && got == at && at > start && n >= BIT64(q->rb_bits) && got >> q->rb_bits < q->rt_size) {
			ret = make_block_in(q, c, got >> q->rb_bits, start++);
			if (!ret)
				continue;
		}
		if (!ret && !have) {
			/* The new block takes the first cluster of its area: begin behind it. */
			ret = make_block(q, c, got);
			if (!ret)
				continue;
		}
		if (ret)
			return ret;
		if (got != at)
			start = got;
		at = got + 1;
	}
	*first = start;
	return 0;
}

int alloc_clusters(struct qcow2 *q, struct co *c, uint64_t n, uint64_t *off, bool *zero)
{
	uint64_t first, done;
	int ret;

	if (q->broken)
		return -EIO;
	ret = find_free(q, c, n, &first);
	if (ret)
		return ret;
	if (first > (MAX_HOST >> q->cluster_bits) - n)
		return -EFBIG;
	*off = first << q->cluster_bits;
	if (holds_tables(q, *off, n << q->cluster_bits))
		return q_broken(q, "a table in clusters that count as free", *off);
	for (done = 0; done < n && !ret; done++)
		ret = rc_set(q, c, first + done, 1);
	if (ret) {
		free_now(q, c, *off, done - 1);
		return ret;
	}
	*zero = q->zero_beyond && first >= q->end;
	seen(q, first + n);
	q->hint = first + n;
	ahead_grow(q);
	return 0;
}

bool alloc_clusters_fast(struct qcow2 *q, uint64_t n, uint64_t *off)
{
	uint64_t at = q->hint, i = at & (per_slice(q) - 1), place;
	struct slice *s;

	if (at < q->end || i + n > per_slice(q) || at > (MAX_HOST >> q->cluster_bits) - n || slice_place(q, at, &place) ||
	    !place)
		return false;
	s = cache_peek(&q->rbc, place);
	if (!s || holds_tables(q, at << q->cluster_bits, n << q->cluster_bits))
		return false;
	for (uint64_t k = 0; k < n; k++)
		if (rc_field_get(s->data, i + k, q->rc_order))
			return false;
	for (uint64_t k = 0; k < n; k++)
		rc_field_set(s->data, i + k, q->rc_order, 1);
	cache_dirty(&q->rbc, s);
	seen(q, at + n);
	ahead_grow(q);
	q->hint = at + n;
	*off = at << q->cluster_bits;
	return true;
}

int free_now(struct qcow2 *q, struct co *c, uint64_t off, uint64_t n)
{
	uint64_t first = off >> q->cluster_bits, after = 1;
	int ret = 0;

	for (uint64_t i = first; i < first + n && !ret; i++) {
		ret = rc_add(q, c, i, -1, &after);
		if (ret || after)
			continue;
		cache_drop(&q->l2c, i << q->cluster_bits, q->cluster);
		cache_drop(&q->rbc, i << q->cluster_bits, q->cluster);
		q->hint = MIN(q->hint, i);
		if (q->compress_at && (q->compress_at - 1) >> q->cluster_bits == i)
			q->compress_at = 0;
	}
	return ret;
}

int free_later(struct qcow2 *q, uint64_t off, uint64_t n, bool punch)
{
	struct freed *last = q->n_freed ? &q->freed[q->n_freed - 1] : NULL;

	if (last && last->punch == punch && last->off + (last->n << q->cluster_bits) == off) {
		last->n += n;
		return 0;
	}
	if (q->n_freed == q->cap_freed) {
		unsigned cap = q->cap_freed ? q->cap_freed * 2 : 64;
		struct freed *more = realloc(q->freed, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		q->freed = more;
		q->cap_freed = cap;
	}
	q->freed[q->n_freed++] = (struct freed){ off, n, punch };
	return 0;
}

unsigned compressed_range(const struct qcow2 *q, uint64_t e, uint64_t *off, uint64_t *len)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	uint64_t sectors = (e >> shift & (BIT64(q->cluster_bits - 8) - 1)) + 1;

	*off = e & (BIT64(shift) - 1);
	*len = sectors * 512 - (*off & 511);
	return (unsigned)(((*off + *len - 1) >> q->cluster_bits) - (*off >> q->cluster_bits) + 1);
}

int free_entry_later(struct qcow2 *q, struct entry e, bool punch)
{
	uint64_t off, len, host = e.e & OFFSET_MASK;

	if (e.e & OFLAG_COMPRESSED) {
		unsigned n = compressed_range(q, e.e, &off, &len);

		return free_later(q, align_down(off, q->cluster), n, false);
	}
	if (q->ext_data || !host)
		return 0;
	if (!host_ok(q, host))
		return q_broken(q, "an entry of an L2 table", host);
	return free_later(q, host, 1, punch);
}
