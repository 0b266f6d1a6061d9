// SPDX-License-Identifier: GPL-2.0-or-later
/* netdev_add and netdev_del: networks for cards that are plugged in. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "control/device.h"
#include "vm/hotplug.h"

static const struct {
	const char *type, *name, *field;	/* field NULL: makes no difference here */
} props[] = {
	{ "user", "restrict", "restrict" }, { "user", "tftp", "tftp" }, { "user", "bootfile", "bootfile" }, { "user", "tftp-server-name", "tftp-server-name" },
	{ "user", "hostname", "hostname" }, { "user", "domainname", "domainname" }, { "user", "ipv4", NULL },
	{ "tap", "ifname", "if" }, { "tap", "queues", "queues" }, { "tap", "vhost", NULL }, { "tap", "vhostforce", NULL }, { "tap", "sndbuf", NULL },
	{ "tap", "vnet_hdr", NULL }, { "tap", "poll-us", NULL },
};

static int put_text(struct conf *f, const char *field, const char *name, json_t *v, struct err *e)
{
	const char *text;
	char buf[32];
	int ret = ctl_value_text(v, buf, sizeof(buf), &text, e);

	if (!ret && field)
		ret = conf_set(f, field, text, e);
	return ret ? err_prefix(e, ret, "Parameter '%.40s'", name) : 0;
}

/* One rule, or a list of {"str": RULE}. */
static int put_forwards(struct conf *f, json_t *v, struct err *e)
{
	size_t n = json_is_array(v) ? json_array_size(v) : 1;
	char rule[200];
	int ret = 0;

	for (size_t i = 0; i < n && !ret; i++) {
		json_t *x = json_is_array(v) ? json_array_get(v, i) : v;
		const char *text = json_string_value(json_is_object(x) ? json_object_get(x, "str") : x);

		ret = text ? vm_fwd_of_qemu(text, rule, sizeof(rule), e) : err_set(e, -EINVAL, "Invalid parameter type for 'hostfwd', expected: array");
		if (!ret)
			ret = conf_setf(f, rule, e, "fwd.%zu", i);
	}
	return ret;
}

static int put_script(json_t *v, const char *name, struct err *e)
{
	const char *text = json_string_value(v);

	return text && !strcmp(text, "no") ? 0 : err_set(e, -ENOTSUP, "%s: scripts are not run; make the interface ready and say \"no\"", name);
}

static int put(struct conf *f, const char *type, const char *name, json_t *v, struct err *e)
{
	if (!strcmp(name, "hostfwd") && !strcmp(type, "user"))
		return put_forwards(f, v, e);
	if ((!strcmp(name, "script") || !strcmp(name, "downscript")) && !strcmp(type, "tap"))
		return put_script(v, name, e);
	for (unsigned i = 0; i < ARRAY_LEN(props); i++)
		if (!strcmp(props[i].type, type) && !strcmp(props[i].name, name))
			return put_text(f, props[i].field, name, v, e);
	return err_set(e, -EINVAL, "Parameter '%.60s' is unexpected", name);
}

static int put_all(json_t *args, const char *type, struct conf *f, struct err *e)
{
	int ret = conf_set(f, "kind", type, e);
	const char *name;
	json_t *v;

	json_object_foreach(args, name, v)
		if (!ret && strcmp(name, "type") && strcmp(name, "id"))
			ret = put(f, type, name, v, e);
	return ret;
}

void ctl_cmd_netdev_add(struct ctl_call *c, const struct ctl_args_netdev_add *a)
{
	struct err e = { "" };
	struct conf *f = NULL;
	int ret;

	if (strcmp(a->type, "user") && strcmp(a->type, "tap")) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'type' does not accept value '%.60s': user and tap are supported", a->type);
		return;
	}
	ret = conf_new(&f);
	if (!ret)
		ret = put_all(c->args, a->type, f, &e);
	if (!ret)
		ret = vm_netdev_add(c->ctl->vm, a->id, f, &e);
	conf_free(f);
	ctl_failed(c, ret, &e);
}

void ctl_cmd_netdev_del(struct ctl_call *c, const struct ctl_args_netdev_del *a)
{
	struct err e = { "" };
	int ret = vm_netdev_del(c->ctl->vm, a->id, &e);

	if (ret == -ENOENT)
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "%s", e.msg);
	else
		ctl_failed(c, ret, &e);
}
