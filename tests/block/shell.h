/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands of the peer's, in the folder of a run. */
#ifndef TESTS_BLOCK_SHELL_H
#define TESTS_BLOCK_SHELL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* What the command says goes to standard error if it is to be seen, else to the file `out`. True: it succeeded. */
static inline bool shell_in(const char *dir, bool seen, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static inline bool shell_in(const char *dir, bool seen, const char *fmt, ...)
{
	char what[4096], cmd[sizeof(what) + 128];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(what) ||
	    (size_t)snprintf(cmd, sizeof(cmd), "cd %s && (%s) %s", dir, what, seen ? ">&2" : "> out 2>&1") >= sizeof(cmd))
		abort();
	return system(cmd) == 0;
}

#endif
