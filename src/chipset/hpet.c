/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * High Precision Event Timers (IA-PC HPET specification 1.0a).
 *
 * 100 MHz: one count is 10 ns of virtual time, the counter is computed.  A
 * timer is armed for the moment its comparator matches; a match that the guest
 * set behind the counter comes after wrap-around only, as in the hardware.
 * Periodic timers faster than PERIOD_MIN skip matches (docs/QUIRKS.md).
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/hpet.h"
#include "machine/machine.h"

#define TIMERS 3
#define NS_PER_COUNT 10
#define PERIOD_FS 10000000ull
#define PERIOD_MIN 2000			/* counts: 20 us */
#define FAR (BIT64(62) / NS_PER_COUNT)	/* matches further away are not armed */

enum { REG_CAP = 0x00, REG_CONF = 0x10, REG_STATUS = 0x20, REG_COUNTER = 0xf0, REG_TIMER = 0x100 };
enum { CONF_ENABLE = 1, CONF_LEGACY = 2 };
enum {
	T_LEVEL = BIT(1), T_ENABLE = BIT(2), T_PERIODIC = BIT(3), T_PERIODIC_CAP = BIT(4),
	T_SIZE_CAP = BIT(5), T_VAL_SET = BIT(6), T_32BIT = BIT(8), T_ROUTE = 0x1f << 9,
	T_FSB = BIT(14), T_FSB_CAP = BIT(15),
};
#define T_WRITABLE (T_LEVEL | T_ENABLE | T_PERIODIC | T_VAL_SET | T_32BIT | T_ROUTE | T_FSB)

struct hpet_timer {
	struct hpet *h;
	struct vtimer vt;
	uint64_t conf;			/* low 32 bits; the rest is capability */
	uint64_t cmp, period, fsb;
	uint64_t due;			/* counter value of the armed match */
	uint8_t armed;
	uint8_t line;			/* pin number + 1 held high, 0: none */
};

struct hpet {
	struct dev dev;
	struct hpet_config cfg;
	struct bus_region region;
	uint64_t conf, status;
	uint64_t counter;		/* at start_ns, or while halted */
	int64_t start_ns;
	struct hpet_timer t[TIMERS];
};

static const struct snap_field timer_fields[] = {
	SNAP_FIELD(struct hpet_timer, conf),
	SNAP_FIELD(struct hpet_timer, cmp),
	SNAP_FIELD(struct hpet_timer, period),
	SNAP_FIELD(struct hpet_timer, fsb),
	SNAP_FIELD(struct hpet_timer, due),
	SNAP_FIELD(struct hpet_timer, armed),
	SNAP_FIELD(struct hpet_timer, line),
	SNAP_END
};
static const struct snap_table timer_table = { "hpet.timer", 1, timer_fields };

static const struct snap_field hpet_fields[] = {
	SNAP_FIELD(struct hpet, conf),
	SNAP_FIELD(struct hpet, status),
	SNAP_FIELD(struct hpet, counter),
	SNAP_FIELD(struct hpet, start_ns),
	SNAP_END
};
static const struct snap_table hpet_table = { "hpet", 1, hpet_fields };

static uint64_t counter(struct hpet *h)
{
	int64_t now;

	if (!(h->conf & CONF_ENABLE))
		return h->counter;
	now = clock_now(h->dev.m->clock);
	return h->counter + (uint64_t)(now - h->start_ns) / NS_PER_COUNT;
}

static unsigned number(const struct hpet_timer *t)
{
	return (unsigned)(t - t->h->t);
}

/* Where an edge or level of this timer goes: a wire, or NULL. */
static const struct irq *wire(const struct hpet_timer *t)
{
	unsigned pin = (t->conf & T_ROUTE) >> 9;

	if (t->h->conf & CONF_LEGACY && number(t) < 2)
		return number(t) ? &t->h->cfg.irq8 : &t->h->cfg.irq0;
	if (pin < 24 && t->h->cfg.route_cap >> pin & 1)
		return &t->h->cfg.pin[pin];
	return NULL;
}

static const struct irq *held_wire(const struct hpet_timer *t)
{
	unsigned n = t->line - 1u;

	if (n < 24)
		return &t->h->cfg.pin[n];
	return n == 24 ? &t->h->cfg.irq0 : &t->h->cfg.irq8;
}

static void release(struct hpet_timer *t)
{
	if (t->line)
		irq_set(held_wire(t), false);
	t->line = 0;
}

/* Holds the level wire as long as the status bit is set and all allows it. */
static void update_level(struct hpet_timer *t)
{
	const struct irq *w = wire(t);
	bool want = t->conf & T_LEVEL && t->conf & T_ENABLE && !(t->conf & T_FSB) && w &&
		    t->h->status & BIT(number(t));
	uint8_t line = 0;

	if (want)
		line = w == &t->h->cfg.irq0 ? 25 : w == &t->h->cfg.irq8 ? 26 : (uint8_t)(w - t->h->cfg.pin + 1);
	if (t->line && t->line != line)
		release(t);
	if (line && !t->line) {
		t->line = line;
		irq_set(w, true);
	}
}

static void fire(struct hpet_timer *t)
{
	const struct irq *w = wire(t);

	if (t->conf & T_LEVEL)
		t->h->status |= BIT(number(t));
	if (!(t->conf & T_ENABLE))
		return;
	if (t->conf & T_FSB)
		machine_msi(t->h->dev.m, &(struct msi){ .addr = t->fsb >> 32, .data = (uint32_t)t->fsb });
	else if (t->conf & T_LEVEL)
		update_level(t);
	else if (w)
		irq_pulse(w);
}

/* Counts until the comparator matches next, 1..2^32 or 2^64 - 1. */
static uint64_t distance(const struct hpet_timer *t, uint64_t now)
{
	uint64_t d = t->cmp - now;

	if (t->conf & T_32BIT) {
		d &= 0xffffffff;
		return d ? d : BIT64(32);
	}
	return d ? d : UINT64_MAX;
}

/* A match of it shows nowhere but in the comparator: nobody is woken for it, and catch_up does what it would have done.  Linux leaves
 * a periodic timer so when it goes on with the local APIC's. */
static bool is_quiet(const struct hpet_timer *t) { return !(t->conf & (T_ENABLE | T_LEVEL)); }

static void arm(struct hpet_timer *t)
{
	struct hpet *h = t->h;
	uint64_t now, d;

	t->armed = 0;
	vtimer_cancel(&t->vt);
	if (!(h->conf & CONF_ENABLE))
		return;
	now = counter(h);
	d = distance(t, now);
	if (t->conf & T_PERIODIC && t->period && t->period < PERIOD_MIN && d < PERIOD_MIN) {
		uint64_t skip = (PERIOD_MIN - d + t->period - 1) / t->period;

		t->cmp += skip * t->period;
		if (t->conf & T_32BIT)
			t->cmp &= 0xffffffff;
		d += skip * t->period;
	}
	if (d > FAR)
		return;
	t->due = now + d;
	t->armed = 1;
	if (!is_quiet(t))
		vtimer_arm(&t->vt, h->start_ns + (int64_t)((t->due - h->counter) * NS_PER_COUNT));
}

/* Moves a periodic timer's comparator past now: matches slept through are one interrupt. */
static void advance(struct hpet_timer *t, uint64_t now)
{
	if (!(t->conf & T_PERIODIC) || !t->period)
		return;
	t->cmp += t->period + (now - t->due) / t->period * t->period;
	if (t->conf & T_32BIT)
		t->cmp &= 0xffffffff;
}

/* Before the comparator is looked at, or a quiet timer changes. */
static void catch_up(struct hpet_timer *t)
{
	uint64_t now = counter(t->h);

	if (!t->armed || !is_quiet(t) || (int64_t)(now - t->due) < 0)
		return;
	advance(t, now);
	arm(t);
}

static void timer_cb(void *opaque)
{
	struct hpet_timer *t = opaque;
	uint64_t now = counter(t->h);

	if (!t->armed || (int64_t)(now - t->due) < 0)
		return;
	advance(t, now);
	fire(t);
	arm(t);
}

static void arm_all(struct hpet *h)
{
	for (int i = 0; i < TIMERS; i++)
		arm(&h->t[i]);
}

static void write_conf(struct hpet *h, uint64_t val)
{
	uint64_t old = h->conf;
	bool legacy = val & CONF_LEGACY;

	for (int i = 0; i < TIMERS; i++)
		catch_up(&h->t[i]);
	val &= CONF_ENABLE | CONF_LEGACY;
	if (old & CONF_ENABLE && !(val & CONF_ENABLE))
		h->counter = counter(h);
	h->conf = val;
	if ((old ^ val) & CONF_ENABLE) {
		h->start_ns = clock_now(h->dev.m->clock);
		arm_all(h);
	}
	if ((old ^ val) & CONF_LEGACY) {
		/* Wires are let go before the other owner takes them. */
		for (int i = 0; i < TIMERS; i++)
			release(&h->t[i]);
		irq_set(&h->cfg.mute[0], legacy);
		irq_set(&h->cfg.mute[1], legacy);
		for (int i = 0; i < TIMERS; i++)
			update_level(&h->t[i]);
	}
}

static void write_timer_conf(struct hpet_timer *t, uint64_t val)
{
	catch_up(t);
	t->conf = (t->conf & ~(uint64_t)T_WRITABLE) | (val & T_WRITABLE);
	if (t->conf & T_32BIT) {
		t->cmp &= 0xffffffff;
		t->period &= 0xffffffff;
	}
	update_level(t);
	arm(t);
}

/* 2.3.9.2.2: VAL_SET lets a periodic timer's comparator be written; otherwise
 * the write is the period. */
static void write_cmp(struct hpet_timer *t, uint64_t val, uint64_t mask)
{
	if (t->conf & T_32BIT)
		mask &= 0xffffffff;
	catch_up(t);
	if (!(t->conf & T_PERIODIC) || t->conf & T_VAL_SET)
		t->cmp = (t->cmp & ~mask) | (val & mask);
	if (t->conf & T_PERIODIC)
		t->period = (t->period & ~mask) | (val & mask);
	if (mask >> 32 || t->conf & T_32BIT || mask == UINT64_MAX)
		t->conf &= ~(uint64_t)T_VAL_SET;
	arm(t);
}

static uint64_t read_timer(const struct hpet_timer *t, unsigned reg)
{
	switch (reg) {
	case 0x00:
		return t->conf | T_PERIODIC_CAP | T_SIZE_CAP | T_FSB_CAP | (uint64_t)t->h->cfg.route_cap << 32;
	case 0x08: return t->cmp;
	case 0x10: return t->fsb;
	default: return 0;
	}
}

static uint64_t read_reg(struct hpet *h, uint64_t reg)
{
	switch (reg) {
	case REG_CAP:	/* revision 1, 3 timers, 64 bits, legacy replacement, Intel */
		return PERIOD_FS << 32 | 0x8086u << 16 | BIT(15) | BIT(13) | (TIMERS - 1) << 8 | 1;
	case REG_CONF: return h->conf;
	case REG_STATUS: return h->status;
	case REG_COUNTER: return counter(h);
	}
	if (reg >= REG_TIMER && reg < REG_TIMER + 0x20 * TIMERS) {
		catch_up(&h->t[(reg - REG_TIMER) / 0x20]);
		return read_timer(&h->t[(reg - REG_TIMER) / 0x20], reg & 0x1f);
	}
	return 0;
}

/* val and mask are the 64-bit register's: a 32-bit write is half of it. */
static void write_reg(struct hpet *h, uint64_t reg, uint64_t val, uint64_t mask)
{
	struct hpet_timer *t;

	switch (reg) {
	case REG_CONF:
		if (mask & 0xff)
			write_conf(h, val);
		return;
	case REG_STATUS:
		h->status &= ~(val & mask);
		for (int i = 0; i < TIMERS; i++)
			update_level(&h->t[i]);
		return;
	case REG_COUNTER:		/* undefined while running: ignored */
		if (!(h->conf & CONF_ENABLE))
			h->counter = (h->counter & ~mask) | (val & mask);
		return;
	}
	if (reg < REG_TIMER || reg >= REG_TIMER + 0x20 * TIMERS)
		return;
	t = &h->t[(reg - REG_TIMER) / 0x20];
	switch (reg & 0x1f) {
	case 0x00:
		if (mask & 0xff)
			write_timer_conf(t, (t->conf & ~mask) | (val & mask));
		break;
	case 0x08: write_cmp(t, val, mask); break;
	case 0x10: t->fsb = (t->fsb & ~mask) | (val & mask); break;
	}
}

static uint64_t hpet_read(void *opaque, uint64_t off, unsigned len)
{
	return read_reg(opaque, off & ~7ull) >> (8 * (off & 7));
}

static void hpet_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	unsigned shift = 8 * (off & 7);
	uint64_t mask = len == 8 ? UINT64_MAX : 0xffffffffull << shift;

	write_reg(opaque, off & ~7ull, val << shift, mask);
}

static const struct bus_ops hpet_ops = { .read = hpet_read, .write = hpet_write, .min_len = 4, .max_len = 8 };

static void hpet_reset(struct dev *d)
{
	struct hpet *h = container_of(d, struct hpet, dev);

	for (int i = 0; i < TIMERS; i++) {
		struct hpet_timer *t = &h->t[i];

		release(t);
		vtimer_cancel(&t->vt);
		t->conf = 0;
		t->cmp = UINT64_MAX;
		t->period = t->fsb = t->due = 0;
		t->armed = 0;
	}
	h->conf = h->status = h->counter = 0;
	h->start_ns = 0;
	irq_set(&h->cfg.mute[0], false);
	irq_set(&h->cfg.mute[1], false);
}

static int hpet_save(struct dev *d, struct snap_out *o)
{
	struct hpet *h = container_of(d, struct hpet, dev);
	static const char *const ids[TIMERS] = { "pc.hpet.0", "pc.hpet.1", "pc.hpet.2" };
	int ret = snap_put(o, d->id, &hpet_table, h);

	for (int i = 0; !ret && i < TIMERS; i++) {
		catch_up(&h->t[i]);
		ret = snap_put(o, ids[i], &timer_table, &h->t[i]);
	}
	return ret;
}

static int hpet_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct hpet *h = container_of(d, struct hpet, dev);
	static const char *const ids[TIMERS] = { "pc.hpet.0", "pc.hpet.1", "pc.hpet.2" };
	int ret = snap_get(in, d->id, &hpet_table, h, e);

	if (!ret && (h->start_ns < 0 || h->start_ns > clock_now(d->m->clock)))
		ret = err_set(e, -EINVAL, "saved HPET counter makes no sense");
	h->conf &= CONF_ENABLE | CONF_LEGACY;
	for (int i = 0; !ret && i < TIMERS; i++) {
		ret = snap_get(in, ids[i], &timer_table, &h->t[i], e);
		h->t[i].conf &= T_WRITABLE;
		if (h->t[i].line > 26)
			h->t[i].line = 0;
	}
	if (ret)
		return ret;
	for (int i = 0; i < TIMERS; i++) {
		bool was = h->t[i].armed;
		uint64_t due = h->t[i].due;

		arm(&h->t[i]);
		/* A match that was due but not yet delivered is delivered at once. */
		if (was && h->conf & CONF_ENABLE && (int64_t)(counter(h) - due) >= 0 &&
		    counter(h) - due < FAR) {
			h->t[i].due = due;
			h->t[i].armed = 1;
			vtimer_arm(&h->t[i].vt, clock_now(d->m->clock));
		}
	}
	irq_set(&h->cfg.mute[0], h->conf & CONF_LEGACY);
	irq_set(&h->cfg.mute[1], h->conf & CONF_LEGACY);
	return 0;
}

static void hpet_free(struct dev *d)
{
	struct hpet *h = container_of(d, struct hpet, dev);

	for (int i = 0; i < TIMERS; i++)
		vtimer_cancel(&h->t[i].vt);
	bus_del(&h->region);
	dev_del(d);
	free(h);
}

static const struct dev_ops hpet_dev_ops = {
	.name = "hpet",
	.reset = hpet_reset,
	.save = hpet_save,
	.load = hpet_load,
	.free = hpet_free,
};

int hpet_new(struct machine *m, const struct hpet_config *cfg, struct hpet **out)
{
	struct hpet *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	h->cfg = *cfg;
	h->cfg.route_cap &= 0xffffff;
	h->region = (struct bus_region){ .name = "hpet", .ops = &hpet_ops, .opaque = h,
					 .base = cfg->base, .size = 0x400, .priority = 1 };
	ret = bus_add(m->mmio, &h->region);
	if (ret) {
		free(h);
		return ret;
	}
	for (int i = 0; i < TIMERS; i++) {
		h->t[i].h = h;
		vtimer_init(m->clock, &h->t[i].vt, timer_cb, &h->t[i]);
	}
	dev_add(m, &h->dev, &hpet_dev_ops, "pc.hpet");
	hpet_reset(&h->dev);
	*out = h;
	return 0;
}
