/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-vsock (virtio 1.2, 5.10): stream sockets between the guest and unix sockets of the host.
 *
 * The convention is Firecracker's and Cloud Hypervisor's.  A host program connects to the device's socket, writes
 * "CONNECT PORT\n" and, if something listens there in the guest, reads "OK HOSTPORT\n"; what follows is the connection.  A
 * guest program that connects to port P of CID 2 reaches whoever listens on the unix socket PATH_P.
 */
#ifndef LODGE_VIRTIO_VSOCK_H
#define LODGE_VIRTIO_VSOCK_H

#include "virtio/device.h"

#define VIRTIO_VSOCK_CID_MIN 3u			/* 0 to 2 are reserved: hypervisor, loopback, host */
#define VIRTIO_VSOCK_CID_MAX 0xfffffffeu	/* the upper half is zero, 2^32-1 means "any" */
#define VIRTIO_VSOCK_CONNS 256			/* connections at a time, with those that come and go */

struct virtio_vsock_stats {
	uint64_t from_guest, from_host;		/* connections that were made */
	uint64_t refused;			/* that were not: nobody listens, or there are too many */
	uint64_t reset;				/* that broke the protocol or ran out of time */
	uint64_t tx_bytes, rx_bytes;		/* from the guest, to the guest */
	uint64_t bad;				/* packets no honest driver makes */
};

/*
 * Listens at `path`, which is copied (and made absolute), until the device is freed.  Everything is on the machine's loop, so that
 * is the thread which connects.  EINVAL: the CID; ENAMETOOLONG: no room for the numbers of ports behind the path; as
 * unix_socket_listen.  Machine lock held.
 */
int virtio_vsock_new(struct machine *m, const char *id, uint64_t cid, const char *path, struct virtio_dev **out, struct err *e);
/* Machine lock held. */
void virtio_vsock_get_stats(const struct virtio_dev *d, struct virtio_vsock_stats *out);

#endif
