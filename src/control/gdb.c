// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The gdb stub's connection.
 *
 * One client at a time.  Its coming stops the VM, and packets are looked at only
 * while that stands still; what it asks for then takes no time, so an answer is
 * one packet and nothing else is queued.  A client that goes takes its breakpoints
 * along, and the VM runs again if it did when the client came.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "control/gdb_int.h"

#define CTRL_C 3

static void flush(struct gdb *g);

/* ---- composing ---- */

void gdb_put(struct gdb *g, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(g->body + g->body_len, sizeof(g->body) - g->body_len, fmt, ap);
	va_end(ap);
	if (n > 0)
		g->body_len = MIN(g->body_len + (size_t)n, sizeof(g->body) - 1);
}

void gdb_put_hex(struct gdb *g, const void *data, size_t len)
{
	static const char digit[] = "0123456789abcdef";
	const uint8_t *b = data;

	for (size_t i = 0; i < len && g->body_len + 2 < sizeof(g->body); i++) {
		g->body[g->body_len++] = digit[b[i] >> 4];
		g->body[g->body_len++] = digit[b[i] & 15];
	}
	g->body[g->body_len] = '\0';
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t gdb_hex(const char *text, uint8_t *out, size_t max)
{
	size_t n = 0;

	while (n < max && digit_of(text[0]) >= 0 && digit_of(text[1]) >= 0) {
		out[n++] = (uint8_t)(digit_of(text[0]) << 4 | digit_of(text[1]));
		text += 2;
	}
	return n;
}

/* The body as a packet.  An answer that was not taken is given up: who speaks again before it has that one does not want it. */
static void send_body(struct gdb *g)
{
	uint8_t sum = 0;

	g->out_len = g->out_sent = 0;
	g->out[g->out_len++] = '$';
	for (size_t i = 0; i < g->body_len; i++) {
		char c = g->body[i];

		if (c == '$' || c == '#' || c == '}' || c == '*') {
			g->out[g->out_len++] = '}';
			sum += '}';
			c ^= 0x20;
		}
		g->out[g->out_len++] = c;
		sum += (uint8_t)c;
	}
	g->out_len += (size_t)snprintf(g->out + g->out_len, sizeof(g->out) - g->out_len, "#%02x", sum);
	g->body_len = 0;
	flush(g);
}

/* ---- the connection ---- */

static void watch(struct gdb *g)
{
	if (g->client.loop)
		loop_fd_mod(&g->client, (g->in_ready ? 0 : EPOLLIN) | (g->out_sent < g->out_len ? EPOLLOUT : 0));
}

/* Nothing of the client's is left. The VM stands still. */
static void left(struct gdb *g)
{
	g->leaving = false;
	gdb_break_clear(g);
	if (g->was_running)
		vm_resume(g->ctl->vm);
	loop_fd_add(g->ctl->m->loop, &g->listener);
}

void gdb_drop(struct gdb *g)
{
	if (g->client.fd < 0)
		return;
	loop_fd_del(&g->client);
	close(g->client.fd);
	g->client.fd = -1;
	g->leaving = true;
	g->running = g->in_ready = false;
	log_info("gdb has gone");
	if (g->detached) {
		g->leaving = false;
		loop_fd_add(g->ctl->m->loop, &g->listener);
	} else if (vm_paused(g->ctl->vm))
		left(g);
	else
		vm_stop(g->ctl->vm);
}

static void flush(struct gdb *g)
{
	while (g->client.fd >= 0 && g->out_sent < g->out_len) {
		ssize_t n = send(g->client.fd, g->out + g->out_sent, g->out_len - g->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			gdb_drop(g);
			return;
		}
		g->out_sent += (size_t)n;
	}
	watch(g);
}

void gdb_go(struct gdb *g, int step)
{
	int ret;

	g->interrupted = false;
	/* With no points either it is a debugger that goes on. */
	ret = vm_debug_points(g->ctl->vm, &g->points);
	ret = ret ? ret : vm_debug_go(g->ctl->vm, step);
	if (ret)
		gdb_put(g, "E%02x", (unsigned)-ret & 0xff);
	g->running = !ret;
}

/* ---- packets ---- */

/* One that is whole, if the VM stands still; else that is seen to. */
static void serve(struct gdb *g)
{
	bool answer;

	if (g->detached) {
		g->detached = false;
		g->was_running = !vm_paused(g->ctl->vm);
	}
	if (!vm_paused(g->ctl->vm)) {
		vm_stop(g->ctl->vm);
		return;
	}
	g->in_ready = false;
	answer = gdb_command(g, g->in, g->in_len);
	if (answer)
		send_body(g);
	g->body_len = 0;
	/* gdb hangs up itself, once it has the answer. */
	if (g->in[0] == 'D' && g->client.fd >= 0) {
		gdb_break_clear(g);
		g->detached = true;
		vm_resume(g->ctl->vm);
	}
	watch(g);
}

static void ack(struct gdb *g, char c)
{
	/* One byte: a client that does not even read that has no use for us. */
	if (!g->no_ack && send(g->client.fd, &c, 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		gdb_drop(g);
}

static void packet_end(struct gdb *g)
{
	if (g->sum != g->said || g->damaged) {
		ack(g, '-');
		return;
	}
	ack(g, '+');
	g->in[g->in_len] = '\0';
	g->in_ready = g->client.fd >= 0;
	if (g->in_ready)
		serve(g);
}

static void outside(struct gdb *g, char c)
{
	switch (c) {
	case '$':
		g->state = GDB_DATA;
		g->in_len = 0;
		g->sum = 0;
		g->damaged = g->escape = false;
		break;
	case '-':
		g->out_sent = 0;
		flush(g);
		break;
	case CTRL_C:
		if (g->running) {
			g->interrupted = true;
			vm_stop(g->ctl->vm);
		}
		break;
	default:
		break;
	}
}

/* A } says that the next byte's bit 5 is turned over. */
static void inside(struct gdb *g, char c)
{
	if (c == '#') {
		g->state = GDB_SUM1;
		return;
	}
	if (c == '$') {
		outside(g, c);
		return;
	}
	g->sum += (uint8_t)c;
	if (c == '}' && !g->escape) {
		g->escape = true;
		return;
	}
	if (g->in_len < GDB_PACKET)
		g->in[g->in_len++] = g->escape ? c ^ 0x20 : c;
	else
		g->damaged = true;
	g->escape = false;
}

static void byte(struct gdb *g, char c)
{
	int d = digit_of(c);

	if (d < 0 && (g->state == GDB_SUM1 || g->state == GDB_SUM2))
		g->damaged = true;
	switch (g->state) {
	case GDB_IDLE: outside(g, c); break;
	case GDB_DATA: inside(g, c); break;
	case GDB_SUM1:
		g->said = (uint8_t)(d < 0 ? 0 : d << 4);
		g->state = GDB_SUM2;
		break;
	case GDB_SUM2:
		g->said |= (uint8_t)(d < 0 ? 0 : d);
		g->state = GDB_IDLE;
		packet_end(g);
		break;
	}
}

static void on_client(void *opaque, uint32_t events)
{
	struct gdb *g = opaque;
	char buf[4096];
	ssize_t n, used = 0;

	if (events & EPOLLOUT)
		flush(g);
	if (g->client.fd < 0 || !(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	/* What comes behind a packet that cannot be looked at yet stays where it is. */
	n = recv(g->client.fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		gdb_drop(g);
		return;
	}
	while (used < n && g->client.fd >= 0 && !g->in_ready)
		byte(g, buf[used++]);
	if (g->client.fd >= 0 && recv(g->client.fd, buf, (size_t)used, MSG_DONTWAIT) != used)
		gdb_drop(g);
	watch(g);
}

static void listen_again(void *opaque)
{
	struct gdb *g = opaque;

	loop_fd_add(g->ctl->m->loop, &g->listener);
}

static void on_connect(void *opaque, uint32_t events)
{
	struct gdb *g = opaque;
	int fd = accept4(g->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	loop_fd_del(&g->listener);
	if (fd < 0) {
		loop_timer_arm(&g->again, loop_now_ns() + CTL_RETRY_NS);
		return;
	}
	g->client = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = on_client, .opaque = g };
	g->was_running = !vm_paused(g->ctl->vm);
	g->running = g->interrupted = g->no_ack = g->in_ready = g->detached = false;
	g->state = GDB_IDLE;
	g->out_len = g->out_sent = g->body_len = 0;
	g->thread = 0;
	if (loop_fd_add(g->ctl->m->loop, &g->client)) {
		close(fd);
		g->client.fd = -1;
		loop_timer_arm(&g->again, loop_now_ns() + CTL_RETRY_NS);
		return;
	}
	log_info("gdb has come, and the guest stands still");
	vm_stop(g->ctl->vm);
}

void gdb_vm_event(struct control *ctl, enum vm_event ev)
{
	struct gdb *g = ctl->gdb;

	if (!g)
		return;
	if (ev == VM_EVENT_SHUTDOWN && g->client.fd >= 0) {
		g->body_len = 0;
		gdb_put(g, "W00");
		send_body(g);
	}
	/* Somebody had it go on before it stood still: what waits for that asks again. */
	if (ev == VM_EVENT_STAY && (g->leaving || g->in_ready || g->interrupted)) {
		g->was_running = true;
		vm_stop(ctl->vm);
	}
	if (ev != VM_EVENT_STOP)
		return;
	if (g->leaving) {
		left(g);
		return;
	}
	if (g->client.fd >= 0 && g->running) {
		g->running = false;
		gdb_put_stop(g);
		g->interrupted = false;
		send_body(g);
	}
	if (g->in_ready)
		serve(g);
}

/* ---- life ---- */

/* "1234", or an address as --qmp's. */
static int address(struct gdb *g, const char *text, struct err *e)
{
	bool plain = *text && strspn(text, "0123456789") == strlen(text);
	char full[64];

	snprintf(full, sizeof(full), "tcp:127.0.0.1:%s", text);
	if (ctl_address_parse(plain && strlen(text) < 6 ? full : text, &g->at, e) || ctl_address_layered(&g->at))
		return -EINVAL;
	if (!g->at.server || (g->at.where != CTL_AT_TCP && g->at.where != CTL_AT_UNIX))
		return err_set(e, -EINVAL, "'%.60s' is not PORT, tcp:HOST:PORT or unix:PATH to listen at", text);
	return 0;
}

int gdb_new(struct control *ctl, const char *text, struct err *e)
{
	struct gdb *g = calloc(1, sizeof(*g));
	uint16_t port = 0;
	int ret;

	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->ctl = ctl;
	g->client.fd = g->listener.fd = -1;
	loop_timer_init(ctl->m->loop, &g->again, listen_again, g);
	ctl->gdb = g;
	ret = address(g, text, e);
	g->xml = ret ? NULL : gdb_reg_xml();
	if (!ret && !g->xml)
		ret = err_set(e, -ENOMEM, "out of memory");
	if (!ret)
		ret = ctl_address_listen(&g->at, &g->listener.fd, &port, e);
	if (ret)
		return ret;
	g->listener = (struct loop_fd){ .fd = g->listener.fd, .events = EPOLLIN, .cb = on_connect, .opaque = g };
	ret = loop_fd_add(ctl->m->loop, &g->listener);
	if (ret)
		return err_set(e, ret, "epoll: %s", strerror(-ret));
	if (g->at.where == CTL_AT_TCP)
		fprintf(stderr, "lodge: gdb: target remote %s:%u\n", *g->at.host ? g->at.host : "localhost", port);
	else
		fprintf(stderr, "lodge: gdb: target remote %s\n", g->at.path);
	return 0;
}

void gdb_free(struct control *ctl)
{
	struct gdb *g = ctl->gdb;

	if (!g)
		return;
	ctl->gdb = NULL;
	loop_timer_cancel(&g->again);
	loop_fd_del(&g->listener);
	loop_fd_del(&g->client);
	if (g->client.fd >= 0)
		close(g->client.fd);
	if (g->listener.fd >= 0)
		close(g->listener.fd);
	if (g->listener.fd >= 0 && g->at.where == CTL_AT_UNIX)
		unlink(g->at.path);
	vm_debug_points(ctl->vm, NULL);
	free(g->xml);
	free(g);
}
