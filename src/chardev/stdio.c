/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The console on standard input and output.
 *
 * A terminal on standard input is put into raw mode, so that every key reaches
 * the guest, and restored by chardev_free, at exit and by the signals that end
 * the process.  The terminal belongs to the process, not to a guest, so what is
 * needed to restore it is the one piece of file-scope state here: it is written
 * before `saved` is set and only read by the signal handler.
 *
 * Output must not block the machine when the terminal is stopped or a pipe is
 * full.  The descriptors we inherited are shared with our parent and stay as
 * they are; where possible the same file is opened again, non-blocking, through
 * /proc/self/fd, else writes are kept small enough for what poll promised.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"
#include "chardev/impl.h"

static struct {
	struct termios tio, raw;
	_Atomic bool saved;		/* both are valid and the terminal is raw */
	_Atomic bool hooks;		/* atexit and handlers are installed */
	_Atomic int winch_fd;		/* eventfd + 1 to tell of a new size; 0: none */
} terminal;

struct chardev_stdio {
	struct chardev_fd d;
	struct chardev_stdio_opts o;
	struct loop_fd winch;
	struct loop_bh quit;
	bool escaped;			/* the escape character came last (then_x) */
	int tty;			/* a terminal to ask for its size, or -1 */
};

/* The terminal. */

/* Async-signal-safe: the flag is taken once, tcsetattr is on the list. */
void chardev_stdio_restore(void)
{
	int saved = errno;

	if (atomic_exchange(&terminal.saved, false))
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.tio);
	errno = saved;
}

/* SA_RESETHAND: a fault happens again and has its usual effect; a signal that
 * was sent is sent again. */
static void on_fatal(int sig, siginfo_t *si, void *uc)
{
	chardev_stdio_restore();
	if (si->si_code <= 0 || sig == SIGHUP || sig == SIGINT || sig == SIGTERM || sig == SIGQUIT)
		raise(sig);
}

/* A process in the background must leave the terminal alone (it would be stopped). */
static bool in_foreground(int fd)
{
	pid_t pg = tcgetpgrp(fd);

	return pg < 0 || pg == getpgrp();
}

/* Stopped and continued: the shell has put its own modes back meanwhile. */
static void on_cont(int sig)
{
	int saved = errno;

	if (atomic_load(&terminal.saved) && in_foreground(STDIN_FILENO))
		tcsetattr(STDIN_FILENO, TCSANOW, &terminal.raw);
	errno = saved;
}

static void on_winch(int sig)
{
	int fd = atomic_load(&terminal.winch_fd) - 1, saved = errno;
	uint64_t one = 1;
	ssize_t r = fd >= 0 ? write(fd, &one, sizeof(one)) : 0;

	(void)r;
	errno = saved;
}

/* Only signals nobody else handles: the program's own handlers stay. */
static void install_hooks(void)
{
	static const int sigs[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGILL, SIGABRT,
				    SIGBUS, SIGFPE, SIGSEGV, SIGALRM, SIGXCPU };
	struct sigaction old, sa = { .sa_sigaction = on_fatal,
				     .sa_flags = SA_SIGINFO | SA_RESETHAND | SA_NODEFER };
	struct sigaction cont = { .sa_handler = on_cont, .sa_flags = SA_RESTART };

	if (atomic_exchange(&terminal.hooks, true))
		return;
	atexit(chardev_stdio_restore);
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
		if (!sigaction(sigs[i], NULL, &old) && old.sa_handler == SIG_DFL)
			sigaction(sigs[i], &sa, NULL);
	if (!sigaction(SIGCONT, NULL, &old) && old.sa_handler == SIG_DFL)
		sigaction(SIGCONT, &cont, NULL);
}

static void make_raw(void)
{
	struct termios t;

	if (tcgetattr(STDIN_FILENO, &t))
		return;
	if (!atomic_load(&terminal.saved))
		terminal.tio = t;
	cfmakeraw(&t);
	t.c_cc[VMIN] = 1;
	t.c_cc[VTIME] = 0;
	terminal.raw = t;
	install_hooks();
	atomic_store(&terminal.saved, true);
	tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

/* Window size. */

static void stdio_size(struct chardev *c, unsigned *cols, unsigned *rows)
{
	struct chardev_stdio *s = container_of(c, struct chardev_stdio, d.c);
	struct winsize ws;

	if (s->tty >= 0 && !ioctl(s->tty, TIOCGWINSZ, &ws)) {
		*cols = ws.ws_col;
		*rows = ws.ws_row;
	}
}

static void winch_cb(void *opaque, uint32_t events)
{
	struct chardev_stdio *s = opaque;
	unsigned cols, rows;
	uint64_t v;

	if (read(s->winch.fd, &v, sizeof(v)) < 0)
		return;
	chardev_size(&s->d.c, &cols, &rows);
	if (s->d.c.f.resized)
		s->d.c.f.resized(s->d.c.f.opaque, cols, rows);
}

static void watch_size(struct chardev_stdio *s)
{
	struct sigaction old, sa = { .sa_handler = on_winch, .sa_flags = SA_RESTART };

	s->winch.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->winch.fd < 0)
		return;			/* the guest keeps the first size */
	s->winch.events = EPOLLIN;
	s->winch.cb = winch_cb;
	s->winch.opaque = s;
	if (loop_fd_add(s->d.c.l, &s->winch))
		return;
	atomic_store(&terminal.winch_fd, s->winch.fd + 1);
	if (!sigaction(SIGWINCH, NULL, &old) && old.sa_handler == SIG_DFL)
		sigaction(SIGWINCH, &sa, NULL);
}

/* The escape key. */

static void quit_cb(void *opaque)
{
	struct chardev_stdio *s = opaque;

	s->o.quit(s->o.opaque);
}

/* With then_x: what follows the escape character is for us, and the two are taken out. */
static size_t command_filter(struct chardev_stdio *s, uint8_t *buf, size_t len)
{
	size_t to = 0;

	for (size_t i = 0; i < len; i++) {
		if (!s->escaped && buf[i] == s->o.escape) {
			s->escaped = true;
			continue;
		}
		if (s->escaped && (buf[i] == 'x' || buf[i] == 'X')) {
			loop_bh_post(&s->quit);
			return to;
		}
		if (!s->escaped || buf[i] == s->o.escape)
			buf[to++] = buf[i];
		s->escaped = false;
	}
	return to;
}

static size_t escape_filter(struct chardev_fd *d, uint8_t *buf, size_t len)
{
	struct chardev_stdio *s = container_of(d, struct chardev_stdio, d);
	uint8_t *at = memchr(buf, s->o.escape, len);

	if (s->o.then_x)
		return command_filter(s, buf, len);
	if (!at)
		return len;
	loop_bh_post(&s->quit);
	return (size_t)(at - buf);
}

/* Life. */

static void stdio_free(struct chardev *c)
{
	struct chardev_stdio *s = container_of(c, struct chardev_stdio, d.c);

	chardev_stdio_restore();
	loop_bh_cancel(&s->quit);
	loop_fd_del(&s->winch);
	if (s->winch.fd >= 0) {
		atomic_store(&terminal.winch_fd, 0);
		close(s->winch.fd);
	}
	chardev_fd_stop(&s->d);
}

static const struct chardev_ops stdio_ops = {
	.send = chardev_fd_send,
	.want_input = chardev_fd_want_input,
	.size = stdio_size,
	.free = stdio_free,
};

/* An output descriptor that does not block, without touching the shared one. */
static void open_output(struct chardev_fd *d)
{
	struct stat st;
	int fd = -1;

	d->out.fd = STDOUT_FILENO;
	if (fstat(STDOUT_FILENO, &st)) {
		d->out.fd = -1;		/* closed: output goes nowhere */
		return;
	}
	if (S_ISREG(st.st_mode))
		return;
	if (S_ISSOCK(st.st_mode)) {
		d->out_is_socket = true;
		return;
	}
	if (S_ISFIFO(st.st_mode) || isatty(STDOUT_FILENO))
		fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0) {
		d->out.fd = fd;
		d->close_out = true;
	} else {
		d->max_write = S_ISFIFO(st.st_mode) ? 4096 : 128;
	}
}

static void open_input(struct chardev_stdio *s)
{
	struct chardev_fd *d = &s->d;

	d->in.fd = STDIN_FILENO;
	if (fcntl(STDIN_FILENO, F_GETFD) < 0) {
		d->in.fd = -1;
		return;
	}
	if (!isatty(STDIN_FILENO))
		return;
	if (!in_foreground(STDIN_FILENO)) {
		log_warn("running in the background: the terminal's input is not read");
		d->in.fd = -1;
		return;
	}
	make_raw();
	if (s->o.escape && s->o.quit) {
		d->filter = escape_filter;
		d->always_read = true;
	}
}

int chardev_stdio_new(struct loop *l, const struct chardev_stdio_opts *o, struct chardev **out, struct err *e)
{
	struct chardev_stdio *s = calloc(1, sizeof(*s));
	int r;

	if (!s || chardev_init(&s->d.c, l, &stdio_ops)) {
		free(s);
		return err_set(e, -ENOMEM, "no memory for the byte stream");
	}
	if (o)
		s->o = *o;
	s->winch.fd = -1;
	s->tty = isatty(STDOUT_FILENO) ? STDOUT_FILENO : isatty(STDIN_FILENO) ? STDIN_FILENO : -1;
	snprintf(s->d.name, sizeof(s->d.name), "standard output");
	loop_bh_init(l, &s->quit, quit_cb, s);
	signal(SIGPIPE, SIG_IGN);	/* write's EPIPE tells us */
	open_output(&s->d);
	open_input(s);
	r = chardev_fd_start(&s->d);
	if (r) {
		stdio_free(&s->d.c);
		chardev_discard(&s->d.c);
		return err_set(e, r, "cannot watch standard input: %s", strerror(-r));
	}
	if (s->tty >= 0)
		watch_size(s);
	*out = &s->d.c;
	return 0;
}
