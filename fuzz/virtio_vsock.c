/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-vsock against a hostile driver and hostile programs on real unix sockets. */
#include "virtio_fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "virtio/vsock_int.h"

#define PEERS 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct host {
	char path[64];
	int listening;			/* at port 1 */
	int peer[PEERS];
	struct vsock *v;
};

/* A packet as drivers send them, in descriptor 0 of the transmit queue. */
static void packet(struct fuzz *f, struct host *h)
{
	uint8_t *ring = f->ram + fuzz_ring(1), *p = f->ram + 0x80000, how = (uint8_t)fuzz_take(f, 1);
	uint32_t len = how & 8 ? (uint32_t)fuzz_take(f, 2) : 0;
	const struct vsock_conn *c = &h->v->conn[how >> 4 & 3];
	bool known = c->state != VSOCK_FREE && how & 1;

	st_le64(p, 3);
	st_le64(p + 8, 2);
	st_le32(p + 16, known ? c->guest_port : (uint32_t)fuzz_take(f, 1) & 3);
	st_le32(p + 20, known ? c->host_port : 1);
	st_le32(p + 24, len);
	st_le16(p + 28, how & 2 ? (uint16_t)fuzz_take(f, 1) : VSOCK_TYPE_STREAM);
	st_le16(p + 30, (uint16_t)fuzz_take(f, 1) % 9);
	st_le32(p + 32, (uint32_t)fuzz_take(f, 1));
	st_le32(p + 36, how & 4 ? (uint32_t)fuzz_take(f, 4) : 4096);
	st_le32(p + 40, how & 4 ? (uint32_t)fuzz_take(f, 4) : c->tx_cnt);
	st_le64(ring, 0x80000);
	st_le32(ring + 8, VSOCK_HDR_LEN + len);
	st_le32(ring + 12, 0);
	st_le16(ring + 0x404 + 2 * (f->avail[1] % FUZZ_QSIZE), 0);
	st_le16(ring + 0x402, ++f->avail[1]);
	fuzz_reg32(f, 0x50, 1);
	loop_turn(f->m->loop, 0);
}

/* All of the receive queue's descriptors, or those of events. */
static void buffers(struct fuzz *f, unsigned q)
{
	uint8_t *ring = f->ram + fuzz_ring(q);
	uint32_t len = (uint32_t)fuzz_take(f, 2);

	for (unsigned i = 0; i < FUZZ_QSIZE; i++) {
		st_le64(ring + 16 * i, 0x90000 + i * 0x4000);
		st_le32(ring + 16 * i + 8, len);
		st_le32(ring + 16 * i + 12, 2);
		st_le16(ring + 0x404 + 2 * i, (uint16_t)i);
	}
	f->avail[q] = (uint16_t)(ld_le16(ring + 0x802) + FUZZ_QSIZE);
	st_le16(ring + 0x402, f->avail[q]);
	fuzz_reg32(f, 0x50, q);
	loop_turn(f->m->loop, 0);
}

static void peer_new(struct fuzz *f, struct host *h, int *fd)
{
	uint8_t how = (uint8_t)fuzz_take(f, 1);
	char line[40];
	int n = snprintf(line, sizeof(line), how & 1 ? "CONNECT %u\n" : "CONN%u", (unsigned)(how >> 1 & 3));

	if (how & 0x80)
		*fd = accept4(h->listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	else if (!unix_socket_connect(h->path, 0, fd, NULL) && !fcntl(*fd, F_SETFL, O_NONBLOCK) && send(*fd, line, (size_t)n, MSG_NOSIGNAL) < 0)
		return;
}

static void peer(struct fuzz *f, struct host *h)
{
	static uint8_t buf[1 << 16];
	uint8_t what = (uint8_t)fuzz_take(f, 1);
	int *fd = &h->peer[(what >> 4) % PEERS];

	if (*fd < 0) {
		peer_new(f, h, fd);
		return;
	}
	switch (what & 7) {
	case 0:
		close(*fd);
		*fd = -1;
		break;
	case 1: shutdown(*fd, (int)fuzz_take(f, 1) % 3); break;
	case 2:
	case 3: if (send(*fd, buf, (size_t)fuzz_take(f, 2), MSG_NOSIGNAL) < 0) break; break;
	case 4: if (send(*fd, "CONNECT 2\n", (size_t)fuzz_take(f, 1) % 11, MSG_NOSIGNAL) < 0) break; break;
	default: if (recv(*fd, buf, (size_t)fuzz_take(f, 2), MSG_DONTWAIT) < 0) break; break;
	}
}

/* As if the time of one were over. */
static void late(struct fuzz *f, struct host *h)
{
	struct vsock_conn *c = &h->v->conn[fuzz_take(f, 1) % 8];

	machine_lock(f->m);
	if (c->deadline_ns)
		c->deadline_ns = 1;
	if (!h->v->dev.paused)
		vsock_host_timer(h->v);
	machine_unlock(f->m);
}

static void action(struct fuzz *f, uint8_t what)
{
	struct host *h = f->opaque;

	switch (what & 7) {
	case 0: late(f, h); break;
	case 1: buffers(f, what & 8 ? 2 : 0); break;
	case 2:
	case 3:
	case 4: peer(f, h); break;
	default: packet(f, h); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct host h = { 0 };
	char port[80];
	struct virtio_dev *d;
	struct fuzz f;
	struct err e;

	fuzz_machine(&f, data, size);
	snprintf(h.path, sizeof(h.path), "/tmp/lodge-fuzz-vsock-%d", (int)getpid());
	snprintf(port, sizeof(port), "%s_1", h.path);
	memset(h.peer, -1, sizeof(h.peer));
	machine_lock(f.m);
	if (unix_socket_listen(port, 4, &h.listening, &e) || virtio_vsock_new(f.m, "vsock0", 3, h.path, &d, &e))
		abort();
	machine_unlock(f.m);
	h.v = container_of(d, struct vsock, dev);
	f.action = action;
	f.opaque = &h;
	fuzz_play(&f, d);
	for (unsigned i = 0; i < PEERS; i++)
		if (h.peer[i] >= 0)
			close(h.peer[i]);
	close(h.listening);
	unlink(port);
	return 0;
}
