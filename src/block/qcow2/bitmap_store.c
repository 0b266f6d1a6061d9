/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps onto the disk.
 *
 * Bits, tables and the directory are written to new clusters, refcounts are
 * committed, and then one sector of the header changes from the old directory to
 * the new: a crash leaves either, and leaks at worst.  Only the marks "in use" are
 * changed where they are, each inside a sector.
 *
 * An image that has had no bitmaps gets the header extension that names the
 * directory behind its other extensions, in steps of which each leaves a header
 * that can be read; the autoclear bit, set last, makes it count.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/bitmap_int.h"

#define EXT_HEAD 8u
#define EXT_LEN 24u
#define MAX_HEADER (64u << 10)

/* Clusters that were taken for what is being written: given back if it fails. */
struct fresh {
	struct area {
		uint64_t off, n;
	} *a;
	unsigned n, cap;
};

static int fresh_alloc(struct qcow2 *q, struct co *c, struct fresh *f, uint64_t bytes, uint64_t *off)
{
	uint64_t n = (bytes + q->cluster - 1) >> q->cluster_bits;
	bool zero;
	int ret;

	if (f->n == f->cap) {
		unsigned cap = f->cap ? f->cap * 2 : 16;
		struct area *more = realloc(f->a, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		f->a = more;
		f->cap = cap;
	}
	ret = alloc_clusters(q, c, n, off, &zero);
	if (!ret)
		f->a[f->n++] = (struct area){ *off, n };
	return ret;
}

static void fresh_drop(struct qcow2 *q, struct co *c, struct fresh *f)
{
	for (unsigned i = 0; i < f->n; i++)
		free_now(q, c, f->a[i].off, f->a[i].n);
}

/* ---- the header ---- */

/* Where the extension for bitmaps is, and the one that ends the list. 0: none */
static void find_extension(const struct qcow2 *q, const uint8_t *h, uint32_t *ext, uint32_t *end)
{
	uint64_t backing = ld_be64(h + H_BACKING_OFF), limit = MIN(q->cluster, MAX_HEADER);

	if (backing)
		limit = MIN(limit, backing);
	*ext = *end = 0;
	for (uint64_t at = q->header_len; at + EXT_HEAD <= limit;) {
		uint32_t type = ld_be32(h + at), len = ld_be32(h + at + 4);

		if (!type || len > limit - at - EXT_HEAD) {
			*end = type ? 0 : (uint32_t)at;
			return;
		}
		if (type == EXT_BITMAPS && len == EXT_LEN)
			*ext = (uint32_t)at;
		at += EXT_HEAD + align_up(len, 8);
	}
}

uint32_t bitmap_filler(uint32_t at)
{
	uint32_t in = (at + EXT_HEAD) % 512;

	return in + EXT_LEN > 512 ? 512 - in : 0;
}

/* Sectors [from, to) of the header, each by itself and the last first, so that what is read first changes last. */
static int write_sectors(struct qcow2 *q, struct co *c, uint8_t *h, uint64_t from, uint64_t to)
{
	int ret = 0;

	for (uint64_t at = align_up(to, 512); at > align_down(from, 512) && !ret; at -= 512) {
		ret = q_rw(q, c, q->n.file, BLK_WRITE, at - 512, h + at - 512, 512);
		ret = ret ? ret : q_barrier(q, c);
	}
	return ret;
}

/* Makes room behind the extensions, for one and the end: the backing file's name moves. */
static int make_room(struct qcow2 *q, struct co *c, uint8_t *h, uint32_t end)
{
	uint64_t backing = ld_be64(h + H_BACKING_OFF), len = ld_be32(h + H_BACKING_LEN), limit = MIN(q->cluster, MAX_HEADER);
	uint64_t need = end + bitmap_filler(end) + EXT_HEAD + EXT_LEN + EXT_HEAD, to;
	int ret;

	if (!end || need > limit)
		return -E2BIG;
	if (!backing || backing >= need)
		return 0;
	to = MAX(need, align_up(backing + len, 8));
	if (to + len > limit)
		return -E2BIG;
	memcpy(h + to, h + backing, len);
	ret = write_sectors(q, c, h, to, to + len);
	if (ret)
		return ret;
	st_be64(h + H_BACKING_OFF, to);
	/* The old name would be taken for an extension: it goes only when nobody needs it. */
	ret = write_sectors(q, c, h, 0, 512);
	memset(h + end, 0, need - end);
	return ret;
}

static void put_payload(const struct qcow2 *q, uint8_t *p)
{
	st_be32(p, q->n_bitmaps);
	st_be32(p + 4, 0);
	st_be64(p + 8, q->bitmap_dir_len);
	st_be64(p + 16, q->bitmap_dir_off);
}

/* An empty extension, and the end of the list, in place of that end. Returns where. */
static uint32_t put_new(uint8_t *h, uint32_t end)
{
	uint32_t fill = bitmap_filler(end), ext = end + fill;

	if (fill) {
		st_be32(h + end, EXT_FILLER);
		st_be32(h + end + 4, fill - EXT_HEAD);
		memset(h + end + EXT_HEAD, 0, fill - EXT_HEAD);
	}
	st_be32(h + ext, EXT_BITMAPS);
	st_be32(h + ext + 4, EXT_LEN);
	memset(h + ext + EXT_HEAD + EXT_LEN, 0, EXT_HEAD);
	return ext;
}

static int set_autoclear(struct qcow2 *q, struct co *c, uint8_t *h, bool on)
{
	q->autoclear = on ? q->autoclear | AUTOCLEAR_BITMAPS : q->autoclear & ~AUTOCLEAR_BITMAPS;
	st_be64(h + H_AUTOCLEAR, q->autoclear);
	return write_sectors(q, c, h, 0, 512);
}

/* No bitmap is left: nor is the extension, if it is the last. */
static int drop_extension(struct qcow2 *q, struct co *c, uint8_t *h)
{
	uint32_t ext, end;
	int ret = set_autoclear(q, c, h, false);

	find_extension(q, h, &ext, &end);
	if (ret || !ext || end != ext + EXT_HEAD + EXT_LEN)
		return ret;
	memset(h + ext, 0, EXT_HEAD + EXT_LEN);
	return write_sectors(q, c, h, ext, ext + EXT_HEAD + EXT_LEN);
}

/* A header of one sector that is full: written anew, without the names of features, which are there for people. */
static int write_small(struct qcow2 *q, struct co *c, uint8_t *h, bool *touched)
{
	const struct header_names names = { .backing = q->backing_name, .backing_format = q->backing_format, .data_file = q->data_name,
					    .crypt_off = q->crypt_off, .crypt_len = q->crypt_len, .n_bitmaps = q->n_bitmaps,
					    .bitmap_dir_off = q->bitmap_dir_off, .bitmap_dir_len = q->bitmap_dir_len };

	if (q->cluster != 512 || put_names(h, q->cluster, q->header_len, &names))
		return -E2BIG;
	*touched = true;
	return set_autoclear(q, c, h, true);
}

/* *touched: the disk may have it, also if it fails. */
static int write_extension(struct qcow2 *q, struct co *c, bool *touched)
{
	uint32_t ext, end, from;
	uint64_t len = MAX(MIN(q->cluster, MAX_HEADER), 512u);
	uint8_t *h = q_buf(len);
	bool counts = q->autoclear & AUTOCLEAR_BITMAPS, straddles;
	int ret = h ? q_rw(q, c, q->n.file, BLK_READ, 0, h, len) : -ENOMEM;

	if (ret)
		goto out;
	find_extension(q, h, &ext, &end);
	if (!q->n_bitmaps) {
		*touched = true;
		ret = drop_extension(q, c, h);
		goto out;
	}
	if (!ext)
		ret = make_room(q, c, h, end);
	if (ret == -E2BIG) {
		ret = write_small(q, c, h, touched);
		goto out;
	}
	if (ret)
		goto out;
	*touched = true;
	straddles = ext && (ext + EXT_HEAD) / 512 != (ext + EXT_HEAD + EXT_LEN - 1) / 512;
	/* Not to be believed while it is half written. */
	if (counts && straddles)
		ret = set_autoclear(q, c, h, false);
	from = ext ? ext : end;
	if (!ext)
		ext = put_new(h, end);
	put_payload(q, h + ext + EXT_HEAD);
	ret = ret ? ret : write_sectors(q, c, h, from, ext + EXT_HEAD + EXT_LEN + (from == end ? EXT_HEAD : 0));
	if (!ret && !(q->autoclear & AUTOCLEAR_BITMAPS))
		ret = set_autoclear(q, c, h, true);
out:
	free(h);
	return ret;
}

/* ---- bits, tables, directory ---- */

/* What becomes free when the new directory counts. */
static int free_bitmap(struct qcow2 *q, struct co *c, uint64_t table, uint32_t n)
{
	uint64_t *t;
	int ret;

	if (!table || !host_ok(q, table) || n > MAX_L1_BYTES / 8)
		return 0;
	ret = l1_load(q, c, table, n, &t);
	if (ret)
		return ret;
	for (uint32_t i = 0; i < n && !ret; i++)
		if ((t[i] & OFFSET_MASK) && host_ok(q, t[i] & OFFSET_MASK))
			ret = free_later(q, t[i] & OFFSET_MASK, 1, true);
	free(t);
	return ret ? ret : free_later(q, table, (n * 8ull + q->cluster - 1) >> q->cluster_bits, true);
}

static int write_bits(struct qcow2 *q, struct co *c, struct bitmap *b, struct fresh *f, uint64_t *table, uint32_t n)
{
	uint8_t *buf = q_buf(q->cluster);
	uint64_t *t = calloc(MAX(n, 1u), sizeof(*t));
	int ret = buf && t ? fresh_alloc(q, c, f, n * 8ull, table) : -ENOMEM;

	for (uint32_t i = 0; i < n && !ret; i++) {
		enum bits_kind kind = bits_bytes(&b->bits, (uint64_t)i << q->cluster_bits, buf, q->cluster);

		t[i] = kind == BITS_ONES ? TABLE_ONES : 0;
		if (kind != BITS_MIXED)
			continue;
		ret = fresh_alloc(q, c, f, q->cluster, &t[i]);
		ret = ret ? ret : q_rw(q, c, q->n.file, BLK_WRITE, t[i], buf, q->cluster);
	}
	ret = ret ? ret : write_table(q, c, *table, t, n, align_up(n * 8ull, q->cluster));
	free(buf);
	free(t);
	return ret;
}

/* The flags an entry gets. */
static uint32_t flags_for(const struct bitmap *b, bool closing)
{
	uint32_t flags = b->flags & ~BITMAP_IN_USE;

	if (bitmap_inconsistent(b) || (!closing && b->held && (flags & BITMAP_AUTO)))
		flags |= BITMAP_IN_USE;
	return flags;
}

static void put_entry(const struct bitmap *b, uint32_t flags, uint64_t table, uint32_t n, uint8_t *p)
{
	size_t name = strlen(b->name);

	st_be64(p + B_TABLE, table);
	st_be32(p + B_TABLE_SIZE, n);
	st_be32(p + B_FLAGS, flags);
	p[B_TYPE] = b->type;
	p[B_GRANULARITY] = b->granularity;
	st_be16(p + B_NAME_LEN, (uint16_t)name);
	st_be32(p + B_EXTRA_LEN, b->extra_len);
	memcpy(p + BITMAP_ENTRY, b->extra, b->extra_len);
	memcpy(p + BITMAP_ENTRY + b->extra_len, b->name, name);
}

struct place {
	uint64_t table;
	uint32_t n;
};

static int write_directory(struct qcow2 *q, struct co *c, bool closing, const struct place *at, struct fresh *f, uint64_t *off,
			   uint64_t *len)
{
	uint64_t total = 0, pos = 0;
	uint8_t *dir;
	int ret;

	for (unsigned i = 0; i < q->n_bitmaps; i++)
		total += bitmap_entry_len(&q->bitmap[i]);
	*off = 0;
	*len = total;
	if (!total)
		return 0;
	if (total > MAX_BITMAP_DIR)
		return -EFBIG;
	dir = q_buf(align_up(total, q->cluster));
	if (!dir)
		return -ENOMEM;
	memset(dir, 0, align_up(total, q->cluster));
	for (unsigned i = 0; i < q->n_bitmaps; i++) {
		put_entry(&q->bitmap[i], flags_for(&q->bitmap[i], closing), at[i].table, at[i].n, dir + pos);
		pos += bitmap_entry_len(&q->bitmap[i]);
	}
	ret = fresh_alloc(q, c, f, total, off);
	ret = ret ? ret : q_rw(q, c, q->n.file, BLK_WRITE, *off, dir, align_up(total, q->cluster));
	free(dir);
	return ret;
}

/* Bits that the disk should have: all, but those of one that goes on recording will be written at the end, and so will
 * what a backup has put aside. */
static bool to_write(const struct bitmap *b, bool closing)
{
	if (b->owner)
		return false;
	return !b->table || (b->changed && (closing || !(b->flags & BITMAP_AUTO)));
}

/* Everything new, in new places; *at is where. */
static int write_new(struct qcow2 *q, struct co *c, bool closing, struct place *at, struct fresh *f, uint64_t *off, uint64_t *len)
{
	int ret = 0;

	for (unsigned i = 0; i < q->n_bitmaps && !ret; i++) {
		struct bitmap *b = &q->bitmap[i];

		at[i] = (struct place){ b->table, b->table_size };
		if (!to_write(b, closing))
			continue;
		at[i].n = bitmap_table_size(q, b);
		ret = write_bits(q, c, b, f, &at[i].table, at[i].n);
	}
	ret = ret ? ret : write_directory(q, c, closing, at, f, off, len);
	ret = ret ? ret : q_commit(q, c);
	return ret ? ret : q_barrier(q, c);
}

/* The disk has the new ones: the old ones go. What cannot be given back now is a leak. */
static void settle(struct qcow2 *q, struct co *c, bool closing, const struct place *at, uint64_t old_dir, uint64_t old_len)
{
	for (unsigned i = 0; i < q->n_bitmaps; i++) {
		struct bitmap *b = &q->bitmap[i];
		uint32_t flags = flags_for(b, closing);

		b->flags = flags;
		b->held = b->held && (flags & BITMAP_IN_USE);
		if (at[i].table == b->table)
			continue;
		free_bitmap(q, c, b->table, b->table_size);
		b->table = at[i].table;
		b->table_size = at[i].n;
		b->changed = false;
	}
	if (q->bitmap_gone)
		free_bitmap(q, c, q->bitmap_gone, q->bitmap_gone_size);
	q->bitmap_gone = 0;
	if (old_dir)
		free_later(q, old_dir, (old_len + q->cluster - 1) >> q->cluster_bits, true);
	/* If this fails the next flush does it, or tells. */
	q_commit(q, c);
}

static int store(struct qcow2 *q, struct co *c, bool closing, struct place *at)
{
	uint64_t old_dir = q->bitmap_dir_off, old_len = q->bitmap_dir_len, off, len;
	struct fresh f = { 0 };
	bool touched = false;
	int ret = write_new(q, c, closing, at, &f, &off, &len);

	if (!ret) {
		q->bitmap_dir_off = off;
		q->bitmap_dir_len = len;
		ret = write_extension(q, c, &touched);
	}
	/* Nobody knows which directory the disk names. */
	if (ret && touched)
		ret = q_stuck(q, "its header could not be written");
	if (ret) {
		q->bitmap_dir_off = old_dir;
		q->bitmap_dir_len = old_len;
		if (!touched)
			fresh_drop(q, c, &f);
	}
	free(f.a);
	if (!ret)
		settle(q, c, closing, at, old_dir, old_len);
	return ret;
}

int bitmaps_store(struct qcow2 *q, struct co *c, bool closing)
{
	struct place *at = calloc(MAX(q->n_bitmaps, 1u), sizeof(*at));
	int ret = at ? store(q, c, closing, at) : -ENOMEM;

	free(at);
	return ret;
}

bool bitmaps_unsaved(const struct qcow2 *q)
{
	for (unsigned i = 0; q->bitmap && i < q->n_bitmaps; i++)
		if (q->bitmap[i].held || q->bitmap[i].changed)
			return true;
	return false;
}

int bitmaps_finish(struct qcow2 *q, struct co *c)
{
	bool changed = false;

	if (q->broken)
		return -EIO;
	bitmaps_thaw_all(q);
	q->n_recording = 0;
	for (unsigned i = 0; i < q->n_bitmaps; i++)
		changed |= q->bitmap[i].changed;
	if (changed)
		return bitmaps_store(q, c, true);
	/* As they were: only the marks go. */
	for (unsigned i = 0; i < q->n_bitmaps; i++) {
		q->bitmap[i].flags &= q->bitmap[i].held ? ~BITMAP_IN_USE : ~0u;
		q->bitmap[i].held = false;
	}
	return bitmaps_write_flags(q, c);
}

int bitmaps_write_flags(struct qcow2 *q, struct co *c)
{
	uint64_t len = align_up(q->bitmap_dir_len, 512), pos = 0, sector;
	uint8_t *dir = q_buf(len);
	int ret = dir ? q_rw(q, c, q->n.file, BLK_READ, q->bitmap_dir_off, dir, len) : -ENOMEM;

	for (unsigned i = 0; i < q->n_bitmaps && !ret; i++) {
		struct bitmap *b = &q->bitmap[i];
		uint32_t old = ld_be32(dir + pos + B_FLAGS), new = old & ~BITMAP_IN_USE;

		if (b->held || (b->flags & BITMAP_IN_USE))
			new |= BITMAP_IN_USE;
		st_be32(dir + pos + B_FLAGS, new);
		sector = align_down(pos + B_FLAGS, 512);
		if (new != old)
			ret = q_rw(q, c, q->n.file, BLK_WRITE, q->bitmap_dir_off + sector, dir + sector, 512);
		b->flags = (b->flags & ~BITMAP_IN_USE) | (new & BITMAP_IN_USE);
		pos += bitmap_entry_len(b);
	}
	free(dir);
	return ret ? ret : q_barrier(q, c);
}
