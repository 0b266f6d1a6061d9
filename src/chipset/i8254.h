/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8254 programmable interval timer with port 0x61 (gate and level of the
 * speaker's counter 2).  1193182 Hz of virtual time.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_I8254_H
#define LODGE_CHIPSET_I8254_H

#include <stdint.h>

#include "machine/irq.h"

struct machine;
struct i8254;

struct i8254_config {
	uint16_t base;		/* 4 ports: 0x40 */
	uint16_t port61;	/* system control port B: 0x61; 0: none */
	struct irq irq;		/* counter 0's output */
};

int i8254_new(struct machine *m, const struct i8254_config *cfg, struct i8254 **out);

/* Input: high takes counter 0 off its wire (HPET legacy replacement). */
struct irq i8254_mute(struct i8254 *t);

#endif
