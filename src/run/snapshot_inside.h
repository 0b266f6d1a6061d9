/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef LODGE_RUN_SNAPSHOT_INSIDE_H
#define LODGE_RUN_SNAPSHOT_INSIDE_H

#include "base/err.h"

struct opt_state;

/* lodge snapshot with --inside. 1: the words do not make sense; else 0 or -errno */
int snapshot_inside(const struct opt_state *st, struct err *e);

#endif
