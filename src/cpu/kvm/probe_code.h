/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest code the probe runs.  Every piece ends with a port write of a
 * result: 'K' (0x4b) in AL if everything was as it should be.
 */
#ifndef LODGE_CPU_KVM_PROBE_CODE_H
#define LODGE_CPU_KVM_PROBE_CODE_H

#include <stddef.h>
#include <stdint.h>

#define PROBE_PORT 0x10
#define PROBE_OK 0x4b
#define PROBE_LOOPS 100000u	/* in each long-mode piece */

struct probe_code {
	const char *name;	/* "in real mode" */
	const uint8_t *start;
	size_t len;
};

enum { PROBE_REAL, PROBE_RING0, PROBE_RING3, PROBE_N };

extern const struct probe_code probe_code[PROBE_N];

/* The loop of the long-mode pieces, natively: host nanoseconds. */
uint64_t probe_native_ns(void);

#endif
