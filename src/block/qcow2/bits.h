/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A long row of bits, most of them alike: pages of which those all 0 or all 1 take
 * no memory.  Made for records of what changed, where a bit too many does no harm:
 * when memory is short or the bound is reached, a whole page becomes 1.
 */
#ifndef LODGE_BLOCK_QCOW2_BITS_H
#define LODGE_BLOCK_QCOW2_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BITS_PAGE 4096u			/* bytes */
#define BITS_MAX BIT64(33)
#define BITS_MAX_PAGES 32768u		/* of all rows that share a budget: 128 MiB */

struct bits {
	uint64_t n;
	uint8_t **page;
	size_t n_pages;
	unsigned *used;			/* the budget: pages in memory */
};

enum bits_kind { BITS_ZERO, BITS_ONES, BITS_MIXED };

/* n bits, all 0. n: 1 to BITS_MAX. -ENOMEM, -EFBIG */
int bits_init(struct bits *b, uint64_t n, unsigned *used);
void bits_fini(struct bits *b);
/* Another length; what is added is 0. */
int bits_resize(struct bits *b, uint64_t n);
/* [from, from+n), inside the row. */
void bits_set(struct bits *b, uint64_t from, uint64_t n);
void bits_clear(struct bits *b, uint64_t from, uint64_t n);
/* The first one at or behind `from` that has the value; b->n: none. */
uint64_t bits_next(const struct bits *b, uint64_t from, bool value);
uint64_t bits_count(const struct bits *b);
/* What is 1 in `from`, of the same length, becomes 1. */
void bits_merge(struct bits *b, const struct bits *from);
/* Bit i is in byte i / 8, its bit i % 8.  Bytes [off, off+len), off a multiple of 512, len at most a page's rest or
 * whole pages; behind the end of the row bits are 0 when read (1 in a page that is all 1), and ignored when written. */
enum bits_kind bits_bytes(const struct bits *b, uint64_t off, uint8_t *buf, size_t len);
void bits_load(struct bits *b, uint64_t off, const uint8_t *buf, size_t len);

#endif
