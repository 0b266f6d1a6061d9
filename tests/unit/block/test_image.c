/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening images by name: what is probed, what a guest may do to a probed raw
 * disk, which files an image may name, and what opening costs.
 */
#include "block_test.h"

#include <malloc.h>
#include <sys/wait.h>

#include "block/image.h"
#include "block/qcow2/qcow2.h"

static struct loop *loop;
static char dir[64];

static const char *in_dir(const char *name)
{
	static char path[4][128];
	static unsigned turn;

	turn = (turn + 1) % 4;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void make_raw(const char *path, off_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void make_qcow2(const char *path, uint64_t size, const char *backing, const char *format)
{
	const struct qcow2_create_opts o = { .size = size, .backing = backing, .backing_format = format };
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_node *file;
	struct err e = { 0 };

	assert_int_equal(blk_create_file(path, true, &e), 0);
	assert_int_equal(blk_open_file(loop, path, &fo, &file, &e), 0);
	if (qcow2_create(file, &o, &e))
		fail_msg("%s", e.msg);
	blk_close(file);
}

static int try_open(const char *path, const char *format, enum blk_trust trust, struct blk_node **n, struct err *e)
{
	const struct blk_image_opts o = { .format = format, .trust = trust };

	return blk_open_image(loop, path, &o, n, e);
}

static void probed_raw_is_guarded(void **state)
{
	const char *path = in_dir("raw");
	uint8_t sector[1024] = "QFI\xfb";
	struct blk_node *n;
	struct err e = { 0 };

	make_raw(path, 1 << 20);
	assert_int_equal(try_open(path, NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	assert_string_equal(n->format, "raw");
	assert_int_equal(blk_pwrite(n, 0, sector, sizeof(sector)), -EPERM);
	assert_int_equal(blk_pwrite(n, 512, sector, 512), 0);
	sector[0] = 'x';
	assert_int_equal(blk_pwrite(n, 0, sector, sizeof(sector)), 0);
	assert_int_equal(blk_pread(n, 0, sector, sizeof(sector)), 0);
	assert_int_equal(sector[0], 'x');
	assert_int_equal(blk_pwrite_zeroes(n, 0, 4096, true), 0);
	assert_int_equal(blk_resize(n, 2 << 20, &e), 0);
	assert_int_equal(n->i.size, 2 << 20);
	assert_int_equal(blk_pwrite(n, (2 << 20) - 512, sector, 512), 0);
	blk_close(n);
	/* Named, it is nobody's business what is in it. */
	assert_int_equal(try_open(path, "raw", BLK_TRUST_FOLDER, &n, &e), 0);
	memcpy(sector, "QFI\xfb", 4);
	assert_int_equal(blk_pwrite(n, 0, sector, 512), 0);
	blk_close(n);
}

static void unknown_formats(void **state)
{
	const char *path = in_dir("other");
	struct blk_node *n;
	struct err e = { 0 };
	int fd;

	make_raw(path, 1 << 20);
	fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, "QED", 4, 0), 4);
	close(fd);
	assert_int_equal(try_open(path, NULL, BLK_TRUST_FOLDER, &n, &e), -ENOTSUP);
	assert_non_null(strstr(e.msg, "qed"));
	assert_int_equal(try_open(path, "qed", BLK_TRUST_FOLDER, &n, &e), -ENOTSUP);
	assert_int_equal(try_open(path, "raw", BLK_TRUST_FOLDER, &n, &e), 0);
	blk_close(n);
	assert_int_equal(try_open(path, "qcow2", BLK_TRUST_FOLDER, &n, &e), -EINVAL);
}

static void backing_files_need_consent(void **state)
{
	char elsewhere[] = "./block-image-XXXXXX", absolute[200], *cwd = getcwd(NULL, 0);
	struct blk_node *n;
	struct err e = { 0 };

	temp_path(elsewhere, sizeof(elsewhere));
	make_raw(elsewhere, 1 << 20);
	snprintf(absolute, sizeof(absolute), "%s/%s", cwd, elsewhere);
	make_qcow2(in_dir("away"), 1 << 20, absolute, "raw");
	assert_int_equal(try_open(in_dir("away"), NULL, BLK_TRUST_FOLDER, &n, &e), -EACCES);
	assert_non_null(strstr(e.msg, elsewhere));
	assert_int_equal(try_open(in_dir("away"), NULL, BLK_TRUST_ALL, &n, &e), 0);
	blk_close(n);
	make_raw(in_dir("base"), 1 << 20);
	make_qcow2(in_dir("near"), 1 << 20, "base", "raw");
	assert_int_equal(try_open(in_dir("near"), NULL, BLK_TRUST_NONE, &n, &e), -EACCES);
	assert_int_equal(try_open(in_dir("near"), NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	blk_close(n);
	/* Out by a detour. */
	make_qcow2(in_dir("detour"), 1 << 20, "../../../../../../../../../../../etc/hostname", "raw");
	assert_int_equal(try_open(in_dir("detour"), NULL, BLK_TRUST_FOLDER, &n, &e), -EACCES);
	unlink(elsewhere);
	free(cwd);
}

/* A base nobody named the format of may be what a guest made of a raw disk: it opens, but names nothing. */
static void probed_backing_names_nothing(void **state)
{
	struct blk_node *n;
	struct err e = { 0 };

	make_raw(in_dir("c"), 1 << 20);
	make_qcow2(in_dir("b"), 1 << 20, "c", "raw");
	make_qcow2(in_dir("a"), 1 << 20, "b", NULL);
	assert_int_equal(try_open(in_dir("a"), NULL, BLK_TRUST_FOLDER, &n, &e), -EACCES);
	assert_int_equal(try_open(in_dir("a"), NULL, BLK_TRUST_ALL, &n, &e), 0);
	blk_close(n);
}

static void circles_end(void **state)
{
	struct blk_node *n;
	struct err e = { 0 };

	make_qcow2(in_dir("x"), 1 << 20, "y", "qcow2");
	make_qcow2(in_dir("y"), 1 << 20, "x", "qcow2");
	assert_true(try_open(in_dir("x"), NULL, BLK_TRUST_FOLDER, &n, &e) < 0);
	const struct blk_image_opts ro = { .file.read_only = true, .trust = BLK_TRUST_ALL };

	assert_int_equal(blk_open_image(loop, in_dir("x"), &ro, &n, &e), -ELOOP);
}

static void status_tells_the_layer(void **state)
{
	uint8_t *buf = malloc(65536);
	struct blk_extent x;
	struct blk_node *n;
	struct err e = { 0 };

	memset(buf, 7, 65536);
	make_qcow2(in_dir("low"), 1 << 20, NULL, NULL);
	assert_int_equal(try_open(in_dir("low"), NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	assert_int_equal(blk_pwrite(n, 65536, buf, 65536), 0);
	blk_close(n);
	make_qcow2(in_dir("high"), 1 << 20, "low", "qcow2");
	assert_int_equal(try_open(in_dir("high"), NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	assert_int_equal(blk_pwrite(n, 131072, buf, 4096), 0);
	assert_int_equal(blk_block_status(n, 0, 1 << 20, false, &x), 0);
	assert_true(!x.allocated && x.zero && x.len == 65536);
	assert_int_equal(blk_block_status(n, 65536, 1 << 20 >> 1, false, &x), 0);
	assert_true(x.allocated && x.data && x.depth == 1 && x.len == 65536 && x.has_offset);
	assert_int_equal(blk_block_status(n, 65536, 65536, true, &x), 0);
	assert_true(!x.allocated);
	assert_int_equal(blk_block_status(n, 131072, 65536, false, &x), 0);
	assert_true(x.allocated && x.data && x.depth == 0 && x.len == 65536);
	blk_close(n);
	free(buf);
}

static void large_images_open_small(void **state)
{
	struct mallinfo2 before, after;
	struct blk_node *n;
	struct err e = { 0 };

	make_qcow2(in_dir("large"), 1ull << 40, NULL, NULL);
	before = mallinfo2();
	assert_int_equal(try_open(in_dir("large"), NULL, BLK_TRUST_FOLDER, &n, &e), 0);
	after = mallinfo2();
	if (after.uordblks + after.hblkhd)	/* a sanitizer's allocator tells nothing */
		assert_true(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd < 4u << 20);
	assert_int_equal(n->i.size, 1ull << 40);
	blk_close(n);
}

/* ---- room ahead ---- */

static void note(struct blk_req *r, int ret)
{
	if (ret)
		*(int *)r->opaque = ret;
}

/* Several first writes at a time, flushed, and then the process is no more. */
static void write_and_die(const char *path)
{
	enum { N = 16, EACH = 65536 };
	static uint8_t buf[EACH];
	static struct blk_req r[N];
	struct iovec v = { buf, EACH };
	struct blk_node *n;
	struct err e;
	int ret = 0;

	memset(buf, 0xa5, EACH);
	if (loop_new(&loop) || try_open(path, "qcow2", BLK_TRUST_ALL, &n, &e))
		_exit(1);
	for (unsigned i = 0; i < N; i++) {
		r[i] = (struct blk_req){ .op = BLK_WRITE, .offset = (uint64_t)i * EACH, .len = EACH, .iov = &v, .niov = 1, .done = note,
					 .opaque = &ret };
		blk_submit(n, &r[i]);
	}
	blk_drain(n);
	_exit(ret || blk_flush(n) ? 1 : 42);
}

static off_t size_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static void expect_contents(struct blk_node *n, uint64_t len)
{
	uint8_t *buf = malloc(len);

	assert_int_equal(blk_pread(n, 0, buf, len), 0);
	for (uint64_t i = 0; i < len; i++)
		assert_int_equal(buf[i], 0xa5);
	free(buf);
}

/* The room that a process made ahead and left is taken back by the next that opens the image for writing. */
static void room_ahead_of_the_dead(void **state)
{
	const char *path = in_dir("dead");
	const struct blk_image_opts ro = { .format = "qcow2", .file.read_only = true };
	struct qcow2_check res = { 0 };
	struct blk_node *n;
	struct err e = { 0 };
	off_t dead;
	int status;
	pid_t pid;

	make_qcow2(path, 64 << 20, NULL, NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		write_and_die(path);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
	dead = size_of(path);
	if (dead < 16 << 20) {
		print_message("skipped: this file system reserves no room\n");
		skip();
	}
	/* Who only reads leaves it. */
	assert_int_equal(blk_open_image(loop, path, &ro, &n, &e), 0);
	expect_contents(n, 1 << 20);
	blk_close(n);
	assert_int_equal(size_of(path), dead);
	assert_int_equal(try_open(path, "qcow2", BLK_TRUST_ALL, &n, &e), 0);
	assert_true(size_of(path) < 2 << 20);
	assert_int_equal(qcow2_check(n, 0, &res, &e), 0);
	assert_int_equal(res.corruptions + res.leaks, 0);
	expect_contents(n, 1 << 20);
	blk_close(n);
}

/* What is behind the contents and was written by whomever, or is too much to be ours, stays. */
static void not_our_room(void **state)
{
	const char *path = in_dir("tail");
	struct blk_node *n;
	struct err e = { 0 };
	off_t end;
	int fd;

	make_qcow2(path, 64 << 20, NULL, NULL);
	end = size_of(path);
	fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, end + (32 << 20)), 0);
	assert_int_equal(pwrite(fd, "written", 7, end + (8 << 20)), 7);
	assert_int_equal(try_open(path, "qcow2", BLK_TRUST_ALL, &n, &e), 0);
	assert_true(size_of(path) > end + (8 << 20) && size_of(path) <= end + (9 << 20));
	blk_close(n);
	assert_int_equal(ftruncate(fd, end + (200 << 20)), 0);
	assert_int_equal(try_open(path, "qcow2", BLK_TRUST_ALL, &n, &e), 0);
	assert_int_equal(size_of(path), end + (200 << 20));
	blk_close(n);
	close(fd);
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/lodge-image-XXXXXX");
	return !mkdtemp(dir) || loop_new(&loop);
}

static int teardown(void **state)
{
	char cmd[100];

	loop_free(loop);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(probed_raw_is_guarded),
		cmocka_unit_test(unknown_formats),
		cmocka_unit_test(backing_files_need_consent),
		cmocka_unit_test(probed_backing_names_nothing),
		cmocka_unit_test(circles_end),
		cmocka_unit_test(status_tells_the_layer),
		cmocka_unit_test(large_images_open_small),
		cmocka_unit_test(room_ahead_of_the_dead),
		cmocka_unit_test(not_our_room),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
