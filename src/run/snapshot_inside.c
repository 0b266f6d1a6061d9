// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge snapshot ... --inside`: snapshots of a running guest inside its disks (vm/savevm.h), by the words of its monitor. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "run/opts.h"
#include "run/qmp.h"
#include "run/snapshot_inside.h"

/* As a monitor's line has it: between quotes. NULL: no memory */
static char *line_of(const char *command, const char *tag)
{
	char *line = malloc(strlen(command) + (tag ? 2 * strlen(tag) : 0) + 4), *to = line;

	if (!line)
		return NULL;
	to += sprintf(to, "%s", command);
	if (tag) {
		*to++ = ' ';
		*to++ = '"';
		for (; *tag; tag++) {
			if (strchr("\"\\\n\r", *tag))
				*to++ = '\\';
			*to++ = *tag == '\n' ? 'n' : *tag == '\r' ? 'r' : *tag;
		}
		*to++ = '"';
		*to = '\0';
	}
	return line;
}

/* A monitor's lines end with CR LF. */
static void print_lines(char *text)
{
	for (text_plain(text, "\r\n"); *text; text++)
		if (*text != '\r')
			putchar(*text);
}

static int tell(const char *guest, const char *command, const char *tag, struct err *e)
{
	char *line = line_of(command, tag);
	json_t *args = line ? json_pack("{s:s}", "command-line", line) : NULL, *back = NULL;
	char *text;
	struct qmp *q;
	int ret = args ? qmp_open(guest, 0, &q, e) : err_set(e, -EINVAL, "a name of bytes that are no text cannot be said");

	free(line);
	if (ret) {
		json_decref(args);
		return ret;
	}
	ret = qmp_call(q, "human-monitor-command", args, &back, e);
	qmp_close(q);
	text = !ret && json_is_string(back) ? strdup(json_string_value(back)) : NULL;
	/* What it prints is a list, or what was wrong. Names in the list are the images'. */
	if (text && !strncmp(text, "Error: ", 7))
		ret = err_set(e, -EREMOTEIO, "%.*s", (int)strcspn(text + 7, "\r\n"), text + 7);
	else if (text)
		print_lines(text);
	else if (!ret)
		ret = err_set(e, -ENOMEM, "no answer, or no memory for it");
	free(text);
	json_decref(back);
	return ret;
}

int snapshot_inside(const struct opt_state *st, struct err *e)
{
	const char *what = st->words[0], *guest = st->words[1];
	int ret = 0;

	if (st->n_words < 2)
		return 1;
	if (!strcmp(what, "create") && st->n_words == 3 && !st->then && !st->compress && !st->diff_of)
		return tell(guest, "savevm", st->words[2], e);
	if (!strcmp(what, "restore") && st->n_words == 3)
		return tell(guest, "loadvm", st->words[2], e);
	if (!strcmp(what, "list") && st->n_words == 2 && !st->json)
		return tell(guest, "info snapshots", NULL, e);
	if (strcmp(what, "rm") || st->n_words < 3 || st->keep)
		return 1;
	for (unsigned i = 2; i < st->n_words && !ret; i++)
		ret = tell(guest, "delvm", st->words[i], e);
	return ret;
}
