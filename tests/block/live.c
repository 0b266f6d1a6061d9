// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Random works on a disk in use: live --seed S --count N [--hunger] [--verbose]
 *
 * Each script makes a chain of images, filters over it, and a guest that never
 * rests (tests/unit/block/churn.h), and then mirrors, backs up, commits, snapshots,
 * limits, cancels and completes as the seed says, several works at a time, with
 * errors in targets and, in some scripts, in the disk.  The guest must always read
 * what it wrote, and each backup that succeeds must be of the moment it began.  With
 * --hunger memory runs out now and then: requests and works may fail then, but
 * nothing may be lost, hang or crash.
 */
#include <getopt.h>
#include <stdatomic.h>

#include "../unit/block/churn.h"
#include "hunger.h"
#include "lend.h"

#include "block/filter.h"
#include "block/job.h"
#include "block/qcow2/qcow2.h"

#define MAX_JOBS 4
#define MAX_LAYERS 6

enum work { WORK_NONE, WORK_MIRROR, WORK_BACKUP, WORK_COMMIT };

struct running {
	enum work work;
	struct blk_job *j;
	bool ready, ended, faulty, endless;
	struct blk_node *kept;		/* backup: the target, which the job closes only in name */
	struct blk_dirty *part;		/* of the disk it has; NULL: all */
	uint8_t *then;
};

struct script {
	struct loop *l;
	uint64_t size;
	struct blk_node *slot;
	struct blk_node *storage[MAX_LAYERS];	/* fault filters below images */
	unsigned n_storage;
	struct blk_dirty *bitmap;
	struct churn *ch;
	struct running run[MAX_JOBS];
	bool disk_fails, hungry, verbose;
};

/* ---- memory that runs out, see hunger.h ---- */

static struct {
	_Atomic bool armed;
	_Atomic unsigned left;		/* the one after so many fails */
} hunger;

bool hunger_denies(void)
{
	return hunger.armed && hunger.left && --hunger.left == 0;
}

/* Calls into what is tested, with memory running out in some of them. */
#define HUNGRY(s, call)                                                         \
	do {                                                                    \
		hunger.left = 1 + (unsigned)random() % 12;                      \
		hunger.armed = (s)->hungry && random() % 3 == 0;                \
		call;                                                           \
		hunger.armed = false;                                           \
	} while (0)

static unsigned pick(unsigned n)
{
	return (unsigned)random() % n;
}

#define SAY(s, ...) \
	do { \
		if ((s)->verbose) \
			fprintf(stderr, __VA_ARGS__); \
	} while (0)

/* ---- images ---- */

static struct blk_node *new_mem(struct script *s)
{
	struct blk_node *n = NULL;

	assert_int_equal(blk_open_mem(s->l, s->size, &n), 0);
	return n;
}

static struct blk_node *new_qcow2(struct script *s, bool backing)
{
	const struct qcow2_create_opts co = {
		.size = s->size, .cluster_size = 512u << pick(9), .backing = backing ? "below" : NULL,
		.backing_format = backing ? "qcow2" : NULL,
	};
	const struct blk_image_opts io = { .no_backing = true };
	struct blk_node *file = NULL, *n = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_open_mem_file(s->l, 128 << 20, &file), 0);
	if (s->n_storage < MAX_LAYERS) {
		assert_int_equal(blk_fault_new(file, &file), 0);
		s->storage[s->n_storage++] = file;
	}
	assert_int_equal(qcow2_create(file, &co, &e), 0);
	if (qcow2_open(file, &io, 0, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

static void scribble(struct script *s, struct blk_node *n)
{
	uint8_t buf[8192];

	for (unsigned i = 0; i < 10; i++) {
		uint64_t off = (uint64_t)pick((unsigned)(s->size / 512 - 16)) * 512;

		memset(buf, (int)random(), sizeof(buf));
		if (pick(4))
			assert_int_equal(blk_pwrite(n, off, buf, sizeof(buf)), 0);
		else
			assert_int_equal(blk_pwrite_zeroes(n, off, sizeof(buf), true), 0);
	}
}

static void make_disk(struct script *s)
{
	const struct blk_throttle_opts limits = { .ops[BLK_RATE_TOTAL] = { .avg = 20000 + pick(100000) } };
	struct blk_node *n = pick(3) ? new_qcow2(s, false) : new_mem(s);
	struct err e = { 0 };

	scribble(s, n);
	for (unsigned layers = pick(4); layers; layers--) {
		struct blk_node *over = new_qcow2(s, true);

		n->i.read_only = true;
		assert_int_equal(qcow2_plug_backing(over, n, NULL), 0);
		n = over;
		scribble(s, n);
	}
	if (pick(2))
		assert_int_equal(blk_copy_on_read_new(n, &n, &e), 0);
	assert_int_equal(blk_track_new(n, s->bitmap, &n), 0);
	if (pick(3) == 0)
		assert_int_equal(blk_throttle_new(n, &limits, &n, &e), 0);
	assert_int_equal(blk_slot_new(n, &s->slot), 0);
}

/* ---- works ---- */

static void on_event(void *opaque, struct blk_job *j, enum blk_job_event ev)
{
	struct running *r = opaque;

	if (ev == BLK_JOB_READY)
		r->ready = true;
	else
		r->ended = true;
}

static struct running *free_run(struct script *s)
{
	for (unsigned i = 0; i < MAX_JOBS; i++)
		if (!s->run[i].j)
			return &s->run[i];
	return NULL;
}

static struct blk_node *maybe_faulty(struct running *r, struct blk_node *n)
{
	if (pick(5))
		return n;
	r->faulty = true;
	assert_int_equal(blk_fault_new(n, &n), 0);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){
		.ops = BIT(BLK_WRITE) | (pick(2) ? BIT(BLK_WRITE_ZEROES) : 0), .nth = 1 + pick(60), .after = pick(4) == 0,
		.error = pick(2) ? ENOSPC : EIO }), 0);
	return n;
}

static void start_backup(struct script *s, struct running *r, const struct blk_job_opts *o)
{
	static const enum blk_sync syncs[] = { BLK_SYNC_FULL, BLK_SYNC_DIRTY, BLK_SYNC_DIRTY, BLK_SYNC_NONE };
	enum blk_sync sync = syncs[pick(4)];
	struct blk_node *target;
	int ret;
	struct blk_dirty *b = sync == BLK_SYNC_DIRTY || pick(4) == 0 ? s->bitmap : NULL;
	struct err e = { 0 };

	if (sync == BLK_SYNC_NONE)
		b = NULL;
	r->kept = new_mem(s);
	r->endless = sync == BLK_SYNC_NONE;
	/* The moment is when nothing is under way, which the start sees to; so do we, to know the bitmap then. */
	churn_rest(s->ch);
	if (sync == BLK_SYNC_DIRTY)
		r->part = blk_dirty_copy(s->bitmap);
	target = maybe_faulty(r, lend(r->kept));
	HUNGRY(s, ret = blk_backup_start(s->slot, target, sync, b, o, &r->j, &e));
	if (ret) {
		if (ret != -ENOMEM || !s->hungry)
			fail_msg("%s", e.msg);
		blk_close(target);
		blk_close(r->kept);
		blk_dirty_free(r->part);
		r->j = NULL;
		return;
	}
	r->then = malloc(s->size);
	memcpy(r->then, s->ch->model, s->size);
	r->work = WORK_BACKUP;
	SAY(s, "  backup, sync %d%s\n", sync, r->faulty ? ", to fail" : "");
}

static unsigned depth_of(struct script *s)
{
	unsigned n = 0;

	for (struct blk_node *x = *blk_slot_image(s->slot); x->backing; x = x->backing)
		n++;
	return n;
}

static void start_commit(struct script *s, struct running *r, const struct blk_job_opts *o)
{
	unsigned depth = depth_of(s), base = depth ? 1 + pick(depth) : 0, top = base ? pick(base) : 0;
	struct err e = { 0 };
	int ret;

	if (!base)
		return;
	HUNGRY(s, ret = blk_commit_start(s->slot, top, base, o, &r->j, &e));
	SAY(s, "  commit %u into %u of %u: %d\n", top, base, depth, ret);
	if (ret)
		assert_true(ret == -EBUSY || (s->disk_fails && ret != -EINVAL));
	else
		r->work = WORK_COMMIT;
}

static void start_mirror(struct script *s, struct running *r, const struct blk_job_opts *o)
{
	struct blk_node *target = maybe_faulty(r, pick(2) ? new_qcow2(s, false) : new_mem(s));
	struct err e = { 0 };
	int ret;

	HUNGRY(s, ret = blk_mirror_start(s->slot, target, BLK_SYNC_FULL, o, &r->j, &e));
	SAY(s, "  mirror%s: %d\n", r->faulty ? ", to fail" : "", ret);
	if (ret) {
		assert_true(ret == -EBUSY || (s->hungry && ret == -ENOMEM));
		blk_close(target);
		r->j = NULL;
		r->faulty = false;
	} else {
		r->work = WORK_MIRROR;
	}
}

static void start_work(struct script *s)
{
	struct running *r = free_run(s);
	struct blk_job_opts o = { .in_flight = 1 + pick(6), .rate = pick(2) ? 0 : 4 << 20 << pick(5), .event = on_event, .opaque = r };

	if (!r)
		return;
	*r = (struct running){ 0 };
	switch (pick(3)) {
	case 0:
		start_mirror(s, r, &o);
		break;
	case 1:
		start_backup(s, r, &o);
		break;
	case 2:
		start_commit(s, r, &o);
		break;
	}
}

static void take_snapshot(struct script *s)
{
	struct blk_node *over = new_qcow2(s, true);
	struct err e = { 0 };
	int ret;

	HUNGRY(s, ret = blk_snapshot_attach(s->slot, over, &e));
	SAY(s, "  snapshot: %d\n", ret);
	if (!ret)
		return;
	assert_true(ret == -EBUSY || s->disk_fails);
	blk_close(over);
}

static void meddle(struct script *s)
{
	struct running *r = &s->run[pick(MAX_JOBS)];
	struct err e = { 0 };

	if (!r->j || r->ended)
		return;
	if (r->ready && pick(3))
		blk_job_complete(r->j, pick(4) != 0 && !r->faulty, &e);
	else if (pick(3) == 0)
		blk_job_cancel(r->j);
	else
		blk_job_set_rate(r->j, pick(2) ? 0 : 1 << 20 << pick(6));
}

static void check_backup(struct script *s, struct running *r, bool good)
{
	const uint8_t *t = blk_mem_data(r->kept);
	uint64_t off = 0, len = s->size;

	if (good && !r->part && memcmp(t, r->then, s->size))
		fail_msg("a backup is not of its moment");
	for (uint64_t at = 0; good && r->part && blk_dirty_next(r->part, at, s->size, &off, &len); at = off + len)
		if (memcmp(t + off, r->then + off, len))
			fail_msg("an increment is not of its moment, at %llu", (unsigned long long)off);
	blk_close(r->kept);
	blk_dirty_free(r->part);
	free(r->then);
}

static void reap_works(struct script *s)
{
	for (unsigned i = 0; i < MAX_JOBS; i++) {
		struct running *r = &s->run[i];
		struct blk_job_info info;

		if (!r->j || !r->ended)
			continue;
		blk_job_info(r->j, &info);
		SAY(s, "  %s ended: %d %s\n", info.kind, info.ret, info.message);
		if (info.ret && info.ret != -ECANCELED)
			assert_true(r->faulty || s->disk_fails);
		if (r->work == WORK_BACKUP)
			check_backup(s, r, !info.ret && !r->endless && !s->disk_fails);
		blk_job_free(r->j);
		r->j = NULL;
	}
}

static bool any_work(struct script *s)
{
	for (unsigned i = 0; i < MAX_JOBS; i++)
		if (s->run[i].j)
			return true;
	return false;
}

static void break_disk(struct script *s)
{
	struct blk_node *n = s->n_storage ? s->storage[0] : NULL;

	if (!n)
		return;
	blk_fault_add(n, &(struct blk_fault){ .ops = BIT(BLK_READ), .nth = 1 + pick(40), .once = true, .error = EIO });
}

static void run_script(unsigned seed, bool hungry, bool verbose)
{
	struct script s = { .verbose = verbose, .hungry = hungry };

	srandom(seed);
	s.size = (1 + pick(6)) * 1048576ull - pick(3) * 512;
	s.bitmap = blk_dirty_new(s.size, 4096u << pick(5));
	assert_int_equal(loop_new(&s.l), 0);
	make_disk(&s);
	s.ch = churn_new(s.l, s.slot, s.size);
	s.disk_fails = pick(8) == 0;
	if (s.disk_fails)
		break_disk(&s);
	s.disk_fails = s.disk_fails || hungry;
	s.ch->may_fail = s.disk_fails;
	SAY(&s, "seed %u: %llu bytes%s\n", seed, (unsigned long long)s.size, s.disk_fails ? ", a disk that fails" : "");
	for (unsigned step = 0; step < 25; step++) {
		churn_run(s.ch, 1 + pick(40));
		for (unsigned i = 0; i < 6; i++)
			HUNGRY(&s, churn_turn(s.ch));
		switch (pick(4)) {
		case 0:
		case 1:
			start_work(&s);
			break;
		case 2:
			meddle(&s);
			break;
		case 3:
			if (pick(3) == 0)
				take_snapshot(&s);
			break;
		}
		reap_works(&s);
	}
	/* All come to an end. */
	for (unsigned i = 0; any_work(&s); i++) {
		churn_turn(s.ch);
		if (i % 16 == 0)
			meddle(&s);
		reap_works(&s);
		if (i > 200000)
			fail_msg("a work does not end");
	}
	churn_run(s.ch, 50);
	churn_compare(s.ch, s.slot);
	churn_free(s.ch);
	blk_close(s.slot);
	blk_dirty_free(s.bitmap);
	loop_free(s.l);
}

static unsigned first_seed = 1, n_scripts = 20;
static bool talk, starve;

static void scripts(void **state)
{
	for (unsigned i = 0; i < n_scripts; i++) {
		/* On the line before what went wrong. */
		if (!talk)
			fprintf(stderr, "# seed %u\n", first_seed + i);
		run_script(first_seed + i, starve, talk);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' }, { "count", required_argument, NULL, 'c' },
		{ "hunger", no_argument, NULL, 'h' }, { "verbose", no_argument, NULL, 'v' }, { 0 },
	};
	const struct CMUnitTest tests[] = { cmocka_unit_test(scripts) };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			first_seed = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'c')
			n_scripts = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'h')
			starve = true;
		else if (c == 'v')
			talk = true;
		else
			return 2;
	}
	return cmocka_run_group_tests_name("block-live", tests, NULL, NULL);
}
