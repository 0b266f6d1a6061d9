// SPDX-License-Identifier: GPL-2.0-or-later
/* Jobs that there are (job.h): what they are, and what may be done to them in which state. */
#include <errno.h>
#include <string.h>

#include "control/job.h"

/* ---- what there are ---- */

void ctl_cmd_query_block_jobs(struct ctl_call *c, const struct ctl_args_query_block_jobs *a)
{
	json_t *list = json_array();

	list_for_each(n, &c->ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);
		struct blk_job_info i;

		if (j->kind)
			continue;
		ctl_job_info(j, &i);
		json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:b,s:b,s:I,s:s,s:b,s:s,s:b,s:b,s:s*}", "type", i.kind, "device",
						      j->id, "len", (json_int_t)i.total, "offset", (json_int_t)i.done, "busy",
						      j->j && !j->paused && !i.pending, "paused", (int)j->paused, "speed", (json_int_t)j->speed,
						      "io-status", "ok", "ready", (int)j->ready, "status", ctl_type_JobStatus.values[j->status],
						      "auto-finalize", (int)j->finalize, "auto-dismiss", (int)j->dismiss, "error",
						      j->error[0] ? j->error : NULL));
	}
	ctl_return(c, list);
}

void ctl_cmd_query_jobs(struct ctl_call *c, const struct ctl_args_query_jobs *a)
{
	json_t *list = json_array();

	list_for_each(n, &c->ctl->jobs) {
		struct ctl_job *j = list_entry(n, struct ctl_job, node);
		struct blk_job_info i;

		ctl_job_info(j, &i);
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:I,s:I,s:s*}", "id", j->id, "type", i.kind, "status",
						      ctl_type_JobStatus.values[j->status], "current-progress", (json_int_t)i.done,
						      "total-progress", (json_int_t)i.total, "error", j->error[0] ? j->error : NULL));
	}
	ctl_return(c, list);
}

/* ---- what may be done ---- */

enum verb { CANCEL, PAUSE, RESUME, SET_SPEED, COMPLETE, FINALIZE, DISMISS };

#define IN(s) (1u << CTL_JOB_##s)
#define ACTIVE (IN(CREATED) | IN(RUNNING) | IN(PAUSED) | IN(READY) | IN(STANDBY))

static const struct {
	const char *name;
	unsigned states;
} verbs[] = {
	[CANCEL] = { "cancel", ACTIVE | IN(WAITING) | IN(PENDING) },
	[PAUSE] = { "pause", ACTIVE },
	[RESUME] = { "resume", ACTIVE },
	[SET_SPEED] = { "set-speed", ACTIVE },
	[COMPLETE] = { "complete", IN(READY) | IN(STANDBY) },
	[FINALIZE] = { "finalize", IN(PENDING) },
	[DISMISS] = { "dismiss", IN(CONCLUDED) },
};

/* NULL: the call has failed. */
static struct ctl_job *job_for(struct ctl_call *c, const char *id, bool block, enum verb v)
{
	struct ctl_job *j = ctl_job_find(c->ctl, id);

	if (j && block && j->kind)
		j = NULL;
	if (!j && block)
		ctl_fail(c, CTL_DEVICE_NOT_ACTIVE, "Block job '%.64s' not found", id);
	else if (!j)
		ctl_fail(c, CTL_GENERIC_ERROR, "Job not found");
	else if (!(verbs[v].states & 1u << j->status))
		ctl_fail(c, CTL_GENERIC_ERROR, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id,
			 ctl_type_JobStatus.values[j->status], verbs[v].name);
	return c->failed ? NULL : j;
}

static void cancel(struct ctl_job *j, bool force)
{
	if (!j || !j->j)
		return;
	iothread_lock(j->at.io);
	/* A copy that is ready ends as one. */
	if (force || blk_job_complete(j->j, false, NULL))
		blk_job_cancel(j->j);
	if (j->paused)
		blk_job_pause(j->j, false);
	iothread_unlock(j->at.io);
}

static void complete(struct ctl_call *c, struct ctl_job *j)
{
	struct err e = { .msg = "" };
	int ret;

	if (!j || !j->j)
		return;
	iothread_lock(j->at.io);
	ret = blk_job_complete(j->j, true, &e);
	iothread_unlock(j->at.io);
	ctl_failed(c, ret, &e);
}

static void set_paused(struct ctl_call *c, struct ctl_job *j, bool on)
{
	bool ready;

	if (!j || !j->j)
		return;
	if (j->paused == on) {
		ctl_fail(c, CTL_GENERIC_ERROR, on ? "Job is already paused" : "Can't resume a job that was not paused");
		return;
	}
	j->paused = on;
	iothread_lock(j->at.io);
	blk_job_pause(j->j, on);
	iothread_unlock(j->at.io);
	ready = j->status == CTL_JOB_READY || j->status == CTL_JOB_STANDBY;
	ctl_job_set_status(j, on ? (ready ? CTL_JOB_STANDBY : CTL_JOB_PAUSED) : ready ? CTL_JOB_READY : CTL_JOB_RUNNING);
}

static void dismiss(struct ctl_job *j)
{
	if (!j)
		return;
	ctl_job_set_status(j, CTL_JOB_NULL);
	ctl_job_forget(j);
}

static void finalize(struct ctl_job *j)
{
	if (j)
		ctl_job_let_end(j);
}

void ctl_cmd_block_job_set_speed(struct ctl_call *c, const struct ctl_args_block_job_set_speed *a)
{
	struct ctl_job *j = job_for(c, a->device, true, SET_SPEED);

	if (!j || !j->j)
		return;
	j->speed = (uint64_t)a->speed;
	iothread_lock(j->at.io);
	blk_job_set_rate(j->j, j->speed);
	iothread_unlock(j->at.io);
}

void ctl_cmd_block_job_cancel(struct ctl_call *c, const struct ctl_args_block_job_cancel *a)
{
	struct ctl_job *j = job_for(c, a->device, true, CANCEL);

	if (j && j->paused && !a->force)
		ctl_fail(c, CTL_GENERIC_ERROR, "The block job for device '%s' is currently paused", j->id);
	else
		cancel(j, a->force);
}

void ctl_cmd_job_cancel(struct ctl_call *c, const struct ctl_args_job_cancel *a)
{
	cancel(job_for(c, a->id, false, CANCEL), true);
}

void ctl_cmd_block_job_complete(struct ctl_call *c, const struct ctl_args_block_job_complete *a)
{
	complete(c, job_for(c, a->device, true, COMPLETE));
}

void ctl_cmd_job_complete(struct ctl_call *c, const struct ctl_args_job_complete *a)
{
	complete(c, job_for(c, a->id, false, COMPLETE));
}

void ctl_cmd_block_job_pause(struct ctl_call *c, const struct ctl_args_block_job_pause *a)
{
	set_paused(c, job_for(c, a->device, true, PAUSE), true);
}

void ctl_cmd_job_pause(struct ctl_call *c, const struct ctl_args_job_pause *a)
{
	set_paused(c, job_for(c, a->id, false, PAUSE), true);
}

void ctl_cmd_block_job_resume(struct ctl_call *c, const struct ctl_args_block_job_resume *a)
{
	set_paused(c, job_for(c, a->device, true, RESUME), false);
}

void ctl_cmd_job_resume(struct ctl_call *c, const struct ctl_args_job_resume *a)
{
	set_paused(c, job_for(c, a->id, false, RESUME), false);
}

void ctl_cmd_block_job_finalize(struct ctl_call *c, const struct ctl_args_block_job_finalize *a)
{
	finalize(job_for(c, a->id, true, FINALIZE));
}

void ctl_cmd_job_finalize(struct ctl_call *c, const struct ctl_args_job_finalize *a)
{
	finalize(job_for(c, a->id, false, FINALIZE));
}

void ctl_cmd_block_job_dismiss(struct ctl_call *c, const struct ctl_args_block_job_dismiss *a)
{
	dismiss(job_for(c, a->id, true, DISMISS));
}

void ctl_cmd_job_dismiss(struct ctl_call *c, const struct ctl_args_job_dismiss *a)
{
	dismiss(job_for(c, a->id, false, DISMISS));
}
