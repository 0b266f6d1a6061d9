/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for tests: it lays split rings into the memory of a machine without
 * CPU, makes chains available, kicks, and collects what comes back.
 */
#ifndef LODGE_TESTS_GUEST_RING_H
#define LODGE_TESTS_GUEST_RING_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "machine/machine.h"
#include "virtio/device.h"

#define GUEST_RAM (16u << 20)
#define RING_SIZE 64
#define RING_AREA 0x4000		/* bytes of guest memory per queue */
#define RING_BASE 0x10000
#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4

struct guest {
	struct machine *m;
	struct virtio_dev *d;
	uint8_t *ram;
	uint64_t always;		/* features every start asks for */
	unsigned irqs[VIRTIO_MAX_QUEUES], config_irqs;
	uint16_t next_desc[VIRTIO_MAX_QUEUES], used_seen[VIRTIO_MAX_QUEUES];
	uint16_t kicked[VIRTIO_MAX_QUEUES];	/* available index at the last kick */
};

struct piece {
	uint64_t gpa;
	uint32_t len;
	bool write;
};

static inline void guest_queue_irq(void *opaque, unsigned q)
{
	((struct guest *)opaque)->irqs[q]++;
}

static inline void guest_config_irq(void *opaque)
{
	((struct guest *)opaque)->config_irqs++;
}

static inline void guest_doorbells(void *opaque, bool on)
{
}

static const struct virtio_transport_ops guest_transport = {
	.queue_irq = guest_queue_irq,
	.config_irq = guest_config_irq,
	.doorbells = guest_doorbells,
};

static inline void guest_init(struct guest *g)
{
	struct err e = { 0 };

	memset(g, 0, sizeof(*g));
	assert_int_equal(machine_new(&g->m, true), 0);
	assert_int_equal(mem_create_ram(g->m->mem, GUEST_RAM, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(g->m->mem, "ram", 0, 0, GUEST_RAM, &e), 0);
	g->ram = mem_ram_host(g->m->mem);
}

static inline void guest_fini(struct guest *g)
{
	machine_lock(g->m);
	if (g->d)
		g->d->ops->free(g->d);
	machine_unlock(g->m);
	machine_free(g->m);
}

static inline uint64_t ring_desc(unsigned q) { return RING_BASE + q * RING_AREA; }
static inline uint64_t ring_avail(unsigned q) { return ring_desc(q) + 0x1000; }
static inline uint64_t ring_used(unsigned q) { return ring_desc(q) + 0x2000; }

/* 3.1.1, up to DRIVER_OK. False: the device did not take the features. */
static inline bool guest_start(struct guest *g, struct virtio_dev *d, uint64_t features)
{
	machine_lock(g->m);
	g->d = d;
	d->transport = &guest_transport;
	d->transport_opaque = g;
	virtio_dev_set_status(d, 0);
	virtio_dev_set_status(d, 3);
	virtio_dev_set_driver_features(d, features | VIRTIO_F_VERSION_1 | g->always);
	virtio_dev_set_status(d, 11);
	if (!(d->status & VIRTIO_S_FEATURES_OK)) {
		machine_unlock(g->m);
		return false;
	}
	for (unsigned q = 0; q < d->n_queues; q++) {
		memset(g->ram + ring_desc(q), 0, RING_AREA);
		d->vq[q].size = MIN(RING_SIZE, d->vq[q].max_size);
		d->vq[q].desc = ring_desc(q);
		d->vq[q].avail = ring_avail(q);
		d->vq[q].used = ring_used(q);
		virtio_dev_queue_enable(d, q, true);
		g->next_desc[q] = g->used_seen[q] = g->kicked[q] = 0;
	}
	virtio_dev_set_status(d, 15);
	machine_unlock(g->m);
	return true;
}

static inline void put_desc(struct guest *g, uint64_t table, unsigned i, uint64_t addr, uint32_t len,
			    uint16_t flags, uint16_t next)
{
	uint8_t *p = g->ram + table + i * 16;

	st_le64(p, addr);
	st_le32(p + 8, len);
	st_le16(p + 12, flags);
	st_le16(p + 14, next);
}

static inline void guest_publish(struct guest *g, unsigned q, uint16_t head)
{
	uint8_t *avail = g->ram + ring_avail(q);
	uint16_t idx = ld_le16(avail + 2);

	st_le16(avail + 4 + 2 * (idx % g->d->vq[q].size), head);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	st_le16(avail + 2, idx + 1);
}

/* Makes a chain available; returns its head. Descriptors are taken round robin. */
static inline uint16_t guest_add(struct guest *g, unsigned q, const struct piece *p, unsigned n)
{
	uint16_t size = g->d->vq[q].size, head = g->next_desc[q] % size;

	for (unsigned i = 0; i < n; i++) {
		uint16_t at = g->next_desc[q]++ % size;

		put_desc(g, ring_desc(q), at, p[i].gpa, p[i].len,
			 (p[i].write ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0), (uint16_t)((at + 1) % size));
	}
	guest_publish(g, q, head);
	return head;
}

/* Kicks if the device asked for it (2.7.10), like a driver that saves every exit. */
static inline void guest_kick(struct guest *g, unsigned q)
{
	uint16_t size = g->d->vq[q].size, idx = ld_le16(g->ram + ring_avail(q) + 2), old = g->kicked[q];
	uint16_t event = ld_le16(g->ram + ring_used(q) + 4 + 8 * size);

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	g->kicked[q] = idx;
	if (virtio_has(g->d, VIRTIO_F_EVENT_IDX) ? (uint16_t)(idx - event - 1) < (uint16_t)(idx - old)
						 : !(ld_le16(g->ram + ring_used(q)) & 1))
		virtio_dev_ring(g->d, q);
}

/* The next used element, if there is one. */
static inline bool guest_used(struct guest *g, unsigned q, uint32_t *head, uint32_t *len)
{
	uint8_t *used = g->ram + ring_used(q), *elem;

	/* Acquire: pairs with the device's release, which may be on another thread. */
	if (__atomic_load_n((uint16_t *)(void *)(used + 2), __ATOMIC_ACQUIRE) == g->used_seen[q])
		return false;
	elem = used + 4 + 8 * (g->used_seen[q]++ % g->d->vq[q].size);
	/* used_event: interrupts from here on, please (2.7.7). */
	st_le16(g->ram + ring_avail(q) + 4 + 2 * g->d->vq[q].size, g->used_seen[q]);
	if (head)
		*head = ld_le32(elem);
	if (len)
		*len = ld_le32(elem + 4);
	return true;
}

/* Turns the loop until a used element arrives; at most about 5 s. */
static inline uint32_t guest_wait(struct guest *g, unsigned q, uint32_t *head)
{
	uint32_t len = 0;

	for (int i = 0; i < 5000; i++) {
		if (guest_used(g, q, head, &len))
			return len;
		assert_int_equal(loop_turn(g->m->loop, 1), 0);
	}
	fail_msg("queue %u: nothing came back", q);
	return 0;
}

/* Lets everything happen that is due. */
static inline void guest_settle(struct guest *g)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_turn(g->m->loop, 0), 0);
}

#endif
