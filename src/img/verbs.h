/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The verbs of `lodge img`, for main.c's table. */
#ifndef LODGE_IMG_VERBS_H
#define LODGE_IMG_VERBS_H

#include "img/img.h"

extern const struct img_verb img_verb_bench;
extern const struct img_verb img_verb_bitmap;
extern const struct img_verb img_verb_check;
extern const struct img_verb img_verb_commit;
extern const struct img_verb img_verb_compare;
extern const struct img_verb img_verb_convert;
extern const struct img_verb img_verb_create;
extern const struct img_verb img_verb_dd;
extern const struct img_verb img_verb_info;
extern const struct img_verb img_verb_map;
extern const struct img_verb img_verb_measure;
extern const struct img_verb img_verb_rebase;
extern const struct img_verb img_verb_resize;
extern const struct img_verb img_verb_snapshot;

#endif
