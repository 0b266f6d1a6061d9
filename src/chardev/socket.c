// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A chardev on a stream socket, unix or TCP: it listens, or connects, also again.
 *
 * One connection at a time.  A server that has one does not look at its listening
 * socket; who comes meanwhile waits there.  Without a connection output goes nowhere:
 * the guest must not wait for somebody who may never come.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "base/unix_socket.h"
#include "chardev/impl.h"
#include "chardev/telnet.h"

#define BACKLOG 4
#define PIECE 4096u
#define SECOND 1000000000ll

struct chardev_socket {
	struct chardev c;
	struct loop_fd listen, conn;	/* fd -1: none */
	struct loop_timer again;
	bool server, connecting, want_in, want_out, said, is_telnet;
	bool half;			/* the other side says no more, and waits for an answer */
	struct telnet telnet;
	unsigned reconnect_s;
	struct sockaddr_storage at;	/* a client's peer */
	socklen_t at_len;
	char *path;			/* of the socket we made */
};

static struct chardev_socket *of(struct chardev *c)
{
	return container_of(c, struct chardev_socket, c);
}

static void update_events(struct chardev_socket *s)
{
	uint32_t ev = s->connecting ? EPOLLOUT : (s->want_in && !s->half ? EPOLLIN : 0u) | (s->want_out ? EPOLLOUT : 0u);

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
	bool was_open = !s->connecting;

	loop_fd_del(&s->conn);
	close(s->conn.fd);
	s->conn.fd = -1;
	s->connecting = s->want_out = s->half = false;
	if (was_open)
		chardev_input_eof(&s->c);
	/* What nobody takes any more must not be in the guest's way. */
	chardev_output_ready(&s->c);
	look_for_another(s);
}

static void connected(struct chardev_socket *s)
{
	s->connecting = s->said = false;
	s->telnet = (struct telnet){ 0 };
	/* It is the first thing there, so there is room for it; who is gone already is found gone by reading. */
	if (s->is_telnet && send(s->conn.fd, telnet_hello, sizeof(telnet_hello), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_info("%s: %s", s->c.label, strerror(errno));
	update_events(s);
	chardev_opened(&s->c);
}

static void read_some(struct chardev_socket *s)
{
	size_t room = chardev_input_room(&s->c);
	uint8_t buf[PIECE];
	unsigned breaks = 0;
	ssize_t n;

	if (!room)
		return;
	n = recv(s->conn.fd, buf, MIN(room, sizeof(buf)), MSG_DONTWAIT);
	if (n > 0)
		chardev_input(&s->c, buf, s->is_telnet ? telnet_input(&s->telnet, buf, (size_t)n, &breaks) : (size_t)n);
	while (breaks--)
		chardev_break(&s->c);
	if (n > 0)
		return;
	if (n == 0 && chardev_answer_due(&s->c)) {
		s->half = true;
		update_events(s);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		disconnect(s);
	}
}

/* The end of a connect that was begun. */
static void finish_connect(struct chardev_socket *s)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (!getsockopt(s->conn.fd, SOL_SOCKET, SO_ERROR, &error, &len) && !error) {
		connected(s);
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
	if (events & EPOLLOUT) {
		s->want_out = false;
		update_events(s);
		socket_send(&s->c, (const uint8_t *)"", 0);	/* what telnet is owed */
		chardev_output_ready(&s->c);
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
static void take_connection(struct chardev_socket *s, int fd, bool connecting)
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
		connected(s);
}

static void listen_ready(void *opaque, uint32_t events)
{
	struct chardev_socket *s = opaque;
	int fd = accept4(s->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		take_connection(s, fd, false);
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
		take_connection(s, fd, true);	/* writable when it is through, or has failed */
	return ret;
}

static void try_again(void *opaque)
{
	struct chardev_socket *s = opaque;

	if (s->conn.fd >= 0)
		return;
	if (s->server || begin_connect(s))
		look_for_another(s);
}

/* ---- ops ---- */

/* To telnet an IAC that is data is two: up to the next one goes in one piece. */
static ssize_t send_piece(struct chardev_socket *s, const uint8_t *buf, size_t len)
{
	static const uint8_t iac = TELNET_IAC_BYTE;
	const uint8_t *at;
	ssize_t n;

	if (!s->is_telnet)
		return send(s->conn.fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (s->telnet.owed) {
		n = send(s->conn.fd, &iac, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		s->telnet.owed = n < 0;
		return n < 0 ? n : 0;
	}
	at = memchr(buf, iac, len);
	n = send(s->conn.fd, buf, at ? (size_t)(at - buf) + 1 : len, MSG_NOSIGNAL | MSG_DONTWAIT);
	s->telnet.owed = at && n == at - buf + 1;
	return n;
}

static size_t socket_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct chardev_socket *s = of(c);
	size_t done = 0;

	while ((done < len || s->telnet.owed) && s->conn.fd >= 0 && !s->connecting) {
		ssize_t n = send_piece(s, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
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
	loop_fd_del(&s->listen);
	loop_fd_del(&s->conn);
	if (s->listen.fd >= 0)
		close(s->listen.fd);
	if (s->conn.fd >= 0)
		close(s->conn.fd);
	if (s->path)
		unlink(s->path);
	free(s->path);
}

static const struct chardev_ops ops = {
	.send = socket_send,
	.want_input = socket_want_input,
	.answered = socket_answered,
	.free = socket_free,
};

/* ---- making one ---- */

static int resolve(const struct chardev_socket_opts *o, struct addrinfo **out, struct err *e)
{
	const struct addrinfo hint = { .ai_socktype = SOCK_STREAM, .ai_flags = (o->server ? AI_PASSIVE : 0) | (o->live ? AI_NUMERICHOST : 0) };
	const char *host = o->host && *o->host ? o->host : "127.0.0.1";
	int r = getaddrinfo(host, o->port, &hint, out);

	return r ? err_set(e, -EINVAL, "%s:%s: %s", host, o->port, gai_strerror(r)) : 0;
}

static int listen_tcp(const struct addrinfo *x, int *out)
{
	int fd = socket(x->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, ret;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!bind(fd, x->ai_addr, x->ai_addrlen) && !listen(fd, BACKLOG))
		return *out = fd, 0;
	ret = -errno;
	close(fd);
	return ret;
}

static void label(struct chardev_socket *s, const struct chardev_socket_opts *o)
{
	const char *side = o->server ? ",server=on" : "";

	if (o->fd > 2)
		snprintf(s->c.label, sizeof(s->c.label), "fd:%d%s", o->fd, side);
	else if (o->path)
		snprintf(s->c.label, sizeof(s->c.label), "unix:%.130s%s", o->path, side);
	else
		snprintf(s->c.label, sizeof(s->c.label), "%s:%.100s:%.20s%s", o->telnet ? "telnet" : "tcp", o->host && *o->host ? o->host : "127.0.0.1", o->port, side);
}

static int open_server(struct chardev_socket *s, const struct chardev_socket_opts *o, struct err *e)
{
	struct addrinfo *list;
	int ret;

	if (o->path) {
		ret = unix_socket_listen(o->path, BACKLOG, &s->listen.fd, e);
		if (!ret)
			s->path = strdup(o->path);
	} else {
		ret = resolve(o, &list, e);
		if (ret)
			return ret;
		ret = listen_tcp(list, &s->listen.fd);
		freeaddrinfo(list);
		if (ret)
			return err_set(e, ret, "%s: %s", s->c.label, strerror(-ret));
	}
	if (ret)
		return ret;
	ret = loop_fd_add(s->c.l, &s->listen);
	return ret ? err_set(e, ret, "%s: %s", s->c.label, strerror(-ret)) : 0;
}

static int find_peer(struct chardev_socket *s, const struct chardev_socket_opts *o, struct err *e)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&s->at;
	struct addrinfo *list;
	int ret;

	if (o->path) {
		if (strlen(o->path) >= sizeof(un->sun_path))
			return err_set(e, -ENAMETOOLONG, "%s: too long for a socket's path", o->path);
		un->sun_family = AF_UNIX;
		memcpy(un->sun_path, o->path, strlen(o->path) + 1);
		s->at_len = sizeof(*un);
		return 0;
	}
	ret = resolve(o, &list, e);
	if (ret)
		return ret;
	memcpy(&s->at, list->ai_addr, list->ai_addrlen);
	s->at_len = list->ai_addrlen;
	freeaddrinfo(list);
	return 0;
}

/* One that is not to be repeated says now whether it works. */
static int connect_once(struct chardev_socket *s, int patience_ms, struct err *e)
{
	struct pollfd p = { .events = POLLOUT };
	int error = 0, ret;
	socklen_t len = sizeof(error);

	p.fd = socket(s->at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p.fd < 0)
		return err_set(e, -errno, "%s: %s", s->c.label, strerror(errno));
	ret = connect(p.fd, (struct sockaddr *)&s->at, s->at_len) ? -errno : 0;
	if (ret == -EINPROGRESS) {
		ret = poll(&p, 1, patience_ms) == 1 ? 0 : -ETIMEDOUT;
		if (!ret && (getsockopt(p.fd, SOL_SOCKET, SO_ERROR, &error, &len) || error))
			ret = error ? -error : -errno;
	}
	if (ret) {
		close(p.fd);
		return err_set(e, ret, "%s: %s", s->c.label, strerror(-ret));
	}
	take_connection(s, p.fd, false);
	return 0;
}

static int open_client(struct chardev_socket *s, const struct chardev_socket_opts *o, struct err *e)
{
	int ret = find_peer(s, o, e);

	if (ret)
		return ret;
	if (!s->reconnect_s)
		return connect_once(s, o->live ? 1000 : 10000, e);
	try_again(s);
	return 0;
}

/* One that was handed down. */
static int open_fd(struct chardev_socket *s, const struct chardev_socket_opts *o, struct err *e)
{
	int listening = 0, flags = fcntl(o->fd, F_GETFL), ret;
	socklen_t len = sizeof(listening);

	if (flags < 0 || getsockopt(o->fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len)) {
		ret = err_set(e, -errno, "descriptor %d is no socket: %s", o->fd, strerror(errno));
		close(o->fd);
		return ret;
	}
	s->listen.fd = listening ? o->fd : -1;		/* socket_free closes it */
	if (!listening && o->server)
		close(o->fd);
	if (!listening != !o->server)
		return err_set(e, -EINVAL, "descriptor %d is a socket that %s; say server=%s", o->fd, listening ? "listens" : "is connected",
			       listening ? "on" : "off");
	if (!listening) {
		take_connection(s, o->fd, false);
		return s->conn.fd < 0 ? err_set(e, -EIO, "descriptor %d cannot be watched", o->fd) : 0;
	}
	if (fcntl(o->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(e, -errno, "descriptor %d: %s", o->fd, strerror(errno));
	ret = loop_fd_add(s->c.l, &s->listen);
	return ret ? err_set(e, ret, "descriptor %d: %s", o->fd, strerror(-ret)) : 0;
}

int chardev_socket_new(struct loop *l, const struct chardev_socket_opts *o, struct chardev **out, struct err *e)
{
	struct chardev_socket *s = calloc(1, sizeof(*s));
	int ret;

	if (!s || chardev_init(&s->c, l, &ops)) {
		free(s);
		if (o->fd > 2)
			close(o->fd);
		return err_set(e, -ENOMEM, "no memory for the socket");
	}
	s->server = o->server;
	s->is_telnet = o->telnet;
	s->reconnect_s = o->server ? 0 : o->reconnect_s;
	s->c.closed = s->want_in = true;
	s->conn.fd = -1;
	s->listen = (struct loop_fd){ .fd = -1, .events = EPOLLIN, .cb = listen_ready, .opaque = s };
	loop_timer_init(l, &s->again, try_again, s);
	label(s, o);
	ret = o->fd > 2 ? open_fd(s, o, e) : o->server ? open_server(s, o, e) : open_client(s, o, e);
	if (ret) {
		socket_free(&s->c);
		chardev_discard(&s->c);
		return ret;
	}
	*out = &s->c;
	return 0;
}

/* Signals are blocked, and read by the VM when it runs: one that waits ends this. */
static bool signal_waits(void)
{
	sigset_t set;

	return !sigpending(&set) && (sigismember(&set, SIGINT) || sigismember(&set, SIGTERM) || sigismember(&set, SIGHUP) ||
				     sigismember(&set, SIGQUIT));
}

int chardev_socket_wait(struct chardev *c, struct err *e)
{
	struct chardev_socket *s = of(chardev_now(c));
	struct pollfd p = { .fd = s->listen.fd, .events = POLLIN };

	if (s->c.ops != &ops || !s->server)
		return 0;
	log_warn("waiting for a client of %s", c->label);
	while (poll(&p, 1, 200) <= 0)
		if (signal_waits())
			return err_set(e, -EINTR, "%s: nobody came", c->label);
	return 0;
}
