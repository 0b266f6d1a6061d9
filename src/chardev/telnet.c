// SPDX-License-Identifier: GPL-2.0-or-later
/* See telnet.h. */
#include "chardev/telnet.h"

enum { SE = 240, BRK = 243, SB = 250, WILL = 251, DO = 253, DONT = 254, IAC = TELNET_IAC_BYTE };
enum { BINARY = 0, ECHO = 1, SUPPRESS_GO_AHEAD = 3 };

const uint8_t telnet_hello[12] = {
	IAC, WILL, ECHO, IAC, WILL, SUPPRESS_GO_AHEAD, IAC, WILL, BINARY, IAC, DO, BINARY,
};

/* The byte behind an IAC.  True: it is data. */
static bool command(struct telnet *t, uint8_t c, unsigned *breaks)
{
	t->state = c == SB ? TELNET_SUB : c >= WILL && c <= DONT ? TELNET_OPTION : TELNET_DATA;
	*breaks += c == BRK;
	return c == IAC;
}

size_t telnet_input(struct telnet *t, uint8_t *buf, size_t n, unsigned *breaks)
{
	size_t to = 0;

	*breaks = 0;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = buf[i];
		bool data = false;

		switch (t->state) {
		case TELNET_CR:		/* who is not in binary mode says CR NUL for CR */
		case TELNET_DATA:
			data = c != IAC && (c || t->state == TELNET_DATA);
			t->state = c == IAC ? TELNET_IAC : c == '\r' ? TELNET_CR : TELNET_DATA;
			break;
		case TELNET_IAC:
			data = command(t, c, breaks);
			break;
		case TELNET_OPTION:
			t->state = TELNET_DATA;
			break;
		case TELNET_SUB:
			t->state = c == IAC ? TELNET_SUB_IAC : TELNET_SUB;
			break;
		case TELNET_SUB_IAC:
			t->state = c == SE ? TELNET_DATA : TELNET_SUB;
			break;
		}
		if (data)
			buf[to++] = c;
	}
	return to;
}
