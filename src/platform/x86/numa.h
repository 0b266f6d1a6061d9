/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes of a guest's memory: which CPUs and how much of the memory belong together, and how far from each other they are. */
#ifndef LODGE_PLATFORM_X86_NUMA_H
#define LODGE_PLATFORM_X86_NUMA_H

#include <stdint.h>

#include "machine/machine.h"

#define NUMA_MAX_NODES 16
#define NUMA_HERE 10		/* distance of a node from itself (ACPI 6.5, 5.2.17) */
#define NUMA_AWAY 20		/* and from others, where nothing else is said */

/* Nodes have the memory one after the other, from its first byte on, as the RAM backing has it. */
struct platform_numa {
	unsigned n_nodes;		/* 0: the guest is told of none */
	uint64_t memory;		/* bytes of all; also without nodes */
	uint64_t node_memory[NUMA_MAX_NODES];	/* bytes; their sum is memory */
	uint8_t cpu_node[MACHINE_MAX_VCPUS];
	uint8_t distance[NUMA_MAX_NODES][NUMA_MAX_NODES];	/* from, to: NUMA_HERE to 254; 255: it cannot be reached */
};

#endif
