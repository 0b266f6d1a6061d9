/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Media of CD and DVD drives: the tray, moved by the guest or the user, and images
 * that come and go.
 *
 * A drive without a medium has an empty node in its slot, so everything above it
 * stays as it is.  A medium goes in and out while the tray is open, when nothing
 * reads it; the guest is told by a unit attention and by events it polls.
 */
#include "storage/scsi.h"

#include <errno.h>

#include "base/bits.h"

static void tell(struct scsi_lun *l)
{
	if (l->media_changed)
		l->media_changed(l);
}

void scsi_move_tray(struct scsi_lun *l, bool open)
{
	if (l->tray_open == open)
		return;
	l->tray_open = open;
	l->changed = true;
	l->eject_asked = false;
	/* NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED */
	if (!open && !l->no_medium)
		l->attention = 0x2800;
	if (l->disk.watch.tray)
		l->disk.watch.tray(l->disk.watch.opaque, &l->disk, open);
	tell(l);
}

int scsi_open_tray(struct scsi_lun *l, bool force)
{
	if (!l->tray_open && l->locked && !force) {
		l->eject_asked = true;
		tell(l);
		return -EINPROGRESS;
	}
	scsi_move_tray(l, true);
	return 0;
}

void scsi_close_tray(struct scsi_lun *l)
{
	scsi_move_tray(l, false);
}

int scsi_remove_medium(struct scsi_lun *l)
{
	int ret = l->no_medium ? 0 : disk_take_medium(&l->disk);

	l->no_medium |= !ret;
	return ret;
}

static int check(const struct disk *d, const struct blk_node *image, struct err *e)
{
	if (!image->i.size || image->i.size % d->o.block_size)
		return err_set(e, -EINVAL, "%s: a medium's size is a multiple of %u bytes, and not 0", d->id, d->o.block_size);
	return 0;
}

int scsi_insert_medium(struct scsi_lun *l, struct blk_node *image, struct err *e)
{
	int ret = check(&l->disk, image, e);

	if (!ret)
		ret = disk_put_medium(&l->disk, image, e);
	l->no_medium &= ret != 0;
	return ret;
}

static struct scsi_lun *lun_of(struct disk *d) { return container_of(d, struct scsi_lun, disk); }

static void state(const struct disk *d, struct disk_media_state *out)
{
	const struct scsi_lun *l = container_of(d, const struct scsi_lun, disk);

	*out = (struct disk_media_state){ .locked = l->locked, .tray_open = l->tray_open, .no_medium = l->no_medium };
}

static int open_tray(struct disk *d, bool force) { return scsi_open_tray(lun_of(d), force); }
static void close_tray(struct disk *d) { scsi_close_tray(lun_of(d)); }
static int remove_medium(struct disk *d) { return scsi_remove_medium(lun_of(d)); }
static int insert_medium(struct disk *d, struct blk_node *image, struct err *e) { return scsi_insert_medium(lun_of(d), image, e); }

const struct disk_media_ops scsi_media_ops = {
	.state = state, .check = check, .open_tray = open_tray, .close_tray = close_tray, .remove = remove_medium, .insert = insert_medium,
};
