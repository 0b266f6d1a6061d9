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

/* Other cards are put elsewhere. */
static void keep_slots(const struct vm *vm)
{
	uint32_t slots = vm->cfg->kept_slots;

	for (unsigned i = 0; i < vm->cfg->n_disks; i++)
		slots |= vm->cfg->disk[i].slot ? BIT(vm->cfg->disk[i].slot) : 0;
	for (unsigned i = 0; i < vm->cfg->n_nets; i++)
		slots |= vm->cfg->net[i].slot ? BIT(vm->cfg->net[i].slot) : 0;
	if (slots)
		pci_bus_keep(vm_pci_root(vm), slots);
}

int vm_add_root_ports(struct vm *vm, struct err *e)
{
	struct pci_bus *root = platform_pci_bus(vm->platform);
	int ret = 0;

	keep_slots(vm);
	for (unsigned i = 0; i < vm->cfg->n_root_ports && !ret; i++) {
		const struct vm_root_port *c = &vm->cfg->root_port[i];
		const struct pci_root_port_opts o = { .slot = c->slot, .ejected = vm_slot_ejected, .opaque = vm };

		ret = pci_root_port_new(vm->m, root, PCI_DEVFN(FIRST_SLOT - i / 8, i % 8), &o, &vm->root_port[i], e);
	}
	return ret ? err_prefix(e, ret, "--root-port") : 0;
}

void vm_slots_config(struct vm *vm, struct platform_config *p)
{
	p->pci_hotplug = vm->cfg->pci_hotplug;
	p->slot_ejected = vm_root_slot_ejected;
	p->slot_opaque = vm;
	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++)
		if (vm->cfg->root_port[i].slot < 32)
			p->root_port_numbers |= BIT(vm->cfg->root_port[i].slot);
}

int vm_find_root_port(const struct vm *vm, const char *id)
{
	for (unsigned i = 0; i < vm->cfg->n_root_ports; i++)
		if (!strcmp(vm->cfg->root_port[i].id, id))
			return (int)i;
	return -ENOENT;
}

bool vm_is_root_bus(const char *name) { return !strcmp(name, "pcie.0") || !strcmp(name, "pci.0"); }

int vm_card_bus(const struct vm *vm, const char *name, struct pci_bus **out, struct err *e)
{
	int i;

	*out = platform_pci_bus(vm->platform);
	if (!name || vm_is_root_bus(name))
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
	unsigned slot = d->bus == vm_pci_root(vm) && !(d->devfn & 7) ? d->devfn >> 3 : 0;
	const char *bus = NULL;

	for (unsigned i = 0; slot && i < vm->cfg->n_disks; i++)
		if (vm->cfg->disk[i].slot == slot)
			return vm->cfg->disk[i].id;
	for (unsigned i = 0; slot && i < vm->cfg->n_nets; i++)
		if (vm->net_card[i] == d)
			return vm->cfg->net[i].id;
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

int vm_add_card(struct vm *vm, struct virtio_dev *d, const char *name, unsigned slot, struct err *e)
{
	struct pci_bus *bus;
	int ret = vm_card_bus(vm, name, &bus, e);

	if (!ret)
		return platform_add_virtio_on(vm->platform, d, bus, slot ? PCI_DEVFN((int)slot, 0) : PCI_ANY_DEVFN, e);
	d->ops->free(d);
	return ret;
}

struct pci_dev *vm_card_in(const struct vm *vm, const char *bus, unsigned slot)
{
	int i = bus && !vm_is_root_bus(bus) ? vm_find_root_port(vm, bus) : -ENOENT;

	if (i >= 0)
		return pci_bus_dev(pci_root_port_bus(vm->root_port[i]), 0);
	return slot ? platform_slot_card(vm->platform, slot) : NULL;
}

void vm_free_card(struct vm *vm, const char *bus, unsigned slot)
{
	struct pci_dev *d = vm_card_in(vm, bus, slot);

	if (d)
		d->dev.ops->free(&d->dev);
}
