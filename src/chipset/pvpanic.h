/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pvpanic, the ISA port by which a guest tells that it panicked.
 *
 * Bit 0: panicked, bit 1: a crash kernel takes over, bit 2: the guest shut down
 * by way of the panic device.
 */
#ifndef LODGE_CHIPSET_PVPANIC_H
#define LODGE_CHIPSET_PVPANIC_H

#include <stdint.h>

#define PVPANIC_PANICKED 0x1
#define PVPANIC_CRASH_LOADED 0x2
#define PVPANIC_SHUTDOWN 0x4

struct machine;

/* port 0x505 */
int pvpanic_new(struct machine *m, uint16_t port);

#endif
