/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt and exception delivery (SDM vol. 3, chapters 6 and 21; INT n in
 * vol. 2): the IVT of real mode, 16- and 32-bit gates, task gates, virtual-8086
 * mode with and without VME, 64-bit gates with IST.
 *
 * Everything is checked and all stack writes are made before the first register
 * changes; CR2 and DR6 are the exception, as on silicon.  An error met on the
 * way is raised like any other fault: c->delivering tells the run loop that it
 * has to be merged with the event being delivered.
 */
#include "base/log.h"
#include "cpu/x86/sys.h"

/* One event on its way through a gate. */
struct delivery {
	const struct x86_event *ev;
	unsigned ext;		/* EXT bit for errors met on the way */
	bool soft;		/* INT n, INT3, INTO: the gate's DPL is checked */
	uint64_t rip;		/* to push */
	uint64_t flags;		/* to push */
};

static uint32_t idt_err(const struct delivery *d)
{
	return d->ev->vector * 8u + 2 + d->ext;
}

/* --- double faults --- */

enum { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE };

static int class_of(const struct x86_event *e)
{
	if (e->kind != X86_EV_FAULT && e->kind != X86_EV_TRAP)
		return BENIGN;
	switch (e->vector) {
	case X86_EX_DE: case X86_EX_TS: case X86_EX_NP: case X86_EX_SS: case X86_EX_GP:
		return CONTRIBUTORY;
	case X86_EX_PF:
		return PAGE_FAULT;
	case X86_EX_DF:
		return DOUBLE;
	default:
		return BENIGN;
	}
}

bool x86_deliver_merge(struct x86_cpu *c, const struct x86_event *first, struct x86_event *second)
{
	int a = class_of(first), b = class_of(second);

	c->delivering = -1;
	if (b == BENIGN)
		return true;
	if (a == DOUBLE) {
		c->shutdown = true;
		return false;
	}
	if (a == PAGE_FAULT || (a == CONTRIBUTORY && b == CONTRIBUTORY)) {
		/* The second page fault's address is what the handler finds. */
		if (second->vector == X86_EX_PF)
			c->s.cr2 = second->cr2;
		*second = (struct x86_event){ .vector = X86_EX_DF, .kind = X86_EV_FAULT, .has_err = true };
	}
	return true;
}

/* --- what every delivery ends with --- */

static void finish(struct x86_cpu *c, const struct delivery *d, uint64_t clear)
{
	c->s.rflags &= ~clear;
	c->s.shadow = 0;
	if (d->ev->kind == X86_EV_NMI)
		c->s.nmi_blocked = 1;
	x86_mode_update(c);
}

/* --- real mode --- */

static void deliver_real(struct x86_cpu *c, const struct delivery *d)
{
	uint32_t at = d->ev->vector * 4u, ptr;
	struct x86_stack st;

	if (at + 3 > c->s.idtr.limit)
		x86_gp(c, idt_err(d));
	ptr = (uint32_t)x86_ld(c, (uint32_t)(c->s.idtr.base + at), 4, X86_ACC_SUP);
	x86_stack_current(c, &st);
	x86_stack_push(c, &st, 2, d->flags & 0xffff);
	x86_stack_push(c, &st, 2, c->s.seg[X86_CS].sel);
	x86_stack_push(c, &st, 2, d->rip & 0xffff);
	x86_stack_commit(c, &st);
	x86_load_seg_real(c, X86_CS, ptr >> 16);
	c->s.rip = ptr & 0xffff;
	finish(c, d, X86_FL_IF | X86_FL_TF | X86_FL_AC | X86_FL_RF);
}

/* --- virtual-8086 mode, VME --- */

bool x86_vme_bit(struct x86_cpu *c, int vector)
{
	const struct x86_seg *tr = &c->s.seg[X86_TR];
	uint64_t map, at;

	if (tr->limit < 103)
		x86_gp(c, 0);
	map = x86_ld(c, (uint32_t)(tr->base + 102), 2, X86_ACC_SUP);
	at = map - 32 + (unsigned)vector / 8;
	if (map < 32 || at > tr->limit)
		x86_gp(c, 0);
	return x86_ld(c, (uint32_t)(tr->base + at), 1, X86_ACC_SUP) >> (vector & 7) & 1;
}

void x86_vm86_redirect(struct x86_cpu *c, int vector)
{
	uint64_t flags = c->s.rflags, clear = X86_FL_TF;
	uint32_t ptr = (uint32_t)x86_ld(c, (unsigned)vector * 4u, 4, c->acc);
	struct x86_stack st;

	if ((flags & X86_FL_IOPL) == X86_FL_IOPL) {
		clear |= X86_FL_IF;
	} else {
		flags = (flags & ~(uint64_t)X86_FL_IF) | X86_FL_IOPL | (flags & X86_FL_VIF ? X86_FL_IF : 0);
		clear |= X86_FL_VIF;
	}
	x86_stack_current(c, &st);
	x86_stack_push(c, &st, 2, flags & 0xffff);
	x86_stack_push(c, &st, 2, c->s.seg[X86_CS].sel);
	x86_stack_push(c, &st, 2, x86_next_rip(c) & 0xffff);
	x86_stack_commit(c, &st);
	x86_load_seg_vm86(c, X86_CS, ptr >> 16);
	c->s.rip = ptr & 0xffff;
	c->s.rflags &= ~clear;
	x86_mode_update(c);
}

/* --- protected mode, 16- and 32-bit gates --- */

static void check_handler_cs(struct x86_cpu *c, uint16_t sel, struct x86_desc *cs, unsigned ext)
{
	if (sel_null(sel))
		x86_gp(c, ext);
	x86_read_desc_ext(c, sel, cs, X86_EX_GP, ext);
	if (!desc_code(cs) || desc_dpl(cs) > c->cpl)
		raise_sel(c, X86_EX_GP, sel, ext);
	if (c->long_mode && (!desc_l(cs) || desc_db(cs)))
		raise_sel(c, X86_EX_GP, sel, ext);
	if (!desc_p(cs))
		raise_sel(c, X86_EX_NP, sel, ext);
}

static void check_eip(struct x86_cpu *c, const struct x86_desc *cs, uint64_t eip, unsigned ext)
{
	struct x86_seg s;

	x86_seg_from_desc(&s, 0, cs);
	if (eip > s.limit)
		x86_gp(c, ext);
}

static void push_frame(struct x86_cpu *c, const struct delivery *d, struct x86_stack *st, unsigned osz)
{
	x86_stack_push(c, st, osz, d->flags);
	x86_stack_push(c, st, osz, c->s.seg[X86_CS].sel);
	x86_stack_push(c, st, osz, d->rip);
	if (d->ev->has_err)
		x86_stack_push(c, st, osz, d->ev->err);
}

static void same_level(struct x86_cpu *c, const struct delivery *d, uint16_t sel, struct x86_desc *cs, uint64_t eip,
		       unsigned osz)
{
	struct x86_stack st;

	x86_stack_current(c, &st);
	st.err = d->ext;
	x86_stack_room(c, &st, osz * (d->ev->has_err ? 4 : 3));
	check_eip(c, cs, eip, d->ext);
	push_frame(c, d, &st, osz);
	x86_desc_set_accessed(c, cs);
	x86_stack_commit(c, &st);
	x86_commit_cs(c, sel, cs, c->cpl);
	c->s.rip = eip;
}

static void inner_level(struct x86_cpu *c, const struct delivery *d, uint16_t sel, struct x86_desc *cs, uint64_t eip,
			unsigned osz)
{
	bool vm = c->mode == X86_MODE_VM86;
	unsigned dpl = desc_dpl(cs);
	struct x86_stack st;
	struct x86_desc sd;
	uint16_t ss;
	uint32_t esp;

	x86_tss_stack(c, dpl, &ss, &esp, d->ext);
	if (sel_null(ss))
		x86_raise_err(c, X86_EX_TS, d->ext);
	x86_check_ss(c, ss, &sd, dpl, X86_EX_TS, d->ext);
	x86_stack_from_desc(&st, &sd, esp, dpl, (ss & 0xfffcu) | d->ext);
	x86_stack_room(c, &st, osz * ((vm ? 9 : 5) + d->ev->has_err));
	check_eip(c, cs, eip, d->ext);
	if (vm) {
		x86_stack_push(c, &st, osz, c->s.seg[X86_GS].sel);
		x86_stack_push(c, &st, osz, c->s.seg[X86_FS].sel);
		x86_stack_push(c, &st, osz, c->s.seg[X86_DS].sel);
		x86_stack_push(c, &st, osz, c->s.seg[X86_ES].sel);
	}
	x86_stack_push(c, &st, osz, c->s.seg[X86_SS].sel);
	x86_stack_push(c, &st, osz, c->s.gpr[X86_RSP]);
	push_frame(c, d, &st, osz);
	x86_desc_set_accessed(c, &sd);
	x86_desc_set_accessed(c, cs);
	if (vm) {
		static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

		for (unsigned i = 0; i < 4; i++)
			x86_null_seg(&c->s.seg[data[i]], 0, 0);
	}
	x86_commit_ss(c, ss, &sd, dpl);
	x86_commit_cs(c, sel, cs, dpl);
	x86_stack_commit(c, &st);
	c->s.rip = eip;
}

static void through_gate32(struct x86_cpu *c, const struct delivery *d, const struct x86_desc *gate)
{
	bool is16 = !(desc_type(gate) & 8), vm = c->mode == X86_MODE_VM86;
	uint16_t sel = gate_sel(gate);
	uint64_t eip = gate_off(gate, false, is16);
	struct x86_desc cs;

	check_handler_cs(c, sel, &cs, d->ext);
	if (vm && (desc_conforming(&cs) || desc_dpl(&cs) != 0))
		raise_sel(c, X86_EX_GP, sel, d->ext);
	if (!desc_conforming(&cs) && desc_dpl(&cs) < c->cpl)
		inner_level(c, d, sel, &cs, eip, is16 ? 2 : 4);
	else
		same_level(c, d, sel, &cs, eip, is16 ? 2 : 4);
	finish(c, d, X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM | (desc_type(gate) & 1 ? 0 : X86_FL_IF));
}

static void check_gate(struct x86_cpu *c, const struct delivery *d, const struct x86_desc *gate, uint32_t types)
{
	if (desc_s(gate) || !(types >> desc_type(gate) & 1))
		x86_gp(c, idt_err(d));
	if (d->soft && desc_dpl(gate) < c->cpl)
		x86_gp(c, idt_err(d));
	if (!desc_p(gate))
		x86_raise_err(c, X86_EX_NP, idt_err(d));
}

static void deliver_protected(struct x86_cpu *c, const struct delivery *d)
{
	uint32_t at = d->ev->vector * 8u;
	struct x86_desc gate = { 0 };
	uint64_t raw;

	if (at + 7 > c->s.idtr.limit)
		x86_gp(c, idt_err(d));
	raw = x86_ld(c, (uint32_t)(c->s.idtr.base + at), 8, X86_ACC_SUP);
	gate.lo = (uint32_t)raw;
	gate.hi = (uint32_t)(raw >> 32);
	check_gate(c, d, &gate, 1u << X86_ST_TASK_GATE | 1u << X86_ST_INT16 | 1u << X86_ST_TRAP16 |
					1u << X86_ST_INT32 | 1u << X86_ST_TRAP32);
	if (desc_type(&gate) != X86_ST_TASK_GATE) {
		through_gate32(c, d, &gate);
		return;
	}
	x86_task_switch(c, gate_sel(&gate), X86_TASK_GATE, d->rip, d->flags, d->ev->has_err, d->ev->err, d->ext);
	finish(c, d, 0);
}

/* --- IA-32e mode --- */

static void deliver_long(struct x86_cpu *c, const struct delivery *d)
{
	uint32_t at = d->ev->vector * 16u;
	struct x86_stack st = { .flat = true, .mask = ~0ull, .err = d->ext };
	struct x86_desc gate = { 0 }, cs;
	unsigned ist, cpl = c->cpl;
	uint64_t raw, rip;
	uint16_t sel;

	if (at + 15 > c->s.idtr.limit)
		x86_gp(c, idt_err(d));
	raw = x86_ld(c, c->s.idtr.base + at, 8, X86_ACC_SUP);
	gate.lo = (uint32_t)raw;
	gate.hi = (uint32_t)(raw >> 32);
	gate.up = (uint32_t)x86_ld(c, c->s.idtr.base + at + 8, 4, X86_ACC_SUP);
	check_gate(c, d, &gate, 1u << X86_ST_INT32 | 1u << X86_ST_TRAP32);
	sel = gate_sel(&gate);
	rip = gate_off(&gate, true, false);
	ist = gate.hi & 7;
	check_handler_cs(c, sel, &cs, d->ext);
	if (!desc_conforming(&cs))
		cpl = desc_dpl(&cs);
	if (ist || cpl < c->cpl) {
		st.sp = x86_tss_rsp(c, cpl, ist, d->ext);
		st.acc = cpl == 3 ? X86_ACC_USER : X86_ACC_SUP;
	} else {
		st.sp = c->s.gpr[X86_RSP];
		st.acc = c->acc;
	}
	st.sp &= ~15ull;
	if (!x86_canonical(c, rip))
		x86_gp(c, d->ext);
	x86_stack_push(c, &st, 8, c->s.seg[X86_SS].sel);
	x86_stack_push(c, &st, 8, c->s.gpr[X86_RSP]);
	push_frame(c, d, &st, 8);
	x86_desc_set_accessed(c, &cs);
	if (cpl < c->cpl)
		x86_null_seg(&c->s.seg[X86_SS], (uint16_t)cpl, cpl);
	x86_commit_cs(c, sel, &cs, cpl);
	x86_stack_commit(c, &st);
	c->s.rip = rip;
	finish(c, d, X86_FL_TF | X86_FL_NT | X86_FL_RF | X86_FL_VM | (desc_type(&gate) & 1 ? 0 : X86_FL_IF));
}

/* --- entry points --- */

/* RF in the pushed image: set for faults, so that IRET goes past an instruction
 * breakpoint; not for that breakpoint itself (SDM vol. 3, 18.3.1.1). */
static bool sets_rf(const struct x86_cpu *c, const struct x86_event *ev)
{
	if (ev->kind != X86_EV_FAULT || ev->vector == X86_EX_DF)
		return false;
	return ev->vector != X86_EX_DB;
}

static void note_event(struct x86_cpu *c, const struct x86_event *ev)
{
	if (ev->kind != X86_EV_FAULT && ev->kind != X86_EV_TRAP)
		return;
	if (ev->vector == X86_EX_PF)
		c->s.cr2 = ev->cr2;
	if (ev->vector == X86_EX_DB) {
		/* B0-B3 say what matched now; the other bits are never cleared. */
		c->s.dr6 = (c->s.dr6 & ~0xfull) | ev->dr6;
		c->s.dr7 &= ~(1ull << 13);
	}
}

void x86_deliver(struct x86_cpu *c, const struct x86_event *ev)
{
	bool soft = ev->kind == X86_EV_SOFT, icebp = ev->kind == X86_EV_SOFT_ICEBP;
	struct delivery d = {
		.ev = ev, .ext = !soft, .soft = soft,
		.rip = soft || icebp ? x86_next_rip(c) : c->s.rip, .flags = c->s.rflags,
	};

	note_event(c, ev);
	if (sets_rf(c, ev))
		d.flags |= X86_FL_RF;
	else if (ev->kind != X86_EV_INTR && ev->kind != X86_EV_NMI)
		d.flags &= ~(uint64_t)X86_FL_RF;
	/* A software interrupt is benign towards what it runs into: the fault is
	 * reported at the instruction itself. */
	c->delivering = soft || icebp ? -1 : ev->vector;
	if (c->mode == X86_MODE_REAL)
		deliver_real(c, &d);
	else if (c->long_mode)
		deliver_long(c, &d);
	else
		deliver_protected(c, &d);
	c->delivering = -1;
}

/* INT n (CD ib) as opposed to INT3 and INTO, which are other opcodes. */
static bool is_int_n(struct x86_cpu *c, int vector)
{
	uint64_t at = (x86_next_rip(c) - 1) & 0xffff;

	if (vector != X86_EX_BP && vector != X86_EX_OF)
		return true;
	return (int)x86_ld(c, (uint32_t)(c->s.seg[X86_CS].base + at), 1, c->acc) == vector;
}

void x86_soft_int(struct x86_cpu *c, int vector, int kind)
{
	struct x86_event ev = { .vector = (uint8_t)vector, .kind = (uint8_t)kind };

	if (c->mode == X86_MODE_VM86 && kind == X86_EV_SOFT && is_int_n(c, vector)) {
		if ((c->s.cr4 & X86_CR4_VME) && !x86_vme_bit(c, vector)) {
			x86_vm86_redirect(c, vector);
			return;
		}
		if ((c->s.rflags & X86_FL_IOPL) != X86_FL_IOPL)
			x86_gp(c, 0);
	}
	x86_deliver(c, &ev);
}
