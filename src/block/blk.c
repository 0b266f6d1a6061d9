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
	n->done_first = n->done_last = NULL;
	pthread_mutex_init(&n->done_lock, NULL);
	loop_bh_init(l, &n->done_bh, deliver, n);
}

void blk_node_fini(struct blk_node *n)
{
	loop_bh_cancel(&n->done_bh);
	pthread_mutex_destroy(&n->done_lock);
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

	if (r->op > BLK_WRITE_ZEROES)
		return -EINVAL;
	if (r->op == BLK_FLUSH)
		return 0;
	if ((r->offset | r->len) % BLK_SECTOR)
		return -EINVAL;
	if (!range_inside(r->offset, r->len, n->i.size))
		return -ERANGE;
	if (n->i.read_only && op_writes(r->op))
		return -EROFS;
	if (data && iov_size(r->iov, r->niov) != r->len)
		return -EINVAL;
	return 0;
}

void blk_submit(struct blk_node *n, struct blk_req *r)
{
	int ret = check(n, r);

	r->node = n;
	r->next = NULL;
	n->in_flight++;
	if (ret || (!r->len && r->op != BLK_FLUSH))
		blk_finish(r, ret);
	else
		n->drv->submit(n, r);
}

bool blk_more_finished(struct blk_node *n)
{
	bool more;

	pthread_mutex_lock(&n->done_lock);
	more = n->done_first != NULL;
	pthread_mutex_unlock(&n->done_lock);
	return more;
}

void blk_drain(struct blk_node *n)
{
	while (n->in_flight) {
		if (!blk_more_finished(n))
			n->drv->wait(n);
		deliver(n);
	}
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
	n->drv->close(n);
}
