/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 82093AA I/O APIC, 24 pins, with the EOI register of version 0x20.
 *
 * Interrupts leave as messages through machine_msi (the redirection entry in
 * MSI layout), so any local APIC implementation can receive them.  The
 * platform passes EOI broadcasts in.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_I82093AA_H
#define LODGE_CHIPSET_I82093AA_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

#define I82093AA_PINS 24

struct machine;
struct i82093aa;

struct i82093aa_config {
	uint64_t base;		/* MMIO, 4 KiB: 0xfec00000 */
	uint8_t id;		/* APIC ID after reset */
	/* Optional: told whenever a redirection entry changed (KVM's split
	 * irqchip keeps a route per pin to know which vectors need EOI exits). */
	void (*route)(void *opaque, unsigned pin, const struct msi *msg, bool masked);
	void *route_opaque;
};

int i82093aa_new(struct machine *m, const struct i82093aa_config *cfg, struct i82093aa **out);

/* Input pin 0..23. */
struct irq i82093aa_irq(struct i82093aa *a, int pin);

/* A local APIC broadcast the EOI of a level-triggered vector. */
void i82093aa_eoi(void *i82093aa, uint8_t vector);

#endif
