// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One client: its bytes in and out.
 *
 * Bytes are read only when those before have been cut into texts, texts are cut
 * only while the queue has room, and a command runs only when the client has taken
 * most of the answers before; one step of the loop runs one command.  So a client
 * that floods waits, one that does not read is not read from, and others are
 * served in between.  Events are dropped, and counted, for whom they would make
 * CTL_OUT_MAX bytes wait.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "control/internal.h"

#define PIECE 4096		/* a pipe that polls writable takes so much at once */
#define PATIENCE_S 10		/* for TLS and WebSockets to be there */
#define COMPLAINTS 10		/* in as many seconds */
#define CTL_SECOND 1000000000ll

static size_t backlog(const struct ctl_monitor *m) { return m->out_len - m->out_off; }

static void die(struct ctl_monitor *m)
{
	m->dead = true;
	loop_bh_post(&m->step);
}

/* ---- descriptors that come along ---- */

static void drop_passed(struct ctl_monitor *m)
{
	for (unsigned i = 0; i < m->n_passed; i++)
		close(m->passed[i]);
	m->n_passed = 0;
}

int ctl_monitor_take_fd(struct ctl_monitor *m)
{
	int fd;

	if (!m->n_passed)
		return -1;
	fd = m->passed[0];
	memmove(m->passed, m->passed + 1, --m->n_passed * sizeof(*m->passed));
	return fd;
}

int ctl_monitor_fd(struct ctl_monitor *m, const char *name)
{
	list_for_each(n, &m->fds) {
		struct ctl_fd *f = list_entry(n, struct ctl_fd, node);
		int fd = f->fd;

		if (strcmp(f->name, name))
			continue;
		list_del(&f->node);
		free(f);
		return fd;
	}
	return -1;
}

/* Descriptors belong to the bytes they came with; what nobody took of earlier ones is closed, as QEMU does. */
static void take_passed(struct ctl_monitor *m, struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		drop_passed(m);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->n_passed < ARRAY_LEN(m->passed))
				m->passed[m->n_passed++] = fd;
			else
				close(fd);
		}
	}
}

/* ---- reading ---- */

/* What was wrong with a connection's layers.  Who may connect may provoke it as often as he likes. */
static void complain(struct ctl_monitor *m, const char *what)
{
	int64_t now = loop_now_ns();

	if (now - m->ctl->said_ns > COMPLAINTS * CTL_SECOND) {
		m->ctl->said_ns = now;
		m->ctl->n_said = 0;
	}
	if (m->ctl->n_said++ < COMPLAINTS)
		log_warn("%s: %s", m->name, what);
}

static ssize_t get(struct ctl_monitor *m)
{
	union {
		char room[CMSG_SPACE(CTL_MAX_QUEUE * sizeof(int))];
		struct cmsghdr align;
	} u;
	struct iovec iov = { .iov_base = m->buf, .iov_len = sizeof(m->buf) };
	struct msghdr h = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = u.room, .msg_controllen = sizeof(u.room) };
	struct pollfd p = { .fd = m->in.fd, .events = POLLIN };
	ssize_t n;

	if (m->stream) {
		n = stream_recv(m->stream, m->buf, sizeof(m->buf));
		if (n == -EPROTO)
			complain(m, stream_why(m->stream));
		return n;
	}
	if (!m->socket) {
		/* The descriptor may be shared with others and stays as it is: look before reading. */
		if (poll(&p, 1, 0) <= 0)
			return -EAGAIN;
		n = read(m->in.fd, m->buf, sizeof(m->buf));
		return n < 0 ? -errno : n;
	}
	n = recvmsg(m->in.fd, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return -errno;
	take_passed(m, &h);
	return n;
}

static void read_more(struct ctl_monitor *m)
{
	ssize_t n = get(m);

	if (n == -EAGAIN || n == -EINTR) {
		if (m->hup)
			m->eof = true;
		return;
	}
	if (n <= 0)
		m->eof = true;
	m->buf_off = 0;
	m->buf_len = n > 0 ? (size_t)n : 0;
}

static bool queue_has_room(const struct ctl_monitor *m)
{
	return m->n_queue < (m->oob ? CTL_MAX_QUEUE : 1);
}

static bool wants_bytes(const struct ctl_monitor *m)
{
	return !m->eof && !m->dead && m->buf_off == m->buf_len && queue_has_room(m) && backlog(m) <= CTL_OUT_LOW;
}

/* A web page may have a browser send things to ports of this host: who does not begin with JSON on TCP is none of ours. */
static bool is_stray(const struct ctl_monitor *m, const struct ctl_text *t)
{
	return m->tcp && !m->negotiated && !json_is_object(t->msg);
}

/* Takes one text out of the buffer. */
static void cut(struct ctl_monitor *m)
{
	struct ctl_text *t = &m->queue[m->n_queue];
	enum ctl_split_result r;
	size_t used;

	r = ctl_split_feed(&m->split, m->buf + m->buf_off, m->buf_len - m->buf_off, &used);
	m->buf_off += used;
	if (r == CTL_SPLIT_MORE)
		return;
	ctl_text_read(t, m->split.buf, m->split.len, r == CTL_SPLIT_BAD ? m->split.why : NULL);
	ctl_split_next(&m->split);
	if (is_stray(m, t)) {
		json_decref(t->msg);
		die(m);
	} else if (m->oob && ctl_text_is_oob(t)) {
		ctl_text_run(m, t);
	} else {
		m->n_queue++;
	}
}

static void run_next(struct ctl_monitor *m)
{
	struct ctl_text t = m->queue[0];

	m->n_queue--;
	memmove(m->queue, m->queue + 1, m->n_queue * sizeof(*m->queue));
	ctl_text_run(m, &t);
}

static void arm(struct ctl_monitor *m)
{
	uint32_t in = wants_bytes(m) ? EPOLLIN : 0, out = backlog(m) ? EPOLLOUT : 0;

	if (m->stream)
		in = stream_watch(m->stream, in != 0, out != 0), out = 0;
	if (m->socket && m->in.loop && m->in.events != (in | out))
		loop_fd_mod(&m->in, in | out);
	if (!m->socket && m->in.loop && m->in.events != in)
		loop_fd_mod(&m->in, in);
	if (!m->socket && m->out.loop && m->out.events != out)
		loop_fd_mod(&m->out, out);
}

/* One thing at a time; comes again while there is more. */
static void step(void *opaque)
{
	struct ctl_monitor *m = opaque;
	bool ready = !m->dead && backlog(m) <= CTL_OUT_LOW;

	bool done = m->eof && m->buf_off == m->buf_len && !m->n_queue && !m->pending && !backlog(m);

	if (m->dead || (done && !(m->stream && stream_flush(m->stream) == -EAGAIN))) {
		ctl_monitor_free(m);
		return;
	}
	if (m->beginning)
		return arm(m);
	if (ready && m->n_queue && !m->pending)
		run_next(m);
	else if (ready && m->buf_off < m->buf_len && queue_has_room(m))
		cut(m);
	else if (wants_bytes(m) && (m->hup || !m->in.loop || (m->stream && stream_pending(m->stream))))
		read_more(m);
	else
		return arm(m);
	loop_bh_post(&m->step);
}

static void greet(struct ctl_monitor *m)
{
	ctl_monitor_send(m, json_pack("{s:{s:o,s:[s]}}", "QMP", "version", ctl_version_json(), "capabilities", "oob"), false);
}

static void begin(struct ctl_monitor *m)
{
	struct err e = { "" };
	int r = stream_begin(m->stream, &e);

	if (r == -EAGAIN) {
		arm(m);
	} else if (r) {
		complain(m, e.msg);
		die(m);
	} else {
		m->beginning = false;
		loop_timer_cancel(&m->late);
		greet(m);
		loop_bh_post(&m->step);
	}
}

static void on_late(void *opaque)
{
	struct ctl_monitor *m = opaque;

	complain(m, "the other side does not begin TLS or a WebSocket");
	die(m);
}

static void on_in(void *opaque, uint32_t events)
{
	struct ctl_monitor *m = opaque;

	if (m->beginning) {
		begin(m);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR)) {
		/* The peer is gone.  What it sent before is still done, answers have nowhere to go; and epoll would not
		 * stop telling us. */
		loop_fd_del(&m->in);
		m->hup = true;
		if (m->socket)
			m->out_off = m->out_len = 0;
	} else {
		if (events & EPOLLOUT && m->stream)
			stream_flush(m->stream);	/* what fails here fails below, or in reading */
		if (events & EPOLLOUT)
			ctl_monitor_flush(m);
		if ((events & EPOLLIN || m->stream) && wants_bytes(m))
			read_more(m);
	}
	loop_bh_post(&m->step);
}

static void on_out(void *opaque, uint32_t events)
{
	struct ctl_monitor *m = opaque;

	if (events & (EPOLLHUP | EPOLLERR))
		die(m);
	else
		ctl_monitor_flush(m);
	loop_bh_post(&m->step);
}

/* ---- writing ---- */

static ssize_t put(struct ctl_monitor *m, const char *p, size_t len)
{
	struct pollfd out = { .fd = m->out.fd, .events = POLLOUT };
	ssize_t n;

	if (m->stream)
		return stream_send(m->stream, p, len);
	if (m->socket)
		n = send(m->in.fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	else if (poll(&out, 1, 0) <= 0)
		return -EAGAIN;
	else
		n = write(m->out.fd, p, MIN(len, PIECE));
	return n < 0 ? -errno : n;
}

void ctl_monitor_flush(struct ctl_monitor *m)
{
	while (backlog(m) && !m->dead) {
		ssize_t n = put(m, m->out_buf + m->out_off, backlog(m));

		if (n == -EAGAIN || n == -EINTR)
			break;
		if (n < 0) {
			m->out_off = m->out_len = 0;
			if (!m->socket)
				die(m);
			return;
		}
		m->out_off += (size_t)n;
	}
	if (m->out_off < m->out_len)
		return;
	m->out_off = m->out_len = 0;
	if (m->out_cap > CTL_OUT_LOW) {
		free(m->out_buf);
		m->out_buf = NULL;
		m->out_cap = 0;
	}
}

/* Room for n more bytes at the end. */
static bool make_room(struct ctl_monitor *m, size_t n)
{
	size_t cap = m->out_cap ? m->out_cap : 1024;
	char *p;

	if (m->out_off && m->out_len + n > m->out_cap) {
		memmove(m->out_buf, m->out_buf + m->out_off, backlog(m));
		m->out_len -= m->out_off;
		m->out_off = 0;
	}
	while (cap < m->out_len + n)
		cap *= 2;
	if (cap == m->out_cap)
		return true;
	p = realloc(m->out_buf, cap);
	if (!p)
		return false;
	m->out_buf = p;
	m->out_cap = cap;
	return true;
}

void ctl_monitor_send(struct ctl_monitor *m, json_t *j, bool event)
{
	bool gone = (m->hup && m->socket) || m->dead;
	char *text = j && !gone ? json_dumps(j, JSON_ENSURE_ASCII | (m->pretty ? JSON_INDENT(4) : 0)) : NULL;
	size_t len = text ? strlen(text) : 0;

	json_decref(j);
	if (gone)
		return;
	if (event && backlog(m) + len > CTL_OUT_MAX) {
		if (!m->events_lost++)
			log_warn("a client of the control protocol does not read: it loses events");
	} else if (!text || !make_room(m, len + 2)) {
		/* Who gets no answer to a command had better know that something is amiss. */
		die(m);
	} else {
		memcpy(m->out_buf + m->out_len, text, len);
		memcpy(m->out_buf + m->out_len + len, "\r\n", 2);
		m->out_len += len + 2;
		ctl_monitor_flush(m);
		arm(m);
	}
	free(text);
}

/* ---- life ---- */

/* A plain file or /dev/null cannot be polled: it is read in steps. */
static int watch(struct ctl_monitor *m)
{
	int ret = loop_fd_add(m->ctl->m->loop, &m->in);

	if (ret == -EPERM && !m->socket)
		ret = 0;
	if (!ret && !m->socket) {
		ret = loop_fd_add(m->ctl->m->loop, &m->out);
		if (ret == -EPERM)
			ret = 0;
	}
	return ret;
}

static bool is_tcp(int fd)
{
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);

	return !getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) && (domain == AF_INET || domain == AF_INET6);
}

int ctl_monitor_new(struct control *ctl, int fd, int out_fd, const struct ctl_address *a, struct ctl_listener *from,
		    struct stream *layers)
{
	struct ctl_monitor *m;
	int ret;

	if (ctl->n_monitors >= CTL_MAX_MONITORS)
		return -EBUSY;
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->ctl = ctl;
	m->socket = out_fd < 0;
	m->tcp = is_tcp(fd);
	m->pretty = a && a->pretty;
	ctl_address_name(a, m->name, sizeof(m->name));
	loop_timer_init(ctl->m->loop, &m->late, on_late, m);
	list_init(&m->fds);
	loop_bh_init(ctl->m->loop, &m->step, step, m);
	m->in = (struct loop_fd){ .fd = fd, .events = EPOLLIN, .cb = on_in, .opaque = m };
	m->out = (struct loop_fd){ .fd = out_fd, .cb = on_out, .opaque = m };
	ret = watch(m);
	if (ret) {
		loop_fd_del(&m->in);
		free(m);
		return ret;
	}
	m->from = from;
	if (from)
		from->clients++;
	list_add_tail(&ctl->monitors, &m->node);
	ctl->n_monitors++;
	m->stream = layers;
	m->beginning = layers != NULL;
	if (layers) {
		loop_timer_arm(&m->late, loop_now_ns() + PATIENCE_S * CTL_SECOND);
		begin(m);
	} else {
		greet(m);
		loop_bh_post(&m->step);
	}
	return 0;
}

void ctl_monitor_free(struct ctl_monitor *m)
{
	loop_bh_cancel(&m->step);
	loop_fd_del(&m->in);
	loop_fd_del(&m->out);
	loop_timer_cancel(&m->late);
	stream_free(m->stream);
	if (m->socket)
		close(m->in.fd);
	if (m->pending)
		m->pending->mon = NULL;
	for (unsigned i = 0; i < m->n_queue; i++)
		json_decref(m->queue[i].msg);
	drop_passed(m);
	list_for_each_safe(n, &m->fds) {
		struct ctl_fd *f = list_entry(n, struct ctl_fd, node);

		close(f->fd);
		list_del(&f->node);
		free(f);
	}
	ctl_split_fini(&m->split);
	free(m->out_buf);
	list_del(&m->node);
	m->ctl->n_monitors--;
	if (m->from) {
		m->from->clients--;
		ctl_listener_room(m->from);
	}
	free(m);
}
