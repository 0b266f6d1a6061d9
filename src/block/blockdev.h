/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Nodes made from a description: QEMU's BlockdevOptions, a JSON object with a
 * `driver`, what that driver needs, and children that are described inside of it or
 * named.  Booleans and numbers may be given as text, as command lines have them.
 *
 * What a description names (files, servers) the user names; what an image names is
 * opened as far as `trust` goes.  What is not known is an error that names it.
 */
#ifndef LODGE_BLOCK_BLOCKDEV_H
#define LODGE_BLOCK_BLOCKDEV_H

#include <jansson.h>

#include "block/filter.h"
#include "block/image.h"

#define BLOCKDEV_DEPTH 16		/* of descriptions in descriptions */

/* Where names in a description lead. */
struct blockdev_context {
	struct loop *loop;		/* of what is made; its lock is held */
	enum blk_trust trust;
	struct blk_secrets *secrets;	/* NULL: there are none */
	/* The node of that name as a child of another, for writing or not: an owner more, on `loop`. *used: somebody else stands on it, too.
	 * NULL: e says why not */
	struct blk_node *(*child)(void *opaque, const char *name, bool writes, bool *used, struct err *e);
	bool (*name_taken)(void *opaque, const char *name);
	/* A throttle group. NULL: there is none */
	struct blk_throttle_group *(*group)(void *opaque, const char *id);
	void *opaque;
};

/* A node, on c->loop, and its caller's. */
int blockdev_open(const struct blockdev_context *c, const json_t *description, struct blk_node **out, struct err *e);
/* Ready to be a disk, or a disk's layer, and not the inside of a format; for writing too unless it is read-only by itself.
 * EINVAL: it is too small; or what opening it for writing says. */
int blockdev_as_image(struct blk_node *n, bool writes, struct err *e);
/* -EINVAL unless this may be a node's name; QEMU's words. */
int blockdev_check_name(const char *name, struct err *e);
/* What QEMU calls the node's driver: "qcow2", "file" ... */
const char *blockdev_driver_of(const struct blk_node *n);
/* Calls fn for n and all below it, parents first, jobs' filters and the like too. Stops when fn returns true, and then returns it. */
bool blockdev_each(struct blk_node *n, bool (*fn)(void *opaque, struct blk_node *n), void *opaque);
/* The drivers that `driver` may be; ends with NULL. */
extern const char *const blockdev_drivers[];

/* The limits that an object of type throttle-group, or block_set_io_throttle, describes: "limits" {"iops-total": ...} or "x-iops-total"
 * beside its other members. EINVAL */
int blockdev_limits(const json_t *object, struct blk_throttle_opts *out, struct err *e);

#endif
