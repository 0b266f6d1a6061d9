/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * isa-debug-exit: a write of v ends the machine with status (v << 1) | 1
 * (MACHINE_REQ_DEBUG_EXIT).
 */
#ifndef LODGE_CHIPSET_DEBUG_EXIT_H
#define LODGE_CHIPSET_DEBUG_EXIT_H

#include <stdint.h>

struct machine;

/* port 0xf4 or 0x501; size 1..4 ports, usually 4. */
int debug_exit_new(struct machine *m, uint16_t port, unsigned size);

#endif
