/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Error text that travels to the edge of the program.
 *
 * Functions return 0 or -errno.  Those a user can provoke also take a
 * `struct err *`, into which exactly one complete sentence is written at the
 * place that knows the name of the thing; the program's main prints it once.
 */
#ifndef LODGE_BASE_ERR_H
#define LODGE_BASE_ERR_H

struct err {
	char msg[512];
};

/* Writes the text (truncated to fit) and returns `code`, a negative errno.
 * `e` may be NULL.  The last call wins.  It is one line: control characters, which
 * names and files of others may have for the terminal it is shown on, become '?'. */
int err_set(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Puts "text: " in front of what is there already; returns `code`. */
int err_prefix(struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
