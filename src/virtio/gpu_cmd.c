// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The commands of virtio-gpu (5.7.6.7 to 5.7.6.10).
 *
 * A request is copied out of the guest's memory once and looked at then; only the
 * list of pages that back a resource is read in a second piece, behind it.
 */
#include "virtio/gpu_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/iov.h"
#include "display/edid.h"

enum { GET_DISPLAY_INFO = 0x100, RESOURCE_CREATE_2D, RESOURCE_UNREF, SET_SCANOUT, RESOURCE_FLUSH, TRANSFER_TO_HOST_2D,
       RESOURCE_ATTACH_BACKING, RESOURCE_DETACH_BACKING, GET_CAPSET_INFO, GET_CAPSET, GET_EDID,
       UPDATE_CURSOR = 0x300, MOVE_CURSOR };
enum { RESP_OK_NODATA = 0x1100, RESP_OK_DISPLAY_INFO, RESP_OK_CAPSET_INFO, RESP_OK_CAPSET, RESP_OK_EDID };

#define FLAG_FENCE 1u

/* struct virtio_gpu_ctrl_hdr: le32 type, flags; le64 fence_id; le32 ctx_id; u8 ring_idx; padding */
#define HDR 24u
#define MAX_REQUEST 56u			/* the longest but for what attaching has behind it */
#define MODES 16u			/* pmodes of the answer, however many outputs there are */
#define MODE_LEN 24u			/* rectangle, enabled, flags */
#define EDID_FIELD 1024u
#define ENTRY_LEN 16u			/* le64 address, le32 length, padding */

struct answer {
	uint8_t data[HDR + 8 + EDID_FIELD];
	size_t len;
};

struct request {
	struct gpu *g;
	const struct vq_chain *c;
	uint8_t data[MAX_REQUEST];	/* zeros behind what the driver sent */
	size_t len;
	struct answer a;
};

static uint32_t word(const struct request *q, unsigned off) { return ld_le32(q->data + off); }

static struct display_rect rect_at(const struct request *q, unsigned off)
{
	return (struct display_rect){ word(q, off), word(q, off + 4), word(q, off + 8), word(q, off + 12) };
}

/* ---- displays ---- */

static enum gpu_error display_info(struct request *q)
{
	for (unsigned i = 0; i < q->g->outputs; i++) {
		uint8_t *mode = q->a.data + HDR + (size_t)i * MODE_LEN;

		st_le32(mode + 8, q->g->out[i].want_width);
		st_le32(mode + 12, q->g->out[i].want_height);
		st_le32(mode + 16, 1);
	}
	q->a.len = HDR + (size_t)MODES * MODE_LEN;
	st_le32(q->a.data, RESP_OK_DISPLAY_INFO);
	return GPU_OK;
}

static enum gpu_error get_edid(struct request *q)
{
	uint32_t n = word(q, HDR);

	if (n >= q->g->outputs)
		return GPU_ERR_INVALID_SCANOUT_ID;
	edid_make(q->g->out[n].want_width, q->g->out[n].want_height, q->a.data + HDR + 8);
	st_le32(q->a.data + HDR, EDID_SIZE);
	q->a.len = HDR + 8 + EDID_FIELD;
	st_le32(q->a.data, RESP_OK_EDID);
	return GPU_OK;
}

static enum gpu_error set_scanout(struct request *q)
{
	struct display_rect part = rect_at(q, HDR);
	uint32_t n = word(q, HDR + 16), id = word(q, HDR + 20);
	struct gpu_res *r;

	if (n >= q->g->outputs)
		return GPU_ERR_INVALID_SCANOUT_ID;
	if (!id) {
		gpu_set_scanout(&q->g->out[n], NULL, NULL);
		return GPU_OK;
	}
	r = gpu_find(q->g, id);
	if (!r)
		return GPU_ERR_INVALID_RESOURCE_ID;
	if (!gpu_rect_inside(&part, r->width, r->height))
		return GPU_ERR_INVALID_PARAMETER;
	gpu_set_scanout(&q->g->out[n], r, &part);
	return GPU_OK;
}

/* ---- resources ---- */

static enum gpu_error create(struct request *q)
{
	struct gpu_res *r;

	return gpu_create(q->g, word(q, HDR), word(q, HDR + 4), word(q, HDR + 8), word(q, HDR + 12), &r);
}

static enum gpu_error unref(struct request *q)
{
	struct gpu_res *r = gpu_find(q->g, word(q, HDR));

	if (!r)
		return GPU_ERR_INVALID_RESOURCE_ID;
	for (unsigned i = 0; i < q->g->outputs; i++)
		if (q->g->out[i].resource == r->id)
			gpu_set_scanout(&q->g->out[i], NULL, NULL);
	gpu_destroy(q->g, r);
	return GPU_OK;
}

static enum gpu_error flush(struct request *q)
{
	struct display_rect part = rect_at(q, HDR);
	struct gpu_res *r = gpu_find(q->g, word(q, HDR + 16));

	if (!r)
		return GPU_ERR_INVALID_RESOURCE_ID;
	if (!gpu_rect_inside(&part, r->width, r->height))
		return GPU_ERR_INVALID_PARAMETER;
	gpu_flush(q->g, r, &part);
	return GPU_OK;
}

static enum gpu_error transfer(struct request *q)
{
	struct display_rect to = rect_at(q, HDR);
	struct gpu_res *r = gpu_find(q->g, word(q, HDR + 24));

	if (!r || !r->piece)
		return GPU_ERR_INVALID_RESOURCE_ID;
	if (!gpu_rect_inside(&to, r->width, r->height))
		return GPU_ERR_INVALID_PARAMETER;
	return gpu_transfer(q->g, r, &to, ld_le64(q->data + HDR + 16));
}

/* The list behind the request, to piece[n]; false: it is shorter. */
static bool read_pieces(const struct request *q, struct gpu_piece *piece, uint32_t n)
{
	uint8_t raw[64 * ENTRY_LEN];
	size_t off = HDR + 8;
	uint64_t end = 0;

	for (uint32_t i = 0, k = 0, have = 0; i < n; i++, k++) {
		if (k == have) {
			size_t want = MIN((size_t)(n - i) * ENTRY_LEN, sizeof(raw));

			if (iov_to_buf(q->c->iov, q->c->n_read, off, raw, want) != want)
				return false;
			off += want;
			have = (uint32_t)(want / ENTRY_LEN);
			k = 0;
		}
		end += ld_le32(raw + k * ENTRY_LEN + 8);
		piece[i] = (struct gpu_piece){ ld_le64(raw + k * ENTRY_LEN), end };
	}
	return true;
}

static enum gpu_error attach(struct request *q)
{
	struct gpu_res *r = gpu_find(q->g, word(q, HDR));
	uint32_t n = word(q, HDR + 4);
	enum gpu_error err = GPU_ERR_UNSPEC;
	struct gpu_piece *piece;

	if (!r)
		return GPU_ERR_INVALID_RESOURCE_ID;
	if (r->piece || n > GPU_MAX_PIECES)
		return GPU_ERR_UNSPEC;
	/* Believed only if it came along. */
	if (q->c->len_read < HDR + 8 + (uint64_t)n * ENTRY_LEN)
		return GPU_ERR_INVALID_PARAMETER;
	piece = calloc(n + 1, sizeof(*piece));
	if (!piece)
		return GPU_ERR_OUT_OF_MEMORY;
	if (read_pieces(q, piece, n))
		err = gpu_attach(q->g, r, piece, n);
	if (err)
		free(piece);
	return err;
}

static enum gpu_error detach(struct request *q)
{
	struct gpu_res *r = gpu_find(q->g, word(q, HDR));

	if (!r || !r->piece)
		return GPU_ERR_INVALID_RESOURCE_ID;
	gpu_detach(q->g, r);
	return GPU_OK;
}

/* ---- both queues ---- */

/* Requests with the bytes they have at least. */
static const struct {
	uint32_t type, len;
	enum gpu_error (*fn)(struct request *q);
} commands[] = {
	{ GET_DISPLAY_INFO, HDR, display_info },
	{ RESOURCE_CREATE_2D, HDR + 16, create },
	{ RESOURCE_UNREF, HDR + 4, unref },
	{ SET_SCANOUT, HDR + 24, set_scanout },
	{ RESOURCE_FLUSH, HDR + 20, flush },
	{ TRANSFER_TO_HOST_2D, HDR + 28, transfer },
	{ RESOURCE_ATTACH_BACKING, HDR + 8, attach },
	{ RESOURCE_DETACH_BACKING, HDR + 4, detach },
	{ GET_EDID, HDR + 4, get_edid },
};

static enum gpu_error control(struct request *q)
{
	uint32_t type = word(q, 0);

	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].type != type)
			continue;
		if (type == GET_EDID && !virtio_has(&q->g->dev, GPU_F_EDID))
			break;
		return q->len < commands[i].len ? GPU_ERR_INVALID_PARAMETER : commands[i].fn(q);
	}
	return GPU_ERR_UNSPEC;
}

/* struct virtio_gpu_update_cursor: le32 scanout_id, x, y, padding, resource_id, hot_x, hot_y, padding */
static enum gpu_error cursor(struct request *q)
{
	uint32_t type = word(q, 0), n = word(q, HDR), id = word(q, HDR + 16);
	struct gpu_res *r = NULL;

	if (type != UPDATE_CURSOR && type != MOVE_CURSOR)
		return GPU_ERR_UNSPEC;
	if (q->len < HDR + (type == MOVE_CURSOR ? 12 : 28))
		return GPU_ERR_INVALID_PARAMETER;
	if (n >= q->g->outputs)
		return GPU_ERR_INVALID_SCANOUT_ID;
	if (type == UPDATE_CURSOR && id) {
		r = gpu_find(q->g, id);
		if (!r)
			return GPU_ERR_INVALID_RESOURCE_ID;
		if (r->width != GPU_CURSOR || r->height != GPU_CURSOR)
			return GPU_ERR_INVALID_PARAMETER;
	}
	if (type == UPDATE_CURSOR)
		gpu_set_cursor(&q->g->out[n], r, word(q, HDR + 20), word(q, HDR + 24));
	gpu_move_cursor(&q->g->out[n], word(q, HDR + 4), word(q, HDR + 8));
	return GPU_OK;
}

static uint64_t serve(struct gpu *g, const struct vq_chain *c, enum gpu_error (*fn)(struct request *q))
{
	struct request q = { .g = g, .c = c, .a.len = HDR };
	enum gpu_error err;

	q.len = iov_to_buf(c->iov, c->n_read, 0, q.data, sizeof(q.data));
	err = q.len < HDR ? GPU_ERR_INVALID_PARAMETER : fn(&q);
	if (err) {
		q.a.len = HDR;
		st_le32(q.a.data, err);
	} else if (q.a.len == HDR) {
		st_le32(q.a.data, RESP_OK_NODATA);
	}
	/* 5.7.6.7: fence, context and ring come back. */
	if (word(&q, 4) & FLAG_FENCE) {
		st_le32(q.a.data + 4, FLAG_FENCE);
		memcpy(q.a.data + 8, q.data + 8, HDR - 8);
	}
	return iov_from_buf(c->iov + c->n_read, c->n_write, 0, q.a.data, q.a.len);
}

uint64_t gpu_control(struct gpu *g, const struct vq_chain *c) { return serve(g, c, control); }

/* Drivers give no room for an answer here. */
uint64_t gpu_cursor_command(struct gpu *g, const struct vq_chain *c) { return serve(g, c, cursor); }
