/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Backups by a bitmap that the image keeps: what is refused, one that does not
 * record, and images that go away under the backup (tests/block/increment.c has
 * the random scripts).
 */
#include "block_test.h"

#include "block/filter.h"
#include "block/image.h"
#include "block/job.h"
#include "block/qcow2/bitmap.h"
#include "block/qcow2/internal.h"
#include "block/qcow2/qcow2.h"

#define SIZE (1u << 20)
#define UNIT 65536u

static struct loop *loop;

static struct blk_node *mem(void)
{
	struct blk_node *n = NULL;

	assert_int_equal(blk_open_mem(loop, SIZE, &n), 0);
	return n;
}

static struct blk_node *new_file(void)
{
	const struct qcow2_create_opts co = { .size = SIZE };
	struct blk_node *file = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_open_mem_file(loop, 16 << 20, &file), 0);
	assert_int_equal(qcow2_create(file, &co, &e), 0);
	return file;
}

static struct blk_node *open_on(struct blk_node *file)
{
	const struct blk_image_opts io = { .no_backing = true };
	struct blk_node *n = NULL;
	struct err e = { 0 };

	if (qcow2_open(file, &io, 0, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

static struct blk_node *slot_on(struct blk_node *n)
{
	struct blk_node *slot = NULL;

	assert_int_equal(blk_slot_new(n, &slot), 0);
	return slot;
}

static void put(struct blk_node *n, uint64_t off)
{
	static uint8_t buf[512];

	memset(buf, 0x5a, sizeof(buf));
	assert_int_equal(blk_buf(loop, n, BLK_WRITE, off, buf, sizeof(buf)), 0);
}

/* Bytes the bitmap calls changed. */
static uint64_t changed(struct blk_node *n)
{
	uint64_t sum = 0, off = 0, at, len, count = 0;
	struct err e = { 0 };

	do {
		if (qcow2_bitmap_next(n, "map", off, &at, &len, &e))
			fail_msg("%s", e.msg);
		sum += len;
		off = at + len;
	} while (len);
	assert_int_equal(qcow2_bitmap_count(n, "map", &count, &e), 0);
	assert_int_equal(count, sum);
	return sum;
}

static void on_event(void *opaque, struct blk_job *j, enum blk_job_event ev)
{
	*(bool *)opaque = ev == BLK_JOB_ENDED;
}

static int end_of(struct blk_job *j, const bool *ended)
{
	struct blk_job_info i;

	for (unsigned k = 0; !*ended && k < 10000; k++)
		assert_int_equal(loop_turn(loop, 10), 0);
	assert_true(*ended);
	blk_job_info(j, &i);
	blk_job_free(j);
	return i.ret;
}

static void what_is_refused(void **state)
{
	struct blk_node *n = open_on(new_file()), *slot = slot_on(n), *raw = slot_on(mem()), *target = mem();
	struct blk_job *j = NULL;
	struct err e = { 0 };

	assert_int_equal(blk_backup_start_persistent(slot, target, BLK_SYNC_DIRTY, "none", NULL, &j, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "has no bitmap 'none'"));
	assert_int_equal(blk_backup_start_persistent(raw, target, BLK_SYNC_DIRTY, "map", NULL, &j, &e), -ENOTSUP);
	assert_int_equal(qcow2_bitmap_add(n, "map", UNIT, true, &e), 0);
	n->i.read_only = true;
	assert_int_equal(blk_backup_start_persistent(slot, target, BLK_SYNC_DIRTY, "map", NULL, &j, &e), -EROFS);
	n->i.read_only = false;
	assert_int_equal(changed(n), 0);
	blk_close(slot);
	blk_close(raw);
	blk_close(target);
}

/* The file as it is, opened as if after sudden death. */
static struct blk_node *as_on_disk(struct blk_node *file)
{
	struct blk_node *copy = NULL;

	assert_int_equal(blk_open_mem_file(loop, 16 << 20, &copy), 0);
	assert_int_equal(blk_extend(copy, file->i.size), 0);
	memcpy(blk_mem_data(copy), blk_mem_data(file), file->i.size);
	return open_on(copy);
}

/* One that does not record is cleared on disk when the backup has succeeded, and not before. */
static void not_recording(void **state)
{
	for (unsigned fails = 0; fails < 2; fails++) {
		struct blk_node *file = new_file(), *n = open_on(file), *slot = slot_on(n), *target = mem(), *dead;
		bool ended = false;
		const struct blk_job_opts o = { .event = on_event, .opaque = &ended };
		struct blk_job *j = NULL;
		struct err e = { 0 };

		assert_int_equal(qcow2_bitmap_add(n, "map", UNIT, true, &e), 0);
		put(slot, 3 * UNIT);
		put(slot, 9 * UNIT);
		assert_int_equal(qcow2_bitmap_record(n, "map", false, &e), 0);
		if (fails) {
			assert_int_equal(blk_fault_new(target, &target), 0);
			assert_int_equal(blk_fault_add(target, &(struct blk_fault){ .ops = BIT(BLK_WRITE), .error = EIO }), 0);
		}
		assert_int_equal(blk_backup_start_persistent(slot, target, BLK_SYNC_DIRTY, "map", &o, &j, &e), 0);
		put(slot, 12 * UNIT);
		dead = as_on_disk(file);
		assert_int_equal(changed(dead), 2 * UNIT);
		blk_close(dead);
		assert_int_equal(end_of(j, &ended), fails ? -EIO : 0);
		assert_int_equal(changed(n), fails ? 2 * UNIT : 0);
		dead = as_on_disk(file);
		assert_int_equal(changed(dead), fails ? 2 * UNIT : 0);
		blk_close(dead);
		blk_close(slot);
	}
}

/* A snapshot makes the image read-only under the backup: its bitmap has old and new then, and keeps both. */
static void image_becomes_a_backing_file(void **state)
{
	struct blk_node *file = new_file(), *n = open_on(file), *over = open_on(new_file()), *slot = slot_on(n);
	bool ended = false;
	const struct blk_job_opts o = { .event = on_event, .opaque = &ended, .rate = 1 << 18, .in_flight = 1 };
	struct qcow2_bitmap *b;
	struct blk_job *j = NULL;
	struct err e = { 0 };
	unsigned count;

	assert_int_equal(qcow2_bitmap_add(n, "map", UNIT, true, &e), 0);
	/* Not one piece, which would be copied at once. */
	for (unsigned i = 0; i < 8; i++)
		put(slot, 2 * i * UNIT);
	assert_int_equal(blk_backup_start_persistent(slot, mem(), BLK_SYNC_DIRTY, "map", &o, &j, &e), 0);
	put(slot, 13 * UNIT);
	assert_int_equal(qcow2_bitmap_list(n, &b, &count, &e), 0);
	assert_true(count == 1 && b->busy && b->recording && !b->inconsistent);
	qcow2_bitmaps_free(b, count);
	if (blk_snapshot_attach(slot, over, &e))
		fail_msg("%s", e.msg);
	blk_job_set_rate(j, 0);
	assert_int_equal(end_of(j, &ended), 0);
	assert_true(n->i.read_only);
	assert_int_equal(qcow2_bitmap_list(n, &b, &count, &e), 0);
	assert_true(count == 1 && !b->busy && !b->in_use);
	qcow2_bitmaps_free(b, count);
	assert_int_equal(changed(n), 9 * UNIT);
	blk_close(slot);
}

/* A mirror closes it, and the end of the backup finds no such image any more. */
static void image_is_closed(void **state)
{
	struct blk_node *file = new_file(), *n = open_on(file), *slot = slot_on(n);
	bool ended = false, ready = false;
	const struct blk_job_opts o = { .event = on_event, .opaque = &ended, .rate = 1 << 18, .in_flight = 1 };
	const struct blk_job_opts om = { .event = on_event, .opaque = &ready };
	struct blk_job *j = NULL, *m = NULL;
	struct blk_job_info i;
	struct err e = { 0 };

	assert_int_equal(qcow2_bitmap_add(n, "map", UNIT, true, &e), 0);
	for (unsigned k = 0; k < 16; k += 2)
		put(slot, k * UNIT);
	assert_int_equal(blk_backup_start_persistent(slot, mem(), BLK_SYNC_DIRTY, "map", &o, &j, &e), 0);
	assert_int_equal(blk_mirror_start(slot, mem(), BLK_SYNC_FULL, &om, &m, &e), 0);
	do {
		assert_int_equal(loop_turn(loop, 10), 0);
		blk_job_info(m, &i);
	} while (!i.ready);
	assert_int_equal(blk_job_complete(m, true, &e), 0);
	assert_int_equal(end_of(m, &ready), 0);
	assert_ptr_not_equal(*blk_slot_image(slot), n);
	assert_false(ended);
	blk_job_set_rate(j, 0);
	assert_int_equal(end_of(j, &ended), 0);
	blk_close(slot);
}

static int start_loop(void **state)
{
	return loop_new(&loop);
}

static int stop_loop(void **state)
{
	loop_free(loop);
	return 0;
}

/* The last bit of an odd size stands for what there is. */
static void odd_size(void **state)
{
	const struct qcow2_create_opts co = { .size = SIZE + 1536 };
	struct blk_node *file = NULL, *n;
	struct err e = { 0 };

	assert_int_equal(blk_open_mem_file(loop, 16 << 20, &file), 0);
	assert_int_equal(qcow2_create(file, &co, &e), 0);
	n = open_on(file);
	assert_int_equal(qcow2_bitmap_add(n, "map", UNIT, true, &e), 0);
	assert_int_equal(changed(n), 0);
	put(n, 0);
	assert_int_equal(changed(n), UNIT);
	put(n, SIZE + 512);
	assert_int_equal(changed(n), UNIT + 1536);
	blk_close(n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_refused),
		cmocka_unit_test(not_recording),
		cmocka_unit_test(image_becomes_a_backing_file),
		cmocka_unit_test(image_is_closed),
		cmocka_unit_test(odd_size),
	};

	return cmocka_run_group_tests_name("block-bitmap-live", tests, start_loop, stop_loop);
}
