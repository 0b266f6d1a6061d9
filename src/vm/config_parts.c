// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of the small devices that a PC may have: watchdog. */
#include "vm/config_int.h"

#include <errno.h>
#include <string.h>

static const char *const watchdog_words[] = { "none", "i6300esb", NULL };	/* as enum vm_watchdog */
static const char *const action_words[] = { "reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi", NULL };

int config_part(const char *key, const char *val, struct vm_config *v, struct err *e)
{
	int w = 0, ret;

	if (!strcmp(key, "watchdog")) {
		ret = config_word(val, watchdog_words, &w, e);
		v->watchdog = (enum vm_watchdog)w;
		return ret;
	}
	if (!strcmp(key, "watchdog-action")) {
		ret = config_word(val, action_words, &w, e);
		v->watchdog_action = (enum vm_watchdog_action)w;
		return ret;
	}
	return -ENOENT;
}

int config_check_parts(struct vm_config *v, struct err *e)
{
	if (v->machine == VM_MACHINE_MICRO && v->watchdog)
		return err_set(e, -EINVAL, "--watchdog needs PCI, which --machine micro has not; use --machine pc");
	return 0;
}
