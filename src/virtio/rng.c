/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The entropy device (virtio 1.2, 5.4): each buffer is filled from
 * getrandom(2), straight into guest memory.
 *
 * One request is answered with at most MAX_FILL bytes, which the specification
 * allows, so that a guest cannot hold the loop with a giant buffer.  With a
 * rate limit a period's budget is spent, then the queue waits for the timer.
 */
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/bits.h"

#define QUEUE_SIZE 64
#define MAX_FILL 16384

struct rng {
	struct virtio_dev dev;		/* first */
	uint64_t rate_bytes, rate_left;
	int64_t rate_period_ns;
	struct vtimer timer;		/* end of the period; armed while waiting or spending */
	struct vq_chain chain;
};

static struct rng *of(struct virtio_dev *d)
{
	return container_of(d, struct rng, dev);
}

/* Fills the writable part; returns the bytes written, less than asked only
 * when the kernel failed or was interrupted. */
static uint64_t fill(const struct vq_chain *c, uint64_t limit)
{
	uint64_t done = 0;

	for (unsigned i = c->n_read; i < (unsigned)c->n_read + c->n_write && done < limit; i++) {
		size_t want = MIN(c->iov[i].iov_len, limit - done);
		ssize_t n = getrandom(c->iov[i].iov_base, want, GRND_NONBLOCK);

		if (n <= 0)
			break;
		done += (uint64_t)n;
		if ((size_t)n < want)
			break;
	}
	return done;
}

static uint64_t budget(struct rng *r)
{
	struct clock *clock = r->dev.m->clock;

	if (!r->rate_bytes)
		return MAX_FILL;
	if (!vtimer_armed(&r->timer)) {
		r->rate_left = r->rate_bytes;
		vtimer_arm(&r->timer, clock_now(clock) + r->rate_period_ns);
	}
	return MIN(r->rate_left, (uint64_t)MAX_FILL);
}

static void kick(struct virtio_dev *d, unsigned q)
{
	struct rng *r = of(d);
	struct vq *vq = &d->vq[q];
	unsigned batch = QUEUE_SIZE;
	uint64_t limit, n;
	int ret = 0;

	vq_kick_enable(vq, false);
	while ((limit = budget(r)) && batch-- && (ret = vq_get(vq, &r->chain)) > 0) {
		n = fill(&r->chain, limit);
		r->rate_left -= MIN(n, r->rate_left);
		vq_put(vq, &r->chain, n);
	}
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(d, "entropy queue");
	else if (limit && vq_kick_enable(vq, true))
		virtio_dev_ring(d, q);	/* more came, or the batch ended: in another turn */
}

/* The period is over.  Paused time does not count: the timer is virtual. */
static void period_over(void *opaque)
{
	struct rng *r = opaque;

	if (r->dev.started && !r->dev.paused && r->dev.vq[0].ready)
		kick(&r->dev, 0);
}

static void reset(struct virtio_dev *d)
{
	vtimer_cancel(&of(d)->timer);
}

static void queue_reset(struct virtio_dev *d, unsigned q)
{
}

static void release(struct virtio_dev *d)
{
	vtimer_cancel(&of(d)->timer);
	virtio_dev_fini(d);
	free(of(d));
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-rng",
	.device_id = 4,
	.pci_class = 0x00ff00,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.free = release,
};

int virtio_rng_new(struct machine *m, const char *id, struct virtio_dev **out, struct err *e)
{
	static const uint16_t sizes[] = { QUEUE_SIZE };
	struct rng *r = calloc(1, sizeof(*r));
	int ret;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	vtimer_init(m->clock, &r->timer, period_over, r);
	ret = virtio_dev_init(&r->dev, m, &ops, id, 0, 0, ARRAY_LEN(sizes), sizes);
	if (ret) {
		free(r);
		return err_set(e, ret, "cannot create entropy device %s: no file descriptors left", id);
	}
	*out = &r->dev;
	return 0;
}

void virtio_rng_set_rate(struct virtio_dev *d, uint64_t bytes, uint32_t period_ms)
{
	struct rng *r = of(d);

	r->rate_bytes = bytes;
	r->rate_period_ns = (int64_t)MAX(period_ms, 1u) * 1000000;
	vtimer_cancel(&r->timer);
}
