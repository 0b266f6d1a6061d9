// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory that comes after its guest: maps, and the source's part.  See migrate_late.h. */
#include "vm/migrate_late.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "vm/internal.h"

#define MAP_WORDS 65536u		/* in one record */
#define RUN 16u				/* pages sent between two looks at what is asked for */
#define SEND_BUFFER (256 << 10)		/* what is asked for waits behind what is in it */

/* ---- maps ---- */

int mig_map_send(struct mig_chan *c, enum mig_type type, const uint64_t *map, uint64_t pages, struct err *e)
{
	uint64_t words = (pages + 63) / 64;
	int ret = 0;

	for (uint64_t w = 0; w < words && !ret; w += MAP_WORDS) {
		uint8_t first[8];
		const struct iovec iov[2] = { { first, 8 }, { (void *)(uintptr_t)(map + w), MIN(words - w, MAP_WORDS) * 8 } };

		st_le64(first, w * 64);
		ret = mig_send(c, type, iov, 2, e);
	}
	return ret;
}

int mig_map_take(uint64_t *map, uint64_t pages, uint64_t *at, const uint8_t *p, size_t len, struct err *e)
{
	uint64_t words = (pages + 63) / 64, first = len >= 8 ? ld_le64(p) : 0, n = len >= 8 ? (len - 8) / 8 : 0;

	if (len < 16 || len % 8 || first != *at || *at >= pages || n > words - first / 64)
		return err_set(e, -EPROTO, "the stream has a map of pages that makes no sense");
	for (uint64_t i = 0; i < n; i++)
		map[first / 64 + i] = ld_le64(p + 8 + i * 8);
	*at = MIN((first / 64 + n) * 64, pages);
	if (*at == pages && pages % 64)
		map[words - 1] &= BIT64(pages % 64) - 1;
	return 0;
}

uint64_t mig_map_count(const uint64_t *map, uint64_t pages)
{
	uint64_t n = 0;

	for (uint64_t w = 0; w < (pages + 63) / 64; w++)
		n += (uint64_t)__builtin_popcountll(map[w]);
	return n;
}

/* ---- serving ---- */

struct serving {
	struct mig *g;
	struct mig_chan *c;
	struct mig_tx *tx;
	uint64_t next;			/* page, from which on the others are sent */
	uint64_t left;
	bool all;			/* the destination has them */
};

/* Up to RUN pages of a word of the map, from this page on. */
static int send_run(struct serving *s, uint64_t page, struct err *e)
{
	struct mig *g = s->g;
	unsigned n = 0;
	int ret = 0;

	for (; page < g->pages && n < RUN && !ret; page++) {
		if (!(g->todo[page / 64] & BIT64(page % 64))) {
			if (n)
				break;
			continue;
		}
		g->todo[page / 64] &= ~BIT64(page % 64);
		s->left--;
		n++;
		ret = mig_tx_page(s->tx, page, false, e);
	}
	s->next = page;
	return ret ? ret : mig_tx_flush(s->tx, e);
}

/* What somebody waits for goes at once, and its neighbours with it. */
static int give(struct serving *s, const struct mig_record *r, struct err *e)
{
	int ret = 0;

	if (!r->len || r->len % 8)
		return err_set(e, -EPROTO, "the destination asks for pages in a way that makes no sense");
	for (uint32_t i = 0; i < r->len && !ret; i += 8) {
		uint64_t page = ld_le64(s->c->buf + i);

		if (page >= s->g->pages)
			return err_set(e, -EPROTO, "the destination asks for page %llu of a memory of %llu", (unsigned long long)page,
				       (unsigned long long)s->g->pages);
		/* Else it is on its way. */
		if (s->g->todo[page / 64] & BIT64(page % 64))
			ret = send_run(s, page, e);
	}
	pthread_mutex_lock(&s->g->lock);
	s->g->info.postcopy_requests += r->len / 8;
	pthread_mutex_unlock(&s->g->lock);
	return ret;
}

static int hear(struct serving *s, struct err *e)
{
	struct mig_record r;
	int ret = mig_recv(s->c, &r, e);

	if (ret)
		return ret;
	if (r.type == MIG_WANT)
		return give(s, &r, e);
	s->all = r.type == MIG_ALL;
	return s->all ? 0 : err_set(e, -EPROTO, "the destination said '%s' where memory is sent", mig_type_name(r.type));
}

static void tell(struct serving *s)
{
	struct mig *g = s->g;
	struct mig_tx_stats t;

	mig_tx_stats(s->tx, &t);
	pthread_mutex_lock(&g->lock);
	g->info.ram_remaining = s->left * PAGE_4K;
	g->info.transferred = g->late_before.transferred + s->c->sent_bytes;
	g->info.normal = g->late_before.normal + t.normal;
	g->info.zero = g->late_before.zero + t.zero;
	pthread_mutex_unlock(&g->lock);
}

/* The next ones, and round again. */
static int send_next(struct serving *s, struct err *e)
{
	struct mig *g = s->g;

	while (s->next < g->pages && !(g->todo[s->next / 64] >> s->next % 64))
		s->next = (s->next / 64 + 1) * 64;
	if (s->next >= g->pages)
		s->next = 0;
	return send_run(s, s->next, e);
}

static int serve(struct serving *s, struct err *e)
{
	int ret = 0;

	while (!ret && !s->all) {
		struct pollfd p[2] = { { .fd = s->c->in, .events = POLLIN | (s->left ? POLLOUT : 0) }, { .fd = s->g->stop_fd, .events = POLLIN } };

		if (!mig_pending(s->c) && poll(p, 2, MIG_WORK_MS) <= 0)
			return errno == EINTR ? 0 : err_set(e, -ETIMEDOUT, "the destination has said nothing for %d seconds", MIG_WORK_MS / 1000);
		if (p[1].revents)
			return err_set(e, -ECANCELED, "it was cancelled");
		if (mig_pending(s->c) || p[0].revents & ~POLLOUT)
			ret = hear(s, e);
		else if (s->left)
			ret = send_next(s, e);
		tell(s);
	}
	return ret;
}

int mig_late_serve(struct mig *g, struct mig_chan *c, int level, struct err *e)
{
	struct serving s = { .g = g, .c = c, .left = mig_map_count(g->todo, g->pages) };
	int size = SEND_BUFFER, ret = mig_tx_new(g->vm->m->mem, c, level, &s.tx);

	if (ret)
		return err_set(e, ret, "out of memory");
	setsockopt(c->out, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	c->timeout_ms = MIG_WORK_MS;
	pthread_mutex_lock(&g->lock);
	g->late_before = g->info;
	pthread_mutex_unlock(&g->lock);
	ret = serve(&s, e);
	mig_tx_free(s.tx);
	return ret;
}
