// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A chardev on a stream socket, unix or TCP: it listens, or connects, also again.
 *
 * One connection at a time.  A server that has one does not look at its listening
 * socket; who comes meanwhile waits there.  Without a connection output goes nowhere:
 * the guest must not wait for somebody who may never come.
 *
 * TLS and WebSockets are layers (base/stream.h).  Until they are there the connection is none to the front end, and one that does not get
 * there in time is given up, since a server listens to nobody else meanwhile.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "chardev/socket_int.h"

#define PIECE 4096u
#define PATIENCE_S 10
#define COMPLAINTS 10		/* in as many seconds */
#define SECOND 1000000000ll

static struct chardev_socket *of(struct chardev *c)
{
	return container_of(c, struct chardev_socket, c);
}

static void update_events(struct chardev_socket *s)
{
	bool in = s->want_in && !s->half;
	uint32_t ev = s->connecting ? EPOLLOUT : s->stream ? stream_watch(s->stream, in, s->want_out) :
		      (in ? EPOLLIN : 0u) | (s->want_out ? EPOLLOUT : 0u);

	if (s->conn.loop && s->conn.events != ev)
		loop_fd_mod(&s->conn, ev);
}

static void look_for_another(struct chardev_socket *s)
{
	/* Should even that fail there is the timer. */
	if (s->server && !s->listen.loop && loop_fd_add(s->c.l, &s->listen))
		loop_timer_arm(&s->again, loop_now_ns() + SECOND);
	else if (!s->server && s->reconnect_s)
		loop_timer_arm(&s->again, loop_now_ns() + s->reconnect_s * SECOND);
}

static void disconnect(struct chardev_socket *s)
{
	bool was_open = !s->connecting && !s->beginning;

	loop_fd_del(&s->conn);
	loop_bh_cancel(&s->more);
	loop_timer_cancel(&s->again);
	stream_free(s->stream);
	s->stream = NULL;
	close(s->conn.fd);
	s->conn.fd = -1;
	s->connecting = s->beginning = s->want_out = s->half = false;
	if (was_open)
		chardev_input_eof(&s->c);
	/* What nobody takes any more must not be in the guest's way. */
	chardev_output_ready(&s->c);
	look_for_another(s);
}

/* Others may provoke it as often as they like. */
static void complain(struct chardev_socket *s, const char *what)
{
	int64_t now = loop_now_ns();

	if (now - s->said_ns > COMPLAINTS * SECOND) {
		s->said_ns = now;
		s->n_said = 0;
	}
	if (s->n_said++ < COMPLAINTS)
		log_warn("chardev %s: %s", s->id ? s->id : s->c.label, what);
}

/* ---- bytes, through the layers that there are; -errno ---- */

static ssize_t get(struct chardev_socket *s, void *p, size_t n)
{
	ssize_t r = s->stream ? stream_recv(s->stream, p, n) : recv(s->conn.fd, p, n, MSG_DONTWAIT);

	return !s->stream && r < 0 ? -errno : r;
}

static ssize_t put(struct chardev_socket *s, const void *p, size_t n)
{
	ssize_t r = s->stream ? stream_send(s->stream, p, n) : send(s->conn.fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	return !s->stream && r < 0 ? -errno : r;
}

/* ---- a connection's beginning ---- */

static void connected(struct chardev_socket *s)
{
	ssize_t n;

	s->connecting = s->said = false;
	s->telnet = (struct telnet){ 0 };
	/* It is the first thing there, so there is room for it; who is gone already is found gone by reading. */
	if (s->is_telnet && (n = put(s, telnet_hello, sizeof(telnet_hello))) < 0)
		log_info("%s: %s", s->c.label, strerror((int)-n));
	update_events(s);
	chardev_opened(&s->c);
	if (s->stream && stream_pending(s->stream))
		loop_bh_post(&s->more);
}

static void go_on_beginning(struct chardev_socket *s)
{
	struct err e = { "" };
	int r = stream_begin(s->stream, &e);

	if (r == -EAGAIN) {
		update_events(s);
	} else if (r) {
		complain(s, e.msg);
		disconnect(s);
	} else {
		s->beginning = false;
		loop_timer_cancel(&s->again);
		connected(s);
	}
}

/* The socket is there; the layers over it come now. */
static void begin_layers(struct chardev_socket *s)
{
	const struct stream_opts o = { .fd = s->conn.fd, .tls = s->tls, .host = s->host, .guard = s->guard.allows ? &s->guard : NULL,
				       .websocket = s->websocket };

	s->connecting = false;
	if (!s->tls && !s->websocket) {
		connected(s);
		return;
	}
	s->beginning = true;
	if (stream_new(&o, &s->stream)) {
		complain(s, "out of memory for a connection");
		disconnect(s);
		return;
	}
	loop_timer_arm(&s->again, loop_now_ns() + PATIENCE_S * SECOND);
	go_on_beginning(s);
}

static void read_some(struct chardev_socket *s)
{
	size_t room = chardev_input_room(&s->c);
	uint8_t buf[PIECE];
	unsigned breaks = 0;
	ssize_t n;

	if (!room)
		return;
	n = get(s, buf, MIN(room, sizeof(buf)));
	if (n > 0)
		chardev_input(&s->c, buf, s->is_telnet ? telnet_input(&s->telnet, buf, (size_t)n, &breaks) : (size_t)n);
	while (breaks--)
		chardev_break(&s->c);
	if (s->stream && n > 0 && stream_pending(s->stream))
		loop_bh_post(&s->more);
	if (n > 0)
		return;
	if (n == 0 && chardev_answer_due(&s->c)) {
		s->half = true;
		update_events(s);
	} else if (n == 0 || (n != -EAGAIN && n != -EINTR)) {
		if (s->stream && n == -EPROTO)
			complain(s, stream_why(s->stream));
		disconnect(s);
	} else if (s->stream) {
		update_events(s);
	}
}

static void read_more(void *opaque)
{
	struct chardev_socket *s = opaque;

	if (s->stream && !s->beginning && s->want_in && !s->half)
		read_some(s);
}

/* The end of a connect that was begun. */
static void finish_connect(struct chardev_socket *s)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (!getsockopt(s->conn.fd, SOL_SOCKET, SO_ERROR, &error, &len) && !error) {
		begin_layers(s);
		return;
	}
	if (!s->said)
		log_warn("%s: %s; trying again every %u s", s->c.label, strerror(error), s->reconnect_s);
	s->said = true;
	disconnect(s);
}

static size_t socket_send(struct chardev *c, const uint8_t *buf, size_t len);

static void conn_ready(void *opaque, uint32_t events)
{
	struct chardev_socket *s = opaque;

	if (s->connecting) {
		finish_connect(s);
		return;
	}
	if (s->beginning) {
		go_on_beginning(s);
		return;
	}
	if (events & EPOLLOUT) {
		s->want_out = false;
		socket_send(&s->c, (const uint8_t *)"", 0);	/* what telnet is owed, and layers kept */
		chardev_output_ready(&s->c);
		update_events(s);
		if (s->stream && s->want_in)
			loop_bh_post(&s->more);
	}
	if (s->half && events & (EPOLLHUP | EPOLLERR)) {
		disconnect(s);
	} else if (s->conn.fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		/* It is gone, which would be told for ever, and there is no room yet for what it said last. */
		if (!chardev_input_room(&s->c))
			loop_fd_del(&s->conn);
		else
			read_some(s);
	}
}

/* Takes the descriptor. */
void chardev_socket_take(struct chardev_socket *s, int fd, bool connecting)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));	/* fails on unix sockets */
	s->connecting = connecting;
	s->conn = (struct loop_fd){ .fd = fd, .events = connecting ? EPOLLOUT : s->want_in ? EPOLLIN : 0, .cb = conn_ready, .opaque = s };
	if (loop_fd_add(s->c.l, &s->conn)) {
		close(fd);
		s->conn.fd = -1;
		s->connecting = false;
		look_for_another(s);
		return;
	}
	loop_fd_del(&s->listen);
	if (!connecting)
		begin_layers(s);
}

static void listen_ready(void *opaque, uint32_t events)
{
	struct chardev_socket *s = opaque;
	int fd = accept4(s->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		chardev_socket_take(s, fd, false);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* No descriptors: not to be asked all the time. */
		loop_fd_del(&s->listen);
		loop_timer_arm(&s->again, loop_now_ns() + SECOND);
	}
}

static int begin_connect(struct chardev_socket *s)
{
	int fd = socket(s->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), ret = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&s->at, s->at_len))
		ret = errno == EINPROGRESS ? 0 : -errno;
	if (ret)
		close(fd);
	else
		chardev_socket_take(s, fd, true);	/* writable when it is through, or has failed */
	return ret;
}

static void try_again(void *opaque)
{
	struct chardev_socket *s = opaque;

	if (s->beginning) {
		complain(s, s->tls ? "TLS: the other side does not answer" : "WebSocket: the other side does not begin");
		disconnect(s);
		return;
	}
	if (s->conn.fd >= 0)
		return;
	if (s->server || begin_connect(s))
		look_for_another(s);
}

void chardev_socket_try(struct chardev_socket *s) { try_again(s); }

/* ---- ops ---- */

/* To telnet an IAC that is data is two: up to the next one goes in one piece. */
static ssize_t send_piece(struct chardev_socket *s, const uint8_t *buf, size_t len)
{
	static const uint8_t iac = TELNET_IAC_BYTE;
	const uint8_t *at;
	ssize_t n;

	if (!s->is_telnet)
		return put(s, buf, len);
	if (s->telnet.owed) {
		n = put(s, &iac, 1);
		s->telnet.owed = n < 0;
		return n < 0 ? n : 0;
	}
	at = memchr(buf, iac, len);
	n = put(s, buf, at ? (size_t)(at - buf) + 1 : len);
	s->telnet.owed = at && n == at - buf + 1;
	return n;
}

static size_t socket_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct chardev_socket *s = of(c);
	bool flush = s->stream && !len;
	size_t done = 0;

	while ((done < len || s->telnet.owed || flush) && s->conn.fd >= 0 && !s->connecting && !s->beginning) {
		ssize_t n = send_piece(s, buf + done, len - done);

		flush = false;
		if (n == -EINTR)
			continue;
		if (n < 0 && n != -EAGAIN) {
			/* Reading finds out, and takes what it said last. */
			shutdown(s->conn.fd, SHUT_WR);
			return len;
		}
		if (n < 0) {
			s->want_out = true;
			update_events(s);
			return done;
		}
		done += (size_t)n;
	}
	if (s->stream)
		update_events(s);
	return len;
}

static void socket_want_input(struct chardev *c, bool yes)
{
	struct chardev_socket *s = of(c);

	s->want_in = yes;
	if (yes && s->conn.fd >= 0 && !s->conn.loop) {
		s->conn.events = EPOLLIN;
		if (loop_fd_add(c->l, &s->conn))
			disconnect(s);
	}
	update_events(s);
	if (yes && s->stream && !s->beginning)
		loop_bh_post(&s->more);
}

static void socket_answered(struct chardev *c)
{
	if (of(c)->half)
		disconnect(of(c));
}

static void socket_free(struct chardev *c)
{
	struct chardev_socket *s = of(c);

	loop_timer_cancel(&s->again);
	loop_bh_cancel(&s->more);
	loop_fd_del(&s->listen);
	loop_fd_del(&s->conn);
	stream_free(s->stream);
	tls_creds_unref(s->tls);
	if (s->listen.fd >= 0)
		close(s->listen.fd);
	if (s->conn.fd >= 0)
		close(s->conn.fd);
	if (s->path)
		unlink(s->path);
	free(s->path);
	free(s->host);
	free(s->id);
}

const struct chardev_ops chardev_socket_ops = {
	.send = socket_send,
	.want_input = socket_want_input,
	.answered = socket_answered,
	.free = socket_free,
};

void chardev_socket_init(struct chardev_socket *s)
{
	s->c.closed = s->want_in = true;
	s->conn.fd = -1;
	s->listen = (struct loop_fd){ .fd = -1, .events = EPOLLIN, .cb = listen_ready, .opaque = s };
	loop_timer_init(s->c.l, &s->again, try_again, s);
	loop_bh_init(s->c.l, &s->more, read_more, s);
}
