/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Block devices of the host, by way of loop devices where we may make them (else
 * skipped): size, 4096-byte sectors under direct I/O, discard, zeroes, read-only.
 */
#include "block_test.h"

#include <linux/loop.h>
#include <sys/ioctl.h>

#define SIZE (1u << 20)

static struct loop *loop;

struct device {
	char file[64], path[64];
	int fd;			/* keeps the device; closing it lets it go (autoclear) */
};

static bool attach(struct device *d, uint32_t block_size, bool read_only)
{
	struct loop_config c = { .block_size = block_size };
	int ctl, n = -1, back;

	temp_file(d->file, sizeof(d->file), SIZE);
	d->fd = -1;
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl >= 0) {
		n = ioctl(ctl, LOOP_CTL_GET_FREE);
		close(ctl);
	}
	back = open(d->file, O_RDWR | O_CLOEXEC);
	if (n >= 0) {
		snprintf(d->path, sizeof(d->path), "/dev/loop%d", n);
		d->fd = open(d->path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	}
	c.fd = (uint32_t)back;
	c.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
	if (d->fd >= 0 && ioctl(d->fd, LOOP_CONFIGURE, &c)) {
		close(d->fd);
		d->fd = -1;
	}
	close(back);
	if (d->fd < 0) {
		unlink(d->file);
		print_message("no loop device may be made here\n");
	}
	return d->fd >= 0;
}

static void detach(struct device *d)
{
	close(d->fd);
	unlink(d->file);
}

static void data_and_ranges(const char *path, enum blk_cache cache, uint32_t physical)
{
	struct blk_open_opts o = { .cache = cache };
	uint8_t *a = malloc(SIZE), *b = malloc(SIZE);
	struct blk_node *n, *second;
	struct err e = { 0 };

	if (blk_open_file(loop, path, &o, &n, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(n->i.size, SIZE);
	assert_true(n->i.is_device);
	assert_true(n->i.physical_block >= physical);
	assert_int_equal(blk_open_file(loop, path, &o, &second, &e), -EBUSY);
	for (unsigned i = 0; i < SIZE; i++)
		a[i] = (uint8_t)(i / 512 * 7 + 1);
	/* Sector by sector: with 4096-byte sectors each is read, changed and written. */
	for (unsigned off = 0; off < 65536; off += 512)
		assert_int_equal(blk_buf(loop, n, BLK_WRITE, off, a + off, 512), 0);
	assert_int_equal(blk_buf(loop, n, BLK_WRITE, 65536, a + 65536, SIZE - 65536), 0);
	memset(a + 512, 0, 512);
	assert_int_equal(blk_do(loop, n, BLK_WRITE_ZEROES, 512, 512, NULL, 0), 0);
	memset(a + 131072, 0, 65536);
	assert_int_equal(blk_do(loop, n, BLK_WRITE_ZEROES, 131072, 65536, NULL, 0), 0);
	memset(a + 262144 + 512, 0, 65536);
	assert_int_equal(blk_do(loop, n, BLK_WRITE_ZEROES, 262144 + 512, 65536, NULL, 0), 0);
	assert_int_equal(blk_do(loop, n, BLK_DISCARD, 524288 + 512, 512, NULL, 0), 0);
	assert_int_equal(blk_do(loop, n, BLK_FLUSH, 0, 0, NULL, 0), 0);
	assert_int_equal(blk_do(loop, n, BLK_DISCARD, 524288, 65536, NULL, 0), 0);
	assert_int_equal(blk_buf(loop, n, BLK_READ, 0, b, SIZE), 0);
	assert_memory_equal(a, b, 524288);
	assert_memory_equal(a + 589824, b + 589824, SIZE - 589824);
	blk_close(n);
	free(a);
	free(b);
}

static void ordinary(void **state)
{
	struct device d;

	if (!attach(&d, 0, false))
		skip();
	data_and_ranges(d.path, BLK_CACHE_WRITEBACK, 512);
	data_and_ranges(d.path, BLK_CACHE_NONE, 512);
	detach(&d);
}

static void large_sectors(void **state)
{
	struct device d;

	if (!attach(&d, 4096, false))
		skip();
	data_and_ranges(d.path, BLK_CACHE_WRITEBACK, 4096);
	data_and_ranges(d.path, BLK_CACHE_NONE, 4096);
	detach(&d);
}

static void read_only(void **state)
{
	struct blk_open_opts rw = { 0 }, ro = { .read_only = true };
	struct blk_node *n;
	struct err e = { 0 };
	struct device d;

	if (!attach(&d, 0, true))
		skip();
	assert_true(blk_open_file(loop, d.path, &rw, &n, &e) < 0);
	assert_non_null(strstr(e.msg, d.path));
	assert_non_null(strstr(e.msg, "read-only"));
	assert_int_equal(blk_open_file(loop, d.path, &ro, &n, &e), 0);
	assert_int_equal(n->i.size, SIZE);
	blk_close(n);
	detach(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ordinary),
		cmocka_unit_test(large_sectors),
		cmocka_unit_test(read_only),
	};
	int ret;

	if (loop_new(&loop))
		return 1;
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	loop_free(loop);
	return ret;
}
