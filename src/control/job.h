/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Jobs on disks and nodes in use (block/job.h) as the protocol sees them, and
 * transactions.
 *
 * A block job lives on the loop of its nodes, with their lock; what it has to say is
 * noted there and told on the machine's loop.  A struct ctl_job lives from the command
 * that starts it to its dismissal.  Machine lock held throughout.
 */
#ifndef LODGE_CONTROL_JOB_H
#define LODGE_CONTROL_JOB_H

#include "block/job.h"
#include "control/disk.h"

/* What a job works on: a disk, or a node that is under none, in a slot of its own. */
struct ctl_root {
	struct disk *d;			/* NULL: a node */
	struct iothread *io;
	struct blk_node *slot;
	char name[BLK_NAME_MAX + 1];	/* the disk's, or the node's */
	bool held;			/* the slot of its own, until the job begins: a transaction holds those of disks */
};

/* In the order of QEMU's JobStatus. */
enum ctl_job_state {
	CTL_JOB_UNDEFINED, CTL_JOB_CREATED, CTL_JOB_RUNNING, CTL_JOB_PAUSED, CTL_JOB_READY, CTL_JOB_STANDBY, CTL_JOB_WAITING, CTL_JOB_PENDING,
	CTL_JOB_ABORTING, CTL_JOB_CONCLUDED, CTL_JOB_NULL,
};

/* Jobs that end together or not at all. */
struct ctl_group {
	unsigned n;			/* of them */
	bool failed;
};

struct ctl_job {
	struct control *ctl;
	struct list node;
	char id[64];
	struct ctl_root at;		/* slot NULL: on nothing (blockdev-create) */
	const char *kind;		/* of one that is no block job; else NULL */
	struct blk_job *j;		/* NULL: it has not begun, or has ended, and `last` tells */
	struct blk_job_info last;
	char error[512];
	uint64_t speed;
	enum ctl_job_state status;
	struct ctl_group *group;	/* NULL: by itself */
	bool dismiss, finalize;		/* by itself */
	bool paused;			/* by the user */
	bool told_ready, told_pending;
	_Atomic bool ready, pending, ended;	/* noted on the disk's thread */
	struct loop_bh bh;
};

struct ctl_job_opts {
	const char *id;			/* NULL: as the root */
	uint64_t speed;
	bool keep, hold;		/* not to be dismissed, not to be finalized, by itself */
};

/* A disk by name, or a node. False: the call has failed. */
bool ctl_root_find(struct ctl_call *c, const char *device, struct ctl_root *r);
/* For one that is not given to a job: closes a slot that was made. */
void ctl_root_drop(struct ctl_root *r);
/* A job that is not begun yet, which has the root; NULL: the call has failed, and the root is dropped. */
struct ctl_job *ctl_job_new(struct ctl_call *c, struct ctl_root *r, const struct ctl_job_opts *o);
struct blk_job_opts ctl_job_options(struct ctl_job *j);
/* Before it has begun, or after the end. */
void ctl_job_forget(struct ctl_job *j);
/* It has begun (j->j), and the transaction with it: it is told of. */
void ctl_job_begun(struct ctl_job *j);
struct ctl_job *ctl_job_find(struct control *ctl, const char *id);	/* NULL: there is none */
void ctl_job_info(struct ctl_job *j, struct blk_job_info *out);
/* Is the node in a graph that a job works on? No I/O thread's lock is held. */
bool ctl_node_busy(const struct control *ctl, struct blk_node *n);
/* It is pending, and may end, with those that end together with it. */
void ctl_job_let_end(struct ctl_job *j);
void ctl_job_set_status(struct ctl_job *j, enum ctl_job_state s);
/* One that is no block job: it runs from now on; how it went. */
void ctl_job_start(struct ctl_job *j);
void ctl_job_end(struct ctl_job *j, int ret, const struct err *e);
/* One that was done at once, as blockdev-create; `ret` and `e` say how it went. */
void ctl_job_done(struct ctl_job *j, int ret, const struct err *e);

/* ---- transactions ---- */

/* Something that was done, and can be undone until all is. */
struct ctl_action {
	struct list in;
	void (*commit)(struct ctl_action *a);	/* may be NULL; frees what it has */
	void (*undo)(struct ctl_action *a);	/* likewise */
};

struct ctl_txn {
	struct ctl_call *c;
	struct list done;		/* struct ctl_action */
	struct ctl_group *group;	/* NULL: each job by itself */
};

/* The transaction that the call is part of, or `own`, which is this call alone. */
struct ctl_txn *ctl_txn_of(struct ctl_call *c, struct ctl_txn *own);
void ctl_txn_add(struct ctl_txn *t, struct ctl_action *a, void (*commit)(struct ctl_action *a), void (*undo)(struct ctl_action *a));
/* If t is `own` it is at its end: all is committed, or undone if the call has failed. */
void ctl_txn_done(struct ctl_txn *t, struct ctl_txn *own);
/* The job begins, as part of the transaction: `ret` and `e` are the outcome of the block layer's start. */
void ctl_txn_job(struct ctl_txn *t, struct ctl_job *j, int ret, const struct err *e);

/* Which layer of the chain has this file, or is this node; *out is 0 for the image. The lock held. -ENOENT */
int ctl_layer_by_file(struct blk_node *slot, const char *file, unsigned *out, struct err *e);
int ctl_layer_by_node(struct blk_node *slot, const char *name, unsigned *out, struct err *e);

#endif
