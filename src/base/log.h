/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages to the person at the terminal: "lodge: warning: ..." on stderr.
 *
 * The level is a property of the process (environment LODGE_LOG=error|warn|
 * info|debug, default warn), read once.  Any thread may log; a line is written
 * with one write(2).  When the console is in raw mode lines end in CR LF.
 */
#ifndef LODGE_BASE_LOG_H
#define LODGE_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

bool log_enabled(enum log_level level);
void log_msg(enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define log_error(...) log_msg(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_msg(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_msg(LOG_INFO, __VA_ARGS__)
#define log_debug(...) \
	do { \
		if (log_enabled(LOG_DEBUG)) \
			log_msg(LOG_DEBUG, __VA_ARGS__); \
	} while (0)

/* "lodge: ..." without a word for its level, where warnings are shown: what the user is told of, not warned about. */
void log_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A guest can provoke this message as often as it likes: it is printed at most
 * 10 times per call site and process. */
#define log_guest(...) \
	do { \
		static _Atomic unsigned n_; \
		if (n_ < 10 && n_++ < 10) \
			log_msg(LOG_INFO, __VA_ARGS__); \
	} while (0)

#endif
