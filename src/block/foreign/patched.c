/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reads of a node with changes kept in memory: see patched.h. */
#include "block/foreign/patched.h"

#include <errno.h>
#include <stdlib.h>

#include "base/bits.h"
#include "base/iov.h"

/* ---- settling ---- */

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* All ends of patches, sorted, each once. */
static size_t all_ends(const struct patch *p, size_t n, uint64_t *at)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		at[2 * i] = p[i].off;
		at[2 * i + 1] = p[i].off + p[i].len;
	}
	qsort(at, 2 * n, sizeof(*at), by_value);
	for (size_t i = 0; i < 2 * n; i++)
		if (!k || at[k - 1] != at[i])
			at[k++] = at[i];
	return k;
}

static size_t index_of(const uint64_t *at, size_t n, uint64_t v)
{
	const uint64_t *p = bsearch(&v, at, n, sizeof(*at), by_value);

	return (size_t)(p - at);
}

/* The first piece from i on that has no owner yet; next[] leads over those that have. */
static size_t unowned(size_t *next, size_t i)
{
	size_t end = i;

	while (next[end] != end)
		end = next[end];
	while (next[i] != end) {
		size_t k = next[i];

		next[i] = end;
		i = k;
	}
	return end;
}

/* The pieces between two ends, latest patches first: whoever comes first has it. */
static size_t give_pieces(const struct patch *p, size_t n, const uint64_t *at, size_t ends, size_t *next, struct patch *out)
{
	size_t k = 0;

	for (size_t i = 0; i < ends; i++)
		next[i] = i;
	for (size_t i = n; i-- > 0;) {
		size_t to = index_of(at, ends, p[i].off + p[i].len);

		for (size_t s = unowned(next, index_of(at, ends, p[i].off)); s < to; s = unowned(next, s)) {
			out[s] = (struct patch){ at[s], at[s + 1] - at[s], p[i].data ? p[i].data + (at[s] - p[i].off) : NULL };
			next[s] = s + 1;
		}
	}
	for (size_t s = 0; s < ends; s++)
		if (out[s].len)
			out[k++] = out[s];
	return k;
}

int patches_settle(struct patch **p, size_t *n)
{
	uint64_t *at = malloc((2 * *n + 1) * sizeof(*at));
	size_t *next = malloc((2 * *n + 1) * sizeof(*next)), ends;
	struct patch *out = calloc(2 * *n + 1, sizeof(*out));
	int ret = at && next && out ? 0 : -ENOMEM;

	if (!ret) {
		ends = all_ends(*p, *n, at);
		*n = give_pieces(*p, *n, at, ends, next, out);
		free(*p);
		*p = out;
		out = NULL;
	}
	free(at);
	free(next);
	free(out);
	return ret;
}

/* ---- the node ---- */

struct patched {
	struct blk_node n;
	struct blk_node *under;
	struct patch *patch;
	size_t n_patches;
	void *memory;
};

/* A read in pieces: ends with the last of them. */
struct patched_read {
	struct blk_req *up;
	unsigned pending;
	int ret;
};

struct patched_part {
	struct blk_req r;
	struct patched_read *whole;
	struct iovec iov[];
};

static void patched_put(struct patched_read *w)
{
	if (--w->pending)
		return;
	blk_finish(w->up, w->ret);
	free(w);
}

static void patched_part_done(struct blk_req *r, int ret)
{
	struct patched_part *p = container_of(r, struct patched_part, r);

	if (ret && !p->whole->ret)
		p->whole->ret = ret;
	patched_put(p->whole);
	free(p);
}

static void read_under(struct patched *t, struct patched_read *w, uint64_t off, uint64_t len)
{
	const struct blk_req *up = w->up;
	struct patched_part *p = malloc(sizeof(*p) + up->niov * sizeof(p->iov[0]));
	int n;

	if (!p) {
		w->ret = w->ret ? w->ret : -ENOMEM;
		return;
	}
	n = iov_slice(up->iov, up->niov, off - up->offset, len, p->iov, up->niov);
	if (n < 0) {
		w->ret = w->ret ? w->ret : -EINVAL;
		free(p);
		return;
	}
	p->r = (struct blk_req){ .op = BLK_READ, .offset = off, .len = len, .iov = p->iov, .niov = (unsigned)n,
				 .done = patched_part_done };
	p->whole = w;
	w->pending++;
	blk_submit(t->under, &p->r);
}

/* The first patch that ends behind off. */
static size_t first_patch(const struct patched *t, uint64_t off)
{
	size_t lo = 0, hi = t->n_patches;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (t->patch[mid].off + t->patch[mid].len > off)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

static void patched_submit(struct blk_node *n, struct blk_req *r)
{
	struct patched *t = container_of(n, struct patched, n);
	struct patched_read *w;
	uint64_t off = r->offset, end = r->offset + r->len;

	if (r->op != BLK_READ) {
		blk_finish(r, r->op == BLK_FLUSH ? 0 : -ENOTSUP);
		return;
	}
	w = malloc(sizeof(*w));
	if (!w) {
		blk_finish(r, -ENOMEM);
		return;
	}
	*w = (struct patched_read){ .up = r, .pending = 1 };
	for (size_t i = first_patch(t, off); off < end; i++) {
		const struct patch *p = i < t->n_patches ? &t->patch[i] : NULL;
		uint64_t stop = p ? MIN(end, MAX(p->off, off)) : end, part;

		if (stop > off)
			read_under(t, w, off, stop - off);
		off = stop;
		if (!p || off == end)
			break;
		part = MIN(end, p->off + p->len) - off;
		if (p->data)
			iov_from_buf(r->iov, r->niov, off - r->offset, p->data + (off - p->off), part);
		else
			iov_memset(r->iov, r->niov, off - r->offset, 0, part);
		off += part;
	}
	patched_put(w);
}

static void patched_wait(struct blk_node *n)
{
	struct patched *t = container_of(n, struct patched, n);

	if (t->under->in_flight)
		blk_progress(t->under);
}

static void patched_close(struct blk_node *n)
{
	struct patched *t = container_of(n, struct patched, n);

	free(t->patch);
	free(t->memory);
	blk_node_fini(n);
	free(t);
}

static const struct blk_driver patched_driver = {
	.name = "patched",
	.submit = patched_submit,
	.wait = patched_wait,
	.close = patched_close,
};

int patched_open(struct blk_node *under, struct patch *p, size_t n, void *memory, uint64_t end, struct blk_node **out)
{
	struct patched *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	blk_node_init(&t->n, under->loop, &patched_driver);
	t->n.i = under->i;
	t->n.i.read_only = true;
	t->n.i.size = MAX(under->i.size, end);
	t->n.open_ended = true;
	t->under = under;
	t->patch = p;
	t->n_patches = n;
	t->memory = memory;
	*out = &t->n;
	return 0;
}
