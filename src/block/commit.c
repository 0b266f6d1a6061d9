/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commit of a running disk's overlays.
 *
 * The lower image `base` is written while the chain over it is in use.  Only what
 * a layer above provides is written there, so nobody sees base change through the
 * chain.  With the disk's first layer among those that are committed it is a
 * mirror into base; without it, nobody writes what is copied.
 */
#include <errno.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"
#include "block/filter.h"
#include "block/job_int.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"

struct blk_node *job_layer(struct blk_node *slot, unsigned depth)
{
	struct blk_node *n = *blk_slot_image(slot);

	while (n && depth--)
		n = blk_skip_filters(n)->backing;
	return n;
}

static const char *layer_name(const struct blk_node *n)
{
	return n && n->path ? n->path : "";
}

static int give_access(struct blk_node *n, bool read_only, struct err *e)
{
	const struct blk_reopen how = { .read_only = read_only };

	return n->i.read_only == read_only ? 0 : blk_reopen(n, &how, e);
}

static int active_end(struct blk_job *j, int ret)
{
	struct blk_node *base = j->target;
	struct err e = { 0 };

	j->target = NULL;
	if (!ret && j->switch_over) {
		/* It is below those layers as well, for as long as they have other owners. */
		blk_close(blk_slot_replace(j->slot, blk_ref(base)));
		return 0;
	}
	if (give_access(base, true, &e))
		log_warn("%s", e.msg);
	return ret;
}

static bool in_one_folder(const char *a, const char *b)
{
	char *x = realpath(a, NULL), *y = realpath(b, NULL);
	bool same = x && y && !strcmp(dirname(x), dirname(y));

	free(x);
	free(y);
	return same;
}

/* What `over` is to call base: as the last layer did, if that means the same from there. */
char *job_base_name(const struct blk_node *over, struct blk_node *last, const struct blk_node *base)
{
	struct qcow2_info i;

	qcow2_get_info(last, &i);
	if (!base->path || !*base->path)
		return strdup(i.backing ? i.backing : "");
	if (i.backing && over->path && last->path && in_one_folder(over->path, last->path))
		return strdup(i.backing);
	return blk_is_uri(base->path) ? strdup(base->path) : realpath(base->path, NULL);
}

static int rename_backing(struct blk_node *over, struct blk_node *last, struct blk_node *base, const char *given, struct err *e)
{
	bool was_read_only = over->i.read_only;
	char *name = given ? strdup(given) : job_base_name(over, last, base);
	int ret = name ? give_access(over, false, e) : err_set(e, -ENOMEM, "the path of '%s' cannot be found", layer_name(base));

	if (!ret)
		ret = qcow2_set_backing(over, name, base->format, e);
	if (!ret) {
		ret = blk_flush(over);
		if (ret)
			err_set(e, ret, "image '%s' cannot be flushed: %s", layer_name(over), strerror(-ret));
	}
	if (was_read_only && name && !over->i.read_only)
		give_access(over, true, NULL);
	free(name);
	return ret;
}

static int lower_end(struct blk_job *j, int ret)
{
	struct blk_node *over = job_layer(j->slot, j->top - 1), *old = NULL;
	struct blk_node *last = job_layer(j->slot, j->base - 1), *base = j->target;
	struct err e = { 0 };

	j->target = NULL;
	if (give_access(base, true, &e))
		log_warn("%s", e.msg);
	if (!ret)
		ret = rename_backing(over, last, base, j->base_name, &j->e);
	if (ret)
		return ret;
	blk_drain(over);
	qcow2_plug_backing(over, blk_ref(base), &old);
	blk_close(old);
	return 0;
}

static const struct job_kind active_kind = { .name = "commit", .ready = true, .write = mirror_write, .end = active_end };
static const struct job_kind lower_kind = { .name = "commit", .end = lower_end };

static int check_chain(struct blk_node *slot, unsigned top, unsigned base, struct err *e)
{
	if (base <= top || !job_layer(slot, base))
		return err_set(e, -EINVAL, "commit of disk '%s': there is no layer %u below layer %u", layer_name(slot), base, top);
	for (unsigned i = top ? top - 1 : 0; i < base; i++) {
		const struct blk_node *n = job_layer(slot, i);

		/* What a short layer hides would show. */
		if (i >= top && n->i.size < job_layer(slot, base)->i.size)
			return err_set(e, -EINVAL, "commit of disk '%s': layer %u ('%s') is shorter than '%s': make it as long first",
				       layer_name(slot), i, layer_name(n), layer_name(job_layer(slot, base)));
		if (!n->format || strcmp(n->format, "qcow2") != 0)
			return err_set(e, -ENOTSUP, "commit of disk '%s': layer %u ('%s') is not a qcow2 image", layer_name(slot), i,
				       layer_name(n));
	}
	return 0;
}

static int prepare_base(struct blk_node *slot, unsigned top, struct blk_node *base, struct err *e)
{
	uint64_t size = job_layer(slot, top)->i.size;
	int ret = give_access(base, false, e);

	if (ret)
		return ret;
	if (base->i.size < size)
		ret = blk_resize(base, size, e);
	if (ret)
		give_access(base, true, NULL);
	return ret;
}

static int begin(struct blk_job *j, struct blk_node *base, struct err *e)
{
	int ret = prepare_base(j->slot, j->top, base, e);

	if (ret)
		return ret;
	j->scan_depth = j->copy_depth = j->base - j->top;
	if (j->top) {
		j->from = job_layer(j->slot, j->top);
	} else if (job_insert_filter(j)) {
		give_access(base, true, NULL);
		return err_set(e, -ENOMEM, "out of memory");
	}
	job_start(j);
	return 0;
}

int blk_commit_start(struct blk_node *slot, unsigned top, unsigned base, const struct blk_job_opts *o, struct blk_job **out,
		     struct err *e)
{
	struct blk_job *j = NULL;
	int ret = blk_slot_claim(slot, "commit", e);

	if (ret)
		return ret;
	ret = check_chain(slot, top, base, e);
	ret = ret ? ret : job_new(top ? &lower_kind : &active_kind, slot, job_layer(slot, base), job_layer(slot, top)->i.size, o,
			    &j, e);
	if (ret) {
		blk_slot_unclaim(slot);
		return ret;
	}
	j->claimed = true;
	j->top = top;
	j->base = base;
	j->in_chain = true;
	blk_slot_hold(slot);
	ret = begin(j, j->target, e);
	if (ret) {
		blk_slot_unclaim(slot);
		job_discard(j);
	} else {
		*out = j;
	}
	blk_slot_release(slot);
	return ret;
}
