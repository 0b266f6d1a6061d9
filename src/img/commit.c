// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img commit: what an overlay has goes into the image below.
 *
 * With -b the image may be further down; what the layers between have goes there as
 * well, and they and the overlay stay as they are, since each may have others on it.
 * Nothing is known here of further overlays of an image that is written to: they show
 * something else afterwards.
 */
#include "img/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "block/qcow2/qcow2.h"
#include "img/verbs.h"

struct commit {
	const char *base;
	bool keep;			/* -d */
	struct blk_work w;
	unsigned depth;
};

static const struct img_opt commit_opts[] = {
	{ 'b', 'b', NULL, "FILE", "the image of the chain to commit into; default: the one right below, which alone empties the overlay", "@" },
	{ 'd', 'd', NULL, NULL, "do not empty the overlay", NULL },
	{ 'r', 'r', "rate-limit", "BYTES", "copy at most so many bytes a second", NULL },
	{ 0 },
};

static bool chain_bar(void *opaque, uint64_t done, uint64_t total)
{
	struct img *m = opaque;

	img_progress(m, done, total);
	return !img_interrupted(m);
}

void chain_work(struct img *m, struct blk_work *w)
{
	w->progress = chain_bar;
	w->opaque = m;
}

int chain_result(struct img *m, int ret)
{
	img_progress_end(m, !ret);
	return ret == -ECANCELED ? img_interrupted(m) : ret;
}

bool chain_same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return !stat(a, &sa) && !stat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

int chain_has_layers(struct img *m, const struct blk_node *n)
{
	if (n->format && !strcmp(n->format, "qcow2"))
		return 0;
	return err_set(&m->e, -ENOTSUP, "'%s' is not a qcow2 image: others have no backing file", n->path);
}

/* How far below the top is the image that -b names? Names are as the layers write them, or from here. */
static int find_base(struct img *m, struct commit *c)
{
	struct blk_node *top, *n;
	unsigned depth = 0;
	char *relative;
	int ret;

	c->depth = 1;
	if (!c->base)
		return 0;
	ret = img_open(m, m->operand[0], m->format, 0, &top);
	if (ret)
		return ret;
	relative = blk_relative_path(top->path, c->base);
	for (n = top->backing; n; n = n->backing) {
		depth++;
		if (n->path && (chain_same_file(n->path, c->base) || (relative && chain_same_file(n->path, relative))))
			break;
	}
	free(relative);
	if (!n)
		ret = err_set(&m->e, -ENOENT, "'%s' is not a backing file of '%s' (see lodge img info --backing-chain)", c->base,
			      top->path);
	c->depth = depth;
	blk_close(top);
	return ret;
}

static int open_chain(struct img *m, struct commit *c, struct blk_node **top)
{
	struct img_where w;
	int ret = img_where(m, m->operand[0], m->format, IMG_WRITE | IMG_BACKING_WRITE, &w);

	if (ret)
		return ret;
	w.o.backing_writable = c->depth;
	w.o.file.aio = BLK_AIO_THREADS;
	ret = img_open_where(m, &w, top);
	img_where_free(&w);
	return ret;
}

static int tell_committed(struct img *m, const struct commit *c, const char *base, bool emptied)
{
	if (m->json)
		return img_json_print(m, json_pack("{s:s, s:s, s:b}", "filename", m->operand[0], "base", base, "emptied", emptied));
	if (!m->quiet)
		printf("Image committed.\n");
	return 0;
}

static int commit_checked(struct img *m, struct commit *c)
{
	struct blk_node *top = NULL, *base;
	bool empty;
	int ret = img_operands(m, 1, 1);

	ret = ret ? ret : find_base(m, c);
	ret = ret ? ret : open_chain(m, c, &top);
	if (ret)
		return ret;
	m->progress = m->progress && !m->json;
	empty = !c->keep && c->depth == 1;
	ret = chain_has_layers(m, top);
	chain_work(m, &c->w);
	ret = ret ? ret : chain_result(m, blk_commit(top, c->depth, empty, &c->w, &m->e));
	base = top;
	for (unsigned i = 0; i < c->depth && base; i++)
		base = base->backing;
	if (!ret && base)
		ret = tell_committed(m, c, base->path, empty);
	blk_close(top);
	return ret;
}

static int run_commit(struct img *m)
{
	struct commit c = { 0 };
	const char *val;
	int id, ret = 0;

	while (!ret && (id = img_next(m, &val)) != 0) {
		if (id == 'b')
			c.base = val;
		else if (id == 'd')
			c.keep = true;
		else if (id == 'r')
			ret = img_size(val, "-r", &c.w.rate, &m->e);
		else
			ret = id;
	}
	return ret ? ret : commit_checked(m, &c);
}

const struct img_verb img_verb_commit = {
	.name = "commit",
	.summary = "Writes what an overlay has into the image below it.",
	.operands = "FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_CACHE | IMG_OPT_QUIET | IMG_OPT_PROGRESS | IMG_OPT_OUTPUT | IMG_OPT_OPEN,
	.opts = commit_opts,
	.run = run_commit,
};
