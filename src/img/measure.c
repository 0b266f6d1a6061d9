// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge img measure: how large a file a new image needs, empty, with what an
 * image holds, or full.  The layout is that of the specification: header, L1 and
 * L2 tables, refcounts of all of it, clusters.
 */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "block/qcow2/qcow2.h"
#include "img/bitmap.h"
#include "img/luks.h"
#include "img/verbs.h"

#define MAX_STEP (1ull << 30)

static const struct img_opt measure_opts[] = {
	{ 'O', 'O', "target-format", "FORMAT", "format of the new image (raw)", "raw qcow2 luks" },
	{ 'o', 'o', "options", "KEY=VALUE,...", "its options, as with create", NULL },
	{ 'l', 'l', "snapshot", "SNAPSHOT", "of the disk as it was at this internal snapshot (name or ID)", NULL },
	{ 's', 0, "size", "SIZE", "of an empty disk of this size, instead of an image", NULL },
	{ 0 },
};

struct measure {
	const char *target, *size, *snapshot;
	struct img_keys keys;
	uint64_t required, full;
	bool bitmaps;			/* the source could have any */
	uint64_t bitmaps_size;
};

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* Bytes of all metadata of a full image. size: of the disk, in whole clusters. luks: of its LUKS header, 0: none */
static uint64_t qcow2_metadata(const struct qcow2_create_opts *o, uint64_t size, uint64_t luks)
{
	uint64_t cluster = o->cluster_size, entries = cluster / (o->extended_l2 ? 16 : 8);
	uint64_t l2 = div_up(size / cluster, entries), l1 = div_up(l2, cluster / 8);
	uint64_t crypt = div_up(luks, cluster), used = 1 + l2 + l1 + crypt + size / cluster, blocks = 0, table = 0, before;

	do {
		before = blocks + table;
		blocks = div_up(used + before, cluster * 8 / o->refcount_bits);
		table = div_up(blocks, cluster / 8);
	} while (blocks + table != before);
	return (1 + l2 + l1 + crypt + blocks + table) * cluster;
}

/* Bytes of clusters that hold data. */
static int count_data(struct img *m, struct blk_node *n, uint64_t cluster, uint64_t *bytes)
{
	uint64_t at = 0, counted = 0;

	*bytes = 0;
	while (at < n->i.size) {
		struct blk_extent x;
		uint64_t from, to;
		int ret = blk_block_status(n, at, MIN(n->i.size - at, MAX_STEP), false, &x);

		if (!ret && !x.len)
			ret = -EIO;
		if (ret)
			return err_set(&m->e, ret, "'%s' cannot be looked through: %s", n->path, strerror(-ret));
		from = MAX(align_down(at, cluster), counted);
		to = align_up(at + x.len, cluster);
		if (x.data && !x.zero && to > from) {
			*bytes += to - from;
			counted = to;
		}
		at += x.len;
	}
	return 0;
}

static int measure_qcow2(struct img *m, struct measure *ms, struct blk_node *n, uint64_t size)
{
	struct qcow2_create_opts o = { 0 };
	uint64_t data = 0, meta, luks = 0;
	int ret = img_qcow2_options(&ms->keys, &o, &m->e);

	if (!ret && img_keys_get(&ms->keys, "encrypt.format"))
		ret = img_luks_measure(&ms->keys, "encrypt.", &luks, &m->e);

	ret = ret ? ret : qcow2_create_check(&o, &m->e);
	if (ret)
		return ret;
	o.cluster_size = o.cluster_size ? o.cluster_size : 65536;
	o.refcount_bits = o.refcount_bits ? o.refcount_bits : 16;
	size = align_up(size, o.cluster_size);
	meta = qcow2_metadata(&o, size, luks);
	if (o.prealloc >= QCOW2_PREALLOC_FALLOC || (n && o.backing))
		data = size;
	else if (n)
		ret = count_data(m, n, o.cluster_size, &data);
	ms->bitmaps = ms->bitmaps && o.version > 2;
	if (!ret && ms->bitmaps)
		ret = img_bitmaps_size(m, n, o.cluster_size, &ms->bitmaps_size);
	ms->required = meta + data;
	ms->full = meta + size;
	return ret;
}

static int measure_node(struct img *m, struct measure *ms, struct blk_node *n)
{
	uint64_t size = 0;
	char text[32];
	int ret = n ? 0 : img_size(ms->size, "--size", &size, &m->e);

	size = n ? n->i.size : size;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)size);
	ret = ret ? ret : img_keys_set(&ms->keys, "size", text, &m->e);
	if (ret)
		return ret;
	if (!strcmp(ms->target, "qcow2"))
		return measure_qcow2(m, ms, n, align_up(size, BLK_SECTOR));
	if (!strcmp(ms->target, "luks")) {
		ret = img_luks_measure(&ms->keys, "", &ms->required, &m->e);
		ms->required = ms->full = ms->required + align_up(size, BLK_SECTOR);
		return ret;
	}
	if (strcmp(ms->target, "raw") != 0)
		return err_set(&m->e, -ENOTSUP, "images of format '%s' cannot be measured", ms->target);
	ms->required = ms->full = align_up(size, BLK_SECTOR);
	return 0;
}

static int print_measure(struct img *m, const struct measure *ms)
{
	json_t *j;

	if (!m->json) {
		printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)ms->required,
		       (unsigned long long)ms->full);
		if (ms->bitmaps)
			printf("bitmaps size: %llu\n", (unsigned long long)ms->bitmaps_size);
		return 0;
	}
	j = json_pack("{s:I, s:I}", "required", (json_int_t)ms->required, "fully-allocated", (json_int_t)ms->full);
	if (j && ms->bitmaps && json_object_set_new(j, "bitmaps", json_integer((json_int_t)ms->bitmaps_size))) {
		json_decref(j);
		j = NULL;
	}
	return img_json_print(m, j);
}

static int measure_args(struct img *m, struct measure *ms)
{
	const struct img_format *f;
	const char *val;
	int id, ret = 0;

	ms->target = "raw";
	while (!ret && (id = img_next(m, &val)) != 0) {
		if (id < 0)
			return id;
		if (id == 'O')
			ms->target = val;
		else if (id == 's')
			ms->size = val;
		else if (id == 'l')
			ms->snapshot = val;
		else
			ret = img_keys_add(&ms->keys, val, &m->e);
	}
	ret = ret ? ret : img_operands(m, ms->size ? 0 : 1, ms->size ? 0 : 1);
	if (!ret && ms->size && ms->snapshot)
		ret = err_set(&m->e, -EINVAL, "-l names a snapshot of an image, and --size says that there is none");
	f = ret ? NULL : img_format_find(ms->target, &m->e);
	if (!ret && !f)
		return -EINVAL;
	return ret ? ret : img_format_check(f, &ms->keys, &m->e);
}

static int run_measure(struct img *m)
{
	struct measure ms = { 0 };
	struct blk_node *n = NULL;
	int ret = measure_args(m, &ms);

	if (!ret && !ms.size)
		ret = img_open(m, m->operand[0], m->format, IMG_NO_KEY, &n);
	if (!ret && n && n->format && !strcmp(n->format, "qcow2") && !strcmp(ms.target, "qcow2")) {
		struct qcow2_info i;

		qcow2_get_info(n, &i);
		ms.bitmaps = i.version > 2;
	}
	if (!ret && ms.snapshot)
		ret = img_show_snapshot(m, ms.snapshot, n);
	ret = ret ? ret : measure_node(m, &ms, n);
	blk_close(n);
	ret = ret ? ret : print_measure(m, &ms);
	img_keys_free(&ms.keys);
	return ret;
}

const struct img_verb img_verb_measure = {
	.name = "measure",
	.summary = "Tells how large a file a new image needs.",
	.operands = "FILE | --size SIZE",
	.common = IMG_OPT_FORMAT | IMG_OPT_SHARE | IMG_OPT_OUTPUT | IMG_OPT_OPEN,
	.opts = measure_opts,
	.run = run_measure,
};
