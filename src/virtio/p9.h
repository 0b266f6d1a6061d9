/* SPDX-License-Identifier: GPL-2.0-or-later */
/* virtio-9p (device ID 9; its two registers are as in Linux's virtio_9p.h and QEMU): carries 9P messages between a driver and a server (p9/p9.h). */
#ifndef LODGE_VIRTIO_P9_H
#define LODGE_VIRTIO_P9_H

#include "p9/p9.h"
#include "virtio/device.h"

#define VIRTIO_P9_TAG_MAX 255

/* tag: what the guest mounts it by, 1 to VIRTIO_P9_TAG_MAX bytes.  The server is the device's on success.  Machine lock held.
 * EINVAL, ENOMEM, with a message */
int virtio_p9_new(struct machine *m, const char *id, struct p9 *server, const char *tag, struct virtio_dev **out, struct err *e);

#endif
