/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps in memory: the directory, loading, and noting what is written.
 *
 * The directory is read when it is first needed, at open if the image is to be
 * written.  Bits are loaded of those bitmaps that record, and of others on demand.
 * Limits: the directory has 1 MiB at most, rows of bits 2^33 bits together, pages of
 * them in memory 128 MiB together.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "block/qcow2/bitmap_int.h"

uint32_t bitmap_table_size(const struct qcow2 *q, const struct bitmap *b)
{
	uint64_t bytes = (bitmap_size(b, q->n.i.size) + 7) / 8;

	return (uint32_t)MIN((bytes + q->cluster - 1) >> q->cluster_bits, (uint64_t)UINT32_MAX);
}

uint64_t bitmap_entry_len(const struct bitmap *b)
{
	return align_up(BITMAP_ENTRY + (uint64_t)b->extra_len + strlen(b->name), 8);
}

void bitmap_fini(struct qcow2 *q, struct bitmap *b)
{
	q->bitmap_bits -= bitmap_loaded(b) ? b->bits.n : 0;
	q->bitmap_bits -= b->owner ? b->frozen.n : 0;
	bits_fini(&b->bits);
	bits_fini(&b->frozen);
	free(b->name);
	free(b->extra);
	*b = (struct bitmap){ 0 };
}

void bitmaps_free(struct qcow2 *q)
{
	for (unsigned i = 0; q->bitmap && i < q->n_bitmaps; i++)
		bitmap_fini(q, &q->bitmap[i]);
	free(q->bitmap);
	q->bitmap = NULL;
}

struct bitmap *bitmap_find(struct qcow2 *q, const char *name)
{
	for (unsigned i = 0; q->bitmap && i < q->n_bitmaps; i++)
		if (!strcmp(q->bitmap[i].name, name))
			return &q->bitmap[i];
	return NULL;
}

static int parse_entry(struct bitmap *b, const uint8_t *p, uint64_t left, uint64_t *len)
{
	uint32_t name_len, extra_len;

	if (left < BITMAP_ENTRY)
		return -EINVAL;
	name_len = ld_be16(p + B_NAME_LEN);
	extra_len = ld_be32(p + B_EXTRA_LEN);
	*len = align_up(BITMAP_ENTRY + (uint64_t)name_len + extra_len, 8);
	if (*len > left || !name_len || name_len > QCOW2_BITMAP_NAME_MAX ||
	    memchr(p + BITMAP_ENTRY + extra_len, '\0', name_len))
		return -EINVAL;
	*b = (struct bitmap){ .table = ld_be64(p + B_TABLE), .table_size = ld_be32(p + B_TABLE_SIZE), .flags = ld_be32(p + B_FLAGS),
			      .type = p[B_TYPE], .granularity = p[B_GRANULARITY], .extra_len = extra_len };
	b->name = strndup((const char *)p + BITMAP_ENTRY + extra_len, name_len);
	b->extra = malloc(MAX(extra_len, 1u));
	if (!b->name || !b->extra)
		return -ENOMEM;
	memcpy(b->extra, p + BITMAP_ENTRY, extra_len);
	return 0;
}

static int parse_directory(struct qcow2 *q, const uint8_t *dir)
{
	uint64_t at = 0, len;
	int ret = 0;

	for (unsigned i = 0; i < q->n_bitmaps && !ret; i++, at += len)
		ret = parse_entry(&q->bitmap[i], dir + at, q->bitmap_dir_len - at, &len);
	return ret ? ret : at == q->bitmap_dir_len ? 0 : -EINVAL;
}

int bitmaps_directory(struct qcow2 *q, struct co *c)
{
	uint64_t len = q->bitmap_dir_len;
	uint8_t *dir;
	int ret;

	if (!q->n_bitmaps || q->bitmap)
		return 0;
	if (len > MAX_BITMAP_DIR || q->n_bitmaps > MAX_BITMAPS || q->n_bitmaps > len / BITMAP_ENTRY || !host_ok(q, q->bitmap_dir_off))
		return -EINVAL;
	dir = q_buf(align_up(len, 512));
	q->bitmap = calloc(q->n_bitmaps, sizeof(*q->bitmap));
	ret = dir && q->bitmap ? q_rw(q, c, q->n.file, BLK_READ, q->bitmap_dir_off, dir, align_up(len, 512)) : -ENOMEM;
	ret = ret ? ret : parse_directory(q, dir);
	free(dir);
	if (ret)
		bitmaps_free(q);
	return ret;
}

bool bitmap_usable(const struct qcow2 *q, const struct bitmap *b)
{
	return b->type == BITMAP_TRACKING && !(b->flags & ~(BITMAP_IN_USE | BITMAP_AUTO | BITMAP_EXTRA_OK)) &&
	       b->granularity >= MIN_GRANULARITY && b->granularity <= MAX_GRANULARITY &&
	       (!b->extra_len || (b->flags & BITMAP_EXTRA_OK));
}

/* Clusters of bits, as its table tells. */
static int load_clusters(struct qcow2 *q, struct co *c, struct bitmap *b, const uint64_t *t)
{
	uint64_t per = (uint64_t)q->cluster * 8;
	uint8_t *buf = q_buf(q->cluster);
	int ret = buf ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < b->table_size && !ret; i++) {
		uint64_t host = t[i] & OFFSET_MASK;

		if (!host && (t[i] & TABLE_ONES))
			bits_set(&b->bits, i * per, MIN(per, b->bits.n - i * per));
		if (!host)
			continue;
		ret = host_ok(q, host) ? q_rw(q, c, q->n.file, BLK_READ, host, buf, q->cluster) : -EINVAL;
		if (!ret)
			bits_load(&b->bits, (uint64_t)i << q->cluster_bits, buf, q->cluster);
	}
	free(buf);
	return ret;
}

int bitmap_load(struct qcow2 *q, struct co *c, struct bitmap *b)
{
	uint64_t n, *t;
	int ret;

	if (bitmap_loaded(b))
		return 0;
	if (bitmap_inconsistent(b))
		return -EBUSY;
	if (!bitmap_usable(q, b))
		return -ENOTSUP;
	n = bitmap_size(b, q->n.i.size);
	if (b->table_size != bitmap_table_size(q, b) || !host_ok(q, b->table))
		return -EINVAL;
	if (n > BITS_MAX - q->bitmap_bits || b->table_size > MAX_L1_BYTES / 8)
		return -EFBIG;
	ret = bits_init(&b->bits, n, &q->bitmap_pages);
	if (ret)
		return ret;
	q->bitmap_bits += n;
	ret = l1_load(q, c, b->table, b->table_size, &t);
	if (!ret) {
		ret = load_clusters(q, c, b, t);
		free(t);
	}
	if (ret) {
		q->bitmap_bits -= n;
		bits_fini(&b->bits);
	}
	return ret;
}

/* ---- while the image is open for writing ---- */

int bitmaps_start(struct qcow2 *q, struct co *c, const char **which)
{
	int ret = bitmaps_directory(q, c);
	bool marks = false;

	*which = NULL;
	q->n_recording = 0;
	for (unsigned i = 0; i < q->n_bitmaps && !ret; i++) {
		struct bitmap *b = &q->bitmap[i];

		if (!(b->flags & BITMAP_AUTO) || bitmap_inconsistent(b))
			continue;
		*which = b->name;
		ret = bitmap_load(q, c, b);
		b->held = !ret;
		q->n_recording += !ret;
		marks = true;
		if (ret != -EINVAL && ret != -EFBIG)
			continue;
		/* Nobody can keep it up to date: it is worthless from the first write on. */
		log_warn("bitmap '%s' of image '%s' is %s: it is given up, and can only be removed", b->name, q->n.path ? q->n.path : "",
			 ret == -EINVAL ? "damaged" : "too large");
		b->flags |= BITMAP_IN_USE;
		ret = 0;
	}
	/* Before the first write: from here on the disk's copy says too little. */
	return ret || !marks ? ret : bitmaps_write_flags(q, c);
}

void bitmaps_mark(struct qcow2 *q, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < q->n_bitmaps && len; i++) {
		struct bitmap *b = &q->bitmap[i];
		uint64_t first, last;

		if (!b->held || !(b->flags & BITMAP_AUTO))
			continue;	/* among them those whose granularity makes no sense */
		first = off >> b->granularity;
		last = (off + len - 1) >> b->granularity;
		bits_set(&b->bits, first, last - first + 1);
		b->changed = true;
	}
}

int bitmaps_load_all(struct qcow2 *q, struct co *c)
{
	int ret = bitmaps_directory(q, c);

	bitmaps_thaw_all(q);
	for (unsigned i = 0; i < q->n_bitmaps && !ret; i++) {
		ret = bitmap_load(q, c, &q->bitmap[i]);
		q->bitmap[i].held |= !ret;
	}
	return ret ? ret : q->n_bitmaps ? bitmaps_write_flags(q, c) : 0;
}

/* It has its mark on the disk already. */
static void give_up(struct qcow2 *q, struct bitmap *b)
{
	log_warn("bitmap '%s' of image '%s' cannot follow the new size: it is given up, and can only be removed", b->name,
		 q->n.path ? q->n.path : "");
	q->n_recording -= b->held && (b->flags & BITMAP_AUTO);
	q->bitmap_bits -= b->bits.n;
	bits_fini(&b->bits);
	b->flags |= BITMAP_IN_USE;
	b->held = b->changed = false;
}

/* What a longer disk has more counts as changed by those that record. */
int bitmaps_resized(struct qcow2 *q, struct co *c, uint64_t old)
{
	for (unsigned i = 0; i < q->n_bitmaps; i++) {
		struct bitmap *b = &q->bitmap[i];
		uint64_t n = bitmap_size(b, q->n.i.size), was = b->bits.n;

		if (n > BITS_MAX - (q->bitmap_bits - was) || bits_resize(&b->bits, n)) {
			give_up(q, b);
			continue;
		}
		q->bitmap_bits = q->bitmap_bits - was + n;
		b->changed = true;
	}
	if (q->n.i.size > old)
		bitmaps_mark(q, old, q->n.i.size - old);
	return q->n_bitmaps ? bitmaps_store(q, c, false) : 0;
}
