// SPDX-License-Identifier: GPL-2.0-or-later
/* See savevm.h. */
#include "vm/savevm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "block/graph.h"
#include "block/qcow2/qcow2.h"
#include "storage/disk.h"
#include "vm/internal.h"
#include "vm/snapshot_int.h"
#include "vm/vmstate.h"

/* A disk that takes part. */
struct part {
	struct disk *d;
	struct blk_node *n;		/* its image */
	char id[QCOW2_ID_LEN];		/* of the snapshot that was made, or is meant; "": none */
	bool claimed, state;		/* it has the VM's state, or gets it */
	struct qcow2_snapshot *snap;	/* that it has */
	unsigned n_snaps;
};

struct vm_inside {
	struct vm *vm;
	bool load, replace;
	char tag[VM_TAG_MAX + 1];
	struct vm_inside_disks disks;
	bool resume;			/* it ran */
	bool broken;			/* it must not go on */
	vm_inside_done done;
	void *opaque;
	struct loop_bh parked;
	struct part part[VM_MAX_DISKS];
	unsigned n;
};

/* ---- disks ---- */

static const char *path_of(const struct part *p) { return p->n->path ? p->n->path : p->d->id; }

static int check_part(const struct part *p, struct err *e)
{
	struct qcow2_info info;

	if (p->n->i.read_only)
		return err_set(e, -EROFS, "disk '%s' is read-only", p->d->id);
	if (!p->n->format || strcmp(p->n->format, "qcow2") || !blk_is_slot(p->d->node))
		return err_set(e, -ENOTSUP, "Device '%s' is writable but does not support snapshots: '%s' is no qcow2 image; convert it (lodge img convert "
			       "-O qcow2), or start the guest with ro for it", p->d->id, path_of(p));
	qcow2_get_info(p->n, &info);
	if (info.data_file)
		return err_set(e, -ENOTSUP, "Device '%s' is writable but does not support snapshots: '%s' has an external data file", p->d->id, path_of(p));
	return 0;
}

static int add_part(struct vm_inside *x, unsigned i, struct err *e)
{
	struct disk *d = x->vm->disk[i];
	struct part *p = &x->part[x->n];
	int ret = 0;

	if (!d)
		return x->disks.listed ? err_set(e, -ENODEV, "disk %u is gone", i) : 0;
	disk_lock(d);
	*p = (struct part){ .d = d, .n = blk_is_slot(d->node) ? *blk_slot_image(d->node) : d->node };
	/* A CD, or an empty drive. */
	if (x->disks.listed || (!p->n->i.read_only && p->n->i.size)) {
		ret = check_part(p, e);
		x->n++;
	}
	disk_unlock(d);
	return ret;
}

/* Who takes part, and whether all can. */
static int find_parts(struct vm_inside *x, struct err *e)
{
	int ret = 0;

	x->n = 0;
	for (unsigned i = 0; i < VM_MAX_DISKS && !ret; i++) {
		unsigned before = x->n;

		if (!x->disks.listed || x->disks.disk[i])
			ret = add_part(x, i, e);
		if (x->n > before && x->disks.listed)
			x->part[before].state = i == x->disks.state;
	}
	if (!ret && !x->n)
		ret = err_set(e, -ENOTSUP, "No block device can accept snapshots: a guest is saved in a disk that is written to and is a qcow2 image");
	return ret;
}

static void release_parts(struct vm_inside *x)
{
	for (unsigned i = 0; i < x->n; i++) {
		struct part *p = &x->part[i];

		qcow2_snapshots_free(p->snap, p->n_snaps);
		p->snap = NULL;
		if (!p->claimed)
			continue;
		disk_lock(p->d);
		blk_slot_release(p->d->node);
		blk_slot_unclaim(p->d->node);
		disk_unlock(p->d);
		p->claimed = false;
	}
}

/* Nothing is under way in any of them, and what they have is read. */
static int hold_parts(struct vm_inside *x, struct err *e)
{
	int ret = find_parts(x, e);

	for (unsigned i = 0; i < x->n && !ret; i++) {
		struct part *p = &x->part[i];

		disk_lock(p->d);
		ret = blk_slot_claim(p->d->node, "snapshot", e);
		if (!ret) {
			blk_slot_hold(p->d->node);
			p->claimed = true;
			ret = qcow2_snapshot_list(p->n, &p->snap, &p->n_snaps, e);
		}
		disk_unlock(p->d);
	}
	return ret;
}

static struct part *state_part(struct vm_inside *x)
{
	for (unsigned i = 0; i < x->n; i++)
		if (x->part[i].state)
			return &x->part[i];
	return NULL;
}

static int forget(struct part *p, const char *id, struct err *e)
{
	int ret;

	disk_lock(p->d);
	ret = qcow2_snapshot_delete_id(p->n, id, e);
	disk_unlock(p->d);
	return ret;
}

/* All with this name that were there at first. The last error counts. */
static int forget_named(struct vm_inside *x, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < x->n; i++)
		for (unsigned k = 0; k < x->part[i].n_snaps; k++)
			if (!strcmp(x->part[i].snap[k].name, x->tag)) {
				int r = forget(&x->part[i], x->part[i].snap[k].id, e);

				ret = r ? r : ret;
			}
	return ret;
}

static bool any_named(const struct vm_inside *x)
{
	for (unsigned i = 0; i < x->n; i++)
		for (unsigned k = 0; k < x->part[i].n_snaps; k++)
			if (!strcmp(x->part[i].snap[k].name, x->tag))
				return true;
	return false;
}

/* ---- the state ---- */

/* malloc'ed. */
static int take_state(struct vm *vm, uint8_t **out, size_t *len, struct err *e)
{
	int fd = memfd_create("guest-state", MFD_CLOEXEC), ret;
	struct stat st = { 0 };
	size_t done = 0;
	ssize_t n = 1;

	if (fd < 0)
		return err_set(e, -errno, "memfd_create: %s", strerror(errno));
	ret = vm_state_write(vm, fd, e);
	if (!ret && (fstat(fd, &st) || !(*out = malloc((size_t)st.st_size + 1))))
		ret = err_set(e, -ENOMEM, "out of memory");
	while (!ret && done < (size_t)st.st_size && n > 0) {
		n = pread(fd, *out + done, (size_t)st.st_size - done, (off_t)done);
		done += n > 0 ? (size_t)n : 0;
	}
	close(fd);
	if (!ret && done < (size_t)st.st_size) {
		free(*out);
		ret = err_set(e, -EIO, "the guest's state cannot be read back");
	}
	*len = done;
	return ret;
}

static int write_to(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	const struct part *p = opaque;

	return qcow2_vmstate_write(p->n, off, iov, niov, len);
}

static int read_from(void *opaque, uint64_t off, const struct iovec *iov, unsigned niov, uint64_t len)
{
	return qcow2_vmstate_read(opaque, off, iov, niov, len);
}

/* ---- saving ---- */

static int put_state(struct vm_inside *x, struct part *p, uint64_t *size, struct err *e)
{
	const struct vmstate_io io = { .write = write_to, .opaque = p };
	struct vmstate_out *o = NULL;
	uint8_t *state = NULL;
	size_t len;
	int ret = take_state(x->vm, &state, &len, e);

	if (ret)
		return ret;
	ret = vmstate_plan(x->vm->m->mem, state, len, &o, e);
	free(state);
	if (ret)
		return ret;
	*size = vmstate_total(o);
	disk_lock(p->d);
	ret = qcow2_vmstate_begin(p->n, *size, e);
	ret = ret ? ret : vmstate_put(o, &io, e);
	disk_unlock(p->d);
	vmstate_plan_free(o);
	return ret ? err_prefix(e, ret, "disk '%s'", p->d->id) : 0;
}

static int make_one(struct vm_inside *x, struct part *p, struct qcow2_vm vm, struct err *e)
{
	int ret;

	if (!p->state)
		vm.state_size = 0;
	disk_lock(p->d);
	ret = qcow2_snapshot_create_vm(p->n, x->tag, &vm, p->id, e);
	disk_unlock(p->d);
	return ret;
}

static void take_back(struct vm_inside *x)
{
	for (unsigned i = 0; i < x->n; i++) {
		struct part *p = &x->part[i];
		struct err e = { "" };
		int ret = *p->id ? forget(p, p->id, &e) : 0;

		if (ret && ret != -ENOENT)
			log_warn("the snapshot '%s' stays inside disk '%s': %s", x->tag, p->d->id, e.msg);
		if (!p->state)
			continue;
		disk_lock(p->d);
		if (qcow2_vmstate_drop(p->n))
			log_warn("what was written of the guest's state stays in '%s' until another one is made there, or it is resized", path_of(p));
		disk_unlock(p->d);
	}
}

static int save_all(struct vm_inside *x, struct err *e)
{
	struct qcow2_vm vm = { .clock_ns = (uint64_t)clock_now(x->vm->m->clock) };
	struct part *p = state_part(x);
	struct timespec now;
	int ret;

	clock_gettime(CLOCK_REALTIME, &now);
	vm.date_sec = (uint32_t)now.tv_sec;
	vm.date_nsec = (uint32_t)now.tv_nsec;
	ret = put_state(x, p, &vm.state_size, e);
	for (unsigned i = 0; i < x->n && !ret; i++)
		if (!x->part[i].state)
			ret = make_one(x, &x->part[i], vm, e);
	/* It comes last: what has state has all. */
	ret = ret ? ret : make_one(x, p, vm, e);
	if (ret)
		take_back(x);
	return ret;
}

static int save(struct vm_inside *x, struct err *e)
{
	struct err later = { "" };
	int ret = vm_state_possible(x->vm, e);

	ret = ret ? ret : hold_parts(x, e);
	if (!ret && !x->disks.listed)
		x->part[0].state = true;
	if (!ret && !state_part(x))
		ret = err_set(e, -EINVAL, "the disk that is to have the guest's state takes no part");
	if (!ret && !x->replace && any_named(x))
		ret = err_set(e, -EEXIST, "Snapshot '%s' already exists in one or more devices", x->tag);
	ret = ret ? ret : save_all(x, e);
	/* The new ones are there: they are told apart by their date. */
	if (!ret && forget_named(x, &later))
		log_warn("the guest is saved as '%s', but what had that name before is still there: %s", x->tag, later.msg);
	release_parts(x);
	return ret;
}

/* ---- loading ---- */

static const struct qcow2_snapshot *named(const struct part *p, const char *tag, const struct qcow2_snapshot *like, bool state)
{
	for (unsigned k = p->n_snaps; k--;) {
		const struct qcow2_snapshot *s = &p->snap[k];

		if (!strcmp(s->name, tag) && (!state || s->vm_state_size) &&
		    (!like || (s->date_sec == like->date_sec && s->date_nsec == like->date_nsec && s->vm_clock_ns == like->vm_clock_ns)))
			return s;
	}
	return NULL;
}

/* The newest with state. */
static int find_state(struct vm_inside *x, const struct qcow2_snapshot **out, struct err *e)
{
	bool any = false;

	*out = NULL;
	for (unsigned i = 0; i < x->n && !*out; i++) {
		struct part *p = &x->part[i];

		if (x->disks.listed && !p->state)
			continue;
		*out = named(p, x->tag, NULL, true);
		p->state = *out;
		any |= named(p, x->tag, NULL, false) != NULL;
	}
	if (*out)
		return 0;
	return any ? err_set(e, -EINVAL, "This is a disk-only snapshot. Revert to it offline using lodge img snapshot -a") :
		     err_set(e, -ENOENT, "Snapshot '%s' does not exist in one or more devices", x->tag);
}

/* Which snapshot each disk goes back to. */
static int match_parts(struct vm_inside *x, const struct qcow2_snapshot **state, struct err *e)
{
	int ret = find_state(x, state, e);

	for (unsigned i = 0; i < x->n && !ret; i++) {
		struct part *p = &x->part[i];
		const struct qcow2_snapshot *s = named(p, x->tag, *state, p->state);

		if (!s && named(p, x->tag, NULL, false))
			ret = err_set(e, -EINVAL, "the snapshot '%s' of disk '%s' was made at another moment than the guest's state", x->tag, p->d->id);
		else if (!s)
			ret = err_set(e, -ENOENT, "Snapshot '%s' does not exist in one or more devices: disk '%s' has none", x->tag, p->d->id);
		else if (((s->disk_size + BLK_SECTOR - 1) & ~(uint64_t)(BLK_SECTOR - 1)) != p->n->i.size)
			ret = err_set(e, -ENOTSUP, "disk '%s' had another size when snapshot '%s' was made: change it back (block_resize) first", p->d->id,
				      x->tag);
		else if (strlen(s->id) >= sizeof(p->id))
			ret = err_set(e, -EINVAL, "the snapshots of disk '%s' are damaged", p->d->id);
		else
			snprintf(p->id, sizeof(p->id), "%s", s->id);
	}
	return ret;
}

static int apply_parts(struct vm_inside *x, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < x->n && !ret; i++) {
		struct part *p = &x->part[i];

		disk_lock(p->d);
		ret = qcow2_snapshot_apply_id(p->n, p->id, e);
		disk_unlock(p->d);
		/* One that could not be written to at all is as it was. */
		x->broken = x->broken || i || !ret;
	}
	return ret;
}

static int read_ram(struct vm_inside *x, struct vmstate_in *in, struct disk *d, struct err *e)
{
	int ret;

	disk_lock(d);
	ret = vmstate_load_ram(in, x->vm->m->mem, e);
	disk_unlock(d);
	return ret;
}

/* The guest goes back in time, which its VM generation ID is to tell. */
static void renew_generation(struct vm *vm)
{
	uint8_t uuid[16];

	if (!vm->cfg->vmgenid_auto || getrandom(uuid, sizeof(uuid), 0) != sizeof(uuid))
		return;
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	platform_set_vmgenid(vm->platform, uuid);
}

static int copy_state(const struct vmstate_in *in, uint8_t **out, size_t *len, struct err *e)
{
	const void *state = vmstate_state(in, len);

	*out = malloc(*len);
	if (!*out)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(*out, state, *len);
	return 0;
}

/* The guest stands still, and what it was is in `before` (NULL: it has not begun). */
static int become(struct vm_inside *x, struct vmstate_in *in, struct disk *d, uint8_t *before, size_t before_len, struct err *e)
{
	struct err later = { "" };
	uint8_t *state = NULL;
	size_t len;
	int ret = copy_state(in, &state, &len, e);

	ret = ret ? ret : vm_state_try(x->vm, state, len, e);
	ret = ret ? ret : apply_parts(x, e);
	if (ret && !x->broken) {
		free(state);
		if (before && vm_state_load(x->vm, before, before_len, NULL, &later)) {
			x->broken = true;
			log_warn("the guest's state could not be put back: %s", later.msg);
		}
		return ret;
	}
	free(before);
	ret = ret ? ret : read_ram(x, in, d, e);
	if (ret) {
		free(state);
		return ret;
	}
	renew_generation(x->vm);
	ret = vm_state_load(x->vm, state, len, NULL, e);
	x->broken = ret != 0;
	return ret;
}

static int load_from(struct vm_inside *x, struct part *p, uint64_t size, bool start, struct err *e)
{
	struct vmstate_io io = { .read = read_from };
	struct qcow2_vmstate *v = NULL;
	struct vmstate_in *in = NULL;
	uint8_t *before = NULL;
	size_t before_len = 0;
	int ret;

	disk_lock(p->d);
	ret = qcow2_vmstate_open(p->n, p->id, &v, e);
	io.opaque = v;
	ret = ret ? ret : vmstate_open(&io, size, mem_ram_size(x->vm->m->mem), &in, e);
	disk_unlock(p->d);
	ret = ret || start ? ret : take_state(x->vm, &before, &before_len, e);
	ret = ret ? ret : become(x, in, p->d, before, before_len, e);
	vmstate_close(in);
	qcow2_vmstate_close(v);
	return ret ? err_prefix(e, ret, "snapshot '%s'", x->tag) : 0;
}

static int load(struct vm_inside *x, bool start, struct err *e)
{
	const struct qcow2_snapshot *s = NULL;
	int ret = vm_state_possible(x->vm, e);

	ret = ret ? ret : hold_parts(x, e);
	ret = ret ? ret : match_parts(x, &s, e);
	ret = ret ? ret : load_from(x, state_part(x), s->vm_state_size, start, e);
	release_parts(x);
	if (!ret)
		x->vm->prelaunch = false;
	if (ret && x->broken && !start)
		log_warn("the guest is neither what it was nor what was saved, and stands still: load a snapshot, or reset it");
	return ret;
}

/* ---- one at a time ---- */

static void finish(struct vm_inside *x, int ret, const struct err *e)
{
	struct vm *vm = x->vm;

	loop_bh_cancel(&x->parked);
	vm->inside = NULL;
	if (x->resume && !x->broken)
		vm_resume(vm);
	x->done(x->opaque, ret, e);
	free(x);
}

static void on_parked(void *opaque)
{
	struct vm_inside *x = opaque;
	struct vm *vm = x->vm;
	struct err e = { "" };
	int ret;

	vm->inside = NULL;		/* it is not in its own way */
	if (!vm->paused)
		ret = err_set(&e, -EAGAIN, "somebody had the guest go on before it stood still");
	else
		ret = x->load ? load(x, false, &e) : save(x, &e);
	finish(x, ret, &e);
}

void vm_inside_parked(struct vm *vm)
{
	if (vm->inside)
		loop_bh_post(&vm->inside->parked);
}

void vm_inside_cancel(struct vm *vm)
{
	struct err e = { "" };

	if (!vm->inside)
		return;
	vm->inside->resume = false;
	finish(vm->inside, err_set(&e, -ESHUTDOWN, "the guest has ended"), &e);
}

static int check_tag(const char *tag, struct err *e)
{
	if (*tag && strlen(tag) <= VM_TAG_MAX)
		return 0;
	return err_set(e, -EINVAL, "a snapshot's name has 1 to %d bytes", VM_TAG_MAX);
}

static int inside_new(struct vm *vm, const char *tag, const struct vm_inside_disks *disks, struct vm_inside **out, struct err *e)
{
	const time_t now = time(NULL);
	struct vm_inside *x;
	struct tm tm;
	int ret = tag ? check_tag(tag, e) : 0;

	ret = ret ? ret : vm_state_possible(vm, e);
	if (ret)
		return ret;
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->vm = vm;
	if (disks)
		x->disks = *disks;
	if (tag)
		snprintf(x->tag, sizeof(x->tag), "%s", tag);
	else if (localtime_r(&now, &tm))
		strftime(x->tag, sizeof(x->tag), "vm-%Y%m%d%H%M%S", &tm);
	/* Before the guest is stopped for nothing. */
	ret = find_parts(x, e);
	if (ret)
		free(x);
	else
		*out = x;
	return ret;
}

static int begin(struct vm *vm, struct vm_inside *x, vm_inside_done done, void *opaque)
{
	x->done = done;
	x->opaque = opaque;
	loop_bh_init(vm->m->loop, &x->parked, on_parked, x);
	x->resume = !vm->paused && !vm->stop_wanted;
	vm->inside = x;
	if (vm->paused)
		loop_bh_post(&x->parked);
	else
		vm_stop(vm);
	return 0;
}

int vm_savevm(struct vm *vm, const char *tag, bool replace, const struct vm_inside_disks *disks, vm_inside_done done, void *opaque,
	      struct err *e)
{
	struct vm_inside *x;
	int ret = inside_new(vm, tag, disks, &x, e);

	if (ret)
		return ret;
	x->replace = replace;
	return begin(vm, x, done, opaque);
}

int vm_loadvm(struct vm *vm, const char *tag, const struct vm_inside_disks *disks, vm_inside_done done, void *opaque, struct err *e)
{
	struct vm_inside *x;
	int ret = inside_new(vm, tag, disks, &x, e);

	if (ret)
		return ret;
	x->load = true;
	return begin(vm, x, done, opaque);
}

int vm_delvm(struct vm *vm, const char *tag, const struct vm_inside_disks *disks, struct err *e)
{
	struct vm_inside *x = calloc(1, sizeof(*x));
	int ret = x ? check_tag(tag, e) : err_set(e, -ENOMEM, "out of memory");

	if (!ret && (vm->save || vm->inside))
		ret = err_set(e, -EBUSY, "the guest is being saved or loaded");
	if (!ret) {
		x->vm = vm;
		if (disks)
			x->disks = *disks;
		snprintf(x->tag, sizeof(x->tag), "%s", tag);
		ret = hold_parts(x, e);
		ret = ret ? ret : forget_named(x, e);
		release_parts(x);
	}
	free(x);
	return ret;
}

int vm_loadvm_start(struct vm *vm, const char *tag, struct err *e)
{
	struct vm_inside *x;
	int ret = inside_new(vm, tag, NULL, &x, e);

	if (ret)
		return ret;
	vm->paused = true;
	machine_reset_devs(vm->m);
	clock_pause(vm->m->clock);
	machine_pause_devs(vm->m);
	ret = load(x, true, e);
	free(x);
	vm->stop_wanted = vm->cfg->paused;
	return ret;
}
