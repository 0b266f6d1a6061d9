/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between blockdev.c (what all nodes have, children) and blockdev_drivers.c (the drivers). */
#ifndef LODGE_BLOCK_BLOCKDEV_INT_H
#define LODGE_BLOCK_BLOCKDEV_INT_H

#include "block/blockdev.h"

/* One description that is being opened. */
struct opening {
	const struct blockdev_context *c;
	const json_t *d;
	const struct blockdev_driver *drv;
	unsigned depth;
	bool inside;			/* what is made is to be the inside of a format */
	struct blk_open_opts file;	/* as this node, or its parent, is to be opened */
	bool auto_read_only;
	struct err *e;
};

struct blockdev_driver {
	const char *name;
	const char *keys[16];		/* besides those that all have; ends with NULL */
	int (*open)(struct opening *o, struct blk_node **out);
};
const struct blockdev_driver *blockdev_find_driver(const char *name);

/* Members, read as what they should be; *out stays as it is if there is none.  EINVAL in QEMU's words. */
int opening_text(const struct opening *o, const char *key, const char **out);
int opening_need(const struct opening *o, const char *key, const char **out);
int opening_bool(const struct opening *o, const char *key, bool *out);
int opening_number(const struct opening *o, const char *key, uint64_t max, uint64_t *out);
/* The child `key`, described or named; inside: of a format.  An owner more, which is the caller's. */
int opening_child(const struct opening *o, const char *key, bool inside, bool writes, struct blk_node **out);

/* A text as a boolean or a number; -EINVAL. */
int blockdev_bool(const json_t *v, const char *key, bool *out, struct err *e);
int blockdev_number(const json_t *v, const char *key, uint64_t max, uint64_t *out, struct err *e);

#endif
