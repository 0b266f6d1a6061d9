// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands and events of the small devices. */
#include "control/internal.h"

static const char *const watchdog_actions[] = {
	[VM_WATCHDOG_RESET] = "reset", [VM_WATCHDOG_SHUTDOWN] = "shutdown", [VM_WATCHDOG_POWEROFF] = "poweroff",
	[VM_WATCHDOG_PAUSE] = "pause", [VM_WATCHDOG_DEBUG] = "debug", [VM_WATCHDOG_NONE] = "none", [VM_WATCHDOG_NMI] = "inject-nmi",
};

void ctl_watchdog_event(struct control *ctl)
{
	ctl_emit(ctl, CTL_EVENT_WATCHDOG, json_pack("{s:s}", "action", watchdog_actions[vm_watchdog_action(ctl->vm)]));
}

void ctl_cmd_watchdog_set_action(struct ctl_call *c, const struct ctl_args_watchdog_set_action *a)
{
	vm_set_watchdog_action(c->ctl->vm, (enum vm_watchdog_action)a->action);
}
