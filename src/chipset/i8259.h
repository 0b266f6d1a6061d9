/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8259A: the cascaded pair of a PC, with the ELCR.
 *
 * Inputs 0..7 belong to the master, 8..15 to the slave, whose output is wired
 * to the master's input 2.  The pair's output goes to LINT0 of the local APICs
 * (or to the engine's external interrupt line).  Machine lock held everywhere.
 */
#ifndef LODGE_CHIPSET_I8259_H
#define LODGE_CHIPSET_I8259_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

struct machine;
struct i8259;

struct i8259_config {
	uint16_t master, slave;	/* ports, 2 bytes each: 0x20, 0xa0 */
	uint16_t elcr;		/* port of the two edge/level registers: 0x4d0; 0: none */
	struct irq intr;	/* INTR output */
};

/* The machine owns the chip from here on (freed with its devices). */
int i8259_new(struct machine *m, const struct i8259_config *cfg, struct i8259 **out);

/* Input n, 0..15 (2 is the cascade: swallowed). */
struct irq i8259_irq(struct i8259 *p, int n);

/* Is INTR high? */
bool i8259_intr(const struct i8259 *p);

/* The two INTA cycles.  Always a vector: spurious ones are 7 of master or slave. */
uint8_t i8259_ack(struct i8259 *p);

#endif
