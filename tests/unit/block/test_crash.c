/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was flushed survives the sudden death of the process: a child writes a
 * log of checksummed records and tells of each once its flush was answered; it is
 * killed at some moment, and every record it told of must be in the image, which
 * the next machine can open at once.
 */
#include "block_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define RECORDS 4096
#define RECORD 1024

static void fill(uint32_t *rec, uint32_t n)
{
	uint32_t sum = 2166136261u;

	rec[0] = n;
	for (unsigned i = 1; i < RECORD / 4 - 1; i++) {
		rec[i] = n * 2654435761u + i;
		sum = (sum ^ rec[i]) * 16777619u;
	}
	rec[RECORD / 4 - 1] = sum ^ n;
}

static void child(const char *path, const struct blk_open_opts *o, int tell)
{
	static uint32_t rec[RECORD / 4];
	struct blk_node *n;
	struct loop *l;
	struct err e;

	if (loop_new(&l) || blk_open_file(l, path, o, &n, &e))
		_exit(1);
	for (uint32_t i = 0; i < RECORDS; i++) {
		fill(rec, i);
		if (blk_buf(l, n, BLK_WRITE, (uint64_t)i * RECORD, rec, RECORD) ||
		    blk_do(l, n, BLK_FLUSH, 0, 0, NULL, 0) || write(tell, &i, 4) != 4)
			_exit(1);
	}
	for (;;)
		pause();
}

/* Returns the number of records that were told of before the death. */
static uint32_t write_and_die(const char *path, const struct blk_open_opts *o, unsigned after)
{
	const struct timespec moment = { .tv_nsec = 700000 };
	uint32_t last = 0, told = 0;
	int tell[2], status;
	pid_t pid;

	assert_int_equal(pipe(tell), 0);
	pid = fork();
	if (!pid)
		child(path, o, tell[1]);
	close(tell[1]);
	while (told < after && read(tell[0], &last, 4) == 4)
		told = last + 1;
	nanosleep(&moment, NULL);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	while (read(tell[0], &last, 4) == 4)
		told = last + 1;
	close(tell[0]);
	return told;
}

static void survives(const struct blk_open_opts *o)
{
	static uint32_t want[RECORD / 4], got[RECORD / 4];
	struct blk_node *n;
	struct loop *l;
	struct err e = { 0 };
	char path[64];
	uint32_t told;

	temp_file(path, sizeof(path), RECORDS * RECORD);
	told = write_and_die(path, o, 20);
	assert_true(told >= 20);
	assert_int_equal(loop_new(&l), 0);
	assert_int_equal(blk_open_file(l, path, o, &n, &e), 0);
	for (uint32_t i = 0; i < told; i++) {
		fill(want, i);
		assert_int_equal(blk_buf(l, n, BLK_READ, (uint64_t)i * RECORD, got, RECORD), 0);
		assert_memory_equal(want, got, RECORD);
	}
	blk_close(n);
	loop_free(l);
	unlink(path);
}

static void through_the_ring(void **state)
{
	const struct blk_open_opts o = { .cache = BLK_CACHE_WRITEBACK };

	survives(&o);
}

static void through_threads(void **state)
{
	const struct blk_open_opts o = { .cache = BLK_CACHE_WRITEBACK, .aio = BLK_AIO_THREADS };

	survives(&o);
}

static void without_cache(void **state)
{
	const struct blk_open_opts o = { .cache = BLK_CACHE_NONE };
	struct blk_node *n;
	struct loop *l;
	struct err e;
	char path[64];
	int ret;

	temp_file(path, sizeof(path), 4096);
	assert_int_equal(loop_new(&l), 0);
	ret = blk_open_file(l, path, &o, &n, &e);
	if (!ret)
		blk_close(n);
	loop_free(l);
	unlink(path);
	if (ret) {
		print_message("no direct I/O on this file system\n");
		skip();
	}
	survives(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(through_the_ring),
		cmocka_unit_test(through_threads),
		cmocka_unit_test(without_cache),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
