/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Keyboard, mouse and tablet (virtio 1.2, 5.8), fed from display/input.h. */
#ifndef LODGE_VIRTIO_INPUT_H
#define LODGE_VIRTIO_INPUT_H

#include "display/input.h"
#include "virtio/device.h"

enum virtio_input_kind { VIRTIO_INPUT_KEYBOARD, VIRTIO_INPUT_MOUSE, VIRTIO_INPUT_TABLET };

/* in: the caller's, outlives the device.  Listens while its driver is up.  Machine lock held. */
int virtio_input_new(struct machine *m, const char *id, enum virtio_input_kind kind, struct input *in, struct virtio_dev **out,
		     struct err *e);

#endif
