/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * AHCI with a disk and a CD against a hostile driver: registers, command lists,
 * FISes, packets and lists of memory made of the input's bytes; the host's side
 * fails and stalls at times, and saved state is damaged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "device/ahci.h"

#define RAM (1u << 20)
#define ABAR 0xc0000000ull
#define DISK (64u << 10)
#define LIST(p) (0x10000u + (p) * 0x8000u)
#define TABLE(p, s) (LIST(p) + 0x1000u + (s) * 0x100u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	const uint8_t *p;
	size_t left;
	struct machine *m;
	struct ahci *a;
	struct blk_node *node[2];
	uint8_t *ram;
};

static uint64_t take(struct fz *f, unsigned len)
{
	uint8_t b[8] = { 0 };
	size_t n = MIN(len, f->left);

	memcpy(b, f->p, n);
	f->p += n;
	f->left -= n;
	return ld_le64(b);
}

static int msi(void *opaque, const struct msi *msg)
{
	return 0;
}

static void wr(struct fz *f, uint32_t off, uint32_t v)
{
	uint8_t b[4];

	st_le32(b, v);
	bus_access(f->m->mmio, ABAR + off, b, 4, true);
}

static void place(struct fz *f)
{
	struct pci_dev *p = (struct pci_dev *)f->a;

	machine_lock(f->m);
	pci_config_write(p, PCI_BAR(5), 4, (uint32_t)ABAR);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	machine_unlock(f->m);
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
	uint8_t *h = f->ram + LIST(p) + 32 * s, *t = f->ram + TABLE(p, s);
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
	loop_turn(f->m->loop, 0);
}

static void memory(struct fz *f)
{
	uint64_t at = take(f, 3) % RAM;
	size_t len = 1 + take(f, 1) % 64;

	len = MIN(MIN(len, f->left), RAM - at);
	memcpy(f->ram + at, f->p, len);
	f->p += len;
	f->left -= len;
}

static void save_load(struct fz *f)
{
	struct snap_out *o;
	struct snap_in *in;
	struct err e;
	uint8_t *copy;
	const void *p;
	size_t len;

	if (snap_out_new(&o))
		return;
	machine_lock(f->m);
	machine_pause_devs(f->m);
	machine_save_devs(f->m, o);
	p = snap_out_data(o, &len);
	copy = malloc(len + 1);
	memcpy(copy, p, len);
	for (unsigned i = 0; i < 2 && len && f->left > 3; i++)
		copy[take(f, 2) % len] ^= (uint8_t)take(f, 1);
	if (!snap_in_new(&in, copy, len)) {
		machine_reset_devs(f->m);
		if (machine_load_devs(f->m, in, &e))
			machine_reset_devs(f->m);
		snap_in_free(in);
	}
	machine_resume_devs(f->m);
	machine_unlock(f->m);
	snap_out_free(o);
	free(copy);
}

static void host(struct fz *f, uint8_t what)
{
	struct blk_node *n = f->node[what & 1];

	machine_lock(f->m);
	switch (what >> 1 & 3) {
	case 0: blk_mem_hold(n, what & 8); break;
	case 1: blk_mem_fail_with(n, (unsigned)take(f, 1), what & 8 ? -ENOSPC : -EIO, what & 16); break;
	case 2: machine_pause_devs(f->m); break;
	default: machine_resume_devs(f->m);
	}
	machine_unlock(f->m);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: init(f); break;
	case 1: case 2: case 3: case 4: command(f, what >> 4 & 1); break;
	case 5: restart(f, what >> 4 & 1); break;
	case 6: memory(f); break;
	case 7: wr(f, (uint32_t)take(f, 1) * 4u % 0x400, (uint32_t)take(f, 4)); break;
	case 8: loop_turn(f->m->loop, 0); break;
	case 9: host(f, (uint8_t)take(f, 1)); break;
	case 10: save_load(f); break;
	case 11: place(f); break;
	case 12: wr(f, 0x12c + 0x80 * (what >> 4 & 1), what >> 5 & 1); break;
	default: command(f, what & 1); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pci_root_config cfg = { .cf8 = true };
	struct disk_opts d = { .on_read_error = size & 1 ? DISK_STOP : DISK_REPORT, .on_write_error = DISK_ENOSPC };
	struct fz f = { .p = data, .left = size };
	struct pci_bus *root;
	unsigned port;
	struct err e;

	if (machine_new(&f.m, true) || mem_create_ram(f.m->mem, RAM, MEM_HUGE_NONE, &e) || mem_add_ram(f.m->mem, "ram", 0, 0, RAM, &e))
		abort();
	f.ram = mem_ram_host(f.m->mem);
	f.m->msi = msi;
	machine_lock(f.m);
	if (pci_root_new(f.m, &cfg, &root, &e) || ahci_new(f.m, root, PCI_ANY_DEVFN, "ahci", NULL, &f.a, &e))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		if (blk_open_mem(f.m->loop, DISK, &f.node[i]))
			abort();
		f.node[i]->i.can_discard = f.node[i]->i.can_zero = true;
		f.node[i]->i.read_only = i || size & 2;
		if (ahci_add(f.a, i ? "b" : "a", f.node[i], i, &d, &port, &e))
			abort();
	}
	machine_unlock(f.m);
	place(&f);
	init(&f);
	for (unsigned i = 0; f.left && i < 4096; i++)
		step(&f);
	machine_free(f.m);
	return 0;
}
