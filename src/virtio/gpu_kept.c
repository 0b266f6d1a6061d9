// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved state of virtio-gpu: outputs, then resources with what they hold and the
 * addresses of their backing.  It is foreign: everything is checked as if the
 * guest asked for it, and an address that is no memory fails as it would there.
 */
#include "virtio/gpu_int.h"

#include <errno.h>
#include <stdlib.h>

#include "display/edid.h"

struct head {
	uint32_t events, resources, outputs;
};

static const struct snap_field head_fields[] = {
	SNAP_FIELD(struct head, events),
	SNAP_FIELD(struct head, resources),
	SNAP_FIELD(struct head, outputs),
	SNAP_END
};
static const struct snap_table head_table = { "virtio-gpu", 1, head_fields };

static const struct snap_field output_fields[] = {
	SNAP_FIELD(struct gpu_output, want_width),
	SNAP_FIELD(struct gpu_output, want_height),
	SNAP_FIELD(struct gpu_output, resource),
	SNAP_FIELD(struct gpu_output, shown.x),
	SNAP_FIELD(struct gpu_output, shown.y),
	SNAP_FIELD(struct gpu_output, shown.w),
	SNAP_FIELD(struct gpu_output, shown.h),
	SNAP_FIELD(struct gpu_output, cursor_visible),
	SNAP_FIELD(struct gpu_output, hot_x),
	SNAP_FIELD(struct gpu_output, hot_y),
	SNAP_FIELD(struct gpu_output, x),
	SNAP_FIELD(struct gpu_output, y),
	SNAP_ARRAY(struct gpu_output, shape),
	SNAP_END
};
static const struct snap_table output_table = { "virtio-gpu-output", 1, output_fields };

struct kept {
	uint32_t id, format, width, height, pieces, noted_x, noted_y, noted_w, noted_h;
	bool backed;
};

static const struct snap_field kept_fields[] = {
	SNAP_FIELD(struct kept, id),
	SNAP_FIELD(struct kept, format),
	SNAP_FIELD(struct kept, width),
	SNAP_FIELD(struct kept, height),
	SNAP_FIELD(struct kept, pieces),
	SNAP_FIELD(struct kept, noted_x),
	SNAP_FIELD(struct kept, noted_y),
	SNAP_FIELD(struct kept, noted_w),
	SNAP_FIELD(struct kept, noted_h),
	SNAP_FIELD(struct kept, backed),
	SNAP_END
};
static const struct snap_table kept_table = { "virtio-gpu-resource", 1, kept_fields };

static uint32_t pixel_bytes(const struct gpu_res *r) { return r->width * r->height * 4; }

/* ---- saving ---- */

/* Pieces as two words each, little endian. */
static int save_pieces(const char *id, const struct gpu_res *r, struct snap_out *o)
{
	uint8_t *raw = malloc((size_t)r->n_pieces * 16 + 1);
	int ret;

	if (!raw)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->n_pieces; i++) {
		st_le64(raw + (size_t)i * 16, r->piece[i].gpa);
		st_le64(raw + (size_t)i * 16 + 8, r->piece[i].end);
	}
	ret = snap_put_blob(o, id, raw, r->n_pieces * 16);
	free(raw);
	return ret;
}

static int save_resource(const char *id, const struct gpu_res *r, struct snap_out *o)
{
	const struct kept k = { r->id, r->format, r->width, r->height, r->n_pieces, r->noted.x, r->noted.y, r->noted.w, r->noted.h,
				r->piece != NULL };
	int ret = snap_put(o, id, &kept_table, &k);

	if (!ret && r->piece)
		ret = save_pieces(id, r, o);
	return ret ? ret : snap_put_blob(o, id, r->pixels, pixel_bytes(r));
}

int gpu_save(struct virtio_dev *d, struct snap_out *o)
{
	struct gpu *g = gpu_of(d);
	const struct head h = { g->events, g->n_resources, g->outputs };
	int ret = snap_put(o, d->id, &head_table, &h);

	for (unsigned i = 0; !ret && i < g->outputs; i++)
		ret = snap_put(o, d->id, &output_table, &g->out[i]);
	for (unsigned i = 0; i < GPU_BUCKETS; i++)
		for (const struct gpu_res *r = g->bucket[i]; !ret && r; r = r->next)
			ret = save_resource(d->id, r, o);
	return ret;
}

/* ---- loading ---- */

static int damaged(const char *id, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "saved state of %s: %s makes no sense", id, what);
}

static int load_pieces(struct gpu *g, struct gpu_res *r, uint32_t n, struct snap_in *in, struct err *e)
{
	uint8_t *raw = malloc((size_t)n * 16 + 1);
	struct gpu_piece *piece = calloc(n + 1, sizeof(*piece));
	uint32_t len = 0;
	uint64_t end = 0;
	int ret = raw && piece ? snap_get_blob(in, g->dev.id, raw, n * 16, &len, e) : err_set(e, -ENOMEM, "out of memory");

	if (!ret && len != n * 16)
		ret = damaged(g->dev.id, "a resource's backing", e);
	for (uint32_t i = 0; !ret && i < n; i++) {
		piece[i] = (struct gpu_piece){ ld_le64(raw + (size_t)i * 16), ld_le64(raw + (size_t)i * 16 + 8) };
		if (piece[i].end < end || piece[i].end - end > UINT32_MAX)
			ret = damaged(g->dev.id, "a resource's backing", e);
		end = piece[i].end;
	}
	if (!ret && gpu_attach(g, r, piece, n))
		ret = damaged(g->dev.id, "a resource's backing", e);
	if (ret)
		free(piece);
	free(raw);
	return ret;
}

static int load_resource(struct gpu *g, struct snap_in *in, struct err *e)
{
	struct kept k = { 0 };
	struct gpu_res *r;
	uint32_t len;
	int ret = snap_get(in, g->dev.id, &kept_table, &k, e);

	if (ret)
		return ret;
	if (k.pieces > GPU_MAX_PIECES || gpu_create(g, k.id, k.format, k.width, k.height, &r))
		return damaged(g->dev.id, "a resource", e);
	if (k.backed)
		ret = load_pieces(g, r, k.pieces, in, e);
	if (!ret)
		ret = snap_get_blob(in, g->dev.id, r->pixels, pixel_bytes(r), &len, e);
	if (!ret && len != pixel_bytes(r))
		ret = damaged(g->dev.id, "a resource's picture", e);
	if (ret || !k.noted_w)
		return ret;
	r->noted = (struct display_rect){ k.noted_x, k.noted_y, k.noted_w, k.noted_h };
	/* As gpu_transfer has it: all of the resource is there. */
	if (!r->n_pieces || r->piece[r->n_pieces - 1].end < pixel_bytes(r) || !gpu_rect_inside(&r->noted, r->width, r->height)) {
		r->noted.w = 0;
		return damaged(g->dev.id, "a resource", e);
	}
	return 0;
}

static bool output_sane(struct gpu *g, const struct gpu_output *o)
{
	struct gpu_res *r = o->resource ? gpu_find(g, o->resource) : NULL;

	if (!o->want_width || o->want_width > GPU_MAX_SIDE || !o->want_height || o->want_height > GPU_MAX_SIDE ||
	    o->hot_x > GPU_CURSOR || o->hot_y > GPU_CURSOR)
		return false;
	return o->resource ? r && gpu_rect_inside(&o->shown, r->width, r->height) : !o->shown.w && !o->shown.h;
}

static int load_all(struct gpu *g, struct snap_in *in, struct err *e)
{
	struct head h = { 0 };
	int ret = snap_get(in, g->dev.id, &head_table, &h, e);

	if (!ret && (h.outputs != g->outputs || h.resources > GPU_MAX_RESOURCES))
		ret = err_set(e, -EINVAL, "saved state of %s has %u outputs and %u resources, this one %u and at most %u", g->dev.id,
			      h.outputs, h.resources, g->outputs, GPU_MAX_RESOURCES);
	for (unsigned i = 0; !ret && i < g->outputs; i++)
		ret = snap_get(in, g->dev.id, &output_table, &g->out[i], e);
	for (uint32_t i = 0; !ret && i < h.resources; i++)
		ret = load_resource(g, in, e);
	for (unsigned i = 0; !ret && i < g->outputs; i++)
		if (!output_sane(g, &g->out[i]))
			ret = damaged(g->dev.id, "an output", e);
	g->events = h.events & GPU_EVENT_DISPLAY;
	return ret;
}

int gpu_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct gpu *g = gpu_of(d);
	int ret = load_all(g, in, e);

	if (!ret) {
		gpu_show_again(g);
		return 0;
	}
	for (unsigned i = 0; i < g->outputs; i++) {	/* nothing of it is believed */
		g->out[i].want_width = EDID_WIDTH;
		g->out[i].want_height = EDID_HEIGHT;
		g->out[i].resource = 0;
	}
	gpu_blank(g);
	gpu_destroy_all(g);
	return ret;
}
