// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Resources of virtio-gpu: host memory of a bounded amount, and copies to it from
 * the guest's pages.
 *
 * Backing pages are kept as guest-physical addresses and looked up at each copy.
 * A copy is made when somebody looks, or before the pages are taken away: until then it
 * is joined to the rectangle that is to be copied.  So nobody pays for pictures that
 * nobody sees, and who looks thirty times a second for no more than thirty.
 */
#include "virtio/gpu_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

bool gpu_format_known(uint32_t format)
{
	switch (format) {
	case GPU_BGRA: case GPU_BGRX: case GPU_ARGB: case GPU_XRGB: case GPU_RGBA: case GPU_XBGR: case GPU_ABGR: case GPU_RGBX:
		return true;
	default:
		return false;
	}
}

/* A rectangle of at least a pixel. */
bool gpu_rect_inside(const struct display_rect *r, uint32_t width, uint32_t height)
{
	return r->w && r->h && range_inside(r->x, r->w, width) && range_inside(r->y, r->h, height);
}

void gpu_rect_join(struct display_rect *to, const struct display_rect *r)
{
	unsigned right, bottom;

	if (!to->w) {
		*to = *r;
		return;
	}
	right = MAX(to->x + to->w, r->x + r->w);
	bottom = MAX(to->y + to->h, r->y + r->h);
	to->x = MIN(to->x, r->x);
	to->y = MIN(to->y, r->y);
	to->w = right - to->x;
	to->h = bottom - to->y;
}

/* ---- the table of resources ---- */

static struct gpu_res **place_of(struct gpu *g, uint32_t id)
{
	struct gpu_res **p = &g->bucket[id % GPU_BUCKETS];

	while (*p && (*p)->id != id)
		p = &(*p)->next;
	return p;
}

struct gpu_res *gpu_find(struct gpu *g, uint32_t id) { return *place_of(g, id); }

static uint64_t bytes_of(uint32_t width, uint32_t height) { return (uint64_t)width * height * 4; }

enum gpu_error gpu_create(struct gpu *g, uint32_t id, uint32_t format, uint32_t width, uint32_t height, struct gpu_res **out)
{
	struct gpu_res **p = place_of(g, id), *r;

	if (!id || *p)
		return GPU_ERR_INVALID_RESOURCE_ID;
	if (!gpu_format_known(format) || !width || !height || width > DISPLAY_MAX_WIDTH || height > DISPLAY_MAX_HEIGHT)
		return GPU_ERR_INVALID_PARAMETER;
	if (g->n_resources >= GPU_MAX_RESOURCES || bytes_of(width, height) > VIRTIO_GPU_MAX_BYTES - g->bytes)
		return GPU_ERR_OUT_OF_MEMORY;
	r = calloc(1, sizeof(*r));
	if (r)
		r->pixels = calloc((size_t)width * height, sizeof(*r->pixels));
	if (!r || !r->pixels) {
		free(r);
		return GPU_ERR_OUT_OF_MEMORY;
	}
	r->id = id;
	r->format = format;
	r->width = width;
	r->height = height;
	*p = r;
	g->n_resources++;
	g->bytes += bytes_of(width, height);
	*out = r;
	return GPU_OK;
}

static void forget_pieces(struct gpu *g, struct gpu_res *r)
{
	g->n_pieces -= r->n_pieces;
	free(r->piece);
	r->piece = NULL;
	r->n_pieces = 0;
	r->hint = 0;
	r->noted.w = 0;
}

void gpu_destroy(struct gpu *g, struct gpu_res *r)
{
	*place_of(g, r->id) = r->next;
	forget_pieces(g, r);
	g->n_resources--;
	g->bytes -= bytes_of(r->width, r->height);
	free(r->pixels);
	free(r);
}

void gpu_destroy_all(struct gpu *g)
{
	for (unsigned i = 0; i < GPU_BUCKETS; i++)
		while (g->bucket[i])
			gpu_destroy(g, g->bucket[i]);
}

/* ---- backing ---- */

static uint64_t backing_size(const struct gpu_res *r) { return r->n_pieces ? r->piece[r->n_pieces - 1].end : 0; }

static uint64_t begin_of(const struct gpu_res *r, unsigned i) { return i ? r->piece[i - 1].end : 0; }

enum gpu_error gpu_attach(struct gpu *g, struct gpu_res *r, struct gpu_piece *piece, uint32_t n)
{
	uint64_t begin = 0;

	if (n > GPU_ALL_PIECES - g->n_pieces)
		return GPU_ERR_OUT_OF_MEMORY;
	for (uint32_t i = 0; i < n; begin = piece[i++].end)
		if (piece[i].end > begin && !mem_ptr(g->dev.m->mem, piece[i].gpa, piece[i].end - begin, false))
			return GPU_ERR_INVALID_PARAMETER;
	r->piece = piece;
	r->n_pieces = n;
	r->hint = 0;
	g->n_pieces += n;
	return GPU_OK;
}

void gpu_detach(struct gpu *g, struct gpu_res *r)
{
	gpu_settle(g, r);
	forget_pieces(g, r);
}

/* ---- copies ---- */

/* The piece that holds byte off, which there is. */
static unsigned piece_at(struct gpu_res *r, uint64_t off)
{
	unsigned lo = 0, hi = r->n_pieces - 1;

	if (off >= begin_of(r, r->hint) && off < r->piece[r->hint].end)
		return r->hint;
	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (off < r->piece[mid].end)
			hi = mid;
		else
			lo = mid + 1;
	}
	return r->hint = lo;
}

/* len bytes of the backing from off on; they are there.  Memory may have gone away meanwhile: false. */
static bool fetch(struct gpu *g, struct gpu_res *r, uint64_t off, uint8_t *to, uint64_t len)
{
	for (unsigned i = len ? piece_at(r, off) : 0; len; i++) {
		uint64_t in = off - begin_of(r, i), n = MIN(r->piece[i].end - off, len);

		r->hint = i;
		if (n && mem_read(g->dev.m->mem, r->piece[i].gpa + in, to, n))
			return false;
		off += n;
		to += n;
		len -= n;
	}
	return true;
}

static bool copy(struct gpu *g, struct gpu_res *r, const struct display_rect *to, uint64_t offset)
{
	uint64_t pitch = (uint64_t)r->width * 4, row = (uint64_t)to->w * 4;
	uint8_t *at = (uint8_t *)(r->pixels + (size_t)to->y * r->width + to->x);
	bool ok = true;

	g->copied += row * to->h;
	if (to->w == r->width)		/* one piece */
		return fetch(g, r, offset, at, pitch * to->h);
	for (unsigned y = 0; y < to->h && ok; y++, at += pitch, offset += pitch)
		ok = fetch(g, r, offset, at, row);
	return ok;
}

enum gpu_error gpu_transfer(struct gpu *g, struct gpu_res *r, const struct display_rect *to, uint64_t offset)
{
	uint64_t pitch = (uint64_t)r->width * 4, len = pitch * (to->h - 1) + (uint64_t)to->w * 4;

	if (!range_inside(offset, len, backing_size(r)))
		return GPU_ERR_INVALID_PARAMETER;
	/* What can be fetched later as well has its place in the backing where it has it here. */
	if (offset == to->y * pitch + to->x * 4ull && backing_size(r) >= bytes_of(r->width, r->height)) {
		gpu_rect_join(&r->noted, to);
		return GPU_OK;
	}
	gpu_settle(g, r);		/* what was asked for before must not come over it afterwards */
	return copy(g, r, to, offset) ? GPU_OK : GPU_ERR_UNSPEC;
}

void gpu_fetch_row(struct gpu *g, struct gpu_res *r, unsigned y)
{
	const struct display_rect row = { r->noted.x, y, r->noted.w, 1 };

	if (r->piece && y - r->noted.y < r->noted.h)
		copy(g, r, &row, (y * (uint64_t)r->width + row.x) * 4);
}

void gpu_settle(struct gpu *g, struct gpu_res *r)
{
	struct display_rect to = r->noted;

	r->noted.w = 0;
	if (to.w && r->piece)
		copy(g, r, &to, (to.y * (uint64_t)r->width + to.x) * 4);
}

/* ---- pixels ---- */

/* Which bits of the little-endian word are red, green, blue. */
static void convert(const uint32_t *p, unsigned n, unsigned red, unsigned green, unsigned blue, unsigned alpha, uint32_t *out)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = (p[i] >> alpha & 255) << 24 | (p[i] >> red & 255) << 16 | (p[i] >> green & 255) << 8 | (p[i] >> blue & 255);
}

const uint32_t *gpu_row(struct gpu *g, const struct gpu_res *r, unsigned x, unsigned y, unsigned n)
{
	const uint32_t *p = r->pixels + (size_t)y * r->width + x;

	switch (r->format) {
	case GPU_BGRA: case GPU_BGRX: return p;
	case GPU_ARGB: case GPU_XRGB: convert(p, n, 8, 16, 24, 0, g->line); break;
	case GPU_XBGR: case GPU_ABGR: convert(p, n, 24, 16, 8, 0, g->line); break;
	default: convert(p, n, 0, 8, 16, 24, g->line); break;
	}
	return g->line;
}
