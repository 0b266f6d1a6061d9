/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Overlays and what they stand on: committing one into a layer below, and putting
 * one on another backing file.
 *
 * Both change an image only in ways that leave its contents as they are, flush, and
 * then take the one step that makes the change count.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bits.h"
#include "base/zero.h"
#include "block/copy.h"
#include "block/qcow2/qcow2.h"

/* Shorter runs of zeros are committed as data: a hole each would tear the base to pieces. */
#define COMMIT_SPARSE (64u << 10)
#define MIN_UNIT 4096u
#define MAX_UNIT (256u << 10)

static const char *name_of(const struct blk_node *n)
{
	return n->path ? n->path : "";
}

static bool commit_progress(void *opaque, const struct blk_copy_stats *s)
{
	const struct blk_work *w = opaque;

	return w->progress(w->opaque, s->handled, s->total);
}

static int commit_base(struct blk_node *top, unsigned depth, struct blk_node **out, struct err *e)
{
	struct blk_node *base = top;

	for (unsigned i = 0; i < depth && base; i++)
		base = base->backing;
	if (!base || base == top)
		return err_set(e, -EINVAL, "image '%s' has no backing file to commit into", name_of(top));
	if (base->i.read_only)
		return err_set(e, -EROFS, "backing file '%s' is open read-only", name_of(base));
	*out = base;
	return 0;
}

int blk_commit(struct blk_node *top, unsigned depth, bool empty, const struct blk_work *w, struct err *e)
{
	struct blk_node *base = NULL;
	struct blk_copy_opts o;
	struct qcow2_info i;
	int ret = commit_base(top, depth, &base, e);

	qcow2_get_info(top, &i);
	if (!ret && empty && i.n_snapshots)
		ret = err_set(e, -EBUSY, "image '%s' has snapshots, so it cannot be made empty: commit without that (-d)", name_of(top));
	if (!ret && base->i.size < top->i.size) {
		ret = blk_resize(base, top->i.size, e);
		if (ret)
			return err_prefix(e, ret, "it is shorter than image '%s' and must grow", name_of(top));
	}
	if (ret)
		return ret;
	o = (struct blk_copy_opts){ .src = top, .dst = base, .len = top->i.size, .depth = depth, .sparse = COMMIT_SPARSE,
				    .in_flight = w->in_flight, .rate = w->rate,
				    .progress = w->progress ? commit_progress : NULL, .opaque = (void *)(uintptr_t)w };
	ret = blk_copy_run(&o, NULL, e);
	if (ret)
		return ret;
	/* Before what it was copied from goes. */
	ret = blk_flush(base);
	if (ret)
		return err_set(e, ret, "'%s' cannot be flushed: %s", name_of(base), strerror(-ret));
	return empty && depth == 1 ? qcow2_make_empty(top, e) : 0;
}

struct rebase {
	struct blk_node *top;
	const struct blk_work *w;
	uint64_t unit;
	bool zero_flags;		/* the format has a word for zeros */
	struct err *e;
};

/* What the image has itself shows nothing of any backing file. */
static int rebase_skip(void *opaque, uint64_t off, uint64_t *len)
{
	struct rebase *r = opaque;
	struct blk_extent x;
	int ret = blk_block_status(r->top, off, *len, true, &x);

	if (ret)
		return ret;
	if (!x.len)
		return -EIO;
	*len = MIN(*len, x.len);
	return x.allocated;
}

/*
 * May zeros be written as such?  The format must note them down although it sees zeros there already, in the backing
 * file of now: it does for whole clusters that this file reaches, in version 3.
 */
static bool notes_zeros(const struct rebase *r, uint64_t off, uint64_t len)
{
	uint64_t cluster = r->top->i.cluster, end = off + len;

	if (!r->zero_flags || off % cluster || (end % cluster && end != r->top->i.size))
		return false;
	return r->top->backing && align_down(end - 1, cluster) < r->top->backing->i.size;
}

static int rebase_write(struct rebase *r, uint64_t off, const uint8_t *data, size_t len)
{
	bool zero = notes_zeros(r, off, len) && mem_is_zero(data, len);
	int ret = zero ? blk_pwrite_zeroes(r->top, off, len, true) : blk_pwrite(r->top, off, data, len);

	return ret ? err_set(r->e, ret, "'%s' cannot be written at byte %" PRIu64 ": %s", name_of(r->top), off,
			     strerror(-ret)) : 0;
}

static size_t unit_end(const struct rebase *r, uint64_t off, size_t at, size_t len)
{
	return (size_t)MIN((uint64_t)len, align_down(off + at, r->unit) + r->unit - off);
}

static int rebase_look(void *opaque, uint64_t off, size_t len, const uint8_t *was, const uint8_t *base)
{
	struct rebase *r = opaque;
	size_t from = 0, end;
	int ret = 0;

	/* Runs of units that differ, [from, at). */
	for (size_t at = 0; at < len && !ret; at = end) {
		end = unit_end(r, off, at, len);
		if (memcmp(was + at, base + at, end - at) != 0) {
			if (end == len)
				ret = rebase_write(r, off + from, was + from, end - from);
			continue;
		}
		if (at > from)
			ret = rebase_write(r, off + from, was + from, at - from);
		from = end;
	}
	return ret;
}

static bool rebase_progress(void *opaque, uint64_t done, uint64_t total)
{
	const struct rebase *r = opaque;

	return !r->w->progress || r->w->progress(r->w->opaque, done, total);
}

int blk_rebase(struct blk_node *top, struct blk_node *base, const char *name, const char *format, const struct blk_work *w,
	       struct err *e)
{
	struct rebase r = { .top = top, .w = w, .e = e };
	struct blk_pairs_opts o = { .a = top, .b = base, .len = top->i.size, .skip = rebase_skip, .look = rebase_look,
				    .progress = rebase_progress, .opaque = &r };
	struct blk_node *none = NULL;
	struct qcow2_info i;
	int ret = 0;

	qcow2_get_info(top, &i);
	r.zero_flags = i.version >= 3;
	r.unit = MIN(MAX(top->i.cluster, MIN_UNIT), MAX_UNIT);
	/* Past its only sector it reads as zeros, as in it. */
	if (!base) {
		ret = blk_open_mem(top->loop, BLK_SECTOR, &none);
		o.b = none;
	}
	ret = ret ? err_set(e, ret, "out of memory while rebasing '%s'", name_of(top)) : blk_pairs(&o, e);
	blk_close(none);
	if (ret)
		return ret;
	ret = blk_flush(top);
	if (ret)
		return err_set(e, ret, "'%s' cannot be flushed: %s", name_of(top), strerror(-ret));
	return qcow2_set_backing(top, name, format, e);
}
