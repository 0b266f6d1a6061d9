// SPDX-License-Identifier: GPL-2.0-or-later
/* From a command line to lists of what was asked for, and from there to arguments of `lodge run`. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "qemu/qemu.h"

void qemu_init(struct qemu *q)
{
	struct list *all[] = { &q->drives, &q->blockdevs, &q->devices, &q->netdevs, &q->nics, &q->chardevs, &q->objects, &q->monitors,
			       &q->fdsets, &q->tpmdevs, &q->fsdevs, &q->virtfs, &q->numas };

	memset(q, 0, sizeof(*q));
	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		list_init(all[i]);
	q->memory = 128ull << 20;	/* QEMU's default */
	q->cpus = q->max_cpus = 1;
	q->topology = (struct x86_topology){ 1, 1, 1, 1 };
	q->echr = 1;
}

static void item_free(struct qemu_item *it)
{
	list_del(&it->node);
	props_free(&it->p);
	free(it);
}

void qemu_free(struct qemu *q)
{
	struct list *all[] = { &q->drives, &q->blockdevs, &q->devices, &q->netdevs, &q->nics, &q->chardevs, &q->objects, &q->monitors,
			       &q->fdsets, &q->tpmdevs, &q->fsdevs, &q->virtfs, &q->numas };

	for (unsigned i = 0; i < ARRAY_LEN(all); i++)
		list_for_each_safe(n, all[i])
			item_free(list_entry(n, struct qemu_item, node));
	for (unsigned i = 0; i < q->argc; i++)
		free(q->argv[i]);
	for (unsigned i = 0; i < q->n_kept; i++)
		free(q->kept[i]);
	if (q->part)
		fclose(q->part);
	free(q->part_text);
}

void warn(const char *fmt, ...)
{
	va_list ap;

	fputs("lodge-qemu: warning: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

bool fixed_holds(const char *value, const char *is)
{
	bool is_on, on;

	if (!is)
		return false;
	if (!strcmp(value, is) || !strcmp(value, "auto"))
		return true;
	value = !strcmp(value, "1") ? "on" : !strcmp(value, "0") ? "off" : value;
	return !props_switch(is, &is_on, NULL) && !props_switch(value, &on, NULL) && on == is_on;
}

void warn_fixed(const struct props *p, const char *option, const struct qemu_fixed *list)
{
	for (; list->name; list++) {
		const char *v = props_peek(p, list->name);

		if (v && !fixed_holds(v, list->is))
			warn("%s: %s=%s has no effect", option, list->name, v);
	}
}

/* ---- arguments ---- */

static void emit_owned(struct qemu *q, char *text)
{
	if (!text)
		q->failed = -ENOMEM;
	else if (q->argc == QEMU_MAX_ARGS)
		q->failed = -E2BIG;
	if (!text || q->failed)
		free(text);
	else
		q->argv[q->argc++] = text;
}

void emit(struct qemu *q, const char *arg)
{
	emit_owned(q, strdup(arg));
}

void emitf(struct qemu *q, const char *opt, const char *fmt, ...)
{
	char *text = NULL;
	va_list ap;

	emit(q, opt);
	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	emit_owned(q, text);
}

void emit_begin(struct qemu *q, const char *opt)
{
	emit(q, opt);
	q->part = open_memstream(&q->part_text, &q->part_len);
	if (!q->part)
		q->failed = -ENOMEM;
}

void emit_part(struct qemu *q, const char *name, const char *value)
{
	if (!value || !q->part)
		return;
	if (name)
		fprintf(q->part, ",%s=", name);
	for (; *value; value++) {
		if (*value == ',')
			fputc(',', q->part);
		fputc(*value, q->part);
	}
}

void emit_raw(struct qemu *q, const char *text)
{
	if (q->part)
		fputs(text, q->part);
}

void emit_end(struct qemu *q)
{
	if (!q->part)
		return;
	if (fclose(q->part))
		q->failed = -ENOMEM;
	q->part = NULL;
	emit_owned(q, q->part_text);
	q->part_text = NULL;
}

const char *keep(struct qemu *q, const char *text)
{
	bool room = q->n_kept < QEMU_MAX_ARGS;
	char *copy = room ? strdup(text) : NULL;

	if (!copy) {
		q->failed = room ? -ENOMEM : -E2BIG;
		return "";
	}
	q->kept[q->n_kept++] = copy;
	return copy;
}

const char *keepf(struct qemu *q, const char *fmt, ...)
{
	char *text = NULL;
	const char *kept;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	kept = keep(q, text ? text : "");
	free(text);
	return kept;
}

/* ---- items ---- */

int item_add(struct qemu *q, struct list *l, const char *option, const char *implied, const char *text, struct err *e)
{
	struct qemu_item *it = calloc(1, sizeof(*it));
	int ret = it ? props_parse(text, implied, &it->p, e) : err_set(e, -ENOMEM, "out of memory");

	if (!it)
		return ret;
	if (ret) {
		props_free(&it->p);
		free(it);
		return ret;
	}
	it->option = option;
	it->id = props_take(&it->p, "id");
	if (it->id && item_find(l, it->id)) {
		ret = err_set(e, -EEXIST, "there are two with the ID '%.60s'", it->id);
		props_free(&it->p);
		free(it);
		return ret;
	}
	list_add_tail(l, &it->node);
	return 0;
}

struct qemu_item *item_find(struct list *l, const char *id)
{
	list_for_each(n, l) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if (it->id && id && !strcmp(it->id, id))
			return it;
	}
	return NULL;
}

/* ---- the command line ---- */

bool wants_help(struct qemu *q, const char *list, const char *val)
{
	size_t len = strlen(val);
	const char *last = strrchr(val, ',');

	if (!strcmp(val, "help") || !strcmp(val, "?")) {
		q->list_arg = NULL;
	} else if (last && (!strcmp(last, ",help") || !strcmp(last, ",?"))) {
		q->list_arg = keepf(q, "%.*s", (int)(len - strlen(last)), val);
	} else {
		return false;
	}
	q->ask = QEMU_LIST;
	q->list = list;
	return true;
}

static const struct qemu_option *find_option(const char *arg)
{
	arg += arg[1] == '-' ? 2 : 1;
	for (const struct qemu_option *o = qemu_options; o->name; o++)
		if (!strcmp(o->name, arg))
			return o;
	return NULL;
}

static int parse_one(struct qemu *q, int argc, char **argv, int *i, struct err *e)
{
	const char *arg = argv[*i], *val = NULL;
	const struct qemu_option *o;
	int ret;

	if (arg[0] != '-' || !arg[1])
		return opt_hda(q, arg, e);
	o = find_option(arg);
	if (!o)
		return err_set(e, -EINVAL, "%.60s: invalid option; -help lists those there are", arg);
	if (o->arg) {
		if (*i + 1 >= argc)
			return err_set(e, -EINVAL, "%.60s: requires an argument", arg);
		val = argv[++*i];
	}
	ret = o->parse(q, val, e);
	if (!ret || ret == -EAGAIN)
		return ret;
	return val ? err_prefix(e, ret, "-%s %.120s", o->name, val) : err_prefix(e, ret, "-%s", o->name);
}

int qemu_parse(struct qemu *q, int argc, char **argv, struct err *e)
{
	int ret = 0;

	for (int i = 1; i < argc && !ret; i++)
		ret = parse_one(q, argc, argv, &i, e);
	return ret == -EAGAIN ? 0 : ret;
}

/* What may be given without a use is not an error to QEMU either, but worth a word. */
static void unused(struct list *l)
{
	list_for_each(n, l) {
		struct qemu_item *it = list_entry(n, struct qemu_item, node);

		if (!it->used)
			warn("%s %s is used by nothing", it->option, it->id ? it->id : "without id");
	}
}

int qemu_emit(struct qemu *q, struct err *e)
{
	int ret = emit_flash(q, e);

	if (!ret)
		ret = emit_machine(q, e);
	if (!ret)
		ret = emit_chars(q, e);
	if (!ret)
		ret = emit_objects(q, e);
	if (!ret)
		ret = emit_nodes(q, e);
	if (!ret)
		ret = emit_drives(q, e);
	if (!ret)
		ret = emit_devices(q, e);
	if (!ret && q->serial_bus && !q->n_ports)
		emitf(q, "--port-places", "9");
	if (!ret)
		ret = emit_floppies(q, e);
	if (!ret)
		ret = emit_virtfs(q, e);
	if (!ret)
		ret = emit_nets(q, e);
	if (!ret)
		ret = emit_display(q, e);
	if (!ret && q->failed)
		ret = err_set(e, q->failed, q->failed == -E2BIG ? "there are too many options" : "out of memory");
	if (!ret) {
		unused(&q->netdevs);
		unused(&q->drives);
		unused(&q->blockdevs);
		unused(&q->chardevs);
		unused(&q->tpmdevs);
		unused(&q->fsdevs);
		if (q->usb_controller && !q->usb_device)
			emitf(q, "--usb", "absent");
		else if (q->usb && !q->usb_device)
			warn("%s has no effect: a USB controller comes with a device on it (-device usb-tablet, usb-kbd, usb-mouse, usb-storage)", q->usb);
	}
	return ret;
}
