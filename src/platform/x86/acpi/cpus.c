// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Processors in the definition block (ACPI 6.5, 8.4), and what lets them come and go:
 * a container with the register block of chipset/acpi_cpuhp.h, one method for each thing
 * that is done with it, and for each processor the objects that call those (6.3).
 *
 * The registers are one selector and what it selects, so a mutex is held around each use.
 */
#include <stdio.h>

#include "base/bits.h"
#include "chipset/acpi_cpuhp.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/layout.h"

#define REGION_IO 1
#define FIELD_BYTE 1
#define FIELD_DWORD 3
#define DEVICE_CHECK 1
#define EJECT_REQUEST 3

void acpi_cpu_entry(struct aml *a, unsigned id, uint32_t flags)
{
	if (id < 255) {
		aml_num(a, 0x0800, 2);
		aml_num(a, id, 1);
		aml_num(a, id, 1);
		aml_num(a, flags, 4);
		return;
	}
	aml_num(a, 0x1009, 2);		/* local x2APIC */
	aml_num(a, 0, 2);
	aml_num(a, id, 4);
	aml_num(a, flags, 4);
	aml_num(a, id, 4);
}

static void name_of(unsigned id, char name[12])
{
	snprintf(name, 12, "C%03X", id);
}

static void identity(const struct acpi_config *c, struct aml *a, unsigned id)
{
	aml_name_str(a, "_HID", "ACPI0007");
	aml_name_int(a, "_UID", id);
	if (c->numa.n_nodes)
		aml_name_int(a, "_PXM", c->numa.cpu_node[id]);
}

static void plain_cpus(const struct acpi_config *c, struct aml *a)
{
	char name[12];
	size_t dev;

	for (unsigned i = 0; i < c->n_vcpus; i++) {
		name_of(i, name);
		dev = aml_device(a, name);
		identity(c, a, i);
		aml_end(a, dev);
	}
}

/* ---- the registers ---- */

static void registers(struct aml *a)
{
	size_t f;

	aml_mutex(a, "CLCK");
	aml_region(a, "CREG", REGION_IO, LAYOUT_PORT_CPUHP, ACPI_CPUHP_LEN);
	f = aml_field(a, "CREG", FIELD_DWORD);
	aml_field_unit(a, "CSEL", 32);
	aml_field_unit(a, NULL, 32);
	aml_field_unit(a, "CDAT", 32);
	aml_end(a, f);
	f = aml_field(a, "CREG", FIELD_BYTE);
	aml_field_unit(a, NULL, 32);
	aml_field_unit(a, "CFLG", 8);
	aml_field_unit(a, "CCMD", 8);
	aml_end(a, f);
}

/* Store (value, name), where value is an opcode of one byte or a number. */
static void store_op(struct aml *a, uint8_t op, const char *name)
{
	aml_op(a, AML_STORE);
	aml_op(a, op);
	aml_path(a, name);
}

static void store_int(struct aml *a, uint64_t v, const char *name)
{
	aml_op(a, AML_STORE);
	aml_int(a, v);
	aml_path(a, name);
}

static void zero_local0(struct aml *a)
{
	aml_op(a, AML_STORE);
	aml_int(a, 0);
	aml_op(a, AML_LOCAL0);
}

static size_t if_flag(struct aml *a, unsigned bit)
{
	size_t i = aml_if(a);

	aml_op(a, AML_AND);
	aml_op(a, AML_LOCAL1);
	aml_int(a, bit);
	aml_op(a, 0);		/* no target */
	return i;
}

/* ---- methods for all ---- */

/* CSTA (cpu): what _STA says. */
static void status_method(struct aml *a)
{
	size_t m = aml_method(a, "CSTA", 1, true), i;

	aml_acquire(a, "CLCK");
	store_op(a, AML_ARG(0), "CSEL");
	zero_local0(a);
	aml_op(a, AML_STORE);
	aml_path(a, "CFLG");
	aml_op(a, AML_LOCAL1);
	i = if_flag(a, ACPI_CPUHP_THERE);
	aml_op(a, AML_STORE);
	aml_int(a, 0xf);
	aml_op(a, AML_LOCAL0);
	aml_end(a, i);
	aml_release(a, "CLCK");
	aml_op(a, AML_RETURN);
	aml_op(a, AML_LOCAL0);
	aml_end(a, m);
}

/* CEJ0 (cpu) */
static void eject_method(struct aml *a)
{
	size_t m = aml_method(a, "CEJ0", 1, true);

	aml_acquire(a, "CLCK");
	store_op(a, AML_ARG(0), "CSEL");
	store_int(a, ACPI_CPUHP_EJECT, "CFLG");
	aml_release(a, "CLCK");
	aml_end(a, m);
}

/* COST (cpu, event, status) */
static void ost_method(struct aml *a)
{
	size_t m = aml_method(a, "COST", 3, true);

	aml_acquire(a, "CLCK");
	store_op(a, AML_ARG(0), "CSEL");
	store_int(a, ACPI_CPUHP_OST_EVENT, "CCMD");
	store_op(a, AML_ARG(1), "CDAT");
	store_int(a, ACPI_CPUHP_OST_STATUS, "CCMD");
	store_op(a, AML_ARG(2), "CDAT");
	aml_release(a, "CLCK");
	aml_end(a, m);
}

/* CTFY (cpu, what): Notify takes no computed name. */
static void notify_method(const struct acpi_config *c, struct aml *a)
{
	size_t m = aml_method(a, "CTFY", 2, false), i;
	char name[12];

	for (unsigned n = 0; n < c->n_vcpus; n++) {
		i = aml_if(a);
		aml_op(a, AML_LEQUAL);
		aml_op(a, AML_ARG(0));
		aml_int(a, n);
		aml_op(a, AML_NOTIFY);
		name_of(n, name);
		aml_path(a, name);
		aml_op(a, AML_ARG(1));
		aml_end(a, i);
	}
	aml_end(a, m);
}

/* One kind of news of the CPU that is selected: told, taken off, and there may be more. */
static void tell(struct aml *a, unsigned bit, unsigned what)
{
	size_t i = if_flag(a, bit);

	aml_path(a, "CTFY");
	aml_path(a, "CDAT");
	aml_int(a, what);
	store_int(a, bit, "CFLG");
	aml_op(a, AML_STORE);
	aml_int(a, 1);
	aml_op(a, AML_LOCAL0);
	aml_end(a, i);
}

/* CSCN: until no CPU has news. */
static void scan_method(struct aml *a)
{
	size_t m = aml_method(a, "CSCN", 0, true), w;

	aml_acquire(a, "CLCK");
	store_int(a, 0, "CSEL");
	aml_op(a, AML_STORE);
	aml_int(a, 1);
	aml_op(a, AML_LOCAL0);
	w = aml_while(a);
	aml_op(a, AML_LOCAL0);
	zero_local0(a);
	store_int(a, ACPI_CPUHP_NEXT, "CCMD");
	aml_op(a, AML_STORE);
	aml_path(a, "CFLG");
	aml_op(a, AML_LOCAL1);
	tell(a, ACPI_CPUHP_INSERT, DEVICE_CHECK);
	tell(a, ACPI_CPUHP_REMOVE, EJECT_REQUEST);
	aml_end(a, w);
	aml_release(a, "CLCK");
	aml_end(a, m);
}

void acpi_cpus_scan(struct aml *a)
{
	aml_path(a, "\\_SB.CPUS.CSCN");
}

/* ---- one processor ---- */

/* What _MAT returns holds while the processor is there. */
static void mat(struct aml *a, unsigned id)
{
	struct aml entry = { 0 };

	acpi_cpu_entry(&entry, id, ACPI_CPU_ENABLED);
	aml_name(a, "_MAT");
	if (entry.failed)
		a->failed = true;
	else
		aml_buffer(a, entry.buf, entry.len);
	aml_free(&entry);
}

static void cpu(const struct acpi_config *c, struct aml *a, unsigned id)
{
	char name[12];
	size_t dev, m;

	name_of(id, name);
	dev = aml_device(a, name);
	identity(c, a, id);
	m = aml_method(a, "_STA", 0, true);
	aml_op(a, AML_RETURN);
	aml_path(a, "CSTA");
	aml_int(a, id);
	aml_end(a, m);
	mat(a, id);
	if (id) {	/* the boot processor stays */
		m = aml_method(a, "_EJ0", 1, false);
		aml_path(a, "CEJ0");
		aml_int(a, id);
		aml_end(a, m);
	}
	m = aml_method(a, "_OST", 3, true);
	aml_path(a, "COST");
	aml_int(a, id);
	aml_op(a, AML_ARG(0));
	aml_op(a, AML_ARG(1));
	aml_end(a, m);
	aml_end(a, dev);
}

void acpi_cpus(const struct acpi_config *c, struct aml *a)
{
	size_t dev;

	if (!c->cpu_hotplug) {
		plain_cpus(c, a);
		return;
	}
	dev = aml_device(a, "CPUS");
	aml_name_str(a, "_HID", "ACPI0010");	/* a container of processors */
	aml_name_eisaid(a, "_CID", "PNP0A05");
	registers(a);
	status_method(a);
	eject_method(a);
	ost_method(a);
	for (unsigned i = 0; i < c->n_vcpus; i++)
		cpu(c, a, i);
	notify_method(c, a);
	scan_method(a);
	aml_end(a, dev);
}
