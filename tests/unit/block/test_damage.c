/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Damage that is found while an image is in use: nothing is written any more, the
 * header says so to everybody else, and a repair ends it.
 */
#include "block_test.h"

#include "block/image.h"
#include "block/qcow2/qcow2.h"

#define CLUSTER 65536u
#define DISK (1u << 20)
#define CORRUPT 2

static struct loop *loop;

static uint64_t be64(const uint8_t *p)
{
	uint64_t v = 0;

	for (int i = 0; i < 8; i++)
		v = v << 8 | p[i];
	return v;
}

static void put64(uint8_t *p, uint64_t v)
{
	for (int i = 7; i >= 0; i--, v >>= 8)
		p[i] = (uint8_t)v;
}

static struct blk_node *file_of(const char *path)
{
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *file;
	struct err e = { 0 };

	assert_int_equal(blk_open_file(loop, path, &fo, &file, &e), 0);
	return file;
}

static int open_with(const char *path, bool read_only, bool repair, struct blk_node **n)
{
	const struct blk_image_opts o = { .format = "qcow2", .repair = repair, .file = { .read_only = read_only } };
	struct err e = { 0 };

	return blk_open_image(loop, path, &o, n, &e);
}

/* An image with data in the first eight clusters. */
static void make(char *path, size_t room, unsigned version)
{
	const struct qcow2_create_opts o = { .size = DISK, .version = version };
	static uint8_t data[8 * CLUSTER];
	struct blk_node *file, *n;
	struct err e = { 0 };

	temp_path(path, room);
	file = file_of(path);
	assert_int_equal(qcow2_create(file, &o, &e), 0);
	blk_close(file);
	assert_int_equal(open_with(path, false, false, &n), 0);
	memset(data, 0x5a, sizeof(data));
	assert_int_equal(blk_pwrite(n, 0, data, sizeof(data)), 0);
	blk_close(n);
}

static void peek(const char *path, uint64_t off, uint8_t *p, size_t len)
{
	int fd = open(path, O_RDONLY);

	assert_int_equal(pread(fd, p, len, (off_t)off), len);
	close(fd);
}

static void poke64(const char *path, uint64_t off, uint64_t v)
{
	int fd = open(path, O_WRONLY);
	uint8_t b[8];

	put64(b, v);
	assert_int_equal(pwrite(fd, b, 8, (off_t)off), 8);
	close(fd);
}

static uint64_t l2_of(const char *path)
{
	uint8_t h[48], e[8];

	peek(path, 0, h, sizeof(h));
	peek(path, be64(h + 40), e, 8);
	return be64(e) & 0x00fffffffffffe00ull;
}

static bool marked(const char *path)
{
	uint8_t h[80];

	peek(path, 0, h, sizeof(h));
	return be64(h + 72) & CORRUPT;
}

enum how { BY_READING, BY_WRITING, BY_DISCARDING };

/* An L2 entry that points into the middle of a cluster. */
static void found(enum how how)
{
	struct blk_node *n;
	uint8_t b[4096] = { 1 };
	char path[64];

	make(path, sizeof(path), 3);
	poke64(path, l2_of(path) + 8 * 3, 0x8000000000050200ull);
	assert_int_equal(open_with(path, false, false, &n), 0);
	assert_false(marked(path));
	assert_int_equal(blk_pwrite(n, 0, b, sizeof(b)), 0);
	if (how == BY_READING)
		assert_int_equal(blk_pread(n, 3 * CLUSTER, b, sizeof(b)), -EIO);
	else if (how == BY_WRITING)
		assert_int_equal(blk_pwrite(n, 3 * CLUSTER, b, sizeof(b)), -EIO);
	else
		assert_int_equal(blk_pdiscard(n, 3 * CLUSTER, CLUSTER), -EIO);
	blk_drain(n);
	assert_true(marked(path));
	/* What is sound can be read; nothing is written. */
	assert_int_equal(blk_pread(n, 4 * CLUSTER, b, sizeof(b)), 0);
	assert_int_equal(b[0], 0x5a);
	assert_int_equal(blk_pwrite(n, 12 * CLUSTER, b, sizeof(b)), -EIO);
	assert_int_equal(blk_pwrite(n, 0, b, sizeof(b)), -EIO);
	assert_int_equal(blk_pwrite_zeroes(n, 0, CLUSTER, true), -EIO);
	assert_int_equal(blk_pdiscard(n, 0, CLUSTER), -EIO);
	blk_close(n);
	assert_true(marked(path));
	assert_int_equal(open_with(path, false, false, &n), -EIO);
	assert_int_equal(open_with(path, true, false, &n), 0);
	assert_int_equal(blk_pread(n, 0, b, sizeof(b)), 0);
	assert_int_equal(b[0], 1);
	blk_close(n);
	unlink(path);
}

static void found_by_reading(void **state) { found(BY_READING); }
static void found_by_writing(void **state) { found(BY_WRITING); }
static void found_by_discarding(void **state) { found(BY_DISCARDING); }

/* A cluster in use whose refcount is 0: found when it is to be given back; repaired, and writable again. */
static void repaired(void **state)
{
	struct qcow2_check res = { 0 };
	struct blk_node *n;
	uint8_t h[64], e[8], b[4096] = { 7 };
	struct err err = { 0 };
	uint64_t block;
	char path[64];

	make(path, sizeof(path), 3);
	peek(path, 0, h, sizeof(h));
	peek(path, be64(h + 48), e, 8);
	block = be64(e);
	peek(path, l2_of(path) + 8 * 2, e, 8);
	/* Four 16-bit counts in a word. */
	poke64(path, block + (be64(e) & 0x00fffffffffffe00ull) / CLUSTER / 4 * 8, 0);
	assert_int_equal(open_with(path, false, false, &n), 0);
	blk_pdiscard(n, 2 * CLUSTER, CLUSTER);
	assert_int_equal(blk_flush(n), -EIO);
	blk_close(n);
	assert_true(marked(path));
	assert_int_equal(open_with(path, false, false, &n), -EIO);
	assert_int_equal(open_with(path, false, true, &n), 0);
	if (qcow2_check(n, QCOW2_FIX_ERRORS | QCOW2_FIX_LEAKS, &res, &err))
		fail_msg("%s", err.msg);
	assert_int_equal(res.corruptions, res.corruptions_fixed);
	blk_close(n);
	assert_false(marked(path));
	assert_int_equal(open_with(path, false, false, &n), 0);
	assert_int_equal(blk_pwrite(n, 2 * CLUSTER, b, sizeof(b)), 0);
	memset(&res, 0, sizeof(res));
	assert_int_equal(qcow2_check(n, 0, &res, &err), 0);
	assert_int_equal(res.corruptions + res.leaks + res.check_errors, 0);
	blk_close(n);
	unlink(path);
}

/* Version 2 has no mark, and what is open read-only gets none. */
static void not_marked(void **state)
{
	struct blk_node *n;
	uint8_t b[4096], before[512], after[512];
	char path[64];

	make(path, sizeof(path), 2);
	poke64(path, l2_of(path) + 8 * 3, 0x8000000000050200ull);
	peek(path, 0, before, sizeof(before));
	assert_int_equal(open_with(path, false, false, &n), 0);
	assert_int_equal(blk_pread(n, 3 * CLUSTER, b, sizeof(b)), -EIO);
	assert_int_equal(blk_pwrite(n, 0, b, sizeof(b)), -EIO);
	blk_close(n);
	peek(path, 0, after, sizeof(after));
	assert_memory_equal(before, after, sizeof(before));
	unlink(path);
	make(path, sizeof(path), 3);
	poke64(path, l2_of(path) + 8 * 3, 0x8000000000050200ull);
	assert_int_equal(open_with(path, true, false, &n), 0);
	assert_int_equal(blk_pread(n, 3 * CLUSTER, b, sizeof(b)), -EIO);
	blk_close(n);
	assert_false(marked(path));
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(found_by_reading),
		cmocka_unit_test(found_by_writing),
		cmocka_unit_test(found_by_discarding),
		cmocka_unit_test(repaired),
		cmocka_unit_test(not_marked),
	};
	int ret;

	if (loop_new(&loop))
		return 2;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	loop_free(loop);
	return ret;
}
