/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Debug console port.  It has no state; bytes the chardev does not take are lost. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chardev/chardev.h"
#include "chipset/debugcon.h"
#include "machine/machine.h"

struct debugcon {
	struct dev dev;
	struct bus_region region;
	struct chardev *chr;
	uint8_t readback;
};

static uint64_t dc_read(void *opaque, uint64_t off, unsigned len)
{
	struct debugcon *c = opaque;

	return c->readback;
}

static void dc_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct debugcon *c = opaque;
	uint8_t b = (uint8_t)val;

	if (c->chr)
		chardev_write(c->chr, &b, 1);
}

static const struct bus_ops dc_ops = { .read = dc_read, .write = dc_write, .max_len = 1 };

static void dc_reset(struct dev *d)
{
}

static void dc_free(struct dev *d)
{
	struct debugcon *c = container_of(d, struct debugcon, dev);

	bus_del(&c->region);
	dev_del(d);
	free(c);
}

static const struct dev_ops dc_dev_ops = { .name = "debugcon", .reset = dc_reset, .free = dc_free };

int debugcon_new(struct machine *m, uint16_t port, uint8_t readback, struct chardev *chr)
{
	struct debugcon *c = calloc(1, sizeof(*c));
	char id[32];
	int ret;

	if (!c)
		return -ENOMEM;
	c->chr = chr;
	c->readback = readback;
	c->region = (struct bus_region){ .name = "debugcon", .ops = &dc_ops, .opaque = c,
					 .base = port, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &c->region);
	if (ret) {
		free(c);
		return ret;
	}
	snprintf(id, sizeof(id), "pc.debugcon.%x", port);
	dev_add(m, &c->dev, &dc_dev_ops, id);
	return 0;
}
