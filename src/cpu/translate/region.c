/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where translated code and the records of its blocks live: a ring of regions,
 * filled one after the other.  When one is full the next, which has the oldest
 * code, must be free.  So the one behind it is retired at that moment:
 *
 *  - its blocks are taken from the tables and die (cache.c);
 *  - the generation grows, so that every vCPU forgets its jump cache and the exit it
 *    left by before it goes inside the next time.
 *
 * Who is inside already may go on in retired code; a region is filled anew only
 * when every vCPU has been outside since.  Nobody waits for that: there is a whole
 * region's time for it, and should it not do, code is interpreted meanwhile.
 *
 * Blocks call exec stubs, which all vCPUs share.  Each is marked with the number of the
 * filling in which a block last came to call it; when that filling's region is filled
 * anew, nobody can.
 *
 * A region's front part holds what blocks usually run, the other what they run
 * when a probe misses and the like: together they would fill the processor's
 * instruction cache with code that is not run.  A region is full when either part
 * is, so each is divided as the code in the one before was.
 *
 * Everything here runs under the engine's lock, but for xl_at_host.
 */
#include "cpu/translate/gen.h"

#define HEAT_MOST 63u		/* interp counts no further */

/* A region's records grow from below, and from its end downwards the list of its blocks in the
 * order of their code, as distances from the records' start. */
static uint32_t *order(const struct xl_engine *xe, unsigned r)
{
	return (uint32_t *)(xe->meta + (r + 1) * xe->region_meta);
}
static struct xl_block *block(const struct xl_engine *xe, unsigned r, uint32_t n)
{
	return (struct xl_block *)(xe->meta + r * xe->region_meta + order(xe, r)[-1 - (ptrdiff_t)n]);
}

void xl_regions_init(struct xl_engine *xe)
{
	size_t code = xe->size - xe->start;

	xe->n_regions = (unsigned)MIN((size_t)XL_MAX_REGIONS, code / (2 * GEN_MAX_CODE));
	xe->region_code = align_down(code / xe->n_regions, 64);
	xe->region_hot = align_down(xe->region_code * 9 / 16, 64);	/* an estimate until the first is full */
	xe->region_meta = align_down(xe->meta_size / xe->n_regions, 64);
	xe->filling = 1;
}

/* --- links --- */

static void put_displacement(struct xl_engine *xe, const struct xl_exit *e, uint32_t v)
{
	__atomic_store_n((uint32_t *)(xe->rw + e->patch), v, __ATOMIC_SEQ_CST);
}

static void forget_link(struct xl_exit *e)
{
	*e->to_prev = e->to_next;
	if (e->to_next)
		e->to_next->to_prev = e->to_prev;
	e->to_prev = NULL;
}

void xl_link(struct xl_engine *xe, struct xl_exit *e, struct xl_block *to)
{
	const struct xl_block *from = e->from;

	if (to->verp != from->verp || to->key != ((from->key & ~(XL_KEY_ACC_MASK | XL_KEY_NOGROUP)) | XL_KEY_OF_ACC(e->acc) | (e->nogroup ? XL_KEY_NOGROUP : 0)) ||
	    (to->gpa & 0xfff) != (uint64_t)e->target)
		return;
	pthread_mutex_lock(&xe->page_lock);
	if (atomic_load(&to->dead))	/* nothing would take the link back */
		goto out;
	if (e->to_prev)
		forget_link(e);
	else
		e->unlinked = *(uint32_t *)(xe->rw + e->patch);
	e->to_next = to->from;
	if (to->from)
		to->from->to_prev = &e->to_next;
	e->to_prev = &to->from;
	to->from = e;
	xl_order_made(xe);
	put_displacement(xe, e, (uint32_t)((e->forward ? to->entry_past : to->entry) - (xe->rx + e->patch + 4)));
out:
	pthread_mutex_unlock(&xe->page_lock);
}

void xl_unlink_all(struct xl_engine *xe, struct xl_block *to)
{
	struct xl_exit *next;

	for (struct xl_exit *e = to->from; e; e = next) {
		next = e->to_next;
		put_displacement(xe, e, e->unlinked);
		e->to_prev = NULL;
	}
	to->from = NULL;
}

/* --- retiring --- */

static void retire_block(struct xl_engine *xe, struct xl_block *b)
{
	xl_unpublish(xe, b);
	pthread_mutex_lock(&xe->page_lock);
	for (unsigned n = 0; n < b->n_exits; n++)
		if (b->exits[n].to_prev)
			forget_link(&b->exits[n]);
	pthread_mutex_unlock(&xe->page_lock);
}

static void note_most(struct xl_engine *xe)
{
	uint64_t code = 0, meta = 0;

	for (unsigned r = 0; r < xe->n_regions; r++) {
		code += xe->region[r].code + xe->region[r].cold;
		meta += xe->region[r].meta;
	}
	xe->most_code = MAX(xe->most_code, code);
	xe->most_meta = MAX(xe->most_meta, meta);
}

static void retire(struct xl_engine *xe, unsigned r)
{
	struct xl_region *g = &xe->region[r];
	uint32_t n = atomic_load_explicit(&g->n, memory_order_relaxed);

	if (!n)
		return;
	note_most(xe);
	for (uint32_t k = 0; k < n; k++)
		retire_block(xe, block(xe, r, k));
	atomic_fetch_add(&xe->generation, 1);
	/* Pairs with xl_go_inside: who is not seen inside here sees what was done above. */
	for (unsigned i = 0; i < xe->n_cpus; i++) {
		g->was_inside[i] = atomic_load(&xe->cpus[i]->inside);
		g->entered[i] = atomic_load(&xe->cpus[i]->entered);
	}
	g->retired = true;
	xe->n_retired++;
}

/* Has everybody been outside since the region was retired? */
static bool all_left(struct xl_engine *xe, unsigned r)
{
	struct xl_region *g = &xe->region[r];
	bool all = true;

	for (unsigned i = 0; i < xe->n_cpus; i++) {
		struct xl_cpu *x = xe->cpus[i];

		if (!g->was_inside[i])
			continue;
		if (atomic_load(&x->entered) != g->entered[i] || !atomic_load(&x->inside)) {
			g->was_inside[i] = false;
			continue;
		}
		vcpu_raise(&x->ic.c.vcpu, VCPU_EV_ENGINE);
		all = false;
	}
	return all;
}

static bool has_room(const struct xl_engine *xe, const struct xl_region *g, size_t meta)
{
	uint32_t n = atomic_load_explicit(&g->n, memory_order_relaxed);

	return g->code + GEN_LITTLE_CODE <= xe->region_hot && g->cold + GEN_LITTLE_CODE <= xe->region_code - xe->region_hot &&
	       g->meta + align_up(meta, 64) + (n + 1) * sizeof(uint32_t) <= xe->region_meta;
}

/*
 * A region is full.  Where code goes before it has paid for its translation, only
 * what runs more often is worth it: then blocks must have run longer in interp.
 */
static void adapt_heat(struct xl_engine *xe)
{
	uint64_t now = x86_host_tsc(), all = now - xe->tsc_filling, spent = xe->tsc_spent;
	unsigned heat = atomic_load(&xe->heat);

	xe->tsc_filling = now;
	xe->tsc_spent = 0;
	if (xe->heat_fixed || !xe->n_retired)
		return;
	if (spent > all / 8)
		heat = MIN(2 * heat, HEAT_MOST);
	else if (spent < all / 64)
		heat = MAX(heat / 2, xe->heat_least);
	atomic_store(&xe->heat, heat);
}

void xl_region_short(struct xl_engine *xe, const struct xl_room *room)
{
	size_t cold = xe->region_code - xe->region_hot;

	if (room->size < MIN((size_t)GEN_MAX_CODE, xe->region_hot) || room->cold_size < MIN((size_t)GEN_MAX_CODE, cold))
		xe->region[xe->cur].code = xe->region_hot;
}

/* Of the region that is begun. */
static void divide(struct xl_engine *xe)
{
	size_t all = xe->filled_hot + xe->filled_cold, quarter = xe->region_code / 4;

	if (all > quarter)
		xe->region_hot = align_down(MIN(MAX(xe->region_code * xe->filled_hot / all, quarter), 3 * quarter), 64);
	xe->filled_hot = xe->filled_cold = 0;
}

/* On to the next region.  False: somebody may be in it still. */
static bool advance(struct xl_engine *xe)
{
	unsigned next = (xe->cur + 1) % xe->n_regions;
	struct xl_region *g = &xe->region[next];

	if (g->retired && !all_left(xe, next)) {
		xe->n_no_room++;
		return false;
	}
	g->code = g->cold = g->meta = 0;
	g->retired = false;
	atomic_store(&g->n, 0);
	xe->cur = next;
	xe->filling++;
	divide(xe);
	adapt_heat(xe);
	retire(xe, (next + 1) % xe->n_regions);
	return true;
}

struct xl_block *xl_region_room(struct xl_engine *xe, size_t meta, struct xl_room *room)
{
	struct xl_region *g;

	if (!has_room(xe, &xe->region[xe->cur], meta) && !advance(xe))
		return NULL;
	g = &xe->region[xe->cur];
	room->at = xe->start + xe->cur * xe->region_code + g->code;
	room->size = xe->region_hot - g->code;
	room->cold_at = xe->start + xe->cur * xe->region_code + xe->region_hot + g->cold;
	room->cold_size = xe->region_code - xe->region_hot - g->cold;
	return (struct xl_block *)(xe->meta + xe->cur * xe->region_meta + g->meta);
}

/* Those that no block there is calls: most, as they belong to instructions that were copied. */
static void forget_stubs(struct xl_engine *xe)
{
	exec_cache_forget(xe->exec, xe->filling < xe->n_regions ? 1 : xe->filling - xe->n_regions + 1);
	xe->n_stubs_forgotten++;
}

bool xl_stub_room(struct xl_engine *xe)
{
	if (likely(!exec_cache_full(xe->exec)))
		return true;
	forget_stubs(xe);
	if (!exec_cache_full(xe->exec))
		return true;
	/* Blocks there are call too many different ones: the oldest go, a region at a time. */
	if (advance(xe))
		forget_stubs(xe);
	return !exec_cache_full(xe->exec);
}

void xl_region_keep(struct xl_engine *xe, const struct xl_block *b, size_t code, size_t cold, size_t meta)
{
	struct xl_region *g = &xe->region[xe->cur];
	uint32_t n = atomic_load_explicit(&g->n, memory_order_relaxed);

	for (const struct xl_uop *u = b->uops; u != (const struct xl_uop *)b->exits; u++)
		if (u->u.fn == op_exec || u->u.fn == op_exec_mem)
			exec_cache_keep(xe->exec, (uint32_t)u->u.ref, xe->filling);
	order(xe, xe->cur)[-1 - (ptrdiff_t)n] = (uint32_t)((const uint8_t *)b - (xe->meta + xe->cur * xe->region_meta));
	atomic_store_explicit(&g->n, n + 1, memory_order_release);
	g->code += align_up(code, 16);
	g->cold += cold;
	xe->filled_hot += align_up(code, 16);
	xe->filled_cold += cold;
	g->meta += align_up(meta, 64);
}

/* From a signal handler of a vCPU that is inside: what it may be in stays as it is. */
const struct xl_block *xl_at_host(const struct xl_engine *xe, uintptr_t pc)
{
	size_t at = pc - (uintptr_t)xe->rx;
	uint32_t lo = 0, hi;
	unsigned r;

	if (at < xe->start || at - xe->start >= xe->n_regions * xe->region_code)
		return NULL;
	r = (unsigned)((at - xe->start) / xe->region_code);
	hi = atomic_load_explicit(&xe->region[r].n, memory_order_acquire);
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (block(xe, r, mid)->code <= at)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo && at - block(xe, r, lo - 1)->code < block(xe, r, lo - 1)->code_len ? block(xe, r, lo - 1) : NULL;
}
