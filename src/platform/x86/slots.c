// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Slots of the root bus whose cards come and go: the registers by which the guest hears
 * of it, and what of the bus it sees.
 *
 * Those are the slots up to LAYOUT_PCI_HOT_LAST that are empty or that the bus keeps for
 * cards put there by number; any other card was there from the start and stays.  A card
 * that the guest has ejected is reset and hidden at once; whoever owns it frees it later.
 */
#include <errno.h>

#include "base/bits.h"
#include "chipset/acpi_pcihp.h"
#include "chipset/acpi_pm.h"
#include "pci/pci.h"
#include "platform/x86/priv.h"

#define CANDIDATES (BIT(LAYOUT_PCI_HOT_LAST + 1) - BIT(LAYOUT_PCI_HOT_FIRST))

uint32_t platform_slots(const struct platform *p)
{
	return p->pcihp ? CANDIDATES & (pci_bus_kept(p->pci) | ~pci_bus_used(p->pci)) : 0;
}

int platform_slot_free(const struct platform *p)
{
	uint32_t left = platform_slots(p) & ~pci_bus_used(p->pci);

	return left ? __builtin_ctz(left) : -ENOSPC;
}

struct pci_dev *platform_slot_card(const struct platform *p, unsigned slot)
{
	return p->pci && slot < 32 ? pci_bus_dev(p->pci, PCI_DEVFN(slot, 0)) : NULL;
}

void platform_slot_plugged(struct platform *p, unsigned slot) { acpi_pcihp_plugged(p->pcihp, slot); }
void platform_slot_ask(struct platform *p, unsigned slot) { acpi_pcihp_ask(p->pcihp, slot); }

void platform_slot_withdraw(struct platform *p, unsigned slot)
{
	struct pci_dev *d = platform_slot_card(p, slot);

	pci_bus_hide(p->pci, slot, true);
	if (d)
		d->dev.ops->reset(&d->dev);
}

void platform_slot_emptied(struct platform *p, unsigned slot)
{
	pci_bus_hide(p->pci, slot, false);
	acpi_pcihp_emptied(p->pcihp, slot);
}

static uint32_t slots(void *opaque) { return platform_slots(opaque); }

static void on_ejected(void *opaque, unsigned slot)
{
	struct platform *p = opaque;

	if (!platform_slot_card(p, slot))
		return;
	platform_slot_withdraw(p, slot);
	p->cfg.slot_ejected(p->cfg.slot_opaque, slot);
}

int slots_build(struct platform *p, struct err *e)
{
	const struct acpi_pcihp_config c = { .port = LAYOUT_PORT_PCIHP, .event = acpi_pm_gpe(p->pm, LAYOUT_GPE_PCIHP), .slots = slots,
					     .ejected = on_ejected, .opaque = p };
	int r = p->cfg.pci_hotplug ? acpi_pcihp_new(p->m, &c, &p->pcihp) : 0;

	return r < 0 ? err_set(e, r, "out of memory for PCI hot-plug") : 0;
}
