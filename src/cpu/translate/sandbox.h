/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host process with one thread, no memory but what it is given of guest RAM,
 * and no way to make a system call: user code of the guest runs in it natively.
 *
 * It is a traced child (ptrace(2)): it runs until a system call (which is not
 * made), a signal (which is not delivered) or a kick, and then waits with all its
 * registers in its tracer's hands.  Its address space is changed by system calls
 * that the tracer has it make from a page of its own, SANDBOX_PAGE.
 *
 * All functions but sandbox_kick: the thread that made it, which is its tracer.
 */
#ifndef LODGE_CPU_TRANSLATE_SANDBOX_H
#define LODGE_CPU_TRANSLATE_SANDBOX_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "base/err.h"

#define SANDBOX_XSTATE 4096
/* Where its own pages are: nothing can be mapped there. */
#define SANDBOX_PAGE 0x6a5bc0ded000ull
#define SANDBOX_OWN (5 * 4096ull)
/* Addresses it can have mapped. */
#define SANDBOX_LOW 0x10000ull
#define SANDBOX_TOP 0x7ffffffff000ull

enum sandbox_stop { SANDBOX_SYSCALL, SANDBOX_SIGNAL, SANDBOX_KICKED, SANDBOX_GONE };

struct sandbox {
	pid_t pid;
	struct sandbox_op *ops;		/* shared with it, read-only there */
	unsigned n_ops;
	bool tsc_allowed;		/* see sandbox_tsc */
	bool here;			/* it is to run on the CPU its tracer is on */
	int cpu;			/* of the host, that it is bound to; -1: none */
	cpu_set_t anywhere;		/* the CPUs it may run on else */
	struct user_regs_struct regs;	/* as it stopped, or is to go on */
	int signo;			/* SANDBOX_SIGNAL */
	int code;
	uint64_t fault_addr;
	uint8_t xstate[SANDBOX_XSTATE];	/* XSAVE, standard format, as it was last got or set */
	unsigned xstate_len;		/* 0: not known */
	bool xstate_new;		/* it is to be set before the process goes on */
};

/* ram_fd: what sandbox_map's offsets are in; stays the caller's. 0 or -errno. */
int sandbox_new(struct sandbox *s, int ram_fd, struct err *e);
void sandbox_free(struct sandbox *s);
/* Change its mappings at the next sandbox_apply (or at once, when many wait). [lin, lin + len) are whole pages
 * between SANDBOX_LOW and SANDBOX_TOP, outside its own. prot: PROT_*. False: it is gone or cannot (out of mappings). */
bool sandbox_map(struct sandbox *s, uint64_t lin, uint64_t offset, uint64_t len, int prot);
bool sandbox_unmap(struct sandbox *s, uint64_t lin, uint64_t len);
bool sandbox_apply(struct sandbox *s);
/* From the next sandbox_apply on: may it read the host's TSC?  (At first not: RDTSC and RDTSCP are SANDBOX_SIGNAL
 * then, and each run costs twice as much, since the host changes CR4 on each switch of processes.) */
bool sandbox_tsc(struct sandbox *s, bool allowed);
/* Unmaps everything but its own pages. */
bool sandbox_clear(struct sandbox *s);
/* Goes on with s->regs (and s->xstate if xstate_new) until it stops; then s->regs and s->xstate are what they are. */
enum sandbox_stop sandbox_run(struct sandbox *s);
/* Any thread, while the process is known to exist: a sandbox_run that is going on, or the next, ends soon. */
void sandbox_kick(pid_t pid);

#endif
