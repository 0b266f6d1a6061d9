// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Somebody who types at a monitor for people: by telnet or not, on a socket that takes the place of the last one's, with
 * lines that may make, change and take away chardevs, the monitor's own too.  What they type is seen by a mux of three
 * as well.  The VM does not run.  Commands act on files: see control.c.
 */
#include "control_fuzz.h"

#include <string.h>
#include <unistd.h>

#include "chardev/chardev.h"
#include "vm/chardevs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECE 512
#define TURNS 3

static void build(void)
{
	static const char *const keys[][2] = {
		{ "chardev.0.kind", "null" }, { "chardev.0.id", "m" }, { "monitor.0", "m" }, { "disk.0.file", "null-co://1M" }, { "disk.0.iothread", "off" },
	};
	static char folder[] = "/tmp/fuzz-monitor-XXXXXX";

	require(mkdtemp(folder) && !chdir(folder));
	fuzz_vm_build(keys, ARRAY_LEN(keys));
}

static size_t can_read(void *opaque) { return *(const uint8_t *)opaque; }
static void take(void *opaque, const uint8_t *buf, size_t len) { require(len <= *(const uint8_t *)opaque); }
static void look(void *opaque) { }
static void focus(void *opaque, bool here) { }
static void sink(void *opaque, const uint8_t *buf, size_t len) { }
static const char *save(void *opaque) { return "saved\r\n"; }

/* The bytes typed at a mux, the front ends of which take as many at a time as the first ones say. */
static void at_a_mux(const uint8_t *data, size_t size)
{
	const struct chardev_mux_opts o = { .escape = 1, .quit = look, .save = save };
	struct chardev *base, *mux, *part[3];

	require(!chardev_pipe_new(m->loop, sink, NULL, &base) && !chardev_mux_new(m->loop, base, &o, &mux));
	for (unsigned i = 0; i < ARRAY_LEN(part); i++) {
		require(!chardev_mux_part(mux, data[i] & 1, &part[i]));
		chardev_attach(part[i], &(struct chardev_front){ .can_read = can_read, .read = take, .writable = look, .hangup = look, .opened = look,
								 .brk = look, .focus = focus, .opaque = (void *)(uintptr_t)(data + i) });
	}
	for (size_t i = 3; i < size; i += MIN(size - i, data[0] + 1u)) {
		chardev_feed(base, data + i, MIN(size - i, data[0] + 1u));
		turn(-1, 1);
		for (unsigned k = 0; k < ARRAY_LEN(part); k++) {
			chardev_write(part[k], data, 3);
			chardev_kick(part[k]);
		}
	}
	if (data[1] & 2)
		chardev_mux_drop(part[data[2] % 3]);
	turn(-1, 2);
	machine_lock(m);
	chardev_free(mux);
	machine_unlock(m);
}

/* The monitor's chardev is there whatever was done, and no other. */
static void tidy(int fd, bool telnet)
{
	struct vm_chardev c = { .kind = VM_CHARDEV_SOCKET, .id = "m", .fd = (unsigned)fd, .telnet = telnet };
	const char *id;
	char pty[64];
	struct err e;

	machine_lock(m);
	for (unsigned i = 0; vm_chardev_nth(vm, i, &id);)
		i += vm_chardev_remove(vm, id, &e) != 0;
	require(!vm_chardev_change(vm, &c, pty, sizeof(pty), &e));
	machine_unlock(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text;
	int fds[2];

	if (!vm)
		build();
	if (size < 4)
		return 0;
	require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
	tidy(fds[1], data[0] & 1);
	text = malloc(size);
	require(text != NULL);
	memcpy(text, data, size);
	for (size_t i = 0; i < size; i++)
		text[i] = text[i] == '/' ? '_' : text[i];
	say(fds[0], text + 1, size - 1, PIECE, TURNS);
	free(text);
	turn(fds[0], 10);
	close(fds[0]);
	turn(-1, 4);
	at_a_mux(data, size);
	return 0;
}
