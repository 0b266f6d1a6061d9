/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Raw files hold what was written, in every cache mode, through the ring and
 * through the threads; the host's failures come back as errors.
 */
#include "block_test.h"

#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "block/file.h"

#define SIZE (4u << 20)

static struct loop *loop;

static int group_setup(void **state)
{
	return loop_new(&loop);
}

static int group_teardown(void **state)
{
	loop_free(loop);
	return 0;
}

static int open_as(const char *path, enum blk_cache cache, enum blk_aio aio, struct blk_node **n)
{
	struct blk_open_opts o = { .cache = cache, .aio = aio };
	struct err e = { 0 };
	int ret = blk_open_file(loop, path, &o, n, &e);

	if (ret)
		print_message("%s\n", e.msg);
	return ret;
}

/* Random writes, zeroes, discards and reads against a model in memory; memory
 * and lengths are deliberately unaligned. */
static void model_run(struct blk_node *n, unsigned seed, unsigned rounds)
{
	uint8_t *model = calloc(1, SIZE), *buf = malloc(65536 + 64);

	srandom(seed);
	for (unsigned i = 0; i < rounds; i++) {
		size_t sectors = 1 + (size_t)random() % 96, len = sectors * 512;
		uint64_t off = (uint64_t)random() % (SIZE / 512 - sectors) * 512;
		size_t cut = 1 + (size_t)random() % (len - 1);
		uint8_t *p = buf + random() % 3;
		struct iovec v[2] = { { p, cut }, { p + cut, len - cut } };

		switch (random() % 5) {
		case 0:
		case 1:
			memset(p, (int)i, len);
			assert_int_equal(blk_do(loop, n, BLK_WRITE, off, len, v, 2), 0);
			memset(model + off, (int)i & 0xff, len);
			break;
		case 2:
			assert_int_equal(blk_do(loop, n, BLK_WRITE_ZEROES, off, len, NULL, 0), 0);
			memset(model + off, 0, len);
			break;
		case 3:
			assert_int_equal(blk_do(loop, n, BLK_FLUSH, 0, 0, NULL, 0), 0);
			break;
		default:
			assert_int_equal(blk_do(loop, n, BLK_READ, off, len, v, 2), 0);
			assert_memory_equal(p, model + off, len);
		}
	}
	for (uint64_t off = 0; off < SIZE; off += 65536) {
		assert_int_equal(blk_buf(loop, n, BLK_READ, off, buf, 65536), 0);
		assert_memory_equal(buf, model + off, 65536);
	}
	free(model);
	free(buf);
}

static void every_mode(void **state)
{
	static const enum blk_cache caches[] = { BLK_CACHE_WRITEBACK, BLK_CACHE_NONE, BLK_CACHE_WRITETHROUGH,
						 BLK_CACHE_UNSAFE };
	struct blk_node *n;
	char path[64];

	for (unsigned i = 0; i < 8; i++) {
		temp_file(path, sizeof(path), SIZE);
		if (open_as(path, caches[i / 2], i % 2 ? BLK_AIO_THREADS : BLK_AIO_AUTO, &n) == 0) {
			model_run(n, i + 1, caches[i / 2] == BLK_CACHE_WRITETHROUGH ? 40 : 200);
			blk_close(n);
		} else {
			/* tmpfs of older kernels */
			assert_int_equal(caches[i / 2], BLK_CACHE_NONE);
		}
		unlink(path);
	}
}

/* A host that can only do 4096-byte blocks: smaller writes next to each other,
 * all at once, do not undo one another, and the file keeps its size. */
static void read_modify_write(void **state)
{
	enum { N = 65 };
	struct blk_node *n;
	struct waited w[N] = { 0 };
	struct iovec v[N];
	uint8_t *data = malloc(N * 512), *back = malloc(N * 512);
	struct stat st;
	char path[64];

	temp_file(path, sizeof(path), N * 512);
	assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, BLK_AIO_AUTO, &n), 0);
	container_of(n, struct blk_file, n)->direct = true;
	container_of(n, struct blk_file, n)->mem_align = 512;
	n->i.request_align = 4096;
	for (unsigned i = 0; i < N; i++) {
		memset(data + i * 512, (int)i + 1, 512);
		v[i] = (struct iovec){ data + i * 512, 512 };
		w[i].r = (struct blk_req){ .op = BLK_WRITE, .offset = i * 512, .len = 512, .iov = &v[i], .niov = 1,
					   .done = waited_done, .opaque = &w[i] };
		blk_submit(n, &w[i].r);
	}
	blk_drain(n);
	for (unsigned i = 0; i < N; i++) {
		assert_true(w[i].done);
		assert_int_equal(w[i].ret, 0);
	}
	assert_int_equal(blk_buf(loop, n, BLK_READ, 0, back, N * 512), 0);
	assert_memory_equal(data, back, N * 512);
	blk_close(n);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, N * 512);
	unlink(path);
	free(data);
	free(back);
}

/* More requests at once than the ring has entries, more pieces than one call takes. */
static void many_at_once(void **state)
{
	enum { N = 1000, PIECES = 1500 };
	struct blk_node *n;
	struct waited *w = calloc(N, sizeof(*w));
	uint8_t *data = malloc(PIECES * 512), *back = calloc(PIECES, 512);
	struct iovec *v = calloc(PIECES, sizeof(*v));
	char path[64];

	for (unsigned mode = 0; mode < 2; mode++) {
		temp_file(path, sizeof(path), SIZE);
		assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, mode ? BLK_AIO_THREADS : BLK_AIO_AUTO, &n), 0);
		memset(w, 0, N * sizeof(*w));
		for (unsigned i = 0; i < PIECES; i++) {
			memset(data + i * 512, (int)(i + 1 + mode), 512);
			v[i] = (struct iovec){ data + i * 512, 512 };
		}
		for (unsigned i = 0; i < N; i++) {
			w[i].r = (struct blk_req){ .op = BLK_WRITE, .offset = i * 512, .len = 512, .iov = &v[i],
						   .niov = 1, .done = waited_done, .opaque = &w[i] };
			blk_submit(n, &w[i].r);
		}
		while (n->in_flight)
			assert_int_equal(loop_turn(loop, 5000), 0);
		for (unsigned i = 0; i < N; i++)
			assert_true(w[i].done && w[i].ret == 0);
		assert_int_equal(blk_buf(loop, n, BLK_READ, 0, back, N * 512), 0);
		assert_memory_equal(data, back, N * 512);
		assert_int_equal(blk_do(loop, n, BLK_WRITE, 512, PIECES * 512, v, PIECES), 0);
		assert_int_equal(blk_buf(loop, n, BLK_READ, 512, back, PIECES * 512), 0);
		assert_memory_equal(data, back, PIECES * 512);
		blk_close(n);
		unlink(path);
	}
	free(w);
	free(v);
	free(data);
	free(back);
}

/* Closing waits for what is in flight, and it is in the file. */
static void close_waits(void **state)
{
	struct blk_node *n;
	uint8_t *b = malloc(SIZE), *back = malloc(SIZE);
	struct iovec v = { b, SIZE };
	struct waited w = { .r = { .op = BLK_WRITE, .len = SIZE, .iov = &v, .niov = 1, .done = waited_done } };
	char path[64];
	int fd;

	w.r.opaque = &w;
	memset(b, 0x5a, SIZE);
	temp_file(path, sizeof(path), SIZE);
	assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, BLK_AIO_AUTO, &n), 0);
	blk_submit(n, &w.r);
	blk_close(n);
	assert_true(w.done);
	assert_int_equal(w.ret, 0);
	fd = open(path, O_RDONLY);
	assert_int_equal(read(fd, back, SIZE), SIZE);
	assert_memory_equal(b, back, SIZE);
	close(fd);
	unlink(path);
	free(b);
	free(back);
}

/* Discard and zeroing with unmap give space back to the host. */
static void space_comes_back(void **state)
{
	struct blk_node *n;
	uint8_t *b = malloc(SIZE);
	struct stat before, after;
	char path[64];

	memset(b, 0x5a, SIZE);
	temp_file(path, sizeof(path), SIZE);
	assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, BLK_AIO_AUTO, &n), 0);
	assert_int_equal(blk_buf(loop, n, BLK_WRITE, 0, b, SIZE), 0);
	assert_int_equal(blk_do(loop, n, BLK_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(stat(path, &before), 0);
	assert_int_equal(blk_do(loop, n, BLK_DISCARD, 0, SIZE / 2, NULL, 0), 0);
	assert_int_equal(blk_do(loop, n, BLK_WRITE_ZEROES, SIZE / 2, SIZE / 2, NULL, 0), 0);
	assert_int_equal(stat(path, &after), 0);
	if (container_of(n, struct blk_file, n)->no_punch)
		print_message("this file system punches no holes\n");
	else
		assert_true(after.st_blocks < before.st_blocks);
	assert_int_equal(after.st_size, SIZE);
	assert_int_equal(blk_buf(loop, n, BLK_READ, 0, b, SIZE), 0);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(b[i], 0);
	blk_close(n);
	unlink(path);
	free(b);
}

/* Without hole punching zeroes are written out. */
static void zeroes_without_help(void **state)
{
	struct blk_node *n;
	uint8_t *b = malloc(SIZE);
	char path[64];

	memset(b, 0x5a, SIZE);
	temp_file(path, sizeof(path), SIZE);
	assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, BLK_AIO_AUTO, &n), 0);
	container_of(n, struct blk_file, n)->no_punch = true;
	container_of(n, struct blk_file, n)->no_zero = true;
	assert_int_equal(blk_buf(loop, n, BLK_WRITE, 0, b, SIZE), 0);
	assert_int_equal(blk_do(loop, n, BLK_WRITE_ZEROES, 512, SIZE - 1024, NULL, 0), 0);
	assert_int_equal(blk_buf(loop, n, BLK_READ, 0, b, SIZE), 0);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(b[i], i < 512 || i >= SIZE - 512 ? 0x5a : 0);
	blk_close(n);
	unlink(path);
	free(b);
}

/* A limit of the host in the middle of a write is an error of that write alone. */
static void file_size_limit(void **state)
{
	struct rlimit old, small;
	struct blk_node *n;
	uint8_t *b = calloc(1, 65536);
	char path[64];

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	for (unsigned mode = 0; mode < 2; mode++) {
		temp_file(path, sizeof(path), SIZE);
		assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, mode ? BLK_AIO_THREADS : BLK_AIO_AUTO, &n), 0);
		small = old;
		small.rlim_cur = 1 << 20;
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
		assert_int_equal(blk_buf(loop, n, BLK_WRITE, (1 << 20) - 4096, b, 65536), -EFBIG);
		assert_int_equal(blk_buf(loop, n, BLK_WRITE, 0, b, 65536), 0);
		assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
		assert_int_equal(blk_buf(loop, n, BLK_WRITE, (1 << 20) - 4096, b, 65536), 0);
		blk_close(n);
		unlink(path);
	}
	free(b);
}

/* In a child with its own mounts: 1 no, 0 yes, 77 not possible here. */
static int full_disk_child(void)
{
	struct loop *l;
	struct blk_node *n;
	struct err e;
	struct blk_open_opts o = { 0 };
	uint8_t *b = malloc(1 << 20);
	int ret = 1;

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/tmp", "tmpfs", 0, "size=256k"))
		return 77;
	close(open("/tmp/disk", O_CREAT | O_RDWR, 0600));
	memset(b, 1, 1 << 20);
	if (truncate("/tmp/disk", 1 << 20) || loop_new(&l) || blk_open_file(l, "/tmp/disk", &o, &n, &e))
		return 1;
	if (blk_buf(l, n, BLK_WRITE, 0, b, 1 << 20) == -ENOSPC && blk_buf(l, n, BLK_READ, 0, b, 4096) == 0 &&
	    blk_do(l, n, BLK_DISCARD, 0, 1 << 20, NULL, 0) == 0 && blk_buf(l, n, BLK_WRITE, 0, b, 4096) == 0)
		ret = 0;
	blk_close(n);
	loop_free(l);
	free(b);
	return ret;
}

static void host_disk_full(void **state)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(full_disk_child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status == 77 << 8) {
		print_message("no right to mount a small tmpfs here\n");
		skip();
	}
	assert_int_equal(status, 0);
}

/* After a flush failed nothing may claim to be on disk any more. */
static void failed_flush_stays(void **state)
{
	struct blk_node *n;
	char path[64];

	temp_file(path, sizeof(path), SIZE);
	assert_int_equal(open_as(path, BLK_CACHE_WRITEBACK, BLK_AIO_AUTO, &n), 0);
	assert_int_equal(file_flush_result(container_of(n, struct blk_file, n), -EIO), -EIO);
	assert_int_equal(blk_do(loop, n, BLK_FLUSH, 0, 0, NULL, 0), -EIO);
	blk_close(n);
	unlink(path);
}

static struct blk_node *open_filled(const char *path)
{
	struct blk_open_opts o = { .reserve = true, .cache = BLK_CACHE_WRITEBACK, .aio = BLK_AIO_THREADS };
	struct blk_node *n;
	struct err e;

	assert_int_equal(blk_open_file(loop, path, &o, &n, &e), 0);
	return n;
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st;
}

/* A new image that is filled gets its room ahead, and what is never written gets none: neither holes nor what lies behind. */
static void filled_in_order(void **state)
{
	enum { PIECE = 256 << 10, N = 64 };
	uint64_t used = 0, unit = 64 << 10;
	struct waited w[N] = { 0 };
	struct iovec v = { malloc(PIECE), PIECE };
	struct blk_node *n;
	char path[64];

	memset(v.iov_base, 0x5a, PIECE);
	temp_file(path, sizeof(path), 64 << 20);
	n = open_filled(path);
	/* Runs of eight pieces, holes of four, all under way at once. */
	for (unsigned i = 0, at = 0; i < N; i++, at++) {
		at += i && i % 8 == 0 ? 4 : 0;
		w[i].r = (struct blk_req){ .op = BLK_WRITE, .offset = (uint64_t)at * PIECE, .len = PIECE, .iov = &v, .niov = 1,
					   .done = waited_done, .opaque = &w[i] };
		blk_submit(n, &w[i].r);
		used += PIECE;
	}
	for (unsigned i = 0; i < N; i++) {
		while (!w[i].done)
			assert_int_equal(loop_turn(loop, 5000), 0);
		assert_int_equal(w[i].ret, 0);
	}
	assert_int_equal(blk_do(loop, n, BLK_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(stat_of(path).st_size, 64 << 20);
	assert_in_range(stat_of(path).st_blocks * 512, used, used + N / 8 * unit);
	for (unsigned i = 0; i < 92; i++) {
		bool hole = i % 12 >= 8;

		assert_int_equal(blk_buf(loop, n, BLK_READ, (uint64_t)i * PIECE, v.iov_base, PIECE), 0);
		assert_int_equal(((uint8_t *)v.iov_base)[0], hole ? 0 : 0x5a);
		assert_int_equal(((uint8_t *)v.iov_base)[PIECE - 1], hole ? 0 : 0x5a);
	}
	blk_close(n);
	assert_int_equal(stat_of(path).st_size, 64 << 20);
	assert_in_range(stat_of(path).st_blocks * 512, used, used + N / 8 * unit);
	free(v.iov_base);
	unlink(path);
}

/* In any order the file holds what was written, and has its length in the end, flushed or not. */
static void filled_at_random(void **state)
{
	struct blk_node *n;
	char path[64];

	for (unsigned seed = 0; seed < 4; seed++) {
		temp_file(path, sizeof(path), SIZE);
		n = open_filled(path);
		model_run(n, seed, 100);
		blk_close(n);
		assert_int_equal(stat_of(path).st_size, SIZE);
		unlink(path);
	}
	temp_file(path, sizeof(path), SIZE);
	blk_close(open_filled(path));
	assert_int_equal(stat_of(path).st_size, SIZE);
	unlink(path);
}

/* What is there already is not cut off. */
static void filled_before(void **state)
{
	struct blk_node *n;
	char path[64], back[4] = "";
	int fd;

	temp_file(path, sizeof(path), SIZE);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "abc", 3, SIZE / 2), 3);
	close(fd);
	n = open_filled(path);
	assert_int_equal(stat_of(path).st_size, SIZE);
	blk_close(n);
	fd = open(path, O_RDONLY);
	assert_int_equal(pread(fd, back, 3, SIZE / 2), 3);
	close(fd);
	assert_string_equal(back, "abc");
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_mode),
		cmocka_unit_test(read_modify_write),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(close_waits),
		cmocka_unit_test(space_comes_back),
		cmocka_unit_test(zeroes_without_help),
		cmocka_unit_test(file_size_limit),
		cmocka_unit_test(host_disk_full),
		cmocka_unit_test(failed_flush_stays),
		cmocka_unit_test(filled_in_order),
		cmocka_unit_test(filled_at_random),
		cmocka_unit_test(filled_before),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
