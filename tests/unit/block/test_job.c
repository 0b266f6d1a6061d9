/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on a disk whose guest never rests: what the target has must be what the
 * guest wrote, up to now (mirror, commit) or up to a moment (backup, snapshot),
 * whatever fails or is cancelled, and the guest must not notice.
 */
#include "churn.h"

#include "block/filter.h"
#include "block/image.h"
#include "block/job.h"
#include "block/qcow2/qcow2.h"

#define SIZE (8u << 20)

static struct loop *loop;

static struct blk_node *mem(uint64_t size)
{
	struct blk_node *n = NULL;

	assert_int_equal(blk_open_mem(loop, size, &n), 0);
	return n;
}

static void fill(struct blk_node *n)
{
	uint8_t *buf = malloc(1 << 20);

	for (uint64_t at = 0; at < SIZE; at += 1 << 20) {
		for (uint64_t i = 0; i < 1 << 20; i += 8)
			memcpy(buf + i, &(uint64_t){ (at + i) * 0x9e3779b97f4a7c15u }, 8);
		/* Every third MiB is left empty. */
		if ((at >> 20) % 3)
			assert_int_equal(blk_pwrite(n, at, buf, 1 << 20), 0);
	}
	free(buf);
}

/* An empty qcow2 image in memory; *file: where it is stored. */
static struct blk_node *qcow2(struct blk_node *backing, uint64_t size, struct blk_node **file_out)
{
	const struct qcow2_create_opts co = { .size = size, .backing = backing ? "below" : NULL,
					      .backing_format = backing ? "qcow2" : NULL };
	const struct blk_image_opts io = { .no_backing = true };
	struct blk_node *file = NULL, *faults = NULL, *n = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_open_mem_file(loop, 64 << 20, &file), 0);
	assert_int_equal(blk_fault_new(file, &faults), 0);
	assert_int_equal(qcow2_create(faults, &co, &e), 0);
	if (qcow2_open(faults, &io, 0, &n, &e))
		fail_msg("%s", e.msg);
	if (backing) {
		backing->i.read_only = true;
		assert_int_equal(qcow2_plug_backing(n, backing, NULL), 0);
	}
	if (file_out)
		*file_out = faults;
	return n;
}

static struct blk_node *slot_on(struct blk_node *n)
{
	struct blk_node *slot = NULL;

	assert_int_equal(blk_slot_new(n, &slot), 0);
	return slot;
}

struct watch {
	bool ready, ended;
};

static void on_event(void *opaque, struct blk_job *j, enum blk_job_event ev)
{
	struct watch *w = opaque;

	if (ev == BLK_JOB_READY)
		w->ready = true;
	else
		w->ended = true;
}

static struct blk_job_opts watched(struct watch *w)
{
	*w = (struct watch){ 0 };
	return (struct blk_job_opts){ .event = on_event, .opaque = w, .in_flight = 1 + (unsigned)random() % 6 };
}

static void until(struct churn *ch, const bool *flag)
{
	for (unsigned i = 0; !*flag && i < 200000; i++)
		churn_turn(ch);
	assert_true(*flag);
}

static int ended_with(struct blk_job *j)
{
	struct blk_job_info i;

	blk_job_info(j, &i);
	assert_true(i.ended);
	if (i.ret && i.ret != -ECANCELED)
		assert_true(*i.message);
	blk_job_free(j);
	return i.ret;
}

/* ---- mirror ---- */

static void mirror_switches(void **state)
{
	for (unsigned seed = 0; seed < 12; seed++) {
		struct blk_node *old = seed & 1 ? qcow2(NULL, SIZE, NULL) : mem(SIZE), *slot;
		struct blk_node *target = seed & 2 ? qcow2(NULL, SIZE, NULL) : mem(SIZE);
		struct blk_job *j = NULL, *other = NULL;
		struct blk_job_opts o;
		struct watch w;
		struct churn *ch;
		struct err e = { 0 };

		srandom(seed);
		fill(old);
		slot = slot_on(old);
		ch = churn_new(loop, slot, SIZE);
		churn_run(ch, 50);
		o = watched(&w);
		if (blk_mirror_start(slot, target, BLK_SYNC_FULL, &o, &j, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(blk_job_complete(j, true, &e), -EBUSY);
		assert_int_equal(blk_mirror_start(slot, target, BLK_SYNC_FULL, &o, &other, &e), -EBUSY);
		until(ch, &w.ready);
		churn_run(ch, 300);
		assert_false(w.ended);
		assert_int_equal(blk_job_complete(j, true, &e), 0);
		until(ch, &w.ended);
		assert_int_equal(ended_with(j), 0);
		assert_ptr_equal(*blk_slot_image(slot), target);
		churn_run(ch, 200);
		churn_compare(ch, slot);
		churn_compare(ch, target);
		churn_free(ch);
		blk_close(slot);
	}
}

/* Kept instead of switched to: the target is as the disk was at that moment. */
static void mirror_keeps(void **state)
{
	char path[64];
	struct blk_node *slot, *target = NULL;
	const struct blk_open_opts fo = { 0 };
	struct blk_job *j = NULL;
	struct blk_job_opts o;
	struct watch w;
	struct churn *ch;
	struct err e = { 0 };

	srandom(11);
	temp_file(path, sizeof(path), SIZE);
	assert_int_equal(blk_open_file(loop, path, &fo, &target, &e), 0);
	slot = slot_on(qcow2(NULL, SIZE, NULL));
	fill(slot);
	ch = churn_new(loop, slot, SIZE);
	o = watched(&w);
	assert_int_equal(blk_mirror_start(slot, target, BLK_SYNC_FULL, &o, &j, &e), 0);
	until(ch, &w.ready);
	assert_int_equal(blk_job_complete(j, false, &e), 0);
	churn_rest(ch);
	while (!w.ended)
		loop_turn(loop, 100);
	assert_int_equal(ended_with(j), 0);
	assert_int_equal(blk_open_file(loop, path, &fo, &target, &e), 0);
	churn_compare(ch, target);
	blk_close(target);
	churn_run(ch, 100);
	churn_compare(ch, slot);
	churn_free(ch);
	blk_close(slot);
	unlink(path);
}

/* Only the first layer: the target stands on the same backing image. */
static void mirror_of_the_top(void **state)
{
	struct blk_node *base = mem(SIZE), *copy = mem(SIZE), *slot, *target;
	struct blk_job *j = NULL;
	struct blk_job_opts o;
	struct watch w;
	struct blk_extent x;
	struct churn *ch;
	uint8_t buf[65536];
	struct err e = { 0 };

	srandom(12);
	fill(base);
	memcpy(blk_mem_data(copy), blk_mem_data(base), SIZE);
	slot = slot_on(qcow2(base, SIZE, NULL));
	target = qcow2(copy, SIZE, NULL);
	memset(buf, 0x77, sizeof(buf));
	assert_int_equal(blk_pwrite(slot, 1 << 20, buf, sizeof(buf)), 0);
	/* Nothing writes while it is copied: what is not in the top is not copied. */
	ch = churn_new(loop, slot, SIZE);
	o = watched(&w);
	assert_int_equal(blk_mirror_start(slot, target, BLK_SYNC_TOP, &o, &j, &e), 0);
	while (!w.ready)
		loop_turn(loop, 100);
	assert_int_equal(blk_block_status(target, 0, 1 << 20, true, &x), 0);
	assert_false(x.allocated);
	assert_int_equal(x.len, 1 << 20);
	churn_run(ch, 300);
	assert_int_equal(blk_job_complete(j, true, &e), 0);
	until(ch, &w.ended);
	assert_int_equal(ended_with(j), 0);
	churn_compare(ch, slot);
	churn_free(ch);
	blk_close(slot);
}

static void mirror_fails(void **state)
{
	for (unsigned seed = 0; seed < 16; seed++) {
		struct blk_node *file, *slot = slot_on(qcow2(NULL, SIZE, &file)), *faults = NULL;
		struct blk_job *j = NULL;
		struct blk_job_opts o;
		struct watch w;
		struct churn *ch;
		struct err e = { 0 };
		bool at_source = seed & 1;
		int ret;

		srandom(seed);
		fill(slot);
		blk_flush(slot);
		ch = churn_new(loop, slot, SIZE);
		assert_int_equal(blk_fault_new(mem(SIZE), &faults), 0);
		o = watched(&w);
		ch->may_fail = at_source;
		assert_int_equal(blk_fault_add(at_source ? file : faults, &(struct blk_fault){
			.ops = at_source ? BIT(BLK_READ) : BIT(BLK_WRITE), .nth = 1 + (unsigned)random() % (at_source ? 20 : 60),
			.error = at_source ? EIO : ENOSPC }), 0);
		assert_int_equal(blk_mirror_start(slot, faults, BLK_SYNC_FULL, &o, &j, &e), 0);
		until(ch, &w.ended);
		ret = ended_with(j);
		assert_int_equal(ret, at_source ? -EIO : -ENOSPC);
		blk_fault_clear(file);
		churn_rest(ch);
		churn_run(ch, 50);
		churn_compare(ch, slot);
		churn_free(ch);
		blk_close(slot);
	}
}

/* In the ready state, too: the guest's write succeeds, the mirror ends. */
static void mirror_fails_when_ready(void **state)
{
	struct blk_node *slot = slot_on(mem(SIZE)), *faults = NULL;
	struct blk_job *j = NULL;
	struct blk_job_opts o;
	struct watch w;
	struct churn *ch;
	struct err e = { 0 };

	srandom(13);
	ch = churn_new(loop, slot, SIZE);
	assert_int_equal(blk_fault_new(mem(SIZE), &faults), 0);
	o = watched(&w);
	assert_int_equal(blk_mirror_start(slot, faults, BLK_SYNC_NONE, &o, &j, &e), 0);
	until(ch, &w.ready);
	assert_int_equal(blk_fault_add(faults, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .error = EIO }), 0);
	until(ch, &w.ended);
	assert_int_equal(ended_with(j), -EIO);
	churn_compare(ch, slot);
	churn_free(ch);
	blk_close(slot);
}

static void jobs_are_cancelled(void **state)
{
	for (unsigned seed = 0; seed < 24; seed++) {
		struct blk_node *slot = slot_on(qcow2(mem(SIZE), SIZE, NULL));
		struct blk_job *j = NULL;
		struct blk_job_opts o;
		struct watch w;
		struct churn *ch;
		struct err e = { 0 };
		int ret;

		srandom(seed);
		fill(slot);
		ch = churn_new(loop, slot, SIZE);
		o = watched(&w);
		o.rate = seed % 3 ? 0 : 20 << 20;
		if (seed % 4 == 3)
			ret = blk_commit_start(slot, 0, 1, &o, &j, &e);
		else if (seed & 1)
			ret = blk_backup_start(slot, mem(SIZE), BLK_SYNC_FULL, NULL, &o, &j, &e);
		else
			ret = blk_mirror_start(slot, mem(SIZE), BLK_SYNC_FULL, &o, &j, &e);
		assert_int_equal(ret, 0);
		churn_run(ch, (unsigned)random() % 150);
		blk_job_cancel(j);
		until(ch, &w.ended);
		ret = ended_with(j);
		assert_true(ret == -ECANCELED || (ret == 0 && seed & 1));
		churn_run(ch, 50);
		churn_compare(ch, slot);
		churn_free(ch);
		blk_close(slot);
	}
}

static void rate_is_kept(void **state)
{
	struct blk_node *slot = slot_on(mem(SIZE)), *target = mem(SIZE);
	struct blk_job *j = NULL;
	struct blk_job_opts o;
	struct watch w;
	struct blk_job_info i;
	struct err e = { 0 };
	int64_t start = loop_now_ns();

	fill(slot);
	o = watched(&w);
	o.rate = 16 << 20;
	o.in_flight = 1;
	assert_int_equal(blk_backup_start(slot, target, BLK_SYNC_FULL, NULL, &o, &j, &e), 0);
	blk_job_info(j, &i);
	assert_int_equal(i.total, SIZE);
	while (!w.ended)
		loop_turn(loop, 1000);
	/* The last piece is paid by nobody. */
	assert_true(loop_now_ns() - start >= 1000000000ll * (SIZE - (1 << 20)) / (16 << 20));
	blk_job_info(j, &i);
	assert_int_equal(i.done, SIZE);
	assert_int_equal(ended_with(j), 0);
	blk_close(slot);
}

static void bad_starts(void **state)
{
	struct blk_node *slot = slot_on(mem(SIZE)), *small = mem(SIZE / 2), *ro = mem(SIZE);
	struct blk_dirty *d = blk_dirty_new(SIZE / 2, 0);
	struct blk_job *j = NULL;
	struct err e = { 0 };

	ro->i.read_only = true;
	assert_int_equal(blk_mirror_start(slot, small, BLK_SYNC_FULL, NULL, &j, &e), -EINVAL);
	assert_int_equal(blk_mirror_start(slot, ro, BLK_SYNC_FULL, NULL, &j, &e), -EROFS);
	assert_int_equal(blk_backup_start(slot, small, BLK_SYNC_FULL, NULL, NULL, &j, &e), -EINVAL);
	ro->i.read_only = false;
	assert_int_equal(blk_mirror_start(slot, ro, BLK_SYNC_DIRTY, NULL, &j, &e), -EINVAL);
	assert_int_equal(blk_backup_start(slot, ro, BLK_SYNC_DIRTY, NULL, NULL, &j, &e), -EINVAL);
	assert_int_equal(blk_backup_start(slot, ro, BLK_SYNC_FULL, d, NULL, &j, &e), -EINVAL);
	assert_int_equal(blk_commit_start(slot, 0, 1, NULL, &j, &e), -EINVAL);
	assert_int_equal(blk_snapshot_attach(slot, ro, &e), -EINVAL);
	assert_int_equal(blk_snapshot_file(slot, "x", &e), -ENOTSUP);
	blk_dirty_free(d);
	blk_close(small);
	blk_close(ro);
	blk_close(slot);
}

/* ---- backup ---- */

static uint8_t *moment(struct churn *ch)
{
	uint8_t *then = malloc(SIZE);

	memcpy(then, ch->model, SIZE);
	return then;
}

/* A target that outlives the job: a view of it is the job's. */
struct kept {
	char path[64];
};

static struct blk_node *keep(struct kept *k)
{
	const struct blk_open_opts fo = { 0 };
	struct blk_node *n = NULL;
	struct err e = { 0 };

	temp_file(k->path, sizeof(k->path), SIZE);
	assert_int_equal(blk_open_file(loop, k->path, &fo, &n, &e), 0);
	return n;
}

/* What the target has, laid over `all` where `which` (NULL: everywhere) says so. */
static void lay_over(struct kept *k, const struct blk_dirty *which, uint8_t *all)
{
	uint8_t *t = malloc(SIZE);
	int fd = open(k->path, O_RDONLY);
	uint64_t off = 0, len = SIZE;

	assert_int_equal(read(fd, t, SIZE), SIZE);
	close(fd);
	unlink(k->path);
	if (!which)
		memcpy(all, t, SIZE);
	for (uint64_t at = 0; which && at < SIZE && blk_dirty_next(which, at, SIZE, &off, &len); at = off + len)
		memcpy(all + off, t + off, len);
	free(t);
}

static void backups_are_of_a_moment(void **state)
{
	for (unsigned seed = 0; seed < 6; seed++) {
		struct blk_node *image = seed & 1 ? qcow2(NULL, SIZE, NULL) : mem(SIZE), *track = NULL, *slot;
		struct blk_dirty *d = blk_dirty_new(SIZE, seed & 2 ? 4096 : 0), *was;
		uint8_t *then, *all = calloc(1, SIZE);
		struct blk_job *j = NULL;
		struct blk_job_opts o;
		struct watch w;
		struct churn *ch;
		struct kept k;
		struct err e = { 0 };

		srandom(seed);
		fill(image);
		assert_int_equal(blk_track_new(image, d, &track), 0);
		slot = slot_on(track);
		ch = churn_new(loop, slot, SIZE);
		churn_run(ch, 100);
		o = watched(&w);
		o.rate = 60 << 20;	/* so that the guest is met */
		assert_int_equal(blk_backup_start(slot, keep(&k), BLK_SYNC_FULL, d, &o, &j, &e), 0);
		then = moment(ch);
		until(ch, &w.ended);
		assert_int_equal(ended_with(j), 0);
		lay_over(&k, NULL, all);
		assert_memory_equal(all, then, SIZE);
		free(then);
		for (unsigned i = 0; i < 3; i++) {
			churn_run(ch, 20);
			churn_turn(ch);
			churn_rest(ch);
			was = blk_dirty_copy(d);
			o = watched(&w);
			assert_int_equal(blk_backup_start(slot, keep(&k), BLK_SYNC_DIRTY, d, &o, &j, &e), 0);
			then = moment(ch);
			until(ch, &w.ended);
			assert_int_equal(ended_with(j), 0);
			lay_over(&k, was, all);
			assert_memory_equal(all, then, SIZE);
			blk_dirty_free(was);
			free(then);
		}
		churn_compare(ch, slot);
		churn_free(ch);
		blk_close(slot);
		blk_dirty_free(d);
		free(all);
	}
}

/* An increment that fails loses nothing: the next one has it all. */
static void failed_increments(void **state)
{
	struct blk_node *image = mem(SIZE), *track = NULL, *slot, *faults = NULL;
	struct blk_dirty *d = blk_dirty_new(SIZE, 0), *was;
	uint8_t *then, *all;
	struct blk_job *j = NULL;
	struct blk_job_opts o;
	struct watch w;
	struct churn *ch;
	struct kept k;
	struct err e = { 0 };

	srandom(21);
	assert_int_equal(blk_track_new(image, d, &track), 0);
	slot = slot_on(track);
	ch = churn_new(loop, slot, SIZE);
	all = moment(ch);
	churn_run(ch, 30);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(blk_fault_new(mem(SIZE), &faults), 0);
		assert_int_equal(blk_fault_add(faults, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .nth = i + 1,
									    .error = ENOSPC }), 0);
		o = watched(&w);
		assert_int_equal(blk_backup_start(slot, faults, BLK_SYNC_DIRTY, d, &o, &j, &e), 0);
		until(ch, &w.ended);
		assert_int_equal(ended_with(j), -ENOSPC);
	}
	churn_rest(ch);
	was = blk_dirty_copy(d);
	o = watched(&w);
	assert_int_equal(blk_backup_start(slot, keep(&k), BLK_SYNC_DIRTY, d, &o, &j, &e), 0);
	then = moment(ch);
	until(ch, &w.ended);
	assert_int_equal(ended_with(j), 0);
	lay_over(&k, was, all);
	assert_memory_equal(all, then, SIZE);
	churn_free(ch);
	blk_close(slot);
	blk_dirty_free(was);
	blk_dirty_free(d);
	free(then);
	free(all);
}

/* Two backups of different moments, and a snapshot, beside each other. */
static void jobs_beside_each_other(void **state)
{
	struct blk_node *slot = slot_on(qcow2(NULL, SIZE, NULL));
	struct blk_job *a = NULL, *b = NULL;
	struct watch wa, wb;
	struct blk_job_opts oa = watched(&wa), ob = watched(&wb);
	uint8_t *then_a, *then_b, *all = malloc(SIZE);
	struct kept ka, kb;
	struct churn *ch;
	struct err e = { 0 };

	srandom(22);
	fill(slot);
	ch = churn_new(loop, slot, SIZE);
	oa.rate = ob.rate = 30 << 20;
	assert_int_equal(blk_backup_start(slot, keep(&ka), BLK_SYNC_FULL, NULL, &oa, &a, &e), 0);
	then_a = moment(ch);
	churn_run(ch, 30);
	assert_int_equal(blk_backup_start(slot, keep(&kb), BLK_SYNC_FULL, NULL, &ob, &b, &e), 0);
	then_b = moment(ch);
	churn_run(ch, 30);
	if (blk_snapshot_attach(slot, qcow2(NULL, SIZE, NULL), &e))
		fail_msg("%s", e.msg);
	until(ch, &wa.ended);
	until(ch, &wb.ended);
	assert_int_equal(ended_with(a), 0);
	assert_int_equal(ended_with(b), 0);
	lay_over(&ka, NULL, all);
	assert_memory_equal(all, then_a, SIZE);
	lay_over(&kb, NULL, all);
	assert_memory_equal(all, then_b, SIZE);
	churn_compare(ch, slot);
	churn_free(ch);
	blk_close(slot);
	free(then_a);
	free(then_b);
	free(all);
}

/* Only what is overwritten is saved, until it is enough. */
static void fleecing(void **state)
{
	struct blk_node *slot = slot_on(mem(SIZE));
	struct blk_job *j = NULL;
	struct watch w;
	struct blk_job_opts o = watched(&w);
	struct blk_job_info i;
	uint8_t *then, *all = malloc(SIZE), *now;
	struct churn *ch;
	struct kept k;
	struct err e = { 0 };

	srandom(23);
	fill(slot);
	ch = churn_new(loop, slot, SIZE);
	assert_int_equal(blk_backup_start(slot, keep(&k), BLK_SYNC_NONE, NULL, &o, &j, &e), 0);
	then = moment(ch);
	churn_run(ch, 20);
	churn_rest(ch);
	blk_job_info(j, &i);
	assert_in_range(i.done, 65536, SIZE - 1);
	blk_job_cancel(j);
	until(ch, &w.ended);
	assert_int_equal(ended_with(j), 0);
	lay_over(&k, NULL, all);
	now = ch->model;
	for (unsigned s = 0; s < SIZE; s += 65536)
		if (memcmp(now + s, then + s, 65536) != 0 && memcmp(all + s, then + s, 65536) != 0 && i.done)
			assert_true(memcmp(all + s, (uint8_t[65536]){ 0 }, 65536) == 0);
	churn_free(ch);
	blk_close(slot);
	free(then);
	free(all);
}

/* ---- commit ---- */

/* base <- one <- two <- top, each with something of its own. */
static struct blk_node *chain(struct blk_node **base, struct blk_node **one, struct blk_node **two)
{
	struct blk_node *top;
	uint8_t *buf = malloc(300000 / 512 * 512);

	*base = qcow2(NULL, SIZE / 2, NULL);
	memset(buf, 1, 299520);
	assert_int_equal(blk_pwrite(*base, 0, buf, 299520), 0);
	*one = qcow2(*base, SIZE / 2, NULL);
	memset(buf, 2, 299520);
	assert_int_equal(blk_pwrite(*one, 150016, buf, 299520), 0);
	assert_int_equal(blk_pwrite_zeroes(*one, 0, 65536, true), 0);
	*two = qcow2(*one, SIZE, NULL);
	memset(buf, 3, 299520);
	assert_int_equal(blk_pwrite(*two, 1 << 20, buf, 299520), 0);
	assert_int_equal(blk_pwrite(*two, SIZE - 299520, buf, 299520), 0);
	top = qcow2(*two, SIZE, NULL);
	memset(buf, 4, 299520);
	assert_int_equal(blk_pwrite(top, 2 << 20, buf, 299520), 0);
	free(buf);
	return top;
}

static void commit_of_the_active_layer(void **state)
{
	for (unsigned seed = 0; seed < 9; seed++) {
		unsigned depth = 1 + seed % 3;
		struct blk_node *base, *one, *two, *slot = slot_on(chain(&base, &one, &two));
		struct blk_node *into = depth == 1 ? two : depth == 2 ? one : base, *other;
		struct blk_job *j = NULL;
		struct watch w;
		struct blk_job_opts o;
		struct churn *ch;
		struct err e = { 0 };

		srandom(seed);
		ch = churn_new(loop, slot, SIZE);
		o = watched(&w);
		if (blk_commit_start(slot, 0, depth, &o, &j, &e))
			fail_msg("%s", e.msg);
		other = qcow2(NULL, SIZE, NULL);
		assert_int_equal(blk_snapshot_attach(slot, other, &e), -EBUSY);
		blk_close(other);
		until(ch, &w.ready);
		churn_run(ch, 300);
		assert_int_equal(blk_job_complete(j, true, &e), 0);
		until(ch, &w.ended);
		assert_int_equal(ended_with(j), 0);
		assert_ptr_equal(*blk_slot_image(slot), into);
		assert_false(slot->i.read_only);
		churn_run(ch, 200);
		churn_compare(ch, slot);
		churn_free(ch);
		blk_close(slot);
	}
}

static void commit_of_lower_layers(void **state)
{
	static const struct { unsigned top, base; } cases[] = { { 1, 2 }, { 1, 3 }, { 2, 3 } };

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct blk_node *base, *one, *two, *top = chain(&base, &one, &two), *slot = slot_on(top), *n;
		struct blk_node *into = cases[i].base == 2 ? one : base;
		unsigned left = 0;
		struct blk_job *j = NULL;
		struct watch w;
		struct blk_job_opts o;
		struct churn *ch;
		struct err e = { 0 };

		srandom(i);
		ch = churn_new(loop, slot, SIZE);
		o = watched(&w);
		if (blk_commit_start(slot, cases[i].top, cases[i].base, &o, &j, &e))
			fail_msg("%s", e.msg);
		assert_int_equal(blk_job_complete(j, true, &e), -EBUSY);
		until(ch, &w.ended);
		assert_int_equal(ended_with(j), 0);
		for (n = top; n != into; n = n->backing)
			left++;
		assert_int_equal(left, cases[i].top);
		assert_true(into->i.read_only);
		churn_run(ch, 100);
		churn_compare(ch, slot);
		churn_free(ch);
		blk_close(slot);
	}
}

static void commits_fail(void **state)
{
	for (unsigned i = 0; i < 8; i++) {
		struct blk_node *base, *one, *two, *slot = slot_on(chain(&base, &one, &two));
		struct blk_job *j = NULL;
		struct watch w;
		struct blk_job_opts o;
		struct churn *ch;
		struct err e = { 0 };

		srandom(i);
		ch = churn_new(loop, slot, SIZE);
		o = watched(&w);
		assert_int_equal(blk_fault_add(base->file, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .nth = i * 2 + 1,
										.once = true, .error = ENOSPC }), 0);
		if (blk_commit_start(slot, i & 1, 3, &o, &j, &e)) {
			/* Making base longer failed already. */
			assert_true(base->i.read_only);
		} else {
			for (unsigned k = 0; !w.ended && !w.ready && k < 100000; k++)
				churn_turn(ch);
			if (w.ready)
				blk_job_cancel(j);
			until(ch, &w.ended);
			assert_int_not_equal(ended_with(j), 1);
		}
		churn_run(ch, 50);
		churn_compare(ch, slot);
		churn_free(ch);
		blk_close(slot);
	}
}

/* ---- snapshots and reopening, with files and their locks ---- */

static int try_open(const char *path, bool read_only, struct err *e)
{
	const struct blk_open_opts o = { .read_only = read_only };
	struct blk_node *n = NULL;
	int ret = blk_open_file(loop, path, &o, &n, e);

	if (!ret)
		blk_close(n);
	return ret;
}

static void snapshots_in_files(void **state)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_FOLDER };
	char dir[] = "./block-job-XXXXXX", path[5][80], again[80];
	struct blk_node *image = NULL, *slot;
	struct blk_job *j = NULL;
	struct watch w;
	struct blk_job_opts o;
	uint8_t *then[5];
	struct churn *ch;
	struct err e = { 0 };

	srandom(31);
	assert_non_null(mkdtemp(dir));
	snprintf(path[0], sizeof(path[0]), "%s/disk.raw", dir);
	assert_int_equal(blk_create_file(path[0], false, &e), 0);
	assert_int_equal(truncate(path[0], SIZE), 0);
	assert_int_equal(blk_open_image(loop, path[0], &io, &image, &e), 0);
	slot = slot_on(image);
	ch = churn_new(loop, slot, SIZE);
	for (unsigned i = 1; i < 5; i++) {
		churn_run(ch, 60);
		assert_int_equal(try_open(path[i - 1], true, &e), -EBUSY);
		snprintf(path[i], sizeof(path[i]), "%s/over%u.qcow2", dir, i);
		if (blk_snapshot_file(slot, path[i], &e))
			fail_msg("%s", e.msg);
		then[i] = moment(ch);
		assert_int_equal(blk_snapshot_file(slot, path[i], &e), -EEXIST);
		/* What was the disk may be read by others now, and not written. */
		assert_int_equal(try_open(path[i - 1], true, &e), 0);
		assert_int_equal(try_open(path[i - 1], false, &e), -EBUSY);
	}
	churn_run(ch, 60);
	churn_compare(ch, slot);
	/* The two in the middle go into the one below, whose lock is a writer's meanwhile, then the last into that. */
	o = watched(&w);
	if (blk_commit_start(slot, 1, 3, &o, &j, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(try_open(path[1], true, &e), -EBUSY);
	until(ch, &w.ended);
	assert_int_equal(ended_with(j), 0);
	assert_int_equal(try_open(path[1], true, &e), 0);
	assert_int_equal(try_open(path[2], false, &e), 0);
	churn_compare(ch, slot);
	blk_close(slot);
	/* As somebody finds it later: the names in the files are right. */
	snprintf(again, sizeof(again), "%s", path[4]);
	assert_int_equal(blk_open_image(loop, again, &io, &image, &e), 0);
	churn_compare(ch, image);
	assert_string_equal(image->backing->path, path[1]);
	slot = slot_on(image);
	ch->n = slot;
	o = watched(&w);
	assert_int_equal(blk_commit_start(slot, 0, 1, &o, &j, &e), 0);
	until(ch, &w.ready);
	assert_int_equal(blk_job_complete(j, true, &e), 0);
	until(ch, &w.ended);
	assert_int_equal(ended_with(j), 0);
	assert_int_equal(try_open(path[1], true, &e), -EBUSY);
	churn_run(ch, 50);
	churn_compare(ch, slot);
	blk_close(slot);
	assert_int_equal(blk_open_image(loop, path[1], &io, &image, &e), 0);
	churn_compare(ch, image);
	blk_close(image);
	/* And the first one is as it was when the first snapshot was made. */
	assert_int_equal(blk_open_image(loop, path[0], &io, &image, &e), 0);
	memcpy(ch->model, then[1], SIZE);
	churn_compare(ch, image);
	blk_close(image);
	churn_free(ch);
	for (unsigned i = 1; i < 5; i++)
		free(then[i]);
	for (unsigned i = 0; i < 5; i++)
		unlink(path[i]);
	rmdir(dir);
}

/* Somebody else reads the old image when the commit wants to write it. */
static void locks_are_kept(void **state)
{
	const struct blk_image_opts io = { .trust = BLK_TRUST_FOLDER };
	const struct blk_open_opts ro = { .read_only = true };
	const struct blk_reopen how[] = {
		{ .read_only = true }, { .read_only = false }, { .set_cache = true, .cache = BLK_CACHE_WRITETHROUGH },
		{ .set_cache = true, .cache = BLK_CACHE_UNSAFE }, { .set_cache = true, .cache = BLK_CACHE_WRITEBACK },
		{ .read_only = true, .set_cache = true, .cache = BLK_CACHE_WRITETHROUGH }, { 0 },
	};
	char path[64];
	struct blk_node *n = NULL, *other = NULL, *slot;
	struct churn *ch;
	uint8_t buf[512] = { 1 };
	struct err e = { 0 };

	srandom(41);
	temp_file(path, sizeof(path), SIZE);
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), 0);
	slot = slot_on(n);
	ch = churn_new(loop, slot, SIZE);
	for (unsigned i = 0; i < ARRAY_LEN(how); i++) {
		ch->may_fail = how[i].read_only;
		if (blk_reopen(slot, &how[i], &e))
			fail_msg("%s", e.msg);
		assert_int_equal(slot->i.read_only, how[i].read_only);
		assert_int_equal(blk_pwrite(slot, SIZE - 512, buf, 512), how[i].read_only ? -EROFS : 0);
		memcpy(ch->model + SIZE - 512, buf, 512);
		assert_int_equal(try_open(path, true, &e), how[i].read_only ? 0 : -EBUSY);
		assert_int_equal(try_open(path, false, &e), -EBUSY);
		if (!how[i].read_only)
			churn_run(ch, 50);
		churn_rest(ch);
	}
	churn_compare(ch, slot);
	assert_int_equal(blk_reopen(slot, &how[0], &e), 0);
	assert_int_equal(blk_open_file(loop, path, &ro, &other, &e), 0);
	assert_int_equal(blk_reopen(slot, &how[1], &e), -EBUSY);
	assert_true(slot->i.read_only);
	assert_int_equal(blk_pread(slot, 0, buf, 512), 0);
	assert_int_equal(try_open(path, false, &e), -EBUSY);
	assert_int_equal(try_open(path, true, &e), 0);
	blk_close(other);
	assert_int_equal(blk_reopen(slot, &how[1], &e), 0);
	assert_int_equal(try_open(path, true, &e), -EBUSY);
	churn_free(ch);
	blk_close(slot);
	assert_int_equal(try_open(path, false, &e), 0);
	unlink(path);
}

/* ---- bitmaps ---- */

static void bitmaps(void **state)
{
	const uint64_t size = 1000 * 512;
	struct blk_dirty *d = blk_dirty_new(size, 4096), *c, *fine = blk_dirty_new(size, 512);
	bool model[125] = { false };
	uint64_t off, len, bytes;

	assert_null(blk_dirty_new(0, 0));
	assert_null(blk_dirty_new(size, 1000));
	assert_null(blk_dirty_new(size, 256));
	srandom(51);
	for (unsigned round = 0; round < 3000; round++) {
		uint64_t from = (uint64_t)(random() % 1000) * 512, most = (uint64_t)(random() % 200 + 1) * 512;
		uint64_t n = MIN(most, size - from), a = from / 4096, b = (from + n + 4095) / 4096, at = 0;

		if (round % 3) {
			blk_dirty_clear(d, from, n);
			a = (from + 4095) / 4096;
			b = from + n >= size ? 125 : (from + n) / 4096;
		} else {
			blk_dirty_set(d, from, n);
		}
		for (uint64_t i = a; i < b; i++)
			model[i] = round % 3 == 0;
		bytes = 0;
		for (unsigned i = 0; i < 125; i++) {
			assert_int_equal(blk_dirty_test(d, i * 4096, 512), model[i]);
			bytes += model[i] ? 4096 : 0;
		}
		assert_int_equal(blk_dirty_bytes(d), bytes);
		while (at < size && blk_dirty_next(d, at, size, &off, &len)) {
			for (; at < off; at += 4096)
				assert_false(model[at / 4096]);
			for (; at < off + len; at += 4096)
				assert_true(model[at / 4096]);
		}
		for (; at < size; at += 4096)
			assert_false(model[at / 4096]);
	}
	c = blk_dirty_copy(d);
	assert_int_equal(blk_dirty_bytes(c), blk_dirty_bytes(d));
	blk_dirty_set(fine, 512, 512);
	blk_dirty_set(fine, size - 512, 512);
	blk_dirty_merge(c, fine);
	assert_true(blk_dirty_test(c, 0, 4096) && blk_dirty_test(c, size - 512, 512));
	assert_int_equal(blk_dirty_resize(c, 2 * size), 0);
	assert_false(blk_dirty_test(c, size + 4096, size - 4096));
	blk_dirty_set(c, 0, 2 * size);
	assert_int_equal(blk_dirty_resize(c, 4096), 0);
	assert_int_equal(blk_dirty_bytes(c), 4096);
	assert_int_equal(blk_dirty_resize(c, size), 0);
	assert_int_equal(blk_dirty_bytes(c), 4096);
	blk_dirty_free(c);
	blk_dirty_free(d);
	blk_dirty_free(fine);
}

static int setup(void **state)
{
	return loop_new(&loop);
}

static int teardown(void **state)
{
	loop_free(loop);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bitmaps),
		cmocka_unit_test(mirror_switches),
		cmocka_unit_test(mirror_keeps),
		cmocka_unit_test(mirror_of_the_top),
		cmocka_unit_test(mirror_fails),
		cmocka_unit_test(mirror_fails_when_ready),
		cmocka_unit_test(jobs_are_cancelled),
		cmocka_unit_test(rate_is_kept),
		cmocka_unit_test(bad_starts),
		cmocka_unit_test(backups_are_of_a_moment),
		cmocka_unit_test(failed_increments),
		cmocka_unit_test(jobs_beside_each_other),
		cmocka_unit_test(fleecing),
		cmocka_unit_test(commit_of_the_active_layer),
		cmocka_unit_test(commit_of_lower_layers),
		cmocka_unit_test(commits_fail),
		cmocka_unit_test(snapshots_in_files),
		cmocka_unit_test(locks_are_kept),
	};

	return cmocka_run_group_tests_name("block-job", tests, setup, teardown);
}
