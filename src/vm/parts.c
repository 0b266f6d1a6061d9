// SPDX-License-Identifier: GPL-2.0-or-later
/* The small devices that a PC may have, put into the machine as the configuration asks. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "device/i6300esb.h"
#include "pci/pci.h"
#include "virtio/input.h"
#include "vm/internal.h"

static int add_watchdog(struct vm *vm, struct err *e)
{
	struct pci_bus *bus = platform_pci_bus(vm->platform);
	struct i6300esb *w;

	if (vm->cfg->watchdog == VM_WATCHDOG_OFF)
		return 0;
	return i6300esb_new(vm->m, bus, PCI_ANY_DEVFN, &w, e);
}

static int set_vmgenid(struct vm *vm, struct err *e)
{
	uint8_t uuid[16];

	if (!vm->cfg->vmgenid)
		return 0;
	memcpy(uuid, vm->cfg->vmgenid_uuid, sizeof(uuid));
	if (vm->cfg->vmgenid_auto) {
		if (getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
			return err_set(e, -errno, "--vmgenid: no random numbers: %s", strerror(errno));
		uuid[6] = (uuid[6] & 0x0f) | 0x40;	/* RFC 4122, version 4 */
		uuid[8] = (uuid[8] & 0x3f) | 0x80;
	}
	platform_set_vmgenid(vm->platform, uuid);
	return 0;
}

static int add_inputs(struct vm *vm, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < VM_MAX_INPUTS && !ret; i++) {
		enum vm_input kind = vm->cfg->input[i];
		struct virtio_dev *dev;
		char id[32];

		if (kind == VM_INPUT_NONE)
			continue;
		snprintf(id, sizeof(id), "input%u", i);
		ret = virtio_input_new(vm->m, id, (enum virtio_input_kind)(kind - VM_INPUT_VIRTIO_KEYBOARD), vm->input, &dev, e);
		if (!ret)
			ret = platform_add_virtio(vm->platform, dev, e);
	}
	return ret;
}

int vm_add_parts(struct vm *vm, struct err *e)
{
	int ret = set_vmgenid(vm, e);

	if (!ret)
		ret = add_inputs(vm, e);

	return ret ? ret : add_watchdog(vm, e);
}
