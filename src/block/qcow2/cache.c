/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slices of L2 tables and refcount blocks in memory, up to a bound.
 *
 * They are found by their offset in the file.  To make room the one that was not
 * used for the longest time goes; if all are dirty the metadata is committed
 * first.  Whoever holds the lock may keep a pointer over a few cache_get calls:
 * the bound is never below MIN_SLICES.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/qcow2/internal.h"

#define MIN_SLICES 32u

int cache_init(struct cache *ca, unsigned slice, uint64_t bytes)
{
	unsigned buckets = 64;

	ca->size = slice;
	ca->max = (unsigned)MAX(MIN(bytes / slice, 1u << 20), (uint64_t)MIN_SLICES);
	while (buckets < ca->max && buckets < 16384)
		buckets *= 2;
	ca->hash_mask = buckets - 1;
	list_init(&ca->lru);
	ca->hash = calloc(buckets, sizeof(struct slice *));
	return ca->hash ? 0 : -ENOMEM;
}

static struct slice **bucket(struct cache *ca, uint64_t off)
{
	return &ca->hash[((off / ca->size) * 0x9e3779b97f4a7c15ull >> 40) & ca->hash_mask];
}

static void unhash(struct cache *ca, struct slice *s)
{
	struct slice **p = bucket(ca, s->off);

	while (*p != s)
		p = &(*p)->hash_next;
	*p = s->hash_next;
}

static void slice_free(struct cache *ca, struct slice *s)
{
	unhash(ca, s);
	list_del(&s->lru);
	ca->n_dirty -= s->dirty;
	ca->n--;
	free(s->data);
	free(s);
}

void cache_fini(struct cache *ca)
{
	if (!ca->hash)
		return;
	while (!list_empty(&ca->lru))
		slice_free(ca, list_entry(ca->lru.next, struct slice, lru));
	free(ca->hash);
	ca->hash = NULL;
}

struct slice *cache_peek(struct cache *ca, uint64_t off)
{
	for (struct slice *s = *bucket(ca, off); s; s = s->hash_next) {
		if (s->off != off)
			continue;
		if (ca->lru.prev != &s->lru) {
			list_del(&s->lru);
			list_add_tail(&ca->lru, &s->lru);
		}
		return s;
	}
	return NULL;
}

/* A slice in no table, to be filled. */
static int take(struct qcow2 *q, struct co *c, struct cache *ca, struct slice **out)
{
	struct slice *s = NULL;
	int ret;

	if (ca->n >= ca->max && ca->n_dirty == ca->n) {
		ret = ca == &q->rbc ? cache_write(q, c, ca, NULL) : q_commit(q, c);
		if (ret)
			return ret;
	}
	if (ca->n >= ca->max) {
		list_for_each(p, &ca->lru) {
			s = list_entry(p, struct slice, lru);
			if (!s->dirty)
				break;
		}
		unhash(ca, s);
		list_del(&s->lru);
		ca->n--;
		*out = s;
		return 0;
	}
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	list_init(&s->lru);
	s->data = aligned_alloc(MAX(ca->size, 512u), ca->size);
	if (!s->data) {
		free(s);
		return -ENOMEM;
	}
	*out = s;
	return 0;
}

int cache_get(struct qcow2 *q, struct co *c, struct cache *ca, uint64_t off, struct slice **out)
{
	struct slice *s = cache_peek(ca, off);
	int ret;

	if (!s) {
		ret = take(q, c, ca, &s);
		if (ret)
			return ret;
		ret = q_rw(q, c, q->n.file, BLK_READ, off, s->data, ca->size);
		if (ret) {
			free(s->data);
			free(s);
			return ret;
		}
		s->off = off;
		s->dirty = false;
		s->l1_index = NO_L1;
		s->hash_next = *bucket(ca, off);
		*bucket(ca, off) = s;
		list_add_tail(&ca->lru, &s->lru);
		ca->n++;
	}
	*out = s;
	return 0;
}

void cache_dirty(struct cache *ca, struct slice *s)
{
	ca->n_dirty += !s->dirty;
	s->dirty = true;
}

void cache_drop(struct cache *ca, uint64_t off, uint64_t len)
{
	if (len / ca->size > ca->n) {
		list_for_each_safe(p, &ca->lru) {
			struct slice *s = list_entry(p, struct slice, lru);

			if (s->off >= off && s->off - off < len)
				slice_free(ca, s);
		}
		return;
	}
	for (uint64_t o = off; o < off + len; o += ca->size) {
		struct slice *s = cache_peek(ca, o);

		if (s)
			slice_free(ca, s);
	}
}

int cache_write(struct qcow2 *q, struct co *c, struct cache *ca, bool (*want)(struct qcow2 *q, const struct slice *s))
{
	struct group g;
	int ret;

	if (!ca->n_dirty)
		return 0;
	group_init(&g, q, c);
	list_for_each(p, &ca->lru) {
		struct slice *s = list_entry(p, struct slice, lru);
		struct iovec v = { s->data, ca->size };

		if (s->dirty && (!want || want(q, s)))
			group_iov(&g, q->n.file, BLK_WRITE, s->off, ca->size, &v, 1, 0);
	}
	ret = group_wait(&g);
	if (ret)
		return ret;
	list_for_each(p, &ca->lru) {
		struct slice *s = list_entry(p, struct slice, lru);

		if (s->dirty && (!want || want(q, s))) {
			s->dirty = false;
			ca->n_dirty--;
		}
	}
	return 0;
}
