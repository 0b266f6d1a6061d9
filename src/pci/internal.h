/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of this folder share: the bus tree and the hooks between them. */
#ifndef LODGE_PCI_INTERNAL_H
#define LODGE_PCI_INTERNAL_H

#include "pci/pci.h"

struct pci_root;

struct pci_bus {
	struct machine *m;
	struct pci_root *root;
	struct pci_bus *parent;		/* NULL: the root bus, number 0 */
	struct pci_dev *bridge;		/* the function this bus is behind */
	struct pci_dev *devs[256];	/* by devfn */
	struct list children;		/* buses */
	bool port_bus;			/* behind a root port: one place, and the bridge is its function */
	bool off;			/* no link: the guest finds nothing there */
	uint32_t kept, hidden;		/* a bit for each slot: pci_bus_keep, pci_bus_hide */
	struct list node;
};

struct pci_root {
	struct pci_dev host_bridge;	/* first: owns the root */
	struct pci_bus bus;
	struct pci_root_config cfg;
	struct bus_region cf8, cfc, ecam;
	uint32_t config_address;	/* the register at port 0xcf8 */
	unsigned pirq_count[4];		/* functions that hold the wire high */
	bool bar_conflict;		/* a BAR found its place taken */
	void (*changed)(void *opaque, bool written);	/* the host bridge's registers */
	void *changed_opaque;
};

/* Brings the mapping of the BARs in line with the configuration space. */
void pci_bars_update(struct pci_dev *d);
/* rom.c: the same for the expansion ROM.  Whether anything changed. */
bool pci_rom_update(struct pci_dev *d);
void pci_rom_free(struct pci_dev *d);
unsigned pci_rom_reg(const struct pci_dev *d);	/* its offset, by the header's type */
/* Tries again for BARs whose place was taken; after some BAR went away. */
void pci_bars_retry(struct pci_root *r);

/* PIRQ (0..3) of the function's pin: each bridge on the way rotates the pins
 * (PCI-to-PCI bridge 1.2, 9.1), the root does too. */
unsigned pci_pirq(const struct pci_dev *d);
/* The wire follows intx_level, the disable bit and MSI(-X). */
void pci_intx_update(struct pci_dev *d);

/* Sends what is pending and not masked any more. */
void pci_msi_update(struct pci_dev *d);
void pci_msix_update(struct pci_dev *d);
void pci_msix_reset(struct pci_dev *d);
void pci_msix_free(struct pci_dev *d);
int pci_msix_save(struct pci_dev *d, struct snap_out *o);
int pci_msix_load(struct pci_dev *d, struct snap_in *in, struct err *e);

#endif
