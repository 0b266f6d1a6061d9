// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img map: where the disk's contents lie, through all layers.  Extents are
 * printed as they are found: a large image takes no memory.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "img/img.h"
#include "img/verbs.h"

#define MAX_STEP (1ull << 30)

static const struct img_opt map_opts[] = {
	{ 's', 's', "start-offset", "OFFSET", "begin there", NULL },
	{ 'l', 'l', "max-length", "LENGTH", "no further than so many bytes", NULL },
	{ 0 },
};

struct map {
	uint64_t start, end;
	bool first;
};

static bool goes_on(const struct blk_extent *a, const struct blk_extent *b)
{
	return a->zero == b->zero && a->data == b->data && a->allocated == b->allocated && a->depth == b->depth &&
	       a->compressed == b->compressed && a->has_offset == b->has_offset && a->file == b->file &&
	       (!a->has_offset || a->offset + a->len == b->offset);
}

static const char *boolean(bool b)
{
	return b ? "true" : "false";
}

static int print_extent(struct img *m, struct map *mp, uint64_t start, const struct blk_extent *x)
{
	if (!m->json) {
		if (!x->data || x->zero)
			return 0;
		if (!x->has_offset)
			return err_set(&m->e, -ENOTSUP, "the image has compressed clusters, which have no place this list could name: say "
				       "--output=json");
		printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", start, x->len, x->offset, x->file ? x->file : "");
		return 0;
	}
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s, "
	       "\"compressed\": %s", mp->first ? "[" : ",\n", start, x->len, x->depth, boolean(x->allocated), boolean(x->zero),
	       boolean(x->data), boolean(x->compressed));
	if (x->has_offset)
		printf(", \"offset\": %" PRIu64, x->offset);
	putchar('}');
	mp->first = false;
	return 0;
}

static int next_extent(struct img *m, struct blk_node *n, uint64_t at, uint64_t end, struct blk_extent *x)
{
	int ret = blk_block_status(n, at, MIN(end - at, MAX_STEP), false, x);

	if (!ret && !x->len)
		ret = -EIO;
	if (ret)
		return err_set(&m->e, ret, "'%s' cannot be mapped at byte %" PRIu64 ": %s", n->path, at, strerror(-ret));
	return 0;
}

static int print_map(struct img *m, struct blk_node *n, struct map *mp)
{
	struct blk_extent run = { 0 }, x;
	uint64_t at = mp->start, from = at;
	int ret = 0;

	if (m->json && at >= mp->end)
		printf("[");
	if (!m->json)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	while (at < mp->end && !ret) {
		ret = next_extent(m, n, at, mp->end, &x);
		if (ret)
			break;
		if (run.len && goes_on(&run, &x)) {
			run.len += x.len;
		} else {
			ret = run.len ? print_extent(m, mp, from, &run) : 0;
			run = x;
			from = at;
		}
		at += x.len;
	}
	if (!ret && run.len)
		ret = print_extent(m, mp, from, &run);
	if (!ret && m->json)
		printf("]\n");
	return ret;
}

static int map_range(struct img *m, const struct blk_node *n, const char *start, const char *length, struct map *mp)
{
	uint64_t len = UINT64_MAX;
	int ret = start ? img_size(start, "-s", &mp->start, &m->e) : 0;

	ret = ret || !length ? ret : img_size(length, "-l", &len, &m->e);
	if (ret)
		return ret;
	mp->start = align_down(mp->start, BLK_SECTOR);
	if (mp->start > n->i.size)
		mp->start = n->i.size;
	len = MIN(len, n->i.size - mp->start);
	mp->end = mp->start + MIN(align_up(len, BLK_SECTOR), n->i.size - mp->start);
	return 0;
}

static int run_map(struct img *m)
{
	const char *val, *start = NULL, *length = NULL;
	struct map mp = { .first = true };
	struct blk_node *n;
	int id, ret;

	while ((id = img_next(m, &val)) > 0) {
		if (id == 's')
			start = val;
		else
			length = val;
	}
	ret = id ? id : img_operands(m, 1, 1);
	ret = ret ? ret : img_open(m, m->operand[0], m->format, IMG_NO_KEY, &n);
	if (ret)
		return ret;
	ret = map_range(m, n, start, length, &mp);
	ret = ret ? ret : print_map(m, n, &mp);
	blk_close(n);
	return ret;
}

const struct img_verb img_verb_map = {
	.name = "map",
	.summary = "Tells where a disk's contents lie.",
	.operands = "FILE",
	.common = IMG_OPT_FORMAT | IMG_OPT_SHARE | IMG_OPT_OUTPUT | IMG_OPT_OPEN,
	.opts = map_opts,
	.run = run_map,
};
