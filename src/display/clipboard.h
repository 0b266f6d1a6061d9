/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The clipboard that a guest and those who look at it share: one text, and who has it.
 *
 * Whoever copies something takes the clipboard; the text itself stays with the
 * owner until somebody pastes, and is kept here once it was handed over.  Each of
 * those who take part has a callback on its own loop, which is told that something
 * is another than it was, and looks.
 *
 * Text is UTF-8 with LF at the ends of lines, without NUL, at most CLIPBOARD_MAX
 * bytes: what comes in is made so.  A lock of its own protects all of it; it is
 * taken last and nothing is called with it held.
 */
#ifndef LODGE_DISPLAY_CLIPBOARD_H
#define LODGE_DISPLAY_CLIPBOARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/loop.h"

#define CLIPBOARD_MAX (1u << 20)
#define CLIPBOARD_RAW_MAX (2 * CLIPBOARD_MAX)	/* of one whose lines end with CRLF */

struct clipboard;

/* One that takes part.  All of its calls are made on its loop's thread. */
struct clipboard_peer {
	struct list node;
	struct loop_bh changed;
	struct clipboard *c;		/* NULL: not (any more) among them */
};

struct clipboard_state {
	uint64_t serial;		/* another one each time the clipboard is taken or dropped */
	bool held;			/* somebody has it */
	bool mine;
	bool asked;			/* it is mine, somebody waits for the text: clipboard_put */
};

int clipboard_new(struct clipboard **out);
/* Nobody takes part any more. */
void clipboard_free(struct clipboard *c);

/* cb is called on l's thread, as any posted callback, whenever the state may have changed. */
void clipboard_join(struct clipboard *c, struct clipboard_peer *p, struct loop *l, void (*cb)(void *opaque), void *opaque);
/* What it has it drops.  No-op if it never joined. */
void clipboard_leave(struct clipboard_peer *p);

void clipboard_look(struct clipboard_peer *p, struct clipboard_state *out);
/* From now on it is p's, with a text that is not known yet. */
void clipboard_take(struct clipboard_peer *p);
/* p has nothing any more; if it is not p's nothing happens. */
void clipboard_drop(struct clipboard_peer *p);
/*
 * The text of what p has: any bytes, what is no UTF-8 becomes '?', what follows a NUL is left out.  NULL, or more than
 * CLIPBOARD_RAW_MAX bytes, or than CLIPBOARD_MAX as it is kept, or no memory: as clipboard_drop.  If it is not p's nothing happens.
 */
void clipboard_put(struct clipboard_peer *p, const void *text, size_t len);
/*
 * The text that somebody else has: 0, *out is the caller's to free, with a NUL behind its *len bytes.  -EAGAIN: its owner
 * is asked now, there will be a callback; -ENOENT: there is none; -ENOMEM.
 */
int clipboard_get(struct clipboard_peer *p, char **out, size_t *len);

#endif
