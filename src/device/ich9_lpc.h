/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Intel ICH9 LPC bridge (82801IB, 8086:2918): what firmware and operating systems
 * ask of function 00:1f.0: which ISA interrupts PIRQ A to H go to, the chipset
 * configuration registers (RCBA), and registers that are kept and have no effect,
 * because what they move stays where it is (docs/QUIRKS.md).
 *
 * Machine lock held.
 */
#ifndef LODGE_DEVICE_ICH9_LPC_H
#define LODGE_DEVICE_ICH9_LPC_H

#include "pci/pci.h"

struct ich9_lpc;

struct ich9_lpc_config {
	unsigned devfn;			/* 00:1f.0 */
	uint16_t pmbase;		/* where the ACPI registers are */
	/* The routing has changed; ask ich9_lpc_route. */
	void (*routed)(void *opaque);
	void *opaque;
};

int ich9_lpc_new(struct machine *m, struct pci_bus *root, const struct ich9_lpc_config *cfg,
		 struct ich9_lpc **out, struct err *e);
/* The ISA interrupt PIRQ 0..7 (A..H) is routed to, or -1. */
int ich9_lpc_route(const struct ich9_lpc *l, unsigned pirq);
/* What firmware does: PIRQ A, C, E, G to irq_a, the others to irq_b, ACPI registers on. */
void ich9_lpc_init(struct ich9_lpc *l, uint8_t irq_a, uint8_t irq_b);

#endif
