/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Event loop on epoll: descriptors, timers, posted callbacks.
 *
 * One thread runs a loop.  Functions marked [any] may be called from any
 * thread, the others from the loop's thread only (or before it runs).  If a
 * lock was given to loop_set_lock it is held around every callback, so what
 * that lock protects needs nothing more.
 */
#ifndef LODGE_BASE_LOOP_H
#define LODGE_BASE_LOOP_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;

/* A watched descriptor, owned by the caller, not to be freed while added. */
struct loop_fd {
	int fd;
	uint32_t events;			/* EPOLLIN | EPOLLOUT ... */
	void (*cb)(void *opaque, uint32_t events);
	void *opaque;
	struct loop *loop;			/* NULL while not added */
};

/* One-shot timer on CLOCK_MONOTONIC, owned by the caller. */
struct loop_timer {
	void (*cb)(void *opaque);
	void *opaque;
	int64_t deadline_ns;
	int heap_index;				/* -1 while not armed; set by loop_timer_init */
	struct loop *loop;
};

/* A callback to run soon on the loop's thread; posting twice runs it once. */
struct loop_bh {
	void (*cb)(void *opaque);
	void *opaque;
	bool pending;
	struct loop_bh *next;
	struct loop *loop;
};

int loop_new(struct loop **out);
void loop_free(struct loop *l);
void loop_set_lock(struct loop *l, pthread_mutex_t *lock);

/* Runs until loop_stop.  Returns 0, or -errno if epoll itself failed. */
int loop_run(struct loop *l);
/* One turn: waits at most timeout_ms (-1: no limit), runs what is due. */
int loop_turn(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l);					/* [any] */

int loop_fd_add(struct loop *l, struct loop_fd *f);		/* [any] */
int loop_fd_mod(struct loop_fd *f, uint32_t events);		/* [any] */
/* After it returns no callback of f starts (call with the loop's lock held or
 * on its thread). No-op if not added. */
void loop_fd_del(struct loop_fd *f);

void loop_timer_init(struct loop *l, struct loop_timer *t, void (*cb)(void *), void *opaque);
void loop_timer_arm(struct loop_timer *t, int64_t deadline_ns);	/* [any] */
void loop_timer_cancel(struct loop_timer *t);			/* [any] */

void loop_bh_init(struct loop *l, struct loop_bh *b, void (*cb)(void *), void *opaque);
void loop_bh_post(struct loop_bh *b);				/* [any] */
void loop_bh_cancel(struct loop_bh *b);				/* [any] */

/* CLOCK_MONOTONIC in nanoseconds. */
int64_t loop_now_ns(void);

#endif
