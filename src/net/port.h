/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A network port: where a network card's packets go and come from.
 *
 * The card (front end) and the back end (user, tap) each hold one side.  All on
 * the machine's loop thread with its lock held.  Packets carry the 12-byte
 * virtio_net_hdr (virtio 1.2, 5.1.6) in host memory if both sides agreed on
 * offloads, else plain Ethernet frames.
 */
#ifndef LODGE_NET_PORT_H
#define LODGE_NET_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"

#define NET_MAX_FRAME (65535 + 14 + 4)
#define NET_VHDR_LEN 12

/* Offloads a side can take, VIRTIO_NET_F numbers as bits. */
#define NET_OFF_CSUM (1u << 0)		/* partial checksums from the card */
#define NET_OFF_GUEST_CSUM (1u << 1)	/* partial checksums to the card */
#define NET_OFF_TSO4 (1u << 2)
#define NET_OFF_TSO6 (1u << 3)
#define NET_OFF_USO (1u << 4)
#define NET_OFF_GUEST_TSO4 (1u << 5)
#define NET_OFF_GUEST_TSO6 (1u << 6)
#define NET_OFF_ECN (1u << 7)
#define NET_OFF_GUEST_ECN (1u << 8)

struct net_backend;

struct net_backend_ops {
	const char *name;
	/* Frame from the guest on queue pair q. vhdr: NULL or 12 bytes. Returns 0, or -EAGAIN:
	 * not taken, the back end will call card->tx_ready; other errors: dropped. */
	int (*send)(struct net_backend *b, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n);
	/* The card has receive buffers again on queue pair q (it refused one before). */
	void (*rx_ready)(struct net_backend *b, unsigned q);
	/* Offloads the guest accepted. */
	void (*set_offloads)(struct net_backend *b, uint32_t guest_offloads);
	void (*set_queues)(struct net_backend *b, unsigned pairs);	/* multi-queue in use */
	void (*close)(struct net_backend *b);
};

/* The card side. recv: returns 1 taken, 0 no buffer (the back end keeps or drops
 * it and waits for rx_ready). vhdr as in send; NULL means all zero. */
struct net_card {
	int (*recv)(void *opaque, unsigned q, const void *vhdr, const struct iovec *iov, unsigned n);
	void (*tx_ready)(void *opaque, unsigned q);
	void (*link)(void *opaque, bool up);
	void *opaque;
};

struct net_backend {
	const struct net_backend_ops *ops;
	struct loop *loop;
	struct net_card card;		/* set by net_attach */
	uint32_t offloads;		/* what this back end can do */
	unsigned max_pairs;
	uint16_t mtu;			/* what the card shows the guest; 0: 1500 */
};

struct net_fwd {
	bool udp;
	char host_addr[64];		/* "" = 127.0.0.1 */
	uint16_t host_port;
	char guest_addr[64];		/* "" = the DHCP address 10.0.2.15 */
	uint16_t guest_port;
};

struct net_user_opts {
	const struct net_fwd *fwd;	/* n_fwd of them */
	unsigned n_fwd;
	bool restrict_;			/* nothing but the forwardings */
	const char *tftp;		/* folder whose files the guest can read by TFTP, at 10.0.2.2; NULL: none */
	const char *bootfile;		/* what DHCP names as the file to boot, up to 127 bytes; NULL: none */
	const char *hostname;		/* the guest's, by DHCP; NULL: none */
	const char *domainname, *dnssearch;	/* by DHCP; NULL: none */
	const char *net;		/* NETWORK/BITS or NETWORK/MASK; NULL: 10.0.2.0/24 */
	const char *host, *dns, *dhcpstart;	/* in it: the router, the name server, the guest; NULL: its 2nd, 3rd, 15th address */
	const char *tftp_server_name;	/* DHCP option 66, up to 255 bytes; NULL: none */
};

/* Reads the options once. -EINVAL, -EADDRINUSE and others with a message. */
int net_user_new(struct loop *l, const struct net_user_opts *o, struct net_backend **out, struct err *e);
int net_tap_new(struct loop *l, const char *ifname, unsigned queues, struct net_backend **out, struct err *e);
void net_attach(struct net_backend *b, const struct net_card *card);
void net_close(struct net_backend *b);

#endif
