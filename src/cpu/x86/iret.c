/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IRET in all its forms (SDM vol. 2, IRET): real mode, virtual-8086 mode (with
 * VME), task return, return to the same or an outer level, to virtual-8086 mode,
 * and within and out of IA-32e mode.
 *
 * Everything is popped and checked before a register changes.
 */
#include "cpu/x86/sys.h"

struct frame {
	uint64_t rip, flags, rsp;
	uint16_t cs, ss;
};

/* Flags that CPL and IOPL allow to change, for an operand size of osz. */
static void commit_flags(struct x86_cpu *c, uint64_t v, unsigned osz, unsigned cpl)
{
	unsigned iopl = (c->s.rflags & X86_FL_IOPL) >> 12;
	uint64_t mask = X86_FL_ARITH | X86_FL_TF | X86_FL_DF | X86_FL_NT;

	if (osz > 2)
		mask |= X86_FL_RF | X86_FL_AC | X86_FL_ID;
	if (cpl <= iopl)
		mask |= X86_FL_IF;
	if (cpl == 0) {
		mask |= X86_FL_IOPL;
		if (osz > 2)
			mask |= X86_FL_VIF | X86_FL_VIP;
	}
	if (osz == 2)
		mask &= 0xffff;
	c->s.rflags = (c->s.rflags & ~mask) | (v & mask) | X86_FL_FIXED;
}

static void iret_real(struct x86_cpu *c, unsigned osz)
{
	struct x86_stack st;
	uint64_t ip, flags;
	uint16_t cs;

	x86_stack_current(c, &st);
	ip = x86_stack_pop(c, &st, osz);
	cs = (uint16_t)x86_stack_pop(c, &st, osz);
	flags = x86_stack_pop(c, &st, osz);
	if (ip > c->s.seg[X86_CS].limit)
		x86_gp(c, 0);
	x86_stack_commit(c, &st);
	x86_load_seg_real(c, X86_CS, cs);
	c->s.rip = ip;
	commit_flags(c, flags, osz, 0);
	x86_mode_update(c);
}

static void iret_vm86(struct x86_cpu *c, unsigned osz)
{
	bool vme = (c->s.rflags & X86_FL_IOPL) != X86_FL_IOPL;
	struct x86_stack st;
	uint64_t ip, flags;
	uint16_t cs;

	if (vme && (!(c->s.cr4 & X86_CR4_VME) || osz != 2))
		x86_gp(c, 0);
	x86_stack_current(c, &st);
	ip = x86_stack_pop(c, &st, osz);
	cs = (uint16_t)x86_stack_pop(c, &st, osz);
	flags = x86_stack_pop(c, &st, osz);
	if (ip > 0xffff)
		x86_gp(c, 0);
	if (vme && ((flags & X86_FL_TF) || ((flags & X86_FL_IF) && (c->s.rflags & X86_FL_VIP))))
		x86_gp(c, 0);
	x86_stack_commit(c, &st);
	x86_load_seg_vm86(c, X86_CS, cs);
	c->s.rip = ip;
	if (vme) {
		/* IOPL and IF stay; the popped IF becomes VIF. */
		uint64_t mask = 0xffffu & ~(X86_FL_IOPL | X86_FL_IF);

		c->s.rflags = (c->s.rflags & ~(mask | X86_FL_VIF)) | (flags & mask & 0x7fd5) | X86_FL_FIXED |
			      (flags & X86_FL_IF ? X86_FL_VIF : 0);
	} else {
		commit_flags(c, flags, osz, 3);
	}
	x86_mode_update(c);
}

/* Popped VM = 1 at CPL 0: six more words follow, and we are in virtual-8086 mode. */
static void iret_to_vm86(struct x86_cpu *c, struct x86_stack *st, const struct frame *f)
{
	static const uint8_t order[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	uint16_t sel[4], ss;
	uint32_t esp;

	esp = (uint32_t)x86_stack_pop(c, st, 4);
	ss = (uint16_t)x86_stack_pop(c, st, 4);
	for (unsigned i = 0; i < 4; i++)
		sel[i] = (uint16_t)x86_stack_pop(c, st, 4);
	if (f->rip > 0xffff)
		x86_gp(c, 0);
	commit_flags(c, f->flags, 4, 0);
	c->s.rflags |= X86_FL_VM;
	x86_load_seg_vm86(c, X86_CS, f->cs);
	x86_load_seg_vm86(c, X86_SS, ss);
	for (unsigned i = 0; i < 4; i++)
		x86_load_seg_vm86(c, order[i], sel[i]);
	c->s.gpr[X86_RSP] = esp;
	c->s.rip = f->rip & 0xffff;
	x86_mode_update(c);
}

static void check_cs(struct x86_cpu *c, const struct frame *f, struct x86_desc *cs)
{
	unsigned rpl = f->cs & 3;

	if (sel_null(f->cs))
		x86_gp(c, 0);
	x86_read_desc(c, f->cs, cs, X86_EX_GP);
	if (!desc_code(cs) || rpl < c->cpl)
		raise_sel(c, X86_EX_GP, f->cs, 0);
	if (desc_conforming(cs) ? desc_dpl(cs) > rpl : desc_dpl(cs) != rpl)
		raise_sel(c, X86_EX_GP, f->cs, 0);
	if (c->long_mode && desc_l(cs) && desc_db(cs))
		raise_sel(c, X86_EX_GP, f->cs, 0);
	if (!desc_p(cs))
		raise_sel(c, X86_EX_NP, f->cs, 0);
}

static void check_rip(struct x86_cpu *c, const struct frame *f, const struct x86_desc *cs)
{
	struct x86_seg s;

	x86_seg_from_desc(&s, 0, cs);
	if (c->long_mode && desc_l(cs) ? !x86_canonical(c, f->rip) : f->rip > s.limit)
		x86_gp(c, 0);
}

static void check_outer_ss(struct x86_cpu *c, const struct frame *f, const struct x86_desc *cs, struct x86_desc *ss)
{
	unsigned rpl = f->cs & 3;

	if (sel_null(f->ss)) {
		/* A null SS may be returned to in 64-bit mode below CPL 3. */
		if (!c->long_mode || !desc_l(cs) || rpl == 3)
			x86_gp(c, 0);
		return;
	}
	x86_check_ss(c, f->ss, ss, rpl, X86_EX_GP, 0);
	x86_desc_set_accessed(c, ss);
}

static void iret_protected(struct x86_cpu *c, unsigned osz)
{
	bool was64 = c->mode == X86_MODE_LONG64;
	unsigned old_cpl = c->cpl, rpl;
	struct x86_desc cs, ss = { 0 };
	struct x86_stack st;
	struct frame f = { 0 };
	bool pop_ss;

	x86_stack_current(c, &st);
	f.rip = x86_stack_pop(c, &st, osz);
	f.cs = (uint16_t)x86_stack_pop(c, &st, osz);
	f.flags = x86_stack_pop(c, &st, osz);
	if (osz == 4 && (f.flags & X86_FL_VM) && c->cpl == 0 && !c->long_mode) {
		iret_to_vm86(c, &st, &f);
		return;
	}
	check_cs(c, &f, &cs);
	rpl = f.cs & 3;
	pop_ss = was64 || rpl > old_cpl;
	if (pop_ss) {
		f.rsp = x86_stack_pop(c, &st, osz);
		f.ss = (uint16_t)x86_stack_pop(c, &st, osz);
		check_outer_ss(c, &f, &cs, &ss);
	}
	check_rip(c, &f, &cs);
	x86_desc_set_accessed(c, &cs);

	if (pop_ss)
		x86_commit_ss(c, f.ss, &ss, rpl);
	else
		x86_stack_commit(c, &st);
	x86_commit_cs(c, f.cs, &cs, rpl);
	c->s.rip = f.rip;
	commit_flags(c, f.flags, osz, old_cpl);
	x86_mode_update(c);
	if (pop_ss)
		x86_set_sp(c, f.rsp);
	if (rpl > old_cpl)
		x86_drop_inner_segs(c);
}

static void iret_task(struct x86_cpu *c)
{
	uint16_t link;

	if (c->long_mode)
		x86_gp(c, 0);
	link = (uint16_t)x86_ld(c, (uint32_t)c->s.seg[X86_TR].base, 2, X86_ACC_SUP);
	x86_task_switch(c, link, X86_TASK_IRET, x86_next_rip(c), c->s.rflags, false, 0, 0);
}

void x86_iret(struct x86_cpu *c, unsigned osz)
{
	/* NMIs open up even if the IRET faults (SDM vol. 3, 6.7.1). */
	c->s.nmi_blocked = 0;
	if (c->mode == X86_MODE_REAL)
		iret_real(c, osz);
	else if (c->mode == X86_MODE_VM86)
		iret_vm86(c, osz);
	else if (c->s.rflags & X86_FL_NT)
		iret_task(c);
	else
		iret_protected(c, osz);
}
