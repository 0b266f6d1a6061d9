/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A chardev on descriptors: what stdio and files have in common.
 *
 * Descriptors we were given (standard input and output) share their file
 * description with other processes, so they are never made non-blocking.
 * Reading after EPOLLIN does not block; writing is bounded by max_write after
 * POLLOUT.  Regular files and the like, which epoll refuses, are always ready:
 * they are read piece by piece from a posted callback.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "chardev/impl.h"

#define PIECE 4096u

/* Input. */

static void stop_input(struct chardev_fd *d)
{
	loop_fd_del(&d->in);
	loop_bh_cancel(&d->in_bh);
}

/* Reads one piece.  false: there will be no more. */
static bool read_piece(struct chardev_fd *d)
{
	uint8_t buf[PIECE];
	size_t room = chardev_input_room(&d->c);
	ssize_t n;

	if (d->always_read)
		room = PIECE;		/* what does not fit is lost, like a typist's keys */
	n = read(d->in.fd, buf, MIN(room, PIECE));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return false;		/* end, or EIO: the terminal is gone */
	if (d->filter)
		n = (ssize_t)d->filter(d, buf, (size_t)n);
	if (n)
		chardev_input(&d->c, buf, (size_t)n);
	return true;
}

static void in_ready(void *opaque, uint32_t events)
{
	struct chardev_fd *d = opaque;

	if (!d->always_read && !chardev_input_room(&d->c)) {
		/* Only EPOLLHUP or EPOLLERR brings us here: told when there is room. */
		loop_fd_del(&d->in);
		return;
	}
	if (!read_piece(d)) {
		stop_input(d);
		chardev_input_eof(&d->c);
	}
}

static void in_file(void *opaque)
{
	struct chardev_fd *d = opaque;

	if (!chardev_input_room(&d->c))
		return;			/* want_input posts again */
	if (read_piece(d))
		loop_bh_post(&d->in_bh);
	else
		chardev_input_eof(&d->c);
}

void chardev_fd_want_input(struct chardev *c, bool yes)
{
	struct chardev_fd *d = container_of(c, struct chardev_fd, c);

	if (d->in.fd < 0 || d->always_read)
		return;
	if (d->in_is_file) {
		if (yes)
			loop_bh_post(&d->in_bh);
		return;
	}
	if (d->in.loop)
		loop_fd_mod(&d->in, yes ? EPOLLIN : 0);
	else if (yes) {
		d->in.events = EPOLLIN;
		loop_fd_add(c->l, &d->in);
	}
}

static int start_input(struct chardev_fd *d)
{
	int r;

	loop_bh_init(d->c.l, &d->in_bh, in_file, d);
	if (d->in.fd < 0)
		return 0;
	d->in.events = EPOLLIN;
	d->in.cb = in_ready;
	d->in.opaque = d;
	r = loop_fd_add(d->c.l, &d->in);
	if (r == -EPERM) {
		d->in_is_file = true;
		loop_bh_post(&d->in_bh);
		r = 0;
	}
	return r;
}

/* Output. */

static bool writable_now(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	return poll(&p, 1, 0) > 0;
}

/* Bytes written, 0 if it would block, -1 if the other side is gone. */
static ssize_t write_some(struct chardev_fd *d, const uint8_t *buf, size_t len)
{
	ssize_t n;

	if (d->max_write) {
		if (!writable_now(d->out.fd))
			return 0;
		len = MIN(len, d->max_write);
	}
	do
		n = d->out_is_socket ? send(d->out.fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL) :
				       write(d->out.fd, buf, len);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return n;
	return errno == EAGAIN ? 0 : -1;
}

static void out_ready(void *opaque, uint32_t events)
{
	struct chardev_fd *d = opaque;

	loop_fd_del(&d->out);		/* send adds it again if need be */
	chardev_output_ready(&d->c);
}

/* From here on output goes nowhere; the guest must not wait for it. */
static void out_gone(struct chardev_fd *d)
{
	d->out_failed = true;
	log_warn("output to %s is lost: %s", d->name, strerror(errno));
}

size_t chardev_fd_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct chardev_fd *d = container_of(c, struct chardev_fd, c);
	size_t done = 0;
	ssize_t n;

	while (done < len && !d->out_failed) {
		n = write_some(d, buf + done, len - done);
		if (n < 0) {
			out_gone(d);
		} else if (n == 0) {
			if (d->out.loop || !loop_fd_add(c->l, &d->out))
				return done;
			errno = EIO;	/* neither writable nor to be waited for */
			out_gone(d);
		} else {
			done += (size_t)n;
		}
	}
	return len;
}

int chardev_fd_start(struct chardev_fd *d)
{
	d->out.events = EPOLLOUT;
	d->out.cb = out_ready;
	d->out.opaque = d;
	if (d->out.fd < 0)
		d->out_failed = true;
	return start_input(d);
}

void chardev_fd_stop(struct chardev_fd *d)
{
	stop_input(d);
	loop_fd_del(&d->out);
	if (d->close_in && d->in.fd >= 0)
		close(d->in.fd);
	if (d->close_out && d->out.fd >= 0)
		close(d->out.fd);
}

/* Files: output only. */

static void file_free(struct chardev *c)
{
	chardev_fd_stop(container_of(c, struct chardev_fd, c));
}

static const struct chardev_ops file_ops = {
	.send = chardev_fd_send,
	.free = file_free,
};

static int open_file(const char *path, bool append, struct err *e)
{
	int fd = open(path, O_WRONLY | O_CREAT | (append ? O_APPEND : O_TRUNC) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0666);
	int r;

	if (fd >= 0)
		return fd;
	r = -errno;
	if (r == -ENXIO)
		return err_set(e, r, "cannot write to '%s': nobody reads that pipe", path);
	return err_set(e, r, "cannot write to '%s': %s", path, strerror(-r));
}

int chardev_file_new(struct loop *l, const char *path, bool append, struct chardev **out, struct err *e)
{
	struct chardev_fd *d = calloc(1, sizeof(*d));
	int r;

	if (!d || chardev_init(&d->c, l, &file_ops)) {
		free(d);
		return err_set(e, -ENOMEM, "no memory for the byte stream");
	}
	d->in.fd = -1;
	d->out.fd = open_file(path, append, e);
	if (d->out.fd < 0) {
		r = d->out.fd;
		chardev_discard(&d->c);
		return r;
	}
	d->close_out = true;
	snprintf(d->name, sizeof(d->name), "%s", path);
	snprintf(d->c.label, sizeof(d->c.label), "file");
	chardev_fd_start(d);
	*out = &d->c;
	return 0;
}
