/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One virtual machine from start to end: build, run, requests, report.
 *
 * Life: vm_new builds everything from a checked configuration; vm_run runs the
 * event loop on the calling thread (the vCPUs on their own) until the guest or
 * the host ends it; vm_free takes it down.  Several may live in one process.
 *
 * Exit statuses of the process (docs/lodge-run.1.scd has the same table).  With
 * debug-exit the guest's own code is passed through.
 */
#ifndef LODGE_VM_VM_H
#define LODGE_VM_VM_H

#include "base/err.h"
#include "vm/config.h"

enum vm_exit {
	VM_EXIT_POWEROFF = 0,	/* the guest powered off (or the --exec command's status) */
	VM_EXIT_HOST = 1,	/* usage, configuration or host error */
	VM_EXIT_PANIC = 3,	/* the guest's kernel panicked and said so (pvpanic) */
	VM_EXIT_TRIPLE = 4,	/* triple fault */
	VM_EXIT_ENGINE = 5,	/* the CPU engine cannot go on */
	VM_EXIT_REBOOT = 6,	/* reboot with --no-reboot */
	VM_EXIT_ESCAPE = 7,	/* the user left with the escape key */
	VM_EXIT_KILLED = 8,	/* SIGTERM, SIGINT or SIGHUP, and the guest did not power off in time */
	VM_EXIT_EXEC = 125,	/* --exec: the command could not be run */
};

struct vm;

/* SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR2 must be blocked in all threads: they are
 * taken from a signalfd (vm_block_signals does that; call it first of all). */
void vm_block_signals(void);

/* cfg must outlive the VM.  On failure everything is undone and *e says what and why. */
int vm_new(const struct vm_config *cfg, struct vm **out, struct err *e);
/* Loads what the guest begins with: kernel, saved state; or listens for a guest from elsewhere.  Once, before vm_run and
 * before anybody is told that the guest runs. */
int vm_prepare(struct vm *vm, struct err *e);
/* Runs; returns the exit status of the process (an enum vm_exit or
 * the guest's own).  *e is filled when it is VM_EXIT_HOST. */
int vm_run(struct vm *vm, struct err *e);
void vm_free(struct vm *vm);

/*
 * Pause (live.h has more of that kind): vCPUs are parked, virtual time and the devices stand still; what a disk
 * has in flight is finished first.  Asked for by machine_ask(MACHINE_REQ_PAUSE),
 * from any thread with the machine lock held, and true a moment later.  A guest
 * that is paused because of a disk (werror=stop) repeats its requests when it goes
 * on.  Loop thread, machine lock held; no effect if it is not paused.
 */
void vm_resume(struct vm *vm);
bool vm_paused(const struct vm *vm);

#endif
