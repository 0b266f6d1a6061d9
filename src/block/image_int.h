/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between image.c and the format drivers. */
#ifndef LODGE_BLOCK_IMAGE_INT_H
#define LODGE_BLOCK_IMAGE_INT_H

#include "block/image.h"

/* The file that image `base` calls `name` (its `what`: "backing file"), if it may be opened. malloc'ed. */
int image_resolve(const char *base, const char *name, const char *what, enum blk_trust trust, char **out, struct err *e);
/* blk_open_image at a depth of the chain. */
int image_open(struct loop *l, const char *path, const struct blk_image_opts *o, unsigned depth, struct blk_node **out,
	       struct err *e);

#endif
