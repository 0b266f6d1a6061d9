/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Port and MMIO dispatch.
 *
 * Registered regions, which may overlap, are flattened into sorted segments that
 * do not: an access is one binary search.  Room for the segments is reserved when
 * a region is added, so that removing one cannot fail.
 *
 * Locks.  The map changes with the machine lock AND the write side of `lock`
 * held; so whoever holds either may read it.  Handlers run with the machine lock
 * held and `lock` not, so they may move regions (a BAR write does); the map is
 * searched anew for every piece of a split access.  Doorbells and `unlocked`
 * regions are served under or after the read side alone, without the machine
 * lock; an unlocked region may only be removed while no vCPU runs.
 */
#include "machine/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"

#define MAX_LISTENERS 4
#define MAX_REGIONS 4096
#define MAX_ACCESS 64
#define MAX_EXACT 4

struct segment {
	uint64_t first, last;
	struct bus_region *r;
};

struct bus {
	const char *name;
	uint64_t limit;			/* number of addresses; 0: 2^64 */
	unsigned max_len;
	pthread_mutex_t *machine_lock;
	pthread_rwlock_t lock;
	struct bus_region **regions;	/* by priority, highest first, then by age */
	size_t n_regions, cap;
	struct bus_region *exact[MAX_EXACT];	/* not among the segments */
	_Atomic unsigned n_exact;
	struct segment *seg;
	size_t n_seg;
	uint64_t *cuts;			/* scratch of flatten() */
	_Atomic unsigned n_unlocked;	/* looked at without a lock, to skip it */
	struct bus_doorbell **bells;	/* by address */
	_Atomic size_t n_bells;
	size_t cap_bells;
	struct bus_doorbell_listener listeners[MAX_LISTENERS];
	unsigned n_listeners;
};

int bus_new(struct bus **out, const char *name, uint64_t limit, unsigned max_len,
	    pthread_mutex_t *machine_lock)
{
	struct bus *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->name = name;
	b->limit = limit;
	b->max_len = max_len;
	b->machine_lock = machine_lock;
	pthread_rwlock_init(&b->lock, NULL);
	*out = b;
	return 0;
}

void bus_free(struct bus *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n_regions; i++)
		b->regions[i]->bus = NULL;
	for (size_t i = 0; i < b->n_bells; i++)
		b->bells[i]->bus = NULL;
	free(b->regions);
	free(b->seg);
	free(b->cuts);
	free(b->bells);
	pthread_rwlock_destroy(&b->lock);
	free(b);
}

/* The map. */

static uint64_t last_of(const struct bus_region *r)
{
	return r->base + (r->size - 1);
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static struct bus_region *best_at(const struct bus *b, uint64_t addr)
{
	for (size_t i = 0; i < b->n_regions; i++)
		if (!b->regions[i]->ops->exact && addr - b->regions[i]->base < b->regions[i]->size)
			return b->regions[i];
	return NULL;
}

/* Cuts the address space at every edge of a region and gives each piece to the
 * first region in order that covers it.  n regions make fewer than 2n pieces. */
static void flatten(struct bus *b)
{
	size_t n = 0;

	for (size_t i = 0; i < b->n_regions; i++) {
		b->cuts[n++] = b->regions[i]->base;
		if (last_of(b->regions[i]) != UINT64_MAX)
			b->cuts[n++] = last_of(b->regions[i]) + 1;
	}
	if (n)
		qsort(b->cuts, n, sizeof(*b->cuts), cmp_u64);
	b->n_seg = 0;
	for (size_t i = 0; i < n; i++) {
		struct segment *prev = b->n_seg ? &b->seg[b->n_seg - 1] : NULL;
		uint64_t last = i + 1 < n ? b->cuts[i + 1] - 1 : UINT64_MAX;
		struct bus_region *r;

		if (i + 1 < n && b->cuts[i] == b->cuts[i + 1])
			continue;
		r = best_at(b, b->cuts[i]);
		if (!r)
			continue;
		if (prev && prev->r == r && prev->last + 1 == b->cuts[i])
			prev->last = last;
		else
			b->seg[b->n_seg++] = (struct segment){ b->cuts[i], last, r };
	}
}

/* Room for n regions and what they flatten to. */
static int reserve(struct bus *b, size_t n)
{
	size_t cap = b->cap ? b->cap * 2 : 32;
	void *p;

	if (n <= b->cap)
		return 0;
	if (n > MAX_REGIONS)
		return -ENOSPC;
	p = realloc(b->regions, cap * sizeof(*b->regions));
	if (!p)
		return -ENOMEM;
	b->regions = p;
	p = realloc(b->seg, 2 * cap * sizeof(*b->seg));
	if (!p)
		return -ENOMEM;
	b->seg = p;
	p = realloc(b->cuts, 2 * cap * sizeof(*b->cuts));
	if (!p)
		return -ENOMEM;
	b->cuts = p;
	b->cap = cap;
	return 0;
}

static bool fits(const struct bus *b, uint64_t base, uint64_t size)
{
	if (!size)
		return false;
	if (b->limit)
		return range_inside(base, size, b->limit);
	return base + (size - 1) >= base;
}

int bus_add(struct bus *b, struct bus_region *r)
{
	size_t i;
	int ret;

	if (r->bus || !fits(b, r->base, r->size))
		return -EINVAL;
	if (r->ops->exact && (b->n_exact == MAX_EXACT || r->size > 8))
		return -ENOSPC;
	for (i = 0; i < b->n_regions; i++)
		if (b->regions[i]->base == r->base && b->regions[i]->priority == r->priority)
			return -EEXIST;
	pthread_rwlock_wrlock(&b->lock);
	ret = reserve(b, b->n_regions + 1);
	if (!ret) {
		for (i = 0; i < b->n_regions && b->regions[i]->priority >= r->priority; i++)
			;
		memmove(&b->regions[i + 1], &b->regions[i],
			(b->n_regions - i) * sizeof(*b->regions));
		b->regions[i] = r;
		b->n_regions++;
		b->n_unlocked += r->ops->unlocked;
		if (r->ops->exact)
			b->exact[b->n_exact++] = r;
		r->bus = b;
		flatten(b);
	}
	pthread_rwlock_unlock(&b->lock);
	return ret;
}

void bus_del(struct bus_region *r)
{
	struct bus *b = r->bus;
	size_t i;

	if (!b)
		return;
	pthread_rwlock_wrlock(&b->lock);
	for (i = 0; i < b->n_regions && b->regions[i] != r; i++)
		;
	if (i < b->n_regions) {
		b->n_regions--;
		memmove(&b->regions[i], &b->regions[i + 1],
			(b->n_regions - i) * sizeof(*b->regions));
		b->n_unlocked -= r->ops->unlocked;
		for (i = 0; i < b->n_exact; i++)
			if (b->exact[i] == r)
				b->exact[i] = b->exact[--b->n_exact];
		flatten(b);
	}
	r->bus = NULL;
	pthread_rwlock_unlock(&b->lock);
}

/* The first segment that ends at or above addr, or NULL. */
static const struct segment *seg_at(const struct bus *b, uint64_t addr)
{
	size_t lo = 0, hi = b->n_seg;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (b->seg[mid].last < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < b->n_seg ? &b->seg[lo] : NULL;
}

/* Doorbells. */

/* Index of the first bell at or above addr. */
static size_t bell_at(const struct bus *b, uint64_t addr)
{
	size_t lo = 0, hi = b->n_bells;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (b->bells[mid]->addr < addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool same_bell(const struct bus_doorbell *x, const struct bus_doorbell *y)
{
	return x->addr == y->addr && x->len == y->len && x->match == y->match &&
	       (!x->match || x->value == y->value);
}

static void tell_bell(struct bus *b, const struct bus_doorbell *d, bool added)
{
	for (unsigned i = 0; i < b->n_listeners; i++)
		b->listeners[i].changed(b->listeners[i].opaque, d, added);
}

int bus_doorbell_add(struct bus *b, struct bus_doorbell *d)
{
	size_t i;
	int r = 0;

	if (d->bus || d->fd < 0 || d->len > 8 || !fits(b, d->addr, d->len ? d->len : 1))
		return -EINVAL;
	pthread_rwlock_wrlock(&b->lock);
	for (i = bell_at(b, d->addr); i < b->n_bells && b->bells[i]->addr == d->addr; i++)
		if (same_bell(b->bells[i], d)) {
			r = -EEXIST;
			goto out;
		}
	if (b->n_bells == b->cap_bells) {
		size_t cap = b->cap_bells ? b->cap_bells * 2 : 16;
		void *p = cap > MAX_REGIONS * 4 ? NULL : realloc(b->bells, cap * sizeof(*b->bells));

		if (!p) {
			r = -ENOMEM;
			goto out;
		}
		b->bells = p;
		b->cap_bells = cap;
	}
	memmove(&b->bells[i + 1], &b->bells[i], (b->n_bells - i) * sizeof(*b->bells));
	b->bells[i] = d;
	b->n_bells++;
	d->bus = b;
out:
	pthread_rwlock_unlock(&b->lock);
	if (!r)
		tell_bell(b, d, true);
	return r;
}

void bus_doorbell_del(struct bus_doorbell *d)
{
	struct bus *b = d->bus;
	size_t i;

	if (!b)
		return;
	tell_bell(b, d, false);
	pthread_rwlock_wrlock(&b->lock);
	for (i = 0; i < b->n_bells && b->bells[i] != d; i++)
		;
	if (i < b->n_bells) {
		b->n_bells--;
		memmove(&b->bells[i], &b->bells[i + 1], (b->n_bells - i) * sizeof(*b->bells));
	}
	d->bus = NULL;
	pthread_rwlock_unlock(&b->lock);
}

void bus_doorbell_listen(struct bus *b, const struct bus_doorbell_listener *l)
{
	if (b->n_listeners == MAX_LISTENERS)
		return;
	b->listeners[b->n_listeners++] = *l;
	for (size_t i = 0; i < b->n_bells; i++)
		l->changed(l->opaque, b->bells[i], true);
}

void bus_doorbell_unlisten(struct bus *b, const void *opaque)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->n_listeners; i++)
		if (b->listeners[i].opaque != opaque)
			b->listeners[n++] = b->listeners[i];
	b->n_listeners = n;
}

/* Rings the bell this write is meant for.  Either lock held. */
static bool ring(const struct bus *b, uint64_t addr, const void *buf, unsigned len)
{
	uint64_t one = 1;

	for (size_t i = bell_at(b, addr); i < b->n_bells && b->bells[i]->addr == addr; i++) {
		const struct bus_doorbell *d = b->bells[i];
		ssize_t r;

		if (d->len && d->len != len)
			continue;
		if (d->match && (len > 8 || ld_le(buf, len) != d->value))
			continue;
		r = write(d->fd, &one, sizeof(one));
		(void)r;		/* EAGAIN: rung more often than anybody can count */
		return true;
	}
	return false;
}

/* Dispatch. */

static uint64_t ones(unsigned len)
{
	return len >= 8 ? UINT64_MAX : BIT64(8 * len) - 1;
}

/* The next piece of an access of n bytes at `off` the device can take. */
static unsigned piece_len(const struct bus *b, const struct bus_ops *o, uint64_t off, unsigned n)
{
	unsigned max = o->max_len ? o->max_len : b->max_len, len = 1;

	while (len * 2 <= n && len * 2 <= max && len * 2 <= 8 &&
	       (o->unaligned || !(off & (len * 2 - 1))))
		len *= 2;
	return len;
}

/* One handler call for the start of [off, off+n); returns bytes done. */
static unsigned one_piece(const struct bus *b, const struct bus_region *r, uint64_t off,
			  uint8_t *buf, unsigned n, bool write)
{
	const struct bus_ops *o = r->ops;
	unsigned len = piece_len(b, o, off, n), min = o->min_len ? o->min_len : 1;
	uint64_t v, unit;

	if (len >= min) {
		if (write) {
			if (o->write)
				o->write(r->opaque, off, len, ld_le(buf, len));
		} else {
			v = o->read ? o->read(r->opaque, off, len) : UINT64_MAX;
			st_le(buf, len, v);
		}
		return len;
	}
	/* Narrower than the device understands: part of one unit. */
	unit = off & ~(uint64_t)(min - 1);
	len = MIN(n, (unsigned)(unit + min - off));
	if (write)
		return len;
	v = UINT64_MAX;
	if (o->read && range_inside(unit, min, r->size))
		v = o->read(r->opaque, unit, min) | ~ones(min);
	v >>= 8 * (off - unit);
	st_le(buf, 1, v);
	for (unsigned i = 1; i < len; i++)
		buf[i] = (uint8_t)(v >> (8 * i));
	return len;
}

static const struct bus_region *exact_at(const struct bus *b, uint64_t addr, unsigned len)
{
	for (unsigned i = 0; i < b->n_exact; i++)
		if (b->exact[i]->base == addr && b->exact[i]->size == len)
			return b->exact[i];
	return NULL;
}

int bus_access_locked(struct bus *b, uint64_t addr, void *buf, unsigned len, bool write)
{
	const struct bus_region *whole = b->n_exact ? exact_at(b, addr, len) : NULL;
	uint8_t *p = buf;
	bool answered = false;

	if (whole) {
		one_piece(b, whole, 0, p, len, write);
		return 0;
	}

	if (write && b->n_bells && ring(b, addr, buf, len))
		return 0;
	while (len) {
		const struct segment *s = seg_at(b, addr);
		uint64_t room;
		unsigned n;

		if (s && s->first <= addr) {
			room = s->last - addr;		/* +1, but that may not fit */
			n = room < len ? (unsigned)room + 1 : len;
			n = one_piece(b, s->r, addr - s->r->base, p, n, write);
			answered = true;
		} else {
			n = s && s->first - addr < len ? (unsigned)(s->first - addr) : len;
			if (!write)
				memset(p, 0xff, n);
		}
		p += n;
		len -= n;
		if (len && addr + n < addr) {		/* the end of the address space */
			if (!write)
				memset(p, 0xff, len);
			break;
		}
		addr += n;
	}
	return answered ? 0 : -ENXIO;
}

/* The whole access lies in an unlocked region: serve it here.  Read side held on
 * entry, released on return if true. */
static bool try_unlocked(struct bus *b, uint64_t addr, uint8_t *buf, unsigned len, bool write)
{
	const struct segment *s = seg_at(b, addr);
	const struct bus_region *r;

	if (!s || s->first > addr || s->last - addr < len - 1 || !s->r->ops->unlocked)
		return false;
	r = s->r;
	pthread_rwlock_unlock(&b->lock);
	while (len) {
		unsigned n = one_piece(b, r, addr - r->base, buf, len, write);

		addr += n;
		buf += n;
		len -= n;
	}
	return true;
}

int bus_access(struct bus *b, uint64_t addr, void *buf, unsigned len, bool write)
{
	int r;

	if (!len || len > MAX_ACCESS)
		return -EINVAL;
	if (b->n_unlocked || (write && b->n_bells)) {
		pthread_rwlock_rdlock(&b->lock);
		if (b->n_unlocked && try_unlocked(b, addr, buf, len, write))
			return 0;
		if (write && ring(b, addr, buf, len)) {
			pthread_rwlock_unlock(&b->lock);
			return 0;
		}
		pthread_rwlock_unlock(&b->lock);
	}
	pthread_mutex_lock(b->machine_lock);
	r = bus_access_locked(b, addr, buf, len, write);
	pthread_mutex_unlock(b->machine_lock);
	return r;
}

int64_t bus_quiet_until(struct bus *b, uint64_t addr)
{
	const struct segment *s;
	int64_t ns = 0;

	pthread_mutex_lock(b->machine_lock);
	s = seg_at(b, addr);
	if (s && s->first <= addr && s->r->ops->quiet_until)
		ns = s->r->ops->quiet_until(s->r->opaque, addr - s->r->base);
	pthread_mutex_unlock(b->machine_lock);
	return ns;
}

bool bus_covers(struct bus *b, uint64_t addr)
{
	const struct segment *s;
	bool yes;
	size_t i;

	pthread_rwlock_rdlock(&b->lock);
	s = seg_at(b, addr);
	i = bell_at(b, addr);
	yes = (s && s->first <= addr) || (i < b->n_bells && b->bells[i]->addr == addr);
	pthread_rwlock_unlock(&b->lock);
	return yes;
}
