/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checks of the offload header, and checksums in software (RFC 1071, 793, 2460).
 *
 * The header comes from a hostile guest.  What passes here may be handed to the
 * host's kernel or be computed with: every offset is inside the frame.
 */
#include "net/vhdr.h"

#include <string.h>

#include "base/bits.h"
#include "net/port.h"

#define ETH_LEN 14
#define VLAN_LEN 4
#define ETH_P_VLAN 0x8100
#define ETH_P_QINQ 0x88a8
#define ETH_P_V4 0x0800
#define ETH_P_V6 0x86dd
#define IPPROTO_NO_TCP 6
#define TCP_MIN 20
#define TCP_CSUM 16

_Static_assert(sizeof(struct net_vhdr) == NET_VHDR_LEN, "virtio 1.2, 5.1.6");

static uint32_t gso_feature(uint8_t type)
{
	switch (type & ~NET_GSO_ECN) {
	case NET_GSO_TCPV4: return NET_OFF_TSO4;
	case NET_GSO_TCPV6: return NET_OFF_TSO6;
	case NET_GSO_UDP_L4: return NET_OFF_USO;
	default: return 0;
	}
}

static bool check_gso(struct net_vhdr *h, size_t len, uint32_t allowed)
{
	uint32_t need = gso_feature(h->gso_type);

	if (h->gso_type == NET_GSO_NONE) {
		h->gso_size = h->hdr_len = 0;
		return true;
	}
	if (!need || !(allowed & need) || !h->gso_size)
		return false;
	if ((h->gso_type & NET_GSO_ECN) && (!(allowed & NET_OFF_ECN) || need == NET_OFF_USO))
		return false;
	/* 5.1.6.2: segmentation implies the checksum. */
	if (!(h->flags & NET_VHDR_NEEDS_CSUM))
		return false;
	/* hdr_len is a hint: keep it inside, and behind the transport's checksum. */
	h->hdr_len = MAX(h->hdr_len, (uint16_t)MIN((size_t)h->csum_start + h->csum_offset + 2u, 0xffffu));
	return h->hdr_len <= len;
}

bool net_vhdr_check(struct net_vhdr *h, size_t len, uint32_t allowed)
{
	h->flags &= NET_VHDR_NEEDS_CSUM;
	h->num_buffers = 0;
	if (!(h->flags & NET_VHDR_NEEDS_CSUM)) {
		h->csum_start = h->csum_offset = 0;
	} else {
		if (!(allowed & NET_OFF_CSUM))
			return false;
		if (h->csum_start < ETH_LEN || (size_t)h->csum_start + h->csum_offset + 2 > len)
			return false;
	}
	return check_gso(h, len, allowed);
}

uint32_t net_csum_add(uint32_t sum, const uint8_t *p, size_t len)
{
	uint64_t s = sum;

	for (; len >= 2; len -= 2, p += 2)
		s += (uint32_t)p[0] << 8 | p[1];
	if (len)
		s += (uint32_t)p[0] << 8;
	while (s >> 32)
		s = (s & 0xffffffff) + (s >> 32);
	return (uint32_t)s;
}

uint16_t net_csum_fold(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void put_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint16_t get_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* Some drivers leave the length out of the pseudo header of what is to be
 * segmented, so it is made anew.  *l3: offset of the IP header, or 0 if unknown. */
static bool tcp_pseudo(const uint8_t *f, size_t len, const struct net_vhdr *h, uint32_t *sum, size_t *l3)
{
	size_t at = ETH_LEN, tcp_len = len - h->csum_start;
	uint16_t type = get_be16(f + 12);
	uint8_t tail[4] = { 0, IPPROTO_NO_TCP, (uint8_t)(tcp_len >> 8), (uint8_t)tcp_len };

	while ((type == ETH_P_VLAN || type == ETH_P_QINQ) && at + VLAN_LEN <= h->csum_start) {
		type = get_be16(f + at + 2);
		at += VLAN_LEN;
	}
	if (h->csum_offset != TCP_CSUM || tcp_len < TCP_MIN || tcp_len > 0xffff)
		return false;
	if (type == ETH_P_V4 && at + 20 <= h->csum_start)
		*sum = net_csum_add(0, f + at + 12, 8);
	else if (type == ETH_P_V6 && at + 40 <= h->csum_start)
		*sum = net_csum_add(0, f + at + 8, 32);
	else
		return false;
	*sum = net_csum_add(*sum, tail, sizeof(tail));
	*l3 = at;
	return true;
}

/* A datagram that was to be segmented has the length of the whole now. */
static void fix_ip_header(uint8_t *f, size_t len, size_t l3, size_t l4)
{
	uint8_t *ip = f + l3;

	if (ip[0] >> 4 == 6) {
		put_be16(ip + 4, (uint16_t)(len - l3 - 40));
		return;
	}
	put_be16(ip + 2, (uint16_t)(len - l3));
	put_be16(ip + 10, 0);
	put_be16(ip + 10, net_csum_fold(net_csum_add(0, ip, l4 - l3)));
}

void net_finish_csum(uint8_t *frame, size_t len, const struct net_vhdr *h)
{
	size_t at = (size_t)h->csum_start + h->csum_offset, l3 = 0;
	uint32_t sum = 0;
	uint16_t csum;

	if (!(h->flags & NET_VHDR_NEEDS_CSUM) || len < ETH_LEN)
		return;
	if (h->gso_type != NET_GSO_NONE && tcp_pseudo(frame, len, h, &sum, &l3)) {
		fix_ip_header(frame, len, l3, h->csum_start);
		put_be16(frame + at, 0);
	}
	/* Otherwise the field holds the pseudo header's sum already. */
	csum = net_csum_fold(net_csum_add(sum, frame + h->csum_start, len - h->csum_start));
	/* UDP has no zero checksum: that would say "none". */
	put_be16(frame + at, csum ? csum : 0xffff);
}
