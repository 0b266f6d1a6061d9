/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pseudo-terminal that a terminal program may open, leave and open again.
 *
 * While nobody has it open, the master reports a hang-up for ever, so it is not
 * watched but asked from time to time, and output keeps the newest 64 KiB: who
 * connects late still sees the end of the boot.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/bits.h"
#include "chardev/impl.h"

#define ASK_NS 200000000ll

struct chardev_pty {
	struct chardev c;
	struct loop_fd master;
	struct loop_timer ask;
	bool connected;
	bool want_in, want_out;
};

static struct chardev_pty *of(struct chardev *c)
{
	return container_of(c, struct chardev_pty, c);
}

static void update_events(struct chardev_pty *p)
{
	uint32_t ev = (p->want_in ? EPOLLIN : 0u) | (p->want_out ? EPOLLOUT : 0u);

	if (p->connected && p->master.events != ev)
		loop_fd_mod(&p->master, ev);
}

static void disconnect(struct chardev_pty *p)
{
	if (p->connected)
		loop_fd_del(&p->master);
	p->connected = false;
	p->c.keep_newest = true;
	loop_timer_arm(&p->ask, loop_now_ns() + ASK_NS);
}

static bool hung_up(const struct chardev_pty *p)
{
	struct pollfd f = { .fd = p->master.fd };

	return poll(&f, 1, 0) > 0 && f.revents & POLLHUP;
}

static void ask_cb(void *opaque)
{
	struct chardev_pty *p = opaque;

	if (hung_up(p)) {
		loop_timer_arm(&p->ask, loop_now_ns() + ASK_NS);
		return;
	}
	p->master.events = p->want_in ? EPOLLIN : 0;
	p->want_out = false;
	if (loop_fd_add(p->c.l, &p->master)) {
		loop_timer_arm(&p->ask, loop_now_ns() + ASK_NS);
		return;
	}
	p->connected = true;
	p->c.keep_newest = false;
	chardev_output_ready(&p->c);
}

static void master_ready(void *opaque, uint32_t events)
{
	struct chardev_pty *p = opaque;
	size_t room = chardev_input_room(&p->c);
	uint8_t buf[4096];
	ssize_t n = -1;

	if (events & EPOLLIN && room) {
		n = read(p->master.fd, buf, MIN(room, sizeof(buf)));
		if (n > 0)
			chardev_input(&p->c, buf, (size_t)n);
	}
	if (events & EPOLLOUT) {
		p->want_out = false;
		update_events(p);
		chardev_output_ready(&p->c);
	}
	if (events & (EPOLLHUP | EPOLLERR) && n <= 0)
		disconnect(p);
}

static size_t pty_send(struct chardev *c, const uint8_t *buf, size_t len)
{
	struct chardev_pty *p = of(c);
	size_t done = 0;

	if (!p->connected)
		return 0;
	while (done < len) {
		ssize_t n = write(p->master.fd, buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			p->want_out = true;
			update_events(p);
			break;
		}
		done += (size_t)n;
	}
	return done;
}

static void pty_want_input(struct chardev *c, bool yes)
{
	of(c)->want_in = yes;
	update_events(of(c));
}

static void pty_size(struct chardev *c, unsigned *cols, unsigned *rows)
{
	struct winsize ws;

	if (!ioctl(of(c)->master.fd, TIOCGWINSZ, &ws)) {
		*cols = ws.ws_col;
		*rows = ws.ws_row;
	}
}

static void pty_free(struct chardev *c)
{
	loop_timer_cancel(&of(c)->ask);
	loop_fd_del(&of(c)->master);
	close(of(c)->master.fd);
}

static const struct chardev_ops pty_ops = {
	.send = pty_send,
	.want_input = pty_want_input,
	.size = pty_size,
	.free = pty_free,
};

/* A raw pty: the guest does the line editing.  Opening and closing the slave
 * once makes the master report the hang-up we wait to end. */
static int prepare(int fd, char *name, size_t len)
{
	struct termios t;
	int slave, r;

	if (grantpt(fd) || unlockpt(fd))
		return -errno;
	r = ptsname_r(fd, name, len);
	if (r)
		return -r;
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	if (!tcgetattr(slave, &t)) {
		cfmakeraw(&t);
		tcsetattr(slave, TCSANOW, &t);
	}
	close(slave);
	return 0;
}

int chardev_pty_new(struct loop *l, char *name_out, size_t name_len, struct chardev **out, struct err *e)
{
	int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK), r;
	struct chardev_pty *p;

	r = fd < 0 ? -errno : prepare(fd, name_out, name_len);
	if (r) {
		err_set(e, r, "cannot make a pseudo-terminal: %s", strerror(-r));
		goto fail;
	}
	p = calloc(1, sizeof(*p));
	if (!p || chardev_init(&p->c, l, &pty_ops)) {
		free(p);
		r = err_set(e, -ENOMEM, "no memory for the byte stream");
		goto fail;
	}
	p->want_in = true;
	snprintf(p->c.label, sizeof(p->c.label), "pty:%s", name_out);
	p->master = (struct loop_fd){ .fd = fd, .cb = master_ready, .opaque = p };
	loop_timer_init(l, &p->ask, ask_cb, p);
	disconnect(p);
	*out = &p->c;
	return 0;

fail:
	if (fd >= 0)
		close(fd);
	return r;
}
