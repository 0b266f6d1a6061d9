// SPDX-License-Identifier: GPL-2.0-or-later
/* Questions whose answers the configuration or the program itself gives. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/internal.h"
#include "machine/iothread.h"
#include "storage/disk.h"

void ctl_cmd_query_version(struct ctl_call *c, const struct ctl_args_query_version *a)
{
	ctl_return(c, ctl_version_json());
}

static void append_name(json_t *list, const char *name)
{
	json_array_append_new(list, json_pack("{s:s}", "name", name));
}

void ctl_cmd_query_commands(struct ctl_call *c, const struct ctl_args_query_commands *a)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ctl_n_commands; i++)
		append_name(list, ctl_commands[i].name);
	ctl_return(c, list);
}

void ctl_cmd_query_events(struct ctl_call *c, const struct ctl_args_query_events *a)
{
	json_t *list = json_array();

	for (size_t i = 0; i < CTL_EVENTS; i++)
		append_name(list, ctl_events[i].name);
	ctl_return(c, list);
}

void ctl_cmd_query_qmp_schema(struct ctl_call *c, const struct ctl_args_query_qmp_schema *a)
{
	ctl_return(c, json_loads(ctl_schema_json, 0, NULL));
}

void ctl_cmd_query_name(struct ctl_call *c, const struct ctl_args_query_name *a)
{
	ctl_return(c, json_pack("{s:s+}", "name", vm_config_of(c->ctl->vm)->name, ""));
}

void ctl_cmd_query_uuid(struct ctl_call *c, const struct ctl_args_query_uuid *a)
{
	ctl_return(c, json_pack("{s:o}", "UUID", ctl_uuid(vm_config_of(c->ctl->vm)->uuid)));
}

void ctl_cmd_query_kvm(struct ctl_call *c, const struct ctl_args_query_kvm *a)
{
	bool enabled = !strcmp(vm_engine_name(c->ctl->vm), "kvm");

	ctl_return(c, json_pack("{s:b,s:b}", "enabled", enabled, "present", enabled || !access("/dev/kvm", R_OK | W_OK)));
}

void ctl_cmd_query_target(struct ctl_call *c, const struct ctl_args_query_target *a)
{
	ctl_return(c, json_pack("{s:s}", "arch", "x86_64"));
}

static void add_machine(json_t *list, const char *name, bool is_default)
{
	json_t *m = json_pack("{s:s,s:i,s:b,s:b,s:b,s:s,s:b}", "name", name, "cpu-max", MACHINE_MAX_VCPUS, "hotpluggable-cpus", 1,
			      "numa-mem-supported", 0, "deprecated", 0, "default-cpu-type", "max-x86_64-cpu", "acpi", 1);

	if (m && is_default)
		json_object_set_new(m, "is-default", json_true());
	json_array_append_new(list, m);
}

void ctl_cmd_query_machines(struct ctl_call *c, const struct ctl_args_query_machines *a)
{
	json_t *list = json_array();

	add_machine(list, "pc", true);
	add_machine(list, "micro", false);
	ctl_return(c, list);
}

void ctl_cmd_query_cpu_definitions(struct ctl_call *c, const struct ctl_args_query_cpu_definitions *a)
{
	static const char *const names[] = { "max", "x86-64-v2", "x86-64-v3", "x86-64-v4" };
	json_t *list = json_array();
	char type[48];

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(type, sizeof(type), "%s-x86_64-cpu", names[i]);
		json_array_append_new(list, json_pack("{s:s,s:b,s:b,s:s,s:b}", "name", names[i], "static", 0, "migration-safe", i > 0,
						      "typename", type, "deprecated", 0));
	}
	ctl_return(c, list);
}

/* A thread that several disks share is one. */
static bool seen_before(struct control *ctl, unsigned i, const struct iothread *io)
{
	for (unsigned k = 0; k < i; k++) {
		struct disk *d = vm_disk_of(ctl->vm, k);

		if (d && d->o.io == io)
			return true;
	}
	return false;
}

void ctl_cmd_query_iothreads(struct ctl_call *c, const struct ctl_args_query_iothreads *a)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm_disk_of(c->ctl->vm, i);

		if (!d || !d->o.io || seen_before(c->ctl, i, d->o.io))
			continue;
		json_array_append_new(list, json_pack("{s:s,s:I,s:i,s:i,s:i,s:i}", "id", iothread_name(d->o.io), "thread-id",
						      (json_int_t)iothread_tid(d->o.io), "poll-max-ns", 0, "poll-grow", 0,
						      "poll-shrink", 0, "aio-max-batch", 0));
	}
	ctl_return(c, list);
}
