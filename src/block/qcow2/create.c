/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New qcow2 images.
 *
 * An empty image is header, refcount table, one refcount block and L1 table, in
 * this order; the refcount blocks that describe large L1 tables follow the first.
 * Preallocation then opens the image and gives every cluster its place.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "block/luks/luks.h"
#include "block/qcow2/internal.h"

#define FEATURE_LEN 48u

struct layout {
	uint32_t cluster;
	unsigned cluster_bits, rc_order, header_len;
	uint64_t size, l1_size, rt_clusters, rb_clusters, l1_clusters, crypt_len, crypt_clusters;
	uint64_t incompat, compat, autoclear;
};

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EINVAL, "a qcow2 image cannot be made: %s", what);
}

static int choose(const struct qcow2_create_opts *o, struct layout *y, struct err *e)
{
	unsigned version = o->version ? o->version : 3, rc_bits = o->refcount_bits ? o->refcount_bits : 16;

	y->cluster = o->cluster_size ? o->cluster_size : 65536;
	if (!is_pow2(y->cluster) || y->cluster < 512 || y->cluster > 2u << 20)
		return bad(e, "the cluster size is a power of two from 512 to 2M");
	if (version != 2 && version != 3)
		return bad(e, "the version is 2 or 3");
	if (!is_pow2(rc_bits) || rc_bits > 64)
		return bad(e, "refcounts have 1, 2, 4, 8, 16, 32 or 64 bits");
	if (version == 2 && (rc_bits != 16 || o->lazy_refcounts || o->extended_l2 || o->compression || o->data_file))
		return bad(e, "version 2 has neither refcounts of other than 16 bits nor lazy ones, extended L2 entries, "
			      "compression other than zlib or a data file");
	if (o->extended_l2 && y->cluster < 16384)
		return bad(e, "subclusters need clusters of 16K or more");
	if (o->data_file_raw && (!o->data_file || o->backing))
		return bad(e, "data_file_raw needs a data file and no backing file");
	if (o->backing && o->prealloc && (!o->extended_l2 || o->prealloc != QCOW2_PREALLOC_METADATA))
		return bad(e, "preallocation hides the backing file");
	if (o->backing && strlen(o->backing) > 1023)
		return bad(e, "the backing file's name is longer than 1023 bytes");
	if (o->luks && (o->data_file_raw || (o->prealloc && version == 2)))
		return bad(e, "encryption goes neither with data_file_raw nor, in version 2, with preallocation");
	if (o->size > (uint64_t)INT64_MAX - 511)
		return bad(e, "the disk is too large");
	y->size = align_up(o->size, BLK_SECTOR);
	y->cluster_bits = (unsigned)__builtin_ctz(y->cluster);
	y->rc_order = (unsigned)__builtin_ctz(rc_bits);
	y->header_len = version == 2 ? H_V2_LEN : o->compression ? H_V3_LEN + 8 : H_V3_LEN;
	y->incompat = (o->data_file ? INCOMPAT_DATA_FILE : 0) | (o->compression ? INCOMPAT_COMPRESSION : 0) |
		      (o->extended_l2 ? INCOMPAT_EXT_L2 : 0);
	y->compat = o->lazy_refcounts ? COMPAT_LAZY : 0;
	y->autoclear = o->data_file_raw ? AUTOCLEAR_RAW_DATA : 0;
	return 0;
}

/* How many clusters each table takes. */
static int measure(const struct qcow2_create_opts *o, struct layout *y, struct err *e)
{
	unsigned span = y->cluster_bits * 2 - (o->extended_l2 ? 4 : 3);
	uint64_t per_block = (uint64_t)y->cluster * 8 >> y->rc_order, before = 0, used = 0;

	y->l1_size = (y->size >> span) + ((y->size & (BIT64(span) - 1)) != 0);
	if (y->l1_size * 8 > MAX_L1_BYTES)
		return bad(e, "the disk is too large for clusters of this size");
	y->l1_clusters = MAX((y->l1_size * 8 + y->cluster - 1) >> y->cluster_bits, 1u);
	y->crypt_len = o->luks ? luks_header_size(o->luks) : 0;
	y->crypt_clusters = (y->crypt_len + y->cluster - 1) >> y->cluster_bits;
	y->rt_clusters = y->rb_clusters = 1;
	do {
		before = used;
		used = 1 + y->rt_clusters + y->rb_clusters + y->l1_clusters + y->crypt_clusters;
		y->rb_clusters = (used + per_block - 1) / per_block;
		y->rt_clusters = (y->rb_clusters * 8 + y->cluster - 1) >> y->cluster_bits;
	} while (used != before);
	if (y->rt_clusters << y->cluster_bits > MAX_RT_BYTES)
		return bad(e, "the disk is too large for clusters and refcounts of this size");
	return 0;
}

/* In clusters: behind all tables. */
static uint64_t crypt_place(const struct layout *y)
{
	return 1 + y->rt_clusters + y->rb_clusters + y->l1_clusters;
}

static uint8_t *put_extension(uint8_t *p, uint32_t type, const void *data, size_t len)
{
	st_be32(p, type);
	st_be32(p + 4, (uint32_t)len);
	memcpy(p + 8, data, len);
	return p + 8 + align_up(len, 8);
}

/* Names of the features that programs which do not know them can show. */
static uint8_t *put_features(uint8_t *p)
{
	static const struct {
		uint8_t kind, bit;
		const char *name;
	} f[] = {
		{ 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" },
		{ 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
		{ 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
	};
	uint8_t table[ARRAY_LEN(f) * FEATURE_LEN] = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(f); i++) {
		table[i * FEATURE_LEN] = f[i].kind;
		table[i * FEATURE_LEN + 1] = f[i].bit;
		memcpy(table + i * FEATURE_LEN + 2, f[i].name, strlen(f[i].name));
	}
	return put_extension(p, EXT_FEATURES, table, sizeof(table));
}

int put_names(uint8_t *h, uint32_t cluster, unsigned header_len, const struct header_names *n)
{
	const char *backing = n->backing;
	uint8_t *p = h + header_len, crypt[16], bitmaps[24];
	size_t need = header_len + 8 + (backing ? strlen(backing) : 0) + (n->backing_format ? strlen(n->backing_format) + 16 : 0) +
		      (n->data_file ? strlen(n->data_file) + 16 : 0) + (n->crypt_len ? 24 : 0) + (n->n_bitmaps ? 32 + 16 : 0);

	if (need > cluster)
		return -ENOSPC;
	memset(p, 0, cluster - header_len);
	if (n->backing_format)
		p = put_extension(p, EXT_BACKING_FORMAT, n->backing_format, strlen(n->backing_format));
	if (n->data_file)
		p = put_extension(p, EXT_DATA_FILE, n->data_file, strlen(n->data_file));
	if (n->crypt_len) {
		st_be64(crypt, n->crypt_off);
		st_be64(crypt + 8, n->crypt_len);
		p = put_extension(p, EXT_CRYPTO, crypt, sizeof(crypt));
	}
	if (n->n_bitmaps) {
		uint32_t fill = bitmap_filler((uint32_t)(p - h));

		if (fill)
			p = put_extension(p, EXT_FILLER, "\0\0\0\0\0\0\0", fill - 8);
		st_be64(bitmaps, (uint64_t)n->n_bitmaps << 32);
		st_be64(bitmaps + 8, n->bitmap_dir_len);
		st_be64(bitmaps + 16, n->bitmap_dir_off);
		p = put_extension(p, EXT_BITMAPS, bitmaps, sizeof(bitmaps));
	}
	if (header_len >= H_V3_LEN && need + 8 + 8 * FEATURE_LEN <= cluster)
		p = put_features(p);
	p += 8;
	st_be64(h + H_BACKING_OFF, backing ? (uint64_t)(p - h) : 0);
	st_be32(h + H_BACKING_LEN, backing ? (uint32_t)strlen(backing) : 0);
	if (backing)
		memcpy(p, backing, strlen(backing));
	return 0;
}

static int put_header(uint8_t *h, const struct qcow2_create_opts *o, const struct layout *y)
{
	st_be32(h + H_MAGIC, QCOW2_MAGIC);
	st_be32(h + H_VERSION, o->version ? o->version : 3);
	st_be32(h + H_CLUSTER_BITS, y->cluster_bits);
	st_be64(h + H_SIZE, y->size);
	st_be64(h + H_RT_OFF, y->cluster);
	st_be32(h + H_RT_CLUSTERS, (uint32_t)y->rt_clusters);
	st_be64(h + H_L1_OFF, (1 + y->rt_clusters + y->rb_clusters) << y->cluster_bits);
	st_be32(h + H_L1_SIZE, (uint32_t)y->l1_size);
	if (y->header_len > H_V2_LEN) {
		st_be64(h + H_INCOMPAT, y->incompat);
		st_be64(h + H_COMPAT, y->compat);
		st_be64(h + H_AUTOCLEAR, y->autoclear);
		st_be32(h + H_RC_ORDER, y->rc_order);
		st_be32(h + H_LENGTH, y->header_len);
	}
	if (o->compression)
		h[H_COMPRESSION] = (uint8_t)o->compression;
	if (o->luks)
		st_be32(h + H_CRYPT, QCOW2_CRYPT_LUKS);
	return put_names(h, y->cluster, y->header_len,
			 &(struct header_names){ .backing = o->backing, .backing_format = o->backing_format, .data_file = o->data_file,
						 .crypt_off = o->luks ? crypt_place(y) << y->cluster_bits : 0, .crypt_len = y->crypt_len });
}

static int write_tables(struct blk_node *file, const struct layout *y, uint8_t *buf)
{
	uint64_t used = crypt_place(y) + y->crypt_clusters, per_block = (uint64_t)y->cluster * 8 >> y->rc_order;
	uint64_t at = y->cluster;
	int ret = 0;

	for (uint64_t i = 0; i < y->rt_clusters && !ret; i++, at += y->cluster) {
		memset(buf, 0, y->cluster);
		for (uint64_t k = 0; k < y->cluster / 8 && i * (y->cluster / 8) + k < y->rb_clusters; k++)
			st_be64(buf + k * 8, (1 + y->rt_clusters + i * (y->cluster / 8) + k) << y->cluster_bits);
		ret = blk_pwrite(file, at, buf, y->cluster);
	}
	for (uint64_t i = 0; i < y->rb_clusters && !ret; i++, at += y->cluster) {
		memset(buf, 0, y->cluster);
		for (uint64_t k = 0; k < per_block && i * per_block + k < used; k++)
			rc_field_set(buf, k, y->rc_order, 1);
		ret = blk_pwrite(file, at, buf, y->cluster);
	}
	memset(buf, 0, y->cluster);
	for (uint64_t i = 0; i < y->l1_clusters && !ret; i++, at += y->cluster)
		ret = blk_pwrite(file, at, buf, y->cluster);
	return ret;
}

struct fill {
	uint64_t from;
	bool shows;			/* the backing file goes on showing through; else the clusters read as zeros */
};

/* A place with nothing in it. Its zeros are noise if they are decrypted, so that it must be called zero. */
static struct entry empty_entry(const struct qcow2 *q, uint64_t host, bool shows)
{
	struct entry e = { host | OFLAG_COPIED, shows ? 0 : 0xffffffff };

	if (q->crypt_method && q->ext_l2)
		e.bitmap <<= 32;
	else if (q->crypt_method)
		e.e |= OFLAG_ZERO;
	return e;
}

/* Gives clusters their place, by writing zeros' worth of nothing: tables only. */
static int fill_tables(struct qcow2 *q, struct co *c, void *arg)
{
	const struct fill *f = arg;
	uint64_t host, end = align_up(q->n.i.size, q->cluster);
	int ret = 0;
	bool zero = true;

	for (uint64_t off = align_up(f->from, q->cluster); off < end && !ret; off += q->cluster) {
		struct slice *s;

		ret = l2_get_for_write(q, c, off, &s);
		if (!ret && (entry_get(q, s, off).e & OFFSET_MASK))
			continue;
		if (!ret && q->ext_data)
			host = off;
		else
			ret = ret ? ret : alloc_clusters(q, c, 1, &host, &zero);
		if (!ret && !q->ext_data && !zero)
			ret = zero_clusters(q, c, host, 1);
		ret = ret ? ret : l2_get_for_write(q, c, off, &s);
		if (!ret)
			entry_set(q, s, off, empty_entry(q, host, f->shows));
	}
	return ret;
}

static int write_full(struct blk_node *n, uint64_t from, struct err *e)
{
	size_t step = 1u << 20;
	uint8_t *zeros = q_buf(step);
	int ret = zeros ? 0 : -ENOMEM;

	if (zeros)
		memset(zeros, 0, step);
	for (uint64_t at = from; at < n->i.size && !ret; at += step)
		ret = blk_pwrite(n, at, zeros, MIN(step, n->i.size - at));
	free(zeros);
	return ret ? err_set(e, ret, "the clusters of the new image cannot be written: %s", strerror(-ret)) : 0;
}

static int prealloc_from(struct blk_node *n, struct fill f, enum qcow2_prealloc mode, struct err *e)
{
	struct qcow2 *q = to_q(n);
	int ret;

	if (q->crypt_method && q->version < 3)
		return err_set(e, -ENOTSUP, "image '%s' is encrypted and of version 2, which has no word for zeros: it is not "
			       "preallocated", n->path ? n->path : "");
	ret = q_alone(q, fill_tables, &f);
	if (ret)
		err_set(e, ret, "the clusters of image '%s' cannot be given their places: %s", n->path ? n->path : "", strerror(-ret));
	/* The file must reach to the end of the last cluster. */
	if (!ret && (q->store->i.size < n->i.size || !q->ext_data))
		ret = blk_resize(q->store, q->ext_data ? n->i.size : MAX(q->end << q->cluster_bits, q->store->i.size), e);
	if (!ret && mode == QCOW2_PREALLOC_FALLOC)
		ret = blk_file_reserve(q->store, e);
	if (!ret && mode == QCOW2_PREALLOC_FULL)
		ret = write_full(n, f.from, e);
	return ret;
}

int qcow2_preallocate(struct blk_node *n, uint64_t from, enum qcow2_prealloc mode, struct err *e)
{
	int ret;

	if (mode == QCOW2_PREALLOC_OFF)
		return 0;
	ret = prealloc_from(n, (struct fill){ from, false }, mode, e);
	blk_drain(n);
	return ret;
}

static int preallocate(struct blk_node *file, const struct qcow2_create_opts *o, struct err *e)
{
	struct blk_image_opts io = { .trust = BLK_TRUST_ALL, .no_backing = true, .secrets = o->secrets, .keys = &o->key,
				     .n_keys = o->luks ? 1 : 0 };
	struct blk_node *n;
	int ret = qcow2_open(file, &io, 0, &n, e);

	if (ret)
		return ret;
	ret = prealloc_from(n, (struct fill){ 0, to_q(n)->backing_name }, o->prealloc, e);
	blk_drain(n);
	if (qcow2_close_inner(n) && !ret)
		ret = err_set(e, -EIO, "the tables of the new image cannot be written");
	return ret;
}

int qcow2_create_check(const struct qcow2_create_opts *o, struct err *e)
{
	struct layout y = { 0 };
	int ret = choose(o, &y, e);

	return ret ? ret : measure(o, &y, e);
}

int qcow2_create(struct blk_node *file, const struct qcow2_create_opts *o, struct err *e)
{
	struct layout y = { 0 };
	int ret = choose(o, &y, e);
	uint8_t *buf;

	ret = ret ? ret : measure(o, &y, e);
	if (ret)
		return ret;
	if (o->luks) {
		ret = crypt_create(file, crypt_place(&y) << y.cluster_bits, o, e);
		if (ret)
			return ret;
	}
	buf = q_buf(y.cluster);
	if (!buf)
		return err_set(e, -ENOMEM, "out of memory for a new image");
	memset(buf, 0, y.cluster);
	ret = put_header(buf, o, &y);
	if (ret)
		err_set(e, ret, "the names in the image's header do not fit into a cluster of %u bytes", y.cluster);
	/* The header last: half an image is none. */
	if (!ret) {
		uint8_t *tables = q_buf(y.cluster);

		ret = tables ? write_tables(file, &y, tables) : -ENOMEM;
		free(tables);
		ret = ret ? ret : blk_pwrite(file, 0, buf, y.cluster);
		ret = ret ? ret : blk_flush(file);
		if (ret)
			err_set(e, ret, "the new image cannot be written: %s", strerror(-ret));
	}
	free(buf);
	return ret || !o->prealloc ? ret : preallocate(file, o, e);
}
