/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The offload header: what a hostile guest sends does not pass; checksums come out right. */
#include "net_test.h"

#define ALL (NET_OFF_CSUM | NET_OFF_TSO4 | NET_OFF_TSO6 | NET_OFF_ECN)

static void plain_passes(void **state)
{
	struct net_vhdr h = { .hdr_len = 999, .csum_start = 7, .num_buffers = 9, .gso_size = 4 };

	assert_true(net_vhdr_check(&h, 60, 0));
	assert_int_equal(h.hdr_len | h.csum_start | h.num_buffers | h.gso_size, 0);
}

static bool csum(uint16_t start, uint16_t offset, size_t len, uint32_t allowed)
{
	struct net_vhdr h = { .flags = 1, .csum_start = start, .csum_offset = offset };

	return net_vhdr_check(&h, len, allowed);
}

static void checksum_stays_inside(void **state)
{
	assert_true(csum(34, 16, 54, ALL));
	assert_true(csum(34, 16, 52, ALL));
	assert_false(csum(34, 16, 51, ALL));
	assert_false(csum(34, 0xffff, 60, ALL));
	assert_false(csum(0xffff, 0xffff, 60, ALL));
	assert_false(csum(0xffff, 0, 60, ALL));
	assert_false(csum(13, 16, 60, ALL));
	assert_false(csum(34, 16, 60, 0));
}

static bool gso(uint8_t flags, uint8_t type, uint16_t size, uint16_t hdr_len, uint32_t allowed)
{
	struct net_vhdr h = { .flags = flags, .gso_type = type, .gso_size = size, .hdr_len = hdr_len,
			      .csum_start = 34, .csum_offset = 16 };

	return net_vhdr_check(&h, 3000, allowed);
}

static void segmentation_needs_its_terms(void **state)
{
	assert_true(gso(1, NET_GSO_TCPV4, 1448, 54, ALL));
	assert_true(gso(1, NET_GSO_TCPV4, 1448, 0, ALL));
	assert_true(gso(1, NET_GSO_TCPV6 | NET_GSO_ECN, 1448, 54, ALL));
	assert_false(gso(0, NET_GSO_TCPV4, 1448, 54, ALL));
	assert_false(gso(1, NET_GSO_TCPV4, 0, 54, ALL));
	assert_false(gso(1, NET_GSO_TCPV4, 1448, 3001, ALL));
	assert_false(gso(1, NET_GSO_TCPV4, 1448, 54, NET_OFF_CSUM));
	assert_false(gso(1, NET_GSO_TCPV4 | NET_GSO_ECN, 1448, 54, NET_OFF_CSUM | NET_OFF_TSO4));
	assert_false(gso(1, NET_GSO_UDP, 1448, 54, ALL));
	assert_false(gso(1, NET_GSO_UDP_L4, 1448, 54, ALL));
	assert_false(gso(1, 2, 1448, 54, ALL));
	assert_false(gso(1, 0x7f, 1448, 54, ALL));
	assert_false(gso(1, NET_GSO_ECN, 1448, 54, ALL));
}

/* A header's hint grows to cover the checksum, as the kernel demands. */
static void short_hint_grows(void **state)
{
	struct net_vhdr h = { .flags = 1, .gso_type = NET_GSO_TCPV4, .gso_size = 1000, .hdr_len = 3,
			      .csum_start = 34, .csum_offset = 16 };

	assert_true(net_vhdr_check(&h, 3000, ALL));
	assert_int_equal(h.hdr_len, 52);
}

static bool udp_sum_right(const uint8_t *f, size_t udp_len)
{
	uint16_t sum = (uint16_t)~net_csum_fold(net_csum_add(pseudo4(f, f[23], udp_len), f + 34, udp_len));

	return sum == 0xffff;
}

static void checksum_completed(void **state)
{
	uint8_t f[34 + 8 + 5] = { 0 };
	struct net_vhdr h = { .flags = 1, .csum_start = 34, .csum_offset = 6 };

	ip4_header(f, 17, 0x0a00020f, 0x0a000202, 13);
	be16(f + 34, 1234);
	be16(f + 36, 53);
	be16(f + 38, 13);
	memcpy(f + 42, "hello", 5);
	be16(f + 40, pseudo4(f, 17, 13));
	net_finish_csum(f, sizeof(f), &h);
	assert_true(udp_sum_right(f, 13));
	f[44] ^= 1;
	assert_false(udp_sum_right(f, 13));
}

/* Unsegmented TCP: the pseudo header is made anew, and the IP header fits the whole. */
static void whole_segment_completed(void **state)
{
	size_t tcp = 20 + 4000;
	uint8_t *f = calloc(1, 34 + tcp);
	struct net_vhdr h = { .flags = 1, .gso_type = NET_GSO_TCPV4, .gso_size = 1448, .csum_start = 34,
			      .csum_offset = 16 };

	ip4_header(f, 6, 0x0a00020f, 0x0a000202, 0);
	memset(f + 54, 0x5a, 4000);
	be16(f + 50, 0x1234);
	net_finish_csum(f, 34 + tcp, &h);
	assert_true(udp_sum_right(f, tcp));
	assert_int_equal(rd16(f + 16), 20 + tcp);
	assert_int_equal((uint16_t)~net_csum_fold(net_csum_add(0, f + 14, 20)), 0xffff);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_passes),
		cmocka_unit_test(checksum_stays_inside),
		cmocka_unit_test(segmentation_needs_its_terms),
		cmocka_unit_test(short_hint_grows),
		cmocka_unit_test(checksum_completed),
		cmocka_unit_test(whole_segment_completed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
