/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing AML (ACPI 6.5, chapter 20) and resource descriptors (6.4).
 *
 * A growing byte buffer; a call appends one term.  Terms with a length are
 * opened by a function that returns a mark and closed by aml_end(mark).
 * Running out of memory sets `failed` and makes the rest harmless: the caller
 * checks once.
 */
#ifndef LODGE_PLATFORM_X86_ACPI_AML_H
#define LODGE_PLATFORM_X86_ACPI_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct aml {
	uint8_t *buf;
	size_t len, cap;
	bool failed;
};

void aml_free(struct aml *a);

/* Plain bytes and little-endian numbers of n bytes. */
void aml_bytes(struct aml *a, const void *p, size_t n);
void aml_num(struct aml *a, uint64_t v, unsigned n);
void aml_zero(struct aml *a, size_t n);
/* Overwrites n bytes at off. */
void aml_patch(struct aml *a, size_t off, uint64_t v, unsigned n);

/* Names: "\\_SB.PCI0", "_HID"; segments shorter than four are padded. */
void aml_path(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
void aml_str(struct aml *a, const char *s);
void aml_eisaid(struct aml *a, const char *id);		/* "PNP0A08" */
void aml_buffer(struct aml *a, const void *p, size_t n);

size_t aml_scope(struct aml *a, const char *name);
size_t aml_device(struct aml *a, const char *name);
size_t aml_method(struct aml *a, const char *name, unsigned args, bool serialized);
size_t aml_package(struct aml *a, unsigned elements);
size_t aml_if(struct aml *a);				/* predicate follows, then the body */
size_t aml_else(struct aml *a);
size_t aml_while(struct aml *a);			/* as aml_if */
size_t aml_field(struct aml *a, const char *region, uint8_t flags);
void aml_end(struct aml *a, size_t mark);

void aml_name(struct aml *a, const char *name);		/* the object follows */
void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_str(struct aml *a, const char *name, const char *s);
void aml_name_eisaid(struct aml *a, const char *name, const char *id);
void aml_region(struct aml *a, const char *name, uint8_t space, uint64_t off, uint64_t len);
void aml_mutex(struct aml *a, const char *name);
void aml_acquire(struct aml *a, const char *name);	/* waits as long as it takes */
void aml_release(struct aml *a, const char *name);
void aml_field_unit(struct aml *a, const char *name, unsigned bits);	/* name NULL: skip */

/* Opcodes used by hand. */
#define AML_ONES 0xff
#define AML_LOCAL0 0x60
#define AML_LOCAL1 0x61
#define AML_ARG(n) (0x68 + (n))
#define AML_STORE 0x70
#define AML_AND 0x7b
#define AML_OR 0x7d
#define AML_CREATE_DWORD 0x8a
#define AML_NOTIFY 0x86
#define AML_LEQUAL 0x93
#define AML_LNOT 0x92
#define AML_RETURN 0xa4
static inline void aml_op(struct aml *a, uint8_t op) { aml_num(a, op, 1); }

/* Resource templates: begin, descriptors, end; appear as a Buffer. */
size_t aml_crs_begin(struct aml *a);
void aml_crs_end(struct aml *a, size_t mark);
void aml_crs_io(struct aml *a, uint16_t base, uint8_t len);
void aml_crs_irq(struct aml *a, unsigned irq);			/* ISA: edge, active high */
void aml_crs_dma(struct aml *a, unsigned channel);		/* ISA: bytes, no bus master */
void aml_crs_mem32(struct aml *a, uint32_t base, uint32_t len);
void aml_crs_interrupt(struct aml *a, uint32_t gsi, bool level, bool shared);
/* Windows a bridge passes on. */
void aml_crs_bus(struct aml *a, uint16_t first, uint16_t last);
void aml_crs_window_io(struct aml *a, uint16_t first, uint16_t last);
void aml_crs_window_mem32(struct aml *a, uint32_t first, uint32_t last);
void aml_crs_window_mem64(struct aml *a, uint64_t first, uint64_t last);

#endif
