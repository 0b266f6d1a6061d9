/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sudden death: every change of the file is recorded while a random script runs,
 * and the file is made again as it would be after any prefix of the record, with
 * changes since the last flush lost or kept at random.
 *
 *   crash [--seed S] [--count N] [--points N] [--encrypted] [--verbose]
 *
 * Requests and, where the image has a dirty bit, snapshots.  Each time the image must open, its check must find leaks at worst, and what was
 * flushed must be there: a sector that was not written since the last flush before
 * the moment of death has its contents of that flush, one that was has those or
 * any it was given since.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "record.h"
#include "script.h"

#define MAX_FILE (32u << 20)
#define MAX_VERSIONS 24

static struct loop *loop;

/* Contents a sector may have: those of the last flush, and all since. */
struct history {
	uint64_t n_sectors;
	struct {
		unsigned n;
		uint32_t sum[MAX_VERSIONS];
	} *s;
};

static uint32_t sum_of(const uint8_t *p)
{
	uint32_t h = 2166136261u;

	for (unsigned i = 0; i < 512; i++)
		h = (h ^ p[i]) * 16777619u;
	return h;
}

static void note(struct history *h, const struct model *m)
{
	for (uint64_t i = 0; i < h->n_sectors; i++) {
		uint32_t s = sum_of(m->data + i * 512);
		unsigned n = h->s[i].n;

		if (n && h->s[i].sum[n - 1] == s)
			continue;
		if (n < MAX_VERSIONS)
			h->s[i].sum[h->s[i].n++] = s;
	}
}

/* All before is on disk. */
static void settle(struct history *h, const struct model *m)
{
	for (uint64_t i = 0; i < h->n_sectors; i++)
		h->s[i].n = 0;
	note(h, m);
}

/* What may be there at a mark: a copy of the history then. */
struct moment {
	struct history h;
};

static void copy_history(const struct history *from, struct history *to)
{
	to->n_sectors = from->n_sectors;
	to->s = malloc(from->n_sectors * sizeof(*to->s));
	if (!to->s)
		abort();
	memcpy(to->s, from->s, from->n_sectors * sizeof(*to->s));
}

/* Sectors are written whole, more than one perhaps not. */
static void lose_or_keep(struct rng *r, struct blk_node *file, struct event e)
{
	switch (rng_below(r, 3)) {
	case 0:
		return;
	case 1:
		e.len = e.kind == EVENT_WRITE ? align_down(rng_below(r, e.len + 1), 512) : e.len;
		break;
	default:
		break;
	}
	record_apply(file, &e);
}

/* The file after events [0, upto): those since the last flush each kept, torn or lost. */
static struct blk_node *rebuild(struct rng *r, const struct record *rec, const uint8_t *start, uint64_t start_len,
				unsigned upto)
{
	struct blk_node *file;
	unsigned flushed = 0;

	if (record_open(loop, MAX_FILE, &file))
		abort();
	record_load(file, start, start_len);
	for (unsigned i = 0; i < upto; i++)
		if (rec->e[i].kind == EVENT_FLUSH)
			flushed = i;
	for (unsigned i = 0; i < upto; i++)
		if (i < flushed)
			record_apply(file, &rec->e[i]);
		else
			lose_or_keep(r, file, rec->e[i]);
	return file;
}

static void say(void *opaque, const char *line)
{
	(void)opaque;
	if (getenv("SCRIPT_VERBOSE"))
		printf("# %s\n", line);
}

static const char *verify(struct blk_node *file, const struct history *h, bool clean)
{
	const struct blk_image_opts io = script_image_opts();
	struct qcow2_check res = { .say = say };
	uint8_t sector[512];
	const char *bad = NULL;
	struct blk_node *n;
	struct err e;

	if (qcow2_open(file, &io, 0, &n, &e)) {
		blk_close(file);
		return "the image does not open";
	}
	if (qcow2_check(n, 0, &res, &e) || res.corruptions || res.check_errors)
		bad = "the check finds corruption";
	if (clean && res.leaks)
		bad = "leaks, though everything was written";
	for (uint64_t i = 0; i < h->n_sectors && !bad; i++) {
		bool found = h->s[i].n == MAX_VERSIONS;
		uint32_t s;

		if (blk_pread(n, i * 512, sector, 512))
			bad = "a sector cannot be read";
		s = sum_of(sector);
		for (unsigned k = 0; k < h->s[i].n && !found; k++)
			found = h->s[i].sum[k] == s;
		if (!found)
			bad = "a sector has contents it never should have";
	}
	blk_close(n);
	return bad;
}

struct run {
	struct rng r;
	struct blk_node *file, *n;
	struct model m;
	struct history h;
	uint8_t *start;
	uint64_t start_len;
	struct moment *at;		/* by mark */
	unsigned n_marks;
	unsigned also;			/* SCRIPT_* */
};

/* One change, with the history before and after it known to the record. */
static const char *change(struct run *t)
{
	const char *bad = NULL;

	if (rng_one_in(&t->r, 4)) {
		if (blk_flush(t->n))
			return "a flush failed";
		settle(&t->h, &t->m);
	} else {
		bad = script_step(&t->r, t->n, &t->m, t->also);
		note(&t->h, &t->m);
	}
	copy_history(&t->h, &t->at[t->n_marks].h);
	record_mark(t->file, t->n_marks++);
	return bad;
}

/* History allowed after `upto` events: of the step that was under way then. */
static const struct history *history_at(const struct run *t, unsigned upto)
{
	const struct record *rec = record_of(t->file);

	for (unsigned i = upto; i < rec->n; i++)
		if (rec->e[i].kind == EVENT_MARK)
			return &t->at[rec->e[i].mark].h;
	return &t->at[t->n_marks - 1].h;
}

/* A step that flushed settles the history at its end only: the one before is as good until then. */
static const char *die_at(struct run *t, unsigned upto)
{
	const struct history *h = history_at(t, upto), *before = NULL;
	struct blk_node *file = rebuild(&t->r, record_of(t->file), t->start, t->start_len, upto);
	struct history both;
	const char *bad;

	for (unsigned i = 0; i + 1 < t->n_marks; i++)
		if (&t->at[i + 1].h == h)
			before = &t->at[i].h;
	copy_history(h, &both);
	for (uint64_t i = 0; before && i < both.n_sectors; i++)
		for (unsigned k = 0; k < before->s[i].n && both.s[i].n < MAX_VERSIONS; k++)
			both.s[i].sum[both.s[i].n++] = before->s[i].sum[k];
	bad = verify(file, &both, false);
	free(both.s);
	return bad;
}

static const char *one(uint64_t seed, unsigned points, char *text, size_t room)
{
	struct run t = { .r = { seed * 0x2545f4914f6cdd1dull } };
	struct blk_image_opts io = script_image_opts();
	struct qcow2_create_opts o;
	const char *bad = NULL;
	unsigned n_steps = 40;
	struct err e;

	io.cache_bytes = rng_one_in(&t.r, 2) ? 1 : 0;
	script_options(&t.r, &o, 128u << 10, text, room);
	/* Version 2 has no dirty bit: while a snapshot is made "copied" flags are as a check does not want them.  Larger clusters: MAX_FILE. */
	t.also = o.version >= 3 && o.cluster_size <= 256u << 10 ? SCRIPT_SNAPS : 0;
	if (record_open(loop, MAX_FILE, &t.file) || qcow2_create(t.file, &o, &e))
		return "the image cannot be made";
	t.start_len = t.file->i.size;
	t.start = malloc(t.start_len);
	memcpy(t.start, record_data(t.file), t.start_len);
	record_of(t.file)->on = true;
	if (qcow2_open(t.file, &io, 0, &t.n, &e))
		return "the image cannot be opened";
	if (rng_one_in(&t.r, 2))
		record_shuffle(t.file, rng_next(&t.r) | 1);
	model_init(&t.m, t.n->i.size);
	t.h.n_sectors = t.m.size / 512;
	t.h.s = calloc(t.h.n_sectors, sizeof(*t.h.s));
	settle(&t.h, &t.m);
	t.at = calloc(n_steps, sizeof(*t.at));
	for (unsigned i = 0; i < n_steps && !bad; i++)
		bad = change(&t);
	for (unsigned i = 0; i < points && !bad; i++)
		bad = die_at(&t, (unsigned)rng_below(&t.r, record_of(t.file)->n + 1));
	for (unsigned i = 0; i < t.n_marks; i++)
		free(t.at[i].h.s);
	free(t.at);
	free(t.h.s);
	free(t.start);
	model_fini(&t.m);
	blk_close(t.n);
	return bad;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 50, failed = 0;
	unsigned points = 60;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--encrypted"))
			script_encrypt();
		else if (!strcmp(argv[i], "--verbose"))
			setenv("SCRIPT_VERBOSE", "1", 1);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--points") && i + 1 < argc)
			points = (unsigned)strtoul(argv[++i], NULL, 0);
		else
			return fprintf(stderr, "usage: crash [--seed S] [--count N] [--points N] [--encrypted] [--verbose]\n"), 2;
	}
	if (loop_new(&loop))
		return 2;
	for (uint64_t i = seed; i < seed + count; i++) {
		char text[200];
		const char *bad = one(i, points, text, sizeof(text));

		if (bad)
			printf("# seed %llu: %s (%s)\n", (unsigned long long)i, bad, text);
		failed += bad != NULL;
	}
	printf("%sok 1 - %llu images, dead at %u moments each, seeds from %llu: %llu wrong\n1..1\n", failed ? "not " : "",
	       (unsigned long long)count, points, (unsigned long long)seed, (unsigned long long)failed);
	loop_free(loop);
	return failed != 0;
}
