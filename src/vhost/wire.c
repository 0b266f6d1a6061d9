// SPDX-License-Identifier: GPL-2.0-or-later
/* vhost-user messages over a socket. */
#include "vhost/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/loop.h"

/* 0; -ETIMEDOUT */
static int await(int fd, short events, int64_t deadline)
{
	struct pollfd p = { .fd = fd, .events = events };
	int64_t left;
	int n;

	do {
		left = deadline - loop_now_ns();
		if (left <= 0)
			return -ETIMEDOUT;
		n = poll(&p, 1, (int)MIN(left / 1000000 + 1, (int64_t)60000));
	} while (!n || (n < 0 && errno == EINTR));
	return n < 0 ? -errno : 0;
}

int vu_send(int fd, const struct vu_msg *m, const int *fds, unsigned n_fds, int64_t deadline)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * VU_MAX_FDS)];
	} control;
	struct iovec iov = { (void *)m, sizeof(m->h) + m->h.size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	while (iov.iov_len) {
		ssize_t n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		int ret = n < 0 ? -errno : 0;

		if (ret == -EAGAIN)
			ret = await(fd, POLLOUT, deadline);
		else if (ret == -EINTR)
			ret = 0;
		if (ret)
			return ret;
		if (n <= 0)
			continue;
		/* The descriptors went with the first byte. */
		iov.iov_base = (char *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
		msg.msg_control = NULL;
		msg.msg_controllen = 0;
	}
	return 0;
}

/* Nothing we ask is answered with descriptors. */
static void close_fds(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n = c->cmsg_len > CMSG_LEN(0) ? (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;
		int fd;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			close(fd);
		}
	}
}

static int receive(int fd, void *buf, size_t len, int64_t deadline)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(sizeof(int) * VU_MAX_FDS)];
	} control;

	while (len) {
		struct iovec iov = { buf, len };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		int ret = n < 0 ? -errno : 0;

		if (!n)
			return -ENOTCONN;
		if (ret == -EAGAIN)
			ret = await(fd, POLLIN, deadline);
		else if (ret == -EINTR)
			ret = 0;
		if (ret)
			return ret;
		if (n < 0)
			continue;
		close_fds(&msg);
		buf = (char *)buf + n;
		len -= (size_t)n;
	}
	return 0;
}

int vu_receive(int fd, struct vu_msg *m, int64_t deadline)
{
	int ret = receive(fd, &m->h, sizeof(m->h), deadline);

	if (ret)
		return ret;
	if ((m->h.flags & VU_VERSION_MASK) != VU_VERSION || m->h.size > sizeof(m->p))
		return -EPROTO;
	return receive(fd, &m->p, m->h.size, deadline);
}
