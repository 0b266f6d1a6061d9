// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which node each processor and each range of memory belongs to, and how far nodes are from
 * each other: the tables SRAT and SLIT (ACPI 6.5, 5.2.16 and 5.2.17).
 *
 * Processors that are not there yet are listed like the others, so that one that comes is
 * put where it belongs; memory that may come is marked.
 */
#include "base/bits.h"
#include "platform/x86/acpi/acpi.h"
#include "platform/x86/e820.h"
#include "platform/x86/layout.h"

enum { SRAT_LAPIC = 0, SRAT_MEMORY = 1, SRAT_X2APIC = 2 };
#define SRAT_ENABLED 1u
#define SRAT_HOT_PLUGGABLE 2u

static void processor(const struct acpi_config *c, struct aml *a, unsigned id)
{
	unsigned node = c->numa.cpu_node[id];

	if (id < 255) {
		aml_num(a, SRAT_LAPIC, 1);
		aml_num(a, 16, 1);
		aml_num(a, node & 0xff, 1);
		aml_num(a, id, 1);
		aml_num(a, SRAT_ENABLED, 4);
		aml_num(a, 0, 1);
		aml_num(a, node >> 8, 3);
		aml_num(a, 0, 4);	/* clock domain */
		return;
	}
	aml_num(a, SRAT_X2APIC, 1);
	aml_num(a, 24, 1);
	aml_num(a, 0, 2);
	aml_num(a, node, 4);
	aml_num(a, id, 4);
	aml_num(a, SRAT_ENABLED, 4);
	aml_num(a, 0, 8);
}

static void memory(struct aml *a, unsigned node, uint64_t base, uint64_t end, uint32_t flags)
{
	if (end <= base)
		return;
	aml_num(a, SRAT_MEMORY, 1);
	aml_num(a, 40, 1);
	aml_num(a, node, 4);
	aml_num(a, 0, 2);
	aml_num(a, base, 8);
	aml_num(a, end - base, 8);
	aml_num(a, 0, 4);
	aml_num(a, SRAT_ENABLED | flags, 4);
	aml_num(a, 0, 8);
}

/* Bytes [first, end) of the guest's memory, around the hole for the VGA and that below 4 GiB. */
static void ram(const struct acpi_config *c, struct aml *a, unsigned node, uint64_t first, uint64_t end)
{
	uint64_t low = e820_low_size(c->numa.memory);

	memory(a, node, first, MIN(end, LAYOUT_LOW_END), 0);
	memory(a, node, MAX(first, LAYOUT_HIGH_START), MIN(end, low), 0);
	if (end > low)
		memory(a, node, LAYOUT_4G + MAX(first, low) - low, LAYOUT_4G + end - low, 0);
}

bool acpi_has_srat(const struct acpi_config *c)
{
	return c->numa.n_nodes || c->n_memory_to_come;
}

void acpi_srat(const struct acpi_config *c, struct aml *a)
{
	uint64_t at = 0;

	aml_num(a, 1, 4);		/* reserved, and always 1 */
	aml_num(a, 0, 8);
	for (unsigned i = 0; i < c->n_vcpus; i++)
		processor(c, a, i);
	if (!c->numa.n_nodes)
		ram(c, a, 0, 0, c->numa.memory);
	for (unsigned i = 0; i < c->numa.n_nodes; i++) {
		ram(c, a, i, at, at + c->numa.node_memory[i]);
		at += c->numa.node_memory[i];
	}
	for (unsigned i = 0; i < c->n_memory_to_come; i++)
		memory(a, c->memory_to_come[i].node, c->memory_to_come[i].base, c->memory_to_come[i].base + c->memory_to_come[i].size,
		       SRAT_HOT_PLUGGABLE);
}

void acpi_slit(const struct acpi_config *c, struct aml *a)
{
	unsigned n = c->numa.n_nodes;

	aml_num(a, n, 8);
	for (unsigned from = 0; from < n; from++)
		for (unsigned to = 0; to < n; to++)
			aml_num(a, c->numa.distance[from][to], 1);
}
