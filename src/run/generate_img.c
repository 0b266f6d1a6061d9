// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Man page sections and shell completion of `lodge img`, from img's tables.
 */
#include <errno.h>
#include <string.h>

#include "img/img.h"
#include "run/opts.h"

static void escaped(FILE *f, const char *s, const char *which)
{
	for (; *s; s++) {
		if (strchr(which, *s))
			fputc('\\', f);
		fputc(*s, f);
	}
}

static void man_img_option(FILE *f, const struct img_opt *o)
{
	if (o->letter)
		fprintf(f, "*-%c*%s", o->letter, o->name ? ", " : "");
	if (o->name)
		fprintf(f, "*--%s*", o->name);
	if (o->arg) {
		fputs(" _", f);
		escaped(f, o->arg, "_*<>");
		fputc('_', f);
	}
	fputs("\n\t", f);
	escaped(f, o->help, "_*<>");
	fputs("\n\n", f);
}

/* The options a verb has for itself. */
static void man_img_own(const struct img_verb *v, FILE *f)
{
	for (const struct img_opt *o = v->opts; o && o->id; o++)
		man_img_option(f, o);
}

int man_img(const char *verb, FILE *f)
{
	const struct img_verb every = { .common = ~0u };
	const struct img_opt *o;

	for (const struct img_verb *const *v = img_verbs; *verb && *v; v++) {
		if (!strcmp((*v)->name, verb)) {
			man_img_own(*v, f);
			return 0;
		}
	}
	if (*verb)
		return -EINVAL;
	for (unsigned i = 0; (o = img_opt_at(&every, i)); i++)
		man_img_option(f, o);
	return 0;
}

static void bash_img_verb(const struct img_verb *v, FILE *f)
{
	const struct img_opt *o;

	fprintf(f, "\t\t%s)\n\t\t\tcase $prev in\n", v->name);
	for (unsigned i = 0; (o = img_opt_at(v, i)); i++) {
		if (!o->arg)
			continue;
		fputs("\t\t\t", f);
		if (o->name)
			fprintf(f, "--%s%s", o->name, o->letter ? " | " : "");
		if (o->letter)
			fprintf(f, "-%c", o->letter);
		if (o->words && *o->words != '@')
			fprintf(f, ") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", o->words);
		else if (o->words)
			fputs(") COMPREPLY=($(compgen -f -- \"$cur\")); compopt -o filenames; return ;;\n", f);
		else
			fputs(") return ;;\n", f);
	}
	fputs("\t\t\tesac\n\t\t\tcase $cur in\n\t\t\t-*) COMPREPLY=($(compgen -W '", f);
	for (unsigned i = 0; (o = img_opt_at(v, i)); i++) {
		if (o->name)
			fprintf(f, "--%s ", o->name);
		else
			fprintf(f, "-%c ", o->letter);
	}
	fputs("' -- \"$cur\")) ;;\n\t\t\t*) COMPREPLY=($(compgen -f -- \"$cur\")); compopt -o filenames ;;\n\t\t\tesac\n\t\t\t;;\n", f);
}

void bash_img(FILE *f)
{
	fputs("\timg)\n\t\tif [ \"$COMP_CWORD\" = 2 ]; then\n\t\t\tCOMPREPLY=($(compgen -W '", f);
	for (const struct img_verb *const *v = img_verbs; *v; v++)
		fprintf(f, "%s ", (*v)->name);
	fputs("--help' -- \"$cur\"))\n\t\t\treturn\n\t\tfi\n\t\tcase ${COMP_WORDS[2]} in\n", f);
	for (const struct img_verb *const *v = img_verbs; *v; v++)
		bash_img_verb(*v, f);
	fputs("\t\tesac\n\t\t;;\n", f);
}

static void zsh_img_option(const struct img_opt *o, bool letter, FILE *f)
{
	if (letter)
		fprintf(f, "\t\t\t\t'*-%c[", o->letter);
	else
		fprintf(f, "\t\t\t\t'*--%s[", o->name);
	escaped(f, o->help, "[]:\\");
	fputc(']', f);
	if (o->arg) {
		fputc(':', f);
		escaped(f, o->arg, "[]:\\");
		if (o->words && *o->words != '@')
			fprintf(f, ":(%s)", o->words);
		else
			fputs(o->words ? ":_files" : ": ", f);
	}
	fputs("' \\\n", f);
}

static void zsh_img_verb(const struct img_verb *v, FILE *f)
{
	const struct img_opt *o;

	fprintf(f, "\t\t%s)\n\t\t\t_arguments \\\n", v->name);
	for (unsigned i = 0; (o = img_opt_at(v, i)); i++) {
		if (o->name)
			zsh_img_option(o, false, f);
		if (o->letter)
			zsh_img_option(o, true, f);
	}
	fputs("\t\t\t\t'*:file:_files' && return\n\t\t\t;;\n", f);
}

void zsh_img(FILE *f)
{
	fputs("\timg)\n\t\tif (( CURRENT == 2 )); then\n\t\t\tlocal -a verbs=(\n", f);
	for (const struct img_verb *const *v = img_verbs; *v; v++) {
		fprintf(f, "\t\t\t\t'%s:", (*v)->name);
		escaped(f, (*v)->summary, "[]:\\");
		fputs("'\n", f);
	}
	fputs("\t\t\t)\n\t\t\t_describe verb verbs\n\t\t\treturn\n\t\tfi\n\t\tverb=$words[2]\n\t\tshift words\n\t\t(( CURRENT-- ))\n"
	      "\t\tcase $verb in\n", f);
	for (const struct img_verb *const *v = img_verbs; *v; v++)
		zsh_img_verb(*v, f);
	fputs("\t\tesac\n\t\t;;\n", f);
}

static void fish_img_option(const struct img_verb *v, const struct img_opt *o, FILE *f)
{
	fprintf(f, "complete -c lodge -n '__fish_seen_subcommand_from img; and __fish_seen_subcommand_from %s'", v->name);
	if (o->name)
		fprintf(f, " -l %s", o->name);
	if (o->letter)
		fprintf(f, " -s %c", o->letter);
	if (o->arg && o->words && *o->words != '@')
		fprintf(f, " -x -a '%s'", o->words);
	else if (o->arg)
		fputs(o->words ? " -r -F" : " -x", f);
	fputs(" -d '", f);
	escaped(f, o->help, "'\\");
	fputs("'\n", f);
}

void fish_img(FILE *f)
{
	const struct img_opt *o;

	fputs("complete -c lodge -n '__fish_seen_subcommand_from img' -F\n", f);
	for (const struct img_verb *const *v = img_verbs; *v; v++) {
		fprintf(f, "complete -c lodge -n '__fish_seen_subcommand_from img' -a %s -d '", (*v)->name);
		escaped(f, (*v)->summary, "'\\");
		fputs("'\n", f);
		for (unsigned i = 0; (o = img_opt_at(*v, i)); i++)
			fish_img_option(*v, o, f);
	}
}
