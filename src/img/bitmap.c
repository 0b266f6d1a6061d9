// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img bitmap: the dirty bitmaps inside a qcow2 image.  Several actions are
 * done in the order they are given.
 */
#include "img/bitmap.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/qcow2.h"
#include "img/verbs.h"

enum { ADD = 'A', REMOVE = 'R', CLEAR = 'C', ENABLE = 'E', DISABLE = 'D', MERGE = 'M' };

static const struct img_opt bitmap_opts[] = {
	{ ADD, 0, "add", NULL, "make one, which records unless --disable follows", NULL },
	{ REMOVE, 0, "remove", NULL, "remove it", NULL },
	{ CLEAR, 0, "clear", NULL, "nothing counts as changed any more", NULL },
	{ ENABLE, 0, "enable", NULL, "record what is written from now on", NULL },
	{ DISABLE, 0, "disable", NULL, "record no more", NULL },
	{ MERGE, 0, "merge", "SOURCE", "what changed by the bitmap SOURCE, changed by this one too", NULL },
	{ 'b', 'b', NULL, "FILE", "the image that SOURCE is in", "@" },
	{ 'F', 'F', NULL, "FORMAT", "its format", "qcow2" },
	{ 'g', 'g', NULL, "SIZE", "granularity of a new one", NULL },
	{ 0 },
};

#define MAX_ACTIONS 16
struct actions {
	struct {
		int what;
		const char *source;
	} a[MAX_ACTIONS];
	unsigned n;
	const char *file, *format, *granularity;
};

static int read_options(struct img *m, struct actions *all)
{
	const char *val;
	int id;

	while ((id = img_next(m, &val)) > 0) {
		if (id == 'b')
			all->file = val;
		else if (id == 'F')
			all->format = val;
		else if (id == 'g')
			all->granularity = val;
		else if (all->n == MAX_ACTIONS)
			return err_set(&m->e, -EINVAL, "more than %d actions at a time", MAX_ACTIONS);
		else {
			all->a[all->n].what = id;
			all->a[all->n++].source = val;
		}
	}
	return id;
}

static bool has_action(const struct actions *all, int what)
{
	for (unsigned i = 0; i < all->n; i++)
		if (all->a[i].what == what)
			return true;
	return false;
}

static int check_options(struct img *m, const struct actions *all)
{
	if (!all->n)
		return err_set(&m->e, -EINVAL, "nothing to do: say --add, --remove, --clear, --enable, --disable or --merge");
	if (all->granularity && !has_action(all, ADD))
		return err_set(&m->e, -EINVAL, "-g goes with --add");
	if (all->file && !has_action(all, MERGE))
		return err_set(&m->e, -EINVAL, "-b goes with --merge");
	if (all->format && !all->file)
		return err_set(&m->e, -EINVAL, "-F goes with -b");
	if (has_action(all, ENABLE) && has_action(all, DISABLE))
		return err_set(&m->e, -EINVAL, "either --enable or --disable");
	return 0;
}

static int need_qcow2(struct img *m, struct blk_node *n)
{
	if (n->format && !strcmp(n->format, "qcow2"))
		return 0;
	return err_set(&m->e, -ENOTSUP, "'%s' is a %s image, which holds no bitmaps", n->path, n->format ? n->format : n->drv->name);
}

int img_bitmaps_check(struct img *m, struct blk_node *from, bool skip_broken)
{
	struct qcow2_bitmap *b;
	unsigned n;
	int ret = need_qcow2(m, from);

	ret = ret ? ret : qcow2_bitmap_list(from, &b, &n, &m->e);
	if (ret)
		return ret;
	for (unsigned i = 0; i < n && !ret && !skip_broken; i++)
		if (b[i].inconsistent)
			ret = err_set(&m->e, -EINVAL, "bitmap '%s' of image '%s' says nothing any more, since the image was not closed: leave it out "
				      "with --skip-broken-bitmaps, or remove it (lodge img bitmap --remove)", b[i].name, from->path);
	qcow2_bitmaps_free(b, n);
	return ret;
}

static int copy_bitmap(struct img *m, struct blk_node *from, struct blk_node *to, const struct qcow2_bitmap *b)
{
	int ret;

	if (b->inconsistent) {
		fprintf(stderr, "lodge img: bitmap '%s' of image '%s' says nothing any more, and is left out\n", b->name, from->path);
		return 0;
	}
	ret = qcow2_bitmap_add(to, b->name, b->granularity, b->recording, &m->e);
	return ret ? ret : qcow2_bitmap_merge(to, b->name, from, b->name, &m->e);
}

int img_bitmaps_copy(struct img *m, struct blk_node *from, struct blk_node *to)
{
	struct qcow2_bitmap *b;
	unsigned n;
	int ret = need_qcow2(m, to);

	ret = ret ? ret : qcow2_bitmap_list(from, &b, &n, &m->e);
	if (ret)
		return ret;
	for (unsigned i = 0; i < n && !ret; i++)
		ret = copy_bitmap(m, from, to, &b[i]);
	qcow2_bitmaps_free(b, n);
	return ret;
}

/* Their bits and the tables of those, in clusters, and the directory. */
int img_bitmaps_size(struct img *m, struct blk_node *n, uint64_t cluster, uint64_t *bytes)
{
	struct qcow2_bitmap *b;
	uint64_t directory = 0;
	unsigned count;
	int ret = qcow2_bitmap_list(n, &b, &count, &m->e);

	*bytes = 0;
	for (unsigned i = 0; !ret && i < count; i++) {
		uint64_t bits, clusters;

		if (b[i].inconsistent)
			continue;
		bits = align_up(n->i.size, b[i].granularity) / b[i].granularity;
		clusters = align_up(align_up(bits, 8) / 8, cluster) / cluster;
		*bytes += clusters * cluster + align_up(clusters * 8, cluster);
		directory += align_up(QCOW2_BITMAP_ENTRY + strlen(b[i].name), 8);
	}
	*bytes += align_up(directory, cluster);
	if (!ret)
		qcow2_bitmaps_free(b, count);
	return ret;
}

static int merge(struct img *m, struct blk_node *n, const char *name, const struct actions *all, const char *source)
{
	struct blk_node *from = n;
	int ret = all->file ? img_open(m, all->file, all->format, IMG_NO_BACKING | IMG_NO_KEY, &from) : 0;

	if (ret)
		return ret;
	ret = need_qcow2(m, from);
	ret = ret ? ret : qcow2_bitmap_merge(n, name, from, source, &m->e);
	if (from != n)
		blk_close(from);
	return ret;
}

static int act(struct img *m, struct blk_node *n, const char *name, const struct actions *all, unsigned i)
{
	uint64_t granularity = 0;
	int ret;

	switch (all->a[i].what) {
	case ADD:
		ret = all->granularity ? img_size(all->granularity, "-g", &granularity, &m->e) : 0;
		return ret ? ret : qcow2_bitmap_add(n, name, granularity, !has_action(all, DISABLE), &m->e);
	case REMOVE:
		return qcow2_bitmap_remove(n, name, &m->e);
	case CLEAR:
		return qcow2_bitmap_clear(n, name, &m->e);
	case MERGE:
		return merge(m, n, name, all, all->a[i].source);
	default:
		return qcow2_bitmap_record(n, name, all->a[i].what == ENABLE, &m->e);
	}
}

static int run_bitmap(struct img *m)
{
	struct actions all = { 0 };
	struct blk_node *n;
	int ret = read_options(m, &all);

	ret = ret ? ret : img_operands(m, 2, 2);
	ret = ret ? ret : check_options(m, &all);
	/* Guest data is not looked at. */
	ret = ret ? ret : img_open(m, m->operand[0], m->format, IMG_WRITE | IMG_NO_BACKING | IMG_NO_KEY, &n);
	if (ret)
		return ret;
	ret = need_qcow2(m, n);
	for (unsigned i = 0; i < all.n && !ret; i++) {
		ret = img_interrupted(m);
		ret = ret ? ret : act(m, n, m->operand[1], &all, i);
	}
	if (!ret && blk_flush(n))
		ret = err_set(&m->e, -EIO, "'%s' cannot be written", n->path);
	blk_close(n);
	return ret;
}

const struct img_verb img_verb_bitmap = {
	.name = "bitmap",
	.summary = "Makes, changes and removes the dirty bitmaps of an image.",
	.operands = "FILE BITMAP",
	.common = IMG_OPT_FORMAT | IMG_OPT_QUIET | IMG_OPT_OPEN,
	.opts = bitmap_opts,
	.run = run_bitmap,
};
