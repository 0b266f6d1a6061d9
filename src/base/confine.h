/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the threads of a VMM may ask of the kernel: an allow-list of system calls (seccomp) for each kind of thread, no
 * capabilities and no new privileges.  The threads share their memory, so that who has taken over one of them may trip up another;
 * what a filter holds back is what the thread itself, and every process it could start, can have done.
 *
 * The lists are in confine_list.c, a line for each call with the reason.  A call that is not in it is a bug here, or an attack: it
 * fails with EPERM, and a line names thread and call (but for the main thread's, whose filter programs that it starts have too);
 * with LODGE_SANDBOX_STRICT in the environment, as tests have it, the process aborts.
 */
#ifndef LODGE_BASE_CONFINE_H
#define LODGE_BASE_CONFINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum confine_class {
	CONFINE_VCPU,		/* runs the guest, and devices it touches: opens nothing, connects to nothing, starts nothing */
	CONFINE_IO,		/* requests of disks, and work done ahead: as above */
	CONFINE_SCREEN,		/* viewers' connections: takes them in, and nothing else */
	CONFINE_NET,		/* disks on web servers: makes connections, reads files (resolver, certificates) and opens none to write */
	CONFINE_PEER,		/* vhost-user: as CONFINE_IO, and makes connections to unix sockets and takes them in */
	CONFINE_SHARE,		/* shared folders: opens files, with the capabilities of the main thread */
	CONFINE_MAIN,		/* the loop, control: all that a user asks for */
	CONFINE_CLASSES,
};

/* Makes the filters.  Main thread, before any other thread begins; until then, and if it was not called, confine_enter does
 * nothing.  `native`: vCPU threads trace processes of native user code.  ENOSYS: this kernel or build has no filters (a
 * message says which); ENOMEM. */
int confine_prepare(bool native, struct err *e);

/* Whether confine_prepare has been called with success. */
bool confine_wanted(void);

/* From here on the calling thread, and threads and processes that it starts, are confined: for good, and in addition to what
 * they were before.  It does not come back if the kernel refuses: a thread is never less confined than is said. */
void confine_enter(enum confine_class c);

/* open(2) of what `fd` already is, with other flags, for a disk that becomes writable: the one thing that a confined thread can
 * have opened, by a thread that does only this.  Any thread; a descriptor, or a negative errno. */
int confine_reopen(int fd, int flags);

/* Tries in a process of its own what each kind of thread must not be able to do.  Any thread that is not confined; nothing
 * else may depend on confine_prepare not having been called.  0, or EPERM with the first thing that went through; as
 * confine_prepare. */
int confine_self_test(struct err *e);

#endif
