/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shared checks of blk_submit, completion, drain and close, on a memory node. */
#include "block_test.h"

struct fixture {
	struct loop *l;
	struct blk_node *n;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	return loop_new(&f->l) || blk_open_mem(f->l, 1 << 20, &f->n);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	blk_close(f->n);
	loop_free(f->l);
	free(f);
	return 0;
}

/* What is written is read back, in whatever pieces. */
static void data_survives(void **state)
{
	struct fixture *f = *state;
	uint8_t a[1024], b[1024];
	struct iovec v[3] = { { b, 1 }, { b + 1, 510 }, { b + 511, 513 } };

	for (size_t i = 0; i < sizeof(a); i++)
		a[i] = (uint8_t)(i * 7);
	assert_int_equal(blk_buf(f->l, f->n, BLK_WRITE, 512, a, sizeof(a)), 0);
	assert_int_equal(blk_do(f->l, f->n, BLK_READ, 512, 1024, v, 3), 0);
	assert_memory_equal(a, b, sizeof(a));
	assert_int_equal(blk_do(f->l, f->n, BLK_WRITE_ZEROES, 512, 512, NULL, 0), 0);
	assert_int_equal(blk_mem_data(f->n)[512], 0);
	assert_int_equal(blk_mem_data(f->n)[1024], a[512]);
}

/* Requests that are not whole or lie outside never reach a driver. */
static void bad_requests_fail(void **state)
{
	struct fixture *f = *state;
	uint8_t b[1024];
	struct iovec v = { b, 512 };

	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 1 << 20, b, 512), -ERANGE);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, (1 << 20) - 512, b, 1024), -ERANGE);
	assert_int_equal(blk_do(f->l, f->n, BLK_DISCARD, 512, UINT64_MAX - 511, NULL, 0), -ERANGE);
	assert_int_equal(blk_do(f->l, f->n, BLK_DISCARD, UINT64_MAX - 511, 1024, NULL, 0), -ERANGE);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 1, b, 512), -EINVAL);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 0, b, 511), -EINVAL);
	assert_int_equal(blk_do(f->l, f->n, BLK_READ, 0, 1024, &v, 1), -EINVAL);
	assert_int_equal(blk_do(f->l, f->n, (enum blk_op)77, 0, 512, &v, 1), -EINVAL);
	f->n->i.read_only = true;
	assert_int_equal(blk_buf(f->l, f->n, BLK_WRITE, 0, b, 512), -EROFS);
	assert_int_equal(blk_do(f->l, f->n, BLK_DISCARD, 0, 512, NULL, 0), -EROFS);
	assert_int_equal(blk_do(f->l, f->n, BLK_WRITE_ZEROES, 0, 512, NULL, 0), -EROFS);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 0, b, 512), 0);
	f->n->i.read_only = false;
	assert_int_equal(blk_do(f->l, f->n, BLK_READ, 1 << 20, 0, NULL, 0), 0);
}

/* The N-th request fails, the others do not. */
static void injected_error(void **state)
{
	struct fixture *f = *state;
	uint8_t b[512];

	blk_mem_fail_after(f->n, 2);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 0, b, 512), 0);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 0, b, 512), -EIO);
	assert_int_equal(blk_buf(f->l, f->n, BLK_READ, 0, b, 512), 0);
}

/* Drain answers what is held back, in the caller's thread, without a turn of the loop. */
static void drain_finishes(void **state)
{
	struct fixture *f = *state;
	uint8_t b[512];
	struct iovec v = { b, 512 };
	struct waited w[3] = { 0 };

	blk_mem_hold(f->n, true);
	for (int i = 0; i < 3; i++) {
		w[i].r = (struct blk_req){ .op = BLK_READ, .len = 512, .iov = &v, .niov = 1,
					   .done = waited_done, .opaque = &w[i] };
		blk_submit(f->n, &w[i].r);
	}
	assert_int_equal(loop_turn(f->l, 0), 0);
	assert_false(w[0].done);
	assert_int_equal(f->n->in_flight, 3);
	blk_drain(f->n);
	assert_true(w[0].done && w[1].done && w[2].done);
	assert_int_equal(f->n->in_flight, 0);
}

static void drain_inside(struct blk_req *r, int ret)
{
	struct waited *w = r->opaque;

	w->done = true;
	blk_drain(r->node);
}

/* A callback may drain (a device that resets itself does). */
static void drain_in_callback(void **state)
{
	struct fixture *f = *state;
	struct waited a = { .r = { .op = BLK_FLUSH, .done = drain_inside, .opaque = &a } };
	struct waited b = { .r = { .op = BLK_FLUSH, .done = waited_done, .opaque = &b } };

	blk_submit(f->n, &a.r);
	blk_submit(f->n, &b.r);
	while (!a.done)
		assert_int_equal(loop_turn(f->l, 1000), 0);
	assert_true(b.done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(data_survives, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_requests_fail, setup, teardown),
		cmocka_unit_test_setup_teardown(injected_error, setup, teardown),
		cmocka_unit_test_setup_teardown(drain_finishes, setup, teardown),
		cmocka_unit_test_setup_teardown(drain_in_callback, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
