// SPDX-License-Identifier: GPL-2.0-or-later
/* Confined threads: what they cannot do, and that what they need does go. Each in a process of its own: there is no way back. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/confine.h"

static bool have(void)
{
	struct err e = { "" };
	int ret = confine_self_test(&e);

	if (ret != -ENOSYS) {
		if (ret)
			print_error("%s\n", e.msg);
		assert_int_equal(ret, 0);
		return true;
	}
	print_message("skipped: %s\n", e.msg);
	return false;
}

static void *allocate(void *arg)
{
	char *p;

	pthread_setname_np(pthread_self(), "leaf");
	confine_enter(CONFINE_IO);
	p = malloc(100000);
	if (p)
		memset(p, 1, 100000);
	free(p);
	return p ? arg : NULL;
}

/* What a thread of any kind does: memory, threads, descriptors that are there, and a file once more. */
static void *work(void *arg)
{
	int fds[2], rw, *fd = arg;
	void *got = NULL;
	pthread_t t;
	char c = 7;

	if (pthread_create(&t, NULL, allocate, arg) || pthread_join(t, &got) || got != arg)
		return NULL;
	if (pwrite(fd[0], "x", 1, 0) != -1 || errno != EBADF)	/* read-only */
		return NULL;
	rw = confine_reopen(fd[0], O_RDWR);
	if (rw < 0 || pwrite(rw, &c, 1, 0) != 1 || pread(fd[0], &c, 1, 0) != 1 || c != 7 || fsync(rw) || close(rw))
		return NULL;
	fds[0] = fd[1];
	return send(fds[0], "y", 1, MSG_NOSIGNAL) == 1 && recv(fd[2], &c, 1, 0) == 1 && c == 'y' ? arg : NULL;
}

static void *confined_work(void *arg)
{
	int *fd = arg;

	confine_enter((enum confine_class)fd[3]);
	return work(arg);
}

static int run_class(enum confine_class c, bool native)
{
	char path[] = "/tmp/confine-XXXXXX";
	struct err e = { "" };
	int fd[4], rw = mkstemp(path), pair[2];
	void *got = NULL;
	pthread_t t;

	if (rw < 0 || confine_prepare(native, &e) || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		return 1;
	fd[0] = open(path, O_RDONLY);
	unlink(path);
	fd[1] = pair[0];
	fd[2] = pair[1];
	fd[3] = (int)c;
	if (pthread_create(&t, NULL, confined_work, fd) || pthread_join(t, &got))
		return 1;
	return got == fd ? 0 : 2;
}

static int status_of(int (*fn)(enum confine_class, bool), enum confine_class c, bool native)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(fn(c, native));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void test_work(void **state)
{
	if (!have())
		skip();
	for (unsigned c = 0; c < CONFINE_CLASSES; c++)
		for (unsigned native = 0; native < 2; native++)
			assert_int_equal(status_of(run_class, (enum confine_class)c, native), 0);
}

static int open_a_file(enum confine_class c, bool native)
{
	struct err e = { "" };

	const struct rlimit none = { 0, 0 };

	if (confine_prepare(native, &e) || setrlimit(RLIMIT_CORE, &none))
		return 1;
	freopen("/dev/null", "w", stderr);
	confine_enter(c);
	return open("/dev/null", O_RDONLY) >= 0 ? 0 : errno == EPERM ? 2 : 3;
}

static void test_open(void **state)
{
	if (!have())
		skip();
	for (unsigned c = 0; c < CONFINE_CLASSES; c++) {
		bool may = c == CONFINE_NET || c == CONFINE_SHARE || c == CONFINE_MAIN;
		int status = status_of(open_a_file, (enum confine_class)c, false);

		assert_int_equal(status, may ? 0 : W_EXITCODE(2, 0));
		setenv("LODGE_SANDBOX_STRICT", "1", 1);
		status = status_of(open_a_file, (enum confine_class)c, false);
		unsetenv("LODGE_SANDBOX_STRICT");
		assert_int_equal(status, may ? 0 : W_EXITCODE(0, SIGABRT));
	}
}

static void test_off(void **state)
{
	int fd = open("/dev/null", O_RDONLY), again;

	assert_false(confine_wanted());
	confine_enter(CONFINE_VCPU);
	again = confine_reopen(fd, O_WRONLY);
	assert_true(again >= 0);
	assert_int_equal(write(again, "", 1), 1);
	close(again);
	close(fd);
	assert_int_equal(confine_reopen(-1, O_RDONLY), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_off), cmocka_unit_test(test_work), cmocka_unit_test(test_open) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
