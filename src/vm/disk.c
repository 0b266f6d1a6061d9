// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks of the configuration: I/O thread, image, device, in that order; and
 * back in the other one when something is refused.
 *
 * Each disk has an I/O thread of its own unless the user groups them by name or
 * turns that off.  Threads are started before the machine runs and end after all
 * devices are gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/secret.h"
#include "machine/iothread.h"
#include "virtio/blk.h"
#include "vm/firmware.h"

#define MAX_DISK_QUEUES 8

struct vm_iothreads {
	unsigned n;
	struct {
		const char *name;	/* NULL: of one disk alone */
		struct iothread *t;
	} of[VM_MAX_DISKS];
};

static int start_iothread(struct vm *vm, unsigned i, const char *name, struct iothread **out, struct err *e)
{
	struct vm_iothreads *all = vm->io;
	char shown[16];
	int ret;

	if (name)
		snprintf(shown, sizeof(shown), "io-%s", name);
	else
		snprintf(shown, sizeof(shown), "io-disk%u", i);
	ret = iothread_new(vm->m, shown, out);
	if (ret)
		return err_set(e, ret, "the I/O thread of disk %u cannot be started: %s", i, strerror(-ret));
	all->of[all->n].name = name;
	all->of[all->n++].t = *out;
	return 0;
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

/* The node's lock is the I/O thread's, if it has one, else the machine's, which is held. */
static void node_lock(struct iothread *io)
{
	if (io)
		iothread_lock(io);
}

static void node_unlock(struct iothread *io)
{
	if (io)
		iothread_unlock(io);
}

static struct virtio_blk_opts device_opts(const struct vm *vm, const struct vm_disk *d, struct iothread *io)
{
	struct virtio_blk_opts o = {
		.queues = d->queues ? d->queues : MIN(vm->cfg->cpus, MAX_DISK_QUEUES),
		.disk = {
			.block_size = d->block_size, .physical_block = d->physical_block, .min_io = d->min_io, .opt_io = d->opt_io,
			.discard_unit = d->discard_unit, .no_discard = d->no_discard,
			.on_read_error = d->on_read_error, .on_write_error = d->on_write_error, .io = io,
		},
	};

	if (d->serial)
		snprintf(o.disk.serial, sizeof(o.disk.serial), "%s", d->serial);
	return o;
}

/* Machine lock held. */
static int add_disk(struct vm *vm, unsigned i, struct blk_secrets *secrets, struct err *e)
{
	const struct vm_disk *d = &vm->cfg->disk[i];
	struct blk_image_opts open = d->open;
	struct virtio_blk_opts o;
	struct virtio_dev *dev;
	struct blk_node *node;
	struct iothread *io;
	char id[32];
	int ret;

	ret = iothread_for(vm, i, &io, e);
	if (ret)
		return ret;
	open.secrets = secrets;
	open.keys = d->key;
	open.n_keys = d->n_keys;
	node_lock(io);
	ret = blk_open_disk(io ? iothread_loop(io) : vm->m->loop, d->path, &open, &d->more, &node, e);
	if (!ret && i == 0)
		vm_look_at_disk(vm, node);
	node_unlock(io);
	if (ret)
		return err_prefix(e, ret, "--disk");
	snprintf(id, sizeof(id), "disk%u", i);
	o = device_opts(vm, d, io);
	ret = virtio_blk_new(vm->m, id, node, &o, &dev, e);
	if (ret) {
		node_lock(io);
		blk_close(node);
		node_unlock(io);
		return err_prefix(e, ret, "--disk");
	}
	ret = platform_add_virtio(vm->platform, dev, e);
	if (ret)
		return ret;
	vm->disk[i] = virtio_blk_disk(dev);
	return vm_bootable_virtio(vm, VM_BOOT_DISK, e);
}

/* Each key once, however many disks it opens: a descriptor can be read only once. */
static int add_secrets(const struct vm_disk *d, struct blk_secrets *s, struct err *e)
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

int vm_add_disks(struct vm *vm, struct err *e)
{
	struct blk_secrets *s;
	int ret = blk_secrets_new(&s);

	if (ret)
		return err_set(e, ret, "out of memory");
	for (unsigned i = 0; i < vm->cfg->n_disks && !ret; i++)
		ret = add_secrets(&vm->cfg->disk[i], s, e);
	for (unsigned i = 0; i < vm->cfg->n_disks && !ret; i++)
		ret = add_disk(vm, i, s, e);
	/* Wiped before the guest runs. */
	blk_secrets_free(s);
	return ret;
}

void vm_free_iothreads(struct vm *vm)
{
	for (unsigned k = 0; vm->io && k < vm->io->n; k++)
		iothread_free(vm->io->of[k].t);
	free(vm->io);
	vm->io = NULL;
}
