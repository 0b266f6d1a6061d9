// SPDX-License-Identifier: GPL-2.0-or-later
/* Jobs that copy: mirror, backup, commit and stream, from their arguments to their start. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blockdev.h"
#include "block/qcow2/qcow2.h"
#include "control/job.h"

/* Optional flags that are on unless somebody says otherwise. */
static bool is_off(bool has, bool value) { return has && !value; }

/* What the arguments of all these commands say of the job. */
#define JOB_OF(a) { \
	.id = (a)->job_id, .speed = (uint64_t)(a)->speed, .keep = is_off((a)->has_auto_dismiss, (a)->auto_dismiss), \
	.hold = is_off((a)->has_auto_finalize, (a)->auto_finalize) }

/* ---- targets ---- */

/* Where a copy goes: a file that is made or exists, or a node. */
struct target {
	const char *file, *format, *node_name;	/* node_name: what the file's node is to be called */
	const char *node;			/* NULL: the file */
	bool existing;
	struct blk_node *n;
};

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

/* On the root's loop, whose lock is held. */
static int open_file(const struct ctl_root *r, struct target *t, bool top, struct err *e)
{
	struct blk_node *image = *blk_slot_image(r->slot), *below = top && !t->existing ? image->backing : NULL;
	/* A new one stands on what the disk stands on: the very nodes, whatever their files say that is below them. */
	struct blk_image_opts io = { .trust = t->existing ? BLK_TRUST_FOLDER : BLK_TRUST_NONE, .no_backing = !t->existing };
	const char *like = image->format ? image->format : "raw";
	int ret = 0;

	io.format = t->format ? t->format : strcmp(like, "qcow2") ? "raw" : like;
	if (strcmp(io.format, "raw") && strcmp(io.format, "qcow2"))
		return err_set(e, -EINVAL, "Unknown driver '%.40s': a target is raw or qcow2", io.format);
	if (below && !strcmp(io.format, "raw"))
		return err_set(e, -EINVAL, "a raw target cannot stand on the disk's backing image; sync=full copies that too");
	if (!t->existing)
		ret = !strcmp(io.format, "raw") ? make_raw(image, t->file, e)
						: make_qcow2(image, t->file, below ? blk_skip_filters(below) : NULL, e);
	ret = ret ? ret : blk_open_image(r->slot->loop, t->file, &io, &t->n, e);
	if (!ret && below)
		qcow2_plug_backing(t->n, blk_ref(below), NULL);
	if (!ret && t->node_name)
		snprintf(t->n->name, sizeof(t->n->name), "%s", t->node_name);
	return ret;
}

static int check_node_name(struct control *ctl, const char *name, struct err *e)
{
	struct vm_node x;

	if (!name)
		return 0;
	if (vm_node_find(ctl->vm, name, &x))
		return err_set(e, -EEXIST, "Duplicate nodes with node-name='%.60s'", name);
	return blockdev_check_name(name, e);
}

/* t->n is the caller's. */
static int open_target(struct ctl_job *j, struct target *t, enum blk_sync sync, struct err *e)
{
	struct vm *vm = j->ctl->vm;
	struct vm_node x;
	int ret = check_node_name(j->ctl, t->node_name, e);

	if (ret)
		return ret;
	if (t->node) {
		if (!vm_node_find(vm, t->node, &x))
			return err_set(e, -ENOENT, "Cannot find device='%.60s' nor node-name='%.60s'", t->node, t->node);
		return vm_node_take(vm, t->node, j->at.io, true, &t->n, e);
	}
	iothread_lock(j->at.io);
	ret = open_file(&j->at, t, sync != BLK_SYNC_FULL, e);
	iothread_unlock(j->at.io);
	return ret;
}

/* ---- mirror ---- */

static int mirror_sync(enum ctl_mirror_sync_mode m, enum blk_sync *out, struct err *e)
{
	switch (m) {
	case CTL_MIRROR_SYNC_MODE_FULL: *out = BLK_SYNC_FULL; return 0;
	case CTL_MIRROR_SYNC_MODE_TOP: *out = BLK_SYNC_TOP; return 0;
	case CTL_MIRROR_SYNC_MODE_NONE: *out = BLK_SYNC_NONE; return 0;
	case CTL_MIRROR_SYNC_MODE_INCREMENTAL:
	case CTL_MIRROR_SYNC_MODE_BITMAP:
	default: return err_set(e, -ENOTSUP, "Sync mode '%s' not supported", ctl_type_MirrorSyncMode.values[m]);
	}
}

static void mirror(struct ctl_call *c, const char *device, const struct ctl_job_opts *jo, enum ctl_mirror_sync_mode mode, struct target *t)
{
	struct err e = { .msg = "" };
	enum blk_sync sync = BLK_SYNC_FULL;
	struct ctl_txn own, *txn = ctl_txn_of(c, &own);
	struct blk_job_opts o;
	struct ctl_root r;
	struct ctl_job *j;
	int ret;

	if (!ctl_root_find(c, device, &r))
		return;
	j = ctl_job_new(c, &r, jo);
	if (!j)
		return;
	ret = mirror_sync(mode, &sync, &e);
	ret = ret ? ret : open_target(j, t, sync, &e);
	if (!ret) {
		o = ctl_job_options(j);
		iothread_lock(j->at.io);
		/* What stands on nothing has no top but the whole. */
		if (sync == BLK_SYNC_TOP && !(*blk_slot_image(j->at.slot))->backing)
			sync = BLK_SYNC_FULL;
		ret = blk_mirror_start(j->at.slot, t->n, sync, &o, &j->j, &e);
		if (ret)
			blk_close(t->n);
		iothread_unlock(j->at.io);
	}
	ctl_txn_job(txn, j, ret, &e);
	ctl_txn_done(txn, &own);
}

void ctl_cmd_drive_mirror(struct ctl_call *c, const struct ctl_args_drive_mirror *a)
{
	const struct ctl_job_opts o = JOB_OF(a);
	struct target t = { .file = a->target, .format = a->format, .node_name = a->node_name,
			    .existing = a->has_mode && a->mode == CTL_NEW_IMAGE_MODE_EXISTING };

	mirror(c, a->device, &o, a->sync, &t);
}

void ctl_cmd_blockdev_mirror(struct ctl_call *c, const struct ctl_args_blockdev_mirror *a)
{
	const struct ctl_job_opts o = JOB_OF(a);
	struct target t = { .node = a->target };

	mirror(c, a->device, &o, a->sync, &t);
}

/* ---- backup ---- */

struct backup {
	const char *device, *bitmap;
	enum ctl_mirror_sync_mode sync;
	bool has_mode, compress;
	enum ctl_bitmap_sync_mode mode;
	struct ctl_job_opts o;
};

static bool has_bitmap(struct ctl_root *r, const char *name)
{
	json_t *all, *b;
	bool found = false;
	size_t i;

	iothread_lock(r->io);
	all = ctl_bitmaps(*blk_slot_image(r->slot));
	iothread_unlock(r->io);
	json_array_foreach(all, i, b)
		found |= !strcmp(json_string_value(json_object_get(b, "name")), name);
	json_decref(all);
	return found;
}

/* In QEMU's order, with its words. */
static bool check_bitmap(struct ctl_call *c, struct ctl_root *r, struct backup *b)
{
	const char *sync = ctl_type_MirrorSyncMode.values[b->sync], *mode = ctl_type_BitmapSyncMode.values[b->mode];
	bool incremental = b->sync == CTL_MIRROR_SYNC_MODE_INCREMENTAL, by_bitmap = incremental || b->sync == CTL_MIRROR_SYNC_MODE_BITMAP;

	if (by_bitmap && !b->bitmap)
		ctl_fail(c, CTL_GENERIC_ERROR, "must provide a valid bitmap name for '%s' sync mode", sync);
	else if (incremental && b->has_mode && b->mode != CTL_BITMAP_SYNC_MODE_ON_SUCCESS)
		ctl_fail(c, CTL_GENERIC_ERROR, "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'");
	else if (b->bitmap && !has_bitmap(r, b->bitmap))
		ctl_fail(c, CTL_GENERIC_ERROR, "Bitmap '%.200s' could not be found", b->bitmap);
	else if (b->bitmap && !b->has_mode && !incremental)
		ctl_fail(c, CTL_GENERIC_ERROR, "Bitmap sync mode must be given when providing a bitmap");
	else if (b->bitmap && b->sync == CTL_MIRROR_SYNC_MODE_NONE)
		ctl_fail(c, CTL_GENERIC_ERROR, "sync mode '%s' does not produce meaningful bitmap outputs", sync);
	else if (b->bitmap && b->has_mode && b->mode == CTL_BITMAP_SYNC_MODE_NEVER && !by_bitmap)
		ctl_fail(c, CTL_GENERIC_ERROR, "Bitmap sync mode '%s' has no meaningful effect when combined with sync mode '%s'", mode, sync);
	else if (!b->bitmap && b->has_mode)
		ctl_fail(c, CTL_GENERIC_ERROR, "Cannot specify bitmap sync mode without a bitmap");
	else if (b->compress)
		ctl_fail(c, CTL_GENERIC_ERROR, "compress=true is not supported");
	return !c->failed;
}

static enum blk_sync backup_sync(const struct ctl_root *r, enum ctl_mirror_sync_mode m)
{
	switch (m) {
	case CTL_MIRROR_SYNC_MODE_NONE: return BLK_SYNC_NONE;
	case CTL_MIRROR_SYNC_MODE_TOP: return (*blk_slot_image(r->slot))->backing ? BLK_SYNC_TOP : BLK_SYNC_FULL;
	case CTL_MIRROR_SYNC_MODE_INCREMENTAL:
	case CTL_MIRROR_SYNC_MODE_BITMAP: return BLK_SYNC_DIRTY;
	case CTL_MIRROR_SYNC_MODE_FULL:
	default: return BLK_SYNC_FULL;
	}
}

static int start_backup(struct ctl_job *j, const struct backup *b, struct target *t, struct err *e)
{
	enum blk_sync sync = backup_sync(&j->at, b->sync);
	struct blk_job_opts o = ctl_job_options(j);
	int ret = open_target(j, t, sync, e);

	if (ret)
		return ret;
	o.keep_bitmap = b->has_mode && b->mode == CTL_BITMAP_SYNC_MODE_NEVER;
	iothread_lock(j->at.io);
	ret = b->bitmap ? blk_backup_start_persistent(j->at.slot, t->n, sync, b->bitmap, &o, &j->j, e)
			: blk_backup_start(j->at.slot, t->n, sync, NULL, &o, &j->j, e);
	if (ret)
		blk_close(t->n);
	iothread_unlock(j->at.io);
	return ret;
}

static void backup(struct ctl_call *c, struct backup *b, struct target *t)
{
	struct ctl_txn own, *txn = ctl_txn_of(c, &own);
	struct err e = { .msg = "" };
	struct ctl_root r;
	struct ctl_job *j;

	if (!ctl_root_find(c, b->device, &r))
		return;
	if (!check_bitmap(c, &r, b)) {
		ctl_root_drop(&r);
		return;
	}
	j = ctl_job_new(c, &r, &b->o);
	if (!j)
		return;
	ctl_txn_job(txn, j, start_backup(j, b, t, &e), &e);
	ctl_txn_done(txn, &own);
}

#define BACKUP_OF(a) { \
	.device = (a)->device, .bitmap = (a)->bitmap, .sync = (a)->sync, .has_mode = (a)->has_bitmap_mode, .mode = (a)->bitmap_mode, \
	.compress = (a)->compress, .o = JOB_OF(a) }

void ctl_cmd_drive_backup(struct ctl_call *c, const struct ctl_args_drive_backup *a)
{
	struct backup b = BACKUP_OF(a);
	struct target t = { .file = a->target, .format = a->format, .existing = a->has_mode && a->mode == CTL_NEW_IMAGE_MODE_EXISTING };

	backup(c, &b, &t);
}

void ctl_cmd_blockdev_backup(struct ctl_call *c, const struct ctl_args_blockdev_backup *a)
{
	struct backup b = BACKUP_OF(a);
	struct target t = { .node = a->target };

	backup(c, &b, &t);
}

/* ---- layers ---- */

int ctl_layer_by_file(struct blk_node *slot, const char *path, unsigned *out, struct err *e)
{
	struct blk_node *n = *blk_slot_image(slot);
	char *want = realpath(path, NULL);
	bool found = false;

	for (*out = 0; n; ++*out, n = n->backing ? blk_skip_filters(n->backing) : NULL) {
		char *real = n->path ? realpath(n->path, NULL) : NULL;

		found = (n->path && !strcmp(n->path, path)) || (want && real && !strcmp(want, real));
		free(real);
		if (found)
			break;
	}
	free(want);
	return found ? 0 : err_set(e, -ENOENT, "Can't find '%.200s' in the backing chain", path);
}

int ctl_layer_by_node(struct blk_node *slot, const char *name, unsigned *out, struct err *e)
{
	struct blk_node *n = *blk_slot_image(slot);

	for (*out = 0; n && strcmp(n->name, name); ++*out)
		n = n->backing ? blk_skip_filters(n->backing) : NULL;
	return n ? 0 : err_set(e, -ENOENT, "'%.60s' is not in this backing file chain", name);
}

/* One of the two, or neither: then *out stays as it is. */
static int find_layer(struct ctl_root *r, const char *file, const char *node, const char *what, unsigned *out, struct err *e)
{
	if (file && node)
		return err_set(e, -EINVAL, "'%s-node' and '%s' are mutually exclusive", what, what);
	return file ? ctl_layer_by_file(r->slot, file, out, e) : node ? ctl_layer_by_node(r->slot, node, out, e) : 0;
}

/* True: the call has failed, since there is no such node. No I/O thread's lock is held. */
static bool missing(struct ctl_call *c, const char *name)
{
	struct vm_node x;

	if (name && !vm_node_find(c->ctl->vm, name, &x))
		ctl_fail(c, CTL_GENERIC_ERROR, "Cannot find device='' nor node-name='%.60s'", name);
	return c->failed;
}

static unsigned lowest_layer(struct ctl_root *r)
{
	unsigned lowest = 0;

	for (struct blk_node *n = *blk_slot_image(r->slot); n->backing; n = blk_skip_filters(n->backing))
		lowest++;
	return lowest;
}

static struct blk_node *layer_at(struct ctl_root *r, unsigned i)
{
	struct blk_node *n = *blk_slot_image(r->slot);

	while (i-- && n->backing)
		n = blk_skip_filters(n->backing);
	return n;
}

/* Layers `from` to `to` change, for whoever else sees them: nobody may. */
static int check_shared(struct ctl_job *j, unsigned from, unsigned to, struct err *e)
{
	for (unsigned i = from; i <= to; i++) {
		struct blk_node *n = layer_at(&j->at, i);

		if (n->refs > 1 + vm_idle_owners(j->ctl->vm, n))
			return err_set(e, -EBUSY, "Node '%s' is busy: it is in use by others as well", n->name);
	}
	return 0;
}

static int start_commit(struct ctl_job *j, const void *args, struct err *e)
{
	const struct ctl_args_block_commit *a = args;
	unsigned top = 0, base = lowest_layer(&j->at);
	struct blk_job_opts o = ctl_job_options(j);
	int ret = find_layer(&j->at, a->top, a->top_node, "top", &top, e);

	if (ret == -ENOENT && a->top)
		err_set(e, ret, "Top image file %.200s not found", a->top);
	ret = ret ? ret : find_layer(&j->at, a->base, a->base_node, "base", &base, e);
	if (!ret && base == top)
		ret = err_set(e, -EINVAL, "cannot commit an image into itself");
	else if (!ret && base < top)
		ret = err_set(e, -EINVAL, "the base must be below the top: there is nothing to commit");
	else if (!ret && a->backing_file && !top)
		ret = err_set(e, -EINVAL, "'backing-file' specified, but 'top' is the active layer");
	else if (!ret && a->backing_file)
		o.base_name = a->backing_file;
	/* The top shows the same afterwards, what is between it and the base does not. */
	ret = ret ? ret : check_shared(j, top + 1, base, e);
	return ret ? ret : blk_commit_start(j->at.slot, top, base, &o, &j->j, e);
}

/* Of a job whose root was found, and that names layers by the two nodes: they are there, and it begins. */
static void layer_job(struct ctl_call *c, struct ctl_root *r, const char *const nodes[2], const struct ctl_job_opts *o,
		      int (*start)(struct ctl_job *j, const void *args, struct err *e), const void *args)
{
	struct ctl_txn own, *txn = ctl_txn_of(c, &own);
	struct err e = { .msg = "" };
	struct ctl_job *j;
	int ret;

	if (missing(c, nodes[0]) || missing(c, nodes[1])) {
		ctl_root_drop(r);
		return;
	}
	j = ctl_job_new(c, r, o);
	if (!j)
		return;
	iothread_lock(j->at.io);
	ret = start(j, args, &e);
	iothread_unlock(j->at.io);
	ctl_txn_job(txn, j, ret, &e);
	ctl_txn_done(txn, &own);
}

void ctl_cmd_block_commit(struct ctl_call *c, const struct ctl_args_block_commit *a)
{
	const struct ctl_job_opts o = JOB_OF(a);
	struct ctl_root r;

	if (ctl_root_find(c, a->device, &r))
		layer_job(c, &r, (const char *const[]){ a->top_node, a->base_node }, &o, start_commit, a);
	/* As QEMU has it, for this command alone. */
	else if (!ctl_find_quietly(c->ctl, a->device))
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.64s' not found", a->device);
}

static int start_stream(struct ctl_job *j, const void *args, struct err *e)
{
	const struct ctl_args_block_stream *a = args;
	struct blk_job_opts o = ctl_job_options(j);
	unsigned base = 0;
	int ret;

	if (a->bottom && (a->base || a->base_node))
		return err_set(e, -EINVAL, "'bottom' and 'base%s' are mutually exclusive", a->base ? "" : "-node");
	ret = find_layer(&j->at, a->base, a->base_node, "base", &base, e);
	if (!ret && (a->base || a->base_node) && !base)
		ret = err_set(e, -EINVAL, "'%.200s' is the disk's image itself, and no base of it", a->base ? a->base : a->base_node);
	if (!ret && a->bottom) {
		ret = ctl_layer_by_node(j->at.slot, a->bottom, &base, e);
		base = base < lowest_layer(&j->at) ? base + 1 : 0;
	}
	if (!ret && a->backing_file && !base)
		ret = err_set(e, -EINVAL, "backing file specified, but streaming the entire chain");
	o.base_name = a->backing_file;
	return ret ? ret : blk_stream_start(j->at.slot, base, &o, &j->j, e);
}

void ctl_cmd_block_stream(struct ctl_call *c, const struct ctl_args_block_stream *a)
{
	const struct ctl_job_opts o = JOB_OF(a);
	struct ctl_root r;

	if (ctl_root_find(c, a->device, &r))
		layer_job(c, &r, (const char *const[]){ a->base_node, a->bottom }, &o, start_stream, a);
}
