// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two 8237A as a PC has them.  An address counts within its 64 KiB (128 KiB for words): the page register beside it
 * never changes by itself.  Nothing is moved but when a device does it, so a channel without one, transfers from memory to
 * memory and requests by software have no effect but in the registers.
 */
#include "chipset/i8237.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "machine/machine.h"

#define COMMAND_DISABLE 0x04

#define MODE_TYPE 0x0c		/* of a transfer */
#define TYPE_VERIFY 0x00
#define TYPE_TO_MEMORY 0x04
#define TYPE_FROM_MEMORY 0x08
#define MODE_AUTO 0x10
#define MODE_DOWN 0x20
#define MODE_CASCADE 0xc0

struct channel {
	uint16_t base_addr, base_count, addr, count;
	uint8_t mode;
	/* The device; not saved. */
	bool dreq;
	void (*ready)(void *opaque);
	void *opaque;
};

/* One chip. */
struct chip {
	uint8_t command, mask, request, reached;	/* bit n: channel n of this chip; reached: its count has ended */
	uint8_t high_byte;				/* the next access to a count or address is the high byte's */
};

struct i8237 {
	struct dev dev;
	struct bus_region low, high, pages;
	struct chip chip[2];
	struct channel ch[I8237_CHANNELS];
	uint8_t page[16];		/* the page registers, and those between them */
};

static const struct snap_field chip_fields[] = {
	SNAP_FIELD(struct chip, command), SNAP_FIELD(struct chip, mask), SNAP_FIELD(struct chip, request), SNAP_FIELD(struct chip, reached),
	SNAP_FIELD(struct chip, high_byte), SNAP_END,
};
static const struct snap_table chip_table = { "i8237.chip", 1, chip_fields };

static const struct snap_field channel_fields[] = {
	SNAP_FIELD(struct channel, base_addr), SNAP_FIELD(struct channel, base_count), SNAP_FIELD(struct channel, addr),
	SNAP_FIELD(struct channel, count), SNAP_FIELD(struct channel, mode), SNAP_END,
};
static const struct snap_table channel_table = { "i8237.channel", 1, channel_fields };

static const struct snap_field fields[] = { SNAP_ARRAY(struct i8237, page), SNAP_END };
static const struct snap_table table = { "i8237", 1, fields };

/* Where the page register of a channel is among the sixteen. */
static const uint8_t page_of[I8237_CHANNELS] = { 7, 3, 1, 2, 15, 11, 9, 10 };

/* ---- transfers ---- */

static bool open_channel(const struct i8237 *d, unsigned n)
{
	const struct chip *c = &d->chip[n / 4];

	return !(c->command & COMMAND_DISABLE) && !(c->mask >> (n & 3) & 1);
}

/* Would it move something?  The first chip's channels go through the second's first. */
static bool is_ready(const struct i8237 *d, unsigned n)
{
	bool joined = n >= 4 || (open_channel(d, 4) && (d->ch[4].mode & MODE_CASCADE) == MODE_CASCADE);

	return n != 4 && joined && open_channel(d, n) && (d->ch[n].mode & MODE_CASCADE) != MODE_CASCADE;
}

static void look(struct i8237 *d, unsigned n)
{
	struct channel *c = &d->ch[n];

	if (c->dreq && c->ready && is_ready(d, n))
		c->ready(c->opaque);
}

static void look_at_all(struct i8237 *d)
{
	for (unsigned n = 0; n < I8237_CHANNELS; n++)
		look(d, n);
}

/* The next piece in one direction: how many units, from which address on upwards. */
static uint32_t piece(const struct i8237 *d, unsigned n, size_t units, uint64_t *gpa)
{
	const struct channel *c = &d->ch[n];
	uint8_t page = d->page[page_of[n]];
	uint32_t most = (uint32_t)c->count + 1;

	if (c->mode & MODE_DOWN)
		most = 1;
	most = MIN(most, 0x10000u - c->addr);	/* then it begins anew in the same page */
	*gpa = n < 4 ? (uint64_t)page << 16 | c->addr : (uint64_t)(page & 0xfe) << 16 | (uint64_t)c->addr << 1;
	return (uint32_t)MIN(units, most);
}

/* The count has ended if it is all ones now. */
static bool advance(struct i8237 *d, unsigned n, uint32_t units)
{
	struct chip *chip = &d->chip[n / 4];
	struct channel *c = &d->ch[n];
	uint8_t bit = (uint8_t)(1 << (n & 3));

	c->addr = (uint16_t)(c->mode & MODE_DOWN ? c->addr - units : c->addr + units);
	c->count = (uint16_t)(c->count - units);
	if (c->count != 0xffff)
		return false;
	chip->reached |= bit;
	chip->request &= (uint8_t)~bit;
	if (c->mode & MODE_AUTO) {
		c->addr = c->base_addr;
		c->count = c->base_count;
	} else {
		chip->mask |= bit;
	}
	return true;
}

static void get(struct mem *m, uint64_t gpa, uint8_t *to, uint32_t len)
{
	if (!mem_read(m, gpa, to, len))
		return;
	for (uint32_t i = 0; i < len; i++)
		if (mem_read(m, gpa + i, to + i, 1))
			to[i] = 0xff;
}

static void put(struct mem *m, uint64_t gpa, const uint8_t *from, uint32_t len)
{
	if (!mem_write(m, gpa, from, len))
		return;
	for (uint32_t i = 0; i < len; i++)
		mem_write(m, gpa + i, from + i, 1);
}

/* One of in and out is NULL. */
static size_t move(struct i8237 *d, unsigned n, uint8_t *in, const uint8_t *out, size_t len, bool *tc)
{
	struct channel *c = &d->ch[n];
	unsigned shift = n < 4 ? 0 : 1;
	uint8_t type = c->mode & MODE_TYPE;
	size_t done = 0;
	bool end = false;

	if (!is_ready(d, n) || (type != TYPE_VERIFY && type != (in ? TYPE_FROM_MEMORY : TYPE_TO_MEMORY)))
		return 0;
	while (!end && (len - done) >> shift) {
		uint64_t gpa;
		uint32_t units = piece(d, n, (len - done) >> shift, &gpa), bytes = units << shift;

		if (type == TYPE_VERIFY && in)
			memset(in + done, 0xff, bytes);
		else if (type != TYPE_VERIFY && in)
			get(d->dev.m->mem, gpa, in + done, bytes);
		else if (type != TYPE_VERIFY)
			put(d->dev.m->mem, gpa, out + done, bytes);
		done += bytes;
		end = advance(d, n, units);
	}
	*tc |= end;
	return done;
}

size_t i8237_from_memory(struct i8237 *d, unsigned channel, void *buf, size_t len, bool *tc)
{
	return move(d, channel, buf, NULL, len, tc);
}

size_t i8237_to_memory(struct i8237 *d, unsigned channel, const void *buf, size_t len, bool *tc)
{
	return move(d, channel, NULL, buf, len, tc);
}

void i8237_request(struct i8237 *d, unsigned channel, bool on)
{
	d->ch[channel].dreq = on;
	look(d, channel);
}

void i8237_attach(struct i8237 *d, unsigned channel, void (*ready)(void *opaque), void *opaque)
{
	d->ch[channel].ready = ready;
	d->ch[channel].opaque = opaque;
}

/* ---- registers ---- */

static uint8_t read_half(struct chip *chip, uint16_t v)
{
	chip->high_byte ^= 1;
	return (uint8_t)(chip->high_byte ? v : v >> 8);
}

static void write_half(struct chip *chip, uint16_t *base, uint16_t *current, uint8_t v)
{
	*base = chip->high_byte ? (uint16_t)(v << 8 | (*base & 0xff)) : (uint16_t)((*base & 0xff00) | v);
	*current = *base;
	chip->high_byte ^= 1;
}

static uint8_t status(struct i8237 *d, unsigned half)
{
	struct chip *chip = &d->chip[half];
	uint8_t v = (uint8_t)(chip->reached | chip->request << 4);

	for (unsigned n = 0; n < 4; n++)
		v |= (uint8_t)(d->ch[4 * half + n].dreq << (4 + n));
	chip->reached = 0;
	return v;
}

static uint8_t chip_read(struct i8237 *d, unsigned half, unsigned reg)
{
	struct chip *chip = &d->chip[half];

	if (reg < 8) {
		const struct channel *c = &d->ch[4 * half + reg / 2];

		return read_half(chip, reg & 1 ? c->count : c->addr);
	}
	switch (reg) {
	case 8: return status(d, half);
	case 13: return 0;		/* what the last transfer from memory to memory moved */
	case 15: return (uint8_t)(0xf0 | chip->mask);
	default: return 0xff;
	}
}

static void set_bit(uint8_t *bits, uint8_t v)
{
	uint8_t bit = (uint8_t)(1 << (v & 3));

	*bits = (uint8_t)(v & 4 ? *bits | bit : *bits & ~bit);
}

static void master_clear(struct chip *chip)
{
	*chip = (struct chip){ .mask = 15 };
}

static void chip_write(struct i8237 *d, unsigned half, unsigned reg, uint8_t v)
{
	struct chip *chip = &d->chip[half];

	if (reg < 8) {
		struct channel *c = &d->ch[4 * half + reg / 2];

		if (reg & 1)
			write_half(chip, &c->base_count, &c->count, v);
		else
			write_half(chip, &c->base_addr, &c->addr, v);
		return;
	}
	switch (reg) {
	case 8: chip->command = v; break;
	case 9: set_bit(&chip->request, v); break;
	case 10: set_bit(&chip->mask, v); break;
	case 11: d->ch[4 * half + (v & 3)].mode = v & 0xfc; break;
	case 12: chip->high_byte = 0; break;
	case 13: master_clear(chip); break;
	case 14: chip->mask = 0; break;
	case 15: chip->mask = v & 15; break;
	default: break;
	}
	look_at_all(d);
}

static uint64_t low_read(void *opaque, uint64_t off, unsigned len) { return chip_read(opaque, 0, (unsigned)off); }
static uint64_t high_read(void *opaque, uint64_t off, unsigned len) { return chip_read(opaque, 1, (unsigned)off / 2); }
static void low_write(void *opaque, uint64_t off, unsigned len, uint64_t v) { chip_write(opaque, 0, (unsigned)off, (uint8_t)v); }
static void high_write(void *opaque, uint64_t off, unsigned len, uint64_t v) { chip_write(opaque, 1, (unsigned)off / 2, (uint8_t)v); }

static uint64_t pages_read(void *opaque, uint64_t off, unsigned len)
{
	struct i8237 *d = opaque;

	return d->page[off];
}

static void pages_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct i8237 *d = opaque;

	d->page[off] = (uint8_t)v;
}

static const struct bus_ops low_ops = { .read = low_read, .write = low_write, .max_len = 1 };
static const struct bus_ops high_ops = { .read = high_read, .write = high_write, .max_len = 1 };
static const struct bus_ops pages_ops = { .read = pages_read, .write = pages_write, .max_len = 1 };

/* ---- life cycle ---- */

static struct i8237 *of_dev(struct dev *d) { return container_of(d, struct i8237, dev); }

static void dma_reset(struct dev *dev)
{
	struct i8237 *d = of_dev(dev);

	for (unsigned i = 0; i < 2; i++)
		master_clear(&d->chip[i]);
	for (unsigned n = 0; n < I8237_CHANNELS; n++) {
		struct channel *c = &d->ch[n];

		*c = (struct channel){ .ready = c->ready, .opaque = c->opaque };
	}
	memset(d->page, 0, sizeof(d->page));
}

static int dma_save(struct dev *dev, struct snap_out *o)
{
	struct i8237 *d = of_dev(dev);
	int ret = snap_put(o, dev->id, &table, d);

	for (unsigned i = 0; i < 2 && !ret; i++)
		ret = snap_put(o, dev->id, &chip_table, &d->chip[i]);
	for (unsigned n = 0; n < I8237_CHANNELS && !ret; n++)
		ret = snap_put(o, dev->id, &channel_table, &d->ch[n]);
	return ret;
}

static int dma_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct i8237 *d = of_dev(dev);
	int ret = snap_get(in, dev->id, &table, d, e);

	for (unsigned i = 0; i < 2 && !ret; i++) {
		struct chip *c = &d->chip[i];

		ret = snap_get(in, dev->id, &chip_table, c, e);
		c->mask &= 15;
		c->request &= 15;
		c->reached &= 15;
		c->high_byte &= 1;
	}
	for (unsigned n = 0; n < I8237_CHANNELS && !ret; n++) {
		ret = snap_get(in, dev->id, &channel_table, &d->ch[n], e);
		d->ch[n].mode &= 0xfc;
		d->ch[n].dreq = false;
	}
	return ret;
}

static void dma_free(struct dev *dev)
{
	struct i8237 *d = of_dev(dev);

	bus_del(&d->low);
	bus_del(&d->high);
	bus_del(&d->pages);
	dev_del(dev);
	free(d);
}

static const struct dev_ops dma_dev_ops = {
	.name = "i8237", .reset = dma_reset, .save = dma_save, .load = dma_load, .free = dma_free,
};

void i8237_init(struct i8237 *d)
{
	d->ch[4].mode = MODE_CASCADE;
	d->chip[1].mask &= (uint8_t)~1;
}

int i8237_new(struct machine *m, const struct i8237_config *c, struct i8237 **out)
{
	struct i8237 *d = calloc(1, sizeof(*d));
	int ret;

	if (!d)
		return -ENOMEM;
	d->low = (struct bus_region){ .name = "i8237", .ops = &low_ops, .opaque = d, .base = c->low, .size = 16, .priority = 1 };
	d->high = (struct bus_region){ .name = "i8237", .ops = &high_ops, .opaque = d, .base = c->high, .size = 32, .priority = 1 };
	d->pages = (struct bus_region){ .name = "i8237", .ops = &pages_ops, .opaque = d, .base = c->pages, .size = 16, .priority = 1 };
	ret = bus_add(m->pio, &d->low);
	if (!ret)
		ret = bus_add(m->pio, &d->high);
	if (!ret)
		ret = bus_add(m->pio, &d->pages);
	if (ret) {
		bus_del(&d->low);
		bus_del(&d->high);
		free(d);
		return ret;
	}
	dev_add(m, &d->dev, &dma_dev_ops, "pc.i8237");
	dma_reset(&d->dev);
	*out = d;
	return 0;
}
