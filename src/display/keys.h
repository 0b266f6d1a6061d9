/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keys by every name they have: Linux evdev codes, which the rest uses; the PC
 * keyboard's scan codes of set 1 and 2; USB's usages; QEMU's names (QKeyCode); X11 keysyms and
 * characters on a US keyboard.
 */
#ifndef LODGE_DISPLAY_KEYS_H
#define LODGE_DISPLAY_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KEY_CODE_LEFTSHIFT = 42, KEY_CODE_PAUSE = 119 };

struct key_info {
	uint8_t evdev;
	uint8_t set1;			/* 0x80: with the prefix E0 */
	uint8_t set2;			/* without prefix and F0 */
	uint8_t hid;			/* usage of page 07h (HUT 1.12, 10); 0: none */
	const char *name;		/* QEMU's */
};

/* NULL: no such key. */
const struct key_info *key_by_evdev(unsigned code);
/* QEMU's key numbers, as RFB's extended key events carry them: set 1, bit 7 for E0. */
const struct key_info *key_by_set1(unsigned code);
/* `len` characters: a name, an alias of it, or a number (0x1c) that is one of set 1. */
const struct key_info *key_by_name(const char *name, size_t len);
/* The key that carries the X11 keysym on a US keyboard; *shift: with Shift held (NULL: who asks
 * presses Shift as a key of its own). */
const struct key_info *key_by_keysym(uint32_t keysym, bool *shift);
/* The same for a character; '\n' is Enter, '\t' Tab. */
const struct key_info *key_by_char(uint32_t c, bool *shift);

#endif
