/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the loop: no callback of a removed descriptor, cancelled timer or
 * cancelled post starts; timers run in order and never early; posts run once;
 * anything done from another thread wakes the loop; the lock is held.
 */
#include "../unit.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop.h"

struct ctx {
	struct loop *l;
	struct loop_fd f[2];
	struct loop_timer t[3];
	struct loop_bh b[2];
	char trace[32];
	int64_t when[3];
	pthread_mutex_t lock;
};

static int setup(void **state)
{
	struct ctx *c = calloc(1, sizeof(*c));

	*state = c;
	pthread_mutex_init(&c->lock, NULL);
	return loop_new(&c->l);
}

static int teardown(void **state)
{
	struct ctx *c = *state;

	loop_free(c->l);
	free(c);
	return 0;
}

static void mark(struct ctx *c, char ch)
{
	size_t n = strlen(c->trace);

	if (n < sizeof(c->trace) - 1)
		c->trace[n] = ch;
}

static struct ctx *the_ctx;	/* cmocka is single-threaded; callbacks take no two pointers */

static void fd_a(void *o, uint32_t ev)
{
	struct ctx *c = o;

	mark(c, 'a');
	loop_fd_del(&c->f[0]);
	loop_fd_del(&c->f[1]);
}
static void fd_b(void *o, uint32_t ev)
{
	struct ctx *c = o;

	mark(c, 'b');
	loop_fd_del(&c->f[0]);
	loop_fd_del(&c->f[1]);
}

static void removed_fd_is_not_called(void **state)
{
	struct ctx *c = *state;
	int e0 = eventfd(1, 0), e1 = eventfd(1, 0);

	c->f[0] = (struct loop_fd){ .fd = e0, .events = EPOLLIN, .cb = fd_a, .opaque = c };
	c->f[1] = (struct loop_fd){ .fd = e1, .events = EPOLLIN, .cb = fd_b, .opaque = c };
	assert_int_equal(loop_fd_add(c->l, &c->f[0]), 0);
	assert_int_equal(loop_fd_add(c->l, &c->f[1]), 0);
	assert_int_equal(loop_turn(c->l, 1000), 0);
	assert_int_equal(loop_turn(c->l, 0), 0);
	assert_int_equal(strlen(c->trace), 1);	/* whichever came first silenced the other */
	assert_null(c->f[0].loop);
	close(e0);
	close(e1);
}

static void fd_errors_are_told(void **state)
{
	struct ctx *c = *state;
	FILE *f = tmpfile();

	c->f[0] = (struct loop_fd){ .fd = -1, .events = EPOLLIN, .cb = fd_a, .opaque = c };
	assert_int_equal(loop_fd_add(c->l, &c->f[0]), -EBADF);
	c->f[0].fd = fileno(f);
	assert_int_equal(loop_fd_add(c->l, &c->f[0]), -EPERM);	/* regular files cannot be polled */
	assert_null(c->f[0].loop);
	loop_fd_del(&c->f[0]);
	fclose(f);
}

static void timer_cb(void *o)
{
	struct ctx *c = the_ctx;
	int i = *(char *)o - '0';

	c->when[i] = loop_now_ns();
	mark(c, *(char *)o);
}

static void timers_run_in_order_and_not_early(void **state)
{
	struct ctx *c = *state;
	int64_t now = loop_now_ns();
	char names[] = "012";

	the_ctx = c;
	for (int i = 0; i < 3; i++)
		loop_timer_init(c->l, &c->t[i], timer_cb, &names[i]);
	loop_timer_arm(&c->t[0], now + 20000000);
	loop_timer_arm(&c->t[1], now + 10000000);
	loop_timer_arm(&c->t[2], now + 5000000);
	loop_timer_cancel(&c->t[2]);
	while (strlen(c->trace) < 2)
		assert_int_equal(loop_turn(c->l, 1000), 0);
	assert_string_equal(c->trace, "10");
	assert_true(c->when[1] >= now + 10000000);
	assert_true(c->when[0] >= now + 20000000);
	assert_int_equal(c->t[0].heap_index, -1);
}

static void bh_cb(void *o)
{
	struct ctx *c = the_ctx;

	mark(c, *(char *)o);
	if (*(char *)o == 'x')
		loop_bh_cancel(&c->b[1]);
}

static void posts_run_once_and_can_be_cancelled(void **state)
{
	struct ctx *c = *state;
	char x[] = "x", y[] = "y";

	the_ctx = c;
	loop_bh_init(c->l, &c->b[0], bh_cb, x);
	loop_bh_init(c->l, &c->b[1], bh_cb, y);
	loop_bh_post(&c->b[0]);
	loop_bh_post(&c->b[0]);
	loop_bh_post(&c->b[1]);		/* x cancels it in the same turn */
	loop_turn(c->l, 0);
	loop_turn(c->l, 0);
	assert_string_equal(c->trace, "x");
	loop_bh_post(&c->b[1]);
	loop_turn(c->l, 0);
	assert_string_equal(c->trace, "xy");
}

static void *other_thread(void *o)
{
	struct ctx *c = o;

	usleep(20000);
	loop_timer_arm(&c->t[0], loop_now_ns() + 1000000);
	usleep(20000);
	loop_bh_post(&c->b[0]);
	usleep(20000);
	loop_stop(c->l);
	return NULL;
}

static void other_threads_wake_the_loop(void **state)
{
	struct ctx *c = *state;
	char t[] = "0", x[] = "z";
	pthread_t th;

	the_ctx = c;
	loop_timer_init(c->l, &c->t[0], timer_cb, t);
	loop_bh_init(c->l, &c->b[0], bh_cb, x);
	assert_int_equal(pthread_create(&th, NULL, other_thread, c), 0);
	assert_int_equal(loop_run(c->l), 0);	/* would hang if a wake-up were lost */
	pthread_join(th, NULL);
	assert_string_equal(c->trace, "0z");
}

static void lock_cb(void *o)
{
	struct ctx *c = o;

	mark(c, pthread_mutex_trylock(&c->lock) == EBUSY ? 'L' : '-');
}

static void the_lock_is_held_around_callbacks(void **state)
{
	struct ctx *c = *state;

	loop_set_lock(c->l, &c->lock);
	loop_timer_init(c->l, &c->t[0], lock_cb, c);
	loop_bh_init(c->l, &c->b[0], lock_cb, c);
	loop_timer_arm(&c->t[0], 0);
	loop_bh_post(&c->b[0]);
	loop_turn(c->l, 0);
	loop_turn(c->l, 0);
	assert_string_equal(c->trace, "LL");
	assert_int_equal(pthread_mutex_trylock(&c->lock), 0);
}

static void *hammer(void *o)
{
	struct ctx *c = o;

	for (int i = 0; i < 20000; i++) {
		loop_timer_arm(&c->t[i % 3], loop_now_ns() + i % 50000);
		loop_bh_post(&c->b[i % 2]);
		if (i % 7 == 0)
			loop_timer_cancel(&c->t[i % 3]);
	}
	loop_stop(c->l);
	return NULL;
}

static void ignore(void *o)
{
}

static void survives_concurrent_arming(void **state)
{
	struct ctx *c = *state;
	pthread_t th;

	for (int i = 0; i < 3; i++)
		loop_timer_init(c->l, &c->t[i], ignore, c);
	for (int i = 0; i < 2; i++)
		loop_bh_init(c->l, &c->b[i], ignore, c);
	assert_int_equal(pthread_create(&th, NULL, hammer, c), 0);
	assert_int_equal(loop_run(c->l), 0);
	pthread_join(th, NULL);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(removed_fd_is_not_called),
		T(fd_errors_are_told),
		T(timers_run_in_order_and_not_early),
		T(posts_run_once_and_can_be_cancelled),
		T(other_threads_wake_the_loop),
		T(the_lock_is_held_around_callbacks),
		T(survives_concurrent_arming),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
