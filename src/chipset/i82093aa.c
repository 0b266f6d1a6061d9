/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82093AA I/O APIC (data sheet 290566, and the EOI register of the
 * chipset-integrated version 0x20).
 *
 * A pin's redirection entry is turned into a message: destination, mode,
 * vector and trigger have their places in the MSI layout.  Edge: a rising pin
 * sends once; edges at a masked pin are lost (data sheet 3.2.4).  Level: sends
 * while the pin is high and Remote IRR is clear; Remote IRR is set by sending
 * and cleared by the EOI of the vector.  A level message that no local APIC took
 * stays pending and is tried again at the next change of pin or entry.
 *
 * The polarity bit is kept but means nothing here: a wire is high when its
 * device asks.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/i82093aa.h"
#include "machine/machine.h"

#define VERSION_VALUE (0x20u | (I82093AA_PINS - 1) << 16)

#define RTE_DELIVERY_STATUS BIT64(12)
#define RTE_REMOTE_IRR BIT64(14)
#define RTE_LEVEL BIT64(15)
#define RTE_MASKED BIT64(16)
#define RTE_READ_ONLY (RTE_DELIVERY_STATUS | RTE_REMOTE_IRR)
#define RTE_WRITABLE (0xff0000000001ffffull & ~RTE_READ_ONLY)

enum { OFF_SELECT = 0x00, OFF_WINDOW = 0x10, OFF_EOI = 0x40 };
enum { REG_ID, REG_VERSION, REG_ARB, REG_RTE = 0x10 };

struct i82093aa {
	struct dev dev;
	struct i82093aa_config cfg;
	struct bus_region region;
	uint8_t select;
	uint8_t id, arb;
	uint32_t lines;				/* pin levels */
	uint64_t rte[I82093AA_PINS];
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct i82093aa, select),
	SNAP_FIELD(struct i82093aa, id),
	SNAP_FIELD(struct i82093aa, arb),
	SNAP_FIELD(struct i82093aa, lines),
	SNAP_ARRAY(struct i82093aa, rte),
	SNAP_END
};
static const struct snap_table table = { "i82093aa", 1, fields };

/* Only fixed and lowest priority can be level (data sheet, trigger mode). */
static bool is_level(uint64_t rte)
{
	return rte & RTE_LEVEL && ((rte >> 8) & 7) <= 1;
}

static struct msi rte_msi(uint64_t rte)
{
	struct msi msg;

	/* Destination 19:12, mode bit 2, RH for lowest priority; data as it lies. */
	msg.addr = 0xfee00000 | (rte >> 56) << 12 | ((rte >> 11) & 1) << 2;
	msg.data = (uint32_t)(rte & 0x7ff) | (is_level(rte) ? BIT(15) | BIT(14) : 0);
	return msg;
}

static int send(struct i82093aa *a, unsigned pin)
{
	struct machine *m = a->dev.m;
	struct msi msg = rte_msi(a->rte[pin]);

	return m->msi ? m->msi(m->msi_opaque, &msg) : -ENXIO;
}

static void service_level(struct i82093aa *a, unsigned pin)
{
	uint64_t rte = a->rte[pin];

	if (!is_level(rte) || rte & (RTE_MASKED | RTE_REMOTE_IRR) || !(a->lines & BIT(pin)))
		return;
	/* Set first: the receiver may be fast enough to signal EOI inside. */
	a->rte[pin] |= RTE_REMOTE_IRR;
	if (send(a, pin) < 0)
		a->rte[pin] &= ~RTE_REMOTE_IRR;
}

static void set_pin(void *opaque, int n, bool level)
{
	struct i82093aa *a = opaque;
	bool was = (a->lines >> n) & 1;

	if (level == was)
		return;
	a->lines ^= BIT(n);
	if (is_level(a->rte[n]))
		service_level(a, (unsigned)n);
	else if (level && !(a->rte[n] & RTE_MASKED))
		send(a, (unsigned)n);
}

struct irq i82093aa_irq(struct i82093aa *a, int pin)
{
	if (pin < 0 || pin >= I82093AA_PINS)
		return (struct irq){ 0 };
	return (struct irq){ .set = set_pin, .opaque = a, .n = pin };
}

void i82093aa_eoi(void *opaque, uint8_t vector)
{
	struct i82093aa *a = opaque;

	for (unsigned i = 0; i < I82093AA_PINS; i++) {
		if ((uint8_t)a->rte[i] != vector || !(a->rte[i] & RTE_REMOTE_IRR))
			continue;
		a->rte[i] &= ~RTE_REMOTE_IRR;
		service_level(a, i);
	}
}

static void tell_route(struct i82093aa *a, unsigned pin)
{
	struct msi msg = rte_msi(a->rte[pin]);

	if (a->cfg.route)
		a->cfg.route(a->cfg.route_opaque, pin, &msg, a->rte[pin] & RTE_MASKED);
}

static void write_rte(struct i82093aa *a, unsigned reg, uint32_t val)
{
	unsigned pin = (reg - REG_RTE) / 2;
	uint64_t old, new;

	if (pin >= I82093AA_PINS)
		return;
	old = a->rte[pin];
	if (reg & 1)
		new = (old & 0xffffffff) | (uint64_t)val << 32;
	else
		new = (old & ~0xffffffffull) | val;
	new = (new & RTE_WRITABLE) | (old & RTE_REMOTE_IRR);
	/* Turning a pin to edge clears Remote IRR: how kernels without the EOI
	 * register get rid of a stuck one. */
	if (!is_level(new))
		new &= ~RTE_REMOTE_IRR;
	a->rte[pin] = new;
	tell_route(a, pin);
	service_level(a, pin);
}

static uint32_t read_window(const struct i82093aa *a)
{
	unsigned pin = (a->select - REG_RTE) / 2;

	switch (a->select) {
	case REG_ID: return (uint32_t)a->id << 24;
	case REG_VERSION: return VERSION_VALUE;
	case REG_ARB: return (uint32_t)a->arb << 24;
	}
	if (a->select < REG_RTE || pin >= I82093AA_PINS)
		return 0;
	return (uint32_t)(a->rte[pin] >> (a->select & 1 ? 32 : 0));
}

static void write_window(struct i82093aa *a, uint32_t val)
{
	if (a->select == REG_ID)
		a->id = a->arb = (val >> 24) & 0xf;	/* arbitration ID is loaded with it */
	else if (a->select >= REG_RTE)
		write_rte(a, a->select, val);
}

static uint64_t ioapic_read(void *opaque, uint64_t off, unsigned len)
{
	struct i82093aa *a = opaque;

	switch (off) {
	case OFF_SELECT: return a->select;
	case OFF_WINDOW: return read_window(a);
	default: return 0;
	}
}

static void ioapic_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct i82093aa *a = opaque;

	switch (off) {
	case OFF_SELECT: a->select = (uint8_t)val; break;
	case OFF_WINDOW: write_window(a, (uint32_t)val); break;
	case OFF_EOI: i82093aa_eoi(a, (uint8_t)val); break;
	}
}

static const struct bus_ops ioapic_bus_ops = {
	.read = ioapic_read,
	.write = ioapic_write,
	.min_len = 1,
	.max_len = 4,
};

static void ioapic_reset(struct dev *d)
{
	struct i82093aa *a = container_of(d, struct i82093aa, dev);

	a->select = 0;
	a->id = a->arb = a->cfg.id & 0xf;
	for (unsigned i = 0; i < I82093AA_PINS; i++) {
		a->rte[i] = RTE_MASKED;
		tell_route(a, i);
	}
}

static int ioapic_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct i82093aa, dev));
}

static int ioapic_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct i82093aa *a = container_of(d, struct i82093aa, dev);
	int ret = snap_get(in, d->id, &table, a, e);

	if (ret)
		return ret;
	a->lines &= BIT(I82093AA_PINS) - 1;
	for (unsigned i = 0; i < I82093AA_PINS; i++) {
		a->rte[i] &= RTE_WRITABLE | RTE_REMOTE_IRR;
		tell_route(a, i);
	}
	return 0;
}

static void ioapic_free(struct dev *d)
{
	struct i82093aa *a = container_of(d, struct i82093aa, dev);

	bus_del(&a->region);
	dev_del(d);
	free(a);
}

static const struct dev_ops ioapic_dev_ops = {
	.name = "i82093aa",
	.reset = ioapic_reset,
	.save = ioapic_save,
	.load = ioapic_load,
	.free = ioapic_free,
};

int i82093aa_new(struct machine *m, const struct i82093aa_config *cfg, struct i82093aa **out)
{
	struct i82093aa *a = calloc(1, sizeof(*a));
	int ret;

	if (!a)
		return -ENOMEM;
	a->cfg = *cfg;
	a->region = (struct bus_region){ .name = "i82093aa", .ops = &ioapic_bus_ops, .opaque = a,
					 .base = cfg->base, .size = 0x1000, .priority = 1 };
	ret = bus_add(m->mmio, &a->region);
	if (ret) {
		free(a);
		return ret;
	}
	dev_add(m, &a->dev, &ioapic_dev_ops, "pc.i82093aa");
	ioapic_reset(&a->dev);
	*out = a;
	return 0;
}
