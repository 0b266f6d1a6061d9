// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Layers of a disk: snapshots that put one on top, other names for what they stand
 * on, other ways of opening them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/blockdev.h"
#include "block/qcow2/qcow2.h"
#include "control/job.h"

/* ---- snapshots ---- */

struct snapshot {
	struct ctl_action a;
	struct disk *d;
	char *made;			/* the file that was made; NULL: none */
};

static void snapshot_commit(struct ctl_action *a)
{
	struct snapshot *s = container_of(a, struct snapshot, a);

	free(s->made);
	free(s);
}

/* The slot has been held since. */
static void snapshot_undo(struct ctl_action *a)
{
	struct snapshot *s = container_of(a, struct snapshot, a);

	disk_lock(s->d);
	blk_slot_hold(s->d->node);
	blk_close(blk_snapshot_undo(s->d->node));
	blk_slot_release(s->d->node);
	disk_unlock(s->d);
	if (s->made)
		unlink(s->made);
	snapshot_commit(a);
}

static struct snapshot *snapshot_new(struct disk *d, const char *made)
{
	struct snapshot *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->d = d;
	s->made = made ? strdup(made) : NULL;
	if (made && !s->made) {
		free(s);
		return NULL;
	}
	return s;
}

/* A node of a disk, but not the one that its requests go to. True: the call has failed. */
static bool is_below(struct ctl_call *c, const char *name)
{
	const char *over;
	struct vm_node x;
	bool backing;

	if (!name || ctl_find_quietly(c->ctl, name) || !vm_node_find(c->ctl->vm, name, &x))
		return false;
	over = vm_node_parent(c->ctl->vm, x.n, &backing);
	if (over)
		ctl_fail(c, CTL_GENERIC_ERROR, "Node '%.60s' is busy: node is used as %s of '%s'", name, backing ? "backing hd" : "file", over);
	return c->failed;
}

/* A writable disk whose image may get a layer. NULL: the call has failed. */
static struct disk *disk_for(struct ctl_call *c, const char *device, const char *node)
{
	struct disk *d = is_below(c, node) ? NULL : ctl_disk(c, device, node, NULL);

	if (d && !blk_is_slot(d->node))
		ctl_fail(c, CTL_GENERIC_ERROR, "disk '%s' cannot have jobs or snapshots", d->id);
	return c->failed ? NULL : d;
}

/* An overlay that exists: what it says it stands on is not opened. */
static int attach_existing(struct disk *d, const char *path, struct err *e)
{
	const struct blk_image_opts io = { .format = "qcow2", .no_backing = true, .trust = BLK_TRUST_NONE };
	struct blk_node *overlay;
	int ret = blk_open_image(d->node->loop, path, &io, &overlay, e);

	if (ret)
		return ret;
	ret = blk_snapshot_attach(d->node, overlay, e);
	if (ret)
		blk_close(overlay);
	return ret;
}

static void name_top(struct disk *d, const char *name)
{
	struct blk_node *top = *blk_slot_image(d->node);

	if (name)
		snprintf(top->name, sizeof(top->name), "%s", name);
}

static int check_name(struct control *ctl, const char *name, struct err *e)
{
	struct vm_node x;

	if (!name)
		return 0;
	if (vm_node_find(ctl->vm, name, &x))
		return err_set(e, -EEXIST, "New overlay node-name already in use");
	return blockdev_check_name(name, e);
}

void ctl_cmd_blockdev_snapshot_sync(struct ctl_call *c, const struct ctl_args_blockdev_snapshot_sync *a)
{
	bool existing = a->has_mode && a->mode == CTL_NEW_IMAGE_MODE_EXISTING;
	struct disk *d = disk_for(c, a->device, a->node_name);
	struct ctl_txn own, *t = ctl_txn_of(c, &own);
	struct err e = { .msg = "" };
	struct snapshot *s;
	int ret;

	if (!d)
		return;
	if (a->format && strcmp(a->format, "qcow2")) {
		ctl_fail(c, CTL_GENERIC_ERROR, "a snapshot is a file of format qcow2");
		return;
	}
	if (ctl_failed(c, check_name(c->ctl, a->snapshot_node_name, &e), &e))
		return;
	s = snapshot_new(d, existing ? NULL : a->snapshot_file);
	if (!s) {
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
		return;
	}
	disk_lock(d);
	ret = existing ? attach_existing(d, a->snapshot_file, &e) : blk_snapshot_file(d->node, a->snapshot_file, &e);
	if (!ret)
		name_top(d, a->snapshot_node_name);
	disk_unlock(d);
	if (ctl_failed(c, ret, &e))
		snapshot_commit(&s->a);
	else
		ctl_txn_add(t, &s->a, snapshot_commit, snapshot_undo);
	ctl_txn_done(t, &own);
}

/* In QEMU's words. */
static int check_overlay(struct ctl_call *c, const char *name, struct err *e)
{
	struct vm_node x;

	if (!vm_node_find(c->ctl->vm, name, &x))
		return err_set(e, -ENOENT, "Cannot find device='%.60s' nor node-name='%.60s'", name, name);
	if (x.d)
		return err_set(e, -EBUSY, "The overlay is already in use");
	if (x.n->backing)
		return err_set(e, -EINVAL, "The overlay already has a backing image");
	return 0;
}

void ctl_cmd_blockdev_snapshot(struct ctl_call *c, const struct ctl_args_blockdev_snapshot *a)
{
	struct disk *d = disk_for(c, NULL, a->node);
	struct ctl_txn own, *t = ctl_txn_of(c, &own);
	struct blk_node *overlay = NULL;
	struct err e = { .msg = "" };
	struct snapshot *s;
	int ret;

	if (!d)
		return;
	s = snapshot_new(d, NULL);
	ret = s ? check_overlay(c, a->overlay, &e) : err_set(&e, -ENOMEM, "out of memory");
	ret = ret ? ret : vm_node_take(c->ctl->vm, a->overlay, d->o.io, true, &overlay, &e);
	if (!ret) {
		disk_lock(d);
		ret = blk_snapshot_attach(d->node, overlay, &e);
		if (ret)
			blk_close(overlay);
		disk_unlock(d);
	}
	if (!ctl_failed(c, ret, &e))
		ctl_txn_add(t, &s->a, snapshot_commit, snapshot_undo);
	else if (s)
		snapshot_commit(&s->a);
	ctl_txn_done(t, &own);
}

/* ---- names of what is below ---- */

static int rename_backing(struct blk_node *n, const char *name, struct err *e)
{
	const struct blk_reopen writable = { .read_only = false }, read_only = { .read_only = true };
	bool was = n->i.read_only;
	int ret;

	if (!n->format || strcmp(n->format, "qcow2"))
		return err_set(e, -ENOTSUP, "image '%s' is no qcow2 image, which alone is given names here", n->path ? n->path : n->name);
	if (!n->backing)
		return err_set(e, -EINVAL, "not allowing backing file change on an image without a backing file");
	ret = was ? blk_reopen(n, &writable, e) : 0;
	if (ret)
		return ret;
	ret = qcow2_set_backing(n, name, blk_skip_filters(n->backing)->format, e);
	if (!ret && blk_flush(n))
		ret = err_set(e, -EIO, "image '%s' cannot be flushed", n->path ? n->path : n->name);
	if (was)
		blk_reopen(n, &read_only, NULL);
	return ret;
}

void ctl_cmd_change_backing_file(struct ctl_call *c, const struct ctl_args_change_backing_file *a)
{
	struct disk *d = ctl_find_quietly(c->ctl, a->device);
	struct err e = { .msg = "" };
	struct blk_node *n;
	unsigned i;
	int ret;

	if (!d)
		ctl_fail(c, CTL_GENERIC_ERROR, "Cannot find device='%.60s' nor node-name='%.60s'", a->device, a->device);
	d = d ? disk_for(c, a->device, NULL) : NULL;
	if (!d)
		return;
	disk_lock(d);
	ret = ctl_layer_by_node(d->node, a->image_node_name, &i, &e);
	if (!ret && ctl_disk_busy(c->ctl, d))
		ret = err_set(&e, -EBUSY, "disk '%s' is in use by a job", d->id);
	if (!ret) {
		blk_slot_hold(d->node);
		for (n = *blk_slot_image(d->node); i; i--)
			n = blk_skip_filters(n->backing);
		ret = rename_backing(n, a->backing_file, &e);
		blk_slot_release(d->node);
	}
	disk_unlock(d);
	ctl_failed(c, ret, &e);
}

/* ---- opening otherwise ---- */

static const char *const may_change[] = { "read-only", "cache", "backing", "auto-read-only", "discard", NULL };

static bool in_list(const char *key)
{
	for (unsigned i = 0; may_change[i]; i++)
		if (!strcmp(may_change[i], key))
			return true;
	return false;
}

/* What it was described with once holds still, but for what may change.  A child may be called by its name. */
static int check_same(const json_t *old, const json_t *now, struct err *e)
{
	const char *key;
	json_t *v, *w;

	json_object_foreach((json_t *)(uintptr_t)old, key, v) {
		w = json_object_get(now, key);
		if (in_list(key))
			continue;
		if (!w || (!json_equal(v, w) && !(json_is_object(v) && json_is_string(w) && json_object_get(v, "node-name") &&
						  json_equal(json_object_get(v, "node-name"), w))))
			return err_set(e, -EINVAL, "Cannot change the option '%s'", key);
	}
	json_object_foreach((json_t *)(uintptr_t)now, key, v)
		if (!in_list(key) && !json_object_get(old, key))
			return err_set(e, -EINVAL, "Cannot change the option '%s'", key);
	return 0;
}

static struct blk_reopen wanted(const struct blk_node *n, const json_t *o)
{
	const json_t *cache = json_object_get(o, "cache");
	bool direct = json_is_true(json_object_get(cache, "direct")), no_flush = json_is_true(json_object_get(cache, "no-flush"));
	struct blk_reopen how = { .read_only = json_is_true(json_object_get(o, "read-only")) };

	how.cache = no_flush ? BLK_CACHE_UNSAFE : direct ? BLK_CACHE_NONE : BLK_CACHE_WRITEBACK;
	how.set_cache = cache && how.cache != blk_cache_of(n);
	return how;
}

static bool is_it(void *opaque, struct blk_node *n)
{
	return n == opaque;
}

/* An owner more of the node that is to be below x. */
static int take_backing(struct control *ctl, struct vm_node *x, const char *name, struct blk_node **out, struct err *e)
{
	const struct blk_reopen read_only = { .read_only = true };
	bool above = false, there;
	struct vm_node y;
	int ret;

	there = vm_node_find(ctl->vm, name, &y);
	if (there) {
		iothread_lock(y.io);
		above = blockdev_each(y.n, is_it, x->n);
		iothread_unlock(y.io);
	}
	if (above)
		return err_set(e, -EINVAL, "Making '%s' a backing child of '%s' would create a cycle", name, x->n->name);
	/* Others see through it already. */
	if (there && y.io == x->io && y.n->i.read_only && y.n->refs > (y.added ? 1u : 0u)) {
		*out = blk_ref(y.n);
		return 0;
	}
	ret = vm_node_take(ctl->vm, name, x->io, false, out, e);
	if (ret)
		return ret;
	iothread_lock(x->io);
	ret = (*out)->i.read_only ? 0 : blk_reopen(*out, &read_only, e);
	if (ret)
		blk_close(*out);
	iothread_unlock(x->io);
	return ret;
}

/* What is to be below, if anything is said of it: other is true if that is another image, *out, or none. */
static int find_backing(struct control *ctl, struct vm_node *x, const json_t *to, bool *other, struct blk_node **out, struct err *e)
{
	const char *name = json_string_value(to);

	*other = false;
	*out = NULL;
	if (!to)
		return 0;
	if (!x->n->format || strcmp(x->n->format, "qcow2"))
		return err_set(e, -EINVAL, "Cannot change the option 'backing'");
	if (name && x->n->backing && !strcmp(x->n->backing->name, name))
		return 0;
	if (json_is_object(to))
		return err_set(e, -ENOTSUP, "'backing' is the name of a node, or null");
	*other = true;
	return name && *name ? take_backing(ctl, x, name, out, e) : 0;
}

/* In place of what is below. The lock held, nothing is under way. */
static void swap_backing(struct blk_node *n, struct blk_node *below)
{
	struct blk_node *old = NULL;

	blk_drain(n);
	qcow2_plug_backing(n, below, &old);
	blk_close(old);
}

/* Does what stands on the node write to it? What does so under no name is the job whose target it is. */
static bool is_written(struct vm *vm, const struct vm_node *x)
{
	struct vm_node over;
	const char *name;
	bool backing;

	for (const struct blk_node *n = x->d ? x->d->node : NULL; n && !n->i.read_only; n = n->file)
		if (n->file == x->n)
			return true;
	name = vm_node_parent(vm, x->n, &backing);
	if (!name)
		return !x->d && x->n->refs > (x->added ? 1u : 0u);
	return !backing && vm_node_find(vm, name, &over) && !over.n->i.read_only;
}

static int reopen(struct ctl_call *c, const json_t *o, struct err *e)
{
	const char *name = json_string_value(json_object_get(o, "node-name"));
	const json_t *old = name ? vm_node_description(c->ctl->vm, name) : NULL, *backing = json_object_get(o, "backing");
	struct blk_node *below;
	struct blk_reopen how;
	struct vm_node x;
	bool slot, other;
	int ret;

	if (!name)
		return err_set(e, -EINVAL, "node-name not specified");
	if (!old || !vm_node_find(c->ctl->vm, name, &x))
		return err_set(e, -ENOENT, "Failed to find node with node-name='%.60s'", name);
	if (ctl_node_busy(c->ctl, x.n))
		return err_set(e, -EBUSY, "Node '%s' is in use by a job", name);
	ret = check_same(old, o, e);
	if (ret)
		return ret;
	how = wanted(x.n, o);
	slot = x.d && blk_is_slot(x.d->node);
	if (how.read_only && !x.n->i.read_only && is_written(c->ctl->vm, &x))
		return err_set(e, -EBUSY, "Read-only block node '%s' cannot support read-write users", name);
	ret = find_backing(c->ctl, &x, backing, &other, &below, e);
	if (ret)
		return ret;
	iothread_lock(x.io);
	if (slot)
		blk_slot_hold(x.d->node);
	ret = how.set_cache || how.read_only != x.n->i.read_only ? blk_reopen(x.n, &how, e) : 0;
	if (!ret && other)
		swap_backing(x.n, below);
	else
		blk_close(below);
	if (slot) {
		blk_slot_refresh(x.d->node);
		blk_slot_release(x.d->node);
	}
	iothread_unlock(x.io);
	return ret;
}

/* One after the other; the first that fails is the end. */
void ctl_cmd_blockdev_reopen(struct ctl_call *c, const struct ctl_args_blockdev_reopen *a)
{
	struct err e = { .msg = "" };
	json_t *o;
	size_t i;
	int ret = 0;

	json_array_foreach(a->options, i, o)
		ret = ret ? ret : reopen(c, o, &e);
	ctl_failed(c, ret, &e);
}
