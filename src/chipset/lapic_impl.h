/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside of the local APICs, shared by lapic*.c only.
 *
 *   lapic.c         life cycle, base MSR, what the engine calls
 *   lapic_regs.c    the register file, through xAPIC page and x2APIC MSRs
 *   lapic_deliver.c acceptance, priorities, IPIs, messages, EOI, LINT pins
 *   lapic_timer.c   the timer
 *
 * Who touches what: registers are written by the chip's own vCPU thread (or
 * with that thread stopped: reset, load).  What other threads read or set
 * meanwhile is atomic: irr, tmr, the addressing registers, the LVTs and the
 * pending error bits.  `timer_lock` covers the timer; it is taken after the
 * machine lock where both are held.
 */
#ifndef LODGE_CHIPSET_LAPIC_IMPL_H
#define LODGE_CHIPSET_LAPIC_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/bits.h"
#include "chipset/lapic.h"
#include "machine/machine.h"

#define APIC_BASE_BSP BIT64(8)
#define APIC_BASE_EXTD BIT64(10)
#define APIC_BASE_EN BIT64(11)

/* Register numbers: MMIO offset / 16 = MSR - 0x800. */
enum {
	REG_ID = 0x02,
	REG_VERSION = 0x03,
	REG_TPR = 0x08,
	REG_APR = 0x09,
	REG_PPR = 0x0a,
	REG_EOI = 0x0b,
	REG_RRD = 0x0c,
	REG_LDR = 0x0d,
	REG_DFR = 0x0e,
	REG_SVR = 0x0f,
	REG_ISR = 0x10,
	REG_TMR = 0x18,
	REG_IRR = 0x20,
	REG_ESR = 0x28,
	REG_ICR = 0x30,
	REG_ICR_HI = 0x31,
	REG_LVT = 0x32,
	REG_TMICT = 0x38,
	REG_TMCCT = 0x39,
	REG_TDCR = 0x3e,
	REG_SELF_IPI = 0x3f,
};

/* LVT entries in register order from REG_LVT. */
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_REMOTE_IRR BIT(14)
#define LVT_LEVEL BIT(15)
#define LVT_MASKED BIT(16)
#define LVT_TIMER_MODE(lvt) (((lvt) >> 17) & 3)
enum { TIMER_ONESHOT, TIMER_PERIODIC, TIMER_DEADLINE };

#define SVR_ENABLE BIT(8)
#define SVR_NO_EOI_BROADCAST BIT(12)

#define ESR_SEND_ILLEGAL BIT(5)
#define ESR_RECV_ILLEGAL BIT(6)
#define ESR_ILLEGAL_REG BIT(7)

/* Delivery modes of ICR, LVT and messages (bits 10:8). */
enum { DM_FIXED, DM_LOWEST, DM_SMI, DM_RESERVED, DM_NMI, DM_INIT, DM_STARTUP, DM_EXTINT };

struct lapic {
	struct lapics *set;
	struct vcpu *v;		/* NULL until attached */
	uint32_t id;

	_Atomic uint64_t base;	/* IA32_APIC_BASE */
	_Atomic uint32_t irr[8], isr[8], tmr[8];
	_Atomic uint32_t xid;	/* ID register in xAPIC mode: `id` until the guest writes it */
	_Atomic uint32_t tpr, ldr, dfr, svr;
	_Atomic uint32_t lvt[LVT_COUNT];
	_Atomic uint32_t esr_pending;
	_Atomic uint8_t extint_msg;	/* an ExtINT message waits for its INTA cycle */
	uint32_t esr, icr, icr_hi;

	pthread_mutex_t timer_lock;
	struct vtimer timer;
	uint32_t tmict, tdcr;
	uint8_t running;	/* counting down (one-shot, periodic) or deadline set */
	int64_t start_ns;	/* when the current count began at tmict */
	uint64_t tsc_deadline;	/* 0: none */
	int64_t due_ns;		/* next expiry, valid while running */
};

struct lapics {
	struct dev dev;
	struct lapics_config cfg;
	unsigned n;
	_Atomic uint8_t intr;	/* level of the 8259's INTR */
	uint8_t nmi;		/* level of the NMI line */
	_Atomic unsigned rotate;/* breaks ties of lowest-priority arbitration */
	struct lapic chip[];
};

/* A message on the (virtual) APIC bus. */
struct apic_msg {
	uint32_t dest;
	bool broadcast;		/* every chip, whatever its ID */
	bool logical;
	uint8_t mode, vector;
	bool level;		/* trigger mode */
};

static inline bool lapic_x2apic(const struct lapic *l)
{
	return (atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_EXTD) != 0;
}
static inline bool lapic_hw_enabled(const struct lapic *l)
{
	return (atomic_load_explicit(&l->base, memory_order_relaxed) & APIC_BASE_EN) != 0;
}
static inline bool lapic_sw_enabled(const struct lapic *l)
{
	return (atomic_load_explicit(&l->svr, memory_order_relaxed) & SVR_ENABLE) != 0;
}

/* Is there a CPU behind it? */
static inline bool lapic_there(const struct lapic *l)
{
	return l->v && !atomic_load_explicit(&l->v->absent, memory_order_relaxed);
}

/* lapic_deliver.c */
uint8_t lapic_ppr(const struct lapic *l);
bool lapic_pending(void *lapic);
int lapic_ack(void *lapic);
void lapic_eoi(struct lapic *l);
void lapic_error(struct lapic *l, uint32_t bit);
bool lapic_accept(struct lapic *l, uint8_t vector, bool level);
void lapic_deliver_lvt(struct lapic *l, int entry);
unsigned lapics_send(struct lapics *s, const struct apic_msg *msg);
void lapic_write_icr(struct lapic *l, uint32_t low, uint32_t dest);
void lapic_self_ipi(struct lapic *l, uint8_t vector);
/* Something may have become deliverable by the chip's own doing. */
void lapic_recheck(struct lapic *l);

/* lapic_regs.c */
uint32_t lapic_mmio_read(void *lapic, uint32_t off);
void lapic_mmio_write(void *lapic, uint32_t off, uint32_t val);
int lapic_msr_read(void *lapic, uint32_t msr, uint64_t *val);
int lapic_msr_write(void *lapic, uint32_t msr, uint64_t val);

/* lapic_timer.c */
void lapic_timer_init(struct lapic *l);
void lapic_timer_fini(struct lapic *l);
void lapic_timer_stop(struct lapic *l);
void lapic_timer_set_count(struct lapic *l, uint32_t count);
uint32_t lapic_timer_count(struct lapic *l);
void lapic_timer_set_divider(struct lapic *l, uint32_t tdcr);
void lapic_timer_mode_changed(struct lapic *l, uint32_t old_lvt, uint32_t new_lvt);
void lapic_timer_set_deadline(struct lapic *l, uint64_t tsc);
uint64_t lapic_timer_deadline(struct lapic *l);
void lapic_timer_rearm(struct lapic *l);	/* after load or resume */

#endif
