// SPDX-License-Identifier: GPL-2.0-or-later
/* What the host does for a guest: its memory on nodes of the host, in memory from the start, merged; its vCPUs on CPUs of the host. */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cgroup.h"
#include "vm/internal.h"

int vm_place_memory(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	struct mem *mem = vm->m->mem;
	uint64_t at = 0;
	int ret = mem_bind(mem, 0, mem_ram_size(mem), cfg->placement.policy, cfg->placement.nodes, e);

	if (ret)
		return err_prefix(e, ret, "--memory-backing");
	for (unsigned i = 0; i < cfg->n_nodes; i++) {
		ret = mem_bind(mem, at, cfg->node[i].memory, cfg->node[i].placement.policy, cfg->node[i].placement.nodes, e);
		if (ret)
			return err_prefix(e, ret, "--numa: node %u", i);
		at += cfg->node[i].memory;
	}
	if (cfg->mem_merge)
		ret = mem_merge(mem, e);
	if (!ret && cfg->prealloc)
		ret = mem_populate(mem, e);
	if (!ret && cfg->mem_lock)
		ret = mem_lock_ram(mem, e);
	return ret ? err_prefix(e, ret, "--memory-backing") : 0;
}

/* ---- vCPUs ---- */

#define MAX_HOST_CPUS 4096
#define SET_SIZE CPU_ALLOC_SIZE(MAX_HOST_CPUS)

/* By trying: a CPU may be there and yet not this process's to use. */
int vm_check_pins(const struct vm_config *cfg, struct err *e)
{
	cpu_set_t *was = CPU_ALLOC(MAX_HOST_CPUS), *set = CPU_ALLOC(MAX_HOST_CPUS);
	int ret = was && set ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (!ret && sched_getaffinity(0, SET_SIZE, was))
		ret = err_set(e, -errno, "--pin: %s", strerror(errno));
	for (unsigned i = 0; i < cfg->n_pin && !ret; i++) {
		CPU_ZERO_S(SET_SIZE, set);
		CPU_SET_S((size_t)cfg->pin_cpu[i], SET_SIZE, set);
		if (sched_setaffinity(0, SET_SIZE, set))
			ret = err_set(e, -errno, "--pin: host CPU %d cannot be had: %s", cfg->pin_cpu[i],
				      errno == EINVAL ? "it is not there, or not for this process (Cpus_allowed in /proc/self/status)" : strerror(errno));
		else
			sched_setaffinity(0, SET_SIZE, was);
	}
	CPU_FREE(was);
	CPU_FREE(set);
	return ret;
}

int vm_vcpu_pin(struct vm *vm, unsigned id, const unsigned *cpus, unsigned n, struct err *e)
{
	cpu_set_t *set = CPU_ALLOC(MAX_HOST_CPUS);
	long tid = vm_vcpu_tid(vm, id);
	int ret = 0;

	if (!set)
		return err_set(e, -ENOMEM, "out of memory");
	CPU_ZERO_S(SET_SIZE, set);
	for (unsigned i = 0; i < n && !ret; i++) {
		if (cpus[i] >= MAX_HOST_CPUS)
			ret = err_set(e, -EINVAL, "there is no host CPU %u", cpus[i]);
		else
			CPU_SET_S(cpus[i], SET_SIZE, set);
	}
	if (!ret && (!tid || sched_setaffinity((pid_t)tid, SET_SIZE, set)))
		ret = err_set(e, tid ? -errno : -ENODEV, "vCPU %u cannot be put there: %s", id,
			      !tid ? "its thread does not run yet" : errno == EINVAL ? "none of these host CPUs is there and for this process" : strerror(errno));
	CPU_FREE(set);
	return ret;
}

unsigned vm_vcpu_pinned(const struct vm *vm, unsigned id, unsigned *cpus, unsigned max)
{
	cpu_set_t *set = CPU_ALLOC(MAX_HOST_CPUS);
	long tid = vm_vcpu_tid(vm, id);
	unsigned n = 0;

	if (set && tid && !sched_getaffinity((pid_t)tid, SET_SIZE, set))
		for (unsigned i = 0; i < MAX_HOST_CPUS && n < max; i++)
			if (CPU_ISSET_S(i, SET_SIZE, set))
				cpus[n++] = i;
	CPU_FREE(set);
	return n;
}

/* ---- CPU time ---- */

int vm_limit_cpus(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	const char *option = cfg->cpu_weight ? "--cpu-weight" : "--cpu-quota";
	int ret;

	if (!cfg->cpu_weight && !cfg->cpu_quota)
		return 0;
	ret = cgroup_new(NULL, &vm->cgroup, e);
	ret = ret ? ret : vm_set_cpu_limits(vm, cfg->cpu_weight ? &cfg->cpu_weight : NULL, cfg->cpu_quota ? &cfg->cpu_quota : NULL, e);
	return ret ? err_prefix(e, ret, "%s", option) : 0;
}

int vm_set_cpu_limits(struct vm *vm, const unsigned *weight, const unsigned *quota, struct err *e)
{
	int ret;

	if (!weight && !quota)
		return 0;
	if (!vm->cgroup)
		return err_set(e, -ENOTSUP, "the guest has no control group of its own: it was started without --cpu-weight and --cpu-quota");
	ret = weight ? cgroup_set_weight(vm->cgroup, *weight, e) : 0;
	if (!ret && weight)
		vm->cpu_weight = *weight;
	if (!ret && quota)
		ret = cgroup_set_quota(vm->cgroup, *quota, e);
	if (!ret && quota)
		vm->cpu_quota = *quota;
	return ret;
}

const char *vm_cpu_limits(const struct vm *vm, unsigned *weight, unsigned *quota)
{
	*weight = vm->cpu_weight;
	*quota = vm->cpu_quota;
	return vm->cgroup ? cgroup_path(vm->cgroup) : NULL;
}
