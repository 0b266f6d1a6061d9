/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every device is to the machine: a name and a life cycle.
 *
 * A device embeds `struct dev` first and is registered by its constructor with
 * dev_add; all methods run with the machine lock held, in the order of their ranks and then of registration
 * (free: in reverse).  Only reset is mandatory.
 */
#ifndef LODGE_MACHINE_DEV_H
#define LODGE_MACHINE_DEV_H

#include "base/err.h"
#include "base/list.h"
#include "machine/snap.h"

struct machine;
struct dev;

struct dev_ops {
	const char *name;			/* part number or virtio name: "i8259" */
	void (*reset)(struct dev *);		/* power-on values */
	void (*pause)(struct dev *);		/* no more guest-visible change until resume; requests in
						 * flight are finished or held back */
	void (*resume)(struct dev *);
	int (*save)(struct dev *, struct snap_out *);	/* while paused */
	int (*load)(struct dev *, struct snap_in *, struct err *);
	void (*free)(struct dev *);		/* unregisters everything, frees the device */
};

struct dev {
	const struct dev_ops *ops;
	struct machine *m;
	char id[32];				/* unique: "pc.i8259", "pci.0:3.0" */
	struct list node;
	unsigned rank;			/* machine.rank when it was added */
};

void dev_add(struct machine *m, struct dev *d, const struct dev_ops *ops, const char *id);
void dev_del(struct dev *d);

#endif
