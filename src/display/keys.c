// SPDX-License-Identifier: GPL-2.0-or-later
/* The table of keys and its look-ups. */
#include "display/keys.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define E0 0x80
static const struct key_info keys[] = {
	{ 1, 0x01, 0x76, "esc" }, { 2, 0x02, 0x16, "1" }, { 3, 0x03, 0x1e, "2" }, { 4, 0x04, 0x26, "3" },
	{ 5, 0x05, 0x25, "4" }, { 6, 0x06, 0x2e, "5" }, { 7, 0x07, 0x36, "6" }, { 8, 0x08, 0x3d, "7" },
	{ 9, 0x09, 0x3e, "8" }, { 10, 0x0a, 0x46, "9" }, { 11, 0x0b, 0x45, "0" }, { 12, 0x0c, 0x4e, "minus" },
	{ 13, 0x0d, 0x55, "equal" }, { 14, 0x0e, 0x66, "backspace" }, { 15, 0x0f, 0x0d, "tab" },
	{ 16, 0x10, 0x15, "q" }, { 17, 0x11, 0x1d, "w" }, { 18, 0x12, 0x24, "e" }, { 19, 0x13, 0x2d, "r" },
	{ 20, 0x14, 0x2c, "t" }, { 21, 0x15, 0x35, "y" }, { 22, 0x16, 0x3c, "u" }, { 23, 0x17, 0x43, "i" },
	{ 24, 0x18, 0x44, "o" }, { 25, 0x19, 0x4d, "p" }, { 26, 0x1a, 0x54, "bracket_left" },
	{ 27, 0x1b, 0x5b, "bracket_right" }, { 28, 0x1c, 0x5a, "ret" }, { 29, 0x1d, 0x14, "ctrl" },
	{ 30, 0x1e, 0x1c, "a" }, { 31, 0x1f, 0x1b, "s" }, { 32, 0x20, 0x23, "d" }, { 33, 0x21, 0x2b, "f" },
	{ 34, 0x22, 0x34, "g" }, { 35, 0x23, 0x33, "h" }, { 36, 0x24, 0x3b, "j" }, { 37, 0x25, 0x42, "k" },
	{ 38, 0x26, 0x4b, "l" }, { 39, 0x27, 0x4c, "semicolon" }, { 40, 0x28, 0x52, "apostrophe" },
	{ 41, 0x29, 0x0e, "grave_accent" }, { 42, 0x2a, 0x12, "shift" }, { 43, 0x2b, 0x5d, "backslash" },
	{ 44, 0x2c, 0x1a, "z" }, { 45, 0x2d, 0x22, "x" }, { 46, 0x2e, 0x21, "c" }, { 47, 0x2f, 0x2a, "v" },
	{ 48, 0x30, 0x32, "b" }, { 49, 0x31, 0x31, "n" }, { 50, 0x32, 0x3a, "m" }, { 51, 0x33, 0x41, "comma" },
	{ 52, 0x34, 0x49, "dot" }, { 53, 0x35, 0x4a, "slash" }, { 54, 0x36, 0x59, "shift_r" },
	{ 55, 0x37, 0x7c, "kp_multiply" }, { 56, 0x38, 0x11, "alt" }, { 57, 0x39, 0x29, "spc" },
	{ 58, 0x3a, 0x58, "caps_lock" }, { 59, 0x3b, 0x05, "f1" }, { 60, 0x3c, 0x06, "f2" }, { 61, 0x3d, 0x04, "f3" },
	{ 62, 0x3e, 0x0c, "f4" }, { 63, 0x3f, 0x03, "f5" }, { 64, 0x40, 0x0b, "f6" }, { 65, 0x41, 0x83, "f7" },
	{ 66, 0x42, 0x0a, "f8" }, { 67, 0x43, 0x01, "f9" }, { 68, 0x44, 0x09, "f10" }, { 69, 0x45, 0x77, "num_lock" },
	{ 70, 0x46, 0x7e, "scroll_lock" }, { 71, 0x47, 0x6c, "kp_7" }, { 72, 0x48, 0x75, "kp_8" },
	{ 73, 0x49, 0x7d, "kp_9" }, { 74, 0x4a, 0x7b, "kp_subtract" }, { 75, 0x4b, 0x6b, "kp_4" },
	{ 76, 0x4c, 0x73, "kp_5" }, { 77, 0x4d, 0x74, "kp_6" }, { 78, 0x4e, 0x79, "kp_add" }, { 79, 0x4f, 0x69, "kp_1" },
	{ 80, 0x50, 0x72, "kp_2" }, { 81, 0x51, 0x7a, "kp_3" }, { 82, 0x52, 0x70, "kp_0" },
	{ 83, 0x53, 0x71, "kp_decimal" }, { 86, 0x56, 0x61, "less" }, { 87, 0x57, 0x78, "f11" },
	{ 88, 0x58, 0x07, "f12" }, { 89, 0x73, 0x51, "ro" }, { 92, 0x79, 0x64, "henkan" },
	{ 93, 0x70, 0x13, "katakanahiragana" }, { 94, 0x7b, 0x67, "muhenkan" }, { 96, E0 | 0x1c, 0x5a, "kp_enter" },
	{ 97, E0 | 0x1d, 0x14, "ctrl_r" }, { 98, E0 | 0x35, 0x4a, "kp_divide" }, { 99, E0 | 0x37, 0x7c, "print" },
	{ 100, E0 | 0x38, 0x11, "alt_r" }, { 102, E0 | 0x47, 0x6c, "home" }, { 103, E0 | 0x48, 0x75, "up" },
	{ 104, E0 | 0x49, 0x7d, "pgup" }, { 105, E0 | 0x4b, 0x6b, "left" }, { 106, E0 | 0x4d, 0x74, "right" },
	{ 107, E0 | 0x4f, 0x69, "end" }, { 108, E0 | 0x50, 0x72, "down" }, { 109, E0 | 0x51, 0x7a, "pgdn" },
	{ 110, E0 | 0x52, 0x70, "insert" }, { 111, E0 | 0x53, 0x71, "delete" }, { 113, E0 | 0x20, 0x23, "audiomute" },
	{ 114, E0 | 0x2e, 0x21, "volumedown" }, { 115, E0 | 0x30, 0x32, "volumeup" }, { 116, E0 | 0x5e, 0x37, "power" },
	{ 117, 0x59, 0x0f, "kp_equals" }, { KEY_CODE_PAUSE, E0 | 0x46, 0x77, "pause" }, { 121, 0x7e, 0x6d, "kp_comma" },
	{ 124, 0x7d, 0x6a, "yen" }, { 125, E0 | 0x5b, 0x1f, "meta_l" }, { 126, E0 | 0x5c, 0x27, "meta_r" },
	{ 127, E0 | 0x5d, 0x2f, "menu" }, { 142, E0 | 0x5f, 0x3f, "sleep" }, { 143, E0 | 0x63, 0x5e, "wake" },
};

static const struct {
	const char *name;
	uint8_t evdev;
} aliases[] = {
	{ "asterisk", 55 }, { "compose", 127 }, { "sysrq", 99 }, { "return", 28 }, { "enter", 28 }, { "space", 57 },
	{ "escape", 1 }, { "altgr", 100 }, { "del", 111 },
};

/* Characters on the keys from evdev code 2 on, without Shift and with; ' ' where there is none. */
static const char plain[] = "1234567890-=  qwertyuiop[]  asdfghjkl;'` \\zxcvbnm,./";
static const char shifted[] = "!@#$%^&*()_+  QWERTYUIOP{}  ASDFGHJKL:\"~ |ZXCVBNM<>?";

const struct key_info *key_by_evdev(unsigned code)
{
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i].evdev == code)
			return &keys[i];
	return NULL;
}

const struct key_info *key_by_set1(unsigned code)
{
	if (code == 0x54)	/* Print with Alt */
		code = E0 | 0x37;
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (keys[i].set1 == code)
			return &keys[i];
	return NULL;
}

const struct key_info *key_by_name(const char *name, size_t len)
{
	char *end;

	if (len == 1 && *name == '<')
		return key_by_evdev(86);
	for (unsigned i = 0; i < ARRAY_LEN(keys); i++)
		if (strlen(keys[i].name) == len && !strncmp(keys[i].name, name, len))
			return &keys[i];
	for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
		if (strlen(aliases[i].name) == len && !strncmp(aliases[i].name, name, len))
			return key_by_evdev(aliases[i].evdev);
	if (len > 2 && len < 6 && name[0] == '0' && name[1] == 'x' && isxdigit((unsigned char)name[2])) {
		unsigned long code = strtoul(name, &end, 16);

		return end == name + len ? key_by_set1((unsigned)code) : NULL;
	}
	return NULL;
}

const struct key_info *key_by_char(uint32_t c, bool *shift)
{
	const char *at;
	bool dummy;

	shift = shift ? shift : &dummy;
	*shift = false;
	switch (c) {
	case '\n': case '\r': return key_by_evdev(28);
	case '\t': return key_by_evdev(15);
	case '\b': return key_by_evdev(14);
	case 0x1b: return key_by_evdev(1);
	case ' ': return key_by_evdev(57);
	}
	if (c <= ' ' || c > '~')
		return NULL;
	at = strchr(plain, (int)c);
	if (at)
		return key_by_evdev((unsigned)(at - plain) + 2);
	at = strchr(shifted, (int)c);
	*shift = at != NULL;
	return at ? key_by_evdev((unsigned)(at - shifted) + 2) : NULL;
}

/* Keysyms from 0xff08 on that are no characters (X11/keysymdef.h). */
static const struct {
	uint16_t sym;
	uint8_t evdev;
} syms[] = {
	{ 0xff08, 14 }, { 0xff09, 15 }, { 0xff0a, 28 }, { 0xff0d, 28 }, { 0xff13, 119 }, { 0xff14, 70 }, { 0xff15, 99 },
	{ 0xff1b, 1 }, { 0xff23, 92 }, { 0xff22, 94 }, { 0xff27, 93 }, { 0xff50, 102 }, { 0xff51, 105 }, { 0xff52, 103 },
	{ 0xff53, 106 }, { 0xff54, 108 }, { 0xff55, 104 }, { 0xff56, 109 }, { 0xff57, 107 }, { 0xff61, 99 }, { 0xff63, 110 },
	{ 0xff67, 127 }, { 0xff6b, 119 }, { 0xff7e, 100 }, { 0xff7f, 69 }, { 0xff8d, 96 }, { 0xff95, 71 }, { 0xff96, 75 },
	{ 0xff97, 72 }, { 0xff98, 77 }, { 0xff99, 80 }, { 0xff9a, 73 }, { 0xff9b, 81 }, { 0xff9c, 79 }, { 0xff9d, 76 },
	{ 0xff9e, 82 }, { 0xff9f, 83 }, { 0xffaa, 55 }, { 0xffab, 78 }, { 0xffac, 121 }, { 0xffad, 74 }, { 0xffae, 83 },
	{ 0xffaf, 98 }, { 0xffb0, 82 }, { 0xffb1, 79 }, { 0xffb2, 80 }, { 0xffb3, 81 }, { 0xffb4, 75 }, { 0xffb5, 76 },
	{ 0xffb6, 77 }, { 0xffb7, 71 }, { 0xffb8, 72 }, { 0xffb9, 73 }, { 0xffbd, 117 }, { 0xffe1, 42 }, { 0xffe2, 54 },
	{ 0xffe3, 29 }, { 0xffe4, 97 }, { 0xffe5, 58 }, { 0xffe7, 125 }, { 0xffe8, 126 }, { 0xffe9, 56 }, { 0xffea, 100 },
	{ 0xffeb, 125 }, { 0xffec, 126 }, { 0xfe03, 100 }, { 0xfe20, 15 }, { 0xffff, 111 },
};

const struct key_info *key_by_keysym(uint32_t keysym, bool *shift)
{
	if (shift)
		*shift = false;
	if (keysym >= 0x01000020 && keysym < 0x0100007f)	/* Unicode */
		keysym -= 0x01000000;
	if (keysym < 0x80)
		return keysym >= ' ' ? key_by_char(keysym, shift) : NULL;
	if (keysym >= 0xffbe && keysym <= 0xffc7)		/* F1 to F10 */
		return key_by_evdev(59 + keysym - 0xffbe);
	if (keysym == 0xffc8 || keysym == 0xffc9)
		return key_by_evdev(87 + keysym - 0xffc8);
	for (unsigned i = 0; i < ARRAY_LEN(syms); i++)
		if (syms[i].sym == keysym)
			return key_by_evdev(syms[i].evdev);
	return NULL;
}
