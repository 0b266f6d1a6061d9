// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Jobs on disks in use (block/job.h) under QEMU's names.
 *
 * A block job lives on the loop of its disk, with the disk's lock; what it has to
 * say is noted there and told on the machine's loop.  A struct ctl_job lives from
 * the command that starts it to its dismissal.
 */
#include "control/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/job.h"
#include "block/qcow2/qcow2.h"

#define MAX_JOBS 64

struct ctl_job {
	struct control *ctl;
	struct list node;
	char id[64];
	struct disk *d;
	struct blk_job *j;		/* NULL: it has ended; `last` tells */
	struct blk_job_info last;
	char error[512];
	uint64_t speed;
	const char *bitmap;		/* of a backup, while it is begun; NULL: none */
	bool dismiss;			/* by itself */
	bool told_ready;
	_Atomic bool ready, ended;	/* noted on the disk's thread */
	struct loop_bh bh;
};

/* ---- what happens ---- */

static void on_job_event(void *opaque, struct blk_job *bj, enum blk_job_event ev)
{
	struct ctl_job *j = opaque;

	if (ev == BLK_JOB_READY)
		j->ready = true;
	else
		j->ended = true;
	loop_bh_post(&j->bh);
}

static void info(struct ctl_job *j, struct blk_job_info *out)
{
	*out = j->last;
	if (!j->j)
		return;
	disk_lock(j->d);
	blk_job_info(j->j, out);
	disk_unlock(j->d);
}

static void tell_status(struct ctl_job *j, const char *status)
{
	ctl_emit(j->ctl, CTL_EVENT_JOB_STATUS_CHANGE, json_pack("{s:s,s:s}", "id", j->id, "status", status));
}

static void tell(struct ctl_job *j, enum ctl_event ev, const struct blk_job_info *i, const char *error)
{
	ctl_emit(j->ctl, ev, json_pack("{s:s,s:s,s:I,s:I,s:I,s:s*}", "type", i->kind, "device", j->id, "len", (json_int_t)i->total, "offset",
				       (json_int_t)i->done, "speed", (json_int_t)j->speed, "error", error));
}

static void forget(struct ctl_job *j)
{
	loop_bh_cancel(&j->bh);
	list_del(&j->node);
	free(j);
}

static void finish(struct ctl_job *j)
{
	struct blk_job_info i;
	bool failed;

	disk_lock(j->d);
	blk_job_info(j->j, &i);
	snprintf(j->error, sizeof(j->error), "%s", i.message && *i.message ? i.message : i.ret ? strerror(-i.ret) : "");
	blk_job_free(j->j);
	if (j->d->resized)
		j->d->resized(j->d);
	disk_unlock(j->d);
	j->j = NULL;
	i.message = j->error;
	j->last = i;
	failed = i.ret && i.ret != -ECANCELED;
	tell_status(j, i.ret ? "aborting" : "waiting");
	if (!i.ret)
		tell_status(j, "pending");
	if (i.ret == -ECANCELED)
		tell(j, CTL_EVENT_BLOCK_JOB_CANCELLED, &i, NULL);
	else
		tell(j, CTL_EVENT_BLOCK_JOB_COMPLETED, &i, failed ? j->error : NULL);
	tell_status(j, "concluded");
	if (!j->dismiss)
		return;
	tell_status(j, "null");
	forget(j);
}

/* The machine's loop. */
static void on_turn(void *opaque)
{
	struct ctl_job *j = opaque;
	struct blk_job_info i;

	if (j->ready && !j->told_ready) {
		j->told_ready = true;
		info(j, &i);
		tell_status(j, "ready");
		tell(j, CTL_EVENT_BLOCK_JOB_READY, &i, NULL);
	}
	if (j->ended && j->j)
		finish(j);
}

/* ---- beginning ---- */

static struct ctl_job *find(struct control *ctl, const char *id)
{
	list_for_each(n, &ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);

		if (!strcmp(j->id, id))
			return j;
	}
	return NULL;
}

bool ctl_disk_busy(const struct control *ctl, const struct disk *d)
{
	list_for_each(n, &ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);

		if (j->d == d && j->j)
			return true;
	}
	return false;
}

/* A job that is not begun yet; NULL: the call has failed. */
static struct ctl_job *job_new(struct ctl_call *c, const char *id, const char *device, uint64_t speed, bool dismiss)
{
	struct disk *d = ctl_disk(c, device, NULL, NULL);
	struct ctl_job *j;
	unsigned n = 0;

	if (!d)
		return NULL;
	id = id ? id : d->id;
	list_for_each(x, &c->ctl->jobs)
		n++;
	if (!*id || strlen(id) >= sizeof(j->id)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Invalid job ID '%.64s'", id);
		return NULL;
	}
	if (find(c->ctl, id)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Job ID '%s' already in use", id);
		return NULL;
	}
	if (c->ctl->ending) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Job '%s' cannot be begun: the guest is ending", id);
		return NULL;
	}
	if (!blk_is_slot(d->node)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "disk '%s' cannot have jobs or snapshots", d->id);
		return NULL;
	}
	j = n < MAX_JOBS ? calloc(1, sizeof(*j)) : NULL;
	if (!j) {
		ctl_fail(c, CTL_GENERIC_ERROR, "no more jobs can be begun: there are %u", n);
		return NULL;
	}
	j->ctl = c->ctl;
	j->d = d;
	j->speed = speed;
	j->dismiss = dismiss;
	snprintf(j->id, sizeof(j->id), "%s", id);
	loop_bh_init(c->ctl->m->loop, &j->bh, on_turn, j);
	list_add_tail(&c->ctl->jobs, &j->node);
	return j;
}

static struct blk_job_opts opts(struct ctl_job *j)
{
	return (struct blk_job_opts){ .rate = j->speed, .event = on_job_event, .opaque = j };
}

/* The outcome of the block layer's start; the disk's lock not held. */
static void begun(struct ctl_call *c, struct ctl_job *j, int ret, const struct err *e)
{
	if (ctl_failed(c, ret, e)) {
		forget(j);
		return;
	}
	tell_status(j, "created");
	tell_status(j, "running");
	/* It may have something to say already, which was posted before this. */
	loop_bh_post(&j->bh);
}

static int make_raw(struct blk_node *like, const char *path, struct err *e)
{
	const struct blk_open_opts o = { .open_ended = true };
	struct blk_node *n;
	int ret = blk_create_file(path, true, e);

	if (!ret)
		ret = blk_open_file(like->loop, path, &o, &n, e);
	if (ret)
		return ret;
	ret = blk_resize(n, like->i.size, e);
	blk_close(n);
	return ret;
}

static int make_qcow2(struct blk_node *like, const char *path, const struct blk_node *backing, struct err *e)
{
	const struct blk_open_opts o = { .open_ended = true };
	struct qcow2_create_opts co = { .size = like->i.size };
	struct blk_node *n;
	char *real = NULL;
	int ret = blk_create_file(path, true, e);

	if (!ret && backing) {
		real = backing->path ? realpath(backing->path, NULL) : NULL;
		co.backing = real;
		co.backing_format = backing->format;
		if (!real)
			ret = err_set(e, -ENOTSUP, "the backing image is not a file that '%s' could name", path);
	}
	if (!ret)
		ret = blk_open_file(like->loop, path, &o, &n, e);
	if (!ret) {
		ret = qcow2_create(n, &co, e);
		blk_close(n);
	}
	free(real);
	return ret;
}

/* The target of a copy, on the disk's loop, whose lock is held. */
static int open_target(struct disk *d, const char *path, const char *format, bool existing, bool top, struct blk_node **out,
		       struct err *e)
{
	struct blk_node *image = *blk_slot_image(d->node);
	/* The user names the target, and a new one names what the disk itself stands on. */
	struct blk_image_opts io = { .trust = existing ? BLK_TRUST_FOLDER : BLK_TRUST_ALL };
	int ret = 0;

	io.format = format ? format : image->format ? image->format : "raw";
	if (strcmp(io.format, "raw") && strcmp(io.format, "qcow2"))
		return err_set(e, -EINVAL, "Unknown driver '%.40s': a target is raw or qcow2", io.format);
	if (top && image->backing && !existing && !strcmp(io.format, "raw"))
		return err_set(e, -EINVAL, "a raw target cannot stand on the disk's backing image; sync=full copies that too");
	if (!existing)
		ret = !strcmp(io.format, "raw") ? make_raw(image, path, e)
						: make_qcow2(image, path, top && image->backing ? blk_skip_filters(image->backing) : NULL, e);
	return ret ? ret : blk_open_image(d->node->loop, path, &io, out, e);
}

static int sync_of(enum ctl_mirror_sync_mode m, enum blk_sync *out, struct err *e)
{
	switch (m) {
	case CTL_MIRROR_SYNC_MODE_FULL: *out = BLK_SYNC_FULL; return 0;
	case CTL_MIRROR_SYNC_MODE_TOP: *out = BLK_SYNC_TOP; return 0;
	case CTL_MIRROR_SYNC_MODE_NONE: *out = BLK_SYNC_NONE; return 0;
	case CTL_MIRROR_SYNC_MODE_INCREMENTAL:
	case CTL_MIRROR_SYNC_MODE_BITMAP:
	default: *out = BLK_SYNC_DIRTY; return 0;
	}
}

typedef int (*start_fn)(struct ctl_job *j, struct blk_node *target, enum blk_sync sync, const struct blk_job_opts *o, struct err *e);

static int start_mirror(struct ctl_job *j, struct blk_node *target, enum blk_sync sync, const struct blk_job_opts *o, struct err *e)
{
	if (sync == BLK_SYNC_DIRTY)
		return err_set(e, -ENOTSUP, "Sync mode 'incremental' not supported");
	return blk_mirror_start(j->d->node, target, sync, o, &j->j, e);
}

static int start_backup(struct ctl_job *j, struct blk_node *target, enum blk_sync sync, const struct blk_job_opts *o, struct err *e)
{
	if (j->bitmap)
		return blk_backup_start_persistent(j->d->node, target, sync, j->bitmap, o, &j->j, e);
	return blk_backup_start(j->d->node, target, sync, NULL, o, &j->j, e);
}

static void copy(struct ctl_call *c, struct ctl_job *j, start_fn start, const char *path, const char *format,
		 enum ctl_mirror_sync_mode mode, bool existing)
{
	const struct blk_job_opts o = opts(j);
	struct err e = { .msg = "" };
	struct blk_node *target;
	enum blk_sync sync = BLK_SYNC_FULL;
	int ret = sync_of(mode, &sync, &e);

	disk_lock(j->d);
	if (!ret)
		ret = open_target(j->d, path, format, existing, sync != BLK_SYNC_FULL, &target, &e);
	if (!ret) {
		ret = start(j, target, sync, &o, &e);
		if (ret)
			blk_close(target);
	}
	disk_unlock(j->d);
	j->bitmap = NULL;		/* the call's */
	begun(c, j, ret, &e);
}

static bool kept(bool has, bool value) { return has && !value; }

void ctl_cmd_drive_mirror(struct ctl_call *c, const struct ctl_args_drive_mirror *a)
{
	struct ctl_job *j = job_new(c, a->job_id, a->device, (uint64_t)a->speed, !kept(a->has_auto_dismiss, a->auto_dismiss));

	if (j)
		copy(c, j, start_mirror, a->target, a->format, a->sync, a->has_mode && a->mode == CTL_NEW_IMAGE_MODE_EXISTING);
}

/* As QEMU has it, but for bitmaps that are not to begin anew. */
static bool check_bitmap(struct ctl_call *c, const struct ctl_args_drive_backup *a)
{
	bool by_bitmap = a->sync == CTL_MIRROR_SYNC_MODE_BITMAP;

	if ((by_bitmap || a->sync == CTL_MIRROR_SYNC_MODE_INCREMENTAL) && !a->bitmap)
		ctl_fail(c, CTL_GENERIC_ERROR, "must provide a valid bitmap name for '%s' sync mode", by_bitmap ? "bitmap" : "incremental");
	else if (by_bitmap && !a->has_bitmap_mode)
		ctl_fail(c, CTL_GENERIC_ERROR, "Bitmap sync mode must be given when providing a bitmap");
	else if (a->bitmap && a->sync == CTL_MIRROR_SYNC_MODE_NONE)
		ctl_fail(c, CTL_GENERIC_ERROR, "sync mode 'none' does not produce meaningful bitmap outputs");
	else if (a->has_bitmap_mode && !a->bitmap)
		ctl_fail(c, CTL_GENERIC_ERROR, "Cannot specify bitmap sync mode without a bitmap");
	else if (a->has_bitmap_mode && a->bitmap_mode != CTL_BITMAP_SYNC_MODE_ON_SUCCESS)
		ctl_fail(c, CTL_GENERIC_ERROR, "only bitmap-mode=on-success is available here");
	return !c->failed;
}

void ctl_cmd_drive_backup(struct ctl_call *c, const struct ctl_args_drive_backup *a)
{
	struct ctl_job *j = job_new(c, a->job_id, a->device, (uint64_t)a->speed, !kept(a->has_auto_dismiss, a->auto_dismiss));

	if (!j)
		return;
	if (check_bitmap(c, a)) {
		j->bitmap = a->bitmap;
		copy(c, j, start_backup, a->target, a->format, a->sync, a->has_mode && a->mode == CTL_NEW_IMAGE_MODE_EXISTING);
	} else {
		forget(j);
	}
}

/* Which layer has this file; the disk's lock held. */
static int layer_of(struct disk *d, const char *path, unsigned otherwise, unsigned *out, struct err *e)
{
	struct blk_node *n = *blk_slot_image(d->node);
	char *want = path ? realpath(path, NULL) : NULL;
	unsigned i = 0;
	bool found = !path;

	for (*out = otherwise; n && !found; i++, n = n->backing ? blk_skip_filters(n->backing) : NULL) {
		char *real = n->path ? realpath(n->path, NULL) : NULL;

		found = (n->path && !strcmp(n->path, path)) || (want && real && !strcmp(want, real));
		*out = i;
		free(real);
	}
	free(want);
	return found ? 0 : err_set(e, -ENOENT, "Can't find '%.200s' in the backing chain", path);
}

void ctl_cmd_block_commit(struct ctl_call *c, const struct ctl_args_block_commit *a)
{
	struct ctl_job *j = job_new(c, a->job_id, a->device, (uint64_t)a->speed, !kept(a->has_auto_dismiss, a->auto_dismiss));
	unsigned top, base, lowest = 0;
	struct err e = { .msg = "" };
	struct blk_job_opts o;
	int ret;

	if (!j)
		return;
	o = opts(j);
	disk_lock(j->d);
	for (struct blk_node *n = *blk_slot_image(j->d->node); n->backing; n = blk_skip_filters(n->backing))
		lowest++;
	ret = layer_of(j->d, a->top, 0, &top, &e);
	if (!ret)
		ret = layer_of(j->d, a->base, lowest, &base, &e);
	if (!ret && base <= top)
		ret = err_set(&e, -EINVAL, "the base must be below the top: there is nothing to commit");
	if (!ret)
		ret = blk_commit_start(j->d->node, top, base, &o, &j->j, &e);
	disk_unlock(j->d);
	begun(c, j, ret, &e);
}

void ctl_cmd_blockdev_snapshot_sync(struct ctl_call *c, const struct ctl_args_blockdev_snapshot_sync *a)
{
	struct disk *d = ctl_disk(c, a->device, a->node_name, NULL);
	struct err e = { .msg = "" };
	int ret;

	if (!d)
		return;
	if ((a->format && strcmp(a->format, "qcow2")) || (a->has_mode && a->mode == CTL_NEW_IMAGE_MODE_EXISTING)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "a snapshot is a new file of format qcow2 (mode absolute-paths)");
		return;
	}
	disk_lock(d);
	ret = blk_is_slot(d->node) ? blk_snapshot_file(d->node, a->snapshot_file, &e)
				   : err_set(&e, -ENOTSUP, "disk '%s' cannot have jobs or snapshots", d->id);
	disk_unlock(d);
	ctl_failed(c, ret, &e);
}

/* ---- jobs that there are ---- */

static struct ctl_job *job_of(struct ctl_call *c, const char *id, bool block)
{
	struct ctl_job *j = find(c->ctl, id);

	if (!j && block)
		ctl_fail(c, CTL_DEVICE_NOT_ACTIVE, "Block job '%.64s' not found", id);
	else if (!j)
		ctl_fail(c, CTL_GENERIC_ERROR, "Job not found");
	return j;
}

static const char *status_of(const struct ctl_job *j)
{
	return !j->j ? "concluded" : j->ready ? "ready" : "running";
}

void ctl_cmd_query_block_jobs(struct ctl_call *c, const struct ctl_args_query_block_jobs *a)
{
	json_t *list = json_array();

	list_for_each(n, &c->ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);
		struct blk_job_info i;

		info(j, &i);
		json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:b,s:b,s:I,s:s,s:b,s:s,s:b,s:b,s:s*}", "type", i.kind, "device",
						      j->id, "len", (json_int_t)i.total, "offset", (json_int_t)i.done, "busy", j->j != NULL,
						      "paused", 0, "speed", (json_int_t)j->speed, "io-status", "ok", "ready", (int)j->ready,
						      "status", status_of(j), "auto-finalize", 1, "auto-dismiss", (int)j->dismiss, "error",
						      j->error[0] ? j->error : NULL));
	}
	ctl_return(c, list);
}

void ctl_cmd_query_jobs(struct ctl_call *c, const struct ctl_args_query_jobs *a)
{
	json_t *list = json_array();

	list_for_each(n, &c->ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);
		struct blk_job_info i;

		info(j, &i);
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:I,s:I,s:s*}", "id", j->id, "type", i.kind, "status", status_of(j),
						      "current-progress", (json_int_t)i.done, "total-progress", (json_int_t)i.total, "error",
						      j->error[0] ? j->error : NULL));
	}
	ctl_return(c, list);
}

void ctl_cmd_block_job_set_speed(struct ctl_call *c, const struct ctl_args_block_job_set_speed *a)
{
	struct ctl_job *j = job_of(c, a->device, true);

	if (!j || !j->j)
		return;
	j->speed = (uint64_t)a->speed;
	disk_lock(j->d);
	blk_job_set_rate(j->j, j->speed);
	disk_unlock(j->d);
}

static void cancel(struct ctl_job *j, bool force)
{
	if (!j || !j->j)
		return;
	disk_lock(j->d);
	if (force || blk_job_complete(j->j, false, NULL))
		blk_job_cancel(j->j);
	disk_unlock(j->d);
}

static void complete(struct ctl_call *c, struct ctl_job *j)
{
	struct err e = { .msg = "" };
	int ret;

	if (!j)
		return;
	if (!j->j || !j->ready) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Job '%s' in state '%s' cannot accept command verb 'complete'", j->id, status_of(j));
		return;
	}
	disk_lock(j->d);
	ret = blk_job_complete(j->j, true, &e);
	disk_unlock(j->d);
	ctl_failed(c, ret, &e);
}

static void dismiss(struct ctl_call *c, struct ctl_job *j)
{
	if (!j)
		return;
	if (j->j) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Job '%s' in state '%s' cannot accept command verb 'dismiss'", j->id, status_of(j));
		return;
	}
	tell_status(j, "null");
	forget(j);
}

void ctl_cmd_block_job_cancel(struct ctl_call *c, const struct ctl_args_block_job_cancel *a)
{
	cancel(job_of(c, a->device, true), a->has_force && a->force);
}

void ctl_cmd_job_cancel(struct ctl_call *c, const struct ctl_args_job_cancel *a)
{
	cancel(job_of(c, a->id, false), true);
}

void ctl_cmd_block_job_complete(struct ctl_call *c, const struct ctl_args_block_job_complete *a)
{
	complete(c, job_of(c, a->device, true));
}

void ctl_cmd_job_complete(struct ctl_call *c, const struct ctl_args_job_complete *a)
{
	complete(c, job_of(c, a->id, false));
}

void ctl_cmd_block_job_dismiss(struct ctl_call *c, const struct ctl_args_block_job_dismiss *a)
{
	dismiss(c, job_of(c, a->id, true));
}

void ctl_cmd_job_dismiss(struct ctl_call *c, const struct ctl_args_job_dismiss *a)
{
	dismiss(c, job_of(c, a->id, false));
}

/* vm_run has ended: the machine's loop is turned here, I/O threads still run. */
void ctl_jobs_end(struct control *ctl)
{
	bool any = true;

	machine_lock(ctl->m);
	list_for_each(n, &ctl->jobs)
		cancel(list_entry(n, struct ctl_job, node), true);
	machine_unlock(ctl->m);
	while (any) {
		any = false;
		machine_lock(ctl->m);
		list_for_each_safe(n, &ctl->jobs) {
			struct ctl_job *j = list_entry(n, struct ctl_job, node);

			if (!j->j)
				forget(j);
			else
				any = true;
		}
		machine_unlock(ctl->m);
		if (any && loop_turn(ctl->m->loop, 10))
			break;
	}
}
