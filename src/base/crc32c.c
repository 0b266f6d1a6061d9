/* SPDX-License-Identifier: GPL-2.0-or-later */
/* By the processor's instruction where there is one, else four bits at a time. */
#include "base/crc32c.h"

#include <string.h>

static uint32_t crc32c_slow(uint32_t crc, const uint8_t *p, size_t len)
{
	/* Of the numbers 0 to 15 as four bits, reflected polynomial 0x82f63b78. */
	static const uint32_t nibble[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3, 0x61c69362, 0x7198540d,
		0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9, 0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};

	while (len--) {
		crc ^= *p++;
		crc = crc >> 4 ^ nibble[crc & 15];
		crc = crc >> 4 ^ nibble[crc & 15];
	}
	return crc;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_fast(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t c = crc, word;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		c = __builtin_ia32_crc32di(c, word);
	}
	while (len--)
		c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
	return (uint32_t)c;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	crc = ~crc;
	crc = __builtin_cpu_supports("sse4.2") ? crc32c_fast(crc, data, len) : crc32c_slow(crc, data, len);
	return ~crc;
}
