/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of virtio-gpu share: gpu.c the device and its queues, gpu_cmd.c
 * the commands, gpu_res.c resources and what is copied to them, gpu_show.c the
 * displays, gpu_kept.c saved state.  Machine lock held everywhere.
 */
#ifndef LODGE_VIRTIO_GPU_INT_H
#define LODGE_VIRTIO_GPU_INT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bits.h"
#include "display/display.h"
#include "virtio/device.h"
#include "virtio/gpu.h"

#define GPU_F_EDID (1ull << 1)
#define GPU_EVENT_DISPLAY 1u
#define GPU_Q_CONTROL 0
#define GPU_Q_CURSOR 1

#define GPU_MAX_RESOURCES 16384u
#define GPU_MAX_PIECES 16384u		/* of one resource, as other devices have it */
#define GPU_ALL_PIECES (256u << 10)
#define GPU_BUCKETS 256u
#define GPU_CURSOR 64u			/* pixels a side (5.7.6.10) */
#define GPU_MAX_SIDE 4095u		/* what an EDID can say */

/* enum virtio_gpu_formats (5.7.6.8), named by the order of bytes in memory. */
enum { GPU_BGRA = 1, GPU_BGRX = 2, GPU_ARGB = 3, GPU_XRGB = 4, GPU_RGBA = 67, GPU_XBGR = 68, GPU_ABGR = 121, GPU_RGBX = 134 };

struct gpu_piece {
	uint64_t gpa;
	uint64_t end;			/* of its bytes in the backing */
};

struct gpu_res {
	struct gpu_res *next;		/* in its bucket */
	uint32_t id, format, width, height;
	uint32_t *pixels;		/* rows follow each other, bytes as the guest has them */
	struct gpu_piece *piece;	/* the backing; NULL: none */
	uint32_t n_pieces;
	unsigned hint;			/* the piece that was used last */
	struct display_rect noted;	/* copied when somebody looks; w 0: nothing */
};

struct gpu_output {
	struct gpu *g;
	unsigned n;
	struct display *display;
	bool watched, over;		/* over: it has the display that another adapter had */
	uint32_t want_width, want_height;	/* what the viewer would like */
	uint32_t resource;		/* 0: nothing is shown */
	struct display_rect shown;	/* of it */
	struct display_rect dirty;	/* of what is shown; w 0: nothing */
	/* The cursor. */
	bool new_cursor, moved_cursor;	/* to be told to the display */
	bool cursor_visible;
	uint32_t hot_x, hot_y;
	uint32_t x, y;
	uint32_t shape[GPU_CURSOR * GPU_CURSOR];	/* 0xAARRGGBB, not premultiplied */
};

struct gpu {
	struct virtio_dev dev;		/* first */
	bool shared;
	unsigned outputs;
	struct gpu_output out[VIRTIO_GPU_MAX_OUTPUTS];
	uint32_t events;		/* events_read */
	struct gpu_res *bucket[GPU_BUCKETS];
	uint32_t n_resources, n_pieces;
	uint64_t bytes;
	uint64_t copied;		/* bytes, of the batch under way */
	uint32_t line[DISPLAY_MAX_WIDTH];
	struct vq_chain chain;
};

static inline struct gpu *gpu_of(struct virtio_dev *d) { return container_of(d, struct gpu, dev); }

/* ---- gpu_cmd.c ---- */
/* Answers the chain; how many bytes were written. */
uint64_t gpu_control(struct gpu *g, const struct vq_chain *c);
uint64_t gpu_cursor_command(struct gpu *g, const struct vq_chain *c);

/* ---- gpu_res.c ---- */
enum gpu_error { GPU_OK = 0, GPU_ERR_UNSPEC = 0x1200, GPU_ERR_OUT_OF_MEMORY, GPU_ERR_INVALID_SCANOUT_ID,
		 GPU_ERR_INVALID_RESOURCE_ID, GPU_ERR_INVALID_CONTEXT_ID, GPU_ERR_INVALID_PARAMETER };
struct gpu_res *gpu_find(struct gpu *g, uint32_t id);
enum gpu_error gpu_create(struct gpu *g, uint32_t id, uint32_t format, uint32_t width, uint32_t height, struct gpu_res **out);
void gpu_destroy(struct gpu *g, struct gpu_res *r);
void gpu_destroy_all(struct gpu *g);
/* piece[]: n of them, taken over on success; n may be 0. */
enum gpu_error gpu_attach(struct gpu *g, struct gpu_res *r, struct gpu_piece *piece, uint32_t n);
void gpu_detach(struct gpu *g, struct gpu_res *r);
/* From byte `offset` of the backing on to the rectangle, or a note of it. */
enum gpu_error gpu_transfer(struct gpu *g, struct gpu_res *r, const struct display_rect *to, uint64_t offset);
/* Makes the part of the noted copy that row y has; the note stays. */
void gpu_fetch_row(struct gpu *g, struct gpu_res *r, unsigned y);
/* Makes the copy that was noted. */
void gpu_settle(struct gpu *g, struct gpu_res *r);
bool gpu_rect_inside(const struct display_rect *r, uint32_t width, uint32_t height);
void gpu_rect_join(struct display_rect *to, const struct display_rect *r);
/* n pixels of row y from x on, as the surface has them: there, or in g->line. */
const uint32_t *gpu_row(struct gpu *g, const struct gpu_res *r, unsigned x, unsigned y, unsigned n);
bool gpu_format_known(uint32_t format);

/* ---- gpu_show.c ---- */
void gpu_attach_displays(struct gpu *g);
void gpu_release_displays(struct gpu *g);	/* the device goes away */
/* Shows a part of the resource; NULL: nothing. */
void gpu_set_scanout(struct gpu_output *o, const struct gpu_res *r, const struct display_rect *part);
/* A part of a resource has changed, wherever it is shown. */
void gpu_flush(struct gpu *g, const struct gpu_res *r, const struct display_rect *part);
/* r NULL: none is shown. */
void gpu_set_cursor(struct gpu_output *o, struct gpu_res *r, uint32_t hot_x, uint32_t hot_y);
void gpu_move_cursor(struct gpu_output *o, uint32_t x, uint32_t y);
/* As after power-on. */
void gpu_blank(struct gpu *g);
/* Saved state was taken: displays are what it says. */
void gpu_show_again(struct gpu *g);

/* ---- gpu_kept.c ---- */
int gpu_save(struct virtio_dev *d, struct snap_out *o);
int gpu_load(struct virtio_dev *d, struct snap_in *in, struct err *e);

#endif
