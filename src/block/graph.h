/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the graph of a disk in use.
 *
 * What uses a disk (a device, an export) is given a slot: a node that stands for
 * the disk, whatever is under it.  A slot costs a request nothing: it goes
 * straight to the node in the slot.  While the slot is held, new requests wait in
 * it and those under way have ended, so that the graph below may be changed; what
 * waited goes on when it is released.
 *
 *	slot -> filters of the user -> filters of jobs -> image -> file, backing images
 *
 * A slot is the root of a graph, never below another node.  All functions: any
 * thread that holds the loop's lock, not from inside a callback of a node below,
 * unless they say otherwise.
 */
#ifndef LODGE_BLOCK_GRAPH_H
#define LODGE_BLOCK_GRAPH_H

#include "base/list.h"
#include "block/blk.h"

/* Takes `child` over. ENOMEM */
int blk_slot_new(struct blk_node *child, struct blk_node **out);
bool blk_is_slot(const struct blk_node *n);

/* Counted: the last release lets what waited go on.  hold waits until nothing is under way, jobs included
 * (those stop at their next step).  Requests to a held slot are not to be waited for. */
void blk_slot_hold(struct blk_node *slot);
void blk_slot_release(struct blk_node *slot);
bool blk_slot_held(const struct blk_node *slot);

/* Where the image is kept: below all filters.  Writing there changes the graph (held only). */
struct blk_node **blk_slot_image(struct blk_node *slot);
/* Puts `image` in the place of what was the image, which is the caller's then, and has the nodes above show its
 * size and properties.  Held only. */
struct blk_node *blk_slot_replace(struct blk_node *slot, struct blk_node *image);
/* Puts a filter that was made over the image between it and what is above.  Held only. */
void blk_slot_insert(struct blk_node *slot, struct blk_node *filter);
/* Takes a filter out again and closes it, but not what it is over. Held only. */
void blk_slot_remove(struct blk_node *slot, struct blk_node *filter);
/* The nodes above the image take on its size and properties again, after it was resized or reopened. Held only. */
void blk_slot_refresh(struct blk_node *slot);

/* Called on release; for jobs that stopped because the slot is held. Taken off the list by itself. [any callback] */
struct blk_slot_wait {
	struct list in;
	void (*go)(struct blk_slot_wait *w);
};
void blk_slot_wait(struct blk_node *slot, struct blk_slot_wait *w);

/* One change of the image (commit, mirror, snapshot) at a time: EBUSY names the other. `what`: "mirror" ... */
int blk_slot_claim(struct blk_node *slot, const char *what, struct err *e);
void blk_slot_unclaim(struct blk_node *slot);

#endif
