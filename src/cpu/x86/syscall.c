/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT (SDM vol. 2).  Segment registers are loaded
 * with fixed flat values, tables are not read.
 *
 * Where the vendors differ the guest gets what its CPUID vendor promises for the
 * entry points (AMD: SYSCALL outside 64-bit mode, no SYSENTER in IA-32e mode);
 * SYSRET to a non-canonical address faults in ring 0 on both, as Intel does.
 */
#include "cpu/x86/cpuid.h"
#include "cpu/x86/sys.h"

enum { DATA = 0xc093, CODE32 = 0xc09b, CODE64 = 0xa09b };

static void flat_seg(struct x86_cpu *c, int seg, unsigned sel, uint32_t attr, unsigned dpl)
{
	c->s.seg[seg] = (struct x86_seg){
		.sel = (uint16_t)sel, .limit = 0xffffffffu, .attr = attr | dpl << X86_AR_DPL_SHIFT,
	};
}

static void flat_code_and_stack(struct x86_cpu *c, unsigned cs, uint32_t cs_attr, unsigned ss, unsigned cpl)
{
	flat_seg(c, X86_CS, cs, cs_attr, cpl);
	flat_seg(c, X86_SS, ss, DATA, cpl);
}

void x86_syscall(struct x86_cpu *c)
{
	struct x86_state *s = &c->s;
	unsigned sel = (unsigned)(s->star >> 32) & 0xfffc;

	if (!(s->efer & X86_EFER_SCE))
		x86_ud(c);
	if (c->mode != X86_MODE_LONG64 && (!x86_model_is_amd(c->model) || c->mode == X86_MODE_REAL))
		x86_ud(c);
	s->gpr[X86_RCX] = x86_next_rip(c);
	if (!c->long_mode) {
		/* AMD legacy mode (APM vol. 2, 6.1.1). */
		s->gpr[X86_RCX] &= 0xffffffffu;
		s->rip = s->star & 0xffffffffu;
		s->rflags &= ~(uint64_t)(X86_FL_IF | X86_FL_RF | X86_FL_VM);
		flat_code_and_stack(c, sel, CODE32, sel + 8, 0);
	} else {
		s->gpr[11] = s->rflags & ~(uint64_t)X86_FL_RF;
		s->rip = c->mode == X86_MODE_LONG64 ? s->lstar : s->cstar;
		s->rflags = (s->rflags & ~(s->fmask | X86_FL_RF)) | X86_FL_FIXED;
		flat_code_and_stack(c, sel, CODE64, sel + 8, 0);
	}
	x86_mode_update(c);
}

void x86_sysret(struct x86_cpu *c, unsigned osz)
{
	struct x86_state *s = &c->s;
	unsigned sel = (unsigned)(s->star >> 48);
	uint64_t mask = X86_FL_ARITH | X86_FL_TF | X86_FL_IF | X86_FL_DF | X86_FL_IOPL | X86_FL_NT | X86_FL_AC |
			X86_FL_VIF | X86_FL_VIP | X86_FL_ID;

	if (!(s->efer & X86_EFER_SCE))
		x86_ud(c);
	if (c->mode != X86_MODE_LONG64 && (!x86_model_is_amd(c->model) || c->mode == X86_MODE_REAL))
		x86_ud(c);
	if (c->mode == X86_MODE_VM86 || c->cpl != 0)
		x86_gp(c, 0);
	if (c->mode == X86_MODE_LONG64 && osz == 8) {
		if (!x86_canonical(c, s->gpr[X86_RCX]))
			x86_gp(c, 0);
		s->rip = s->gpr[X86_RCX];
		flat_code_and_stack(c, (sel + 16) | 3, CODE64, (sel + 8) | 3, 3);
	} else {
		s->rip = s->gpr[X86_RCX] & 0xffffffffu;
		flat_code_and_stack(c, sel | 3, CODE32, (sel + 8) | 3, 3);
	}
	if (c->long_mode)
		s->rflags = (s->gpr[11] & mask) | X86_FL_FIXED;
	else
		s->rflags |= X86_FL_IF;
	x86_mode_update(c);
}

void x86_sysenter(struct x86_cpu *c)
{
	struct x86_state *s = &c->s;
	unsigned sel = s->sysenter_cs & 0xfffc;
	bool lm = c->long_mode;

	if (lm && x86_model_is_amd(c->model))
		x86_ud(c);
	if (c->mode == X86_MODE_REAL || !sel)
		x86_gp(c, 0);
	s->rflags &= ~(uint64_t)(X86_FL_VM | X86_FL_IF | X86_FL_RF);
	s->gpr[X86_RSP] = lm ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
	s->rip = lm ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
	flat_code_and_stack(c, sel, lm ? CODE64 : CODE32, sel + 8, 0);
	x86_mode_update(c);
}

void x86_sysexit(struct x86_cpu *c, unsigned osz)
{
	struct x86_state *s = &c->s;
	unsigned sel = s->sysenter_cs & 0xfffc;

	if (c->long_mode && x86_model_is_amd(c->model))
		x86_ud(c);
	if (c->mode == X86_MODE_REAL || c->cpl != 0 || !sel)
		x86_gp(c, 0);
	if (osz == 8) {
		if (!x86_canonical(c, s->gpr[X86_RDX]) || !x86_canonical(c, s->gpr[X86_RCX]))
			x86_gp(c, 0);
		s->gpr[X86_RSP] = s->gpr[X86_RCX];
		s->rip = s->gpr[X86_RDX];
		flat_code_and_stack(c, (sel + 32) | 3, CODE64, (sel + 40) | 3, 3);
	} else {
		s->gpr[X86_RSP] = (uint32_t)s->gpr[X86_RCX];
		s->rip = (uint32_t)s->gpr[X86_RDX];
		flat_code_and_stack(c, (sel + 16) | 3, CODE32, (sel + 24) | 3, 3);
	}
	x86_mode_update(c);
}
