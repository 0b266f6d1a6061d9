/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See fast.h.  Descriptors and frames are read where they lie, through the TLB;
 * whatever would set an accessed bit, cross a page, fault, or is not the usual
 * flat segment is left to the full functions.
 */
#include "cpu/x86/fast.h"
#include "cpu/x86/sys.h"

enum { DATA = 0xc093, CODE32 = 0xc09b, CODE64 = 0xa09b };

/* Host address of [lin, lin+len), within a page that may be accessed so. */
static void *host(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_how how, enum x86_acc acc)
{
	const struct x86_tlb_entry *e;
	uint32_t err;

	if ((lin & 0xfff) > PAGE_4K - len || x86_tlb_look(c, lin, how, acc, &e, &err) != X86_LOOK_OK)
		return NULL;
	return (void *)(lin + e->addend);
}

static uint64_t word(const void *p) { return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED); }

/* A descriptor of the GDT, present, accessed, code or data, of level dpl. */
static bool usual_desc(struct x86_cpu *c, uint16_t sel, unsigned dpl, struct x86_desc *d)
{
	uint32_t off = sel & 0xfff8;
	const void *p;
	uint64_t raw;

	if ((sel & 4) || sel_null(sel) || off + 7u > c->s.gdtr.limit)
		return false;
	p = host(c, c->s.gdtr.base + off, 8, X86_READ, X86_ACC_SUP);
	if (!p || ((uintptr_t)p & 7))
		return false;
	raw = word(p);
	d->lo = (uint32_t)raw;
	d->hi = (uint32_t)(raw >> 32);
	d->up = 0;
	return desc_s(d) && desc_p(d) && desc_dpl(d) == dpl && (d->hi & 0x100);
}

/* Code, not conforming. */
static bool usual_code(struct x86_cpu *c, uint16_t sel, unsigned dpl, struct x86_desc *d)
{
	return usual_desc(c, sel, dpl, d) && (d->hi & 0x1c00) == 0x1800;
}

static bool usual_cs(struct x86_cpu *c, uint16_t sel, unsigned dpl, struct x86_desc *d)
{
	return usual_code(c, sel, dpl, d) && desc_l(d) && !desc_db(d);
}

/* What a frame leads to: 64-bit code, or at CPL 3 flat 32-bit code. */
static bool usual_place(struct x86_cpu *c, uint16_t sel, unsigned rpl, uint64_t rip, struct x86_desc *d)
{
	if (!usual_code(c, sel, rpl, d))
		return false;
	if (desc_l(d))
		return !desc_db(d) && x86_canonical(c, rip);
	return rpl == 3 && desc_db(d) && (d->hi & 0x8f0000) == 0x8f0000 && (d->lo & 0xffff) == 0xffff && rip <= 0xffffffffu;
}

static bool usual_ss(struct x86_cpu *c, uint16_t sel, unsigned dpl, struct x86_desc *d)
{
	return (sel & 3u) == dpl && usual_desc(c, sel, dpl, d) && desc_wdata(d);
}

static void put_seg(struct x86_seg *s, unsigned sel, const struct x86_desc *d)
{
	uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	s->sel = (uint16_t)sel;
	s->base = d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000u);
	s->limit = d->hi & 1u << 23 ? limit << 12 | 0xfff : limit;
	s->attr = (d->hi >> 8 & 0xff) | (d->hi >> 8 & 0xf000);
}

static void put_flat(struct x86_seg *s, unsigned sel, uint32_t attr, unsigned dpl)
{
	s->sel = (uint16_t)sel;
	s->base = 0;
	s->limit = 0xffffffffu;
	s->attr = attr | dpl << X86_AR_DPL_SHIFT;
}

static void put_null(struct x86_seg *s, unsigned sel, unsigned dpl)
{
	s->sel = (uint16_t)sel;
	s->base = 0;
	s->limit = 0;
	s->attr = X86_AR_UNUSABLE | dpl << X86_AR_DPL_SHIFT;
}

bool x86_fast_syscall(struct x86_cpu *c, uint64_t next_rip)
{
	struct x86_state *s = &c->s;
	unsigned sel = (unsigned)(s->star >> 32) & 0xfffc;

	if (!x86_fast_ok(c) || !(s->efer & X86_EFER_SCE) || (c->mode != X86_MODE_LONG64 && !c->has_syscall32))
		return false;
	s->gpr[X86_RCX] = next_rip;
	s->gpr[11] = s->rflags;		/* RF is clear, or x86_fast_ok would not be */
	s->rip = c->mode == X86_MODE_LONG64 ? s->lstar : s->cstar;
	s->rflags = (s->rflags & ~s->fmask) | X86_FL_FIXED;
	put_flat(&s->seg[X86_CS], sel, CODE64, 0);
	put_flat(&s->seg[X86_SS], sel + 8, DATA, 0);
	x86_level_update(c);
	return true;
}

bool x86_fast_sysret(struct x86_cpu *c, unsigned osz)
{
	struct x86_state *s = &c->s;
	uint64_t mask = X86_FL_ARITH | X86_FL_IF | X86_FL_DF | X86_FL_IOPL | X86_FL_NT | X86_FL_AC | X86_FL_VIF | X86_FL_VIP |
			X86_FL_ID;
	unsigned sel = (unsigned)(s->star >> 48);

	if (!x86_fast_ok(c) || !(s->efer & X86_EFER_SCE) || c->cpl || (s->gpr[11] & X86_FL_TF) ||
	    (osz == 8 && !x86_canonical(c, s->gpr[X86_RCX])))
		return false;
	s->rip = osz == 8 ? s->gpr[X86_RCX] : (uint32_t)s->gpr[X86_RCX];
	if (osz == 8)
		put_flat(&s->seg[X86_CS], (sel + 16) | 3, CODE64, 3);
	else
		put_flat(&s->seg[X86_CS], sel | 3, CODE32, 3);
	put_flat(&s->seg[X86_SS], (sel + 8) | 3, DATA, 3);
	s->rflags = (s->gpr[11] & mask) | X86_FL_FIXED;
	x86_level_update(c);
	return true;
}

/* --- IRET --- */

/* Are ES, DS, FS and GS such that returning to CPL 3 leaves them alone? */
static bool outer_segs(const struct x86_cpu *c)
{
	static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	for (unsigned i = 0; i < 4; i++) {
		const struct x86_seg *s = &c->s.seg[data[i]];

		if (s->attr & X86_AR_UNUSABLE ? s->sel : (s->attr & X86_AR_DPL) != X86_AR_DPL && (s->attr & 0xc) != 0xc)
			return false;
	}
	return true;
}

bool x86_fast_iret(struct x86_cpu *c)
{
	uint64_t mask = X86_FL_ARITH | X86_FL_DF | X86_FL_NT | X86_FL_AC | X86_FL_ID | X86_FL_IF | X86_FL_IOPL | X86_FL_VIF |
			X86_FL_VIP;
	struct x86_state *s = &c->s;
	uint64_t rip, flags, rsp;
	struct x86_desc cs, ss;
	const uint64_t *f;
	uint16_t cs_sel, ss_sel;
	unsigned rpl;

	if (!x86_fast_ok(c) || c->cpl || (s->rflags & X86_FL_NT) || s->nmi_blocked)
		return false;
	f = host(c, s->gpr[X86_RSP], 40, X86_READ, (enum x86_acc)c->acc);
	if (!f || ((uintptr_t)f & 7))
		return false;
	rip = word(f);
	cs_sel = (uint16_t)word(f + 1);
	flags = word(f + 2);
	rsp = word(f + 3);
	ss_sel = (uint16_t)word(f + 4);
	rpl = cs_sel & 3;
	/* With RF an event that comes right now has to see it. */
	if ((flags & X86_FL_TF) || ((flags & X86_FL_RF) && atomic_load_explicit(&c->vcpu.events, memory_order_relaxed)))
		return false;
	if ((rpl && rpl != 3) || !usual_place(c, cs_sel, rpl, rip, &cs) || (rpl && !outer_segs(c)))
		return false;
	if (sel_null(ss_sel) ? rpl == 3 : !usual_ss(c, ss_sel, rpl, &ss) || (!desc_l(&cs) && !desc_db(&ss)))
		return false;
	if (sel_null(ss_sel))
		put_null(&s->seg[X86_SS], ss_sel, rpl);
	else
		put_seg(&s->seg[X86_SS], ss_sel, &ss);
	put_seg(&s->seg[X86_CS], cs_sel, &cs);
	s->rip = rip;
	s->rflags = (s->rflags & ~mask) | (flags & mask) | X86_FL_FIXED;
	s->gpr[X86_RSP] = desc_l(&cs) ? rsp : (uint32_t)rsp;
	x86_level_update(c);
	return true;
}

/* --- delivery --- */

struct gate {
	uint64_t rip;
	uint16_t sel;
	bool trap;
};

/* A present interrupt or trap gate without IST. */
static bool usual_gate(struct x86_cpu *c, unsigned vector, struct gate *g)
{
	const uint64_t *p;
	uint64_t lo, hi;
	unsigned type;

	if (vector * 16u + 15 > c->s.idtr.limit)
		return false;
	p = host(c, c->s.idtr.base + vector * 16u, 16, X86_READ, X86_ACC_SUP);
	if (!p || ((uintptr_t)p & 7))
		return false;
	lo = word(p);
	hi = word(p + 1);
	type = lo >> 40 & 31;
	if ((type != X86_ST_INT32 && type != X86_ST_TRAP32) || !(lo >> 47 & 1) || (lo >> 32 & 7))
		return false;
	g->trap = type == X86_ST_TRAP32;
	g->sel = (uint16_t)(lo >> 16);
	g->rip = (lo & 0xffff) | (lo >> 32 & 0xffff0000u) | hi << 32;
	return x86_canonical(c, g->rip);
}

/* Top of the stack that a handler at CPL 0 gets. */
static bool handler_stack(struct x86_cpu *c, uint64_t *sp, enum x86_acc *acc)
{
	const struct x86_seg *tr = &c->s.seg[X86_TR];
	const void *p;

	*sp = c->s.gpr[X86_RSP];
	*acc = (enum x86_acc)c->acc;
	if (c->cpl) {
		if ((tr->attr & X86_AR_UNUSABLE) || 11 > tr->limit || !(p = host(c, tr->base + 4, 8, X86_READ, X86_ACC_SUP)))
			return false;
		/* The TSS keeps it at an odd multiple of 4. */
		*sp = (uint64_t)__atomic_load_n((const uint32_t *)p + 1, __ATOMIC_RELAXED) << 32 |
		      __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
		*acc = X86_ACC_SUP;
	}
	*sp &= ~15ull;
	return true;
}

bool x86_fast_deliver(struct x86_cpu *c, const struct x86_event *ev)
{
	bool fault = ev->kind == X86_EV_FAULT;
	struct x86_state *s = &c->s;
	unsigned len = ev->has_err ? 48 : 40;
	enum x86_acc acc;
	struct x86_desc cs;
	struct gate g;
	uint64_t sp, *f;
	const struct x86_tlb_entry *e;
	uint32_t err;

	if (!x86_fast_ok(c) || (c->cpl && c->cpl != 3) || (!fault && ev->kind != X86_EV_INTR) || ev->vector == X86_EX_DB ||
	    ev->vector == X86_EX_DF)
		return false;
	if (!usual_gate(c, ev->vector, &g) || !usual_cs(c, g.sel, 0, &cs) || !handler_stack(c, &sp, &acc))
		return false;
	if (((sp - len) & 0xfff) > PAGE_4K - len || x86_tlb_look(c, sp - len, X86_WRITE, acc, &e, &err) != X86_LOOK_OK)
		return false;
	f = (uint64_t *)(sp - len + e->addend);
	if (ev->has_err)
		*f++ = ev->err;
	f[0] = s->rip;
	f[1] = s->seg[X86_CS].sel;
	f[2] = s->rflags | (fault ? X86_FL_RF : 0);
	f[3] = s->gpr[X86_RSP];
	f[4] = s->seg[X86_SS].sel;
	__asm__ volatile("" ::: "memory");
	if (unlikely(atomic_load_explicit(e->flags, memory_order_relaxed) & MEM_PG_CODE))
		x86_code_stored(c, e, (sp - len) & 0xfff, len);
	if (ev->vector == X86_EX_PF && fault)
		s->cr2 = ev->cr2;
	if (c->cpl)
		put_null(&s->seg[X86_SS], 0, 0);
	put_seg(&s->seg[X86_CS], g.sel & ~3u, &cs);
	s->gpr[X86_RSP] = sp - len;
	s->rip = g.rip;
	s->rflags &= ~(uint64_t)(X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM | (g.trap ? 0 : X86_FL_IF));
	x86_level_update(c);
	return true;
}
