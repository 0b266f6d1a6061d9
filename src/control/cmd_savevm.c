// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Snapshots of the guest inside its disks (vm/savevm.h): QMP's jobs and HMP's savevm, loadvm, delvm.
 *
 * A job is begun by its command and concluded when the guest has been saved; what is wrong with its arguments is the
 * job's error, as QEMU has it.  A monitor for people waits.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "block/qcow2/qcow2.h"
#include "control/hmp.h"
#include "control/job.h"
#include "vm/savevm.h"

/* ---- jobs ---- */

/* What waits for an outcome: a job by its id, since it may be gone by then, or a line of a monitor. */
struct waiting {
	struct control *ctl;
	char job[64];
	struct hmp *h;			/* NULL: a job */
};

static void end_job(struct control *ctl, const char *id, int ret, const struct err *e)
{
	struct ctl_job *j = ctl_job_find(ctl, id);

	if (j && j->kind)
		ctl_job_end(j, ret, e);
}

static void on_outcome(void *opaque, int ret, const struct err *e)
{
	struct waiting *w = opaque;

	if (!w->h) {
		end_job(w->ctl, w->job, ret, e);
	} else {
		if (ret)
			fprintf(w->h->out, "Error: %s\r\n", e->msg);
		hmp_finish(w->h);
	}
	free(w);
}

static int disk_index(struct control *ctl, const char *name, unsigned *out, struct err *e)
{
	struct disk *d = ctl_find_quietly(ctl, name);

	for (*out = 0; d && *out < VM_MAX_DISKS; ++*out)
		if (vm_disk_of(ctl->vm, *out) == d)
			return 0;
	return err_set(e, -ENODEV, "No block device node '%.64s'", name);
}

static int pick(struct control *ctl, const json_t *devices, const char *vmstate, struct vm_inside_disks *out, struct err *e)
{
	json_t *x;
	size_t i;
	int ret = 0;

	*out = (struct vm_inside_disks){ .listed = true };
	json_array_foreach(devices, i, x) {
		unsigned k;

		ret = ret ? ret : disk_index(ctl, json_string_value(x), &k, e);
		if (!ret)
			out->disk[k] = true;
	}
	if (!ret && vmstate && (disk_index(ctl, vmstate, &out->state, e) || !out->disk[out->state]))
		ret = err_set(e, -EINVAL, "vmstate block device '%.64s' does not exist", vmstate);
	return ret;
}

/* NULL: the call has failed. */
static struct ctl_job *new_job(struct ctl_call *c, const char *id, const char *kind)
{
	const struct ctl_job_opts o = { .id = id, .keep = true };
	struct ctl_root none = { 0 };
	struct ctl_job *j = ctl_job_new(c, &none, &o);

	if (j) {
		j->kind = kind;
		ctl_job_start(j);
	}
	return j;
}

static void start(struct ctl_call *c, const char *id, const char *kind, const char *tag, const char *vmstate, const json_t *devices)
{
	struct ctl_job *j = new_job(c, id, kind);
	struct waiting *w = j ? calloc(1, sizeof(*w)) : NULL;
	struct vm_inside_disks disks;
	struct err e = { "" };
	int ret;

	if (!j)
		return;
	if (!w) {
		ctl_job_end(j, err_set(&e, -ENOMEM, "out of memory"), &e);
		return;
	}
	w->ctl = c->ctl;
	snprintf(w->job, sizeof(w->job), "%s", j->id);
	ret = pick(c->ctl, devices, vmstate, &disks, &e);
	if (!ret && !strcmp(kind, "snapshot-save"))
		ret = vm_savevm(c->ctl->vm, tag, false, &disks, on_outcome, w, &e);
	else if (!ret)
		ret = vm_loadvm(c->ctl->vm, tag, &disks, on_outcome, w, &e);
	if (!ret)
		return;
	free(w);
	ctl_job_end(j, ret, &e);
}

void ctl_cmd_snapshot_save(struct ctl_call *c, const struct ctl_args_snapshot_save *a)
{
	start(c, a->job_id, "snapshot-save", a->tag, a->vmstate, a->devices);
}

void ctl_cmd_snapshot_load(struct ctl_call *c, const struct ctl_args_snapshot_load *a)
{
	start(c, a->job_id, "snapshot-load", a->tag, a->vmstate, a->devices);
}

void ctl_cmd_snapshot_delete(struct ctl_call *c, const struct ctl_args_snapshot_delete *a)
{
	struct ctl_job *j = new_job(c, a->job_id, "snapshot-delete");
	struct vm_inside_disks disks;
	struct err e = { "" };
	int ret;

	if (!j)
		return;
	ret = pick(c->ctl, a->devices, NULL, &disks, &e);
	ret = ret ? ret : vm_delvm(c->ctl->vm, a->tag, &disks, &e);
	ctl_job_end(j, ret, &e);
}

/* ---- the monitor for people ---- */

static void begin(struct hmp *h, const char *tag, bool is_load)
{
	struct waiting *w = calloc(1, sizeof(*w));
	struct err e = { "" };
	int ret = w ? 0 : err_set(&e, -ENOMEM, "out of memory");

	if (!ret) {
		*w = (struct waiting){ .ctl = h->ctl, .h = h };
		ret = is_load ? vm_loadvm(h->ctl->vm, tag, NULL, on_outcome, w, &e) : vm_savevm(h->ctl->vm, tag, true, NULL, on_outcome, w, &e);
	}
	if (!ret) {
		h->waits = true;
		return;
	}
	free(w);
	fprintf(h->out, "Error: %s\r\n", e.msg);
}

void hmp_savevm(struct hmp *h) { begin(h, h->n > 1 ? h->word[1] : NULL, false); }
void hmp_loadvm(struct hmp *h) { begin(h, h->word[1], true); }

void hmp_delvm(struct hmp *h)
{
	struct err e = { "" };

	if (vm_delvm(h->ctl->vm, h->word[1], NULL, &e))
		fprintf(h->out, "Error: %s\r\n", e.msg);
}

/* As QEMU has it: a word per column. */
static void print_one(FILE *f, const json_t *s, const char *id)
{
	static const char units[] = "KMGTPE";
	double size = (double)hmp_number(s, "vm-state-size");
	char bytes[32], date[32] = "?", clock[32], icount[24] = "";
	time_t sec = (time_t)hmp_number(s, "date-sec");
	long long vm = hmp_number(s, "vm-clock-sec");
	unsigned u = 0;
	struct tm tm;

	if (localtime_r(&sec, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(clock, sizeof(clock), "%02lld:%02d:%02d.%03d", vm / 3600, (int)(vm / 60 % 60), (int)(vm % 60),
		 (int)(hmp_number(s, "vm-clock-nsec") / 1000000));
	for (; size >= 1000 && units[u]; u++)
		size /= 1024;
	snprintf(bytes, sizeof(bytes), "%0.3g %.*s%s", size, u ? 1 : 0, u ? &units[u - 1] : "", u ? "iB" : "B");
	if (json_object_get(s, "icount"))
		snprintf(icount, sizeof(icount), "%lld", hmp_number(s, "icount"));
	fprintf(f, "%-10s%-17s%8s%20s%13s%11s\r\n", id, hmp_text(s, "name"), bytes, date, clock, icount);
}

static const json_t *list_of(const json_t *disk)
{
	return json_object_get(json_object_get(json_object_get(disk, "inserted"), "image"), "snapshots");
}

/* Can the guest go back to it, as far as the lists tell?  Every disk that is written to has one of the name. */
static bool on_all(const json_t *all, const char *name)
{
	json_t *x, *s;
	size_t i, k;

	json_array_foreach(all, i, x) {
		bool found = false;

		if (!json_object_get(x, "inserted") || json_is_true(json_object_get(json_object_get(x, "inserted"), "ro")))
			continue;
		json_array_foreach(list_of(x), k, s)
			found |= !strcmp(hmp_text(s, "name"), name);
		if (!found)
			return false;
	}
	return true;
}

static void print_list(FILE *f, const json_t *all, const json_t *list, bool whole)
{
	json_t *s;
	size_t k;

	fprintf(f, "%-10s%-17s%8s%20s%13s%11s\r\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	json_array_foreach(list, k, s)
		if (on_all(all, hmp_text(s, "name")) == whole)
			print_one(f, s, whole ? "--" : hmp_text(s, "id"));
}

static bool any(const json_t *all, const json_t *list, bool whole)
{
	json_t *s;
	size_t k;

	json_array_foreach(list, k, s)
		if (on_all(all, hmp_text(s, "name")) == whole)
			return true;
	return false;
}

void hmp_info_snapshots(struct hmp *h)
{
	json_t *all = hmp_qmp(h, "query-block", NULL), *x, *first = NULL;
	bool nothing = true;
	size_t i;

	json_array_foreach(all, i, x)
		if (!first && any(all, list_of(x), true))
			first = x;
	if (first) {
		fputs("List of snapshots present on all disks:\r\n", h->out);
		print_list(h->out, all, list_of(first), true);
		nothing = false;
	}
	json_array_foreach(all, i, x) {
		if (!any(all, list_of(x), false))
			continue;
		if (nothing)
			fputs("List of snapshots present on all disks:\r\nNone\r\n", h->out);
		nothing = false;
		fprintf(h->out, "\r\nList of partial (non-loadable) snapshots on '%s':\r\n", hmp_text(x, "device"));
		print_list(h->out, all, list_of(x), false);
	}
	if (nothing)
		fputs("There is no snapshot available.\r\n", h->out);
	json_decref(all);
}
