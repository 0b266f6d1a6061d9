/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables of foreign images in memory, up to a bound: blocks of 4 KiB, found by
 * file and offset; the one that was not used for the longest time makes room.
 * Whoever wants bytes gets a copy, so that blocks can go at any moment.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/foreign/foreign.h"

#define BLOCK 4096u
#define MIN_BLOCKS 16u
#define MAX_BLOCKS 8192u
#define BUCKETS 256u

struct table_block {
	struct list lru, hash;
	struct blk_node *node;
	uint64_t off;
	uint8_t *data;
};

int tables_init(struct tables *t, uint64_t bytes)
{
	t->max = (unsigned)MIN(MAX(bytes / BLOCK, (uint64_t)MIN_BLOCKS), (uint64_t)MAX_BLOCKS);
	t->n = 0;
	list_init(&t->lru);
	t->block = calloc(t->max, sizeof(*t->block));
	t->hash = calloc(BUCKETS, sizeof(*t->hash));
	if (!t->block || !t->hash)
		return -ENOMEM;
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&t->hash[i]);
	return 0;
}

void tables_fini(struct tables *t)
{
	for (unsigned i = 0; i < t->n; i++)
		free(t->block[i].data);
	free(t->block);
	free(t->hash);
	t->block = NULL;
	t->hash = NULL;
	t->n = 0;
}

static struct list *table_bucket(struct tables *t, const struct blk_node *n, uint64_t off)
{
	uint64_t key = (off / BLOCK + (uintptr_t)n / 64) * 0x9e3779b97f4a7c15ull;

	return &t->hash[key >> 56 & (BUCKETS - 1)];
}

static struct table_block *table_find(struct tables *t, const struct blk_node *n, uint64_t off)
{
	list_for_each(p, table_bucket(t, n, off)) {
		struct table_block *b = list_entry(p, struct table_block, hash);

		if (b->node == n && b->off == off) {
			list_del(&b->lru);
			list_add_tail(&t->lru, &b->lru);
			return b;
		}
	}
	return NULL;
}

/* A block in no list, to be filled. NULL: no memory */
static struct table_block *table_take(struct tables *t)
{
	struct table_block *b;

	if (t->n < t->max) {
		b = &t->block[t->n];
		b->data = aligned_alloc(BLOCK, BLOCK);
		if (b->data) {
			t->n++;
			list_init(&b->lru);
			list_init(&b->hash);
			return b;
		}
	}
	if (list_empty(&t->lru))
		return NULL;
	b = list_entry(t->lru.next, struct table_block, lru);
	list_del(&b->lru);
	list_del(&b->hash);
	return b;
}

static int table_load(struct foreign *f, struct co *c, struct blk_node *n, uint64_t off)
{
	struct tables *t = &f->tables;
	struct table_block *b = table_take(t);
	int ret;

	if (!b)
		return -ENOMEM;
	ret = foreign_read(f, c, n, off, b->data, BLOCK);
	b->node = ret ? NULL : n;
	b->off = off;
	/* One that could not be read is the next to be taken, and found by nobody. */
	if (ret) {
		b->lru.next = t->lru.next;
		b->lru.prev = &t->lru;
		t->lru.next->prev = &b->lru;
		t->lru.next = &b->lru;
		return ret;
	}
	list_add_tail(&t->lru, &b->lru);
	list_add_tail(table_bucket(t, n, off), &b->hash);
	return 0;
}

/* Loads are one at a time, so that no block is loaded twice. */
static int table_load_once(struct foreign *f, struct co *c, struct blk_node *n, uint64_t off)
{
	int ret = 0;

	if (!c)
		return table_load(f, c, n, off);
	co_lock(c, &f->tables.lock);
	if (!table_find(&f->tables, n, off))
		ret = table_load(f, c, n, off);
	co_unlock(&f->tables.lock);
	return ret;
}

int foreign_table(struct foreign *f, struct co *c, struct blk_node *n, uint64_t off, void *buf, size_t len)
{
	uint8_t *to = buf;

	while (len) {
		uint64_t at = align_down(off, BLOCK);
		size_t part = MIN(len, (size_t)(at + BLOCK - off));
		struct table_block *b = table_find(&f->tables, n, at);
		int ret;

		if (!b) {
			/* The block may be gone again when others ran meanwhile: look again. */
			ret = table_load_once(f, c, n, at);
			if (ret)
				return ret;
			continue;
		}
		memcpy(to, b->data + (off - at), part);
		to += part;
		off += part;
		len -= part;
	}
	return 0;
}
