// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Media of CD and DVD drives (storage/scsi.h) under QEMU's names: trays, and images
 * that go in and come out.  The guest may have locked a tray.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/disk.h"
#include "storage/scsi.h"

/* A drive that nothing but the guest uses. NULL: the call has failed. */
static struct scsi_lun *drive(struct ctl_call *c, const char *device, const char *id, unsigned *index)
{
	struct disk *d;

	if (!device == !id) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Need exactly one of 'device' and 'id'");
		return NULL;
	}
	d = ctl_find_disk(c, device ? device : id, NULL, index);
	if (!d)
		return NULL;
	if (!d->drive) {
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
	return d->drive;
}

/* The disk's lock held. False: the call has failed. */
static bool open_tray(struct ctl_call *c, struct scsi_lun *l, bool force)
{
	if (!scsi_open_tray(l, force))
		return true;
	ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' is locked and force was not specified, wait for tray to open and try again", l->disk.id);
	return false;
}

/* What has moved is told before the answer. */
static void done(struct ctl_call *c, struct scsi_lun *l)
{
	disk_unlock(&l->disk);
	ctl_disks_tell(c->ctl);
}

static void remove_medium(struct ctl_call *c, struct scsi_lun *l)
{
	struct err e = { .msg = "" };
	int ret = scsi_remove_medium(l);

	if (ret)
		err_set(&e, ret, "the medium of '%s' cannot be taken out: %s", l->disk.id, strerror(-ret));
	ctl_failed(c, ret, &e);
}

void ctl_cmd_eject(struct ctl_call *c, const struct ctl_args_eject *a)
{
	struct scsi_lun *l = drive(c, a->device, a->id, NULL);

	if (!l)
		return;
	disk_lock(&l->disk);
	if (open_tray(c, l, a->force))
		remove_medium(c, l);
	done(c, l);
}

/* A guest that was asked is no error here. */
void ctl_cmd_blockdev_open_tray(struct ctl_call *c, const struct ctl_args_blockdev_open_tray *a)
{
	struct scsi_lun *l = drive(c, a->device, a->id, NULL);

	if (!l)
		return;
	disk_lock(&l->disk);
	scsi_open_tray(l, a->force);
	done(c, l);
}

void ctl_cmd_blockdev_close_tray(struct ctl_call *c, const struct ctl_args_blockdev_close_tray *a)
{
	struct scsi_lun *l = drive(c, a->device, a->id, NULL);

	if (!l)
		return;
	disk_lock(&l->disk);
	scsi_close_tray(l);
	done(c, l);
}

void ctl_cmd_blockdev_remove_medium(struct ctl_call *c, const struct ctl_args_blockdev_remove_medium *a)
{
	struct scsi_lun *l = drive(c, NULL, a->id, NULL);

	if (!l)
		return;
	disk_lock(&l->disk);
	if (l->tray_open)
		remove_medium(c, l);
	else
		ctl_fail(c, CTL_GENERIC_ERROR, "Tray of device '%s' is not open", l->disk.id);
	done(c, l);
}

/* As the drive's first image was opened, but for its format. The disk's lock held. */
static int open_image(struct ctl_call *c, unsigned i, struct scsi_lun *l, const struct ctl_args_blockdev_change_medium *a, struct blk_node **out,
		      struct err *e)
{
	struct blk_image_opts o = vm_config_of(c->ctl->vm)->disk[i].open;

	o.file.read_only = true;
	o.format = a->format;
	return blk_open_image(l->disk.node->loop, a->filename, &o, out, e);
}

/* The new image is there before the old one goes. */
static void change(struct ctl_call *c, unsigned i, struct scsi_lun *l, const struct ctl_args_blockdev_change_medium *a)
{
	struct err e = { .msg = "" };
	struct blk_node *image;
	int ret = open_image(c, i, l, a, &image, &e);

	if (ctl_failed(c, ret, &e))
		return;
	if (open_tray(c, l, a->force))
		remove_medium(c, l);
	if (!c->failed)
		ctl_failed(c, scsi_insert_medium(l, image, &e), &e);
	if (c->failed)
		blk_close(image);
	else
		scsi_close_tray(l);
}

void ctl_cmd_blockdev_change_medium(struct ctl_call *c, const struct ctl_args_blockdev_change_medium *a)
{
	unsigned i = 0;
	struct scsi_lun *l = drive(c, a->device, a->id, &i);

	if (!l)
		return;
	if (a->has_read_only_mode && a->read_only_mode == CTL_BLOCKDEV_CHANGE_READ_ONLY_MODE_READ_WRITE) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Device '%s' is a CD drive: its medium is read only", l->disk.id);
		return;
	}
	disk_lock(&l->disk);
	change(c, i, l, a);
	done(c, l);
}
