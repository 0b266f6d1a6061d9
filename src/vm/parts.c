// SPDX-License-Identifier: GPL-2.0-or-later
/* The small devices that a PC may have, put into the machine as the configuration asks. */
#include "device/i6300esb.h"
#include "pci/pci.h"
#include "vm/internal.h"

static int add_watchdog(struct vm *vm, struct err *e)
{
	struct pci_bus *bus = platform_pci_bus(vm->platform);
	struct i6300esb *w;

	if (vm->cfg->watchdog == VM_WATCHDOG_OFF)
		return 0;
	return i6300esb_new(vm->m, bus, PCI_ANY_DEVFN, &w, e);
}

int vm_add_parts(struct vm *vm, struct err *e)
{
	return add_watchdog(vm, e);
}
