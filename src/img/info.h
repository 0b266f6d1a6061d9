/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an image says about itself, as JSON with qemu-img's names; for verbs that show parts of it. */
#ifndef LODGE_IMG_INFO_H
#define LODGE_IMG_INFO_H

#include "block/qcow2/qcow2.h"
#include "img/img.h"

/* One layer. *out: an object, to be released. */
int img_describe(struct img *m, struct blk_node *n, json_t **out);
/* An array; NULL: no memory. */
json_t *img_snapshots_json(const struct qcow2_snapshot *s, unsigned n);
/* The same as a table for people; img_plain comes first. */
void img_snapshots_print(const json_t *list);
/* For people: nothing in the strings of the tree that a terminal obeys. ENOMEM */
int img_plain(json_t *j);

#endif
