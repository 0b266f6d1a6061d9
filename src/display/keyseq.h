/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys pressed by a program: a chord in the syntax of QEMU's sendkey, or a text as
 * it is typed on a US keyboard, and who plays them.
 */
#ifndef LODGE_DISPLAY_KEYSEQ_H
#define LODGE_DISPLAY_KEYSEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"

#define KEYSEQ_MAX_CHORD 16
#define KEYSEQ_MAX_TEXT (64u << 10)

struct input;

struct keyseq_step {
	uint8_t code;			/* evdev */
	bool down;
	uint16_t wait_ms;		/* before the next one */
};

struct keyseq {
	struct keyseq_step *step;	/* freed with keyseq_free */
	size_t n;
};

/* "ctrl-alt-delete", "0x1c", "shift-a": all go down in order, are held for hold_ms and come up
 * in reverse.  -EINVAL names what is no key; -E2BIG: more than KEYSEQ_MAX_CHORD. */
int keyseq_chord(const char *text, unsigned hold_ms, struct keyseq *out, struct err *e);
struct key_info;
/* The same of n keys, at most KEYSEQ_MAX_CHORD. */
int keyseq_keys(const struct key_info *const *keys, unsigned n, unsigned hold_ms, struct keyseq *out, struct err *e);
/* UTF-8; -EINVAL names the first character that a US keyboard has not, -E2BIG: too long. */
int keyseq_text(const char *text, struct keyseq *out, struct err *e);
void keyseq_free(struct keyseq *s);

struct keyseq_player;
/*
 * Plays sequences one after the other on the loop, whose lock is the machine's.  Machine
 * lock held in all of these.  play takes the sequence over (on an error too); done (may be
 * NULL) is called on the loop at its end.  Keys that are down are let go by free.
 */
int keyseq_player_new(struct loop *l, struct input *in, struct keyseq_player **out);
void keyseq_player_free(struct keyseq_player *p);
int keyseq_play(struct keyseq_player *p, struct keyseq *s, void (*done)(void *opaque), void *opaque);

#endif
