/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NVMe: the PCI function, the controller's registers, enabling, reset and
 * shutdown (NVM Express Base 1.4, 3.1, 7.3, 7.6), and the life of the device.
 *
 * One 64-bit BAR: registers, doorbells, MSI-X table, PBA.  The doorbells' page
 * is a bus region of its own over the BAR's, without the machine lock.
 */
#include "device/nvme_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/log.h"

#define BAR 0
#define BAR_SIZE 0x4000
#define BELLS_SIZE 0x1000
#define MSIX_OFF 0x2000
#define PBA_OFF 0x3000

#define VS_1_4 0x00010400u

/* 3.1.1: timeout 15 s, contiguous queues, NVM command set, pages of 4 to 64 KiB */
#define CAP_VALUE ((uint64_t)(NVME_MAX_ENTRIES - 1) | BIT64(16) | 30ull << 24 | BIT64(37) | (uint64_t)NVME_MPS_MAX << 52)

static struct nvme *of_pci(struct pci_dev *p) { return container_of(p, struct nvme, pci); }
static struct nvme *of_dev(struct dev *d) { return container_of(d, struct nvme, pci.dev); }

/* ---- enabling, reset ---- */

/* CSTS.CFS, until the driver resets. */
static void fatal(struct nvme *n, const char *why)
{
	log_guest("%s: the driver broke the protocol (%s); waiting for its reset", n->id, why);
	n->csts |= CSTS_CFS;
}

void nvme_drain(struct nvme *n)
{
	for (unsigned i = 0; i < n->n_ns; i++)
		blk_drain(n->ns[i]->disk.node);
}

static void forget(struct nvme *n)
{
	for (unsigned i = 0; i < n->n_ns; i++)
		disk_forget(&n->ns[i]->disk, NULL, NULL, nvme_drop);
	free(n->again);
	n->again = NULL;
	n->n_again = 0;
}

/* 7.3.2, the part that all resets share: queues go, ASQ, ACQ and AQA stay.  Both locks held. */
static void controller_reset(struct nvme *n)
{
	for (unsigned i = 0; i < NVME_QUEUES; i++)
		n->sq[i].live = n->cq[i].live = false;	/* nothing is posted any more */
	nvme_drain(n);
	forget(n);
	for (unsigned i = 0; i < NVME_QUEUES; i++) {
		nvme_sq_close(n, i);
		nvme_cq_close(n, i);
	}
	iothread_cancel(n->o.io, &n->irq_work);
	n->irq_any = false;
	nvme_shadow_set(n, 0, 0);
	nvme_feat_reset(n);
	n->n_aers = n->n_events = 0;
	n->ev_masked = 0;
	n->intms = 0;
	n->csts = 0;
	n->want_cq = n->intx_mode = false;
	n->bad_rung = false;
	nvme_intx_update(n);
}

/* 7.6.1 */
static void enable(struct nvme *n)
{
	unsigned mps = n->cc >> 7 & 15;
	uint32_t sqs = (n->aqa & 0xfff) + 1, cqs = (n->aqa >> 16 & 0xfff) + 1;

	if (mps > NVME_MPS_MAX || n->cc >> 4 & 7 || n->cc >> 11 & 7) {
		fatal(n, "CC asks for what CAP does not offer");
		return;
	}
	n->page = 4096u << mps;
	if (sqs < 2 || cqs < 2 || nvme_cq_open(n, 0, n->acq, cqs, true, 0) || nvme_sq_open(n, 0, n->asq, sqs, 0)) {
		fatal(n, "bad admin queues");
		return;
	}
	n->csts |= CSTS_RDY;
	nvme_check_temperature(n);
}

static void write_cc(struct nvme *n, uint32_t v)
{
	uint32_t old = n->cc;

	n->cc = v & 0x00fffff1u;
	if (old & CC_EN && !(v & CC_EN)) {
		controller_reset(n);
	} else if (!(old & CC_EN) && v & CC_EN) {
		enable(n);
	} else if (old & CC_EN) {
		/* What cannot change while enabled does not, but for the sizes of entries (3.1.5). */
		n->cc = (v & (CC_EN | CC_SHN | 0xff0000u)) | (old & 0x3ff0u);
	}
	if (v & CC_SHN && !(old & CC_SHN) && !(n->csts & CSTS_SHST))
		nvme_shutdown(n);
}

/* ---- registers ---- */

static void image(struct nvme *n, uint8_t *r)
{
	memset(r, 0, NVME_REGS_END);
	st_le64(r + NVME_CAP, CAP_VALUE);
	st_le32(r + NVME_VS, VS_1_4);
	st_le32(r + NVME_INTMS, n->intms);
	st_le32(r + NVME_INTMC, n->intms);
	st_le32(r + NVME_CC, n->cc);
	st_le32(r + NVME_CSTS, n->csts);
	st_le32(r + NVME_AQA, n->aqa);
	st_le64(r + NVME_ASQ, n->asq);
	st_le64(r + NVME_ACQ, n->acq);
}

static uint64_t bar_read(void *opaque, uint64_t off, unsigned len)
{
	struct nvme *n = opaque;
	uint8_t r[NVME_REGS_END];

	if (pci_msix_covers(&n->pci, off))
		return pci_msix_read(&n->pci, off, len);
	if (!range_inside(off, len, NVME_REGS_END))
		return 0;
	nvme_lock(n);
	image(n, r);
	nvme_unlock(n);
	return ld_le(r + off, len);
}

static void write_half(uint64_t *reg, bool high, uint32_t v)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)v << 32 : (*reg & ~(uint64_t)UINT32_MAX) | v;
	*reg &= ~0xfffull;
}

static void write_reg(struct nvme *n, uint64_t off, uint32_t v)
{
	bool enabled = n->cc & CC_EN;

	switch (off) {
	case NVME_INTMS: n->intms |= v; break;
	case NVME_INTMC: n->intms &= ~v; break;
	case NVME_CC: write_cc(n, v); break;
	case NVME_AQA: n->aqa = enabled ? n->aqa : v & 0x0fff0fff; break;
	case NVME_ASQ:
	case NVME_ASQ + 4:
		if (!enabled)
			write_half(&n->asq, off & 4, v);
		break;
	case NVME_ACQ:
	case NVME_ACQ + 4:
		if (!enabled)
			write_half(&n->acq, off & 4, v);
		break;
	default: break;			/* read-only or reserved */
	}
}

static void bar_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	struct nvme *n = opaque;

	if (pci_msix_covers(&n->pci, off)) {
		pci_msix_write(&n->pci, off, len, v);
		return;
	}
	if (off >= NVME_DOORBELLS) {
		nvme_ring(n, off, (uint32_t)v);
		return;
	}
	nvme_lock(n);
	write_reg(n, off, (uint32_t)v);
	if (len == 8)
		write_reg(n, off + 4, (uint32_t)(v >> 32));
	nvme_intx_update(n);
	nvme_tell(n);
	nvme_unlock(n);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write, .min_len = 4, .max_len = 8 };

/* 3.1.25: doorbells read as anything; zero here. */
static uint64_t bells_read(void *opaque, uint64_t off, unsigned len)
{
	return 0;
}

static void bells_write(void *opaque, uint64_t off, unsigned len, uint64_t v)
{
	nvme_ring(opaque, NVME_DOORBELLS + off, (uint32_t)v);
}

static const struct bus_ops bells_ops = {
	.read = bells_read, .write = bells_write, .min_len = 4, .max_len = 4, .unlocked = true,
};

static void bars_changed(struct pci_dev *p)
{
	struct nvme *n = of_pci(p);
	uint64_t bar = pci_bar_addr(p, BAR);

	bus_del(&n->bells);
	if (bar == UINT64_MAX || n->kick_fd.fd < 0)
		return;
	n->bells.base = bar + NVME_DOORBELLS;
	/* Without it the write reaches bar_write: slower, not wrong. */
	if (bus_add(n->m->mmio, &n->bells))
		n->bells.bus = NULL;
}

/* ---- life cycle ---- */

static void dev_reset(struct dev *d)
{
	struct nvme *n = of_dev(d);

	nvme_lock(n);
	controller_reset(n);
	n->cc = n->aqa = 0;
	n->asq = n->acq = 0;
	n->n_errors = n->media_errors = 0;
	memset(n->error, 0, sizeof(n->error));
	for (unsigned i = 0; i < n->n_ns; i++)
		n->ns[i]->changed = false;
	nvme_unlock(n);
	pci_dev_reset(&n->pci);
}

static void dev_pause(struct dev *d)
{
	struct nvme *n = of_dev(d);

	if (n->paused)
		return;
	nvme_lock(n);
	nvme_drain(n);
	n->paused = true;
	nvme_take_bells(n);
	/* What ended just now must be in the saved state of the interrupt chips. */
	iothread_cancel(n->o.io, &n->irq_work);
	nvme_irq_work(n);
	nvme_unlock(n);
}

static void dev_resume(struct dev *d)
{
	struct nvme *n = of_dev(d);

	if (!n->paused)
		return;
	nvme_lock(n);
	n->paused = false;
	nvme_retry(n);
	nvme_run(n);
	nvme_unlock(n);
}

static int dev_save(struct dev *d, struct snap_out *o)
{
	struct nvme *n = of_dev(d);
	int ret = pci_dev_save(&n->pci, o);

	if (ret)
		return ret;
	nvme_lock(n);
	ret = nvme_save(n, o);
	nvme_unlock(n);
	return ret;
}

static int dev_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct nvme *n = of_dev(d);
	int ret = pci_dev_load(&n->pci, in, e);

	if (ret)
		return ret;
	nvme_lock(n);
	controller_reset(n);
	ret = nvme_load(n, in, e);
	if (ret) {
		controller_reset(n);
		n->cc = 0;
	}
	nvme_unlock(n);
	return ret;
}

static void dev_free(struct dev *d)
{
	struct nvme *n = of_dev(d);

	nvme_lock(n);
	for (unsigned i = 0; i < NVME_QUEUES; i++)
		n->sq[i].live = n->cq[i].live = false;
	for (unsigned i = 0; i < n->n_ns; i++) {
		disk_fini(&n->ns[i]->disk, i ? 0 : n->n_again, nvme_drop);
		free(n->ns[i]);
	}
	iothread_cancel(n->o.io, &n->irq_work);
	loop_fd_del(&n->kick_fd);
	close(n->kick_fd.fd);
	n->kick_fd.fd = -1;
	nvme_unlock(n);
	pci_dev_fini(&n->pci);
	free(n->again);
	free(n);
}

static const struct pci_dev_ops pci_ops = {
	.dev = {
		.name = "nvme",
		.reset = dev_reset,
		.pause = dev_pause,
		.resume = dev_resume,
		.save = dev_save,
		.load = dev_load,
		.free = dev_free,
	},
	.bars_changed = bars_changed,
};

static int build_function(struct nvme *n)
{
	struct pci_dev *p = &n->pci;
	int ret = pci_dev_add_bar(p, BAR, PCI_BAR_MEM64, false, BAR_SIZE, &bar_ops, n);

	if (!ret)
		ret = pci_dev_add_msix(p, n->o.queues + 1, BAR, MSIX_OFF, PBA_OFF);
	if (ret)
		return ret;
	pci_dev_add_pcie(p, 9);
	pci_dev_use_intx(p, 1);
	pci_dev_ready(p);
	n->bells = (struct bus_region){ .name = "nvme-doorbells", .ops = &bells_ops, .opaque = n, .size = BELLS_SIZE, .priority = 1 };
	return 0;
}

static int build_kick(struct nvme *n)
{
	struct loop_fd *k = &n->kick_fd;
	int ret;

	*k = (struct loop_fd){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .events = EPOLLIN, .cb = nvme_kick_ready, .opaque = n };
	if (k->fd < 0)
		return -errno;
	ret = loop_fd_add(n->o.io ? iothread_loop(n->o.io) : n->m->loop, k);
	if (!ret)
		return 0;
	close(k->fd);
	k->fd = -1;
	return ret;
}

int nvme_new(struct machine *m, struct pci_bus *bus, int devfn, const char *id, const struct nvme_opts *o,
	     struct nvme **out, struct err *e)
{
	static const struct pci_ids ids = {
		.vendor = 0x1b36, .device = 0x0010, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x010802, .revision = 2,
	};
	struct nvme *n;
	int ret;

	if (o->queues > NVME_MAX_IO_QUEUES)
		return err_set(e, -EINVAL, "controller %s: %u queues, but 1 to %d are possible", id, o->queues, NVME_MAX_IO_QUEUES);
	n = calloc(1, sizeof(*n));
	if (!n)
		return err_set(e, -ENOMEM, "out of memory");
	n->m = m;
	n->o = *o;
	n->o.queues = o->queues ? o->queues : 1;
	n->page = 4096;
	n->irq_work = (struct iothread_work){ .cb = nvme_irq_work, .opaque = n };
	snprintf(n->id, sizeof(n->id), "%s", id);
	nvme_feat_reset(n);
	ret = build_kick(n);
	if (ret) {
		free(n);
		return err_set(e, ret, "controller %s: no descriptor for its doorbells: %s", id, strerror(-ret));
	}
	ret = pci_dev_init(&n->pci, m, bus, devfn, &pci_ops, &ids, e);
	if (!ret) {
		ret = build_function(n);
		if (!ret) {
			*out = n;
			return 0;
		}
		err_set(e, ret, "cannot build the PCI function of %s", id);
		pci_dev_fini(&n->pci);
	}
	nvme_lock(n);
	loop_fd_del(&n->kick_fd);
	nvme_unlock(n);
	close(n->kick_fd.fd);
	free(n);
	return ret;
}

static void size_changed(struct nvme_ns *ns)
{
	struct nvme *n = ns->n;
	uint64_t now = ns->disk.node->i.size >> ns->shift;

	if (now == ns->blocks)
		return;
	ns->blocks = now;
	ns->changed = true;
	if (n->feat.async & BIT(8))
		nvme_event(n, NVME_EV_NOTICE, 0, NVME_LOG_NS);
	nvme_tell(n);
}

static void disk_resized(struct disk *d)
{
	size_changed(container_of(d, struct nvme_ns, disk));
}

int nvme_add_ns(struct nvme *n, const char *id, struct blk_node *node, const struct disk_opts *o, struct err *e)
{
	struct nvme_ns *ns;
	int ret;

	if (n->n_ns == NVME_MAX_NS)
		return err_set(e, -E2BIG, "a controller has at most %d namespaces", NVME_MAX_NS);
	ns = calloc(1, sizeof(*ns));
	if (!ns)
		return err_set(e, -ENOMEM, "out of memory for disk %s", id);
	ret = disk_init(&ns->disk, n->m, id, node, o, e);
	ns->disk.resized = disk_resized;
	if (ret) {
		free(ns);
		return ret;
	}
	ns->n = n;
	ns->disk.o.io = n->o.io;
	ns->nsid = n->n_ns + 1;
	ns->shift = (unsigned)__builtin_ctz(ns->disk.o.block_size);
	ns->blocks = node->i.size >> ns->shift;
	nvme_make_guid(ns);
	nvme_lock(n);
	n->ns[n->n_ns++] = ns;
	nvme_unlock(n);
	return 0;
}

/* ---- for the host ---- */

unsigned nvme_devfn(const struct nvme *n)
{
	return n->pci.devfn;
}

struct disk *nvme_disk(struct nvme *n, unsigned nsid)
{
	struct nvme_ns *ns = nvme_ns_of(n, nsid);

	return ns ? &ns->disk : NULL;
}

int nvme_resize(struct nvme *n, unsigned nsid, uint64_t size, struct err *e)
{
	struct nvme_ns *ns = nvme_ns_of(n, nsid);
	int ret;

	if (!ns)
		return err_set(e, -ENOENT, "controller %s has no namespace %u", n->id, nsid);
	nvme_lock(n);
	ret = disk_resize(&ns->disk, size, e);
	size_changed(ns);
	nvme_unlock(n);
	return ret;
}

unsigned nvme_waiting(struct nvme *n)
{
	unsigned k;

	nvme_lock(n);
	k = nvme_kept(n);
	nvme_unlock(n);
	return k;
}
