/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * I/O errors: a random script on an image whose file fails at the N-th request,
 * once or from then on, with EIO or ENOSPC.
 *
 *   fault [--seed S] [--count N] [--encrypted] [--verbose]
 *
 * Requests may fail, but only with that error or EIO, and never claim to have
 * succeeded without: after the fault is over the contents must be what they were
 * or what was written, and the image must open anew with leaks at worst.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "record.h"
#include "script.h"

#define MAX_FILE (32u << 20)
#define N_STEPS 30

static struct loop *loop;

struct trial {
	struct rng r;
	struct blk_node *file, *n;
	uint8_t *sure, *maybe;		/* contents; and those that a failed request may have left */
	bool *unsure;			/* by sector: either of the two */
	uint64_t size;
	int err;
};

static bool allowed(const struct trial *t, int ret)
{
	return ret == t->err || ret == -EIO;
}

static const char *after_change(struct trial *t, int ret, uint64_t off, uint64_t len, const uint8_t *new)
{
	if (ret && !allowed(t, ret))
		return "a request failed with another error than its file";
	for (uint64_t i = off / 512; i < (off + len) / 512; i++) {
		const uint8_t *to = new ? new + (i * 512 - off) : NULL;
		uint8_t *dest = (ret ? t->maybe : t->sure) + i * 512;

		/* A second failure on top of one: three contents are possible, which is not followed. */
		if (ret && t->unsure[i])
			memset(t->maybe + i * 512, 0xee, 512);
		else if (to)
			memcpy(dest, to, 512);
		else
			memset(dest, 0, 512);
		t->unsure[i] = ret != 0;
	}
	return NULL;
}

static bool unknown(const uint8_t *p)
{
	for (unsigned i = 0; i < 512; i++)
		if (p[i] != 0xee)
			return false;
	return true;
}

static const char *compare(const struct trial *t, const uint8_t *got, uint64_t off, uint64_t len)
{
	for (uint64_t i = off / 512; i < (off + len) / 512; i++) {
		const uint8_t *p = got + (i * 512 - off);

		if (!memcmp(p, t->sure + i * 512, 512))
			continue;
		if (t->unsure[i] && (unknown(t->maybe + i * 512) || !memcmp(p, t->maybe + i * 512, 512)))
			continue;
		return "a sector has contents that nobody wrote";
	}
	return NULL;
}

static const char *step(struct trial *t)
{
	uint64_t cluster = t->n->i.cluster, off = rng_below(&t->r, t->size / 512) * 512;
	uint64_t len = least((1 + rng_below(&t->r, 3 * cluster / 512)) * 512, t->size - off);
	bool compress = rng_one_in(&t->r, 4);
	uint8_t *buf;
	const char *bad = NULL;
	int ret;

	if (compress) {
		off = align_down(off, cluster);
		len = least(align_up(len, cluster), t->size - off);
	}
	buf = malloc(len);
	rng_fill(&t->r, buf, len);
	switch (rng_below(&t->r, 6)) {
	case 0:
		ret = blk_pread(t->n, off, buf, len);
		bad = ret ? allowed(t, ret) ? NULL : "a read failed with another error" : compare(t, buf, off, len);
		break;
	case 1:
		ret = blk_pwrite_zeroes(t->n, off, len, rng_one_in(&t->r, 2));
		bad = after_change(t, ret, off, len, NULL);
		break;
	case 2:
		ret = blk_flush(t->n);
		bad = ret && !allowed(t, ret) ? "a flush failed with another error" : NULL;
		break;
	default:
		ret = compress && t->n->i.can_compress ? blk_pwrite_compressed(t->n, off, buf, len) : blk_pwrite(t->n, off, buf, len);
		bad = after_change(t, ret, off, len, buf);
		break;
	}
	free(buf);
	return bad;
}

static const char *verdict(struct trial *t, struct blk_node *n)
{
	struct qcow2_check res = { 0 };
	uint8_t *buf = malloc(t->size);
	const char *bad;
	struct err e;

	bad = blk_pread(n, 0, buf, t->size) ? "the image cannot be read" : compare(t, buf, 0, t->size);
	if (!bad && (qcow2_check(n, 0, &res, &e) || res.corruptions || res.check_errors))
		bad = "the check finds corruption";
	free(buf);
	return bad;
}

static const char *reopened(struct trial *t)
{
	const struct blk_image_opts io = script_image_opts();
	struct blk_node *copy, *n;
	const char *bad;
	struct err e;

	if (record_open(loop, MAX_FILE, &copy))
		return "no memory";
	record_load(copy, record_data(t->file), t->file->i.size);
	if (qcow2_open(copy, &io, 0, &n, &e)) {
		blk_close(copy);
		return "the image does not open any more";
	}
	bad = verdict(t, n);
	blk_close(n);
	return bad;
}

static const char *one(uint64_t seed, char *text, size_t room)
{
	struct trial t = { .r = { seed * 0x2545f4914f6cdd1dull } };
	struct blk_image_opts io = script_image_opts();
	uint64_t cache = rng_one_in(&t.r, 2) ? 1 : 0, nth = 1 + rng_below(&t.r, 120);
	bool on = rng_one_in(&t.r, 3);
	struct qcow2_create_opts o;
	const char *bad = NULL;
	struct err e;

	io.cache_bytes = cache;
	script_options(&t.r, &o, 128u << 10, text, room);
	if (record_open(loop, MAX_FILE, &t.file) || qcow2_create(t.file, &o, &e) || qcow2_open(t.file, &io, 0, &t.n, &e))
		return "the image cannot be made";
	if (rng_one_in(&t.r, 2))
		record_shuffle(t.file, rng_next(&t.r) | 1);
	t.err = rng_one_in(&t.r, 2) ? -EIO : -ENOSPC;
	t.size = t.n->i.size;
	t.sure = calloc(1, t.size);
	t.maybe = calloc(1, t.size);
	t.unsure = calloc(t.size / 512, sizeof(bool));
	record_fail(t.file, nth, t.err, on);
	for (unsigned i = 0; i < N_STEPS && !bad; i++)
		bad = step(&t);
	record_fail(t.file, 0, 0, false);
	for (unsigned i = 0; i < N_STEPS / 3 && !bad; i++)
		bad = step(&t);
	bad = bad ? bad : verdict(&t, t.n);
	/* An image found damaged by the fault is no longer written, and says so; else all is on disk now. */
	if (!bad && !blk_flush(t.n))
		bad = reopened(&t);
	free(t.sure);
	free(t.maybe);
	free(t.unsure);
	blk_close(t.n);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 200, failed = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--encrypted"))
			script_encrypt();
		else if (!strcmp(argv[i], "--verbose"))
			setenv("SCRIPT_VERBOSE", "1", 1);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: fault [--seed S] [--count N] [--encrypted] [--verbose]\n"), 2;
	}
	setenv("LODGE_LOG", "error", 0);
	if (loop_new(&loop))
		return 2;
	for (uint64_t i = seed; i < seed + count; i++) {
		char text[200];
		const char *bad = one(i, text, sizeof(text));

		if (bad)
			printf("# seed %llu: %s (%s)\n", (unsigned long long)i, bad, text);
		failed += bad != NULL;
	}
	printf("%sok 1 - %llu images whose file fails once or for good, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "",
	       (unsigned long long)count, (unsigned long long)seed, (unsigned long long)failed);
	loop_free(loop);
	return failed != 0;
}
