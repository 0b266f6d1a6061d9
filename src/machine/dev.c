/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Registration of devices; their order is that of reset. */
#include "machine/dev.h"

#include <stdio.h>

#include "machine/machine.h"

void dev_add(struct machine *m, struct dev *d, const struct dev_ops *ops, const char *id)
{
	struct list *after = m->devs.prev;

	d->ops = ops;
	d->m = m;
	snprintf(d->id, sizeof(d->id), "%s", id);
	d->rank = m->rank;
	while (after != &m->devs && list_entry(after, struct dev, node)->rank > d->rank)
		after = after->prev;
	list_add_tail(after->next, &d->node);
}

void dev_del(struct dev *d)
{
	if (!d->m)
		return;
	list_del(&d->node);
	d->m = NULL;
}
