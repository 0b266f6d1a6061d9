// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The `micro` machine: virtio-mmio devices, an I/O APIC, a real-time clock, a
 * generic event device, and serial ports.  No PCI, no 8259, no PIT:
 * the ACPI tables say "reduced hardware", the OS takes its time from the local
 * APIC and the TSC or the paravirtual clock.
 */
#include <errno.h>

#include "chipset/acpi_ged.h"
#include "chipset/mc146818.h"
#include "chipset/pvpanic.h"
#include "platform/x86/priv.h"

static int micro_build(struct platform *p, struct err *e)
{
	struct mc146818_config rtc = { .base = LAYOUT_PORT_RTC, .irq = gsi_wire(p, LAYOUT_GSI_RTC), .offset_sec = p->cfg.rtc_offset };
	struct acpi_ged_config ged = { .base = LAYOUT_GED, .irq = gsi_wire(p, LAYOUT_GSI_SCI) };
	int r = mc146818_new(p->m, &rtc, &p->rtc);

	if (r == 0)
		r = acpi_ged_new(p->m, &ged, &p->ged);
	if (r == 0)
		r = pvpanic_new(p->m, LAYOUT_PORT_PVPANIC);
	if (r < 0)
		return err_set(e, r, "out of memory for the machine's devices");
	mc146818_set_memory(p->rtc, e820_low_size(p->cfg.mem_size), e820_high_size(p->cfg.mem_size));
	return 0;
}

static int micro_add_virtio(struct platform *p, struct virtio_dev *d, struct pci_bus *bus, int devfn, struct err *e)
{
	struct irq wire;
	int r;

	if (p->n_mmio == LAYOUT_VIRTIO_MMIO_SLOTS)
		return err_set(e, -ENOSPC, "machine micro has room for %u devices", LAYOUT_VIRTIO_MMIO_SLOTS);
	wire = gsi_share(p, micro_slot_gsi(p->n_mmio));
	r = virtio_mmio_new(p->m, micro_slot_base(p->n_mmio), &wire, d, e);
	if (r == 0)
		p->n_mmio++;
	return r;
}

static void micro_power_button(struct platform *p)
{
	acpi_ged_power_button(p->ged);
}

const struct platform_kind_ops platform_micro = {
	.name = "micro",
	.build = micro_build,
	.add_virtio = micro_add_virtio,
	.power_button = micro_power_button,
};
