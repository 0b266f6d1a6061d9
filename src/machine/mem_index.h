/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The index of a file of saved memory: which pages of RAM the file has, and checksums.
 *
 * RAM is in blocks of 64 KiB, of which the index has those of which the file has a page.  A file is *raw*, with pages at their own places and holes
 * elsewhere, so that it can be mapped, or *packed*: one zstd frame for each block, of its pages one after the other.  What the file does not have is in the
 * file of the image below (a *difference*) or zeros.
 *
 * Its bytes, little endian:
 *
 *   header   "LODGEMEM"  u32 version, 1  u32 flags: 1 packed, 2 a difference  u64 bytes of RAM  16 bytes of id
 *            16 bytes of the id of the image below, or zeros  u32 length of its place  u32 number of blocks
 *   place    of the image below: a path
 *   block    u32 number  u16 pages, a bit for each  u16 0  u64 place and u32 length of the frame, 0 if raw
 *            u32 CRC-32C of the pages one after the other
 *   trailer  u32 CRC-32C of everything before it  "LODGEEND"
 */
#ifndef LODGE_MACHINE_MEM_INDEX_H
#define LODGE_MACHINE_MEM_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MEM_BLOCK (64u << 10)
#define MEM_BLOCK_PAGES 16u
#define MEM_FRAME_MAX (MEM_BLOCK + 1024u)	/* zstd's bound for what it cannot make smaller is less */
#define MEM_ID_LEN 16u
#define MEM_INDEX_MAX (1u << 30)		/* bytes of the file */

struct mem_block {
	uint64_t at;		/* of the frame in the file; raw: 0 */
	uint32_t len;
	uint32_t nr, crc;
	uint16_t pages;		/* not 0 */
};

struct mem_index {
	uint64_t size;		/* of RAM */
	bool packed, diff;
	uint8_t id[MEM_ID_LEN], below_id[MEM_ID_LEN];
	char *below;		/* its place, if it is a difference; owned */
	uint32_t n;
	struct mem_block *block;	/* ascending; owned */
};

/* EINVAL, ENOMEM; the index is empty then.  size: of RAM, which it must be of. */
int mem_index_parse(const void *data, size_t len, uint64_t size, struct mem_index *out, struct err *e);
/* Its bytes, malloc'ed. ENOMEM, EOVERFLOW */
int mem_index_bytes(const struct mem_index *ix, uint8_t **out, size_t *len);
/* Adds a block behind the others. ENOMEM */
int mem_index_add(struct mem_index *ix, const struct mem_block *b);
void mem_index_free(struct mem_index *ix);

#endif
