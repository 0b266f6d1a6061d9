/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory side of Intel's Q35 host bridge (82P35/G33/Q35 GMCH, 8086:29c0):
 * what lies between 768 KiB and 1 MiB (PAM registers: firmware's ROM, RAM, RAM
 * that cannot be written), and where the PCIe configuration window is (PCIEXBAR).
 *
 * SMRAM and ESMRAMC hold what is written, and lock; there is no system
 * management mode, so no memory appears by them (docs/QUIRKS.md).
 *
 * Machine lock held.
 */
#ifndef LODGE_DEVICE_Q35_MCH_H
#define LODGE_DEVICE_Q35_MCH_H

#include "pci/pci.h"

#define Q35_MCH_PCIEXBAR 0x60	/* 8 bytes */
#define Q35_MCH_PAM0 0x90	/* 7 bytes */
#define Q35_MCH_SMRAM 0x9d

/* Vendor, device and subsystem by which firmware knows the machine. */
extern const struct pci_ids q35_mch_ids;

struct q35_mch;

/* Makes root's host bridge (with q35_mch_ids) such a chip.  RAM from 768 KiB to 1 MiB is this
 * chip's to show: nothing else may. -ENOMEM. */
int q35_mch_new(struct machine *m, struct pci_bus *root, struct q35_mch **out, struct err *e);
/* Firmware, whose last 128 KiB appear below 1 MiB where PAM says ROM. */
void q35_mch_set_bios(struct q35_mch *q, struct mem_rom *bios);
/* What firmware does: all of it RAM, the configuration window at ecam (256 buses). */
void q35_mch_init(struct q35_mch *q, uint64_t ecam);
/* Where the guest put the configuration window: base, 0 if it is off, and how many buses. */
uint64_t q35_mch_ecam(const struct q35_mch *q, unsigned *buses);

#endif
