/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Live migration: a guest goes on in another process, on this host or another one,
 * which was started with a machine of the same make and waits for it (the configuration's `incoming`).
 *
 * The protocol, with the records of migrate_wire.h; S is the source, D the destination:
 *
 *	S hello		D about		what D is: S compares, and refuses before anything has happened
 *	S begin
 *	S pages, zeros ... round		again and again, while the guest runs
 *	S (the guest stands still) the last pages, state, complete
 *	D loaded	memory and state are whole and make sense in D's machine
 *	S (flushes and closes its disks: their locks are free) take
 *	D taken		D has opened the disks and their locks are its own
 *	S go
 *	D running	said before the first instruction
 *	S done		nothing will be asked
 *
 * Who owns the guest: S until it has sent `go`, D from the moment it has received it.  So
 *
 *   - whatever fails before S sends `go`, S opens its disks again (D has let go of them: it does so when the connection ends,
 *     and the kernel does it when D ends) and goes on.  D gives up and waits for another migration.
 *   - D never runs without `go`, and does run once it has that, whatever becomes of the connection.
 *   - S that has sent `go` and has not heard `running` is in doubt, and does not run.  It asks D, over a new connection,
 *     what became of the migration by its id.  D answers that it has begun; or, if it has not, gives up for good before it
 *     answers so.  What was asked cannot change any more, so S knows.
 *   - A D that cannot be asked may have ended.  Then the disks tell: D marks each that it has taken with the migration's id
 *     (an extended attribute of the file), as offered before it sends `taken`, and as taken before `running`.  If S gets the locks
 *     and all disks are marked as offered, D has never run and never will.  Without such marks, or where S does not see them, S
 *     stays as it is until somebody says `cont`, which takes the guest back, or `quit`.
 *
 * Functions: machine lock held, any thread, unless they say otherwise.
 */
#ifndef LODGE_VM_MIGRATE_H
#define LODGE_VM_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct vm;

/* In the order of QEMU's names that vm_migrate_status_name has. */
enum vm_migrate_status {
	VM_MIGRATE_NONE, VM_MIGRATE_SETUP, VM_MIGRATE_ACTIVE, VM_MIGRATE_DEVICE, VM_MIGRATE_CANCELLING, VM_MIGRATE_CANCELLED,
	VM_MIGRATE_COMPLETED, VM_MIGRATE_FAILED, VM_MIGRATE_POSTCOPY_ACTIVE, VM_MIGRATE_POSTCOPY_PAUSED, VM_MIGRATE_POSTCOPY_RECOVER,
	VM_MIGRATE_PRE_SWITCHOVER,
};
const char *vm_migrate_status_name(enum vm_migrate_status s);

#define VM_MIGRATE_NAME 256

struct vm_migrate_params {
	uint64_t max_bandwidth;		/* bytes a second while the guest runs, 0: no limit */
	uint64_t downtime_limit_ms;	/* how long the guest is to stand still at most, as far as it can be foreseen */
	int zstd_level, zstd_wanted;	/* 1 to 19; level 0: not compressed, `wanted` is the one to take if it is to be */
	unsigned streams, streams_wanted;	/* further connections that memory goes over; 0: none, `wanted` is how many if it is to be some */
	int streams_level, streams_level_wanted;	/* zstd's for those, 0: zstd_level counts; and as above */
	bool auto_converge;		/* slow the vCPUs when they write faster than can be sent */
	unsigned throttle_initial, throttle_increment, throttle_max;	/* percent, 1 to 99 */
	bool events;			/* MIGRATION events */
	bool pause;			/* the guest stands still, and goes over when vm_migrate_continue says so */
	bool postcopy;			/* memory may come after its guest, when vm_migrate_late says so */
	/* Objects of vm/tls.h, and whose name the destination's certificate has; "": none, the host's of tcp: */
	char tls_creds[VM_MIGRATE_NAME], tls_authz[VM_MIGRATE_NAME], tls_hostname[VM_MIGRATE_NAME];
};
void vm_migrate_defaults(struct vm_migrate_params *p);
const struct vm_migrate_params *vm_migrate_params(const struct vm *vm);
/* Counts at once, also in a migration under way (compression: in the next one). */
void vm_migrate_set_params(struct vm *vm, const struct vm_migrate_params *p);

struct vm_migrate_info {
	enum vm_migrate_status status;
	bool incoming;			/* this side is, or was, the destination */
	bool in_doubt;			/* `go` was sent and nothing heard since */
	char error[512];		/* of FAILED, and of what is in doubt; "" */
	int64_t total_ns, setup_ns, downtime_ns, expected_downtime_ns;	/* since it began; of the setup ...; 0: not yet */
	uint64_t ram_total, ram_remaining, transferred;	/* bytes */
	uint64_t multifd_bytes;		/* of `transferred`, those over further connections */
	uint64_t normal, zero;		/* pages */
	uint64_t rounds, dirty_rate;	/* pages a second, of the last round */
	double mbps;			/* 10^6 bit a second, of the last round */
	uint64_t compressed_in, compressed_out;		/* bytes */
	uint64_t postcopy_requests;	/* pages that the destination asked for */
	unsigned throttle;		/* percent */
	unsigned port;			/* destination: where it listens, if that is tcp: */
};
void vm_migrate_info(const struct vm *vm, struct vm_migrate_info *out);

/* Begins; what fails later is in vm_migrate_info, and told by VM_EVENT_MIGRATION at each change of the status.
 * `uri`: migrate_wire.h; fd:'s descriptor is its own from here on.  EBUSY, ENOTSUP, EINVAL, with a message. */
int vm_migrate(struct vm *vm, const char *uri, struct err *e);
/* The guest that stands still in PRE_SWITCHOVER goes over. EINVAL: it does not */
int vm_migrate_continue(struct vm *vm, struct err *e);
/* The guest goes over now, and what is left of its memory comes after it.  EINVAL: there is no migration, or it was not begun with `postcopy`. */
int vm_migrate_late(struct vm *vm, struct err *e);
/* Goes on with one whose connection broke after the guest had gone over: the source, which connects there, and the destination, which listens there.
 * The connection is broken on purpose, by either.  EINVAL: there is none. */
int vm_migrate_resume(struct vm *vm, const char *uri, struct err *e);
int vm_migrate_recover(struct vm *vm, const char *uri, struct err *e);
int vm_migrate_break(struct vm *vm, struct err *e);
/* Has no effect when there is nothing to cancel, or it is too late. */
void vm_migrate_cancel(struct vm *vm);
/* The destination begins to listen (its configuration said `defer`). */
int vm_migrate_incoming(struct vm *vm, const char *uri, struct err *e);

/* May the guest be let go on?  0: yes.  EBUSY: it is in the hands of a migration; EPERM: it runs elsewhere.  1: it was in doubt; it is
 * taken back now, on its asker's word, and goes on by itself as soon as its disks are free. */
int vm_migrate_may_run(struct vm *vm, struct err *e);

#endif
