// SPDX-License-Identifier: GPL-2.0-or-later
/* See mem_index.h.  What is parsed is foreign: nothing of it is believed that is not checked here, so that readers need not. */
#include "machine/mem_index.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/crc32c.h"
#include "machine/mem.h"

#define MAGIC "LODGEMEM"
#define END "LODGEEND"
#define VERSION 1u
#define HEAD_LEN 64u
#define BLOCK_LEN 24u
#define TRAILER_LEN 12u
#define PLACE_MAX 4096u
enum { PACKED = 1, DIFF = 2 };

static int damaged(struct err *e, const char *how)
{
	return err_set(e, -EINVAL, "the index of the saved memory is damaged: %s", how);
}

void mem_index_free(struct mem_index *ix)
{
	free(ix->below);
	free(ix->block);
	*ix = (struct mem_index){ 0 };
}

int mem_index_add(struct mem_index *ix, const struct mem_block *b)
{
	/* The room doubles when the number is a power of two. */
	if (!(ix->n & (ix->n - 1)) && (ix->n >= 64 || !ix->n)) {
		uint32_t room = ix->n ? ix->n * 2 : 64;
		struct mem_block *more = realloc(ix->block, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		ix->block = more;
	}
	ix->block[ix->n++] = *b;
	return 0;
}

/* ---- reading ---- */

/* Pages of block nr that there are. */
static uint16_t pages_in(uint64_t size, uint64_t nr)
{
	uint64_t left = (size - nr * MEM_BLOCK) >> PAGE_SHIFT_4K;

	return left >= MEM_BLOCK_PAGES ? 0xffff : (uint16_t)((1u << left) - 1);
}

static bool block_fits(const struct mem_index *ix, const struct mem_block *b, uint64_t end)
{
	if ((uint64_t)b->nr * MEM_BLOCK >= ix->size || !b->pages || b->pages & ~pages_in(ix->size, b->nr))
		return false;
	if (ix->n && b->nr <= ix->block[ix->n - 1].nr)
		return false;
	/* Frames come one after the other: none is read twice, and the file's length is known. */
	return ix->packed ? b->at == end && b->len && b->len <= MEM_FRAME_MAX : !b->at && !b->len;
}

static int parse_blocks(struct mem_index *ix, const uint8_t *p, uint32_t n, struct err *e)
{
	uint64_t end = 0;

	ix->block = malloc(((size_t)n + 1) * sizeof(*ix->block));
	if (!ix->block)
		return err_set(e, -ENOMEM, "out of memory");
	for (; ix->n < n; p += BLOCK_LEN) {
		const struct mem_block b = { .nr = ld_le32(p), .pages = ld_le16(p + 4), .at = ld_le64(p + 8), .len = ld_le32(p + 16), .crc = ld_le32(p + 20) };

		if (ld_le16(p + 6) || !block_fits(ix, &b, end))
			return damaged(e, "a block is none of this memory");
		ix->block[ix->n++] = b;
		end += b.len;
	}
	return 0;
}

static bool all_zero(const uint8_t id[MEM_ID_LEN])
{
	static const uint8_t none[MEM_ID_LEN];

	return !memcmp(id, none, MEM_ID_LEN);
}

static int parse_head(struct mem_index *ix, const uint8_t *p, uint64_t size, uint32_t place, struct err *e)
{
	uint32_t flags = ld_le32(p + 12);

	if (flags & ~(uint32_t)(PACKED | DIFF))
		return damaged(e, "it has unknown flags");
	ix->packed = flags & PACKED;
	ix->diff = flags & DIFF;
	ix->size = ld_le64(p + 16);
	memcpy(ix->id, p + 24, MEM_ID_LEN);
	memcpy(ix->below_id, p + 40, MEM_ID_LEN);
	if (ix->size != size)
		return err_set(e, -EINVAL, "the saved memory has %llu bytes, not %llu", (unsigned long long)ix->size, (unsigned long long)size);
	if (ix->diff != !all_zero(ix->below_id) || ix->diff != (place != 0) || all_zero(ix->id))
		return damaged(e, "it does not say what it is of");
	if (!ix->diff)
		return 0;
	ix->below = strndup((const char *)p + HEAD_LEN, place);
	if (!ix->below)
		return err_set(e, -ENOMEM, "out of memory");
	return strlen(ix->below) == place && *ix->below == '/' ? 0 : damaged(e, "the place of what it is a difference of is no path");
}

int mem_index_parse(const void *data, size_t len, uint64_t size, struct mem_index *out, struct err *e)
{
	const uint8_t *p = data;
	uint32_t place, n;
	int ret;

	*out = (struct mem_index){ 0 };
	if (len < HEAD_LEN + TRAILER_LEN || memcmp(p, MAGIC, 8) != 0)
		return err_set(e, -EINVAL, "the file 'index' is none that Lodge wrote");
	if (ld_le32(p + 8) != VERSION)
		return err_set(e, -EINVAL, "the index of the saved memory has version %u, and this program reads version %u", ld_le32(p + 8), VERSION);
	if (memcmp(p + len - 8, END, 8) != 0)
		return damaged(e, "its end is missing");
	if (crc32c(0, p, len - TRAILER_LEN) != ld_le32(p + len - TRAILER_LEN))
		return damaged(e, "its checksum is wrong");
	place = ld_le32(p + 56);
	n = ld_le32(p + 60);
	if (place > PLACE_MAX || len != HEAD_LEN + (uint64_t)place + (uint64_t)n * BLOCK_LEN + TRAILER_LEN)
		return damaged(e, "it has another length than it says");
	ret = parse_head(out, p, size, place, e);
	ret = ret ? ret : parse_blocks(out, p + HEAD_LEN + place, n, e);
	if (ret)
		mem_index_free(out);
	return ret;
}

/* ---- writing ---- */

static void put_head(const struct mem_index *ix, uint8_t *p, uint32_t place)
{
	memcpy(p, MAGIC, 8);
	st_le32(p + 8, VERSION);
	st_le32(p + 12, (ix->packed ? PACKED : 0u) | (ix->diff ? DIFF : 0u));
	st_le64(p + 16, ix->size);
	memcpy(p + 24, ix->id, MEM_ID_LEN);
	memcpy(p + 40, ix->below_id, MEM_ID_LEN);
	st_le32(p + 56, place);
	st_le32(p + 60, ix->n);
	memcpy(p + HEAD_LEN, ix->below ? ix->below : "", place);
}

int mem_index_bytes(const struct mem_index *ix, uint8_t **out, size_t *len)
{
	size_t place = ix->below ? strlen(ix->below) : 0;
	size_t size = HEAD_LEN + place + (size_t)ix->n * BLOCK_LEN + TRAILER_LEN;
	uint8_t *all, *p;

	if (place > PLACE_MAX || size > MEM_INDEX_MAX)
		return -EOVERFLOW;
	all = calloc(1, size);
	if (!all)
		return -ENOMEM;
	put_head(ix, all, (uint32_t)place);
	p = all + HEAD_LEN + place;
	for (uint32_t i = 0; i < ix->n; i++, p += BLOCK_LEN) {
		const struct mem_block *b = &ix->block[i];

		st_le32(p, b->nr);
		st_le16(p + 4, b->pages);
		st_le64(p + 8, b->at);
		st_le32(p + 16, b->len);
		st_le32(p + 20, b->crc);
	}
	st_le32(p, crc32c(0, all, (size_t)(p - all)));
	memcpy(p + 4, END, 8);
	*out = all;
	*len = size;
	return 0;
}
