/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * virtio-scsi (virtio 1.2, 5.6): the device, its units, and their life.
 *
 * Queue 0 is for control, 1 for events, the rest for commands.  All units of an
 * adapter share its I/O thread.  Reset, queue reset and pause drain every unit, so
 * nothing of an earlier life reaches guest memory later.
 *
 * Neither bidirectional commands nor protection information are offered.
 */
#include "virtio/scsi_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"

/* Chains per kick; a guest that refills as fast as we answer waits its turn. */
#define KICK_BUDGET 1024

/* ---- helpers ---- */

struct vscsi_unit *vscsi_find(struct virtio_scsi *v, unsigned target, unsigned lun)
{
	for (unsigned i = 0; i < v->n_units; i++)
		if (v->unit[i]->target == target && v->unit[i]->number == lun)
			return v->unit[i];
	return NULL;
}

/* Peripheral addressing for the first 256 units, flat for all (SAM-5, 4.7.7). */
bool vscsi_parse_lun(const uint8_t *p, unsigned *target, unsigned *lun)
{
	unsigned n = scsi_ld16(p + 2);

	if (p[0] != 1 || scsi_ld32(p + 4) || (n >= 0x100 && n >> 14 != 1))
		return false;
	*target = p[1];
	*lun = n & 0x3fff;
	return true;
}

void vscsi_put(struct virtio_scsi *v, const struct iovec *iov, unsigned n, const void *buf, size_t len)
{
	size_t left = iov_from_buf(iov, n, 0, buf, len);

	for (unsigned i = 0; left && i < n; i++) {
		size_t k = MIN(left, iov[i].iov_len);

		mem_written_host(v->d.m->mem, iov[i].iov_base, k);
		left -= k;
	}
}

void vscsi_flush(struct virtio_scsi *v)
{
	uint64_t mask = v->flush_queues;

	v->flush_queues = 0;
	for (; mask; mask &= mask - 1)
		vq_flush(&v->d.vq[__builtin_ctzll(mask)]);
}

/* ---- queues ---- */

int vscsi_handle(struct virtio_scsi *v, unsigned q, const struct vq_chain *c)
{
	return q == Q_CONTROL ? vscsi_control(v, c) : vscsi_request(v, q, c);
}

static void kick(struct virtio_dev *d, unsigned q)
{
	struct virtio_scsi *v = to_scsi(d);
	struct vq *vq = &d->vq[q];
	unsigned budget = KICK_BUDGET;
	int ret = 0;

	if (q == Q_EVENT) {
		vscsi_event_kick(v);
		return;
	}
	do {
		vq_kick_enable(vq, false);
		while (budget && (ret = vq_get(vq, &v->chain)) == 1) {
			budget--;
			ret = vscsi_handle(v, q, &v->chain);
			if (ret)
				break;
		}
	} while (!ret && budget && vq_kick_enable(vq, true));
	vscsi_flush(v);
	if (!budget)
		virtio_dev_ring(d, q);
	if (ret)
		virtio_dev_broken(d, "a request without header or response, or a damaged ring");
}

/* ---- configuration ---- */

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	memcpy(buf, (const uint8_t *)&to_scsi(d)->cfg + off, len);
}

/* 5.6.4: the driver sets how long command blocks and sense data are. What cannot be is not taken. */
static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len)
{
	struct virtio_scsi *v = to_scsi(d);
	struct vscsi_config c = v->cfg;

	memcpy((uint8_t *)&c + off, buf, len);
	if (c.sense_size <= SENSE_MAX)
		v->cfg.sense_size = c.sense_size;
	if (c.cdb_size && c.cdb_size <= CDB_MAX)
		v->cfg.cdb_size = c.cdb_size;
}

/* ---- life cycle ---- */

static void drain(struct virtio_dev *d)
{
	struct virtio_scsi *v = to_scsi(d);

	for (unsigned i = 0; i < v->n_units; i++)
		blk_drain(v->unit[i]->lun.disk.node);
	vscsi_flush(v);
}

static void resume(struct virtio_dev *d)
{
	vscsi_retry(to_scsi(d));
	vscsi_flush(to_scsi(d));
}

static void reset(struct virtio_dev *d)
{
	struct virtio_scsi *v = to_scsi(d);

	drain(d);
	vscsi_forget_tmfs(v);
	vscsi_forget(v, -1);
	for (unsigned i = 0; i < v->n_units; i++) {
		scsi_lun_reset(&v->unit[i]->lun);
		v->unit[i]->subscribed = 0;
	}
	v->flush_queues = 0;
	v->events_missed = false;
	v->cfg.sense_size = SENSE_DEFAULT;
	v->cfg.cdb_size = CDB_DEFAULT;
}

static void queue_reset(struct virtio_dev *d, unsigned q)
{
	struct virtio_scsi *v = to_scsi(d);

	drain(d);
	if (q == Q_CONTROL)
		vscsi_forget_tmfs(v);
	vscsi_forget(v, (int)q);
	/* Functions may have waited for what was forgotten. */
	for (unsigned i = 0; i < v->n_units; i++)
		vscsi_settled(v->unit[i]);
	v->flush_queues &= ~BIT64(q);
	vscsi_flush(v);
}

static void unit_free(struct vscsi_unit *u, unsigned more)
{
	disk_fini(&u->lun.disk, more, vscsi_drop);
	free(u);
}

static void scsi_free(struct virtio_dev *d)
{
	struct virtio_scsi *v = to_scsi(d);

	virtio_dev_lock(d);
	/* Drains while the queues are still there for the answers. */
	drain(d);
	vscsi_forget_tmfs(v);
	for (unsigned i = 0; i < v->n_units; i++)
		unit_free(v->unit[i], i ? 0 : v->n_again);
	free(v->again);
	virtio_dev_fini(d);
	virtio_dev_unlock(d);
	free(v);
}

static const struct virtio_dev_ops scsi_ops = {
	.name = "virtio-scsi",
	.device_id = 8,
	.pci_class = 0x010000,
	.config_read = config_read,
	.config_write = config_write,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.pause = drain,
	.resume = resume,
	.save = vscsi_save,
	.load = vscsi_load,
	.free = scsi_free,
};

static int check_opts(const char *id, const struct virtio_scsi_opts *o, struct err *e)
{
	if (o->queues > VIRTIO_SCSI_MAX_QUEUES)
		return err_set(e, -EINVAL, "%s: %u queues, but 1 to %d are possible", id, o->queues, VIRTIO_SCSI_MAX_QUEUES);
	if (!is_pow2(o->queue_size) || o->queue_size < 8 || o->queue_size > VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "%s: queue size %u is not a power of two from 8 to %d", id, o->queue_size, VQ_MAX_SIZE);
	return 0;
}

int virtio_scsi_new(struct machine *m, const char *id, const struct virtio_scsi_opts *opts, struct virtio_dev **out, struct err *e)
{
	uint16_t sizes[VIRTIO_MAX_QUEUES];
	struct virtio_scsi_opts o = *opts;
	struct virtio_scsi *v;
	int ret;

	o.queues = o.queues ? o.queues : 1;
	o.queue_size = o.queue_size ? o.queue_size : 256;
	ret = check_opts(id, &o, e);
	if (ret)
		return ret;
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "out of memory for adapter %s", id);
	list_init(&v->tmfs);
	v->cfg = (struct vscsi_config){
		/* Header and response take two descriptors of a chain without indirection. */
		.num_queues = o.queues, .seg_max = o.queue_size - 2u, .max_sectors = 0xffff, .cmd_per_lun = MIN(o.queue_size, 128),
		.event_info_size = 16, .sense_size = SENSE_DEFAULT, .cdb_size = CDB_DEFAULT, .max_target = VIRTIO_SCSI_TARGETS - 1,
		.max_lun = VIRTIO_SCSI_LUNS - 1,
	};
	v->d.io = o.io;
	for (unsigned q = 0; q < Q_REQUEST + o.queues; q++)
		sizes[q] = o.queue_size;
	virtio_dev_lock(&v->d);
	ret = virtio_dev_init(&v->d, m, &scsi_ops, id, F_HOTPLUG | F_CHANGE, sizeof(v->cfg), Q_REQUEST + o.queues, sizes);
	virtio_dev_unlock(&v->d);
	if (ret) {
		free(v);
		return err_set(e, ret, "adapter %s cannot be set up: %s", id, strerror(-ret));
	}
	*out = &v->d;
	return 0;
}

/* ---- units ---- */

static struct vscsi_unit *unit_of(struct disk *d)
{
	return container_of(d, struct vscsi_unit, lun.disk);
}

static void batch_done(struct disk *d)
{
	vscsi_flush(unit_of(d)->v);
}

/* CAPACITY DATA HAS CHANGED; both locks held. */
static void resized(struct disk *d)
{
	struct vscsi_unit *u = unit_of(d);

	if (u->lun.cd)
		return;
	u->lun.attention = 0x2a09;
	if (virtio_has(&u->v->d, F_CHANGE))
		vscsi_event(u->v, u, T_PARAM_CHANGE, 0x2a | 0x09 << 8);
	vscsi_flush(u->v);
}

/* A medium has come or gone, or the user asks for it. */
static void media_changed(struct scsi_lun *l)
{
	struct vscsi_unit *u = container_of(l, struct vscsi_unit, lun);

	if (u->subscribed & EVT_MEDIA_CHANGE)
		vscsi_event(u->v, u, T_ASYNC_NOTIFY, EVT_MEDIA_CHANGE);
	vscsi_flush(u->v);
}

/* Both locks held. */
static void announce(struct virtio_scsi *v, struct vscsi_unit *u)
{
	for (unsigned i = 0; i < v->n_units; i++)
		if (v->unit[i] != u && v->unit[i]->target == u->target && !v->unit[i]->lun.attention)
			v->unit[i]->lun.attention = 0x3f0e;	/* REPORTED LUNS DATA HAS CHANGED */
	if (virtio_has(&v->d, F_HOTPLUG))
		vscsi_event(v, u, T_TRANSPORT_RESET, RESET_RESCAN);
	vscsi_flush(v);
}

static int check_address(struct virtio_scsi *v, unsigned target, unsigned lun, const char *id, struct err *e)
{
	if (target >= VIRTIO_SCSI_TARGETS || lun >= VIRTIO_SCSI_LUNS)
		return err_set(e, -EINVAL, "disk %s: SCSI address %u:%u is above %u:%u", id, target, lun, VIRTIO_SCSI_TARGETS - 1,
			       VIRTIO_SCSI_LUNS - 1);
	if (vscsi_find(v, target, lun))
		return err_set(e, -EEXIST, "disk %s: SCSI address %u:%u is taken", id, target, lun);
	if (v->n_units == VIRTIO_SCSI_MAX_UNITS)
		return err_set(e, -ENOSPC, "disk %s: an adapter takes %d disks", id, VIRTIO_SCSI_MAX_UNITS);
	return 0;
}

int virtio_scsi_add(struct virtio_dev *d, unsigned target, unsigned lun, const char *id, struct blk_node *node, bool cd,
		    const struct disk_opts *o, struct err *e)
{
	struct virtio_scsi *v = to_scsi(d);
	struct disk_opts own = *o;
	struct vscsi_unit *u;
	int ret = check_address(v, target, lun, id, e);

	if (ret)
		return ret;
	u = calloc(1, sizeof(*u));
	if (!u)
		return err_set(e, -ENOMEM, "out of memory for disk %s", id);
	own.io = d->io;
	ret = scsi_lun_init(&u->lun, d->m, id, node, cd, &own, e);
	if (ret) {
		free(u);
		return ret;
	}
	virtio_dev_lock(d);
	u->v = v;
	u->target = (uint8_t)target;
	u->number = (uint16_t)lun;
	list_init(&u->reqs);
	list_init(&u->waits);
	u->lun.disk.batch_done = batch_done;
	u->lun.disk.resized = resized;
	u->lun.media_changed = media_changed;
	scsi_lun_reset(&u->lun);
	v->unit[v->n_units++] = u;
	announce(v, u);
	virtio_dev_unlock(d);
	return 0;
}

struct scsi_lun *virtio_scsi_unit(struct virtio_dev *d, unsigned target, unsigned lun)
{
	struct vscsi_unit *u = vscsi_find(to_scsi(d), target, lun);

	return u ? &u->lun : NULL;
}

bool virtio_scsi_place(struct virtio_dev *d, const struct disk *disk, unsigned *target, unsigned *lun)
{
	const struct virtio_scsi *v = to_scsi(d);

	for (unsigned i = 0; i < v->n_units; i++) {
		if (&v->unit[i]->lun.disk != disk)
			continue;
		*target = v->unit[i]->target;
		*lun = v->unit[i]->number;
		return true;
	}
	return false;
}

/* Its address leads nowhere any more. */
static void drop_gone(struct disk_req *q) { vscsi_abort(vscsi_req_of(q), S_BAD_TARGET); }

void virtio_scsi_remove(struct virtio_dev *d, struct disk *disk)
{
	struct virtio_scsi *v = to_scsi(d);
	struct vscsi_unit *u = unit_of(disk);
	unsigned i = 0;

	virtio_dev_lock(d);
	blk_drain(disk->node);
	disk_forget(disk, NULL, NULL, drop_gone);
	vscsi_settled(u);
	while (v->unit[i] != u)
		i++;
	v->unit[i] = NULL;
	for (v->n_units--; i < v->n_units; i++)
		v->unit[i] = v->unit[i + 1];
	for (i = 0; i < v->n_units; i++)
		if (v->unit[i]->target == u->target && !v->unit[i]->lun.attention)
			v->unit[i]->lun.attention = 0x3f0e;	/* REPORTED LUNS DATA HAS CHANGED */
	if (virtio_has(&v->d, F_HOTPLUG))
		vscsi_event(v, u, T_TRANSPORT_RESET, RESET_REMOVED);
	vscsi_flush(v);
	unit_free(u, 0);
	virtio_dev_unlock(d);
}
