/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing metadata in an order that is safe at any moment: see internal.h.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "block/qcow2/internal.h"

bool q_clean(const struct qcow2 *q)
{
	return !q->l2c.n_dirty && !q->rbc.n_dirty && !q->n_l1_dirty && !q->rt_dirty && !q->n_freed;
}

/* Does the table this slice belongs to get its place in the L1 table only by this commit? */
static bool unlinked(struct qcow2 *q, const struct slice *s)
{
	return s->l1_index < q->l1_size && (q->l1_dirty[s->l1_index / 64] >> (s->l1_index % 64) & 1);
}

int write_table(struct qcow2 *q, struct co *c, uint64_t off, const uint64_t *table, uint64_t n, uint64_t room)
{
	uint8_t *buf = q_buf(room);
	int ret;

	if (!buf)
		return -ENOMEM;
	memset(buf, 0, room);
	for (uint64_t i = 0; i < n; i++)
		st_be64(buf + i * 8, table[i]);
	ret = q_rw(q, c, q->n.file, BLK_WRITE, off, buf, room);
	free(buf);
	return ret;
}

/* The sector of the table with entry i. */
static int write_sector(struct qcow2 *q, struct co *c, uint64_t off, const uint64_t *table, uint64_t n, uint64_t i)
{
	uint64_t first = i & ~63ull;

	return write_table(q, c, off + first * 8, table + first, MIN(n - first, 64u), 512);
}

static int write_l1(struct qcow2 *q, struct co *c)
{
	int ret = 0;

	for (uint32_t w = 0; w < (q->l1_size + 63) / 64 && !ret && q->n_l1_dirty; w++) {
		if (!q->l1_dirty[w])
			continue;
		ret = write_sector(q, c, q->l1_off, q->l1, q->l1_size, (uint64_t)w * 64);
		if (ret)
			break;
		q->n_l1_dirty -= (unsigned)__builtin_popcountll(q->l1_dirty[w]);
		q->l1_dirty[w] = 0;
	}
	return ret;
}

/* New entries are few: the whole table is compared with nothing, just written where it changed last. */
static int write_rt(struct qcow2 *q, struct co *c)
{
	int ret = write_table(q, c, q->rt_off, q->rt, q->rt_size, align_up((uint64_t)q->rt_size * 8, 512));

	if (!ret)
		q->rt_dirty = false;
	return ret ? ret : q_barrier(q, c);
}

/* How many of the clusters from `first` on, at most n, has only the reference that goes now? */
static int last_ones(struct qcow2 *q, struct co *c, uint64_t first, uint64_t n, uint64_t *out)
{
	uint64_t rc = 1;
	int ret = 0;

	for (*out = 0; *out < n; ++*out) {
		ret = rc_get(q, c, first + *out, &rc);
		if (ret || rc != 1)
			break;
	}
	return ret;
}

/* The host's room of one freed area, where nothing else uses it. A host that cannot is none the worse for it. */
static int punch(struct qcow2 *q, struct co *c, const struct freed *f)
{
	uint64_t first = f->off >> q->cluster_bits, k = 0, n;
	int ret = 0;

	while (k < f->n && !ret) {
		ret = last_ones(q, c, first + k, f->n - k, &n);
		if (!ret && n)
			q_op(q, c, q->n.file, BLK_DISCARD, (first + k) << q->cluster_bits, n << q->cluster_bits, true);
		k += n + 1;
	}
	return ret;
}

static int give_back(struct qcow2 *q, struct co *c)
{
	int ret = 0;

	for (unsigned i = 0; i < q->n_freed && !ret; i++) {
		ret = q->freed[i].punch ? punch(q, c, &q->freed[i]) : 0;
		ret = ret ? ret : free_now(q, c, q->freed[i].off, q->freed[i].n);
	}
	q->n_freed = 0;
	return ret;
}

int q_commit(struct qcow2 *q, struct co *c)
{
	int ret = q->broken ? -EIO : cache_write(q, c, &q->rbc, NULL);

	/* What the tables refer to is inside the file, even if its data never gets there. */
	if (!ret && q->end > q->extended) {
		ret = blk_extend(q->n.file, q->end << q->cluster_bits);
		q->extended = ret ? q->extended : q->end;
	}
	ret = ret ? ret : cache_write(q, c, &q->l2c, unlinked);
	if (!ret && (q->l2c.n_dirty || q->n_l1_dirty || q->rt_dirty))
		ret = q_barrier(q, c);
	if (!ret && q->rt_dirty)
		ret = write_rt(q, c);
	ret = ret ? ret : cache_write(q, c, &q->l2c, NULL);
	ret = ret ? ret : write_l1(q, c);
	if (ret || !q->n_freed)
		return ret;
	ret = q_barrier(q, c);
	return ret ? ret : give_back(q, c);
}

int write_header(struct qcow2 *q, struct co *c)
{
	uint8_t *h = q_buf(512);
	int ret = h ? q_rw(q, c, q->n.file, BLK_READ, 0, h, 512) : -ENOMEM;

	if (!ret) {
		st_be64(h + H_SIZE, q->n.i.size);
		st_be32(h + H_L1_SIZE, q->l1_size);
		st_be64(h + H_L1_OFF, q->l1_off);
		st_be64(h + H_RT_OFF, q->rt_off);
		st_be32(h + H_RT_CLUSTERS, (uint32_t)(align_up((uint64_t)q->rt_size * 8, q->cluster) >> q->cluster_bits));
		st_be32(h + H_N_SNAPS, q->n_snaps);
		st_be64(h + H_SNAPS_OFF, q->snaps_off);
		if (q->version >= 3) {
			st_be64(h + H_INCOMPAT, q->incompat);
			st_be64(h + H_COMPAT, q->compat);
			st_be64(h + H_AUTOCLEAR, q->autoclear);
		}
		ret = q_rw(q, c, q->n.file, BLK_WRITE, 0, h, 512);
	}
	free(h);
	return ret;
}
