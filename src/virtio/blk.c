/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-blk (virtio 1.2, 5.2).
 *
 * Every chain becomes one struct vreq with its own copy of the pieces, is
 * submitted to the block node and answered by finish(): status byte, used ring,
 * and one interrupt for all requests that end together.  The 16-byte header and
 * the discard segments are read once; nothing is looked at again after it was
 * checked.  A chain without room for header or status cannot be answered: the
 * device then waits for its reset.
 *
 * Reset, queue reset and pause drain the node, so nothing of an earlier life
 * reaches guest memory later.  What becomes of the host's I/O errors is decided
 * in storage/disk.c.
 *
 * On an I/O thread the rings are walked and answered there, and neither a vCPU's
 * thread nor the machine's loop has to do with a transfer.
 */
#include "virtio/blk_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "base/log.h"

#define T_IN 0
#define T_OUT 1
#define T_FLUSH 4
#define T_GET_ID 8
#define T_DISCARD 11
#define T_WRITE_ZEROES 13

#define S_OK 0
#define S_IOERR 1
#define S_UNSUPP 2

#define SEG_UNMAP 1u

/* Chains per kick; a guest that refills as fast as we answer waits its turn. */
#define KICK_BUDGET 1024

struct header {
	uint32_t type, ioprio;
	uint64_t sector;
};

/* ---- answers ---- */

static void flush_queues(struct virtio_blk *b)
{
	uint64_t mask = b->flush_queues;

	b->flush_queues = 0;
	for (; mask; mask &= mask - 1)
		vq_flush(&b->d.vq[__builtin_ctzll(mask)]);
}

/* The one place where a chain is answered. written: bytes, without the status byte. */
static void answer(struct virtio_blk *b, unsigned q, uint16_t head, uint8_t *status, uint8_t s, uint64_t written)
{
	*(volatile uint8_t *)status = s;
	mem_written_host(b->d.m->mem, status, 1);
	vq_put_head(&b->d.vq[q], head, (uint32_t)MIN(written + 1, (uint64_t)UINT32_MAX));
	b->flush_queues |= BIT64(q);
}

static void req_answer(struct disk_req *q, int ret)
{
	struct vreq *v = to_vreq(q);
	struct virtio_blk *b = v->b;
	bool in = q->r.op == BLK_READ;

	for (unsigned i = 0; in && i < v->niov; i++)
		mem_written_host(b->d.m->mem, v->iov[i].iov_base, v->iov[i].iov_len);
	answer(b, v->queue, v->head, v->status, ret ? S_IOERR : S_OK, in ? v->len_write - 1 : 0);
	free(v);
}

static void batch_done(struct disk *d)
{
	flush_queues(container_of(d, struct virtio_blk, disk));
}

void vblk_drop(struct disk_req *q)
{
	free(to_vreq(q));
}

/* ---- requests ---- */

/* Write-through: every change is on stable storage before it is answered. */
static bool write_through(const struct virtio_blk *b)
{
	if (virtio_has(&b->d, F_CONFIG_WCE))
		return !b->cfg.writeback;
	return !virtio_has(&b->d, F_FLUSH);
}

static void start(struct vreq *v)
{
	v->q.r.fua = v->q.r.op != BLK_READ && v->q.r.op != BLK_FLUSH && write_through(v->b);
	disk_start(&v->q);
}

static struct vreq *new_req(struct virtio_blk *b, unsigned q, const struct vq_chain *c, uint8_t *status,
			    unsigned niov, unsigned n_segs)
{
	struct vreq *v = malloc(sizeof(*v) + niov * sizeof(v->iov[0]) + n_segs * sizeof(*v->q.range));

	if (!v)
		return NULL;
	memset(v, 0, sizeof(*v));
	v->q.d = &b->disk;
	v->q.answer = req_answer;
	v->b = b;
	v->queue = (uint16_t)q;
	v->head = c->head;
	v->len_write = c->len_write;
	v->status = status;
	v->niov = niov;
	v->q.n_ranges = n_segs;
	v->q.range = (struct disk_range *)(void *)&v->iov[niov];
	return v;
}

static bool sectors_inside(const struct virtio_blk *b, uint64_t sector, uint64_t n)
{
	return range_inside(sector, n, b->cfg.capacity);
}

/* 5.2.6.2: reads and writes of whole sectors inside the disk.  Returns -1 once
 * submitted, else the status. */
static int do_rw(struct virtio_blk *b, unsigned q, const struct vq_chain *c, const struct header *h,
		 uint8_t *status)
{
	bool in = h->type == T_IN;
	uint64_t len = in ? c->len_write - 1 : c->len_read - sizeof(*h);
	unsigned pieces = in ? c->n_write : c->n_read;
	struct vreq *v;
	int n;

	if (len % BLK_SECTOR || !sectors_inside(b, h->sector, len / BLK_SECTOR))
		return S_IOERR;
	if (!in && b->disk.node->i.read_only)
		return S_IOERR;
	v = new_req(b, q, c, status, pieces, 0);
	if (!v)
		return S_IOERR;
	n = in ? iov_slice(c->iov + c->n_read, c->n_write, 0, len, v->iov, pieces)
	       : iov_slice(c->iov, c->n_read, sizeof(*h), len, v->iov, pieces);
	if (n < 0) {
		free(v);
		return S_IOERR;
	}
	v->niov = (unsigned)n;
	v->q.r.op = in ? BLK_READ : BLK_WRITE;
	v->q.r.offset = h->sector * BLK_SECTOR;
	v->q.r.len = len;
	v->q.r.iov = v->iov;
	v->q.r.niov = v->niov;
	start(v);
	return -1;
}

static int do_flush(struct virtio_blk *b, unsigned q, const struct vq_chain *c, uint8_t *status)
{
	struct vreq *v = new_req(b, q, c, status, 0, 0);

	if (!v)
		return S_IOERR;
	v->q.r.op = BLK_FLUSH;
	start(v);
	return -1;
}

/* 5.2.6.2: unknown flags are unsupported, and unmap means nothing to a discard. */
static int take_segments(const struct virtio_blk *b, const struct segment *s, struct vreq *v)
{
	uint32_t known = v->q.r.op == BLK_WRITE_ZEROES ? SEG_UNMAP : 0;

	for (unsigned i = 0; i < v->q.n_ranges; i++)
		if (s[i].flags & ~known)
			return S_UNSUPP;
	for (unsigned i = 0; i < v->q.n_ranges; i++) {
		if (s[i].n_sectors > MAX_RANGE_SECTORS || !sectors_inside(b, s[i].sector, s[i].n_sectors))
			return S_IOERR;
		v->q.range[i] = (struct disk_range){ .offset = s[i].sector * BLK_SECTOR, .len = (uint64_t)s[i].n_sectors * BLK_SECTOR,
						     .unmap = s[i].flags & SEG_UNMAP && b->cfg.write_zeroes_may_unmap };
	}
	return S_OK;
}

static int do_ranges(struct virtio_blk *b, unsigned q, const struct vq_chain *c, const struct header *h,
		     uint8_t *status)
{
	uint64_t len = c->len_read - sizeof(*h);
	struct segment seg[MAX_SEGMENTS];
	struct vreq *v;
	int ret;

	if (!len || len % sizeof(struct segment) || len / sizeof(struct segment) > MAX_SEGMENTS ||
	    b->disk.node->i.read_only)
		return S_IOERR;
	v = new_req(b, q, c, status, 0, (unsigned)(len / sizeof(struct segment)));
	if (!v)
		return S_IOERR;
	v->q.r.op = h->type == T_DISCARD ? BLK_DISCARD : BLK_WRITE_ZEROES;
	iov_to_buf(c->iov, c->n_read, sizeof(*h), seg, len);
	ret = take_segments(b, seg, v);
	if (ret != S_OK) {
		free(v);
		return ret;
	}
	start(v);
	return -1;
}

/* 20 bytes, padded with zeros; a shorter buffer gets the beginning. */
static int do_get_id(struct virtio_blk *b, const struct vq_chain *c)
{
	size_t len = MIN(c->len_write - 1, (uint64_t)DISK_SERIAL_LEN);
	size_t left = iov_from_buf(c->iov + c->n_read, c->n_write, 0, b->disk.o.serial, len);

	for (unsigned i = c->n_read; left && i < (unsigned)c->n_read + c->n_write; i++) {
		size_t n = MIN(left, c->iov[i].iov_len);

		mem_written_host(b->d.m->mem, c->iov[i].iov_base, n);
		left -= n;
	}
	return S_OK;
}

static int dispatch(struct virtio_blk *b, unsigned q, const struct vq_chain *c, const struct header *h,
		    uint8_t *status)
{
	switch (h->type) {
	case T_IN:
	case T_OUT:
		return do_rw(b, q, c, h, status);
	case T_FLUSH:
		return do_flush(b, q, c, status);
	case T_GET_ID:
		return do_get_id(b, c);
	case T_DISCARD:
		return virtio_has(&b->d, F_DISCARD) ? do_ranges(b, q, c, h, status) : S_UNSUPP;
	case T_WRITE_ZEROES:
		return virtio_has(&b->d, F_WRITE_ZEROES) ? do_ranges(b, q, c, h, status) : S_UNSUPP;
	default:
		return S_UNSUPP;
	}
}

/* One chain: header at the very beginning of the readable part, status in the
 * very last writable byte, whatever the layout of descriptors (2.7.4.1). */
int vblk_handle(struct virtio_blk *b, unsigned q, const struct vq_chain *c)
{
	const struct iovec *last;
	struct header h;
	uint8_t *status;
	int s;

	if (c->len_read < sizeof(h) || !c->len_write)
		return -EPROTO;
	last = &c->iov[c->n_read + c->n_write - 1];	/* not empty: len_write */
	iov_to_buf(c->iov, c->n_read, 0, &h, sizeof(h));
	status = (uint8_t *)last->iov_base + last->iov_len - 1;
	s = dispatch(b, q, c, &h, status);
	if (s >= 0)
		answer(b, q, c->head, status, (uint8_t)s, h.type == T_GET_ID ? c->len_write - 1 : 0);
	if (s > S_OK)
		b->disk.stats.invalid++;
	return 0;
}

static void blk_kick(struct virtio_dev *d, unsigned q)
{
	struct virtio_blk *b = to_blk(d);
	struct vq *vq = &d->vq[q];
	unsigned budget = KICK_BUDGET;
	int ret = 0;

	do {
		vq_kick_enable(vq, false);
		while (budget && (ret = vq_get(vq, &b->chain)) == 1) {
			budget--;
			ret = vblk_handle(b, q, &b->chain);
			if (ret)
				break;
		}
	} while (!ret && budget && vq_kick_enable(vq, true));
	flush_queues(b);
	if (!budget)
		virtio_dev_ring(d, q);
	if (ret)
		virtio_dev_broken(d, "a request without header or status, or a damaged ring");
}

/* ---- configuration and life cycle ---- */

static void blk_config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	memcpy(buf, (const uint8_t *)&to_blk(d)->cfg + off, len);
}

static void blk_config_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len)
{
	uint32_t at = offsetof(struct blk_config, writeback);

	if (!virtio_has(d, F_CONFIG_WCE) || at < off || at - off >= len)
		return;
	to_blk(d)->cfg.writeback = ((const uint8_t *)buf)[at - off] & 1;
}

static void blk_pause(struct virtio_dev *d)
{
	blk_drain(to_blk(d)->disk.node);
}

static void blk_resume(struct virtio_dev *d)
{
	vblk_retry(to_blk(d));
	flush_queues(to_blk(d));
}

static void blk_reset(struct virtio_dev *d)
{
	struct virtio_blk *b = to_blk(d);

	blk_drain(b->disk.node);
	vblk_forget(b, -1);
	b->flush_queues = 0;
	b->cfg.writeback = 1;
}

static void blk_queue_reset(struct virtio_dev *d, unsigned q)
{
	blk_drain(to_blk(d)->disk.node);
	vblk_forget(to_blk(d), (int)q);
	to_blk(d)->flush_queues &= ~BIT64(q);
}

struct blk_state {
	uint64_t capacity;
	uint8_t writeback;
	uint32_t n_retry;		/* a blob of their chains follows if there are any */
};

static const struct snap_field state_fields[] = {
	SNAP_FIELD(struct blk_state, capacity),
	SNAP_FIELD(struct blk_state, writeback),
	{ "n_retry", offsetof(struct blk_state, n_retry), 4, 1, 2, 0 },
	SNAP_END,
};
static const struct snap_table state_table = { "virtio-blk", 2, state_fields };

static int blk_save(struct virtio_dev *d, struct snap_out *o)
{
	struct virtio_blk *b = to_blk(d);
	struct blk_state s = { b->cfg.capacity, b->cfg.writeback, vblk_kept(b) };
	int ret = snap_put(o, d->id, &state_table, &s);

	return ret || !s.n_retry ? ret : vblk_kept_save(b, o);
}

static int blk_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct virtio_blk *b = to_blk(d);
	struct blk_state s = { 0 };
	int ret = snap_get(in, d->id, &state_table, &s, e);

	if (ret)
		return ret;
	if (s.capacity != b->cfg.capacity)
		return err_set(e, -EINVAL, "saved state of disk %s is of %llu sectors, the disk here has %llu", d->id,
			       (unsigned long long)s.capacity, (unsigned long long)b->cfg.capacity);
	b->cfg.writeback = s.writeback & 1;
	return vblk_kept_load(b, s.n_retry, in, e);
}

static void blk_free(struct virtio_dev *d)
{
	struct virtio_blk *b = to_blk(d);

	virtio_dev_lock(d);
	/* Drains while the queues are still there for the answers. */
	disk_fini(&b->disk, b->n_again, vblk_drop);
	free(b->again);
	virtio_dev_fini(d);
	virtio_dev_unlock(d);
	free(b);
}

static const struct virtio_dev_ops blk_ops = {
	.name = "virtio-blk",
	.device_id = 2,
	.pci_class = 0x010000,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.kick = blk_kick,
	.reset = blk_reset,
	.queue_reset = blk_queue_reset,
	.pause = blk_pause,
	.resume = blk_resume,
	.save = blk_save,
	.load = blk_load,
	.free = blk_free,
};

int virtio_blk_new(struct machine *m, const char *id, struct blk_node *node, const struct virtio_blk_opts *opts,
		   struct virtio_dev **out, struct err *e)
{
	uint16_t sizes[VIRTIO_MAX_QUEUES];
	struct virtio_blk_opts o = *opts;
	struct virtio_blk *b;
	int ret;

	o.queues = o.queues ? o.queues : 1;
	o.queue_size = o.queue_size ? o.queue_size : 256;
	ret = vblk_check_opts(id, &o, e);
	if (ret)
		return ret;
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "out of memory for disk %s", id);
	ret = disk_init(&b->disk, m, id, node, &o.disk, e);
	if (ret) {
		free(b);
		return ret;
	}
	b->d.io = o.disk.io;
	b->disk.batch_done = batch_done;
	b->disk.resized = vblk_resized;
	for (unsigned q = 0; q < o.queues; q++)
		sizes[q] = o.queue_size;
	virtio_dev_lock(&b->d);
	ret = virtio_dev_init(&b->d, m, &blk_ops, id, vblk_make_config(b, &o), BLK_CONFIG_LEN, o.queues, sizes);
	virtio_dev_unlock(&b->d);
	if (ret) {
		free(b);
		return err_set(e, ret, "disk %s cannot be set up: %s", id, strerror(-ret));
	}
	*out = &b->d;
	return 0;
}
