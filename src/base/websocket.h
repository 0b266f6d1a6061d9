/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The server's side of WebSockets (RFC 6455) as codecs of bytes: the opening request, a client's frames, frames to it.
 *
 * The stream is bytes, so frames are binary and their bounds mean nothing.  A browser's request has a path and headers that nobody needs
 * here but the key; who may connect is decided by what is spoken inside, so the origin is not looked at.  Any thread.
 */
#ifndef LODGE_BASE_WEBSOCKET_H
#define LODGE_BASE_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_REQUEST_MAX 8192u	/* bytes of an opening request */
#define WS_ANSWER_MAX 256u
#define WS_HEAD_MAX 10u		/* bytes before the contents of a frame to a client */
#define WS_CONTROL_MAX 125u

enum ws_op { WS_MORE, WS_TEXT, WS_BINARY, WS_CLOSE = 8, WS_PING, WS_PONG };

/* Of n bytes that came, the opening request.  0: it is not whole.  1: answer (text) opens, *used bytes were the request.  -EPROTO: it is none;
 * answer, which may be empty, says so. */
int ws_open(const uint8_t *p, size_t n, char answer[WS_ANSWER_MAX], size_t *used);

/* A client's frames.  Zeroed at the beginning. */
struct ws_in {
	uint8_t head[14];
	unsigned n_head;		/* bytes of it that have come */
	uint64_t left;			/* of the contents under way */
	unsigned turn;			/* of the mask's four bytes */
	bool body;			/* the head is whole */
	uint8_t control[WS_CONTROL_MAX];
	unsigned n_control;
};

/*
 * Takes bytes of p.  Contents go to out (n bytes; it may be p), *n_out of them.  *event: 0, or WS_PING or WS_CLOSE, whose contents are in
 * w->control until the next call; what is behind it is left.  Returns how many bytes were used, or -EPROTO: what comes is no frame of a
 * client's, or text.
 */
long ws_take(struct ws_in *w, const uint8_t *p, size_t n, uint8_t *out, size_t *n_out, enum ws_op *event);

/* What comes before n bytes of contents; its length. */
size_t ws_head(uint8_t head[WS_HEAD_MAX], enum ws_op op, size_t n);

#endif
