/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event loop on epoll, with an eventfd to wake it and a timerfd for deadlines.
 *
 * `mu` protects everything in the loop and is never held during a callback.
 * `waiting` is true from the decision to sleep until the first wake-up; only
 * then do other threads need a system call: a timer armed or a callback posted
 * while the loop is busy is found before it sleeps again.  The timerfd is set
 * to `programmed`; it may ring too early (its timer was cancelled), never late.
 *
 * epoll hands back a slot number and its generation, not a pointer, so events
 * of a descriptor removed meanwhile are recognized and dropped.
 */
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/heap.h"
#include "base/log.h"

#define EVENTS_PER_TURN 64
#define SLOT_WAKE 0xffffffffu
#define SLOT_TIMER 0xfffffffeu

struct slot {
	struct loop_fd *f;
	uint32_t gen;
};

struct loop {
	int epfd, wakefd, timerfd;
	pthread_mutex_t mu;
	pthread_mutex_t *user_lock;
	bool waiting, stop;
	struct slot *slots;
	size_t n_slots;
	struct heap timers;
	int64_t programmed;		/* deadline in the timerfd, INT64_MAX: none */
	struct loop_bh *bh_head, **bh_tail;
	struct loop_bh *run_head;	/* posted before this turn, still to run */
};

int64_t loop_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int watch_internal(struct loop *l, int fd, uint32_t slot)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = slot };

	return epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) ? -errno : 0;
}

int loop_new(struct loop **out)
{
	struct loop *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	pthread_mutex_init(&l->mu, NULL);
	l->programmed = INT64_MAX;
	l->bh_tail = &l->bh_head;
	l->wakefd = l->timerfd = -1;
	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0)
		goto fail_errno;
	l->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wakefd < 0)
		goto fail_errno;
	l->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->timerfd < 0)
		goto fail_errno;
	r = watch_internal(l, l->wakefd, SLOT_WAKE);
	if (!r)
		r = watch_internal(l, l->timerfd, SLOT_TIMER);
	if (r)
		goto fail;
	*out = l;
	return 0;

fail_errno:
	r = -errno;
fail:
	loop_free(l);
	return r;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->n_slots; i++)
		if (l->slots[i].f)
			l->slots[i].f->loop = NULL;
	free(l->slots);
	heap_fini(&l->timers);
	if (l->timerfd >= 0)
		close(l->timerfd);
	if (l->wakefd >= 0)
		close(l->wakefd);
	if (l->epfd >= 0)
		close(l->epfd);
	pthread_mutex_destroy(&l->mu);
	free(l);
}

void loop_set_lock(struct loop *l, pthread_mutex_t *lock)
{
	l->user_lock = lock;
}

/* Called with mu held. */
static void wake(struct loop *l)
{
	uint64_t one = 1;
	ssize_t r;

	if (!l->waiting)
		return;
	l->waiting = false;
	r = write(l->wakefd, &one, sizeof(one));
	(void)r;			/* EAGAIN: the counter is high, so it is awake */
}

/* Descriptors. */

static int slot_alloc(struct loop *l, struct loop_fd *f, uint32_t *out)
{
	size_t i, n;
	struct slot *s;

	for (i = 0; i < l->n_slots; i++)
		if (!l->slots[i].f)
			goto found;
	n = l->n_slots ? l->n_slots * 2 : 16;
	s = realloc(l->slots, n * sizeof(*s));
	if (!s)
		return -ENOMEM;
	memset(s + l->n_slots, 0, (n - l->n_slots) * sizeof(*s));
	l->slots = s;
	l->n_slots = n;
found:
	l->slots[i].f = f;
	l->slots[i].gen++;
	*out = (uint32_t)i;
	return 0;
}

static struct slot *slot_of(struct loop *l, const struct loop_fd *f, uint32_t *index)
{
	for (size_t i = 0; i < l->n_slots; i++)
		if (l->slots[i].f == f) {
			*index = (uint32_t)i;
			return &l->slots[i];
		}
	return NULL;
}

static uint64_t slot_cookie(const struct loop *l, uint32_t i)
{
	return (uint64_t)l->slots[i].gen << 32 | i;
}

int loop_fd_add(struct loop *l, struct loop_fd *f)
{
	struct epoll_event ev = { .events = f->events };
	uint32_t i;
	int r;

	pthread_mutex_lock(&l->mu);
	r = slot_alloc(l, f, &i);
	if (r)
		goto out;
	ev.data.u64 = slot_cookie(l, i);
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, f->fd, &ev)) {
		r = -errno;
		l->slots[i].f = NULL;
		goto out;
	}
	f->loop = l;
out:
	pthread_mutex_unlock(&l->mu);
	return r;
}

int loop_fd_mod(struct loop_fd *f, uint32_t events)
{
	struct epoll_event ev = { .events = events };
	struct loop *l = f->loop;
	uint32_t i;
	int r = 0;

	if (!l)
		return -ENOENT;
	pthread_mutex_lock(&l->mu);
	if (!slot_of(l, f, &i)) {
		r = -ENOENT;
		goto out;
	}
	ev.data.u64 = slot_cookie(l, i);
	f->events = events;
	if (epoll_ctl(l->epfd, EPOLL_CTL_MOD, f->fd, &ev))
		r = -errno;
out:
	pthread_mutex_unlock(&l->mu);
	return r;
}

void loop_fd_del(struct loop_fd *f)
{
	struct loop *l = f->loop;
	struct slot *s;
	uint32_t i;

	if (!l)
		return;
	pthread_mutex_lock(&l->mu);
	s = slot_of(l, f, &i);
	if (s)
		s->f = NULL;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, f->fd, NULL);
	f->loop = NULL;
	pthread_mutex_unlock(&l->mu);
}

/* Timers. */

/* Called with mu held. */
static void program(struct loop *l, int64_t deadline)
{
	struct itimerspec it = { 0 };

	if (deadline <= 0)
		deadline = 1;		/* all zero would disarm */
	it.it_value.tv_sec = deadline / 1000000000;
	it.it_value.tv_nsec = deadline % 1000000000;
	timerfd_settime(l->timerfd, TFD_TIMER_ABSTIME, &it, NULL);
	l->programmed = deadline;
}

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*cb)(void *), void *opaque)
{
	*t = (struct loop_timer){ .cb = cb, .opaque = opaque, .heap_index = -1, .loop = l };
}

void loop_timer_arm(struct loop_timer *t, int64_t deadline_ns)
{
	struct loop *l = t->loop;

	pthread_mutex_lock(&l->mu);
	heap_remove(&l->timers, &t->heap_index);
	t->deadline_ns = deadline_ns;
	if (heap_insert(&l->timers, deadline_ns, &t->heap_index, t))
		log_error("out of memory: a timer is lost");
	else if (l->waiting && deadline_ns < l->programmed)
		program(l, deadline_ns);
	pthread_mutex_unlock(&l->mu);
}

void loop_timer_cancel(struct loop_timer *t)
{
	struct loop *l = t->loop;

	if (!l)
		return;
	pthread_mutex_lock(&l->mu);
	heap_remove(&l->timers, &t->heap_index);
	pthread_mutex_unlock(&l->mu);
}

/* Posted callbacks. */

void loop_bh_init(struct loop *l, struct loop_bh *b, void (*cb)(void *), void *opaque)
{
	*b = (struct loop_bh){ .cb = cb, .opaque = opaque, .loop = l };
}

void loop_bh_post(struct loop_bh *b)
{
	struct loop *l = b->loop;

	pthread_mutex_lock(&l->mu);
	if (!b->pending) {
		b->pending = true;
		b->next = NULL;
		*l->bh_tail = b;
		l->bh_tail = &b->next;
		wake(l);
	}
	pthread_mutex_unlock(&l->mu);
}

void loop_bh_cancel(struct loop_bh *b)
{
	struct loop *l = b->loop;
	struct loop_bh **p;

	if (!l)
		return;
	pthread_mutex_lock(&l->mu);
	if (b->pending) {
		b->pending = false;
		for (p = &l->run_head; *p && *p != b; p = &(*p)->next)
			;
		if (!*p)
			for (p = &l->bh_head; *p && *p != b; p = &(*p)->next)
				;
		if (*p) {
			if (l->bh_tail == &b->next)
				l->bh_tail = p;
			*p = b->next;
		}
	}
	pthread_mutex_unlock(&l->mu);
}

/* Running.  enter/leave bracket what happens under the user's lock. */

static void enter(struct loop *l)
{
	if (l->user_lock)
		pthread_mutex_lock(l->user_lock);
	pthread_mutex_lock(&l->mu);
}

static void leave(struct loop *l)
{
	if (l->user_lock)
		pthread_mutex_unlock(l->user_lock);
}

static void run_fd(struct loop *l, const struct epoll_event *ev)
{
	uint32_t i = (uint32_t)ev->data.u64, gen = (uint32_t)(ev->data.u64 >> 32);
	struct loop_fd *f = NULL;
	void (*cb)(void *, uint32_t) = NULL;
	void *opaque = NULL;

	enter(l);
	if (i < l->n_slots && l->slots[i].gen == gen)
		f = l->slots[i].f;
	if (f) {
		cb = f->cb;
		opaque = f->opaque;
	}
	pthread_mutex_unlock(&l->mu);
	if (f)
		cb(opaque, ev->events);
	leave(l);
}

/* Timers due at `now`, at most `left` of them (as many as there were): one that
 * re-arms itself into the past waits for the next turn, after the descriptors. */
static void run_timers(struct loop *l, int64_t now, size_t left)
{
	bool more = true;

	while (more && left--) {
		const struct heap_entry *top;
		struct loop_timer *t = NULL;

		enter(l);
		top = heap_top(&l->timers);
		if (top && top->key <= now) {
			t = top->item;
			heap_remove(&l->timers, &t->heap_index);
		}
		pthread_mutex_unlock(&l->mu);
		if (t)
			t->cb(t->opaque);
		else
			more = false;
		leave(l);
	}
}

static void run_bhs(struct loop *l)
{
	bool more = true;

	pthread_mutex_lock(&l->mu);
	l->run_head = l->bh_head;
	l->bh_head = NULL;
	l->bh_tail = &l->bh_head;
	more = l->run_head != NULL;
	pthread_mutex_unlock(&l->mu);
	while (more) {
		struct loop_bh *b;

		enter(l);
		b = l->run_head;
		if (b) {
			l->run_head = b->next;
			b->pending = false;
		}
		more = l->run_head != NULL;
		pthread_mutex_unlock(&l->mu);
		if (b)
			b->cb(b->opaque);
		leave(l);
		if (!more) {
			/* A callback may have cancelled or left some: look again. */
			pthread_mutex_lock(&l->mu);
			more = l->run_head != NULL;
			pthread_mutex_unlock(&l->mu);
		}
	}
}

/* Decides how long to sleep; sets `waiting` if other threads must wake us. */
static int prepare_wait(struct loop *l, int timeout_ms)
{
	const struct heap_entry *top;

	pthread_mutex_lock(&l->mu);
	top = heap_top(&l->timers);
	if (l->bh_head || l->stop)
		timeout_ms = 0;
	else if (timeout_ms && top && top->key <= loop_now_ns())
		timeout_ms = 0;
	if (timeout_ms) {
		if (top && top->key < l->programmed)
			program(l, top->key);
		l->waiting = true;
	}
	pthread_mutex_unlock(&l->mu);
	return timeout_ms;
}

static void drain(int fd)
{
	uint64_t v;
	ssize_t r = read(fd, &v, sizeof(v));

	(void)r;			/* EAGAIN: somebody set it anew meanwhile */
}

int loop_turn(struct loop *l, int timeout_ms)
{
	struct epoll_event ev[EVENTS_PER_TURN];
	const struct heap_entry *top;
	size_t n_timers;
	int64_t now;
	bool due;
	int n, e = 0;

	n = epoll_wait(l->epfd, ev, EVENTS_PER_TURN, prepare_wait(l, timeout_ms));
	if (n < 0)
		e = errno;
	pthread_mutex_lock(&l->mu);
	l->waiting = false;
	for (int i = 0; i < n; i++) {
		if (ev[i].data.u64 == SLOT_WAKE)
			drain(l->wakefd);
		if (ev[i].data.u64 == SLOT_TIMER) {
			drain(l->timerfd);
			l->programmed = INT64_MAX;
		}
	}
	top = heap_top(&l->timers);
	now = top ? loop_now_ns() : 0;
	due = top && top->key <= now;
	n_timers = l->timers.n;
	pthread_mutex_unlock(&l->mu);
	if (n < 0 && e != EINTR)
		return -e;

	for (int i = 0; i < n; i++)
		if (ev[i].data.u64 != SLOT_WAKE && ev[i].data.u64 != SLOT_TIMER)
			run_fd(l, &ev[i]);
	if (due)
		run_timers(l, now, n_timers);
	run_bhs(l);
	return 0;
}

int loop_run(struct loop *l)
{
	int r = 0;
	bool stop;

	do {
		r = loop_turn(l, -1);
		pthread_mutex_lock(&l->mu);
		stop = l->stop;
		pthread_mutex_unlock(&l->mu);
	} while (!r && !stop);
	pthread_mutex_lock(&l->mu);
	l->stop = false;
	pthread_mutex_unlock(&l->mu);
	return r;
}

void loop_stop(struct loop *l)
{
	pthread_mutex_lock(&l->mu);
	l->stop = true;
	wake(l);
	pthread_mutex_unlock(&l->mu);
}
