/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chardevs on sockets: a server's clients one after the other, a client that connects
 * again, flow both ways past all buffers, what nobody takes is lost and holds up
 * nothing.  And ring buffers, and files that are gone on with.
 */
#include "../unit.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "chardev/chardev.h"

struct ctx {
	struct loop *l;
	struct chardev *c;
	char dir[40], path[64];
	char in[300000];
	size_t n_in, room;
	unsigned opened, hangup, writable, brk;
};

static size_t can_read(void *o) { return ((struct ctx *)o)->room; }
static void on_writable(void *o) { ((struct ctx *)o)->writable++; }
static void on_hangup(void *o) { ((struct ctx *)o)->hangup++; }
static void on_break(void *o) { ((struct ctx *)o)->brk++; }
static void on_opened(void *o) { ((struct ctx *)o)->opened++; }

static void on_read(void *o, const uint8_t *buf, size_t len)
{
	struct ctx *c = o;

	memcpy(c->in + c->n_in, buf, len);
	c->n_in += len;
	c->room -= len;
}

static void attach(struct ctx *c)
{
	const struct chardev_front f = { .can_read = can_read, .read = on_read, .writable = on_writable, .hangup = on_hangup,
					 .opened = on_opened, .brk = on_break, .opaque = c };

	assert_false(chardev_in_use(c->c));
	chardev_attach(c->c, &f);
	assert_true(chardev_in_use(c->c));
}

static int setup(void **state)
{
	struct ctx *c = calloc(1, sizeof(*c));

	strcpy(c->dir, "/tmp/lodge-socket-XXXXXX");
	assert_non_null(mkdtemp(c->dir));
	snprintf(c->path, sizeof(c->path), "%s/s", c->dir);
	assert_int_equal(loop_new(&c->l), 0);
	c->room = sizeof(c->in);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct ctx *c = *state;

	chardev_free(c->c);
	loop_free(c->l);
	assert_int_not_equal(access(c->path, F_OK), 0);	/* a server takes its socket away */
	rmdir(c->dir);
	free(c);
	return 0;
}

static void turns(struct ctx *c, int n)
{
	while (n--)
		loop_turn(c->l, 5);
}

static void until(struct ctx *c, const unsigned *what, unsigned want)
{
	for (int i = 0; i < 1000 && *what != want; i++)
		loop_turn(c->l, 5);
	assert_int_equal(*what, want);
}

static int peer(struct ctx *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, c->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static int listener(struct ctx *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(a.sun_path, c->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	return fd;
}

static void server(struct ctx *c)
{
	const struct chardev_socket_opts o = { .path = c->path, .server = true };
	struct err e;

	assert_int_equal(chardev_socket_new(c->l, &o, &c->c, &e), 0);
	attach(c);
}

static size_t write_text(struct ctx *c, const char *text) { return chardev_write(c->c, (const uint8_t *)text, strlen(text)); }

static void expect(int fd, const char *text)
{
	char buf[64] = "";

	assert_int_equal(recv(fd, buf, strlen(text), MSG_WAITALL), strlen(text));
	assert_string_equal(buf, text);
}

static void clients_one_after_the_other(void **state)
{
	struct ctx *c = *state;
	struct stat st;
	int a, b;

	server(c);
	assert_int_equal(stat(c->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_false(chardev_is_open(c->c));
	assert_int_equal(write_text(c, "lost"), 4);
	a = peer(c);
	until(c, &c->opened, 1);
	assert_true(chardev_is_open(c->c));
	assert_int_equal(write_text(c, "one"), 3);
	expect(a, "one");
	b = peer(c);				/* waits */
	assert_int_equal(send(b, "second", 6, 0), 6);
	assert_int_equal(send(a, "first", 5, 0), 5);
	close(a);
	until(c, &c->opened, 2);
	turns(c, 3);
	assert_memory_equal(c->in, "firstsecond", 11);
	assert_int_equal(write_text(c, "two"), 3);
	expect(b, "two");
	close(b);
	until(c, &c->hangup, c->hangup + 1);
	assert_false(chardev_is_open(c->c));
}

static void flow_both_ways(void **state)
{
	static uint8_t big[400000], back[400000];
	struct ctx *c = *state;
	size_t sent = 0, got = 0;
	int a;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 7 >> 3);
	server(c);
	a = peer(c);
	until(c, &c->opened, 1);
	/* Out: it takes less than all, and says when it takes more. */
	sent = chardev_write(c->c, big, sizeof(big));
	assert_true(sent < sizeof(big));
	turns(c, 2);
	assert_int_equal(c->writable, 0);
	while (got < sizeof(big)) {
		ssize_t n = recv(a, back + got, sizeof(back) - got, MSG_DONTWAIT);

		got += n > 0 ? (size_t)n : 0;
		turns(c, 1);
		if (c->writable && sent < sizeof(big)) {
			c->writable = 0;
			sent += chardev_write(c->c, big + sent, sizeof(big) - sent);
		}
	}
	assert_memory_equal(back, big, sizeof(big));
	/* In: as much as there is room for, and no more is read than buffers hold. */
	c->room = 1000;
	fcntl(a, F_SETFL, O_NONBLOCK);
	for (sent = 0, got = 0; sent < 300000 && got < 100; got++) {
		ssize_t n = send(a, big + sent, 300000 - sent, 0);

		sent += n > 0 ? (size_t)n : 0;
		turns(c, 1);
	}
	assert_int_equal(c->n_in, 1000);
	while (c->n_in < 300000) {
		ssize_t n = sent < 300000 ? send(a, big + sent, 300000 - sent, 0) : 0;

		sent += n > 0 ? (size_t)n : 0;
		c->room = 10000;
		chardev_kick(c->c);
		turns(c, 1);
	}
	assert_memory_equal(c->in, big, 300000);
	close(a);
}

/* What somebody says before they go is heard, however slowly. */
static void last_words(void **state)
{
	static uint8_t big[150000];
	struct ctx *c = *state;
	int a;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (uint8_t)(i * 5 >> 2);
	server(c);
	c->room = 0;
	a = peer(c);
	until(c, &c->opened, 1);
	assert_int_equal(send(a, big, sizeof(big), 0), sizeof(big));
	close(a);
	turns(c, 50);
	while (c->n_in < sizeof(big)) {
		assert_int_equal(c->hangup, 0);
		c->room = 20000;
		chardev_kick(c->c);
		turns(c, 2);
	}
	assert_memory_equal(c->in, big, sizeof(big));
	until(c, &c->hangup, 1);
	a = peer(c);
	until(c, &c->opened, 2);
	close(a);
}

/* Full, and the reader goes: the writer is let on. */
static void reader_that_goes(void **state)
{
	static uint8_t big[1 << 20];
	struct ctx *c = *state;
	int a;

	server(c);
	a = peer(c);
	until(c, &c->opened, 1);
	assert_true(chardev_write(c->c, big, sizeof(big)) < sizeof(big));
	close(a);
	until(c, &c->writable, 1);
	assert_int_equal(chardev_write(c->c, big, sizeof(big)), sizeof(big));
	assert_int_equal(c->hangup, 1);
}

static void client_connects_again(void **state)
{
	struct ctx *c = *state;
	const struct chardev_socket_opts o = { .path = c->path, .reconnect_s = 1 };
	struct err e;
	int l, a;

	setenv("LODGE_LOG", "error", 1);
	assert_int_equal(chardev_socket_new(c->l, &o, &c->c, &e), 0);	/* nobody there yet */
	attach(c);
	turns(c, 3);
	assert_int_equal(c->opened, 0);
	l = listener(c);
	until(c, &c->opened, 1);
	a = accept(l, NULL, NULL);
	write_text(c, "hello");
	expect(a, "hello");
	close(a);
	until(c, &c->hangup, 1);
	until(c, &c->opened, 2);
	a = accept(l, NULL, NULL);
	write_text(c, "again");
	expect(a, "again");
	close(a);
	close(l);
	unlink(c->path);
}

static void client_once(void **state)
{
	struct ctx *c = *state;
	const struct chardev_socket_opts o = { .path = c->path };
	struct err e = { "" };
	int l, a;

	assert_int_equal(chardev_socket_new(c->l, &o, &c->c, &e), -ENOENT);
	assert_non_null(strstr(e.msg, c->path));
	l = listener(c);
	assert_int_equal(chardev_socket_new(c->l, &o, &c->c, &e), 0);
	attach(c);
	turns(c, 2);
	assert_int_equal(c->opened, 1);
	a = accept(l, NULL, NULL);
	close(a);
	close(l);
	unlink(c->path);
	until(c, &c->hangup, 1);
}

static void tcp(void **state)
{
	struct ctx *c = *state;
	const struct chardev_socket_opts any = { .port = "0", .server = true };
	const struct chardev_socket_opts bad = { .host = "300.1.2.3", .port = "1", .server = true };
	struct err e = { "" };

	assert_int_equal(chardev_socket_new(c->l, &bad, &c->c, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "300.1.2.3"));
	assert_int_equal(chardev_socket_new(c->l, &any, &c->c, &e), 0);
	assert_string_equal(chardev_name(c->c), "tcp:127.0.0.1:0,server=on");
}

static void waits_for_a_client(void **state)
{
	struct ctx *c = *state;
	struct err e;
	int a;

	setenv("LODGE_LOG", "error", 1);
	server(c);
	a = peer(c);
	assert_int_equal(chardev_socket_wait(c->c, &e), 0);
	until(c, &c->opened, 1);
	close(a);
}

static void ring_buffer(void **state)
{
	struct ctx *c = *state;
	uint8_t buf[32];
	struct err e;

	assert_int_equal(chardev_ringbuf_new(c->l, 15, &c->c, &e), -EINVAL);
	assert_int_equal(chardev_ringbuf_new(c->l, 0, &c->c, &e), -EINVAL);
	assert_int_equal(chardev_ringbuf_new(c->l, 16, &c->c, &e), 0);
	assert_int_equal(write_text(c, "1"), 1);	/* a single byte takes another way */
	assert_int_equal(write_text(c, "0123456789"), 10);
	assert_int_equal(chardev_ringbuf_read(c->c, buf, 4), 4);
	assert_memory_equal(buf, "1012", 4);
	write_text(c, "abcdefghijklm");
	assert_int_equal(chardev_ringbuf_read(c->c, buf, sizeof(buf)), 16);
	assert_memory_equal(buf, "789abcdefghijklm", 16);
	assert_int_equal(chardev_ringbuf_read(c->c, buf, sizeof(buf)), 0);
	write_text(c, "A text of more than sixteen bytes");
	assert_int_equal(chardev_ringbuf_write(c->c, (const uint8_t *)"!", 1), 0);
	assert_int_equal(chardev_ringbuf_read(c->c, buf, sizeof(buf)), 16);
	assert_memory_equal(buf, "n sixteen bytes!", 16);
}

static void file_is_gone_on_with(void **state)
{
	struct ctx *c = *state;
	char buf[32] = "";
	struct err e;
	int fd;

	for (int i = 0; i < 3; i++) {
		assert_int_equal(chardev_file_new(c->l, c->path, i == 1, &c->c, &e), 0);
		write_text(c, i ? "more" : "some");
		chardev_free(c->c);
		c->c = NULL;
		fd = open(c->path, O_RDONLY);
		assert_int_equal(read(fd, buf, sizeof(buf)), i == 1 ? 8 : 4);
		close(fd);
	}
	assert_memory_equal(buf, "moremore", 8);
	unlink(c->path);
}

/* Options are answered for, commands are not data, IAC that is data comes through both ways. */
static void telnet(void **state)
{
	struct ctx *c = *state;
	const struct chardev_socket_opts o = { .path = c->path, .server = true, .telnet = true };
	static const uint8_t hello[] = { 255, 251, 1, 255, 251, 3, 255, 251, 0, 255, 253, 0 };
	static const uint8_t in[] = { 'a', 255, 253, 1, 'b', 255, 255, 255, 250, 24, 'x', 255, 255, 'y', 255, 240, '\r', 0, 'c', 255, 243, 255, 241, '\r', '\n', 0 };
	static const uint8_t data[] = { 'a', 'b', 255, '\r', 'c', '\r', '\n', 0 };
	struct err e;
	uint8_t buf[64];
	int fd;

	assert_int_equal(chardev_socket_new(c->l, &o, &c->c, &e), 0);
	attach(c);
	fd = peer(c);
	turns(c, 3);
	assert_int_equal(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), sizeof(hello));
	assert_memory_equal(buf, hello, sizeof(hello));
	for (size_t i = 0; i < sizeof(in); i++) {
		assert_int_equal(send(fd, in + i, 1, 0), 1);
		turns(c, 1);
	}
	turns(c, 3);
	assert_int_equal(c->n_in, sizeof(data));
	assert_memory_equal(c->in, data, sizeof(data));
	assert_int_equal(c->brk, 1);
	assert_int_equal(chardev_write(c->c, (const uint8_t *)"x\377y\377", 4), 4);
	turns(c, 2);
	assert_int_equal(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), 6);
	assert_memory_equal(buf, "x\377\377y\377\377", 6);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(clients_one_after_the_other, setup, teardown),
		cmocka_unit_test_setup_teardown(flow_both_ways, setup, teardown),
		cmocka_unit_test_setup_teardown(reader_that_goes, setup, teardown),
		cmocka_unit_test_setup_teardown(last_words, setup, teardown),
		cmocka_unit_test_setup_teardown(client_connects_again, setup, teardown),
		cmocka_unit_test_setup_teardown(client_once, setup, teardown),
		cmocka_unit_test_setup_teardown(tcp, setup, teardown),
		cmocka_unit_test_setup_teardown(waits_for_a_client, setup, teardown),
		cmocka_unit_test_setup_teardown(telnet, setup, teardown),
		cmocka_unit_test_setup_teardown(ring_buffer, setup, teardown),
		cmocka_unit_test_setup_teardown(file_is_gone_on_with, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
