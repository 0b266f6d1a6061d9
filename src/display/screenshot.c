// SPDX-License-Identifier: GPL-2.0-or-later
/* A picture of the screen in a file.  Nothing here waits longer than it is allowed to, whatever the file is. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "display/png.h"

#define BEAT_MS 20

/* Is there still time, and nobody who wants an end?  Then a moment of it passes. */
static bool wait_for(int fd, int64_t until, const struct picture_patience *pa)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	if (!pa || loop_now_ns() >= until || (pa->stop && atomic_load(pa->stop)))
		return false;
	poll(&p, fd >= 0, BEAT_MS);
	return true;
}

/* Whoever is to read a pipe may come later, and be slow. */
static int open_to(const char *path, const struct picture_patience *pa)
{
	int64_t until = loop_now_ns() + (pa ? pa->ns : 0);
	int fd;

	while ((fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666)) < 0 && errno == ENXIO &&
	       wait_for(-1, until, pa))
		;
	return fd < 0 ? -errno : fd;
}

static int write_all(int fd, const uint8_t *data, size_t len, const struct picture_patience *pa)
{
	int64_t until = 0;

	while (len) {
		ssize_t n = write(fd, data, len);

		if (n >= 0) {
			data += n;
			len -= (size_t)n;
			until = 0;
		} else if (errno == EAGAIN) {
			until = until ? until : loop_now_ns() + (pa ? pa->ns : 0);
			if (!wait_for(fd, until, pa))
				return -EAGAIN;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

static int write_to(const char *path, const uint8_t *data, size_t len, const struct picture_patience *pa)
{
	int fd = open_to(path, pa), ret;

	if (fd < 0)
		return fd;
	ret = write_all(fd, data, len, pa);
	if (close(fd) && !ret)
		ret = -errno;
	return ret;
}

/* By another name first; a pipe or a terminal has no other. */
static int write_whole(const char *path, const uint8_t *data, size_t len, const struct picture_patience *pa)
{
	struct stat st;
	char *tmp = NULL;
	int ret;

	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return write_to(path, data, len, pa);
	if (asprintf(&tmp, "%s.part", path) < 0)
		return -ENOMEM;
	ret = write_to(tmp, data, len, pa);
	if (!ret && rename(tmp, path))
		ret = -errno;
	if (ret)
		unlink(tmp);
	free(tmp);
	return ret;
}

/* Netpbm's binary pixmap: a header, then three bytes a pixel. */
static int ppm_encode(const struct surface *s, uint8_t **out, size_t *len)
{
	size_t n = (size_t)s->width * s->height;
	uint8_t *p = malloc(n * 3 + 32);
	int at;

	if (!p)
		return -ENOMEM;
	at = snprintf((char *)p, 32, "P6\n%u %u\n255\n", s->width, s->height);
	*out = p;
	*len = (size_t)at + n * 3;
	p += at;
	for (size_t i = 0; i < n; i++, p += 3) {
		p[0] = (uint8_t)(s->pixels[i] >> 16);
		p[1] = (uint8_t)(s->pixels[i] >> 8);
		p[2] = (uint8_t)s->pixels[i];
	}
	return 0;
}

int picture_write(const struct surface *s, enum picture_format format, const char *path, const struct picture_patience *pa, struct err *e)
{
	uint8_t *data;
	size_t len;
	int ret;

	if (format == PICTURE_PNG && !png_available())
		return err_set(e, -ENOTSUP, "this lodge was built without libpng and makes no PNG pictures; format=ppm works");
	ret = format == PICTURE_PNG ? png_encode(s->pixels, s->width, s->height, s->width, 6, &data, &len) : ppm_encode(s, &data, &len);
	if (ret)
		return err_set(e, ret, "out of memory for a picture");
	ret = write_whole(path, data, len, pa);
	free(data);
	if (ret == -ENXIO || ret == -EAGAIN)
		return err_set(e, ret, "%s: nobody reads what is written there%s", path, pa ? "" : ", and this command waits for nobody");
	return ret ? err_set(e, ret, "%s: the picture cannot be written: %s", path, strerror(-ret)) : 0;
}
