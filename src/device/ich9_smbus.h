/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SMBus host controller of an ICH9 (82801IB, 8086:2930; datasheet 316972, 19),
 * function 00:1f.3, with nobody on its bus: every transaction ends at once, without
 * an acknowledge.  Machine lock held.
 */
#ifndef LODGE_DEVICE_ICH9_SMBUS_H
#define LODGE_DEVICE_ICH9_SMBUS_H

#include "pci/pci.h"

int ich9_smbus_new(struct machine *m, struct pci_bus *root, int devfn, struct err *e);

#endif
