/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which parts of a disk were written: one bit for each piece of `granularity`
 * bytes, in memory.  No locks; offsets and lengths are bytes, and inside the disk.
 */
#ifndef LODGE_BLOCK_DIRTY_H
#define LODGE_BLOCK_DIRTY_H

#include <stdbool.h>
#include <stdint.h>

#define BLK_DIRTY_DEFAULT 65536

struct blk_dirty;

/* size > 0.  granularity: a power of two, 512 to 2 GiB; 0: 64 KiB. NULL: no memory, or not such */
struct blk_dirty *blk_dirty_new(uint64_t size, uint32_t granularity);
struct blk_dirty *blk_dirty_copy(const struct blk_dirty *d);
/* NULL is allowed. */
void blk_dirty_free(struct blk_dirty *d);
uint64_t blk_dirty_size(const struct blk_dirty *d);
uint32_t blk_dirty_granularity(const struct blk_dirty *d);

/* Every piece that [off, off+len) touches. */
void blk_dirty_set(struct blk_dirty *d, uint64_t off, uint64_t len);
/* Every piece that lies in it wholly (the last one of the disk may be shorter). */
void blk_dirty_clear(struct blk_dirty *d, uint64_t off, uint64_t len);
/* Any piece it touches? */
bool blk_dirty_test(const struct blk_dirty *d, uint64_t off, uint64_t len);
/* The first run of dirty pieces at `from` or behind it, of max bytes at most (at least one piece). False: none */
bool blk_dirty_next(const struct blk_dirty *d, uint64_t from, uint64_t max, uint64_t *off, uint64_t *len);
/* Bytes in dirty pieces, the last one taken for whole. */
uint64_t blk_dirty_bytes(const struct blk_dirty *d);
/* What is dirty in `from` becomes so in d. Same size; any granularity. */
void blk_dirty_merge(struct blk_dirty *d, const struct blk_dirty *from);
/* What is cut off is forgotten, what is added is clean. ENOMEM */
int blk_dirty_resize(struct blk_dirty *d, uint64_t size);

#endif
