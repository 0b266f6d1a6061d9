/* SPDX-License-Identifier: GPL-2.0-or-later */
/* isa-debug-exit: test kernels end the machine with a status.  No state. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/debug_exit.h"
#include "machine/machine.h"

struct debug_exit {
	struct dev dev;
	struct bus_region region;
};

static uint64_t de_read(void *opaque, uint64_t off, unsigned len)
{
	return 0;
}

static void de_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct debug_exit *x = opaque;

	machine_ask(x->dev.m, MACHINE_REQ_DEBUG_EXIT, (int)((uint32_t)val << 1 | 1));
}

static const struct bus_ops de_ops = { .read = de_read, .write = de_write, .max_len = 4 };

static void de_reset(struct dev *d)
{
}

static void de_free(struct dev *d)
{
	struct debug_exit *x = container_of(d, struct debug_exit, dev);

	bus_del(&x->region);
	dev_del(d);
	free(x);
}

static const struct dev_ops de_dev_ops = { .name = "debug_exit", .reset = de_reset, .free = de_free };

int debug_exit_new(struct machine *m, uint16_t port, unsigned size)
{
	struct debug_exit *x;
	int ret;

	if (size < 1 || size > 4)
		return -EINVAL;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->region = (struct bus_region){ .name = "debug_exit", .ops = &de_ops, .opaque = x,
					 .base = port, .size = size, .priority = 1 };
	ret = bus_add(m->pio, &x->region);
	if (ret) {
		free(x);
		return ret;
	}
	dev_add(m, &x->dev, &de_dev_ops, "pc.debug_exit");
	return 0;
}
