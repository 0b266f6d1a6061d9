// SPDX-License-Identifier: GPL-2.0-or-later
/* Folders of the host that the guest may mount (--share): a 9P server each, behind a virtio device. */
#include <stdio.h>
#include <sys/resource.h>

#include "virtio/p9.h"
#include "vm/internal.h"

/* Requests of one folder that are worked on at a time. */
#define THREADS 8
#define FDS_MAX 65536u			/* of the process */

/* A guest keeps many files open, of which few are busy: as many descriptors as may be without asking for more rights.  Half of
 * them are for shares: what one of n may keep open. */
static unsigned descriptors(unsigned n)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return 64;
	if (r.rlim_cur != RLIM_INFINITY && r.rlim_cur < FDS_MAX) {
		r.rlim_cur = MIN(r.rlim_max, (rlim_t)FDS_MAX);
		setrlimit(RLIMIT_NOFILE, &r);
	}
	return (unsigned)MAX(MIN(r.rlim_cur, (rlim_t)FDS_MAX) / 2 / n, (rlim_t)64);
}

static int add_share(struct vm *vm, unsigned i, struct err *e)
{
	const struct vm_share *c = &vm->cfg->share[i];
	struct p9_opts o = c->opts;
	struct virtio_dev *dev;
	struct p9 *server;
	char id[32];
	int ret;

	o.path = c->path;
	o.name = c->tag;
	o.max_threads = THREADS;
	o.max_fds = descriptors(vm->cfg->n_shares);
	snprintf(id, sizeof(id), "share%u", i);
	if (c->peer.path) {
		ret = vm_add_virtiofs(vm, id, &c->peer, c->tag, e);
		return ret ? err_prefix(e, ret, "--share") : 0;
	}
	ret = p9_new(&o, &server, e);
	if (ret)
		return err_prefix(e, ret, "--share");
	ret = virtio_p9_new(vm->m, id, server, c->tag, &dev, e);
	if (ret) {
		p9_free(server);
		return ret;
	}
	return platform_add_virtio(vm->platform, dev, e);
}

int vm_add_shares(struct vm *vm, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < vm->cfg->n_shares && !ret; i++)
		ret = add_share(vm, i, e);
	return ret;
}
