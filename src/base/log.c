/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One line, one write(2): lines of several threads never mix.
 *
 * Whether the terminal is raw is asked of the terminal each time, so no part of
 * the program has to keep this file informed.  Control characters that may come
 * from a guest or a file are replaced, or they could drive the user's terminal.
 */
#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const char *const level_names[] = { "error", "warning", "info", "debug" };

static int level_from_env(void)
{
	const char *s = getenv("LODGE_LOG");

	if (!s)
		return LOG_WARN;
	if (!strcmp(s, "error"))
		return LOG_ERROR;
	if (!strcmp(s, "info"))
		return LOG_INFO;
	if (!strcmp(s, "debug"))
		return LOG_DEBUG;
	return LOG_WARN;
}

bool log_enabled(enum log_level level)
{
	static _Atomic int cached = -1;	/* a property of the process, read once */
	int l = atomic_load_explicit(&cached, memory_order_relaxed);

	if (l < 0) {
		l = level_from_env();
		atomic_store_explicit(&cached, l, memory_order_relaxed);
	}
	return (int)level <= l;
}

/* A terminal without output processing needs its own carriage returns. */
static bool stderr_is_raw(void)
{
	struct termios t;

	return tcgetattr(STDERR_FILENO, &t) == 0 && !(t.c_oflag & OPOST);
}

static void write_all(const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(STDERR_FILENO, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return;
		p += w;
		n -= (size_t)w;
	}
}

/* word: "warning" with ": " behind it, or nothing. */
static void write_line(const char *word, const char *mark, const char *fmt, va_list ap)
{
	char text[1024], line[sizeof(text) * 2 + 64];
	int saved = errno, n;
	size_t len;
	bool raw;

	if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
		text[0] = '\0';

	raw = stderr_is_raw();
	n = snprintf(line, sizeof(line), "lodge: %s%s", word, mark);
	len = n < 0 ? 0 : (size_t)n;
	for (const char *p = text_plain(text, "\n\t"); *p; p++) {
		if (*p == '\n' && raw)
			line[len++] = '\r';
		line[len++] = *p;
	}
	if (raw)
		line[len++] = '\r';
	line[len++] = '\n';
	write_all(line, len);
	errno = saved;
}

void log_msg(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	write_line(level_names[level], ": ", fmt, ap);
	va_end(ap);
}

void log_note(const char *fmt, ...)
{
	va_list ap;

	if (!log_enabled(LOG_WARN))
		return;
	va_start(ap, fmt);
	write_line("", "", fmt, ap);
	va_end(ap);
}
