// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Requests: from bytes to operations and back, on a few threads.
 *
 * A request is queued, then runs, and ends when its answer has been written and
 * `done` called.  One that waits for a lock is parked meanwhile and tried again
 * when a lock has gone.  Tflush (9P, flush(5)) takes requests that have not begun
 * off their list, which then end without an answer; behind one that runs it waits
 * until `done` has been called for that.
 *
 * Each request belongs to the session it came in.  Tversion and reset put a new
 * session in the old one's place at once; the old one's locks go with it, and what it
 * had open is closed when its last request has ended, by a worker thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/confine.h"
#include "base/log.h"
#include "base/text.h"
#include "p9/internal.h"

#define STACK (256 * 1024)

/* ---- sessions ---- */

static struct p9_session *session_alloc(uint32_t msize)
{
	struct p9_session *ses = calloc(1, sizeof(*ses));

	if (!ses)
		return NULL;
	ses->refs = 1;
	ses->msize = msize;
	if (!p9_table_init(&ses->fids))
		return ses;
	free(ses);
	return NULL;
}

static void session_free(struct p9 *s, struct p9_session *ses)
{
	p9_fids_clear(s, ses);
	p9_table_fini(&ses->fids);
	free(ses);
}

/* `queue` held.  The last reference makes it a worker's job. */
static void session_unref(struct p9 *s, struct p9_session *ses)
{
	if (--ses->refs)
		return;
	ses->next_dead = s->dead;
	s->dead = ses;
	pthread_cond_signal(&s->work);
}

/* `queue` held, and given up meanwhile. */
static void bury(struct p9 *s)
{
	struct p9_session *ses;

	while ((ses = s->dead)) {
		s->dead = ses->next_dead;
		pthread_mutex_unlock(&s->queue);
		session_free(s, ses);
		pthread_mutex_lock(&s->queue);
	}
}

/* `queue` held: the list of requests that have not begun or wait, of a session that ends. */
static void cancel_list(struct p9 *s, struct list *from, const struct p9_session *ses, struct list *to)
{
	list_for_each_safe(n, from) {
		struct p9_req *r = list_entry(n, struct p9_req, node);

		if (r->ses != ses)
			continue;
		s->n_queued -= from == &s->queued;
		list_del(&r->node);
		r->out_len = 0;
		list_add_tail(to, &r->node);
	}
}

/* `queue` held: one of the session's requests has ended, and its `done` has returned. */
static void one_less(struct p9 *s, struct p9_session *ses)
{
	session_unref(s, ses);
	if (!--s->pending)
		pthread_cond_broadcast(&s->idle_cond);
}

/* Their `done`, no lock held; then they are no longer pending. */
static void end_list(struct p9 *s, struct list *l)
{
	while (!list_empty(l)) {
		struct p9_req *r = list_entry(l->next, struct p9_req, node);
		struct p9_session *ses = r->ses;

		list_del(&r->node);
		r->done(r);
		pthread_mutex_lock(&s->queue);
		one_less(s, ses);
		pthread_mutex_unlock(&s->queue);
	}
}

bool p9_session_over(struct p9 *s, const struct p9_session *ses)
{
	bool over;

	pthread_mutex_lock(&s->queue);
	over = ses != s->ses;
	pthread_mutex_unlock(&s->queue);
	return over;
}

int p9_new_session(struct p9 *s, const struct p9_session *of, uint32_t msize)
{
	struct p9_session *ses = session_alloc(msize), *old;
	struct list ended;

	if (!ses)
		return -ENOMEM;
	list_init(&ended);
	pthread_mutex_lock(&s->queue);
	old = s->ses;
	if (of && of != old) {
		pthread_mutex_unlock(&s->queue);
		session_free(s, ses);
		return -ESTALE;
	}
	s->ses = ses;
	cancel_list(s, &s->queued, old, &ended);
	cancel_list(s, &s->parked, old, &ended);
	pthread_mutex_unlock(&s->queue);
	p9_locks_drop(s, old);
	end_list(s, &ended);
	pthread_mutex_lock(&s->queue);
	session_unref(s, old);
	pthread_mutex_unlock(&s->queue);
	return 0;
}

/* ---- messages ---- */

const char *p9_shown(const char *text, char buf[P9_SHOWN])
{
	snprintf(buf, P9_SHOWN, "%s", text);
	return text_plain(buf, "");
}

static int op_version(struct p9_call *c)
{
	uint32_t msize = p9_get32(&c->in);
	char version[32], shown[P9_SHOWN];
	bool ours;
	int ret;

	p9_get_text(&c->in, version, sizeof(version));
	if (c->in.err)
		return c->in.err;
	ours = !strcmp(version, "9P2000.L");
	msize = MIN(msize, P9_MSIZE_MAX);
	if (msize < P9_MSIZE_MIN) {
		log_guest("shared folder %s: the guest wants messages of %u bytes, fewer than %u", c->s->name, msize, P9_MSIZE_MIN);
		return -EMSGSIZE;
	}
	ret = p9_new_session(c->s, c->ses, ours ? msize : 0);
	if (ret)
		return ret;
	if (!ours)
		log_guest("shared folder %s: the guest speaks %s, but 9P2000.L is spoken here: mount with version=9p2000.L", c->s->name,
			  p9_shown(version, shown));
	p9_put32(&c->out, msize);
	p9_put_text(&c->out, ours ? version : "unknown", ours ? strlen(version) : 7);
	return 0;
}

static int op_auth(struct p9_call *c)
{
	return -EOPNOTSUPP;
}

enum { TREE_NONE, TREE_READ, TREE_WRITE };

static const struct {
	int (*op)(struct p9_call *c);
	uint8_t tree;
	bool changes;		/* refused by a server that is read-only */
} ops[128] = {
	[TVERSION] = { op_version },
	[TAUTH] = { op_auth },
	[TATTACH] = { p9_op_attach, TREE_READ },
	[TWALK] = { p9_op_walk, TREE_READ },
	[TCLUNK] = { p9_op_clunk, TREE_READ },
	[TREMOVE] = { p9_op_remove, TREE_WRITE },
	[TLOPEN] = { p9_op_lopen, TREE_READ },
	[TLCREATE] = { p9_op_lcreate, TREE_READ, true },
	[TMKDIR] = { p9_op_mkdir, TREE_READ, true },
	[TMKNOD] = { p9_op_mknod, TREE_READ, true },
	[TSYMLINK] = { p9_op_symlink, TREE_READ, true },
	[TLINK] = { p9_op_link, TREE_READ, true },
	[TRENAME] = { p9_op_rename, TREE_WRITE, true },
	[TRENAMEAT] = { p9_op_renameat, TREE_WRITE, true },
	[TUNLINKAT] = { p9_op_unlinkat, TREE_WRITE, true },
	[TREAD] = { p9_op_read },
	[TWRITE] = { p9_op_write },
	[TREADDIR] = { p9_op_readdir },
	[TFSYNC] = { p9_op_fsync },
	[TSTATFS] = { p9_op_statfs, TREE_READ },
	[TREADLINK] = { p9_op_readlink, TREE_READ },
	[TGETATTR] = { p9_op_getattr, TREE_READ },
	[TSETATTR] = { p9_op_setattr, TREE_READ, true },
	[TXATTRWALK] = { p9_op_xattrwalk, TREE_READ },
	[TXATTRCREATE] = { p9_op_xattrcreate, TREE_READ, true },
	[TLOCK] = { p9_op_lock },
	[TGETLOCK] = { p9_op_getlock },
};

static void answer(struct p9_req *r, uint8_t type, uint32_t len)
{
	st_le32(r->out, len);
	r->out[4] = type;
	st_le16(r->out + 5, r->tag);
	r->out_len = len;
}

static void answer_error(struct p9_req *r, int err)
{
	st_le32(r->out + P9_HEADER, (uint32_t)-err);
	answer(r, RLERROR, P9_ERROR_SIZE);
}

static int run_op(struct p9_call *c)
{
	uint8_t type = c->r->type;
	int ret;

	if (type >= ARRAY_LEN(ops) || !ops[type].op)
		return -EOPNOTSUPP;
	if (!c->ses->msize && type != TVERSION)
		return -EPROTO;
	if (ops[type].changes && c->s->o.readonly)
		return -EROFS;
	if (ops[type].tree == TREE_READ)
		pthread_rwlock_rdlock(&c->s->tree);
	else if (ops[type].tree == TREE_WRITE)
		pthread_rwlock_wrlock(&c->s->tree);
	ret = ops[type].op(c);
	if (ops[type].tree != TREE_NONE)
		pthread_rwlock_unlock(&c->s->tree);
	return ret;
}

/* P9_WAITS, or 0: there is an answer. */
static int run(struct p9 *s, struct p9_req *r, struct p9_run *now)
{
	uint32_t room = MIN(r->out_room, r->ses->msize ? r->ses->msize : P9_MSIZE_MAX);
	struct p9_call c = {
		.s = s, .ses = r->ses, .r = r, .run = now, .in = { r->in + P9_HEADER, r->in + r->in_len, 0 },
		.out = { r->out, r->out + P9_HEADER, r->out + room, false },
	};
	int ret = run_op(&c);

	if (ret == P9_WAITS)
		return ret;
	if (!ret && c.out.full)
		ret = -EMSGSIZE;
	if (ret)
		answer_error(r, ret);
	else
		answer(r, r->type + 1, (uint32_t)(c.out.p - c.out.base));
	return 0;
}

/* ---- threads ---- */

/* `queue` held, and given up meanwhile. */
static void work_one(struct p9 *s)
{
	struct p9_req *r = list_entry(s->queued.next, struct p9_req, node);
	struct p9_run now = { .ses = r->ses, .tag = r->tag };

	list_init(&now.flushes);
	list_del(&r->node);
	s->n_queued--;
	list_add_tail(&s->running, &now.node);
	pthread_mutex_unlock(&s->queue);
	if (run(s, r, &now) == P9_WAITS) {
		pthread_mutex_lock(&s->queue);
		return;
	}
	r->done(r);
	pthread_mutex_lock(&s->queue);
	list_del(&now.node);		/* nobody waits for it from now on */
	one_less(s, now.ses);
	pthread_mutex_unlock(&s->queue);
	end_list(s, &now.flushes);
	pthread_mutex_lock(&s->queue);
}

static void *worker(void *opaque)
{
	struct p9 *s = opaque;

	pthread_setname_np(pthread_self(), "lodge-9p");
	confine_enter(CONFINE_SHARE);
	pthread_mutex_lock(&s->queue);
	for (;;) {
		if (s->dead) {
			bury(s);
		} else if (!list_empty(&s->queued)) {
			work_one(s);
		} else if (s->quit) {
			break;
		} else {
			s->n_idle++;
			pthread_cond_wait(&s->work, &s->queue);
			s->n_idle--;
		}
	}
	pthread_mutex_unlock(&s->queue);
	return NULL;
}

/* `queue` held. */
static void start_thread(struct p9 *s)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int ret;

	if (pthread_attr_init(&attr))
		return;
	pthread_attr_setstacksize(&attr, STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&s->thread[s->n_threads], &attr, worker, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (ret)
		return;
	s->n_threads++;
}

/* `queue` held: somebody does what has come, if need be the caller. */
static void get_going(struct p9 *s)
{
	if (s->n_idle < s->n_queued && s->n_threads < s->o.max_threads)
		start_thread(s);
	if (s->n_threads) {
		pthread_cond_signal(&s->work);
		return;
	}
	while (!list_empty(&s->queued) || s->dead) {
		if (s->dead)
			bury(s);
		else
			work_one(s);
	}
}

/* ---- flush ---- */

/* `queue` held. */
static struct p9_req *find_tag(struct list *l, const struct p9_session *ses, uint16_t tag)
{
	list_for_each(n, l) {
		struct p9_req *r = list_entry(n, struct p9_req, node);

		if (r->ses == ses && r->tag == tag)
			return r;
	}
	return NULL;
}

/* `queue` held: what ends with it, first the request that is flushed. */
static void flush(struct p9 *s, struct p9_req *f, struct list *ended)
{
	uint16_t tag = f->in_len >= P9_HEADER + 2 ? ld_le16(f->in + P9_HEADER) : P9_NOTAG;
	struct p9_req *r;

	answer(f, TFLUSH + 1, P9_HEADER);
	list_for_each(n, &s->running) {
		struct p9_run *now = list_entry(n, struct p9_run, node);

		if (now->ses == f->ses && now->tag == tag) {
			list_add_tail(&now->flushes, &f->node);
			return;
		}
	}
	r = find_tag(&s->queued, f->ses, tag);
	if (r)
		s->n_queued--;
	else
		r = find_tag(&s->parked, f->ses, tag);
	if (r) {
		list_del(&r->node);
		r->out_len = 0;
		list_add_tail(ended, &r->node);
	}
	list_add_tail(ended, &f->node);
}

/* ---- parked requests ---- */

bool p9_park(struct p9_call *c)
{
	struct p9 *s = c->s;
	unsigned waiting = 0;
	bool ok;

	pthread_mutex_lock(&s->queue);
	list_for_each(n, &s->parked)
		waiting++;
	ok = list_empty(&c->run->flushes) && !s->draining && c->ses == s->ses && waiting < P9_MAX_PARKED;
	if (ok) {
		list_del(&c->run->node);
		list_add_tail(&s->parked, &c->r->node);
	}
	pthread_mutex_unlock(&s->queue);
	return ok;
}

void p9_retry_parked(struct p9 *s)
{
	pthread_mutex_lock(&s->queue);
	while (!list_empty(&s->parked)) {
		struct p9_req *r = list_entry(s->parked.next, struct p9_req, node);

		list_del(&r->node);
		list_add_tail(&s->queued, &r->node);
		s->n_queued++;
		pthread_cond_signal(&s->work);
	}
	pthread_mutex_unlock(&s->queue);
}

/* ---- for the transport ---- */

void p9_submit(struct p9 *s, struct p9_req *r)
{
	struct list ended;

	list_init(&ended);
	list_init(&r->node);
	r->type = r->in[4];
	r->tag = ld_le16(r->in + 5);
	r->out_len = 0;
	pthread_mutex_lock(&s->queue);
	r->ses = s->ses;
	r->ses->refs++;
	s->pending++;
	if (r->type == TFLUSH) {
		flush(s, r, &ended);
	} else {
		s->n_queued++;
		list_add_tail(&s->queued, &r->node);
		get_going(s);
	}
	pthread_mutex_unlock(&s->queue);
	end_list(s, &ended);
}

void p9_drain(struct p9 *s)
{
	pthread_mutex_lock(&s->queue);
	s->draining = true;
	pthread_mutex_unlock(&s->queue);
	p9_retry_parked(s);
	pthread_mutex_lock(&s->queue);
	if (!s->n_threads)
		get_going(s);
	while (s->pending)
		pthread_cond_wait(&s->idle_cond, &s->queue);
	s->draining = false;
	pthread_mutex_unlock(&s->queue);
}

void p9_reset(struct p9 *s)
{
	/* For want of memory the old session goes on: its client has none of its own fids, and cannot know the numbers. */
	if (p9_new_session(s, NULL, 0))
		log_warn("shared folder %s: out of memory while it is reset", s->name);
	pthread_mutex_lock(&s->queue);
	get_going(s);
	pthread_mutex_unlock(&s->queue);
}

/* ---- construction ---- */

static int open_root(struct p9 *s, struct err *e)
{
	int fd;

	s->root_fd = open(s->o.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->root_fd < 0)
		return err_set(e, -errno, "folder '%s' cannot be shared: %s", s->o.path, strerror(errno));
	s->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->proc_fd < 0)
		return err_set(e, -errno, "folder '%s' cannot be shared: /proc/self/fd: %s; mount /proc", s->o.path, strerror(errno));
	s->openat2 = !s->o.plain_open;
	fd = p9_beneath(s, s->root_fd, ".", O_PATH, 0);
	if (fd >= 0)
		close(fd);
	else
		s->openat2 = false;
	return 0;
}

int p9_new(const struct p9_opts *o, struct p9 **out, struct err *e)
{
	struct p9 *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	s->o = *o;
	s->o.max_threads = MIN(o->max_threads, (unsigned)P9_MAX_THREADS);
	s->o.fmode = o->fmode ? o->fmode & 0777 : 0600;
	s->o.dmode = o->dmode ? o->dmode & 0777 : 0700;
	s->max_fds = o->max_fds ? o->max_fds : P9_FDS;
	s->max_nodes = o->max_nodes ? o->max_nodes : P9_MAX_NODES;
	s->euid = geteuid();
	s->root_fd = s->proc_fd = -1;
	pthread_rwlock_init(&s->tree, NULL);
	pthread_mutex_init(&s->locks, NULL);
	pthread_rwlock_init(&s->meta, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->queue, NULL);
	pthread_cond_init(&s->work, NULL);
	pthread_cond_init(&s->idle_cond, NULL);
	list_init(&s->flocks);
	list_init(&s->queued);
	list_init(&s->running);
	list_init(&s->parked);
	s->name = strdup(o->name ? o->name : o->path);
	s->ses = session_alloc(0);
	ret = s->name && s->ses ? open_root(s, e) : err_set(e, -ENOMEM, "out of memory");
	if (!ret)
		ret = p9_nodes_init(s, e);
	if (!ret)
		ret = p9_cred_check(s, e);
	if (ret)
		p9_free(s);
	else
		*out = s;
	return ret;
}

void p9_free(struct p9 *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->queue);
	s->quit = true;
	pthread_cond_broadcast(&s->work);
	pthread_mutex_unlock(&s->queue);
	for (unsigned i = 0; i < s->n_threads; i++)
		pthread_join(s->thread[i], NULL);
	if (s->ses) {
		p9_locks_drop(s, s->ses);
		session_free(s, s->ses);
	}
	pthread_mutex_lock(&s->queue);
	bury(s);
	pthread_mutex_unlock(&s->queue);
	p9_nodes_fini(s);
	if (s->root_fd >= 0)
		close(s->root_fd);
	if (s->proc_fd >= 0)
		close(s->proc_fd);
	pthread_cond_destroy(&s->idle_cond);
	pthread_cond_destroy(&s->work);
	pthread_mutex_destroy(&s->queue);
	pthread_mutex_destroy(&s->lock);
	pthread_rwlock_destroy(&s->meta);
	pthread_mutex_destroy(&s->locks);
	pthread_rwlock_destroy(&s->tree);
	free(s->name);
	free(s);
}
