/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The registers that both transports have under other names (virtio 1.2, 4.1.4.3
 * and 4.2.2): feature words, the queue selector and the selected queue's state.
 */
#ifndef LODGE_VIRTIO_REGS_H
#define LODGE_VIRTIO_REGS_H

#include "virtio/device.h"

struct virtio_regs {
	struct virtio_dev *d;
	uint32_t device_feature_select, driver_feature_select, queue_select;
	uint64_t driver_feature;	/* what was written; judged at FEATURES_OK */
};

#define VIRTIO_REGS_SNAP(type, field) \
	SNAP_FIELD(type, field.device_feature_select), SNAP_FIELD(type, field.driver_feature_select), \
	SNAP_FIELD(type, field.queue_select), SNAP_FIELD(type, field.driver_feature)

void virtio_regs_reset(struct virtio_regs *r);
/* The selected word of the features offered, and of those the driver wrote. */
uint32_t virtio_regs_device_feature(const struct virtio_regs *r);
uint32_t virtio_regs_driver_feature(const struct virtio_regs *r);
void virtio_regs_write_feature(struct virtio_regs *r, uint32_t v);
/* The selected queue, or NULL. */
struct vq *virtio_regs_queue(const struct virtio_regs *r);
/* QueueReset written: true if the queue was reset (2.6.1). */
bool virtio_regs_queue_reset(struct virtio_regs *r, uint64_t v);
/* An address of a queue that is not enabled, in one go (len 8) or by halves (4, `at`
 * telling which). */
enum virtio_queue_area { VQ_DESC, VQ_DRIVER, VQ_DEVICE };
void virtio_regs_write_address(struct vq *vq, enum virtio_queue_area area, unsigned at, unsigned len, uint64_t v);
/* The device status register; true: the driver reset the device. */
bool virtio_regs_write_status(struct virtio_regs *r, uint64_t v);

#endif
