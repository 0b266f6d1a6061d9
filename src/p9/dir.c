// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What changes folders: making files of all kinds, links, renaming, taking away.
 *
 * A file is made for its folder's descriptor and one name, exclusively; then it is
 * found like any other, and given its owner and mode.  Where that fails it is taken
 * away again.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "p9/internal.h"

struct make {
	char name[P9_NAME];
	mode_t mode;		/* with the kind */
	uint32_t gid, uid;
	uint64_t rdev;
	const char *target;	/* of a symbolic link */
	int flags;		/* a regular file's */
};

/* A regular file stands for it, in mapped models. */
static int make_mapped(struct p9 *s, int dirfd, const struct make *mk)
{
	int fd = p9_beneath(s, dirfd, mk->name, O_WRONLY | O_CREAT | O_EXCL, s->o.fmode), ret = 0;

	if (fd < 0)
		return fd;
	if (mk->target)
		ret = p9_write_all(fd, mk->target, strlen(mk->target));
	close(fd);
	if (ret)
		unlinkat(dirfd, mk->name, 0);
	return ret;
}

/* On the host: 0 or -errno; a regular file's descriptor otherwise. */
static int make_host(struct p9 *s, int dirfd, const struct make *mk)
{
	mode_t perm = mk->mode & 0777;
	int ret;

	if (S_ISREG(mk->mode) && mk->flags >= 0)
		return p9_beneath(s, dirfd, mk->name, mk->flags | O_CREAT | O_EXCL, p9_mapped(s) ? s->o.fmode : perm);
	if (S_ISDIR(mk->mode))
		ret = mkdirat(dirfd, mk->name, p9_mapped(s) ? s->o.dmode : perm);
	else if (p9_mapped(s))
		return make_mapped(s, dirfd, mk);
	else if (S_ISLNK(mk->mode))
		ret = symlinkat(mk->target, dirfd, mk->name);
	else
		ret = mknodat(dirfd, mk->name, (mk->mode & S_IFMT) | perm, mk->rdev);
	return ret ? -errno : 0;
}

static int set_cred(struct p9 *s, struct p9_node *n, const struct make *mk, struct p9_stat *st)
{
	struct p9_cred cr = { .has_uid = true, .has_gid = true, .has_mode = true, .uid = mk->uid, .gid = mk->gid, .mode = mk->mode };
	int fd, ret;

	if (p9_mapped(s)) {
		cr.has_rdev = S_ISCHR(mk->mode) || S_ISBLK(mk->mode);
		cr.rdev = mk->rdev;
	} else {
		/* What is so already needs no call. */
		cr.has_uid = cr.uid != st->uid;
		cr.has_gid = cr.gid != st->gid;
		cr.has_mode = (st->mode & 07777) != (mk->mode & 07777) || ((cr.has_uid || cr.has_gid) && mk->mode & 06000);
		if (!cr.has_uid && !cr.has_gid && !cr.has_mode)
			return 0;
	}
	fd = p9_hold(s, n);
	if (fd < 0)
		return fd;
	ret = p9_cred_write(s, n, fd, &cr);
	if (!ret)
		ret = p9_cred_read(s, n, fd, st);
	p9_release(s, n);
	return ret;
}

/* *fd: of a regular file, else left alone. */
static int make(struct p9_call *c, struct p9_fid *dir, const struct make *mk, struct p9_node **out, struct p9_qid *q, int *fd)
{
	struct p9 *s = c->s;
	int dirfd = p9_hold(s, dir->node), ret, made;
	struct p9_node *n = NULL;
	struct p9_stat st;

	if (dirfd < 0)
		return dirfd;
	ret = made = make_host(s, dirfd, mk);
	if (made >= 0) {
		ret = p9_node_walk(s, dir->node, mk->name, &n, &st);
		if (!ret)
			ret = set_cred(s, n, mk, &st);
		if (!ret)
			ret = p9_qid(s, &st, q);
		if (ret) {
			unlinkat(dirfd, mk->name, S_ISDIR(mk->mode) ? AT_REMOVEDIR : 0);
			p9_cred_unlink(s, dirfd, mk->name, false);
		}
	}
	p9_release(s, dir->node);
	if (made > 0 && ret)
		close(made);
	if (ret) {
		p9_node_unref(s, n);
		return ret;
	}
	if (made > 0)
		*fd = made;
	*out = n;
	return 0;
}

static int check_name(const struct p9 *s, const char *name)
{
	return p9_hidden_name(s, name) ? -EINVAL : 0;
}

/* Tmkdir, Tmknod, Tsymlink: all but the fields. */
static int make_and_answer(struct p9_call *c, struct p9_fid *dir, struct make *mk)
{
	struct p9_node *n;
	struct p9_qid q;
	int fd, ret = !dir ? -EBADF : c->in.err ? c->in.err : check_name(c->s, mk->name);

	if (!ret) {
		mk->uid = dir->uid;
		mk->flags = -1;
		ret = make(c, dir, mk, &n, &q, &fd);
	}
	p9_fid_put(c->s, dir);
	if (ret)
		return ret;
	p9_node_unref(c->s, n);
	p9_put_qid(&c->out, &q);
	return 0;
}

int p9_op_mkdir(struct p9_call *c)
{
	struct p9_fid *dir = p9_fid_get(c, p9_get32(&c->in));
	struct make mk = { .flags = -1 };

	p9_get_name(&c->in, mk.name);
	mk.mode = (p9_get32(&c->in) & 07777) | S_IFDIR;
	mk.gid = p9_get32(&c->in);
	return make_and_answer(c, dir, &mk);
}

int p9_op_mknod(struct p9_call *c)
{
	struct p9_fid *dir = p9_fid_get(c, p9_get32(&c->in));
	struct make mk = { .flags = -1 };
	uint32_t major, minor;

	p9_get_name(&c->in, mk.name);
	mk.mode = p9_get32(&c->in) & (S_IFMT | 07777);
	major = p9_get32(&c->in);
	minor = p9_get32(&c->in);
	mk.rdev = makedev(major, minor);
	mk.gid = p9_get32(&c->in);
	if (!(mk.mode & S_IFMT))
		mk.mode |= S_IFREG;
	if (!S_ISREG(mk.mode) && !S_ISFIFO(mk.mode) && !S_ISSOCK(mk.mode) && !S_ISCHR(mk.mode) && !S_ISBLK(mk.mode))
		c->in.err = c->in.err ? c->in.err : -EINVAL;
	return make_and_answer(c, dir, &mk);
}

int p9_op_symlink(struct p9_call *c)
{
	struct p9_fid *dir = p9_fid_get(c, p9_get32(&c->in));
	struct make mk = { .flags = -1, .mode = S_IFLNK | 0777 };
	char target[PATH_MAX];

	p9_get_name(&c->in, mk.name);
	p9_get_text(&c->in, target, sizeof(target));
	mk.target = target;
	mk.gid = p9_get32(&c->in);
	if (!*target)
		c->in.err = c->in.err ? c->in.err : -ENOENT;
	return make_and_answer(c, dir, &mk);
}

/* ---- Tlcreate ---- */

/* open(2)'s O_CREAT without O_EXCL: the file was there. */
static int open_existing(struct p9 *s, struct p9_node *dir, const char *name, int flags, struct p9_node **out, struct p9_qid *q, int *fd)
{
	struct p9_node *n;
	struct p9_stat st;
	int ret = p9_node_walk(s, dir, name, &n, &st), nfd = -1;

	if (ret)
		return ret;
	nfd = p9_hold(s, n);
	ret = nfd < 0 ? nfd : p9_cred_read(s, n, nfd, &st);
	if (!ret)
		ret = S_ISDIR(st.mode) ? -EISDIR : !S_ISREG(st.mode) ? -ENXIO : p9_qid(s, &st, q);
	if (!ret) {
		*fd = p9_reopen(s, nfd, n->type, flags);
		ret = *fd < 0 ? *fd : 0;
	}
	if (nfd >= 0)
		p9_release(s, n);
	if (ret)
		p9_node_unref(s, n);
	else
		*out = n;
	return ret;
}

/* Between two looks another may take it away, or put it there; not for ever. */
static int create_or_open(struct p9_call *c, struct p9_fid *dir, struct make *mk, bool excl, struct p9_node **n, struct p9_qid *q, int *fd)
{
	int ret = -EIO;

	for (unsigned i = 0; i < 8; i++) {
		ret = make(c, dir, mk, n, q, fd);
		if (ret != -EEXIST || excl)
			return ret;
		ret = open_existing(c->s, dir->node, mk->name, mk->flags, n, q, fd);
		if (ret != -ENOENT && ret != -ESTALE)
			return ret;
	}
	return ret;
}

static int lcreate(struct p9_call *c, struct p9_fid *dir, struct make *mk, bool excl, struct p9_qid *q)
{
	struct p9 *s = c->s;
	struct p9_node *n = NULL;
	struct p9_open *o;
	int fd = -1, ret = create_or_open(c, dir, mk, excl, &n, q, &fd);

	if (ret)
		return ret;
	o = p9_open_new(s, fd, mk->flags, false);
	ret = o ? p9_fid_replace(c, dir, n, o) : -ENOMEM;
	if (ret) {
		p9_open_free(s, o);
		p9_node_unref(s, n);
	}
	return ret;
}

int p9_op_lcreate(struct p9_call *c)
{
	struct p9_fid *dir = p9_fid_get(c, p9_get32(&c->in));
	struct make mk = { 0 };
	struct p9_qid q;
	uint32_t flags;
	int ret;

	p9_get_name(&c->in, mk.name);
	flags = p9_get32(&c->in);
	mk.mode = (p9_get32(&c->in) & 07777) | S_IFREG;
	mk.gid = p9_get32(&c->in);
	mk.flags = p9_open_flags(flags);
	ret = !dir ? -EBADF : c->in.err ? c->in.err : check_name(c->s, mk.name);
	if (!ret)
		ret = p9_fid_claim(c, dir);
	if (!ret) {
		mk.uid = dir->uid;
		ret = lcreate(c, dir, &mk, flags & O_EXCL, &q);
		p9_fid_unclaim(c, dir);
	}
	p9_fid_put(c->s, dir);
	if (ret)
		return ret;
	p9_put_qid(&c->out, &q);
	p9_put32(&c->out, p9_iounit(c->ses));
	return 0;
}

/* ---- links ---- */

static int link_node(struct p9 *s, struct p9_node *n, struct p9_node *dir, const char *name)
{
	char proc[P9_PROC_NAME];
	int nfd = p9_hold(s, n), dirfd, ret;
	struct p9_stat st;
	bool meta = s->o.model == P9_MAPPED_FILE;

	if (nfd < 0)
		return nfd;
	dirfd = p9_hold(s, dir);
	ret = dirfd < 0 ? dirfd : 0;
	if (!ret && meta)
		ret = p9_stat_node(s, n, &st);
	/* The entry in /proc is the one link that is followed: it leads to the descriptor's file, and no further. */
	if (!ret && linkat(s->proc_fd, p9_proc_name(nfd, proc), dirfd, name, AT_SYMLINK_FOLLOW))
		ret = -errno;
	if (!ret && meta) {
		struct p9_cred cr = { true, true, true, true, st.uid, st.gid, st.mode, st.rdev };
		struct p9_node *other;

		ret = p9_node_walk(s, dir, name, &other, &st);
		if (!ret) {
			ret = p9_cred_write(s, other, -1, &cr);
			p9_node_unref(s, other);
		}
		if (ret) {
			unlinkat(dirfd, name, 0);
			p9_cred_unlink(s, dirfd, name, false);
		}
	}
	if (dirfd >= 0)
		p9_release(s, dir);
	p9_release(s, n);
	return ret;
}

int p9_op_link(struct p9_call *c)
{
	struct p9_fid *dir = p9_fid_get(c, p9_get32(&c->in)), *f = p9_fid_get(c, p9_get32(&c->in));
	char name[P9_NAME];
	int ret;

	p9_get_name(&c->in, name);
	ret = !dir || !f ? -EBADF : c->in.err ? c->in.err : check_name(c->s, name);
	if (!ret)
		ret = f->node->type == S_IFDIR ? -EPERM : link_node(c->s, f->node, dir->node, name);
	p9_fid_put(c->s, f);
	p9_fid_put(c->s, dir);
	return ret;
}

/* ---- taking away ---- */

int p9_unlink_in(struct p9 *s, struct p9_node *dir, const char *name, bool is_dir)
{
	struct p9_node *n = p9_node_find(s, dir, name);
	int dirfd = p9_hold(s, dir), ret, held = -1;

	/* Whoever has it open goes on with its descriptor. */
	if (n)
		held = p9_hold(s, n);
	ret = dirfd < 0 ? dirfd : n ? p9_nodes_may_go(s) : 0;
	if (!ret && is_dir)
		ret = p9_cred_unlink(s, dirfd, name, true);
	if (!ret && unlinkat(dirfd, name, is_dir ? AT_REMOVEDIR : 0))
		ret = -errno;
	if (!ret)
		p9_cred_unlink(s, dirfd, name, false);
	if (!ret && n)
		p9_node_gone(s, n);
	if (held >= 0)
		p9_release(s, n);
	if (dirfd >= 0)
		p9_release(s, dir);
	p9_node_unref(s, n);
	return ret;
}

int p9_op_unlinkat(struct p9_call *c)
{
	struct p9_fid *dir = p9_fid_get(c, p9_get32(&c->in));
	char name[P9_NAME];
	uint32_t flags;
	int ret;

	p9_get_name(&c->in, name);
	flags = p9_get32(&c->in);
	ret = !dir ? -EBADF : c->in.err ? c->in.err : flags & ~P9_AT_REMOVEDIR ? -EINVAL : p9_hidden_name(c->s, name) ? -ENOENT : 0;
	if (!ret)
		ret = p9_unlink_in(c->s, dir->node, name, flags & P9_AT_REMOVEDIR);
	p9_fid_put(c->s, dir);
	return ret;
}

/* ---- renaming ---- */

/* rename(2) leaves two names of one file alone. */
static bool stayed(int fromfd, const char *old, int tofd, const char *new)
{
	struct p9_stat a, b;

	return !p9_stat_host(fromfd, old, &a) && !p9_stat_host(tofd, new, &b) && a.nlink > 1 && a.dev == b.dev && a.ino == b.ino;
}

static int rename_nodes(struct p9 *s, struct p9_node *from, const char *old, int fromfd, struct p9_node *to, const char *new, int tofd)
{
	struct p9_node *src = p9_node_find(s, from, old), *dst = p9_node_find(s, to, new);
	bool same = from == to && !strcmp(old, new);
	int held = dst && !same ? p9_hold(s, dst) : -1, ret;

	ret = dst && !same ? p9_nodes_may_go(s) : 0;
	if (!ret && renameat(fromfd, old, tofd, new))
		ret = -errno;
	if (!ret && !same && !stayed(fromfd, old, tofd, new)) {
		p9_cred_rename(s, fromfd, old, tofd, new);
		if (dst)
			p9_node_gone(s, dst);
		if (src)
			p9_node_move(s, src, to, new);
	}
	if (held >= 0)
		p9_release(s, dst);
	p9_node_unref(s, src);
	p9_node_unref(s, dst);
	return ret;
}

static int rename_in(struct p9 *s, struct p9_node *from, const char *old, struct p9_node *to, const char *new)
{
	int fromfd, tofd, ret;

	if (p9_hidden_name(s, old) || p9_hidden_name(s, new))
		return -EINVAL;
	fromfd = p9_hold(s, from);
	if (fromfd < 0)
		return fromfd;
	tofd = p9_hold(s, to);
	ret = tofd < 0 ? tofd : rename_nodes(s, from, old, fromfd, to, new, tofd);
	if (tofd >= 0)
		p9_release(s, to);
	p9_release(s, from);
	return ret;
}

int p9_op_renameat(struct p9_call *c)
{
	struct p9_fid *from = p9_fid_get(c, p9_get32(&c->in)), *to;
	char old[P9_NAME], new[P9_NAME];
	int ret;

	p9_get_name(&c->in, old);
	to = p9_fid_get(c, p9_get32(&c->in));
	p9_get_name(&c->in, new);
	ret = !from || !to ? -EBADF : c->in.err ? c->in.err : rename_in(c->s, from->node, old, to->node, new);
	p9_fid_put(c->s, to);
	p9_fid_put(c->s, from);
	return ret;
}

int p9_op_rename(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in)), *to = p9_fid_get(c, p9_get32(&c->in));
	char new[P9_NAME], old[P9_NAME];
	int ret;

	p9_get_name(&c->in, new);
	ret = !f || !to ? -EBADF : c->in.err ? c->in.err : !f->node->parent ? -EBUSY : p9_node_check(c->s, f->node);
	if (!ret) {
		/* A copy and a reference, since the node gets a new name and parent. */
		struct p9_node *parent = f->node->parent;

		strcpy(old, f->node->name);
		p9_node_ref(c->s, parent);
		ret = rename_in(c->s, parent, old, to->node, new);
		p9_node_unref(c->s, parent);
	}
	p9_fid_put(c->s, to);
	p9_fid_put(c->s, f);
	return ret;
}
