// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The surface, its changes and its viewers.
 *
 * Changes are kept in tiles of 64 x 16 pixels, one bit each and viewer: cheap to
 * merge, cheap to clear, and about the size of a letter of a text screen, which
 * is what changes most.
 */
#include "display/display.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

struct adapter {
	const struct display_ops *ops;	/* NULL: there is none */
	void *opaque;
};

struct display {
	pthread_mutex_t *machine_lock;
	pthread_mutex_t lock;
	struct adapter base, over;	/* machine lock */
	struct surface s;
	struct display_cursor cursor;
	struct list viewers;
};

int display_new(pthread_mutex_t *machine_lock, struct display **out)
{
	struct display *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->machine_lock = machine_lock;
	pthread_mutex_init(&d->lock, NULL);
	list_init(&d->viewers);
	*out = d;
	return 0;
}

void display_free(struct display *d)
{
	if (!d)
		return;
	pthread_mutex_destroy(&d->lock);
	free(d->s.pixels);
	free(d->cursor.pixels);
	free(d);
}

void display_lock(struct display *d) { pthread_mutex_lock(&d->lock); }
void display_unlock(struct display *d) { pthread_mutex_unlock(&d->lock); }
const struct surface *display_surface(struct display *d) { return &d->s; }
const struct display_cursor *display_cursor(struct display *d) { return &d->cursor; }

/* Whose display it is now. */
static const struct adapter *adapter(const struct display *d) { return d->over.ops ? &d->over : &d->base; }

static void tell_watched(const struct adapter *a, bool on)
{
	if (a->ops)
		a->ops->watched(a->opaque, on);
}

static void change(struct display *d, struct adapter *which, const struct display_ops *ops, void *opaque)
{
	struct adapter old = *adapter(d);
	bool watched;

	display_lock(d);
	watched = !list_empty(&d->viewers);
	display_unlock(d);
	*which = (struct adapter){ ops, opaque };
	if (!watched || (adapter(d)->ops == old.ops && adapter(d)->opaque == old.opaque))
		return;
	tell_watched(&old, false);
	tell_watched(adapter(d), true);
}

void display_attach(struct display *d, const struct display_ops *ops, void *opaque) { change(d, &d->base, ops, opaque); }
void display_override(struct display *d, const struct display_ops *ops, void *opaque) { change(d, &d->over, ops, opaque); }

/* ---- the adapter's side ---- */

/* Pixels [x, x + n) of row y; n is not 0. */
static void mark_row(struct display_viewer *v, unsigned x, unsigned y, unsigned n)
{
	for (unsigned t = x / DISPLAY_TILE_W; t <= (x + n - 1) / DISPLAY_TILE_W; t++)
		v->changed[y / DISPLAY_TILE_H][t / 64] |= BIT64(t % 64);
}

static void mark_all(struct display *d, struct display_viewer *v)
{
	memset(v->changed, 0, sizeof(v->changed));
	for (unsigned y = 0; d->s.width && y < d->s.height; y += DISPLAY_TILE_H)
		mark_row(v, 0, y, d->s.width);
}

void display_resize(struct display *d, unsigned width, unsigned height)
{
	uint32_t *p = NULL;

	if (width > DISPLAY_MAX_WIDTH || height > DISPLAY_MAX_HEIGHT || (uint64_t)width * height > DISPLAY_MAX_PIXELS ||
	    !width || !height)
		width = height = 0;
	if (width == d->s.width && height == d->s.height)
		return;
	if (width)
		p = calloc((size_t)width * height, sizeof(*p));
	if (!p)
		width = height = 0;
	free(d->s.pixels);
	d->s = (struct surface){ width, height, p };
	list_for_each(n, &d->viewers) {
		struct display_viewer *v = list_entry(n, struct display_viewer, node);

		v->resized = true;
		mark_all(d, v);
	}
}

/* The guest may write what `from` shows at the same time: then either value is as good. */
static void put_piece(struct display *d, unsigned x, unsigned y, unsigned n, const uint32_t *from)
{
	uint32_t *to = d->s.pixels + (size_t)y * d->s.width + x;

	if (!memcmp(to, from, n * sizeof(*to)))
		return;
	memcpy(to, from, n * sizeof(*to));
	list_for_each(l, &d->viewers)
		mark_row(list_entry(l, struct display_viewer, node), x, y, n);
}

void display_put(struct display *d, unsigned x, unsigned y, unsigned n, const uint32_t *pixels)
{
	if (x >= d->s.width || y >= d->s.height)
		return;
	n = MIN(n, d->s.width - x);
	while (n) {
		unsigned piece = MIN(n, DISPLAY_TILE_W - x % DISPLAY_TILE_W);

		put_piece(d, x, y, piece, pixels);
		x += piece;
		pixels += piece;
		n -= piece;
	}
}

void display_set_cursor(struct display *d, const struct display_cursor *c)
{
	size_t n = (size_t)c->width * c->height;
	uint32_t *p = NULL;

	if (c->width && c->width <= DISPLAY_MAX_CURSOR && c->height && c->height <= DISPLAY_MAX_CURSOR)
		p = malloc(n * sizeof(*p));
	if (p)
		memcpy(p, c->pixels, n * sizeof(*p));
	free(d->cursor.pixels);
	d->cursor = *c;
	d->cursor.pixels = p;
	if (!p)
		d->cursor.width = d->cursor.height = 0;
	d->cursor.hot_x = MIN(c->hot_x, c->width);
	d->cursor.hot_y = MIN(c->hot_y, c->height);
	list_for_each(l, &d->viewers)
		list_entry(l, struct display_viewer, node)->new_cursor = true;
}

void display_move_cursor(struct display *d, int x, int y, bool visible)
{
	bool shown = d->cursor.visible != visible;

	d->cursor.x = x;
	d->cursor.y = y;
	d->cursor.visible = visible;
	list_for_each(l, &d->viewers) {
		struct display_viewer *v = list_entry(l, struct display_viewer, node);

		v->moved_cursor = true;
		v->new_cursor |= shown;
	}
}

/* ---- the viewers' side ---- */

static void both_lock(struct display *d)
{
	pthread_mutex_lock(d->machine_lock);
	display_lock(d);
}

static void both_unlock(struct display *d)
{
	display_unlock(d);
	pthread_mutex_unlock(d->machine_lock);
}

void display_watch(struct display *d, struct display_viewer *v)
{
	bool first;

	both_lock(d);
	first = list_empty(&d->viewers);
	list_add_tail(&d->viewers, &v->node);
	v->resized = v->new_cursor = v->moved_cursor = true;
	mark_all(d, v);
	if (first)
		tell_watched(adapter(d), true);
	both_unlock(d);
}

void display_unwatch(struct display *d, struct display_viewer *v)
{
	both_lock(d);
	list_del(&v->node);
	if (list_empty(&d->viewers))
		tell_watched(adapter(d), false);
	both_unlock(d);
}

void display_refresh(struct display *d)
{
	const struct adapter *a;

	both_lock(d);
	a = adapter(d);
	if (a->ops)
		a->ops->refresh(a->opaque, d);
	both_unlock(d);
}

static int copy_of(const struct surface *s, struct surface *out)
{
	size_t bytes = (size_t)s->width * s->height * sizeof(*s->pixels);

	*out = *s;
	out->pixels = NULL;
	if (!s->width)
		return -ENODATA;
	out->pixels = malloc(bytes);
	if (!out->pixels)
		return -ENOMEM;
	memcpy(out->pixels, s->pixels, bytes);
	return 0;
}

int display_copy(struct display *d, struct surface *out)
{
	const struct adapter *a = adapter(d);
	bool alone;
	int ret;

	display_lock(d);
	alone = list_empty(&d->viewers);
	if (alone)
		tell_watched(a, true);
	if (a->ops)
		a->ops->refresh(a->opaque, d);
	ret = copy_of(&d->s, out);
	if (alone)
		tell_watched(a, false);
	display_unlock(d);
	return ret;
}

bool display_wish(struct display *d, unsigned width, unsigned height)
{
	const struct adapter *a;
	bool ok;

	pthread_mutex_lock(d->machine_lock);
	a = adapter(d);
	ok = a->ops && a->ops->wish && width && height && width <= DISPLAY_MAX_WIDTH && height <= DISPLAY_MAX_HEIGHT;
	if (ok)
		a->ops->wish(a->opaque, width, height);
	pthread_mutex_unlock(d->machine_lock);
	return ok;
}

bool display_changed(struct display *d, const struct display_viewer *v)
{
	for (unsigned y = 0; y < (d->s.height + DISPLAY_TILE_H - 1) / DISPLAY_TILE_H; y++)
		for (unsigned w = 0; w < DISPLAY_TILE_WORDS; w++)
			if (v->changed[y][w])
				return true;
	return false;
}

static bool tile(const struct display_viewer *v, unsigned tx, unsigned ty)
{
	return v->changed[ty][tx / 64] & BIT64(tx % 64);
}

/* Do all of the tiles [tx, end) of the row have a change? */
static bool row_full(const struct display_viewer *v, unsigned tx, unsigned end, unsigned ty)
{
	for (; tx < end; tx++)
		if (!tile(v, tx, ty))
			return false;
	return true;
}

/* From the tile at tx, ty on: as wide as can be, then as high. */
static void grow(struct display_viewer *v, unsigned tx, unsigned ty, unsigned end_x, unsigned end_y, unsigned max_pixels,
		 struct display_rect *out)
{
	unsigned x2 = tx + 1, y2 = ty + 1, max = max_pixels ? max_pixels / (DISPLAY_TILE_W * DISPLAY_TILE_H) : UINT32_MAX;

	max = max ? max : 1;
	while (x2 < end_x && x2 - tx < max && tile(v, x2, ty))
		x2++;
	while (y2 < end_y && (y2 - ty + 1) * (x2 - tx) <= max && row_full(v, tx, x2, y2))
		y2++;
	for (unsigned y = ty; y < y2; y++)
		for (unsigned x = tx; x < x2; x++)
			v->changed[y][x / 64] &= ~BIT64(x % 64);
	*out = (struct display_rect){ tx * DISPLAY_TILE_W, ty * DISPLAY_TILE_H, (x2 - tx) * DISPLAY_TILE_W,
				      (y2 - ty) * DISPLAY_TILE_H };
}

/* The tiles that r touches, inside the surface; false: none. */
static bool tiles_of(const struct display *d, const struct display_rect *r, unsigned *x1, unsigned *y1, unsigned *x2,
		     unsigned *y2)
{
	if (r->x >= d->s.width || r->y >= d->s.height || !r->w || !r->h)
		return false;
	*x1 = r->x / DISPLAY_TILE_W;
	*y1 = r->y / DISPLAY_TILE_H;
	*x2 = (r->x + MIN(r->w, d->s.width - r->x) - 1) / DISPLAY_TILE_W + 1;
	*y2 = (r->y + MIN(r->h, d->s.height - r->y) - 1) / DISPLAY_TILE_H + 1;
	return true;
}

bool display_take(struct display *d, struct display_viewer *v, const struct display_rect *in, unsigned max_pixels,
		  struct display_rect *out)
{
	unsigned x1, y1, x2, y2;

	if (!tiles_of(d, in, &x1, &y1, &x2, &y2))
		return false;
	for (unsigned y = y1; y < y2; y++) {
		for (unsigned x = x1; x < x2; x++) {
			if (!tile(v, x, y))
				continue;
			grow(v, x, y, x2, y2, max_pixels, out);
			out->w = MIN(out->w, d->s.width - out->x);
			out->h = MIN(out->h, d->s.height - out->y);
			return true;
		}
	}
	return false;
}

void display_mark(struct display *d, struct display_viewer *v, const struct display_rect *r)
{
	unsigned x1, y1, x2, y2;

	if (!tiles_of(d, r, &x1, &y1, &x2, &y2))
		return;
	for (unsigned y = y1; y < y2; y++)
		for (unsigned x = x1; x < x2; x++)
			v->changed[y][x / 64] |= BIT64(x % 64);
}
