/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything that can be asked of a qcow2 image, again and again, with the N-th
 * allocation of memory or the N-th request of its file (or data file) failing,
 * for every N until nothing fails any more.
 *
 *   every [--seed S] [--count N] [--what mem|io] [--encrypted] [--verbose]
 *
 * A failure must have the right error; the disk must then have its old contents
 * or the new ones, snapshots must be there or not, with their contents; and the
 * image must open anew, the same and with leaks at worst.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/qcow2/internal.h"
#include "record.h"
#include "script.h"
#include "hunger_nth.h"

#define MAX_FILE (16u << 20)
#define MAX_DISK (96u << 10)
#define N_STEPS 18
#define MAX_NTH 20000

/* ---- one trial ---- */

static struct loop *loop;
static bool verbose;

enum what { IO, MEM };

struct trial {
	struct rng r;
	struct blk_node *file, *data, *n;	/* data: external data file, or NULL */
	struct blk_node *target;		/* whose requests fail */
	struct model m;
	enum what what;
	int err;
	uint64_t nth;
	bool on, over, hit;			/* over: the fault is taken away; hit: it was met */
	char data_path[64];
};

/* The call whose allocations count. */
#define TRY(t, call)                                                        \
	do {                                                                \
		hunger.armed = (t)->what == MEM && !(t)->over;              \
		ret = (call);                                               \
		hunger.armed = false;                                       \
	} while (0)

static bool fired(const struct trial *t)
{
	return t->hit || (t->what == MEM ? hunger.seen >= t->nth : record_seen(t->target) >= t->nth);
}

static void end_fault(struct trial *t)
{
	t->hit = fired(t);
	t->over = true;
	if (t->what == IO)
		record_fail(t->target, 0, 0, false);
}

static bool stuck(const struct trial *t)
{
	struct qcow2_info i;

	qcow2_get_info(t->n, &i);
	return i.corrupt;
}

/* May a call have failed so? */
static bool allowed(const struct trial *t, int ret)
{
	if (!fired(t))
		return false;
	if (t->over || (ret == -EIO && t->n && stuck(t)))
		return ret == -EIO && t->n && stuck(t);
	return t->what == MEM ? ret == -ENOMEM : ret == t->err || ret == -EIO;
}

static const char *complain(const char *what, int ret)
{
	if (verbose)
		fprintf(stderr, "# %s: %s\n", what, strerror(-ret));
	return what;
}

/* ---- what a failed call may have left ---- */

static bool same_sector(const uint8_t *p, const uint8_t *data, uint64_t size, uint64_t off)
{
	return off < size && !memcmp(p, data + off, 512);
}

static bool is_zero(const uint8_t *p)
{
	static const uint8_t zeros[512];

	return !memcmp(p, zeros, 512);
}

static struct qcow2_snapshot *find(struct qcow2_snapshot *s, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(s[i].name, name))
			return &s[i];
	return NULL;
}

static void forget_snap(struct model *m, unsigned i)
{
	free(m->snap[i].data);
	m->snap[i] = m->snap[--m->n_snaps];
}

static void add_snap(struct model *m, const char *name, const uint8_t *data, uint64_t size)
{
	unsigned i = m->n_snaps++;

	snprintf(m->snap[i].name, sizeof(m->snap[i].name), "%s", name);
	m->snap[i].data = malloc(size + 1);
	memcpy(m->snap[i].data, data, size);
	m->snap[i].size = size;
}

/* doubtful: the one that was being made or deleted, or NULL. */
static const char *settle_snaps(struct trial *t, const char *doubtful)
{
	struct qcow2_snapshot *s = NULL;
	unsigned n = 0;
	struct err e;
	const char *bad = NULL;
	bool known = false;

	if (qcow2_snapshot_list(t->n, &s, &n, &e))
		return "snapshots cannot be listed after a failure";
	for (unsigned i = t->m.n_snaps; i-- > 0;) {
		bool is_it = doubtful && !strcmp(t->m.snap[i].name, doubtful);

		known = known || is_it;
		if (find(s, n, t->m.snap[i].name))
			continue;
		if (!is_it)
			bad = "a snapshot is gone";
		forget_snap(&t->m, i);
	}
	if (doubtful && !known && find(s, n, doubtful))
		add_snap(&t->m, doubtful, t->m.data, t->m.size);
	if (!bad && n != t->m.n_snaps)
		bad = "there are other snapshots";
	qcow2_snapshots_free(s, n);
	return bad;
}

/* The disk is m or `after`, sector by sector or (whole) all of it; m is what it is from now on. Takes `after`. */
static const char *settle(struct trial *t, uint8_t *after, uint64_t after_size, bool whole)
{
	uint64_t size = t->n->i.size;
	uint8_t *now = malloc(size + 1);
	bool old = size == t->m.size, new = size == after_size;
	const char *bad = NULL;

	if (!old && !new)
		bad = "a size that nobody asked for";
	else if (blk_pread(t->n, 0, now, size))
		bad = "the disk cannot be read after a failure";
	for (uint64_t off = 0; off < size && !bad; off += 512) {
		bool is_old = same_sector(now + off, t->m.data, t->m.size, off);
		bool is_new = same_sector(now + off, after, after_size, off);

		/* What a shrinking that failed would have cut off. */
		is_new = is_new || (off >= after_size && is_zero(now + off));

		old = old && is_old;
		new = new && is_new;
		if (whole ? !old && !new : !is_old && !is_new)
			bad = "contents that nobody wrote";
	}
	free(after);
	free(t->m.data);
	t->m.data = now;
	t->m.size = size;
	return bad;
}

static uint8_t *copy_of(const uint8_t *data, uint64_t size, uint64_t room)
{
	uint8_t *p = calloc(1, room + 1);

	memcpy(p, data, least(size, room));
	return p;
}

/* The call returned ret; it was to give `after`, and `doubtful` is its snapshot. */
static const char *outcome(struct trial *t, const char *what, int ret, uint8_t *after, uint64_t size, const char *doubtful,
			   bool whole)
{
	const char *bad;

	if (!ret) {
		free(t->m.data);
		t->m.data = after;
		t->m.size = size;
		return NULL;
	}
	if (!allowed(t, ret)) {
		free(after);
		return complain(what, ret);
	}
	if (verbose)
		fprintf(stderr, "# the fault was met: %s, but as it may\n", what);
	end_fault(t);
	bad = settle(t, after, size, whole);
	return bad ? bad : settle_snaps(t, doubtful);
}

/* ---- the calls ---- */

static void some_range(struct trial *t, bool clusters, uint64_t *off, uint64_t *len)
{
	uint64_t cluster = t->n->i.cluster;

	*off = rng_below(&t->r, t->m.size / 512) * 512;
	*len = least((1 + rng_below(&t->r, 3 * cluster / 512)) * 512, t->m.size - *off);
	if (clusters || rng_one_in(&t->r, 4)) {
		*off = align_down(*off, cluster);
		*len = least(align_up(*len, cluster), t->m.size - *off);
	}
}

static const char *change(struct trial *t, unsigned kind)
{
	bool compress = kind == 1 && t->n->i.can_compress, unmap = rng_one_in(&t->r, 2);
	uint8_t *after = copy_of(t->m.data, t->m.size, t->m.size);
	uint64_t off, len;
	const char *bad;
	int ret;

	some_range(t, compress, &off, &len);
	if (kind <= 1) {
		rng_fill(&t->r, after + off, len);
		if (compress)
			TRY(t, blk_pwrite_compressed(t->n, off, after + off, len));
		else
			TRY(t, blk_pwrite(t->n, off, after + off, len));
		return outcome(t, "a write failed in another way", ret, after, t->m.size, NULL, false);
	}
	memset(after + off, 0, len);
	if (kind == 2) {
		TRY(t, blk_pwrite_zeroes(t->n, off, len, unmap));
		return outcome(t, "write zeroes failed in another way", ret, after, t->m.size, NULL, false);
	}
	TRY(t, blk_pdiscard(t->n, off, len));
	if (ret)
		return outcome(t, "a discard failed in another way", ret, after, t->m.size, NULL, false);
	/* It may have done nothing, or part of it; looking does not count. */
	record_pause(t->target, true);
	bad = settle(t, after, t->m.size, false);
	record_pause(t->target, false);
	return bad;
}

static const char *snapshot(struct trial *t)
{
	unsigned i = t->m.n_snaps ? (unsigned)rng_below(&t->r, t->m.n_snaps) : 0;
	unsigned kind = t->m.n_snaps ? (unsigned)rng_below(&t->r, 3) : 0;
	uint8_t *after = copy_of(t->m.data, t->m.size, t->m.size);
	char name[16];
	const char *bad;
	struct err e;
	int ret;

	if (kind == 0) {
		snprintf(name, sizeof(name), "s%u", t->m.named++);
		if (t->m.n_snaps == MAX_SNAPS)
			kind = 1;
	}
	if (kind == 0) {
		TRY(t, qcow2_snapshot_create(t->n, name, &e));
		/* Narrow refcounts hold few. */
		if (ret == -ERANGE)
			ret = 0;
		else if (!ret)
			add_snap(&t->m, name, t->m.data, t->m.size);
		return outcome(t, "making a snapshot failed in another way", ret, after, t->m.size, name, false);
	}
	snprintf(name, sizeof(name), "%s", t->m.snap[i].name);
	if (kind == 1) {
		uint64_t size = t->m.snap[i].size;

		TRY(t, qcow2_snapshot_apply(t->n, name, &e));
		if (ret == -ERANGE) {
			free(after);
			return NULL;
		}
		free(after);
		after = copy_of(t->m.snap[i].data, size, size);
		return outcome(t, "applying a snapshot failed in another way", ret, after, size, NULL, true);
	}
	TRY(t, qcow2_snapshot_delete(t->n, name, &e));
	bad = outcome(t, "deleting a snapshot failed in another way", ret, after, t->m.size, name, false);
	if (!ret)
		forget_snap(&t->m, i);
	return bad;
}

static const char *resize(struct trial *t)
{
	uint64_t size = most(512u, align_down(t->m.size / 2 + rng_below(&t->r, t->m.size), 512));
	struct qcow2_info info;
	struct err e;
	int ret;

	qcow2_get_info(t->n, &info);
	if (info.version == 2 && t->m.n_snaps)
		return NULL;
	size = least(size, 2 * MAX_DISK);
	TRY(t, blk_resize(t->n, size, &e));
	return outcome(t, "a resize failed in another way", ret, copy_of(t->m.data, t->m.size, size), size, NULL, false);
}

static void say(void *opaque, const char *line)
{
	if (verbose)
		fprintf(stderr, "# %s\n", line);
}

static const char *look(struct trial *t)
{
	uint8_t *buf = malloc(t->m.size + 1);
	struct qcow2_check res = { .say = say };
	struct blk_extent x;
	const char *bad = NULL;
	struct err e;
	int ret;

	switch (rng_below(&t->r, 4)) {
	case 0:
		TRY(t, blk_pread(t->n, 0, buf, t->m.size));
		if (!ret && memcmp(buf, t->m.data, t->m.size) != 0)
			bad = "a read is wrong";
		break;
	case 1:
		TRY(t, blk_block_status(t->n, 0, t->m.size, false, &x));
		break;
	case 2:
		TRY(t, qcow2_check(t->n, 0, &res, &e));
		/* What is stuck is half done in memory; what is on disk is looked at in the end. */
		if (!ret && res.corruptions && !stuck(t))
			bad = "a check finds corruption meanwhile";
		break;
	default:
		TRY(t, blk_flush(t->n));
	}
	free(buf);
	if (bad || !ret)
		return bad;
	if (!allowed(t, ret))
		return complain("a look failed in another way", ret);
	end_fault(t);
	return settle(t, copy_of(t->m.data, t->m.size, t->m.size), t->m.size, true);
}

static const char *step(struct trial *t)
{
	unsigned kind = (unsigned)rng_below(&t->r, 12);

	if (kind < 7)
		return change(t, kind < 3 ? 0 : kind - 3);
	/* A data file is not shared by snapshots. */
	return kind < 9 && !t->data ? snapshot(t) : kind < 10 ? resize(t) : look(t);
}

/* ---- from the beginning to the end ---- */

static struct blk_image_opts io_opts = { .trust = BLK_TRUST_ALL };

/* The data file named in the image is a real one, for the sake of its name; requests go to ours. */
static void use_data(struct blk_node *n, struct blk_node *data)
{
	struct qcow2 *q = to_q(n);

	if (!data)
		return;
	blk_close(q->store);
	q->store = q->data = data;
}

static const char *same_as(struct trial *t, struct blk_node *n)
{
	struct qcow2_check res = { 0 };
	const char *bad = script_compare(n, &t->m);
	struct err e;

	res.say = say;
	if (!bad && (qcow2_check(n, 0, &res, &e) || res.corruptions || res.check_errors))
		bad = "the check finds corruption at the end";
	for (unsigned i = 0; i < t->m.n_snaps && !bad; i++) {
		struct model was = { .data = t->m.snap[i].data, .size = t->m.snap[i].size };
		int ret = qcow2_snapshot_apply(n, t->m.snap[i].name, &e);

		if (ret == -ERANGE)
			continue;
		bad = ret ? "a snapshot cannot be applied" : script_compare(n, &was);
	}
	return bad;
}

/* A copy as it is on disk, opened.  all: everything is there; else it only must be sound. */
static const char *reopened(struct trial *t, bool all)
{
	struct blk_node *file, *data = NULL, *n;
	struct qcow2_check res = { 0 };
	struct blk_image_opts o = io_opts;
	const char *bad;
	struct err e;

	if (record_open(loop, MAX_FILE, &file) || (t->data && record_open(loop, MAX_FILE, &data)))
		abort();
	record_load(file, record_data(t->file), t->file->i.size);
	if (data)
		record_load(data, record_data(t->data), t->data->i.size);
	o.repair = !all;
	res.say = say;
	if (qcow2_open(file, &o, 0, &n, &e)) {
		if (verbose)
			fprintf(stderr, "# %s\n", e.msg);
		blk_close(file);
		blk_close(data);
		return "the image does not open any more";
	}
	use_data(n, data);
	if (all)
		bad = same_as(t, n);
	else
		bad = qcow2_check(n, 0, &res, &e) || res.corruptions || res.check_errors ? "the check finds corruption" : NULL;
	blk_close(n);
	return bad;
}

static const char *finish(struct trial *t)
{
	const char *bad = NULL;
	bool was_stuck;

	end_fault(t);
	for (unsigned i = 0; i < 3 && !bad && !stuck(t); i++)
		bad = step(t);
	was_stuck = stuck(t);
	bad = bad ? bad : script_compare(t->n, &t->m);
	if (bad)
		return bad;
	if (blk_flush(t->n) && !was_stuck)
		return "a flush fails without a reason";
	/* Stuck half way between old and new: either may be on disk. */
	return reopened(t, !was_stuck);
}

static const char *make(struct trial *t, const struct qcow2_create_opts *o)
{
	struct err e;
	int ret;

	TRY(t, qcow2_create(t->file, o, &e));
	if (ret)
		return allowed(t, ret) ? NULL : complain("creation failed in another way", ret);
	TRY(t, qcow2_open(t->file, &io_opts, 0, &t->n, &e));
	if (!ret)
		return NULL;
	t->n = NULL;
	if (!allowed(t, ret))
		return complain("opening failed in another way", ret);
	end_fault(t);
	return qcow2_open(t->file, &io_opts, 0, &t->n, &e) ? "what was made does not open" : NULL;
}

/* *more: there is an N-th call to fail. */
static const char *one(uint64_t seed, enum what what, uint64_t nth, bool on, char *text, size_t room, bool *more)
{
	struct trial t = { .r = { seed * 0x2545f4914f6cdd1dull }, .what = what, .nth = nth, .on = on };
	struct qcow2_create_opts o;
	const char *bad;

	script_options(&t.r, &o, MAX_DISK, text, room);
	o.size = least(o.size, MAX_DISK);
	o.cluster_size = (uint32_t)least(o.cluster_size, 65536);
	if (o.version == 3 && rng_one_in(&t.r, 4)) {
		snprintf(t.data_path, sizeof(t.data_path), "./every-data-%d", (int)getpid());
		fclose(fopen(t.data_path, "w"));
		o.data_file = t.data_path;
		o.compression = 0;
	}
	t.err = on ? -ENOSPC : -EIO;
	if (record_open(loop, MAX_FILE, &t.file) || (o.data_file && record_open(loop, MAX_FILE, &t.data)))
		abort();
	t.target = t.data && rng_one_in(&t.r, 2) ? t.data : t.file;
	model_init(&t.m, align_up(o.size, 512));
	hunger.nth = what == MEM ? nth : 0;
	hunger.seen = 0;
	hunger.on = on;
	record_fail(t.target, what == IO ? nth : 0, t.err, on);
	bad = make(&t, &o);
	if (t.n)
		use_data(t.n, t.data);
	for (unsigned i = 0; i < N_STEPS && t.n && !bad; i++)
		bad = step(&t);
	*more = fired(&t);
	if (t.n && !bad)
		bad = finish(&t);
	hunger.nth = 0;
	if (t.n) {
		blk_close(t.n);
	} else {
		blk_close(t.file);
		blk_close(t.data);
	}
	model_fini(&t.m);
	if (o.data_file)
		unlink(o.data_file);
	return bad;
}

static unsigned all_of(uint64_t seed, enum what what, bool on, uint64_t *trials)
{
	char text[200];
	bool more = true;
	unsigned failed = 0;

	for (uint64_t nth = 1; more && nth < MAX_NTH && failed < 5; nth++) {
		const char *bad = one(seed, what, nth, on, text, sizeof(text), &more);

		++*trials;
		if (verbose)
			fprintf(stderr, "# -- %s %llu done\n", what == MEM ? "allocation" : "request", (unsigned long long)nth);
		if (!bad)
			continue;
		failed++;
		more = true;
		printf("# seed %llu, %s %llu%s: %s (%s)\n", (unsigned long long)seed, what == MEM ? "allocation" : "request",
		       (unsigned long long)nth, on ? " and all after it" : "", bad, text);
	}
	return failed;
}

int main(int argc, char **argv)
{
	uint64_t seed = 1, count = 2, trials = 0;
	unsigned failed = 0, from = IO, to = MEM;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--encrypted")) {
			script_encrypt();
			io_opts = script_image_opts();
		} else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--count") && i + 1 < argc)
			count = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--what") && i + 1 < argc)
			from = to = strcmp(argv[++i], "mem") ? IO : MEM;
		else
			return fprintf(stderr, "usage: every [--seed S] [--count N] [--what mem|io] [--encrypted] [--verbose]\n"), 2;
	}
	if (verbose)
		setenv("SCRIPT_VERBOSE", "1", 1);
	setenv("LODGE_LOG", verbose ? "warning" : "error", 0);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (loop_new(&loop))
		return 2;
	for (uint64_t s = seed; s < seed + count; s++)
		for (unsigned what = from; what <= to; what++)
			failed += all_of(s, what, false, &trials) + all_of(s, what, true, &trials);
	printf("%sok 1 - %llu scripts with each allocation and each request failing, once or for good: %llu trials, seeds from %llu: "
	       "%u wrong\n1..1\n", failed ? "not " : "", (unsigned long long)count, (unsigned long long)trials, (unsigned long long)seed, failed);
	loop_free(loop);
	return failed != 0;
}
