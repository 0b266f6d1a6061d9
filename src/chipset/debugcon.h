/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Debug console: a port whose bytes go to a chardev; reading gives `readback`
 * (0xe9 tells firmware that somebody listens).
 */
#ifndef LODGE_CHIPSET_DEBUGCON_H
#define LODGE_CHIPSET_DEBUGCON_H

#include <stdint.h>

struct chardev;
struct machine;

/* port 0xe9 or 0x402.  chr stays the caller's and may be NULL. */
int debugcon_new(struct machine *m, uint16_t port, uint8_t readback, struct chardev *chr);

#endif
