/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening images: every refusal names the file, and two machines cannot share
 * what one of them writes.
 */
#include "block_test.h"

#include <signal.h>
#include <sys/wait.h>

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

static int try_open(const char *path, bool ro, struct blk_node **n, struct err *e)
{
	struct blk_open_opts o = { .read_only = ro };

	*n = NULL;
	memset(e, 0, sizeof(*e));
	return blk_open_file(loop, path, &o, n, e);
}

static void refused(const char *path, bool ro, int code, const char *word)
{
	struct blk_node *n;
	struct err e;

	assert_int_equal(try_open(path, ro, &n, &e), code);
	assert_null(n);
	assert_non_null(strstr(e.msg, path));
	assert_non_null(strstr(e.msg, word));
}

static void missing(void **state)
{
	refused("./no-such-image", false, -ENOENT, "does not exist");
}

static void directory(void **state)
{
	refused(".", false, -EISDIR, "directory");
}

static void not_a_disk(void **state)
{
	refused("/dev/null", false, -EINVAL, "neither");
}

static void too_short(void **state)
{
	char path[64];

	temp_file(path, sizeof(path), 511);
	refused(path, false, -EINVAL, "511 bytes");
	assert_int_equal(truncate(path, 0), 0);
	refused(path, true, -EINVAL, "sector");
	unlink(path);
}

/* Root may open anything, so this looks from a child that is nobody. */
static void no_permission(void **state)
{
	char path[64];
	int status;
	pid_t pid;

	temp_file(path, sizeof(path), 4096);
	assert_int_equal(chmod(path, 0400), 0);
	pid = fork();
	if (!pid) {
		struct blk_node *n;
		struct err e;
		int ret;

		if (!geteuid() && (chmod(path, 0444) || setuid(65534)))
			_exit(2);
		ret = try_open(path, false, &n, &e);
		_exit(ret == -EACCES && strstr(e.msg, path) && strstr(e.msg, "permission") ? 0 : 1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	unlink(path);
	assert_int_equal(status, 0);
}

/* A size that is no multiple of 512 is rounded up; the tail reads as zeros and can be written. */
static void odd_size(void **state)
{
	char path[64];
	struct blk_node *n;
	struct err e;
	uint8_t b[512];
	struct stat st;

	temp_file(path, sizeof(path), 1000);
	assert_int_equal(try_open(path, false, &n, &e), 0);
	assert_int_equal(n->i.size, 1024);
	memset(b, 1, sizeof(b));
	assert_int_equal(blk_buf(loop, n, BLK_READ, 512, b, 512), 0);
	for (int i = 0; i < 512; i++)
		assert_int_equal(b[i], 0);
	memset(b, 7, sizeof(b));
	assert_int_equal(blk_buf(loop, n, BLK_WRITE, 512, b, 512), 0);
	blk_close(n);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 1024);
	unlink(path);
}

/* Writers exclude everybody, readers only writers; close unlocks at once. */
static void locks_in_one_process(void **state)
{
	char path[64];
	struct blk_node *a, *b;
	struct err e;

	temp_file(path, sizeof(path), 4096);
	assert_int_equal(try_open(path, false, &a, &e), 0);
	refused(path, false, -EBUSY, "twice");
	refused(path, true, -EBUSY, "twice");
	blk_close(a);
	assert_int_equal(try_open(path, true, &a, &e), 0);
	assert_int_equal(try_open(path, true, &b, &e), 0);
	refused(path, false, -EBUSY, "twice");
	blk_close(a);
	blk_close(b);
	assert_int_equal(try_open(path, false, &a, &e), 0);
	blk_close(a);
	unlink(path);
}

/* The message names the process that holds the image; its death frees the image. */
static void holder_is_named(void **state)
{
	char path[64], word[32], c;
	struct blk_node *n;
	struct err e;
	int ready[2];
	pid_t pid;

	temp_file(path, sizeof(path), 4096);
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (!pid) {
		struct loop *own;
		struct blk_open_opts o = { 0 };

		if (loop_new(&own) || blk_open_file(own, path, &o, &n, &e) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	snprintf(word, sizeof(word), "process %d", (int)pid);
	refused(path, false, -EBUSY, word);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	assert_int_equal(try_open(path, false, &n, &e), 0);
	blk_close(n);
	close(ready[0]);
	close(ready[1]);
	unlink(path);
}

/* The lock can be declined, and io_uring asked for by name is used or refused, never ignored. */
static void options(void **state)
{
	char path[64];
	struct blk_node *a, *b;
	struct err e = { 0 };
	struct blk_open_opts o = { .no_lock = true }, u = { .aio = BLK_AIO_URING, .no_lock = true };

	temp_file(path, sizeof(path), 4096);
	assert_int_equal(try_open(path, false, &a, &e), 0);
	assert_int_equal(blk_open_file(loop, path, &o, &b, &e), 0);
	blk_close(b);
	if (blk_open_file(loop, path, &u, &b, &e))
		assert_non_null(strstr(e.msg, "io_uring"));
	else
		blk_close(b);
	blk_close(a);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing),
		cmocka_unit_test(directory),
		cmocka_unit_test(not_a_disk),
		cmocka_unit_test(too_short),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(odd_size),
		cmocka_unit_test(locks_in_one_process),
		cmocka_unit_test(holder_is_named),
		cmocka_unit_test(options),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
