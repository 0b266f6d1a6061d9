/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only virtqueue walker (virtio 1.2, 2.7 split virtqueues, with indirect
 * descriptors 2.7.5.3 and VIRTIO_F_EVENT_IDX 2.7.10).
 *
 * The rings belong to a hostile guest: every field is read once into host
 * memory and checked; a chain handed out is host-owned.  Anything malformed
 * (loop, index out of range, address outside RAM, indirect inside indirect,
 * readable after writable, more than the queue's size of descriptors in flight,
 * a zero-length descriptor is allowed) gives -EPROTO, upon which the caller
 * marks the device as needing reset.
 *
 * Threads: one thread at a time per queue (the device's: loop thread with the
 * machine lock held, unless the device documents another).
 */
#ifndef LODGE_VIRTIO_QUEUE_H
#define LODGE_VIRTIO_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "machine/mem.h"

#define VQ_MAX_SIZE 1024
#define VQ_MAX_IOV 1026		/* most pieces one chain may have */

struct vq {
	struct mem *mem;
	uint16_t size;			/* what the driver chose, <= max_size, power of two */
	uint16_t max_size;
	bool ready;
	bool event_idx, indirect;	/* negotiated */
	bool broken;			/* set by -EPROTO until reset */
	uint64_t desc, avail, used;	/* GPAs */
	uint16_t last_avail, used_idx, signalled_used;
	uint16_t avail_idx;		/* the driver's index when last read: serves a batch */
	bool signalled_valid;
	uint16_t in_flight;
	/* Called by vq_flush when the driver wants an interrupt. */
	void (*notify)(void *opaque, struct vq *vq);
	void *opaque;
	uint16_t index;
	/* Host view of the rings; looked up anew when the memory map has changed. */
	const uint8_t *desc_host, *avail_host;
	uint8_t *used_host;
	atomic_bool stale;		/* set by any thread */
	struct mem_listener listener;	/* registered while ready */
};

/* iov[0..n_read) device-readable, then iov[n_read..n_read+n_write) writable. */
struct vq_chain {
	uint16_t head;
	uint16_t n_read, n_write;
	uint64_t len_read, len_write;	/* bytes */
	struct iovec iov[VQ_MAX_IOV];
};

/* Power-on values; keeps max_size, mem, notify, opaque, index. */
void vq_reset(struct vq *vq);
/* The driver set the queue ready: checks addresses, alignment and size. -EPROTO.
 * Indices are kept: zero after vq_reset, else those a snapshot brought. */
int vq_start(struct vq *vq);

/* 1: *c holds a chain; 0: nothing available; -EPROTO. */
int vq_get(struct vq *vq, struct vq_chain *c);
/* The chain at `head` of one that was got before and not yet put (an earlier life of the device has it
 * in flight, and saved its head): walked and checked anew. 0 or -EPROTO */
int vq_get_again(struct vq *vq, uint16_t head, struct vq_chain *c);
/* Puts back the chain just got (it was the last vq_get): it will be got again. */
void vq_unget(struct vq *vq);
/* Returns the chain with `written` bytes (clamped to len_write) in its writable part; marks the
 * written memory dirty. */
void vq_put(struct vq *vq, const struct vq_chain *c, uint64_t written);
/* The same for a chain of which only the head is remembered and nothing was written. */
void vq_put_head(struct vq *vq, uint16_t head, uint32_t written);
/* After a batch of puts: decides on the interrupt, once. */
void vq_flush(struct vq *vq);
/* Asks to be kicked (true) or not (false) when buffers arrive; after enabling,
 * returns true if buffers are there already (look again). */
bool vq_kick_enable(struct vq *vq, bool on);
bool vq_empty(struct vq *vq);

#endif
