// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio-fs: a queue for what must not wait (FORGET, INTERRUPT) and queues for requests, all of them the peer's, and a tag.
 *
 * What the guest has looked up and opened is in the peer's hands and cannot be had from him, so such a guest is not saved.
 */
#include "virtio/vhost_fs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

#define QUEUE_SIZE 128
#define CONFIG_LEN (VHOST_FS_TAG_MAX + 4u)	/* 5.11.4, without notifications */

struct vhost_fs {
	struct vhost_dev v;		/* first */
	uint8_t config[CONFIG_LEN];
};

static struct vhost_fs *of(struct virtio_dev *d)
{
	return container_of(container_of(d, struct vhost_dev, d), struct vhost_fs, v);
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	memcpy(buf, of(d)->config + off, len);
}

static int save(struct virtio_dev *d, struct snap_out *o)
{
	return -ENOTSUP;
}

static void release(struct virtio_dev *d)
{
	vhost_dev_fini(&of(d)->v);
	free(of(d));
}

static const struct virtio_dev_ops ops = {
	.name = "vhost-user-fs",
	.device_id = 26,
	.pci_class = 0x018000,
	.config_read = config_read,
	.start = vhost_dev_start,
	.kick = vhost_dev_kick,
	.reset = vhost_dev_reset,
	.queue_reset = vhost_dev_queue_reset,
	.pause = vhost_dev_pause,
	.resume = vhost_dev_resume,
	.save = save,
	.load = vhost_dev_load,
	.free = release,
};

static const struct vhost_front front = { .drained = UINT64_MAX };

int vhost_fs_new(struct machine *m, const char *id, struct vhost *peer, const char *tag, const struct vhost_fs_opts *o, struct virtio_dev **out,
		 struct err *e)
{
	uint16_t sizes[VIRTIO_MAX_QUEUES], size = o->queue_size ? o->queue_size : QUEUE_SIZE;
	unsigned queues = o->queues ? o->queues : 1;
	size_t len = strlen(tag);
	struct vhost_fs *f;
	struct vhost_news n;
	int ret;

	peer->ops->look(peer, &n);
	if (!len || len > VHOST_FS_TAG_MAX)
		return err_set(e, -EINVAL, "'%.60s': the tag of a virtiofs share has 1 to %d bytes", tag, VHOST_FS_TAG_MAX);
	if (queues > MIN(VIRTIO_MAX_QUEUES, VHOST_MAX_RINGS) - 1)
		return err_set(e, -EINVAL, "%s: %u queues, but 1 to %d are possible", id, queues, MIN(VIRTIO_MAX_QUEUES, VHOST_MAX_RINGS) - 1);
	if (!is_pow2(size) || size < 8 || size > VQ_MAX_SIZE)
		return err_set(e, -EINVAL, "%s: queue size %u is not a power of two from 8 to %d", id, size, VQ_MAX_SIZE);
	if (n.queues && n.queues < queues + 1)
		return err_set(e, -ENOTSUP, "%s: %u queues for requests, but its vhost-user peer has %u", id, queues, n.queues - 1);
	for (unsigned q = 0; q <= queues; q++)
		sizes[q] = size;
	f = calloc(1, sizeof(*f));
	if (!f)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(f->config, tag, len);
	st_le32(f->config + VHOST_FS_TAG_MAX, queues);
	f->v.front = &front;
	f->v.peer = peer;
	f->v.d.io = o->io;
	ret = vhost_dev_init(&f->v, m, &ops, id, 0, CONFIG_LEN, queues + 1, sizes, queues + 1, e);
	if (ret) {
		free(f);
		return ret;
	}
	*out = &f->v.d;
	return 0;
}
