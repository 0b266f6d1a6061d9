// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Owner, mode, kind and device number of files, as the security model keeps them.
 *
 * The mapped models have QEMU's formats, so that a folder may be used with both:
 * extended attributes user.virtfs.uid, .gid, .mode (32 bits, little-endian) and
 * .rdev (64), or a file of lines "virtfs.uid=N" with the file's name in the folder
 * .virtfs_metadata beside it (.virtfs_metadata_root for the share's own folder).
 * What they say is as good as what a stranger wrote: a file of the host that is a folder
 * stays one, and what is none does not become one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "p9/internal.h"

#define META_MAX 256		/* bytes of a metadata file */

bool p9_hidden_name(const struct p9 *s, const char *name)
{
	return s->o.model == P9_MAPPED_FILE && (!strcmp(name, P9_META_DIR) || !strcmp(name, P9_META_ROOT));
}

static void apply(struct p9_stat *st, const struct p9_cred *cr)
{
	if (cr->has_uid)
		st->uid = cr->uid;
	if (cr->has_gid)
		st->gid = cr->gid;
	if (cr->has_mode) {
		uint32_t type = cr->mode & S_IFMT;

		/* Only a regular file may stand for something else. */
		if (!S_ISREG(st->host_mode) || type == S_IFDIR || !type)
			type = st->host_mode & S_IFMT;
		st->mode = type | (cr->mode & 07777);
	}
	if (cr->has_rdev && (S_ISCHR(st->mode) || S_ISBLK(st->mode)))
		st->rdev = cr->rdev;
}

/* ---- mapped-xattr ---- */

static bool xattr_get(int fd, const char *name, void *val, size_t len)
{
	char path[P9_PROC_PATH];

	return getxattr(p9_proc_path(fd, path), name, val, len) == (ssize_t)len;
}

static void xattr_read(int fd, struct p9_cred *cr)
{
	uint8_t b[8];

	if ((cr->has_uid = xattr_get(fd, "user.virtfs.uid", b, 4)))
		cr->uid = ld_le32(b);
	if ((cr->has_gid = xattr_get(fd, "user.virtfs.gid", b, 4)))
		cr->gid = ld_le32(b);
	if ((cr->has_mode = xattr_get(fd, "user.virtfs.mode", b, 4)))
		cr->mode = ld_le32(b);
	if ((cr->has_rdev = xattr_get(fd, "user.virtfs.rdev", b, 8)))
		cr->rdev = ld_le64(b);
}

static int xattr_put(int fd, const char *name, unsigned len, uint64_t v)
{
	char path[P9_PROC_PATH];
	uint8_t b[8];

	st_le64(b, v);
	return setxattr(p9_proc_path(fd, path), name, b, len, 0) ? -errno : 0;
}

static int xattr_write(int fd, const struct p9_cred *cr)
{
	int ret = cr->has_uid ? xattr_put(fd, "user.virtfs.uid", 4, cr->uid) : 0;

	if (!ret && cr->has_gid)
		ret = xattr_put(fd, "user.virtfs.gid", 4, cr->gid);
	if (!ret && cr->has_mode)
		ret = xattr_put(fd, "user.virtfs.mode", 4, cr->mode);
	if (!ret && cr->has_rdev)
		ret = xattr_put(fd, "user.virtfs.rdev", 8, cr->rdev);
	return ret;
}

/* ---- mapped-file ---- */

/* The folder of metadata of the files of a folder: fd or -errno. */
static int meta_dir(struct p9 *s, int dirfd, bool make)
{
	if (make && mkdirat(dirfd, P9_META_DIR, 0700) && errno != EEXIST)
		return -errno;
	return p9_beneath(s, dirfd, P9_META_DIR, O_RDONLY | O_DIRECTORY, 0);
}

/* A regular file of metadata, looked at before it is opened: others than the server may have put there what they like. */
static int meta_file(struct p9 *s, int dirfd, const char *name, int flags)
{
	int fd = p9_beneath(s, dirfd, name, O_PATH, 0), out;
	struct p9_stat st;

	if (fd == -ENOENT && flags & O_CREAT)
		return p9_beneath(s, dirfd, name, flags | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	out = p9_stat_host(fd, NULL, &st);
	if (!out)
		out = S_ISREG(st.host_mode) ? p9_reopen(s, fd, S_IFREG, flags) : -ENXIO;
	close(fd);
	return out;
}

/* The metadata file of a node: fd or -errno. */
static int meta_open(struct p9 *s, struct p9_node *n, int flags)
{
	int dirfd, meta, fd;

	if (!n->parent)
		return meta_file(s, s->root_fd, P9_META_ROOT, flags);
	if (p9_node_is_gone(s, n))
		return -ENOENT;
	dirfd = p9_hold(s, n->parent);
	if (dirfd < 0)
		return dirfd;
	meta = meta_dir(s, dirfd, flags & O_CREAT);
	p9_release(s, n->parent);
	if (meta < 0)
		return meta;
	fd = meta_file(s, meta, n->name, flags);
	close(meta);
	return fd;
}

static bool meta_field(const char *text, const char *key, uint64_t *out)
{
	const char *p = strstr(text, key);
	char *end;

	if (!p || (p != text && p[-1] != '\n'))
		return false;
	p += strlen(key);
	*out = strtoull(p, &end, 10);
	return end != p && *p != '-';
}

static void meta_parse(const char *text, struct p9_cred *cr)
{
	uint64_t v = 0;

	if ((cr->has_uid = meta_field(text, "virtfs.uid=", &v)))
		cr->uid = (uint32_t)v;
	if ((cr->has_gid = meta_field(text, "virtfs.gid=", &v)))
		cr->gid = (uint32_t)v;
	if ((cr->has_mode = meta_field(text, "virtfs.mode=", &v)))
		cr->mode = (uint32_t)v;
	if ((cr->has_rdev = meta_field(text, "virtfs.rdev=", &v)))
		cr->rdev = v;
}

/* `meta` held for reading, since what is written comes in two steps. */
static void meta_read_node(struct p9 *s, struct p9_node *n, struct p9_cred *cr)
{
	int fd = meta_open(s, n, O_RDONLY);
	char text[META_MAX];
	ssize_t len;

	if (fd < 0)
		return;
	len = pread(fd, text, sizeof(text) - 1, 0);
	close(fd);
	if (len <= 0)
		return;
	text[len] = '\0';
	meta_parse(text, cr);
}

static void meta_read(struct p9 *s, struct p9_node *n, struct p9_cred *cr)
{
	pthread_rwlock_rdlock(&s->meta);
	meta_read_node(s, n, cr);
	pthread_rwlock_unlock(&s->meta);
}

static unsigned meta_text(char text[META_MAX], const struct p9_cred *cr)
{
	int n = 0;

	if (cr->has_uid)
		n += snprintf(text + n, META_MAX - (size_t)n, "virtfs.uid=%u\n", cr->uid);
	if (cr->has_gid)
		n += snprintf(text + n, META_MAX - (size_t)n, "virtfs.gid=%u\n", cr->gid);
	if (cr->has_mode)
		n += snprintf(text + n, META_MAX - (size_t)n, "virtfs.mode=%u\n", cr->mode);
	if (cr->has_rdev)
		n += snprintf(text + n, META_MAX - (size_t)n, "virtfs.rdev=%llu\n", (unsigned long long)cr->rdev);
	return (unsigned)n;
}

/* `meta` held for writing: what was there and is not in cr remains. */
static int meta_change(struct p9 *s, struct p9_node *n, const struct p9_cred *cr)
{
	struct p9_cred all = { 0 };
	char text[META_MAX];
	unsigned len;
	int fd, ret;

	meta_read_node(s, n, &all);
	if (cr->has_uid)
		all.has_uid = true, all.uid = cr->uid;
	if (cr->has_gid)
		all.has_gid = true, all.gid = cr->gid;
	if (cr->has_mode)
		all.has_mode = true, all.mode = cr->mode;
	if (cr->has_rdev)
		all.has_rdev = true, all.rdev = cr->rdev;
	fd = meta_open(s, n, O_RDWR | O_CREAT);
	if (fd < 0)
		return fd;
	len = meta_text(text, &all);
	ret = p9_write_all(fd, text, len);
	if (!ret && ftruncate(fd, len))
		ret = -errno;
	close(fd);
	return ret;
}

static int meta_write(struct p9 *s, struct p9_node *n, const struct p9_cred *cr)
{
	int ret;

	pthread_rwlock_wrlock(&s->meta);
	ret = meta_change(s, n, cr);
	pthread_rwlock_unlock(&s->meta);
	return ret;
}

int p9_cred_unlink(struct p9 *s, int dirfd, const char *name, bool inside)
{
	int fd, ret = 0;

	if (s->o.model != P9_MAPPED_FILE)
		return 0;
	fd = inside ? p9_beneath(s, dirfd, name, O_PATH | O_DIRECTORY, 0) : meta_dir(s, dirfd, false);
	if (fd < 0)
		return 0;
	if (!inside)
		unlinkat(fd, name, 0);
	else if (unlinkat(fd, P9_META_DIR, AT_REMOVEDIR) && errno != ENOENT && errno != ENOTDIR)
		ret = -errno;
	close(fd);
	return ret;
}

int p9_cred_rename(struct p9 *s, int from, const char *old, int to, const char *new)
{
	int a, b, ret = 0;

	if (s->o.model != P9_MAPPED_FILE)
		return 0;
	a = meta_dir(s, from, false);
	b = a >= 0 ? meta_dir(s, to, true) : meta_dir(s, to, false);
	if (b >= 0 && (a < 0 || (renameat(a, old, b, new) && errno == ENOENT)))
		unlinkat(b, new, 0);	/* the one whose place was taken had some */
	else if (a >= 0 && b < 0)
		ret = b;
	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return ret;
}

/* ---- what holds ---- */

static int host_write(struct p9 *s, int fd, const struct p9_cred *cr)
{
	char name[P9_PROC_NAME];
	struct p9_stat st;
	int ret = p9_stat_host(fd, NULL, &st);
	uid_t uid = cr->has_uid ? cr->uid : st.uid;
	gid_t gid = cr->has_gid ? cr->gid : st.gid;

	if (ret)
		return ret;
	/* Also when nothing changes of a file of one's own, since it resets set-user-ID; the owner first, for the same reason. */
	if ((cr->has_uid || cr->has_gid) && fchownat(fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) &&
	    s->o.model == P9_PASSTHROUGH)
		return -errno;
	if (cr->has_mode && !S_ISLNK(st.host_mode) && fchmodat(s->proc_fd, p9_proc_name(fd, name), cr->mode & 07777, 0))
		return -errno;
	return 0;
}

int p9_cred_read(struct p9 *s, struct p9_node *n, int fd, struct p9_stat *st)
{
	struct p9_cred cr = { 0 };

	if (s->o.model == P9_MAPPED_XATTR)
		xattr_read(fd, &cr);
	else if (s->o.model == P9_MAPPED_FILE)
		meta_read(s, n, &cr);
	apply(st, &cr);
	return 0;
}

int p9_cred_write(struct p9 *s, struct p9_node *n, int fd, const struct p9_cred *cr)
{
	return s->o.model == P9_MAPPED_XATTR ? xattr_write(fd, cr) : s->o.model == P9_MAPPED_FILE ? meta_write(s, n, cr) : host_write(s, fd, cr);
}

int p9_cred_check(struct p9 *s, struct err *e)
{
	char path[P9_PROC_PATH];
	uint8_t b[4];

	if (s->o.model == P9_MAPPED_XATTR && getxattr(p9_proc_path(s->root_fd, path), "user.virtfs.uid", b, 4) < 0 && errno == EOPNOTSUPP)
		return err_set(e, -ENOTSUP, "folder '%s' cannot be shared: its file system has no extended attributes; use security_model=mapped-file",
			       s->o.path);
	return 0;
}
