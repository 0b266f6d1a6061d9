// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * WebSockets (RFC 6455): the opening request, and binary frames.
 *
 * A browser's request has a path and headers nobody needs here but the key; who
 * may connect is decided by RFB's own authentication, so the origin is not looked at.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "display/vnc/vnc_int.h"

#define REQUEST_MAX 8192u
#define FRAME_MAX (VNC_IN_MAX - 14)	/* with its header it fits into what may wait */
#define GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
enum { OP_MORE, OP_TEXT, OP_BINARY, OP_CLOSE = 8, OP_PING, OP_PONG };

/* The value of a header in the request, its length; NULL: not there. */
static const char *header(const char *req, const char *name, size_t *len)
{
	size_t n = strlen(name);

	for (const char *line = strstr(req, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
		const char *p = line + 2;

		if (strncasecmp(p, name, n) || p[n] != ':')
			continue;
		p += n + 1;
		p += strspn(p, " \t");
		*len = strcspn(p, "\r\n");
		return p;
	}
	return NULL;
}

static int open_request(struct vnc_conn *c)
{
	char req[REQUEST_MAX + 1], text[128], accept[29], answer[256];
	size_t n = MIN(vnc_left(&c->raw), REQUEST_MAX), len = 0, plen = 0;
	const char *end, *key, *proto;

	memcpy(req, c->raw.data + c->raw.at, n);
	req[n] = '\0';
	end = strstr(req, "\r\n\r\n");
	if (!end)
		return n < REQUEST_MAX && strlen(req) == n ? 0 : -EPROTO;
	key = header(req, "Sec-WebSocket-Key", &len);
	if (strncmp(req, "GET ", 4) || !key || len > 64 || !header(req, "Upgrade", &plen)) {
		static const char no[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

		vnc_put(&c->wire, no, sizeof(no) - 1);
		c->ws_closed = true;
		vnc_drop(&c->raw, vnc_left(&c->raw));
		return 0;
	}
	snprintf(text, sizeof(text), "%.*s" GUID, (int)len, key);
	vnc_sha1_base64(text, strlen(text), accept);
	proto = header(req, "Sec-WebSocket-Protocol", &plen);
	snprintf(answer, sizeof(answer), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		 "Sec-WebSocket-Accept: %s\r\n%s\r\n", accept,
		 proto && memmem(proto, plen, "binary", 6) ? "Sec-WebSocket-Protocol: binary\r\n" : "");
	vnc_put(&c->wire, answer, strlen(answer));
	vnc_drop(&c->raw, (size_t)(end - req) + 4);
	c->ws_open = true;
	return 0;
}

static void frame(struct vnc_buf *b, unsigned op, const uint8_t *p, size_t n)
{
	vnc_put8(b, 0x80 | op);
	if (n < 126) {
		vnc_put8(b, (unsigned)n);
	} else if (n < 65536) {
		vnc_put8(b, 126);
		vnc_put16(b, (unsigned)n);
	} else {
		vnc_put8(b, 127);
		vnc_put32(b, 0);
		vnc_put32(b, (uint32_t)n);
	}
	vnc_put(b, p, n);
}

static void unmask(uint8_t *p, size_t n, const uint8_t key[4])
{
	for (size_t i = 0; i < n; i++)
		p[i] ^= key[i & 3];
}

/* One whole frame off raw; -EAGAIN: it has not come yet. */
static int take_frame(struct vnc_conn *c)
{
	uint8_t *p = c->raw.data + c->raw.at, *body;
	size_t have = vnc_left(&c->raw), head = 2, len;
	unsigned op;

	if (have < 2)
		return -EAGAIN;
	len = p[1] & 0x7f;
	head += len == 126 ? 2 : len == 127 ? 8 : 0;
	if (have < head + 4)
		return -EAGAIN;
	if (len == 126)
		len = be16(p + 2);
	else if (len == 127)
		len = be32(p + 2) ? FRAME_MAX + 1 : be32(p + 6);
	op = p[0] & 0x0f;
	if (!(p[1] & 0x80) || p[0] & 0x70 || len > FRAME_MAX || (op >= OP_CLOSE && len > 125))
		return -EPROTO;		/* clients mask (5.1) */
	if (have - head - 4 < len)
		return -EAGAIN;
	body = p + head + 4;
	unmask(body, len, p + head);
	switch (op) {
	case OP_MORE: case OP_BINARY: vnc_put(&c->in, body, len); break;
	case OP_PING: frame(&c->wire, OP_PONG, body, len); break;
	case OP_PONG: break;
	case OP_CLOSE:
		frame(&c->wire, OP_CLOSE, body, MIN(len, 2u));
		c->ws_closed = true;
		break;
	default: return -EPROTO;	/* text: not what VNC is spoken in */
	}
	vnc_drop(&c->raw, head + 4 + len);
	return 0;
}

int vnc_ws_read(struct vnc_conn *c)
{
	int r = 0;

	if (!c->ws_open)
		r = open_request(c);
	while (!r && c->ws_open && !c->ws_closed && vnc_left(&c->raw))
		r = vnc_conn_full(c) ? -ENOBUFS : take_frame(c);
	return r == -EAGAIN ? 0 : r;
}

void vnc_ws_write(struct vnc_conn *c)
{
	size_t n = vnc_left(&c->out);

	if (!c->ws_open || !n)
		return;
	frame(&c->wire, OP_BINARY, c->out.data + c->out.at, n);
	vnc_drop(&c->out, n);
}
