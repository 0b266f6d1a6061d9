// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saving a VM into a directory (snapshot.h).
 *
 * The guest stands still while its disks get their internal snapshots and its
 * memory and state are written; then it goes on, and a thread brings the files to
 * stable storage and puts snapshot.json there.  Until then the directory is no
 * snapshot, and what fails takes away again what was made, inside disks too.
 *
 * The memory is written by the machine's loop: it would change under a guest that
 * ran, and a thread for it would need everything that can wake the guest to be held off.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "block/graph.h"
#include "block/qcow2/qcow2.h"
#include "cpu/x86/snap.h"
#include "machine/iothread.h"
#include "storage/disk.h"
#include "device/xhci.h"
#include "vm/chardevs.h"
#include "vm/hotplug.h"
#include "vm/migrate_int.h"
#include "vm/snapshot.h"
#include "vm/snapshot_int.h"

enum { F_CONFIG, F_STATE, F_MEMORY, FILES };
static const char *const file_names[FILES] = { "config", "state", "memory" };

struct vm_save {
	struct vm *vm;
	char *dir;
	enum vm_save_then then;
	bool resume;			/* it ran */
	bool begun;			/* the guest stands still for it */
	vm_save_done done;
	void *opaque;
	struct vm_save_result result;
	int dir_fd, fd[FILES];
	char name[40];			/* of the snapshots inside disks */
	bool inside[VM_MAX_DISKS];	/* made */
	struct conf *conf;
	struct loop_bh parked, finished;
	pthread_t thread;
	bool has_thread;
	int ret;
	struct err e;
};

/* ---- what can be saved ---- */

static struct blk_node *image_of(const struct disk *d)
{
	return blk_is_slot(d->node) ? *blk_slot_image(d->node) : d->node;
}

static bool is_qcow2(const struct blk_node *n) { return n->format && !strcmp(n->format, "qcow2"); }

static int check_disk(const struct disk *d, struct err *e)
{
	const struct blk_node *n = image_of(d);

	if (n->i.read_only || !n->i.size)
		return 0;
	if (!is_qcow2(n))
		return err_set(e, -ENOTSUP, "disk '%s' is written to and is no qcow2 image, so it cannot be saved with the guest: convert it "
			       "(lodge img convert -O qcow2), or start the guest with ro or snapshot=on for it", n->path ? n->path : d->id);
	if (!n->path || !blk_is_slot(d->node))
		return err_set(e, -ENOTSUP, "disk '%s' cannot have snapshots", d->id);
	if (access(n->path, F_OK))
		return err_set(e, -ENOTSUP, "disk '%s' is written to a temporary layer, which cannot be saved: run the guest on an image of its own "
			       "(lodge img create -b)", d->id);
	return 0;
}

/* Keys that were on descriptors are not there any more when the guest is to go on. */
static int check_keys(const struct vm_config *cfg, struct err *e)
{
	for (unsigned i = 0; i < cfg->n_disks; i++)
		for (unsigned k = 0; k < cfg->disk[i].n_keys; k++)
			if (strncmp(cfg->disk[i].key[k], "file:", 5))
				return err_set(e, -ENOTSUP, "the key of disk %u came on a descriptor and is not kept: start the guest with key-file=", i);
	return 0;
}

int vm_state_possible(const struct vm *vm, struct err *e)
{
	if (vm->save || vm->inside)
		return err_set(e, -EBUSY, "the guest is being saved or loaded");
	if (vm_migrate_busy(vm))
		return err_set(e, -EBUSY, "the guest is migrating, or has migrated");
	if (vm->end != VM_PRELAUNCH)
		return err_set(e, -ESHUTDOWN, "the guest is at its end");
	if (vm_hotplug_busy(vm))
		return err_set(e, -EBUSY, "a device that the guest has given up is on its way out: try again when it is gone");
	if (vm->cfg->exec)
		return err_set(e, -ENOTSUP, "a guest that runs a command (--exec) cannot be saved");
	if (vm->debug && vm->debug->n_int3)
		return err_set(e, -EBUSY, "gdb has breakpoints in the guest's memory, which would be saved with it: take them away first");
	if (vm->cfg->tpm)
		return err_set(e, -ENOTSUP, "a guest with a TPM cannot be saved: the TPM's state is another program's");
	return 0;
}

static int check(struct vm *vm, struct err *e)
{
	const struct vm_config *cfg = vm->cfg;
	int ret = vm_state_possible(vm, e);

	if (ret)
		return ret;
	ret = check_keys(cfg, e);
	for (unsigned i = 0; i < cfg->n_disks; i++)
		if (cfg->disk[i].node)
			return err_set(e, -ENOTSUP, "disk%u stands on a block node ('%s'), which is not saved with the guest: give the image to the disk "
				       "itself", i, cfg->disk[i].node);
	for (unsigned i = 0; i < cfg->n_disks && !ret; i++) {
		if (!vm->disk[i])
			continue;
		disk_lock(vm->disk[i]);
		ret = check_disk(vm->disk[i], e);
		disk_unlock(vm->disk[i]);
	}
	return ret;
}

/* ---- files ---- */

static int make_files(struct vm_save *s, struct err *e)
{
	if (mkdir(s->dir, 0700))
		return err_set(e, -errno, "'%s' cannot be made: %s", s->dir, strerror(errno));
	s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dir_fd < 0)
		return err_set(e, -errno, "'%s': %s", s->dir, strerror(errno));
	for (unsigned i = 0; i < FILES; i++) {
		s->fd[i] = openat(s->dir_fd, file_names[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (s->fd[i] < 0)
			return err_set(e, -errno, "'%s/%s' cannot be made: %s", s->dir, file_names[i], strerror(errno));
	}
	return 0;
}

static void remove_files(struct vm_save *s)
{
	if (s->dir_fd < 0)
		return;
	for (unsigned i = 0; i < FILES; i++)
		if (s->fd[i] >= 0)
			unlinkat(s->dir_fd, file_names[i], 0);
	unlinkat(s->dir_fd, "." SNAPSHOT_JSON, 0);
	rmdir(s->dir);
}

/* ---- disks ---- */

static int note_disk(struct vm_save *s, unsigned i, const struct blk_node *n, struct err *e)
{
	char path[PATH_MAX], text[64];
	struct stat st;
	int ret;

	if (!n->path)
		return 0;
	if (strchr(n->path, ':') && access(n->path, F_OK))
		return conf_setf(s->conf, n->path, e, "disk.%u.file", i);	/* a server's */
	if (!realpath(n->path, path) || stat(path, &st))
		return err_set(e, -errno, "disk '%s': %s", n->path, strerror(errno));
	ret = conf_setf(s->conf, path, e, "disk.%u.file", i);
	if (!ret && n->format)
		ret = conf_setf(s->conf, n->format, e, "disk.%u.format", i);
	if (ret || !n->i.read_only || !S_ISREG(st.st_mode))
		return ret;
	snprintf(text, sizeof(text), "%lld %lld", (long long)st.st_size, (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
	return conf_setf(s->conf, text, e, "disk.%u.was", i);
}

/* The disk's lock is held. */
static int save_disk(struct vm_save *s, unsigned i, struct disk *d, struct err *e)
{
	struct blk_node *n = image_of(d);
	int ret = note_disk(s, i, n, e);

	if (ret || n->i.read_only || !n->i.size)
		return ret;
	ret = blk_slot_claim(d->node, "snapshot", e);
	if (ret)
		return ret;
	blk_slot_hold(d->node);
	ret = qcow2_snapshot_create(n, s->name, e);
	blk_slot_release(d->node);
	blk_slot_unclaim(d->node);
	if (ret)
		return ret;
	s->inside[i] = true;
	return conf_setf(s->conf, s->name, e, "disk.%u.inside", i);
}

static void forget_disk(struct vm_save *s, unsigned i)
{
	struct disk *d = s->vm->disk[i];
	struct err e = { "" };

	disk_lock(d);
	blk_slot_hold(d->node);
	/* A job may have put the disk on another image since. */
	if (!is_qcow2(image_of(d)))
		log_warn("the snapshot '%s' stays inside the image that disk '%s' had", s->name, d->id);
	else if (qcow2_snapshot_delete(image_of(d), s->name, &e))
		log_warn("the snapshot '%s' stays inside disk '%s': %s", s->name, d->id, e.msg);
	blk_slot_release(d->node);
	disk_unlock(d);
	s->inside[i] = false;
}

static int save_disks(struct vm_save *s, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < s->vm->cfg->n_disks && !ret; i++) {
		struct disk *d = s->vm->disk[i];

		if (!d)
			continue;
		disk_lock(d);
		ret = save_disk(s, i, d, e);
		disk_unlock(d);
		s->result.disks += s->inside[i];
	}
	return ret;
}

/* ---- configuration ---- */

static int say_number(struct conf *c, unsigned n, const char *key, unsigned i, struct err *e)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", n);
	return n ? conf_setf(c, text, e, key, i) : 0;
}

/* Where devices are that had the choice: their neighbours may have gone. */
static int say_places(struct vm *vm, struct conf *c, struct err *e)
{
	unsigned target, lun;
	int ret = say_number(c, vm_port_places(vm), "port-places", 0, e);

	for (unsigned i = 0; i < vm->cfg->n_ports && !ret; i++)
		if (vm->cfg->port[i].name)
			ret = say_number(c, vm_port_number(vm, vm->cfg->port[i].name), "port.%u.nr", i, e);
	if (!ret && vm->cfg->guest_agent)
		ret = say_number(c, vm_port_number(vm, VM_PORT_AGENT), "agent-port", 0, e);
	if (!ret && vm->cfg->clipboard)
		ret = say_number(c, vm_port_number(vm, VM_PORT_CLIPBOARD), "clipboard-port", 0, e);
	for (unsigned i = 0; i < VM_MAX_USB && !ret; i++)
		if (vm->usb[i])
			ret = say_number(c, xhci_port_of(vm->xhci, vm->usb[i]), "usb.%u.port", i, e);
	for (unsigned i = 0; i < VM_MAX_DISKS && !ret; i++)
		if (vm->usb_disk[i])
			ret = say_number(c, xhci_port_of(vm->xhci, vm->usb_disk[i]), "disk.%u.usb-port", i, e);
	for (unsigned i = 0; i < vm->cfg->n_disks && !ret; i++) {
		char text[16];

		if (!vm_scsi_place(vm, i, &target, &lun))
			continue;
		snprintf(text, sizeof(text), "%u", target);
		ret = conf_setf(c, text, e, "disk.%u.scsi-id", i);
		snprintf(text, sizeof(text), "%u", lun);
		ret = ret ? ret : conf_setf(c, text, e, "disk.%u.lun", i);
	}
	return ret;
}

/* What was left to defaults, which another version may have others of, and what changed while it ran. */
int vm_snapshot_defaults(struct vm *vm, struct conf *c, struct err *e)
{
	static const char *const vgas[] = { "none", "std", "virtio", "virtio-gpu" };
	const struct vm_config *cfg = vm->cfg;
	char text[32];
	int ret = conf_set(c, "machine", cfg->machine == VM_MACHINE_PC ? "pc" : "micro", e);

	snprintf(text, sizeof(text), "%lluM", (unsigned long long)cfg->memory >> 20);
	ret = ret ? ret : conf_set(c, "memory", text, e);
	snprintf(text, sizeof(text), "%u", cfg->cpus);
	ret = ret ? ret : conf_set(c, "cpus", text, e);
	ret = ret ? ret : conf_set(c, "vga", vgas[cfg->vga], e);
	/* Not what it began with, if somebody has set another. */
	ret = ret ? ret : conf_set(c, "watchdog-action", vm_watchdog_action_words[vm->watchdog_action], e);
	/* With a display there may be a tablet that nobody asked for. */
	if (!ret && !cfg->n_usb)
		ret = conf_set(c, "usb.0", "none", e);
	for (unsigned i = 0; i < cfg->n_usb && !ret; i++)
		ret = conf_setf(c, vm_usb_words[cfg->usb[i]], e, "usb.%u", i);
	for (unsigned i = 0; i < cfg->n_nets && !ret; i++) {
		const uint8_t *m = cfg->net[i].mac;

		if (cfg->net[i].kind == VM_NET_NONE)
			continue;
		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
		ret = conf_setf(c, text, e, "net.%u.mac", i);
	}
	return ret ? ret : say_places(vm, c, e);
}

static int write_conf(struct vm_save *s, struct err *e)
{
	int fd = dup(s->fd[F_CONFIG]);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	int ret = f ? conf_dump(s->conf, f) : -errno;

	if (f && fclose(f))
		ret = -errno;
	else if (!f && fd >= 0)
		close(fd);
	return ret ? err_set(e, ret, "'%s/config' cannot be written: %s", s->dir, strerror(-ret)) : 0;
}

/* ---- state ---- */

static int put_vcpus(struct vm *vm, struct snap_out *o, struct err *e)
{
	struct x86_state *s = aligned_alloc(64, align_up(sizeof(*s), 64));
	int ret = s ? 0 : -ENOMEM;

	for (unsigned i = 0; i < vm->m->n_vcpus && !ret; i++) {
		struct vcpu *v = vm->m->vcpus[i];
		const struct x86_pending p = { .events = atomic_load(&v->events), .sipi_vector = atomic_load(&v->sipi_vector),
					       .nmis = atomic_load(&v->nmis) };

		ret = vm->engine_ops->state_get(v, s);
		if (!ret)
			ret = x86_state_save(o, i, s, &p);
	}
	free(s);
	return ret ? err_set(e, ret, "the state of the vCPUs: %s", strerror(-ret)) : 0;
}

static int put_machine(struct vm *vm, struct snap_out *o, struct err *e)
{
	struct snapshot_machine r = { .mem_size = mem_ram_size(vm->m->mem), .n_vcpus = vm->m->n_vcpus, .clock_ns = clock_now(vm->m->clock),
				      .kernel_chips = vm->engine_ops->has_irqchip(vm->engine), .kernel_lapic = vm->engine_ops->has_lapic(vm->engine),
				      .watchdog_action = vm->watchdog_action };
	struct engine_clock t = { 0 };
	int ret = vm->engine_ops->clock_get(vm->engine, &t);

	r.engine_ns = t.ns;
	r.tsc = t.tsc;
	snprintf(r.engine, sizeof(r.engine), "%s", vm->engine_ops->name);
	ret = ret ? ret : snap_put(o, "machine", &snapshot_machine_table, &r);
	return ret ? err_set(e, ret, "the state of the machine: %s", strerror(-ret)) : 0;
}

static int put_devices(struct vm *vm, struct snap_out *o, struct err *e)
{
	const char *who = "";
	int ret = machine_save_devs(vm->m, o, &who);

	return ret ? err_set(e, ret, "the state of device %s cannot be saved: %s", who, strerror(-ret)) : 0;
}

int vm_state_write(struct vm *vm, int fd, struct err *e)
{
	struct snapshot_section sect[SNAPSHOT_SECTIONS];
	struct snap_out *o[SNAPSHOT_SECTIONS] = { NULL };
	int ret = 0;

	for (unsigned i = 0; i < SNAPSHOT_SECTIONS && !ret; i++)
		if (snap_out_new(&o[i]))
			ret = err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : put_machine(vm, o[SNAPSHOT_MACHINE], e);
	if (!ret && x86_model_save(o[SNAPSHOT_CPU], &vm->model))
		ret = err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : put_vcpus(vm, o[SNAPSHOT_VCPUS], e);
	ret = ret ? ret : put_devices(vm, o[SNAPSHOT_DEVICES], e);
	for (unsigned i = 0; i < SNAPSHOT_SECTIONS && !ret; i++)
		sect[i].data = snap_out_data(o[i], &sect[i].len);
	ret = ret ? ret : snapshot_file_write(fd, sect, e);
	for (unsigned i = 0; i < SNAPSHOT_SECTIONS; i++)
		snap_out_free(o[i]);
	return ret;
}

/* The guest stands still. */
static int write_all(struct vm_save *s, struct err *e)
{
	int ret = vm_snapshot_own(s->vm->cfg->tree, &s->conf, e);

	ret = ret ? ret : vm_snapshot_defaults(s->vm, s->conf, e);
	ret = ret ? ret : make_files(s, e);
	/* Times first: the guest's go on while it stands still, and it is not to notice how long that was. */
	ret = ret ? ret : vm_state_write(s->vm, s->fd[F_STATE], e);
	ret = ret ? ret : mem_ram_save(s->vm->m->mem, s->fd[F_MEMORY], &s->result.memory_bytes, e);
	ret = ret ? ret : save_disks(s, e);
	return ret ? ret : write_conf(s, e);
}

/* ---- the end of it ---- */

static int write_json(struct vm_save *s, struct err *e)
{
	const struct vm_config *cfg = s->vm->cfg;
	json_t *disks = json_array(), *j;
	char date[32];
	time_t now = time(NULL);
	struct tm tm;
	int fd, ret;

	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	for (unsigned i = 0; i < cfg->n_disks; i++) {
		char key[32];

		snprintf(key, sizeof(key), "disk.%u.file", i);
		if (s->inside[i])
			json_array_append_new(disks, json_pack("{s:s,s:s}", "file", conf_get(s->conf, key), "snapshot", s->name));
	}
	j = json_pack("{s:i,s:s+,s:s,s:s,s:s,s:i,s:I,s:I,s:o}", "format", SNAPSHOT_VERSION, "name", cfg->name, "", "date", date, "lodge",
		      LODGE_VERSION, "engine", s->vm->engine_ops->name, "cpus", (int)vm_config_n_cpus(cfg), "memory", (json_int_t)cfg->memory, "memory-used",
		      (json_int_t)s->result.memory_bytes, "disks", disks);
	fd = j ? openat(s->dir_fd, "." SNAPSHOT_JSON, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
	ret = !j ? -ENOMEM : fd < 0 ? -errno : 0;
	if (!ret && (json_dumpfd(j, fd, JSON_INDENT(2)) || fsync(fd)))
		ret = -EIO;
	if (fd >= 0)
		close(fd);
	json_decref(j);
	if (!ret && renameat(s->dir_fd, "." SNAPSHOT_JSON, s->dir_fd, SNAPSHOT_JSON))
		ret = -errno;
	return ret ? err_set(e, ret, "'%s/%s' cannot be written: %s", s->dir, SNAPSHOT_JSON, strerror(-ret)) : 0;
}

static void *finish_thread(void *opaque)
{
	struct vm_save *s = opaque;

	for (unsigned i = 0; i < FILES && !s->ret; i++)
		if (fsync(s->fd[i]))
			s->ret = err_set(&s->e, -errno, "'%s/%s' cannot be brought to the disk: %s", s->dir, file_names[i], strerror(errno));
	if (!s->ret && fsync(s->dir_fd))
		s->ret = err_set(&s->e, -errno, "'%s': %s", s->dir, strerror(errno));
	if (!s->ret)
		s->ret = write_json(s, &s->e);
	if (!s->ret)
		fsync(s->dir_fd);
	loop_bh_post(&s->finished);
	return NULL;
}

static void save_free(struct vm_save *s)
{
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	loop_bh_cancel(&s->parked);
	loop_bh_cancel(&s->finished);
	for (unsigned i = 0; i < FILES; i++)
		if (s->fd[i] >= 0)
			close(s->fd[i]);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	conf_free(s->conf);
	free(s->dir);
	free(s);
}

/* Loop thread, machine lock held. */
static void finish(struct vm_save *s)
{
	struct vm *vm = s->vm;
	bool quit;

	if (s->has_thread)
		pthread_join(s->thread, NULL);
	s->has_thread = false;
	vm->save = NULL;
	if (s->ret) {
		for (unsigned i = 0; i < VM_MAX_DISKS; i++)
			if (s->inside[i])
				forget_disk(s, i);
		remove_files(s);
	}
	quit = !s->ret && s->then == VM_SAVE_QUIT;
	if (s->ret && s->begun && s->resume)
		vm_resume(vm);
	s->done(s->opaque, s->ret, &s->result, &s->e);
	save_free(s);
	if (quit)
		vm_quit(vm);
}

static void on_finished(void *opaque)
{
	finish(opaque);
}

/* All stands still, or somebody had it go on. */
static void on_parked(void *opaque)
{
	struct vm_save *s = opaque;
	struct vm *vm = s->vm;
	int64_t begun = loop_now_ns();

	if (!vm->paused) {
		s->ret = err_set(&s->e, -EAGAIN, "somebody had the guest go on before it stood still");
	} else {
		s->begun = true;
		s->ret = write_all(s, &s->e);
		s->result.pause_ns = loop_now_ns() - begun;
	}
	/* Once: whoever stops it from here on is not to find it running should what is left fail. */
	if (!s->ret && s->resume && s->then == VM_SAVE_GO_ON) {
		s->resume = false;
		vm_resume(vm);
	}
	if (!s->ret) {
		s->ret = -pthread_create(&s->thread, NULL, finish_thread, s);
		s->has_thread = !s->ret;
		if (s->ret)
			err_set(&s->e, s->ret, "a thread cannot be started: %s", strerror(-s->ret));
	}
	if (s->ret)
		finish(s);
}

void vm_save_parked(struct vm *vm)
{
	if (vm->save && !vm->save->begun)
		loop_bh_post(&vm->save->parked);
}

int vm_save(struct vm *vm, const char *dir, enum vm_save_then then, vm_save_done done, void *opaque, struct err *e)
{
	uint64_t number = 0;
	struct vm_save *s;
	int ret = check(vm, e);

	if (ret)
		return ret;
	s = calloc(1, sizeof(*s));
	if (!s || !(s->dir = strdup(dir)) || getrandom(&number, sizeof(number), 0) != sizeof(number)) {
		if (s)
			free(s->dir);
		free(s);
		return err_set(e, -ENOMEM, "out of memory");
	}
	s->vm = vm;
	s->then = then;
	s->done = done;
	s->opaque = opaque;
	s->dir_fd = s->fd[F_CONFIG] = s->fd[F_STATE] = s->fd[F_MEMORY] = -1;
	snprintf(s->name, sizeof(s->name), "lodge-%016llx", (unsigned long long)number);
	loop_bh_init(vm->m->loop, &s->parked, on_parked, s);
	loop_bh_init(vm->m->loop, &s->finished, on_finished, s);
	if (!access(dir, F_OK)) {
		err_set(e, -EEXIST, "'%s' exists already", dir);
		save_free(s);
		return -EEXIST;
	}
	s->resume = !vm->paused && !vm->stop_wanted;
	vm->save = s;
	if (vm->paused)
		loop_bh_post(&s->parked);
	else
		vm_stop(vm);
	return 0;
}

void vm_save_cancel(struct vm *vm)
{
	struct vm_save *s = vm->save;

	if (!s)
		return;
	/* With the thread at work everything is written: it comes to its end. */
	if (!s->has_thread)
		s->ret = err_set(&s->e, -ESHUTDOWN, "the guest ended before it was saved");
	s->resume = false;
	finish(s);
}
