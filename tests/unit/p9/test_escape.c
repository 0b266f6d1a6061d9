// SPDX-License-Identifier: GPL-2.0-or-later
/* Nobody gets out of the shared folder: by names, links, devices, what the security models keep, and races with the host. */
#include "p9_client.h"

#include <stdatomic.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>

#define RACE_MS 300

/* The folder beside the share, with one file in it. */
struct out {
	char dir[96], secret[128];
	struct stat was;
};

static void out_make(struct cl *c, struct out *o)
{
	FILE *f;

	snprintf(o->dir, sizeof(o->dir), "%s-outside", c->dir);
	snprintf(o->secret, sizeof(o->secret), "%s/secret", o->dir);
	assert_int_equal(mkdir(o->dir, 0755), 0);
	f = fopen(o->secret, "w");
	fputs("secret", f);
	fclose(f);
	assert_int_equal(stat(o->secret, &o->was), 0);
}

/* It is as it was, and alone; then it goes. */
static void out_check(struct out *o)
{
	struct stat st;

	assert_int_equal(stat(o->secret, &st), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(st.st_mode, o->was.st_mode);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(st.st_uid, o->was.st_uid);
	assert_int_equal(st.st_ctim.tv_sec, o->was.st_ctim.tv_sec);
	assert_int_equal(st.st_ctim.tv_nsec, o->was.st_ctim.tv_nsec);
	assert_int_equal(unlink(o->secret), 0);
	assert_int_equal(rmdir(o->dir), 0);
}

static void names_are_single_components(void **state)
{
	static const char *const bad[] = { "..", ".", "", "a/b", "/etc", "../x", "sub/..", "/" };
	char path[512];
	struct cl_attr root, a;
	struct cl c;

	cl_open(&c, P9_NONE, 0);
	assert_int_equal(cl_mkdir(&c, 0, "sub", 0755), 0);
	cl_put(&c, "f", "x");
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(cl_walk(&c, 0, 8, "sub"), 0);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(cl_mkdir(&c, 0, bad[i], 0755) < 0);
		assert_true(cl_symlink(&c, 0, bad[i], "f") < 0);
		assert_true(cl_mknod(&c, 0, bad[i], S_IFREG, 0, 0) < 0);
		assert_true(cl_link(&c, 0, 1, bad[i]) < 0);
		assert_true(cl_renameat(&c, 0, "f", 8, bad[i]) < 0);
		assert_true(cl_renameat(&c, 8, bad[i], 0, "g") < 0);
		assert_true(cl_unlinkat(&c, 8, bad[i], 0) < 0);
		assert_true(cl_unlinkat(&c, 8, bad[i], P9_AT_REMOVEDIR) < 0);
		assert_int_equal(cl_walk(&c, 0, 2, ""), 0);
		assert_true(cl_lcreate(&c, 2, bad[i], O_RDWR, 0644) < 0);
		assert_int_equal(cl_clunk(&c, 2), 0);
	}
	/* A NUL in a name, and one that is too long. */
	cl_begin(&c, TMKDIR);
	cl_n(&c, 4, 0);
	cl_n(&c, 2, 3);
	memcpy(c.p, "a\0b", 3);
	c.p += 3;
	cl_n(&c, 4, 0755);
	cl_n(&c, 4, 0);
	assert_int_equal(cl_send(&c), -EINVAL);
	memset(path, 'n', 256);
	path[256] = '\0';
	assert_int_equal(cl_mkdir(&c, 0, path, 0755), -ENAMETOOLONG);
	/* Above the root is the root. */
	assert_int_equal(cl_getattr(&c, 0, &root), 0);
	assert_int_equal(cl_walk(&c, 0, 2, "../../../.."), 0);
	assert_int_equal(cl_getattr(&c, 2, &a), 0);
	assert_int_equal(a.path, root.path);
	assert_int_equal(cl_walk(&c, 0, 3, "sub/../../sub/.."), 0);
	assert_int_equal(cl_getattr(&c, 3, &a), 0);
	assert_int_equal(a.path, root.path);
	/* So it is for those who look at the entries. */
	assert_int_equal(cl_lopen(&c, 2, O_RDONLY), 0);
	assert_true(cl_readdir(&c, 2, 0, 8000) > 0);
	while (c.ans.p != c.ans.end) {
		uint64_t ino;
		char name[P9_NAME];

		p9_get8(&c.ans);
		p9_get32(&c.ans);
		ino = p9_get64(&c.ans);
		p9_get64(&c.ans);
		p9_get8(&c.ans);
		p9_get_text(&c.ans, name, sizeof(name));
		if (!strcmp(name, ".."))
			assert_int_equal(ino, root.path);
	}
	cl_close(&c);
}

static void links_are_not_followed(void **state)
{
	for (unsigned plain = 0; plain < 2; plain++) {
		struct cl_attr a;
		struct out o;
		struct cl c;
		char text[64];

		cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .plain_open = plain });
		out_make(&c, &o);
		/* Made by the host, by the guest, absolute and relative, to a file and to a folder. */
		assert_int_equal(symlink(o.secret, cl_path(&c, "file")), 0);
		assert_int_equal(cl_symlink(&c, 0, "dir", o.dir), 0);
		assert_int_equal(cl_symlink(&c, 0, "up", ".."), 0);
		assert_int_equal(cl_walk(&c, 0, 9, "dir/secret"), -ENOENT);
		assert_int_equal(cl_walk(&c, 0, 9, "up"), 0);
		assert_int_equal(cl_walk(&c, 9, 8, "etc"), -ENOTDIR);
		assert_int_equal(cl_mkdir(&c, 9, "x", 0755), -ENOTDIR);
		assert_int_equal(cl_unlinkat(&c, 9, "x", 0), -ENOTDIR);
		assert_int_equal(cl_walk(&c, 0, 1, "file"), 0);
		assert_int_equal(cl_getattr(&c, 1, &a), 0);
		assert_true(S_ISLNK(a.mode));
		assert_int_equal(cl_readlink(&c, 1, text, sizeof(text)), 0);
		assert_int_equal(cl_lopen(&c, 1, O_RDONLY), -ENXIO);
		assert_int_equal(cl_walk(&c, 0, 3, ""), 0);
		assert_int_equal(cl_lcreate(&c, 3, "file", O_RDWR | O_TRUNC, 0644), -ENXIO);
		assert_true(cl_setattr(&c, 1, P9_ATTR_SIZE, 0, 0, 0, 0) < 0);
		/* The link's own times and owner, if anything. */
		assert_int_equal(cl_setattr(&c, 1, P9_ATTR_MODE, 0, 0, 0, 0), 0);
		cl_setattr(&c, 1, P9_ATTR_UID | P9_ATTR_GID, 0, geteuid(), getegid(), 0);
		assert_int_equal(cl_setattr(&c, 1, P9_ATTR_MTIME | P9_ATTR_MTIME_SET, 0, 0, 0, 0), 0);
		assert_int_equal(cl_getattr(&c, 1, &a), 0);
		assert_int_equal(a.mtime, 1000001);
		/* A hard link to a link is one to the link. */
		assert_int_equal(cl_link(&c, 0, 1, "hard"), 0);
		assert_int_equal(cl_walk(&c, 0, 4, "hard"), 0);
		assert_int_equal(cl_getattr(&c, 4, &a), 0);
		assert_true(S_ISLNK(a.mode));
		assert_int_equal(a.nlink, 2);
		/* What is renamed or taken away is the link. */
		assert_int_equal(cl_renameat(&c, 0, "file", 0, "other"), 0);
		assert_int_equal(cl_remove(&c, 1), 0);
		assert_int_equal(cl_unlinkat(&c, 0, "hard", 0), 0);
		out_check(&o);
		cl_close(&c);
	}
}

static void nothing_but_files_and_folders_is_opened(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	static const char *const names[] = { "fifo", "sock", "chr" };
	struct cl c;
	int s;

	cl_open(&c, P9_NONE, 0);
	assert_int_equal(mkfifo(cl_path(&c, "fifo"), 0666), 0);
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/sock", c.dir);
	assert_int_equal(bind(s, (struct sockaddr *)&sa, sizeof(sa)), 0);
	/* /dev/zero would give bytes if it were opened. */
	if (mknod(cl_path(&c, "chr"), S_IFCHR | 0666, makedev(1, 5)))
		assert_int_equal(mkfifo(cl_path(&c, "chr"), 0666), 0);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		char buf[8];

		assert_int_equal(cl_walk(&c, 0, 1, names[i]), 0);
		assert_int_equal(cl_lopen(&c, 1, O_RDONLY), -ENXIO);
		assert_int_equal(cl_lopen(&c, 1, O_RDWR), -ENXIO);
		assert_int_equal(cl_read(&c, 1, 0, buf, 8), -EBADF);
		assert_true(cl_setattr(&c, 1, P9_ATTR_SIZE, 0, 0, 0, 0) < 0);
		assert_int_equal(cl_walk(&c, 0, 2, ""), 0);
		assert_int_equal(cl_lcreate(&c, 2, names[i], O_WRONLY, 0644), -ENXIO);
		assert_int_equal(cl_clunk(&c, 2), 0);
		assert_int_equal(cl_clunk(&c, 1), 0);
	}
	close(s);
	cl_close(&c);
}

/* What the attributes say of kinds is foreign data. */
static void mapped_kinds_do_not_make_folders(void **state)
{
	uint8_t mode[4];
	struct cl_attr a;
	struct cl c;

	cl_open(&c, P9_MAPPED_XATTR, 0);
	cl_put(&c, "f", "/etc");
	assert_int_equal(mkdir(cl_path(&c, "d"), 0700), 0);
	st_le32(mode, S_IFDIR | 0755);
	assert_int_equal(setxattr(cl_path(&c, "f"), "user.virtfs.mode", mode, 4, 0), 0);
	assert_int_equal(cl_walk(&c, 0, 1, "f"), 0);
	assert_int_equal(cl_getattr(&c, 1, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_int_equal(cl_walk(&c, 1, 2, "passwd"), -ENOTDIR);
	st_le32(mode, S_IFBLK | 0600);
	assert_int_equal(setxattr(cl_path(&c, "d"), "user.virtfs.mode", mode, 4, 0), 0);
	assert_int_equal(cl_walk(&c, 0, 3, "d"), 0);
	assert_int_equal(cl_getattr(&c, 3, &a), 0);
	assert_int_equal(a.mode, S_IFDIR | 0600);
	/* A link's text with a NUL in it is no text. */
	cl_put(&c, "l", "");
	assert_int_equal(truncate(cl_path(&c, "l"), 5), 0);
	st_le32(mode, S_IFLNK | 0777);
	assert_int_equal(setxattr(cl_path(&c, "l"), "user.virtfs.mode", mode, 4, 0), 0);
	assert_int_equal(cl_walk(&c, 0, 4, "l"), 0);
	assert_int_equal(cl_readlink(&c, 4, (char[64]){ 0 }, 64), -EINVAL);
	cl_close(&c);
}

static void metadata_is_out_of_reach(void **state)
{
	static const char *const names[] = { ".virtfs_metadata", ".virtfs_metadata_root" };
	struct out o;
	struct cl c;

	cl_open(&c, P9_MAPPED_FILE, 0);
	out_make(&c, &o);
	assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
	assert_int_equal(cl_lcreate(&c, 1, "f", O_RDWR, 0600), 0);
	assert_int_equal(access(cl_path(&c, ".virtfs_metadata/f"), F_OK), 0);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(cl_walk(&c, 0, 2, names[i]), -ENOENT);
		assert_int_equal(cl_mkdir(&c, 0, names[i], 0700), -EINVAL);
		assert_int_equal(cl_symlink(&c, 0, names[i], "/"), -EINVAL);
		assert_int_equal(cl_renameat(&c, 0, "f", 0, names[i]), -EINVAL);
		assert_int_equal(cl_renameat(&c, 0, names[i], 0, "g"), -EINVAL);
		assert_int_equal(cl_unlinkat(&c, 0, names[i], P9_AT_REMOVEDIR), -ENOENT);
		assert_int_equal(cl_link(&c, 0, 1, names[i]), -EINVAL);
	}
	/* Nor is a link in its place followed. */
	assert_int_equal(cl_unlinkat(&c, 0, "f", 0), 0);
	assert_int_equal(rmdir(cl_path(&c, ".virtfs_metadata")), 0);
	assert_int_equal(symlink(o.dir, cl_path(&c, ".virtfs_metadata")), 0);
	assert_true(cl_mkdir(&c, 0, "secret", 0700) < 0);
	out_check(&o);
	cl_close(&c);
}

/* Others may have put there what they like: what is no regular file is not even opened. */
static void odd_metadata_is_not_opened(void **state)
{
	static const char *const names[] = { ".virtfs_metadata/f", ".virtfs_metadata_root" };
	struct cl_attr a;
	char event[512];
	struct cl c;
	int watch;

	cl_open(&c, P9_MAPPED_FILE, 0);
	cl_put(&c, "f", "");
	assert_int_equal(mkdir(cl_path(&c, ".virtfs_metadata"), 0700), 0);
	watch = inotify_init1(IN_NONBLOCK);
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(mkfifo(cl_path(&c, names[i]), 0600), 0);
		assert_true(inotify_add_watch(watch, cl_path(&c, names[i]), IN_OPEN) >= 0);
		assert_int_equal(cl_walk(&c, 0, 1, i ? "" : "f"), 0);
		assert_int_equal(cl_getattr(&c, 1, &a), 0);
		assert_int_equal(cl_setattr(&c, 1, P9_ATTR_MODE, 0700, 0, 0, 0), -ENXIO);
		assert_int_equal(cl_clunk(&c, 1), 0);
	}
	assert_int_equal(read(watch, event, sizeof(event)), -1);
	assert_int_equal(errno, EAGAIN);
	close(watch);
	cl_close(&c);
}

/* ---- races ---- */

struct race {
	struct cl *c;
	char a[512], b[512];
	atomic_bool stop;
	unsigned swaps;
};

static void *swap(void *opaque)
{
	struct race *r = opaque;

	while (!r->stop) {
		if (renameat2(AT_FDCWD, r->a, AT_FDCWD, r->b, RENAME_EXCHANGE))
			break;
		r->swaps++;
	}
	return NULL;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* What `d` is changes all the time between a folder and a link to the one outside, both with a "secret" in it. */
static void swapped_folders_lead_nowhere(void **state)
{
	for (unsigned how = 0; how < 3; how++) {
		unsigned inside = 0, refused = 0;
		struct cl_attr dir, a;
		struct race r = { 0 };
		pthread_t t;
		struct out o;
		struct cl c;
		int64_t end;

		cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .plain_open = how == 1, .max_fds = how == 2 ? 1 : 64 });
		out_make(&c, &o);
		r.c = &c;
		snprintf(r.a, sizeof(r.a), "%s/d", c.dir);
		snprintf(r.b, sizeof(r.b), "%s/e", c.dir);
		assert_int_equal(mkdir(r.a, 0755), 0);
		assert_int_equal(symlink(o.dir, r.b), 0);
		assert_int_equal(cl_walk(&c, 0, 1, "d"), 0);
		assert_int_equal(cl_getattr(&c, 1, &dir), 0);
		assert_int_equal(cl_clunk(&c, 1), 0);
		assert_int_equal(pthread_create(&t, NULL, swap, &r), 0);
		for (end = now_ms() + RACE_MS; now_ms() < end;) {
			if (cl_walk(&c, 0, 1, "d")) {
				refused++;
				continue;
			}
			/* Whatever it is, it is not the one outside. */
			if (!cl_getattr(&c, 1, &a)) {
				assert_true(S_ISLNK(a.mode) || a.path == dir.path);
				inside += S_ISDIR(a.mode);
			}
			if (!cl_walk(&c, 1, 2, "secret"))
				fail_msg("the file outside was reached");
			cl_mkdir(&c, 1, "new", 0700);
			cl_unlinkat(&c, 1, "secret", 0);
			cl_renameat(&c, 1, "secret", 0, "stolen");
			cl_unlinkat(&c, 1, "new", P9_AT_REMOVEDIR);
			assert_int_equal(cl_clunk(&c, 1), 0);
		}
		r.stop = true;
		pthread_join(t, NULL);
		if (r.swaps)
			assert_true(inside > 0);
		assert_int_equal(access(cl_path(&c, "stolen"), F_OK), -1);
		out_check(&o);
		cl_close(&c);
	}
}

/* A file and a pipe, or a link to the file outside, change places while it is opened: nobody hangs, nobody gets it. */
static void swapped_files_are_what_they_were(void **state)
{
	for (unsigned how = 0; how < 2; how++) {
		unsigned opened = 0;
		struct race r = { 0 };
		pthread_t t;
		struct out o;
		struct cl c;
		int64_t end;

		cl_open(&c, P9_NONE, 0);
		out_make(&c, &o);
		r.c = &c;
		snprintf(r.a, sizeof(r.a), "%s/f", c.dir);
		snprintf(r.b, sizeof(r.b), "%s/g", c.dir);
		cl_put(&c, "f", "inside");
		assert_int_equal(how ? symlink(o.secret, r.b) : mkfifo(r.b, 0666), 0);
		assert_int_equal(pthread_create(&t, NULL, swap, &r), 0);
		for (end = now_ms() + RACE_MS; now_ms() < end;) {
			char buf[16];
			int ret;

			assert_int_equal(cl_walk(&c, 0, 1, ""), 0);
			ret = cl_lcreate(&c, 1, "f", O_RDWR, 0644);
			if (!ret) {
				opened++;
				assert_int_equal(cl_read(&c, 1, 0, buf, sizeof(buf)), 6);
				assert_memory_equal(buf, "inside", 6);
				assert_int_equal(cl_write(&c, 1, 0, "inside", 6), 6);
			} else {
				assert_true(ret == -ENXIO || ret == -ESTALE);
			}
			assert_int_equal(cl_clunk(&c, 1), 0);
		}
		r.stop = true;
		pthread_join(t, NULL);
		assert_true(opened > 0);
		out_check(&o);
		cl_close(&c);
	}
}

/* A folder above is replaced by a link after its descriptor was given back: it is stale, not elsewhere. */
static void reopening_checks_again(void **state)
{
	char from[512];
	struct cl_attr a;
	struct out o;
	struct cl c;

	cl_open_with(&c, (struct p9_opts){ .model = P9_NONE, .max_fds = 1 });
	out_make(&c, &o);
	assert_int_equal(mkdir(cl_path(&c, "d"), 0755), 0);
	assert_int_equal(mkdir(cl_path(&c, "d/sub"), 0755), 0);
	cl_put(&c, "d/sub/f", "x");
	cl_put(&c, "other", "");
	assert_int_equal(cl_walk(&c, 0, 1, "d/sub/f"), 0);
	assert_int_equal(cl_walk(&c, 0, 2, "d/sub"), 0);
	assert_int_equal(cl_walk(&c, 0, 3, "other"), 0);
	assert_int_equal(cl_getattr(&c, 3, &a), 0);
	snprintf(from, sizeof(from), "%s/d", c.dir);
	assert_int_equal(rename(from, cl_path(&c, "moved")), 0);
	assert_int_equal(symlink(o.dir, from), 0);
	assert_int_equal(cl_getattr(&c, 1, &a), -ESTALE);
	assert_int_equal(cl_lopen(&c, 1, O_RDONLY), -ESTALE);
	assert_int_equal(cl_mkdir(&c, 2, "x", 0700), -ESTALE);
	assert_int_equal(cl_unlinkat(&c, 2, "f", 0), -ESTALE);
	out_check(&o);
	cl_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_single_components),
		cmocka_unit_test(links_are_not_followed),
		cmocka_unit_test(nothing_but_files_and_folders_is_opened),
		cmocka_unit_test(mapped_kinds_do_not_make_folders),
		cmocka_unit_test(metadata_is_out_of_reach),
		cmocka_unit_test(odd_metadata_is_not_opened),
		cmocka_unit_test(swapped_folders_lead_nowhere),
		cmocka_unit_test(swapped_files_are_what_they_were),
		cmocka_unit_test(reopening_checks_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
