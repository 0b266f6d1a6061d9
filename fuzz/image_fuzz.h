/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Damaged images of foreign formats: opened, looked at, read.
 *
 * The first byte chooses one of some good images made at the start, or the rest of
 * the input as an image.  A good image is damaged as the input says, in places of 1
 * to 8 bytes, and if it says so the sums are put right again, so that what lies
 * behind them is reached.  What is left of the input is a script of reads.  Nothing
 * may crash, hang, take memory without bound, or read what the file does not hold.
 */
#ifndef LODGE_FUZZ_IMAGE_FUZZ_H
#define LODGE_FUZZ_IMAGE_FUZZ_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../tests/block/foreign_make.h"
#include "base/bits.h"
#include "block/foreign/foreign.h"

#define FUZZ_SHAPES 8
#define FUZZ_READ (64u << 10)

struct image_fuzz {
	const char *format;
	unsigned n_shapes;
	void (*make)(struct made *m, unsigned shape);
	void (*sums)(uint8_t *file, uint64_t len);	/* NULL: the format has none */
	/* Where tables lie, beyond the first 64 KiB: damage goes there too. */
	uint32_t hot[4];
	/* All below is set up at the first input. */
	struct loop *loop;
	struct made shape[FUZZ_SHAPES];
	uint8_t *buf;
};

struct image_input {
	const uint8_t *p;
	size_t left;
};

static uint64_t image_take(struct image_input *in, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n && in->left; i++, in->left--)
		v = v << 8 | *in->p++;
	return v;
}

static void image_require(bool ok)
{
	if (!ok)
		abort();
}

static void image_prepare(struct image_fuzz *f)
{
	image_require(loop_new(&f->loop) == 0);
	f->buf = malloc(FUZZ_READ);
	image_require(f->buf != NULL);
	for (unsigned i = 0; i < f->n_shapes; i++) {
		made_init(&f->shape[i]);
		f->make(&f->shape[i], i);
	}
}

/* Pages of zeros are zeros in a new node already. */
static struct blk_node *image_memory(struct image_fuzz *f, const uint8_t *data, uint64_t len)
{
	static const uint8_t zeros[4096];
	struct blk_node *n;

	image_require(blk_open_mem_file(f->loop, MADE_MAX, &n) == 0);
	for (uint64_t at = 0; at < len; at += sizeof(zeros))
		if (memcmp(data + at, zeros, MIN(len - at, sizeof(zeros))) != 0)
			memcpy(blk_mem_data(n) + at, data + at, MIN(len - at, sizeof(zeros)));
	n->i.size = len;
	n->i.read_only = true;
	return n;
}

static void image_damage(struct image_fuzz *f, struct blk_node *file, struct image_input *in)
{
	unsigned n = (unsigned)image_take(in, 1);
	bool sums = n & 0x80;

	for (n &= 15; n; n--) {
		uint64_t where = image_take(in, 2), how = image_take(in, 1), width = (how & 7) + 1;

		where += f->hot[how >> 6];
		for (unsigned i = 0; i < width && where + i < file->i.size; i++)
			blk_mem_data(file)[where + i] = (uint8_t)image_take(in, 1);
	}
	/* Cut off or longer. */
	if (image_take(in, 1) == 0xff)
		file->i.size = image_take(in, 3) * 512 % MADE_MAX;
	if (sums && f->sums)
		f->sums(blk_mem_data(file), file->i.size);
}

static void image_request(struct image_fuzz *f, struct blk_node *n, struct image_input *in)
{
	uint64_t sectors = MAX(n->i.size / 512, 1u), off = image_take(in, 5) % sectors * 512;
	uint64_t len = (image_take(in, 1) + 1) * 512, at = off;
	struct blk_extent x;

	if (image_take(in, 1) & 1) {
		len = MIN(len, n->i.size - off);
		image_require(blk_pread(n, off, f->buf, MIN(len, (uint64_t)FUZZ_READ)) != -ERANGE);
		return;
	}
	/* A few extents on end. */
	for (unsigned i = 0; i < 4 && at < n->i.size; i++, at += x.len) {
		if (blk_block_status(n, at, n->i.size - at, false, &x))
			break;
		image_require(x.len && x.len <= n->i.size - at && x.len % 512 == 0);
	}
}

static void image_fuzz_one(struct image_fuzz *f, const uint8_t *data, size_t size)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_NONE, .file.read_only = true, .no_backing = size & 1, .cache_bytes = 1 };
	struct image_input in = { data, size };
	struct blk_node *file, *n;
	unsigned which;
	struct err e;

	if (!f->loop)
		image_prepare(f);
	if (size < 2)
		return;
	which = (unsigned)image_take(&in, 1) % (f->n_shapes + 1);
	if (which == f->n_shapes) {
		file = image_memory(f, in.p, in.left);
	} else {
		file = image_memory(f, f->shape[which].file, f->shape[which].len);
		image_damage(f, file, &in);
	}
	if (foreign_open(f->format, file, &io, 0, &n, &e)) {
		blk_close(file);
		return;
	}
	for (unsigned i = 0; i < 16 && in.left; i++)
		image_request(f, n, &in);
	blk_close(n);
}

#endif
