// SPDX-License-Identifier: GPL-2.0-or-later
/* What is in files and folders: Tread, Twrite, Treaddir, Tfsync, Tstatfs, Treadlink. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "p9/internal.h"

#define DIR_BUFFER 32768u

/* ---- Tread, Twrite ---- */

static ssize_t read_xattr(struct p9 *s, struct p9_xattr *x, void *to, size_t len, uint64_t off)
{
	size_t n = off < x->size ? MIN(len, x->size - off) : 0;

	if (x->write)
		return -EINVAL;
	memcpy(to, x->value + off * (n > 0), n);
	return (ssize_t)n;
}

static ssize_t write_xattr(struct p9 *s, struct p9_xattr *x, const void *from, size_t len, uint64_t off)
{
	ssize_t n = -ENOSPC;

	if (!x->write)
		return -EINVAL;
	pthread_mutex_lock(&s->lock);
	/* Bytes come one after the other, so that none is left out. */
	if (off == x->written && len <= x->size - off) {
		memcpy(x->value + off, from, len);
		x->written += (uint32_t)len;
		n = (ssize_t)len;
	}
	pthread_mutex_unlock(&s->lock);
	return n;
}

/* As much as can be had: a file's bytes to `to`, or those at `from` into it; the other one is NULL. */
static ssize_t transfer(int fd, uint8_t *to, const uint8_t *from, size_t len, uint64_t off)
{
	size_t done = 0;

	while (done < len) {
		off_t at = (off_t)(off + done);
		ssize_t n = from ? pwrite(fd, from + done, len - done, at) : pread(fd, to + done, len - done, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !done)
			return -errno;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int p9_write_all(int fd, const char *p, size_t len)
{
	ssize_t n = transfer(fd, NULL, (const uint8_t *)p, len, 0);

	return n < 0 ? (int)n : (size_t)n == len ? 0 : -ENOSPC;
}

/* An open regular file's descriptor, in use. */
static int hold_file(struct p9 *s, struct p9_fid *f)
{
	struct p9_open *o = f->open;

	return !o ? -EBADF : o->dir ? -EISDIR : p9_open_hold(s, f);
}

static ssize_t read_fid(struct p9 *s, struct p9_fid *f, uint8_t *to, size_t len, uint64_t off)
{
	struct p9_xattr *x = f->xattr;
	ssize_t n;
	int fd;

	if (x)
		return read_xattr(s, x, to, len, off);
	fd = hold_file(s, f);
	if (fd < 0)
		return fd;
	n = transfer(fd, to, NULL, len, off);
	p9_open_release(s, f);
	return n;
}

static ssize_t write_fid(struct p9 *s, struct p9_fid *f, const uint8_t *from, size_t len, uint64_t off)
{
	struct p9_xattr *x = f->xattr;
	ssize_t n;
	int fd;

	if (x)
		return write_xattr(s, x, from, len, off);
	fd = hold_file(s, f);
	if (fd < 0)
		return fd;
	n = transfer(fd, NULL, from, len, off);
	if (n > 0 && s->o.writeout)
		sync_file_range(fd, (off_t)off, n, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE);
	p9_open_release(s, f);
	return n;
}

int p9_op_read(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	uint64_t off = p9_get64(&c->in);
	uint32_t count = p9_get32(&c->in);
	size_t room = p9_room(&c->out);
	ssize_t n;

	n = !f ? -EBADF : c->in.err ? c->in.err : off > INT64_MAX - P9_MSIZE_MAX ? -EINVAL : room < 4 ? -EMSGSIZE :
		read_fid(c->s, f, c->out.p + 4, MIN(count, room - 4), off);
	p9_fid_put(c->s, f);
	if (n < 0)
		return (int)n;
	p9_put32(&c->out, (uint32_t)n);
	c->out.p += n;
	return 0;
}

int p9_op_write(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	uint64_t off = p9_get64(&c->in);
	uint32_t count = p9_get32(&c->in);
	const uint8_t *data = p9_get_bytes(&c->in, count);
	ssize_t n;

	n = !f ? -EBADF : c->in.err ? c->in.err : off > INT64_MAX - P9_MSIZE_MAX ? -EFBIG : c->s->o.readonly ? -EROFS :
		write_fid(c->s, f, data, count, off);
	p9_fid_put(c->s, f);
	if (n < 0)
		return (int)n;
	p9_put32(&c->out, (uint32_t)n);
	return 0;
}

/* ---- Treaddir ---- */

/* getdents64(2)'s record */
struct dirent_raw {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* Of the root, ".." is the root: what is above it is nobody's business. */
static int entry_qid(struct p9 *s, const struct p9_node *dir, const struct dirent_raw *d, struct p9_qid *q)
{
	const struct p9_node *up = dir->parent ? dir->parent : dir;

	q->type = d->type == DT_DIR ? P9_QTDIR : d->type == DT_LNK ? P9_QTSYMLINK : P9_QTFILE;
	q->version = 0;
	if (!strcmp(d->name, ".."))
		return p9_qid_path(s, up->dev, up->ino, &q->path);
	return p9_qid_path(s, dir->dev, d->ino, &q->path);
}

/* 1: it is in, 0: it is not shown, -ENOSPC: it has no room, or another error. */
static int put_entry(struct p9_call *c, const struct p9_node *dir, const struct dirent_raw *d, struct p9_out *o)
{
	size_t len = strlen(d->name);
	struct p9_qid q;
	int ret;

	if (p9_hidden_name(c->s, d->name))
		return 0;
	if (P9_QID_SIZE + 8 + 1 + 2 + len > p9_room(o))
		return -ENOSPC;
	ret = entry_qid(c->s, dir, d, &q);
	if (ret)
		return ret == -ENODEV ? 0 : ret;
	p9_put_qid(o, &q);
	p9_put64(o, (uint64_t)d->off);
	/* In mapped models a file may be anything: looking is left to those who want to know. */
	p9_put8(o, p9_mapped(c->s) && d->type == DT_REG ? DT_UNKNOWN : d->type);
	p9_put_text(o, d->name, len);
	return 1;
}

/* From the position of the descriptor on. */
static int read_entries(struct p9_call *c, const struct p9_node *dir, int fd, uint8_t *buf, struct p9_out *o)
{
	uint8_t *start = o->p;
	int ret = 0;

	while (!ret) {
		long n = syscall(SYS_getdents64, fd, buf, MIN(DIR_BUFFER, MAX((uint32_t)p9_room(o), 1024u)));

		if (n <= 0)
			return n ? -errno : 0;
		for (long at = 0; at < n && ret >= 0;) {
			const struct dirent_raw *d = (const void *)(buf + at);

			at += d->reclen;
			ret = put_entry(c, dir, d, o);
		}
		ret = ret < 0 ? ret : 0;
		/* One turn is enough, unless there was nothing to show. */
		if (o->p != start)
			break;
	}
	return ret == -ENOSPC && o->p != start ? 0 : ret == -ENOSPC ? -EINVAL : ret;
}

static int read_dir(struct p9_call *c, struct p9_fid *f, uint64_t off, struct p9_out *o)
{
	struct p9_open *op = f->open;
	uint8_t *buf;
	int fd, ret;

	if (!op || !op->dir)
		return op ? -ENOTDIR : -EBADF;
	buf = malloc(DIR_BUFFER);
	if (!buf)
		return -ENOMEM;
	fd = p9_open_hold(c->s, f);
	if (fd < 0) {
		free(buf);
		return fd;
	}
	pthread_mutex_lock(&op->lock);
	ret = lseek(fd, (off_t)off, SEEK_SET) < 0 ? -errno : read_entries(c, f->node, fd, buf, o);
	pthread_mutex_unlock(&op->lock);
	p9_open_release(c->s, f);
	free(buf);
	return ret;
}

int p9_op_readdir(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	uint64_t off = p9_get64(&c->in);
	uint32_t count = p9_get32(&c->in);
	struct p9_out o = c->out;
	int ret = !f ? -EBADF : c->in.err ? c->in.err : p9_room(&o) < 4 ? -EMSGSIZE : 0;

	if (!ret) {
		o.p += 4;
		o.end = o.p + MIN(count, p9_room(&o));
		ret = read_dir(c, f, off, &o);
	}
	p9_fid_put(c->s, f);
	if (ret)
		return ret;
	p9_put32(&c->out, (uint32_t)(o.p - c->out.p - 4));
	c->out.p = o.p;
	return 0;
}

/* ---- the rest ---- */

int p9_op_fsync(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	/* Linux has not always sent it. */
	bool data = c->in.p != c->in.end && p9_get32(&c->in);
	int fd, ret = !f ? -EBADF : c->in.err ? c->in.err : !f->open ? -EBADF : 0;

	if (!ret) {
		fd = p9_open_hold(c->s, f);
		ret = fd < 0 ? fd : (data ? fdatasync(fd) : fsync(fd)) ? -errno : 0;
		if (fd >= 0)
			p9_open_release(c->s, f);
	}
	p9_fid_put(c->s, f);
	return ret;
}

int p9_op_statfs(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	struct p9_out *o = &c->out;
	uint64_t fsid = 0;
	struct statfs s;
	int fd, ret = !f ? -EBADF : c->in.err;

	if (!ret) {
		fd = p9_hold(c->s, f->node);
		ret = fd < 0 ? fd : fstatfs(fd, &s) ? -errno : 0;
		if (fd >= 0)
			p9_release(c->s, f->node);
	}
	p9_fid_put(c->s, f);
	if (ret)
		return ret;
	memcpy(&fsid, &s.f_fsid, MIN(sizeof(fsid), sizeof(s.f_fsid)));
	p9_put32(o, (uint32_t)s.f_type);
	p9_put32(o, (uint32_t)s.f_bsize);
	p9_put64(o, s.f_blocks);
	p9_put64(o, s.f_bfree);
	p9_put64(o, s.f_bavail);
	p9_put64(o, s.f_files);
	p9_put64(o, s.f_ffree);
	p9_put64(o, fsid);
	p9_put32(o, (uint32_t)s.f_namelen);
	return 0;
}

/* A link of the host's, or in mapped models a file that stands for one. */
static ssize_t read_target(struct p9 *s, struct p9_node *n, int nfd, char *buf, size_t size)
{
	struct p9_stat st;
	ssize_t len;
	int fd;

	if (n->type == S_IFLNK) {
		len = readlinkat(nfd, "", buf, size);
		return len < 0 ? -errno : len;
	}
	fd = p9_stat_host(nfd, NULL, &st);
	if (!fd)
		fd = p9_cred_read(s, n, nfd, &st);
	if (!fd && !S_ISLNK(st.mode))
		fd = -EINVAL;
	if (!fd)
		fd = p9_reopen(s, nfd, n->type, O_RDONLY);
	if (fd < 0)
		return fd;
	len = transfer(fd, (uint8_t *)buf, NULL, size, 0);
	close(fd);
	return len > 0 && memchr(buf, '\0', (size_t)len) ? -EINVAL : len;
}

int p9_op_readlink(struct p9_call *c)
{
	struct p9_fid *f = p9_fid_get(c, p9_get32(&c->in));
	char buf[PATH_MAX];
	ssize_t len = !f ? -EBADF : c->in.err;
	int fd;

	if (!len) {
		fd = p9_hold(c->s, f->node);
		len = fd < 0 ? fd : read_target(c->s, f->node, fd, buf, sizeof(buf) - 1);
		if (fd >= 0)
			p9_release(c->s, f->node);
	}
	p9_fid_put(c->s, f);
	if (len < 0)
		return (int)len;
	p9_put_text(&c->out, buf, (size_t)len);
	return 0;
}
