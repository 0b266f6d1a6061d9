/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The raw format as a node of its own: a window onto the node below, all of it or
 * `size` bytes from `offset` on.  For users who put graphs together themselves;
 * images that are opened by their name have the file itself instead.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "block/image.h"

struct window {
	struct blk_node n;
	uint64_t offset, size;		/* size 0: up to the end */
};

struct seen {
	struct blk_req r, *up;
};

static void seen_done(struct blk_req *r, int ret)
{
	struct seen *s = container_of(r, struct seen, r);

	blk_finish(s->up, ret);
	free(s);
}

static void window_submit(struct blk_node *n, struct blk_req *r)
{
	struct seen *s = malloc(sizeof(*s));
	int ret = s ? 0 : -ENOMEM;

	if (s) {
		s->r = *r;
		s->r.done = seen_done;
		s->up = r;
		if (r->op != BLK_FLUSH && add_overflows(r->offset, container_of(n, struct window, n)->offset, &s->r.offset))
			ret = -ERANGE;
	}
	if (!ret) {
		blk_submit(n->file, &s->r);
		return;
	}
	free(s);
	blk_finish(r, ret);
}

static void window_wait(struct blk_node *n)
{
	blk_progress(n->file);
}

static void take_info(struct window *w)
{
	const struct blk_info *f = &w->n.file->i;

	w->n.i = *f;
	w->n.i.size = w->size ? w->size : f->size - MIN(w->offset, f->size);
}

static int window_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	struct window *w = container_of(n, struct window, n);
	uint64_t end;
	int ret;

	if (w->size)
		return err_set(e, -ENOTSUP, "Cannot resize fixed-size raw disks");
	if (add_overflows(size, w->offset, &end))
		return err_set(e, -EINVAL, "Disk size too large");
	ret = blk_resize(n->file, end, e);
	take_info(w);
	return ret;
}

static int window_extend(struct blk_node *n, uint64_t size)
{
	struct window *w = container_of(n, struct window, n);
	uint64_t end;
	int ret;

	if (w->size || add_overflows(size, w->offset, &end))
		return size <= n->i.size ? 0 : -ENOSPC;
	ret = blk_extend(n->file, end);
	take_info(w);
	return ret;
}

static int window_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	int ret = blk_reopen(n->file, how, e);

	take_info(container_of(n, struct window, n));
	return ret;
}

static void window_close(struct blk_node *n)
{
	blk_close(n->file);
	blk_node_fini(n);
	free(container_of(n, struct window, n));
}

static const struct blk_driver window_driver = {
	.name = "raw",
	.submit = window_submit,
	.wait = window_wait,
	.resize = window_resize,
	.extend = window_extend,
	.reopen = window_reopen,
	.close = window_close,
};

int blk_window_new(struct blk_node *file, uint64_t offset, uint64_t size, struct blk_node **out, struct err *e)
{
	struct window *w;
	uint64_t end;

	if (offset % BLK_SECTOR || size % BLK_SECTOR)
		return err_set(e, -EINVAL, "raw: offset and size are multiples of %d bytes", BLK_SECTOR);
	if (offset > file->i.size)
		return err_set(e, -EINVAL, "Offset (%llu) cannot be greater than size of the containing file (%llu)",
			       (unsigned long long)offset, (unsigned long long)file->i.size);
	if (add_overflows(offset, size, &end) || end > file->i.size)
		return err_set(e, -EINVAL, "The sum of offset (%llu) and size (%llu) has to be smaller or equal to the  actual size of the "
			       "containing file (%llu)", (unsigned long long)offset, (unsigned long long)size, (unsigned long long)file->i.size);
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	blk_node_init(&w->n, file->loop, &window_driver);
	w->n.path = strdup(file->path ? file->path : "");
	if (!w->n.path) {
		blk_node_fini(&w->n);
		free(w);
		return err_set(e, -ENOMEM, "out of memory");
	}
	w->offset = offset;
	w->size = size;
	w->n.file = file;
	w->n.format = "raw";
	take_info(w);
	*out = &w->n;
	return 0;
}

bool blk_is_window(const struct blk_node *n)
{
	return n->drv == &window_driver;
}
