/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a disk counts: requests, bytes, time, and a histogram of latencies by
 * powers of two.  A request's time begins when the front end starts it and ends
 * with its answer, so it includes repetitions and pauses between.
 */
#include "storage/disk.h"

#include "base/bits.h"

static unsigned kind_of(enum blk_op op)
{
	switch (op) {
	case BLK_READ: return DISK_READS;
	case BLK_WRITE: return DISK_WRITES;
	case BLK_DISCARD: return DISK_DISCARDS;
	case BLK_WRITE_ZEROES: return DISK_ZEROES;
	default: return DISK_FLUSHES;
	}
}

const char *disk_op_name(unsigned kind)
{
	static const char *const names[DISK_KINDS] = {
		[DISK_READS] = "read", [DISK_WRITES] = "write", [DISK_FLUSHES] = "flush",
		[DISK_DISCARDS] = "discard", [DISK_ZEROES] = "write_zeroes",
	};

	return kind < DISK_KINDS ? names[kind] : "";
}

uint64_t disk_bucket_end_us(unsigned bucket)
{
	return bucket < DISK_BUCKETS - 1 ? BIT64(bucket) : 0;
}

static unsigned bucket_of(uint64_t ns)
{
	uint64_t us = ns / 1000;
	unsigned b = us ? 64u - (unsigned)__builtin_clzll(us) : 0;

	return MIN(b, DISK_BUCKETS - 1u);
}

/* Bytes of the whole request: ranges are given to the node one by one. */
static uint64_t bytes_of(const struct disk_req *q)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < q->n_ranges; i++)
		n += q->range[i].len;
	return q->n_ranges ? n : q->r.len;
}

void disk_count_start(struct disk_req *q, int64_t now_ns)
{
	struct disk_stats *s = &q->d->stats;

	q->start_ns = now_ns;
	s->in_flight++;
	s->max_in_flight = MAX(s->max_in_flight, s->in_flight);
}

void disk_count_end(struct disk_req *q, bool ok, int64_t now_ns)
{
	struct disk_op_stats *s = &q->d->stats.op[kind_of(q->r.op)];
	uint64_t ns = now_ns > q->start_ns ? (uint64_t)(now_ns - q->start_ns) : 0;

	q->d->stats.in_flight--;
	if (!ok) {
		s->failed++;
		return;
	}
	s->count++;
	s->bytes += bytes_of(q);
	s->total_ns += ns;
	s->max_ns = MAX(s->max_ns, ns);
	s->latency[bucket_of(ns)]++;
}

void disk_get_stats(struct disk *d, struct disk_stats *out)
{
	disk_lock(d);
	*out = d->stats;
	disk_unlock(d);
}
