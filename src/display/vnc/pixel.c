// SPDX-License-Identifier: GPL-2.0-or-later
/* Pixels of the surface in the format a client asked for (RFC 6143, 7.4). */
#include <string.h>

#include "display/vnc/vnc_int.h"

static void complete_format(struct vnc_format *f)
{
	uint32_t used = 0;

	for (unsigned c = 0; c < 3; c++) {
		for (unsigned v = 0; v < 256; v++)
			f->of[c][v] = (v * f->max[c] + 127) / 255 << f->shift[c];
		used |= (uint32_t)f->max[c] << f->shift[c];
	}
	f->same = f->bytes == 4 && !f->big && used == 0xffffff && f->shift[0] == 16 && f->shift[1] == 8 && !f->shift[2];
	f->cpixel = f->bytes;
	f->cpixel_high = false;
	if (f->bytes == 4 && f->depth <= 24 && (used < 1u << 24 || !(used & 0xff))) {
		f->cpixel = 3;
		f->cpixel_high = used >= 1u << 24;
	}
	f->rgb = f->bytes == 4 && f->depth == 24 && f->max[0] == 255 && f->max[1] == 255 && f->max[2] == 255;
}

void vnc_format_init(struct vnc_format *f)
{
	*f = (struct vnc_format){ .bytes = 4, .depth = 24, .max = { 255, 255, 255 }, .shift = { 16, 8, 0 } };
	complete_format(f);
}

static bool mask(unsigned max) { return max && !(max & (max + 1)); }

bool vnc_format_set(struct vnc_format *f, const uint8_t w[16])
{
	struct vnc_format n = { .bytes = w[0] / 8, .depth = w[1], .big = w[2] };

	if ((w[0] != 8 && w[0] != 16 && w[0] != 32) || !w[3])	/* no colour maps */
		return false;
	for (unsigned c = 0; c < 3; c++) {
		n.max[c] = be16(w + 4 + 2 * c);
		n.shift[c] = w[10 + c];
		if (!mask(n.max[c]) || n.shift[c] >= w[0] || (uint64_t)n.max[c] << n.shift[c] >= 1ull << w[0])
			return false;
	}
	*f = n;
	complete_format(f);
	return true;
}

void vnc_format_put(const struct vnc_format *f, struct vnc_buf *b)
{
	vnc_put8(b, f->bytes * 8u);
	vnc_put8(b, f->depth);
	vnc_put8(b, f->big);
	vnc_put8(b, 1);
	for (unsigned c = 0; c < 3; c++)
		vnc_put16(b, f->max[c]);
	vnc_put(b, f->shift, 3);
	vnc_put(b, "\0\0\0", 3);
}

static void store(const struct vnc_format *f, uint8_t *to, uint32_t v)
{
	switch (f->bytes) {
	case 1: *to = (uint8_t)v; break;
	case 2: st_le16(to, f->big ? __builtin_bswap16((uint16_t)v) : (uint16_t)v); break;
	default: st_le32(to, f->big ? __builtin_bswap32(v) : v); break;
	}
}

void vnc_put_pixels(const struct vnc_format *f, struct vnc_buf *b, const uint32_t *p, size_t n)
{
	uint8_t *to = vnc_room(b, n * f->bytes);

	if (!to)
		return;
	if (f->same)
		memcpy(to, p, n * 4);
	for (size_t i = 0; !f->same && i < n; i++)
		store(f, to + i * f->bytes, vnc_pixel(f, p[i]));
	b->len += n * f->bytes;
}

void vnc_put_pixel(const struct vnc_format *f, struct vnc_buf *b, uint32_t p) { vnc_put_pixels(f, b, &p, 1); }

void vnc_put_cpixel(const struct vnc_format *f, struct vnc_buf *b, uint32_t p)
{
	uint8_t four[4];

	store(f, four, vnc_pixel(f, p));
	/* The three bytes that carry something: by byte order the first or the last three. */
	vnc_put(b, f->cpixel == 3 && f->big != f->cpixel_high ? four + 1 : four, f->cpixel);
}
