/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Binary min-heap; see heap.h. */
#include "base/heap.h"

#include <errno.h>
#include <stdlib.h>

static void place(struct heap *h, size_t i, struct heap_entry e)
{
	h->e[i] = e;
	*e.index = (int)i;
}

static void sift_up(struct heap *h, size_t i, struct heap_entry e)
{
	while (i && h->e[(i - 1) / 2].key > e.key) {
		place(h, i, h->e[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	place(h, i, e);
}

static void sift_down(struct heap *h, size_t i, struct heap_entry e)
{
	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= h->n)
			break;
		if (c + 1 < h->n && h->e[c + 1].key < h->e[c].key)
			c++;
		if (h->e[c].key >= e.key)
			break;
		place(h, i, h->e[c]);
		i = c;
	}
	place(h, i, e);
}

int heap_insert(struct heap *h, int64_t key, int *index, void *item)
{
	if (h->n == h->cap) {
		size_t cap = h->cap ? h->cap * 2 : 32;
		struct heap_entry *e = realloc(h->e, cap * sizeof(*e));

		if (!e)
			return -ENOMEM;
		h->e = e;
		h->cap = cap;
	}
	sift_up(h, h->n++, (struct heap_entry){ key, index, item });
	return 0;
}

void heap_remove(struct heap *h, int *index)
{
	struct heap_entry last;
	size_t i;

	if (*index < 0)
		return;
	i = (size_t)*index;
	*index = -1;
	last = h->e[--h->n];
	if (i == h->n)
		return;
	if (i && h->e[(i - 1) / 2].key > last.key)
		sift_up(h, i, last);
	else
		sift_down(h, i, last);
}

void heap_fini(struct heap *h)
{
	for (size_t i = 0; i < h->n; i++)
		*h->e[i].index = -1;
	free(h->e);
	h->e = NULL;
	h->n = h->cap = 0;
}
