// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What devices with a vhost peer share: rings to and fro, and the peer's coming and going.
 *
 * vhost_sync is the one place where it is looked what the peer does and what is to be done about it; whatever may have changed something calls
 * it.  Rings are started from there, which the peer's file does in its own time, and run once it has said so.
 */
#include "virtio/vhost.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bits.h"
#include "base/log.h"

#define KICK_BUDGET 256
#define DRAIN_NS 10000000000ll		/* a peer that takes longer over what he has is cut off */
#define DRAIN_STEP_MS 50
#define AGAIN_BYTES 4			/* queue, head */
/* The rings lie behind the guest's memory, well away from it. */
#define RINGS_ALIGN (1ull << 30)

static struct vhost_dev *of(struct virtio_dev *d)
{
	return container_of(d, struct vhost_dev, d);
}

static uint64_t offered(const struct vhost_dev *v, const struct vhost_news *n)
{
	return v->own_features | (n->features & v->front->peer_features) | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
		VIRTIO_F_RING_RESET;
}

/* ---- rings ---- */

static void called(void *opaque, uint32_t events);

/* fd: the rings' memory, which is ours from here on, or why there is none. */
static int map_memory(struct vhost_dev *v, int fd, struct err *e)
{
	int ret = MIN(fd, 0);

	v->mem_fd = MAX(fd, -1);
	if (!ret) {
		v->mem = mmap(NULL, v->mem_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
		ret = v->mem == MAP_FAILED ? -errno : 0;
	}
	if (!ret)
		return 0;
	v->mem = NULL;
	return err_set(e, ret, "%s: rings of %llu KiB: %s", v->d.id, (unsigned long long)(v->mem_bytes >> 10), strerror(-ret));
}

static int make_eventfds(struct vhost_dev *v, unsigned q, struct err *e)
{
	struct loop_fd *c = &v->call[q];
	int ret;

	v->kick[q] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	*c = (struct loop_fd){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .events = EPOLLIN, .cb = called, .opaque = &v->ring[q] };
	if (v->kick[q] < 0 || c->fd < 0)
		return err_set(e, -EMFILE, "%s: no file descriptors left", v->d.id);
	ret = loop_fd_add(v->d.io ? iothread_loop(v->d.io) : v->d.m->loop, c);
	return ret ? err_set(e, ret, "%s: %s", v->d.id, strerror(-ret)) : 0;
}

static void free_eventfds(struct vhost_dev *v, unsigned q)
{
	loop_fd_del(&v->call[q]);
	if (v->call[q].fd >= 0)
		close(v->call[q].fd);
	if (v->kick[q] >= 0)
		close(v->kick[q]);
	v->call[q].fd = v->kick[q] = -1;
}

static void free_memory(struct vhost_dev *v)
{
	if (v->mem)
		munmap(v->mem, v->mem_bytes);
	if (v->mem_fd >= 0)
		close(v->mem_fd);
	v->mem = NULL;
	v->mem_fd = -1;
}

/* For a peer other than the one who has these. */
static int renew(struct vhost_dev *v, uint64_t life, struct err *e)
{
	int ret = 0;

	if (v->rings_life && v->rings_life != life) {
		for (unsigned q = 0; q < v->n_rings; q++)
			free_eventfds(v, q);
		free_memory(v);
		v->rings_life = 0;
	}
	if (!v->mem)
		ret = map_memory(v, v->peer->ops->memory(v->peer), e);
	for (unsigned q = 0; q < v->n_rings && !ret; q++) {
		/* Its place in the memory is where it was. */
		if (!v->rings_life)
			vring_move(&v->ring[q], v->mem + (v->ring[q].addr - v->mem_addr));
		if (v->kick[q] < 0)
			ret = make_eventfds(v, q, e);
	}
	v->rings_life = ret ? 0 : life;
	return ret;
}

/* ---- to the peer ---- */

static void kick_peer(struct vhost_dev *v, unsigned q)
{
	uint64_t one = 1;

	/* Fails only when the counter is full: then he has not looked yet. */
	if (write(v->kick[q], &one, sizeof(one)) < 0)
		return;
}

/* Takes chains from the guest; 0, or why the device is broken. */
static int take(struct vhost_dev *v, unsigned q, unsigned *budget)
{
	struct vhost_ring *r = &v->ring[q];
	struct vq *vq = &v->d.vq[q];
	int ret = 0;

	r->full = false;
	while (*budget && (ret = vq_get(vq, &v->chain)) > 0) {
		--*budget;
		ret = vring_add(r, &v->chain);
		if (ret > 0)
			continue;
		if (!ret) {
			vq_unget(vq);
			r->full = true;
		}
		break;
	}
	return MIN(ret, 0);
}

void vhost_dev_kick(struct virtio_dev *d, unsigned q)
{
	struct vhost_dev *v = of(d);
	struct vq *vq = &d->vq[q];
	unsigned budget = KICK_BUDGET;
	int ret;

	if (q >= v->n_rings) {
		if (v->front->kick)
			v->front->kick(v, q);
		return;
	}
	/* What waits in the ring is looked at when he comes. */
	if (!v->running)
		return;
	vq_kick_enable(vq, false);
	ret = take(v, q, &budget);
	if (vring_publish(&v->ring[q]))
		kick_peer(v, q);
	if (ret == -ENOMEM)
		virtio_dev_broken(d, "no memory for a request");
	else if (ret)
		virtio_dev_broken(d, "a request that no peer can be given, or a damaged ring");
	else if (!v->ring[q].full && (!budget || vq_kick_enable(vq, true)))
		virtio_dev_ring(d, q);
}

/* ---- from the peer ---- */

static void cut_off(struct vhost_dev *v, const char *why)
{
	v->running = v->starting = false;
	v->peer->ops->drop(v->peer, why);
}

/* One turn; false: he is cut off.  *more: there is more. */
static bool collect(struct vhost_dev *v, unsigned q, bool *more)
{
	struct vhost_ring *r = &v->ring[q];
	int n = vring_collect(r, &v->d.vq[q], r->size);

	if (n < 0) {
		vq_flush(&v->d.vq[q]);
		cut_off(v, "it returns requests that it does not have");
		return false;
	}
	v->stats.returned += (unsigned)n;
	vq_flush(&v->d.vq[q]);
	*more = vring_call_enable(r);
	return true;
}

/* The loop_fd belongs to the queue whose place in the array it has. */
static void called(void *opaque, uint32_t events)
{
	struct vhost_ring *r = opaque;
	struct vhost_dev *v = r->owner;
	unsigned q = (unsigned)(r - v->ring);
	uint64_t one = 1;
	bool more;

	if (read(v->call[q].fd, &one, sizeof(one)) < 0 || !v->running || !collect(v, q, &more))
		return;
	one = 1;
	/* In another turn: he may go on for ever. */
	if (more && write(v->call[q].fd, &one, sizeof(one)) < 0)
		return;
	if (r->full)
		virtio_dev_ring(&v->d, q);
}

/* ---- coming and going ---- */

/* The peer has no rings any more.  What he has returned before counts. */
static void lost(struct vhost_dev *v)
{
	for (unsigned q = 0; q < v->n_rings && v->running; q++) {
		int n = vring_collect(&v->ring[q], &v->d.vq[q], v->ring[q].size);

		v->stats.returned += (unsigned)MAX(n, 0);
		vq_flush(&v->d.vq[q]);
	}
	v->running = v->starting = false;
	for (unsigned q = 0; q < v->n_rings; q++)
		vring_stopped(&v->ring[q]);
}

static void unfit(struct vhost_dev *v, const char *what, uint64_t bits)
{
	v->unfit = true;
	log_warn("%s: the vhost peer that has come cannot go on with this guest: %s (0x%llx); the device waits for the guest's reset", v->d.id, what,
		 (unsigned long long)bits);
	virtio_dev_fail(&v->d);
}

/* What saved state says he had is walked, and held. */
static int walk_again(struct vhost_dev *v)
{
	int ret = 0;

	for (uint32_t i = 0; i < v->n_again && !ret; i++) {
		unsigned q = ld_le16(v->again + (size_t)i * AGAIN_BYTES);
		uint16_t head = ld_le16(v->again + (size_t)i * AGAIN_BYTES + 2);

		ret = vq_get_again(&v->d.vq[q], head, &v->chain);
		if (!ret)
			ret = vring_hold(&v->ring[q], &v->chain);
	}
	free(v->again);
	v->again = NULL;
	v->n_again = 0;
	return ret;
}

static void plan(struct vhost_dev *v, uint64_t features)
{
	struct vhost_plan *p = &v->plan;
	struct mem *mem = v->d.m->mem;

	p->features = features;
	p->n_regions = 2;
	p->region[0] = (struct vhost_region){ 0, mem_ram_size(mem), mem_ram_host(mem), mem_ram_fd(mem) };
	p->region[1] = (struct vhost_region){ v->mem_addr, v->mem_bytes, v->mem, v->mem_fd };
	p->n_rings = v->n_rings;
	for (unsigned q = 0; q < v->n_rings; q++) {
		vring_prepare(&v->ring[q], features & VIRTIO_F_EVENT_IDX, features & VIRTIO_F_INDIRECT_DESC);
		vring_plan(&v->ring[q], &p->ring[q]);
		p->ring[q].kick = v->kick[q];
		p->ring[q].call = v->call[q].fd;
	}
}

/* He is there and idle, and the guest's driver wants to work. */
static void begin(struct vhost_dev *v, const struct vhost_news *n)
{
	uint64_t wants = v->d.driver_features & v->front->peer_features;
	uint64_t ours = VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
	struct err e;

	if (wants & ~n->features) {
		unfit(v, "it lacks features that the driver uses", wants & ~n->features);
		return;
	}
	if (n->queues && n->queues < v->n_rings) {
		unfit(v, "it has fewer queues", n->queues);
		return;
	}
	for (unsigned q = 0; q < v->n_rings; q++)
		if (!(n->features & VIRTIO_F_INDIRECT_DESC) && vring_needs_table(&v->ring[q])) {
			unfit(v, "it lacks indirect descriptors, which a request needs", VIRTIO_F_INDIRECT_DESC);
			return;
		}
	if (v->n_again && walk_again(v)) {
		virtio_dev_broken(&v->d, "a request of its saved state is damaged");
		return;
	}
	if (renew(v, n->life, &e)) {
		v->peer->ops->drop(v->peer, e.msg);
		return;
	}
	plan(v, wants | VIRTIO_F_VERSION_1 | (n->features & ours));
	v->starting = true;
	v->peer->ops->start(v->peer, n->life, &v->plan);
}

/* His rings run. */
static void go(struct vhost_dev *v)
{
	v->starting = false;
	v->running = true;
	for (unsigned q = 0; q < v->n_rings; q++) {
		v->stats.repeated += v->ring[q].n_held;
		vring_offer_held(&v->ring[q]);
		vring_call_enable(&v->ring[q]);
		vring_publish(&v->ring[q]);
		/* He begins with a kick, whatever is there (vhost-user.rst, "Ring states"). */
		kick_peer(v, q);
		virtio_dev_ring(&v->d, q);
	}
}

/* Both locks. */
static void tell_config(void *opaque)
{
	struct vhost_dev *v = opaque;

	virtio_dev_config_changed(&v->d);
}

static void vhost_sync(struct vhost_dev *v)
{
	struct vhost_news n;

	v->peer->ops->look(v->peer, &n);
	if (n.life != v->life || (n.state != VHOST_RUNNING && v->running)) {
		lost(v);
		if (n.life != v->life) {
			v->unfit = false;
			v->stats.lives++;
		}
		v->life = n.life;
	}
	if (n.state == VHOST_AWAY) {
		v->starting = false;
		return;
	}
	if (n.config_serial != v->config_serial) {
		v->config_serial = n.config_serial;
		if (v->front->config && v->front->config(v, &n))
			virtio_dev_defer(&v->d, &v->config_work);
	}
	if (!(v->d.status & VIRTIO_S_FEATURES_OK))
		v->d.host_features = offered(v, &n);
	if (n.state == VHOST_THERE && !v->starting && !v->unfit && v->d.started && !v->d.paused)
		begin(v, &n);
	else if (n.state == VHOST_RUNNING && v->starting)
		go(v);
}

static void changed(void *opaque)
{
	vhost_sync(opaque);
}

/* ---- stopping ---- */

static unsigned under_way(const struct vhost_dev *v)
{
	unsigned n = 0;

	for (unsigned q = 0; q < v->n_rings; q++)
		if (v->front->drained & BIT64(q))
			n += v->ring[q].n_offered;
	return n;
}

/* Waits until all that is to end has ended.  The loop cannot do it meanwhile: its lock is held here. */
static void drain(struct vhost_dev *v)
{
	int64_t deadline = loop_now_ns() + v->drain_ns;
	struct pollfd p[VHOST_MAX_RINGS];
	struct vhost_news n;
	bool more;

	for (;;) {
		for (unsigned q = 0; q < v->n_rings; q++)
			if (!collect(v, q, &more))
				return;
		v->peer->ops->look(v->peer, &n);
		if (!under_way(v) || n.state != VHOST_RUNNING || n.life != v->life)
			return;
		if (loop_now_ns() > deadline) {
			cut_off(v, "requests that do not end in time");
			return;
		}
		for (unsigned q = 0; q < v->n_rings; q++) {
			uint64_t was;

			p[q] = (struct pollfd){ .fd = v->call[q].fd, .events = POLLIN };
			if (read(p[q].fd, &was, sizeof(was)) > 0)
				p[q].fd = -1;	/* looked at in the next round, at once */
		}
		poll(p, v->n_rings, DRAIN_STEP_MS);
	}
}

/* Afterwards the peer has nothing of the guest's. */
static void halt(struct vhost_dev *v, bool reset)
{
	if (!v->running && !v->starting)
		return;
	if (v->running)
		drain(v);
	v->peer->ops->stop(v->peer, reset);
	lost(v);
}

void vhost_dev_start(struct virtio_dev *d)
{
	vhost_sync(of(d));
}

void vhost_dev_pause(struct virtio_dev *d)
{
	halt(of(d), false);
}

void vhost_dev_resume(struct virtio_dev *d)
{
	vhost_sync(of(d));
}

static void forget(struct vhost_dev *v, unsigned q)
{
	vring_forget(&v->ring[q]);
}

void vhost_dev_reset(struct virtio_dev *d)
{
	struct vhost_dev *v = of(d);
	struct vhost_news n;

	halt(v, true);
	for (unsigned q = 0; q < v->n_rings; q++)
		forget(v, q);
	free(v->again);
	v->again = NULL;
	v->n_again = 0;
	v->unfit = false;
	v->peer->ops->look(v->peer, &n);
	if (n.life)
		d->host_features = offered(v, &n);
}

/* The device has gone on meanwhile, perhaps with what it held of this queue. */
void vhost_dev_queue_reset(struct virtio_dev *d, unsigned q)
{
	struct vhost_dev *v = of(d);

	if (q >= v->n_rings)
		return;
	halt(v, false);
	forget(v, q);
	vhost_sync(v);
}

/* ---- saved state ---- */

struct state {
	uint32_t n_again;
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct state, n_again),
	SNAP_END,
};
static const struct snap_table table = { "vhost", 1, fields };

static void blob_id(const struct virtio_dev *d, char id[48])
{
	snprintf(id, 48, "%s.held", d->id);
}

static uint8_t *list_held(const struct vhost_dev *v, uint32_t *n)
{
	uint8_t *p;

	*n = v->n_again;
	for (unsigned q = 0; q < v->n_rings; q++)
		*n += v->ring[q].n_held;
	p = malloc((size_t)*n * AGAIN_BYTES + 1);
	if (!p)
		return NULL;
	if (v->n_again)
		memcpy(p, v->again, (size_t)v->n_again * AGAIN_BYTES);
	*n = v->n_again;
	for (unsigned q = 0; q < v->n_rings; q++)
		list_for_each(node, &v->ring[q].held) {
			const struct vring_chain *h = list_entry(node, struct vring_chain, node);

			st_le16(p + (size_t)*n * AGAIN_BYTES, (uint16_t)q);
			st_le16(p + (size_t)*n * AGAIN_BYTES + 2, h->guest_head);
			++*n;
		}
	return p;
}

int vhost_dev_save(struct virtio_dev *d, struct snap_out *o)
{
	struct state s;
	uint8_t *p = list_held(of(d), &s.n_again);
	char id[48];
	int ret;

	if (!p)
		return -ENOMEM;
	ret = snap_put(o, d->id, &table, &s);
	blob_id(d, id);
	if (!ret)
		ret = snap_put_blob(o, id, p, s.n_again * AGAIN_BYTES);
	free(p);
	return ret;
}

/* All that can be looked at without the guest's memory, which may not be there yet. */
static bool sane(const struct vhost_dev *v)
{
	unsigned n[VHOST_MAX_RINGS] = { 0 };

	for (uint32_t i = 0; i < v->n_again; i++) {
		unsigned q = ld_le16(v->again + (size_t)i * AGAIN_BYTES);

		if (q >= v->n_rings || ++n[q] > v->d.vq[q].in_flight)
			return false;
	}
	for (unsigned q = 0; q < v->n_rings; q++)
		if (n[q] != v->d.vq[q].in_flight)
			return false;
	return true;
}

int vhost_dev_load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct vhost_dev *v = of(d);
	struct state s = { 0 };
	uint32_t len = 0;
	char id[48];
	int ret = snap_get(in, d->id, &table, &s, e);

	if (ret)
		return ret;
	if (s.n_again > v->n_rings * VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "saved state of %s is damaged: %u requests under way", d->id, s.n_again);
	free(v->again);
	v->n_again = s.n_again;
	v->again = malloc((size_t)s.n_again * AGAIN_BYTES + 1);
	if (!v->again)
		return err_set(e, -ENOMEM, "out of memory");
	blob_id(d, id);
	ret = snap_get_blob(in, id, v->again, s.n_again * AGAIN_BYTES, &len, e);
	if (!ret && (len != s.n_again * AGAIN_BYTES || !sane(v)))
		ret = err_set(e, -EINVAL, "saved state of %s is damaged: its requests are not those of its queues", d->id);
	if (ret)
		v->n_again = 0;
	return ret;
}

/* ---- birth and death ---- */

static void free_rings(struct vhost_dev *v)
{
	for (unsigned q = 0; q < v->n_rings; q++) {
		free_eventfds(v, q);
		vring_fini(&v->ring[q]);
	}
	free_memory(v);
	free(v->again);
}

static int make_rings(struct vhost_dev *v, const uint16_t *sizes, struct err *e)
{
	uint64_t off = 0;
	int ret;

	for (unsigned q = 0; q < v->n_rings; q++)
		v->mem_bytes += vring_bytes(sizes[q]);
	v->mem_addr = align_up(mem_ram_size(v->d.m->mem), RINGS_ALIGN);
	v->peer->ring_bytes = v->mem_bytes;
	ret = map_memory(v, vhost_shared_new(v->mem_bytes), e);
	for (unsigned q = 0; q < v->n_rings && !ret; q++) {
		ret = vring_init(&v->ring[q], v->d.m->mem, sizes[q], v->mem + off, v->mem_addr + off);
		if (ret)
			return err_set(e, ret, "out of memory");
		v->ring[q].owner = v;
		ret = make_eventfds(v, q, e);
		off += vring_bytes(sizes[q]);
	}
	return ret;
}

int vhost_dev_init(struct vhost_dev *v, struct machine *m, const struct virtio_dev_ops *ops, const char *id, uint64_t own_features, uint32_t config_len,
		   unsigned n_queues, const uint16_t *sizes, unsigned n_rings, struct err *e)
{
	struct vhost_news n;
	int ret;

	if (mem_ram_fd(m->mem) < 0)
		return err_set(e, -ENOTSUP, "%s: this guest's memory is a private view of its snapshot, which no other process can share", id);
	v->own_features = own_features;
	v->drain_ns = DRAIN_NS;
	v->mem_fd = -1;
	v->n_rings = n_rings;
	for (unsigned q = 0; q < n_rings; q++)
		v->kick[q] = v->call[q].fd = -1;
	v->config_work = (struct iothread_work){ .cb = tell_config, .opaque = v };
	ret = virtio_dev_init(&v->d, m, ops, id, 0, config_len, n_queues, sizes);
	if (ret)
		return err_set(e, ret, "%s: no file descriptors left", id);
	virtio_dev_lock(&v->d);
	ret = make_rings(v, sizes, e);
	if (!ret) {
		v->peer->ops->look(v->peer, &n);
		v->peer->opaque = v;
		v->peer->changed = changed;
		v->d.host_features = offered(v, &n);
		vhost_sync(v);
	} else {
		free_rings(v);
		virtio_dev_fini(&v->d);
	}
	virtio_dev_unlock(&v->d);
	return ret;
}

void vhost_dev_fini(struct vhost_dev *v)
{
	virtio_dev_lock(&v->d);
	v->peer->ops->free(v->peer);
	virtio_dev_cancel(&v->d, &v->config_work);
	free_rings(v);
	virtio_dev_fini(&v->d);
	virtio_dev_unlock(&v->d);
}
