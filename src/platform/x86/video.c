// SPDX-License-Identifier: GPL-2.0-or-later
/* The VGA of pc, by itself or in one card with virtio-gpu: its memory lies behind the guest's in the RAM backing. */
#include "device/vga.h"
#include "platform/x86/priv.h"
#include "virtio/gpu.h"

#include <errno.h>

static int virtio_vga(struct platform *p, const struct vga_config *c, struct err *e)
{
	struct virtio_dev *gpu;
	struct pci_part part;
	int r = vga_part_new(p->m, c, &part, e);

	if (r)
		return r;
	r = virtio_gpu_new(p->m, "gpu0", p->cfg.gpu, &gpu, e);
	if (r) {
		part.ops->free(part.opaque);
		return r;
	}
	r = virtio_pci_new_vga(p->m, p->pci, LAYOUT_PCI_VGA, gpu, &part, e);
	if (r)
		gpu->ops->free(gpu);
	return r;
}

int video_build(struct platform *p, struct err *e)
{
	const struct vga_config c = {
		.display = p->cfg.display,
		.vram_offset = p->cfg.mem_size,
		.vram_size = p->cfg.vram_size,
		.window = LAYOUT_LOW_END,
		.ports = LAYOUT_PORT_VGA,
		.dispi = LAYOUT_PORT_DISPI,
	};

	if (!p->cfg.vram_size)
		return 0;
	if (!p->pci)
		return err_set(e, -EINVAL, "a VGA needs PCI, which this machine has not");
	return p->cfg.gpu ? virtio_vga(p, &c, e) : vga_new(p->m, p->pci, LAYOUT_PCI_VGA, &c, e);
}
