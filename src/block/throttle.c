/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of requests and bytes a second: see filter.h.
 *
 * Six buckets.  A request waits until none of those it counts in is too full, in
 * the order of arrival within its direction, and then fills them.  So a single
 * large request is never held up for ever: it passes, and what follows pays.
 * With bursts a second bucket watches that even the burst keeps to its rate.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "block/filter.h"
#include "block/filter_int.h"

/* Without bursts a bucket holds what leaks in a tenth of a second, and so does the second one of bursts. */
#define SHORT_TIME 10
#define RATE_MAX 1000000000000000ull
#define SECOND 1000000000.0
#define LONG_TIME 3600.0		/* seconds; who has to wait for longer is looked at again then */

struct bucket {
	struct blk_rate rate;
	double level, burst;		/* units */
};

enum { DIR_READ, DIR_WRITE, DIRS };

struct throttle_queue {
	struct throttle *t;
	struct blk_req *first, **last;
	struct loop_timer timer;
	bool writes;
};

struct throttle {
	struct blk_node n;
	struct bucket bytes[3], ops[3];
	uint64_t op_size;
	int64_t leaked_ns;		/* up to when the levels are right */
	struct throttle_queue queue[DIRS];
};

bool blk_throttle_wanted(const struct blk_throttle_opts *o)
{
	bool any = false;

	for (unsigned i = 0; i < 3; i++)
		any = any || o->bytes[i].avg || o->bytes[i].max || o->bytes[i].length || o->ops[i].avg || o->ops[i].max ||
			o->ops[i].length;
	return any || o->op_size;
}

static int check_rate(const struct blk_rate *r, const char *kind, unsigned of, struct err *e)
{
	static const char *const suffix[] = { "", "-rd", "-wr" };

	if (r->avg > RATE_MAX || r->max > RATE_MAX)
		return err_set(e, -EINVAL, "%s%s: a rate is at most %llu", kind, suffix[of], RATE_MAX);
	if (r->max && !r->avg)
		return err_set(e, -EINVAL, "%s%s-max is the rate of bursts: give %s%s too", kind, suffix[of], kind, suffix[of]);
	if (r->max && r->max < r->avg)
		return err_set(e, -EINVAL, "%s%s-max is the rate of bursts and may not be below %s%s", kind, suffix[of], kind,
			       suffix[of]);
	if (r->length && !r->max)
		return err_set(e, -EINVAL, "%s%s-max-length is the length of bursts: give %s%s-max too", kind, suffix[of], kind,
			       suffix[of]);
	return 0;
}

static int check_kind(const struct blk_rate *r, const char *kind, struct err *e)
{
	int ret = 0;

	for (unsigned i = 0; i < 3 && !ret; i++)
		ret = check_rate(&r[i], kind, i, e);
	if (!ret && r[BLK_RATE_TOTAL].avg && (r[BLK_RATE_READ].avg || r[BLK_RATE_WRITE].avg))
		ret = err_set(e, -EINVAL, "%s limits reads and writes together, %s-rd and %s-wr each: give one or the others", kind,
			      kind, kind);
	return ret;
}

int blk_throttle_check(const struct blk_throttle_opts *o, struct err *e)
{
	bool ops = false;
	int ret = check_kind(o->bytes, "bps", e);

	ret = ret ? ret : check_kind(o->ops, "iops", e);
	for (unsigned i = 0; i < 3; i++)
		ops = ops || o->ops[i].avg;
	if (!ret && o->op_size && !ops)
		ret = err_set(e, -EINVAL, "iops-size says how long a request counts as one: give iops too");
	return ret;
}

/* ---- buckets ---- */

static double burst_seconds(const struct bucket *b)
{
	return b->rate.length ? b->rate.length : 1;
}

static void bucket_leak(struct bucket *b, double seconds)
{
	b->level = MAX(b->level - (double)b->rate.avg * seconds, 0.0);
	b->burst = MAX(b->burst - (double)b->rate.max * seconds, 0.0);
}

static void bucket_fill(struct bucket *b, double units)
{
	b->level += units;
	b->burst += units;
}

/* Seconds until a request may pass. */
static double bucket_wait(const struct bucket *b)
{
	double avg = (double)b->rate.avg, max = (double)b->rate.max, wait = 0, room;

	if (!b->rate.avg)
		return 0;
	room = b->rate.max ? max * burst_seconds(b) : avg / SHORT_TIME;
	if (b->level > room)
		wait = (b->level - room) / avg;
	if (b->rate.max && b->rate.length > 1 && b->burst > max / SHORT_TIME)
		wait = MAX(wait, (b->burst - max / SHORT_TIME) / max);
	return wait;
}

static void leak_all(struct throttle *t)
{
	int64_t now = loop_now_ns();
	double seconds = (double)(now - t->leaked_ns) / SECOND;

	t->leaked_ns = now;
	for (unsigned i = 0; i < 3; i++) {
		bucket_leak(&t->bytes[i], seconds);
		bucket_leak(&t->ops[i], seconds);
	}
}

static double request_wait(const struct throttle *t, bool writes)
{
	unsigned dir = writes ? BLK_RATE_WRITE : BLK_RATE_READ;
	double a = MAX(bucket_wait(&t->bytes[BLK_RATE_TOTAL]), bucket_wait(&t->bytes[dir]));
	double b = MAX(bucket_wait(&t->ops[BLK_RATE_TOTAL]), bucket_wait(&t->ops[dir]));

	return MAX(a, b);
}

static void request_passes(struct throttle *t, struct blk_req *r, bool writes)
{
	unsigned dir = writes ? BLK_RATE_WRITE : BLK_RATE_READ;
	double ops = t->op_size && r->len > t->op_size ? (double)r->len / (double)t->op_size : 1;

	bucket_fill(&t->bytes[BLK_RATE_TOTAL], (double)r->len);
	bucket_fill(&t->bytes[dir], (double)r->len);
	bucket_fill(&t->ops[BLK_RATE_TOTAL], ops);
	bucket_fill(&t->ops[dir], ops);
	filter_pass(t->n.file, r);
}

/* ---- queues ---- */

static struct blk_req *queue_take(struct throttle_queue *q)
{
	struct blk_req *r = q->first;

	q->first = r->next;
	if (!q->first)
		q->last = &q->first;
	return r;
}

static void queue_run(struct throttle_queue *q)
{
	double wait = 0;

	leak_all(q->t);
	while (q->first && (wait = request_wait(q->t, q->writes)) <= 0)
		request_passes(q->t, queue_take(q), q->writes);
	if (q->first)
		loop_timer_arm(&q->timer, q->t->leaked_ns + (int64_t)(MIN(wait, LONG_TIME) * SECOND) + 1);
}

static void queue_due(void *opaque)
{
	queue_run(opaque);
}

static void throttle_submit(struct blk_node *n, struct blk_req *r)
{
	struct throttle *t = container_of(n, struct throttle, n);
	struct throttle_queue *q;
	bool waiting;

	if (r->op == BLK_FLUSH || r->op == BLK_STATUS) {
		filter_pass(n->file, r);
		return;
	}
	q = &t->queue[r->op == BLK_READ ? DIR_READ : DIR_WRITE];
	waiting = q->first;
	r->next = NULL;
	*q->last = r;
	q->last = &r->next;
	if (!waiting)
		queue_run(q);
}

/* Who waits for the disk to come to rest shall not wait for the limits. */
static void throttle_wait(struct blk_node *n)
{
	struct throttle *t = container_of(n, struct throttle, n);
	bool released = false;

	leak_all(t);
	for (unsigned i = 0; i < DIRS; i++) {
		loop_timer_cancel(&t->queue[i].timer);
		while (t->queue[i].first) {
			request_passes(t, queue_take(&t->queue[i]), t->queue[i].writes);
			released = true;
		}
	}
	if (!released)
		filter_wait(n);
}

/* Nothing waits, so no timer is armed. */
static int throttle_move(struct blk_node *n, struct loop *l)
{
	struct throttle *t = container_of(n, struct throttle, n);

	for (unsigned i = 0; i < DIRS; i++) {
		loop_timer_cancel(&t->queue[i].timer);
		loop_timer_init(l, &t->queue[i].timer, queue_due, &t->queue[i]);
	}
	return 0;
}

static void throttle_close(struct blk_node *n)
{
	struct throttle *t = container_of(n, struct throttle, n);

	for (unsigned i = 0; i < DIRS; i++)
		loop_timer_cancel(&t->queue[i].timer);
	blk_close(n->file);
	blk_node_fini(n);
	free(t);
}

static const struct blk_driver throttle_driver = {
	.name = "throttle",
	.filter = true,
	.submit = throttle_submit,
	.wait = throttle_wait,
	.resize = filter_resize,
	.reopen = filter_reopen,
	.extend = filter_extend,
	.move = throttle_move,
	.close = throttle_close,
};

int blk_throttle_set(struct blk_node *n, const struct blk_throttle_opts *o, struct err *e)
{
	struct throttle *t = container_of(n, struct throttle, n);
	int ret = blk_throttle_check(o, e);

	if (ret)
		return ret;
	leak_all(t);
	for (unsigned i = 0; i < 3; i++) {
		t->bytes[i].rate = o->bytes[i];
		t->ops[i].rate = o->ops[i];
	}
	t->op_size = o->op_size;
	for (unsigned i = 0; i < DIRS; i++) {
		loop_timer_cancel(&t->queue[i].timer);
		queue_run(&t->queue[i]);
	}
	return 0;
}

int blk_throttle_new(struct blk_node *child, const struct blk_throttle_opts *o, struct blk_node **out, struct err *e)
{
	struct throttle *t;
	int ret = blk_throttle_check(o, e);

	if (ret)
		return ret;
	t = calloc(1, sizeof(*t));
	if (!t || filter_init(&t->n, child, &throttle_driver)) {
		free(t);
		return err_set(e, -ENOMEM, "out of memory");
	}
	t->leaked_ns = loop_now_ns();
	for (unsigned i = 0; i < DIRS; i++) {
		struct throttle_queue *q = &t->queue[i];

		q->t = t;
		q->last = &q->first;
		q->writes = i == DIR_WRITE;
		loop_timer_init(child->loop, &q->timer, queue_due, q);
	}
	*out = &t->n;
	return blk_throttle_set(*out, o, e);
}
