// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Block nodes under QEMU's names: adding and deleting them, and what they and the
 * disks over them are.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "block/blockdev.h"
#include "block/qcow2/qcow2.h"
#include "control/disk.h"
#include "storage/media.h"

#define MAX_LAYERS 256

/* ---- adding and deleting ---- */

void ctl_cmd_blockdev_add(struct ctl_call *c, const struct ctl_args_blockdev_add *a)
{
	struct err e = { .msg = "" };

	int ret = ctl_fdset_paths(c->ctl, a->all, &e);

	ctl_failed(c, ret ? ret : vm_node_add(c->ctl->vm, a->all, &e), &e);
}

void ctl_cmd_blockdev_del(struct ctl_call *c, const struct ctl_args_blockdev_del *a)
{
	struct err e = { .msg = "" };

	ctl_failed(c, vm_node_del(c->ctl->vm, a->node_name, &e), &e);
}

void ctl_cmd_object_add(struct ctl_call *c, const struct ctl_args_object_add *a)
{
	struct err e = { .msg = "" };

	ctl_failed(c, vm_object_add(c->ctl->vm, a->all, &e), &e);
}

/* Objects are below /objects; a name alone will do. */
static const char *object_id(const char *path)
{
	return strncmp(path, "/objects/", 9) ? path : path + 9;
}

void ctl_cmd_qom_set(struct ctl_call *c, const struct ctl_args_qom_set *a)
{
	struct err e = { .msg = "" };
	int ret;

	if (ctl_memory_property(c, a->path, a->property, a->value))
		return;
	ret = vm_object_set(c->ctl->vm, object_id(a->path), a->property, a->value, &e);

	if (ret == -ENOENT)
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.60s' not found", a->path);
	else
		ctl_failed(c, ret, &e);
}

void ctl_cmd_qom_get(struct ctl_call *c, const struct ctl_args_qom_get *a)
{
	struct err e = { .msg = "" };
	json_t *v = NULL;
	int ret;

	if (ctl_memory_property(c, a->path, a->property, NULL))
		return;
	ret = vm_object_get(c->ctl->vm, object_id(a->path), a->property, &v, &e);
	if (ret == -ENOENT)
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.60s' not found", a->path);
	else if (!ctl_failed(c, ret, &e))
		ctl_return(c, v);
}

void ctl_cmd_object_del(struct ctl_call *c, const struct ctl_args_object_del *a)
{
	struct err e = { .msg = "" };

	ctl_failed(c, vm_object_del(c->ctl->vm, a->id, &e), &e);
}

/* ---- what they are ---- */

static void add_text(json_t *j, const char *key, const char *text)
{
	json_t *s = json_string(text ? text : "");

	/* Names of files are bytes. */
	json_object_set_new(j, key, s ? s : json_string("?"));
}

/* What somebody else may have named stands below it. */
static struct blk_node *layer_below(struct blk_node *n)
{
	n = n->drv->filter ? n->file : n->backing;
	while (n && n->drv->filter && !n->name[0])
		n = n->file;
	return n;
}

static void add_snapshots(json_t *j, struct blk_node *n)
{
	const struct qcow2_snapshot *s;
	json_t *list;
	unsigned count;

	if (!n->format || strcmp(n->format, "qcow2") || qcow2_snapshot_known(n, &s, &count) || !count)
		return;
	list = json_array();
	for (unsigned i = 0; i < count; i++) {
		json_t *x = json_pack("{s:I,s:I,s:I,s:I,s:I}", "vm-state-size", (json_int_t)s[i].vm_state_size, "date-sec", (json_int_t)s[i].date_sec,
				      "date-nsec", (json_int_t)s[i].date_nsec, "vm-clock-sec", (json_int_t)(s[i].vm_clock_ns / 1000000000),
				      "vm-clock-nsec", (json_int_t)(s[i].vm_clock_ns % 1000000000));

		add_text(x, "id", s[i].id);
		add_text(x, "name", s[i].name);
		if (s[i].icount <= INT64_MAX)
			json_object_set_new(x, "icount", json_integer((json_int_t)s[i].icount));
		json_array_append_new(list, x);
	}
	json_object_set_new(j, "snapshots", list);
}

/* One layer and what is below it; its lock held. */
static json_t *image_info(struct blk_node *n, unsigned depth)
{
	json_t *j = json_pack("{s:s,s:I,s:b}", "format", blockdev_driver_of(n), "virtual-size", (json_int_t)n->i.size, "dirty-flag", 0);
	struct stat st;

	if (!j)
		return NULL;
	add_text(j, "filename", n->path);
	if (n->path && !stat(n->path, &st))
		json_object_set_new(j, "actual-size", json_integer((json_int_t)st.st_blocks * 512));
	if (n->i.cluster)
		json_object_set_new(j, "cluster-size", json_integer(n->i.cluster));
	if (n->i.encrypted)
		json_object_set_new(j, "encrypted", json_true());
	add_snapshots(j, n);
	if (n->backing) {
		struct blk_node *below = blk_skip_filters(n->backing);

		add_text(j, "backing-filename", below->path);
		add_text(j, "full-backing-filename", below->path);
		if (below->format)
			add_text(j, "backing-filename-format", below->format);
		if (depth < CTL_MAX_DEPTH / 2)
			json_object_set_new(j, "backing-image", image_info(below, depth + 1));
	}
	return j;
}

static unsigned depth_of(struct blk_node *n)
{
	unsigned depth = 0;

	while ((n = layer_below(n)) && depth < MAX_LAYERS)
		depth++;
	return depth;
}

/* group NULL: there are none. */
static void add_limits(json_t *j, struct vm *vm, struct blk_throttle_group *group)
{
	struct blk_throttle_opts now = { 0 }, *o = &now;
	static const char *const names[2][3] = { { "bps", "bps_rd", "bps_wr" }, { "iops", "iops_rd", "iops_wr" } };

	if (group) {
		blk_throttle_group_get(group, &now);
		add_text(j, "group", vm_group_name(vm, group));
	}
	for (unsigned i = 0; i < 3; i++) {
		json_object_set_new(j, names[0][i], json_integer((json_int_t)o->bytes[i].avg));
		json_object_set_new(j, names[1][i], json_integer((json_int_t)o->ops[i].avg));
	}
}

/* BlockDeviceInfo of a node, whose lock is held; shallow: without the images below. */
static json_t *node_info(struct vm *vm, struct blk_node *n, struct blk_throttle_group *limits, bool shallow)
{
	enum blk_cache cache = blk_cache_of(n);
	struct blk_node *below = n->backing ? blk_skip_filters(n->backing) : NULL;
	json_t *j = json_pack("{s:b,s:s,s:i,s:b,s:s,s:o,s:{s:b,s:b,s:b},s:i}", "ro", n->i.read_only, "drv", blockdev_driver_of(n),
			      "backing_file_depth", (int)depth_of(n), "encrypted", n->i.encrypted, "detect_zeroes", "off", "image",
			      image_info(n, 0), "cache", "writeback", cache != BLK_CACHE_WRITETHROUGH, "direct", cache == BLK_CACHE_NONE, "no-flush",
			      cache == BLK_CACHE_UNSAFE, "write_threshold", 0);
	json_t *bitmaps = j ? ctl_bitmaps(n) : NULL;

	if (!j)
		return NULL;
	add_text(j, "file", n->path);
	add_text(j, "node-name", vm_node_name(vm, n));
	if (below)
		add_text(j, "backing_file", below->path);
	add_limits(j, vm, limits);
	if (bitmaps)
		json_object_set_new(j, "dirty-bitmaps", bitmaps);
	if (shallow)
		json_object_del(json_object_get(j, "image"), "backing-image");
	return j;
}

/* What a disk's requests go to first: a node that has a name, or will get one. */
static struct blk_node *top_of(struct disk *d)
{
	struct blk_node *n = d->node;

	while (n->drv->filter && !n->name[0] && n->file)
		n = n->file;
	return n;
}

void ctl_node_name(struct control *ctl, struct disk *d, char out[BLK_NAME_MAX + 1])
{
	disk_lock(d);
	snprintf(out, BLK_NAME_MAX + 1, "%s", vm_node_name(ctl->vm, top_of(d)));
	disk_unlock(d);
}

static json_t *block_info(struct control *ctl, struct disk *d, unsigned i)
{
	static const char *const status[] = { [CTL_IO_OK] = "ok", [CTL_IO_FAILED] = "failed", [CTL_IO_NOSPACE] = "nospace" };
	struct disk_media_state is = { 0 };
	json_t *j, *in;

	disk_lock(d);
	if (d->media)
		d->media->state(d, &is);
	in = is.no_medium ? NULL : node_info(ctl->vm, top_of(d), ctl_disk_group(d), false);
	/* Whatever the image allows. */
	if (in)
		json_object_set_new(in, "ro", json_boolean(d->node->i.read_only));
	disk_unlock(d);
	j = json_pack("{s:s,s:s,s:s,s:b,s:b,s:s}", "device", d->id, "qdev", d->id, "type", "unknown", "removable", d->media != NULL, "locked", is.locked,
		      "io-status", status[ctl->disks->of[i].status]);
	if (d->media && d->media->open_tray)
		json_object_set_new(j, "tray_open", json_boolean(is.tray_open));
	if (in)
		json_object_set_new(j, "inserted", in);
	return j;
}

void ctl_cmd_query_block(struct ctl_call *c, const struct ctl_args_query_block *a)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm_disk_of(c->ctl->vm, i);

		if (d)
			json_array_append_new(list, block_info(c->ctl, d, i));
	}
	ctl_return(c, list);
}

struct listing {
	struct vm *vm;
	json_t *list;
	bool flat;
};

static void add_node(void *opaque, const struct vm_node *x)
{
	struct listing *l = opaque;

	if (x->n->i.size || x->added)
		json_array_append_new(l->list, node_info(l->vm, x->n, NULL, l->flat));
}

void ctl_cmd_query_named_block_nodes(struct ctl_call *c, const struct ctl_args_query_named_block_nodes *a)
{
	struct listing l = { c->ctl->vm, json_array(), a->flat };

	vm_nodes_each(c->ctl->vm, add_node, &l);
	ctl_return(c, l.list);
}
