/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the virtual clock: it stands still while paused, timers fire in
 * order and not early, manual time moves only by steps, and a timer that re-arms
 * itself into the past cannot hang the machine.
 */
#include "../unit.h"

#include <unistd.h>

#include "machine/clock.h"
#include "machine/machine.h"

#define MS 1000000ll

struct ctx {
	struct machine *m;
	struct vtimer t[3];
	char log[64];
	int64_t at;
	unsigned count;
};

static void fire(void *o)
{
	struct ctx *c = o;

	c->at = clock_now(c->m->clock);
	c->count++;
}
static void fire_a(void *o)
{
	strcat(((struct ctx *)o)->log, "a");
	fire(o);
}
static void fire_b(void *o)
{
	strcat(((struct ctx *)o)->log, "b");
	fire(o);
}
static void fire_again(void *o)
{
	struct ctx *c = o;

	fire(o);
	vtimer_arm(&c->t[0], 0);
}

static void manual_time_moves_by_steps(void **state)
{
	struct ctx c = { 0 };

	assert_int_equal(machine_new(&c.m, true), 0);
	vtimer_init(c.m->clock, &c.t[0], fire_a, &c);
	vtimer_init(c.m->clock, &c.t[1], fire_b, &c);
	assert_int_equal(clock_now(c.m->clock), 0);
	assert_true(clock_wall_ns(c.m->clock) == 1704067200ll * 1000 * MS);
	assert_true(clock_next_deadline(c.m->clock) == INT64_MAX);
	vtimer_arm(&c.t[0], 20 * MS);
	vtimer_arm(&c.t[1], 10 * MS);
	assert_true(vtimer_armed(&c.t[1]));
	assert_int_equal(clock_next_deadline(c.m->clock), 10 * MS);
	clock_step(c.m->clock, 10 * MS - 1);
	assert_string_equal(c.log, "");
	clock_step(c.m->clock, 1);
	assert_string_equal(c.log, "b");
	assert_int_equal(c.at, 10 * MS);
	clock_step(c.m->clock, 1000 * MS);
	assert_string_equal(c.log, "ba");
	assert_int_equal(c.at, 20 * MS);		/* it saw its own deadline */
	assert_int_equal(clock_now(c.m->clock), 1010 * MS);
	clock_step(c.m->clock, -5);
	assert_int_equal(clock_now(c.m->clock), 1010 * MS);
	clock_step(c.m->clock, INT64_MAX);
	assert_true(clock_now(c.m->clock) == INT64_MAX);
	machine_free(c.m);
}

static void past_rearming_cannot_hang(void **state)
{
	struct ctx c = { 0 };

	assert_int_equal(machine_new(&c.m, true), 0);
	vtimer_init(c.m->clock, &c.t[0], fire_again, &c);
	vtimer_arm(&c.t[0], 0);
	clock_step(c.m->clock, MS);
	assert_int_equal(clock_now(c.m->clock), MS);
	vtimer_cancel(&c.t[0]);
	machine_free(c.m);

	memset(&c, 0, sizeof(c));
	assert_int_equal(machine_new(&c.m, false), 0);
	vtimer_init(c.m->clock, &c.t[0], fire_again, &c);
	vtimer_arm(&c.t[0], 0);
	assert_int_equal(loop_turn(c.m->loop, 100), 0);
	assert_true(c.count >= 1);
	machine_free(c.m);
}

static void paused_time_stands_still(void **state)
{
	struct ctx c = { 0 };
	int64_t t;

	assert_int_equal(machine_new(&c.m, false), 0);
	assert_true(clock_running(c.m->clock));
	vtimer_init(c.m->clock, &c.t[0], fire_a, &c);
	clock_pause(c.m->clock);
	t = clock_now(c.m->clock);
	vtimer_arm(&c.t[0], t + 5 * MS);
	usleep(10000);
	loop_turn(c.m->loop, 0);
	assert_int_equal(clock_now(c.m->clock), t);
	assert_string_equal(c.log, "");
	clock_set(c.m->clock, t + MS);
	clock_resume(c.m->clock);
	assert_true(clock_now(c.m->clock) >= t + MS);
	assert_string_equal(c.log, "");
	while (!c.log[0])
		assert_int_equal(loop_turn(c.m->loop, 1000), 0);
	assert_true(c.at >= t + 5 * MS);
	assert_false(vtimer_armed(&c.t[0]));
	machine_free(c.m);
}

static void real_timers_follow_virtual_time(void **state)
{
	struct ctx c = { 0 };
	int64_t t;

	assert_int_equal(machine_new(&c.m, false), 0);
	vtimer_init(c.m->clock, &c.t[0], fire_a, &c);
	vtimer_init(c.m->clock, &c.t[1], fire_b, &c);
	t = clock_now(c.m->clock);
	vtimer_arm(&c.t[0], t + 500 * MS);
	vtimer_arm(&c.t[1], INT64_MAX);
	vtimer_arm(&c.t[0], t + 2 * MS);		/* re-armed earlier */
	while (!c.log[0])
		assert_int_equal(loop_turn(c.m->loop, 1000), 0);
	assert_string_equal(c.log, "a");
	assert_true(c.at >= t + 2 * MS);
	vtimer_cancel(&c.t[1]);
	vtimer_cancel(&c.t[1]);
	machine_free(c.m);
}

static void devices_live_in_order(void **state);

struct toy {
	struct dev d;
	char *log, name;
};

static void toy_reset(struct dev *d)
{
	struct toy *t = (struct toy *)d;

	strncat(t->log, &t->name, 1);
}
static void toy_free(struct dev *d)
{
	struct toy *t = (struct toy *)d;

	strncat(t->log, &t->name, 1);
	dev_del(d);
}
static const struct dev_ops toy_ops = { .name = "toy", .reset = toy_reset, .free = toy_free };

static void devices_live_in_order(void **state)
{
	struct machine *m;
	char log[16] = "";
	struct toy a = { .log = log, .name = 'a' }, b = { .log = log, .name = 'b' };

	assert_int_equal(machine_new(&m, true), 0);
	dev_add(m, &a.d, &toy_ops, "toy.a");
	dev_add(m, &b.d, &toy_ops, "toy.b");
	machine_lock(m);
	machine_reset_devs(m);
	machine_pause_devs(m);
	machine_resume_devs(m);
	machine_unlock(m);
	machine_free(m);
	assert_string_equal(log, "abba");		/* freed in reverse */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(manual_time_moves_by_steps),
		cmocka_unit_test(past_rearming_cannot_hang),
		cmocka_unit_test(paused_time_stands_still),
		cmocka_unit_test(real_timers_follow_virtual_time),
		cmocka_unit_test(devices_live_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
