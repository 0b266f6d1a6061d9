// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Damaged qcow2 images: opened, read, checked, written, snapshotted, repaired.
 *
 * The first byte chooses one of some good images made at the start, or the rest
 * of the input as an image.  A good image is then damaged as the input says, in
 * places of 1 to 8 bytes; what is left of the input is a script of requests.
 * Nothing may crash, hang or take memory without bound, and an image that repair
 * calls good must check as good.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/qcow2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_FILE (8u << 20)
#define N_SHAPES 5
#define MAX_RANGE (256u << 10)

struct shape {
	uint8_t *data;
	uint64_t len;
};

struct input {
	const uint8_t *p;
	size_t left;
};

static uint64_t take(struct input *in, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n && in->left; i++, in->left--)
		v = v << 8 | *in->p++;
	return v;
}

static void require(int ret)
{
	if (ret)
		abort();
}

static struct blk_node *memory(struct loop *l, const uint8_t *data, uint64_t len)
{
	struct blk_node *n;

	require(blk_open_mem_file(l, MAX_FILE, &n));
	memcpy(blk_mem_data(n), data, len);
	n->i.size = len;
	return n;
}

/* With a VM's state of up to 64 KiB. */
static int save_vm(struct blk_node *n, const char *name, uint64_t size, uint8_t *buf)
{
	const struct qcow2_vm vm = { .state_size = size, .clock_ns = 1, .date_sec = 2 };
	const struct iovec v = { buf, size };
	char id[QCOW2_ID_LEN];
	struct err e;
	int ret = qcow2_vmstate_begin(n, size, &e);

	ret = ret ? ret : qcow2_vmstate_write(n, 0, &v, 1, size);
	return ret ? ret : qcow2_snapshot_create_vm(n, name, &vm, id, &e);
}

/* What a snapshot says it has, and where. */
static void read_vm(struct blk_node *n, uint64_t off, uint8_t *buf)
{
	const struct iovec v = { buf, MAX_RANGE };
	struct qcow2_vmstate *vm;
	struct qcow2_snapshot *s;
	unsigned count;
	struct err e;

	if (qcow2_snapshot_list(n, &s, &count, &e))
		return;
	for (unsigned i = 0; i < count && i < 4; i++) {
		if (qcow2_vmstate_open(n, s[i].id, &vm, &e))
			continue;
		qcow2_vmstate_read(vm, 0, &v, 1, MIN(align_down(s[i].vm_state_size, 512), (uint64_t)MAX_RANGE));
		qcow2_vmstate_read(vm, off, &v, 1, 512);
		qcow2_vmstate_close(vm);
	}
	qcow2_snapshots_free(s, count);
}

static void make_shape(struct loop *l, unsigned i, struct shape *out)
{
	const struct qcow2_create_opts o[N_SHAPES] = {
		{ .size = 200 << 10, .cluster_size = 512 },
		{ .size = 200 << 10, .cluster_size = 512, .version = 2 },
		{ .size = 300 << 10, .cluster_size = 1024, .refcount_bits = 1, .compression = QCOW2_ZSTD },
		{ .size = 600 << 10, .cluster_size = 16384, .extended_l2 = true, .refcount_bits = 64 },
		{ .size = 100 << 10, .cluster_size = 512, .refcount_bits = 8, .lazy_refcounts = true },
	};
	const struct blk_image_opts io = { .trust = BLK_TRUST_NONE };
	struct blk_node *file = memory(l, (const uint8_t *)"", 0), *n;
	uint8_t *buf = malloc(65536);
	struct err e;

	if (!buf)
		abort();
	require(qcow2_create(file, &o[i], &e));
	require(qcow2_open(file, &io, 0, &n, &e));
	for (unsigned k = 0; k < 65536; k++)
		buf[k] = (uint8_t)(k >> 6);
	if (o[i].version != 2) {
		require(qcow2_bitmap_add(n, "on", 512, true, &e));
		require(qcow2_bitmap_add(n, "off", 1024, false, &e));
	}
	require(blk_pwrite(n, 0, buf, 40960));
	require(blk_pwrite_compressed(n, 49152, buf, 16384));
	if (o[i].refcount_bits != 1)
		require(save_vm(n, "one", 20000, buf));
	require(blk_pwrite(n, 8192, buf, 4096));
	require(blk_pwrite_zeroes(n, 65536, 16384, false));
	/* So that bitmaps are not in use. */
	require(blk_reopen(n, &(struct blk_reopen){ .read_only = true }, &e));
	out->len = file->i.size;
	out->data = malloc(out->len);
	if (!out->data)
		abort();
	memcpy(out->data, blk_mem_data(file), out->len);
	free(buf);
	blk_close(n);
}

static void damage(struct blk_node *file, struct input *in)
{
	unsigned n = (unsigned)take(in, 1) & 15;

	while (n--) {
		uint64_t where = take(in, 2), width = (take(in, 1) & 7) + 1;

		/* The header and its neighbours, mostly. */
		if (where & 0x8000)
			where = (where & 0x7fff) * 8;
		if (where + width > file->i.size)
			continue;
		for (unsigned i = 0; i < width; i++)
			blk_mem_data(file)[where + i] = (uint8_t)take(in, 1);
	}
}

static void request(struct blk_node *n, struct input *in, uint8_t *buf)
{
	uint64_t sectors = MAX(n->i.size / 512, 1u), off = take(in, 3) % sectors * 512;
	uint64_t len = MIN((take(in, 1) + 1) * 512, n->i.size - MIN(off, n->i.size));
	struct blk_extent x;
	char name[1024];
	struct err e;

	len = MIN(len, (uint64_t)MAX_RANGE);
	switch (take(in, 1) % 24) {
	case 0:
	case 1:
		blk_pread(n, off, buf, len);
		break;
	case 2:
	case 3:
		blk_pwrite(n, off, buf, len);
		break;
	case 4:
		blk_pwrite_compressed(n, off, buf, len);
		break;
	case 5:
		blk_pdiscard(n, off, len);
		break;
	case 6:
		blk_pwrite_zeroes(n, off, len, true);
		break;
	case 7:
		blk_block_status(n, off, len, false, &x);
		break;
	case 8:
		qcow2_snapshot_create(n, "two", &e);
		break;
	case 9:
		qcow2_snapshot_apply(n, "one", &e);
		break;
	case 10:
		qcow2_snapshot_delete(n, "one", &e);
		break;
	case 11:
		if (n->i.size < 16u << 20)
			blk_resize(n, MAX(off, 512u), &e);
		break;
	case 12:
		qcow2_bitmap_add(n, "new", 512ull << (len >> 9 & 7), off & 512, &e);
		break;
	case 13:
		qcow2_bitmap_remove(n, off & 512 ? "on" : "off", &e);
		break;
	case 14:
		qcow2_bitmap_record(n, off & 512 ? "on" : "off", len & 512, &e);
		break;
	case 15:
		qcow2_bitmap_merge(n, "off", n, "on", &e);
		break;
	case 16:
		qcow2_bitmap_clear(n, "on", &e);
		break;
	case 17:
		if (!qcow2_bitmap_next(n, "on", off, &off, &len, &e) && len)
			qcow2_bitmap_reset(n, "on", off, len, &e);
		break;
	case 18:
		memset(name, 'n', sizeof(name));
		name[off / 512 % sizeof(name)] = '\0';
		qcow2_set_backing(n, *name ? name : NULL, len & 512 ? "raw" : NULL, &e);
		break;
	case 19:
		qcow2_bitmap_freeze(n, len & 512 ? "on" : "off", n, NULL, &e);
		break;
	case 20:
		qcow2_bitmap_thaw(n, len & 512 ? "on" : "off", n, off & 512);
		break;
	case 21:
		read_vm(n, off, buf);
		break;
	case 22:
		if (!n->i.read_only && len)
			save_vm(n, "vm", len, buf);
		break;
	case 23:
		qcow2_vmstate_drop(n);
		break;
	}
}

static void use(struct loop *l, struct input *in, struct blk_node *file, uint8_t *buf)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_NONE, .no_backing = true, .cache_bytes = 1 };
	struct qcow2_check res = { 0 }, again = { 0 };
	struct blk_node *n;
	struct err e;

	file->i.read_only = take(in, 1) & 1;
	if (qcow2_open(file, &io, 0, &n, &e)) {
		blk_close(file);
		return;
	}
	for (unsigned i = 0; i < 24 && in->left; i++)
		request(n, in, buf);
	if (!qcow2_check(n, n->i.read_only ? 0 : QCOW2_FIX_ERRORS | QCOW2_FIX_LEAKS, &res, &e) && !n->i.read_only &&
	    res.corruptions == res.corruptions_fixed && res.leaks == res.leaks_fixed && !res.check_errors) {
		require(qcow2_check(n, 0, &again, &e));
		/* What a repair of overlapping tables pulls apart may take a second one. */
		if (res.corruptions == 0 && (again.corruptions || again.leaks))
			abort();
	}
	blk_close(n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct shape shapes[N_SHAPES];
	static struct loop *l;
	static uint8_t *buf;
	struct input in = { data, size };
	struct blk_node *file;
	unsigned which;

	if (!l) {
		require(loop_new(&l));
		buf = calloc(1, MAX_RANGE);
		for (unsigned i = 0; i < N_SHAPES; i++)
			make_shape(l, i, &shapes[i]);
	}
	if (size < 2 || !buf)
		return 0;
	which = (unsigned)take(&in, 1) % (N_SHAPES + 1);
	if (which == N_SHAPES) {
		file = memory(l, in.p, in.left);
	} else {
		file = memory(l, shapes[which].data, shapes[which].len);
		damage(file, &in);
	}
	use(l, &in, file, buf);
	return 0;
}
