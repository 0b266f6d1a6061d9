/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-blk (virtio 1.2, 5.2) whose requests a vhost peer serves: QEMU's vhost-user-blk. */
#ifndef LODGE_VIRTIO_VHOST_BLK_H
#define LODGE_VIRTIO_VHOST_BLK_H

#include "virtio/vhost.h"

#define VHOST_BLK_CONFIG_LEN 60u	/* what the peer is asked for */

struct vhost_blk_opts {
	struct iothread *io;		/* NULL: the machine's loop */
	unsigned queues;		/* 0: one for each vCPU, at most 8 and as many as the peer has */
	uint16_t queue_size;		/* power of two, 8 to 1024; 0: 128 */
};

/*
 * The peer has been asked for VHOST_BLK_CONFIG_LEN bytes of configuration, and is on the loop of o->io.  It is the device's on success.
 * EINVAL: the numbers; ENOTSUP: he has fewer queues; as vhost_dev_init.  Machine lock held, that of o->io not.
 */
int vhost_blk_new(struct machine *m, const char *id, struct vhost *peer, const struct vhost_blk_opts *o, struct virtio_dev **out, struct err *e);

#endif
