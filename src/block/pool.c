/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A few threads for what cannot be done asynchronously.
 *
 * Threads are started when work arrives and nobody is idle, up to a maximum,
 * with a small stack and all signals blocked.  If not one can be started the
 * work is done by the caller: slow, but done.  Those that may do more than the threads that bring them work
 * (CONFINE_NET) are started by the thread that makes the pool.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "block/file.h"

#define POOL_STACK (256 * 1024)
#define POOL_MAX 16

struct pool {
	enum confine_class confine;
	pthread_mutex_t lock;
	pthread_cond_t work, ended;
	void (*run)(void *opaque, struct blk_req *r);
	void *opaque;
	struct blk_req *first, **last;
	unsigned pending;		/* queued and running */
	unsigned queued;
	uint64_t n_ended;
	unsigned idle, n_threads, max_threads;
	bool quit;
	pthread_t threads[POOL_MAX];
};

static struct blk_req *next_work(struct pool *p)
{
	struct blk_req *r;

	while (!p->first && !p->quit) {
		p->idle++;
		pthread_cond_wait(&p->work, &p->lock);
		p->idle--;
	}
	r = p->first;
	if (!r)
		return NULL;
	p->first = r->next;
	if (!p->first)
		p->last = &p->first;
	p->queued--;
	return r;
}

static void *worker(void *arg)
{
	struct pool *p = arg;
	struct blk_req *r;

	pthread_setname_np(pthread_self(), "lodge-aio");	/* its own: another's is a file to open */
	confine_enter(p->confine);
	pthread_mutex_lock(&p->lock);
	while ((r = next_work(p))) {
		pthread_mutex_unlock(&p->lock);
		p->run(p->opaque, r);
		pthread_mutex_lock(&p->lock);
		p->pending--;
		p->n_ended++;
		pthread_cond_broadcast(&p->ended);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int start_thread(struct pool *p)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int ret;

	if (pthread_attr_init(&attr))
		return -ENOMEM;
	pthread_attr_setstacksize(&attr, POOL_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&p->threads[p->n_threads], &attr, worker, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		return -ret;
	p->n_threads++;
	return 0;
}

int pool_new(unsigned max_threads, enum confine_class c, void (*run)(void *opaque, struct blk_req *r), void *opaque,
	     struct pool **out)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->ended, NULL);
	p->confine = c;
	p->run = run;
	p->opaque = opaque;
	p->last = &p->first;
	p->max_threads = MIN(max_threads, POOL_MAX);
	while (c == CONFINE_NET && p->n_threads < p->max_threads && !start_thread(p))
		;
	*out = p;
	return 0;
}

void pool_submit(struct pool *p, struct blk_req *r)
{
	pthread_mutex_lock(&p->lock);
	/* Idle ones that were woken but have not run yet are spoken for. */
	if (p->idle <= p->queued && p->n_threads < p->max_threads)
		start_thread(p);
	if (!p->n_threads) {
		pthread_mutex_unlock(&p->lock);
		p->run(p->opaque, r);
		return;
	}
	r->next = NULL;
	*p->last = r;
	p->last = &r->next;
	p->queued++;
	p->pending++;
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

void pool_wait(struct pool *p)
{
	uint64_t before;

	pthread_mutex_lock(&p->lock);
	before = p->n_ended;
	while (p->pending && p->n_ended == before)
		pthread_cond_wait(&p->ended, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->quit = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->threads[i], NULL);
	pthread_cond_destroy(&p->work);
	pthread_cond_destroy(&p->ended);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
