/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CPUs that come and go: the register block by which ACPI's methods hear of them (the
 * "CPU hotplug interface" of QEMU's docs/specs/acpi_cpu_hotplug, which Linux, Windows
 * and OVMF know; only the modern one).
 *
 * Layout at `port`, ACPI_CPUHP_LEN bytes, little endian; byte offsets:
 *   0  write, 4 bytes: the CPU that all else is about.  Read, 4 bytes: upper half of command data
 *   4  read, 1 byte: bit 0 it is there, 1 it has come, 2 it should go, 4 firmware should eject it
 *      write, 1 byte: bits 1 and 2 clear those, 3 ejects it, 4 hands ejecting over to firmware
 *   5  write, 1 byte: command: 0 selects the next CPU that has come or should go, 1 and 2 make
 *      command data _OST's event and status, 3 the CPU's APIC ID
 *   8  read, write, 4 bytes: command data
 * With a selector that is no CPU reads are 0 and writes but to the selector have no effect.
 *
 * The first CPU is always there.  All functions: machine lock held.
 */
#ifndef LODGE_CHIPSET_ACPI_CPUHP_H
#define LODGE_CHIPSET_ACPI_CPUHP_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/irq.h"

#define ACPI_CPUHP_LEN 12

/* Bits of the byte at offset 4. */
#define ACPI_CPUHP_THERE 0x01
#define ACPI_CPUHP_INSERT 0x02
#define ACPI_CPUHP_REMOVE 0x04
#define ACPI_CPUHP_EJECT 0x08
#define ACPI_CPUHP_FIRMWARE 0x10
/* Commands. */
#define ACPI_CPUHP_NEXT 0
#define ACPI_CPUHP_OST_EVENT 1
#define ACPI_CPUHP_OST_STATUS 2
#define ACPI_CPUHP_APIC_ID 3

struct machine;
struct acpi_cpuhp;

struct acpi_cpuhp_config {
	uint16_t port;
	unsigned n;		/* CPUs there may be, up to 64; their APIC IDs are their numbers */
	uint64_t present;	/* a bit for each that is there */
	struct irq event;	/* pulsed when the guest should look: an edge sets a GPE's status */
	/* The guest has ejected this CPU, which is not there any more: what still runs on it comes to an end soon. Any thread. */
	void (*ejected)(void *opaque, unsigned id);
	/* Saved state was loaded: other CPUs may be there. */
	void (*loaded)(void *opaque);
	void *opaque;
};

/* What _OST said of a CPU last (ACPI 6.5, 6.3.5). */
struct acpi_cpuhp_ost {
	uint32_t event, status;
};

/* EINVAL: no such number of CPUs, or the first one is missing; ENOMEM */
int acpi_cpuhp_new(struct machine *m, const struct acpi_cpuhp_config *cfg, struct acpi_cpuhp **out);

/* A bit for each CPU that is there, and for each that was asked for and not given up yet, nor refused. */
uint64_t acpi_cpuhp_present(const struct acpi_cpuhp *h);
uint64_t acpi_cpuhp_asked(const struct acpi_cpuhp *h);
struct acpi_cpuhp_ost acpi_cpuhp_ost(const struct acpi_cpuhp *h, unsigned id);

/* A CPU has come, and the guest is told. EINVAL, EEXIST */
int acpi_cpuhp_insert(struct acpi_cpuhp *h, unsigned id);
/* The guest is asked to give it up; asked again, it is told again. EINVAL: it is not there, or the first one */
int acpi_cpuhp_ask(struct acpi_cpuhp *h, unsigned id);
/* Takes it out without asking: the machine is about to be reset.  cfg.ejected is called. EINVAL */
int acpi_cpuhp_remove(struct acpi_cpuhp *h, unsigned id);

#endif
