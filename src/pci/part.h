/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of a PCI function that another device brings: a VGA beside virtio-gpu
 * in one card.  The function's owner calls it at the moments its own pci_dev_ops
 * would be; machine lock held.
 */
#ifndef LODGE_PCI_PART_H
#define LODGE_PCI_PART_H

#include "pci/pci.h"

struct pci_part_ops {
	/* The function is initialized: BARs and legacy ranges are to be added. */
	int (*attach)(void *opaque, struct pci_dev *p, struct err *e);
	void (*bars_changed)(void *opaque);
	void (*reset)(void *opaque);
	int (*save)(void *opaque, struct snap_out *o);
	int (*load)(void *opaque, struct snap_in *in, struct err *e);
	/* Attached or not, whether that worked or not; if it was, pci_dev_fini has been called. */
	void (*free)(void *opaque);
	/* Registers, PCI_PART_MMIO_SIZE bytes, that the owner shows in a BAR of its own. */
	const struct bus_ops *mmio;
};

#define PCI_PART_MMIO_SIZE 4096u

struct pci_part {
	const struct pci_part_ops *ops;
	void *opaque;
};

#endif
