// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * device_add and device_del: QEMU's drivers and their properties in the words of
 * the configuration (vm/hotplug.h), and what becomes of devices that go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/device.h"
#include "control/disk.h"
#include "vm/hotplug.h"

struct property {
	const char *name;
	const char *field;		/* NULL: makes no difference here */
};

static const struct property disk_props[] = {
	{ "id", "id" }, { "serial", "serial" }, { "x-lodge-file", "file" }, { "x-lodge-format", "format" }, { "x-lodge-ro", "ro" }, { "bootindex", "bootindex" }, { "logical_block_size", "logical-block-size" },
	{ "physical_block_size", "physical-block-size" }, { "min_io_size", "min-io-size" }, { "opt_io_size", "opt-io-size" },
	{ "discard_granularity", "discard-granularity" }, { "rerror", "rerror" }, { "werror", "werror" }, { "num-queues", "num-queues" },
	{ "iothread", "iothread" }, { "share-rw", NULL }, { "write-cache", NULL }, { "addr", NULL }, { "multifunction", NULL },
	{ "disable-legacy", NULL }, { "disable-modern", NULL }, { "packed", NULL }, { "ioeventfd", NULL }, { "event_idx", NULL }, { "indirect_desc", NULL },
	{ "acpi-index", NULL }, { "device_id", NULL }, { "channel", NULL }, { "queue-size", NULL }, { "config-wce", NULL }, { "removable", NULL }, { NULL, NULL },
};
static const struct property scsi_props[] = { { "scsi-id", "scsi-id" }, { "lun", "lun" }, { NULL, NULL } };
static const struct property usb_disk_props[] = { { "port", "usb-port" }, { NULL, NULL } };
static const struct property net_props[] = {
	{ "id", "id" }, { "netdev", "netdev" }, { "mac", "mac" }, { "bootindex", "bootindex" }, { "addr", NULL }, { "multifunction", NULL },
	{ "disable-legacy", NULL }, { "disable-modern", NULL }, { "packed", NULL }, { "ioeventfd", NULL }, { "event_idx", NULL }, { "indirect_desc", NULL },
	{ "acpi-index", NULL }, { "romfile", NULL }, { "rombar", NULL }, { "mq", NULL }, { "vectors", NULL }, { "rx_queue_size", NULL },
	{ "tx_queue_size", NULL }, { "mrg_rxbuf", NULL }, { "status", NULL }, { NULL, NULL },
};
static const struct property usb_props[] = { { "id", "id" }, { "port", "port" }, { "usb_version", NULL }, { "display", NULL }, { "serial", NULL }, { NULL, NULL } };
static const struct property port_props[] = { { "id", "id" }, { "chardev", "chardev" }, { "name", "name" }, { "nr", "nr" }, { NULL, NULL } };

struct driver {
	const char *name, *bus;
	enum vm_device_list list;
	const char *field, *value;	/* what makes it one of this kind */
	const struct property *props, *more;
};

static const struct driver drivers[] = {
	{ "virtio-blk-pci", "PCI", VM_DEVICE_DISK, "if", "virtio", disk_props, NULL },
	{ "virtio-blk", "PCI", VM_DEVICE_DISK, "if", "virtio", disk_props, NULL },
	{ "scsi-hd", "SCSI", VM_DEVICE_DISK, "if", "scsi", disk_props, scsi_props },
	{ "scsi-cd", "SCSI", VM_DEVICE_DISK, "if", "scsi", disk_props, scsi_props },
	{ "usb-storage", "usb-bus", VM_DEVICE_DISK, "if", "usb", disk_props, usb_disk_props },
	{ "virtio-net-pci", "PCI", VM_DEVICE_NET, "model", "virtio", net_props, NULL },
	{ "virtio-net", "PCI", VM_DEVICE_NET, "model", "virtio", net_props, NULL },
	{ "e1000e", "PCI", VM_DEVICE_NET, "model", "e1000e", net_props, NULL },
	{ "usb-kbd", "usb-bus", VM_DEVICE_USB, "device", "usb-kbd", usb_props, NULL },
	{ "usb-mouse", "usb-bus", VM_DEVICE_USB, "device", "usb-mouse", usb_props, NULL },
	{ "usb-tablet", "usb-bus", VM_DEVICE_USB, "device", "usb-tablet", usb_props, NULL },
	{ "virtserialport", "virtio-serial-bus", VM_DEVICE_PORT, "console", "off", port_props, NULL },
	{ "virtconsole", "virtio-serial-bus", VM_DEVICE_PORT, "console", "on", port_props, NULL },
};

static const struct driver *find_driver(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(drivers); i++)
		if (!strcmp(drivers[i].name, name))
			return &drivers[i];
	return NULL;
}

static const struct property *find_property(const struct driver *d, const char *name)
{
	const struct property *tables[] = { d->props, d->more };

	for (unsigned t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct property *p = tables[t]; p && p->name; p++)
			if (!strcmp(p->name, name))
				return p;
	return NULL;
}

/* ---- properties ---- */

int ctl_value_text(json_t *v, char *buf, size_t len, const char **out, struct err *e)
{
	*out = buf;
	if (json_is_string(v))
		*out = json_string_value(v);
	else if (json_is_boolean(v))
		*out = json_is_true(v) ? "on" : "off";
	else if (json_is_integer(v))
		snprintf(buf, len, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else
		return err_set(e, -EINVAL, "it is neither text nor a number, true or false");
	return 0;
}

/* Booleans that have words of their own are refused by who reads them. */
static int put(struct conf *f, const char *driver, const char *name, const char *field, json_t *v, struct err *e)
{
	const char *text;
	char buf[32];
	int ret = ctl_value_text(v, buf, sizeof(buf), &text, e);

	if (!ret)
		ret = conf_set(f, field, text, e);
	return ret ? err_prefix(e, ret, "%s.%s", driver, name) : 0;
}

/* "scsi0.0": the adapter that the configuration calls so, or the one without a name. */
static int put_adapter(struct ctl_call *c, struct conf *f, const char *bus, struct err *e)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	size_t len = bus ? strcspn(bus, ".") : 0;
	const struct vm_disk *first = NULL;

	for (unsigned i = 0; i < cfg->n_disks; i++) {
		const struct vm_disk *d = &cfg->disk[i];

		if ((!d->there && !d->absent) || d->interface != VM_DISK_SCSI)
			continue;
		first = first ? first : d;
		if (bus && d->controller && strlen(d->controller) == len && !strncmp(d->controller, bus, len))
			return conf_set(f, "controller", d->controller, e);
	}
	if (!first)
		return err_set(e, -ENOENT, "No 'SCSI' bus found for device 'scsi-hd'");
	return first->controller && !bus ? conf_set(f, "controller", first->controller, e) : 0;
}

/* As QEMU has it: text is a slot in hexadecimal, perhaps with a function ("5.0"), a number 8 times the slot and the function. */
static bool parse_addr(json_t *v, unsigned *slot, unsigned *fn)
{
	unsigned long long n = (unsigned long long)json_integer_value(v), part = 0;
	char *end;

	if (json_is_integer(v)) {
		*slot = (unsigned)MIN(n >> 3, 32u);
		*fn = n & 7;
		return *slot < 32;
	}
	if (!json_is_string(v))
		return false;
	n = strtoull(json_string_value(v), &end, 16);
	if (*end == '.')
		part = strtoull(end + 1, &end, 16);
	*slot = (unsigned)n;
	*fn = (unsigned)part;
	return end != json_string_value(v) && !*end && n < 32 && part < 8;
}

/* The slot, on the root bus; on a root port there is one place, and nothing to choose. */
static int put_addr(struct ctl_call *c, const struct driver *d, struct conf *f, struct err *e)
{
	json_t *v = json_object_get(c->args, "addr");
	unsigned slot, fn;
	char text[16];

	if (!v || (json_is_integer(v) && json_integer_value(v) == -1))
		return 0;
	if (!parse_addr(v, &slot, &fn) || fn)
		return err_set(e, -EINVAL, "%s.addr: function 0 of a slot is meant, such as \"0x5\"", d->name);
	snprintf(text, sizeof(text), "%u", slot);
	return conf_set(f, "slot", text, e);
}

static int put_bus(struct ctl_call *c, const struct driver *d, struct conf *f, const char *bus, struct err *e)
{
	if (!strcmp(d->bus, "SCSI"))
		return put_adapter(c, f, bus, e);
	if (!strcmp(d->bus, "usb-bus") && !vm_has_usb(c->ctl->vm))
		return err_set(e, -ENOENT, "No 'usb-bus' bus found for device '%s'", d->name);
	if (strcmp(d->bus, "PCI"))
		return 0;
	if (bus && conf_set(f, "bus", bus, e))
		return -EINVAL;
	return !bus || vm_is_root_bus(bus) ? put_addr(c, d, f, e) : 0;
}

static int put_net(struct ctl_call *c, const struct driver *d, struct conf *f, struct err *e)
{
	const char *netdev = conf_get(f, "netdev");

	if (!netdev)
		return err_set(e, -EINVAL, "Device '%s' needs netdev=ID here", d->name);
	return vm_netdev_fields(c->ctl->vm, netdev, f, e);
}

/* A drive of drive_add, else a block node. */
static int put_drive(struct ctl_call *c, const struct driver *d, struct conf *f, json_t *v, struct err *e)
{
	const char *id = json_string_value(v);
	int ret;

	if (d->list != VM_DEVICE_DISK || !id)
		return err_set(e, -EINVAL, "Property '%s.drive' not found", d->name);
	ret = ctl_drive_fields(c->ctl, id, f, e);
	return ret == -ENOENT ? conf_set(f, "node", id, e) : ret;
}

static int put_all(struct ctl_call *c, const struct driver *d, struct conf *f, struct err *e)
{
	const char *name, *bus = json_string_value(json_object_get(c->args, "bus"));
	int ret = conf_set(f, d->field, d->value, e);
	json_t *v;

	json_object_foreach(c->args, name, v) {
		const struct property *p = find_property(d, name);

		if (ret || !strcmp(name, "driver") || !strcmp(name, "bus"))
			continue;
		if (!strcmp(name, "drive")) {
			ret = put_drive(c, d, f, v, e);
			continue;
		}
		if (!p)
			return err_set(e, -EINVAL, "Property '%s.%.60s' not found", d->name, name);
		if (p->field)
			ret = put(f, d->name, name, p->field, v, e);
	}
	if (!ret && !strcmp(d->name, "scsi-cd"))
		ret = conf_set(f, "cdrom", "on", e);
	ret = ret ? ret : put_bus(c, d, f, bus, e);
	return ret || d->list != VM_DEVICE_NET ? ret : put_net(c, d, f, e);
}

void ctl_cmd_device_add(struct ctl_call *c, const struct ctl_args_device_add *a)
{
	const struct driver *d = find_driver(a->driver);
	struct conf *fields = NULL;
	struct vm_device made;
	struct err e = { "" };
	int ret;

	if (!d && !ctl_cpu_driver(a->driver)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "'%.60s' is not a valid device model name, or none that can be plugged in while the guest runs", a->driver);
		return;
	}
	if (a->id && vm_device_find(c->ctl->vm, a->id, &made)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Duplicate device ID '%.60s'", a->id);
		return;
	}
	if (!d) {
		ctl_failed(c, ctl_cpu_add(c, a->driver, a->id, &e), &e);
		return;
	}
	ret = conf_new(&fields);
	if (!ret)
		ret = put_all(c, d, fields, &e);
	if (!ret)
		ret = vm_device_add(c->ctl->vm, d->list, fields, &made, &e);
	conf_free(fields);
	ctl_failed(c, ret, &e);
}

void ctl_cmd_device_del(struct ctl_call *c, const struct ctl_args_device_del *a)
{
	static const char peripheral[] = "/machine/peripheral/";
	const char *id = strncmp(a->id, peripheral, strlen(peripheral)) ? a->id : a->id + strlen(peripheral);
	struct err e = { "" };
	int cpu = ctl_cpu_by_path(c->ctl, a->id);
	int ret = cpu >= 0 ? vm_cpu_del(c->ctl->vm, (unsigned)cpu, &e) : vm_device_del(c->ctl->vm, id, &e);

	if (ret == -ENOENT)
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "%s", e.msg);
	else
		ctl_failed(c, ret, &e);
}

/* ---- what comes of it ---- */

void ctl_device_event(void *opaque, enum vm_device_event ev, const struct vm_device *d, const char *id)
{
	struct control *ctl = opaque;
	char path[VM_ID_MAX + 32];

	if (d->list == VM_DEVICE_DISK)
		ctl_disk_event(ctl, ev, d->index);
	if (ev != VM_DEVICE_DELETED)
		return;
	if (d->list == VM_DEVICE_CPU)
		ctl_cpu_path(vm_config_of(ctl->vm), d->index, id, path, sizeof(path));
	else if (id)
		snprintf(path, sizeof(path), "/machine/peripheral/%s", id);
	else
		snprintf(path, sizeof(path), "/machine/peripheral-anon/device[%u]", (unsigned)d->list * 16 + d->index);
	ctl_emit(ctl, CTL_EVENT_DEVICE_DELETED, id ? json_pack("{s:s,s:s}", "device", id, "path", path) : json_pack("{s:s}", "path", path));
}

bool ctl_disk_in_use(void *opaque, unsigned index)
{
	struct control *ctl = opaque;
	struct disk *d = vm_disk_of(ctl->vm, index);

	return d && (ctl_disk_busy(ctl, d) || ctl_nbd_shows(ctl, d));
}

/* ---- what there is to plug in ---- */

void ctl_cmd_device_list_properties(struct ctl_call *c, const struct ctl_args_device_list_properties *a)
{
	const struct driver *d = find_driver(a->typename);
	const struct property *tables[] = { d ? d->props : NULL, d ? d->more : NULL };
	bool cpu = ctl_cpu_driver(a->typename);
	json_t *list = json_array();

	for (unsigned i = 0; cpu && ctl_cpu_props[i]; i++)
		if (strcmp(ctl_cpu_props[i], "id") != 0)
			json_array_append_new(list, json_pack("{s:s,s:s}", "name", ctl_cpu_props[i], "type", "int32"));
	for (unsigned t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct property *p = tables[t]; p && p->name; p++)
			if (strcmp(p->name, "id"))
				json_array_append_new(list, json_pack("{s:s,s:s}", "name", p->name, "type", "str"));
	ctl_return(c, list);
	if (!d && !cpu)
		ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.60s' not found", a->typename);
}

void ctl_cmd_qom_list_types(struct ctl_call *c, const struct ctl_args_qom_list_types *a)
{
	json_t *list = json_array();

	if (!a->implements || !strcmp(a->implements, "device"))
		for (unsigned i = 0; i < ARRAY_LEN(drivers); i++)
			json_array_append_new(list, json_pack("{s:s,s:s}", "name", drivers[i].name, "parent", "device"));
	ctl_return(c, list);
}
