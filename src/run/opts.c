// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Option parsing and --help from the table.
 */
#include "run/opts.h"

#include <errno.h>
#include <string.h>

static const struct opt *find_long(const struct verb *v, const char *name, size_t len)
{
	for (const struct opt *o = v->opts; o->name; o++)
		if (strlen(o->name) == len && !strncmp(o->name, name, len))
			return o;
	return NULL;
}

static const struct opt *find_letter(const struct verb *v, char c)
{
	for (const struct opt *o = v->opts; o->name; o++)
		if (o->letter && o->letter == c)
			return o;
	return NULL;
}

static int apply(const struct opt *o, const char *val, struct conf *c, struct opt_state *st, struct err *e)
{
	int ret;

	if (o->parse)
		ret = o->parse(c, st, val, e);
	else
		ret = conf_set(c, o->key, val ? val : "on", e);
	return ret ? err_prefix(e, ret, "--%s", o->name) : 0;
}

static int unknown(const struct verb *v, const char *arg, struct err *e)
{
	return err_set(e, -EINVAL, "unknown option '%.80s'; see 'lodge %s --help'", arg, v->name);
}

int opts_parse(const struct verb *v, int argc, char **argv, struct conf *c, struct opt_state *st,
	       struct err *e)
{
	bool plain = false;		/* behind -- */

	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i], *val = NULL;
		const struct opt *o;
		int ret;

		if (v->operand && !plain && !strcmp(arg, "--")) {
			plain = true;
			continue;
		}
		if (v->operand && (plain || arg[0] != '-' || !arg[1])) {
			ret = v->operand(c, st, arg, e);
			if (ret)
				return err_prefix(e, ret, "'%.80s'", arg);
			continue;
		}
		if (arg[0] != '-' || !arg[1])
			return err_set(e, -EINVAL, "'%.80s' is not an option; see 'lodge %s --help'", arg, v->name);
		if (arg[1] == '-') {
			const char *eq = strchr(arg, '=');

			o = find_long(v, arg + 2, eq ? (size_t)(eq - arg - 2) : strlen(arg + 2));
			val = eq ? eq + 1 : NULL;
		} else {
			o = find_letter(v, arg[1]);
			val = arg[2] ? arg + 2 : NULL;
		}
		if (!o)
			return unknown(v, arg, e);
		if (!o->arg && val)
			return err_set(e, -EINVAL, "--%s takes no value", o->name);
		if (o->arg && !val) {
			if (i + 1 >= argc)
				return err_set(e, -EINVAL, "--%s needs a value: %s", o->name, o->arg);
			val = argv[++i];
		}
		ret = apply(o, val, c, st, e);
		if (ret)
			return ret;
	}
	return 0;
}

void opts_help(const struct verb *v, FILE *f)
{
	fprintf(f, "usage: lodge %s%s%s%s\n\n%s\n\n", v->name, v->opts->name ? " [OPTION]..." : "",
		v->operands ? " " : "", v->operands ? v->operands : "", v->summary);
	for (const struct opt *o = v->opts; o->name; o++) {
		int n = fprintf(f, "  %c%c%s--%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ', o->letter ? ", " : "  ", o->name,
				o->arg ? " " : "", o->arg ? o->arg : "");

		if (n > 36)
			n = fprintf(f, "\n") - 1;
		fprintf(f, "%*s %s\n", 36 - n, "", o->help);
	}
}

int keep_operand(struct conf *c, struct opt_state *st, const char *val, struct err *e)
{
	if (st->n_words == sizeof(st->words) / sizeof(st->words[0]))
		return err_set(e, -E2BIG, "too many words");
	st->words[st->n_words++] = val;
	return 0;
}

int opts_alone(const struct verb *v, int argc, char **argv, struct opt_state *st)
{
	struct err e = { .msg = "out of memory" };
	struct conf *c = NULL;
	int ret = conf_new(&c);

	if (!ret)
		ret = opts_parse(v, argc, argv, c, st, &e);
	conf_free(c);
	if (ret) {
		fprintf(stderr, "lodge: %s\n", e.msg);
		return 1;
	}
	if (!st->help)
		return -1;
	opts_help(v, stdout);
	return 0;
}
