/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over MMIO, version 2 (virtio 1.2, 4.2).
 *
 * 512 bytes of registers and one level-triggered wire, high while
 * InterruptStatus is not zero.  QueueNotify is one address for all queues: each
 * queue's doorbell matches its number.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "virtio/regs.h"

#define MAGIC 0x74726976
#define VENDOR 0x1af4

enum {
	R_MAGIC = 0x000,
	R_VERSION = 0x004,
	R_DEVICE_ID = 0x008,
	R_VENDOR_ID = 0x00c,
	R_DEVICE_FEATURES = 0x010,
	R_DEVICE_FEATURES_SEL = 0x014,
	R_DRIVER_FEATURES = 0x020,
	R_DRIVER_FEATURES_SEL = 0x024,
	R_QUEUE_SEL = 0x030,
	R_QUEUE_NUM_MAX = 0x034,
	R_QUEUE_NUM = 0x038,
	R_QUEUE_READY = 0x044,
	R_QUEUE_NOTIFY = 0x050,
	R_INTERRUPT_STATUS = 0x060,
	R_INTERRUPT_ACK = 0x064,
	R_STATUS = 0x070,
	R_QUEUE_DESC = 0x080,
	R_QUEUE_DRIVER = 0x090,
	R_QUEUE_DEVICE = 0x0a0,
	R_SHM_SEL = 0x0ac,
	R_SHM_LEN = 0x0b0,
	R_SHM_BASE = 0x0b8,
	R_QUEUE_RESET = 0x0c0,
	R_CONFIG_GENERATION = 0x0fc,
	R_CONFIG = 0x100,
};

#define INT_QUEUE 1
#define INT_CONFIG 2

struct virtio_mmio {
	struct dev dev;			/* first */
	struct virtio_dev *d;
	struct bus_region region;
	struct irq wire;
	struct virtio_regs r;
	uint32_t interrupt_status;
	struct bus_doorbell bell[VIRTIO_MAX_QUEUES];
};

static struct virtio_mmio *of_dev(struct dev *dev)
{
	return container_of(dev, struct virtio_mmio, dev);
}

/* ---- interrupts and doorbells ---- */

static void interrupt_set(struct virtio_mmio *t, uint32_t status)
{
	t->interrupt_status = status;
	irq_set(&t->wire, status != 0);
}

static void queue_irq(void *opaque, unsigned q)
{
	struct virtio_mmio *t = opaque;

	interrupt_set(t, t->interrupt_status | INT_QUEUE);
}

static void config_irq(void *opaque)
{
	struct virtio_mmio *t = opaque;

	interrupt_set(t, t->interrupt_status | INT_CONFIG);
}

static void doorbells(void *opaque, bool on)
{
	struct virtio_mmio *t = opaque;

	for (unsigned q = 0; q < t->d->n_queues; q++) {
		struct bus_doorbell *b = &t->bell[q];

		bool want = on && t->d->vq[q].ready;

		if (b->bus && !want) {
			bus_doorbell_del(b);
			b->bus = NULL;
		}
		if (!want || b->bus)
			continue;
		*b = (struct bus_doorbell){ .addr = t->region.base + R_QUEUE_NOTIFY, .len = 4, .match = true,
					    .value = q, .fd = t->d->kick_fd[q].fd };
		if (bus_doorbell_add(t->dev.m->mmio, b))
			b->bus = NULL;
	}
}

static const struct virtio_transport_ops transport_ops = {
	.queue_irq = queue_irq,
	.config_irq = config_irq,
	.doorbells = doorbells,
};

/* ---- registers ---- */

static void transport_reset(struct virtio_mmio *t)
{
	virtio_regs_reset(&t->r);
	interrupt_set(t, 0);
}

static uint32_t queue_read(struct virtio_mmio *t, uint64_t off)
{
	const struct vq *vq = virtio_regs_queue(&t->r);

	if (!vq)
		return 0;
	switch (off) {
	case R_QUEUE_NUM_MAX: return vq->max_size;
	case R_QUEUE_READY: return vq->ready;
	default: return 0;		/* the addresses, QueueNum and QueueReset (done at once) */
	}
}

static uint32_t reg_read(struct virtio_mmio *t, uint64_t off)
{
	const struct virtio_dev *d = t->d;

	switch (off) {
	case R_MAGIC: return MAGIC;
	case R_VERSION: return 2;
	case R_DEVICE_ID: return d->ops->device_id;
	case R_VENDOR_ID: return VENDOR;
	case R_DEVICE_FEATURES: return virtio_regs_device_feature(&t->r);
	case R_INTERRUPT_STATUS: return t->interrupt_status;
	case R_STATUS: return d->status;
	/* 4.2.2: a region that does not exist has length and base -1. */
	case R_SHM_LEN: case R_SHM_LEN + 4: case R_SHM_BASE: case R_SHM_BASE + 4:
		return UINT32_MAX;
	case R_CONFIG_GENERATION: return d->config_generation;
	default: return queue_read(t, off);
	}
}

static void queue_write(struct virtio_mmio *t, uint64_t off, uint32_t v)
{
	struct vq *vq = virtio_regs_queue(&t->r);

	if (!vq)
		return;
	if (off == R_QUEUE_READY) {
		virtio_dev_queue_enable(t->d, vq->index, v & 1);
		return;
	}
	if (off == R_QUEUE_RESET) {
		virtio_regs_queue_reset(&t->r, v);
		return;
	}
	if (vq->ready)
		return;		/* frozen */
	switch (off) {
	/* A size no queue can have must not turn into one that can. */
	case R_QUEUE_NUM: vq->size = v > UINT16_MAX ? 0 : v; break;
	case R_QUEUE_DESC: case R_QUEUE_DESC + 4: virtio_regs_write_address(vq, VQ_DESC, off, 4, v); break;
	case R_QUEUE_DRIVER: case R_QUEUE_DRIVER + 4: virtio_regs_write_address(vq, VQ_DRIVER, off, 4, v); break;
	case R_QUEUE_DEVICE: case R_QUEUE_DEVICE + 4: virtio_regs_write_address(vq, VQ_DEVICE, off, 4, v); break;
	default: break;
	}
}

static void reg_write(struct virtio_mmio *t, uint64_t off, uint32_t v)
{
	switch (off) {
	case R_DEVICE_FEATURES_SEL: t->r.device_feature_select = v; break;
	case R_DRIVER_FEATURES_SEL: t->r.driver_feature_select = v; break;
	case R_DRIVER_FEATURES: virtio_regs_write_feature(&t->r, v); break;
	case R_QUEUE_SEL: t->r.queue_select = v; break;
	/* Not ready queues have no doorbell: the write ends here, for nothing. */
	case R_QUEUE_NOTIFY: virtio_dev_ring(t->d, v); break;
	case R_INTERRUPT_ACK: interrupt_set(t, t->interrupt_status & ~v); break;
	case R_STATUS:
		if (virtio_regs_write_status(&t->r, v))
			transport_reset(t);
		break;
	default: queue_write(t, off, v);
	}
}

/* 4.2.2.2: registers are accessed as aligned dwords only; other sizes are for
 * the device's configuration space. */
static uint64_t mmio_read(void *opaque, uint64_t off, unsigned len)
{
	struct virtio_mmio *t = opaque;
	uint64_t v = 0;

	if (off >= R_CONFIG) {
		virtio_dev_config_access(t->d, off - R_CONFIG, &v, len, false);
		return v;
	}
	return len == 4 ? reg_read(t, off) : 0;
}

static void mmio_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct virtio_mmio *t = opaque;

	if (off >= R_CONFIG)
		virtio_dev_config_access(t->d, off - R_CONFIG, &v, len, true);
	else if (len == 4)
		reg_write(t, off, v);
}

static const struct bus_ops mmio_ops = {
	.read = mmio_read,
	.write = mmio_write,
	.min_len = 1,
	.max_len = 4,
};

/* ---- life cycle ---- */

static void dev_reset(struct dev *dev)
{
	struct virtio_mmio *t = of_dev(dev);

	virtio_dev_reset(t->d);
	transport_reset(t);
}

static void dev_pause(struct dev *dev)
{
	virtio_dev_pause(of_dev(dev)->d);
}

static void dev_resume(struct dev *dev)
{
	virtio_dev_resume(of_dev(dev)->d);
}

static const struct snap_field fields[] = {
	VIRTIO_REGS_SNAP(struct virtio_mmio, r),
	SNAP_FIELD(struct virtio_mmio, interrupt_status),
	SNAP_END,
};
static const struct snap_table table = { "virtio-mmio", 1, fields };

static int dev_save(struct dev *dev, struct snap_out *o)
{
	struct virtio_mmio *t = of_dev(dev);
	int ret = snap_put(o, dev->id, &table, t);

	return ret ? ret : virtio_dev_save(t->d, o);
}

static int dev_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct virtio_mmio *t = of_dev(dev);
	int ret = snap_get(in, dev->id, &table, t, e);

	if (!ret)
		ret = virtio_dev_load(t->d, in, e);
	interrupt_set(t, t->interrupt_status & (INT_QUEUE | INT_CONFIG));
	return ret;
}

static void dev_free(struct dev *dev)
{
	struct virtio_mmio *t = of_dev(dev);

	doorbells(t, false);
	bus_del(&t->region);
	interrupt_set(t, 0);
	t->d->transport = NULL;
	t->d->ops->free(t->d);
	dev_del(dev);
	free(t);
}

static const struct dev_ops dev_ops = {
	.name = "virtio-mmio",
	.reset = dev_reset,
	.pause = dev_pause,
	.resume = dev_resume,
	.save = dev_save,
	.load = dev_load,
	.free = dev_free,
};

int virtio_mmio_new(struct machine *m, uint64_t base, const struct irq *wire, struct virtio_dev *d, struct err *e)
{
	struct virtio_mmio *t = calloc(1, sizeof(*t));
	char id[32];
	int ret;

	if (!t)
		return err_set(e, -ENOMEM, "out of memory");
	t->d = t->r.d = d;
	t->wire = *wire;
	t->region = (struct bus_region){ .name = d->ops->name, .ops = &mmio_ops, .opaque = t, .base = base,
					 .size = VIRTIO_MMIO_SIZE, .priority = 1 };
	ret = bus_add(m->mmio, &t->region);
	if (ret) {
		free(t);
		return err_set(e, ret, "address 0x%llx of %s is taken", (unsigned long long)base, d->id);
	}
	snprintf(id, sizeof(id), "mmio.%llx", (unsigned long long)base);
	dev_add(m, &t->dev, &dev_ops, id);
	d->transport = &transport_ops;
	d->transport_opaque = t;
	return 0;
}
