/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HPET counts at 100 MHz and its timers match when and where they should. */
#include "chip.h"

#include "chipset/hpet.h"

#define BASE 0xfed00000ull
#define T0 (BASE + 0x100)
#define T1 (BASE + 0x120)
#define T2 (BASE + 0x140)

static struct machine *m;
static struct hpet *hpet;
static struct probe p[28];		/* 0..23 pins, 24 irq0, 25 irq8, 26 and 27 mute */
static struct msi last;
static unsigned msis;

static int take_msi(void *opaque, const struct msi *msg)
{
	last = *msg;
	msis++;
	return 0;
}

static int setup(void **state)
{
	struct hpet_config cfg = { .base = BASE, .route_cap = 0xff0000 };

	memset(p, 0, sizeof(p));
	for (int i = 0; i < 24; i++)
		cfg.pin[i] = probe_irq(p, i);
	cfg.irq0 = probe_irq(p, 24);
	cfg.irq8 = probe_irq(p, 25);
	cfg.mute[0] = probe_irq(p, 26);
	cfg.mute[1] = probe_irq(p, 27);
	m = machine_make();
	m->msi = take_msi;
	msis = 0;
	assert_int_equal(hpet_new(m, &cfg, &hpet), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void test_capabilities(void **state)
{
	uint64_t cap = readq_(m, BASE);

	assert_int_equal(cap >> 32, 10000000);
	assert_int_equal(cap >> 16 & 0xffff, 0x8086);
	assert_int_equal(cap & 0xffff, 0xa201);
	assert_int_equal(readl_(m, BASE + 4), 10000000);
	assert_int_equal(readq_(m, T0) & 0xffffffff, 0x8030);
	assert_int_equal(readl_(m, T0 + 4), 0xff0000);
	assert_int_equal(readq_(m, BASE + 0x3f8), 0);
}

static void test_counter(void **state)
{
	step(m, SEC);
	assert_int_equal(readq_(m, BASE + 0xf0), 0);	/* halted */
	writel_(m, BASE + 0x10, 1);
	step(m, SEC);
	assert_int_equal(readq_(m, BASE + 0xf0), 100000000);
	writel_(m, BASE + 0x10, 0);
	step(m, SEC);
	assert_int_equal(readl_(m, BASE + 0xf0), 100000000);
	writel_(m, BASE + 0xf4, 7);
	writel_(m, BASE + 0xf0, 0xfffffff0);
	writel_(m, BASE + 0x10, 1);
	step(m, 1000);
	assert_int_equal(readq_(m, BASE + 0xf0), 0x7fffffff0ull + 100);
}

static void test_oneshot_edge(void **state)
{
	writel_(m, BASE + 0x10, 1);
	writel_(m, T2, 20 << 9 | 0x104);	/* 32 bits, pin 20 */
	writel_(m, T2 + 8, 1000);
	step(m, 9999);
	assert_int_equal(p[20].rises, 0);
	step(m, 1);
	assert_int_equal(p[20].rises, 1);
	assert_false(p[20].level);
	assert_int_equal(readl_(m, BASE + 0x20), 0);	/* edge: no status */
	step(m, SEC);
	assert_int_equal(p[20].rises, 1);
	writel_(m, T2 + 8, 5);			/* behind: after the wrap of 32 bits */
	step(m, 41 * SEC);
	assert_int_equal(p[20].rises, 1);
	step(m, SEC);
	assert_int_equal(p[20].rises, 2);
	writel_(m, T2, 3 << 9 | 0x104);		/* a pin it may not use */
	writel_(m, T2 + 8, readl_(m, BASE + 0xf0) + 100);
	step(m, SEC);
	assert_int_equal(p[3].rises, 0);
}

static void test_level(void **state)
{
	writel_(m, BASE + 0x10, 1);
	writel_(m, T1, 17 << 9 | 0x106);
	writel_(m, T1 + 8, 1000);
	step(m, 10000);
	assert_true(p[17].level);
	assert_int_equal(readl_(m, BASE + 0x20), 2);
	writel_(m, BASE + 0x20, 1);
	assert_true(p[17].level);
	writel_(m, BASE + 0x20, 2);
	assert_false(p[17].level);
	writel_(m, T1 + 8, readl_(m, BASE + 0xf0) + 100);
	step(m, 1000);
	assert_true(p[17].level);
	writel_(m, T1, 17 << 9 | 0x102);	/* disabling lets go of the wire */
	assert_false(p[17].level);
}

/* What Linux does to make a tick. */
static void test_periodic_legacy(void **state)
{
	writel_(m, BASE + 0x10, 3);
	assert_true(p[26].level);
	assert_true(p[27].level);
	writel_(m, T0, 0x14c);			/* periodic, VAL_SET, enable, 32 bits */
	writel_(m, T0 + 8, readl_(m, BASE + 0xf0) + 100000);
	writel_(m, T0 + 8, 100000);		/* 1 ms */
	step(m, SEC + US);
	assert_int_equal(p[24].rises, 1000);
	writel_(m, T1, 0x104);
	writel_(m, T1 + 8, readl_(m, BASE + 0xf0) + 100);
	step(m, 1000);
	assert_int_equal(p[25].rises, 1);
	writel_(m, BASE + 0x10, 0);
	assert_false(p[26].level);
	p[24].rises = 0;
	step(m, SEC);
	assert_int_equal(p[24].rises, 0);
}

static void test_periodic_64bit(void **state)
{
	writel_(m, T0, 16 << 9 | 0x4c);
	writeq_(m, T0 + 8, 5000);
	writeq_(m, T0 + 8, 10000);
	writel_(m, BASE + 0x10, 1);
	step(m, 50 * US);
	assert_int_equal(p[16].rises, 1);
	step(m, 10 * MS);
	assert_int_equal(p[16].rises, 101);
	assert_int_equal(readq_(m, T0 + 8), 5000 + 101 * 10000);
}

/* Linux leaves its tick so when it takes the local APIC's: nothing wakes for it, and the comparator is what it would be all the same. */
static void test_quiet(void **state)
{
	for (int saved = 0; saved < 2; saved++) {
		writel_(m, BASE + 0x10, 0);
		writel_(m, BASE + 0xf0, 0);
		writel_(m, T0, 16 << 9 | 0x14c);
		writel_(m, T0 + 8, 100000);
		writel_(m, T0 + 8, 100000);		/* 1 ms */
		writel_(m, BASE + 0x10, 1);
		p[16].rises = 0;
		step(m, 3 * MS + US);
		assert_int_equal(p[16].rises, 3);
		writel_(m, T0, 16 << 9 | 0x108);
		assert_true(clock_next_deadline(m->clock) == INT64_MAX);
		step(m, 5 * MS);
		assert_int_equal(readl_(m, T0 + 8), 900000);
		step(m, 10 * MS);
		if (saved)
			round_trip(m);
		assert_true(clock_next_deadline(m->clock) == INT64_MAX);
		step(m, MS);
		/* Switched on again it goes on in its old rhythm. */
		writel_(m, T0, 16 << 9 | 0x10c);
		assert_int_equal(p[16].rises, 3);
		step(m, MS - 2 * US);
		assert_int_equal(p[16].rises, 3);
		step(m, 2 * US);
		assert_int_equal(p[16].rises, 4);
		/* What stands still does not move on. */
		writel_(m, T0, 16 << 9 | 0x108);
		step(m, 2 * MS);
		writel_(m, BASE + 0x10, 0);
		step(m, 2 * MS);
		assert_int_equal(readl_(m, T0 + 8), 2300000);
	}
}

/* A level timer shows its matches in the status register without an interrupt, too. */
static void test_quiet_level(void **state)
{
	writel_(m, T0, 16 << 9 | 0x14a);
	writel_(m, T0 + 8, 100000);
	writel_(m, T0 + 8, 100000);
	writel_(m, BASE + 0x10, 1);
	step(m, MS + US);
	assert_int_equal(readl_(m, BASE + 0x20), 1);
	assert_false(p[16].level);
}

static void test_fsb(void **state)
{
	writel_(m, T0 + 0x14, 0xfee01000);
	writel_(m, T0 + 0x10, 0x4055);
	writel_(m, T0, 0x4104);
	writel_(m, T0 + 8, 100);
	writel_(m, BASE + 0x10, 1);
	step(m, 1000);
	assert_int_equal(msis, 1);
	assert_int_equal(last.addr, 0xfee01000);
	assert_int_equal(last.data, 0x4055);
}

static void test_period_floor(void **state)
{
	writel_(m, T0, 16 << 9 | 0x14c);
	writel_(m, T0 + 8, 1);
	writel_(m, T0 + 8, 1);
	writel_(m, BASE + 0x10, 1);
	step(m, 10 * MS);
	assert_in_range(p[16].rises, 1, 501);
}

static void test_save_midway(void **state)
{
	writel_(m, BASE + 0x10, 3);
	writel_(m, T0, 0x14c);
	writel_(m, T0 + 8, 100000);
	writel_(m, T0 + 8, 100000);
	writel_(m, T1, 0x106);
	writel_(m, T1 + 8, 1000);
	step(m, 1500 * US);
	assert_true(p[25].level);
	round_trip(m);
	assert_int_equal(readl_(m, BASE + 0xf0), 150000);
	assert_true(p[26].level);
	assert_int_equal(readl_(m, BASE + 0x20), 2);
	writel_(m, BASE + 0x20, 2);
	assert_false(p[25].level);
	p[24].rises = 0;
	step(m, 500 * US);
	assert_int_equal(p[24].rises, 1);
	step(m, MS);
	assert_int_equal(p[24].rises, 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_capabilities), T(test_counter), T(test_oneshot_edge), T(test_level),
		T(test_periodic_legacy), T(test_periodic_64bit), T(test_fsb), T(test_period_floor), T(test_quiet), T(test_quiet_level),
		T(test_save_midway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
