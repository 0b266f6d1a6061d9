/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe against a hostile driver: registers, doorbells, commands and lists made of
 * the input's bytes, with the honest way to running queues as one action; the
 * host's side fails and stalls at times, and saved state is damaged.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "device/nvme.h"

#define RAM (1u << 20)
#define BAR 0xc0000000ull
#define DISK (64u << 10)
#define SQ(q) (0x10000u + (q) * 0x4000u)
#define CQ(q) (SQ(q) + 0x2000u)
#define SIZE 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	const uint8_t *p;
	size_t left;
	struct machine *m;
	struct nvme *n;
	struct blk_node *node[2];
	uint8_t *ram;
	uint32_t tail[4];
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

static void wr(struct fz *f, uint32_t off, unsigned len, uint64_t v)
{
	uint8_t b[8];

	st_le64(b, v);
	bus_access(f->m->mmio, BAR + off, b, len, true);
}

static void place(struct fz *f, bool msix)
{
	struct pci_dev *p = (struct pci_dev *)f->n;

	machine_lock(f->m);
	pci_config_write(p, PCI_BAR(0), 4, (uint32_t)BAR);
	pci_config_write(p, PCI_BAR(1), 4, 0);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	pci_config_write(p, p->msix_cap + 2u, 2, msix ? 0x8000 : 0);
	machine_unlock(f->m);
}

/* A command of which most is plausible. */
static void command(struct fz *f, unsigned q)
{
	uint8_t how = (uint8_t)take(f, 1), *e = f->ram + SQ(q) + f->tail[q] * 64;

	memset(e, 0, 64);
	e[0] = (uint8_t)take(f, 1);
	if (how & 1)
		e[0] &= 0x0f;
	e[1] = how & 2 ? (how & 4 ? 0x40 : (uint8_t)take(f, 1)) : 0;
	st_le16(e + 2, (uint16_t)take(f, 1));
	st_le32(e + 4, how & 8 ? (uint32_t)take(f, 4) : take(f, 1) % 4);
	st_le64(e + 24, how & 16 ? take(f, 8) : take(f, 2) << 4);
	st_le64(e + 32, how & 32 ? take(f, 8) : take(f, 2) << 4);
	if (e[1] & 0x40)
		e[39] = (uint8_t)take(f, 1);
	st_le32(e + 40, how & 64 ? (uint32_t)take(f, 4) : (uint32_t)take(f, 1) | (uint32_t)take(f, 1) << 16);
	st_le32(e + 44, how & 64 ? (uint32_t)take(f, 4) : (uint32_t)take(f, 1) << (how & 128 ? 16 : 0));
	st_le32(e + 48, (uint32_t)take(f, 1));
	f->tail[q] = (f->tail[q] + 1) % SIZE;
	wr(f, 0x1000 + 8 * q, 4, f->tail[q]);
	loop_turn(f->m->loop, 0);
}

static void honest(struct fz *f, unsigned q, uint8_t opcode, uint64_t prp1, uint32_t cdw10, uint32_t cdw11)
{
	uint8_t *e = f->ram + SQ(q) + f->tail[q] * 64;

	memset(e, 0, 64);
	e[0] = opcode;
	st_le64(e + 24, prp1);
	st_le32(e + 40, cdw10);
	st_le32(e + 44, cdw11);
	f->tail[q] = (f->tail[q] + 1) % SIZE;
	wr(f, 0x1000 + 8 * q, 4, f->tail[q]);
	loop_turn(f->m->loop, 0);
	/* Its completion is taken at once. */
	wr(f, 0x1000 + 8 * q + 4, 4, f->tail[q]);
}

static void init(struct fz *f)
{
	wr(f, 0x14, 4, 0);
	wr(f, 0x24, 4, (SIZE - 1) | (SIZE - 1) << 16);
	wr(f, 0x28, 8, SQ(0));
	wr(f, 0x30, 8, CQ(0));
	wr(f, 0x14, 4, 0x460001);
	memset(f->tail, 0, sizeof(f->tail));
	for (unsigned q = 1; q < 3; q++) {
		honest(f, 0, 5, CQ(q), q | (SIZE - 1) << 16, 3 | q << 16);
		honest(f, 0, 1, SQ(q), q | (SIZE - 1) << 16, 1 | q << 16);
	}
}

static void memory(struct fz *f)
{
	uint64_t at = (take(f, 2) << 4) % RAM;
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
	struct err e;

	machine_lock(f->m);
	switch (what >> 1 & 3) {
	case 0: blk_mem_hold(n, what & 8); break;
	case 1: blk_mem_fail_with(n, (unsigned)take(f, 1), what & 8 ? -ENOSPC : -EIO, what & 16); break;
	case 2: nvme_resize(f->n, 1 + (what & 1), take(f, 1) << 12, &e); break;
	default:
		if (what & 8)
			machine_pause_devs(f->m);
		else
			machine_resume_devs(f->m);
	}
	machine_unlock(f->m);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: init(f); break;
	case 1: case 2: case 3: command(f, what >> 4 & 3 ? (what >> 4 & 1) + 1 : 0); break;
	case 4: case 5: memory(f); break;
	case 6: wr(f, (uint32_t)take(f, 1) & ~3u, what & 16 ? 8 : 4, take(f, 8)); break;
	case 7: wr(f, 0x1000 + (uint32_t)(take(f, 1) & 63) * 4, 4, take(f, 1)); break;
	case 8: wr(f, 0x1000 + (what >> 4) * 4u, 4, take(f, 1) % SIZE); break;
	case 9: loop_turn(f->m->loop, 0); break;
	case 10: host(f, (uint8_t)take(f, 1)); break;
	case 11: save_load(f); break;
	case 12: place(f, what & 16); break;
	case 13: wr(f, (uint32_t)take(f, 2) % 0x4000, 1u << (what >> 4 & 3), take(f, 8)); break;
	default: command(f, (what & 1) + 1u); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pci_root_config cfg = { .cf8 = true };
	struct nvme_opts o = { .queues = 3 };
	struct disk_opts d = { .on_read_error = size & 1 ? DISK_STOP : DISK_REPORT, .on_write_error = DISK_ENOSPC };
	struct fz f = { .p = data, .left = size };
	struct pci_bus *root;
	struct err e;

	if (machine_new(&f.m, true) || mem_create_ram(f.m->mem, RAM, MEM_HUGE_NONE, &e) || mem_add_ram(f.m->mem, "ram", 0, 0, RAM, &e))
		abort();
	f.ram = mem_ram_host(f.m->mem);
	f.m->msi = msi;
	machine_lock(f.m);
	if (pci_root_new(f.m, &cfg, &root, &e) || nvme_new(f.m, root, PCI_ANY_DEVFN, "nv", &o, &f.n, &e))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		if (blk_open_mem(f.m->loop, DISK, &f.node[i]))
			abort();
		f.node[i]->i.can_discard = f.node[i]->i.can_zero = true;
		f.node[i]->i.read_only = i && size & 2;
		if (nvme_add_ns(f.n, i ? "b" : "a", f.node[i], &d, &e))
			abort();
		d.block_size = 4096;
	}
	machine_unlock(f.m);
	place(&f, true);
	init(&f);
	for (unsigned i = 0; f.left && i < 4096; i++)
		step(&f);
	machine_free(f.m);
	return 0;
}
