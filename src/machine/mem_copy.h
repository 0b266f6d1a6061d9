/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RAM page by page, for whoever copies it to another process: which pages there are, and making zeros of them. */
#ifndef LODGE_MACHINE_MEM_COPY_H
#define LODGE_MACHINE_MEM_COPY_H

#include "machine/mem.h"

/* Sets the bits of pages of the RAM backing that may hold something other than zeros, and has them all if the host does not
 * tell; none is touched for it.  The bitmap has a bit for each page.  The guest may run. */
void mem_ram_used(struct mem *m, uint64_t *bitmap);
/* Makes [off, off+len) of the backing zeros, in pages and checked by the caller; what is large is given back to the host. */
void mem_ram_zero(struct mem *m, uint64_t off, uint64_t len);

#endif
