/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What commit and rebase have in common: changing an image that stands on others. */
#ifndef LODGE_IMG_CHAIN_H
#define LODGE_IMG_CHAIN_H

#include "block/copy.h"
#include "img/img.h"

/* Progress and Ctrl-C for the engines; the rest of *w stays. */
void chain_work(struct img *m, struct blk_work *w);
/* After an engine: what its -ECANCELED means. */
int chain_result(struct img *m, int ret);
/* Is it one and the same file? */
bool chain_same_file(const char *a, const char *b);
/* -ENOTSUP if the node's format has no backing files. */
int chain_has_layers(struct img *m, const struct blk_node *n);

#endif
