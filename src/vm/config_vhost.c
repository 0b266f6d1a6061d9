// SPDX-License-Identifier: GPL-2.0-or-later
/* Configuration of devices whose work a vhost-user peer does. */
#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "vm/config_int.h"

#define RECONNECT_MAX 3600

int config_peer(struct vm_peer *p, const char *field, const char *val, struct err *e)
{
	if (!strcmp(field, "server"))
		return config_bool(val, &p->server, e);
	if (!strcmp(field, "reconnect"))
		return config_uint(val, 0, RECONNECT_MAX, &p->reconnect, e);
	if (!strcmp(field, "num-queues"))
		return config_uint(val, 1, VIRTIO_MAX_QUEUES, &p->queues, e);
	if (!strcmp(field, "queue-size")) {
		if (config_uint(val, 8, VQ_MAX_SIZE, &p->queue_size, e))
			return -EINVAL;
		return is_pow2(p->queue_size) ? 0 : err_set(e, -EINVAL, "queue-size=%s is not a power of two from 8 to %d", val, VQ_MAX_SIZE);
	}
	return -ENOENT;
}

int config_vhost_disk(struct vm_config *v, unsigned n, const char *field, const char *val, struct err *e)
{
	struct vm_vhost_disk *d;

	if (n >= VM_MAX_VHOST_DISKS)
		return err_set(e, -E2BIG, "a guest has at most %d vhost-user disks", VM_MAX_VHOST_DISKS);
	d = &v->vhost_disk[n];
	for (; v->n_vhost_disks <= n; v->n_vhost_disks++)
		v->vhost_disk[v->n_vhost_disks].bootindex = -1;
	if (!strcmp(field, "path"))
		return config_text(val, &d->peer.path, e);
	if (!strcmp(field, "bootindex"))
		return config_bootindex(val, &d->bootindex, e);
	if (!strcmp(field, "bus"))
		return config_text(val, &d->bus, e);
	return config_peer(&d->peer, field, val, e);
}

int config_check_vhost_disks(struct vm_config *v, struct err *e)
{
	for (unsigned i = 0; i < v->n_vhost_disks; i++) {
		const struct vm_vhost_disk *d = &v->vhost_disk[i];

		if (!d->peer.path)
			return err_set(e, -EINVAL, "--disk: vhost-disk.%u.path is missing", i);
		if (d->bus && v->machine == VM_MACHINE_MICRO)
			return err_set(e, -EINVAL, "--disk: bus= is for --machine pc");
	}
	return 0;
}
