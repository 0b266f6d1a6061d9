/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A raw image nobody called raw.  Requests pass to the file below as they are;
 * only a write that would give the first sector the looks of another format is
 * refused.  The sector is looked at in a copy, which is then what is written: the
 * memory of a request may be a guest's and change meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"
#include "base/log.h"
#include "block/image.h"

struct raw {
	struct blk_node n;
	bool warned;
};

/* The request below; with a copy of the first sector and the pieces that follow it. */
struct pass {
	struct blk_req r, *up;
	uint8_t first[BLK_SECTOR] __attribute__((aligned(8)));
	struct iovec iov[];
};

static void pass_done(struct blk_req *r, int ret)
{
	struct pass *p = container_of(r, struct pass, r);

	blk_finish(p->up, ret);
	free(p);
}

static int guard(struct raw *w, struct pass *p, unsigned room)
{
	struct blk_req *up = p->up;
	int n;

	if (iov_to_buf(up->iov, up->niov, 0, p->first, BLK_SECTOR) != BLK_SECTOR)
		return -EINVAL;
	if (strcmp(blk_probe(p->first, BLK_SECTOR), "raw") != 0) {
		if (!w->warned)
			log_warn("disk '%s': a write that makes it look like a %s image was refused; say format=raw to allow it",
				 w->n.path, blk_probe(p->first, BLK_SECTOR));
		w->warned = true;
		return -EPERM;
	}
	p->iov[0] = (struct iovec){ p->first, BLK_SECTOR };
	n = iov_slice(up->iov, up->niov, BLK_SECTOR, up->len - BLK_SECTOR, p->iov + 1, room - 1);
	if (n < 0)
		return -EINVAL;
	p->r.iov = p->iov;
	p->r.niov = (unsigned)n + 1;
	return 0;
}

static void raw_submit(struct blk_node *n, struct blk_req *r)
{
	bool guarded = r->op == BLK_WRITE && r->offset == 0;
	unsigned room = guarded ? r->niov + 1 : 0;
	struct pass *p = malloc(sizeof(*p) + room * sizeof(p->iov[0]));
	int ret = p ? 0 : -ENOMEM;

	if (p) {
		p->r = *r;
		p->r.done = pass_done;
		p->up = r;
	}
	if (!ret && guarded)
		ret = guard(container_of(n, struct raw, n), p, room);
	if (!ret) {
		blk_submit(n->file, &p->r);
		return;
	}
	free(p);
	blk_finish(r, ret);
}

static void raw_wait(struct blk_node *n)
{
	blk_progress(n->file);
}

static int raw_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	int ret = blk_resize(n->file, size, e);

	n->i.size = n->file->i.size;
	return ret;
}

static int raw_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	int ret = blk_reopen(n->file, how, e);

	n->i = n->file->i;
	return ret;
}

static void raw_close(struct blk_node *n)
{
	blk_close(n->file);
	blk_node_fini(n);
	free(container_of(n, struct raw, n));
}

static const struct blk_driver raw_driver = {
	.name = "raw",
	.submit = raw_submit,
	.wait = raw_wait,
	.resize = raw_resize,
	.reopen = raw_reopen,
	.close = raw_close,
};

int blk_raw_guarded(struct blk_node *file, struct blk_node **out)
{
	struct raw *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	blk_node_init(&w->n, file->loop, &raw_driver);
	w->n.path = strdup(file->path ? file->path : "");
	if (!w->n.path) {
		blk_node_fini(&w->n);
		free(w);
		return -ENOMEM;
	}
	w->n.i = file->i;
	w->n.file = file;
	w->n.format = "raw";
	*out = &w->n;
	return 0;
}
