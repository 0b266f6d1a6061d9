// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Man page sources (scdoc) and shell completions, written from the option
 * tables at build time: `lodge --generate KIND`.
 */
#include <errno.h>
#include <string.h>

#include "run/opts.h"

/* scdoc takes _ and * for markup; the tables use *...* on purpose, so only the
 * underscore (and the tilde-like ones of option arguments) needs care. */
static void man_text(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '_' || *s == '<' || *s == '>')
			fputc('\\', f);
		fputc(*s, f);
	}
}

static void man_options(const struct verb *v, FILE *f)
{
	fputs("# OPTIONS\n\n", f);
	for (const struct opt *o = v->opts; o->name; o++) {
		if (o->letter)
			fprintf(f, "*-%c*, ", o->letter);
		fprintf(f, "*--%s*", o->name);
		if (o->arg) {
			fputs(" _", f);
			for (const char *p = o->arg; *p; p++) {
				if (strchr("_*<>", *p))
					fputc('\\', f);
				fputc(*p, f);
			}
			fputc('_', f);
		}
		fputs("\n\t", f);
		man_text(f, o->man ? o->man : o->help);
		fputs("\n\n", f);
	}
}

static void bash(FILE *f)
{
	fputs("# bash completion for lodge, generated from its option tables\n"
	      "_lodge() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb=${COMP_WORDS[1]}\n"
	      "\tif [ \"$COMP_CWORD\" = 1 ]; then\n\t\tCOMPREPLY=($(compgen -W '", f);
	for (const struct verb *const *v = lodge_verbs; *v; v++)
		fprintf(f, "%s ", (*v)->name);
	fputs("help --version' -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase $verb in\n", f);
	for (const struct verb *const *v = lodge_verbs; *v; v++) {
		if (!(*v)->opts->name) {
			bash_img(f);
			continue;
		}
		fprintf(f, "\t%s)\n\t\tcase $prev in\n", (*v)->name);
		for (const struct opt *o = (*v)->opts; o->name; o++) {
			if (!o->arg)
				continue;
			fprintf(f, "\t\t--%s", o->name);
			if (o->letter)
				fprintf(f, " | -%c", o->letter);
			if (o->complete == COMPLETE_FILE)
				fputs(") COMPREPLY=($(compgen -f -- \"$cur\")); compopt -o filenames; return ;;\n", f);
			else if (o->complete == COMPLETE_WORDS)
				fprintf(f, ") COMPREPLY=($(compgen -W '%s' -- \"$cur\")); return ;;\n", o->words);
			else
				fputs(") return ;;\n", f);
		}
		fputs("\t\tesac\n\t\tCOMPREPLY=($(compgen -W '", f);
		for (const struct opt *o = (*v)->opts; o->name; o++)
			fprintf(f, "--%s ", o->name);
		fputs("' -- \"$cur\"))\n\t\t;;\n", f);
	}
	fputs("\tesac\n}\ncomplete -F _lodge lodge\n", f);
}

/* Text inside a zsh '...' specification: no quote, bracket or colon may end it. */
static void zsh_text(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", f);
		else if (strchr("[]:\\", *s))
			fprintf(f, "\\%c", *s);
		else
			fputc(*s, f);
	}
}

static void zsh_option(const struct opt *o, FILE *f)
{
	fprintf(f, "\t\t\t'*--%s[", o->name);
	zsh_text(f, o->help);
	fputc(']', f);
	if (o->arg) {
		fputc(':', f);
		zsh_text(f, o->arg);
		if (o->complete == COMPLETE_FILE)
			fputs(":_files", f);
		else if (o->complete == COMPLETE_WORDS)
			fprintf(f, ":(%s)", o->words);
		else
			fputs(": ", f);
	}
	fputs("' \\\n", f);
}

static void zsh(FILE *f)
{
	fputs("#compdef lodge\n# zsh completion for lodge, generated from its option tables\n_lodge() {\n"
	      "\tif (( CURRENT == 2 )); then\n\t\tlocal -a verbs=(\n", f);
	for (const struct verb *const *v = lodge_verbs; *v; v++) {
		fprintf(f, "\t\t\t'%s:", (*v)->name);
		zsh_text(f, (*v)->summary);
		fputs("'\n", f);
	}
	fputs("\t\t)\n\t\t_describe verb verbs\n\t\treturn\n\tfi\n\tlocal verb=$words[2]\n"
	      "\tshift words\n\t(( CURRENT-- ))\n\tcase $verb in\n", f);
	for (const struct verb *const *v = lodge_verbs; *v; v++) {
		if (!(*v)->opts->name) {
			zsh_img(f);
			continue;
		}
		fprintf(f, "\t%s)\n\t\t_arguments \\\n", (*v)->name);
		for (const struct opt *o = (*v)->opts; o->name; o++)
			zsh_option(o, f);
		fputs("\t\t\t&& return\n\t\t;;\n", f);
	}
	fputs("\tesac\n}\n_lodge \"$@\"\n", f);
}

static void fish_text(FILE *f, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			fputc('\\', f);
		fputc(*s, f);
	}
}

static void fish(FILE *f)
{
	fputs("# fish completion for lodge, generated from its option tables\ncomplete -c lodge -f\n", f);
	for (const struct verb *const *v = lodge_verbs; *v; v++) {
		fprintf(f, "complete -c lodge -n __fish_use_subcommand -a %s -d '", (*v)->name);
		fish_text(f, (*v)->summary);
		fputs("'\n", f);
		for (const struct opt *o = (*v)->opts; o->name; o++) {
			fprintf(f, "complete -c lodge -n '__fish_seen_subcommand_from %s' -l %s", (*v)->name, o->name);
			if (o->letter)
				fprintf(f, " -s %c", o->letter);
			if (o->arg && o->complete == COMPLETE_FILE)
				fputs(" -r -F", f);
			else if (o->arg && o->complete == COMPLETE_WORDS)
				fprintf(f, " -x -a '%s'", o->words);
			else if (o->arg)
				fputs(" -x", f);
			fputs(" -d '", f);
			fish_text(f, o->help);
			fputs("'\n", f);
		}
	}
	fish_img(f);
}

int generate(const char *kind, FILE *f)
{
	if (!strcmp(kind, "bash"))
		bash(f);
	else if (!strcmp(kind, "zsh"))
		zsh(f);
	else if (!strcmp(kind, "fish"))
		fish(f);
	else if (!strncmp(kind, "man-img", 7))
		return man_img(kind + 7 + (kind[7] == '-'), f) ? -EINVAL : fflush(f) ? -EIO : 0;
	else if (!strncmp(kind, "man-", 4)) {
		for (const struct verb *const *v = lodge_verbs; *v; v++)
			if (!strcmp((*v)->name, kind + 4)) {
				man_options(*v, f);
				return fflush(f) ? -EIO : 0;
			}
		return -EINVAL;
	} else {
		return -EINVAL;
	}
	return fflush(f) ? -EIO : 0;
}
