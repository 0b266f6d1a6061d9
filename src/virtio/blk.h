/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk (virtio 1.2, 5.2): a disk on a block node. */
#ifndef LODGE_VIRTIO_BLK_H
#define LODGE_VIRTIO_BLK_H

#include "block/blk.h"
#include "virtio/device.h"

#define VIRTIO_BLK_SERIAL_LEN 20

/* What becomes of a request that failed on the host; names and meaning are those of QEMU's rerror= and werror=. */
enum virtio_blk_on_error {
	VIRTIO_BLK_REPORT,	/* the guest gets an I/O error */
	VIRTIO_BLK_STOP,	/* the machine pauses; the request is repeated when it goes on */
	VIRTIO_BLK_IGNORE,	/* the guest is told that all is well */
	VIRTIO_BLK_ENOSPC,	/* STOP if the host has no room, else REPORT. Not for reads */
};

struct virtio_blk_opts {
	char serial[VIRTIO_BLK_SERIAL_LEN + 1];	/* "": none */
	unsigned queues;			/* 0: one */
	uint16_t queue_size;			/* power of two, 8 to 1024; 0: 256 */
	uint32_t block_size;			/* logical, power of two, 512 to 4096; 0: 512 */
	uint32_t physical_block;		/* power of two, block_size to 1 MiB; 0: the node's */
	uint32_t min_io, opt_io;		/* bytes, multiples of block_size; 0: the node's */
	uint32_t discard_unit;			/* bytes, power of two from block_size on; 0: the node's */
	bool no_discard;			/* offer neither discard nor that zeros may deallocate */
	enum virtio_blk_on_error on_read_error, on_write_error;	/* flushes and ranges are writes */
	struct iothread *io;			/* whose loop the node is on; NULL: the machine's */
};

enum { VIRTIO_BLK_READS, VIRTIO_BLK_WRITES, VIRTIO_BLK_FLUSHES, VIRTIO_BLK_DISCARDS, VIRTIO_BLK_ZEROES,
       VIRTIO_BLK_KINDS };

/* Bucket 0: below 1 us; bucket i: from 2^(i-1) us to below 2^i us; the last has no end. */
#define VIRTIO_BLK_BUCKETS 28

struct virtio_blk_op_stats {
	uint64_t count, bytes;		/* that succeeded */
	uint64_t failed;		/* that the guest was told have failed */
	uint64_t total_ns, max_ns;	/* of those that succeeded, from the look at the chain to its answer */
	uint64_t latency[VIRTIO_BLK_BUCKETS];
};

struct virtio_blk_stats {
	struct virtio_blk_op_stats op[VIRTIO_BLK_KINDS];
	uint64_t invalid;		/* requests refused for what they ask */
	uint64_t errors;		/* of the host: reported, ignored and repeated ones */
	uint64_t retried, ignored;
	uint64_t in_flight, max_in_flight;
};

/*
 * On success the device owns the node and closes it when it is freed; on
 * failure the caller still does.  The disk is read-only if the node is.
 * Machine lock held, and that of o->io not.
 */
int virtio_blk_new(struct machine *m, const char *id, struct blk_node *node, const struct virtio_blk_opts *o,
		   struct virtio_dev **out, struct err *e);

/* All below: machine lock held. */

void virtio_blk_get_stats(struct virtio_dev *d, struct virtio_blk_stats *out);
const char *virtio_blk_op_name(unsigned kind);	/* "read" ... "write_zeroes" */
/* Upper end of a histogram's bucket in us; 0 for the last, which has none. */
uint64_t virtio_blk_bucket_end_us(unsigned bucket);

/* Changes the size of the node, and tells the driver (5.2.4: capacity, configuration interrupt).  A
 * multiple of the logical block size.  EINVAL, or what blk_resize says. */
int virtio_blk_resize(struct virtio_dev *d, uint64_t size, struct err *e);
/* The node has changed its size by itself (a job did it, or the device behind it): tells the driver. */
void virtio_blk_size_changed(struct virtio_dev *d);
/* How many failed requests wait for the machine to go on. */
unsigned virtio_blk_waiting(struct virtio_dev *d);
struct blk_node *virtio_blk_node(struct virtio_dev *d);

#endif
