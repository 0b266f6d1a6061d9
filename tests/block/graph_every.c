/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps, filters and jobs, again and again, with the N-th allocation of memory
 * or the N-th request of one of the files failing, once or from then on, for
 * every N until nothing fails any more.
 *
 *   graph_every [--only NAME] [--verbose]
 *
 * A call or a job may fail only with that error, and says so in words; the disk has
 * its contents then (of a write that failed, the old or the new), a backup that
 * succeeded has those of its moment, a bitmap never says too little, and the
 * images are sound.  Nothing may stay behind (run it under ASan).
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/filter.h"
#include "block/image.h"
#include "block/job.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/internal.h"
#include "hunger_nth.h"
#include "lend.h"

#define DISK (128u << 10)
#define MAX_FILE (8u << 20)
#define MAX_NTH 4000u
#define MAX_FILES 4
#define SECTORS (DISK / 512)
#define MAP "map"

/* ---- one trial ---- */

static struct loop *loop;
static bool verbose;

enum { KNOWN, EITHER, ANY };

struct trial {
	bool memory, on;		/* memory: else requests of one of the files; on: and all after it */
	unsigned nth, which;		/* the file */
	int err;
	bool over, hit;
	struct blk_node *file[MAX_FILES];	/* fault filters, by number; lent to what is made of them */
	unsigned n_files;
	struct blk_node *slot;
	uint8_t disk[DISK];		/* what it must show, */
	uint8_t unknown[SECTORS];	/* but where this is EITHER, */
	uint8_t other[DISK];		/* where it may show this */
	unsigned writes;
	bool mapped, ended, ready;
	uint8_t ref[DISK];		/* the disk when the bitmap began */
	struct err e;
	const char *bad;
};

#define TRY(t, call)                                                   \
	do {                                                           \
		hunger.armed = (t)->memory && !(t)->over;              \
		(t)->e.msg[0] = '\0';                                  \
		ret = (call);                                          \
		hunger.armed = false;                                  \
	} while (0)

static bool fired(const struct trial *t)
{
	if (t->memory)
		return t->hit || hunger.seen >= hunger.nth;
	return t->hit || (t->which < t->n_files && blk_fault_fired(t->file[t->which]));
}

static void fail(struct trial *t, const char *what, int ret)
{
	if (t->bad)
		return;
	t->bad = what;
	if (ret || verbose)
		printf("# %s: %s %s\n", what, strerror(-ret), t->e.msg);
}

/* An image that nobody can write any more until it is opened anew says EIO. */
static bool stuck(const struct trial *t)
{
	for (struct blk_node *n = t->slot ? *blk_slot_image(t->slot) : NULL; n; n = n->backing)
		if (n->format && !strcmp(n->format, "qcow2") && to_q(n)->broken)
			return true;
	return false;
}

/* words: 0: none are given. True: it may go on as if it had succeeded. */
static bool good(struct trial *t, const char *what, int ret, bool words)
{
	if (!ret)
		return true;
	if (verbose)
		fprintf(stderr, "# %s: %s %s\n", what, strerror(-ret), t->e.msg);
	if (!fired(t))
		fail(t, "something fails without a fault", ret);
	else if (t->memory ? ret != -ENOMEM && !(ret == -EIO && stuck(t)) : ret != t->err && ret != -EIO)
		fail(t, "something fails with another error", ret);
	else if (words && !t->e.msg[0])
		fail(t, "something fails without a word", ret);
	return false;
}

/* A file whose requests fail, if it is its turn. Nothing of this counts. */
static struct blk_node *new_file(struct trial *t)
{
	struct blk_node *n = NULL;

	if (blk_open_mem_file(loop, MAX_FILE, &n) || blk_fault_new(n, &n) || t->n_files == MAX_FILES)
		abort();
	t->file[t->n_files++] = n;
	return n;
}

static void begin_fault(struct trial *t)
{
	hunger.nth = t->memory ? t->nth : 0;
	hunger.seen = 0;
	hunger.on = t->on;
	if (!t->memory && t->which < t->n_files &&
	    blk_fault_add(t->file[t->which], &(struct blk_fault){ .nth = t->nth, .once = !t->on, .error = -t->err }))
		abort();
}

static void end_fault(struct trial *t)
{
	t->hit = fired(t);
	t->over = true;
	hunger.nth = 0;
	for (unsigned i = 0; i < t->n_files; i++)
		blk_fault_clear(t->file[i]);
}

static struct blk_node *new_image(struct trial *t, bool backing)
{
	const struct qcow2_create_opts o = { .size = DISK, .cluster_size = 4096, .backing = backing ? "below" : NULL,
					     .backing_format = backing ? "qcow2" : NULL };
	const struct blk_image_opts io = { .no_backing = true };
	struct blk_node *file = lend(new_file(t)), *n = NULL;

	if (qcow2_create(file, &o, &t->e) || qcow2_open(file, &io, 0, &n, &t->e))
		abort();
	return n;
}

/* ---- a guest ---- */

struct answer {
	bool done;
	int ret;
};

static void answered(struct blk_req *r, int ret)
{
	*(struct answer *)r->opaque = (struct answer){ true, ret };
}

static void turn(struct trial *t)
{
	int ret;

	TRY(t, loop_turn(loop, 1));
	if (ret)
		abort();
}

static int request(struct trial *t, struct blk_node *n, enum blk_op op, uint64_t off, void *buf, uint64_t len)
{
	struct answer a = { 0 };
	struct iovec v = { buf, len };
	struct blk_req r = { .op = op, .offset = off, .len = len, .iov = &v, .niov = 1, .unmap = true, .done = answered, .opaque = &a };

	hunger.armed = t->memory && !t->over;
	blk_submit(n, &r);
	hunger.armed = false;
	for (unsigned i = 0; !a.done && i < 5000; i++)
		turn(t);
	if (!a.done) {
		fprintf(stderr, "a request is never answered\n");
		abort();
	}
	return a.ret;
}

/* The k-th write of a script. */
static void guest_writes(struct trial *t)
{
	uint8_t buf[6144];
	unsigned k = t->writes++;
	uint64_t off = (k * 37u % (SECTORS - 12)) * 512ull, len = (1 + k % 12) * 512ull;
	bool zero = k % 5 == 4;
	int ret;

	memset(buf, zero ? 0 : (int)(1 + k % 255), sizeof(buf));
	ret = request(t, t->slot, zero ? BLK_WRITE_ZEROES : BLK_WRITE, off, buf, len);
	good(t, "a write", ret, false);
	for (uint64_t s = off / 512; s < (off + len) / 512; s++) {
		if (ret) {
			/* A second failure on top of one is not followed. */
			memcpy(t->other + s * 512, buf, 512);
			t->unknown[s] = t->unknown[s] ? ANY : EITHER;
		} else {
			memcpy(t->disk + s * 512, buf, 512);
			t->unknown[s] = KNOWN;
		}
	}
}

/* Sectors as they may be, from sector `first` on? */
static bool as_it_may_be(const struct trial *t, const uint8_t *got, uint64_t first, uint64_t n)
{
	for (uint64_t s = first; s < first + n; s++, got += 512)
		if (t->unknown[s] != ANY && memcmp(got, t->disk + s * 512, 512) != 0 &&
		    (t->unknown[s] != EITHER || memcmp(got, t->other + s * 512, 512) != 0))
			return false;
	return true;
}

static void guest_reads(struct trial *t)
{
	static uint8_t buf[16384];
	uint64_t off = (t->writes * 53u % (SECTORS - 32)) * 512ull;
	int ret = request(t, t->slot, BLK_READ, off, buf, sizeof(buf));

	if (good(t, "a read", ret, false) && !as_it_may_be(t, buf, off / 512, sizeof(buf) / 512))
		fail(t, "a read is wrong", 0);
}

static void guest_flushes(struct trial *t)
{
	good(t, "a flush", request(t, t->slot, BLK_FLUSH, 0, NULL, 0), false);
}

static void compare(struct trial *t, struct blk_node *n)
{
	static uint8_t got[DISK];

	if (blk_pread(n, 0, got, DISK))
		fail(t, "the disk cannot be read at the end", 0);
	else if (!as_it_may_be(t, got, 0, SECTORS))
		fail(t, "the disk has other contents", 0);
}

static void on_event(void *opaque, struct blk_job *j, enum blk_job_event ev)
{
	struct trial *t = opaque;

	if (ev == BLK_JOB_READY)
		t->ready = true;
	else
		t->ended = true;
}

static struct blk_job_opts job_opts(struct trial *t)
{
	t->ended = t->ready = false;
	return (struct blk_job_opts){ .event = on_event, .opaque = t, .in_flight = 2 };
}

/* To its end, with the guest writing meanwhile; its result. */
static int run_job(struct trial *t, struct blk_job *j)
{
	struct blk_job_info i;
	int ret;

	for (unsigned k = 0; !t->ended; k++) {
		turn(t);
		if (k < 4)
			guest_writes(t);
		if (t->ready && k >= 4) {
			TRY(t, blk_job_complete(j, true, &t->e));
			t->ready = ret != 0;
		}
		if (k > 20000) {
			fprintf(stderr, "a job does not end\n");
			abort();
		}
	}
	blk_job_info(j, &i);
	snprintf(t->e.msg, sizeof(t->e.msg), "%s", i.message);
	ret = i.ret;
	good(t, "a job", ret, true);
	blk_job_free(j);
	return ret;
}

/* ---- images at the end ---- */

static void say_line(void *opaque, const char *line)
{
	if (verbose)
		fprintf(stderr, "# %s\n", line);
}

static void check_image(struct trial *t, struct blk_node *n)
{
	struct qcow2_check res = { .say = say_line };

	if (qcow2_check(n, 0, &res, &t->e) || res.corruptions || res.check_errors)
		fail(t, "the check finds corruption", 0);
}

/* What differs from ref is in the bitmap, or the bitmap says nothing. */
static void check_map(struct trial *t, struct blk_node *n, const char *name, const uint8_t *ref)
{
	struct qcow2_bitmap *b;
	bool known = false, worthless = false, covered[SECTORS] = { false };
	uint64_t off = 0, at, len;
	unsigned count;

	if (qcow2_bitmap_list(n, &b, &count, &t->e)) {
		fail(t, "bitmaps cannot be listed", -EIO);
		return;
	}
	for (unsigned i = 0; i < count; i++) {
		known |= !strcmp(b[i].name, name);
		worthless |= !strcmp(b[i].name, name) && b[i].inconsistent;
	}
	qcow2_bitmaps_free(b, count);
	if (!known || worthless) {
		if (!known)
			fail(t, "a bitmap is gone", 0);
		return;
	}
	do {
		if (qcow2_bitmap_next(n, name, off, &at, &len, &t->e)) {
			fail(t, "a bitmap cannot be read", -EIO);
			return;
		}
		for (uint64_t s = at / 512; s < (at + len + 511) / 512; s++)
			covered[s] = true;
		off = at + len;
	} while (len);
	for (unsigned s = 0; s < SECTORS; s++)
		if (!covered[s] && !t->unknown[s] && memcmp(t->disk + s * 512, ref + s * 512, 512) != 0)
			fail(t, "a bitmap says too little", 0);
}

/* The file, opened anew: sound, and the disk's. */
static void check_reopened(struct trial *t, struct blk_node *n, const char *map)
{
	const struct blk_image_opts io = { .no_backing = true };
	struct blk_node *again = NULL, *file = n->file;
	bool was_stuck = to_q(n)->broken;

	if (blk_flush(n) && !was_stuck)
		fail(t, "a flush fails without a reason", 0);
	if (qcow2_close_inner(n) && !was_stuck)
		fail(t, "closing fails without a reason", 0);
	if (qcow2_open(file, &io, 0, &again, &t->e)) {
		fail(t, "the image does not open again", -EIO);
		blk_close(file);
		return;
	}
	check_image(t, again);
	if (!was_stuck)
		compare(t, again);
	if (map)
		check_map(t, again, map, t->ref);
	blk_close(again);
}

/* ---- scripts ---- */

static void slot_on(struct trial *t, struct blk_node *n)
{
	if (blk_slot_new(n, &t->slot))
		abort();
	for (unsigned i = 0; i < 6; i++)
		guest_writes(t);
}

static void bitmap_calls(struct trial *t)
{
	struct blk_node *n = *blk_slot_image(t->slot);
	bool on, off;
	int ret;

	TRY(t, qcow2_bitmap_add(n, MAP, 1024, true, &t->e));
	on = good(t, "add", ret, true);
	memcpy(t->ref, t->disk, DISK);
	TRY(t, qcow2_bitmap_add(n, "off", 4096, false, &t->e));
	off = good(t, "add", ret, true);
	guest_writes(t);
	guest_flushes(t);
	guest_writes(t);
	if (!on || !off)
		return;
	TRY(t, qcow2_bitmap_merge(n, "off", n, MAP, &t->e));
	off = good(t, "merge", ret, true);
	TRY(t, qcow2_bitmap_record(n, "off", true, &t->e));
	off = good(t, "record", ret, true) && off;
	guest_writes(t);
	if (off)
		check_map(t, n, "off", t->ref);
	TRY(t, qcow2_bitmap_clear(n, MAP, &t->e));
	if (good(t, "clear", ret, true))
		memcpy(t->ref, t->disk, DISK);
	guest_writes(t);
	check_map(t, n, MAP, t->ref);
	TRY(t, qcow2_bitmap_remove(n, "off", &t->e));
	good(t, "remove", ret, true);
	TRY(t, qcow2_bitmap_freeze(n, MAP, t, NULL, &t->e));
	off = good(t, "freeze", ret, true);
	guest_writes(t);
	hunger.armed = t->memory;
	qcow2_bitmap_thaw(n, MAP, t, true);
	hunger.armed = false;
	check_map(t, n, MAP, t->ref);
	t->mapped = true;
}

/* Opening, using and closing it, with failures in each. */
static void do_bitmaps(struct trial *t)
{
	const struct blk_reopen ro = { .read_only = true }, rw = { 0 };
	struct blk_node *n = new_image(t, false);
	int ret;

	slot_on(t, n);
	begin_fault(t);
	bitmap_calls(t);
	guest_writes(t);
	TRY(t, blk_reopen(n, &ro, &t->e));
	if (good(t, "reopen read-only", ret, true)) {
		TRY(t, blk_reopen(n, &rw, &t->e));
		if (!good(t, "reopen", ret, true)) {
			end_fault(t);
			ret = blk_reopen(n, &rw, &t->e);
			if (ret)
				fail(t, "a second attempt at opening it for writing fails", ret);
		}
	}
	blk_slot_hold(t->slot);
	blk_slot_refresh(t->slot);
	blk_slot_release(t->slot);
	guest_writes(t);
	end_fault(t);
	compare(t, t->slot);
	*blk_slot_image(t->slot) = lend(n);
	blk_close(t->slot);
	t->slot = NULL;
	check_reopened(t, n, t->mapped ? MAP : NULL);
}

static void do_filters(struct trial *t)
{
	const struct blk_throttle_opts limits = { .ops[BLK_RATE_TOTAL] = { .avg = 1000000 } };
	struct blk_node *below = new_image(t, false), *n, *top;
	static struct blk_dirty *seen;
	int ret;

	slot_on(t, below);
	*blk_slot_image(t->slot) = lend(below);
	blk_close(t->slot);
	t->slot = NULL;
	if (blk_flush(below))
		abort();
	below->i.read_only = true;
	top = n = new_image(t, true);
	if (qcow2_plug_backing(n, below, NULL))
		abort();
	seen = blk_dirty_new(DISK, 4096);
	begin_fault(t);
	TRY(t, blk_copy_on_read_new(n, &n, &t->e));
	good(t, "copy on read", ret, true);
	TRY(t, blk_throttle_new(n, &limits, &n, &t->e));
	good(t, "throttle", ret, true);
	TRY(t, blk_fault_new(n, &n));
	if (good(t, "fault", ret, false)) {
		TRY(t, blk_fault_add(n, &(struct blk_fault){ .ops = BIT(BLK_READ), .delay_ns = 1000 }));
		good(t, "a rule", ret, false);
	}
	TRY(t, blk_track_new(n, seen, &n));
	good(t, "track", ret, false);
	TRY(t, blk_slot_new(n, &t->slot));
	if (!good(t, "slot", ret, false) && blk_slot_new(n, &t->slot))
		abort();
	for (unsigned i = 0; i < 6; i++) {
		guest_reads(t);
		guest_writes(t);
	}
	guest_flushes(t);
	end_fault(t);
	compare(t, t->slot);
	check_image(t, top);
	if (blk_flush(t->slot) && !stuck(t))
		fail(t, "a flush fails without a reason", 0);
	blk_close(t->slot);
	t->slot = NULL;
	blk_dirty_free(seen);
}

/* One backup; whether it succeeded. target has what the last one left. */
static bool one_backup(struct trial *t, enum blk_sync sync, struct blk_node *target)
{
	const struct blk_job_opts o = job_opts(t);
	static uint8_t then[DISK];
	static uint8_t doubt[SECTORS];
	struct blk_node *lent = lend(target);
	struct blk_job *j = NULL;
	int ret;

	guest_writes(t);
	TRY(t, blk_backup_start_persistent(t->slot, lent, sync, MAP, &o, &j, &t->e));
	if (!good(t, "a backup's start", ret, true)) {
		blk_close(lent);
		return false;
	}
	memcpy(then, t->disk, DISK);
	memcpy(doubt, t->unknown, sizeof(doubt));
	if (run_job(t, j))
		return false;
	memcpy(t->ref, then, DISK);
	/* What it has must be of then. */
	for (unsigned s = 0; s < SECTORS; s++) {
		const uint8_t *got = blk_mem_data(target->file) + s * 512;

		if (!doubt[s] && memcmp(got, then + s * 512, 512) != 0)
			fail(t, "a backup is not of its moment", 0);
	}
	return true;
}

static void do_backup(struct trial *t)
{
	struct blk_node *n = new_image(t, false), *target = NULL;

	slot_on(t, n);
	if (qcow2_bitmap_add(n, MAP, 1024, true, &t->e) || blk_open_mem(loop, DISK, &target) || blk_fault_new(target, &target))
		abort();
	t->file[t->n_files++] = target;
	memcpy(t->ref, t->disk, DISK);
	begin_fault(t);
	if (one_backup(t, BLK_SYNC_FULL, target) && one_backup(t, BLK_SYNC_DIRTY, target))
		guest_writes(t);
	check_map(t, n, MAP, t->ref);
	end_fault(t);
	/* It goes on from what it has. */
	guest_writes(t);
	if (!stuck(t)) {
		if (!one_backup(t, BLK_SYNC_DIRTY, target) && !t->bad)
			fail(t, "the next backup fails too", 0);
	}
	compare(t, t->slot);
	*blk_slot_image(t->slot) = lend(n);
	blk_close(t->slot);
	t->slot = NULL;
	check_reopened(t, n, MAP);
}

static void do_mirror(struct trial *t)
{
	struct blk_node *target;
	struct blk_job_opts o = job_opts(t);
	struct blk_job *j = NULL;
	int ret;

	slot_on(t, new_image(t, false));
	target = new_image(t, false);
	begin_fault(t);
	TRY(t, blk_mirror_start(t->slot, target, BLK_SYNC_FULL, &o, &j, &t->e));
	if (good(t, "a mirror's start", ret, true))
		run_job(t, j);
	else
		blk_close(target);
	end_fault(t);
	compare(t, t->slot);
	check_image(t, *blk_slot_image(t->slot));
	blk_close(t->slot);
	t->slot = NULL;
}

static void chain_of(struct trial *t, unsigned layers)
{
	struct blk_node *n = new_image(t, false), *over;

	slot_on(t, n);
	for (unsigned i = 1; i < layers; i++) {
		over = new_image(t, true);
		if (blk_snapshot_attach(t->slot, over, &t->e))
			abort();
		guest_writes(t);
		guest_writes(t);
	}
}

static void close_chain(struct trial *t)
{
	compare(t, t->slot);
	for (struct blk_node *n = *blk_slot_image(t->slot); n; n = n->backing)
		check_image(t, n);
	blk_close(t->slot);
	t->slot = NULL;
}

static void commit_layers(struct trial *t, unsigned top, unsigned base)
{
	struct blk_job_opts o = job_opts(t);
	struct blk_job *j = NULL;
	int ret;

	chain_of(t, 3);
	begin_fault(t);
	TRY(t, blk_commit_start(t->slot, top, base, &o, &j, &t->e));
	if (good(t, "a commit's start", ret, true))
		run_job(t, j);
	end_fault(t);
	close_chain(t);
}

static void do_commit_active(struct trial *t)
{
	commit_layers(t, 0, 1);
}

static void do_commit(struct trial *t)
{
	commit_layers(t, 1, 2);
}

static void do_snapshot(struct trial *t)
{
	struct blk_node *over;
	int ret;

	chain_of(t, 1);
	over = new_image(t, true);
	begin_fault(t);
	TRY(t, blk_snapshot_attach(t->slot, over, &t->e));
	if (!good(t, "a snapshot", ret, true))
		blk_close(over);
	guest_writes(t);
	guest_flushes(t);
	end_fault(t);
	close_chain(t);
}

/* ---- all of them ---- */

static const struct script {
	const char *name;
	void (*run)(struct trial *t);
	unsigned files;			/* whose requests fail, one after the other */
} scripts[] = {
	{ "bitmaps", do_bitmaps, 1 }, { "filters", do_filters, 2 }, { "backup", do_backup, 2 }, { "mirror", do_mirror, 2 },
	{ "commit-active", do_commit_active, 3 }, { "commit", do_commit, 3 }, { "snapshot", do_snapshot, 2 },
};

/* True: something was hit. */
static bool one(const struct script *s, bool memory, unsigned which, bool on, unsigned nth, const char **bad)
{
	struct trial *t = calloc(1, sizeof(*t));
	bool hit;

	if (!t)
		abort();
	t->memory = memory;
	t->which = memory ? MAX_FILES : which;
	t->on = on;
	t->nth = nth;
	t->err = memory ? -ENOMEM : on ? -ENOSPC : -EIO;
	if (verbose)
		fprintf(stderr, "# -- %s, %s %u%s\n", s->name, memory ? "allocation" : "request", nth, on ? " and all after it" : "");
	s->run(t);
	hit = t->hit;
	*bad = t->bad;
	for (unsigned i = 0; i < t->n_files; i++)
		blk_close(t->file[i]);
	free(t);
	return hit;
}

static unsigned all_of(const struct script *s, bool memory, unsigned which, bool on, unsigned *trials)
{
	const char *bad = NULL;
	unsigned nth = 1;

	for (; nth < MAX_NTH && one(s, memory, which, on, nth, &bad) && !bad; nth++)
		++*trials;
	if (nth == MAX_NTH)
		bad = "there is no end to it";
	if (bad && memory)
		printf("# %s, allocation %u%s: %s\n", s->name, nth, on ? " and all after it" : "", bad);
	else if (bad)
		printf("# %s, request %u%s of file %u: %s\n", s->name, nth, on ? " and all after it" : "", which, bad);
	return bad != NULL;
}

int main(int argc, char **argv)
{
	const char *only = NULL;
	unsigned failed = 0, trials = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--only") && i + 1 < argc)
			only = argv[++i];
		else
			return fprintf(stderr, "usage: graph_every [--only NAME] [--verbose]\n"), 2;
	}
	setenv("LODGE_LOG", verbose ? "warning" : "error", 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (loop_new(&loop))
		return 2;
	for (unsigned i = 0; i < ARRAY_LEN(scripts); i++) {
		if (only && strcmp(only, scripts[i].name) != 0)
			continue;
		for (unsigned on = 0; on < 2; on++) {
			failed += all_of(&scripts[i], true, 0, on, &trials);
			for (unsigned which = 0; which < scripts[i].files; which++)
				failed += all_of(&scripts[i], false, which, on, &trials);
		}
	}
	loop_free(loop);
	printf("1..1\n%sok 1 - bitmaps, filters and jobs with %u faults\n", failed ? "not " : "", trials);
	return failed != 0;
}
