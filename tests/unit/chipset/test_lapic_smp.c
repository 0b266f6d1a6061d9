/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Local APICs under real concurrency: vCPU threads acknowledge while others send
 * IPIs, a device sends level messages, and timers fire.  No interrupt may be
 * lost: each sender waits for its interrupt's handler before sending the next.
 */
#include "chip.h"

#include <sched.h>

#include "chipset/i82093aa.h"
#include "chipset/lapic.h"

#define N 4
#define ROUNDS 3000
#define V_RING 0x40			/* + receiver */
#define V_LEVEL 0x60

static struct machine *m;
static struct lapics *set;
static struct i82093aa *ioapic;

/* One vCPU: a thread that does what an engine's does between instructions. */
static struct cpu {
	struct vcpu v;
	_Atomic unsigned got_ring;
	_Atomic unsigned got_level;
	_Atomic bool stop;
} cpu[N];

static void on_eoi(void *opaque, uint8_t vector)
{
	i82093aa_eoi(ioapic, vector);
}

static void handle(struct cpu *c, int vector)
{
	struct irq pin = i82093aa_irq(ioapic, 10);

	if (vector == V_LEVEL) {
		/* The handler quiets the device, then signals EOI. */
		wire(&pin, m, false);
		atomic_fetch_add(&c->got_level, 1);
	} else {
		atomic_fetch_add(&c->got_ring, 1);
	}
	c->v.intc->mmio_write(c->v.intc_opaque, 0xb0, 0);
}

/* Takes what is there; true if something was. */
static bool poll_cpu(struct cpu *c)
{
	bool any = false;
	int vector;

	if (!(atomic_exchange(&c->v.events, 0) & VCPU_EV_INTR))
		return false;
	while (c->v.intc->pending(c->v.intc_opaque)) {
		vector = c->v.intc->ack(c->v.intc_opaque);
		if (vector < 0)
			break;
		handle(c, vector);
		any = true;
	}
	return any;
}

/* Each vCPU sends to its neighbour and goes on when the neighbour has had it. */
static void *vcpu_thread(void *opaque)
{
	struct cpu *c = opaque;
	struct cpu *next = &cpu[(c->v.id + 1) % N];
	unsigned sent = 0;

	while (!c->stop) {
		if (sent < ROUNDS && atomic_load(&next->got_ring) == sent) {
			c->v.intc->mmio_write(c->v.intc_opaque, 0x310, next->v.id << 24);
			sent++;
			c->v.intc->mmio_write(c->v.intc_opaque, 0x300, 0x4000 | (V_RING + next->v.id));
		}
		if (!poll_cpu(c))
			sched_yield();
	}
	return NULL;
}

/* Waits up to a minute. */
static bool wait_for(_Atomic unsigned *count, unsigned want)
{
	int64_t end = loop_now_ns() + 60 * SEC;

	while (atomic_load(count) < want) {
		if (loop_now_ns() > end)
			return false;
		sched_yield();
	}
	return true;
}

static void test_nothing_is_lost(void **state)
{
	const struct lapics_config cfg = { .n = N, .eoi = on_eoi };
	const struct i82093aa_config icfg = { .base = 0xfec00000 };
	pthread_t thread[N];
	struct irq pin;
	bool ok = true;

	m = machine_make();
	assert_int_equal(lapics_new(m, &cfg, &set), 0);
	assert_int_equal(i82093aa_new(m, &icfg, &ioapic), 0);
	m->msi = lapics_msi;
	m->msi_opaque = set;
	for (unsigned i = 0; i < N; i++) {
		cpu[i].v = (struct vcpu){ .m = m, .id = i };
		lapics_attach(set, &cpu[i].v);
		cpu[i].v.intc->mmio_write(cpu[i].v.intc_opaque, 0xf0, 0x1ff);
	}
	writel_(m, 0xfec00000, 0x10 + 21);
	writel_(m, 0xfec00010, 2u << 24);
	writel_(m, 0xfec00000, 0x10 + 20);
	writel_(m, 0xfec00010, 0x8000 | V_LEVEL);
	for (int i = 0; i < N; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, vcpu_thread, &cpu[i]), 0);
	pin = i82093aa_irq(ioapic, 10);
	for (unsigned i = 1; ok && i <= ROUNDS; i++) {
		wire(&pin, m, true);
		ok = wait_for(&cpu[2].got_level, i);
	}
	for (int i = 0; ok && i < N; i++)
		ok = wait_for(&cpu[i].got_ring, ROUNDS);
	for (int i = 0; i < N; i++)
		cpu[i].stop = true;
	for (int i = 0; i < N; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < N; i++)
		assert_int_equal(cpu[i].got_ring, ROUNDS);
	assert_int_equal(cpu[2].got_level, ROUNDS);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_is_lost) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
