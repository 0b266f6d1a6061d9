/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Registers for ACPI reduced hardware (the `micro` machine): a generic event
 * device (ACPI0013), the sleep control and status registers and a reset
 * register (ACPI 6.5, 4.8.3.7 and 5.6.9).
 *
 * Layout at `base`, MMIO, byte offsets:
 *   0  event status, 32 bits: pending events, reading clears all of them
 *   4  sleep control, 8 bits: SLP_TYP bits 4:2, SLP_EN bit 5
 *   5  sleep status, 8 bits: WAK_STS bit 7, write 1 to clear
 *   6  reset, 8 bits: ACPI_GED_RESET_VALUE resets the machine
 * The interrupt is a level that stays high until the status is read.
 */
#ifndef LODGE_CHIPSET_ACPI_GED_H
#define LODGE_CHIPSET_ACPI_GED_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

#define ACPI_GED_LEN 8
#define ACPI_GED_EVENT 0
#define ACPI_GED_SLEEP_CTL 4
#define ACPI_GED_SLEEP_STS 5
#define ACPI_GED_RESET 6
#define ACPI_GED_RESET_VALUE 0x42
#define ACPI_GED_SLP_S5 5	/* SLP_TYP of _S5 */

#define ACPI_GED_EV_POWER 0x1	/* power button */
#define ACPI_GED_EV_VMGENID 0x2	/* the VM generation ID has changed */
#define ACPI_GED_EV_CPU 0x4	/* a CPU has come, or should go (acpi_cpuhp.h) */

struct machine;
struct acpi_ged;

struct acpi_ged_config {
	uint64_t base;
	struct irq irq;
};

int acpi_ged_new(struct machine *m, const struct acpi_ged_config *cfg, struct acpi_ged **out);

/* false: the guest has never read the event register, so nobody listens. */
bool acpi_ged_power_button(struct acpi_ged *g);
/* Raises any other ACPI_GED_EV_* bits. */
void acpi_ged_raise(struct acpi_ged *g, uint32_t events);

#endif
