// SPDX-License-Identifier: GPL-2.0-or-later
/* What files are, and changing it: Tgetattr, Tsetattr; extended attributes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "p9/internal.h"

static struct timespec ts_of(const struct statx_timestamp *t)
{
	return (struct timespec){ .tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec };
}

int p9_stat_host(int fd, const char *name, struct p9_stat *st)
{
	struct statx x;

	if (statx(fd, name ? name : "", AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (name ? 0 : AT_EMPTY_PATH), STATX_BASIC_STATS | STATX_BTIME, &x))
		return -errno;
	*st = (struct p9_stat){
		.dev = makedev(x.stx_dev_major, x.stx_dev_minor), .ino = x.stx_ino, .rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
		.size = x.stx_size, .blocks = x.stx_blocks, .mode = x.stx_mode, .uid = x.stx_uid, .gid = x.stx_gid, .nlink = x.stx_nlink,
		.atime = ts_of(&x.stx_atime), .mtime = ts_of(&x.stx_mtime), .ctime = ts_of(&x.stx_ctime), .btime = ts_of(&x.stx_btime),
		.has_btime = x.stx_mask & STATX_BTIME, .host_mode = x.stx_mode,
	};
	return 0;
}

int p9_stat_node(struct p9 *s, struct p9_node *n, struct p9_stat *st)
{
	int fd = p9_hold(s, n), ret;

	if (fd < 0)
		return fd;
	ret = p9_stat_host(fd, NULL, st);
	if (!ret)
		ret = p9_cred_read(s, n, fd, st);
	p9_release(s, n);
	return ret;
}

uint32_t p9_iounit(const struct p9_session *ses)
{
	uint32_t n = ses->msize - P9_IO_HEADER;

	return n - n % 4096 ? n - n % 4096 : n;
}

static void put_time(struct p9_out *o, const struct timespec *t)
{
	p9_put64(o, (uint64_t)t->tv_sec);
	p9_put64(o, (uint64_t)t->tv_nsec);
}

int p9_op_getattr(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	struct p9_stat st = { 0 };
	struct p9_out *o = &c->out;
	struct p9_qid q;
	int ret;

	p9_get64(&c->in);
	ret = !f ? -EBADF : c->in.err ? c->in.err : p9_stat_node(c->s, f->node, &st);
	if (!ret)
		ret = p9_qid(c->s, &st, &q);
	p9_fid_put(c->s, f);
	if (ret)
		return ret;
	p9_put64(o, P9_STATS_BASIC | (st.has_btime ? P9_STATS_BTIME : 0));
	p9_put_qid(o, &q);
	p9_put32(o, st.mode);
	p9_put32(o, st.uid);
	p9_put32(o, st.gid);
	p9_put64(o, st.nlink);
	p9_put64(o, st.rdev);
	p9_put64(o, st.size);
	p9_put64(o, p9_iounit(c->ses));
	p9_put64(o, st.blocks);
	put_time(o, &st.atime);
	put_time(o, &st.mtime);
	put_time(o, &st.ctime);
	put_time(o, &st.btime);
	p9_put64(o, 0);		/* generation and data version are not known */
	p9_put64(o, 0);
	return 0;
}

/* ---- Tsetattr ---- */

struct change {
	uint32_t valid, mode, uid, gid;
	uint64_t size;
	struct timespec atime, mtime;
};

static void get_time(struct p9_in *in, struct timespec *t)
{
	t->tv_sec = (time_t)p9_get64(in);
	t->tv_nsec = (long)p9_get64(in);
}

static int set_size(struct p9 *s, struct p9_fid *f, int nfd, uint64_t size)
{
	struct p9_open *o = f->open;
	int fd, ret;

	if (size > INT64_MAX)
		return -EFBIG;
	/* One that is open for writing needs no right to be opened again. */
	if (o && !o->dir && (o->flags & O_ACCMODE) != O_RDONLY) {
		fd = p9_open_hold(s, f);
		if (fd < 0)
			return fd;
		ret = ftruncate(fd, (off_t)size) ? -errno : 0;
		p9_open_release(s, f);
		return ret;
	}
	if (f->node->type != S_IFREG)
		return f->node->type == S_IFDIR ? -EISDIR : -EINVAL;
	fd = p9_reopen(s, nfd, f->node->type, O_WRONLY);
	if (fd < 0)
		return fd;
	ret = ftruncate(fd, (off_t)size) ? -errno : 0;
	close(fd);
	return ret;
}

static int set_times(struct p9 *s, int nfd, const struct change *ch)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	char name[P9_PROC_NAME];

	if (ch->valid & P9_ATTR_ATIME)
		t[0] = ch->valid & P9_ATTR_ATIME_SET ? ch->atime : (struct timespec){ .tv_nsec = UTIME_NOW };
	if (ch->valid & P9_ATTR_MTIME)
		t[1] = ch->valid & P9_ATTR_MTIME_SET ? ch->mtime : (struct timespec){ .tv_nsec = UTIME_NOW };
	return utimensat(s->proc_fd, p9_proc_name(nfd, name), t, 0) ? -errno : 0;
}

static int change(struct p9 *s, struct p9_fid *f, int nfd, const struct change *ch)
{
	struct p9_cred cr = {
		.has_uid = ch->valid & P9_ATTR_UID, .has_gid = ch->valid & P9_ATTR_GID, .has_mode = ch->valid & P9_ATTR_MODE,
		.uid = ch->uid, .gid = ch->gid, .mode = ch->mode,
	};
	struct p9_stat st;
	int ret = 0;

	if (cr.has_mode && p9_mapped(s)) {
		ret = p9_stat_node(s, f->node, &st);
		if (!ret)
			cr.mode = (cr.mode & 07777) | (st.mode & S_IFMT);
	}
	if (!ret && (cr.has_uid || cr.has_gid || cr.has_mode))
		ret = p9_cred_write(s, f->node, nfd, &cr);
	if (!ret && ch->valid & P9_ATTR_SIZE)
		ret = set_size(s, f, nfd, ch->size);
	if (!ret && ch->valid & (P9_ATTR_ATIME | P9_ATTR_MTIME))
		ret = set_times(s, nfd, ch);
	/* The change of nothing updates ctime. */
	if (!ret && (ch->valid & 0x7f) == P9_ATTR_CTIME)
		ret = fchownat(nfd, "", (uid_t)-1, (gid_t)-1, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) ? -errno : 0;
	return ret;
}

int p9_op_setattr(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	struct change ch;
	int ret, fd;

	ch.valid = p9_get32(&c->in);
	ch.mode = p9_get32(&c->in);
	ch.uid = p9_get32(&c->in);
	ch.gid = p9_get32(&c->in);
	ch.size = p9_get64(&c->in);
	get_time(&c->in, &ch.atime);
	get_time(&c->in, &ch.mtime);
	ret = !f ? -EBADF : c->in.err;
	if (!ret) {
		fd = p9_hold(c->s, f->node);
		ret = fd < 0 ? fd : change(c->s, f, fd, &ch);
		if (fd >= 0)
			p9_release(c->s, f->node);
	}
	p9_fid_put(c->s, f);
	return ret;
}

/* ---- extended attributes ---- */

/*
 * What an attribute is called on the host: users' own, and ACLs.  Others (security.*, trusted.*) are the host's.  Those of
 * mapped-xattr are the server's, and ACLs have another name there, since they are of the client's owners.
 */
static int host_name(const struct p9 *s, const char *name, char buf[320])
{
	bool acl = !strcmp(name, "system.posix_acl_access") || !strcmp(name, "system.posix_acl_default");

	if (s->o.model == P9_MAPPED_XATTR) {
		if (!strncmp(name, "user.virtfs.", 12))
			return -EACCES;
		snprintf(buf, 320, "%s%s", acl ? "user.virtfs." : "", name);
	} else {
		snprintf(buf, 320, "%s", name);
	}
	return acl || !strncmp(name, "user.", 5) ? 0 : -EOPNOTSUPP;
}

/* Takes out of the list what the client is not to see; the new length. */
static size_t filter(const struct p9 *s, char *list, size_t len)
{
	static const char mapped[] = "user.virtfs.system.posix_acl_";
	size_t to = 0;

	for (size_t at = 0, n; at < len; at += n) {
		const char *name = list + at;

		n = strnlen(name, len - at) + 1;
		if (at + n > len)
			break;
		if (s->o.model == P9_MAPPED_XATTR && !strncmp(name, mapped, sizeof(mapped) - 1)) {
			memmove(list + to, name + 12, n - 12);
			to += n - 12;
		} else if ((!strncmp(name, "user.", 5) && (s->o.model != P9_MAPPED_XATTR || strncmp(name, "user.virtfs.", 12))) ||
			   (!strncmp(name, "system.posix_acl_", 17) && s->o.model != P9_MAPPED_XATTR)) {
			memmove(list + to, name, n);
			to += n;
		}
	}
	return to;
}

/* The value, or with name "" the list, malloc'ed. */
static int fetch(struct p9 *s, int nfd, const char *name, uint8_t **out, uint32_t *size)
{
	char path[P9_PROC_PATH], host[320];
	ssize_t len;
	uint8_t *buf;
	int ret = *name ? host_name(s, name, host) : 0;

	if (ret)
		return ret;
	buf = malloc(XATTR_SIZE_MAX);
	if (!buf)
		return -ENOMEM;
	p9_proc_path(nfd, path);
	len = *name ? getxattr(path, host, buf, XATTR_SIZE_MAX) : listxattr(path, (char *)buf, XATTR_SIZE_MAX);
	if (len < 0) {
		ret = -errno;
		free(buf);
		return ret;
	}
	*size = (uint32_t)(*name ? (size_t)len : filter(s, (char *)buf, (size_t)len));
	*out = realloc(buf, *size ? *size : 1);
	*out = *out ? *out : buf;
	return 0;
}

/* Bytes of values there are at most: 0 or -ENOSPC */
static int account(struct p9 *s, uint32_t size)
{
	int ret = 0;

	pthread_mutex_lock(&s->lock);
	if (size > P9_XATTR_BYTES - s->xattr_bytes)
		ret = -ENOSPC;
	else
		s->xattr_bytes += size;
	pthread_mutex_unlock(&s->lock);
	return ret;
}

struct p9_xattr *p9_xattr_new(struct p9 *s, uint32_t size, uint8_t *value, int *ret)
{
	struct p9_xattr *x = NULL;

	*ret = account(s, size);
	if (*ret)
		return NULL;
	x = calloc(1, sizeof(*x));
	if (x && !value)
		value = calloc(1, size ? size : 1);
	if (x && value) {
		x->value = value;
		x->size = size;
		return x;
	}
	free(x);
	pthread_mutex_lock(&s->lock);
	s->xattr_bytes -= size;
	pthread_mutex_unlock(&s->lock);
	*ret = -ENOMEM;
	return NULL;
}

static int walk_xattr(struct p9_call *c, struct p9_fid *f, uint32_t newfid, const char *name)
{
	struct p9 *s = c->s;
	struct p9_xattr *x;
	uint8_t *value = NULL;
	uint32_t size = 0;
	int fd = p9_hold(s, f->node), ret;

	if (fd < 0)
		return fd;
	ret = fetch(s, fd, name, &value, &size);
	p9_release(s, f->node);
	if (ret)
		return ret;
	x = p9_xattr_new(s, size, value, &ret);
	if (!x) {
		free(value);
		return ret;
	}
	p9_node_ref(s, f->node);
	ret = p9_fid_new(c, newfid, f->uid, f->node, x);
	if (ret) {
		p9_node_unref(s, f->node);
		p9_xattr_free(s, x);
		return ret;
	}
	p9_put64(&c->out, size);
	return 0;
}

int p9_op_xattrwalk(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	uint32_t newfid = p9_get32(&c->in);
	char name[XATTR_NAME_MAX + 1];
	int ret;

	p9_get_text(&c->in, name, sizeof(name));
	ret = !f ? -EBADF : c->in.err ? c->in.err : walk_xattr(c, f, newfid, name);
	p9_fid_put(c->s, f);
	return ret;
}

int p9_op_xattrcreate(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	char name[XATTR_NAME_MAX + 1];
	struct p9_xattr *x = NULL;
	uint64_t size;
	uint32_t flags;
	int ret;

	p9_get_text(&c->in, name, sizeof(name));
	size = p9_get64(&c->in);
	flags = p9_get32(&c->in);
	ret = !f ? -EBADF : c->in.err ? c->in.err : size > XATTR_SIZE_MAX ? -E2BIG : flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE) ? -EINVAL : 0;
	if (!ret)
		ret = p9_fid_claim(c, f);
	if (!ret) {
		x = p9_xattr_new(c->s, (uint32_t)size, NULL, &ret);
		if (x) {
			x->write = true;
			x->flags = (int)flags;
			memcpy(x->name, name, sizeof(name));
		}
		p9_fid_opened(c, f, NULL, x);
	}
	p9_fid_put(c->s, f);
	return ret;
}

int p9_xattr_commit(struct p9 *s, struct p9_fid *f)
{
	struct p9_xattr *x = f->xattr;
	char path[P9_PROC_PATH], host[320];
	bool whole;
	int fd, ret;

	/* Once it is whole nobody writes it any more. */
	pthread_mutex_lock(&s->lock);
	whole = x->written == x->size;
	pthread_mutex_unlock(&s->lock);
	if (!whole)
		return -EINVAL;
	ret = host_name(s, x->name, host);
	if (ret)
		return ret;
	fd = p9_hold(s, f->node);
	if (fd < 0)
		return fd;
	p9_proc_path(fd, path);
	/* Linux's way to say that it is to go. */
	ret = !x->size && x->flags == XATTR_REPLACE ? removexattr(path, host) : setxattr(path, host, x->value, x->size, x->flags);
	ret = ret ? -errno : 0;
	p9_release(s, f->node);
	return ret;
}
