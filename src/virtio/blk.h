/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk (virtio 1.2, 5.2): a disk on a block node. */
#ifndef LODGE_VIRTIO_BLK_H
#define LODGE_VIRTIO_BLK_H

#include "storage/disk.h"
#include "virtio/device.h"

struct virtio_blk_opts {
	struct disk_opts disk;
	unsigned queues;			/* 0: one */
	uint16_t queue_size;			/* power of two, 8 to 1024; 0: 256 */
};

/*
 * On success the device owns the node and closes it when it is freed; on
 * failure the caller still does.  The disk is read-only if the node is.
 * Machine lock held, and that of o->disk.io not.
 */
int virtio_blk_new(struct machine *m, const char *id, struct blk_node *node, const struct virtio_blk_opts *o,
		   struct virtio_dev **out, struct err *e);

/* All below: machine lock held. */

/* For statistics. */
struct disk *virtio_blk_disk(struct virtio_dev *d);

/* Changes the size of the node, and tells the driver (5.2.4: capacity, configuration interrupt).  A
 * multiple of the logical block size.  EINVAL, or what blk_resize says. */
int virtio_blk_resize(struct virtio_dev *d, uint64_t size, struct err *e);
/* The node has changed its size by itself (a job did it, or the device behind it): tells the driver. */
void virtio_blk_size_changed(struct virtio_dev *d);
/* How many failed requests wait for the machine to go on. */
unsigned virtio_blk_waiting(struct virtio_dev *d);

#endif
