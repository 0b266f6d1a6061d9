// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks: what they are and have counted, their size and limits, errors of the
 * host.
 *
 * An error is noted on the disk's I/O thread and told on the machine's loop; a
 * disk that fails faster than that is told of CTL_ERRORS times.
 */
#include "control/device.h"
#include "control/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/media.h"

/* ---- errors ---- */

/* By its name: which other disks there are may change meanwhile. */
static unsigned index_of(const struct disk *d)
{
	unsigned i;

	return sscanf(d->id, "disk%u", &i) == 1 && i < VM_MAX_DISKS ? i : VM_MAX_DISKS;
}

/* The disk's lock held, on its thread. */
static void on_disk_error(void *opaque, struct disk *d, bool is_read, enum disk_on_error action, int ret)
{
	struct ctl_disks *s = opaque;

	pthread_mutex_lock(&s->lock);
	if (s->n_errors < CTL_ERRORS)
		s->error[s->n_errors++] = (struct ctl_io_error){ index_of(d), is_read, action, ret };
	pthread_mutex_unlock(&s->lock);
	loop_bh_post(&s->bh);
}

static void tell_error(struct control *ctl, const struct ctl_io_error *x)
{
	bool nospace = x->ret == -ENOSPC || x->ret == -EDQUOT;
	struct disk *d = vm_disk_of(ctl->vm, x->disk);
	char node[BLK_NAME_MAX + 1];

	if (!d)
		return;
	ctl_node_name(ctl, d, node);
	if (x->action == DISK_STOP)
		ctl->disks->of[x->disk].status = nospace ? CTL_IO_NOSPACE : CTL_IO_FAILED;
	ctl_emit(ctl, CTL_EVENT_BLOCK_IO_ERROR,
		 json_pack("{s:s,s:s,s:s,s:s,s:b,s:s}", "device", d->id, "node-name", node, "operation", x->is_read ? "read" : "write",
			   "action", x->action == DISK_STOP ? "stop" : x->action == DISK_IGNORE ? "ignore" : "report", "nospace", nospace,
			   "reason", strerror(-x->ret)));
}

/* Of a tray that goes to and fro faster than it can be told is told where it is in the end: each drive has room for two moves. */
static void on_tray(void *opaque, struct disk *d, bool open)
{
	struct ctl_disks *s = opaque;
	unsigned i = index_of(d);

	if (i >= VM_MAX_DISKS)
		return;
	pthread_mutex_lock(&s->lock);
	s->tray[i].moved = MIN(s->tray[i].moved + 1u, CTL_TRAY_MOVES);
	s->tray[i].open = open;
	pthread_mutex_unlock(&s->lock);
	loop_bh_post(&s->bh);
}

static void tell_tray(struct control *ctl, unsigned disk, bool open)
{
	const struct disk *d = vm_disk_of(ctl->vm, disk);
	const char *id = d ? d->id : "";

	if (d)
		ctl_emit(ctl, CTL_EVENT_DEVICE_TRAY_MOVED, json_pack("{s:s,s:s,s:b}", "device", id, "id", id, "tray-open", open));
}

static void on_news(void *opaque)
{
	struct ctl_io_error error[CTL_ERRORS];
	struct ctl_tray tray[VM_MAX_DISKS];
	struct ctl_disks *s = opaque;
	unsigned n;

	pthread_mutex_lock(&s->lock);
	n = s->n_errors;
	memcpy(error, s->error, n * sizeof(*error));
	memcpy(tray, s->tray, sizeof(tray));
	memset(s->tray, 0, sizeof(s->tray));
	s->n_errors = 0;
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < n; i++)
		if (error[i].disk < VM_MAX_DISKS)
			tell_error(s->ctl, &error[i]);
	/* Moves alternate: the one before the last was the other way. */
	for (unsigned i = 0; i < VM_MAX_DISKS; i++)
		for (unsigned k = tray[i].moved; k > 0; k--)
			tell_tray(s->ctl, i, tray[i].open == (k % 2 == 1));
}

void ctl_disks_tell(struct control *ctl)
{
	on_news(ctl->disks);
}

static void watch_one(struct disk *d, const struct disk_watch *w)
{
	disk_lock(d);
	d->watch = *w;
	disk_unlock(d);
}

static void watch_all(struct control *ctl, const struct disk_watch *w)
{
	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm_disk_of(ctl->vm, i);

		if (d)
			watch_one(d, w);
	}
}

void ctl_disk_event(struct control *ctl, enum vm_device_event ev, unsigned index)
{
	const struct disk_watch w = { .error = on_disk_error, .tray = on_tray, .opaque = ctl->disks }, none = { 0 };
	struct disk *d = vm_disk_of(ctl->vm, index);

	if (d)
		watch_one(d, ev == VM_DEVICE_ADDED ? &w : &none);
	if (ev == VM_DEVICE_LEAVES)
		ctl_disks_tell(ctl);
	else
		ctl->disks->of[index] = (struct ctl_disk){ CTL_IO_OK };
}

int ctl_disks_init(struct control *ctl)
{
	struct ctl_disks *s = calloc(1, sizeof(*s));
	const struct disk_watch w = { .error = on_disk_error, .tray = on_tray, .opaque = s };

	if (!s)
		return -ENOMEM;
	s->ctl = ctl;
	pthread_mutex_init(&s->lock, NULL);
	loop_bh_init(ctl->m->loop, &s->bh, on_news, s);
	ctl->disks = s;
	watch_all(ctl, &w);
	return 0;
}

void ctl_disks_fini(struct control *ctl)
{
	const struct disk_watch none = { 0 };

	if (!ctl->disks)
		return;
	watch_all(ctl, &none);
	loop_bh_cancel(&ctl->disks->bh);
	pthread_mutex_destroy(&ctl->disks->lock);
	free(ctl->disks);
	ctl->disks = NULL;
}

void ctl_disks_resumed(struct control *ctl)
{
	for (unsigned i = 0; i < VM_MAX_DISKS; i++)
		ctl->disks->of[i].status = CTL_IO_OK;
}

/* ---- names ---- */

/* A drive without a medium. */
static bool is_empty(struct disk *d)
{
	struct disk_media_state is = { 0 };

	if (!d->media)
		return false;
	disk_lock(d);
	d->media->state(d, &is);
	disk_unlock(d);
	return is.no_medium;
}

struct disk *ctl_disk(struct ctl_call *c, const char *device, const char *node_name, unsigned *index)
{
	struct disk *d = ctl_find_disk(c, device, node_name, index);

	if (!d || !is_empty(d))
		return d;
	ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' has no medium", d->id);
	return NULL;
}

/* "disk0", or "#disk0" for whatever its image is. */
static struct disk *by_id(struct control *ctl, const char *name, unsigned *index)
{
	name += name[0] == '#';
	for (*index = 0; *index < VM_MAX_DISKS; ++*index) {
		struct disk *d = vm_disk_of(ctl->vm, *index);

		if (d && !strcmp(d->id, name))
			return d;
	}
	return NULL;
}

/* A node through which all of a disk's requests go. */
static bool on_the_way(const struct disk *d, const struct blk_node *n)
{
	for (const struct blk_node *x = d->node; x; x = x->drv->filter ? x->file : NULL)
		if (x == n)
			return true;
	return false;
}

static struct disk *by_node(struct control *ctl, const char *name, unsigned *index)
{
	struct disk *d = NULL;
	struct vm_node x;

	if (vm_node_find(ctl->vm, name, &x) && x.d) {
		disk_lock(x.d);
		d = on_the_way(x.d, x.n) ? x.d : NULL;
		disk_unlock(x.d);
	}
	if (d)
		*index = index_of(d);
	return d;
}

struct disk *ctl_find_quietly(struct control *ctl, const char *name)
{
	unsigned i;
	struct disk *d = by_id(ctl, name, &i);

	return d ? d : by_node(ctl, name, &i);
}

struct disk *ctl_find_disk(struct ctl_call *c, const char *device, const char *node_name, unsigned *index)
{
	const char *name = device && *device ? device : node_name ? node_name : "";
	unsigned i;
	struct disk *d;

	if (device && node_name && *device) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Need exactly one of 'device' and 'node-name'");
		return NULL;
	}
	d = by_id(c->ctl, name, &i);
	if (!d)
		d = by_node(c->ctl, name, &i);
	if (d && index)
		*index = i;
	if (d)
		return d;
	if (device)
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.64s' not found", device);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "Cannot find device='%.64s' nor node-name='%.64s'", "", name);
	return NULL;
}

/* ---- what they counted ---- */

static void add_op(json_t *j, const char *name, bool bytes, const struct disk_op_stats *s)
{
	char key[48];

	snprintf(key, sizeof(key), "%s_bytes", name);
	if (bytes)
		json_object_set_new(j, key, json_integer((json_int_t)s->bytes));
	snprintf(key, sizeof(key), "%s_operations", name);
	json_object_set_new(j, key, json_integer((json_int_t)s->count));
	snprintf(key, sizeof(key), "%s_total_time_ns", name);
	json_object_set_new(j, key, json_integer((json_int_t)s->total_ns));
	snprintf(key, sizeof(key), "failed_%s_operations", name);
	json_object_set_new(j, key, json_integer((json_int_t)s->failed));
	snprintf(key, sizeof(key), "invalid_%s_operations", name);
	json_object_set_new(j, key, json_integer(0));
	snprintf(key, sizeof(key), "%s_merged", name);
	if (bytes)
		json_object_set_new(j, key, json_integer(0));
}

/* Zeros are writes to QEMU's clients. */
static json_t *stats_json(struct disk *d)
{
	json_t *j = json_pack("{s:i,s:b,s:b}", "wr_highest_offset", 0, "account_invalid", 1, "account_failed", 1);
	struct disk_stats s;

	disk_get_stats(d, &s);
	s.op[DISK_WRITES].count += s.op[DISK_ZEROES].count;
	s.op[DISK_WRITES].bytes += s.op[DISK_ZEROES].bytes;
	s.op[DISK_WRITES].total_ns += s.op[DISK_ZEROES].total_ns;
	s.op[DISK_WRITES].failed += s.op[DISK_ZEROES].failed;
	add_op(j, "rd", true, &s.op[DISK_READS]);
	add_op(j, "wr", true, &s.op[DISK_WRITES]);
	add_op(j, "flush", false, &s.op[DISK_FLUSHES]);
	add_op(j, "unmap", true, &s.op[DISK_DISCARDS]);
	/* Which kind of request was refused is not counted. */
	json_object_set_new(j, "invalid_rd_operations", json_integer((json_int_t)s.invalid));
	return j;
}

static void add_node_stats(void *opaque, const struct vm_node *x)
{
	json_t *zero = json_object();

	for (const struct ctl_member *m = ctl_type_BlockDeviceStats.members; m->name; m++)
		json_object_set_new(zero, m->name, strncmp(m->name, "account_", 8) ? json_integer(0) : json_false());
	json_array_append_new(opaque, json_pack("{s:s,s:o}", "node-name", x->n->name, "stats", zero));
}

/* Requests are counted where the guest makes them, so nodes have none of their own. */
void ctl_cmd_query_blockstats(struct ctl_call *c, const struct ctl_args_query_blockstats *a)
{
	json_t *list = json_array();
	char node[BLK_NAME_MAX + 1];

	if (a->has_query_nodes && a->query_nodes)
		vm_nodes_each(c->ctl->vm, add_node_stats, list);
	for (unsigned i = 0; i < VM_MAX_DISKS && !a->query_nodes; i++) {
		struct disk *d = vm_disk_of(c->ctl->vm, i);

		if (!d)
			continue;
		ctl_node_name(c->ctl, d, node);
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:o}", "device", d->id, "qdev", d->id, "node-name", node, "stats",
						      stats_json(d)));
	}
	ctl_return(c, list);
}

/* ---- changes ---- */

void ctl_cmd_block_resize(struct ctl_call *c, const struct ctl_args_block_resize *a)
{
	struct disk *d = ctl_disk(c, a->device, a->node_name, NULL);
	struct err e = { .msg = "" };
	int ret;

	if (!d)
		return;
	if (a->size < 0) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'size' expects a >0 size");
		return;
	}
	disk_lock(d);
	ret = ctl_disk_busy(c->ctl, d) ? err_set(&e, -EBUSY, "disk '%s' is in use by a job", d->id)
				       : disk_resize(d, (uint64_t)a->size, &e);
	/* It may have failed half way. */
	if (d->resized)
		d->resized(d);
	disk_unlock(d);
	ctl_failed(c, ret, &e);
}

static struct blk_node *find_throttle(struct blk_node *n)
{
	for (; n && n->drv->filter; n = n->file)
		if (!strcmp(n->drv->name, "throttle"))
			return n;
	return NULL;
}

struct blk_throttle_group *ctl_disk_group(struct disk *d)
{
	struct blk_node *t = find_throttle(d->node);

	return t ? blk_throttle_group_of(t) : NULL;
}

static int insert_throttle(struct disk *d, struct blk_throttle_group *g, struct err *e)
{
	struct blk_node *t;
	int ret;

	blk_slot_hold(d->node);
	ret = blk_throttle_new_in(*blk_slot_image(d->node), g, &t, e);
	if (!ret)
		blk_slot_insert(d->node, t);
	blk_slot_release(d->node);
	return ret;
}

/* The disk's lock held.  group: its name; NULL: the one it is in, or one of its own. */
static int limit(struct vm *vm, struct disk *d, const struct blk_throttle_opts *o, const char *group, struct err *e)
{
	struct blk_node *t = find_throttle(d->node);
	struct blk_throttle_group *g = NULL;
	int ret = blk_throttle_check(o, e);

	if (ret || (!t && !blk_throttle_wanted(o)))
		return ret;
	if (!t && !blk_is_slot(d->node))
		return err_set(e, -ENOTSUP, "disk %s cannot be given limits", d->id);
	/* Without limits it is in no group; the others keep theirs. */
	if (group && blk_throttle_wanted(o))
		ret = vm_group_get(vm, group, o, &g, e);
	else if (t && blk_throttle_wanted(o))
		return blk_throttle_set(t, o, e);
	else
		ret = blk_throttle_group_new(o, &g, e);
	if (!ret && t)
		blk_throttle_join(t, g);
	else if (!ret)
		ret = insert_throttle(d, g, e);
	blk_throttle_group_unref(g);
	return ret;
}

static struct blk_rate rate(int64_t avg, int64_t max, bool has_length, int64_t length)
{
	return (struct blk_rate){ .avg = (uint64_t)avg, .max = (uint64_t)max, .length = has_length ? (unsigned)length : 0 };
}

void ctl_cmd_block_set_io_throttle(struct ctl_call *c, const struct ctl_args_block_set_io_throttle *a)
{
	const struct blk_throttle_opts o = {
		.bytes = { rate(a->bps, a->bps_max, a->has_bps_max_length, a->bps_max_length),
			   rate(a->bps_rd, a->bps_rd_max, a->has_bps_rd_max_length, a->bps_rd_max_length),
			   rate(a->bps_wr, a->bps_wr_max, a->has_bps_wr_max_length, a->bps_wr_max_length) },
		.ops = { rate(a->iops, a->iops_max, a->has_iops_max_length, a->iops_max_length),
			 rate(a->iops_rd, a->iops_rd_max, a->has_iops_rd_max_length, a->iops_rd_max_length),
			 rate(a->iops_wr, a->iops_wr_max, a->has_iops_wr_max_length, a->iops_wr_max_length) },
		.op_size = (uint64_t)a->iops_size,
	};
	struct disk *d = ctl_disk(c, a->device && *a->device ? a->device : a->id, NULL, NULL);
	struct err e = { .msg = "" };
	int ret;

	if (!d)
		return;
	disk_lock(d);
	ret = limit(c->ctl->vm, d, &o, a->group, &e);
	disk_unlock(d);
	ctl_failed(c, ret, &e);
}
