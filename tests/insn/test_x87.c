/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87 state that stays in the host's registers: the translator, past its
 * threshold, must tell of the last x87 instruction and report its errors where
 * and as the interpreter does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "cpu/x86/cpu.h"
#include "snippet.h"

static const char *const engines[] = { "interp", "translate" };
static struct rig_engine *engine[ARRAY_LEN(engines)];

#define CASE(name) new_case(name##_b, SNIPPET_LEN(name))

#define CODE_OFF 0x300
#define AT (RIG_CODE + CODE_OFF)
#define ABSENT (RIG_RODATA + RIG_PAGE)

static struct rig_case *new_case(const uint8_t *code, size_t len)
{
	struct rig_case *c = snippet_case(code, len);

	c->code_off = CODE_OFF;
	c->repeat = 4;
	c->gpr[X86_RBX] = RIG_DATA + 0x100;
	c->gpr[X86_RSI] = ABSENT;
	return c;
}

/* What both engines make of it, which is the same. */
static const struct rig_result *run(const struct rig_case *c)
{
	static struct rig_result r[ARRAY_LEN(engines)];
	char text[4096];

	for (unsigned n = 0; n < ARRAY_LEN(engines); n++) {
		rig_engine_run(engine[n], c, &r[n]);
		assert_true(r[n].valid);
	}
	if (rig_compare(c, &r[0], &r[1], text, sizeof(text)) || rig_compare_x87_pointers(&r[0], &r[1], text, sizeof(text)))
		fail_msg("%s differs:\n%s", engines[1], text);
	return &r[1];
}

static void want_pointers(const struct rig_result *r, unsigned fop, uint64_t fip, uint64_t fdp)
{
	assert_int_equal(ld_le16(r->fpu.fx + 6), fop);
	assert_int_equal(ld_le64(r->fpu.fx + 8), fip);
	assert_int_equal(ld_le64(r->fpu.fx + 16), fdp);
}

#define UNMASK_ZE 0x37b
#define UNMASK_IE 0x37e

SNIPPET(s_sum, "fldl 8(%rbx)\n fldt 16(%rbx)\n nop\n faddp\n fnstsw %ax\n fstpt 0x20(%rbx)\n fnstcw 0x40(%rbx)");

static void test_pointers(void **state)
{
	struct rig_case *c = CASE(s_sum);
	const struct rig_result *r;
	long double t = 0.25L;
	double d = 1.5;

	memcpy(c->data + 0x108, &d, 8);
	memcpy(c->data + 0x110, &t, 10);
	r = run(c);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	want_pointers(r, 0x37b, AT + 11, RIG_DATA + 0x120);
	memcpy(&t, r->data + 0x120, 10);
	assert_true(t == 1.75L);
	assert_int_equal(ld_le16(r->data + 0x140), 0x37f);
	assert_int_equal(r->gpr[X86_RAX] & 0x3800, 0x3800);	/* one register in use */
}

SNIPPET(s_div, "flds (%rbx)\n fldz\n fxch\n fdivp\n fld1\n nop");

/* Division by zero is reported by the instruction after, and the pointers tell of the division. */
static void test_error_at_next(void **state)
{
	struct rig_case *c = CASE(s_div);
	const struct rig_result *r;
	float f = 2;

	memcpy(c->data + 0x100, &f, 4);
	st_le16(c->fpu.fx, UNMASK_ZE);
	r = run(c);
	assert_int_equal(r->fault, X86_EX_MF);
	assert_int_equal(r->rip, AT + 8);
	assert_int_equal(ld_le16(r->fpu.fx + 2) & 0x84, 0x84);
	want_pointers(r, 0x6f1, AT + 6, RIG_DATA + 0x100);
}

SNIPPET(s_div_load, "fld1\n fldz\n fdivrp\n mov %rbx, %rcx\n fldl (%rsi)");
SNIPPET(s_div_wait, "fld1\n fldz\n fdivrp\n mov (%rbx), %rcx\n fwait");
SNIPPET(s_div_mmx, "fld1\n fldz\n fdivrp\n inc %rcx\n paddb (%rsi), %mm1");
SNIPPET(s_div_store, "fld1\n fldz\n fdivrp\n fstpt (%rsi)");

/* It comes before the operand's page fault, and for FWAIT and MMX as well. */
static void test_error_comes_first(void **state)
{
	static const struct {
		const uint8_t *b, *e;
		unsigned at;
	} t[] = {
		{ s_div_load_b, s_div_load_e, 9 }, { s_div_wait_b, s_div_wait_e, 9 }, { s_div_mmx_b, s_div_mmx_e, 9 },
		{ s_div_store_b, s_div_store_e, 6 },
	};

	for (unsigned n = 0; n < ARRAY_LEN(t); n++) {
		struct rig_case *c = new_case(t[n].b, (size_t)(t[n].e - t[n].b));
		const struct rig_result *r;

		st_le16(c->fpu.fx, UNMASK_ZE);
		r = run(c);
		assert_int_equal(r->fault, X86_EX_MF);
		assert_int_equal(r->rip, AT + t[n].at);
		want_pointers(r, 0x6f9, AT + 4, 0);
	}
}

SNIPPET(s_fault, "fldl 8(%rbx)\n fld1\n fadds (%rsi)");
SNIPPET(s_fault_int, "fldl 8(%rbx)\n fld1\n mov (%rsi), %rax\n fldpi");
SNIPPET(s_fault_store, "fldl 8(%rbx)\n fld1\n fstpt 0xff8(%rsi)");

/* A page fault in the middle: the pointers tell of what was before it. */
static void test_page_fault(void **state)
{
	const struct rig_result *r = run(CASE(s_fault));

	assert_int_equal(r->fault, X86_EX_PF);
	assert_int_equal(r->cr2, ABSENT);
	want_pointers(r, 0x1e8, AT + 3, RIG_DATA + 0x108);
	r = run(CASE(s_fault_int));
	assert_int_equal(r->fault, X86_EX_PF);
	want_pointers(r, 0x1e8, AT + 3, RIG_DATA + 0x108);
	r = run(CASE(s_fault_store));
	assert_int_equal(r->fault, X86_EX_PF);
	assert_int_equal(r->cr2, ABSENT + 0xff8);
	want_pointers(r, 0x1e8, AT + 3, RIG_DATA + 0x108);
}

SNIPPET(s_store, "fldl 8(%rbx)\n fistpl 0x10(%rbx)\n nop\n fldz");

/* A store with an unmasked error stores nothing and keeps the register. */
static void test_store_with_error(void **state)
{
	struct rig_case *c = CASE(s_store);
	const struct rig_result *r;
	double d = 1e30;

	memcpy(c->data + 0x108, &d, 8);
	st_le32(c->data + 0x110, 0x12345678);
	st_le16(c->fpu.fx, UNMASK_IE);
	r = run(c);
	assert_int_equal(r->fault, X86_EX_MF);
	assert_int_equal(r->rip, AT + 7);
	assert_int_equal(ld_le32(r->data + 0x110), 0x12345678);
	assert_int_equal(r->fpu.fx[4], 0x80);
	want_pointers(r, 0x35b, AT + 3, RIG_DATA + 0x110);
}

SNIPPET(s_high, "mov %rbx, %r10\n mov $2, %r9d\n flds (%r10,%r9,4)\n fstpl (%r10,%r9,8)");

/* Addresses in registers that the translator keeps in memory; a store that crosses pages. */
static void test_addresses(void **state)
{
	struct rig_case *c = CASE(s_high);
	const struct rig_result *r;
	float f = 3;
	double d;

	for (unsigned n = 0; n < 2; n++) {
		c->gpr[X86_RBX] = RIG_DATA + (n ? 0xfec : 0x100);
		memcpy(c->data + c->gpr[X86_RBX] - RIG_DATA + 8, &f, 4);
		r = run(c);
		assert_int_equal(r->fault, RIG_NO_FAULT);
		memcpy(&d, r->data + c->gpr[X86_RBX] - RIG_DATA + 16, 8);
		assert_true(d == 3);
		want_pointers(r, 0x51c, AT + SNIPPET_LEN(s_high) - 4, c->gpr[X86_RBX] + 16);
	}
}

SNIPPET(s_env, "fldpi\n fldl (%rbx)\n inc %ecx\n fnstenv 0x40(%rbx)\n fldz\n fxsave64 0x100(%rbx)");

/* Images show the guest's pointers, and MMX leaves them alone. */
static void test_images(void **state)
{
	const struct rig_result *r = run(CASE(s_env));

	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(ld_le32(r->data + 0x140 + 12), AT + 2);
	assert_int_equal(ld_le32(r->data + 0x140 + 16) >> 16, 0x503);
	assert_int_equal(ld_le32(r->data + 0x140 + 20), RIG_DATA + 0x100);
	assert_int_equal(ld_le16(r->data + 0x206), 0x1ee);
	assert_int_equal(ld_le64(r->data + 0x208), AT + 9);
	assert_int_equal(ld_le64(r->data + 0x210), RIG_DATA + 0x100);
}

SNIPPET(s_ldenv, "fldpi\n fnstenv (%rbx)\n movl $0x12345678, 12(%rbx)\n movl $0x6543210, 16(%rbx)\n movl $0x11112222, 20(%rbx)\n"
		 "fldenv (%rbx)\n fnop\n fnstenv 0x40(%rbx)\n fldenv (%rbx)");

/* FLDENV's pointers are the guest's own word. */
static void test_load_environment(void **state)
{
	const struct rig_result *r = run(CASE(s_ldenv));

	assert_int_equal(r->fault, RIG_NO_FAULT);
	want_pointers(r, 0x654, 0x12345678, 0x11112222);
	assert_int_equal(ld_le32(r->data + 0x140), 0xffff037f);
	assert_int_equal(ld_le32(r->data + 0x140 + 12), AT + SNIPPET_LEN(s_ldenv) - 7);
	assert_int_equal(ld_le32(r->data + 0x140 + 16), 0x1d00000);
	assert_int_equal(ld_le32(r->data + 0x140 + 20), 0x11112222);
	assert_int_equal(ld_le32(r->data + 0x140 + 24), 0xffff0000);
}

SNIPPET(s_mmx, "fld1\n movd %ecx, %mm3\n paddw %mm3, %mm3\n movd %mm3, %r10d\n emms\n fldpi");

static void test_mmx(void **state)
{
	struct rig_case *c = CASE(s_mmx);
	const struct rig_result *r;

	c->gpr[X86_RCX] = 0x12340001;
	r = run(c);
	assert_int_equal(r->fault, RIG_NO_FAULT);
	assert_int_equal(r->gpr[10], 0x24680002);
	assert_int_equal(r->fpu.fx[4], 0x80);
	want_pointers(r, 0x1eb, AT + SNIPPET_LEN(s_mmx) - 2, 0);
}

/* Not available: #NM (MMX without it: #UD), whatever was translated before. */
static void test_not_available(void **state)
{
	struct rig_case *c = CASE(s_sum);

	assert_int_equal(run(c)->fault, RIG_NO_FAULT);
	c->cr0_set = X86_CR0_TS;
	assert_int_equal(run(c)->fault, X86_EX_NM);
	c->cr0_set = X86_CR0_EM;
	assert_int_equal(run(c)->fault, X86_EX_NM);
	c->cr0_set = 0;
	assert_int_equal(run(c)->fault, RIG_NO_FAULT);
	c = CASE(s_mmx);
	assert_int_equal(run(c)->fault, RIG_NO_FAULT);
	c->cr0_set = X86_CR0_EM;
	assert_int_equal(run(c)->fault, X86_EX_NM);
}

SNIPPET(s_loop, "mov $10000, %ecx\n fld1\n1: fadd %st, %st(1)\n movd %ecx, %mm1\n emms\n fldl (%rbx)\n fstpt 8(%rbx)\n"
		"fldcw 0x20(%rbx)\n dec %ecx\n jnz 1b");

/* And they are translated: interp is not asked once per instruction. */
static void test_translated(void **state)
{
	struct rig_case *c = CASE(s_loop);
	uint64_t before, after;

	c->repeat = 0;
	st_le16(c->data + 0x120, 0x37f);
	before = rig_engine_stat(engine[1], "calls of interp handlers");
	assert_int_equal(run(c)->fault, RIG_NO_FAULT);
	after = rig_engine_stat(engine[1], "calls of interp handlers");
	assert_true(rig_engine_stat(engine[1], "instructions translated") > 0);
	assert_true(after - before < 1000);
}

static int setup(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(engines); n++) {
		engine[n] = rig_engine_new(engines[n]);
		if (!engine[n])
			return -1;
		rig_engine_free_run(engine[n]);
	}
	return 0;
}

static int teardown(void **state)
{
	for (unsigned n = 0; n < ARRAY_LEN(engines); n++)
		rig_engine_free(engine[n]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pointers), cmocka_unit_test(test_error_at_next), cmocka_unit_test(test_error_comes_first),
		cmocka_unit_test(test_page_fault), cmocka_unit_test(test_store_with_error), cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_images), cmocka_unit_test(test_load_environment), cmocka_unit_test(test_mmx), cmocka_unit_test(test_not_available),
		cmocka_unit_test(test_translated),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
