/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD server, transmission (doc/proto.md, "Transmission"): a request becomes one of
 * the node, and its end a reply.  Replies go out in the order in which requests end.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/log.h"
#include "block/filter_int.h"
#include "block/nbd_server_int.h"

#define REQUEST_MAGIC 0x25609513u
#define SIMPLE_MAGIC 0x67446698u
#define CHUNK_MAGIC 0x668e33efu
#define REQUEST_HEAD 28
#define CHUNK_DONE 1
#define CHUNK_HEAD 20
#define MAX_EXTENTS 128

enum { CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, CMD_WRITE_ZEROES, CMD_BLOCK_STATUS };
enum { CMD_FLAG_FUA = 1, CMD_FLAG_NO_HOLE = 2, CMD_FLAG_DF = 4, CMD_FLAG_REQ_ONE = 8 };
enum { CHUNK_NONE = 0, CHUNK_OFFSET_DATA = 1, CHUNK_BLOCK_STATUS = 5, CHUNK_ERROR = 32769 };
enum { STATE_HOLE = 1, STATE_ZERO = 2 };

struct nbd_req {
	struct nbd_client *c;
	struct blk_req r;
	uint16_t cmd, flags;
	uint8_t cookie[8];
	uint64_t offset;
	uint32_t len;
	uint8_t *mem;			/* NBD_ROOM bytes, then data */
	struct iovec v;
	struct blk_extent ext;
	int refused;			/* WRITE: what the client is told once its data is read */
	uint64_t at;			/* BLOCK_STATUS: asked so far */
	uint32_t *extents;		/* pairs, host order */
	unsigned n_extents;
};

static uint32_t wire_error(int ret, uint16_t cmd)
{
	switch (-ret) {
	case 0:
		return 0;
	case EPERM: case EROFS: case EACCES:
		return 1;
	case ENOMEM:
		return 12;
	case EINVAL:
		return 22;
	case ERANGE:			/* outside the disk */
		return cmd == CMD_WRITE || cmd == CMD_WRITE_ZEROES ? 28 : 22;
	case ENOSPC: case EDQUOT: case EFBIG:
		return 28;
	case ENOTSUP:
		return 95;
	case ESHUTDOWN:
		return 108;
	default:
		return 5;
	}
}

static void chunk_head(uint8_t *p, const struct nbd_req *q, uint16_t type, uint32_t len)
{
	nbd_put32(p, CHUNK_MAGIC);
	nbd_put16(p + 4, CHUNK_DONE);
	nbd_put16(p + 6, type);
	memcpy(p + 8, q->cookie, 8);
	nbd_put32(p + 16, len);
}

static void simple_head(uint8_t *p, const struct nbd_req *q, uint32_t error)
{
	nbd_put32(p, SIMPLE_MAGIC);
	nbd_put32(p + 4, error);
	memcpy(p + 8, q->cookie, 8);
}

/* Or success without data. */
static void reply_status(struct nbd_req *q, int ret)
{
	uint8_t out[CHUNK_HEAD + 6] = { 0 };
	uint32_t error = wire_error(ret, q->cmd);

	if (ret && q->c->structured && (q->cmd == CMD_READ || q->cmd == CMD_BLOCK_STATUS)) {
		chunk_head(out, q, CHUNK_ERROR, 6);
		nbd_put32(out + CHUNK_HEAD, error);
		nbds_send_copy(q->c, out, CHUNK_HEAD + 6, true);
	} else {
		simple_head(out, q, error);
		nbds_send_copy(q->c, out, 16, true);
	}
}

/* The data lies behind room enough for any head. */
static void reply_data(struct nbd_req *q)
{
	uint8_t *data = q->mem + NBD_ROOM, *head = data - 16;
	size_t len = q->len;

	if (q->c->structured && !len) {
		head = data - CHUNK_HEAD;
		chunk_head(head, q, CHUNK_NONE, 0);
	} else if (q->c->structured) {
		head = data - CHUNK_HEAD - 8;
		chunk_head(head, q, CHUNK_OFFSET_DATA, (uint32_t)len + 8);
		nbd_put64(data - 8, q->offset);
	} else {
		simple_head(head, q, 0);
	}
	nbds_send(q->c, q->mem, (size_t)(head - q->mem), (size_t)(data - head) + len, true, q->len);
	q->mem = NULL;
}

static void reply_extents(struct nbd_req *q)
{
	uint32_t len = 4 + 8 * q->n_extents;
	uint8_t *out = malloc(CHUNK_HEAD + len);

	if (!out) {
		reply_status(q, -ENOMEM);
		return;
	}
	chunk_head(out, q, CHUNK_BLOCK_STATUS, len);
	nbd_put32(out + CHUNK_HEAD, 0);
	for (unsigned i = 0; i < 2 * q->n_extents; i++)
		nbd_put32(out + CHUNK_HEAD + 4 + 4 * i, q->extents[i]);
	nbds_send(q->c, out, 0, CHUNK_HEAD + len, true, 0);
}

static void req_free(struct nbd_req *q)
{
	free(q->mem);
	free(q->extents);
	free(q);
}

/* Replies: the request is counted until the reply is sent. */
static void req_end(struct nbd_req *q, int ret)
{
	struct nbd_client *c = q->c;

	if (!ret && q->cmd == CMD_READ) {
		reply_data(q);
		req_free(q);
		return;
	}
	/* The memory is free now, so it does not count any longer. */
	if (q->mem) {
		c->requests++;
		nbds_uncharge(c, q->len);
	}
	if (!ret && q->cmd == CMD_BLOCK_STATUS)
		reply_extents(q);
	else
		reply_status(q, ret);
	req_free(q);
}

static void add_extent(struct nbd_req *q)
{
	uint32_t state = (q->ext.zero ? STATE_ZERO : 0) | (q->ext.data || (q->ext.allocated && !q->ext.zero) ? 0 : STATE_HOLE);
	uint32_t len = (uint32_t)MIN(q->ext.len, q->offset + q->len - q->at);

	q->at += len;
	if (q->n_extents && q->extents[2 * q->n_extents - 1] == state) {
		q->extents[2 * q->n_extents - 2] += len;
		return;
	}
	q->extents[2 * q->n_extents] = len;
	q->extents[2 * q->n_extents + 1] = state;
	q->n_extents++;
}

static void ask_extent(struct nbd_req *q);

static void on_extent(struct blk_req *r, int ret)
{
	struct nbd_req *q = r->opaque;

	if (!ret && !q->ext.len)
		ret = -EIO;
	if (!ret)
		add_extent(q);
	if (!ret && q->at < q->offset + q->len && q->n_extents < (q->flags & CMD_FLAG_REQ_ONE ? 1 : MAX_EXTENTS) && !q->c->dead)
		ask_extent(q);
	else
		req_end(q, ret);
}

static void ask_extent(struct nbd_req *q)
{
	q->r = (struct blk_req){ .op = BLK_STATUS, .offset = q->at, .len = q->offset + q->len - q->at, .ext = &q->ext,
				 .done = on_extent, .opaque = q };
	blk_submit(q->c->x->n, &q->r);
}

static void on_flushed(struct blk_req *r, int ret)
{
	req_end(r->opaque, ret);
}

static void on_done(struct blk_req *r, int ret)
{
	struct nbd_req *q = r->opaque;

	/* A discard has no FUA of its own. */
	if (!ret && q->cmd == CMD_TRIM && (q->flags & CMD_FLAG_FUA)) {
		q->r = (struct blk_req){ .op = BLK_FLUSH, .done = on_flushed, .opaque = q };
		blk_submit(q->c->x->n, &q->r);
		return;
	}
	req_end(q, ret);
}

static void submit(struct nbd_req *q)
{
	static const enum blk_op ops[] = {
		[CMD_READ] = BLK_READ, [CMD_WRITE] = BLK_WRITE, [CMD_FLUSH] = BLK_FLUSH, [CMD_TRIM] = BLK_DISCARD,
		[CMD_WRITE_ZEROES] = BLK_WRITE_ZEROES,
	};

	if (q->cmd == CMD_BLOCK_STATUS) {
		q->at = q->offset;
		ask_extent(q);
		return;
	}
	q->v = (struct iovec){ q->mem ? q->mem + NBD_ROOM : NULL, q->len };
	q->r = (struct blk_req){ .op = ops[q->cmd], .offset = q->offset, .len = q->len, .fua = q->flags & CMD_FLAG_FUA,
				 .unmap = !(q->flags & CMD_FLAG_NO_HOLE), .iov = &q->v, .niov = 1, .done = on_done, .opaque = q };
	if (q->cmd == CMD_FLUSH || q->cmd == CMD_READ)
		q->r.fua = false;
	blk_submit(q->c->x->n, &q->r);
}

/* 0, or what the client is told. */
static int check_request(const struct nbd_client *c, const struct nbd_req *q)
{
	static const uint16_t flags[] = {
		[CMD_READ] = CMD_FLAG_DF | CMD_FLAG_FUA, [CMD_WRITE] = CMD_FLAG_FUA, [CMD_FLUSH] = CMD_FLAG_FUA,
		[CMD_TRIM] = CMD_FLAG_FUA, [CMD_WRITE_ZEROES] = CMD_FLAG_FUA | CMD_FLAG_NO_HOLE,
		[CMD_BLOCK_STATUS] = CMD_FLAG_REQ_ONE | CMD_FLAG_FUA,
	};
	bool writes = q->cmd == CMD_WRITE || q->cmd == CMD_TRIM || q->cmd == CMD_WRITE_ZEROES;

	if (q->cmd >= ARRAY_LEN(flags) || q->cmd == CMD_CACHE || q->flags & ~flags[q->cmd])
		return -EINVAL;
	if (q->flags & CMD_FLAG_DF && !c->structured)
		return -EINVAL;
	if (q->cmd == CMD_FLUSH)
		return q->offset || q->len ? -EINVAL : 0;
	if (writes && (c->x->read_only || c->x->n->i.read_only))
		return -EROFS;
	if ((q->offset | q->len) % BLK_SECTOR)
		return -EINVAL;
	if (!range_inside(q->offset, q->len, c->x->n->i.size))
		return -ERANGE;
	if ((q->cmd == CMD_READ || q->cmd == CMD_WRITE) && q->len > NBD_SERVER_BYTES)
		return -EINVAL;
	if (q->cmd == CMD_BLOCK_STATUS && (!c->contexts || !q->len))
		return -EINVAL;
	return 0;
}

/* Memory for data, charged to the client. */
static int take_memory(struct nbd_req *q)
{
	q->mem = io_buf(NBD_ROOM + (size_t)q->len);
	if (!q->mem)
		return -ENOMEM;
	q->c->bytes += q->len;
	return 0;
}

static void start_write(struct nbd_client *c, struct nbd_req *q, int ret)
{
	/* What is refused has data nevertheless; it is read and forgotten, unless it is too much. */
	if (q->len > NBD_SERVER_BYTES || take_memory(q)) {
		nbds_uncharge(c, 0);
		req_free(q);
		nbds_drop(c);
		return;
	}
	q->refused = ret;
	c->writing = q;
	nbds_expect(c, NBD_STEP_PAYLOAD, q->mem + NBD_ROOM, q->len);
	if (!q->len)
		nbds_payload(c);
}

void nbds_payload(struct nbd_client *c)
{
	struct nbd_req *q = c->writing;

	c->writing = NULL;
	nbds_expect(c, NBD_STEP_REQUEST, NULL, REQUEST_HEAD);
	if (q->refused)
		req_end(q, q->refused);
	else
		submit(q);
}

void nbds_forget_writing(struct nbd_client *c)
{
	struct nbd_req *q = c->writing;

	if (!q)
		return;
	c->writing = NULL;
	nbds_uncharge(c, q->len);
	req_free(q);
}

void nbds_request(struct nbd_client *c)
{
	const uint8_t *h = c->head;
	struct nbd_req *q;
	int ret;

	if (nbd_get32(h) != REQUEST_MAGIC) {
		nbds_drop(c);
		return;
	}
	if (nbd_get16(h + 6) == CMD_DISC) {
		nbds_expect(c, NBD_STEP_END, NULL, 0);
		return;
	}
	q = calloc(1, sizeof(*q));
	if (!q) {
		nbds_drop(c);
		return;
	}
	q->c = c;
	q->flags = nbd_get16(h + 4);
	q->cmd = nbd_get16(h + 6);
	memcpy(q->cookie, h + 8, 8);
	q->offset = nbd_get64(h + 16);
	q->len = nbd_get32(h + 24);
	c->requests++;
	nbds_expect(c, NBD_STEP_REQUEST, NULL, REQUEST_HEAD);
	ret = check_request(c, q);
	if (q->cmd == CMD_WRITE) {
		start_write(c, q, ret);
		return;
	}
	if (!ret && q->cmd == CMD_READ)
		ret = take_memory(q);
	if (!ret && q->cmd == CMD_BLOCK_STATUS) {
		q->extents = calloc(2 * MAX_EXTENTS, sizeof(*q->extents));
		ret = q->extents ? 0 : -ENOMEM;
	}
	if (ret)
		req_end(q, ret);
	else
		submit(q);
}
