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
#include "control_fuzz.h"

#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECE 512
#define TURNS 3

static void build(void)
{
	static const char *const keys[][2] = { { "disk.0.file", "null-co://1M" }, { "disk.0.iothread", "off" } };
	static char folder[] = "/tmp/fuzz-control-XXXXXX";

	require(mkdtemp(folder) && !chdir(folder));
	fuzz_vm_build(keys, ARRAY_LEN(keys));
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
		say(fds[0], caps, sizeof(caps) - 1, PIECE, TURNS);
	text = harmless(data + 1, size - 1);
	say(fds[0], text, size - 1, PIECE, TURNS);
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
