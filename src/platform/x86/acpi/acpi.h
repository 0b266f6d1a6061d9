/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ACPI tables of both machines, as one block of bytes for a given address.
 * A pure function of its configuration: tests need no machine.
 */
#ifndef LODGE_PLATFORM_X86_ACPI_ACPI_H
#define LODGE_PLATFORM_X86_ACPI_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "platform/x86/acpi/aml.h"
#include "platform/x86/numa.h"

enum acpi_tpm { ACPI_TPM_NONE, ACPI_TPM_TIS, ACPI_TPM_CRB };

#define ACPI_MAX_MEMORY_TO_COME 8

/* A floppy drive, and the largest medium it takes. kind: as CMOS numbers them, 0: none */
struct acpi_floppy {
	uint8_t kind, cylinders, heads, sectors;
};

struct acpi_config {
	bool reduced;			/* micro: reduced hardware */
	unsigned n_vcpus;		/* that there may be */
	bool cpu_hotplug;		/* they come and go */
	uint64_t cpus_absent;		/* a bit for each that is not there now */
	unsigned serial;		/* bit n: COM(n+1) exists */
	/* pc: what the root bridge passes on (size 0: nothing), where the configuration window is (0: it
	 * is off), the 8259's inputs of PIRQ A to D. */
	struct { uint32_t base, size; } pci32[2];
	uint64_t pci64_base, pci64_size;
	uint64_t ecam_base;
	unsigned ecam_buses;		/* 1 to 256, also without a window */
	uint8_t pic_irq[4];
	unsigned n_mmio;		/* micro: virtio-mmio slots in use */
	enum acpi_tpm tpm;		/* pc */
	/* pc: cards of the root bus come and go, those of these slots, a bit for each; and numbers below 32 that root ports' slots show. */
	bool pci_hotplug;
	uint32_t slots, root_port_numbers;
	bool vmgenid;
	struct acpi_floppy floppy[2];	/* pc; both 0: no controller either */
	struct platform_numa numa;
	/* Where memory may appear later, and on which node (0 without nodes): guest-physical, bytes.  Makes an SRAT also without nodes. */
	struct { uint64_t base, size; unsigned node; } memory_to_come[ACPI_MAX_MEMORY_TO_COME];
	unsigned n_memory_to_come;
};

/*
 * Builds RSDP, XSDT, FADT, FACS, DSDT, MADT, with nodes SRAT and SLIT, and for pc MCFG, HPET, WAET, TPM2, to
 * be put at guest-physical address base (64-byte aligned, below 4 GiB).  The
 * RSDP is the first thing.  0, or -ENOMEM; the caller frees *out with aml_free.
 */
int acpi_build(const struct acpi_config *c, uint64_t base, struct aml *out);

/* What a loader has to put right once it knows where the block lies: the pointers in it, which are
 * relative to ACPI_TABLES, and the checksums, which are zero.  Offsets are into the block. */
#define ACPI_RSDP_LEN 36
#define ACPI_TABLES 64		/* where the tables begin, after the RSDP */
#define ACPI_MAX_POINTERS 24
#define ACPI_MAX_SUMS 16
#define ACPI_TPM_LOG 65536u
struct acpi_fixups {
	/* to_log: what it points at is not in the block but the log of the TPM's measurements, of ACPI_TPM_LOG bytes. */
	struct { uint32_t off; uint8_t size; bool to_log; } pointer[ACPI_MAX_POINTERS];
	struct { uint32_t start, len, at; } sum[ACPI_MAX_SUMS];
	unsigned n_pointers, n_sums;
};
/* The same block for an address that is not known yet. */
int acpi_build_relocatable(const struct acpi_config *c, struct aml *out, struct acpi_fixups *fix);

/* cpus.c: processors, in the scope \_SB; a call of the method that looks what has come and should go; a processor's entry in the MADT. */
void acpi_cpus(const struct acpi_config *c, struct aml *a);
void acpi_cpus_scan(struct aml *a);
void acpi_cpu_entry(struct aml *a, unsigned id, uint32_t flags);
#define ACPI_CPU_ENABLED 1u
#define ACPI_CPU_ONLINE_CAPABLE 2u

/* slots.c: slots of the root bus, in the scope of the root bridge; a call of the method that looks which cards have come and should go. */
void acpi_slots(const struct acpi_config *c, struct aml *a);
void acpi_slots_scan(struct aml *a);

/* numa.c: the two tables without their headers; whether there is the first.  The second is there if there are nodes. */
bool acpi_has_srat(const struct acpi_config *c);
void acpi_srat(const struct acpi_config *c, struct aml *a);
void acpi_slit(const struct acpi_config *c, struct aml *a);

/* dsdt.c: the definition block's AML, without table header. */
void acpi_dsdt(const struct acpi_config *c, struct aml *a);

#endif
