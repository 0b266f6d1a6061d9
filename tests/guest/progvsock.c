/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's side of test_vsock.py, static:
 *
 *	progvsock echo PORT		a server that sends back what comes
 *	progvsock sink PORT		one that reads to the end and answers "CRC BYTES\n"
 *	progvsock source PORT BYTES	one that sends so many bytes, then "CRC BYTES\n"
 *	progvsock drop PORT		as sink and source, with no look at the bytes: what the
 *	progvsock zero PORT BYTES	connection itself takes is to be measured
 *	progvsock call PORT BYTES	connects to the host, sends, ends its direction, prints the answer
 *	progvsock many PORT N		so many connections to the host at once, each of which gets its own bytes back
 *	progvsock hold PORT		connects, says so, and then how the connection ended
 *
 * A server prints "ready" and has a process for each connection.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#define CHUNK 65536
#define HOST 2

static uint32_t crc_table[256];
static uint8_t buf[CHUNK];

static void fail(const char *what)
{
	printf("failed: %s: %s\n", what, strerror(errno));
	fflush(stdout);
	exit(1);
}

static void crc_init(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t c = i;

		for (int k = 0; k < 8; k++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		crc_table[i] = c;
	}
}

static uint32_t crc(uint32_t c, const uint8_t *p, size_t n)
{
	while (n--)
		c = crc_table[(c ^ *p++) & 0xff] ^ c >> 8;
	return c;
}

static void write_all(int fd, const void *p, size_t n)
{
	for (const char *at = p; n;) {
		ssize_t ret = write(fd, at, n);

		if (ret < 0)
			fail("write");
		at += ret;
		n -= (size_t)ret;
	}
}

static void answer(int fd, uint32_t c, unsigned long long n)
{
	char line[64];
	int len = snprintf(line, sizeof(line), "%08x %llu\n", ~c, n);

	write_all(fd, line, (size_t)len);
}

static void echo(int fd)
{
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		write_all(fd, buf, (size_t)n);
}

static void sink(int fd, int look)
{
	unsigned long long all = 0;
	uint32_t c = ~0u;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		if (look)
			c = crc(c, buf, (size_t)n);
		all += (size_t)n;
	}
	answer(fd, c, all);
}

static void zero(int fd, unsigned long long bytes)
{
	for (unsigned long long left = bytes; left;) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;

		write_all(fd, buf, n);
		left -= n;
	}
}

/* Bytes whose order a checksum tells. */
static void source(int fd, unsigned long long bytes)
{
	uint64_t s = 88172645463325252ull;
	uint32_t c = ~0u;

	for (unsigned long long left = bytes; left;) {
		size_t n = left < CHUNK ? (size_t)left : CHUNK;

		for (size_t i = 0; i < CHUNK; i += 8) {
			s ^= s << 13;
			s ^= s >> 7;
			s ^= s << 17;
			memcpy(buf + i, &s, 8);
		}
		c = crc(c, buf, n);
		write_all(fd, buf, n);
		left -= n;
	}
	answer(fd, c, bytes);
}

static void serve(const char *what, unsigned port, unsigned long long bytes)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (s < 0 || bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 256))
		fail("listen");
	printf("ready %u\n", port);
	fflush(stdout);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(s, NULL, NULL);

		if (fd < 0)
			fail("accept");
		if (fork()) {
			close(fd);
			continue;
		}
		close(s);
		if (*what == 'e')
			echo(fd);
		else if (*what == 'd' || what[1] == 'i')
			sink(fd, *what != 'd');
		else if (*what == 'z')
			zero(fd, bytes);
		else
			source(fd, bytes);
		_exit(0);
	}
}

static int to_host(unsigned port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = HOST, .svm_port = port };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (s < 0 || connect(s, (struct sockaddr *)&a, sizeof(a)))
		fail("connect");
	return s;
}

static void call(unsigned port, unsigned long long bytes)
{
	int fd = to_host(port);
	ssize_t n;

	source(fd, bytes);
	shutdown(fd, SHUT_WR);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		fwrite(buf, 1, (size_t)n, stdout);
	printf("called\n");
}

static void many(unsigned port, unsigned n)
{
	int fd[1024];
	unsigned refused = 0, good = 0;

	for (unsigned i = 0; i < n && i < 1024; i++) {
		struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = HOST, .svm_port = port };

		fd[i] = socket(AF_VSOCK, SOCK_STREAM, 0);
		if (connect(fd[i], (struct sockaddr *)&a, sizeof(a))) {
			close(fd[i]);
			fd[i] = -1;
			refused++;
		}
	}
	for (unsigned i = 0; i < n; i++)
		if (fd[i] >= 0)
			write_all(fd[i], &i, sizeof(i));
	for (unsigned i = 0; i < n; i++) {
		unsigned back = ~0u;

		if (fd[i] >= 0 && recv(fd[i], &back, sizeof(back), MSG_WAITALL) == sizeof(back) && back == i)
			good++;
	}
	printf("many: %u good, %u refused\n", good, refused);
}

static void hold(unsigned port)
{
	int fd = to_host(port);
	ssize_t n;

	printf("held\n");
	fflush(stdout);
	n = read(fd, buf, sizeof(buf));
	printf("hold ended: %s\n", n < 0 ? strerror(errno) : n ? "data" : "end");
}

int main(int argc, char **argv)
{
	unsigned port = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 0;
	unsigned long long n = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;

	crc_init();
	signal(SIGPIPE, SIG_IGN);
	if (argc < 3)
		return 2;
	if (!strcmp(argv[1], "call"))
		call(port, n);
	else if (!strcmp(argv[1], "many"))
		many(port, (unsigned)n);
	else if (!strcmp(argv[1], "hold"))
		hold(port);
	else
		serve(argv[1], port, n);
	return 0;
}
