/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APIC timer: one-shot, periodic and TSC deadline (SDM vol. 3, 11.5.4).
 *
 * The input clock is 1 GHz of virtual time: one count is `divider`
 * nanoseconds, so the current count is computed from the time that went by
 * and nothing has to tick.  The vCPU's thread programs the timer, the loop's
 * thread expires it; timer_lock decides their races, and a callback that comes
 * too early or too late finds nothing due.  Whoever touches the timer first
 * handles an expiry that is due, so that a late loop thread cannot be seen: a
 * count that reads 0 has expired.
 *
 * A periodic timer shorter than PERIOD_MIN_NS interrupts every PERIOD_MIN_NS
 * only (docs/QUIRKS.md): a guest must not be able to saturate the host thread.
 */
#include "chipset/lapic_impl.h"

#define PERIOD_MIN_NS 20000

/* TDCR bits 3, 1, 0: divide by 2, 4, ... 128, 1. */
static unsigned divider(uint32_t tdcr)
{
	unsigned code = (tdcr & 3) | ((tdcr >> 1) & 4);

	return code == 7 ? 1 : 2u << code;
}

static int64_t period_ns(const struct lapic *l)
{
	return (int64_t)l->tmict * divider(l->tdcr);
}

static unsigned timer_mode(const struct lapic *l)
{
	return LVT_TIMER_MODE(atomic_load_explicit(&l->lvt[LVT_TIMER], memory_order_relaxed));
}

/* Everything below runs with timer_lock held unless it takes it itself. */

static void stop(struct lapic *l)
{
	l->running = 0;
	l->tsc_deadline = 0;
	vtimer_cancel(&l->timer);
}

/* Handles an expiry that is due; true if an interrupt is to be delivered. */
static bool expire_as(struct lapic *l, unsigned mode, int64_t now)
{
	if (!l->running || now < l->due_ns)
		return false;
	if (mode == TIMER_PERIODIC) {
		int64_t period = period_ns(l);
		int64_t next;

		/* Periods missed meanwhile are one interrupt. */
		l->start_ns += (now - l->start_ns) / period * period;
		next = l->start_ns + period;
		if (next < now + PERIOD_MIN_NS)
			next += (now + PERIOD_MIN_NS - next + period - 1) / period * period;
		l->due_ns = next;
		vtimer_arm(&l->timer, l->due_ns);
	} else {
		stop(l);
	}
	return true;
}

static bool expire(struct lapic *l, int64_t now)
{
	return expire_as(l, timer_mode(l), now);
}

static void timer_cb(void *opaque)
{
	struct lapic *l = opaque;
	bool fire;

	pthread_mutex_lock(&l->timer_lock);
	fire = expire(l, clock_now(l->set->dev.m->clock));
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
}

/* Arms the expiry at due_ns, or expires at once when that is past. */
static bool arm(struct lapic *l)
{
	int64_t now = clock_now(l->set->dev.m->clock);

	if (now >= l->due_ns)
		return expire(l, now);
	vtimer_arm(&l->timer, l->due_ns);
	return false;
}

void lapic_timer_init(struct lapic *l)
{
	pthread_mutex_init(&l->timer_lock, NULL);
	vtimer_init(l->set->dev.m->clock, &l->timer, timer_cb, l);
}

void lapic_timer_fini(struct lapic *l)
{
	lapic_timer_stop(l);
	pthread_mutex_destroy(&l->timer_lock);
}

void lapic_timer_stop(struct lapic *l)
{
	pthread_mutex_lock(&l->timer_lock);
	stop(l);
	pthread_mutex_unlock(&l->timer_lock);
}

/* A write of the initial count starts the timer, or stops it with 0. */
void lapic_timer_set_count(struct lapic *l, uint32_t count)
{
	int64_t now;
	bool fire;

	if (timer_mode(l) == TIMER_DEADLINE)
		return;		/* ignored (11.5.4.1) */
	pthread_mutex_lock(&l->timer_lock);
	now = clock_now(l->set->dev.m->clock);
	fire = expire(l, now);
	stop(l);
	l->tmict = count;
	if (count) {
		l->running = 1;
		l->start_ns = now;
		l->due_ns = now + period_ns(l);
		fire |= arm(l);
	}
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
}

static uint32_t count_left(const struct lapic *l, int64_t now)
{
	uint64_t gone;

	if (!l->running || timer_mode(l) == TIMER_DEADLINE || !l->tmict)
		return 0;
	gone = now > l->start_ns ? (uint64_t)(now - l->start_ns) / divider(l->tdcr) : 0;
	if (timer_mode(l) == TIMER_PERIODIC)
		return l->tmict - (uint32_t)(gone % l->tmict);
	return gone >= l->tmict ? 0 : l->tmict - (uint32_t)gone;
}

uint32_t lapic_timer_count(struct lapic *l)
{
	int64_t now;
	uint32_t left;
	bool fire;

	pthread_mutex_lock(&l->timer_lock);
	now = clock_now(l->set->dev.m->clock);
	fire = expire(l, now);
	left = count_left(l, now);
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
	return left;
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_set_divider(struct lapic *l, uint32_t tdcr)
{
	int64_t now;
	bool fire;

	pthread_mutex_lock(&l->timer_lock);
	now = clock_now(l->set->dev.m->clock);
	fire = expire(l, now);
	if (l->running && timer_mode(l) != TIMER_DEADLINE) {
		uint32_t left = count_left(l, now);

		l->tdcr = tdcr;
		l->start_ns = now - (int64_t)(l->tmict - left) * divider(tdcr);
		l->due_ns = now + (int64_t)left * divider(tdcr);
		fire |= arm(l);
	} else {
		l->tdcr = tdcr;
	}
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
}

/* Called after the LVT was written.  One-shot and periodic share the running
 * count; to and from TSC deadline the timer is disarmed. */
void lapic_timer_mode_changed(struct lapic *l, uint32_t old_lvt, uint32_t new_lvt)
{
	unsigned from = LVT_TIMER_MODE(old_lvt), to = LVT_TIMER_MODE(new_lvt);
	int64_t now;
	bool fire;

	if (from == to)
		return;
	pthread_mutex_lock(&l->timer_lock);
	now = clock_now(l->set->dev.m->clock);
	fire = expire_as(l, from, now);
	if (from >= TIMER_DEADLINE || to >= TIMER_DEADLINE) {
		stop(l);
		l->tmict = 0;
	} else if (l->running) {
		int64_t period = period_ns(l);

		if (now > l->start_ns)
			l->start_ns += (now - l->start_ns) / period * period;
		l->due_ns = l->start_ns + period;
		vtimer_arm(&l->timer, l->due_ns);
	}
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
}

/* When the deadline is reached; far ones (146 years at 1 GHz) never are. */
static int64_t deadline_ns(const struct lapic *l)
{
	uint64_t now = l->v->tsc_read(l->v);

	if (l->tsc_deadline > now && l->tsc_deadline - now > BIT64(62))
		return INT64_MAX;
	return l->v->tsc_to_ns(l->v, l->tsc_deadline);
}

/* IA32_TSC_DEADLINE (11.5.4.1). */
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc)
{
	bool fire = false;

	if (timer_mode(l) != TIMER_DEADLINE || !l->v || !l->v->tsc_read || !l->v->tsc_to_ns)
		return;
	pthread_mutex_lock(&l->timer_lock);
	fire = expire(l, clock_now(l->set->dev.m->clock));
	stop(l);
	if (tsc) {
		l->tsc_deadline = tsc;
		l->running = 1;
		if (l->v->tsc_read(l->v) >= tsc) {
			stop(l);
			fire = true;
		} else {
			l->due_ns = deadline_ns(l);
			fire |= arm(l);
		}
	}
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
}

uint64_t lapic_timer_deadline(struct lapic *l)
{
	uint64_t tsc;
	bool fire;

	if (timer_mode(l) != TIMER_DEADLINE)
		return 0;
	pthread_mutex_lock(&l->timer_lock);
	/* A guest that reads after the deadline must see it cleared. */
	fire = expire(l, clock_now(l->set->dev.m->clock));
	tsc = l->tsc_deadline;
	pthread_mutex_unlock(&l->timer_lock);
	if (fire)
		lapic_deliver_lvt(l, LVT_TIMER);
	return tsc;
}

/* due_ns of a deadline depends on the engine's TSC offset, which a restored
 * machine has only when it resumes. */
void lapic_timer_rearm(struct lapic *l)
{
	pthread_mutex_lock(&l->timer_lock);
	if (l->running) {
		if (timer_mode(l) == TIMER_DEADLINE && l->v && l->v->tsc_read && l->v->tsc_to_ns)
			l->due_ns = deadline_ns(l);
		vtimer_arm(&l->timer, l->due_ns);
	}
	pthread_mutex_unlock(&l->timer_lock);
}
