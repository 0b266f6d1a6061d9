// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where memory that comes and goes has its place: for the guest behind RAM, each device's at a multiple of 1 GiB, so that an
 * operating system's own units (Linux: 128 MiB, or up to 2 GiB) begin with it; in the backing behind RAM and the VGA's memory.
 */
#include "base/bits.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/priv.h"

#define GPA_ALIGN LAYOUT_GIB
#define OFFSET_ALIGN (2 * LAYOUT_MIB)

static uint64_t fixed_size(const struct platform_config *c) { return c->mem_size + c->vram_size; }

void platform_memory_place(const struct platform_config *c, unsigned i, uint64_t *gpa, uint64_t *offset)
{
	*gpa = align_up(LAYOUT_4G + e820_high_size(c->mem_size), GPA_ALIGN);
	*offset = align_up(fixed_size(c), OFFSET_ALIGN);
	for (unsigned k = 0; k < i; k++) {
		*gpa = align_up(*gpa + c->memory[k].size, GPA_ALIGN);
		*offset = align_up(*offset + c->memory[k].size, OFFSET_ALIGN);
	}
}

uint64_t platform_backing_size(const struct platform_config *c)
{
	uint64_t gpa, offset;

	if (!c->n_memory)
		return fixed_size(c);
	platform_memory_place(c, c->n_memory, &gpa, &offset);
	return offset;
}

_Static_assert(PLATFORM_MAX_MEMORY <= ACPI_MAX_MEMORY_TO_COME, "each has an entry");

uint64_t memory_top(const struct platform *p)
{
	uint64_t gpa, offset;

	if (!p->cfg.n_memory)
		return LAYOUT_4G + e820_high_size(p->cfg.mem_size);
	platform_memory_place(&p->cfg, p->cfg.n_memory, &gpa, &offset);
	return gpa;
}

void memory_acpi_config(const struct platform *p, struct acpi_config *c)
{
	uint64_t offset;

	c->n_memory_to_come = p->cfg.n_memory;
	for (unsigned i = 0; i < p->cfg.n_memory; i++) {
		platform_memory_place(&p->cfg, i, &c->memory_to_come[i].base, &offset);
		c->memory_to_come[i].size = p->cfg.memory[i].size;
		c->memory_to_come[i].node = p->cfg.memory[i].node;
	}
}
