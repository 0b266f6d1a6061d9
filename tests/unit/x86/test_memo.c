/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding that remembers against decoding anew: random bytes, most of them
 * something that was seen before with other displacements and immediates.
 */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/decode.h"

static uint64_t seed = 1;

static uint32_t rnd(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

/* Few prefixes and opcodes in a round, so that they come again. */
static void fill(uint8_t b[INSN_MAX_LEN], uint32_t round)
{
	static const uint8_t prefix[] = { 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x64, 0x65, 0x2e, 0x48, 0x41, 0x4c, 0x44 };
	static const uint8_t escape[] = { 0x0f, 0xc4, 0xc5, 0x62, 0x8f };
	unsigned n = 0, map = rnd() % 4;

	for (unsigned k = 0; k < INSN_MAX_LEN; k++)
		b[k] = (uint8_t)(rnd() % 4 ? rnd() : rnd() % 2 ? 0 : 0xff);
	while (rnd() % 3 == 0 && n < 4)
		b[n++] = prefix[(rnd() % 3 + round) % sizeof(prefix)];
	if (map == 1)
		b[n++] = 0x0f;
	if (map == 2)
		b[n++] = escape[rnd() % sizeof(escape)];
	if (map == 3) {
		b[n++] = 0x0f;
		b[n++] = rnd() % 2 ? 0x38 : 0x3a;
	}
	b[n++] = (uint8_t)(round * 7 + rnd() % 4);
	if (rnd() % 2)
		b[n] = (uint8_t)((b[n] & 0xc0) | (rnd() % 2 ? 0x04 : 0x05));
}

static void test_as_anew(void **state)
{
	struct insn_memo *m = calloc(1, sizeof(*m));
	unsigned fine = 0;

	assert_non_null(m);
	for (uint32_t round = 0; round < 4000; round++) {
		for (unsigned k = 0; k < 100; k++) {
			unsigned n = rnd() % 8 ? INSN_MAX_LEN : rnd() % INSN_MAX_LEN + 1, bits = rnd() % 2 ? 64 : rnd() % 8 ? 32 : 16;
			uint8_t b[INSN_MAX_LEN], part[INSN_MAX_LEN];
			struct insn one, two;
			int r1, r2;

			fill(b, round / 8);
			memcpy(part, b, n);
			r1 = insn_decode(&one, part, n, bits);
			r2 = insn_decode_memo(m, &two, part, n, bits);
			assert_int_equal(r1, r2);
			if (r1 < 0)
				continue;
			fine++;
			if (memcmp(&one, &two, sizeof(one)) != 0) {
				print_error("differs, %u bits:", bits);
				for (unsigned j = 0; j < one.len; j++)
					print_error(" %02x", one.bytes[j]);
				print_error("\n");
				fail();
			}
		}
	}
	assert_true(fine > 100000);
	free(m);
}

/* What follows the head is not looked at where it decides nothing, and is where it does. */
static void test_remembers(void **state)
{
	static const struct {
		uint8_t b[2][INSN_MAX_LEN];
		bool exact;
	} pair[] = {
		{ { { 0x48, 0x8b, 0x84, 0xc8, 1, 2, 3, 4 }, { 0x48, 0x8b, 0x84, 0xc8, 0x85, 2, 3, 0x84 } }, false },	/* MOV with disp32 */
		{ { { 0x83, 0x7d, 0xf8, 0x7f }, { 0x83, 0x7d, 0x10, 0x80 } }, false },		/* CMP [RBP+disp8], imm8 */
		{ { { 0xe8, 1, 2, 3, 4 }, { 0xe8, 0xff, 0xff, 0xff, 0xff } }, false },		/* CALL */
		{ { { 0xc4, 0xe3, 0x69, 0x4a, 0xc1, 0x30 }, { 0xc4, 0xe3, 0x69, 0x4a, 0xc1, 0x40 } }, true },	/* VBLENDVPS: a register */
		{ { { 0x62, 0xf1, 0x7c, 0x48, 0x58, 0x40, 1 }, { 0x62, 0xf1, 0x7c, 0x48, 0x58, 0x40, 2 } }, true },	/* disp8 times 64 */
	};

	for (unsigned k = 0; k < ARRAY_LEN(pair); k++) {
		struct insn_memo *m = calloc(1, sizeof(*m));
		struct insn i, want;
		unsigned used = 0;

		assert_non_null(m);
		for (unsigned n = 0; n < 2; n++) {
			assert_int_equal(insn_decode_memo(m, &i, pair[k].b[n], INSN_MAX_LEN, 64), 0);
			assert_int_equal(insn_decode(&want, pair[k].b[n], INSN_MAX_LEN, 64), 0);
			assert_memory_equal(&i, &want, sizeof(i));
		}
		for (unsigned n = 0; n < ARRAY_LEN(m->e); n++) {
			used += m->e[n].n_head != 0;
			assert_int_equal(m->e[n].n_head && m->e[n].exact, m->e[n].n_head && pair[k].exact);
		}
		assert_int_equal(used, 1);
		free(m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_as_anew),
		cmocka_unit_test(test_remembers),
	};

	return cmocka_run_group_tests_name("memo", tests, NULL, NULL);
}
