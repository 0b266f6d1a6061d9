// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A gdb that says anything to the stub of a VM that is built and whose CPUs have no
 * threads.  With an even first byte each line of the rest becomes a packet with a
 * right sum, else the rest is sent as it is.  When the client is gone so are its
 * breakpoints.  Commands of the monitor are the target `control`'s.
 */
#include "control_fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TURNS 2

static struct sockaddr_un at = { .sun_family = AF_UNIX };

/* After the stub has taken its socket away. */
static void end(void)
{
	*strrchr(at.sun_path, '/') = '\0';
	rmdir(at.sun_path);
}

static void build(void)
{
	static char folder[] = "/tmp/fuzz-gdb-XXXXXX";
	char text[128];
	const char *const keys[][2] = { { "gdb", text }, { "cpus", "2" } };

	require(mkdtemp(folder) != NULL);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s/gdb", folder);
	snprintf(text, sizeof(text), "unix:%s", at.sun_path);
	require(!atexit(end));
	fuzz_vm_build(keys, ARRAY_LEN(keys));
}

static void say_packet(int fd, const uint8_t *p, size_t len)
{
	uint8_t sum = 0;
	char tail[4];

	if (len && (*p == 'k' || (len > 4 && (!memcmp(p, "qRcmd", 5) || !memcmp(p, "vKill", 5)))))
		return;
	for (size_t i = 0; i < len; i++)
		sum += p[i];
	say(fd, "$", 1, 1, TURNS);
	say(fd, p, len, len, TURNS);
	snprintf(tail, sizeof(tail), "#%02x", sum);
	say(fd, tail, 3, 3, TURNS);
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
		say(fd, data + 1, size - 1, size - 1, TURNS);
	else
		say_lines(fd, data + 1, size - 1);
	turn(fd, 4);
	close(fd);
	turn(-1, 6);
	return 0;
}
