/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segments: descriptor tables, loading segment registers, limit and type checks,
 * and the stack accesses of control transfers (SDM vol. 3, chapters 3 and 5).
 *
 * Descriptor tables and the TSS are read with supervisor rights whatever the
 * CPL ("implicit supervisor accesses"), so SMAP applies to them.
 */
#include "cpu/x86/sys.h"

/* --- descriptors --- */

static bool sys16(const struct x86_desc *d)
{
	unsigned t = desc_type(d);

	/* In IA-32e mode LDT, TSS and call-gate descriptors are 16 bytes. */
	return !desc_s(d) && (t == X86_ST_LDT || t == X86_ST_TSS32 || t == X86_ST_TSS32_BUSY || t == X86_ST_CALL32);
}

static bool table_of(const struct x86_cpu *c, uint16_t sel, uint64_t *base, uint32_t *limit)
{
	const struct x86_seg *ldt = &c->s.seg[X86_LDTR];

	if (!(sel & 4)) {
		*base = c->s.gdtr.base;
		*limit = c->s.gdtr.limit;
		return true;
	}
	*base = ldt->base;
	*limit = ldt->limit;
	return !(ldt->attr & X86_AR_UNUSABLE);
}

/* False: not inside its table.  Faults of the read itself are raised. */
static bool fetch_desc(struct x86_cpu *c, uint16_t sel, struct x86_desc *d)
{
	uint32_t off = sel & 0xfff8, limit;
	uint64_t base, raw;

	if (!table_of(c, sel, &base, &limit) || off + 7u > limit)
		return false;
	d->lin = c->long_mode ? base + off : (uint32_t)(base + off);
	raw = x86_ld(c, d->lin, 8, X86_ACC_SUP);
	d->lo = (uint32_t)raw;
	d->hi = (uint32_t)(raw >> 32);
	d->up = 0;
	if (c->long_mode && sys16(d)) {
		if (off + 15u > limit)
			return false;
		raw = x86_ld(c, d->lin + 8, 8, X86_ACC_SUP);
		if (raw >> 40 & 0x1f)	/* the type field of the upper half must be 0 */
			return false;
		d->up = (uint32_t)raw;
	}
	return true;
}

void x86_read_desc_ext(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, int vec, unsigned ext)
{
	if (!fetch_desc(c, sel, d))
		raise_sel(c, vec, sel, ext);
}

void x86_read_desc(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, int err_vec)
{
	x86_read_desc_ext(c, sel, d, err_vec, 0);
}

void x86_desc_set_accessed(struct x86_cpu *c, struct x86_desc *d)
{
	uint64_t old = d->hi;

	while (!(old & 0x100))
		if (x86_mem_cmpxchg(c, d->lin + 4, 4, &old, old | 0x100, X86_ACC_SUP))
			break;
	d->hi |= 0x100;
}

void x86_seg_from_desc(struct x86_seg *s, uint16_t sel, const struct x86_desc *d)
{
	uint32_t limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	s->sel = sel;
	s->base = d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000u);
	if (!desc_s(d))
		s->base |= (uint64_t)d->up << 32;
	s->limit = d->hi & 1u << 23 ? limit << 12 | 0xfff : limit;
	s->attr = (d->hi >> 8 & 0xff) | (d->hi >> 8 & 0xf000);
}

void x86_null_seg(struct x86_seg *s, uint16_t sel, unsigned dpl)
{
	s->sel = sel;
	s->base = 0;
	s->limit = 0;
	s->attr = X86_AR_UNUSABLE | dpl << X86_AR_DPL_SHIFT;
}

void x86_load_seg_real(struct x86_cpu *c, int seg, uint16_t sel)
{
	struct x86_seg *s = &c->s.seg[seg];

	/* Limit and size survive in real mode ("unreal mode"); what was unusable
	 * becomes an ordinary segment. */
	if (s->attr & X86_AR_UNUSABLE) {
		s->limit = 0xffff;
		s->attr = 0;
	}
	s->attr = (s->attr & (X86_AR_DB | X86_AR_G)) | (seg == X86_CS ? 0x9b : 0x93);
	s->sel = sel;
	s->base = (uint32_t)sel << 4;
}

void x86_load_seg_vm86(struct x86_cpu *c, int seg, uint16_t sel)
{
	c->s.seg[seg] = (struct x86_seg){ .sel = sel, .base = (uint32_t)sel << 4, .limit = 0xffff, .attr = 0xf3 };
}

void x86_commit_cs(struct x86_cpu *c, uint16_t sel, const struct x86_desc *d, unsigned cpl)
{
	x86_seg_from_desc(&c->s.seg[X86_CS], (uint16_t)((sel & ~3u) | cpl), d);
}

void x86_commit_ss(struct x86_cpu *c, uint16_t sel, const struct x86_desc *d, unsigned cpl)
{
	if (sel_null(sel))
		x86_null_seg(&c->s.seg[X86_SS], sel, cpl);
	else
		x86_seg_from_desc(&c->s.seg[X86_SS], sel, d);
}

/* --- loading --- */

void x86_check_ss(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, unsigned cpl, int vec, unsigned ext)
{
	x86_read_desc_ext(c, sel, d, vec, ext);
	if ((sel & 3u) != cpl || !desc_wdata(d) || desc_dpl(d) != cpl)
		raise_sel(c, vec, sel, ext);
	if (!desc_p(d))
		raise_sel(c, X86_EX_SS, sel, ext);
}

static void load_ss(struct x86_cpu *c, uint16_t sel)
{
	struct x86_desc d;

	if (sel_null(sel)) {
		if (c->mode != X86_MODE_LONG64 || c->cpl == 3 || (sel & 3) != c->cpl)
			x86_gp(c, 0);
		x86_null_seg(&c->s.seg[X86_SS], sel, c->cpl);
		return;
	}
	x86_check_ss(c, sel, &d, c->cpl, X86_EX_GP, 0);
	x86_desc_set_accessed(c, &d);
	x86_seg_from_desc(&c->s.seg[X86_SS], sel, &d);
}

static void load_data(struct x86_cpu *c, int seg, uint16_t sel)
{
	unsigned rpl = sel & 3;
	struct x86_desc d;

	if (sel_null(sel)) {
		x86_null_seg(&c->s.seg[seg], sel, 0);
		return;
	}
	x86_read_desc(c, sel, &d, X86_EX_GP);
	if (!desc_readable(&d))
		raise_sel(c, X86_EX_GP, sel, 0);
	if (!desc_conforming(&d) && (rpl > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
		raise_sel(c, X86_EX_GP, sel, 0);
	if (!desc_p(&d))
		raise_sel(c, X86_EX_NP, sel, 0);
	x86_desc_set_accessed(c, &d);
	x86_seg_from_desc(&c->s.seg[seg], sel, &d);
}

void x86_load_seg(struct x86_cpu *c, int seg, uint16_t sel)
{
	if (c->mode == X86_MODE_REAL)
		x86_load_seg_real(c, seg, sel);
	else if (c->mode == X86_MODE_VM86)
		x86_load_seg_vm86(c, seg, sel);
	else if (seg == X86_SS)
		load_ss(c, sel);
	else
		load_data(c, seg, sel);
	x86_mode_update(c);
}

void x86_lldt(struct x86_cpu *c, uint16_t sel)
{
	struct x86_desc d;

	if (sel_null(sel)) {
		x86_null_seg(&c->s.seg[X86_LDTR], sel, 0);
		return;
	}
	if (sel & 4)
		raise_sel(c, X86_EX_GP, sel, 0);
	x86_read_desc(c, sel, &d, X86_EX_GP);
	if (desc_s(&d) || desc_type(&d) != X86_ST_LDT)
		raise_sel(c, X86_EX_GP, sel, 0);
	if (!desc_p(&d))
		raise_sel(c, X86_EX_NP, sel, 0);
	if (c->long_mode && !x86_canonical_base(c, (d.lo >> 16) | (uint64_t)(d.hi & 0xff) << 16 | (d.hi & 0xff000000u) |
						      (uint64_t)d.up << 32))
		raise_sel(c, X86_EX_GP, sel, 0);
	x86_seg_from_desc(&c->s.seg[X86_LDTR], sel, &d);
}

void x86_ltr(struct x86_cpu *c, uint16_t sel)
{
	struct x86_desc d;
	struct x86_seg tr;
	uint64_t old;

	if (sel_null(sel))
		x86_gp(c, 0);
	if (sel & 4)
		raise_sel(c, X86_EX_GP, sel, 0);
	x86_read_desc(c, sel, &d, X86_EX_GP);
	if (desc_s(&d) || (desc_type(&d) != X86_ST_TSS32 && (desc_type(&d) != X86_ST_TSS16 || c->long_mode)))
		raise_sel(c, X86_EX_GP, sel, 0);
	if (!desc_p(&d))
		raise_sel(c, X86_EX_NP, sel, 0);
	x86_seg_from_desc(&tr, sel, &d);
	if (c->long_mode && !x86_canonical_base(c, tr.base))
		raise_sel(c, X86_EX_GP, sel, 0);
	old = d.hi;
	while (!x86_mem_cmpxchg(c, d.lin + 4, 4, &old, old | 0x200, X86_ACC_SUP))
		;
	tr.attr |= 2;
	c->s.seg[X86_TR] = tr;
}

/* --- LAR, LSL, VERR, VERW --- */

/* Visible at CPL and RPL, of a type in `sys_types`, or code or data. */
static bool look(struct x86_cpu *c, uint16_t sel, uint32_t sys_types, struct x86_desc *d)
{
	unsigned rpl = sel & 3;

	if (sel_null(sel) || !fetch_desc(c, sel, d))
		return false;
	if (!desc_s(d) && !(sys_types >> desc_type(d) & 1))
		return false;
	return desc_conforming(d) || (c->cpl <= desc_dpl(d) && rpl <= desc_dpl(d));
}

bool x86_lar(struct x86_cpu *c, uint16_t sel, uint32_t *out)
{
	uint32_t types = 1u << X86_ST_LDT | 1u << X86_ST_TSS32 | 1u << X86_ST_TSS32_BUSY | 1u << X86_ST_CALL32;
	struct x86_desc d;

	if (!c->long_mode)
		types |= 1u << X86_ST_TSS16 | 1u << X86_ST_TSS16_BUSY | 1u << X86_ST_CALL16 | 1u << X86_ST_TASK_GATE;
	if (!look(c, sel, types, &d))
		return false;
	*out = d.hi & 0x00ffff00u;
	return true;
}

bool x86_lsl(struct x86_cpu *c, uint16_t sel, uint32_t *out)
{
	uint32_t types = 1u << X86_ST_LDT | 1u << X86_ST_TSS32 | 1u << X86_ST_TSS32_BUSY;
	struct x86_desc d;
	struct x86_seg s;

	if (!c->long_mode)
		types |= 1u << X86_ST_TSS16 | 1u << X86_ST_TSS16_BUSY;
	if (!look(c, sel, types, &d))
		return false;
	x86_seg_from_desc(&s, sel, &d);
	*out = s.limit;
	return true;
}

bool x86_ver(struct x86_cpu *c, uint16_t sel, bool write)
{
	struct x86_desc d;

	if (!look(c, sel, 0, &d))
		return false;
	return write ? desc_wdata(&d) : desc_readable(&d);
}

/* --- accesses --- */

bool x86_limit_ok(uint32_t attr, uint32_t limit, uint64_t off, unsigned len)
{
	uint64_t last = off + (len ? len - 1 : 0);

	if ((attr & (X86_AR_S | 0xc)) == (X86_AR_S | 4))	/* expand-down data */
		return off > limit && last <= (attr & X86_AR_DB ? 0xffffffffu : 0xffffu);
	return last <= limit;
}

static bool type_ok(const struct x86_cpu *c, uint32_t attr, enum x86_how how)
{
	if (attr & X86_AR_UNUSABLE)
		return false;
	if (c->mode == X86_MODE_REAL || c->mode == X86_MODE_VM86)
		return true;
	if (how == X86_WRITE)
		return (attr & 0xa) == 2;
	if (how == X86_EXEC)
		return attr & 8;
	return !(attr & 8) || (attr & 2);
}

static _Noreturn void seg_fault(struct x86_cpu *c, int seg)
{
	x86_raise_err(c, seg == X86_SS ? X86_EX_SS : X86_EX_GP, 0);
}

uint64_t x86_seg_lin(struct x86_cpu *c, int seg, uint64_t off, unsigned len, enum x86_how how)
{
	const struct x86_seg *s = &c->s.seg[seg];

	if (c->mode == X86_MODE_LONG64) {
		uint64_t lin = seg == X86_FS || seg == X86_GS ? s->base + off : off;

		if (!x86_canonical(c, lin) || !x86_canonical(c, lin + (len ? len - 1 : 0)))
			seg_fault(c, seg);
		return lin;
	}
	if (!type_ok(c, s->attr, how) || !x86_limit_ok(s->attr, s->limit, off, len))
		seg_fault(c, seg);
	return (uint32_t)(s->base + off);
}

/* --- stacks --- */

void x86_stack_current(struct x86_cpu *c, struct x86_stack *st)
{
	const struct x86_seg *ss = &c->s.seg[X86_SS];

	st->flat = c->mode == X86_MODE_LONG64;
	st->base = st->flat ? 0 : ss->base;
	st->limit = ss->limit;
	st->attr = ss->attr;
	st->sp = c->s.gpr[X86_RSP];
	st->mask = c->stack_size == 8 ? ~0ull : c->stack_size == 4 ? 0xffffffffu : 0xffffu;
	st->acc = c->acc;
	st->err = 0;
}

void x86_stack_from_desc(struct x86_stack *st, const struct x86_desc *d, uint64_t sp, unsigned cpl, uint32_t err)
{
	struct x86_seg s;

	x86_seg_from_desc(&s, 0, d);
	*st = (struct x86_stack){
		.base = s.base, .limit = s.limit, .attr = s.attr, .sp = sp,
		.mask = s.attr & X86_AR_DB ? 0xffffffffu : 0xffffu,
		.acc = cpl == 3 ? X86_ACC_USER : X86_ACC_SUP, .err = err,
	};
}

static uint64_t stack_lin(struct x86_cpu *c, const struct x86_stack *st, uint64_t off, unsigned len)
{
	if (st->flat) {
		if (!x86_canonical(c, off) || !x86_canonical(c, off + len - 1))
			x86_raise_err(c, X86_EX_SS, st->err);
		return off;
	}
	if ((st->attr & X86_AR_UNUSABLE) || !x86_limit_ok(st->attr, st->limit, off, len))
		x86_raise_err(c, X86_EX_SS, st->err);
	return (uint32_t)(st->base + off);
}

void x86_stack_push(struct x86_cpu *c, struct x86_stack *st, unsigned osz, uint64_t v)
{
	uint64_t sp = (st->sp - osz) & st->mask;

	x86_st(c, stack_lin(c, st, sp, osz), osz, v, st->acc);
	st->sp = (st->sp & ~st->mask) | sp;
}

uint64_t x86_stack_pop(struct x86_cpu *c, struct x86_stack *st, unsigned osz)
{
	uint64_t sp = st->sp & st->mask;
	uint64_t v = x86_ld(c, stack_lin(c, st, sp, osz), osz, st->acc);

	st->sp = (st->sp & ~st->mask) | ((sp + osz) & st->mask);
	return v;
}

void x86_stack_room(struct x86_cpu *c, const struct x86_stack *st, unsigned n)
{
	uint64_t sp = (st->sp - n) & st->mask;

	/* A frame that wraps around the top is checked piece by piece by the pushes. */
	if (st->flat || sp + n <= st->mask)
		stack_lin(c, st, sp, n);
}

void x86_stack_commit(struct x86_cpu *c, const struct x86_stack *st)
{
	uint64_t *rsp = &c->s.gpr[X86_RSP];

	if (st->mask == 0xffff)
		*rsp = (*rsp & ~0xffffull) | (st->sp & 0xffff);
	else
		*rsp = st->sp & st->mask;
}

void x86_drop_inner_segs(struct x86_cpu *c)
{
	static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	bool dropped = false;

	for (unsigned i = 0; i < 4; i++) {
		struct x86_seg *s = &c->s.seg[data[i]];
		unsigned dpl = (s->attr & X86_AR_DPL) >> X86_AR_DPL_SHIFT;

		uint64_t base = s->base;

		if (s->attr & X86_AR_UNUSABLE) {
			s->sel = 0;
		} else if (dpl < c->cpl && (s->attr & 0xc) != 0xc) {
			x86_null_seg(s, 0, 0);
			dropped = true;
			if (c->long_mode)
				s->base = base;	/* silicon keeps it: kernels rely on GS */
		}
	}
	if (dropped)
		x86_mode_update(c);
}

void x86_set_sp(struct x86_cpu *c, uint64_t rsp)
{
	uint64_t *r = &c->s.gpr[X86_RSP];

	if (c->stack_size == 8)
		*r = rsp;
	else if (c->stack_size == 4)
		*r = (uint32_t)rsp;
	else
		*r = (*r & ~0xffffull) | (rsp & 0xffff);
}

void x86_push(struct x86_cpu *c, unsigned osz, uint64_t v)
{
	struct x86_stack st;

	x86_stack_current(c, &st);
	x86_stack_push(c, &st, osz, v);
	x86_stack_commit(c, &st);
}

uint64_t x86_pop(struct x86_cpu *c, unsigned osz)
{
	struct x86_stack st;
	uint64_t v;

	x86_stack_current(c, &st);
	v = x86_stack_pop(c, &st, osz);
	x86_stack_commit(c, &st);
	return v;
}
