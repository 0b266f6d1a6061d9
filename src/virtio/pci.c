/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio over PCI (virtio 1.2, 4.1), the modern interface only.
 *
 * One 64-bit memory BAR of 4 KiB areas: common configuration, ISR status,
 * device configuration, notification, MSI-X table and PBA.  Each queue has its
 * own doorbell address in the notification area.  With MSI-X disabled the INTx
 * pin and the ISR register are used (4.1.5.1).
 *
 * The same registers can be reached through configuration space by the
 * VIRTIO_PCI_CAP_PCI_CFG window (4.1.4.9).
 *
 * A card may have a part beside virtio, a VGA: then the part's registers are the
 * first area of the BAR, and virtio's areas follow.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "pci/part.h"
#include "pci/pci.h"
#include "virtio/regs.h"

#define AREA 0x1000
#define COMMON_OFF 0x0000
#define ISR_OFF 0x1000
#define DEVICE_OFF 0x2000
#define NOTIFY_OFF 0x3000
#define MSIX_OFF 0x4000
#define PBA_OFF 0x4800
#define BAR_SIZE 0x8000			/* with a part's area in front, too */
#define NOTIFY_STRIDE 4			/* notify_off_multiplier */

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040
#define NO_VECTOR 0xffff

enum { CFG_COMMON = 1, CFG_NOTIFY = 2, CFG_ISR = 3, CFG_DEVICE = 4, CFG_PCI = 5 };

#define ISR_QUEUE 1
#define ISR_CONFIG 2

/* virtio_pci_common_cfg, 4.1.4.3 */
enum {
	C_DEVICE_FEATURE_SELECT = 0x00,
	C_DEVICE_FEATURE = 0x04,
	C_DRIVER_FEATURE_SELECT = 0x08,
	C_DRIVER_FEATURE = 0x0c,
	C_CONFIG_MSIX_VECTOR = 0x10,
	C_NUM_QUEUES = 0x12,
	C_DEVICE_STATUS = 0x14,
	C_CONFIG_GENERATION = 0x15,
	C_QUEUE_SELECT = 0x16,
	C_QUEUE_SIZE = 0x18,
	C_QUEUE_MSIX_VECTOR = 0x1a,
	C_QUEUE_ENABLE = 0x1c,
	C_QUEUE_NOTIFY_OFF = 0x1e,
	C_QUEUE_DESC = 0x20,
	C_QUEUE_DRIVER = 0x28,
	C_QUEUE_DEVICE = 0x30,
	C_QUEUE_NOTIFY_DATA = 0x38,
	C_QUEUE_RESET = 0x3a,
	C_SIZE = 0x40,
};

struct virtio_pci {
	struct pci_dev pci;		/* first */
	struct virtio_dev *d;
	struct pci_part part;		/* ops NULL: none */
	uint8_t bar;			/* the one with the registers */
	uint32_t base;			/* of the areas in it */
	struct virtio_regs r;
	uint16_t config_vector;
	uint16_t queue_vector[VIRTIO_MAX_QUEUES];
	uint8_t isr;
	unsigned vectors;
	uint16_t cfg_cap;		/* the VIRTIO_PCI_CAP_PCI_CFG capability */
	struct bus_doorbell bell[VIRTIO_MAX_QUEUES];
};

static struct virtio_pci *of_pci(struct pci_dev *p)
{
	return container_of(p, struct virtio_pci, pci);
}

static struct virtio_pci *of_dev(struct dev *dev)
{
	return container_of(dev, struct virtio_pci, pci.dev);
}

/* ---- interrupts ---- */

static void raise(struct virtio_pci *t, uint16_t vector, uint8_t isr)
{
	if (pci_msix_enabled(&t->pci)) {
		if (vector != NO_VECTOR)
			pci_msix_fire(&t->pci, vector);
		return;
	}
	t->isr |= isr;
	pci_intx_set(&t->pci, true);
}

static void queue_irq(void *opaque, unsigned q)
{
	struct virtio_pci *t = opaque;

	raise(t, t->queue_vector[q], ISR_QUEUE);
}

static void config_irq(void *opaque)
{
	struct virtio_pci *t = opaque;

	raise(t, t->config_vector, ISR_CONFIG);
}

/* ---- doorbells ---- */

/* Brings the doorbells in line with the ready queues and the BAR's place. */
static void doorbells(void *opaque, bool on)
{
	struct virtio_pci *t = opaque;
	uint64_t bar = pci_bar_addr(&t->pci, t->bar);

	for (unsigned q = 0; q < t->d->n_queues; q++) {
		struct bus_doorbell *b = &t->bell[q];
		uint64_t addr = bar + t->base + NOTIFY_OFF + q * NOTIFY_STRIDE;
		bool want = on && bar != UINT64_MAX && t->d->vq[q].ready;

		if (b->bus && (!want || b->addr != addr)) {
			bus_doorbell_del(b);
			b->bus = NULL;
		}
		if (!want || b->bus)
			continue;
		*b = (struct bus_doorbell){ .addr = addr, .fd = t->d->kick_fd[q].fd };
		/* Without it the write reaches bar_write: slower, not wrong. */
		if (bus_doorbell_add(t->d->m->mmio, b))
			b->bus = NULL;
	}
}

static const struct virtio_transport_ops transport_ops = {
	.queue_irq = queue_irq,
	.config_irq = config_irq,
	.doorbells = doorbells,
};

/* ---- common configuration ---- */

static void transport_reset(struct virtio_pci *t)
{
	virtio_regs_reset(&t->r);
	t->config_vector = NO_VECTOR;
	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
		t->queue_vector[q] = NO_VECTOR;
	t->isr = 0;
	pci_intx_set(&t->pci, false);
}

/* All registers as the guest reads them; cheap enough to build whole. */
static void common_image(struct virtio_pci *t, uint8_t *r)
{
	const struct virtio_dev *d = t->d;
	const struct vq *vq = virtio_regs_queue(&t->r);

	memset(r, 0, C_SIZE);
	st_le32(r + C_DEVICE_FEATURE_SELECT, t->r.device_feature_select);
	st_le32(r + C_DEVICE_FEATURE, virtio_regs_device_feature(&t->r));
	st_le32(r + C_DRIVER_FEATURE_SELECT, t->r.driver_feature_select);
	st_le32(r + C_DRIVER_FEATURE, virtio_regs_driver_feature(&t->r));
	st_le16(r + C_CONFIG_MSIX_VECTOR, t->config_vector);
	st_le16(r + C_NUM_QUEUES, d->n_queues);
	r[C_DEVICE_STATUS] = d->status;
	r[C_CONFIG_GENERATION] = d->config_generation;
	st_le16(r + C_QUEUE_SELECT, (uint16_t)t->r.queue_select);
	if (!vq)
		return;
	st_le16(r + C_QUEUE_SIZE, vq->size);
	st_le16(r + C_QUEUE_MSIX_VECTOR, t->queue_vector[vq->index]);
	st_le16(r + C_QUEUE_ENABLE, vq->ready);
	st_le16(r + C_QUEUE_NOTIFY_OFF, vq->index);
	st_le64(r + C_QUEUE_DESC, vq->desc);
	st_le64(r + C_QUEUE_DRIVER, vq->avail);
	st_le64(r + C_QUEUE_DEVICE, vq->used);
	st_le16(r + C_QUEUE_NOTIFY_DATA, vq->index);
}

/* 4.1.5.1.2: a vector that cannot be had reads back as NO_VECTOR. */
static uint16_t vector_value(const struct virtio_pci *t, uint64_t v)
{
	return v < t->vectors ? v : NO_VECTOR;
}

/* Registers of the selected queue; frozen while it is enabled. */
static void queue_write(struct virtio_pci *t, unsigned off, unsigned len, uint64_t v)
{
	struct vq *vq = virtio_regs_queue(&t->r);

	if (!vq)
		return;
	if (off == C_QUEUE_RESET && len == 2) {
		if (virtio_regs_queue_reset(&t->r, v))
			t->queue_vector[vq->index] = NO_VECTOR;
	} else if (off == C_QUEUE_MSIX_VECTOR && len == 2) {
		t->queue_vector[vq->index] = vector_value(t, v);
	} else if (vq->ready) {
		return;
	} else if (off == C_QUEUE_SIZE && len == 2) {
		vq->size = v;
	} else if (off == C_QUEUE_ENABLE && len == 2) {
		if (v == 1)
			virtio_dev_queue_enable(t->d, vq->index, true);
	} else if (off >= C_QUEUE_DESC && off < C_QUEUE_NOTIFY_DATA) {
		virtio_regs_write_address(vq, (off - C_QUEUE_DESC) / 8, off, len, v);
	}
}

static void common_write(struct virtio_pci *t, unsigned off, unsigned len, uint64_t v)
{
	switch (off) {
	case C_DEVICE_FEATURE_SELECT:
		if (len == 4)
			t->r.device_feature_select = v;
		break;
	case C_DRIVER_FEATURE_SELECT:
		if (len == 4)
			t->r.driver_feature_select = v;
		break;
	case C_DRIVER_FEATURE:
		if (len == 4)
			virtio_regs_write_feature(&t->r, v);
		break;
	case C_CONFIG_MSIX_VECTOR:
		if (len == 2)
			t->config_vector = vector_value(t, v);
		break;
	case C_DEVICE_STATUS:
		if (len == 1 && virtio_regs_write_status(&t->r, v))
			transport_reset(t);
		break;
	case C_QUEUE_SELECT:
		if (len == 2)
			t->r.queue_select = v;
		break;
	default:
		queue_write(t, off, len, v);
	}
}

/* ---- the BAR ---- */

static uint64_t isr_read(struct virtio_pci *t)
{
	uint8_t isr = t->isr;

	t->isr = 0;
	pci_intx_set(&t->pci, false);
	return isr;
}

/* The part's registers take what its ops say; more comes as several accesses, as from a bus. */
static uint64_t part_read(struct virtio_pci *t, uint64_t off, unsigned len)
{
	const struct bus_ops *o = t->part.ops->mmio;
	unsigned step = MIN(len, o->max_len);
	uint64_t v = 0;

	for (unsigned i = 0; i < len; i += step)
		v |= (o->read(t->part.opaque, off + i, step) & (BIT64(8 * step) - 1)) << 8 * i;
	return v;
}

static void part_write(struct virtio_pci *t, uint64_t off, unsigned len, uint64_t v)
{
	const struct bus_ops *o = t->part.ops->mmio;
	unsigned step = MIN(len, o->max_len);

	for (unsigned i = 0; i < len; i += step)
		o->write(t->part.opaque, off + i, step, v >> 8 * i & (BIT64(8 * step) - 1));
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned len)
{
	struct virtio_pci *t = opaque;
	uint8_t image[C_SIZE];
	uint64_t v = 0;

	if (off < t->base)
		return part_read(t, off, len);
	off -= t->base;
	switch (off & ~(uint64_t)(AREA - 1)) {
	case COMMON_OFF:
		if (!range_inside(off, len, C_SIZE))
			return 0;
		common_image(t, image);
		return ld_le(image + off, len);
	case ISR_OFF:
		return off == ISR_OFF ? isr_read(t) : 0;
	case DEVICE_OFF:
		virtio_dev_config_access(t->d, off - DEVICE_OFF, &v, len, false);
		return v;
	case MSIX_OFF:
		return pci_msix_read(&t->pci, off + t->base, len);
	default:
		return 0;
	}
}

static void bar_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct virtio_pci *t = opaque;

	if (off < t->base) {
		part_write(t, off, len, v);
		return;
	}
	off -= t->base;
	switch (off & ~(uint64_t)(AREA - 1)) {
	case COMMON_OFF:
		if (range_inside(off, len, C_SIZE))
			common_write(t, off, len, v);
		break;
	case DEVICE_OFF:
		virtio_dev_config_access(t->d, off - DEVICE_OFF, &v, len, true);
		break;
	case NOTIFY_OFF:
		virtio_dev_ring(t->d, (off - NOTIFY_OFF) / NOTIFY_STRIDE);
		break;
	case MSIX_OFF:
		pci_msix_write(&t->pci, off + t->base, len, v);
		break;
	default:
		break;
	}
}

static const struct bus_ops bar_ops = {
	.read = bar_read,
	.write = bar_write,
	.min_len = 1,
	.max_len = 4,
};

/* ---- the window in configuration space, 4.1.4.9 ---- */

/* What the guest set up: offset and length inside our BAR, or false. */
static bool cfg_window(const struct virtio_pci *t, uint32_t *off, uint32_t *len)
{
	const uint8_t *cap = t->pci.config + t->cfg_cap;

	*off = ld_le32(cap + 8);
	*len = ld_le32(cap + 12);
	return cap[4] == t->bar && (*len == 1 || *len == 2 || *len == 4) && !(*off & (*len - 1)) &&
	       range_inside(*off, *len, BAR_SIZE);
}

static bool config_read(struct pci_dev *p, unsigned off, unsigned len, uint32_t *val)
{
	struct virtio_pci *t = of_pci(p);
	unsigned data = t->cfg_cap + 16;
	uint32_t at, n;

	if (off < data || off + len > data + 4 || !cfg_window(t, &at, &n))
		return false;
	st_le32(p->config + data, bar_read(t, at, n));
	*val = ld_le(p->config + off, len);
	return true;
}

static void config_written(struct pci_dev *p, unsigned off, unsigned len)
{
	struct virtio_pci *t = of_pci(p);
	unsigned data = t->cfg_cap + 16;
	uint32_t at, n;

	if (off == data && cfg_window(t, &at, &n) && len >= n)
		bar_write(t, at, n, ld_le(p->config + data, n));
}

/* Still comes while the function is taken down. */
static void bars_changed(struct pci_dev *p)
{
	struct virtio_pci *t = of_pci(p);

	if (t->d)
		doorbells(t, true);
	if (t->part.ops)
		t->part.ops->bars_changed(t->part.opaque);
}

/* ---- life cycle ---- */

static void dev_reset(struct dev *dev)
{
	struct virtio_pci *t = of_dev(dev);

	virtio_dev_reset(t->d);
	transport_reset(t);
	pci_dev_reset(&t->pci);
	if (t->part.ops)
		t->part.ops->reset(t->part.opaque);
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
	VIRTIO_REGS_SNAP(struct virtio_pci, r),
	SNAP_FIELD(struct virtio_pci, config_vector),
	SNAP_ARRAY(struct virtio_pci, queue_vector),
	SNAP_FIELD(struct virtio_pci, isr),
	SNAP_END,
};
static const struct snap_table table = { "virtio-pci", 1, fields };

static int dev_save(struct dev *dev, struct snap_out *o)
{
	struct virtio_pci *t = of_dev(dev);
	int ret = pci_dev_save(&t->pci, o);

	if (!ret)
		ret = snap_put(o, dev->id, &table, t);
	if (!ret && t->part.ops)
		ret = t->part.ops->save(t->part.opaque, o);
	return ret ? ret : virtio_dev_save(t->d, o);
}

static int dev_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct virtio_pci *t = of_dev(dev);
	int ret = pci_dev_load(&t->pci, in, e);

	if (!ret)
		ret = snap_get(in, dev->id, &table, t, e);
	if (!ret && t->part.ops)
		ret = t->part.ops->load(t->part.opaque, in, e);
	if (ret)
		return ret;
	t->config_vector = vector_value(t, t->config_vector);
	for (unsigned q = 0; q < VIRTIO_MAX_QUEUES; q++)
		t->queue_vector[q] = vector_value(t, t->queue_vector[q]);
	return virtio_dev_load(t->d, in, e);
}

static void take_down(struct virtio_pci *t)
{
	pci_dev_fini(&t->pci);
	if (t->part.ops)
		t->part.ops->free(t->part.opaque);
	free(t);
}

static void dev_free(struct dev *dev)
{
	struct virtio_pci *t = of_dev(dev);

	doorbells(t, false);
	t->d->transport = NULL;
	t->d->ops->free(t->d);
	t->d = NULL;
	take_down(t);
}

static const struct pci_dev_ops pci_ops = {
	.dev = {
		.name = "virtio-pci",
		.reset = dev_reset,
		.pause = dev_pause,
		.resume = dev_resume,
		.save = dev_save,
		.load = dev_load,
		.free = dev_free,
	},
	.config_read = config_read,
	.config_written = config_written,
	.bars_changed = bars_changed,
};

/* struct virtio_pci_cap, 4.1.4, without its two common bytes. */
static int add_cap(struct virtio_pci *t, uint8_t type, uint32_t off, uint32_t len, bool extra, uint32_t word)
{
	uint8_t body[18] = { 0 };
	unsigned size = extra ? 18 : 14;

	body[0] = size + 2;
	body[1] = type;
	body[2] = t->bar;
	st_le32(body + 6, type == CFG_PCI ? off : t->base + off);
	st_le32(body + 10, len);
	st_le32(body + 14, word);
	return pci_dev_add_cap(&t->pci, PCI_CAP_ID_VENDOR, body, size);
}

static int add_caps(struct virtio_pci *t)
{
	struct pci_dev *p = &t->pci;
	int off, ret;

	ret = pci_dev_add_msix(p, t->vectors, t->bar, t->base + MSIX_OFF, t->base + PBA_OFF);
	if (ret)
		return ret;
	pci_dev_add_pcie(p, 9);
	if (add_cap(t, CFG_COMMON, COMMON_OFF, C_SIZE, false, 0) < 0 ||
	    add_cap(t, CFG_ISR, ISR_OFF, 1, false, 0) < 0 ||
	    (t->d->config_len && add_cap(t, CFG_DEVICE, DEVICE_OFF, t->d->config_len, false, 0) < 0) ||
	    add_cap(t, CFG_NOTIFY, NOTIFY_OFF, MAX(t->d->n_queues, 1u) * NOTIFY_STRIDE, true, NOTIFY_STRIDE) < 0)
		return -ENOSPC;
	off = add_cap(t, CFG_PCI, 0, 0, true, 0);
	if (off < 0)
		return off;
	t->cfg_cap = off;
	p->wmask[off + 4] = 0xff;
	memset(p->wmask + off + 8, 0xff, 12);
	return 0;
}

static int add_parts(struct virtio_pci *t, struct err *e)
{
	int ret = t->part.ops ? t->part.ops->attach(t->part.opaque, &t->pci, e) : 0;

	if (ret)
		return ret;
	pci_dev_use_intx(&t->pci, 1);
	ret = pci_dev_add_bar(&t->pci, t->bar, PCI_BAR_MEM64, true, BAR_SIZE, &bar_ops, t);
	if (!ret)
		ret = add_caps(t);
	return ret ? err_set(e, ret, "cannot build the PCI function of %s", t->d->id) : 0;
}

static int make(struct virtio_pci *t, struct machine *m, struct pci_bus *bus, int devfn, struct virtio_dev *d, uint32_t class24,
		struct err *e)
{
	struct pci_ids ids = {
		.vendor = VENDOR, .device = DEVICE_BASE + d->ops->device_id,
		.sub_vendor = VENDOR, .sub_device = DEVICE_BASE + d->ops->device_id,
		.class24 = class24, .revision = 1,
	};
	int ret = pci_dev_init(&t->pci, m, bus, devfn, &pci_ops, &ids, e);

	if (ret) {
		if (t->part.ops)
			t->part.ops->free(t->part.opaque);
		free(t);
		return ret;
	}
	t->d = t->r.d = d;
	t->vectors = d->n_queues + 1;
	ret = add_parts(t, e);
	if (ret) {
		t->d = NULL;
		take_down(t);
		return ret;
	}
	t->pci.bar[t->bar].region.name = d->ops->name;
	pci_dev_ready(&t->pci);
	d->transport = &transport_ops;
	d->transport_opaque = t;
	transport_reset(t);
	return 0;
}

int virtio_pci_new(struct machine *m, struct pci_bus *bus, int devfn, struct virtio_dev *d, struct err *e)
{
	struct virtio_pci *t = calloc(1, sizeof(*t));

	return t ? make(t, m, bus, devfn, d, d->ops->pci_class, e) : err_set(e, -ENOMEM, "out of memory");
}

int virtio_pci_new_vga(struct machine *m, struct pci_bus *bus, int devfn, struct virtio_dev *d, const struct pci_part *part,
		       struct err *e)
{
	struct virtio_pci *t = calloc(1, sizeof(*t));

	if (!t) {
		part->ops->free(part->opaque);
		return err_set(e, -ENOMEM, "out of memory");
	}
	t->part = *part;
	t->bar = 2;
	t->base = PCI_PART_MMIO_SIZE;
	return make(t, m, bus, devfn, d, 0x030000, e);
}
