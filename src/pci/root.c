/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root of a PCI hierarchy: bus tree, host bridge at 00:00.0, configuration
 * access by CF8/CFC (PCI 3.0, 3.2.2.3.2) and ECAM (PCIe 4.0, 7.2.2), and the
 * assignment of resources that firmware would do.
 *
 * The root bus is number 0; behind a bridge the guest's bus numbers decide.
 * Bridge windows are registers only: a BAR is decoded wherever its own register
 * says (docs/QUIRKS.md).
 */
#include "pci/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"

#define CONFIG_ADDRESS_ENABLE 0x80000000u

/* ---- buses ---- */

static void bus_init(struct pci_bus *b, struct machine *m, struct pci_root *r)
{
	b->m = m;
	b->root = r;
	list_init(&b->children);
	list_init(&b->node);
}

int pci_bus_new(struct pci_dev *bridge, struct pci_bus **out)
{
	struct pci_bus *b;

	if ((bridge->config[PCI_HEADER_TYPE] & 0x7f) != 1)
		return -EINVAL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	bus_init(b, bridge->bus->m, bridge->bus->root);
	b->parent = bridge->bus;
	b->bridge = bridge;
	list_add_tail(&b->parent->children, &b->node);
	*out = b;
	return 0;
}

void pci_bus_free(struct pci_bus *b)
{
	if (!b)
		return;
	list_del(&b->node);
	free(b);
}

/* The bus the guest reaches by `number`, following the bridges' registers. */
static struct pci_bus *bus_find(struct pci_bus *b, unsigned number)
{
	if (!b->parent && !number)
		return b;
	list_for_each(n, &b->children) {
		struct pci_bus *c = list_entry(n, struct pci_bus, node);
		const uint8_t *config = c->bridge->config;
		unsigned sec = config[PCI_SECONDARY_BUS];

		if (!sec || number < sec)
			continue;
		if (number == sec)
			return c->off ? NULL : c;
		if (number <= config[PCI_SUBORDINATE_BUS])
			return bus_find(c, number);
	}
	return NULL;
}

struct pci_dev *pci_bus_dev(const struct pci_bus *b, unsigned devfn) { return devfn < 256 ? b->devs[devfn] : NULL; }

struct pci_dev *pci_find(struct pci_bus *root, unsigned bus, unsigned devfn)
{
	struct pci_bus *b = bus_find(root, bus);

	return b && devfn < 256 && !(b->hidden >> (devfn >> 3) & 1) ? b->devs[devfn] : NULL;
}

/* ---- slots ---- */

void pci_bus_keep(struct pci_bus *b, uint32_t slots) { b->kept |= slots; }
uint32_t pci_bus_kept(const struct pci_bus *b) { return b->kept; }

void pci_bus_hide(struct pci_bus *b, unsigned slot, bool hide)
{
	b->hidden = hide ? b->hidden | BIT(slot) : b->hidden & ~BIT(slot);
}

uint32_t pci_bus_used(const struct pci_bus *b)
{
	uint32_t used = 0;

	for (unsigned i = 0; i < ARRAY_LEN(b->devs); i++)
		if (b->devs[i])
			used |= BIT(i >> 3);
	return used;
}

/* ---- configuration mechanisms ---- */

/* Only a dword is an access to the register (`exact`); bytes belong to other
 * chips, the reset control register at 0xcf9 among them. */
static uint64_t address_read(void *opaque, uint64_t off, unsigned len)
{
	struct pci_root *r = opaque;

	return r->config_address;
}

static void address_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct pci_root *r = opaque;

	r->config_address = val & 0x80fffffc;
}

static const struct bus_ops address_ops = {
	.read = address_read,
	.write = address_write,
	.min_len = 4,
	.max_len = 4,
	.exact = true,
};

static struct pci_dev *addressed(struct pci_root *r)
{
	if (!(r->config_address & CONFIG_ADDRESS_ENABLE))
		return NULL;
	return pci_find(&r->bus, r->config_address >> 16 & 0xff, r->config_address >> 8 & 0xff);
}

static uint64_t data_read(void *opaque, uint64_t off, unsigned len)
{
	struct pci_root *r = opaque;
	struct pci_dev *d = addressed(r);

	return d ? pci_config_read(d, (r->config_address & 0xfc) + off, len) : UINT64_MAX;
}

static void data_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct pci_root *r = opaque;
	struct pci_dev *d = addressed(r);

	if (d)
		pci_config_write(d, (r->config_address & 0xfc) + off, len, val);
}

static const struct bus_ops data_ops = {
	.read = data_read,
	.write = data_write,
	.min_len = 1,
	.max_len = 4,
};

static uint64_t ecam_read(void *opaque, uint64_t off, unsigned len)
{
	struct pci_root *r = opaque;
	struct pci_dev *d = pci_find(&r->bus, off >> 20, off >> 12 & 0xff);

	return d ? pci_config_read(d, off & 0xfff, len) : UINT64_MAX;
}

static void ecam_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct pci_root *r = opaque;
	struct pci_dev *d = pci_find(&r->bus, off >> 20, off >> 12 & 0xff);

	if (d)
		pci_config_write(d, off & 0xfff, len, val);
}

static const struct bus_ops ecam_ops = {
	.read = ecam_read,
	.write = ecam_write,
	.min_len = 1,
	.max_len = 4,
};

/* ---- host bridge ---- */

static const struct snap_field root_fields[] = {
	SNAP_FIELD(struct pci_root, config_address),
	SNAP_END,
};
static const struct snap_table root_table = { "pci-root", 1, root_fields };

static struct pci_root *root_of(struct dev *dev)
{
	return container_of(dev, struct pci_root, host_bridge.dev);
}

static void tell_changed(struct pci_root *r, bool written)
{
	if (r->changed)
		r->changed(r->changed_opaque, written);
}

static void root_reset(struct dev *dev)
{
	struct pci_root *r = root_of(dev);

	r->config_address = 0;
	pci_dev_reset(&r->host_bridge);
	tell_changed(r, false);
}

static void root_written(struct pci_dev *d, unsigned off, unsigned len)
{
	tell_changed(container_of(d, struct pci_root, host_bridge), true);
}

static int root_save(struct dev *dev, struct snap_out *o)
{
	struct pci_root *r = root_of(dev);
	int ret = pci_dev_save(&r->host_bridge, o);

	return ret ? ret : snap_put(o, dev->id, &root_table, r);
}

static int root_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct pci_root *r = root_of(dev);
	int ret = pci_dev_load(&r->host_bridge, in, e);

	if (!ret)
		ret = snap_get(in, dev->id, &root_table, r, e);
	r->config_address &= 0x80fffffc;
	if (!ret)
		tell_changed(r, false);
	return ret;
}

static void root_free(struct dev *dev)
{
	struct pci_root *r = root_of(dev);

	bus_del(&r->cf8);
	bus_del(&r->cfc);
	bus_del(&r->ecam);
	pci_dev_fini(&r->host_bridge);
	free(r);
}

static const struct pci_dev_ops root_ops = {
	.dev = {
		.name = "pci-host-bridge",
		.reset = root_reset,
		.save = root_save,
		.load = root_load,
		.free = root_free,
	},
	.config_written = root_written,
};

/* The generic PCIe host bridge that guests know from other hypervisors: no
 * driver binds to it and no quirk applies. */
static const struct pci_ids root_ids = {
	.vendor = 0x1b36, .device = 0x0008, .sub_vendor = 0x1af4, .sub_device = 0x1100,
	.class24 = 0x060000,
};

static int add_region(struct bus *bus, struct bus_region *reg, const char *name, const struct bus_ops *ops,
		      struct pci_root *r, uint64_t base, uint64_t size)
{
	*reg = (struct bus_region){ .name = name, .ops = ops, .opaque = r, .base = base, .size = size,
				    .priority = 1 };
	return bus_add(bus, reg);
}

int pci_root_new(struct machine *m, const struct pci_root_config *cfg, struct pci_bus **out, struct err *e)
{
	struct pci_root *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->cfg = *cfg;
	bus_init(&r->bus, m, r);
	ret = pci_dev_init(&r->host_bridge, m, &r->bus, PCI_DEVFN(0, 0), &root_ops,
			   cfg->bridge.vendor ? &cfg->bridge : &root_ids, e);
	if (ret) {
		free(r);
		return ret;
	}
	pci_dev_ready(&r->host_bridge);
	if (cfg->cf8) {
		ret = add_region(m->pio, &r->cf8, "pci-cf8", &address_ops, r, 0xcf8, 4);
		if (!ret)
			ret = add_region(m->pio, &r->cfc, "pci-cfc", &data_ops, r, 0xcfc, 4);
	}
	if (!ret && cfg->ecam_base)
		ret = add_region(m->mmio, &r->ecam, "pci-ecam", &ecam_ops, r, cfg->ecam_base,
				 (uint64_t)cfg->ecam_buses << 20);
	if (ret) {
		root_free(&r->host_bridge.dev);
		return err_set(e, ret, "PCI configuration registers collide with another device");
	}
	*out = &r->bus;
	return 0;
}

struct pci_dev *pci_root_bridge(struct pci_bus *root)
{
	return &root->root->host_bridge;
}

void pci_root_on_change(struct pci_bus *root, void (*fn)(void *opaque, bool written), void *opaque)
{
	root->root->changed = fn;
	root->root->changed_opaque = opaque;
}

int pci_root_set_ecam(struct pci_bus *root, uint64_t base, unsigned buses)
{
	struct pci_root *r = root->root;
	uint64_t size = (uint64_t)buses << 20;

	if (r->ecam.bus && r->ecam.base == base && r->ecam.size == size)
		return 0;
	bus_del(&r->ecam);
	return base ? add_region(r->bus.m->mmio, &r->ecam, "pci-ecam", &ecam_ops, r, base, size) : 0;
}

static void each_on_bus(struct pci_bus *b, void (*fn)(void *opaque, struct pci_dev *d), void *opaque)
{
	for (unsigned i = 0; i < ARRAY_LEN(b->devs); i++)
		if (b->devs[i])
			fn(opaque, b->devs[i]);
	list_for_each(n, &b->children)
		each_on_bus(list_entry(n, struct pci_bus, node), fn, opaque);
}

void pci_for_each(struct pci_bus *root, void (*fn)(void *opaque, struct pci_dev *d), void *opaque)
{
	each_on_bus(root, fn, opaque);
}

/* ---- resource assignment ---- */

struct window {
	uint64_t next, end;
};

struct assign {
	struct window io, mem32, mem64;
	unsigned next_bus;
	const uint8_t *irq_line;
};

static uint64_t window_take(struct window *w, uint64_t size)
{
	uint64_t at = align_up(w->next, size), end;

	if (at < w->next || add_overflows(at, size, &end) || end > w->end)
		return 0;
	w->next = end;
	return at;
}

/* Small 64-bit BARs go below 4 GiB too, where kernels without PAE reach them. */
static uint64_t place_bar(struct assign *a, const struct pci_bar *b)
{
	uint64_t at = 0, size = MAX(b->size, PAGE_4K);

	switch (b->kind) {
	case PCI_BAR_IO:
		return window_take(&a->io, b->size);
	case PCI_BAR_MEM64:
		if (size > 1 << 20)
			at = window_take(&a->mem64, size);
		if (!at)
			at = window_take(&a->mem32, size);
		return at ? at : window_take(&a->mem64, size);
	case PCI_BAR_MEM32:
		return window_take(&a->mem32, size);
	case PCI_BAR_NONE:
	default:
		return 0;
	}
}

static void assign_function(struct assign *a, struct pci_dev *d)
{
	uint32_t cmd = pci_config_read(d, PCI_COMMAND, 2);

	for (unsigned n = 0; n < PCI_NUM_BARS; n++) {
		const struct pci_bar *b = &d->bar[n];
		uint64_t at = place_bar(a, b);

		if (!at)
			continue;
		pci_config_write(d, PCI_BAR(n), 4, at);
		if (b->kind == PCI_BAR_MEM64)
			pci_config_write(d, PCI_BAR(n + 1), 4, at >> 32);
		cmd |= b->kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	}
	if (d->config[PCI_INTERRUPT_PIN])
		pci_config_write(d, PCI_INTERRUPT_LINE, 1, a->irq_line[pci_pirq(d)]);
	pci_config_write(d, PCI_COMMAND, 2, cmd);
}

static void assign_bus(struct assign *a, struct pci_bus *b, unsigned number);

/* A slot whose card comes later needs windows now: 2 MiB, and for large BARs what is prefetchable and 64 bits wide. */
#define SLOT_MEM (2u << 20)
#define SLOT_PREF (64u << 20)

static uint64_t reserve_pref(struct window *w, const struct pci_bus *c)
{
	return c->port_bus ? window_take(w, SLOT_PREF) : 0;
}

static void set_pref(struct pci_dev *d, uint64_t at)
{
	uint64_t last = at + SLOT_PREF - 1;

	/* An empty window has its limit below its base. */
	pci_config_write(d, PCI_PREF_BASE, 2, at ? at >> 16 : 0xfff0);
	pci_config_write(d, PCI_PREF_LIMIT, 2, at ? last >> 16 : 0);
	pci_config_write(d, PCI_PREF_BASE_UPPER, 4, at >> 32);
	pci_config_write(d, PCI_PREF_LIMIT_UPPER, 4, at ? last >> 32 : 0);
}

/* The bridge's windows are what the bus behind it took, in their granules:
 * 4 KiB of ports, 1 MiB of memory; of the prefetchable kind only what is set aside for a slot. */
static void assign_bridge(struct assign *a, struct pci_bus *c)
{
	struct pci_dev *d = c->bridge;
	uint64_t io, mem, pref = reserve_pref(&a->mem64, c);
	struct window mem64 = a->mem64;
	unsigned number = a->next_bus++;

	io = a->io.next = align_up(a->io.next, 0x1000);
	mem = a->mem32.next = align_up(a->mem32.next, 1 << 20);
	a->mem64 = (struct window){ 0 };
	pci_config_write(d, PCI_SECONDARY_BUS, 1, number);
	pci_config_write(d, PCI_SUBORDINATE_BUS, 1, 0xff);
	assign_bus(a, c, number);
	pci_config_write(d, PCI_SUBORDINATE_BUS, 1, a->next_bus - 1);
	a->io.next = align_up(a->io.next, 0x1000);
	a->mem32.next = align_up(a->mem32.next, 1 << 20);
	if (c->port_bus && mem + SLOT_MEM <= a->mem32.end)
		a->mem32.next = MAX(a->mem32.next, mem + SLOT_MEM);
	a->mem64 = mem64;
	/* An empty window has its limit below its base. */
	pci_config_write(d, PCI_IO_BASE, 1, a->io.next > io ? io >> 8 : 0xf0);
	pci_config_write(d, PCI_IO_LIMIT, 1, a->io.next > io ? (a->io.next - 1) >> 8 : 0);
	pci_config_write(d, PCI_MEMORY_BASE, 2, a->mem32.next > mem ? mem >> 16 : 0xfff0);
	pci_config_write(d, PCI_MEMORY_LIMIT, 2, a->mem32.next > mem ? (a->mem32.next - 1) >> 16 : 0);
	set_pref(d, pref);
	pci_config_write(d, PCI_COMMAND, 2,
			 pci_config_read(d, PCI_COMMAND, 2) | PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void assign_bus(struct assign *a, struct pci_bus *b, unsigned number)
{
	for (unsigned i = 0; i < ARRAY_LEN(b->devs); i++)
		if (b->devs[i])
			assign_function(a, b->devs[i]);
	list_for_each(n, &b->children) {
		struct pci_bus *c = list_entry(n, struct pci_bus, node);

		pci_config_write(c->bridge, PCI_PRIMARY_BUS, 1, number);
		assign_bridge(a, c);
	}
}

void pci_root_assign(struct pci_bus *root, const uint8_t irq_line_of_pirq[4])
{
	const struct pci_root_config *c = &root->root->cfg;
	struct assign a = {
		.io = { c->io_base, (uint64_t)c->io_base + c->io_size },
		.mem32 = { c->mmio32_base, c->mmio32_base + c->mmio32_size },
		.mem64 = { c->mmio64_base, c->mmio64_base + c->mmio64_size },
		.next_bus = 1,
		.irq_line = irq_line_of_pirq,
	};

	assign_bus(&a, root, 0);
}
