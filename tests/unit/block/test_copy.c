/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engines over memory nodes: every way of copying gives the same bytes, faults
 * are reported with side and place, cancelling and rates work, comparing finds the
 * first difference.
 */
#include "block_test.h"

#include "base/zero.h"
#include "block/copy.h"

#define SIZE (3u << 20)
#define N_SECTORS (SIZE / 512)

static struct loop *loop;
static struct blk_node *a, *b;
static uint64_t seed = 1;

static uint32_t next(void)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(seed >> 33);
}

static int setup(void **state)
{
	int ret = loop_new(&loop);

	ret = ret ? ret : blk_open_mem(loop, SIZE, &a);
	return ret ? ret : blk_open_mem(loop, SIZE, &b);
}

static int teardown(void **state)
{
	blk_close(a);
	blk_close(b);
	loop_free(loop);
	return 0;
}

/* Runs of data and of zeros, of all lengths. */
static void fill(uint8_t *p)
{
	size_t at = 0;

	while (at < SIZE) {
		size_t len = (size_t)512 << next() % 9;

		len = MIN(len, SIZE - at);
		memset(p + at, next() % 2 ? 0 : (int)(1 + next() % 255), len);
		at += len;
	}
}

static void zero_is_found(void **state)
{
	uint8_t m[700];

	for (unsigned i = 0; i < 2000; i++) {
		size_t off = next() % 40, len = next() % 600;

		memset(m, 1, sizeof(m));
		memset(m + off, 0, len);
		assert_true(mem_is_zero(m + off, len));
		if (!len)
			continue;
		m[off + next() % len] = (uint8_t)(1u << next() % 8);
		assert_false(mem_is_zero(m + off, len));
	}
}

static void all_ways_give_the_same(void **state)
{
	static const uint32_t sparses[] = { 0, 512, 4096, 12288, 1u << 20 };

	for (unsigned i = 0; i < 120; i++) {
		struct blk_copy_opts o = { .src = a, .dst = b };
		struct blk_copy_stats st;
		uint8_t *before = malloc(SIZE);
		struct err e;

		assert_non_null(before);
		fill(blk_mem_data(a));
		o.src_off = 512 * (next() % N_SECTORS);
		o.len = 512 * (next() % (N_SECTORS - o.src_off / 512 + 1));
		o.dst_off = 512 * (next() % (N_SECTORS - o.len / 512 + 1));
		o.sparse = sparses[next() % ARRAY_LEN(sparses)];
		o.in_flight = next() % 20;
		o.out_of_order = next() % 2;
		o.target_zero = next() % 2;
		memset(blk_mem_data(b), o.target_zero ? 0 : 0xee, SIZE);
		memcpy(before, blk_mem_data(b), SIZE);
		memcpy(before + o.dst_off, blk_mem_data(a) + o.src_off, o.len);
		assert_int_equal(blk_copy_run(&o, &st, &e), 0);
		assert_memory_equal(blk_mem_data(b), before, SIZE);
		assert_int_equal(st.handled, o.len);
		assert_int_equal(st.total, o.len);
		assert_true(st.data + st.zeroes <= o.len);
		if (!o.target_zero)
			assert_int_equal(st.data + st.zeroes, o.len);
		if (!o.sparse)
			assert_int_equal(st.data, o.len);
		free(before);
	}
}

/* Zeros of the size asked for are not written to what is zero. */
static void zeros_are_left_out(void **state)
{
	struct blk_copy_opts o = { .src = a, .dst = b, .len = SIZE, .sparse = 4096, .target_zero = true };
	struct blk_copy_stats st;
	struct err e;

	memset(blk_mem_data(a), 0, SIZE);
	memset(blk_mem_data(b), 0, SIZE);
	blk_mem_data(a)[4096 * 5 + 17] = 1;
	blk_mem_data(a)[SIZE - 1] = 1;
	assert_int_equal(blk_copy_run(&o, &st, &e), 0);
	assert_int_equal(st.data, 2 * 4096);
	assert_int_equal(st.zeroes, 0);
	o.target_zero = false;
	assert_int_equal(blk_copy_run(&o, &st, &e), 0);
	assert_int_equal(st.data, 2 * 4096);
	assert_int_equal(st.zeroes, SIZE - 2 * 4096);
}

/* Whichever request fails, the copy ends, says which side it was, and nothing is left under way. */
static void faults_are_reported(void **state)
{
	for (unsigned i = 1; i < 40; i++) {
		struct blk_node *bad = i % 2 ? a : b;
		struct blk_copy_opts o = { .src = a, .dst = b, .len = SIZE, .sparse = i % 3 ? 4096 : 0, .in_flight = 1 + i % 7,
					   .out_of_order = i % 5 == 0 };
		struct err e = { 0 };
		int ret;

		fill(blk_mem_data(a));
		blk_mem_fail_after(bad, i / 2 + 1);
		ret = blk_copy_run(&o, NULL, &e);
		blk_mem_fail_after(bad, 0);
		assert_int_equal(a->in_flight, 0);
		assert_int_equal(b->in_flight, 0);
		if (!ret) {
			/* There were fewer requests than that. */
			assert_memory_equal(blk_mem_data(a), blk_mem_data(b), SIZE);
			continue;
		}
		assert_int_equal(ret, -EIO);
		assert_non_null(strstr(e.msg, bad == a ? "read" : "written"));
	}
}

static uint64_t lost, lost_at;

static void unreadable(void *opaque, uint64_t off, uint64_t len, int ret)
{
	assert_int_equal(ret, -EIO);
	lost += len;
	lost_at = off;
}

/* A request that fails once is read again in small pieces, and nothing is lost. */
static void salvage_reads_again(void **state)
{
	struct blk_copy_opts o = { .src = a, .dst = b, .len = SIZE, .salvage = true, .unreadable = unreadable };
	struct blk_copy_stats st;
	struct err e;

	fill(blk_mem_data(a));
	for (unsigned i = 1; i < 12; i++) {
		lost = 0;
		memset(blk_mem_data(b), 0xee, SIZE);
		blk_mem_fail_after(a, i);
		assert_int_equal(blk_copy_run(&o, &st, &e), 0);
		blk_mem_fail_after(a, 0);
		assert_int_equal(lost, 0);
		assert_int_equal(st.unreadable, 0);
		assert_memory_equal(blk_mem_data(a), blk_mem_data(b), SIZE);
	}
}

static bool stop_soon(void *opaque, const struct blk_copy_stats *s)
{
	return s->handled < SIZE / 3;
}

static void progress_can_cancel(void **state)
{
	struct blk_copy_opts o = { .src = a, .dst = b, .len = SIZE, .progress = stop_soon, .in_flight = 2 };
	struct blk_copy_stats st;
	struct err e;

	memset(blk_mem_data(a), 1, SIZE);
	assert_int_equal(blk_copy_run(&o, &st, &e), -ECANCELED);
	assert_true(st.handled >= SIZE / 3 && st.handled < SIZE);
	assert_int_equal(a->in_flight + b->in_flight, 0);
}

static void count_done(void *opaque, int ret)
{
	int *n = opaque;

	*n += ret == -ECANCELED ? 1 : 100;
}

static void cancel_from_outside(void **state)
{
	int n = 0;
	struct blk_copy_opts o = { .src = a, .dst = b, .len = SIZE, .done = count_done, .opaque = &n, .rate = 1 << 20 };
	struct blk_copy *c;

	memset(blk_mem_data(a), 1, SIZE);
	assert_int_equal(blk_copy_start(&o, &c), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(loop_turn(loop, 1), 0);
	assert_int_equal(n, 0);
	blk_copy_cancel(c);
	blk_copy_cancel(c);
	while (!n)
		assert_int_equal(loop_turn(loop, 1000), 0);
	assert_int_equal(n, 1);
	assert_int_equal(blk_copy_result(c)->ret, -ECANCELED);
	blk_copy_free(c);
}

static void rate_is_kept(void **state)
{
	struct blk_copy_opts o = { .src = a, .dst = b, .len = SIZE, .rate = 10u * SIZE };
	int64_t t = loop_now_ns();
	struct err e;

	memset(blk_mem_data(a), 1, SIZE);
	assert_int_equal(blk_copy_run(&o, NULL, &e), 0);
	/* Six chunks, of which the last need not be waited for. */
	assert_true(loop_now_ns() - t > 80000000);
}

static void nonsense_is_refused(void **state)
{
	struct blk_copy_opts ok = { .src = a, .dst = b, .len = SIZE }, o;
	struct blk_copy *c;

#define REFUSED(field, value) (o = ok, o.field = (value), assert_int_equal(blk_copy_start(&o, &c), -EINVAL))
	REFUSED(len, SIZE + 512);
	REFUSED(len, 100);
	REFUSED(src_off, 512);
	REFUSED(dst_off, UINT64_MAX - 511);
	REFUSED(sparse, 1000);
	REFUSED(sparse, 32u << 20);
	REFUSED(in_flight, 65);
	REFUSED(compress, true);
	REFUSED(dst, a);
#undef REFUSED
}

static void first_difference_is_found(void **state)
{
	for (unsigned i = 0; i < 60; i++) {
		struct blk_compare_opts o = { .a = a, .b = b, .len = SIZE };
		unsigned x = next() % SIZE, y = next() % SIZE;
		enum blk_difference found;
		uint64_t at;
		struct err e;

		fill(blk_mem_data(a));
		memcpy(blk_mem_data(b), blk_mem_data(a), SIZE);
		assert_int_equal(blk_compare(&o, &found, &at, &e), 0);
		assert_int_equal(found, BLK_SAME);
		blk_mem_data(b)[x] ^= 1;
		blk_mem_data(a)[y] ^= 2;
		assert_int_equal(blk_compare(&o, &found, &at, &e), 0);
		assert_int_equal(found, BLK_CONTENT_DIFFERS);
		assert_int_equal(at, MIN(x, y) / 512 * 512);
	}
}

/* The shorter one goes on in zeros; offsets may differ. */
static void ends_are_compared(void **state)
{
	struct blk_compare_opts o = { .a = a, .b = b, .a_off = 1024, .b_off = 1024, .len = SIZE };
	enum blk_difference found;
	uint64_t at;
	struct err e;

	fill(blk_mem_data(a));
	memset(blk_mem_data(a) + SIZE - 1024, 0, 1024);
	memcpy(blk_mem_data(b), blk_mem_data(a), SIZE);
	assert_int_equal(blk_compare(&o, &found, &at, &e), 0);
	assert_int_equal(found, BLK_SAME);
	memset(blk_mem_data(a), 0, SIZE);
	memset(blk_mem_data(b), 0, SIZE);
	blk_mem_data(a)[SIZE - 1] = 1;
	blk_mem_data(b)[SIZE - 514] = 1;
	o.b_off = 512;
	o.len = SIZE - 512;
	assert_int_equal(blk_compare(&o, &found, &at, &e), 0);
	assert_int_equal(found, BLK_CONTENT_DIFFERS);
	assert_int_equal(at, SIZE - 1024 - 512);
	/* Both read faults and what is past the end of the first end it. */
	blk_mem_fail_after(a, 3);
	assert_int_equal(blk_compare(&o, &found, &at, &e), -EIO);
	blk_mem_fail_after(a, 0);
}

static void several_read_as_one(void **state)
{
	struct blk_node *part[3], *k;
	struct blk_copy_opts o = { .dst = b };
	size_t at = 0;
	struct err e;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(blk_open_mem(loop, 512 * (1 + next() % 1000), &part[i]), 0);
		for (size_t j = 0; j < part[i]->i.size; j++)
			blk_mem_data(part[i])[j] = (uint8_t)next();
	}
	assert_int_equal(blk_concat(part, 3, &k), 0);
	o.src = k;
	o.len = k->i.size;
	assert_int_equal(blk_copy_run(&o, NULL, &e), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_memory_equal(blk_mem_data(b) + at, blk_mem_data(part[i]), part[i]->i.size);
		at += part[i]->i.size;
	}
	assert_int_equal(at, k->i.size);
	/* Any part that cannot be read makes the whole fail. */
	blk_mem_fail_after(part[1], 2);
	assert_int_equal(blk_copy_run(&o, NULL, &e), -EIO);
	blk_close(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_is_found),
		cmocka_unit_test(all_ways_give_the_same),
		cmocka_unit_test(zeros_are_left_out),
		cmocka_unit_test(faults_are_reported),
		cmocka_unit_test(salvage_reads_again),
		cmocka_unit_test(progress_can_cancel),
		cmocka_unit_test(cancel_from_outside),
		cmocka_unit_test(rate_is_kept),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(first_difference_is_found),
		cmocka_unit_test(ends_are_compared),
		cmocka_unit_test(several_read_as_one),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
