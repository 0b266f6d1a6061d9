/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xHCI: the PCI function, registers (5.3 to 5.6), interrupters (4.17), and the
 * life of the device.
 *
 * A register write only notes what is asked: a reset, a stop, doorbells and port
 * resets stand in their registers until the loop has done them, as a real
 * controller takes its time too.
 */
#include "device/xhci_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BAR_SIZE 0x4000
#define OPER 0x40u
#define PORTS_AT 0x440u
#define RUNTIME 0x1000u
#define DOORBELLS 0x2000u
#define MSIX_TABLE 0x3000u
#define MSIX_PBA 0x3800u

#define WRAP_NS (0x4000 * 125000ll)	/* of the microframe counter */

static struct xhci *of_dev(struct dev *d) { return container_of(d, struct xhci, pci.dev); }

/* ---- interrupts ---- */

void xhci_update_pin(struct xhci *x)
{
	bool level = false;

	for (unsigned i = 0; i < XHCI_INTRS; i++)
		level |= (x->intr[i].iman & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE);
	pci_intx_set(&x->pci, level && x->usbcmd & CMD_INTE && !pci_msix_enabled(&x->pci));
}

/* A message takes the pending bit with it (4.17.5). */
static void deliver(struct xhci *x, unsigned n)
{
	struct xhci_intr *i = &x->intr[n];

	if (x->usbcmd & CMD_INTE && (i->iman & (IMAN_IP | IMAN_IE)) == (IMAN_IP | IMAN_IE) && pci_msix_enabled(&x->pci)) {
		i->iman &= ~IMAN_IP;
		pci_msix_fire(&x->pci, n);
	}
	xhci_update_pin(x);
}

/* While the driver is at it (EHB) there is no other one; when it is done it gets one for what is left. */
void xhci_irq(struct xhci *x, unsigned n)
{
	struct xhci_intr *i = &x->intr[n];
	bool busy = i->erdp & ERDP_EHB;

	i->erdp |= ERDP_EHB;
	i->iman |= IMAN_IP;
	x->usbsts |= STS_EINT;
	if (!busy)
		deliver(x, n);
}

/* ---- work ---- */

void xhci_kick(struct xhci *x)
{
	if (!x->paused)
		loop_bh_post(&x->work);
}

void xhci_die(struct xhci *x, uint32_t status)
{
	x->usbsts |= status | STS_HCH;
	x->usbcmd &= ~CMD_RUN;
	xhci_kick(x);
}

static void halt(struct xhci *x)
{
	for (unsigned s = 0; s < XHCI_SLOTS; s++)
		for (unsigned i = 1; x->slot[s].enabled && i < XHCI_EPS; i++) {
			xhci_ep_cancel(&x->slot[s].ep[i], 0);
			x->slot[s].ep[i].ticking = false;
		}
	x->crcr = 0;
	x->usbsts |= STS_HCH;
	vtimer_cancel(&x->isoch_timer);
	vtimer_cancel(&x->wrap_timer);
}

void xhci_reset_regs(struct xhci *x)
{
	halt(x);
	/* Contexts in memory stay as they are: it may be another system's already. */
	for (unsigned s = 0; s < XHCI_SLOTS; s++)
		x->slot[s].enabled = false;
	x->usbcmd = x->dnctrl = x->config = x->crcr = 0;
	x->usbsts = STS_HCH;
	x->dcbaap = 0;
	x->commands = (struct xhci_ring){ 0 };
	x->saved = false;
	for (unsigned i = 0; i < XHCI_INTRS; i++) {
		xhci_event_ring_new(x, i);
		x->intr[i] = (struct xhci_intr){ .imod = 4000, .cycle = true, .held = x->intr[i].held };
	}
	x->n_held = 0;
	xhci_update_pin(x);
}

static void host_reset(struct xhci *x)
{
	xhci_reset_regs(x);
	for (unsigned i = 0; i < XHCI_PORTS; i++) {
		if (x->port[i].port.dev)
			usb_reset(x->port[i].port.dev);
		xhci_port_power_on(&x->port[i]);
	}
}

static void run_endpoints(struct xhci_slot *s)
{
	uint32_t todo = s->rung;

	s->rung = 0;
	for (; todo; todo &= todo - 1) {
		struct xhci_ep *ep = &s->ep[__builtin_ctz(todo)];

		if (ep->state == EP_STOPPED) {
			ep->state = EP_RUNNING;
			xhci_write_ep(ep);
		}
		xhci_ep_run(ep);
	}
}

static void work(void *opaque)
{
	struct xhci *x = opaque;

	if (x->paused)
		return;
	if (x->usbcmd & CMD_HCRST)
		host_reset(x);
	xhci_ports_work(x);
	if (!(x->usbcmd & CMD_RUN)) {
		halt(x);
		return;
	}
	xhci_commands(x);
	for (unsigned i = 0; i < XHCI_SLOTS && xhci_running(x); i++)
		if (x->slot[i].rung)
			run_endpoints(&x->slot[i]);
}

static void on_wrap(void *opaque)
{
	struct xhci *x = opaque;
	struct trb t = { .status = (uint32_t)CC_SUCCESS << 24 };

	if (!xhci_running(x) || !(x->usbcmd & CMD_EWE))
		return;
	xhci_event(x, 0, TRB_EV_WRAP, t, false);
	vtimer_arm(&x->wrap_timer, (clock_now(x->m->clock) / WRAP_NS + 1) * WRAP_NS);
}

/* Endpoints that run look at their rings anew. */
static void start(struct xhci *x)
{
	if (x->usbsts & (STS_HSE | STS_HCE)) {
		x->usbcmd &= ~CMD_RUN;
		return;
	}
	x->usbsts &= ~STS_HCH;
	xhci_ports_tell(x);
	for (unsigned s = 0; s < XHCI_SLOTS; s++)
		for (unsigned i = 1; x->slot[s].enabled && i < XHCI_EPS; i++)
			if (x->slot[s].ep[i].state == EP_RUNNING)
				x->slot[s].rung |= BIT(i);
}

/* ---- operational registers ---- */

static void write_usbcmd(struct xhci *x, uint32_t v)
{
	uint32_t old = x->usbcmd;

	if (old & CMD_HCRST)
		return;
	x->usbcmd = v & (CMD_RUN | CMD_HCRST | CMD_INTE | CMD_EWE | 0x8u);
	/* Nothing is lost while there is power, so that saving and restoring are done with the word. */
	if (v & CMD_CSS)
		x->saved = true;
	if (v & CMD_CRS)
		x->usbsts = x->saved ? x->usbsts & ~STS_SRE : x->usbsts | STS_SRE;
	if (v & CMD_RUN && !xhci_running(x) && !(v & CMD_HCRST))
		start(x);
	if (v & CMD_EWE && xhci_running(x))
		vtimer_arm(&x->wrap_timer, (clock_now(x->m->clock) / WRAP_NS + 1) * WRAP_NS);
	for (unsigned i = 0; i < XHCI_INTRS; i++)
		deliver(x, i);
	xhci_kick(x);
}

static void half(uint64_t *reg, bool high, uint32_t v)
{
	*reg = high ? (*reg & UINT32_MAX) | (uint64_t)v << 32 : (*reg & ~(uint64_t)UINT32_MAX) | v;
}

/* 5.4.5: while commands run, only stopping them does anything. */
static void write_crcr(struct xhci *x, bool high, uint32_t v)
{
	if (x->crcr & CRCR_RUNNING) {
		if (!high && v & CRCR_STOP) {
			x->crcr |= v & CRCR_STOP;
			xhci_kick(x);
		}
		return;
	}
	half(&x->commands.at, high, high ? v : v & ~63u);
	if (!high)
		x->commands.cycle = v & 1;
}

static void write_oper(struct xhci *x, unsigned off, uint32_t v)
{
	switch (off) {
	case 0x00: write_usbcmd(x, v); break;
	case 0x04:
		x->usbsts &= ~(v & (STS_HSE | STS_EINT | STS_PCD | STS_SRE));
		break;
	case 0x14: x->dnctrl = v & 0xffff; break;
	case 0x18: case 0x1c: write_crcr(x, off == 0x1c, v); break;
	case 0x30: half(&x->dcbaap, false, v & ~63u); break;
	case 0x34: half(&x->dcbaap, true, v); break;
	case 0x38: x->config = v & 0x3ff; break;
	default: break;
	}
}

static uint32_t read_oper(const struct xhci *x, unsigned off)
{
	switch (off) {
	case 0x00: return x->usbcmd;
	case 0x04: return x->usbsts | (x->usbcmd & CMD_HCRST ? STS_CNR : 0);
	case 0x08: return 1;			/* pages of 4 KiB */
	case 0x14: return x->dnctrl;
	case 0x18: return x->crcr & CRCR_RUNNING;
	case 0x30: return (uint32_t)x->dcbaap;
	case 0x34: return (uint32_t)(x->dcbaap >> 32);
	case 0x38: return x->config;
	default: return 0;
	}
}

/* ---- capability registers, 5.3 and 7 ---- */

/* Ports first to last of this revision. */
static uint32_t protocol(unsigned word, bool last, unsigned major, unsigned first)
{
	switch (word) {
	case 0: return (uint32_t)major << 24 | (last ? 0 : 4u << 8) | 2;
	case 1: return 0x20425355;		/* "USB " */
	case 2: return XHCI_SOCKETS << 8 | first;
	default: return 0;
	}
}

static uint32_t read_cap(unsigned off)
{
	switch (off) {
	case 0x00: return 0x01100000 | OPER;
	case 0x04: return XHCI_PORTS << 24 | XHCI_INTRS << 8 | XHCI_SLOTS;
	case 0x08: return 4u << 4 | 15;		/* 16 segments in an event ring; a schedule read in time */
	case 0x10: return (0x20u / 4) << 16 | BIT(12) | BIT(8) | 1;	/* extended ones at 20h; all Event Data is looked at; 64 bit */
	case 0x14: return DOORBELLS;
	case 0x18: return RUNTIME;
	case 0x20: case 0x24: case 0x28: case 0x2c: return protocol((off - 0x20) / 4, false, 3, 1);
	case 0x30: case 0x34: case 0x38: case 0x3c: return protocol((off - 0x30) / 4, true, 2, XHCI_SOCKETS + 1);
	default: return 0;
	}
}

/* ---- runtime registers ---- */

static void write_intr(struct xhci *x, unsigned n, unsigned off, uint32_t v)
{
	struct xhci_intr *i = &x->intr[n];

	switch (off) {
	case 0x00:
		i->iman = (i->iman & ~(v & IMAN_IP) & IMAN_IP) | (v & IMAN_IE);
		deliver(x, n);
		break;
	case 0x04: i->imod = v; break;
	case 0x08:
		i->erstsz = v & 0xffff;
		xhci_event_ring_new(x, n);
		break;
	case 0x10: case 0x14:
		half(&i->erstba, off == 0x14, off == 0x14 ? v : v & ~63u);
		xhci_event_ring_new(x, n);
		break;
	case 0x18: {
		uint64_t end = i->n_segs ? i->seg_at[i->seg] + 16ull * i->index : 0;

		i->erdp = (i->erdp & ~0xfffffff7ull) | (v & ~ERDP_EHB);
		if (!(v & ERDP_EHB))
			break;
		i->erdp &= ~(uint64_t)ERDP_EHB;
		xhci_events_read(x, n);
		if (i->n_segs && (i->erdp & ~15ull) != end && !(i->erdp & ERDP_EHB))
			xhci_irq(x, n);
		break;
	}
	case 0x1c:
		half(&i->erdp, true, v);
		xhci_events_read(x, n);
		break;
	default: break;
	}
}

static uint32_t read_intr(const struct xhci_intr *i, unsigned off)
{
	switch (off) {
	case 0x00: return i->iman;
	case 0x04: return i->imod;
	case 0x08: return i->erstsz;
	case 0x10: return (uint32_t)i->erstba;
	case 0x14: return (uint32_t)(i->erstba >> 32);
	case 0x18: return (uint32_t)i->erdp;
	case 0x1c: return (uint32_t)(i->erdp >> 32);
	default: return 0;
	}
}

/* ---- the BAR ---- */

static uint64_t bar_read(void *opaque, uint64_t off, unsigned len)
{
	struct xhci *x = opaque;

	if (pci_msix_covers(&x->pci, off))
		return pci_msix_read(&x->pci, off, len);
	if (off < OPER)
		return read_cap((unsigned)off);
	if (off >= RUNTIME + 0x20 && off < RUNTIME + 0x20 + 0x20 * XHCI_INTRS)
		return read_intr(&x->intr[(off - RUNTIME - 0x20) / 0x20], off & 0x1f);
	if (off == RUNTIME)
		return xhci_running(x) ? (uint64_t)(clock_now(x->m->clock) / 125000) & 0x3fff : 0;
	if (off >= PORTS_AT && off < PORTS_AT + 0x10 * XHCI_PORTS)
		return xhci_port_read(&x->port[(off - PORTS_AT) / 0x10], off & 0xf);
	return off < PORTS_AT ? read_oper(x, (unsigned)off - OPER) : 0;
}

static void ring_bell(struct xhci *x, unsigned slot, uint32_t v)
{
	unsigned dci = v & 0xff;

	if (!xhci_running(x))
		return;
	if (!slot) {
		if (dci)
			return;
		x->crcr |= CRCR_RUNNING;
	} else if (slot > XHCI_SLOTS || !x->slot[slot - 1].enabled || !dci || dci >= XHCI_EPS || !x->slot[slot - 1].ep[dci].state || v >> 16) {
		return;
	} else {
		x->slot[slot - 1].rung |= BIT(dci);
	}
	xhci_kick(x);
}

static void bar_write(void *opaque, uint64_t off, unsigned len, uint64_t val)
{
	struct xhci *x = opaque;
	uint32_t v = (uint32_t)val;

	if (pci_msix_covers(&x->pci, off))
		pci_msix_write(&x->pci, off, len, val);
	else if (off >= DOORBELLS && off <= DOORBELLS + 4 * XHCI_SLOTS)
		ring_bell(x, (unsigned)(off - DOORBELLS) / 4, v);
	else if (off >= RUNTIME + 0x20 && off < RUNTIME + 0x20 + 0x20 * XHCI_INTRS)
		write_intr(x, (unsigned)(off - RUNTIME - 0x20) / 0x20, off & 0x1f, v);
	else if (off >= PORTS_AT && off < PORTS_AT + 0x10 * XHCI_PORTS)
		xhci_port_write(&x->port[(off - PORTS_AT) / 0x10], off & 0xf, v);
	else if (off >= OPER && off < PORTS_AT)
		write_oper(x, (unsigned)off - OPER, v);
}

static const struct bus_ops bar_ops = { .read = bar_read, .write = bar_write, .min_len = 4, .max_len = 4 };

/* ---- life cycle ---- */

static void dev_reset(struct dev *d)
{
	struct xhci *x = of_dev(d);

	loop_bh_cancel(&x->work);
	host_reset(x);
	pci_dev_reset(&x->pci);
}

static void dev_pause(struct dev *d)
{
	struct xhci *x = of_dev(d);

	if (x->paused)
		return;
	/* Devices hold back, or finish, what they have. */
	x->paused = true;
	loop_bh_cancel(&x->work);
}

static void dev_resume(struct dev *d)
{
	struct xhci *x = of_dev(d);

	if (!x->paused)
		return;
	x->paused = false;
	xhci_kick(x);
}

static void dev_free(struct dev *d)
{
	struct xhci *x = of_dev(d);

	xhci_reset_regs(x);
	loop_bh_cancel(&x->work);
	for (unsigned i = 0; i < XHCI_PORTS; i++)
		if (x->port[i].port.dev)
			x->port[i].port.dev->port = NULL;
	for (unsigned i = 0; i < XHCI_INTRS; i++)
		free(x->intr[i].held);
	pci_dev_fini(&x->pci);
	free(x);
}

static const struct pci_dev_ops pci_ops = {
	.dev = {
		.name = "xhci",
		.reset = dev_reset,
		.pause = dev_pause,
		.resume = dev_resume,
		.save = xhci_save,
		.load = xhci_load,
		.free = dev_free,
	},
};

int xhci_new(struct machine *m, struct pci_bus *bus, int devfn, struct xhci **out, struct err *e)
{
	static const struct pci_ids ids = {
		.vendor = 0x1b36, .device = 0x000d, .sub_vendor = 0x1af4, .sub_device = 0x1100, .class24 = 0x0c0330, .revision = 1,
	};
	struct xhci *x = calloc(1, sizeof(*x));
	int ret;

	if (!x)
		return err_set(e, -ENOMEM, "out of memory");
	x->m = m;
	loop_bh_init(m->loop, &x->work, work, x);
	vtimer_init(m->clock, &x->isoch_timer, xhci_isoch, x);
	vtimer_init(m->clock, &x->wrap_timer, on_wrap, x);
	ret = pci_dev_init(&x->pci, m, bus, devfn, &pci_ops, &ids, e);
	if (ret) {
		free(x);
		return ret;
	}
	pci_dev_use_intx(&x->pci, 1);
	ret = pci_dev_add_bar(&x->pci, 0, PCI_BAR_MEM64, false, BAR_SIZE, &bar_ops, x);
	if (!ret)
		ret = pci_dev_add_msix(&x->pci, XHCI_INTRS, 0, MSIX_TABLE, MSIX_PBA);
	if (ret) {
		pci_dev_fini(&x->pci);
		free(x);
		return err_set(e, ret, "cannot build the PCI function of the USB controller");
	}
	x->pci.config[0x60] = 0x30;		/* 5.2.3: release 3.0, frame length as it should be */
	x->pci.config[0x61] = 0x20;
	pci_dev_ready(&x->pci);
	xhci_ports_init(x);
	xhci_reset_regs(x);
	*out = x;
	return 0;
}

int xhci_plug(struct xhci *x, struct usb_device *d, unsigned *port, struct err *e)
{
	if (*port > XHCI_SOCKETS)
		return err_set(e, -EINVAL, "USB port %u: the controller has %u", *port, XHCI_SOCKETS);
	for (unsigned i = 0; i < XHCI_SOCKETS; i++) {
		struct xhci_port *usb3 = &x->port[i], *usb2 = &x->port[XHCI_SOCKETS + i];

		if (usb3->port.dev || usb2->port.dev || (*port && *port != i + 1))
			continue;
		usb_plug(d->speed == USB_SUPER ? &usb3->port : &usb2->port, d);
		*port = i + 1;
		return 0;
	}
	if (*port)
		return err_set(e, -EBUSY, "USB port %u is taken", *port);
	return err_set(e, -ENOSPC, "the USB controller has %u sockets, and all are taken", XHCI_SOCKETS);
}

unsigned xhci_port_of(const struct xhci *x, const struct usb_device *d)
{
	for (unsigned i = 0; i < XHCI_PORTS; i++)
		if (x->port[i].port.dev == d)
			return i % XHCI_SOCKETS + 1;
	return 0;
}

unsigned xhci_devfn(const struct xhci *x)
{
	return x->pci.devfn;
}
