// SPDX-License-Identifier: GPL-2.0-or-later
/* The 9P server by its messages: what the protocol promises, in every security model. */
#include "p9_client.h"

#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>

#include "p9/internal.h"

static const enum p9_model models[] = { P9_NONE, P9_MAPPED_XATTR, P9_MAPPED_FILE, P9_PASSTHROUGH };

/* Passthrough is for who may give files away. */
static bool usable(enum p9_model m)
{
	return m != P9_PASSTHROUGH || geteuid() == 0;
}

static void version_is_negotiated(void **state)
{
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	assert_int_equal(cl_version(&c, 1 << 30, "9P2000.L"), 0);
	assert_int_equal(p9_get32(&c.ans), P9_MSIZE_MAX);
	/* The session is a new one. */
	assert_int_equal(cl_clunk(&c, 0), -EBADF);
	assert_int_equal(cl_version(&c, 100, "9P2000.L"), -EMSGSIZE);
	assert_int_equal(cl_version(&c, 8192, "9P2000.u"), 0);
	assert_int_equal(p9_get32(&c.ans), 8192);
	assert_int_equal(p9_get16(&c.ans), 7);
	assert_memory_equal(c.ans.p, "unknown", 7);
	assert_int_equal(cl_attach(&c, 0), -EPROTO);
	cl_close(&c);
}

static void files_are_made_written_and_read(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
		struct cl_attr a;
		struct stat st;
		char buf[64];
		struct cl c;

		if (!usable(models[i]))
			continue;
		cl_open(&c, models[i], 2);
		assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
		assert_int_equal(cl_lcreate(&c, 1, "f", O_RDWR, 0640), 0);
		assert_int_equal(cl_write(&c, 1, 3, "hello", 5), 5);
		assert_int_equal(cl_read(&c, 1, 0, buf, sizeof(buf)), 8);
		assert_memory_equal(buf, "\0\0\0hello", 8);
		assert_int_equal(cl_read(&c, 1, 8, buf, sizeof(buf)), 0);
		assert_int_equal(cl_getattr(&c, 1, &a), 0);
		assert_int_equal(a.mode, S_IFREG | 0640);
		assert_int_equal(a.size, 8);
		assert_int_equal(a.nlink, 1);
		assert_int_equal(stat(cl_path(&c, "f"), &st), 0);
		assert_int_equal(st.st_mode & 0777, models[i] == P9_NONE || models[i] == P9_PASSTHROUGH ? 0640 : 0600);
		assert_int_equal(a.path, st.st_ino);
		/* Again, exclusively and not. */
		assert_int_equal(cl_walk(&c, 0, 2, ""), 0);
		assert_int_equal(cl_lcreate(&c, 2, "f", O_RDWR | O_EXCL, 0600), -EEXIST);
		assert_int_equal(cl_lcreate(&c, 2, "f", O_RDWR | O_TRUNC, 0600), 0);
		assert_int_equal(cl_read(&c, 1, 0, buf, sizeof(buf)), 0);
		assert_int_equal(cl_clunk(&c, 1), 0);
		assert_int_equal(cl_clunk(&c, 2), 0);
		assert_int_equal(cl_clunk(&c, 2), -EBADF);
		cl_close(&c);
	}
}

static void kinds_owners_and_modes(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(models); i++) {
		bool mapped = models[i] == P9_MAPPED_XATTR || models[i] == P9_MAPPED_FILE;
		struct cl_attr a;
		char text[64];
		struct cl c;

		if (!usable(models[i]))
			continue;
		cl_open(&c, models[i], 0);
		assert_int_equal(cl_mkdir(&c, 0, "d", 0751), 0);
		assert_int_equal(p9_get8(&c.ans), P9_QTDIR);
		assert_int_equal(cl_walk(&c, 0, 1, "d"), 0);
		assert_int_equal(cl_getattr(&c, 1, &a), 0);
		assert_int_equal(a.mode, S_IFDIR | 0751);
		assert_int_equal(cl_symlink(&c, 1, "l", "../some/where"), 0);
		assert_int_equal(p9_get8(&c.ans), P9_QTSYMLINK);
		assert_int_equal(cl_walk(&c, 0, 2, "d/l"), 0);
		assert_int_equal(cl_readlink(&c, 2, text, sizeof(text)), 0);
		assert_string_equal(text, "../some/where");
		assert_int_equal(cl_getattr(&c, 2, &a), 0);
		assert_true(S_ISLNK(a.mode));
		assert_int_equal(cl_mknod(&c, 1, "p", S_IFIFO | 0622, 0, 0), 0);
		assert_int_equal(cl_walk(&c, 1, 3, "p"), 0);
		assert_int_equal(cl_getattr(&c, 3, &a), 0);
		assert_int_equal(a.mode, S_IFIFO | 0622);
		assert_int_equal(cl_lopen(&c, 3, O_RDONLY), -ENXIO);
		assert_int_equal(cl_readlink(&c, 3, text, sizeof(text)), -EINVAL);
		if (mapped) {
			assert_int_equal(cl_mknod(&c, 1, "n", S_IFBLK | 0600, 8, 1), 0);
			assert_int_equal(cl_walk(&c, 1, 4, "n"), 0);
			assert_int_equal(cl_getattr(&c, 4, &a), 0);
			assert_int_equal(a.mode, S_IFBLK | 0600);
			assert_int_equal(a.rdev, makedev(8, 1));
			assert_int_equal(cl_setattr(&c, 4, P9_ATTR_UID | P9_ATTR_GID | P9_ATTR_MODE, 04711, 77, 88, 0), 0);
			assert_int_equal(cl_getattr(&c, 4, &a), 0);
			assert_int_equal(a.mode, S_IFBLK | 04711);
			assert_int_equal(a.uid, 77);
			assert_int_equal(a.gid, 88);
		}
		assert_int_equal(cl_unlinkat(&c, 1, "p", 0), 0);
		assert_int_equal(cl_unlinkat(&c, 1, "l", 0), 0);
		assert_int_equal(cl_unlinkat(&c, 0, "d", P9_AT_REMOVEDIR), mapped ? -ENOTEMPTY : 0);
		if (mapped) {
			assert_int_equal(cl_unlinkat(&c, 1, "n", 0), 0);
			assert_int_equal(cl_unlinkat(&c, 0, "d", P9_AT_REMOVEDIR), 0);
		}
		assert_int_equal(cl_walk(&c, 0, 9, "d"), -ENOENT);
		cl_close(&c);
	}
}

static void attributes_change(void **state)
{
	struct cl_attr a;
	struct stat st;
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	cl_put(&c, "f", "0123456789");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(cl_setattr(&c, 1, P9_ATTR_SIZE, 0, 0, 0, 4), 0);
	assert_int_equal(cl_setattr(&c, 1, P9_ATTR_MODE, 0604, 0, 0, 0), 0);
	assert_int_equal(cl_setattr(&c, 1, P9_ATTR_ATIME | P9_ATTR_ATIME_SET | P9_ATTR_MTIME | P9_ATTR_MTIME_SET, 0, 0, 0, 0), 0);
	assert_int_equal(cl_getattr(&c, 1, &a), 0);
	assert_int_equal(a.size, 4);
	assert_int_equal(a.mode, S_IFREG | 0604);
	assert_int_equal(a.mtime, 1000001);
	assert_int_equal(stat(cl_path(&c, "f"), &st), 0);
	assert_int_equal(st.st_atim.tv_sec, 1000000);
	assert_int_equal(st.st_mtim.tv_nsec, 5);
	assert_int_equal(cl_setattr(&c, 1, P9_ATTR_SIZE, 0, 0, 0, 1ull << 63), -EFBIG);
	assert_int_equal(cl_setattr(&c, 0, P9_ATTR_SIZE, 0, 0, 0, 0), -EISDIR);
	cl_close(&c);
}

/* Every name once, with offsets at which one can go on, whatever fits into an answer. */
static void folders_are_read_in_pieces(void **state)
{
	const uint32_t counts[] = { 80, 300, 60000 };
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	for (unsigned i = 0; i < 100; i++) {
		char name[16];

		snprintf(name, sizeof(name), "file%u", i);
		cl_put(&c, name, "");
	}
	assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
	assert_int_equal(cl_lopen(&c, 1, O_RDONLY), 0);
	assert_int_equal(cl_readdir(&c, 1, 0, 20), -EINVAL);
	for (unsigned k = 0; k < ARRAY_LEN(counts); k++) {
		bool seen[100] = { false }, dot = false, up = false;
		uint64_t off = 0;
		unsigned total = 0;
		int n;

		while ((n = cl_readdir(&c, 1, off, counts[k])) > 0) {
			while (c.ans.p != c.ans.end) {
				char name[P9_NAME];
				unsigned i;

				p9_get_bytes(&c.ans, P9_QID_SIZE);
				off = p9_get64(&c.ans);
				p9_get8(&c.ans);
				p9_get_text(&c.ans, name, sizeof(name));
				assert_int_equal(c.ans.err, 0);
				dot |= !strcmp(name, ".");
				up |= !strcmp(name, "..");
				if (sscanf(name, "file%u", &i) == 1) {
					assert_false(seen[i]);
					seen[i] = true;
				}
				total++;
			}
		}
		assert_int_equal(n, 0);
		assert_true(dot && up);
		assert_int_equal(total, 102);
	}
	cl_close(&c);
}

static void renaming_takes_fids_along(void **state)
{
	for (unsigned fds = 0; fds < 2; fds++) {
		char buf[8];
		struct cl c;

		/* With one descriptor, all are opened anew all the time. */
		cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .max_fds = fds ? 1 : 100 });
		assert_int_equal(cl_mkdir(&c, 0, "a", 0700), 0);
		assert_int_equal(cl_walk(&c, 0, 1, "a"), 0);
		assert_int_equal(cl_mkdir(&c, 1, "b", 0700), 0);
		assert_int_equal(cl_walk(&c, 1, 2, "b"), 0);
		assert_int_equal(cl_walk(&c, 2, 3, ""), 0);
		assert_int_equal(cl_lcreate(&c, 3, "f", O_RDWR, 0600), 0);
		assert_int_equal(cl_write(&c, 3, 0, "x", 1), 1);
		assert_int_equal(cl_mkdir(&c, 0, "z", 0700), 0);
		assert_int_equal(cl_walk(&c, 0, 4, "z"), 0);
		assert_int_equal(cl_renameat(&c, 0, "a", 4, "aa"), 0);
		assert_int_equal(access(cl_path(&c, "z/aa/b/f"), F_OK), 0);
		assert_int_equal(cl_walk(&c, 2, 5, "f"), 0);
		assert_int_equal(cl_write(&c, 3, 1, "y", 1), 1);
		assert_int_equal(cl_lopen(&c, 5, O_RDONLY), 0);
		assert_int_equal(cl_read(&c, 5, 0, buf, 8), 2);
		assert_memory_equal(buf, "xy", 2);
		assert_int_equal(cl_walk(&c, 0, 6, "a"), -ENOENT);
		/* By its handle, which was all that kept its folder's. */
		assert_int_equal(cl_mkdir(&c, 0, "k", 0700), 0);
		assert_int_equal(cl_walk(&c, 0, 8, "k"), 0);
		assert_int_equal(cl_mkdir(&c, 8, "kk", 0700), 0);
		assert_int_equal(cl_clunk(&c, 8), 0);
		assert_int_equal(cl_walk(&c, 0, 8, "k/kk"), 0);
		cl_begin(&c, TRENAME);
		cl_n(&c, 4, 8);
		cl_n(&c, 4, 0);
		cl_s(&c, "moved");
		assert_int_equal(cl_send(&c), 0);
		assert_int_equal(access(cl_path(&c, "moved"), F_OK), 0);
		assert_int_equal(cl_walk(&c, 8, 9, ".."), 0);
		assert_int_equal(cl_walk(&c, 9, 10, "moved"), 0);
		/* Into itself it does not go. */
		assert_int_equal(cl_renameat(&c, 4, "aa", 2, "x"), -EINVAL);
		assert_int_equal(cl_walk(&c, 2, 7, ".."), 0);
		assert_int_equal(cl_remove(&c, 7), -ENOTEMPTY);
		cl_close(&c);
	}
}

static void open_files_outlive_their_names(void **state)
{
	for (unsigned fds = 0; fds < 2; fds++) {
		struct cl_attr a;
		char buf[8];
		struct cl c;

		cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .max_fds = fds ? 1 : 100 });
		assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
		assert_int_equal(cl_lcreate(&c, 1, "f", O_RDWR, 0600), 0);
		assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
		assert_int_equal(cl_unlinkat(&c, 0, "f", 0), 0);
		assert_int_equal(cl_write(&c, 1, 0, "abc", 3), 3);
		assert_int_equal(cl_read(&c, 1, 0, buf, 8), 3);
		assert_int_equal(cl_getattr(&c, 2, &a), 0);
		assert_int_equal(a.nlink, 0);
		assert_int_equal(a.size, 3);
		/* Another of that name is another file; one that takes a file's place, too. */
		assert_int_equal(cl_walk(&c, 0, 3, ""), 0);
		assert_int_equal(cl_lcreate(&c, 3, "f", O_RDWR, 0600), 0);
		assert_int_equal(cl_getattr(&c, 3, &a), 0);
		assert_int_equal(a.size, 0);
		assert_int_equal(cl_walk(&c, 0, 4, ""), 0);
		assert_int_equal(cl_lcreate(&c, 4, "g", O_RDWR, 0600), 0);
		assert_int_equal(cl_write(&c, 4, 0, "gg", 2), 2);
		assert_int_equal(cl_renameat(&c, 0, "g", 0, "f"), 0);
		assert_int_equal(cl_read(&c, 4, 0, buf, 8), 2);
		assert_int_equal(cl_read(&c, 3, 0, buf, 8), 0);
		assert_int_equal(cl_read(&c, 1, 0, buf, 8), 3);
		assert_int_equal(cl_remove(&c, 4), 0);
		assert_int_equal(access(cl_path(&c, "f"), F_OK), -1);
		assert_int_equal(cl_remove(&c, 3), -ESTALE);
		assert_int_equal(cl_remove(&c, 0), -EBUSY);
		cl_close(&c);
	}
}

/* Two names of one file: rename(2) leaves both, and so it is for handles and for what the security model keeps. */
static void renaming_a_file_onto_itself(void **state)
{
	for (unsigned m = 0; m < ARRAY_LEN(models); m++) {
		struct cl_attr a;
		struct cl c;

		if (!usable(models[m]))
			continue;
		cl_open(&c, models[m], 0);
		assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
		assert_int_equal(cl_lcreate(&c, 1, "f", O_RDWR, 0640), 0);
		assert_int_equal(cl_link(&c, 0, 1, "g"), 0);
		assert_int_equal(cl_walk(&c, 0, 2, "g"), 0);
		assert_int_equal(cl_renameat(&c, 0, "f", 0, "g"), 0);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(cl_walk(&c, 0, 3, i ? "g" : "f"), 0);
			assert_int_equal(cl_getattr(&c, 3, &a), 0);
			assert_int_equal(a.mode, S_IFREG | 0640);
			assert_int_equal(a.nlink, 2);
			assert_int_equal(cl_clunk(&c, 3), 0);
		}
		/* The handles are of the names they were of. */
		assert_int_equal(cl_remove(&c, 2), 0);
		assert_int_equal(access(cl_path(&c, "f"), F_OK), 0);
		assert_int_equal(access(cl_path(&c, "g"), F_OK), -1);
		cl_close(&c);
	}
}

/* Files without a name keep their descriptors, but not all that there are. */
static void taken_away_files_are_bounded(void **state)
{
	unsigned n = 0;
	struct cl_attr a;
	char name[16], from[512];
	struct cl c;
	int ret = 0;

	cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .max_fds = 160 });
	for (unsigned i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		cl_put(&c, name, "");
		assert_int_equal(cl_walk(&c, 0, 1 + i, name), 0);
	}
	while (!ret && n < 200) {
		snprintf(name, sizeof(name), "f%u", n);
		ret = n % 2 ? cl_renameat(&c, 0, "f199", 0, name) : cl_unlinkat(&c, 0, name, 0);
		if (!ret && n % 2)
			assert_int_equal(cl_renameat(&c, 0, name, 0, "f199"), 0);
		n += !ret;
	}
	assert_int_equal(ret, -ENFILE);
	assert_int_equal(n, 80);
	assert_int_equal(cl_renameat(&c, 0, "f199", 0, "f80"), -ENFILE);
	/* What it was is there, and those that have gone are what they were. */
	assert_int_equal(access(cl_path(&c, "f80"), F_OK), 0);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(cl_getattr(&c, 1 + i, &a), 0);
		assert_int_equal(a.nlink, 0);
	}
	assert_int_equal(cl_clunk(&c, 1), 0);
	assert_int_equal(cl_unlinkat(&c, 0, "f80", 0), 0);
	/* The host takes files away, too: more than may stay open are stale. */
	cl_put(&c, "other", "");
	snprintf(from, sizeof(from), "%s/other", c.dir);
	assert_int_equal(cl_getattr(&c, 82, &a), 0);
	assert_int_equal(rename(from, cl_path(&c, "f81")), 0);
	assert_int_equal(cl_walk(&c, 0, 300, "f81"), 0);
	for (unsigned i = 82; i < 199; i++)
		assert_int_equal(cl_getattr(&c, 1 + i, &a), 0);
	assert_int_equal(cl_getattr(&c, 82, &a), -ESTALE);
	assert_int_equal(cl_getattr(&c, 300, &a), 0);
	cl_close(&c);
}

/* One handle keeps all folders above its file, so it is not handles alone that are counted. */
static void known_files_are_bounded(void **state)
{
	struct cl_attr a;
	struct cl c;

	cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .max_nodes = 20 });
	assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(cl_mkdir(&c, 1, "d", 0700), 0);
		assert_int_equal(cl_walk(&c, 1, 1, "d"), 0);
	}
	assert_int_equal(cl_mkdir(&c, 1, "d", 0700), -ENFILE);
	assert_int_equal(cl_walk(&c, 1, 2, "d"), -ENOENT);
	assert_int_equal(cl_getattr(&c, 1, &a), 0);
	assert_int_equal(cl_clunk(&c, 1), 0);
	assert_int_equal(cl_walk(&c, 0, 1, "d/d/d"), 0);
	assert_int_equal(cl_mkdir(&c, 1, "e", 0700), 0);
	cl_close(&c);
}

static int xattr_create(struct cl *c, uint32_t fid, const char *name, uint64_t size, uint32_t flags)
{
	cl_begin(c, TXATTRCREATE);
	cl_n(c, 4, fid);
	cl_s(c, name);
	cl_n(c, 8, size);
	cl_n(c, 4, flags);
	return cl_send(c);
}

static int xattr_walk(struct cl *c, uint32_t fid, uint32_t newfid, const char *name)
{
	int ret;

	cl_begin(c, TXATTRWALK);
	cl_n(c, 4, fid);
	cl_n(c, 4, newfid);
	cl_s(c, name);
	ret = cl_send(c);
	return ret ? ret : (int)p9_get64(&c->ans);
}

static void extended_attributes(void **state)
{
	char buf[256];
	struct cl c;

	cl_open(&c, P9_MAPPED_XATTR, 0);
	assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
	assert_int_equal(cl_lcreate(&c, 1, "f", O_RDWR, 0600), 0);
	assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
	assert_int_equal(xattr_create(&c, 2, "user.colour", 4, XATTR_CREATE), 0);
	assert_int_equal(cl_write(&c, 2, 0, "bl", 2), 2);
	assert_int_equal(cl_write(&c, 2, 3, "ue", 2), -ENOSPC);
	assert_int_equal(cl_write(&c, 2, 2, "ue", 2), 2);
	assert_int_equal(cl_clunk(&c, 2), 0);
	assert_int_equal(xattr_walk(&c, 1, 2, "user.colour"), 4);
	assert_int_equal(cl_read(&c, 2, 0, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "blue", 4);
	assert_int_equal(cl_read(&c, 2, 4, buf, sizeof(buf)), 0);
	assert_int_equal(cl_clunk(&c, 2), 0);
	/* The list has it, and nothing of the server's own. */
	assert_int_equal(xattr_walk(&c, 1, 2, ""), 12);
	assert_int_equal(cl_read(&c, 2, 0, buf, sizeof(buf)), 12);
	assert_memory_equal(buf, "user.colour", 12);
	assert_int_equal(cl_clunk(&c, 2), 0);
	assert_int_equal(xattr_walk(&c, 1, 2, "user.virtfs.uid"), -EACCES);
	assert_int_equal(xattr_walk(&c, 1, 2, "trusted.x"), -EOPNOTSUPP);
	assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
	assert_int_equal(xattr_create(&c, 2, "user.virtfs.uid", 4, 0), 0);
	assert_int_equal(cl_write(&c, 2, 0, "\0\0\0\0", 4), 4);
	assert_int_equal(cl_clunk(&c, 2), -EACCES);
	/* Half a value is none; none with XATTR_REPLACE takes it away. */
	assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
	assert_int_equal(xattr_create(&c, 2, "user.colour", 4, 0), 0);
	assert_int_equal(cl_clunk(&c, 2), -EINVAL);
	assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
	assert_int_equal(xattr_create(&c, 2, "user.colour", 0, XATTR_REPLACE), 0);
	assert_int_equal(cl_clunk(&c, 2), 0);
	assert_int_equal(xattr_walk(&c, 1, 2, "user.colour"), -ENODATA);
	assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
	assert_int_equal(xattr_create(&c, 2, "user.colour", 65537, 0), -E2BIG);
	cl_close(&c);
}

static int lock_by(struct cl *c, const char *client, uint32_t fid, uint8_t type, uint64_t start, uint64_t len, uint32_t pid)
{
	int ret;

	cl_begin(c, TLOCK);
	cl_n(c, 4, fid);
	cl_n(c, 1, type);
	cl_n(c, 4, 0);
	cl_n(c, 8, start);
	cl_n(c, 8, len);
	cl_n(c, 4, pid);
	cl_s(c, client);
	ret = cl_send(c);
	return ret ? ret : p9_get8(&c->ans);
}

static int lock(struct cl *c, uint32_t fid, uint8_t type, uint64_t start, uint64_t len, uint32_t pid)
{
	return lock_by(c, "guest", fid, type, start, len, pid);
}

static int getlock(struct cl *c, uint32_t fid, uint8_t type, uint64_t start, uint64_t len, uint32_t pid)
{
	int ret;

	cl_begin(c, TGETLOCK);
	cl_n(c, 4, fid);
	cl_n(c, 1, type);
	cl_n(c, 8, start);
	cl_n(c, 8, len);
	cl_n(c, 4, pid);
	cl_s(c, "guest");
	ret = cl_send(c);
	return ret ? ret : p9_get8(&c->ans);
}

static void locks_are_posix(void **state)
{
	char host[66] = "";
	struct cl c;

	cl_open(&c, P9_NONE, 2);
	cl_put(&c, "f", "");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(lock(&c, 1, P9_LOCK_WRLCK, 0, 0, 1), -EBADF);
	assert_int_equal(cl_lopen(&c, 1, O_RDWR), 0);
	/* Host names have up to 64 characters. */
	memset(host, 'h', 64);
	assert_int_equal(lock_by(&c, host, 1, P9_LOCK_WRLCK, 0, 0, 1), P9_LOCK_SUCCESS);
	assert_int_equal(lock_by(&c, host, 1, P9_LOCK_UNLCK, 0, 0, 1), P9_LOCK_SUCCESS);
	host[64] = 'h';
	assert_int_equal(lock_by(&c, host, 1, P9_LOCK_WRLCK, 0, 0, 1), -ENAMETOOLONG);
	assert_int_equal(lock(&c, 1, P9_LOCK_WRLCK, 10, 20, 1), P9_LOCK_SUCCESS);
	assert_int_equal(lock(&c, 1, P9_LOCK_WRLCK, 29, 1, 2), P9_LOCK_BLOCKED);
	assert_int_equal(lock(&c, 1, P9_LOCK_WRLCK, 30, 0, 2), P9_LOCK_SUCCESS);
	/* One process's own do not conflict; the last word holds. */
	assert_int_equal(lock(&c, 1, P9_LOCK_RDLCK, 12, 4, 1), P9_LOCK_SUCCESS);
	assert_int_equal(lock(&c, 1, P9_LOCK_RDLCK, 13, 1, 3), P9_LOCK_SUCCESS);
	assert_int_equal(getlock(&c, 1, P9_LOCK_WRLCK, 12, 1, 3), P9_LOCK_RDLCK);
	assert_int_equal(p9_get64(&c.ans), 12);
	assert_int_equal(p9_get64(&c.ans), 4);
	assert_int_equal(p9_get32(&c.ans), 1);
	assert_int_equal(getlock(&c, 1, P9_LOCK_WRLCK, 100, 1, 3), P9_LOCK_WRLCK);
	assert_int_equal(p9_get64(&c.ans), 30);
	assert_int_equal(p9_get64(&c.ans), 0);
	assert_int_equal(lock(&c, 1, P9_LOCK_UNLCK, 0, 0, 2), P9_LOCK_SUCCESS);
	assert_int_equal(getlock(&c, 1, P9_LOCK_WRLCK, 100, 1, 3), P9_LOCK_UNLCK);
	/* A new session: they are gone. */
	assert_int_equal(cl_version(&c, 8192, "9P2000.L"), 0);
	assert_int_equal(cl_attach(&c, 0), 0);
	p9_drain(c.s);
	cl_close(&c);
}

static void read_only_changes_nothing(void **state)
{
	struct cl c;

	cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .readonly = true });
	cl_put(&c, "f", "text");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(cl_lopen(&c, 1, O_RDWR), -EROFS);
	assert_int_equal(cl_lopen(&c, 1, O_RDONLY | O_TRUNC), -EROFS);
	assert_int_equal(cl_mkdir(&c, 0, "d", 0700), -EROFS);
	assert_int_equal(cl_lcreate(&c, 0, "g", O_RDONLY, 0600), -EROFS);
	assert_int_equal(cl_symlink(&c, 0, "g", "f"), -EROFS);
	assert_int_equal(cl_mknod(&c, 0, "g", S_IFIFO, 0, 0), -EROFS);
	assert_int_equal(cl_link(&c, 0, 1, "g"), -EROFS);
	assert_int_equal(cl_renameat(&c, 0, "f", 0, "g"), -EROFS);
	assert_int_equal(cl_unlinkat(&c, 0, "f", 0), -EROFS);
	assert_int_equal(cl_setattr(&c, 1, P9_ATTR_MODE, 0, 0, 0, 0), -EROFS);
	assert_int_equal(xattr_create(&c, 1, "user.x", 1, 0), -EROFS);
	assert_int_equal(cl_lopen(&c, 1, O_RDONLY), 0);
	assert_int_equal(cl_write(&c, 1, 0, "x", 1), -EROFS);
	assert_int_equal(cl_walk(&c, 0, 2, "f"), 0);
	assert_int_equal(cl_remove(&c, 2), -EROFS);
	cl_close(&c);
}

/* A session of a folder that could be written to changes nothing in one that cannot. */
static void saved_sessions_are_read_only_too(void **state)
{
	uint8_t *saved;
	uint32_t len;
	struct err e;
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	cl_put(&c, "f", "");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(xattr_create(&c, 1, "user.x", 1, 0), 0);
	assert_int_equal(cl_write(&c, 1, 0, "1", 1), 1);
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	p9_reset(c.s);
	p9_drain(c.s);
	p9_free(c.s);
	assert_int_equal(p9_new(&(struct p9_opts){ .path = c.dir, .name = "test", .readonly = true }, &c.s, &e), 0);
	assert_int_equal(p9_load(c.s, saved, len, &e), -EROFS);
	assert_non_null(strstr(e.msg, "Read-only"));
	free(saved);
	cl_close(&c);
}

/* CPU time since the last call. */
static double lap(void)
{
	static double last;
	struct timespec t;
	double was = last;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	last = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	return last - was;
}

/* As many locks as there may be, and many open files. */
static void many_locks_are_saved(void **state)
{
	struct p9_flock *k;
	uint8_t *saved;
	uint32_t len;
	struct err e;
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	cl_put(&c, "f", "");
	cl_put(&c, "g", "");
	for (unsigned i = 0; i < 60000; i++) {
		assert_int_equal(cl_walk(&c, 0, 1 + i, i ? "f" : "g"), 0);
		assert_int_equal(cl_lopen(&c, 1 + i, O_RDONLY), 0);
	}
	assert_int_equal(lock(&c, 1, P9_LOCK_RDLCK, 0, 1, 1), P9_LOCK_SUCCESS);
	k = list_entry(c.s->flocks.next, struct p9_flock, node);
	for (unsigned i = 1; i < P9_MAX_LOCKS; i++) {
		struct p9_flock *other = malloc(sizeof(*other));

		*other = *k;
		other->start = other->end = 2 * i;
		list_add_tail(&c.s->flocks, &other->node);
		c.s->n_flocks++;
	}
	assert_int_equal(lock(&c, 1, P9_LOCK_RDLCK, 1u << 20, 1, 1), -ENOLCK);
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	lap();
	assert_int_equal(p9_load(c.s, saved, len, &e), 0);
	assert_true(lap() < 8);
	assert_int_equal(c.s->n_flocks, P9_MAX_LOCKS);
	free(saved);
	/* Of locks whose file is open no more, none is kept. */
	assert_int_equal(cl_clunk(&c, 1), 0);
	lap();
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	assert_true(lap() < 0.5);
	free(saved);
	cl_close(&c);
}

static void sessions_are_saved(void **state)
{
	uint8_t *saved, *copy;
	struct cl_attr a;
	char buf[16];
	uint32_t len;
	struct err e;
	struct cl c;

	cl_open(&c, P9_MAPPED_XATTR, 2);
	assert_int_equal(cl_mkdir(&c, 0, "d", 0700), 0);
	assert_int_equal(cl_walk(&c, 0, 1, "d"), 0);
	assert_int_equal(cl_walk(&c, 1, 2, ""), 0);
	assert_int_equal(cl_lcreate(&c, 2, "f", O_RDWR, 0600), 0);
	assert_int_equal(cl_write(&c, 2, 0, "abc", 3), 3);
	assert_int_equal(cl_walk(&c, 1, 3, "f"), 0);
	assert_int_equal(cl_walk(&c, 1, 4, ""), 0);
	assert_int_equal(cl_lopen(&c, 4, O_RDONLY), 0);
	/* Half of an attribute, and a lock. */
	assert_int_equal(cl_walk(&c, 1, 5, "f"), 0);
	assert_int_equal(xattr_create(&c, 5, "user.x", 4, 0), 0);
	assert_int_equal(cl_write(&c, 5, 0, "ab", 2), 2);
	assert_int_equal(lock(&c, 2, P9_LOCK_WRLCK, 1, 2, 1), P9_LOCK_SUCCESS);
	p9_drain(c.s);
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	p9_reset(c.s);
	assert_int_equal(cl_clunk(&c, 2), -EPROTO);

	assert_int_equal(p9_load(c.s, saved, len, &e), 0);
	assert_int_equal(cl_read(&c, 2, 0, buf, sizeof(buf)), 3);
	assert_int_equal(cl_write(&c, 2, 3, "d", 1), 1);
	assert_int_equal(cl_getattr(&c, 3, &a), 0);
	assert_int_equal(a.size, 4);
	assert_true(cl_readdir(&c, 4, 0, 4000) > 0);
	assert_int_equal(cl_write(&c, 5, 2, "cd", 2), 2);
	assert_int_equal(cl_clunk(&c, 5), 0);
	assert_int_equal(xattr_walk(&c, 3, 6, "user.x"), 4);
	assert_int_equal(lock(&c, 2, P9_LOCK_WRLCK, 2, 1, 2), P9_LOCK_BLOCKED);
	assert_int_equal(lock(&c, 2, P9_LOCK_WRLCK, 3, 1, 2), P9_LOCK_SUCCESS);

	/* Each byte damaged: it is refused, or makes some session, and no more. */
	copy = malloc(len);
	for (uint32_t i = 0; i < len; i++) {
		memcpy(copy, saved, len);
		copy[i] ^= (uint8_t)(1 + i * 37);
		p9_load(c.s, copy, len, &e);
		assert_true(p9_load(c.s, saved, i, &e) < 0);
	}
	free(copy);

	/* The file has gone: a handle of it is stale, an open one cannot be had. */
	assert_int_equal(cl_version(&c, 8192, "9P2000.L"), 0);
	assert_int_equal(cl_attach(&c, 0), 0);
	assert_int_equal(cl_walk(&c, 0, 1, "d/f"), 0);
	free(saved);
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	assert_int_equal(unlink(cl_path(&c, "d/f")), 0);
	assert_int_equal(p9_load(c.s, saved, len, &e), 0);
	assert_int_equal(cl_getattr(&c, 1, &a), -ESTALE);
	assert_int_equal(cl_clunk(&c, 1), 0);
	free(saved);
	assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
	assert_int_equal(cl_lcreate(&c, 1, "g", O_RDWR, 0600), 0);
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	assert_int_equal(unlink(cl_path(&c, "g")), 0);
	assert_int_equal(p9_load(c.s, saved, len, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "is not there any more"));
	assert_int_equal(cl_clunk(&c, 0), -EPROTO);
	free(saved);
	/* Open and without a name. */
	assert_int_equal(cl_version(&c, 8192, "9P2000.L"), 0);
	assert_int_equal(cl_attach(&c, 0), 0);
	assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
	assert_int_equal(cl_lcreate(&c, 1, "h", O_RDWR, 0600), 0);
	assert_int_equal(cl_unlinkat(&c, 0, "h", 0), 0);
	assert_int_equal(p9_save(c.s, &saved, &len), -EBUSY);
	cl_close(&c);
}

/* A client names its files as it likes; what the host's user reads of them moves no cursor and begins no line. */
static void names_in_messages_are_shown_plainly(void **state)
{
	uint8_t *saved;
	uint32_t len;
	struct err e;
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	assert_int_equal(cl_mkdir(&c, 0, "a\n\33[2J\x7f\u00e4", 0700), 0);
	assert_int_equal(cl_walk(&c, 0, 1, "a\n\33[2J\x7f\u00e4"), 0);
	assert_int_equal(cl_lcreate(&c, 1, "f", O_RDWR, 0600), 0);
	assert_int_equal(p9_save(c.s, &saved, &len), 0);
	assert_int_equal(unlink(cl_path(&c, "a\n\33[2J\x7f\u00e4/f")), 0);
	assert_int_equal(p9_load(c.s, saved, len, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "('a??[2J?\u00e4..."));
	free(saved);
	cl_close(&c);
}

/* Messages that end in the middle, at every byte, and numbers that are nobody's. */
static void damaged_messages_are_errors(void **state)
{
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	for (unsigned type = 0; type < 256; type++) {
		for (unsigned len = 0; len < 24; len++) {
			if (type == TVERSION || type == TFLUSH)
				continue;
			cl_begin(&c, (uint8_t)type);
			memset(c.p, 0xee, len);
			c.p += len;
			assert_true(cl_send(&c) < 0);
		}
	}
	assert_int_equal(cl_walk(&c, 0, 1, "x"), -ENOENT);
	cl_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(version_is_negotiated),
		cmocka_unit_test(files_are_made_written_and_read),
		cmocka_unit_test(kinds_owners_and_modes),
		cmocka_unit_test(attributes_change),
		cmocka_unit_test(folders_are_read_in_pieces),
		cmocka_unit_test(renaming_takes_fids_along),
		cmocka_unit_test(open_files_outlive_their_names),
		cmocka_unit_test(renaming_a_file_onto_itself),
		cmocka_unit_test(taken_away_files_are_bounded),
		cmocka_unit_test(known_files_are_bounded),
		cmocka_unit_test(extended_attributes),
		cmocka_unit_test(locks_are_posix),
		cmocka_unit_test(read_only_changes_nothing),
		cmocka_unit_test(sessions_are_saved),
		cmocka_unit_test(saved_sessions_are_read_only_too),
		cmocka_unit_test(many_locks_are_saved),
		cmocka_unit_test(names_in_messages_are_shown_plainly),
		cmocka_unit_test(damaged_messages_are_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
