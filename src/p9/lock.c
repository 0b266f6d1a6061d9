// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Locks on ranges of files: Tlock and Tgetlock, between all clients of this server.
 *
 * An owner is a session's client name and process, as POSIX has it: its locks on a
 * file never conflict with each other, a new one replaces what it covers of the old
 * ones.  One that is to wait is parked until a lock has gone.  Programs of the host
 * neither see these locks nor are seen.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "p9/internal.h"

static bool overlap(const struct p9_flock *a, const struct p9_flock *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->start <= b->end && b->start <= a->end;
}

static bool same_owner(const struct p9_flock *a, const struct p9_flock *b)
{
	return a->ses == b->ses && a->pid == b->pid && !strcmp(a->client, b->client);
}

/* `locks` held: what is in its way, or NULL. */
static struct p9_flock *conflict(struct p9 *s, const struct p9_flock *k)
{
	list_for_each(n, &s->flocks) {
		struct p9_flock *o = list_entry(n, struct p9_flock, node);

		if (overlap(o, k) && !same_owner(o, k) && (o->write || k->write))
			return o;
	}
	return NULL;
}

static struct p9_flock *copy(const struct p9_flock *k)
{
	struct p9_flock *n = malloc(sizeof(*n));

	if (n)
		*n = *k;
	return n;
}

/* `locks` held: takes k's range from its owner's locks; `rest` is used up if one falls into two. */
static bool cut(struct p9 *s, const struct p9_flock *k, struct p9_flock **rest)
{
	bool any = false;

	list_for_each_safe(n, &s->flocks) {
		struct p9_flock *o = list_entry(n, struct p9_flock, node);

		if (!overlap(o, k) || !same_owner(o, k))
			continue;
		any = true;
		if (o->start < k->start && o->end > k->end) {
			**rest = *o;
			(*rest)->start = k->end + 1;
			list_add_tail(&s->flocks, &(*rest)->node);
			*rest = NULL;
			s->n_flocks++;
			o->end = k->start - 1;
		} else if (o->start < k->start) {
			o->end = k->start - 1;
		} else if (o->end > k->end) {
			o->start = k->end + 1;
		} else {
			list_del(&o->node);
			free(o);
			s->n_flocks--;
		}
	}
	return any;
}

/* A neighbour of the same kind becomes part of k. */
static void merge(struct p9 *s, struct p9_flock *k)
{
	list_for_each_safe(n, &s->flocks) {
		struct p9_flock *o = list_entry(n, struct p9_flock, node);

		if (o == k || !same_owner(o, k) || o->dev != k->dev || o->ino != k->ino || o->write != k->write ||
		    !((o->end != UINT64_MAX && o->end + 1 == k->start) || (k->end != UINT64_MAX && k->end + 1 == o->start)))
			continue;
		k->start = MIN(k->start, o->start);
		k->end = MAX(k->end, o->end);
		list_del(&o->node);
		free(o);
		s->n_flocks--;
	}
}

static int fields(struct p9_call *c, struct p9_fid **f, struct p9_flock *k, uint8_t *type, uint32_t *flags)
{
	uint64_t len;

	*f = p9_fid_get(c, p9_get32(&c->in));
	*type = p9_get8(&c->in);
	if (flags)
		*flags = p9_get32(&c->in);
	k->start = p9_get64(&c->in);
	len = p9_get64(&c->in);
	k->pid = p9_get32(&c->in);
	p9_get_text(&c->in, k->client, sizeof(k->client));
	if (!*f || c->in.err)
		return *f ? c->in.err : -EBADF;
	if (!(*f)->open || *type > P9_LOCK_UNLCK)
		return (*f)->open ? -EINVAL : -EBADF;
	/* 0: to the end of the file, wherever it is. */
	if (!len || __builtin_add_overflow(k->start, len - 1, &k->end))
		k->end = UINT64_MAX;
	k->ses = c->ses;
	k->dev = (*f)->node->dev;
	k->ino = (*f)->node->ino;
	k->write = *type == P9_LOCK_WRLCK;
	return 0;
}

/* `locks` held. 0, -EAGAIN, -ENOLCK; *freed: somebody may go on. */
static int set(struct p9 *s, const struct p9_flock *k, bool unlock, bool *freed)
{
	struct p9_flock *rest, *own = NULL;

	if (!unlock && conflict(s, k))
		return -EAGAIN;
	if (s->n_flocks >= P9_MAX_LOCKS && !unlock)
		return -ENOLCK;
	rest = copy(k);
	if (!unlock)
		own = copy(k);
	if (!rest || (!unlock && !own)) {
		free(rest);
		free(own);
		return -ENOLCK;
	}
	*freed = cut(s, k, &rest);
	free(rest);
	if (own) {
		list_add_tail(&s->flocks, &own->node);
		s->n_flocks++;
		merge(s, own);
	}
	return 0;
}

int p9_op_lock(struct p9_call *c)
{
	struct p9 *s = c->s;
	struct p9_flock k = { 0 };
	struct p9_fid *f;
	uint32_t flags = 0;
	bool freed = false, waits = false;
	uint8_t type;
	int ret = fields(c, &f, &k, &type, &flags);

	if (!ret) {
		pthread_mutex_lock(&s->locks);
		/* Whoever takes its place drops its locks with `locks` held: after that there are to be none. */
		ret = p9_session_over(s, c->ses) ? -ESTALE : set(s, &k, type == P9_LOCK_UNLCK, &freed);
		waits = ret == -EAGAIN && flags & P9_LOCK_FLAG_BLOCK && p9_park(c);
		pthread_mutex_unlock(&s->locks);
	}
	p9_fid_put(s, f);
	if (freed)
		p9_retry_parked(s);
	if (waits)
		return P9_WAITS;
	if (ret && ret != -EAGAIN)
		return ret;
	p9_put8(&c->out, ret ? P9_LOCK_BLOCKED : P9_LOCK_SUCCESS);
	return 0;
}

int p9_op_getlock(struct p9_call *c)
{
	struct p9_flock k = { 0 }, *o = NULL;
	struct p9_fid *f;
	uint8_t type;
	int ret = fields(c, &f, &k, &type, NULL);

	if (!ret) {
		pthread_mutex_lock(&c->s->locks);
		o = conflict(c->s, &k);
		if (o)
			k = *o;
		pthread_mutex_unlock(&c->s->locks);
	}
	p9_fid_put(c->s, f);
	if (ret)
		return ret;
	p9_put8(&c->out, !o ? P9_LOCK_UNLCK : k.write ? P9_LOCK_WRLCK : P9_LOCK_RDLCK);
	p9_put64(&c->out, k.start);
	p9_put64(&c->out, k.end == UINT64_MAX ? 0 : k.end - k.start + 1);
	p9_put32(&c->out, k.pid);
	p9_put_text(&c->out, k.client, strlen(k.client));
	return 0;
}

void p9_locks_drop(struct p9 *s, struct p9_session *ses)
{
	bool any = false;

	pthread_mutex_lock(&s->locks);
	list_for_each_safe(n, &s->flocks) {
		struct p9_flock *k = list_entry(n, struct p9_flock, node);

		if (k->ses != ses)
			continue;
		list_del(&k->node);
		free(k);
		s->n_flocks--;
		any = true;
	}
	pthread_mutex_unlock(&s->locks);
	if (any)
		p9_retry_parked(s);
}

int p9_lock_load(struct p9 *s, const struct p9_flock *k)
{
	bool freed;
	int ret;

	pthread_mutex_lock(&s->locks);
	ret = set(s, k, false, &freed);
	pthread_mutex_unlock(&s->locks);
	return ret;
}
