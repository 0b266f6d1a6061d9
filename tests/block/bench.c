/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests as fast as they go, in the pattern of `qemu-img bench`, whose options
 * these are: every request `step` bytes behind the one before, around the end of
 * the disk.  For bench/block, which runs both side by side.
 *
 *   bench [-o] [-w] [-c COUNT] [-d DEPTH] [-s SIZE] [-S STEP] [-f FORMAT] [-t none|writeback] FILE
 *
 * Prints the seconds it took.  With -o it only opens the image: milliseconds, and KiB of memory that takes.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/image.h"

struct bench {
	struct blk_node *n;
	uint64_t left, in_flight, at, size, step;
	bool write;
	int failed;
};

struct slot {
	struct blk_req r;
	struct iovec v;
	struct bench *b;
};

static void submit(struct slot *s);

static void done(struct blk_req *r, int ret)
{
	struct slot *s = container_of(r, struct slot, r);

	s->b->in_flight--;
	if (ret)
		s->b->failed = ret;
	else if (s->b->left)
		submit(s);
}

static void submit(struct slot *s)
{
	struct bench *b = s->b;

	b->at %= b->n->i.size;
	if (b->at + b->size > b->n->i.size)
		b->at = 0;
	s->r = (struct blk_req){ .op = b->write ? BLK_WRITE : BLK_READ, .offset = b->at, .len = b->size, .iov = &s->v,
				 .niov = 1, .done = done };
	b->at += b->step;
	b->left--;
	b->in_flight++;
	blk_submit(b->n, &s->r);
}

int main(int argc, char **argv)
{
	struct blk_image_opts o = { .trust = BLK_TRUST_ALL };
	struct bench b = { .left = 75000, .size = 4096 };
	unsigned depth = 64;
	struct slot *slots;
	struct loop *l;
	struct mallinfo2 before, after;
	bool only_open = false;
	struct err e;
	int64_t t;
	int c;

	while ((c = getopt(argc, argv, "owc:d:s:S:f:t:")) >= 0) {
		switch (c) {
		case 'o': only_open = true; break;
		case 'w': b.write = true; break;
		case 'c': b.left = strtoull(optarg, NULL, 0); break;
		case 'd': depth = (unsigned)strtoul(optarg, NULL, 0); break;
		case 's': b.size = strtoull(optarg, NULL, 0); break;
		case 'S': b.step = strtoull(optarg, NULL, 0); break;
		case 'f': o.format = optarg; break;
		case 't': o.file.cache = strcmp(optarg, "none") ? BLK_CACHE_WRITEBACK : BLK_CACHE_NONE; break;
		default: return 2;
		}
	}
	if (optind + 1 != argc || !depth || !b.size || loop_new(&l))
		return 2;
	b.step = b.step ? b.step : b.size;
	o.file.read_only = !b.write;
	before = mallinfo2();
	t = loop_now_ns();
	if (blk_open_image(l, argv[optind], &o, &b.n, &e)) {
		fprintf(stderr, "bench: %s\n", e.msg);
		return 1;
	}
	after = mallinfo2();
	if (only_open) {
		printf("%.2f %zu\n", (double)(loop_now_ns() - t) / 1e6,
		       (after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) >> 10);
		blk_close(b.n);
		loop_free(l);
		return 0;
	}
	slots = calloc(depth, sizeof(*slots));
	t = loop_now_ns();
	for (unsigned i = 0; i < depth && b.left; i++) {
		slots[i].b = &b;
		slots[i].v = (struct iovec){ aligned_alloc(4096, align_up(b.size, 4096)), b.size };
		memset(slots[i].v.iov_base, 0x5a, b.size);
		submit(&slots[i]);
	}
	while (b.in_flight)
		loop_turn(l, -1);
	/* As the peer does at the end. */
	if (b.write && !b.failed)
		b.failed = blk_flush(b.n);
	printf("%.4f\n", (double)(loop_now_ns() - t) / 1e9);
	blk_close(b.n);
	for (unsigned i = 0; i < depth; i++)
		free(slots[i].v.iov_base);
	free(slots);
	loop_free(l);
	return b.failed != 0;
}
