/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Motorola MC146818 real-time clock (data sheet ADI-855) with CMOS memory.
 *
 * The guest's clock is clock_wall_ns plus what the guest changed by setting the
 * time, kept as seconds and nanoseconds because the chip's years reach further
 * than 64 bits of nanoseconds; nothing ticks.  While the guest holds the clock
 * (register B SET, or the divider in reset) the time stands in the registers.
 * Flags of register C are found out when somebody looks; a timer runs only for
 * those whose interrupt is enabled.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "chipset/mc146818.h"
#include "machine/machine.h"

enum { R_SEC, R_SEC_ALARM, R_MIN, R_MIN_ALARM, R_HOUR, R_HOUR_ALARM, R_WDAY, R_MDAY, R_MONTH, R_YEAR,
       R_A, R_B, R_C, R_D, R_CENTURY = 0x32 };
enum { A_UIP = 0x80, A_DV = 0x70, A_RS = 0x0f };
enum { B_SET = 0x80, B_PIE = 0x40, B_AIE = 0x20, B_UIE = 0x10, B_SQWE = 0x08, B_BINARY = 0x04, B_24H = 0x02 };
enum { C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };

#define SEC_NS 1000000000ll
#define UIP_NS 244000		/* UIP shows this long before an update */
#define HOUR_PM 0x80
#define MAX_SEC (1ll << 44)		/* far beyond any year */

struct mc146818 {
	struct dev dev;
	struct mc146818_config cfg;
	struct bus_region region;
	struct vtimer timer;
	uint8_t cmos[256];
	uint8_t index, index2;
	uint8_t muted, level;
	struct irq alarm_out;
	bool alarm;			/* its level */
	uint8_t frozen;			/* time stands in cmos[] */
	int64_t offset_sec;		/* guest's time - wall time */
	int64_t offset_ns;		/* 0..SEC_NS-1, added to it */
	int64_t frozen_ns;		/* fraction of a second to resume with */
	int64_t seen_sec;		/* guest second up to which UF and AF are accounted */
	int64_t seen_period;		/* the same of periodic ticks */
};

static const struct snap_field fields[] = {
	SNAP_ARRAY(struct mc146818, cmos),
	SNAP_FIELD(struct mc146818, index),
	SNAP_FIELD(struct mc146818, index2),
	SNAP_FIELD(struct mc146818, muted),
	SNAP_FIELD(struct mc146818, level),
	SNAP_FIELD(struct mc146818, frozen),
	SNAP_FIELD(struct mc146818, offset_sec),
	SNAP_FIELD(struct mc146818, offset_ns),
	SNAP_FIELD(struct mc146818, frozen_ns),
	SNAP_FIELD(struct mc146818, seen_sec),
	SNAP_FIELD(struct mc146818, seen_period),
	SNAP_END
};
static const struct snap_table table = { "mc146818", 1, fields };

struct civil {
	int64_t year;			/* 0..9999 */
	int mon, day, hour, min, sec, wday;	/* mon 1..12, wday 1 = Sunday */
};

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_from_civil(int64_t y, int m, int d)
{
	int64_t era, yoe, doy;

	y -= m <= 2;
	era = (y >= 0 ? y : y - 399) / 400;
	yoe = y - era * 400;
	doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
	return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void civil_from_sec(int64_t sec, struct civil *c)
{
	int64_t days = sec / 86400, rest = sec % 86400, era, doe, yoe, doy, mp;

	if (rest < 0) {
		rest += 86400;
		days--;
	}
	c->hour = (int)(rest / 3600);
	c->min = (int)(rest / 60 % 60);
	c->sec = (int)(rest % 60);
	c->wday = (int)(((days + 4) % 7 + 7) % 7) + 1;
	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	doe = days - era * 146097;
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	mp = (5 * doy + 2) / 153;
	c->day = (int)(doy - (153 * mp + 2) / 5 + 1);
	c->mon = (int)(mp < 10 ? mp + 3 : mp - 9);
	c->year = yoe + era * 400 + (c->mon <= 2);
}

static uint8_t encode(const struct mc146818 *r, int v)
{
	return (uint8_t)(r->cmos[R_B] & B_BINARY ? v : (v / 10 % 10) << 4 | v % 10);
}

static int decode(const struct mc146818 *r, uint8_t v)
{
	return r->cmos[R_B] & B_BINARY ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t encode_hour(const struct mc146818 *r, int h)
{
	if (r->cmos[R_B] & B_24H)
		return encode(r, h);
	return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const struct mc146818 *r, uint8_t v)
{
	if (r->cmos[R_B] & B_24H)
		return decode(r, v);
	return decode(r, v & 0x7f) % 12 + (v & HOUR_PM ? 12 : 0);
}

/* The guest's time since 1970: seconds, and nanoseconds into the second. */
static int64_t guest_sec(struct mc146818 *r)
{
	return (clock_wall_ns(r->dev.m->clock) + r->offset_ns) / SEC_NS + r->offset_sec;
}

static int64_t guest_frac(struct mc146818 *r)
{
	return (clock_wall_ns(r->dev.m->clock) + r->offset_ns) % SEC_NS;
}

/* Puts the running time into the registers. */
static void show_time(struct mc146818 *r)
{
	struct civil c;

	civil_from_sec(guest_sec(r), &c);
	r->cmos[R_SEC] = encode(r, c.sec);
	r->cmos[R_MIN] = encode(r, c.min);
	r->cmos[R_HOUR] = encode_hour(r, c.hour);
	r->cmos[R_WDAY] = encode(r, c.wday);
	r->cmos[R_MDAY] = encode(r, c.day);
	r->cmos[R_MONTH] = encode(r, c.mon);
	r->cmos[R_YEAR] = encode(r, (int)(c.year % 100));
	r->cmos[R_CENTURY] = encode(r, (int)(c.year / 100 % 100));
}

/* What the registers say; nonsense is wrapped into a date. */
static int64_t time_from_regs(const struct mc146818 *r)
{
	int64_t year = decode(r, r->cmos[R_CENTURY]) * 100 + decode(r, r->cmos[R_YEAR]);
	int mon = decode(r, r->cmos[R_MONTH]);

	if (mon < 1 || mon > 12)
		mon = 1;
	return days_from_civil(year, mon, decode(r, r->cmos[R_MDAY])) * 86400 +
	       decode_hour(r, r->cmos[R_HOUR]) * 3600 + decode(r, r->cmos[R_MIN]) * 60 +
	       decode(r, r->cmos[R_SEC]);
}

/* The clock goes on from the registers, `frac` ns into their second. */
static void take_time(struct mc146818 *r, int64_t frac)
{
	int64_t wall = clock_wall_ns(r->dev.m->clock);

	r->offset_ns = ((frac - wall) % SEC_NS + SEC_NS) % SEC_NS;
	r->offset_sec = time_from_regs(r) - (wall + r->offset_ns) / SEC_NS;
	r->seen_sec = guest_sec(r);
	machine_tell(r->dev.m, MACHINE_EV_RTC_CHANGE, r->offset_sec);
}

static bool held(const struct mc146818 *r)
{
	return r->cmos[R_B] & B_SET || (r->cmos[R_A] & A_DV) > 0x20;
}

/* Ticks of the 32768 Hz clock per periodic interrupt; 0: off. */
static int64_t period_ticks(const struct mc146818 *r)
{
	unsigned rs = r->cmos[R_A] & A_RS;

	if (!rs || (r->cmos[R_A] & A_DV) > 0x20)
		return 0;
	return rs < 3 ? 64 << rs : 1 << (rs - 1);
}

static int64_t periods_now(struct mc146818 *r, int64_t ticks)
{
	return (int64_t)((__int128)clock_now(r->dev.m->clock) * 32768 / SEC_NS) / ticks;
}

static bool alarm_field(const struct mc146818 *r, int reg, int v)
{
	uint8_t a = r->cmos[reg];

	if ((a & 0xc0) == 0xc0)
		return true;		/* don't care */
	return (reg == R_HOUR_ALARM ? decode_hour(r, a) : decode(r, a)) == v;
}

/* Seconds from `t` until the next one that matches the alarm, 1..86400; 0: none. */
static int64_t seconds_to_alarm(const struct mc146818 *r, int64_t t)
{
	int now = (int)((t % 86400 + 86400) % 86400);

	for (int n = 1; n <= 86400;) {
		int s = (now + n) % 86400;

		if (!alarm_field(r, R_HOUR_ALARM, s / 3600))
			n += 3600 - s % 3600;
		else if (!alarm_field(r, R_MIN_ALARM, s / 60 % 60))
			n += 60 - s % 60;
		else if (!alarm_field(r, R_SEC_ALARM, s % 60))
			n++;
		else
			return n;
	}
	return 0;
}

/* Accounts for what has happened since last time. */
static void catch_up(struct mc146818 *r)
{
	int64_t ticks = period_ticks(r), alarm;

	if (ticks) {
		int64_t n = periods_now(r, ticks);

		if (n > r->seen_period)
			r->cmos[R_C] |= C_PF;
		r->seen_period = n;
	}
	if (!r->frozen) {
		int64_t sec = guest_sec(r);

		if (sec > r->seen_sec) {
			r->cmos[R_C] |= C_UF;
			alarm = seconds_to_alarm(r, r->seen_sec);
			if (alarm && alarm <= sec - r->seen_sec)
				r->cmos[R_C] |= C_AF;
		}
		r->seen_sec = sec;
	}
}

/* Arms for the next event whose interrupt is enabled and not yet flagged. */
static void schedule(struct mc146818 *r)
{
	uint8_t want = r->cmos[R_B] & (uint8_t)~r->cmos[R_C];
	int64_t now = clock_now(r->dev.m->clock), at = INT64_MAX, ticks = period_ticks(r);

	if (want & B_PIE && ticks)
		at = (int64_t)(((__int128)(r->seen_period + 1) * ticks * SEC_NS + 32767) / 32768);
	if (want & (B_UIE | B_AIE) && !r->frozen) {
		int64_t sec = guest_sec(r), left = 1;

		if (!(want & B_UIE))
			left = seconds_to_alarm(r, sec);
		if (left)
			at = MIN(at, now + left * SEC_NS - guest_frac(r));
	}
	if (at != INT64_MAX)
		vtimer_arm(&r->timer, MAX(at, now + 1));
	else
		vtimer_cancel(&r->timer);
}

static void update(struct mc146818 *r)
{
	bool level, alarm;

	catch_up(r);
	level = r->cmos[R_C] & r->cmos[R_B] & (C_PF | C_AF | C_UF);
	if (level)
		r->cmos[R_C] |= C_IRQF;
	r->level = level;
	if (!r->muted)
		irq_set(&r->cfg.irq, level);
	alarm = r->cmos[R_C] & r->cmos[R_B] & C_AF;
	if (alarm != r->alarm) {
		r->alarm = alarm;
		irq_set(&r->alarm_out, alarm);
	}
	schedule(r);
}

static void timer_cb(void *opaque)
{
	update(opaque);
}

static uint8_t read_a(struct mc146818 *r)
{
	bool uip = !r->frozen && guest_frac(r) >= SEC_NS - UIP_NS;

	return (r->cmos[R_A] & (uint8_t)~A_UIP) | (uip ? A_UIP : 0);
}

static uint8_t read_reg(struct mc146818 *r, uint8_t i)
{
	uint8_t v;

	switch (i) {
	case R_SEC: case R_MIN: case R_HOUR: case R_WDAY: case R_MDAY: case R_MONTH: case R_YEAR:
	case R_CENTURY:
		if (!r->frozen)
			show_time(r);
		return r->cmos[i];
	case R_A:
		return read_a(r);
	case R_C:
		update(r);
		v = r->cmos[R_C];
		r->cmos[R_C] = 0;
		update(r);
		return v;
	case R_D:
		return 0x80;		/* the battery is good */
	default:
		return r->cmos[i];
	}
}

/* A or B changed: the time stops in the registers or goes on from them. */
static void hold_changed(struct mc146818 *r, uint8_t old_a)
{
	if (held(r) && !r->frozen) {
		r->frozen_ns = guest_frac(r);
		show_time(r);
		r->frozen = 1;
	} else if (!held(r) && r->frozen) {
		/* After a divider reset the first update comes half a second later. */
		if ((old_a & A_DV) > 0x20)
			r->frozen_ns = SEC_NS / 2;
		take_time(r, r->frozen_ns);
		r->frozen = 0;
	}
}

static void write_time(struct mc146818 *r, uint8_t i, uint8_t val)
{
	if (!r->frozen)
		show_time(r);
	r->cmos[i] = val;
	if (!r->frozen)
		take_time(r, guest_frac(r));
}

static void write_control(struct mc146818 *r, uint8_t i, uint8_t val)
{
	uint8_t old_a = r->cmos[R_A];
	int64_t ticks;

	/* The time keeps its meaning when its format is changed, unless held. */
	if (i == R_A) {
		r->cmos[R_A] = val & (uint8_t)~A_UIP;
		ticks = period_ticks(r);
		if ((val ^ old_a) & (A_RS | A_DV) && ticks)
			r->seen_period = periods_now(r, ticks);
	} else {
		r->cmos[R_B] = val & B_SET ? val & (uint8_t)~B_UIE : val;
	}
	hold_changed(r, old_a);
}

static void write_reg(struct mc146818 *r, uint8_t i, uint8_t val)
{
	catch_up(r);
	switch (i) {
	case R_SEC: case R_MIN: case R_HOUR: case R_WDAY: case R_MDAY: case R_MONTH: case R_YEAR:
	case R_CENTURY:
		write_time(r, i, val);
		break;
	case R_A:
	case R_B:
		write_control(r, i, val);
		break;
	case R_C:
	case R_D:
		break;			/* read-only */
	default:
		r->cmos[i] = val;
		break;
	}
	update(r);
}

static uint64_t rtc_read(void *opaque, uint64_t off, unsigned len)
{
	struct mc146818 *r = opaque;

	switch (off) {
	case 0: return r->index;
	case 1: return read_reg(r, r->index & 0x7f);
	case 2: return r->index2;
	default: return r->cmos[0x80 | (r->index2 & 0x7f)];
	}
}

static void rtc_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct mc146818 *r = opaque;
	uint8_t val = (uint8_t)v;

	switch (off) {
	case 0:
		r->index = val;
		irq_set(&r->cfg.nmi_mask, val >> 7);
		break;
	case 1: write_reg(r, r->index & 0x7f, val); break;
	case 2: r->index2 = val; break;
	default: r->cmos[0x80 | (r->index2 & 0x7f)] = val; break;
	}
}

static const struct bus_ops rtc_ops = { .read = rtc_read, .write = rtc_write, .max_len = 1 };

static void set_mute(void *opaque, int n, bool level)
{
	struct mc146818 *r = opaque;

	if (level && !r->muted)
		irq_set(&r->cfg.irq, false);
	r->muted = level;
	if (!level)
		irq_set(&r->cfg.irq, r->level);
}

void mc146818_on_alarm(struct mc146818 *r, const struct irq *out) { r->alarm_out = *out; }

struct irq mc146818_mute(struct mc146818 *r)
{
	return (struct irq){ .set = set_mute, .opaque = r };
}

void mc146818_set(struct mc146818 *r, uint8_t index, uint8_t val)
{
	if (index > R_D && index != R_CENTURY)
		r->cmos[index] = val;
}

uint8_t mc146818_get(const struct mc146818 *r, uint8_t index)
{
	return r->cmos[index];
}

static void set_le(struct mc146818 *r, uint8_t at, uint64_t v, unsigned n)
{
	for (unsigned i = 0; i < n; i++, v >>= 8)
		mc146818_set(r, (uint8_t)(at + i), (uint8_t)v);
}

void mc146818_set_memory(struct mc146818 *r, uint64_t below_4g, uint64_t above_4g)
{
	uint64_t base = MIN(below_4g >> 10, 640);
	uint64_t ext = below_4g > BIT64(20) ? MIN((below_4g - BIT64(20)) >> 10, 65535) : 0;
	uint64_t high = below_4g > 16 * BIT64(20) ? MIN((below_4g - 16 * BIT64(20)) >> 16, 65535) : 0;

	set_le(r, 0x15, base, 2);		/* KiB */
	set_le(r, 0x17, ext, 2);		/* KiB above 1 MiB */
	set_le(r, 0x30, ext, 2);
	set_le(r, 0x34, high, 2);		/* 64 KiB above 16 MiB */
	set_le(r, 0x5b, above_4g >> 16, 3);	/* 64 KiB above 4 GiB */
}

/* The battery keeps memory and time; reset clears interrupts (data sheet, RESET). */
static void rtc_reset(struct dev *d)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	r->cmos[R_B] &= (uint8_t)~(B_PIE | B_AIE | B_UIE | B_SQWE);
	r->cmos[R_C] = 0;
	r->index = r->index2 = 0;
	irq_set(&r->cfg.nmi_mask, false);
	update(r);
}

static int rtc_save(struct dev *d, struct snap_out *o)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	return snap_put(o, d->id, &table, r);
}

static int rtc_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);
	int ret = snap_get(in, d->id, &table, r, e);

	if (ret)
		return ret;
	/* The sum of wall time and offset has to pass when it is saved again. */
	if (r->offset_sec < -MAX_SEC / 2 || r->offset_sec > MAX_SEC / 2 || r->offset_ns < 0 ||
	    r->offset_ns >= SEC_NS || r->frozen_ns < 0 || r->frozen_ns >= SEC_NS ||
	    r->seen_sec < -MAX_SEC || r->seen_sec > MAX_SEC || r->seen_period < 0 ||
	    r->seen_period > MAX_SEC)
		return err_set(e, -EINVAL, "saved mc146818 clock makes no sense");
	r->frozen = held(r);
	r->muted = r->muted != 0;
	update(r);
	return 0;
}

static void rtc_free(struct dev *d)
{
	struct mc146818 *r = container_of(d, struct mc146818, dev);

	vtimer_cancel(&r->timer);
	bus_del(&r->region);
	dev_del(d);
	free(r);
}

static const struct dev_ops rtc_dev_ops = {
	.name = "mc146818",
	.reset = rtc_reset,
	.save = rtc_save,
	.load = rtc_load,
	.free = rtc_free,
};

int mc146818_new(struct machine *m, const struct mc146818_config *cfg, struct mc146818 **out)
{
	struct mc146818 *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return -ENOMEM;
	r->cfg = *cfg;
	r->region = (struct bus_region){ .name = "mc146818", .ops = &rtc_ops, .opaque = r,
					 .base = cfg->base, .size = 4, .priority = 1 };
	ret = bus_add(m->pio, &r->region);
	if (ret) {
		free(r);
		return ret;
	}
	vtimer_init(m->clock, &r->timer, timer_cb, r);
	dev_add(m, &r->dev, &rtc_dev_ops, "pc.mc146818");
	r->cmos[R_A] = 0x26;		/* 32768 Hz, 1024 Hz periodic rate, as a BIOS leaves it */
	r->cmos[R_B] = B_24H;
	r->offset_sec = cfg->offset_sec;
	r->seen_sec = guest_sec(r);
	r->seen_period = periods_now(r, period_ticks(r));
	rtc_reset(&r->dev);
	*out = r;
	return 0;
}
