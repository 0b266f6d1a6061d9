// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Networks without a card: those that netdev_add made and no device uses yet, or
 * whose card has gone.
 *
 * A network is opened when it is added, so that what the host refuses is said then.
 * A card takes it and closes it when it goes; the next one opens it anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/hotplug.h"

#define MAX_NETDEVS 16

struct vm_netdev {
	struct list node;
	char id[VM_ID_MAX];
	struct conf *fields;		/* of an element of the list "net" */
	struct net_backend *b;		/* NULL: a card has or had it */
};

static struct vm_netdev *find(const struct vm *vm, const char *id)
{
	list_for_each(n, &vm->netdevs) {
		struct vm_netdev *d = list_entry(n, struct vm_netdev, node);

		if (!strcmp(d->id, id))
			return d;
	}
	return NULL;
}

/* The card that uses it; -1: none. */
static int user_of(const struct vm *vm, const char *id)
{
	for (unsigned i = 0; i < vm->cfg->n_nets; i++)
		if (vm->cfg->net[i].kind != VM_NET_NONE && vm->cfg->net[i].netdev && !strcmp(vm->cfg->net[i].netdev, id))
			return (int)i;
	return -1;
}

static void netdev_free(struct vm_netdev *d)
{
	if (d->b)
		net_close(d->b);
	list_del(&d->node);
	conf_free(d->fields);
	free(d);
}

static int copy(struct conf *to, const struct conf *from, const char *prefix, struct err *e)
{
	const char *key, *val;
	int ret = 0;

	for (size_t i = 0; !ret && conf_nth(from, i, &key, &val); i++)
		if (!strncmp(key, prefix, strlen(prefix)))
			ret = conf_set(to, key + strlen(prefix), val, e);
	return ret;
}

static int new_netdev(struct vm *vm, const char *id, const struct conf *fields, const char *prefix, struct vm_netdev **out, struct err *e)
{
	struct vm_netdev *d;
	unsigned n = 0;
	int ret;

	list_for_each(p, &vm->netdevs)
		n++;
	if (n >= MAX_NETDEVS)
		return err_set(e, -ENOSPC, "a guest has at most %d networks of this kind", MAX_NETDEVS);
	d = calloc(1, sizeof(*d));
	if (!d || conf_new(&d->fields)) {
		free(d);
		return err_set(e, -ENOMEM, "out of memory");
	}
	list_init(&d->node);
	snprintf(d->id, sizeof(d->id), "%s", id);
	ret = copy(d->fields, fields, prefix, e);
	if (ret) {
		netdev_free(d);
		return ret;
	}
	*out = d;
	return 0;
}

int vm_netdev_add(struct vm *vm, const char *id, const struct conf *fields, struct err *e)
{
	struct vm_netdev *d = NULL;
	struct vm_net n;
	int ret = vm_config_id(id, e);

	if (!ret && (find(vm, id) || user_of(vm, id) >= 0))
		ret = err_set(e, -EEXIST, "Duplicate ID '%.60s' for netdev", id);
	ret = ret ? ret : new_netdev(vm, id, fields, "", &d, e);
	if (ret)
		return ret;
	ret = vm_config_net(vm->cfg, d->fields, &n, e);
	ret = ret ? ret : vm_net_open(vm, &n, &d->b, e);
	if (ret)
		netdev_free(d);
	else
		list_add_tail(&vm->netdevs, &d->node);
	return ret;
}

int vm_netdev_del(struct vm *vm, const char *id, struct err *e)
{
	struct vm_netdev *d = find(vm, id);
	int user = user_of(vm, id);

	if (user >= 0)
		return err_set(e, -EBUSY, "netdev '%.60s' is in use by the card %.60s: device_del it first", id,
			       vm->cfg->net[user].id ? vm->cfg->net[user].id : "without an id");
	if (!d)
		return err_set(e, -ENOENT, "Device '%.60s' not found", id);
	netdev_free(d);
	return 0;
}

int vm_netdev_fields(struct vm *vm, const char *id, struct conf *to, struct err *e)
{
	const struct vm_netdev *d = find(vm, id);

	if (user_of(vm, id) >= 0)
		return err_set(e, -EBUSY, "Property 'netdev' can't take value '%.60s', it's in use", id);
	return d ? copy(to, d->fields, "", e) : err_set(e, -ENOENT, "Property 'netdev' can't find value '%.60s'", id);
}

struct net_backend *vm_netdev_take(struct vm *vm, const char *id)
{
	struct vm_netdev *d = find(vm, id);
	struct net_backend *b = d ? d->b : NULL;

	if (d)
		d->b = NULL;
	return b;
}

void vm_netdev_leave(struct vm *vm, unsigned i)
{
	static const char *const cards[] = { "id", "netdev", "bus", "mac", "model", "romfile", "rombar", "bootindex" };
	const char *id = vm->cfg->net[i].netdev;
	struct vm_netdev *d;
	struct err e;
	char prefix[24];

	if (!id || find(vm, id))
		return;
	snprintf(prefix, sizeof(prefix), "net.%u.", i);
	if (new_netdev(vm, id, vm->tree, prefix, &d, &e))
		return;
	for (unsigned k = 0; k < ARRAY_LEN(cards); k++)
		conf_unset(d->fields, cards[k]);
	list_add_tail(&vm->netdevs, &d->node);
}

void vm_netdevs_free(struct vm *vm)
{
	list_for_each_safe(n, &vm->netdevs)
		netdev_free(list_entry(n, struct vm_netdev, node));
}

/* "tcp::2222-:22", "tcp:127.0.0.1:2222-10.0.2.15:22": the two sides have one hyphen between them. */
int vm_fwd_of_qemu(const char *rule, char *out, size_t len, struct err *e)
{
	char copied[200], *dash;
	int n;

	if (snprintf(copied, sizeof(copied), "%s", rule) >= (int)sizeof(copied) || !(dash = strrchr(copied, '-')))
		return err_set(e, -EINVAL, "invalid host forwarding rule '%.60s'", rule);
	*dash++ = '\0';
	if (*dash == ':')
		dash++;
	if (!strncmp(copied, "tcp::", 5) || !strncmp(copied, "udp::", 5))	/* all addresses */
		n = snprintf(out, len, "%.4s0.0.0.0:%s:%s", copied, copied + 5, dash);
	else if (copied[0] == ':')
		n = snprintf(out, len, "tcp:%s%s:%s", copied[1] == ':' ? "0.0.0.0" : "", copied + 1, dash);
	else
		n = snprintf(out, len, "%s:%s", copied, dash);
	return (size_t)n < len ? 0 : err_set(e, -EINVAL, "invalid host forwarding rule '%.60s'", rule);
}
