// SPDX-License-Identifier: GPL-2.0-or-later
/* A growing hash table: see table.h.  One that cannot grow for want of memory becomes slow, nothing else. */
#include "p9/table.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST 256

int p9_table_init(struct p9_table *t)
{
	*t = (struct p9_table){ .bucket = calloc(FIRST, sizeof(t->bucket[0])), .size = FIRST };
	return t->bucket ? 0 : -ENOMEM;
}

void p9_table_fini(struct p9_table *t)
{
	free(t->bucket);
	*t = (struct p9_table){ 0 };
}

static void grow(struct p9_table *t)
{
	size_t size = t->size * 2;
	struct p9_link **b = calloc(size, sizeof(b[0])), *l;

	if (!b)
		return;
	for (size_t i = 0; i < t->size; i++)
		while ((l = t->bucket[i])) {
			t->bucket[i] = l->next;
			l->next = b[l->hash & (size - 1)];
			b[l->hash & (size - 1)] = l;
		}
	free(t->bucket);
	t->bucket = b;
	t->size = size;
}

void p9_table_add(struct p9_table *t, struct p9_link *l, uint64_t hash)
{
	struct p9_link **b;

	if (t->n++ >= t->size)
		grow(t);
	b = &t->bucket[hash & (t->size - 1)];
	l->hash = hash;
	l->next = *b;
	*b = l;
}

void p9_table_del(struct p9_table *t, struct p9_link *l)
{
	struct p9_link **p = &t->bucket[l->hash & (t->size - 1)];

	for (; *p && *p != l; p = &(*p)->next)
		;
	if (!*p)
		return;
	*p = l->next;
	t->n--;
}

struct p9_link *p9_table_first(const struct p9_table *t, uint64_t hash)
{
	return t->bucket[hash & (t->size - 1)];
}
