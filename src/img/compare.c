// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img compare: do two images show the same disk?  Texts and exit statuses are
 * qemu-img's: 0 the same, 1 not, 2 and more for what could not be done.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "block/copy.h"
#include "img/img.h"
#include "img/verbs.h"

#define STATUS_OPEN 2
#define STATUS_READ 4

struct compare {
	const char *format_b;
	bool strict;
	struct blk_node *a, *b;
};

static const struct img_opt compare_opts[] = {
	{ 'F', 'F', NULL, "FORMAT", "format of the second image", "raw qcow2" },
	{ 's', 's', NULL, NULL, "strict: size and what is allocated must be the same too", NULL },
	{ 0 },
};

static bool compare_bar(void *opaque, uint64_t done, uint64_t total)
{
	struct img *m = opaque;

	img_progress(m, done, total);
	return !img_interrupted(m);
}

/* reason NULL: they are the same. */
static int tell(struct img *m, const char *reason, uint64_t at)
{
	json_t *j;
	int ret;

	if (m->json) {
		j = json_pack("{s:b, s:s*, s:o*}", "identical", !reason, "reason", reason, "offset",
			      reason && strcmp(reason, "size") != 0 ? json_integer((json_int_t)at) : NULL);
		ret = img_json_print(m, j);
		return ret ? ret : reason != NULL;
	}
	if (m->quiet)
		return reason != NULL;
	if (!reason)
		printf("Images are identical.\n");
	else if (!strcmp(reason, "size"))
		printf("Strict mode: Image size mismatch!\n");
	else if (!strcmp(reason, "status"))
		printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", at);
	else
		printf("Content mismatch at offset %" PRIu64 "!\n", at);
	return reason != NULL;
}

static int compare_nodes(struct img *m, struct compare *c)
{
	static const char *const reasons[] = { NULL, "content", "status" };
	struct blk_compare_opts o = { .a = c->a, .b = c->b, .len = MAX(c->a->i.size, c->b->i.size), .strict = c->strict,
				      .progress = compare_bar, .opaque = m };
	bool sizes = c->a->i.size != c->b->i.size;
	enum blk_difference found;
	uint64_t at;
	int ret;

	if (sizes && c->strict)
		return tell(m, "size", 0);
	ret = blk_compare(&o, &found, &at, &m->e);
	img_progress_end(m, !ret);
	if (ret == -ECANCELED)
		return img_interrupted(m);
	if (ret) {
		fprintf(stderr, "lodge img: compare: %s\n", m->e.msg);
		return STATUS_READ;
	}
	/* Once what both have is known to be the same, as qemu-img does. */
	if (sizes && (found == BLK_SAME || at >= MIN(c->a->i.size, c->b->i.size)) && !m->quiet && !m->json)
		printf("Warning: Image size mismatch!\n");
	return tell(m, reasons[found], at);
}

static int run_compare(struct img *m)
{
	struct compare c = { 0 };
	const char *val;
	int id, ret;

	while ((id = img_next(m, &val)) > 0) {
		if (id == 'F')
			c.format_b = val;
		else
			c.strict = true;
	}
	ret = id ? id : img_operands(m, 2, 2);
	m->progress = m->progress && !m->json;
	ret = ret ? ret : img_open(m, m->operand[0], m->format, IMG_SOURCE, &c.a);
	ret = ret ? ret : img_open(m, m->operand[1], c.format_b, IMG_SOURCE, &c.b);
	ret = ret ? ret : compare_nodes(m, &c);
	blk_close(c.a);
	blk_close(c.b);
	return ret;
}

const struct img_verb img_verb_compare = {
	.name = "compare",
	.summary = "Tells whether two images show the same disk: exit status 0 if they do, 1 if not, 2 and more: it is not known.",
	.operands = "FILE1 FILE2",
	.common = IMG_OPT_FORMAT | IMG_OPT_SRC_CACHE | IMG_OPT_SHARE | IMG_OPT_QUIET | IMG_OPT_PROGRESS | IMG_OPT_OUTPUT |
		  IMG_OPT_OPEN,
	.opts = compare_opts,
	.run = run_compare,
	.trouble = STATUS_OPEN,
};
