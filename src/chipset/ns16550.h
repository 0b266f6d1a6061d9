/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * National NS16550A UART in front of a chardev.
 *
 * Output goes to the chardev at once, whatever the baud rate; what it does not
 * take keeps the transmitter busy.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_NS16550_H
#define LODGE_CHIPSET_NS16550_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

struct chardev;
struct machine;
struct ns16550;

struct ns16550_config {
	const char *id;		/* device id, e.g. "com1" */
	uint64_t base;		/* 8 registers: 0x3f8, 0x2f8, 0x3e8, 0x2e8 */
	bool mmio;		/* on the MMIO bus instead, one byte a register */
	struct irq irq;
	struct chardev *chr;	/* attached here, stays the caller's; NULL: nothing connected */
	bool output_only;	/* chr is another front end's: written to, what it does not take is lost */
};

int ns16550_new(struct machine *m, const struct ns16550_config *cfg, struct ns16550 **out);

#endif
