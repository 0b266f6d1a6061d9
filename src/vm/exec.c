// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * --exec: one command in the guest (docs/exec-protocol.md).
 *
 * Four virtio-console ports: one for control lines, and one each for the
 * command's standard input, output and error, which therefore need no framing.
 * The guest's script says hello, gets the command, reports "exit N"; it is then
 * told "bye" and powers off.  Nothing the guest sends can do more than end the
 * run: lines are bounded, unknown ones ignored.
 *
 * Loop thread, machine lock held, unless said otherwise.
 */
#include "vm/exec.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "vm/internal.h"

#define NS_PER_MS 1000000ll
#define STDIN_CHUNK 16384
#define RETRY_MS 5		/* standard input: the guest had no room, or the file cannot be polled */
#define DRAIN_MS 20		/* output still in the queues when "exit" arrives is waited for this long */
#define BYE_S 20		/* from "bye" to power-off */

const char *const vm_exec_port_name[EXEC_PORTS] = {
	[EXEC_CTL] = "org.lodge.exec.0",
	[EXEC_STDIN] = "org.lodge.exec.stdin",
	[EXEC_STDOUT] = "org.lodge.exec.stdout",
	[EXEC_STDERR] = "org.lodge.exec.stderr",
};

enum exec_state { EXEC_WAIT_HELLO, EXEC_RUNNING, EXEC_DRAINING, EXEC_DONE };

struct exec_stream {
	struct vm_exec *x;
	int fd;
	bool broken;		/* the reader is gone: output is dropped */
	uint64_t bytes;
};

struct vm_exec {
	struct vm *vm;
	enum exec_state state;
	int status;
	struct chardev *port[EXEC_PORTS];
	struct exec_stream out, err;
	char line[64];
	size_t line_len;
	struct loop_timer timer;	/* hello timeout; drain; bye */
	uint64_t drained_at;

	struct loop_fd in;
	struct loop_timer in_retry;
	bool in_polled;
	uint8_t in_buf[STDIN_CHUNK];
	size_t in_len, in_off;
};

struct chardev *vm_exec_port(struct vm_exec *x, unsigned port)
{
	return x->port[port];
}

static void arm_ms(struct loop_timer *t, int64_t ms)
{
	loop_timer_arm(t, loop_now_ns() + ms * NS_PER_MS);
}

static void send_ctl(struct vm_exec *x, const char *text, size_t len)
{
	if (chardev_feed(x->port[EXEC_CTL], (const uint8_t *)text, len) != len)
		log_warn("--exec: the guest does not take its command");
}

/* --- output ------------------------------------------------------------- */

/* Writes everything, in pieces that a pipe takes whole.  A reader that is slow
 * holds the guest back; a signal ends the wait so that lodge can still be told to
 * quit. */
static void stream_sink(void *opaque, const uint8_t *buf, size_t len)
{
	struct exec_stream *s = opaque;
	struct pollfd p[2] = { { .fd = s->fd, .events = POLLOUT }, { .fd = s->x->vm->signal_fd.fd, .events = POLLIN } };

	s->bytes += len;
	while (len && !s->broken) {
		ssize_t n;

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return;
		if (!p[0].revents && p[1].revents)
			return;
		n = write(s->fd, buf, MIN(len, 4096));
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			s->broken = true;
		if (n > 0) {
			buf += n;
			len -= (size_t)n;
		}
	}
}

/* --- standard input ------------------------------------------------------ */

static void in_stop(struct vm_exec *x)
{
	if (x->in_polled)
		loop_fd_del(&x->in);
	x->in_polled = false;
	loop_timer_cancel(&x->in_retry);
}

/* False at the end of the input. */
static bool in_fill(struct vm_exec *x)
{
	ssize_t n = read(STDIN_FILENO, x->in_buf, sizeof(x->in_buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	x->in_off = 0;
	x->in_len = n > 0 ? (size_t)n : 0;
	if (n > 0)
		return true;
	in_stop(x);
	chardev_feed_eof(x->port[EXEC_STDIN]);
	return false;
}

/* Moves what there is, then arms whatever calls it again. */
static void in_step(struct vm_exec *x, bool readable)
{
	bool room;

	if (x->in_off == x->in_len && readable && !in_fill(x))
		return;
	x->in_off += chardev_feed(x->port[EXEC_STDIN], x->in_buf + x->in_off, x->in_len - x->in_off);
	room = x->in_off == x->in_len;
	if (x->in_polled)
		loop_fd_mod(&x->in, room ? EPOLLIN : 0);
	if (!room || !x->in_polled)
		arm_ms(&x->in_retry, room ? 0 : RETRY_MS);
}

static void in_ready(void *opaque, uint32_t events)
{
	in_step(opaque, true);
}

static void in_timer(void *opaque)
{
	struct vm_exec *x = opaque;

	in_step(x, !x->in_polled);
}

static void in_start(struct vm_exec *x)
{
	x->in = (struct loop_fd){ .fd = STDIN_FILENO, .events = EPOLLIN, .cb = in_ready, .opaque = x };
	if (!loop_fd_add(x->vm->m->loop, &x->in))
		x->in_polled = true;
	else	/* a plain file or /dev/null cannot be polled */
		arm_ms(&x->in_retry, 0);
}

/* --- control ------------------------------------------------------------- */

static void send_command(struct vm_exec *x)
{
	const char *cmd = x->vm->cfg->exec;
	unsigned lines = 1;
	char head[32];
	int n;

	for (const char *p = cmd; *p; p++)
		lines += *p == '\n';
	n = snprintf(head, sizeof(head), "run %u\n", lines);
	send_ctl(x, head, (size_t)n);
	send_ctl(x, cmd, strlen(cmd));
	send_ctl(x, "\n", 1);
}

static void got_line(struct vm_exec *x, const char *line)
{
	unsigned status;

	if (x->state == EXEC_WAIT_HELLO && !strcmp(line, "lodge-exec 1")) {
		x->state = EXEC_RUNNING;
		loop_timer_cancel(&x->timer);
		send_command(x);
		in_start(x);
	} else if (x->state == EXEC_RUNNING && sscanf(line, "exit %u", &status) == 1) {
		x->status = (int)(status & 0xff);
		x->state = EXEC_DRAINING;
		in_stop(x);
		x->drained_at = x->out.bytes + x->err.bytes;
		arm_ms(&x->timer, DRAIN_MS);
	}
}

static void ctl_sink(void *opaque, const uint8_t *buf, size_t len)
{
	struct vm_exec *x = opaque;

	for (size_t i = 0; i < len; i++) {
		if (buf[i] == '\n') {
			x->line[x->line_len] = '\0';
			x->line_len = 0;
			got_line(x, x->line);
		} else if (x->line_len < sizeof(x->line) - 1) {
			x->line[x->line_len++] = (char)buf[i];
		}
	}
}

static void on_timer(void *opaque)
{
	struct vm_exec *x = opaque;

	switch (x->state) {
	case EXEC_WAIT_HELLO:
		log_error("--exec: the guest did not ask for its command within %u s; it needs the script of "
			  "docs/exec-protocol.md (see its console with --console FILE)", x->vm->cfg->exec_timeout);
		x->status = VM_EXIT_EXEC;
		x->state = EXEC_DONE;
		vm_request(x->vm, MACHINE_REQ_QUIT, VM_EXIT_EXEC);
		break;
	case EXEC_DRAINING:
		if (x->drained_at != x->out.bytes + x->err.bytes) {
			x->drained_at = x->out.bytes + x->err.bytes;
			arm_ms(&x->timer, DRAIN_MS);
			break;
		}
		x->state = EXEC_DONE;
		send_ctl(x, "bye\n", 4);
		arm_ms(&x->timer, BYE_S * 1000);
		break;
	case EXEC_DONE:
		log_warn("--exec: the guest did not power off within %u s after its command; ending it", BYE_S);
		vm_request(x->vm, MACHINE_REQ_QUIT, VM_EXIT_POWEROFF);
		break;
	case EXEC_RUNNING:
		break;
	}
}

int vm_exec_result(struct vm_exec *x, int status)
{
	loop_timer_cancel(&x->timer);
	in_stop(x);
	if (x->state == EXEC_DONE || x->state == EXEC_DRAINING)
		return x->status;
	if (status == VM_EXIT_POWEROFF || status == VM_EXIT_REBOOT)
		log_error("--exec: the guest went down before the command had ended");
	return VM_EXIT_EXEC;
}

void vm_exec_start(struct vm_exec *x)
{
	arm_ms(&x->timer, (int64_t)x->vm->cfg->exec_timeout * 1000);
}

int vm_exec_new(struct vm *vm, struct err *e)
{
	struct vm_exec *x = calloc(1, sizeof(*x));
	struct loop *l = vm->m->loop;
	int ret;

	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->vm = vm;
	x->out = (struct exec_stream){ .x = x, .fd = STDOUT_FILENO };
	x->err = (struct exec_stream){ .x = x, .fd = STDERR_FILENO };
	loop_timer_init(l, &x->timer, on_timer, x);
	loop_timer_init(l, &x->in_retry, in_timer, x);
	ret = chardev_pipe_new(l, ctl_sink, x, &x->port[EXEC_CTL]);
	if (!ret)
		ret = chardev_pipe_new(l, NULL, NULL, &x->port[EXEC_STDIN]);
	if (!ret)
		ret = chardev_pipe_new(l, stream_sink, &x->out, &x->port[EXEC_STDOUT]);
	if (!ret)
		ret = chardev_pipe_new(l, stream_sink, &x->err, &x->port[EXEC_STDERR]);
	if (ret) {
		vm_exec_free(x);
		return err_set(e, ret, "--exec: %s", strerror(-ret));
	}
	vm->exec = x;
	return 0;
}

void vm_exec_free(struct vm_exec *x)
{
	if (!x)
		return;
	loop_timer_cancel(&x->timer);
	in_stop(x);
	for (unsigned i = 0; i < EXEC_PORTS; i++)
		chardev_free(x->port[i]);
	free(x);
}
