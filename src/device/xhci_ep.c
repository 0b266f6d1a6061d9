/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Endpoints: transfers from their rings to the device and back (4.6.6, 4.10, 4.11).
 *
 * A transfer descriptor is read whole, checked, and its memory mapped; then the
 * device has it as one packet, and the endpoint's place in the ring stays before
 * it until it has ended.  So one that is taken back, or saved, is simply begun
 * again.  The three stages of a control transfer are one packet.
 *
 * Isochronous transfers are given to the device one in each interval; what has no
 * transfer in its interval is an underrun or overrun.
 */
#include "device/xhci_int.h"

#include <errno.h>
#include <stdlib.h>

#include "base/iov.h"

#define BUDGET 256u			/* TRBs of one endpoint, after which others have their turn */
#define TRB_BYTES_MAX 65536u
#define MICROFRAME_NS 125000
#define ISOCH_BUDGET 64u
#define ISOCH_LATE_NS 20000000		/* the schedule starts anew when it is behind by so much */

static bool is_control(const struct xhci_ep *ep) { return xhci_ep_type(ep) == EP_CONTROL; }
static bool is_isoch(const struct xhci_ep *ep) { return xhci_ep_type(ep) == EP_ISOCH; }
static bool has_data(unsigned type) { return type == TRB_NORMAL || type == TRB_DATA || type == TRB_ISOCH; }
static uint32_t bytes_of(const struct trb *t) { return has_data(trb_type(t->control)) ? t->status & 0x1ffff : 0; }

/* ---- events ---- */

static void tell(struct xhci_ep *ep, const struct trb *t, unsigned cc, uint32_t rest)
{
	struct trb ev = { .param = t->at, .status = cc << 24 | (rest & 0xffffff), .control = (uint32_t)ep->slot->id << 24 | (uint32_t)ep->dci << 16 };

	xhci_event(ep->slot->x, t->status >> 22, TRB_EV_TRANSFER, ev, t->control & TRB_BEI && (cc == CC_SUCCESS || cc == CC_SHORT));
}

static void tell_data(struct xhci_ep *ep, const struct trb *t, unsigned cc, uint32_t moved)
{
	struct trb ev = { .param = t->param, .status = cc << 24 | (moved & 0xffffff),
			  .control = (uint32_t)ep->slot->id << 24 | (uint32_t)ep->dci << 16 | 4 };

	xhci_event(ep->slot->x, t->status >> 22, TRB_EV_TRANSFER, ev, t->control & TRB_BEI);
}

/* What happened to each TRB.  cc: the error it ended with, or 0; the TRB it hit is returned. */
static const struct trb *report(struct xhci_ep *ep, const struct xhci_td *td, unsigned cc)
{
	uint32_t moved = 0;
	uint64_t left = td->p.actual;
	bool is_short = false, told = false;

	for (unsigned i = 0; i < td->n; i++) {
		const struct trb *t = &td->trb[i];
		unsigned type = trb_type(t->control);
		uint32_t len = bytes_of(t), here = (uint32_t)MIN(len, left);

		left -= here;
		moved += here;
		if (cc && ((has_data(type) && here < len) || type == TRB_STATUS || i + 1 == td->n)) {
			tell(ep, t, cc, len - here);
			return t;
		}
		if (type == TRB_STATUS)
			is_short = told = false;
		if (here < len)
			is_short = true;
		if (type == TRB_EVENT_DATA) {
			if (t->control & TRB_IOC)
				tell_data(ep, t, is_short ? CC_SHORT : CC_SUCCESS, moved);
			moved = 0;
		} else if (!told && (t->control & TRB_IOC || (is_short && t->control & TRB_ISP))) {
			tell(ep, t, is_short ? CC_SHORT : CC_SUCCESS, len - here);
			told = is_short;
		}
	}
	return NULL;
}

/* ---- from the ring ---- */

static void free_td(struct xhci_td *td)
{
	free(td->iov);
	free(td);
}

/* The endpoint stops at this TRB. */
static void halt(struct xhci_ep *ep, unsigned state, const struct trb *t)
{
	ep->state = (uint8_t)state;
	ep->ticking = false;
	if (t)
		ep->ring = (struct xhci_ring){ t->at, t->control & TRB_CYCLE };
	xhci_write_ep(ep);
}

static void bad(struct xhci_ep *ep, const struct trb *t)
{
	tell(ep, t, CC_TRB, t->status & 0x1ffff);
	halt(ep, EP_ERROR, t);
}

/* May it be the n-th of a transfer? */
static bool fits(const struct xhci_ep *ep, const struct trb *t, unsigned n, bool in)
{
	unsigned type = trb_type(t->control);
	uint32_t len = t->status & 0x1ffff;

	if (has_data(type) && (len > TRB_BYTES_MAX || (t->control & TRB_IDT && (in || len > 8))))
		return false;
	switch (type) {
	case TRB_NORMAL: return !is_control(ep) || n > 1;
	case TRB_SETUP: return is_control(ep) && !n && t->control & TRB_IDT && len == USB_SETUP_LEN;
	case TRB_DATA: return is_control(ep) && n == 1;
	case TRB_STATUS: return is_control(ep) && n;
	case TRB_ISOCH: return is_isoch(ep) && !n;
	case TRB_EVENT_DATA: return !is_control(ep) || n;
	case TRB_NOOP: return !n;
	default: return false;
	}
}

/* A whole transfer to the scratch array: how many TRBs.  0: not there yet, or the endpoint has stopped for an error. */
static unsigned gather(struct xhci_ep *ep, struct xhci_ring *r)
{
	struct xhci *x = ep->slot->x;
	bool in = ep->dci & 1, status = false;
	unsigned n = 0;

	*r = ep->ring;
	for (;;) {
		struct trb *t = &x->scratch[n];
		int ret;

		*t = (struct trb){ .at = r->at, .control = r->cycle };
		ret = n < XHCI_TD_TRBS - 1 ? xhci_fetch(x, r, t) : -E2BIG;
		if (!ret)
			return 0;
		if (is_control(ep) && n == 1 && ret > 0)
			in = trb_type(t->control) == TRB_DATA ? t->control & TRB_DIR : false;
		if (ret < 0 || !fits(ep, t, n, in)) {
			bad(ep, t);
			return 0;
		}
		n++;
		status |= trb_type(t->control) == TRB_STATUS || trb_type(t->control) == TRB_NOOP;
		if (!(t->control & TRB_CHAIN) && (!is_control(ep) || status))
			return n;
	}
}

/* 0; -ENOMEM, -EFAULT, -E2BIG */
static int map(struct xhci_td *td, struct mem *mem)
{
	size_t max = 2 * td->n + 14, k = 0;
	int ret = 0;

	td->iov = malloc(max * sizeof(*td->iov));
	if (!td->iov)
		return -ENOMEM;
	for (unsigned i = 0; i < td->n && !ret; i++) {
		struct trb *t = &td->trb[i];
		uint32_t len = bytes_of(t);

		if (!len)
			continue;
		if (!(t->control & TRB_IDT))
			ret = mem_map_iov(mem, t->param, len, td->p.in, td->iov, max, &k);
		else if (k < max)
			td->iov[k++] = (struct iovec){ &t->param, len };
		else
			ret = -E2BIG;
		td->p.len += len;
	}
	td->p.iov = td->iov;
	td->p.niov = (unsigned)k;
	return ret;
}

static void ended(struct usb_packet *p);

static struct xhci_td *make_td(struct xhci_ep *ep)
{
	static const uint8_t kinds[] = { [EP_ISOCH] = USB_ISOCH, [EP_BULK] = USB_BULK, [EP_INTERRUPT] = USB_INTERRUPT, [EP_CONTROL] = USB_CONTROL };
	struct xhci *x = ep->slot->x;
	struct xhci_ring next;
	struct xhci_td *td;
	unsigned n = gather(ep, &next);

	if (!n)
		return NULL;
	td = malloc(sizeof(*td) + n * sizeof(td->trb[0]));
	if (!td) {
		bad(ep, &x->scratch[0]);
		return NULL;
	}
	*td = (struct xhci_td){ .ep = ep, .next = next, .n = n };
	memcpy(td->trb, x->scratch, n * sizeof(td->trb[0]));
	td->p.ep = ep->dci >> 1;
	td->p.in = ep->dci & 1;
	td->p.kind = (enum usb_kind)kinds[xhci_ep_type(ep)];
	td->p.done = ended;
	td->p.opaque = td;
	if (is_control(ep)) {
		st_le64(td->p.setup, td->trb[0].param);
		td->p.in = td->p.setup[0] & 0x80;
	}
	/* The data stage goes the way the request says. */
	if ((n > 1 && trb_type(td->trb[1].control) == TRB_DATA && !(td->trb[1].control & TRB_DIR) == td->p.in) || map(td, x->m->mem)) {
		bad(ep, &td->trb[0]);
		free_td(td);
		return NULL;
	}
	return td;
}

/* ---- to the device ---- */

static void finish(struct xhci_ep *ep)
{
	static const uint8_t codes[] = { [USB_OK] = 0, [USB_STALL] = CC_STALL, [USB_BABBLE] = CC_BABBLE, [USB_ERROR] = CC_TRANSACTION };
	struct xhci_td *td = ep->td;
	unsigned cc = codes[td->p.status];
	const struct trb *hit = report(ep, td, cc);

	ep->td = NULL;
	if (!cc || is_isoch(ep))
		ep->ring = td->next;
	else
		halt(ep, EP_HALTED, hit);
	free_td(td);
}

static void ended(struct usb_packet *p)
{
	struct xhci_ep *ep = ((struct xhci_td *)p->opaque)->ep;

	if (ep->submitting)
		return;
	finish(ep);
	if (ep->state == EP_RUNNING)
		ep->slot->rung |= BIT(ep->dci);
	xhci_kick(ep->slot->x);
}

/* Nothing for the device: no operation, and Event Data alone. */
static bool is_empty(const struct xhci_td *td)
{
	for (unsigned i = 0; i < td->n; i++)
		if (trb_type(td->trb[i].control) != TRB_NOOP && trb_type(td->trb[i].control) != TRB_EVENT_DATA)
			return false;
	return true;
}

/* The next transfer, and of how many TRBs it was; 0: there is none, or the device keeps it for now. */
static unsigned step(struct xhci_ep *ep)
{
	struct usb_device *dev = xhci_port_device(&ep->slot->x->port[ep->slot->port - 1]);
	struct xhci_td *td = make_td(ep);
	unsigned n;

	if (!td)
		return 0;
	n = td->n;
	ep->td = td;
	ep->submitting = true;
	if (is_empty(td))
		td->p.status = USB_OK;
	else if (dev)
		usb_submit(dev, &td->p);
	else
		td->p.status = USB_ERROR;
	ep->submitting = false;
	if (td->p.status == USB_PENDING)
		return 0;
	finish(ep);
	return n;
}

/* A device that is suspended is not asked. */
static bool may_step(const struct xhci_ep *ep)
{
	const struct xhci *x = ep->slot->x;

	return ep->state == EP_RUNNING && !ep->td && xhci_running(x) && !x->n_held && !x->paused &&
	       xhci_port_link(&x->port[ep->slot->port - 1]) != PLS_U3 && xhci_port_link(&x->port[ep->slot->port - 1]) != PLS_RESUME;
}

static int64_t interval_ns(const struct xhci_ep *ep)
{
	return (int64_t)MICROFRAME_NS << MIN(ep->dw[0] >> 16 & 0xff, 15u);
}

static void start_ticking(struct xhci_ep *ep)
{
	struct xhci *x = ep->slot->x;

	if (ep->ticking || ep->state != EP_RUNNING)
		return;
	ep->ticking = true;
	ep->due_ns = clock_now(x->m->clock) + interval_ns(ep);
	if (!vtimer_armed(&x->isoch_timer) || x->isoch_timer.deadline_ns > ep->due_ns)
		vtimer_arm(&x->isoch_timer, ep->due_ns);
}

void xhci_ep_run(struct xhci_ep *ep)
{
	unsigned n = 0, k;

	if (is_isoch(ep)) {
		start_ticking(ep);
		return;
	}
	while (n < BUDGET && may_step(ep) && (k = step(ep)))
		n += k;
	/* Others first; also those that wait for room in the event ring. */
	if (n >= BUDGET || (ep->state == EP_RUNNING && !ep->td && ep->slot->x->n_held))
		ep->slot->rung |= BIT(ep->dci);
	if (n >= BUDGET)
		xhci_kick(ep->slot->x);
}

/* 4.10.3.1 */
static void starved(struct xhci_ep *ep)
{
	struct trb none = { 0 };

	ep->ticking = false;
	tell(ep, &none, ep->dci & 1 ? CC_OVERRUN : CC_UNDERRUN, 0);
}

static void tick(struct xhci_ep *ep, int64_t now)
{
	if (ep->due_ns < now - ISOCH_LATE_NS)
		ep->due_ns = now;
	for (unsigned n = 0; n < ISOCH_BUDGET && ep->ticking && ep->due_ns <= now; n++) {
		ep->due_ns += interval_ns(ep);
		if (!may_step(ep))
			continue;
		if (!step(ep) && !ep->td && ep->state == EP_RUNNING)
			starved(ep);
	}
}

void xhci_isoch(void *opaque)
{
	struct xhci *x = opaque;
	int64_t now = clock_now(x->m->clock), next = INT64_MAX;

	for (unsigned s = 0; s < XHCI_SLOTS && xhci_running(x); s++)
		for (unsigned i = 1; x->slot[s].enabled && i < XHCI_EPS; i++) {
			struct xhci_ep *ep = &x->slot[s].ep[i];

			if (ep->ticking)
				tick(ep, now);
			if (ep->ticking)
				next = MIN(next, ep->due_ns);
		}
	/* Not more often than once in a frame. */
	if (next != INT64_MAX)
		vtimer_arm(&x->isoch_timer, MAX(next, now + 8 * MICROFRAME_NS));
}

/* ---- states ---- */

void xhci_ep_cancel(struct xhci_ep *ep, unsigned cc)
{
	struct xhci_td *td = ep->td;
	const struct trb *hit;

	if (!td)
		return;
	usb_cancel(&td->p);
	td->p.actual = 0;
	ep->td = NULL;
	hit = cc ? report(ep, td, cc) : NULL;
	/* A transfer that was stopped begins anew when the endpoint goes on. */
	if (cc && cc != CC_STOPPED && !is_isoch(ep))
		halt(ep, EP_HALTED, hit);
	free_td(td);
}

void xhci_ep_enable(struct xhci_ep *ep, const uint32_t dw[5])
{
	uint8_t last[4];

	xhci_ep_disable(ep);
	ep->state = EP_RUNNING;
	ep->dw[0] = dw[0] & ~7u;
	ep->dw[1] = dw[1];
	ep->ring = (struct xhci_ring){ (dw[2] | (uint64_t)dw[3] << 32) & ~15ull, dw[2] & 1 };
	st_le32(last, dw[4]);
	xhci_write(ep->slot->x, ep->slot->ctx + 32ull * ep->dci + 16, last, 4);
	xhci_write_ep(ep);
}

void xhci_ep_disable(struct xhci_ep *ep)
{
	if (!ep->state)
		return;
	xhci_ep_cancel(ep, 0);
	ep->state = EP_DISABLED;
	ep->ticking = false;
	ep->slot->rung &= ~BIT(ep->dci);
	xhci_write_ep(ep);
}
