/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The watchdog timer of the Intel 6300ESB I/O controller hub (8086:25ab), of which
 * Linux has the driver i6300esb (datasheet 300641, 16).
 *
 * Two stages count down one after the other: the end of the first would be an
 * interrupt, the end of the second is MACHINE_REQ_WATCHDOG.  What comes of that is
 * the VM's to decide.  Machine lock held.
 */
#ifndef LODGE_DEVICE_I6300ESB_H
#define LODGE_DEVICE_I6300ESB_H

#include "pci/pci.h"

struct i6300esb;

/* devfn: PCI_DEVFN or what pci_free_slot gave.  Errors name the device. */
int i6300esb_new(struct machine *m, struct pci_bus *bus, int devfn, struct i6300esb **out, struct err *e);

#endif
