/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk (virtio 1.2, 5.2): a disk on a block node. */
#ifndef LODGE_VIRTIO_BLK_H
#define LODGE_VIRTIO_BLK_H

#include "block/blk.h"
#include "virtio/device.h"

#define VIRTIO_BLK_SERIAL_LEN 20

struct virtio_blk_opts {
	char serial[VIRTIO_BLK_SERIAL_LEN + 1];	/* "": none */
	unsigned queues;			/* 0: one */
	uint16_t queue_size;			/* power of two, 8 to 1024; 0: 256 */
	uint32_t block_size;			/* logical, power of two, 512 to 4096; 0: 512 */
};

/* Requests, bytes, and requests that failed on the host. */
struct virtio_blk_stats {
	uint64_t reads, writes, flushes, discards, zeroes;
	uint64_t bytes_read, bytes_written;
	uint64_t errors;
};

/*
 * On success the device owns the node and closes it when it is freed; on
 * failure the caller still does.  The disk is read-only if the node is.
 * Machine lock held.
 */
int virtio_blk_new(struct machine *m, const char *id, struct blk_node *node, const struct virtio_blk_opts *o,
		   struct virtio_dev **out, struct err *e);
void virtio_blk_get_stats(const struct virtio_dev *d, struct virtio_blk_stats *out);

#endif
