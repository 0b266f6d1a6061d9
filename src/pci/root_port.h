/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A PCI Express root port with a slot for a card that comes and goes while the
 * guest runs (PCIe base 4.0, 6.7 and 7.5.3): attention button, power controller and
 * indicator, presence detection, link state; 1b36:000c, which QEMU calls
 * pcie-root-port.
 *
 * All functions: machine lock held.
 */
#ifndef LODGE_PCI_ROOT_PORT_H
#define LODGE_PCI_ROOT_PORT_H

#include "pci/pci.h"

struct pci_root_port;

#define PCI_ROOT_PORT_SLOTS 8192u	/* physical slot numbers: 13 bits */

struct pci_root_port_opts {
	unsigned slot;			/* physical slot number, below PCI_ROOT_PORT_SLOTS */
	/* The guest has switched the power of the slot off: what is in it is not the guest's any more, has been reset, and
	 * can be freed.  On a vCPU's thread; the functions are not to be freed in the call. */
	void (*ejected)(void *opaque, struct pci_root_port *p);
	void *opaque;
};

/* Makes a port with an empty slot; the machine owns it, and with it the bus.  EEXIST, ENOSPC (devfn), EINVAL, ENOMEM */
int pci_root_port_new(struct machine *m, struct pci_bus *bus, int devfn, const struct pci_root_port_opts *o, struct pci_root_port **out,
		      struct err *e);
/* The bus behind it, which has one place, devfn 0.  What is put there before the machine starts is found by the guest as on any
 * other bus. */
struct pci_bus *pci_root_port_bus(struct pci_root_port *p);
const struct pci_dev *pci_root_port_function(const struct pci_root_port *p);
/* The port whose bus this is; NULL: it is no port's. */
struct pci_root_port *pci_root_port_of(const struct pci_bus *b);
/* Is there a card in the slot, whoever still sees it? */
bool pci_root_port_occupied(const struct pci_root_port *p);
/* A card was put in while the machine runs: the guest is told. */
void pci_root_port_plugged(struct pci_root_port *p);
/* The card was freed. */
void pci_root_port_emptied(struct pci_root_port *p);
/*
 * Presses the attention button, so that the guest gives the card up; `ejected` follows when it does, which may be never.
 * 1: the slot has no power, so nobody has to be asked.  -EBUSY: the guest is at something with this slot (its power
 * indicator blinks); to press now would cancel it.
 */
int pci_root_port_ask(struct pci_root_port *p);

/* Takes the card away from the guest, whatever it thinks of that: as if it had switched the slot off, but `ejected` is not called. */
void pci_root_port_withdraw(struct pci_root_port *p);

#endif
