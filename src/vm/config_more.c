// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A configuration that changes while it is in use: elements of lists that come and
 * go.  What the rest of it says is not looked at again: it was accepted, and
 * descriptors and files that it named may be gone by now.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "vm/config_int.h"

void config_clear_disk(struct vm_disk *d)
{
	*d = (struct vm_disk){ .on_write_error = DISK_ENOSPC, .bootindex = -1, .scsi_id = -1, .lun = -1 };
}

void config_clear_net(struct vm_net *n) { *n = (struct vm_net){ .queues = 1, .bootindex = -1 }; }

static void clear(struct vm_config *v, const char *list, unsigned n)
{
	if (!strcmp(list, "disk"))
		config_clear_disk(&v->disk[n]);
	else if (!strcmp(list, "net"))
		config_clear_net(&v->net[n]);
	else if (!strcmp(list, "port"))
		v->port[n] = (struct vm_port){ 0 };
	else if (!strcmp(list, "vcpu"))
		v->cpu_given[n] = 0, v->cpu_id[n] = NULL;
	else
		v->usb[n] = VM_USB_ABSENT, v->usb_id[n] = NULL, v->usb_port[n] = 0;
}

/* The element's keys that the tree has. */
static int set_element(struct vm_config *v, const struct conf *tree, const char *list, unsigned n, struct err *e)
{
	const char *key, *val, *field;
	unsigned at;
	int ret = 0;

	for (size_t i = 0; !ret && conf_nth(tree, i, &key, &val); i++)
		if (config_indexed(key, list, &at, &field) && at == n) {
			ret = config_set(key, val, v, e);
			if (ret == -ENOENT)
				ret = err_set(e, -EINVAL, "Property '%.60s' not found", field);
		}
	return ret;
}

static int check_element(struct vm_config *v, const char *list, unsigned n, struct err *e)
{
	if (!strcmp(list, "disk"))
		return config_check_disk(v, n, e);
	if (!strcmp(list, "net"))
		return config_check_net(&v->net[n], n, v, e);
	if (!strcmp(list, "port"))
		return config_check_ports(v, e);
	if (!strcmp(list, "vcpu"))
		return config_check_cpus(v, e);
	return v->machine == VM_MACHINE_MICRO ? err_set(e, -EINVAL, "--machine micro has no USB") : 0;
}

int vm_config_more(struct vm_config *v, const struct conf *tree, const char *list, unsigned n, struct err *e)
{
	struct vm_config *more = malloc(sizeof(*more));
	int ret;

	if (!more)
		return err_set(e, -ENOMEM, "out of memory");
	*more = *v;
	clear(more, list, n);
	ret = set_element(more, tree, list, n, e);
	if (!strcmp(list, "disk"))
		more->n_disks = MAX(more->n_disks, n + 1);
	else if (!strcmp(list, "net"))
		more->n_nets = MAX(more->n_nets, n + 1);
	else if (!strcmp(list, "usb"))
		more->n_usb = MAX(more->n_usb, n + 1);
	ret = ret ? ret : check_element(more, list, n, e);
	if (!ret)
		*v = *more;
	free(more);
	return ret;
}

int vm_config_net(const struct vm_config *v, const struct conf *fields, struct vm_net *out, struct err *e)
{
	const char *field, *val;
	int ret = 0;

	config_clear_net(out);
	for (size_t i = 0; !ret && conf_nth(fields, i, &field, &val); i++) {
		ret = config_net(out, field, val, e);
		if (ret == -ENOENT)
			ret = err_set(e, -EINVAL, "Property '%.60s' not found", field);
	}
	return ret ? ret : config_check_net(out, 0, v, e);
}

int vm_config_id(const char *text, struct err *e)
{
	const char *id;

	return config_id(text, &id, e);
}

void vm_config_forget(struct vm_config *v, const char *list, unsigned n, const struct conf *tree)
{
	struct err e;

	clear(v, list, n);
	if (!strcmp(list, "net"))
		v->net[n].kind = VM_NET_NONE;
	/* Nothing that was not taken before. */
	set_element(v, tree, list, n, &e);
}
