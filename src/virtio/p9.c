// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio-9p: one queue, whose chains are a message and room for its answer.
 *
 * Both are copied: a request works on memory of the host's alone, so neither a guest
 * that changes a message meanwhile nor a request that ends after a reset does any
 * harm, and reset waits for nothing.  How much may be under way is bounded by the
 * queue's size and by BYTES_MAX; the rest stays in the ring.
 *
 * Answers come on the server's threads.  One that gets the machine lock without
 * waiting puts them into the ring itself, which saves a wake-up; else the loop does.
 */
#include "virtio/p9.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"

#define QUEUE_SIZE 128
#define KICK_BUDGET 256
#define BYTES_MAX (32u << 20)		/* of buffers in use */
#define KEEP_MAX 16			/* requests kept with their buffers for later */

#define F_MOUNT_TAG (1ull << 0)

_Static_assert(P9_MAX_PARKED < QUEUE_SIZE, "who has a lock can give it back");

struct vp9_config {
	uint16_t tag_len;
	char tag[VIRTIO_P9_TAG_MAX];
} __attribute__((packed));

struct vp9_req {
	struct p9_req r;		/* first */
	struct vp9 *v;
	struct list node;		/* in vp9.ended or vp9.kept */
	uint64_t life;			/* of the device, in which it came */
	uint16_t head;
	uint8_t *in, *out;
	uint32_t in_size, out_size;	/* of the buffers */
	unsigned n_write, iov_size;
	struct iovec *iov;		/* where the answer goes, in guest memory */
};

struct vp9 {
	struct virtio_dev d;		/* first */
	struct p9 *server;
	struct vp9_config cfg;
	uint64_t life;			/* grows with each reset */
	uint64_t bytes;
	bool held_back;			/* chains were left in the ring for want of BYTES_MAX */
	struct list kept;
	unsigned n_kept;
	pthread_mutex_t lock;		/* inside the machine lock, and of `ended` alone */
	struct list ended;
	struct loop_bh bh;
	struct vq_chain chain;
};

static struct vp9 *of(struct virtio_dev *d)
{
	return container_of(d, struct vp9, d);
}

/* ---- requests ---- */

static void req_free(struct vp9_req *q)
{
	free(q->in);
	free(q->out);
	free(q->iov);
	free(q);
}

static bool fit(uint8_t **buf, uint32_t *size, uint32_t want)
{
	if (*size >= want)
		return true;
	free(*buf);
	*buf = malloc(want);
	*size = *buf ? want : 0;
	return *buf;
}

static struct vp9_req *req_new(struct vp9 *v, const struct vq_chain *c, uint32_t in, uint32_t out)
{
	struct vp9_req *q;

	if (list_empty(&v->kept)) {
		q = calloc(1, sizeof(*q));
	} else {
		q = list_entry(v->kept.next, struct vp9_req, node);
		list_del(&q->node);
		v->n_kept--;
	}
	if (!q)
		return NULL;
	list_init(&q->node);
	if (q->iov_size < c->n_write) {
		free(q->iov);
		q->iov = calloc(c->n_write, sizeof(q->iov[0]));
		q->iov_size = q->iov ? c->n_write : 0;
	}
	if (!q->iov || !fit(&q->in, &q->in_size, in) || !fit(&q->out, &q->out_size, out)) {
		req_free(q);
		return NULL;
	}
	q->v = v;
	q->life = v->life;
	q->head = c->head;
	q->n_write = c->n_write;
	memcpy(q->iov, c->iov + c->n_read, c->n_write * sizeof(q->iov[0]));
	v->bytes += q->in_size + q->out_size;
	return q;
}

static void req_done(struct vp9 *v, struct vp9_req *q)
{
	v->bytes -= q->in_size + q->out_size;
	if (v->n_kept == KEEP_MAX) {
		req_free(q);
		return;
	}
	list_add_tail(&v->kept, &q->node);
	v->n_kept++;
}

/* ---- answers ---- */

static void put_answer(struct vp9 *v, const struct vp9_req *q)
{
	size_t left = iov_from_buf(q->iov, q->n_write, 0, q->r.out, q->r.out_len);
	uint32_t len = (uint32_t)left;

	for (unsigned i = 0; left && i < q->n_write; i++) {
		size_t k = MIN(left, q->iov[i].iov_len);

		mem_written_host(v->d.m->mem, q->iov[i].iov_base, k);
		left -= k;
	}
	vq_put_head(&v->d.vq[0], q->head, len);
}

/* Machine lock held: what has ended goes to the guest, unless it was reset since. */
static void collect(struct vp9 *v)
{
	bool any = false;
	struct list l;

	list_init(&l);
	pthread_mutex_lock(&v->lock);
	while (!list_empty(&v->ended)) {
		struct list *n = v->ended.next;

		list_del(n);
		list_add_tail(&l, n);
	}
	pthread_mutex_unlock(&v->lock);
	while (!list_empty(&l)) {
		struct vp9_req *q = list_entry(l.next, struct vp9_req, node);

		list_del(&q->node);
		if (q->life == v->life) {
			put_answer(v, q);
			any = true;
		}
		req_done(v, q);
	}
	if (any)
		vq_flush(&v->d.vq[0]);
	if (v->held_back && v->bytes < BYTES_MAX) {
		v->held_back = false;
		virtio_dev_ring(&v->d, 0);
	}
}

static void collect_soon(void *opaque)
{
	collect(opaque);
}

/* Any thread, the loop's with the machine lock held among them. */
static void ended(struct p9_req *r)
{
	struct vp9_req *q = container_of(r, struct vp9_req, r);
	struct vp9 *v = q->v;
	struct machine *m = v->d.m;

	pthread_mutex_lock(&v->lock);
	list_add_tail(&v->ended, &q->node);
	pthread_mutex_unlock(&v->lock);
	if (pthread_mutex_trylock(&m->lock)) {
		loop_bh_post(&v->bh);
		return;
	}
	collect(v);
	machine_unlock(m);
}

/* ---- the queue ---- */

/* 0; -EPROTO: it cannot be answered; -ENOMEM */
static int begin(struct vp9 *v, const struct vq_chain *c)
{
	struct vp9_req *q;
	uint32_t size;

	if (c->len_read < P9_HEADER || c->len_read > P9_MSIZE_MAX || c->len_write < P9_ERROR_SIZE)
		return -EPROTO;
	q = req_new(v, c, (uint32_t)c->len_read, (uint32_t)MIN(c->len_write, (uint64_t)P9_MSIZE_MAX));
	if (!q)
		return -ENOMEM;
	/* The length the header has is not that of what is there in all clients (Linux, before 4.0): the chain's counts. */
	iov_to_buf(c->iov, c->n_read, 0, q->in, c->len_read);
	size = ld_le32(q->in);
	if (size < P9_HEADER || size > c->len_read) {
		req_done(v, q);
		return -EPROTO;
	}
	q->r = (struct p9_req){
		.in = q->in, .in_len = (uint32_t)c->len_read, .out = q->out, .out_room = (uint32_t)MIN(c->len_write, (uint64_t)P9_MSIZE_MAX),
		.done = ended,
	};
	p9_submit(v->server, &q->r);
	return 0;
}

static void kick(struct virtio_dev *d, unsigned qn)
{
	struct vp9 *v = of(d);
	struct vq *vq = &d->vq[0];
	unsigned budget = KICK_BUDGET;
	int ret = 0;

	do {
		vq_kick_enable(vq, false);
		while (budget && v->bytes < BYTES_MAX && (ret = vq_get(vq, &v->chain)) == 1) {
			budget--;
			ret = begin(v, &v->chain);
			if (ret)
				break;
		}
		v->held_back = v->bytes >= BYTES_MAX;
	} while (!ret && budget && !v->held_back && vq_kick_enable(vq, true));
	if (!budget)
		virtio_dev_ring(d, 0);
	if (ret)
		virtio_dev_broken(d, ret == -ENOMEM ? "out of memory for a message" : "a message without header or room for its answer, or a damaged ring");
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	memcpy(buf, (const uint8_t *)&of(d)->cfg + off, len);
}

/* ---- life cycle ---- */

static void drain(struct virtio_dev *d)
{
	p9_drain(of(d)->server);
	collect(of(d));
}

static void reset(struct virtio_dev *d)
{
	struct vp9 *v = of(d);

	v->life++;
	v->held_back = false;
	p9_reset(v->server);
}

/* What was under way has been drained before. */
static void queue_reset(struct virtio_dev *d, unsigned q)
{
	of(d)->life++;
}

/* What the driver has in the ring is got again; what was under way has ended, since the device is paused. */
struct state {
	uint32_t bytes;			/* of the server's */
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct state, bytes),
	SNAP_END,
};
static const struct snap_table table = { "virtio-9p", 1, fields };

static void blob_id(const struct virtio_dev *d, char id[48])
{
	snprintf(id, 48, "%s.session", d->id);
}

static int save(struct virtio_dev *d, struct snap_out *o)
{
	struct state s = { 0 };
	uint8_t *p;
	char id[48];
	int ret = p9_save(of(d)->server, &p, &s.bytes);

	if (ret)
		return ret;
	ret = snap_put(o, d->id, &table, &s);
	blob_id(d, id);
	if (!ret)
		ret = snap_put_blob(o, id, p, s.bytes);
	free(p);
	return ret;
}

static int load(struct virtio_dev *d, struct snap_in *in, struct err *e)
{
	struct state s = { 0 };
	uint8_t *p;
	uint32_t len = 0;
	char id[48];
	int ret = snap_get(in, d->id, &table, &s, e);

	if (ret)
		return ret;
	if (s.bytes > P9_STATE_MAX)
		return err_set(e, -EINVAL, "saved state of %s is damaged: a session of %u bytes", d->id, s.bytes);
	p = malloc(s.bytes ? s.bytes : 1);
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	blob_id(d, id);
	ret = snap_get_blob(in, id, p, s.bytes, &len, e);
	if (!ret)
		ret = p9_load(of(d)->server, p, len, e);
	free(p);
	return ret;
}

static void release(struct virtio_dev *d)
{
	struct vp9 *v = of(d);

	v->life++;
	p9_drain(v->server);
	p9_free(v->server);
	loop_bh_cancel(&v->bh);
	collect(v);
	while (!list_empty(&v->kept)) {
		struct vp9_req *q = list_entry(v->kept.next, struct vp9_req, node);

		list_del(&q->node);
		req_free(q);
	}
	virtio_dev_fini(d);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-9p",
	.device_id = 9,
	.pci_class = 0x018000,
	.config_read = config_read,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.pause = drain,
	.save = save,
	.load = load,
	.free = release,
};

int virtio_p9_new(struct machine *m, const char *id, struct p9 *server, const char *tag, struct virtio_dev **out, struct err *e)
{
	static const uint16_t sizes[] = { QUEUE_SIZE };
	size_t len = strlen(tag);
	struct vp9 *v;
	int ret;

	if (!len || len > VIRTIO_P9_TAG_MAX)
		return err_set(e, -EINVAL, "the tag of shared folder %s has 1 to %d characters", id, VIRTIO_P9_TAG_MAX);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "out of memory");
	v->cfg.tag_len = (uint16_t)len;
	memcpy(v->cfg.tag, tag, len);
	list_init(&v->kept);
	list_init(&v->ended);
	pthread_mutex_init(&v->lock, NULL);
	loop_bh_init(m->loop, &v->bh, collect_soon, v);
	ret = virtio_dev_init(&v->d, m, &ops, id, F_MOUNT_TAG, (uint32_t)(2 + len), ARRAY_LEN(sizes), sizes);
	if (ret) {
		pthread_mutex_destroy(&v->lock);
		free(v);
		return err_set(e, ret, "shared folder %s cannot be set up: no file descriptors left", id);
	}
	v->server = server;
	*out = &v->d;
	return 0;
}
