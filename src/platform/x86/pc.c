// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The `pc` machine: a PCI Express root with the legacy parts of a PC around it.
 * One linear list of parts; every address and number comes from layout.h.
 */
#include <errno.h>

#include "base/bits.h"
#include "chipset/acpi_pm.h"
#include "chipset/debug_exit.h"
#include "chipset/fw_cfg.h"
#include "chipset/debugcon.h"
#include "chipset/hpet.h"
#include "chipset/i8042.h"
#include "chipset/i8237.h"
#include "chipset/i8254.h"
#include "chipset/mc146818.h"
#include "chipset/port92.h"
#include "chipset/pvpanic.h"
#include "chipset/test_dev.h"
#include "device/ich9_lpc.h"
#include "device/ich9_smbus.h"
#include "device/q35_mch.h"
#include "pci/pci.h"
#include "platform/x86/priv.h"

/* I/O APIC pins the HPET may use: those that nothing else is wired to. */
#define HPET_ROUTES 0x00f00000u

static int build_timers(struct platform *p)
{
	struct irq irq0 = gsi_share(p, LAYOUT_GSI_PIT), irq8 = gsi_share(p, LAYOUT_GSI_RTC);
	struct i8254_config pit = { .base = 0x40, .port61 = 0x61, .irq = irq0 };
	struct mc146818_config rtc = { .base = LAYOUT_PORT_RTC, .irq = irq8, .offset_sec = p->cfg.rtc_offset };
	struct hpet_config hpet = {
		.base = LAYOUT_HPET,
		.route_cap = HPET_ROUTES,
		.irq0 = gsi_share(p, LAYOUT_GSI_PIT),
		.irq8 = gsi_share(p, LAYOUT_GSI_RTC),
	};
	struct i8254 *t;
	struct hpet *h;
	int r = i8254_new(p->m, &pit, &t);

	if (r == 0)
		r = mc146818_new(p->m, &rtc, &p->rtc);
	if (r < 0)
		return r;
	mc146818_set_memory(p->rtc, e820_low_size(p->cfg.mem_size), e820_high_size(p->cfg.mem_size));
	hpet.mute[0] = i8254_mute(t);
	hpet.mute[1] = mc146818_mute(p->rtc);
	for (unsigned i = 0; i < LAYOUT_GSI_COUNT; i++)
		if (HPET_ROUTES >> i & 1)
			hpet.pin[i] = gsi_wire(p, i);
	return hpet_new(p->m, &hpet, &h);
}

static int build_keyboard(struct platform *p)
{
	struct i8042_config c = {
		.data = 0x60,
		.command = 0x64,
		.kbd = gsi_wire(p, LAYOUT_GSI_KBD),
		.aux = gsi_wire(p, LAYOUT_GSI_MOUSE),
	};
	const struct irq a20 = { 0 };	/* address line 20 always passes */
	struct i8042 *k;
	int r = i8042_new(p->m, &c, &k);

	if (r == 0 && p->cfg.input)
		i8042_attach(k, p->cfg.input);
	return r < 0 ? r : port92_new(p->m, 0x92, &a20);
}

static int build_pm(struct platform *p)
{
	struct acpi_pm_config c = {
		.pm1a_evt = LAYOUT_PORT_PM,
		.pm1a_cnt = LAYOUT_PORT_PM + 4,
		.pm_tmr = LAYOUT_PORT_PM + 8,
		.gpe0 = LAYOUT_PORT_PM + 0x20,
		.smi_cmd = LAYOUT_PORT_SMI,
		.reset = LAYOUT_PORT_RESET,
		.sci = gsi_wire(p, LAYOUT_GSI_SCI),
	};

	struct irq alarm;
	int r = acpi_pm_new(p->m, &c, &p->pm);

	if (r < 0)
		return r;
	/* With the HPET in the clock's place there is no other way for an alarm, and Linux has it that way (use_acpi_alarm). */
	alarm = acpi_pm_rtc(p->pm);
	mc146818_on_alarm(p->rtc, &alarm);
	return 0;
}

/* The 64-bit window is naturally aligned, a quarter of the address space at most. */
static void place_pci64(struct platform *p)
{
	uint64_t top = memory_top(p), size = BIT64(p->phys_bits - 2);

	while (size > LAYOUT_GIB && align_up(top, size) + size > BIT64(p->phys_bits))
		size /= 2;
	p->pci64_base = align_up(top, size);
	p->pci64_size = p->pci64_base + size <= BIT64(p->phys_bits) ? size : 0;
}

/* The chipset: a Q35 host bridge, and the LPC bridge and SMBus controller of an ICH9, by which firmware knows the machine. */
static int build_chipset(struct platform *p, struct err *e)
{
	const struct ich9_lpc_config lpc = {
		.devfn = LAYOUT_PCI_LPC, .pmbase = LAYOUT_PORT_PM, .routed = pirq_routed, .opaque = p,
	};
	int r = q35_mch_new(p->m, p->pci, &p->mch, e);

	if (r == 0)
		r = ich9_lpc_new(p->m, p->pci, &lpc, &p->lpc, e);
	return r < 0 ? r : ich9_smbus_new(p->m, p->pci, LAYOUT_PCI_SMBUS, e);
}

static int build_pci(struct platform *p, struct err *e)
{
	struct pci_root_config c = {
		.bridge = q35_mch_ids,
		.chipset_slot = LAYOUT_PCI_CHIPSET_SLOT,
		.cf8 = true,
		.mmio32_base = LAYOUT_PCI32,
		.mmio32_size = LAYOUT_PCI32_SIZE,
		.io_base = LAYOUT_PCI_IO,
		.io_size = LAYOUT_PCI_IO_SIZE,
	};

	int r;

	place_pci64(p);
	c.mmio64_base = p->pci64_base;
	c.mmio64_size = p->pci64_size;
	for (unsigned i = 0; i < 4; i++)
		c.intx[i] = pirq_wire(p, i);
	r = pci_root_new(p->m, &c, &p->pci, e);
	if (r == 0)
		r = build_chipset(p, e);
	return r < 0 ? r : slots_build(p, e);
}

static int build_debug(struct platform *p)
{
	struct test_dev_config c = { .ports = 0xe0, .irq_ports = 0x2000, .mmio = 0xff000000 };
	int r = 0;

	if (p->cfg.debugcon)
		r = debugcon_new(p->m, LAYOUT_PORT_DEBUGCON, 0xe9, p->cfg.debugcon);
	if (r == 0 && p->cfg.debugcon)
		r = debugcon_new(p->m, LAYOUT_PORT_FIRMWARE_LOG, 0xe9, p->cfg.debugcon);
	if (r < 0 || !p->cfg.debug_exit)
		return r;
	for (unsigned i = 0; i < TEST_DEV_IRQS; i++)
		c.irq[i] = gsi_wire(p, i);
	r = test_dev_new(p->m, &c);
	return r < 0 ? r : debug_exit_new(p->m, LAYOUT_PORT_DEBUG_EXIT, 4);
}

/* What firmware and test kernels ask for by number. */
static int build_fw_cfg(struct platform *p)
{
	int r = fw_cfg_new(p->m, LAYOUT_PORT_FW_CFG, &p->fw_cfg);
	struct fw_cfg *f = p->fw_cfg;

	if (r == 0)
		r = fw_cfg_set_int(f, FW_CFG_RAM_SIZE, p->cfg.mem_size, 8);
	if (r == 0)
		r = fw_cfg_set_int(f, FW_CFG_NB_CPUS, cpus_count(p), 2);
	if (r == 0)
		r = fw_cfg_set_int(f, FW_CFG_MAX_CPUS, p->cfg.n_vcpus, 2);
	if (r == 0)
		r = fw_cfg_set(f, FW_CFG_UUID, p->cfg.uuid, sizeof(p->cfg.uuid));
	return r;
}

static int pc_build(struct platform *p, struct err *e)
{
	int r = build_timers(p);

	if (r == 0)
		r = build_keyboard(p);
	if (r == 0)
		r = build_pm(p);
	if (r == 0)
		r = pvpanic_new(p->m, LAYOUT_PORT_PVPANIC);
	if (r == 0)
		r = build_debug(p);
	if (r == 0)
		r = build_fw_cfg(p);
	if (r < 0)
		return err_set(e, r, "out of memory for the machine's devices");
	return build_pci(p, e);
}

/* What firmware calls a device of this kind in a path; NULL: nothing to boot from. */
static const char *virtio_kind(unsigned id)
{
	return id == 2 || id == 8 ? "scsi" : id == 1 ? "ethernet" : NULL;
}

static int pc_add_virtio(struct platform *p, struct virtio_dev *d, struct pci_bus *bus, int devfn, struct err *e)
{
	int r;

	if (devfn == PCI_ANY_DEVFN)
		devfn = pci_free_slot(bus);
	p->last_kind = virtio_kind(d->ops->device_id);
	r = virtio_pci_new(p->m, bus, devfn, d, e);
	p->last_card = r == 0 ? pci_bus_dev(bus, (unsigned)devfn) : NULL;
	return r;
}

/* What firmware would have done, for a kernel that is started without. */
static void pc_init_without_firmware(struct platform *p)
{
	q35_mch_init(p->mch, LAYOUT_ECAM);
	ich9_lpc_init(p->lpc, LAYOUT_PIC_PCI_A, LAYOUT_PIC_PCI_B);
	if (p->dma)
		i8237_init(p->dma);
}

static void pc_power_button(struct platform *p)
{
	acpi_pm_power_button(p->pm);
}

const struct platform_kind_ops platform_pc = {
	.name = "pc",
	.build = pc_build,
	.add_virtio = pc_add_virtio,
	.power_button = pc_power_button,
	.init_without_firmware = pc_init_without_firmware,
	.legacy = true,
};
