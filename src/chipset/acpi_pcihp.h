/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cards that come and go on a bus without slots of its own: the register block by which
 * ACPI's methods hear of them (the "PCI hotplug interface" of QEMU's
 * docs/specs/acpi_pci_hotplug).
 *
 * Layout at `port`, ACPI_PCIHP_LEN bytes, little endian, 4 bytes each, a bit for each slot:
 *   0x00  read: a card has come; reading it takes the news off
 *   0x04  read: the card should go; until it has
 *   0x08  write: ejects the cards of these slots.  Read: features, of which there are none
 *   0x0c  read: slots whose cards come and go
 *   0x10  the bus that all else is about; there is one, number 0
 *   0x14  read: 0 (QEMU: the index that a card was given)
 * With another bus selected reads are 0 and writes but to the selector have no effect.
 *
 * What is in a slot is not known here: whoever owns the bus is asked, and told.
 * All functions: machine lock held.
 */
#ifndef LODGE_CHIPSET_ACPI_PCIHP_H
#define LODGE_CHIPSET_ACPI_PCIHP_H

#include <stdint.h>

#include "machine/irq.h"

#define ACPI_PCIHP_LEN 0x18
#define ACPI_PCIHP_SLOTS 32

#define ACPI_PCIHP_UP 0x00
#define ACPI_PCIHP_DOWN 0x04
#define ACPI_PCIHP_EJECT 0x08
#define ACPI_PCIHP_REMOVABLE 0x0c
#define ACPI_PCIHP_BUS 0x10

struct machine;
struct acpi_pcihp;

struct acpi_pcihp_config {
	uint16_t port;
	struct irq event;	/* pulsed when the guest should look: an edge sets a GPE's status */
	/* Slots whose cards come and go, with or without one in them. */
	uint32_t (*slots)(void *opaque);
	/* The guest has ejected what is in one of those, asked or not, and whether or not there is anything.  Any thread. */
	void (*ejected)(void *opaque, unsigned slot);
	void *opaque;
};

int acpi_pcihp_new(struct machine *m, const struct acpi_pcihp_config *cfg, struct acpi_pcihp **out);

/* A card was put into this slot: the guest is told. */
void acpi_pcihp_plugged(struct acpi_pcihp *h, unsigned slot);
/* The guest is asked to give the card up; asked again, it is told again. */
void acpi_pcihp_ask(struct acpi_pcihp *h, unsigned slot);
/* There is nothing in this slot to be told of any more. */
void acpi_pcihp_emptied(struct acpi_pcihp *h, unsigned slot);

#endif
