/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two disks side by side.
 *
 * What is known to be zeros in both is passed over, the rest read in pairs of
 * chunks.  Several pairs are under way while the oldest is looked at, so that the
 * disks, not the round trips, decide how long it takes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/zero.h"
#include "block/copy.h"

#define CHUNK (256u << 10)
#define AHEAD 4
/* How much a whole range of zeros may be at a time, for the sake of progress. */
#define SKIP_MAX (1ull << 30)

struct half {
	struct blk_req r;
	struct iovec v;
	uint8_t *buf;
	struct pair *p;
	int ret;
};

struct pair {
	uint64_t off;
	size_t len;
	unsigned busy;
	struct half h[2];
};

struct side {
	struct blk_node *n;
	uint64_t off;
	/* The last extent asked for, in bytes of the range. */
	uint64_t from, to;
	struct blk_extent x;
};

struct pairs {
	const struct blk_pairs_opts *o;
	struct err *e;
	struct side s[2];
	uint64_t pos;
	unsigned oldest, n;		/* pairs[] in use, in order */
	struct pair pairs[AHEAD];
};

static int cannot_read(struct pairs *ps, unsigned i, uint64_t off, int ret)
{
	const char *path = ps->s[i].n->path;
	uint64_t at = ps->s[i].off + off;

	return err_set(ps->e, ret, "'%s' cannot be read at byte %" PRIu64 ": %s", path ? path : "", at, strerror(-ret));
}

/* Has the side's extent reach over `pos`. */
static int look_up(struct pairs *ps, unsigned i, uint64_t pos)
{
	struct side *s = &ps->s[i];
	uint64_t len = ps->o->len - pos, inside;
	int ret;

	if (pos >= s->from && pos < s->to)
		return 0;
	inside = s->off + pos < s->n->i.size ? MIN(len, s->n->i.size - s->off - pos) : 0;
	s->from = pos;
	s->to = pos + len;
	s->x = (struct blk_extent){ .zero = true, .len = len };
	if (!inside)
		return 0;
	ret = blk_block_status(s->n, s->off + pos, inside, false, &s->x);
	if (!ret && !s->x.len)
		ret = -EIO;
	s->to = pos + MIN(s->x.len, inside);
	return ret ? cannot_read(ps, i, pos, ret) : 0;
}

static void half_done(struct blk_req *r, int ret)
{
	struct half *h = r->opaque;

	h->ret = ret;
	h->p->busy--;
}

/* Past its end a disk reads as zeros. */
static void read_half(struct pairs *ps, unsigned i, struct pair *p)
{
	struct side *s = &ps->s[i];
	struct half *h = &p->h[i];
	uint64_t at = s->off + p->off, len = at < s->n->i.size ? MIN(p->len, s->n->i.size - at) : 0;

	h->ret = 0;
	if (s->x.zero && s->from <= p->off && s->to >= p->off + p->len)
		len = 0;
	memset(h->buf + len, 0, p->len - len);
	if (!len)
		return;
	h->v = (struct iovec){ h->buf, len };
	h->r = (struct blk_req){ .op = BLK_READ, .offset = at, .len = len, .iov = &h->v, .niov = 1, .done = half_done,
				 .opaque = h };
	p->busy++;
	blk_submit(s->n, &h->r);
}

/* Begins the next pair; *len 0: nothing to read there, the position has moved on. Below 0: error, above: stop. */
static int begin(struct pairs *ps)
{
	struct pair *p = &ps->pairs[(ps->oldest + ps->n) % AHEAD];
	uint64_t len = MIN(ps->o->len - ps->pos, SKIP_MAX);
	int ret = ps->o->skip ? ps->o->skip(ps->o->opaque, ps->pos, &len) : 0;

	if (ret) {
		ps->pos += ret > 0 ? len : 0;
		return ret > 0 ? 0 : err_set(ps->e, ret, "what the disk has at byte %llu cannot be found: %s",
					     (unsigned long long)ps->pos, strerror(-ret));
	}
	ret = look_up(ps, 0, ps->pos);
	ret = ret ? ret : look_up(ps, 1, ps->pos);
	if (!ret && ps->o->status)
		ret = ps->o->status(ps->o->opaque, ps->pos, &ps->s[0].x, &ps->s[1].x);
	if (ret)
		return ret;
	len = MIN(len, MIN(ps->s[0].to, ps->s[1].to) - ps->pos);
	if (!ps->s[0].x.zero || !ps->s[1].x.zero) {
		len = MIN(len, CHUNK - ps->pos % CHUNK);
		*p = (struct pair){ .off = ps->pos, .len = len, .h = { { .buf = p->h[0].buf, .p = p },
								       { .buf = p->h[1].buf, .p = p } } };
		ps->n++;
		read_half(ps, 0, p);
		read_half(ps, 1, p);
	}
	ps->pos += len;
	return 0;
}

static int wait_for(struct pairs *ps, const struct pair *p)
{
	int ret = 0;

	while (p->busy && !ret)
		ret = loop_turn(ps->o->a->loop, -1);
	return ret ? err_set(ps->e, ret, "the event loop failed: %s", strerror(-ret)) : 0;
}

static int finish(struct pairs *ps)
{
	struct pair *p = &ps->pairs[ps->oldest];
	int ret = wait_for(ps, p);

	ps->oldest = (ps->oldest + 1) % AHEAD;
	ps->n--;
	for (unsigned i = 0; i < 2 && !ret; i++)
		if (p->h[i].ret)
			ret = cannot_read(ps, i, p->off, p->h[i].ret);
	return ret ? ret : ps->o->look(ps->o->opaque, p->off, p->len, p->h[0].buf, p->h[1].buf);
}

static int walk(struct pairs *ps)
{
	int ret = 0;

	while (!ret && (ps->pos < ps->o->len || ps->n)) {
		if (ps->pos < ps->o->len && ps->n < AHEAD)
			ret = begin(ps);
		else
			ret = finish(ps);
		if (!ret && ps->o->progress &&
		    !ps->o->progress(ps->o->opaque, ps->n ? ps->pairs[ps->oldest].off : ps->pos, ps->o->len))
			ret = err_set(ps->e, -ECANCELED, "cancelled");
	}
	/* What stopped it may lie behind what is still being read. */
	blk_drain(ps->o->a);
	blk_drain(ps->o->b);
	return ret;
}

int blk_pairs(const struct blk_pairs_opts *o, struct err *e)
{
	struct pairs *ps = calloc(1, sizeof(*ps));
	int ret = ps ? 0 : -ENOMEM;

	if (!ret) {
		ps->o = o;
		ps->e = e;
		ps->s[0] = (struct side){ .n = o->a, .off = o->a_off };
		ps->s[1] = (struct side){ .n = o->b, .off = o->b_off };
	}
	for (unsigned i = 0; i < AHEAD * 2 && !ret; i++) {
		struct half *h = &ps->pairs[i / 2].h[i % 2];

		h->buf = aligned_alloc(4096, CHUNK);
		ret = h->buf ? 0 : -ENOMEM;
	}
	ret = ret ? err_set(e, ret, "out of memory while comparing") : walk(ps);
	for (unsigned i = 0; ps && i < AHEAD * 2; i++)
		free(ps->pairs[i / 2].h[i % 2].buf);
	free(ps);
	return ret;
}

/* ---- comparing ---- */

struct comparison {
	const struct blk_compare_opts *o;
	enum blk_difference found;
	uint64_t at;
	uint64_t status_at;		/* where their status differs first; later than the end: nowhere */
};

static int compare_status(void *opaque, uint64_t off, const struct blk_extent *a, const struct blk_extent *b)
{
	struct comparison *cmp = opaque;

	if (a->allocated == b->allocated && a->zero == b->zero)
		return 0;
	cmp->status_at = MIN(cmp->status_at, off);
	return 0;
}

static int compare_look(void *opaque, uint64_t off, size_t len, const uint8_t *a, const uint8_t *b)
{
	struct comparison *cmp = opaque;

	/* All before this has been looked at. */
	if (cmp->status_at <= off)
		return 1;
	if (!memcmp(a, b, len))
		return 0;
	for (size_t i = 0; i < len; i += BLK_SECTOR) {
		if (memcmp(a + i, b + i, BLK_SECTOR) != 0) {
			cmp->found = BLK_CONTENT_DIFFERS;
			cmp->at = off + i;
			return 1;
		}
	}
	return 0;
}

static bool compare_progress(void *opaque, uint64_t done, uint64_t total)
{
	const struct comparison *cmp = opaque;

	return !cmp->o->progress || cmp->o->progress(cmp->o->opaque, done, total);
}

int blk_compare(const struct blk_compare_opts *o, enum blk_difference *out, uint64_t *at, struct err *e)
{
	struct comparison cmp = { .o = o, .found = BLK_SAME, .status_at = UINT64_MAX };
	struct blk_pairs_opts p = { .a = o->a, .b = o->b, .a_off = o->a_off, .b_off = o->b_off, .len = o->len,
				    .status = o->strict ? compare_status : NULL, .look = compare_look,
				    .progress = compare_progress, .opaque = &cmp };
	int ret = blk_pairs(&p, e);

	*out = cmp.found;
	*at = cmp.at;
	if (cmp.status_at <= (cmp.found == BLK_SAME ? o->len : cmp.at)) {
		*out = BLK_STATUS_DIFFERS;
		*at = cmp.status_at;
	}
	return ret < 0 ? ret : 0;
}
