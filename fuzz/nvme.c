/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe against a hostile driver: registers, doorbells, commands and lists made of
 * the input's bytes, with the honest way to running queues as one action; the
 * host's side fails and stalls at times, and saved state is damaged.
 */
#include "card_fuzz.h"
#include "device/nvme.h"

#define SQ(q) (0x10000u + (q) * 0x4000u)
#define CQ(q) (SQ(q) + 0x2000u)
#define SIZE 8u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fz {
	struct card c;
	struct nvme *n;
	uint32_t tail[4];
};

static uint64_t take(struct fz *f, unsigned len) { return card_take(&f->c, len); }
static void wr(struct fz *f, uint32_t off, unsigned len, uint64_t v) { card_wr(&f->c, off, len, v); }

static void place(struct fz *f, bool msix)
{
	struct pci_dev *p = (struct pci_dev *)f->n;

	machine_lock(f->c.m);
	pci_config_write(p, PCI_BAR(0), 4, (uint32_t)CARD_BAR);
	pci_config_write(p, PCI_BAR(1), 4, 0);
	pci_config_write(p, PCI_COMMAND, 2, 6);
	pci_config_write(p, p->msix_cap + 2u, 2, msix ? 0x8000 : 0);
	machine_unlock(f->c.m);
}

/* A command of which most is plausible. */
static void command(struct fz *f, unsigned q)
{
	uint8_t how = (uint8_t)take(f, 1), *e = f->c.ram + SQ(q) + f->tail[q] * 64;

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
	loop_turn(f->c.m->loop, 0);
}

static void honest(struct fz *f, unsigned q, uint8_t opcode, uint64_t prp1, uint32_t cdw10, uint32_t cdw11)
{
	uint8_t *e = f->c.ram + SQ(q) + f->tail[q] * 64;

	memset(e, 0, 64);
	e[0] = opcode;
	st_le64(e + 24, prp1);
	st_le32(e + 40, cdw10);
	st_le32(e + 44, cdw11);
	f->tail[q] = (f->tail[q] + 1) % SIZE;
	wr(f, 0x1000 + 8 * q, 4, f->tail[q]);
	loop_turn(f->c.m->loop, 0);
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

static void host(struct fz *f, uint8_t what)
{
	struct err e;

	machine_lock(f->c.m);
	switch (what >> 1 & 3) {
	case 0: case 1: card_hold_or_fail(&f->c, what); break;
	case 2: nvme_resize(f->n, 1 + (what & 1), take(f, 1) << 12, &e); break;
	default:
		if (what & 8)
			machine_pause_devs(f->c.m);
		else
			machine_resume_devs(f->c.m);
	}
	machine_unlock(f->c.m);
}

static void step(struct fz *f)
{
	uint8_t what = (uint8_t)take(f, 1);

	switch (what & 15) {
	case 0: init(f); break;
	case 1: case 2: case 3: command(f, what >> 4 & 3 ? (what >> 4 & 1) + 1 : 0); break;
	case 4: case 5: card_memory(&f->c, take(f, 2) << 4); break;
	case 6: wr(f, (uint32_t)take(f, 1) & ~3u, what & 16 ? 8 : 4, take(f, 8)); break;
	case 7: wr(f, 0x1000 + (uint32_t)(take(f, 1) & 63) * 4, 4, take(f, 1)); break;
	case 8: wr(f, 0x1000 + (what >> 4) * 4u, 4, take(f, 1) % SIZE); break;
	case 9: loop_turn(f->c.m->loop, 0); break;
	case 10: host(f, (uint8_t)take(f, 1)); break;
	case 11: card_save_load(&f->c); break;
	case 12: place(f, what & 16); break;
	case 13: wr(f, (uint32_t)take(f, 2) % 0x4000, 1u << (what >> 4 & 3), take(f, 8)); break;
	default: command(f, (what & 1) + 1u); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct disk_opts d = card_disk_opts(size);
	struct nvme_opts o = { .queues = 3 };
	struct fz f = { 0 };
	struct err e;

	card_up(&f.c, data, size);
	if (nvme_new(f.c.m, f.c.root, PCI_ANY_DEVFN, "nv", &o, &f.n, &e))
		abort();
	for (unsigned i = 0; i < 2; i++) {
		f.c.node[i]->i.read_only = i && size & 2;
		if (nvme_add_ns(f.n, i ? "b" : "a", f.c.node[i], &d, &e))
			abort();
		d.block_size = 4096;
	}
	machine_unlock(f.c.m);
	place(&f, true);
	init(&f);
	for (unsigned i = 0; f.c.in.left && i < CARD_STEPS; i++)
		step(&f);
	machine_free(f.c.m);
	return 0;
}
