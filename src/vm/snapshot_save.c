// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saving a VM into a directory (snapshot.h).
 *
 * The guest stands still while its state is taken, its disks get their internal snapshots and its memory is written; then it goes on, and the rest is done: memory is
 * packed, files are brought to stable storage, and snapshot.json is put there.  Until then the directory is no snapshot, and what fails takes
 * away again what was made, inside disks too.
 *
 * A thread writes memory and all that comes after it, so that the control protocol answers meanwhile.  As long as it reads
 * memory the save *holds* the guest: whoever wants it to go on, or to be reset, is heard when that is over.
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

#include "base/crc32c.h"
#include "base/log.h"
#include "block/graph.h"
#include "block/qcow2/qcow2.h"
#include "machine/iothread.h"
#include "machine/mem_image.h"
#include "machine/mem_save.h"
#include "storage/disk.h"
#include "device/xhci.h"
#include "vm/chardevs.h"
#include "vm/hotplug.h"
#include "vm/migrate_int.h"
#include "vm/snapshot.h"
#include "vm/snapshot_int.h"
#include "vm/snapshot_memory.h"

enum { F_CONFIG, F_STATE, F_MEMORY, F_INDEX, FILES };
static const char *const file_names[FILES] = { "config", "state", "memory", SNAPSHOT_INDEX };
#define RAW ".raw"	/* memory that is to be packed; it has no name while it is written */

struct vm_save {
	struct vm *vm;
	char *dir, *below;		/* below: what it is to be a difference of; NULL: nothing */
	bool pack;
	enum vm_save_then then;
	bool resume;			/* it ran, or somebody wants it to go on */
	bool reset;			/* somebody wants it to be reset */
	bool begun;			/* the guest stands still for it */
	bool holds;			/* its memory is read */
	int64_t begun_ns;
	vm_save_done done;
	void *opaque;
	struct vm_save_result result;
	int dir_fd, fd[FILES], raw_fd;
	struct vm_state state;
	struct snapshot_held held;	/* of `below` */
	struct mem_index index;
	char name[40];			/* of the snapshots inside disks */
	bool inside[VM_MAX_DISKS];	/* made */
	struct conf *conf;
	struct loop_bh parked, copied, finished;
	pthread_t thread;
	bool has_thread;
	bool copy_failed;		/* the thread's, before `copied` is posted */
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
	for (unsigned i = 0; i < vm->cfg->n_shares; i++)
		if (vm->cfg->share[i].peer.path)
			return err_set(e, -ENOTSUP, "a guest with a virtiofs share (share%u, tag %s) can be neither saved nor migrated: what it has open is known "
				       "to virtiofsd alone", i, vm->cfg->share[i].tag);
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
	if (!s->pack)
		return 0;
	s->raw_fd = openat(s->dir_fd, RAW, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->raw_fd < 0)
		return err_set(e, -errno, "'%s/%s' cannot be made: %s", s->dir, RAW, strerror(errno));
	unlinkat(s->dir_fd, RAW, 0);
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

/* The guest stands still, and does so until its memory is written, too. */
static int begin(struct vm_save *s, struct err *e)
{
	int ret = vm_snapshot_own(s->vm->cfg->tree, &s->conf, e);

	ret = ret ? ret : vm_snapshot_defaults(s->vm, s->conf, e);
	ret = ret ? ret : make_files(s, e);
	/* Times first: the guest's go on while it stands still, and it is not to notice how long that was. */
	ret = ret ? ret : vm_state_take(s->vm, &s->state, e);
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
	j = json_pack("{s:i,s:s+,s:s,s:s,s:s,s:i,s:I,s:I,s:I,s:b,s:s*,s:o}", "format", SNAPSHOT_VERSION, "name", cfg->name, "", "date", date, "lodge",
		      LODGE_VERSION, "engine", s->vm->engine_ops->name, "cpus", (int)vm_config_n_cpus(cfg), "memory", (json_int_t)cfg->memory, "memory-used",
		      (json_int_t)s->result.memory_bytes, "stored", (json_int_t)s->result.stored_bytes, "compressed", s->pack, "difference-of", s->below, "disks", disks);
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

/* ---- the thread ---- */

static int write_index(struct vm_save *s, struct snapshot_memory *about, struct err *e)
{
	uint8_t *bytes;
	size_t len, done = 0;
	int ret = mem_index_bytes(&s->index, &bytes, &len);

	if (ret)
		return err_set(e, ret, "the index of the memory: %s", strerror(-ret));
	memcpy(about->id, s->index.id, MEM_ID_LEN);
	about->index_len = len;
	about->index_crc = crc32c(0, bytes, len);
	while (!ret && done < len) {
		ssize_t n = pwrite(s->fd[F_INDEX], bytes + done, len - done, (off_t)done);

		ret = n > 0 || (n < 0 && errno == EINTR) ? 0 : n ? -errno : -ENOSPC;
		done += n > 0 ? (size_t)n : 0;
	}
	free(bytes);
	return ret ? err_set(e, ret, "'%s/%s' cannot be written: %s", s->dir, SNAPSHOT_INDEX, strerror(-ret)) : 0;
}

/* Memory stands in its file, raw; the guest may go on meanwhile. */
static int write_rest(struct vm_save *s, struct err *e)
{
	struct snapshot_memory about = { 0 };
	int ret = 0;

	s->result.stored_bytes = s->result.memory_bytes;
	if (s->below && !(s->index.below = strdup(s->below)))
		ret = err_set(e, -ENOMEM, "out of memory");
	if (!ret && s->pack)
		ret = mem_save_pack(s->raw_fd, s->fd[F_MEMORY], &s->index, &s->result.stored_bytes, e);
	ret = ret ? ret : write_index(s, &about, e);
	if (!ret && (snap_out_new(&s->state.o[SNAPSHOT_MEMORY]) || snap_put(s->state.o[SNAPSHOT_MEMORY], "memory", &snapshot_memory_table, &about)))
		ret = err_set(e, -ENOMEM, "out of memory");
	ret = ret ? ret : vm_state_put(&s->state, s->fd[F_STATE], e);
	for (unsigned i = 0; i < FILES && !ret; i++)
		if (fsync(s->fd[i]))
			ret = err_set(e, -errno, "'%s/%s' cannot be brought to the disk: %s", s->dir, file_names[i], strerror(errno));
	if (!ret && fsync(s->dir_fd))
		ret = err_set(e, -errno, "'%s': %s", s->dir, strerror(errno));
	if (!ret && s->below)
		ret = vm_snapshot_note_diff(s->below, s->dir, e);
	ret = ret ? ret : write_json(s, e);
	if (!ret)
		fsync(s->dir_fd);
	return ret;
}

static void *save_thread(void *opaque)
{
	struct vm_save *s = opaque;

	s->ret = mem_ram_save(s->vm->m->mem, s->pack ? s->raw_fd : s->fd[F_MEMORY], s->below ? s->held.image : NULL, &s->index, &s->result.memory_bytes, &s->e);
	s->result.pause_ns = loop_now_ns() - s->begun_ns;
	s->copy_failed = s->ret;
	loop_bh_post(&s->copied);
	if (!s->ret)
		s->ret = write_rest(s, &s->e);
	loop_bh_post(&s->finished);
	return NULL;
}

/* ---- the loop ---- */

static void save_free(struct vm_save *s)
{
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	loop_bh_cancel(&s->parked);
	loop_bh_cancel(&s->copied);
	loop_bh_cancel(&s->finished);
	for (unsigned i = 0; i < FILES; i++)
		if (s->fd[i] >= 0)
			close(s->fd[i]);
	if (s->dir_fd >= 0)
		close(s->dir_fd);
	if (s->raw_fd >= 0)
		close(s->raw_fd);
	vm_state_free(&s->state);
	vm_snapshot_held_free(&s->held);
	mem_index_free(&s->index);
	conf_free(s->conf);
	free(s->dir);
	free(s->below);
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
	if (s->reset)
		vm_reset(vm);
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

/* Its memory is written, or cannot be, which `finished` tells next. */
static void on_copied(void *opaque)
{
	struct vm_save *s = opaque;

	s->holds = false;
	if (s->reset)
		vm_reset(s->vm);
	s->reset = false;
	/* Once: whoever stops it from here on is not to find it running should what is left fail. */
	if (s->copy_failed || !s->resume || s->then != VM_SAVE_GO_ON)
		return;
	s->resume = false;
	vm_resume(s->vm);
}

/* All stands still, or somebody had it go on. */
static void on_parked(void *opaque)
{
	struct vm_save *s = opaque;

	if (!s->vm->paused) {
		s->ret = err_set(&s->e, -EAGAIN, "somebody had the guest go on before it stood still");
	} else {
		s->begun = true;
		s->begun_ns = loop_now_ns();
		s->ret = begin(s, &s->e);
	}
	if (!s->ret) {
		s->ret = -pthread_create(&s->thread, NULL, save_thread, s);
		s->holds = s->has_thread = !s->ret;
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

bool vm_save_holds(const struct vm *vm) { return vm->save && vm->save->holds; }

void vm_save_go_on(struct vm *vm, bool go_on)
{
	struct vm_save *s = vm->save;

	s->resume = go_on;
	if (go_on && s->then == VM_SAVE_STOP)
		s->then = VM_SAVE_GO_ON;
}

void vm_save_reset(struct vm *vm) { vm->save->reset = true; }

static struct vm_save *save_new(struct vm *vm, const struct vm_save_opts *o)
{
	struct vm_save *s = calloc(1, sizeof(*s));
	uint64_t number = 0;

	if (!s)
		return NULL;
	s->vm = vm;
	s->dir_fd = s->raw_fd = -1;
	for (unsigned i = 0; i < FILES; i++)
		s->fd[i] = -1;
	s->then = o->then;
	s->pack = o->compress;
	loop_bh_init(vm->m->loop, &s->parked, on_parked, s);
	loop_bh_init(vm->m->loop, &s->copied, on_copied, s);
	loop_bh_init(vm->m->loop, &s->finished, on_finished, s);
	s->dir = strdup(o->dir);
	s->below = o->diff_of ? strdup(o->diff_of) : NULL;
	if (!s->dir || !s->below != !o->diff_of || getrandom(&number, sizeof(number), 0) != sizeof(number)) {
		save_free(s);
		return NULL;
	}
	snprintf(s->name, sizeof(s->name), "lodge-%016llx", (unsigned long long)number);
	return s;
}

/* What it is to be a difference of is there, whole and of this machine's size. */
static int open_below(struct vm_save *s, struct err *e)
{
	int ret = s->below ? vm_snapshot_memory_of(s->below, mem_ram_size(s->vm->m->mem), &s->held, e) : 0;

	if (ret || !s->below)
		return ret;
	if (!mem_image_id(s->held.image))
		return err_set(e, -ENOTSUP, "'%s' is of a version that has no differences: save the guest anew", s->below);
	if (mem_image_levels(s->held.image) == MEM_IMAGE_LEVELS)
		return err_set(e, -ENOTSUP, "'%s' is a difference of a difference already, %u times: save the guest whole, or from an earlier one", s->below, MEM_IMAGE_LEVELS - 1);
	return 0;
}

int vm_save(struct vm *vm, const struct vm_save_opts *o, vm_save_done done, void *opaque, struct err *e)
{
	struct vm_save *s;
	int ret = check(vm, e);

	if (ret)
		return ret;
	if (!access(o->dir, F_OK))
		return err_set(e, -EEXIST, "'%s' exists already", o->dir);
	s = save_new(vm, o);
	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	ret = open_below(s, e);
	if (ret) {
		save_free(s);
		return ret;
	}
	s->done = done;
	s->opaque = opaque;
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
	/* The thread comes to its end: nothing changes the memory any more. */
	if (!s->has_thread)
		s->ret = err_set(&s->e, -ESHUTDOWN, "the guest ended before it was saved");
	s->resume = s->reset = false;
	finish(s);
}
