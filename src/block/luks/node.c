/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests of an encrypted node.
 *
 * A request is worked off in chunks, each with a buffer between the caller's
 * memory and the file's: what the caller can see, or change meanwhile (a guest's
 * memory), is plain text only, and what is encrypted stays as it was.  Small
 * chunks are encrypted at once; large ones on a few threads (the "crew", a node of
 * its own, whose requests are chunks).  The memory of all chunks of a node is
 * bounded: when it is used up, requests wait in a line.
 *
 * Volumes may have sectors larger than a request's unit.  A write of a part of one
 * reads, changes and writes the sector; such requests, and what overlaps them, run
 * one after the other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/iov.h"
#include "base/list.h"
#include "block/file.h"
#include "block/luks/internal.h"

#define CREW_THREADS 4
#define CHUNK (256u << 10)
#define INLINE_MAX (16u << 10)
#define BOUNCE_MAX (16u << 20)
#define MAX_IDLE_CHUNKS 16

struct luks {
	struct blk_node n, crew;
	struct pool *pool;
	struct luks_cipher *cipher;
	struct luks_node_opts o;
	struct luks_info info;
	uint64_t bounce;		/* bytes of all chunks */
	void *idle[MAX_IDLE_CHUNKS];	/* buffers of CHUNK bytes: new memory costs more than the cipher */
	unsigned n_idle;
	struct list reqs;		/* struct luks_track, in order of arrival */
	struct list hungry;		/* those with chunks that have no memory yet */
	unsigned n_partial;		/* requests that change a part of a sector, running or waiting */
};

/* In the private words of a request of ours. */
#define LUKS_TRACKED 6
struct luks_track {
	struct list all, line;
	uint64_t started;		/* bytes that have a chunk, or need none */
	unsigned chunks;		/* under way */
	short ret;			/* first error */
	bool running, partial;
};
_Static_assert(sizeof(struct luks_track) <= LUKS_TRACKED * sizeof(uint64_t), "drv[7] is the result");

struct chunk {
	struct blk_req r;		/* to the file or to the crew */
	struct luks *l;
	struct blk_req *up;
	uint64_t at, len;		/* of the volume, whole sectors */
	uint64_t from, to;		/* of it, what belongs to the request */
	uint8_t *buf;
	struct iovec v;
	bool encrypt, fill_first;	/* fill_first: contents are needed before the change */
};

static struct luks *to_luks(struct blk_node *n) { return container_of(n, struct luks, n); }
static struct luks_track *luks_track_of(struct blk_req *r) { return (struct luks_track *)(void *)r->drv; }
static struct blk_req *luks_req_of(struct luks_track *t)
{
	return (struct blk_req *)(void *)((char *)t - offsetof(struct blk_req, drv));
}
static bool luks_tracked(const struct blk_req *r)
{
	return r->op == BLK_READ || r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES;
}

/* ---- chunks ---- */

static void luks_feed(struct luks *l);
static void chunk_work(struct chunk *k);

static void luks_ended(struct luks *l, struct blk_req *up, int ret);

static uint64_t chunk_room(uint64_t len)
{
	return len <= INLINE_MAX ? align_up(len, 4096) : CHUNK;
}

static void *chunk_buffer(struct luks *l, uint64_t len)
{
	if (len > INLINE_MAX && l->n_idle)
		return l->idle[--l->n_idle];
	return aligned_alloc(4096, chunk_room(len));
}

static void chunk_free(struct chunk *k)
{
	struct luks *l = k->l;

	l->bounce -= chunk_room(k->len);
	if (k->len > INLINE_MAX && l->n_idle < MAX_IDLE_CHUNKS)
		l->idle[l->n_idle++] = k->buf;
	else
		free(k->buf);
	free(k);
}

static void chunk_end(struct chunk *k, int ret)
{
	struct luks *l = k->l;
	struct blk_req *up = k->up;

	chunk_free(k);
	luks_ended(l, up, ret);
	luks_feed(l);
}

static void chunk_written(struct blk_req *r, int ret)
{
	chunk_end(container_of(r, struct chunk, r), ret);
}

static void chunk_read(struct blk_req *r, int ret)
{
	struct chunk *k = container_of(r, struct chunk, r);

	if (ret)
		chunk_end(k, ret);
	else
		chunk_work(k);
}

static void chunk_file(struct chunk *k, enum blk_op op, void (*done)(struct blk_req *r, int ret))
{
	k->v = (struct iovec){ k->buf, k->len };
	k->r = (struct blk_req){ .op = op, .offset = k->l->o.payload + k->at, .len = k->len, .iov = &k->v, .niov = 1,
				 .done = done };
	blk_submit(k->l->n.file, &k->r);
}

/* The caller's memory, and the cipher. [any thread] */
static int chunk_crypt(struct chunk *k)
{
	const struct blk_req *up = k->up;
	uint64_t iv = k->l->o.iv_tweak + k->at / LUKS_SECTOR, skip = k->from - k->at, n = k->to - k->from;
	int ret = 0;

	if (!k->encrypt || k->fill_first)
		ret = luks_cipher_run(k->l->cipher, false, iv, k->buf, k->len);
	if (ret)
		return ret;
	if (!k->encrypt) {
		iov_from_buf(up->iov, up->niov, k->from - up->offset, k->buf + skip, n);
		return 0;
	}
	if (up->op == BLK_WRITE)
		iov_to_buf(up->iov, up->niov, k->from - up->offset, k->buf + skip, n);
	else
		memset(k->buf + skip, 0, n);
	return luks_cipher_run(k->l->cipher, true, iv, k->buf, k->len);
}

static void chunk_crypted(struct blk_req *r, int ret)
{
	struct chunk *k = container_of(r, struct chunk, r);

	if (!ret && k->encrypt)
		chunk_file(k, BLK_WRITE, chunk_written);
	else
		chunk_end(k, ret);
}

static void chunk_work(struct chunk *k)
{
	if (k->len <= INLINE_MAX) {
		chunk_crypted(&k->r, chunk_crypt(k));
		return;
	}
	/* A flush, since no node looks into one. */
	k->r = (struct blk_req){ .op = BLK_FLUSH, .done = chunk_crypted };
	blk_submit(&k->l->crew, &k->r);
}

static void luks_crew_run(void *opaque, struct blk_req *r)
{
	blk_finish(r, chunk_crypt(container_of(r, struct chunk, r)));
}

static void luks_crew_submit(struct blk_node *n, struct blk_req *r)
{
	pool_submit(container_of(n, struct luks, crew)->pool, r);
}

static void luks_crew_wait(struct blk_node *n)
{
	pool_wait(container_of(n, struct luks, crew)->pool);
}

static const struct blk_driver luks_crew_driver = { .name = "luks-crew", .submit = luks_crew_submit, .wait = luks_crew_wait };

/* ---- requests ---- */

/* What the next chunk of a request covers. */
static void chunk_plan(const struct luks *l, const struct blk_req *up, uint64_t started, struct chunk *k)
{
	uint64_t s = l->o.sector, end = up->offset + up->len;

	k->from = up->offset + started;
	k->at = align_down(k->from, s);
	k->encrypt = up->op != BLK_READ;
	if (!k->encrypt) {
		k->len = MIN(align_up(end, s) - k->at, (uint64_t)CHUNK);
	} else if (k->at != k->from || end - k->at < s) {
		/* A part of a sector goes by itself, so that no more than that is read first. */
		k->len = s;
		k->fill_first = true;
	} else {
		k->len = MIN(align_down(end - k->at, s), (uint64_t)CHUNK);
	}
	k->to = MIN(k->at + k->len, end);
}

static int chunk_start(struct luks *l, struct blk_req *up, const struct chunk *plan)
{
	struct chunk *k = malloc(sizeof(*k));

	if (!k)
		return -ENOMEM;
	*k = *plan;
	k->l = l;
	k->up = up;
	k->buf = chunk_buffer(l, k->len);
	if (!k->buf) {
		free(k);
		return -ENOMEM;
	}
	l->bounce += chunk_room(k->len);
	luks_track_of(up)->started = k->to - up->offset;
	luks_track_of(up)->chunks++;
	if (k->encrypt && !k->fill_first)
		chunk_work(k);
	else
		chunk_file(k, BLK_READ, chunk_read);
	return 0;
}

/* Makes chunks as far as there is memory. True: the request has all it needs. (It may have ended.) */
static bool luks_pump(struct luks *l, struct blk_req *up)
{
	struct luks_track *t = luks_track_of(up);
	bool all = false;

	/* Our own hold, so that it does not end meanwhile. */
	t->chunks++;
	while (!all) {
		struct chunk plan = { 0 };
		int ret;

		all = t->started == up->len || t->ret;
		if (all)
			break;
		chunk_plan(l, up, t->started, &plan);
		if (l->bounce && l->bounce + chunk_room(plan.len) > BOUNCE_MAX)
			break;
		ret = chunk_start(l, up, &plan);
		if (ret)
			t->ret = (short)ret;
	}
	luks_ended(l, up, 0);
	return all;
}

static void luks_feed(struct luks *l)
{
	while (!list_empty(&l->hungry) && l->bounce < BOUNCE_MAX) {
		struct luks_track *t = list_entry(l->hungry.next, struct luks_track, line);

		/* Off the line first: it may end inside. */
		list_del(&t->line);
		if (!luks_pump(l, luks_req_of(t))) {
			list_add_tail(l->hungry.next, &t->line);
			return;
		}
	}
}

static void luks_start(struct luks *l, struct blk_req *r)
{
	struct luks_track *t = luks_track_of(r);

	t->running = true;
	list_init(&t->line);
	if (!list_empty(&l->hungry) || !luks_pump(l, r))
		list_add_tail(&l->hungry, &t->line);
}

/* A request to the file for one of ours that is the same, elsewhere. */
struct pass {
	struct blk_req r, *up;
};

static void luks_pass_done(struct blk_req *r, int ret)
{
	struct pass *p = container_of(r, struct pass, r);

	blk_finish(p->up, ret);
	free(p);
}

static void luks_pass(struct luks *l, struct blk_req *up, enum blk_op op, uint64_t off, uint64_t len)
{
	struct pass *p = malloc(sizeof(*p));

	if (!p) {
		blk_finish(up, -ENOMEM);
		return;
	}
	*p = (struct pass){ .r = { .op = op, .offset = off, .len = len, .unmap = true, .done = luks_pass_done }, .up = up };
	blk_submit(l->n.file, &p->r);
}

/* One chunk less is under way. */
static void luks_ended(struct luks *l, struct blk_req *up, int ret)
{
	struct luks_track *t = luks_track_of(up);

	if (ret && !t->ret)
		t->ret = (short)ret;
	if (--t->chunks || (t->started < up->len && !t->ret))
		return;
	list_del(&t->line);
	if (!t->ret && up->fua)
		luks_pass(l, up, BLK_FLUSH, 0, 0);
	else
		blk_finish(up, t->ret);
}

/* ---- parts of sectors ---- */

static bool luks_overlap(const struct luks *l, const struct blk_req *a, const struct blk_req *b)
{
	uint64_t s = l->o.sector;

	return align_down(a->offset, s) < align_up(b->offset + b->len, s) && align_down(b->offset, s) < align_up(a->offset + a->len, s);
}

/* May it run beside all that came before it? */
static bool luks_may_run(struct luks *l, struct luks_track *t)
{
	if (!l->n_partial)
		return true;
	list_for_each(p, &l->reqs) {
		struct luks_track *o = list_entry(p, struct luks_track, all);

		if (o == t)
			break;
		if ((o->partial || t->partial) && luks_overlap(l, luks_req_of(o), luks_req_of(t)))
			return false;
	}
	return true;
}

static void luks_track(struct luks *l, struct blk_req *r)
{
	struct luks_track *t = luks_track_of(r);

	*t = (struct luks_track){ .partial = r->op != BLK_READ && ((r->offset | r->len) & (l->o.sector - 1)) };
	r->drv[LUKS_TRACKED] = 1;
	list_init(&t->line);
	l->n_partial += t->partial;
	list_add_tail(&l->reqs, &t->all);
	if (luks_may_run(l, t))
		luks_start(l, r);
}

static void luks_finished(struct blk_node *n, struct blk_req *r)
{
	struct luks *l = to_luks(n);
	struct luks_track *t = luks_track_of(r);
	bool partial = l->n_partial;

	/* A request that failed the checks never came to us. */
	if (!luks_tracked(r) || !r->drv[LUKS_TRACKED])
		return;
	r->drv[LUKS_TRACKED] = 0;
	list_del(&t->all);
	l->n_partial -= t->partial;
	if (!partial)
		return;
	list_for_each(p, &l->reqs) {
		struct luks_track *o = list_entry(p, struct luks_track, all);

		if (!o->running && luks_may_run(l, o))
			luks_start(l, luks_req_of(o));
	}
}

/* ---- the node ---- */

static void luks_discard(struct luks *l, struct blk_req *r)
{
	uint64_t s = l->o.sector, from = align_up(r->offset, s), to = align_down(r->offset + r->len, s);

	if (!l->n.i.can_discard)
		blk_finish(r, -ENOTSUP);
	else if (from >= to)
		blk_finish(r, 0);
	else
		luks_pass(l, r, BLK_DISCARD, l->o.payload + from, to - from);
}

static void luks_submit(struct blk_node *n, struct blk_req *r)
{
	struct luks *l = to_luks(n);

	r->drv[LUKS_TRACKED] = 0;
	if (r->op == BLK_FLUSH) {
		luks_pass(l, r, BLK_FLUSH, 0, 0);
	} else if (r->op == BLK_STATUS) {
		/* What lies in the file is not what is read: no place is told, and holes are noise. */
		r->ext->len = r->len;
		r->ext->allocated = r->ext->data = true;
		blk_finish(r, 0);
	} else if (!l->cipher) {
		blk_finish(r, -EACCES);
	} else if (r->op == BLK_DISCARD) {
		luks_discard(l, r);
	} else {
		luks_track(l, r);
	}
}

static void luks_wait(struct blk_node *n)
{
	struct luks *l = to_luks(n);

	blk_progress(l->crew.in_flight ? &l->crew : n->file);
}

static int luks_extend(struct blk_node *n, uint64_t size)
{
	int ret = blk_extend(n->file, size);

	n->i.size = MAX(n->i.size, n->file->i.size);
	return ret;
}

static int luks_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	struct luks *l = to_luks(n);
	uint64_t end;
	int ret;

	if (l->info.size && !l->o.borrowed)
		return err_set(e, -ENOTSUP, "image '%s': the size of the volume is fixed in its LUKS2 header, which is not "
			       "changed here", n->path ? n->path : "");
	if (size % l->o.sector || add_overflows(size, l->o.payload, &end) || end > INT64_MAX)
		return err_set(e, -EINVAL, "image '%s': the size must be a multiple of the volume's sectors of %u bytes",
			       n->path ? n->path : "", l->o.sector);
	ret = blk_resize(n->file, end, e);
	if (!ret)
		n->i.size = size;
	return ret;
}

/* Inside a qcow2 image the file is reopened before us, which is no harm. */
static int luks_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	const struct blk_info *f = &n->file->i;
	int ret = blk_reopen(n->file, how, e);

	n->i.read_only = f->read_only;
	n->i.can_discard = to_luks(n)->o.can_discard && f->can_discard && !f->read_only;
	n->i.can_zero = !f->read_only;
	return ret;
}

static void luks_node_free(struct luks *l)
{
	pool_free(l->pool);
	while (l->n_idle)
		free(l->idle[--l->n_idle]);
	luks_cipher_free(l->cipher);
	blk_node_fini(&l->crew);
	blk_node_fini(&l->n);
	free(l);
}

static int luks_move(struct blk_node *n, struct loop *l)
{
	struct luks *x = to_luks(n);

	blk_drain(&x->crew);
	return blk_move(&x->crew, l);
}

static void luks_close(struct blk_node *n)
{
	struct luks *l = to_luks(n);
	struct blk_node *file = l->o.borrowed ? NULL : n->file;

	luks_node_free(l);
	blk_close(file);
}

static const struct blk_driver luks_driver = {
	.name = "luks",
	.submit = luks_submit,
	.wait = luks_wait,
	.finished = luks_finished,
	.resize = luks_resize,
	.extend = luks_extend,
	.reopen = luks_reopen,
	.move = luks_move,
	.close = luks_close,
};

static void luks_fill_info(struct luks *l)
{
	const struct blk_info *f = &l->n.file->i;

	l->n.i = (struct blk_info){
		.size = l->o.borrowed ? f->size : l->o.size,
		.request_align = BLK_SECTOR,
		.physical_block = MAX(f->physical_block, l->o.sector),
		.read_only = f->read_only,
		.can_discard = l->o.can_discard && f->can_discard && !f->read_only,
		.can_zero = !f->read_only,
		.is_device = f->is_device,
		.encrypted = true,
	};
}

int luks_node_new(struct blk_node *file, struct luks_cipher *c, const struct luks_node_opts *o, struct blk_node **out)
{
	struct luks *l = calloc(1, sizeof(*l));
	int ret;

	if (!l)
		return -ENOMEM;
	blk_node_init(&l->n, file->loop, &luks_driver);
	blk_node_init(&l->crew, file->loop, &luks_crew_driver);
	list_init(&l->reqs);
	list_init(&l->hungry);
	l->o = *o;
	l->info = *o->info;
	l->n.path = strdup(file->path ? file->path : "");
	ret = l->n.path ? pool_new(CREW_THREADS, CONFINE_IO, luks_crew_run, NULL, &l->pool) : -ENOMEM;
	if (ret) {
		luks_node_free(l);
		return ret;
	}
	l->cipher = c;
	l->n.file = file;
	l->n.format = o->borrowed ? NULL : "luks";
	l->n.open_ended = o->borrowed;
	if (!o->borrowed)
		file->open_ended = false;
	luks_fill_info(l);
	*out = &l->n;
	return 0;
}

const struct luks_info *luks_get_info(struct blk_node *n)
{
	return &to_luks(n)->info;
}
