/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every block node shares: checks before a driver sees a request, the list
 * of finished requests, drain and close.
 *
 * A driver answers from whatever thread it likes with blk_finish; the callbacks
 * run from one place (deliver), either as a posted callback of the loop or
 * inside blk_drain.  Both hold the lock, so `in_flight` needs nothing more.
 */
#include "block/blk.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/iov.h"
#include "base/log.h"

/* drv[7] carries the result from blk_finish to the callback. */
#define RESULT 7

/* Callbacks in one go, so that other events of the loop get their turn. */
#define DELIVER_MAX 256

static struct blk_req *take_finished(struct blk_node *n)
{
	struct blk_req *r;

	pthread_mutex_lock(&n->done_lock);
	r = n->done_first;
	if (r)
		n->done_first = r->next;
	if (!n->done_first)
		n->done_last = NULL;
	pthread_mutex_unlock(&n->done_lock);
	return r;
}

/* One at a time: a callback may drain, and must find the others in the list. */
static void deliver(void *opaque)
{
	struct blk_node *n = opaque;
	struct blk_req *r;
	unsigned budget = DELIVER_MAX;

	while (budget && (r = take_finished(n))) {
		budget--;
		r->next = NULL;
		if (n->drv->finished)
			n->drv->finished(n, r);
		n->in_flight--;
		/* The owner may free r in here. */
		r->done(r, (int)(int64_t)r->drv[RESULT]);
	}
	if (!budget)
		loop_bh_post(&n->done_bh);
}

void blk_node_init(struct blk_node *n, struct loop *l, const struct blk_driver *drv)
{
	n->drv = drv;
	n->loop = l;
	n->in_flight = 0;
	n->open_ended = false;
	n->path = NULL;
	n->format = NULL;
	n->name[0] = '\0';
	n->refs = 1;
	n->mark = 0;
	n->auto_read_only = false;
	n->file = n->backing = n->redirect = NULL;
	n->done_first = n->done_last = NULL;
	pthread_mutex_init(&n->done_lock, NULL);
	loop_bh_init(l, &n->done_bh, deliver, n);
}

void blk_node_fini(struct blk_node *n)
{
	loop_bh_cancel(&n->done_bh);
	pthread_mutex_destroy(&n->done_lock);
	free(n->path);
}

void blk_finish(struct blk_req *r, int ret)
{
	struct blk_node *n = r->node;

	r->drv[RESULT] = (uint64_t)(int64_t)ret;
	r->next = NULL;
	pthread_mutex_lock(&n->done_lock);
	if (n->done_last)
		n->done_last->next = r;
	else
		n->done_first = r;
	n->done_last = r;
	/* Inside the lock: a drain that takes r may end in close, and free n. */
	loop_bh_post(&n->done_bh);
	pthread_mutex_unlock(&n->done_lock);
}

static bool op_writes(enum blk_op op)
{
	return op == BLK_WRITE || op == BLK_DISCARD || op == BLK_WRITE_ZEROES;
}

static int check(const struct blk_node *n, const struct blk_req *r)
{
	bool data = r->op == BLK_READ || r->op == BLK_WRITE;

	if (r->op > BLK_STATUS)
		return -EINVAL;
	if (r->op == BLK_FLUSH)
		return 0;
	if ((r->offset | r->len) % BLK_SECTOR)
		return -EINVAL;
	if (!range_inside(r->offset, r->len, n->open_ended ? (uint64_t)INT64_MAX : n->i.size))
		return -ERANGE;
	if (n->i.read_only && op_writes(r->op))
		return -EROFS;
	if (r->compress && !n->i.can_compress)
		return -ENOTSUP;
	if (data && iov_size(r->iov, r->niov) != r->len)
		return -EINVAL;
	if (r->op == BLK_STATUS)
		*r->ext = (struct blk_extent){ .file = n->path };
	return 0;
}

void blk_submit(struct blk_node *n, struct blk_req *r)
{
	int ret;

	while (n->redirect)
		n = n->redirect;
	ret = check(n, r);
	r->node = n;
	r->next = NULL;
	n->in_flight++;
	if (!ret && n->open_ended && r->op == BLK_WRITE)
		n->i.size = MAX(n->i.size, r->offset + r->len);
	if (ret || (!r->len && r->op != BLK_FLUSH)) {
		memset(r->drv, 0, sizeof(r->drv));
		blk_finish(r, ret);
		return;
	}
	n->drv->submit(n, r);
}

int blk_extend(struct blk_node *n, uint64_t size)
{
	return n->drv->extend ? n->drv->extend(n, size) : 0;
}

bool blk_more_finished(struct blk_node *n)
{
	bool more;

	while (n->redirect)
		n = n->redirect;
	pthread_mutex_lock(&n->done_lock);
	more = n->done_first != NULL;
	pthread_mutex_unlock(&n->done_lock);
	return more;
}

/* Where requests to n go now. */
static struct blk_node *target(struct blk_node *n)
{
	while (n->redirect)
		n = n->redirect;
	return n;
}

void blk_progress(struct blk_node *n)
{
	n = target(n);
	if (!blk_more_finished(n))
		n->drv->wait(n);
	deliver(n);
}

void blk_drain(struct blk_node *n)
{
	for (;;) {
		/* Each time: what runs meanwhile may put another node in the slot. */
		struct blk_node *to = target(n);

		/* What a slot refused while it was held. */
		if (to != n && n->in_flight)
			deliver(n);
		if (!to->in_flight && !n->in_flight)
			return;
		if (to->in_flight)
			blk_progress(to);
	}
}

int blk_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	const char *name = n->path ? n->path : "";

	if (!size || size % BLK_SECTOR || size > INT64_MAX)
		return err_set(e, -EINVAL, "disk '%s': a size is a multiple of %d bytes and not 0", name, BLK_SECTOR);
	if (n->i.read_only)
		return err_set(e, -EROFS, "disk '%s' is open read-only", name);
	if (!n->drv->resize)
		return err_set(e, -ENOTSUP, "disk '%s' cannot change its size", name);
	blk_drain(n);
	return n->drv->resize(n, size, e);
}

int blk_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	blk_drain(n);
	if (n->drv->reopen)
		return n->drv->reopen(n, how, e);
	if ((n->i.read_only && !how->read_only) || how->set_cache)
		return err_set(e, -ENOTSUP, "disk '%s' (%s) cannot be opened otherwise while it is in use", n->path ? n->path : "",
			       n->drv->name);
	n->i.read_only = how->read_only;
	return 0;
}

static void closing_flush_done(struct blk_req *r, int ret)
{
	*(int *)r->opaque = ret;
}

void blk_close(struct blk_node *n)
{
	int ret = 0;
	struct blk_req flush = { .op = BLK_FLUSH, .done = closing_flush_done, .opaque = &ret };

	if (!n)
		return;
	blk_drain(n);
	if (!n->i.read_only) {
		blk_submit(n, &flush);
		blk_drain(n);
	}
	if (ret)
		log_warn("a disk could not be flushed while closing it: error %d", -ret);
	if (!--n->refs)
		n->drv->close(n);
}

struct blk_node *blk_ref(struct blk_node *n)
{
	n->refs++;
	return n;
}

/* ---- to another loop ---- */

static int move_one(struct blk_node *n, struct loop *l)
{
	int ret;

	if (n->loop == l)
		return 0;
	ret = n->drv->move ? n->drv->move(n, l) : 0;
	if (ret)
		return ret;
	loop_bh_cancel(&n->done_bh);
	loop_bh_init(l, &n->done_bh, deliver, n);
	n->loop = l;
	return 0;
}

static int move_tree(struct blk_node *n, struct loop *l)
{
	int ret;

	if (!n)
		return 0;
	blk_drain(n);
	ret = move_tree(n->file, l);
	ret = ret ? ret : move_tree(n->backing, l);
	return ret ? ret : move_one(n, l);
}

int blk_move(struct blk_node *n, struct loop *l)
{
	struct loop *old = n->loop;
	int ret = move_tree(n, l);

	/* There was room for it before. */
	if (ret)
		move_tree(n, old);
	return ret;
}
