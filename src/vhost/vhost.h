/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost peer: somebody outside the VMM who does the work of a virtio device, on rings in memory that is shared with him.
 *
 * This is what a device (virtio/vhost.h) knows of any of them.  A peer comes and goes: each time he is there is a `life`, with a number
 * that grows.  The device looks at what is known (`look`), asks for its rings to be started (`start`, which returns at once) and is
 * called (`changed`) when there is something new to look at.  Everything else about him, connections above all, is the peer's file's.
 *
 * Addresses: a peer is told of regions by an address space of this device's own, in which the guest's RAM is one region from 0 (by where
 * it lies in its backing, not by where the guest sees it), and the rings another behind it.
 */
#ifndef LODGE_VHOST_VHOST_H
#define LODGE_VHOST_VHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VHOST_MAX_RINGS 64
#define VHOST_MAX_REGIONS 2
#define VHOST_CONFIG_MAX 256

struct vhost_region {
	uint64_t addr, size;		/* bytes */
	void *host;			/* its mapping here */
	int fd;				/* its file, from offset 0; -1: none that may be shared */
};

struct vhost_ring_plan {
	uint64_t desc, avail, used;	/* addresses, inside one region */
	uint16_t size;			/* a power of two */
	uint16_t base;			/* index of the first entry, in avail and used alike */
	int kick, call;			/* eventfds */
};

/* How rings are to be started.  Descriptors and mappings stay the caller's, and live as long as the peer does. */
struct vhost_plan {
	uint64_t features;		/* virtio's, a part of what he offers */
	unsigned n_regions, n_rings;
	struct vhost_region region[VHOST_MAX_REGIONS];
	struct vhost_ring_plan ring[VHOST_MAX_RINGS];
};

enum vhost_state {
	VHOST_AWAY,
	VHOST_THERE,			/* has said what he is */
	VHOST_STARTING,
	VHOST_RUNNING,
};

/* What is known of him.  Features and configuration are his words: nothing about them has been checked. */
struct vhost_news {
	enum vhost_state state;
	uint64_t life;			/* 0: he has never been there */
	uint64_t features;
	unsigned queues;		/* most he can serve; 0: he does not say */
	uint32_t config_len;		/* as long as was asked for, or 0 */
	uint32_t config_serial;		/* another number: another configuration */
	uint8_t config[VHOST_CONFIG_MAX];
};

struct vhost;

struct vhost_ops {
	/* Any thread. */
	void (*look)(struct vhost *, struct vhost_news *out);
	/* THERE, and this life: begins to start the rings.  The plan is copied.  Otherwise nothing happens. */
	void (*start)(struct vhost *, uint64_t life, const struct vhost_plan *plan);
	/* Rings that run, or are about to, stop: the peer leaves the memory alone when this returns 0.  reset: he may forget what he has
	 * been told.  Waits, for some seconds at most; then he is dropped, and it is -ETIMEDOUT or what happened.  -ENOTCONN: he has gone. */
	int (*stop)(struct vhost *, bool reset);
	/* Memory for the rings of the peer that is there now, if he is not the first: a file as vhost_shared_new makes it, of v->ring_bytes, which is the
	 * caller's then; -EAGAIN: there is none. */
	int (*memory)(struct vhost *);
	/* He has broken the rules, or does not answer: away with him, until he comes again. */
	void (*drop)(struct vhost *, const char *why);
	/* No `changed` is called any more; waits for what is under way, briefly. */
	void (*free)(struct vhost *);
};

/* All functions but look: the lock of the loop that `changed` is called on is held (or nothing runs yet). */
struct vhost {
	const struct vhost_ops *ops;
	void (*changed)(void *opaque);	/* on the loop the peer was made with */
	void *opaque;
	_Atomic uint64_t ring_bytes;	/* set by the device */
};

/* A file in memory of so many bytes, zero, that nobody can make shorter or longer: a peer that did would have us die of our own ring.  A descriptor, or a
 * negative errno.  A thread that may make such (the main one's class, or CONFINE_PEER). */
int vhost_shared_new(uint64_t bytes);

#endif
