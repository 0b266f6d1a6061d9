/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The telnet protocol as far as a terminal at a serial line needs it (RFC 854, 855; options 856, 857, 858): what we offer
 * is said once, what the other side says about options is taken note of by nobody, and breaks come through.
 */
#ifndef LODGE_CHARDEV_TELNET_H
#define LODGE_CHARDEV_TELNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum telnet_state { TELNET_DATA, TELNET_CR, TELNET_IAC, TELNET_OPTION, TELNET_SUB, TELNET_SUB_IAC };

/* Zeroed for a new connection. */
struct telnet {
	enum telnet_state state;
	bool owed;			/* a second IAC, which makes the last byte sent data */
};

#define TELNET_IAC_BYTE 255
/* To be sent first: we echo, need no go-ahead, and bytes are eight bits both ways. */
extern const uint8_t telnet_hello[12];
/* Takes commands out of what came; what is left is data, and how much.  *breaks: so many BRK among it. */
size_t telnet_input(struct telnet *t, uint8_t *buf, size_t n, unsigned *breaks);

#endif
