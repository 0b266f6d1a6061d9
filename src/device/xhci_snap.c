/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The controller's saved state: registers, then each slot that is enabled with its
 * endpoints.  Transfers that devices have are not in it: an endpoint's place is
 * before them, and they are begun again.
 */
#include "device/xhci_int.h"

#include <errno.h>
#include <stdlib.h>

struct state {
	uint32_t usbcmd, usbsts, dnctrl, config, crcr;
	uint64_t dcbaap, commands_at, slots;
	uint8_t commands_cycle, saved;
	uint32_t portsc[XHCI_PORTS], pmsc[XHCI_PORTS], li[XHCI_PORTS];
	uint8_t speed[XHCI_PORTS];		/* of what is plugged in, 0: nothing */
};

static const struct snap_field fields[] = {
	SNAP_FIELD(struct state, usbcmd), SNAP_FIELD(struct state, usbsts), SNAP_FIELD(struct state, dnctrl), SNAP_FIELD(struct state, config),
	SNAP_FIELD(struct state, crcr), SNAP_FIELD(struct state, dcbaap), SNAP_FIELD(struct state, commands_at), SNAP_FIELD(struct state, slots),
	SNAP_FIELD(struct state, commands_cycle), SNAP_FIELD(struct state, saved), SNAP_ARRAY(struct state, portsc),
	SNAP_ARRAY(struct state, pmsc), SNAP_ARRAY(struct state, li), SNAP_ARRAY(struct state, speed), SNAP_END,
};
static const struct snap_table table = { "xhci", 1, fields };

static const struct snap_field intr_fields[] = {
	SNAP_FIELD(struct xhci_intr, iman), SNAP_FIELD(struct xhci_intr, imod), SNAP_FIELD(struct xhci_intr, erstsz),
	SNAP_FIELD(struct xhci_intr, erstba), SNAP_FIELD(struct xhci_intr, erdp), SNAP_ARRAY(struct xhci_intr, seg_at),
	SNAP_ARRAY(struct xhci_intr, seg_size), SNAP_FIELD(struct xhci_intr, n_segs), SNAP_FIELD(struct xhci_intr, seg),
	SNAP_FIELD(struct xhci_intr, index), SNAP_FIELD(struct xhci_intr, cycle), SNAP_FIELD(struct xhci_intr, full),
	SNAP_FIELD(struct xhci_intr, n_held), SNAP_END,
};
static const struct snap_table intr_table = { "xhci-interrupter", 1, intr_fields };

static const struct snap_field trb_fields[] = {
	SNAP_FIELD(struct trb, param), SNAP_FIELD(struct trb, status), SNAP_FIELD(struct trb, control), SNAP_END,
};
static const struct snap_table trb_table = { "xhci-event", 1, trb_fields };

struct slot_state {
	uint8_t state, port;
	uint64_t ctx;
	uint32_t dw[3], rung, endpoints;
};

static const struct snap_field slot_fields[] = {
	SNAP_FIELD(struct slot_state, state), SNAP_FIELD(struct slot_state, port), SNAP_FIELD(struct slot_state, ctx),
	SNAP_ARRAY(struct slot_state, dw), SNAP_FIELD(struct slot_state, rung), SNAP_FIELD(struct slot_state, endpoints), SNAP_END,
};
static const struct snap_table slot_table = { "xhci-slot", 1, slot_fields };

static const struct snap_field ep_fields[] = {
	SNAP_FIELD(struct xhci_ep, state), SNAP_ARRAY(struct xhci_ep, dw),
	{ "at", offsetof(struct xhci_ep, ring.at), 8, 1, 0, 0 }, { "cycle", offsetof(struct xhci_ep, ring.cycle), 1, 1, 0, 1 },
	SNAP_FIELD(struct xhci_ep, ticking), SNAP_FIELD(struct xhci_ep, due_ns), SNAP_END,
};
static const struct snap_table ep_table = { "xhci-endpoint", 1, ep_fields };

/* ---- save ---- */

static int save_intr(const struct xhci *x, const struct xhci_intr *i, struct snap_out *o)
{
	int ret = snap_put(o, x->pci.dev.id, &intr_table, i);

	for (unsigned k = 0; k < i->n_held && !ret; k++)
		ret = snap_put(o, x->pci.dev.id, &trb_table, &i->held[k]);
	return ret;
}

static int save_slot(const struct xhci_slot *s, struct snap_out *o)
{
	struct slot_state st = { .state = s->state, .port = s->port, .ctx = s->ctx, .dw = { s->dw[0], s->dw[1], s->dw[2] }, .rung = s->rung };
	const char *id = s->x->pci.dev.id;
	int ret;

	for (unsigned i = 1; i < XHCI_EPS; i++)
		st.endpoints |= s->ep[i].state ? BIT(i) : 0;
	ret = snap_put(o, id, &slot_table, &st);
	for (unsigned i = 1; i < XHCI_EPS && !ret; i++)
		if (s->ep[i].state)
			ret = snap_put(o, id, &ep_table, &s->ep[i]);
	return ret;
}

int xhci_save(struct dev *d, struct snap_out *o)
{
	const struct xhci *x = container_of(d, struct xhci, pci.dev);
	struct state s = {
		.usbcmd = x->usbcmd, .usbsts = x->usbsts, .dnctrl = x->dnctrl, .config = x->config, .crcr = x->crcr, .dcbaap = x->dcbaap,
		.commands_at = x->commands.at, .commands_cycle = x->commands.cycle, .saved = x->saved,
	};
	int ret = pci_dev_save(&container_of(d, struct xhci, pci.dev)->pci, o);

	for (unsigned i = 0; i < XHCI_PORTS; i++) {
		s.portsc[i] = x->port[i].portsc;
		s.pmsc[i] = x->port[i].pmsc;
		s.li[i] = x->port[i].li;
		s.speed[i] = x->port[i].port.dev ? (uint8_t)x->port[i].port.dev->speed : 0;
	}
	for (unsigned i = 0; i < XHCI_SLOTS; i++)
		s.slots |= x->slot[i].enabled ? BIT64(i) : 0;
	if (!ret)
		ret = snap_put(o, d->id, &table, &s);
	for (unsigned i = 0; i < XHCI_INTRS && !ret; i++)
		ret = save_intr(x, &x->intr[i], o);
	for (unsigned i = 0; i < XHCI_SLOTS && !ret; i++)
		if (x->slot[i].enabled)
			ret = save_slot(&x->slot[i], o);
	return ret;
}

/* ---- load ---- */

static int load_intr(struct xhci *x, unsigned n, struct snap_in *in, struct err *e)
{
	struct xhci_intr i = { .held = x->intr[n].held };
	const char *id = x->pci.dev.id;
	int ret = snap_get(in, id, &intr_table, &i, e);

	if (ret)
		return ret;
	if (i.n_segs > XHCI_SEGMENTS || i.n_held > XHCI_HELD || (i.n_segs && (i.seg >= i.n_segs || i.index >= i.seg_size[i.seg])))
		return err_set(e, -EINVAL, "saved state of the USB controller: event ring %u is none", n);
	for (unsigned k = 0; k < i.n_segs; k++)
		if (i.seg_size[k] < 16 || i.seg_size[k] > 4096)
			return err_set(e, -EINVAL, "saved state of the USB controller: segment %u of event ring %u has %u places", k, n, i.seg_size[k]);
	if (i.n_held && !i.n_segs)
		return err_set(e, -EINVAL, "saved state of the USB controller: events wait for ring %u, which is none", n);
	if (i.n_held && !i.held)
		i.held = calloc(XHCI_HELD, sizeof(*i.held));
	x->intr[n].held = i.held;
	if (i.n_held && !i.held)
		return err_set(e, -ENOMEM, "out of memory");
	for (unsigned k = 0; k < i.n_held; k++) {
		ret = snap_get(in, id, &trb_table, &i.held[k], e);
		if (ret)
			return ret;
	}
	i.iman &= IMAN_IP | IMAN_IE;
	i.erstsz &= 0xffff;
	x->intr[n] = i;
	x->n_held += i.n_held;
	return 0;
}

static int load_slot(struct xhci *x, unsigned n, struct snap_in *in, struct err *e)
{
	struct xhci_slot *s = &x->slot[n];
	struct slot_state st = { 0 };
	int ret = snap_get(in, x->pci.dev.id, &slot_table, &st, e);

	if (ret)
		return ret;
	if (st.state > SLOT_CONFIGURED || st.port > XHCI_PORTS || !st.port != !st.state || (!st.port && st.endpoints))
		return err_set(e, -EINVAL, "saved state of the USB controller: slot %u is in state %u on port %u", n + 1, st.state, st.port);
	*s = (struct xhci_slot){ .x = x, .id = (uint8_t)(n + 1), .enabled = true, .state = st.state, .port = st.port, .ctx = st.ctx & ~63ull,
				 .dw = { st.dw[0], st.dw[1], st.dw[2] }, .rung = st.rung & ~1u };
	for (unsigned i = 1; i < XHCI_EPS; i++) {
		struct xhci_ep *ep = &s->ep[i];

		ep->slot = s;
		ep->dci = (uint8_t)i;
		if (!(st.endpoints & BIT(i)))
			continue;
		ret = snap_get(in, x->pci.dev.id, &ep_table, ep, e);
		if (!ret && (!ep->state || ep->state > EP_ERROR || !xhci_ep_type(ep)))
			ret = err_set(e, -EINVAL, "saved state of the USB controller: endpoint %u of slot %u is in state %u, of type %u", i, n + 1,
				      ep->state, xhci_ep_type(ep));
		if (ret) {
			ep->state = 0;
			return ret;
		}
		ep->dw[0] &= ~7u;
		ep->ring.at &= ~15ull;
		ep->due_ns = MAX(0, MIN(ep->due_ns, INT64_MAX / 2));
		ep->ticking &= ep->state == EP_RUNNING && xhci_ep_type(ep) == EP_ISOCH;
	}
	return 0;
}

static int load_ports(struct xhci *x, const struct state *s, struct err *e)
{
	for (unsigned i = 0; i < XHCI_PORTS; i++) {
		struct xhci_port *p = &x->port[i];

		if (s->speed[i] != (p->port.dev ? p->port.dev->speed : 0))
			return err_set(e, -EINVAL, "saved state of the USB controller has %s on port %u", s->speed[i] ? "another device" : "nothing", i + 1);
		p->portsc = s->portsc[i] & (p->port.dev ? UINT32_MAX : ~(PORT_CCS | PORT_PED));
		p->pmsc = s->pmsc[i];
		p->li = s->li[i];
	}
	return 0;
}

/* Endpoints that were running find their transfers again. */
static void go_on(struct xhci *x)
{
	bool ticking = false;

	for (unsigned s = 0; s < XHCI_SLOTS; s++)
		for (unsigned i = 1; x->slot[s].enabled && i < XHCI_EPS; i++) {
			struct xhci_ep *ep = &x->slot[s].ep[i];

			ticking |= ep->ticking;
			if (ep->state == EP_RUNNING && (xhci_ep_type(ep) != EP_ISOCH || ep->ticking))
				x->slot[s].rung |= BIT(i);
		}
	if (ticking && xhci_running(x))
		vtimer_arm(&x->isoch_timer, clock_now(x->m->clock));
	if (x->usbcmd & CMD_EWE && xhci_running(x))
		vtimer_arm(&x->wrap_timer, clock_now(x->m->clock));
	xhci_kick(x);
}

int xhci_load(struct dev *d, struct snap_in *in, struct err *e)
{
	struct xhci *x = container_of(d, struct xhci, pci.dev);
	struct state s = { 0 };
	int ret = pci_dev_load(&x->pci, in, e);

	xhci_reset_regs(x);
	if (!ret)
		ret = snap_get(in, d->id, &table, &s, e);
	if (!ret)
		ret = load_ports(x, &s, e);
	for (unsigned i = 0; i < XHCI_INTRS && !ret; i++)
		ret = load_intr(x, i, in, e);
	for (unsigned i = 0; i < XHCI_SLOTS && !ret; i++)
		if (s.slots & BIT64(i))
			ret = load_slot(x, i, in, e);
	if (ret) {
		xhci_reset_regs(x);
		return ret;
	}
	x->usbcmd = s.usbcmd & (CMD_RUN | CMD_HCRST | CMD_INTE | CMD_EWE | 0x8u);
	x->usbsts = s.usbsts & (STS_HCH | STS_HSE | STS_EINT | STS_PCD | STS_SRE | STS_HCE);
	if (!(x->usbcmd & CMD_RUN))
		x->usbsts |= STS_HCH;
	x->dnctrl = s.dnctrl & 0xffff;
	x->config = s.config & 0x3ff;
	x->crcr = s.crcr & (CRCR_STOP | CRCR_RUNNING);
	x->dcbaap = s.dcbaap;
	x->commands = (struct xhci_ring){ s.commands_at & ~15ull, s.commands_cycle & 1 };
	x->saved = s.saved & 1;
	xhci_update_pin(x);
	go_on(x);
	return 0;
}
