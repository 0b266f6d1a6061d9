/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks on web servers: a small server of our own (a process) that knows ranges,
 * and can forget them, lie, stop in the middle, change its file, and redirect.
 */
#include "peer.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "block/image.h"
#include "block/protocol.h"
#include "block/qcow2/qcow2.h"

#define SIZE (3u << 20)
#define ODD (SIZE - 700)

static struct loop *loop;
static uint16_t port;
static pid_t server;
static unsigned *served;		/* requests, shared with the server */

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off * 31 + (off >> 9) * 7 + (off >> 18));
}

/* ---- the server ---- */

static void send_all(int fd, const void *data, size_t len)
{
	for (const uint8_t *p = data; len;) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
}

static void say(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

/* False: the connection ends. */
static bool answer(int fd, const char *path, uint64_t from, uint64_t to, bool has_range)
{
	char head[512], mark[32] = "\"one\"";
	uint64_t total = strstr(path, "odd") ? ODD : SIZE, said = from;
	uint8_t *body;

	++*served;
	if (strstr(path, "missing")) {
		say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	if (strstr(path, "hop") || strstr(path, "circle")) {
		snprintf(head, sizeof(head), "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n",
			 strstr(path, "hop") ? "/good" : "/circle");
		say(fd, head);
		return true;
	}
	if (strstr(path, "tofile")) {
		say(fd, "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
		return true;
	}
	if (strstr(path, "whole") || !has_range) {
		snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", SIZE);
		say(fd, head);
		return false;
	}
	to = MIN(to, total - 1);
	if (strstr(path, "liar") && from)
		said = from + 512;
	if (strstr(path, "changes") && *served > 3)
		strcpy(mark, "\"two\"");
	snprintf(head, sizeof(head), "HTTP/1.1 206 Partial Content\r\nContent-Length: %" PRIu64 "\r\nETag: %s\r\n"
		 "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n\r\n", to - from + 1, mark, said, to, total);
	say(fd, head);
	body = malloc(to - from + 1);
	for (uint64_t i = from; i <= to; i++)
		body[i - from] = byte_at(i);
	/* Every third answer stops in the middle; asked again it is whole. */
	if (strstr(path, "flaky") && to - from > 1 && *served % 3 == 0) {
		send_all(fd, body, (to - from) / 2);
		free(body);
		return false;
	}
	if (strstr(path, "dies") && from) {
		free(body);
		return false;
	}
	send_all(fd, body, to - from + 1);
	free(body);
	return true;
}

static void serve_one(int fd)
{
	char text[4096], path[256];
	size_t have = 0;

	for (;;) {
		unsigned long long from = 0, to = 0;
		const char *range;
		ssize_t n = recv(fd, text + have, sizeof(text) - 1 - have, 0);

		if (n <= 0)
			break;
		have += (size_t)n;
		text[have] = '\0';
		if (!strstr(text, "\r\n\r\n"))
			continue;
		range = strcasestr(text, "\r\nRange: bytes=");
		if (range)
			sscanf(range + 15, "%llu-%llu", &from, &to);
		if (sscanf(text, "GET %255s", path) != 1 || !answer(fd, path, from, to, range != NULL))
			break;
		have = 0;
	}
	close(fd);
}

static int start_http(void **state)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 16) || getsockname(fd, (struct sockaddr *)&a, &len))
		return -1;
	port = ntohs(a.sin_port);
	served = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	server = fork();
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		signal(SIGCHLD, SIG_IGN);
		for (;;) {
			int c = accept(fd, NULL, NULL);

			if (fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				serve_one(c);
				_exit(0);
			}
			close(c);
		}
	}
	close(fd);
	return loop_new(&loop);
}

static int stop_http(void **state)
{
	peer_kill(server);
	munmap(served, 4096);
	loop_free(loop);
	return 0;
}

/* ---- the client ---- */

static int open_page(const char *page, bool read_only, struct blk_node **n, struct err *e)
{
	const struct blk_image_opts o = { .format = "raw", .file.read_only = read_only };
	char url[256];

	*served = 0;
	snprintf(url, sizeof(url), "http://user:secret@127.0.0.1:%u/%s", port, page);
	return blk_open_image(loop, url, &o, n, e);
}

static struct blk_node *page(const char *name)
{
	struct blk_node *n = NULL;
	struct err e = { 0 };

	if (open_page(name, true, &n, &e))
		fail_msg("%s", e.msg);
	return n;
}

static void check_data(const uint8_t *buf, uint64_t off, uint64_t len, uint64_t total)
{
	for (uint64_t i = 0; i < len; i++)
		if (buf[i] != (off + i < total ? byte_at(off + i) : 0))
			fail_msg("byte %llu is wrong", (unsigned long long)(off + i));
}

static void reads_at_random(struct blk_node *n, uint64_t total, unsigned count)
{
	uint8_t *buf = malloc(1 << 20);

	for (unsigned i = 0; i < count; i++) {
		uint64_t off = (uint64_t)random() % (n->i.size / 512) * 512;
		uint64_t len = ((uint64_t)random() % (random() % 4 ? 16 : 2048) + 1) * 512;

		len = MIN(len, n->i.size - off);
		memset(buf, 0xee, len);
		assert_int_equal(blk_pread(n, off, buf, len), 0);
		check_data(buf, off, len, total);
	}
	free(buf);
}

static void pages_are_read(void **state)
{
	struct blk_node *n = page("good");
	struct blk_extent x;
	unsigned before;
	uint8_t *buf = malloc(SIZE);

	srandom(1);
	assert_int_equal(n->i.size, SIZE);
	assert_true(n->i.read_only);
	/* In order: few requests, since what follows is fetched along. */
	for (uint64_t at = 0; at < SIZE; at += 65536)
		assert_int_equal(blk_pread(n, at, buf + at, 65536), 0);
	check_data(buf, 0, SIZE, SIZE);
	assert_in_range(*served, 2, 6);
	/* All is in the cache now. */
	before = *served;
	reads_at_random(n, SIZE, 200);
	assert_int_equal(*served, before);
	assert_int_equal(blk_block_status(n, 0, SIZE, false, &x), 0);
	assert_true(x.data && x.len == SIZE);
	assert_int_equal(blk_pwrite(n, 0, buf, 512), -EROFS);
	blk_close(n);
	n = page("odd");
	assert_int_equal(n->i.size, (ODD + 511) / 512 * 512);
	reads_at_random(n, ODD, 100);
	assert_int_equal(blk_pread(n, n->i.size - 512, buf, 512), 0);
	check_data(buf, n->i.size - 512, 512, ODD);
	blk_close(n);
	n = page("hop");
	reads_at_random(n, SIZE, 20);
	blk_close(n);
	free(buf);
}

struct many {
	struct blk_req r;
	struct iovec v;
	uint8_t *buf;
	unsigned *left;
};

static void many_done(struct blk_req *r, int ret)
{
	struct many *m = r->opaque;

	assert_int_equal(ret, 0);
	check_data(m->buf, r->offset, r->len, SIZE);
	--*m->left;
}

static void many_at_once(void **state)
{
	struct blk_node *n = page("good");
	struct many m[16];
	unsigned left = 16;

	for (unsigned i = 0; i < 16; i++) {
		m[i].buf = malloc(100 * 1024);
		m[i].v = (struct iovec){ m[i].buf, 100 * 1024 };
		m[i].left = &left;
		m[i].r = (struct blk_req){ .op = BLK_READ, .offset = (i * 7 % 16) * 180 * 1024, .len = 100 * 1024, .iov = &m[i].v,
					   .niov = 1, .done = many_done, .opaque = &m[i] };
		blk_submit(n, &m[i].r);
	}
	while (left)
		assert_int_equal(loop_turn(loop, 5000), 0);
	for (unsigned i = 0; i < 16; i++)
		free(m[i].buf);
	blk_close(n);
}

/* A connection that breaks in the middle is made again. */
static void flaky_servers(void **state)
{
	struct blk_node *n = page("flaky");

	srandom(2);
	reads_at_random(n, SIZE, 60);
	blk_close(n);
}

static void bad_servers(void **state)
{
	static const struct { const char *page, *words; } refused[] = {
		{ "whole", "ranges" }, { "missing", "404" }, { "circle", "redirect" }, { "tofile", "file" },
	};
	struct blk_node *n = NULL;
	uint8_t buf[512];
	struct err e = { 0 };

	for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
		assert_true(open_page(refused[i].page, true, &n, &e) < 0);
		if (!strstr(e.msg, refused[i].words))
			fail_msg("%s", e.msg);
		assert_null(strstr(e.msg, "cret"));
		assert_non_null(strstr(e.msg, "http://127.0.0.1"));
	}
	assert_int_equal(open_page("good", false, &n, &e), -EROFS);
	n = page("liar");
	assert_int_equal(blk_pread(n, 1 << 20, buf, 512), -EIO);
	blk_close(n);
	n = page("dies");
	assert_int_equal(blk_pread(n, 0, buf, 512), 0);
	assert_int_equal(blk_pread(n, SIZE - 512, buf, 512), -EIO);
	blk_close(n);
	n = page("changes");
	assert_int_equal(blk_pread(n, 0, buf, 512), 0);
	assert_int_equal(blk_pread(n, 2 << 20, buf, 512), 0);
	assert_int_equal(blk_pread(n, SIZE - 512, buf, 512), -EIO);
	blk_close(n);
}

/* As a backing file, if the user agrees. */
static void below_an_overlay(void **state)
{
	const struct blk_open_opts fo = { .open_ended = true };
	struct blk_image_opts io = { .trust = BLK_TRUST_FOLDER };
	struct qcow2_create_opts co = { .size = SIZE, .backing_format = "raw" };
	char path[64], url[128];
	uint8_t buf[512];
	struct blk_node *n = NULL;
	struct err e = { 0 };

	temp_path(path, sizeof(path));
	snprintf(url, sizeof(url), "http://127.0.0.1:%u/good", port);
	co.backing = url;
	assert_int_equal(blk_open_file(loop, path, &fo, &n, &e), 0);
	assert_int_equal(qcow2_create(n, &co, &e), 0);
	blk_close(n);
	assert_int_equal(blk_open_image(loop, path, &io, &n, &e), -EACCES);
	io.trust = BLK_TRUST_ALL;
	if (blk_open_image(loop, path, &io, &n, &e))
		fail_msg("%s", e.msg);
	assert_int_equal(blk_pread(n, 1 << 20, buf, 512), 0);
	check_data(buf, 1 << 20, 512, SIZE);
	memset(buf, 1, 512);
	assert_int_equal(blk_pwrite(n, 1 << 20, buf, 512), 0);
	assert_int_equal(blk_pread(n, (1 << 20) + 512, buf, 512), 0);
	check_data(buf, (1 << 20) + 512, 512, SIZE);
	blk_close(n);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_are_read),
		cmocka_unit_test(many_at_once),
		cmocka_unit_test(flaky_servers),
		cmocka_unit_test(bad_servers),
		cmocka_unit_test(below_an_overlay),
	};

	return cmocka_run_group_tests_name("block-http", tests, start_http, stop_http);
}
