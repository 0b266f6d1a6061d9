/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pvpanic: reading tells the events understood, writing reports one.  No state. */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/log.h"
#include "chipset/pvpanic.h"
#include "machine/machine.h"

#define EVENTS (PVPANIC_PANICKED | PVPANIC_CRASH_LOADED | PVPANIC_SHUTDOWN)

struct pvpanic {
	struct dev dev;
	struct bus_region region;
};

static uint64_t pvp_read(void *opaque, uint64_t off, unsigned len)
{
	return EVENTS;
}

static void pvp_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct pvpanic *p = opaque;

	if (val & PVPANIC_PANICKED)
		machine_ask(p->dev.m, MACHINE_REQ_PANIC, 0);
	else if (val & PVPANIC_CRASH_LOADED)
		log_guest("the guest panicked and runs its crash kernel");
	else if (val & PVPANIC_SHUTDOWN)
		machine_ask(p->dev.m, MACHINE_REQ_POWEROFF, 0);
}

static const struct bus_ops pvp_ops = { .read = pvp_read, .write = pvp_write, .max_len = 1 };

static void pvp_reset(struct dev *d)
{
}

static void pvp_free(struct dev *d)
{
	struct pvpanic *p = container_of(d, struct pvpanic, dev);

	bus_del(&p->region);
	dev_del(d);
	free(p);
}

static const struct dev_ops pvp_dev_ops = { .name = "pvpanic", .reset = pvp_reset, .free = pvp_free };

int pvpanic_new(struct machine *m, uint16_t port)
{
	struct pvpanic *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->region = (struct bus_region){ .name = "pvpanic", .ops = &pvp_ops, .opaque = p,
					 .base = port, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &p->region);
	if (ret) {
		free(p);
		return ret;
	}
	dev_add(m, &p->dev, &pvp_dev_ops, "pc.pvpanic");
	return 0;
}
