// SPDX-License-Identifier: GPL-2.0-or-later
/* See iso9660.h: two volume descriptors, two root folders, the files' sectors once. */
#include "vm/iso9660.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILES 12
#define MAX_NAME 60
#define MAX_BYTES (64u << 20)

/* Each folder is one sector: itself, the one above it, and each file by a name with a version, in UCS-2. */
_Static_assert(2 * 34 + MAX_FILES * (33 + 2 * (MAX_NAME + 2) + 1) <= ISO9660_SECTOR, "the files' records fit into a sector");

/* Sectors. */
enum { PRIMARY = 16, SUPPLEMENTARY, TERMINATOR, PATHS_L, PATHS_M, JOLIET_PATHS_L, JOLIET_PATHS_M, ROOT, JOLIET_ROOT, FILES };

static size_t sectors(size_t bytes) { return (bytes + ISO9660_SECTOR - 1) / ISO9660_SECTOR; }

static void put_be(uint8_t *p, uint32_t v, unsigned bytes)
{
	while (bytes--) {
		p[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static void put_le(uint8_t *p, uint32_t v, unsigned bytes)
{
	for (; bytes--; v >>= 8)
		*p++ = (uint8_t)v;
}

/* Both byte orders, one after the other (7.2.3, 7.3.3). */
static void put_both(uint8_t *p, uint32_t v, unsigned bytes)
{
	put_le(p, v, bytes);
	put_be(p + bytes, v, bytes);
}

/* Text as the descriptor has it: bytes, or in the Joliet one UCS-2.  Fields are filled up with spaces.  How many bytes the text has. */
static size_t put_text(uint8_t *p, size_t room, const char *text, bool joliet)
{
	size_t n = strlen(text), step = joliet ? 2 : 1;

	for (size_t i = 0; i + step <= room; i += step) {
		char c = i / step < n ? text[i / step] : ' ';

		p[i] = joliet ? 0 : (uint8_t)c;
		p[i + step - 1] = (uint8_t)c;
	}
	return n * step;
}

/* A record of a folder (9.1); its length. */
static size_t put_record(uint8_t *p, uint32_t sector, uint32_t bytes, bool folder, const void *name, size_t name_len)
{
	static const uint8_t day[7] = { 80, 1, 1 };	/* 1980-01-01: when it is made is of no interest, and would make a difference */
	size_t len = 33 + name_len + !(name_len & 1);

	memset(p, 0, len);
	p[0] = (uint8_t)len;
	put_both(p + 2, sector, 4);
	put_both(p + 10, bytes, 4);
	memcpy(p + 18, day, sizeof(day));
	p[25] = folder ? 2 : 0;
	put_both(p + 28, 1, 2);
	p[32] = (uint8_t)name_len;
	memcpy(p + 33, name, name_len);
	return len;
}

/* 8.4, 8.5 */
static void put_descriptor(uint8_t *p, const char *volume, uint32_t total, bool joliet)
{
	static const struct { uint16_t at, len; } texts[] = { { 8, 32 }, { 190, 128 }, { 318, 128 }, { 446, 128 }, { 574, 128 }, { 702, 37 }, { 739, 37 }, { 776, 37 } };

	p[0] = joliet ? 2 : 1;
	memcpy(p + 1, "CD001\1", 6);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		put_text(p + texts[i].at, texts[i].len, "", joliet);
	put_text(p + 40, 32, volume, joliet);
	put_both(p + 80, total, 4);
	if (joliet)
		memcpy(p + 88, "%/E", 3);	/* UCS-2, level 3 */
	put_both(p + 120, 1, 2);
	put_both(p + 124, 1, 2);
	put_both(p + 128, ISO9660_SECTOR, 2);
	put_both(p + 132, 10, 4);
	put_le(p + 140, joliet ? JOLIET_PATHS_L : PATHS_L, 4);
	put_be(p + 148, joliet ? JOLIET_PATHS_M : PATHS_M, 4);
	put_record(p + 156, joliet ? JOLIET_ROOT : ROOT, ISO9660_SECTOR, true, "", 1);
	for (unsigned i = 0; i < 4; i++)
		memset(p + 813 + 17 * i, '0', 16);	/* dates: not given */
	p[881] = 1;
}

/* The one entry of a path table, the root's (9.4). */
static void put_paths(uint8_t *p, uint32_t root, bool big_endian)
{
	p[0] = 1;
	(big_endian ? put_be : put_le)(p + 2, root, 4);
	(big_endian ? put_be : put_le)(p + 6, 1, 2);
}

static void put_root(uint8_t *p, const struct iso9660_file *f, unsigned n, bool joliet)
{
	uint32_t at = joliet ? JOLIET_ROOT : ROOT, sector = FILES;

	p += put_record(p, at, ISO9660_SECTOR, true, "\0", 1);
	p += put_record(p, at, ISO9660_SECTOR, true, "\1", 1);
	for (unsigned i = 0; i < n; i++) {
		uint8_t name[128];
		char text[64] = "";
		size_t len;

		strncat(text, joliet ? f[i].name : f[i].short_name, MAX_NAME);
		strcat(text, joliet ? ";1" : ".;1");
		len = put_text(name, 0, text, joliet);
		put_text(name, len, text, joliet);
		p += put_record(p, sector, (uint32_t)f[i].len, false, name, len);
		sector += (uint32_t)sectors(f[i].len);
	}
}

uint8_t *iso9660_make(const char *volume, const struct iso9660_file *f, unsigned n, size_t *len)
{
	size_t total = FILES, bytes = 0, at = FILES;
	uint8_t *p;

	if (n > MAX_FILES)
		return NULL;
	for (unsigned i = 0; i < n; i++) {
		if (f[i].len > MAX_BYTES - bytes || strlen(f[i].name) > MAX_NAME)
			return NULL;
		bytes += f[i].len;
		total += sectors(f[i].len);
	}
	*len = total * ISO9660_SECTOR;
	p = calloc(total, ISO9660_SECTOR);
	if (!p)
		return NULL;
	put_descriptor(p + PRIMARY * ISO9660_SECTOR, volume, (uint32_t)total, false);
	put_descriptor(p + SUPPLEMENTARY * ISO9660_SECTOR, volume, (uint32_t)total, true);
	memcpy(p + TERMINATOR * ISO9660_SECTOR, "\377CD001\1", 7);
	put_paths(p + PATHS_L * ISO9660_SECTOR, ROOT, false);
	put_paths(p + PATHS_M * ISO9660_SECTOR, ROOT, true);
	put_paths(p + JOLIET_PATHS_L * ISO9660_SECTOR, JOLIET_ROOT, false);
	put_paths(p + JOLIET_PATHS_M * ISO9660_SECTOR, JOLIET_ROOT, true);
	put_root(p + ROOT * ISO9660_SECTOR, f, n, false);
	put_root(p + JOLIET_ROOT * ISO9660_SECTOR, f, n, true);
	for (unsigned i = 0; i < n; i++) {
		if (f[i].len)
			memcpy(p + at * ISO9660_SECTOR, f[i].data, f[i].len);
		at += sectors(f[i].len);
	}
	return p;
}
