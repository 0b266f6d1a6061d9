/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The functions of bitmap.h.  Each runs alone, with the directory in memory; what
 * changes more than bits is stored at once.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/bitmap_int.h"

struct bitmap_op {
	const char *name;
	uint64_t granularity, off, len;
	bool on;
	struct qcow2_bitmap *list;
	const struct bits *from;	/* merge */
	unsigned from_granularity;
};

static const char *path_of(const struct blk_node *n)
{
	return n->path ? n->path : "";
}

int bitmap_explain(const struct blk_node *n, const char *name, int ret, struct err *e)
{
	switch (ret) {
	case 0:
		return 0;
	case -ENOENT:
		return err_set(e, ret, "image '%s' has no bitmap '%s'", path_of(n), name);
	case -EEXIST:
		return err_set(e, ret, "image '%s' has a bitmap '%s' already", path_of(n), name);
	case -EBUSY:
		return err_set(e, ret, "bitmap '%s' of image '%s' is marked as in use: the image was not closed, and the bitmap says nothing "
			       "any more; it can only be removed", name, path_of(n));
	case -EALREADY:
		return err_set(e, -EBUSY, "bitmap '%s' of image '%s' is in use by a backup: wait for it, or cancel it", name, path_of(n));
	case -EINVAL:
		return err_set(e, ret, "the bitmaps of image '%s' are damaged", path_of(n));
	case -ENOTSUP:
		return err_set(e, ret, "bitmap '%s' of image '%s' is of a kind that is not known here", name, path_of(n));
	case -EFBIG:
		return err_set(e, ret, "bitmap '%s' of image '%s' is too large: a coarser granularity makes it smaller", name, path_of(n));
	case -E2BIG:
		return err_set(e, -ENOSPC, "the header of image '%s' has no room for bitmaps", path_of(n));
	default:
		return err_set(e, ret, "bitmap '%s' of image '%s': %s", name, path_of(n), strerror(-ret));
	}
}

static int run(struct blk_node *n, int (*fn)(struct qcow2 *q, struct co *c, void *arg), struct bitmap_op *op, bool writes,
	       struct err *e)
{
	if (writes && n->i.read_only)
		return err_set(e, -EROFS, "image '%s' is open read-only", path_of(n));
	return bitmap_explain(n, op->name, q_alone(to_q(n), fn, op), e);
}

int bitmap_get(struct qcow2 *q, struct co *c, const char *name, struct bitmap **out)
{
	int ret = bitmaps_directory(q, c);

	*out = ret ? NULL : bitmap_find(q, name);
	if (ret || !*out)
		return ret ? ret : -ENOENT;
	return (*out)->owner ? -EALREADY : bitmap_load(q, c, *out);
}

/* ---- list ---- */

static int list_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct bitmap_op *op = arg;
	int ret = bitmaps_directory(q, c);

	if (ret)
		return ret;
	op->list = calloc(MAX(q->n_bitmaps, 1u), sizeof(*op->list));
	for (unsigned i = 0; op->list && i < q->n_bitmaps; i++) {
		const struct bitmap *b = &q->bitmap[i];

		op->list[i] = (struct qcow2_bitmap){ .name = strdup(b->name), .granularity = BIT64(MIN(b->granularity, 63u)),
						     .recording = b->flags & BITMAP_AUTO, .in_use = b->flags & BITMAP_IN_USE,
						     .inconsistent = bitmap_inconsistent(b), .busy = b->owner };
		if (!op->list[i].name)
			ret = -ENOMEM;
	}
	return op->list ? ret : -ENOMEM;
}

void qcow2_bitmaps_free(struct qcow2_bitmap *b, unsigned count)
{
	for (unsigned i = 0; b && i < count; i++)
		free(b[i].name);
	free(b);
}

int qcow2_bitmap_list(struct blk_node *n, struct qcow2_bitmap **out, unsigned *count, struct err *e)
{
	struct bitmap_op op = { .name = "" };
	int ret = run(n, list_main, &op, false, e);

	*count = to_q(n)->n_bitmaps;
	*out = op.list;
	if (ret) {
		qcow2_bitmaps_free(op.list, *count);
		*out = NULL;
		*count = 0;
	}
	return ret;
}

/* ---- add and remove ---- */

static int grow(struct qcow2 *q)
{
	struct bitmap *more = realloc(q->bitmap, (q->n_bitmaps + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	q->bitmap = more;
	more[q->n_bitmaps] = (struct bitmap){ 0 };
	return 0;
}

static int new_bitmap(struct qcow2 *q, const struct bitmap_op *op, struct bitmap *b)
{
	uint64_t n;
	int ret;

	b->type = BITMAP_TRACKING;
	b->granularity = (uint8_t)__builtin_ctzll(op->granularity);
	b->flags = op->on ? BITMAP_AUTO : 0;
	b->held = op->on;
	b->name = strdup(op->name);
	b->extra = malloc(1);
	if (!b->name || !b->extra)
		return -ENOMEM;
	n = bitmap_size(b, q->n.i.size);
	if (n > BITS_MAX - q->bitmap_bits || bitmap_table_size(q, b) > MAX_L1_BYTES / 8)
		return -EFBIG;
	ret = bits_init(&b->bits, n, &q->bitmap_pages);
	q->bitmap_bits += ret ? 0 : n;
	return ret;
}

static int add_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct bitmap_op *op = arg;
	struct bitmap *b;
	int ret = bitmaps_directory(q, c);

	if (!ret && bitmap_find(q, op->name))
		ret = -EEXIST;
	if (!ret && q->n_bitmaps == MAX_BITMAPS)
		ret = -EFBIG;
	ret = ret ? ret : grow(q);
	if (ret)
		return ret;
	b = &q->bitmap[q->n_bitmaps];
	ret = new_bitmap(q, op, b);
	if (!ret) {
		q->n_bitmaps++;
		ret = bitmaps_store(q, c, false);
		q->n_bitmaps -= ret != 0;
	}
	if (ret)
		bitmap_fini(q, b);
	else
		q->n_recording += op->on;
	return ret;
}

int qcow2_bitmap_add(struct blk_node *n, const char *name, uint64_t granularity, bool recording, struct err *e)
{
	const struct qcow2 *q = to_q(n);
	struct bitmap_op op = { .name = name, .on = recording };

	op.granularity = granularity ? granularity : MIN(MAX(q->cluster, 4096u), 65536u);
	if (!*name || strlen(name) > QCOW2_BITMAP_NAME_MAX)
		return err_set(e, -EINVAL, "a bitmap's name has 1 to %d bytes", QCOW2_BITMAP_NAME_MAX);
	if (!is_pow2(op.granularity) || op.granularity < BIT64(MIN_GRANULARITY) || op.granularity > BIT64(MAX_GRANULARITY))
		return err_set(e, -EINVAL, "a bitmap's granularity is a power of two between 512 bytes and 2 GiB");
	if (q->version < 3)
		return err_set(e, -ENOTSUP, "image '%s' is of version 2, which has no bitmaps: convert it with -o compat=1.1", path_of(n));
	if (!n->i.size)
		return err_set(e, -EINVAL, "image '%s' is empty: there is nothing for a bitmap to tell of", path_of(n));
	return run(n, add_main, &op, true, e);
}

static int remove_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct bitmap_op *op = arg;
	struct bitmap *b, gone;
	size_t behind, i;
	int ret = bitmaps_directory(q, c);

	b = ret ? NULL : bitmap_find(q, op->name);
	if (!b)
		return ret ? ret : -ENOENT;
	if (b->owner)
		return -EALREADY;
	gone = *b;
	i = (size_t)(b - q->bitmap);
	behind = q->n_bitmaps - i - 1;
	memmove(b, b + 1, behind * sizeof(*b));
	q->n_bitmaps--;
	q->bitmap_gone = gone.table;
	q->bitmap_gone_size = gone.table_size;
	ret = bitmaps_store(q, c, false);
	q->bitmap_gone = 0;
	/* The disk may still have it: so does memory. */
	if (ret) {
		memmove(b + 1, b, behind * sizeof(*b));
		*b = gone;
		q->n_bitmaps++;
		return ret;
	}
	q->n_recording -= gone.held && (gone.flags & BITMAP_AUTO);
	bitmap_fini(q, &gone);
	return 0;
}

int qcow2_bitmap_remove(struct blk_node *n, const char *name, struct err *e)
{
	struct bitmap_op op = { .name = name };

	return run(n, remove_main, &op, true, e);
}

/* ---- changing one ---- */

/* What fails leaves what it said. */
static int clear_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct bitmap_op *op = arg;
	struct bits old, none;
	struct bitmap *b;
	bool was;
	int ret = bitmap_get(q, c, op->name, &b);

	ret = ret ? ret : bits_init(&none, b->bits.n, &q->bitmap_pages);
	if (ret)
		return ret;
	old = b->bits;
	was = b->changed;
	b->bits = none;
	b->changed = true;
	ret = bitmaps_store(q, c, false);
	if (ret) {
		bits_fini(&b->bits);
		b->bits = old;
		b->changed = was;
	} else {
		bits_fini(&old);
	}
	return ret;
}

int qcow2_bitmap_clear(struct blk_node *n, const char *name, struct err *e)
{
	struct bitmap_op op = { .name = name };

	return run(n, clear_main, &op, true, e);
}

static int record_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct bitmap_op *op = arg;
	struct bitmap *b;
	uint32_t before;
	bool held;
	int ret = bitmap_get(q, c, op->name, &b);

	if (ret || !(b->flags & BITMAP_AUTO) == !op->on)
		return ret;
	before = b->flags;
	held = b->held;
	b->flags ^= BITMAP_AUTO;
	b->held = true;
	ret = bitmaps_store(q, c, false);
	if (ret) {
		b->flags = before;
		b->held = held;
		return ret;
	}
	q->n_recording += op->on ? 1 : -1u;
	return 0;
}

int qcow2_bitmap_record(struct blk_node *n, const char *name, bool on, struct err *e)
{
	struct bitmap_op op = { .name = name, .on = on };

	return run(n, record_main, &op, true, e);
}

static int merge_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct bitmap_op *op = arg;
	struct bitmap *b;
	uint64_t at = 0, end, first, last;
	int ret = bitmap_get(q, c, op->name, &b);

	if (ret)
		return ret;
	while ((at = bits_next(op->from, at, true)) < op->from->n) {
		end = bits_next(op->from, at, false);
		first = at << op->from_granularity >> b->granularity;
		last = MIN((end << op->from_granularity) - 1, q->n.i.size - 1) >> b->granularity;
		bits_set(&b->bits, first, last - first + 1);
		at = end;
	}
	b->changed = true;
	return bitmaps_store(q, c, false);
}

static int load_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct bitmap_op *op = arg;
	struct bitmap *b;
	int ret = bitmap_get(q, c, op->name, &b);

	if (ret)
		return ret;
	op->from = &b->bits;
	op->from_granularity = b->granularity;
	return 0;
}

int qcow2_bitmap_merge(struct blk_node *n, const char *name, struct blk_node *from, const char *from_name, struct err *e)
{
	struct bitmap_op source = { .name = from_name }, op = { .name = name };
	int ret;

	if (n->i.size != from->i.size)
		return err_set(e, -EINVAL, "'%s' and '%s' are not of the same size", path_of(n), path_of(from));
	ret = run(from, load_main, &source, false, e);
	op.from = source.from;
	op.from_granularity = source.from_granularity;
	return ret ? ret : run(n, merge_main, &op, true, e);
}

/* ---- reading one ---- */

int qcow2_bitmap_next(struct blk_node *n, const char *name, uint64_t off, uint64_t *at, uint64_t *len, struct err *e)
{
	struct bitmap_op op = { .name = name };
	uint64_t first, end;
	int ret = run(n, load_main, &op, false, e);

	*at = off;
	*len = 0;
	if (ret || off >= n->i.size)
		return ret;
	first = bits_next(op.from, off >> op.from_granularity, true);
	if (first >= op.from->n)
		return 0;
	end = bits_next(op.from, first, false);
	*at = MAX(off, first << op.from_granularity);
	*len = MIN(end << op.from_granularity, n->i.size) - *at;
	return 0;
}

int qcow2_bitmap_count(struct blk_node *n, const char *name, uint64_t *bytes, struct err *e)
{
	struct bitmap_op op = { .name = name };
	int ret = run(n, load_main, &op, false, e);
	uint64_t over;

	if (ret)
		return ret;
	*bytes = bits_count(op.from) << op.from_granularity;
	/* The last bit may stand for less. */
	over = (op.from->n << op.from_granularity) - n->i.size;
	if (over && bits_next(op.from, op.from->n - 1, true) < op.from->n)
		*bytes -= over;
	return 0;
}

static int reset_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct bitmap_op *op = arg;
	struct bitmap *b;
	uint64_t first, end;
	int ret = bitmap_get(q, c, op->name, &b);

	if (ret)
		return ret;
	first = (op->off + BIT64(b->granularity) - 1) >> b->granularity;
	end = op->off + op->len >= q->n.i.size ? b->bits.n : (op->off + op->len) >> b->granularity;
	if (first < end) {
		bits_clear(&b->bits, first, end - first);
		b->changed = true;
	}
	return 0;
}

int qcow2_bitmap_reset(struct blk_node *n, const char *name, uint64_t off, uint64_t len, struct err *e)
{
	struct bitmap_op op = { .name = name, .off = MIN(off, n->i.size), .len = MIN(len, n->i.size - MIN(off, n->i.size)) };

	return run(n, reset_main, &op, true, e);
}
