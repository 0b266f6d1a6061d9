// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Q35 host bridge: PAM and PCIEXBAR (Intel 3 Series Express Chipset datasheet,
 * 5.1.15 to 5.1.30).
 *
 * Thirteen segments have two bits each, read and write enable.  Neighbours of the
 * same kind become one range of the memory map; when a register changes, only
 * ranges that differ are taken away and put there, since each costs the engines
 * their cached translations.
 *
 * "Write only" (reads from ROM, writes to RAM) shows the ROM, and writes are lost.
 */
#include "device/q35_mch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

#define AREA 0xc0000ull
#define AREA_END 0x100000ull
#define SEGMENT 0x4000ull	/* 12 of these, then one of 64 KiB */
#define LAST_SEGMENT 0xf0000ull
#define N_SEGMENTS 13
#define ROM_FROM 0xe0000ull

#define ESMRAMC 0x9e
#define SMRAM_LOCK 0x10
#define SMRAM_OPEN 0x40

enum kind { NOTHING, ROM, RAM_RO, RAM_RW };

struct run {
	uint64_t gpa, size;
	enum kind kind;
};

struct q35_mch {
	struct dev dev;
	struct pci_bus *root;
	struct pci_dev *pci;
	struct mem_rom *bios;
	struct run run[N_SEGMENTS];	/* shown now */
	unsigned n;
	uint8_t smram, esmramc;		/* as they were before the last write */
};

const struct pci_ids q35_mch_ids = {
	.vendor = 0x8086, .device = 0x29c0, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x060000,
};

static uint64_t segment_at(unsigned i)
{
	return AREA + i * SEGMENT;
}

static uint64_t segment_size(unsigned i)
{
	return i == N_SEGMENTS - 1 ? AREA_END - LAST_SEGMENT : SEGMENT;
}

/* PAM0 has the last segment in its upper half, PAM1 to PAM6 two each, the lower first. */
static unsigned segment_bits(const struct q35_mch *q, unsigned i)
{
	const uint8_t *pam = q->pci->config + Q35_MCH_PAM0;

	return i == N_SEGMENTS - 1 ? pam[0] >> 4 & 3 : pam[1 + i / 2] >> (i & 1 ? 4 : 0) & 3;
}

static enum kind segment_kind(const struct q35_mch *q, unsigned i)
{
	static const enum kind of[4] = { ROM, RAM_RO, ROM, RAM_RW };
	enum kind k = of[segment_bits(q, i)];
	uint64_t at = segment_at(i);

	if (k == ROM && (!q->bios || at < ROM_FROM || mem_rom_size(q->bios) < AREA_END - at))
		return NOTHING;
	return k;
}

static unsigned make_runs(const struct q35_mch *q, struct run *run)
{
	unsigned n = 0;

	for (unsigned i = 0; i < N_SEGMENTS; i++) {
		enum kind k = segment_kind(q, i);

		if (k == NOTHING)
			continue;
		if (n && run[n - 1].kind == k && run[n - 1].gpa + run[n - 1].size == segment_at(i))
			run[n - 1].size += segment_size(i);
		else
			run[n++] = (struct run){ segment_at(i), segment_size(i), k };
	}
	return n;
}

static int show(struct q35_mch *q, const struct run *r, struct err *e)
{
	struct mem *mem = q->dev.m->mem;

	switch (r->kind) {
	case ROM:
		return mem_show_rom(mem, q->bios, r->gpa, mem_rom_size(q->bios) - (AREA_END - r->gpa), r->size, e);
	case RAM_RO:
		return mem_add_ram_protected(mem, "ram.shadow", r->gpa, r->gpa, r->size, e);
	case RAM_RW:
		return mem_add_ram(mem, "ram.shadow", r->gpa, r->gpa, r->size, e);
	case NOTHING:
		break;
	}
	return 0;
}

static bool listed(const struct run *list, unsigned n, const struct run *r)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i].gpa == r->gpa && list[i].size == r->size && list[i].kind == r->kind)
			return true;
	return false;
}

static void hide_all(struct q35_mch *q, const struct run *keep, unsigned n_keep)
{
	for (unsigned i = 0; i < q->n; i++)
		if (!listed(keep, n_keep, &q->run[i]))
			mem_del(q->dev.m->mem, q->run[i].gpa);
}

static void update_pam(struct q35_mch *q)
{
	struct run now[N_SEGMENTS];
	unsigned n = make_runs(q, now), shown = 0;
	struct err e = { 0 };

	hide_all(q, now, n);
	for (unsigned i = 0; i < n; i++) {
		if (!listed(q->run, q->n, &now[i]) && show(q, &now[i], &e)) {
			log_error("shadow memory at %#llx: %s", (unsigned long long)now[i].gpa, e.msg);
			continue;
		}
		now[shown++] = now[i];
	}
	memcpy(q->run, now, shown * sizeof(now[0]));
	q->n = shown;
}

/* PCIEXBAR bits 2:1: 256, 128 or 64 buses. */
uint64_t q35_mch_ecam(const struct q35_mch *q, unsigned *buses)
{
	uint64_t v = ld_le64(q->pci->config + Q35_MCH_PCIEXBAR);
	unsigned len = v >> 1 & 3;

	*buses = 256 >> len;
	if (!(v & 1) || len == 3)
		return 0;
	return v & 0xffffff000ull & ~(((uint64_t)*buses << 20) - 1);
}

static void update_ecam(struct q35_mch *q)
{
	unsigned buses;
	uint64_t base = q35_mch_ecam(q, &buses);

	/* Where another region of the same base is, that one stays: the window is silent. */
	pci_root_set_ecam(q->root, base, buses);
}

/* Once locked, SMRAM is closed and does not change until reset. */
static void update_lock(struct q35_mch *q, bool written)
{
	uint8_t *reg = q->pci->config;

	if (written && q->smram & SMRAM_LOCK) {
		reg[Q35_MCH_SMRAM] = q->smram;
		reg[ESMRAMC] = q->esmramc;
	}
	if (reg[Q35_MCH_SMRAM] & SMRAM_LOCK)
		reg[Q35_MCH_SMRAM] &= (uint8_t)~SMRAM_OPEN;
	q->smram = reg[Q35_MCH_SMRAM];
	q->esmramc = reg[ESMRAMC];
}

static void changed(void *opaque, bool written)
{
	struct q35_mch *q = opaque;

	update_lock(q, written);
	update_pam(q);
	update_ecam(q);
}

void q35_mch_set_bios(struct q35_mch *q, struct mem_rom *bios)
{
	hide_all(q, NULL, 0);
	q->n = 0;
	q->bios = bios;
	update_pam(q);
}

void q35_mch_init(struct q35_mch *q, uint64_t ecam)
{
	pci_config_write(q->pci, Q35_MCH_PCIEXBAR + 4, 4, (uint32_t)(ecam >> 32));
	pci_config_write(q->pci, Q35_MCH_PCIEXBAR, 4, (uint32_t)ecam | 1);
	/* Two writes, one change of the memory map each. */
	pci_config_write(q->pci, Q35_MCH_PAM0 + 4, 2, 0x3333);
	pci_config_write(q->pci, Q35_MCH_PAM0 + 6, 1, 0x33);
	pci_config_write(q->pci, Q35_MCH_PAM0, 4, 0x33333330);
}

static void set_registers(struct pci_dev *d)
{
	st_le64(d->wmask + Q35_MCH_PCIEXBAR, 0xffc000007ull);
	d->wmask[Q35_MCH_PAM0] = 0x30;
	memset(d->wmask + Q35_MCH_PAM0 + 1, 0x33, 6);
	d->config[Q35_MCH_SMRAM] = 0x02;
	d->wmask[Q35_MCH_SMRAM] = 0x78;
	d->config[ESMRAMC] = 0x38;
	d->wmask[ESMRAMC] = 0x87;
	pci_dev_ready(d);
}

static void mch_reset(struct dev *d)
{
	/* The function's own reset has told already. */
}

static void mch_free(struct dev *d)
{
	struct q35_mch *q = container_of(d, struct q35_mch, dev);

	pci_root_on_change(q->root, NULL, NULL);
	dev_del(d);
	free(q);
}

static const struct dev_ops mch_ops = { .name = "q35-mch", .reset = mch_reset, .free = mch_free };

int q35_mch_new(struct machine *m, struct pci_bus *root, struct q35_mch **out, struct err *e)
{
	struct q35_mch *q = calloc(1, sizeof(*q));

	if (!q)
		return err_set(e, -ENOMEM, "out of memory");
	q->root = root;
	q->pci = pci_root_bridge(root);
	set_registers(q->pci);
	dev_add(m, &q->dev, &mch_ops, "q35.mch");
	pci_root_on_change(root, changed, q);
	changed(q, false);
	*out = q;
	return 0;
}
