/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads as a block node: a request is a function to be run, so that computing
 * (unpacking) is waited for like I/O.
 */
#ifndef LODGE_BLOCK_FOREIGN_WORK_H
#define LODGE_BLOCK_FOREIGN_WORK_H

#include "block/blk.h"

int work_open(struct loop *l, struct blk_node **out);
/* Makes r a request for a node of work_open: runs fn(arg) on one of its threads and ends with its result. */
void work_request(struct blk_req *r, int (*fn)(void *arg), void *arg);
/* NULL is allowed. Drains. */
void work_close(struct blk_node *n);

#endif
