// SPDX-License-Identifier: GPL-2.0-or-later
/* Buffers, and the bytes of a connection through TLS and WebSocket frames. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "display/vnc/vnc_int.h"

uint8_t *vnc_room(struct vnc_buf *b, size_t n)
{
	if (b->failed)
		return NULL;
	if (!b->data || n > b->room - b->len) {
		size_t room = MAX(b->room * 2, b->len + n + 1024);
		uint8_t *p = realloc(b->data, room);

		if (!p) {
			b->failed = true;
			return NULL;
		}
		b->data = p;
		b->room = room;
	}
	return b->data + b->len;
}

void vnc_put(struct vnc_buf *b, const void *p, size_t n)
{
	uint8_t *to = vnc_room(b, n);

	if (to && n) {
		memcpy(to, p, n);
		b->len += n;
	}
}

void vnc_put8(struct vnc_buf *b, unsigned v) { vnc_put(b, &(uint8_t){ (uint8_t)v }, 1); }
void vnc_put16(struct vnc_buf *b, unsigned v) { vnc_put(b, (uint8_t[]){ (uint8_t)(v >> 8), (uint8_t)v }, 2); }
void vnc_put32(struct vnc_buf *b, uint32_t v)
{
	vnc_put16(b, v >> 16);
	vnc_put16(b, v & 0xffff);
}

void vnc_drop(struct vnc_buf *b, size_t n)
{
	b->at += n;
	if (b->at == b->len) {
		b->at = b->len = 0;
		if (b->room > 4u << 20) {	/* one large update is no reason to keep so much */
			free(b->data);
			b->data = NULL;
			b->room = 0;
		}
	} else if (b->at > 64u << 10 && b->at > b->len / 2) {
		memmove(b->data, b->data + b->at, b->len - b->at);
		b->len -= b->at;
		b->at = 0;
	}
}

void vnc_buf_free(struct vnc_buf *b)
{
	free(b->data);
	*b = (struct vnc_buf){ 0 };
}

size_t vnc_conn_pending(const struct vnc_conn *c) { return vnc_left(&c->out) + vnc_left(&c->wire); }
bool vnc_conn_full(const struct vnc_conn *c) { return vnc_conn_pending(c) > c->update + VNC_OUT_ANSWERS; }

static ssize_t get(struct vnc_conn *c, void *p, size_t n)
{
	ssize_t r;

	if (c->tls && c->tls_started)
		return tls_read(c->tls, p, n);
	r = read(c->fd, p, n);
	return r < 0 ? -errno : r;
}

int vnc_conn_read(struct vnc_conn *c)
{
	struct vnc_buf *to = c->ws ? &c->raw : &c->in;
	ssize_t n;

	if (vnc_left(to) >= VNC_IN_MAX || vnc_left(&c->in) >= VNC_IN_MAX)
		return 0;			/* what is there must be understood first */
	if (!vnc_room(to, 16384))
		return -ENOMEM;
	n = get(c, to->data + to->len, 16384);
	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return n == -EINTR ? 0 : (int)n;
	to->len += (size_t)n;
	return c->ws ? vnc_ws_read(c) : 0;
}

int vnc_conn_write(struct vnc_conn *c)
{
	if (c->out.failed || c->wire.failed)
		return -ENOMEM;
	if (c->ws) {
		vnc_ws_write(c);
	} else if (!vnc_left(&c->wire)) {
		struct vnc_buf empty = c->wire;

		c->wire = c->out;
		c->out = empty;
	}
	while (vnc_left(&c->wire)) {
		ssize_t n = c->tls && c->tls_started ? tls_write(c->tls, c->wire.data + c->wire.at, vnc_left(&c->wire))
						     : send(c->fd, c->wire.data + c->wire.at, vnc_left(&c->wire), MSG_NOSIGNAL);

		if (n < 0 && !(c->tls && c->tls_started))
			n = -errno;
		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		vnc_drop(&c->wire, (size_t)n);
	}
	if (vnc_left(&c->out))
		return -EAGAIN;
	c->update = 0;
	return 0;
}

void vnc_conn_close(struct vnc_conn *c)
{
	tls_free(c->tls);
	if (c->fd >= 0)
		close(c->fd);
	vnc_buf_free(&c->raw);
	vnc_buf_free(&c->in);
	vnc_buf_free(&c->out);
	vnc_buf_free(&c->wire);
	c->fd = -1;
	c->tls = NULL;
}
