/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arithmetic on numbers a guest, a file or a peer supplied.  True means the
 * result overflowed and *out must not be used. */
#ifndef LODGE_BASE_CHECKED_H
#define LODGE_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_add_overflow(a, b, out);
}
static inline bool mul_overflows(uint64_t a, uint64_t b, uint64_t *out)
{
	return __builtin_mul_overflow(a, b, out);
}
/* Is [off, off+len) inside [0, size)?  An empty range at the end is. */
static inline bool range_inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

#endif
