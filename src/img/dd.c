// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img dd: a part of a disk, or a block device, into a new image, in dd(1)'s
 * words.  As there, count= is counted from where skip= has led.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "img/transfer.h"
#include "img/verbs.h"

struct dd {
	struct transfer t;
	const char *out_format, *in, *out;
	uint64_t bs, count, skip;
};

static const struct img_opt dd_opts[] = {
	{ 'O', 'O', NULL, "FORMAT", "format of the image to be made, default raw", "raw qcow2 luks" },
	{ 'o', 'o', "options", "KEY=VALUE,...", "options of that format; '-o help' lists them", NULL },
	{ 0 },
};

static int dd_operand(struct img *m, struct dd *d, const char *arg)
{
	static const char *const names[] = { "if", "of", "bs", "count", "skip", NULL };
	size_t n = strcspn(arg, "=");
	const char *val = arg + n + 1;
	char name[16];

	snprintf(name, sizeof(name), "%.*s", (int)MIN(n, sizeof(name) - 1), arg);
	if (!arg[n])
		return err_set(&m->e, -EINVAL, "'%.40s': operands are if=, of=, bs=, count= and skip=", arg);
	if (!strcmp(name, "if"))
		d->in = val;
	else if (!strcmp(name, "of"))
		d->out = val;
	else if (!strcmp(name, "bs"))
		return img_size(val, "bs", &d->bs, &m->e);
	else if (!strcmp(name, "count"))
		return img_size(val, "count", &d->count, &m->e);
	else if (!strcmp(name, "skip"))
		return img_size(val, "skip", &d->skip, &m->e);
	else
		return err_set(&m->e, -EINVAL, "'%s=' is not known here%s: if=, of=, bs=, count= and skip= are", name,
			       img_suggest(name, names));
	return 0;
}

static int dd_operands(struct img *m, struct dd *d)
{
	int ret = 0;

	for (int i = 0; i < m->n_operands && !ret; i++)
		ret = dd_operand(m, d, m->operand[i]);
	if (ret)
		return ret;
	if (!d->in || !d->out)
		return err_set(&m->e, -EINVAL, "what is read and what is made? if=SOURCE of=TARGET");
	if (!d->bs || d->bs > INT32_MAX)
		return err_set(&m->e, -EINVAL, "bs: it is 1 to %d bytes", INT32_MAX);
	return 0;
}

/* Which part of the source it is. */
static int dd_range(struct img *m, struct dd *d)
{
	uint64_t size = d->t.o.src->i.size, skip, len;

	if (mul_overflows(d->skip, d->bs, &skip) || skip > size)
		return err_set(&m->e, -EINVAL, "skip: '%s' ends at byte %" PRIu64 ", before the %" PRIu64 ". block of %" PRIu64, d->in,
			       size, d->skip + 1, d->bs);
	if (d->count == UINT64_MAX || mul_overflows(d->count, d->bs, &len) || len > size - skip)
		len = size - skip;
	if (skip % BLK_SECTOR || len % BLK_SECTOR)
		return err_set(&m->e, -EINVAL, "disks consist of sectors of %d bytes, and this part of '%s' does not: choose bs, skip and count "
			       "accordingly", BLK_SECTOR, d->in);
	if (!len)
		return err_set(&m->e, -EINVAL, "nothing remains to be copied: an image has at least one sector");
	d->t.o.src_off = skip;
	d->t.o.len = len;
	return 0;
}

static int dd_checked(struct img *m, struct dd *d)
{
	int ret = dd_operands(m, d);

	if (ret)
		return ret;
	d->t.dst = d->out;
	ret = img_format_check(d->t.format, &d->t.keys, &m->e);
	ret = ret ? ret : transfer_open_source(m, d->in, m->format, &d->t.o.src);
	ret = ret ? ret : dd_range(m, d);
	return ret ? ret : transfer_run(&d->t);
}

static int run_dd(struct img *m)
{
	struct dd d = { .t = { .m = m, .o = { .sparse = 4096 } }, .bs = BLK_SECTOR, .count = UINT64_MAX, .out_format = "raw" };
	const char *val;
	int id, ret = 0;

	while (!ret && (id = img_next(m, &val)) != 0) {
		if (id == 'O')
			d.out_format = val;
		else
			ret = id == 'o' ? img_keys_add(&d.t.keys, val, &m->e) : id;
	}
	d.t.format_name = d.out_format;
	d.t.format = ret ? NULL : img_format_find(d.out_format, &m->e);
	ret = !ret && !d.t.format ? -EINVAL : ret;
	if (!ret && !img_format_help(d.t.format, &d.t.keys))
		ret = dd_checked(m, &d);
	blk_close(d.t.o.src);
	transfer_free(&d.t);
	return ret;
}

const struct img_verb img_verb_dd = {
	.name = "dd",
	.summary = "Makes an image of a disk, a part of one or a block device.",
	.operands = "if=SOURCE of=TARGET [bs=SIZE] [count=N] [skip=N]",
	.common = IMG_OPT_FORMAT | IMG_OPT_CACHE | IMG_OPT_SRC_CACHE | IMG_OPT_SHARE | IMG_OPT_QUIET | IMG_OPT_PROGRESS |
		  IMG_OPT_OUTPUT | IMG_OPT_FORCE | IMG_OPT_OPEN,
	.opts = dd_opts,
	.run = run_dd,
};
