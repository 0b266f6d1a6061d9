/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical memory map: RAM and ROM.  (MMIO lives on the bus.)
 *
 * RAM is one memfd, shareable with other processes, mapped once; a range says
 * which part of it appears at which guest-physical address (GPA).  Every copy
 * is bounds-checked; a copy that touches anything but RAM (or ROM, reading)
 * fails with -EFAULT and transfers nothing.
 *
 * Writes by devices and engines are recorded: per page one byte of flags
 * (MEM_PG_*) tells whether somebody wants to know.  Engines that keep decoded
 * or translated code set MEM_PG_CODE and are told of writes through their
 * listener.
 *
 * A ROM's bytes are an object of their own (struct mem_rom), shown at one or
 * several GPAs, so that firmware's shadow and flash chips can come and go while
 * somebody still reads what was there.  A guest's write to ROM goes to the MMIO bus.
 *
 * Threads: look-ups and copies from any thread; changes to the map (mem_add_*,
 * mem_del) with the machine lock held and vCPUs paused or tolerant (listeners
 * are called synchronously).
 */
#ifndef LODGE_MACHINE_MEM_H
#define LODGE_MACHINE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/list.h"

#define PAGE_SHIFT_4K 12
#define PAGE_4K 4096ull

struct mem;
struct mem_image;
struct mem_rom;

enum mem_kind { MEM_RAM, MEM_ROM };

/* Page flags, one byte per 4 KiB page of the backing store. */
#define MEM_PG_DIRTY 0x01	/* written since the log was last fetched (log enabled only) */
/* An engine holds code made from this page.  The engine sets the bit, then a
 * seq_cst fence, then reads the bytes; writers store, fence, then look at it.
 * The bit stays until the engine clears it. */
#define MEM_PG_CODE 0x02
/* An engine lets something write to the page that does not look at the flags: who sets
 * MEM_PG_CODE has that ended first. */
#define MEM_PG_DIRECT 0x04
/* Somebody (a display) watches the page: writes set MEM_PG_SEEN, with or without the log. */
#define MEM_PG_WATCH 0x08
#define MEM_PG_SEEN 0x10

struct mem_range {
	uint64_t gpa, size;	/* 4 KiB aligned */
	enum mem_kind kind;
	uint8_t *host;		/* mapping of the first byte */
	int fd;			/* backing memfd, or -1 */
	uint64_t fd_offset;
	_Atomic uint8_t *flags;	/* MEM_PG_* of the first page */
	_Atomic uint32_t *version; /* of the first page: grows when a page with MEM_PG_CODE is written */
	bool plugged;			/* by mem_plug, maybe in pieces */
	struct mem_ahead *ahead;	/* RAM: to be told of first accesses (ahead.h), offset fd_offset; or NULL */
	char name[24];
};

/* Told of every change of the map, and of writes to pages with MEM_PG_CODE that
 * a device made.  Called with the machine lock held (map) or from any thread
 * (code_written).  Memory that is plugged (mem_plug) goes in other pieces than it
 * came in: what is told is the piece, and the map has what there is as a whole. */
struct mem_listener {
	void (*added)(void *opaque, const struct mem_range *r);
	void (*removed)(void *opaque, const struct mem_range *r);
	void (*code_written)(void *opaque, uint64_t gpa, uint64_t len); /* may be NULL */
	void *opaque;
	struct list node;
};

enum { MEM_HUGE_NONE, MEM_HUGE_THP, MEM_HUGE_2M };

int mem_new(struct mem **out);
void mem_free(struct mem *m);

/* The RAM that is created will be memory of this process alone, which mem_merge is for: no other process can map it, so mem_ram_fd is -1. */
void mem_want_merge(struct mem *m);
/* Before the RAM is made: the last `bytes` of its backing, whole pages, are for memory that comes later (mem_plug), and it does not matter
 * yet whether the host has them. */
void mem_reserve(struct mem *m, uint64_t bytes);
/* How much memory the host and this process's control group can give all in all, as it was when RAM was made; UINT64_MAX: unknown. */
uint64_t mem_host_limit(const struct mem *m);
/* Creates the RAM backing of `size` bytes (a multiple of 4 KiB, checked).  Once. */
int mem_create_ram(struct mem *m, uint64_t size, int huge, struct err *e);
/*
 * The same with the contents of an image (mem_image.h) of that size.  Mapped: pages come from its files when they are first touched,
 * are shared with whoever else maps them, and what is written is this process's own; mem_ram_fd is -1 then, since there is
 * nothing that another process could map.  The files must not change meanwhile, above all not become shorter.  With `copy`, huge
 * pages, or an image that cannot be mapped, it is read in and checked.  The image is taken over, and *img NULL, if it succeeds.
 */
int mem_create_ram_from(struct mem *m, uint64_t size, int huge, struct mem_image **img, bool copy, struct err *e);
/* Gives the pages [off, off+len) of the RAM backing back to the host.  What is read there then is undefined: zeros, or with mapped
 * RAM what the file has.  Pages, in bytes.  0 or -errno */
int mem_ram_release(struct mem *m, uint64_t off, uint64_t len);
/*
 * mem_place.c: where the host keeps RAM, once it is created.  mem_bind: bytes [off, off+len) of it, whole pages that nobody has touched, on these
 * nodes of the host, a bit for each; ENODEV: it has no such memory.  mem_populate: all of it from now on, but what is reserved; mem_lock_ram: and not
 * swapped out (EPERM: more than this process may).  mem_merge: pages that are the same as others are kept once (KSM).
 */
enum mem_policy { MEM_POLICY_DEFAULT, MEM_POLICY_PREFERRED, MEM_POLICY_BIND, MEM_POLICY_INTERLEAVE };	/* as QEMU's HostMemPolicy */
int mem_bind(struct mem *m, uint64_t off, uint64_t len, enum mem_policy policy, uint64_t nodes, struct err *e);
int mem_populate(struct mem *m, struct err *e);
int mem_lock_ram(struct mem *m, struct err *e);
int mem_merge(struct mem *m, struct err *e);
/* Fresh RAM, once there is any, is made ahead of who accesses it if who does tells range.ahead. */
void mem_make_ahead(struct mem *m);
/* Shows `size` bytes of the RAM backing from `offset` at `gpa`. */
int mem_add_ram(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size,
		struct err *e);
/*
 * RAM that comes and goes in pieces while vCPUs run.  mem_plug is mem_add_ram, but pieces of one name that lie side by side, in the map and in
 * the backing, are one range; mem_unplug takes a piece out of such a range, whose rest is there all the time.  Whoever does so has the
 * bytes told as written (mem_written) while they are in the map, and gives them back (mem_ram_release) afterwards; a vCPU may still
 * write there until it has heard of it.  -ENOSPC: the map has too many ranges already; -ENOENT: some of it is not plugged.
 */
int mem_plug(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size, struct err *e);
int mem_unplug(struct mem *m, uint64_t gpa, uint64_t size);
/* A ROM with its own backing of `size` bytes, filled from data (len <= size). */
int mem_add_rom(struct mem *m, const char *name, uint64_t gpa, uint64_t size,
		const void *data, size_t len, struct err *e);
/* Shows RAM that can be read only (what a chipset write-protects): kind MEM_ROM, backing RAM. */
int mem_add_ram_protected(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size,
			  struct err *e);
/* Bytes to be shown as ROM, zero at first; they live as long as the map.  size: a multiple of 4 KiB.
 * What changes them through mem_rom_bytes calls mem_written for where they are shown. */
int mem_rom_new(struct mem *m, const char *name, uint64_t size, struct mem_rom **out, struct err *e);
uint8_t *mem_rom_bytes(struct mem_rom *rom);
uint64_t mem_rom_size(const struct mem_rom *rom);
/* Shows [offset, offset+size) of it at gpa. */
int mem_show_rom(struct mem *m, struct mem_rom *rom, uint64_t gpa, uint64_t offset, uint64_t size, struct err *e);
/* Removes the range that starts at gpa; -ENOENT if there is none. */
int mem_del(struct mem *m, uint64_t gpa);

uint64_t mem_ram_size(const struct mem *m);
/* -1: none that may be shared */
int mem_ram_fd(const struct mem *m);
/* The backing mapping as a whole: for releasing pages and for statistics. */
uint8_t *mem_ram_host(const struct mem *m);

/* The range holding gpa, copied to *out; false if there is none. */
bool mem_find(struct mem *m, uint64_t gpa, struct mem_range *out);
/* Calls fn for every range in ascending order. */
void mem_for_each(struct mem *m, void (*fn)(void *opaque, const struct mem_range *r), void *opaque);

/* Copies.  -EFAULT: some byte is not RAM (reads may come from ROM); nothing is
 * transferred then. */
int mem_read(struct mem *m, uint64_t gpa, void *buf, uint64_t len);
int mem_write(struct mem *m, uint64_t gpa, const void *buf, uint64_t len);
/* Writes ROM too: for the platform, before or between runs of the guest. */
int mem_load(struct mem *m, uint64_t gpa, const void *buf, uint64_t len);

/*
 * Host view of guest RAM [gpa, gpa+len) as up to `max` pieces appended to
 * iov[*n].  For device DMA.  The bytes are shared with a hostile guest: read
 * each once.  write: RAM only.  -EFAULT outside memory, -E2BIG when max is too
 * small.  After writing through it the device calls mem_written.
 */
int mem_map_iov(struct mem *m, uint64_t gpa, uint64_t len, bool write,
		struct iovec *iov, size_t max, size_t *n);
/* Pointer to len contiguous bytes, or NULL.  Same rules. */
void *mem_ptr(struct mem *m, uint64_t gpa, uint64_t len, bool write);

/* A device wrote [gpa, gpa+len) behind the copies' back: logs dirty, tells
 * engines of written code.  Ranges outside RAM are ignored. */
void mem_written(struct mem *m, uint64_t gpa, uint64_t len);
/* The same by host addresses (what a vq_chain holds). */
void mem_written_host(struct mem *m, const void *host, size_t len);

/* Dirty log over the whole RAM backing: the memory's part of it.  dirty.h has the whole, vCPUs included. */
int mem_dirty_start(struct mem *m);
void mem_dirty_stop(struct mem *m);
bool mem_dirty_enabled(const struct mem *m);
/* ORs the log of backing pages [first, first+n) into bitmap, whose bit 0 is page
 * `first`, and clears it. */
void mem_dirty_fetch(struct mem *m, uint64_t first, uint64_t n, uint64_t *bitmap);

/*
 * Watched pages: a log of its own for a few pages [first, first+n) of the RAM backing, which leaves
 * the rest of the memory alone.  Machine lock held.  Engines bring it up to date in machine->watch_sync,
 * after which writes are seen again; one that was under way meanwhile may be seen only next time,
 * so a page that was written counts as written the next time too.
 */
void mem_watch(struct mem *m, uint64_t first, uint64_t n, bool on);
bool mem_watched(const struct mem_range *r);	/* its first page */
/* ORs the pages written into bitmap, whose bit 0 is page `first`, and clears them. */
void mem_watch_fetch(struct mem *m, uint64_t first, uint64_t n, uint64_t *bitmap);
/* A device that owns [off, off+len) of the RAM backing wrote there itself.  Cheap. */
void mem_stored(struct mem *m, uint64_t off, uint64_t len);

void mem_listen(struct mem *m, struct mem_listener *l);	/* replays added() for what exists */
void mem_unlisten(struct mem *m, struct mem_listener *l);

#endif
