/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check engine: finds translated code that does something else than interp,
 * and tells what.  The fault is put in by the engine's configuration: after the
 * N-th instruction translated RBX is one more than it should be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/x86/cpu.h"
#include "snippet.h"

/* mov [rdi], rbx; add rax, rdx; mov [rdi + 8], rbx; nop */
static const uint8_t code[] = { 0x48, 0x89, 0x1f, 0x48, 0x01, 0xd0, 0x48, 0x89, 0x5f, 0x08, 0x90 };

static struct rig_result run(const char *name, char *report, size_t len)
{
	struct rig_engine *e = rig_engine_new(name);
	struct rig_case *c = snippet_case(code, sizeof(code));
	struct rig_result r;

	assert_non_null(e);
	c->gpr[X86_RDI] = RIG_DATA + 0x100;
	c->gpr[X86_RBX] = 0x1111;
	c->gpr[X86_RAX] = 1;
	c->gpr[X86_RDX] = 2;
	rig_engine_run(e, c, &r);
	rig_engine_report(e, report, len);
	rig_engine_free(e);
	return r;
}

static void agrees(void **state)
{
	char text[16384];
	struct rig_result r = run("check", text, sizeof(text));

	assert_true(r.valid);
	assert_int_equal(r.gpr[X86_RAX], 3);
	assert_int_equal(r.data[0x108], 0x11);
}

/* Spoiled after the first store: a register and the second store are wrong. */
static void register_and_memory(void **state)
{
	char text[16384];
	struct rig_result r = run("check:1", text, sizeof(text));

	assert_false(r.valid);
	assert_non_null(strstr(text, "does not do what interp does"));
	assert_non_null(strstr(text, "rbx              before 0000000000001111  interp 0000000000001111  translated 0000000000001112"));
	assert_non_null(strstr(text, "memory at 0000000040010108"));
	assert_null(strstr(text, "memory at 0000000040010100"));
	assert_non_null(strstr(text, "    interp     1111000000000000"));
	assert_non_null(strstr(text, "    translated 1211000000000000"));
	assert_non_null(strstr(text, "add rax, rdx"));
	assert_non_null(strstr(text, "cr3 1000"));
}

/* Spoiled at the end: only the register is. */
static void register_only(void **state)
{
	char text[16384];
	struct rig_result r = run("check:4", text, sizeof(text));

	assert_false(r.valid);
	assert_non_null(strstr(text, "translated 0000000000001112"));
	assert_null(strstr(text, "memory at"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(agrees),
		cmocka_unit_test(register_and_memory),
		cmocka_unit_test(register_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
