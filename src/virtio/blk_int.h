/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the virtio-blk device share: blk.c takes and answers
 * requests, blk_config.c makes the configuration space from the node,
 * blk_kept.c saves what is to be repeated.
 *
 * Everything here is protected by the device's lock (virtio/device.h).
 */
#ifndef LODGE_VIRTIO_BLK_INT_H
#define LODGE_VIRTIO_BLK_INT_H

#include "virtio/blk.h"

#define F_SIZE_MAX (1ull << 1)
#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_BLK_SIZE (1ull << 6)
#define F_FLUSH (1ull << 9)
#define F_TOPOLOGY (1ull << 10)
#define F_CONFIG_WCE (1ull << 11)
#define F_MQ (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

#define MAX_SEGMENTS 32			/* of a discard or write-zeroes request */
#define MAX_RANGE_SECTORS (1u << 21)	/* of one segment: 1 GiB */

/* 5.2.4 */
struct blk_config {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 64, "virtio 1.2, 5.2.4 (60 bytes and tail padding)");
_Static_assert(offsetof(struct blk_config, max_discard_sectors) == 36, "virtio 1.2, 5.2.4");
#define BLK_CONFIG_LEN 60

struct segment {
	uint64_t sector;
	uint32_t n_sectors, flags;
};

struct virtio_blk {
	struct virtio_dev d;
	struct disk disk;
	struct blk_config cfg;
	uint64_t flush_queues;		/* bit q: used ring grew, interrupt not yet considered */
	uint8_t *again;			/* what saved state says is to be repeated: pairs of queue and head */
	uint32_t n_again;
	struct vq_chain chain;		/* scratch of kick and resume */
};

/* A request in flight; the pieces, and for ranges these, follow it. */
struct vreq {
	struct disk_req q;
	struct virtio_blk *b;
	uint16_t queue, head;
	uint64_t len_write;		/* writable bytes of the chain, status included */
	uint8_t *status;		/* in guest memory: written, never read */
	unsigned niov;
	struct iovec iov[];
};

static inline struct virtio_blk *to_blk(struct virtio_dev *d)
{
	return container_of(d, struct virtio_blk, d);
}

static inline struct vreq *to_vreq(struct disk_req *q)
{
	return container_of(q, struct vreq, q);
}

/* blk.c */
/* Looks at a chain as if it had just been got from queue q. 0 or -EPROTO */
int vblk_handle(struct virtio_blk *b, unsigned q, const struct vq_chain *c);
/* Frees a request that nobody answers any more. */
void vblk_drop(struct disk_req *q);

/* blk_config.c */
int vblk_check_opts(const char *id, const struct virtio_blk_opts *o, struct err *e);
/* Fills the configuration space; the features to offer. */
uint64_t vblk_make_config(struct virtio_blk *b, const struct virtio_blk_opts *o);

/* The disk's `resized`. */
void vblk_resized(struct disk *d);

/* blk_kept.c */
/* Submits what was kept. */
void vblk_retry(struct virtio_blk *b);
/* Forgets what was kept of queue q, or of all (-1). */
void vblk_forget(struct virtio_blk *b, int q);
int vblk_kept_save(struct virtio_blk *b, struct snap_out *o);
int vblk_kept_load(struct virtio_blk *b, uint32_t n, struct snap_in *in, struct err *e);
uint32_t vblk_kept(const struct virtio_blk *b);

#endif
