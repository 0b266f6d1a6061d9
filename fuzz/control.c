// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A client of the control protocol that says anything, to a VM that is built and
 * does not run: the splitter, the parser, the checks and the commands themselves.
 * The first byte chooses whether the negotiation is done for it; the rest is sent
 * in pieces.  When the client is gone so is all it had.
 *
 * Commands act on files.  So that a finding is not a file of the host, slashes and
 * escapes by which one could be written are replaced, and the working directory is
 * a new one in /tmp.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bits.h"
#include "control/control.h"
#include "vm/live.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECE 512

static struct vm *vm;
static struct control *ctl;
static struct machine *m;
static struct conf *conf;

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
}

static void build(void)
{
	static const char *const keys[][2] = {
		{ "kernel", "/dev/null" }, { "accel", "interp" }, { "memory", "2M" }, { "console", "none" }, { "control", "off" },
		{ "disk.0.file", "null-co://1M" }, { "disk.0.iothread", "off" }, { "net.0.kind", "none" },
	};
	static struct vm_config cfg;
	static char folder[] = "/tmp/fuzz-control-XXXXXX";
	struct err e;

	require(mkdtemp(folder) && !chdir(folder));
	setenv("LODGE_LOG", "error", 1);
	vm_block_signals();
	require(!conf_new(&conf));
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
		while (recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
			;
	}
}

static void say(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = send(fd, p, MIN(len, (size_t)PIECE), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		p += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
		turn(fd, 3);
	}
}

static char *harmless(const uint8_t *data, size_t size)
{
	char *p = malloc(size + 1);

	require(p != NULL);
	memcpy(p, data, size);
	for (size_t i = 0; i < size; i++)
		if (p[i] == '/' || (p[i] == 'u' && i && p[i - 1] == '\\'))
			p[i] = '_';
	return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char caps[] = "{'execute':'qmp_capabilities','arguments':{'enable':['oob']}}";
	char *text;
	int fds[2];

	if (!vm)
		build();
	if (size < 2)
		return 0;
	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	machine_lock(m);
	require(!control_attach(ctl, fds[1]));
	machine_unlock(m);
	turn(fds[0], 2);
	if (data[0] & 1)
		say(fds[0], caps, sizeof(caps) - 1);
	text = harmless(data + 1, size - 1);
	say(fds[0], text, size - 1);
	free(text);
	shutdown(fds[0], SHUT_WR);
	turn(fds[0], 20);
	close(fds[0]);
	for (unsigned i = 0; control_clients(ctl); i++) {
		require(i < 100000);
		require(!loop_turn(m->loop, 0));
	}
	return 0;
}
