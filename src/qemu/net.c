// SPDX-License-Identifier: GPL-2.0-or-later
/* Networks and their cards: -netdev with -device, -nic, and -net of old. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"
#include "vm/config.h"

int opt_netdev(struct qemu *q, const char *val, struct err *e)
{
	if (wants_help(q, "netdev", val))
		return -EAGAIN;
	return item_add(q, &q->netdevs, "-netdev", "type", val, e);
}

int opt_nic(struct qemu *q, const char *val, struct err *e)
{
	if (wants_help(q, "nic", val))
		return -EAGAIN;
	if (!strcmp(val, "none")) {
		q->no_net = true;
		return 0;
	}
	return item_add(q, &q->nics, "-nic", "type", val, e);
}

/* "nic" is a card, anything else a network; all of them are on one hub, so the cards get the networks in turn. */
int opt_net(struct qemu *q, const char *val, struct err *e)
{
	if (!strcmp(val, "none")) {
		q->no_net = true;
		return 0;
	}
	if (!strcmp(val, "nic") || !strncmp(val, "nic,", 4))
		return item_add(q, &q->nics, "-net nic", "type", val, e);
	return item_add(q, &q->netdevs, "-net", "type", val, e);
}

static int forward(struct qemu *q, const char *rule, struct err *e)
{
	char text[200];
	int ret = vm_fwd_of_qemu(rule, text, sizeof(text), e);

	if (!ret)
		emit_part(q, "fwd", keepf(q, "%s", text));
	return ret;
}

static int user_parts(struct qemu *q, struct props *p, struct err *e)
{
	static const char *const plain[] = { "tftp", "bootfile", "tftp-server-name", "hostname", "domainname", "dnssearch", "net", "host", "dns",
					     "dhcpstart", "ipv6" };
	static const char *const same[] = { "ipv4", "ipv6-net", "ipv6-host", "ipv6-dns", NULL };
	bool restricted = false;
	const char *v;
	int ret = props_bool(p, "restrict", &restricted, e);

	if (restricted)
		emit_part(q, "restrict", "on");
	for (unsigned i = 0; i < ARRAY_LEN(plain); i++)
		while ((v = props_take_one(p, plain[i])))
			emit_part(q, plain[i], v);
	while (!ret && (v = props_take_one(p, "hostfwd")))
		ret = forward(q, v, e);
	props_ignore(p, same);
	return ret;
}

static int tap_parts(struct qemu *q, struct props *p, struct err *e)
{
	static const char *const same[] = { "vhost", "vhostforce", "sndbuf", "vnet_hdr", "poll-us", NULL };
	const char *script = props_take(p, "script"), *down = props_take(p, "downscript");

	if (script && strcmp(script, "no"))
		return err_set(e, -ENOTSUP, "script=%.40s: scripts are not run; make the interface ready and say script=no", script);
	if (down && strcmp(down, "no"))
		return err_set(e, -ENOTSUP, "downscript=%.40s: scripts are not run; say downscript=no", down);
	emit_part(q, "if", props_take(p, "ifname"));
	emit_part(q, "queues", props_take(p, "queues"));
	props_ignore(p, same);
	return 0;
}

/* The network's part of --net. */
static int network(struct qemu *q, struct props *p, struct err *e)
{
	const char *type = props_take(p, "type");
	int ret;

	if (type && !strcmp(type, "user"))
		ret = (emit_part(q, NULL, "user"), user_parts(q, p, e));
	else if (type && !strcmp(type, "tap"))
		ret = (emit_part(q, NULL, "tap"), tap_parts(q, p, e));
	else
		ret = err_set(e, -ENOTSUP, "type '%.40s' is not supported; user and tap are", type ? type : "");
	return ret;
}

/* The card's part; p may have other things, too. */
static int card(struct qemu *q, struct props *p, const char *id, const char *model, struct err *e)
{
	static const char *const same[] = {
		"addr", "bus", "disable-legacy", "disable-modern", "packed", "ioeventfd", "event_idx", "indirect_desc", "iommu_platform", "ats",
		"rx_queue_size", "tx_queue_size", "vectors", "mq", "multifunction", "csum", "gso", "guest_csum", "guest_tso4", "guest_tso6", "guest_ecn",
		"guest_ufo", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf", "status", "ctrl_vq", "ctrl_rx", "ctrl_vlan",
		"ctrl_rx_extra", "ctrl_mac_addr", "ctrl_guest_offloads", "host_mtu", "tx", "x-txtimer", "x-txburst", "failover", "acpi-index", "name", "vlan", NULL,
	};
	const char *mac = props_take(p, "mac"), *bus = props_take(p, "bus");

	if (!mac)
		mac = props_take(p, "macaddr");
	emit_part(q, "mac", mac);
	emit_part(q, "model", model);
	emit_part(q, "id", id);
	emit_part(q, "bus", slot_of(q, bus));
	emit_part(q, "slot", root_slot(q, props_take(p, "addr"), bus));
	emit_part(q, "romfile", props_take(p, "romfile"));
	emit_part(q, "rombar", props_take(p, "rombar"));
	emit_part(q, "bootindex", props_take(p, "bootindex"));
	props_ignore(p, same);
	return 0;
}

/* The model as lodge run has it; NULL: its default. */
static int find_model(const char *name, const char **model, struct err *e)
{
	static const char *const names[] = { "virtio", "virtio-net-pci", "virtio-net", "virtio-net-pci-non-transitional",
					     "virtio-net-pci-transitional", "virtio-net-device" };

	*model = NULL;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++)
		if (!strcmp(name, names[i]))
			return 0;
	if (!strcmp(name, "e1000")) {
		warn("the network card e1000 (82540EM) is an e1000e (82574L) here");
		name = "e1000e";
	}
	*model = name;
	return !strcmp(name, "e1000e") ? 0 :
		err_set(e, -ENOTSUP, "there is no network card '%.40s'; virtio-net-pci and e1000e are there", name);
}

int emit_card(struct qemu *q, struct qemu_item *dev, const char *kind, struct err *e)
{
	const char *name = props_take(&dev->p, "netdev"), *model;
	struct qemu_item *net = item_find(&q->netdevs, name);
	int ret = find_model(kind, &model, e);

	if (ret)
		return ret;
	if (!net)
		return err_set(e, -ENOENT, "there is no netdev '%.60s'", name ? name : "");
	if (net->used)
		return err_set(e, -EBUSY, "netdev '%.60s' is already in use", name);
	net->used = true;
	q->n_nets++;
	emit_begin(q, "--net");
	ret = network(q, &net->p, e);
	ret = ret ? err_prefix(e, ret, "%s", net->option) : card(q, &dev->p, dev->id, model, e);
	if (net->id)
		emit_part(q, "netdev", net->id);
	emit_end(q);
	if (!ret && (ret = props_done(&net->p, e)))
		err_prefix(e, ret, "-netdev %s", name);
	return ret ? ret : props_done(&dev->p, e);
}

/* A network that no card has yet, of -net. */
static struct qemu_item *next_net(struct qemu *q)
{
	list_for_each(n, &q->netdevs) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if (!it->used && !strcmp(it->option, "-net"))
			return it;
	}
	return NULL;
}

static int emit_nic(struct qemu *q, struct qemu_item *nic, struct err *e)
{
	const char *wanted = props_take(&nic->p, "model"), *id = props_take(&nic->p, "netdev"), *model;
	bool old = !strcmp(nic->option, "-net nic");
	struct qemu_item *net = id ? item_find(&q->netdevs, id) : old ? next_net(q) : NULL;
	int ret = find_model(wanted ? wanted : "virtio", &model, e);

	if (ret)
		return ret;
	if (id && (!net || net->used))
		return err_set(e, net ? -EBUSY : -ENOENT, net ? "netdev '%.60s' is already in use" : "there is no netdev '%.60s'", id);
	if (old)
		props_take(&nic->p, "type");
	if (old && !net) {
		warn("-net nic: the card is connected to nothing, so there is none");
		return 0;
	}
	q->n_nets++;
	emit_begin(q, "--net");
	ret = network(q, net ? &net->p : &nic->p, e);
	if (!ret)
		ret = card(q, &nic->p, nic->id, model, e);
	if (net)
		net->used = true;
	if (net)
		props_take(&net->p, "name");
	emit_end(q);
	if (!ret && net)
		ret = props_done(&net->p, e);
	return ret ? ret : props_done(&nic->p, e);
}

int emit_nets(struct qemu *q, struct err *e)
{
	struct qemu_item *net;
	int ret = 0;

	list_for_each(n, &q->nics) {
		struct qemu_item *nic = list_entry(n, struct qemu_item, node);

		if (ret || (ret = emit_nic(q, nic, e)))
			return err_prefix(e, ret, "%s", nic->option);
	}
	/* -net user without a card of its own gets the default one. */
	net = list_empty(&q->nics) ? next_net(q) : NULL;
	if (net) {
		net->used = true;
		q->n_nets++;
		emit_begin(q, "--net");
		ret = network(q, &net->p, e);
		emit_end(q);
		ret = ret ? ret : props_done(&net->p, e);
		if (ret)
			return err_prefix(e, ret, "-net");
	}
	if (q->n_nets)
		return 0;
	emitf(q, "--net", "%s", q->nodefaults || q->no_net || q->none || !list_empty(&q->netdevs) ? "none" : "user");
	return 0;
}
