// SPDX-License-Identifier: GPL-2.0-or-later
/* Line editing for monitors: see readline.h.  The keys are Emacs' and those of an ANSI terminal (ECMA-48). */
#include "control/readline.h"

#include <stdlib.h>
#include <string.h>

#define CTRL(c) ((c) & 0x1f)

static void print(struct readline *r, const char *text)
{
	r->print(r->opaque, text, strlen(text));
}

static void print_times(struct readline *r, const char *text, size_t n)
{
	while (n--)
		print(r, text);
}

/* Makes the screen what the line is: back to its start, the whole of it, nothing behind it, and the cursor to its place. */
static void update(struct readline *r)
{
	if (r->len != r->shown_len || memcmp(r->line, r->shown, r->len)) {
		print_times(r, "\033[D", r->shown_at);
		r->print(r->opaque, r->line, r->len);
		print(r, "\033[K");
		memcpy(r->shown, r->line, r->len);
		r->shown_len = r->shown_at = r->len;
	}
	if (r->at < r->shown_at)
		print_times(r, "\033[D", r->shown_at - r->at);
	else
		print_times(r, "\033[C", r->at - r->shown_at);
	r->shown_at = r->at;
}

void readline_show(struct readline *r)
{
	print(r, r->prompt);
	r->shown_len = r->shown_at = 0;
	if (r->len)
		update(r);
}

void readline_start(struct readline *r)
{
	r->len = r->at = 0;
	r->state = READLINE_PLAIN;
	r->recall = r->n_history;
	readline_show(r);
}

/* ---- editing ---- */

static void insert(struct readline *r, const char *text, size_t n)
{
	if (n > READLINE_MAX - r->len)
		n = READLINE_MAX - r->len;
	memmove(r->line + r->at + n, r->line + r->at, r->len - r->at);
	memcpy(r->line + r->at, text, n);
	r->at += n;
	r->len += n;
}

void readline_insert(struct readline *r, const char *text)
{
	insert(r, text, strlen(text));
	update(r);
}

/* Takes out what lies between `from` and the cursor. */
static void cut_back(struct readline *r, size_t from)
{
	memmove(r->line + from, r->line + r->at, r->len - r->at);
	r->len -= r->at - from;
	r->at = from;
}

static void delete_char(struct readline *r)
{
	if (r->at < r->len) {
		r->at++;
		cut_back(r, r->at - 1);
	}
}

static size_t word_start(const struct readline *r)
{
	size_t i = r->at;

	while (i && r->line[i - 1] == ' ')
		i--;
	while (i && r->line[i - 1] != ' ')
		i--;
	return i;
}

/* ---- history ---- */

static void remember(struct readline *r)
{
	char *copy;
	unsigned i;

	for (i = 0; i < r->n_history && strcmp(r->history[i], r->line); i++)
		;
	if (i < r->n_history) {
		copy = r->history[i];		/* it is there, and becomes the newest */
	} else {
		copy = strdup(r->line);
		if (!copy)
			return;
		i = 0;
		if (r->n_history < READLINE_HISTORY) {
			r->history[r->n_history++] = copy;
			return;
		}
		free(r->history[0]);
	}
	memmove(r->history + i, r->history + i + 1, (r->n_history - i - 1) * sizeof(*r->history));
	r->history[r->n_history - 1] = copy;
}

static void recall(struct readline *r, int step)
{
	if ((step < 0 && !r->recall) || (step > 0 && r->recall >= r->n_history))
		return;
	r->recall += (unsigned)step;
	r->len = r->at = 0;
	if (r->recall < r->n_history)
		insert(r, r->history[r->recall], strlen(r->history[r->recall]));
}

/* ---- keys ---- */

static void cursor(struct readline *r, uint8_t key)
{
	switch (key) {
	case 'A':
		recall(r, -1);
		break;
	case 'B':
		recall(r, 1);
		break;
	case 'C':
		r->at += r->at < r->len;
		break;
	case 'D':
		r->at -= r->at > 0;
		break;
	case 'F':
		r->at = r->len;
		break;
	case 'H':
		r->at = 0;
		break;
	}
}

/* ESC [ NUMBER ~ */
static void numbered(struct readline *r)
{
	if (r->param == 1 || r->param == 7)
		r->at = 0;
	else if (r->param == 4 || r->param == 8)
		r->at = r->len;
	else if (r->param == 3)
		delete_char(r);
}

static void control_key(struct readline *r, uint8_t key)
{
	char before[READLINE_MAX + 1];

	switch (key) {
	case CTRL('a'):
		r->at = 0;
		break;
	case CTRL('b'):
		cursor(r, 'D');
		break;
	case CTRL('d'):
		delete_char(r);
		break;
	case CTRL('e'):
		r->at = r->len;
		break;
	case CTRL('f'):
		cursor(r, 'C');
		break;
	case '\t':
		memcpy(before, r->line, r->at);
		before[r->at] = '\0';
		if (r->complete)
			r->complete(r->opaque, before);
		break;
	case CTRL('k'):
		r->len = r->at;
		break;
	case CTRL('n'):
		recall(r, 1);
		break;
	case CTRL('p'):
		recall(r, -1);
		break;
	case CTRL('u'):
		cut_back(r, 0);
		break;
	case CTRL('w'):
		cut_back(r, word_start(r));
		break;
	case '\b':
	case 127:
		if (r->at)
			cut_back(r, r->at - 1);
		break;
	}
}

static void escape_key(struct readline *r, uint8_t key)
{
	if (r->state == READLINE_ESC) {
		r->state = key == '[' ? READLINE_CSI : key == 'O' ? READLINE_SS3 : READLINE_PLAIN;
		r->param = 0;
	} else if (r->state == READLINE_CSI && key >= '0' && key <= '9') {
		r->param = (r->param * 10 + (key - '0')) % 1000;
	} else {
		r->state = READLINE_PLAIN;
		if (key == '~')
			numbered(r);
		else
			cursor(r, key);
	}
}

bool readline_key(struct readline *r, uint8_t key)
{
	char c = (char)key;

	if (r->state != READLINE_PLAIN) {
		escape_key(r, key);
	} else if (key == '\r' || key == '\n') {
		r->line[r->len] = '\0';
		if (r->len)
			remember(r);
		print(r, "\r\n");
		return true;
	} else if (key == 27) {
		r->state = READLINE_ESC;
	} else if (key < 32 || key == 127) {
		control_key(r, key);
	} else {
		insert(r, &c, 1);
	}
	update(r);
	return false;
}

void readline_fini(struct readline *r)
{
	for (unsigned i = 0; i < r->n_history; i++)
		free(r->history[i]);
	r->n_history = 0;
}
