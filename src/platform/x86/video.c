// SPDX-License-Identifier: GPL-2.0-or-later
/* The VGA of pc: its memory lies behind the guest's in the RAM backing. */
#include "device/vga.h"
#include "platform/x86/priv.h"

#include <errno.h>

int video_build(struct platform *p, struct err *e)
{
	const struct vga_config c = {
		.bus = p->pci,
		.devfn = LAYOUT_PCI_VGA,
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
	return vga_new(p->m, &c, e);
}
