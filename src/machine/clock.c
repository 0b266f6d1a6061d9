/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtual time = CLOCK_MONOTONIC + offset while running, `frozen` while not (and
 * always, in manual mode).
 *
 * clock_now takes no lock: offset is written before `running` is set and frozen
 * before it is cleared, each with release order, so a reader that sees the flag
 * sees the value that goes with it.  `mu` protects the heap of timers; it is
 * never held during a callback and is taken before the loop's own lock.
 */
#include "machine/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/heap.h"
#include "base/log.h"

/* 2024-01-01 00:00:00 UTC */
#define MANUAL_EPOCH_NS (1704067200ll * 1000000000)

#define MAX_ROUNDS 1000
#define MAX_STEP_ROUNDS 100000

struct clock {
	struct loop *loop;
	bool manual;
	_Atomic bool running;
	_Atomic int64_t offset;		/* running, not manual */
	_Atomic int64_t frozen;		/* else */
	pthread_mutex_t mu;
	struct heap timers;
	struct loop_timer host;		/* rings for the earliest one */
	bool host_armed;		/* from arming it to its callback */
	int64_t host_deadline;
};

static void host_timer(void *opaque);

int clock_new(struct clock **out, struct loop *l, bool manual)
{
	struct clock *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->loop = l;
	c->manual = manual;
	c->running = true;
	c->offset = -loop_now_ns();
	pthread_mutex_init(&c->mu, NULL);
	loop_timer_init(l, &c->host, host_timer, c);
	*out = c;
	return 0;
}

void clock_free(struct clock *c)
{
	if (!c)
		return;
	loop_timer_cancel(&c->host);
	heap_fini(&c->timers);
	pthread_mutex_destroy(&c->mu);
	free(c);
}

int64_t clock_now(struct clock *c)
{
	if (!c->manual && atomic_load_explicit(&c->running, memory_order_acquire))
		return loop_now_ns() + atomic_load_explicit(&c->offset, memory_order_relaxed);
	return atomic_load_explicit(&c->frozen, memory_order_relaxed);
}

bool clock_running(struct clock *c)
{
	return atomic_load_explicit(&c->running, memory_order_acquire);
}

/* Called with mu held: makes the host timer ring for the earliest deadline. */
static void rearm(struct clock *c)
{
	const struct heap_entry *top = heap_top(&c->timers);
	int64_t host;

	if (c->manual)
		return;
	if (!top || !c->running) {
		loop_timer_cancel(&c->host);
		c->host_armed = false;
		return;
	}
	if (__builtin_sub_overflow(top->key, c->offset, &host))
		host = top->key < 0 ? 0 : INT64_MAX;
	if (c->host_armed && c->host_deadline == host)
		return;
	c->host_armed = true;
	c->host_deadline = host;
	loop_timer_arm(&c->host, host);
}

void clock_pause(struct clock *c)
{
	pthread_mutex_lock(&c->mu);
	if (c->running) {
		if (!c->manual)
			atomic_store_explicit(&c->frozen, clock_now(c), memory_order_relaxed);
		atomic_store_explicit(&c->running, false, memory_order_release);
		rearm(c);
	}
	pthread_mutex_unlock(&c->mu);
}

void clock_resume(struct clock *c)
{
	pthread_mutex_lock(&c->mu);
	if (!c->running) {
		atomic_store_explicit(&c->offset, c->frozen - loop_now_ns(), memory_order_relaxed);
		atomic_store_explicit(&c->running, true, memory_order_release);
		rearm(c);
	}
	pthread_mutex_unlock(&c->mu);
}

void clock_set(struct clock *c, int64_t now_ns)
{
	pthread_mutex_lock(&c->mu);
	if (!c->running)
		c->frozen = now_ns;
	pthread_mutex_unlock(&c->mu);
}

/* Takes the first timer due at `now` out of the heap. */
static struct vtimer *pop_due(struct clock *c, int64_t now)
{
	const struct heap_entry *top;
	struct vtimer *t = NULL;

	pthread_mutex_lock(&c->mu);
	top = heap_top(&c->timers);
	if (top && top->key <= now) {
		t = top->item;
		heap_remove(&c->timers, &t->heap_index);
	}
	pthread_mutex_unlock(&c->mu);
	return t;
}

/* Loop thread, machine lock held.  Bounded: a timer that keeps re-arming itself
 * into the past must not keep the lock from the vCPUs for ever. */
static void host_timer(void *opaque)
{
	struct clock *c = opaque;
	int64_t now = clock_now(c);
	struct vtimer *t;
	int left = MAX_ROUNDS;

	pthread_mutex_lock(&c->mu);
	c->host_armed = false;
	pthread_mutex_unlock(&c->mu);
	while (c->running && left-- && (t = pop_due(c, now)))
		t->cb(t->opaque);
	pthread_mutex_lock(&c->mu);
	rearm(c);
	pthread_mutex_unlock(&c->mu);
}

void clock_step(struct clock *c, int64_t delta_ns)
{
	int left = MAX_STEP_ROUNDS;
	struct vtimer *t;
	int64_t end;

	if (!c->manual || !c->running || delta_ns < 0)
		return;
	if (__builtin_add_overflow(c->frozen, delta_ns, &end))
		end = INT64_MAX;
	while (left-- && (t = pop_due(c, end))) {
		/* Time stands at the deadline during the callback. */
		if (t->deadline_ns > c->frozen)
			c->frozen = t->deadline_ns;
		t->cb(t->opaque);
	}
	c->frozen = end;
}

int64_t clock_next_deadline(struct clock *c)
{
	const struct heap_entry *top;
	int64_t r;

	pthread_mutex_lock(&c->mu);
	top = heap_top(&c->timers);
	r = top ? top->key : INT64_MAX;
	pthread_mutex_unlock(&c->mu);
	return r;
}

int64_t clock_wall_ns(struct clock *c)
{
	struct timespec ts;

	if (c->manual)
		return MANUAL_EPOCH_NS + clock_now(c);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void vtimer_init(struct clock *c, struct vtimer *t, void (*cb)(void *), void *opaque)
{
	*t = (struct vtimer){ .cb = cb, .opaque = opaque, .heap_index = -1, .clock = c };
}

void vtimer_arm(struct vtimer *t, int64_t deadline_ns)
{
	struct clock *c = t->clock;

	pthread_mutex_lock(&c->mu);
	heap_remove(&c->timers, &t->heap_index);
	t->deadline_ns = deadline_ns;
	if (heap_insert(&c->timers, deadline_ns, &t->heap_index, t))
		log_error("out of memory: a guest timer is lost");
	rearm(c);
	pthread_mutex_unlock(&c->mu);
}

void vtimer_cancel(struct vtimer *t)
{
	struct clock *c = t->clock;

	if (!c)
		return;
	pthread_mutex_lock(&c->mu);
	heap_remove(&c->timers, &t->heap_index);
	rearm(c);
	pthread_mutex_unlock(&c->mu);
}
