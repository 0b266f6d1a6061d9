/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of bits in pages: see bits.h. */
#include "block/qcow2/bits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define PAGE_BITS ((uint64_t)BITS_PAGE * 8)
#define ALL_ONES ((uint8_t *)1)		/* in place of a page */

int bits_init(struct bits *b, uint64_t n, unsigned *used)
{
	if (!n || n > BITS_MAX)
		return -EFBIG;
	*b = (struct bits){ .n = n, .n_pages = (size_t)((n + PAGE_BITS - 1) / PAGE_BITS), .used = used };
	b->page = calloc(b->n_pages, sizeof(*b->page));
	return b->page ? 0 : -ENOMEM;
}

static bool in_memory(const uint8_t *p)
{
	return p && p != ALL_ONES;
}

static void page_put(struct bits *b, size_t i, uint8_t *p)
{
	if (in_memory(b->page[i])) {
		free(b->page[i]);
		--*b->used;
	}
	b->page[i] = p;
}

void bits_fini(struct bits *b)
{
	for (size_t i = 0; b->page && i < b->n_pages; i++)
		page_put(b, i, NULL);
	free(b->page);
	b->page = NULL;
	b->n_pages = 0;
}

int bits_resize(struct bits *b, uint64_t n)
{
	size_t pages = (size_t)((n + PAGE_BITS - 1) / PAGE_BITS);
	uint8_t **more;

	if (!n || n > BITS_MAX)
		return -EFBIG;
	if (n < b->n)
		bits_clear(b, n, b->n - n);
	for (size_t i = pages; i < b->n_pages; i++)
		page_put(b, i, NULL);
	more = realloc(b->page, pages * sizeof(*more));
	if (!more)
		return -ENOMEM;
	if (pages > b->n_pages)
		memset(more + b->n_pages, 0, (pages - b->n_pages) * sizeof(*more));
	b->page = more;
	/* The last page may say 1 of what was behind the end. */
	if (n > b->n) {
		uint64_t old = b->n, end = MIN(n, b->n_pages * PAGE_BITS);

		b->n = n;
		b->n_pages = pages;
		if (end > old)
			bits_clear(b, old, end - old);
	}
	b->n = n;
	b->n_pages = pages;
	return 0;
}

/* The page in memory, to be changed. NULL: no memory */
static uint8_t *page_for_write(struct bits *b, size_t i)
{
	uint8_t *p;

	if (in_memory(b->page[i]))
		return b->page[i];
	if (*b->used >= BITS_MAX_PAGES)
		return NULL;
	p = malloc(BITS_PAGE);
	if (!p)
		return NULL;
	memset(p, b->page[i] ? 0xff : 0, BITS_PAGE);
	b->page[i] = p;
	++*b->used;
	return p;
}

/* Bits [from, to) of a page. */
static void page_fill(uint8_t *p, unsigned from, unsigned to, bool value)
{
	for (; from < to && from % 8; from++)
		p[from / 8] = (uint8_t)(value ? p[from / 8] | 1u << from % 8 : p[from / 8] & ~(1u << from % 8));
	if (to - from >= 8) {
		memset(p + from / 8, value ? 0xff : 0, (to - from) / 8);
		from += (to - from) / 8 * 8;
	}
	for (; from < to; from++)
		p[from / 8] = (uint8_t)(value ? p[from / 8] | 1u << from % 8 : p[from / 8] & ~(1u << from % 8));
}

static void bits_fill(struct bits *b, uint64_t from, uint64_t n, bool value)
{
	uint64_t end = MIN(from + n, b->n);

	while (from < end) {
		size_t i = (size_t)(from / PAGE_BITS);
		unsigned at = (unsigned)(from % PAGE_BITS), to = (unsigned)MIN(end - (from - at), PAGE_BITS);
		uint8_t *p;

		if (at == 0 && to == PAGE_BITS) {
			page_put(b, i, value ? ALL_ONES : NULL);
		} else if (b->page[i] != (value ? ALL_ONES : NULL)) {
			p = page_for_write(b, i);
			if (p)
				page_fill(p, at, to, value);
			else if (value)
				page_put(b, i, ALL_ONES);
		}
		from += to - at;
	}
}

void bits_set(struct bits *b, uint64_t from, uint64_t n)
{
	bits_fill(b, from, n, true);
}

void bits_clear(struct bits *b, uint64_t from, uint64_t n)
{
	bits_fill(b, from, n, false);
}

/* In one page, from bit `at` on; PAGE_BITS: none. */
static unsigned page_next(const uint8_t *p, unsigned at, bool value)
{
	while (at < PAGE_BITS) {
		uint8_t skip = value ? 0 : 0xff;

		if (at % 8 == 0 && p[at / 8] == skip) {
			at += 8;
			continue;
		}
		if ((p[at / 8] >> at % 8 & 1) == value)
			return at;
		at++;
	}
	return at;
}

uint64_t bits_next(const struct bits *b, uint64_t from, bool value)
{
	while (from < b->n) {
		const uint8_t *p = b->page[from / PAGE_BITS];
		uint64_t first = from - from % PAGE_BITS;
		unsigned at;

		if (!in_memory(p)) {
			if (value == (p != NULL))
				return from;
			from = first + PAGE_BITS;
			continue;
		}
		at = page_next(p, (unsigned)(from % PAGE_BITS), value);
		from = first + at;
		if (at < PAGE_BITS)
			break;
	}
	return MIN(from, b->n);
}

uint64_t bits_count(const struct bits *b)
{
	uint64_t count = 0, at = 0, end;

	while ((at = bits_next(b, at, true)) < b->n) {
		end = bits_next(b, at, false);
		count += end - at;
		at = end;
	}
	return count;
}

void bits_merge(struct bits *b, const struct bits *from)
{
	uint64_t at = 0, end;

	while ((at = bits_next(from, at, true)) < from->n) {
		end = bits_next(from, at, false);
		bits_set(b, at, end - at);
		at = end;
	}
}

static bool all_are(const uint8_t *p, size_t len, uint8_t v)
{
	return len == 0 || (*p == v && !memcmp(p, p + 1, len - 1));
}

enum bits_kind bits_bytes(const struct bits *b, uint64_t off, uint8_t *buf, size_t len)
{
	for (size_t done = 0, part; done < len; done += part) {
		size_t i = (size_t)((off + done) / BITS_PAGE), at = (size_t)((off + done) % BITS_PAGE);
		const uint8_t *p = i < b->n_pages ? b->page[i] : NULL;

		part = MIN(len - done, BITS_PAGE - at);
		if (in_memory(p))
			memcpy(buf + done, p + at, part);
		else
			memset(buf + done, p ? 0xff : 0, part);
	}
	return all_are(buf, len, 0) ? BITS_ZERO : all_are(buf, len, 0xff) ? BITS_ONES : BITS_MIXED;
}

void bits_load(struct bits *b, uint64_t off, const uint8_t *buf, size_t len)
{
	for (size_t done = 0, part; done < len; done += part) {
		size_t i = (size_t)((off + done) / BITS_PAGE), at = (size_t)((off + done) % BITS_PAGE);
		uint64_t first = (off + done) * 8;
		uint8_t *p;

		part = MIN(len - done, BITS_PAGE - at);
		if (i >= b->n_pages || first >= b->n)
			return;
		if (all_are(buf + done, part, 0) || all_are(buf + done, part, 0xff)) {
			bits_fill(b, first, MIN(part * 8, b->n - first), buf[done]);
			continue;
		}
		p = page_for_write(b, i);
		if (!p) {
			page_put(b, i, ALL_ONES);
			continue;
		}
		memcpy(p + at, buf + done, part);
	}
}
