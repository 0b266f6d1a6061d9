/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System control port A: bit 0 resets when it goes from 0 to 1, bit 1 is A20. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/port92.h"
#include "machine/machine.h"

struct port92 {
	struct dev dev;
	struct bus_region region;
	struct irq a20;
	uint8_t val;
};

static const struct snap_field fields[] = { SNAP_FIELD(struct port92, val), SNAP_END };
static const struct snap_table table = { "port92", 1, fields };

static uint64_t p92_read(void *opaque, uint64_t off, unsigned len)
{
	struct port92 *p = opaque;

	return p->val;
}

static void p92_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct port92 *p = opaque;
	bool reset = v & ~p->val & 1;

	p->val = (uint8_t)v;
	irq_set(&p->a20, v >> 1 & 1);
	if (reset)
		machine_ask(p->dev.m, MACHINE_REQ_RESET, 0);
}

static const struct bus_ops p92_ops = { .read = p92_read, .write = p92_write, .max_len = 1 };

static void p92_reset(struct dev *d)
{
	struct port92 *p = container_of(d, struct port92, dev);

	p->val = 2;
	irq_set(&p->a20, true);
}

static int p92_save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct port92, dev));
}

static int p92_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct port92 *p = container_of(d, struct port92, dev);
	int ret = snap_get(in, d->id, &table, p, e);

	if (!ret)
		irq_set(&p->a20, p->val >> 1 & 1);
	return ret;
}

static void p92_free(struct dev *d)
{
	struct port92 *p = container_of(d, struct port92, dev);

	bus_del(&p->region);
	dev_del(d);
	free(p);
}

static const struct dev_ops p92_dev_ops = {
	.name = "port92",
	.reset = p92_reset,
	.save = p92_save,
	.load = p92_load,
	.free = p92_free,
};

int port92_new(struct machine *m, uint16_t port, const struct irq *a20)
{
	struct port92 *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->a20 = *a20;
	p->region = (struct bus_region){ .name = "port92", .ops = &p92_ops, .opaque = p,
					 .base = port, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &p->region);
	if (ret) {
		free(p);
		return ret;
	}
	dev_add(m, &p->dev, &p92_dev_ops, "pc.port92");
	p92_reset(&p->dev);
	return 0;
}
