// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Looks at pixels four at a time, where most of a screen of text is: of one or two colours, or of four.  The upper byte of
 * a pixel means nothing.  SSE2, which every host of x86-64 has.
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

size_t vnc_scan_four(const uint32_t *px, size_t n, const uint32_t c[4])
{
	const __m128i mask = _mm_set1_epi32((int)COLOUR), c0 = _mm_set1_epi32((int)(c[0] & COLOUR)), c1 = _mm_set1_epi32((int)(c[1] & COLOUR)),
		      c2 = _mm_set1_epi32((int)(c[2] & COLOUR)), c3 = _mm_set1_epi32((int)(c[3] & COLOUR));
	size_t i = 0;

	for (; i + 4 <= n; i += 4) {
		__m128i v = _mm_and_si128(_mm_loadu_si128((const __m128i *)(px + i)), mask);
		__m128i a = _mm_or_si128(_mm_cmpeq_epi32(v, c0), _mm_cmpeq_epi32(v, c1));
		__m128i b = _mm_or_si128(_mm_cmpeq_epi32(v, c2), _mm_cmpeq_epi32(v, c3));

		if (_mm_movemask_epi8(_mm_or_si128(a, b)) != 0xffff)
			break;
	}
	for (; i < n; i++)
		if ((px[i] ^ c[0]) & COLOUR && (px[i] ^ c[1]) & COLOUR && (px[i] ^ c[2]) & COLOUR && (px[i] ^ c[3]) & COLOUR)
			break;
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

/* Bit n of four to bit 6 - 2 n: the first pixel is in the lowest of movemask's bits and in the highest of the byte. */
static const uint8_t spread[16] = { 0x00, 0x40, 0x10, 0x50, 0x04, 0x44, 0x14, 0x54, 0x01, 0x41, 0x11, 0x51, 0x05, 0x45, 0x15, 0x55 };

void vnc_scan_indices(const uint32_t *px, unsigned n, const uint32_t *c, unsigned colours, uint8_t *to)
{
	const __m128i mask = _mm_set1_epi32((int)COLOUR), c1 = _mm_set1_epi32((int)(c[1] & COLOUR)), c2 = _mm_set1_epi32((int)(c[2] & COLOUR)),
		      c3 = _mm_set1_epi32((int)(c[colours - 1] & COLOUR)), four = _mm_set1_epi32(colours == 4 ? -1 : 0);
	unsigned i = 0, byte = 0;

	for (; i + 4 <= n; i += 4) {
		__m128i v = _mm_and_si128(_mm_loadu_si128((const __m128i *)(px + i)), mask), is3 = _mm_and_si128(_mm_cmpeq_epi32(v, c3), four);
		__m128i odd = _mm_or_si128(_mm_cmpeq_epi32(v, c1), is3), high = _mm_or_si128(_mm_cmpeq_epi32(v, c2), is3);

		*to++ = (uint8_t)(spread[_mm_movemask_ps(_mm_castsi128_ps(high))] << 1 | spread[_mm_movemask_ps(_mm_castsi128_ps(odd))]);
	}
	for (unsigned k = i; k < n; k++) {
		unsigned index = 0;

		while (index < colours && (px[k] ^ c[index]) & COLOUR)
			index++;
		byte |= (index < colours ? index : 0) << (6 - 2 * (k - i));
	}
	if (i < n)
		*to = (uint8_t)byte;
}
