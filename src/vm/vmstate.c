// SPDX-License-Identifier: GPL-2.0-or-later
/* See vmstate.h. */
#include "vm/vmstate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/bits.h"
#include "base/zero.h"
#include "machine/mem_copy.h"
#include "vm/snapshot.h"

#define MAGIC "LODGEVMS"
#define END "LODGEEND"
#define H_CRC 56u			/* of what is before it */
#define HEAD_LEN PAGE_4K
#define TAIL_LEN PAGE_4K
#define CHUNK_IOV (VMSTATE_CHUNK / PAGE_4K + 4)
#define MAX_RAM (1ull << 46)

/* Where what lies. */
struct layout {
	uint64_t ram, state_len, pages;	/* bytes, bytes, pages with data */
	uint64_t bitmap, bitmap_len, data, tail, total;
};

/* The three are bounded, so nothing overflows. */
static struct layout layout_of(uint64_t ram, uint64_t state_len, uint64_t pages)
{
	struct layout l = { .ram = ram, .state_len = state_len, .pages = pages };

	l.bitmap = align_up(HEAD_LEN + state_len, PAGE_4K);
	l.bitmap_len = align_up(ram >> PAGE_SHIFT_4K, 64) / 8;
	l.data = align_up(l.bitmap + l.bitmap_len, PAGE_4K);
	l.tail = l.data + pages * PAGE_4K;
	l.total = l.tail + TAIL_LEN;
	return l;
}

static uint32_t crc_of(const void *p, size_t len) { return (uint32_t)crc32_z(crc32_z(0, NULL, 0), p, len); }

static bool has(const uint8_t *bitmap, uint64_t page) { return bitmap[page / 8] >> (page % 8) & 1; }

/* First page from `page` on that is (not) in the bitmap, or `end`. */
static uint64_t next(const uint8_t *bitmap, uint64_t page, uint64_t end, bool in)
{
	const uint8_t skip = in ? 0 : 0xff;

	while (page < end && has(bitmap, page) != in) {
		if (page % 8 == 0 && bitmap[page / 8] == skip)
			page += 8;
		else
			page++;
	}
	return MIN(page, end);
}

static uint64_t count(const uint8_t *bitmap, uint64_t len)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < len; i += 8)
		n += (uint64_t)__builtin_popcountll(ld_le64(bitmap + i));
	return n;
}

/* ---- out ---- */

struct vmstate_out {
	struct mem *mem;
	struct layout l;
	uint8_t *head;			/* l.data bytes: head, state, bitmap */
	uint8_t tail[TAIL_LEN];
};

/* Of the pages that were ever used, those that are not zero. */
static uint8_t *find_pages(struct mem *m, uint64_t *len)
{
	uint64_t pages = mem_ram_size(m) >> PAGE_SHIFT_4K, words = align_up(pages, 64) / 64;
	uint64_t *used = calloc(words, 8);

	*len = words * 8;
	if (!used)
		return NULL;
	mem_ram_used(m, used);
	for (uint64_t w = 0; w < words; w++) {
		uint64_t bits = used[w], keep = 0;

		for (; bits; bits &= bits - 1) {
			unsigned b = (unsigned)__builtin_ctzll(bits);

			if (!mem_is_zero(mem_ram_host(m) + (w * 64 + b) * PAGE_4K, PAGE_4K))
				keep |= BIT64(b);
		}
		st_le64(&used[w], keep);
	}
	return (uint8_t *)used;
}

static void put_head(struct vmstate_out *o)
{
	uint8_t *h = o->head;

	memcpy(h, MAGIC, 8);
	st_le32(h + 8, VMSTATE_VERSION);
	st_le32(h + 12, PAGE_4K);
	st_le64(h + 16, o->l.ram);
	st_le64(h + 24, o->l.state_len);
	st_le64(h + 32, o->l.pages);
	st_le64(h + 40, o->l.total);
	st_le32(h + 48, crc_of(h + HEAD_LEN, o->l.state_len));
	st_le32(h + 52, crc_of(h + o->l.bitmap, o->l.bitmap_len));
	st_le32(h + H_CRC, crc_of(h, H_CRC));
}

int vmstate_plan(struct mem *m, const void *state, size_t len, struct vmstate_out **out, struct err *e)
{
	struct vmstate_out *o;
	uint64_t bitmap_len;
	uint8_t *bitmap;

	if (!len || len > SNAPSHOT_STATE_MAX)
		return err_set(e, -EFBIG, "the guest's state has %zu bytes, which is more than is read again", len);
	o = calloc(1, sizeof(*o));
	bitmap = find_pages(m, &bitmap_len);
	if (o && bitmap) {
		o->mem = m;
		o->l = layout_of(mem_ram_size(m), len, count(bitmap, bitmap_len));
		o->head = aligned_alloc(PAGE_4K, o->l.data);
	}
	if (!o || !bitmap || !o->head) {
		free(bitmap);
		free(o);
		return err_set(e, -ENOMEM, "out of memory");
	}
	memset(o->head, 0, o->l.data);
	memcpy(o->head + HEAD_LEN, state, len);
	memcpy(o->head + o->l.bitmap, bitmap, bitmap_len);
	free(bitmap);
	put_head(o);
	*out = o;
	return 0;
}

uint64_t vmstate_total(const struct vmstate_out *o) { return o->l.total; }
uint64_t vmstate_pages(const struct vmstate_out *o) { return o->l.pages; }

void vmstate_plan_free(struct vmstate_out *o)
{
	if (!o)
		return;
	free(o->head);
	free(o);
}

/* Pieces of memory that become one request. */
struct chunk {
	const struct vmstate_io *io;
	uint64_t off, len;
	unsigned n;
	struct iovec iov[CHUNK_IOV];
};

static int flush(struct chunk *c)
{
	int ret = c->len ? c->io->write(c->io->opaque, c->off, c->iov, c->n, c->len) : 0;

	c->off += c->len;
	c->len = 0;
	c->n = 0;
	return ret;
}

/* In pages, so that there are never more pieces than places for them. */
static int add(struct chunk *c, uint8_t *p, uint64_t len)
{
	int ret = 0;

	while (len && !ret) {
		uint64_t n = MIN(len, VMSTATE_CHUNK - c->len);
		struct iovec *last = c->n ? &c->iov[c->n - 1] : NULL;

		if (last && (uint8_t *)last->iov_base + last->iov_len == p)
			last->iov_len += n;
		else
			c->iov[c->n++] = (struct iovec){ p, n };
		c->len += n;
		p += n;
		len -= n;
		if (c->len == VMSTATE_CHUNK)
			ret = flush(c);
	}
	return ret;
}

int vmstate_put(struct vmstate_out *o, const struct vmstate_io *io, struct err *e)
{
	const uint8_t *bitmap = o->head + o->l.bitmap;
	uint64_t pages = o->l.ram >> PAGE_SHIFT_4K, page = 0, end;
	uint32_t crc = (uint32_t)crc32_z(0, NULL, 0);
	struct chunk *c = calloc(1, sizeof(*c));
	int ret;

	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->io = io;
	ret = add(c, o->head, o->l.data);
	while (!ret && (page = next(bitmap, page, pages, true)) < pages) {
		uint8_t *p = mem_ram_host(o->mem) + page * PAGE_4K;

		end = next(bitmap, page, pages, false);
		crc = (uint32_t)crc32_z(crc, p, (end - page) * PAGE_4K);
		ret = add(c, p, (end - page) * PAGE_4K);
		page = end;
	}
	st_le32(o->tail, crc);
	memcpy(o->tail + 4, END, 8);
	ret = ret ? ret : add(c, o->tail, TAIL_LEN);
	ret = ret ? ret : flush(c);
	free(c);
	return ret ? err_set(e, ret, "the guest's state cannot be written: %s", strerror(-ret)) : 0;
}

/* ---- in ---- */

struct vmstate_in {
	struct vmstate_io io;
	struct layout l;
	uint8_t *head;			/* as of vmstate_out */
};

static int damaged(const char *how, struct err *e) { return err_set(e, -EINVAL, "the saved state is damaged: %s", how); }

static int read_at(const struct vmstate_io *io, uint64_t off, void *p, uint64_t len, struct err *e)
{
	uint8_t *to = p;
	int ret = 0;

	while (len && !ret) {
		uint64_t n = MIN(len, (uint64_t)VMSTATE_CHUNK);
		struct iovec v = { to, n };

		ret = io->read(io->opaque, off, &v, 1, n);
		off += n;
		to += n;
		len -= n;
	}
	return ret ? err_set(e, ret, "the saved state cannot be read: %s", strerror(-ret)) : 0;
}

static int parse_head(const uint8_t *h, uint64_t total, uint64_t ram, struct layout *l, struct err *e)
{
	uint64_t state_len = ld_le64(h + 24), pages = ld_le64(h + 32);

	if (memcmp(h, MAGIC, 8) != 0)
		return err_set(e, -EINVAL, "the saved state is none that Lodge wrote");
	if (ld_le32(h + 8) != VMSTATE_VERSION)
		return err_set(e, -EINVAL, "the saved state has version %u, and this program reads version %u", ld_le32(h + 8), VMSTATE_VERSION);
	if (crc_of(h, H_CRC) != ld_le32(h + H_CRC))
		return damaged("the checksum of its head is wrong", e);
	if (ld_le32(h + 12) != PAGE_4K || !state_len || state_len > SNAPSHOT_STATE_MAX)
		return damaged("its head makes no sense", e);
	if (ld_le64(h + 16) != ram)
		return err_set(e, -EINVAL, "the saved state is of a machine with %llu bytes of memory, and this one has %llu",
			       (unsigned long long)ld_le64(h + 16), (unsigned long long)ram);
	if (pages > ram >> PAGE_SHIFT_4K)
		return damaged("its head makes no sense", e);
	*l = layout_of(ram, state_len, pages);
	return l->total == ld_le64(h + 40) && l->total == total ? 0 : damaged("its length is wrong", e);
}

static int check_pages(struct vmstate_in *v, struct err *e)
{
	const uint8_t *h = v->head, *bitmap = h + v->l.bitmap;
	uint64_t pages = v->l.ram >> PAGE_SHIFT_4K;

	if (crc_of(h + HEAD_LEN, v->l.state_len) != ld_le32(h + 48) || crc_of(bitmap, v->l.bitmap_len) != ld_le32(h + 52))
		return damaged("a checksum is wrong", e);
	/* None behind the memory's end. */
	for (uint64_t p = pages; p < v->l.bitmap_len * 8; p++)
		if (has(bitmap, p))
			return damaged("it has pages that there are not", e);
	return count(bitmap, v->l.bitmap_len) == v->l.pages ? 0 : damaged("its pages are not as many as it says", e);
}

/* Data and tail, from the chunk on in which the data begin. */
static int check_data(struct vmstate_in *v, struct err *e)
{
	uint8_t *buf = aligned_alloc(PAGE_4K, VMSTATE_CHUNK), tail[TAIL_LEN] = { 0 };
	uint32_t crc = (uint32_t)crc32_z(0, NULL, 0);
	uint64_t n;
	int ret = buf ? 0 : err_set(e, -ENOMEM, "out of memory");

	for (uint64_t at = v->l.data; at < v->l.tail && !ret; at += n) {
		n = MIN(v->l.tail, align_down(at, VMSTATE_CHUNK) + VMSTATE_CHUNK) - at;
		ret = read_at(&v->io, at, buf, n, e);
		if (!ret)
			crc = (uint32_t)crc32_z(crc, buf, n);
	}
	ret = ret ? ret : read_at(&v->io, v->l.tail, tail, TAIL_LEN, e);
	free(buf);
	if (ret)
		return ret;
	if (memcmp(tail + 4, END, 8) != 0)
		return damaged("its end is missing", e);
	return crc == ld_le32(tail) ? 0 : damaged("the checksum of the memory is wrong", e);
}

int vmstate_open(const struct vmstate_io *io, uint64_t total, uint64_t ram, struct vmstate_in **out, struct err *e)
{
	struct vmstate_in *v;
	uint8_t *head;
	int ret;

	if (!ram || ram % PAGE_4K || ram > MAX_RAM)
		return err_set(e, -EINVAL, "no machine has %llu bytes of memory", (unsigned long long)ram);
	if (total < HEAD_LEN + TAIL_LEN)
		return err_set(e, -EINVAL, "the saved state is none that Lodge wrote");
	v = calloc(1, sizeof(*v));
	head = aligned_alloc(PAGE_4K, HEAD_LEN);
	ret = v && head ? read_at(io, 0, head, HEAD_LEN, e) : err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : parse_head(head, total, ram, &v->l, e);
	if (!ret) {
		v->io = *io;
		v->head = aligned_alloc(PAGE_4K, v->l.data);
		ret = v->head ? 0 : err_set(e, -ENOMEM, "out of memory for %llu bytes of state", (unsigned long long)v->l.data);
	}
	if (!ret) {
		/* The head that was checked: it is not read a second time. */
		memcpy(v->head, head, HEAD_LEN);
		ret = read_at(io, HEAD_LEN, v->head + HEAD_LEN, v->l.data - HEAD_LEN, e);
	}
	free(head);
	ret = ret ? ret : check_pages(v, e);
	ret = ret ? ret : check_data(v, e);
	if (ret)
		vmstate_close(v);
	else
		*out = v;
	return ret;
}

const void *vmstate_state(const struct vmstate_in *v, size_t *len)
{
	*len = v->l.state_len;
	return v->head + HEAD_LEN;
}

void vmstate_close(struct vmstate_in *v)
{
	if (!v)
		return;
	free(v->head);
	free(v);
}

/* Pages without data that may have some now. */
static int make_zeros(const uint8_t *bitmap, struct mem *m)
{
	uint64_t pages = mem_ram_size(m) >> PAGE_SHIFT_4K, page = 0, end;
	uint64_t *used = calloc(align_up(pages, 64) / 64, 8);

	if (!used)
		return -ENOMEM;
	mem_ram_used(m, used);
	while (page < pages) {
		if (has(bitmap, page) || !(used[page / 64] >> (page % 64) & 1)) {
			page++;
			continue;
		}
		for (end = page; end < pages && !has(bitmap, end) && used[end / 64] >> (end % 64) & 1; end++)
			;
		mem_ram_zero(m, page * PAGE_4K, (end - page) * PAGE_4K);
		page = end;
	}
	free(used);
	return 0;
}

/* The data from `at` on, as many as fit a chunk, straight to where they belong.  *page: the first of them, then the one after the last. */
static int read_pages(struct vmstate_in *v, struct mem *m, uint64_t at, uint64_t *page, uint64_t *got)
{
	const uint8_t *bitmap = v->head + v->l.bitmap;
	uint64_t pages = v->l.ram >> PAGE_SHIFT_4K, room = (align_down(at, VMSTATE_CHUNK) + VMSTATE_CHUNK - at) / PAGE_4K, len = 0;
	struct iovec iov[CHUNK_IOV];
	unsigned n = 0;

	while (room && (*page = next(bitmap, *page, pages, true)) < pages) {
		uint64_t some = MIN(room, next(bitmap, *page, pages, false) - *page);

		iov[n++] = (struct iovec){ mem_ram_host(m) + *page * PAGE_4K, some * PAGE_4K };
		*page += some;
		room -= some;
		len += some * PAGE_4K;
	}
	*got = len;
	return len ? v->io.read(v->io.opaque, at, iov, n, len) : 0;
}

int vmstate_load_ram(struct vmstate_in *v, struct mem *m, struct err *e)
{
	uint64_t page = 0, got;
	int ret = mem_ram_size(m) == v->l.ram ? make_zeros(v->head + v->l.bitmap, m) : -EINVAL;

	for (uint64_t at = v->l.data; at < v->l.tail && !ret; at += got) {
		ret = read_pages(v, m, at, &page, &got);
		if (!ret && !got)
			ret = -EIO;
	}
	/* Code that was made from what was there is gone with it. */
	mem_written_host(m, mem_ram_host(m), mem_ram_size(m));
	return ret ? err_set(e, ret, "the saved memory cannot be read: %s", strerror(-ret)) : 0;
}
