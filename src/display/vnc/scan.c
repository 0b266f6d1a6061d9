// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Looks at pixels four at a time, where most of a screen of text is: of one or two colours.  The upper byte of a pixel
 * means nothing.  SSE2, which every host of x86-64 has.
 */
#include <emmintrin.h>

#include "display/vnc/vnc_int.h"

#define COLOUR 0xffffffu

size_t vnc_scan_two(const uint32_t *px, size_t n, uint32_t a, uint32_t b)
{
	const __m128i mask = _mm_set1_epi32((int)COLOUR), va = _mm_set1_epi32((int)(a & COLOUR)), vb = _mm_set1_epi32((int)(b & COLOUR));
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		__m128i v = _mm_and_si128(_mm_loadu_si128((const __m128i *)(px + i)), mask);

		if (_mm_movemask_epi8(_mm_or_si128(_mm_cmpeq_epi32(v, va), _mm_cmpeq_epi32(v, vb))) != 0xffff)
			break;
	}
	while (i < n && (!((px[i] ^ a) & COLOUR) || !((px[i] ^ b) & COLOUR)))
		i++;
	return i;
}

/* Eight pixels, the first in the highest bit. */
static uint8_t eight(const uint32_t *px, __m128i mask, __m128i one)
{
	__m128i lo = _mm_and_si128(_mm_loadu_si128((const __m128i *)px), mask), hi = _mm_and_si128(_mm_loadu_si128((const __m128i *)(px + 4)), mask);

	lo = _mm_shuffle_epi32(_mm_cmpeq_epi32(lo, one), 0x1b);		/* backwards: movemask begins at the lowest bit */
	hi = _mm_shuffle_epi32(_mm_cmpeq_epi32(hi, one), 0x1b);
	return (uint8_t)_mm_movemask_epi8(_mm_packs_epi16(_mm_packs_epi32(hi, lo), _mm_setzero_si128()));
}

void vnc_scan_bits(const uint32_t *px, unsigned n, uint32_t one, uint8_t *to)
{
	const __m128i mask = _mm_set1_epi32((int)COLOUR), v = _mm_set1_epi32((int)(one & COLOUR));
	unsigned i = 0, byte = 0;

	for (; i + 8 <= n; i += 8)
		*to++ = eight(px + i, mask, v);
	for (unsigned k = i; k < n; k++)
		byte |= (unsigned)!((px[k] ^ one) & COLOUR) << (7 - (k - i));
	if (i < n)
		*to = (uint8_t)byte;
}
