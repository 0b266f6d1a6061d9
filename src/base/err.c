/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Error text: one sentence in a fixed buffer, so that reporting an error never
 * needs memory.  Nothing here allocates or fails.
 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	text_plain(e->msg, "");
	return code;
}

int err_prefix(struct err *e, int code, const char *fmt, ...)
{
	char old[sizeof(e->msg)];
	va_list ap;
	size_t n, room;
	int r;

	if (!e)
		return code;
	memcpy(old, e->msg, sizeof(old));
	old[sizeof(old) - 1] = '\0';
	va_start(ap, fmt);
	r = vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	text_plain(e->msg, "");
	n = r < 0 ? 0 : (size_t)r;
	if (n >= sizeof(e->msg) - 3)
		return code;		/* the prefix alone fills the buffer */
	memcpy(e->msg + n, ": ", 2);
	n += 2;
	room = sizeof(e->msg) - n - 1;
	memcpy(e->msg + n, old, strnlen(old, room) + 1);
	e->msg[sizeof(e->msg) - 1] = '\0';
	return code;
}
