/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-gpu, the 2D device (virtio 1.2, 5.7), with EDID.
 *
 * The guest makes resources, tells which of its pages back them, has parts copied
 * to the host and says which resource an output shows and what of it has changed.
 * Copies are noted, and made when somebody looks.
 */
#ifndef LODGE_VIRTIO_GPU_H
#define LODGE_VIRTIO_GPU_H

#include "base/err.h"

#define VIRTIO_GPU_MAX_OUTPUTS 4u
#define VIRTIO_GPU_MAX_BYTES (256ull << 20)	/* of all resources together */

struct display;
struct machine;
struct virtio_dev;

struct virtio_gpu_config {
	struct display *display[VIRTIO_GPU_MAX_OUTPUTS];	/* outlive the device */
	unsigned outputs;		/* 1 to VIRTIO_GPU_MAX_OUTPUTS */
	/* Another adapter (a VGA in the same card) has the first display until the driver shows something there, and
	 * again after a reset. */
	bool shared;
};

/* Machine lock held.  Everything happens on the machine's loop. */
int virtio_gpu_new(struct machine *m, const char *id, const struct virtio_gpu_config *cfg, struct virtio_dev **out,
		   struct err *e);

#endif
