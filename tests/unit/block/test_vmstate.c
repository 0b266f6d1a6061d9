/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promise: a VM's state behind a disk's end belongs to its snapshot, whole, whatever becomes of the disk: backing files,
 * sizes, other snapshots; the disk never shows it; and what is refused leaves the image as it was.
 */
#include "block_test.h"

#include "block/image.h"
#include "block/qcow2/qcow2.h"

#define SIZE (1u << 20)
#define STATE ((2u << 20) + 70000u)

static struct blk_node *make(struct loop *l, const char *path, const char *backing, unsigned version)
{
	const struct qcow2_create_opts o = { .size = SIZE, .version = version, .cluster_size = 4096, .backing = backing, .backing_format = backing ? "raw" : NULL };
	const struct blk_open_opts raw = { .open_ended = true };
	const struct blk_image_opts io = { .format = "qcow2", .trust = BLK_TRUST_ALL };
	struct blk_node *n;
	struct err e;

	assert_int_equal(blk_open_file(l, path, &raw, &n, &e), 0);
	assert_int_equal(qcow2_create(n, &o, &e), 0);
	blk_close(n);
	assert_int_equal(blk_open_image(l, path, &io, &n, &e), 0);
	return n;
}

static uint8_t *bytes(unsigned seed, size_t len)
{
	uint8_t *p = aligned_alloc(4096, align_up(len, 4096));

	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 2654435761u + seed * 97) >> 7);
	return p;
}

static void put_state(struct blk_node *n, unsigned seed)
{
	uint8_t *p = bytes(seed, STATE);
	struct iovec v = { p, 2u << 20 }, w[2] = { { p + (2u << 20), 4096 }, { p + (2u << 20) + 4096, STATE - (2u << 20) - 4096 } };
	struct err e;

	assert_int_equal(qcow2_vmstate_begin(n, STATE, &e), 0);
	assert_int_equal(qcow2_vmstate_write(n, 0, &v, 1, 2u << 20), 0);
	assert_int_equal(qcow2_vmstate_write(n, 2u << 20, w, 2, STATE - (2u << 20)), 0);
	/* There is no room for more, and offsets are whole. */
	assert_int_equal(qcow2_vmstate_write(n, 1ull << 40, &v, 1, 2u << 20), -EINVAL);
	assert_int_equal(qcow2_vmstate_write(n, 4096, &v, 1, 4096), -EINVAL);
	free(p);
}

static void save(struct blk_node *n, const char *name, unsigned seed, char id[QCOW2_ID_LEN])
{
	const struct qcow2_vm vm = { .state_size = STATE, .clock_ns = 5000000001, .date_sec = 7, .date_nsec = seed };
	struct err e;

	put_state(n, seed);
	assert_int_equal(qcow2_snapshot_create_vm(n, name, &vm, id, &e), 0);
}

static void check_state(struct blk_node *n, const char *id, unsigned seed)
{
	uint8_t *want = bytes(seed, STATE), *got = aligned_alloc(4096, align_up(STATE, 4096));
	struct iovec v = { got, align_up(STATE, 4096) };
	struct qcow2_vmstate *s;
	struct err e;

	assert_int_equal(qcow2_vmstate_open(n, id, &s, &e), 0);
	assert_int_equal(qcow2_vmstate_read(s, 0, &v, 1, align_up(STATE, 4096)), 0);
	assert_memory_equal(want, got, STATE);
	for (size_t i = STATE; i < align_up(STATE, 4096); i++)
		assert_int_equal(got[i], 0);
	v.iov_len = 512;
	assert_int_equal(qcow2_vmstate_read(s, align_up(STATE, 4096), &v, 1, 512), -EINVAL);
	qcow2_vmstate_close(s);
	free(want);
	free(got);
}

static void check_image(struct blk_node *n)
{
	struct qcow2_check c = { 0 };
	struct err e;

	assert_int_equal(qcow2_check(n, 0, &c, &e), 0);
	assert_int_equal(c.corruptions + c.leaks + c.check_errors, 0);
}

static void check_zero(struct loop *l, struct blk_node *n, uint64_t from, uint64_t len)
{
	uint8_t *p = aligned_alloc(4096, len);

	assert_int_equal(blk_buf(l, n, BLK_READ, from, p, len), 0);
	for (uint64_t i = 0; i < len; i++)
		assert_int_equal(p[i], 0);
	free(p);
}

static void belongs_to_its_snapshot(void **state)
{
	char path[64], below[64], one[QCOW2_ID_LEN], two[QCOW2_ID_LEN];
	uint8_t *data = bytes(100, 8192);
	struct qcow2_snapshot *s;
	const struct qcow2_snapshot *known;
	struct blk_node *n;
	struct loop *l;
	struct err e;
	unsigned count;

	assert_int_equal(loop_new(&l), 0);
	temp_file(path, sizeof(path), 0);
	/* Longer than the disk, and not zero where the state will be. */
	temp_file(below, sizeof(below), 64 << 20);
	n = make(l, path, below, 3);
	assert_int_equal(blk_buf(l, n, BLK_WRITE, 0, data, 8192), 0);
	save(n, "a", 1, one);
	check_image(n);
	assert_int_equal(blk_buf(l, n, BLK_WRITE, 0, data + 4096, 4096), 0);
	save(n, "a", 2, two);
	assert_string_not_equal(one, two);
	check_state(n, one, 1);
	check_state(n, two, 2);
	assert_int_equal(qcow2_snapshot_list(n, &s, &count, &e), 0);
	assert_int_equal(count, 2);
	assert_int_equal(s[1].vm_state_size, STATE);
	assert_int_equal(s[1].vm_clock_ns, 5000000001);
	assert_int_equal(s[1].date_sec, 7);
	assert_int_equal(s[1].date_nsec, 2);
	assert_true(s[1].icount == UINT64_MAX);
	qcow2_snapshots_free(s, count);
	assert_int_equal(qcow2_snapshot_known(n, &known, &count), 0);
	assert_int_equal(count, 2);
	/* By id, though both have one name. */
	assert_int_equal(qcow2_snapshot_apply_id(n, one, &e), 0);
	assert_int_equal(qcow2_snapshot_delete_id(n, one, &e), 0);
	assert_int_equal(qcow2_snapshot_delete_id(n, one, &e), -ENOENT);
	assert_int_equal(qcow2_snapshot_known(n, &known, &count), 0);
	assert_int_equal(count, 1);
	check_state(n, two, 2);
	check_image(n);
	/* The disk of the first one, and no state of either. */
	{
		uint8_t got[4096];

		assert_int_equal(blk_buf(l, n, BLK_READ, 0, got, 4096), 0);
		assert_memory_equal(got, data, 4096);
	}
	blk_close(n);
	loop_free(l);
	unlink(path);
	unlink(below);
	free(data);
}

static void never_shows(void **state)
{
	char path[64], id[QCOW2_ID_LEN];
	struct blk_node *n;
	struct loop *l;
	struct err e;

	assert_int_equal(loop_new(&l), 0);
	temp_file(path, sizeof(path), 0);
	n = make(l, path, NULL, 3);
	save(n, "a", 1, id);
	/* One that was interrupted, and then the disk grows over it. */
	put_state(n, 3);
	check_image(n);
	assert_int_equal(blk_resize(n, 16 << 20, &e), 0);
	check_zero(l, n, SIZE, (16 << 20) - SIZE);
	check_image(n);
	check_state(n, id, 1);
	/* Applying brings the disk back, not the state. */
	assert_int_equal(qcow2_snapshot_apply_id(n, id, &e), 0);
	assert_int_equal(blk_resize(n, 16 << 20, &e), 0);
	check_zero(l, n, SIZE, (16 << 20) - SIZE);
	check_state(n, id, 1);
	/* Written and forgotten. */
	put_state(n, 4);
	assert_int_equal(qcow2_vmstate_drop(n), 0);
	check_image(n);
	put_state(n, 5);
	assert_int_equal(qcow2_snapshot_create(n, "b", &e), 0);
	assert_int_equal(qcow2_snapshot_delete(n, "a", &e), 0);
	assert_int_equal(qcow2_snapshot_delete(n, "b", &e), 0);
	check_image(n);
	blk_close(n);
	loop_free(l);
	unlink(path);
}

static void refused(void **state)
{
	char path[64], id[QCOW2_ID_LEN];
	struct qcow2_vmstate *v;
	struct blk_node *n;
	struct loop *l;
	struct err e;

	assert_int_equal(loop_new(&l), 0);
	temp_file(path, sizeof(path), 0);
	n = make(l, path, NULL, 2);
	save(n, "a", 1, id);
	check_state(n, id, 1);
	/* 4 KiB clusters: 2 MiB an L2 table, so the largest L1 table is good for 8 TiB. */
	assert_int_equal(qcow2_vmstate_begin(n, 1ull << 50, &e), -EFBIG);
	assert_int_equal(qcow2_vmstate_begin(n, UINT64_MAX, &e), -EFBIG);
	assert_int_equal(qcow2_vmstate_open(n, "99", &v, &e), -ENOENT);
	assert_int_equal(blk_reopen(n, &(struct blk_reopen){ .read_only = true }, &e), 0);
	assert_int_equal(qcow2_vmstate_begin(n, 4096, &e), -EROFS);
	assert_int_equal(qcow2_vmstate_drop(n), -EROFS);
	check_state(n, id, 1);
	check_image(n);
	blk_close(n);
	loop_free(l);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(belongs_to_its_snapshot),
		cmocka_unit_test(never_shows),
		cmocka_unit_test(refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
