/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * LOOP and JRCXZ in translated code: they count and branch as in the interpreter, keep the flags, and do
 * not leave the translated code at each round.
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

static struct rig_engine *interp, *translate;

/* What both engines make of it, which is the same. */
static const struct rig_result *run(const struct rig_case *c)
{
	static struct rig_result want, got;
	char text[4096];

	rig_engine_run(translate, c, &got);
	assert_true(got.valid);
	rig_engine_run(interp, c, &want);
	assert_true(want.valid);
	if (rig_compare(c, &want, &got, text, sizeof(text)))
		fail_msg("translate differs from interp:\n%s", text);
	return &got;
}

static struct rig_case *new_case(const uint8_t *code, size_t len, unsigned bits, uint64_t rcx)
{
	struct rig_case *c = snippet_case(code, len);

	c->bits = bits;
	c->repeat = 4;
	c->gpr[X86_RCX] = rcx;
	c->gpr[X86_RDX] = c->gpr[X86_RSI] = 0;
	return c;
}

#define CASE(name, bits, rcx) new_case(name##_b, SNIPPET_LEN(name), bits, rcx)

/* Flags come in from before and are wanted behind; the carry goes round and round. */
SNIPPET(s_loop, "stc\n 1: adc $3, %rdx\n loop 1b\n adc $0, %rsi");
SNIPPET(s_loop_addr32, "stc\n 1: adc $3, %rdx\n .byte 0x67\n loop 1b\n adc $0, %rsi");
SNIPPET(s_empty, "1: loop 1b");
SNIPPET32(s_loop32, "stc\n 1: adc $3, %edx\n loop 1b\n adc $0, %esi");
SNIPPET32(s_loop16, "1: add $3, %edx\n .byte 0x67\n loop 1b");
/* How often it comes by each way. */
SNIPPET(s_jrcxz, "mov $200, %edi\n 1: xor $1, %rcx\n cmp %rdx, %rsi\n jrcxz 2f\n adc $5, %rdx\n jmp 3f\n 2: adc $7, %rsi\n 3: dec %edi\n jnz 1b");
SNIPPET(s_jecxz, "mov $200, %edi\n 1: xor $1, %ecx\n add %rbp, %rcx\n cmp %rdx, %rsi\n jecxz 2f\n adc $5, %rdx\n jmp 3f\n 2: adc $7, %rsi\n 3: dec %edi\n jnz 1b");
SNIPPET32(s_jecxz32, "mov $200, %edi\n 1: xor $1, %ecx\n cmp %edx, %esi\n jecxz 2f\n adc $5, %edx\n jmp 3f\n 2: adc $7, %esi\n 3: dec %edi\n jnz 1b");
/* Their branches and accesses off RCX in one block. */
SNIPPET(s_memory, "1: mov (%rbx,%rcx,8), %rax\n add %rax, %rdx\n mov %rdx, 8(%rbx,%rcx,8)\n loop 2f\n jmp 3f\n 2: add (%rbx,%rcx,8), %rdx\n jmp 1b\n 3: nop");

static void test_loop(void **state)
{
	assert_int_equal(run(CASE(s_loop, 64, 1000))->gpr[X86_RDX], 3001);
	assert_int_equal(run(CASE(s_loop, 64, 1))->gpr[X86_RDX], 4);
	assert_int_equal(run(CASE(s_loop_addr32, 64, 0x500000200))->gpr[X86_RCX], 0);
	assert_int_equal(run(CASE(s_empty, 64, 5000))->gpr[X86_RCX], 0);
}

static void test_loop_32(void **state)
{
	assert_int_equal(run(CASE(s_loop32, 32, 1000))->gpr[X86_RDX], 3001);
	assert_int_equal(run(CASE(s_loop16, 32, 0x30064))->gpr[X86_RCX], 0x30000);
}

static void test_jrcxz(void **state)
{
	struct rig_case *c = CASE(s_jrcxz, 64, 1);

	run(c);
	c->gpr[X86_RCX] = 0x100000001;
	run(c);
	c = CASE(s_jecxz, 64, 1);
	c->gpr[X86_RBP] = 0x100000000;	/* ECX is what counts */
	run(c);
	run(CASE(s_jecxz32, 32, 1));
}

static void test_memory(void **state)
{
	struct rig_case *c = CASE(s_memory, 64, 40);

	c->gpr[X86_RBX] = RIG_DATA + 0x100;
	for (unsigned n = 0; n < 64; n++)
		c->data[0x100 + 8 * n] = (uint8_t)n;
	run(c);
}

static void test_translated(void **state)
{
	uint64_t before = rig_engine_stat(translate, "calls of interp handlers");

	run(CASE(s_loop, 64, 30000));
	run(CASE(s_loop32, 32, 30000));
	run(CASE(s_jrcxz, 64, 1));
	assert_true(rig_engine_stat(translate, "instructions translated") > 0);
	assert_true(rig_engine_stat(translate, "calls of interp handlers") - before < 1000);
}

static int setup(void **state)
{
	interp = rig_engine_new("interp");
	translate = rig_engine_new("translate");
	if (!interp || !translate)
		return -1;
	rig_engine_free_run(interp);
	rig_engine_free_run(translate);
	return 0;
}

static int teardown(void **state)
{
	rig_engine_free(interp);
	rig_engine_free(translate);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loop), cmocka_unit_test(test_loop_32), cmocka_unit_test(test_jrcxz), cmocka_unit_test(test_memory),
		cmocka_unit_test(test_translated),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
