/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A card for tests: keeps the frames it is given, refuses on command. */
#ifndef LODGE_TESTS_NET_TEST_H
#define LODGE_TESTS_NET_TEST_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bits.h"
#include "base/iov.h"
#include "net/port.h"
#include "net/vhdr.h"

#define CARD_FRAMES 64

struct test_card {
	struct loop *l;
	struct net_backend *b;
	bool full;
	unsigned n;
	size_t len[CARD_FRAMES];
	uint8_t frame[CARD_FRAMES][2048];
	struct net_vhdr vhdr[CARD_FRAMES];
	bool link_down;
};

static inline int card_recv(void *opaque, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct test_card *c = opaque;

	if (c->full)
		return 0;
	if (c->n == CARD_FRAMES)
		return 1;
	memset(&c->vhdr[c->n], 0, sizeof(c->vhdr[0]));
	if (vhdr)
		memcpy(&c->vhdr[c->n], vhdr, NET_VHDR_LEN);
	c->len[c->n] = iov_to_buf(iov, n, 0, c->frame[c->n], sizeof(c->frame[0]));
	c->n++;
	return 1;
}

static inline void card_tx_ready(void *opaque, unsigned q)
{
}

static inline void card_link(void *opaque, bool up)
{
	((struct test_card *)opaque)->link_down = !up;
}

static inline void card_plug(struct test_card *c, struct loop *l, struct net_backend *b)
{
	const struct net_card card = { card_recv, card_tx_ready, card_link, c };

	c->l = l;
	c->b = b;
	net_attach(b, &card);
}

/* Turns the loop until a frame satisfies the test; -1 after ms milliseconds. */
static inline int card_wait(struct test_card *c, bool (*is)(const uint8_t *f, size_t len), int ms)
{
	int64_t end = loop_now_ns() + ms * 1000000ll;
	unsigned seen = 0;

	for (;;) {
		for (; seen < c->n; seen++)
			if (is(c->frame[seen], c->len[seen]))
				return (int)seen;
		if (loop_now_ns() >= end)
			return -1;
		assert_int_equal(loop_turn(c->l, 10), 0);
	}
}

static inline void be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void be32(uint8_t *p, uint32_t v)
{
	be16(p, (uint16_t)(v >> 16));
	be16(p + 2, (uint16_t)v);
}

static inline uint16_t rd16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t rd32(const uint8_t *p) { return (uint32_t)rd16(p) << 16 | rd16(p + 2); }

/* Ethernet and IPv4 headers (34 bytes) in front of `len` bytes of protocol `proto`. */
static inline void ip4_header(uint8_t *f, uint8_t proto, uint32_t src, uint32_t dst, size_t len)
{
	static const uint8_t addrs[12] = { 0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 0x12, 0x34, 0x56 };

	memcpy(f, addrs, 12);
	be16(f + 12, 0x0800);
	memset(f + 14, 0, 20);
	f[14] = 0x45;
	be16(f + 16, (uint16_t)(20 + len));
	f[22] = 64;
	f[23] = proto;
	be32(f + 26, src);
	be32(f + 30, dst);
	be16(f + 24, net_csum_fold(net_csum_add(0, f + 14, 20)));
}

/* The pseudo header's sum, as a driver leaves it in the checksum field. */
static inline uint16_t pseudo4(const uint8_t *f, uint8_t proto, size_t len)
{
	uint8_t tail[4] = { 0, proto, (uint8_t)(len >> 8), (uint8_t)len };

	return (uint16_t)~net_csum_fold(net_csum_add(net_csum_add(0, f + 26, 8), tail, 4));
}

#endif
