// SPDX-License-Identifier: GPL-2.0-or-later
/* What the file `state` of a saved guest has: clock, vCPUs and devices of a machine that stands still (snapshot_file.c has its form). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/snap.h"
#include "vm/internal.h"
#include "vm/snapshot_int.h"

static int put_vcpus(struct vm *vm, struct snap_out *o, struct err *e)
{
	struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
	int ret = s ? 0 : -ENOMEM;

	for (unsigned i = 0; i < vm->m->n_vcpus && !ret; i++) {
		struct vcpu *v = vm->m->vcpus[i];
		struct x86_pending p;

		/* State first: the engine may turn what it has into events. */
		ret = vm->engine_ops->state_get(v, s);
		p = (struct x86_pending){ .events = atomic_load(&v->events), .sipi_vector = atomic_load(&v->sipi_vector), .nmis = atomic_load(&v->nmis) };
		if (!ret && (s->efer & X86_EFER_SVME || s->cr4 & X86_CR4_VMXE)) {
			const char *what = s->efer & X86_EFER_SVME ? "SVM" : "VMX";

			free(s);
			return err_set(e, -ENOTSUP, "the guest has switched virtualization on (%s), whose state is not saved", what);
		}
		if (!ret)
			ret = x86_state_save(o, i, s, &p);
	}
	free(s);
	return ret ? err_set(e, ret, "the state of the vCPUs: %s", strerror(-ret)) : 0;
}

static int put_machine(struct vm *vm, struct snap_out *o, struct err *e)
{
	struct snapshot_machine r = { .mem_size = mem_ram_size(vm->m->mem), .n_vcpus = vm->m->n_vcpus, .clock_ns = clock_now(vm->m->clock),
				      .kernel_chips = vm->engine_ops->has_irqchip(vm->engine), .kernel_lapic = vm->engine_ops->has_lapic(vm->engine),
				      .watchdog_action = vm->watchdog_action };
	struct engine_clock t = { 0 };
	int ret = vm->engine_ops->clock_get(vm->engine, &t);

	r.engine_ns = t.ns;
	r.tsc = t.tsc;
	snprintf(r.engine, sizeof(r.engine), "%s", vm->engine_ops->name);
	ret = ret ? ret : snap_put(o, "machine", &snapshot_machine_table, &r);
	return ret ? err_set(e, ret, "the state of the machine: %s", strerror(-ret)) : 0;
}

static int put_devices(struct vm *vm, struct snap_out *o, struct err *e)
{
	const char *who = "";
	int ret = machine_save_devs(vm->m, o, &who);

	return ret ? err_set(e, ret, "the state of device %s cannot be saved: %s", who, strerror(-ret)) : 0;
}

int vm_state_take(struct vm *vm, struct vm_state *s, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < SNAPSHOT_MEMORY && !ret; i++)
		if (snap_out_new(&s->o[i]))
			ret = err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : put_machine(vm, s->o[SNAPSHOT_MACHINE], e);
	if (!ret && x86_model_save(s->o[SNAPSHOT_CPU], &vm->model))
		ret = err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : put_vcpus(vm, s->o[SNAPSHOT_VCPUS], e);
	return ret ? ret : put_devices(vm, s->o[SNAPSHOT_DEVICES], e);
}

int vm_state_put(struct vm_state *s, int fd, struct err *e)
{
	struct snapshot_section sect[SNAPSHOT_SECTIONS] = { 0 };

	for (unsigned i = 0; i < SNAPSHOT_SECTIONS; i++)
		if (s->o[i])
			sect[i].data = snap_out_data(s->o[i], &sect[i].len);
	return snapshot_file_write(fd, sect, e);
}

void vm_state_free(struct vm_state *s)
{
	for (unsigned i = 0; i < SNAPSHOT_SECTIONS; i++)
		snap_out_free(s->o[i]);
	*s = (struct vm_state){ 0 };
}

int vm_state_write(struct vm *vm, int fd, struct err *e)
{
	struct vm_state s = { 0 };
	int ret = vm_state_take(vm, &s, e);

	ret = ret ? ret : vm_state_put(&s, fd, e);
	vm_state_free(&s);
	return ret;
}
