/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port and MMIO dispatch.
 *
 * A region is registered with the access sizes its device understands; the bus
 * validates, so a handler only ever sees whole accesses that lie inside its
 * region, with a length between min_len and max_len, a power of two, naturally
 * aligned unless `unaligned` is set.  Wider, narrower or odd accesses are split
 * or widened here: too wide ones are split into max_len pieces in ascending
 * order; reads that are too narrow read a min_len unit and take the bytes
 * wanted; too narrow writes are handed over as they are only if min_len allows,
 * else dropped.  Reads of nothing give all ones, writes to nothing are dropped.
 *
 * Handlers run on vCPU threads with the machine lock held, except for regions
 * marked `unlocked`, which do their own locking and stay registered while vCPUs run.  Overlap: the region with the
 * higher priority wins (PCI BARs may be moved anywhere by the guest, fixed
 * parts therefore use priority 1 or more).
 */
#ifndef LODGE_MACHINE_BUS_H
#define LODGE_MACHINE_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct bus;
struct machine;

struct bus_ops {
	/* off is relative to the region; the value is right-aligned in 64 bits. */
	uint64_t (*read)(void *opaque, uint64_t off, unsigned len);
	void (*write)(void *opaque, uint64_t off, unsigned len, uint64_t val);
	/* Virtual ns up to which reads there will tell nothing that is worth waiting for, if nobody writes meanwhile;
	 * 0 or the past: not known.  NULL: never known.  For vCPUs that poll; not with `unlocked`. */
	int64_t (*quiet_until)(void *opaque, uint64_t off);
	uint8_t min_len, max_len;	/* 0 means 1 and 8 (MMIO) or 4 (port) */
	bool unaligned;
	bool unlocked;
	/* Claims only accesses of the whole region at once; all others go to what
	 * else is registered there (the dword at 0xcf8 around the byte at 0xcf9). */
	bool exact;
};

/* Owned by the caller; must stay while registered. */
struct bus_region {
	const char *name;
	const struct bus_ops *ops;
	void *opaque;
	uint64_t base, size;
	int priority;
	struct bus *bus;		/* NULL while not registered */
};

/* A doorbell: a write that only needs to be noticed.  Matching writes signal
 * `fd` (an eventfd) and go no further, without the machine lock. */
struct bus_doorbell {
	uint64_t addr;
	unsigned len;			/* 0: any length */
	bool match;			/* compare the written value with `value` */
	uint64_t value;
	int fd;
	struct bus *bus;
};

/* Told when doorbells come and go so that an engine can take them over
 * (ioeventfd).  Called with the machine lock held. */
struct bus_doorbell_listener {
	void (*changed)(void *opaque, const struct bus_doorbell *d, bool added);
	void *opaque;
};

int bus_new(struct bus **out, const char *name, uint64_t limit, unsigned max_len,
	    pthread_mutex_t *machine_lock);
void bus_free(struct bus *b);

/* -EINVAL: empty or beyond the bus. -EEXIST: same base and priority as another.
 * Machine lock held (or before vCPUs run). */
int bus_add(struct bus *b, struct bus_region *r);
void bus_del(struct bus_region *r);		/* no-op if not registered */
int bus_doorbell_add(struct bus *b, struct bus_doorbell *d);
void bus_doorbell_del(struct bus_doorbell *d);
void bus_doorbell_listen(struct bus *b, const struct bus_doorbell_listener *l);
/* Forgets every listener with this opaque pointer: before an engine goes away. */
void bus_doorbell_unlisten(struct bus *b, const void *opaque);

/* Dispatch, from any thread, machine lock NOT held.  len 1..8 for a port bus
 * in practice 1, 2, 4; MMIO 1..64.  Returns 0, or -ENXIO if nobody answered
 * (the buffer is all ones then). */
int bus_access(struct bus *b, uint64_t addr, void *buf, unsigned len, bool write);
/* The same with the machine lock already held (devices, tests). */
int bus_access_locked(struct bus *b, uint64_t addr, void *buf, unsigned len, bool write);

/* The region's quiet_until for that address, or 0. Machine lock NOT held. */
int64_t bus_quiet_until(struct bus *b, uint64_t addr);

/* Is there a region or doorbell that covers addr? */
bool bus_covers(struct bus *b, uint64_t addr);

#endif
