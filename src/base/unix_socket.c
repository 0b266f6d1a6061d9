// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets with paths: see unix_socket.h. */
#include "base/unix_socket.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static int address(const char *path, struct sockaddr_un *sun, struct err *e)
{
	*sun = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof(sun->sun_path))
		return err_set(e, -ENAMETOOLONG, "'%.120s': the path of a socket has 1 to %zu bytes", path, sizeof(sun->sun_path) - 1);
	memcpy(sun->sun_path, path, strlen(path));
	return 0;
}

/* Removes the socket of somebody who is gone.  Files that are no sockets refuse a connection, too. */
static void remove_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd;

	if (lstat(sun->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) && errno == ECONNREFUSED)
		unlink(sun->sun_path);
	close(fd);
}

int unix_socket_listen(const char *path, int backlog, int *out, struct err *e)
{
	struct sockaddr_un sun;
	bool bound = false;
	int fd, ret = address(path, &sun, e);

	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	remove_stale(&sun);
	bound = !bind(fd, (const struct sockaddr *)&sun, sizeof(sun));
	/* Nobody can connect before listen. */
	if (bound && !chmod(path, 0600) && !listen(fd, backlog)) {
		*out = fd;
		return 0;
	}
	ret = -errno;
	if (bound)
		unlink(path);
	close(fd);
	return err_set(e, ret, "%s: %s%s", path, strerror(-ret),
		       ret == -EADDRINUSE ? "; another process listens there, or it is no socket" : "");
}

int unix_socket_connect(const char *path, unsigned timeout_ms, int *out, struct err *e)
{
	const struct timeval tv = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
	struct sockaddr_un sun;
	int fd, ret = address(path, &sun, e);

	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(e, -errno, "%s: %s", path, strerror(errno));
	if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) ||
	    connect(fd, (const struct sockaddr *)&sun, sizeof(sun))) {
		ret = -errno;
		close(fd);
		return err_set(e, ret, "%s: %s", path, strerror(-ret));
	}
	*out = fd;
	return 0;
}
