/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A USB host controller (xHCI 1.1), 1b36:000d, which QEMU calls qemu-xhci: eight
 * sockets for devices of any speed.
 */
#ifndef LODGE_DEVICE_XHCI_H
#define LODGE_DEVICE_XHCI_H

#include "pci/pci.h"
#include "usb/usb.h"

#define XHCI_SOCKETS 8u

struct xhci;

/* Makes a controller with nothing plugged in; the machine owns it.  Machine lock held. ENOSPC, EEXIST (slot), ENOMEM */
int xhci_new(struct machine *m, struct pci_bus *bus, int devfn, struct xhci **out, struct err *e);
/* Plugs the device into this socket, from 1 on, or (*port 0) the next free one; *port is then its number among those of its kind (USB 2
 * or 3).  The driver is told.  ENOSPC, EBUSY, EINVAL */
int xhci_plug(struct xhci *x, struct usb_device *d, unsigned *port, struct err *e);
/* The number of the socket; 0: the device is in none of this controller's. */
unsigned xhci_port_of(const struct xhci *x, const struct usb_device *d);
unsigned xhci_devfn(const struct xhci *x);

#endif
