// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fids: the client's handles.  One is referred to by its session's table and by each
 * request that works with it, so a Tclunk takes nothing away from those under way.
 */
#include <errno.h>
#include <stdlib.h>

#include "p9/internal.h"

/* `lock` held. */
static struct p9_fid *find(const struct p9_session *ses, uint32_t num)
{
	uint64_t hash = p9_hash(num);

	for (struct p9_link *l = p9_table_first(&ses->fids, hash); l; l = l->next)
		if (container_of(l, struct p9_fid, link)->num == num)
			return container_of(l, struct p9_fid, link);
	return NULL;
}

struct p9_fid *p9_fid_get(struct p9_call *c, uint32_t num)
{
	struct p9_fid *f;

	pthread_mutex_lock(&c->s->lock);
	f = find(c->ses, num);
	if (f)
		f->refs++;
	pthread_mutex_unlock(&c->s->lock);
	return f;
}

void p9_xattr_free(struct p9 *s, struct p9_xattr *x)
{
	if (!x)
		return;
	pthread_mutex_lock(&s->lock);
	s->xattr_bytes -= x->size;
	pthread_mutex_unlock(&s->lock);
	free(x->value);
	free(x);
}

void p9_fid_put(struct p9 *s, struct p9_fid *f)
{
	bool last;

	if (!f)
		return;
	pthread_mutex_lock(&s->lock);
	last = !--f->refs;
	if (last)
		s->n_fids--;
	pthread_mutex_unlock(&s->lock);
	if (!last)
		return;
	p9_open_free(s, f->open);
	p9_xattr_free(s, f->xattr);
	p9_node_unref(s, f->node);
	free(f);
}

static struct p9_fid *fid_alloc(uint32_t num, uint32_t uid, struct p9_node *n)
{
	struct p9_fid *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->num = num;
	f->uid = uid;
	f->refs = 1;
	f->node = n;
	return f;
}

int p9_fid_new(struct p9_call *c, uint32_t num, uint32_t uid, struct p9_node *n, struct p9_xattr *x)
{
	struct p9_fid *f = num == P9_NOFID ? NULL : fid_alloc(num, uid, n);
	struct p9 *s = c->s;
	int ret = 0;

	if (!f)
		return num == P9_NOFID ? -EINVAL : -ENOMEM;
	f->xattr = x;
	pthread_mutex_lock(&s->lock);
	if (find(c->ses, num) || c->ses->ended)
		ret = -EINVAL;
	else if (s->n_fids >= P9_MAX_FIDS)
		ret = -ENFILE;
	if (!ret) {
		s->n_fids++;
		p9_table_add(&c->ses->fids, &f->link, p9_hash(num));
	}
	pthread_mutex_unlock(&s->lock);
	if (ret)
		free(f);
	return ret;
}

struct p9_fid *p9_fid_take(struct p9_call *c, uint32_t num)
{
	struct p9_fid *f;

	pthread_mutex_lock(&c->s->lock);
	f = find(c->ses, num);
	if (f)
		p9_table_del(&c->ses->fids, &f->link);
	pthread_mutex_unlock(&c->s->lock);
	return f;
}

/* `lock` held. */
static bool is_plain(const struct p9_fid *f)
{
	return !f->open && !f->xattr && !f->claimed;
}

int p9_fid_replace(struct p9_call *c, struct p9_fid *f, struct p9_node *n, struct p9_open *o)
{
	struct p9_fid *fresh = fid_alloc(f->num, f->uid, n);
	struct p9 *s = c->s;
	int ret = 0;

	if (!fresh)
		return -ENOMEM;
	fresh->open = o;
	pthread_mutex_lock(&s->lock);
	if (find(c->ses, f->num) != f || (o ? !f->claimed : !is_plain(f)) || c->ses->ended)
		ret = -EINVAL;
	if (!ret) {
		p9_table_del(&c->ses->fids, &f->link);
		p9_table_add(&c->ses->fids, &fresh->link, p9_hash(f->num));
		s->n_fids++;
	}
	pthread_mutex_unlock(&s->lock);
	if (ret)
		free(fresh);
	else
		p9_fid_put(s, f);	/* the table's */
	return ret;
}

int p9_fid_claim(struct p9_call *c, struct p9_fid *f)
{
	bool ok;

	pthread_mutex_lock(&c->s->lock);
	ok = is_plain(f);
	if (ok)
		f->claimed = true;
	pthread_mutex_unlock(&c->s->lock);
	return ok ? 0 : -EINVAL;
}

void p9_fid_unclaim(struct p9_call *c, struct p9_fid *f)
{
	pthread_mutex_lock(&c->s->lock);
	f->claimed = false;
	pthread_mutex_unlock(&c->s->lock);
}

void p9_fid_opened(struct p9_call *c, struct p9_fid *f, struct p9_open *o, struct p9_xattr *x)
{
	pthread_mutex_lock(&c->s->lock);
	f->claimed = false;
	f->open = o;
	f->xattr = x;
	pthread_mutex_unlock(&c->s->lock);
}

/* `lock` held: any of them, out of the table. */
static struct p9_fid *take_any(struct p9_session *ses, size_t *at)
{
	for (; *at < ses->fids.size; ++*at) {
		struct p9_link *l = ses->fids.bucket[*at];

		if (!l)
			continue;
		p9_table_del(&ses->fids, l);
		return container_of(l, struct p9_fid, link);
	}
	return NULL;
}

void p9_fids_clear(struct p9 *s, struct p9_session *ses)
{
	struct p9_fid *f;
	size_t at = 0;

	for (;;) {
		pthread_mutex_lock(&s->lock);
		ses->ended = true;
		f = take_any(ses, &at);
		pthread_mutex_unlock(&s->lock);
		if (!f)
			return;
		p9_fid_put(s, f);
	}
}
