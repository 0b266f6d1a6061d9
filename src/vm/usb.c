// SPDX-License-Identifier: GPL-2.0-or-later
/* The USB controller and what types and points on it; disks on USB are in disk.c. */
#include <errno.h>
#include <stdio.h>

#include "device/xhci.h"
#include "usb/hid.h"
#include "vm/internal.h"

int vm_usb_controller(struct vm *vm, struct err *e)
{
	if (vm->xhci)
		return 0;
	if (vm->built)
		return err_set(e, -ENOENT, "there is no USB controller: start the guest with a USB device, or --usb absent");
	return xhci_new(vm->m, platform_pci_bus(vm->platform), PCI_ANY_DEVFN, &vm->xhci, e);
}

/* Machine lock held. */
int vm_add_usb_device(struct vm *vm, unsigned i, struct err *e)
{
	static const char *const names[] = { "kbd", "mouse", "tablet" };
	enum vm_usb kind = vm->cfg->usb[i];
	unsigned port = vm->cfg->usb_port[i];
	struct usb_device *dev;
	char id[32];
	int ret;

	if (kind == VM_USB_NONE)
		return 0;
	vm->m->rank = VM_RANK_USB + i;
	ret = vm_usb_controller(vm, e);
	if (ret || kind == VM_USB_ABSENT)
		return ret;
	snprintf(id, sizeof(id), "usb.%s%u", names[kind], i);
	ret = usb_hid_new(vm->m, vm->input, (enum usb_hid_kind)kind, id, &dev, e);
	if (ret)
		return ret;
	ret = xhci_plug(vm->xhci, dev, &port, e);
	if (ret)
		dev->dev.ops->free(&dev->dev);
	else
		vm->usb[i] = dev;
	return ret;
}

void vm_remove_usb_device(struct vm *vm, unsigned i)
{
	vm->usb[i]->dev.ops->free(&vm->usb[i]->dev);
	vm->usb[i] = NULL;
}

int vm_add_usb(struct vm *vm, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_usb && !ret; i++)
		ret = vm_add_usb_device(vm, i, e);
	return ret ? err_prefix(e, ret, "--usb") : 0;
}
