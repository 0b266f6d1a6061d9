/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The root port's registers and its slot.
 *
 * A card is visible to the guest while it is in the slot and the slot has power;
 * with it comes and goes the link.  What is in the slot follows from the bus, not
 * from saved state.  The guest gives a card up by switching power and power
 * indicator off (what QEMU waits for too: a slot whose power alone is off may be
 * about to be used again); a card loses its state each time power goes.
 */
#include "pci/root_port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "pci/internal.h"

/* Slot capabilities, 7.5.3.9 */
#define SLTCAP_ABP BIT(0)
#define SLTCAP_PCP BIT(1)
#define SLTCAP_PIP BIT(4)
#define SLTCAP_HPC BIT(6)
#define SLTCAP_PSN_SHIFT 19
/* Slot control, 7.5.3.10 */
#define SLTCTL_EVENTS 0x001f		/* bits of the status register with the same numbers */
#define SLTCTL_HPIE BIT(5)
#define SLTCTL_PIC 0x0300
#define SLTCTL_PIC_ON 0x0100
#define SLTCTL_PIC_BLINK 0x0200
#define SLTCTL_PIC_OFF 0x0300
#define SLTCTL_PCC BIT(10)		/* one: off */
#define SLTCTL_DLLSCE BIT(12)
/* Slot status, 7.5.3.11 */
#define SLTSTA_ABP BIT(0)
#define SLTSTA_PDC BIT(3)
#define SLTSTA_CC BIT(4)
#define SLTSTA_PDS BIT(6)
#define SLTSTA_DLLSC BIT(8)
#define SLTSTA_EVENTS (SLTCTL_EVENTS | SLTSTA_DLLSC)

#define LNKCAP_DLLLARC BIT(20)
#define LNKSTA_DLLLA BIT(13)
#define BRIDGE_RESET 0x40

/* Offsets in the PCI Express capability. */
enum { FLAGS = 0x02, DEVCAP = 0x04, DEVCTL = 0x08, DEVSTA = 0x0a, LNKCAP = 0x0c, LNKCTL = 0x10, LNKSTA = 0x12, SLTCAP = 0x14,
       SLTCTL = 0x18, SLTSTA = 0x1a, ROOTCTL = 0x1c, CAP_SIZE = 0x3c };

#define TYPE_ROOT_PORT 4
#define FLAGS_SLOT 0x0100

struct pci_root_port {
	struct pci_dev pci;		/* first */
	struct pci_bus *bus;		/* behind it */
	void (*ejected)(void *opaque, struct pci_root_port *p);
	void *opaque;
	unsigned cap;
	uint16_t ctl;			/* slot control as it was looked at last */
	bool in_reset;			/* the secondary bus is held in reset */
	bool irq;
	bool leaving;			/* the card was given up and has not been freed yet */
};

static struct pci_root_port *of_dev(struct dev *d) { return container_of(d, struct pci_root_port, pci.dev); }

static uint8_t *reg(struct pci_root_port *p, unsigned off) { return p->pci.config + p->cap + off; }
static uint16_t get(struct pci_root_port *p, unsigned off) { return ld_le16(reg(p, off)); }
static void set_bits(struct pci_root_port *p, unsigned off, uint16_t mask, bool on)
{
	uint16_t v = get(p, off);

	st_le16(reg(p, off), on ? v | mask : v & ~mask);
}

bool pci_root_port_occupied(const struct pci_root_port *p) { return p->bus->devs[0] != NULL; }
struct pci_bus *pci_root_port_bus(struct pci_root_port *p) { return p->bus; }
const struct pci_dev *pci_root_port_function(const struct pci_root_port *p) { return &p->pci; }

static bool powered(struct pci_root_port *p) { return !(get(p, SLTCTL) & SLTCTL_PCC); }

/* Only the card that the slot shows is there for the guest: one that came without being announced (it is about to be), or that
 * was given up and not freed yet, is not. */
static bool shown(struct pci_root_port *p)
{
	return pci_root_port_occupied(p) && !p->leaving && get(p, SLTSTA) & SLTSTA_PDS && powered(p);
}

/* ---- events ---- */

/* 6.7.3.4: a message when the first reason comes, the wire while there is one. */
static void update_irq(struct pci_root_port *p)
{
	uint16_t ctl = get(p, SLTCTL), sta = get(p, SLTSTA);
	bool any = ctl & sta & SLTCTL_EVENTS || (ctl & SLTCTL_DLLSCE && sta & SLTSTA_DLLSC);
	bool want = ctl & SLTCTL_HPIE && any;

	if (want && !p->irq)
		pci_msi_fire(&p->pci, 0);
	p->irq = want;
	pci_intx_set(&p->pci, want);
}

/* Link and visibility follow from card and power. */
static void update_link(struct pci_root_port *p)
{
	bool up = shown(p) && !p->in_reset, was = get(p, LNKSTA) & LNKSTA_DLLLA;

	p->bus->off = !up;
	if (up == was)
		return;
	set_bits(p, LNKSTA, LNKSTA_DLLLA, up);
	set_bits(p, SLTSTA, SLTSTA_DLLSC, true);
}

static void reset_card(struct pci_root_port *p)
{
	for (unsigned fn = 0; fn < 8; fn++) {
		struct pci_dev *d = p->bus->devs[fn];

		if (d)
			d->dev.ops->reset(&d->dev);
	}
}

/* The guest has let go of it. */
static void give_up(struct pci_root_port *p)
{
	p->leaving = true;
	set_bits(p, SLTSTA, SLTSTA_PDS, false);
	set_bits(p, SLTSTA, SLTSTA_PDC, true);
}

static bool is_off(uint16_t ctl) { return ctl & SLTCTL_PCC && (ctl & SLTCTL_PIC) == SLTCTL_PIC_OFF; }

/* Slot control was written. */
static void control_written(struct pci_root_port *p)
{
	uint16_t old = p->ctl, now = get(p, SLTCTL);

	p->ctl = now;
	if (now & ~old & SLTCTL_PCC)
		reset_card(p);
	if (is_off(now) && !is_off(old) && get(p, SLTSTA) & SLTSTA_PDS) {
		give_up(p);
		if (p->ejected)
			p->ejected(p->opaque, p);
	}
	set_bits(p, SLTSTA, SLTSTA_CC, true);
	update_link(p);
}

static void bridge_control_written(struct pci_root_port *p)
{
	bool reset = p->pci.config[PCI_BRIDGE_CONTROL] & BRIDGE_RESET;

	if (reset && !p->in_reset)
		reset_card(p);
	p->in_reset = reset;
	update_link(p);
}

static bool touches(unsigned off, unsigned len, unsigned first, unsigned n) { return off < first + n && first < off + len; }

static void config_written(struct pci_dev *d, unsigned off, unsigned len)
{
	struct pci_root_port *p = container_of(d, struct pci_root_port, pci);

	if (touches(off, len, p->cap + SLTCTL, 2))
		control_written(p);
	if (touches(off, len, PCI_BRIDGE_CONTROL, 2))
		bridge_control_written(p);
	update_irq(p);
}

/* ---- the host's side ---- */

/* As if somebody had put it in and pressed the button: where there is one, Linux has no interrupt for presence alone. */
void pci_root_port_plugged(struct pci_root_port *p)
{
	set_bits(p, SLTSTA, SLTSTA_PDS | SLTSTA_PDC | SLTSTA_ABP, true);
	update_link(p);
	update_irq(p);
}

void pci_root_port_emptied(struct pci_root_port *p)
{
	if (pci_root_port_occupied(p))
		return;
	p->leaving = false;
	if (get(p, SLTSTA) & SLTSTA_PDS) {
		set_bits(p, SLTSTA, SLTSTA_PDS, false);
		set_bits(p, SLTSTA, SLTSTA_PDC, true);
	}
	update_link(p);
	update_irq(p);
}

int pci_root_port_ask(struct pci_root_port *p)
{
	uint16_t ctl = get(p, SLTCTL);

	if ((ctl & SLTCTL_PIC) == SLTCTL_PIC_BLINK)
		return -EBUSY;
	if (is_off(ctl))
		return 1;
	set_bits(p, SLTSTA, SLTSTA_ABP, true);
	update_irq(p);
	return 0;
}

void pci_root_port_withdraw(struct pci_root_port *p)
{
	if (!pci_root_port_occupied(p) || p->leaving)
		return;
	give_up(p);
	reset_card(p);
	update_link(p);
	update_irq(p);
}

struct pci_root_port *pci_root_port_of(const struct pci_bus *b)
{
	return b->port_bus ? container_of(b->bridge, struct pci_root_port, pci) : NULL;
}

/* ---- life cycle ---- */

/* A slot with a card starts with power, so that it is found like one that cannot be taken out. */
static void port_reset(struct dev *dev)
{
	struct pci_root_port *p = of_dev(dev);
	bool there = pci_root_port_occupied(p) && !p->leaving;

	pci_dev_reset(&p->pci);
	p->irq = p->in_reset = false;
	st_le16(reg(p, SLTCTL), there ? SLTCTL_PIC_ON : SLTCTL_PIC_OFF | SLTCTL_PCC);
	p->ctl = get(p, SLTCTL);
	set_bits(p, SLTSTA, SLTSTA_PDS, there);
	update_link(p);
	set_bits(p, SLTSTA, SLTSTA_EVENTS, false);
}

static int port_save(struct dev *dev, struct snap_out *o) { return pci_dev_save(&of_dev(dev)->pci, o); }

/* Whether there is a card is a matter of this machine; what the guest knows of it was saved with the registers. */
static int port_load(struct dev *dev, struct snap_in *in, struct err *e)
{
	struct pci_root_port *p = of_dev(dev);
	int ret = pci_dev_load(&p->pci, in, e);

	if (ret)
		return ret;
	p->ctl = get(p, SLTCTL);
	p->in_reset = p->pci.config[PCI_BRIDGE_CONTROL] & BRIDGE_RESET;
	set_bits(p, SLTSTA, SLTSTA_PDS, pci_root_port_occupied(p));
	set_bits(p, LNKSTA, LNKSTA_DLLLA, shown(p) && !p->in_reset);
	p->bus->off = !(get(p, LNKSTA) & LNKSTA_DLLLA);
	p->irq = p->pci.intx_level;
	return 0;
}

static void port_free(struct dev *dev)
{
	struct pci_root_port *p = of_dev(dev);

	pci_bus_free(p->bus);
	pci_dev_fini(&p->pci);
	free(p);
}

static const struct pci_dev_ops port_ops = {
	.dev = {
		.name = "pcie-root-port",
		.reset = port_reset,
		.save = port_save,
		.load = port_load,
		.free = port_free,
	},
	.config_written = config_written,
};

static const struct pci_ids port_ids = { .vendor = 0x1b36, .device = 0x000c, .class24 = 0x060400 };

static int add_express(struct pci_root_port *p, unsigned slot)
{
	uint8_t b[CAP_SIZE] = { 0 };
	struct pci_dev *d = &p->pci;
	int off;

	st_le16(b + FLAGS, 2 | TYPE_ROOT_PORT << 4 | FLAGS_SLOT);
	st_le32(b + DEVCAP, 1u << 15);			/* role-based error reporting */
	st_le32(b + LNKCAP, 1 << 4 | 1 | LNKCAP_DLLLARC);	/* x1, 2.5 GT/s */
	st_le16(b + LNKSTA, 1 << 4 | 1);
	st_le32(b + SLTCAP, SLTCAP_ABP | SLTCAP_PCP | SLTCAP_PIP | SLTCAP_HPC | slot << SLTCAP_PSN_SHIFT);
	off = pci_dev_add_cap(d, PCI_CAP_ID_PCIE, b + 2, sizeof(b) - 2);
	if (off < 0)
		return off;
	p->cap = (unsigned)off;
	st_le16(d->wmask + off + DEVCTL, 0x7fff);
	st_le16(d->w1c + off + DEVSTA, 0x000f);
	st_le16(d->wmask + off + LNKCTL, 0x01fb);
	st_le16(d->wmask + off + SLTCTL, SLTCTL_EVENTS | SLTCTL_HPIE | SLTCTL_PIC | SLTCTL_PCC | SLTCTL_DLLSCE);
	st_le16(d->w1c + off + SLTSTA, SLTSTA_EVENTS);
	st_le16(d->wmask + off + ROOTCTL, 0x001f);
	return 0;
}

/* QEMU's hint to firmware: what to set aside behind the port.  No ports; memory as firmware thinks best. */
static int add_reserve(struct pci_dev *d)
{
	uint8_t body[30];

	memset(body, 0xff, sizeof(body));
	body[0] = 32;			/* length of the capability */
	body[1] = 1;			/* resource reservation */
	st_le64(body + 6, 0);
	return pci_dev_add_cap(d, PCI_CAP_ID_VENDOR, body, sizeof(body));
}

int pci_root_port_new(struct machine *m, struct pci_bus *bus, int devfn, const struct pci_root_port_opts *o, struct pci_root_port **out,
		      struct err *e)
{
	struct pci_root_port *p;
	int ret;

	if (o->slot >= PCI_ROOT_PORT_SLOTS)
		return err_set(e, -EINVAL, "slot %u: a root port's slot has a number below %u", o->slot, PCI_ROOT_PORT_SLOTS);
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	ret = pci_dev_init(&p->pci, m, bus, devfn, &port_ops, &port_ids, e);
	if (ret) {
		free(p);
		return ret;
	}
	p->ejected = o->ejected;
	p->opaque = o->opaque;
	pci_dev_use_intx(&p->pci, 1);
	ret = add_express(p, o->slot);
	if (!ret)
		ret = pci_dev_add_msi(&p->pci, 1);
	if (!ret)
		ret = add_reserve(&p->pci);
	if (ret >= 0)
		ret = pci_bus_new(&p->pci, &p->bus);
	if (ret) {
		pci_dev_fini(&p->pci);
		free(p);
		return err_set(e, ret, "out of memory for a root port");
	}
	p->bus->port_bus = true;
	pci_dev_ready(&p->pci);
	port_reset(&p->pci.dev);
	*out = p;
	return 0;
}
