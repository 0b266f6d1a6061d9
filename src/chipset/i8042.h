/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel 8042 keyboard controller with an MF2 keyboard and a PS/2 wheel mouse.
 *
 * Reset pulse (command 0xfe) asks the machine for a reset.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_I8042_H
#define LODGE_CHIPSET_I8042_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

struct input;
struct machine;
struct i8042;

struct i8042_config {
	uint16_t data, command;	/* ports: 0x60, 0x64 */
	struct irq kbd, aux;	/* IRQ 1, IRQ 12 */
	struct irq a20;		/* output port bit 1 */
	bool no_aux;		/* no mouse port */
};

int i8042_new(struct machine *m, const struct i8042_config *cfg, struct i8042 **out);

/* Keys and motions come from there; input must outlive the chip. */
void i8042_attach(struct i8042 *k, struct input *in);

/* A key of the keyboard, as its scan set 2 code; e0: with the E0 prefix (0x77 with it is Pause,
 * which has a sequence of its own).  Dropped when the guest disabled scanning; false: its
 * buffer is full. */
bool i8042_key(struct i8042 *k, uint8_t set2, bool e0, bool down);
/* Relative motion (y up), wheel, buttons (bit 0 left, 1 right, 2 middle). */
void i8042_mouse(struct i8042 *k, int dx, int dy, int dz, unsigned buttons);

#endif
