// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Puts the firmware tables into the shadow area, where an OS without a boot
 * loader's hint finds them too (ACPI 6.5, 5.2.5.1; SMBIOS 3.6, 5.2).
 */
#include <errno.h>

#include "platform/x86/acpi/acpi.h"
#include "platform/x86/priv.h"
#include "platform/x86/smbios.h"

void tables_acpi_config(const struct platform *p, struct acpi_config *c)
{
	*c = (struct acpi_config){
		.reduced = !p->kind->legacy,
		.n_vcpus = p->cfg.n_vcpus,
		.cpu_hotplug = p->cpuhp != NULL,
		.cpus_absent = ~platform_cpus(p),
		.pci32 = { { LAYOUT_PCI32, LAYOUT_PCI32_SIZE } },
		.pci64_base = p->pci64_base,
		.pci64_size = p->pci64_size,
		.ecam_base = LAYOUT_ECAM,
		.ecam_buses = LAYOUT_ECAM_BUSES,
		.pic_irq = { LAYOUT_PIC_PCI_A, LAYOUT_PIC_PCI_B, LAYOUT_PIC_PCI_A, LAYOUT_PIC_PCI_B },
		.n_mmio = p->n_mmio,
		.tpm = !p->cfg.tpm ? ACPI_TPM_NONE : p->cfg.tpm_kind == PLATFORM_TPM_CRB ? ACPI_TPM_CRB : ACPI_TPM_TIS,
		.vmgenid = p->vmgenid != NULL,
		.pci_hotplug = p->pcihp != NULL,
		.slots = platform_slots(p),
		.root_port_numbers = p->cfg.root_port_numbers,
	};
	c->numa = p->cfg.numa;
	c->numa.memory = p->cfg.mem_size;
	memory_acpi_config(p, c);
	floppy_acpi_config(p, c);
	for (unsigned i = 0; i < PLATFORM_MAX_SERIAL; i++)
		if (p->cfg.serial[i])
			c->serial |= 1u << i;
}

static int write_acpi(struct platform *p, struct err *e)
{
	struct acpi_config c;
	struct aml a;
	int r;

	tables_acpi_config(p, &c);
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

int tables_smbios(const struct platform *p, uint64_t base, bool bios_told, struct aml *out)
{
	const struct x86_topology *t = &p->cfg.topology;
	const struct smbios_config c = {
		.machine = p->kind->name,
		.name = p->cfg.name,
		.uuid = p->cfg.uuid,
		.user = p->cfg.smbios,
		.sockets = t->sockets ? t->sockets : 1,
		.cores = t->sockets ? t->dies * t->cores : p->cfg.n_vcpus,
		.threads = t->sockets ? x86_per_socket(t) : p->cfg.n_vcpus,
		.mem_low = e820_low_size(p->cfg.mem_size),
		.mem_high = e820_high_size(p->cfg.mem_size),
		.no_bios = bios_told,
	};

	return smbios_build(&c, base, out);
}

static int write_smbios(struct platform *p, struct err *e)
{
	struct aml a;
	int r = tables_smbios(p, LAYOUT_SMBIOS, false, &a);

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
