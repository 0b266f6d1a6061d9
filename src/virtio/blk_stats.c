/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a disk counts: requests, bytes, time, and a histogram of latencies by
 * powers of two.  A request's time begins when its chain is taken from the ring
 * and ends when it is put back, so it includes repetitions and pauses between.
 */
#include "virtio/blk_int.h"

#include "base/bits.h"

static unsigned kind_of(enum blk_op op)
{
	switch (op) {
	case BLK_READ: return VIRTIO_BLK_READS;
	case BLK_WRITE: return VIRTIO_BLK_WRITES;
	case BLK_DISCARD: return VIRTIO_BLK_DISCARDS;
	case BLK_WRITE_ZEROES: return VIRTIO_BLK_ZEROES;
	default: return VIRTIO_BLK_FLUSHES;
	}
}

const char *virtio_blk_op_name(unsigned kind)
{
	static const char *const names[VIRTIO_BLK_KINDS] = {
		[VIRTIO_BLK_READS] = "read", [VIRTIO_BLK_WRITES] = "write", [VIRTIO_BLK_FLUSHES] = "flush",
		[VIRTIO_BLK_DISCARDS] = "discard", [VIRTIO_BLK_ZEROES] = "write_zeroes",
	};

	return kind < VIRTIO_BLK_KINDS ? names[kind] : "";
}

uint64_t virtio_blk_bucket_end_us(unsigned bucket)
{
	return bucket < VIRTIO_BLK_BUCKETS - 1 ? BIT64(bucket) : 0;
}

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned b = us ? 64u - (unsigned)__builtin_clzll(us) : 0;

	return MIN(b, VIRTIO_BLK_BUCKETS - 1u);
}

/* Bytes of the whole request: a range request is given to the node piece by piece. */
static uint64_t bytes_of(const struct vreq *v)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < v->n_segs; i++)
		n += (uint64_t)v->segs[i].n_sectors * BLK_SECTOR;
	return v->n_segs ? n : v->r.len;
}

void vblk_count_start(struct virtio_blk *b, struct vreq *v, int64_t now_ns)
{
	struct virtio_blk_stats *s = &b->stats;

	v->start_ns = now_ns;
	s->in_flight++;
	s->max_in_flight = MAX(s->max_in_flight, s->in_flight);
}

void vblk_count_end(struct virtio_blk *b, const struct vreq *v, bool ok, int64_t now_ns)
{
	struct virtio_blk_op_stats *s = &b->stats.op[kind_of(v->r.op)];
	uint64_t ns = now_ns > v->start_ns ? (uint64_t)(now_ns - v->start_ns) : 0;

	b->stats.in_flight--;
	if (!ok) {
		s->failed++;
		return;
	}
	s->count++;
	s->bytes += bytes_of(v);
	s->total_ns += ns;
	s->max_ns = MAX(s->max_ns, ns);
	s->latency[bucket_of(ns)]++;
}

void virtio_blk_get_stats(struct virtio_dev *d, struct virtio_blk_stats *out)
{
	virtio_dev_lock(d);
	*out = to_blk(d)->stats;
	virtio_dev_unlock(d);
}
