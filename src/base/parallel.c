// SPDX-License-Identifier: GPL-2.0-or-later
/* See parallel.h.  A thread that cannot be begun is done without: the caller's works in any case. */
#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

struct work {
	int (*fn)(void *opaque, unsigned worker, size_t i);
	void *opaque;
	size_t n;
	_Atomic size_t next;
	_Atomic size_t bad;	/* the first that failed, SIZE_MAX: none has */
	pthread_mutex_t lock;
	int ret;		/* its answer; lock */
};

struct worker {
	struct work *w;
	unsigned number;
	pthread_t thread;
};

static void note(struct work *w, size_t i, int ret)
{
	pthread_mutex_lock(&w->lock);
	if (i < atomic_load(&w->bad)) {
		w->ret = ret;
		atomic_store(&w->bad, i);
	}
	pthread_mutex_unlock(&w->lock);
}

static void *run(void *opaque)
{
	const struct worker *me = opaque;
	struct work *w = me->w;
	size_t i;

	while ((i = atomic_fetch_add(&w->next, 1)) < w->n && i < atomic_load(&w->bad)) {
		int ret = w->fn(w->opaque, me->number, i);

		if (ret)
			note(w, i, ret);
	}
	return NULL;
}

static unsigned cpus(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return 1;
	return CPU_COUNT(&set) > 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

int parallel_for(size_t n, int (*fn)(void *opaque, unsigned worker, size_t i), void *opaque)
{
	struct work w = { .fn = fn, .opaque = opaque, .n = n, .bad = SIZE_MAX, .lock = PTHREAD_MUTEX_INITIALIZER };
	struct worker them[PARALLEL_MAX];
	unsigned want = cpus(), got = 1;

	want = want < PARALLEL_MAX ? want : PARALLEL_MAX;
	them[0] = (struct worker){ .w = &w };
	for (; got < want && got < n; got++) {
		them[got] = (struct worker){ .w = &w, .number = got };
		if (pthread_create(&them[got].thread, NULL, run, &them[got]))
			break;
	}
	run(&them[0]);
	for (unsigned i = 1; i < got; i++)
		pthread_join(them[i].thread, NULL);
	pthread_mutex_destroy(&w.lock);
	return w.ret;
}
