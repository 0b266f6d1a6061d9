// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vCPUs that come and go.
 *
 * All that there may be are made at the start, with their threads; those that are not
 * there have nothing to run, and their threads wait (vcpu.c).  So plugging one in
 * needs no memory, no new thread in a confined process, and nothing of an engine.
 *
 * One that the guest has ejected is gone for it at once; its thread, which may still
 * be in the engine, is told to come out, and when it has the matter ends (plug_bh).
 */
#include <errno.h>

#include "base/log.h"
#include "vm/hotplug.h"
#include "vm/internal.h"

#define ASKED_NS 5000000000ll		/* for so long a guest is not asked again */

static bool may_come_and_go(const struct vm *vm) { return vm->cfg->max_cpus > vm->cfg->cpus; }

/* Machine lock held, any thread: the guest has ejected it. */
static void on_ejected(void *opaque, unsigned i)
{
	struct vm *vm = opaque;

	vm->vcpu[i].leaving = true;
	vm->vcpu[i].asked_ns = 0;
	vm_vcpu_park(vm, i);
}

/* What saved state has there is what is there, whatever the configuration has. */
static void on_loaded(void *opaque)
{
	struct vm *vm = opaque;

	for (unsigned i = 0; i < vm->cfg->max_cpus; i++) {
		const struct vm_device d = { VM_DEVICE_CPU, i };
		bool there = platform_cpus(vm->platform) >> i & 1;

		vm->vcpu[i].leaving = false;
		vm->vcpu[i].asked_ns = 0;
		if (there != vm_config_has_cpu(vm->cfg, i))
			vm_device_note(vm, &d, there);
	}
	vm_vcpus_parked(vm);
}

void vm_cpus_config(struct vm *vm, struct platform_config *p)
{
	p->cpu_hotplug = may_come_and_go(vm);
	for (unsigned i = 0; i < vm->cfg->max_cpus; i++)
		if (!vm_config_has_cpu(vm->cfg, i))
			p->vcpus_absent |= 1ull << i;
	p->cpu_ejected = on_ejected;
	p->cpus_loaded = on_loaded;
	p->cpu_opaque = vm;
}

bool vm_has_cpu(const struct vm *vm, unsigned i)
{
	return i < vm->m->n_vcpus && vm->m->vcpus[i] && !atomic_load(&vm->m->vcpus[i]->absent);
}

bool vm_cpu_ost(const struct vm *vm, unsigned i, uint32_t *event, uint32_t *status)
{
	return platform_cpu_ost(vm->platform, i, event, status);
}

int vm_cpu_may_come(const struct vm *vm, unsigned i, struct err *e)
{
	if (i >= vm->cfg->max_cpus)
		return err_set(e, -EINVAL, "there is no CPU %u: the guest has at most %u, and the first is 0", i, vm->cfg->max_cpus);
	if (vm->vcpu[i].leaving)
		return err_set(e, -EINPROGRESS, "CPU %u is on its way out: try again when it is gone", i);
	if (vm_config_has_cpu(vm->cfg, i))
		return err_set(e, -EEXIST, "CPU[%u] with APIC ID %u exists", i, i);
	return may_come_and_go(vm) ? 0 : err_set(e, -ENOTSUP, "CPUs come and go where the guest was started with more of --max-cpus than of --cpus");
}

int vm_add_cpu(struct vm *vm, unsigned i, struct err *e)
{
	int ret = platform_cpu_plug(vm->platform, i, e);

	if (ret)
		return err_set(e, ret, "CPU %u cannot be plugged in", i);
	vm_vcpu_unpark(vm, i);
	/* A guest that begins with it finds it in its tables; what is told while it boots it does not hear. */
	return vm->prelaunch ? platform_cpus_tell(vm->platform, e) : 0;
}

int vm_ask_cpu(struct vm *vm, unsigned i, struct err *e)
{
	struct vm_vcpu *t = &vm->vcpu[i];
	bool asked = platform_cpus_asked(vm->platform) >> i & 1;
	int64_t now = loop_now_ns();
	int ret;

	if (!i)
		return err_set(e, -ENOTSUP, "Boot CPU is unpluggable");
	if (t->leaving || (asked && t->asked_ns && now < t->asked_ns + ASKED_NS))
		return err_set(e, -EINPROGRESS, "CPU %u is already in the process of unplug", i);
	ret = vm->prelaunch ? platform_cpu_remove(vm->platform, i) : platform_cpu_ask(vm->platform, i);
	if (!ret && vm->prelaunch) {
		vm_cpus_work(vm);
		return platform_cpus_tell(vm->platform, e);
	}
	if (ret)
		return err_set(e, ret, "CPU %u cannot be taken out: CPUs come and go where the guest was started with more of --max-cpus than of --cpus", i);
	t->asked_ns = now;
	return 0;
}

void vm_remove_cpu(struct vm *vm, unsigned i)
{
	vm->vcpu[i].leaving = false;
	platform_cpu_gone(vm->platform, i);
}

/* ---- on the loop ---- */

void vm_cpus_work(struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg->max_cpus; i++) {
		const struct vm_device d = { VM_DEVICE_CPU, i };

		if (vm->vcpu[i].leaving && atomic_load(&vm->m->vcpus[i]->parked))
			vm_device_remove(vm, &d);
	}
}

void vm_cpus_reset(struct vm *vm)
{
	uint64_t asked = platform_cpus_asked(vm->platform);

	for (unsigned i = 0; i < vm->cfg->max_cpus; i++)
		if (asked >> i & 1)
			platform_cpu_remove(vm->platform, i);
	vm_cpus_work(vm);
}

bool vm_cpus_leave(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->cfg->max_cpus; i++)
		if (vm->vcpu[i].leaving)
			return true;
	return false;
}
