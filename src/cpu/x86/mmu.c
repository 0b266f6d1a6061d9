/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paging and guest memory access for the software engines (SDM vol. 3, ch. 4).
 *
 * All paging modes: 32-bit with PSE, PAE, 4-level, 5-level.  Accessed and dirty
 * bits are set by locked compare-and-exchange in guest memory, after all checks
 * of the access have passed.  Page-table reads see memory as other vCPUs leave it.
 *
 * The TLB caches translations per access class; PCIDs are accepted and not
 * tagged (a legal, if less remembering, TLB; kept generations for the last
 * twelve were tried: context switches took as long).  Global pages survive the flush of
 * CR3 writes only in the sense that nothing forbids dropping them: the flush
 * drops everything.  A flush is a change of generation, so it costs nothing.
 */
#include <string.h>

#include "cpu/x86/trial.h"
#include "machine/ahead.h"

#define PTE_P 0x001ull
#define PTE_W 0x002ull
#define PTE_U 0x004ull
#define PTE_A 0x020ull
#define PTE_D 0x040ull
#define PTE_PS 0x080ull
#define PTE_PAT_LARGE 0x1000ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
#define PHYS_BITS 48		/* widest any model offers; narrower ones reserve more */
#define ADDR_MASK 0x000ffffffffff000ull

#define PF_P 1u
#define PF_W 2u
#define PF_U 4u
#define PF_RSVD 8u
#define PF_I 16u

/* A finished walk. */
struct walk {
	uint64_t gpa;			/* of the byte asked for */
	bool write_ok, user, exec_ok;	/* accumulated over the levels */
	bool dirty;			/* leaf's D bit is set (or becomes so) */
	bool rsvd, present;
	uint64_t leaf_gpa, leaf;	/* where the leaf entry is, and what it said */
	unsigned leaf_size;		/* 4 or 8 */
	unsigned n_levels;		/* entries to mark accessed */
	uint64_t entry_gpa[5];
	uint64_t entry[5];
};

/* Called for what only model knowledge tells: bits above MAXPHYADDR are reserved. */
static uint64_t reserved_high(const struct x86_cpu *c)
{
	return 0x000fffffffffffffull & ~((1ull << c->phys_bits) - 1);
}

/* The range that holds gpa, or NULL.  Valid until the map changes. */
static const struct mem_range *range_at(struct x86_cpu *c, uint64_t gpa)
{
	struct mem_range *r;

	for (unsigned n = 0; n < ARRAY_LEN(c->ranges); n++)
		if (gpa - c->ranges[n].gpa < c->ranges[n].size)
			return &c->ranges[n];
	if (c->light) {
		c->light_failed = true;
		return NULL;
	}
	r = &c->ranges[c->range_turn++ % ARRAY_LEN(c->ranges)];
	if (mem_find(c->vcpu.m->mem, gpa, r))
		return r;
	r->size = 0;
	return NULL;
}

/* A paging-structure entry (naturally aligned, so in one range), or NULL. */
static void *entry_ptr(struct x86_cpu *c, uint64_t gpa, bool write)
{
	const struct mem_range *r = range_at(c, gpa);

	return r && !(write && r->kind != MEM_RAM) ? r->host + (gpa - r->gpa) : NULL;
}

static bool read_entry(struct x86_cpu *c, uint64_t gpa, unsigned size, uint64_t *out)
{
	void *p = entry_ptr(c, gpa, false);

	if (!p) {
		*out = size == 8 ? ~0ull : 0xffffffffu;	/* nothing answers: all ones */
		return false;
	}
	*out = size == 8 ? __atomic_load_n((uint64_t *)p, __ATOMIC_ACQUIRE)
			 : __atomic_load_n((uint32_t *)p, __ATOMIC_ACQUIRE);
	return true;
}

static void walk_32(struct x86_cpu *c, uint64_t lin, struct walk *w)
{
	bool pse = c->s.cr4 & X86_CR4_PSE;
	uint64_t e;

	w->leaf_size = 4;
	w->exec_ok = true;
	w->entry_gpa[0] = (c->s.cr3 & 0xfffff000u) + ((lin >> 22) & 0x3ff) * 4;
	read_entry(c, w->entry_gpa[0], 4, &e);
	w->entry[0] = e;
	w->n_levels = 1;
	if (!(e & PTE_P))
		return;
	w->write_ok = e & PTE_W;
	w->user = e & PTE_U;
	if (pse && (e & PTE_PS)) {
		/* PSE-36: bits 20:13 are address bits 39:32; bit 21 is reserved. */
		w->rsvd = e & (1u << 21);
		w->gpa = (e & 0xffc00000u) | ((e >> 13) & 0xff) << 32 | (lin & 0x3fffff);
		if (c->phys_bits < 40 && ((e >> 13) & 0xff) >> (c->phys_bits > 32 ? c->phys_bits - 32 : 0))
			w->rsvd = true;
	} else {
		w->entry_gpa[1] = (e & 0xfffff000u) + ((lin >> 12) & 0x3ff) * 4;
		read_entry(c, w->entry_gpa[1], 4, &e);
		w->entry[1] = e;
		w->n_levels = 2;
		if (!(e & PTE_P))
			return;
		w->write_ok = w->write_ok && (e & PTE_W);
		w->user = w->user && (e & PTE_U);
		w->gpa = (e & 0xfffff000u) | (lin & 0xfff);
	}
	w->present = true;
}

/* PAE, 4- and 5-level: 8-byte entries, `level` counts down to 1. */
static void walk_64(struct x86_cpu *c, uint64_t lin, struct walk *w)
{
	bool lm = c->long_mode, nxe = c->s.efer & X86_EFER_NXE;
	uint64_t high = lm ? reserved_high(c) : (0x7fffffffffffffffull & ~((1ull << c->phys_bits) - 1));
	unsigned level = lm ? (c->s.cr4 & X86_CR4_LA57 ? 5 : 4) : 2;
	uint64_t table = c->s.cr3 & ADDR_MASK, e;

	w->leaf_size = 8;
	w->write_ok = w->user = w->exec_ok = true;
	if (!lm) {
		e = c->s.pae_pdpte[(lin >> 30) & 3];
		if (!(e & PTE_P))
			return;
		table = e & ADDR_MASK;
	}
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);

		w->entry_gpa[w->n_levels] = table + ((lin >> shift) & 0x1ff) * 8;
		read_entry(c, w->entry_gpa[w->n_levels], 8, &e);
		w->entry[w->n_levels++] = e;
		if (!(e & PTE_P))
			return;
		w->rsvd |= (e & high) || (!nxe && (e & PTE_NX));
		w->write_ok = w->write_ok && (e & PTE_W);
		w->user = w->user && (e & PTE_U);
		w->exec_ok = w->exec_ok && !(nxe && (e & PTE_NX));
		if (level >= 4)
			w->rsvd |= (e & PTE_PS) != 0;
		else if (level == 3)
			w->rsvd |= (e & PTE_PS) && !c->has_1g;
		if (w->rsvd)
			break;
		if (level == 1 || ((e & PTE_PS) && level <= 3)) {
			uint64_t size_mask = (1ull << shift) - 1;

			if (level > 1)
				w->rsvd = e & size_mask & ADDR_MASK & ~PTE_PAT_LARGE;
			w->gpa = (e & ADDR_MASK & ~size_mask) | (lin & size_mask);
			break;
		}
		table = e & ADDR_MASK;
	}
	w->present = true;
}

/* (Not memset: libc's may use vector registers.) */
static void walk_init(struct walk *w)
{
	w->gpa = 0;
	w->write_ok = w->user = w->exec_ok = w->dirty = w->rsvd = w->present = false;
	w->leaf_size = w->n_levels = 0;
}

static void walk_tables(struct x86_cpu *c, uint64_t lin, struct walk *w)
{
	walk_init(w);
	if (c->s.cr4 & X86_CR4_PAE)
		walk_64(c, lin, w);
	else
		walk_32(c, lin & 0xffffffffu, w);
}

/* Does somebody want to know of writes to the page? */
static bool page_noted(struct x86_cpu *c, uint64_t gpa)
{
	const struct mem_range *r = range_at(c, gpa);

	return !r || mem_dirty_enabled(c->vcpu.m->mem) ||
	       (atomic_load_explicit(r->flags + (gpa - r->gpa) / PAGE_4K, memory_order_relaxed) & (MEM_PG_CODE | MEM_PG_WATCH));
}

/* As mem_written, which takes locks and looks for the range again, if need be. */
static void entry_written(struct x86_cpu *c, uint64_t gpa, unsigned size)
{
	atomic_thread_fence(memory_order_seq_cst);
	if (likely(!page_noted(c, gpa)))
		return;
	if (c->light) {		/* marked only just now: x86_tlb_fill, which comes next, tells */
		c->light_failed = true;
		c->light_wrote = gpa | 1;
		return;
	}
	mem_written(c->vcpu.m->mem, gpa, size);
}

/* Sets bits of an entry unless it changed; false: changed, walk again. */
static bool entry_or(struct x86_cpu *c, uint64_t gpa, unsigned size, uint64_t old, uint64_t bits)
{
	uint32_t old32 = (uint32_t)old;
	void *p;
	bool ok;

	if ((old & bits) == bits)
		return true;
	if (c->light && (c->light_failed || page_noted(c, gpa))) {
		c->light_failed = true;
		return true;
	}
	p = entry_ptr(c, gpa, true);
	if (!p)
		return true;	/* tables in ROM: the bits stay clear */
	if (size == 8)
		ok = __atomic_compare_exchange_n((uint64_t *)p, &old, old | bits, false, __ATOMIC_SEQ_CST,
						 __ATOMIC_RELAXED);
	else
		ok = __atomic_compare_exchange_n((uint32_t *)p, &old32, old32 | (uint32_t)bits, false,
						 __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	if (ok)
		entry_written(c, gpa, size);
	return ok;
}

static bool set_accessed_dirty(struct x86_cpu *c, const struct walk *w, bool write)
{
	unsigned leaf = w->n_levels - 1;

	for (unsigned i = 0; i < leaf; i++)
		if (!entry_or(c, w->entry_gpa[i], w->leaf_size, w->entry[i], PTE_A))
			return false;
	return entry_or(c, w->entry_gpa[leaf], w->leaf_size, w->entry[leaf], write ? PTE_A | PTE_D : PTE_A);
}

/* SDM 4.6.1: is the access allowed by a finished walk? */
static bool allowed(const struct x86_cpu *c, const struct walk *w, enum x86_how how, enum x86_acc acc)
{
	bool user = acc == X86_ACC_USER;

	if (user && !w->user)
		return false;
	if (how == X86_EXEC)
		return w->exec_ok && !(!user && w->user && (c->s.cr4 & X86_CR4_SMEP));
	if (!user && w->user && (c->s.cr4 & X86_CR4_SMAP) && acc == X86_ACC_SUP)
		return false;
	if (how == X86_WRITE && !w->write_ok)
		return !user && !(c->s.cr0 & X86_CR0_WP);
	return true;
}

static uint32_t pf_error(const struct x86_cpu *c, const struct walk *w, enum x86_how how, enum x86_acc acc)
{
	uint32_t err = w->present || w->rsvd ? PF_P : 0;

	if (how == X86_WRITE)
		err |= PF_W;
	if (acc == X86_ACC_USER)
		err |= PF_U;
	if (w->rsvd)
		err |= PF_RSVD;
	if (how == X86_EXEC && ((c->s.efer & X86_EFER_NXE && c->s.cr4 & X86_CR4_PAE) || (c->s.cr4 & X86_CR4_SMEP)))
		err |= PF_I;
	return err;
}

/* Translates one byte's address. False: a page fault. */
static bool translate(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc, struct walk *w)
{
	if (!c->paging) {
		walk_init(w);
		w->gpa = lin & 0xffffffffu;
		w->write_ok = w->user = w->exec_ok = w->present = w->dirty = true;
		return true;
	}
	for (;;) {
		walk_tables(c, lin, w);
		if (!w->present || w->rsvd || !allowed(c, w, how, acc))
			return false;
		if (set_accessed_dirty(c, w, how == X86_WRITE))
			break;
	}
	w->dirty = how == X86_WRITE || (w->entry[w->n_levels - 1] & PTE_D);
	return true;
}

bool x86_debug_translate(struct x86_cpu *c, uint64_t lin, uint64_t *gpa)
{
	struct walk w;

	if (!c->paging) {
		*gpa = lin & 0xffffffffu;
		return true;
	}
	walk_tables(c, lin, &w);
	*gpa = w.gpa;
	return w.present && !w.rsvd;
}

bool x86_load_pdpte(struct x86_cpu *c, uint64_t cr3)
{
	uint64_t rsvd = 0x7fffffffffffffffull & ~((1ull << c->phys_bits) - 1), e[4];

	for (unsigned i = 0; i < 4; i++) {
		read_entry(c, (cr3 & 0xffffffe0u) + i * 8, 8, &e[i]);
		if ((e[i] & PTE_P) && (e[i] & (rsvd | PTE_NX | 0x1e6)))
			return false;
	}
	memcpy(c->s.pae_pdpte, e, sizeof(e));
	return true;
}

/* --- TLB --- */

static void flush_own(struct x86_cpu *c)
{
	if (++c->tlb_gen > X86_TLB_GEN_MAX) {
		for (unsigned a = 0; a < X86_N_ACC; a++)
			for (unsigned i = 0; i < X86_TLB_SIZE; i++)
				for (unsigned how = 0; how < 3; how++)
					c->tlb[a][i].tag[how] = 0;
		c->tlb_gen = 1;
	}
}

static void forget_large(struct x86_cpu *c)
{
	for (unsigned k = 0; k < X86_LARGE_WORDS; k++)
		c->large[0][k] = c->large[1][k] = 0;
}

void x86_tlb_flush(struct x86_cpu *c)
{
	c->apic_base_known = false;
	flush_own(c);
	forget_large(c);
	if (c->tlb_flushed)
		c->tlb_flushed(c, X86_FLUSH_ALL);
}

void x86_tlb_flush_nonglobal(struct x86_cpu *c)
{
	flush_own(c);
	if (c->tlb_flushed)
		c->tlb_flushed(c, X86_FLUSH_NONGLOBAL);
	else
		forget_large(c);
}

void x86_load_cr3(struct x86_cpu *c, uint64_t v, bool keep)
{
	/* The software TLB is not tagged: keeping it is right only when the tables
	 * stay the same. */
	if (!keep || v != c->s.cr3) {
		c->flush_keeps = keep;
		x86_tlb_flush_nonglobal(c);
		c->flush_keeps = false;
	}
	c->s.cr3 = v;
}

void x86_map_changed(struct x86_cpu *c)
{
	memset(c->ranges, 0, sizeof(c->ranges));
	x86_tlb_flush(c);
}

static uint64_t *large_word(struct x86_cpu *c, uint64_t lin, bool gib, uint64_t *bit)
{
	uint64_t h = (lin >> (gib ? 30 : 21)) * 0x9e3779b97f4a7c15ull >> 54;

	*bit = 1ull << (h & 63);
	return &c->large[gib][h >> 6];
}

_Static_assert(X86_LARGE_WORDS == 1024 / 64, "ten bits of hash");

/* A piece of a large page goes into the TLB. (4 MiB pages count as two of 2 MiB.) */
static void note_large(struct x86_cpu *c, uint64_t lin, const struct walk *w)
{
	unsigned full = !(c->s.cr4 & X86_CR4_PAE) ? 2 : !c->long_mode ? 2 : c->s.cr4 & X86_CR4_LA57 ? 5 : 4;
	uint64_t bit, *word;

	if (!c->paging || w->n_levels >= full)
		return;
	if (w->leaf_size == 4) {
		uint64_t *other = large_word(c, lin ^ 0x200000, false, &bit);

		*other |= bit;
	}
	word = large_word(c, lin, w->n_levels + 1 < full, &bit);
	*word |= bit;
}

static bool maybe_large(struct x86_cpu *c, uint64_t lin)
{
	uint64_t b2, b1, *w2 = large_word(c, lin, false, &b2), *w1 = large_word(c, lin, true, &b1);

	return (*w2 & b2) || (*w1 & b1);
}

void x86_tlb_flush_page(struct x86_cpu *c, uint64_t lin)
{
	unsigned i = (lin >> 12) & (X86_TLB_SIZE - 1);

	/* INVLPG drops all of a large page (SDM vol. 3, 4.10.4.1). */
	if (maybe_large(c, lin)) {
		x86_tlb_flush(c);
		return;
	}
	for (unsigned a = 0; a < X86_N_ACC; a++)
		for (unsigned how = 0; how < 3; how++)
			c->tlb[a][i].tag[how] = 0;
	if (c->tlb_flushed)
		c->tlb_flushed(c, lin & ~0xfffull);
}

/* Does DR7, or a debugger, arm a data breakpoint on the page of lin? */
static bool page_watched(const struct x86_cpu *c, uint64_t lin)
{
	for (unsigned n = 0; n < 4; n++)
		if ((c->s.dr7 >> (2 * n) & 3) && (c->s.dr7 >> (16 + 4 * n) & 3) && (c->s.dr[n] ^ lin) < PAGE_4K)
			return true;
	return c->debug_data && x86_debug_page(c, lin);
}

/* The base moves with a flush of everything only (x86_tlb_flush). */
static bool is_apic_page(struct x86_cpu *c, uint64_t gpa)
{
	const struct vcpu_intc_ops *ic = c->vcpu.intc;

	if (!ic)
		return false;
	if (unlikely(!c->apic_base_known)) {
		if (c->light) {
			c->light_failed = true;
			return true;
		}
		c->apic_base_now = ic->get_base(c->vcpu.intc_opaque);
		c->apic_base_known = true;
	}
	return (c->apic_base_now & 0xc00) == 0x800 && (c->apic_base_now & ADDR_MASK) == (gpa & ~0xfffull);
}

bool x86_user_page(struct x86_cpu *c, uint64_t lin, struct x86_user_page *p)
{
	const struct mem_range *r;
	struct walk w;
	uint64_t gpa;

	if (!x86_canonical(c, lin))
		return false;
	walk_tables(c, lin, &w);
	if (!w.present || w.rsvd || !w.user || (r = range_at(c, w.gpa)) == NULL || r->kind != MEM_RAM || is_apic_page(c, w.gpa))
		return false;
	for (unsigned i = 0; i < w.n_levels; i++)
		if (!(w.entry[i] & PTE_A))
			return false;
	gpa = w.gpa & ~0xfffull;
	p->size = PAGE_4K;
	if (w.n_levels == (c->s.cr4 & X86_CR4_LA57 ? 4 : 3)) {
		uint64_t large = gpa & ~0x1fffffull;

		if (large >= r->gpa && large + 0x200000 <= r->gpa + r->size) {
			gpa = large;
			p->size = 0x200000;
		}
	}
	p->offset = r->fd_offset + (gpa - r->gpa);
	p->host = r->host + (gpa - r->gpa);
	p->flags = r->flags + (gpa - r->gpa) / PAGE_4K;
	p->write = w.write_ok && (w.entry[w.n_levels - 1] & PTE_D);
	p->exec = w.exec_ok;
	return true;
}

/* The lookup behind x86_tlb_fill and x86_tlb_look. */
static int fill(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc, const struct x86_tlb_entry **out,
		uint32_t *err)
{
	struct x86_tlb_entry *e = &c->tlb[acc][(lin >> 12) & (X86_TLB_SIZE - 1)];
	uint64_t page = lin & ~0xfffull, tag = page | c->tlb_gen;
	uint64_t tags[3] = { tag, tag ^ c->write_mask, tag };
	enum x86_acc rights = acc == X86_ACC_USER_AC ? X86_ACC_USER : acc;
	const struct mem_range *r;
	struct walk w;
	uint64_t off;

	if (!translate(c, lin, how, rights, &w)) {
		*err = pf_error(c, &w, how, rights);
		return X86_LOOK_FAULT;
	}
	c->fill_gpa = w.gpa;
	/* Fetches do not hit data breakpoints: code runs from a watched page as from any other. */
	if (acc == X86_ACC_USER_AC || (c->watch && how != X86_EXEC && page_watched(c, page)))
		return X86_LOOK_NONE;
	if ((r = range_at(c, w.gpa)) == NULL || is_apic_page(c, w.gpa))
		return X86_LOOK_NONE;
	if (r->kind == MEM_ROM && how == X86_WRITE)
		return X86_LOOK_NONE;
	if (c->light_failed)
		return X86_LOOK_NONE;
	note_large(c, lin, &w);
	off = (w.gpa & ~0xfffull) - r->gpa;
	if (r->ahead)
		mem_ahead_met(r->ahead, r->fd_offset + off);
	if ((e->tag[0] | e->tag[1] | e->tag[2]) && e->gpa != (w.gpa & ~0xfffull))
		e->tag[0] = e->tag[1] = e->tag[2] = 0;
	for (unsigned h = 0; h < 3; h++)
		if (e->tag[h] != tags[h])
			e->tag[h] = 0;
	e->addend = (uintptr_t)r->host + off - page;
	e->gpa = w.gpa & ~0xfffull;
	e->flags = r->flags + off / PAGE_4K;
	e->version = r->version + off / PAGE_4K;
	e->global = c->paging && (c->s.cr4 & X86_CR4_PGE) && (w.entry[w.n_levels - 1] & PTE_G);
	e->tag[how] = tags[how];
	if (mem_dirty_enabled(c->vcpu.m->mem) && how == X86_WRITE)
		atomic_fetch_or(e->flags, MEM_PG_DIRTY);
	if (how == X86_WRITE && (atomic_load_explicit(e->flags, memory_order_relaxed) & (MEM_PG_WATCH | MEM_PG_SEEN)) == MEM_PG_WATCH)
		atomic_fetch_or(e->flags, MEM_PG_SEEN);
	*out = e;
	return X86_LOOK_OK;
}

static const struct x86_tlb_entry *cached(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc)
{
	const struct x86_tlb_entry *e = &c->tlb[acc][(lin >> 12) & (X86_TLB_SIZE - 1)];

	return e->tag[how] == (((lin & ~0xfffull) | c->tlb_gen) ^ (how == X86_WRITE ? c->write_mask : 0)) ? e : NULL;
}

const struct x86_tlb_entry *x86_tlb_cached(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc)
{
	return cached(c, lin, how, acc);
}

int x86_tlb_look(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc, const struct x86_tlb_entry **e,
		 uint32_t *err)
{
	int r;

	*e = cached(c, lin, how, acc);
	if (*e)
		return X86_LOOK_OK;
	if (c->long_mode && !x86_canonical(c, lin))
		return X86_LOOK_NONE;
	c->light = true;
	r = fill(c, lin, how, acc, e, err);
	c->light = false;
	if (unlikely(c->light_failed)) {
		c->light_failed = false;
		r = X86_LOOK_NONE;
	}
	return r;
}

const struct x86_tlb_entry *x86_tlb_fill(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc)
{
	const struct x86_tlb_entry *e = cached(c, lin, how, acc);
	uint32_t err;

	if (e)
		return e;
	if (unlikely(c->light_wrote)) {
		mem_written(c->vcpu.m->mem, c->light_wrote & ~1ull, 4);
		c->light_wrote = 0;
	}
	if (c->long_mode && !x86_canonical(c, lin))
		x86_gp(c, 0);
	switch (fill(c, lin, how, acc, &e, &err)) {
	case X86_LOOK_OK: return e;
	case X86_LOOK_FAULT: x86_raise_pf(c, lin, err);
	default: return NULL;
	}
}

/* --- accesses --- */

static void mmio_piece(struct x86_cpu *c, uint64_t gpa, void *buf, unsigned len, bool write)
{
	const struct vcpu_intc_ops *ic = c->vcpu.intc;

	if (is_apic_page(c, gpa)) {
		uint32_t off = gpa & 0xfff, v = 0;

		/* Registers are 32 bits at 16-byte steps; wider or unaligned accesses are
		 * undefined (SDM 11.4.1): the aligned register answers. */
		if (write) {
			memcpy(&v, buf, len < 4 ? len : 4);
			ic->mmio_write(c->vcpu.intc_opaque, off & 0xffc, v);
			c->intr_maybe = true;
			c->leave_block = true;
		} else {
			v = ic->mmio_read(c->vcpu.intc_opaque, off & 0xffc);
			v >>= 8 * (off & 3);
			memset(buf, 0, len);
			memcpy(buf, &v, len < 4 - (off & 3) ? len : 4 - (off & 3));
		}
		return;
	}
	c->n_mmio++;
	bus_access(c->vcpu.m->mmio, gpa, buf, len, write);
}

/* One access inside one page, by guest-physical address.  RAM here means a page
 * the TLB would not cache. */
static void phys_piece(struct x86_cpu *c, uint64_t gpa, void *buf, unsigned len, bool write)
{
	struct mem *m = c->vcpu.m->mem;
	struct mem_range r;

	x86_trial_refuse(c);
	if (is_apic_page(c, gpa)) {
		mmio_piece(c, gpa, buf, len, write);
		return;
	}
	if (mem_find(m, gpa, &r)) {
		if (!write)
			mem_read(m, gpa, buf, len);
		else if (r.kind == MEM_RAM)
			mem_write(m, gpa, buf, len);
		else
			mmio_piece(c, gpa, buf, len, true);	/* a flash chip takes commands */
		return;
	}
	mmio_piece(c, gpa, buf, len, write);
}

static void check_watch(struct x86_cpu *c, uint64_t lin, unsigned len, bool write)
{
	x86_debug_data(c, lin, len, write);
	c->db_trap.dr6 |= x86_bp_data(c, lin, len, write);
	if (c->db_trap.dr6)
		c->leave_block = true;
}

static void check_align(struct x86_cpu *c, uint64_t lin, unsigned len)
{
	if ((len == 2 || len == 4 || len == 8) && (lin & (len - 1)))
		x86_raise_err(c, X86_EX_AC, 0);
}

/* Wrapped linear addresses: 32 bits outside 64-bit mode. */
static uint64_t wrap(const struct x86_cpu *c, uint64_t lin)
{
	return c->long_mode ? lin : lin & 0xffffffffu;
}

/* Aligned accesses of machine size must not be seen half done. */
static void load_host(const struct x86_tlb_entry *e, uint64_t lin, void *buf, unsigned len)
{
	const void *p = (const void *)(lin + e->addend);

	switch (((uintptr_t)p & (len - 1)) ? 0 : len) {
	case 2: st_le16(buf, __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED)); break;
	case 4: st_le32(buf, __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED)); break;
	case 8: st_le64(buf, __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED)); break;
	default: memcpy(buf, p, len); break;
	}
}

static void store_host(struct x86_cpu *c, const struct x86_tlb_entry *e, uint64_t lin, const void *buf, unsigned len)
{
	void *p = (void *)(lin + e->addend);

	switch (((uintptr_t)p & (len - 1)) ? 0 : len) {
	case 2: __atomic_store_n((uint16_t *)p, ld_le16(buf), __ATOMIC_RELAXED); break;
	case 4: __atomic_store_n((uint32_t *)p, ld_le32(buf), __ATOMIC_RELAXED); break;
	case 8: __atomic_store_n((uint64_t *)p, ld_le64(buf), __ATOMIC_RELAXED); break;
	default: memcpy(p, buf, len); break;
	}
	__asm__ volatile("" ::: "memory");
	if (atomic_load_explicit(e->flags, memory_order_relaxed) & MEM_PG_CODE)
		x86_code_stored(c, e, lin & 0xfff, len);
}

void x86_code_stored(struct x86_cpu *c, const struct x86_tlb_entry *e, unsigned off, unsigned len)
{
	if (x86_codemap_hit(c->codemap, e, off, len)) {
		c->smc_hit = true;
		c->leave_block = true;
	}
}

/* Within one page. */
static void access_piece(struct x86_cpu *c, uint64_t lin, uint8_t *buf, unsigned len, bool write, enum x86_acc acc)
{
	const struct x86_tlb_entry *e = x86_tlb_fill(c, lin, write ? X86_WRITE : X86_READ, acc);

	if (e && write) {
		if (unlikely(c->trial))
			x86_trial_store(c, e, lin, len);
		store_host(c, e, lin, buf, len);
	} else if (e) {
		load_host(e, lin, buf, len);
	} else {
		phys_piece(c, c->fill_gpa, buf, len, write);
		c->leave_block |= write;	/* mem_write may have bumped a code version: look again */
	}
}

static unsigned room_in_page(uint64_t lin)
{
	return (unsigned)(PAGE_4K - (lin & 0xfff));
}

/* The whole of an access; a store checks all pages before it writes any. */
static inline void access_mem(struct x86_cpu *c, uint64_t lin, uint8_t *p, unsigned len, bool write, enum x86_acc acc)
{
	lin = wrap(c, lin);
	if (acc == X86_ACC_USER_AC)
		check_align(c, lin, len);
	if (len <= room_in_page(lin)) {
		access_piece(c, lin, p, len, write, acc);
	} else {
		x86_mem_probe(c, lin, len, write ? X86_WRITE : X86_READ, acc);
		for (unsigned done = 0, n; done < len; done += n) {
			uint64_t at = wrap(c, lin + done);

			n = MIN(len - done, room_in_page(at));
			access_piece(c, at, p + done, n, write, acc);
		}
	}
	if (unlikely(c->watch))
		check_watch(c, lin, len, write);
}

void x86_mem_read(struct x86_cpu *c, uint64_t lin, void *buf, unsigned len, enum x86_acc acc)
{
	access_mem(c, lin, buf, len, false, acc);
}

void x86_mem_write(struct x86_cpu *c, uint64_t lin, const void *buf, unsigned len, enum x86_acc acc)
{
	access_mem(c, lin, (void *)(uintptr_t)buf, len, true, acc);
}

void x86_mem_probe(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_how how, enum x86_acc acc)
{
	uint64_t last = lin + (len ? len : 1) - 1;

	lin = wrap(c, lin);
	x86_tlb_fill(c, lin, how, acc);
	for (uint64_t at = (lin & ~0xfffull) + PAGE_4K; at <= last; at += PAGE_4K)
		x86_tlb_fill(c, wrap(c, at), how, acc);
}

void *x86_mem_host(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_how how, enum x86_acc acc)
{
	const struct x86_tlb_entry *e;

	lin = wrap(c, lin);
	if (len > room_in_page(lin))
		return NULL;
	e = x86_tlb_fill(c, lin, how, acc);
	if (unlikely(c->trial) && e && how == X86_WRITE)
		x86_trial_store(c, e, lin, len);
	return e ? (void *)(lin + e->addend) : NULL;
}

void x86_mem_stored(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_acc acc)
{
	const struct x86_tlb_entry *e;

	lin = wrap(c, lin);
	e = x86_tlb_fill(c, lin, X86_WRITE, acc);
	__asm__ volatile("" ::: "memory");
	if (e && (atomic_load_explicit(e->flags, memory_order_relaxed) & MEM_PG_CODE))
		x86_code_stored(c, e, lin & 0xfff, len);
}

static bool cas_host(void *p, unsigned len, uint64_t *expected, uint64_t desired)
{
	uint8_t e1 = (uint8_t)*expected;
	uint16_t e2 = (uint16_t)*expected;
	uint32_t e4 = (uint32_t)*expected;
	bool ok;

	switch (len) {
	case 1:
		ok = __atomic_compare_exchange_n((uint8_t *)p, &e1, (uint8_t)desired, false, 5, 5);
		*expected = e1;
		return ok;
	case 2:
		ok = __atomic_compare_exchange_n((uint16_t *)p, &e2, (uint16_t)desired, false, 5, 5);
		*expected = e2;
		return ok;
	case 4:
		ok = __atomic_compare_exchange_n((uint32_t *)p, &e4, (uint32_t)desired, false, 5, 5);
		*expected = e4;
		return ok;
	default:
		return __atomic_compare_exchange_n((uint64_t *)p, expected, desired, false, 5, 5);
	}
}

bool x86_mem_cmpxchg(struct x86_cpu *c, uint64_t lin, unsigned len, uint64_t *expected, uint64_t desired,
		     enum x86_acc acc)
{
	void *p = x86_mem_host(c, lin, len, X86_WRITE, acc);
	uint64_t now;

	if (p) {
		bool ok = cas_host(p, len, expected, desired);

		if (ok)
			x86_mem_stored(c, lin, len, acc);
		return ok;
	}
	/* Device memory, or across two pages: not atomic towards other vCPUs (QUIRKS). */
	x86_mem_probe(c, lin, len, X86_WRITE, acc);
	now = x86_ld(c, lin, len, acc);
	if (now != *expected) {
		*expected = now;
		return false;
	}
	x86_st(c, lin, len, desired, acc);
	return true;
}
