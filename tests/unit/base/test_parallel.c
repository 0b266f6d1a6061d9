// SPDX-License-Identifier: GPL-2.0-or-later
/* Work in parts: each is done once, and the first that fails, by its number, is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/parallel.h"

#define N 5000

static _Atomic unsigned done[N], busy[PARALLEL_MAX];

static int once(void *opaque, unsigned worker, size_t i)
{
	if (worker >= PARALLEL_MAX || atomic_fetch_add(&busy[worker], 1))
		return -1;
	atomic_fetch_add(&done[i], 1);
	atomic_fetch_sub(&busy[worker], 1);
	return 0;
}

static void each_is_done_once(void **state)
{
	assert_int_equal(parallel_for(0, once, NULL), 0);
	assert_int_equal(parallel_for(N, once, NULL), 0);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(done[i], 1);
}

static int from_700(void *opaque, unsigned worker, size_t i)
{
	return i < 700 ? 0 : -(int)i;
}

static void the_first_failure_is_told(void **state)
{
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(parallel_for(N, from_700, NULL), -700);
	assert_int_equal(parallel_for(700, from_700, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_is_done_once),
		cmocka_unit_test(the_first_failure_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
