// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A place where a disk is to be: a node that shows what an image is, and has nothing of it
 * open.  In the place of an image that somebody else writes until it is handed over, and
 * after that.  Nobody has reason to ask it for data.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/disk.h"

static void absent_submit(struct blk_node *n, struct blk_req *r)
{
	blk_finish(r, r->op == BLK_FLUSH ? 0 : -EBUSY);
}

/* Every request is finished before submit returns. */
static void absent_wait(struct blk_node *n)
{
}

static void absent_close(struct blk_node *n)
{
	blk_node_fini(n);
	free(n);
}

static const struct blk_driver absent_driver = {
	.name = "absent",
	.submit = absent_submit,
	.wait = absent_wait,
	.close = absent_close,
};

bool blk_is_absent(const struct blk_node *n) { return n->drv == &absent_driver; }

int blk_absent_new(const struct blk_node *like, struct blk_node **out)
{
	struct blk_node *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	blk_node_init(n, like->loop, &absent_driver);
	n->i = like->i;
	n->format = like->format;
	n->path = like->path ? strdup(like->path) : NULL;
	if (like->path && !n->path) {
		absent_close(n);
		return -ENOMEM;
	}
	*out = n;
	return 0;
}
