// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From resources to displays.
 *
 * What is flushed is remembered as one rectangle for each output and put onto the
 * surface at the next refresh, which compares; nothing is remembered while nobody
 * looks.  The shape of the cursor is taken when the driver sets it.
 */
#include "virtio/gpu_int.h"

#include <string.h>

#include "display/edid.h"

static const struct display_ops display_ops;

/* Not empty either when nothing is shown: black is to be drawn, too. */
static void dirty_all(struct gpu_output *o)
{
	o->dirty = (struct display_rect){ 0, 0, MAX(o->shown.w, 1u), o->shown.h };
}

/* ---- the display's calls ---- */

static void tell_cursor(struct gpu_output *o, struct display *d)
{
	if (o->new_cursor) {
		const struct display_cursor c = {
			.width = GPU_CURSOR, .height = GPU_CURSOR, .hot_x = o->hot_x, .hot_y = o->hot_y, .x = (int)o->x, .y = (int)o->y,
			.visible = o->cursor_visible, .pixels = o->shape,
		};

		display_set_cursor(d, &c);
	} else if (o->moved_cursor) {
		display_move_cursor(d, (int)o->x, (int)o->y, o->cursor_visible);
	}
	o->new_cursor = o->moved_cursor = false;
}

/* Nothing is shown: black, of the size there was. */
static void draw_nothing(struct gpu_output *o, struct display *d)
{
	const struct surface *s = display_surface(d);

	display_resize(d, s->width ? s->width : o->want_width, s->height ? s->height : o->want_height);
	memset(o->g->line, 0, s->width * sizeof(*o->g->line));
	for (unsigned y = 0; y < s->height; y++)
		display_put(d, 0, y, s->width, o->g->line);
}

/* What is noted is fetched row by row, and is in the cache still when it is put onto the surface. */
static void draw(struct gpu_output *o, struct gpu_res *r, struct display *d)
{
	const struct display_rect *dirty = &o->dirty, *noted = &r->noted;
	unsigned left = o->shown.x + dirty->x, top = o->shown.y + dirty->y;
	bool inside = noted->w && noted->x >= left && noted->x + noted->w <= left + dirty->w && noted->y >= top &&
		      noted->y + noted->h <= top + dirty->h;

	if (!inside)
		gpu_settle(o->g, r);
	display_resize(d, o->shown.w, o->shown.h);
	for (unsigned y = 0; y < dirty->h; y++) {
		if (inside)
			gpu_fetch_row(o->g, r, top + y);
		display_put(d, dirty->x, dirty->y + y, dirty->w, gpu_row(o->g, r, left, top + y, dirty->w));
	}
	r->noted.w = 0;
}

static void refresh(void *opaque, struct display *d)
{
	struct gpu_output *o = opaque;
	struct gpu_res *r = o->resource ? gpu_find(o->g, o->resource) : NULL;

	tell_cursor(o, d);
	if (!o->dirty.w)
		return;
	if (r)
		draw(o, r, d);
	else
		draw_nothing(o, d);
	o->dirty.w = 0;
}

static void watched(void *opaque, bool on)
{
	struct gpu_output *o = opaque;

	o->watched = on;
	o->dirty.w = 0;
	if (!on)
		return;
	dirty_all(o);
	o->new_cursor = true;
}

/* 5.7.6.1: the driver is told, asks for display info and EDID, and sets what it likes. */
static void wish(void *opaque, unsigned width, unsigned height)
{
	struct gpu_output *o = opaque;

	width = MIN(width, GPU_MAX_SIDE);
	height = MIN(height, GPU_MAX_SIDE);
	if (width == o->want_width && height == o->want_height)
		return;
	o->want_width = width;
	o->want_height = height;
	o->g->events |= GPU_EVENT_DISPLAY;
	virtio_dev_config_changed(&o->g->dev);
}

static const struct display_ops display_ops = { .refresh = refresh, .watched = watched, .wish = wish };

/* ---- whose the display is ---- */

/* The driver shows something where the VGA did. */
static void take_over(struct gpu_output *o)
{
	if (!o->g->shared || o->n || o->over)
		return;
	o->over = true;
	display_override(o->display, &display_ops, o);
}

static void give_back(struct gpu_output *o)
{
	if (!o->over)
		return;
	o->over = false;
	display_override(o->display, NULL, NULL);
}

void gpu_attach_displays(struct gpu *g)
{
	for (unsigned i = 0; i < g->outputs; i++) {
		struct gpu_output *o = &g->out[i];

		o->g = g;
		o->n = i;
		o->want_width = EDID_WIDTH;
		o->want_height = EDID_HEIGHT;
		if (!g->shared || i)
			display_attach(o->display, &display_ops, o);
	}
}

void gpu_release_displays(struct gpu *g)
{
	for (unsigned i = 0; i < g->outputs; i++) {
		give_back(&g->out[i]);
		if (!g->shared || i)
			display_attach(g->out[i].display, NULL, NULL);
	}
}

/* ---- the driver's calls ---- */

void gpu_set_scanout(struct gpu_output *o, const struct gpu_res *r, const struct display_rect *part)
{
	if (r)
		take_over(o);
	o->resource = r ? r->id : 0;
	o->shown = r ? *part : (struct display_rect){ 0 };
	if (o->watched)
		dirty_all(o);
}

void gpu_flush(struct gpu *g, const struct gpu_res *r, const struct display_rect *part)
{
	for (unsigned i = 0; i < g->outputs; i++) {
		struct gpu_output *o = &g->out[i];
		unsigned x1 = MAX(part->x, o->shown.x), y1 = MAX(part->y, o->shown.y);
		unsigned x2 = MIN(part->x + part->w, o->shown.x + o->shown.w), y2 = MIN(part->y + part->h, o->shown.y + o->shown.h);
		struct display_rect seen = { x1 - o->shown.x, y1 - o->shown.y, x2 - x1, y2 - y1 };

		if (o->watched && o->resource == r->id && x1 < x2 && y1 < y2)
			gpu_rect_join(&o->dirty, &seen);
	}
}

/* Drivers draw with colours multiplied by alpha, which is there whatever the format says: Linux calls all its buffers BGRX. */
static uint32_t undo_alpha(uint32_t p)
{
	uint32_t a = p >> 24, out = a << 24;

	for (unsigned shift = 0; a && shift < 24; shift += 8)
		out |= MIN(((p >> shift & 255) * 255 + a / 2) / a, 255u) << shift;
	return out;
}

void gpu_set_cursor(struct gpu_output *o, struct gpu_res *r, uint32_t hot_x, uint32_t hot_y)
{
	o->new_cursor = true;
	o->cursor_visible = r != NULL;
	if (!r)
		return;
	o->hot_x = MIN(hot_x, GPU_CURSOR);
	o->hot_y = MIN(hot_y, GPU_CURSOR);
	gpu_settle(o->g, r);
	for (unsigned y = 0; y < GPU_CURSOR; y++) {
		const uint32_t *row = gpu_row(o->g, r, 0, y, GPU_CURSOR);

		for (unsigned x = 0; x < GPU_CURSOR; x++)
			o->shape[y * GPU_CURSOR + x] = undo_alpha(row[x]);
	}
}

void gpu_move_cursor(struct gpu_output *o, uint32_t x, uint32_t y)
{
	o->x = x;
	o->y = y;
	o->moved_cursor = true;
}

void gpu_blank(struct gpu *g)
{
	for (unsigned i = 0; i < g->outputs; i++) {
		struct gpu_output *o = &g->out[i];

		gpu_set_scanout(o, NULL, NULL);
		gpu_set_cursor(o, NULL, 0, 0);
		gpu_move_cursor(o, 0, 0);
		o->hot_x = o->hot_y = 0;
		memset(o->shape, 0, sizeof(o->shape));
		give_back(o);
	}
}

void gpu_show_again(struct gpu *g)
{
	for (unsigned i = 0; i < g->outputs; i++) {
		struct gpu_output *o = &g->out[i];

		if (o->resource)
			take_over(o);
		o->new_cursor = true;
		if (o->watched)
			dirty_all(o);
	}
}
