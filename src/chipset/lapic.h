/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The local APICs of a machine: xAPIC and x2APIC, timer with TSC deadline.
 *
 * One object holds the chips of all vCPUs, because interrupts are addressed to
 * any of them.  A chip is used from its own vCPU's thread without the machine
 * lock (struct vcpu_intc_ops) and from any other thread that sends it an
 * interrupt; IRR, ISR and TMR are atomics.  Only the EOI of a level-triggered
 * vector and the acknowledge cycle of an external (8259) interrupt take the
 * machine lock.
 */
#ifndef LODGE_CHIPSET_LAPIC_H
#define LODGE_CHIPSET_LAPIC_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"
#include "machine/vcpu.h"

#define LAPIC_DEFAULT_BASE 0xfee00000ull

struct machine;
struct lapics;

struct lapics_config {
	unsigned n;		/* vCPUs; the one with id 0 is the boot processor */
	unsigned phys_bits;	/* physical address width: reserved bits of IA32_APIC_BASE; 0: 52 */
	bool no_x2apic;		/* CPUID says no x2APIC */
	bool no_tsc_deadline;	/* CPUID says no TSC deadline timer */
	/* Reset leaves the boot processor's chip as a BIOS would: enabled, LINT0
	 * ExtINT (virtual wire), LINT1 NMI.  For booting without firmware. */
	bool virtual_wire;
	/* The EOI broadcast to the I/O APIC; machine lock held. */
	void (*eoi)(void *opaque, uint8_t vector);
	void *eoi_opaque;
	/* Acknowledge cycle of the 8259 pair: a vector; machine lock held.
	 * NULL: no 8259. */
	uint8_t (*extint_ack)(void *opaque);
	void *extint_opaque;
};

int lapics_new(struct machine *m, const struct lapics_config *cfg, struct lapics **out);

/* Gives v (v->id < n) its chip: sets v->intc, v->intc_opaque.  Before v runs;
 * v must outlive the use of the lapics by other threads. */
void lapics_attach(struct lapics *l, struct vcpu *v);

/* The chip of vCPU id as it is after power-up, for one that was or will be plugged in.  Machine lock held; the vCPU does not run. */
void lapics_power_up(struct lapics *l, unsigned id);

/* For machine->msi with the lapics as opaque.  Any thread.  Decodes address and
 * data (SDM vol. 3, 11.11).  -ENXIO: no chip took it; -EINVAL: the address is
 * not in 0xfeexxxxx. */
int lapics_msi(void *lapics, const struct msi *msg);

/* Input: INTR of the 8259 pair, to LINT0 of every chip (virtual wire). */
struct irq lapics_extint(struct lapics *l);

/* Input: the NMI line, to LINT1 of every chip. */
struct irq lapics_nmi(struct lapics *l);

/* CPUID leaf 1 EDX.APIC follows bit 11 of the base MSR: false if chip id is
 * globally disabled. */
bool lapics_enabled(const struct lapics *l, unsigned id);

#endif
