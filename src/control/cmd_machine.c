// SPDX-License-Identifier: GPL-2.0-or-later
/* The machine as a whole: run state, power, balloon, and what it tells of itself. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "control/device.h"
#include "control/disk.h"
#include "virtio/balloon.h"
#include "vm/migrate.h"

/* ---- events of the VM ---- */

static void answer_stops(struct control *ctl)
{
	list_for_each_safe(n, &ctl->stops)
		ctl_answer(list_entry(n, struct ctl_call, node));
}

static json_t *cause(enum vm_cause c)
{
	return json_pack("{s:b,s:s}", "guest", vm_cause_is_guest(c), "reason", vm_cause_name(c));
}

static void on_vm_event(void *opaque, enum vm_event ev, enum vm_cause c)
{
	struct control *ctl = opaque;

	gdb_vm_event(ctl, ev);
	switch (ev) {
	case VM_EVENT_STOP:
		ctl_emit(ctl, CTL_EVENT_STOP, NULL);
		answer_stops(ctl);
		break;
	case VM_EVENT_STAY:
		answer_stops(ctl);
		break;
	case VM_EVENT_RESUME:
		ctl_disks_resumed(ctl);
		ctl_emit(ctl, CTL_EVENT_RESUME, NULL);
		break;
	case VM_EVENT_RESET:
		ctl_emit(ctl, CTL_EVENT_RESET, cause(c));
		break;
	case VM_EVENT_POWERDOWN:
		ctl_emit(ctl, CTL_EVENT_POWERDOWN, NULL);
		break;
	case VM_EVENT_PANIC:
		ctl_emit(ctl, CTL_EVENT_GUEST_PANICKED, json_pack("{s:s}", "action", "poweroff"));
		break;
	case VM_EVENT_SHUTDOWN:
		ctl_emit(ctl, CTL_EVENT_SHUTDOWN, cause(c));
		break;
	case VM_EVENT_WATCHDOG:
		ctl_watchdog_event(ctl);
		break;
	case VM_EVENT_MIGRATION:
		ctl_migration_event(ctl);
		break;
	case VM_EVENT_SUSPEND_DENIED:
		break;
	}
}

/* ---- events of devices ---- */

static uint64_t balloon_actual(struct control *ctl)
{
	uint64_t all = vm_config_of(ctl->vm)->memory;
	struct virtio_balloon_info i;

	virtio_balloon_get(vm_balloon_of(ctl->vm), &i);
	return all - MIN(i.actual, all);
}

static void on_machine_event(void *opaque, enum machine_event ev, int64_t value)
{
	struct control *ctl = opaque;

	switch (ev) {
	case MACHINE_EV_RTC_CHANGE:
		ctl_emit(ctl, CTL_EVENT_RTC_CHANGE, json_pack("{s:I,s:s}", "offset", (json_int_t)value, "qom-path", "/machine/rtc"));
		break;
	case MACHINE_EV_PORT_CHANGE:
		ctl_port_event(ctl, value);
		break;
	case MACHINE_EV_CPU_OST:
		ctl_cpu_event(ctl, (unsigned)value);
		break;
	case MACHINE_EV_MEMORY_SIZE:
		ctl_memory_event(ctl, (unsigned)value);
		break;
	case MACHINE_EV_BALLOON_CHANGE:
		ctl_emit(ctl, CTL_EVENT_BALLOON_CHANGE, json_pack("{s:I}", "actual", (json_int_t)balloon_actual(ctl)));
		break;
	}
}

void ctl_machine_init(struct control *ctl)
{
	const struct vm_watch w = { .event = on_vm_event, .device = ctl_device_event, .busy = ctl_disk_in_use, .opaque = ctl };

	vm_set_watch(ctl->vm, &w);
	ctl->m->event = on_machine_event;
	ctl->m->event_opaque = ctl;
}

void ctl_machine_fini(struct control *ctl)
{
	ctl_drives_free(ctl);
	vm_set_watch(ctl->vm, NULL);
	ctl->m->event = NULL;
	answer_stops(ctl);
}

/* ---- run state ---- */

static const char *status_name(const struct control *ctl)
{
	static const char *const names[] = {
		[VM_PRELAUNCH] = "prelaunch", [VM_RUNNING] = "running", [VM_PAUSED] = "paused", [VM_IO_ERROR] = "io-error",
		[VM_WATCHDOG] = "watchdog", [VM_DEBUG] = "debug",
		[VM_SHUT_DOWN] = "shutdown", [VM_PANICKED] = "guest-panicked", [VM_INTERNAL_ERROR] = "internal-error",
		[VM_INMIGRATE] = "inmigrate", [VM_FINISH_MIGRATE] = "finish-migrate", [VM_POSTMIGRATE] = "postmigrate",
	};

	return names[vm_status(ctl->vm)];
}

void ctl_cmd_query_status(struct ctl_call *c, const struct ctl_args_query_status *a)
{
	ctl_return(c, json_pack("{s:s,s:b,s:b}", "status", status_name(c->ctl), "singlestep", 0, "running",
				vm_status(c->ctl->vm) == VM_RUNNING));
}

void ctl_cmd_stop(struct ctl_call *c, const struct ctl_args_stop *a)
{
	/* Without a client (HMP) nobody waits. */
	if (c->mon && !vm_paused(c->ctl->vm))
		ctl_defer(c, &c->ctl->stops);
	/* It may stand still for a migration. */
	vm_stop(c->ctl->vm);
}

void ctl_cmd_cont(struct ctl_call *c, const struct ctl_args_cont *a)
{
	struct err e = { "" };

	int ret = vm_migrate_may_run(c->ctl->vm, &e);

	if (!ctl_failed(c, ret, &e) && !ret)
		vm_resume(c->ctl->vm);
}

void ctl_cmd_quit(struct ctl_call *c, const struct ctl_args_quit *a)
{
	vm_quit(c->ctl->vm);
}

void ctl_cmd_system_reset(struct ctl_call *c, const struct ctl_args_system_reset *a)
{
	vm_reset(c->ctl->vm);
}

void ctl_cmd_system_powerdown(struct ctl_call *c, const struct ctl_args_system_powerdown *a)
{
	vm_power_button(c->ctl->vm);
}

void ctl_cmd_inject_nmi(struct ctl_call *c, const struct ctl_args_inject_nmi *a)
{
	vm_nmi(c->ctl->vm);
}

/* ---- balloon ---- */

static struct virtio_dev *balloon_of(struct ctl_call *c)
{
	struct virtio_dev *d = vm_balloon_of(c->ctl->vm);

	if (!d)
		ctl_fail(c, CTL_DEVICE_NOT_ACTIVE, "No balloon device has been activated");
	return d;
}

void ctl_cmd_query_balloon(struct ctl_call *c, const struct ctl_args_query_balloon *a)
{
	if (balloon_of(c))
		ctl_return(c, json_pack("{s:I}", "actual", (json_int_t)balloon_actual(c->ctl)));
}

void ctl_cmd_balloon(struct ctl_call *c, const struct ctl_args_balloon *a)
{
	uint64_t all = vm_config_of(c->ctl->vm)->memory;
	struct virtio_dev *d = balloon_of(c);

	if (!d)
		return;
	if (a->value <= 0)
		ctl_fail(c, CTL_GENERIC_ERROR, "Parameter 'target' expects a size");
	else
		virtio_balloon_set_target(d, all - MIN((uint64_t)a->value, all));
}

/* ---- network ---- */

void ctl_cmd_set_link(struct ctl_call *c, const struct ctl_args_set_link *a)
{
	char name[16];

	for (unsigned i = 0; i < VM_MAX_NETS; i++) {
		snprintf(name, sizeof(name), "net%u", i);
		if (!strcmp(name, a->name) && vm_net_set_link(c->ctl->vm, i, a->up))
			return;
	}
	ctl_fail(c, CTL_DEVICE_NOT_FOUND, "Device '%.64s' not found", a->name);
}

/* ---- what it is ---- */

static void add_stat(void *opaque, const char *name, uint64_t value)
{
	json_array_append_new(opaque, json_pack("{s:s,s:I}", "name", name, "value", (json_int_t)MIN(value, (uint64_t)INT64_MAX)));
}

void ctl_cmd_x_lodge_stats(struct ctl_call *c, const struct ctl_args_x_lodge_stats *a)
{
	json_t *list = json_array();

	if (list)
		vm_stats(c->ctl->vm, add_stat, list);
	ctl_return(c, list);
}

void ctl_cmd_x_lodge_info(struct ctl_call *c, const struct ctl_args_x_lodge_info *a)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);

	ctl_return(c, json_pack("{s:s+,s:I,s:s,s:s,s:i,s:I,s:s,s:I}", "name", cfg->name, "", "pid", (json_int_t)getpid(), "machine",
				cfg->machine == VM_MACHINE_PC ? "pc" : "micro", "engine", vm_engine_name(c->ctl->vm), "cpus",
				(int)vm_config_n_cpus(cfg), "memory", (json_int_t)cfg->memory, "status", status_name(c->ctl), "run-ms",
				(json_int_t)vm_run_ms(c->ctl->vm)));
}
