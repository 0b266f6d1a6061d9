// SPDX-License-Identifier: GPL-2.0-or-later
/* See migrate_ram.h. */
#include "vm/migrate_ram.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/zero.h"
#include "machine/mem_copy.h"

#define BATCH_BYTES (MIG_BATCH * PAGE_4K)
#define PAGES_HEAD 8u
#define RUN_LEN 16u

/* ---- out ---- */

struct mig_tx {
	struct mem *mem;
	struct mig_chan *c;
	ZSTD_CCtx *z;			/* NULL: not compressed */
	int level;
	size_t z_size;
	uint8_t *z_buf;
	unsigned n;			/* collected */
	uint64_t page[MIG_BATCH];
	unsigned n_runs;
	uint64_t run[MIG_RUNS_MAX][2];
	struct mig_tx_stats stats;
	uint8_t data[BATCH_BYTES];	/* copies: their checksum is to be that of what is sent */
};

int mig_tx_new(struct mem *m, struct mig_chan *c, int level, struct mig_tx **out)
{
	struct mig_tx *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->mem = m;
	t->c = c;
	t->level = level;
	if (level) {
		t->z = ZSTD_createCCtx();
		t->z_size = ZSTD_compressBound(BATCH_BYTES);
		t->z_buf = malloc(t->z_size);
		if (!t->z || !t->z_buf) {
			mig_tx_free(t);
			return -ENOMEM;
		}
	}
	*out = t;
	return 0;
}

void mig_tx_free(struct mig_tx *t)
{
	if (!t)
		return;
	ZSTD_freeCCtx(t->z);
	free(t->z_buf);
	free(t);
}

static int send_zeros(struct mig_tx *t, struct err *e)
{
	unsigned n = t->n_runs;

	t->n_runs = 0;
	return n ? mig_send_bytes(t->c, MIG_ZEROS, t->run, n * sizeof(t->run[0]), e) : 0;
}

static int send_pages(struct mig_tx *t, struct err *e)
{
	struct iovec iov[3];
	uint8_t head[PAGES_HEAD];
	size_t len = t->n * PAGE_4K, packed = 0;

	if (!t->n)
		return 0;
	if (t->z) {
		packed = ZSTD_compressCCtx(t->z, t->z_buf, t->z_size, t->data, len, t->level);
		packed = ZSTD_isError(packed) || packed >= len ? 0 : packed;
		t->stats.compressed_in += len;
		t->stats.compressed_out += packed ? packed : len;
	}
	st_le32(head, t->n);
	st_le32(head + 4, packed ? MIG_ZSTD : 0);
	iov[0] = (struct iovec){ head, sizeof(head) };
	iov[1] = (struct iovec){ t->page, t->n * 8 };
	iov[2] = packed ? (struct iovec){ t->z_buf, packed } : (struct iovec){ t->data, len };
	t->n = 0;
	return mig_send(t->c, MIG_PAGES, iov, 3, e);
}

int mig_tx_flush(struct mig_tx *t, struct err *e)
{
	int ret = send_zeros(t, e);

	return ret ? ret : send_pages(t, e);
}

static int add_zero(struct mig_tx *t, uint64_t page, struct err *e)
{
	uint64_t *last = t->n_runs ? t->run[t->n_runs - 1] : NULL;

	t->stats.zero++;
	if (last && last[0] + last[1] == page) {
		last[1]++;
		return 0;
	}
	t->run[t->n_runs][0] = page;
	t->run[t->n_runs++][1] = 1;
	return t->n_runs == MIG_RUNS_MAX ? send_zeros(t, e) : 0;
}

int mig_tx_page(struct mig_tx *t, uint64_t page, bool zero, struct err *e)
{
	uint8_t *to = t->data + t->n * PAGE_4K;

	if (!zero) {
		memcpy(to, mem_ram_host(t->mem) + page * PAGE_4K, PAGE_4K);
		zero = mem_is_zero(to, PAGE_4K);
	}
	if (zero)
		return add_zero(t, page, e);
	t->stats.normal++;
	t->page[t->n++] = page;
	return t->n == MIG_BATCH ? send_pages(t, e) : 0;
}

void mig_tx_stats(const struct mig_tx *t, struct mig_tx_stats *out) { *out = t->stats; }

/* ---- in ---- */

/* What all threads that receive share. */
struct books {
	_Atomic unsigned refs;
	_Atomic uint64_t missing;
	_Atomic uint64_t got[];		/* a bit for each page */
};

struct mig_rx {
	struct mem *mem;
	uint64_t pages;
	struct books *b;
	ZSTD_DCtx *z;
	int (*put)(void *opaque, uint64_t page, const uint8_t *data, struct err *e);	/* NULL: to memory */
	void *opaque;
	uint8_t data[BATCH_BYTES];
};

static int new_rx(struct mem *m, struct books *b, struct mig_rx **out)
{
	struct mig_rx *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->mem = m;
	r->pages = mem_ram_size(m) >> PAGE_SHIFT_4K;
	r->b = b;
	atomic_fetch_add(&b->refs, 1);
	r->z = ZSTD_createDCtx();
	if (!r->z) {
		mig_rx_free(r);
		return -ENOMEM;
	}
	*out = r;
	return 0;
}

static void drop_books(struct books *b)
{
	if (atomic_fetch_sub(&b->refs, 1) == 1)
		free(b);
}

int mig_rx_new(struct mem *m, struct mig_rx **out)
{
	uint64_t pages = mem_ram_size(m) >> PAGE_SHIFT_4K;
	struct books *b = calloc(1, sizeof(*b) + (pages + 63) / 64 * 8);
	int ret;

	if (!b)
		return -ENOMEM;
	b->refs = 1;
	b->missing = pages;
	ret = new_rx(m, b, out);
	drop_books(b);
	return ret;
}

int mig_rx_another(struct mig_rx *r, struct mig_rx **out) { return new_rx(r->mem, r->b, out); }

void mig_rx_free(struct mig_rx *r)
{
	if (!r)
		return;
	ZSTD_freeDCtx(r->z);
	drop_books(r->b);
	free(r);
}

uint64_t mig_rx_missing(const struct mig_rx *r) { return atomic_load(&r->b->missing); }

uint64_t mig_rx_missing_but(const struct mig_rx *r, const uint64_t *map)
{
	uint64_t n = 0;

	for (uint64_t page = 0; page < r->pages; page++)
		n += !((r->b->got[page / 64] | map[page / 64]) & BIT64(page % 64));
	return n;
}

void mig_rx_put_by(struct mig_rx *r, int (*put)(void *opaque, uint64_t page, const uint8_t *data, struct err *e), void *opaque)
{
	r->put = put;
	r->opaque = opaque;
}

static void mark(struct mig_rx *r, uint64_t page)
{
	_Atomic uint64_t *w = &r->b->got[page / 64];
	uint64_t bit = BIT64(page % 64);

	if (!(atomic_load_explicit(w, memory_order_relaxed) & bit) && !(atomic_fetch_or(w, bit) & bit))
		atomic_fetch_sub(&r->b->missing, 1);
}

int mig_rx_pages(struct mig_rx *r, const uint8_t *p, size_t len, struct err *e)
{
	uint32_t n = len >= PAGES_HEAD ? ld_le32(p) : 0, flags = len >= PAGES_HEAD ? ld_le32(p + 4) : 0;
	const uint8_t *numbers = p + PAGES_HEAD, *data = numbers + n * 8;
	size_t want, have;
	int ret = 0;

	if (!n || n > MIG_BATCH || flags & ~MIG_ZSTD || len - PAGES_HEAD < n * 8)
		return err_set(e, -EPROTO, "the stream has a record of pages that makes no sense");
	want = n * PAGE_4K;
	have = len - PAGES_HEAD - n * 8;
	if (flags & MIG_ZSTD) {
		have = ZSTD_decompressDCtx(r->z, r->data, want, data, have);
		data = r->data;
	}
	if (ZSTD_isError(have) || have != want)
		return err_set(e, -EPROTO, "the stream has a record of pages without all their bytes");
	for (uint32_t i = 0; i < n; i++)
		if (ld_le64(numbers + i * 8) >= r->pages)
			return err_set(e, -EPROTO, "the stream has page %llu of a memory of %llu", (unsigned long long)ld_le64(numbers + i * 8),
				       (unsigned long long)r->pages);
	for (uint32_t i = 0; i < n && !ret; i++) {
		uint64_t page = ld_le64(numbers + i * 8);

		if (r->put) {
			ret = r->put(r->opaque, page, data + i * PAGE_4K, e);
			continue;
		}
		memcpy(mem_ram_host(r->mem) + page * PAGE_4K, data + i * PAGE_4K, PAGE_4K);
		mark(r, page);
	}
	return ret;
}

int mig_rx_zeros(struct mig_rx *r, const uint8_t *p, size_t len, struct err *e)
{
	uint64_t all = 0;
	int ret = 0;

	if (!len || len % RUN_LEN || len / RUN_LEN > MIG_RUNS_MAX)
		return err_set(e, -EPROTO, "the stream has a record of zeros that makes no sense");
	for (size_t i = 0; i < len && !ret; i += RUN_LEN) {
		uint64_t first = ld_le64(p + i), n = ld_le64(p + i + 8);

		/* No page twice in one record, so the work is bounded by the memory. */
		if (!n || !range_inside(first, n, r->pages) || (all += n) > r->pages)
			return err_set(e, -EPROTO, "the stream has zeros outside of the memory");
		for (uint64_t k = 0; r->put && k < n && !ret; k++)
			ret = r->put(r->opaque, first + k, NULL, e);
		if (r->put)
			continue;
		mem_ram_zero(r->mem, first * PAGE_4K, n * PAGE_4K);
		for (uint64_t k = 0; k < n; k++)
			mark(r, first + k);
	}
	return ret;
}
