// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge vsock`: standard input and output joined with a port of a running guest (virtio/vsock.h has the convention). */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "control/place.h"
#include "run/opts.h"

#define CHUNK 65536

/* A name is a guest's, unless it is a path. */
static int find_socket(const char *name, char *path, size_t len, struct err *e)
{
	char root[128];
	int ret;

	if (strchr(name, '/')) {
		snprintf(path, len, "%s", name);
		return 0;
	}
	ret = ctl_place_root(root, sizeof(root), false, e);
	if (!ret)
		snprintf(path, len, "%s/%.64s.vsock", root, name);
	if (ret == -ENOENT || (!ret && access(path, F_OK)))
		return err_set(e, -ENOENT, "no guest named '%s' runs with --vsock and no path of its own for it; give the socket's path", name);
	return ret;
}

static int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t ret = write(fd, p, n);

		if (ret < 0 && errno == EINTR)
			continue;
		if (ret < 0)
			return -errno;
		p += ret;
		n -= (size_t)ret;
	}
	return 0;
}

/* No byte behind the answer is taken. */
static int ask(int fd, const char *port, struct err *e)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "CONNECT %.40s\n", port), ret = write_all(fd, line, (size_t)n);
	size_t len = 0;

	if (ret)
		return err_set(e, ret, "the guest's socket: %s", strerror(-ret));
	do {
		if (read(fd, line + len, 1) != 1)
			return err_set(e, -ECONNREFUSED, "port %.40s of the guest: nothing listens there, or its vsock driver is not up", port);
	} while (line[len] != '\n' && ++len < sizeof(line));
	return strncmp(line, "OK ", 3) ? err_set(e, -EPROTO, "the socket is not a vsock's") : 0;
}

/* Bytes, 0 at the end, or a negative errno. */
static ssize_t copy(int from, int to, char *buf)
{
	ssize_t n = read(from, buf, CHUNK);
	int ret;

	if (n < 0)
		return errno == EINTR ? 1 : -errno;
	ret = write_all(to, buf, (size_t)n);
	return ret ? ret : n;
}

/* Until the guest ends its direction; the end of the input is passed on. */
static int relay(int fd, char *buf, struct err *e)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	ssize_t n;

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return err_set(e, -errno, "poll: %s", strerror(errno));
		if (p[1].revents) {
			n = copy(STDIN_FILENO, fd, buf);
			if (n <= 0) {
				shutdown(fd, SHUT_WR);
				p[1].fd = -1;
			}
		}
		if (!p[0].revents)
			continue;
		n = copy(fd, STDOUT_FILENO, buf);
		if (n < 0)
			return err_set(e, (int)n, "%s", strerror((int)-n));
		if (!n)
			return 0;
	}
}

static int talk(const char *name, const char *port, struct err *e)
{
	char path[256], *buf = malloc(CHUNK);
	int fd = -1, ret = buf ? 0 : err_set(e, -ENOMEM, "out of memory");

	if (!ret && (!*port || port[strspn(port, "0123456789")]))
		ret = err_set(e, -EINVAL, "'%.40s' is not a number of a port", port);
	if (!ret)
		ret = find_socket(name, path, sizeof(path), e);
	if (!ret)
		ret = unix_socket_connect(path, 0, &fd, e);
	if (!ret)
		ret = ask(fd, port, e);
	if (!ret)
		ret = relay(fd, buf, e);
	if (fd >= 0)
		close(fd);
	free(buf);
	return ret;
}

int vsock_main(const struct verb *v, int argc, char **argv)
{
	struct opt_state st = { 0 };
	struct err e = { 0 };
	int ret = opts_alone(v, argc, argv, &st);

	if (ret >= 0)
		return ret;
	if (st.n_words != 2) {
		opts_help(v, stderr);
		return 1;
	}
	signal(SIGPIPE, SIG_IGN);
	ret = talk(st.words[0], st.words[1], &e);
	if (ret)
		fprintf(stderr, "lodge: %s\n", e.msg);
	return ret != 0;
}
