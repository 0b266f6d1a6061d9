// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Transactions: several commands at one moment, or none.
 *
 * A command that may be part of one does what it does in a way that can be undone,
 * and notes how.  Alone it is a transaction by itself.  While one is under way the
 * slots of all disks are held, so that the moment is the same for all of them.
 */
#include <stdlib.h>
#include <string.h>

#include "control/job.h"

struct ctl_txn *ctl_txn_of(struct ctl_call *c, struct ctl_txn *own)
{
	if (c->txn)
		return c->txn;
	*own = (struct ctl_txn){ .c = c };
	list_init(&own->done);
	return own;
}

void ctl_txn_add(struct ctl_txn *t, struct ctl_action *a, void (*commit)(struct ctl_action *a), void (*undo)(struct ctl_action *a))
{
	a->commit = commit;
	a->undo = undo;
	list_add_tail(&t->done, &a->in);
}

static void finish(struct ctl_txn *t)
{
	while (!list_empty(&t->done)) {
		struct ctl_action *a = list_entry(t->c->failed ? t->done.prev : t->done.next, struct ctl_action, in);

		list_del(&a->in);
		(t->c->failed ? a->undo : a->commit)(a);
	}
}

void ctl_txn_done(struct ctl_txn *t, struct ctl_txn *own)
{
	if (t == own)
		finish(t);
}

/* ---- jobs ---- */

struct job_action {
	struct ctl_action a;
	struct ctl_job *j;
};

static void job_commit(struct ctl_action *a)
{
	struct job_action *x = container_of(a, struct job_action, a);

	ctl_job_begun(x->j);
	free(x);
}

static void job_undo(struct ctl_action *a)
{
	struct job_action *x = container_of(a, struct job_action, a);

	iothread_lock(x->j->at.io);
	blk_job_abandon(x->j->j);
	iothread_unlock(x->j->at.io);
	x->j->j = NULL;
	ctl_job_forget(x->j);
	free(x);
}

void ctl_txn_job(struct ctl_txn *t, struct ctl_job *j, int ret, const struct err *e)
{
	struct job_action *x = ret ? NULL : calloc(1, sizeof(*x));

	if (ctl_failed(t->c, ret, e)) {
		ctl_job_forget(j);
		return;
	}
	if (t->group) {
		j->group = t->group;
		t->group->n++;
	}
	/* Too little memory for a note is none for undoing either: the job is as if it stood alone. */
	if (!x) {
		ctl_job_begun(j);
		return;
	}
	x->j = j;
	ctl_txn_add(t, &x->a, job_commit, job_undo);
}

/* ---- several ---- */

static void hold_all(struct control *ctl, bool on)
{
	for (unsigned i = 0; i < VM_MAX_DISKS; i++) {
		struct disk *d = vm_disk_of(ctl->vm, i);

		if (!d || !blk_is_slot(d->node))
			continue;
		disk_lock(d);
		(on ? blk_slot_hold : blk_slot_release)(d->node);
		disk_unlock(d);
	}
}

static void run_one(struct ctl_call *c, const json_t *action)
{
	const char *type = json_string_value(json_object_get(action, "type"));
	const struct ctl_command *cmd = ctl_find_command(type);

	if (!strcmp(type, "abort"))
		ctl_fail(c, CTL_GENERIC_ERROR, "Transaction aborted using Abort action");
	else
		cmd->run(c, json_object_get(action, "data"));
}

void ctl_cmd_transaction(struct ctl_call *c, const struct ctl_args_transaction *a)
{
	const char *mode = json_string_value(json_object_get(a->properties, "completion-mode"));
	struct ctl_txn t = { .c = c };
	json_t *action;
	size_t i;

	list_init(&t.done);
	if (mode && !strcmp(mode, "grouped")) {
		t.group = calloc(1, sizeof(*t.group));
		if (!t.group) {
			ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
			return;
		}
		t.group->n = 1;		/* ours */
	}
	hold_all(c->ctl, true);
	c->txn = &t;
	json_array_foreach(a->actions, i, action)
		if (!c->failed)
			run_one(c, action);
	c->txn = NULL;
	finish(&t);
	hold_all(c->ctl, false);
	if (t.group && !--t.group->n)
		free(t.group);
}
