/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A line that somebody types at a monitor: editing and history, with the keys and the echo that QEMU's has,
 * which programs that drive a monitor take apart.
 *
 * Keys come byte by byte, what is to be shown goes out through `print`.  Nothing is known of what the line means,
 * but for a completion that its owner makes.  One thread at a time.
 */
#ifndef LODGE_CONTROL_READLINE_H
#define LODGE_CONTROL_READLINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define READLINE_MAX 4095u
#define READLINE_HISTORY 64

enum readline_state { READLINE_PLAIN, READLINE_ESC, READLINE_CSI, READLINE_SS3 };

struct readline {
	void (*print)(void *opaque, const char *text, size_t len);
	/* Tab.  May call readline_insert, and print, and readline_show afterwards.  NULL: the key does nothing. */
	void (*complete)(void *opaque, const char *before_cursor);
	void *opaque;
	const char *prompt;
	char line[READLINE_MAX + 1], shown[READLINE_MAX + 1];
	size_t len, at, shown_len, shown_at;
	char *history[READLINE_HISTORY];	/* the oldest first */
	unsigned n_history, recall;	/* recall == n_history: the line is a new one */
	enum readline_state state;
	unsigned param;
};

/* The prompt, before an empty line. */
void readline_start(struct readline *r);
/* The prompt and the line as it stands, on a fresh line of the screen. */
void readline_show(struct readline *r);
/* True: r->line is whole (NUL-terminated); readline_start before more keys. */
bool readline_key(struct readline *r, uint8_t key);
/* Puts text where the cursor is, as far as there is room. */
void readline_insert(struct readline *r, const char *text);
void readline_fini(struct readline *r);

#endif
