/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A floppy disk controller of the 82077/82078 family in AT mode (Intel 82078 64-pin data sheet 290475), with two drives for raw
 * images of the usual sizes.  Data moves by DMA, or byte by byte where the guest wants that (SPECIFY's ND).
 */
#ifndef LODGE_DEVICE_I82078_H
#define LODGE_DEVICE_I82078_H

#include "chipset/i8237.h"
#include "machine/irq.h"
#include "storage/disk.h"

#define I82078_DRIVES 2

struct i82078;

struct i82078_config {
	uint16_t base;			/* ports base..base+5 and base+7 */
	struct irq irq;
	struct i8237 *dma;		/* outlives it */
	unsigned channel;		/* of the DMA controller: 0 to 3 */
};

/* 0, -ENOMEM, or what the bus says.  The machine owns it.  Machine lock held, here and below. */
int i82078_new(struct machine *m, const struct i82078_config *c, struct i82078 **out);
/*
 * The drive n, below I82078_DRIVES, of the kind that takes the image, or without a medium (an empty node) of the kind that takes
 * every one of 3.5 inches.  The node, a slot (block/graph.h) on the machine's loop, is the controller's on success; o->io is NULL.  Before the machine runs.
 * EEXIST, EINVAL (the image has no floppy's size; options)
 */
int i82078_add(struct i82078 *f, unsigned n, const char *id, struct blk_node *node, const struct disk_opts *o, struct err *e);
/* NULL: no such drive */
struct disk *i82078_disk(struct i82078 *f, unsigned n);

/* Kinds of drives as CMOS and BIOS number them. */
enum i82078_kind { I82078_NONE, I82078_360K, I82078_1200K, I82078_720K, I82078_1440K, I82078_2880K };
enum i82078_kind i82078_kind(const struct i82078 *f, unsigned n);
/* Of the largest medium that such a drive takes. */
struct i82078_geometry {
	uint8_t cylinders, heads, sectors;
};
struct i82078_geometry i82078_geometry(enum i82078_kind kind);

#endif
