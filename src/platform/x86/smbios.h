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

struct smbios_config {
	const char *machine;		/* "pc" */
	const char *name;		/* VM name; may be NULL */
	const uint8_t *uuid;		/* 16 bytes in RFC 4122 order; all zero: not set */
	unsigned n_vcpus;
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
