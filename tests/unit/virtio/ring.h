/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The driver's side of a split virtqueue, for tests and fuzz targets.
 *
 * It writes what it is told, valid or not, through guest memory.  Descriptors
 * are handed out from 0 upwards and start again with ring_recycle.
 *
 *	struct ring r;
 *	ring_init(&r, mem, 0x10000, 8);
 *	ring_attach(&r, &vq);			// sets the addresses and starts it
 *	ring_push(&r, (struct ring_buf[]){ { 0x2000, 16, false }, { 0x3000, 512, true } }, 2);
 *	...
 *	while (ring_used(&r, &id, &len)) ...
 */
#ifndef LODGE_TESTS_VIRTIO_RING_H
#define LODGE_TESTS_VIRTIO_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/bits.h"
#include "machine/mem.h"
#include "virtio/queue.h"

#define RING_NEXT 1
#define RING_WRITE 2
#define RING_INDIRECT 4
#define RING_BYTES(size) (align_up(16u * (size) + 6 + 2u * (size), 64) + 6 + 8u * (size))

struct ring_buf {
	uint64_t addr;
	uint32_t len;
	bool write;
};

struct ring {
	struct mem *mem;
	uint64_t desc, avail, used;
	uint16_t size;
	uint16_t next_desc, avail_idx, used_seen;
};

/* The three areas from `base` on (16-byte aligned), zeroed. */
static inline void ring_init(struct ring *r, struct mem *mem, uint64_t base, uint16_t size)
{
	static const uint8_t zero[64];
	uint64_t end = base + RING_BYTES(size);

	*r = (struct ring){ .mem = mem, .desc = base, .avail = base + 16u * size, .size = size };
	r->used = base + align_up(16u * size + 6 + 2u * size, 64);
	for (uint64_t a = base; a < end; a += sizeof(zero))
		mem_write(mem, a, zero, MIN(sizeof(zero), end - a));
}

static inline int ring_attach(struct ring *r, struct vq *vq)
{
	vq->desc = r->desc;
	vq->avail = r->avail;
	vq->used = r->used;
	vq->size = r->size;
	return vq_start(vq);
}

static inline uint16_t ring_ld16(const struct ring *r, uint64_t gpa)
{
	uint16_t v = 0;

	mem_read(r->mem, gpa, &v, 2);
	return v;
}

static inline void ring_st16(const struct ring *r, uint64_t gpa, uint16_t v)
{
	mem_write(r->mem, gpa, &v, 2);
}

/* One descriptor of a table anywhere (the ring's own: r->desc). */
static inline void ring_desc_at(const struct ring *r, uint64_t table, uint16_t i, uint64_t addr, uint32_t len,
				uint16_t flags, uint16_t next)
{
	uint8_t d[16];

	st_le64(d, addr);
	st_le32(d + 8, len);
	st_le16(d + 12, flags);
	st_le16(d + 14, next);
	mem_write(r->mem, table + 16ull * i, d, sizeof(d));
}

static inline void ring_desc(const struct ring *r, uint16_t i, uint64_t addr, uint32_t len, uint16_t flags,
			     uint16_t next)
{
	ring_desc_at(r, r->desc, i, addr, len, flags, next);
}

/* Makes head available. */
static inline void ring_offer(struct ring *r, uint16_t head)
{
	ring_st16(r, r->avail + 4 + 2ull * (r->avail_idx % r->size), head);
	ring_st16(r, r->avail + 2, ++r->avail_idx);
}

static inline void ring_table(const struct ring *r, uint64_t table, uint16_t first, const struct ring_buf *b,
			      unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ring_desc_at(r, table, first + i, b[i].addr, b[i].len,
			     (b[i].write ? RING_WRITE : 0) | (i + 1 < n ? RING_NEXT : 0), first + i + 1);
}

static inline void ring_recycle(struct ring *r)
{
	r->next_desc = 0;
}

/* A chain of descriptors, made available; returns its head. */
static inline uint16_t ring_push(struct ring *r, const struct ring_buf *b, unsigned n)
{
	uint16_t head;

	if (r->next_desc + n > r->size)
		ring_recycle(r);
	head = r->next_desc;
	ring_table(r, r->desc, head, b, n);
	r->next_desc += n;
	ring_offer(r, head);
	return head;
}

/* The same through an indirect table at `table`. */
static inline uint16_t ring_push_indirect(struct ring *r, uint64_t table, const struct ring_buf *b, unsigned n)
{
	uint16_t head;

	if (r->next_desc >= r->size)
		ring_recycle(r);
	head = r->next_desc++;
	ring_table(r, table, 0, b, n);
	ring_desc(r, head, table, 16 * n, RING_INDIRECT, 0);
	ring_offer(r, head);
	return head;
}

/* The next used element, if there is one. */
static inline bool ring_used(struct ring *r, uint32_t *id, uint32_t *len)
{
	uint8_t e[8];

	if (ring_ld16(r, r->used + 2) == r->used_seen)
		return false;
	mem_read(r->mem, r->used + 4 + 8ull * (r->used_seen % r->size), e, sizeof(e));
	*id = ld_le32(e);
	*len = ld_le32(e + 4);
	r->used_seen++;
	return true;
}

static inline uint16_t ring_used_idx(const struct ring *r) { return ring_ld16(r, r->used + 2); }
static inline uint16_t ring_used_flags(const struct ring *r) { return ring_ld16(r, r->used); }
static inline uint16_t ring_avail_event(const struct ring *r) { return ring_ld16(r, r->used + 4 + 8ull * r->size); }
static inline void ring_set_avail_flags(const struct ring *r, uint16_t v) { ring_st16(r, r->avail, v); }
static inline void ring_set_used_event(const struct ring *r, uint16_t v)
{
	ring_st16(r, r->avail + 4 + 2ull * r->size, v);
}

#endif
