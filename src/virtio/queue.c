/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The split virtqueue walker (virtio 1.2, 2.7).
 *
 * The three areas are looked up once when the queue becomes ready and again
 * after every change of the memory map; all must be RAM and contiguous.  A
 * descriptor is copied to the stack in one go before any field is looked at,
 * the available index is remembered so that a batch costs one read of the
 * shared cache line.
 *
 * Every chain got is counted in in_flight until it is put; a driver that makes
 * more available than its queue is long is caught there.
 */
#include "virtio/queue.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/log.h"

#define DESC_F_NEXT 1
#define DESC_F_WRITE 2
#define DESC_F_INDIRECT 4
#define DESC_SIZE 16

#define AVAIL_F_NO_INTERRUPT 1
#define USED_F_NO_NOTIFY 1

/* 2.7.5.3.1, 2.7.4: a chain is at most 2^32 bytes long. */
#define CHAIN_MAX_BYTES (1ull << 32)

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
_Static_assert(sizeof(struct desc) == DESC_SIZE, "descriptor layout, 2.7.5");

/* ---- shared words: each is loaded or stored once, relaxed; order is said where it matters ---- */

static uint16_t shared_ld16(const void *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
}

static void shared_st16(void *p, uint16_t v)
{
	__atomic_store_n((uint16_t *)p, v, __ATOMIC_RELAXED);
}

static void shared_st32(void *p, uint32_t v)
{
	__atomic_store_n((uint32_t *)p, v, __ATOMIC_RELAXED);
}

/* Every byte is loaded once.  The ring's own descriptors are aligned (2.7),
 * indirect tables need not be. */
static void desc_read(const uint8_t *table, uint32_t i, struct desc *d)
{
	const uint8_t *p = table + (size_t)i * DESC_SIZE;
	uint64_t w[2];

	if (likely(!((uintptr_t)p & 7))) {
		w[0] = __atomic_load_n((const uint64_t *)(const void *)p, __ATOMIC_RELAXED);
		w[1] = __atomic_load_n((const uint64_t *)(const void *)(p + 8), __ATOMIC_RELAXED);
	} else {
		for (unsigned k = 0; k < DESC_SIZE; k++)
			((uint8_t *)w)[k] = __atomic_load_n(p + k, __ATOMIC_RELAXED);
	}
	memcpy(d, w, sizeof(*d));
}

static const uint8_t *avail_flags(const struct vq *vq) { return vq->avail_host; }
static const uint8_t *avail_idx(const struct vq *vq) { return vq->avail_host + 2; }
static const uint8_t *avail_ring(const struct vq *vq, uint16_t i)
{
	return vq->avail_host + 4 + 2 * (i & (vq->size - 1));
}
static const uint8_t *used_event(const struct vq *vq) { return vq->avail_host + 4 + 2 * vq->size; }
static uint8_t *used_flags(const struct vq *vq) { return vq->used_host; }
static uint8_t *used_idx(const struct vq *vq) { return vq->used_host + 2; }
static uint8_t *used_elem(const struct vq *vq, uint16_t i)
{
	return vq->used_host + 4 + 8 * (i & (vq->size - 1));
}
static uint8_t *avail_event(const struct vq *vq) { return vq->used_host + 4 + 8 * vq->size; }

/* ---- life cycle ---- */

static int vq_break(struct vq *vq, const char *why)
{
	log_guest("virtqueue %u: %s", vq->index, why);
	vq->broken = true;
	return -EPROTO;
}

static void vq_forget_host(struct vq *vq)
{
	vq->desc_host = NULL;
	vq->avail_host = NULL;
	vq->used_host = NULL;
}

/* Any thread.  Who walks the queue just now may still use the old view: it is RAM, which stays mapped. */
static void vq_map_changed(void *opaque, const struct mem_range *r)
{
	struct vq *vq = opaque;

	atomic_store_explicit(&vq->stale, true, memory_order_release);
}

/* All three areas are asked for as writable: a ring in ROM is a mistake even
 * where the device would only read it. */
static bool vq_resolve(struct vq *vq)
{
	uint64_t n = vq->size;

	if (likely(vq->used_host && !atomic_load_explicit(&vq->stale, memory_order_relaxed)))
		return true;
	/* Before the look-up, so that a change during it is not missed. */
	atomic_exchange(&vq->stale, false);
	vq->desc_host = mem_ptr(vq->mem, vq->desc, DESC_SIZE * n, true);
	vq->avail_host = mem_ptr(vq->mem, vq->avail, 6 + 2 * n, true);
	vq->used_host = mem_ptr(vq->mem, vq->used, 6 + 8 * n, true);
	if (vq->desc_host && vq->avail_host && vq->used_host)
		return true;
	vq_forget_host(vq);
	return false;
}

/* May the rings be touched? */
static bool vq_usable(struct vq *vq)
{
	if (!vq->ready || vq->broken)
		return false;
	if (likely(vq_resolve(vq)))
		return true;
	vq_break(vq, "the rings are not in RAM any more");
	return false;
}

void vq_reset(struct vq *vq)
{
	if (vq->listener.opaque)
		mem_unlisten(vq->mem, &vq->listener);
	memset(&vq->listener, 0, sizeof(vq->listener));
	vq_forget_host(vq);
	vq->size = vq->max_size;
	vq->ready = vq->event_idx = vq->indirect = vq->broken = false;
	vq->desc = vq->avail = vq->used = 0;
	vq->last_avail = vq->used_idx = vq->signalled_used = vq->avail_idx = 0;
	vq->signalled_valid = true;
	vq->in_flight = 0;
}

int vq_start(struct vq *vq)
{
	if (vq->size > vq->max_size || !is_pow2(vq->size))
		return vq_break(vq, "queue size is zero, no power of two or too large");
	if (vq->desc & 15 || vq->avail & 1 || vq->used & 3)
		return vq_break(vq, "ring address is not aligned (virtio 1.2, 2.7)");
	vq_forget_host(vq);
	if (!vq_resolve(vq))
		return vq_break(vq, "ring address is not RAM");
	if (!vq->listener.opaque) {
		vq->listener.added = vq_map_changed;
		vq->listener.removed = vq_map_changed;
		vq->listener.opaque = vq;
		mem_listen(vq->mem, &vq->listener);	/* replays added(): resolves anew */
	}
	vq->avail_idx = vq->last_avail;
	vq->ready = true;
	return 0;
}

/* ---- getting chains ---- */

/* How many chains the driver has made available beyond last_avail: 0, a number
 * up to size, or -EPROTO. */
static int vq_poll(struct vq *vq)
{
	uint16_t n = (uint16_t)(vq->avail_idx - vq->last_avail);

	if (n)
		return n;
	/* Acquire: pairs with the driver's barrier before it raised avail.idx;
	 * ring entries and descriptors are read after it. */
	vq->avail_idx = __atomic_load_n((const uint16_t *)(const void *)avail_idx(vq), __ATOMIC_ACQUIRE);
	n = (uint16_t)(vq->avail_idx - vq->last_avail);
	if (n > vq->size)
		return vq_break(vq, "available index is ahead of the queue size");
	return n;
}

/* One walk through a chain. */
struct walk {
	const uint8_t *table;
	uint32_t entries;	/* of the table */
	uint32_t budget;	/* descriptors that may still be visited */
	bool in_indirect, writing;
	uint64_t bytes;
};

static int walk_enter_indirect(struct vq *vq, struct walk *w, const struct desc *d)
{
	if (w->in_indirect)
		return vq_break(vq, "indirect table inside an indirect table");
	if (!vq->indirect)
		return vq_break(vq, "indirect descriptor without the feature");
	if (d->flags & DESC_F_NEXT)
		return vq_break(vq, "descriptor is indirect and has a successor");
	if (!d->len || d->len % DESC_SIZE)
		return vq_break(vq, "indirect table length is no multiple of 16");
	w->table = mem_ptr(vq->mem, d->addr, d->len, false);
	if (!w->table)
		return vq_break(vq, "indirect table outside RAM");
	w->in_indirect = true;
	w->entries = d->len / DESC_SIZE;
	/* Drivers use tables longer than the queue (Linux does); visits are
	 * bounded by what a chain may hold. */
	w->budget = MIN(w->entries, (uint32_t)VQ_MAX_IOV);
	return 0;
}

static int walk_add(struct vq *vq, struct walk *w, const struct desc *d, struct vq_chain *c)
{
	bool write = d->flags & DESC_F_WRITE;
	size_t n = (size_t)c->n_read + c->n_write, before = n;
	int ret;

	if (w->writing && !write)
		return vq_break(vq, "readable descriptor after a writable one");
	w->writing = write;
	if (!d->len)
		return 0;
	w->bytes += d->len;
	if (w->bytes > CHAIN_MAX_BYTES)
		return vq_break(vq, "chain longer than 2^32 bytes");
	ret = mem_map_iov(vq->mem, d->addr, d->len, write, c->iov, VQ_MAX_IOV, &n);
	if (ret)
		return vq_break(vq, ret == -E2BIG ? "chain of too many pieces" : "buffer outside RAM");
	if (write) {
		c->n_write += n - before;
		c->len_write += d->len;
	} else {
		c->n_read += n - before;
		c->len_read += d->len;
	}
	return 0;
}

static int vq_walk(struct vq *vq, uint16_t head, struct vq_chain *c)
{
	struct walk w = { .table = vq->desc_host, .entries = vq->size, .budget = vq->size };
	uint32_t i = head;
	struct desc d;
	int ret;

	c->head = head;
	c->n_read = c->n_write = 0;
	c->len_read = c->len_write = 0;
	for (;;) {
		if (i >= w.entries)
			return vq_break(vq, "descriptor index out of range");
		if (!w.budget--)
			return vq_break(vq, "descriptor chain is a loop or too long");
		desc_read(w.table, i, &d);
		if (d.flags & DESC_F_INDIRECT) {
			ret = walk_enter_indirect(vq, &w, &d);
			if (ret)
				return ret;
			i = 0;
			continue;
		}
		ret = walk_add(vq, &w, &d, c);
		if (ret)
			return ret;
		if (!(d.flags & DESC_F_NEXT))
			return 0;
		i = d.next;
	}
}

int vq_get(struct vq *vq, struct vq_chain *c)
{
	int n;

	if (!vq_usable(vq))
		return vq->broken ? -EPROTO : 0;
	n = vq_poll(vq);
	if (n <= 0)
		return n;
	if (vq->in_flight >= vq->size)
		return vq_break(vq, "more chains in flight than the queue is long");
	n = vq_walk(vq, shared_ld16(avail_ring(vq, vq->last_avail)), c);
	if (n)
		return n;
	vq->last_avail++;
	vq->in_flight++;
	return 1;
}

int vq_get_again(struct vq *vq, uint16_t head, struct vq_chain *c)
{
	return vq_usable(vq) && vq->in_flight ? vq_walk(vq, head, c) : -EPROTO;
}

void vq_unget(struct vq *vq)
{
	if (!vq->ready || !vq->in_flight)
		return;
	vq->last_avail--;
	vq->in_flight--;
}

bool vq_empty(struct vq *vq)
{
	if (!vq_usable(vq))
		return true;
	return vq->avail_idx == vq->last_avail && shared_ld16(avail_idx(vq)) == vq->last_avail;
}

/* ---- returning chains ---- */

void vq_put_head(struct vq *vq, uint16_t head, uint32_t written)
{
	uint8_t *elem;

	if (!vq_usable(vq) || !vq->in_flight)
		return;
	elem = used_elem(vq, vq->used_idx);
	shared_st32(elem, head);
	shared_st32(elem + 4, written);
	vq->in_flight--;
	vq->used_idx++;
	/* A whole turn of the index without a flush: its distance says nothing. */
	if (vq->used_idx == vq->signalled_used)
		vq->signalled_valid = false;
	/* Release: the element and the buffer's bytes are visible before the
	 * index; pairs with the driver's read barrier after it saw the index. */
	__atomic_store_n((uint16_t *)(void *)used_idx(vq), vq->used_idx, __ATOMIC_RELEASE);
	mem_written(vq->mem, vq->used + (uint64_t)(elem - vq->used_host), 8);
	mem_written(vq->mem, vq->used + 2, 2);
}

void vq_put(struct vq *vq, const struct vq_chain *c, uint64_t written)
{
	uint64_t left;

	written = MIN(written, c->len_write);
	left = written;
	for (unsigned i = c->n_read; left && i < (unsigned)c->n_read + c->n_write; i++) {
		size_t n = MIN(left, (uint64_t)c->iov[i].iov_len);

		mem_written_host(vq->mem, c->iov[i].iov_base, n);
		left -= n;
	}
	vq_put_head(vq, c->head, (uint32_t)MIN(written, (uint64_t)UINT32_MAX));
}

/* ---- notifications ---- */

/* Does moving an index from old to new pass event? (2.7.7.1) */
static bool need_event(uint16_t event, uint16_t new, uint16_t old)
{
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

void vq_flush(struct vq *vq)
{
	uint16_t old = vq->signalled_used;
	bool all = !vq->signalled_valid, want;

	if (!vq_usable(vq) || (!all && old == vq->used_idx))
		return;
	/* The used index must be visible before we read whether the driver wants
	 * an interrupt; pairs with the driver's full barrier between arming
	 * used_event (or clearing NO_INTERRUPT) and looking at used.idx again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (vq->event_idx)
		want = all || need_event(shared_ld16(used_event(vq)), vq->used_idx, old);
	else
		want = !(shared_ld16(avail_flags(vq)) & AVAIL_F_NO_INTERRUPT);
	vq->signalled_used = vq->used_idx;
	vq->signalled_valid = true;
	if (want && vq->notify)
		vq->notify(vq->opaque, vq);
}

bool vq_kick_enable(struct vq *vq, bool on)
{
	if (!vq_usable(vq))
		return false;
	if (vq->event_idx) {
		/* Off: the event index left behind is not passed again before
		 * the index has gone all the way round. */
		if (!on)
			return false;
		shared_st16(avail_event(vq), vq->last_avail);
		mem_written(vq->mem, vq->used + (uint64_t)(avail_event(vq) - vq->used_host), 2);
	} else {
		shared_st16(used_flags(vq), on ? 0 : USED_F_NO_NOTIFY);
		mem_written(vq->mem, vq->used, 2);
		if (!on)
			return false;
	}
	/* Asking for kicks must be visible before we look for buffers; pairs with
	 * the driver's full barrier between raising avail.idx and reading this. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return shared_ld16(avail_idx(vq)) != vq->last_avail;
}
