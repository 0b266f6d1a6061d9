// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img convert: a disk into an image of another format, shape or place.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/qcow2/qcow2.h"
#include "img/bitmap.h"
#include "img/transfer.h"
#include "img/verbs.h"

#define MAX_SOURCES 256

struct convert {
	struct transfer t;
	const char *out_format, *backing, *backing_format, *snapshot;
	struct blk_node *parts[MAX_SOURCES];
	unsigned n_parts;
	bool skip_broken;
};

enum { OPT_SALVAGE = 'a', OPT_ZERO = 'z', OPT_VERIFY = 'v', OPT_BITMAPS = 'b', OPT_SKIP = 'k' };

static const struct img_opt convert_opts[] = {
	{ 'O', 'O', NULL, "FORMAT", "format of the image to be made, default raw", "raw qcow2 luks" },
	{ 'o', 'o', "options", "KEY=VALUE,...", "options of that format; '-o help' lists them", NULL },
	{ 'B', 'B', "backing-file", "FILE", "the new image has this backing file, which has the same contents as the source's: only what the "
	  "source has beyond it is copied", "@" },
	{ 'F', 'F', "backing-format", "FORMAT", "its format", "raw qcow2" },
	{ 'c', 'c', NULL, NULL, "compressed (qcow2)", NULL },
	{ 'n', 'n', NULL, NULL, "write into the image that is there already; what it holds is lost", NULL },
	{ OPT_ZERO, 0, "target-is-zero", NULL, "with -n: what is there reads as zeros everywhere, and need not be made so", NULL },
	{ 'l', 'l', "snapshot", "SNAPSHOT", "the disk as it was at this internal snapshot (name or ID)", NULL },
	{ 'S', 'S', NULL, "SIZE", "zeros in data become holes if there are so many in a row: default 4k, 0: none do", NULL },
	{ 'm', 'm', "parallel", "N", "requests in flight, 1 to 64, default 8", NULL },
	{ 'W', 'W', NULL, NULL, "write out of order: faster on some storage, and the image more scattered", NULL },
	{ 'r', 'r', "rate-limit", "BYTES", "copy at most so many bytes a second", NULL },
	{ OPT_SALVAGE, 0, "salvage", NULL, "go on where the source cannot be read, with zeros instead", NULL },
	{ OPT_BITMAPS, 0, "bitmaps", NULL, "the source's dirty bitmaps too (qcow2 to qcow2)", NULL },
	{ OPT_SKIP, 0, "skip-broken-bitmaps", NULL, "but those that say nothing any more, since the image was not closed", NULL },
	{ OPT_VERIFY, 0, "verify", NULL, "read the result again from its storage and compare", NULL },
	{ 0 },
};

static int sparse_size(struct img *m, const char *val, uint32_t *out)
{
	uint64_t v;
	int ret = img_size(val, "-S", &v, &m->e);

	if (!ret && (v % BLK_SECTOR || v > BLK_COPY_MAX_SPARSE))
		ret = err_set(&m->e, -EINVAL, "-S: '%.40s' is not a multiple of 512 up to 16M", val);
	*out = (uint32_t)v;
	return ret;
}

static int in_flight(struct img *m, const char *val, unsigned *out)
{
	uint64_t v;
	int ret = img_number(val, "-m", BLK_COPY_MAX_IN_FLIGHT, &v, &m->e);

	*out = (unsigned)v;
	return ret || v ? ret : err_set(&m->e, -EINVAL, "-m: at least one request is in flight");
}

static int apply_opt(struct img *m, struct convert *c, int id, const char *val)
{
	struct blk_copy_opts *o = &c->t.o;

	switch (id) {
	case 'O': c->out_format = val; return 0;
	case 'o': return img_keys_add(&c->t.keys, val, &m->e);
	case 'B': c->backing = val; return 0;
	case 'F': c->backing_format = val; return 0;
	case 'c': o->compress = true; return 0;
	case 'n': c->t.existing = true; return 0;
	case OPT_ZERO: c->t.target_is_zero = true; return 0;
	case 'l': c->snapshot = val; return 0;
	case 'S': return sparse_size(m, val, &o->sparse);
	case 'm': return in_flight(m, val, &o->in_flight);
	case 'W': o->out_of_order = true; return 0;
	case 'r': return img_size(val, "-r", &o->rate, &m->e);
	case OPT_SALVAGE: o->salvage = true; return 0;
	case OPT_BITMAPS: c->t.bitmaps = true; return 0;
	case OPT_SKIP: c->skip_broken = true; return 0;
	case OPT_VERIFY: c->t.verify = true; return 0;
	default: return id;
	}
}

static int check_combination(struct img *m, const struct convert *c)
{
	const struct transfer *t = &c->t;

	if (t->existing && t->keys.n)
		return err_set(&m->e, -EINVAL, "-o describes an image to be made, and -n says that none is");
	if (t->target_is_zero && !t->existing)
		return err_set(&m->e, -EINVAL, "--target-is-zero is for images that are there already (-n)");
	if (t->target_is_zero && c->backing)
		return err_set(&m->e, -EINVAL, "--target-is-zero cannot be said of an image with a backing file");
	if (c->backing && t->existing)
		return err_set(&m->e, -EINVAL, "-B is written to a new image: lodge img rebase changes it in one that is there");
	if (c->backing && m->n_operands > 2)
		return err_set(&m->e, -EINVAL, "-B: there is one source, whose backing file has the same contents");
	if (c->snapshot && m->n_operands > 2)
		return err_set(&m->e, -EINVAL, "-l names a snapshot of one image: give one source");
	if (c->skip_broken && !t->bitmaps)
		return err_set(&m->e, -EINVAL, "--skip-broken-bitmaps goes with --bitmaps");
	if (t->bitmaps && (m->n_operands > 2 || c->snapshot))
		return err_set(&m->e, -EINVAL, "--bitmaps: they are of one image as it is now: neither several sources nor -l");
	if (c->backing && !c->backing_format)
		return err_set(&m->e, -EINVAL, "say the backing file's format with -F: a guest could make its disk look like another "
			       "format, which would be believed if nobody said");
	if (c->backing_format && !c->backing)
		return err_set(&m->e, -EINVAL, "-F names the format of a backing file, but there is none: say -B FILE");
	return 0;
}

static int set_backing(struct img *m, struct convert *c)
{
	struct blk_node *n;
	char *path;
	int ret;

	if (!c->backing)
		return 0;
	path = blk_relative_path(c->t.dst, c->backing);
	if (!path)
		return err_set(&m->e, -ENOMEM, "out of memory");
	ret = img_open(m, path, c->backing_format, IMG_NAMED | IMG_NO_BACKING | IMG_NO_KEY | IMG_SOURCE, &n);
	free(path);
	if (ret)
		return err_prefix(&m->e, ret, "backing file");
	blk_close(n);
	c->t.o.depth = 1;
	ret = img_keys_set(&c->t.keys, "backing_file", c->backing, &m->e);
	return ret ? ret : img_keys_set(&c->t.keys, "backing_fmt", c->backing_format, &m->e);
}

static int open_sources(struct img *m, struct convert *c)
{
	struct blk_node **src = &c->t.o.src;
	int n = m->n_operands - 1, ret = 0;

	if (n > MAX_SOURCES)
		return err_set(&m->e, -E2BIG, "more than %d sources", MAX_SOURCES);
	for (int i = 0; i < n && !ret; i++) {
		ret = transfer_open_source(m, m->operand[i], m->format, &c->parts[i]);
		c->n_parts += !ret;
	}
	if (!ret && c->snapshot)
		ret = img_show_snapshot(m, c->snapshot, c->parts[0]);
	if (!ret && c->t.bitmaps)
		ret = img_bitmaps_check(m, c->parts[0], c->skip_broken);
	if (!ret && n > 1) {
		ret = blk_concat(c->parts, c->n_parts, src);
		if (ret)
			return err_set(&m->e, ret, "the sources cannot be read as one: %s", strerror(-ret));
		c->n_parts = 0;
	} else if (!ret) {
		*src = c->parts[0];
		c->n_parts = 0;
	}
	if (!ret)
		c->t.o.len = (*src)->i.size;
	return ret;
}

/* An image already there may be of any format; raw unless said, as with qemu-img. */
static int choose_format(struct img *m, struct convert *c)
{
	c->t.format_name = c->out_format ? c->out_format : "raw";
	if (c->t.existing)
		return 0;
	c->t.format = img_format_find(c->t.format_name, &m->e);
	if (!c->t.format)
		return -EINVAL;
	if (c->t.o.compress && strcmp(c->t.format_name, "qcow2") != 0)
		return err_set(&m->e, -EINVAL, "-c: %s images cannot be compressed, qcow2 images can (-O qcow2)", c->t.format_name);
	return 0;
}

static int convert_checked(struct img *m, struct convert *c)
{
	int ret = img_operands(m, 2, MAX_SOURCES + 1);

	if (ret)
		return ret;
	c->t.dst = m->operand[m->n_operands - 1];
	if (!strncmp(c->t.dst, "file:", 5))
		c->t.dst += 5;
	ret = check_combination(m, c);
	if (!ret && !c->t.existing)
		ret = img_format_check(c->t.format, &c->t.keys, &m->e);
	ret = ret ? ret : open_sources(m, c);
	ret = ret ? ret : set_backing(m, c);
	return ret ? ret : transfer_run(&c->t);
}

static int run_convert(struct img *m)
{
	struct convert *c = calloc(1, sizeof(*c));
	const char *val;
	int id, ret = 0;

	if (!c)
		return err_set(&m->e, -ENOMEM, "out of memory");
	c->t.m = m;
	c->t.o.sparse = 4096;
	while (!ret && (id = img_next(m, &val)) != 0)
		ret = apply_opt(m, c, id, val);
	ret = ret ? ret : choose_format(m, c);
	if (!ret && !(c->t.format && img_format_help(c->t.format, &c->t.keys)))
		ret = convert_checked(m, c);
	blk_close(c->t.o.src);
	for (unsigned i = 0; i < c->n_parts; i++)
		blk_close(c->parts[i]);
	transfer_free(&c->t);
	free(c);
	return ret;
}

const struct img_verb img_verb_convert = {
	.name = "convert",
	.summary = "Copies a disk into an image of another format, shape or place.",
	.operands = "SOURCE... TARGET",
	.common = IMG_OPT_FORMAT | IMG_OPT_CACHE | IMG_OPT_SRC_CACHE | IMG_OPT_SHARE | IMG_OPT_QUIET | IMG_OPT_PROGRESS |
		  IMG_OPT_OUTPUT | IMG_OPT_FORCE | IMG_OPT_OPEN,
	.opts = convert_opts,
	.run = run_convert,
};
