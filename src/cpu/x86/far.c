/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Far jumps, calls and returns: code segments, call gates of all sizes, task
 * gates and TSSs (SDM vol. 2: JMP, CALL, RET; vol. 3, 5.8).
 *
 * All reads and pushes come before the first register changes.
 */
#include "cpu/x86/sys.h"

struct target {
	uint16_t sel;
	uint64_t off;
	struct x86_desc cs;
};

static void check_off(struct x86_cpu *c, const struct target *t)
{
	struct x86_seg s;

	x86_seg_from_desc(&s, 0, &t->cs);
	if (c->long_mode && desc_l(&t->cs) ? !x86_canonical(c, t->off) : t->off > s.limit)
		x86_gp(c, 0);
}

/* A code segment named directly by JMP or CALL. */
static void check_direct(struct x86_cpu *c, const struct target *t)
{
	unsigned rpl = t->sel & 3, dpl = desc_dpl(&t->cs);

	if (desc_conforming(&t->cs) ? dpl > c->cpl : rpl > c->cpl || dpl != c->cpl)
		raise_sel(c, X86_EX_GP, t->sel, 0);
	if (!desc_p(&t->cs))
		raise_sel(c, X86_EX_NP, t->sel, 0);
	if (c->long_mode && desc_l(&t->cs) && desc_db(&t->cs))
		raise_sel(c, X86_EX_GP, t->sel, 0);
}

static void go(struct x86_cpu *c, struct target *t, unsigned cpl)
{
	x86_commit_cs(c, t->sel, &t->cs, cpl);
	c->s.rip = t->off;
	x86_mode_update(c);
}

/* Reads what a call gate leads to; gate_desc was found at `sel`. */
static void through_call_gate(struct x86_cpu *c, uint16_t sel, const struct x86_desc *gate, struct target *t)
{
	bool is16 = desc_type(gate) == X86_ST_CALL16;

	if (desc_dpl(gate) < c->cpl || (sel & 3u) > desc_dpl(gate))
		raise_sel(c, X86_EX_GP, sel, 0);
	if (!desc_p(gate))
		raise_sel(c, X86_EX_NP, sel, 0);
	t->sel = gate_sel(gate);
	t->off = gate_off(gate, c->long_mode, is16);
	if (sel_null(t->sel))
		x86_gp(c, 0);
	x86_read_desc(c, t->sel, &t->cs, X86_EX_GP);
	if (!desc_code(&t->cs) || desc_dpl(&t->cs) > c->cpl)
		raise_sel(c, X86_EX_GP, t->sel, 0);
	if (c->long_mode && (!desc_l(&t->cs) || desc_db(&t->cs)))
		raise_sel(c, X86_EX_GP, t->sel, 0);
	if (!desc_p(&t->cs))
		raise_sel(c, X86_EX_NP, t->sel, 0);
}

/* TSS or task gate named by a far pointer. */
static void task_transfer(struct x86_cpu *c, uint16_t sel, const struct x86_desc *d, enum x86_task_why why)
{
	if (desc_dpl(d) < c->cpl || desc_dpl(d) < (sel & 3u))
		raise_sel(c, X86_EX_GP, sel, 0);
	if (desc_type(d) == X86_ST_TASK_GATE) {
		if (!desc_p(d))
			raise_sel(c, X86_EX_NP, sel, 0);
		sel = gate_sel(d);
	}
	x86_task_switch(c, sel, why, x86_next_rip(c), c->s.rflags, false, 0, 0);
}

enum sys_kind { SYS_BAD, SYS_CALL_GATE, SYS_TASK };

static enum sys_kind sys_kind(const struct x86_cpu *c, const struct x86_desc *d)
{
	switch (desc_type(d)) {
	case X86_ST_CALL32: return SYS_CALL_GATE;
	case X86_ST_CALL16: return c->long_mode ? SYS_BAD : SYS_CALL_GATE;
	case X86_ST_TSS16: case X86_ST_TSS32: case X86_ST_TSS16_BUSY: case X86_ST_TSS32_BUSY: case X86_ST_TASK_GATE:
		return c->long_mode ? SYS_BAD : SYS_TASK;
	default: return SYS_BAD;
	}
}

/* --- JMP --- */

static bool jmp_system(struct x86_cpu *c, struct target *t)
{
	struct x86_desc gate = t->cs;

	switch (sys_kind(c, &gate)) {
	case SYS_TASK:
		task_transfer(c, t->sel, &gate, X86_TASK_JMP);
		return true;
	case SYS_CALL_GATE:
		through_call_gate(c, t->sel, &gate, t);
		/* A jump stays at its level. */
		if (!desc_conforming(&t->cs) && desc_dpl(&t->cs) != c->cpl)
			raise_sel(c, X86_EX_GP, t->sel, 0);
		return false;
	default:
		raise_sel(c, X86_EX_GP, t->sel, 0);
	}
}

void x86_jmp_far(struct x86_cpu *c, uint16_t sel, uint64_t off, unsigned osz)
{
	struct target t = { .sel = sel, .off = off };

	if (osz == 2)
		t.off &= 0xffff;
	if (c->mode == X86_MODE_REAL || c->mode == X86_MODE_VM86) {
		if (t.off > c->s.seg[X86_CS].limit)
			x86_gp(c, 0);
		if (c->mode == X86_MODE_REAL)
			x86_load_seg_real(c, X86_CS, sel);
		else
			x86_load_seg_vm86(c, X86_CS, sel);
		c->s.rip = t.off;
		x86_mode_update(c);
		return;
	}
	if (sel_null(sel))
		x86_gp(c, 0);
	x86_read_desc(c, sel, &t.cs, X86_EX_GP);
	if (desc_s(&t.cs)) {
		if (!desc_code(&t.cs))
			raise_sel(c, X86_EX_GP, sel, 0);
		check_direct(c, &t);
	} else if (jmp_system(c, &t)) {
		return;
	}
	check_off(c, &t);
	x86_desc_set_accessed(c, &t.cs);
	go(c, &t, c->cpl);
}

/* --- CALL --- */

static void push_return(struct x86_cpu *c, struct x86_stack *st, unsigned osz)
{
	x86_stack_push(c, st, osz, c->s.seg[X86_CS].sel);
	x86_stack_push(c, st, osz, x86_next_rip(c));
}

/* To the same level: the return address goes to the current stack. */
static void call_same(struct x86_cpu *c, struct target *t, unsigned osz)
{
	struct x86_stack st;

	x86_stack_current(c, &st);
	x86_stack_room(c, &st, 2 * osz);
	check_off(c, t);
	push_return(c, &st, osz);
	x86_desc_set_accessed(c, &t->cs);
	x86_stack_commit(c, &st);
	go(c, t, c->cpl);
}

/* Through a 16- or 32-bit gate to an inner level: new stack, parameters copied. */
static void call_inner(struct x86_cpu *c, struct target *t, unsigned osz, unsigned n_params)
{
	unsigned dpl = desc_dpl(&t->cs);
	struct x86_stack st, old;
	uint32_t params[32], esp;
	struct x86_desc sd;
	uint16_t ss;

	x86_tss_stack(c, dpl, &ss, &esp, 0);
	if (sel_null(ss))
		x86_raise_err(c, X86_EX_TS, 0);
	x86_check_ss(c, ss, &sd, dpl, X86_EX_TS, 0);
	x86_stack_from_desc(&st, &sd, esp, dpl, ss & 0xfffc);
	x86_stack_room(c, &st, osz * (4 + n_params));
	check_off(c, t);
	x86_stack_current(c, &old);
	for (unsigned i = 0; i < n_params; i++)
		params[i] = (uint32_t)x86_stack_pop(c, &old, osz);
	x86_stack_push(c, &st, osz, c->s.seg[X86_SS].sel);
	x86_stack_push(c, &st, osz, c->s.gpr[X86_RSP]);
	for (unsigned i = n_params; i-- > 0;)
		x86_stack_push(c, &st, osz, params[i]);
	push_return(c, &st, osz);
	x86_desc_set_accessed(c, &sd);
	x86_desc_set_accessed(c, &t->cs);
	x86_commit_ss(c, ss, &sd, dpl);
	x86_stack_commit(c, &st);
	go(c, t, dpl);
}

/* Through a 64-bit gate to an inner level. */
static void call_inner64(struct x86_cpu *c, struct target *t)
{
	unsigned dpl = desc_dpl(&t->cs);
	struct x86_stack st = { .flat = true, .mask = ~0ull, .acc = X86_ACC_SUP };

	st.sp = x86_tss_rsp(c, dpl, 0, 0);
	check_off(c, t);
	x86_stack_push(c, &st, 8, c->s.seg[X86_SS].sel);
	x86_stack_push(c, &st, 8, c->s.gpr[X86_RSP]);
	push_return(c, &st, 8);
	x86_desc_set_accessed(c, &t->cs);
	x86_null_seg(&c->s.seg[X86_SS], (uint16_t)dpl, dpl);
	x86_stack_commit(c, &st);
	go(c, t, dpl);
}

static void call_system(struct x86_cpu *c, struct target *t)
{
	struct x86_desc gate = t->cs;
	unsigned osz;

	switch (sys_kind(c, &gate)) {
	case SYS_TASK:
		task_transfer(c, t->sel, &gate, X86_TASK_CALL);
		return;
	case SYS_CALL_GATE:
		break;
	default:
		raise_sel(c, X86_EX_GP, t->sel, 0);
	}
	through_call_gate(c, t->sel, &gate, t);
	osz = c->long_mode ? 8 : desc_type(&gate) == X86_ST_CALL16 ? 2 : 4;
	if (desc_conforming(&t->cs) || desc_dpl(&t->cs) == c->cpl)
		call_same(c, t, osz);
	else if (c->long_mode)
		call_inner64(c, t);
	else
		call_inner(c, t, osz, gate.hi & 31);
}

void x86_call_far(struct x86_cpu *c, uint16_t sel, uint64_t off, unsigned osz)
{
	struct target t = { .sel = sel, .off = off };
	struct x86_stack st;

	if (osz == 2)
		t.off &= 0xffff;
	if (c->mode == X86_MODE_REAL || c->mode == X86_MODE_VM86) {
		x86_stack_current(c, &st);
		push_return(c, &st, osz);
		if (t.off > c->s.seg[X86_CS].limit)
			x86_gp(c, 0);
		x86_stack_commit(c, &st);
		x86_jmp_far(c, sel, off, osz);
		return;
	}
	if (sel_null(sel))
		x86_gp(c, 0);
	x86_read_desc(c, sel, &t.cs, X86_EX_GP);
	if (!desc_s(&t.cs)) {
		call_system(c, &t);
		return;
	}
	if (!desc_code(&t.cs))
		raise_sel(c, X86_EX_GP, sel, 0);
	check_direct(c, &t);
	call_same(c, &t, osz);
}

/* --- RET --- */

static void ret_real(struct x86_cpu *c, unsigned osz, uint16_t pop)
{
	struct x86_stack st;
	uint64_t ip;
	uint16_t cs;

	x86_stack_current(c, &st);
	ip = x86_stack_pop(c, &st, osz);
	cs = (uint16_t)x86_stack_pop(c, &st, osz);
	if (ip > c->s.seg[X86_CS].limit)
		x86_gp(c, 0);
	st.sp += pop;
	x86_stack_commit(c, &st);
	if (c->mode == X86_MODE_REAL)
		x86_load_seg_real(c, X86_CS, cs);
	else
		x86_load_seg_vm86(c, X86_CS, cs);
	c->s.rip = ip;
	x86_mode_update(c);
}

static void check_ret_cs(struct x86_cpu *c, struct target *t)
{
	unsigned rpl = t->sel & 3, dpl;

	if (sel_null(t->sel))
		x86_gp(c, 0);
	x86_read_desc(c, t->sel, &t->cs, X86_EX_GP);
	dpl = desc_dpl(&t->cs);
	if (!desc_code(&t->cs) || rpl < c->cpl || (desc_conforming(&t->cs) ? dpl > rpl : dpl != rpl))
		raise_sel(c, X86_EX_GP, t->sel, 0);
	if (c->long_mode && desc_l(&t->cs) && desc_db(&t->cs))
		raise_sel(c, X86_EX_GP, t->sel, 0);
	if (!desc_p(&t->cs))
		raise_sel(c, X86_EX_NP, t->sel, 0);
}

static void ret_outer(struct x86_cpu *c, struct target *t, struct x86_stack *st, unsigned osz, uint16_t pop)
{
	unsigned rpl = t->sel & 3;
	struct x86_desc sd = { 0 };
	uint64_t rsp;
	uint16_t ss;

	st->sp += pop;
	rsp = x86_stack_pop(c, st, osz);
	ss = (uint16_t)x86_stack_pop(c, st, osz);
	if (!sel_null(ss))
		x86_check_ss(c, ss, &sd, rpl, X86_EX_GP, 0);
	else if (!c->long_mode || !desc_l(&t->cs) || rpl == 3)
		x86_gp(c, 0);
	check_off(c, t);
	if (!sel_null(ss))
		x86_desc_set_accessed(c, &sd);
	x86_desc_set_accessed(c, &t->cs);
	x86_commit_ss(c, ss, &sd, rpl);
	go(c, t, rpl);
	x86_set_sp(c, rsp + pop);
	x86_drop_inner_segs(c);
}

void x86_ret_far(struct x86_cpu *c, unsigned osz, uint16_t pop)
{
	struct target t = { 0 };
	struct x86_stack st;

	if (c->mode == X86_MODE_REAL || c->mode == X86_MODE_VM86) {
		ret_real(c, osz, pop);
		return;
	}
	x86_stack_current(c, &st);
	t.off = x86_stack_pop(c, &st, osz);
	t.sel = (uint16_t)x86_stack_pop(c, &st, osz);
	check_ret_cs(c, &t);
	if ((t.sel & 3) > c->cpl) {
		ret_outer(c, &t, &st, osz, pop);
		return;
	}
	check_off(c, &t);
	x86_desc_set_accessed(c, &t.cs);
	st.sp += pop;
	x86_stack_commit(c, &st);
	go(c, &t, c->cpl);
}
