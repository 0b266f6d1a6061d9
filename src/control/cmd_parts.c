// SPDX-License-Identifier: GPL-2.0-or-later
/* Commands and events of the small devices. */
#include <stdio.h>

#include "control/internal.h"

json_t *ctl_uuid(const uint8_t u[16])
{
	char text[37];

	snprintf(text, sizeof(text), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4],
		 u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	return json_string(text);
}

void ctl_cmd_query_vm_generation_id(struct ctl_call *c, const struct ctl_args_query_vm_generation_id *a)
{
	uint8_t u[16];

	if (!vm_generation_id(c->ctl->vm, u)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "VM Generation ID device not found");
		return;
	}
	ctl_return(c, json_pack("{s:o}", "guid", ctl_uuid(u)));
}

void ctl_cmd_query_tpm_models(struct ctl_call *c, const struct ctl_args_query_tpm_models *a)
{
	ctl_return(c, json_pack("[ss]", "tpm-tis", "tpm-crb"));
}

void ctl_cmd_query_tpm_types(struct ctl_call *c, const struct ctl_args_query_tpm_types *a)
{
	ctl_return(c, json_pack("[s]", "emulator"));
}

void ctl_cmd_query_tpm(struct ctl_call *c, const struct ctl_args_query_tpm *a)
{
	const struct vm_config *cfg = vm_config_of(c->ctl->vm);
	const char *where = cfg->tpm_socket ? cfg->tpm_socket : cfg->tpm_state ? cfg->tpm_state : "";
	json_t *list = json_array();

	if (cfg->tpm)
		json_array_append_new(list, json_pack("{s:s,s:s,s:{s:s,s:{s:s+}}}", "id", "tpm0", "model",
						      cfg->tpm == VM_TPM_CRB ? "tpm-crb" : "tpm-tis", "options", "type", "emulator",
						      "data", "chardev", where, ""));
	ctl_return(c, list);
}

void ctl_watchdog_event(struct control *ctl)
{
	ctl_emit(ctl, CTL_EVENT_WATCHDOG, json_pack("{s:s}", "action", vm_watchdog_action_words[vm_watchdog_action(ctl->vm)]));
}

void ctl_cmd_watchdog_set_action(struct ctl_call *c, const struct ctl_args_watchdog_set_action *a)
{
	vm_set_watchdog_action(c->ctl->vm, (enum vm_watchdog_action)a->action);
}
