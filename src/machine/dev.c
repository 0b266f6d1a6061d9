/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registration of devices; the order of registration is the order of reset. */
#include "machine/dev.h"

#include <stdio.h>

#include "machine/machine.h"

void dev_add(struct machine *m, struct dev *d, const struct dev_ops *ops, const char *id)
{
	d->ops = ops;
	d->m = m;
	snprintf(d->id, sizeof(d->id), "%s", id);
	list_add_tail(&m->devs, &d->node);
}

void dev_del(struct dev *d)
{
	if (!d->m)
		return;
	list_del(&d->node);
	d->m = NULL;
}
