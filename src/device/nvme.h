/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An NVM Express controller (NVM Express Base 1.4) on PCI: several namespaces,
 * each a disk (storage/disk.h), and as many I/O queues as the user wants.
 *
 * It has QEMU's identification, 1b36:0010, which drivers know.
 */
#ifndef LODGE_DEVICE_NVME_H
#define LODGE_DEVICE_NVME_H

#include "pci/pci.h"
#include "storage/disk.h"

#define NVME_MAX_NS 16
#define NVME_MAX_IO_QUEUES 63

struct nvme;

struct nvme_opts {
	char serial[DISK_SERIAL_LEN + 1];	/* "": made of the id */
	unsigned queues;			/* pairs of I/O queues, at most 63; 0: one */
	struct iothread *io;			/* whose loop the namespaces' nodes are on; NULL: the machine's */
};

/*
 * Makes a controller without namespaces; the machine owns it.  Machine lock held,
 * that of o->io not.  EINVAL, ENOSPC (no slot), ENOMEM.
 */
int nvme_new(struct machine *m, struct pci_bus *bus, int devfn, const char *id, const struct nvme_opts *o,
	     struct nvme **out, struct err *e);
/*
 * Adds the next namespace (1, 2 ...) before the guest runs.  o->io is the
 * controller's.  On success the node is the controller's, else still the caller's.
 */
int nvme_add_ns(struct nvme *n, const char *id, struct blk_node *node, const struct disk_opts *o, struct err *e);

/* All below: machine lock held, the I/O thread's not. */

/* Where it is on its bus. */
unsigned nvme_devfn(const struct nvme *n);
/* NULL: there is no such namespace. */
struct disk *nvme_disk(struct nvme *n, unsigned nsid);
/* Changes the size of a namespace, and tells the driver (5.2, namespace attribute notice). As disk_resize; ENOENT */
int nvme_resize(struct nvme *n, unsigned nsid, uint64_t size, struct err *e);
/* How many failed requests wait for the machine to go on. */
unsigned nvme_waiting(struct nvme *n);

#endif
