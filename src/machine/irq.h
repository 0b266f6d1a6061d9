/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupt wires and messages.
 *
 * A wire is an input of some chip; a device holds a `struct irq` by value and
 * sets its level.  A wire without a chip swallows what it is given.  Machine
 * lock held.
 */
#ifndef LODGE_MACHINE_IRQ_H
#define LODGE_MACHINE_IRQ_H

#include <stdbool.h>
#include <stdint.h>

struct irq {
	void (*set)(void *opaque, int n, bool level);
	void *opaque;
	int n;
};

static inline void irq_set(const struct irq *w, bool level)
{
	if (w->set)
		w->set(w->opaque, w->n, level);
}
static inline void irq_pulse(const struct irq *w)
{
	irq_set(w, true);
	irq_set(w, false);
}

/* A message-signalled interrupt as the device writes it (PCI 3.0, 6.8; Intel
 * SDM vol. 3, 11.11). */
struct msi {
	uint64_t addr;
	uint32_t data;
};

/*
 * A level wire shared by several sources (PCI INTx): the output is high while
 * any source is.  Up to 64 sources.
 */
struct irq_or {
	struct irq out;
	uint64_t levels;
};
void irq_or_set(void *irq_or, int source, bool level);

#endif
