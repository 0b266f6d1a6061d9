/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node that is lent: closing it leaves what it is over. */
#ifndef LODGE_TESTS_BLOCK_LEND_H
#define LODGE_TESTS_BLOCK_LEND_H

#include <stdlib.h>

#include "block/filter_int.h"

static inline void lent_submit(struct blk_node *n, struct blk_req *r)
{
	filter_pass(n->file, r);
}

static inline void lent_close(struct blk_node *n)
{
	blk_node_fini(n);
	free(n);
}

static const struct blk_driver lent_driver = {
	.name = "lent", .filter = true, .submit = lent_submit, .wait = filter_wait, .resize = filter_resize, .reopen = filter_reopen,
	.extend = filter_extend, .close = lent_close,
};

static inline struct blk_node *lend(struct blk_node *n)
{
	struct blk_node *lent = calloc(1, sizeof(*lent));

	if (!lent || filter_init(lent, n, &lent_driver))
		abort();
	return lent;
}

#endif
