// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's memory map.  RAM that the guest may use is listed as such, what
 * firmware tables occupy as reserved, ECAM as reserved (PCI Firmware 3.2, 4.1.2:
 * it must be, or the OS does not trust MCFG).  MMIO is not listed.
 */
#include "platform/x86/e820.h"

#include "base/bits.h"
#include "platform/x86/layout.h"

uint64_t e820_low_size(uint64_t mem_size)
{
	return MIN(mem_size, LAYOUT_LOW_MAX);
}

uint64_t e820_high_size(uint64_t mem_size)
{
	return mem_size - e820_low_size(mem_size);
}

static void put(struct e820 *t, uint64_t addr, uint64_t end, uint32_t type)
{
	if (end > addr)
		t->e[t->n++] = (struct e820_entry){ addr, end - addr, type };
}

void e820_build(struct e820 *t, uint64_t mem_size, int ecam)
{
	t->n = 0;
	put(t, 0, LAYOUT_EBDA, E820_RAM);
	put(t, LAYOUT_EBDA, LAYOUT_LOW_END, E820_RESERVED);
	put(t, LAYOUT_ACPI, LAYOUT_HIGH_START, E820_RESERVED);
	put(t, LAYOUT_HIGH_START, e820_low_size(mem_size), E820_RAM);
	if (ecam)
		put(t, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_BUSES * LAYOUT_MIB, E820_RESERVED);
	put(t, LAYOUT_4G, LAYOUT_4G + e820_high_size(mem_size), E820_RAM);
}
