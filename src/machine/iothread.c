/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O threads.  Deferred work is a list, emptied by a posted callback that lets
 * go of its own lock for a moment to take the machine's first.
 */
#include "machine/iothread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/log.h"

struct iothread {
	struct machine *m;
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_t thread;
	char name[16];
	_Atomic long tid;
	struct iothread_work *first, **last;
	struct loop_bh work_bh;
};

struct loop *iothread_loop(struct iothread *t) { return t->loop; }
const char *iothread_name(const struct iothread *t) { return t->name; }
long iothread_tid(const struct iothread *t) { return t->tid; }
void iothread_lock(struct iothread *t)
{
	if (t)
		pthread_mutex_lock(&t->lock);
}

void iothread_unlock(struct iothread *t)
{
	if (t)
		pthread_mutex_unlock(&t->lock);
}

void iothread_defer(struct iothread *t, struct iothread_work *w)
{
	if (!t) {
		w->cb(w->opaque);
		return;
	}
	if (w->pending)
		return;
	w->pending = true;
	w->next = NULL;
	*t->last = w;
	t->last = &w->next;
	loop_bh_post(&t->work_bh);
}

void iothread_cancel(struct iothread *t, struct iothread_work *w)
{
	struct iothread_work **p;

	if (!w->pending)
		return;
	for (p = &t->first; *p != w;)
		p = &(*p)->next;
	*p = w->next;
	if (t->last == &w->next)
		t->last = p;
	w->pending = false;
}

/* On the I/O thread, its lock held.  While it is not, a device may go: only the list is looked at afterwards. */
static void run_work(void *opaque)
{
	struct iothread *t = opaque;
	struct iothread_work *w;

	iothread_unlock(t);
	machine_lock(t->m);
	iothread_lock(t);
	while ((w = t->first)) {
		iothread_cancel(t, w);
		w->cb(w->opaque);
	}
	machine_unlock(t->m);
}

static void *thread_main(void *opaque)
{
	struct iothread *t = opaque;
	int ret;

	t->tid = (long)gettid();
	pthread_setname_np(pthread_self(), t->name);
	confine_enter(CONFINE_IO);
	ret = loop_run(t->loop);
	if (ret)
		log_error("I/O thread %s: its event loop failed: error %d", t->name, -ret);
	return NULL;
}

int iothread_new(struct machine *m, const char *name, struct iothread **out)
{
	struct iothread *t = calloc(1, sizeof(*t));
	sigset_t all, old;
	int ret;

	if (!t)
		return -ENOMEM;
	t->m = m;
	t->last = &t->first;
	snprintf(t->name, sizeof(t->name), "%s", name);
	pthread_mutex_init(&t->lock, NULL);
	ret = loop_new(&t->loop);
	if (ret)
		goto out_lock;
	loop_set_lock(t->loop, &t->lock);
	loop_bh_init(t->loop, &t->work_bh, run_work, t);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = -pthread_create(&t->thread, NULL, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret)
		goto out_loop;
	*out = t;
	return 0;

out_loop:
	loop_free(t->loop);
out_lock:
	pthread_mutex_destroy(&t->lock);
	free(t);
	return ret;
}

void iothread_free(struct iothread *t)
{
	if (!t)
		return;
	loop_stop(t->loop);
	pthread_join(t->thread, NULL);
	loop_free(t->loop);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
