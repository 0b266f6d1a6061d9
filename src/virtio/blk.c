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
 * reaches guest memory later.  The host's I/O errors become VIRTIO_BLK_S_IOERR;
 * the machine goes on.
 */
#include "virtio/blk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "base/log.h"

#define F_SIZE_MAX (1ull << 1)
#define F_SEG_MAX (1ull << 2)
#define F_RO (1ull << 5)
#define F_BLK_SIZE (1ull << 6)
#define F_FLUSH (1ull << 9)
#define F_TOPOLOGY (1ull << 10)
#define F_CONFIG_WCE (1ull << 11)
#define F_MQ (1ull << 12)
#define F_DISCARD (1ull << 13)
#define F_WRITE_ZEROES (1ull << 14)

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

#define MAX_SEGMENTS 32			/* of a discard or write-zeroes request */
#define MAX_RANGE_SECTORS (1u << 21)	/* of one segment: 1 GiB */
#define SIZE_MAX_BYTES (4u << 20)
#define MAX_ERRORS_LOGGED 5

/* Chains per kick; a guest that refills as fast as we answer waits its turn. */
#define KICK_BUDGET 1024

/* 5.2.4 */
struct blk_config {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 64, "virtio 1.2, 5.2.4 (60 bytes and tail padding)");
_Static_assert(offsetof(struct blk_config, max_discard_sectors) == 36, "virtio 1.2, 5.2.4");
#define CONFIG_LEN 60

struct header {
	uint32_t type, ioprio;
	uint64_t sector;
};

struct segment {
	uint64_t sector;
	uint32_t n_sectors, flags;
};

struct virtio_blk {
	struct virtio_dev d;
	struct blk_node *node;
	struct blk_config cfg;
	char serial[VIRTIO_BLK_SERIAL_LEN];
	struct virtio_blk_stats stats;
	unsigned errors_logged;
	uint64_t flush_queues;		/* bit q: used ring grew, interrupt not yet considered */
	struct vq_chain chain;		/* scratch of kick */
};

/* A request in flight; the pieces, and for ranges the segments, follow it. */
struct vreq {
	struct blk_req r;
	struct virtio_blk *b;
	uint16_t q, head;
	uint64_t len_write;		/* writable bytes of the chain, status included */
	uint8_t *status;		/* in guest memory: written, never read */
	unsigned seg, n_segs;
	struct segment *segs;
	unsigned niov;
	struct iovec iov[];
};

static struct virtio_blk *to_blk(struct virtio_dev *d)
{
	return container_of(d, struct virtio_blk, d);
}

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

static void count(struct virtio_blk *b, const struct vreq *v)
{
	switch (v->r.op) {
	case BLK_READ:
		b->stats.reads++;
		b->stats.bytes_read += v->r.len;
		break;
	case BLK_WRITE:
		b->stats.writes++;
		b->stats.bytes_written += v->r.len;
		break;
	case BLK_FLUSH: b->stats.flushes++; break;
	case BLK_DISCARD: b->stats.discards++; break;
	case BLK_WRITE_ZEROES: b->stats.zeroes++; break;
	case BLK_STATUS: break;		/* not a guest's */
	}
}

static void host_error(struct virtio_blk *b, const struct vreq *v, int ret)
{
	static const char *const names[] = { "read", "write", "flush", "discard", "write zeroes" };

	b->stats.errors++;
	if (b->errors_logged++ >= MAX_ERRORS_LOGGED)
		return;
	log_warn("%s: %s at byte %llu failed on the host: %s%s", b->d.id, names[v->r.op],
		 (unsigned long long)v->r.offset, strerror(-ret),
		 b->errors_logged == MAX_ERRORS_LOGGED ? " (further errors are counted only)" : "");
}

static void finish(struct vreq *v, int ret)
{
	struct virtio_blk *b = v->b;
	bool in = v->r.op == BLK_READ;

	if (ret)
		host_error(b, v, ret);
	else
		count(b, v);
	for (unsigned i = 0; in && i < v->niov; i++)
		mem_written_host(b->d.m->mem, v->iov[i].iov_base, v->iov[i].iov_len);
	answer(b, v->q, v->head, v->status, ret ? S_IOERR : S_OK, in ? v->len_write - 1 : 0);
	free(v);
}

static void submit_segment(struct vreq *v);

static void req_done(struct blk_req *r, int ret)
{
	struct vreq *v = r->opaque;
	struct virtio_blk *b = v->b;

	if (!ret && v->n_segs && ++v->seg < v->n_segs)
		submit_segment(v);
	else
		finish(v, ret);
	if (!blk_more_finished(b->node))
		flush_queues(b);
}

/* ---- requests ---- */

/* Write-through: every change is on stable storage before it is answered. */
static bool write_through(const struct virtio_blk *b)
{
	if (virtio_has(&b->d, F_CONFIG_WCE))
		return !b->cfg.writeback;
	return !virtio_has(&b->d, F_FLUSH);
}

static struct vreq *new_req(struct virtio_blk *b, unsigned q, const struct vq_chain *c, uint8_t *status,
			    unsigned niov, unsigned n_segs)
{
	struct vreq *v = malloc(sizeof(*v) + niov * sizeof(v->iov[0]) + n_segs * sizeof(*v->segs));

	if (!v)
		return NULL;
	memset(v, 0, sizeof(*v));
	v->r.done = req_done;
	v->r.opaque = v;
	v->b = b;
	v->q = (uint16_t)q;
	v->head = c->head;
	v->len_write = c->len_write;
	v->status = status;
	v->niov = niov;
	v->n_segs = n_segs;
	v->segs = (struct segment *)(void *)&v->iov[niov];
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
	if (!in && b->node->i.read_only)
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
	v->r.op = in ? BLK_READ : BLK_WRITE;
	v->r.offset = h->sector * BLK_SECTOR;
	v->r.len = len;
	v->r.iov = v->iov;
	v->r.niov = v->niov;
	v->r.fua = !in && write_through(b);
	blk_submit(b->node, &v->r);
	return -1;
}

static int do_flush(struct virtio_blk *b, unsigned q, const struct vq_chain *c, uint8_t *status)
{
	struct vreq *v = new_req(b, q, c, status, 0, 0);

	if (!v)
		return S_IOERR;
	v->r.op = BLK_FLUSH;
	blk_submit(b->node, &v->r);
	return -1;
}

static void submit_segment(struct vreq *v)
{
	const struct segment *s = &v->segs[v->seg];

	v->r.offset = s->sector * BLK_SECTOR;
	v->r.len = (uint64_t)s->n_sectors * BLK_SECTOR;
	v->r.unmap = s->flags & SEG_UNMAP;
	v->r.fua = write_through(v->b);
	blk_submit(v->b->node, &v->r);
}

/* 5.2.6.2: unknown flags are unsupported, and unmap means nothing to a discard. */
static int check_segments(const struct virtio_blk *b, const struct vreq *v)
{
	uint32_t known = v->r.op == BLK_WRITE_ZEROES ? SEG_UNMAP : 0;

	for (unsigned i = 0; i < v->n_segs; i++)
		if (v->segs[i].flags & ~known)
			return S_UNSUPP;
	for (unsigned i = 0; i < v->n_segs; i++)
		if (v->segs[i].n_sectors > MAX_RANGE_SECTORS ||
		    !sectors_inside(b, v->segs[i].sector, v->segs[i].n_sectors))
			return S_IOERR;
	return S_OK;
}

static int do_ranges(struct virtio_blk *b, unsigned q, const struct vq_chain *c, const struct header *h,
		     uint8_t *status)
{
	uint64_t len = c->len_read - sizeof(*h);
	struct vreq *v;
	int ret;

	if (!len || len % sizeof(struct segment) || len / sizeof(struct segment) > MAX_SEGMENTS ||
	    b->node->i.read_only)
		return S_IOERR;
	v = new_req(b, q, c, status, 0, (unsigned)(len / sizeof(struct segment)));
	if (!v)
		return S_IOERR;
	v->r.op = h->type == T_DISCARD ? BLK_DISCARD : BLK_WRITE_ZEROES;
	iov_to_buf(c->iov, c->n_read, sizeof(*h), v->segs, len);
	ret = check_segments(b, v);
	if (ret != S_OK) {
		free(v);
		return ret;
	}
	submit_segment(v);
	return -1;
}

/* 20 bytes, padded with zeros; a shorter buffer gets the beginning. */
static int do_get_id(struct virtio_blk *b, const struct vq_chain *c)
{
	size_t len = MIN(c->len_write - 1, (uint64_t)VIRTIO_BLK_SERIAL_LEN);
	size_t left = iov_from_buf(c->iov + c->n_read, c->n_write, 0, b->serial, len);

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
static int handle(struct virtio_blk *b, unsigned q, const struct vq_chain *c)
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
			ret = handle(b, q, &b->chain);
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
	blk_drain(to_blk(d)->node);
}

static void blk_reset(struct virtio_dev *d)
{
	struct virtio_blk *b = to_blk(d);

	blk_drain(b->node);
	b->flush_queues = 0;
	b->cfg.writeback = 1;
}

static void blk_queue_reset(struct virtio_dev *d, unsigned q)
{
	blk_drain(to_blk(d)->node);
	to_blk(d)->flush_queues &= ~BIT64(q);
}

struct blk_state {
	uint64_t capacity;
	uint8_t writeback;
};

static const struct snap_field state_fields[] = {
	SNAP_FIELD(struct blk_state, capacity),
	SNAP_FIELD(struct blk_state, writeback),
	SNAP_END,
};
static const struct snap_table state_table = { "virtio-blk", 1, state_fields };

static int blk_save(struct virtio_dev *d, struct snap_out *o)
{
	struct virtio_blk *b = to_blk(d);
	struct blk_state s = { b->cfg.capacity, b->cfg.writeback };

	return snap_put(o, d->id, &state_table, &s);
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
	return 0;
}

static void blk_free(struct virtio_dev *d)
{
	struct virtio_blk *b = to_blk(d);

	/* Drains while the queues are still there for the answers. */
	blk_close(b->node);
	virtio_dev_fini(d);
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
	.save = blk_save,
	.load = blk_load,
	.free = blk_free,
};

static uint64_t make_config(struct virtio_blk *b, unsigned queues, uint16_t queue_size, uint32_t block_size)
{
	const struct blk_info *i = &b->node->i;
	uint32_t physical = MAX(i->physical_block, block_size);
	uint64_t f = F_SIZE_MAX | F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE;

	b->cfg.capacity = i->size / BLK_SECTOR;
	b->cfg.size_max = SIZE_MAX_BYTES;
	/* Header and status take two descriptors of a chain without indirection. */
	b->cfg.seg_max = queue_size - 2u;
	b->cfg.blk_size = block_size;
	b->cfg.physical_block_exp = (uint8_t)(__builtin_ctz(physical) - __builtin_ctz(block_size));
	b->cfg.min_io_size = 1;
	b->cfg.writeback = 1;
	b->cfg.num_queues = (uint16_t)queues;
	b->cfg.max_discard_sectors = b->cfg.max_write_zeroes_sectors = MAX_RANGE_SECTORS;
	b->cfg.max_discard_seg = b->cfg.max_write_zeroes_seg = MAX_SEGMENTS;
	b->cfg.discard_sector_alignment = physical / BLK_SECTOR;
	b->cfg.write_zeroes_may_unmap = 1;
	if (queues > 1)
		f |= F_MQ;
	if (i->read_only)
		return f | F_RO;
	return f | (i->can_discard ? F_DISCARD : 0) | (i->can_zero ? F_WRITE_ZEROES : 0);
}

static int check_opts(const char *id, unsigned queues, uint16_t queue_size, uint32_t block_size, uint64_t size,
		      struct err *e)
{
	if (!queues || queues > VIRTIO_MAX_QUEUES)
		return err_set(e, -EINVAL, "disk %s: %u queues, but 1 to %d are possible", id, queues,
			       VIRTIO_MAX_QUEUES);
	if (!is_pow2(queue_size) || queue_size < 8 || queue_size > VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "disk %s: queue size %u is not a power of two from 8 to %d", id, queue_size,
			       VQ_MAX_SIZE);
	if (!is_pow2(block_size) || block_size < BLK_SECTOR || block_size > 4096)
		return err_set(e, -EINVAL, "disk %s: block size %u is not 512, 1024, 2048 or 4096", id, block_size);
	if (size % block_size)
		return err_set(e, -EINVAL, "disk %s: its size is no multiple of its block size, %u bytes", id,
			       block_size);
	return 0;
}

int virtio_blk_new(struct machine *m, const char *id, struct blk_node *node, const struct virtio_blk_opts *o,
		   struct virtio_dev **out, struct err *e)
{
	unsigned queues = o->queues ? o->queues : 1;
	uint16_t queue_size = o->queue_size ? o->queue_size : 256, sizes[VIRTIO_MAX_QUEUES];
	uint32_t block_size = o->block_size ? o->block_size : BLK_SECTOR;
	struct virtio_blk *b;
	int ret = check_opts(id, queues, queue_size, block_size, node->i.size, e);

	if (ret)
		return ret;
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "out of memory for disk %s", id);
	b->node = node;
	memcpy(b->serial, o->serial, strnlen(o->serial, VIRTIO_BLK_SERIAL_LEN));
	for (unsigned q = 0; q < queues; q++)
		sizes[q] = queue_size;
	ret = virtio_dev_init(&b->d, m, &blk_ops, id, make_config(b, queues, queue_size, block_size), CONFIG_LEN,
			      queues, sizes);
	if (ret) {
		free(b);
		return err_set(e, ret, "disk %s cannot be set up: %s", id, strerror(-ret));
	}
	*out = &b->d;
	return 0;
}

void virtio_blk_get_stats(const struct virtio_dev *d, struct virtio_blk_stats *out)
{
	*out = container_of((struct virtio_dev *)(uintptr_t)d, struct virtio_blk, d)->stats;
}
