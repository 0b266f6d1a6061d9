/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8254 programmable interval timer (data sheet 231164) and port 0x61.
 *
 * A counter is never stepped: its state is the tick at which the current count
 * was loaded (or what was left when its gate stopped it), and everything else
 * is computed.  Ticks are virtual nanoseconds * 1193182 / 10^9.
 *
 * Only counter 0's output is a wire.  In the periodic modes one timer per period
 * pulses it; where in the period it is low cannot be seen from outside.  Periods
 * that the host slept through are made up for, CATCH_UP_MAX at most and at
 * twice the rate, so that a guest that counts ticks keeps its time and is not
 * flooded.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/i8254.h"
#include "machine/machine.h"

#define PIT_HZ 1193182u
#define CATCH_UP_MAX 32
#define PERIOD_MIN_TICKS 24		/* about 20 us: no faster interrupts (QUIRKS) */

enum { RW_LATCH, RW_LSB, RW_MSB, RW_BOTH };

struct counter {
	uint8_t mode, bcd, rw;
	uint8_t gate;
	uint8_t loaded;			/* a count was written since the control word */
	uint8_t running;		/* counting since `start` (modes 1, 5: triggered) */
	uint8_t null_count;		/* written, not yet in the counting element */
	uint8_t write_msb, read_msb;	/* next byte of a two-byte access is the high one */
	uint8_t write_lsb;		/* low byte waiting for the high one */
	uint8_t status_latched, status;
	uint8_t count_latched;		/* bytes left to read of `latch` */
	uint16_t latch;
	uint32_t reload;		/* 1..65536 (10000 BCD) in the counting element */
	uint32_t next;			/* written in a periodic mode, loaded at the period's end; 0: none */
	uint64_t start;			/* tick of loading or triggering */
	uint64_t held;			/* ticks counted when the gate stopped it */
};

struct i8254 {
	struct dev dev;
	struct irq irq;
	struct bus_region region, region61;
	struct vtimer timer;
	struct counter c[3];
	uint8_t port61;			/* bits 3:0 as written */
	uint8_t muted, level;
	uint8_t owed;			/* periods to be made up for */
	uint64_t due;			/* tick of counter 0's next rising edge, 0: none */
	uint64_t extra;			/* tick of a make-up pulse, 0: none */
};

static const struct snap_field counter_fields[] = {
	SNAP_FIELD(struct counter, mode),
	SNAP_FIELD(struct counter, bcd),
	SNAP_FIELD(struct counter, rw),
	SNAP_FIELD(struct counter, gate),
	SNAP_FIELD(struct counter, loaded),
	SNAP_FIELD(struct counter, running),
	SNAP_FIELD(struct counter, null_count),
	SNAP_FIELD(struct counter, write_msb),
	SNAP_FIELD(struct counter, read_msb),
	SNAP_FIELD(struct counter, write_lsb),
	SNAP_FIELD(struct counter, status_latched),
	SNAP_FIELD(struct counter, status),
	SNAP_FIELD(struct counter, count_latched),
	SNAP_FIELD(struct counter, latch),
	SNAP_FIELD(struct counter, reload),
	SNAP_FIELD(struct counter, next),
	SNAP_FIELD(struct counter, start),
	SNAP_FIELD(struct counter, held),
	SNAP_END
};
static const struct snap_table counter_table = { "i8254.counter", 1, counter_fields };

static const struct snap_field pit_fields[] = {
	SNAP_FIELD(struct i8254, port61),
	SNAP_FIELD(struct i8254, muted),
	SNAP_FIELD(struct i8254, level),
	SNAP_FIELD(struct i8254, owed),
	SNAP_FIELD(struct i8254, due),
	SNAP_FIELD(struct i8254, extra),
	SNAP_END
};
static const struct snap_table pit_table = { "i8254", 1, pit_fields };

static uint64_t now_tick(struct i8254 *t)
{
	return (uint64_t)((__int128)clock_now(t->dev.m->clock) * PIT_HZ / 1000000000);
}

/* The first nanosecond that belongs to the tick. */
static int64_t tick_ns(uint64_t tick)
{
	return (int64_t)(((__int128)tick * 1000000000 + PIT_HZ - 1) / PIT_HZ);
}

static bool periodic(const struct counter *c)
{
	return c->mode == 2 || c->mode == 3;
}

static bool triggered(const struct counter *c)
{
	return c->mode == 1 || c->mode == 5;
}

/* Ticks counted since the load. */
static uint64_t elapsed(const struct counter *c, uint64_t now)
{
	if (!c->running)
		return c->held;
	return now > c->start ? now - c->start : 0;
}

/* Moves `start` to the beginning of the present period and takes over a new
 * count at a period's end. */
static void normalise(struct counter *c, uint64_t now)
{
	uint64_t d = elapsed(c, now);

	if (!periodic(c) || !c->running || !c->reload || d < c->reload)
		return;
	if (c->next) {
		c->start += c->reload;
		c->reload = c->next;
		c->next = 0;
		c->null_count = 0;
		d = elapsed(c, now);
	}
	c->start += d / c->reload * c->reload;
}

static bool output(struct counter *c, uint64_t now)
{
	uint64_t d;

	normalise(c, now);
	d = elapsed(c, now);
	switch (c->mode) {
	case 0:
		return c->loaded && d >= c->reload;
	case 1:
		return !(c->running && d < c->reload);
	case 2:
		return !(c->running && d == c->reload - 1);
	case 3:
		return !c->running || d < (c->reload + 1) / 2;
	default:	/* 4, 5: low for the one tick of terminal count */
		return !(c->loaded && c->running && d == c->reload);
	}
}

/* The counting element's value. */
static uint16_t count(struct counter *c, uint64_t now)
{
	uint32_t wrap = c->bcd ? 10000 : 65536;
	uint64_t d;
	uint32_t v;

	normalise(c, now);
	d = elapsed(c, now);
	if (c->mode == 3)
		v = c->reload - (uint32_t)(2 * d % c->reload & ~1ull);
	else if (c->mode == 2)
		v = c->reload - (uint32_t)(d % c->reload);
	else
		v = (uint32_t)((c->reload + wrap - d % wrap) % wrap);
	v %= wrap;
	if (c->bcd)
		v = v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 << 12;
	return (uint16_t)v;
}

static uint32_t from_bcd(uint16_t v)
{
	uint32_t n = (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u + (v & 15);

	return MIN(n, 10000);		/* digits above 9 */
}

static void drive(struct i8254 *t, bool level)
{
	t->level = level;
	if (!t->muted)
		irq_set(&t->irq, level);
}

/* Arms the timer for counter 0's next rising edge. */
static void schedule(struct i8254 *t, uint64_t now)
{
	struct counter *c = &t->c[0];
	uint64_t at;

	t->due = 0;
	normalise(c, now);
	if (c->loaded && c->running) {
		uint64_t edge = c->start + c->reload + (c->mode >= 4 ? 1 : 0);

		if (periodic(c) && c->reload < PERIOD_MIN_TICKS)
			edge += (PERIOD_MIN_TICKS + c->reload - 1) / c->reload * c->reload;
		if (periodic(c) || edge > now)
			t->due = edge;
	}
	at = t->extra && (!t->due || t->extra < t->due) ? t->extra : t->due;
	if (at)
		vtimer_arm(&t->timer, tick_ns(at));
	else
		vtimer_cancel(&t->timer);
}

/* Counter 0 was programmed anew: set its output and forget what is owed. */
static void counter0_changed(struct i8254 *t)
{
	uint64_t now = now_tick(t);

	t->owed = 0;
	t->extra = 0;
	drive(t, output(&t->c[0], now));
	schedule(t, now);
}

static void pulse(struct i8254 *t)
{
	drive(t, false);
	drive(t, true);
}

/* Periods missed between the edge that was due and now. */
static void note_missed(struct i8254 *t, uint64_t now)
{
	uint32_t period = t->c[0].reload;
	uint64_t missed;

	if (!periodic(&t->c[0]) || period < PERIOD_MIN_TICKS)
		return;
	missed = (now - t->due) / period;
	t->owed = (uint8_t)MIN(missed + t->owed, CATCH_UP_MAX);
}

static void timer_cb(void *opaque)
{
	struct i8254 *t = opaque;
	uint64_t now = now_tick(t);
	bool fired = false;

	if (t->due && now >= t->due) {
		note_missed(t, now);
		fired = true;
	} else if (t->extra && now >= t->extra) {
		t->owed--;
		fired = true;
	}
	if (fired) {
		t->extra = t->owed ? now + t->c[0].reload / 2 : 0;
		pulse(t);
	}
	schedule(t, now);
}

static void load_count(struct i8254 *t, struct counter *c, uint16_t raw)
{
	uint32_t n = c->bcd ? from_bcd(raw) : raw;
	uint64_t now = now_tick(t);

	if (!n)
		n = c->bcd ? 10000 : 65536;
	c->null_count = 1;
	if (periodic(c) && c->loaded && c->running) {
		normalise(c, now);
		c->next = n;		/* the present period is finished first */
	} else {
		c->reload = n;
		c->held = 0;
		c->start = now;
		c->null_count = triggered(c);
		c->running = !triggered(c) && c->gate;
	}
	c->loaded = 1;
	if (c == &t->c[0])
		counter0_changed(t);
}

static void write_counter(struct i8254 *t, struct counter *c, uint8_t val)
{
	switch (c->rw) {
	case RW_LSB:
		load_count(t, c, val);
		break;
	case RW_MSB:
		load_count(t, c, (uint16_t)(val << 8));
		break;
	case RW_BOTH:
		if (!c->write_msb) {
			c->write_lsb = val;
			c->write_msb = 1;
			if (c->mode == 0) {	/* the first byte stops counting, output low */
				c->held = 0;
				c->running = c->loaded = 0;
				if (c == &t->c[0])
					counter0_changed(t);
			}
		} else {
			c->write_msb = 0;
			load_count(t, c, (uint16_t)(val << 8 | c->write_lsb));
		}
		break;
	}
}

static uint8_t read_counter(struct i8254 *t, struct counter *c)
{
	uint16_t v;

	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	if (c->count_latched) {
		v = c->latch;
		if (c->rw == RW_BOTH && c->count_latched == 2) {
			c->count_latched = 1;
			return (uint8_t)v;
		}
		c->count_latched = 0;
		return c->rw == RW_LSB ? (uint8_t)v : (uint8_t)(v >> 8);
	}
	v = count(c, now_tick(t));
	if (c->rw == RW_BOTH) {
		c->read_msb ^= 1;
		return c->read_msb ? (uint8_t)v : (uint8_t)(v >> 8);
	}
	return c->rw == RW_MSB ? (uint8_t)(v >> 8) : (uint8_t)v;
}

static void latch_count(struct i8254 *t, struct counter *c)
{
	if (c->count_latched)
		return;			/* the first latch holds until read */
	c->latch = count(c, now_tick(t));
	c->count_latched = c->rw == RW_BOTH ? 2 : 1;
}

static void latch_status(struct i8254 *t, struct counter *c)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)(output(c, now_tick(t)) << 7 | c->null_count << 6 | c->rw << 4 |
			      c->mode << 1 | c->bcd);
	c->status_latched = 1;
}

static void read_back(struct i8254 *t, uint8_t val)
{
	for (int i = 0; i < 3; i++) {
		if (!(val & BIT(i + 1)))
			continue;
		if (!(val & 0x20))
			latch_count(t, &t->c[i]);
		if (!(val & 0x10))
			latch_status(t, &t->c[i]);
	}
}

static void write_control(struct i8254 *t, uint8_t val)
{
	struct counter *c;
	uint8_t gate;

	if (val >> 6 == 3) {
		read_back(t, val);
		return;
	}
	c = &t->c[val >> 6];
	if ((val >> 4 & 3) == RW_LATCH) {
		latch_count(t, c);
		return;
	}
	gate = c->gate;
	*c = (struct counter){ .gate = gate, .null_count = 1, .reload = 65536,
			       .rw = val >> 4 & 3, .mode = val >> 1 & 7, .bcd = val & 1 };
	if (c->mode > 5)
		c->mode -= 4;		/* 6 and 7 are 2 and 3 */
	if (c->bcd)
		c->reload = 10000;
	if (c == &t->c[0])
		counter0_changed(t);
}

/* Data sheet, "Gate pin operations summary". */
static void set_gate(struct i8254 *t, struct counter *c, bool gate)
{
	uint64_t now = now_tick(t);
	bool rise = gate && !c->gate, fall = !gate && c->gate;

	c->gate = gate;
	if (!c->loaded)
		return;
	if (triggered(c)) {
		if (rise) {
			c->start = now;
			c->running = 1;
			c->null_count = 0;
		}
	} else if (fall && c->running) {
		normalise(c, now);
		c->held = elapsed(c, now);
		c->running = 0;
	} else if (rise && !c->running) {
		if (periodic(c) && c->next) {
			c->reload = c->next;
			c->next = 0;
			c->null_count = 0;
		}
		/* Modes 0 and 4 go on, 2 and 3 start afresh. */
		c->start = now - (periodic(c) ? 0 : MIN(c->held, now));
		c->running = 1;
	}
}

static uint64_t pit_read(void *opaque, uint64_t off, unsigned len)
{
	struct i8254 *t = opaque;

	return off < 3 ? read_counter(t, &t->c[off]) : 0xff;
}

static void pit_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct i8254 *t = opaque;

	if (off < 3)
		write_counter(t, &t->c[off], (uint8_t)val);
	else
		write_control(t, (uint8_t)val);
}

static const struct bus_ops pit_ops = {
	.read = pit_read, .write = pit_write, .min_len = 1, .max_len = 1,
};

/* Bit 0 gate 2, bit 1 speaker, 3:2 parity enables, 4 refresh (toggles every
 * 15 us), 5 output of counter 2. */
static uint64_t port61_read(void *opaque, uint64_t off, unsigned len)
{
	struct i8254 *t = opaque;
	uint64_t refresh = (uint64_t)clock_now(t->dev.m->clock) / 15085 & 1;

	return t->port61 | refresh << 4 | (uint64_t)output(&t->c[2], now_tick(t)) << 5;
}

/* Counter 2's output, low until it has counted down, is what is waited for there. */
static int64_t port61_quiet_until(void *opaque, uint64_t off)
{
	struct i8254 *t = opaque;
	struct counter *c = &t->c[2];

	return c->mode <= 1 && c->loaded && c->running && !output(c, now_tick(t)) ? tick_ns(c->start + c->reload) : 0;
}

static void port61_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct i8254 *t = opaque;

	t->port61 = val & 0xf;
	set_gate(t, &t->c[2], val & 1);
}

static const struct bus_ops port61_ops = {
	.read = port61_read, .write = port61_write, .quiet_until = port61_quiet_until, .min_len = 1, .max_len = 1,
};

static void set_mute(void *opaque, int n, bool level)
{
	struct i8254 *t = opaque;

	if (level && !t->muted)
		irq_set(&t->irq, false);
	t->muted = level;
	drive(t, t->level);
}

struct irq i8254_mute(struct i8254 *t)
{
	return (struct irq){ .set = set_mute, .opaque = t };
}

static void pit_reset(struct dev *d)
{
	struct i8254 *t = container_of(d, struct i8254, dev);

	for (int i = 0; i < 3; i++)
		t->c[i] = (struct counter){ .mode = i == 1 ? 2 : 3, .rw = RW_BOTH, .reload = 65536,
					    .null_count = 1, .gate = i != 2 };
	t->port61 = 0;
	counter0_changed(t);
}

static int pit_save(struct dev *d, struct snap_out *o)
{
	struct i8254 *t = container_of(d, struct i8254, dev);
	static const char *const ids[3] = { "pc.i8254.0", "pc.i8254.1", "pc.i8254.2" };
	int ret = snap_put(o, d->id, &pit_table, t);

	for (int i = 0; !ret && i < 3; i++)
		ret = snap_put(o, ids[i], &counter_table, &t->c[i]);
	return ret;
}

static int check_counter(struct counter *c, struct err *e)
{
	uint32_t max = c->bcd ? 10000 : 65536;

	c->gate = c->gate != 0;
	if (c->mode > 5 || c->bcd > 1 || c->rw > 3 || !c->reload || c->reload > max || c->next > max ||
	    c->start > INT64_MAX / 2 || c->held > INT64_MAX / 2)
		return err_set(e, -EINVAL, "saved i8254 counter makes no sense");
	return 0;
}

static int pit_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct i8254 *t = container_of(d, struct i8254, dev);
	static const char *const ids[3] = { "pc.i8254.0", "pc.i8254.1", "pc.i8254.2" };
	int ret = snap_get(in, d->id, &pit_table, t, e);

	for (int i = 0; !ret && i < 3; i++) {
		ret = snap_get(in, ids[i], &counter_table, &t->c[i], e);
		if (!ret)
			ret = check_counter(&t->c[i], e);
	}
	if (ret)
		return ret;
	t->owed = MIN(t->owed, CATCH_UP_MAX);
	if (!t->owed || t->extra > INT64_MAX / 2)
		t->extra = 0;
	t->muted = t->muted != 0;
	schedule(t, now_tick(t));
	return 0;
}

static void pit_free(struct dev *d)
{
	struct i8254 *t = container_of(d, struct i8254, dev);

	vtimer_cancel(&t->timer);
	bus_del(&t->region);
	bus_del(&t->region61);
	dev_del(d);
	free(t);
}

static const struct dev_ops pit_dev_ops = {
	.name = "i8254",
	.reset = pit_reset,
	.save = pit_save,
	.load = pit_load,
	.free = pit_free,
};

int i8254_new(struct machine *m, const struct i8254_config *cfg, struct i8254 **out)
{
	struct i8254 *t = calloc(1, sizeof(*t));
	int ret;

	if (!t)
		return -ENOMEM;
	t->irq = cfg->irq;
	t->region = (struct bus_region){ .name = "i8254", .ops = &pit_ops, .opaque = t,
					 .base = cfg->base, .size = 4, .priority = 1 };
	t->region61 = (struct bus_region){ .name = "port61", .ops = &port61_ops, .opaque = t,
					   .base = cfg->port61, .size = 1, .priority = 1 };
	ret = bus_add(m->pio, &t->region);
	if (!ret && cfg->port61)
		ret = bus_add(m->pio, &t->region61);
	if (ret) {
		bus_del(&t->region);
		free(t);
		return ret;
	}
	vtimer_init(m->clock, &t->timer, timer_cb, t);
	dev_add(m, &t->dev, &pit_dev_ops, "pc.i8254");
	pit_reset(&t->dev);
	*out = t;
	return 0;
}
