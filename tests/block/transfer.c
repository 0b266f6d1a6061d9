/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copies: an image with random contents into another of a random shape, in a random
 * way, with answers out of order; every third with a file that fails somewhere.
 *
 *   transfer [--seed S] [--count N] [--verbose]
 *
 * A copy that succeeds shows what the source shows, and the target's own check finds
 * nothing; one that fails says so with the file's error, and leaves a target that
 * opens anew with leaks at worst.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/zero.h"
#include "block/copy.h"
#include "record.h"
#include "script.h"

#define MAX_FILE (96u << 20)
#define MAX_SIZE (1u << 20)

static struct loop *loop;

struct trial {
	struct rng r;
	struct model m;
	struct blk_node *src_file, *src, *dst_file, *dst;
	struct blk_copy_opts o;
	int err;			/* what the failing file says; 0: none fails */
};

static const char *make(struct rng *r, const struct qcow2_create_opts *o, struct blk_node **file, struct blk_node **n)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_ALL, .cache_bytes = rng_one_in(r, 2) ? 1 : 0 };
	struct err e;

	if (record_open(loop, MAX_FILE, file) || qcow2_create(*file, o, &e) || qcow2_open(*file, &io, 0, n, &e))
		return "an image cannot be made";
	if (rng_one_in(r, 2))
		record_shuffle(*file, rng_next(r) | 1);
	return NULL;
}

static const char *make_source(struct trial *t, char *text, size_t room)
{
	struct qcow2_create_opts o;
	const char *bad;

	script_options(&t->r, &o, MAX_SIZE, text, room);
	bad = make(&t->r, &o, &t->src_file, &t->src);
	if (bad)
		return bad;
	model_init(&t->m, t->src->i.size);
	for (uint64_t n = rng_below(&t->r, 25); n && !bad; n--)
		bad = script_step(&t->r, t->src, &t->m, SCRIPT_SNAPS);
	return bad;
}

/* A new image of another shape, or one that has something already. */
static const char *make_target(struct trial *t, char *text, size_t room)
{
	struct qcow2_create_opts o;
	bool used = rng_one_in(&t->r, 3);
	const char *bad = NULL;
	struct model old;

	script_options(&t->r, &o, MAX_SIZE, text, room);
	o.size = t->m.size;
	bad = make(&t->r, &o, &t->dst_file, &t->dst);
	if (bad || !used) {
		t->o.target_zero = !bad && rng_one_in(&t->r, 2);
		return bad;
	}
	model_init(&old, t->m.size);
	for (uint64_t n = rng_below(&t->r, 15); n && !bad; n--)
		bad = script_step(&t->r, t->dst, &old, 0);
	model_fini(&old);
	return bad;
}

static void choose_way(struct trial *t)
{
	static const uint32_t sparses[] = { 0, 512, 4096, 4096, 65536 };

	t->o.src = t->src;
	t->o.dst = t->dst;
	t->o.len = t->m.size;
	t->o.in_flight = (unsigned)rng_below(&t->r, 20);
	t->o.sparse = sparses[rng_below(&t->r, ARRAY_LEN(sparses))];
	t->o.out_of_order = rng_one_in(&t->r, 2);
	t->o.compress = t->dst->i.can_compress && rng_one_in(&t->r, 3);
	if (rng_one_in(&t->r, 3)) {
		bool source = rng_one_in(&t->r, 3);

		t->err = rng_one_in(&t->r, 2) ? -EIO : -ENOSPC;
		t->o.salvage = source && rng_one_in(&t->r, 2);
		record_fail(source ? t->src_file : t->dst_file, 1 + rng_below(&t->r, 60), t->err, rng_one_in(&t->r, 2));
	}
}

/* What was salvaged is what was there, or zeros, of which there are as many as was said. */
static const char *salvaged(struct trial *t, uint64_t unreadable)
{
	uint8_t *buf = malloc(t->m.size);
	uint64_t lost = 0;
	const char *bad = blk_pread(t->dst, 0, buf, t->m.size) ? "the target cannot be read" : NULL;

	for (uint64_t at = 0; at < t->m.size && !bad; at += 512) {
		if (!memcmp(buf + at, t->m.data + at, 512))
			continue;
		lost += 512;
		if (!mem_is_zero(buf + at, 512))
			bad = "something was salvaged that was never there";
	}
	free(buf);
	return bad || lost <= unreadable ? bad : "more was lost than was said";
}

/* The target as whoever opens it next finds it. */
static const char *reopen(struct trial *t)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_ALL };
	struct qcow2_check res = { 0 };
	struct blk_node *copy, *n;
	const char *bad = NULL;
	struct err e;

	if (record_open(loop, MAX_FILE, &copy))
		return "no memory";
	record_load(copy, record_data(t->dst_file), t->dst_file->i.size);
	if (qcow2_open(copy, &io, 0, &n, &e)) {
		blk_close(copy);
		return "the target does not open any more";
	}
	if (qcow2_check(n, 0, &res, &e) || res.corruptions || res.check_errors)
		bad = "the check finds corruption in the target";
	blk_close(n);
	return bad;
}

static const char *judge(struct trial *t, int ret, const struct blk_copy_stats *st)
{
	enum blk_difference found = BLK_SAME;
	struct blk_compare_opts c = { .a = t->src, .b = t->dst, .len = t->m.size };
	struct model now = t->m;
	const char *bad;
	struct err ce;
	uint64_t at;

	record_fail(t->src_file, 0, 0, false);
	record_fail(t->dst_file, 0, 0, false);
	record_shuffle(t->src_file, 0);
	record_shuffle(t->dst_file, 0);
	if (t->o.salvage)
		return ret ? "a copy that salvages failed" : salvaged(t, st->unreadable);
	if (ret && (ret != t->err && ret != -EIO))
		return "the copy failed with another error than the file";
	if (ret)
		return reopen(t);
	now.n_snaps = 0;		/* snapshots are not copied */
	bad = script_compare(t->dst, &now);
	if (bad || t->err)
		return bad;
	if (blk_compare(&c, &found, &at, &ce) || found != BLK_SAME)
		return "comparing finds a difference that there is not";
	return script_check(t->dst);
}

static void copied(void *opaque, int ret)
{
	*(bool *)opaque = true;
}

/* What is held back comes when its node is waited for, the target's or the source's first. */
static int run(struct trial *t, struct blk_copy_stats *st, struct err *e)
{
	bool done = false;
	struct blk_copy *c;
	int ret;

	t->o.done = copied;
	t->o.opaque = &done;
	ret = blk_copy_start(&t->o, &c);
	if (ret)
		return err_set(e, ret, "it cannot be begun");
	while (!done) {
		struct blk_node *first = rng_one_in(&t->r, 2) ? t->src : t->dst, *second = first == t->src ? t->dst : t->src;

		loop_turn(loop, 0);
		if (first->in_flight)
			blk_progress(first);
		else if (second->in_flight)
			blk_progress(second);
	}
	*st = blk_copy_result(c)->stats;
	ret = blk_copy_result(c)->ret;
	blk_copy_free(c);
	return ret ? err_set(e, ret, "it cannot be copied") : 0;
}

static const char *one(uint64_t seed, char *text, size_t room)
{
	struct trial t = { .r = { seed * 0x2545f4914f6cdd1dull + 7 } };
	const char *bad = make_source(&t, text, room);
	struct blk_copy_stats st = { 0 };
	struct err e = { 0 };
	int ret;

	bad = bad ? bad : make_target(&t, text + strlen(text), room - strlen(text));
	if (!bad) {
		choose_way(&t);
		ret = run(&t, &st, &e);
		/* What is not yet on disk may be what cannot be written. */
		if (!ret && (ret = blk_flush(t.dst)))
			err_set(&e, ret, "it cannot be flushed");
		bad = judge(&t, ret, &st);
		if (!bad && !ret && st.handled != t.o.len)
			bad = "the copy ended early";
	}
	blk_close(t.src);
	blk_close(t.dst);
	model_fini(&t.m);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 200, failed = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--verbose"))
			setenv("SCRIPT_VERBOSE", "1", 1);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else
			return 2;
	}
	setenv("LODGE_LOG", "error", 0);
	if (loop_new(&loop))
		return 1;
	for (uint64_t s = seed; s < seed + count; s++) {
		char text[1024] = "";
		const char *bad = one(s, text, sizeof(text));

		if (!bad)
			continue;
		failed++;
		printf("# seed %llu: %s\n# %s\n", (unsigned long long)s, bad, text);
	}
	printf("%sok 1 - %llu copies, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "", (unsigned long long)count,
	       (unsigned long long)seed, (unsigned long long)failed);
	loop_free(loop);
	return failed != 0;
}
