/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Promises of the stdio console: a terminal is raw while it lives and as it was
 * after every way to end; the escape key works even if the guest reads nothing;
 * pipes, files, /dev/null and closed descriptors do for standard input and
 * output; the descriptors' shared flags are left alone.
 *
 * Each case runs in a child whose descriptors 0 and 1 are what the case says.
 */
#include "../unit.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/stdfds.h"
#include "chardev/chardev.h"

struct guest {
	struct loop *l;
	struct chardev *c;
	bool quit, hangup;
	size_t room;
	char in[8192];
	size_t n;
	unsigned cols;
};

static size_t g_can_read(void *o)
{
	struct guest *g = o;

	return g->room > sizeof(g->in) - g->n ? sizeof(g->in) - g->n : g->room;
}
static void g_read(void *o, const uint8_t *buf, size_t len)
{
	struct guest *g = o;

	memcpy(g->in + g->n, buf, len);
	g->n += len;
}
static void g_hangup(void *o)
{
	((struct guest *)o)->hangup = true;
}
static void g_resized(void *o, unsigned cols, unsigned rows)
{
	((struct guest *)o)->cols = cols;
}
static void g_quit(void *o)
{
	((struct guest *)o)->quit = true;
}

static void g_open(struct guest *g, size_t room)
{
	const struct chardev_front f = { .can_read = g_can_read, .read = g_read, .hangup = g_hangup,
					 .resized = g_resized, .opaque = g };
	const struct chardev_stdio_opts o = { .escape = 0x1d, .quit = g_quit, .opaque = g };
	struct err e;

	memset(g, 0, sizeof(*g));
	g->room = room;
	if (loop_new(&g->l) || chardev_stdio_new(g->l, &o, &g->c, &e))
		_exit(90);
	chardev_attach(g->c, &f);
}

/* Turns the loop until cond, at most 5 s. */
#define UNTIL(g, cond) \
	do { \
		for (int i_ = 0; i_ < 500 && !(cond); i_++) \
			loop_turn((g)->l, 10); \
		if (!(cond)) \
			_exit(91); \
	} while (0)

static int run_child(int in, int out, void (*fn)(void))
{
	int st;
	pid_t pid = fork();

	if (!pid) {
		setsid();
		if (in >= 0)
			dup2(in, 0);
		else
			close(0);
		if (in >= 0 && isatty(0))
			ioctl(0, TIOCSCTTY, 0);
		if (out >= 0)
			dup2(out, 1);
		else
			close(1);
		for (int sig = 1; sig < 32; sig++)
			signal(sig, SIG_DFL);	/* cmocka has its own */
		std_fds_open();			/* as every program's main does */
		fn();
		_exit(99);
	}
	assert_int_equal(waitpid(pid, &st, 0), pid);
	return WIFEXITED(st) ? WEXITSTATUS(st) : -WTERMSIG(st);
}

static bool is_raw(int fd)
{
	struct termios t;

	assert_int_equal(tcgetattr(fd, &t), 0);
	return !(t.c_lflag & (ICANON | ECHO | ISIG)) && !(t.c_oflag & OPOST);
}

/* Ways to end. */

static void end_by_free(void)
{
	struct guest g;

	g_open(&g, 100);
	if (!is_raw(0))
		_exit(1);
	chardev_free(g.c);
	loop_free(g.l);
	_exit(is_raw(0) ? 2 : 0);
}
static void end_by_exit(void)
{
	struct guest g;

	g_open(&g, 100);
	exit(is_raw(0) ? 0 : 1);
}
static void end_by_sigterm(void)
{
	struct guest g;

	g_open(&g, 100);
	raise(SIGTERM);
}
static void end_by_sighup(void)
{
	struct guest g;

	g_open(&g, 100);
	raise(SIGHUP);
}
static void end_by_abort(void)
{
	struct guest g;

	g_open(&g, 100);
	abort();
}
#ifndef __SANITIZE_ADDRESS__		/* it has its own idea of SIGSEGV */
static void end_by_fault(void)
{
	struct guest g;

	g_open(&g, 100);
	*(volatile int *)(uintptr_t)g.n = 1;
}
#endif

static void terminal_is_restored(void **state)
{
	static const struct {
		void (*fn)(void);
		int status;
	} ends[] = { { end_by_free, 0 }, { end_by_exit, 0 }, { end_by_sigterm, -SIGTERM },
		     { end_by_sighup, -SIGHUP }, { end_by_abort, -SIGABRT } };
	int master, slave;

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
		assert_int_equal(run_child(slave, slave, ends[i].fn), ends[i].status);
		assert_false(is_raw(slave));
		close(master);
		close(slave);
	}
#ifndef __SANITIZE_ADDRESS__
	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(run_child(slave, slave, end_by_fault), -SIGSEGV);
	assert_false(is_raw(slave));
	close(master);
	close(slave);
#endif
}

static void continue_child(void)
{
	struct termios t;
	struct guest g;

	g_open(&g, 100);
	tcgetattr(0, &t);
	t.c_lflag |= ICANON | ECHO | ISIG;	/* what a shell does when its job stops */
	t.c_oflag |= OPOST;
	tcsetattr(0, TCSANOW, &t);
	raise(SIGCONT);
	exit(is_raw(0) ? 0 : 1);
}

static void a_continued_job_is_raw_again(void **state)
{
	int master, slave;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(run_child(slave, slave, continue_child), 0);
	assert_false(is_raw(slave));
	close(master);
	close(slave);
}

static void escape_child(void)
{
	struct guest g;

	g_open(&g, 0);			/* a hung guest: it reads nothing */
	UNTIL(&g, g.quit);
	_exit(0);
}

static void escape_works_on_a_hung_guest(void **state)
{
	int master, slave;
	char junk[4096];

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	memset(junk, 'j', sizeof(junk));
	assert_int_equal(write(master, "abc\x1d" "def", 7), 7);
	/* Typed before raw mode: the line discipline keeps what is not a line, so
	 * type again once the child is up. */
	pid_t typist = fork();

	if (!typist) {
		for (int i = 0; i < 100; i++) {
			if (write(master, junk, 100) < 0 || write(master, "\x1d", 1) < 0)
				break;
			usleep(20000);
		}
		_exit(0);
	}
	assert_int_equal(run_child(slave, slave, escape_child), 0);
	kill(typist, SIGKILL);
	waitpid(typist, NULL, 0);
	close(master);
	close(slave);
}

static void echo_child(void)
{
	struct guest g;

	g_open(&g, 100000);
	UNTIL(&g, g.hangup);
	if (chardev_write(g.c, (uint8_t *)g.in, g.n) != g.n)
		_exit(1);
	if (fcntl(0, F_GETFL) & O_NONBLOCK || fcntl(1, F_GETFL) & O_NONBLOCK)
		_exit(2);
	chardev_free(g.c);
	_exit(0);
}

static void file_in_file_out(void **state)
{
	FILE *in = tmpfile(), *out = tmpfile();
	char buf[8192] = "";
	size_t want = 6000;

	for (size_t i = 0; i < want; i++)
		fputc('a' + (int)(i % 26), in);
	rewind(in);
	assert_int_equal(run_child(fileno(in), fileno(out), echo_child), 0);
	rewind(out);
	assert_int_equal(fread(buf, 1, sizeof(buf), out), want);
	assert_int_equal(buf[want - 1], 'a' + (int)((want - 1) % 26));
	fclose(in);
	fclose(out);
}

static void pipes_and_sockets(void **state)
{
	int in[2], out[2], s[2];
	char buf[64] = "";

	assert_int_equal(pipe(in) | pipe(out), 0);
	assert_int_equal(write(in[1], "through", 7), 7);
	close(in[1]);
	assert_int_equal(run_child(in[0], out[1], echo_child), 0);
	assert_int_equal(read(out[0], buf, sizeof(buf)), 7);
	assert_string_equal(buf, "through");
	close(in[0]);
	close(out[0]);
	close(out[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	assert_int_equal(write(s[0], "socket", 6), 6);
	shutdown(s[0], SHUT_WR);
	assert_int_equal(run_child(s[1], s[1], echo_child), 0);
	assert_int_equal(read(s[0], buf, sizeof(buf)), 6);
	close(s[0]);
	close(s[1]);
}

static void no_descriptors_at_all(void **state)
{
	int null = open("/dev/null", O_RDWR), full = open("/dev/full", O_RDWR);

	assert_int_equal(run_child(null, null, echo_child), 0);
	assert_int_equal(run_child(null, full, echo_child), 0);
	close(null);
	close(full);
}

static void closed_child(void)
{
	struct guest g;

	g_open(&g, 100);
	loop_turn(g.l, 10);
	if (chardev_write(g.c, (const uint8_t *)"x", 1) != 1)
		_exit(1);
	chardev_free(g.c);
	_exit(0);
}

static void closed_descriptors_do(void **state)
{
	int out[2];

	assert_int_equal(run_child(-1, -1, closed_child), 0);
	assert_int_equal(pipe(out), 0);
	close(out[0]);			/* nobody reads: EPIPE, not SIGPIPE */
	assert_int_equal(run_child(-1, out[1], closed_child), 0);
	close(out[1]);
}

static void full_pipe_child(void)
{
	struct guest g;
	static uint8_t buf[10000];
	size_t n, sum = 0;

	g_open(&g, 100);
	do {
		n = chardev_write(g.c, buf, sizeof(buf));
		sum += n;
	} while (n == sizeof(buf) && sum < 1000000);
	_exit(sum < 300000 ? 0 : 1);	/* came back, with a bounded amount taken */
}

static void a_full_pipe_does_not_block(void **state)
{
	int out[2];

	assert_int_equal(pipe(out), 0);
	alarm(20);
	assert_int_equal(run_child(-1, out[1], full_pipe_child), 0);
	alarm(0);
	assert_false(fcntl(out[1], F_GETFL) & O_NONBLOCK);
	close(out[0]);
	close(out[1]);
}

static void resize_child(void)
{
	struct guest g;
	struct winsize ws = { .ws_col = 80, .ws_row = 25 };
	unsigned cols, rows;

	g_open(&g, 100);
	ioctl(0, TIOCSWINSZ, &ws);
	chardev_size(g.c, &cols, &rows);
	if (cols != 80 || rows != 25)
		_exit(1);
	raise(SIGWINCH);
	UNTIL(&g, g.cols == 80);
	_exit(0);
}

static void the_size_follows_the_window(void **state)
{
	int master, slave;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, NULL), 0);
	assert_int_equal(run_child(slave, slave, resize_child), 0);
	close(master);
	close(slave);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(terminal_is_restored),
		cmocka_unit_test(a_continued_job_is_raw_again),
		cmocka_unit_test(escape_works_on_a_hung_guest),
		cmocka_unit_test(file_in_file_out),
		cmocka_unit_test(pipes_and_sockets),
		cmocka_unit_test(no_descriptors_at_all),
		cmocka_unit_test(closed_descriptors_do),
		cmocka_unit_test(a_full_pipe_does_not_block),
		cmocka_unit_test(the_size_follows_the_window),
	};

	setenv("LODGE_LOG", "error", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
