/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where decoded blocks live.
 *
 * The arena is a ring of segments that are filled one after the other.  When the
 * next one in the ring is due again, its blocks are given up, but for those that
 * were looked up since they were last passed over: these move together to the
 * segment's start and stay (blocks are free of addresses, so moving is copying).
 * The front table is emptied at each such turn, so a block in use is looked up
 * again soon, and a block that ran once is not.
 *
 * Most of what a booting kernel runs it runs once, so few segments do.  How many
 * are needed the guest decides: a table of the addresses lately given up tells
 * which instructions are decoded again; when that work is a noticeable part of
 * all, the ring grows instead of turning, and when it is next to nothing, the
 * ring shrinks and the memory goes back to the host.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/interp/interp.h"

#define ARENA_MAX ((size_t)ARENA_SEGS * ARENA_SEG)
#define ARENA_MIN_SEGS 8u
/* Decoding an instruction takes as long as running some 40: the ring grows when over
 * the last turns every sixth nanosecond went into decoding again (docs/SPEC.md has
 * what other bounds would cost). */
#define GROW_AT 200u
#define SHRINK_AT (GROW_AT * 16)

_Static_assert(ARENA_MAX / BLOCK_UNIT < 1u << 24, "hash_next");

static uint64_t mix(uint64_t gpa) { return gpa * 0x9e3779b97f4a7c15ull; }
static uint32_t *bucket(struct arena *a, uint64_t gpa) { return &a->hash[mix(gpa) >> (64 - BHASH_BITS)]; }

static struct block *at_unit(const struct arena *a, uint32_t unit)
{
	return unit ? (struct block *)(a->base + (size_t)unit * BLOCK_UNIT) : NULL;
}
static uint32_t unit_of(const struct arena *a, const struct block *b)
{
	return (uint32_t)(((const uint8_t *)b - a->base) / BLOCK_UNIT);
}

struct block *arena_first(const struct interp_cpu *ic, uint64_t gpa)
{
	return at_unit(&ic->arena, ic->arena.hash[mix(gpa) >> (64 - BHASH_BITS)]);
}
struct block *arena_next(const struct interp_cpu *ic, const struct block *b)
{
	return at_unit(&ic->arena, b->hash_next);
}

static void link_block(struct arena *a, struct block *b)
{
	uint32_t *h = bucket(a, b->gpa);

	b->hash_next = *h & 0xffffff;
	*h = unit_of(a, b);
}

/* False: it had been unlinked before, being stale. */
static bool unlink_block(struct arena *a, struct block *b)
{
	uint32_t *h = bucket(a, b->gpa), unit = unit_of(a, b);
	struct block *p;

	if (*h == unit) {
		*h = b->hash_next;
		return true;
	}
	for (p = at_unit(a, *h); p; p = at_unit(a, p->hash_next))
		if (p->hash_next == unit) {
			p->hash_next = b->hash_next;
			return true;
		}
	return false;
}

void arena_unlink(struct interp_cpu *ic, struct block *b) { unlink_block(&ic->arena, b); }

/* --- what was given up --- */

static uint16_t *ghost(struct arena *a, uint64_t gpa) { return &a->ghost[mix(gpa) >> (64 - GHOST_BITS)]; }
static uint16_t ghost_tag(uint64_t gpa) { return (uint16_t)(mix(gpa) >> 32 | 1); }

/* --- turning --- */

/* Unit 0 of the arena stands for "none". */
static uint32_t seg_start(unsigned seg) { return seg ? 0 : BLOCK_UNIT; }

/* Gives up the segment's blocks; those in use move to its start if `keep`. */
static void recycle(struct interp_cpu *ic, unsigned seg, bool keep)
{
	struct arena *a = &ic->arena;
	uint8_t *base = a->base + (size_t)seg * ARENA_SEG;
	uint32_t to = seg_start(seg), at = to, size;

	for (; at < a->fill[seg]; at += size) {
		struct block *b = (struct block *)(base + at);
		bool linked = unlink_block(a, b);

		size = b->units * BLOCK_UNIT;
		if (keep && linked && b->used && block_current(b) && to < ARENA_SEG / 4 * 3) {
			b = memmove(base + to, b, size);
			b->used = false;
			link_block(a, b);
			to += size;
			a->n_kept++;
		} else if (linked) {
			*ghost(a, b->gpa) = ghost_tag(b->gpa);
		}
	}
	a->fill[seg] = to;
}

static void give_back(struct arena *a, unsigned seg)
{
	madvise(a->base + (size_t)seg * ARENA_SEG, ARENA_SEG, MADV_DONTNEED);
}

/* The current segment is full: on to another one. */
static void turn(struct interp_cpu *ic)
{
	struct arena *a = &ic->arena;

	memset(ic->front, 0, sizeof(ic->front));
	a->run += ic->c.n_insn - a->turned_at;
	a->turned_at = ic->c.n_insn;
	if (a->n < ARENA_SEGS && (a->n < ARENA_MIN_SEGS || a->run < a->again * GROW_AT)) {
		a->cur = a->n++;
		a->fill[a->cur] = seg_start(a->cur);
		a->again /= 2;
	} else {
		if (a->n > ARENA_MIN_SEGS && a->cur != a->n - 1 && a->run > a->again * SHRINK_AT) {
			a->n--;
			recycle(ic, a->n, false);
			give_back(a, a->n);
		}
		a->cur = (a->cur + 1) % a->n;
		recycle(ic, a->cur, true);
	}
	a->run -= a->run / 16;
	a->again -= a->again / 16;
}

struct block *arena_room(struct interp_cpu *ic)
{
	struct arena *a = &ic->arena;

	while (a->fill[a->cur] + BLOCK_MAX_UNITS * BLOCK_UNIT > ARENA_SEG)
		turn(ic);
	return (struct block *)(a->base + (size_t)a->cur * ARENA_SEG + a->fill[a->cur]);
}

void arena_keep(struct interp_cpu *ic, struct block *b)
{
	struct arena *a = &ic->arena;

	a->fill[a->cur] += b->units * BLOCK_UNIT;
	link_block(a, b);
	if (*ghost(a, b->gpa) == ghost_tag(b->gpa)) {
		*ghost(a, b->gpa) = 0;
		a->again += b->n;
		a->n_again++;
	}
}

void arena_drop(struct interp_cpu *ic)
{
	struct arena *a = &ic->arena;

	memset(ic->front, 0, sizeof(ic->front));
	memset(a->hash, 0, sizeof(a->hash));
	memset(a->ghost, 0, sizeof(a->ghost));
	for (unsigned seg = 1; seg < a->n; seg++)
		give_back(a, seg);
	a->n = 1;
	a->cur = 0;
	a->fill[0] = seg_start(0);
	a->again = a->run = 0;
	a->turned_at = ic->c.n_insn;
}

int arena_init(struct interp_cpu *ic)
{
	struct arena *a = &ic->arena;
	void *p = mmap(NULL, ARENA_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	a->base = p;
	a->n = 1;
	a->fill[0] = seg_start(0);
	return 0;
}

void arena_free(struct interp_cpu *ic)
{
	if (ic->arena.base)
		munmap(ic->arena.base, ARENA_MAX);
}
