/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One screen: what a display adapter shows and viewers look at.
 *
 * The adapter draws into the surface when it is asked to refresh it, and it is
 * asked only while there is a viewer: a screen nobody looks at costs nothing.
 * What is put onto the surface is compared with what is there, tile by tile, so
 * an adapter may offer more than has changed; each viewer has a map of its own of
 * the tiles that changed since it last took them.
 *
 * Locks: the machine lock first (display_refresh takes it, for as long as the
 * adapter needs to copy what changed), then the display's own, which protects
 * the surface, the cursor and the viewers' maps.  It knows nothing of machines:
 * their lock is given to it.
 */
#ifndef LODGE_DISPLAY_DISPLAY_H
#define LODGE_DISPLAY_DISPLAY_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define DISPLAY_MAX_WIDTH 16384u
#define DISPLAY_MAX_HEIGHT 16384u
#define DISPLAY_MAX_PIXELS (64u << 20)
#define DISPLAY_TILE_W 64u
#define DISPLAY_TILE_H 16u
#define DISPLAY_TILE_ROWS (DISPLAY_MAX_HEIGHT / DISPLAY_TILE_H)
#define DISPLAY_TILE_WORDS (DISPLAY_MAX_WIDTH / DISPLAY_TILE_W / 64)
#define DISPLAY_MAX_CURSOR 256u

/* 32 bits a pixel: 0xXXRRGGBB, the upper byte has no meaning; rows follow each other. */
struct surface {
	unsigned width, height;		/* 0: nothing is shown */
	uint32_t *pixels;
};

/* A pointer's shape, drawn by the viewer; 0xAARRGGBB, not premultiplied. */
struct display_cursor {
	unsigned width, height;		/* 0: none is defined, the guest draws its own */
	unsigned hot_x, hot_y;
	int x, y;			/* where the hot spot is */
	bool visible;
	uint32_t *pixels;
};

struct display_rect {
	unsigned x, y, w, h;
};

struct display;

/* The adapter's side.  All with the machine lock held. */
struct display_ops {
	/* Puts what changed onto the surface (display_resize, display_put ...); the display's
	 * lock is held too. */
	void (*refresh)(void *opaque, struct display *d);
	/* The first viewer came, or the last one went. */
	void (*watched)(void *opaque, bool on);
	/* A viewer would like this size.  May be NULL: the guest decides alone. */
	void (*wish)(void *opaque, unsigned width, unsigned height);
};

/* Who looks; embedded by the viewer, which owns it. */
struct display_viewer {
	struct list node;
	uint64_t changed[DISPLAY_TILE_ROWS][DISPLAY_TILE_WORDS];
	bool resized, new_cursor, moved_cursor;	/* set here, cleared by the viewer */
};

/* machine_lock outlives the display.  0 or -ENOMEM. */
int display_new(pthread_mutex_t *machine_lock, struct display **out);
/* Adapter and viewers are gone. */
void display_free(struct display *d);

/* Machine lock held.  NULL: the adapter goes away; the picture stays. */
void display_attach(struct display *d, const struct display_ops *ops, void *opaque);
/* Another adapter in front of the attached one, which is asked nothing meanwhile; NULL: no more. */
void display_override(struct display *d, const struct display_ops *ops, void *opaque);

/* ---- adapter: inside refresh ---- */

/* The surface gets this size (a size beyond the limits: none) and is black if that is new. */
void display_resize(struct display *d, unsigned width, unsigned height);
/* n pixels of row y from x on; what lies outside the surface is left out. */
void display_put(struct display *d, unsigned x, unsigned y, unsigned n, const uint32_t *pixels);
/* Takes over a copy of the shape; up to DISPLAY_MAX_CURSOR squared, else none. */
void display_set_cursor(struct display *d, const struct display_cursor *c);
void display_move_cursor(struct display *d, int x, int y, bool visible);

/* What is shown now, for who looks once: pixels are a copy, to be freed.  Machine lock held.  0, -ENODATA: nothing is shown,
 * -ENOMEM */
int display_copy(struct display *d, struct surface *out);

/* ---- viewer: any thread, no lock held unless said ---- */

/* From now on v is told of changes; all of the surface counts as changed. */
void display_watch(struct display *d, struct display_viewer *v);
void display_unwatch(struct display *d, struct display_viewer *v);
/* Brings the surface up to date. */
void display_refresh(struct display *d);
/* False: no adapter, or it decides alone. */
bool display_wish(struct display *d, unsigned width, unsigned height);

void display_lock(struct display *d);
void display_unlock(struct display *d);
/* The display's lock held, as long as what they give is used. */
const struct surface *display_surface(struct display *d);
const struct display_cursor *display_cursor(struct display *d);
/* Has a tile changed? */
bool display_changed(struct display *d, const struct display_viewer *v);
/* The next changed rectangle inside `in`, taken off v's map; false: there is none.  Rectangles
 * do not overlap, begin on tiles and are at most max_pixels large (0: any size). */
bool display_take(struct display *d, struct display_viewer *v, const struct display_rect *in, unsigned max_pixels,
		  struct display_rect *out);
/* All tiles that touch r count as changed. */
void display_mark(struct display *d, struct display_viewer *v, const struct display_rect *r);

#endif
