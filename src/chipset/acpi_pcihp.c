// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cards that come and go, as ACPI's methods see them: see acpi_pcihp.h.
 *
 * Two masks with a bit for each slot.  News of a card that came is taken off by
 * reading it; that one should go is told with every event until it has gone, since a
 * guest that is starting up may lose an event.
 */
#include "chipset/acpi_pcihp.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "machine/machine.h"

struct acpi_pcihp {
	struct dev dev;
	struct acpi_pcihp_config cfg;
	struct bus_region region;
	uint32_t up, down, selector;
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct acpi_pcihp, up),
	SNAP_FIELD(struct acpi_pcihp, down),
	SNAP_FIELD(struct acpi_pcihp, selector),
	SNAP_END
};
static const struct snap_table table = { "acpi_pcihp", 1, fields };

static uint64_t hp_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_pcihp *h = opaque;
	uint32_t up = h->up;

	/* Whole registers only. */
	if (len != 4)
		return 0;
	if (off == ACPI_PCIHP_BUS)
		return h->selector;
	if (h->selector)
		return 0;
	switch (off) {
	case ACPI_PCIHP_UP: h->up = 0; return up;
	case ACPI_PCIHP_DOWN: return h->down;
	case ACPI_PCIHP_REMOVABLE: return h->cfg.slots(h->cfg.opaque);
	default: return 0;
	}
}

static void eject(struct acpi_pcihp *h, uint32_t slots)
{
	slots &= h->cfg.slots(h->cfg.opaque);
	h->up &= ~slots;
	h->down &= ~slots;
	for (unsigned i = 0; i < ACPI_PCIHP_SLOTS; i++)
		if (slots >> i & 1)
			h->cfg.ejected(h->cfg.opaque, i);
}

static void hp_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_pcihp *h = opaque;

	if (len != 4)
		return;
	if (off == ACPI_PCIHP_BUS)
		h->selector = (uint32_t)val;
	else if (off == ACPI_PCIHP_EJECT && !h->selector)
		eject(h, (uint32_t)val);
}

static const struct bus_ops hp_ops = { .read = hp_read, .write = hp_write, .max_len = 4 };

/* ---- the host's side ---- */

void acpi_pcihp_plugged(struct acpi_pcihp *h, unsigned slot)
{
	h->up |= BIT(slot);
	h->down &= ~BIT(slot);
	irq_pulse(&h->cfg.event);
}

void acpi_pcihp_ask(struct acpi_pcihp *h, unsigned slot)
{
	h->down |= BIT(slot);
	irq_pulse(&h->cfg.event);
}

void acpi_pcihp_emptied(struct acpi_pcihp *h, unsigned slot)
{
	h->up &= ~BIT(slot);
	h->down &= ~BIT(slot);
}

/* ---- life ---- */

/* Cards that came stay, and are found; whoever asked for one to go takes it then. */
static void hp_reset(struct dev *d)
{
	struct acpi_pcihp *h = container_of(d, struct acpi_pcihp, dev);

	h->up = h->down = h->selector = 0;
}

static int hp_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct acpi_pcihp, dev));
}

static int hp_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct acpi_pcihp *h = container_of(d, struct acpi_pcihp, dev);
	int ret = snap_get(in, d->id, &table, h, e);

	if (ret) {
		hp_reset(d);
		return ret;
	}
	h->up &= h->cfg.slots(h->cfg.opaque);
	h->down &= h->cfg.slots(h->cfg.opaque);
	return 0;
}

static void hp_free(struct dev *d)
{
	struct acpi_pcihp *h = container_of(d, struct acpi_pcihp, dev);

	bus_del(&h->region);
	dev_del(d);
	free(h);
}

static const struct dev_ops hp_dev_ops = { .name = "acpi_pcihp", .reset = hp_reset, .save = hp_save, .load = hp_load, .free = hp_free };

int acpi_pcihp_new(struct machine *m, const struct acpi_pcihp_config *cfg, struct acpi_pcihp **out)
{
	struct acpi_pcihp *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	h->cfg = *cfg;
	h->region = (struct bus_region){ .name = "acpi_pcihp", .ops = &hp_ops, .opaque = h, .base = cfg->port, .size = ACPI_PCIHP_LEN,
					 .priority = 1 };
	ret = bus_add(m->pio, &h->region);
	if (ret) {
		free(h);
		return ret;
	}
	dev_add(m, &h->dev, &hp_dev_ops, "pc.acpi_pcihp");
	*out = h;
	return 0;
}
