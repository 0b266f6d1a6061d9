/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VM generation ID ("Virtual Machine Generation ID", Microsoft, 2012): 16 bytes in a
 * page that the guest reads, and an event when they change, by which it learns that
 * it is a copy: restored from a snapshot, or cloned.
 *
 * The page is memory, read only.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_VMGENID_H
#define LODGE_CHIPSET_VMGENID_H

#include <stdint.h>

#include "base/err.h"
#include "machine/irq.h"

struct machine;
struct vmgenid;

/* gpa: of the page.  notify: is pulsed when the ID changes. */
int vmgenid_new(struct machine *m, uint64_t gpa, const struct irq *notify, struct vmgenid **out, struct err *e);
/* In the order of RFC 4122; the guest sees the first three fields little-endian, as Windows and EFI have GUIDs. */
void vmgenid_set(struct vmgenid *v, const uint8_t uuid[16]);
void vmgenid_get(const struct vmgenid *v, uint8_t uuid[16]);

#endif
