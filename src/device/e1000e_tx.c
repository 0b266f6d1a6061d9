/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Transmission of the 82574L (7.2): legacy and extended descriptors, checksums,
 * segmentation.
 *
 * A packet is copied as its descriptors are read, each once, into a buffer of
 * bounded size; everything is then checked and changed there.  Checksums and
 * segments are left to the back end where it takes them, else made here.  When the
 * back end is busy the packet waits as it is, and TDH stays at its last descriptor.
 */
#include "device/e1000e_int.h"

#include <errno.h>
#include <string.h>

#include "net/port.h"

#define BUDGET 256u			/* descriptors, and segments made here, in a turn of the loop */

#define CMD_EOP 0x01
#define CMD_TSE 0x04			/* of data descriptors */
#define CMD_IC 0x04			/* of legacy ones */
#define CMD_RS 0x08
#define CMD_DEXT 0x20
#define CMD_VLE 0x40
#define POPT_IXSM 1
#define POPT_TXSM 2
#define TUCMD_TCP 1
#define TUCMD_IPV4 2

#define TCTL_EN 2u
#define ETH_LEN 14u
#define MIN_LEN 60u
#define TAG 4u
#define TCP_CSUM 16u

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)(v >> 8); p[1] = (uint8_t)v; }
static void put32(uint8_t *p, uint32_t v) { put16(p, v >> 16); put16(p + 2, v); }

/* ---- sending ---- */

static void count(struct e1000e *d, const uint8_t *p, uint32_t len)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	d->stats.tx_packets++;
	d->stats.tx_bytes += len;
	e1000e_count(d, R_TPT, 1);
	e1000e_count(d, R_GPTC, 1);
	e1000e_count64(d, R_TOT, len + 4);
	e1000e_count64(d, R_GOTC, len + 4);
	if (!memcmp(p, all, 6))
		e1000e_count(d, R_BPTC, 1);
	else if (p[0] & 1)
		e1000e_count(d, R_MPTC, 1);
}

/* 0: done with, -EAGAIN */
static int hand_over(struct e1000e *d, const uint8_t *p, uint32_t len, const struct net_vhdr *h)
{
	const struct iovec v = { (void *)(uintptr_t)p, len };
	int ret;

	if (!e1000e_link(d)) {
		d->stats.tx_dropped++;
		return 0;
	}
	ret = d->b->ops->send(d->b, 0, h && (h->flags || h->gso_type) ? h : NULL, &v, 1);
	if (ret == -EAGAIN)
		return ret;
	if (ret)
		d->stats.tx_dropped++;
	else
		count(d, p, len);
	return 0;
}

/* A sum over [start, end), put at `at`; places outside the packet are the driver's mistake, and nothing happens. */
static void sum_in_place(uint8_t *p, uint32_t len, uint32_t start, uint32_t at, uint32_t end)
{
	end = end && end < len ? end + 1 : len;
	if (start < end && at >= start && at + 2 <= end)
		put16(p + at, net_csum_fold(net_csum_add(0, p + start, end - start)));
}

/* ---- segments (7.2.12) ---- */

static bool can_segment(const struct e1000e_ctx *c, uint32_t len)
{
	uint32_t tcp = c->tucss + 20u, ip = c->ipcss + (c->tucmd & TUCMD_IPV4 ? 20u : 40u);

	return c->mss && c->tucmd & TUCMD_TCP && c->ipcss >= ETH_LEN && ip <= c->tucss && tcp <= c->hdr_len && c->hdr_len < len && c->hdr_len <= 0xff + TAG &&
	       c->tucso == c->tucss + TCP_CSUM;
}

/* Lengths and checksums of a header before `len` bytes in all; the driver left the length out of both. */
static void set_lengths(const struct e1000e_ctx *c, uint8_t *p, uint32_t len, uint16_t partial)
{
	uint8_t *ip = p + c->ipcss;
	uint32_t tcp_len = len - c->tucss, sum = partial + (tcp_len & 0xffff);

	if (c->tucmd & TUCMD_IPV4) {
		put16(ip + 2, len - c->ipcss);
		put16(ip + 10, 0);
		put16(ip + 10, net_csum_fold(net_csum_add(0, ip, c->tucss - c->ipcss)));
	} else {
		put16(ip + 4, len - c->ipcss - 40);
	}
	put16(p + c->tucso, (uint16_t)~net_csum_fold(sum));
}

/* One after the other, each complete, as far as the budget goes; t->done remembers how far it got. */
static int send_segments(struct e1000e *d, struct e1000e_tx *t, unsigned *budget)
{
	const struct e1000e_ctx *c = &t->c;
	uint32_t payload = t->len - c->hdr_len, seq = be32(t->buf + c->tucss + 4);
	uint16_t partial = be16(t->buf + c->tucso), ipid = be16(t->buf + c->ipcss + 4);
	uint8_t flags = t->buf[c->tucss + 13], seg[2048];
	uint32_t room = MIN((uint32_t)c->mss, (uint32_t)sizeof(seg) - c->hdr_len);

	while (t->done < payload) {
		uint32_t n = MIN(room, payload - t->done), len = c->hdr_len + n;

		/* A packet can be 64 Ki segments of a byte each: the rest in the next turn. */
		if (!*budget)
			return -EAGAIN;
		--*budget;
		memcpy(seg, t->buf, c->hdr_len);
		memcpy(seg + c->hdr_len, t->buf + c->hdr_len + t->done, n);
		put32(seg + c->tucss + 4, seq + t->done);
		if (t->done + n < payload)
			seg[c->tucss + 13] = flags & (uint8_t)~9;	/* FIN, PSH: of the last */
		if (c->tucmd & TUCMD_IPV4)
			put16(seg + c->ipcss + 4, ipid + t->done / room);
		set_lengths(c, seg, len, partial);
		sum_in_place(seg, len, c->tucss, c->tucso, 0);
		if (hand_over(d, seg, len, NULL))
			return -EAGAIN;
		t->done += n;
	}
	return 0;
}

/* ---- a packet that is whole ---- */

static void insert_tag(struct e1000e *d, struct e1000e_tx *t, uint16_t tag)
{
	uint32_t vet = e1000e_get(d, R_VET);

	memmove(t->buf + 12 + TAG, t->buf + 12, t->len - 12);
	put16(t->buf + 12, vet);
	put16(t->buf + 14, tag);
	t->len += TAG;
	/* What the context says is about the packet without it. */
	t->c.ipcss += TAG;
	t->c.ipcso += TAG;
	t->c.tucss += TAG;
	t->c.tucso += TAG;
	t->c.hdr_len += TAG;
	t->c.ipcse += t->c.ipcse ? TAG : 0;
	t->c.tucse += t->c.tucse ? TAG : 0;
}

static void segments(struct e1000e *d, struct e1000e_tx *t)
{
	const struct e1000e_ctx *c = &t->c;
	bool v4 = c->tucmd & TUCMD_IPV4, several = t->len - c->hdr_len > c->mss;
	uint32_t need = NET_OFF_CSUM | (!several ? 0 : v4 ? NET_OFF_TSO4 : NET_OFF_TSO6);

	t->segments = (d->b->offloads & need) != need;
	if (t->segments)
		return;
	t->h = (struct net_vhdr){ .flags = NET_VHDR_NEEDS_CSUM, .csum_start = c->tucss, .csum_offset = TCP_CSUM };
	if (several) {
		t->h.hdr_len = c->hdr_len;
		t->h.gso_size = c->mss;
		t->h.gso_type = v4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6;
	}
	set_lengths(c, t->buf, t->len, be16(t->buf + c->tucso));
}

static void checksums(struct e1000e *d, struct e1000e_tx *t)
{
	const struct e1000e_ctx *c = &t->c;

	if (t->popts & POPT_IXSM)
		sum_in_place(t->buf, t->len, c->ipcss, c->ipcso, c->ipcse);
	if (!(t->popts & POPT_TXSM))
		return;
	t->h = (struct net_vhdr){ .flags = NET_VHDR_NEEDS_CSUM, .csum_start = c->tucss, .csum_offset = (uint16_t)(c->tucso - c->tucss) };
	if (!c->tucse && c->tucso > c->tucss && net_vhdr_check(&t->h, t->len, d->b->offloads))
		return;
	t->h = (struct net_vhdr){ 0 };
	sum_in_place(t->buf, t->len, c->tucss, c->tucso, c->tucse);
}

/* The last descriptor has come: what is in the buffer becomes what is sent. False: nothing is. */
static bool complete(struct e1000e *d, struct e1000e_tx *t, uint8_t cmd, uint16_t tag)
{
	bool tse = t->cmd & CMD_DEXT && t->cmd & CMD_TSE;

	t->h = (struct net_vhdr){ 0 };
	t->segments = false;
	t->done = 0;
	t->c = t->ctx;
	if (t->bad || t->len < ETH_LEN || (tse && !can_segment(&t->c, t->len))) {
		d->stats.tx_bad++;
		return false;
	}
	if (t->len < MIN_LEN && !tse) {
		memset(t->buf + t->len, 0, MIN_LEN - t->len);
		t->len = MIN_LEN;
	}
	if (cmd & CMD_VLE && e1000e_get(d, R_CTRL) & CTRL_VME)
		insert_tag(d, t, tag);
	if (tse)
		segments(d, t);
	else if (t->cmd & CMD_DEXT)
		checksums(d, t);
	return true;
}

/* 0: done with, -EAGAIN */
static int send_whole(struct e1000e *d, struct e1000e_tx *t, unsigned *budget)
{
	int ret = t->segments ? send_segments(d, t, budget) : hand_over(d, t->buf, t->len, &t->h);

	if (!ret)
		t->whole = false;
	return ret;
}

/* ---- descriptors ---- */

static void context(struct e1000e_tx *t, const uint8_t *p)
{
	t->ctx = (struct e1000e_ctx){
		.ipcss = p[0], .ipcso = p[1], .ipcse = ld_le16(p + 2), .tucss = p[4], .tucso = p[5], .tucse = ld_le16(p + 6), .tucmd = p[11],
		.hdr_len = p[13], .mss = ld_le16(p + 14),
	};
}

static void append(struct e1000e *d, struct e1000e_tx *t, uint64_t addr, uint32_t len)
{
	if (t->bad)
		return;
	if (len > NET_MAX_FRAME - t->len || mem_read(d->m->mem, addr, t->buf + t->len, len)) {
		t->bad = true;
		return;
	}
	t->len += len;
}

/* A sum that a legacy descriptor asks for: from CSS on, at CSO. */
static void legacy_sum(struct e1000e_tx *t, const uint8_t *p)
{
	if (p[11] & CMD_IC && !t->bad)
		sum_in_place(t->buf, t->len, p[13], p[10], 0);
}

static void data(struct e1000e *d, struct e1000e_tx *t, const uint8_t *p)
{
	bool ext = p[11] & CMD_DEXT;

	if (!t->begun) {
		t->begun = true;
		t->bad = false;
		t->len = 0;
		t->cmd = p[11];
		t->popts = ext ? p[13] : 0;
	}
	append(d, t, ld_le64(p), ext ? ld_le32(p + 8) & 0xfffff : ld_le16(p + 8));
	if (!(p[11] & CMD_EOP))
		return;
	if (!ext)
		legacy_sum(t, p);
	t->begun = false;
	t->whole = complete(d, t, p[11], ld_le16(p + 14));
}

/* A descriptor at TDH. False: the back end is busy, or the budget is used up, and it is to be looked at again. */
static bool descriptor(struct e1000e *d, struct e1000e_tx *t, const uint8_t *p, unsigned *budget)
{
	if (!t->whole) {
		t->last_cmd = p[11];
		if (p[11] & CMD_DEXT && !(p[10] & 0xf0))
			context(t, p);
		else
			data(d, t, p);
	}
	return !t->whole || !send_whole(d, t, budget);
}

static void run_ring(struct e1000e *d, unsigned q, unsigned *budget)
{
	struct e1000e_ring r = e1000e_ring(d, E_RING(R_TDBAL, q), 16);
	struct e1000e_tx *t = &d->tx[q];
	uint8_t p[16], done = 1;
	uint32_t causes = 0;

	while (r.n && r.head != r.tail && *budget) {
		uint64_t at = r.base + 16ull * r.head;

		--*budget;
		if (mem_read(d->m->mem, at, p, sizeof(p)))
			break;
		if (!descriptor(d, t, p, budget))
			break;
		if (t->last_cmd & CMD_RS) {
			mem_write(d->m->mem, at + 12, &done, 1);
			causes |= ICR_TXDW | ICR_TXQ0 << q;
		}
		r.head = r.head + 1 == r.n ? 0 : r.head + 1;
		*e1000e_reg(d, E_RING(R_TDH, q)) = r.head;
		if (r.head == r.tail)
			causes |= ICR_TXQE;
	}
	if (causes)
		e1000e_raise(d, causes);
}

void e1000e_tx_run(void *opaque)
{
	struct e1000e *d = opaque;
	unsigned budget = BUDGET;

	if (d->paused || !e1000e_master(d) || !(e1000e_get(d, R_TCTL) & TCTL_EN))
		return;
	for (unsigned q = 0; q < E_QUEUES; q++)
		run_ring(d, q, &budget);
	/* Others have their turn; a busy back end and a damaged ring come back by themselves. */
	if (!budget)
		loop_bh_post(&d->tx_bh);
}

void e1000e_tx_reset(struct e1000e *d)
{
	for (unsigned q = 0; q < E_QUEUES; q++) {
		d->tx[q].ctx = (struct e1000e_ctx){ 0 };
		d->tx[q].len = d->tx[q].done = 0;
		d->tx[q].begun = d->tx[q].bad = d->tx[q].whole = d->tx[q].segments = false;
	}
	loop_bh_cancel(&d->tx_bh);
}

bool e1000e_tx_loaded(const struct e1000e *d, struct e1000e_tx *t)
{
	if (t->len > TX_BUF || (!t->whole && t->len > NET_MAX_FRAME))
		return false;
	if (!t->whole) {
		t->segments = false;
		t->h = (struct net_vhdr){ 0 };
		return true;
	}
	if (t->begun || t->len < ETH_LEN)
		return false;
	if (t->segments)
		return can_segment(&t->c, t->len) && t->done <= t->len - t->c.hdr_len;
	return net_vhdr_check(&t->h, t->len, d->b->offloads);
}
