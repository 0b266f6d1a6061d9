/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What follows from the control registers, CS, SS and flags: recomputed whenever
 * one of them changes, so that nothing on a hot path has to look at several. */
#include "cpu/x86/cpu.h"
#include "cpu/x86/cpuid.h"

static uint8_t mode_of(const struct x86_state *s, bool lma)
{
	if (!(s->cr0 & X86_CR0_PE))
		return X86_MODE_REAL;
	if (s->rflags & X86_FL_VM)
		return X86_MODE_VM86;
	if (lma && (s->seg[X86_CS].attr & X86_AR_L))
		return X86_MODE_LONG64;
	return s->seg[X86_CS].attr & X86_AR_DB ? X86_MODE_PM32 : X86_MODE_PM16;
}

static uint8_t access_class(const struct x86_cpu *c)
{
	const struct x86_state *s = &c->s;

	if (c->cpl == 3)
		return (s->cr0 & X86_CR0_AM) && (s->rflags & X86_FL_AC) ? X86_ACC_USER_AC : X86_ACC_USER;
	return s->rflags & X86_FL_AC ? X86_ACC_SUP_AC : X86_ACC_SUP;
}

/* May data accesses through s skip limit and type?  (Through a null or read-only DS they may not.) */
static bool whole_data(const struct x86_seg *s)
{
	return s->limit == 0xffffffffu &&
	       (s->attr & (X86_AR_P | X86_AR_S | X86_AR_UNUSABLE | 0xe)) == (X86_AR_P | X86_AR_S | 2);
}

static bool flat_data(const struct x86_seg *s) { return s->base == 0 && whole_data(s); }

static void segments_update(struct x86_cpu *c)
{
	const struct x86_seg *cs = &c->s.seg[X86_CS];
	uint64_t base = c->mode == X86_MODE_LONG64 ? 0 : cs->base;

	c->cs_limited = c->mode != X86_MODE_LONG64 && cs->limit != 0xffffffffu;
	c->flat = c->mode == X86_MODE_PM32 && cs->base == 0 && !c->cs_limited && c->stack_size == 4 &&
		  flat_data(&c->s.seg[X86_DS]) && flat_data(&c->s.seg[X86_ES]) && flat_data(&c->s.seg[X86_SS]);
	for (unsigned n = 0; n < 2; n++)
		c->seg_odd[n] = whole_data(&c->s.seg[X86_FS + n]) ? 0 : 1ull << 63;
	c->cs_base = base;
}

/* What decoding and the choice of handlers depend on; CPL and segment contents
 * are looked at when the handlers run. */
static void key_update(struct x86_cpu *c)
{
	c->block_key = c->mode | (c->flat ? 8u : 0) | (c->cpl == 3 ? 32u : 0) | ((c->s.seg[X86_SS].attr & X86_AR_DB) ? 16u : 0);
}

static void class_update(struct x86_cpu *c)
{
	c->acc = access_class(c);
	c->tlb_now = c->tlb[c->acc];
}

static void stack_update(struct x86_cpu *c)
{
	if (c->mode == X86_MODE_LONG64)
		c->stack_size = 8;
	else
		c->stack_size = c->s.seg[X86_SS].attr & X86_AR_DB ? 4 : 2;
}

void x86_level_update(struct x86_cpu *c)
{
	uint8_t mode = mode_of(&c->s, true);

	c->cpl = (c->s.seg[X86_SS].attr & X86_AR_DPL) >> X86_AR_DPL_SHIFT;
	if (mode != c->mode) {
		c->mode = mode;
		stack_update(c);
		segments_update(c);
	}
	class_update(c);
	key_update(c);
}

void x86_mode_update(struct x86_cpu *c)
{
	struct x86_state *s = &c->s;
	bool watch = c->debug_data;

	c->long_mode = s->efer & X86_EFER_LMA;
	c->paging = s->cr0 & X86_CR0_PG;
	c->mode = mode_of(s, c->long_mode);
	if (c->mode == X86_MODE_REAL)
		c->cpl = 0;
	else if (c->mode == X86_MODE_VM86)
		c->cpl = 3;
	else
		c->cpl = (s->seg[X86_SS].attr & X86_AR_DPL) >> X86_AR_DPL_SHIFT;
	stack_update(c);
	class_update(c);
	for (unsigned n = 0; n < 4; n++)
		if ((s->dr7 >> (2 * n) & 3) && (s->dr7 >> (16 + 4 * n) & 3))
			watch = true;
	if (watch != c->watch) {
		c->watch = watch;
		x86_tlb_flush(c);
	}
	segments_update(c);
	c->step_mode = (s->rflags & (X86_FL_TF | X86_FL_RF)) || (s->dr7 & 0xff) || c->debug_step || c->debug_exec;
	key_update(c);
	c->leave_block = true;
}

bool x86_canonical_base(const struct x86_cpu *c, uint64_t base)
{
	unsigned sh = c->model && c->model->lin_bits == 57 ? 7 : 16;

	return (uint64_t)((int64_t)(base << sh) >> sh) == base;
}
