/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Dirty bitmaps in memory: see dirty.h. */
#include "block/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define WORD 64

struct blk_dirty {
	uint64_t size, bits, set;	/* set: how many bits are */
	unsigned shift;			/* log2 of the granularity */
	uint64_t *map;
};

static uint64_t words(uint64_t bits)
{
	return (bits + WORD - 1) / WORD;
}

static uint64_t bits_for(uint64_t size, unsigned shift)
{
	return (size >> shift) + ((size & (BIT64(shift) - 1)) != 0);
}

struct blk_dirty *blk_dirty_new(uint64_t size, uint32_t granularity)
{
	struct blk_dirty *d;

	if (!granularity)
		granularity = BLK_DIRTY_DEFAULT;
	if (!size || !is_pow2(granularity) || granularity < 512)
		return NULL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return NULL;
	d->shift = (unsigned)__builtin_ctz(granularity);
	d->size = size;
	d->bits = bits_for(size, d->shift);
	d->map = calloc(words(d->bits), sizeof(*d->map));
	if (!d->map) {
		free(d);
		return NULL;
	}
	return d;
}

struct blk_dirty *blk_dirty_copy(const struct blk_dirty *d)
{
	struct blk_dirty *n = blk_dirty_new(d->size, 1u << d->shift);

	if (!n)
		return NULL;
	memcpy(n->map, d->map, words(d->bits) * sizeof(*d->map));
	n->set = d->set;
	return n;
}

void blk_dirty_free(struct blk_dirty *d)
{
	if (d)
		free(d->map);
	free(d);
}

uint64_t blk_dirty_size(const struct blk_dirty *d)
{
	return d->size;
}

uint32_t blk_dirty_granularity(const struct blk_dirty *d)
{
	return 1u << d->shift;
}

/* Bits [from, to) all become `on`, a word at a time. */
static void put_bits(struct blk_dirty *d, uint64_t from, uint64_t to, bool on)
{
	while (from < to) {
		uint64_t *w = &d->map[from / WORD];
		unsigned at = from % WORD, n = (unsigned)MIN(to - from, (uint64_t)WORD - at);
		uint64_t mask = (n == WORD ? UINT64_MAX : BIT64(n) - 1) << at;

		if (on) {
			d->set += (unsigned)__builtin_popcountll(mask & ~*w);
			*w |= mask;
		} else {
			d->set -= (unsigned)__builtin_popcountll(mask & *w);
			*w &= ~mask;
		}
		from += n;
	}
}

void blk_dirty_set(struct blk_dirty *d, uint64_t off, uint64_t len)
{
	if (len)
		put_bits(d, off >> d->shift, MIN(((off + len - 1) >> d->shift) + 1, d->bits), true);
}

void blk_dirty_clear(struct blk_dirty *d, uint64_t off, uint64_t len)
{
	uint64_t end = off + len;

	put_bits(d, bits_for(off, d->shift), end >= d->size ? d->bits : end >> d->shift, false);
}

/* First bit at `from` or behind it that is `on`; d->bits: none. */
static uint64_t find_bit(const struct blk_dirty *d, uint64_t from, bool on)
{
	for (uint64_t w = from / WORD; from < d->bits; w++, from = w * WORD) {
		uint64_t v = (on ? d->map[w] : ~d->map[w]) & (UINT64_MAX << from % WORD);

		if (v)
			return MIN(w * WORD + (unsigned)__builtin_ctzll(v), d->bits);
	}
	return d->bits;
}

bool blk_dirty_test(const struct blk_dirty *d, uint64_t off, uint64_t len)
{
	return len && find_bit(d, off >> d->shift, true) <= (off + len - 1) >> d->shift &&
		find_bit(d, off >> d->shift, true) < d->bits;
}

bool blk_dirty_next(const struct blk_dirty *d, uint64_t from, uint64_t max, uint64_t *off, uint64_t *len)
{
	uint64_t first = from < d->size ? find_bit(d, from >> d->shift, true) : d->bits, end, most = MAX(max >> d->shift, 1u);

	if (first >= d->bits)
		return false;
	end = MIN(find_bit(d, first, false), d->bits - first > most ? first + most : d->bits);
	*off = first << d->shift;
	*len = MIN(end << d->shift, d->size) - *off;
	return true;
}

uint64_t blk_dirty_bytes(const struct blk_dirty *d)
{
	return d->set << d->shift;
}

void blk_dirty_merge(struct blk_dirty *d, const struct blk_dirty *from)
{
	uint64_t off, len;

	for (uint64_t at = 0; at < from->size && blk_dirty_next(from, at, from->size, &off, &len); at = off + len)
		blk_dirty_set(d, off, len);
}

int blk_dirty_resize(struct blk_dirty *d, uint64_t size)
{
	uint64_t bits = bits_for(size, d->shift), *map;

	if (bits < d->bits)
		put_bits(d, bits, d->bits, false);
	map = realloc(d->map, MAX(words(bits), 1u) * sizeof(*map));
	if (!map)
		return -ENOMEM;
	if (words(bits) > words(d->bits))
		memset(map + words(d->bits), 0, (words(bits) - words(d->bits)) * sizeof(*map));
	d->map = map;
	d->bits = bits;
	d->size = size;
	return 0;
}
