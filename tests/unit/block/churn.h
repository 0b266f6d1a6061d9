/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that never rests: random requests, many under way, against a model.
 * Requests under way do not overlap (unless both read), so what a read must give
 * is known when it is submitted.
 */
#ifndef LODGE_TESTS_BLOCK_CHURN_H
#define LODGE_TESTS_BLOCK_CHURN_H

#include "block_test.h"

#define CHURN_LANES 16
#define CHURN_MAX 65536

struct churn;
struct churn_lane {
	struct churn *ch;
	struct blk_req r;
	struct iovec v[2];
	uint8_t buf[CHURN_MAX];
	bool flying;
};

struct churn {
	struct loop *l;
	struct blk_node *n;
	uint8_t *model;
	uint64_t size;
	unsigned busy, errors;
	bool may_fail;			/* errors are counted, and what failed is not compared any more */
	uint8_t *unknown;		/* by sector */
	uint64_t done;
	struct churn_lane lanes[CHURN_LANES];
};

static inline void churn_done(struct blk_req *r, int ret)
{
	struct churn_lane *a = r->opaque;
	struct churn *ch = a->ch;

	a->flying = false;
	ch->busy--;
	ch->done++;
	if (ret && ch->may_fail) {
		ch->errors++;
		if (r->op == BLK_WRITE || r->op == BLK_WRITE_ZEROES)
			memset(ch->unknown + r->offset / 512, 1, r->len / 512);
		return;
	}
	if (ret)
		fail_msg("request %d at %llu: error %d", (int)r->op, (unsigned long long)r->offset, ret);
	if (r->op != BLK_READ)
		return;
	for (uint64_t s = 0; s < r->len / 512; s++)
		if (!ch->unknown[r->offset / 512 + s] && memcmp(a->buf + s * 512, ch->model + r->offset + s * 512, 512))
			fail_msg("sector %llu reads wrong", (unsigned long long)(r->offset / 512 + s));
}

static inline bool churn_overlaps(struct churn *ch, enum blk_op op, uint64_t off, uint64_t len)
{
	for (unsigned i = 0; i < CHURN_LANES; i++) {
		struct churn_lane *a = &ch->lanes[i];

		if (a->flying && a->r.op != BLK_FLUSH && a->r.offset < off + len && off < a->r.offset + a->r.len &&
		    (op != BLK_READ || a->r.op != BLK_READ))
			return true;
	}
	return false;
}

static inline void churn_submit(struct churn *ch, struct churn_lane *a)
{
	unsigned kind = (unsigned)random() % 20;
	enum blk_op op = kind < 8 ? BLK_READ : kind < 16 ? BLK_WRITE : kind < 18 ? BLK_WRITE_ZEROES : BLK_FLUSH;
	uint64_t off = (uint64_t)random() % (ch->size / 512) * 512, len;

	len = ((uint64_t)random() % (random() % 4 ? 16 : CHURN_MAX / 512) + 1) * 512;
	len = MIN(len, ch->size - off);
	if (churn_overlaps(ch, op, off, len))
		return;
	a->r = (struct blk_req){ .op = op, .offset = off, .len = len, .done = churn_done, .opaque = a };
	if (op == BLK_READ || op == BLK_WRITE) {
		a->v[0] = (struct iovec){ a->buf, 300 };
		a->v[1] = (struct iovec){ a->buf + 300, len - 300 };
		a->r.iov = a->v;
		a->r.niov = 2;
	}
	if (op == BLK_WRITE) {
		uint64_t fill = (uint64_t)random() * 0x9e3779b97f4a7c15u;

		for (uint64_t i = 0; i < len; i += 8, fill += 0x632be59bd9b4e019u)
			memcpy(a->buf + i, &fill, 8);
		memcpy(ch->model + off, a->buf, len);
		memset(ch->unknown + off / 512, 0, len / 512);
	} else if (op == BLK_WRITE_ZEROES) {
		a->r.unmap = random() & 1;
		memset(ch->model + off, 0, len);
		memset(ch->unknown + off / 512, 0, len / 512);
	}
	a->flying = true;
	ch->busy++;
	blk_submit(ch->n, &a->r);
}

/* The model begins as what the node has now. */
static inline struct churn *churn_new(struct loop *l, struct blk_node *n, uint64_t size)
{
	struct churn *ch = calloc(1, sizeof(*ch));

	ch->l = l;
	ch->n = n;
	ch->size = size;
	ch->model = malloc(size);
	ch->unknown = calloc(1, size / 512);
	for (unsigned i = 0; i < CHURN_LANES; i++)
		ch->lanes[i].ch = ch;
	assert_int_equal(blk_pread(n, 0, ch->model, size), 0);
	return ch;
}

/* Keeps the lanes busy for one turn of the loop. */
static inline void churn_turn(struct churn *ch)
{
	for (unsigned i = 0; i < CHURN_LANES; i++)
		if (!ch->lanes[i].flying)
			churn_submit(ch, &ch->lanes[i]);
	assert_int_equal(loop_turn(ch->l, 1), 0);
}

static inline void churn_run(struct churn *ch, unsigned requests)
{
	uint64_t until = ch->done + requests;

	while (ch->done < until)
		churn_turn(ch);
}

static inline void churn_rest(struct churn *ch)
{
	while (ch->busy)
		assert_int_equal(loop_turn(ch->l, 5000), 0);
}

/* Does the node have what the guest wrote? Nothing is under way. */
static inline void churn_compare(struct churn *ch, struct blk_node *n)
{
	uint8_t *all = malloc(ch->size);
	int ret;

	churn_rest(ch);
	ret = blk_pread(n, 0, all, ch->size);
	/* A fault that strikes once may have waited for this. */
	if (ret && ch->may_fail)
		ret = blk_pread(n, 0, all, ch->size);
	assert_int_equal(ret, 0);
	for (uint64_t s = 0; s < ch->size / 512; s++)
		if (!ch->unknown[s] && memcmp(all + s * 512, ch->model + s * 512, 512))
			fail_msg("sector %llu differs", (unsigned long long)s);
	free(all);
}

static inline void churn_free(struct churn *ch)
{
	churn_rest(ch);
	free(ch->model);
	free(ch->unknown);
	free(ch);
}

#endif
