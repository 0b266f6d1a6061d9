// SPDX-License-Identifier: GPL-2.0-or-later
/* See mem_image.h. */
#include "machine/mem_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/bits.h"
#include "base/crc32c.h"
#include "base/parallel.h"
#include "machine/mem.h"

#define MANY 32u	/* blocks that are one piece of work */
#define RUNS_MAX (MEM_IMAGE_LEVELS * MEM_DIFF_RUNS)
#define PLAIN_CHUNK (4ull << 20)

struct level {
	int fd;
	bool plain;		/* no index */
	struct mem_index ix;
	uint32_t runs;
};

struct mem_image {
	uint64_t size;
	unsigned n;
	struct level level[MEM_IMAGE_LEVELS];
};

int mem_image_new(uint64_t size, struct mem_image **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	(*out)->size = size;
	return 0;
}

void mem_image_free(struct mem_image *img)
{
	if (!img)
		return;
	for (unsigned i = 0; i < img->n; i++) {
		close(img->level[i].fd);
		mem_index_free(&img->level[i].ix);
	}
	free(img);
}

uint64_t mem_image_size(const struct mem_image *img) { return img->size; }
unsigned mem_image_levels(const struct mem_image *img) { return img->n; }

const uint8_t *mem_image_id(const struct mem_image *img)
{
	const struct level *top = &img->level[img->n - 1];

	return top->plain ? NULL : top->ix.id;
}

/* ---- runs of pages ---- */

/* The next run of pages that the file has, across blocks. */
struct runs {
	const struct mem_index *ix;
	uint32_t i;
	unsigned page;			/* in block i */
	uint64_t first, n;
};

static bool next_run(struct runs *r)
{
	r->n = 0;
	while (r->i < r->ix->n) {
		const struct mem_block *b = &r->ix->block[r->i];
		uint64_t here = (uint64_t)b->nr * MEM_BLOCK_PAGES + r->page;

		if (r->page == MEM_BLOCK_PAGES) {
			r->page = 0;
			r->i++;
			continue;
		}
		if (r->n && here != r->first + r->n)
			return true;
		if (b->pages >> r->page & 1) {
			r->first = r->n ? r->first : here;
			r->n++;
		} else if (r->n) {
			return true;
		}
		r->page++;
	}
	return r->n;
}

static uint32_t count_runs(const struct mem_index *ix)
{
	struct runs r = { .ix = ix };
	uint32_t n = 0;

	while (next_run(&r))
		n++;
	return n;
}

/* ---- putting it together ---- */

static int check_file(const struct mem_image *img, const struct level *l, struct err *e)
{
	uint64_t want = img->size;
	struct stat st;

	if (fstat(l->fd, &st))
		return err_set(e, -errno, "the saved memory: %s", strerror(errno));
	if (l->ix.packed)
		want = l->ix.n ? l->ix.block[l->ix.n - 1].at + l->ix.block[l->ix.n - 1].len : 0;
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size == want)
		return 0;
	return err_set(e, -EINVAL, "the saved memory is damaged: it has %lld bytes, not %llu", (long long)st.st_size, (unsigned long long)want);
}

int mem_image_push(struct mem_image *img, int fd, struct mem_index *ix, struct err *e)
{
	struct level l = { .fd = fd, .plain = !ix };
	const uint8_t *below = img->n ? mem_image_id(img) : NULL;
	int ret;

	if (ix)
		l.ix = *ix;
	if (img->n == MEM_IMAGE_LEVELS)
		ret = err_set(e, -EINVAL, "the saved memory is a difference of a difference more than %u times", MEM_IMAGE_LEVELS - 1);
	else if (l.ix.diff ? !below || memcmp(below, l.ix.below_id, MEM_ID_LEN) != 0 : img->n)
		ret = err_set(e, -EINVAL, "the saved memory is a difference of another one than this");
	else
		ret = check_file(img, &l, e);
	if (ret) {
		close(fd);
		mem_index_free(&l.ix);
		return ret;
	}
	l.runs = l.plain ? 1 : count_runs(&l.ix);
	img->level[img->n++] = l;
	return 0;
}

/* ---- mapping ---- */

bool mem_image_mappable(const struct mem_image *img)
{
	uint64_t runs = 0;

	for (unsigned i = 0; i < img->n; i++) {
		if (img->level[i].ix.packed)
			return false;
		runs += i ? img->level[i].runs : 0;
	}
	return runs <= RUNS_MAX;
}

static int map_piece(uint8_t *host, uint64_t len, int fd, uint64_t off)
{
	void *p = mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd, (off_t)off);

	return p == MAP_FAILED ? -errno : 0;
}

int mem_image_map(const struct mem_image *img, uint8_t *host)
{
	int ret = map_piece(host, img->size, img->level[0].fd, 0);

	for (unsigned i = 1; i < img->n; i++) {
		struct runs r = { .ix = &img->level[i].ix };

		while (!ret && next_run(&r))
			ret = map_piece(host + (r.first << PAGE_SHIFT_4K), r.n << PAGE_SHIFT_4K, img->level[i].fd, r.first << PAGE_SHIFT_4K);
	}
	return ret;
}

void mem_image_pages(const struct mem_image *img, uint64_t *bitmap)
{
	for (unsigned i = 0; i < img->n; i++) {
		const struct level *l = &img->level[i];
		off_t at = 0, end;

		for (uint32_t k = 0; k < l->ix.n; k++)
			bitmap[l->ix.block[k].nr / 4] |= (uint64_t)l->ix.block[k].pages << l->ix.block[k].nr % 4 * 16;
		while (l->plain && (uint64_t)at < img->size) {
			at = lseek(l->fd, at, SEEK_DATA);
			if (at < 0 && errno == ENXIO)
				break;
			/* A file system that does not tell has data everywhere. */
			end = at < 0 ? (off_t)img->size : lseek(l->fd, at, SEEK_HOLE);
			end = end < 0 ? (off_t)img->size : end;
			for (uint64_t p = (uint64_t)(at < 0 ? 0 : at) >> PAGE_SHIFT_4K; p < MIN(align_up((uint64_t)end, PAGE_4K), img->size) >> PAGE_SHIFT_4K; p++)
				bitmap[p / 64] |= BIT64(p % 64);
			at = end;
		}
	}
}

/* ---- reading ---- */

static int read_whole(int fd, void *buf, uint64_t len, uint64_t at)
{
	uint8_t *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		p += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* What one thread needs for itself. */
struct tools {
	ZSTD_DCtx *z;
	uint8_t frame[MEM_FRAME_MAX], pages[MEM_BLOCK];
};

struct reading {
	const struct mem_image *img;
	const struct level *l;
	uint8_t *host;			/* NULL: only checked */
	struct tools *tools[PARALLEL_MAX];
	uint32_t bad[PARALLEL_MAX];	/* the block at which each stopped */
};

/* The block's pages, one after the other, into t->pages. */
static int read_raw(const struct level *l, const struct mem_block *b, struct tools *t)
{
	uint64_t at = (uint64_t)b->nr * MEM_BLOCK;
	uint8_t *to = t->pages;
	int ret = 0;

	for (unsigned i = 0; i < MEM_BLOCK_PAGES && !ret;) {
		unsigned first = i;

		while (i < MEM_BLOCK_PAGES && b->pages >> i & 1)
			i++;
		ret = read_whole(l->fd, to, (i - first) * PAGE_4K, at + first * PAGE_4K);
		to += (i - first) * PAGE_4K;
		while (i < MEM_BLOCK_PAGES && !(b->pages >> i & 1))
			i++;
	}
	return ret;
}

static int read_packed(const struct level *l, const struct mem_block *b, struct tools *t)
{
	size_t want = (size_t)__builtin_popcount(b->pages) * PAGE_4K, got;
	int ret = read_whole(l->fd, t->frame, b->len, b->at);

	if (ret)
		return ret;
	if (!t->z && !(t->z = ZSTD_createDCtx()))
		return -ENOMEM;
	got = ZSTD_decompressDCtx(t->z, t->pages, want, t->frame, b->len);
	return ZSTD_isError(got) || got != want ? -EINVAL : 0;
}

static int read_block(const struct reading *r, const struct mem_block *b, struct tools *t)
{
	int ret = r->l->ix.packed ? read_packed(r->l, b, t) : read_raw(r->l, b, t);
	const uint8_t *from = t->pages;

	if (ret)
		return ret;
	if (crc32c(0, t->pages, (size_t)__builtin_popcount(b->pages) * PAGE_4K) != b->crc)
		return -EINVAL;
	for (unsigned i = 0; r->host && i < MEM_BLOCK_PAGES; i++) {
		if (!(b->pages >> i & 1))
			continue;
		memcpy(r->host + (uint64_t)b->nr * MEM_BLOCK + i * PAGE_4K, from, PAGE_4K);
		from += PAGE_4K;
	}
	return 0;
}

static int read_some(void *opaque, unsigned worker, size_t i)
{
	struct reading *r = opaque;
	uint32_t first = (uint32_t)i * MANY, end = MIN(first + MANY, r->l->ix.n);
	int ret = 0;

	if (!r->tools[worker] && !(r->tools[worker] = calloc(1, sizeof(**r->tools))))
		return -ENOMEM;
	for (; first < end && !ret; first++)
		ret = read_block(r, &r->l->ix.block[first], r->tools[worker]);
	if (ret)
		r->bad[worker] = first;		/* behind it; 0: none */
	return ret;
}

/* Of a file without an index: what its file system has data for. */
static int read_plain(const struct level *l, uint8_t *host, uint64_t size, struct err *e)
{
	off_t at = 0, end;
	int ret = 0;

	while (host && !ret && (at = lseek(l->fd, at, SEEK_DATA)) >= 0 && (uint64_t)at < size) {
		end = lseek(l->fd, at, SEEK_HOLE);
		ret = end < 0 ? -errno : 0;
		for (; !ret && at < end; at += (off_t)MIN((uint64_t)(end - at), PLAIN_CHUNK))
			ret = read_whole(l->fd, host + at, MIN((uint64_t)(end - at), PLAIN_CHUNK), (uint64_t)at);
	}
	if (!ret && at < 0 && errno != ENXIO)
		ret = -errno;
	return ret ? err_set(e, ret, "the saved memory cannot be read: %s", strerror(-ret)) : 0;
}

static int say(const struct reading *r, int ret, struct err *e)
{
	uint32_t bad = UINT32_MAX;

	for (unsigned i = 0; i < PARALLEL_MAX; i++)
		if (r->bad[i])
			bad = MIN(bad, r->bad[i] - 1);
	if (ret == -EINVAL && bad < r->l->ix.n)
		return err_set(e, ret, "the saved memory is damaged at address 0x%llx of RAM: its checksum is wrong",
			       (unsigned long long)r->l->ix.block[bad].nr * MEM_BLOCK);
	return err_set(e, ret, "the saved memory cannot be read: %s", strerror(-ret));
}

static int read_level(const struct mem_image *img, const struct level *l, uint8_t *host, struct err *e)
{
	struct reading r = { .img = img, .l = l, .host = host };
	int ret;

	if (l->plain)
		return read_plain(l, host, img->size, e);
	ret = parallel_for((l->ix.n + MANY - 1) / MANY, read_some, &r);
	for (unsigned i = 0; i < PARALLEL_MAX; i++) {
		if (r.tools[i])
			ZSTD_freeDCtx(r.tools[i]->z);
		free(r.tools[i]);
	}
	return ret ? say(&r, ret, e) : 0;
}

int mem_image_read(const struct mem_image *img, uint8_t *host, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < img->n && !ret; i++)
		ret = read_level(img, &img->level[i], host, e);
	return ret;
}

int mem_image_check(const struct mem_image *img, struct err *e)
{
	return mem_image_read(img, NULL, e);
}
