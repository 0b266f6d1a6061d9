/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The engine of jobs: see job_int.h. */
#include "block/job_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/iov.h"

#define DEFAULT_WORKERS 4
#define SCAN_PIECE (1ull << 30)
/* What may be left to copy while the guest waits for the switch; or that often more was written meanwhile (discards, which
 * are not done on both sides). */
#define SMALL_REST (16u << 20)
#define MAX_TRIES 1000

static const char *node_name(const struct blk_node *n)
{
	return n->path ? n->path : "";
}

struct blk_node *job_source(const struct blk_job *j)
{
	return j->from ? j->from : j->filter->n.file;
}

void job_fail(struct blk_job *j, int ret, const char *what, uint64_t off)
{
	if (!j->ret) {
		j->ret = ret;
		err_set(&j->e, ret, "%s of disk '%s': %s at %llu: %s", j->kind->name, node_name(j->slot), what,
			(unsigned long long)off, strerror(-ret));
	}
	j->stop = true;
	job_wake(j);
}

/* ---- parking ---- */

void job_wake(struct blk_job *j)
{
	for (unsigned i = 0; i < j->n_workers; i++) {
		struct job_worker *w = &j->workers[i];

		if (!w->parked)
			continue;
		w->parked = false;
		co_resume(w->co);
	}
	loop_bh_post(&j->turn);
}

static void pace_due(void *opaque)
{
	job_wake(opaque);
}

static void slot_released(struct blk_slot_wait *s)
{
	struct blk_job *j = container_of(s, struct blk_job, held);

	j->waits_held = false;
	job_wake(j);
}

/* If it is, the job is woken on release. */
static bool not_held(struct blk_job *j)
{
	if (!blk_slot_held(j->slot))
		return true;
	if (!j->waits_held)
		blk_slot_wait(j->slot, &j->held);
	j->waits_held = true;
	return false;
}

static void park(struct job_worker *w)
{
	w->parked = true;
	loop_bh_post(&w->j->turn);
	co_wait(w->co);
}

/* May the worker begin something?  If not it has seen to it that it is woken. */
static bool may_go(struct blk_job *j)
{
	if (j->final)
		return true;
	if (j->paused || !not_held(j))
		return false;
	if (j->o.rate && loop_now_ns() < j->next_ns) {
		loop_timer_arm(&j->pace, j->next_ns);
		return false;
	}
	return true;
}

static void paid(struct blk_job *j, uint64_t len)
{
	int64_t now = loop_now_ns();

	j->copied += len;
	if (j->o.rate)
		j->next_ns = MAX(j->next_ns, now) + (int64_t)((double)len * 1e9 / (double)j->o.rate);
}

/* ---- copying ---- */

static bool layers_have(const struct blk_job *j, const struct blk_extent *x, unsigned depth)
{
	return !depth || (x->allocated && x->depth >= j->skip_depth && x->depth < depth);
}

/* One extent of a piece. */
static int copy_extent(struct blk_job *j, struct co *c, uint64_t off, uint64_t len, bool zero, uint8_t *buf)
{
	int ret;

	if (zero) {
		ret = co_zeroes(c, j->target, off, len, true);
		if (ret)
			job_fail(j, ret, "the target cannot be written", off);
		return ret;
	}
	ret = co_rw(c, job_source(j), BLK_READ, off, buf, len);
	if (ret) {
		job_fail(j, ret, "the disk cannot be read", off);
		return ret;
	}
	ret = co_rw(c, j->target, BLK_WRITE, off, buf, len);
	if (ret)
		job_fail(j, ret, "the target cannot be written", off);
	return ret;
}

int job_copy(struct blk_job *j, struct co *c, uint64_t off, uint64_t len, uint8_t *buf)
{
	struct blk_extent x;
	int ret = 0;

	for (uint64_t end = off + len; off < end && !ret; off += x.len) {
		ret = co_status(c, job_source(j), off, MIN(end - off, JOB_PIECE), false, &x);
		if (!ret && !x.len)
			ret = -EIO;
		if (ret) {
			job_fail(j, ret, "the disk cannot be read", off);
			return ret;
		}
		if (layers_have(j, &x, j->copy_depth))
			ret = copy_extent(j, c, off, x.len, x.zero, buf);
	}
	return ret;
}

/* The next piece that is to be copied, beginning where the last one ended. */
static bool next_piece(struct blk_job *j, uint64_t *off, uint64_t *len)
{
	if (!blk_dirty_next(j->todo, j->cursor, JOB_PIECE, off, len)) {
		j->cursor = 0;
		/* Once round, a mirror has each write go to both sides, so that there is ever less to do. */
		j->both = j->both || (j->kind->ready && j->scanned);
		if (!blk_dirty_next(j->todo, 0, JOB_PIECE, off, len))
			return false;
	}
	j->cursor = *off + *len;
	return true;
}

static void copy_piece(struct job_worker *w, uint64_t off, uint64_t len)
{
	struct blk_job *j = w->j;
	struct range_lock l;
	uint64_t at, part, end = off + len;

	range_lock(w->co, &j->locks, &l, off, end, true);
	/* Somebody may have done some of it meanwhile; what is dirty again when it is done is for later. */
	for (; off < end && !j->stop && blk_dirty_next(j->todo, off, JOB_PIECE, &at, &part) && at < end; off = at + part) {
		part = MIN(part, end - at);
		blk_dirty_clear(j->todo, at, part);
		j->copying += part;
		if (job_copy(j, w->co, at, part, w->buf))
			blk_dirty_set(j->todo, at, part);
		else
			paid(j, part);
		j->copying -= part;
	}
	range_unlock(&j->locks, &l);
}

/* What the layers have, as far as that is what is to be copied. */
static void scan(struct job_worker *w)
{
	struct blk_job *j = w->j;
	struct blk_extent x;
	int ret;

	for (uint64_t at = 0; at < blk_dirty_size(j->todo) && !j->stop;) {
		if (!may_go(j)) {
			park(w);
			continue;
		}
		ret = co_status(w->co, job_source(j), at, MIN(blk_dirty_size(j->todo) - at, SCAN_PIECE), false, &x);
		if (ret || !x.len) {
			job_fail(j, ret ? ret : -EIO, "the disk cannot be read", at);
			return;
		}
		if (layers_have(j, &x, j->scan_depth)) {
			blk_dirty_set(j->todo, at, x.len);
			job_wake(j);
		}
		at += x.len;
	}
	j->scanned = true;
}

static void worker_main(struct co *c, void *arg)
{
	struct job_worker *w = arg;
	struct blk_job *j = w->j;
	uint64_t off, len;

	w->co = c;
	if (w == j->workers && !j->scanned)
		scan(w);
	while (!j->stop) {
		if (may_go(j) && !j->endless && next_piece(j, &off, &len))
			copy_piece(w, off, len);
		else
			park(w);
	}
	w->co = NULL;
	j->alive--;
	loop_bh_post(&j->turn);
}

/* ---- the filter ---- */

struct job_write {
	struct blk_job *j;
	struct blk_req *r;
};

static void filter_write(struct co *c, void *arg)
{
	struct job_write w = *(struct job_write *)arg;

	free(arg);
	blk_finish(w.r, w.j->kind->write(w.j, c, w.r));
}

static void job_filter_submit(struct blk_node *n, struct blk_req *r)
{
	struct job_filter *f = container_of(n, struct job_filter, n);
	struct job_write *w;

	if (r->op == BLK_READ || r->op == BLK_FLUSH || r->op == BLK_STATUS || f->j->stop) {
		filter_pass(n->file, r);
		return;
	}
	w = malloc(sizeof(*w));
	if (w) {
		*w = (struct job_write){ f->j, r };
		if (!co_start(&f->j->cos, filter_write, w))
			return;
	}
	free(w);
	blk_finish(r, -ENOMEM);
}

/* A write may wait for the target alone. */
static void job_filter_wait(struct blk_node *n)
{
	struct blk_node *target = container_of(n, struct job_filter, n)->j->target;

	if (n->file->in_flight || !target || !target->in_flight)
		blk_progress(n->file);
	else
		blk_progress(target);
}

static void job_filter_close(struct blk_node *n)
{
	blk_close(n->file);
	blk_node_fini(n);
	free(container_of(n, struct job_filter, n));
}

static const struct blk_driver job_filter_driver = {
	.name = "job",
	.filter = true,
	.submit = job_filter_submit,
	.wait = job_filter_wait,
	.reopen = filter_reopen,
	.close = job_filter_close,
};

int job_insert_filter(struct blk_job *j)
{
	struct job_filter *f = calloc(1, sizeof(*f));

	if (!f || filter_init(&f->n, *blk_slot_image(j->slot), &job_filter_driver)) {
		free(f);
		return -ENOMEM;
	}
	f->j = j;
	j->filter = f;
	blk_slot_insert(j->slot, &f->n);
	return 0;
}

/* ---- a job's life ---- */

static void say_event(struct blk_job *j, enum blk_job_event ev)
{
	if (j->o.event)
		j->o.event(j->o.opaque, j, ev);
}

static bool all_parked(const struct blk_job *j)
{
	for (unsigned i = 0; i < j->n_workers; i++)
		if (j->workers[i].co && !j->workers[i].parked)
			return false;
	return true;
}

/* Under hold: what is left is copied now, while the guest waits, and the workers end. */
static void run_out(struct blk_job *j)
{
	j->final = true;
	job_wake(j);
	while (!all_parked(j)) {
		struct blk_node *source = job_source(j);

		if (source->in_flight)
			blk_progress(source);
		else
			blk_progress(j->target);
	}
	j->stop = true;
	job_wake(j);
}

static void finish(struct blk_job *j)
{
	int ret;

	blk_slot_hold(j->slot);
	if (!j->stop)
		run_out(j);
	ret = j->ret ? j->ret : j->cancelled && !j->endless ? -ECANCELED : 0;
	if (!ret) {
		ret = blk_flush(j->target);
		if (ret)
			job_fail(j, ret, "the target cannot be flushed", 0);
	}
	if (j->filter)
		blk_slot_remove(j->slot, &j->filter->n);
	j->filter = NULL;
	j->ret = j->kind->end(j, ret);
	j->ended = true;
	if (j->claimed)
		blk_slot_unclaim(j->slot);
	loop_timer_cancel(&j->pace);
	if (j->waits_held)
		list_del(&j->held.in);
	blk_slot_release(j->slot);
	say_event(j, BLK_JOB_ENDED);
}

/* A good end may have to wait until somebody agrees. */
static bool may_end(struct blk_job *j)
{
	if (!j->o.hold_end || j->finalized)
		return true;
	if (!j->pending) {
		j->pending = true;
		say_event(j, BLK_JOB_PENDING);
	}
	return false;
}

/* Looks whether the job has come to a point where something happens. */
static void job_turn(void *opaque)
{
	struct blk_job *j = opaque;
	bool rest = all_parked(j) && j->scanned && !blk_dirty_bytes(j->todo) && !j->copying;

	if (j->ended)
		return;
	if (!j->alive) {
		finish(j);
	} else if (j->stop || j->paused || !not_held(j)) {
		/* The workers are on their way out, or somebody else is at work. */
	} else if (j->completing && (blk_dirty_bytes(j->todo) <= SMALL_REST || ++j->tries > MAX_TRIES)) {
		if (may_end(j))
			finish(j);
	} else if (rest && j->kind->ready && !j->ready) {
		j->ready = true;
		say_event(j, BLK_JOB_READY);
	} else if (rest && !j->kind->ready && !j->endless && may_end(j)) {
		j->stop = true;
		job_wake(j);
	}
}

int job_new(const struct job_kind *kind, struct blk_node *slot, struct blk_node *target, uint64_t size,
	    const struct blk_job_opts *o, struct blk_job **out, struct err *e)
{
	struct blk_job *j = calloc(1, sizeof(*j));

	if (!j)
		return err_set(e, -ENOMEM, "out of memory");
	j->kind = kind;
	j->slot = slot;
	j->target = target;
	if (o)
		j->o = *o;
	if (j->o.base_name)
		j->o.base_name = j->base_name = strdup(j->o.base_name);
	j->n_workers = MIN(j->o.in_flight ? j->o.in_flight : DEFAULT_WORKERS, JOB_MAX_WORKERS);
	range_locks_init(&j->locks);
	loop_bh_init(slot->loop, &j->turn, job_turn, j);
	loop_timer_init(slot->loop, &j->pace, pace_due, j);
	j->held.go = slot_released;
	j->todo = blk_dirty_new(size, MAX(BLK_DIRTY_DEFAULT, target && is_pow2(target->i.cluster) &&
						  target->i.cluster <= JOB_PIECE ? target->i.cluster : 0));
	for (unsigned i = 0; i < j->n_workers && j->todo; i++) {
		j->workers[i].j = j;
		j->workers[i].buf = io_buf(JOB_PIECE);
		if (!j->workers[i].buf) {
			blk_dirty_free(j->todo);
			j->todo = NULL;
		}
	}
	if (!j->todo || (o && o->base_name && !j->base_name)) {
		job_discard(j);
		return err_set(e, -ENOMEM, "out of memory");
	}
	*out = j;
	return 0;
}

void job_start(struct blk_job *j)
{
	j->scanned = !j->scan_depth;
	for (unsigned i = 0; i < j->n_workers; i++) {
		j->alive++;
		if (!co_start(&j->cos, worker_main, &j->workers[i]))
			continue;
		j->alive--;
		/* Fewer will do, but one there must be, and the first looks what there is. */
		if (i == 0) {
			job_fail(j, -ENOMEM, "no memory", 0);
			break;
		}
	}
	loop_bh_post(&j->turn);
}

int job_begin(struct blk_job *j, struct blk_job **out, struct err *e)
{
	struct blk_node *slot = j->slot;
	int ret;

	blk_slot_hold(slot);
	ret = job_insert_filter(j);
	if (ret) {
		err_set(e, ret, "out of memory");
		if (j->claimed)
			blk_slot_unclaim(slot);
		job_discard(j);
	} else {
		job_start(j);
		*out = j;
	}
	blk_slot_release(slot);
	return ret;
}

void job_discard(struct blk_job *j)
{
	loop_bh_cancel(&j->turn);
	for (unsigned i = 0; i < j->n_workers; i++)
		free(j->workers[i].buf);
	blk_dirty_free(j->todo);
	blk_dirty_free(j->before);
	free(j->map_name);
	free(j->base_name);
	co_pool_fini(&j->cos);
	free(j);
}

void blk_job_free(struct blk_job *j)
{
	if (j)
		job_discard(j);
}

int job_check_target(const struct blk_node *slot, const struct blk_node *target, const char *what, struct err *e)
{
	if (target->i.read_only)
		return err_set(e, -EROFS, "%s of disk '%s': the target '%s' is open read-only", what, node_name(slot),
			       node_name(target));
	if (target->i.size != slot->i.size)
		return err_set(e, -EINVAL, "%s of disk '%s': the target '%s' has %llu bytes, the disk %llu", what, node_name(slot),
			       node_name(target), (unsigned long long)target->i.size, (unsigned long long)slot->i.size);
	return 0;
}

int blk_job_complete(struct blk_job *j, bool switch_over, struct err *e)
{
	if (!j->ready || j->ended || j->stop)
		return err_set(e, -EBUSY, "%s of disk '%s': it is not ready", j->kind->name, node_name(j->slot));
	j->completing = true;
	j->switch_over = switch_over;
	loop_bh_post(&j->turn);
	return 0;
}

void blk_job_cancel(struct blk_job *j)
{
	if (j->ended || (j->completing && !j->pending) || j->finalized)
		return;
	j->cancelled = true;
	j->stop = true;
	job_wake(j);
}

void blk_job_pause(struct blk_job *j, bool on)
{
	j->paused = on;
	if (!on)
		job_wake(j);
}

void blk_job_finalize(struct blk_job *j)
{
	j->finalized = true;
	loop_bh_post(&j->turn);
}

/* Its workers have parked before they did anything, and end when they are woken. */
void blk_job_abandon(struct blk_job *j)
{
	j->o.event = NULL;
	j->cancelled = true;
	j->stop = true;
	job_wake(j);
	finish(j);
	job_discard(j);
}

void blk_job_set_rate(struct blk_job *j, uint64_t rate)
{
	j->o.rate = rate;
	j->next_ns = 0;
	job_wake(j);
}

void blk_job_info(const struct blk_job *j, struct blk_job_info *out)
{
	*out = (struct blk_job_info){
		.kind = j->kind->name, .ready = j->ready, .pending = j->pending, .paused = j->paused, .ended = j->ended, .cancelled = j->cancelled,
		.done = j->copied, .total = j->copied + j->copying + blk_dirty_bytes(j->todo), .ret = j->ended ? j->ret : 0,
		.message = j->e.msg,
	};
}
