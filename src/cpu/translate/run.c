/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator at run time: choosing between translated code and interp, and
 * what emitted code calls.
 *
 * A vCPU marks itself `inside` around translated code: what it may be in then is
 * not filled anew (region.c).
 */
#include <ucontext.h>

#include "cpu/translate/direct.h"
#include "cpu/x86/cpuid.h"

static _Thread_local struct xl_cpu *current;

/* Does the current mode have translated code at all?  (Flat implies 32-bit code.) */
bool xl_can_translate(const struct x86_cpu *c)
{
	return (c->mode == X86_MODE_LONG64 || c->flat) && c->acc < XL_N_ACC;
}

void xl_interp_once(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	struct block *b;

	x->step = false;
	c->cur_uop = NULL;
	b = interp_block(&x->ic, true);
	c->s.shadow = 0;
	interp_run_block(c, b);
}

void xl_go_inside(struct xl_cpu *x)
{
	uint32_t gen;

	atomic_store_explicit(&x->entered, atomic_load_explicit(&x->entered, memory_order_relaxed) + 1, memory_order_relaxed);
	atomic_store(&x->inside, true);		/* pairs with retire in region.c */
	gen = atomic_load(&x->xe->generation);
	if (unlikely(x->generation != gen)) {	/* forget what led to code that was given up */
		x->generation = gen;
		x->exit = NULL;
		xl_forget_code(x);
	}
}

static void run_cold(struct xl_cpu *x, const struct x86_tlb_entry *e, uint32_t key)
{
	struct x86_cpu *c = &x->ic.c;
	struct block *ib = interp_next_block(&x->ic);
	const struct xl_block *b = NULL;

	x->exit = NULL;
	if ((++ib->heat >= atomic_load_explicit(&x->xe->heat, memory_order_relaxed) || x->nogroup) && ib != x->ic.scratch && e) {
		ib->heat = 0;
		pthread_mutex_lock(&x->xe->lock);
		if (x->generation == atomic_load(&x->xe->generation))
			b = xl_translate(x, e, key);
		pthread_mutex_unlock(&x->xe->lock);
		if (b)
			return;
	}
	x->nogroup = false;
	interp_run_block(c, ib);
}

static void link_exit(struct xl_cpu *x, struct xl_block *b)
{
	struct xl_engine *xe = x->xe;

	pthread_mutex_lock(&xe->lock);
	/* Dropping takes the lock too: no generation change means both still exist. */
	if (x->generation == atomic_load(&xe->generation))
		xl_link(xe, x->exit, b);
	pthread_mutex_unlock(&xe->lock);
	x->exit = NULL;
	x->n_link++;
}

/*
 * True: the block at s.rip was run by interp, as a few times before; it is not due.  Whether it has been
 * translated for somebody else meanwhile shows when it is.
 */
static bool still_cold(struct xl_cpu *x)
{
	struct block *b = interp_known_block(&x->ic);

	if (!b || !b->heat || b->heat + 1u >= atomic_load_explicit(&x->xe->heat, memory_order_relaxed) || x->nogroup)
		return false;
	b->heat++;
	x->exit = NULL;
	interp_run_block(&x->ic.c, b);
	return true;
}

void xl_enter(struct xl_cpu *x, const struct xl_block *b)
{
	struct x86_cpu *c = &x->ic.c;

	x->nogroup = false;
	x->n_enter++;
	x->xe->t.enter(x, b->ientry);
	xl_order_seen(x->xe);
	xl_count_exit(x);
	if (x->exit) {
		c->s.rip = c->blk_rip + (uint64_t)(int64_t)x->exit->target;
		x->nogroup = x->exit->nogroup;
	}
}

/* One step of the loop: a stretch of translated code, or one interp block. */
static void run_one(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	struct xl_block *b;
	uint32_t key;

	if (xl_direct_crosses(x))
		xl_direct_crossed(x);
	/* What left translated code in STI's shadow is done here, by itself, before anything is let in. */
	if (x->step || unlikely(c->s.shadow)) {
		xl_interp_once(x);
		return;
	}
	/* With an event that cannot be served now (an NMI within one's handler)
	 * translated code would leave at its first block: interp makes headway. */
	if (!xl_can_translate(c) || unlikely(atomic_load_explicit(&c->vcpu.events, memory_order_relaxed))) {
		interp_run_block(c, interp_next_block(&x->ic));
		return;
	}
	if (still_cold(x))
		return;
	if (unlikely(x->direct_on)) {
		xl_direct_run(x);
		return;
	}
	c->cur_uop = NULL;
	e = x86_tlb_fill(c, c->s.rip, X86_EXEC, (enum x86_acc)c->acc);
	if (!e) {
		run_cold(x, NULL, 0);
		return;
	}
	xl_go_inside(x);
	key = xl_key(c);
	if (unlikely(key != x->jc_key[c->acc])) {
		x->jc_key[c->acc] = key;
		xl_jc_clear(x, c->acc);
	}
	if (x->nogroup)
		key |= XL_KEY_NOGROUP;
	b = xl_lookup(x->xe, e->gpa | (c->s.rip & 0xfff), key, e->version);
	if (!b || x->exit) {
		atomic_store_explicit(&x->inside, false, memory_order_release);
		if (b)
			link_exit(x, b);
		else
			run_cold(x, e, key);
		return;
	}
	if (!x->nogroup)
		xl_jc_put(x, c->s.rip, b, e->global);
	xl_enter(x, b);
	atomic_store_explicit(&x->inside, false, memory_order_release);
}

struct xl_block *xl_block_here(struct xl_cpu *x, const struct x86_tlb_entry *e)
{
	uint32_t key = xl_key(&x->ic.c);
	struct xl_engine *xe = x->xe;

	x->jc_key[x->ic.c.acc] = key;	/* what STAC and CLAC look at; the caches stay empty */
	key |= x->nogroup ? XL_KEY_NOGROUP : 0;

	for (unsigned n = 0; n < 2; n++) {
		struct xl_block *b;

		xl_go_inside(x);
		b = xl_lookup(xe, e->gpa | (x->ic.c.s.rip & 0xfff), key, e->version);
		if (b)
			return b;
		atomic_store_explicit(&x->inside, false, memory_order_release);
		pthread_mutex_lock(&xe->lock);
		if (x->generation == atomic_load(&xe->generation))
			xl_translate(x, e, key);
		pthread_mutex_unlock(&xe->lock);
	}
	return NULL;
}

static bool on_host_fault(void *uc)
{
	greg_t *r = ((ucontext_t *)uc)->uc_mcontext.gregs;
	uintptr_t pc = (uintptr_t)r[REG_RIP];
	const struct xl_block *b;
	struct xl_cpu *x = current;
	const struct xl_insn *f = NULL;

	if (!x || pc < (uintptr_t)x->xe->rx + x->xe->start || pc >= (uintptr_t)x->xe->rx + x->xe->size)
		return false;
	b = xl_at_host(x->xe, pc);
	if (!b)
		return false;
	for (unsigned n = 0; n < b->n_insns; n++)
		if (b->insns[n].host <= pc - (uintptr_t)x->xe->rx - b->code)
			f = &b->insns[n];
	if (!f)
		return false;
	x->ic.c.s.rip = x->ic.c.blk_rip + f->off;
	x->step = true;
	x->n_fault++;
	if (f->x87_late) {
		x->x87_last = XL_X87_LAST(f[-1].fop, f[-1].off);
		x->x87_page = x->ic.c.blk_rip;
	}
	r[REG_RIP] = (greg_t)(f->flags_host ? x->xe->t.fault_h : x->xe->t.fault_m);
	return true;
}

void xl_thread_is(struct xl_cpu *x)
{
	current = x;
	exec_fault_hook = on_host_fault;
}

void xl_run(struct interp_cpu *ic)
{
	struct xl_cpu *x = (struct xl_cpu *)ic;
	struct x86_cpu *c = &ic->c;

	xl_thread_is(x);
	x->exit = NULL;
	if (x->direct)
		xl_direct_unbind(x->direct);
	do {
		run_one(x);
	} while (likely(!c->leave_block) && likely(!atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)));
}

void xl_aborted(struct interp_cpu *ic)
{
	struct xl_cpu *x = (struct xl_cpu *)ic;

	atomic_store(&x->inside, false);
	x->exit = NULL;
	x->step = false;
	x->nogroup = false;
	x->desc2 = 0;
	if (x->direct)
		xl_direct_unbind(x->direct);
	if (x->own_stubs)
		ic->stubs = x->own_stubs;
}

/* --- called by emitted code; 0: go on there --- */

int xl_do_callout(struct xl_cpu *x, const struct uop *u)
{
	struct x86_cpu *c = &x->ic.c;
	const struct uop *next;
	uint8_t acc = c->acc;

	xl_order_seen(x->xe);
	/* The uop's stub, if it has one, is in the cache that all vCPUs share. */
	x->own_stubs = x->ic.stubs;
	x->ic.stubs = exec_cache_pool(x->xe->exec);
	next = u->fn(c, u);
	x->ic.stubs = x->own_stubs;
	x->n_callout[((const struct xl_uop *)u)->mnemonic]++;
	x->exit = NULL;
	if (!next)
		return 1;
	if (likely(!c->leave_block && c->acc == acc))
		return 0;
	c->s.rip = uop_next(c, u);
	return 1;
}

/* An operand over two pages of memory: the instruction works on a copy. Raises
 * what the access raises; false: device memory or the like is in it. */
static bool bounce(struct xl_cpu *x, uint64_t lin, unsigned how, unsigned len)
{
	unsigned first = (unsigned)(PAGE_4K - (lin & 0xfff));
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	uint64_t lin2 = lin + first;

	e = x86_tlb_fill(c, lin, (enum x86_how)how, (enum x86_acc)c->acc);
	if (!e)
		return false;
	memcpy(x->bounce, (const void *)(lin + e->addend), first);
	e = x86_tlb_fill(c, lin2, (enum x86_how)how, (enum x86_acc)c->acc);
	if (!e)
		return false;
	memcpy(x->bounce + first, (const void *)(lin2 + e->addend), len - first);
	x->bounce_lin = lin;
	x->bounce_len = len;
	x->bounced = true;
	x->store_flags = &x->bounce_flags;
	x->sv_r10 = (uintptr_t)x->bounce;
	x->sv_r11 = XL_TLB_SIZE;
	return true;
}

/* The instruction at blk_rip + off is one of what. */
static void place_is(struct xl_cpu *x, unsigned off, unsigned what)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e = x86_tlb_fill(c, c->blk_rip, X86_EXEC, (enum x86_acc)c->acc);

	if (e)
		xl_place_is(x->xe, e->gpa | off, e->version, what);
}

/* A group that reads before it writes: only a page that is writable already will do. */
static bool writable_now(struct xl_cpu *x, uint64_t lin, unsigned off)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e = x86_tlb_fill(c, lin, X86_READ, (enum x86_acc)c->acc);

	if (e && x86_tlb_cached(c, lin, X86_WRITE, (enum x86_acc)c->acc))
		return true;
	if (++x->n_unsure % 64 <= 1)	/* light.c counts too */
		place_is(x, off, XL_PLACE_SPLIT);
	return false;
}

int xl_do_miss(struct xl_cpu *x, uint64_t lin)
{
	unsigned off = x->desc & 0x1fff, how = x->desc >> 13 & 3, len = x->desc >> 16;
	uint32_t d2 = x->desc2;
	bool odd, parts = d2 & XL_DESC2_PARTS, elsewhere = !(d2 & XL_DESC2_PAGE);
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;

	x->n_miss[x->ic.c.acc][how]++;
	x->exit = NULL;
	x->bounced = false;
	x->desc2 = 0;
	c->cur_uop = NULL;
	c->s.rip = c->blk_rip + off;
	if (unlikely(xl_x87_error(c))) {	/* #MF comes before #PF */
		x->step = true;
		return 1;
	}
	if (d2 & XL_DESC2_GROUP) {
		if ((lin & 0xfff) + len > PAGE_4K) {
			x->nogroup = true;
			return 1;
		}
		lin += d2 & 0xffff;	/* if it faults, it does so there */
		len = d2 >> 16 & 0xff;
	}
	odd = (x->desc & XL_DESC_ALIGNED) && (lin & (len - 1));
	odd |= c->mode != X86_MODE_LONG64 && lin + len > 1ull << 32;	/* or a segment that is odd itself */
	if (x86_canonical(c, lin) && x86_canonical(c, lin + len - 1) && !odd) {
		if ((d2 & XL_DESC2_SOFT) && !writable_now(x, lin, off)) {
			x->nogroup = true;
			return 1;
		}
		if ((lin & 0xfff) + len <= PAGE_4K) {
			e = parts ? x86_tlb_cached(c, lin, (enum x86_how)how, (enum x86_acc)c->acc)
				   : x86_tlb_fill(c, lin, (enum x86_how)how, (enum x86_acc)c->acc);
			if (e && xl_guarded(x, e, how)) {
				if (d2 & XL_DESC2_GROUP) {
					x->nogroup = true;
					return 1;
				}
				if (elsewhere) {
					xl_store_at(x, e, lin);
					return 0;
				}
			} else if (e) {
				xl_tlb_put(x, e, lin, how);
				return 0;
			}
		} else if (!parts && elsewhere && bounce(x, lin, how, len)) {
			return 0;
		}
	}
	x->n_slow++;
	x->step = true;
	return 1;
}

/* A store hit a page that holds code, or the bounce buffer; s.rip is where to go on. */
int xl_do_stored(struct xl_cpu *x, uint64_t host, _Atomic uint8_t *flags)
{
	struct x86_cpu *c = &x->ic.c;

	x->exit = NULL;
	if (flags == &x->bounce_flags) {
		x86_mem_write(c, x->bounce_lin, x->bounce, x->bounce_len, (enum x86_acc)c->acc);
		return c->leave_block;
	}
	if (!x86_codemap_hit_page(c->codemap, flags, host & 0xfff, x->desc >> 16))
		return 0;
	c->smc_hit = true;
	c->leave_block = true;
	return 1;
}
