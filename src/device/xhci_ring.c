/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Rings: reading the driver's (4.9.2, 4.9.3), writing events (4.9.4).
 *
 * A TRB's control word, with the cycle bit, is read first and the rest behind a
 * barrier; each is read once.  A ring of Links only ends after so many of them.
 *
 * Events are never lost: with one place left in a ring the driver is told that it
 * is full, what comes then is held here, and the controller begins nothing new
 * until the driver has read some.  What is under way can bring XHCI_HELD events at
 * most; a guest that makes more of them has halted its controller.
 */
#include "device/xhci_int.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/log.h"

#define TRB_SIZE 16u
#define LINKS_MAX 32u

bool xhci_write(struct xhci *x, uint64_t gpa, const void *buf, unsigned len)
{
	if (!mem_write(x->m->mem, gpa, buf, len))
		return true;
	xhci_die(x, STS_HSE);
	return false;
}

int xhci_fetch(struct xhci *x, struct xhci_ring *r, struct trb *t)
{
	struct xhci_ring at = *r;
	uint8_t b[TRB_SIZE];

	for (unsigned i = 0; i < LINKS_MAX; i++) {
		if (mem_read(x->m->mem, at.at + 12, b + 12, 4))
			return -EFAULT;
		t->control = ld_le32(b + 12);
		if ((t->control & TRB_CYCLE) != at.cycle)
			return 0;
		/* Pairs with the driver's barrier before it sets the cycle bit. */
		atomic_thread_fence(memory_order_acquire);
		if (mem_read(x->m->mem, at.at, b, 12))
			return -EFAULT;
		t->param = ld_le64(b);
		t->status = ld_le32(b + 8);
		t->at = at.at;
		if (trb_type(t->control) != TRB_LINK) {
			at.at += TRB_SIZE;
			*r = at;
			return 1;
		}
		at.at = t->param & ~15ull;
		at.cycle ^= (t->control & TRB_TOGGLE) != 0;
	}
	return -ELOOP;
}

/* ---- events ---- */

void xhci_event_ring_new(struct xhci *x, unsigned n)
{
	struct xhci_intr *i = &x->intr[n];

	x->n_held -= i->n_held;
	i->n_segs = i->seg = i->index = i->n_held = 0;
	i->cycle = true;
	i->full = false;
}

/* 6.5: the segment table, once. */
static bool load_segments(struct xhci *x, struct xhci_intr *i)
{
	unsigned n = MIN(i->erstsz & 0xffff, XHCI_SEGMENTS);
	uint8_t b[16];

	for (unsigned k = 0; k < n; k++) {
		if (mem_read(x->m->mem, i->erstba + 16 * k, b, sizeof(b)))
			return false;
		i->seg_at[k] = ld_le64(b) & ~63ull;
		i->seg_size[k] = ld_le32(b + 8) & 0xffff;
		if (i->seg_size[k] < 16 || i->seg_size[k] > 4096)
			return false;
	}
	i->n_segs = n;
	return n > 0;
}

static uint64_t place_after(const struct xhci_intr *i, unsigned steps)
{
	uint32_t seg = i->seg, index = i->index + steps;

	while (index >= i->seg_size[seg]) {
		index -= i->seg_size[seg];
		seg = (seg + 1) % i->n_segs;
	}
	return i->seg_at[seg] + TRB_SIZE * index;
}

static void put(struct xhci *x, struct xhci_intr *i, const struct trb *t)
{
	uint64_t at = i->seg_at[i->seg] + TRB_SIZE * i->index;
	uint8_t b[TRB_SIZE];

	st_le64(b, t->param);
	st_le32(b + 8, t->status);
	st_le32(b + 12, (t->control & ~TRB_CYCLE) | i->cycle);
	/* The control word, by which the driver sees it, last. */
	if (!xhci_write(x, at, b, 12))
		return;
	atomic_thread_fence(memory_order_release);
	if (!xhci_write(x, at + 12, b + 12, 4))
		return;
	if (++i->index < i->seg_size[i->seg])
		return;
	i->index = 0;
	i->seg = (i->seg + 1) % i->n_segs;
	i->cycle ^= !i->seg;
}

/* False: there is no room for it. */
static bool try_put(struct xhci *x, struct xhci_intr *i, const struct trb *t)
{
	uint64_t dequeue = i->erdp & ~15ull;

	if (i->full || place_after(i, 1) == dequeue)
		return false;
	if (place_after(i, 2) == dequeue) {
		const struct trb full = { .status = (uint32_t)CC_RING_FULL << 24, .control = TRB_EV_HOST << 10 };

		put(x, i, &full);
		i->full = true;
		return false;
	}
	put(x, i, t);
	return true;
}

static void hold(struct xhci *x, struct xhci_intr *i, const struct trb *t)
{
	if (!i->held)
		i->held = calloc(XHCI_HELD, sizeof(*i->held));
	if (!i->held || i->n_held == XHCI_HELD) {
		log_debug("xhci: the driver reads no events, and there are %u that wait", i->n_held);
		xhci_die(x, STS_HCE);
		return;
	}
	i->held[i->n_held++] = *t;
	x->n_held++;
}

void xhci_event(struct xhci *x, unsigned n, unsigned type, struct trb t, bool quiet)
{
	struct xhci_intr *i = &x->intr[n < XHCI_INTRS ? n : 0];

	if (!xhci_running(x) || !(i->erstsz & 0xffff))
		return;
	t.control = (t.control & ~(63u << 10)) | type << 10;
	if (!i->n_segs && !load_segments(x, i)) {
		xhci_die(x, STS_HSE);
		return;
	}
	if (i->n_held || !try_put(x, i, &t)) {
		hold(x, i, &t);
		quiet = false;
	}
	if (!quiet)
		xhci_irq(x, (unsigned)(i - x->intr));
}

void xhci_events_read(struct xhci *x, unsigned n)
{
	struct xhci_intr *i = &x->intr[n];
	unsigned k = 0;

	if (!i->n_segs)
		return;
	i->full = false;
	while (k < i->n_held && xhci_running(x) && try_put(x, i, &i->held[k]))
		k++;
	if (!k)
		return;
	i->n_held -= k;
	x->n_held -= k;
	memmove(i->held, i->held + k, i->n_held * sizeof(*i->held));
	xhci_irq(x, n);
	xhci_kick(x);
}
