// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks of the configuration: I/O thread, controller if it takes several, image,
 * device, in that order; and back in the other one when something is refused.
 *
 * Each disk has an I/O thread of its own unless the user groups them by name or
 * turns that off.  Threads are started before the machine runs and end after all
 * devices are gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bits.h"
#include "block/secret.h"
#include "device/ahci.h"
#include "device/nvme.h"
#include "device/usb_storage.h"
#include "device/xhci.h"
#include "machine/iothread.h"
#include "virtio/blk.h"
#include "virtio/scsi.h"
#include "vm/firmware.h"
#include "vm/migrate_int.h"
#include "vm/nodes.h"
#include "vm/seed.h"

#define MAX_DISK_QUEUES 8

struct vm_iothreads {
	unsigned n;
	struct {
		char *name;		/* NULL: of one disk alone */
		struct iothread *t;
		bool idle;		/* the disk it was of has gone */
	} of[2 * VM_MAX_DISKS];		/* those with names stay when their disks go */
};

/* Adapters of virtio-scsi. */
struct vm_scsi {
	char *name;			/* controller=; NULL: of all that say nothing */
	struct virtio_dev *dev;
	struct iothread *io;
	char path[64];			/* firmware's */
};

struct vm_scsis {
	unsigned n;
	struct vm_scsi of[VM_MAX_DISKS];
};

/* A disk on its way from the configuration into the machine. */
struct adding {
	struct vm *vm;
	unsigned i;
	const struct vm_disk *d;
	char id[32];
	struct iothread *io;
	struct nvme *nvme;		/* the controller, for NVMe */
	struct vm_scsi *scsi;		/* the adapter, for SCSI */
};

static int start_iothread(struct vm *vm, unsigned i, const char *name, struct iothread **out, struct err *e)
{
	struct vm_iothreads *all = vm->io;
	char shown[16];
	int ret;

	for (unsigned k = 0; !name && k < all->n; k++)
		if (all->of[k].idle) {
			all->of[k].idle = false;
			*out = all->of[k].t;
			return 0;
		}
	if (all->n == ARRAY_LEN(all->of))
		return err_set(e, -ENOSPC, "disk %u: there are %u I/O threads already", i, all->n);
	if (name)
		snprintf(shown, sizeof(shown), "io-%s", name);
	else
		snprintf(shown, sizeof(shown), "io-disk%u", i);
	ret = iothread_new(vm->m, shown, out);
	if (ret)
		return err_set(e, ret, "the I/O thread of disk %u cannot be started: %s", i, strerror(-ret));
	all->of[all->n].name = name ? strdup(name) : NULL;
	all->of[all->n++].t = *out;
	return name && !all->of[all->n - 1].name ? err_set(e, -ENOMEM, "out of memory") : 0;
}

static int iothread_for(struct vm *vm, unsigned i, struct iothread **out, struct err *e)
{
	const struct vm_disk *d = &vm->cfg->disk[i];

	*out = NULL;
	if (d->no_iothread)
		return 0;
	if (!vm->io)
		vm->io = calloc(1, sizeof(*vm->io));
	if (!vm->io)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned k = 0; d->iothread && k < vm->io->n; k++)
		if (vm->io->of[k].name && !strcmp(vm->io->of[k].name, d->iothread)) {
			*out = vm->io->of[k].t;
			return 0;
		}
	return start_iothread(vm, i, d->iothread, out, e);
}

/* The next disk has it, unless disks ask for it by name. */
static void idle_iothread(struct vm *vm, const struct iothread *t)
{
	for (unsigned k = 0; vm->io && t && k < vm->io->n; k++)
		if (vm->io->of[k].t == t && !vm->io->of[k].name)
			vm->io->of[k].idle = true;
}

struct iothread *vm_iothread_of(const struct vm *vm, const struct loop *l)
{
	for (unsigned k = 0; vm->io && k < vm->io->n; k++)
		if (iothread_loop(vm->io->of[k].t) == l)
			return vm->io->of[k].t;
	return NULL;
}

static struct disk_opts disk_opts(const struct adding *a)
{
	const struct vm_disk *d = a->d;
	struct disk_opts o = {
		.block_size = d->block_size, .physical_block = d->physical_block, .min_io = d->min_io, .opt_io = d->opt_io,
		.discard_unit = d->discard_unit, .no_discard = d->no_discard,
		.on_read_error = d->on_read_error, .on_write_error = d->on_write_error, .io = a->io,
	};

	if (d->serial)
		snprintf(o.serial, sizeof(o.serial), "%s", d->serial);
	return o;
}

static unsigned queues(const struct adding *a)
{
	return a->d->queues ? a->d->queues : MIN(a->vm->cfg->cpus, MAX_DISK_QUEUES);
}

/* The device would not have it. */
static int not_taken(const struct adding *a, struct blk_node *node, int ret, struct err *e)
{
	iothread_lock(a->io);
	blk_close(node);
	iothread_unlock(a->io);
	return err_prefix(e, ret, "%s", vm_disk_option(a->d));
}

/* The node is the device's from here on, unless an error says otherwise. */
static int add_virtio(struct adding *a, struct blk_node *node, struct err *e)
{
	const struct virtio_blk_opts o = { .disk = disk_opts(a), .queues = queues(a) };
	struct virtio_dev *dev;
	int ret = virtio_blk_new(a->vm->m, a->id, node, &o, &dev, e);

	if (ret)
		return not_taken(a, node, ret, e);
	ret = vm_add_card(a->vm, dev, a->d->bus, a->d->slot, e);
	if (ret)
		return ret;
	a->vm->disk[a->i] = virtio_blk_disk(dev);
	return vm_bootable_virtio(a->vm, VM_BOOT_DISK, a->d->bootindex, e);
}

static int add_nvme(struct adding *a, struct blk_node *node, struct err *e)
{
	const struct disk_opts o = disk_opts(a);
	unsigned nsid = 1;
	char path[64];
	int ret = nvme_add_ns(a->nvme, a->id, node, &o, e);

	if (ret)
		return not_taken(a, node, ret, e);
	while (nvme_disk(a->nvme, nsid + 1))
		nsid++;
	a->vm->disk[a->i] = nvme_disk(a->nvme, nsid);
	/* The name that firmware knows NVMe controllers by. */
	snprintf(path, sizeof(path), "/pci@i0cf8/pci8086,5845@%x/namespace@%x,0", nvme_devfn(a->nvme) >> 3, nsid);
	return vm_bootable(a->vm, VM_BOOT_DISK, path, a->d->bootindex, e);
}

/* The first disk of a controller decides about its thread, queues and serial. */
static int nvme_for(struct adding *a, struct err *e)
{
	struct vm *vm = a->vm;
	/* OVMF's driver makes two pairs of queues, and does without the disk if it cannot. */
	struct nvme_opts o = { .queues = a->d->queues ? a->d->queues : MAX(queues(a), 2u) };
	int ret;

	for (unsigned k = 0; a->d->controller && k < a->i; k++) {
		const struct vm_disk *other = &vm->cfg->disk[k];

		if (!other->controller || strcmp(other->controller, a->d->controller))
			continue;
		if (a->d->iothread || a->d->no_iothread)
			return err_set(e, -EINVAL, "--disk: disks of one controller share an I/O thread; say iothread= with the first of them");
		a->nvme = vm->nvme[k];
		vm->nvme[a->i] = a->nvme;
		a->io = vm->disk[k]->o.io;
		return 0;
	}
	ret = iothread_for(vm, a->i, &a->io, e);
	if (ret)
		return ret;
	o.io = a->io;
	if (a->d->serial)
		snprintf(o.serial, sizeof(o.serial), "%s", a->d->serial);
	ret = nvme_new(vm->m, platform_pci_bus(vm->platform), PCI_ANY_DEVFN, a->d->controller ? a->d->controller : a->id, &o, &a->nvme, e);
	vm->nvme[a->i] = a->nvme;
	return ret ? err_prefix(e, ret, "--disk") : 0;
}

/* One controller for all of them, where an ICH9 has it; the first decides about its thread. */
static int ahci_for(struct adding *a, struct err *e)
{
	struct vm *vm = a->vm;
	int ret;

	for (unsigned k = 0; vm->ahci && k < a->i; k++)
		if (vm->cfg->disk[k].interface == VM_DISK_AHCI)
			a->io = vm->disk[k]->o.io;
	if (vm->ahci)
		return a->d->iothread || a->d->no_iothread ?
			err_set(e, -EINVAL, "--disk: disks on AHCI share an I/O thread; say iothread= with the first of them") : 0;
	ret = iothread_for(vm, a->i, &a->io, e);
	if (!ret)
		ret = ahci_new(vm->m, platform_pci_bus(vm->platform), PCI_DEVFN(0x1f, 2), "ahci0", a->io, &vm->ahci, e);
	return ret ? err_prefix(e, ret, "--disk") : 0;
}

static int add_ahci(struct adding *a, struct blk_node *node, struct err *e)
{
	const struct disk_opts o = disk_opts(a);
	unsigned port = 0, devfn = ahci_devfn(a->vm->ahci);
	char path[64];
	int ret = ahci_add(a->vm->ahci, a->id, node, a->d->cdrom, &o, &port, e);

	if (ret)
		return not_taken(a, node, ret, e);
	a->vm->disk[a->i] = ahci_disk(a->vm->ahci, port);
	snprintf(path, sizeof(path), "/pci@i0cf8/pci8086,2922@%x,%x/drive@%x/disk@0", devfn >> 3, devfn & 7, port);
	return vm_bootable(a->vm, a->d->cdrom ? VM_BOOT_CDROM : VM_BOOT_DISK, path, a->d->bootindex, e);
}

/* ---- SCSI ---- */

static struct vm_scsi *find_scsi(struct vm_scsis *all, const char *name)
{
	for (unsigned k = 0; k < all->n; k++)
		if (!name == !all->of[k].name && (!name || !strcmp(name, all->of[k].name)))
			return &all->of[k];
	return NULL;
}

static int new_scsi(struct adding *a, struct vm_scsi *s, struct err *e)
{
	struct virtio_scsi_opts o = { .queues = queues(a) };
	char id[32];
	int ret = iothread_for(a->vm, a->i, &s->io, e);

	if (ret)
		return ret;
	o.io = s->io;
	o.queues = MIN(o.queues, (unsigned)VIRTIO_SCSI_MAX_QUEUES);
	snprintf(id, sizeof(id), "scsi%u", a->vm->scsi->n);
	ret = virtio_scsi_new(a->vm->m, id, &o, &s->dev, e);
	if (!ret)
		ret = platform_add_virtio(a->vm->platform, s->dev, e);
	if (ret)
		return err_prefix(e, ret, "--disk");
	platform_device_path(a->vm->platform, s->path, sizeof(s->path));
	s->name = a->d->controller ? strdup(a->d->controller) : NULL;
	a->vm->scsi->n++;
	return a->d->controller && !s->name ? err_set(e, -ENOMEM, "out of memory") : 0;
}

/* The first disk of an adapter decides about its thread and queues. */
static int scsi_for(struct adding *a, struct err *e)
{
	struct vm *vm = a->vm;
	int ret = 0;

	if (!vm->scsi)
		vm->scsi = calloc(1, sizeof(*vm->scsi));
	if (!vm->scsi)
		return err_set(e, -ENOMEM, "out of memory");
	a->scsi = find_scsi(vm->scsi, a->d->controller);
	if (!a->scsi && vm->built)
		return err_set(e, -ENOENT, "there is no SCSI adapter%s%.60s", a->d->controller ? " " : "", a->d->controller ? a->d->controller : "");
	if (!a->scsi) {
		a->scsi = &vm->scsi->of[vm->scsi->n];
		ret = new_scsi(a, a->scsi, e);
	} else if (a->d->iothread || a->d->no_iothread) {
		ret = err_set(e, -EINVAL, "--disk: disks of one SCSI adapter share an I/O thread; say iothread= with the first of them");
	}
	a->io = a->scsi->io;
	return ret;
}

/* As QEMU does it: by default each disk is a target with one unit. */
static void scsi_address(const struct adding *a, unsigned *target, unsigned *lun)
{
	*target = a->d->scsi_id < 0 ? 0 : (unsigned)a->d->scsi_id;
	*lun = a->d->lun < 0 ? 0 : (unsigned)a->d->lun;
	while (a->d->scsi_id < 0 && virtio_scsi_unit(a->scsi->dev, *target, *lun))
		++*target;
	while (a->d->scsi_id >= 0 && a->d->lun < 0 && virtio_scsi_unit(a->scsi->dev, *target, *lun))
		++*lun;
}

static int add_scsi(struct adding *a, struct blk_node *node, struct err *e)
{
	const struct disk_opts o = disk_opts(a);
	unsigned target, lun;
	char path[120];
	int ret;

	scsi_address(a, &target, &lun);
	ret = virtio_scsi_add(a->scsi->dev, target, lun, a->id, node, a->d->cdrom, &o, e);
	if (ret)
		return not_taken(a, node, ret, e);
	a->vm->disk[a->i] = &virtio_scsi_unit(a->scsi->dev, target, lun)->disk;
	if (!*a->scsi->path)
		return 0;
	snprintf(path, sizeof(path), "%s/channel@0/disk@%x,%x", a->scsi->path, target, lun);
	return vm_bootable(a->vm, a->d->cdrom ? VM_BOOT_CDROM : VM_BOOT_DISK, path, a->d->bootindex, e);
}

/* ---- USB ---- */

static int add_usb(struct adding *a, struct blk_node *node, struct err *e)
{
	const struct disk_opts o = disk_opts(a);
	struct usb_device *dev;
	unsigned port = 0, devfn = xhci_devfn(a->vm->xhci);
	char path[80], where[16];
	int ret = usb_storage_new(a->vm->m, a->id, node, a->d->cdrom, &o, &dev, e);

	if (ret)
		return not_taken(a, node, ret, e);
	port = a->d->usb_port;
	ret = xhci_plug(a->vm->xhci, dev, &port, e);
	if (ret) {
		dev->dev.ops->free(&dev->dev);
		return err_prefix(e, ret, "--disk");
	}
	a->vm->usb_disk[a->i] = dev;
	a->vm->disk[a->i] = usb_storage_disk(dev);
	snprintf(where, sizeof(where), devfn & 7 ? "%x,%x" : "%x", devfn >> 3, devfn & 7);
	snprintf(path, sizeof(path), "/pci@i0cf8/usb@%s/storage@%x/channel@0/disk@0,0", where, port);
	return vm_bootable(a->vm, a->d->cdrom ? VM_BOOT_CDROM : VM_BOOT_DISK, path, a->d->bootindex, e);
}

/* ---- floppy ---- */

static int add_floppy(struct adding *a, struct blk_node *node, struct err *e)
{
	const struct disk_opts o = disk_opts(a);
	unsigned n = 0;
	char path[64];
	int ret;

	for (unsigned k = 0; k < a->i; k++)
		n += a->vm->cfg->disk[k].interface == VM_DISK_FLOPPY;
	ret = platform_add_floppy(a->vm->platform, n, a->id, node, &o, &a->vm->disk[a->i], path, sizeof(path), e);
	if (ret)
		return not_taken(a, node, ret, e);
	return vm_bootable(a->vm, VM_BOOT_FLOPPY, path, a->d->bootindex, e);
}

static int controller_for(struct adding *a, struct err *e)
{
	switch (a->d->interface) {
	case VM_DISK_SCSI: return scsi_for(a, e);
	case VM_DISK_NVME: return nvme_for(a, e);
	case VM_DISK_AHCI: return ahci_for(a, e);
	case VM_DISK_USB: return vm_usb_controller(a->vm, e);
	case VM_DISK_FLOPPY: return 0;
	case VM_DISK_VIRTIO:
	default: return iothread_for(a->vm, a->i, &a->io, e);
	}
}

static int add_device(struct adding *a, struct blk_node *node, struct err *e)
{
	switch (a->d->interface) {
	case VM_DISK_SCSI: return add_scsi(a, node, e);
	case VM_DISK_NVME: return add_nvme(a, node, e);
	case VM_DISK_AHCI: return add_ahci(a, node, e);
	case VM_DISK_USB: return add_usb(a, node, e);
	case VM_DISK_FLOPPY: return add_floppy(a, node, e);
	case VM_DISK_VIRTIO:
	default: return add_virtio(a, node, e);
	}
}

/* A disk that a saved VM only reads is what it was. */
static int unchanged(const struct vm_disk *d, struct err *e)
{
	long long size, ns;
	struct stat st;

	if (!d->was || !d->path)
		return 0;
	if (sscanf(d->was, "%lld %lld", &size, &ns) != 2)
		return err_set(e, -EINVAL, "--disk: was is no size and time");
	if (stat(d->path, &st))
		return err_set(e, -errno, "--disk: '%s': %s", d->path, strerror(errno));
	if (st.st_size != size || (long long)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec != ns)
		return err_set(e, -ESTALE, "disk '%s' is not any more what it was when the guest was saved (its size or time of change is another)", d->path);
	return 0;
}

/* The file is in memory, and goes when it is closed. */
static int open_seed(struct vm *vm, struct loop *l, const struct vm_disk *d, struct blk_node **node, struct err *e)
{
	struct blk_image_opts open = d->open;
	char path[32];
	int fd, ret = vm_seed_make(&vm->cfg->seed, vm->cfg->name, &fd, e);

	if (ret)
		return ret;
	open.format = "raw";
	open.file.no_lock = true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = blk_open_disk(l, path, &open, &d->more, node, e);
	close(fd);
	return ret ? err_prefix(e, ret, "cloud-init's disk") : 0;
}

/* The disk's node: one that the user made, or an image that is opened for it. Nobody's lock is held. */
static int open_in(struct vm *vm, const struct adding *a, struct blk_secrets *secrets, const struct blk_disk_opts *more, struct blk_node **node, struct err *e)
{
	struct loop *l = a->io ? iothread_loop(a->io) : vm->m->loop;
	const struct vm_disk *d = a->d;
	struct blk_image_opts open = d->open;
	bool waits;
	int ret;

	if (d->seed)
		return open_seed(vm, l, d, node, e);
	if (d->node) {
		ret = vm_node_use(vm, d->node, a->io, !d->open.file.read_only, more, node, e);
		iothread_lock(a->io);
		if (!ret && d == vm_config_first_disk(vm->cfg))
			vm_look_at_disk(vm, *node);
		iothread_unlock(a->io);
		return ret;
	}
	open.secrets = secrets;
	open.keys = d->key;
	open.n_keys = d->n_keys;
	/* Somebody else has it open for writing, and hands it over with the guest. */
	waits = vm_migrate_expects(vm) && d->path && !open.file.read_only && !d->snapshot && !d->more.temporary;
	open.file.read_only |= waits;
	open.file.no_lock |= waits;
	iothread_lock(a->io);
	ret = waits ? 0 : vm_make_disk(vm, l, d, e);
	if (!ret)
		ret = (d->snapshot ? vm_open_snapshot : blk_open_disk)(l, d->path, &open, more, node, e);
	if (!ret && d == vm_config_first_disk(vm->cfg))
		vm_look_at_disk(vm, *node);
	if (!ret && waits && (ret = mig_disk_wait(*node, e)))
		blk_close(*node);
	iothread_unlock(a->io);
	return ret;
}

/* As part of the throttle group that it names. */
static int open_node(struct vm *vm, const struct adding *a, struct blk_secrets *secrets, struct blk_node **node, struct err *e)
{
	struct blk_disk_opts more = a->d->more;
	int ret = more.group ? vm_group_get(vm, more.group, &more.throttle, &more.shared, e) : 0;

	if (!ret)
		ret = open_in(vm, a, secrets, &more, node, e);
	blk_throttle_group_unref(more.shared);
	return ret;
}

/* Machine lock held. */
static int add_disk(struct vm *vm, unsigned i, struct blk_secrets *secrets, struct err *e)
{
	const struct vm_disk *d = &vm->cfg->disk[i];
	struct adding a = { .vm = vm, .i = i, .d = d };
	struct blk_node *node = NULL;
	int ret;

	snprintf(a.id, sizeof(a.id), "disk%u", i);
	vm->m->rank = VM_RANK_DISKS + i;
	ret = d->there ? unchanged(d, e) : 0;
	if (!ret && (d->there || d->absent))
		ret = controller_for(&a, e);
	if (ret || !d->there)
		return ret;
	ret = open_node(vm, &a, secrets, &node, e);
	/* Which of a seed's options it is says the message. */
	if (ret && !d->seed)
		err_prefix(e, ret, "%s", vm_disk_option(d));
	ret = ret ? ret : add_device(&a, node, e);
	if (ret && d->interface == VM_DISK_VIRTIO)
		idle_iothread(vm, a.io);
	return ret;
}

/* Each key once, however many disks it opens: a descriptor can be read only once. */
int vm_disk_secrets(const struct vm_disk *d, struct blk_secrets *s, struct err *e)
{
	int ret = 0;

	for (unsigned k = 0; k < d->n_keys && !ret; k++) {
		const char *key = d->key[k];
		bool file = !strncmp(key, "file:", 5);
		const struct blk_secret_source from = { .file = file ? key + 5 : NULL, .fd = file ? -1 : atoi(key + 3) };

		/* Already there: another disk's too. */
		ret = blk_secrets_add(s, key, &from, NULL);
		if (ret)
			ret = ret == -EEXIST ? 0 : err_set(e, ret, "--disk: the key %s cannot be kept: %s", key, strerror(-ret));
	}
	return ret;
}

/* Those of [first, end) that were there from the start, or have come since. */
static int add_range(struct vm *vm, unsigned first, unsigned end, bool hotplugged, struct err *e)
{
	struct blk_secrets *s;
	int ret = blk_secrets_new(&s);

	if (ret)
		return err_set(e, ret, "out of memory");
	for (unsigned i = first; i < end && !ret; i++)
		if (vm->cfg->disk[i].hotplugged == hotplugged)
			ret = vm_disk_secrets(&vm->cfg->disk[i], s, e);
	for (unsigned i = first; i < end && !ret; i++)
		if (vm->cfg->disk[i].hotplugged == hotplugged)
			ret = add_disk(vm, i, s, e);
	/* Wiped before the guest runs. */
	blk_secrets_free(s);
	return ret;
}

int vm_add_disks(struct vm *vm, struct err *e) { return add_range(vm, 0, vm->cfg->n_disks, false, e); }
int vm_add_hotplugged_disks(struct vm *vm, struct err *e) { return add_range(vm, 0, vm->cfg->n_disks, true, e); }
int vm_add_disk(struct vm *vm, unsigned i, struct err *e) { return add_range(vm, i, i + 1, vm->cfg->disk[i].hotplugged, e); }

bool vm_scsi_place(const struct vm *vm, unsigned i, unsigned *target, unsigned *lun)
{
	for (unsigned k = 0; vm->disk[i] && vm->scsi && k < vm->scsi->n; k++)
		if (virtio_scsi_place(vm->scsi->of[k].dev, vm->disk[i], target, lun))
			return true;
	return false;
}

void vm_remove_disk(struct vm *vm, unsigned i)
{
	const struct vm_disk *d = &vm->cfg->disk[i];
	struct iothread *io = vm->disk[i]->o.io;
	struct vm_scsi *s;

	switch (d->interface) {
	case VM_DISK_SCSI:
		s = find_scsi(vm->scsi, d->controller);
		virtio_scsi_remove(s->dev, vm->disk[i]);
		break;
	case VM_DISK_USB:
		vm->usb_disk[i]->dev.ops->free(&vm->usb_disk[i]->dev);
		vm->usb_disk[i] = NULL;
		break;
	case VM_DISK_VIRTIO:
		vm_free_card(vm, d->bus, d->slot);
		/* Its thread cannot end while the machine lock is held; the next disk has it. */
		idle_iothread(vm, io);
		break;
	case VM_DISK_NVME:
	case VM_DISK_AHCI:
	case VM_DISK_FLOPPY:
		return;
	}
	vm->disk[i] = NULL;
	vm->disk_claimed[i] = vm->disk_opened[i] = false;
}

void vm_free_disks(struct vm *vm)
{
	vm_free_nodes(vm);
	for (unsigned k = 0; vm->scsi && k < vm->scsi->n; k++)
		free(vm->scsi->of[k].name);
	free(vm->scsi);
	vm->scsi = NULL;
	for (unsigned k = 0; vm->io && k < vm->io->n; k++) {
		iothread_free(vm->io->of[k].t);
		free(vm->io->of[k].name);
	}
	free(vm->io);
	vm->io = NULL;
}
