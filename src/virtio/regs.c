/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the transports' registers do, whatever their addresses. */
#include "virtio/regs.h"

#include "base/bits.h"

void virtio_regs_reset(struct virtio_regs *r)
{
	*r = (struct virtio_regs){ .d = r->d };
}

static uint32_t word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

uint32_t virtio_regs_device_feature(const struct virtio_regs *r)
{
	return word(r->d->host_features, r->device_feature_select);
}

uint32_t virtio_regs_driver_feature(const struct virtio_regs *r)
{
	return word(r->driver_feature, r->driver_feature_select);
}

void virtio_regs_write_feature(struct virtio_regs *r, uint32_t v)
{
	unsigned shift = 32 * r->driver_feature_select;

	if (r->driver_feature_select > 1)
		return;
	r->driver_feature = (r->driver_feature & ~(0xffffffffull << shift)) | (uint64_t)v << shift;
	virtio_dev_set_driver_features(r->d, r->driver_feature);
}

struct vq *virtio_regs_queue(const struct virtio_regs *r)
{
	return r->queue_select < r->d->n_queues ? &r->d->vq[r->queue_select] : NULL;
}

bool virtio_regs_queue_reset(struct virtio_regs *r, uint64_t v)
{
	struct vq *vq = virtio_regs_queue(r);

	if (!vq || v != 1 || !vq->ready || !virtio_has(r->d, VIRTIO_F_RING_RESET))
		return false;
	virtio_dev_queue_reset(r->d, vq->index);
	return true;
}

void virtio_regs_write_address(struct vq *vq, enum virtio_queue_area area, unsigned at, unsigned len, uint64_t v)
{
	uint64_t *addr = area == VQ_DESC ? &vq->desc : area == VQ_DRIVER ? &vq->avail : &vq->used;

	if (len == 8)
		*addr = v;
	else if (len == 4)
		st_le32((uint8_t *)addr + (at & 4), (uint32_t)v);
}

bool virtio_regs_write_status(struct virtio_regs *r, uint64_t v)
{
	virtio_dev_set_status(r->d, (uint8_t)v);
	return !(v & 0xff);
}
