/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * More different instructions than the exec stubs that all vCPUs' translated code
 * shares have room for.  Stubs that no block calls make room first; where all are
 * called, the oldest code does.  Whatever is given up, results stay right.
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

static struct rig_engine *engine;

static uint64_t count(const char *name) { return rig_engine_stat(engine, name); }

/* An EVEX prefix with 66: reg and v are register numbers up to 31, x and b extend ModRM.rm and SIB. */
static void evex(uint8_t *p, unsigned map, unsigned p2, unsigned reg, unsigned v, unsigned x, unsigned b)
{
	p[0] = 0x62;
	p[1] = (uint8_t)(map | (reg & 8 ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | (reg & 16 ? 0 : 0x10));
	p[2] = (uint8_t)((~v & 15) << 3 | 5);
	p[3] = (uint8_t)(p2 | (v & 16 ? 0 : 8));
}

static const struct rig_result *run(struct rig_case *c)
{
	static struct rig_result r;

	c->repeat = 1;
	rig_engine_run(engine, c, &r);
	assert_true(r.valid);
	assert_int_equal(r.fault, RIG_NO_FAULT);
	return &r;
}

/* VPADDD of three of 32 registers: copied, so its stub is not called. */
static void test_copied(void **state)
{
	uint64_t before = count("exec stubs without use dropped, times");

	for (unsigned n = 0; n < 32768; n++) {
		unsigned dst = n % 32, a = n / 32 % 32, b = n / 1024;
		uint8_t code[6] = { [4] = 0xfe, [5] = (uint8_t)(0xc0 | (dst & 7) << 3 | (b & 7)) };
		struct rig_case *c;

		evex(code, 1, 0x40, dst, a, b >> 4 & 1, b >> 3 & 1);
		c = snippet_case(code, sizeof(code));
		st_le32(c->fpu.zmm[a], n);
		st_le32(c->fpu.zmm[b], 2 * n);
		assert_int_equal(ld_le32(run(c)->fpu.zmm[dst]), a == b ? 4 * n : 3 * n);
	}
	assert_true(count("exec stubs without use dropped, times") > before);
}

/* VPGATHERDD with all vectors, masks and scales: C that its block calls. */
static void test_called(void **state)
{
	uint64_t before = count("code cache regions given up");

	for (unsigned n = 0; n < 20000; n++) {
		unsigned dst = n % 16, index = 16 + n / 16 % 16, k = 1 + n / 256 % 7, scale = n / 1792 % 4, len = n / 7168;
		uint8_t code[7] = { [4] = 0x90, [5] = (uint8_t)((dst & 7) << 3 | 4), [6] = (uint8_t)(scale << 6 | (index & 7) << 3) };
		struct rig_case *c;

		evex(code, 2, len << 5 | k, dst, index & 16, index >> 3 & 1, 0);
		c = snippet_case(code, sizeof(code));
		c->gpr[X86_RAX] = RIG_DATA + 0x100;
		c->fpu.k[k] = 2;
		st_le32(c->fpu.zmm[index] + 4, 3);
		st_le32(c->data + 0x100 + (3u << scale), n);
		assert_int_equal(ld_le32(run(c)->fpu.zmm[dst] + 4), n);
	}
	assert_true(count("code cache regions given up") > before);
}

static int setup(void **state)
{
	engine = rig_engine_new("translate");
	return engine ? 0 : -1;
}

static int teardown(void **state)
{
	rig_engine_free(engine);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_copied), cmocka_unit_test(test_called) };

	if (!__builtin_cpu_supports("avx512f")) {
		printf("the host has no AVX-512, whose encodings are that many\n");
		return 77;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
