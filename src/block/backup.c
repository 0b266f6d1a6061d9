/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backup: what the disk shows at one moment goes to the target, workers copying it
 * piece by piece.  A write to a piece that is not there yet copies that piece
 * first.  A bit of `todo` says so of each piece, and its range is held while it is
 * copied, by whomever.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/job_int.h"
#include "block/qcow2/bitmap.h"

/* Copies what of the range has not been copied; the range is held. */
static int save_old(struct blk_job *j, struct co *c, uint64_t from, uint64_t to)
{
	uint8_t *buf = NULL;
	uint64_t off, len;
	int ret = 0;

	while (!ret && !j->stop && blk_dirty_next(j->todo, from, JOB_PIECE, &off, &len) && off < to) {
		len = MIN(len, to - off);
		if (!buf)
			buf = io_buf(JOB_PIECE);
		if (!buf) {
			job_fail(j, -ENOMEM, "no memory for what is overwritten", off);
			return -ENOMEM;
		}
		blk_dirty_clear(j->todo, off, len);
		/* Which keeps the job from being over when nothing is left `todo`. */
		j->copying += len;
		ret = job_copy(j, c, off, len, buf);
		j->copying -= len;
		j->copied += ret ? 0 : len;
		from = off + len;
	}
	free(buf);
	loop_bh_post(&j->turn);
	return ret;
}

/* If it cannot be saved the backup ends, and the guest goes on. */
static int backup_write(struct blk_job *j, struct co *c, struct blk_req *r)
{
	uint64_t unit = blk_dirty_granularity(j->todo);
	uint64_t from = align_down(r->offset, unit), to = MIN(align_up(r->offset + r->len, unit), blk_dirty_size(j->todo));
	struct blk_req below = *r;
	struct range_lock l;

	range_lock(c, &j->locks, &l, from, to, true);
	save_old(j, c, from, to);
	range_unlock(&j->locks, &l);
	return co_submit(c, j->filter->n.file, &below);
}

/* The image whose bitmap it is, if it is still there: mirrors and commits close images. */
static struct blk_node *map_image(const struct blk_job *j)
{
	struct blk_node *n = *blk_slot_image(j->slot);

	while (n && n != j->map_image)
		n = n->backing;
	return n;
}

/* If the backup failed it is as if nothing had been saved: what was dirty is again. */
static void give_bitmap_back(struct blk_job *j, bool failed)
{
	struct blk_node *n = j->map_image ? map_image(j) : NULL;

	if (n)
		qcow2_bitmap_thaw(n, j->map_name, j, failed);
	j->map_image = NULL;
	if (failed && j->bitmap && j->before)
		blk_dirty_merge(j->bitmap, j->before);
}

static int backup_end(struct blk_job *j, int ret)
{
	give_bitmap_back(j, ret != 0 || j->o.keep_bitmap);
	blk_close(j->target);
	j->target = NULL;
	return ret;
}

static const struct job_kind backup_kind = { .name = "backup", .write = backup_write, .end = backup_end };

/* What was written: a bitmap of the caller's, or one in the image; or neither. */
struct base {
	enum blk_sync sync;
	struct blk_dirty *bitmap;
	const char *name;
};

static int check_base(const struct blk_node *slot, const struct base *b, struct err *e)
{
	if (b->sync == BLK_SYNC_DIRTY && !b->bitmap && !b->name)
		return err_set(e, -EINVAL, "an incremental backup needs a bitmap of what was written");
	if (b->bitmap && blk_dirty_size(b->bitmap) != slot->i.size)
		return err_set(e, -EINVAL, "the bitmap is for a disk of %llu bytes, this one has %llu",
			       (unsigned long long)blk_dirty_size(b->bitmap), (unsigned long long)slot->i.size);
	return 0;
}

static int freeze(struct blk_job *j, const struct base *b, struct err *e)
{
	struct blk_node *n = *blk_slot_image(j->slot);
	int ret;

	if (!n->format || strcmp(n->format, "qcow2") != 0)
		return err_set(e, -ENOTSUP, "disk '%s' is no qcow2 image, which alone keeps bitmaps", j->slot->path ? j->slot->path : "");
	if (n->i.size != blk_dirty_size(j->todo))
		return err_set(e, -EINVAL, "image '%s' is not as long as its disk", n->path ? n->path : "");
	j->map_name = strdup(b->name);
	if (!j->map_name)
		return err_set(e, -ENOMEM, "out of memory");
	ret = qcow2_bitmap_freeze(n, b->name, j, b->sync == BLK_SYNC_DIRTY ? j->todo : NULL, e);
	j->map_image = ret ? NULL : n;
	return ret;
}

/* Under hold: nothing is being written. */
static int take_bitmap(struct blk_job *j, const struct base *b, struct err *e)
{
	if (b->name)
		return freeze(j, b, e);
	if (!b->bitmap)
		return 0;
	j->before = blk_dirty_copy(b->bitmap);
	if (!j->before)
		return err_set(e, -ENOMEM, "out of memory");
	j->bitmap = b->bitmap;
	if (b->sync == BLK_SYNC_DIRTY)
		blk_dirty_merge(j->todo, b->bitmap);
	blk_dirty_clear(b->bitmap, 0, blk_dirty_size(b->bitmap));
	return 0;
}

static int begin(struct blk_job *j, const struct base *b, struct err *e)
{
	int ret;

	blk_slot_hold(j->slot);
	ret = take_bitmap(j, b, e);
	if (!ret) {
		ret = job_insert_filter(j);
		if (ret) {
			give_bitmap_back(j, true);
			err_set(e, ret, "out of memory");
		} else {
			job_start(j);
		}
	}
	blk_slot_release(j->slot);
	return ret;
}

static int start(struct blk_node *slot, struct blk_node *target, const struct base *b, const struct blk_job_opts *o,
		 struct blk_job **out, struct err *e)
{
	bool top = b->sync == BLK_SYNC_TOP;
	struct blk_job *j = NULL;
	int ret = job_check_target(slot, target, "backup", e);

	ret = ret ? ret : check_base(slot, b, e);
	/* What the first layer is must not change. */
	if (!ret && top)
		ret = blk_slot_claim(slot, "backup", e);
	if (ret)
		return ret;
	ret = job_new(&backup_kind, slot, target, slot->i.size, o, &j, e);
	if (!ret) {
		j->claimed = top;
		j->endless = b->sync == BLK_SYNC_NONE;
		if (b->sync != BLK_SYNC_DIRTY)
			blk_dirty_set(j->todo, 0, slot->i.size);
		j->copy_depth = top ? 1 : 0;
		ret = begin(j, b, e);
		if (ret)
			job_discard(j);
	}
	if (ret && top)
		blk_slot_unclaim(slot);
	if (!ret)
		*out = j;
	return ret;
}

int blk_backup_start(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, struct blk_dirty *bitmap,
		     const struct blk_job_opts *o, struct blk_job **out, struct err *e)
{
	return start(slot, target, &(struct base){ .sync = sync, .bitmap = bitmap }, o, out, e);
}

int blk_backup_start_persistent(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, const char *bitmap,
				const struct blk_job_opts *o, struct blk_job **out, struct err *e)
{
	return start(slot, target, &(struct base){ .sync = sync, .name = bitmap }, o, out, e);
}
