/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Data that is not zero shows it soon: its first, middle and last bytes are looked
 * at before anything else, which costs three cache lines of a block.  The rest goes
 * 128 bytes at a time, in vectors of what every host of this kind has.
 */
#include "base/zero.h"

#include <stdint.h>
#include <string.h>

#include "base/bits.h"

#define STEP 128

/* May lie anywhere; may alias whatever it lies over. */
typedef uint64_t vec __attribute__((vector_size(16), aligned(1), may_alias));

static bool step_is_zero(const uint8_t *p)
{
	const vec *v = (const vec *)p;
	vec a = (v[0] | v[1]) | (v[2] | v[3]), b = (v[4] | v[5]) | (v[6] | v[7]);

	a |= b;
	return !(a[0] | a[1]);
}

bool mem_is_zero(const void *mem, size_t len)
{
	const uint8_t *p = mem, *end = p + len;

	if (len < STEP) {
		while (p < end)
			if (*p++)
				return false;
		return true;
	}
	if (ld_le64(p) || ld_le64(p + len / 2) || ld_le64(end - 8))
		return false;
	for (; p + STEP <= end; p += STEP)
		if (!step_is_zero(p))
			return false;
	/* The last ones may be looked at twice. */
	return step_is_zero(end - STEP);
}
