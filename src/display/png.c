// SPDX-License-Identifier: GPL-2.0-or-later
/* The encoder. */
#include "display/png.h"

#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

struct out {
	uint8_t *data;
	size_t len, room;
};

static void put(png_structp png, png_bytep data, png_size_t len)
{
	struct out *o = png_get_io_ptr(png);

	if (len > o->room - o->len) {
		size_t room = MAX(o->room * 2, o->len + len + 4096);
		uint8_t *p = realloc(o->data, room);

		if (!p)
			png_error(png, "out of memory");
		o->data = p;
		o->room = room;
	}
	memcpy(o->data + o->len, data, len);
	o->len += len;
}

static void flush(png_structp png) { }
static void quiet(png_structp png, png_const_charp text) { }

/* libpng leaves by longjmp on an error: what changes after setjmp lies in *o and behind pointers. */
static int encode(png_structp png, png_infop info, const uint32_t *pixels, unsigned width, unsigned height, size_t stride,
		  int level, struct out *o, uint8_t *row)
{
	if (setjmp(png_jmpbuf(png)))
		return -ENOMEM;
	png_set_write_fn(png, o, put, flush);
	png_set_compression_level(png, level);
	png_set_filter(png, 0, level > 1 ? PNG_ALL_FILTERS : PNG_FILTER_NONE);
	png_set_IHDR(png, info, width, height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
		     PNG_FILTER_TYPE_DEFAULT);
	png_write_info(png, info);
	for (unsigned y = 0; y < height; y++) {
		for (unsigned x = 0; x < width; x++) {
			uint32_t p = pixels[y * stride + x];

			row[3 * x] = (uint8_t)(p >> 16);
			row[3 * x + 1] = (uint8_t)(p >> 8);
			row[3 * x + 2] = (uint8_t)p;
		}
		png_write_row(png, row);
	}
	png_write_end(png, info);
	return 0;
}

bool png_available(void) { return true; }

int png_encode(const uint32_t *pixels, unsigned width, unsigned height, size_t stride, int level, uint8_t **out,
	       size_t *len)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, quiet, quiet);
	png_infop info = png ? png_create_info_struct(png) : NULL;
	uint8_t *row = malloc((size_t)width * 3 + 1);
	struct out o = { 0 };
	int ret = -ENOMEM;

	if (info && row)
		ret = encode(png, info, pixels, width, height, stride, level, &o, row);
	png_destroy_write_struct(png ? &png : NULL, info ? &info : NULL);
	free(row);
	if (ret) {
		free(o.data);
		return ret;
	}
	*out = o.data;
	*len = o.len;
	return 0;
}
