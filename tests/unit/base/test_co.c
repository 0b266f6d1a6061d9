/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Coroutines: stop and go on, many at once, their mutex, their stacks. */
#include "../unit.h"

#include "base/co.h"

struct job {
	struct co *c;
	int steps, *order, *n, id;
	struct co_mutex *m;
};

static void three_steps(struct co *c, void *arg)
{
	struct job *j = arg;

	j->c = c;
	for (j->steps = 1; j->steps < 3; j->steps++)
		co_wait(c);
}

static void stops_and_goes_on(void **state)
{
	struct co_pool p = { 0 };
	struct job j = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(co_start(&p, three_steps, &j), 0);
		assert_int_equal(j.steps, 1);
		co_resume(j.c);
		assert_int_equal(j.steps, 2);
		assert_int_equal(p.n_idle, 0);
		co_resume(j.c);
		assert_int_equal(j.steps, 3);
		/* The stack is there for the next one. */
		assert_int_equal(p.n_idle, 1);
	}
	co_pool_fini(&p);
}

static void many_at_once(void **state)
{
	struct co_pool p = { 0 };
	static struct job j[200];

	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(co_start(&p, three_steps, &j[i]), 0);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned i = 0; i < 200; i++)
			co_resume(j[(i * 7) % 200].c);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(j[i].steps, 3);
	assert_true(p.n_idle > 0 && p.n_idle < 200);
	co_pool_fini(&p);
}

static void takes_and_waits(struct co *c, void *arg)
{
	struct job *j = arg;

	j->c = c;
	co_lock(c, j->m);
	j->order[(*j->n)++] = j->id;
	co_wait(c);
	co_unlock(j->m);
}

static void mutex_is_first_come_first_served(void **state)
{
	struct co_pool p = { 0 };
	struct co_mutex m = { 0 };
	struct job j[4];
	int order[4], n = 0;

	for (int i = 0; i < 4; i++) {
		j[i] = (struct job){ .order = order, .n = &n, .id = i, .m = &m };
		assert_int_equal(co_start(&p, takes_and_waits, &j[i]), 0);
	}
	assert_int_equal(n, 1);
	for (int i = 0; i < 4; i++) {
		assert_true(m.held);
		co_resume(j[i].c);
		assert_int_equal(n, i < 3 ? i + 2 : 4);
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(order[i], i);
	assert_false(m.held);
	co_pool_fini(&p);
}

static unsigned sum_deep(unsigned depth)
{
	volatile char room[1000];

	memset((char *)room, (int)depth, sizeof(room));
	return depth ? sum_deep(depth - 1) + (unsigned char)room[depth % 1000] : 0;
}

static void goes_deep(struct co *c, void *arg)
{
	unsigned *out = arg;

	*out = sum_deep(100);
}

/* 100 KiB of frames, and registers and floating point as they were. */
static void stacks_are_large_enough(void **state)
{
	struct co_pool p = { 0 };
	unsigned sum = 0;
	volatile double x = 1.5;

	assert_int_equal(co_start(&p, goes_deep, &sum), 0);
	assert_int_equal(sum, 100 * 101 / 2);
	assert_true(x * 2 == 3.0);
	co_pool_fini(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stops_and_goes_on),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(mutex_is_first_come_first_served),
		cmocka_unit_test(stacks_are_large_enough),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
