// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files by their place, and descriptors that come and go: see internal.h.
 *
 * Closing a file may wait for its file system, so it never happens with `lock` held:
 * who has taken a descriptor out of the tables closes it afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "p9/internal.h"

/* Closed at a time when there are too many. */
#define RECLAIM 32

/* ---- system calls ---- */

int p9_beneath(const struct p9 *s, int dirfd, const char *name, int flags, mode_t mode)
{
	int fd;

	flags |= O_NOFOLLOW | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY);
	if (s->openat2) {
		/* The file's name is one component: what this adds is a second look at that, by the kernel. */
		struct open_how how = {
			.flags = (uint64_t)flags, .mode = flags & O_CREAT ? mode & 07777 : 0,
			.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
		};

		do
			fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
		while (fd < 0 && errno == EINTR);
	} else {
		do
			fd = openat(dirfd, name, flags, mode);
		while (fd < 0 && errno == EINTR);
	}
	return fd < 0 ? -errno : fd;
}

const char *p9_proc_name(int fd, char buf[P9_PROC_NAME])
{
	snprintf(buf, P9_PROC_NAME, "%d", fd);
	return buf;
}

const char *p9_proc_path(int fd, char buf[P9_PROC_PATH])
{
	snprintf(buf, P9_PROC_PATH, "/proc/self/fd/%d", fd);
	return buf;
}

int p9_reopen(const struct p9 *s, int fd, mode_t type, int flags)
{
	char name[P9_PROC_NAME];
	int out;

	if (type != S_IFREG && type != S_IFDIR)
		return -ENXIO;
	flags &= ~(O_CREAT | O_EXCL | O_NOFOLLOW);
	do
		out = openat(s->proc_fd, p9_proc_name(fd, name), flags | O_CLOEXEC | O_NOCTTY);
	while (out < 0 && errno == EINTR);
	return out < 0 ? -errno : out;
}

/* ---- descriptors ---- */

static void desc_init(struct p9_desc *d, int fd)
{
	d->fd = fd;
	d->busy = 0;
	d->pinned = false;
	list_init(&d->lru);
}

/* `lock` held; what is to be closed goes to fds. */
static unsigned reclaim(struct p9 *s, int fds[RECLAIM])
{
	unsigned n = 0;

	while (s->n_fds > s->max_fds && n < RECLAIM && !list_empty(&s->lru)) {
		struct p9_desc *d = list_entry(s->lru.next, struct p9_desc, lru);

		list_del(&d->lru);
		fds[n++] = d->fd;
		d->fd = -1;
		s->n_fds--;
	}
	return n;
}

static void close_all(const int *fds, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

/* It is open and in use. */
static int desc_hold(struct p9 *s, struct p9_desc *d)
{
	int fd;

	pthread_mutex_lock(&s->lock);
	fd = d->fd;
	if (fd >= 0) {
		d->busy++;
		list_del(&d->lru);
	}
	pthread_mutex_unlock(&s->lock);
	return fd;
}

/* fd is what it refers to, and in use; the descriptor that is kept, since somebody else may have been faster. */
static int desc_adopt(struct p9 *s, struct p9_desc *d, int fd)
{
	int fds[RECLAIM + 1], keep;
	unsigned n;

	pthread_mutex_lock(&s->lock);
	if (d->fd < 0) {
		d->fd = fd;
		s->n_fds++;
		fd = -1;
	}
	keep = d->fd;
	d->busy++;
	list_del(&d->lru);
	n = reclaim(s, fds);
	if (fd >= 0)
		fds[n++] = fd;
	pthread_mutex_unlock(&s->lock);
	close_all(fds, n);
	return keep;
}

static void desc_release(struct p9 *s, struct p9_desc *d)
{
	int fds[RECLAIM];
	unsigned n = 0;

	pthread_mutex_lock(&s->lock);
	if (!--d->busy && !d->pinned) {
		list_add_tail(&s->lru, &d->lru);
		n = reclaim(s, fds);
	}
	pthread_mutex_unlock(&s->lock);
	close_all(fds, n);
}

/* `lock` held; nobody uses it. The descriptor to be closed, or -1 */
static int desc_end(struct p9 *s, struct p9_desc *d)
{
	int fd = d->fd;

	list_del(&d->lru);
	d->fd = -1;
	if (fd >= 0) {
		s->n_fds--;
		s->n_pinned -= d->pinned;
	}
	return fd;
}

/* ---- nodes ---- */

static uint64_t place_hash(const struct p9_node *dir, const char *name)
{
	uint64_t h = (uint64_t)(uintptr_t)dir;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 0x100000001b3ull;
	return p9_hash(h);
}

/* `lock` held. */
static struct p9_node *find(struct p9 *s, const struct p9_node *dir, const char *name)
{
	uint64_t hash = place_hash(dir, name);

	for (struct p9_link *l = p9_table_first(&s->nodes, hash); l; l = l->next) {
		struct p9_node *n = container_of(l, struct p9_node, link);

		if (l->hash == hash && n->parent == dir && !strcmp(n->name, name))
			return n;
	}
	return NULL;
}

struct p9_node *p9_node_find(struct p9 *s, struct p9_node *dir, const char *name)
{
	struct p9_node *n;

	pthread_mutex_lock(&s->lock);
	n = find(s, dir, name);
	if (n)
		n->refs++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

void p9_node_ref(struct p9 *s, struct p9_node *n)
{
	pthread_mutex_lock(&s->lock);
	n->refs++;
	pthread_mutex_unlock(&s->lock);
}

void p9_node_unref(struct p9 *s, struct p9_node *n)
{
	while (n) {
		struct p9_node *parent;
		int fd;

		pthread_mutex_lock(&s->lock);
		if (--n->refs) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		if (!n->gone && n->parent)
			p9_table_del(&s->nodes, &n->link);
		fd = desc_end(s, &n->d);
		s->n_nodes--;
		pthread_mutex_unlock(&s->lock);
		parent = n->parent;
		if (fd >= 0)
			close(fd);
		free(n->name);
		free(n);
		n = parent;
	}
}

/* `lock` held. */
static bool may_pin(const struct p9 *s)
{
	return s->n_pinned < MAX(s->max_fds / 2, P9_PINNED_MIN);
}

/* `lock` held. */
static void unhash(struct p9 *s, struct p9_node *n)
{
	if (n->gone)
		return;
	p9_table_del(&s->nodes, &n->link);
	n->gone = true;
	if (n->d.fd < 0 || !may_pin(s))
		return;
	n->d.pinned = true;
	s->n_pinned++;
	list_del(&n->d.lru);
}

static struct p9_node *node_alloc(struct p9_node *dir, const char *name, int fd, const struct p9_stat *st)
{
	struct p9_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->name = strdup(name);
	if (!n->name) {
		free(n);
		return NULL;
	}
	n->parent = dir;
	n->refs = 1;
	n->dev = st->dev;
	n->ino = st->ino;
	n->type = st->host_mode & S_IFMT;
	desc_init(&n->d, fd);
	return n;
}

struct p9_node *p9_node_stale(struct p9 *s, mode_t type)
{
	const struct p9_stat st = { .host_mode = type };
	struct p9_node *n = node_alloc(s->root, "", -1, &st);

	if (!n)
		return NULL;
	n->gone = true;
	pthread_mutex_lock(&s->lock);
	s->n_nodes++;
	s->root->refs++;
	pthread_mutex_unlock(&s->lock);
	return n;
}

static bool same_file(const struct p9_node *n, const struct p9_stat *st)
{
	return n->dev == st->dev && n->ino == st->ino && n->type == (st->host_mode & S_IFMT);
}

/*
 * The node of what fd refers to, at its place, with a reference; fd is taken over, also on an error.  One that was
 * there before and is of another file has lost its place.
 */
static int node_enter(struct p9 *s, struct p9_node *dir, const char *name, int fd, const struct p9_stat *st, struct p9_node **out)
{
	struct p9_node *fresh = node_alloc(dir, name, fd, st), *n;
	int fds[RECLAIM];
	unsigned count;
	bool full;

	if (!fresh) {
		close(fd);
		return -ENOMEM;
	}
	pthread_mutex_lock(&s->lock);
	n = find(s, dir, name);
	if (n && !same_file(n, st)) {
		unhash(s, n);
		n = NULL;
	}
	full = !n && s->n_nodes >= s->max_nodes;
	if (n) {
		n->refs++;
	} else if (!full) {
		dir->refs++;
		s->n_nodes++;
		p9_table_add(&s->nodes, &fresh->link, place_hash(dir, name));
		list_add_tail(&s->lru, &fresh->d.lru);
		s->n_fds++;
	}
	*out = full ? NULL : n ? n : fresh;
	count = reclaim(s, fds);
	pthread_mutex_unlock(&s->lock);
	close_all(fds, count);
	if (n || full) {
		close(fd);
		free(fresh->name);
		free(fresh);
	}
	return full ? -ENFILE : 0;
}

bool p9_node_is_gone(struct p9 *s, const struct p9_node *n)
{
	bool gone;

	pthread_mutex_lock(&s->lock);
	gone = n->gone;
	pthread_mutex_unlock(&s->lock);
	return gone;
}

/* One step: the node below dirfd, if it is still the same file. fd or -errno */
static int open_step(struct p9 *s, struct p9_node *n, int dirfd)
{
	int fd = p9_beneath(s, dirfd, n->name, O_PATH, 0), ret;
	struct p9_stat st;

	if (fd < 0)
		return fd == -ENOENT || fd == -ENOTDIR ? -ESTALE : fd;
	ret = p9_stat_host(fd, NULL, &st);
	if (!ret && !same_file(n, &st))
		ret = -ESTALE;
	if (ret)
		close(fd);
	return ret ? ret : fd;
}

/* From the nearest folder above it that is open down to it, by single steps: fd, in use, or -errno. */
static int open_place(struct p9 *s, struct p9_node *n)
{
	struct p9_node **chain = NULL, *up = n;
	unsigned depth = 0, room = 0;
	int fd = -1;

	while (fd < 0) {
		if (p9_node_is_gone(s, up) || depth == P9_MAX_DEPTH) {
			fd = depth == P9_MAX_DEPTH ? -ENAMETOOLONG : -ESTALE;
			goto out;
		}
		if (depth == room) {
			struct p9_node **more = realloc(chain, (room + 64) * sizeof(chain[0]));

			if (!more) {
				fd = -ENOMEM;
				goto out;
			}
			chain = more;
			room += 64;
		}
		chain[depth++] = up;
		up = up->parent;
		fd = desc_hold(s, &up->d);	/* the root's is always open */
	}
	while (depth && fd >= 0) {
		struct p9_node *next = chain[--depth];
		int down = open_step(s, next, fd);

		desc_release(s, &up->d);
		up = next;
		fd = down < 0 ? down : desc_adopt(s, &next->d, down);
	}
out:
	free(chain);
	return fd;
}

int p9_hold(struct p9 *s, struct p9_node *n)
{
	int fd = desc_hold(s, &n->d);

	if (fd >= 0)
		return fd;
	return open_place(s, n);
}

void p9_release(struct p9 *s, struct p9_node *n)
{
	desc_release(s, &n->d);
}

int p9_node_walk(struct p9 *s, struct p9_node *dir, const char *name, struct p9_node **out, struct p9_stat *st)
{
	struct p9_node *n = p9_node_find(s, dir, name);
	int dirfd = p9_hold(s, dir), fd, ret;

	if (dirfd < 0) {
		p9_node_unref(s, n);
		return dirfd;
	}
	/* Known, and still there: it need not be opened. */
	if (n) {
		ret = p9_stat_host(dirfd, name, st);
		if (!ret && same_file(n, st)) {
			p9_release(s, dir);
			*out = n;
			return 0;
		}
		p9_node_unref(s, n);
	}
	fd = p9_beneath(s, dirfd, name, O_PATH, 0);
	p9_release(s, dir);
	if (fd < 0)
		return fd;
	ret = p9_stat_host(fd, NULL, st);
	if (ret) {
		close(fd);
		return ret;
	}
	return node_enter(s, dir, name, fd, st, out);
}

int p9_node_check(struct p9 *s, struct p9_node *n)
{
	struct p9_stat st;
	int dirfd, ret;

	if (!n->parent || p9_node_is_gone(s, n))
		return -ESTALE;
	dirfd = p9_hold(s, n->parent);
	if (dirfd < 0)
		return dirfd;
	ret = p9_stat_host(dirfd, n->name, &st);
	p9_release(s, n->parent);
	return ret ? ret : same_file(n, &st) ? 0 : -ESTALE;
}

int p9_nodes_may_go(struct p9 *s)
{
	bool may;

	pthread_mutex_lock(&s->lock);
	may = may_pin(s);
	pthread_mutex_unlock(&s->lock);
	return may ? 0 : -ENFILE;
}

void p9_node_gone(struct p9 *s, struct p9_node *n)
{
	pthread_mutex_lock(&s->lock);
	unhash(s, n);
	pthread_mutex_unlock(&s->lock);
}

void p9_node_move(struct p9 *s, struct p9_node *n, struct p9_node *dir, const char *name)
{
	struct p9_node *old = NULL, *up;
	char *copy = strdup(name), *text = NULL;

	/* The host may have moved folders behind our back: what would be below itself has no place. */
	for (up = dir; up && up != n; up = up->parent)
		;
	pthread_mutex_lock(&s->lock);
	if (up || !copy || n->gone || !n->parent) {
		if (n->parent)
			unhash(s, n);
		text = copy;
	} else {
		p9_table_del(&s->nodes, &n->link);
		old = n->parent;
		text = n->name;
		n->parent = dir;
		dir->refs++;
		n->name = copy;
		p9_table_add(&s->nodes, &n->link, place_hash(dir, copy));
	}
	pthread_mutex_unlock(&s->lock);
	free(text);
	p9_node_unref(s, old);
}

int p9_nodes_init(struct p9 *s, struct err *e)
{
	struct p9_stat st;
	int ret = p9_stat_host(s->root_fd, NULL, &st);

	if (ret)
		return err_set(e, ret, "'%s': %s", s->o.path, strerror(-ret));
	list_init(&s->lru);
	ret = p9_table_init(&s->nodes);
	if (!ret)
		ret = p9_qids_init(s, &st);
	s->root = ret ? NULL : node_alloc(NULL, "", s->root_fd, &st);
	if (!s->root)
		return err_set(e, -ENOMEM, "out of memory");
	s->root->d.pinned = true;
	return 0;
}

/* All fids are gone, so there is but the root. */
void p9_nodes_fini(struct p9 *s)
{
	if (s->root) {
		free(s->root->name);
		free(s->root);
	}
	p9_table_fini(&s->nodes);
	p9_qids_fini(s);
}

/* ---- open files ---- */

struct p9_open *p9_open_new(struct p9 *s, int fd, int flags, bool dir)
{
	struct p9_open *o = calloc(1, sizeof(*o));
	int fds[RECLAIM];
	unsigned n;

	if (!o) {
		close(fd);
		return NULL;
	}
	desc_init(&o->d, fd);
	o->flags = flags & ~(O_CREAT | O_EXCL | O_TRUNC);
	o->dir = dir;
	pthread_mutex_init(&o->lock, NULL);
	pthread_mutex_lock(&s->lock);
	s->n_fds++;
	list_add_tail(&s->lru, &o->d.lru);
	n = reclaim(s, fds);
	pthread_mutex_unlock(&s->lock);
	close_all(fds, n);
	return o;
}

void p9_open_free(struct p9 *s, struct p9_open *o)
{
	int fd;

	if (!o)
		return;
	pthread_mutex_lock(&s->lock);
	fd = desc_end(s, &o->d);
	pthread_mutex_unlock(&s->lock);
	if (fd >= 0)
		close(fd);
	pthread_mutex_destroy(&o->lock);
	free(o);
}

int p9_open_hold(struct p9 *s, struct p9_fid *f)
{
	int fd = desc_hold(s, &f->open->d), nfd;

	if (fd >= 0)
		return fd;
	pthread_rwlock_rdlock(&s->tree);
	nfd = p9_hold(s, f->node);
	if (nfd >= 0) {
		fd = p9_reopen(s, nfd, f->node->type, f->open->flags);
		p9_release(s, f->node);
	}
	pthread_rwlock_unlock(&s->tree);
	return nfd < 0 ? nfd : fd < 0 ? fd : desc_adopt(s, &f->open->d, fd);
}

void p9_open_release(struct p9 *s, struct p9_fid *f)
{
	desc_release(s, &f->open->d);
}
