// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A seeded load on a folder, that is the same wherever it runs: what each call did is
 * printed, so that two runs on two file systems can be compared line by line, and the
 * folders afterwards.
 *
 *	progfs tree DIR SEED COUNT	fsstress's kind: files, folders, links of all kinds made, renamed, taken away,
 *					read, written, cut, listed, with attributes
 *	progfs file DIR SEED COUNT	fsx's kind: one file, written, read and cut in random pieces by two descriptors and
 *					a private mapping, against a copy in memory; status 1 at the first difference
 *	progfs hash DIR			what is in the folder: names, kinds, modes, links, contents
 *	progfs lock DIR N		N processes add to a counter under a lock; the sum is printed
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static uint64_t state;

static unsigned rnd(unsigned n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(state >> 33) % n;
}

static uint64_t fnv(uint64_t h, const void *p, size_t len)
{
	const uint8_t *b = p;

	while (len--)
		h = (h ^ *b++) * 0x100000001b3ull;
	return h;
}

static void fill(uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(state >> (i % 8 * 8)) ^ (uint8_t)(i * 7);
}

/* ---- tree ---- */

/* A place in a tree of few names, so that calls meet. */
static const char *place(char *buf)
{
	unsigned depth = rnd(4), n = 0;

	for (unsigned i = 0; i < depth; i++)
		n += (unsigned)sprintf(buf + n, "d%u/", rnd(3));
	sprintf(buf + n, "%c%u", "fdl"[rnd(3)], rnd(4));
	return buf;
}

static int report(const char *what, const char *a, long ret)
{
	printf("%s %s %ld\n", what, a, ret < 0 ? -(long)errno : ret);
	return (int)ret;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names of a folder; the number. */
static int list(const char *path, char **names, int max)
{
	DIR *d = opendir(path);
	struct dirent *e;
	int n = 0;

	if (!d)
		return -1;
	while ((e = readdir(d)) && n < max)
		names[n++] = strdup(e->d_name);
	closedir(d);
	qsort(names, (size_t)n, sizeof(names[0]), by_name);
	return n;
}

static void do_list(const char *path)
{
	char *names[256];
	int n = list(path, names, 256);
	uint64_t h = 0;

	report("list", path, n);
	for (int i = 0; i < n; i++) {
		h = fnv(h, names[i], strlen(names[i]));
		free(names[i]);
	}
	if (n >= 0)
		printf(" %016llx\n", (unsigned long long)h);
}

static void do_stat(const char *path)
{
	struct stat st;

	if (report("stat", path, lstat(path, &st)))
		return;
	printf(" %o %ld %ld\n", st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size, S_ISDIR(st.st_mode) ? 0 : (long)st.st_nlink);
}

static void do_write(const char *path, int flags)
{
	static uint8_t buf[40000];
	size_t len = rnd(sizeof(buf));
	off_t off = rnd(60000);
	int fd = open(path, O_RDWR | O_CREAT | flags, 0600 | rnd(0100));

	if (report("open", path, fd < 0 ? -1 : 0))
		return;
	fill(buf, len);
	report("write", path, flags & O_APPEND ? write(fd, buf, len) : pwrite(fd, buf, len, off));
	if (rnd(4) == 0)
		report("fsync", path, fsync(fd));
	if (rnd(4) == 0)
		report("ftruncate", path, ftruncate(fd, rnd(80000)));
	close(fd);
}

static void do_read(const char *path)
{
	static uint8_t buf[100000];
	ssize_t n;
	int fd = open(path, O_RDONLY | O_NOFOLLOW);

	if (report("open-r", path, fd < 0 ? -1 : 0))
		return;
	n = read(fd, buf, sizeof(buf));
	report("read", path, n);
	if (n > 0)
		printf(" %016llx\n", (unsigned long long)fnv(0, buf, (size_t)n));
	close(fd);
}

/* Goes on with a file that has lost its name. */
static void do_orphan(const char *path)
{
	char buf[8] = "";
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0644);

	if (report("orphan", path, fd < 0 ? -1 : 0))
		return;
	report("unlink", path, unlink(path));
	report("write", path, write(fd, "orphan", 6));
	report("pread", path, pread(fd, buf, 6, 0));
	printf(" %s\n", buf);
	close(fd);
}

static void do_xattr(const char *path)
{
	char name[32], val[64];
	ssize_t n;

	sprintf(name, "user.n%u", rnd(3));
	switch (rnd(3)) {
	case 0:
		fill((uint8_t *)val, sizeof(val));
		report("setxattr", path, setxattr(path, name, val, 1 + rnd(60), 0));
		break;
	case 1: report("removexattr", path, removexattr(path, name)); break;
	default:
		n = getxattr(path, name, val, sizeof(val));
		report("getxattr", path, n);
		if (n > 0)
			printf(" %016llx\n", (unsigned long long)fnv(0, val, (size_t)n));
	}
}

static void step(void)
{
	struct timespec t[2] = { { .tv_sec = 1000 + rnd(1000) }, { .tv_sec = 1000 + rnd(1000) } };
	char a[64], b[64], text[PATH_MAX];
	ssize_t n;

	place(a);
	switch (rnd(24)) {
	case 0:
	case 1:
	case 2: report("mkdir", a, mkdir(a, 0700 | rnd(0100))); break;
	case 3: report("rmdir", a, rmdir(a)); break;
	case 4:
	case 5:
	case 6: do_write(a, 0); break;
	case 7: do_write(a, O_TRUNC); break;
	case 8: do_write(a, O_APPEND); break;
	case 9: do_write(a, O_EXCL); break;
	case 10:
	case 11: do_read(a); break;
	case 12: report("unlink", a, unlink(a)); break;
	case 13:
	case 14: report("rename", a, rename(a, place(b))); break;
	case 15: report("link", a, link(a, place(b))); break;
	case 16: report("symlink", a, symlink(place(b), a)); break;
	case 17:
		n = readlink(a, text, sizeof(text) - 1);
		report("readlink", a, n);
		if (n > 0)
			printf(" %.*s\n", (int)n, text);
		break;
	case 18: do_list(a); break;
	case 19: do_stat(a); break;
	case 20: report("chmod", a, chmod(a, 0700 | rnd(0100))); break;
	case 21:
		if (!report("utimes", a, utimensat(AT_FDCWD, a, t, AT_SYMLINK_NOFOLLOW)))
			do_stat(a);
		break;
	case 22: do_orphan(a); break;
	default: do_xattr(a); break;
	}
}

static int tree(unsigned count)
{
	umask(0);
	while (count--)
		step();
	return 0;
}

/* ---- hash ---- */

static void hash(const char *path)
{
	static uint8_t buf[65536];
	char text[PATH_MAX], *names[4096];
	struct stat st;
	uint64_t h = 0;
	ssize_t n;
	int fd;

	if (lstat(path, &st)) {
		printf("%s: error %d\n", path, errno);
		return;
	}
	printf("%s %o %ld %ld %ld", path, st.st_mode, S_ISDIR(st.st_mode) ? 0 : (long)st.st_nlink, S_ISDIR(st.st_mode) ? 0 : (long)st.st_size,
	       (long)(st.st_mtim.tv_sec < 3000 ? st.st_mtim.tv_sec : 0));
	if (S_ISREG(st.st_mode)) {
		fd = open(path, O_RDONLY);
		while ((n = read(fd, buf, sizeof(buf))) > 0)
			h = fnv(h, buf, (size_t)n);
		printf(" %016llx", (unsigned long long)h);
		close(fd);
	} else if (S_ISLNK(st.st_mode)) {
		n = readlink(path, text, sizeof(text) - 1);
		printf(" -> %.*s", (int)n, text);
	}
	putchar('\n');
	if (!S_ISDIR(st.st_mode))
		return;
	n = list(path, names, 4096);
	for (int i = 0; i < n; i++) {
		if (strcmp(names[i], ".") && strcmp(names[i], "..") && snprintf(text, sizeof(text), "%s/%s", path, names[i]) < (int)sizeof(text))
			hash(text);
		free(names[i]);
	}
}

/* ---- file ---- */

#define FILE_MAX 262144

struct twin {
	uint8_t want[FILE_MAX], got[FILE_MAX];
	size_t size;
	int fd[2];
};

static int differ(struct twin *t, const char *what, size_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (t->got[i] != t->want[off + i]) {
			printf("%s: byte %zu is %02x, not %02x (file of %zu)\n", what, off + i, t->got[i], t->want[off + i], t->size);
			return 1;
		}
	return 0;
}

static int file_step(struct twin *t)
{
	size_t off = rnd(FILE_MAX), len = rnd(rnd(2) ? 65536 : 600), n;
	int fd = t->fd[rnd(2)];
	struct stat st;
	uint8_t *map;

	len = off + len > FILE_MAX ? FILE_MAX - off : len;
	switch (rnd(6)) {
	case 0:
	case 1:
		fill(t->want + off, len);
		if (len && off > t->size)
			memset(t->want + t->size, 0, off - t->size);
		if (pwrite(fd, t->want + off, len, (off_t)off) != (ssize_t)len)
			return printf("write: %s\n", strerror(errno)), 1;
		t->size = len && off + len > t->size ? off + len : t->size;
		return 0;
	case 2:
		if (ftruncate(fd, (off_t)off))
			return printf("truncate: %s\n", strerror(errno)), 1;
		if (off > t->size)
			memset(t->want + t->size, 0, off - t->size);
		t->size = off;
		return 0;
	case 3:
		if (fstat(fd, &st) || (size_t)st.st_size != t->size)
			return printf("size: %ld, not %zu\n", (long)st.st_size, t->size), 1;
		return rnd(8) ? 0 : fsync(fd);
	case 4:
		if (!t->size)
			return 0;
		map = mmap(NULL, t->size, PROT_READ, MAP_PRIVATE, fd, 0);
		if (map == MAP_FAILED)
			return 0;
		off %= t->size;
		n = off + len > t->size ? t->size - off : len;
		memcpy(t->got, map + off, n);
		munmap(map, t->size);
		return differ(t, "mapping", off, n);
	default:
		n = off >= t->size ? 0 : off + len > t->size ? t->size - off : len;
		if (pread(fd, t->got, len, (off_t)off) != (ssize_t)n)
			return printf("read of %zu at %zu: not %zu bytes of %zu\n", len, off, n, t->size), 1;
		return differ(t, "read", off, n);
	}
}

static int file(unsigned count)
{
	struct twin *t = calloc(1, sizeof(*t));
	int ret = 0;

	t->fd[0] = open("fsx", O_RDWR | O_CREAT | O_TRUNC, 0600);
	t->fd[1] = open("fsx", O_RDWR);
	if (t->fd[0] < 0 || t->fd[1] < 0)
		return 1;
	for (unsigned i = 0; i < count && !ret; i++) {
		ret = file_step(t);
		if (ret)
			printf("step %u\n", i);
	}
	printf("file %s\n", ret ? "DIFFERS" : "is as it should be");
	return ret;
}

/* ---- lock ---- */

static int count_up(unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char text[16] = "";
		int fd = open("counter", O_RDWR | O_CREAT, 0600);
		struct flock k = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

		if (fd < 0 || fcntl(fd, F_SETLKW, &k) || pread(fd, text, 15, 0) < 0)
			return 1;
		sprintf(text, "%d", atoi(text) + 1);
		if (pwrite(fd, text, strlen(text), 0) < 0)
			return 1;
		close(fd);
	}
	return 0;
}

static int lock(unsigned n)
{
	int bad = 0, status;

	for (unsigned i = 0; i < n; i++)
		if (!fork())
			_exit(count_up(50));
	while (wait(&status) > 0)
		bad |= status;
	printf("lock %s\n", bad ? "FAILED" : "ended");
	return bad != 0;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	unsigned n = argc > 3 ? (unsigned)atoi(argv[argc - 1]) : 0;

	if (argc < 3 || chdir(argv[2])) {
		fprintf(stderr, "usage: progfs tree|file DIR SEED COUNT, hash DIR, lock DIR N\n");
		return 2;
	}
	state = argc > 3 ? strtoull(argv[3], NULL, 0) * 7919 + 1 : 1;
	setvbuf(stdout, NULL, _IOFBF, 65536);
	if (!strcmp(what, "hash"))
		return hash("."), 0;
	return !strcmp(what, "tree") ? tree(n) : !strcmp(what, "file") ? file(n) : !strcmp(what, "lock") ? lock(n) : 2;
}
