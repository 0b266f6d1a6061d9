/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header in front of each frame (virtio 1.2, 5.1.6; the kernel's tap speaks
 * the same): what remains to be done to the frame, and doing it in software.
 */
#ifndef LODGE_NET_VHDR_H
#define LODGE_NET_VHDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NET_VHDR_NEEDS_CSUM 1
#define NET_VHDR_DATA_VALID 2

#define NET_GSO_NONE 0
#define NET_GSO_TCPV4 1
#define NET_GSO_UDP 3
#define NET_GSO_TCPV6 4
#define NET_GSO_UDP_L4 5
#define NET_GSO_ECN 0x80

/* Little endian, like the hosts we run on. */
struct net_vhdr {
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

/*
 * Checks and tidies the header of a frame of `len` bytes that a guest sent,
 * which may use the NET_OFF_* in `allowed`.  False: no honest driver sends this.
 * Afterwards all fields lie inside the frame and unused ones are zero.
 */
bool net_vhdr_check(struct net_vhdr *h, size_t len, uint32_t allowed);

/* Completes the checksums of a checked frame, in place, so that it needs no
 * header.  A frame to be segmented stays whole: for receivers that take it. */
void net_finish_csum(uint8_t *frame, size_t len, const struct net_vhdr *h);

/* The Internet checksum's running sum (RFC 1071), host order, over len bytes. */
uint32_t net_csum_add(uint32_t sum, const uint8_t *p, size_t len);
uint16_t net_csum_fold(uint32_t sum);

#endif
