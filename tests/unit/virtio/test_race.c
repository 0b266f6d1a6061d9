/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * No kick and no interrupt is lost between a driver and a device that run at the
 * same time and suppress whatever they can.
 *
 * The driver is a thread that follows virtio 1.2, 2.7.13 to the letter and waits
 * only for an interrupt; the device is this thread and waits only for a kick.  A
 * missing barrier or a wrong comparison shows as a wait that does not end.  Then
 * a driver that scribbles over the ring all the time: the walker must survive.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "ring.h"

#define RAM 0x100000u
#define RING 0x10000u
#define SIZE 16u
#define REQUESTS 150000u
#define STUCK_MS 20000

struct race {
	struct mem *mem;
	struct vq vq;
	struct ring r;
	int kick, irq;
	bool event_idx;
	unsigned kicks, irqs;
	_Atomic bool failed, stop;
	_Atomic unsigned scribbled;
};

static uint16_t *word(struct race *x, uint64_t gpa)
{
	return (uint16_t *)(void *)(mem_ram_host(x->mem) + gpa);
}

static uint16_t ld(struct race *x, uint64_t gpa) { return __atomic_load_n(word(x, gpa), __ATOMIC_ACQUIRE); }
static void st(struct race *x, uint64_t gpa, uint16_t v) { __atomic_store_n(word(x, gpa), v, __ATOMIC_RELEASE); }

static void ring_it(int fd)
{
	uint64_t one = 1;

	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static bool wait_for(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n;

	return poll(&p, 1, STUCK_MS) == 1 && read(fd, &n, sizeof(n)) == sizeof(n);
}

static void notify(void *opaque, struct vq *vq)
{
	struct race *x = opaque;

	x->irqs++;
	ring_it(x->irq);
}

/* 2.7.13.4.1 */
static bool kick_wanted(struct race *x, uint16_t old, uint16_t new)
{
	uint16_t event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!x->event_idx)
		return !(ld(x, x->r.used) & 1);
	event = ld(x, x->r.used + 4 + 8 * SIZE);
	return (uint16_t)(new - event - 1) < (uint16_t)(new - old);
}

/* 2.7.14: arms the interrupt, looks again, sleeps. */
static bool wait_used(struct race *x, uint16_t seen)
{
	while (ld(x, x->r.used + 2) == seen) {
		if (x->event_idx)
			st(x, x->r.avail + 4 + 2 * SIZE, seen);
		else
			st(x, x->r.avail, 0);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (ld(x, x->r.used + 2) != seen)
			break;
		if (!wait_for(x->irq))
			return false;
	}
	if (!x->event_idx)
		st(x, x->r.avail, 1);
	return true;
}

static void *driver(void *opaque)
{
	struct race *x = opaque;
	uint16_t avail = 0, seen = 0;
	unsigned seed = 1;

	for (unsigned done = 0; done < REQUESTS;) {
		unsigned n = 1 + (unsigned)rand_r(&seed) % SIZE;
		uint16_t old = avail;

		n = MIN(n, REQUESTS - done);
		for (unsigned i = 0; i < n; i++)
			st(x, x->r.avail + 4 + 2 * ((old + i) % SIZE), i);
		avail = old + n;
		st(x, x->r.avail + 2, avail);
		if (kick_wanted(x, old, avail)) {
			__atomic_fetch_add(&x->kicks, 1, __ATOMIC_RELAXED);
			ring_it(x->kick);
		}
		while ((uint16_t)(avail - seen)) {
			if (!wait_used(x, seen)) {
				x->failed = true;
				return NULL;
			}
			seen = ld(x, x->r.used + 2);
		}
		done += n;
	}
	return NULL;
}

static unsigned serve(struct race *x, struct vq_chain *c)
{
	unsigned n = 0;

	do {
		vq_kick_enable(&x->vq, false);
		while (vq_get(&x->vq, c) == 1) {
			vq_put(&x->vq, c, 1);
			n++;
		}
		vq_flush(&x->vq);
	} while (vq_kick_enable(&x->vq, true));
	return n;
}

static void up(struct race *x, bool event_idx)
{
	struct err e;

	memset(x, 0, sizeof(*x));
	assert_int_equal(mem_new(&x->mem), 0);
	assert_int_equal(mem_create_ram(x->mem, RAM, MEM_HUGE_NONE, &e), 0);
	assert_int_equal(mem_add_ram(x->mem, "ram", 0, 0, RAM, &e), 0);
	x->vq.mem = x->mem;
	x->vq.max_size = SIZE;
	x->vq.notify = notify;
	x->vq.opaque = x;
	vq_reset(&x->vq);
	x->event_idx = x->vq.event_idx = event_idx;
	ring_init(&x->r, x->mem, RING, SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		ring_desc(&x->r, i, 0x20000 + 64 * i, 64, RING_WRITE, 0);
	assert_int_equal(ring_attach(&x->r, &x->vq), 0);
	x->kick = eventfd(0, EFD_CLOEXEC);
	x->irq = eventfd(0, EFD_CLOEXEC);
	assert_true(x->kick >= 0 && x->irq >= 0);
}

static void down(struct race *x)
{
	vq_reset(&x->vq);
	mem_free(x->mem);
	close(x->kick);
	close(x->irq);
}

static void nothing_is_lost(bool event_idx)
{
	struct vq_chain *c = malloc(sizeof(*c));
	struct race x;
	pthread_t t;

	up(&x, event_idx);
	assert_int_equal(pthread_create(&t, NULL, driver, &x), 0);
	for (unsigned n = 0; n < REQUESTS;) {
		if (!wait_for(x.kick)) {
			x.failed = true;
			break;
		}
		n += serve(&x, c);
	}
	pthread_join(t, NULL);
	assert_false(x.failed);
	assert_false(x.vq.broken);
	assert_true(x.kicks <= REQUESTS && x.irqs <= REQUESTS);
	down(&x);
	free(c);
}

static void nothing_is_lost_with_flags(void **state)
{
	nothing_is_lost(false);
}

static void nothing_is_lost_with_event_idx(void **state)
{
	nothing_is_lost(true);
}

/* Descriptors and indices change while they are read. */
static void *scribbler(void *opaque)
{
	struct race *x = opaque;
	unsigned seed = 2;

	while (!x->stop) {
		uint64_t at = RING + ((unsigned)rand_r(&seed) % RING_BYTES(SIZE) & ~1u);

		__atomic_store_n(word(x, at), (uint16_t)(rand_r(&seed) % 3 ? rand_r(&seed) % 20 : rand_r(&seed)),
				 __ATOMIC_RELAXED);
		x->scribbled++;
	}
	return NULL;
}

static void ring_that_changes_under_the_walker(void **state)
{
	struct vq_chain *c = malloc(sizeof(*c));
	unsigned chains = 0, broken = 0;
	struct race x;
	pthread_t t;

	up(&x, true);
	assert_int_equal(pthread_create(&t, NULL, scribbler, &x), 0);
	/* What counts is what was scribbled: on a busy host that thread may begin when a million turns are over. */
	for (unsigned i = 0; x.scribbled < 3000000 && (chains < 100 || broken < 100); i++) {
		const uint8_t *ram = mem_ram_host(x.mem);
		int ret = vq_get(&x.vq, c);

		for (unsigned k = 0; ret == 1 && k < (unsigned)c->n_read + c->n_write; k++) {
			const uint8_t *p = c->iov[k].iov_base;

			if (p < ram || c->iov[k].iov_len > RAM || (size_t)(p - ram) > RAM - c->iov[k].iov_len)
				x.failed = true;
		}
		chains += ret == 1;
		if (ret == 1)
			vq_put_head(&x.vq, c->head, 0);	/* writes into the ring itself */
		vq_kick_enable(&x.vq, i & 1);
		if (ret != -EPROTO)
			continue;
		broken++;
		vq_reset(&x.vq);
		x.vq.indirect = i & 1;
		x.vq.last_avail = ld(&x, x.r.avail + 2) - 3;
		ring_attach(&x.r, &x.vq);
	}
	x.stop = true;
	pthread_join(t, NULL);
	assert_false(x.failed);
	assert_true(broken > 0);
	down(&x);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_with_flags),
		cmocka_unit_test(nothing_is_lost_with_event_idx),
		cmocka_unit_test(ring_that_changes_under_the_walker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
