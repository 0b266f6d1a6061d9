/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's disks as commands see them. Machine lock held. */
#ifndef LODGE_CONTROL_DISK_H
#define LODGE_CONTROL_DISK_H

#include "block/disk.h"
#include "block/graph.h"
#include "control/internal.h"
#include "storage/disk.h"
#include "vm/nodes.h"

#define CTL_ERRORS 32

struct ctl_disk {
	enum { CTL_IO_OK, CTL_IO_FAILED, CTL_IO_NOSPACE } status;
};

/* Errors of the host, on their way from I/O threads to the machine's loop. */
struct ctl_io_error {
	unsigned disk;
	bool is_read;
	enum disk_on_error action;
	int ret;
};

/* A drive's tray: how often it was moved and not told of (two moves at most count), and where it is. */
#define CTL_TRAY_MOVES 2u
struct ctl_tray {
	unsigned moved;
	bool open;
};

struct ctl_disks {
	struct control *ctl;
	struct ctl_disk of[VM_MAX_DISKS];
	pthread_mutex_t lock;		/* of what follows; the last one taken */
	struct ctl_io_error error[CTL_ERRORS];
	unsigned n_errors;
	struct ctl_tray tray[VM_MAX_DISKS];
	struct loop_bh bh;
};

int ctl_disks_init(struct control *ctl);
void ctl_disks_fini(struct control *ctl);
/* What disks have noted is told now. */
void ctl_disks_tell(struct control *ctl);
/* The machine goes on. */
void ctl_disks_resumed(struct control *ctl);

/* By the disk's name, or that of its image (or "#disk0"), whichever is given; a drive must have a medium. NULL: the call has failed. */
struct disk *ctl_disk(struct ctl_call *c, const char *device, const char *node_name, unsigned *index);
/* The same, with or without a medium. */
struct disk *ctl_find_disk(struct ctl_call *c, const char *device, const char *node_name, unsigned *index);
/* The same without a word if there is none. */
struct disk *ctl_find_quietly(struct control *ctl, const char *name);
/* The name of what the disk's requests go to first. No I/O thread's lock is held. */
void ctl_node_name(struct control *ctl, struct disk *d, char out[BLK_NAME_MAX + 1]);
/* The dirty bitmaps of an image, for query-block; NULL: it has none. The node's lock held. */
json_t *ctl_bitmaps(struct blk_node *image);
/* The group whose limits a disk has, NULL: none.  The disk's lock held. */
struct blk_throttle_group *ctl_disk_group(struct disk *d);

#endif
