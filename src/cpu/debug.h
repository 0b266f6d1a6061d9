/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a debugger asks of a CPU: where to stop, and that it does one instruction.
 *
 * Breakpoints of any number are INT3 instructions that the debugger has put into
 * the guest's code; the engine only has to know which are its own.  Points are
 * for code that is not there yet, and for data.
 */
#ifndef LODGE_CPU_DEBUG_H
#define LODGE_CPU_DEBUG_H

#include <stdbool.h>
#include <stdint.h>

#define CPU_DEBUG_POINTS 4	/* what a processor has */

enum cpu_debug_kind { CPU_DEBUG_EXEC, CPU_DEBUG_WRITE, CPU_DEBUG_READ, CPU_DEBUG_ACCESS };

struct cpu_debug_point {
	uint64_t lin;		/* linear address */
	uint32_t len;		/* 1, 2, 4 or 8, lin a multiple of it; 1 for EXEC */
	enum cpu_debug_kind kind;
};

/* The same for all vCPUs. */
struct cpu_debug {
	struct cpu_debug_point point[CPU_DEBUG_POINTS];
	unsigned n_points;
	const uint64_t *int3;	/* linear addresses of the debugger's INT3s, ascending */
	unsigned n_int3;
};

/* Why vcpu_run returned VCPU_STOP_DEBUG.  At an INT3 and at EXEC the instruction has not been executed and RIP is its
 * address; the rest stops behind what was done. */
struct cpu_debug_stop {
	enum { CPU_STOP_STEP, CPU_STOP_INT3, CPU_STOP_EXEC, CPU_STOP_DATA } why;
	uint64_t lin;		/* DATA: of the point */
	enum cpu_debug_kind kind;	/* of the point */
};

static inline bool cpu_debug_has_int3(const struct cpu_debug *d, uint64_t lin)
{
	unsigned lo = 0, hi = d->n_int3;

	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (d->int3[mid] == lin)
			return true;
		if (d->int3[mid] < lin)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

#endif
