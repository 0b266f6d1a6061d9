/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-fs (virtio 1.2, 5.11): a file system that a vhost peer serves, as virtiofsd does. */
#ifndef LODGE_VIRTIO_VHOST_FS_H
#define LODGE_VIRTIO_VHOST_FS_H

#include "virtio/vhost.h"

#define VHOST_FS_TAG_MAX 36		/* bytes */

struct vhost_fs_opts {
	struct iothread *io;		/* NULL: the machine's loop */
	unsigned queues;		/* of requests; 0: one */
	uint16_t queue_size;		/* power of two, 8 to 1024; 0: 128 */
};

/* tag: what the guest mounts it by, 1 to VHOST_FS_TAG_MAX bytes.  The peer, on the loop of o->io, is the device's on success.  EINVAL, ENOTSUP, as
 * vhost_dev_init.  Machine lock held, that of o->io not. */
int vhost_fs_new(struct machine *m, const char *id, struct vhost *peer, const char *tag, const struct vhost_fs_opts *o, struct virtio_dev **out,
		 struct err *e);

#endif
