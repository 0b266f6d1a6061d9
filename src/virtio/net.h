/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-net (virtio 1.2, 5.1): a network card on a net back end. */
#ifndef LODGE_VIRTIO_NET_H
#define LODGE_VIRTIO_NET_H

#include "net/port.h"
#include "virtio/device.h"

struct virtio_net_stats {
	uint64_t rx_packets, rx_bytes, rx_dropped;
	uint64_t tx_packets, tx_bytes, tx_dropped;
	uint64_t tx_bad;		/* headers or lengths no honest driver makes */
};

/*
 * On success the device owns the back end and closes it when it is freed; on
 * failure the caller still does.  Machine lock held.
 */
int virtio_net_new(struct machine *m, const char *id, struct net_backend *b, const uint8_t mac[6],
		   struct virtio_dev **out, struct err *e);
void virtio_net_get_stats(const struct virtio_dev *d, struct virtio_net_stats *out);
/* The cable is plugged in or pulled out. */
void virtio_net_set_link(struct virtio_dev *d, bool up);
/* Asks the driver to announce its addresses to the network (after it moved). */
void virtio_net_announce(struct virtio_dev *d);

#endif
