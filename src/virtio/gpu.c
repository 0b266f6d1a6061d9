// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * virtio-gpu as a device: queues, configuration space, life cycle.
 *
 * A command is answered when it is done, so a fence (5.7.6.7) is signalled by the
 * answer itself.  How much is copied in one turn of the loop is bounded.
 */
#include "virtio/gpu_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONTROL_SIZE 64
#define CURSOR_SIZE 16
#define BATCH 16			/* commands a turn of the loop */
#define BATCH_BYTES (16ull << 20)	/* copied in a turn; the command that goes beyond is the last */

/* struct virtio_gpu_config, 5.7.4 */
enum { CFG_EVENTS_READ = 0, CFG_EVENTS_CLEAR = 4, CFG_NUM_SCANOUTS = 8, CFG_NUM_CAPSETS = 12, CONFIG_LEN = 16 };

static void kick(struct virtio_dev *d, unsigned q)
{
	struct gpu *g = gpu_of(d);
	struct vq *vq = &d->vq[q];
	unsigned batch = BATCH;
	int ret = 0;

	vq_kick_enable(vq, false);
	g->copied = 0;
	while (batch-- && g->copied < BATCH_BYTES && (ret = vq_get(vq, &g->chain)) > 0)
		vq_put(vq, &g->chain, q == GPU_Q_CONTROL ? gpu_control(g, &g->chain) : gpu_cursor_command(g, &g->chain));
	vq_flush(vq);
	if (ret < 0)
		virtio_dev_broken(d, q == GPU_Q_CONTROL ? "control queue" : "cursor queue");
	else if (vq_kick_enable(vq, true))
		virtio_dev_ring(d, q);
}

static void config_read(struct virtio_dev *d, uint32_t off, void *buf, unsigned len)
{
	struct gpu *g = gpu_of(d);
	uint8_t config[CONFIG_LEN] = { 0 };

	st_le32(config + CFG_EVENTS_READ, g->events);
	st_le32(config + CFG_NUM_SCANOUTS, g->outputs);
	memcpy(buf, config + off, len);
}

/* Only events_clear is the driver's (5.7.4.2). */
static void config_write(struct virtio_dev *d, uint32_t off, const void *buf, unsigned len)
{
	struct gpu *g = gpu_of(d);
	uint8_t config[CONFIG_LEN] = { 0 };

	memcpy(config + off, buf, len);
	g->events &= ~ld_le32(config + CFG_EVENTS_CLEAR);
}

static void reset(struct virtio_dev *d)
{
	struct gpu *g = gpu_of(d);

	gpu_blank(g);
	gpu_destroy_all(g);
	g->events = 0;
}

/* Nothing is held of a queue. */
static void queue_reset(struct virtio_dev *d, unsigned q) { }

static void release(struct virtio_dev *d)
{
	struct gpu *g = gpu_of(d);

	gpu_release_displays(g);
	gpu_destroy_all(g);
	virtio_dev_fini(d);
	free(g);
}

static const struct virtio_dev_ops ops = {
	.name = "virtio-gpu",
	.device_id = 16,
	.pci_class = 0x038000,
	.config_read = config_read,
	.config_write = config_write,
	.kick = kick,
	.reset = reset,
	.queue_reset = queue_reset,
	.save = gpu_save,
	.load = gpu_load,
	.free = release,
};

int virtio_gpu_new(struct machine *m, const char *id, const struct virtio_gpu_config *cfg, struct virtio_dev **out,
		   struct err *e)
{
	static const uint16_t sizes[] = { CONTROL_SIZE, CURSOR_SIZE };
	struct gpu *g;
	int ret;

	if (!cfg->outputs || cfg->outputs > VIRTIO_GPU_MAX_OUTPUTS)
		return err_set(e, -EINVAL, "virtio-gpu has 1 to %u outputs", VIRTIO_GPU_MAX_OUTPUTS);
	g = calloc(1, sizeof(*g));
	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->outputs = cfg->outputs;
	g->shared = cfg->shared;
	for (unsigned i = 0; i < g->outputs; i++)
		g->out[i].display = cfg->display[i];
	ret = virtio_dev_init(&g->dev, m, &ops, id, GPU_F_EDID, CONFIG_LEN, ARRAY_LEN(sizes), sizes);
	if (ret) {
		free(g);
		return err_set(e, ret, "cannot create %s: no file descriptors left", id);
	}
	gpu_attach_displays(g);
	*out = &g->dev;
	return 0;
}
