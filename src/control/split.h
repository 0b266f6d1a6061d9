/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client's bytes, cut into JSON texts.
 *
 * Texts follow each other with or without space between, so their ends are found
 * by counting brackets outside of strings.  Memory is bounded: what is longer
 * than CTL_MAX_MESSAGE, nested deeper than CTL_MAX_DEPTH or has more values than
 * CTL_MAX_VALUES is read on to its end and forgotten.  A line end inside a string, which JSON does not allow, ends a
 * text wherever it is: a client that sends nonsense is understood again after it.
 *
 * Strings in single quotes, which QEMU takes too, are turned into proper ones.
 */
#ifndef LODGE_CONTROL_SPLIT_H
#define LODGE_CONTROL_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

#define CTL_MAX_MESSAGE (1u << 20)
#define CTL_MAX_DEPTH 64
#define CTL_MAX_VALUES 8192u	/* the parser takes some 200 bytes for each */

enum ctl_split_result {
	CTL_SPLIT_MORE,			/* all bytes taken, no end yet */
	CTL_SPLIT_TEXT,			/* s->buf has a text of s->len bytes; call ctl_split_next before feeding more */
	CTL_SPLIT_BAD,			/* the same, but it was not a text: s->why says in which way */
};

struct ctl_split {
	char *buf;
	size_t len, cap;
	unsigned depth, values;
	char quote;			/* inside a string: its quote */
	bool escape, scalar, begun;
	const char *why;		/* what is wrong with the text that is being read; NULL: nothing so far */
};

/* Takes bytes up to the end of a text; *used tells how many. */
enum ctl_split_result ctl_split_feed(struct ctl_split *s, const char *p, size_t n, size_t *used);
/* The text was looked at: memory is given back if it was much. */
void ctl_split_next(struct ctl_split *s);
void ctl_split_fini(struct ctl_split *s);

#endif
