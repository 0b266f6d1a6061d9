// SPDX-License-Identifier: GPL-2.0-or-later
/* Parsers of the options for the small devices that a PC may have. */
#include <errno.h>
#include <string.h>

#include "run/options_int.h"

static int watchdog_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "watchdog", val, e);
	if (val && !strcmp(name, "action"))
		return conf_set(t->c, "watchdog-action", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not action=reset|shutdown|poweroff|pause|debug|none|inject-nmi", name);
}

int parse_watchdog(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, watchdog_part, &t, e);
}
