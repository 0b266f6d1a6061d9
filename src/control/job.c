// SPDX-License-Identifier: GPL-2.0-or-later
/* The life of jobs: states, events, jobs that end together.  See job.h. */
#include "control/job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_JOBS 64

/* ---- roots ---- */

static void hold(struct ctl_root *r, bool on)
{
	iothread_lock(r->io);
	(on ? blk_slot_hold : blk_slot_release)(r->slot);
	iothread_unlock(r->io);
	r->held = on;
}

bool ctl_root_find(struct ctl_call *c, const char *device, struct ctl_root *r)
{
	const struct blk_disk_opts plain = { 0 };
	struct err e = { .msg = "" };
	struct vm_node x;
	int ret;

	*r = (struct ctl_root){ 0 };
	if (vm_node_find(c->ctl->vm, device, &x) && !x.d && x.added) {
		r->io = x.io;
		snprintf(r->name, sizeof(r->name), "%s", device);
		ret = vm_node_use(c->ctl->vm, device, x.io, !x.n->i.read_only, &plain, &r->slot, &e);
		if (!ret)
			hold(r, true);
		return !ctl_failed(c, ret, &e);
	}
	if (!ctl_find_quietly(c->ctl, device)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "Cannot find device='%.60s' nor node-name='%.60s'", device, device);
		return false;
	}
	r->d = ctl_disk(c, device, NULL, NULL);
	if (!r->d)
		return false;
	if (!blk_is_slot(r->d->node)) {
		ctl_fail(c, CTL_GENERIC_ERROR, "disk '%s' cannot have jobs or snapshots", r->d->id);
		return false;
	}
	r->io = r->d->o.io;
	r->slot = r->d->node;
	snprintf(r->name, sizeof(r->name), "%s", r->d->id);
	return true;
}

void ctl_root_drop(struct ctl_root *r)
{
	if (!r->d && r->slot) {
		if (r->held)
			hold(r, false);
		iothread_lock(r->io);
		blk_close(r->slot);
		iothread_unlock(r->io);
	}
	r->slot = NULL;
}

/* ---- what happens ---- */

static void on_job_event(void *opaque, struct blk_job *bj, enum blk_job_event ev)
{
	struct ctl_job *j = opaque;

	if (ev == BLK_JOB_READY)
		j->ready = true;
	else if (ev == BLK_JOB_PENDING)
		j->pending = true;
	else
		j->ended = true;
	loop_bh_post(&j->bh);
}

struct blk_job_opts ctl_job_options(struct ctl_job *j)
{
	return (struct blk_job_opts){ .rate = j->speed, .hold_end = true, .event = on_job_event, .opaque = j };
}

void ctl_job_info(struct ctl_job *j, struct blk_job_info *out)
{
	*out = j->last;
	if (!j->j)
		return;
	iothread_lock(j->at.io);
	blk_job_info(j->j, out);
	iothread_unlock(j->at.io);
}

void ctl_job_set_status(struct ctl_job *j, enum ctl_job_state s)
{
	j->status = s;
	ctl_emit(j->ctl, CTL_EVENT_JOB_STATUS_CHANGE, json_pack("{s:s,s:s}", "id", j->id, "status", ctl_type_JobStatus.values[s]));
}

static void tell(struct ctl_job *j, enum ctl_event ev, const struct blk_job_info *i, const char *error)
{
	ctl_emit(j->ctl, ev, json_pack("{s:s,s:s,s:I,s:I,s:I,s:s*}", "type", i->kind, "device", j->id, "len", (json_int_t)i->total, "offset",
				       (json_int_t)i->done, "speed", (json_int_t)j->speed, "error", error));
}

void ctl_job_forget(struct ctl_job *j)
{
	loop_bh_cancel(&j->bh);
	list_del(&j->node);
	ctl_root_drop(&j->at);
	if (j->group && !--j->group->n)
		free(j->group);
	free(j);
}

static void conclude(struct ctl_job *j)
{
	ctl_job_set_status(j, CTL_JOB_CONCLUDED);
	if (!j->dismiss)
		return;
	ctl_job_set_status(j, CTL_JOB_NULL);
	ctl_job_forget(j);
}

/* One of a group has failed: the others are not to succeed. */
static void fail_group(struct ctl_job *failed)
{
	if (!failed->group || failed->group->failed)
		return;
	failed->group->failed = true;
	list_for_each(n, &failed->ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);

		if (j == failed || j->group != failed->group || !j->j)
			continue;
		iothread_lock(j->at.io);
		blk_job_cancel(j->j);
		iothread_unlock(j->at.io);
	}
}

static void finish(struct ctl_job *j)
{
	struct blk_job_info i;
	bool failed;

	iothread_lock(j->at.io);
	blk_job_info(j->j, &i);
	snprintf(j->error, sizeof(j->error), "%s", i.message && *i.message ? i.message : i.ret ? strerror(-i.ret) : "");
	blk_job_free(j->j);
	if (j->at.d && j->at.d->resized)
		j->at.d->resized(j->at.d);
	iothread_unlock(j->at.io);
	j->j = NULL;
	i.message = j->error;
	j->last = i;
	failed = i.ret && i.ret != -ECANCELED;
	if (i.ret) {
		ctl_job_set_status(j, CTL_JOB_ABORTING);
		fail_group(j);
	} else if (j->status != CTL_JOB_PENDING) {
		ctl_job_set_status(j, CTL_JOB_WAITING);
		ctl_job_set_status(j, CTL_JOB_PENDING);
	}
	if (i.ret == -ECANCELED)
		tell(j, CTL_EVENT_BLOCK_JOB_CANCELLED, &i, NULL);
	else
		tell(j, CTL_EVENT_BLOCK_JOB_COMPLETED, &i, failed ? j->error : NULL);
	/* The slot was the job's. */
	ctl_root_drop(&j->at);
	conclude(j);
}

/* ---- the end of several ---- */

static bool with(const struct ctl_job *j, const struct ctl_job *other)
{
	return j == other || (j->group && j->group == other->group);
}

static bool all_waiting(struct ctl_job *j)
{
	list_for_each(n, &j->ctl->jobs) {
		struct ctl_job *o = list_entry(n, struct ctl_job, node);

		if (with(j, o) && o->status != CTL_JOB_WAITING && o->status != CTL_JOB_PENDING && o->status != CTL_JOB_CONCLUDED)
			return false;
	}
	return true;
}

/* All that end together may. */
static void let_end(struct ctl_job *j)
{
	list_for_each(n, &j->ctl->jobs) {
		struct ctl_job *o = list_entry(n, struct ctl_job, node);

		if (!with(j, o) || !o->j)
			continue;
		iothread_lock(o->at.io);
		blk_job_finalize(o->j);
		iothread_unlock(o->at.io);
	}
}

static void come_to_end(struct ctl_job *j)
{
	struct blk_job_info i;
	bool ask = false;

	ctl_job_set_status(j, CTL_JOB_WAITING);
	if (!all_waiting(j))
		return;
	list_for_each(n, &j->ctl->jobs) {
		struct ctl_job *o = list_entry(n, struct ctl_job, node);

		if (!with(j, o) || o->status != CTL_JOB_WAITING)
			continue;
		ctl_job_set_status(o, CTL_JOB_PENDING);
		ctl_job_info(o, &i);
		if (!o->finalize)
			ctl_emit(o->ctl, CTL_EVENT_BLOCK_JOB_PENDING, json_pack("{s:s,s:s}", "type", i.kind, "id", o->id));
		ask |= !o->finalize;
	}
	if (!ask)
		let_end(j);
}

void ctl_job_let_end(struct ctl_job *j)
{
	if (all_waiting(j))
		let_end(j);
}

/* The machine's loop. */
static void on_turn(void *opaque)
{
	struct ctl_job *j = opaque;
	struct blk_job_info i;

	if (j->ready && !j->told_ready) {
		j->told_ready = true;
		ctl_job_info(j, &i);
		ctl_job_set_status(j, j->paused ? CTL_JOB_STANDBY : CTL_JOB_READY);
		tell(j, CTL_EVENT_BLOCK_JOB_READY, &i, NULL);
	}
	if (j->pending && !j->told_pending && !j->ended) {
		j->told_pending = true;
		come_to_end(j);
	}
	if (j->ended && j->j)
		finish(j);
}

/* ---- beginning ---- */

struct ctl_job *ctl_job_find(struct control *ctl, const char *id)
{
	list_for_each(n, &ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);

		if (!strcmp(j->id, id))
			return j;
	}
	return NULL;
}

bool ctl_disk_busy(const struct control *ctl, const struct disk *d)
{
	list_for_each(n, &ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);

		if (j->at.d == d && j->j)
			return true;
	}
	return false;
}

static bool is_it(void *opaque, struct blk_node *n)
{
	return n == opaque;
}

bool ctl_node_busy(const struct control *ctl, struct blk_node *n)
{
	bool found = false;

	list_for_each(p, &ctl->jobs) {
		struct ctl_job *j = list_entry(p, struct ctl_job, node);

		if (!j->j || found)
			continue;
		iothread_lock(j->at.io);
		found = blockdev_each(j->at.slot, is_it, n);
		iothread_unlock(j->at.io);
	}
	return found;
}

/* QEMU's rule for ids. */
static bool good_id(const char *id)
{
	if (!((*id | 0x20) >= 'a' && (*id | 0x20) <= 'z'))
		return false;
	for (; *id; id++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._", *id))
			return false;
	return true;
}

static void check_new(struct ctl_call *c, const char *id)
{
	unsigned n = 0;

	list_for_each(x, &c->ctl->jobs)
		n++;
	if (!good_id(id) || strlen(id) >= sizeof(((struct ctl_job *)0)->id))
		ctl_fail(c, CTL_GENERIC_ERROR, "Invalid job ID '%.64s'", id);
	else if (ctl_job_find(c->ctl, id))
		ctl_fail(c, CTL_GENERIC_ERROR, "Job ID '%s' already in use", id);
	else if (c->ctl->ending)
		ctl_fail(c, CTL_GENERIC_ERROR, "Job '%s' cannot be begun: the guest is ending", id);
	else if (n >= MAX_JOBS)
		ctl_fail(c, CTL_GENERIC_ERROR, "no more jobs can be begun: there are %u", n);
}

struct ctl_job *ctl_job_new(struct ctl_call *c, struct ctl_root *r, const struct ctl_job_opts *o)
{
	const char *id = o->id ? o->id : r->name;
	struct ctl_job *j = NULL;

	check_new(c, id);
	if (!c->failed) {
		j = calloc(1, sizeof(*j));
		if (!j)
			ctl_fail(c, CTL_GENERIC_ERROR, "out of memory");
	}
	if (!j) {
		ctl_root_drop(r);
		return NULL;
	}
	j->ctl = c->ctl;
	j->at = *r;
	j->speed = o->speed;
	j->dismiss = !o->keep;
	j->finalize = !o->hold;
	snprintf(j->id, sizeof(j->id), "%s", id);
	loop_bh_init(c->ctl->m->loop, &j->bh, on_turn, j);
	/* The newest first, as QEMU lists them. */
	list_add_tail(c->ctl->jobs.next, &j->node);
	return j;
}

void ctl_job_begun(struct ctl_job *j)
{
	ctl_job_set_status(j, CTL_JOB_CREATED);
	ctl_job_set_status(j, CTL_JOB_RUNNING);
	if (j->at.held)
		hold(&j->at, false);
	/* It may have something to say already, which was posted before this. */
	loop_bh_post(&j->bh);
}

void ctl_job_start(struct ctl_job *j)
{
	j->last = (struct blk_job_info){ .kind = j->kind, .total = 1 };
	ctl_job_set_status(j, CTL_JOB_CREATED);
	ctl_job_set_status(j, CTL_JOB_RUNNING);
}

void ctl_job_end(struct ctl_job *j, int ret, const struct err *e)
{
	j->last = (struct blk_job_info){ .kind = j->kind, .ended = true, .ret = ret, .done = ret ? 0 : 1, .total = 1 };
	snprintf(j->error, sizeof(j->error), "%s", ret ? e->msg : "");
	if (ret) {
		ctl_job_set_status(j, CTL_JOB_ABORTING);
	} else {
		ctl_job_set_status(j, CTL_JOB_WAITING);
		ctl_job_set_status(j, CTL_JOB_PENDING);
	}
	conclude(j);
}

void ctl_job_done(struct ctl_job *j, int ret, const struct err *e)
{
	ctl_job_start(j);
	ctl_job_end(j, ret, e);
}

/* True: there are some that have not ended. Again and again, since one that was completing may have come to wait for leave to end. */
static bool cancel_or_forget(struct control *ctl)
{
	bool any = false;

	list_for_each_safe(n, &ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);

		if (!j->j) {
			ctl_job_forget(j);
			continue;
		}
		any = true;
		iothread_lock(j->at.io);
		blk_job_pause(j->j, false);
		blk_job_cancel(j->j);
		iothread_unlock(j->at.io);
	}
	return any;
}

/* vm_run has ended: the machine's loop is turned here, I/O threads still run. */
void ctl_jobs_end(struct control *ctl)
{
	bool any;

	do {
		machine_lock(ctl->m);
		any = cancel_or_forget(ctl);
		machine_unlock(ctl->m);
	} while (any && !loop_turn(ctl->m->loop, 10));
}
