// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A gdb that says anything to the stub of a VM that is built and whose CPUs have no
 * threads.  With an even first byte each line of the rest becomes a packet with a
 * right sum, else the rest is sent as it is.  When the client is gone so are its
 * breakpoints.  Commands of the monitor are the target `control`'s.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bits.h"
#include "control/control.h"
#include "vm/live.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vm *vm;
static struct control *ctl;
static struct machine *m;
static struct conf *conf;
static struct sockaddr_un at = { .sun_family = AF_UNIX };

static void require(int ok)
{
	if (!ok)
		abort();
}

/* What is left at the end would count as leaks. */
static void end(void)
{
	control_free(ctl);
	vm_free(vm);
	conf_free(conf);
	*strrchr(at.sun_path, '/') = '\0';
	rmdir(at.sun_path);
}

static void build(void)
{
	static const char *const keys[][2] = {
		{ "kernel", "/dev/null" }, { "accel", "interp" }, { "memory", "2M" }, { "console", "none" }, { "control", "off" },
		{ "net.0.kind", "none" }, { "cpus", "2" },
	};
	static struct vm_config cfg;
	static char folder[] = "/tmp/fuzz-gdb-XXXXXX";
	char text[128];
	struct err e;

	require(mkdtemp(folder) != NULL);
	setenv("LODGE_LOG", "error", 1);
	vm_block_signals();
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/gdb", folder);
	snprintf(text, sizeof(text), "unix:%s", at.sun_path);
	require(!conf_new(&conf) && !conf_set(conf, "gdb", text, &e));
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		require(!conf_set(conf, keys[i][0], keys[i][1], &e));
	require(!vm_config_from(conf, &cfg, &e) && !vm_new(&cfg, &vm, &e) && !control_new(vm, &ctl, &e));
	m = vm_machine(vm);
	require(!atexit(end));
}

static void turn(int fd, unsigned n)
{
	static uint8_t waste[65536];

	while (n--) {
		require(!loop_turn(m->loop, 0));
		while (fd >= 0 && recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
			;
	}
}

static void say(int fd, const void *p, size_t len)
{
	const char *at_byte = p;

	while (len) {
		ssize_t n = send(fd, at_byte, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		at_byte += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
		turn(fd, 2);
	}
}

static void say_packet(int fd, const uint8_t *p, size_t len)
{
	uint8_t sum = 0;
	char tail[4];

	if (len && (*p == 'k' || (len > 4 && (!memcmp(p, "qRcmd", 5) || !memcmp(p, "vKill", 5)))))
		return;
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	say(fd, "$", 1);
	say(fd, p, len);
	snprintf(tail, sizeof(tail), "#%02x", sum);
	say(fd, tail, 3);
	turn(fd, 4);
}

static void say_lines(int fd, const uint8_t *p, size_t len)
{
	while (len) {
		const uint8_t *nl = memchr(p, '\n', len);
		size_t n = nl ? (size_t)(nl - p) : len;

		say_packet(fd, p, n);
		n = MIN(n + 1, len);
		p += n;
		len -= n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd;

	if (!vm)
		build();
	/* The same in each run. */
	if (size < 2 || memmem(data, size, "$k", 2) || memmem(data, size, "$qRcmd", 6) || memmem(data, size, "$vKill", 6))
		return 0;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	require(fd >= 0 && !connect(fd, (struct sockaddr *)&at, sizeof(at)));
	turn(fd, 3);
	if (data[0] & 1)
		say(fd, data + 1, size - 1);
	else
		say_lines(fd, data + 1, size - 1);
	turn(fd, 4);
	close(fd);
	turn(-1, 6);
	return 0;
}
