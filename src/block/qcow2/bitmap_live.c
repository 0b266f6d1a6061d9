/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps that a backup uses: frozen while it runs, so that what is written
 * meanwhile is known apart, and put together again or forgotten at its end.
 *
 * What is frozen is in memory only.  The file says all the while what it said
 * before: a bitmap that records is marked as in use, one that does not keeps its bits there
 * until the backup has succeeded.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "block/qcow2/bitmap_int.h"

struct freeze {
	const char *name;
	const void *owner;
	struct blk_dirty *out;
};

static void tell(const struct bitmap *b, struct blk_dirty *out)
{
	uint64_t at = 0, end, size = blk_dirty_size(out);

	while ((at = bits_next(&b->bits, at, true)) < b->bits.n) {
		end = bits_next(&b->bits, at, false);
		blk_dirty_set(out, at << b->granularity, MIN(end << b->granularity, size) - (at << b->granularity));
		at = end;
	}
}

static int freeze_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct freeze *f = arg;
	struct bits fresh;
	struct bitmap *b;
	int ret = bitmap_get(q, c, f->name, &b);

	if (ret)
		return ret;
	if (b->bits.n > BITS_MAX - q->bitmap_bits)
		return -EFBIG;
	ret = bits_init(&fresh, b->bits.n, &q->bitmap_pages);
	if (ret)
		return ret;
	if (f->out)
		tell(b, f->out);
	q->bitmap_bits += fresh.n;
	b->frozen = b->bits;
	b->bits = fresh;
	b->owner = f->owner;
	return 0;
}

int qcow2_bitmap_freeze(struct blk_node *n, const char *name, const void *owner, struct blk_dirty *out, struct err *e)
{
	struct freeze f = { name, owner, out };

	if (n->i.read_only)
		return err_set(e, -EROFS, "image '%s' is open read-only", n->path ? n->path : "");
	return bitmap_explain(n, name, q_alone(to_q(n), freeze_main, &f), e);
}

/* The older bits are many and have their memory: the newer ones join them, so that this cannot fail. */
static void rejoin(struct qcow2 *q, struct bitmap *b)
{
	bits_merge(&b->frozen, &b->bits);
	bits_fini(&b->bits);
	b->bits = b->frozen;
	b->frozen = (struct bits){ 0 };
	b->owner = NULL;
	q->bitmap_bits -= b->bits.n;
}

void bitmaps_thaw_all(struct qcow2 *q)
{
	for (unsigned i = 0; q->bitmap && i < q->n_bitmaps; i++)
		if (q->bitmap[i].owner)
			rejoin(q, &q->bitmap[i]);
}

/* One that does not record changes on disk at once, as it does when cleared. */
static int forget_main(struct qcow2 *q, struct co *c, void *arg)
{
	struct bitmap *b = arg;
	const void *owner = b->owner;
	bool was = b->changed;
	int ret;

	b->owner = NULL;
	b->changed = true;
	ret = bitmaps_store(q, c, false);
	if (ret) {
		b->owner = owner;
		b->changed = was;
	}
	return ret;
}

void qcow2_bitmap_thaw(struct blk_node *n, const char *name, const void *owner, bool keep)
{
	struct qcow2 *q = to_q(n);
	struct bitmap *b = bitmap_find(q, name);
	int ret = 0;

	if (!b || b->owner != owner)
		return;
	if (!keep && !(b->flags & BITMAP_AUTO))
		ret = q_alone(q, forget_main, b);
	if (ret)
		log_warn("bitmap '%s' of image '%s' could not be cleared after a backup (%s): the next one has all of this again", name,
			 n->path ? n->path : "", strerror(-ret));
	if (keep || ret) {
		rejoin(q, b);
		return;
	}
	q->bitmap_bits -= b->frozen.n;
	bits_fini(&b->frozen);
	b->owner = NULL;
	/* One that records is written when the image is closed; the other was just now. */
	b->changed |= (b->flags & BITMAP_AUTO) != 0;
}

/* ---- copies ---- */

struct qcow2_bitmap_copy {
	struct bits bits;
	bool recording;
};

struct copying {
	const char *name;
	struct qcow2_bitmap_copy *c;
};

static int save_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct copying *x = arg;
	struct bitmap *b;
	int ret = bitmap_get(q, c, x->name, &b);

	if (!ret && b->bits.n > BITS_MAX - q->bitmap_bits)
		ret = -EFBIG;
	ret = ret ? ret : bits_init(&x->c->bits, b->bits.n, &q->bitmap_pages);
	if (ret)
		return ret;
	q->bitmap_bits += x->c->bits.n;
	bits_merge(&x->c->bits, &b->bits);
	x->c->recording = b->flags & BITMAP_AUTO;
	return 0;
}

int qcow2_bitmap_save(struct blk_node *n, const char *name, struct qcow2_bitmap_copy **out, struct err *e)
{
	struct copying x = { name, calloc(1, sizeof(*x.c)) };
	int ret = x.c ? q_alone(to_q(n), save_main, &x) : -ENOMEM;

	if (ret)
		free(x.c);
	else
		*out = x.c;
	return bitmap_explain(n, name, ret, e);
}

void qcow2_bitmap_copy_free(struct blk_node *n, struct qcow2_bitmap_copy *c)
{
	to_q(n)->bitmap_bits -= c->bits.n;
	bits_fini(&c->bits);
	free(c);
}

/* The copy's bits become the bitmap's. */
static int restore_main(struct qcow2 *q, struct co *c, void *arg)
{
	const struct copying *x = arg;
	struct bits now;
	struct bitmap *b;
	int ret = bitmap_get(q, c, x->name, &b);

	if (ret || b->bits.n != x->c->bits.n)
		return ret ? ret : -EINVAL;
	now = b->bits;
	b->bits = x->c->bits;
	x->c->bits = now;
	b->changed = true;
	return bitmaps_store(q, c, false);
}

void qcow2_bitmap_restore(struct blk_node *n, const char *name, struct qcow2_bitmap_copy *c)
{
	struct copying x = { name, c };
	struct err e = { .msg = "" };
	int ret = q_alone(to_q(n), restore_main, &x);

	ret = ret ? bitmap_explain(n, name, ret, &e) : qcow2_bitmap_record(n, name, c->recording, &e);
	if (ret)
		log_warn("%s", e.msg);
	qcow2_bitmap_copy_free(n, c);
}
