/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A small CD image: some files in the root folder, with their names as they are (Joliet) and short ones for who knows
 * ISO 9660 alone.  The same files give the same bytes.  ECMA-119, and Microsoft's Joliet specification.
 */
#ifndef LODGE_VM_ISO9660_H
#define LODGE_VM_ISO9660_H

#include <stddef.h>
#include <stdint.h>

#define ISO9660_SECTOR 2048u

struct iso9660_file {
	const char *name;		/* ASCII, up to 60 characters */
	const char *short_name;		/* up to 8 of A-Z, 0-9 and _ */
	const void *data;
	size_t len;
};

/* The files by their names, both kinds in ascending order, 12 at most and 64 MiB together; volume: up to 16 characters.  malloc'ed; NULL: no memory,
 * or more than that. */
uint8_t *iso9660_make(const char *volume, const struct iso9660_file *f, unsigned n, size_t *len);

#endif
