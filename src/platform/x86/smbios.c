// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * SMBIOS structures 0 to 4, 11, 16, 17, 19, 32 and 127.  A structure is a
 * formatted area followed by its strings, numbered from 1, and a double NUL.
 */
#include "platform/x86/smbios.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bits.h"
#include "platform/x86/layout.h"

#define ENTRY3 0x00		/* offsets in the block */
#define ENTRY2 SMBIOS_ENTRY2
#define TABLE SMBIOS_TABLE
#define MAX_DIMM (16 * LAYOUT_GIB)
#define MAX_STRINGS SMBIOS_MAX_OEM

static const struct {
	uint8_t type;
	const char *name;
} texts[SMBIOS_N_TEXTS] = {
	[SMBIOS_BIOS] = { 0, "vendor" }, { 0, "version" }, { 0, "date" },
	[SMBIOS_SYSTEM] = { 1, "manufacturer" }, { 1, "product" }, { 1, "version" }, { 1, "serial" }, { 1, "sku" }, { 1, "family" },
	[SMBIOS_BOARD] = { 2, "manufacturer" }, { 2, "product" }, { 2, "version" }, { 2, "serial" }, { 2, "asset" }, { 2, "location" },
	[SMBIOS_CHASSIS] = { 3, "manufacturer" }, { 3, "version" }, { 3, "serial" }, { 3, "asset" }, { 3, "sku" },
};

int smbios_user_set(struct smbios_user *u, unsigned type, const char *name, const char *val)
{
	size_t len = strlen(val) + 1;
	uint16_t *at = NULL;

	for (unsigned i = 0; i < SMBIOS_N_TEXTS; i++)
		if (texts[i].type == type && !strcmp(texts[i].name, name))
			at = &u->at[i];
	if (type == 11 && !strcmp(name, "value") && u->n_oem < SMBIOS_MAX_OEM)
		at = &u->oem[u->n_oem++];
	if (!at)
		return -ENOENT;
	u->used = u->used ? u->used : 1;	/* offset 0 means none */
	if (len > sizeof(u->text) - u->used)
		return -E2BIG;
	memcpy(u->text + u->used, val, len);
	*at = (uint16_t)u->used;
	u->used += (unsigned)len;
	return 0;
}

/* What the user has said, or else this. */
static const char *said(const struct smbios_config *c, unsigned which, const char *otherwise)
{
	return c->user && c->user->at[which] ? c->user->text + c->user->at[which] : otherwise;
}

struct smb {
	struct aml *a;
	size_t start;			/* of the structure being written */
	const char *str[MAX_STRINGS];
	unsigned n_str, count;
	size_t largest;
};

static void begin(struct smb *s, uint8_t type, uint16_t handle)
{
	s->start = s->a->len;
	s->n_str = 0;
	aml_num(s->a, type, 1);
	aml_num(s->a, 0, 1);		/* length */
	aml_num(s->a, handle, 2);
}

/* A string field: its number; text empty: none. */
static void string(struct smb *s, const char *text)
{
	if (!text || !*text || s->n_str == MAX_STRINGS) {
		aml_num(s->a, 0, 1);
		return;
	}
	s->str[s->n_str++] = text;
	aml_num(s->a, s->n_str, 1);
}

static void end(struct smb *s)
{
	aml_patch(s->a, s->start + 1, s->a->len - s->start, 1);
	for (unsigned i = 0; i < s->n_str; i++)
		aml_bytes(s->a, s->str[i], strlen(s->str[i]) + 1);
	aml_zero(s->a, s->n_str ? 1 : 2);
	s->largest = MAX(s->largest, s->a->len - s->start);
	s->count++;
}

static void bios(struct smb *s, const struct smbios_config *c)
{
	begin(s, 0, 0);
	string(s, said(c, SMBIOS_BIOS, "Lodge"));
	string(s, said(c, SMBIOS_BIOS + 1, LODGE_VERSION));
	aml_num(s->a, 0xe000, 2);	/* segment */
	string(s, said(c, SMBIOS_BIOS + 2, "11/22/2026"));
	aml_num(s->a, 0, 1);		/* 64 KiB */
	aml_num(s->a, 1 << 3, 8);	/* characteristics not supported */
	aml_num(s->a, 1, 1);		/* ACPI */
	aml_num(s->a, 0x10, 1);		/* a virtual machine */
	aml_num(s->a, 0, 2);		/* release of firmware and controller: none */
	aml_num(s->a, 0xffff, 2);
	end(s);
}

/* The first three fields of a UUID are little endian here. */
static void uuid(struct smb *s, const uint8_t u[16])
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

	for (int i = 0; i < 16; i++)
		aml_num(s->a, u[order[i]], 1);
}

static void system_info(struct smb *s, const struct smbios_config *c)
{
	begin(s, 1, 0x100);
	string(s, said(c, SMBIOS_SYSTEM, "Lodge"));
	string(s, said(c, SMBIOS_SYSTEM + 1, c->machine));
	string(s, said(c, SMBIOS_SYSTEM + 2, LODGE_VERSION));
	string(s, said(c, SMBIOS_SYSTEM + 3, NULL));	/* serial number */
	uuid(s, c->uuid);
	aml_num(s->a, 6, 1);		/* woken by the power switch */
	string(s, said(c, SMBIOS_SYSTEM + 4, c->name));	/* SKU number: left for the VM's name */
	string(s, said(c, SMBIOS_SYSTEM + 5, "Virtual Machine"));
	end(s);
}

/* Only where the user has said something of it. */
static void board(struct smb *s, const struct smbios_config *c)
{
	bool any = false;

	for (unsigned i = SMBIOS_BOARD; i < SMBIOS_CHASSIS; i++)
		any |= said(c, i, NULL) != NULL;
	if (!any)
		return;
	begin(s, 2, 0x200);
	for (unsigned i = 0; i < 5; i++)
		string(s, said(c, SMBIOS_BOARD + i, i ? NULL : "Lodge"));
	aml_num(s->a, 1, 1);		/* a hosting board */
	string(s, said(c, SMBIOS_BOARD + 5, NULL));
	aml_num(s->a, 0x300, 2);	/* in this chassis */
	aml_num(s->a, 0x0a, 1);		/* motherboard */
	aml_num(s->a, 0, 1);
	end(s);
}

static void oem_strings(struct smb *s, const struct smbios_config *c)
{
	unsigned n = c->user ? c->user->n_oem : 0;

	if (!n)
		return;
	begin(s, 11, 0xe00);
	aml_num(s->a, n, 1);
	for (unsigned i = 0; i < n; i++)
		s->str[s->n_str++] = c->user->text + c->user->oem[i];
	end(s);
}

static void chassis(struct smb *s, const struct smbios_config *c)
{
	begin(s, 3, 0x300);
	string(s, said(c, SMBIOS_CHASSIS, "Lodge"));
	aml_num(s->a, 1, 1);		/* other */
	string(s, said(c, SMBIOS_CHASSIS + 1, LODGE_VERSION));
	string(s, said(c, SMBIOS_CHASSIS + 2, NULL));
	string(s, said(c, SMBIOS_CHASSIS + 3, NULL));
	aml_num(s->a, 0x02030303, 4);	/* states safe, security unknown */
	aml_num(s->a, 0, 4);
	aml_num(s->a, 0, 4);		/* height, power cords, no contained elements */
	string(s, said(c, SMBIOS_CHASSIS + 4, NULL));
	end(s);
}

static void processor(struct smb *s, const struct smbios_config *c, unsigned i, char socket[16])
{
	snprintf(socket, 16, "CPU %u", i);
	begin(s, 4, (uint16_t)(0x400 + i));
	string(s, socket);
	aml_num(s->a, 3, 1);		/* central processor */
	aml_num(s->a, 1, 1);		/* family: other */
	string(s, "Lodge");
	aml_num(s->a, 0, 8);		/* CPUID: ask the CPU itself */
	string(s, LODGE_VERSION);
	aml_num(s->a, 0, 1);
	aml_num(s->a, 0, 2);
	aml_num(s->a, 2000, 2);		/* MHz, nominal */
	aml_num(s->a, 2000, 2);
	aml_num(s->a, 0x41, 1);		/* populated, enabled */
	aml_num(s->a, 1, 1);
	aml_num(s->a, 0xffffffffffffull, 6);	/* no cache structures */
	aml_num(s->a, 0, 3);
	aml_num(s->a, c->cores, 1);	/* cores, those that are enabled, threads */
	aml_num(s->a, c->cores, 1);
	aml_num(s->a, c->threads, 1);
	aml_num(s->a, 0x4 | (c->cores > 1 ? 0x8 : 0) | (c->threads > c->cores ? 0x10 : 0), 2);	/* 64-bit, multi-core, threads */
	aml_num(s->a, 1, 2);
	aml_num(s->a, c->cores, 2);	/* again, with room for more */
	aml_num(s->a, c->cores, 2);
	aml_num(s->a, c->threads, 2);
	end(s);
}

static unsigned n_dimms(uint64_t size)
{
	return (unsigned)((size + MAX_DIMM - 1) / MAX_DIMM);
}

static void memory_array(struct smb *s, uint64_t size)
{
	begin(s, 16, 0x1000);
	aml_num(s->a, 0x060301, 3);	/* other place, system memory, multi-bit ECC */
	aml_num(s->a, 0x80000000, 4);	/* see the extended field */
	aml_num(s->a, 0xfffe, 2);
	aml_num(s->a, n_dimms(size), 2);
	aml_num(s->a, size, 8);
	end(s);
}

static void dimm(struct smb *s, unsigned i, uint64_t size, char slot[16])
{
	uint64_t mib = size / LAYOUT_MIB;

	snprintf(slot, 16, "DIMM %u", i);
	begin(s, 17, (uint16_t)(0x1100 + i));
	aml_num(s->a, 0x1000, 2);
	aml_num(s->a, 0xfffe, 2);
	aml_num(s->a, 0xffffffff, 4);	/* widths unknown */
	aml_num(s->a, mib < 0x7fff ? mib : 0x7fff, 2);
	aml_num(s->a, 0x09, 1);		/* DIMM */
	aml_num(s->a, 0, 1);
	string(s, slot);
	string(s, NULL);
	aml_num(s->a, 0x07, 1);		/* RAM */
	aml_num(s->a, 0x02, 2);
	aml_num(s->a, 0, 2);
	string(s, "Lodge");
	string(s, NULL);
	string(s, NULL);
	string(s, NULL);
	aml_num(s->a, 0, 1);
	aml_num(s->a, mib < 0x7fff ? 0 : mib, 4);
	aml_num(s->a, 0, 8);
	end(s);
}

static void mapped(struct smb *s, unsigned i, uint64_t at, uint64_t size)
{
	if (!size)
		return;
	begin(s, 19, (uint16_t)(0x1300 + i));
	aml_num(s->a, 0xffffffff, 4);	/* see the extended fields */
	aml_num(s->a, 0xffffffff, 4);
	aml_num(s->a, 0x1000, 2);
	aml_num(s->a, 1, 1);
	aml_num(s->a, at, 8);
	aml_num(s->a, at + size - 1, 8);
	end(s);
}

static void structures(struct smb *s, const struct smbios_config *c)
{
	uint64_t left = c->mem_low + c->mem_high;
	char text[16];

	if (!c->no_bios || said(c, SMBIOS_BIOS, NULL) || said(c, SMBIOS_BIOS + 1, NULL) || said(c, SMBIOS_BIOS + 2, NULL))
		bios(s, c);
	system_info(s, c);
	board(s, c);
	chassis(s, c);
	for (unsigned i = 0; i < c->sockets; i++)
		processor(s, c, i, text);
	memory_array(s, left);
	for (unsigned i = 0; left; i++) {
		dimm(s, i, MIN(left, MAX_DIMM), text);
		left -= MIN(left, MAX_DIMM);
	}
	mapped(s, 0, 0, c->mem_low);
	mapped(s, 1, LAYOUT_4G, c->mem_high);
	oem_strings(s, c);
	begin(s, 32, 0x2000);		/* boot status: no errors */
	aml_num(s->a, 0, 7);
	end(s);
	begin(s, 127, 0x7f00);
	end(s);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

static void entry3(uint8_t *p, uint64_t table, size_t len)
{
	memcpy(p, "_SM3_", 5);
	p[6] = 0x18;
	p[7] = 3;
	p[8] = 6;
	p[10] = 1;
	st_le32(p + 12, (uint32_t)len);
	st_le64(p + 16, table);
	p[5] = checksum(p, 0x18);
}

static void entry2(uint8_t *p, uint64_t table, size_t len, const struct smb *s)
{
	memcpy(p, "_SM_", 4);
	p[5] = 0x1f;
	p[6] = 2;
	p[7] = 8;
	st_le16(p + 8, (uint16_t)s->largest);
	memcpy(p + 16, "_DMI_", 5);
	st_le16(p + 22, (uint16_t)len);
	st_le32(p + 24, (uint32_t)table);
	st_le16(p + 28, (uint16_t)s->count);
	p[30] = 0x28;
	p[21] = checksum(p + 16, 15);
	p[4] = checksum(p, 0x1f);
}

int smbios_build(const struct smbios_config *c, uint64_t base, struct aml *out)
{
	struct smb s = { .a = out };

	*out = (struct aml){ 0 };
	aml_zero(out, TABLE);
	structures(&s, c);
	if (out->failed) {
		aml_free(out);
		return -ENOMEM;
	}
	entry3(out->buf + ENTRY3, base + TABLE, out->len - TABLE);
	entry2(out->buf + ENTRY2, base + TABLE, out->len - TABLE, &s);
	return 0;
}
