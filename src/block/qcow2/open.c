/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening a qcow2 image: header, extensions, tables, the files it names.
 *
 * Everything in the header is checked against the limits of internal.h before it
 * is used, so that no image makes us allocate or compute beyond them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/log.h"
#include "block/image_int.h"
#include "block/protocol.h"
#include "block/qcow2/internal.h"

#define MAX_HEADER (64u << 10)
#define MAX_BACKING_NAME 1023u
#define DEFAULT_CACHE (32u << 20)

struct opening {
	struct qcow2 *q;
	const struct blk_image_opts *o;
	const char *path;
	uint8_t *head;			/* the first MAX_HEADER bytes, zeros behind the end of the file */
	struct err *e;
};

static int bad(struct opening *op, int code, const char *what)
{
	return err_set(op->e, code, "image '%s' is no good: %s", op->path, what);
}

uint64_t l1_needed(const struct qcow2 *q, uint64_t size)
{
	unsigned shift = q->cluster_bits + q->l2_bits;

	return (size >> shift) + ((size & (BIT64(shift) - 1)) != 0);
}

/* Is [off, off + n * each) a place a table may have? */
static bool table_ok(const struct qcow2 *q, uint64_t off, uint64_t n, uint64_t each)
{
	return !(off & (q->cluster - 1)) && range_inside(off, n * each, MAX_HOST);
}

static int parse_v3(struct opening *op)
{
	struct qcow2 *q = op->q;
	const uint8_t *h = op->head;

	q->rc_order = 4;
	q->header_len = H_V2_LEN;
	if (q->version == 2)
		return 0;
	q->incompat = ld_be64(h + H_INCOMPAT);
	q->compat = ld_be64(h + H_COMPAT);
	q->autoclear = ld_be64(h + H_AUTOCLEAR);
	q->rc_order = ld_be32(h + H_RC_ORDER);
	q->header_len = ld_be32(h + H_LENGTH);
	if (q->incompat & ~INCOMPAT_KNOWN)
		return err_set(op->e, -ENOTSUP, "image '%s' uses features that are not known here (bits %" PRIx64 ")", op->path,
			       (uint64_t)(q->incompat & ~INCOMPAT_KNOWN));
	if (q->header_len < H_V3_LEN || q->header_len % 8 || q->header_len > q->cluster || q->header_len > MAX_HEADER)
		return bad(op, -EINVAL, "its header's length");
	if (q->rc_order > 6)
		return bad(op, -EINVAL, "its refcount width");
	if (q->header_len > H_COMPRESSION)
		q->compression = h[H_COMPRESSION];
	if (q->compression > QCOW2_ZSTD)
		return err_set(op->e, -ENOTSUP, "image '%s' uses a compression that is not known here (%d)", op->path,
			       q->compression);
	if (!(q->incompat & INCOMPAT_COMPRESSION) != (q->compression == QCOW2_ZLIB))
		return bad(op, -EINVAL, "its compression type");
	return 0;
}

static int parse_header(struct opening *op)
{
	struct qcow2 *q = op->q;
	const uint8_t *h = op->head;
	uint64_t rt_clusters = ld_be32(h + H_RT_CLUSTERS);
	int ret;

	q->version = ld_be32(h + H_VERSION);
	q->cluster_bits = ld_be32(h + H_CLUSTER_BITS);
	if (ld_be32(h) != QCOW2_MAGIC)
		return bad(op, -EINVAL, "this is not a qcow2 image");
	if (q->version < 2 || q->version > 3)
		return err_set(op->e, -ENOTSUP, "image '%s' is of version %u; 2 and 3 are known here", op->path, q->version);
	if (q->cluster_bits < MIN_CLUSTER_BITS || q->cluster_bits > MAX_CLUSTER_BITS)
		return bad(op, -EINVAL, "its cluster size");
	q->cluster = 1u << q->cluster_bits;
	q->crypt_method = ld_be32(h + H_CRYPT);
	ret = parse_v3(op);
	if (ret)
		return ret;
	q->ext_l2 = q->incompat & INCOMPAT_EXT_L2;
	q->ext_data = q->incompat & INCOMPAT_DATA_FILE;
	if (q->ext_l2 && q->cluster_bits < 14)
		return bad(op, -EINVAL, "its clusters are too small for subclusters");
	q->entry_size = q->ext_l2 ? 16 : 8;
	q->l2_bits = q->cluster_bits - (q->ext_l2 ? 4 : 3);
	q->sub_bits = q->cluster_bits - (q->ext_l2 ? 5 : 0);
	q->rb_bits = q->cluster_bits + 3 - q->rc_order;
	q->n.i.size = align_up(MIN(ld_be64(h + H_SIZE), (uint64_t)INT64_MAX - 511), BLK_SECTOR);
	q->l1_size = ld_be32(h + H_L1_SIZE);
	q->l1_off = ld_be64(h + H_L1_OFF);
	q->rt_off = ld_be64(h + H_RT_OFF);
	q->n_snaps = ld_be32(h + H_N_SNAPS);
	q->snaps_off = ld_be64(h + H_SNAPS_OFF);
	if (q->l1_size > MAX_L1_BYTES / 8 || l1_needed(q, q->n.i.size) > q->l1_size ||
	    !table_ok(q, q->l1_off, q->l1_size, 8))
		return bad(op, -EINVAL, "its L1 table");
	if (rt_clusters << q->cluster_bits > MAX_RT_BYTES || !rt_clusters || !q->rt_off ||
	    !table_ok(q, q->rt_off, rt_clusters, q->cluster))
		return bad(op, -EINVAL, "its refcount table");
	q->rt_size = (uint32_t)(rt_clusters << q->cluster_bits >> 3);
	if (q->n_snaps > MAX_SNAPSHOTS || (q->n_snaps && !table_ok(q, q->snaps_off, 1, q->cluster)))
		return bad(op, -EINVAL, "its snapshot table");
	return 0;
}

static int keep_text(struct opening *op, const uint8_t *text, size_t len, char **out)
{
	free(*out);
	*out = strndup((const char *)text, len);
	return *out ? 0 : err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
}

static int parse_bitmaps(struct opening *op, const uint8_t *p, uint32_t len)
{
	struct qcow2 *q = op->q;

	/* Only with its bit set is it to be believed. */
	if (len < 24 || !(q->autoclear & AUTOCLEAR_BITMAPS))
		return 0;
	q->n_bitmaps = ld_be32(p);
	q->bitmap_dir_len = ld_be64(p + 8);
	q->bitmap_dir_off = ld_be64(p + 16);
	return 0;
}

static int parse_extension(struct opening *op, uint32_t type, const uint8_t *p, uint32_t len)
{
	switch (type) {
	case EXT_BACKING_FORMAT:
		return len > 63 ? bad(op, -EINVAL, "the name of its backing file's format")
				: keep_text(op, p, len, &op->q->backing_format);
	case EXT_DATA_FILE:
		return keep_text(op, p, len, &op->q->data_name);
	case EXT_CRYPTO:
		return crypt_parse_extension(op->q, p, len) ? bad(op, -EINVAL, "the place of its LUKS header") : 0;
	case EXT_BITMAPS:
		return parse_bitmaps(op, p, len);
	default:
		return 0;
	}
}

static int parse_extensions(struct opening *op)
{
	struct qcow2 *q = op->q;
	uint64_t backing = ld_be64(op->head + H_BACKING_OFF), end = MIN(q->cluster, MAX_HEADER);
	int ret = 0;

	if (backing)
		end = MIN(end, backing);
	for (uint64_t at = q->header_len; !ret && at + 8 <= end;) {
		uint32_t type = ld_be32(op->head + at), len = ld_be32(op->head + at + 4);

		if (!type)
			break;
		if (len > end - at - 8)
			return bad(op, -EINVAL, "a header extension");
		ret = parse_extension(op, type, op->head + at + 8, len);
		at += 8 + align_up(len, 8);
	}
	return ret;
}

static int parse_backing(struct opening *op)
{
	struct qcow2 *q = op->q;
	uint64_t off = ld_be64(op->head + H_BACKING_OFF);
	uint32_t len = ld_be32(op->head + H_BACKING_LEN);

	if (!off || !len)
		return 0;
	if (len > MAX_BACKING_NAME || off < q->header_len || !range_inside(off, len, MIN(q->cluster, MAX_HEADER)))
		return bad(op, -EINVAL, "the name of its backing file");
	if (q->autoclear & AUTOCLEAR_RAW_DATA)
		return bad(op, -EINVAL, "a raw data file and a backing file");
	return keep_text(op, op->head + off, len, &q->backing_name);
}

int l1_load(struct qcow2 *q, struct co *c, uint64_t off, uint32_t n, uint64_t **out)
{
	uint64_t len = align_up(MAX(n, 1u) * 8ull, 512), *t = q_buf(len);
	int ret;

	if (!t)
		return -ENOMEM;
	ret = c ? q_rw(q, c, q->n.file, BLK_READ, off, t, len) : blk_pread(q->n.file, off, t, len);
	if (ret) {
		free(t);
		return ret;
	}
	for (uint32_t i = 0; i < n; i++)
		t[i] = __builtin_bswap64(t[i]);
	*out = t;
	return 0;
}

static int load_tables(struct opening *op)
{
	struct qcow2 *q = op->q;
	int ret = l1_load(q, NULL, q->l1_off, q->l1_size, &q->l1);

	ret = ret ? ret : l1_load(q, NULL, q->rt_off, q->rt_size, &q->rt);
	q->l1_dirty = calloc(q->l1_size / 64 + 1, 8);
	q->compress_tail = calloc(1, 512);
	if (!q->l1_dirty || !q->compress_tail)
		ret = ret ? ret : -ENOMEM;
	if (ret)
		return err_set(op->e, ret, "the tables of image '%s' cannot be read: %s", op->path, strerror(-ret));
	return 0;
}

static int init_caches(struct opening *op)
{
	struct qcow2 *q = op->q;
	uint64_t bytes = op->o->cache_bytes ? op->o->cache_bytes : DEFAULT_CACHE;
	/* No more than there can be to look at. */
	uint64_t all = l1_needed(q, q->n.i.size) << q->cluster_bits;
	unsigned slice = MIN(SLICE, q->cluster);
	int ret = cache_init(&q->l2c, slice, MIN(bytes - bytes / 8, MAX(all, 1u)));

	ret = ret ? ret : cache_init(&q->rbc, slice, bytes / 8);
	return ret ? err_set(op->e, ret, "out of memory while opening image '%s'", op->path) : 0;
}

static int open_backing(struct opening *op, unsigned depth)
{
	struct qcow2 *q = op->q;
	struct blk_image_opts o = *op->o;
	char *path;
	int ret;

	if (!q->backing_name || op->o->no_backing)
		return 0;
	ret = image_resolve(op->path, q->backing_name, "backing file", o.trust, &path, op->e);
	if (ret)
		return ret;
	o.file.read_only = o.backing_writable != 1;
	o.data_file = NULL;
	o.backing_writable -= o.backing_writable != 0;
	o.format = q->backing_format && *q->backing_format ? q->backing_format : NULL;
	/* What was probed may be a guest's invention: it names nothing further by itself. */
	if (!o.format && o.trust == BLK_TRUST_FOLDER)
		o.trust = BLK_TRUST_NONE;
	ret = image_open(q->n.loop, path, &o, depth + 1, &q->n.backing, op->e);
	free(path);
	if (!ret)
		q->backing_size = q->n.backing->i.size;
	return ret;
}

static int open_data_file(struct opening *op)
{
	struct qcow2 *q = op->q;
	struct blk_open_opts fo = op->o->file;
	char *path;
	int ret;

	q->data = q->store = q->n.file;
	if (!q->ext_data)
		return op->o->data_file ? err_set(op->e, -EINVAL, "image '%s' has no data file of its own: leave data-file out", op->path) : 0;
	if (op->o->data_file) {
		q->data = q->store = blk_ref(op->o->data_file);
		return 0;
	}
	if (!q->data_name || !*q->data_name)
		return bad(op, -EINVAL, "its data file has no name");
	ret = image_resolve(op->path, q->data_name, "data file", op->o->trust, &path, op->e);
	if (ret)
		return ret;
	fo.open_ended = true;
	ret = blk_open_protocol(q->n.loop, path, &fo, true, &q->store, op->e);
	free(path);
	if (ret)
		q->store = q->n.file;
	q->data = q->store;
	return ret;
}

struct starting {
	const char *which;		/* the bitmap that made trouble */
};

static int start_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct starting *s = arg;

	return bitmaps_start(q, c, &s->which);
}

/* Bitmaps that record begin to. */
static int start_bitmaps(struct opening *op)
{
	struct starting s = { NULL };
	int ret = op->q->n_bitmaps ? q_alone(op->q, start_main, &s) : 0;

	if (!ret)
		return 0;
	if (s.which)
		return err_set(op->e, ret, "image '%s' has a bitmap '%s' that records writes, which cannot be kept up to date (%s): open it "
			       "read-only", op->path, s.which, strerror(-ret));
	return bad(op, ret, "its bitmap directory");
}

/* Features that a writer who does not know them must take away. */
static int clear_unknown(struct qcow2 *q, struct co *c, void *arg)
{
	int ret;

	q->autoclear &= AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA;
	ret = write_header(q, c);
	return ret ? ret : q_barrier(q, c);
}

static int make_good(struct opening *op)
{
	struct qcow2 *q = op->q;
	struct qcow2_check res = { 0 };
	int ret;

	log_info("image '%s' was not closed properly: repairing its refcounts", op->path);
	ret = qcow2_check(&q->n, QCOW2_FIX_ERRORS | QCOW2_FIX_LEAKS, &res, op->e);
	if (!ret && (res.check_errors || res.corruptions != res.corruptions_fixed))
		ret = err_set(op->e, -EIO, "image '%s' could not be repaired: open it read-only", op->path);
	return ret;
}

/* Writable images: what must be so before the first write. */
static int prepare_write(struct opening *op)
{
	struct qcow2 *q = op->q;
	int ret = 0;

	if (q->n.i.read_only)
		return 0;
	if ((q->autoclear & ~(AUTOCLEAR_BITMAPS | AUTOCLEAR_RAW_DATA)) && q_alone(q, clear_unknown, NULL))
		return bad(op, -EIO, "its header cannot be written");
	/* The data file is the disk's, in length too. */
	if (q->ext_data && blk_extend(q->data, q->n.i.size))
		return err_set(op->e, -EIO, "the data file of image '%s' is too short and cannot be made longer", op->path);
	if (op->o->repair)
		return 0;
	if (q->incompat & INCOMPAT_CORRUPT)
		return err_set(op->e, -EIO, "image '%s' is marked as corrupt: repair it first, or open it read-only", op->path);
	ret = q->incompat & INCOMPAT_DIRTY ? make_good(op) : 0;
	ret = ret ? ret : start_bitmaps(op);
	if (!ret)
		ahead_recover(q);
	return ret;
}

static void q_free(struct qcow2 *q)
{
	crew_close(q);
	bitmaps_free(q);
	snaps_forget(q);
	if (q->data && q->data != q->store)
		blk_close(q->data);
	if (q->store && q->store != q->n.file)
		blk_close(q->store);
	blk_close(q->n.backing);
	cache_fini(&q->l2c);
	cache_fini(&q->rbc);
	qcow2_subs_free(q);
	co_pool_fini(&q->cos);
	free(q->l1);
	free(q->rt);
	free(q->l1_dirty);
	free(q->freed);
	free(q->compress_tail);
	free(q->backing_name);
	free(q->backing_format);
	free(q->data_name);
	blk_node_fini(&q->n);
	free(q);
}

static int commit_all(struct qcow2 *q, struct co *c, void *arg)
{
	int ret = bitmaps_unsaved(q) ? bitmaps_finish(q, c) : 0;

	q_settle_flags(q, c);
	/* Clusters given back by the first are counted by the second. */
	for (unsigned i = 0; i < 2 && !ret && !q_clean(q); i++)
		ret = q_commit(q, c);
	q_mark_damage(q, c);
	return ret ? ret : q_barrier(q, c);
}

int qcow2_close_inner(struct blk_node *n)
{
	struct qcow2 *q = to_q(n);
	int ret;

	/* No request of our own any more. */
	q->ready = false;
	ret = n->i.read_only || (q_clean(q) && !bitmaps_unsaved(q) && !q->flags_due) ? 0 : q_alone(q, commit_all, NULL);

	if (ret)
		log_warn("image '%s' could not be completed while closing it: %s", n->path ? n->path : "", strerror(-ret));
	/* Room that was made ahead and is not needed. */
	if (!ret)
		ahead_give_back(q);
	q_free(q);
	return ret;
}

static void qcow2_close(struct blk_node *n)
{
	struct blk_node *file = n->file;

	qcow2_close_inner(n);
	blk_close(file);
}

/* Everything on disk, as before closing it. */
static int complete(struct qcow2 *q)
{
	int ret = q_clean(q) && !bitmaps_unsaved(q) ? 0 : q_alone(q, commit_all, NULL);

	return ret ? ret : blk_flush(q->n.file);
}

static int reopen_files(struct qcow2 *q, const struct blk_reopen *how, struct err *e)
{
	const struct blk_reopen back = { .read_only = q->n.i.read_only };
	int ret = blk_reopen(q->n.file, how, e);

	if (!ret && q->data != q->n.file) {
		ret = blk_reopen(q->data, how, e);
		if (ret)
			blk_reopen(q->n.file, &back, NULL);
	}
	return ret;
}

/* It stays writable after all: what the disk says of bitmaps that record is to be marked again before the next write. */
static void record_again(struct qcow2 *q)
{
	if (start_bitmaps(&(struct opening){ .q = q, .path = q->n.path ? q->n.path : "" }))
		q_stuck(q, "its bitmaps could not be marked as in use");
}

static int qcow2_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	struct qcow2 *q = to_q(n);
	const struct blk_image_opts none = { 0 };
	const struct blk_reopen back = { .read_only = n->i.read_only };
	struct opening op = { .q = q, .o = &none, .path = n->path, .e = e };
	bool ends = how->read_only && !n->i.read_only, begins = !how->read_only && n->i.read_only;
	int ret = ends ? complete(q) : 0;

	if (ret)
		err_set(e, ret, "image '%s' cannot be completed: %s", n->path, strerror(-ret));
	else
		ret = reopen_files(q, how, e);
	if (ret && ends)
		record_again(q);
	if (ret)
		return ret;
	n->i.read_only = how->read_only;
	n->i.can_discard = n->i.can_zero = !how->read_only;
	ret = begins ? prepare_write(&op) : 0;
	if (!ret)
		return 0;
	n->i.read_only = true;
	n->i.can_discard = n->i.can_zero = false;
	reopen_files(q, &back, NULL);
	return ret;
}

/* A cipher stands on the data file, which it has not got as a child that it owns. */
static int qcow2_move(struct blk_node *n, struct loop *l)
{
	struct qcow2 *q = to_q(n);
	struct blk_node *const own[] = { q->store != n->file ? q->store : NULL, q->data != q->store ? q->data : NULL, q->crew };
	struct loop *old = n->loop;
	int ret = 0;

	for (unsigned i = 0; i < ARRAY_LEN(own) && !ret; i++)
		ret = own[i] ? blk_move(own[i], l) : 0;
	for (unsigned i = 0; i < ARRAY_LEN(own) && ret; i++)
		if (own[i])
			blk_move(own[i], old);
	return ret;
}

static const struct blk_driver qcow2_driver = {
	.name = "qcow2",
	.submit = qcow2_submit,
	.wait = qcow2_wait,
	.finished = qcow2_finished,
	.resize = q_resize,
	.reopen = qcow2_reopen,
	.move = qcow2_move,
	.close = qcow2_close,
};

static int read_head(struct opening *op)
{
	struct blk_node *file = op->q->n.file;
	int ret;

	op->head = q_buf(MAX_HEADER);
	if (!op->head)
		return err_set(op->e, -ENOMEM, "out of memory while opening image '%s'", op->path);
	ret = blk_pread(file, 0, op->head, MAX_HEADER);
	return ret ? err_set(op->e, ret, "image '%s' cannot be read: %s", op->path, strerror(-ret)) : 0;
}

static void fill_info(struct qcow2 *q)
{
	struct blk_info *i = &q->n.i, *f = &q->n.file->i;

	i->read_only = f->read_only;
	i->request_align = BLK_SECTOR;
	i->physical_block = MAX(f->physical_block, 4096u);
	i->can_discard = i->can_zero = !i->read_only;
	i->can_compress = !q->ext_data && !q->crypt_method;
	i->cluster = q->cluster;
	q->end = q->extended = (f->size + q->cluster - 1) >> q->cluster_bits;
	/* Past its end a regular file reads as zeros, whatever was there before it. */
	q->zero_beyond = !f->is_device && !q->ext_data;
}

static int open_all(struct opening *op, unsigned depth)
{
	int ret = read_head(op);

	ret = ret ? ret : parse_header(op);
	ret = ret ? ret : parse_extensions(op);
	ret = ret ? ret : crypt_check(op->q, op->path, op->e);
	ret = ret ? ret : parse_backing(op);
	if (ret)
		return ret;
	fill_info(op->q);
	ret = load_tables(op);
	ret = ret ? ret : init_caches(op);
	ret = ret ? ret : open_data_file(op);
	ret = ret ? ret : crypt_open(op->q, op->o, depth, op->path, op->e);
	ret = ret ? ret : open_backing(op, depth);
	return ret ? ret : prepare_write(op);
}

int qcow2_open(struct blk_node *file, const struct blk_image_opts *o, unsigned depth, struct blk_node **out,
	       struct err *e)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	struct opening op = { .q = q, .o = o, .path = file->path ? file->path : "", .e = e };
	int ret;

	if (!q)
		return err_set(e, -ENOMEM, "out of memory while opening image '%s'", op.path);
	blk_node_init(&q->n, file->loop, &qcow2_driver);
	q->n.file = file;
	q->n.format = "qcow2";
	list_init(&q->reqs);
	q->n.path = strdup(op.path);
	ret = q->n.path ? open_all(&op, depth) : err_set(e, -ENOMEM, "out of memory while opening image '%s'", op.path);
	free(op.head);
	if (ret) {
		q_free(q);
		return ret;
	}
	/* Until here the caller's, too. */
	blk_close(o->data_file);
	q->ready = true;
	*out = &q->n;
	return 0;
}

int qcow2_plug_backing(struct blk_node *n, struct blk_node *backing, struct blk_node **old)
{
	struct qcow2 *q = to_q(n);

	if (old)
		*old = n->backing;
	else if (n->backing)
		return -EBUSY;
	n->backing = backing;
	q->backing_size = backing ? backing->i.size : 0;
	return 0;
}

struct blk_node *qcow2_data_file(struct blk_node *n)
{
	struct qcow2 *q = to_q(n);

	return q->store != n->file ? q->store : NULL;
}

void qcow2_get_info(struct blk_node *n, struct qcow2_info *out)
{
	const struct qcow2 *q = to_q(n);

	*out = (struct qcow2_info){
		.version = q->version, .cluster_size = q->cluster, .refcount_bits = 1u << q->rc_order,
		.compression = q->compression, .lazy_refcounts = q->compat & COMPAT_LAZY, .extended_l2 = q->ext_l2,
		.dirty = q->incompat & INCOMPAT_DIRTY, .corrupt = (q->incompat & INCOMPAT_CORRUPT) || q->broken,
		.data_file_raw = q->autoclear & AUTOCLEAR_RAW_DATA, .virtual_size = n->i.size,
		.file_size = n->file->i.size, .backing = q->backing_name, .backing_format = q->backing_format,
		.data_file = q->data_name, .n_snapshots = q->n_snaps, .n_bitmaps = q->n_bitmaps,
		.encryption = crypt_info(q),
	};
}
