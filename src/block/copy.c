/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying a disk: see copy.h.
 *
 * Three stages, each ahead of the next.  Scan: BLK_STATUS walks the source and
 * leaves extents in a small ring; adjacent ones of a kind become one.  Chunks: what
 * is to be copied is cut off the ring and given to a free slot, which reads it (a
 * chunk of zeros has nothing to read).  Pieces: a chunk's data is divided into runs
 * of data and of zeros, each a request to the target.
 *
 * Slots in use are in the list `order` by offset.  In order, a slot writes only when
 * all before it have submitted all they have; they need not have been answered, so
 * there are still many requests under way, and formats that allocate at submission
 * lay the target out like the source.
 *
 * Nothing here waits.  Everything happens in callbacks of requests, which never run
 * inside blk_submit, so there is no recursion but pump -> submit.
 */
#include "block/copy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/checked.h"
#include "base/list.h"
#include "base/zero.h"

#define CHUNK (512u << 10)
#define ZERO_CHUNK (64u << 20)
#define N_EXTENTS 16
#define N_PIECES 8
#define SALVAGE_STEP 4096u
#define DEFAULT_IN_FLIGHT 8

enum what { WHAT_NOTHING, WHAT_ZERO, WHAT_DATA };

struct extent {
	enum what what;
	uint64_t from, to;		/* in bytes of the copied range */
};

struct slot;

struct piece {
	struct blk_req r;
	struct iovec v;
	struct slot *slot;		/* NULL: free */
};

struct slot {
	struct list order;		/* in c->order, or c->idle */
	struct blk_copy *c;
	uint8_t *buf;
	uint64_t from, to;		/* of the copied range */
	uint64_t at;			/* writes: submitted up to here; salvage: read up to here */
	bool zero;			/* nothing to read */
	bool ready;			/* has been read */
	unsigned busy;			/* pieces under way */
	struct blk_req read;
	struct iovec v;
	struct piece pieces[N_PIECES];
};

struct blk_copy {
	struct blk_copy_opts o;
	struct blk_copy_result res;
	uint32_t chunk;			/* bytes of a buffer */
	uint64_t unit;			/* where extents and chunks may begin */
	uint64_t grain;			/* of the look for zeros, 0: no look */
	struct list idle, order;
	struct slot *slots;
	unsigned n_slots;
	/* The ring; [scanned, len) is still unknown. */
	struct extent ring[N_EXTENTS];
	unsigned first, n_ring;
	uint64_t scanned;
	bool scanning, stopping, over;
	struct blk_req status;
	struct blk_extent x;
	struct loop_timer timer;	/* when the rate allows the next chunk */
	int64_t next_ns;
	bool throttled;
	struct loop_bh end;
};

static void pump(struct blk_copy *c);

static void fail(struct blk_copy *c, int ret, bool in_target, uint64_t off)
{
	if (!c->res.ret && ret) {
		c->res.ret = ret;
		c->res.in_target = in_target;
		c->res.offset = off;
	}
	c->stopping = true;
}

static void handled(struct blk_copy *c, uint64_t len)
{
	c->res.stats.handled += len;
	if (c->o.progress && !c->o.progress(c->o.opaque, &c->res.stats) && c->res.stats.handled < c->res.stats.total)
		fail(c, -ECANCELED, false, 0);
}

/* ---- scan ---- */

static struct extent *ring_at(struct blk_copy *c, unsigned i)
{
	return &c->ring[(c->first + i) % N_EXTENTS];
}

static void ring_add(struct blk_copy *c, enum what what, uint64_t to)
{
	struct extent *last = c->n_ring ? ring_at(c, c->n_ring - 1) : NULL;

	if (last && last->what == what)
		last->to = to;
	else
		*ring_at(c, c->n_ring++) = (struct extent){ what, c->scanned, to };
	c->scanned = to;
}

static enum what classify(const struct blk_copy *c, const struct blk_extent *x)
{
	if (c->o.depth && x->depth >= c->o.depth)
		return WHAT_NOTHING;
	if (x->zero)
		return c->o.target_zero ? WHAT_NOTHING : WHAT_ZERO;
	return WHAT_DATA;
}

/* Compressed targets take whole clusters: one that is not all alike is data. */
static void scan_done(struct blk_req *r, int ret)
{
	struct blk_copy *c = r->opaque;
	enum what what = WHAT_DATA;
	uint64_t to = c->scanned + MIN(r->len, (uint64_t)c->chunk), end;

	c->scanning = false;
	if (!ret && c->x.len) {
		what = classify(c, &c->x);
		to = c->scanned + MIN(c->x.len, r->len);
	} else if (!c->o.salvage) {
		fail(c, ret ? ret : -EIO, false, r->offset);
		pump(c);
		return;
	}
	end = to == c->o.len ? to : align_down(to, c->unit);
	if (what == WHAT_DATA || end <= c->scanned) {
		what = WHAT_DATA;
		end = MIN(align_up(to, c->unit), c->o.len);
	}
	ring_add(c, what, end);
	pump(c);
}

static void scan(struct blk_copy *c)
{
	if (c->scanning || c->scanned == c->o.len || c->n_ring == N_EXTENTS)
		return;
	c->scanning = true;
	c->status = (struct blk_req){ .op = BLK_STATUS, .offset = c->o.src_off + c->scanned, .len = c->o.len - c->scanned,
				      .ext = &c->x, .done = scan_done, .opaque = c };
	blk_submit(c->o.src, &c->status);
}

/* ---- pieces ---- */

static void slot_write(struct slot *s);

static void slot_end(struct slot *s)
{
	struct blk_copy *c = s->c;

	list_del(&s->order);
	/* The one used last is the one whose memory the caches still have. */
	s->order.next = c->idle.next;
	s->order.prev = &c->idle;
	c->idle.next->prev = &s->order;
	c->idle.next = &s->order;
	handled(c, s->to - s->from);
}

static void piece_done(struct blk_req *r, int ret)
{
	struct piece *p = container_of(r, struct piece, r);
	struct slot *s = p->slot;
	struct blk_copy *c = s->c;

	p->slot = NULL;
	s->busy--;
	if (ret)
		fail(c, ret, true, r->offset);
	else if (r->op == BLK_WRITE)
		c->res.stats.data += r->len;
	else
		c->res.stats.zeroes += r->len;
	slot_write(s);
	pump(c);
}

/* Compressed clusters are whole, but for the one at the disk's end. */
static bool compressible(const struct blk_copy *c, uint64_t off, uint64_t len)
{
	return c->o.compress && (len % c->unit == 0 || off + len == c->o.dst->i.size);
}

static void submit_piece(struct slot *s, uint64_t len, bool zero)
{
	struct blk_copy *c = s->c;
	uint64_t off = c->o.dst_off + s->at;
	struct piece *p = s->pieces;

	while (p->slot)
		p++;
	p->slot = s;
	p->v = (struct iovec){ s->buf + (s->at - s->from), len };
	p->r = (struct blk_req){ .op = zero ? BLK_WRITE_ZEROES : BLK_WRITE, .offset = off, .len = len, .iov = &p->v,
				 .niov = 1, .unmap = zero, .compress = !zero && compressible(c, off, len),
				 .done = piece_done };
	s->busy++;
	blk_submit(c->o.dst, &p->r);
}

static uint64_t grain_end(const struct slot *s, uint64_t at)
{
	uint64_t g = s->c->grain;

	return MIN(at + g - at % g, s->to);
}

/* How far the data, or zeros, at s->at go. */
static uint64_t run_end(const struct slot *s, bool *zero)
{
	const struct blk_copy *c = s->c;
	uint64_t end, next;

	*zero = s->zero;
	if (s->zero)
		return s->to;
	if (!c->grain)
		return c->o.compress ? MIN(align_down(s->at, c->unit) + c->unit, s->to) : s->to;
	end = grain_end(s, s->at);
	*zero = mem_is_zero(s->buf + (s->at - s->from), end - s->at);
	/* One cluster each: they are compressed side by side. */
	if (c->o.compress && !*zero)
		return end;
	for (; end < s->to; end = next) {
		next = grain_end(s, end);
		if (mem_is_zero(s->buf + (end - s->from), next - end) != *zero)
			break;
	}
	return end;
}

static bool submitted(const struct slot *s)
{
	return s->ready && s->at == s->to;
}

static bool my_turn(const struct slot *s)
{
	struct blk_copy *c = s->c;

	if (c->o.out_of_order)
		return true;
	list_for_each(p, &c->order) {
		const struct slot *o = list_entry(p, struct slot, order);

		if (o == s)
			return true;
		if (!submitted(o))
			return false;
	}
	return true;
}

/* One slot's, as far as it gets. */
static void write_pieces(struct slot *s)
{
	struct blk_copy *c = s->c;

	while (s->at < s->to && s->busy < N_PIECES && !c->stopping) {
		bool zero;
		uint64_t end = run_end(s, &zero);

		if (!zero || !c->o.target_zero)
			submit_piece(s, end - s->at, zero);
		s->at = end;
	}
}

/* And of those behind it, whose turn that may make it. */
static void slot_write(struct slot *s)
{
	struct blk_copy *c = s->c;
	struct list *p = &s->order, *next;

	if (!s->ready || !my_turn(s))
		return;
	do {
		struct slot *o = list_entry(p, struct slot, order);
		bool all;

		next = p->next;
		if (!o->ready)
			return;
		write_pieces(o);
		all = submitted(o);
		if (!o->busy && (all || c->stopping))
			slot_end(o);
		if (!all && !c->stopping)
			return;
		p = next;
	} while (p != &c->order && !c->o.out_of_order);
}

/* ---- chunks ---- */

static void salvage(struct slot *s, int ret);

static void read_done(struct blk_req *r, int ret)
{
	struct slot *s = r->opaque;
	struct blk_copy *c = s->c;

	if (ret && c->o.salvage) {
		s->at = s->from;
		salvage(s, 0);
		return;
	}
	if (ret)
		fail(c, ret, false, r->offset);
	s->ready = true;
	slot_write(s);
	pump(c);
}

static void submit_read(struct slot *s, uint64_t from, uint64_t len, void (*done)(struct blk_req *r, int ret))
{
	s->v = (struct iovec){ s->buf + (from - s->from), len };
	s->read = (struct blk_req){ .op = BLK_READ, .offset = s->c->o.src_off + from, .len = len, .iov = &s->v, .niov = 1,
				    .done = done, .opaque = s };
	blk_submit(s->c->o.src, &s->read);
}

static void salvage_done(struct blk_req *r, int ret)
{
	salvage(r->opaque, ret);
}

/* The chunk again in small steps; the one that ended s->at bytes ago had `ret`. */
static void salvage(struct slot *s, int ret)
{
	struct blk_copy *c = s->c;
	uint64_t step = MIN(s->to - s->at, (uint64_t)SALVAGE_STEP);

	if (ret) {
		memset(s->v.iov_base, 0, s->v.iov_len);
		c->res.stats.unreadable += s->v.iov_len;
		if (c->o.unreadable)
			c->o.unreadable(c->o.opaque, s->read.offset, s->read.len, ret);
	}
	if (step && !c->stopping) {
		s->at += step;
		submit_read(s, s->at - step, step, salvage_done);
		return;
	}
	s->at = s->from;
	s->ready = true;
	slot_write(s);
	pump(c);
}

/* What the ring has for a slot; false: nothing yet. */
static bool next_chunk(struct blk_copy *c, struct extent *out)
{
	struct extent *e;
	uint64_t room, end;

	while (c->n_ring && ring_at(c, 0)->what == WHAT_NOTHING) {
		e = ring_at(c, 0);
		handled(c, e->to - e->from);
		c->first = (c->first + 1) % N_EXTENTS;
		c->n_ring--;
	}
	if (!c->n_ring)
		return false;
	e = ring_at(c, 0);
	room = e->what == WHAT_DATA ? c->chunk : ZERO_CHUNK;
	end = MIN(e->to, align_down(e->from, room) + room);
	/* A short one may go on where the scan is now, and there is something else to do meanwhile. */
	if (end == e->to && c->n_ring == 1 && c->scanning && end - e->from < room / 2 && !list_empty(&c->order))
		return false;
	*out = (struct extent){ e->what, e->from, end };
	e->from = end;
	if (e->from == e->to) {
		c->first = (c->first + 1) % N_EXTENTS;
		c->n_ring--;
	}
	return true;
}

/* May more data be read now? */
static bool rate_allows(struct blk_copy *c)
{
	if (!c->o.rate || c->throttled)
		return !c->throttled;
	if (loop_now_ns() >= c->next_ns)
		return true;
	c->throttled = true;
	loop_timer_arm(&c->timer, c->next_ns);
	return false;
}

static void rate_spend(struct blk_copy *c, uint64_t len)
{
	int64_t now = loop_now_ns();

	if (c->o.rate)
		c->next_ns = MAX(c->next_ns, now) + (int64_t)(len * 1000000000ull / c->o.rate);
}

static void rate_timer(void *opaque)
{
	struct blk_copy *c = opaque;

	c->throttled = false;
	pump(c);
}

static void start_slot(struct blk_copy *c, const struct extent *e)
{
	struct slot *s = list_entry(c->idle.next, struct slot, order);

	list_del(&s->order);
	list_add_tail(&c->order, &s->order);
	s->from = s->at = e->from;
	s->to = e->to;
	s->zero = s->ready = e->what == WHAT_ZERO;
	if (s->zero) {
		slot_write(s);
		return;
	}
	rate_spend(c, s->to - s->from);
	submit_read(s, s->from, s->to - s->from, read_done);
}

static void ended(void *opaque)
{
	struct blk_copy *c = opaque;

	if (c->over)
		return;
	c->over = true;
	if (c->o.done)
		c->o.done(c->o.opaque, c->res.ret);
}

/* Begins whatever can begin. */
static void pump(struct blk_copy *c)
{
	struct extent e;

	while (!c->stopping) {
		scan(c);
		if (list_empty(&c->idle) || !rate_allows(c) || !next_chunk(c, &e))
			break;
		start_slot(c, &e);
	}
	if (c->stopping && c->throttled) {
		loop_timer_cancel(&c->timer);
		c->throttled = false;
	}
	if (list_empty(&c->order) && !c->scanning &&
	    (c->stopping || (!c->n_ring && c->scanned == c->o.len)))
		loop_bh_post(&c->end);
}

/* ---- from outside ---- */

static bool options_ok(const struct blk_copy_opts *o)
{
	if (!o->src || !o->dst || o->src == o->dst || o->in_flight > BLK_COPY_MAX_IN_FLIGHT)
		return false;
	if (o->sparse % BLK_SECTOR || o->sparse > BLK_COPY_MAX_SPARSE || (o->src_off | o->dst_off | o->len) % BLK_SECTOR)
		return false;
	if (o->compress && (!o->dst->i.can_compress || !o->dst->i.cluster || o->dst_off % o->dst->i.cluster))
		return false;
	return range_inside(o->src_off, o->len, o->src->i.size) && range_inside(o->dst_off, o->len, o->dst->i.size);
}

void blk_copy_free(struct blk_copy *c)
{
	if (!c)
		return;
	for (unsigned i = 0; c->slots && i < c->n_slots; i++)
		free(c->slots[i].buf);
	free(c->slots);
	loop_timer_cancel(&c->timer);
	loop_bh_cancel(&c->end);
	free(c);
}

static int make_slots(struct blk_copy *c)
{
	c->slots = calloc(c->n_slots, sizeof(*c->slots));
	if (!c->slots)
		return -ENOMEM;
	for (unsigned i = 0; i < c->n_slots; i++) {
		struct slot *s = &c->slots[i];

		s->c = c;
		s->buf = aligned_alloc(4096, align_up(c->chunk, 4096));
		if (!s->buf)
			return -ENOMEM;
		list_add_tail(&c->idle, &s->order);
	}
	return 0;
}

static void set_sizes(struct blk_copy *c)
{
	const struct blk_info *dst = &c->o.dst->i;

	c->unit = c->o.compress ? dst->cluster : BLK_SECTOR;
	c->grain = c->o.sparse;
	if (c->grain && c->o.compress)
		c->grain = c->unit;
	else if (c->grain)
		c->grain = MAX(c->grain, (uint64_t)dst->request_align);
	for (c->chunk = CHUNK; c->chunk < c->o.sparse || c->chunk < c->unit;)
		c->chunk *= 2;
	c->n_slots = c->o.in_flight ? c->o.in_flight : DEFAULT_IN_FLIGHT;
}

int blk_copy_start(const struct blk_copy_opts *o, struct blk_copy **out)
{
	struct blk_copy *c;
	int ret;

	if (!options_ok(o))
		return -EINVAL;
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->o = *o;
	list_init(&c->idle);
	list_init(&c->order);
	loop_timer_init(o->src->loop, &c->timer, rate_timer, c);
	loop_bh_init(o->src->loop, &c->end, ended, c);
	c->res.stats.total = o->len;
	set_sizes(c);
	ret = make_slots(c);
	if (ret) {
		blk_copy_free(c);
		return ret;
	}
	*out = c;
	pump(c);
	return 0;
}

void blk_copy_cancel(struct blk_copy *c)
{
	if (c->over || (list_empty(&c->order) && !c->scanning && c->scanned == c->o.len && !c->n_ring))
		return;
	fail(c, -ECANCELED, false, 0);
	pump(c);
}

const struct blk_copy_result *blk_copy_result(const struct blk_copy *c)
{
	return &c->res;
}

struct run {
	const struct blk_copy_opts *o;
	bool done;
};

static void run_done(void *opaque, int ret)
{
	((struct run *)opaque)->done = true;
}

static bool run_progress(void *opaque, const struct blk_copy_stats *s)
{
	const struct run *r = opaque;

	return r->o->progress(r->o->opaque, s);
}

static void run_unreadable(void *opaque, uint64_t off, uint64_t len, int ret)
{
	const struct run *r = opaque;

	r->o->unreadable(r->o->opaque, off, len, ret);
}

static int say(const struct blk_copy_opts *o, const struct blk_copy_result *res, struct err *e)
{
	const char *path = res->in_target ? o->dst->path : o->src->path;

	if (res->ret == -ECANCELED)
		return err_set(e, res->ret, "copying was cancelled");
	return err_set(e, res->ret, "'%s' cannot be %s at byte %llu: %s%s", path ? path : "",
		       res->in_target ? "written" : "read", (unsigned long long)res->offset, strerror(-res->ret),
		       res->ret == -ENOSPC && res->in_target ? ": the file system is full, make room or choose another place" : "");
}

int blk_copy_run(const struct blk_copy_opts *o, struct blk_copy_stats *out, struct err *e)
{
	struct blk_copy_opts mine = *o;
	struct run run = { .o = o };
	struct blk_copy *c;
	int ret;

	mine.done = run_done;
	mine.progress = o->progress ? run_progress : NULL;
	mine.unreadable = o->unreadable ? run_unreadable : NULL;
	mine.opaque = &run;
	ret = blk_copy_start(&mine, &c);
	if (ret)
		return err_set(e, ret, ret == -ENOMEM ? "out of memory while copying" : "these disks cannot be copied like that");
	while (!run.done && !ret)
		ret = loop_turn(o->src->loop, -1);
	/* Without a working loop the requests must still come back before their memory goes. */
	while (!run.done) {
		blk_copy_cancel(c);
		blk_drain(o->src);
		blk_drain(o->dst);
		run.done = list_empty(&c->order) && !c->scanning;
	}
	ret = ret ? err_set(e, ret, "the event loop failed: %s", strerror(-ret)) : c->res.ret ? say(o, &c->res, e) : 0;
	if (out)
		*out = c->res.stats;
	blk_copy_free(c);
	return ret;
}
