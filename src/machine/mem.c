/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest-physical memory map.
 *
 * RAM is one memfd mapped once for the life of the map; ranges are a small array
 * sorted by GPA, replaced in place under `lock` (readers share it).  A ROM has
 * anonymous memory of its own.  Each backing carries one flag byte and one
 * version word per page, in zero pages the kernel provides when touched, so a
 * large guest costs nothing until it is used.
 *
 * Order that engines rely on: a writer stores its bytes, then a full fence, then
 * looks at the page's flags; an engine sets MEM_PG_CODE, then a full fence, then
 * reads the bytes it decodes.  So either the writer sees the flag and bumps the
 * version, or the engine sees the new bytes.
 *
 * Listeners are called without `lock`, so they may look things up; their list
 * has a lock of its own.
 */
#include "machine/mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "machine/ahead.h"
#include "machine/mem_image.h"
#include "machine/mem_int.h"

static uint64_t range_end(const struct mem_range *r)
{
	return r->gpa + r->size;
}

int mem_new(struct mem **out)
{
	struct mem *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	pthread_rwlock_init(&m->lock, NULL);
	pthread_rwlock_init(&m->listen_lock, NULL);
	list_init(&m->listeners);
	m->ram.fd = -1;
	m->host_limit = UINT64_MAX;
	*out = m;
	return 0;
}

/* Backings. */

static void *zero_pages(uint64_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint64_t pages(uint64_t size)
{
	return size >> PAGE_SHIFT_4K;
}

void mem_backing_fini(struct backing *b)
{
	mem_ahead_free(b->ahead);
	if (b->version)
		munmap((void *)b->version, pages(b->size) * sizeof(uint32_t));
	if (b->flags)
		munmap((void *)b->flags, pages(b->size));
	if (b->host)
		munmap(b->host, b->size);
	if (b->fd >= 0)
		close(b->fd);
	mem_image_free(b->image);
	*b = (struct backing){ .fd = -1 };
}

int mem_backing_books(struct backing *b)
{
	b->flags = zero_pages(pages(b->size));
	b->version = zero_pages(pages(b->size) * sizeof(uint32_t));
	return b->flags && b->version ? 0 : -ENOMEM;
}

void mem_free(struct mem *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->n; i++) {
		if (m->ranges[i].rom) {
			mem_backing_fini(m->ranges[i].rom);
			free(m->ranges[i].rom);
		}
	}
	while (m->roms) {
		struct mem_rom *rom = m->roms;

		m->roms = rom->next;
		mem_backing_fini(&rom->b);
		free(rom);
	}
	mem_backing_fini(&m->ram);
	pthread_rwlock_destroy(&m->lock);
	pthread_rwlock_destroy(&m->listen_lock);
	free(m);
}

/* The map. */

/* Index of the first range that ends above gpa; m->n if there is none. */
static size_t range_at(const struct mem *m, uint64_t gpa)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (range_end(&m->ranges[mid].r) <= gpa)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static struct range *range_holding(struct mem *m, uint64_t gpa)
{
	size_t i = range_at(m, gpa);

	return i < m->n && m->ranges[i].r.gpa <= gpa ? &m->ranges[i] : NULL;
}

static void tell(struct mem *m, const struct mem_range *r, bool added)
{
	pthread_rwlock_rdlock(&m->listen_lock);
	list_for_each(n, &m->listeners) {
		struct mem_listener *l = list_entry(n, struct mem_listener, node);

		if (added && l->added)
			l->added(l->opaque, r);
		if (!added && l->removed)
			l->removed(l->opaque, r);
	}
	pthread_rwlock_unlock(&m->listen_lock);
}

/* b follows a in every respect. */
static bool joins(const struct range *a, const struct range *b)
{
	return a->r.plugged && b->r.plugged && range_end(&a->r) == b->r.gpa && a->r.fd_offset + a->r.size == b->r.fd_offset &&
	       !strcmp(a->r.name, b->r.name);
}

/* lock held for writing, as in the two below. */
static void drop(struct mem *m, size_t i)
{
	m->n--;
	memmove(&m->ranges[i], &m->ranges[i + 1], (m->n - i) * sizeof(m->ranges[0]));
}

static void put(struct mem *m, size_t i, const struct range *nr)
{
	memmove(&m->ranges[i + 1], &m->ranges[i], (m->n - i) * sizeof(m->ranges[0]));
	m->ranges[i] = *nr;
	m->n++;
}

static void join(struct mem *m, size_t i)
{
	if (i + 1 >= m->n || !joins(&m->ranges[i], &m->ranges[i + 1]))
		return;
	m->ranges[i].r.size += m->ranges[i + 1].r.size;
	drop(m, i + 1);
}

static int insert(struct mem *m, const struct range *nr, struct err *e)
{
	const struct mem_range *r = &nr->r, *other;
	uint64_t end;
	size_t i;
	int ret = 0;

	if (!r->size || (r->gpa | r->size) & (PAGE_4K - 1) || add_overflows(r->gpa, r->size, &end) ||
	    end > GPA_LIMIT)
		return err_set(e, -EINVAL, "memory \"%s\" at %#llx, %#llx bytes: not a range of pages",
			       r->name, (unsigned long long)r->gpa, (unsigned long long)r->size);
	pthread_rwlock_wrlock(&m->lock);
	i = range_at(m, r->gpa);
	if (i < m->n && m->ranges[i].r.gpa < end) {
		other = &m->ranges[i].r;
		ret = err_set(e, -EEXIST, "memory \"%s\" at %#llx overlaps \"%s\" at %#llx", r->name,
			      (unsigned long long)r->gpa, other->name, (unsigned long long)other->gpa);
	} else if (m->n >= (nr->r.plugged ? MAX_PLUGGED : MAX_RANGES)) {
		ret = err_set(e, -ENOSPC, "too many memory ranges");
	} else {
		put(m, i, nr);
		join(m, i);
		if (i)
			join(m, i - 1);
	}
	pthread_rwlock_unlock(&m->lock);
	if (!ret)
		tell(m, r, true);
	return ret;
}

static void fill_range(struct range *nr, const char *name, uint64_t gpa, uint64_t size,
		       enum mem_kind kind, const struct backing *b, uint64_t offset)
{
	*nr = (struct range){ .r = {
		.gpa = gpa, .size = size, .kind = kind, .host = b->host + offset, .fd = b->private ? -1 : b->fd,
		.fd_offset = offset, .flags = b->flags + pages(offset),
		.version = b->version + pages(offset), .ahead = b->ahead && offset < b->ahead->size ? b->ahead : NULL } };
	snprintf(nr->r.name, sizeof(nr->r.name), "%s", name);
}

void mem_make_ahead(struct mem *m)
{
	m->make_ahead = true;
	if (m->ram.ahead)
		mem_ahead_start(m->ram.ahead);
}

static int show_ram(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size,
		    enum mem_kind kind, struct err *e)
{
	struct range nr;

	if (!m->ram.host)
		return err_set(e, -EINVAL, "memory \"%s\" comes before the RAM was made", name);
	if (offset & (PAGE_4K - 1) || !range_inside(offset, size, m->ram.size))
		return err_set(e, -EINVAL, "memory \"%s\" reaches beyond the RAM", name);
	fill_range(&nr, name, gpa, size, kind, &m->ram, offset);
	return insert(m, &nr, e);
}

int mem_add_ram(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size,
		struct err *e)
{
	return show_ram(m, name, gpa, offset, size, MEM_RAM, e);
}

int mem_plug(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size, struct err *e)
{
	struct range nr;

	if (!m->ram.host || offset & (PAGE_4K - 1) || !range_inside(offset, size, m->ram.size))
		return err_set(e, -EINVAL, "memory \"%s\" reaches beyond the RAM", name);
	fill_range(&nr, name, gpa, size, MEM_RAM, &m->ram, offset);
	nr.r.plugged = true;
	return insert(m, &nr, e);
}

/* The part [gpa, end) of a range. */
static struct range part_of(const struct range *whole, uint64_t gpa, uint64_t end)
{
	uint64_t off = gpa - whole->r.gpa;
	struct range p = *whole;

	p.r.gpa = gpa;
	p.r.size = end - gpa;
	p.r.host += off;
	p.r.fd_offset += off;
	p.r.flags += pages(off);
	p.r.version += pages(off);
	return p;
}

int mem_unplug(struct mem *m, uint64_t gpa, uint64_t size)
{
	struct range whole, piece, before, behind;
	struct range *r;
	uint64_t end;
	int ret = 0;
	size_t i;

	if (!size || (gpa | size) & (PAGE_4K - 1) || add_overflows(gpa, size, &end))
		return -EINVAL;
	pthread_rwlock_wrlock(&m->lock);
	r = range_holding(m, gpa);
	if (!r || !r->r.plugged || end > range_end(&r->r)) {
		ret = -ENOENT;
	} else if (gpa > r->r.gpa && end < range_end(&r->r) && m->n >= MAX_PLUGGED) {
		ret = -ENOSPC;
	} else {
		i = (size_t)(r - m->ranges);
		whole = *r;
		piece = part_of(&whole, gpa, end);
		before = part_of(&whole, whole.r.gpa, gpa);
		behind = part_of(&whole, end, range_end(&whole.r));
		drop(m, i);
		if (behind.r.size)
			put(m, i, &behind);
		if (before.r.size)
			put(m, i, &before);
	}
	pthread_rwlock_unlock(&m->lock);
	if (!ret)
		tell(m, &piece.r, false);
	return ret;
}

int mem_add_ram_protected(struct mem *m, const char *name, uint64_t gpa, uint64_t offset, uint64_t size,
			  struct err *e)
{
	return show_ram(m, name, gpa, offset, size, MEM_ROM, e);
}

int mem_rom_new(struct mem *m, const char *name, uint64_t size, struct mem_rom **out, struct err *e)
{
	struct mem_rom *rom = calloc(1, sizeof(*rom));
	int r = -ENOMEM;

	if (!size || size & (PAGE_4K - 1)) {
		free(rom);
		return err_set(e, -EINVAL, "ROM \"%s\" of %llu bytes is not a number of pages", name,
			       (unsigned long long)size);
	}
	if (rom) {
		rom->b.fd = -1;
		rom->b.size = size;
		rom->b.host = zero_pages(size);
		r = rom->b.host ? mem_backing_books(&rom->b) : -ENOMEM;
	}
	if (r) {
		if (rom)
			mem_backing_fini(&rom->b);
		free(rom);
		return err_set(e, r, "no memory for ROM \"%s\"", name);
	}
	snprintf(rom->name, sizeof(rom->name), "%s", name);
	rom->next = m->roms;
	m->roms = rom;
	*out = rom;
	return 0;
}

uint8_t *mem_rom_bytes(struct mem_rom *rom)
{
	return rom->b.host;
}

uint64_t mem_rom_size(const struct mem_rom *rom)
{
	return rom->b.size;
}

int mem_show_rom(struct mem *m, struct mem_rom *rom, uint64_t gpa, uint64_t offset, uint64_t size, struct err *e)
{
	struct range nr;

	if (offset & (PAGE_4K - 1) || !range_inside(offset, size, rom->b.size))
		return err_set(e, -EINVAL, "ROM \"%s\" is shorter than what is to be shown of it", rom->name);
	fill_range(&nr, rom->name, gpa, size, MEM_ROM, &rom->b, offset);
	return insert(m, &nr, e);
}

int mem_add_rom(struct mem *m, const char *name, uint64_t gpa, uint64_t size,
		const void *data, size_t len, struct err *e)
{
	struct backing *b;
	struct range nr;
	int r;

	if (!size || size & (PAGE_4K - 1) || len > size)
		return err_set(e, -EINVAL, "ROM \"%s\": %zu bytes do not fit %llu", name, len,
			       (unsigned long long)size);
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "no memory for ROM \"%s\"", name);
	b->fd = -1;
	b->size = size;
	b->host = zero_pages(size);
	r = b->host ? mem_backing_books(b) : -ENOMEM;
	if (r) {
		err_set(e, r, "no memory for ROM \"%s\"", name);
		goto fail;
	}
	if (len)
		memcpy(b->host, data, len);
	fill_range(&nr, name, gpa, size, MEM_ROM, b, 0);
	nr.rom = b;
	r = insert(m, &nr, e);
	if (r)
		goto fail;
	return 0;

fail:
	mem_backing_fini(b);
	free(b);
	return r;
}

int mem_del(struct mem *m, uint64_t gpa)
{
	struct range old;
	size_t i;

	pthread_rwlock_wrlock(&m->lock);
	i = range_at(m, gpa);
	if (i == m->n || m->ranges[i].r.gpa != gpa) {
		pthread_rwlock_unlock(&m->lock);
		return -ENOENT;
	}
	old = m->ranges[i];
	drop(m, i);
	pthread_rwlock_unlock(&m->lock);
	tell(m, &old.r, false);
	if (old.rom) {			/* only now: listeners may still have used it */
		mem_backing_fini(old.rom);
		free(old.rom);
	}
	return 0;
}

uint64_t mem_ram_size(const struct mem *m)
{
	return m->ram.size;
}

int mem_ram_fd(const struct mem *m)
{
	return m->ram.private ? -1 : m->ram.fd;
}

uint8_t *mem_ram_host(const struct mem *m)
{
	return m->ram.host;
}

bool mem_find(struct mem *m, uint64_t gpa, struct mem_range *out)
{
	const struct range *r;

	pthread_rwlock_rdlock(&m->lock);
	r = range_holding(m, gpa);
	if (r)
		*out = r->r;
	pthread_rwlock_unlock(&m->lock);
	return r != NULL;
}

/* A copy of the first range that ends above gpa, so that the caller may use the
 * map while it looks at it. */
static bool next_range(struct mem *m, uint64_t gpa, struct mem_range *out)
{
	size_t i;
	bool found;

	*out = (struct mem_range){ 0 };
	pthread_rwlock_rdlock(&m->lock);
	i = range_at(m, gpa);
	found = i < m->n;
	if (found)
		*out = m->ranges[i].r;
	pthread_rwlock_unlock(&m->lock);
	return found;
}

void mem_for_each(struct mem *m, void (*fn)(void *opaque, const struct mem_range *r), void *opaque)
{
	uint64_t gpa = 0;
	struct mem_range r;

	for (;;) {
		if (!next_range(m, gpa, &r))
			return;
		fn(opaque, &r);
		gpa = range_end(&r);
	}
}

void mem_listen(struct mem *m, struct mem_listener *l)
{
	pthread_rwlock_wrlock(&m->listen_lock);
	list_add_tail(&m->listeners, &l->node);
	pthread_rwlock_unlock(&m->listen_lock);
	/* The machine lock keeps the map as it is while it is replayed. */
	if (l->added)
		mem_for_each(m, l->added, l->opaque);
}

void mem_unlisten(struct mem *m, struct mem_listener *l)
{
	pthread_rwlock_wrlock(&m->listen_lock);
	list_del(&l->node);
	pthread_rwlock_unlock(&m->listen_lock);
}

/* Copies. */

/* Does [gpa, gpa+len) lie in memory, RAM if `ram_only`?  lock held. */
static bool covered(struct mem *m, uint64_t gpa, uint64_t len, bool ram_only)
{
	uint64_t end;

	if (add_overflows(gpa, len, &end))
		return false;
	while (gpa < end) {
		const struct range *r = range_holding(m, gpa);

		if (!r || (ram_only && r->r.kind != MEM_RAM))
			return false;
		gpa = range_end(&r->r);
	}
	return true;
}

/* An aligned access of a natural size is one access for other CPUs too: rings
 * and page-table entries rely on it. */
static void copy_bytes(void *dst, const void *src, size_t n)
{
	uintptr_t both = (uintptr_t)dst | (uintptr_t)src;

	if (n == 8 && !(both & 7))
		*(volatile uint64_t *)dst = *(const volatile uint64_t *)src;
	else if (n == 4 && !(both & 3))
		*(volatile uint32_t *)dst = *(const volatile uint32_t *)src;
	else if (n == 2 && !(both & 1))
		*(volatile uint16_t *)dst = *(const volatile uint16_t *)src;
	else
		memcpy(dst, src, n);
}

enum xfer { XFER_READ, XFER_WRITE, XFER_LOAD };

static int transfer(struct mem *m, uint64_t gpa, uint8_t *buf, uint64_t len, enum xfer x)
{
	int r = 0;

	pthread_rwlock_rdlock(&m->lock);
	if (!covered(m, gpa, len, x == XFER_WRITE)) {
		r = -EFAULT;
		goto out;
	}
	while (len) {
		const struct mem_range *rg = &range_holding(m, gpa)->r;
		uint64_t off = gpa - rg->gpa, n = MIN(len, rg->size - off);

		if (x == XFER_READ)
			copy_bytes(buf, rg->host + off, n);
		else
			copy_bytes(rg->host + off, buf, n);
		gpa += n;
		buf += n;
		len -= n;
	}
out:
	pthread_rwlock_unlock(&m->lock);
	return r;
}

int mem_read(struct mem *m, uint64_t gpa, void *buf, uint64_t len)
{
	return transfer(m, gpa, buf, len, XFER_READ);
}

int mem_write(struct mem *m, uint64_t gpa, const void *buf, uint64_t len)
{
	int r = transfer(m, gpa, (uint8_t *)(uintptr_t)buf, len, XFER_WRITE);

	if (!r)
		mem_written(m, gpa, len);
	return r;
}

int mem_load(struct mem *m, uint64_t gpa, const void *buf, uint64_t len)
{
	int r = transfer(m, gpa, (uint8_t *)(uintptr_t)buf, len, XFER_LOAD);

	if (!r)
		mem_written(m, gpa, len);
	return r;
}

int mem_map_iov(struct mem *m, uint64_t gpa, uint64_t len, bool write,
		struct iovec *iov, size_t max, size_t *n)
{
	size_t first = *n, k = *n;
	int r = 0;

	pthread_rwlock_rdlock(&m->lock);
	if (!covered(m, gpa, len, write)) {
		r = -EFAULT;
		goto out;
	}
	while (len) {
		const struct mem_range *rg = &range_holding(m, gpa)->r;
		uint64_t off = gpa - rg->gpa, l = MIN(len, rg->size - off);
		uint8_t *p = rg->host + off;

		if (k > first && (uint8_t *)iov[k - 1].iov_base + iov[k - 1].iov_len == p) {
			iov[k - 1].iov_len += l;
		} else if (k >= max) {
			r = -E2BIG;
			goto out;
		} else {
			iov[k].iov_base = p;
			iov[k].iov_len = l;
			k++;
		}
		gpa += l;
		len -= l;
	}
	*n = k;
out:
	pthread_rwlock_unlock(&m->lock);
	return r;
}

void *mem_ptr(struct mem *m, uint64_t gpa, uint64_t len, bool write)
{
	struct iovec iov;
	size_t n = 0;

	if (!len || mem_map_iov(m, gpa, len, write, &iov, 1, &n))
		return NULL;
	return iov.iov_base;
}

/* Written pages. */

static void tell_code(struct mem *m, uint64_t gpa, uint64_t len)
{
	pthread_rwlock_rdlock(&m->listen_lock);
	list_for_each(n, &m->listeners) {
		struct mem_listener *l = list_entry(n, struct mem_listener, node);

		if (l->code_written)
			l->code_written(l->opaque, gpa, len);
	}
	pthread_rwlock_unlock(&m->listen_lock);
}

/* RAM, also where it is shown write-protected. */
static bool in_ram(const struct mem *m, const struct mem_range *r)
{
	return m->ram.host && (uintptr_t)r->host - (uintptr_t)m->ram.host < m->ram.size;
}

/* Notes the write in the books of pages [first, last] of a range; true if an
 * engine holds code of one of them. */
static bool note_pages(struct mem *m, const struct mem_range *r, uint64_t first, uint64_t last)
{
	bool log = in_ram(m, r) && atomic_load_explicit(&m->dirty, memory_order_relaxed);
	bool code = false;

	for (uint64_t p = first; p <= last; p++) {
		uint8_t f = atomic_load_explicit(&r->flags[p], memory_order_relaxed);

		if (log && !(f & MEM_PG_DIRTY))
			atomic_fetch_or(&r->flags[p], MEM_PG_DIRTY);
		if ((f & (MEM_PG_WATCH | MEM_PG_SEEN)) == MEM_PG_WATCH)
			atomic_fetch_or(&r->flags[p], MEM_PG_SEEN);
		if (f & MEM_PG_CODE) {
			atomic_fetch_add(&r->version[p], 1);
			code = true;
		}
	}
	return code;
}

void mem_written(struct mem *m, uint64_t gpa, uint64_t len)
{
	uint64_t end;

	if (!len)
		return;
	if (add_overflows(gpa, len, &end))
		end = UINT64_MAX;
	/* Pairs with the engine's fence between setting MEM_PG_CODE and reading. */
	atomic_thread_fence(memory_order_seq_cst);
	while (gpa < end) {
		struct mem_range r;
		uint64_t off, n;

		if (!next_range(m, gpa, &r) || r.gpa >= end)
			return;
		gpa = MAX(gpa, r.gpa);
		off = gpa - r.gpa;
		n = MIN(end - gpa, r.size - off);
		if (note_pages(m, &r, pages(off), pages(off + n - 1)))
			tell_code(m, gpa, n);
		gpa += n;
	}
}

/* The GPAs at which backing bytes [off, off+len) appear: told as written. */
static void written_backing(struct mem *m, uint64_t off, uint64_t len)
{
	struct mem_range r;
	uint64_t gpa = 0, lo, hi;

	for (;;) {
		if (!next_range(m, gpa, &r))
			return;
		gpa = range_end(&r);
		if (!in_ram(m, &r))		/* write-protected RAM is RAM here */
			continue;
		lo = MAX(off, r.fd_offset);
		hi = MIN(off + len, r.fd_offset + r.size);
		if (lo < hi)
			mem_written(m, r.gpa + (lo - r.fd_offset), hi - lo);
	}
}

void mem_written_host(struct mem *m, const void *host, size_t len)
{
	const uint8_t *p = host;

	if (!len || !m->ram.host || p < m->ram.host || p >= m->ram.host + m->ram.size)
		return;
	written_backing(m, (uint64_t)(p - m->ram.host),
			MIN(len, (uint64_t)(m->ram.host + m->ram.size - p)));
}

void mem_stored(struct mem *m, uint64_t off, uint64_t len)
{
	bool log = atomic_load_explicit(&m->dirty, memory_order_relaxed);

	if (!len || !range_inside(off, len, m->ram.size))
		return;
	/* As in mem_written. */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint64_t p = pages(off); p <= pages(off + len - 1); p++) {
		_Atomic uint8_t *f = &m->ram.flags[p];
		uint8_t was = atomic_load_explicit(f, memory_order_relaxed);
		uint8_t want = (log ? MEM_PG_DIRTY : 0) | (was & MEM_PG_WATCH ? MEM_PG_SEEN : 0);

		if (was & MEM_PG_CODE)
			written_backing(m, p << PAGE_SHIFT_4K, PAGE_4K);
		else if (want & ~was)
			atomic_fetch_or(f, want);
	}
}

/* Watched pages. */

static uint64_t backing_pages(const struct mem *m, uint64_t first, uint64_t n)
{
	uint64_t total = pages(m->ram.size);

	return first < total ? MIN(n, total - first) : 0;
}

void mem_watch(struct mem *m, uint64_t first, uint64_t n, bool on)
{
	const uint8_t bits = MEM_PG_WATCH | MEM_PG_SEEN;

	n = backing_pages(m, first, n);
	for (uint64_t i = 0; i < n; i++) {
		if (on)
			atomic_fetch_or(&m->ram.flags[first + i], bits);
		else
			atomic_fetch_and(&m->ram.flags[first + i], (uint8_t)~bits);
	}
}

bool mem_watched(const struct mem_range *r)
{
	return atomic_load_explicit(r->flags, memory_order_relaxed) & MEM_PG_WATCH;
}

void mem_watch_fetch(struct mem *m, uint64_t first, uint64_t n, uint64_t *bitmap)
{
	n = backing_pages(m, first, n);
	for (uint64_t i = 0; i < n; i++) {
		_Atomic uint8_t *f = &m->ram.flags[first + i];
		uint8_t was = atomic_load_explicit(f, memory_order_relaxed);

		if (was & MEM_PG_SEEN)
			atomic_fetch_and(f, (uint8_t)~MEM_PG_SEEN);
		/* What is written behind the flags' back may have been. */
		if (was & (MEM_PG_SEEN | MEM_PG_DIRECT))
			bitmap[i / 64] |= BIT64(i % 64);
	}
}

/* Dirty log. */

/* The flags of eight pages, where they can be read together. */
typedef uint64_t __attribute__((may_alias)) flags8;

static void clear_dirty(struct mem *m, uint64_t first, uint64_t n, uint64_t *bitmap)
{
	for (uint64_t i = 0; i < n; i++) {
		_Atomic uint8_t *f = &m->ram.flags[first + i];

		/* Most pages of most fetches are clean. */
		while (!((first + i) & 7) && i + 8 <= n &&
		       !(__atomic_load_n((const flags8 *)f, __ATOMIC_RELAXED) & (MEM_PG_DIRTY * 0x0101010101010101ull))) {
			i += 8;
			f += 8;
		}
		if (i >= n)
			break;
		if (!(atomic_load_explicit(f, memory_order_relaxed) & MEM_PG_DIRTY))
			continue;
		atomic_fetch_and(f, (uint8_t)~MEM_PG_DIRTY);
		if (bitmap)
			bitmap[i / 64] |= BIT64(i % 64);
	}
}

int mem_dirty_start(struct mem *m)
{
	if (!m->ram.host)
		return -EINVAL;
	clear_dirty(m, 0, pages(m->ram.size), NULL);
	atomic_store(&m->dirty, true);
	return 0;
}

void mem_dirty_stop(struct mem *m)
{
	atomic_store(&m->dirty, false);
}

bool mem_dirty_enabled(const struct mem *m)
{
	return atomic_load_explicit(&m->dirty, memory_order_relaxed);
}

void mem_dirty_fetch(struct mem *m, uint64_t first, uint64_t n, uint64_t *bitmap)
{
	uint64_t total = pages(m->ram.size);

	if (first >= total)
		return;
	clear_dirty(m, first, MIN(n, total - first), bitmap);
}
