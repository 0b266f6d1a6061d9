/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The common inside of filters: see filter_int.h. */
#include "block/filter_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "block/filter.h"

#define IO_ALIGN 4096

struct passed {
	struct blk_req r, *up;
};

struct blk_node *blk_skip_filters(struct blk_node *n)
{
	while (n->drv->filter && n->file)
		n = n->file;
	return n;
}

int filter_init(struct blk_node *n, struct blk_node *child, const struct blk_driver *drv)
{
	blk_node_init(n, child->loop, drv);
	n->i = child->i;
	n->open_ended = child->open_ended;
	if (child->path) {
		n->path = strdup(child->path);
		if (!n->path) {
			blk_node_fini(n);
			return -ENOMEM;
		}
	}
	n->file = child;
	return 0;
}

static void passed_done(struct blk_req *r, int ret)
{
	struct passed *p = container_of(r, struct passed, r);

	blk_finish(p->up, ret);
	free(p);
}

void filter_pass(struct blk_node *to, struct blk_req *r)
{
	struct passed *p = malloc(sizeof(*p));

	if (!p) {
		blk_finish(r, -ENOMEM);
		return;
	}
	p->r = *r;
	p->r.done = passed_done;
	p->up = r;
	blk_submit(to, &p->r);
}

void filter_wait(struct blk_node *n)
{
	blk_progress(n->file);
}

int filter_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	int ret = blk_resize(n->file, size, e);

	n->i.size = n->file->i.size;
	return ret;
}

int filter_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	int ret = blk_reopen(n->file, how, e);

	n->i = n->file->i;
	return ret;
}

int filter_extend(struct blk_node *n, uint64_t size)
{
	int ret = blk_extend(n->file, size);

	n->i.size = n->file->i.size;
	return ret;
}

/* ---- coroutines ---- */

struct co_wish {
	struct co *c;
	int ret;
};

static void co_wish_done(struct blk_req *r, int ret)
{
	struct co_wish *w = r->opaque;

	w->ret = ret;
	co_resume(w->c);
}

int co_submit(struct co *c, struct blk_node *n, struct blk_req *r)
{
	struct co_wish w = { .c = c };

	r->done = co_wish_done;
	r->opaque = &w;
	blk_submit(n, r);
	/* Nothing else resumes us: a callback never runs inside blk_submit. */
	co_wait(c);
	return w.ret;
}

int co_rw(struct co *c, struct blk_node *n, enum blk_op op, uint64_t off, void *buf, size_t len)
{
	struct iovec v = { buf, len };
	struct blk_req r = { .op = op, .offset = off, .len = len, .iov = &v, .niov = 1 };

	return co_submit(c, n, &r);
}

int co_zeroes(struct co *c, struct blk_node *n, uint64_t off, uint64_t len, bool unmap)
{
	struct blk_req r = { .op = BLK_WRITE_ZEROES, .offset = off, .len = len, .unmap = unmap };

	return co_submit(c, n, &r);
}

int co_status(struct co *c, struct blk_node *n, uint64_t off, uint64_t len, bool shallow, struct blk_extent *ext)
{
	struct blk_req r = { .op = BLK_STATUS, .offset = off, .len = len, .shallow = shallow, .ext = ext };

	return co_submit(c, n, &r);
}

int co_flush(struct co *c, struct blk_node *n)
{
	struct blk_req r = { .op = BLK_FLUSH };

	return co_submit(c, n, &r);
}

void *io_buf(size_t len)
{
	return aligned_alloc(IO_ALIGN, align_up(len, IO_ALIGN));
}

/* ---- ranges ---- */

void range_locks_init(struct range_locks *rl)
{
	list_init(&rl->all);
}

static bool ranges_conflict(const struct range_lock *a, const struct range_lock *b)
{
	return a->from < b->to && b->from < a->to && (a->alone || b->alone);
}

/* Nobody before it, holding or waiting, is in its way. */
static bool range_free(const struct range_locks *rl, const struct range_lock *l)
{
	list_for_each(p, (struct list *)(uintptr_t)&rl->all) {
		const struct range_lock *o = list_entry(p, struct range_lock, in);

		if (o == l)
			return true;
		if (ranges_conflict(o, l))
			return false;
	}
	return true;
}

void range_lock(struct co *c, struct range_locks *rl, struct range_lock *l, uint64_t from, uint64_t to, bool alone)
{
	*l = (struct range_lock){ .from = from, .to = to, .alone = alone, .co = c };
	list_add_tail(&rl->all, &l->in);
	l->held = range_free(rl, l);
	if (!l->held)
		co_wait(c);
}

static struct range_lock *next_to_run(struct range_locks *rl)
{
	list_for_each(p, &rl->all) {
		struct range_lock *l = list_entry(p, struct range_lock, in);

		if (!l->held && range_free(rl, l))
			return l;
	}
	return NULL;
}

void range_unlock(struct range_locks *rl, struct range_lock *l)
{
	struct range_lock *next;

	list_del(&l->in);
	/* From the start each time: who runs changes the list. */
	while ((next = next_to_run(rl))) {
		next->held = true;
		co_resume(next->co);
	}
}
