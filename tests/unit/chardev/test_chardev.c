/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the chardevs: bytes arrive in order and whole, the front end is
 * never given more than it can take, buffers are bounded, output that nobody
 * takes does not block, lost back ends do not stop the guest.
 */
#include "../unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chardev/chardev.h"

struct ctx {
	struct loop *l;
	struct chardev *c;
	char in[200000], out[200000];
	size_t n_in, n_out, room;
	unsigned writable, hangup, n_sent;
};

static size_t can_read(void *o)
{
	return ((struct ctx *)o)->room;
}
static void on_read(void *o, const uint8_t *buf, size_t len)
{
	struct ctx *c = o;

	assert_true(len <= c->room);
	memcpy(c->in + c->n_in, buf, len);
	c->n_in += len;
	c->room -= len;
}
static void on_writable(void *o)
{
	((struct ctx *)o)->writable++;
}
static void on_hangup(void *o)
{
	((struct ctx *)o)->hangup++;
}
static void sink(void *o, const uint8_t *buf, size_t len)
{
	struct ctx *c = o;

	memcpy(c->out + c->n_out, buf, len);
	c->n_out += len;
	c->n_sent++;
}

static void attach(struct ctx *c)
{
	const struct chardev_front f = { .can_read = can_read, .read = on_read,
					 .writable = on_writable, .hangup = on_hangup, .opaque = c };

	chardev_attach(c->c, &f);
}

static void turns(struct ctx *c, int n)
{
	while (n--)
		assert_int_equal(loop_turn(c->l, 20), 0);
}

static int setup(void **state)
{
	struct ctx *c = calloc(1, sizeof(*c));

	*state = c;
	return loop_new(&c->l);
}

static int teardown(void **state)
{
	struct ctx *c = *state;

	chardev_free(c->c);
	loop_free(c->l);
	free(c);
	return 0;
}

static void pipe_feeds_no_more_than_fits(void **state)
{
	struct ctx *c = *state;
	uint8_t big[70000];
	size_t fed;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7);
	assert_int_equal(chardev_pipe_new(c->l, sink, c, &c->c), 0);
	fed = chardev_feed(c->c, big, sizeof(big));	/* before anybody is attached */
	assert_int_equal(fed, 65536);
	assert_int_equal(chardev_feed(c->c, big, 1), 0);
	attach(c);
	c->room = 16;
	turns(c, 3);
	assert_int_equal(c->n_in, 16);
	while (c->n_in < fed) {
		c->room = 1 + c->n_in % 1000;
		chardev_kick(c->c);
		turns(c, 1);
	}
	assert_memory_equal(c->in, big, fed);
	chardev_feed_eof(c->c);
	turns(c, 1);
	assert_int_equal(c->hangup, 1);
	assert_int_equal(chardev_feed(c->c, big, 1), 0);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"out", 3), 3);
	assert_memory_equal(c->out, "out", 3);
}

/* A UART's bytes: the vCPU that writes them makes one system call for many, and none is lost. */
static void single_bytes_leave_together(void **state)
{
	struct ctx *c = *state;
	char text[] = "console";

	assert_int_equal(chardev_pipe_new(c->l, sink, c, &c->c), 0);
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(chardev_write(c->c, (uint8_t *)text + i, 1), 1);
	turns(c, 1);
	assert_int_equal(c->n_out, 7);
	assert_int_equal(c->n_sent, 1);
	chardev_write(c->c, (const uint8_t *)"1", 1);
	chardev_write(c->c, (const uint8_t *)"23", 2);	/* behind what waits */
	chardev_free(c->c);
	c->c = NULL;
	assert_memory_equal(c->out, "console123", 10);
}

static void hangup_waits_for_the_last_byte(void **state)
{
	struct ctx *c = *state;

	assert_int_equal(chardev_pipe_new(c->l, NULL, NULL, &c->c), 0);
	attach(c);
	chardev_feed(c->c, (const uint8_t *)"x", 1);
	chardev_feed_eof(c->c);
	turns(c, 2);
	assert_int_equal(c->hangup, 0);
	c->room = 1;
	chardev_kick(c->c);
	turns(c, 1);
	assert_int_equal(c->n_in, 1);
	assert_int_equal(c->hangup, 1);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"nobody", 6), 6);
}

static void null_takes_everything(void **state)
{
	struct ctx *c = *state;
	unsigned cols = 1, rows = 1;

	assert_int_equal(chardev_null_new(c->l, &c->c), 0);
	attach(c);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"gone", 4), 4);
	chardev_size(c->c, &cols, &rows);
	assert_int_equal(cols | rows, 0);
}

static void file_gets_every_byte(void **state)
{
	struct ctx *c = *state;
	char path[] = "/tmp/lodge-chardev-XXXXXX", buf[16] = "";
	int fd = mkstemp(path);
	struct err e;

	assert_true(fd >= 0);
	assert_int_equal(chardev_file_new(c->l, path, false, &c->c, &e), 0);
	attach(c);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"hello ", 6), 6);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"file", 4), 4);
	assert_int_equal(read(fd, buf, sizeof(buf)), 10);
	assert_string_equal(buf, "hello file");
	close(fd);
	unlink(path);
}

static void file_errors_name_the_file(void **state)
{
	struct ctx *c = *state;
	struct err e;

	assert_int_equal(chardev_file_new(c->l, "/nowhere/at/all", false, &c->c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nowhere/at/all"));
	assert_int_equal(chardev_file_new(c->l, "/tmp", false, &c->c, &e), -EISDIR);
	assert_null(c->c);
}

static void a_full_disk_does_not_stop_the_guest(void **state)
{
	struct ctx *c = *state;
	struct err e;

	assert_int_equal(chardev_file_new(c->l, "/dev/full", false, &c->c, &e), 0);
	attach(c);
	for (int i = 0; i < 20000; i++)
		assert_int_equal(chardev_write(c->c, (const uint8_t *)"0123456789", 10), 10);
}

/* A FIFO nobody reads fast enough: bounded, then the writer is told to go on. */
static void a_slow_reader_is_waited_for_without_blocking(void **state)
{
	struct ctx *c = *state;
	static uint8_t buf[300000];
	char path[64];
	size_t taken = 0, n, got = 0;
	struct err e;
	int rd;

	snprintf(path, sizeof(path), "/tmp/lodge-fifo-%d", (int)getpid());
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(chardev_file_new(c->l, path, false, &c->c, &e), -ENXIO);
	rd = open(path, O_RDONLY | O_NONBLOCK);
	assert_int_equal(chardev_file_new(c->l, path, false, &c->c, &e), 0);
	unlink(path);
	attach(c);
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 13);
	do {
		n = chardev_write(c->c, buf + taken, 10000);
		taken += n;
	} while (n == 10000 && taken < 280000);
	assert_in_range(taken, 65536, 200000);		/* pipe + buffer, not more */
	assert_int_equal(c->writable, 0);
	while (got < taken) {
		ssize_t r = read(rd, c->out + got, 5000);

		if (r > 0)
			got += (size_t)r;
		turns(c, 1);
	}
	assert_memory_equal(c->out, buf, taken);
	assert_int_equal(c->writable, 1);
	close(rd);
}

static void pty_keeps_the_newest_for_who_comes_late(void **state)
{
	struct ctx *c = *state;
	uint8_t line[1000];
	char name[64], *got = calloc(1, 70000);
	size_t n = 0;
	struct err e;
	int fd;

	assert_int_equal(chardev_pty_new(c->l, name, sizeof(name), &c->c, &e), 0);
	attach(c);
	c->room = 100;
	for (int i = 0; i < 100; i++) {
		memset(line, 'a' + i % 26, sizeof(line));
		assert_int_equal(chardev_write(c->c, line, sizeof(line)), sizeof(line));
	}
	fd = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
	assert_true(fd >= 0);
	for (int i = 0; i < 100 && n < 65536; i++) {
		ssize_t r = read(fd, got + n, 70000 - n);

		if (r > 0)
			n += (size_t)r;
		turns(c, 1);
	}
	assert_int_equal(n, 65536);
	assert_int_equal(got[n - 1], 'a' + 99 % 26);
	/* Both ways, unchanged: the pty is raw. */
	assert_int_equal(write(fd, "\x03k\r", 3), 3);
	for (int i = 0; i < 50 && c->n_in < 3; i++)
		turns(c, 1);
	assert_memory_equal(c->in, "\x03k\r", 3);
	/* Leaving and coming back. */
	close(fd);
	turns(c, 3);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"away", 4), 4);
	fd = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK);
	n = 0;
	for (int i = 0; i < 100 && n < 4; i++) {
		ssize_t r = read(fd, got + n, 100);

		if (r > 0)
			n += (size_t)r;
		turns(c, 1);
	}
	assert_memory_equal(got, "away", 4);
	close(fd);
	free(got);
}

/* The name goes on to be used for what stands behind it now. */
static void replaced(void **state)
{
	struct ctx *c = *state;
	struct chardev *by;
	uint8_t buf[16];

	assert_int_equal(chardev_pipe_new(c->l, NULL, NULL, &c->c), 0);
	attach(c);
	assert_int_equal(chardev_feed(c->c, (const uint8_t *)"early", 5), 5);
	assert_int_equal(chardev_pipe_new(c->l, sink, c, &by), 0);
	chardev_replace(c->c, by);
	assert_int_equal(chardev_feed(c->c, (const uint8_t *)" late", 5), 5);
	assert_int_equal(chardev_unread(c->c, buf, sizeof(buf)), 10);
	assert_memory_equal(buf, "early late", 10);
	chardev_drop_unread(c->c);
	assert_int_equal(chardev_unread(c->c, buf, sizeof(buf)), 0);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"x", 1), 1);
	assert_int_equal(c->n_out, 0);
	chardev_flush(c->c);
	assert_int_equal(c->n_out, 1);
	c->room = 10;
	assert_int_equal(chardev_feed(c->c, (const uint8_t *)"more", 4), 4);
	turns(c, 2);
	assert_int_equal(c->n_in, 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(pipe_feeds_no_more_than_fits),
		T(single_bytes_leave_together),
		T(hangup_waits_for_the_last_byte),
		T(null_takes_everything),
		T(file_gets_every_byte),
		T(file_errors_name_the_file),
		T(replaced),
		T(a_full_disk_does_not_stop_the_guest),
		T(a_slow_reader_is_waited_for_without_blocking),
		T(pty_keeps_the_newest_for_who_comes_late),
	};

	setenv("LODGE_LOG", "error", 1);	/* the lost output is announced: not here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
