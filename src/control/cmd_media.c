// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Media of CD, DVD and floppy drives (storage/media.h) under QEMU's names: trays, and images
 * that go in and come out.  The guest may have locked a tray; floppy drives have none.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/disk.h"
#include "storage/media.h"
#include "vm/hotplug.h"

/* A drive that nothing but the guest uses. NULL: the call has failed. */
static struct disk *drive(struct ctl_call *c, const char *device, const char *id, unsigned *index)
{
	struct err e = { "" };
	struct disk *d;

	if (!device == !id) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Need exactly one of 'device' and 'id'");
		return NULL;
	}
	d = ctl_find_disk(c, device ? device : id, NULL, index);
	if (!d)
		return NULL;
	if (!d->media) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' is not removable", d->id);
		return NULL;
	}
	if (ctl_disk_busy(c->ctl, d)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "disk '%s' is in use by a job", d->id);
		return NULL;
	}
	if (ctl_nbd_shows(c->ctl, d)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "disk '%s' is in use by an NBD export", d->id);
		return NULL;
	}
	return ctl_failed(c, vm_change_possible(c->ctl->vm, &e), &e) ? NULL : d;
}

/* The same, and it has a tray. */
static struct disk *tray(struct ctl_call *c, const char *device, const char *id)
{
	struct disk *d = drive(c, device, id, NULL);

	if (!d || d->media->open_tray)
		return d;
	ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' does not have a tray", d->id);
	return NULL;
}

/* The disk's lock held. False: the call has failed. */
static bool open_tray(struct ctl_call *c, struct disk *d, bool force)
{
	if (!d->media->open_tray || !d->media->open_tray(d, force))
		return true;
	ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' is locked and force was not specified, wait for tray to open and try again", d->id);
	return false;
}

/* What has moved is told before the answer. */
static void done(struct ctl_call *c, struct disk *d)
{
	disk_unlock(d);
	ctl_disks_tell(c->ctl);
}

static void remove_medium(struct ctl_call *c, struct disk *d)
{
	struct err e = { .msg = "" };
	int ret = d->media->remove(d);

	if (ret)
		err_set(&e, ret, "the medium of '%s' cannot be taken out: %s", d->id, strerror(-ret));
	ctl_failed(c, ret, &e);
}

void ctl_cmd_eject(struct ctl_call *c, const struct ctl_args_eject *a)
{
	struct disk *d = drive(c, a->device, a->id, NULL);

	if (!d)
		return;
	disk_lock(d);
	if (open_tray(c, d, a->force))
		remove_medium(c, d);
	done(c, d);
}

/* A guest that was asked is no error here. */
void ctl_cmd_blockdev_open_tray(struct ctl_call *c, const struct ctl_args_blockdev_open_tray *a)
{
	struct disk *d = tray(c, a->device, a->id);

	if (!d)
		return;
	disk_lock(d);
	d->media->open_tray(d, a->force);
	done(c, d);
}

void ctl_cmd_blockdev_close_tray(struct ctl_call *c, const struct ctl_args_blockdev_close_tray *a)
{
	struct disk *d = tray(c, a->device, a->id);

	if (!d)
		return;
	disk_lock(d);
	d->media->close_tray(d);
	done(c, d);
}

void ctl_cmd_blockdev_remove_medium(struct ctl_call *c, const struct ctl_args_blockdev_remove_medium *a)
{
	struct disk *d = drive(c, NULL, a->id, NULL);
	struct disk_media_state is;

	if (!d)
		return;
	disk_lock(d);
	d->media->state(d, &is);
	if (is.tray_open || !d->media->open_tray)
		remove_medium(c, d);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "Tray of device '%s' is not open", d->id);
	done(c, d);
}

void ctl_cmd_blockdev_insert_medium(struct ctl_call *c, const struct ctl_args_blockdev_insert_medium *a)
{
	struct disk *d = drive(c, NULL, a->id, NULL);
	struct disk_media_state is;
	struct blk_node *image = NULL;
	struct err e = { .msg = "" };
	int ret;

	if (!d)
		return;
	ret = vm_node_take(c->ctl->vm, a->node_name, d->o.io, d->media->writable && !d->node->i.read_only, &image, &e);
	if (ctl_failed(c, ret, &e))
		return;
	disk_lock(d);
	d->media->state(d, &is);
	if (!is.tray_open && d->media->open_tray)
		ctl_fail(c, CTL_GENERIC_ERROR, "Tray of device '%s' is not open", d->id);
	else if (!is.no_medium)
		ctl_fail(c, CTL_GENERIC_ERROR, "There already is a medium in device '%s'", d->id);
	else if (!ctl_failed(c, d->media->check(d, image, &e), &e))
		ctl_failed(c, d->media->insert(d, image, &e), &e);
	if (c->failed)
		blk_close(image);
	done(c, d);
}

/* As the drive's first image was opened, but for its format, and whether it is written to. The disk's lock held. */
static int open_image(struct ctl_call *c, unsigned i, struct disk *d, const struct ctl_args_blockdev_change_medium *a, struct blk_node **out,
		      struct err *e)
{
	struct blk_image_opts o = vm_config_of(c->ctl->vm)->disk[i].open;
	const char *path = a->filename;
	char buf[CTL_FDSET_NAME];
	int ret;

	if (a->has_read_only_mode && a->read_only_mode != CTL_BLOCKDEV_CHANGE_READ_ONLY_MODE_RETAIN)
		o.file.read_only = a->read_only_mode == CTL_BLOCKDEV_CHANGE_READ_ONLY_MODE_READ_ONLY;
	o.file.read_only |= !d->media->writable;
	o.format = a->format;
	ret = ctl_fdset_path(c->ctl, &path, o.file.read_only ? CTL_FDSET_READ : CTL_FDSET_BOTH, buf, e);
	return ret ? ret : blk_open_image(d->node->loop, path, &o, out, e);
}

/* The new image is there before the old one goes. */
static void change(struct ctl_call *c, unsigned i, struct disk *d, const struct ctl_args_blockdev_change_medium *a)
{
	struct err e = { .msg = "" };
	struct blk_node *image;
	int ret = open_image(c, i, d, a, &image, &e);

	if (ctl_failed(c, ret, &e))
		return;
	ret = d->media->check(d, image, &e);
	if (!ctl_failed(c, ret, &e) && open_tray(c, d, a->force))
		remove_medium(c, d);
	if (!c->failed)
		ctl_failed(c, d->media->insert(d, image, &e), &e);
	if (c->failed)
		blk_close(image);
	else if (d->media->close_tray)
		d->media->close_tray(d);
}

void ctl_cmd_blockdev_change_medium(struct ctl_call *c, const struct ctl_args_blockdev_change_medium *a)
{
	unsigned i = 0;
	struct disk *d = drive(c, a->device, a->id, &i);

	if (!d)
		return;
	if (!d->media->writable && a->has_read_only_mode && a->read_only_mode == CTL_BLOCKDEV_CHANGE_READ_ONLY_MODE_READ_WRITE) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' is a CD drive: its medium is read only", d->id);
		return;
	}
	disk_lock(d);
	change(c, i, d, a);
	done(c, d);
}
