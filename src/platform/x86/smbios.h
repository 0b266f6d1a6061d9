/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SMBIOS tables (DMTF DSP0134, 3.6): who made this machine and what is in it.
 * A pure function of its configuration.
 */
#ifndef LODGE_PLATFORM_X86_SMBIOS_H
#define LODGE_PLATFORM_X86_SMBIOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/x86/acpi/aml.h"

#define SMBIOS_MAX_OEM 16
#define SMBIOS_TEXT 2048

/* Texts of structures 0 to 3, in the order of the table in smbios.c, and those of structure 11. */
enum { SMBIOS_BIOS = 0, SMBIOS_SYSTEM = 3, SMBIOS_BOARD = 9, SMBIOS_CHASSIS = 15, SMBIOS_N_TEXTS = 20 };

/* What the user has said; offsets into text, 0: not said. */
struct smbios_user {
	char text[SMBIOS_TEXT];
	unsigned used;
	uint16_t at[SMBIOS_N_TEXTS], oem[SMBIOS_MAX_OEM];
	unsigned n_oem;
};

/* A field by QEMU's name ("manufacturer", "value"...).  The text is copied.  -ENOENT: no such field; -E2BIG: no room. */
int smbios_user_set(struct smbios_user *u, unsigned type, const char *name, const char *val);

struct smbios_config {
	const struct smbios_user *user;	/* NULL: nothing said */

	const char *machine;		/* "pc" */
	const char *name;		/* VM name; may be NULL */
	const uint8_t *uuid;		/* 16 bytes in RFC 4122 order; all zero: not set */
	unsigned sockets, cores, threads;	/* cores and threads of each socket */
	uint64_t mem_low, mem_high;	/* RAM from 0 and from 4 GiB, bytes */
	bool no_bios;			/* without structure 0: the firmware tells of itself */
};

/* In the block: the 3.0 entry point is first; then come the 2.x one and the structures. */
#define SMBIOS_ENTRY2 0x20
#define SMBIOS_ENTRY2_LEN 0x1f
#define SMBIOS_TABLE 0x40

/* Entry points (3.0 and 2.x) and structures for guest-physical address base
 * (16-byte aligned, in the F segment).  0 or -ENOMEM; free *out with aml_free. */
int smbios_build(const struct smbios_config *c, uint64_t base, struct aml *out);

#endif
