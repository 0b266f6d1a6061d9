// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved state: the session's fids by their paths, what is open, attribute values in
 * the making, locks, and the prefixes of inode numbers.
 *
 * When it is loaded the folder may have changed, or be a copy elsewhere.  An open file
 * has to be there again, or loading fails; a fid that is not open and whose file is
 * not there is stale, as it would be if the host had taken the file away meanwhile.
 * A file that has no name any more but is open cannot be saved.
 *
 * All numbers are little-endian.  Loaded bytes are foreign data: the paths go through
 * the same steps as a client's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "p9/internal.h"

#define VERSION 1

enum { PLAIN, FILE_OPEN, DIR_OPEN, XATTR };
#define STALE 1			/* flags of a fid's record */

/* ---- saving ---- */

struct buf {
	uint8_t *p;
	size_t len, room;
	int err;
};

static uint8_t *grow(struct buf *b, size_t n)
{
	if (b->err)
		return NULL;
	if (n > b->room - b->len) {
		size_t room = MAX(b->room * 2, b->len + n + 4096);
		uint8_t *p = b->len + n > P9_STATE_MAX ? NULL : realloc(b->p, room);

		if (!p) {
			b->err = b->len + n > P9_STATE_MAX ? -E2BIG : -ENOMEM;
			return NULL;
		}
		b->p = p;
		b->room = room;
	}
	b->len += n;
	return b->p + b->len - n;
}

static void add(struct buf *b, unsigned len, uint64_t v)
{
	uint8_t *p = grow(b, len);

	if (p)
		st_le(p, len, v);
}

static void add_bytes(struct buf *b, const void *from, size_t n)
{
	uint8_t *p = grow(b, n);

	if (p)
		memcpy(p, from, n);
}

static void add_text(struct buf *b, const char *text)
{
	size_t len = strlen(text);

	add(b, 2, len);
	add_bytes(b, text, len);
}

/* The names from the root on. */
static void add_path(const struct p9 *s, struct buf *b, const struct p9_node *n)
{
	const struct p9_node *chain[P9_MAX_DEPTH], *last = n;
	char shown[P9_SHOWN];
	unsigned depth = 0;

	for (; n->parent && depth < P9_MAX_DEPTH; n = n->parent)
		chain[depth++] = n;
	if (n->parent && !b->err) {
		log_warn("shared folder %s: the guest has a handle of '%s', more than %u folders deep: it cannot be saved", s->name,
			 p9_shown(last->name, shown), P9_MAX_DEPTH);
		b->err = -ENAMETOOLONG;
	}
	add(b, 2, depth);
	while (depth)
		add_text(b, chain[--depth]->name);
}

static bool lost(const struct p9_node *n)
{
	for (; n; n = n->parent)
		if (n->gone)
			return true;
	return false;
}

static void add_fid(struct p9 *s, struct buf *b, const struct p9_fid *f)
{
	const struct p9_open *o = f->open;
	const struct p9_xattr *x = f->xattr;
	bool stale = lost(f->node);
	char shown[P9_SHOWN];

	if (stale && (o || x)) {
		log_warn("shared folder %s: the guest has the file '%s' open, which has been taken away: it cannot be saved", s->name,
			 p9_shown(f->node->name, shown));
		b->err = b->err ? b->err : -EBUSY;
	}
	add(b, 4, f->num);
	add(b, 4, f->uid);
	add(b, 1, o ? o->dir ? DIR_OPEN : FILE_OPEN : x ? XATTR : PLAIN);
	add(b, 1, stale ? STALE : 0);
	add(b, 4, f->node->type);
	add(b, 4, o ? (uint32_t)o->flags : 0);
	add_path(s, b, f->node);
	if (!x)
		return;
	add(b, 1, x->write);
	add(b, 4, (uint32_t)x->flags);
	add(b, 4, x->written);
	add_text(b, x->name);
	add(b, 4, x->size);
	add_bytes(b, x->value, x->size);
}

/* A fid that has a file open. */
struct opened {
	uint64_t dev, ino;
	uint32_t num;
};

static int by_file(const void *a, const void *b)
{
	const struct opened *x = a, *y = b;

	return x->dev != y->dev ? (x->dev > y->dev) - (x->dev < y->dev) : (x->ino > y->ino) - (x->ino < y->ino);
}

/* All of them, in order: there may be as many as there are locks, or more.  NULL: no memory */
static struct opened *opened_fids(const struct p9_session *ses, size_t *n)
{
	struct opened *o = malloc((ses->fids.n + 1) * sizeof(o[0]));

	*n = 0;
	for (size_t i = 0; o && i < ses->fids.size; i++)
		for (struct p9_link *l = ses->fids.bucket[i]; l; l = l->next) {
			const struct p9_fid *f = container_of(l, struct p9_fid, link);

			if (f->open)
				o[(*n)++] = (struct opened){ f->node->dev, f->node->ino, f->num };
		}
	if (*n)
		qsort(o, *n, sizeof(o[0]), by_file);
	return o;
}

/* A lock goes with a fid that has its file open; who has none has none to keep. */
static void add_locks(struct p9 *s, struct buf *b, const struct p9_session *ses)
{
	uint32_t n = 0;
	size_t at = b->len, count;
	struct opened *o = opened_fids(ses, &count);

	if (!o)
		b->err = b->err ? b->err : -ENOMEM;
	add(b, 4, 0);
	list_for_each(l, &s->flocks) {
		const struct p9_flock *k = list_entry(l, struct p9_flock, node);
		const struct opened key = { k->dev, k->ino, 0 }, *f;

		f = k->ses == ses && count ? bsearch(&key, o, count, sizeof(o[0]), by_file) : NULL;
		if (!f)
			continue;
		add(b, 4, f->num);
		add(b, 8, k->start);
		add(b, 8, k->end);
		add(b, 4, k->pid);
		add(b, 1, k->write);
		add_text(b, k->client);
		n++;
	}
	free(o);
	if (!b->err)
		st_le32(b->p + at, n);
}

int p9_save(struct p9 *s, uint8_t **out, uint32_t *len)
{
	struct buf b = { 0 };

	pthread_mutex_lock(&s->locks);
	pthread_mutex_lock(&s->lock);
	add(&b, 4, VERSION);
	add(&b, 4, s->ses->msize);
	add(&b, 4, (uint32_t)s->ses->fids.n);
	for (size_t i = 0; i < s->ses->fids.size && !b.err; i++)
		for (struct p9_link *l = s->ses->fids.bucket[i]; l; l = l->next)
			add_fid(s, &b, container_of(l, struct p9_fid, link));
	add_locks(s, &b, s->ses);
	p9_qids_save(s, add, &b);
	pthread_mutex_unlock(&s->lock);
	pthread_mutex_unlock(&s->locks);
	if (b.err) {
		free(b.p);
		return b.err;
	}
	*out = b.p;
	*len = (uint32_t)b.len;
	return 0;
}

/* ---- loading ---- */

/* Down the path, as far as it goes: a reference to the last node, and whether it is the one. */
static struct p9_node *walk(struct p9_call *c, mode_t type, bool *there)
{
	struct p9_node *n = c->s->root, *next;
	unsigned depth = p9_get16(&c->in);
	char name[P9_NAME];
	struct p9_stat st;

	*there = true;
	p9_node_ref(c->s, n);
	while (depth-- && !c->in.err) {
		p9_get_name(&c->in, name);
		if (!*there || c->in.err)
			continue;
		if (p9_hidden_name(c->s, name) || p9_node_walk(c->s, n, name, &next, &st)) {
			*there = false;
			continue;
		}
		p9_node_unref(c->s, n);
		n = next;
	}
	*there = *there && n->type == type;
	return n;
}

static struct p9_open *open_again(struct p9 *s, struct p9_node *n, bool dir, uint32_t asked, int *ret)
{
	int flags = dir ? O_RDONLY | O_DIRECTORY : p9_open_flags(asked) & ~O_TRUNC, nfd, fd;
	struct p9_open *o;

	*ret = n->type != (dir ? S_IFDIR : S_IFREG) ? -ESTALE : p9_open_changes((uint32_t)flags) && s->o.readonly ? -EROFS : 0;
	if (*ret)
		return NULL;
	nfd = p9_hold(s, n);
	fd = nfd < 0 ? nfd : p9_reopen(s, nfd, n->type, flags);
	if (nfd >= 0)
		p9_release(s, n);
	if (fd < 0) {
		*ret = fd;
		return NULL;
	}
	o = p9_open_new(s, fd, flags, dir);
	*ret = o ? 0 : -ENOMEM;
	return o;
}

static struct p9_xattr *load_xattr(struct p9_call *c, int *ret)
{
	bool write = p9_get8(&c->in) & 1;
	int flags = (int)p9_get32(&c->in);
	uint32_t written = p9_get32(&c->in), size;
	struct p9_xattr *x;
	char name[256];
	const uint8_t *p;

	p9_get_text(&c->in, name, sizeof(name));
	size = p9_get32(&c->in);
	p = p9_get_bytes(&c->in, size);
	*ret = c->in.err || size > XATTR_SIZE_MAX || written > size || flags & ~(XATTR_CREATE | XATTR_REPLACE) ? -EINVAL :
	       write && c->s->o.readonly ? -EROFS : 0;
	x = *ret ? NULL : p9_xattr_new(c->s, size, NULL, ret);
	if (!x)
		return NULL;
	memcpy(x->value, p, size);
	memcpy(x->name, name, sizeof(name));
	x->write = write;
	x->flags = flags;
	x->written = written;
	return x;
}

/* One record. */
static int load_fid(struct p9_call *c, struct err *e)
{
	uint32_t num = p9_get32(&c->in), uid = p9_get32(&c->in), type, flags;
	uint8_t kind = p9_get8(&c->in), bits = p9_get8(&c->in);
	struct p9_xattr *x = NULL;
	struct p9_open *o = NULL;
	struct p9_node *n, *stale;
	char shown[P9_SHOWN];
	bool there;
	int ret = 0;

	type = p9_get32(&c->in);
	flags = p9_get32(&c->in);
	n = walk(c, type & S_IFMT, &there);
	there = there && !(bits & STALE);
	if (c->in.err || kind > XATTR)
		ret = err_set(e, -EINVAL, "saved state of shared folder %s is damaged", c->s->name);
	else if (kind != PLAIN && !there)
		ret = err_set(e, -ENOENT, "shared folder %s: a file that the guest has open ('%s...' or below) is not there any more", c->s->name,
			      n->parent ? p9_shown(n->name, shown) : "/");
	if (!ret && (kind == FILE_OPEN || kind == DIR_OPEN))
		o = open_again(c->s, n, kind == DIR_OPEN, flags, &ret);
	if (!ret && kind == XATTR)
		x = load_xattr(c, &ret);
	if (!ret && !there) {
		stale = p9_node_stale(c->s, type & S_IFMT);
		ret = stale ? 0 : -ENOMEM;
		if (stale) {
			p9_node_unref(c->s, n);
			n = stale;
		}
	}
	if (!ret)
		ret = p9_fid_new(c, num, uid, n, x);
	if (ret) {
		p9_open_free(c->s, o);
		p9_xattr_free(c->s, x);
		p9_node_unref(c->s, n);
		return e && !e->msg[0] ? err_set(e, ret, "shared folder %s: what the guest has open there cannot be opened again: %s", c->s->name,
						 strerror(-ret)) : ret;
	}
	if (o) {
		struct p9_fid *f = p9_fid_get(c, num);

		p9_fid_opened(c, f, o, NULL);
		p9_fid_put(c->s, f);
	}
	return 0;
}

static int load_lock(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	struct p9_flock k = { .ses = c->ses };
	int ret = -EINVAL;

	k.start = p9_get64(&c->in);
	k.end = p9_get64(&c->in);
	k.pid = p9_get32(&c->in);
	k.write = p9_get8(&c->in) & 1;
	p9_get_text(&c->in, k.client, sizeof(k.client));
	if (f && f->open && !c->in.err && k.start <= k.end) {
		k.dev = f->node->dev;
		k.ino = f->node->ino;
		ret = p9_lock_load(c->s, &k);
	}
	p9_fid_put(c->s, f);
	return ret;
}

static int load(struct p9_call *c, uint32_t fids, struct err *e)
{
	uint32_t locks;
	int ret = 0;

	for (uint32_t i = 0; i < fids && !ret; i++)
		ret = load_fid(c, e);
	if (ret)
		return ret;
	locks = p9_get32(&c->in);
	for (uint32_t i = 0; i < locks && !ret; i++)
		ret = load_lock(c);
	if (!ret)
		ret = p9_qids_load(c->s, &c->in);
	if (!ret && (c->in.err || c->in.p != c->in.end))
		ret = -EINVAL;
	return ret ? err_set(e, -EINVAL, "saved state of shared folder %s is damaged", c->s->name) : 0;
}

int p9_load(struct p9 *s, const uint8_t *p, uint32_t len, struct err *e)
{
	struct p9_call c = { .s = s, .in = { p, p + len, 0 } };
	uint32_t version = p9_get32(&c.in), msize = p9_get32(&c.in), fids = p9_get32(&c.in);
	int ret;

	if (e)
		e->msg[0] = '\0';
	if (c.in.err || version != VERSION || (msize && (msize < P9_MSIZE_MIN || msize > P9_MSIZE_MAX)))
		return err_set(e, -EINVAL, "saved state of shared folder %s is damaged, or of another version", s->name);
	ret = p9_new_session(s, NULL, msize);
	if (ret)
		return err_set(e, ret, "out of memory");
	c.ses = s->ses;
	pthread_rwlock_rdlock(&s->tree);
	ret = load(&c, fids, e);
	pthread_rwlock_unlock(&s->tree);
	if (ret)
		p9_reset(s);
	return ret;
}
