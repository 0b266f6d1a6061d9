// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The host's side of virtio-vsock: the unix socket that host programs connect to, and those that guests reach.
 *
 * What a host program says before it has a connection is one short line, and no byte behind it is read.  A guest chooses the number
 * behind PATH_ and nothing else of a name.  Connecting never waits: a unix socket takes a connection at once or not at all.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "virtio/vsock_int.h"

#define SUFFIX_MAX 11			/* "_4294967295" */
#define BACKLOG 128
#define ACCEPT_BATCH 16			/* connections a turn of the loop */
#define RETRY_NS 1000000000ll		/* after descriptors had run out */
#define COMMAND "CONNECT "

/* ---- host to guest ---- */

void vsock_host_accept(struct vsock *v)
{
	bool may = v->n_conns < VIRTIO_VSOCK_CONNS && !v->accept_ns && !v->dev.paused;

	if (!may)
		loop_fd_del(&v->listen);
	else if (!v->listen.loop && v->listen.fd >= 0 && loop_fd_add(v->dev.m->loop, &v->listen)) {
		v->accept_ns = loop_now_ns() + RETRY_NS;
		vsock_host_arm(v);
	}
}

static void come(void *opaque, uint32_t events)
{
	struct vsock *v = opaque;

	for (unsigned i = 0; i < ACCEPT_BATCH && v->n_conns < VIRTIO_VSOCK_CONNS; i++) {
		int fd = accept4(v->listen.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			v->accept_ns = loop_now_ns() + RETRY_NS;
			vsock_host_arm(v);
		}
		if (fd < 0)
			break;
		vsock_conn_update(vsock_conn_new(v, VSOCK_HELLO, fd));
	}
	vsock_host_accept(v);
}

/* A port of the host's side that this port of the guest's has no connection with. */
static uint32_t new_port(struct vsock *v, uint32_t guest_port)
{
	uint32_t port;

	do {
		port = v->next_port;
		v->next_port = VSOCK_HOST_PORT(port + 1);
	} while (vsock_conn_find(v, guest_port, port));
	return port;
}

/* "CONNECT 1024", without the end of the line. */
static bool port_of(const char *line, uint32_t *port)
{
	const char *digits = line + strlen(COMMAND);
	unsigned long n;
	char *end;

	if (strncmp(line, COMMAND, strlen(COMMAND)) || *digits < '0' || *digits > '9')
		return false;
	errno = 0;
	n = strtoul(digits, &end, 10);
	*port = (uint32_t)n;
	return !errno && !*end && n < UINT32_MAX;	/* which means "any" */
}

static void call(struct vsock_conn *c)
{
	struct vsock *v = c->v;
	uint32_t port;

	if (!vsock_live(v) || !port_of(c->line, &port)) {
		v->stats.refused++;
		vsock_conn_free(c);
		return;
	}
	c->guest_port = port;
	c->host_port = new_port(v, port);
	c->state = VSOCK_CALLING;
	c->send = VSOCK_SEND_REQUEST;
	vsock_conn_deadline(c);
}

void vsock_host_hello(struct vsock_conn *c)
{
	char *to = c->line + c->line_len, *end;
	size_t room = sizeof(c->line) - c->line_len;
	ssize_t n = recv(c->fd.fd, to, room, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	end = n > 0 ? memchr(to, '\n', (size_t)n) : NULL;
	/* Only the line is taken; without its end all that has come of it. */
	if (n > 0)
		n = recv(c->fd.fd, to, end ? (size_t)(end - to) + 1 : (size_t)n, MSG_DONTWAIT);
	if (n <= 0 || (!end && (size_t)n == room)) {
		vsock_conn_free(c);
		return;
	}
	c->line_len += (unsigned)n;
	if (!end)
		return;
	*end = '\0';
	call(c);
}

void vsock_host_greet(struct vsock_conn *c)
{
	char text[24];
	int n = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

	/* The first bytes in an empty socket fit, unless nobody is there any more, which reading will tell. */
	if (send(c->fd.fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
		c->host_deaf = true;
}

int vsock_host_listen(struct vsock *v, const char *path, struct err *e)
{
	size_t max = sizeof(v->addr.sun_path) - 1 - SUFFIX_MAX;
	char here[PATH_MAX] = "", *whole;
	int fd, n, ret;

	if (*path != '/' && !getcwd(here, sizeof(here)))
		return err_set(e, -errno, "the folder this is run in has no name: %s", strerror(errno));
	n = asprintf(&whole, "%s%s%s", here, *path == '/' ? "" : "/", path);
	if (n < 0)
		return err_set(e, -ENOMEM, "out of memory");
	if ((size_t)n > max || !*path) {
		free(whole);
		return err_set(e, -ENAMETOOLONG, "'%.120s': the path of a vsock's socket has 1 to %zu bytes; choose a shorter one", path, max);
	}
	ret = unix_socket_listen(whole, BACKLOG, &fd, e);
	v->addr.sun_family = AF_UNIX;
	memcpy(v->addr.sun_path, whole, (size_t)n + 1);
	free(whole);
	if (ret)
		return ret;
	v->listen = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = come, .opaque = v };
	vsock_host_accept(v);
	return 0;
}

void vsock_host_close(struct vsock *v)
{
	loop_timer_cancel(&v->timer);
	loop_fd_del(&v->listen);
	unlink(v->addr.sun_path);
	close(v->listen.fd);
}

/* ---- guest to host ---- */

int vsock_host_connect(struct vsock *v, uint32_t port)
{
	struct sockaddr_un a = v->addr;
	int fd, ret;

	snprintf(a.sun_path + strlen(a.sun_path), SUFFIX_MAX + 1, "_%u", port);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)&a, sizeof(a)))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

/* ---- time ---- */

void vsock_host_arm(struct vsock *v)
{
	int64_t next = v->accept_ns;

	if (v->dev.paused)
		return;
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		int64_t t = v->conn[i].deadline_ns;

		if (t && (!next || t < next))
			next = t;
	}
	if (next)
		loop_timer_arm(&v->timer, next);
	else
		loop_timer_cancel(&v->timer);
}

void vsock_host_timer(void *opaque)
{
	struct vsock *v = opaque;
	int64_t now = loop_now_ns();

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++)
		if (v->conn[i].deadline_ns && v->conn[i].deadline_ns <= now)
			vsock_conn_expired(&v->conn[i]);
	if (v->accept_ns && v->accept_ns <= now) {
		v->accept_ns = 0;
		vsock_host_accept(v);
	}
	vsock_host_arm(v);
	vsock_pump(v);
}
