/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * PCI functions as a guest meets them: configuration mechanisms, BAR sizing and
 * mapping, interrupts, bridges, firmware-less assignment, saved state, and that
 * random writes are survived.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "pci/pci.h"

#define ECAM 0xe0000000ull
#define VECTORS 70
#define BAR2_SIZE 0x4000
#define TABLE 0x1000
#define PBA 0x2000

struct func {
	struct pci_dev pci;
	unsigned bars_changed, written;
	uint32_t reg[3];		/* a register in each BAR */
};

struct fix {
	struct machine *m;
	struct pci_bus *root;
	struct func *f;
	int wire[4];
	unsigned n_msi;
	struct msi last;
};

/* ---- a function with everything ---- */

static struct func *of(struct dev *d)
{
	return container_of(d, struct func, pci.dev);
}

static void func_reset(struct dev *d) { pci_dev_reset(&of(d)->pci); }
static int func_save(struct dev *d, struct snap_out *o) { return pci_dev_save(&of(d)->pci, o); }
static int func_load(struct dev *d, struct snap_in *in, struct err *e) { return pci_dev_load(&of(d)->pci, in, e); }
static void func_free(struct dev *d)
{
	pci_dev_fini(&of(d)->pci);
	free(of(d));
}
static void func_bars(struct pci_dev *p) { container_of(p, struct func, pci)->bars_changed++; }
static void func_written(struct pci_dev *p, unsigned off, unsigned len)
{
	container_of(p, struct func, pci)->written++;
}

static const struct pci_dev_ops func_ops = {
	.dev = { .name = "test-function", .reset = func_reset, .save = func_save, .load = func_load,
		 .free = func_free },
	.config_written = func_written,
	.bars_changed = func_bars,
};

static uint64_t reg_read(void *opaque, uint64_t off, unsigned len)
{
	return off ? 0 : *(uint32_t *)opaque;
}

static void reg_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	if (!off)
		*(uint32_t *)opaque = v;
}

static const struct bus_ops reg_ops = { .read = reg_read, .write = reg_write, .min_len = 4, .max_len = 4 };

static uint64_t x_read(void *opaque, uint64_t off, unsigned len) { return pci_msix_read(opaque, off, len); }
static void x_write(void *opaque, uint64_t off, unsigned len, uint64_t v) { pci_msix_write(opaque, off, len, v); }
static const struct bus_ops x_ops = { .read = x_read, .write = x_write };

static const struct pci_ids func_ids = { .vendor = 0x1234, .device = 0x5678, .sub_vendor = 0x9abc,
					 .sub_device = 0xdef0, .class24 = 0x020304, .revision = 7 };
static const struct pci_ids bridge_ids = { .vendor = 0x1234, .device = 1, .class24 = 0x060400 };

static struct func *func_new(struct fix *x, struct pci_bus *bus, int devfn)
{
	struct func *f = calloc(1, sizeof(*f));
	struct pci_dev *p = &f->pci;

	assert_int_equal(pci_dev_init(p, x->m, bus, devfn, &func_ops, &func_ids, NULL), 0);
	assert_int_equal(pci_dev_add_bar(p, 0, PCI_BAR_IO, false, 32, &reg_ops, &f->reg[0]), 0);
	assert_int_equal(pci_dev_add_bar(p, 1, PCI_BAR_MEM32, false, 0x1000, &reg_ops, &f->reg[1]), 0);
	assert_int_equal(pci_dev_add_bar(p, 2, PCI_BAR_MEM64, true, BAR2_SIZE, &x_ops, p), 0);
	assert_int_equal(pci_dev_add_bar(p, 3, PCI_BAR_MEM32, false, 16, &reg_ops, p), -EINVAL);	/* upper half */
	assert_int_equal(pci_dev_add_bar(p, 4, PCI_BAR_MEM32, false, 24, &reg_ops, p), -EINVAL);
	assert_int_equal(pci_dev_add_msix(p, VECTORS, 2, TABLE, PBA), 0);
	assert_int_equal(pci_dev_add_msi(p, 8), 0);
	pci_dev_add_pcie(p, 9);
	pci_dev_use_intx(p, 1);
	pci_dev_ready(p);
	return f;
}

/* ---- fixture ---- */

static void wire_set(void *opaque, int n, bool level)
{
	((struct fix *)opaque)->wire[n] = level;
}

static int msi(void *opaque, const struct msi *msg)
{
	struct fix *x = opaque;

	x->n_msi++;
	x->last = *msg;
	return 0;
}

static void machine_up(struct fix *x)
{
	struct pci_root_config cfg = { .ecam_base = ECAM, .ecam_buses = 256, .cf8 = true,
				       .mmio32_base = 0xc0000000, .mmio32_size = 0x10000000,
				       .mmio64_base = 0x4000000000, .mmio64_size = 0x4000000000,
				       .io_base = 0xc000, .io_size = 0x4000 };

	assert_int_equal(machine_new(&x->m, true), 0);
	x->m->msi = msi;
	x->m->msi_opaque = x;
	for (int i = 0; i < 4; i++)
		cfg.intx[i] = (struct irq){ wire_set, x, i };
	machine_lock(x->m);
	assert_int_equal(pci_root_new(x->m, &cfg, &x->root, NULL), 0);
	x->f = func_new(x, x->root, PCI_ANY_DEVFN);
}

static void machine_down(struct fix *x)
{
	machine_unlock(x->m);
	machine_free(x->m);
}

static int setup(void **state)
{
	struct fix *x = calloc(1, sizeof(*x));

	machine_up(x);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	machine_down(*state);
	free(*state);
	return 0;
}

static uint32_t io(struct fix *x, bool mmio, uint64_t addr, unsigned len, bool write, uint32_t v)
{
	uint8_t buf[4];

	st_le32(buf, v);
	bus_access_locked(mmio ? x->m->mmio : x->m->pio, addr, buf, len, write);
	return ld_le(buf, len);
}
#define pio_rd(x, a, n) io(x, false, a, n, false, 0)
#define pio_wr(x, a, n, v) io(x, false, a, n, true, v)
#define mem_rd(x, a, n) io(x, true, a, n, false, 0)
#define mem_wr(x, a, n, v) io(x, true, a, n, true, v)

static uint64_t cfg_at(const struct func *f, unsigned off)
{
	return ECAM + ((uint64_t)f->pci.devfn << 12) + off;
}
#define cr(x, off, n) mem_rd(x, cfg_at((x)->f, off), n)
#define cw(x, off, n, v) mem_wr(x, cfg_at((x)->f, off), n, v)

/* ---- configuration mechanisms ---- */

static void byte_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	*(uint8_t *)opaque = v;
}

static void both_mechanisms_reach_the_function(void **state)
{
	static const struct bus_ops byte_ops = { .write = byte_write, .min_len = 1, .max_len = 1 };
	uint8_t reset = 0;
	struct bus_region cf9 = { .name = "reset", .ops = &byte_ops, .opaque = &reset, .base = 0xcf9, .size = 1 };
	struct fix *x = *state;

	assert_int_equal(x->f->pci.devfn, PCI_DEVFN(1, 0));
	assert_int_equal(cr(x, 0, 4), 0x56781234);
	assert_int_equal(cr(x, 8, 4), 0x02030407);
	assert_int_equal(cr(x, 0x2c, 4), 0xdef09abc);
	pio_wr(x, 0xcf8, 4, 0x80000000 | 1 << 11);
	assert_int_equal(pio_rd(x, 0xcf8, 4), 0x80000800);
	assert_int_equal(pio_rd(x, 0xcfc, 4), 0x56781234);
	assert_int_equal(pio_rd(x, 0xcfe, 2), 0x5678);
	assert_int_equal(pio_rd(x, 0xcff, 1), 0x56);
	pio_wr(x, 0xcf8, 4, 0x80000000 | 1 << 11 | 0x3c);
	pio_wr(x, 0xcfc, 1, 11);
	assert_int_equal(cr(x, 0x3c, 1), 11);
	/* Bytes of CF8..CFB are not for the address register, and it answers
	 * around the chip that has one of them. */
	assert_int_equal(bus_add(x->m->pio, &cf9), 0);
	pio_wr(x, 0xcf9, 1, 6);
	assert_int_equal(reset, 6);
	pio_wr(x, 0xcfa, 2, 0);
	assert_int_equal(pio_rd(x, 0xcf8, 4), 0x8000083c);
	pio_wr(x, 0xcf8, 4, 0x8000083c);
	assert_int_equal(reset, 6);
	bus_del(&cf9);
	/* Disabled: nobody answers. */
	pio_wr(x, 0xcf8, 4, 1 << 11);
	assert_int_equal(pio_rd(x, 0xcfc, 4), 0xffffffff);
}

static void nothing_reads_as_ones(void **state)
{
	struct fix *x = *state;

	assert_int_equal(mem_rd(x, ECAM + (2 << 15), 4), 0xffffffff);
	assert_int_equal(mem_rd(x, ECAM + (200 << 20), 2), 0xffff);
	assert_int_equal(mem_rd(x, ECAM, 4), 0x00081b36);
	mem_wr(x, ECAM + (2 << 15), 4, 5);
}

static void read_only_bits_stay(void **state)
{
	struct fix *x = *state;

	for (unsigned off = 0; off < 0x40; off += 4)
		cw(x, off, 4, 0xffffffff);
	assert_int_equal(cr(x, 0, 4), 0x56781234);
	assert_int_equal(cr(x, 4, 2), 0x0547);
	assert_int_equal(cr(x, 8, 4), 0x02030407);
	assert_int_equal(cr(x, 0x34, 1), 0x40);
	assert_int_equal(cr(x, 0x3d, 1), 1);
	assert_int_equal(cr(x, 0xffe, 2), 0);
}

static void capabilities_are_linked_in_order(void **state)
{
	static const uint8_t want[] = { PCI_CAP_ID_MSIX, PCI_CAP_ID_MSI, PCI_CAP_ID_PCIE };
	struct fix *x = *state;
	unsigned at = cr(x, 0x34, 1), n = 0;

	assert_true(cr(x, 6, 2) & 0x10);
	for (; at; at = cr(x, at + 1, 1)) {
		assert_true(n < ARRAY_LEN(want));
		assert_int_equal(cr(x, at, 1), want[n++]);
		assert_int_equal(at & 3, 0);
	}
	assert_int_equal(n, ARRAY_LEN(want));
}

static void extended_capabilities_are_linked(void **state)
{
	struct fix *x = *state;
	uint8_t body[] = { 1, 2, 3, 4 };

	assert_int_equal(pci_dev_add_ext_cap(&x->f->pci, 3, 1, body, 4), 0x100);
	assert_int_equal(pci_dev_add_ext_cap(&x->f->pci, 0xb, 2, body, 3), 0x108);
	assert_int_equal(cr(x, 0x100, 4), 0x10810003);
	assert_int_equal(cr(x, 0x104, 4), 0x04030201);
	assert_int_equal(cr(x, 0x108, 4), 0x0002000b);
	assert_int_equal(pci_dev_add_ext_cap(&x->f->pci, 3, 1, NULL, 4090), -ENOSPC);
}

/* ---- BARs ---- */

static void bars_are_sized_by_writing_ones(void **state)
{
	struct fix *x = *state;

	for (unsigned n = 0; n < 6; n++)
		cw(x, PCI_BAR(n), 4, 0xffffffff);
	assert_int_equal(cr(x, PCI_BAR(0), 4), 0xffffffe1);
	assert_int_equal(cr(x, PCI_BAR(1), 4), 0xfffff000);
	assert_int_equal(cr(x, PCI_BAR(2), 4), 0xffffc00c);
	assert_int_equal(cr(x, PCI_BAR(3), 4), 0xffffffff);
	assert_int_equal(cr(x, PCI_BAR(4), 4), 0);
}

static void bars_are_mapped_where_they_say(void **state)
{
	struct fix *x = *state;

	cw(x, PCI_BAR(0), 4, 0xc100);
	cw(x, PCI_BAR(1), 4, 0xd0000000);
	cw(x, PCI_BAR(2), 4, 0x10000000);
	cw(x, PCI_BAR(3), 4, 0x40);
	assert_int_equal(pci_bar_addr(&x->f->pci, 0), UINT64_MAX);
	cw(x, 4, 2, 3);
	assert_int_equal(pci_bar_addr(&x->f->pci, 0), 0xc100);
	assert_int_equal(pci_bar_addr(&x->f->pci, 1), 0xd0000000);
	assert_int_equal(pci_bar_addr(&x->f->pci, 2), 0x4010000000);
	pio_wr(x, 0xc100, 4, 0x11);
	mem_wr(x, 0xd0000000, 4, 0x22);
	assert_int_equal(x->f->reg[0], 0x11);
	assert_int_equal(x->f->reg[1], 0x22);
	assert_int_equal(mem_rd(x, 0x4010000000 + TABLE + 12, 4), 1);
	/* moved while enabled; a half-written place is one too */
	cw(x, PCI_BAR(1), 4, 0xd1000000);
	assert_int_equal(mem_rd(x, 0xd0000000, 4), 0xffffffff);
	assert_int_equal(mem_rd(x, 0xd1000000, 4), 0x22);
	/* sized while enabled: not mapped, then back */
	cw(x, PCI_BAR(1), 4, 0xffffffff);
	assert_int_equal(pci_bar_addr(&x->f->pci, 1), UINT64_MAX);
	cw(x, PCI_BAR(1), 4, 0xd1000000);
	assert_int_equal(mem_rd(x, 0xd1000000, 4), 0x22);
	/* decoding off */
	cw(x, 4, 2, 1);
	assert_int_equal(mem_rd(x, 0xd1000000, 4), 0xffffffff);
	assert_int_equal(pio_rd(x, 0xc100, 4), 0x11);
	assert_true(x->f->bars_changed >= 5);
}

/* Two BARs at one place: one loses until the other leaves. */
static void taken_place_is_taken_over_later(void **state)
{
	struct fix *x = *state;
	struct func *g = func_new(x, x->root, PCI_ANY_DEVFN);

	x->f->reg[1] = 1;
	g->reg[1] = 2;
	cw(x, PCI_BAR(1), 4, 0xd0000000);
	cw(x, 4, 2, 2);
	mem_wr(x, cfg_at(g, PCI_BAR(1)), 4, 0xd0000000);
	mem_wr(x, cfg_at(g, 4), 2, 2);
	assert_int_equal(mem_rd(x, 0xd0000000, 4), 1);
	assert_int_equal(pci_bar_addr(&g->pci, 1), UINT64_MAX);
	cw(x, PCI_BAR(1), 4, 0xd2000000);
	assert_int_equal(mem_rd(x, 0xd0000000, 4), 2);
	assert_int_equal(mem_rd(x, 0xd2000000, 4), 1);
}

static void reset_unmaps_and_restores(void **state)
{
	struct fix *x = *state;

	cw(x, PCI_BAR(1), 4, 0xd0000000);
	cw(x, 4, 2, 0x406);
	cw(x, 0x3c, 1, 9);
	machine_reset_devs(x->m);
	assert_int_equal(cr(x, 4, 2), 0);
	assert_int_equal(cr(x, PCI_BAR(1), 4), 0);
	assert_int_equal(cr(x, 0x3c, 1), 0);
	assert_int_equal(mem_rd(x, 0xd0000000, 4), 0xffffffff);
}

/* ---- the expansion ROM ---- */

#define ROM_AT 0xd8000000u

static void rom_add(struct func *f)
{
	uint8_t data[5000];

	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 1);
	assert_int_equal(pci_dev_add_rom(&f->pci, data, sizeof(data), NULL), 0);
	assert_int_equal(pci_dev_add_rom(&f->pci, data, sizeof(data), NULL), -EEXIST);
}

/* PCI 3.0, 6.2.5.2: sized by ones above bit 10; decoded when both enable bits are set. */
static void rom_is_sized_and_mapped(void **state)
{
	struct fix *x = *state;
	uint8_t b[4];

	cw(x, PCI_ROM, 4, 0xffffffff);
	assert_int_equal(cr(x, PCI_ROM, 4), 0);			/* none yet */
	assert_int_equal(pci_dev_add_rom(&x->f->pci, b, 0, NULL), -EINVAL);
	rom_add(x->f);
	cw(x, PCI_ROM, 4, 0xfffff800);
	assert_int_equal(cr(x, PCI_ROM, 4), 0xffffe000);
	cw(x, PCI_ROM, 4, 0xffffffff);
	assert_int_equal(cr(x, PCI_ROM, 4), 0xffffe001);
	cw(x, 4, 2, 2);
	assert_int_equal(pci_rom_addr(&x->f->pci), UINT64_MAX);	/* it is being sized */
	cw(x, PCI_ROM, 4, ROM_AT);
	assert_int_equal(pci_rom_addr(&x->f->pci), UINT64_MAX);
	cw(x, PCI_ROM, 1, 1);
	assert_int_equal(pci_rom_addr(&x->f->pci), ROM_AT);
	/* Memory, and the bus behind it; nothing can be written. */
	assert_int_equal(mem_read(x->m->mem, ROM_AT + 4998, b, 4), 0);
	assert_int_equal(ld_le32(b), (4998 * 7 + 1) % 256 | (4999 * 7 + 1) % 256 << 8);
	assert_int_equal(mem_write(x->m->mem, ROM_AT, b, 4), -EFAULT);
	mem_wr(x, ROM_AT + 4, 4, 0);
	assert_int_equal(mem_rd(x, ROM_AT + 4, 1), 4 * 7 + 1);
	cw(x, PCI_ROM, 4, ROM_AT + 0x10001);
	assert_int_equal(mem_read(x->m->mem, ROM_AT, b, 4), -EFAULT);
	assert_int_equal(mem_read(x->m->mem, ROM_AT + 0x10000, b, 4), 0);
	cw(x, 4, 2, 0);
	assert_int_equal(mem_read(x->m->mem, ROM_AT + 0x10000, b, 4), -EFAULT);
	assert_int_equal(mem_rd(x, ROM_AT + 0x10000, 4), 0xffffffff);
	cw(x, 4, 2, 2);
	assert_int_equal(pci_rom_addr(&x->f->pci), ROM_AT + 0x10000);
	machine_reset_devs(x->m);
	assert_int_equal(cr(x, PCI_ROM, 4), 0);
	assert_int_equal(mem_read(x->m->mem, ROM_AT + 0x10000, b, 4), -EFAULT);
	assert_true(x->f->bars_changed >= 5);
}

/* RAM wins; a place that another BAR has is taken over when that one leaves. */
static void rom_gives_way(void **state)
{
	struct fix *x = *state;
	struct func *g = func_new(x, x->root, PCI_ANY_DEVFN);
	uint8_t b[4];

	rom_add(x->f);
	assert_int_equal(mem_create_ram(x->m->mem, 0x10000, MEM_HUGE_NONE, NULL), 0);
	assert_int_equal(mem_add_ram(x->m->mem, "ram", 0x1000, 0, 0x10000, NULL), 0);
	cw(x, 4, 2, 2);
	cw(x, PCI_ROM, 4, 0x2001);
	assert_int_equal(mem_read(x->m->mem, 0x2000, b, 4), 0);
	assert_int_equal(ld_le32(b), 0);
	assert_int_equal(mem_rd(x, 0x2000, 1), 1);
	mem_wr(x, cfg_at(g, PCI_BAR(1)), 4, ROM_AT);
	mem_wr(x, cfg_at(g, 4), 2, 2);
	g->reg[1] = 0x1234;
	cw(x, PCI_ROM, 4, ROM_AT | 1);
	assert_int_equal(pci_rom_addr(&x->f->pci), UINT64_MAX);
	assert_int_equal(mem_rd(x, ROM_AT, 4), 0x1234);
	mem_wr(x, cfg_at(g, 4), 2, 0);
	assert_int_equal(pci_rom_addr(&x->f->pci), ROM_AT);
	assert_int_equal(mem_rd(x, ROM_AT, 1), 1);
}

/* ---- INTx ---- */

static void intx_is_swizzled_and_shared(void **state)
{
	struct fix *x = *state;
	struct func *g = func_new(x, x->root, PCI_DEVFN(5, 0));

	pci_intx_set(&x->f->pci, true);		/* slot 1, pin A: wire 1 */
	assert_int_equal(x->wire[1], 1);
	assert_true(cr(x, 6, 2) & 8);
	pci_intx_set(&g->pci, true);		/* slot 5: the same */
	pci_intx_set(&x->f->pci, false);
	assert_int_equal(x->wire[1], 1);
	assert_false(cr(x, 6, 2) & 8);
	pci_intx_set(&g->pci, false);
	assert_int_equal(x->wire[1], 0);
}

static void intx_disable_bit_holds_the_wire_not_the_status(void **state)
{
	struct fix *x = *state;

	cw(x, 4, 2, 0x400);
	pci_intx_set(&x->f->pci, true);
	assert_int_equal(x->wire[1], 0);
	assert_true(cr(x, 6, 2) & 8);
	cw(x, 4, 2, 0);
	assert_int_equal(x->wire[1], 1);
	cw(x, x->f->pci.msix_cap + 2, 2, 0x8000);	/* MSI-X on: no INTx */
	assert_int_equal(x->wire[1], 0);
	cw(x, x->f->pci.msix_cap + 2, 2, 0);
	assert_int_equal(x->wire[1], 1);
	machine_reset_devs(x->m);
	assert_int_equal(x->wire[1], 0);
}

/* ---- MSI ---- */

static void msi_on(struct fix *x, unsigned mme)
{
	unsigned cap = x->f->pci.msi_cap;

	cw(x, 4, 2, PCI_COMMAND_MASTER);
	cw(x, cap + 4, 4, 0xfee01003);		/* low bits are not writable */
	cw(x, cap + 8, 4, 0);
	cw(x, cap + 12, 2, 0x4047);
	cw(x, cap + 2, 2, 1 | mme << 4);
}

static void msi_delivers_the_granted_vectors(void **state)
{
	struct fix *x = *state;

	pci_msi_fire(&x->f->pci, 0);
	assert_int_equal(x->n_msi, 0);
	msi_on(x, 2);
	pci_msi_fire(&x->f->pci, 1);
	assert_int_equal(x->n_msi, 1);
	assert_int_equal(x->last.addr, 0xfee01000);
	assert_int_equal(x->last.data, 0x4045);
	pci_msi_fire(&x->f->pci, 6);		/* 4 granted: aliased */
	assert_int_equal(x->last.data, 0x4046);
	msi_on(x, 7);				/* more than offered: 8 */
	pci_msi_fire(&x->f->pci, 7);
	assert_int_equal(x->last.data, 0x4047);
}

static void msi_masked_is_pending(void **state)
{
	struct fix *x = *state;
	unsigned cap = x->f->pci.msi_cap;

	msi_on(x, 3);
	cw(x, cap + 16, 4, 0xffffffff);
	assert_int_equal(cr(x, cap + 16, 4), 0xff);
	pci_msi_fire(&x->f->pci, 3);
	assert_int_equal(x->n_msi, 0);
	assert_int_equal(cr(x, cap + 20, 4), 8);
	cw(x, cap + 16, 4, 0xf7);
	assert_int_equal(x->n_msi, 1);
	assert_int_equal(x->last.data, 0x4043);
	assert_int_equal(cr(x, cap + 20, 4), 0);
	/* Without bus mastering no write leaves the function. */
	cw(x, 4, 2, 0);
	pci_msi_fire(&x->f->pci, 3);
	assert_int_equal(x->n_msi, 1);
	cw(x, 4, 2, PCI_COMMAND_MASTER);
	assert_int_equal(x->n_msi, 2);
}

/* ---- MSI-X ---- */

#define XBAR 0xd4000000ull

static void msix_on(struct fix *x)
{
	cw(x, PCI_BAR(2), 4, XBAR);
	cw(x, 4, 2, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
	cw(x, x->f->pci.msix_cap + 2, 2, 0x8000);
	for (unsigned v = 0; v < VECTORS; v++) {
		mem_wr(x, XBAR + TABLE + 16 * v, 4, 0xfee00000 + 0x1000 * v);
		mem_wr(x, XBAR + TABLE + 16 * v + 8, 4, 0x30 + v);
		mem_wr(x, XBAR + TABLE + 16 * v + 12, 4, 0xfffffffe);
	}
}

static void msix_delivers_and_masks(void **state)
{
	struct fix *x = *state;

	pci_msix_fire(&x->f->pci, 0);
	assert_int_equal(x->n_msi, 0);
	msix_on(x);
	assert_int_equal(mem_rd(x, XBAR + TABLE + 12, 4), 0);
	pci_msix_fire(&x->f->pci, 69);
	assert_int_equal(x->n_msi, 1);
	assert_int_equal(x->last.addr, 0xfee45000);
	assert_int_equal(x->last.data, 0x30 + 69);
	pci_msix_fire(&x->f->pci, VECTORS);
	assert_int_equal(x->n_msi, 1);
	mem_wr(x, XBAR + TABLE + 16 * 69 + 12, 4, 1);
	pci_msix_fire(&x->f->pci, 69);
	assert_int_equal(x->n_msi, 1);
	assert_int_equal(mem_rd(x, XBAR + PBA + 8, 4), 1 << 5);
	mem_wr(x, XBAR + PBA + 8, 4, 0);		/* read-only */
	assert_int_equal(mem_rd(x, XBAR + PBA + 8, 4), 1 << 5);
	mem_wr(x, XBAR + TABLE + 16 * 69 + 12, 4, 0);
	assert_int_equal(x->n_msi, 2);
	assert_int_equal(mem_rd(x, XBAR + PBA + 8, 4), 0);
}

static void msix_function_mask(void **state)
{
	struct fix *x = *state;

	msix_on(x);
	cw(x, x->f->pci.msix_cap + 2, 2, 0xc000);
	pci_msix_fire(&x->f->pci, 2);
	pci_msix_fire(&x->f->pci, 2);
	pci_msix_fire(&x->f->pci, 65);
	assert_int_equal(x->n_msi, 0);
	cw(x, x->f->pci.msix_cap + 2, 2, 0x8000);
	assert_int_equal(x->n_msi, 2);
}

static void msix_table_is_where_the_capability_says(void **state)
{
	struct fix *x = *state;
	unsigned cap = x->f->pci.msix_cap;

	assert_int_equal(cr(x, cap + 2, 2), VECTORS - 1);
	assert_int_equal(cr(x, cap + 4, 4), TABLE | 2);
	assert_int_equal(cr(x, cap + 8, 4), PBA | 2);
	assert_true(pci_msix_covers(&x->f->pci, TABLE + 16 * VECTORS - 1));
	assert_false(pci_msix_covers(&x->f->pci, TABLE + 16 * VECTORS));
	assert_false(pci_msix_covers(&x->f->pci, 0));
	assert_true(pci_msix_covers(&x->f->pci, PBA));
}

/* ---- slots, functions, buses ---- */

static void second_function_makes_the_slot_multi_function(void **state)
{
	struct fix *x = *state;
	struct func *g;

	assert_int_equal(cr(x, 0x0e, 1), 0);
	g = func_new(x, x->root, PCI_DEVFN(1, 3));
	assert_int_equal(cr(x, 0x0e, 1), 0x80);
	machine_reset_devs(x->m);
	assert_int_equal(cr(x, 0x0e, 1), 0x80);
	assert_ptr_equal(pci_find(x->root, 0, PCI_DEVFN(1, 3)), &g->pci);
	assert_int_equal(func_new(x, x->root, PCI_ANY_DEVFN)->pci.devfn, PCI_DEVFN(2, 0));
}

static void taken_slot_is_refused_with_a_name(void **state)
{
	struct fix *x = *state;
	struct pci_dev p;
	struct err e;

	assert_int_equal(pci_dev_init(&p, x->m, x->root, PCI_DEVFN(1, 0), &func_ops, &func_ids, &e), -EEXIST);
	assert_non_null(strstr(e.msg, "test-function"));
	assert_int_equal(pci_dev_init(&p, x->m, x->root, 256, &func_ops, &func_ids, &e), -EINVAL);
}

struct bridge {
	struct func f;
	struct pci_bus *bus;
};

static void bridge_free(struct dev *d)
{
	struct bridge *b = container_of(of(d), struct bridge, f);

	pci_bus_free(b->bus);
	pci_dev_fini(&b->f.pci);
	free(b);
}

static const struct pci_dev_ops bridge_ops = {
	.dev = { .name = "test-bridge", .reset = func_reset, .save = func_save, .load = func_load,
		 .free = bridge_free },
};

static struct bridge *bridge_new(struct fix *x, struct pci_bus *bus, int devfn)
{
	struct bridge *b = calloc(1, sizeof(*b));

	assert_int_equal(pci_dev_init(&b->f.pci, x->m, bus, devfn, &bridge_ops, &bridge_ids, NULL), 0);
	pci_dev_ready(&b->f.pci);
	assert_int_equal(pci_bus_new(&b->f.pci, &b->bus), 0);
	return b;
}

static void bus_numbers_are_the_guests(void **state)
{
	struct fix *x = *state;
	struct bridge *b = bridge_new(x, x->root, PCI_DEVFN(4, 0)), *c = bridge_new(x, b->bus, PCI_DEVFN(2, 0));
	struct func *g = func_new(x, c->bus, PCI_DEVFN(3, 0));

	assert_int_equal(pci_bus_new(&g->pci, &b->bus), -EINVAL);
	assert_null(pci_find(x->root, 9, PCI_DEVFN(3, 0)));
	pci_config_write(&b->f.pci, PCI_PRIMARY_BUS, 4, 0x00090700);	/* secondary 7, up to 9 */
	pci_config_write(&c->f.pci, PCI_PRIMARY_BUS, 4, 0x00090907);
	assert_ptr_equal(pci_find(x->root, 9, PCI_DEVFN(3, 0)), &g->pci);
	assert_ptr_equal(pci_find(x->root, 7, PCI_DEVFN(2, 0)), &c->f.pci);
	assert_int_equal(mem_rd(x, ECAM + (9 << 20) + (PCI_DEVFN(3, 0) << 12), 4), 0x56781234);
	/* pin A of slot 3 -> slot 2 -> slot 4: (0 + 3 + 2 + 4) & 3 */
	pci_intx_set(&g->pci, true);
	assert_int_equal(x->wire[1], 1);
	pci_intx_set(&g->pci, false);
}

static void assignment_without_firmware(void **state)
{
	static const uint8_t lines[4] = { 10, 11, 12, 13 };
	struct fix *x = *state;
	struct bridge *b = bridge_new(x, x->root, PCI_DEVFN(4, 0));
	struct func *g = func_new(x, x->root, PCI_DEVFN(3, 0)), *h = func_new(x, b->bus, PCI_DEVFN(0, 0));
	struct func *all[] = { x->f, g, h };

	pci_root_assign(x->root, lines);
	for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
		uint64_t io_at = pci_bar_addr(&all[i]->pci, 0), m = pci_bar_addr(&all[i]->pci, 1);

		assert_true(io_at >= 0xc000 && io_at < 0x10000);
		assert_true(m >= 0xc0000000 && m < 0xd0000000);
		assert_true(pci_bar_addr(&all[i]->pci, 2) < 0xd0000000);	/* small: below 4 GiB */
		for (unsigned j = 0; j < i; j++)
			for (unsigned n = 0; n < 3; n++)
				assert_true(pci_bar_addr(&all[i]->pci, n) != pci_bar_addr(&all[j]->pci, n));
	}
	assert_int_equal(cr(x, 0x3c, 1), 11);
	assert_int_equal(pci_config_read(&g->pci, 0x3c, 1), 13);
	assert_int_equal(pci_config_read(&h->pci, 0x3c, 1), 10);
	assert_ptr_equal(pci_find(x->root, 1, 0), &h->pci);
	/* The bridge's window covers what is behind it. */
	assert_int_equal(pci_config_read(&b->f.pci, PCI_MEMORY_BASE, 2) << 16, pci_bar_addr(&h->pci, 1) & ~0xfffffull);
	assert_true(((uint64_t)pci_config_read(&b->f.pci, PCI_MEMORY_LIMIT, 2) << 16 | 0xfffff) >=
		    pci_bar_addr(&h->pci, 2) + BAR2_SIZE - 1);
}

static void rom_of_a_bridge(void **state)
{
	struct fix *x = *state;
	struct bridge *b = bridge_new(x, x->root, PCI_DEVFN(4, 0));

	rom_add(&b->f);
	pci_config_write(&b->f.pci, PCI_BRIDGE_ROM, 4, ROM_AT | 1);
	pci_config_write(&b->f.pci, PCI_COMMAND, 2, 2);
	assert_int_equal(pci_rom_addr(&b->f.pci), ROM_AT);
	assert_int_equal(mem_rd(x, ROM_AT, 1), 1);
}

/* ---- saved state, abuse ---- */

static void saved_state_comes_back(void **state)
{
	struct fix *x = *state, y = { 0 };
	struct snap_out *o;
	struct snap_in *in;
	struct err e = { "" };
	const void *data;
	size_t len;

	rom_add(x->f);
	cw(x, PCI_ROM, 4, ROM_AT | 1);
	msix_on(x);
	mem_wr(x, XBAR + TABLE + 16 * 5 + 12, 4, 1);
	pci_msix_fire(&x->f->pci, 5);
	pio_wr(x, 0xcf8, 4, 0x80000844);
	assert_int_equal(snap_out_new(&o), 0);
	assert_int_equal(machine_save_devs(x->m, o, NULL), 0);
	data = snap_out_data(o, &len);
	machine_up(&y);
	rom_add(y.f);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	assert_int_equal(machine_load_devs(y.m, in, &e), 0);
	assert_int_equal(pio_rd(&y, 0xcf8, 4), 0x80000844);
	assert_int_equal(mem_rd(&y, XBAR + TABLE + 16 * 5, 4), 0xfee05000);
	assert_int_equal(pci_rom_addr(&y.f->pci), ROM_AT);
	assert_int_equal(mem_rd(&y, ROM_AT + 1, 1), 8);
	assert_int_equal(y.n_msi, 0);
	mem_wr(&y, XBAR + TABLE + 16 * 5 + 12, 4, 0);
	assert_int_equal(y.n_msi, 1);
	assert_int_equal(memcmp(y.f->pci.config, x->f->pci.config, PCI_CONFIG_SIZE), 0);
	machine_down(&y);
	snap_in_free(in);
	snap_out_free(o);
}

static void random_writes_are_survived(void **state)
{
	struct fix *x = *state;

	rom_add(func_new(x, x->root, PCI_ANY_DEVFN));
	rom_add(x->f);
	srand(2);
	for (unsigned i = 0; i < 200000; i++) {
		unsigned len = 1u << rand() % 3, off = rand() % (rand() & 1 ? 0x100 : 0x1000) & ~(len - 1);
		uint32_t v = rand() % 3 ? (uint32_t)rand() : 0xffffffff;

		mem_wr(x, ECAM + ((uint64_t)(rand() % 4) << 15) + off, len, v);
		if (rand() % 8 == 0)
			pci_msix_fire(&x->f->pci, rand() % 80);
		if (rand() % 8 == 0)
			pci_msi_fire(&x->f->pci, rand() % 32);
		if (rand() % 8 == 0)
			pci_intx_set(&x->f->pci, rand() & 1);
		if (rand() % 8 == 0)
			mem_wr(x, rand() & 1 ? XBAR + rand() % BAR2_SIZE : (uint64_t)rand() << 2, 4, rand());
		if (rand() % 1000 == 0)
			machine_reset_devs(x->m);
	}
	assert_int_equal(cr(x, 0, 4), 0x56781234);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(both_mechanisms_reach_the_function),
		T(nothing_reads_as_ones),
		T(read_only_bits_stay),
		T(capabilities_are_linked_in_order),
		T(extended_capabilities_are_linked),
		T(bars_are_sized_by_writing_ones),
		T(bars_are_mapped_where_they_say),
		T(taken_place_is_taken_over_later),
		T(reset_unmaps_and_restores),
		T(rom_is_sized_and_mapped),
		T(rom_gives_way),
		T(rom_of_a_bridge),
		T(intx_is_swizzled_and_shared),
		T(intx_disable_bit_holds_the_wire_not_the_status),
		T(msi_delivers_the_granted_vectors),
		T(msi_masked_is_pending),
		T(msix_delivers_and_masks),
		T(msix_function_mask),
		T(msix_table_is_where_the_capability_says),
		T(second_function_makes_the_slot_multi_function),
		T(taken_slot_is_refused_with_a_name),
		T(bus_numbers_are_the_guests),
		T(assignment_without_firmware),
		T(saved_state_comes_back),
		T(random_writes_are_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
