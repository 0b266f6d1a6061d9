/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What fuzzing the control protocol and the gdb stub shares: a VM that is built and
 * does not run, in a new folder of /tmp, and a client that speaks and does not listen.
 */
#ifndef LODGE_FUZZ_CONTROL_FUZZ_H
#define LODGE_FUZZ_CONTROL_FUZZ_H

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/bits.h"
#include "control/control.h"
#include "vm/live.h"

static struct vm *vm;
static struct control *ctl;
static struct machine *m;
static struct conf *conf;

static inline void require(int ok)
{
	if (!ok)
		abort();
}

/* What is left at the end would count as leaks. */
static inline void fuzz_vm_end(void)
{
	control_free(ctl);
	vm_free(vm);
	conf_free(conf);
}

/* With these keys besides what it takes to be small. */
static inline void fuzz_vm_build(const char *const (*keys)[2], size_t n)
{
	static const char *const all[][2] = {
		{ "kernel", "/dev/null" }, { "accel", "interp" }, { "memory", "2M" }, { "console", "none" }, { "control", "off" },
		{ "net.0.kind", "none" },
	};
	static struct vm_config cfg;
	struct err e;

	setenv("LODGE_LOG", "error", 1);
	vm_block_signals();
	require(!conf_new(&conf));
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		require(!conf_set(conf, all[i][0], all[i][1], &e));
	for (size_t i = 0; i < n; i++)
		require(!conf_set(conf, keys[i][0], keys[i][1], &e));
	require(!vm_config_from(conf, &cfg, &e) && !vm_new(&cfg, &vm, &e) && !control_new(vm, &ctl, &e));
	m = vm_machine(vm);
	require(!atexit(fuzz_vm_end));
}

/* n turns of the loop; what comes for the client, if there is one, is thrown away. */
static inline void turn(int fd, unsigned n)
{
	static uint8_t waste[65536];

	while (n--) {
		require(!loop_turn(m->loop, 0));
		while (fd >= 0 && recv(fd, waste, sizeof(waste), MSG_DONTWAIT) > 0)
			;
	}
}

/* In pieces, with some turns behind each. */
static inline void say(int fd, const void *data, size_t len, size_t piece, unsigned turns)
{
	const char *p = data;

	while (len) {
		ssize_t n = send(fd, p, MIN(len, piece), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN)
			return;
		p += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
		turn(fd, turns);
	}
}

#endif
