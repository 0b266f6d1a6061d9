// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img resize: a longer or shorter disk.
 *
 * The new size is the last argument and may begin with a minus, so it is taken
 * away before options are looked for.  What a shorter disk loses is lost for good:
 * that needs --shrink.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "block/qcow2/qcow2.h"
#include "img/img.h"
#include "img/verbs.h"

#define FILL (1u << 20)

static const struct img_opt resize_opts[] = {
	{ 's', 0, "shrink", NULL, "make it shorter, although what is cut off is lost", NULL },
	{ 'p', 0, "preallocation", "MODE", "what is added is there at once: off, metadata, falloc or full", "off metadata falloc full" },
	{ 0 },
};

struct resize {
	const char *text;
	bool shrink;
	enum qcow2_prealloc prealloc;
	uint64_t old, size;
};

static int new_size(struct img *m, struct resize *r)
{
	char sign = r->text[0] == '+' || r->text[0] == '-' ? r->text[0] : 0;
	uint64_t n;
	int ret = img_size(r->text + (sign != 0), "new size", &n, &m->e);

	if (ret)
		return ret;
	if (sign == '-' && n >= r->old)
		return err_set(&m->e, -EINVAL, "the disk has %llu bytes and cannot become %llu bytes shorter",
			       (unsigned long long)r->old, (unsigned long long)n);
	r->size = sign == '-' ? r->old - n : n;
	if (sign == '+' && add_overflows(r->old, n, &r->size))
		r->size = UINT64_MAX;
	if (!r->size)
		return err_set(&m->e, -EINVAL, "the new size is 0: a disk has at least one sector of %d bytes", BLK_SECTOR);
	if (r->size > (uint64_t)INT64_MAX - 511)
		return err_set(&m->e, -EFBIG, "a disk of %llu bytes is too large", (unsigned long long)r->size);
	r->size = align_up(r->size, BLK_SECTOR);
	return 0;
}

static int may_resize(struct img *m, const struct blk_node *n, const struct resize *r)
{
	if (r->size < r->old && !r->shrink)
		return err_set(&m->e, -EPERM, "'%s' would become %llu bytes shorter, and what it holds there would be lost: say --shrink "
			       "if that is meant (and let the guest make its file systems smaller first)", n->path,
			       (unsigned long long)(r->old - r->size));
	if (r->size < r->old && r->prealloc)
		return err_set(&m->e, -EINVAL, "--preallocation is for disks that become longer");
	return 0;
}

static int raw_prealloc(struct img *m, struct blk_node *n, const struct resize *r)
{
	uint8_t *zeros;
	int ret = 0;

	if (r->prealloc == QCOW2_PREALLOC_METADATA)
		return err_set(&m->e, -EINVAL, "--preallocation=metadata: a raw image has none");
	if (r->prealloc == QCOW2_PREALLOC_FALLOC)
		return blk_file_reserve(n->file ? n->file : n, &m->e);
	zeros = aligned_alloc(4096, FILL);
	if (!zeros)
		return err_set(&m->e, -ENOMEM, "out of memory");
	memset(zeros, 0, FILL);
	for (uint64_t at = r->old; at < r->size && !ret; at += FILL)
		ret = img_interrupted(m) ? -EINTR : blk_pwrite(n, at, zeros, MIN(FILL, r->size - at));
	free(zeros);
	return ret && ret != -EINTR ? err_set(&m->e, ret, "what was added to '%s' cannot be written: %s", n->path, strerror(-ret))
				    : ret;
}

static int resize_node(struct img *m, struct blk_node *n, struct resize *r)
{
	int ret;

	r->old = n->i.size;
	ret = new_size(m, r);
	ret = ret ? ret : may_resize(m, n, r);
	if (ret)
		return ret;
	if (r->size != r->old)
		ret = blk_resize(n, r->size, &m->e);
	if (!ret && r->prealloc && r->size > r->old) {
		ret = n->format && !strcmp(n->format, "qcow2") ? qcow2_preallocate(n, r->old, r->prealloc, &m->e)
							       : raw_prealloc(m, n, r);
		if (ret)
			err_prefix(&m->e, ret, "the disk has its new size, but");
	}
	if (!ret && blk_flush(n))
		ret = err_set(&m->e, -EIO, "'%s' cannot be written", n->path);
	return ret;
}

static int resize_args(struct img *m, struct resize *r)
{
	static const char *const modes[] = { "off", "metadata", "falloc", "full", NULL };
	struct img_keys k = { 0 };
	const char *val, *last = m->argv[m->argc - 1];
	unsigned mode = 0;
	int id, ret = 0;

	if (m->argc > 2 && strcmp(last, "-h") != 0 && strcmp(last, "--help") != 0) {
		r->text = last;
		m->argc--;
	}
	while (!ret && (id = img_next(m, &val)) != 0) {
		if (id < 0)
			return id;
		if (id == 's')
			r->shrink = true;
		else
			ret = img_keys_set(&k, "preallocation", val, &m->e);
	}
	ret = ret ? ret : img_keys_word(&k, "preallocation", modes, &mode, &m->e);
	r->prealloc = mode;
	img_keys_free(&k);
	ret = ret ? ret : img_operands(m, 1, 1);
	if (!ret && !r->text)
		ret = err_set(&m->e, -EINVAL, "something is missing; usage: lodge img resize [OPTION]... %s", m->v->operands);
	return ret;
}

static int run_resize(struct img *m)
{
	struct resize r = { 0 };
	struct blk_node *n;
	int ret = resize_args(m, &r);

	ret = ret ? ret : img_open(m, m->operand[0], m->format, IMG_WRITE, &n);
	if (ret)
		return ret;
	ret = resize_node(m, n, &r);
	blk_close(n);
	if (!ret && !m->quiet)
		printf("Image resized.\n");
	return ret;
}

const struct img_verb img_verb_resize = {
	.name = "resize",
	.summary = "Makes a disk longer or, with --shrink, shorter.",
	.operands = "FILE [+|-]SIZE",
	.common = IMG_OPT_FORMAT | IMG_OPT_QUIET | IMG_OPT_OPEN,
	.opts = resize_opts,
	.run = run_resize,
};
