/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The entropy device (virtio 1.2, 5.4). */
#ifndef LODGE_VIRTIO_RNG_H
#define LODGE_VIRTIO_RNG_H

#include "virtio/device.h"

/* Bytes come from the host kernel.  Machine lock held. */
int virtio_rng_new(struct machine *m, const char *id, struct virtio_dev **out, struct err *e);
/* At most `bytes` in each period of `period_ms`; 0 bytes: no limit (the default). */
void virtio_rng_set_rate(struct virtio_dev *d, uint64_t bytes, uint32_t period_ms);

#endif
