/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Delivery through the IVT and IDT and the way back: frames, error codes,
 * privilege changes, rights of stack accesses (SDM vol. 3, chapter 6; INT and
 * IRET in vol. 2).
 */
#include "sysfix.h"

static struct x86_event fault(int vector, bool has_err, uint32_t err)
{
	return (struct x86_event){ .vector = (uint8_t)vector, .kind = X86_EV_FAULT, .has_err = has_err, .err = err };
}

static struct x86_event intr(int vector)
{
	return (struct x86_event){ .vector = (uint8_t)vector, .kind = X86_EV_INTR };
}

/* Real mode: three words, IF and TF cleared, and IRET takes it all back. */
static void real_mode_round_trip(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;
	struct x86_event ev = intr(8);

	s->seg[X86_SS].base = 0x4000;
	s->seg[X86_SS].sel = 0x400;
	s->seg[X86_CS] = (struct x86_seg){ .sel = 0x123, .base = 0x1230, .limit = 0xffff, .attr = 0x9b };
	s->gpr[X86_RSP] = 0xdead0100;
	s->rip = 0x77;
	s->rflags = 0x302;
	poke(f, 8 * 4, 0xf0001234, 4);
	x86_mode_update(f->c);
	assert_runs(f, x86_deliver(f->c, &ev));
	assert_int_equal(s->rip, 0x1234);
	assert_int_equal(s->seg[X86_CS].base, 0xf0000);
	assert_int_equal(s->gpr[X86_RSP], 0xdead00fa);
	assert_int_equal(peek(f, 0x40fa, 2), 0x77);
	assert_int_equal(peek(f, 0x40fc, 2), 0x123);
	assert_int_equal(peek(f, 0x40fe, 2), 0x302);
	assert_int_equal(s->rflags, 2);
	assert_runs(f, x86_iret(f->c, 2));
	assert_int_equal(s->rip, 0x77);
	assert_int_equal(s->seg[X86_CS].sel, 0x123);
	assert_int_equal(s->rflags, 0x302);
	assert_int_equal(s->gpr[X86_RSP], 0xdead0100);
}

static void real_mode_ivt_limit(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = intr(0x40);

	f->c->s.idtr.limit = 0x40 * 4 + 2;
	assert_raises(f, X86_EX_GP, 0x40 * 8 + 3, x86_deliver(f->c, &ev));
	assert_int_equal(f->c->delivering, 0x40);
}

/* A fault at CPL 3 in 64-bit mode: five words and the error code on RSP0, RF set
 * in the image, SS null; IRETQ returns. */
static void long_fault_from_user(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;
	struct x86_event ev = fault(X86_EX_PF, true, 6);
	uint64_t sp = STACK0 - 48;

	enter_long(f, 3);
	ev.cr2 = 0x1234567;
	put_gate64(f, IDT + 14 * 16, S_CODE64, 0x31000, 0x8e, 0);
	s->rflags = 0x202;
	assert_runs(f, x86_deliver(f->c, &ev));
	assert_int_equal(s->cr2, 0x1234567);
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(s->rip, 0x31000);
	assert_int_equal(s->gpr[X86_RSP], sp);
	assert_int_equal(s->seg[X86_SS].sel, 0);
	assert_true(s->seg[X86_SS].attr & X86_AR_UNUSABLE);
	assert_int_equal(s->rflags & X86_FL_IF, 0);
	assert_int_equal(peek(f, sp, 8), 6);
	assert_int_equal(peek(f, sp + 8, 8), CODE);
	assert_int_equal(peek(f, sp + 16, 8), S_CODE64_3);
	assert_int_equal(peek(f, sp + 24, 8), 0x202 | X86_FL_RF);
	assert_int_equal(peek(f, sp + 32, 8), STACK3);
	assert_int_equal(peek(f, sp + 40, 8), S_DATA3);
	s->gpr[X86_RSP] += 8;
	assert_runs(f, x86_iret(f->c, 8));
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(s->rip, CODE);
	assert_int_equal(s->gpr[X86_RSP], STACK3);
	assert_int_equal(s->seg[X86_SS].sel, S_DATA3);
	assert_int_equal(s->rflags & (X86_FL_IF | X86_FL_RF), X86_FL_IF | X86_FL_RF);
}

/* IST switches stacks without a change of level, and the frame is aligned. */
static void long_ist(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = { .vector = 2, .kind = X86_EV_NMI };

	enter_long(f, 0);
	put_gate64(f, IDT + 2 * 16, S_CODE64, 0x31000, 0x8e, 3);
	poke(f, TSS + 28 + 3 * 8, 0x18008, 8);
	f->c->s.gpr[X86_RSP] = 0x10007;
	assert_runs(f, x86_deliver(f->c, &ev));
	assert_int_equal(f->c->s.gpr[X86_RSP], 0x18000 - 40);
	assert_int_equal(f->c->s.seg[X86_SS].sel, S_DATA0);
	assert_int_equal(peek(f, 0x18000 - 16, 8), 0x10007);
	assert_true(f->c->s.nmi_blocked);
	assert_runs(f, x86_iret(f->c, 8));
	assert_false(f->c->s.nmi_blocked);
	assert_int_equal(f->c->s.gpr[X86_RSP], 0x10007);
}

/* Errors met on the way carry the gate's index, IDT and EXT bits. */
static void long_gate_errors(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = intr(0x30);

	enter_long(f, 3);
	put_gate64(f, IDT + 0x30 * 16, S_CODE64, 0x31000, 0x0e, 0);
	assert_raises(f, X86_EX_NP, 0x30 * 8 + 3, x86_deliver(f->c, &ev));
	put_gate64(f, IDT + 0x30 * 16, S_CODE64, 0x31000, 0x85, 0);
	assert_raises(f, X86_EX_GP, 0x30 * 8 + 3, x86_deliver(f->c, &ev));
	put_gate64(f, IDT + 0x30 * 16, S_CODE0, 0x31000, 0x8e, 0);
	assert_raises(f, X86_EX_GP, S_CODE0 | 1, x86_deliver(f->c, &ev));
	put_gate64(f, IDT + 0x30 * 16, 0, 0x31000, 0x8e, 0);
	assert_raises(f, X86_EX_GP, 1, x86_deliver(f->c, &ev));
	put_gate64(f, IDT + 0x30 * 16, S_CODE64, 0x800000000000ull << 9, 0x8e, 0);
	assert_raises(f, X86_EX_GP, 1, x86_deliver(f->c, &ev));
	put_gate64(f, IDT + 0x30 * 16, S_CODE64, 0x31000, 0x8e, 0);
	poke(f, TSS + 4, 1ull << 60, 8);
	assert_raises(f, X86_EX_SS, 1, x86_deliver(f->c, &ev));
	f->c->s.seg[X86_TR].limit = 10;
	assert_raises(f, X86_EX_TS, S_TSS | 1, x86_deliver(f->c, &ev));
	f->c->s.idtr.limit = 0x30 * 16 + 14;
	assert_raises(f, X86_EX_GP, 0x30 * 8 + 3, x86_deliver(f->c, &ev));
	assert_int_equal(f->c->s.rip, CODE);
	assert_int_equal(f->c->s.gpr[X86_RSP], STACK3);
}

/* INT n checks the gate's DPL, without EXT, and pushes the next instruction. */
static void soft_int(void **state)
{
	struct fix *f = *state;

	enter_long(f, 3);
	put_gate64(f, IDT + 0x80 * 16, S_CODE64, 0x31000, 0x8e, 0);
	assert_raises(f, X86_EX_GP, 0x80 * 8 + 2, x86_soft_int(f->c, 0x80, X86_EV_SOFT));
	assert_int_equal(f->c->delivering, -1);
	put_gate64(f, IDT + 0x80 * 16, S_CODE64, 0x31000, 0xef, 0);
	f->c->s.rflags |= X86_FL_IF;
	assert_runs(f, x86_soft_int(f->c, 0x80, X86_EV_SOFT));
	assert_int_equal(peek(f, f->c->s.gpr[X86_RSP], 8), CODE + 2);
	assert_true(f->c->s.rflags & X86_FL_IF);	/* trap gate */
}

/* At CPL 0 the frame goes to the current stack with supervisor rights: a user
 * page faults under SMAP. From CPL 3 to a CPL-3 handler it needs user rights. */
static void stack_rights(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = intr(0x30);

	enter_long(f, 0);
	put_gate64(f, IDT + 0x30 * 16, S_CODE64, 0x31000, 0x8e, 0);
	f->c->s.cr4 |= X86_CR4_SMAP;
	x86_tlb_flush(f->c);
	x86_mode_update(f->c);
	assert_int_equal(RAISES(f, x86_deliver(f->c, &ev)), X86_EX_PF);

	enter_long(f, 3);
	put_gate64(f, IDT + 0x30 * 16, S_CODE64_3 & ~3, 0x31000, 0x8e, 0);
	poke(f, PD, 0x83, 8);	/* no user access any more */
	x86_tlb_flush(f->c);
	assert_int_equal(RAISES(f, x86_deliver(f->c, &ev)), X86_EX_PF);
	assert_int_equal(f->c->pending.err, 7);
	assert_int_equal(f->c->pending.cr2, (STACK3 & ~15) - 8);
}

/* 32-bit: inner level through the TSS; every flaw of SS0 is a #TS. */
static void pm32_inner(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = fault(X86_EX_GP, true, 0x55);

	enter_pm32(f, 3);
	put_gate32(f, IDT + 13 * 8, S_CODE0, 0x31000, 0x8e, 0);
	assert_runs(f, x86_deliver(f->c, &ev));
	assert_int_equal(f->c->s.gpr[X86_RSP], STACK0 - 24);
	assert_int_equal(peek(f, STACK0 - 24, 4), 0x55);
	assert_int_equal(peek(f, STACK0 - 4, 4), S_DATA3);
	assert_int_equal(f->c->s.seg[X86_SS].sel, S_DATA0);
	f->c->s.gpr[X86_RSP] += 4;
	assert_runs(f, x86_iret(f->c, 4));
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(f->c->s.gpr[X86_RSP], STACK3);

	poke(f, TSS + 8, 0, 4);
	assert_raises(f, X86_EX_TS, 1, x86_deliver(f->c, &ev));
	poke(f, TSS + 8, S_DATA3, 4);
	assert_raises(f, X86_EX_TS, (S_DATA3 & ~3) | 1, x86_deliver(f->c, &ev));
	poke(f, TSS + 8, S_CODE0, 4);
	assert_raises(f, X86_EX_TS, S_CODE0 | 1, x86_deliver(f->c, &ev));
	poke(f, TSS + 8, S_NP, 4);
	assert_raises(f, X86_EX_SS, S_NP | 1, x86_deliver(f->c, &ev));
	poke(f, TSS + 8, 0x1000, 4);
	assert_raises(f, X86_EX_TS, 0x1001, x86_deliver(f->c, &ev));
	put_desc(f, S_DATA0, 0, 0xfff, 0x4092);
	poke(f, TSS + 8, S_DATA0, 4);
	assert_raises(f, X86_EX_SS, S_DATA0 | 1, x86_deliver(f->c, &ev));
}

/* Double faults (SDM vol. 3, table 6-5). */
static void double_faults(void **state)
{
	struct fix *f = *state;
	struct x86_event gp = fault(X86_EX_GP, true, 0), pf = fault(X86_EX_PF, true, 0), df = fault(X86_EX_DF, true, 0);
	struct x86_event ud = fault(X86_EX_UD, false, 0), second;

	second = gp;
	assert_true(x86_deliver_merge(f->c, &ud, &second));
	assert_int_equal(second.vector, X86_EX_GP);
	second = pf;
	assert_true(x86_deliver_merge(f->c, &gp, &second));
	assert_int_equal(second.vector, X86_EX_PF);
	second = gp;
	assert_true(x86_deliver_merge(f->c, &gp, &second));
	assert_int_equal(second.vector, X86_EX_DF);
	assert_true(second.has_err);
	assert_int_equal(second.err, 0);
	second = pf;
	second.cr2 = 0x999;
	assert_true(x86_deliver_merge(f->c, &pf, &second));
	assert_int_equal(second.vector, X86_EX_DF);
	assert_int_equal(f->c->s.cr2, 0x999);
	assert_false(f->c->shutdown);
	second = pf;
	assert_false(x86_deliver_merge(f->c, &df, &second));
	assert_true(f->c->shutdown);
	/* An interrupt with the number of a contributory exception is not one. */
	f->c->shutdown = false;
	ud = intr(13);
	second = gp;
	assert_true(x86_deliver_merge(f->c, &ud, &second));
	assert_int_equal(second.vector, X86_EX_GP);
}

static void frame64(struct fix *f, uint64_t rip, unsigned cs, uint64_t flags, uint64_t rsp, unsigned ss)
{
	uint64_t sp = STACK0 - 64;
	uint64_t v[5] = { rip, cs, flags, rsp, ss };

	f->c->s.gpr[X86_RSP] = sp;
	for (unsigned i = 0; i < 5; i++)
		poke(f, sp + 8 * i, v[i], 8);
}

static void iretq_checks(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_long(f, 0);
	frame64(f, 1ull << 62, S_CODE64_3, 2, STACK3, S_DATA3);
	assert_raises(f, X86_EX_GP, 0, x86_iret(f->c, 8));
	assert_int_equal(f->c->cpl, 0);
	frame64(f, CODE, S_CODE64_3, 2, STACK3, 0);		/* null SS at CPL 3 */
	assert_raises(f, X86_EX_GP, 0, x86_iret(f->c, 8));
	frame64(f, CODE, S_CODE64_3, 2, STACK3, S_DATA0);
	assert_raises(f, X86_EX_GP, S_DATA0, x86_iret(f->c, 8));
	frame64(f, CODE, S_CODE64_3, 2, STACK3, S_RO | 3);
	assert_raises(f, X86_EX_GP, S_RO, x86_iret(f->c, 8));
	frame64(f, CODE, S_DATA3, 2, STACK3, S_DATA3);
	assert_raises(f, X86_EX_GP, S_DATA3 & ~3, x86_iret(f->c, 8));
	frame64(f, CODE, 0, 2, STACK3, S_DATA3);
	assert_raises(f, X86_EX_GP, 0, x86_iret(f->c, 8));
	frame64(f, CODE, S_CODE64, 2, 1ull << 60, 0);		/* null SS at CPL 0; any RSP */
	assert_runs(f, x86_iret(f->c, 8));
	assert_int_equal(s->gpr[X86_RSP], 1ull << 60);
	assert_true(s->seg[X86_SS].attr & X86_AR_UNUSABLE);
	s->rflags |= X86_FL_NT;
	assert_raises(f, X86_EX_GP, 0, x86_iret(f->c, 8));
	s->rflags &= ~(uint64_t)X86_FL_NT;
	/* To compatibility mode: VM in the image is ignored, data segments of level 0 go. */
	frame64(f, CODE, S_CODE3, 0x203202 | X86_FL_VM, STACK3, S_DATA3);
	raw_seg(f, X86_DS, S_DATA0, 0xc093);
	assert_runs(f, x86_iret(f->c, 8));
	assert_int_equal(f->c->mode, X86_MODE_PM32);
	assert_int_equal(s->rflags, 0x203202);
	assert_int_equal(s->seg[X86_DS].sel, 0);
	assert_true(s->seg[X86_DS].attr & X86_AR_UNUSABLE);
}

/* At CPL 3 with IOPL 0, IRET changes neither IF nor IOPL. */
static void iret_flag_rights(void **state)
{
	struct fix *f = *state;

	enter_long(f, 3);
	frame64(f, CODE, S_CODE64_3, 0x3ed7, STACK3, S_DATA3);
	f->c->s.rflags = 0x202;
	assert_runs(f, x86_iret(f->c, 8));
	assert_int_equal(f->c->s.rflags, 0xed7 & ~0x8);
}

/* --- virtual-8086 mode --- */

static void enter_vm86(struct fix *f, unsigned iopl, bool vme)
{
	struct x86_state *s = &f->c->s;

	enter_pm32(f, 0);
	s->cr4 = vme ? X86_CR4_VME : 0;
	for (int i = 0; i < X86_NSEG; i++)
		s->seg[i] = (struct x86_seg){ .sel = 0x2000, .base = 0x20000, .limit = 0xffff, .attr = 0xf3 };
	s->rflags = 2 | X86_FL_VM | iopl << 12;
	s->rip = f->c->cur_rip = 0x100;
	f->c->next_rip = 0x102;
	s->gpr[X86_RSP] = 0x800;
	s->seg[X86_TR].limit = 0x100;
	poke(f, TSS + 102, 0x68 + 32, 2);
	x86_mode_update(f->c);
}

static void vm86_to_monitor_and_back(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = fault(X86_EX_GP, true, 0);

	enter_vm86(f, 0, false);
	put_gate32(f, IDT + 13 * 8, S_CODE0, 0x31000, 0x8e, 0);
	assert_raises(f, X86_EX_GP, 0, x86_soft_int(f->c, 0x21, X86_EV_SOFT));
	assert_runs(f, x86_deliver(f->c, &ev));
	assert_int_equal(f->c->mode, X86_MODE_PM32);
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(f->c->s.seg[X86_GS].sel, 0);
	assert_int_equal(f->c->s.gpr[X86_RSP], STACK0 - 40);
	assert_int_equal(peek(f, STACK0 - 4, 4), 0x2000);	/* GS */
	f->c->s.gpr[X86_RSP] += 4;
	assert_runs(f, x86_iret(f->c, 4));
	assert_int_equal(f->c->mode, X86_MODE_VM86);
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(f->c->s.seg[X86_GS].base, 0x20000);
	assert_int_equal(f->c->s.rip, 0x100);
	/* The handler must run at level 0. */
	put_gate32(f, IDT + 13 * 8, S_CONF0, 0x31000, 0x8e, 0);
	assert_raises(f, X86_EX_GP, S_CONF0 | 1, x86_deliver(f->c, &ev));
}

static void vm86_vme_redirection(void **state)
{
	struct fix *f = *state;

	enter_vm86(f, 0, true);
	poke(f, 0x21 * 4, 0x30000040, 4);
	f->c->s.rflags |= X86_FL_VIF;
	assert_runs(f, x86_soft_int(f->c, 0x21, X86_EV_SOFT));
	assert_int_equal(f->c->mode, X86_MODE_VM86);
	assert_int_equal(f->c->s.seg[X86_CS].base, 0x30000);
	assert_int_equal(f->c->s.rip, 0x40);
	assert_int_equal(peek(f, 0x207fe, 2), 0x3202);		/* IOPL 3, IF = VIF */
	assert_int_equal(f->c->s.rflags & X86_FL_VIF, 0);
	assert_runs(f, x86_iret(f->c, 2));
	assert_true(f->c->s.rflags & X86_FL_VIF);
	assert_int_equal(f->c->s.rflags & X86_FL_IOPL, 0);
	poke(f, TSS + 0x68 + 0x21 / 8, 1 << (0x21 & 7), 1);
	assert_raises(f, X86_EX_GP, 0, x86_soft_int(f->c, 0x21, X86_EV_SOFT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYS_TEST(real_mode_round_trip), SYS_TEST(real_mode_ivt_limit), SYS_TEST(long_fault_from_user),
		SYS_TEST(long_ist), SYS_TEST(long_gate_errors), SYS_TEST(soft_int), SYS_TEST(stack_rights),
		SYS_TEST(pm32_inner), SYS_TEST(double_faults), SYS_TEST(iretq_checks), SYS_TEST(iret_flag_rights),
		SYS_TEST(vm86_to_monitor_and_back), SYS_TEST(vm86_vme_redirection),
	};

	return cmocka_run_group_tests_name("x86 event delivery", tests, NULL, NULL);
}
