// SPDX-License-Identifier: GPL-2.0-or-later
/* Chardevs on sockets: listening, connecting, taking what was handed down.  What comes then is in socket.c. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/unix_socket.h"
#include "chardev/socket_int.h"

#define BACKLOG 4

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
	chardev_socket_take(s, p.fd, false);
	return 0;
}

static int open_client(struct chardev_socket *s, const struct chardev_socket_opts *o, struct err *e)
{
	int ret = find_peer(s, o, e);

	if (ret)
		return ret;
	if (!s->reconnect_s)
		return connect_once(s, o->live ? 1000 : 10000, e);
	chardev_socket_try(s);
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
		chardev_socket_take(s, o->fd, false);
		return s->conn.fd < 0 ? err_set(e, -EIO, "descriptor %d cannot be watched", o->fd) : 0;
	}
	if (fcntl(o->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(e, -errno, "descriptor %d: %s", o->fd, strerror(errno));
	ret = loop_fd_add(s->c.l, &s->listen);
	return ret ? err_set(e, ret, "descriptor %d: %s", o->fd, strerror(-ret)) : 0;
}

/* What is over the socket. */
static int take_layers(struct chardev_socket *s, const struct chardev_socket_opts *o, struct err *e)
{
	s->websocket = o->websocket;
	if (o->guard)
		s->guard = *o->guard;
	if (o->tls && tls_creds_server(o->tls) != o->server)
		return err_set(e, -EINVAL, "%s: the TLS credentials are a %s's", s->c.label, o->server ? "client" : "server");
	if (o->websocket && !o->server)
		return err_set(e, -EINVAL, "%s: only a server has WebSockets", s->c.label);
	s->tls = tls_creds_ref(o->tls);
	if (o->id)
		s->id = strdup(o->id);
	if (!o->server && o->tls && !o->path && o->fd <= 2)
		s->host = strdup(o->host && *o->host ? o->host : "127.0.0.1");
	return 0;
}

int chardev_socket_new(struct loop *l, const struct chardev_socket_opts *o, struct chardev **out, struct err *e)
{
	struct chardev_socket *s = calloc(1, sizeof(*s));
	int ret;

	if (!s || chardev_init(&s->c, l, &chardev_socket_ops)) {
		free(s);
		if (o->fd > 2)
			close(o->fd);
		return err_set(e, -ENOMEM, "no memory for the socket");
	}
	s->server = o->server;
	s->is_telnet = o->telnet;
	s->reconnect_s = o->server ? 0 : o->reconnect_s;
	chardev_socket_init(s);
	label(s, o);
	ret = take_layers(s, o, e);
	if (ret && o->fd > 2)
		close(o->fd);
	if (!ret)
		ret = o->fd > 2 ? open_fd(s, o, e) : o->server ? open_server(s, o, e) : open_client(s, o, e);
	if (ret) {
		chardev_socket_ops.free(&s->c);
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
	struct chardev_socket *s = (struct chardev_socket *)chardev_now(c);
	struct pollfd p = { .fd = s->listen.fd, .events = POLLIN };

	if (s->c.ops != &chardev_socket_ops || !s->server)
		return 0;
	log_warn("waiting for a client of %s", c->label);
	while (poll(&p, 1, 200) <= 0)
		if (signal_waits())
			return err_set(e, -EINTR, "%s: nobody came", c->label);
	return 0;
}
