/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio device whose work somebody else does (vhost/vhost.h): what those devices share.
 *
 * The peer sees the guest's buffers, and rings that are ours (vhost_ring.h); never the guest's rings.  So what he returns is checked, what he
 * has written is known to translated code and the log of written pages, what he has not returned is offered again to whoever comes
 * after him, and all state is the device's own.
 *
 * A device file embeds struct vhost_dev first, fills `front`, makes a peer and calls vhost_dev_init; its virtio_dev_ops are made of the vhost_dev_*
 * functions below.  Its first `n_rings` queues are the peer's; others, behind them, are its own, and it has their kicks.
 *
 * A peer that is away makes requests wait in the guest's queues.  Locks: the device's (virtio/device.h) for everything; pause, reset and
 * release wait for the peer with it held, for some seconds at most.
 */
#ifndef LODGE_VIRTIO_VHOST_H
#define LODGE_VIRTIO_VHOST_H

#include "vhost/vhost.h"
#include "virtio/device.h"
#include "virtio/vhost_ring.h"

struct vhost_dev;

struct vhost_front {
	uint64_t peer_features;		/* device features that are the peer's: offered to the guest if he has them */
	/* Rings whose requests end soon, bit by queue: pausing waits until all have come back.  The others hold buffers for as long as it takes
	 * (a network's receive queue): those stay held, and are offered again. */
	uint64_t drained;
	/* His configuration space is there, or has changed: copies what it wants and returns whether the guest is to be told.  May be NULL. */
	bool (*config)(struct vhost_dev *v, const struct vhost_news *n);
	/* A kick for a queue that is not the peer's.  May be NULL. */
	void (*kick)(struct vhost_dev *v, unsigned q);
};

struct vhost_dev {
	struct virtio_dev d;		/* first */
	const struct vhost_front *front;
	struct vhost *peer;
	unsigned n_rings;
	uint64_t own_features;		/* of the device file, whatever the peer has */
	uint64_t life;			/* of the peer that the rings are, or were, with */
	uint32_t config_serial;
	int64_t drain_ns;		/* how long requests may take to end when they have to; set by vhost_dev_init */
	bool starting, running;
	bool unfit;			/* he cannot do what the guest was promised; until he or the guest begins anew */
	struct iothread_work config_work;
	/* The rings' memory, and the eventfds, are made anew for each peer: one that was cut off may have the old ones still, and work on. */
	uint64_t rings_life;		/* whose they are; 0: nobody has seen them */
	int mem_fd;
	uint8_t *mem;
	uint64_t mem_bytes, mem_addr;
	struct vhost_ring ring[VHOST_MAX_RINGS];
	struct loop_fd call[VHOST_MAX_RINGS];
	int kick[VHOST_MAX_RINGS];
	/* What saved state says the peer had: pairs of queue and head, to be walked when the device goes on. */
	uint8_t *again;
	uint32_t n_again;
	struct vq_chain chain;		/* scratch */
	struct vhost_plan plan;		/* scratch */
	struct {
		uint64_t returned;	/* chains */
		uint64_t lives;		/* peers that have come */
		uint64_t repeated;	/* chains that were offered again */
	} stats;
};

/*
 * v->d.io, front and peer are set (the peer on the loop of v->d.io, or the machine's).  It owns the peer on success.  sizes: of all queues.  ENOTSUP: the
 * guest's memory cannot be shared; ENOMEM and others, with a message.  Machine lock held, the device's not.
 */
int vhost_dev_init(struct vhost_dev *v, struct machine *m, const struct virtio_dev_ops *ops, const char *id, uint64_t own_features, uint32_t config_len,
		   unsigned n_queues, const uint16_t *sizes, unsigned n_rings, struct err *e);
/* Of the `free` of the device file, which frees v itself.  Machine lock held. */
void vhost_dev_fini(struct vhost_dev *v);

/* For virtio_dev_ops. */
void vhost_dev_start(struct virtio_dev *d);
void vhost_dev_kick(struct virtio_dev *d, unsigned q);
void vhost_dev_reset(struct virtio_dev *d);
void vhost_dev_queue_reset(struct virtio_dev *d, unsigned q);
void vhost_dev_pause(struct virtio_dev *d);
void vhost_dev_resume(struct virtio_dev *d);
int vhost_dev_save(struct virtio_dev *d, struct snap_out *o);
int vhost_dev_load(struct virtio_dev *d, struct snap_in *in, struct err *e);

#endif
