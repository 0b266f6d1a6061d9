/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A queue that a vhost peer works on: a split ring of our own making (virtio 1.2, 2.7) in memory that he shares, into which chains of a
 * guest's queue are copied once they have been checked.  We are its driver.
 *
 * What lies in the shared memory is written and never believed: which chain is behind an index, which descriptors are free and where buffers
 * are is kept apart.  Chains are kept until he has returned them, in the order in which they came, and are offered anew to whoever comes
 * after him.
 *
 * Threads: one at a time for each ring (the device's lock).
 */
#ifndef LODGE_VIRTIO_VHOST_RING_H
#define LODGE_VIRTIO_VHOST_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "machine/mem.h"
#include "vhost/vhost.h"
#include "virtio/queue.h"

/* Pieces a chain may have: what peers take (libvhost-user's VIRTQUEUE_MAX_SIZE, the largest queue of QEMU and Linux). */
#define VHOST_RING_PIECES 1024u

/* A chain of the guest's that we have. */
struct vring_chain {
	struct list node;		/* in vhost_ring.held, or .unused */
	uint16_t index;			/* of itself, and of its table */
	uint16_t guest_head;
	bool offered;
	uint16_t first, n_desc;		/* descriptors it has in the ring, while it is offered */
	unsigned n_read, n_write;	/* pieces */
	uint64_t len_write;
	struct iovec *iov;		/* readable ones, then writable */
	unsigned iov_room;
};

struct vhost_ring {
	void *owner;			/* the device's, for its callbacks */
	struct mem *mem;
	uint16_t size;			/* descriptors, a power of two */
	/* The shared memory: descriptors, available, used ring, and a table for each chain. */
	uint8_t *host;
	uint64_t addr;			/* where the peer sees it */
	uint64_t avail, used, tables;	/* offsets */
	bool event_idx, indirect;	/* he knows them */
	uint16_t avail_idx, used_idx, kicked_idx;
	uint16_t free_first, n_free;	/* descriptors */
	uint16_t *next;			/* of free ones and of those in a chain */
	struct vring_chain **at;	/* by first descriptor; NULL: none */
	struct vring_chain *chain;	/* as many as descriptors */
	struct list held, unused;
	unsigned n_held, n_offered;
	bool full;			/* the guest has more than there is room for */
};

/* Bytes of shared memory, a multiple of 4 KiB. */
uint64_t vring_bytes(uint16_t size);
/* host: vring_bytes(size) bytes, zero; addr: where he sees them.  ENOMEM */
int vring_init(struct vhost_ring *r, struct mem *mem, uint16_t size, uint8_t *host, uint64_t addr);
void vring_fini(struct vhost_ring *r);
/* Other memory in its place, zero; call after vring_stopped. */
void vring_move(struct vhost_ring *r, uint8_t *host);

/* Nothing is offered any more: the peer is gone, or has stopped. */
void vring_stopped(struct vhost_ring *r);
/* Makes it ready for a peer who begins at r->used_idx.  Call after vring_stopped. */
void vring_prepare(struct vhost_ring *r, bool event_idx, bool indirect);
void vring_plan(const struct vhost_ring *r, struct vhost_ring_plan *out);
/* Offers what is held and is not offered yet, in order.  False: some has to wait for descriptors. */
bool vring_offer_held(struct vhost_ring *r);

/* Is a chain held that has more pieces than there are descriptors? */
bool vring_needs_table(const struct vhost_ring *r);

/* 1: the chain is offered, or held until there is room; 0: take it back (vq_unget), there is none now; -EPROTO: it can never be, by what it is.
 * A chain that lies in ROM is -EPROTO, too. */
int vring_add(struct vhost_ring *r, const struct vq_chain *c);
/* Keeps it without offering it. 0, -EPROTO, -ENOMEM */
int vring_hold(struct vhost_ring *r, const struct vq_chain *c);
/* Tells the peer of what was offered. True: he wants a kick. */
bool vring_publish(struct vhost_ring *r);

/*
 * Takes what he has returned, at most `max` chains, and gives it to the guest (vq_put_head), its memory marked as written: all of it, whatever he says.
 * The number of them; -EPROTO: he returns what he does not have.
 */
int vring_collect(struct vhost_ring *r, struct vq *vq, unsigned max);
/* Asks to be called; true: there is something already. */
bool vring_call_enable(struct vhost_ring *r);
/* Forgets all that is held: the guest has reset the queue.  Call after vring_stopped. */
void vring_forget(struct vhost_ring *r);

#endif
