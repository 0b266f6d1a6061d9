// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots of the root bus in the definition block (ACPI 6.5, 6.1.1, 6.1.11 and 6.3.3), in the scope of
 * the root bridge: for each a device that the guest can eject, and with the register block of
 * chipset/acpi_pcihp.h what tells the guest that a card has come or should go.
 *
 * The registers are about the bus that is selected, so a mutex is held around each use.
 */
#include <stdio.h>

#include "base/bits.h"
#include "chipset/acpi_pcihp.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/layout.h"

#define REGION_IO 1
#define FIELD_DWORD 3
#define DEVICE_CHECK 1
#define EJECT_REQUEST 3
#define OTHER_NUMBERS 100

static void name_of(unsigned slot, char name[12])
{
	snprintf(name, 12, "SL%02X", slot);
}

static void registers(struct aml *a)
{
	size_t f;

	aml_mutex(a, "PLCK");
	aml_region(a, "PREG", REGION_IO, LAYOUT_PORT_PCIHP, ACPI_PCIHP_LEN);
	f = aml_field(a, "PREG", FIELD_DWORD);
	aml_field_unit(a, "PCIU", 32);
	aml_field_unit(a, "PCID", 32);
	aml_field_unit(a, "PCEJ", 32);
	aml_field_unit(a, NULL, 32);
	aml_field_unit(a, "PSEL", 32);
	aml_end(a, f);
}

static void select_root(struct aml *a)
{
	aml_acquire(a, "PLCK");
	aml_op(a, AML_STORE);
	aml_int(a, 0);
	aml_path(a, "PSEL");
}

/* PEJ0 (mask) */
static void eject_method(struct aml *a)
{
	size_t m = aml_method(a, "PEJ0", 1, true);

	select_root(a);
	aml_op(a, AML_STORE);
	aml_op(a, AML_ARG(0));
	aml_path(a, "PCEJ");
	aml_release(a, "PLCK");
	aml_end(a, m);
}

/* The number that the guest shows: the slot's own, unless a root port shows that one. */
static unsigned number_of(const struct acpi_config *c, unsigned slot)
{
	return c->root_port_numbers >> slot & 1 ? slot + OTHER_NUMBERS : slot;
}

static void one(const struct acpi_config *c, struct aml *a, unsigned slot)
{
	char name[12];
	size_t dev, m;

	name_of(slot, name);
	dev = aml_device(a, name);
	aml_name_int(a, "_ADR", slot << 16);
	aml_name_int(a, "_SUN", number_of(c, slot));
	m = aml_method(a, "_EJ0", 1, false);
	aml_path(a, "PEJ0");
	aml_int(a, BIT(slot));
	aml_end(a, m);
	aml_end(a, dev);
}

/* PTFY (mask, what): Notify takes no computed name. */
static void notify_method(const struct acpi_config *c, struct aml *a)
{
	size_t m = aml_method(a, "PTFY", 2, false), i;
	char name[12];

	for (unsigned n = 0; n < ACPI_PCIHP_SLOTS; n++) {
		if (!(c->slots >> n & 1))
			continue;
		i = aml_if(a);
		aml_op(a, AML_AND);
		aml_op(a, AML_ARG(0));
		aml_int(a, BIT(n));
		aml_op(a, 0);		/* no target */
		aml_op(a, AML_NOTIFY);
		name_of(n, name);
		aml_path(a, name);
		aml_op(a, AML_ARG(1));
		aml_end(a, i);
	}
	aml_end(a, m);
}

static void load(struct aml *a, const char *from, uint8_t to)
{
	aml_op(a, AML_STORE);
	aml_path(a, from);
	aml_op(a, to);
}

static void tell(struct aml *a, uint8_t mask, unsigned what)
{
	aml_path(a, "PTFY");
	aml_op(a, mask);
	aml_int(a, what);
}

/* PSCN: what has come, then what should go. */
static void scan_method(struct aml *a)
{
	size_t m = aml_method(a, "PSCN", 0, true);

	select_root(a);
	load(a, "PCIU", AML_LOCAL0);
	load(a, "PCID", AML_LOCAL1);
	aml_release(a, "PLCK");
	tell(a, AML_LOCAL0, DEVICE_CHECK);
	tell(a, AML_LOCAL1, EJECT_REQUEST);
	aml_end(a, m);
}

void acpi_slots_scan(struct aml *a)
{
	aml_path(a, "\\_SB.PCI0.PSCN");
}

void acpi_slots(const struct acpi_config *c, struct aml *a)
{
	if (!c->pci_hotplug)
		return;
	registers(a);
	eject_method(a);
	for (unsigned i = 0; i < ACPI_PCIHP_SLOTS; i++)
		if (c->slots >> i & 1)
			one(c, a, i);
	notify_method(c, a);
	scan_method(a);
}
