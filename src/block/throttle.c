/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Limits of requests and bytes a second: see filter.h.
 *
 * Six buckets.  A request waits until none of those it counts in is too full, in
 * the order of arrival within its direction, and then fills them.  So a single
 * large request is never held up for ever: it passes, and what follows pays.
 * With bursts a second bucket watches that even the burst keeps to its rate.
 *
 * The buckets are a group's, which nodes on any loops may be members of.  Those whose requests wait stand in a line for each direction,
 * and the first in it alone has a timer; when a request has passed, its node goes to the end of the line.  So members take turns, however
 * much each of them wants.  A node's own queues belong to its loop, buckets and lines to the group's lock, which is taken last of all and
 * not held when requests go on.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/list.h"
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

struct blk_throttle_group {
	atomic_uint refs;
	pthread_mutex_t lock;		/* of all that follows */
	struct blk_throttle_opts limits;
	struct bucket bytes[3], ops[3];
	int64_t leaked_ns;		/* up to when the levels are right */
	struct list line[DIRS];		/* queues in which somebody waits; the first has a timer */
};

struct throttle_queue {
	struct throttle *t;
	struct blk_req *first, **last;
	struct loop_timer timer;
	struct list in;			/* the group's line */
	bool writes, waits;		/* waits: it is in the line */
};

struct throttle {
	struct blk_node n;
	struct blk_throttle_group *g;
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

static void leak_all(struct blk_throttle_group *g)
{
	int64_t now = loop_now_ns();
	double seconds = (double)(now - g->leaked_ns) / SECOND;

	g->leaked_ns = now;
	for (unsigned i = 0; i < 3; i++) {
		bucket_leak(&g->bytes[i], seconds);
		bucket_leak(&g->ops[i], seconds);
	}
}

static double request_wait(const struct blk_throttle_group *g, bool writes)
{
	unsigned dir = writes ? BLK_RATE_WRITE : BLK_RATE_READ;
	double a = MAX(bucket_wait(&g->bytes[BLK_RATE_TOTAL]), bucket_wait(&g->bytes[dir]));
	double b = MAX(bucket_wait(&g->ops[BLK_RATE_TOTAL]), bucket_wait(&g->ops[dir]));

	return MAX(a, b);
}

static void account(struct blk_throttle_group *g, const struct blk_req *r, bool writes)
{
	unsigned dir = writes ? BLK_RATE_WRITE : BLK_RATE_READ;
	uint64_t size = g->limits.op_size;
	double ops = size && r->len > size ? (double)r->len / (double)size : 1;

	bucket_fill(&g->bytes[BLK_RATE_TOTAL], (double)r->len);
	bucket_fill(&g->bytes[dir], (double)r->len);
	bucket_fill(&g->ops[BLK_RATE_TOTAL], ops);
	bucket_fill(&g->ops[dir], ops);
}

/* ---- the line; the group's lock is held ---- */

/* The first one looks again when it can be its turn, on its own loop. */
static void line_arm(struct blk_throttle_group *g, unsigned dir)
{
	struct throttle_queue *q;
	double wait;

	if (list_empty(&g->line[dir]))
		return;
	leak_all(g);
	q = list_entry(g->line[dir].next, struct throttle_queue, in);
	wait = request_wait(g, dir == DIR_WRITE);
	loop_timer_arm(&q->timer, g->leaked_ns + (int64_t)(MIN(wait, LONG_TIME) * SECOND) + 1);
}

static bool line_first(const struct throttle_queue *q)
{
	const struct list *l = &q->t->g->line[q->writes];

	return list_empty(l) || l->next == &q->in;
}

static void line_join(struct throttle_queue *q)
{
	if (!q->waits)
		list_add_tail(&q->t->g->line[q->writes], &q->in);
	q->waits = true;
}

static void line_leave(struct throttle_queue *q)
{
	if (q->waits)
		list_del(&q->in);
	q->waits = false;
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

/* One request whose turn it is; NULL: none is, and the line has a timer if anybody waits. */
static struct blk_req *queue_next(struct throttle_queue *q)
{
	struct blk_throttle_group *g = q->t->g;
	struct blk_req *r = NULL;

	pthread_mutex_lock(&g->lock);
	leak_all(g);
	if (q->first && line_first(q) && request_wait(g, q->writes) <= 0) {
		r = queue_take(q);
		account(g, r, q->writes);
		line_leave(q);
	}
	if (q->first)
		line_join(q);
	line_arm(g, q->writes);
	pthread_mutex_unlock(&g->lock);
	return r;
}

static void queue_run(struct throttle_queue *q)
{
	struct blk_req *r;

	while ((r = queue_next(q)))
		filter_pass(q->t->n.file, r);
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

/* Out of the line for good; others go on. */
static void queue_leave(struct throttle_queue *q)
{
	struct blk_throttle_group *g = q->t->g;

	pthread_mutex_lock(&g->lock);
	line_leave(q);
	loop_timer_cancel(&q->timer);
	line_arm(g, q->writes);
	pthread_mutex_unlock(&g->lock);
}

/* Who waits for the disk to come to rest shall not wait for the limits. */
static void throttle_wait(struct blk_node *n)
{
	struct throttle *t = container_of(n, struct throttle, n);
	bool released = false;

	for (unsigned i = 0; i < DIRS; i++) {
		struct throttle_queue *q = &t->queue[i];

		queue_leave(q);
		while (q->first) {
			struct blk_req *r = queue_take(q);

			pthread_mutex_lock(&t->g->lock);
			leak_all(t->g);
			account(t->g, r, q->writes);
			pthread_mutex_unlock(&t->g->lock);
			filter_pass(n->file, r);
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
		queue_leave(&t->queue[i]);
		loop_timer_init(l, &t->queue[i].timer, queue_due, &t->queue[i]);
	}
	return 0;
}

static void throttle_close(struct blk_node *n)
{
	struct throttle *t = container_of(n, struct throttle, n);

	for (unsigned i = 0; i < DIRS; i++)
		queue_leave(&t->queue[i]);
	blk_throttle_group_unref(t->g);
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

/* ---- groups ---- */

int blk_throttle_group_new(const struct blk_throttle_opts *o, struct blk_throttle_group **out, struct err *e)
{
	struct blk_throttle_group *g;
	int ret = blk_throttle_check(o, e);

	if (ret)
		return ret;
	g = calloc(1, sizeof(*g));
	if (!g)
		return err_set(e, -ENOMEM, "out of memory");
	g->refs = 1;
	g->leaked_ns = loop_now_ns();
	pthread_mutex_init(&g->lock, NULL);
	for (unsigned i = 0; i < DIRS; i++)
		list_init(&g->line[i]);
	*out = g;
	return blk_throttle_group_set(g, o, e);
}

struct blk_throttle_group *blk_throttle_group_ref(struct blk_throttle_group *g)
{
	g->refs++;
	return g;
}

void blk_throttle_group_unref(struct blk_throttle_group *g)
{
	if (!g || --g->refs)
		return;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

bool blk_throttle_group_used(const struct blk_throttle_group *g) { return g->refs > 1; }

int blk_throttle_group_set(struct blk_throttle_group *g, const struct blk_throttle_opts *o, struct err *e)
{
	int ret = blk_throttle_check(o, e);

	if (ret)
		return ret;
	pthread_mutex_lock(&g->lock);
	leak_all(g);
	g->limits = *o;
	for (unsigned i = 0; i < 3; i++) {
		g->bytes[i].rate = o->bytes[i];
		g->ops[i].rate = o->ops[i];
	}
	for (unsigned i = 0; i < DIRS; i++)
		line_arm(g, i);
	pthread_mutex_unlock(&g->lock);
	return 0;
}

void blk_throttle_group_get(struct blk_throttle_group *g, struct blk_throttle_opts *out)
{
	pthread_mutex_lock(&g->lock);
	*out = g->limits;
	pthread_mutex_unlock(&g->lock);
}

/* ---- nodes ---- */

struct blk_throttle_group *blk_throttle_group_of(struct blk_node *n) { return container_of(n, struct throttle, n)->g; }

void blk_throttle_join(struct blk_node *n, struct blk_throttle_group *g)
{
	struct throttle *t = container_of(n, struct throttle, n);
	struct blk_throttle_group *old = t->g;

	for (unsigned i = 0; i < DIRS; i++)
		queue_leave(&t->queue[i]);
	t->g = blk_throttle_group_ref(g);
	blk_throttle_group_unref(old);
	for (unsigned i = 0; i < DIRS; i++)
		queue_run(&t->queue[i]);
}

int blk_throttle_set(struct blk_node *n, const struct blk_throttle_opts *o, struct err *e)
{
	return blk_throttle_group_set(blk_throttle_group_of(n), o, e);
}

int blk_throttle_new_in(struct blk_node *child, struct blk_throttle_group *g, struct blk_node **out, struct err *e)
{
	struct throttle *t = calloc(1, sizeof(*t));

	if (!t || filter_init(&t->n, child, &throttle_driver)) {
		free(t);
		return err_set(e, -ENOMEM, "out of memory");
	}
	t->g = blk_throttle_group_ref(g);
	for (unsigned i = 0; i < DIRS; i++) {
		struct throttle_queue *q = &t->queue[i];

		q->t = t;
		q->last = &q->first;
		q->writes = i == DIR_WRITE;
		loop_timer_init(child->loop, &q->timer, queue_due, q);
	}
	*out = &t->n;
	return 0;
}

int blk_throttle_new(struct blk_node *child, const struct blk_throttle_opts *o, struct blk_node **out, struct err *e)
{
	struct blk_throttle_group *g;
	int ret = blk_throttle_group_new(o, &g, e);

	if (ret)
		return ret;
	ret = blk_throttle_new_in(child, g, out, e);
	blk_throttle_group_unref(g);
	return ret;
}
