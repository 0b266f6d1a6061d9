/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of pages of RAM that vCPUs and devices write: for whoever copies memory
 * while the guest runs.
 *
 * Each page of the RAM backing has a bit of its own (MEM_PG_DIRTY, mem.h).  Devices set
 * it after they have written.  Software engines set it when a vCPU gets the right to
 * write to the page without asking, so a round of copying is
 *
 *	machine_dirty_fetch	which pages were written, and vCPUs are told to give such rights up
 *	machine_dirty_settled	until they have; what they wrote meanwhile is in pages that were fetched
 *	copy those pages	what is written from then on will be in the next fetch
 *
 * KVM's log has it all in one step.  While the log is on no user code runs natively.
 * Off, the log costs nothing: engines ask for it only where they fill their TLBs.
 */
#ifndef LODGE_MACHINE_DIRTY_H
#define LODGE_MACHINE_DIRTY_H

#include "machine/machine.h"

/* Begins an empty log; the first round settles before anything is copied.  Machine lock held.  EINVAL: there is no RAM;
 * or what the kernel says. */
int machine_dirty_start(struct machine *m);
/* Machine lock held. */
void machine_dirty_stop(struct machine *m);
/* ORs what was written to the backing pages [first, first+n) since the last fetch into bitmap, whose bit 0 is page
 * `first`, and begins the next round.  Machine lock held.  0, or what the kernel says, with pages lost */
int machine_dirty_fetch(struct machine *m, uint64_t first, uint64_t n, uint64_t *bitmap);
/* Have all vCPUs begun the round?  Also true once none of them runs: asked by whoever knows whether one does.  Any thread. */
bool machine_dirty_settled(const struct machine *m);

#endif
