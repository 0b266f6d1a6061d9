/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System control port A (0x92): fast A20 and fast reset.
 */
#ifndef LODGE_CHIPSET_PORT92_H
#define LODGE_CHIPSET_PORT92_H

#include <stdint.h>

#include "machine/irq.h"

struct machine;

/* a20: output, bit 1 (high = address line 20 passes). */
int port92_new(struct machine *m, uint16_t port, const struct irq *a20);

#endif
