/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Mirror, and the filter that marks what is written.
 *
 * While the target is behind, a write goes to the disk and then marks what it
 * touched: what is copied from there before that is copied again.  Once all is
 * copied, writes go to both, each from one copy of its data (a guest may
 * change its memory meanwhile), and those that overlap one after the other: on both
 * sides the last one is the same.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/iov.h"
#include "block/job_int.h"

static void mark(struct blk_job *j, const struct blk_req *r)
{
	blk_dirty_set(j->todo, r->offset, r->len);
	job_wake(j);
}

static int write_noted(struct blk_job *j, struct co *c, struct blk_req *r)
{
	struct blk_req below = *r;
	int ret = co_submit(c, j->filter->n.file, &below);

	/* Also if it failed: who knows what is there now. */
	mark(j, r);
	return ret;
}

struct second {
	struct blk_req r;
	struct co *c;
	bool done, waited;
	int ret;
};

static void second_done(struct blk_req *r, int ret)
{
	struct second *s = r->opaque;

	s->ret = ret;
	s->done = true;
	if (s->waited)
		co_resume(s->c);
}

static int write_both(struct blk_job *j, struct co *c, struct blk_req *r, struct iovec *data)
{
	struct blk_req below = *r;
	struct second s = { .r = *r, .c = c };
	struct range_lock l;
	int ret;

	if (data) {
		below.iov = s.r.iov = data;
		below.niov = s.r.niov = 1;
	}
	s.r.done = second_done;
	s.r.opaque = &s;
	s.r.fua = false;
	s.r.unmap = true;
	range_lock(c, &j->locks, &l, r->offset, r->offset + r->len, true);
	if (!j->in_chain)
		blk_submit(j->target, &s.r);
	ret = co_submit(c, j->filter->n.file, &below);
	if (j->in_chain && !ret)
		blk_submit(j->target, &s.r);
	else if (j->in_chain)
		s.done = true;
	if (!s.done) {
		s.waited = true;
		co_wait(c);
	}
	range_unlock(&j->locks, &l);
	if (ret || s.ret)
		mark(j, r);
	if (s.ret)
		job_fail(j, s.ret, "the target cannot be written", r->offset);
	return ret;
}

/* A discard leaves what may differ on both sides: it is copied like a write. */
int mirror_write(struct blk_job *j, struct co *c, struct blk_req *r)
{
	struct iovec data = { NULL, r->len };
	int ret;

	if (!j->both || j->paused || r->op == BLK_DISCARD)
		return write_noted(j, c, r);
	if (r->op == BLK_WRITE) {
		data.iov_base = io_buf(r->len);
		if (!data.iov_base)
			return write_noted(j, c, r);
		iov_to_buf(r->iov, r->niov, 0, data.iov_base, r->len);
	}
	ret = write_both(j, c, r, data.iov_base ? &data : NULL);
	free(data.iov_base);
	return ret;
}

static int mirror_end(struct blk_job *j, int ret)
{
	struct blk_node *old = j->target;

	if (!ret && j->switch_over)
		old = blk_slot_replace(j->slot, j->target);
	j->target = NULL;
	blk_close(old);
	return ret;
}

static const struct job_kind mirror_kind = {
	.name = "mirror", .ready = true, .write = mirror_write, .end = mirror_end,
};

int blk_mirror_start(struct blk_node *slot, struct blk_node *target, enum blk_sync sync, const struct blk_job_opts *o,
		     struct blk_job **out, struct err *e)
{
	struct blk_job *j = NULL;
	int ret = job_check_target(slot, target, "mirror", e);

	if (!ret && sync == BLK_SYNC_DIRTY)
		ret = err_set(e, -EINVAL, "a mirror copies all, the top or nothing: a bitmap is for backups");
	ret = ret ? ret : blk_slot_claim(slot, "mirror", e);
	if (ret)
		return ret;
	ret = job_new(&mirror_kind, slot, target, slot->i.size, o, &j, e);
	if (ret) {
		blk_slot_unclaim(slot);
		return ret;
	}
	j->claimed = true;
	if (sync == BLK_SYNC_FULL)
		blk_dirty_set(j->todo, 0, slot->i.size);
	j->scan_depth = j->copy_depth = sync == BLK_SYNC_TOP ? 1 : 0;
	return job_begin(j, out, e);
}

/* ---- marking ---- */

struct tracker {
	struct blk_node n;
	struct blk_dirty *d;
};

/* Before it is done: a bitmap may only say too much. */
static void track_submit(struct blk_node *n, struct blk_req *r)
{
	if (r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES || r->op == BLK_DISCARD)
		blk_dirty_set(container_of(n, struct tracker, n)->d, r->offset, r->len);
	filter_pass(n->file, r);
}

static int track_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	struct blk_dirty *d = container_of(n, struct tracker, n)->d;
	uint64_t old = n->i.size;
	int ret = filter_resize(n, size, e);

	if (!ret && blk_dirty_resize(d, size))
		return err_set(e, -ENOMEM, "out of memory");
	if (!ret && size > old)
		blk_dirty_set(d, old, size - old);
	return ret;
}

static void track_close(struct blk_node *n)
{
	blk_close(n->file);
	blk_node_fini(n);
	free(container_of(n, struct tracker, n));
}

static const struct blk_driver track_driver = {
	.name = "track",
	.filter = true,
	.submit = track_submit,
	.wait = filter_wait,
	.resize = track_resize,
	.reopen = filter_reopen,
	.close = track_close,
};

int blk_track_new(struct blk_node *child, struct blk_dirty *d, struct blk_node **out)
{
	struct tracker *t = calloc(1, sizeof(*t));

	if (!t || filter_init(&t->n, child, &track_driver)) {
		free(t);
		return -ENOMEM;
	}
	t->d = d;
	*out = &t->n;
	return 0;
}
