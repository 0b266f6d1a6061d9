// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUs: those there are, places for more, and how they come and go, in QEMU's words.
 *
 * A CPU's number is its place in sockets, dies, cores and threads (cpu/x86/topology.h).  One that was there from the start is an object
 * without a name of its own, which device_del takes by its QOM path.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/device.h"
#include "control/disk.h"
#include "vm/hotplug.h"

static const char suffix[] = "-x86_64-cpu";

/* The type of all CPUs: "max-x86_64-cpu". */
static void type_of(const struct vm_config *cfg, char *type, size_t len)
{
	snprintf(type, len, "%.*s%s", (int)MIN(strcspn(cfg->cpu, ","), 32), cfg->cpu, suffix);
}

void ctl_cpu_path(const struct vm_config *cfg, unsigned i, const char *id, char *path, size_t len)
{
	if (id)
		snprintf(path, len, "/machine/peripheral/%s", id);
	else if (i < cfg->cpus)
		snprintf(path, len, "/machine/unattached/device[%u]", i);
	else
		snprintf(path, len, "/machine/peripheral-anon/device[%u]", (unsigned)VM_DEVICE_CPU * 16 + i);
}

static void path_of(const struct control *ctl, unsigned i, char *path, size_t len)
{
	const struct vm_config *cfg = vm_config_of(ctl->vm);

	ctl_cpu_path(cfg, i, cfg->cpu_id[i], path, len);
}

static json_t *props_of(const struct vm_config *cfg, unsigned i)
{
	struct x86_place p = x86_place_of(&cfg->topology, i);
	json_t *j = json_pack("{s:i,s:i,s:i}", "core-id", (int)p.core, "thread-id", (int)p.thread, "socket-id", (int)p.socket);

	if (j && cfg->topology.dies > 1)
		json_object_set_new(j, "die-id", json_integer(p.die));
	if (j && cfg->n_nodes)
		json_object_set_new(j, "node-id", json_integer(cfg->cpu_node[i]));
	return j;
}

void ctl_cmd_query_cpus_fast(struct ctl_call *c, const struct ctl_args_query_cpus_fast *a)
{
	json_t *list = json_array();
	char path[VM_ID_MAX + 32];

	for (unsigned i = 0; i < c->ctl->m->n_vcpus; i++) {
		if (!vm_has_cpu(c->ctl->vm, i))
			continue;
		path_of(c->ctl, i, path, sizeof(path));
		json_array_append_new(list, json_pack("{s:i,s:s,s:I,s:o,s:s}", "cpu-index", (int)i, "qom-path", path, "thread-id",
						      (json_int_t)vm_vcpu_tid(c->ctl->vm, i), "props", props_of(vm_config_of(c->ctl->vm), i), "target", "x86_64"));
	}
	ctl_return(c, list);
}

void ctl_cmd_query_hotpluggable_cpus(struct ctl_call *c, const struct ctl_args_query_hotpluggable_cpus *a)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	char path[VM_ID_MAX + 32], type[64];
	json_t *list = json_array();

	type_of(cfg, type, sizeof(type));
	for (unsigned i = c->ctl->m->n_vcpus; i--;) {
		json_t *j = json_pack("{s:s,s:i,s:o}", "type", type, "vcpus-count", 1, "props", props_of(cfg, i));

		path_of(c->ctl, i, path, sizeof(path));
		if (j && vm_has_cpu(c->ctl->vm, i))
			json_object_set_new(j, "qom-path", json_string(path));
		json_array_append_new(list, j);
	}
	ctl_return(c, list);
}

/* ---- what the guest's system says of them ---- */

static json_t *ost_of(struct control *ctl, unsigned i)
{
	const char *id = vm_config_of(ctl->vm)->cpu_id[i];
	uint32_t event = 0, status = 0;
	char slot[16];

	if (!vm_cpu_ost(ctl->vm, i, &event, &status))
		return NULL;
	snprintf(slot, sizeof(slot), "%u", i);
	return json_pack("{s:s*,s:s,s:s,s:I,s:I}", "device", id, "slot", slot, "slot-type", "CPU", "source", (json_int_t)event, "status",
			 (json_int_t)status);
}

void ctl_cmd_query_acpi_ospm_status(struct ctl_call *c, const struct ctl_args_query_acpi_ospm_status *a)
{
	json_t *list = json_array(), *j;

	for (unsigned i = 0; i < c->ctl->m->n_vcpus && (j = ost_of(c->ctl, i)); i++)
		json_array_append_new(list, j);
	ctl_return(c, list);
}

void ctl_cpu_event(struct control *ctl, unsigned i)
{
	json_t *info = ost_of(ctl, i);

	if (info)
		ctl_emit_by(ctl, &ctl->cpu_limit[i], CTL_EVENT_ACPI_DEVICE_OST, json_pack("{s:o}", "info", info));
}

/* ---- plugging one in ---- */

bool ctl_cpu_driver(const char *name)
{
	size_t n = strlen(name), s = strlen(suffix);

	return n > s && !strcmp(name + n - s, suffix);
}

const char *const ctl_cpu_props[] = { "id", "socket-id", "die-id", "module-id", "core-id", "thread-id", "node-id", NULL };

static bool known(const char *name)
{
	if (!strcmp(name, "driver"))
		return true;
	for (const char *const *p = ctl_cpu_props; *p; p++)
		if (!strcmp(*p, name))
			return true;
	return false;
}

/* Any of the right model; "host" is "max" here. */
static int check_type(const struct vm_config *cfg, const char *driver, struct err *e)
{
	char type[64];

	type_of(cfg, type, sizeof(type));
	if (!strcmp(driver, type) || (!strncmp(type, "max-", 4) && !strncmp(driver, "host-", 5)))
		return 0;
	return err_set(e, -EINVAL, "Invalid CPU type, expected cpu type: '%s'", type);
}

/* A number of the place, below `max`; one that must not be there may be left out, and is 0. */
static int number(struct ctl_call *c, const char *name, bool must, unsigned max, unsigned *out, struct err *e)
{
	json_t *j = json_object_get(c->args, name);
	const char *text = NULL;
	char buf[32], *end;
	long v;
	int ret;

	*out = 0;
	if (!j)
		return must ? err_set(e, -EINVAL, "CPU %s is not set", name) : 0;
	ret = ctl_value_text(j, buf, sizeof(buf), &text, e);
	if (ret)
		return err_prefix(e, ret, "%s", name);
	errno = 0;
	v = strtol(text, &end, 10);
	if (*end || end == text || errno || v < 0 || v >= (long)max)
		return err_set(e, -EINVAL, "Invalid CPU %s: %.40s must be in range 0:%u", name, text, max - 1);
	*out = (unsigned)v;
	return 0;
}

static int place(struct ctl_call *c, unsigned *cpu, struct err *e)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	const struct x86_topology *t = &cfg->topology;
	struct x86_place p;
	unsigned n = 0;
	int ret = number(c, "socket-id", true, t->sockets, &p.socket, e);

	ret = ret ? ret : number(c, "die-id", t->dies > 1, t->dies, &p.die, e);
	ret = ret ? ret : number(c, "module-id", false, 1, &n, e);
	ret = ret ? ret : number(c, "core-id", true, t->cores, &p.core, e);
	ret = ret ? ret : number(c, "thread-id", true, t->threads, &p.thread, e);
	ret = ret ? ret : number(c, "node-id", false, MAX(cfg->n_nodes, 1u), &n, e);
	if (ret)
		return ret;
	*cpu = x86_place_id(t, &p);
	if (json_object_get(c->args, "node-id") && cfg->n_nodes && cfg->cpu_node[*cpu] != n)
		return err_set(e, -EINVAL, "node-id=%u must match numa node specified with -numa option for cpu slot: %u", n, cfg->cpu_node[*cpu]);
	return 0;
}

int ctl_cpu_add(struct ctl_call *c, const char *driver, const char *id, struct err *e)
{
	struct vm_device d = { VM_DEVICE_CPU, 0 };
	struct conf *fields = NULL;
	const char *name;
	json_t *v;
	int ret;

	json_object_foreach(c->args, name, v)
		if (!known(name))
			return err_set(e, -EINVAL, "Property '%.60s.%.60s' not found", driver, name);
	ret = check_type(vm_config_of(c->ctl->vm), driver, e);
	ret = ret ? ret : place(c, &d.index, e);
	if (!ret)
		ret = conf_new(&fields);
	if (!ret)
		ret = conf_set(fields, "present", "on", e);
	if (!ret && id)
		ret = conf_set(fields, "id", id, e);
	ret = ret ? ret : vm_device_add(c->ctl->vm, VM_DEVICE_CPU, fields, &d, e);
	conf_free(fields);
	return ret;
}

int ctl_cpu_by_path(struct control *ctl, const char *name)
{
	char path[VM_ID_MAX + 32];

	for (unsigned i = 0; i < ctl->m->n_vcpus && *name == '/'; i++) {
		path_of(ctl, i, path, sizeof(path));
		if (vm_has_cpu(ctl->vm, i) && !strcmp(path, name))
			return (int)i;
	}
	return -ENOENT;
}
