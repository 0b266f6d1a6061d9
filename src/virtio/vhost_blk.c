// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A disk that is a vhost peer's.  What it is, is in his configuration space, of which a copy is shown; what the number of queues is, is said here.
 */
#include "virtio/vhost_blk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"

/* virtio 1.2, 5.2.3: SIZE_MAX, SEG_MAX, GEOMETRY, RO, BLK_SIZE, FLUSH, TOPOLOGY, DISCARD, WRITE_ZEROES.  Not CONFIG_WCE: the cache's mode is
 * the peer's user's. */
#define F_PEER (BIT64(1) | BIT64(2) | BIT64(4) | BIT64(5) | BIT64(6) | BIT64(9) | BIT64(10) | BIT64(13) | BIT64(14))
#define F_MQ BIT64(12)
#define F_SIZE_MAX BIT64(1)

/* 5.2.4 */
#define AT_SIZE_MAX 8
#define AT_SEG_MAX 12
#define AT_NUM_QUEUES 34

#define MAX_AUTO_QUEUES 8u
#define QUEUE_SIZE 128

struct vhost_blk {
	struct vhost_dev v;		/* first */
	struct vhost_front front;
	uint8_t config[VHOST_BLK_CONFIG_LEN];
};

static struct vhost_blk *of(struct virtio_dev *d)
{
	return container_of(container_of(d, struct vhost_dev, d), struct vhost_blk, v);
}

static bool config(struct vhost_dev *v, const struct vhost_news *n)
{
	struct vhost_blk *b = container_of(v, struct vhost_blk, v);
	uint8_t now[VHOST_BLK_CONFIG_LEN] = { 0 };
	bool other;

	memcpy(now, n->config, MIN(n->config_len, VHOST_BLK_CONFIG_LEN));
	st_le16(now + AT_NUM_QUEUES, (uint16_t)v->n_rings);
	/* A chain has a header and a status, too. */
	st_le32(now + AT_SEG_MAX, MIN(ld_le32(now + AT_SEG_MAX), VHOST_RING_PIECES - 2));
	other = memcmp(now, b->config, sizeof(now));
	memcpy(b->config, now, sizeof(now));
	return other;
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	memcpy(buf, of(d)->config + off, len);
}

static void release(struct virtio_dev *d)
{
	vhost_dev_fini(&of(d)->v);
	free(of(d));
}

static const struct virtio_dev_ops ops = {
	.name = "vhost-user-blk",
	.device_id = 2,
	.pci_class = 0x010000,
	.config_read = config_read,
	.start = vhost_dev_start,
	.kick = vhost_dev_kick,
	.reset = vhost_dev_reset,
	.queue_reset = vhost_dev_queue_reset,
	.pause = vhost_dev_pause,
	.resume = vhost_dev_resume,
	.save = vhost_dev_save,
	.load = vhost_dev_load,
	.free = release,
};

static int check(const char *id, const struct vhost_blk_opts *o, unsigned queues, uint16_t size, const struct vhost_news *n, struct err *e)
{
	if (queues > MIN(VIRTIO_MAX_QUEUES, VHOST_MAX_RINGS))
		return err_set(e, -EINVAL, "disk %s: %u queues, but 1 to %d are possible", id, queues, MIN(VIRTIO_MAX_QUEUES, VHOST_MAX_RINGS));
	if (!is_pow2(size) || size < 8 || size > VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "disk %s: queue size %u is not a power of two from 8 to %d", id, size, VQ_MAX_SIZE);
	if (n->queues && n->queues < queues)
		return err_set(e, -ENOTSUP, "disk %s: %u queues, but its vhost-user peer has %u", id, queues, n->queues);
	if (queues > 1 && !(n->features & F_MQ))
		return err_set(e, -ENOTSUP, "disk %s: %u queues, but its vhost-user peer has one", id, queues);
	return 0;
}

static unsigned auto_queues(const struct machine *m, const struct vhost_news *n)
{
	unsigned most = n->queues && n->features & F_MQ ? n->queues : 1;

	return MAX(MIN(MIN(m->n_vcpus, MAX_AUTO_QUEUES), most), 1u);
}

int vhost_blk_new(struct machine *m, const char *id, struct vhost *peer, const struct vhost_blk_opts *o, struct virtio_dev **out, struct err *e)
{
	uint16_t sizes[VIRTIO_MAX_QUEUES], size = o->queue_size ? o->queue_size : QUEUE_SIZE;
	struct vhost_blk *b;
	struct vhost_news n;
	unsigned queues;
	int ret;

	peer->ops->look(peer, &n);
	queues = o->queues ? o->queues : auto_queues(m, &n);
	ret = check(id, o, queues, size, &n, e);
	if (ret)
		return ret;
	for (unsigned q = 0; q < queues; q++)
		sizes[q] = size;
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	b->front = (struct vhost_front){ .peer_features = F_PEER | (queues > 1 ? F_MQ : 0), .drained = UINT64_MAX, .config = config };
	/* QEMU's storage daemon offers it, and says nothing: a driver would then take the smallest there is, 4 KiB. */
	if (!ld_le32(n.config + AT_SIZE_MAX))
		b->front.peer_features &= ~F_SIZE_MAX;
	b->v.front = &b->front;
	b->v.peer = peer;
	b->v.d.io = o->io;
	ret = vhost_dev_init(&b->v, m, &ops, id, 0, VHOST_BLK_CONFIG_LEN, queues, sizes, queues, e);
	if (ret) {
		free(b);
		return ret;
	}
	*out = &b->v.d;
	return 0;
}
