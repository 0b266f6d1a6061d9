/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk for a machine: an image, the filters its user wants, and a slot on top (graph.h). */
#ifndef LODGE_BLOCK_DISK_H
#define LODGE_BLOCK_DISK_H

#include "block/filter.h"
#include "block/image.h"

struct blk_disk_opts {
	/* What is written goes to a file that is gone at the end (TMPDIR, else /var/tmp); the image is only read. */
	bool temporary;
	/* The disk as it was at this internal snapshot (a name or ID) of a qcow2 image.  Temporary: shown through, also while somebody
	 * else writes the image, which is not locked.  Else the image is brought back to it. NULL: as it is */
	const char *inside;
	bool copy_on_read;
	struct blk_throttle_opts throttle;
	const char *group;		/* of throttling; the name is for the caller, who finds: NULL: none */
	struct blk_throttle_group *shared;	/* limits are this group's, in the place of throttle; the caller's. NULL: none */
};

/* One option by its name on a command line: "copy-on-read", "iops", "bps-max" ...; underscores do for hyphens, and
 * QEMU's "throttling." may stand in front.  ENOENT: no such option. EINVAL */
int blk_disk_option(struct blk_disk_opts *o, const char *name, const char *value, struct err *e);
/* Whether the options go together: EINVAL. */
int blk_disk_check(const struct blk_disk_opts *o, const struct blk_image_opts *io, struct err *e);
/* `path` and `io` as blk_open_image has them; NULL: a drive without a medium. */
int blk_open_disk(struct loop *l, const char *path, const struct blk_image_opts *io, const struct blk_disk_opts *o,
		  struct blk_node **out, struct err *e);
/* The filters and the slot over a node, which becomes the slot's if this succeeds. ENOMEM, EINVAL */
int blk_disk_on(struct blk_node *n, const struct blk_disk_opts *o, struct blk_node **out, struct err *e);
/* A node of no bytes, for a drive without a medium. ENOMEM */
int blk_open_empty(struct loop *l, struct blk_node **out);
/* A node that shows size, properties, path and format of another one and fails all requests with EBUSY: for the time in which
 * an image is somebody else's. ENOMEM */
int blk_absent_new(const struct blk_node *like, struct blk_node **out);
bool blk_is_absent(const struct blk_node *n);

#endif
