/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The UART passes bytes both ways, loses none, and interrupts for the right reasons. */
#include "chip.h"

#include "chardev/chardev.h"
#include "chipset/ns16550.h"

/* The chardev of this test: what the UART calls, with the other side in hand. */
struct chardev {
	struct chardev_front f;
	uint8_t out[4096];
	size_t n_out, room;
	const uint8_t *in;
	size_t n_in;
};

static struct chardev chr;
static struct machine *m;
static struct ns16550 *uart;
static struct probe irq;

void chardev_attach(struct chardev *c, const struct chardev_front *f)
{
	c->f = *f;
}

size_t chardev_write(struct chardev *c, const uint8_t *buf, size_t len)
{
	size_t n = 0;

	while (n < len && c->room && c->n_out < sizeof(c->out)) {
		c->out[c->n_out++] = buf[n++];
		c->room--;
	}
	return n;
}

void chardev_kick(struct chardev *c)
{
	size_t n;

	while (c->n_in && c->f.can_read && (n = c->f.can_read(c->f.opaque))) {
		if (n > c->n_in)
			n = c->n_in;
		c->in += n;
		c->n_in -= n;
		c->f.read(c->f.opaque, c->in - n, n);
	}
}

static void type(const char *s)
{
	machine_lock(m);
	chr.in = (const uint8_t *)s;
	chr.n_in = strlen(s);
	chardev_kick(&chr);
	machine_unlock(m);
}

static int setup(void **state)
{
	const struct ns16550_config cfg = { .id = "com1", .base = 0x3f8, .irq = probe_irq(&irq, 0), .chr = &chr };

	m = machine_make();
	chr = (struct chardev){ .room = SIZE_MAX };
	irq = (struct probe){ 0 };
	assert_int_equal(ns16550_new(m, &cfg, &uart), 0);
	outb_(m, 0x3fc, 0x08);
	return 0;
}

static int teardown(void **state)
{
	machine_free(m);
	return 0;
}

static uint8_t in(int r)
{
	return inb_(m, (uint16_t)(0x3f8 + r));
}
static void out(int r, uint8_t v)
{
	outb_(m, (uint16_t)(0x3f8 + r), v);
}

static void test_probe(void **state)
{
	/* what Linux's autoconfig does */
	out(1, 0);
	assert_int_equal(in(1), 0);
	out(1, 0x0f);
	assert_int_equal(in(1), 0x0f);
	out(1, 0);
	out(4, 0x1a);			/* loop, OUT2, RTS */
	assert_int_equal(in(6) & 0xf0, 0x90);
	out(4, 0);
	out(2, 1);
	assert_int_equal(in(2) >> 6, 3);	/* 16550A */
	out(2, 0);
	assert_int_equal(in(2) >> 6, 0);
	out(7, 0x5a);
	assert_int_equal(in(7), 0x5a);
	out(3, 0x80);
	out(0, 0x01);
	out(1, 0x02);
	assert_int_equal(in(0), 1);
	assert_int_equal(in(1), 2);
	out(3, 3);
	assert_int_equal(in(3), 3);
	assert_int_equal(in(5), 0x60);
}

static void test_output(void **state)
{
	const char *s = "hello, world\n";

	for (size_t i = 0; s[i]; i++) {
		assert_true(in(5) & 0x20);
		out(0, (uint8_t)s[i]);
	}
	assert_int_equal(chr.n_out, strlen(s));
	assert_memory_equal(chr.out, s, strlen(s));
}

static void test_thre_interrupt(void **state)
{
	out(1, 2);
	assert_true(irq.level);		/* enabling it with an empty transmitter */
	assert_int_equal(in(2) & 0xf, 2);
	assert_false(irq.level);	/* reading IIR takes it back */
	assert_int_equal(in(2) & 0xf, 1);
	out(0, 'x');
	assert_true(irq.level);
	out(1, 0);
	assert_false(irq.level);
	out(4, 0);			/* OUT2 gates the pin */
	out(1, 2);
	assert_false(irq.level);
	out(4, 8);
	assert_true(irq.level);
}

static void test_output_backpressure(void **state)
{
	out(2, 1);
	out(1, 2);
	in(2);
	chr.room = 3;
	for (int i = 0; i < 16; i++)
		out(0, (uint8_t)('a' + i));
	assert_int_equal(chr.n_out, 3);
	assert_int_equal(in(5) & 0x60, 0);	/* busy */
	assert_false(irq.level);
	chr.room = SIZE_MAX;
	machine_lock(m);
	chr.f.writable(chr.f.opaque);
	machine_unlock(m);
	assert_memory_equal(chr.out, "abcdefghijklmnop", 16);
	assert_int_equal(in(5) & 0x60, 0x60);
	assert_true(irq.level);
	assert_int_equal(in(2) & 0xf, 2);
}

static void test_input(void **state)
{
	type("ab");
	assert_int_equal(in(5) & 1, 1);
	assert_int_equal(chr.n_in, 1);	/* no FIFO: one at a time */
	out(1, 1);
	assert_true(irq.level);
	assert_int_equal(in(2) & 0xf, 4);
	assert_int_equal(in(0), 'a');
	assert_true(irq.level);
	assert_int_equal(in(0), 'b');
	assert_false(irq.level);
	assert_int_equal(in(5) & 1, 0);
}

static void test_fifo_input_loses_nothing(void **state)
{
	char buf[201], got[201] = "";

	for (int i = 0; i < 200; i++)
		buf[i] = (char)('A' + i % 50);
	buf[200] = 0;
	out(2, 0x81);			/* FIFO, trigger 8 */
	out(1, 1);
	type(buf);
	assert_true(irq.level);
	for (int i = 0; i < 200; i++) {
		assert_true(in(5) & 1);
		got[i] = (char)in(0);
	}
	assert_string_equal(got, buf);
	assert_int_equal(in(5) & 3, 0);	/* no overrun */
}

static void test_character_timeout(void **state)
{
	out(2, 0xc1);			/* trigger 14 */
	out(1, 1);
	out(3, 0x80);
	out(0, 1);			/* 115200 */
	out(1, 0);
	out(3, 3);
	type("hi");
	assert_false(irq.level);
	step(m, 300 * US);
	assert_false(irq.level);
	step(m, 100 * US);
	assert_true(irq.level);
	assert_int_equal(in(2) & 0xf, 0xc);
	assert_int_equal(in(0), 'h');
	assert_false(irq.level);
	step(m, 400 * US);
	assert_true(irq.level);
	assert_int_equal(in(0), 'i');
	step(m, SEC);
	assert_false(irq.level);
}

static void test_loopback(void **state)
{
	out(4, 0x18);
	out(0, 'z');
	assert_int_equal(chr.n_out, 0);
	assert_int_equal(in(5) & 1, 1);
	out(0, 'y');			/* nobody read: overrun */
	assert_int_equal(in(5) & 3, 3);
	assert_int_equal(in(5) & 3, 1);
	assert_int_equal(in(0), 'z');
	out(1, 8);
	in(6);
	out(4, 0x1a);			/* RTS -> CTS */
	assert_true(irq.level);
	assert_int_equal(in(2) & 0xf, 0);
	assert_int_equal(in(6), 0x90 | 1);
	assert_false(irq.level);
	out(4, 0x1e);			/* OUT1 -> RI: only its trailing edge counts */
	assert_int_equal(in(6), 0xd0);
	out(4, 0x1a);
	assert_int_equal(in(6), 0x94);
}

static void test_hostile(void **state)
{
	chr.room = 0;
	for (int i = 0; i < 1000; i++)
		out(0, (uint8_t)i);	/* does not look at THRE */
	out(2, 1);
	for (int i = 0; i < 1000; i++)
		out(0, (uint8_t)i);
	out(2, 7);
	assert_int_equal(in(5) & 0x60, 0x60);
	for (int i = 0; i < 100; i++)
		in(0);
}

static void test_save_with_full_fifos(void **state)
{
	out(2, 0xc1);
	out(1, 3);
	type("0123456789");
	chr.room = 0;
	out(0, 'A');
	out(0, 'B');
	round_trip(m);
	assert_int_equal(in(5), 1);
	assert_int_equal(chr.n_out, 0);
	step(m, 20 * MS);
	assert_true(irq.level);
	assert_int_equal(in(2) & 0xf, 0xc);	/* time-out was running */
	for (int i = 0; i < 10; i++)
		assert_int_equal(in(0), '0' + i);
	chr.room = SIZE_MAX;
	round_trip(m);			/* resume hands out what waits */
	assert_int_equal(chr.n_out, 2);
	assert_memory_equal(chr.out, "AB", 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_probe), T(test_output), T(test_thre_interrupt), T(test_output_backpressure),
		T(test_input), T(test_fifo_input_loses_nothing), T(test_character_timeout), T(test_loopback),
		T(test_hostile), T(test_save_with_full_fifos),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
