/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What devices and engines both know of a vCPU.
 *
 * The chip side raises events from any thread; the engine's thread consumes
 * them.  An event bit says "look", never carries data by itself.
 */
#ifndef LODGE_MACHINE_VCPU_H
#define LODGE_MACHINE_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct machine;
struct vcpu;

enum {
	VCPU_EV_INTR = 1u << 0,	 /* the interrupt controller has (or had) something: ask intc->pending */
	VCPU_EV_NMI = 1u << 1,
	VCPU_EV_INIT = 1u << 2,
	VCPU_EV_SIPI = 1u << 3,	 /* vector in sipi_vector */
	VCPU_EV_SMI = 1u << 4,
	VCPU_EV_STOP = 1u << 5,	 /* leave vcpu_run with VCPU_STOP_KICK */
	VCPU_EV_FLUSH = 1u << 6, /* the memory map changed: drop cached translations */
	VCPU_EV_ENGINE = 1u << 7,/* engine-private request */
	VCPU_EV_WATCH = 1u << 8, /* pages are watched or logged: forget the right to write without telling */
};

/* The local interrupt controller as its CPU sees it (userspace LAPIC; absent
 * where the kernel has one).  Called on the vCPU's thread, machine lock not held. */
struct vcpu_intc_ops {
	/* Is a maskable interrupt deliverable now, priority considered? */
	bool (*pending)(void *intc);
	/* Acknowledge: vector 0..255, or -1 if it went away. */
	int (*ack)(void *intc);
	uint8_t (*get_tpr)(void *intc);		/* CR8: bits 3:0 */
	void (*set_tpr)(void *intc, uint8_t cr8);
	uint64_t (*get_base)(void *intc);	/* IA32_APIC_BASE */
	int (*set_base)(void *intc, uint64_t v);/* -EINVAL: raise #GP */
	/* x2APIC MSRs 0x800..0x8ff and IA32_TSC_DEADLINE (0x6e0). -EINVAL: raise #GP. */
	int (*msr_read)(void *intc, uint32_t msr, uint64_t *v);
	int (*msr_write)(void *intc, uint32_t msr, uint64_t v);
	/* xAPIC page, when the access hit the enabled APIC base. */
	uint32_t (*mmio_read)(void *intc, uint32_t off);
	void (*mmio_write)(void *intc, uint32_t off, uint32_t v);
	void (*init)(void *intc);		/* INIT: reset the chip as INIT does */
};

struct vcpu {
	struct machine *m;
	unsigned id;			/* index and APIC ID */
	_Atomic uint32_t events;
	_Atomic uint8_t sipi_vector;
	_Atomic uint8_t nmis;		/* NMIs that VCPU_EV_NMI stands for: one to take, one latched behind it */
	_Atomic bool halted;		/* in HLT or waiting for SIPI: for statistics and yield decisions */
	_Atomic bool absent;		/* not plugged in: no message reaches it. Set with the machine lock held */
	_Atomic bool parked;		/* absent, and its thread has left the engine until it is plugged in. Set by vm */
	const struct vcpu_intc_ops *intc;
	void *intc_opaque;
	void (*kick)(struct vcpu *);	/* set by the engine; makes the thread look at events */
	pthread_t thread;
	bool has_thread;
	/* TSC of this vCPU for the LAPIC's deadline timer; set by the engine.
	 * tsc = clock_now * tsc_khz / 10^6 (+ offset) in one step. */
	uint64_t (*tsc_read)(struct vcpu *);
	/* Virtual ns (clock_now scale) at which tsc_read will reach v. */
	int64_t (*tsc_to_ns)(struct vcpu *, uint64_t v);
};

static inline void vcpu_raise(struct vcpu *v, uint32_t ev)
{
	uint32_t old = atomic_fetch_or(&v->events, ev);

	if ((old & ev) != ev && v->kick)
		v->kick(v);
}

/* An NMI arrives.  Two that come while the thread is busy are two, as with a CPU
 * that takes the first one at once; the engine forgets the second if the first
 * one's handler still runs. */
static inline void vcpu_raise_nmi(struct vcpu *v)
{
	uint8_t n = atomic_load(&v->nmis);

	while (n < 2 && !atomic_compare_exchange_weak(&v->nmis, &n, (uint8_t)(n + 1)))
		;
	vcpu_raise(v, VCPU_EV_NMI);
}

#endif
