// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Updates: what changed in the part a client asked for, as rectangles.
 *
 * The pixels are copied with the display's lock held and encoded without it.  A
 * client that has not yet taken what it was sent gets nothing new: what changes
 * meanwhile gathers in its map of tiles, which does not grow.
 */
#include <stdlib.h>
#include <string.h>

#include "display/vnc/vnc_int.h"

#define MAX_PIECES 1024u
#define PIECE_PIXELS (64u << 10)

void vnc_size_rect(struct vnc_client *c, struct vnc_buf *b, unsigned reason, unsigned status)
{
	struct display_rect r = { 0, 0, c->width, c->height };

	if (!c->has_ext_size) {
		vnc_rect_header(b, &r, PSEUDO_SIZE);
		return;
	}
	r.x = reason;
	r.y = status;
	vnc_rect_header(b, &r, PSEUDO_EXT_SIZE);
	vnc_put32(b, 1u << 24);		/* one screen, padding */
	vnc_put32(b, 0);		/* its id */
	vnc_put32(b, 0);
	vnc_put16(b, c->width);
	vnc_put16(b, c->height);
	vnc_put32(b, 0);
}

/* The shape with its mask, or with alpha.  Returns how many rectangles. */
static unsigned put_cursor(struct vnc_client *c, struct vnc_buf *b)
{
	const struct display_cursor *s = display_cursor(c->v->d);
	struct display_rect r = { s->hot_x, s->hot_y, s->visible ? s->width : 0, s->visible ? s->height : 0 };
	size_t n = (size_t)r.w * r.h;

	if (!s->width || (!c->has_cursor && !c->has_alpha))
		return 0;
	if (c->has_alpha) {
		vnc_rect_header(b, &r, PSEUDO_CURSOR_ALPHA);
		vnc_put32(b, ENC_RAW);
		for (size_t i = 0; i < n; i++) {
			uint32_t p = s->pixels[i], a = p >> 24;

			vnc_put(b, (uint8_t[]){ (uint8_t)((p >> 16 & 255) * a / 255), (uint8_t)((p >> 8 & 255) * a / 255),
					       (uint8_t)((p & 255) * a / 255), (uint8_t)a }, 4);
		}
		return 1;
	}
	vnc_rect_header(b, &r, PSEUDO_CURSOR);
	vnc_put_pixels(&c->format, b, s->pixels, n);
	for (unsigned y = 0; y < r.h; y++)
		for (unsigned x = 0; x < r.w; x += 8) {
			unsigned byte = 0;

			for (unsigned i = 0; i < 8; i++)
				byte = byte << 1 | (x + i < r.w && s->pixels[y * r.w + x + i] >> 31);
			vnc_put8(b, byte);
		}
	return 1;
}

/* What is said beside the picture.  Display's lock held. */
static unsigned put_pseudo(struct vnc_client *c, struct vnc_buf *b)
{
	const struct surface *s = display_surface(c->v->d);
	unsigned n = 0;

	if (c->viewer.resized && (c->has_size || c->has_ext_size) && s->width) {
		c->tell_size |= s->width != c->width || s->height != c->height;
		c->width = s->width;
		c->height = s->height;
	}
	c->viewer.resized = false;
	if (c->tell_size && (c->has_size || c->has_ext_size)) {
		vnc_size_rect(c, b, c->size_reason, c->size_status);
		n++;
	}
	c->tell_size = false;
	c->size_reason = c->size_status = 0;
	if (c->tell_keys) {
		vnc_rect_header(b, &(struct display_rect){ 0 }, PSEUDO_QEMU_KEYS);
		n++;
	}
	if (c->tell_pointer) {
		vnc_rect_header(b, &(struct display_rect){ .x = !c->rel_pointer }, PSEUDO_POINTER_TYPE);
		n++;
	}
	c->tell_keys = c->tell_pointer = false;
	if (c->viewer.new_cursor || c->tell_cursor)
		n += put_cursor(c, b);
	c->viewer.new_cursor = c->viewer.moved_cursor = c->tell_cursor = false;
	return n;
}

/* Room for n more pixels behind `used`; the buffer may move. */
static bool grow_copy(struct vnc *v, size_t used, size_t n)
{
	uint32_t *p;

	if (used + n <= v->copy_room)
		return true;
	p = realloc(v->copy, (used + n) * 2 * sizeof(*p));
	if (!p)
		return false;
	v->copy = p;
	v->copy_room = (used + n) * 2;
	return true;
}

/* Copies the changed rectangles; returns how many.  Display's lock held. */
static unsigned copy_pieces(struct vnc_client *c, const struct display_rect *in, struct display_rect *r)
{
	struct vnc *v = c->v;
	const struct surface *s = display_surface(v->d);
	size_t used = 0;
	unsigned n = 0;

	while (n < MAX_PIECES && display_take(v->d, &c->viewer, in, PIECE_PIXELS, &r[n])) {
		struct display_rect *p = &r[n];

		/* A client that knows no other size keeps the one it was told at first. */
		if (p->x >= c->width || p->y >= c->height)
			continue;
		p->w = MIN(p->w, c->width - p->x);
		p->h = MIN(p->h, c->height - p->y);
		if (!grow_copy(v, used, (size_t)p->w * p->h)) {
			display_mark(v->d, &c->viewer, p);
			break;
		}
		for (unsigned y = 0; y < p->h; y++, used += p->w)
			memcpy(v->copy + used, s->pixels + (size_t)(p->y + y) * s->width + p->x, p->w * sizeof(*v->copy));
		n++;
	}
	return n;
}

/* A tablet wakes up when the guest's driver asks it, long after a viewer has come. */
static void look_at_pointer(struct vnc_client *c)
{
	bool rel;

	if (!c->has_pointer_type)
		return;
	rel = !input_has_abs(c->v->in);
	c->tell_pointer |= rel != c->rel_pointer;
	c->rel_pointer = rel;
}

bool vnc_update(struct vnc_client *c)
{
	struct display_rect r[MAX_PIECES];
	struct display_rect in = c->wanted ? c->want : c->stream;
	struct vnc_buf *b = &c->c.out;
	size_t start = b->len, used = 0;
	unsigned n, rects;

	if ((!c->wanted && !c->continuous) || vnc_conn_pending(&c->c) > VNC_OUT_BUSY)
		return false;
	look_at_pointer(c);
	vnc_put16(b, 0);			/* FramebufferUpdate, padding */
	vnc_put16(b, 0);
	display_lock(c->v->d);
	rects = put_pseudo(c, b);
	if (c->wanted && c->continuous)
		in = (struct display_rect){ 0, 0, c->width, c->height };
	n = copy_pieces(c, &in, r);
	display_unlock(c->v->d);
	if (!n && !rects) {
		if (!b->failed)
			b->len = start;
		return false;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct vnc_piece p = { r[i], c->v->copy + used };

		rects += vnc_encode(&c->enc, &c->format, &p, b);
		used += (size_t)r[i].w * r[i].h;
	}
	if (!b->failed) {
		b->data[start + 2] = (uint8_t)(rects >> 8);
		b->data[start + 3] = (uint8_t)rects;
	}
	c->wanted = false;
	c->c.update = vnc_conn_pending(&c->c);
	return true;
}
