/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node over another one with some places changed, in memory only: a log's contents, for instance. */
#ifndef LODGE_BLOCK_FOREIGN_PATCHED_H
#define LODGE_BLOCK_FOREIGN_PATCHED_H

#include "block/blk.h"

struct patch {
	uint64_t off, len;		/* bytes, multiples of 512; not beyond INT64_MAX */
	const uint8_t *data;		/* NULL: zeros */
};

/* Of patches in the order they were made: sorted, without overlaps, the later ones over the earlier. Replaces
 * the malloc'ed array. 0 or -ENOMEM */
int patches_settle(struct patch **p, size_t *n);

/* Only reads. Owns (and frees) p, settled patches, and memory, where their data lies, if it succeeds;
 * does not own `under`. The node is `end` bytes long if that is more than `under` is. */
int patched_open(struct blk_node *under, struct patch *p, size_t n, void *memory, uint64_t end, struct blk_node **out);

#endif
