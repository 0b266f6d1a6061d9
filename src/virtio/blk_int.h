/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the virtio-blk device share: blk.c takes and answers
 * requests, blk_config.c makes the configuration space from the node,
 * blk_error.c decides about errors of the host and keeps what is to be repeated,
 * blk_stats.c counts.
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

struct vreq;

struct virtio_blk {
	struct virtio_dev d;
	struct blk_node *node;
	struct blk_config cfg;
	char serial[VIRTIO_BLK_SERIAL_LEN];
	enum virtio_blk_on_error on_read_error, on_write_error;
	struct virtio_blk_stats stats;
	unsigned errors_logged;
	uint64_t flush_queues;		/* bit q: used ring grew, interrupt not yet considered */
	/* Failed on the host, to be submitted again when the machine goes on; in order. */
	struct vreq *retry, **retry_end;
	uint8_t *again;			/* the same of saved state: pairs of queue and head, as they are there */
	uint32_t n_again;
	bool stop_asked;		/* the machine was asked to pause for them */
	struct iothread_work stop_work;
	struct vq_chain chain;		/* scratch of kick and resume */
};

/* A request in flight; the pieces, and for ranges the segments, follow it. */
struct vreq {
	struct blk_req r;
	struct virtio_blk *b;
	struct vreq *next;		/* in the list of those to be repeated */
	int64_t start_ns;
	uint16_t q, head;
	uint64_t len_write;		/* writable bytes of the chain, status included */
	uint8_t *status;		/* in guest memory: written, never read */
	unsigned seg, n_segs;
	struct segment *segs;
	unsigned niov;
	struct iovec iov[];
};

static inline struct virtio_blk *to_blk(struct virtio_dev *d)
{
	return container_of(d, struct virtio_blk, d);
}

/* blk.c */
/* Gives the request to the node (again). */
void vblk_submit(struct vreq *v);
/* Answers the chain and frees the request. */
void vblk_answer(struct vreq *v, bool ok);
/* Looks at a chain as if it had just been got from queue q. 0 or -EPROTO */
int vblk_handle(struct virtio_blk *b, unsigned q, const struct vq_chain *c);

/* blk_config.c */
int vblk_check_opts(const char *id, const struct virtio_blk_opts *o, uint64_t size, struct err *e);
/* Fills the configuration space; the features to offer. */
uint64_t vblk_make_config(struct virtio_blk *b, const struct virtio_blk_opts *o);

/* blk_error.c: the request failed with ret. It is answered, or kept and the machine paused. */
void vblk_failed(struct vreq *v, int ret);
/* Submits what was kept. */
void vblk_retry(struct virtio_blk *b);
/* Forgets what was kept of queue q, or of all (-1). */
void vblk_retry_forget(struct virtio_blk *b, int q);
int vblk_retry_save(struct virtio_blk *b, struct snap_out *o);
int vblk_retry_load(struct virtio_blk *b, uint32_t n, struct snap_in *in, struct err *e);
uint32_t vblk_retry_count(const struct virtio_blk *b);
/* Work of the device: asks the machine to pause. */
void vblk_stop_machine(void *opaque);

/* blk_stats.c */
void vblk_count_start(struct virtio_blk *b, struct vreq *v, int64_t now_ns);
void vblk_count_end(struct virtio_blk *b, const struct vreq *v, bool ok, int64_t now_ns);

#endif
