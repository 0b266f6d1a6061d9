/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VGA with the Bochs VBE extensions ("dispi"): PCI 1234:1111, the adapter that
 * vgabios, OVMF, Linux's bochs-drm and Windows know from Bochs and QEMU.
 *
 * The frame buffer is a part of the guest's RAM backing, so the CPU engines treat
 * it as memory wherever BAR 0 shows it; the window at 0xa0000 is trapped.  What was
 * written is found by watching the pages (machine/mem.h), while somebody looks.
 */
#ifndef LODGE_DEVICE_VGA_H
#define LODGE_DEVICE_VGA_H

#include <stdint.h>

#include "base/err.h"
#include "pci/part.h"

struct display;
struct machine;

#define VGA_VRAM_MIN (1ull << 20)
#define VGA_VRAM_MAX (256ull << 20)

struct vga_config {
	struct display *display;	/* outlives the card */
	uint64_t vram_offset;		/* in the RAM backing; nobody else's */
	uint64_t vram_size;		/* a power of two from VGA_VRAM_MIN to VGA_VRAM_MAX */
	uint64_t window;		/* 0xa0000: 128 KiB */
	uint16_t ports, dispi;		/* 0x3b0: 48 ports; 0x1ce: index, and data next to it */
};

/* Machine lock held.  The card belongs to the machine. */
int vga_new(struct machine *m, struct pci_bus *bus, int devfn, const struct vga_config *cfg, struct err *e);
/* A VGA that is a part of another card: BAR 0 and the legacy addresses are its own, registers are shown by the card.  It
 * belongs to the card once that has taken it. */
int vga_part_new(struct machine *m, const struct vga_config *cfg, struct pci_part *out, struct err *e);

#endif
