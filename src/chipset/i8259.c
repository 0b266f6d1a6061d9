/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8259A pair (data sheet 231468) and the ELCR of PCI chipsets.
 *
 * Each half keeps its input levels and computes its requests from them: an
 * edge input latches a rising edge until the acknowledge cycle (it does not
 * drop the request when the level falls early), a level input requests while
 * high.  The cascade input is always treated as level, so that a slave that
 * still has work after an acknowledge is seen again.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/i8259.h"
#include "machine/machine.h"

#define CASCADE 2

/* Initialisation steps: what the next write to the odd port is. */
enum { INIT_NONE, INIT_ICW2, INIT_ICW3, INIT_ICW4 };

struct half {
	struct bus_region region, elcr_region;
	struct i8259 *pair;
	uint8_t lines, irr, isr, imr;
	uint8_t elcr, ltim;		/* per-input and global level mode */
	uint8_t base;			/* vector of input 0 */
	uint8_t lowest;			/* input with the lowest priority, 7 after reset */
	uint8_t init, single, need_icw4;
	uint8_t aeoi, rotate_aeoi, sfnm;
	uint8_t smm, read_isr, poll;
};

struct i8259 {
	struct dev dev;
	struct irq intr;
	struct half master, slave;
	uint8_t intr_level;
};

static const struct snap_field half_fields[] = {
	SNAP_FIELD(struct half, lines),
	SNAP_FIELD(struct half, irr),
	SNAP_FIELD(struct half, isr),
	SNAP_FIELD(struct half, imr),
	SNAP_FIELD(struct half, elcr),
	SNAP_FIELD(struct half, ltim),
	SNAP_FIELD(struct half, base),
	SNAP_FIELD(struct half, lowest),
	SNAP_FIELD(struct half, init),
	SNAP_FIELD(struct half, single),
	SNAP_FIELD(struct half, need_icw4),
	SNAP_FIELD(struct half, aeoi),
	SNAP_FIELD(struct half, rotate_aeoi),
	SNAP_FIELD(struct half, sfnm),
	SNAP_FIELD(struct half, smm),
	SNAP_FIELD(struct half, read_isr),
	SNAP_FIELD(struct half, poll),
	SNAP_END
};
static const struct snap_table half_table = { "i8259", 1, half_fields };

static bool is_master(const struct half *h)
{
	return h == &h->pair->master;
}

/* Inputs that are level-triggered. */
static uint8_t level_mask(const struct half *h)
{
	return (h->ltim ? 0xff : h->elcr) | (is_master(h) ? BIT(CASCADE) : 0);
}

/* Rank 0 is the highest priority: the input after the lowest one. */
static int rank_first(const struct half *h, uint8_t mask)
{
	for (int r = 0; r < 8; r++)
		if (mask & BIT((h->lowest + 1 + r) & 7))
			return r;
	return 8;
}

static int rank_input(const struct half *h, int rank)
{
	return (h->lowest + 1 + rank) & 7;
}

/* The input the chip would interrupt for now, or -1. */
static int request(const struct half *h)
{
	uint8_t isr = h->isr;
	int want = rank_first(h, h->irr & (uint8_t)~h->imr);

	if (want == 8)
		return -1;
	if (h->smm)			/* masked inputs in service block nothing */
		isr &= (uint8_t)~h->imr;
	/* Special fully nested: a slave in service may interrupt again. */
	if (h->sfnm && is_master(h))
		isr &= (uint8_t)~BIT(CASCADE);
	return want < rank_first(h, isr) ? rank_input(h, want) : -1;
}

static void set_line(struct half *h, int n, bool level)
{
	uint8_t bit = (uint8_t)BIT(n);

	if (level_mask(h) & bit) {
		if (level)
			h->irr |= bit;
		else
			h->irr &= (uint8_t)~bit;
	} else if (level && !(h->lines & bit)) {
		h->irr |= bit;
	}
	if (level)
		h->lines |= bit;
	else
		h->lines &= (uint8_t)~bit;
}

/* Slave output -> cascade -> master output -> the world. */
static void update(struct i8259 *p)
{
	bool level;

	set_line(&p->master, CASCADE, request(&p->slave) >= 0);
	level = request(&p->master) >= 0;
	if (level != p->intr_level) {
		p->intr_level = level;
		irq_set(&p->intr, level);
	}
}

static void set_irq(void *opaque, int n, bool level)
{
	struct i8259 *p = opaque;

	if (n == CASCADE)
		return;
	set_line(n < 8 ? &p->master : &p->slave, n & 7, level);
	update(p);
}

struct irq i8259_irq(struct i8259 *p, int n)
{
	if (n < 0 || n > 15)
		return (struct irq){ 0 };
	return (struct irq){ .set = set_irq, .opaque = p, .n = n };
}

bool i8259_intr(const struct i8259 *p)
{
	return p->intr_level;
}

/* The half's input n goes into service. */
static void take(struct half *h, int n)
{
	uint8_t bit = (uint8_t)BIT(n);

	if (!(level_mask(h) & bit))
		h->irr &= (uint8_t)~bit;
	if (!h->aeoi)
		h->isr |= bit;
	else if (h->rotate_aeoi)
		h->lowest = (uint8_t)n;
}

uint8_t i8259_ack(struct i8259 *p)
{
	struct half *h = &p->master;
	int n = request(h);

	if (n == CASCADE) {
		take(h, n);
		h = &p->slave;
		n = request(h);
	}
	if (n >= 0)
		take(h, n);
	else
		n = 7;			/* spurious: no bit in service */
	update(p);
	return (uint8_t)(h->base | n);
}

/* Initialisation begins: edge detection, mask and priorities are reset. */
static void write_icw1(struct half *h, uint8_t val)
{
	h->imr = h->isr = 0;
	h->lowest = 7;
	h->smm = h->read_isr = h->poll = 0;
	h->aeoi = h->rotate_aeoi = h->sfnm = 0;
	h->ltim = (val >> 3) & 1;
	h->single = (val >> 1) & 1;
	h->need_icw4 = val & 1;
	h->irr = h->lines & level_mask(h);
	h->init = INIT_ICW2;
}

static void end_of_interrupt(struct half *h, uint8_t isr_bit, bool rotate)
{
	h->isr &= (uint8_t)~isr_bit;
	if (rotate && isr_bit)
		h->lowest = (uint8_t)__builtin_ctz(isr_bit);
}

static void write_ocw2(struct half *h, uint8_t val)
{
	uint8_t named = (uint8_t)BIT(val & 7);
	uint8_t isr = h->smm ? h->isr & (uint8_t)~h->imr : h->isr;
	int rank = rank_first(h, isr);
	uint8_t first = rank < 8 ? (uint8_t)BIT(rank_input(h, rank)) : 0;

	switch (val >> 5) {
	case 0: h->rotate_aeoi = 0; break;
	case 1: end_of_interrupt(h, first, false); break;
	case 3: end_of_interrupt(h, named, false); break;
	case 4: h->rotate_aeoi = 1; break;
	case 5: end_of_interrupt(h, first, true); break;
	case 6: h->lowest = val & 7; break;
	case 7: end_of_interrupt(h, named, true); break;
	default: break;
	}
}

static void write_ocw3(struct half *h, uint8_t val)
{
	if (val & 0x40)
		h->smm = (val >> 5) & 1;
	if (val & 0x04)
		h->poll = 1;
	else if (val & 0x02)
		h->read_isr = val & 1;
}

static void write_odd(struct half *h, uint8_t val)
{
	switch (h->init) {
	case INIT_ICW2:
		h->base = val & 0xf8;
		h->init = !h->single ? INIT_ICW3 : h->need_icw4 ? INIT_ICW4 : INIT_NONE;
		break;
	case INIT_ICW3:			/* the cascade is wired, whatever it says */
		h->init = h->need_icw4 ? INIT_ICW4 : INIT_NONE;
		break;
	case INIT_ICW4:
		h->aeoi = (val >> 1) & 1;
		h->sfnm = (val >> 4) & 1;
		h->init = INIT_NONE;
		break;
	default:
		h->imr = val;
		break;
	}
}

static void half_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct half *h = opaque;
	uint8_t val = (uint8_t)v;

	if (off)
		write_odd(h, val);
	else if (val & 0x10)
		write_icw1(h, val);
	else if (val & 0x08)
		write_ocw3(h, val);
	else
		write_ocw2(h, val);
	update(h->pair);
}

/* A poll read is an acknowledge cycle that tells the input's number. */
static uint8_t read_poll(struct half *h)
{
	int n = request(h);

	h->poll = 0;
	if (n < 0)
		return 0;
	take(h, n);
	update(h->pair);
	return (uint8_t)(0x80 | n);
}

static uint64_t half_read(void *opaque, uint64_t off, unsigned len)
{
	struct half *h = opaque;

	if (h->poll)
		return read_poll(h);
	if (off)
		return h->imr;
	return h->read_isr ? h->isr : h->irr;
}

static const struct bus_ops half_ops = {
	.read = half_read, .write = half_write, .min_len = 1, .max_len = 1,
};

static uint64_t elcr_read(void *opaque, uint64_t off, unsigned len)
{
	struct half *h = opaque;

	return h->elcr;
}

static void elcr_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct half *h = opaque;

	/* Timer, keyboard, cascade, RTC and FPU are always edge. */
	h->elcr = (uint8_t)val & (is_master(h) ? 0xf8 : 0xde);
	h->irr = (h->irr & (uint8_t)~level_mask(h)) | (h->lines & level_mask(h));
	update(h->pair);
}

static const struct bus_ops elcr_ops = {
	.read = elcr_read, .write = elcr_write, .min_len = 1, .max_len = 1,
};

static void half_reset(struct half *h)
{
	write_icw1(h, 0);
	h->init = INIT_NONE;
	h->elcr = 0;
	h->base = 0;
	h->irr = h->lines & level_mask(h);
}

static void pair_reset(struct dev *d)
{
	struct i8259 *p = container_of(d, struct i8259, dev);

	half_reset(&p->master);
	half_reset(&p->slave);
	update(p);
}

static int pair_save(struct dev *d, struct snap_out *o)
{
	struct i8259 *p = container_of(d, struct i8259, dev);
	int ret = snap_put(o, "pc.i8259.master", &half_table, &p->master);

	return ret ? ret : snap_put(o, "pc.i8259.slave", &half_table, &p->slave);
}

static int pair_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct i8259 *p = container_of(d, struct i8259, dev);
	int ret = snap_get(in, "pc.i8259.master", &half_table, &p->master, e);

	if (!ret)
		ret = snap_get(in, "pc.i8259.slave", &half_table, &p->slave, e);
	if (ret)
		return ret;
	p->master.lowest &= 7;
	p->slave.lowest &= 7;
	p->master.base &= 0xf8;
	p->slave.base &= 0xf8;
	update(p);
	irq_set(&p->intr, p->intr_level);
	return 0;
}

static void unregister(struct i8259 *p)
{
	bus_del(&p->master.region);
	bus_del(&p->slave.region);
	bus_del(&p->master.elcr_region);
	bus_del(&p->slave.elcr_region);
}

static void pair_free(struct dev *d)
{
	struct i8259 *p = container_of(d, struct i8259, dev);

	unregister(p);
	dev_del(d);
	free(p);
}

static const struct dev_ops pair_dev_ops = {
	.name = "i8259",
	.reset = pair_reset,
	.save = pair_save,
	.load = pair_load,
	.free = pair_free,
};

static int register_half(struct machine *m, struct half *h, uint16_t base, uint16_t elcr)
{
	int ret;

	h->region = (struct bus_region){ .name = "i8259", .ops = &half_ops, .opaque = h,
					 .base = base, .size = 2, .priority = 1 };
	h->elcr_region = (struct bus_region){ .name = "elcr", .ops = &elcr_ops, .opaque = h,
					      .base = elcr, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &h->region);
	if (!ret && elcr)
		ret = bus_add(m->pio, &h->elcr_region);
	return ret;
}

int i8259_new(struct machine *m, const struct i8259_config *cfg, struct i8259 **out)
{
	struct i8259 *p = calloc(1, sizeof(*p));
	int ret;

	if (!p)
		return -ENOMEM;
	p->intr = cfg->intr;
	p->master.pair = p->slave.pair = p;
	ret = register_half(m, &p->master, cfg->master, cfg->elcr);
	if (!ret)
		ret = register_half(m, &p->slave, cfg->slave, cfg->elcr ? cfg->elcr + 1 : 0);
	if (ret) {
		unregister(p);
		free(p);
		return ret;
	}
	dev_add(m, &p->dev, &pair_dev_ops, "pc.i8259");
	pair_reset(&p->dev);
	*out = p;
	return 0;
}
