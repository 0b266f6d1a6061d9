/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that comes and goes in blocks (virtio 1.2, 5.15).
 *
 * The device has a region of guest-physical addresses and as much of the RAM backing (machine/mem.h, mem_reserve).  The host
 * says how much of it the guest should have, and the guest's driver asks for blocks, or gives them up, until it is so.
 * Only blocks that are plugged are in the memory map: elsewhere in the region nothing answers.
 */
#ifndef LODGE_VIRTIO_MEM_H
#define LODGE_VIRTIO_MEM_H

#include "virtio/device.h"

#define VIRTIO_MEM_BLOCK_MIN (1ull << 20)
#define VIRTIO_MEM_BLOCK_DEFAULT (2ull << 20)	/* the host's large pages stay whole */

struct virtio_mem_opts {
	const char *name;		/* of the memory, in the map; copied */
	uint64_t gpa, offset, size;	/* bytes; offset: in the RAM backing.  Multiples of the block size; gpa and offset also of 4 KiB */
	uint64_t block_size;		/* a power of two, VIRTIO_MEM_BLOCK_MIN at least */
	int node;			/* its proximity domain; -1: there are none */
	unsigned number;		/* told with MACHINE_EV_MEMORY_SIZE */
};

struct virtio_mem_info {
	uint64_t gpa, max_size, block_size;	/* bytes, all of these */
	uint64_t requested, usable, plugged;
	int node;
};

/* Machine lock held, as for all below.  EINVAL names what is wrong with the sizes. */
int virtio_mem_new(struct machine *m, const char *id, const struct virtio_mem_opts *o, struct virtio_dev **out, struct err *e);
/* Whether the sizes are as above; without an address. */
int virtio_mem_check(uint64_t size, uint64_t block_size, uint64_t requested, struct err *e);
/* The guest should have so many bytes of it: a multiple of the block size, at most its size (EINVAL). */
int virtio_mem_request(struct virtio_dev *d, uint64_t bytes, struct err *e);
void virtio_mem_get(struct virtio_dev *d, struct virtio_mem_info *out);
/* The machine is reset, and no vCPU runs: all of it is unplugged. */
void virtio_mem_machine_reset(struct virtio_dev *d);

#endif
