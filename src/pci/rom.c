// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The expansion ROM of a function (PCI 3.0, 6.2.5.2): a BAR of its own with an
 * enable bit, beside the command register's.
 *
 * Where it is decoded the bytes are memory that can be read only, so that engines
 * read and run them directly; what is written there goes nowhere.  A place that RAM
 * has already shows the ROM to nobody, one that is taken by another device's
 * memory is read over the bus.
 */
#include "pci/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

#define ROM_ENABLE 1u
#define ROM_ADDRESS 0xfffff800u
#define NOT_MAPPED UINT64_MAX

struct pci_rom {
	struct mem_rom *bytes;
	struct bus_region region;
	uint64_t mapped_at;		/* NOT_MAPPED: the bus does not have it */
	bool shown;			/* as memory, at mapped_at */
};

unsigned pci_rom_reg(const struct pci_dev *d)
{
	return d->config[PCI_HEADER_TYPE] & 0x7f ? PCI_BRIDGE_ROM : PCI_ROM;
}

static uint64_t rom_read(void *opaque, uint64_t off, unsigned len)
{
	struct pci_rom *r = opaque;

	return ld_le(mem_rom_bytes(r->bytes) + off, len);
}

static void rom_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
}

static const struct bus_ops rom_ops = { .read = rom_read, .write = rom_write };

int pci_dev_add_rom(struct pci_dev *d, const void *data, uint64_t len, struct err *e)
{
	struct pci_rom *r;
	uint64_t size = PAGE_4K;
	int ret;

	if (d->rom)
		return err_set(e, -EEXIST, "%s has an option ROM already", d->dev.id);
	if (!len || len > PCI_ROM_MAX)
		return err_set(e, -EINVAL, "an option ROM has 1 byte to %u MiB", PCI_ROM_MAX >> 20);
	while (size < len)
		size *= 2;
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	ret = mem_rom_new(d->bus->m->mem, d->dev.id, size, &r->bytes, e);
	if (ret) {
		free(r);
		return ret;
	}
	memcpy(mem_rom_bytes(r->bytes), data, len);
	r->region = (struct bus_region){ .name = d->ops->dev.name, .ops = &rom_ops, .opaque = r, .size = size };
	r->mapped_at = NOT_MAPPED;
	d->rom = r;
	st_le32(d->wmask + pci_rom_reg(d), ((uint32_t)~(size - 1) & ROM_ADDRESS) | ROM_ENABLE);
	return 0;
}

/* Where the registers say it is; NOT_MAPPED while not decoded. */
static uint64_t decoded(const struct pci_dev *d)
{
	uint32_t reg = ld_le32(d->config + pci_rom_reg(d));
	uint64_t addr = reg & ROM_ADDRESS;

	if (!(reg & ROM_ENABLE) || !(ld_le16(d->config + PCI_COMMAND) & PCI_COMMAND_MEMORY))
		return NOT_MAPPED;
	/* As with BARs: a register full of ones is being sized. */
	if (!addr || addr + d->rom->region.size > UINT32_MAX)
		return NOT_MAPPED;
	return addr;
}

static void hide(struct pci_dev *d)
{
	struct pci_rom *r = d->rom;

	if (r->shown)
		mem_del(d->bus->m->mem, r->mapped_at);
	bus_del(&r->region);
	r->shown = false;
	r->mapped_at = NOT_MAPPED;
}

static void show(struct pci_dev *d, uint64_t at)
{
	struct pci_rom *r = d->rom;
	struct err e = { "" };

	r->region.base = at;
	if (bus_add(d->bus->m->mmio, &r->region)) {
		d->bus->root->bar_conflict = true;
		return;
	}
	r->mapped_at = at;
	r->shown = !mem_show_rom(d->bus->m->mem, r->bytes, at, 0, r->region.size, &e);
	if (!r->shown)
		log_guest("%s: its option ROM: %s", d->dev.id, e.msg);
}

bool pci_rom_update(struct pci_dev *d)
{
	uint64_t want, old;

	if (!d->rom)
		return false;
	want = decoded(d);
	old = d->rom->mapped_at;
	if (want == old)
		return false;
	hide(d);
	if (want != NOT_MAPPED)
		show(d, want);
	return d->rom->mapped_at != old;
}

uint64_t pci_rom_addr(const struct pci_dev *d)
{
	return d->rom ? d->rom->mapped_at : NOT_MAPPED;
}

void pci_rom_free(struct pci_dev *d)
{
	if (!d->rom)
		return;
	hide(d);
	free(d->rom);
	d->rom = NULL;
}
