// SPDX-License-Identifier: GPL-2.0-or-later
/* WebSockets (base/websocket.h) between a viewer's bytes and RFB's. */
#include <errno.h>
#include <string.h>

#include "display/vnc/vnc_int.h"

static int open_request(struct vnc_conn *c)
{
	char answer[WS_ANSWER_MAX];
	size_t used = 0;
	int r = ws_open(c->raw.data + c->raw.at, vnc_left(&c->raw), answer, &used);

	if (!r || (r < 0 && !answer[0]))
		return r;
	vnc_put(&c->wire, answer, strlen(answer));
	c->ws_open = r > 0;
	c->ws_closed = r < 0;
	vnc_drop(&c->raw, r < 0 ? vnc_left(&c->raw) : used);
	return 0;
}

static void frame(struct vnc_buf *b, enum ws_op op, const uint8_t *p, size_t n)
{
	uint8_t head[WS_HEAD_MAX];

	vnc_put(b, head, ws_head(head, op, n));
	vnc_put(b, p, n);
}

/* Decoded where it is, up to the next ping or end. */
static int take(struct vnc_conn *c)
{
	uint8_t *p = c->raw.data + c->raw.at;
	enum ws_op event;
	size_t got;
	long n = ws_take(&c->frames, p, vnc_left(&c->raw), p, &got, &event);

	if (n < 0)
		return (int)n;
	vnc_put(&c->in, p, got);
	vnc_drop(&c->raw, (size_t)n);
	if (event == WS_PING)
		frame(&c->wire, WS_PONG, c->frames.control, c->frames.n_control);
	if (event == WS_CLOSE)
		frame(&c->wire, WS_CLOSE, c->frames.control, MIN(c->frames.n_control, 2u));
	c->ws_closed |= event == WS_CLOSE;
	return 0;
}

int vnc_ws_read(struct vnc_conn *c)
{
	int r = 0;

	if (!c->ws_open)
		r = open_request(c);
	while (!r && c->ws_open && !c->ws_closed && vnc_left(&c->raw))
		r = vnc_conn_full(c) ? -ENOBUFS : take(c);
	return r;
}

void vnc_ws_write(struct vnc_conn *c)
{
	size_t n = vnc_left(&c->out);

	if (!c->ws_open || !n)
		return;
	frame(&c->wire, WS_BINARY, c->out.data + c->out.at, n);
	vnc_drop(&c->out, n);
}
