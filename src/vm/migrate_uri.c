// SPDX-License-Identifier: GPL-2.0-or-later
/* Where migrations go to and come from: addresses, QEMU's URIs. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "vm/migrate_wire.h"

#define BACKLOG 4
#define HOST_LEN 256
#define KEEP_IDLE_S 10

extern char **environ;

static bool is_tcp(const char *uri) { return !strncmp(uri, "tcp:", 4); }
static bool is_unix(const char *uri) { return !strncmp(uri, "unix:", 5) && uri[5]; }
static bool is_exec(const char *uri) { return !strncmp(uri, "exec:", 5) && uri[5]; }

bool mig_uri_listens(const char *uri) { return is_tcp(uri) || is_unix(uri); }

static bool fd_of(const char *uri, int *fd)
{
	char *end;
	long n;

	if (strncmp(uri, "fd:", 3) || !isdigit((unsigned char)uri[3]))
		return false;
	n = strtol(uri + 3, &end, 10);
	*fd = (int)n;
	return !*end && n >= 0 && n < 1 << 20;
}

/* "tcp:HOST:PORT"; an IPv6 address stands in brackets. */
static int split(const char *uri, char host[HOST_LEN], const char **port, struct err *e)
{
	const char *text = uri + 4, *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;

	if (colon && len >= 2 && text[0] == '[' && colon[-1] == ']') {
		text++;
		len -= 2;
	}
	if (!colon || !isdigit((unsigned char)colon[1]) || strspn(colon + 1, "0123456789") != strlen(colon + 1) || atol(colon + 1) > 65535 ||
	    len >= HOST_LEN)
		return err_set(e, -EINVAL, "'%.100s' is not tcp:HOST:PORT", uri);
	memcpy(host, text, len);
	host[len] = '\0';
	*port = colon + 1;
	return 0;
}

int mig_uri_check(const char *uri, struct err *e)
{
	char host[HOST_LEN];
	const char *port;
	int fd;

	if (is_tcp(uri))
		return split(uri, host, &port, e);
	if (is_unix(uri) || is_exec(uri) || fd_of(uri, &fd))
		return 0;
	return err_set(e, -EINVAL, "'%.100s' is not one of tcp:HOST:PORT, unix:PATH, exec:COMMAND, fd:N", uri);
}

char *mig_uri_host(const char *uri)
{
	char host[HOST_LEN];
	const char *port;
	struct err e;

	return is_tcp(uri) && !split(uri, host, &port, &e) && *host ? strdup(host) : NULL;
}

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : 0;
}

/* Small records are waited for by the other side; a host that has vanished is noticed. */
static void tune(int fd)
{
	int one = 1, idle = KEEP_IDLE_S;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

static int finish_connect(int fd, int stop_fd, int timeout_ms)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLOUT }, { .fd = stop_fd, .events = POLLIN } };
	socklen_t len = sizeof(int);
	int n, ret = 0;

	do
		n = poll(p, 2, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n ? -errno : -ETIMEDOUT;
	if (p[1].revents)
		return -ECANCELED;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &ret, &len) ? -errno : -ret;
}

static int open_tcp(const char *uri, bool server, int stop_fd, int timeout_ms, int *out, struct err *e)
{
	const struct addrinfo hint = { .ai_socktype = SOCK_STREAM, .ai_flags = server ? AI_PASSIVE : 0 };
	struct addrinfo *list = NULL;
	char host[HOST_LEN];
	const char *port;
	int ret = split(uri, host, &port, e), one = 1;

	if (ret)
		return ret;
	ret = getaddrinfo(*host ? host : NULL, port, &hint, &list);
	if (ret)
		return err_set(e, -EINVAL, "%s: %s", uri, gai_strerror(ret));
	ret = -EADDRNOTAVAIL;
	for (const struct addrinfo *x = list; x && ret; x = x->ai_next) {
		int fd = socket(x->ai_family, x->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, x->ai_protocol);

		if (fd < 0) {
			ret = -errno;
			continue;
		}
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		ret = (server ? bind(fd, x->ai_addr, x->ai_addrlen) || listen(fd, BACKLOG) : connect(fd, x->ai_addr, x->ai_addrlen)) ? -errno : 0;
		if (ret == -EINPROGRESS)
			ret = finish_connect(fd, stop_fd, timeout_ms);
		if (ret)
			close(fd);
		else
			*out = fd;
	}
	freeaddrinfo(list);
	return ret ? err_set(e, ret, "%s: %s", uri, strerror(-ret)) : 0;
}

/* A shell's command with a socket as its standard input and output. */
static int start_command(const char *command, int *out, pid_t *pid, struct err *e)
{
	const char *argv[] = { "sh", "-c", command, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return err_set(e, -errno, "socketpair: %s", strerror(errno));
	sigemptyset(&none);
	sigemptyset(&all);
	sigaddset(&all, SIGPIPE);
	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_adddup2(&actions, pair[1], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
	posix_spawn_file_actions_addclosefrom_np(&actions, 3);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	ret = posix_spawn(pid, "/bin/sh", &actions, &attr, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	close(pair[1]);
	*out = pair[0];
	if (!ret)
		return 0;
	close(pair[0]);
	return err_set(e, -ret, "exec: /bin/sh: %s", strerror(ret));
}

int mig_connect(const char *uri, int stop_fd, int timeout_ms, struct mig_chan *c, struct err *e)
{
	pid_t child = 0;
	int fd = -1, ret;

	if (is_tcp(uri))
		ret = open_tcp(uri, false, stop_fd, timeout_ms, &fd, e);
	else if (is_unix(uri))
		ret = unix_socket_connect(uri + 5, (unsigned)(timeout_ms > 0 ? timeout_ms : 0), &fd, e);
	else if (is_exec(uri))
		ret = start_command(uri + 5, &fd, &child, e);
	else
		ret = fd_of(uri, &fd) ? 0 : err_set(e, -EINVAL, "'%.100s' is no address", uri);
	if (ret)
		return ret;
	ret = nonblocking(fd);
	if (ret) {
		close(fd);
		return err_set(e, ret, "%.100s: %s", uri, strerror(-ret));
	}
	tune(fd);
	ret = mig_chan_init(c, fd, fd, stop_fd, e);
	c->child = child;
	return ret;
}

int mig_listen(const char *uri, int *fd, unsigned *port, struct err *e)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);
	char text[8] = "0";
	int ret;

	*port = 0;
	if (is_unix(uri))
		return unix_socket_listen(uri + 5, BACKLOG, fd, e);
	ret = open_tcp(uri, true, -1, -1, fd, e);
	if (!ret && !getsockname(*fd, (struct sockaddr *)&ss, &len) &&
	    !getnameinfo((struct sockaddr *)&ss, len, NULL, 0, text, sizeof(text), NI_NUMERICSERV))
		*port = (unsigned)atoi(text);
	return ret;
}

int mig_accept(int listen_fd, int stop_fd, int timeout_ms, struct mig_chan *c, struct err *e)
{
	struct pollfd p[2] = { { .fd = listen_fd, .events = POLLIN }, { .fd = stop_fd, .events = POLLIN } };
	int n, fd;

	for (;;) {
		n = poll(p, 2, timeout_ms);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(e, -errno, "poll: %s", strerror(errno));
		if (!n)
			return err_set(e, -ETIMEDOUT, "nobody came");
		if (p[1].revents)
			return err_set(e, -ECANCELED, "it was cancelled");
		fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			break;
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			/* Short of descriptors or memory: later there may be some. */
			n = -errno;
			usleep(100000);
			return err_set(e, n, "accept: %s", strerror(-n));
		}
	}
	tune(fd);
	return mig_chan_init(c, fd, fd, stop_fd, e);
}
