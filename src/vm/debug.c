// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A debugger's side of a VM: see live.h.
 *
 * A vCPU that stops for it asks for MACHINE_REQ_DEBUG, and the VM stands still as
 * when it is paused.  A step runs that vCPU alone; the others stay parked.
 */
#include <errno.h>

#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/snapshot_int.h"

static int set_all(struct vm *vm, int step)
{
	int ret = vm->engine_ops->debug ? 0 : -ENOTSUP;

	for (unsigned i = 0; i < vm->m->n_vcpus && !ret; i++)
		ret = vm->engine_ops->debug(vm->m->vcpus[i], vm->debug, (int)i == step);
	return ret;
}

int vm_debug_points(struct vm *vm, const struct cpu_debug *d)
{
	/* Breakpoints would go along in the guest's memory. */
	if (d && vm_migrate_busy(vm))
		return -EBUSY;
	vm->debug = d;
	return vm->paused || vm->quit ? set_all(vm, -1) : -EBUSY;
}

int vm_debug_go(struct vm *vm, int step)
{
	int ret = step >= 0 && !vm_has_cpu(vm, (unsigned)step) ? -ENODEV : vm->paused && !vm_migrate_holds(vm) && !vm_save_holds(vm) ? set_all(vm, step) : -EBUSY;

	if (ret)
		return ret;
	pthread_mutex_lock(&vm->run_lock);
	vm->only = step + 1;
	pthread_mutex_unlock(&vm->run_lock);
	vm_resume(vm);
	return 0;
}

int vm_debug_stopped(const struct vm *vm, const struct cpu_debug_stop **why)
{
	if (!vm->debug_stop)
		return -1;
	*why = vm->engine_ops->debug_stop(vm->m->vcpus[vm->debug_vcpu]);
	return (int)vm->debug_vcpu;
}

int vm_vcpu_set_state(struct vm *vm, unsigned id, const struct x86_state *s)
{
	if (id >= vm->m->n_vcpus)
		return -EINVAL;
	if (!vm_has_cpu(vm, id))
		return -ENODEV;
	return vm->paused ? vm->engine_ops->state_set(vm->m->vcpus[id], s) : -EBUSY;
}
