/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Intel's 82574L gigabit Ethernet controller, 8086:10d3, for guests without virtio drivers. */
#ifndef LODGE_DEVICE_E1000E_H
#define LODGE_DEVICE_E1000E_H

#include "net/port.h"
#include "pci/pci.h"

struct e1000e;

struct e1000e_stats {
	uint64_t rx_packets, rx_bytes, rx_dropped;
	uint64_t tx_packets, tx_bytes, tx_dropped;
	uint64_t tx_bad;		/* what no honest driver sends */
};

/*
 * Makes the card; the machine owns it.  On success the card owns the back end and
 * closes it when it is freed; on failure the caller still does.  Machine lock held,
 * as with all below. ENOSPC, EBUSY (slot), ENOMEM
 */
int e1000e_new(struct machine *m, struct pci_bus *bus, int devfn, const char *id, struct net_backend *b, const uint8_t mac[6],
	       struct e1000e **out, struct err *e);
struct pci_dev *e1000e_pci(struct e1000e *d);
void e1000e_get_stats(const struct e1000e *d, struct e1000e_stats *out);
/* The cable is plugged in or pulled out. */
void e1000e_set_link(struct e1000e *d, bool up);

#endif
