// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Dirty bitmaps that qcow2 images keep (block/qcow2/bitmap.h), under QEMU's names.
 * Bitmaps in memory alone there are none.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/qcow2/bitmap.h"
#include "control/job.h"

/* The image of a disk that may have bitmaps, with the disk's lock, or NULL and the call has failed. */
static struct blk_node *lock_image(struct ctl_call *c, const char *node, struct disk **d)
{
	struct blk_node *n;

	*d = ctl_disk(c, NULL, node, NULL);
	if (!*d)
		return NULL;
	disk_lock(*d);
	n = blk_is_slot((*d)->node) ? *blk_slot_image((*d)->node) : NULL;
	if (n && n->format && !strcmp(n->format, "qcow2"))
		return n;
	disk_unlock(*d);
	ctl_fail(c, CTL_GENERIC_ERROR, "the image of '%s' is not qcow2, so it cannot keep dirty bitmaps", (*d)->id);
	return NULL;
}

/* ---- changes that can be undone ---- */

struct change {
	struct ctl_action a;
	struct disk *d;
	struct blk_node *n;
	char *name;
	struct qcow2_bitmap_copy *was;	/* NULL: it was not there */
};

static struct change *change_new(struct disk *d, struct blk_node *n, const char *name)
{
	struct change *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->d = d;
	x->n = n;
	x->name = strdup(name);
	if (x->name)
		return x;
	free(x);
	return NULL;
}

static void change_free(struct change *x)
{
	free(x->name);
	free(x);
}

static void change_commit(struct ctl_action *a)
{
	struct change *x = container_of(a, struct change, a);

	disk_lock(x->d);
	if (x->was)
		qcow2_bitmap_copy_free(x->n, x->was);
	disk_unlock(x->d);
	change_free(x);
}

static void change_undo(struct ctl_action *a)
{
	struct change *x = container_of(a, struct change, a);
	struct err e = { .msg = "" };

	disk_lock(x->d);
	if (x->was)
		qcow2_bitmap_restore(x->n, x->name, x->was);
	else if (qcow2_bitmap_remove(x->n, x->name, &e))
		log_warn("%s", e.msg);
	disk_unlock(x->d);
	change_free(x);
}

static void remove_commit(struct ctl_action *a)
{
	struct change *x = container_of(a, struct change, a);
	struct err e = { .msg = "" };

	disk_lock(x->d);
	if (qcow2_bitmap_remove(x->n, x->name, &e))
		log_warn("%s", e.msg);
	disk_unlock(x->d);
	change_free(x);
}

static void remove_undo(struct ctl_action *a)
{
	change_free(container_of(a, struct change, a));
}

/* What a change does to the bitmap `name` of the image n. The lock is held. */
typedef int (*change_fn)(struct ctl_call *c, struct disk *d, struct blk_node *n, const char *name, const void *args, struct err *e);

/* QEMU's words for what clients look for. */
static int explain(const char *name, int ret, struct err *e)
{
	if (ret == -EEXIST)
		return err_set(e, ret, "Bitmap already exists: %.200s", name);
	return ret == -ENOENT ? err_set(e, ret, "Dirty bitmap '%.200s' not found", name) : ret;
}

/* Does it, as part of the transaction; fresh: the bitmap is not there yet. */
static void change(struct ctl_call *c, const char *node, const char *name, bool fresh, change_fn fn, const void *args)
{
	struct ctl_txn own, *t = ctl_txn_of(c, &own);
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n = lock_image(c, node, &d);
	struct change *x;
	int ret;

	if (!n)
		return;
	/* What is put back is what was there, so nothing is written meanwhile. */
	blk_slot_hold(d->node);
	x = change_new(d, n, name);
	ret = x ? 0 : err_set(&e, -ENOMEM, "out of memory");
	if (!ret && !fresh)
		ret = explain(name, qcow2_bitmap_save(n, name, &x->was, &e), &e);
	if (!ret)
		ret = fn(c, d, n, name, args, &e);
	/* A change of several steps may have done some. */
	if ((ret || c->failed) && x && x->was)
		qcow2_bitmap_restore(n, name, x->was);
	blk_slot_release(d->node);
	disk_unlock(d);
	ctl_failed(c, ret, &e);
	if (!c->failed)
		ctl_txn_add(t, &x->a, change_commit, change_undo);
	else if (x)
		change_free(x);
	ctl_txn_done(t, &own);
}

static int add(struct ctl_call *c, struct disk *d, struct blk_node *n, const char *name, const void *args, struct err *e)
{
	const struct ctl_args_block_dirty_bitmap_add *a = args;

	return explain(name, qcow2_bitmap_add(n, name, a->has_granularity ? (uint64_t)a->granularity : 0, !a->disabled, e), e);
}

void ctl_cmd_block_dirty_bitmap_add(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_add *a)
{
	if (!a->has_persistent || !a->persistent) {
		ctl_fail(c, CTL_GENERIC_ERROR, "bitmaps are kept in the image here: say persistent=true");
		return;
	}
	change(c, a->node, a->name, true, add, a);
}

/* In a transaction it is there until all has succeeded. */
void ctl_cmd_block_dirty_bitmap_remove(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_remove *a)
{
	struct qcow2_bitmap_copy *trial;
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n = lock_image(c, a->node, &d);
	struct change *x = NULL;
	int ret;

	if (!n)
		return;
	if (c->txn) {
		x = change_new(d, n, a->name);
		ret = x ? qcow2_bitmap_save(n, a->name, &trial, &e) : err_set(&e, -ENOMEM, "out of memory");
		if (!ret)
			qcow2_bitmap_copy_free(n, trial);
	} else {
		ret = qcow2_bitmap_remove(n, a->name, &e);
	}
	explain(a->name, ret, &e);
	disk_unlock(d);
	if (ctl_failed(c, ret, &e) && x)
		change_free(x);
	else if (x)
		ctl_txn_add(c->txn, &x->a, remove_commit, remove_undo);
}

static int clear(struct ctl_call *c, struct disk *d, struct blk_node *n, const char *name, const void *args, struct err *e)
{
	return qcow2_bitmap_clear(n, name, e);
}

void ctl_cmd_block_dirty_bitmap_clear(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_clear *a)
{
	change(c, a->node, a->name, false, clear, NULL);
}

static int record(struct ctl_call *c, struct disk *d, struct blk_node *n, const char *name, const void *on, struct err *e)
{
	return qcow2_bitmap_record(n, name, *(const bool *)on, e);
}

void ctl_cmd_block_dirty_bitmap_enable(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_enable *a)
{
	change(c, a->node, a->name, false, record, &(const bool){ true });
}

void ctl_cmd_block_dirty_bitmap_disable(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_disable *a)
{
	change(c, a->node, a->name, false, record, &(const bool){ false });
}

/* Where a bitmap is that is merged from; the target's disk is locked. NULL: the call has failed. */
static struct blk_node *source(struct ctl_call *c, const json_t *x, struct disk *d, struct blk_node *target, const char **name)
{
	const char *node = json_string_value(json_object_get(x, "node"));
	struct blk_node *n = target;
	struct disk *from = d;

	*name = json_is_string(x) ? json_string_value(x) : json_string_value(json_object_get(x, "name"));
	if (node) {
		disk_unlock(d);
		from = ctl_disk(c, NULL, node, NULL);
		disk_lock(d);
	}
	if (!from)
		return NULL;
	if (from != d)
		n = blk_is_slot(from->node) && from->node->loop == d->node->loop ? *blk_slot_image(from->node) : NULL;
	if (n && n->format && !strcmp(n->format, "qcow2"))
		return n;
	ctl_fail(c, CTL_GENERIC_ERROR, "'%s' has no dirty bitmap that could be merged here: its image is not qcow2, or it has another I/O thread", from->id);
	return NULL;
}

static int merge(struct ctl_call *c, struct disk *d, struct blk_node *n, const char *name, const void *args, struct err *e)
{
	const struct ctl_args_block_dirty_bitmap_merge *a = args;
	struct blk_node *from;
	const char *what;
	json_t *x;
	size_t i;
	int ret = 0;

	json_array_foreach(a->bitmaps, i, x) {
		from = ret ? NULL : source(c, x, d, n, &what);
		if (!from)
			break;
		ret = explain(what, qcow2_bitmap_merge(n, name, from, what, e), e);
	}
	return ret;
}

void ctl_cmd_block_dirty_bitmap_merge(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_merge *a)
{
	change(c, a->node, a->target, false, merge, a);
}

/* ---- what there are ---- */

static json_int_t count(struct blk_node *n, const char *name)
{
	uint64_t all = 0;
	struct err e;

	qcow2_bitmap_count(n, name, &all, &e);
	return (json_int_t)all;
}

json_t *ctl_bitmaps(struct blk_node *n)
{
	struct qcow2_bitmap *b;
	json_t *list = NULL;
	unsigned k;
	struct err e;

	if (!n->format || strcmp(n->format, "qcow2") || qcow2_bitmap_list(n, &b, &k, &e))
		return NULL;
	for (unsigned i = 0; i < k; i++) {
		json_t *j = json_pack("{s:s+,s:I,s:I,s:b,s:b,s:b}", "name", b[i].name, "", "count", b[i].inconsistent ? (json_int_t)0 : count(n, b[i].name),
				      "granularity", (json_int_t)b[i].granularity, "recording", b[i].recording && !b[i].inconsistent, "busy", b[i].busy,
				      "persistent", 1);

		if (!list)
			list = json_array();
		json_array_append_new(list, j);
	}
	qcow2_bitmaps_free(b, k);
	return list;
}
