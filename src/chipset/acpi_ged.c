/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Generic event device, sleep and reset registers for ACPI reduced hardware;
 * the layout is in the header. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/acpi_ged.h"
#include "machine/machine.h"

enum { SLP_EN = BIT(5), WAK_STS = BIT(7) };

struct acpi_ged {
	struct dev dev;
	struct bus_region region;
	struct irq irq;
	uint32_t events;
	uint8_t sleep_ctl, sleep_sts;
	uint8_t heard;			/* the guest has read the event register */
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct acpi_ged, events),
	SNAP_FIELD(struct acpi_ged, sleep_ctl),
	SNAP_FIELD(struct acpi_ged, sleep_sts),
	SNAP_FIELD(struct acpi_ged, heard),
	SNAP_END
};
static const struct snap_table table = { "acpi_ged", 1, fields };

static uint64_t ged_read(void *opaque, uint64_t off, unsigned len)
{
	struct acpi_ged *g = opaque;
	uint32_t v = 0;

	switch (off) {
	case ACPI_GED_EVENT:
		v = g->events;
		if (len == 4) {
			g->events = 0;
			g->heard = 1;
			irq_set(&g->irq, false);
		}
		break;
	case ACPI_GED_SLEEP_CTL: v = g->sleep_ctl; break;
	case ACPI_GED_SLEEP_STS: v = g->sleep_sts; break;
	}
	return v;
}

static void ged_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct acpi_ged *g = opaque;

	switch (off) {
	case ACPI_GED_SLEEP_CTL:
		g->sleep_ctl = val & 0x1c;
		if (val & SLP_EN && (val >> 2 & 7) == ACPI_GED_SLP_S5)
			machine_ask(g->dev.m, MACHINE_REQ_POWEROFF, 0);
		break;
	case ACPI_GED_SLEEP_STS:
		g->sleep_sts &= (uint8_t)~(val & WAK_STS);
		break;
	case ACPI_GED_RESET:
		if ((uint8_t)val == ACPI_GED_RESET_VALUE)
			machine_ask(g->dev.m, MACHINE_REQ_RESET, 0);
		break;
	}
}

static const struct bus_ops ged_ops = { .read = ged_read, .write = ged_write, .max_len = 4 };

void acpi_ged_raise(struct acpi_ged *g, uint32_t events)
{
	g->events |= events;
	irq_set(&g->irq, g->events != 0);
}

bool acpi_ged_power_button(struct acpi_ged *g)
{
	acpi_ged_raise(g, ACPI_GED_EV_POWER);
	return g->heard;
}

static void ged_reset(struct dev *d)
{
	struct acpi_ged *g = container_of(d, struct acpi_ged, dev);

	g->events = 0;
	g->sleep_ctl = g->sleep_sts = g->heard = 0;
	irq_set(&g->irq, false);
}

static int ged_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct acpi_ged, dev));
}

static int ged_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct acpi_ged *g = container_of(d, struct acpi_ged, dev);
	int ret = snap_get(in, d->id, &table, g, e);

	if (!ret)
		irq_set(&g->irq, g->events != 0);
	return ret;
}

static void ged_free(struct dev *d)
{
	struct acpi_ged *g = container_of(d, struct acpi_ged, dev);

	bus_del(&g->region);
	dev_del(d);
	free(g);
}

static const struct dev_ops ged_dev_ops = {
	.name = "acpi_ged",
	.reset = ged_reset,
	.save = ged_save,
	.load = ged_load,
	.free = ged_free,
};

int acpi_ged_new(struct machine *m, const struct acpi_ged_config *cfg, struct acpi_ged **out)
{
	struct acpi_ged *g = calloc(1, sizeof(*g));
	int ret;

	if (!g)
		return -ENOMEM;
	g->irq = cfg->irq;
	g->region = (struct bus_region){ .name = "acpi_ged", .ops = &ged_ops, .opaque = g,
					 .base = cfg->base, .size = ACPI_GED_LEN, .priority = 1 };
	ret = bus_add(m->mmio, &g->region);
	if (ret) {
		free(g);
		return ret;
	}
	dev_add(m, &g->dev, &ged_dev_ops, "micro.acpi_ged");
	ged_reset(&g->dev);
	*out = g;
	return 0;
}
