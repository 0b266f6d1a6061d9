/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 82078 with the 8237A: commands by their bytes, transfers both ways and what ends them, media, saved state anywhere. */
#include "../chipset/chip.h"
#include "card.h"

#include "base/bits.h"
#include "block/disk.h"
#include "block/graph.h"
#include "chipset/i8237.h"
#include "device/i82078.h"
#include "storage/media.h"

#define RAM (1u << 20)
#define IMAGE (1440u << 10)
#define SECTORS 18u
#define BUF 0x10000u
#define DOR 0x3f2
#define MSR 0x3f4
#define FIFO 0x3f5
#define CCR 0x3f7

struct fix {
	struct machine *m;
	struct i8237 *dma;
	struct i82078 *f;
	struct blk_node *image, *slot;
	uint8_t *ram;
	struct probe irq;
	uint8_t result[16];
};

static void pattern(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(i * 7 + (i >> 9) * 13 + seed);
}

static struct fix *make(enum disk_on_error on)
{
	const struct i8237_config dma = { .low = 0, .high = 0xc0, .pages = 0x80 };
	const struct disk_opts o = { .on_read_error = on, .on_write_error = on };
	struct fix *f = calloc(1, sizeof(*f));
	struct i82078_config c = { .base = 0x3f0, .channel = 2, .irq = probe_irq(&f->irq, 0) };
	struct err e;

	f->m = card_machine(RAM, NULL, NULL);
	f->ram = mem_ram_host(f->m->mem);
	machine_lock(f->m);
	assert_int_equal(i8237_new(f->m, &dma, &f->dma), 0);
	i8237_init(f->dma);
	c.dma = f->dma;
	assert_int_equal(i82078_new(f->m, &c, &f->f), 0);
	assert_int_equal(blk_open_mem(f->m->loop, IMAGE, &f->image), 0);
	pattern(blk_mem_data(f->image), IMAGE, 1);
	assert_int_equal(blk_slot_new(f->image, &f->slot), 0);
	assert_int_equal(i82078_add(f->f, 0, "fd0", f->slot, &o, &e), 0);
	machine_unlock(f->m);
	return f;
}

static int setup(void **state) { *state = make(DISK_REPORT); return 0; }
static int setup_stop(void **state) { *state = make(DISK_STOP); return 0; }

static int teardown(void **state)
{
	struct fix *f = *state;

	machine_free(f->m);
	free(f);
	return 0;
}

static void turn(struct fix *f)
{
	for (unsigned i = 0; i < 200 && !f->irq.level; i++)
		loop_turn(f->m->loop, 0);
}

#define SEND(f, ...) send(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
static void send(struct fix *f, const uint8_t *p, size_t n)
{
	while (n--) {
		assert_int_equal(inb_(f->m, MSR) & 0xc0, 0x80);
		outb_(f->m, FIFO, *p++);
	}
}

static void take(struct fix *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(inb_(f->m, MSR), 0xd0);
		f->result[i] = inb_(f->m, FIFO);
	}
	assert_int_equal(inb_(f->m, MSR), 0x80);
}

static void want(struct fix *f, const uint8_t *p, unsigned n)
{
	take(f, n);
	for (unsigned i = 0; i < n; i++)
		if (f->result[i] != p[i])
			fail_msg("result byte %u is %02x, not %02x", i, f->result[i], p[i]);
}
#define WANT(f, ...) want(f, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* After an interrupt. */
#define DONE(f, ...) do { turn(f); assert_true((f)->irq.level); WANT(f, __VA_ARGS__); assert_false((f)->irq.level); } while (0)

static void start(struct fix *f)
{
	outb_(f->m, DOR, 0x00);
	assert_int_equal(inb_(f->m, MSR), 0);
	outb_(f->m, DOR, 0x1c);
	assert_true(f->irq.level);
	for (uint8_t n = 0; n < 4; n++) {
		SEND(f, 0x08);
		assert_false(f->irq.level);
		WANT(f, (uint8_t)(0xc0 | n), 0);
	}
	outb_(f->m, CCR, 0);
	SEND(f, 0x03, 0xaf, 0x02);
}

static void program(struct fix *f, bool to_memory, uint16_t bytes, bool open)
{
	outb_(f->m, 0x0a, 6);
	outb_(f->m, 0x0c, 0);
	outb_(f->m, 0x0b, to_memory ? 0x46 : 0x4a);
	outb_(f->m, 0x04, 0);
	outb_(f->m, 0x04, 0);
	outb_(f->m, 0x05, (uint8_t)(bytes - 1));
	outb_(f->m, 0x05, (uint8_t)((bytes - 1) >> 8));
	outb_(f->m, 0x81, BUF >> 16);
	if (open)
		outb_(f->m, 0x0a, 2);
}

static void seek(struct fix *f, uint8_t to)
{
	SEND(f, 0x0f, 0, to);
	assert_true(f->irq.level);
	SEND(f, 0x08);
	WANT(f, 0x20, to);
}

static uint8_t *sector(struct fix *f, unsigned c, unsigned h, unsigned r)
{
	return blk_mem_data(f->image) + ((c * 2 + h) * SECTORS + r - 1) * 512;
}

static void test_control(void **state)
{
	struct fix *f = *state;

	assert_int_equal(inb_(f->m, MSR), 0);
	start(f);
	SEND(f, 0x10);
	WANT(f, 0x90);
	SEND(f, 0x18);
	WANT(f, 0x01);
	SEND(f, 0x08);			/* nothing to be sensed */
	WANT(f, 0x80);
	SEND(f, 0x1f);
	WANT(f, 0x80);
	SEND(f, 0x13, 0, 0x57, 0x11);
	SEND(f, 0x94);
	WANT(f, 0x10);
	SEND(f, 0x12, 0x84);
	SEND(f, 0x0e);
	WANT(f, 0, 0, 0, 0, 0xaf, 0x02, 0, 0x84, 0x57, 0x11);
	/* Locked: a software reset leaves that. Without polling it has no interrupt. */
	outb_(f->m, MSR, 0x82);
	assert_false(f->irq.level);
	SEND(f, 0x0e);
	take(f, 10);
	assert_int_equal(f->result[8], 0x57);
	SEND(f, 0x14);
	WANT(f, 0);
	outb_(f->m, MSR, 0x82);
	SEND(f, 0x0e);
	take(f, 10);
	assert_int_equal(f->result[8], 0x20);
	/* As Linux says it. */
	SEND(f, 0x8e, 0x00, 0xc0);
	assert_int_equal(inb_(f->m, MSR), 0x80);
	SEND(f, 0x8e, 0x00, 0x80);
	WANT(f, 0, 0, 0, 0);
	SEND(f, 0x2e);
	take(f, 16);
	/* The gate holds interrupts back. */
	outb_(f->m, DOR, 0x14);
	SEND(f, 0x0f, 0, 3);
	assert_false(f->irq.level);
	outb_(f->m, DOR, 0x1c);
	assert_true(f->irq.level);
}

static void test_heads(void **state)
{
	struct fix *f = *state;

	start(f);
	assert_int_equal(inb_(f->m, CCR), 0x80);	/* changed, until the head moves */
	SEND(f, 0x07, 0);
	SEND(f, 0x08);
	WANT(f, 0x20, 0);
	assert_int_equal(inb_(f->m, CCR), 0x80);
	SEND(f, 0x04, 0x04);
	WANT(f, 0x3c);
	seek(f, 10);
	assert_int_equal(inb_(f->m, CCR), 0);
	SEND(f, 0x04, 0);
	WANT(f, 0x28);
	SEND(f, 0xcf, 0, 5);
	SEND(f, 0x08);
	WANT(f, 0x20, 15);
	SEND(f, 0x8f, 4, 20);
	SEND(f, 0x08);
	WANT(f, 0x24, 0);
	seek(f, 255);
	SEND(f, 0x08);
	WANT(f, 0x80);
	/* There is no second drive: two seeks that end together are asked for one by one. */
	SEND(f, 0x07, 1);
	SEND(f, 0x07, 0);
	SEND(f, 0x08);
	WANT(f, 0x20, 0);
	assert_true(f->irq.level);
	SEND(f, 0x08);
	WANT(f, 0x71, 0);
	assert_false(f->irq.level);
	/* IDs come by one after the other. */
	for (uint8_t r = 1; r <= SECTORS + 1; r++) {
		SEND(f, 0x4a, 4);
		DONE(f, 4, 0, 0, 0, 1, r > SECTORS ? 1 : r, 2);
	}
	outb_(f->m, CCR, 2);
	SEND(f, 0x4a, 0);
	turn(f);
	take(f, 7);
	assert_int_equal(f->result[0], 0x40);
	assert_int_equal(f->result[1], 1);
}

static void test_read(void **state)
{
	struct fix *f = *state;

	start(f);
	program(f, true, 512, true);
	SEND(f, 0xe6, 0, 0, 0, 3, 2, 18, 0x1b, 0xff);
	assert_int_equal(inb_(f->m, MSR), 0x10);
	DONE(f, 0, 0, 0, 0, 0, 4, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 0, 0, 3), 512);
	/* Over to the other side, and to its end. */
	seek(f, 7);
	program(f, true, 36 * 512, true);
	SEND(f, 0xe6, 0, 7, 0, 1, 2, 18, 0x1b, 0xff);
	DONE(f, 4, 0, 0, 8, 0, 1, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 7, 0, 1), 36 * 512);
	/* To the end of the first side: the next is the other one's first. */
	program(f, true, 512, true);
	SEND(f, 0xe6, 0, 7, 0, 18, 2, 18, 0x1b, 0xff);
	DONE(f, 0, 0, 0, 7, 1, 1, 2);
	/* One side only, and the DMA controller wants more. */
	program(f, true, 3 * 512, true);
	SEND(f, 0x46, 0, 7, 0, 17, 2, 18, 0x1b, 0xff);
	DONE(f, 0x40, 0x80, 0, 7, 0, 18, 2);
	/* It wants less than a sector. */
	memset(f->ram + BUF, 0, 1024);
	program(f, true, 100, true);
	SEND(f, 0x46, 0, 7, 0, 2, 2, 18, 0x1b, 0xff);
	DONE(f, 0, 0, 0, 7, 0, 3, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 7, 0, 2), 100);
	assert_int_equal(f->ram[BUF + 100], 0);
	/* READ TRACK begins with the first, whatever it is told. */
	program(f, true, 512, true);
	SEND(f, 0x42, 0, 7, 0, 9, 2, 18, 0x1b, 0xff);
	turn(f);
	take(f, 7);
	assert_memory_equal(f->ram + BUF, sector(f, 7, 0, 1), 512);
	/* READ DELETED DATA: one sector, and that it is not of that kind; with SK none. */
	program(f, true, 1024, true);
	SEND(f, 0x4c, 0, 7, 0, 2, 2, 18, 0x1b, 0xff);
	DONE(f, 0, 0, 0x40, 7, 0, 3, 2);
	program(f, true, 1024, true);
	SEND(f, 0xec, 0, 7, 0, 2, 2, 18, 0x1b, 0xff);
	DONE(f, 0x44, 0x80, 0, 7, 1, 18, 2);
}

static void fails(struct fix *f, const uint8_t *cmd, uint8_t st1, uint8_t st2)
{
	program(f, true, 512, true);
	send(f, cmd, 9);
	turn(f);
	take(f, 7);
	assert_int_equal(f->result[0] & 0xc0, 0x40);
	if (f->result[1] != st1 || f->result[2] != st2)
		fail_msg("%02x %02x, not %02x %02x", f->result[1], f->result[2], st1, st2);
}
#define FAILS(f, st1, st2, ...) fails(f, (const uint8_t[9]){ __VA_ARGS__ }, st1, st2)

static void test_not_found(void **state)
{
	struct fix *f = *state;

	start(f);
	FAILS(f, 4, 0, 0xe6, 0, 0, 0, 19, 2, 19, 0x1b, 0xff);
	FAILS(f, 4, 0, 0xe6, 0, 0, 0, 0, 2, 18, 0x1b, 0xff);
	FAILS(f, 4, 0, 0xe6, 0, 0, 1, 1, 2, 18, 0x1b, 0xff);
	FAILS(f, 4, 0, 0xe6, 0, 0, 0, 1, 3, 18, 0x1b, 0xff);
	FAILS(f, 4, 0x10, 0xe6, 0, 1, 0, 1, 2, 18, 0x1b, 0xff);
	FAILS(f, 1, 0, 0xa6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);	/* FM */
	FAILS(f, 1, 0, 0xe6, 1, 0, 0, 1, 2, 18, 0x1b, 0xff);
	FAILS(f, 1, 0, 0xe6, 3, 0, 0, 1, 2, 18, 0x1b, 0xff);
	outb_(f->m, CCR, 3);
	FAILS(f, 1, 0, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	outb_(f->m, CCR, 0);
	seek(f, 84);
	FAILS(f, 4, 0x10, 0xe6, 0, 84, 0, 1, 2, 18, 0x1b, 0xff);
	/* With implied seeks the head goes there by itself. */
	SEND(f, 0x13, 0, 0x40, 0);
	program(f, true, 512, true);
	SEND(f, 0xe6, 4, 33, 1, 5, 2, 18, 0x1b, 0xff);
	DONE(f, 4, 0, 0, 33, 1, 6, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 33, 1, 5), 512);
}

static void test_write(void **state)
{
	struct fix *f = *state;
	uint8_t old[512];

	start(f);
	pattern(f->ram + BUF, 4096, 99);
	memcpy(old, sector(f, 0, 1, 3), 512);
	program(f, false, 512 + 100, true);
	SEND(f, 0xc5, 4, 0, 1, 1, 2, 18, 0x1b, 0xff);
	DONE(f, 4, 0, 0, 0, 1, 3, 2);
	assert_memory_equal(sector(f, 0, 1, 1), f->ram + BUF, 612);
	/* The rest of the sector is zeros, and the next one what it was. */
	assert_int_equal(sector(f, 0, 1, 2)[100], 0);
	assert_int_equal(sector(f, 0, 1, 2)[511], 0);
	assert_memory_equal(sector(f, 0, 1, 3), old, 512);
	f->slot->i.read_only = true;
	program(f, false, 512, true);
	SEND(f, 0xc5, 4, 0, 1, 1, 2, 18, 0x1b, 0xff);
	DONE(f, 0x44, 2, 0, 0, 1, 1, 2);
	SEND(f, 0x04, 0);
	WANT(f, 0x78);
}

static void test_format(void **state)
{
	struct fix *f = *state;

	start(f);
	seek(f, 2);
	for (unsigned i = 0; i < SECTORS; i++)
		memcpy(f->ram + BUF + 4 * i, ((uint8_t[]){ 2, 1, (uint8_t)(i + 1), 2 }), 4);
	program(f, false, SECTORS * 4, true);
	SEND(f, 0x4d, 4, 2, SECTORS, 0x6c, 0xf6);
	turn(f);
	take(f, 7);
	assert_int_equal(f->result[0], 4);
	for (unsigned i = 0; i < SECTORS * 512; i++)
		assert_int_equal(sector(f, 2, 1, 1)[i], 0xf6);
	assert_int_not_equal(sector(f, 2, 0, 18)[511], 0xf6);
	/* No such sectors on this medium. */
	f->ram[BUF + 4 * 3 + 2] = 19;
	program(f, false, SECTORS * 4, true);
	SEND(f, 0x4d, 4, 2, SECTORS, 0x6c, 0xf6);
	turn(f);
	take(f, 7);
	assert_int_equal(f->result[0], 0x44);
	assert_int_equal(f->result[1], 4);
	SEND(f, 0x4d, 4, 2, 0, 0x6c, 0xf6);
	turn(f);
	take(f, 7);
	assert_int_equal(f->result[0], 0x44);
}

static void test_verify_scan(void **state)
{
	struct fix *f = *state;

	start(f);
	SEND(f, 0x56, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	DONE(f, 0, 0, 0, 1, 0, 1, 2);
	SEND(f, 0xd6, 0x80, 0, 0, 17, 2, 18, 0x1b, 4);
	DONE(f, 4, 0, 0, 0, 1, 3, 2);
	SEND(f, 0x56, 0, 0, 0, 1, 2, 19, 0x1b, 0xff);
	DONE(f, 0x40, 4, 0, 0, 0, 19, 2);

	memcpy(f->ram + BUF, sector(f, 0, 0, 5), 512);
	f->ram[BUF + 9] = 0xff;		/* is equal to anything */
	for (uint8_t r = 4; r <= 5; r++) {
		program(f, false, 512, true);
		SEND(f, 0x51, 0, 0, 0, r, 2, 18, 0x1b, 1);
		DONE(f, 0, 0, r == 5 ? 0x08 : 0x04, 0, 0, (uint8_t)(r + 1), 2);
	}
	memset(f->ram + BUF, 0, 512);
	program(f, false, 512, true);
	SEND(f, 0x5d, 0, 0, 0, 5, 2, 18, 0x1b, 1);	/* the disk's is more */
	DONE(f, 0, 0, 0, 0, 0, 6, 2);
	program(f, false, 512, true);
	SEND(f, 0x59, 0, 0, 0, 5, 2, 18, 0x1b, 1);
	DONE(f, 0, 0, 0x04, 0, 0, 6, 2);
}

static void test_bytes(void **state)
{
	struct fix *f = *state;
	uint8_t b[512];

	start(f);
	SEND(f, 0x03, 0xaf, 0x03);
	SEND(f, 0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
	for (unsigned r = 17; r <= 18; r++) {
		turn(f);
		assert_true(f->irq.level);
		for (unsigned i = 0; i < 512; i++) {
			assert_int_equal(inb_(f->m, MSR), 0xf0);
			if (r == 17 && i == 100)
				round_trip(f->m);
			b[i] = inb_(f->m, FIFO);
		}
		assert_memory_equal(b, sector(f, 0, 0, r), 512);
	}
	/* Nobody says that this was enough, so the end of the track is one. */
	DONE(f, 0x40, 0x80, 0, 0, 0, 18, 2);
	SEND(f, 0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
	for (unsigned i = 0; i < 512; i++) {
		turn(f);
		assert_int_equal(inb_(f->m, MSR), 0xb0);
		outb_(f->m, FIFO, (uint8_t)(i ^ 0x5a));
	}
	turn(f);
	take(f, 7);
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(sector(f, 0, 0, 18)[i], (uint8_t)(i ^ 0x5a));
}

/* The channel is opened late, so the transfer stands in its middle. */
static void test_waits(void **state)
{
	struct fix *f = *state;

	start(f);
	program(f, true, 1024, false);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	turn(f);
	assert_false(f->irq.level);
	assert_int_equal(inb_(f->m, MSR), 0x10);
	assert_int_equal(inb_(f->m, 8) & 0xf0, 0x40);
	round_trip(f->m);
	outb_(f->m, 0x0a, 2);
	DONE(f, 0, 0, 0, 0, 0, 3, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 0, 0, 1), 1024);
	/* A reset takes it all back. */
	program(f, true, 1024, false);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	outb_(f->m, DOR, 0);
	assert_int_equal(inb_(f->m, 8) & 0xf0, 0);
	start(f);
	/* Set up for the wrong way: nothing moves, and nothing goes round and round. */
	program(f, false, 512, true);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	turn(f);
	assert_false(f->irq.level);
	program(f, true, 512, true);
	DONE(f, 0, 0, 0, 0, 0, 2, 2);
}

static void hold(struct fix *f, bool on)
{
	machine_lock(f->m);
	blk_mem_hold(f->image, on);
	machine_unlock(f->m);
}

static void test_saved(void **state)
{
	struct fix *f = *state;

	start(f);
	/* Between a command's bytes, and between those of its result. */
	SEND(f, 0x0f, 0);
	round_trip(f->m);
	assert_int_equal(inb_(f->m, MSR), 0x90);
	SEND(f, 33);
	round_trip(f->m);
	assert_true(f->irq.level);
	SEND(f, 0x08);
	assert_int_equal(inb_(f->m, FIFO), 0x20);
	round_trip(f->m);
	assert_int_equal(inb_(f->m, FIFO), 33);
	/* A request the disk has not answered. */
	hold(f, true);
	program(f, true, 1024, true);
	SEND(f, 0xe6, 0, 33, 0, 1, 2, 18, 0x1b, 0xff);
	loop_turn(f->m->loop, 0);
	round_trip(f->m);
	hold(f, false);
	DONE(f, 0, 0, 0, 33, 0, 3, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 33, 0, 1), 1024);
	/* A seek of the second drive that nobody has asked about, behind one of the first. */
	SEND(f, 0x0f, 0, 5);
	SEND(f, 0x0f, 1, 5);
	SEND(f, 0x08);
	WANT(f, 0x20, 5);
	round_trip(f->m);
	assert_true(f->irq.level);
	SEND(f, 0x08);
	WANT(f, 0x21, 0);
	assert_false(f->irq.level);
}

/* What does not go to the host is done with a sector as soon as the disk has answered, which it does while all else stands still. */
static void test_saved_when_done(void **state)
{
	static const uint8_t commands[][9] = {
		{ 0xc5, 0, 33, 0, 1, 2, 18, 0x1b, 0xff }, { 0x56, 0, 33, 0, 1, 2, 1, 0x1b, 0xff }, { 0x4d, 0, 2, 1, 0x54, 0xe5 },
	};
	struct fix *f = *state;

	start(f);
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
		seek(f, 33);
		memcpy(f->ram + BUF, (const uint8_t[]){ 33, 0, 1, 2 }, 4);
		program(f, false, i == 2 ? 4 : 512, true);
		hold(f, true);
		send(f, commands[i], i == 2 ? 6 : 9);
		loop_turn(f->m->loop, 0);
		round_trip(f->m);
		hold(f, false);
		turn(f);
		assert_true(f->irq.level);
		take(f, 7);
		assert_int_equal(f->result[0] | f->result[1] | f->result[2], 0);
	}
	for (unsigned i = 0; i < 512; i++)
		assert_int_equal(sector(f, 33, 0, 1)[i], 0xe5);
}

static void test_errors(void **state)
{
	struct fix *f = *state;

	start(f);
	machine_lock(f->m);
	blk_mem_fail_with(f->image, 2, -EIO, false);
	machine_unlock(f->m);
	program(f, true, 1024, true);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	DONE(f, 0x40, 0x20, 0x20, 0, 0, 2, 2);
	assert_memory_equal(f->ram + BUF, sector(f, 0, 0, 1), 512);
}

/* Kept, saved, and repeated by whom it was loaded into. */
static void test_kept(void **state)
{
	struct fix *f = *state;

	start(f);
	pattern(f->ram + BUF, 1024, 5);
	machine_lock(f->m);
	blk_mem_fail_with(f->image, 2, -EIO, false);
	machine_unlock(f->m);
	program(f, false, 1024, true);
	SEND(f, 0xc5, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	turn(f);
	assert_false(f->irq.level);
	assert_int_equal(disk_kept(i82078_disk(f->f, 0)), 1);
	round_trip(f->m);
	DONE(f, 0, 0, 0, 0, 0, 3, 2);
	assert_memory_equal(sector(f, 0, 0, 1), f->ram + BUF, 1024);
	assert_int_equal(disk_kept(i82078_disk(f->f, 0)), 0);
}

static struct blk_node *image_of(struct fix *f, uint64_t size)
{
	struct blk_node *n;

	if (!size) {
		assert_int_equal(blk_open_empty(f->m->loop, &n), 0);
		return n;
	}
	assert_int_equal(blk_open_mem(f->m->loop, size, &n), 0);
	pattern(blk_mem_data(n), size, 77);
	return n;
}

static void test_media(void **state)
{
	struct fix *f = *state;
	struct disk *d = i82078_disk(f->f, 0);
	struct blk_node *n, *bad;
	struct disk_media_state is;
	struct err e = { .msg = "" };

	start(f);
	seek(f, 1);
	seek(f, 0);
	/* Taken out in the middle of a transfer. */
	program(f, true, 512, true);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	machine_lock(f->m);
	assert_int_equal(d->media->remove(d), 0);
	d->media->state(d, &is);
	assert_true(is.no_medium);
	machine_unlock(f->m);
	DONE(f, 0, 0, 0, 0, 0, 2, 2);		/* what was on its way has come */
	assert_int_equal(inb_(f->m, CCR), 0x80);
	FAILS(f, 1, 0, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	seek(f, 1);
	assert_int_equal(inb_(f->m, CCR), 0x80);	/* still none */
	round_trip(f->m);
	bad = image_of(f, 2880u << 10);
	n = image_of(f, 720u << 10);
	machine_lock(f->m);
	assert_int_equal(d->media->insert(d, bad, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "2949120 bytes"));
	blk_close(bad);
	assert_int_equal(d->media->insert(d, n, &e), 0);
	machine_unlock(f->m);
	f->image = n;
	seek(f, 0);
	assert_int_equal(inb_(f->m, CCR), 0);
	FAILS(f, 1, 0, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	outb_(f->m, CCR, 2);
	program(f, true, 512, true);
	SEND(f, 0xe6, 4, 0, 1, 9, 2, 9, 0x1b, 0xff);
	DONE(f, 4, 0, 0, 1, 0, 1, 2);
	assert_memory_equal(f->ram + BUF, blk_mem_data(n) + 17 * 512, 512);
	assert_int_equal(i82078_kind(f->f, 0), I82078_1440K);
	round_trip(f->m);
}

/* Another sector was to come from it: that is not found, which is no error of the host's. */
static void test_taken_out(void **state)
{
	struct fix *f = *state;
	struct disk *d = i82078_disk(f->f, 0);
	struct blk_node *n = image_of(f, IMAGE);
	struct err e;

	start(f);
	program(f, true, 1024, true);
	hold(f, true);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	machine_lock(f->m);
	assert_int_equal(d->media->remove(d), 0);
	machine_unlock(f->m);
	DONE(f, 0x40, 0x01, 0, 0, 0, 2, 2);
	assert_int_equal(d->stats.errors, 0);
	/* Another one comes while the host's bytes are waited for, and is protected. */
	machine_lock(f->m);
	assert_int_equal(d->media->insert(d, n, &e), 0);
	machine_unlock(f->m);
	program(f, false, 512, false);
	SEND(f, 0xc5, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	machine_lock(f->m);
	assert_int_equal(d->media->remove(d), 0);
	n = image_of(f, IMAGE);
	n->i.read_only = true;
	assert_int_equal(d->media->insert(d, n, &e), 0);
	machine_unlock(f->m);
	outb_(f->m, 0x0a, 2);
	DONE(f, 0x40, 0x02, 0, 0, 0, 1, 2);
	assert_int_equal(d->stats.errors, 0);
}

/* What was to be repeated is not done to the next medium. */
static void test_kept_taken_out(void **state)
{
	struct fix *f = *state;
	struct disk *d = i82078_disk(f->f, 0);

	start(f);
	machine_lock(f->m);
	blk_mem_fail_with(f->image, 2, -EIO, false);
	machine_unlock(f->m);
	program(f, false, 1024, true);
	SEND(f, 0xc5, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	turn(f);
	machine_lock(f->m);
	assert_int_equal(disk_kept(d), 1);
	assert_int_equal(d->media->remove(d), 0);
	assert_int_equal(disk_kept(d), 0);
	machine_unlock(f->m);
	DONE(f, 0x40, 0x01, 0, 0, 0, 2, 2);
	round_trip(f->m);
}

static void test_kinds(void **state)
{
	static const struct { unsigned kib; enum i82078_kind kind; } all[] = {
		{ 160, I82078_1200K }, { 180, I82078_1200K }, { 320, I82078_1200K }, { 360, I82078_1200K }, { 1200, I82078_1200K },
		{ 720, I82078_1440K }, { 2880, I82078_2880K }, { 0, I82078_2880K },
	};
	const struct disk_opts o = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		struct fix *f = make(DISK_REPORT);
		struct blk_node *n = image_of(f, all[i].kib << 10), *odd = image_of(f, 1 << 20), *slot;
		struct err e = { .msg = "" };

		machine_lock(f->m);
		assert_int_equal(i82078_add(f->f, 1, "fd1", odd, &o, &e), -EINVAL);
		assert_non_null(strstr(e.msg, "1440K"));
		blk_close(odd);
		assert_int_equal(blk_slot_new(n, &slot), 0);
		assert_int_equal(i82078_add(f->f, 0, "fd1", slot, &o, &e), -EEXIST);
		if (i82078_add(f->f, 1, "fd1", slot, &o, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(i82078_kind(f->f, 1), all[i].kind);
		machine_unlock(f->m);
		start(f);
		round_trip(f->m);
		machine_free(f->m);
		free(f);
	}
}

/* A medium of 40 cylinders, by a driver that steps twice and by one that does not. */
static void test_double_step(void **state)
{
	const struct disk_opts o = { 0 };
	struct fix *f = *state;
	struct blk_node *n = image_of(f, 360u << 10), *slot;
	struct err e;

	machine_lock(f->m);
	assert_int_equal(blk_slot_new(n, &slot), 0);
	assert_int_equal(i82078_add(f->f, 1, "fd1", slot, &o, &e), 0);
	machine_unlock(f->m);
	start(f);
	outb_(f->m, CCR, 1);
	for (uint8_t at = 20; at <= 40; at += 20) {
		SEND(f, 0x0f, 1, at);
		SEND(f, 0x08);
		WANT(f, 0x21, at);
		program(f, true, 512, true);
		SEND(f, 0x46, 1, 20, 0, 9, 2, 9, 0x1b, 0xff);
		DONE(f, 1, 0, 0, 21, 0, 1, 2);
		assert_memory_equal(f->ram + BUF, blk_mem_data(n) + (20 * 18 + 8) * 512, 512);
	}
}

/* Any byte of the state of a transfer may be wrong: it is refused, or something that goes on and ends. */
static void test_damage(void **state)
{
	struct fix *f = *state;
	struct snap_out *o;
	const void *data;
	uint8_t *copy;
	size_t len;

	start(f);
	program(f, true, 1024, false);
	SEND(f, 0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	turn(f);
	assert_int_equal(snap_out_new(&o), 0);
	machine_lock(f->m);
	machine_pause_devs(f->m);
	assert_int_equal(machine_save_devs(f->m, o, NULL), 0);
	machine_resume_devs(f->m);
	machine_unlock(f->m);
	data = snap_out_data(o, &len);
	copy = malloc(len);
	for (size_t i = 0; i < 3 * len; i++) {
		struct snap_in *in;
		struct err e;

		memcpy(copy, data, len);
		copy[i % len] ^= (uint8_t)(i < len ? 0xff : i < 2 * len ? 1 : 0x10);
		assert_int_equal(snap_in_new(&in, copy, len), 0);
		machine_lock(f->m);
		machine_pause_devs(f->m);
		machine_reset_devs(f->m);
		if (machine_load_devs(f->m, in, &e))
			machine_reset_devs(f->m);
		machine_resume_devs(f->m);
		machine_unlock(f->m);
		snap_in_free(in);
		for (unsigned k = 0; k < 20; k++) {
			outb_(f->m, 0x0a, 2);
			loop_turn(f->m->loop, 0);
			inb_(f->m, FIFO);
			outb_(f->m, FIFO, 8);
		}
	}
	free(copy);
	snap_out_free(o);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_control), T(test_heads), T(test_read), T(test_not_found), T(test_write), T(test_format), T(test_verify_scan), T(test_bytes),
		T(test_waits), T(test_saved), T(test_saved_when_done), T(test_errors), T(test_media), T(test_taken_out), cmocka_unit_test(test_kinds), T(test_double_step), T(test_damage),
		cmocka_unit_test_setup_teardown(test_kept, setup_stop, teardown), cmocka_unit_test_setup_teardown(test_kept_taken_out, setup_stop, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
