// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * See stream.h.
 *
 * What is to go is put into `wire` and leaves from there, since TLS wants to see the same bytes again when it could not send them; more is
 * taken only when it is empty.  A pong waits beside it: only the newest ping wants one (RFC 6455, 5.5.3).
 */
#include "base/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "base/websocket.h"

#define PIECE 16384u

struct stream {
	int fd;
	struct tls *tls;
	bool shaken;			/* TLS is there */
	bool ws, open, closed;		/* framed; the request was answered; the other side has said that it ends */
	const char *why;
	struct ws_in in;
	uint8_t raw[WS_REQUEST_MAX];	/* of WebSocket's, not decoded yet */
	size_t raw_at, raw_len;
	uint8_t wire[PIECE + WS_HEAD_MAX];
	size_t wire_at, wire_len;
	uint8_t pong[WS_CONTROL_MAX + WS_HEAD_MAX];
	size_t pong_len;
};

int stream_new(const struct stream_opts *o, struct stream **out)
{
	struct stream *s = calloc(1, sizeof(*s));
	int ret = s ? 0 : -ENOMEM;

	if (s && o->tls)
		ret = tls_new(o->tls, o->fd, o->host, o->guard, &s->tls);
	if (ret) {
		free(s);
		return ret;
	}
	s->fd = o->fd;
	s->why = "";
	s->ws = o->websocket;
	*out = s;
	return 0;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	tls_free(s->tls);
	free(s);
}

/* ---- below WebSockets ---- */

static ssize_t get(struct stream *s, void *p, size_t n)
{
	ssize_t r = s->tls ? tls_read(s->tls, p, n) : recv(s->fd, p, n, MSG_DONTWAIT);

	if (!s->tls)
		return r < 0 ? -errno : r;
	if (r == -EPROTO)
		s->why = tls_why(s->tls);
	return r;
}

static ssize_t put(struct stream *s, const void *p, size_t n)
{
	ssize_t r = s->tls ? tls_write(s->tls, p, n) : send(s->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (!s->tls)
		return r < 0 ? -errno : r;
	if (r == -EPROTO)
		s->why = tls_why(s->tls);
	return r;
}

int stream_flush(struct stream *s)
{
	for (;;) {
		ssize_t n;

		if (s->wire_at == s->wire_len) {
			memcpy(s->wire, s->pong, s->pong_len);
			s->wire_at = 0;
			s->wire_len = s->pong_len;
			s->pong_len = 0;
		}
		if (!s->wire_len)
			return 0;
		n = put(s, s->wire + s->wire_at, s->wire_len - s->wire_at);
		if (n == -EINTR)
			continue;
		if (n < 0)
			return (int)n;
		s->wire_at += (size_t)n;
		if (s->wire_at == s->wire_len)
			s->wire_at = s->wire_len = 0;
	}
}

/* ---- the beginning ---- */

static int open_ws(struct stream *s, struct err *e)
{
	char answer[WS_ANSWER_MAX] = "";
	size_t used = 0;
	ssize_t n = 0;
	int r = 0;

	while (!r && (n = get(s, s->raw + s->raw_len, sizeof(s->raw) - s->raw_len)) > 0) {
		s->raw_len += (size_t)n;
		r = ws_open(s->raw, s->raw_len, answer, &used);
	}
	if (!r)
		return n == -EAGAIN || n == -EINTR ? -EAGAIN : err_set(e, -EPROTO, "WebSocket: %s", n == -EPROTO ? s->why : "the other side has closed the connection");
	s->wire_len = strlen(answer);
	memcpy(s->wire, answer, s->wire_len);
	s->raw_at = used;
	s->open = r > 0;
	n = stream_flush(s);
	if (r < 0)
		return err_set(e, r, "the other side opens no WebSocket");
	return n && n != -EAGAIN ? err_set(e, (int)n, "WebSocket: %s", strerror((int)-n)) : 0;
}

int stream_begin(struct stream *s, struct err *e)
{
	int r = s->tls && !s->shaken ? tls_handshake(s->tls) : 0;

	if (r == -EAGAIN)
		return r;
	if (r)
		return err_set(e, r, "TLS: %s", tls_why(s->tls));
	s->shaken = true;
	return s->ws && !s->open ? open_ws(s, e) : 0;
}

static bool beginning(const struct stream *s) { return (s->tls && !s->shaken) || (s->ws && !s->open); }

uint32_t stream_watch(const struct stream *s, bool in, bool out)
{
	bool turned = s->tls && (s->shaken ? tls_read_wants_write(s->tls) : tls_wants_write(s->tls)), left = s->wire_at < s->wire_len || s->pong_len;

	return (in || beginning(s) ? turned ? EPOLLOUT : EPOLLIN : 0u) | (left || (out && !beginning(s)) ? EPOLLOUT : 0u);
}

/* ---- bytes ---- */

static void answer_control(struct stream *s, enum ws_op op)
{
	size_t n = op == WS_CLOSE ? MIN(s->in.n_control, 2u) : s->in.n_control, head;

	head = ws_head(s->pong, op == WS_CLOSE ? WS_CLOSE : WS_PONG, n);
	memcpy(s->pong + head, s->in.control, n);
	s->pong_len = head + n;
	s->closed |= op == WS_CLOSE;
	stream_flush(s);		/* what goes wrong here is found out by reading */
}

static ssize_t recv_ws(struct stream *s, uint8_t *buf, size_t len)
{
	for (;;) {
		enum ws_op event = 0;
		size_t got = 0;
		ssize_t n;

		if (s->raw_at < s->raw_len && !s->closed) {
			n = ws_take(&s->in, s->raw + s->raw_at, MIN(len, s->raw_len - s->raw_at), buf, &got, &event);
			if (n < 0) {
				s->why = "WebSocket: what came is no frame of binary data";
				return n;
			}
			s->raw_at += (size_t)n;
			if (event)
				answer_control(s, event);
			if (got)
				return (ssize_t)got;
			continue;
		}
		if (s->closed)
			return 0;
		s->raw_at = s->raw_len = 0;
		n = get(s, s->raw, sizeof(s->raw));
		if (n <= 0)
			return n;
		s->raw_len = (size_t)n;
	}
}

ssize_t stream_recv(struct stream *s, void *buf, size_t len)
{
	return !len ? -EAGAIN : s->ws ? recv_ws(s, buf, len) : get(s, buf, len);
}

ssize_t stream_send(struct stream *s, const void *buf, size_t len)
{
	size_t n = MIN(len, (size_t)PIECE), head = 0;
	int r = stream_flush(s);

	if (r)
		return r;
	if (!n)
		return 0;
	if (s->ws)
		head = ws_head(s->wire, WS_BINARY, n);
	memcpy(s->wire + head, buf, n);
	s->wire_len = head + n;
	r = stream_flush(s);
	return r && r != -EAGAIN ? r : (ssize_t)n;
}

bool stream_pending(const struct stream *s)
{
	return s->raw_at < s->raw_len || s->closed || (s->tls && s->shaken && tls_pending(s->tls));
}

const char *stream_why(const struct stream *s) { return s->why; }
