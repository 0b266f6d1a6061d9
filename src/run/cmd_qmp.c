// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * `lodge qmp` and `lodge ps`: running guests, found by the folders of their
 * control sockets (control/place.h).
 *
 * The words KEY=VALUE become JSON of the type that the command's argument has in
 * the schema this program was built with.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/place.h"
#include "control/schema_gen.h"
#include "run/opts.h"
#include "run/qmp.h"

#define PS_TIMEOUT_MS 2000

static const struct ctl_type *type_of(const struct ctl_type *args, const char *key, size_t len)
{
	for (const struct ctl_member *m = args ? args->members : NULL; m && m->name; m++)
		if (strlen(m->name) == len && !strncmp(m->name, key, len))
			return m->type;
	return NULL;
}

static json_t *bool_of(const char *val)
{
	if (!strcmp(val, "on") || !strcmp(val, "yes") || !strcmp(val, "true"))
		return json_true();
	return !strcmp(val, "off") || !strcmp(val, "no") || !strcmp(val, "false") ? json_false() : NULL;
}

/* A number may have a unit: 2G. */
static json_t *int_of(const char *val)
{
	static const char units[] = "KMGT";
	const char *unit;
	long long n;
	char *end;

	errno = 0;
	n = strtoll(val, &end, 0);
	if (end == val || errno)
		return NULL;
	unit = *end ? strchr(units, *end & ~0x20) : NULL;
	if (unit && *unit && !end[1])
		return __builtin_mul_overflow(n, 1ll << (10 * (unit - units + 1)), &n) ? NULL : json_integer(n);
	return *end ? NULL : json_integer(n);
}

static json_t *value_of(const struct ctl_type *t, const char *val)
{
	if (t && (t->kind == CTL_STR || t->kind == CTL_ENUM))
		return json_string(val);
	if (t && t->kind == CTL_BOOL)
		return bool_of(val);
	if (t && t->kind == CTL_INT)
		return int_of(val);
	return json_loads(val, JSON_DECODE_ANY, NULL);
}

static int add_word(json_t *args, const struct ctl_command *cmd, const char *word, struct err *e)
{
	const char *eq = strchr(word, '=');
	const struct ctl_type *t;
	json_t *v;

	if (word[0] == '{') {
		json_error_t je;
		json_t *more = json_loads(word, JSON_REJECT_DUPLICATES, &je);
		int ret = more ? json_object_update(args, more) : -1;

		json_decref(more);
		return ret ? err_set(e, -EINVAL, "'%.60s' is not JSON: %s", word, je.text) : 0;
	}
	if (!eq || eq == word)
		return err_set(e, -EINVAL, "'%.60s' is neither KEY=VALUE nor JSON", word);
	t = type_of(cmd ? cmd->args : NULL, word, (size_t)(eq - word));
	v = value_of(t, eq + 1);
	if (!v && (!t || t->kind == CTL_ANY))
		v = json_string(eq + 1);
	if (!v)
		return err_set(e, -EINVAL, "'%.60s': its value is not %s", word, t->kind == CTL_INT ? "a number" :
			       t->kind == CTL_BOOL ? "on or off" : "JSON");
	return json_object_setn_new(args, word, (size_t)(eq - word), v) ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static void print(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
	fflush(stdout);
}

static int run_command(struct qmp *q, int n, char **word, struct err *e)
{
	json_t *args = n > 1 ? json_object() : NULL, *back = NULL;
	int ret = 0;

	for (int i = 1; i < n && !ret; i++)
		ret = add_word(args, ctl_find_command(word[0]), word[i], e);
	if (ret)
		json_decref(args);
	else
		ret = qmp_call(q, word[0], args, &back, e);
	if (!ret)
		print(back);
	json_decref(back);
	return ret;
}

/* Until the guest ends. */
static int print_events(struct qmp *q, struct err *e)
{
	json_t *j;
	int ret;

	while (!(ret = qmp_event(q, &j, e))) {
		print(j);
		json_decref(j);
	}
	return ret == -EPIPE ? 0 : ret;
}

int qmp_main(const struct verb *v, int argc, char **argv)
{
	struct err e = { 0 };
	struct qmp *q;
	int ret;

	if (argc > 1 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		opts_help(v, stdout);
		return 0;
	}
	if (argc == 2 && argv[1][0] == '-') {
		fprintf(stderr, "lodge: unknown option '%s'; see 'lodge qmp --help'\n", argv[1]);
		return 1;
	}
	if (argc < 3) {
		opts_help(v, stderr);
		return 1;
	}
	ret = qmp_open(argv[1], 0, &q, &e);
	if (!ret) {
		ret = !strcmp(argv[2], "--events") ? print_events(q, &e) : run_command(q, argc - 2, argv + 2, &e);
		qmp_close(q);
	}
	if (ret)
		fprintf(stderr, "lodge: %s\n", e.msg);
	return ret != 0;
}

/* ---- ps ---- */

/* NULL: it does not run.  One that is there and does not answer (stopped by a debugger, stuck) must not keep the others
 * from being listed. */
static json_t *info_of(const char *name)
{
	json_t *j = NULL;
	struct qmp *q;
	int ret = qmp_open(name, PS_TIMEOUT_MS, &q, NULL);

	if (!ret) {
		ret = qmp_call(q, "x-lodge-info", NULL, &j, NULL);
		qmp_close(q);
	}
	if (ret == -ETIMEDOUT)
		j = json_pack("{s:s+,s:s}", "name", name, "", "status", "unresponsive");
	if (j)
		json_object_set_new(j, "socket-name", json_string(name));
	return j;
}

static const char *text(json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "?";
}

static long long number(json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

static void print_table(json_t *all)
{
	json_t *j;
	size_t i;

	printf("%-20s %8s %-15s %-8s %-10s %4s %9s %9s\n", "NAME", "PID", "STATUS", "MACHINE", "ENGINE", "CPUS", "MEMORY", "RUN");
	json_array_foreach(all, i, j)
		printf("%-20s %8lld %-15s %-8s %-10s %4lld %7lldMi %8llds\n", text(j, "socket-name"), number(j, "pid"),
		       text(j, "status"), text(j, "machine"), text(j, "engine"), number(j, "cpus"), number(j, "memory") >> 20,
		       number(j, "run-ms") / 1000);
}

static json_t *all_guests(void)
{
	json_t *all = json_array(), *j;
	struct dirent **names;
	char root[256];
	int n = -1;

	if (!ctl_place_root(root, sizeof(root), false, NULL))
		n = scandir(root, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		j = names[i]->d_name[0] == '.' ? NULL : info_of(names[i]->d_name);
		if (j)
			json_array_append_new(all, j);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
	return all;
}

int ps_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	json_t *all;
	int ret = opts_alone(v, argc, argv, &st);

	if (ret >= 0)
		return ret;
	all = all_guests();
	if (st.json)
		print(all);
	else
		print_table(all);
	json_decref(all);
	return 0;
}
