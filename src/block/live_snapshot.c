/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshot of a running disk: a new overlay goes on top of its image, which from
 * then on is only read, and locked as such.
 */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "block/job.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"

static const char *disk_name(const struct blk_node *n)
{
	return n->path ? n->path : "";
}

static int attach_held(struct blk_node *slot, struct blk_node *overlay, struct err *e)
{
	const struct blk_reopen read_only = { .read_only = true };
	struct blk_node *image = *blk_slot_image(slot);
	int ret = blk_flush(image);

	if (ret)
		return err_set(e, ret, "snapshot of disk '%s': it cannot be flushed: %s", disk_name(slot), strerror(-ret));
	ret = blk_reopen(image, &read_only, e);
	if (ret)
		return ret;
	qcow2_plug_backing(overlay, image, NULL);
	blk_slot_replace(slot, overlay);
	return 0;
}

int blk_snapshot_attach(struct blk_node *slot, struct blk_node *overlay, struct err *e)
{
	int ret;

	if (!overlay->format || strcmp(overlay->format, "qcow2") != 0 || overlay->backing || overlay->i.read_only ||
	    overlay->i.size != slot->i.size || slot->i.read_only)
		return err_set(e, -EINVAL, "snapshot of disk '%s': the new layer must be a writable qcow2 image of the same size, "
			       "without a backing image so far, and the disk writable", disk_name(slot));
	ret = blk_slot_claim(slot, "snapshot", e);
	if (ret)
		return ret;
	blk_slot_hold(slot);
	ret = attach_held(slot, overlay, e);
	blk_slot_release(slot);
	blk_slot_unclaim(slot);
	return ret;
}

/* What the overlay calls its backing file: by its name alone in the same folder, so that both may move. malloc'ed */
static char *backing_name(const char *image, const char *overlay)
{
	char *real, *copy = strdup(overlay), *dir, *slash, *out = NULL;

	if (blk_is_uri(image)) {
		free(copy);
		return strdup(image);
	}
	real = realpath(image, NULL);
	dir = copy ? realpath(dirname(copy), NULL) : NULL;
	slash = real ? strrchr(real, '/') : NULL;
	if (slash && dir && strlen(dir) == (size_t)(slash - real) && !strncmp(real, dir, strlen(dir)))
		out = strdup(slash + 1);
	else if (real)
		out = strdup(real);
	free(real);
	free(copy);
	free(dir);
	return out;
}

static int make_overlay(struct blk_node *image, const char *path, struct blk_node **out, struct err *e)
{
	const struct blk_open_opts fo = { .open_ended = true };
	const struct blk_image_opts io = { .format = "qcow2", .no_backing = true, .trust = BLK_TRUST_NONE };
	struct qcow2_create_opts co = { .size = image->i.size, .backing_format = image->format };
	char *name = backing_name(disk_name(image), path);
	struct blk_node *file = NULL;
	int ret;

	co.backing = name;
	ret = name ? blk_open_file(image->loop, path, &fo, &file, e) :
		err_set(e, -ENOENT, "snapshot: the path of '%s' cannot be found", disk_name(image));
	ret = ret ? ret : qcow2_create(file, &co, e);
	free(name);
	ret = ret ? ret : qcow2_open(file, &io, 0, out, e);
	if (ret)
		blk_close(file);
	return ret;
}

int blk_snapshot_file(struct blk_node *slot, const char *path, struct err *e)
{
	struct blk_node *image = *blk_slot_image(slot), *overlay = NULL;
	int ret;

	if (!image->path || !image->format)
		return err_set(e, -ENOTSUP, "snapshot of disk '%s': it is not in a file that an image could name", disk_name(slot));
	if (image->i.encrypted)
		return err_set(e, -ENOTSUP, "snapshot of disk '%s': it is encrypted, and a new layer would not be: make one yourself",
			       disk_name(slot));
	ret = blk_create_file(path, false, e);
	if (ret)
		return ret;
	ret = make_overlay(image, path, &overlay, e);
	if (!ret) {
		ret = blk_snapshot_attach(slot, overlay, e);
		if (ret)
			blk_close(overlay);
	}
	if (ret)
		unlink(path);
	return ret;
}

struct blk_node *blk_snapshot_undo(struct blk_node *slot)
{
	const struct blk_reopen writable = { .read_only = false };
	struct blk_node *overlay = *blk_slot_image(slot), *image = NULL;
	struct err e = { .msg = "" };

	qcow2_plug_backing(overlay, NULL, &image);
	if (blk_reopen(image, &writable, &e))
		log_warn("%s", e.msg);
	return blk_slot_replace(slot, image);
}
