// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Dirty bitmaps that qcow2 images keep (block/qcow2/bitmap.h), under QEMU's names.
 * Bitmaps in memory alone there are none.
 */
#include <errno.h>
#include <string.h>

#include "block/qcow2/bitmap.h"
#include "control/disk.h"

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

static void done(struct ctl_call *c, struct disk *d, int ret, const struct err *e)
{
	disk_unlock(d);
	ctl_failed(c, ret, e);
}

void ctl_cmd_block_dirty_bitmap_add(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_add *a)
{
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n;

	if (!a->has_persistent || !a->persistent) {
		ctl_fail(c, CTL_GENERIC_ERROR, "bitmaps are kept in the image here: say persistent=true");
		return;
	}
	n = lock_image(c, a->node, &d);
	if (n)
		done(c, d, qcow2_bitmap_add(n, a->name, a->has_granularity ? (uint64_t)a->granularity : 0, !a->disabled, &e), &e);
}

void ctl_cmd_block_dirty_bitmap_remove(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_remove *a)
{
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n = lock_image(c, a->node, &d);

	if (n)
		done(c, d, qcow2_bitmap_remove(n, a->name, &e), &e);
}

void ctl_cmd_block_dirty_bitmap_clear(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_clear *a)
{
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n = lock_image(c, a->node, &d);

	if (n)
		done(c, d, qcow2_bitmap_clear(n, a->name, &e), &e);
}

static void record(struct ctl_call *c, const char *node, const char *name, bool on)
{
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n = lock_image(c, node, &d);

	if (n)
		done(c, d, qcow2_bitmap_record(n, name, on, &e), &e);
}

void ctl_cmd_block_dirty_bitmap_enable(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_enable *a)
{
	record(c, a->node, a->name, true);
}

void ctl_cmd_block_dirty_bitmap_disable(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_disable *a)
{
	record(c, a->node, a->name, false);
}

/* Where a bitmap is that is merged from; the target's disk is locked. NULL: the call has failed. */
static struct blk_node *source(struct ctl_call *c, const json_t *x, struct disk *d, struct blk_node *target, const char **name)
{
	const char *node = json_string_value(json_object_get(x, "node"));
	struct blk_node *n = target;
	struct disk *from = d;

	*name = json_is_string(x) ? json_string_value(x) : json_string_value(json_object_get(x, "name"));
	if (node)
		from = ctl_disk(c, NULL, node, NULL);
	if (!from)
		return NULL;
	if (from != d)
		n = blk_is_slot(from->node) && from->node->loop == d->node->loop ? *blk_slot_image(from->node) : NULL;
	if (n && n->format && !strcmp(n->format, "qcow2"))
		return n;
	ctl_fail(c, CTL_GENERIC_ERROR, "'%s' has no dirty bitmap that could be merged here: its image is not qcow2, or it has another I/O thread", from->id);
	return NULL;
}

/* All or nothing is what a bitmap that says too much may be: it then only costs a backup more. */
void ctl_cmd_block_dirty_bitmap_merge(struct ctl_call *c, const struct ctl_args_block_dirty_bitmap_merge *a)
{
	struct err e = { .msg = "" };
	struct disk *d;
	struct blk_node *n = lock_image(c, a->node, &d), *from;
	const char *name;
	size_t i;
	json_t *x;
	int ret = 0;

	if (!n)
		return;
	json_array_foreach(a->bitmaps, i, x) {
		from = ret ? NULL : source(c, x, d, n, &name);
		if (!from)
			break;
		ret = qcow2_bitmap_merge(n, a->target, from, name, &e);
	}
	done(c, d, ret, &e);
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
