/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Q35 host bridge and the ICH9 LPC bridge as firmware drives them: what each
 * PAM value shows between 768 KiB and 1 MiB, that changes of one segment leave the
 * others where they are, the configuration window, SMRAM's lock, interrupt
 * routing, and saved state.
 */
#include "../unit.h"

#include "base/bits.h"
#include "device/ich9_lpc.h"
#include "device/q35_mch.h"

#define MIB (1ull << 20)
#define ROM_SIZE 0x40000u

struct fix {
	struct machine *m;
	struct pci_bus *root;
	struct q35_mch *mch;
	struct ich9_lpc *lpc;
	struct mem_rom *rom;
	struct mem_listener listener;
	unsigned added, removed, routed;
	int wire[4];
};

static void on_added(void *o, const struct mem_range *r) { ((struct fix *)o)->added++; }
static void on_removed(void *o, const struct mem_range *r) { ((struct fix *)o)->removed++; }
static void routed(void *o) { ((struct fix *)o)->routed++; }
static void set_wire(void *o, int n, bool level) { ((struct fix *)o)->wire[n] = level; }

static struct fix *fix_new(void)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct ich9_lpc_config lc = { .devfn = 0xf8, .pmbase = 0x600, .routed = routed, .opaque = f };
	struct pci_root_config c = { .cf8 = true, .bridge = q35_mch_ids, .chipset_slot = 25 };
	struct err e;

	for (int i = 0; i < 4; i++)
		c.intx[i] = (struct irq){ .set = set_wire, .opaque = f, .n = i };
	assert_int_equal(machine_new(&f->m, true), 0);
	assert_int_equal(mem_create_ram(f->m->mem, 2 * MIB, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(pci_root_new(f->m, &c, &f->root, &e), 0);
	assert_int_equal(q35_mch_new(f->m, f->root, &f->mch, &e), 0);
	assert_int_equal(ich9_lpc_new(f->m, f->root, &lc, &f->lpc, &e), 0);
	assert_int_equal(mem_rom_new(f->m->mem, "bios", ROM_SIZE, &f->rom, &e), 0);
	for (unsigned i = 0; i < ROM_SIZE; i++)
		mem_rom_bytes(f->rom)[i] = (uint8_t)(i >> 12 | 0x80);
	memset(mem_ram_host(f->m->mem) + 0xc0000, 0x11, 0x40000);
	machine_reset_devs(f->m);
	return f;
}

static void fix_free(struct fix *f)
{
	if (f->listener.opaque)
		mem_unlisten(f->m->mem, &f->listener);
	machine_free(f->m);
	free(f);
}

static uint32_t config(struct fix *f, unsigned devfn, unsigned off, unsigned len)
{
	return pci_config_read(pci_find(f->root, 0, devfn), off, len);
}

static void set(struct fix *f, unsigned devfn, unsigned off, unsigned len, uint32_t v)
{
	pci_config_write(pci_find(f->root, 0, devfn), off, len, v);
}

/* The byte a guest reads there; -1: nothing is there. */
static int byte_at(struct fix *f, uint64_t gpa)
{
	uint8_t b;

	return mem_read(f->m->mem, gpa, &b, 1) ? -1 : b;
}

static void identity(void **state)
{
	struct fix *f = fix_new();

	assert_int_equal(config(f, 0, 0, 4), 0x29c08086);
	assert_int_equal(config(f, 0, 0x2c, 4), 0x11001af4);
	assert_int_equal(config(f, 0xf8, 0, 4), 0x29188086);
	assert_int_equal(config(f, 0xf8, 8, 4) >> 8, 0x060100);
	assert_int_equal(config(f, 0xf8, 0x40, 4), 0x601);
	fix_free(f);
}

static void pam(void **state)
{
	struct fix *f = fix_new();
	struct err e;

	assert_int_equal(byte_at(f, 0xf0000), -1);	/* no firmware yet */
	q35_mch_set_bios(f->mch, f->rom);
	/* The last 128 KiB, and nothing below. */
	assert_int_equal(byte_at(f, 0xe0000), 0x80 | 0x20);
	assert_int_equal(byte_at(f, 0xfffff), 0x80 | 0x3f);
	assert_int_equal(byte_at(f, 0xdffff), -1);
	assert_int_equal(mem_write(f->m->mem, 0xf0000, "x", 1), -EFAULT);
	/* PAM4: d8000 RAM, dc000 RAM that cannot be written. */
	set(f, 0, 0x94, 1, 0x13);
	assert_int_equal(byte_at(f, 0xd8000), 0x11);
	assert_int_equal(mem_write(f->m->mem, 0xd8000, "x", 1), 0);
	assert_int_equal(byte_at(f, 0xdc000), 0x11);
	assert_int_equal(mem_write(f->m->mem, 0xdc000, "x", 1), -EFAULT);
	/* PAM0: the last 64 KiB in one; the segments before keep the ROM. */
	set(f, 0, 0x90, 1, 0xff);
	assert_int_equal(config(f, 0, 0x90, 1), 0x30);
	assert_int_equal(byte_at(f, 0xf0000), 0x11);
	assert_int_equal(byte_at(f, 0xfffff), 0x11);
	assert_int_equal(byte_at(f, 0xeffff), 0x80 | 0x2f);
	/* Write enable alone shows the ROM. */
	set(f, 0, 0x90, 1, 0x20);
	assert_int_equal(byte_at(f, 0xf0000), 0x80 | 0x30);
	/* A reset brings the ROM back. */
	machine_reset_devs(f->m);
	assert_int_equal(byte_at(f, 0xd8000), -1);
	assert_int_equal(byte_at(f, 0xf0000), 0x80 | 0x30);
	/* A ROM shorter than 128 KiB begins later. */
	assert_int_equal(mem_rom_new(f->m->mem, "small", 0x10000, &f->rom, &e), 0);
	q35_mch_set_bios(f->mch, f->rom);
	assert_int_equal(byte_at(f, 0xeffff), -1);
	assert_int_equal(byte_at(f, 0xf0000), 0);
	fix_free(f);
}

/* Only ranges that differ are taken away and put there. */
static void pam_is_cheap(void **state)
{
	struct fix *f = fix_new();

	q35_mch_set_bios(f->mch, f->rom);
	q35_mch_init(f->mch, 0);
	f->listener = (struct mem_listener){ .added = on_added, .removed = on_removed, .opaque = f };
	mem_listen(f->m->mem, &f->listener);
	assert_int_equal(f->added, 1);		/* 768 KiB to 1 MiB in one piece */
	for (unsigned i = 0; i < 7; i++)	/* the same again: nothing happens */
		set(f, 0, 0x90 + i, 1, 0x33);
	assert_int_equal(f->added + f->removed, 1);
	set(f, 0, 0x90, 1, 0x10);		/* the last segment alone: the piece is cut in two */
	assert_int_equal(f->added, 3);
	assert_int_equal(f->removed, 1);
	set(f, 0, 0x90, 1, 0x00);
	assert_int_equal(f->added, 4);
	assert_int_equal(f->removed, 2);
	assert_int_equal(byte_at(f, 0xc0000), 0x11);
	fix_free(f);
}

static void smram_lock(void **state)
{
	struct fix *f = fix_new();

	set(f, 0, 0x9d, 1, 0x48);
	assert_int_equal(config(f, 0, 0x9d, 1), 0x4a);
	set(f, 0, 0x9d, 1, 0x5a);		/* locking closes it */
	assert_int_equal(config(f, 0, 0x9d, 1), 0x1a);
	set(f, 0, 0x9d, 2, 0);
	assert_int_equal(config(f, 0, 0x9d, 2), 0x381a);
	machine_reset_devs(f->m);
	assert_int_equal(config(f, 0, 0x9d, 1), 0x02);
	set(f, 0, 0x9d, 1, 0x48);
	assert_int_equal(config(f, 0, 0x9d, 1), 0x4a);
	fix_free(f);
}

static uint32_t mmio(struct fix *f, uint64_t at)
{
	uint32_t v = 0;

	bus_access_locked(f->m->mmio, at, &v, 4, false);
	return v;
}

static void ecam(void **state)
{
	struct fix *f = fix_new();
	unsigned buses;

	assert_int_equal(q35_mch_ecam(f->mch, &buses), 0);
	set(f, 0, 0x64, 4, 0);
	set(f, 0, 0x60, 4, 0xb0000001);
	assert_int_equal(q35_mch_ecam(f->mch, &buses), 0xb0000000);
	assert_int_equal(buses, 256);
	assert_int_equal(mmio(f, 0xb0000000), 0x29c08086);
	assert_int_equal(mmio(f, 0xb00f8000), 0x29188086);
	/* Bits below the length do not count. */
	set(f, 0, 0x60, 4, 0xec000005);
	assert_int_equal(q35_mch_ecam(f->mch, &buses), 0xec000000);
	assert_int_equal(buses, 64);
	assert_int_equal(mmio(f, 0xb0000000), 0xffffffff);
	assert_int_equal(mmio(f, 0xec000000), 0x29c08086);
	set(f, 0, 0x60, 4, 0xec000001);
	assert_int_equal(q35_mch_ecam(f->mch, &buses), 0xe0000000);
	set(f, 0, 0x60, 4, 0xec000007);		/* a reserved length */
	assert_int_equal(mmio(f, 0xe0000000), 0xffffffff);
	/* Through itself, too: the window goes away under the access. */
	set(f, 0, 0x60, 4, 0xb0000001);
	bus_access_locked(f->m->mmio, 0xb0000060, &(uint32_t){ 0 }, 4, true);
	assert_int_equal(mmio(f, 0xb0000000), 0xffffffff);
	fix_free(f);
}

static void routing(void **state)
{
	struct fix *f = fix_new();
	unsigned before = f->routed;

	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(ich9_lpc_route(f->lpc, i), -1);
	set(f, 0xf8, 0x60, 4, 0x0b0b0a0a);
	set(f, 0xf8, 0x68, 2, 0x8305);
	assert_int_equal(f->routed, before + 2);
	assert_int_equal(ich9_lpc_route(f->lpc, 1), 10);
	assert_int_equal(ich9_lpc_route(f->lpc, 2), 11);
	assert_int_equal(ich9_lpc_route(f->lpc, 4), 5);
	assert_int_equal(ich9_lpc_route(f->lpc, 5), -1);	/* switched off */
	set(f, 0xf8, 0x60, 1, 0x0d);
	assert_int_equal(ich9_lpc_route(f->lpc, 0), -1);	/* reserved */
	fix_free(f);
}

static void rcrb(void **state)
{
	struct fix *f = fix_new();
	uint32_t v = 0;

	assert_int_equal(mmio(f, 0xfed1f410), 0xffffffff);
	set(f, 0xf8, 0xf0, 4, 0xfed1ffff);
	assert_int_equal(config(f, 0xf8, 0xf0, 4), 0xfed1c001);
	assert_int_equal(mmio(f, 0xfed1f410), 0x20);
	bus_access_locked(f->m->mmio, 0xfed1f410, &v, 4, true);
	assert_int_equal(mmio(f, 0xfed1f410), 0x20);		/* the strap stays */
	v = 0x12345678;
	bus_access_locked(f->m->mmio, 0xfed1fffc, &v, 4, true);
	assert_int_equal(mmio(f, 0xfed1fffc), v);
	set(f, 0xf8, 0xf0, 4, 0);
	assert_int_equal(mmio(f, 0xfed1fffc), 0xffffffff);
	fix_free(f);
}

/* The state of one machine in another: memory, window, routing and lock are as they were. */
static void saved(void **state)
{
	struct fix *f = fix_new(), *g = fix_new();
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { 0 };
	const void *p;
	unsigned buses;
	uint32_t v = 0xabcd;
	size_t len;

	q35_mch_set_bios(f->mch, f->rom);
	q35_mch_set_bios(g->mch, g->rom);
	q35_mch_init(f->mch, 0xb0000000);
	set(f, 0, 0x90, 1, 0x10);
	set(f, 0, 0x9d, 1, 0x18);
	ich9_lpc_init(f->lpc, 10, 11);
	set(f, 0xf8, 0xf0, 4, 0xfed1c001);
	bus_access_locked(f->m->mmio, 0xfed1c100, &v, 4, true);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(f->m, o, NULL), 0);
	p = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, p, len), 0);
	assert_int_equal(machine_load_devs(g->m, in, &e), 0);
	assert_int_equal(byte_at(g, 0xf0000), 0x11);
	assert_int_equal(mem_write(g->m->mem, 0xf0000, "x", 1), -EFAULT);
	assert_int_equal(mem_write(g->m->mem, 0xe0000, "x", 1), 0);
	assert_int_equal(q35_mch_ecam(g->mch, &buses), 0xb0000000);
	assert_int_equal(mmio(g, 0xb0000000), 0x29c08086);
	assert_int_equal(ich9_lpc_route(g->lpc, 3), 11);
	assert_int_equal(mmio(g, 0xfed1c100), 0xabcd);
	set(g, 0, 0x9d, 1, 0);
	assert_int_equal(config(g, 0, 0x9d, 1), 0x1a);
	snap_in_free(in);
	snap_out_free(o);
	fix_free(f);
	fix_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(identity), cmocka_unit_test(pam), cmocka_unit_test(pam_is_cheap),
		cmocka_unit_test(smram_lock), cmocka_unit_test(ecam), cmocka_unit_test(routing),
		cmocka_unit_test(rcrb), cmocka_unit_test(saved),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
