// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices whose work a vhost-user peer does: disks (--disk vhost-user=) and file systems (--share virtiofs=), each with an I/O thread of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "machine/iothread.h"
#include "vhost/user.h"
#include "virtio/vhost_blk.h"
#include "virtio/vhost_fs.h"
#include "vm/firmware.h"
#include "vm/internal.h"

/* The peer, once he is there, and the I/O thread that his device is to work on. */
static int open_peer(struct vm *vm, const struct vm_peer *p, const char *id, uint32_t config_len, struct vhost **peer, struct iothread **io, struct err *e)
{
	const struct vhost_user_opts o = { .path = p->path, .name = id, .server = p->server, .reconnect_ms = p->reconnect * 1000, .config_len = config_len };
	char name[16];
	int ret;

	snprintf(name, sizeof(name), "io-%s", id);
	ret = iothread_new(vm->m, name, io);
	if (ret)
		return err_set(e, ret, "an I/O thread cannot be started: %s", strerror(-ret));
	vm->peer_io[vm->n_peer_io++] = *io;
	return vhost_user_new(iothread_loop(*io), &o, peer, e);
}

static int add_disk(struct vm *vm, unsigned i, struct err *e)
{
	const struct vm_vhost_disk *d = &vm->cfg->vhost_disk[i];
	struct vhost_blk_opts o = { .queues = d->peer.queues, .queue_size = (uint16_t)d->peer.queue_size };
	struct virtio_dev *dev;
	struct vhost *peer;
	char id[32];
	int ret;

	snprintf(id, sizeof(id), "vhost-disk%u", i);
	vm->m->rank = VM_RANK_DISKS + VM_MAX_DISKS + i;
	ret = open_peer(vm, &d->peer, id, VHOST_BLK_CONFIG_LEN, &peer, &o.io, e);
	if (ret)
		return err_prefix(e, ret, "--disk");
	ret = vhost_blk_new(vm->m, id, peer, &o, &dev, e);
	if (ret) {
		peer->ops->free(peer);
		return err_prefix(e, ret, "--disk");
	}
	ret = vm_add_card(vm, dev, d->bus, 0, e);
	return ret ? err_prefix(e, ret, "--disk") : vm_bootable_virtio(vm, VM_BOOT_DISK, d->bootindex, e);
}

int vm_add_vhost_disks(struct vm *vm, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_vhost_disks && !ret; i++)
		ret = add_disk(vm, i, e);
	return ret;
}

int vm_add_virtiofs(struct vm *vm, const char *id, const struct vm_peer *p, const char *tag, struct err *e)
{
	struct vhost_fs_opts o = { .queues = p->queues, .queue_size = (uint16_t)p->queue_size };
	struct virtio_dev *dev;
	struct vhost *peer;
	int ret = open_peer(vm, p, id, 0, &peer, &o.io, e);

	if (ret)
		return ret;
	ret = vhost_fs_new(vm->m, id, peer, tag, &o, &dev, e);
	if (ret) {
		peer->ops->free(peer);
		return ret;
	}
	return platform_add_virtio(vm->platform, dev, e);
}

void vm_free_peer_threads(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_peer_io; i++)
		iothread_free(vm->peer_io[i]);
	vm->n_peer_io = 0;
}

bool vm_has_peers(const struct vm_config *cfg)
{
	bool any = cfg->n_vhost_disks;

	for (unsigned i = 0; i < cfg->n_shares; i++)
		any |= cfg->share[i].peer.path != NULL;
	return any;
}
