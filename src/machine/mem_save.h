/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory on its way into a snapshot's file (mem_index.h). */
#ifndef LODGE_MACHINE_MEM_SAVE_H
#define LODGE_MACHINE_MEM_SAVE_H

#include "machine/mem.h"
#include "machine/mem_index.h"

/*
 * Writes the RAM backing raw to an empty file, whose holes are what reads as zero, and makes its index, with an id of its own; written: bytes that are no holes.
 * Below: only what differs from that image, of which the index says id, but not place.  The index is the caller's, also, empty, when it fails.
 * vCPUs and devices stand still; any thread.
 */
int mem_ram_save(struct mem *m, int fd, const struct mem_image *below, struct mem_index *ix, uint64_t *written, struct err *e);

/* Makes of a raw file a packed one, in an empty file, on all CPUs, and of the index that one's.  EINVAL: the file is not what its index says; and errors of files. */
int mem_save_pack(int raw, int fd, struct mem_index *ix, uint64_t *written, struct err *e);

#endif
