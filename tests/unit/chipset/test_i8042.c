/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keyboard controller answers drivers, passes keys and motion, resets. */
#include "chip.h"

#include "chipset/i8042.h"

static struct machine *m;
static struct i8042 *kbc;
static struct probe irq[3];		/* kbd, aux, A20 */
static struct asked asked;

static int setup(void **state)
{
	const struct i8042_config cfg = { .data = 0x60, .command = 0x64, .kbd = probe_irq(irq, 0),
					  .aux = probe_irq(irq, 1), .a20 = probe_irq(irq, 2) };

	m = machine_make();
	memset(irq, 0, sizeof(irq));
	asked = (struct asked){ 0 };
	m->request = asked_cb;
	m->request_opaque = &asked;
	assert_int_equal(i8042_new(m, &cfg, &kbc), 0);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static void cmd(uint8_t v) { outb_(m, 0x64, v); }
static void data(uint8_t v) { outb_(m, 0x60, v); }
static uint8_t st(void) { return inb_(m, 0x64); }

static uint8_t next(void)
{
	assert_true(st() & 1);
	return inb_(m, 0x60);
}

static void expect_kbd(uint8_t v)
{
	assert_int_equal(st() & 0x21, 0x01);
	assert_int_equal(inb_(m, 0x60), v);
}

static void expect_aux(uint8_t v)
{
	assert_int_equal(st() & 0x21, 0x21);
	assert_int_equal(inb_(m, 0x60), v);
}

static void key(uint8_t set2, bool e0, bool down)
{
	machine_lock(m);
	i8042_key(kbc, set2, e0, down);
	machine_unlock(m);
}

static void mouse(int dx, int dy, int dz, unsigned b)
{
	machine_lock(m);
	i8042_mouse(kbc, dx, dy, dz, b);
	machine_unlock(m);
}

static void test_controller(void **state)
{
	assert_int_equal(st() & 0x11, 0x10);
	cmd(0x20);
	assert_int_equal(next(), 0x65);
	cmd(0xaa);
	assert_int_equal(next(), 0x55);
	cmd(0xab);
	assert_int_equal(next(), 0);
	cmd(0xa9);
	assert_int_equal(next(), 0);
	cmd(0xd3);
	data(0x5a);			/* loopback by which drivers find the mouse port: works while it is disabled */
	expect_aux(0x5a);
	cmd(0x60);
	data(0x47);
	cmd(0x20);
	assert_int_equal(next(), 0x47);
	cmd(0xa7);
	cmd(0x20);
	assert_int_equal(next() & 0x20, 0x20);
	cmd(0xa8);
	cmd(0x20);
	assert_int_equal(next() & 0x20, 0);
	cmd(0x61);
	data(0x99);
	cmd(0x21);
	assert_int_equal(next(), 0x99);
	assert_false(st() & 1);
}

static void test_keyboard_commands(void **state)
{
	data(0xff);
	expect_kbd(0xfa);
	expect_kbd(0xaa);
	data(0xf2);
	expect_kbd(0xfa);
	expect_kbd(0xab);
	expect_kbd(0x41);		/* 83, translated */
	data(0xed);
	expect_kbd(0xfa);
	data(7);
	expect_kbd(0xfa);
	data(0xee);
	expect_kbd(0xee);
	data(0x01);
	expect_kbd(0xfe);
	data(0xf3);
	expect_kbd(0xfa);
	data(0x00);
	expect_kbd(0xfa);
	cmd(0x60);
	data(0x05);			/* no translation */
	data(0xf0);
	expect_kbd(0xfa);
	data(0);
	expect_kbd(0xfa);
	expect_kbd(2);
	data(0xf0);
	expect_kbd(0xfa);
	data(3);
	expect_kbd(0xfe);
}

static void test_keys(void **state)
{
	key(0x1c, false, true);		/* A */
	assert_true(irq[0].level);
	key(0x1c, false, false);
	expect_kbd(0x1e);
	assert_int_equal(irq[0].rises, 2);	/* the next byte interrupts anew */
	expect_kbd(0x9e);
	assert_false(irq[0].level);
	key(0x75, true, true);		/* cursor up */
	key(0x75, true, false);
	expect_kbd(0xe0);
	expect_kbd(0x48);
	expect_kbd(0xe0);
	expect_kbd(0xc8);
	cmd(0x60);
	data(0x05);
	key(0x1c, false, false);
	expect_kbd(0xf0);
	expect_kbd(0x1c);
	cmd(0xad);			/* interface off: keys wait */
	key(0x1c, false, true);
	assert_false(st() & 1);
	cmd(0xae);
	expect_kbd(0x1c);
	data(0xf5);
	expect_kbd(0xfa);
	key(0x1c, false, true);		/* scanning off: dropped */
	assert_false(st() & 1);
	for (int i = 0; i < 1000; i++)
		key(0x1c, true, i & 1);
	data(0xf4);
	expect_kbd(0xfa);
	for (int i = 0; i < 1000; i++)
		key(0x1c, true, i & 1);	/* bounded */
	for (int i = 0; i < 100; i++)
		inb_(m, 0x60);
	assert_false(st() & 1);
}

static void aux(uint8_t v)
{
	cmd(0xd4);
	data(v);
}

static void test_mouse(void **state)
{
	static const uint8_t knock[] = { 200, 100, 80 };

	cmd(0x60);
	data(0x47);
	aux(0xff);
	assert_true(irq[1].level);
	expect_aux(0xfa);
	expect_aux(0xaa);
	expect_aux(0);
	aux(0xf2);
	expect_aux(0xfa);
	expect_aux(0);
	aux(0xe9);
	expect_aux(0xfa);
	expect_aux(0);
	expect_aux(2);
	expect_aux(100);
	mouse(5, 5, 0, 0);		/* not enabled */
	assert_false(st() & 1);
	for (int i = 0; i < 3; i++) {
		aux(0xf3);
		expect_aux(0xfa);
		aux(knock[i]);
		expect_aux(0xfa);
	}
	aux(0xf2);
	expect_aux(0xfa);
	expect_aux(3);			/* a wheel */
	aux(0xf4);
	expect_aux(0xfa);
	mouse(5, -5, 1, 1);
	expect_aux(0x08 | 0x01 | 0x20);
	expect_aux(5);
	expect_aux((uint8_t)-5);
	expect_aux(1);
	mouse(-3000, 3000, 0, 1);
	expect_aux(0x08 | 0x01 | 0x10 | 0xc0);
	expect_aux(0);
	expect_aux(255);
	expect_aux(0);
	aux(0x11);
	expect_aux(0xfe);
}

static void test_reset_and_a20(void **state)
{
	assert_true(irq[2].level);
	cmd(0xd0);
	assert_int_equal(next() & 3, 3);
	cmd(0xd1);
	data(0xdd);			/* A20 off */
	assert_false(irq[2].level);
	cmd(0xdf);
	assert_true(irq[2].level);
	assert_int_equal(asked.count, 0);
	cmd(0xff);			/* pulses nothing */
	assert_int_equal(asked.count, 0);
	cmd(0xfe);
	assert_int_equal(asked.count, 1);
	assert_int_equal(asked.req, MACHINE_REQ_RESET);
	cmd(0xd1);
	data(0xfe);
	assert_int_equal(asked.count, 2);
}

static void test_save_midway(void **state)
{
	key(0x1c, false, true);
	key(0x32, false, true);
	key(0x32, false, false);
	cmd(0x60);			/* argument to come */
	round_trip(m);
	assert_true(irq[0].level);
	data(0x45);
	expect_kbd(0x1e);
	expect_kbd(0x30);
	expect_kbd(0xb0);
	cmd(0x20);
	assert_int_equal(next(), 0x45);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_controller), T(test_keyboard_commands), T(test_keys), T(test_mouse),
		T(test_reset_and_a20), T(test_save_midway),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
