// SPDX-License-Identifier: GPL-2.0-or-later
/* Several connections of a source, each with a thread that waits for work: see migrate_lanes.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "vm/internal.h"
#include "vm/migrate_lanes.h"

struct worker {
	struct mig_lanes_out *all;
	struct mig_lane lane;
	struct mig_chan chan;
	pthread_t thread;
	bool has_thread;
	int ret;
	struct err e;
};

struct mig_lanes_out {
	struct mig *g;
	pthread_mutex_t lock;		/* what follows; taken last */
	pthread_cond_t work, done;
	uint64_t turn;			/* of the work there is */
	unsigned busy;
	bool ends;
	int (*fn)(void *opaque, struct mig_lane *lane, struct err *e);
	void *opaque;
	unsigned n;
	struct worker w[];
};

int mig_join(struct mig *g, uint32_t no, struct mig_chan *c, struct err *e)
{
	struct mig_record r;
	int ret = mig_connect(g->uri, g->stop_fd, MIG_ANSWER_MS, c, e);

	if (ret)
		return ret;
	c->timeout_ms = MIG_ANSWER_MS;
	ret = mig_secure(c, &g->tls, e);
	ret = ret ? ret : mig_hello(g, c, MIG_JOINS, e);
	ret = ret ? ret : mig_send_u32(c, MIG_JOIN, no, e);
	ret = ret ? ret : mig_recv(c, &r, e);
	if (!ret && r.type != MIG_JOINED)
		ret = err_set(e, -EREMOTEIO, "the destination takes no further connection");
	c->timeout_ms = MIG_WORK_MS;
	if (ret)
		mig_chan_fini(c);
	return ret;
}

static void *work(void *opaque)
{
	struct worker *w = opaque;
	struct mig_lanes_out *l = w->all;
	uint64_t turn = 0;

	pthread_mutex_lock(&l->lock);
	for (;;) {
		int ret;

		while (l->turn == turn && !l->ends)
			pthread_cond_wait(&l->work, &l->lock);
		if (l->ends)
			break;
		turn = l->turn;
		pthread_mutex_unlock(&l->lock);
		ret = l->fn(l->opaque, &w->lane, &w->e);
		pthread_mutex_lock(&l->lock);
		w->ret = ret;
		l->busy--;
		pthread_cond_signal(&l->done);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static int begin_one(struct mig_lanes_out *l, struct worker *w, unsigned no, int level)
{
	struct mig *g = l->g;
	int ret = mig_join(g, no, &w->chan, &g->e);

	if (ret)
		return ret;
	w->all = l;
	w->lane = (struct mig_lane){ .g = g, .no = no, .n = l->n, .chan = &w->chan };
	ret = mig_tx_new(g->vm->m->mem, &w->chan, level, &w->lane.tx);
	if (ret)
		return err_set(&g->e, ret, "out of memory");
	ret = pthread_create(&w->thread, NULL, work, w);
	w->has_thread = !ret;
	return ret ? err_set(&g->e, -ret, "a thread cannot be started: %s", strerror(ret)) : 0;
}

int mig_lanes_connect(struct mig *g, unsigned n, int level, struct mig_lanes_out **out)
{
	struct mig_lanes_out *l = calloc(1, sizeof(*l) + n * sizeof(l->w[0]));
	int ret = 0;

	if (!l)
		return err_set(&g->e, -ENOMEM, "out of memory");
	l->g = g;
	l->n = n;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->work, NULL);
	pthread_cond_init(&l->done, NULL);
	for (unsigned i = 0; i < n; i++)
		l->w[i].chan.in = l->w[i].chan.out = -1;
	for (unsigned i = 0; i < n && !ret; i++)
		ret = begin_one(l, &l->w[i], i, level);
	if (ret)
		mig_lanes_out_free(l);
	else
		*out = l;
	return ret;
}

int mig_lanes_do(struct mig_lanes_out *l, int (*fn)(void *opaque, struct mig_lane *lane, struct err *e), void *opaque)
{
	int ret = 0;

	pthread_mutex_lock(&l->lock);
	l->fn = fn;
	l->opaque = opaque;
	l->busy = l->n;
	l->turn++;
	pthread_cond_broadcast(&l->work);
	while (l->busy)
		pthread_cond_wait(&l->done, &l->lock);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->n; i++) {
		if (!l->w[i].ret || (ret && ret != -ECANCELED))
			continue;
		ret = l->w[i].ret;
		l->g->e = l->w[i].e;
	}
	return ret;
}

void mig_lanes_out_free(struct mig_lanes_out *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->ends = true;
	pthread_cond_broadcast(&l->work);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->n; i++) {
		if (l->w[i].has_thread)
			pthread_join(l->w[i].thread, NULL);
		mig_tx_free(l->w[i].lane.tx);
		mig_chan_fini(&l->w[i].chan);
	}
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->work);
	pthread_cond_destroy(&l->done);
	free(l);
}
