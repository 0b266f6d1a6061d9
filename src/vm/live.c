// SPDX-License-Identifier: GPL-2.0-or-later
/* A running VM as its watcher sees it: see live.h. */
#include "vm/live.h"

#include <errno.h>

#include "base/log.h"
#include "machine/iothread.h"
#include "vm/internal.h"
#include "vm/migrate_int.h"
#include "vm/snapshot_int.h"

const char *vm_cause_name(enum vm_cause c)
{
	static const char *const names[] = {
		[VM_CAUSE_NONE] = "none", [VM_CAUSE_HOST_ERROR] = "host-error", [VM_CAUSE_QMP_QUIT] = "host-qmp-quit",
		[VM_CAUSE_QMP_RESET] = "host-qmp-system-reset", [VM_CAUSE_SIGNAL] = "host-signal", [VM_CAUSE_UI] = "host-ui",
		[VM_CAUSE_GUEST_SHUTDOWN] = "guest-shutdown", [VM_CAUSE_GUEST_RESET] = "guest-reset",
		[VM_CAUSE_GUEST_PANIC] = "guest-panic",
	};

	return names[c];
}

bool vm_cause_is_guest(enum vm_cause c)
{
	return c >= VM_CAUSE_GUEST_SHUTDOWN;
}

void vm_set_watch(struct vm *vm, const struct vm_watch *w)
{
	vm->watch = w ? *w : (struct vm_watch){ 0 };
}

void vm_tell(struct vm *vm, enum vm_event ev, enum vm_cause cause)
{
	if (vm->watch.event)
		vm->watch.event(vm->watch.opaque, ev, cause);
}

enum vm_status vm_status(const struct vm *vm)
{
	if (vm->end != VM_PRELAUNCH)
		return vm->end;
	if (vm_migrate_waits(vm))
		return VM_INMIGRATE;
	if (!vm->paused)
		return VM_RUNNING;
	if (vm_migrate_holds(vm))
		return vm_migrate_gone(vm) ? VM_POSTMIGRATE : VM_FINISH_MIGRATE;
	if (vm->prelaunch)
		return VM_PRELAUNCH;
	if (vm->watchdog_stop)
		return VM_WATCHDOG;
	if (vm->debug_stop)
		return VM_DEBUG;
	return vm->stop_wanted ? VM_PAUSED : VM_IO_ERROR;
}

void vm_stop(struct vm *vm)
{
	vm_migrate_stay(vm);
	if (vm_save_holds(vm))
		vm_save_go_on(vm, false);
	if (vm->paused || vm->stop_wanted)
		return;
	vm->stop_wanted = true;
	/* Only that they park: go_on sees the wish. */
	vm_request(vm, MACHINE_REQ_NONE, 0);
}

void vm_reset(struct vm *vm)
{
	if (vm_migrate_holds(vm)) {
		log_warn("the guest is in the hands of a migration, and is not reset");
		return;
	}
	if (vm_save_holds(vm)) {
		vm_save_reset(vm);
		return;
	}
	vm->cause = VM_CAUSE_QMP_RESET;
	vm_request(vm, MACHINE_REQ_RESET, 0);
}

void vm_quit(struct vm *vm)
{
	vm->cause = VM_CAUSE_QMP_QUIT;
	vm_request(vm, MACHINE_REQ_QUIT, VM_EXIT_POWEROFF);
}

void vm_power_button(struct vm *vm)
{
	platform_power_button(vm->platform);
	vm_tell(vm, VM_EVENT_POWERDOWN, VM_CAUSE_NONE);
}

enum vm_watchdog_action vm_watchdog_action(const struct vm *vm) { return vm->watchdog_action; }

void vm_set_watchdog_action(struct vm *vm, enum vm_watchdog_action action)
{
	vm->watchdog_action = action;
}

bool vm_generation_id(const struct vm *vm, uint8_t uuid[16]) { return platform_vmgenid(vm->platform, uuid); }

void vm_nmi(struct vm *vm)
{
	for (unsigned i = 0; i < vm->m->n_vcpus; i++)
		if (vm_has_cpu(vm, i))
			vcpu_raise_nmi(vm->m->vcpus[i]);
}

const struct vm_config *vm_config_of(const struct vm *vm) { return vm->cfg; }
struct machine *vm_machine(const struct vm *vm) { return vm->m; }
const char *vm_engine_name(const struct vm *vm) { return vm->engine_ops->name; }
struct disk *vm_disk_of(const struct vm *vm, unsigned i) { return i < VM_MAX_DISKS ? vm->disk[i] : NULL; }
struct display *vm_screen(const struct vm *vm, unsigned output) { return output < ARRAY_LEN(vm->screen) ? vm->screen[output] : NULL; }
struct input *vm_input(const struct vm *vm) { return vm->input; }
struct keyseq_player *vm_typist(const struct vm *vm) { return vm->typist; }
struct vnc *vm_vnc(const struct vm *vm) { return vm->vnc; }
bool vm_has_usb(const struct vm *vm) { return vm->xhci != NULL; }
struct virtio_dev *vm_balloon_of(const struct vm *vm) { return vm->balloon; }

uint64_t vm_run_ms(const struct vm *vm)
{
	return vm->run_start_ns ? (uint64_t)(loop_now_ns() - vm->run_start_ns) / 1000000 : 0;
}

long vm_vcpu_tid(const struct vm *vm, unsigned id)
{
	return id < vm->m->n_vcpus ? atomic_load(&vm->vcpu[id].tid) : 0;
}

int vm_vcpu_state(const struct vm *vm, unsigned id, struct x86_state *out)
{
	if (id >= vm->m->n_vcpus)
		return -EINVAL;
	if (!vm_has_cpu(vm, id))
		return -ENODEV;
	if (!vm->paused)
		return -EBUSY;
	return vm->engine_ops->state_get(vm->m->vcpus[id], out);
}
