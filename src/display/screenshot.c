// SPDX-License-Identifier: GPL-2.0-or-later
/* A picture of the screen in a file. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "display/png.h"

static int write_to(const char *path, const uint8_t *data, size_t len)
{
	FILE *f = fopen(path, "we");
	int ret = 0;

	if (!f || fwrite(data, 1, len, f) != len || fflush(f))
		ret = -errno;
	if (f && fclose(f) && !ret)
		ret = -errno;
	return ret;
}

/* By another name first; a pipe or a terminal has no other. */
static int write_whole(const char *path, const uint8_t *data, size_t len)
{
	struct stat st;
	char *tmp = NULL;
	int ret;

	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return write_to(path, data, len);
	if (asprintf(&tmp, "%s.part", path) < 0)
		return -ENOMEM;
	ret = write_to(tmp, data, len);
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

int picture_write(const struct surface *s, enum picture_format format, const char *path, struct err *e)
{
	uint8_t *data;
	size_t len;
	int ret;

	if (format == PICTURE_PNG && !png_available())
		return err_set(e, -ENOTSUP, "this lodge was built without libpng and makes no PNG pictures; format=ppm works");
	ret = format == PICTURE_PNG ? png_encode(s->pixels, s->width, s->height, s->width, 6, &data, &len) : ppm_encode(s, &data, &len);
	if (ret)
		return err_set(e, ret, "out of memory for a picture");
	ret = write_whole(path, data, len);
	free(data);
	return ret ? err_set(e, ret, "%s: the picture cannot be written: %s", path, strerror(-ret)) : 0;
}
