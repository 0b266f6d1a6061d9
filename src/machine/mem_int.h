/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of the memory map share: mem.c has the map, mem_ram.c where RAM comes from and goes to. */
#ifndef LODGE_MACHINE_MEM_INT_H
#define LODGE_MACHINE_MEM_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "machine/mem.h"

#define HUGE_2M (2ull << 20)
/* Physical addresses have 52 bits at most (SDM vol. 3, 4.1.4). */
#define GPA_LIMIT (1ull << 52)
#define MAX_RANGES 448		/* fewer than the least number of slots that KVM has (509) */
#define MAX_PLUGGED 384		/* plugging and unplugging does not make them more than this */

struct backing {
	uint8_t *host;
	uint64_t size;
	int fd;
	bool merge;			/* there is no fd: it is this process's own memory, whose pages may be merged with others' */
	bool private;			/* what is written is this process's alone; pages come from an image that is only read, or are its own from the start (merge) */
	struct mem_image *image;	/* it; else NULL */
	_Atomic uint8_t *flags;
	_Atomic uint32_t *version;
	struct mem_ahead *ahead;	/* or NULL */
};

struct mem_rom {
	struct backing b;
	char name[24];
	struct mem_rom *next;
};

struct range {
	struct mem_range r;
	struct backing *rom;		/* owned; NULL for RAM and what has a mem_rom */
};

struct mem {
	pthread_rwlock_t lock;
	struct range ranges[MAX_RANGES];
	size_t n;
	struct backing ram;
	uint64_t reserved, host_limit;
	struct mem_rom *roms;
	bool make_ahead, want_merge;
	_Atomic bool dirty;
	pthread_rwlock_t listen_lock;
	struct list listeners;
};

/* Unmaps and closes all there is, and leaves it empty. */
void mem_backing_fini(struct backing *b);
/* Sets the bits of pages of a private mapping that are not the image's.  0 or -errno */
int mem_own_pages(const struct backing *b, uint64_t *bitmap);
/* Flags and versions for b->size bytes. ENOMEM */
int mem_backing_books(struct backing *b);

#endif
