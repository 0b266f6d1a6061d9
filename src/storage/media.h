/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the user does to a drive whose media can be changed: CD and DVD drives with their trays, floppy drives without.
 *
 * A drive without a medium has an empty node in its slot (block/graph.h), so everything above it stays as it is.  Machine
 * lock and the disk's held.
 */
#ifndef LODGE_STORAGE_MEDIA_H
#define LODGE_STORAGE_MEDIA_H

#include "storage/disk.h"

struct disk_media_state {
	bool locked, tray_open;		/* of a tray */
	bool no_medium;
};

struct disk_media_ops {
	bool writable;			/* media may be written to */
	void (*state)(const struct disk *d, struct disk_media_state *out);
	/* EINPROGRESS: the guest has locked it, and was asked to open it. With `force` the lock is nothing.  NULL: there is no tray */
	int (*open_tray)(struct disk *d, bool force);
	void (*close_tray)(struct disk *d);
	/* Does the image fit the drive? EINVAL */
	int (*check)(const struct disk *d, const struct blk_node *image, struct err *e);
	/* Takes the medium out of the open tray and closes its image.  There was none: nothing happens. ENOMEM, and all is as it was */
	int (*remove)(struct disk *d);
	/* Puts a medium into the open, empty drive; `image` is the slot's from then on. EINVAL: it does not fit. */
	int (*insert)(struct disk *d, struct blk_node *image, struct err *e);
};

/* For drives: the image goes out of the slot and is closed, ENOTSUP (no slot), ENOMEM; another one goes into the place of the empty one, ENOTSUP. */
int disk_take_medium(struct disk *d);
int disk_put_medium(struct disk *d, struct blk_node *image, struct err *e);

#endif
