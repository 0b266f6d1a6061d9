// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * From a text to a command, and from its outcome to the answer.  Errors and their
 * order are those of QEMU's dispatcher, whose words clients match.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/internal.h"

static const char *const class_names[] = {
	[CTL_GENERIC_ERROR] = "GenericError", [CTL_COMMAND_NOT_FOUND] = "CommandNotFound",
	[CTL_DEVICE_NOT_ACTIVE] = "DeviceNotActive", [CTL_DEVICE_NOT_FOUND] = "DeviceNotFound",
	[CTL_KVM_MISSING_CAP] = "KVMMissingCap",
};

json_t *ctl_error_json(enum ctl_class class, const char *desc)
{
	json_t *j = json_pack("{s:{s:s,s:s+}}", "error", "class", class_names[class], "desc", desc, "");

	/* What a file or host is called need not be UTF-8. */
	return j ? j : json_pack("{s:{s:s,s:s}}", "error", "class", class_names[class], "desc", "an error whose text cannot be shown");
}

/* What QEMU's version is for clients: by it they tell which commands to expect. */
json_t *ctl_version_json(void)
{
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "micro", 0, "minor", 2, "major", 7, "package", "lodge-" LODGE_VERSION);
}

/* ---- for handlers ---- */

void ctl_return(struct ctl_call *c, json_t *value)
{
	json_decref(c->ret);
	c->ret = value;
	if (!value)
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
}

void ctl_fail(struct ctl_call *c, enum ctl_class class, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->e.msg, sizeof(c->e.msg), fmt, ap);
	va_end(ap);
	c->failed = true;
	c->class = class;
}

bool ctl_failed(struct ctl_call *c, int ret, const struct err *e)
{
	if (ret >= 0)
		return false;
	ctl_fail(c, CTL_GENERIC_ERROR, "%s", e && e->msg[0] ? e->msg : strerror(-ret));
	return true;
}

/* ---- answers ---- */

static void answer(struct ctl_call *c)
{
	json_t *j;

	if (!c->mon)
		return;
	if (c->failed)
		j = ctl_error_json(c->class, c->e.msg);
	else
		j = json_pack("{s:o}", "return", c->ret ? json_incref(c->ret) : json_object());
	if (j && c->id && json_object_set(j, "id", c->id)) {
		json_decref(j);
		j = NULL;
	}
	ctl_monitor_send(c->mon, j, false);
}

static void fini(struct ctl_call *c)
{
	json_decref(c->ret);
	json_decref(c->id);
	json_decref(c->args);
}

struct ctl_call *ctl_defer(struct ctl_call *c, struct list *waiting)
{
	struct ctl_call *d = malloc(sizeof(*d));

	if (!d) {
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
		return NULL;
	}
	c->deferred = true;
	*d = *c;
	list_add_tail(waiting, &d->node);
	if (d->mon && !d->oob)
		d->mon->pending = d;
	return d;
}

void ctl_answer(struct ctl_call *c)
{
	list_del(&c->node);
	answer(c);
	if (c->mon && c->mon->pending == c) {
		c->mon->pending = NULL;
		loop_bh_post(&c->mon->step);
	}
	fini(c);
	free(c);
}

/* ---- texts ---- */

void ctl_text_read(struct ctl_text *t, const char *buf, size_t len, const char *why)
{
	json_error_t je;

	t->msg = NULL;
	t->why[0] = '\0';
	if (!why) {
		t->msg = json_loadb(buf, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
		if (!t->msg)
			snprintf(t->why, sizeof(t->why), "JSON parse error, %.120s", je.text);
	} else {
		snprintf(t->why, sizeof(t->why), "%s", why);
	}
	if (t->msg && !json_is_object(t->msg)) {
		json_decref(t->msg);
		t->msg = NULL;
		snprintf(t->why, sizeof(t->why), "QMP input must be a JSON object");
	}
}

bool ctl_text_is_oob(const struct ctl_text *t)
{
	return json_object_get(t->msg, "exec-oob") != NULL && !json_object_get(t->msg, "execute");
}

/* The form of a request; the command's name in *name. */
static int check_request(json_t *msg, bool oob, const char **name, struct err *e)
{
	const char *key;
	json_t *v;

	*name = NULL;
	json_object_foreach(msg, key, v) {
		if (!strcmp(key, "execute") || (oob && !strcmp(key, "exec-oob"))) {
			if (!json_is_string(v))
				return err_set(e, -EINVAL, "QMP input member '%s' must be a string", key);
			if (*name)
				return err_set(e, -EINVAL, "QMP input member '%s' clashes with '%s'", "exec-oob", "execute");
			*name = json_string_value(v);
		} else if (!strcmp(key, "arguments")) {
			if (!json_is_object(v))
				return err_set(e, -EINVAL, "QMP input member 'arguments' must be an object");
		} else if (strcmp(key, "id")) {
			return err_set(e, -EINVAL, "QMP input member '%.60s' is unexpected", key);
		}
	}
	return *name ? 0 : err_set(e, -EINVAL, "QMP input lacks member 'execute'");
}

/* Which commands there are before and after the negotiation. */
static const struct ctl_command *find(struct ctl_call *c, const char *name)
{
	bool negotiate = !strcmp(name, "qmp_capabilities");
	const struct ctl_command *cmd = ctl_find_command(name);

	if (c->mon && !c->mon->negotiated && !negotiate) {
		ctl_fail(c, CTL_COMMAND_NOT_FOUND, "Expecting capabilities negotiation with 'qmp_capabilities'");
		return NULL;
	}
	if (c->mon && c->mon->negotiated && negotiate) {
		ctl_fail(c, CTL_COMMAND_NOT_FOUND, "Capabilities negotiation is already complete, command ignored");
		return NULL;
	}
	if (!cmd)
		ctl_fail(c, CTL_COMMAND_NOT_FOUND, "The command %.200s has not been found", name);
	return cmd;
}

static void call(struct ctl_call *c, json_t *msg)
{
	const struct ctl_command *cmd;
	const char *name;
	int ret;

	ret = check_request(msg, c->mon->oob, &name, &c->e);
	if (ret) {
		c->failed = true;
		return;
	}
	cmd = find(c, name);
	if (!cmd)
		return;
	if (c->oob && !cmd->oob) {
		ctl_fail(c, CTL_GENERIC_ERROR, "The command %s does not support OOB", name);
		return;
	}
	c->args = json_object_get(msg, "arguments");
	c->args = c->args ? json_incref(c->args) : json_object();
	if (!c->args)
		ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
	else if (ctl_check(cmd->args, c->args, "", &c->e))
		c->failed = true;
	else
		cmd->run(c, c->args);
}

void ctl_text_run(struct ctl_monitor *m, struct ctl_text *t)
{
	struct ctl_call c = { .ctl = m->ctl, .mon = m, .oob = ctl_text_is_oob(t) };

	if (t->msg) {
		c.id = json_incref(json_object_get(t->msg, "id"));
		call(&c, t->msg);
	} else {
		ctl_fail(&c, CTL_GENERIC_ERROR, "%s", t->why);
	}
	json_decref(t->msg);
	if (c.deferred)
		return;
	answer(&c);
	fini(&c);
}

void ctl_cmd_qmp_capabilities(struct ctl_call *c, const struct ctl_args_qmp_capabilities *a)
{
	if (!c->mon)
		return;
	c->mon->negotiated = true;
	c->mon->oob = json_array_size(a->enable) > 0;	/* there is one capability */
}
