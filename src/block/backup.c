/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backup: what the disk shows at one moment goes to the target, workers copying it
 * piece by piece.  A write to a piece that is not there yet copies that piece
 * first.  A bit of `todo` says so of each piece, and its range is held while it is
 * copied, by whomever.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "block/job_int.h"

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

static int backup_end(struct blk_job *j, int ret)
{
	/* It is as if nothing had been saved: what was dirty is again. */
	if (ret && j->bitmap && j->before)
		blk_dirty_merge(j->bitmap, j->before);
	blk_close(j->target);
	j->target = NULL;
	return ret;
}

static const struct job_kind backup_kind = { .name = "backup", .write = backup_write, .end = backup_end };

static int check_bitmap(const struct blk_node *slot, enum blk_sync sync, const struct blk_dirty *bitmap, struct err *e)
{
	if (sync == BLK_SYNC_DIRTY && !bitmap)
		return err_set(e, -EINVAL, "an incremental backup needs a bitmap of what was written");
	if (bitmap && blk_dirty_size(bitmap) != slot->i.size)
		return err_set(e, -EINVAL, "the bitmap is for a disk of %llu bytes, this one has %llu",
			       (unsigned long long)blk_dirty_size(bitmap), (unsigned long long)slot->i.size);
	return 0;
}

/* Under hold: nothing is being written. */
static void take_bitmap(struct blk_job *j, enum blk_sync sync)
{
	if (sync == BLK_SYNC_DIRTY)
		blk_dirty_merge(j->todo, j->bitmap);
	if (j->bitmap)
		blk_dirty_clear(j->bitmap, 0, blk_dirty_size(j->bitmap));
}

int blk_backup_start(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, struct blk_dirty *bitmap,
		     const struct blk_job_opts *o, struct blk_job **out, struct err *e)
{
	struct blk_job *j = NULL;
	int ret = job_check_target(slot, target, "backup", e);

	ret = ret ? ret : check_bitmap(slot, sync, bitmap, e);
	/* What the first layer is must not change. */
	if (!ret && sync == BLK_SYNC_TOP)
		ret = blk_slot_claim(slot, "backup", e);
	if (ret)
		return ret;
	ret = job_new(&backup_kind, slot, target, slot->i.size, o, &j, e);
	if (ret) {
		if (sync == BLK_SYNC_TOP)
			blk_slot_unclaim(slot);
		return ret;
	}
	j->claimed = sync == BLK_SYNC_TOP;
	j->bitmap = bitmap;
	j->endless = sync == BLK_SYNC_NONE;
	if (sync != BLK_SYNC_DIRTY)
		blk_dirty_set(j->todo, 0, slot->i.size);
	j->copy_depth = sync == BLK_SYNC_TOP ? 1 : 0;
	blk_slot_hold(slot);
	if (bitmap)
		j->before = blk_dirty_copy(bitmap);
	ret = bitmap && !j->before ? -ENOMEM : job_insert_filter(j);
	if (ret) {
		if (j->claimed)
			blk_slot_unclaim(slot);
		job_discard(j);
		err_set(e, ret, "out of memory");
	} else {
		take_bitmap(j, sync);
		job_start(j);
		*out = j;
	}
	blk_slot_release(slot);
	return ret;
}
