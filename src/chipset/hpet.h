/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * IA-PC HPET 1.0a: one 64-bit 100 MHz counter, three timers.
 *
 * Timers reach the I/O APIC pins of `route_cap`, or IRQ 0 and 8 with legacy
 * replacement, or memory (FSB) as messages.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_HPET_H
#define LODGE_CHIPSET_HPET_H

#include <stdint.h>

#include "machine/irq.h"

struct machine;
struct hpet;

struct hpet_config {
	uint64_t base;		/* MMIO, 1 KiB: 0xfed00000 */
	struct irq pin[24];	/* I/O APIC inputs */
	uint32_t route_cap;	/* which of them the timers may use */
	struct irq irq0, irq8;	/* legacy replacement outputs of timer 0 and 1 */
	struct irq mute[2];	/* high while legacy replacement is on: to i8254_mute, mc146818_mute */
};

int hpet_new(struct machine *m, const struct hpet_config *cfg, struct hpet **out);

#endif
