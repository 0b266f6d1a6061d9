/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 8254 counts, reads back and interrupts as its data sheet says. */
#include "chip.h"

#include "chipset/i8254.h"

static struct machine *m;
static struct i8254 *pit;
static struct probe irq;

/* Nanoseconds in which n ticks of 1193182 Hz have surely begun. */
static int64_t ticks(uint64_t n)
{
	return (int64_t)((n * 1000000000 + 1193181) / 1193182);
}

static int setup(void **state)
{
	const struct i8254_config cfg = { .base = 0x40, .port61 = 0x61, .irq = probe_irq(&irq, 0) };

	m = machine_make();
	irq = (struct probe){ 0 };
	assert_int_equal(i8254_new(m, &cfg, &pit), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void program(int c, int mode, uint16_t n)
{
	outb_(m, 0x43, (uint8_t)(c << 6 | 0x30 | mode << 1));
	outb_(m, (uint16_t)(0x40 + c), (uint8_t)n);
	outb_(m, (uint16_t)(0x40 + c), (uint8_t)(n >> 8));
}

static unsigned latch(int c)
{
	unsigned v;

	outb_(m, 0x43, (uint8_t)(c << 6));
	v = inb_(m, (uint16_t)(0x40 + c));
	return v | (unsigned)inb_(m, (uint16_t)(0x40 + c)) << 8;
}

static uint8_t status(int c)
{
	outb_(m, 0x43, (uint8_t)(0xe0 | 2 << c));
	return inb_(m, (uint16_t)(0x40 + c));
}

static void test_rate_generator(void **state)
{
	program(0, 2, 11932);		/* 100 Hz */
	assert_true(irq.level);		/* the mode word sets OUT high */
	irq.rises = 0;
	step(m, SEC);
	assert_in_range(irq.rises, 99, 100);
	step(m, 9 * SEC);
	assert_in_range(irq.rises, 999, 1000);
}

static void test_square_wave(void **state)
{
	program(0, 3, 0);		/* 65536: 18.2 Hz */
	irq.rises = 0;
	step(m, 10 * SEC);
	assert_int_equal(irq.rises, 182);
}

static void test_one_shot_mode0(void **state)
{
	program(0, 0, 1000);
	assert_false(irq.level);
	irq.rises = 0;
	step(m, ticks(999));
	assert_false(irq.level);
	assert_int_equal(status(0) & 0x80, 0);
	step(m, 2 * US);
	assert_true(irq.level);
	assert_int_equal(status(0) & 0x80, 0x80);
	step(m, SEC);
	assert_int_equal(irq.rises, 1);	/* once */
	program(0, 0, 10);		/* writing again arms again */
	assert_false(irq.level);
	step(m, 20 * US);
	assert_int_equal(irq.rises, 2);
}

static void test_strobe_mode4(void **state)
{
	program(0, 4, 100);
	irq.rises = 0;
	step(m, ticks(100) - US);
	assert_int_equal(irq.rises, 0);
	step(m, 5 * US);
	assert_int_equal(irq.rises, 1);
	step(m, SEC);
	assert_int_equal(irq.rises, 1);
}

static void test_latch(void **state)
{
	unsigned v;

	program(0, 2, 50000);
	step(m, ticks(1000));
	outb_(m, 0x43, 0x00);
	step(m, ticks(1000));		/* the latch stands */
	v = inb_(m, 0x40);
	v |= (unsigned)inb_(m, 0x40) << 8;
	assert_in_range(v, 48999, 49001);
	assert_in_range(latch(0), 47998, 48002);
	/* without latch, low then high byte */
	v = inb_(m, 0x40);
	v |= (unsigned)inb_(m, 0x40) << 8;
	assert_in_range(v, 47990, 48002);
}

static void test_read_back(void **state)
{
	program(0, 2, 1234);
	outb_(m, 0x43, 0x70);		/* counter 1, LSB+MSB, mode 0, nothing loaded */
	assert_int_equal(status(1), 0x40 | 0x30);
	outb_(m, 0x41, 5);
	outb_(m, 0x41, 0);
	assert_int_equal(status(1) & 0x40, 0);
	/* both, of counters 0 and 1, status first */
	outb_(m, 0x43, 0xc6);
	assert_int_equal(inb_(m, 0x40), 0x80 | 0x34);
	assert_int_equal(inb_(m, 0x40), 1234 & 0xff);
	assert_int_equal(inb_(m, 0x40), 1234 >> 8);
	assert_int_equal(inb_(m, 0x41) & 0x3f, 0x30);
}

static void test_single_byte_access(void **state)
{
	outb_(m, 0x43, 0x14);		/* counter 0, LSB, mode 2 */
	outb_(m, 0x40, 200);
	irq.rises = 0;
	step(m, ticks(2000));
	assert_in_range(irq.rises, 9, 10);
	outb_(m, 0x43, 0x24);		/* MSB */
	outb_(m, 0x40, 1);
	irq.rises = 0;
	step(m, ticks(2560));
	assert_in_range(irq.rises, 9, 10);
}

static void test_bcd(void **state)
{
	outb_(m, 0x43, 0x35);		/* mode 2 BCD */
	outb_(m, 0x40, 0x00);
	outb_(m, 0x40, 0x10);		/* 1000 */
	step(m, ticks(1) );
	assert_int_equal(latch(0), 0x999);
	irq.rises = 0;
	step(m, ticks(1000));
	assert_int_equal(irq.rises, 1);
}

static void test_new_count_waits_for_period(void **state)
{
	program(0, 2, 10000);
	step(m, ticks(5000));
	outb_(m, 0x40, 0xd0);		/* 2000 */
	outb_(m, 0x40, 0x07);
	assert_int_equal(status(0) & 0x40, 0x40);	/* null count */
	irq.rises = 0;
	step(m, ticks(4990));
	assert_int_equal(irq.rises, 0);
	step(m, ticks(20));
	assert_int_equal(irq.rises, 1);
	assert_int_equal(status(0) & 0x40, 0);
	step(m, ticks(2000));
	assert_int_equal(irq.rises, 2);
}

/* Firmware and kernels calibrate the TSC with counter 2 and port 0x61. */
static void test_speaker_gate(void **state)
{
	outb_(m, 0x61, 0);
	program(2, 0, 11932);
	step(m, SEC);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);	/* gate low: does not count */
	outb_(m, 0x61, 1);
	step(m, 5 * MS);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);
	outb_(m, 0x61, 0);		/* holds */
	step(m, SEC);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);
	outb_(m, 0x61, 1);
	step(m, 4 * MS + 900 * US);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);
	step(m, 200 * US);
	assert_int_equal(inb_(m, 0x61) & 0x21, 0x21);
	/* mode 1: the gate's edge triggers, again and again */
	outb_(m, 0x61, 0);
	program(2, 1, 1193);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0x20);
	outb_(m, 0x61, 1);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);
	step(m, 500 * US);
	outb_(m, 0x61, 0);
	outb_(m, 0x61, 1);
	step(m, 900 * US);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);
	step(m, 200 * US);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0x20);
}

/* Who polls port 0x61 may know when counter 2 will be through: then, and not before. */
static void test_quiet_until(void **state)
{
	int64_t until;

	assert_int_equal(bus_quiet_until(m->pio, 0x61), 0);	/* mode 3 after reset */
	assert_int_equal(bus_quiet_until(m->pio, 0x40), 0);	/* counters always have news */
	assert_int_equal(bus_quiet_until(m->pio, 0x62), 0);	/* nobody there */
	outb_(m, 0x61, 0);
	program(2, 0, 65535);
	assert_int_equal(bus_quiet_until(m->pio, 0x61), 0);	/* gate low: nobody knows */
	outb_(m, 0x61, 1);
	until = bus_quiet_until(m->pio, 0x61);
	assert_true(until > clock_now(m->clock) + 54 * MS && until < clock_now(m->clock) + 55 * MS);
	step(m, 20 * MS);
	assert_int_equal(bus_quiet_until(m->pio, 0x61), until);
	step(m, until - 1 - clock_now(m->clock));
	assert_int_equal(inb_(m, 0x61) & 0x20, 0);
	step(m, 1);
	assert_int_equal(inb_(m, 0x61) & 0x20, 0x20);
	assert_int_equal(bus_quiet_until(m->pio, 0x61), 0);
	program(2, 1, 1193);		/* untriggered: the output is high */
	assert_int_equal(bus_quiet_until(m->pio, 0x61), 0);
	outb_(m, 0x61, 0);
	outb_(m, 0x61, 1);
	until = bus_quiet_until(m->pio, 0x61);
	assert_true(until > clock_now(m->clock) + 990 * US && until < clock_now(m->clock) + 1001 * US);
}

static void test_refresh_toggles(void **state)
{
	unsigned changes = 0;
	uint8_t last = inb_(m, 0x61) & 0x10;

	for (int i = 0; i < 100; i++) {
		step(m, 5 * US);
		changes += (inb_(m, 0x61) & 0x10) != last;
		last = inb_(m, 0x61) & 0x10;
	}
	assert_in_range(changes, 30, 36);
}

static void test_mute(void **state)
{
	struct irq mute = i8254_mute(pit);

	program(0, 2, 1193);
	wire(&mute, m, true);
	assert_false(irq.level);
	irq.rises = 0;
	step(m, 100 * MS);
	assert_int_equal(irq.rises, 0);
	wire(&mute, m, false);
	irq.rises = 0;
	step(m, 100 * MS);
	assert_in_range(irq.rises, 99, 101);
}

/* A guest cannot make the host spin with a tiny period. */
static void test_fastest_rate(void **state)
{
	program(0, 2, 2);
	irq.rises = 0;
	step(m, 10 * MS);
	assert_in_range(irq.rises, 1, 501);
}

static void test_save_while_counting(void **state)
{
	program(0, 2, 10000);
	step(m, ticks(4000));
	outb_(m, 0x43, 0x00);		/* a latch half read */
	assert_int_equal(inb_(m, 0x40), 6000 & 0xff);
	outb_(m, 0x42, 0x12);
	round_trip(m);
	assert_int_equal(inb_(m, 0x40), 6000 >> 8);
	irq.rises = 0;
	step(m, ticks(5990));
	assert_int_equal(irq.rises, 0);
	step(m, ticks(20));
	assert_int_equal(irq.rises, 1);
	step(m, ticks(10000));
	assert_int_equal(irq.rises, 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rate_generator), T(test_square_wave), T(test_one_shot_mode0), T(test_strobe_mode4),
		T(test_latch), T(test_read_back), T(test_single_byte_access), T(test_bcd),
		T(test_new_count_waits_for_period), T(test_speaker_gate), T(test_quiet_until), T(test_refresh_toggles),
		T(test_mute), T(test_fastest_rate), T(test_save_while_counting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
