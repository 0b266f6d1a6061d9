// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * An NBD client that says anything.  The first byte chooses how far a proper
 * negotiation is made for it (nothing, greeted, transmission, transmission with
 * structured replies and contexts); the rest is sent in pieces of the lengths the
 * input says.  Nothing may crash, hang or take memory without bound, and when the
 * client is gone so is all it had.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/graph.h"
#include "block/nbd_server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK (1u << 20)
#define OPTION(n, len) "IHAVEOPT\0\0\0" n "\0\0\0" len

static void require(int ret)
{
	if (ret)
		abort();
}

/* What the server says is read and forgotten. */
static void turn(struct loop *l, int fd)
{
	static uint8_t waste[65536];

	for (unsigned i = 0; i < 4; i++) {
		require(loop_turn(l, 0));
		while (recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
			require(loop_turn(l, 0));
	}
}

static void say(struct loop *l, int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		p += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
		turn(l, fd);
	}
}

static void negotiate(struct loop *l, int fd, unsigned how)
{
	if (how >= 1)
		say(l, fd, "\0\0\0\3", 4);
	if (how >= 3) {
		say(l, fd, OPTION("\x8", "\0"), 16);
		say(l, fd, OPTION("\xa", "\x1b") "\0\0\0\0\0\0\0\1\0\0\0\xf" "base:allocation", 16 + 27);
	}
	if (how >= 2)
		say(l, fd, OPTION("\x7", "\6") "\0\0\0\0\0\0", 16 + 6);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *l;
	static struct blk_node *slot;
	static struct nbd_server *s;
	const struct nbd_export_opts o = { .name = "", .description = "x" };
	struct blk_node *mem;
	struct err e;
	int fds[2];

	if (!l) {
		require(loop_new(&l));
		require(blk_open_mem(l, DISK, &mem));
		require(blk_slot_new(mem, &slot));
		require(nbd_server_new(l, 4, &s));
		require(nbd_server_add(s, slot, &o, &e));
	}
	if (size < 2)
		return 0;
	require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	require(nbd_server_attach(s, fds[1]));
	turn(l, fds[0]);
	negotiate(l, fds[0], data[0] & 3);
	for (data++, size--; size > 1;) {
		size_t len = MIN((size_t)*data + 1, size - 1);

		say(l, fds[0], data + 1, len);
		data += len + 1;
		size -= len + 1;
	}
	close(fds[0]);
	for (unsigned i = 0; i < 8; i++)
		require(loop_turn(l, 0));
	if (nbd_server_clients(s, NULL))
		abort();
	return 0;
}
