/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Motorola MC146818 real-time clock with 256 bytes of CMOS memory.
 *
 * Shows clock_wall_ns (UTC) plus what the guest set.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_MC146818_H
#define LODGE_CHIPSET_MC146818_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

struct machine;
struct mc146818;

struct mc146818_config {
	uint16_t base;		/* 4 ports: 0x70 (index, data, and the upper bank's) */
	struct irq irq;		/* IRQ 8 */
	struct irq nmi_mask;	/* output: index bit 7, high = NMI masked; may be empty */
	int64_t offset_sec;	/* the time it shows at first, ahead of UTC */
};

int mc146818_new(struct machine *m, const struct mc146818_config *cfg, struct mc146818 **out);

/* Input: high takes the chip off its wire (HPET legacy replacement). */
struct irq mc146818_mute(struct mc146818 *r);

/* Output: high while an alarm's interrupt waits, on the wire or off it: a chipset has its ACPI event from there. */
void mc146818_on_alarm(struct mc146818 *r, const struct irq *out);

/* A CMOS byte set by the builder, kept over reset; index 0x0e..0xff except the
 * century (0x32), which the clock owns. */
void mc146818_set(struct mc146818 *r, uint8_t index, uint8_t val);
uint8_t mc146818_get(const struct mc146818 *r, uint8_t index);

/* The fields a PC BIOS leaves there: base, extended and high memory.  below_4g
 * and above_4g: bytes of RAM on either side of 4 GiB. */
void mc146818_set_memory(struct mc146818 *r, uint64_t below_4g, uint64_t above_4g);

#endif
