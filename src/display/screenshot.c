// SPDX-License-Identifier: GPL-2.0-or-later
/* A picture of the screen in a file: a viewer that looks once. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "display/png.h"

/* A copy, so that nobody waits for the encoder. */
static int look(struct display *d, struct surface *out)
{
	struct display_viewer *v = calloc(1, sizeof(*v));
	const struct surface *s;
	int ret = 0;

	if (!v)
		return -ENOMEM;
	display_watch(d, v);
	display_refresh(d);
	display_lock(d);
	s = display_surface(d);
	*out = *s;
	out->pixels = s->width ? malloc((size_t)s->width * s->height * sizeof(*s->pixels)) : NULL;
	if (out->pixels)
		memcpy(out->pixels, s->pixels, (size_t)s->width * s->height * sizeof(*s->pixels));
	else
		ret = s->width ? -ENOMEM : -ENODATA;
	display_unlock(d);
	display_unwatch(d, v);
	free(v);
	return ret;
}

static int write_whole(const char *path, const uint8_t *data, size_t len, struct err *e)
{
	char *tmp = NULL;
	FILE *f = NULL;
	int ret = 0;

	if (asprintf(&tmp, "%s.part", path) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	f = fopen(tmp, "we");
	if (!f || fwrite(data, 1, len, f) != len || fflush(f))
		ret = -errno;
	if (f && fclose(f) && !ret)
		ret = -errno;
	if (!ret && rename(tmp, path))
		ret = -errno;
	if (ret && f)
		unlink(tmp);
	free(tmp);
	return ret ? err_set(e, ret, "%s: the picture cannot be written: %s", path, strerror(-ret)) : 0;
}

int display_screenshot(struct display *d, const char *path, struct err *e)
{
	struct surface s;
	uint8_t *data;
	size_t len;
	int ret;

	if (!png_available())
		return err_set(e, -ENOTSUP, "this lodge was built without libpng and makes no pictures");
	ret = look(d, &s);
	if (ret == -ENODATA)
		return err_set(e, ret, "the guest's screen shows nothing (no mode is set)");
	if (!ret) {
		ret = png_encode(s.pixels, s.width, s.height, s.width, 6, &data, &len);
		free(s.pixels);
	}
	if (ret)
		return err_set(e, ret, "out of memory for a picture");
	ret = write_whole(path, data, len, e);
	free(data);
	return ret;
}
