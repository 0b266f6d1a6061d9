/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises under concurrency (worth most under ThreadSanitizer): vCPU threads
 * access buses, memory and timers while the map of each changes and the loop
 * runs; nothing is lost, nothing is called after it is gone.
 */
#include "../unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "machine/machine.h"

#define ROUNDS 2000
#define THREADS 3

struct ctx {
	struct machine *m;
	struct bus_region moving, fixed, open;
	struct bus_doorbell bell;
	_Atomic uint64_t hits, open_hits, bells, code, fired;
	_Atomic bool done;
	uint64_t under_lock;		/* only the machine lock protects it */
	struct vtimer t[THREADS];
	_Atomic unsigned turn;
};

static uint64_t rd(void *o, uint64_t off, unsigned len)
{
	((struct ctx *)o)->under_lock++;
	return 0x5a;
}
static void wr(void *o, uint64_t off, unsigned len, uint64_t v)
{
	((struct ctx *)o)->under_lock++;
	atomic_fetch_add(&((struct ctx *)o)->hits, 1);
}
static uint64_t open_rd(void *o, uint64_t off, unsigned len)
{
	atomic_fetch_add(&((struct ctx *)o)->open_hits, 1);
	return 0x77;
}
static const struct bus_ops ops = { .read = rd, .write = wr };
static const struct bus_ops open_ops = { .read = open_rd, .unlocked = true };

static void on_code(void *o, uint64_t gpa, uint64_t len)
{
	atomic_fetch_add(&((struct ctx *)o)->code, 1);
}

static void fire(void *o)
{
	struct ctx *c = o;

	c->under_lock++;
	atomic_fetch_add(&c->fired, 1);
}

static void *vcpu(void *o)
{
	struct ctx *c = o;
	unsigned id = atomic_fetch_add(&c->turn, 1) % THREADS;

	for (int i = 0; i < ROUNDS; i++) {
		uint64_t v = 1;

		bus_access(c->m->mmio, 0x1000, &v, 4, true);
		bus_access(c->m->mmio, 0x2000 + 0x1000 * (i & 1), &v, 4, true);
		bus_access(c->m->mmio, 0x8000, &v, 4, false);
		if (v != 0x77)
			abort();
		bus_access(c->m->mmio, 0x9000, &v, 4, true);
		/* One word per thread: what is written is read again. */
		v = (uint64_t)i;
		if (mem_write(c->m->mem, 4096 + 8 * id, &v, 8) ||
		    mem_read(c->m->mem, 4096 + 8 * id, &v, 8) || v != (uint64_t)i)
			abort();
		mem_read(c->m->mem, 0x100000, &v, 8);	/* the ROM that comes and goes */
		vtimer_arm(&c->t[id], clock_now(c->m->clock) + i % 3 * 1000);
		if (i % 5 == 0)
			vtimer_cancel(&c->t[id]);
	}
	return NULL;
}

static void *runner(void *o)
{
	struct ctx *c = o;

	loop_run(c->m->loop);
	return NULL;
}

static void drain(void *o, uint32_t ev)
{
	struct ctx *c = o;
	uint64_t n;

	if (read(c->bell.fd, &n, sizeof(n)) == sizeof(n))
		atomic_fetch_add(&c->bells, n);
}

/* What a guest does to its cards' addresses, and a host to ROMs. */
static void churn(struct ctx *c)
{
	struct err e;

	for (int i = 0; i < ROUNDS / 4; i++) {
		machine_lock(c->m);
		bus_del(&c->moving);
		c->moving.base = i & 1 ? 0x2000 : 0x3000;
		assert_int_equal(bus_add(c->m->mmio, &c->moving), 0);
		if (i % 8 == 0)
			assert_int_equal(mem_add_rom(c->m->mem, "rom", 0x100000, 4096, "x", 1, &e), 0);
		if (i % 8 == 4)
			assert_int_equal(mem_del(c->m->mem, 0x100000), 0);
		machine_unlock(c->m);
	}
}

static void everything_at_once(void **state)
{
	static struct ctx c;
	struct mem_listener l = { .code_written = on_code, .opaque = &c };
	struct loop_fd f = { .events = 1, .cb = drain, .opaque = &c };
	pthread_t th[THREADS], loop;
	struct mem_range r;
	struct err e;

	assert_int_equal(machine_new(&c.m, false), 0);
	assert_int_equal(mem_create_ram(c.m->mem, 65536, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(c.m->mem, "ram", 0, 0, 65536, &e), 0);
	mem_listen(c.m->mem, &l);
	assert_true(mem_find(c.m->mem, 4096, &r));
	atomic_fetch_or(&r.flags[1], MEM_PG_CODE);
	c.fixed = (struct bus_region){ .name = "f", .ops = &ops, .opaque = &c, .base = 0x1000, .size = 16 };
	c.moving = (struct bus_region){ .name = "m", .ops = &ops, .opaque = &c, .base = 0x2000, .size = 16 };
	c.open = (struct bus_region){ .name = "o", .ops = &open_ops, .opaque = &c, .base = 0x8000, .size = 16 };
	c.bell = (struct bus_doorbell){ .addr = 0x9000, .fd = eventfd(0, EFD_NONBLOCK) };
	assert_int_equal(bus_add(c.m->mmio, &c.fixed), 0);
	assert_int_equal(bus_add(c.m->mmio, &c.moving), 0);
	assert_int_equal(bus_add(c.m->mmio, &c.open), 0);
	assert_int_equal(bus_doorbell_add(c.m->mmio, &c.bell), 0);
	f.fd = c.bell.fd;
	assert_int_equal(loop_fd_add(c.m->loop, &f), 0);
	for (int i = 0; i < THREADS; i++)
		vtimer_init(c.m->clock, &c.t[i], fire, &c);

	pthread_create(&loop, NULL, runner, &c);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&th[i], NULL, vcpu, &c);
	churn(&c);
	for (int i = 0; i < THREADS; i++)
		pthread_join(th[i], NULL);
	loop_stop(c.m->loop);
	pthread_join(loop, NULL);
	drain(&c, 0);

	assert_true(c.hits >= THREADS * ROUNDS);	/* the fixed one missed nothing */
	assert_int_equal(c.open_hits, THREADS * ROUNDS);
	assert_int_equal(c.bells, THREADS * ROUNDS);
	assert_int_equal(c.code, THREADS * ROUNDS);
	assert_int_equal(r.version[1], THREADS * ROUNDS);
	loop_fd_del(&f);
	close(c.bell.fd);
	bus_del(&c.fixed);
	bus_del(&c.moving);
	bus_del(&c.open);
	machine_free(c.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(everything_at_once) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
