/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clock tells, takes and keeps the time in every format, and alarms. */
#include "chip.h"

#include "chipset/mc146818.h"

static struct machine *m;
static struct mc146818 *rtc;
static struct probe irq[3];

static int setup(void **state)
{
	const struct mc146818_config cfg = { .base = 0x70, .irq = probe_irq(irq, 0), .nmi_mask = probe_irq(irq, 1) };

	m = machine_make();
	memset(irq, 0, sizeof(irq));
	assert_int_equal(mc146818_new(m, &cfg, &rtc), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static uint8_t get(uint8_t r)
{
	outb_(m, 0x70, r);
	return inb_(m, 0x71);
}

static void put(uint8_t r, uint8_t v)
{
	outb_(m, 0x70, r);
	outb_(m, 0x71, v);
}

static void expect(uint8_t cent, uint8_t y, uint8_t mo, uint8_t d, uint8_t h, uint8_t mi, uint8_t s)
{
	assert_int_equal(get(0x32), cent);
	assert_int_equal(get(9), y);
	assert_int_equal(get(8), mo);
	assert_int_equal(get(7), d);
	assert_int_equal(get(4), h);
	assert_int_equal(get(2), mi);
	assert_int_equal(get(0), s);
}

static void test_tells_time(void **state)
{
	expect(0x20, 0x24, 0x01, 0x01, 0, 0, 0);
	assert_int_equal(get(6), 2);		/* a Monday */
	assert_int_equal(get(0x0d), 0x80);
	step(m, (31 + 28) * 86400 * SEC + 13 * 3600 * SEC + 59 * SEC);
	expect(0x20, 0x24, 0x02, 0x29, 0x13, 0, 0x59);	/* leap year */
	put(0x0b, 0x06);			/* binary */
	expect(20, 24, 2, 29, 13, 0, 59);
	put(0x0b, 0x00);			/* BCD, 12 hours */
	assert_int_equal(get(4), 0x81);
}

static void test_set_held(void **state)
{
	put(0x0b, 0x82);
	put(0, 0x58);
	put(2, 0x59);
	put(4, 0x23);
	put(7, 0x31);
	put(8, 0x12);
	put(9, 0x99);
	put(0x32, 0x19);
	step(m, 10 * SEC);
	expect(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58);	/* stands */
	put(0x0b, 0x02);
	expect(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x58);
	step(m, 2 * SEC);
	expect(0x20, 0x00, 0x01, 0x01, 0, 0, 0);
	assert_int_equal(get(6), 7);		/* a Saturday */
}

static void test_set_running(void **state)
{
	step(m, 300 * MS);
	put(4, 0x17);
	assert_int_equal(get(4), 0x17);
	step(m, 700 * MS);
	assert_int_equal(get(0), 1);		/* the second's phase is kept */
}

static void test_divider_reset(void **state)
{
	put(0x0a, 0x76);
	step(m, 10 * SEC);
	assert_int_equal(get(0), 0);
	put(0x0a, 0x26);			/* first update half a second later */
	step(m, 499 * MS);
	assert_int_equal(get(0), 0);
	step(m, 2 * MS);
	assert_int_equal(get(0), 1);
}

static void test_uip(void **state)
{
	assert_int_equal(get(0x0a), 0x26);
	step(m, 999 * MS + 700 * US);
	assert_int_equal(get(0x0a), 0x26);
	step(m, 100 * US);
	assert_int_equal(get(0x0a), 0xa6);
	step(m, 200 * US);
	assert_int_equal(get(0x0a), 0x26);
	assert_int_equal(get(0), 1);
}

static void test_update_interrupt(void **state)
{
	step(m, 100 * MS);
	put(0x0b, 0x12);
	step(m, 899 * MS);
	assert_false(irq[0].level);
	step(m, 1 * MS);
	assert_true(irq[0].level);
	step(m, 5 * SEC);
	assert_int_equal(irq[0].rises, 1);	/* until C is read */
	assert_int_equal(get(0x0c) & 0xb0, 0x90);	/* PF runs by itself */
	assert_false(irq[0].level);
	assert_int_equal(get(0x0c), 0);
	step(m, SEC);
	assert_int_equal(irq[0].rises, 2);
	put(0x0b, 0x02);			/* flags go on without interrupt */
	get(0x0c);
	step(m, 2 * SEC);
	assert_int_equal(get(0x0c) & 0xb0, 0x10);
}

static void test_alarm(void **state)
{
	put(1, 0x30);
	put(3, 0x01);
	put(5, 0x00);
	put(0x0b, 0x22);
	step(m, 89 * SEC);
	assert_false(irq[0].level);
	step(m, SEC);
	assert_true(irq[0].level);
	assert_int_equal(get(0x0c) & 0xa0, 0xa0);
	step(m, 86399 * SEC);
	assert_false(irq[0].level);
	step(m, SEC);
	assert_true(irq[0].level);
	get(0x0c);
	put(5, 0xff);				/* every minute and hour, second 30 */
	put(3, 0xc0);
	step(m, 60 * SEC);
	assert_true(irq[0].level);
	get(0x0c);
	put(1, 0x77);				/* never */
	step(m, 2 * 86400 * SEC);
	assert_false(irq[0].level);
}

/* Taken off its wire the alarm has the other output still, whose edges a chipset sees; the other interrupts have not. */
static void test_alarm_off_the_wire(void **state)
{
	struct irq mute = mc146818_mute(rtc), alarm = probe_irq(irq, 2);

	wire(&mute, m, true);
	mc146818_on_alarm(rtc, &alarm);
	put(1, 0x05);
	put(3, 0xc0);
	put(5, 0xff);
	put(0x0b, 0x32);
	step(m, 4 * SEC);
	assert_false(irq[2].level);
	step(m, SEC);
	assert_true(irq[2].level);
	assert_int_equal(irq[0].rises, 0);
	get(0x0c);
	assert_false(irq[2].level);
	step(m, 60 * SEC);
	assert_int_equal(irq[2].rises, 2);
}

static void test_periodic(void **state)
{
	unsigned n = 0;

	put(0x0a, 0x26);			/* 1024 Hz */
	put(0x0b, 0x42);
	for (int i = 0; i < 10000; i++) {
		step(m, 100 * US);
		if (irq[0].level) {
			assert_int_equal(get(0x0c) & 0xc0, 0xc0);
			n++;
		}
	}
	assert_in_range(n, 1022, 1025);
	put(0x0a, 0x20);			/* rate 0: off */
	get(0x0c);
	step(m, SEC);
	assert_false(irq[0].level);
	put(0x0a, 0x2f);			/* 2 Hz */
	irq[0].rises = 0;
	for (int i = 0; i < 10; i++) {
		step(m, 500 * MS);
		get(0x0c);
	}
	assert_in_range(irq[0].rises, 9, 10);
}

static void test_mute_and_nmi(void **state)
{
	struct irq mute = mc146818_mute(rtc);

	wire(&mute, m, true);
	put(0x0b, 0x12);
	step(m, 2 * SEC);
	assert_false(irq[0].level);
	wire(&mute, m, false);
	assert_true(irq[0].level);
	outb_(m, 0x70, 0x80);
	assert_true(irq[1].level);
	outb_(m, 0x70, 0x00);
	assert_false(irq[1].level);
}

static void test_cmos(void **state)
{
	mc146818_set_memory(rtc, 3ull << 30, 5ull << 30);
	assert_int_equal(get(0x15) | get(0x16) << 8, 640);
	assert_int_equal(get(0x17) | get(0x18) << 8, 65535);
	assert_int_equal(get(0x34) | get(0x35) << 8, ((3u << 30) - (16u << 20)) >> 16);
	assert_int_equal(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, (5ull << 30) >> 16);
	put(0x0f, 0x0a);
	outb_(m, 0x72, 0x05);
	outb_(m, 0x73, 0x77);
	put(0x0b, 0x72);
	machine_lock(m);
	machine_reset_devs(m);
	machine_unlock(m);
	assert_int_equal(get(0x0f), 0x0a);	/* the battery keeps it */
	assert_int_equal(mc146818_get(rtc, 0x85), 0x77);
	assert_int_equal(get(0x0b), 0x02);	/* reset takes interrupts away */
	mc146818_set(rtc, 0, 0x55);		/* the clock's own */
	assert_int_equal(get(0), 0);
}

/* Any date can be written; nothing overflows and the clock still runs. */
static void test_hostile_dates(void **state)
{
	unsigned seed = 1;

	put(0x0b, 0x06);
	for (int i = 0; i < 20000; i++) {
		static const uint8_t regs[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0x0a, 0x0b, 0x32 };

		seed = seed * 1103515245 + 12345;
		put(regs[(seed >> 16) % sizeof(regs)], (uint8_t)(seed >> 8));
		if (i % 16 == 0)
			step(m, 300 * MS);
		get(0x0c);
	}
}

static void test_save_midway(void **state)
{
	put(0x0b, 0x82);
	put(9, 0x30);
	put(0x0b, 0x12);
	step(m, 1500 * MS);
	assert_true(irq[0].level);
	outb_(m, 0x70, 0x09);
	round_trip(m);
	assert_int_equal(inb_(m, 0x71), 0x30);
	assert_true(irq[0].level);
	assert_int_equal(get(0x0c) & 0xb0, 0x90);	/* PF runs by itself */
	step(m, 499 * MS);
	assert_false(irq[0].level);
	step(m, MS);
	assert_true(irq[0].level);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tells_time), T(test_set_held), T(test_set_running), T(test_divider_reset), T(test_uip),
		T(test_update_interrupt), T(test_alarm), T(test_alarm_off_the_wire), T(test_periodic), T(test_mute_and_nmi), T(test_cmos),
		T(test_hostile_dates), T(test_save_midway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
