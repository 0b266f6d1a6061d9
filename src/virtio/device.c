/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What all virtio devices share: status, features, queues, doorbells
 * (virtio 1.2, 2.1, 2.2, 2.4, 3.1).
 *
 * A kick is an eventfd on the machine's loop or an I/O thread's.  Whether it is acted on is decided
 * when the loop sees it: not before DRIVER_OK, not while paused, not after the
 * device broke.  Nothing is lost by that: start and resume look at every ready
 * queue.
 *
 * A device that met nonsense in a ring is `broken`: NEEDS_RESET is set, no queue
 * is touched again until the driver resets it.
 */
#include "virtio/device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/log.h"

/* ---- doorbells ---- */

static void kick(struct virtio_dev *d, unsigned q)
{
	if (d->started && !d->paused && d->vq[q].ready && !d->vq[q].broken)
		d->ops->kick(d, q);
}

static void kick_all(struct virtio_dev *d)
{
	for (unsigned q = 0; q < d->n_queues; q++)
		kick(d, q);
}

/* The queue a loop_fd belongs to follows from its place in the array. */
static void kick_fd_ready(void *opaque, uint32_t events)
{
	struct vq *vq = opaque;
	struct virtio_dev *d = vq->opaque;
	uint64_t n;

	if (read(d->kick_fd[vq->index].fd, &n, sizeof(n)) == sizeof(n))
		kick(d, vq->index);
}

void virtio_dev_ring(struct virtio_dev *d, unsigned q)
{
	uint64_t one = 1;

	/* Fails only when the counter is full: then a wake-up is due anyway. */
	if (q < d->n_queues && write(d->kick_fd[q].fd, &one, sizeof(one)) < 0)
		return;
}

static void doorbells(struct virtio_dev *d, bool on)
{
	if (d->transport)
		d->transport->doorbells(d->transport_opaque, on);
}

/* ---- construction ---- */

static void queue_irq(struct virtio_dev *d, unsigned q)
{
	if (d->transport && d->status & VIRTIO_S_DRIVER_OK)
		d->transport->queue_irq(d->transport_opaque, q);
}

/* 2.1.2: tell a driver that is up. */
static void config_irq(struct virtio_dev *d)
{
	if (d->transport && d->status & VIRTIO_S_DRIVER_OK)
		d->transport->config_irq(d->transport_opaque);
}

static void queue_notify(void *opaque, struct vq *vq)
{
	struct virtio_dev *d = opaque;

	if (!d->io) {
		queue_irq(d, vq->index);
		return;
	}
	d->irq_queues |= BIT64(vq->index);
	iothread_defer(d->io, &d->irq_work);
}

/* Both locks held. */
static void tell_guest(void *opaque)
{
	struct virtio_dev *d = opaque;
	uint64_t mask = d->irq_queues;

	d->irq_queues = 0;
	for (; mask; mask &= mask - 1)
		queue_irq(d, (unsigned)__builtin_ctzll(mask));
	if (d->broken_untold) {
		d->broken_untold = false;
		d->status |= VIRTIO_S_NEEDS_RESET;
		config_irq(d);
	}
}

void virtio_dev_defer(struct virtio_dev *d, struct iothread_work *w)
{
	iothread_defer(d->io, w);
}

void virtio_dev_cancel(struct virtio_dev *d, struct iothread_work *w)
{
	iothread_cancel(d->io, w);
}

static int queue_init(struct virtio_dev *d, unsigned q, uint16_t max_size)
{
	struct loop_fd *k = &d->kick_fd[q];
	struct vq *vq = &d->vq[q];
	int ret;

	if (!is_pow2(max_size) || max_size > VQ_MAX_SIZE)
		return -EINVAL;
	vq->mem = d->m->mem;
	vq->max_size = max_size;
	vq->index = q;
	vq->notify = queue_notify;
	vq->opaque = d;
	vq_reset(vq);
	k->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (k->fd < 0)
		return -errno;
	k->events = EPOLLIN;
	k->cb = kick_fd_ready;
	k->opaque = vq;
	ret = loop_fd_add(d->io ? iothread_loop(d->io) : d->m->loop, k);
	if (ret) {
		close(k->fd);
		k->fd = -1;
	}
	return ret;
}

int virtio_dev_init(struct virtio_dev *d, struct machine *m, const struct virtio_dev_ops *ops,
		    const char *id, uint64_t features, uint32_t config_len,
		    unsigned n_queues, const uint16_t *queue_sizes)
{
	int ret;

	if (n_queues > VIRTIO_MAX_QUEUES)
		return -EINVAL;
	d->ops = ops;
	d->m = m;
	snprintf(d->id, sizeof(d->id), "%s", id);
	d->host_features = features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	if (ops->queue_reset)
		d->host_features |= VIRTIO_F_RING_RESET;
	d->driver_features = 0;
	d->config_len = config_len;
	d->status = 0;
	d->config_generation = 0;
	d->started = d->paused = false;
	d->transport = NULL;
	d->irq_queues = 0;
	d->broken_untold = false;
	d->irq_work = (struct iothread_work){ .cb = tell_guest, .opaque = d };
	for (d->n_queues = 0; d->n_queues < n_queues; d->n_queues++) {
		ret = queue_init(d, d->n_queues, queue_sizes[d->n_queues]);
		if (ret) {
			virtio_dev_fini(d);
			return ret;
		}
	}
	return 0;
}

void virtio_dev_fini(struct virtio_dev *d)
{
	d->started = false;
	virtio_dev_cancel(d, &d->irq_work);
	for (unsigned q = 0; q < d->n_queues; q++) {
		vq_reset(&d->vq[q]);
		loop_fd_del(&d->kick_fd[q]);
		close(d->kick_fd[q].fd);
	}
	d->n_queues = 0;
}

/* ---- status ---- */

void virtio_dev_broken(struct virtio_dev *d, const char *why)
{
	if (d->status & VIRTIO_S_NEEDS_RESET || d->broken_untold)
		return;
	log_guest("%s: the driver broke the protocol (%s); waiting for its reset", d->id, why);
	virtio_dev_fail(d);
}

void virtio_dev_fail(struct virtio_dev *d)
{
	if (d->status & VIRTIO_S_NEEDS_RESET || d->broken_untold)
		return;
	d->started = false;
	for (unsigned q = 0; q < d->n_queues; q++)
		d->vq[q].broken = true;
	d->broken_untold = true;
	virtio_dev_defer(d, &d->irq_work);
}

void virtio_dev_config_changed(struct virtio_dev *d)
{
	d->config_generation++;
	config_irq(d);
}

static void reset(struct virtio_dev *d)
{
	doorbells(d, false);
	d->started = false;
	if (d->ops->reset)
		d->ops->reset(d);
	for (unsigned q = 0; q < d->n_queues; q++)
		vq_reset(&d->vq[q]);
	virtio_dev_cancel(d, &d->irq_work);
	d->irq_queues = 0;
	d->broken_untold = false;
	d->driver_features = 0;
	d->status = 0;
}

void virtio_dev_reset(struct virtio_dev *d)
{
	virtio_dev_lock(d);
	reset(d);
	virtio_dev_unlock(d);
}

/* 2.2: the subset is acceptable if it was offered and is of this century. */
static bool features_acceptable(const struct virtio_dev *d)
{
	return !(d->driver_features & ~d->host_features) && virtio_has(d, VIRTIO_F_VERSION_1);
}

static void features_settle(struct virtio_dev *d)
{
	for (unsigned q = 0; q < d->n_queues; q++) {
		d->vq[q].event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
		d->vq[q].indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
	}
	if (d->ops->features_ok)
		d->ops->features_ok(d);
}

static void start(struct virtio_dev *d)
{
	d->started = true;
	if (d->ops->start)
		d->ops->start(d);
	kick_all(d);	/* buffers may have been made available before DRIVER_OK */
}

static void set_status(struct virtio_dev *d, uint8_t status)
{
	uint8_t old = d->status, up;

	if (!status) {
		reset(d);
		return;
	}
	/* 2.1.1: the driver only ever adds bits, and NEEDS_RESET is ours. */
	up = status & ~old & ~VIRTIO_S_NEEDS_RESET;
	if (up & VIRTIO_S_FEATURES_OK && !features_acceptable(d))
		up &= ~VIRTIO_S_FEATURES_OK;
	if (up & VIRTIO_S_DRIVER_OK && !((old | up) & VIRTIO_S_FEATURES_OK))
		up &= ~VIRTIO_S_DRIVER_OK;
	d->status |= up;
	if (up & VIRTIO_S_FEATURES_OK)
		features_settle(d);
	if (up & VIRTIO_S_FAILED)
		d->started = false;
	else if (up & VIRTIO_S_DRIVER_OK && !(d->status & (VIRTIO_S_NEEDS_RESET | VIRTIO_S_FAILED)))
		start(d);
}

void virtio_dev_set_status(struct virtio_dev *d, uint8_t status)
{
	virtio_dev_lock(d);
	set_status(d, status);
	virtio_dev_unlock(d);
}

void virtio_dev_set_driver_features(struct virtio_dev *d, uint64_t f)
{
	if (!(d->status & VIRTIO_S_FEATURES_OK))
		d->driver_features = f;
}

/* ---- queues ---- */

static void queue_reset(struct virtio_dev *d, unsigned q)
{
	struct vq *vq = &d->vq[q];
	bool event_idx = vq->event_idx, indirect = vq->indirect, broken = vq->broken;

	/* Drain: what is in flight is put back before the driver may reuse it. */
	if (d->started && !d->paused) {
		if (d->ops->pause)
			d->ops->pause(d);
		if (d->ops->resume)
			d->ops->resume(d);
	}
	if (d->ops->queue_reset)
		d->ops->queue_reset(d, q);
	vq_reset(vq);
	vq->event_idx = event_idx;
	vq->indirect = indirect;
	vq->broken = broken && (d->status & VIRTIO_S_NEEDS_RESET || d->broken_untold);
	d->irq_queues &= ~BIT64(q);
	doorbells(d, true);
}

void virtio_dev_queue_reset(struct virtio_dev *d, unsigned q)
{
	virtio_dev_lock(d);
	queue_reset(d, q);
	virtio_dev_unlock(d);
}

static void queue_enable(struct virtio_dev *d, unsigned q, bool on)
{
	struct vq *vq = &d->vq[q];

	if (vq->ready == on || d->status & VIRTIO_S_NEEDS_RESET || d->broken_untold)
		return;
	if (!on) {
		queue_reset(d, q);
		return;
	}
	if (vq_start(vq)) {
		virtio_dev_broken(d, "a queue was set up badly");
		return;
	}
	doorbells(d, true);
	kick(d, q);
}

void virtio_dev_queue_enable(struct virtio_dev *d, unsigned q, bool on)
{
	if (q >= d->n_queues)
		return;
	virtio_dev_lock(d);
	queue_enable(d, q, on);
	virtio_dev_unlock(d);
}

/* ---- configuration space ---- */

void virtio_dev_config_access(struct virtio_dev *d, uint32_t off, void *buf, unsigned len, bool write)
{
	if (!range_inside(off, len, d->config_len)) {
		if (!write)
			memset(buf, 0xff, len);
		return;
	}
	virtio_dev_lock(d);
	if (!write) {
		memset(buf, 0, len);
		if (d->ops->config_read)
			d->ops->config_read(d, off, buf, len);
	} else if (d->ops->config_write) {
		d->ops->config_write(d, off, buf, len);
	}
	virtio_dev_unlock(d);
}

/* ---- pause ---- */

void virtio_dev_pause(struct virtio_dev *d)
{
	if (d->paused)
		return;
	virtio_dev_lock(d);
	if (d->ops->pause)
		d->ops->pause(d);
	d->paused = true;
	/* What ended just now must be in the saved state of the interrupt chips. */
	virtio_dev_cancel(d, &d->irq_work);
	tell_guest(d);
	virtio_dev_unlock(d);
}

void virtio_dev_resume(struct virtio_dev *d)
{
	if (!d->paused)
		return;
	virtio_dev_lock(d);
	d->paused = false;
	if (d->ops->resume)
		d->ops->resume(d);
	kick_all(d);
	virtio_dev_unlock(d);
}

/* ---- snapshots ---- */

struct dev_state {
	uint64_t driver_features;
	uint32_t n_queues;
	uint8_t status, config_generation;
};

static const struct snap_field dev_fields[] = {
	SNAP_FIELD(struct dev_state, driver_features),
	SNAP_FIELD(struct dev_state, n_queues),
	SNAP_FIELD(struct dev_state, status),
	SNAP_FIELD(struct dev_state, config_generation),
	SNAP_END,
};
static const struct snap_table dev_table = { "virtio", 1, dev_fields };

struct vq_state {
	uint64_t desc, avail, used;
	uint16_t size, last_avail, used_idx, signalled_used, in_flight;
	uint8_t ready, broken, signalled_valid;
};

static const struct snap_field vq_fields[] = {
	SNAP_FIELD(struct vq_state, desc),
	SNAP_FIELD(struct vq_state, avail),
	SNAP_FIELD(struct vq_state, used),
	SNAP_FIELD(struct vq_state, size),
	SNAP_FIELD(struct vq_state, last_avail),
	SNAP_FIELD(struct vq_state, used_idx),
	SNAP_FIELD(struct vq_state, signalled_used),
	SNAP_FIELD(struct vq_state, in_flight),
	SNAP_FIELD(struct vq_state, ready),
	SNAP_FIELD(struct vq_state, broken),
	SNAP_FIELD(struct vq_state, signalled_valid),
	SNAP_END,
};
static const struct snap_table vq_table = { "virtqueue", 1, vq_fields };

static void queue_id(const struct virtio_dev *d, unsigned q, char *buf, size_t len)
{
	snprintf(buf, len, "%s.q%u", d->id, q);
}

static int queue_save(struct virtio_dev *d, unsigned q, struct snap_out *o)
{
	const struct vq *vq = &d->vq[q];
	struct vq_state s = {
		.desc = vq->desc, .avail = vq->avail, .used = vq->used, .size = vq->size,
		.last_avail = vq->last_avail, .used_idx = vq->used_idx,
		.signalled_used = vq->signalled_used, .in_flight = vq->in_flight,
		.ready = vq->ready, .broken = vq->broken, .signalled_valid = vq->signalled_valid,
	};
	char id[48];

	queue_id(d, q, id, sizeof(id));
	return snap_put(o, id, &vq_table, &s);
}

static int dev_save(struct virtio_dev *d, struct snap_out *o)
{
	struct dev_state s = { .driver_features = d->driver_features, .n_queues = d->n_queues,
			       .status = d->status, .config_generation = d->config_generation };
	int ret = snap_put(o, d->id, &dev_table, &s);

	for (unsigned q = 0; !ret && q < d->n_queues; q++)
		ret = queue_save(d, q, o);
	if (!ret && d->ops->save)
		ret = d->ops->save(d, o);
	return ret;
}

int virtio_dev_save(struct virtio_dev *d, struct snap_out *o)
{
	int ret;

	virtio_dev_lock(d);
	ret = dev_save(d, o);
	virtio_dev_unlock(d);
	return ret;
}

static int queue_load(struct virtio_dev *d, unsigned q, struct snap_in *in, struct err *e)
{
	struct vq *vq = &d->vq[q];
	struct vq_state s = { 0 };
	char id[48];
	int ret;

	queue_id(d, q, id, sizeof(id));
	ret = snap_get(in, id, &vq_table, &s, e);
	if (ret)
		return ret;
	vq->desc = s.desc;
	vq->avail = s.avail;
	vq->used = s.used;
	vq->size = s.size;
	vq->last_avail = s.last_avail;
	vq->used_idx = s.used_idx;
	vq->signalled_used = s.signalled_used;
	vq->signalled_valid = s.signalled_valid;
	if (s.size > vq->max_size || s.in_flight > s.size)
		return err_set(e, -EINVAL, "saved state of %s, queue %u, is damaged or of a larger queue",
			       d->id, q);
	vq->in_flight = s.in_flight;
	if (s.ready && vq_start(vq))
		return err_set(e, -EINVAL, "saved state of %s: queue %u lies outside memory", d->id, q);
	vq->broken = s.broken;
	return 0;
}

/* The machine was reset before; the transport restored its own registers and
 * calls doorbells afterwards. */
static int dev_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct dev_state s = { 0 };
	int ret = snap_get(in, d->id, &dev_table, &s, e);

	if (ret)
		return ret;
	if (s.n_queues != d->n_queues)
		return err_set(e, -EINVAL, "saved state of %s has %u queues, this machine's has %u", d->id,
			       s.n_queues, d->n_queues);
	reset(d);
	d->driver_features = s.driver_features;
	d->config_generation = s.config_generation;
	d->status = s.status;
	if (s.status & VIRTIO_S_FEATURES_OK) {
		if (!features_acceptable(d))
			return err_set(e, -EINVAL, "saved state of %s uses features this device does not offer "
				       "(0x%llx)", d->id, (unsigned long long)(s.driver_features & ~d->host_features));
		features_settle(d);
	}
	for (unsigned q = 0; q < d->n_queues; q++) {
		ret = queue_load(d, q, in, e);
		if (ret)
			return ret;
	}
	d->started = (s.status & VIRTIO_S_DRIVER_OK) && !(s.status & (VIRTIO_S_NEEDS_RESET | VIRTIO_S_FAILED));
	ret = d->ops->load ? d->ops->load(d, in, e) : 0;
	if (!ret)
		doorbells(d, true);
	return ret;
}

int virtio_dev_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	int ret;

	virtio_dev_lock(d);
	ret = dev_load(d, in, e);
	virtio_dev_unlock(d);
	return ret;
}
