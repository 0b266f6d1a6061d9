// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ring that is shared with a vhost peer.
 *
 * A chain of a few pieces has descriptors of its own, a longer one a table (2.7.5.3), if he knows tables; without them it waits until enough
 * descriptors are free.  Each chain has its table, so that none is written while he may read it.
 *
 * Addresses in descriptors are offsets in the guest's RAM: the plan's region 0 begins there (vhost/vhost.h).
 */
#include "virtio/vhost_ring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define DESC_SIZE 16u
#define DESC_F_NEXT 1u
#define DESC_F_WRITE 2u
#define DESC_F_INDIRECT 4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY 1u
#define DIRECT_PIECES 4u		/* chains of so many have no table */
#define TABLE_BYTES (VHOST_RING_PIECES * DESC_SIZE)

/* ---- layout ---- */

static uint64_t avail_offset(uint16_t size) { return (uint64_t)size * DESC_SIZE; }
static uint64_t used_offset(uint16_t size) { return align_up(avail_offset(size) + 6 + 2ull * size, 64); }
static uint64_t tables_offset(uint16_t size) { return align_up(used_offset(size) + 6 + 8ull * size, PAGE_4K); }

uint64_t vring_bytes(uint16_t size)
{
	return tables_offset(size) + (uint64_t)size * TABLE_BYTES;
}

static uint8_t *avail(const struct vhost_ring *r) { return r->host + r->avail; }
static uint8_t *used(const struct vhost_ring *r) { return r->host + r->used; }
static uint8_t *avail_slot(const struct vhost_ring *r, uint16_t i) { return avail(r) + 4 + 2 * (i & (r->size - 1)); }
static uint8_t *used_slot(const struct vhost_ring *r, uint16_t i) { return used(r) + 4 + 8 * (i & (r->size - 1)); }
static uint8_t *used_event(const struct vhost_ring *r) { return avail(r) + 4 + 2 * r->size; }
static uint8_t *avail_event(const struct vhost_ring *r) { return used(r) + 4 + 8 * r->size; }

/* Each shared word is loaded or stored once. */
static uint16_t ld16(const uint8_t *p) { return __atomic_load_n((const uint16_t *)(const void *)p, __ATOMIC_RELAXED); }
static uint32_t ld32(const uint8_t *p) { return __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED); }
static void st16(uint8_t *p, uint16_t v) { __atomic_store_n((uint16_t *)(void *)p, v, __ATOMIC_RELAXED); }

static void put_desc(uint8_t *p, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next)
{
	st_le64(p, addr);
	st_le32(p + 8, len);
	st_le16(p + 12, flags);
	st_le16(p + 14, next);
}

/* ---- life ---- */

int vring_init(struct vhost_ring *r, struct mem *mem, uint16_t size, uint8_t *host, uint64_t addr)
{
	*r = (struct vhost_ring){ .mem = mem, .size = size, .host = host, .addr = addr };
	r->avail = avail_offset(size);
	r->used = used_offset(size);
	r->tables = tables_offset(size);
	list_init(&r->held);
	list_init(&r->unused);
	r->next = calloc(size, sizeof(*r->next));
	r->at = calloc(size, sizeof(struct vring_chain *));
	r->chain = calloc(size, sizeof(*r->chain));
	if (!r->next || !r->at || !r->chain) {
		vring_fini(r);
		return -ENOMEM;
	}
	for (uint16_t i = 0; i < size; i++) {
		r->chain[i].index = i;
		list_add_tail(&r->unused, &r->chain[i].node);
	}
	vring_stopped(r);
	return 0;
}

void vring_fini(struct vhost_ring *r)
{
	for (unsigned i = 0; r->chain && i < r->size; i++)
		free(r->chain[i].iov);
	free(r->chain);
	free(r->at);
	free(r->next);
	*r = (struct vhost_ring){ 0 };
}

void vring_move(struct vhost_ring *r, uint8_t *host)
{
	r->host = host;
	r->used_idx = 0;
}

void vring_stopped(struct vhost_ring *r)
{
	for (uint16_t i = 0; i < r->size; i++) {
		r->next[i] = i + 1;
		r->at[i] = NULL;
		r->chain[i].offered = false;
	}
	r->free_first = 0;
	r->n_free = r->size;
	r->n_offered = 0;
}

void vring_prepare(struct vhost_ring *r, bool event_idx, bool indirect)
{
	r->event_idx = event_idx;
	r->indirect = indirect;
	r->avail_idx = r->kicked_idx = r->used_idx;
	st16(avail(r), 0);
	st16(avail(r) + 2, r->avail_idx);
	st16(used_event(r), r->used_idx);
	st16(used(r), 0);
	st16(avail_event(r), r->avail_idx);
	st16(used(r) + 2, r->used_idx);
}

void vring_plan(const struct vhost_ring *r, struct vhost_ring_plan *out)
{
	out->desc = r->addr;
	out->avail = r->addr + r->avail;
	out->used = r->addr + r->used;
	out->size = r->size;
	out->base = r->used_idx;
}

void vring_forget(struct vhost_ring *r)
{
	while (!list_empty(&r->held)) {
		struct list *n = r->held.next;

		list_del(n);
		list_add_tail(&r->unused, n);
	}
	r->n_held = 0;
	r->full = false;
}

/* ---- holding ---- */

/* Where in RAM's backing a piece lies; false: in a ROM. */
static bool offset_of(const struct vhost_ring *r, const struct iovec *v, uint64_t *out)
{
	uintptr_t ram = (uintptr_t)mem_ram_host(r->mem), p = (uintptr_t)v->iov_base;

	*out = p - ram;
	return p >= ram && p - ram < mem_ram_size(r->mem) && v->iov_len <= mem_ram_size(r->mem) - (p - ram);
}

/* Appends one half of a chain; what the guest cut for no reason is one piece. */
static unsigned copy_pieces(struct iovec *to, const struct iovec *from, unsigned n)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n; i++) {
		if (k && (uint8_t *)to[k - 1].iov_base + to[k - 1].iov_len == from[i].iov_base &&
		    to[k - 1].iov_len + from[i].iov_len <= UINT32_MAX)
			to[k - 1].iov_len += from[i].iov_len;
		else
			to[k++] = from[i];
	}
	return k;
}

int vring_hold(struct vhost_ring *r, const struct vq_chain *c)
{
	unsigned n = (unsigned)c->n_read + c->n_write;
	struct vring_chain *h;
	uint64_t off;

	if (list_empty(&r->unused) || !n)
		return -EPROTO;
	for (unsigned i = 0; i < n; i++)
		if (!offset_of(r, &c->iov[i], &off) || c->iov[i].iov_len > UINT32_MAX)
			return -EPROTO;
	h = list_entry(r->unused.next, struct vring_chain, node);
	if (h->iov_room < n) {
		free(h->iov);
		h->iov_room = 0;
		h->iov = calloc(n, sizeof(*h->iov));
		if (!h->iov)
			return -ENOMEM;
		h->iov_room = n;
	}
	h->n_read = copy_pieces(h->iov, c->iov, c->n_read);
	h->n_write = copy_pieces(h->iov + h->n_read, c->iov + c->n_read, c->n_write);
	if (h->n_read + h->n_write > VHOST_RING_PIECES)
		return -EPROTO;
	h->guest_head = c->head;
	h->len_write = c->len_write;
	h->offered = false;
	list_del(&h->node);
	list_add_tail(&r->held, &h->node);
	r->n_held++;
	return 0;
}

/* ---- offering ---- */

static bool has_table(const struct vhost_ring *r, const struct vring_chain *h)
{
	unsigned n = h->n_read + h->n_write;

	return r->indirect && (n > DIRECT_PIECES || n > r->n_free);
}

static uint16_t take_desc(struct vhost_ring *r)
{
	uint16_t i = r->free_first;

	r->free_first = r->next[i];
	r->n_free--;
	return i;
}

/* The descriptor of piece i. */
static void piece(const struct vhost_ring *r, const struct vring_chain *h, unsigned i, uint8_t *p, bool more, uint16_t next)
{
	uint64_t off = 0;

	offset_of(r, &h->iov[i], &off);
	put_desc(p, off, (uint32_t)h->iov[i].iov_len, (uint16_t)((more ? DESC_F_NEXT : 0) | (i >= h->n_read ? DESC_F_WRITE : 0)), next);
}

static void offer_table(struct vhost_ring *r, struct vring_chain *h)
{
	unsigned n = h->n_read + h->n_write;
	uint64_t at = r->tables + (uint64_t)h->index * TABLE_BYTES;

	for (unsigned i = 0; i < n; i++)
		piece(r, h, i, r->host + at + (size_t)i * DESC_SIZE, i + 1 < n, (uint16_t)(i + 1));
	h->first = take_desc(r);
	h->n_desc = 1;
	put_desc(r->host + (size_t)h->first * DESC_SIZE, r->addr + at, n * DESC_SIZE, DESC_F_INDIRECT, 0);
}

static void offer_direct(struct vhost_ring *r, struct vring_chain *h)
{
	unsigned n = h->n_read + h->n_write;
	uint16_t i = take_desc(r);

	h->first = i;
	h->n_desc = (uint16_t)n;
	for (unsigned k = 0; k < n; k++) {
		/* Free ones are in a list, of which a chain takes the head: next[] is right for both. */
		uint16_t next = k + 1 < n ? take_desc(r) : 0;

		piece(r, h, k, r->host + (size_t)i * DESC_SIZE, k + 1 < n, next);
		i = next;
	}
}

static bool offer(struct vhost_ring *r, struct vring_chain *h)
{
	bool table = has_table(r, h);

	if (r->n_free < (table ? 1 : h->n_read + h->n_write))
		return false;
	if (table)
		offer_table(r, h);
	else
		offer_direct(r, h);
	h->offered = true;
	r->at[h->first] = h;
	r->n_offered++;
	st16(avail_slot(r, r->avail_idx++), h->first);
	return true;
}

bool vring_offer_held(struct vhost_ring *r)
{
	list_for_each(n, &r->held) {
		struct vring_chain *h = list_entry(n, struct vring_chain, node);

		if (!h->offered && !offer(r, h))
			return false;
	}
	return true;
}

bool vring_needs_table(const struct vhost_ring *r)
{
	list_for_each(n, &r->held) {
		const struct vring_chain *h = list_entry(n, struct vring_chain, node);

		if (h->n_read + h->n_write > r->size)
			return true;
	}
	return false;
}

int vring_add(struct vhost_ring *r, const struct vq_chain *c)
{
	int ret;

	/* Those that were held back come first. */
	if (r->n_held > r->n_offered && !vring_offer_held(r))
		return 0;
	if (list_empty(&r->unused))
		return 0;
	ret = vring_hold(r, c);
	if (ret)
		return ret;
	/* Without tables he can never be told of it. */
	if (!r->indirect && vring_needs_table(r))
		return -EPROTO;
	vring_offer_held(r);
	return 1;
}

bool vring_publish(struct vhost_ring *r)
{
	uint16_t old = r->kicked_idx;

	if (old == r->avail_idx)
		return false;
	/* Descriptors and entries are there before the index says so; pairs with the peer's read of it. */
	__atomic_store_n((uint16_t *)(void *)(avail(r) + 2), r->avail_idx, __ATOMIC_RELEASE);
	/* The index is visible before we look whether a kick is wanted; pairs with the peer's barrier between wanting and looking. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	r->kicked_idx = r->avail_idx;
	if (!r->event_idx)
		return !(ld16(used(r)) & USED_F_NO_NOTIFY);
	/* 2.7.10.1 */
	return (uint16_t)(r->avail_idx - ld16(avail_event(r)) - 1) < (uint16_t)(r->avail_idx - old);
}

/* ---- collecting ---- */

static void give_back(struct vhost_ring *r, const struct vring_chain *h)
{
	uint16_t last = h->first;

	for (unsigned k = 1; k < h->n_desc; k++)
		last = r->next[last];
	r->next[last] = r->free_first;
	r->free_first = h->first;
	r->n_free = (uint16_t)(r->n_free + h->n_desc);
	r->at[h->first] = NULL;
	r->n_offered--;
}

static void returned(struct vhost_ring *r, struct vring_chain *h, uint32_t len, struct vq *vq)
{
	for (unsigned i = h->n_read; i < h->n_read + h->n_write; i++)
		mem_written_host(r->mem, h->iov[i].iov_base, h->iov[i].iov_len);
	vq_put_head(vq, h->guest_head, (uint32_t)MIN((uint64_t)len, h->len_write));
	give_back(r, h);
	h->offered = false;
	list_del(&h->node);
	list_add_tail(&r->unused, &h->node);
	r->n_held--;
}

int vring_collect(struct vhost_ring *r, struct vq *vq, unsigned max)
{
	unsigned done = 0;

	while (done < max) {
		/* Acquire: entries and data are read after it; pairs with the peer's store. */
		uint16_t idx = __atomic_load_n((const uint16_t *)(const void *)(used(r) + 2), __ATOMIC_ACQUIRE);
		uint16_t n = (uint16_t)(idx - r->used_idx);

		if (!n)
			break;
		if (n > r->n_offered)
			return -EPROTO;
		for (; n && done < max; n--, done++) {
			const uint8_t *e = used_slot(r, r->used_idx);
			uint32_t id = ld32(e), len = ld32(e + 4);

			if (id >= r->size || !r->at[id])
				return -EPROTO;
			r->used_idx++;
			returned(r, r->at[id], len, vq);
		}
	}
	return (int)done;
}

bool vring_call_enable(struct vhost_ring *r)
{
	/* Without EVENT_IDX he always calls. */
	if (r->event_idx)
		st16(used_event(r), r->used_idx);
	/* Wanting to be called is visible before we look; pairs with the peer's barrier between the index and reading what we want. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return ld16(used(r) + 2) != r->used_idx;
}
