/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What stands for nbd.c in a build without libnbd. */
#include <errno.h>

#include "block/protocol.h"

int nbd_node_open(struct loop *l, const char *uri, const struct blk_open_opts *o, bool by_image, struct blk_node **out,
		  struct err *e)
{
	return err_set(e, -ENOTSUP, "disk '%s': this lodge was built without NBD: install libnbd-dev and build it again", uri);
}
