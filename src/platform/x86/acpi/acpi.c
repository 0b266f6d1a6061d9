// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The fixed-format ACPI tables (ACPI 6.5, chapter 5; MCFG: PCI Firmware 3.3,
 * 4.1.2; HPET: IA-PC HPET 1.0a, 3.2.4; WAET: Windows ACPI Emulated Devices
 * Table).  Tables are appended to one buffer, each aligned to 64 bytes.
 */
#include "platform/x86/acpi/acpi.h"

#include <errno.h>
#include <string.h>

#include "base/bits.h"
#include "chipset/acpi_ged.h"
#include "chipset/acpi_pm.h"
#include "chipset/tpm_crb.h"
#include "machine/machine.h"
#include "platform/x86/layout.h"

#define TABLE_ALIGN 64
#define RSDP_LEN ACPI_RSDP_LEN
#define MAX_TABLES 10

enum { GAS_MEM = 0, GAS_IO = 1 };

struct build {
	const struct acpi_config *c;
	struct aml *a;
	uint64_t base;
	uint64_t table[MAX_TABLES];	/* what the XSDT lists */
	unsigned n;
	struct acpi_fixups *fix;	/* or NULL */
};

static void align(struct aml *a)
{
	aml_zero(a, align_up(a->len, TABLE_ALIGN) - a->len);
}

static uint8_t checksum(const uint8_t *p, size_t n)
{
	uint8_t sum = 0;

	while (n--)
		sum = (uint8_t)(sum + *p++);
	return (uint8_t)-sum;
}

/* A pointer of `size` bytes into the block: value is base plus the offset of what it points at. */
static void pointer(struct build *b, uint64_t value, unsigned size)
{
	struct acpi_fixups *f = b->fix;

	if (f && f->n_pointers < ACPI_MAX_POINTERS) {
		f->pointer[f->n_pointers].off = (uint32_t)b->a->len;
		f->pointer[f->n_pointers++].size = (uint8_t)size;
	}
	aml_num(b->a, value, size);
}

/* The byte at `at` makes the sum of [start, start+len) zero: now, or when the loader does it. */
static void sum(struct build *b, size_t start, size_t len, size_t at)
{
	struct acpi_fixups *f = b->fix;

	if (b->a->failed)
		return;
	if (!f) {
		b->a->buf[at] = checksum(b->a->buf + start, len);
	} else if (f->n_sums < ACPI_MAX_SUMS) {
		f->sum[f->n_sums].start = (uint32_t)start;
		f->sum[f->n_sums].len = (uint32_t)len;
		f->sum[f->n_sums++].at = (uint32_t)at;
	}
}

static size_t table_begin(struct build *b, const char *sig, uint8_t rev)
{
	size_t at;

	align(b->a);
	at = b->a->len;
	aml_bytes(b->a, sig, 4);
	aml_num(b->a, 0, 4);		/* length */
	aml_num(b->a, rev, 1);
	aml_num(b->a, 0, 1);		/* checksum */
	aml_bytes(b->a, "LODGE ", 6);
	aml_bytes(b->a, b->c->reduced ? "MICRO   " : "PC      ", 8);
	aml_num(b->a, 1, 4);
	aml_bytes(b->a, "LODG", 4);
	aml_num(b->a, 1, 4);
	return at;
}

static void table_end(struct build *b, size_t at)
{
	struct aml *a = b->a;

	aml_patch(a, at + 4, a->len - at, 4);
	sum(b, at, a->len - at, at + 9);
}

static void list(struct build *b, size_t at)
{
	b->table[b->n++] = b->base + at;
}

static void gas(struct aml *a, uint8_t space, unsigned bytes, uint64_t addr)
{
	aml_num(a, addr ? space : 0, 1);
	aml_num(a, addr ? bytes * 8 : 0, 1);
	aml_num(a, 0, 1);
	/* Access size: 1 byte, 2 word, 3 dword; blocks of bytes are read bytewise. */
	aml_num(a, !addr ? 0 : bytes == 2 ? 2 : bytes == 4 ? 3 : 1, 1);
	aml_num(a, addr, 8);
}

static size_t facs(struct build *b)
{
	size_t at;

	align(b->a);
	at = b->a->len;
	aml_bytes(b->a, "FACS", 4);
	aml_num(b->a, 64, 4);
	aml_zero(b->a, 24);
	aml_num(b->a, 2, 1);		/* version */
	aml_zero(b->a, 31);
	return at;
}

static size_t dsdt(struct build *b)
{
	size_t at = table_begin(b, "DSDT", 2);

	acpi_dsdt(b->c, b->a);
	table_end(b, at);
	return at;
}

/* FADT offsets 36..111: addresses as 32 bits and interrupt model. */
static void fadt_head(struct build *b, size_t facs_at, size_t dsdt_at)
{
	struct aml *a = b->a;
	bool pc = !b->c->reduced;

	if (pc)
		pointer(b, b->base + facs_at, 4);
	else
		aml_num(a, 0, 4);
	pointer(b, b->base + dsdt_at, 4);
	aml_num(a, 0, 1);
	aml_num(a, 4, 1);				/* profile: enterprise server */
	aml_num(a, LAYOUT_GSI_SCI, 2);
	aml_num(a, pc ? LAYOUT_PORT_SMI : 0, 4);
	aml_num(a, pc ? ACPI_PM_ENABLE : 0, 1);
	aml_num(a, pc ? ACPI_PM_DISABLE : 0, 1);
	aml_num(a, 0, 2);
	aml_num(a, pc ? LAYOUT_PORT_PM : 0, 4);		/* PM1a event */
	aml_num(a, 0, 4);
	aml_num(a, pc ? LAYOUT_PORT_PM + 4 : 0, 4);	/* PM1a control */
	aml_num(a, 0, 8);
	aml_num(a, pc ? LAYOUT_PORT_PM + 8 : 0, 4);	/* PM timer */
	aml_num(a, pc ? LAYOUT_PORT_PM + 0x20 : 0, 4);	/* GPE0 */
	aml_num(a, 0, 4);
	aml_num(a, pc ? 4 : 0, 1);
	aml_num(a, pc ? 2 : 0, 1);
	aml_num(a, 0, 1);
	aml_num(a, pc ? 4 : 0, 1);
	aml_num(a, pc ? ACPI_PM_GPE_LEN : 0, 1);
	aml_num(a, 0, 3);
	aml_num(a, 0xfff, 2);				/* no C2 */
	aml_num(a, 0xfff, 2);				/* no C3 */
	aml_zero(a, 8);
	aml_num(a, pc ? 0x32 : 0, 1);			/* CMOS index of the century */
	/* Boot architecture: legacy devices, 8042; no VGA. */
	aml_num(a, pc ? 0x0007 : 0x0004, 2);
	aml_num(a, 0, 1);
}

/* FADT offsets 112..: flags and generic addresses. */
static void fadt_tail(struct build *b, size_t dsdt_at)
{
	enum { WBINVD = 1 << 0, PROC_C1 = 1 << 2, NO_FIXED_PWR = 1 << 4, NO_FIXED_SLP = 1 << 5,
	       TMR_32 = 1 << 8, RESET_SUP = 1 << 10, REDUCED = 1 << 20 };
	struct aml *a = b->a;
	bool pc = !b->c->reduced;

	aml_num(a, WBINVD | PROC_C1 | NO_FIXED_SLP | RESET_SUP | (pc ? TMR_32 : NO_FIXED_PWR | REDUCED), 4);
	gas(a, pc ? GAS_IO : GAS_MEM, 1, pc ? LAYOUT_PORT_RESET : LAYOUT_GED + ACPI_GED_RESET);
	aml_num(a, pc ? 0x06 : ACPI_GED_RESET_VALUE, 1);
	aml_num(a, 0, 2);
	aml_num(a, 5, 1);				/* minor version: 6.5 */
	aml_num(a, 0, 8);				/* FACS: the 32-bit address holds (5.2.9: never both) */
	pointer(b, b->base + dsdt_at, 8);
	gas(a, GAS_IO, 4, pc ? LAYOUT_PORT_PM : 0);
	gas(a, GAS_IO, 0, 0);
	gas(a, GAS_IO, 2, pc ? LAYOUT_PORT_PM + 4 : 0);
	gas(a, GAS_IO, 0, 0);
	gas(a, GAS_IO, 0, 0);
	gas(a, GAS_IO, 4, pc ? LAYOUT_PORT_PM + 8 : 0);
	gas(a, GAS_IO, ACPI_PM_GPE_LEN, pc ? LAYOUT_PORT_PM + 0x20 : 0);
	gas(a, GAS_IO, 0, 0);
	gas(a, GAS_MEM, 1, pc ? 0 : LAYOUT_GED + ACPI_GED_SLEEP_CTL);
	gas(a, GAS_MEM, 1, pc ? 0 : LAYOUT_GED + ACPI_GED_SLEEP_STS);
	aml_num(a, 0, 8);
}

static void fadt(struct build *b)
{
	size_t facs_at = b->c->reduced ? 0 : facs(b), dsdt_at = dsdt(b), at = table_begin(b, "FACP", 6);

	fadt_head(b, facs_at, dsdt_at);
	fadt_tail(b, dsdt_at);
	table_end(b, at);
	list(b, at);
}

static void madt_override(struct aml *a, unsigned irq, unsigned gsi, unsigned flags)
{
	aml_num(a, 0x0a02, 2);
	aml_num(a, 0, 1);
	aml_num(a, irq, 1);
	aml_num(a, gsi, 4);
	aml_num(a, flags, 2);
}

static void madt(struct build *b)
{
	struct aml *a = b->a;
	size_t at = table_begin(b, "APIC", 5);

	aml_num(a, LAYOUT_LAPIC, 4);
	aml_num(a, !b->c->reduced, 4);	/* PC/AT compatible: an 8259 is there */
	for (unsigned i = 0; i < b->c->n_vcpus; i++)
		acpi_cpu_entry(a, i, b->c->cpus_absent >> i & 1 ? ACPI_CPU_ONLINE_CAPABLE : ACPI_CPU_ENABLED);
	aml_num(a, 0x0c01, 2);
	aml_num(a, LAYOUT_IOAPIC_ID, 1);
	aml_num(a, 0, 1);
	aml_num(a, LAYOUT_IOAPIC, 4);
	aml_num(a, 0, 4);
	if (!b->c->reduced) {
		madt_override(a, 0, 2, 0);
		madt_override(a, LAYOUT_GSI_SCI, LAYOUT_GSI_SCI, 0x000d);	/* level, active high */
	}
	aml_num(a, 0x0604, 2);		/* LINT1 of every local APIC is NMI */
	aml_num(a, 0xff, 1);
	aml_num(a, 0, 2);
	aml_num(a, 1, 1);
	table_end(b, at);
	list(b, at);
}

static void mcfg(struct build *b)
{
	size_t at = table_begin(b, "MCFG", 1);

	aml_zero(b->a, 8);
	aml_num(b->a, b->c->ecam_base, 8);
	aml_num(b->a, 0, 2);
	aml_num(b->a, 0, 1);
	aml_num(b->a, b->c->ecam_buses - 1, 1);
	aml_zero(b->a, 4);
	table_end(b, at);
	list(b, at);
}

static void hpet(struct build *b)
{
	size_t at = table_begin(b, "HPET", 1);

	aml_num(b->a, 0x8086a201, 4);	/* as the chip's capability register: 3 timers, 64 bits, legacy */
	aml_num(b->a, 0x00004000, 4);	/* memory, 64 bits wide */
	aml_num(b->a, LAYOUT_HPET, 8);
	aml_num(b->a, 0, 1);
	aml_num(b->a, 128, 2);		/* least periodic ticks */
	aml_num(b->a, 0, 1);
	table_end(b, at);
	list(b, at);
}

/* The RTC needs no double reads, the PM timer no triple ones. */
static void waet(struct build *b)
{
	size_t at = table_begin(b, "WAET", 1);

	aml_num(b->a, 3, 4);
	table_end(b, at);
	list(b, at);
}

/* TCG ACPI Specification 1.2, 8: revision 4 has the place of the log. */
static void tpm2(struct build *b)
{
	enum { START_TIS = 6, START_CRB = 7 };
	bool crb = b->c->tpm == ACPI_TPM_CRB, log = b->fix && b->fix->n_pointers < ACPI_MAX_POINTERS;
	size_t at = table_begin(b, "TPM2", 4);

	aml_num(b->a, 0, 4);		/* client platform */
	aml_num(b->a, crb ? LAYOUT_TPM + TPM_CRB_CONTROL : 0, 8);
	aml_num(b->a, crb ? START_CRB : START_TIS, 4);
	aml_zero(b->a, 12);
	/* Only firmware measures what it starts. */
	aml_num(b->a, log ? ACPI_TPM_LOG : 0, 4);
	if (log) {
		b->fix->pointer[b->fix->n_pointers].off = (uint32_t)b->a->len;
		b->fix->pointer[b->fix->n_pointers].to_log = true;
		b->fix->pointer[b->fix->n_pointers++].size = 8;
	}
	aml_num(b->a, 0, 8);
	table_end(b, at);
	list(b, at);
}

static void numa(struct build *b)
{
	size_t at;

	if (acpi_has_srat(b->c)) {
		at = table_begin(b, "SRAT", 3);
		acpi_srat(b->c, b->a);
		table_end(b, at);
		list(b, at);
	}
	if (b->c->numa.n_nodes) {
		at = table_begin(b, "SLIT", 1);
		acpi_slit(b->c, b->a);
		table_end(b, at);
		list(b, at);
	}
}

static size_t xsdt(struct build *b)
{
	size_t at = table_begin(b, "XSDT", 1);

	for (unsigned i = 0; i < b->n; i++)
		pointer(b, b->table[i], 8);
	table_end(b, at);
	return at;
}

/* ACPI 2.0 RSDP; no RSDT, so the 1.0 pointer is zero. */
static void rsdp(struct build *b, size_t xsdt_at)
{
	uint8_t *p = b->a->buf;

	if (b->a->failed)
		return;
	memcpy(p, "RSD PTR ", 8);
	memcpy(p + 9, "LODGE ", 6);
	p[15] = 2;
	st_le32(p + 20, RSDP_LEN);
	st_le64(p + 24, b->base + xsdt_at);
	if (b->fix) {
		b->fix->pointer[b->fix->n_pointers].off = 24;
		b->fix->pointer[b->fix->n_pointers++].size = 8;
	}
	sum(b, 0, 20, 8);
	sum(b, 0, RSDP_LEN, 32);
}

static int build(const struct acpi_config *c, uint64_t base, struct aml *out, struct acpi_fixups *fix)
{
	struct build b = { .c = c, .a = out, .base = base, .fix = fix };

	*out = (struct aml){ 0 };
	aml_zero(out, RSDP_LEN);
	fadt(&b);
	madt(&b);
	numa(&b);
	if (!c->reduced) {
		if (c->ecam_base)
			mcfg(&b);
		hpet(&b);
		waet(&b);
		if (c->tpm)
			tpm2(&b);
	}
	rsdp(&b, xsdt(&b));
	if (!out->failed)
		return 0;
	aml_free(out);
	return -ENOMEM;
}

int acpi_build(const struct acpi_config *c, uint64_t base, struct aml *out)
{
	return build(c, base, out, NULL);
}

int acpi_build_relocatable(const struct acpi_config *c, struct aml *out, struct acpi_fixups *fix)
{
	*fix = (struct acpi_fixups){ 0 };
	return build(c, -(uint64_t)ACPI_TABLES, out, fix);
}
