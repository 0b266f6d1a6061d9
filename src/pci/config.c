/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Configuration space of one function: registers with write masks, BARs,
 * capability lists, INTx, life cycle (PCI 3.0, 6; PCIe 4.0, 7.5).
 *
 * A guest write is taken byte by byte through wmask and w1c, then its
 * consequences are worked out from the resulting registers: mapping, wires and
 * pending messages never depend on how the bytes arrived.
 */
#include "pci/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"

#define COMMAND_WMASK 0x0547	/* I/O, memory, master, parity, SERR#, INTx disable */
#define STATUS_W1C 0xf900
#define PCI_CLASS_BRIDGE_PCI 0x0604
#define NOT_MAPPED UINT64_MAX

static uint16_t command(const struct pci_dev *d)
{
	return ld_le16(d->config + PCI_COMMAND);
}

/* ---- construction ---- */

int pci_free_slot(const struct pci_bus *b)
{
	uint32_t taken = pci_bus_used(b) | b->kept;

	for (int slot = 0; slot < (b->port_bus ? 1 : 32); slot++)
		if (!(taken >> slot & 1))
			return PCI_DEVFN(slot, 0);
	return PCI_ANY_DEVFN;
}

static void init_bridge_header(struct pci_dev *d)
{
	d->config[PCI_HEADER_TYPE] = 1;
	memset(d->wmask + PCI_PRIMARY_BUS, 0xff, 3);
	d->wmask[PCI_IO_BASE] = d->wmask[PCI_IO_LIMIT] = 0xf0;
	st_le16(d->wmask + PCI_MEMORY_BASE, 0xfff0);
	st_le16(d->wmask + PCI_MEMORY_LIMIT, 0xfff0);
	st_le16(d->wmask + PCI_PREF_BASE, 0xfff0);
	st_le16(d->wmask + PCI_PREF_LIMIT, 0xfff0);
	d->config[PCI_PREF_BASE] = d->config[PCI_PREF_LIMIT] = 1;	/* 64-bit prefetchable window */
	memset(d->wmask + 0x28, 0xff, 8);				/* its upper halves */
	st_le16(d->wmask + PCI_BRIDGE_CONTROL, 0x0043);			/* parity, SERR#, bus reset */
}

static void init_header(struct pci_dev *d, const struct pci_ids *ids)
{
	st_le16(d->config + PCI_VENDOR_ID, ids->vendor);
	st_le16(d->config + PCI_DEVICE_ID, ids->device);
	d->config[PCI_REVISION_ID] = ids->revision;
	d->config[PCI_CLASS_PROG] = ids->class24;
	st_le16(d->config + PCI_CLASS_PROG + 1, ids->class24 >> 8);
	st_le16(d->wmask + PCI_COMMAND, COMMAND_WMASK);
	st_le16(d->w1c + PCI_STATUS, STATUS_W1C);
	d->wmask[0x0c] = 0xff;			/* cache line size: no effect */
	d->wmask[PCI_INTERRUPT_LINE] = 0xff;
	if (ids->class24 >> 8 == PCI_CLASS_BRIDGE_PCI) {
		init_bridge_header(d);
	} else {
		st_le16(d->config + PCI_SUBSYSTEM_VENDOR_ID, ids->sub_vendor);
		st_le16(d->config + PCI_SUBSYSTEM_ID, ids->sub_device);
	}
}

int pci_dev_init(struct pci_dev *d, struct machine *m, struct pci_bus *bus, int devfn,
		 const struct pci_dev_ops *ops, const struct pci_ids *ids, struct err *e)
{
	char id[sizeof(d->dev.id)];

	if (devfn == PCI_ANY_DEVFN)
		devfn = pci_free_slot(bus);
	if (devfn < 0 && bus->port_bus)
		return err_set(e, -EBUSY, "the root port has a card already: no place for %s", ops->dev.name);
	if (devfn < 0)
		return err_set(e, -ENOSPC, "no free PCI slot for %s: all 32 are taken", ops->dev.name);
	if (devfn > 255 || (bus->port_bus && devfn > 7))
		return err_set(e, -EINVAL, "PCI slot %d for %s does not exist (0 to 31)", devfn >> 3, ops->dev.name);
	if (bus->devs[devfn])
		return err_set(e, -EEXIST, "PCI slot %d.%d is taken by %s; choose another for %s", devfn >> 3,
			       devfn & 7, bus->devs[devfn]->ops->dev.name, ops->dev.name);
	memset(d, 0, sizeof(*d));
	d->ops = ops;
	d->bus = bus;
	d->devfn = devfn;
	d->cap_next = 0x40;
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		d->bar[i].mapped_at = NOT_MAPPED;
	init_header(d, ids);
	bus->devs[devfn] = d;
	/* Bus numbers are the guest's to choose: name the way to the function. */
	snprintf(id, sizeof(id), "%.22s:%02x.%x", bus->bridge ? bus->bridge->dev.id : "pci", devfn >> 3, devfn & 7);
	dev_add(m, &d->dev, &ops->dev, id);
	return 0;
}

int pci_dev_add_bar(struct pci_dev *d, unsigned n, enum pci_bar_kind kind, bool prefetch, uint64_t size,
		    const struct bus_ops *ops, void *opaque)
{
	unsigned max = d->config[PCI_HEADER_TYPE] & 0x7f ? 2 : PCI_NUM_BARS, reg = PCI_BAR(n);
	struct pci_bar *b;
	uint32_t flags = 0;

	if (kind == PCI_BAR_NONE || n >= max || d->bar[n].kind || (n && d->bar[n - 1].kind == PCI_BAR_MEM64))
		return -EINVAL;
	if (kind == PCI_BAR_MEM64 && (n + 1 >= max || d->bar[n + 1].kind))
		return -EINVAL;
	if (!is_pow2(size) || size < (kind == PCI_BAR_IO ? 4 : 16) || (kind == PCI_BAR_IO && size > 256) ||
	    (kind == PCI_BAR_MEM32 && size > BIT(31)))
		return -EINVAL;
	b = &d->bar[n];
	b->kind = kind;
	b->prefetch = prefetch;
	b->size = size;
	b->region.name = d->ops->dev.name;
	b->region.ops = ops;
	b->region.opaque = opaque;
	if (kind == PCI_BAR_IO)
		flags = 1;
	else
		flags = (kind == PCI_BAR_MEM64 ? 4 : 0) | (prefetch ? 8 : 0);
	st_le32(d->config + reg, flags);
	st_le32(d->wmask + reg, (uint32_t)~(size - 1) & (kind == PCI_BAR_IO ? ~3u : ~15u));
	if (kind == PCI_BAR_MEM64)
		st_le32(d->wmask + reg + 4, (uint32_t)(~(size - 1) >> 32));
	return 0;
}

int pci_dev_add_cap(struct pci_dev *d, uint8_t id, const void *body, unsigned len)
{
	unsigned off = d->cap_next, total = align_up(len + 2, 4), last;

	if (off + total > 0x100)
		return -ENOSPC;
	d->config[off] = id;
	if (len && body)
		memcpy(d->config + off + 2, body, len);
	/* Appended at the end, so that a guest sees them in order of construction. */
	if (!d->config[PCI_CAP_PTR]) {
		d->config[PCI_CAP_PTR] = off;
	} else {
		for (last = d->config[PCI_CAP_PTR]; d->config[last + 1]; last = d->config[last + 1])
			;
		d->config[last + 1] = off;
	}
	d->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	d->cap_next = off + total;
	return off;
}

/* 7.6.3: header word id 15:0, version 19:16, next 31:20; the list starts at
 * 0x100 and an all-zero word there means that it is empty. */
int pci_dev_add_ext_cap(struct pci_dev *d, uint16_t id, uint8_t ver, const void *body, unsigned len)
{
	unsigned off = d->ext_cap_next ? d->ext_cap_next : 0x100, total = align_up(len + 4, 4);

	if (off + total > PCI_CONFIG_SIZE)
		return -ENOSPC;
	st_le32(d->config + off, id | (uint32_t)(ver & 15) << 16);
	if (len && body)
		memcpy(d->config + off + 4, body, len);
	if (d->ext_cap_last) {
		uint32_t prev = ld_le32(d->config + d->ext_cap_last);

		st_le32(d->config + d->ext_cap_last, (prev & 0xfffff) | (uint32_t)off << 20);
	}
	d->ext_cap_last = off;
	d->ext_cap_next = off + total;
	return off;
}

/* PCIe 4.0, 7.5.3: version 2 of the structure, no slot, no root control. */
void pci_dev_add_pcie(struct pci_dev *d, unsigned type)
{
	uint8_t body[0x3a] = { 0 };
	int off;

	if (type == 9 && d->bus->port_bus)
		type = 0;
	st_le16(body + 0x00, 2 | (type & 15) << 4);
	st_le32(body + 0x02, 1u << 15);			/* device: role-based error reporting */
	if (type != 9) {
		st_le32(body + 0x0a, 1 << 4 | 1);	/* link: x1, 2.5 GT/s */
		st_le16(body + 0x10, 1 << 4 | 1);
	}
	off = pci_dev_add_cap(d, PCI_CAP_ID_PCIE, body, sizeof(body));
	if (off < 0)
		return;
	st_le16(d->wmask + off + 0x08, 0x7fff);		/* device control */
	st_le16(d->w1c + off + 0x0a, 0x000f);
	if (type != 9)
		st_le16(d->wmask + off + 0x10, 0x01fb);	/* link control */
}

void pci_dev_use_intx(struct pci_dev *d, unsigned pin)
{
	d->config[PCI_INTERRUPT_PIN] = pin;
}

/* A second function makes its slot multi-function: function 0 says so, also
 * after a reset. */
static void mark_multi_function(struct pci_dev *d)
{
	unsigned slot = d->devfn & ~7u;
	struct pci_dev *f0 = d->bus->devs[slot];
	bool multi = false;

	for (unsigned fn = 1; fn < 8; fn++)
		multi |= d->bus->devs[slot | fn] != NULL;
	if (!f0 || !multi)
		return;
	f0->config[PCI_HEADER_TYPE] |= 0x80;
	f0->reset_val[PCI_HEADER_TYPE] |= 0x80;
}

void pci_dev_ready(struct pci_dev *d)
{
	memcpy(d->reset_val, d->config, sizeof(d->config));
	mark_multi_function(d);
}

void pci_dev_fini(struct pci_dev *d)
{
	pci_intx_set(d, false);
	st_le16(d->config + PCI_COMMAND, 0);
	pci_bars_update(d);
	pci_rom_free(d);
	pci_msix_free(d);
	d->bus->devs[d->devfn] = NULL;
	dev_del(&d->dev);
}

void pci_dev_reset(struct pci_dev *d)
{
	d->intx_level = false;
	memcpy(d->config, d->reset_val, sizeof(d->config));
	pci_msix_reset(d);
	pci_bars_update(d);
	pci_intx_update(d);
}

/* ---- BARs ---- */

/* Where the registers say BAR n is; NOT_MAPPED while not decoded. */
static uint64_t bar_decoded(const struct pci_dev *d, unsigned n)
{
	const struct pci_bar *b = &d->bar[n];
	uint64_t addr, last, lo = ld_le32(d->config + PCI_BAR(n));

	switch (b->kind) {
	case PCI_BAR_IO:
		if (!(command(d) & PCI_COMMAND_IO))
			return NOT_MAPPED;
		addr = lo & ~3ull;
		if (!addr || addr + b->size - 1 > 0xffff)
			return NOT_MAPPED;
		return addr;
	case PCI_BAR_MEM64:
		addr = lo | (uint64_t)ld_le32(d->config + PCI_BAR(n + 1)) << 32;
		break;
	case PCI_BAR_MEM32:
		addr = lo;
		break;
	case PCI_BAR_NONE:
	default:
		return NOT_MAPPED;
	}
	if (!(command(d) & PCI_COMMAND_MEMORY))
		return NOT_MAPPED;
	addr &= ~15ull;
	/* A register full of ones is being sized, not placed; the value is not to
	 * appear on top of whatever ends at 4 GiB. */
	if (!addr || add_overflows(addr, b->size - 1, &last) || last == UINT32_MAX || last == UINT64_MAX)
		return NOT_MAPPED;
	return addr;
}

static bool bar_update(struct pci_dev *d, unsigned n)
{
	struct pci_bar *b = &d->bar[n];
	uint64_t want = bar_decoded(d, n), old = b->mapped_at;
	struct machine *m = d->bus->m;

	if (want == old)
		return false;
	if (old != NOT_MAPPED)
		bus_del(&b->region);
	b->mapped_at = NOT_MAPPED;
	if (want != NOT_MAPPED) {
		b->region.base = want;
		b->region.size = b->size;
		if (!bus_add(b->kind == PCI_BAR_IO ? m->pio : m->mmio, &b->region))
			b->mapped_at = want;
		else
			d->bus->root->bar_conflict = true;
	}
	return b->mapped_at != old;
}

static bool bars_update(struct pci_dev *d)
{
	bool changed = false;

	for (unsigned n = 0; n < PCI_NUM_BARS; n++)
		if (d->bar[n].kind)
			changed |= bar_update(d, n);
	changed |= pci_rom_update(d);
	if (changed && d->ops->bars_changed)
		d->ops->bars_changed(d);
	return changed;
}

void pci_bars_update(struct pci_dev *d)
{
	struct pci_root *r = d->bus->root;

	if (bars_update(d) && r->bar_conflict)
		pci_bars_retry(r);
}

static void retry_bus(struct pci_bus *b)
{
	for (unsigned i = 0; i < ARRAY_LEN(b->devs); i++)
		if (b->devs[i])
			bars_update(b->devs[i]);
	list_for_each(n, &b->children)
		retry_bus(list_entry(n, struct pci_bus, node));
}

/* The flag comes back if a place is still taken. */
void pci_bars_retry(struct pci_root *r)
{
	r->bar_conflict = false;
	retry_bus(&r->bus);
}

uint64_t pci_bar_addr(const struct pci_dev *d, unsigned n)
{
	return n < PCI_NUM_BARS ? d->bar[n].mapped_at : NOT_MAPPED;
}

/* ---- INTx ---- */

unsigned pci_pirq(const struct pci_dev *d)
{
	unsigned pin = (d->config[PCI_INTERRUPT_PIN] - 1) & 3, slot = d->devfn >> 3;

	for (const struct pci_bus *b = d->bus; b->bridge; b = b->parent) {
		pin = (pin + slot) & 3;
		slot = b->bridge->devfn >> 3;
	}
	if (d->bus->root->cfg.chipset_slot && slot >= d->bus->root->cfg.chipset_slot)
		slot = 0;
	return (pin + slot) & 3;
}

void pci_intx_update(struct pci_dev *d)
{
	struct pci_root *r = d->bus->root;
	bool want = d->intx_level && !(command(d) & PCI_COMMAND_INTX_DISABLE) &&
		    !pci_msi_enabled(d) && !pci_msix_enabled(d);
	unsigned pirq;

	if (!d->config[PCI_INTERRUPT_PIN])
		return;
	/* The status bit shows the request even while the wire is disabled. */
	d->config[PCI_STATUS] &= ~PCI_STATUS_INTX;
	if (d->intx_level)
		d->config[PCI_STATUS] |= PCI_STATUS_INTX;
	if (want == d->intx_driven)
		return;
	d->intx_driven = want;
	pirq = pci_pirq(d);
	if (want ? r->pirq_count[pirq]++ == 0 : --r->pirq_count[pirq] == 0)
		irq_set(&r->cfg.intx[pirq], want);
}

void pci_intx_set(struct pci_dev *d, bool level)
{
	if (d->intx_level == level)
		return;
	d->intx_level = level;
	pci_intx_update(d);
}

/* ---- access ---- */

static bool overlaps(unsigned off, unsigned len, unsigned first, unsigned size)
{
	return off < first + size && first < off + len;
}

uint32_t pci_config_read(struct pci_dev *d, unsigned off, unsigned len)
{
	uint32_t v;

	if (len > 4 || !range_inside(off, len, PCI_CONFIG_SIZE))
		return UINT32_MAX;
	if (d->ops->config_read && d->ops->config_read(d, off, len, &v))
		return v;
	return ld_le(d->config + off, len);
}

static void config_consequences(struct pci_dev *d, unsigned off, unsigned len)
{
	bool cmd = overlaps(off, len, PCI_COMMAND, 2);

	if (cmd || overlaps(off, len, PCI_BAR(0), 4 * PCI_NUM_BARS) || (d->rom && overlaps(off, len, pci_rom_reg(d), 4)))
		pci_bars_update(d);
	if (d->msi_cap && (cmd || overlaps(off, len, d->msi_cap, 24)))
		pci_msi_update(d);
	if (d->msix_cap && (cmd || overlaps(off, len, d->msix_cap, 12)))
		pci_msix_update(d);
	pci_intx_update(d);
}

void pci_config_write(struct pci_dev *d, unsigned off, unsigned len, uint32_t v)
{
	if (len > 4 || !range_inside(off, len, PCI_CONFIG_SIZE))
		return;
	for (unsigned i = off; i < off + len; i++, v >>= 8) {
		uint8_t b = v;

		d->config[i] = (d->config[i] & ~d->wmask[i]) | (b & d->wmask[i]);
		d->config[i] &= ~(b & d->w1c[i]);
	}
	config_consequences(d, off, len);
	if (d->ops->config_written)
		d->ops->config_written(d, off, len);
}

/* ---- snapshots ---- */

int pci_dev_save(struct pci_dev *d, struct snap_out *o)
{
	uint8_t level = d->intx_level;
	int ret = snap_put_blob(o, d->dev.id, d->config, sizeof(d->config));

	if (!ret)
		ret = snap_put_blob(o, "intx", &level, 1);
	return ret ? ret : pci_msix_save(d, o);
}

/* Only what a guest could have written is taken over from the stream. */
static void load_registers(struct pci_dev *d, const uint8_t *in)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t take = d->wmask[i] | d->w1c[i];

		d->config[i] = (d->config[i] & ~take) | (in[i] & take);
	}
	if (d->msi_cap)
		memcpy(d->config + d->msi_cap + 20, in + d->msi_cap + 20, 4);	/* pending bits */
}

int pci_dev_load(struct pci_dev *d, struct snap_in *in, struct err *e)
{
	uint8_t config[PCI_CONFIG_SIZE], level;
	uint32_t len;
	int ret = snap_get_blob(in, d->dev.id, config, sizeof(config), &len, e);

	if (ret)
		return ret;
	if (len != sizeof(config) || memcmp(config, d->config, 4) != 0)
		return err_set(e, -EINVAL, "saved state holds another PCI function than %s at %s", d->ops->dev.name,
			       d->dev.id);
	ret = snap_get_blob(in, "intx", &level, 1, &len, e);
	if (ret)
		return ret;
	if (len != 1)
		return err_set(e, -EINVAL, "saved state of %s is damaged", d->dev.id);
	pci_dev_reset(d);
	load_registers(d, config);
	ret = pci_msix_load(d, in, e);
	if (ret)
		return ret;
	pci_bars_update(d);
	d->intx_level = level & 1;
	pci_intx_update(d);
	return 0;
}
