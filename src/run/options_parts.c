// SPDX-License-Identifier: GPL-2.0-or-later
/* Parsers of the options for the small devices that a PC may have. */
#include <errno.h>
#include <string.h>

#include "run/options_int.h"

int parse_input(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	return conf_setf(c, val, e, "input.%u", st->n_inputs++);
}

static int tpm_part(void *opaque, const char *name, const char *val, struct err *e)
{
	struct target *t = opaque;

	if (!name)
		return conf_set(t->c, "tpm", !strcmp(val, "on") ? "crb" : val, e);
	if (val && !strcmp(name, "socket"))
		return conf_set(t->c, "tpm-socket", val, e);
	if (val && !strcmp(name, "state"))
		return conf_set(t->c, "tpm-state", val, e);
	return err_set(e, -EINVAL, "'%.40s' is not socket=PATH or state=FOLDER", name);
}

int parse_tpm(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	struct target t = { .c = c };

	return each_part(val, tpm_part, &t, e);
}

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
