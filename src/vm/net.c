// SPDX-License-Identifier: GPL-2.0-or-later
/* Network cards of the configuration: back end, then the card of the model that was asked for. */
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "device/e1000e.h"
#include "virtio/net.h"
#include "vm/firmware.h"
#include "vm/hotplug.h"
#include "vm/internal.h"

int vm_net_open(struct vm *vm, const struct vm_net *n, struct net_backend **b, struct err *e)
{
	const struct net_user_opts user = {
		.fwd = n->fwd, .n_fwd = n->n_fwd, .restrict_ = n->restrict_, .tftp = n->tftp, .bootfile = n->bootfile,
		.tftp_server_name = n->tftp_server_name, .hostname = n->hostname, .domainname = n->domainname, .dnssearch = n->dnssearch,
		.net = n->net, .host = n->host, .dns = n->dns, .dhcpstart = n->dhcpstart,
	};
	int ret = n->kind == VM_NET_USER ? net_user_new(vm->m->loop, &user, b, e) : net_tap_new(vm->m->loop, n->ifname, n->queues, b, e);

	return ret ? err_prefix(e, ret, "--net") : 0;
}

static int add_virtio(struct vm *vm, unsigned i, const char *id, struct net_backend *b, struct err *e)
{
	const struct vm_net *n = &vm->cfg->net[i];
	struct virtio_dev *dev;
	int ret = virtio_net_new(vm->m, id, b, n->mac, &dev, e);

	if (ret)
		net_close(b);
	if (!ret)
		ret = vm_add_card(vm, dev, n->bus, n->slot, e);
	if (ret)
		return ret;
	vm->net[i] = dev;
	vm->net_card[i] = platform_last_card(vm->platform);
	vm->net_rom[i] = "virtio";
	return vm_bootable_virtio(vm, VM_BOOT_NET, n->bootindex, e);
}

static int add_e1000e(struct vm *vm, unsigned i, const char *id, struct net_backend *b, struct err *e)
{
	const struct vm_net *n = &vm->cfg->net[i];
	struct pci_bus *bus;
	char path[64];
	int ret = vm_card_bus(vm, n->bus, &bus, e);

	if (!ret)
		ret = e1000e_new(vm->m, bus, n->slot ? PCI_DEVFN((int)n->slot, 0) : PCI_ANY_DEVFN, id, b, n->mac, &vm->e1000e[i], e);
	if (ret) {
		net_close(b);
		return ret;
	}
	vm->net_card[i] = e1000e_pci(vm->e1000e[i]);
	vm->net_rom[i] = "e1000e";
	platform_card_path(vm->net_card[i], "ethernet", path, sizeof(path));
	snprintf(path + strlen(path), sizeof(path) - strlen(path), "/ethernet-phy@0");
	return vm_bootable(vm, VM_BOOT_NET, path, n->bootindex, e);
}

int vm_add_net(struct vm *vm, unsigned i, struct err *e)
{
	const struct vm_net *n = &vm->cfg->net[i];
	struct net_backend *b = NULL;
	char id[32];
	int ret;

	if (n->kind == VM_NET_NONE)
		return 0;
	vm->m->rank = VM_RANK_NETS + i;
	b = n->netdev ? vm_netdev_take(vm, n->netdev) : NULL;
	ret = b ? 0 : vm_net_open(vm, n, &b, e);
	snprintf(id, sizeof(id), "net%u", i);
	if (ret)
		return ret;
	return n->model == VM_NIC_E1000E ? add_e1000e(vm, i, id, b, e) : add_virtio(vm, i, id, b, e);
}

int vm_add_nets(struct vm *vm, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_nets && !ret; i++)
		ret = vm_add_net(vm, i, e);
	return ret;
}

void vm_remove_net(struct vm *vm, unsigned i)
{
	vm_free_card(vm, vm->cfg->net[i].bus, vm->cfg->net[i].slot);
	vm_netdev_leave(vm, i);
	vm->net[i] = NULL;
	vm->e1000e[i] = NULL;
	vm->net_card[i] = NULL;
	vm->net_rom[i] = NULL;
}

bool vm_net_set_link(struct vm *vm, unsigned i, bool up)
{
	if (i >= VM_MAX_NETS || (!vm->net[i] && !vm->e1000e[i]))
		return false;
	if (vm->net[i])
		virtio_net_set_link(vm->net[i], up);
	else
		e1000e_set_link(vm->e1000e[i], up);
	return true;
}

bool vm_net_stats(const struct vm *vm, unsigned i, struct virtio_net_stats *out)
{
	struct e1000e_stats s;

	if (vm->net[i]) {
		virtio_net_get_stats(vm->net[i], out);
		return true;
	}
	if (!vm->e1000e[i])
		return false;
	e1000e_get_stats(vm->e1000e[i], &s);
	*out = (struct virtio_net_stats){ s.rx_packets, s.rx_bytes, s.rx_dropped, s.tx_packets, s.tx_bytes, s.tx_dropped, s.tx_bad };
	return true;
}
