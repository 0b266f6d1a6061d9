/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 8259 pair keeps the data sheet's promises on priorities, modes and EOI. */
#include "chip.h"

#include "chipset/i8259.h"

static struct machine *m;
static struct i8259 *pic;
static struct probe intr;

static void init_pair(uint8_t icw4)
{
	outb_(m, 0x20, 0x11);
	outb_(m, 0x21, 0x20);
	outb_(m, 0x21, 0x04);
	outb_(m, 0x21, icw4);
	outb_(m, 0xa0, 0x11);
	outb_(m, 0xa1, 0x28);
	outb_(m, 0xa1, 0x02);
	outb_(m, 0xa1, icw4);
	outb_(m, 0x21, 0);
	outb_(m, 0xa1, 0);
}

static int setup(void **state)
{
	const struct i8259_config cfg = { .master = 0x20, .slave = 0xa0, .elcr = 0x4d0,
					  .intr = probe_irq(&intr, 0) };

	m = machine_make();
	intr = (struct probe){ 0 };
	assert_int_equal(i8259_new(m, &cfg, &pic), 0);
	init_pair(1);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void set(int n, bool level)
{
	struct irq w = i8259_irq(pic, n);

	wire(&w, m, level);
}

static void pulse(int n)
{
	set(n, true);
	set(n, false);
}

static uint8_t ack(void)
{
	uint8_t v;

	machine_lock(m);
	v = i8259_ack(pic);
	machine_unlock(m);
	return v;
}

static void test_edge(void **state)
{
	pulse(4);
	assert_true(intr.level);
	assert_int_equal(ack(), 0x24);
	assert_false(intr.level);
	pulse(4);			/* in service: waits for EOI */
	assert_false(intr.level);
	outb_(m, 0x20, 0x20);
	assert_true(intr.level);
	assert_int_equal(ack(), 0x24);
	outb_(m, 0x20, 0x64);		/* specific EOI */
	assert_false(intr.level);
	set(3, true);
	assert_int_equal(ack(), 0x23);
	outb_(m, 0x20, 0x20);
	assert_false(intr.level);	/* a high level is no new edge */
}

static void test_priority_and_cascade(void **state)
{
	pulse(3);
	pulse(12);
	pulse(9);
	assert_int_equal(ack(), 0x29);	/* the slave comes in at 2, before 3 */
	assert_false(intr.level);
	pulse(8);			/* higher inside the slave, but 2 is in service */
	assert_false(intr.level);
	pulse(0);
	assert_int_equal(ack(), 0x20);
	outb_(m, 0x20, 0x20);
	outb_(m, 0xa0, 0x20);
	outb_(m, 0x20, 0x20);
	assert_int_equal(ack(), 0x28);
	outb_(m, 0xa0, 0x20);
	outb_(m, 0x20, 0x20);
	assert_int_equal(ack(), 0x2c);
	outb_(m, 0xa0, 0x20);
	outb_(m, 0x20, 0x20);
	assert_int_equal(ack(), 0x23);
}

static void test_special_fully_nested(void **state)
{
	init_pair(0x11);
	pulse(9);
	assert_int_equal(ack(), 0x29);
	pulse(8);			/* now the slave may interrupt again */
	assert_true(intr.level);
	assert_int_equal(ack(), 0x28);
}

static void test_mask_and_reads(void **state)
{
	outb_(m, 0x21, 0x10);
	assert_int_equal(inb_(m, 0x21), 0x10);
	pulse(4);
	assert_false(intr.level);
	outb_(m, 0x20, 0x0a);
	assert_int_equal(inb_(m, 0x20), 0x10);	/* IRR */
	outb_(m, 0x21, 0);
	assert_int_equal(ack(), 0x24);
	outb_(m, 0x20, 0x0b);
	assert_int_equal(inb_(m, 0x20), 0x10);	/* ISR */
	outb_(m, 0x20, 0x0a);
	assert_int_equal(inb_(m, 0x20), 0);
}

static void test_spurious(void **state)
{
	assert_int_equal(ack(), 0x27);
	outb_(m, 0x4d1, 0x08);		/* IRQ 11 level: the request goes away before INTA */
	set(11, true);
	outb_(m, 0x4d1, 0x08);
	assert_true(intr.level);
	outb_(m, 0xa1, 0xff);
	assert_false(intr.level);
	assert_int_equal(ack(), 0x27);
	outb_(m, 0x20, 0x0b);
	assert_int_equal(inb_(m, 0x20), 0);
}

static void test_level(void **state)
{
	outb_(m, 0x4d0, 0xff);
	outb_(m, 0x4d1, 0xff);
	assert_int_equal(inb_(m, 0x4d0), 0xf8);	/* 0, 1, 2 are always edge */
	assert_int_equal(inb_(m, 0x4d1), 0xde);	/* 8, 13 too */
	set(5, true);
	assert_int_equal(ack(), 0x25);
	outb_(m, 0x20, 0x20);
	assert_true(intr.level);	/* still high: again */
	assert_int_equal(ack(), 0x25);
	set(5, false);
	outb_(m, 0x20, 0x20);
	assert_false(intr.level);
	set(10, true);
	assert_int_equal(ack(), 0x2a);
	set(10, false);
	outb_(m, 0xa0, 0x20);
	outb_(m, 0x20, 0x20);
	assert_false(intr.level);
}

static void test_auto_eoi(void **state)
{
	init_pair(3);
	pulse(1);
	assert_int_equal(ack(), 0x21);
	pulse(1);
	assert_true(intr.level);
	assert_int_equal(ack(), 0x21);
	pulse(8);
	pulse(9);
	assert_int_equal(ack(), 0x28);
	assert_true(intr.level);	/* the slave's second request is not lost */
	assert_int_equal(ack(), 0x29);
	outb_(m, 0x20, 0x80);		/* rotate in AEOI: 1 becomes the lowest */
	pulse(1);
	assert_int_equal(ack(), 0x21);
	pulse(1);
	pulse(3);
	assert_int_equal(ack(), 0x23);
}

static void test_rotation(void **state)
{
	pulse(4);
	assert_int_equal(ack(), 0x24);
	outb_(m, 0x20, 0xa0);		/* rotate on non-specific EOI */
	pulse(4);
	pulse(5);
	assert_int_equal(ack(), 0x25);
	outb_(m, 0x20, 0x20);
	assert_int_equal(ack(), 0x24);
	outb_(m, 0x20, 0x20);
	outb_(m, 0x20, 0xc2);		/* set priority: 2 lowest, 3 highest */
	pulse(0);
	pulse(3);
	assert_int_equal(ack(), 0x23);
	outb_(m, 0x20, 0xe3);		/* rotate on specific EOI */
	assert_int_equal(ack(), 0x20);
}

static void test_special_mask(void **state)
{
	pulse(1);
	assert_int_equal(ack(), 0x21);
	pulse(6);
	assert_false(intr.level);
	outb_(m, 0x21, 0x02);
	outb_(m, 0x20, 0x68);		/* special mask: the masked one in service blocks nothing */
	assert_true(intr.level);
	assert_int_equal(ack(), 0x26);
	outb_(m, 0x20, 0x20);		/* ends 6, not the masked 1 */
	outb_(m, 0x20, 0x0b);
	assert_int_equal(inb_(m, 0x20), 0x02);
	outb_(m, 0x20, 0x48);
	pulse(6);
	assert_false(intr.level);
}

static void test_poll(void **state)
{
	outb_(m, 0x20, 0x0c);
	assert_int_equal(inb_(m, 0x20), 0);
	pulse(6);
	outb_(m, 0x20, 0x0c);
	assert_int_equal(inb_(m, 0x20), 0x86);
	assert_false(intr.level);
	outb_(m, 0x20, 0x0b);
	assert_int_equal(inb_(m, 0x20), 0x40);
}

static void test_init_sequences(void **state)
{
	outb_(m, 0x20, 0x12);		/* single, no ICW4 */
	outb_(m, 0x21, 0x43);		/* low bits of the base are ignored */
	outb_(m, 0x21, 0xfe);		/* already OCW1 */
	assert_int_equal(inb_(m, 0x21), 0xfe);
	pulse(0);
	assert_int_equal(ack(), 0x40);
	outb_(m, 0x20, 0x11);		/* clears mask and service */
	assert_int_equal(inb_(m, 0x21), 0);
	outb_(m, 0x20, 0x0b);
	assert_int_equal(inb_(m, 0x20), 0);
}

static void test_save_in_service(void **state)
{
	outb_(m, 0x4d0, 0x20);
	set(5, true);
	pulse(12);
	assert_int_equal(ack(), 0x2c);
	outb_(m, 0x20, 0x62);
	assert_int_equal(ack(), 0x25);
	round_trip(m);
	outb_(m, 0x20, 0x0b);
	assert_int_equal(inb_(m, 0x20), 0x20);
	outb_(m, 0xa0, 0x0b);
	assert_int_equal(inb_(m, 0xa0), 0x10);
	outb_(m, 0x20, 0x20);
	assert_int_equal(ack(), 0x25);	/* level input still high */
	set(5, false);
	outb_(m, 0x20, 0x20);
	outb_(m, 0x20, 0x11);		/* saved in mid-initialisation */
	round_trip(m);
	outb_(m, 0x21, 0x70);
	outb_(m, 0x21, 0x04);
	outb_(m, 0x21, 0x01);
	pulse(1);
	assert_int_equal(ack(), 0x71);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_edge), T(test_priority_and_cascade), T(test_special_fully_nested),
		T(test_mask_and_reads), T(test_spurious), T(test_level), T(test_auto_eoi),
		T(test_rotation), T(test_special_mask), T(test_poll), T(test_init_sequences),
		T(test_save_in_service),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
