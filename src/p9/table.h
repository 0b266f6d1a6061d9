/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash table of things that have a struct p9_link in them; it grows with what is in it. */
#ifndef LODGE_P9_TABLE_H
#define LODGE_P9_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct p9_link {
	struct p9_link *next;
	uint64_t hash;
};

struct p9_table {
	struct p9_link **bucket;
	size_t size, n;			/* size: of bucket, a power of two */
};

/* 0 or -ENOMEM */
int p9_table_init(struct p9_table *t);
/* What is in it is left alone. */
void p9_table_fini(struct p9_table *t);
void p9_table_add(struct p9_table *t, struct p9_link *l, uint64_t hash);
void p9_table_del(struct p9_table *t, struct p9_link *l);
/* The first one whose hash may be this; the others by ->next, each to be compared. */
struct p9_link *p9_table_first(const struct p9_table *t, uint64_t hash);

/* Spreads a number over all bits. */
static inline uint64_t p9_hash(uint64_t v)
{
	v = (v ^ v >> 32) * 0x9e3779b97f4a7c15ull;
	return v ^ v >> 29;
}

#endif
