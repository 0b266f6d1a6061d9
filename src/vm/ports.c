// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * PCI Express root ports: those that the configuration names and the free ones.
 *
 * They are functions of slots 24, 23 ... of the root bus, so that other cards lie
 * where they would lie without them.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "pci/root_port.h"
#include "vm/hotplug.h"
#include "vm/internal.h"

#define FIRST_SLOT 24

int vm_add_root_ports(struct vm *vm, struct err *e)
{
	struct pci_bus *root = platform_pci_bus(vm->platform);
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_root_ports && !ret; i++) {
		const struct vm_root_port *c = &vm->cfg->root_port[i];
		const struct pci_root_port_opts o = { .slot = c->slot, .ejected = vm_slot_ejected, .opaque = vm };

		ret = pci_root_port_new(vm->m, root, PCI_DEVFN(FIRST_SLOT - i / 8, i % 8), &o, &vm->root_port[i], e);
	}
	return ret ? err_prefix(e, ret, "--root-port") : 0;
}

int vm_find_root_port(const struct vm *vm, const char *id)
{
	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++)
		if (!strcmp(vm->cfg->root_port[i].id, id))
			return (int)i;
	return -ENOENT;
}

static bool is_root_bus(const char *name) { return !strcmp(name, "pcie.0") || !strcmp(name, "pci.0"); }

int vm_card_bus(const struct vm *vm, const char *name, struct pci_bus **out, struct err *e)
{
	int i;

	*out = platform_pci_bus(vm->platform);
	if (!name || is_root_bus(name))
		return 0;
	i = vm_find_root_port(vm, name);
	if (i < 0)
		return err_set(e, i, "Bus '%.60s' not found", name);
	*out = pci_root_port_bus(vm->root_port[i]);
	return 0;
}

struct pci_bus *vm_pci_root(const struct vm *vm) { return platform_pci_bus(vm->platform); }

const char *vm_pci_id(const struct vm *vm, const struct pci_dev *d)
{
	const char *bus = NULL;

	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++) {
		if (pci_root_port_function(vm->root_port[i]) == d)
			return vm->cfg->root_port[i].id;
		if (pci_root_port_bus(vm->root_port[i]) == d->bus)
			bus = vm->cfg->root_port[i].id;
	}
	for (unsigned i = 0; bus && i < vm->cfg->n_disks; i++)
		if (vm->cfg->disk[i].bus && !strcmp(vm->cfg->disk[i].bus, bus))
			return vm->cfg->disk[i].id;
	for (unsigned i = 0; bus && i < vm->cfg->n_nets; i++)
		if (vm->cfg->net[i].bus && !strcmp(vm->cfg->net[i].bus, bus))
			return vm->cfg->net[i].id;
	return NULL;
}

int vm_add_card(struct vm *vm, struct virtio_dev *d, const char *name, struct err *e)
{
	struct pci_bus *bus;
	int ret = vm_card_bus(vm, name, &bus, e);

	if (!ret)
		return platform_add_virtio_on(vm->platform, d, bus, e);
	d->ops->free(d);
	return ret;
}

void vm_free_card(struct vm *vm, const char *bus)
{
	int i = vm_find_root_port(vm, bus);
	struct pci_dev *d = i < 0 ? NULL : pci_bus_dev(pci_root_port_bus(vm->root_port[i]), 0);

	if (d)
		d->dev.ops->free(&d->dev);
}
