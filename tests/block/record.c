/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See record.h. */
#include "record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bits.h"
#include "base/iov.h"

struct node {
	struct blk_node n;
	uint8_t *data;
	uint64_t max, seen, fail_at;
	uint64_t reached;		/* what was written and extended ends here: i.size counts what is under way, too */
	int err;
	bool fail_on, paused;
	uint64_t shuffle;
	struct blk_req *held[1024];
	unsigned n_held;
	struct record rec;
};

static struct node *to_node(struct blk_node *n) { return container_of(n, struct node, n); }

static struct event *add(struct node *d, enum event_kind kind, uint64_t off, uint64_t len)
{
	struct record *r = &d->rec;

	if (!r->on)
		return NULL;
	if (r->n == r->cap) {
		r->cap = r->cap ? r->cap * 2 : 256;
		r->e = realloc(r->e, r->cap * sizeof(*r->e));
		if (!r->e)
			abort();
	}
	r->e[r->n] = (struct event){ .kind = kind, .off = off, .len = len };
	return &r->e[r->n++];
}

static int run(struct node *d, struct blk_req *r)
{
	struct event *e;

	if (r->op != BLK_FLUSH && r->offset + r->len > d->max)
		return -ENOSPC;
	switch (r->op) {
	case BLK_READ:
		iov_from_buf(r->iov, r->niov, 0, d->data + r->offset, r->len);
		break;
	case BLK_WRITE:
		iov_to_buf(r->iov, r->niov, 0, d->data + r->offset, r->len);
		e = add(d, EVENT_WRITE, r->offset, r->len);
		if (e) {
			e->data = malloc(r->len);
			if (!e->data)
				abort();
			memcpy(e->data, d->data + r->offset, r->len);
		}
		d->reached = MAX(d->reached, r->offset + r->len);
		break;
	case BLK_DISCARD:
	case BLK_WRITE_ZEROES:
		memset(d->data + r->offset, 0, r->len);
		add(d, EVENT_ZERO, r->offset, r->len);
		break;
	case BLK_FLUSH:
		add(d, EVENT_FLUSH, 0, 0);
		break;
	case BLK_STATUS:
		r->ext->len = r->len;
		r->ext->allocated = r->ext->data = true;
		break;
	}
	return 0;
}

static void answer(struct node *d, struct blk_req *r)
{
	d->seen += !d->paused;
	if (d->fail_at && !d->paused && (d->seen == d->fail_at || (d->fail_on && d->seen > d->fail_at)))
		blk_finish(r, d->err);
	else
		blk_finish(r, run(d, r));
}

static void node_submit(struct blk_node *n, struct blk_req *r)
{
	struct node *d = to_node(n);

	if (d->shuffle && d->n_held < ARRAY_LEN(d->held))
		d->held[d->n_held++] = r;
	else
		answer(d, r);
}

static void node_wait(struct blk_node *n)
{
	struct node *d = to_node(n);
	struct blk_req *r;
	unsigned i;

	if (!d->n_held)
		return;
	d->shuffle = d->shuffle * 6364136223846793005ull + 1442695040888963407ull;
	i = (unsigned)(d->shuffle >> 33) % d->n_held;
	r = d->held[i];
	d->held[i] = d->held[--d->n_held];
	answer(d, r);
}

static int node_extend(struct blk_node *n, uint64_t size)
{
	struct node *d = to_node(n);

	if (size > d->max)
		return -ENOSPC;
	if (size > d->reached)
		add(d, EVENT_EXTEND, 0, size);
	d->reached = MAX(d->reached, size);
	n->i.size = MAX(n->i.size, size);
	return 0;
}

static int node_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	return size >= n->i.size ? node_extend(n, size) : -ENOTSUP;
}

static void node_close(struct blk_node *n)
{
	struct node *d = to_node(n);

	for (unsigned i = 0; i < d->rec.n; i++)
		free(d->rec.e[i].data);
	free(d->rec.e);
	munmap(d->data, d->max);
	blk_node_fini(n);
	free(d);
}

static const struct blk_driver driver = {
	.name = "record", .submit = node_submit, .wait = node_wait, .extend = node_extend, .resize = node_resize,
	.close = node_close,
};

int record_open(struct loop *l, uint64_t max, struct blk_node **out)
{
	struct node *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->data = mmap(NULL, max, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->data == MAP_FAILED) {
		free(d);
		return -ENOMEM;
	}
	d->max = max;
	blk_node_init(&d->n, l, &driver);
	d->n.i = (struct blk_info){ .request_align = BLK_SECTOR, .physical_block = BLK_SECTOR, .can_discard = true,
				    .can_zero = true };
	d->n.open_ended = true;
	*out = &d->n;
	return 0;
}

struct record *record_of(struct blk_node *n) { return &to_node(n)->rec; }
uint8_t *record_data(struct blk_node *n) { return to_node(n)->data; }

void record_mark(struct blk_node *n, unsigned mark)
{
	struct event *e = add(to_node(n), EVENT_MARK, 0, 0);

	if (e)
		e->mark = mark;
}

void record_load(struct blk_node *n, const uint8_t *data, uint64_t len)
{
	memcpy(to_node(n)->data, data, len);
	n->i.size = to_node(n)->reached = len;
}

void record_apply(struct blk_node *n, const struct event *e)
{
	struct node *d = to_node(n);

	if (e->kind == EVENT_WRITE)
		memcpy(d->data + e->off, e->data, e->len);
	else if (e->kind == EVENT_ZERO && e->off < d->max)
		memset(d->data + e->off, 0, MIN(e->len, d->max - e->off));
	if (e->kind == EVENT_WRITE || e->kind == EVENT_EXTEND)
		n->i.size = MAX(n->i.size, e->off + e->len);
}

void record_fail(struct blk_node *n, uint64_t nth, int err, bool on)
{
	struct node *d = to_node(n);

	d->seen = 0;
	d->fail_at = nth;
	d->err = err;
	d->fail_on = on;
}

void record_shuffle(struct blk_node *n, uint64_t seed) { to_node(n)->shuffle = seed; }
void record_pause(struct blk_node *n, bool on) { to_node(n)->paused = on; }
uint64_t record_seen(struct blk_node *n) { return to_node(n)->seen; }
