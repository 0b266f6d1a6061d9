// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See mem_save.h.
 *
 * A page that was never touched is not looked at: a memfd tells by its holes, and of a private mapping the kernel's page map says
 * which pages are its own; the others are the image's.  A difference is found by comparing, which costs what reading
 * memory costs and needs nobody to have kept books since: a log of writes would keep user code from running natively for as long as it is kept.
 * Blocks go through a buffer, so that what is checked is what is written, whatever a debugger does to memory meanwhile.
 */
#include "machine/mem_save.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>
#include <zstd.h>

#include "base/bits.h"
#include "base/crc32c.h"
#include "base/parallel.h"
#include "base/zero.h"
#include "machine/mem_copy.h"
#include "machine/mem_image.h"
#include "machine/mem_int.h"

#define PAGEMAP_CHUNK 4096u	/* pages looked at together */
#define PM_SWAPPED (1ull << 62)
#define PM_PRESENT (1ull << 63)
#define PM_FILE (1ull << 61)
#define PACK_LEVEL 3		/* of zstd */
#define BATCH 1024u		/* blocks packed before they are written */

static const uint8_t zeros[PAGE_4K];

struct saving {
	const uint8_t *host, *below;	/* below: NULL, all that is not zero is taken */
	uint64_t pages;
	uint64_t *used, *had, *take;	/* a bit for each page: may not be zero, here and in the image below; is to be written */
	int fd;
	struct mem_index *ix;
	uint64_t written;
	uint8_t block[MEM_BLOCK];
};

static bool bit(const uint64_t *map, uint64_t i) { return map[i / 64] >> i % 64 & 1; }

int mem_own_pages(const struct backing *b, uint64_t *bitmap)
{
	uint64_t entry[PAGEMAP_CHUNK], first = (uintptr_t)b->host >> PAGE_SHIFT_4K, n = b->size >> PAGE_SHIFT_4K;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : 0;

	for (uint64_t i = 0; i < n && !r; i += PAGEMAP_CHUNK) {
		uint64_t some = MIN(n - i, (uint64_t)PAGEMAP_CHUNK);

		errno = 0;
		if (pread(fd, entry, some * 8, (off_t)((first + i) * 8)) != (ssize_t)(some * 8))
			r = errno ? -errno : -EIO;
		for (uint64_t k = 0; k < some && !r; k++)
			if (entry[k] & (PM_PRESENT | PM_SWAPPED) && !(entry[k] & PM_FILE))
				bitmap[(i + k) / 64] |= BIT64((i + k) % 64);
	}
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- which pages ---- */

/* Does the guest run from that very image? */
static bool runs_from(const struct backing *b, const struct mem_image *below)
{
	const uint8_t *id = b->image ? mem_image_id(b->image) : NULL, *other = mem_image_id(below);

	return id && other && !memcmp(id, other, MEM_ID_LEN);
}

static int find_used(struct mem *m, uint64_t *used)
{
	if (!m->ram.private) {
		mem_ram_used(m, used);
		return 0;
	}
	if (m->ram.image)
		mem_image_pages(m->ram.image, used);
	return mem_own_pages(&m->ram, used);
}

static const uint8_t *page_of(const struct saving *s, uint64_t i) { return bit(s->used, i) ? s->host + (i << PAGE_SHIFT_4K) : zeros; }

static bool differs(const struct saving *s, uint64_t i)
{
	const uint8_t *p = page_of(s, i);

	if (bit(s->had, i))
		return memcmp(p, s->below + (i << PAGE_SHIFT_4K), PAGE_4K) != 0;
	return p != zeros && !mem_is_zero(p, PAGE_4K);
}

static uint64_t count_runs(const struct saving *s)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < s->pages; i++)
		n += bit(s->take, i) && (!i || !bit(s->take, i - 1));
	return n;
}

/* Takes up to `gap` pages between two that are taken. */
static void fill_gaps(struct saving *s, uint64_t gap)
{
	uint64_t last = UINT64_MAX;

	for (uint64_t i = 0; i < s->pages; i++) {
		if (!bit(s->take, i))
			continue;
		for (uint64_t k = last + 1; last != UINT64_MAX && i - last - 1 <= gap && k < i; k++)
			s->take[k / 64] |= BIT64(k % 64);
		last = i;
	}
}

static void find_changed(struct saving *s, const uint64_t *look)
{
	for (uint64_t w = 0; w < (s->pages + 63) / 64; w++)
		for (uint64_t left = look[w]; left; left &= left - 1) {
			uint64_t i = w * 64 + (unsigned)__builtin_ctzll(left);

			if (differs(s, i))
				s->take[w] |= left & -left;
		}
	for (uint64_t gap = 1; count_runs(s) > MEM_DIFF_RUNS; gap *= 2)
		fill_gaps(s, gap);
}

/* ---- writing ---- */

static int write_all(int fd, const uint8_t *p, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		p += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* The block's pages, as many as its bits, at their places; those of zeros stay holes. */
static int put_pages(struct saving *s, const struct mem_block *b)
{
	const uint8_t *from = s->block;
	int r = 0;

	for (unsigned i = 0; i < MEM_BLOCK_PAGES && !r;) {
		unsigned first = i;

		while (i < MEM_BLOCK_PAGES && b->pages >> i & 1 && !mem_is_zero(from + (i - first) * PAGE_4K, PAGE_4K))
			i++;
		r = write_all(s->fd, from, (i - first) * PAGE_4K, (uint64_t)b->nr * MEM_BLOCK + first * PAGE_4K);
		s->written += (i - first) * PAGE_4K;
		from += (i - first) * PAGE_4K;
		if (i < MEM_BLOCK_PAGES) {
			from += b->pages >> i & 1 ? PAGE_4K : 0;
			i++;
		}
	}
	return r;
}

static int save_block(struct saving *s, uint32_t nr)
{
	struct mem_block b = { .nr = nr };
	uint16_t want = (uint16_t)(s->take[nr / 4] >> nr % 4 * 16);
	unsigned n = 0;
	int r;

	for (unsigned i = 0; i < MEM_BLOCK_PAGES; i++) {
		uint8_t *to = s->block + n * PAGE_4K;

		if (!(want >> i & 1))
			continue;
		memcpy(to, page_of(s, (uint64_t)nr * MEM_BLOCK_PAGES + i), PAGE_4K);
		/* In a difference a page of zeros may be one that was something else. */
		if (!s->below && mem_is_zero(to, PAGE_4K))
			continue;
		b.pages |= (uint16_t)(1u << i);
		n++;
	}
	if (!n)
		return 0;
	b.crc = crc32c(0, s->block, n * PAGE_4K);
	r = put_pages(s, &b);
	return r ? r : mem_index_add(s->ix, &b);
}

static int save_blocks(struct saving *s)
{
	int r = 0;

	for (uint64_t w = 0; w < (s->pages + 63) / 64; w++)
		for (unsigned k = 0; s->take[w] && k < 4 && !r; k++)
			if (s->take[w] >> k * 16 & 0xffff)
				r = save_block(s, (uint32_t)(w * 4 + k));
	return r;
}

/* The image below as memory. NULL: errno or what e says */
static uint8_t *show(const struct mem_image *below, uint64_t size, struct err *e)
{
	uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int r = p == MAP_FAILED ? -errno : 0;

	if (!r && mem_image_mappable(below))
		r = mem_image_map(below, p);
	else if (!r && mem_image_read(below, p, e)) {
		munmap(p, size);
		return NULL;
	}
	if (!r)
		return p;
	if (p != MAP_FAILED)
		munmap(p, size);
	err_set(e, r, "what it is to be a difference of cannot be mapped: %s", strerror(-r));
	return NULL;
}

static int save_diff(struct saving *s, struct mem *m, const struct mem_image *below, struct err *e)
{
	size_t words = (size_t)(s->pages + 63) / 64;
	uint64_t *look = calloc(words, 8);
	uint8_t *view = look ? show(below, m->ram.size, e) : NULL;
	int r = look ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (!r && !view)
		r = -EINVAL;
	if (!r) {
		s->below = view;
		mem_image_pages(below, s->had);
		if (runs_from(&m->ram, below))
			r = mem_own_pages(&m->ram, look);
		for (size_t w = 0; w < words && !runs_from(&m->ram, below); w++)
			look[w] = s->used[w] | s->had[w];
		if (!r) {
			find_changed(s, look);
			r = save_blocks(s);
		}
		if (r)
			err_set(e, r, "the guest's memory cannot be written: %s", strerror(-r));
	}
	if (view)
		munmap(view, m->ram.size);
	free(look);
	return r;
}

int mem_ram_save(struct mem *m, int fd, const struct mem_image *below, struct mem_index *ix, uint64_t *written, struct err *e)
{
	size_t words = (size_t)((m->ram.size >> PAGE_SHIFT_4K) + 63) / 64;
	struct saving *s = calloc(1, sizeof(*s));
	uint64_t *maps = calloc(3 * words, 8);
	int r = s && maps ? 0 : -ENOMEM;

	*ix = (struct mem_index){ .size = m->ram.size, .diff = below };
	*written = 0;
	if (!r && getrandom(ix->id, MEM_ID_LEN, 0) != MEM_ID_LEN)
		r = -EIO;
	if (below && (mem_image_size(below) != ix->size || !mem_image_id(below)))
		r = -EINVAL;
	if (!r && below)
		memcpy(ix->below_id, mem_image_id(below), MEM_ID_LEN);
	if (!r && ftruncate(fd, (off_t)m->ram.size))
		r = -errno;
	if (!r) {
		s->host = m->ram.host;
		s->pages = m->ram.size >> PAGE_SHIFT_4K;
		s->fd = fd;
		s->ix = ix;
		s->used = maps;
		s->had = maps + words;
		s->take = maps + 2 * words;
		r = find_used(m, s->used);
	}
	if (r) {
		err_set(e, r, "the guest's memory cannot be written: %s", strerror(-r));
	} else if (below) {
		r = save_diff(s, m, below, e);
	} else {
		s->take = s->used;
		r = save_blocks(s);
		if (r)
			err_set(e, r, "the guest's memory cannot be written: %s", strerror(-r));
	}
	if (r)
		mem_index_free(ix);
	else
		*written = s->written;
	free(maps);
	free(s);
	return r;
}

/* ---- packing ---- */

struct packing {
	int raw;
	struct mem_index *ix;
	uint32_t first;			/* block of the batch */
	uint8_t *frames;		/* MEM_FRAME_MAX for each block */
	ZSTD_CCtx *z[PARALLEL_MAX];
};

static int read_pages(int fd, const struct mem_block *b, uint8_t *to)
{
	for (unsigned i = 0; i < MEM_BLOCK_PAGES; i++) {
		if (!(b->pages >> i & 1))
			continue;
		if (pread(fd, to, PAGE_4K, (off_t)((uint64_t)b->nr * MEM_BLOCK + i * PAGE_4K)) != (ssize_t)PAGE_4K)
			return errno ? -errno : -EIO;
		to += PAGE_4K;
	}
	return 0;
}

static int pack_one(void *opaque, unsigned worker, size_t i)
{
	struct packing *p = opaque;
	struct mem_block *b = &p->ix->block[p->first + i];
	size_t len = (size_t)__builtin_popcount(b->pages) * PAGE_4K, got;
	uint8_t pages[MEM_BLOCK];
	int r;

	if (!p->z[worker] && !(p->z[worker] = ZSTD_createCCtx()))
		return -ENOMEM;
	errno = 0;
	r = read_pages(p->raw, b, pages);
	if (!r && crc32c(0, pages, len) != b->crc)
		r = -EINVAL;
	if (r)
		return r;
	got = ZSTD_compressCCtx(p->z[worker], p->frames + i * MEM_FRAME_MAX, MEM_FRAME_MAX, pages, len, PACK_LEVEL);
	b->len = ZSTD_isError(got) ? 0 : (uint32_t)got;
	return b->len ? 0 : -EIO;
}

static int pack_batch(struct packing *p, uint32_t n, int fd, uint64_t *at)
{
	int r = parallel_for(n, pack_one, p);

	for (uint32_t i = 0; i < n && !r; i++) {
		struct mem_block *b = &p->ix->block[p->first + i];

		b->at = *at;
		r = write_all(fd, p->frames + i * MEM_FRAME_MAX, b->len, *at);
		*at += b->len;
	}
	return r;
}

int mem_save_pack(int raw, int fd, struct mem_index *ix, uint64_t *written, struct err *e)
{
	struct packing *p = calloc(1, sizeof(*p));
	int r = p && (p->frames = malloc((size_t)BATCH * MEM_FRAME_MAX)) ? 0 : -ENOMEM;

	*written = 0;
	for (uint32_t i = 0; i < ix->n && !r; i += BATCH) {
		p->raw = raw;
		p->ix = ix;
		p->first = i;
		r = pack_batch(p, MIN(ix->n - i, BATCH), fd, written);
	}
	ix->packed = true;
	for (unsigned i = 0; p && i < PARALLEL_MAX; i++)
		ZSTD_freeCCtx(p->z[i]);
	if (p)
		free(p->frames);
	free(p);
	return r ? err_set(e, r, "the guest's memory cannot be packed: %s", strerror(-r)) : 0;
}
