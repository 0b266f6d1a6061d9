/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which bytes of RAM are code that an engine has decoded or translated.
 *
 * Per page of the RAM backing a 64-bit mask of 64-byte granules; the page's
 * MEM_PG_CODE flag says that the mask is not empty, so that a store has to look
 * at one byte only.  A store into a marked granule bumps the page's version,
 * which every cached block compares before it runs, and clears the marks: the
 * next decoding sets them again.
 *
 * Ordering.  The marker sets the flag and then reads the bytes; the storing CPU
 * writes the bytes and then reads the flag.  Each needs a full barrier between
 * the two.  The store path must be cheap, so its barrier is made from here: when
 * a page's flag goes from clear to set, membarrier(2) runs one on every thread.
 */
#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/x86/cpu.h"

struct x86_codemap {
	struct machine *m;
	pthread_mutex_t lock;		/* marks, versions and the CODE flag change under it */
	_Atomic uint8_t *flags0;	/* flags of the backing's first page */
	_Atomic uint32_t *version0;	/* and its version */
	uint64_t pages;
	uint64_t *granules;		/* one word a page, lazily zero */
	struct mem_listener listener;
	void (*on_hit)(void *opaque, _Atomic uint32_t *version);
	void (*on_mark)(void *opaque, _Atomic uint8_t *flags, uint64_t page);
	void *on_hit_opaque, *on_mark_opaque;
};

static void range_added(void *opaque, const struct mem_range *r)
{
	struct x86_codemap *map = opaque;

	uint64_t pages = mem_ram_size(map->m->mem) / PAGE_4K;
	void *p;

	if (r->kind != MEM_RAM || map->flags0)
		return;
	p = mmap(NULL, pages * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	/* No address space for the marks: whole pages then, slower and as exact. */
	map->granules = p == MAP_FAILED ? NULL : p;
	map->pages = pages;
	map->flags0 = r->flags - r->fd_offset / PAGE_4K;
	map->version0 = r->version - r->fd_offset / PAGE_4K;
}

static void range_removed(void *opaque, const struct mem_range *r)
{
}

int x86_codemap_new(struct machine *m, struct x86_codemap **out)
{
	struct x86_codemap *map = calloc(1, sizeof(*map));

	if (!map)
		return -ENOMEM;
	map->m = m;
	pthread_mutex_init(&map->lock, NULL);
	map->listener = (struct mem_listener){ .added = range_added, .removed = range_removed, .opaque = map };
	mem_listen(m->mem, &map->listener);
	/* Without the system call (old kernel, seccomp) a store that races with the first
	 * decoding of its page by another vCPU may go unnoticed: docs/QUIRKS.md. */
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	*out = map;
	return 0;
}

void x86_codemap_free(struct x86_codemap *map)
{
	if (!map)
		return;
	mem_unlisten(map->m->mem, &map->listener);
	if (map->granules)
		munmap(map->granules, map->pages * 8);
	pthread_mutex_destroy(&map->lock);
	free(map);
}

static uint64_t granule_mask(unsigned off, unsigned len)
{
	unsigned first = off >> 6, last = (off + (len ? len : 1) - 1) >> 6;

	if (last > 63)
		last = 63;
	return (~0ull << first) & (~0ull >> (63 - last));
}

/* Index of the page in the RAM backing, or -1 for what is not RAM (ROM cannot be stored to). */
static int64_t page_index(const struct x86_codemap *map, const struct x86_tlb_entry *page)
{
	ptrdiff_t i = map->flags0 ? page->flags - map->flags0 : -1;

	return i >= 0 && (uint64_t)i < map->pages ? i : -1;
}

uint32_t x86_codemap_mark(struct x86_codemap *map, const struct x86_tlb_entry *page, unsigned off, unsigned len)
{
	int64_t i = page_index(map, page);
	bool fresh = false;
	uint32_t version;

	pthread_mutex_lock(&map->lock);
	if (i >= 0) {
		if (map->granules)
			map->granules[i] |= granule_mask(off, len);
		fresh = !(atomic_fetch_or(page->flags, MEM_PG_CODE) & MEM_PG_CODE);
	}
	version = atomic_load(page->version);
	pthread_mutex_unlock(&map->lock);
	if (fresh && map->on_mark)
		map->on_mark(map->on_mark_opaque, page->flags, (uint64_t)i);
	if (fresh && map->m->n_vcpus > 1)
		syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	return version;
}

bool x86_codemap_marked(struct x86_codemap *map, const struct x86_tlb_entry *page, unsigned off, unsigned len)
{
	int64_t i = page_index(map, page);
	bool marked;

	if (i < 0 || !(atomic_load_explicit(page->flags, memory_order_relaxed) & MEM_PG_CODE))
		return false;
	pthread_mutex_lock(&map->lock);
	marked = !map->granules || (map->granules[i] & granule_mask(off, len));
	pthread_mutex_unlock(&map->lock);
	return marked;
}

bool x86_codemap_hit(struct x86_codemap *map, const struct x86_tlb_entry *page, unsigned off, unsigned len)
{
	int64_t i = page_index(map, page);
	bool hit = false;

	if (i < 0)
		return false;
	pthread_mutex_lock(&map->lock);
	if (!map->granules || (map->granules[i] & granule_mask(off, len))) {
		hit = true;
		atomic_fetch_add(page->version, 1);
		if (map->granules)
			map->granules[i] = 0;
		atomic_fetch_and(page->flags, (uint8_t)~MEM_PG_CODE);
	}
	pthread_mutex_unlock(&map->lock);
	if (hit && map->on_hit)
		map->on_hit(map->on_hit_opaque, page->version);
	return hit;
}

void x86_codemap_on_mark(struct x86_codemap *map, void (*fn)(void *opaque, _Atomic uint8_t *flags, uint64_t page), void *opaque)
{
	map->on_mark = fn;
	map->on_mark_opaque = opaque;
}

void x86_codemap_on_hit(struct x86_codemap *map, void (*fn)(void *opaque, _Atomic uint32_t *version), void *opaque)
{
	map->on_hit = fn;
	map->on_hit_opaque = opaque;
}

bool x86_codemap_hit_page(struct x86_codemap *map, _Atomic uint8_t *flags, unsigned off, unsigned len)
{
	struct x86_tlb_entry page = { .flags = flags };
	int64_t i = page_index(map, &page);

	if (i < 0)
		return false;
	page.version = map->version0 + i;
	return x86_codemap_hit(map, &page, off, len);
}
