// SPDX-License-Identifier: GPL-2.0-or-later
/* virtio-vsock by its rings and by real unix sockets: connections both ways, credit, their ends, nonsense from both sides. */
#include "driver.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "virtio/vsock_int.h"

#define CID 0x12345u
#define IN 0x400000ull			/* receive buffers, by descriptor */
#define IN_LEN 0x2000u
#define OUT 0x300000ull
#define EVENTS 0x200000ull

struct fix {
	struct drv d;
	struct virtio_dev *dev;
	char dir[64], path[80];
	uint32_t sent, fwd;		/* of the one connection that fill() sends on */
};

static struct virtio_dev *device(struct fix *f, struct machine *m)
{
	struct virtio_dev *dev;
	struct err e;

	machine_lock(m);
	assert_int_equal(virtio_vsock_new(m, "vsock0", CID, f->path, &dev, &e), 0);
	machine_unlock(m);
	return dev;
}

/* Receive buffers for n packets; every descriptor is one. */
static void give(struct fix *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct ring *r = &f->d.ring[0];
		uint16_t at = r->next_desc + 1u > r->size ? 0 : r->next_desc;
		struct ring_buf b = { IN + (uint64_t)at * IN_LEN, IN_LEN, true };

		ring_push(r, &b, 1);
	}
	drv_kick(&f->d, 0);
	drv_poll(&f->d);
}

static int setup_on(void **state, bool pci)
{
	struct fix *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/lodge-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/v", f->dir);
	drv_machine(&f->d);
	f->dev = device(f, f->d.m);
	drv_plug(&f->d, f->dev, pci);
	drv_start(&f->d, ~0ull, 64);
	*state = f;
	return 0;
}

static int setup(void **state) { return setup_on(state, true); }
static int setup_mmio(void **state) { return setup_on(state, false); }

static int teardown(void **state)
{
	struct fix *f = *state;

	drv_free(&f->d);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* ---- the driver ---- */

struct pkt {
	struct vsock_hdr h;
	uint8_t data[IN_LEN];
};

/* The next packet that has come. */
static bool take(struct fix *f, struct pkt *p)
{
	uint8_t raw[VSOCK_HDR_LEN];
	uint32_t id, len;

	if (!ring_used(&f->d.ring[0], &id, &len))
		return false;
	assert_true(len >= VSOCK_HDR_LEN);
	mem_read(f->d.m->mem, IN + (uint64_t)id * IN_LEN, raw, sizeof(raw));
	p->h = (struct vsock_hdr){
		.src_cid = ld_le64(raw), .dst_cid = ld_le64(raw + 8), .src_port = ld_le32(raw + 16), .dst_port = ld_le32(raw + 20),
		.len = ld_le32(raw + 24), .type = ld_le16(raw + 28), .op = ld_le16(raw + 30), .flags = ld_le32(raw + 32),
		.buf_alloc = ld_le32(raw + 36), .fwd_cnt = ld_le32(raw + 40),
	};
	assert_int_equal(len, VSOCK_HDR_LEN + p->h.len);
	assert_int_equal(p->h.dst_cid, CID);
	mem_read(f->d.m->mem, IN + (uint64_t)id * IN_LEN + VSOCK_HDR_LEN, p->data, p->h.len);
	return true;
}

/* It is this, and its ports are these. */
static void expect(struct fix *f, struct pkt *p, enum vsock_op op, uint32_t host_port, uint32_t guest_port)
{
	assert_true(take(f, p));
	assert_int_equal(p->h.op, op);
	assert_int_equal(p->h.src_port, host_port);
	assert_int_equal(p->h.dst_port, guest_port);
}

static void quiet(struct fix *f)
{
	struct pkt p;

	assert_false(take(f, &p));
}

static struct vsock_hdr header(enum vsock_op op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vsock_hdr){ .src_cid = CID, .dst_cid = 2, .src_port = guest_port, .dst_port = host_port, .type = VSOCK_TYPE_STREAM,
				   .op = (uint16_t)op, .buf_alloc = 65536 };
}

static void push(struct fix *f, const struct vsock_hdr *h, const void *data, uint32_t len)
{
	struct ring_buf b[] = { { OUT, VSOCK_HDR_LEN, false }, { OUT + 64, len, false } };
	uint8_t raw[VSOCK_HDR_LEN];

	st_le64(raw, h->src_cid);
	st_le64(raw + 8, h->dst_cid);
	st_le32(raw + 16, h->src_port);
	st_le32(raw + 20, h->dst_port);
	st_le32(raw + 24, h->len);
	st_le16(raw + 28, h->type);
	st_le16(raw + 30, h->op);
	st_le32(raw + 32, h->flags);
	st_le32(raw + 36, h->buf_alloc);
	st_le32(raw + 40, h->fwd_cnt);
	mem_write(f->d.m->mem, OUT, raw, sizeof(raw));
	if (len)
		mem_write(f->d.m->mem, OUT + 64, data, len);
	ring_push(&f->d.ring[1], b, len ? 2 : 1);
	drv_kick(&f->d, 1);
	drv_poll(&f->d);
}

/* Has the device taken what was pushed last? */
static bool taken(struct fix *f)
{
	uint32_t id, len;

	return ring_used(&f->d.ring[1], &id, &len);
}

static void say(struct fix *f, const struct vsock_hdr *h, const void *data, uint32_t len)
{
	push(f, h, data, len);
	assert_true(taken(f));
}

static void op(struct fix *f, enum vsock_op what, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct vsock_hdr h = header(what, guest_port, host_port);

	h.flags = flags;
	say(f, &h, NULL, 0);
}

static void send_data(struct fix *f, uint32_t guest_port, uint32_t host_port, const void *data, uint32_t len)
{
	struct vsock_hdr h = header(VSOCK_OP_RW, guest_port, host_port);

	h.len = len;
	say(f, &h, data, len);
}

/* ---- the host ---- */

static int dial(struct fix *f, const char *line)
{
	struct err e;
	int fd;

	assert_int_equal(unix_socket_connect(f->path, 5000, &fd, &e), 0);
	assert_int_equal(write(fd, line, strlen(line)), strlen(line));
	drv_poll(&f->d);
	return fd;
}

static int listen_at(struct fix *f, uint32_t port)
{
	char path[128];
	struct err e;
	int fd;

	snprintf(path, sizeof(path), "%s_%u", f->path, port);
	assert_int_equal(unix_socket_listen(path, 300, &fd, &e), 0);
	return fd;
}

static void stop_listening(struct fix *f, int fd, uint32_t port)
{
	char path[128];

	snprintf(path, sizeof(path), "%s_%u", f->path, port);
	close(fd);
	unlink(path);
}

static void reads(int fd, const char *text)
{
	char buf[256] = "";

	assert_int_equal(recv(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT), strlen(text));
	assert_string_equal(buf, text);
}

static bool is_quiet(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 0;
}

/* A connection of the guest's from port 5 to port 9, accepted. */
static int guest_calls(struct fix *f)
{
	int s = listen_at(f, 9), fd;
	struct pkt p;

	give(f, 1);
	op(f, VSOCK_OP_REQUEST, 5, 9, 0);
	expect(f, &p, VSOCK_OP_RESPONSE, 9, 5);
	fd = accept(s, NULL, NULL);
	assert_true(fd >= 0);
	stop_listening(f, s, 9);
	return fd;
}

static struct virtio_vsock_stats stats(struct fix *f)
{
	struct virtio_vsock_stats s;

	virtio_vsock_get_stats(f->dev, &s);
	return s;
}

/* ---- connections ---- */

static void config_has_the_cid(void **state)
{
	struct fix *f = *state;

	assert_int_equal(drv_config(&f->d, 0, 4), CID);
	assert_int_equal(drv_config(&f->d, 4, 4), 0);
}

static void host_calls(void **state)
{
	struct fix *f = *state;
	struct vsock_hdr h;
	char line[32];
	struct pkt p;
	int fd;

	give(f, 4);
	fd = dial(f, "CONN");
	quiet(f);
	assert_int_equal(write(fd, "ECT 1024\nearly", 14), 14);
	drv_poll(&f->d);
	assert_true(take(f, &p));
	assert_int_equal(p.h.op, VSOCK_OP_REQUEST);
	assert_int_equal(p.h.src_cid, 2);
	assert_int_equal(p.h.type, VSOCK_TYPE_STREAM);
	assert_int_equal(p.h.dst_port, 1024);
	assert_true(p.h.src_port >= 1u << 30);
	assert_int_equal(p.h.buf_alloc, VSOCK_BUF);
	assert_true(is_quiet(fd));
	h = header(VSOCK_OP_RESPONSE, 1024, p.h.src_port);
	say(f, &h, NULL, 0);
	snprintf(line, sizeof(line), "OK %u\n", p.h.src_port);
	reads(fd, line);
	expect(f, &p, VSOCK_OP_RW, h.dst_port, 1024);
	assert_int_equal(p.h.len, 5);
	assert_memory_equal(p.data, "early", 5);
	send_data(f, 1024, h.dst_port, "answer", 6);
	reads(fd, "answer");
	assert_int_equal(write(fd, "more", 4), 4);
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_RW, h.dst_port, 1024);
	assert_int_equal(p.h.fwd_cnt, 6);
	/* The guest closes it: RST at once, the end for the host. */
	op(f, VSOCK_OP_SHUTDOWN, 1024, h.dst_port, VSOCK_SHUT_BOTH);
	expect(f, &p, VSOCK_OP_RST, h.dst_port, 1024);
	assert_int_equal(recv(fd, line, 1, MSG_DONTWAIT), 0);
	close(fd);
	assert_int_equal(stats(f).from_host, 1);
	assert_int_equal(stats(f).tx_bytes, 6);
	assert_int_equal(stats(f).rx_bytes, 9);
	assert_int_equal(stats(f).reset, 0);
}

static void guest_refuses_the_host(void **state)
{
	struct fix *f = *state;
	struct pkt p;
	char c;
	int fd;

	give(f, 2);
	fd = dial(f, "CONNECT 1\n");
	assert_true(take(f, &p));
	op(f, VSOCK_OP_RST, 1, p.h.src_port, 0);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
	assert_int_equal(stats(f).refused, 1);
	/* No answer to an RST. */
	quiet(f);
}

static void guest_reaches_the_host(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	struct pkt p;

	give(f, 3);
	send_data(f, 5, 9, "hello", 5);
	reads(fd, "hello");
	assert_int_equal(write(fd, "world", 5), 5);
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_RW, 9, 5);
	assert_memory_equal(p.data, "world", 5);
	assert_int_equal(p.h.fwd_cnt, 5);
	/* The host closes it: the guest is told, and says when it is through. */
	close(fd);
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_SHUTDOWN, 9, 5);
	assert_int_equal(p.h.flags, VSOCK_SHUT_BOTH);
	op(f, VSOCK_OP_RST, 5, 9, 0);
	quiet(f);
	assert_int_equal(stats(f).from_guest, 1);
	/* Nobody is there any more. */
	op(f, VSOCK_OP_REQUEST, 5, 9, 0);
	expect(f, &p, VSOCK_OP_RST, 9, 5);
}

/* Each direction has its end. */
static void halves(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	struct pkt p;
	char c;

	give(f, 4);
	assert_int_equal(write(fd, "last", 4), 4);
	shutdown(fd, SHUT_WR);
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_RW, 9, 5);
	expect(f, &p, VSOCK_OP_SHUTDOWN, 9, 5);
	assert_int_equal(p.h.flags, VSOCK_SHUT_SEND);
	send_data(f, 5, 9, "answer", 6);
	reads(fd, "answer");
	op(f, VSOCK_OP_SHUTDOWN, 5, 9, VSOCK_SHUT_SEND);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	expect(f, &p, VSOCK_OP_SHUTDOWN, 9, 5);
	assert_int_equal(p.h.flags, VSOCK_SHUT_BOTH);
	/* After its end there is nothing. */
	op(f, VSOCK_OP_RST, 5, 9, 0);
	op(f, VSOCK_OP_CREDIT_UPDATE, 5, 9, 0);
	expect(f, &p, VSOCK_OP_RST, 9, 5);
	close(fd);
}

static void data_after_the_end(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	struct pkt p;

	give(f, 2);
	op(f, VSOCK_OP_SHUTDOWN, 5, 9, VSOCK_SHUT_SEND);
	send_data(f, 5, 9, "more", 4);
	expect(f, &p, VSOCK_OP_RST, 9, 5);
	assert_int_equal(stats(f).reset, 1);
	close(fd);
}

/* ---- credit ---- */

/* Sends until there is no more credit; the bytes, which tell where they are. */
static uint32_t fill(struct fix *f)
{
	static uint8_t block[4096];
	uint32_t before = f->sent;
	struct pkt p;

	for (;;) {
		while (take(f, &p)) {
			assert_int_equal(p.h.op, VSOCK_OP_CREDIT_UPDATE);
			f->fwd = p.h.fwd_cnt;
		}
		if (f->d.ring[0].avail_idx == f->d.ring[0].used_seen)
			give(f, 1);
		if (VSOCK_BUF - (f->sent - f->fwd) < sizeof(block))
			return f->sent - before;
		memset(block, (int)(f->sent / sizeof(block)), sizeof(block));
		send_data(f, 5, 9, block, sizeof(block));
		f->sent += sizeof(block);
	}
}

/* Takes all that was sent. */
static void drain(struct fix *f, int fd)
{
	uint8_t buf[4096];
	uint32_t got = 0;

	while (got < f->sent) {
		ssize_t n = recv(fd, buf, sizeof(buf) - got % sizeof(buf), MSG_DONTWAIT);

		if (n < 0)
			drv_poll(&f->d);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(buf[i], (uint8_t)((got + (uint32_t)i) / sizeof(buf)));
		assert_true(n != 0);
		got += n > 0 ? (uint32_t)n : 0;
	}
}

/* What the host does not take is kept as far as there is credit, and not a byte further. */
static void guest_has_only_its_credit(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	static const uint8_t block[4096];
	uint32_t sent = fill(f), n;
	struct pkt p;

	assert_true(sent >= VSOCK_BUF);
	drain(f, fd);
	/* There is as much again. */
	assert_true(fill(f) >= VSOCK_BUF);
	/* Beyond it there is what it has not been told of yet, and then the end. */
	for (n = 0; n <= VSOCK_BUF / 2 / sizeof(block) && !take(f, &p); n++)
		send_data(f, 5, 9, block, sizeof(block));
	assert_true(n && n <= VSOCK_BUF / 2 / sizeof(block));
	assert_int_equal(p.h.op, VSOCK_OP_RST);
	assert_int_equal(stats(f).reset, 1);
	close(fd);
}

/* The guest closes while the host is slow: all of it comes, and the guest waits for nothing. */
static void data_outlives_the_connection(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	struct pkt p;
	char c;

	assert_true(fill(f) >= VSOCK_BUF);
	op(f, VSOCK_OP_SHUTDOWN, 5, 9, VSOCK_SHUT_BOTH);
	expect(f, &p, VSOCK_OP_RST, 9, 5);
	drv_set_status(&f->d, 0);		/* not even a driver */
	drain(f, fd);
	drv_poll(&f->d);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
}

static void host_has_only_the_guests_credit(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	struct vsock_hdr h = header(VSOCK_OP_CREDIT_UPDATE, 5, 9);
	char text[100] = "0123456789";
	struct pkt p;

	give(f, 8);
	h.buf_alloc = 10;
	say(f, &h, NULL, 0);
	assert_int_equal(write(fd, text, sizeof(text)), sizeof(text));
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_RW, 9, 5);
	assert_int_equal(p.h.len, 10);
	expect(f, &p, VSOCK_OP_CREDIT_REQUEST, 9, 5);
	quiet(f);
	/* Numbers that make no sense are no credit. */
	h.fwd_cnt = 0x80000000u;
	say(f, &h, NULL, 0);
	quiet(f);
	h.fwd_cnt = 10;
	h.buf_alloc = 50;
	say(f, &h, NULL, 0);
	expect(f, &p, VSOCK_OP_RW, 9, 5);
	assert_int_equal(p.h.len, 50);
	expect(f, &p, VSOCK_OP_CREDIT_REQUEST, 9, 5);
	op(f, VSOCK_OP_CREDIT_REQUEST, 5, 9, 0);
	while (take(f, &p) && p.h.op != VSOCK_OP_CREDIT_UPDATE)
		;
	assert_int_equal(p.h.op, VSOCK_OP_CREDIT_UPDATE);
	assert_int_equal(p.h.buf_alloc, VSOCK_BUF);
	close(fd);
}

/* ---- nonsense, and bounds ---- */

static void packets_of_no_connection(void **state)
{
	struct fix *f = *state;
	struct vsock_hdr h = header(VSOCK_OP_RW, 7, 8);
	struct pkt p;

	give(f, 8);
	h.len = 3;
	say(f, &h, "abc", 3);
	expect(f, &p, VSOCK_OP_RST, 8, 7);
	/* A type that is not known, and a CID that is not the host's. */
	h = header(VSOCK_OP_REQUEST, 7, 8);
	h.type = 2;
	say(f, &h, NULL, 0);
	expect(f, &p, VSOCK_OP_RST, 8, 7);
	assert_int_equal(p.h.type, 2);
	h = header(VSOCK_OP_REQUEST, 7, 8);
	h.dst_cid = 0x100000005;
	say(f, &h, NULL, 0);
	expect(f, &p, VSOCK_OP_RST, 8, 7);
	assert_int_equal(p.h.src_cid, 0x100000005);
	/* Nothing comes back to another, to an RST, to a packet that is longer than it is. */
	h = header(VSOCK_OP_REQUEST, 7, 8);
	h.src_cid = CID + 1;
	say(f, &h, NULL, 0);
	op(f, VSOCK_OP_RST, 7, 8, 0);
	h = header(VSOCK_OP_RW, 7, 8);
	h.len = 4;
	say(f, &h, "abc", 3);
	quiet(f);
	assert_int_equal(stats(f).bad, 2);
	assert_int_equal(drv_status(&f->d), 15);
}

static void nonsense_on_a_connection(void **state)
{
	static const enum vsock_op ops[] = { 0, VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, 8, 0xffff };
	struct fix *f = *state;
	struct pkt p;
	char c;

	for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
		int fd = guest_calls(f);

		give(f, 1);
		op(f, ops[i], 5, 9, 0);
		expect(f, &p, VSOCK_OP_RST, 9, 5);
		assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
		close(fd);
	}
	assert_int_equal(stats(f).reset, ARRAY_LEN(ops));
}

/* Before its answer a connection is none. */
static void data_before_the_answer(void **state)
{
	struct fix *f = *state;
	struct pkt p;
	uint32_t port;
	char c;
	int fd;

	give(f, 2);
	fd = dial(f, "CONNECT 33\n");
	assert_true(take(f, &p));
	port = p.h.src_port;
	send_data(f, 33, port, "x", 1);
	expect(f, &p, VSOCK_OP_RST, port, 33);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
}

static void lines_that_are_none(void **state)
{
	static const char *const lines[] = {
		"CONNECT\n", "CONNECT \n", "CONNECT -1\n", "CONNECT 1 \n", "CONNECT  1\n", "CONNECT 4294967295\n", "CONNECT 99999999999999999999999\n",
		"connect 1\n", "\n", "a line that is longer than any that there is",
	};
	struct fix *f = *state;
	char c;

	give(f, 1);
	for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
		int fd = dial(f, lines[i]);

		/* What was not read makes the end an error. */
		assert_true(recv(fd, &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
		close(fd);
	}
	quiet(f);
}

/* A driver that takes no answers has to wait with its packets, and has lost none. */
static void answers_wait(void **state)
{
	struct fix *f = *state;
	struct vsock_hdr h = header(VSOCK_OP_RW, 0, 8);
	unsigned n = 0, answers = 0;
	struct pkt p;

	do {
		h.src_port = n++;
		push(f, &h, NULL, 0);
	} while (taken(f));
	assert_int_equal(n, VSOCK_RSTS + 1);
	for (unsigned i = 0; i < n; i++) {
		give(f, 1);
		while (take(f, &p)) {
			assert_int_equal(p.h.op, VSOCK_OP_RST);
			assert_int_equal(p.h.dst_port, answers++);
		}
	}
	assert_true(taken(f));
	assert_int_equal(answers, n);
}

static void no_more_than_there_is_room_for(void **state)
{
	struct fix *f = *state;
	int s = listen_at(f, 9), fd[VIRTIO_VSOCK_CONNS], extra;
	struct pkt p;

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++) {
		give(f, 1);
		op(f, VSOCK_OP_REQUEST, i, 9, 0);
		expect(f, &p, VSOCK_OP_RESPONSE, 9, i);
		fd[i] = accept(s, NULL, NULL);
	}
	give(f, 1);
	op(f, VSOCK_OP_REQUEST, VIRTIO_VSOCK_CONNS, 9, 0);
	expect(f, &p, VSOCK_OP_RST, 9, VIRTIO_VSOCK_CONNS);
	/* A program of the host waits until there is. */
	give(f, 2);
	extra = dial(f, "CONNECT 1\n");
	quiet(f);
	op(f, VSOCK_OP_RST, 17, 9, 0);
	drv_poll(&f->d);
	assert_true(take(f, &p));
	assert_int_equal(p.h.op, VSOCK_OP_REQUEST);
	close(extra);
	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++)
		close(fd[i]);
	stop_listening(f, s, 9);
}

static struct vsock_conn *only(struct fix *f)
{
	struct vsock *v = container_of(f->dev, struct vsock, dev);

	for (unsigned i = 0; i < VIRTIO_VSOCK_CONNS; i++)
		if (v->conn[i].state != VSOCK_FREE)
			return &v->conn[i];
	return NULL;
}

/* As if the time were over. */
static void late(struct fix *f)
{
	struct vsock_conn *c = only(f);

	assert_non_null(c);
	assert_true(c->deadline_ns > loop_now_ns());
	machine_lock(f->d.m);
	c->deadline_ns = 1;
	vsock_host_arm(c->v);
	machine_unlock(f->d.m);
	usleep(2000);
	drv_poll(&f->d);
}

static void half_open_ones_end(void **state)
{
	struct fix *f = *state;
	int fd = dial(f, "CONNECT");
	struct pkt p;
	uint32_t port;
	char c;

	late(f);
	assert_true(recv(fd, &c, 1, MSG_DONTWAIT) == 0 || errno == ECONNRESET);
	close(fd);
	give(f, 2);
	fd = dial(f, "CONNECT 44\n");
	assert_true(take(f, &p));
	port = p.h.src_port;
	late(f);
	expect(f, &p, VSOCK_OP_RST, port, 44);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
	/* The guest does not say that it is through. */
	fd = guest_calls(f);
	give(f, 2);
	close(fd);
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_SHUTDOWN, 9, 5);
	late(f);
	expect(f, &p, VSOCK_OP_RST, 9, 5);
	assert_null(only(f));
}

static void rings_that_are_damaged(void **state)
{
	struct fix *f = *state;
	struct ring_buf small = { IN, VSOCK_HDR_LEN, true }, empty = { OUT, VSOCK_HDR_LEN - 1, false }, event = { EVENTS, 3, true };
	int fd;

	ring_push(&f->d.ring[1], &empty, 1);
	drv_kick(&f->d, 1);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	drv_start(&f->d, ~0ull, 64);
	fd = guest_calls(f);
	ring_push(&f->d.ring[0], &small, 1);
	drv_kick(&f->d, 0);
	assert_int_equal(write(fd, "x", 1), 1);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
	/* A broken device's sockets keep nobody busy. */
	assert_int_equal(write(fd, "x", 1), 1);
	drv_poll(&f->d);
	close(fd);
	drv_start(&f->d, ~0ull, 64);
	container_of(f->dev, struct vsock, dev)->event = true;
	ring_push(&f->d.ring[2], &event, 1);
	drv_kick(&f->d, 2);
	drv_poll(&f->d);
	assert_true(drv_status(&f->d) & VIRTIO_S_NEEDS_RESET);
}

/* ---- life cycle ---- */

static void reset_ends_connections(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f), early = dial(f, "CONN");
	struct pkt p;
	char c;

	drv_set_status(&f->d, 0);
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
	/* Without a driver nobody gets through; who has said nothing yet may wait for one. */
	fd = dial(f, "CONNECT 1\n");
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
	drv_start(&f->d, ~0ull, 64);
	give(f, 1);
	assert_int_equal(write(early, "ECT 3\n", 6), 6);
	drv_poll(&f->d);
	assert_true(take(f, &p));
	assert_int_equal(p.h.op, VSOCK_OP_REQUEST);
	close(early);
}

static void nothing_moves_while_paused(void **state)
{
	struct fix *f = *state;
	int fd = guest_calls(f);
	struct pkt p;

	give(f, 1);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	machine_unlock(f->d.m);
	assert_int_equal(write(fd, "later", 5), 5);
	drv_poll(&f->d);
	quiet(f);
	machine_lock(f->d.m);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	drv_poll(&f->d);
	expect(f, &p, VSOCK_OP_RW, 9, 5);
	assert_memory_equal(p.data, "later", 5);
	close(fd);
}

static void save(struct fix *f, struct snap_out **o)
{
	assert_int_equal(snap_out_new(o), 0);
	assert_int_equal(machine_save_devs(f->d.m, *o, NULL), 0);
}

static int load(struct fix *f, struct snap_out *o)
{
	struct snap_in *in;
	struct err e;
	const void *data;
	size_t len;
	int ret;

	data = snap_out_data(o, &len);
	assert_int_equal(snap_in_new(&in, data, len), 0);
	ret = machine_load_devs(f->d.m, in, &e);
	snap_in_free(in);
	return ret;
}

/* In the middle of a transfer; and again before the driver has heard of it. */
static void saved_state_has_no_connections(void **state)
{
	struct fix *f = *state;
	struct ring_buf event = { EVENTS, 8, true };
	int fd = guest_calls(f);
	struct snap_out *o, *o2;
	struct pkt p;
	uint32_t id, len;
	uint8_t raw[4] = { 1, 1, 1, 1 };
	char c;

	fill(f);
	machine_lock(f->d.m);
	machine_pause_devs(f->d.m);
	save(f, &o);
	machine_reset_devs(f->d.m);
	assert_int_equal(load(f, o), 0);
	save(f, &o2);
	assert_int_equal(load(f, o2), 0);
	machine_resume_devs(f->d.m);
	machine_unlock(f->d.m);
	drv_poll(&f->d);
	assert_null(only(f));
	while (recv(fd, &c, 1, MSG_DONTWAIT) == 1)
		;
	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
	close(fd);
	/* TRANSPORT_RESET, once. */
	assert_false(ring_used(&f->d.ring[2], &id, &len));
	mem_write(f->d.m->mem, EVENTS, raw, 4);
	ring_push(&f->d.ring[2], &event, 1);
	ring_push(&f->d.ring[2], &event, 1);
	drv_kick(&f->d, 2);
	drv_poll(&f->d);
	assert_true(ring_used(&f->d.ring[2], &id, &len));
	assert_int_equal(len, 4);
	mem_read(f->d.m->mem, EVENTS, raw, 4);
	assert_int_equal(ld_le32(raw), 0);
	assert_false(ring_used(&f->d.ring[2], &id, &len));
	/* What the driver still believes in is answered with RST, and what is new goes through. */
	while (take(f, &p))
		;
	op(f, VSOCK_OP_CREDIT_UPDATE, 5, 9, 0);
	give(f, 2);
	expect(f, &p, VSOCK_OP_RST, 9, 5);
	close(guest_calls(f));
	snap_out_free(o);
	snap_out_free(o2);
}

static void configurations_that_are_none(void **state)
{
	char path[120];
	struct virtio_dev *dev;
	struct machine *m;
	struct err e;

	assert_int_equal(machine_new(&m, true), 0);
	machine_lock(m);
	assert_int_equal(virtio_vsock_new(m, "v", 2, "/tmp/lodge-v", &dev, &e), -EINVAL);
	assert_int_equal(virtio_vsock_new(m, "v", 0xffffffff, "/tmp/lodge-v", &dev, &e), -EINVAL);
	assert_int_equal(virtio_vsock_new(m, "v", 3, "", &dev, &e), -ENAMETOOLONG);
	memset(path, 'x', sizeof(path));
	path[0] = '/';
	path[97] = '\0';			/* the socket itself would do, its ports would not */
	assert_int_equal(virtio_vsock_new(m, "v", 3, path, &dev, &e), -ENAMETOOLONG);
	assert_int_equal(virtio_vsock_new(m, "v", 3, "/nowhere/v", &dev, &e), -ENOENT);
	machine_unlock(m);
	machine_free(m);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(config_has_the_cid),
		T(host_calls),
		cmocka_unit_test_setup_teardown(host_calls, setup_mmio, teardown),
		T(guest_refuses_the_host),
		T(guest_reaches_the_host),
		T(halves),
		T(data_after_the_end),
		T(guest_has_only_its_credit),
		T(data_outlives_the_connection),
		T(host_has_only_the_guests_credit),
		T(packets_of_no_connection),
		T(nonsense_on_a_connection),
		T(data_before_the_answer),
		T(lines_that_are_none),
		T(answers_wait),
		T(no_more_than_there_is_room_for),
		T(half_open_ones_end),
		T(rings_that_are_damaged),
		T(reset_ends_connections),
		T(nothing_moves_while_paused),
		T(saved_state_has_no_connections),
		cmocka_unit_test(configurations_that_are_none),
	};

	return cmocka_run_group_tests_name("virtio-vsock", tests, NULL, NULL);
}
