/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which frames a network card lets in, and the commands that say so (virtio 1.2, 5.1.6.5). */
#ifndef LODGE_VIRTIO_NET_CTRL_H
#define LODGE_VIRTIO_NET_CTRL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "machine/snap.h"

#define NET_CTRL_OK 0
#define NET_CTRL_ERR 1

enum { NET_CTRL_RX, NET_CTRL_MAC, NET_CTRL_VLAN, NET_CTRL_ANNOUNCE, NET_CTRL_MQ, NET_CTRL_OFFLOADS };
enum { NET_CTRL_RX_PROMISC, NET_CTRL_RX_ALLMULTI, NET_CTRL_RX_ALLUNI, NET_CTRL_RX_NOMULTI, NET_CTRL_RX_NOUNI,
       NET_CTRL_RX_NOBCAST };
enum { NET_CTRL_MAC_TABLE_SET, NET_CTRL_MAC_ADDR_SET };
enum { NET_CTRL_VLAN_ADD, NET_CTRL_VLAN_DEL };
enum { NET_CTRL_ANNOUNCE_ACK };
enum { NET_CTRL_MQ_PAIRS_SET };
enum { NET_CTRL_OFFLOADS_SET };

#define NET_CTRL_MAX_DATA 4096		/* of one command: two tables of some 340 addresses */
#define NET_FILTER_ADDRS 64

/* Longer lists than the table holds let everything of their kind in. */
struct net_filter {
	uint8_t mac[6], first_mac[6];	/* now, and at power-on */
	uint8_t promisc, allmulti, alluni, nomulti, nouni, nobcast;
	uint8_t vlan_filter, uni_overflow, multi_overflow;
	uint16_t n_uni, n_multi;
	uint8_t uni[NET_FILTER_ADDRS * 6], multi[NET_FILTER_ADDRS * 6];
	uint8_t vlans[4096 / 8];
};

void net_filter_init(struct net_filter *f, const uint8_t mac[6]);
void net_filter_reset(struct net_filter *f);
/* May a frame of at least 14 bytes in? */
bool net_filter_passes(const struct net_filter *f, const struct iovec *iov, unsigned n);

/* Commands of a hostile driver; p holds len bytes. 0 or -errno. */
int net_filter_rx(struct net_filter *f, uint8_t cmd, const uint8_t *p, size_t len);
int net_filter_mac(struct net_filter *f, uint8_t cmd, const uint8_t *p, size_t len);
int net_filter_vlan(struct net_filter *f, uint8_t cmd, const uint8_t *p, size_t len);

int net_filter_save(const struct net_filter *f, const char *id, struct snap_out *o);
int net_filter_load(struct net_filter *f, const char *id, struct snap_in *in, struct err *e);

#endif
