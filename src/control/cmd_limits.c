// SPDX-License-Identifier: GPL-2.0-or-later
/* How much of the host's CPUs a guest gets, and which. */
#include <errno.h>

#include "base/bits.h"
#include "base/cgroup.h"
#include "control/internal.h"

void ctl_cmd_x_lodge_query_limits(struct ctl_call *c, const struct ctl_args_x_lodge_query_limits *a)
{
	unsigned weight, quota, cpus[256];
	const char *path = vm_cpu_limits(c->ctl->vm, &weight, &quota);
	json_t *j = json_object(), *pins = json_array();

	if (weight)
		json_object_set_new(j, "cpu-weight", json_integer(weight));
	if (path) {
		json_object_set_new(j, "cpu-quota", json_integer(quota));
		json_object_set_new(j, "cgroup", json_string(path));
	}
	for (unsigned i = 0; i < c->ctl->m->n_vcpus; i++) {
		unsigned n = vm_has_cpu(c->ctl->vm, i) ? vm_vcpu_pinned(c->ctl->vm, i, cpus, ARRAY_LEN(cpus)) : 0;
		json_t *list = json_array();

		for (unsigned k = 0; k < n; k++)
			json_array_append_new(list, json_integer(cpus[k]));
		if (vm_has_cpu(c->ctl->vm, i))
			json_array_append_new(pins, json_pack("{s:i,s:o}", "cpu-index", (int)i, "host-cpus", list));
		else
			json_decref(list);
	}
	json_object_set_new(j, "pins", pins);
	ctl_return(c, j);
}

void ctl_cmd_x_lodge_set_limits(struct ctl_call *c, const struct ctl_args_x_lodge_set_limits *a)
{
	unsigned weight = (unsigned)a->cpu_weight, quota = (unsigned)a->cpu_quota;
	struct err e = { "" };

	if (a->has_cpu_weight && (a->cpu_weight < 1 || a->cpu_weight > CGROUP_WEIGHT_MAX))
		ctl_fail(c, CTL_GENERIC_ERROR, "cpu-weight is from 1 to %u", CGROUP_WEIGHT_MAX);
	else if (a->has_cpu_quota && a->cpu_quota > CGROUP_QUOTA_MAX)
		ctl_fail(c, CTL_GENERIC_ERROR, "cpu-quota is at most %u", CGROUP_QUOTA_MAX);
	else if (vm_set_cpu_limits(c->ctl->vm, a->has_cpu_weight ? &weight : NULL, a->has_cpu_quota ? &quota : NULL, &e))
		ctl_fail(c, CTL_GENERIC_ERROR, "%s", e.msg);
	else
		ctl_return(c, json_object());
}

void ctl_cmd_x_lodge_vcpu_pin(struct ctl_call *c, const struct ctl_args_x_lodge_vcpu_pin *a)
{
	const json_t *list = json_object_get(c->args, "host-cpus"), *x;
	unsigned cpus[256], n = 0;
	struct err e = { "" };
	size_t i;

	if (a->cpu_index < 0 || a->cpu_index >= c->ctl->m->n_vcpus || !vm_has_cpu(c->ctl->vm, (unsigned)a->cpu_index)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "there is no CPU %lld", (long long)a->cpu_index);
		return;
	}
	json_array_foreach(list, i, x)
		if (n < ARRAY_LEN(cpus))
			cpus[n++] = (unsigned)json_integer_value(x);
	if (!n || json_array_size(list) > ARRAY_LEN(cpus))
		ctl_fail(c, CTL_GENERIC_ERROR, "host-cpus are one CPU at least, and at most %zu", ARRAY_LEN(cpus));
	else if (vm_vcpu_pin(c->ctl->vm, (unsigned)a->cpu_index, cpus, n, &e))
		ctl_fail(c, CTL_GENERIC_ERROR, "%s", e.msg);
	else
		ctl_return(c, json_object());
}
