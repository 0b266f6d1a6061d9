/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI fixed hardware: PM1a event and control, PM timer, GPE0, SMI command
 * port, and the reset control register (ACPI 6.5, 4.8).
 *
 * Registers are at ports of the platform's choice, so that the FADT can name
 * them.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_ACPI_PM_H
#define LODGE_CHIPSET_ACPI_PM_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

#define ACPI_PM_GPE_LEN 16	/* bytes of GPE0: 8 status, 8 enable: 64 events */

/* SLP_TYP values; the DSDT's _S5 and _S3 packages say the same. */
#define ACPI_PM_SLP_S5 0	/* soft off */
#define ACPI_PM_SLP_S3 1	/* suspend to RAM */

/* What the guest writes to the SMI command port; in the FADT. */
#define ACPI_PM_ENABLE 0xf1
#define ACPI_PM_DISABLE 0xf0

struct machine;
struct acpi_pm;

struct acpi_pm_config {
	uint16_t pm1a_evt;	/* 4 bytes */
	uint16_t pm1a_cnt;	/* 2 bytes */
	uint16_t pm_tmr;	/* 4 bytes, the counter is 32 bits wide */
	uint16_t gpe0;		/* ACPI_PM_GPE_LEN bytes; 0: none */
	uint16_t smi_cmd;	/* 2 bytes: 0xb2 and a scratch byte; 0: none and ACPI mode is always on */
	uint16_t reset;		/* 1 byte, reset control: 0xcf9; 0: none */
	struct irq sci;		/* level */
};

int acpi_pm_new(struct machine *m, const struct acpi_pm_config *cfg, struct acpi_pm **out);

/* The user pressed the power button.  false: the guest does not listen (the
 * event is not enabled), nobody will react. */
bool acpi_pm_power_button(struct acpi_pm *p);

/* GPE 0..63 as an edge input: a rising level sets the status bit. */
struct irq acpi_pm_gpe(struct acpi_pm *p, int n);

/* The clock's alarm as an edge input: a rising level sets RTC_STS (4.8.3.1.1; the FADT says that it is there). */
struct irq acpi_pm_rtc(struct acpi_pm *p);

/* The guest asked for S3 and the host wakes it: sets WAK_STS. */
void acpi_pm_wake(struct acpi_pm *p);

#endif
