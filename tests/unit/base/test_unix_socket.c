// SPDX-License-Identifier: GPL-2.0-or-later
/* Sockets with paths: what is replaced, what is left alone, who may connect. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/unix_socket.h"
#include "../unit.h"

/* Not in the build folder: a socket's path has 107 bytes at most. */
static char dir[] = "/tmp/test-unix-socket-XXXXXX";
static char path[64];

static int setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/s", dir);
	return 0;
}

static int teardown(void **state)
{
	unlink(path);
	return rmdir(dir);
}

static void test_listen(void **state)
{
	mode_t before = umask(0);
	struct stat st;
	struct err e;
	int a, b, c;

	assert_int_equal(unix_socket_listen(path, 8, &a, &e), 0);
	umask(before);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(unix_socket_listen(path, 8, &b, &e), -EADDRINUSE);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(unix_socket_connect(path, 0, &c, &e), 0);
	close(c);
	close(a);
	/* Nobody listens to it any more. */
	assert_int_equal(unix_socket_connect(path, 0, &c, &e), -ECONNREFUSED);
	assert_int_equal(unix_socket_listen(path, 8, &b, &e), 0);
	close(b);
	unlink(path);
}

/* Whatever else has the name stays. */
static void test_files(void **state)
{
	char text[8] = "";
	struct err e;
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), s;

	assert_int_equal(write(fd, "a file", 6), 6);
	assert_int_equal(unix_socket_listen(path, 8, &s, &e), -EADDRINUSE);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, text, 7), 6);
	assert_string_equal(text, "a file");
	close(fd);
	unlink(path);
}

static void test_names(void **state)
{
	char longer[200];
	struct err e;
	int s;

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(unix_socket_listen(longer, 8, &s, &e), -ENAMETOOLONG);
	assert_int_equal(unix_socket_listen("", 8, &s, &e), -ENAMETOOLONG);
	assert_int_equal(unix_socket_connect(longer, 0, &s, &e), -ENAMETOOLONG);
}

/* One who listens and says nothing. */
static void test_silence(void **state)
{
	struct err e;
	int a, c;
	char x;

	assert_int_equal(unix_socket_listen(path, 8, &a, &e), 0);
	assert_int_equal(unix_socket_connect(path, 20, &c, &e), 0);
	assert_true(recv(c, &x, 1, 0) < 0);
	assert_int_equal(errno, EAGAIN);
	close(c);
	close(a);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listen), cmocka_unit_test(test_files), cmocka_unit_test(test_names), cmocka_unit_test(test_silence),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
