// SPDX-License-Identifier: GPL-2.0-or-later
/* Raw, Hextile and ZRLE (RFC 6143, 7.7). */
#include <stdlib.h>
#include <string.h>

#include "display/vnc/vnc_int.h"

void vnc_rect_header(struct vnc_buf *b, const struct display_rect *r, int encoding)
{
	vnc_put16(b, r->x);
	vnc_put16(b, r->y);
	vnc_put16(b, r->w);
	vnc_put16(b, r->h);
	vnc_put32(b, (uint32_t)encoding);
}

bool vnc_deflate(struct vnc_encoder *e, z_stream *z, bool *open, const void *p, size_t n, struct vnc_buf *b)
{
	if (!*open) {
		memset(z, 0, sizeof(*z));
		if (deflateInit(z, e->level) != Z_OK)
			return false;
		*open = true;
	}
	z->next_in = (Bytef *)(uintptr_t)p;
	z->avail_in = (uInt)n;
	do {
		uint8_t *to = vnc_room(b, 4096 + n / 2);

		if (!to)
			return false;
		z->next_out = to;
		z->avail_out = (uInt)(b->room - b->len);
		if (deflate(z, Z_SYNC_FLUSH) == Z_STREAM_ERROR)
			return false;
		b->len = b->room - z->avail_out;
	} while (!z->avail_out);
	return true;
}

void vnc_encoder_free(struct vnc_encoder *e)
{
	if (e->zrle_open)
		deflateEnd(&e->zrle);
	for (unsigned i = 0; i < ARRAY_LEN(e->tight); i++)
		if (e->tight_open[i])
			deflateEnd(&e->tight[i]);
	vnc_buf_free(&e->scratch);
}

static const uint32_t *row(const struct vnc_piece *p, unsigned x, unsigned y) { return p->pixels + (size_t)y * p->r.w + x; }

static bool same(uint32_t a, uint32_t b) { return !((a ^ b) & 0xffffff); }

/* ---- raw ---- */

static unsigned raw(const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	vnc_rect_header(b, &p->r, ENC_RAW);
	vnc_put_pixels(f, b, p->pixels, (size_t)p->r.w * p->r.h);
	return 1;
}

/* ---- the colours of a tile ---- */

struct palette {
	uint32_t colour[16];
	unsigned n;			/* 17: more than fit */
};

static int find(const struct palette *pal, uint32_t c)
{
	for (unsigned i = 0; i < pal->n; i++)
		if (same(pal->colour[i], c))
			return (int)i;
	return -1;
}

/* Up to four colours, as in text, in the order in which they come. */
static bool few_colours(struct palette *pal, const struct vnc_piece *p, unsigned x, unsigned y, unsigned w, unsigned h)
{
	uint32_t *c = pal->colour;

	c[0] = c[1] = c[2] = c[3] = *row(p, x, y);
	pal->n = 1;
	for (unsigned j = 0; j < h; j++) {
		const uint32_t *px = row(p, x, y + j);

		for (size_t i = 0;;) {
			i += pal->n > 2 ? vnc_scan_four(px + i, w - i, c) : vnc_scan_two(px + i, w - i, c[0], c[1]);
			if (i == w)
				break;
			if (pal->n == 4)
				return false;
			c[pal->n++] = px[i];
		}
	}
	return true;
}

static void colours(struct palette *pal, const struct vnc_piece *p, unsigned x, unsigned y, unsigned w, unsigned h)
{
	uint32_t last = 0;

	if (few_colours(pal, p, x, y, w, h))
		return;
	pal->n = 0;
	for (unsigned j = 0; j < h; j++) {
		const uint32_t *px = row(p, x, y + j);

		for (unsigned i = 0; i < w; i++) {
			if (pal->n && same(px[i], last))
				continue;
			last = px[i];
			if (find(pal, last) >= 0)
				continue;
			if (pal->n == ARRAY_LEN(pal->colour)) {
				pal->n++;
				return;
			}
			pal->colour[pal->n++] = last;
		}
	}
}

/* ---- hextile ---- */

enum { HEX_RAW = 1, HEX_BACKGROUND = 2, HEX_FOREGROUND = 4, HEX_SUBRECTS = 8 };

/* Runs of the second colour, one subrectangle each; more than 255 do not happen: 16 rows of 8. */
static void hextile_two(const struct vnc_format *f, const struct vnc_piece *p, unsigned x, unsigned y, unsigned w, unsigned h,
			const struct palette *pal, struct vnc_buf *b)
{
	uint8_t *to, *count;

	vnc_put8(b, HEX_BACKGROUND | HEX_FOREGROUND | HEX_SUBRECTS);
	vnc_put_pixel(f, b, pal->colour[0]);
	vnc_put_pixel(f, b, pal->colour[1]);
	to = count = vnc_room(b, 1 + 16 * 8 * 2);
	if (!to)
		return;
	*to++ = 0;
	for (unsigned j = 0; j < h; j++) {
		uint8_t bits[2] = { 0 };
		uint32_t left;		/* the row's first pixel in the highest bit */

		vnc_scan_bits(row(p, x, y + j), w, pal->colour[1], bits);
		left = (uint32_t)be16(bits) << 16;
		for (unsigned i, n; left; left &= UINT32_MAX >> (i + n)) {
			i = (unsigned)__builtin_clz(left);
			n = (unsigned)__builtin_clz(~(left << i));
			*to++ = (uint8_t)(i << 4 | j);
			*to++ = (uint8_t)((n - 1) << 4);
			++*count;
		}
	}
	b->len += (size_t)(to - count);
}

static unsigned hextile(const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	vnc_rect_header(b, &p->r, ENC_HEXTILE);
	for (unsigned y = 0; y < p->r.h; y += 16) {
		for (unsigned x = 0; x < p->r.w; x += 16) {
			unsigned w = MIN(16u, p->r.w - x), h = MIN(16u, p->r.h - y);
			struct palette pal;

			colours(&pal, p, x, y, w, h);
			if (pal.n == 2) {
				hextile_two(f, p, x, y, w, h, &pal, b);
				continue;
			}
			vnc_put8(b, pal.n == 1 ? HEX_BACKGROUND : HEX_RAW);
			if (pal.n == 1)
				vnc_put_pixel(f, b, pal.colour[0]);
			for (unsigned j = 0; pal.n != 1 && j < h; j++)
				vnc_put_pixels(f, b, row(p, x, y + j), w);
		}
	}
	return 1;
}

/* ---- ZRLE ---- */

/* One or two bits a pixel. */
static void zrle_bits(const struct vnc_piece *p, unsigned x, unsigned y, unsigned w, unsigned h, const struct palette *pal, struct vnc_buf *b)
{
	size_t line = pal->n == 2 ? (w + 7) / 8 : (w + 3) / 4;
	uint8_t *to = vnc_room(b, line * h);

	if (!to)
		return;
	for (unsigned j = 0; j < h; j++, to += line) {
		if (pal->n == 2)
			vnc_scan_bits(row(p, x, y + j), w, pal->colour[1], to);
		else
			vnc_scan_indices(row(p, x, y + j), w, pal->colour, pal->n, to);
	}
	b->len += line * h;
}

static void zrle_packed(const struct vnc_format *f, const struct vnc_piece *p, unsigned x, unsigned y, unsigned w, unsigned h,
			const struct palette *pal, struct vnc_buf *b)
{
	vnc_put8(b, pal->n);
	for (unsigned i = 0; i < pal->n; i++)
		vnc_put_cpixel(f, b, pal->colour[i]);
	if (pal->n <= 4) {
		zrle_bits(p, x, y, w, h, pal, b);
		return;
	}
	for (unsigned j = 0; j < h; j++) {
		const uint32_t *px = row(p, x, y + j);
		unsigned acc = 0, have = 0;
		uint32_t last = px[0];
		int index = find(pal, last);

		for (unsigned i = 0; i < w; i++) {
			if (!same(px[i], last)) {
				last = px[i];
				index = find(pal, last);
			}
			acc = acc << 4 | (unsigned)index;
			have += 4;
			if (have == 8) {
				vnc_put8(b, acc);
				acc = have = 0;
			}
		}
		if (have)
			vnc_put8(b, acc << (8 - have));
	}
}

/* Many colours: runs, or pixels as they are, whatever is shorter (sampled by how many runs there are). */
static void zrle_plain(const struct vnc_format *f, const struct vnc_piece *p, unsigned x, unsigned y, unsigned w, unsigned h,
		       struct vnc_buf *b)
{
	unsigned runs = 0;
	uint32_t last = ~*row(p, x, y);

	for (unsigned j = 0; j < h; j++)
		for (unsigned i = 0; i < w; i++) {
			runs += !same(row(p, x, y + j)[i], last);
			last = row(p, x, y + j)[i];
		}
	if (runs * (f->cpixel + 1u) >= w * h * f->cpixel) {
		vnc_put8(b, 0);
		for (unsigned j = 0; j < h; j++)
			for (unsigned i = 0; i < w; i++)
				vnc_put_cpixel(f, b, row(p, x, y + j)[i]);
		return;
	}
	vnc_put8(b, 128);
	for (unsigned at = 0, end; at < w * h; at = end) {
		uint32_t c = row(p, x, y + at / w)[at % w];
		unsigned n;

		for (end = at + 1; end < w * h && same(row(p, x, y + end / w)[end % w], c); end++)
			;
		vnc_put_cpixel(f, b, c);
		for (n = end - at - 1; n >= 255; n -= 255)
			vnc_put8(b, 255);
		vnc_put8(b, n);
	}
}

static unsigned zrle(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	struct vnc_buf *s = &e->scratch;
	size_t length;

	s->at = s->len = 0;
	for (unsigned y = 0; y < p->r.h; y += 64) {
		for (unsigned x = 0; x < p->r.w; x += 64) {
			unsigned w = MIN(64u, p->r.w - x), h = MIN(64u, p->r.h - y);
			struct palette pal;

			colours(&pal, p, x, y, w, h);
			if (pal.n == 1) {
				vnc_put8(s, 1);
				vnc_put_cpixel(f, s, pal.colour[0]);
			} else if (pal.n <= 16) {
				zrle_packed(f, p, x, y, w, h, &pal, s);
			} else {
				zrle_plain(f, p, x, y, w, h, s);
			}
		}
	}
	vnc_rect_header(b, &p->r, ENC_ZRLE);
	length = b->len;
	vnc_put32(b, 0);
	if (s->failed || !vnc_deflate(e, &e->zrle, &e->zrle_open, s->data, s->len, b))
		b->failed = true;
	if (!b->failed)
		for (unsigned i = 0; i < 4; i++)
			b->data[length + i] = (uint8_t)((b->len - length - 4) >> (24 - 8 * i));
	return 1;
}

unsigned vnc_encode(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	switch (e->kind) {
	case ENC_HEXTILE: return hextile(f, p, b);
	case ENC_ZRLE: return zrle(e, f, p, b);
	case ENC_TIGHT: case ENC_TIGHT_PNG: return vnc_encode_tight(e, f, p, b);
	default: return raw(f, p, b);
	}
}
