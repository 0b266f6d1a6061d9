// SPDX-License-Identifier: GPL-2.0-or-later
/* Several connections of a destination, each with a thread that receives: see migrate_lanes.h.  Nothing that comes is trusted. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "vm/internal.h"
#include "vm/migrate_lanes.h"

struct receiver {
	struct mig_lanes_in *all;
	struct mig_chan chan;
	struct mig_rx *rx;
	pthread_t thread;
	bool has_thread;
	int ret;
	struct err e;
};

struct mig_lanes_in {
	struct mig *g;
	int alarm_fd, ended_fd;		/* eventfds: one has failed; one more has ended */
	_Atomic unsigned ended;
	_Atomic uint64_t heard, bytes;
	struct mig_chan *late;		/* NULL: none is expected */
	unsigned n;
	struct receiver r[];
};

int mig_lanes_alarm(const struct mig_lanes_in *l) { return l ? l->alarm_fd : -1; }
uint64_t mig_lanes_heard(struct mig_lanes_in *l) { return l ? atomic_load(&l->heard) : 0; }
uint64_t mig_lanes_bytes(struct mig_lanes_in *l) { return l ? atomic_load(&l->bytes) : 0; }

/* ---- receiving ---- */

static int take(struct receiver *r, const struct mig_record *rec)
{
	switch (rec->type) {
	case MIG_PAGES: return mig_rx_pages(r->rx, r->chan.buf, rec->len, &r->e);
	case MIG_ZEROS: return mig_rx_zeros(r->rx, r->chan.buf, rec->len, &r->e);
	case MIG_ROUND:
	case MIG_COMPLETE: return 0;
	default: return err_set(&r->e, -EPROTO, "the source said '%s' where memory was due", mig_type_name(rec->type));
	}
}

static void *receive(void *opaque)
{
	struct receiver *r = opaque;
	struct mig_lanes_in *l = r->all;
	struct mig_record rec = { .type = MIG_TYPES };
	uint64_t bytes = 0;

	/* How long nothing may come is for the first connection's thread to see. */
	r->chan.timeout_ms = -1;
	while (!r->ret && rec.type != MIG_COMPLETE) {
		r->ret = mig_recv(&r->chan, &rec, &r->e);
		r->ret = r->ret ? r->ret : take(r, &rec);
		atomic_fetch_add(&l->heard, 1);
		atomic_fetch_add(&l->bytes, r->chan.got_bytes - bytes);
		bytes = r->chan.got_bytes;
	}
	atomic_fetch_add(&l->ended, 1);
	eventfd_write(r->ret ? l->alarm_fd : l->ended_fd, 1);
	return NULL;
}

/* ---- who comes ---- */

/* One of this migration's, whose number is free: its place.  NULL: somebody else, who has had his answer. */
static struct mig_chan *who_joins(struct mig_lanes_in *l, struct mig_chan *c)
{
	struct mig *g = l->g;
	struct mig_record rec;
	struct mig_chan *place;
	uint8_t id[MIG_ID];
	uint32_t flags = 0, no;
	struct err e;

	c->timeout_ms = MIG_ANSWER_MS;
	if (mig_secure(c, &g->tls, &e) || mig_hello_read(c, id, &flags, &e))
		return NULL;
	if (!(flags & MIG_JOINS) || memcmp(id, g->id, MIG_ID)) {
		mig_turn_away(g, c, id, flags);
		return NULL;
	}
	if (mig_recv(c, &rec, &e) || rec.type != MIG_JOIN || rec.len < 4)
		return NULL;
	no = mig_u32(c, &rec);
	place = no < l->n ? &l->r[no].chan : no == MIG_LANE_LATE ? l->late : NULL;
	return place && place->in < 0 ? place : NULL;
}

static int accept_all(struct mig_lanes_in *l)
{
	struct mig *g = l->g;
	int64_t until = loop_now_ns() + MIG_ANSWER_MS * 1000000ll;
	unsigned have = 0, n = l->n + (l->late != NULL);

	while (have < n) {
		int64_t left = (until - loop_now_ns()) / 1000000;
		struct mig_chan c, *place;
		int ret = left > 0 ? mig_accept(g->listen_fd, g->stop_fd, (int)left, &c, &g->e) : -ETIMEDOUT;

		if (ret)
			return ret == -ETIMEDOUT ? err_set(&g->e, ret, "%u of %u further connections have come", have, n) : ret;
		place = who_joins(l, &c);
		if (!place) {
			mig_chan_fini(&c);
			continue;
		}
		*place = c;
		have++;
		ret = mig_send_bytes(place, MIG_JOINED, NULL, 0, &g->e);
		if (ret)
			return ret;
	}
	return 0;
}

static int begin_one(struct mig_lanes_in *l, struct receiver *r, struct mig_rx *rx)
{
	int ret = mig_rx_another(rx, &r->rx);

	if (ret)
		return err_set(&l->g->e, ret, "out of memory");
	r->all = l;
	ret = pthread_create(&r->thread, NULL, receive, r);
	r->has_thread = !ret;
	return ret ? err_set(&l->g->e, -ret, "a thread cannot be started: %s", strerror(ret)) : 0;
}

int mig_lanes_accept(struct mig *g, unsigned n, struct mig_chan *late, struct mig_rx *rx, struct mig_lanes_in **out)
{
	struct mig_lanes_in *l = calloc(1, sizeof(*l) + n * sizeof(l->r[0]));
	int ret;

	if (!l)
		return err_set(&g->e, -ENOMEM, "out of memory");
	l->g = g;
	l->late = late;
	l->n = n;
	for (unsigned i = 0; i < n; i++)
		l->r[i].chan.in = l->r[i].chan.out = -1;
	l->alarm_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = l->alarm_fd < 0 || l->ended_fd < 0 ? err_set(&g->e, -errno, "eventfd: %s", strerror(errno)) : accept_all(l);
	for (unsigned i = 0; i < n && !ret; i++)
		ret = begin_one(l, &l->r[i], rx);
	if (ret)
		mig_lanes_in_free(l);
	else
		*out = l;
	return ret;
}

/* ---- their end ---- */

static void join(struct receiver *r)
{
	if (r->has_thread)
		pthread_join(r->thread, NULL);
	r->has_thread = false;
}

/* What broke the others' connections is of less interest. */
static int first_error(struct mig_lanes_in *l)
{
	int ret = 0;

	for (unsigned i = 0; i < l->n; i++) {
		if (!l->r[i].ret || (ret && ret != -EPIPE))
			continue;
		ret = l->r[i].ret;
		l->g->e = l->r[i].e;
	}
	return ret;
}

static void cut(struct mig_lanes_in *l)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->r[i].chan.in >= 0)
			shutdown(l->r[i].chan.in, SHUT_RDWR);
}

int mig_lanes_wait(struct mig_lanes_in *l)
{
	struct pollfd p[3] = { { .fd = l->alarm_fd, .events = POLLIN }, { .fd = l->ended_fd, .events = POLLIN }, { .fd = l->g->stop_fd, .events = POLLIN } };
	uint64_t heard = mig_lanes_heard(l), last = heard - 1;
	int ret = 0;

	while (!ret && atomic_load(&l->ended) < l->n) {
		int n = poll(p, 3, MIG_WORK_MS);
		eventfd_t some;

		heard = mig_lanes_heard(l);
		eventfd_read(l->ended_fd, &some);
		if (n > 0 && p[2].revents)
			ret = err_set(&l->g->e, -ECANCELED, "it was cancelled");
		else if (n > 0 && p[0].revents)
			ret = -EPIPE;
		else if (!n && heard == last)
			ret = err_set(&l->g->e, -ETIMEDOUT, "a further connection has said nothing for %d seconds", MIG_WORK_MS / 1000);
		last = heard;
	}
	if (ret)
		cut(l);
	for (unsigned i = 0; i < l->n; i++)
		join(&l->r[i]);
	return ret && ret != -EPIPE ? ret : first_error(l);
}

void mig_lanes_in_free(struct mig_lanes_in *l)
{
	if (!l)
		return;
	cut(l);
	for (unsigned i = 0; i < l->n; i++) {
		join(&l->r[i]);
		mig_rx_free(l->r[i].rx);
		mig_chan_fini(&l->r[i].chan);
	}
	if (l->alarm_fd >= 0)
		close(l->alarm_fd);
	if (l->ended_fd >= 0)
		close(l->ended_fd);
	free(l);
}
