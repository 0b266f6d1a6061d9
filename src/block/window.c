/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The raw format as a node of its own: a window onto the node below, all of it or
 * `size` bytes from `offset` on.  For users who put graphs together themselves;
 * images that are opened by their name have the file itself instead.
 *
 * A window of a size ends there for the format inside of it, too: behind its end there
 * are zeros, and no room.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "block/image.h"

struct window {
	struct blk_node n;
	uint64_t offset, size;		/* size 0: up to the end */
};

struct seen {
	struct blk_req r, *up;
	struct iovec iov[];		/* of a read across the end */
};

static void seen_done(struct blk_req *r, int ret)
{
	struct seen *s = container_of(r, struct seen, r);

	blk_finish(s->up, ret);
	free(s);
}

static void take_info(struct window *w)
{
	const struct blk_info *f = &w->n.file->i;

	w->n.i = *f;
	w->n.i.size = w->size ? w->size : f->size - MIN(w->offset, f->size);
}

/* A request that goes beyond the window: the first `room` bytes of it are inside. */
static int cut(struct window *w, struct seen *s, uint64_t room)
{
	const struct blk_req *r = s->up;
	int n;

	if (r->op == BLK_READ) {
		iov_memset(r->iov, r->niov, room, 0, r->len - room);
		n = iov_slice(r->iov, r->niov, 0, room, s->iov, r->niov);
		s->r.iov = s->iov;
		s->r.niov = n < 0 ? 0 : (unsigned)n;
	} else if (r->op == BLK_STATUS) {
		r->ext->zero = !room;
		r->ext->len = r->len;
	} else {
		/* Whoever submitted it took the node to grow. */
		take_info(w);
		return -ENOSPC;
	}
	s->r.len = room;
	return 0;
}

static int place(struct window *w, struct seen *s)
{
	struct blk_req *r = s->up;
	uint64_t room = r->offset < w->size ? w->size - r->offset : 0;
	int ret = 0;

	s->r = *r;
	s->r.done = seen_done;
	if (r->op == BLK_FLUSH)
		return 0;
	if (w->size && r->len > room)
		ret = cut(w, s, room);
	return ret ? ret : add_overflows(r->offset, w->offset, &s->r.offset) ? -ERANGE : 0;
}

static void window_submit(struct blk_node *n, struct blk_req *r)
{
	struct seen *s = malloc(sizeof(*s) + r->niov * sizeof(s->iov[0]));
	int ret = -ENOMEM;

	if (s) {
		s->up = r;
		ret = place(container_of(n, struct window, n), s);
	}
	if (!ret && (s->r.len || r->op == BLK_FLUSH)) {
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
