/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables of both machines, as one block of bytes for a given address.
 * A pure function of its configuration: tests need no machine.
 */
#ifndef LODGE_PLATFORM_X86_ACPI_ACPI_H
#define LODGE_PLATFORM_X86_ACPI_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/x86/acpi/aml.h"

struct acpi_config {
	bool reduced;			/* micro: reduced hardware */
	unsigned n_vcpus;
	unsigned serial;		/* bit n: COM(n+1) exists */
	uint64_t pci64_base, pci64_size;/* pc; size 0: none */
	unsigned n_mmio;		/* micro: virtio-mmio slots in use */
};

/*
 * Builds RSDP, XSDT, FADT, FACS, DSDT, MADT, and for pc MCFG, HPET, WAET, to
 * be put at guest-physical address base (64-byte aligned, below 4 GiB).  The
 * RSDP is the first thing.  0, or -ENOMEM; the caller frees *out with aml_free.
 */
int acpi_build(const struct acpi_config *c, uint64_t base, struct aml *out);

/* dsdt.c: the definition block's AML, without table header. */
void acpi_dsdt(const struct acpi_config *c, struct aml *a);

#endif
