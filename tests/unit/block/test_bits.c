/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Rows of bits: random changes against a plain array, and what happens when there is no room. */
#include "block_test.h"

#include "block/qcow2/bits.h"

#define N (3 * BITS_PAGE * 8 + 1234)

static uint32_t draw(void)
{
	static uint32_t s = 12345;

	s ^= s << 13;
	s ^= s >> 17;
	return s ^= s << 5;
}

static void same(const struct bits *b, const uint8_t *flat)
{
	uint64_t count = 0, at = 0;

	for (uint64_t i = 0; i < b->n; i++)
		count += flat[i];
	assert_int_equal(bits_count(b), count);
	/* Every border. */
	for (bool value = flat[0]; at < b->n; value = !value) {
		uint64_t end = bits_next(b, at, !value);

		assert_true(end > at);
		for (; at < end; at++)
			assert_int_equal(flat[at], value);
	}
}

static void random_changes(void **state)
{
	uint8_t *flat = calloc(2, N), *bytes = malloc(BITS_PAGE * 2);
	unsigned used = 0;
	struct bits b, copy;

	assert_int_equal(bits_init(&b, N, &used), 0);
	for (unsigned i = 0; i < 400; i++) {
		uint64_t from = draw() % b.n, n = 1 + draw() % (i % 3 ? 100 : 2 * BITS_PAGE * 8);

		n = MIN(n, b.n - from);
		if (i % 50 == 49) {
			uint64_t size = 1 + draw() % (2 * N);

			if (size > b.n)
				memset(flat + b.n, 0, size - b.n);
			assert_int_equal(bits_resize(&b, size), 0);
		} else if (draw() & 1) {
			bits_set(&b, from, n);
			memset(flat + from, 1, n);
		} else {
			bits_clear(&b, from, n);
			memset(flat + from, 0, n);
		}
		same(&b, flat);
	}
	/* Through bytes, in pieces smaller and larger than a page. */
	for (size_t piece = 512; piece <= BITS_PAGE * 2; piece *= 4) {
		assert_int_equal(bits_init(&copy, b.n, &used), 0);
		for (uint64_t off = 0; off * 8 < b.n; off += piece) {
			bits_bytes(&b, off, bytes, piece);
			bits_load(&copy, off, bytes, piece);
		}
		same(&copy, flat);
		bits_fini(&copy);
	}
	assert_int_equal(bits_init(&copy, b.n, &used), 0);
	bits_set(&copy, b.n / 3, b.n / 3);
	memset(flat + b.n / 3, 1, b.n / 3);
	bits_merge(&copy, &b);
	same(&copy, flat);
	bits_fini(&copy);
	bits_fini(&b);
	assert_int_equal(used, 0);
	free(flat);
	free(bytes);
}

static void kinds_of_bytes(void **state)
{
	static uint8_t buf[BITS_PAGE];
	unsigned used = 0;
	struct bits b;

	assert_int_equal(bits_init(&b, BITS_PAGE * 16, &used), 0);
	assert_int_equal(bits_bytes(&b, 0, buf, BITS_PAGE), BITS_ZERO);
	bits_set(&b, 0, BITS_PAGE * 8);
	assert_int_equal(bits_bytes(&b, 0, buf, BITS_PAGE), BITS_ONES);
	assert_int_equal(used, 0);
	bits_set(&b, BITS_PAGE * 8 + 5, 1);
	assert_int_equal(bits_bytes(&b, BITS_PAGE, buf, BITS_PAGE), BITS_MIXED);
	assert_int_equal(buf[0], 0x20);
	assert_int_equal(used, 1);
	bits_fini(&b);
	assert_int_equal(bits_init(&b, BITS_MAX + 1, &used), -EFBIG);
	assert_int_equal(bits_init(&b, 0, &used), -EFBIG);
}

/* Without room for a page it says too much, never too little. */
static void no_room(void **state)
{
	unsigned used = BITS_MAX_PAGES;
	struct bits b;

	assert_int_equal(bits_init(&b, BITS_PAGE * 16, &used), 0);
	bits_set(&b, 7, 1);
	assert_int_equal(bits_count(&b), BITS_PAGE * 8);
	bits_clear(&b, 8, 1);
	assert_int_equal(bits_count(&b), BITS_PAGE * 8);
	bits_clear(&b, 0, BITS_PAGE * 8);
	assert_int_equal(bits_count(&b), 0);
	assert_int_equal(used, BITS_MAX_PAGES);
	bits_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_changes),
		cmocka_unit_test(kinds_of_bytes),
		cmocka_unit_test(no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
