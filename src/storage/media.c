// SPDX-License-Identifier: GPL-2.0-or-later
/* Images that go into a drive's slot and out of it, when nothing reads them. */
#include "storage/media.h"

#include <errno.h>

#include "block/disk.h"
#include "block/graph.h"

int disk_take_medium(struct disk *d)
{
	struct blk_node *slot = d->node, *none;
	int ret;

	if (!blk_is_slot(slot))
		return -ENOTSUP;
	ret = blk_open_empty(slot->loop, &none);
	if (ret)
		return ret;
	blk_slot_hold(slot);
	none = blk_slot_replace(slot, none);
	blk_slot_release(slot);
	blk_close(none);
	return 0;
}

int disk_put_medium(struct disk *d, struct blk_node *image, struct err *e)
{
	struct blk_node *slot = d->node, *none;

	if (!blk_is_slot(slot))
		return err_set(e, -ENOTSUP, "%s: the medium of this drive cannot be changed", d->id);
	blk_slot_hold(slot);
	none = blk_slot_replace(slot, image);
	blk_slot_release(slot);
	blk_close(none);
	return 0;
}
