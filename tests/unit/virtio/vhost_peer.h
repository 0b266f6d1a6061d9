/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user peer for tests, a thread of the test's: honest, or as far from it as it is told to be.
 *
 * It serves chains in order: what is readable is copied to what is writable, the rest of which is filled with 0xa5.  It has a socket of its own, or
 * connects to the device's.
 */
#ifndef LODGE_TESTS_VHOST_PEER_H
#define LODGE_TESTS_VHOST_PEER_H

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "vhost/wire.h"
#include "virtio/device.h"
#include "virtio/vhost_ring.h"

enum peer_lie {
	PEER_HONEST,
	PEER_SILENT,			/* answers nothing */
	PEER_SHORT,			/* answers of four bytes */
	PEER_LONG,			/* headers that promise a gigabyte */
	PEER_NO_REPLY_FLAG,
	PEER_VERSION,
	PEER_OTHER,			/* answers another request */
	PEER_REFUSES,			/* every request with an acknowledgement */
	PEER_FDS,			/* answers with descriptors */
	PEER_CHATTY,			/* speaks unasked, once it runs */
	PEER_USED_ID,			/* returns an index out of range */
	PEER_USED_FREE,			/* returns what it was not given */
	PEER_USED_IDX,			/* an index far ahead */
	PEER_USED_LEN,			/* a length beyond all buffers */
	PEER_ERR,			/* signals an error of the ring */
	PEER_HANGS_STOP,		/* does not answer GET_VRING_BASE */
};

struct peer_ring {
	unsigned num;
	uint16_t avail, used;
	uint64_t desc_at, avail_at, used_at;
	int kick, call, err;
	bool enabled;
	uint16_t held[1024];
	unsigned n_held;
};

struct peer {
	char path[108];
	uint64_t features, protocol;
	uint64_t queues;
	uint8_t config[VHOST_CONFIG_MAX];
	_Atomic enum peer_lie lie;
	atomic_bool hold;		/* takes chains and does not return them */
	atomic_bool backwards;		/* returns what it held the last one first */
	atomic_bool drop;		/* closes the connection, once */
	atomic_uint lives, served, taken, resets, stops, starts;
	atomic_uint change;		/* says that its configuration has changed: 1 as it should, else nonsense of kind n */
	atomic_uint answered;		/* its requests */
	uint64_t got_features;
	uint16_t order[256];		/* first 16 bits of what was readable in each chain */
	uint8_t fill;

	int listen, fd, req, quit;
	pthread_t thread;
	struct {
		uint64_t guest, size, user;
		uint8_t *host;
	} region[8];
	unsigned n_regions;
	struct peer_ring ring[VHOST_MAX_RINGS];
};

#define PEER_FEATURES (VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VU_FEATURE_PROTOCOL | (1ull << 9))
#define PEER_PROTOCOL (VU_P_MQ | VU_P_REPLY_ACK | VU_P_CONFIG | VU_P_BACKEND_REQ | VU_P_RESET_DEVICE)

static inline uint8_t *peer_at(struct peer *p, uint64_t addr, uint64_t len, bool user)
{
	for (unsigned i = 0; i < p->n_regions; i++) {
		uint64_t base = user ? p->region[i].user : p->region[i].guest;

		if (addr >= base && addr - base < p->region[i].size && len <= p->region[i].size - (addr - base))
			return p->region[i].host + (addr - base);
	}
	fprintf(stderr, "peer: %llx is in no region\n", (unsigned long long)addr);
	abort();
}

struct peer_part {
	uint8_t *p;
	uint32_t len;
	bool write;
};

static inline unsigned peer_walk(struct peer *p, struct peer_ring *r, uint16_t head, struct peer_part *out)
{
	const uint8_t *table = peer_at(p, r->desc_at, 16ull * r->num, true);
	unsigned n = 0, i = head;

	for (;;) {
		const uint8_t *d = table + 16 * i;
		uint16_t flags = ld_le16(d + 12);

		if (flags & 4) {
			table = peer_at(p, ld_le64(d), ld_le32(d + 8), false);
			i = 0;
			continue;
		}
		out[n++] = (struct peer_part){ peer_at(p, ld_le64(d), ld_le32(d + 8), false), ld_le32(d + 8), flags & 2 };
		if (!(flags & 1))
			return n;
		i = ld_le16(d + 14);
	}
}

static inline void peer_put(struct peer *p, struct peer_ring *r, uint32_t id, uint32_t len)
{
	uint8_t *used = peer_at(p, r->used_at, 6 + 8ull * r->num, true), *e = used + 4 + 8 * (r->used % r->num);

	st_le32(e, id);
	st_le32(e + 4, len);
	__atomic_store_n((uint16_t *)(void *)(used + 2), ++r->used, __ATOMIC_RELEASE);
}

static inline void peer_signal(int fd)
{
	uint64_t one = 1;

	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		abort();
}

static inline void peer_serve(struct peer *p, struct peer_ring *r, uint16_t head)
{
	struct peer_part part[VHOST_RING_PIECES];
	unsigned n = peer_walk(p, r, head, part), from = 0;
	uint32_t off = 0, len = 0;

	if (n && !part[0].write && part[0].len >= 2 && p->served < ARRAY_LEN(p->order))
		p->order[p->served] = ld_le16(part[0].p);
	for (unsigned i = 0; i < n; i++)
		for (uint32_t k = 0; part[i].write && k < part[i].len; k++) {
			while (from < n && !part[from].write && off == part[from].len) {
				from++;
				off = 0;
			}
			part[i].p[k] = from < n && !part[from].write ? part[from].p[off++] : p->fill;
			len++;
		}
	p->served++;
	if (p->lie == PEER_USED_ID)
		peer_put(p, r, r->num + 5, len);
	else if (p->lie == PEER_USED_FREE)
		peer_put(p, r, (head + 1) % r->num, len);
	else if (p->lie == PEER_USED_LEN)
		peer_put(p, r, head, UINT32_MAX);
	else
		peer_put(p, r, head, len);
	if (p->lie == PEER_USED_IDX) {
		r->used += 300;
		peer_put(p, r, head, len);
	}
}

static inline void peer_run(struct peer *p, struct peer_ring *r)
{
	uint8_t *avail = peer_at(p, r->avail_at, 6 + 2ull * r->num, true);
	uint16_t idx;
	bool any = false;

	for (;;) {
		/* Kicked from here on. */
		__atomic_store_n((uint16_t *)(void *)(peer_at(p, r->used_at, 6 + 8ull * r->num, true) + 4 + 8 * r->num), r->avail, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		idx = __atomic_load_n((uint16_t *)(void *)(avail + 2), __ATOMIC_ACQUIRE);
		if (idx == r->avail)
			break;
		while (r->avail != idx) {
			r->held[r->n_held++] = ld_le16(avail + 4 + 2 * (r->avail++ % r->num));
			p->taken++;
		}
	}
	for (unsigned i = 0; !p->hold && i < r->n_held; i++) {
		peer_serve(p, r, r->held[p->backwards ? r->n_held - 1 - i : i]);
		any = true;
	}
	if (!p->hold)
		r->n_held = 0;
	if (p->lie == PEER_ERR && any)
		peer_signal(r->err);
	if (any)
		peer_signal(r->call);
}

static inline void peer_answer(struct peer *p, struct vu_msg *m, uint32_t size)
{
	int fds[3] = { p->quit, p->quit, p->quit };
	enum peer_lie lie = p->lie;

	m->h.flags = VU_VERSION | VU_F_REPLY;
	m->h.size = size;
	if (lie == PEER_SILENT)
		return;
	if (lie == PEER_SHORT)
		m->h.size = 4;
	if (lie == PEER_NO_REPLY_FLAG)
		m->h.flags = VU_VERSION;
	if (lie == PEER_VERSION)
		m->h.flags = 2 | VU_F_REPLY;
	if (lie == PEER_OTHER)
		m->h.request++;
	if (lie == PEER_LONG) {
		struct vu_header h = m->h;

		h.size = 1u << 30;
		send(p->fd, &h, sizeof(h), MSG_NOSIGNAL);
		return;
	}
	vu_send(p->fd, m, fds, lie == PEER_FDS ? 3 : 0, loop_now_ns() + 1000000000);
}

static inline void peer_close_ring(struct peer_ring *r)
{
	int *const fd[] = { &r->kick, &r->call, &r->err };

	for (unsigned i = 0; i < 3; i++) {
		if (*fd[i] >= 0)
			close(*fd[i]);
		*fd[i] = -1;
	}
}

static inline void peer_unmap(struct peer *p)
{
	for (unsigned i = 0; i < p->n_regions; i++)
		munmap(p->region[i].host, p->region[i].size);
	p->n_regions = 0;
}

static inline void peer_memory(struct peer *p, const struct vu_msg *m, const int *fds)
{
	peer_unmap(p);
	for (unsigned i = 0; i < m->p.memory.n_regions; i++) {
		struct vu_region r = m->p.memory.region[i];

		p->region[i].guest = r.guest_addr;
		p->region[i].size = r.size;
		p->region[i].user = r.user_addr;
		p->region[i].host = mmap(NULL, r.size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i], (off_t)r.mmap_offset);
		if (p->region[i].host == MAP_FAILED)
			abort();
		/* A peer that tries to shorten our memory has no luck. */
		if (!ftruncate(fds[i], 0))
			abort();
		close(fds[i]);
		p->n_regions++;
	}
}

static inline void peer_message(struct peer *p, struct vu_msg *m, const int *fds)
{
	struct peer_ring *r = &p->ring[m->h.size >= 4 ? m->p.state.index % VHOST_MAX_RINGS : 0];
	bool ack = m->h.flags & VU_F_NEED_REPLY;

	switch (m->h.request) {
	case VU_GET_FEATURES: m->p.u64 = p->features; peer_answer(p, m, 8); return;
	case VU_GET_PROTOCOL_FEATURES: m->p.u64 = p->protocol; peer_answer(p, m, 8); return;
	case VU_GET_QUEUE_NUM: m->p.u64 = p->queues; peer_answer(p, m, 8); return;
	case VU_GET_CONFIG:
		memcpy(m->p.config.data, p->config, m->p.config.size);
		peer_answer(p, m, m->h.size);
		return;
	case VU_GET_VRING_BASE:
		if (p->lie == PEER_HANGS_STOP)
			return;
		m->p.state.num = r->avail;
		peer_close_ring(r);
		r->n_held = 0;
		p->stops++;
		peer_answer(p, m, 8);
		return;
	case VU_SET_FEATURES: p->got_features = m->p.u64; break;
	case VU_SET_MEM_TABLE: peer_memory(p, m, fds); break;
	case VU_SET_VRING_NUM: r->num = m->p.state.num; break;
	case VU_SET_VRING_BASE: r->avail = (uint16_t)m->p.state.num; break;
	case VU_SET_VRING_ADDR:
		r->desc_at = m->p.addr.desc;
		r->avail_at = m->p.addr.avail;
		r->used_at = m->p.addr.used;
		r->used = ld_le16(peer_at(p, r->used_at, 4, true) + 2);
		break;
	case VU_SET_VRING_KICK: r->kick = fds[0]; p->starts++; break;
	case VU_SET_VRING_CALL: r->call = fds[0]; break;
	case VU_SET_VRING_ERR: r->err = fds[0]; break;
	case VU_SET_VRING_ENABLE: r->enabled = m->p.state.num; break;
	case VU_SET_BACKEND_REQ_FD: p->req = fds[0]; break;
	case VU_RESET_DEVICE: p->resets++; break;
	default: break;
	}
	if (ack) {
		m->p.u64 = p->lie == PEER_REFUSES;
		peer_answer(p, m, 8);
	}
}

/* False: the other side has gone. */
static inline bool peer_receive(struct peer *p)
{
	char control[CMSG_SPACE(sizeof(int) * VU_MAX_FDS)];
	struct vu_msg m;
	struct iovec iov = { &m.h, sizeof(m.h) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int fds[VU_MAX_FDS];
	struct cmsghdr *c;

	memset(fds, 0xff, sizeof(fds));
	if (recvmsg(p->fd, &msg, MSG_WAITALL) != sizeof(m.h))
		return false;
	c = CMSG_FIRSTHDR(&msg);
	if (c)
		memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	if (m.h.size && recv(p->fd, &m.p, m.h.size, MSG_WAITALL) != (ssize_t)m.h.size)
		return false;
	peer_message(p, &m, fds);
	return true;
}

/* Its own requests. */
static inline void peer_ask(struct peer *p)
{
	struct vu_msg m = { .h = { VU_BACKEND_CONFIG_CHANGE, VU_VERSION | VU_F_NEED_REPLY, 0 } };
	unsigned kind = p->change;
	int fds[2] = { p->quit, p->quit };

	p->change = 0;
	if (kind == 2)
		m.h.request = 77;
	if (kind == 3)
		m.h.size = 1u << 31;
	vu_send(p->req, &(struct vu_msg){ .h = { m.h.request, m.h.flags, 0 } }, fds, kind == 2 ? 2 : 0, loop_now_ns() + 1000000000);
	if (kind == 3)
		send(p->req, &m.h, sizeof(m.h), MSG_NOSIGNAL);
}

static inline void peer_connection(struct peer *p)
{
	p->lives++;
	while (!p->drop) {
		struct pollfd f[3 + VHOST_MAX_RINGS] = { { .fd = p->fd, .events = POLLIN }, { .fd = p->quit, .events = POLLIN }, { .fd = p->req, .events = POLLIN } };
		unsigned n = 3;

		for (unsigned i = 0; i < VHOST_MAX_RINGS; i++)
			f[n++] = (struct pollfd){ .fd = p->ring[i].enabled ? p->ring[i].kick : -1, .events = POLLIN };
		/* What tests set is looked at soon. */
		poll(f, n, 5);
		if (f[1].revents || (f[0].revents && !peer_receive(p)))
			break;
		if (f[2].revents) {
			struct vu_msg m;

			if (vu_receive(p->req, &m, loop_now_ns() + 1000000000)) {
				close(p->req);
				p->req = -1;
			} else {
				p->answered++;
			}
		}
		if (p->change && p->req >= 0)
			peer_ask(p);
		for (unsigned i = 0; i < VHOST_MAX_RINGS; i++) {
			struct peer_ring *r = &p->ring[i];
			uint64_t v;

			if (f[3 + i].revents && r->kick == f[3 + i].fd && read(r->kick, &v, 8) == 8)
				peer_run(p, r);
			else if (r->enabled && r->kick >= 0 && r->n_held && !p->hold)
				peer_run(p, r);
			if (p->lie == PEER_CHATTY && r->enabled && f[3 + i].revents)
				send(p->fd, "unasked", 7, MSG_NOSIGNAL);
		}
	}
	p->drop = false;
	for (unsigned i = 0; i < VHOST_MAX_RINGS; i++) {
		peer_close_ring(&p->ring[i]);
		p->ring[i].n_held = 0;
		p->ring[i].enabled = false;
	}
	peer_unmap(p);
	close(p->fd);
	if (p->req >= 0)
		close(p->req);
	p->req = p->fd = -1;
}

static inline void *peer_main(void *opaque)
{
	struct peer *p = opaque;

	for (;;) {
		struct pollfd f[] = { { .fd = p->quit, .events = POLLIN }, { .fd = p->listen, .events = POLLIN } };

		poll(f, 2, -1);
		if (f[0].revents)
			return NULL;
		p->fd = accept(p->listen, NULL, NULL);
		if (p->fd >= 0)
			peer_connection(p);
	}
}

static inline void peer_init(struct peer *p, const char *path)
{
	memset(p, 0, sizeof(*p));
	snprintf(p->path, sizeof(p->path), "%s", path);
	p->features = PEER_FEATURES;
	p->protocol = PEER_PROTOCOL;
	p->queues = 4;
	p->fill = 0xa5;
	p->fd = p->req = p->listen = -1;
	p->quit = eventfd(0, 0);
	for (unsigned i = 0; i < VHOST_MAX_RINGS; i++)
		p->ring[i].kick = p->ring[i].call = p->ring[i].err = -1;
}

static inline void peer_listen(struct peer *p)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", p->path);
	p->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unlink(p->path);
	if (bind(p->listen, (struct sockaddr *)&sun, sizeof(sun)) || listen(p->listen, 4) || pthread_create(&p->thread, NULL, peer_main, p))
		abort();
}

static inline void peer_end(struct peer *p)
{
	peer_signal(p->quit);
	pthread_join(p->thread, NULL);
	close(p->listen);
	close(p->quit);
	unlink(p->path);
}

#endif
