/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reception of the 82574L (7.1): filters, legacy, extended and packet-split
 * descriptors, checksums.
 *
 * All goes to ring 0.  A packet is copied into the guest's buffers at once; when
 * there are too few, the back end keeps it and waits for RDT to move.  Headers are
 * not told apart: a packet-split descriptor's buffers are filled one after the other.
 */
#include "device/e1000e_int.h"

#include <string.h>

#include "base/iov.h"

#define RCTL_EN 0x2u
#define RCTL_UPE 0x8u
#define RCTL_MPE 0x10u
#define RCTL_LPE 0x20u
#define RCTL_BAM 0x8000u
#define RCTL_VFE BIT(18)
#define RCTL_BSEX BIT(25)
#define RCTL_SECRC BIT(26)
#define RFCTL_EXTEN BIT(15)
#define RXCSUM_IP BIT(8)
#define RXCSUM_TCP BIT(9)

#define ST_DD 0x01u
#define ST_EOP 0x02u
#define ST_IXSM 0x04u
#define ST_VP 0x08u
#define ST_UDPCS 0x10u
#define ST_TCPCS 0x20u
#define ST_IPCS 0x40u
#define ER_TCPE 0x20u
#define ER_IPE 0x40u

#define ETH_LEN 14u
#define MIN_LEN 60u
#define CRC 4u
#define MAX_STANDARD 1522u		/* with a tag and CRC */
#define MAX_PIECES 4u

/* What is told with a packet. */
struct told {
	uint32_t status, errors;
	uint16_t tag;
};

struct layout {
	uint32_t desc;			/* bytes of a descriptor */
	bool ext, split;
	uint32_t size[MAX_PIECES], total;	/* of its buffers */
};

static uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }

/* ---- filters (7.1.1) ---- */

static bool exact_match(const struct e1000e *d, const uint8_t *p)
{
	for (unsigned i = 0; i < 16; i++) {
		uint32_t hi = e1000e_get(d, R_RAH + 8 * i);

		if (hi & BIT(31) && e1000e_get(d, R_RAL + 8 * i) == ld_le32(p) && (hi & 0xffff) == ld_le16(p + 4))
			return true;
	}
	return false;
}

static bool hash_match(const struct e1000e *d, const uint8_t *p)
{
	static const uint8_t shift[4] = { 4, 3, 2, 0 };
	unsigned h = (ld_le16(p + 4) >> shift[e1000e_get(d, R_RCTL) >> 12 & 3]) & 0xfff;

	return e1000e_get(d, R_MTA + 4 * (h >> 5)) & BIT(h & 31);
}

static bool tagged(const struct e1000e *d, const uint8_t *p, size_t len)
{
	return len >= ETH_LEN + 4 && be16(p + 12) == (e1000e_get(d, R_VET) & 0xffff);
}

static bool passes(struct e1000e *d, const uint8_t *p, size_t len)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	uint32_t rctl = e1000e_get(d, R_RCTL);
	unsigned vlan;

	if (rctl & RCTL_VFE && tagged(d, p, len)) {
		vlan = be16(p + 14) & 0xfff;
		if (!(e1000e_get(d, R_VFTA + 4 * (vlan >> 5)) & BIT(vlan & 31)))
			return false;
	}
	if (!memcmp(p, all, 6))
		return rctl & RCTL_BAM || hash_match(d, p);
	if (p[0] & 1)
		return rctl & RCTL_MPE || exact_match(d, p) || hash_match(d, p);
	return rctl & RCTL_UPE || exact_match(d, p) || hash_match(d, p);
}

/* ---- checksums (7.1.10) ---- */

/* Of TCP or UDP at `at`, with the sum of the pseudo header's addresses. */
static void check_transport(struct told *t, const uint8_t *p, size_t at, size_t len, uint8_t proto, uint32_t sum)
{
	const uint8_t tail[4] = { 0, proto, (uint8_t)(len >> 8), (uint8_t)len };

	if ((proto != 6 || len < 20) && (proto != 17 || len < 8))
		return;
	if (proto == 17 && !be16(p + at + 6))		/* none */
		return;
	sum = net_csum_add(net_csum_add(sum, tail, sizeof(tail)), p + at, len);
	t->status |= proto == 6 ? ST_TCPCS : ST_TCPCS | ST_UDPCS;
	if (net_csum_fold(sum))
		t->errors |= ER_TCPE;
}

static void check_v4(const struct e1000e *d, struct told *t, const uint8_t *p, size_t at, size_t len)
{
	size_t head = 4u * (p[at] & 15u), total = be16(p + at + 2);
	uint32_t rxcsum = e1000e_get(d, R_RXCSUM);

	if (p[at] >> 4 != 4 || head < 20 || head > len - at || total < head || total > len - at)
		return;
	if (rxcsum & RXCSUM_IP) {
		t->status |= ST_IPCS;
		if (net_csum_fold(net_csum_add(0, p + at, head)))
			t->errors |= ER_IPE;
	}
	if (rxcsum & RXCSUM_TCP && !(be16(p + at + 6) & 0x3fff))	/* no fragment */
		check_transport(t, p, at + head, total - head, p[at + 9], net_csum_add(0, p + at + 12, 8));
}

static void check(const struct e1000e *d, struct told *t, const uint8_t *p, size_t len)
{
	uint16_t type = be16(p + 12);
	size_t at = ETH_LEN;

	if (type == 0x8100 && len >= at + 4) {
		type = be16(p + 16);
		at += 4;
	}
	if (type == 0x0800 && len >= at + 20)
		check_v4(d, t, p, at, len);
	else if (type == 0x86dd && len >= at + 40 && e1000e_get(d, R_RXCSUM) & RXCSUM_TCP && be16(p + at + 4) <= len - at - 40)
		check_transport(t, p, at + 40, be16(p + at + 4), p[at + 6], net_csum_add(0, p + at + 8, 32));
	if (!(t->status & (ST_IPCS | ST_TCPCS)))
		t->status |= ST_IXSM;
}

/* ---- descriptors ---- */

static struct layout layout(const struct e1000e *d)
{
	static const uint16_t sizes[4] = { 2048, 1024, 512, 256 };
	uint32_t rctl = e1000e_get(d, R_RCTL), ps = e1000e_get(d, R_PSRCTL), flex = rctl >> 27 & 15;
	struct layout l = { .desc = 16, .ext = e1000e_get(d, R_RFCTL) & RFCTL_EXTEN };

	l.split = l.ext && (rctl >> 10 & 3) == 1;
	if (l.split) {
		l.desc = 32;
		l.size[0] = (ps & 0x7f) * 128;
		for (unsigned i = 1; i < MAX_PIECES; i++)
			l.size[i] = (ps >> (8 * i) & 0x3f) * 1024;
	} else {
		l.size[0] = flex ? flex * 1024 : sizes[rctl >> 16 & 3];
		if (!flex && rctl & RCTL_BSEX && l.size[0] < 2048)
			l.size[0] *= 16;
	}
	for (unsigned i = 0; i < MAX_PIECES; i++)
		l.total += l.size[i];
	return l;
}

/* Fills what a descriptor points at; bytes in each buffer. */
static void fill(struct e1000e *d, const struct layout *l, const uint8_t *desc, const uint8_t *p, uint32_t len, uint16_t in[MAX_PIECES])
{
	for (unsigned i = 0; i < MAX_PIECES; i++) {
		uint32_t n = MIN(len, l->size[i]);

		/* Outside memory: lost, as on the bus. */
		if (n)
			mem_write(d->m->mem, ld_le64(desc + 8 * i), p, n);
		in[i] = (uint16_t)n;
		p += n;
		len -= n;
	}
}

/* The status comes last: a driver that polls sees a descriptor that is done. */
static void write_back(struct e1000e *d, const struct layout *l, uint64_t at, const uint16_t in[MAX_PIECES], const struct told *t, uint32_t status)
{
	struct mem *m = d->m->mem;
	uint8_t w[32] = { 0 };

	if (!l->ext) {
		st_le16(w + 8, in[0]);
		w[12] = (uint8_t)status;
		w[13] = (uint8_t)t->errors;
		st_le16(w + 14, t->tag);
		mem_write(m, at + 8, w + 8, 4);
		mem_write(m, at + 12, w + 12, 4);
		return;
	}
	st_le32(w + 8, status | t->errors << 24);
	st_le16(w + 12, in[0]);
	st_le16(w + 14, t->tag);
	for (unsigned i = 1; i < MAX_PIECES && l->split; i++)
		st_le16(w + 16 + 2 * i, in[i]);
	if (l->split)
		mem_write(m, at + 16, w + 16, 16);
	mem_write(m, at, w, 8);
	mem_write(m, at + 12, w + 12, 4);
	mem_write(m, at + 8, w + 8, 4);
}

/* 1: it is in the guest's memory, or can never be; 0: there are too few descriptors. */
static int put(struct e1000e *d, const uint8_t *p, uint32_t len, const struct told *t)
{
	struct layout l = layout(d);
	struct e1000e_ring r = e1000e_ring(d, R_RDBAL, l.desc);
	uint32_t free = r.n ? (r.tail + r.n - r.head) % r.n : 0, need = l.total ? (len + l.total - 1) / l.total : UINT32_MAX;
	uint16_t in[MAX_PIECES];
	uint8_t desc[32];

	if (need > free) {
		if (r.n && need >= r.n)
			return -1;
		return 0;
	}
	while (len) {
		uint64_t at = r.base + (uint64_t)l.desc * r.head;
		uint32_t n = MIN(len, l.total);

		if (mem_read(d->m->mem, at, desc, l.desc))
			return -1;
		fill(d, &l, desc, p, n, in);
		p += n;
		len -= n;
		write_back(d, &l, at, in, t, len ? ST_DD : ST_DD | ST_EOP | t->status);
		r.head = r.head + 1 == r.n ? 0 : r.head + 1;
		*e1000e_reg(d, R_RDH) = r.head;
		free--;
	}
	e1000e_raise(d, ICR_RXT0 | ICR_RXQ0 | (free <= r.n >> (1 + (e1000e_get(d, R_RCTL) >> 8 & 3)) ? ICR_RXDMT0 : 0));
	return 1;
}

static void count(struct e1000e *d, const uint8_t *p, uint32_t len)
{
	static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

	d->stats.rx_packets++;
	d->stats.rx_bytes += len;
	e1000e_count(d, R_TPR, 1);
	e1000e_count(d, R_GPRC, 1);
	e1000e_count64(d, R_TOR, len + CRC);
	e1000e_count64(d, R_GORC, len + CRC);
	if (!memcmp(p, all, 6))
		e1000e_count(d, R_BPRC, 1);
	else if (p[0] & 1)
		e1000e_count(d, R_MPRC, 1);
}

static int drop(struct e1000e *d)
{
	d->stats.rx_dropped++;
	return 1;
}

/* Strips a tag, checks sums, pads and adds room for a CRC, which reads as zeros; the length. */
static uint32_t prepare(struct e1000e *d, uint32_t len, struct told *t)
{
	uint8_t *p = d->rx_buf;

	check(d, t, p, len);
	if (e1000e_get(d, R_CTRL) & CTRL_VME && tagged(d, p, len)) {
		t->tag = be16(p + 14);
		t->status |= ST_VP;
		memmove(p + 12, p + 16, len - 16);
		len -= 4;
	}
	memset(p + len, 0, MIN_LEN + CRC);
	return MAX(len, MIN_LEN) + (e1000e_get(d, R_RCTL) & RCTL_SECRC ? 0 : CRC);
}

void e1000e_rx_again(void *opaque)
{
	struct e1000e *d = opaque;

	if (d->paused)
		return;
	d->rx_waits = false;
	d->b->ops->rx_ready(d->b, 0);
}

int e1000e_recv(void *opaque, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n)
{
	struct e1000e *d = opaque;
	size_t len = iov_size(iov, n);
	struct told t = { 0 };
	uint32_t total;
	int ret;

	if (d->paused)
		return 0;
	if (len < ETH_LEN || len > NET_MAX_FRAME || !e1000e_link(d) || !e1000e_master(d) || !(e1000e_get(d, R_RCTL) & RCTL_EN))
		return drop(d);
	iov_to_buf(iov, n, 0, d->rx_buf, len);
	if ((len + CRC > MAX_STANDARD && !(e1000e_get(d, R_RCTL) & RCTL_LPE)) || !passes(d, d->rx_buf, len))
		return drop(d);
	total = prepare(d, (uint32_t)len, &t);
	ret = put(d, d->rx_buf, total, &t);
	if (ret < 0) {
		e1000e_count(d, R_MPC, 1);
		return drop(d);
	}
	d->rx_waits = !ret;
	if (ret)
		count(d, d->rx_buf, (uint32_t)len);
	return ret;
}
