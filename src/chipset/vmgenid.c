// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * VM generation ID: see vmgenid.h.
 *
 * Saved state has the ID the guest knew.  Loading keeps the one this VM was given, and
 * tells the guest if it is another.
 */
#include "chipset/vmgenid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/machine.h"

struct vmgenid {
	struct dev dev;
	struct irq notify;
	uint64_t gpa;
	struct mem_rom *page;
	uint8_t uuid[16];
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct vmgenid, uuid),
	SNAP_END
};
static const struct snap_table table = { "vmgenid", 1, fields };

void vmgenid_set(struct vmgenid *v, const uint8_t uuid[16])
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	if (!memcmp(v->uuid, uuid, sizeof(v->uuid)))
		return;
	memcpy(v->uuid, uuid, sizeof(v->uuid));
	for (unsigned i = 0; i < 16; i++)
		mem_rom_bytes(v->page)[i] = uuid[order[i]];
	mem_written(v->dev.m->mem, v->gpa, 16);
	irq_pulse(&v->notify);
}

void vmgenid_get(const struct vmgenid *v, uint8_t uuid[16])
{
	memcpy(uuid, v->uuid, sizeof(v->uuid));
}

static void reset(struct dev *d)
{
}

static int save(struct dev *d, struct snap_out *o)
{
	return snap_put(o, d->id, &table, container_of(d, struct vmgenid, dev));
}

static int load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct vmgenid *v = container_of(d, struct vmgenid, dev);
	uint8_t mine[16];
	bool same;
	int ret;

	memcpy(mine, v->uuid, sizeof(mine));
	ret = snap_get(in, d->id, &table, v, e);
	same = !memcmp(mine, v->uuid, sizeof(mine));
	memcpy(v->uuid, mine, sizeof(mine));
	if (!ret && !same)
		irq_pulse(&v->notify);
	return ret;
}

static void release(struct dev *d)
{
	struct vmgenid *v = container_of(d, struct vmgenid, dev);

	mem_del(d->m->mem, v->gpa);
	dev_del(d);
	free(v);
}

static const struct dev_ops ops = { .name = "vmgenid", .reset = reset, .save = save, .load = load, .free = release };

int vmgenid_new(struct machine *m, uint64_t gpa, const struct irq *notify, struct vmgenid **out, struct err *e)
{
	struct vmgenid *v = calloc(1, sizeof(*v));
	int ret;

	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->gpa = gpa;
	v->notify = *notify;
	ret = mem_rom_new(m->mem, "vmgenid", PAGE_4K, &v->page, e);
	if (!ret)
		ret = mem_show_rom(m->mem, v->page, gpa, 0, PAGE_4K, e);
	if (ret) {
		free(v);
		return ret;
	}
	dev_add(m, &v->dev, &ops, "pc.vmgenid");
	*out = v;
	return 0;
}
