// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The definition block: what an OS cannot find out by itself.
 *
 * pc: PCI root bridge with its windows and interrupt routing, ISA devices,
 * HPET, motherboard resources, S5.  micro: virtio-mmio devices, generic event
 * device, power button, S5.  Both: processors, pvpanic, serial ports.
 */
#include <stdio.h>

#include "base/bits.h"
#include "chipset/acpi_cpuhp.h"
#include "chipset/acpi_ged.h"
#include "chipset/acpi_pcihp.h"
#include "chipset/acpi_pm.h"
#include "chipset/tpm_crb.h"
#include "chipset/tpm_tis.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/layout.h"

#define REGION_MEM 0
#define REGION_IO 1
#define FIELD_DWORD 3

static void sleep_state(struct aml *a, const char *name, unsigned type)
{
	size_t pkg;

	aml_name(a, name);
	pkg = aml_package(a, 4);
	aml_int(a, type);
	aml_int(a, type);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a, pkg);
}

/* An ISA-style device: one or two port ranges and an interrupt. */
struct isa_dev {
	const char *name, *hid;
	unsigned uid;
	uint16_t port[2];
	uint8_t len[2];
	int irq;		/* -1: none */
};

static void isa_device(const struct acpi_config *c, struct aml *a, const struct isa_dev *d)
{
	size_t dev = aml_device(a, d->name), crs;

	aml_name_eisaid(a, "_HID", d->hid);
	aml_name_int(a, "_UID", d->uid);
	aml_name_int(a, "_STA", 0xf);
	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	for (int i = 0; i < 2; i++)
		if (d->len[i])
			aml_crs_io(a, d->port[i], d->len[i]);
	if (d->irq >= 0 && c->reduced)
		aml_crs_interrupt(a, (uint32_t)d->irq, false, true);
	else if (d->irq >= 0)
		aml_crs_irq(a, (unsigned)d->irq);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

static void serial(const struct acpi_config *c, struct aml *a)
{
	static const struct isa_dev com[4] = {
		{ "COM1", "PNP0501", 1, { LAYOUT_PORT_COM1 }, { 8 }, LAYOUT_GSI_COM1 },
		{ "COM2", "PNP0501", 2, { LAYOUT_PORT_COM2 }, { 8 }, LAYOUT_GSI_COM2 },
		{ "COM3", "PNP0501", 3, { LAYOUT_PORT_COM3 }, { 8 }, LAYOUT_GSI_COM1 },
		{ "COM4", "PNP0501", 4, { LAYOUT_PORT_COM4 }, { 8 }, LAYOUT_GSI_COM2 },
	};

	for (unsigned i = 0; i < 4; i++)
		if (c->serial & 1u << i)
			isa_device(c, a, &com[i]);
}

static void rtc(const struct acpi_config *c, struct aml *a)
{
	static const struct isa_dev d = { "RTC", "PNP0B00", 0, { LAYOUT_PORT_RTC }, { 4 }, LAYOUT_GSI_RTC };

	isa_device(c, a, &d);
}

static void pvpanic(struct aml *a)
{
	size_t dev = aml_device(a, "PEVT"), mark;

	aml_name_str(a, "_HID", "QEMU0001");
	aml_name_int(a, "_STA", 0xf);
	aml_name(a, "_CRS");
	mark = aml_crs_begin(a);
	aml_crs_io(a, LAYOUT_PORT_PVPANIC, 1);
	aml_crs_end(a, mark);
	aml_end(a, dev);
}

/* Microsoft's "Virtual Machine Generation ID": where it is. */
static void vmgenid(struct aml *a)
{
	size_t dev = aml_device(a, "VGEN"), pkg;

	aml_name_str(a, "_HID", "QEMUVGID");
	aml_name_str(a, "_CID", "VM_Gen_Counter");
	aml_name_str(a, "_DDN", "VM_Gen_Counter");
	aml_name_int(a, "_STA", 0xf);
	aml_name(a, "ADDR");
	pkg = aml_package(a, 2);
	aml_int(a, LAYOUT_VMGENID);
	aml_int(a, 0);
	aml_end(a, pkg);
	aml_end(a, dev);
}

static void vmgenid_changed(struct aml *a)
{
	aml_op(a, AML_NOTIFY);
	aml_path(a, "\\_SB.VGEN");
	aml_int(a, 0x80);
}

/* --- pc --- */

static void prt_entry(struct aml *a, unsigned slot, unsigned pin, unsigned gsi)
{
	size_t pkg = aml_package(a, 4);

	aml_int(a, slot << 16 | 0xffff);
	aml_int(a, pin);
	aml_int(a, 0);
	aml_int(a, gsi);
	aml_end(a, pkg);
}

/* The PIRQ of a slot's pin is (slot + pin) & 3, but for the chipset's own. */
static void prt(const struct acpi_config *c, struct aml *a, const char *name, bool apic)
{
	size_t pkg;

	aml_name(a, name);
	pkg = aml_package(a, 32 * 4);
	for (unsigned slot = 0; slot < 32; slot++)
		for (unsigned pin = 0; pin < 4; pin++) {
			unsigned pirq = ((slot < LAYOUT_PCI_CHIPSET_SLOT ? slot : 0) + pin) & 3;

			prt_entry(a, slot, pin, apic ? LAYOUT_GSI_PCI + pirq : c->pic_irq[pirq]);
		}
	aml_end(a, pkg);
}

/* \_PIC tells the mode the OS uses: 1 = I/O APIC. */
static void pic_mode(struct aml *a)
{
	size_t m;

	aml_name_int(a, "\\PICF", 0);
	m = aml_method(a, "\\_PIC", 1, false);
	aml_op(a, AML_STORE);
	aml_op(a, AML_ARG(0));
	aml_path(a, "\\PICF");
	aml_end(a, m);
}

static void pci_routing(const struct acpi_config *c, struct aml *a)
{
	size_t m, i;

	prt(c, a, "PRTA", true);
	prt(c, a, "PRTP", false);
	m = aml_method(a, "_PRT", 0, false);
	i = aml_if(a);
	aml_path(a, "\\PICF");
	aml_op(a, AML_RETURN);
	aml_path(a, "PRTA");
	aml_end(a, i);
	aml_op(a, AML_RETURN);
	aml_path(a, "PRTP");
	aml_end(a, m);
}

/* CreateDWordField (Arg3, off, name) */
static void create_dword(struct aml *a, unsigned off, const char *name)
{
	aml_op(a, AML_CREATE_DWORD);
	aml_op(a, AML_ARG(3));
	aml_int(a, off);
	aml_path(a, name);
}

/* PCI host bridge _OSC (PCI Firmware 3.3, 4.5.1): the OS gets native hot-plug,
 * PME, AER and the capability structure; an unknown UUID is refused. */
static void pci_osc(struct aml *a)
{
	static const uint8_t uuid[16] = { 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40,
					  0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66 };
	size_t m = aml_method(a, "_OSC", 4, true), i;

	create_dword(a, 0, "CDW1");
	i = aml_if(a);
	aml_op(a, AML_LEQUAL);
	aml_op(a, AML_ARG(0));
	aml_buffer(a, uuid, sizeof(uuid));
	create_dword(a, 8, "CDW3");
	aml_op(a, AML_AND);
	aml_path(a, "CDW3");
	aml_int(a, 0x1f);
	aml_path(a, "CDW3");
	aml_end(a, i);
	i = aml_else(a);
	aml_op(a, AML_OR);
	aml_path(a, "CDW1");
	aml_int(a, 4);
	aml_path(a, "CDW1");
	aml_end(a, i);
	aml_op(a, AML_RETURN);
	aml_op(a, AML_ARG(3));
	aml_end(a, m);
}

static void pci_windows(const struct acpi_config *c, struct aml *a)
{
	size_t crs;

	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	aml_crs_bus(a, 0, (uint16_t)(c->ecam_buses - 1));
	aml_crs_io(a, 0xcf8, 8);
	aml_crs_window_io(a, 0, 0xcf7);
	aml_crs_window_io(a, 0xd00, 0xffff);
	aml_crs_window_mem32(a, 0xa0000, 0xbffff);
	for (unsigned i = 0; i < ARRAY_LEN(c->pci32); i++)
		if (c->pci32[i].size)
			aml_crs_window_mem32(a, c->pci32[i].base, c->pci32[i].base + (c->pci32[i].size - 1));
	if (c->pci64_size)
		aml_crs_window_mem64(a, c->pci64_base, c->pci64_base + c->pci64_size - 1);
	aml_crs_end(a, crs);
}

static void legacy(const struct acpi_config *c, struct aml *a)
{
	static const struct isa_dev dev[] = {
		{ "PIC", "PNP0000", 0, { 0x20, 0xa0 }, { 2, 2 }, 2 },
		{ "TIMR", "PNP0100", 0, { 0x40, 0x61 }, { 4, 1 }, LAYOUT_GSI_PIT },
		{ "KBD", "PNP0303", 0, { 0x60, 0x64 }, { 1, 1 }, LAYOUT_GSI_KBD },
		{ "MOU", "PNP0F13", 0, { 0 }, { 0 }, LAYOUT_GSI_MOUSE },
	};

	for (unsigned i = 0; i < sizeof(dev) / sizeof(dev[0]); i++)
		isa_device(c, a, &dev[i]);
}

/* ACPI 6.5, 9.9.2: a drive, as INT 13h, AH = 8 and the diskette parameter table of its largest medium have it. */
static void floppy_drive(struct aml *a, unsigned n, const struct acpi_floppy *f)
{
	const uint64_t info[16] = {
		n, f->kind, f->cylinders - 1u, f->sectors, f->heads - 1u,
		0xaf, 0x02, 0x25, 2, f->sectors, 0x1b, 0xff, 0x6c, 0xf6, 0x0f, 8,
	};
	size_t dev, pkg;
	char name[] = "FLPA";

	name[3] = (char)('A' + n);
	dev = aml_device(a, name);
	aml_name_int(a, "_ADR", n);
	aml_name(a, "_FDI");
	pkg = aml_package(a, 16);
	for (unsigned i = 0; i < 16; i++)
		aml_int(a, info[i]);
	aml_end(a, pkg);
	aml_end(a, dev);
}

/* 9.9.1: which drives there are, and that nothing is known of a tape. */
static void floppy(const struct acpi_config *c, struct aml *a)
{
	uint8_t fde[20] = { 0 };
	size_t dev, crs;

	if (!c->floppy[0].kind && !c->floppy[1].kind)
		return;
	dev = aml_device(a, "FDC0");
	aml_name_eisaid(a, "_HID", "PNP0700");
	aml_name_int(a, "_STA", 0xf);
	for (unsigned n = 0; n < 2; n++)
		fde[4 * n] = c->floppy[n].kind != 0;
	fde[16] = 2;
	aml_name(a, "_FDE");
	aml_buffer(a, fde, sizeof(fde));
	for (unsigned n = 0; n < 2; n++)
		if (c->floppy[n].kind)
			floppy_drive(a, n, &c->floppy[n]);
	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	aml_crs_io(a, LAYOUT_PORT_FLOPPY + 2, 4);
	aml_crs_io(a, LAYOUT_PORT_FLOPPY + 7, 1);
	aml_crs_irq(a, LAYOUT_GSI_FLOPPY);
	aml_crs_dma(a, LAYOUT_DMA_FLOPPY);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

static void pci_root(const struct acpi_config *c, struct aml *a)
{
	size_t dev = aml_device(a, "PCI0");

	aml_name_eisaid(a, "_HID", "PNP0A08");
	aml_name_eisaid(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	pci_windows(c, a);
	pci_osc(a);
	pci_routing(c, a);
	legacy(c, a);
	floppy(c, a);
	rtc(c, a);
	serial(c, a);
	pvpanic(a);
	acpi_slots(c, a);
	aml_end(a, dev);
}

static void hpet(struct aml *a)
{
	size_t dev = aml_device(a, "HPET"), crs;

	aml_name_eisaid(a, "_HID", "PNP0103");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_STA", 0xf);
	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	aml_crs_mem32(a, LAYOUT_HPET, 0x400);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

/* What belongs to no device: ECAM (it must be claimed here), PM and reset ports. */
static void motherboard(const struct acpi_config *c, struct aml *a)
{
	size_t dev = aml_device(a, "MRES"), crs;

	aml_name_eisaid(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 0);
	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	if (c->ecam_base && c->ecam_base >> 32 == 0)
		aml_crs_mem32(a, (uint32_t)c->ecam_base, c->ecam_buses << 20);
	aml_crs_io(a, LAYOUT_PORT_PM, 0x40);
	aml_crs_io(a, LAYOUT_PORT_SMI, 1);
	if (c->cpu_hotplug)
		aml_crs_io(a, LAYOUT_PORT_CPUHP, ACPI_CPUHP_LEN);
	if (c->pci_hotplug)
		aml_crs_io(a, LAYOUT_PORT_PCIHP, ACPI_PCIHP_LEN);
	aml_crs_io(a, 0x92, 1);
	aml_crs_io(a, 0x4d0, 2);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

static void tpm(const struct acpi_config *c, struct aml *a)
{
	size_t dev = aml_device(a, "TPM"), crs;

	aml_name_str(a, "_HID", "MSFT0101");
	aml_name_int(a, "_UID", 1);
	aml_name_int(a, "_STA", 0xf);
	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	aml_crs_mem32(a, LAYOUT_TPM, c->tpm == ACPI_TPM_CRB ? TPM_CRB_SIZE : TPM_TIS_SIZE);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

/* A method of the name is run when the event's status bit is set by an edge. */
static void gpe_events(const struct acpi_config *c, struct aml *a)
{
	size_t gpe = aml_scope(a, "\\_GPE"), m;

	if (c->pci_hotplug) {
		m = aml_method(a, "_E01", 0, false);
		_Static_assert(LAYOUT_GPE_PCIHP == 1, "the event's method is named _E01");
		acpi_slots_scan(a);
		aml_end(a, m);
	}
	if (c->cpu_hotplug) {
		m = aml_method(a, "_E02", 0, false);
		_Static_assert(LAYOUT_GPE_CPUHP == 2, "the event's method is named _E02");
		acpi_cpus_scan(a);
		aml_end(a, m);
	}
	if (c->vmgenid) {
		m = aml_method(a, "_E05", 0, false);
		_Static_assert(LAYOUT_GPE_VMGENID == 5, "the event's method is named _E05");
		vmgenid_changed(a);
		aml_end(a, m);
	}
	aml_end(a, gpe);
}

static void dsdt_pc(const struct acpi_config *c, struct aml *a)
{
	size_t sb;

	pic_mode(a);
	sleep_state(a, "\\_S5", ACPI_PM_SLP_S5);
	sb = aml_scope(a, "\\_SB");
	acpi_cpus(c, a);
	pci_root(c, a);
	hpet(a);
	motherboard(c, a);
	if (c->tpm)
		tpm(c, a);
	if (c->vmgenid)
		vmgenid(a);
	aml_end(a, sb);
	gpe_events(c, a);
}

/* --- micro --- */

static void virtio_mmio(struct aml *a, unsigned slot)
{
	char name[12];
	size_t dev, crs;

	snprintf(name, sizeof(name), "VR%02X", slot);
	dev = aml_device(a, name);
	aml_name_str(a, "_HID", "LNRO0005");
	aml_name_int(a, "_UID", slot);
	aml_name_int(a, "_CCA", 1);
	aml_name(a, "_CRS");
	crs = aml_crs_begin(a);
	aml_crs_mem32(a, (uint32_t)micro_slot_base(slot), 0x200);
	aml_crs_interrupt(a, micro_slot_gsi(slot), true, true);
	aml_crs_end(a, crs);
	aml_end(a, dev);
}

/* Generic event device (ACPI 6.5, 5.6.9): reading the events clears them. */
static void event_device(const struct acpi_config *c, struct aml *a)
{
	size_t dev = aml_device(a, "GED"), m, i;

	aml_name_str(a, "_HID", "ACPI0013");
	aml_name_int(a, "_UID", 0);
	aml_name(a, "_CRS");
	m = aml_crs_begin(a);
	aml_crs_interrupt(a, LAYOUT_GSI_SCI, true, false);
	aml_crs_end(a, m);
	aml_region(a, "EREG", REGION_MEM, LAYOUT_GED + ACPI_GED_EVENT, 4);
	m = aml_field(a, "EREG", FIELD_DWORD);
	aml_field_unit(a, "ESEL", 32);
	aml_end(a, m);
	m = aml_method(a, "_EVT", 1, true);
	aml_op(a, AML_STORE);
	aml_path(a, "ESEL");
	aml_op(a, AML_LOCAL0);
	i = aml_if(a);
	aml_op(a, AML_AND);
	aml_op(a, AML_LOCAL0);
	aml_int(a, ACPI_GED_EV_POWER);
	aml_op(a, 0);		/* no target */
	aml_op(a, AML_NOTIFY);
	aml_path(a, "\\_SB.PWRB");
	aml_int(a, 0x80);
	aml_end(a, i);
	if (c->vmgenid) {
		i = aml_if(a);
		aml_op(a, AML_AND);
		aml_op(a, AML_LOCAL0);
		aml_int(a, ACPI_GED_EV_VMGENID);
		aml_op(a, 0);
		vmgenid_changed(a);
		aml_end(a, i);
	}
	if (c->cpu_hotplug) {
		i = aml_if(a);
		aml_op(a, AML_AND);
		aml_op(a, AML_LOCAL0);
		aml_int(a, ACPI_GED_EV_CPU);
		aml_op(a, 0);
		acpi_cpus_scan(a);
		aml_end(a, i);
	}
	aml_end(a, m);
	aml_end(a, dev);
}

static void power_button(struct aml *a)
{
	size_t dev = aml_device(a, "PWRB");

	aml_name_eisaid(a, "_HID", "PNP0C0C");
	aml_name_int(a, "_UID", 0);
	aml_end(a, dev);
}

static void dsdt_micro(const struct acpi_config *c, struct aml *a)
{
	size_t sb;

	sleep_state(a, "\\_S5", ACPI_GED_SLP_S5);
	sb = aml_scope(a, "\\_SB");
	acpi_cpus(c, a);
	power_button(a);
	event_device(c, a);
	if (c->vmgenid)
		vmgenid(a);
	for (unsigned i = 0; i < c->n_mmio; i++)
		virtio_mmio(a, i);
	rtc(c, a);
	serial(c, a);
	pvpanic(a);
	aml_end(a, sb);
}

void acpi_dsdt(const struct acpi_config *c, struct aml *a)
{
	if (c->reduced)
		dsdt_micro(c, a);
	else
		dsdt_pc(c, a);
}
