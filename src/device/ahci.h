/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The SATA controller of an ICH9 in AHCI mode (Serial ATA AHCI 1.3.1), 8086:2922:
 * six ports with an ATA disk (ACS-3) or a CD/DVD drive (ATAPI, storage/scsi.h).
 */
#ifndef LODGE_DEVICE_AHCI_H
#define LODGE_DEVICE_AHCI_H

#include "pci/pci.h"
#include "storage/disk.h"

#define AHCI_PORTS 6

struct ahci;

/* Makes a controller with empty ports; the machine owns it.  io: whose loop the disks' nodes are on; NULL: the
 * machine's.  Machine lock held, io's not. ENOSPC, EBUSY (slot), ENOMEM */
int ahci_new(struct machine *m, struct pci_bus *bus, int devfn, const char *id, struct iothread *io, struct ahci **out, struct err *e);
/* Puts a disk or a drive on the next free port, before the guest runs; *port says which. On success the node is the
 * controller's. ENOSPC: all taken */
int ahci_add(struct ahci *a, const char *id, struct blk_node *node, bool cd, const struct disk_opts *o, unsigned *port, struct err *e);

/* Machine lock held, the I/O thread's not. */
struct disk *ahci_disk(struct ahci *a, unsigned port);	/* NULL: none */
unsigned ahci_devfn(const struct ahci *a);

#endif
