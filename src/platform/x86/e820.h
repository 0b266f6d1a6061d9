/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memory map as firmware would tell it (ACPI 6.5, 15; "e820"). */
#ifndef LODGE_PLATFORM_X86_E820_H
#define LODGE_PLATFORM_X86_E820_H

#include <stdint.h>

enum { E820_RAM = 1, E820_RESERVED = 2, E820_ACPI = 3, E820_NVS = 4 };

#define E820_MAX 16

struct e820_entry {
	uint64_t addr, size;
	uint32_t type;
};

struct e820 {
	unsigned n;
	struct e820_entry e[E820_MAX];
};

/* How mem_size bytes of RAM are split around the hole below 4 GiB. */
uint64_t e820_low_size(uint64_t mem_size);	/* RAM from 0 up to here, the VGA hole included */
uint64_t e820_high_size(uint64_t mem_size);	/* RAM from 4 GiB */

/* Builds the map: ascending, not overlapping.  ecam: the pc's configuration window is listed. */
void e820_build(struct e820 *t, uint64_t mem_size, int ecam);

#endif
