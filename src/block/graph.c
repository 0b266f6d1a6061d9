/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Slots: see graph.h. */
#include "block/graph.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/log.h"

struct slot {
	struct blk_node n;		/* n.file is what is in it; n.redirect the same while it is not held */
	unsigned holds;
	struct blk_req *held, **held_end;
	struct list waiting;		/* struct blk_slot_wait */
	const char *claim;
};

/* Only while it is held. */
static void slot_submit(struct blk_node *n, struct blk_req *r)
{
	struct slot *s = container_of(n, struct slot, n);

	r->next = NULL;
	*s->held_end = r;
	s->held_end = &r->next;
}

/* Who holds a slot and waits for it waits for ever; better to be told. */
static void slot_wait(struct blk_node *n)
{
	log_error("disk '%s': a request is waited for that is held back", n->path ? n->path : "");
	abort();
}

static int slot_resize(struct blk_node *n, uint64_t size, struct err *e)
{
	int ret;

	blk_slot_hold(n);
	ret = blk_resize(n->file, size, e);
	n->i = n->file->i;
	blk_slot_release(n);
	return ret;
}

static int slot_reopen(struct blk_node *n, const struct blk_reopen *how, struct err *e)
{
	int ret;

	blk_slot_hold(n);
	ret = blk_reopen(n->file, how, e);
	blk_slot_release(n);
	return ret;
}

static void slot_close(struct blk_node *n)
{
	blk_close(n->file);
	blk_node_fini(n);
	free(container_of(n, struct slot, n));
}

static const struct blk_driver slot_driver = {
	.name = "slot",
	.filter = true,
	.submit = slot_submit,
	.wait = slot_wait,
	.resize = slot_resize,
	.reopen = slot_reopen,
	.close = slot_close,
};

int blk_slot_new(struct blk_node *child, struct blk_node **out)
{
	struct slot *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	blk_node_init(&s->n, child->loop, &slot_driver);
	if (child->path && !(s->n.path = strdup(child->path))) {
		blk_node_fini(&s->n);
		free(s);
		return -ENOMEM;
	}
	s->n.i = child->i;
	s->n.file = s->n.redirect = child;
	s->held_end = &s->held;
	list_init(&s->waiting);
	*out = &s->n;
	return 0;
}

bool blk_is_slot(const struct blk_node *n)
{
	return n->drv == &slot_driver;
}

/* ---- holding ---- */

/* A job's requests go to nodes of their own accord, so each node on the way must come to rest. */
static void settle_below(struct blk_node *n)
{
	for (struct blk_node *x = n->file; x; x = x->drv->filter ? x->file : NULL)
		blk_drain(x);
}

static bool busy_below(const struct blk_node *n)
{
	for (const struct blk_node *x = n->file; x; x = x->drv->filter ? x->file : NULL)
		if (x->in_flight)
			return true;
	return false;
}

void blk_slot_hold(struct blk_node *n)
{
	struct slot *s = container_of(n, struct slot, n);

	s->holds++;
	n->redirect = NULL;
	/* What ends may begin something in a node further up. */
	do {
		settle_below(n);
	} while (busy_below(n));
}

bool blk_slot_held(const struct blk_node *n)
{
	return container_of(n, struct slot, n)->holds != 0;
}

void blk_slot_release(struct blk_node *n)
{
	struct slot *s = container_of(n, struct slot, n);
	struct blk_req *r;

	if (--s->holds)
		return;
	n->i = n->file->i;
	n->redirect = n->file;
	while ((r = s->held)) {
		s->held = r->next;
		if (!s->held)
			s->held_end = &s->held;
		n->in_flight--;
		blk_submit(n, r);
	}
	/* One that goes on may have the slot held again. */
	while (!s->holds && !list_empty(&s->waiting)) {
		struct blk_slot_wait *w = list_entry(s->waiting.next, struct blk_slot_wait, in);

		list_del(&w->in);
		w->go(w);
	}
}

void blk_slot_wait(struct blk_node *n, struct blk_slot_wait *w)
{
	list_add_tail(&container_of(n, struct slot, n)->waiting, &w->in);
}

/* ---- changes ---- */

struct blk_node **blk_slot_image(struct blk_node *n)
{
	struct blk_node **at = &n->file;

	while ((*at)->drv->filter)
		at = &(*at)->file;
	return at;
}

/* From the bottom up: each shows what is below it, read-only or not, and goes by its name. */
static void refresh(struct blk_node *n)
{
	char *path;

	if (!n->drv->filter)
		return;
	refresh(n->file);
	n->i = n->file->i;
	path = n->file->path ? strdup(n->file->path) : NULL;
	if (!path && n->file->path)
		return;
	free(n->path);
	n->path = path;
}

void blk_slot_refresh(struct blk_node *n)
{
	refresh(n);
}

struct blk_node *blk_slot_replace(struct blk_node *n, struct blk_node *image)
{
	struct blk_node **at = blk_slot_image(n), *old = *at;

	*at = image;
	refresh(n);
	return old;
}

void blk_slot_insert(struct blk_node *n, struct blk_node *filter)
{
	*blk_slot_image(n) = filter;
}

void blk_slot_remove(struct blk_node *n, struct blk_node *filter)
{
	struct blk_node **at = &n->file;

	while (*at != filter)
		at = &(*at)->file;
	*at = filter->file;
	filter->file = NULL;
	/* There is nothing below to flush. */
	filter->i.read_only = true;
	blk_close(filter);
}

int blk_slot_claim(struct blk_node *n, const char *what, struct err *e)
{
	struct slot *s = container_of(n, struct slot, n);

	if (s->claim)
		return err_set(e, -EBUSY, "disk '%s': a %s is under way, and a %s cannot begin before it has ended",
			       n->path ? n->path : "", s->claim, what);
	s->claim = what;
	return 0;
}

void blk_slot_unclaim(struct blk_node *n)
{
	container_of(n, struct slot, n)->claim = NULL;
}
