// SPDX-License-Identifier: GPL-2.0-or-later
/* Folders of the host that the guest may mount (--share): a 9P server each, behind a virtio device. */
#include <stdio.h>
#include <sys/resource.h>

#include "virtio/p9.h"
#include "vm/internal.h"

/* Requests of one folder that are worked on at a time. */
#define THREADS 8

/* A guest keeps many files open, of which few are busy: as many descriptors as may be without asking for more rights. */
static void raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY)
		return;
	r.rlim_cur = r.rlim_max == RLIM_INFINITY ? 65536 : MIN(r.rlim_max, (rlim_t)65536);
	setrlimit(RLIMIT_NOFILE, &r);
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
	snprintf(id, sizeof(id), "share%u", i);
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

	if (vm->cfg->n_shares)
		raise_limit();
	for (unsigned i = 0; i < vm->cfg->n_shares && !ret; i++)
		ret = add_share(vm, i, e);
	return ret;
}
