/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Min-heap of deadlines, shared by the loop's timers and the virtual clock's.
 *
 * An entry points back at an `int` inside the timer that holds its place in the
 * heap (-1: not in it), so removal needs no search.  No locking: the user's.
 */
#ifndef LODGE_BASE_HEAP_H
#define LODGE_BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct heap_entry {
	int64_t key;
	int *index;
	void *item;
};

struct heap {
	struct heap_entry *e;
	size_t n, cap;
};

/* 0 or -ENOMEM.  *index must be -1. */
int heap_insert(struct heap *h, int64_t key, int *index, void *item);
/* Removes the entry whose place is *index and sets that to -1; no-op if it is. */
void heap_remove(struct heap *h, int *index);
static inline const struct heap_entry *heap_top(const struct heap *h)
{
	return h->n ? &h->e[0] : NULL;
}
void heap_fini(struct heap *h);

#endif
