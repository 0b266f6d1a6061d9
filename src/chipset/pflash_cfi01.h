/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A NOR flash chip with the Intel/Sharp command set (JEDEC CFI 100, primary
 * vendor set 0001h), 8 bits wide: where UEFI firmware keeps its variables.
 *
 * In array mode it is ROM in the memory map; any write is a command, and until
 * the next "read array" reads are answered by the chip.  Machine lock held.
 */
#ifndef LODGE_CHIPSET_PFLASH_CFI01_H
#define LODGE_CHIPSET_PFLASH_CFI01_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct machine;
struct mem_rom;

struct pflash_cfi01_config {
	const char *id;
	uint64_t base;		/* guest-physical, a multiple of 4 KiB */
	uint32_t block;		/* erased at once: a power of two, 4 KiB or more, that divides the size */
	struct mem_rom *array;	/* the contents; its size is the chip's */
	/* [off, off+len) has changed and is to be kept; an error becomes one of programming or erasing. May be NULL. */
	int (*store)(void *opaque, uint64_t off, const void *data, size_t len);
	void *opaque;
};

/* -EINVAL: a size or place that cannot be; -ENOMEM. */
int pflash_cfi01_new(struct machine *m, const struct pflash_cfi01_config *cfg, struct err *e);

#endif
