// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files that the loaders read: regular files by pread, anything that cannot
 * seek (a pipe, /dev/fd/N) collected in memory first.  The file may change or
 * shrink while it is read; that is an error, never a fault (nothing is mapped).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "platform/x86/boot.h"

/* A pipe larger than this is no boot image. */
#define PIPE_MAX (1ull << 32)

static int slurp(struct boot_file *f, struct err *e)
{
	size_t cap = 1 << 20, len = 0;
	uint8_t *buf = malloc(cap), *bigger;
	ssize_t n;

	for (;;) {
		if (!buf)
			return err_set(e, -ENOMEM, "%s %s: out of memory", f->what, f->path);
		n = read(f->fd, buf + len, cap - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (len < cap)
			continue;
		if (cap >= PIPE_MAX) {
			free(buf);
			return err_set(e, -EFBIG, "%s %s: more than %llu GiB come out of it", f->what, f->path, PIPE_MAX >> 30);
		}
		bigger = realloc(buf, cap * 2);
		if (!bigger)
			free(buf);
		buf = bigger;
		cap *= 2;
	}
	if (n < 0) {
		n = -errno;
		free(buf);
		return err_set(e, (int)n, "%s %s: read failed: %s", f->what, f->path, strerror((int)-n));
	}
	close(f->fd);
	f->fd = -1;
	f->data = buf;
	f->data_owned = true;
	f->size = len;
	return 0;
}

int boot_file_open(struct boot_file *f, const char *path, const char *what, struct err *e)
{
	struct stat st;
	int r;

	*f = (struct boot_file){ .path = path, .what = what };
	f->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (f->fd < 0) {
		r = -errno;
		return err_set(e, r, "%s %s: %s", what, path, strerror(-r));
	}
	if (fstat(f->fd, &st) < 0) {
		r = err_set(e, -errno, "%s %s: %s", what, path, strerror(errno));
		goto fail;
	}
	if (S_ISDIR(st.st_mode)) {
		r = err_set(e, -EISDIR, "%s %s: is a directory, not a file", what, path);
		goto fail;
	}
	f->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (!S_ISREG(st.st_mode)) {
		r = slurp(f, e);
		if (r < 0)
			goto fail;
	}
	if (!f->size) {
		r = err_set(e, -ENOEXEC, "%s %s: the file is empty", what, path);
		goto fail;
	}
	return 0;
fail:
	boot_file_close(f);
	return r;
}

void boot_file_of_memory(struct boot_file *f, const char *path, const char *what, void *data, size_t len)
{
	*f = (struct boot_file){ .path = path, .what = what, .fd = -1, .data = data, .size = len };
}

void boot_file_close(struct boot_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->data_owned)
		free(f->data);
	f->fd = -1;
	f->data = NULL;
	f->data_owned = false;
}

int boot_file_read(const struct boot_file *f, uint64_t off, void *buf, uint64_t len, struct err *e)
{
	uint8_t *p = buf;
	ssize_t n;

	if (!range_inside(off, len, f->size))
		return err_set(e, -ENOEXEC, "%s %s: truncated: %llu bytes are needed, the file has %llu", f->what,
			       f->path, (unsigned long long)off + len, (unsigned long long)f->size);
	if (f->fd < 0) {
		if (len)
			memcpy(buf, f->data + off, len);
		return 0;
	}
	while (len) {
		n = pread(f->fd, p, len, (off_t)off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "%s %s: read failed: %s", f->what, f->path, strerror(errno));
		if (n == 0)
			return err_set(e, -EIO, "%s %s: the file shrank while it was read", f->what, f->path);
		p += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}
