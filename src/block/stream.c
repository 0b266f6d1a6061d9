/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stream: the disk's image gets what layers below it have, until it can do without
 * them.
 *
 * What the image has itself is newer and stays.  A piece is held alone from looking
 * what the layers have to writing it, and so is what the guest writes meanwhile, so
 * that neither overwrites the other with what is older.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/job_int.h"
#include "block/qcow2/qcow2.h"

static int stream_write(struct blk_job *j, struct co *c, struct blk_req *r)
{
	struct blk_req below = *r;
	struct range_lock l;
	int ret;

	range_lock(c, &j->locks, &l, r->offset, r->offset + r->len, true);
	ret = co_submit(c, j->filter->n.file, &below);
	range_unlock(&j->locks, &l);
	return ret;
}

/* The image names what it stands on from now on. */
static int name_base(struct blk_job *j, struct blk_node *image, struct blk_node *base, struct err *e)
{
	char *name = NULL;
	int ret;

	if (base) {
		name = j->base_name ? strdup(j->base_name) : job_base_name(image, job_layer(j->slot, j->base - 1), base);
		if (!name)
			return err_set(e, -ENOMEM, "the path of '%s' cannot be found", base->path ? base->path : base->name);
	}
	ret = qcow2_set_backing(image, name, base ? base->format : NULL, e);
	free(name);
	if (!ret) {
		ret = blk_flush(image);
		if (ret)
			err_set(e, ret, "image '%s' cannot be flushed: %s", image->path ? image->path : "", strerror(-ret));
	}
	return ret;
}

static int stream_end(struct blk_job *j, int ret)
{
	struct blk_node *image = *blk_slot_image(j->slot), *base = j->base ? job_layer(j->slot, j->base) : NULL, *old = NULL;

	j->target = NULL;
	if (!ret)
		ret = name_base(j, image, base, &j->e);
	if (ret)
		return ret;
	blk_drain(image);
	qcow2_plug_backing(image, base ? blk_ref(base) : NULL, &old);
	blk_close(old);
	return 0;
}

static const struct job_kind stream_kind = { .name = "stream", .write = stream_write, .end = stream_end };

static const char *name_of(const struct blk_node *n)
{
	return n->path ? n->path : n->name;
}

/* Layers between image and base hide what is below them behind their ends: short ones would not any more. */
static int check_chain(struct blk_node *slot, unsigned base, unsigned *layers, struct err *e)
{
	struct blk_node *image = *blk_slot_image(slot), *n;

	if (!image->format || strcmp(image->format, "qcow2") || image->i.read_only)
		return err_set(e, -ENOTSUP, "stream of disk '%s': it is not a qcow2 image that may be written", name_of(image));
	for (*layers = 1; (!base || *layers < base) && (n = job_layer(slot, *layers)); ++*layers)
		if (base && n->i.size < image->i.size && n->i.size < job_layer(slot, base)->i.size)
			return err_set(e, -ENOTSUP, "stream of disk '%s': layer %u ('%s') is shorter than what it stands on", name_of(image), *layers,
				       name_of(n));
	return 0;
}

int blk_stream_start(struct blk_node *slot, unsigned base, const struct blk_job_opts *o, struct blk_job **out, struct err *e)
{
	struct blk_node *image = *blk_slot_image(slot);
	struct blk_job *j = NULL;
	unsigned layers = 1;
	int ret = blk_slot_claim(slot, "stream", e);

	if (ret)
		return ret;
	ret = base && !job_layer(slot, base) ? err_set(e, -EINVAL, "stream: there is no layer %u", base) : check_chain(slot, base, &layers, e);
	ret = ret ? ret : job_new(&stream_kind, slot, image, image->i.size, o, &j, e);
	if (ret) {
		blk_slot_unclaim(slot);
		return ret;
	}
	j->claimed = true;
	j->base = base;
	j->skip_depth = 1;
	/* One that stands on nothing has nothing to look for. */
	j->scan_depth = j->copy_depth = layers > 1 ? layers : 2;
	return job_begin(j, out, e);
}
