/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual time: nanoseconds since the machine was built, standing still while
 * it is paused.  Timers fire on the machine's loop thread with the machine lock
 * held.  In manual mode (puppet engine) time moves only by clock_step, which
 * runs due timers in order of deadline
 * on the caller's thread (machine lock held).  A new clock runs.
 */
#ifndef LODGE_MACHINE_CLOCK_H
#define LODGE_MACHINE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

struct clock;

struct vtimer {
	void (*cb)(void *opaque);
	void *opaque;
	int64_t deadline_ns;		/* virtual; meaningful while armed */
	int heap_index;			/* -1: not armed */
	struct clock *clock;
};

int clock_new(struct clock **out, struct loop *l, bool manual);
void clock_free(struct clock *c);
int64_t clock_now(struct clock *c);		/* any thread */
void clock_pause(struct clock *c);
void clock_resume(struct clock *c);
bool clock_running(struct clock *c);
/* Sets virtual time (restoring a snapshot); only while paused. */
void clock_set(struct clock *c, int64_t now_ns);
/* Manual mode: move by delta_ns >= 0. */
void clock_step(struct clock *c, int64_t delta_ns);
/* The earliest armed deadline, or INT64_MAX. */
int64_t clock_next_deadline(struct clock *c);

/* Wall-clock time of the guest's RTC: seconds and nanoseconds since the epoch,
 * = host CLOCK_REALTIME when running. In manual mode a fixed start
 * (2024-01-01 00:00:00 UTC) plus virtual time. */
int64_t clock_wall_ns(struct clock *c);

void vtimer_init(struct clock *c, struct vtimer *t, void (*cb)(void *), void *opaque);
void vtimer_arm(struct vtimer *t, int64_t deadline_ns);	/* any thread; re-arms */
void vtimer_cancel(struct vtimer *t);			/* any thread */
static inline bool vtimer_armed(const struct vtimer *t) { return t->heap_index >= 0; }

#endif
