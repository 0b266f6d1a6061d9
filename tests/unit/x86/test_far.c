/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Segment loads, limits, far transfers through every kind of gate, task
 * switches, SYSCALL and friends (SDM vol. 2 and vol. 3, chapters 3, 5, 8).
 */
#include "sysfix.h"

/* --- segments --- */

static void load_data_segments(void **state)
{
	struct fix *f = *state;
	struct x86_seg *ds = &f->c->s.seg[X86_DS];

	enter_pm32(f, 3);
	assert_runs(f, x86_load_seg(f->c, X86_DS, S_DATA3));
	assert_int_equal(peek(f, GDT + 0x25, 1) & 1, 1);	/* accessed */
	assert_runs(f, x86_load_seg(f->c, X86_DS, 3));
	assert_true(ds->attr & X86_AR_UNUSABLE);
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_DS, 0, 1, X86_READ));
	assert_raises(f, X86_EX_GP, S_DATA0, x86_load_seg(f->c, X86_DS, S_DATA0));
	assert_raises(f, X86_EX_GP, S_TSS, x86_load_seg(f->c, X86_DS, S_TSS));
	assert_raises(f, X86_EX_GP, 0x1000, x86_load_seg(f->c, X86_DS, 0x1000));
	assert_raises(f, X86_EX_GP, 0x24, x86_load_seg(f->c, X86_DS, 0x27));	/* no LDT */
	assert_runs(f, x86_load_seg(f->c, X86_DS, S_CONF0));	/* readable conforming code */
	enter_pm32(f, 0);
	assert_raises(f, X86_EX_NP, S_NP, x86_load_seg(f->c, X86_DS, S_NP));
	assert_raises(f, X86_EX_SS, S_NP, x86_load_seg(f->c, X86_SS, S_NP));
	assert_raises(f, X86_EX_GP, 0, x86_load_seg(f->c, X86_SS, 0));
	assert_raises(f, X86_EX_GP, S_DATA3 & ~3, x86_load_seg(f->c, X86_SS, S_DATA3));
	assert_raises(f, X86_EX_GP, S_CODE0, x86_load_seg(f->c, X86_SS, S_CODE0));
	enter_long(f, 0);
	assert_runs(f, x86_load_seg(f->c, X86_SS, 0));
	assert_int_equal(f->c->cpl, 0);
	assert_raises(f, X86_EX_GP, 0, x86_load_seg(f->c, X86_SS, 3));
	enter_long(f, 3);
	assert_raises(f, X86_EX_GP, 0, x86_load_seg(f->c, X86_SS, 3));
}

static void limits_and_types(void **state)
{
	struct fix *f = *state;
	struct x86_seg *es = &f->c->s.seg[X86_ES];

	enter_pm32(f, 0);
	*es = (struct x86_seg){ .base = 0x1000, .limit = 0xfff, .attr = 0x4093 };
	assert_int_equal(x86_seg_lin(f->c, X86_ES, 0xffc, 4, X86_WRITE), 0x1ffc);
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_ES, 0xffd, 4, X86_READ));
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_ES, 0xffffffff, 4, X86_READ));
	es->attr = 0x4091;
	assert_runs(f, x86_seg_lin(f->c, X86_ES, 0, 4, X86_READ));
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_ES, 0, 4, X86_WRITE));
	es->attr = 0x4099;	/* execute only */
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_ES, 0, 4, X86_READ));
	es->attr = 0x4097;	/* expand down */
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_ES, 0xfff, 1, X86_READ));
	assert_runs(f, x86_seg_lin(f->c, X86_ES, 0x1000, 4, X86_READ));
	assert_runs(f, x86_seg_lin(f->c, X86_ES, 0xfffffffc, 4, X86_READ));
	es->attr = 0x0097;	/* 16-bit: up to 0xffff */
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_ES, 0xfffe, 4, X86_READ));
	f->c->s.seg[X86_SS].limit = 0xfff;
	assert_raises(f, X86_EX_SS, 0, x86_seg_lin(f->c, X86_SS, 0x1000, 1, X86_READ));
	f->c->s.gpr[X86_RSP] = 0x2000;
	assert_raises(f, X86_EX_SS, 0, x86_push(f->c, 4, 1));
	assert_int_equal(f->c->s.gpr[X86_RSP], 0x2000);
}

static void canonical_addresses(void **state)
{
	struct fix *f = *state;

	enter_long(f, 0);
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_DS, 1ull << 47, 1, X86_READ));
	assert_raises(f, X86_EX_GP, 0, x86_seg_lin(f->c, X86_DS, (1ull << 47) - 1, 2, X86_READ));
	assert_raises(f, X86_EX_SS, 0, x86_seg_lin(f->c, X86_SS, 1ull << 47, 1, X86_READ));
	f->c->s.gpr[X86_RSP] = 1ull << 47;
	assert_raises(f, X86_EX_SS, 0, x86_pop(f->c, 8));
	f->c->s.gpr[X86_RSP] = (1ull << 63) + 4;
	assert_raises(f, X86_EX_SS, 0, x86_push(f->c, 8, 0));
	f->c->s.seg[X86_FS].base = 0x1000;
	assert_int_equal(x86_seg_lin(f->c, X86_FS, 8, 8, X86_READ), 0x1008);
	f->c->s.cr4 |= X86_CR4_LA57;
	assert_runs(f, x86_seg_lin(f->c, X86_DS, 1ull << 47, 1, X86_READ));
}

static void ltr_lldt(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 0);
	assert_raises(f, X86_EX_GP, S_TSS, x86_ltr(f->c, S_TSS));	/* busy already */
	assert_runs(f, x86_ltr(f->c, S_TSS2));
	assert_int_equal(peek(f, GDT + S_TSS2 + 5, 1) & 15, 11);
	assert_raises(f, X86_EX_GP, 0, x86_ltr(f->c, 0));
	assert_raises(f, X86_EX_GP, 4, x86_ltr(f->c, 4));
	assert_runs(f, x86_lldt(f->c, S_LDT));
	assert_int_equal(f->c->s.seg[X86_LDTR].base, LDT);
	poke(f, LDT + 8, peek(f, GDT + S_DATA0, 8), 8);
	assert_runs(f, x86_load_seg(f->c, X86_ES, 0xc));
	assert_raises(f, X86_EX_GP, S_DATA0, x86_lldt(f->c, S_DATA0));
	enter_long(f, 0);
	/* 16-byte descriptors: bits 63:32 of the base count, non-canonical faults. */
	put_desc(f, S_LDT, LDT, 0x1f, 0x82);
	poke(f, GDT + S_LDT + 8, 0x01000000, 8);
	assert_raises(f, X86_EX_GP, S_LDT, x86_lldt(f->c, S_LDT));
	poke(f, GDT + S_LDT + 8, 0xffff8000, 8);
	assert_runs(f, x86_lldt(f->c, S_LDT));
	assert_int_equal(f->c->s.seg[X86_LDTR].base, 0xffff800000000000 | LDT);
}

static void lar_lsl_ver(void **state)
{
	struct fix *f = *state;
	uint32_t out = 0;

	enter_pm32(f, 3);
	assert_true(x86_lar(f->c, S_DATA3, &out));
	assert_int_equal(out & 0xf0ff00, 0xc0f200);
	assert_true(x86_lsl(f->c, S_DATA3, &out));
	assert_int_equal(out, 0xffffffff);
	assert_false(x86_lar(f->c, S_DATA0, &out));
	assert_true(x86_lar(f->c, S_CONF0, &out));
	assert_false(x86_lar(f->c, 0, &out));
	assert_true(x86_ver(f->c, S_DATA3, true));
	assert_false(x86_ver(f->c, S_RO | 3, true));
	assert_false(x86_ver(f->c, S_CODE3, true));
	assert_true(x86_ver(f->c, S_CODE3, false));
}

/* --- far transfers --- */

static void jmp_far(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 0);
	assert_runs(f, x86_jmp_far(f->c, S_CODE16, 0x1234, 4));
	assert_int_equal(f->c->mode, X86_MODE_PM16);
	assert_raises(f, X86_EX_GP, 0, x86_jmp_far(f->c, S_CODE16, 0x10000, 4));
	assert_raises(f, X86_EX_GP, S_CODE3 & ~3, x86_jmp_far(f->c, S_CODE3, CODE, 4));
	assert_raises(f, X86_EX_GP, S_DATA0, x86_jmp_far(f->c, S_DATA0, CODE, 4));
	assert_raises(f, X86_EX_GP, 0, x86_jmp_far(f->c, 0, CODE, 4));
	enter_pm32(f, 3);
	assert_runs(f, x86_jmp_far(f->c, S_CONF0, CODE, 4));
	assert_int_equal(f->c->s.seg[X86_CS].sel, S_CONF0 | 3);
	assert_int_equal(f->c->cpl, 3);
	enter_long(f, 0);
	assert_raises(f, X86_EX_GP, 0, x86_jmp_far(f->c, S_CODE64, 1ull << 50, 8));
	put_desc(f, S_CODE16, 0, 0xfffff, 0xe09a);	/* L and D */
	assert_raises(f, X86_EX_GP, S_CODE16, x86_jmp_far(f->c, S_CODE16, 0, 8));
	assert_runs(f, x86_jmp_far(f->c, S_CODE0, CODE, 8));
	assert_int_equal(f->c->mode, X86_MODE_PM32);
}

/* Parameters are copied to the inner stack; RET n pops them from both. */
static void call_gate_with_parameters(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_pm32(f, 3);
	put_gate32(f, GDT + S_GATE, S_CODE0, 0x31000, 0xec, 2);
	s->gpr[X86_RSP] = STACK3 - 8;
	poke(f, STACK3 - 8, 0x11111111, 4);
	poke(f, STACK3 - 4, 0x22222222, 4);
	assert_runs(f, x86_call_far(f->c, S_GATE | 3, 0xbad, 4));
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(s->rip, 0x31000);
	assert_int_equal(s->gpr[X86_RSP], STACK0 - 24);
	assert_int_equal(peek(f, STACK0 - 24, 4), CODE + 2);
	assert_int_equal(peek(f, STACK0 - 20, 4), S_CODE3);
	assert_int_equal(peek(f, STACK0 - 16, 4), 0x11111111);
	assert_int_equal(peek(f, STACK0 - 12, 4), 0x22222222);
	assert_int_equal(peek(f, STACK0 - 8, 4), STACK3 - 8);
	assert_int_equal(peek(f, STACK0 - 4, 4), S_DATA3);
	assert_runs(f, x86_ret_far(f->c, 4, 8));
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(s->gpr[X86_RSP], STACK3);
	assert_int_equal(s->rip, CODE + 2);
	put_gate32(f, GDT + S_GATE, S_CODE0, 0x31000, 0x8c, 2);	/* DPL 0 */
	assert_raises(f, X86_EX_GP, S_GATE, x86_call_far(f->c, S_GATE | 3, 0, 4));
	put_gate32(f, GDT + S_GATE, S_CODE0, 0x31000, 0x6c, 2);	/* not present */
	assert_raises(f, X86_EX_NP, S_GATE, x86_call_far(f->c, S_GATE | 3, 0, 4));
	put_gate32(f, GDT + S_GATE, S_CODE0, 0x31000, 0xec, 2);
	assert_raises(f, X86_EX_GP, S_CODE0, x86_jmp_far(f->c, S_GATE | 3, 0, 4));
}

static void call_gate_64(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_long(f, 3);
	put_gate64(f, GDT + S_GATE, S_CODE64, 0x31000, 0xec, 0);
	poke(f, GDT + S_GATE + 12, 0, 4);
	assert_runs(f, x86_call_far(f->c, S_GATE | 3, 0, 8));
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(s->gpr[X86_RSP], STACK0 - 32);
	assert_int_equal(peek(f, STACK0 - 16, 8), STACK3);
	assert_int_equal(s->seg[X86_SS].sel, 0);
	assert_runs(f, x86_ret_far(f->c, 8, 0));
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(s->gpr[X86_RSP], STACK3);
	poke(f, GDT + S_GATE + 12, 0x900, 4);	/* a type in the upper half */
	assert_raises(f, X86_EX_GP, S_GATE, x86_call_far(f->c, S_GATE | 3, 0, 8));
}

/* The stack of a far call at CPL 3 is accessed with user rights. */
static void far_call_user_rights(void **state)
{
	struct fix *f = *state;

	enter_long(f, 3);
	poke(f, PD, 0x83, 8);
	x86_tlb_flush(f->c);
	assert_int_equal(RAISES(f, x86_call_far(f->c, S_CODE64_3, CODE, 8)), X86_EX_PF);
	assert_int_equal(f->c->pending.err, 7);
	assert_int_equal(RAISES(f, x86_ret_far(f->c, 8, 0)), X86_EX_PF);
	assert_int_equal(f->c->pending.err, 5);
}

/* --- tasks --- */

static void make_task2(struct fix *f)
{
	poke(f, TSS2 + 28, PML4, 4);
	poke(f, TSS2 + 32, 0x32000, 4);
	poke(f, TSS2 + 36, 0x202, 4);
	poke(f, TSS2 + 40, 0xaaaa, 4);			/* EAX */
	poke(f, TSS2 + 56, STACK3, 4);			/* ESP */
	poke(f, TSS2 + 72, S_DATA0, 4);
	poke(f, TSS2 + 76, S_CODE0, 4);
	poke(f, TSS2 + 80, S_DATA0, 4);
	poke(f, TSS2 + 84, S_DATA0, 4);
}

static void task_call_and_iret(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_pm32(f, 0);
	make_task2(f);
	s->gpr[X86_RBX] = 0xb0b;
	s->gpr[X86_RSP] = STACK0 - 0x40;
	assert_runs(f, x86_call_far(f->c, S_TSS2, 0, 4));
	assert_int_equal(s->rip, 0x32000);
	assert_int_equal(s->gpr[X86_RAX], 0xaaaa);
	assert_int_equal(s->seg[X86_TR].sel, S_TSS2);
	assert_true(s->rflags & X86_FL_NT);
	assert_true(s->cr0 & X86_CR0_TS);
	assert_int_equal(peek(f, TSS2, 2), S_TSS);
	assert_int_equal(peek(f, TSS + 32, 4), CODE + 2);
	assert_int_equal(peek(f, GDT + S_TSS2 + 5, 1) & 15, 11);
	assert_int_equal(peek(f, GDT + S_TSS + 5, 1) & 15, 11);
	f->c->next_rip = 0x32001;
	assert_runs(f, x86_iret(f->c, 4));
	assert_int_equal(s->rip, CODE + 2);
	assert_int_equal(s->gpr[X86_RBX], 0xb0b);
	assert_int_equal(s->gpr[X86_RSP], STACK0 - 0x40);
	assert_int_equal(s->seg[X86_TR].sel, S_TSS);
	assert_int_equal(peek(f, GDT + S_TSS2 + 5, 1) & 15, 9);
	assert_int_equal(peek(f, TSS2 + 36, 4) & X86_FL_NT, 0);
	assert_int_equal(peek(f, TSS2 + 32, 4), 0x32001);
}

static void task_checks(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 0);
	make_task2(f);
	assert_raises(f, X86_EX_GP, S_TSS, x86_jmp_far(f->c, S_TSS, 0, 4));	/* busy */
	put_desc(f, S_TSS2, TSS2, 0x66, 0x89);
	assert_raises(f, X86_EX_TS, S_TSS2, x86_jmp_far(f->c, S_TSS2, 0, 4));
	put_desc(f, S_TSS2, TSS2, 0x67, 0x09);
	assert_raises(f, X86_EX_NP, S_TSS2, x86_jmp_far(f->c, S_TSS2, 0, 4));
	assert_int_equal(f->c->s.seg[X86_TR].sel, S_TSS);
	/* A bad SS is found in the new task. */
	put_desc(f, S_TSS2, TSS2, 0x67, 0x89);
	poke(f, TSS2 + 80, S_RO, 4);
	assert_raises(f, X86_EX_TS, S_RO, x86_jmp_far(f->c, S_TSS2, 0, 4));
	assert_int_equal(f->c->s.seg[X86_TR].sel, S_TSS2);
	assert_int_equal(f->c->cur_rip, 0x32000);
}

/* An exception through a task gate: error code on the new stack. */
static void task_gate_exception(void **state)
{
	struct fix *f = *state;
	struct x86_event ev = { .vector = X86_EX_GP, .kind = X86_EV_FAULT, .has_err = true, .err = 0x77 };

	enter_pm32(f, 3);
	make_task2(f);
	put_gate32(f, IDT + 13 * 8, S_TSS2, 0, 0x85, 0);
	assert_runs(f, x86_deliver(f->c, &ev));
	assert_int_equal(f->c->s.gpr[X86_RSP], STACK3 - 4);
	assert_int_equal(peek(f, STACK3 - 4, 4), 0x77);
	assert_int_equal(peek(f, TSS + 32, 4), CODE);
	assert_int_equal(f->c->cpl, 0);
}

static void task_16(void **state)
{
	struct fix *f = *state;

	enter_pm32(f, 0);
	put_desc(f, S_TSS2, TSS2, 0x2b, 0x81);
	poke(f, TSS2 + 14, 0x1234, 2);
	poke(f, TSS2 + 16, 2, 2);
	poke(f, TSS2 + 18, 0x4321, 2);
	poke(f, TSS2 + 26, 0x800, 2);
	poke(f, TSS2 + 34, S_DATA0, 2);
	poke(f, TSS2 + 36, S_CODE16, 2);
	poke(f, TSS2 + 38, S_DATA0, 2);
	poke(f, TSS2 + 40, S_DATA0, 2);
	poke(f, TSS2 + 42, 0, 2);
	assert_runs(f, x86_jmp_far(f->c, S_TSS2, 0, 4));
	assert_int_equal(f->c->mode, X86_MODE_PM16);
	assert_int_equal(f->c->s.rip, 0x1234);
	assert_int_equal(f->c->s.gpr[X86_RAX] & 0xffff, 0x4321);
	assert_int_equal(peek(f, GDT + S_TSS + 5, 1) & 15, 9);
	assert_runs(f, x86_jmp_far(f->c, S_TSS, 0, 4));
	assert_int_equal(f->c->s.rip, CODE + 2);
}

/* --- SYSCALL and friends --- */

static void syscall_sysret(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_long(f, 3);
	s->star = (uint64_t)S_CODE64 << 32 | 0x33ull << 48;
	s->lstar = 0x31000;
	s->fmask = X86_FL_IF | X86_FL_TF | X86_FL_AC;
	s->rflags = 0x246 | X86_FL_AC | X86_FL_RF;
	assert_runs(f, x86_syscall(f->c));
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(s->rip, 0x31000);
	assert_int_equal(s->gpr[X86_RCX], CODE + 2);
	assert_int_equal(s->gpr[11], 0x246 | X86_FL_AC);
	assert_int_equal(s->rflags, 0x46);
	assert_int_equal(s->seg[X86_SS].sel, S_CODE64 + 8);
	s->gpr[X86_RCX] = 1ull << 47;
	assert_raises(f, X86_EX_GP, 0, x86_sysret(f->c, 8));
	assert_int_equal(f->c->cpl, 0);
	s->gpr[X86_RCX] = CODE;
	assert_runs(f, x86_sysret(f->c, 8));
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(s->rip, CODE);
	assert_int_equal(s->seg[X86_CS].sel, 0x43);
	assert_int_equal(s->seg[X86_SS].sel, 0x3b);
	assert_int_equal(s->rflags, 0x246 | X86_FL_AC);
	assert_raises(f, X86_EX_GP, 0, x86_sysret(f->c, 8));
	s->efer &= ~(uint64_t)X86_EFER_SCE;
	assert_int_equal(RAISES(f, x86_syscall(f->c)), X86_EX_UD);
}

static void sysenter_sysexit(void **state)
{
	struct fix *f = *state;
	struct x86_state *s = &f->c->s;

	enter_pm32(f, 3);
	assert_raises(f, X86_EX_GP, 0, x86_sysenter(f->c));
	s->sysenter_cs = S_CODE0;
	s->sysenter_esp = STACK0;
	s->sysenter_eip = 0x31000;
	s->rflags |= X86_FL_IF;
	assert_runs(f, x86_sysenter(f->c));
	assert_int_equal(f->c->cpl, 0);
	assert_int_equal(s->gpr[X86_RSP], STACK0);
	assert_int_equal(s->rflags & X86_FL_IF, 0);
	s->gpr[X86_RCX] = STACK3;
	s->gpr[X86_RDX] = CODE;
	assert_runs(f, x86_sysexit(f->c, 4));
	assert_int_equal(f->c->cpl, 3);
	assert_int_equal(s->seg[X86_CS].sel, 0x1b);
	assert_int_equal(s->seg[X86_SS].sel, 0x23);
	assert_raises(f, X86_EX_GP, 0, x86_sysexit(f->c, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		SYS_TEST(load_data_segments), SYS_TEST(limits_and_types), SYS_TEST(canonical_addresses),
		SYS_TEST(ltr_lldt), SYS_TEST(lar_lsl_ver), SYS_TEST(jmp_far), SYS_TEST(call_gate_with_parameters),
		SYS_TEST(call_gate_64), SYS_TEST(far_call_user_rights), SYS_TEST(task_call_and_iret),
		SYS_TEST(task_checks), SYS_TEST(task_gate_exception), SYS_TEST(task_16), SYS_TEST(syscall_sysret),
		SYS_TEST(sysenter_sysexit),
	};

	return cmocka_run_group_tests_name("x86 segments and transfers", tests, NULL, NULL);
}
