// SPDX-License-Identifier: GPL-2.0-or-later
/* The USB controller and what types and points on it; disks on USB are in disk.c. */
#include <stdio.h>

#include "device/xhci.h"
#include "usb/hid.h"
#include "vm/internal.h"

int vm_usb_controller(struct vm *vm, struct err *e)
{
	if (vm->xhci)
		return 0;
	return xhci_new(vm->m, platform_pci_bus(vm->platform), PCI_ANY_DEVFN, &vm->xhci, e);
}

/* Machine lock held. */
int vm_add_usb(struct vm *vm, struct err *e)
{
	static const char *const names[] = { "kbd", "mouse", "tablet" };
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_usb && !ret; i++) {
		enum vm_usb kind = vm->cfg->usb[i];
		struct usb_device *dev;
		unsigned port;
		char id[32];

		if (kind == VM_USB_NONE)
			continue;
		snprintf(id, sizeof(id), "usb.%s%u", names[kind], i);
		ret = vm_usb_controller(vm, e);
		if (!ret)
			ret = usb_hid_new(vm->m, vm->input, (enum usb_hid_kind)kind, id, &dev, e);
		if (!ret)
			ret = xhci_plug(vm->xhci, dev, &port, e);
	}
	return ret ? err_prefix(e, ret, "--usb") : 0;
}
