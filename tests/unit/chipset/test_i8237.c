/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 8237A: registers, both chips' transfers, their ends, and who hears of a channel. */
#include "../device/card.h"
#include "chip.h"

#include "chipset/i8237.h"

#define RAM (1u << 20)

struct fix {
	struct machine *m;
	struct i8237 *d;
	uint8_t *ram;
	unsigned told;
};

static void ready(void *opaque)
{
	struct fix *f = opaque;

	f->told++;
}

static int setup(void **state)
{
	const struct i8237_config c = { .low = 0, .high = 0xc0, .pages = 0x80 };
	struct fix *f = calloc(1, sizeof(*f));

	f->m = card_machine(RAM, NULL, NULL);
	f->ram = mem_ram_host(f->m->mem);
	machine_lock(f->m);
	assert_int_equal(i8237_new(f->m, &c, &f->d), 0);
	i8237_init(f->d);
	i8237_attach(f->d, 2, ready, f);
	machine_unlock(f->m);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_free(f->m);
	free(f);
	return 0;
}

/* Channel 2 or 5: mode without the channel's number, address and count in the chip's units. */
static void program(struct fix *f, unsigned ch, uint8_t mode, uint8_t page, uint16_t addr, uint16_t count)
{
	uint16_t base = ch < 4 ? 0 : 0xc0, step = ch < 4 ? 1 : 2, n = ch & 3;

	outb_(f->m, (uint16_t)(base + 10 * step), (uint8_t)(4 | n));
	outb_(f->m, (uint16_t)(base + 12 * step), 0);
	outb_(f->m, (uint16_t)(base + 11 * step), (uint8_t)(mode | n));
	outb_(f->m, (uint16_t)(base + 2 * n * step), (uint8_t)addr);
	outb_(f->m, (uint16_t)(base + 2 * n * step), (uint8_t)(addr >> 8));
	outb_(f->m, (uint16_t)(base + (2 * n + 1) * step), (uint8_t)count);
	outb_(f->m, (uint16_t)(base + (2 * n + 1) * step), (uint8_t)(count >> 8));
	outb_(f->m, ch == 2 ? 0x81 : 0x8b, page);
	outb_(f->m, (uint16_t)(base + 10 * step), (uint8_t)n);
}

static size_t to_memory(struct fix *f, unsigned ch, const void *p, size_t len, bool *tc)
{
	size_t n;

	machine_lock(f->m);
	n = i8237_to_memory(f->d, ch, p, len, tc);
	machine_unlock(f->m);
	return n;
}

static size_t from_memory(struct fix *f, unsigned ch, void *p, size_t len, bool *tc)
{
	size_t n;

	machine_lock(f->m);
	n = i8237_from_memory(f->d, ch, p, len, tc);
	machine_unlock(f->m);
	return n;
}

static void request(struct fix *f, bool on)
{
	machine_lock(f->m);
	i8237_request(f->d, 2, on);
	machine_unlock(f->m);
}

static uint16_t read16(struct fix *f, uint16_t port)
{
	uint8_t lo = inb_(f->m, port);

	return (uint16_t)(lo | inb_(f->m, port) << 8);
}

static void test_registers(void **state)
{
	struct fix *f = *state;

	assert_int_equal(inb_(f->m, 0x0f), 0xff);
	assert_int_equal(inb_(f->m, 0xde), 0xfe);
	program(f, 2, 0x44, 3, 0x1234, 0x01ff);
	assert_int_equal(inb_(f->m, 0x0f), 0xfb);
	assert_int_equal(read16(f, 4), 0x1234);
	assert_int_equal(read16(f, 5), 0x01ff);
	/* One flip-flop for all: the next byte is a high one now, until it is cleared. */
	assert_int_equal(inb_(f->m, 4), 0x34);
	assert_int_equal(inb_(f->m, 5), 0x01);
	inb_(f->m, 4);
	outb_(f->m, 0x0c, 0);
	assert_int_equal(inb_(f->m, 4), 0x34);
	outb_(f->m, 0x0c, 0);
	outb_(f->m, 0x0f, 5);
	assert_int_equal(inb_(f->m, 0x0f), 0xf5);
	outb_(f->m, 0x0e, 0);
	assert_int_equal(inb_(f->m, 0x0f), 0xf0);
	outb_(f->m, 0x09, 6);
	assert_int_equal(inb_(f->m, 0x08), 0x40);
	outb_(f->m, 0x0d, 0);
	assert_int_equal(inb_(f->m, 0x0f), 0xff);
	assert_int_equal(inb_(f->m, 0x08), 0);
	for (uint16_t p = 0x80; p < 0x90; p++)
		outb_(f->m, p, (uint8_t)(p * 3));
	for (uint16_t p = 0x80; p < 0x90; p++)
		assert_int_equal(inb_(f->m, p), (uint8_t)(p * 3));
}

static void test_transfer(void **state)
{
	struct fix *f = *state;
	uint8_t in[300], out[300];
	bool tc = false;

	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 5 + 1);
	program(f, 2, 0x44, 1, 0x2000, 255);
	assert_int_equal(to_memory(f, 2, in, 100, &tc), 100);
	assert_false(tc);
	assert_int_equal(read16(f, 4), 0x2064);
	assert_int_equal(read16(f, 5), 155);
	assert_int_equal(inb_(f->m, 8) & 15, 0);
	/* Not further than the count. */
	assert_int_equal(to_memory(f, 2, in + 100, 200, &tc), 156);
	assert_true(tc);
	assert_memory_equal(f->ram + 0x12000, in, 256);
	assert_int_equal(f->ram[0x12100], 0);
	assert_int_equal(inb_(f->m, 8) & 15, 4);
	assert_int_equal(inb_(f->m, 8) & 15, 0);
	/* Masked by its end. */
	assert_int_equal(inb_(f->m, 0x0f), 0xff);
	assert_int_equal(to_memory(f, 2, in, 1, &tc), 0);
	/* The other way; not by a channel that is set up for this one. */
	tc = false;
	program(f, 2, 0x48, 1, 0x2000, 9);
	assert_int_equal(to_memory(f, 2, in, 10, &tc), 0);
	assert_int_equal(from_memory(f, 2, out, sizeof(out), &tc), 10);
	assert_true(tc);
	assert_memory_equal(out, in, 10);
}

static void test_modes(void **state)
{
	struct fix *f = *state;
	uint8_t in[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 }, out[16];
	bool tc = false;

	/* Downwards. */
	program(f, 2, 0x64, 1, 0x0003, 3);
	assert_int_equal(to_memory(f, 2, in, 4, &tc), 4);
	assert_memory_equal(f->ram + 0x10000, ((uint8_t[]){ 4, 3, 2, 1 }), 4);
	/* From the end of a page to its beginning. */
	program(f, 2, 0x44, 1, 0xfffe, 3);
	assert_int_equal(to_memory(f, 2, in + 4, 4, &tc), 4);
	assert_memory_equal(f->ram + 0x1fffe, in + 4, 2);
	assert_memory_equal(f->ram + 0x10000, in + 6, 2);
	assert_int_equal(f->ram[0x20000], 0);
	/* Again from the beginning, unmasked. */
	tc = false;
	program(f, 2, 0x54, 1, 0x100, 3);
	assert_int_equal(to_memory(f, 2, in, 8, &tc), 4);
	assert_true(tc);
	assert_int_equal(to_memory(f, 2, in + 4, 4, &tc), 4);
	assert_memory_equal(f->ram + 0x10100, in + 4, 4);
	assert_int_equal(read16(f, 4), 0x100);
	/* Verifying moves nothing. */
	tc = false;
	program(f, 2, 0x40, 1, 0x100, 3);
	assert_int_equal(to_memory(f, 2, in, 8, &tc), 4);
	assert_true(tc);
	assert_memory_equal(f->ram + 0x10100, in + 4, 4);
	/* Words: the page's lowest bit does not count. */
	program(f, 5, 0x44, 3, 0x0080, 3);
	assert_int_equal(to_memory(f, 5, in, 15, &tc), 8);
	assert_memory_equal(f->ram + 0x20100, in, 8);
	assert_int_equal(to_memory(f, 5, in, 1, &tc), 0);
	/* Where there is no memory. */
	program(f, 2, 0x44, 0x80, 0, 15);
	assert_int_equal(to_memory(f, 2, in, 16, &tc), 16);
	program(f, 2, 0x48, 0x80, 0, 15);
	assert_int_equal(from_memory(f, 2, out, 16, &tc), 16);
	assert_int_equal(out[0], 0xff);
	assert_int_equal(out[15], 0xff);
}

static void test_gates(void **state)
{
	struct fix *f = *state;
	uint8_t b = 7;
	bool tc = false;

	program(f, 2, 0x44, 1, 0, 9);
	outb_(f->m, 0x08, 4);		/* the chip is off */
	assert_int_equal(to_memory(f, 2, &b, 1, &tc), 0);
	outb_(f->m, 0x08, 0);
	outb_(f->m, 0xd4, 4);		/* what joins the chips is masked */
	assert_int_equal(to_memory(f, 2, &b, 1, &tc), 0);
	outb_(f->m, 0xd4, 0);
	outb_(f->m, 0x0a, 6);
	assert_int_equal(to_memory(f, 2, &b, 1, &tc), 0);

	request(f, true);
	assert_int_equal(f->told, 0);
	assert_int_equal(inb_(f->m, 8), 0x40);
	outb_(f->m, 0x0a, 2);
	assert_int_equal(f->told, 1);
	request(f, false);
	request(f, true);
	assert_int_equal(f->told, 2);
	assert_int_equal(to_memory(f, 2, &b, 1, &tc), 1);
}

static void test_saved(void **state)
{
	struct fix *f = *state;
	uint8_t in[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	bool tc = false;

	program(f, 2, 0x44, 1, 0x300, 7);
	assert_int_equal(to_memory(f, 2, in, 3, &tc), 3);
	outb_(f->m, 0x0c, 0);
	assert_int_equal(inb_(f->m, 4), 0x03);
	round_trip(f->m);
	/* In the middle of an address, too. */
	assert_int_equal(inb_(f->m, 4), 0x03);
	assert_int_equal(read16(f, 5), 4);
	assert_int_equal(to_memory(f, 2, in + 3, 8, &tc), 5);
	assert_true(tc);
	assert_memory_equal(f->ram + 0x10300, in, 8);
	assert_int_equal(inb_(f->m, 0x81), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_registers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_transfer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_gates, setup, teardown),
		cmocka_unit_test_setup_teardown(test_saved, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
