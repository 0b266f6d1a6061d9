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

#include "block/disk.h"
#include "block/graph.h"

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
	struct blk_node *slot = l->disk.node, *none;
	int ret;

	if (l->no_medium)
		return 0;
	if (!blk_is_slot(slot))
		return -ENOTSUP;
	ret = blk_open_empty(slot->loop, &none);
	if (ret)
		return ret;
	blk_slot_hold(slot);
	none = blk_slot_replace(slot, none);
	blk_slot_release(slot);
	l->no_medium = true;
	blk_close(none);
	return 0;
}

int scsi_insert_medium(struct scsi_lun *l, struct blk_node *image, struct err *e)
{
	struct blk_node *slot = l->disk.node, *none;

	if (!blk_is_slot(slot))
		return err_set(e, -ENOTSUP, "%s: the medium of this drive cannot be changed", l->disk.id);
	if (!image->i.size || image->i.size % l->disk.o.block_size)
		return err_set(e, -EINVAL, "%s: a medium's size is a multiple of %u bytes, and not 0", l->disk.id, l->disk.o.block_size);
	blk_slot_hold(slot);
	none = blk_slot_replace(slot, image);
	blk_slot_release(slot);
	l->no_medium = false;
	blk_close(none);
	return 0;
}
