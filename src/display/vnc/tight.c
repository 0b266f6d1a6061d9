// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tight and TightPNG (rfbproto, "Tight Encoding"): one colour, a palette, pictures
 * with many colours as JPEG if the client named a quality, else through zlib or PNG.
 *
 * A piece of more than two colours is cut into bands as high as a line of text, and neighbours of the same
 * two colours, or of more, go together: a bit a pixel is what makes text cheap, and one coloured
 * line would take it from all of them.
 */
#include <stdlib.h>
#include <string.h>

#include "display/png.h"
#include "display/vnc/vnc_int.h"

enum { CTL_FILL = 0x80, CTL_JPEG = 0x90, CTL_PNG = 0xa0, CTL_FILTER = 0x40 };
enum { STREAM_FULL, STREAM_TWO, STREAM_PALETTE };
enum { FILTER_COPY, FILTER_PALETTE };
#define MAX_WIDTH 2048u
#define MIN_COMPRESS 12u
#define MIN_JPEG 1024u			/* pixels */
#define BAND 16u			/* rows */
#define MAX_BANDS 8u			/* of a piece: the count of an update's rectangles has 16 bits */

struct tight_palette {
	uint32_t colour[256];
	unsigned n;			/* 257: more */
	uint16_t slot[1024];		/* open hashing: index + 1 */
};

static unsigned hash(uint32_t c) { return (c * 2654435761u) >> 22; }

/* Index of the colour, which is entered if there is room; -1: there is none. */
static int lookup(struct tight_palette *p, uint32_t c, bool enter)
{
	for (unsigned h = hash(c);; h = (h + 1) & 1023) {
		unsigned i = p->slot[h];

		if (i && p->colour[i - 1] == c)
			return (int)i - 1;
		if (i)
			continue;
		if (!enter || p->n == ARRAY_LEN(p->colour))
			return -1;
		p->colour[p->n] = c;
		p->slot[h] = (uint16_t)++p->n;
		return (int)p->n - 1;
	}
}

/* One colour (twice) or two, as text has them; false: more. */
static bool two_of(const uint32_t *px, size_t n, uint32_t colour[2])
{
	size_t same = vnc_scan_two(px, n, px[0], px[0]);

	colour[0] = px[0] & 0xffffff;
	colour[1] = same < n ? px[same] & 0xffffff : colour[0];
	return same == n || vnc_scan_two(px + same, n - same, px[0], px[same]) == n - same;
}

/* Without a table. */
static bool collect_two(struct tight_palette *p, const uint32_t *px, size_t n)
{
	bool two = two_of(px, n, p->colour);

	p->n = p->colour[0] == p->colour[1] ? 1 : 2;
	return two;
}

static void collect(struct tight_palette *p, const uint32_t *px, size_t n)
{
	uint32_t last = ~px[0];

	if (collect_two(p, px, n))
		return;
	p->n = 0;
	memset(p->slot, 0, sizeof(p->slot));
	for (size_t i = 0; i < n; i++) {
		if ((px[i] & 0xffffff) == last)
			continue;
		last = px[i] & 0xffffff;
		if (lookup(p, last, true) < 0) {
			p->n = ARRAY_LEN(p->colour) + 1;
			return;
		}
	}
}

static void put_tpixel(const struct vnc_format *f, struct vnc_buf *b, uint32_t c)
{
	if (f->rgb)
		vnc_put(b, (uint8_t[]){ (uint8_t)(c >> 16), (uint8_t)(c >> 8), (uint8_t)c }, 3);
	else
		vnc_put_pixel(f, b, c);
}

static void put_length(struct vnc_buf *b, size_t n)
{
	vnc_put8(b, (n & 0x7f) | (n > 0x7f ? 0x80 : 0));
	if (n > 0x7f)
		vnc_put8(b, (n >> 7 & 0x7f) | (n > 0x3fff ? 0x80 : 0));
	if (n > 0x3fff)
		vnc_put8(b, (unsigned)(n >> 14));
}

/* The scratch buffer through one of the streams.  A piece is small enough for three bytes of length. */
static void put_stream(struct vnc_encoder *e, unsigned stream, struct vnc_buf *b)
{
	struct vnc_buf *s = &e->scratch, z = { 0 };

	if (s->failed) {
		b->failed = true;
	} else if (s->len < MIN_COMPRESS) {
		vnc_put(b, s->data, s->len);
	} else if (!vnc_deflate(e, &e->tight[stream], &e->tight_open[stream], s->data, s->len, &z)) {
		b->failed = true;
	} else {
		put_length(b, z.len);
		vnc_put(b, z.data, z.len);
	}
	vnc_buf_free(&z);
}

static void two_colours(struct vnc_encoder *e, const struct vnc_piece *p, const struct tight_palette *pal, struct vnc_buf *b)
{
	struct vnc_buf *s = &e->scratch;
	size_t line = (p->r.w + 7) / 8;
	uint8_t *to;

	s->at = s->len = 0;
	to = vnc_room(s, line * p->r.h);
	for (unsigned y = 0; to && y < p->r.h; y++)
		vnc_scan_bits(p->pixels + (size_t)y * p->r.w, p->r.w, pal->colour[1], to + y * line);
	s->len = to ? line * p->r.h : 0;
	put_stream(e, STREAM_TWO, b);
}

static void indexed(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct tight_palette *pal,
		    struct vnc_buf *b)
{
	struct vnc_buf *s = &e->scratch;
	size_t n = (size_t)p->r.w * p->r.h;
	uint32_t last = 0;
	uint8_t *to;
	int at = 0;

	vnc_put8(b, CTL_FILTER | (pal->n == 2 ? STREAM_TWO : STREAM_PALETTE) << 4);
	vnc_put8(b, FILTER_PALETTE);
	vnc_put8(b, pal->n - 1);
	for (unsigned i = 0; i < pal->n; i++)
		put_tpixel(f, b, pal->colour[i]);
	if (pal->n == 2) {
		two_colours(e, p, pal, b);
		return;
	}
	s->at = s->len = 0;
	to = vnc_room(s, n);
	for (size_t i = 0; to && i < n; i++) {
		uint32_t c = p->pixels[i] & 0xffffff;

		if (!i || c != last)
			at = lookup(pal, c, false);
		last = c;
		to[i] = (uint8_t)at;
	}
	s->len = to ? n : 0;
	put_stream(e, STREAM_PALETTE, b);
}

static bool jpeg(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	struct vnc_buf out = { 0 };
	bool ok = e->quality && f->bytes > 1 && p->r.w * p->r.h >= MIN_JPEG && !vnc_jpeg(p->pixels, p->r.w, p->r.h, e->quality, &out);

	if (ok) {
		vnc_put8(b, CTL_JPEG);
		put_length(b, out.len);
		vnc_put(b, out.data, out.len);
	}
	vnc_buf_free(&out);
	return ok;
}

static void png(struct vnc_encoder *e, const struct vnc_piece *p, struct vnc_buf *b)
{
	uint8_t *data;
	size_t len;

	if (png_encode(p->pixels, p->r.w, p->r.h, p->r.w, e->level, &data, &len)) {
		b->failed = true;
		return;
	}
	vnc_put8(b, CTL_PNG);
	put_length(b, len);
	vnc_put(b, data, len);
	free(data);
}

static void full(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	struct vnc_buf *s = &e->scratch;
	size_t n = (size_t)p->r.w * p->r.h;

	vnc_put8(b, STREAM_FULL << 4);
	s->at = s->len = 0;
	if (f->rgb)
		for (size_t i = 0; i < n; i++)
			put_tpixel(f, s, p->pixels[i]);
	else
		vnc_put_pixels(f, s, p->pixels, n);
	put_stream(e, STREAM_FULL, b);
}

/* With the colours of the piece. */
static void one(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct tight_palette *pal,
		struct vnc_buf *b)
{
	vnc_rect_header(b, &p->r, e->kind);
	if (pal->n == 1) {
		vnc_put8(b, CTL_FILL);
		put_tpixel(f, b, pal->colour[0]);
	} else if (pal->n > 16 && jpeg(e, f, p, b)) {
		return;
	} else if (e->kind == ENC_TIGHT_PNG) {
		png(e, p, b);
	} else if (pal->n <= 256 && (size_t)p->r.w * p->r.h > pal->n * 2) {
		indexed(e, f, p, pal, b);
	} else {
		full(e, f, p, b);
	}
}

/* The colours of the band that begins at row y, if there are no more than two. */
static bool band_of_two(const struct vnc_piece *p, unsigned y, uint32_t colour[2])
{
	size_t n = (size_t)p->r.w * MIN(BAND, p->r.h - y);

	return two_of(p->pixels + (size_t)y * p->r.w, n, colour);
}

static bool same_two(const uint32_t a[2], const uint32_t b[2])
{
	return (a[0] == b[0] && a[1] == b[1]) || (a[0] == b[1] && a[1] == b[0]);
}

/* Where the bands end that go with the one at row y. */
static unsigned bands_end(const struct vnc_piece *p, unsigned y)
{
	uint32_t first[2], colour[2];
	bool two = band_of_two(p, y, first);

	for (y += BAND; y < p->r.h; y += BAND)
		if (band_of_two(p, y, colour) != two || (two && !same_two(first, colour)))
			break;
	return MIN(y, p->r.h);
}

/* Returns how many rectangles it has become. */
static unsigned bands(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct tight_palette *pal, struct vnc_buf *b)
{
	unsigned n = 0, end;

	if (collect_two(pal, p->pixels, (size_t)p->r.w * p->r.h)) {
		one(e, f, p, pal, b);
		return 1;
	}
	for (unsigned y = 0; y < p->r.h; y = end, n++) {
		struct vnc_piece part = { { p->r.x, p->r.y + y, p->r.w, 0 }, p->pixels + (size_t)y * p->r.w };

		end = e->kind == ENC_TIGHT && n + 1 < MAX_BANDS ? bands_end(p, y) : p->r.h;
		part.r.h = end - y;
		collect(pal, part.pixels, (size_t)part.r.w * part.r.h);
		one(e, f, &part, pal, b);
	}
	return n;
}

/* Rectangles are at most 2048 pixels wide. */
unsigned vnc_encode_tight(struct vnc_encoder *e, const struct vnc_format *f, const struct vnc_piece *p, struct vnc_buf *b)
{
	struct tight_palette *pal = malloc(sizeof(*pal));
	unsigned n = 0;

	if (!pal) {
		b->failed = true;
		return 0;
	}
	if (p->r.w <= MAX_WIDTH) {
		n = bands(e, f, p, pal, b);
		free(pal);
		return n;
	}
	for (unsigned x = 0; x < p->r.w; x += MAX_WIDTH) {
		unsigned w = MIN(MAX_WIDTH, p->r.w - x);
		uint32_t *px = malloc((size_t)w * p->r.h * sizeof(*px));
		struct vnc_piece part = { { p->r.x + x, p->r.y, w, p->r.h }, px };

		if (!px) {
			b->failed = true;
			break;
		}
		for (unsigned y = 0; y < p->r.h; y++)
			memcpy(px + (size_t)y * w, p->pixels + (size_t)y * p->r.w + x, w * sizeof(*px));
		n += bands(e, f, &part, pal, b);
		free(px);
	}
	free(pal);
	return n;
}
