// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img rebase: another backing file for an overlay.
 *
 * Without -u the disk shows the same afterwards: what the two backing files have
 * differently, where the overlay has nothing, is copied into it first.  With -u only
 * the name is changed; that is for a backing file that was moved or renamed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/qcow2/qcow2.h"
#include "img/chain.h"
#include "img/verbs.h"

struct rebase {
	const char *base, *base_format;
	bool unsafe;
	struct blk_work w;
	struct blk_node *top, *new_base;
};

static const struct img_opt rebase_opts[] = {
	{ 'b', 'b', "backing-file", "FILE", "the new backing file, as it is to be written to the image; \"\": none any more", "@" },
	{ 'F', 'F', "backing-format", "FORMAT", "its format", "raw qcow2" },
	{ 'u', 'u', NULL, NULL, "write the name only: for a backing file that has moved. The disk changes if the contents are others", NULL },
	{ 0 },
};

static int rebase_args(struct img *m, struct rebase *r)
{
	const char *val;
	int id;

	while ((id = img_next(m, &val)) > 0) {
		if (id == 'b')
			r->base = val;
		else if (id == 'F')
			r->base_format = val;
		else
			r->unsafe = true;
	}
	if (id)
		return id;
	if (!r->base)
		return err_set(&m->e, -EINVAL, "which backing file is it to be? -b FILE, or -b \"\" for none");
	if (*r->base && !r->base_format)
		return err_set(&m->e, -EINVAL, "say the backing file's format with -F: a guest could make its disk look like another "
			       "format, which would be believed if nobody said");
	return img_operands(m, 1, 1);
}

/* With -u too: a circle can never be opened again. */
static int check_no_circle(struct img *m, const struct rebase *r, const char *overlay, const char *path)
{
	if (chain_same_file(path, overlay))
		return err_set(&m->e, -ELOOP, "'%s' cannot be its own backing file", overlay);
	for (const struct blk_node *n = r->new_base; n; n = n->backing)
		if (n->path && chain_same_file(n->path, overlay))
			return err_set(&m->e, -ELOOP, "'%s' has '%s' among its backing files: that would be a circle", path, overlay);
	return 0;
}

static int open_new_base(struct img *m, struct rebase *r, const char *overlay)
{
	char *path;
	int ret;

	if (!r->base || !*r->base)
		return 0;
	path = blk_relative_path(overlay, r->base);
	if (!path)
		return err_set(&m->e, -ENOMEM, "out of memory");
	ret = check_no_circle(m, r, overlay, path);
	if (!ret && !r->unsafe) {
		ret = img_open(m, path, r->base_format, IMG_NAMED | IMG_SOURCE, &r->new_base);
		ret = ret ? err_prefix(&m->e, ret, "new backing file") : check_no_circle(m, r, overlay, path);
	}
	free(path);
	return ret;
}

/* The new backing file first: in a circle, the overlay's lock would keep us from seeing that it is one. */
static int open_both(struct img *m, struct rebase *r)
{
	struct img_where w;
	int ret = img_where(m, m->operand[0], m->format, IMG_WRITE | (r->unsafe ? IMG_NO_BACKING : 0), &w);

	if (ret)
		return ret;
	w.o.file.aio = BLK_AIO_THREADS;
	ret = open_new_base(m, r, w.path);
	if (!ret) {
		ret = img_open_where(m, &w, &r->top);
		if (ret && !r->unsafe)
			err_prefix(&m->e, ret, "(if the backing file has moved, -u writes its new name without looking at the old one)");
	}
	img_where_free(&w);
	return ret ? ret : chain_has_layers(m, r->top);
}

static int rebase_opened(struct img *m, struct rebase *r)
{
	const char *name = *r->base ? r->base : NULL, *format = *r->base ? r->base_format : NULL;

	if (r->unsafe)
		return qcow2_set_backing(r->top, name, format, &m->e);
	chain_work(m, &r->w);
	return chain_result(m, blk_rebase(r->top, r->new_base, name, format, &r->w, &m->e));
}

static int run_rebase(struct img *m)
{
	struct rebase r = { 0 };
	int ret = rebase_args(m, &r);

	if (ret)
		return ret;
	m->progress = m->progress && !m->json;
	ret = open_both(m, &r);
	ret = ret ? ret : rebase_opened(m, &r);
	blk_close(r.new_base);
	blk_close(r.top);
	if (!ret && m->json)
		ret = img_json_print(m, json_pack("{s:s, s:s*, s:s*}", "filename", m->operand[0], "backing-filename",
						  *r.base ? r.base : NULL, "backing-filename-format", *r.base ? r.base_format : NULL));
	return ret;
}

const struct img_verb img_verb_rebase = {
	.name = "rebase",
	.summary = "Gives an overlay another backing file.",
	.operands = "-b BASE FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_CACHE | IMG_OPT_SRC_CACHE | IMG_OPT_QUIET | IMG_OPT_PROGRESS | IMG_OPT_OUTPUT |
		  IMG_OPT_OPEN,
	.opts = rebase_opts,
	.run = run_rebase,
};
