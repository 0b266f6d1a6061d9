// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Puts the firmware tables into the shadow area, where an OS without a boot
 * loader's hint finds them too (ACPI 6.5, 5.2.5.1; SMBIOS 3.6, 5.2).
 */
#include <errno.h>

#include "platform/x86/acpi/acpi.h"
#include "platform/x86/priv.h"
#include "platform/x86/smbios.h"

static int write_acpi(struct platform *p, struct err *e)
{
	struct acpi_config c = {
		.reduced = !p->kind->legacy,
		.n_vcpus = p->cfg.n_vcpus,
		.pci64_base = p->pci64_base,
		.pci64_size = p->pci64_size,
		.n_mmio = p->n_mmio,
	};
	struct aml a;
	int r;

	for (unsigned i = 0; i < PLATFORM_MAX_SERIAL; i++)
		if (p->cfg.serial[i])
			c.serial |= 1u << i;
	r = acpi_build(&c, LAYOUT_ACPI, &a);
	if (r < 0)
		return err_set(e, r, "out of memory for the ACPI tables");
	if (a.len > LAYOUT_ACPI_SIZE)
		r = err_set(e, -E2BIG, "the ACPI tables of this many devices do not fit");
	else
		r = mem_write(p->m->mem, LAYOUT_ACPI, a.buf, a.len);
	aml_free(&a);
	return r;
}

static int write_smbios(struct platform *p, struct err *e)
{
	const struct smbios_config c = {
		.machine = p->kind->name,
		.name = p->cfg.name,
		.uuid = p->cfg.uuid,
		.n_vcpus = p->cfg.n_vcpus,
		.mem_low = e820_low_size(p->cfg.mem_size),
		.mem_high = e820_high_size(p->cfg.mem_size),
	};
	struct aml a;
	int r = smbios_build(&c, LAYOUT_SMBIOS, &a);

	if (r < 0)
		return err_set(e, r, "out of memory for the SMBIOS tables");
	if (a.len > LAYOUT_SMBIOS_SIZE)
		r = err_set(e, -E2BIG, "the SMBIOS tables do not fit");
	else
		r = mem_write(p->m->mem, LAYOUT_SMBIOS, a.buf, a.len);
	aml_free(&a);
	return r;
}

int tables_write(struct platform *p, uint64_t *rsdp, struct err *e)
{
	int r = write_acpi(p, e);

	*rsdp = LAYOUT_ACPI;
	return r < 0 ? r : write_smbios(p, e);
}
