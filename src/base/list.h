/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Intrusive doubly linked list with a head node; an empty head points to itself. */
#ifndef LODGE_BASE_LIST_H
#define LODGE_BASE_LIST_H

#include <stdbool.h>

#include "base/bits.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *h) { h->next = h->prev = h; }
static inline bool list_empty(const struct list *h) { return h->next == h; }
static inline void list_add_tail(struct list *h, struct list *n)
{
	n->next = h;
	n->prev = h->prev;
	h->prev->next = n;
	h->prev = n;
}
/* Safe to call twice: a removed node points to itself. */
static inline void list_del(struct list *n)
{
	n->next->prev = n->prev;
	n->prev->next = n->next;
	list_init(n);
}
#define list_entry(ptr, type, member) container_of(ptr, type, member)
#define list_for_each(pos, head) \
	for (struct list *pos = (head)->next; pos != (head); pos = pos->next)
/* `pos` may be removed inside the loop. */
#define list_for_each_safe(pos, head) \
	for (struct list *pos = (head)->next, *pos##_n = pos->next; pos != (head); \
	     pos = pos##_n, pos##_n = pos->next)

#endif
