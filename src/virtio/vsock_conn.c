// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One connection of virtio-vsock (virtio 1.2, 5.10.6): from a host program's first word or a guest's request to its end.
 *
 * Directions end one by one.  The guest's end is passed on when its data are out (shutdown of the socket), the host's when all of
 * its data are in the guest's buffers (SHUTDOWN).  When the host has gone for good, or both directions have ended, the guest is
 * told so, and answers with RST when its program has read what there is; the other way round the guest's word is answered
 * with RST at once, and what it sent before goes out without it.
 *
 * A socket is watched for what can be done with it and not otherwise: epoll tells of a peer that has gone whether asked or not, so
 * one that nothing can be done with is not watched at all.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/iov.h"
#include "virtio/vsock_int.h"

static bool known(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN || c->state == VSOCK_CLOSED || (c->state == VSOCK_CALLING && c->called);
}

/* ---- coming and going ---- */

static void event(void *opaque, uint32_t events);

struct vsock_conn *vsock_conn_new(struct vsock *v, enum vsock_state state, int fd)
{
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->state != VSOCK_FREE)
			continue;
		*c = (struct vsock_conn){ .v = v, .state = state, .fd = { .fd = fd, .cb = event, .opaque = c } };
		list_init(&c->ready);
		v->n_conns++;
		vsock_conn_deadline(c);
		return c;
	}
	return NULL;
}

struct vsock_conn *vsock_conn_find(struct vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		struct vsock_conn *c = &v->conn[i];

		if (c->guest_port == guest_port && c->host_port == host_port && known(c))
			return c;
	}
	return NULL;
}

static void close_socket(struct vsock_conn *c)
{
	vsock_conn_unwatch(c);
	if (c->fd.fd >= 0)
		close(c->fd.fd);
	c->fd.fd = -1;
	free(c->buf);
	c->buf = NULL;
	c->buf_len = 0;
}

void vsock_conn_free(struct vsock_conn *c)
{
	if (c->state == VSOCK_FREE)
		return;
	close_socket(c);
	list_del(&c->ready);
	c->state = VSOCK_FREE;
	c->deadline_ns = 0;
	c->v->n_conns--;
	vsock_host_accept(c->v);
}

static void tell_rst(struct vsock_conn *c)
{
	if (known(c))
		vsock_rst(c->v, VSOCK_HOST_CID, c->host_port, c->guest_port, VSOCK_TYPE_STREAM);
}

void vsock_conn_reset(struct vsock_conn *c)
{
	tell_rst(c);
	c->v->stats.reset++;
	vsock_conn_free(c);
}

void vsock_conn_deadline(struct vsock_conn *c)
{
	int64_t limit = c->state == VSOCK_HELLO || c->state == VSOCK_CALLING ? VSOCK_HELLO_NS :
			c->state == VSOCK_CLOSED ? VSOCK_CLOSED_NS : c->state == VSOCK_DRAIN ? VSOCK_DRAIN_NS : 0;

	c->deadline_ns = limit ? loop_now_ns() + limit : 0;
	if (limit)
		vsock_host_arm(c->v);
}

void vsock_conn_expired(struct vsock_conn *c)
{
	vsock_conn_reset(c);
}

static void enter(struct vsock_conn *c, enum vsock_state state)
{
	c->state = state;
	vsock_conn_deadline(c);
}

/* ---- credit (5.10.6.3) ---- */

/* Bytes the guest has room for.  Its numbers may be anything: more in flight than it has room for is none. */
static uint32_t credit(const struct vsock_conn *c)
{
	uint32_t flying = c->tx_cnt - c->peer_fwd;

	return flying < c->peer_alloc ? c->peer_alloc - flying : 0;
}

static void taken(struct vsock_conn *c, uint32_t n)
{
	c->fwd_cnt += n;
	/* It would rather hear of it before it has to stop. */
	if (c->state == VSOCK_OPEN && c->fwd_cnt - c->fwd_told >= VSOCK_BUF / 2)
		c->send |= VSOCK_SEND_CREDIT;
}

/* ---- what is to be done ---- */

/* May the host's bytes be read? */
static bool takes_data(const struct vsock_conn *c)
{
	return c->state == VSOCK_OPEN && !(c->send & VSOCK_SEND_RESPONSE) && !c->host_eof && credit(c);
}

/* What the guest should know of the host's end: nothing more comes, nothing more is taken. */
static uint32_t shut_now(const struct vsock_conn *c)
{
	if (c->host_eof && (c->wr_shut || c->host_deaf))
		return VSOCK_SHUT_BOTH;
	return (c->host_eof ? VSOCK_SHUT_SEND : 0) | (c->host_deaf ? VSOCK_SHUT_RCV : 0);
}

static bool has_packet(const struct vsock_conn *c)
{
	if (c->state == VSOCK_CALLING)
		return c->send;
	return c->state == VSOCK_OPEN && (c->send || (c->readable && takes_data(c)) || shut_now(c) != c->shut_told);
}

static uint32_t events_wanted(const struct vsock_conn *c)
{
	uint32_t want = 0;

	switch (c->state) {
	case VSOCK_HELLO:
		return EPOLLIN;
	case VSOCK_DRAIN:
		return EPOLLOUT;
	case VSOCK_OPEN:
		if (takes_data(c) && !c->readable)
			want |= EPOLLIN;
		if (c->buf_len)
			want |= EPOLLOUT;
		/* Its going for good is told of without being asked for; before its end has been read it would be at once. */
		if (c->host_eof && !c->host_deaf)
			want |= EPOLLHUP;
		return want;
	default:
		return 0;
	}
}

void vsock_conn_unwatch(struct vsock_conn *c)
{
	loop_fd_del(&c->fd);
}

static int watch(struct vsock_conn *c, uint32_t want)
{
	int ret = 0;

	if (!want) {
		vsock_conn_unwatch(c);
	} else if (!c->fd.loop) {
		c->fd.events = want;
		ret = loop_fd_add(c->v->dev.m->loop, &c->fd);
	} else if (c->events != want) {
		ret = loop_fd_mod(&c->fd, want);
	}
	c->events = want;
	return ret;
}

void vsock_conn_update(struct vsock_conn *c)
{
	if (c->state == VSOCK_FREE)
		return;
	if (c->state == VSOCK_OPEN && c->readable && !c->host_eof && !credit(c) && !c->asked) {
		c->asked = true;
		c->send |= VSOCK_SEND_ASK;
	}
	if (has_packet(c) && list_empty(&c->ready))
		list_add_tail(&c->v->ready, &c->ready);
	if (!c->v->dev.paused && watch(c, events_wanted(c)))
		vsock_conn_reset(c);
}

/* ---- to the host ---- */

/* Nobody takes what the guest sends: what there is has gone as far as it can. */
static void deaf(struct vsock_conn *c)
{
	c->host_deaf = true;
	taken(c, c->buf_len);
	free(c->buf);
	c->buf = NULL;
	c->buf_len = 0;
}

/* Bytes that went; what cannot be written ever is a deaf host. */
static size_t host_write(struct vsock_conn *c, struct iovec *iov, int n)
{
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = (size_t)MIN(n, 1024) };
	ssize_t ret = n > 0 ? sendmsg(c->fd.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (ret < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
		deaf(c);
	return ret > 0 ? (size_t)ret : 0;
}

static void flush(struct vsock_conn *c)
{
	while (c->buf_len) {
		uint32_t n = MIN(c->buf_len, VSOCK_BUF - c->buf_at);
		struct iovec iov = { c->buf + c->buf_at, n };
		uint32_t out = (uint32_t)host_write(c, &iov, 1);

		if (!out)
			break;
		c->buf_at = (c->buf_at + out) % VSOCK_BUF;
		c->buf_len -= out;
		taken(c, out);
		vsock_conn_deadline(c);
	}
	if (!c->buf_len && c->guest_shut & VSOCK_SHUT_SEND && !c->wr_shut) {
		shutdown(c->fd.fd, SHUT_WR);
		c->wr_shut = true;
	}
}

static int keep(struct vsock_conn *c, const struct vq_chain *chain, size_t off, uint32_t len)
{
	uint32_t at, first;

	if (!c->buf)
		c->buf = malloc(VSOCK_BUF);
	if (!c->buf)
		return -ENOMEM;
	if (!c->buf_len)
		c->buf_at = 0;
	at = (c->buf_at + c->buf_len) % VSOCK_BUF;
	first = MIN(len, VSOCK_BUF - at);
	iov_to_buf(chain->iov, chain->n_read, off, c->buf + at, first);
	iov_to_buf(chain->iov, chain->n_read, off + first, c->buf, len - first);
	c->buf_len += len;
	return 0;
}

/* Data of the guest's. */
static void data(struct vsock_conn *c, uint32_t len, const struct vq_chain *chain)
{
	struct vsock *v = c->v;
	uint32_t done = 0;
	int n;

	/* 5.10.6.3.1: more than it has been given credit for, or after its end. */
	if (len > VSOCK_BUF - (c->rx_cnt - c->fwd_cnt) || c->guest_shut & VSOCK_SHUT_SEND || c->state == VSOCK_CALLING) {
		vsock_conn_reset(c);
		return;
	}
	c->rx_cnt += len;
	v->stats.tx_bytes += len;
	if (!c->buf_len && !c->host_deaf && c->state == VSOCK_OPEN) {
		n = iov_slice(chain->iov, chain->n_read, VSOCK_HDR_LEN, len, v->iov, ARRAY_LEN(v->iov));
		done = (uint32_t)host_write(c, v->iov, n);
	}
	if (c->host_deaf || c->state != VSOCK_OPEN)
		done = len;
	taken(c, done);
	if (done < len && keep(c, chain, VSOCK_HDR_LEN + done, len - done))
		vsock_conn_reset(c);
}

/* The guest takes and sends nothing more; it need not wait until the host has taken all. */
static void guest_done(struct vsock_conn *c)
{
	tell_rst(c);
	list_del(&c->ready);
	c->send = 0;
	if (c->state == VSOCK_OPEN)
		flush(c);
	if (c->state == VSOCK_OPEN && c->buf_len && !c->host_deaf)
		enter(c, VSOCK_DRAIN);
	else
		vsock_conn_free(c);
}

static void guest_shutdown(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & VSOCK_SHUT_BOTH;
	if (c->guest_shut == VSOCK_SHUT_BOTH) {
		guest_done(c);
		return;
	}
	if (c->state != VSOCK_OPEN)
		return;
	flush(c);
	if (c->guest_shut & VSOCK_SHUT_RCV && !c->host_eof) {
		shutdown(c->fd.fd, SHUT_RD);
		c->host_eof = true;
	}
}

static void opened(struct vsock_conn *c)
{
	if (c->state != VSOCK_CALLING || !c->called) {
		vsock_conn_reset(c);
		return;
	}
	c->v->stats.from_host++;
	enter(c, VSOCK_OPEN);
	vsock_host_greet(c);
}

void vsock_conn_packet(struct vsock_conn *c, const struct vsock_hdr *h, const struct vq_chain *chain)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (credit(c))
		c->asked = false;
	switch (h->op) {
	case VSOCK_OP_RESPONSE:
		opened(c);
		break;
	case VSOCK_OP_RST:
		if (c->state == VSOCK_CALLING)
			c->v->stats.refused++;
		vsock_conn_free(c);
		return;
	case VSOCK_OP_SHUTDOWN:
		guest_shutdown(c, h->flags);
		break;
	case VSOCK_OP_RW:
		data(c, h->len, chain);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		if (c->state == VSOCK_OPEN)
			c->send |= VSOCK_SEND_CREDIT;
		break;
	default:
		vsock_conn_reset(c);
		return;
	}
	vsock_conn_update(c);
}

/* ---- to the guest ---- */

/* The host's end: has it gone, or does it only send nothing more? */
static void ended(struct vsock_conn *c)
{
	struct pollfd p = { .fd = c->fd.fd };

	c->host_eof = true;
	if (poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR))
		deaf(c);
}

/* Reads into the guest's buffer; bytes. */
static uint32_t read_data(struct vsock_conn *c, const struct vq_chain *chain)
{
	uint64_t room = MIN(chain->len_write - VSOCK_HDR_LEN, (uint64_t)VSOCK_MAX_DATA);
	struct vsock *v = c->v;
	ssize_t n;
	int k;

	room = MIN(room, (uint64_t)credit(c));
	k = iov_slice(chain->iov + chain->n_read, chain->n_write, VSOCK_HDR_LEN, (size_t)room, v->iov, ARRAY_LEN(v->iov));
	n = readv(c->fd.fd, v->iov, MIN(k, 1024));
	/* All that there was: if more comes epoll says so. */
	c->readable = n > 0 && (uint64_t)n == room;
	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
		ended(c);
	if (n <= 0)
		return 0;
	c->tx_cnt += (uint32_t)n;
	v->stats.rx_bytes += (uint64_t)n;
	return (uint32_t)n;
}

static void fill(struct vsock_conn *c, struct vsock_hdr *h, enum vsock_op op)
{
	h->op = (uint16_t)op;
	h->src_port = c->host_port;
	h->dst_port = c->guest_port;
	h->buf_alloc = VSOCK_BUF;
	h->fwd_cnt = c->fwd_cnt;
	c->fwd_told = c->fwd_cnt;
	c->send &= ~VSOCK_SEND_CREDIT;
}

static bool next_flag(struct vsock_conn *c, struct vsock_hdr *h)
{
	static const enum vsock_op ops[] = { VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST };
	unsigned i;

	if (!c->send)
		return false;
	i = (unsigned)__builtin_ctz(c->send);
	c->send &= c->send - 1;
	if (ops[i] == VSOCK_OP_REQUEST)
		c->called = true;
	fill(c, h, ops[i]);
	return true;
}

static bool next_shutdown(struct vsock_conn *c, struct vsock_hdr *h)
{
	if (shut_now(c) == c->shut_told)
		return false;
	c->shut_told = shut_now(c);
	fill(c, h, VSOCK_OP_SHUTDOWN);
	h->flags = c->shut_told;
	if (c->shut_told == VSOCK_SHUT_BOTH) {
		close_socket(c);
		enter(c, VSOCK_CLOSED);
	}
	return true;
}

bool vsock_conn_next(struct vsock_conn *c, struct vsock_hdr *h, const struct vq_chain *chain)
{
	uint32_t n;

	if (c->state != VSOCK_OPEN && c->state != VSOCK_CALLING)
		return false;
	if (next_flag(c, h))
		return true;
	if (c->readable && takes_data(c)) {
		n = read_data(c, chain);
		if (n) {
			fill(c, h, VSOCK_OP_RW);
			h->len = n;
			return true;
		}
	}
	return c->state == VSOCK_OPEN && next_shutdown(c, h);
}

/* ---- the socket's news ---- */

static void event(void *opaque, uint32_t events)
{
	struct vsock_conn *c = opaque;
	struct vsock *v = c->v;

	if (c->state == VSOCK_HELLO) {
		vsock_host_hello(c);
	} else if (c->state == VSOCK_DRAIN) {
		flush(c);
		if (!c->buf_len)
			vsock_conn_free(c);
	} else if (c->state == VSOCK_OPEN && vsock_live(v)) {
		if (c->buf_len && events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
			flush(c);
		if (c->host_eof && events & (EPOLLHUP | EPOLLERR))
			deaf(c);
		if (c->events & EPOLLIN && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			c->readable = true;
	} else {
		/* The device is broken, and waits for its driver. */
		vsock_conn_unwatch(c);
		return;
	}
	vsock_conn_update(c);
	vsock_pump(v);
}
