/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AHCI with a disk and a CD against a hostile driver: registers, command lists,
 * FISes, packets and lists of memory made of the input's bytes; the host's side
 * fails and stalls at times, and saved state is damaged.
 */
#include "card_fuzz.h"
#include "device/ahci.h"

#define LIST(p) (0x10000u + (p) * 0x8000u)
#define TABLE(p, s) (LIST(p) + 0x1000u + (s) * 0x100u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	struct card c;
	struct ahci *a;
};

static uint64_t take(struct fz *f, unsigned len) { return card_take(&f->c, len); }
static void wr(struct fz *f, uint32_t off, uint32_t v) { card_wr(&f->c, off, 4, v); }

static void place(struct fz *f)
{
	struct pci_dev *p = (struct pci_dev *)f->a;

	machine_lock(f->c.m);
	pci_config_write(p, PCI_BAR(5), 4, (uint32_t)CARD_BAR);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	machine_unlock(f->c.m);
}

static void init(struct fz *f)
{
	wr(f, 4, 0x80000002);
	for (unsigned p = 0; p < 2; p++) {
		wr(f, 0x118 + 0x80 * p, 0);
		wr(f, 0x100 + 0x80 * p, LIST(p));
		wr(f, 0x108 + 0x80 * p, LIST(p) + 0x400);
		wr(f, 0x114 + 0x80 * p, 0xffffffff);
		wr(f, 0x118 + 0x80 * p, 0x16);
		wr(f, 0x118 + 0x80 * p, 0x17);
	}
}

static void restart(struct fz *f, unsigned p)
{
	wr(f, 0x118 + 0x80 * p, 0x16);
	wr(f, 0x110 + 0x80 * p, 0xffffffff);
	wr(f, 0x118 + 0x80 * p, 0x17);
}

static void command(struct fz *f, unsigned p)
{
	static const uint8_t common[] = { 0x25, 0x35, 0x60, 0x61, 0xec, 0x06, 0xea, 0x2f, 0xb0, 0xef, 0x20, 0x3d, 0x42, 0xc4, 0xc6, 0xa1 };
	uint8_t how = (uint8_t)take(f, 1), s = (uint8_t)take(f, 1) & 31, op = (uint8_t)take(f, 1);
	uint8_t *h = f->c.ram + LIST(p) + 32 * s, *t = f->c.ram + TABLE(p, s);
	uint32_t entries = how & 1 ? (uint32_t)take(f, 1) % 8 : 1;

	st_le32(h, 5 | entries << 16 | (how & 2 ? (uint32_t)take(f, 2) : 0));
	st_le64(h + 8, how & 4 ? take(f, 3) : TABLE(p, s));
	memset(t, 0, 0x80);
	t[0] = 0x27;
	t[1] = how & 8 ? (uint8_t)take(f, 1) : 0x80;
	t[2] = p ? 0xa0 : how & 16 ? op : common[op & 15];
	t[3] = (uint8_t)take(f, 1);
	t[4] = (uint8_t)take(f, 1);
	t[7] = 0x40;
	t[12] = t[2] == 0x60 || t[2] == 0x61 ? (uint8_t)(s << 3) : (uint8_t)take(f, 1);
	if (t[2] == 0xb0) {
		t[5] = 0x4f;
		t[6] = 0xc2;
	}
	if (how & 32)
		st_le64(t + 5, take(f, 8));
	if (p)
		for (unsigned i = 0; i < 12; i++)
			t[0x40 + i] = i ? (uint8_t)take(f, 1) : op;
	for (unsigned i = 0; i < entries && i < 8; i++) {
		st_le64(t + 0x80 + 16 * i, how & 64 ? take(f, 3) : 0x80000 + 0x1000 * i);
		st_le32(t + 0x8c + 16 * i, how & 128 ? (uint32_t)take(f, 3) : 0xffff);
	}
	if (t[2] == 0x60 || t[2] == 0x61)
		wr(f, 0x134 + 0x80 * p, BIT(s));
	wr(f, 0x138 + 0x80 * p, BIT(s));
	loop_turn(f->c.m->loop, 0);
}

static void host(struct fz *f, uint8_t what)
{
	machine_lock(f->c.m);
	switch (what >> 1 & 3) {
	case 0: case 1: card_hold_or_fail(&f->c, what); break;
	case 2: machine_pause_devs(f->c.m); break;
	default: machine_resume_devs(f->c.m);
	}
	machine_unlock(f->c.m);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: init(f); break;
	case 1: case 2: case 3: case 4: command(f, what >> 4 & 1); break;
	case 5: restart(f, what >> 4 & 1); break;
	case 6: card_memory(&f->c, take(f, 3)); break;
	case 7: wr(f, (uint32_t)take(f, 1) * 4u % 0x400, (uint32_t)take(f, 4)); break;
	case 8: loop_turn(f->c.m->loop, 0); break;
	case 9: host(f, (uint8_t)take(f, 1)); break;
	case 10: card_save_load(&f->c); break;
	case 11: place(f); break;
	case 12: wr(f, 0x12c + 0x80 * (what >> 4 & 1), what >> 5 & 1); break;
	default: command(f, what & 1); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk_opts d = card_disk_opts(size);
	struct fz f = { 0 };
	unsigned port;
	struct err e;

	card_up(&f.c, data, size);
	if (ahci_new(f.c.m, f.c.root, PCI_ANY_DEVFN, "ahci", NULL, &f.a, &e))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		f.c.node[i]->i.read_only = i || size & 2;
		if (ahci_add(f.a, i ? "b" : "a", f.c.node[i], i, &d, &port, &e))
			abort();
	}
	machine_unlock(f.c.m);
	place(&f);
	init(&f);
	for (unsigned i = 0; f.c.in.left && i < CARD_STEPS; i++)
		step(&f);
	machine_free(f.c.m);
	return 0;
}
