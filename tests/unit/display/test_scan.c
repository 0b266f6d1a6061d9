/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What looks at four pixels at a time sees what looking at each would. */
#include "../unit.h"

#include "display/vnc/vnc_int.h"

#define N 37

static bool same(uint32_t a, uint32_t b) { return !((a ^ b) & 0xffffff); }

/* Every length and place of the one pixel that is another; the upper bytes are anything. */
static void test_two(void **state)
{
	uint32_t px[N], a = 0x11abcdef, b = 0x22123456;

	for (unsigned n = 0; n <= N; n++)
		for (unsigned other = 0; other <= n; other++) {
			for (unsigned i = 0; i < n; i++)
				px[i] = (i * 7 % 3 ? a : b) ^ i << 24;
			if (other < n)
				px[other] = 0xabcdee;
			assert_int_equal(vnc_scan_two(px, n, a, b), other);
			assert_int_equal(vnc_scan_two(px, n, b, a), other);
		}
	for (unsigned i = 0; i < N; i++)
		px[i] = a ^ i << 24;
	assert_int_equal(vnc_scan_two(px, N, a, a), N);
	assert_int_equal(vnc_scan_two(px, N, b, b), 0);
}

static void test_bits(void **state)
{
	uint8_t got[N / 8 + 2];
	uint32_t px[N];

	for (unsigned seed = 1; seed < 200; seed++) {
		unsigned n = seed % (N + 1), r = seed * 2654435761u;

		for (unsigned i = 0; i < n; i++, r = r * 1664525 + 1013904223)
			px[i] = (r >> 30 ? 0x445566u : 0x445567u) | (r << 24);
		memset(got, 0xaa, sizeof(got));
		vnc_scan_bits(px, n, 0xff445566, got);
		for (unsigned i = 0; i < (n + 7) / 8 * 8; i++)
			assert_int_equal(got[i / 8] >> (7 - i % 8) & 1, i < n && same(px[i], 0x445566));
		assert_int_equal(got[(n + 7) / 8], 0xaa);	/* and nothing behind */
	}
}

static void test_four(void **state)
{
	const uint32_t c[4] = { 0x11abcdef, 0x22123456, 0x00000001, 0xff000000 };
	uint32_t px[N];

	for (unsigned n = 0; n <= N; n++)
		for (unsigned other = 0; other <= n; other++) {
			for (unsigned i = 0; i < n; i++)
				px[i] = c[i * 7 / 3 % 4] ^ i << 24;
			if (other < n)
				px[other] = 2;
			assert_int_equal(vnc_scan_four(px, n, c), other);
		}
}

static void test_indices(void **state)
{
	const uint32_t c[4] = { 0x11abcdef, 0x22123456, 0x00000001, 0xff000000 };
	uint8_t got[N / 4 + 2];
	uint32_t px[N];

	for (unsigned seed = 1; seed < 400; seed++) {
		unsigned n = seed / 2 % (N + 1), r = seed * 2654435761u, colours = 3 + seed % 2, want[N + 4] = { 0 };

		for (unsigned i = 0; i < n; i++, r = r * 1664525 + 1013904223) {
			want[i] = (r >> 16) % colours;
			px[i] = c[want[i]] ^ r << 24;
		}
		memset(got, 0xaa, sizeof(got));
		vnc_scan_indices(px, n, c, colours, got);
		for (unsigned i = 0; i < (n + 3) / 4 * 4; i++)
			assert_int_equal(got[i / 4] >> (6 - 2 * (i % 4)) & 3, want[i]);
		assert_int_equal(got[(n + 3) / 4], 0xaa);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_two), cmocka_unit_test(test_four), cmocka_unit_test(test_bits),
					    cmocka_unit_test(test_indices) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
