/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Commands (4.6) and the contexts they change (6.2).
 *
 * The controller's own copy of slots and endpoints is what counts.  Input contexts
 * are read once and checked before anything changes; output contexts are written,
 * never read.
 */
#include "device/xhci_int.h"

#include <string.h>

#define COMMANDS 32u			/* in a row */
#define CONTEXT 32u

/* What a command answers: completion code, slot. */
struct answer {
	unsigned cc;
	unsigned slot;
};

/* ---- contexts ---- */

static void write_slot(struct xhci_slot *s)
{
	uint8_t b[16];

	for (unsigned i = 0; i < 3; i++)
		st_le32(b + 4 * i, s->dw[i]);
	st_le32(b + 12, (s->state >= SLOT_ADDRESSED ? s->id : 0u) | (uint32_t)s->state << 27);
	xhci_write(s->x, s->ctx, b, sizeof(b));
}

void xhci_write_ep(struct xhci_ep *ep)
{
	uint8_t b[16];

	st_le32(b, ep->dw[0] | ep->state);
	st_le32(b + 4, ep->dw[1]);
	st_le64(b + 8, ep->ring.at | ep->ring.cycle);
	xhci_write(ep->slot->x, ep->slot->ctx + CONTEXT * ep->dci, b, sizeof(b));
}

struct input {
	uint32_t drop, add;
	uint32_t dw[1 + XHCI_EPS][8];	/* slot, then endpoints by DCI */
};

/* The input control context, and of the others those that are added. */
static bool read_input(struct xhci *x, uint64_t at, struct input *in)
{
	uint8_t b[CONTEXT];

	memset(in, 0, sizeof(*in));
	at &= ~15ull;
	if (mem_read(x->m->mem, at, b, sizeof(b)))
		return false;
	in->drop = ld_le32(b);
	in->add = ld_le32(b + 4);
	for (unsigned i = 0; i < XHCI_EPS; i++) {
		if (!(in->add & BIT(i)))
			continue;
		if (mem_read(x->m->mem, at + CONTEXT * (1 + i), b, sizeof(b)))
			return false;
		for (unsigned k = 0; k < 8; k++)
			in->dw[i][k] = ld_le32(b + 4 * k);
	}
	return true;
}

/* 6.2.3: a type that goes the way of the DCI, packets, no streams. */
static bool ep_valid(unsigned dci, const uint32_t dw[8])
{
	unsigned type = dw[1] >> 3 & 7;

	if (!type || !(dw[1] >> 16) || dw[0] >> 10 & 31 || (dw[0] >> 16 & 0xff) > 18)
		return false;
	return type == EP_CONTROL ? dci & 1 : (type > EP_CONTROL) == (dci & 1);
}

/* ---- slots ---- */

static struct xhci_slot *slot_of(struct xhci *x, const struct trb *t)
{
	unsigned id = t->control >> 24;

	return id && id <= XHCI_SLOTS && x->slot[id - 1].enabled ? &x->slot[id - 1] : NULL;
}

static struct answer enable_slot(struct xhci *x)
{
	unsigned max = MIN(x->config & 0xff, XHCI_SLOTS);

	for (unsigned i = 0; i < max; i++) {
		struct xhci_slot *s = &x->slot[i];

		if (s->enabled)
			continue;
		memset(s, 0, sizeof(*s));
		s->x = x;
		s->id = (uint8_t)(i + 1);
		s->enabled = true;
		for (unsigned k = 1; k < XHCI_EPS; k++) {
			s->ep[k].slot = s;
			s->ep[k].dci = (uint8_t)k;
		}
		return (struct answer){ CC_SUCCESS, i + 1 };
	}
	return (struct answer){ CC_NO_SLOTS, 0 };
}

static void slot_disable(struct xhci_slot *s)
{
	if (!s->enabled)
		return;
	for (unsigned i = 1; i < XHCI_EPS; i++)
		xhci_ep_disable(&s->ep[i]);
	s->state = 0;
	if (s->port)
		write_slot(s);
	s->port = 0;
	s->enabled = false;
	s->rung = 0;
}

static void ignore(struct usb_packet *p) { }

/* Devices answer this one at once. */
static bool set_address(struct xhci_port *p, unsigned address)
{
	struct usb_packet q = { .kind = USB_CONTROL, .setup = { 0, USB_SET_ADDRESS, (uint8_t)address }, .done = ignore };

	usb_submit(p->port.dev, &q);
	usb_cancel(&q);
	return q.status == USB_OK;
}

static bool port_taken(const struct xhci_slot *s, unsigned port)
{
	for (unsigned i = 0; i < XHCI_SLOTS; i++)
		if (&s->x->slot[i] != s && s->x->slot[i].enabled && s->x->slot[i].port == port)
			return true;
	return false;
}

/* 4.6.5 */
static unsigned address_device(struct xhci_slot *s, const struct trb *t)
{
	struct xhci *x = s->x;
	bool only_context = t->control & TRB_BEI;	/* BSR */
	unsigned port;
	struct input in;
	uint8_t b[8];

	if (s->state > (only_context ? 0 : SLOT_DEFAULT))
		return CC_CONTEXT_STATE;
	if (!read_input(x, t->param, &in) || mem_read(x->m->mem, (x->dcbaap & ~63ull) + 8u * s->id, b, sizeof(b)))
		return CC_TRB;
	port = in.dw[0][1] >> 16 & 0xff;
	if (in.drop || (in.add & 3) != 3 || !port || port > XHCI_PORTS || !ep_valid(1, in.dw[1]) || (in.dw[1][1] >> 3 & 7) != EP_CONTROL)
		return CC_PARAMETER;
	/* No hubs, so a route leads nowhere. */
	if (in.dw[0][0] & 0xfffff || !xhci_port_device(&x->port[port - 1]))
		return CC_TRANSACTION;
	if (port_taken(s, port))
		return CC_TRB;
	if (!only_context && !set_address(&x->port[port - 1], s->id))
		return CC_TRANSACTION;
	s->ctx = ld_le64(b) & ~63ull;
	s->port = (uint8_t)port;
	memcpy(s->dw, in.dw[0], sizeof(s->dw));
	s->state = only_context ? SLOT_DEFAULT : SLOT_ADDRESSED;
	xhci_ep_enable(&s->ep[1], in.dw[1]);
	write_slot(s);
	return CC_SUCCESS;
}

static void set_entries(struct xhci_slot *s)
{
	unsigned last = 1;

	for (unsigned i = 2; i < XHCI_EPS; i++)
		if (s->ep[i].state)
			last = i;
	s->dw[0] = (s->dw[0] & 0x7ffffffu) | last << 27;
	s->state = last > 1 ? SLOT_CONFIGURED : SLOT_ADDRESSED;
	write_slot(s);
}

/* 4.6.6 */
static unsigned configure(struct xhci_slot *s, const struct trb *t)
{
	struct input in = { .drop = ~3u };

	if (s->state < SLOT_ADDRESSED)
		return CC_CONTEXT_STATE;
	if (!(t->control & TRB_BEI)) {		/* DC: all go */
		if (!read_input(s->x, t->param, &in))
			return CC_TRB;
		if (in.drop & 3 || in.add & 2)
			return CC_PARAMETER;
	}
	for (unsigned i = 2; i < XHCI_EPS; i++)
		if (in.add & BIT(i) && (!ep_valid(i, in.dw[i]) || (s->ep[i].state && !(in.drop & BIT(i)))))
			return CC_PARAMETER;
	for (unsigned i = 2; i < XHCI_EPS; i++) {
		if (in.drop & BIT(i))
			xhci_ep_disable(&s->ep[i]);
		if (in.add & BIT(i))
			xhci_ep_enable(&s->ep[i], in.dw[i]);
	}
	set_entries(s);
	return CC_SUCCESS;
}

/* 4.6.7: the latency and the interrupter of the slot, the packet size of endpoint 0. */
static unsigned evaluate(struct xhci_slot *s, const struct trb *t)
{
	struct input in;

	if (!s->state)
		return CC_CONTEXT_STATE;
	if (!read_input(s->x, t->param, &in))
		return CC_TRB;
	if (in.drop || in.add & ~3u || (in.add & 2 && !(in.dw[1][1] >> 16)))
		return CC_PARAMETER;
	if (in.add & 1) {
		s->dw[1] = (s->dw[1] & 0xffff0000u) | (in.dw[0][1] & 0xffff);
		s->dw[2] = (s->dw[2] & 0x3fffffu) | (in.dw[0][2] & 0xffc00000u);
		write_slot(s);
	}
	if (in.add & 2) {
		s->ep[1].dw[1] = (s->ep[1].dw[1] & 0xffff) | (in.dw[1][1] & 0xffff0000u);
		xhci_write_ep(&s->ep[1]);
	}
	return CC_SUCCESS;
}

/* 4.6.11 */
static unsigned reset_device(struct xhci_slot *s)
{
	struct xhci_port *p = &s->x->port[s->port ? s->port - 1 : 0];

	if (s->state < SLOT_ADDRESSED)
		return CC_CONTEXT_STATE;
	for (unsigned i = 2; i < XHCI_EPS; i++)
		xhci_ep_disable(&s->ep[i]);
	xhci_ep_cancel(&s->ep[1], CC_STOPPED);
	if (xhci_port_device(p))
		set_address(p, 0);
	s->state = SLOT_DEFAULT;
	s->dw[0] = (s->dw[0] & 0x7ffffffu) | 1u << 27;
	write_slot(s);
	return CC_SUCCESS;
}

/* ---- endpoints ---- */

/* 4.6.8 to 4.6.10 */
static unsigned endpoint(struct xhci_slot *s, const struct trb *t)
{
	unsigned dci = t->control >> 16 & 31;
	struct xhci_ep *ep = &s->ep[dci];

	if (!dci)
		return CC_TRB;
	switch (trb_type(t->control)) {
	case TRB_STOP_EP:
		if (ep->state != EP_RUNNING)
			return CC_CONTEXT_STATE;
		xhci_ep_cancel(ep, CC_STOPPED);
		ep->state = EP_STOPPED;
		ep->ticking = false;
		break;
	case TRB_RESET_EP:
		if (ep->state != EP_HALTED)
			return CC_CONTEXT_STATE;
		ep->state = EP_STOPPED;
		break;
	default:
		if (ep->state != EP_STOPPED && ep->state != EP_ERROR)
			return CC_CONTEXT_STATE;
		if (t->param & 0xe)		/* a type of streams */
			return CC_TRB;
		ep->ring = (struct xhci_ring){ t->param & ~15ull, t->param & 1 };
		ep->state = EP_STOPPED;
	}
	/* Doorbells from before the command do not start it again. */
	s->rung &= ~BIT(dci);
	xhci_write_ep(ep);
	return CC_SUCCESS;
}

/* 4.6.15: what is free of each port's bandwidth, in percent. */
static unsigned bandwidth(struct xhci *x, const struct trb *t)
{
	uint8_t b[1 + XHCI_PORTS];

	if (t->control >> 24)
		return CC_PARAMETER;
	memset(b, 90, sizeof(b));
	b[0] = 0;
	return mem_write(x->m->mem, t->param & ~15ull, b, sizeof(b)) ? CC_TRB : CC_SUCCESS;
}

/* ---- the ring ---- */

static unsigned on_slot(struct xhci_slot *s, const struct trb *t)
{
	switch (trb_type(t->control)) {
	case TRB_DISABLE_SLOT: slot_disable(s); return CC_SUCCESS;
	case TRB_ADDRESS: return address_device(s, t);
	case TRB_CONFIGURE: return configure(s, t);
	case TRB_EVALUATE: return evaluate(s, t);
	case TRB_RESET_DEVICE: return reset_device(s);
	default: return endpoint(s, t);
	}
}

static struct answer execute(struct xhci *x, const struct trb *t)
{
	struct xhci_slot *s = slot_of(x, t);

	switch (trb_type(t->control)) {
	case TRB_NOOP_COMMAND: return (struct answer){ CC_SUCCESS, 0 };
	case TRB_ENABLE_SLOT: return enable_slot(x);
	case TRB_BANDWIDTH: return (struct answer){ bandwidth(x, t), 0 };
	case TRB_DISABLE_SLOT: case TRB_ADDRESS: case TRB_CONFIGURE: case TRB_EVALUATE: case TRB_RESET_EP: case TRB_STOP_EP: case TRB_SET_DEQUEUE:
	case TRB_RESET_DEVICE:
		return (struct answer){ s ? on_slot(s, t) : CC_SLOT_NOT_ENABLED, t->control >> 24 };
	default: return (struct answer){ CC_TRB, 0 };
	}
}

static void tell(struct xhci *x, uint64_t at, unsigned cc, unsigned slot)
{
	struct trb ev = { .param = at, .status = cc << 24, .control = slot << 24 };

	xhci_event(x, 0, TRB_EV_COMMAND, ev, false);
}

void xhci_commands(struct xhci *x)
{
	struct trb t;

	for (unsigned n = 0; x->crcr & CRCR_RUNNING && !(x->crcr & CRCR_STOP) && xhci_running(x) && !x->n_held; n++) {
		struct answer a;
		int ret;

		if (n == COMMANDS) {
			xhci_kick(x);
			return;
		}
		ret = xhci_fetch(x, &x->commands, &t);
		if (ret < 0)
			xhci_die(x, STS_HSE);
		if (ret <= 0)
			break;
		a = execute(x, &t);
		tell(x, t.at, a.cc, a.slot);
	}
	if (x->crcr & CRCR_STOP && x->crcr & CRCR_RUNNING) {
		x->crcr = 0;
		tell(x, x->commands.at, CC_COMMAND_STOPPED, 0);
	}
}
