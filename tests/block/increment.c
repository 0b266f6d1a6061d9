/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Incremental backups of a disk in use by the bitmap that its image keeps:
 *
 *   increment [--seed S] [--count N] [--peer] [--verbose]
 *
 * Each script makes an image with a bitmap, a full backup of it, and increments over
 * that, while a guest that never rests (tests/unit/block/churn.h) writes.  Targets fail, backups are
 * cancelled, the image is closed and opened between them.  What the chain of
 * backups shows must be the disk at the moment the last one began, and the bitmap
 * must say exactly what was written since, or, if it failed, since the one before.
 * With --peer qemu-img compares, checks and lists, and qemu-io writes in between.
 */
#include <getopt.h>

#include "../unit/block/churn.h"

#include "block/filter.h"
#include "block/image.h"
#include "block/job.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/qcow2.h"
#include "shell.h"

#define MAP "changed"

static char dir[] = "/tmp/lodge-increment-XXXXXX";
static unsigned first_seed = 1, n_scripts = 10;
static bool talk, with_peer;

#define SAY(...) \
	do { \
		if (talk) \
			fprintf(stderr, __VA_ARGS__); \
	} while (0)

struct script {
	struct loop *l;
	uint64_t size;
	char disk[64], last[64];	/* last: the newest backup; "": none */
	unsigned n_backups;
	struct blk_node *slot;
	struct blk_dirty *since;	/* what the bitmap should say */
	struct churn *ch;
	bool ended;
};

static unsigned pick(unsigned n)
{
	return (unsigned)random() % n;
}

static void in_dir(char *path, size_t room, const char *name, unsigned n)
{
	snprintf(path, room, "%s/%s%u.qcow2", dir, name, n);
}

#define run_command(...) shell_in(dir, talk, __VA_ARGS__)

/* ---- images ---- */

static void make_image(struct script *s, const char *path, const char *backing)
{
	const struct qcow2_create_opts o = { .size = s->size, .cluster_size = 512u << pick(9), .backing = backing,
					     .backing_format = backing ? "qcow2" : NULL };
	const struct blk_open_opts fo = { .open_ended = true, .cache = BLK_CACHE_UNSAFE };
	struct blk_node *file = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_create_file(path, true, &e), 0);
	assert_int_equal(blk_open_file(s->l, path, &fo, &file, &e), 0);
	assert_int_equal(qcow2_create(file, &o, &e), 0);
	blk_close(file);
}

static struct blk_node *open_image(struct script *s, const char *path, bool read_only)
{
	const struct blk_image_opts o = { .format = "qcow2", .trust = BLK_TRUST_ALL,
					  .file = { .read_only = read_only, .cache = BLK_CACHE_UNSAFE } };
	struct blk_node *n = NULL;
	struct err e = { 0 };

	if (blk_open_image(s->l, path, &o, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

static struct blk_node *image_of(struct script *s)
{
	return *blk_slot_image(s->slot);
}

static void open_disk(struct script *s)
{
	struct blk_node *n = open_image(s, s->disk, false);

	assert_int_equal(blk_track_new(n, s->since, &n), 0);
	assert_int_equal(blk_slot_new(n, &s->slot), 0);
	s->ch = churn_new(s->l, s->slot, s->size);
}

static void close_disk(struct script *s)
{
	churn_rest(s->ch);
	churn_free(s->ch);
	blk_close(s->slot);
}

/* ---- what the bitmap says ---- */

static void compare_map(struct script *s, struct blk_node *image)
{
	struct blk_dirty *got = blk_dirty_new(s->size, blk_dirty_granularity(s->since));
	uint64_t at, len, off = 0, a = 0, b = 0, la = 0, lb = 0;
	struct err e = { 0 };
	bool ma, mb;

	do {
		if (qcow2_bitmap_next(image, MAP, off, &at, &len, &e))
			fail_msg("%s", e.msg);
		blk_dirty_set(got, at, len);
		off = at + len;
	} while (len);
	for (off = 0;; off = a + la) {
		ma = blk_dirty_next(got, off, s->size, &a, &la);
		mb = blk_dirty_next(s->since, off, s->size, &b, &lb);
		if (ma != mb || (ma && (a != b || la != lb)))
			fail_msg("the bitmap says %llu+%llu, not %llu+%llu", (unsigned long long)a, (unsigned long long)la,
				 (unsigned long long)b, (unsigned long long)lb);
		if (!ma)
			break;
	}
	blk_dirty_free(got);
}

/* The image as it is in the file now, as after sudden death: its bitmap says nothing, and no backup takes it. */
static void look_at_the_dead(struct script *s)
{
	struct blk_node *n, *slot = NULL, *target = NULL;
	struct blk_job *j = NULL;
	struct err e = { 0 };
	char path[64];

	in_dir(path, sizeof(path), "dead", 0);
	assert_int_equal(blk_flush(s->slot), 0);
	assert_true(run_command("cp %s %s", s->disk, path));
	n = open_image(s, path, false);
	assert_int_equal(blk_slot_new(n, &slot), 0);
	assert_int_equal(blk_open_mem(s->l, s->size, &target), 0);
	assert_int_equal(blk_backup_start_persistent(slot, target, BLK_SYNC_DIRTY, MAP, NULL, &j, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "can only be removed"));
	assert_int_equal(qcow2_bitmap_remove(n, MAP, &e), 0);
	blk_close(target);
	blk_close(slot);
	unlink(path);
}

/* ---- backups ---- */

static void on_event(void *opaque, struct blk_job *j, enum blk_job_event ev)
{
	struct script *s = opaque;

	s->ended = s->ended || ev == BLK_JOB_ENDED;
}

static void compare_backup(struct script *s, const char *path, const uint8_t *then)
{
	struct blk_node *n = open_image(s, path, true);
	uint8_t *got = malloc(s->size);
	char raw[80];
	FILE *f;

	assert_int_equal(blk_pread(n, 0, got, s->size), 0);
	if (memcmp(got, then, s->size))
		fail_msg("the chain of backups is not the disk of that moment");
	free(got);
	blk_close(n);
	if (!with_peer)
		return;
	snprintf(raw, sizeof(raw), "%s/then", dir);
	f = fopen(raw, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(then, 1, s->size, f), s->size);
	fclose(f);
	if (!run_command("qemu-img compare -f raw -F qcow2 then %s && qemu-img check -f qcow2 %s", path, path))
		fail_msg("qemu-img finds the backup different");
}

/* While it runs the bitmap is its own. */
static void nobody_else(struct script *s)
{
	struct blk_node *image = image_of(s), *target = NULL;
	struct blk_job *j = NULL;
	struct err e = { 0 };

	churn_rest(s->ch);
	if (s->ended)
		return;
	assert_int_equal(blk_open_mem(s->l, s->size, &target), 0);
	assert_int_equal(blk_backup_start_persistent(s->slot, target, BLK_SYNC_DIRTY, MAP, NULL, &j, &e), -EBUSY);
	blk_close(target);
	/* Waiting for these may have had the job end. */
	if (s->ended)
		return;
	assert_int_equal(qcow2_bitmap_remove(image, MAP, &e), -EBUSY);
	assert_non_null(strstr(e.msg, "in use by a backup"));
	/* Others are nobody's, and what is stored for them leaves this one alone. */
	if (!qcow2_bitmap_add(image, "other", 0, pick(2), &e))
		qcow2_bitmap_remove(image, "other", &e);
}

static struct blk_node *new_target(struct script *s, char *path, bool full, bool faulty)
{
	struct blk_node *n;

	in_dir(path, 64, "backup", s->n_backups);
	make_image(s, path, full ? NULL : s->last);
	n = open_image(s, path, false);
	if (!faulty)
		return n;
	assert_int_equal(blk_fault_new(n, &n), 0);
	assert_int_equal(blk_fault_add(n, &(struct blk_fault){ .ops = BIT(BLK_WRITE) | BIT(BLK_FLUSH), .nth = 1 + pick(12),
							       .error = pick(2) ? EIO : ENOSPC }), 0);
	return n;
}

static void backup(struct script *s, bool full)
{
	bool faulty = pick(4) == 0, cancel = pick(5) == 0;
	struct blk_job_opts o = { .event = on_event, .opaque = s, .in_flight = 1 + pick(4), .rate = pick(2) ? 0 : 4 << 20 << pick(4) };
	struct blk_dirty *before;
	struct blk_job_info info;
	struct blk_node *target;
	struct blk_job *j = NULL;
	struct err e = { 0 };
	uint8_t *then;
	char path[64];

	target = new_target(s, path, full, faulty);
	churn_rest(s->ch);
	compare_map(s, image_of(s));
	s->ended = false;
	if (blk_backup_start_persistent(s->slot, target, full ? BLK_SYNC_FULL : BLK_SYNC_DIRTY, MAP, &o, &j, &e))
		fail_msg("%s", e.msg);
	then = malloc(s->size);
	memcpy(then, s->ch->model, s->size);
	before = blk_dirty_copy(s->since);
	blk_dirty_clear(s->since, 0, s->size);
	for (unsigned i = 0; !s->ended; i++) {
		churn_turn(s->ch);
		if (i == 3 && pick(3) == 0)
			nobody_else(s);
		if (i == 6 && cancel)
			blk_job_cancel(j);
		if (i > 200000)
			fail_msg("a backup does not end");
	}
	blk_job_info(j, &info);
	SAY("  %s backup: %d %s\n", full ? "full" : "incremental", info.ret, info.message);
	if (info.ret && info.ret != -ECANCELED)
		assert_true(faulty);
	if (info.ret) {
		blk_dirty_merge(s->since, before);
		unlink(path);
	} else {
		s->n_backups++;
		strcpy(s->last, path);
		compare_backup(s, path, then);
	}
	blk_job_free(j);
	blk_dirty_free(before);
	free(then);
	churn_rest(s->ch);
	compare_map(s, image_of(s));
}

/* ---- between sessions ---- */

static void peer_turn(struct script *s)
{
	uint64_t off = pick((unsigned)(s->size / 512)) * 512ull, len = MIN((1 + pick(60)) * 512ull, s->size - off);

	if (!run_command("qemu-img check -f qcow2 %s && qemu-img info --output=json %s | tr -d ' \\n' > info && "
			 "grep -q '\"bitmaps\":\\[{\"flags\":\\[\"auto\"\\],\"name\":\"" MAP "\",\"granularity\":%u}\\]' info",
			 s->disk, s->disk, blk_dirty_granularity(s->since)))
		fail_msg("qemu-img does not see the bitmap");
	if (!run_command("qemu-io -t unsafe -f qcow2 -c 'write -P 7 %llu %llu' %s", (unsigned long long)off, (unsigned long long)len, s->disk))
		fail_msg("qemu-io cannot write");
	blk_dirty_set(s->since, off, len);
}

static void reopen(struct script *s)
{
	struct blk_node *n;

	close_disk(s);
	if (with_peer)
		peer_turn(s);
	n = open_image(s, s->disk, true);
	compare_map(s, n);
	blk_close(n);
	open_disk(s);
}

static void run_script(unsigned seed)
{
	struct script s = { 0 };
	struct err e = { 0 };

	srandom(seed);
	SAY("seed %u\n", seed);
	s.size = (1 + pick(4)) * 1048576ull - pick(3) * 512;
	s.since = blk_dirty_new(s.size, 512u << pick(9));
	assert_int_equal(loop_new(&s.l), 0);
	in_dir(s.disk, sizeof(s.disk), "disk", 0);
	make_image(&s, s.disk, NULL);
	open_disk(&s);
	churn_run(s.ch, pick(40));
	churn_rest(s.ch);
	assert_int_equal(qcow2_bitmap_add(image_of(&s), MAP, blk_dirty_granularity(s.since), true, &e), 0);
	blk_dirty_clear(s.since, 0, s.size);
	for (unsigned i = 0; i < 8; i++) {
		churn_run(s.ch, 1 + pick(40));
		backup(&s, !*s.last || pick(10) == 0);
		churn_run(s.ch, 1 + pick(10));
		if (pick(3) == 0) {
			reopen(&s);
		} else if (pick(4) == 0) {
			churn_rest(s.ch);
			look_at_the_dead(&s);
		}
	}
	churn_compare(s.ch, s.slot);
	close_disk(&s);
	blk_dirty_free(s.since);
	loop_free(s.l);
	assert_true(run_command("rm -f *.qcow2"));
}

static void scripts(void **state)
{
	if (with_peer && !(run_command("qemu-img --version") && run_command("qemu-io --version"))) {
		print_message("skipped: there is no qemu-img or qemu-io here (package qemu-utils)\n");
		skip();
	}
	for (unsigned i = 0; i < n_scripts; i++) {
		/* On the line before what went wrong. */
		if (!talk)
			fprintf(stderr, "# seed %u\n", first_seed + i);
		run_script(first_seed + i);
	}
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' }, { "count", required_argument, NULL, 'c' },
		{ "peer", no_argument, NULL, 'p' }, { "verbose", no_argument, NULL, 'v' }, { 0 },
	};
	const struct CMUnitTest tests[] = { cmocka_unit_test(scripts) };
	char cmd[80];
	int c, ret;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			first_seed = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'c')
			n_scripts = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'p')
			with_peer = true;
		else if (c == 'v')
			talk = true;
		else
			return 2;
	}
	/* Bitmaps that the dead leave are no news here. */
	setenv("LODGE_LOG", "error", 0);
	if (!mkdtemp(dir))
		return 2;
	ret = cmocka_run_group_tests_name("block-increment", tests, NULL, NULL);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		perror(dir);
	return ret;
}
