/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changes of the header: the disk's size, the backing file's name; and emptying
 * an image.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/internal.h"

static int move_l1(struct qcow2 *q, struct co *c, uint32_t n)
{
	uint64_t clusters = (n * 8ull + q->cluster - 1) >> q->cluster_bits, old = q->l1_off, off, *l1, *dirty;
	uint64_t old_clusters = (q->l1_size * 8ull + q->cluster - 1) >> q->cluster_bits;
	bool zero;
	int ret = alloc_clusters(q, c, clusters, &off, &zero);

	if (ret)
		return ret;
	l1 = calloc(align_up(n, 64), 8);
	dirty = calloc(n / 64 + 1, 8);
	ret = l1 && dirty ? 0 : -ENOMEM;
	if (!ret)
		memcpy(l1, q->l1, q->l1_size * 8ull);
	/* Nothing else is dirty: what the table refers to is on disk. */
	ret = ret ? ret : write_table(q, c, off, l1, n, clusters << q->cluster_bits);
	ret = ret ? ret : q_commit(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret) {
		free(l1);
		free(dirty);
		free_now(q, c, off, clusters);
		return ret;
	}
	free(q->l1);
	free(q->l1_dirty);
	q->l1 = l1;
	q->l1_dirty = dirty;
	q->n_l1_dirty = 0;
	q->l1_size = n;
	q->l1_off = off;
	return free_later(q, old, old_clusters, false);
}

int l1_grow(struct qcow2 *q, struct co *c, uint32_t n)
{
	int ret = n > q->l1_size ? q_commit(q, c) : 0;

	if (ret || n <= q->l1_size)
		return ret;
	ret = move_l1(q, c, n);
	if (ret)
		return ret;
	ret = write_header(q, c);
	ret = ret ? ret : q_barrier(q, c);
	return ret ? q_stuck(q, "its header could not be written") : q_commit(q, c);
}

struct resize {
	uint64_t size;
	bool bitmaps;			/* are what is in the way */
};

static int resize_tables(struct qcow2 *q, struct co *c, uint64_t size)
{
	uint64_t old = q->n.i.size, need = l1_needed(q, size);
	int ret = q_commit(q, c);

	/* A VM's state that was left behind the end is not to become part of the disk. */
	ret = ret ? ret : vmstate_drop(q, c);
	if (!ret && size < old)
		ret = drop_clusters(q, c, align_up(size, q->cluster), align_up(old, q->cluster));
	if (!ret && need > q->l1_size)
		ret = move_l1(q, c, (uint32_t)need);
	if (ret)
		return ret;
	q->n.i.size = size;
	ret = write_header(q, c);
	ret = ret ? ret : q_barrier(q, c);
	if (ret) {
		q->n.i.size = old;
		return q_stuck(q, "its header could not be written");
	}
	return q_commit(q, c);
}

/* Bitmaps must fit the disk: while they do not, they are marked as in use. */
static int resize_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct resize *rs = arg;
	uint64_t old = q->n.i.size;
	int ret = bitmaps_load_all(q, c), ret2;

	rs->bitmaps = ret != 0;
	if (ret)
		return ret;
	ret = resize_tables(q, c, rs->size);
	ret2 = bitmaps_resized(q, c, old);
	return ret ? ret : ret2;
}

/* The disk is longer or shorter; nothing is in flight. */
int q_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	struct qcow2 *q = to_q(n);
	struct resize rs = { .size = size };
	uint64_t old = n->i.size, tail = MIN(old, align_up(size, q->cluster));
	int ret = 0;

	if (l1_needed(q, size) * 8 > MAX_L1_BYTES)
		return err_set(e, -EFBIG, "image '%s': its clusters are too small for a disk of that size", n->path);
	if (q->n_snaps && q->version < 3)
		return err_set(e, -ENOTSUP, "image '%s' is of version 2 and has snapshots: it cannot change its size", n->path);
	/* What is cut off of the last cluster must not come back. */
	if (size < tail)
		ret = blk_pwrite_zeroes(n, size, tail - size, true);
	ret = ret ? ret : q_alone(q, resize_main, &rs);
	if (ret && rs.bitmaps)
		return err_set(e, ret, "image '%s' has a bitmap that was left in use, is damaged or not known here, and cannot follow "
			       "a new size: remove it first (lodge img bitmap --remove)", n->path ? n->path : "");
	/* What the backing file has there, or is left in the last cluster, was not part of the disk. */
	if (!ret && size > old)
		ret = blk_pwrite_zeroes(n, old, MIN(size, MAX(align_up(q->backing_size, BLK_SECTOR), align_up(old, q->cluster))) - old,
					true);
	if (!ret && (q->autoclear & AUTOCLEAR_RAW_DATA))
		return blk_resize(q->data, size, e);
	return ret ? err_set(e, ret, "the size of image '%s' cannot be changed: %s", n->path, strerror(-ret)) : 0;
}

struct names {
	const char *backing, *format;
};

static int names_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct names *a = arg;
	char *backing = a->backing ? strdup(a->backing) : NULL, *format = a->format ? strdup(a->format) : NULL;
	int ret = (a->backing && !backing) || (a->format && !format) ? -ENOMEM : q_commit(q, c);

	ret = ret ? ret : header_set_backing(q, c, backing, format);
	if (ret) {
		free(backing);
		free(format);
		return ret;
	}
	free(q->backing_name);
	free(q->backing_format);
	q->backing_name = backing;
	q->backing_format = format;
	return 0;
}

int qcow2_set_backing(struct blk_node *n, const char *backing, const char *format, struct err *e)
{
	struct qcow2 *q = to_q(n);
	struct names a = { backing, backing ? format : NULL };
	int ret;

	if (n->i.read_only)
		return err_set(e, -EROFS, "image '%s' is open read-only", n->path);
	if (backing && strlen(backing) > 1023)
		return err_set(e, -EINVAL, "the backing file's name is longer than 1023 bytes");
	/* As QEMU reads it. */
	if (a.format && strlen(a.format) > 15)
		return err_set(e, -EINVAL, "the name of the backing file's format is longer than 15 bytes");
	if (backing && (q->autoclear & AUTOCLEAR_RAW_DATA))
		return err_set(e, -EINVAL, "image '%s' has a raw data file, which excludes a backing file", n->path);
	ret = q_alone(q, names_main, &a);
	if (ret == -E2BIG)
		return err_set(e, -ENOSPC, "the header of image '%s', of %u bytes, has no room for the backing file's name next to the present "
			       "one: a shorter name may do, or larger clusters (lodge img convert)", n->path, q->cluster);
	return ret ? err_set(e, ret, "the backing file's name cannot be written to image '%s': %s", n->path, strerror(-ret))
		   : 0;
}

static int empty_table(struct qcow2 *q, struct co *c, uint32_t i)
{
	uint64_t first = (uint64_t)i << (q->cluster_bits + q->l2_bits), n = BIT64(q->l2_bits);
	uint64_t table = q->l1[i] & OFFSET_MASK;
	int ret = 0;

	for (uint64_t k = 0; k < n && !ret; k++) {
		struct slice *s;

		ret = l2_get(q, c, first + (k << q->cluster_bits), &s);
		if (!ret && s)
			ret = free_entry_later(q, entry_get(q, s, first + (k << q->cluster_bits)), true);
	}
	ret = ret ? ret : free_later(q, table, 1, true);
	if (ret)
		return ret;
	l1_set(q, i, 0);
	return q_commit(q, c);
}

static int empty_main(struct qcow2 *q, struct co *c, void *arg)
{
	int ret = q_commit(q, c);

	for (uint32_t i = 0; i < q->l1_size && !ret; i++)
		if (q->l1[i] & OFFSET_MASK)
			ret = empty_table(q, c, i);
	return ret;
}

int qcow2_make_empty(struct blk_node *n, struct err *e)
{
	struct qcow2 *q = to_q(n);
	int ret;

	if (n->i.read_only)
		return err_set(e, -EROFS, "image '%s' is open read-only", n->path);
	if (q->n_snaps)
		return err_set(e, -EBUSY, "image '%s' has snapshots: delete them first", n->path);
	ret = q_alone(q, empty_main, NULL);
	return ret ? err_set(e, ret, "image '%s' cannot be emptied: %s", n->path, strerror(-ret)) : 0;
}
