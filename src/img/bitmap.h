/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What other verbs do with the dirty bitmaps of an image. */
#ifndef LODGE_IMG_BITMAP_H
#define LODGE_IMG_BITMAP_H

#include "img/img.h"

/* May n's bitmaps be copied? -ENOTSUP: it is of a format without; -EINVAL: one says nothing any more, and skip does not
 * say to leave such out. [for `from`, before anything is made] */
int img_bitmaps_check(struct img *m, struct blk_node *from, bool skip_broken);
/* Makes each bitmap of `from` in `to` too, where none of its name may be. Broken ones are left out with a warning. */
int img_bitmaps_copy(struct img *m, struct blk_node *from, struct blk_node *to);
/* Bytes that they take in an image with these clusters. */
int img_bitmaps_size(struct img *m, struct blk_node *n, uint64_t cluster, uint64_t *bytes);

#endif
