/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The flash chip as OVMF's driver and the data sheet have it: detection, programs
 * and erasures that reach what keeps them, errors in the status register, the
 * memory map in array mode and out of it, and its state between two cycles.
 */
#include "chip.h"

#include "base/bits.h"
#include "chipset/pflash_cfi01.h"
#include "machine/mem.h"

#define BASE 0xffc00000ull
#define BLOCK 4096u
#define SIZE (4 * BLOCK)

struct fix {
	struct machine *m;
	struct mem_rom *rom;
	uint8_t kept[SIZE];
	unsigned stores;
	int fail;
};

static int keep(void *o, uint64_t off, const void *data, size_t len)
{
	struct fix *f = o;

	assert_true(off + len <= SIZE);
	f->stores++;
	if (f->fail)
		return f->fail;
	memcpy(f->kept + off, data, len);
	return 0;
}

static struct fix *fix_new(void)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct pflash_cfi01_config c = { .id = "pc.pflash", .base = BASE, .block = BLOCK, .store = keep, .opaque = f };
	struct err e;

	f->m = machine_make();
	assert_int_equal(mem_rom_new(f->m->mem, "vars", SIZE, &f->rom, &e), 0);
	memset(mem_rom_bytes(f->rom), 0xff, SIZE);
	memset(f->kept, 0xff, SIZE);
	mem_rom_bytes(f->rom)[0x10] = 0x5a;
	c.array = f->rom;
	assert_int_equal(pflash_cfi01_new(f->m, &c, &e), 0);
	return f;
}

static void fix_free(struct fix *f)
{
	machine_free(f->m);
	free(f);
}

/* As a CPU does: memory if there is some and it takes it, else the bus. */
static uint8_t rd(struct fix *f, uint32_t off)
{
	uint8_t b = 0;

	if (mem_read(f->m->mem, BASE + off, &b, 1))
		bus_access(f->m->mmio, BASE + off, &b, 1, false);
	return b;
}

static void wr(struct fix *f, uint32_t off, uint8_t v)
{
	assert_int_equal(mem_write(f->m->mem, BASE + off, &v, 1), -EFAULT);
	bus_access(f->m->mmio, BASE + off, &v, 1, true);
}

static bool in_memory(struct fix *f)
{
	uint8_t b;

	return mem_read(f->m->mem, BASE, &b, 1) == 0;
}

/* OVMF looks whether it has RAM, ROM or flash before it. */
static void detection(void **state)
{
	struct fix *f = fix_new();

	assert_int_equal(rd(f, 0x10), 0x5a);
	wr(f, 0x10, 0x50);
	assert_int_equal(rd(f, 0x10), 0x5a);		/* not RAM */
	wr(f, 0x10, 0x70);
	assert_int_equal(rd(f, 0x10), 0x00);		/* not ROM: flash, cleared */
	assert_false(in_memory(f));
	wr(f, 0x10, 0xff);
	assert_true(in_memory(f));
	assert_int_equal(rd(f, 0x10), 0x5a);
	fix_free(f);
}

static void identity(void **state)
{
	struct fix *f = fix_new();

	wr(f, 0, 0x90);
	assert_int_equal(rd(f, 0), 0x89);
	wr(f, 0, 0x98);
	assert_int_equal(rd(f, 0x10), 'Q');
	assert_int_equal(rd(f, 0x12), 'Y');
	assert_int_equal(1u << rd(f, 0x27), SIZE);
	assert_int_equal(rd(f, 0x2d), 3);
	assert_int_equal(rd(f, 0x2f) << 8 | rd(f, 0x30) << 16, BLOCK);
	assert_int_equal(rd(f, 0x60), 0);
	fix_free(f);
}

static void programs_and_erases(void **state)
{
	struct fix *f = fix_new();

	for (unsigned i = 0; i < 3; i++) {
		wr(f, 0x1000 + i, i ? 0x40 : 0x10);
		wr(f, 0x1000 + i, (uint8_t)(0xf0 + i));
		assert_int_equal(rd(f, 0), 0x80);
	}
	wr(f, 0, 0xff);
	assert_int_equal(rd(f, 0x1002), 0xf2);
	assert_int_equal(f->kept[0x1002], 0xf2);
	/* Bits are only cleared. */
	wr(f, 0x1000, 0x10);
	wr(f, 0x1000, 0x0f);
	assert_int_equal(f->kept[0x1000], 0);
	/* The block, and only that. */
	wr(f, 0x10, 0x10);
	wr(f, 0x10, 0x42);
	wr(f, 0x1abc, 0x20);
	wr(f, 0x1abc, 0xd0);
	assert_int_equal(rd(f, 0), 0x80);
	wr(f, 0, 0xff);
	assert_int_equal(rd(f, 0x1000), 0xff);
	assert_int_equal(f->kept[0x1002], 0xff);
	assert_int_equal(rd(f, 0x10), 0x42);
	fix_free(f);
}

static void buffered(void **state)
{
	struct fix *f = fix_new();

	wr(f, 0x2000, 0xe8);
	assert_int_equal(rd(f, 0x2000), 0x80);		/* there is a buffer */
	wr(f, 0x2000, 3);
	for (unsigned i = 0; i < 4; i++)
		wr(f, 0x2000 + i, (uint8_t)i);
	assert_int_equal(f->stores, 0);
	wr(f, 0x2000, 0xd0);
	wr(f, 0, 0xff);
	assert_int_equal(rd(f, 0x2003), 3);
	assert_int_equal(f->kept[0x2003], 3);
	/* Too long, and not confirmed: an error, and nothing is programmed. */
	wr(f, 0x3000, 0xe8);
	wr(f, 0x3000, 64);
	assert_int_equal(rd(f, 0), 0xb0);
	wr(f, 0, 0x50);
	wr(f, 0x3000, 0xe8);
	wr(f, 0x3000, 0);
	wr(f, 0x3000, 0x12);
	wr(f, 0x3000, 0xff);
	assert_int_equal(rd(f, 0), 0xb0);
	wr(f, 0, 0xff);
	assert_int_equal(rd(f, 0x3000), 0xff);
	fix_free(f);
}

static void errors(void **state)
{
	struct fix *f = fix_new();

	wr(f, 0, 0x20);				/* an erasure that is not confirmed */
	wr(f, 0, 0x12);
	assert_int_equal(rd(f, 0), 0xb0);
	wr(f, 0, 0x50);
	f->fail = -ENOSPC;			/* the host cannot keep it */
	wr(f, 0, 0x40);
	wr(f, 0, 0x00);
	assert_int_equal(rd(f, 0), 0x90);
	wr(f, 0, 0x50);
	wr(f, 0, 0x20);
	wr(f, 0, 0xd0);
	assert_int_equal(rd(f, 0), 0xa0);
	machine_reset_devs(f->m);
	assert_true(in_memory(f));
	fix_free(f);
}

/* From one to the other, which must take all that a chip can come to. */
static void save_load(struct fix *from, struct fix *to)
{
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	size_t len;

	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(from->m, o, NULL), 0);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(machine_load_devs(to->m, in, &e), 0);
	snap_in_free(in);
	snap_out_free(o);
}

/* Between the cycles of a buffered program. */
static void saved(void **state)
{
	struct fix *f = fix_new(), *g = fix_new();

	wr(f, 0x2000, 0xe8);
	wr(f, 0x2000, 1);
	wr(f, 0x2004, 0x77);
	save_load(f, g);
	assert_false(in_memory(g));
	assert_int_equal(g->kept[0x10], 0x5a);
	wr(g, 0x2005, 0x66);
	wr(g, 0x2000, 0xd0);
	assert_int_equal(g->kept[0x2004], 0x77);
	assert_int_equal(g->kept[0x2005], 0x66);
	fix_free(f);
	fix_free(g);
}

/* A length that was refused is not waited for. */
static void saved_after_too_long(void **state)
{
	struct fix *f = fix_new(), *g = fix_new();

	wr(f, 0x3000, 0xe8);
	wr(f, 0x3000, 0x9f);
	save_load(f, g);
	assert_int_equal(rd(g, 0), 0xb0);
	fix_free(f);
	fix_free(g);
}

static void bad_configurations(void **state)
{
	struct machine *m = machine_make();
	struct pflash_cfi01_config c = { .id = "x", .base = BASE, .block = 8192 };
	struct err e;

	assert_int_equal(mem_rom_new(m->mem, "odd", 5000, &c.array, &e), -EINVAL);
	assert_int_equal(mem_rom_new(m->mem, "vars", 3 * BLOCK, &c.array, &e), 0);
	assert_int_equal(pflash_cfi01_new(m, &c, &e), -EINVAL);
	c.block = 3000;
	assert_int_equal(pflash_cfi01_new(m, &c, &e), -EINVAL);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(detection), cmocka_unit_test(identity), cmocka_unit_test(programs_and_erases),
		cmocka_unit_test(buffered), cmocka_unit_test(errors), cmocka_unit_test(saved),
		cmocka_unit_test(saved_after_too_long),
		cmocka_unit_test(bad_configurations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
