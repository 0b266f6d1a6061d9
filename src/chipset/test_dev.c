/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The device kvm-unit-tests drive: registers that remember what was written,
 * interrupt lines under the guest's control.  The page flush port asks a
 * hypervisor to drop a page's mapping; there is nothing to do here.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/test_dev.h"
#include "machine/machine.h"

#define MMIO_LEN 0x10000

struct test_dev {
	struct dev dev;
	struct test_dev_config cfg;
	struct bus_region words, flush, bytes, lines, mmio;
	uint32_t word;
	uint8_t byte[4];
	uint32_t levels;
	uint8_t mem[MMIO_LEN];
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct test_dev, word),
	SNAP_ARRAY(struct test_dev, byte),
	SNAP_FIELD(struct test_dev, levels),
	SNAP_END
};
static const struct snap_table table = { "test_dev", 1, fields };

static uint64_t word_read(void *opaque, uint64_t off, unsigned len)
{
	struct test_dev *t = opaque;

	return t->word >> (8 * off);
}

static void word_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct test_dev *t = opaque;
	uint32_t mask = (uint32_t)((BIT64(8 * len) - 1) << (8 * off));

	t->word = (t->word & ~mask) | ((uint32_t)(val << (8 * off)) & mask);
}

static uint64_t byte_read(void *opaque, uint64_t off, unsigned len)
{
	struct test_dev *t = opaque;

	return t->byte[off];
}

static void byte_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct test_dev *t = opaque;

	t->byte[off] = (uint8_t)val;
}

static void flush_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
}

static void line_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct test_dev *t = opaque;

	if (val)
		t->levels |= BIT(off);
	else
		t->levels &= ~BIT(off);
	irq_set(&t->cfg.irq[off], val != 0);
}

static uint64_t mmio_read(void *opaque, uint64_t off, unsigned len)
{
	struct test_dev *t = opaque;

	return ld_le(t->mem + off, len);
}

static void mmio_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct test_dev *t = opaque;

	st_le(t->mem + off, len, val);
}

static const struct bus_ops word_ops = { .read = word_read, .write = word_write, .max_len = 4 };
static const struct bus_ops byte_ops = { .read = byte_read, .write = byte_write, .max_len = 1 };
static const struct bus_ops flush_ops = { .write = flush_write, .max_len = 4 };
static const struct bus_ops line_ops = { .write = line_write, .max_len = 1 };
static const struct bus_ops mmio_ops = { .read = mmio_read, .write = mmio_write, .max_len = 8 };

static void td_reset(struct dev *d)
{
	struct test_dev *t = container_of(d, struct test_dev, dev);

	t->word = 0;
	memset(t->byte, 0, sizeof(t->byte));
	memset(t->mem, 0, sizeof(t->mem));
	t->levels = 0;
	for (int i = 0; i < TEST_DEV_IRQS; i++)
		irq_set(&t->cfg.irq[i], false);
}

static int td_save(struct dev *d, struct snap_out *o)
{
	struct test_dev *t = container_of(d, struct test_dev, dev);
	int ret = snap_put(o, d->id, &table, t);

	return ret ? ret : snap_put_blob(o, d->id, t->mem, sizeof(t->mem));
}

static int td_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct test_dev *t = container_of(d, struct test_dev, dev);
	int ret = snap_get(in, d->id, &table, t, e);
	uint32_t len;

	if (!ret)
		ret = snap_get_blob(in, d->id, t->mem, sizeof(t->mem), &len, e);
	for (int i = 0; !ret && i < TEST_DEV_IRQS; i++)
		irq_set(&t->cfg.irq[i], t->levels >> i & 1);
	return ret;
}

static void unregister(struct test_dev *t)
{
	bus_del(&t->words);
	bus_del(&t->flush);
	bus_del(&t->bytes);
	bus_del(&t->lines);
	bus_del(&t->mmio);
}

static void td_free(struct dev *d)
{
	struct test_dev *t = container_of(d, struct test_dev, dev);

	unregister(t);
	dev_del(d);
	free(t);
}

static const struct dev_ops td_dev_ops = {
	.name = "test_dev",
	.reset = td_reset,
	.save = td_save,
	.load = td_load,
	.free = td_free,
};

static int add(struct test_dev *t, struct bus *b, struct bus_region *r, const struct bus_ops *ops,
	       uint64_t base, uint64_t size)
{
	*r = (struct bus_region){ .name = "test_dev", .ops = ops, .opaque = t, .base = base,
				  .size = size, .priority = 1 };
	return bus_add(b, r);
}

int test_dev_new(struct machine *m, const struct test_dev_config *cfg)
{
	struct test_dev *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->cfg = *cfg;
	ret = add(t, m->pio, &t->words, &word_ops, cfg->ports, 4);
	if (!ret)
		ret = add(t, m->pio, &t->flush, &flush_ops, cfg->ports + 4, 4);
	if (!ret)
		ret = add(t, m->pio, &t->bytes, &byte_ops, cfg->ports + 8, 4);
	if (!ret)
		ret = add(t, m->pio, &t->lines, &line_ops, cfg->irq_ports, TEST_DEV_IRQS);
	if (!ret)
		ret = add(t, m->mmio, &t->mmio, &mmio_ops, cfg->mmio, MMIO_LEN);
	if (ret) {
		unregister(t);
		free(t);
		return ret;
	}
	dev_add(m, &t->dev, &td_dev_ops, "test_dev");
	return 0;
}
