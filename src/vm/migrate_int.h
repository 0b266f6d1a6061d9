/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the two sides of a migration share, and what the rest of vm/ calls. */
#ifndef LODGE_VM_MIGRATE_INT_H
#define LODGE_VM_MIGRATE_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/loop.h"
#include "machine/machine.h"
#include "vm/migrate.h"
#include "vm/migrate_ram.h"
#include "vm/migrate_wire.h"

struct blk_node;
struct mig_late;

#define MIG_ANSWER_MS 10000	/* for what takes the other side no time */
#define MIG_WORK_MS 60000	/* for what it has to work for */

/*
 * A side of a migration, with a thread of its own.  What concerns the machine the thread has the loop do, and waits
 * for that; what others may look at or change meanwhile is under `lock`, which is taken last.
 */
struct mig {
	struct vm *vm;
	char *uri;
	pthread_t thread;
	bool has_thread;
	int stop_fd;			/* eventfd: what waits gives up */
	struct mig_chan chan;		/* in < 0: none */
	struct mig_tls tls;		/* of each connection; does not change while the thread is there */
	uint8_t id[MIG_ID];
	_Atomic bool cancelled;		/* somebody asked for it */
	_Atomic bool ending;		/* the VM is at its end */
	_Atomic bool done;		/* the thread has nothing more to do with the guest */

	pthread_mutex_t lock;
	pthread_cond_t cond;
	struct loop_bh call;		/* work for the loop */
	int (*fn)(struct mig *g);
	int fn_ret;
	bool fn_done;
	struct vm_migrate_info info;
	struct vm_migrate_params params;
	int64_t begun_ns, stopped_ns;

	/* Machine lock. */
	bool holds;			/* the guest stands still for it, or is somebody else's: nobody may let it go on */
	bool gone;			/* source: the guest is the destination's.  Destination: never */
	bool owner;			/* destination: the guest is here */
	bool was_running;		/* it is to run when it is over */
	bool take_back;			/* in doubt: somebody said `cont` */
	struct err e;			/* of work, and of why it failed; the thread's while no work is under way */

	/* Memory that comes after its guest: migrate_late.h. */
	bool may_be_late;		/* it may, in this migration */
	struct vm_migrate_info late_before;	/* source: figures of what was sent before */
	/* source */
	_Atomic bool go_on;		/* from PRE_SWITCHOVER */
	_Atomic bool late_asked;	/* it is to */
	bool late_now;			/* it does; both sides */
	bool died;			/* the destination had the guest, and has ended */
	struct {
		struct mig_chan chan;	/* in < 0: none */
		pthread_t thread;
		bool has_thread;
		int ret;
		struct err e;
		int alarm_fd;		/* eventfd: it has failed; -1 */
	} late_out;
	char *resume_uri;		/* with `lock`: where to go on; NULL: nobody said so */
	/* destination */
	struct mig_late *late;		/* NULL: none.  Stays once the guest is here */
	uint64_t *late_map;		/* what came of it so far; NULL: nothing */
	uint64_t late_at;
	bool late_logs;			/* machine lock */
	struct loop_bh late_bh;		/* tells late_status, with `lock` */
	enum vm_migrate_status late_status;
	_Atomic int listen_next;	/* another socket to listen to; -1: none */

	/* source */
	uint64_t *todo, pages;		/* to be sent; a bit for each page */
	int state_fd;			/* memfd with the state; -1 */
	bool marked;			/* the disks tell whose they are */
	bool listening;			/* the destination is to be found there again */
	unsigned streams;		/* further connections; 0: all goes over the first one */
	struct {			/* of each connection, the first one last; with `lock` */
		uint64_t sent;		/* bytes */
		struct mig_tx_stats s;
	} lane[MIG_LANES_MAX + 1];
	/* destination */
	int listen_fd;			/* -1: none */
	bool heard;			/* the source knows that the guest runs here */
	bool known;			/* `id` is that of a migration that began */
	uint8_t *state;
	uint64_t state_len, state_got;
	uint8_t vmgenid[16];
	bool has_vmgenid;
	char *about;
};

/* NULL: out of memory, or of descriptors.  The thread is begun by mig_start. */
struct mig *mig_new(struct vm *vm, const char *uri, struct err *e);
int mig_start(struct mig *g, void *(*thread)(void *), struct err *e);
/* Ends the thread and frees it; no lock held. */
void mig_free(struct mig *g);
/* Has fn run on the loop's thread with the machine lock held, and returns what that says; ECANCELED when the VM is at its end. */
int mig_on_loop(struct mig *g, int (*fn)(struct mig *g));
/* The same, and does not wait; the last that is asked of the loop. */
void mig_post(struct mig *g, int (*fn)(struct mig *g));
/* A status that others see.  Loop thread, machine lock held. */
void mig_status(struct mig *g, enum vm_migrate_status s);
/* Waits so long, or until it is woken: ECANCELED. */
int mig_sleep(struct mig *g, int ms);
void mig_wake(struct mig *g);
/* What was woken may wait again. */
void mig_unwake(struct mig *g);

/* migrate_out.c */
int mig_hello(struct mig *g, struct mig_chan *c, uint32_t flags, struct err *e);
void *mig_out_thread(void *g);
/* migrate_in.c */
int mig_hello_read(struct mig_chan *c, uint8_t id[MIG_ID], uint32_t *flags, struct err *e);
/* One whose turn it is not has an answer. */
void mig_turn_away(struct mig *g, struct mig_chan *c, const uint8_t id[MIG_ID], uint32_t flags);
void *mig_in_thread(void *g);

/* migrate_about.c; machine lock held.  What this process is, as JSON, malloc'ed.  Is what the other says of itself like us?  ENOTSUP says
 * what is not; EPROTO: it makes no sense. */
char *mig_about(struct mig *g, struct err *e);
int mig_about_fits(struct mig *g, const char *theirs, size_t len, struct err *e);

/* migrate_disks.c; loop thread, machine lock held. */
/* Could the disks go over? ENOTSUP */
int mig_disks_check(struct vm *vm, struct err *e);
/* No jobs may begin on them: EBUSY names the one there is. And again. */
int mig_disks_claim(struct vm *vm, struct err *e);
void mig_disks_unclaim(struct vm *vm);
/* Flushed, and closed: what the devices see is a place where a disk will be. */
int mig_disks_close(struct vm *vm, struct err *e);
/* Opened, with their locks; of those that are open already nothing changes.  If one fails, those opened are closed again. */
int mig_disks_open(struct vm *vm, struct err *e);
/* A disk of the destination as it is made: it was opened to be looked at, and is away until mig_disks_open. */
int mig_disk_wait(struct blk_node *slot, struct err *e);
enum mig_mark { MIG_MARK_NONE, MIG_MARK_OFFERED, MIG_MARK_TAKEN };
/* Marks all that are written to. False: not all could be, or there is none. */
bool mig_disks_mark(struct vm *vm, const uint8_t id[MIG_ID], enum mig_mark mark);
/* TAKEN if one of them is, by the migration with this id; OFFERED if all are; NONE: they do not tell, or not to this host. */
enum mig_mark mig_disks_marked(struct vm *vm, const uint8_t id[MIG_ID]);

/* For vm.c and others of vm/: machine lock held. */
/* In the place of a boot: stands still until the guest comes. */
int vm_migrate_wait(struct vm *vm, struct err *e);
/* The guest stands still. */
void vm_migrate_parked(struct vm *vm);
/* Nobody but the migration may let the guest go on, or reset it. */
bool vm_migrate_holds(const struct vm *vm);
/* Somebody wants it to stand still: should it be in the hands of a migration, then also afterwards. */
void vm_migrate_stay(struct vm *vm);
/* One is under way, or has taken the guest away. */
bool vm_migrate_busy(const struct vm *vm);
/* Destination that has not got its guest yet, or is about to let it go on. */
bool vm_migrate_waits(const struct vm *vm);
/* The same, also before there is anything to wait with: while its machine is made. */
bool vm_migrate_expects(const struct vm *vm);
/* It does not run because it has gone elsewhere. */
bool vm_migrate_gone(const struct vm *vm);
/* The loop runs no more, the lock is not held: ends all there is, and frees it. */
void vm_migrate_end(struct vm *vm);

#endif
