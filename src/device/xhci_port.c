/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports of the root hub (4.19, 5.4.8): the first half are those of USB 3, the
 * other of USB 2; a socket has one of each, and a device is on that of its speed.
 *
 * A device of USB 3 is enabled when it comes, one of USB 2 when its port has been
 * reset.  Resets are done on the loop, and PR is read as one until then.
 */
#include "device/xhci_int.h"

static bool is_usb3(const struct xhci_port *p) { return p->n <= XHCI_SOCKETS; }

static void set_link(struct xhci_port *p, unsigned state)
{
	p->portsc = (p->portsc & ~PORT_PLS) | state << 5;
}

static void tell(struct xhci_port *p)
{
	struct trb t = { .param = (uint64_t)p->n << 24, .status = (uint32_t)CC_SUCCESS << 24 };

	p->x->usbsts |= STS_PCD;
	xhci_event(p->x, 0, TRB_EV_PORT, t, false);
}

/* Change bits; the driver hears of those that are new. */
static void change(struct xhci_port *p, uint32_t bits)
{
	bool news = bits & ~p->portsc;

	p->portsc |= bits;
	if (news)
		tell(p);
}

void xhci_ports_tell(struct xhci *x)
{
	for (unsigned i = 0; i < XHCI_PORTS; i++)
		if (x->port[i].portsc & PORT_CHANGES)
			tell(&x->port[i]);
}

struct usb_device *xhci_port_device(const struct xhci_port *p)
{
	return p->portsc & PORT_PED ? p->port.dev : NULL;
}

/* ---- transfers of the port's device ---- */

static void for_each_ep(struct xhci_port *p, void (*fn)(struct xhci_ep *ep, unsigned arg), unsigned arg)
{
	for (unsigned s = 0; s < XHCI_SLOTS; s++) {
		struct xhci_slot *slot = &p->x->slot[s];

		for (unsigned i = 1; slot->enabled && slot->port == p->n && i < XHCI_EPS; i++)
			if (slot->ep[i].state)
				fn(&slot->ep[i], arg);
	}
}

static void ring(struct xhci_ep *ep, unsigned arg)
{
	if (ep->state == EP_RUNNING)
		ep->slot->rung |= BIT(ep->dci);
}

static void usb_gone(struct xhci_port *p)
{
	for_each_ep(p, xhci_ep_cancel, CC_TRANSACTION);
}

/* ---- states ---- */

/* Is there a device? As seen when power comes, or the device has come or gone. */
static void look(struct xhci_port *p)
{
	p->portsc &= ~(PORT_CCS | PORT_PED | PORT_PR | 0x3c00u);
	set_link(p, is_usb3(p) ? PLS_RXDETECT : PLS_POLLING);
	if (!p->port.dev || !(p->portsc & PORT_PP))
		return;
	p->portsc |= PORT_CCS | (uint32_t)p->port.dev->speed << 10;
	if (is_usb3(p)) {
		p->portsc |= PORT_PED;
		set_link(p, PLS_U0);
	}
}

void xhci_port_power_on(struct xhci_port *p)
{
	p->portsc = PORT_PP;
	p->pmsc = p->li = 0;
	look(p);
	if (p->portsc & PORT_CCS)
		p->portsc |= PORT_CSC;
}

static void disable(struct xhci_port *p, unsigned link)
{
	usb_gone(p);
	p->portsc &= ~PORT_PED;
	set_link(p, link);
}

static void power_off(struct xhci_port *p)
{
	disable(p, PLS_DISABLED);
	p->portsc &= ~(PORT_PP | PORT_CCS | 0x3c00u);
}

static void port_reset(struct xhci_port *p)
{
	bool warm = p->portsc & PORT_WPR;

	p->portsc &= ~(PORT_PR | PORT_WPR);
	if (p->port.dev && p->portsc & PORT_PP) {
		usb_gone(p);
		usb_reset(p->port.dev);
		p->portsc |= PORT_PED;
		set_link(p, PLS_U0);
	}
	change(p, PORT_PRC | (warm ? PORT_WRC : 0));
}

void xhci_ports_work(struct xhci *x)
{
	for (unsigned i = 0; i < XHCI_PORTS; i++)
		if (x->port[i].portsc & PORT_PR)
			port_reset(&x->port[i]);
}

/* 4.15.1, 4.15.2: what the driver may ask of a link. */
static void ask_link(struct xhci_port *p, unsigned to)
{
	unsigned from = xhci_port_link(p);
	bool enabled = p->portsc & PORT_PED;

	if (to == PLS_U0 && enabled && (from == PLS_U3 || from == PLS_RESUME)) {
		set_link(p, PLS_U0);
		if (p->port.dev)
			usb_suspend(p->port.dev, false);
		change(p, PORT_PLC);
		for_each_ep(p, ring, 0);
		xhci_kick(p->x);
	} else if (to == PLS_U3 && enabled && from <= PLS_U3) {
		set_link(p, PLS_U3);
		if (p->port.dev)
			usb_suspend(p->port.dev, true);
	} else if (to == PLS_RESUME && enabled && from == PLS_U3 && !is_usb3(p)) {
		set_link(p, PLS_RESUME);
	} else if (to == PLS_DISABLED && is_usb3(p)) {
		disable(p, PLS_DISABLED);
	} else if (to == PLS_RXDETECT && is_usb3(p) && from == PLS_DISABLED && p->portsc & PORT_PP) {
		look(p);
		if (p->portsc & PORT_CCS)
			change(p, PORT_CSC);
	}
}

static void write_portsc(struct xhci_port *p, uint32_t v)
{
	p->portsc &= ~(v & PORT_CHANGES);
	p->portsc = (p->portsc & ~PORT_WAKE) | (v & PORT_WAKE);
	if (!(v & PORT_PP)) {
		if (p->portsc & PORT_PP)
			power_off(p);
		return;
	}
	if (!(p->portsc & PORT_PP)) {
		p->portsc |= PORT_PP;
		look(p);
		if (p->portsc & PORT_CCS)
			change(p, PORT_CSC);
		return;
	}
	if (v & PORT_PR || (v & PORT_WPR && is_usb3(p))) {
		/* A port with nothing on it does not end a reset. */
		if (p->portsc & PORT_CCS)
			p->portsc |= PORT_PR | (is_usb3(p) ? v & PORT_WPR : 0);
		xhci_kick(p->x);
	} else if (v & PORT_PED) {
		disable(p, is_usb3(p) ? PLS_DISABLED : PLS_POLLING);
	} else if (v & PORT_LWS) {
		ask_link(p, v >> 5 & 15);
	}
}

uint32_t xhci_port_read(const struct xhci_port *p, unsigned off)
{
	switch (off) {
	case 0x0: return p->portsc & ~PORT_WPR;
	case 0x4: return p->pmsc;
	case 0x8: return is_usb3(p) ? p->li : 0;
	default: return 0;
	}
}

void xhci_port_write(struct xhci_port *p, unsigned off, uint32_t v)
{
	/* Timeouts of links and the error counter are kept, and nothing else. */
	if (off == 0x0)
		write_portsc(p, v);
	else if (off == 0x4)
		p->pmsc = is_usb3(p) ? v & 0x1ffff : 0;
	else if (off == 0x8)
		p->li = v & 0xffff;
}

/* ---- the bus ---- */

static void changed(struct usb_port *port)
{
	struct xhci_port *p = port->opaque;

	usb_gone(p);
	if (!(p->portsc & PORT_PP))
		return;
	look(p);
	change(p, PORT_CSC);
}

static void wakeup(struct usb_port *port)
{
	struct xhci_port *p = port->opaque;

	if (xhci_port_link(p) != PLS_U3 || !(p->portsc & PORT_PED))
		return;
	set_link(p, PLS_RESUME);
	change(p, PORT_PLC);
}

void xhci_ports_init(struct xhci *x)
{
	for (unsigned i = 0; i < XHCI_PORTS; i++) {
		struct xhci_port *p = &x->port[i];

		*p = (struct xhci_port){ .x = x, .n = i + 1 };
		p->port = (struct usb_port){ .changed = changed, .wakeup = wakeup, .opaque = p };
		xhci_port_power_on(p);
	}
}
