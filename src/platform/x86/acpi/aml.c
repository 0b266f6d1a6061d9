// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AML byte code.  A mark remembers where the PkgLength of an open term goes:
 * aml_end inserts it in its shortest form, moving the body up; as inner terms
 * are closed first, marks of outer ones stay right.
 */
#include "platform/x86/acpi/aml.h"

#include <stdlib.h>
#include <string.h>

#include "base/bits.h"

static bool room(struct aml *a, size_t n)
{
	size_t cap = a->cap ? a->cap : 4096;
	uint8_t *p;

	if (a->failed)
		return false;
	while (cap < a->len + n)
		cap *= 2;
	if (cap == a->cap)
		return true;
	p = realloc(a->buf, cap);
	if (!p) {
		a->failed = true;
		return false;
	}
	a->buf = p;
	a->cap = cap;
	return true;
}

void aml_free(struct aml *a)
{
	free(a->buf);
	*a = (struct aml){ 0 };
}

void aml_bytes(struct aml *a, const void *p, size_t n)
{
	if (!n || !room(a, n))
		return;
	memcpy(a->buf + a->len, p, n);
	a->len += n;
}

void aml_num(struct aml *a, uint64_t v, unsigned n)
{
	aml_bytes(a, &v, n);
}

void aml_zero(struct aml *a, size_t n)
{
	if (!room(a, n))
		return;
	memset(a->buf + a->len, 0, n);
	a->len += n;
}

void aml_patch(struct aml *a, size_t off, uint64_t v, unsigned n)
{
	if (!a->failed && off + n <= a->len)
		memcpy(a->buf + off, &v, n);
}

static const char *name_seg(struct aml *a, const char *s)
{
	char seg[4] = { '_', '_', '_', '_' };
	unsigned n = 0;

	for (; *s && *s != '.'; s++)
		if (n < 4)
			seg[n++] = *s;
	aml_bytes(a, seg, 4);
	return *s ? s + 1 : s;
}

void aml_path(struct aml *a, const char *name)
{
	unsigned n = 1;

	for (; *name == '\\' || *name == '^'; name++)
		aml_num(a, (uint8_t)*name, 1);
	for (const char *p = name; *p; p++)
		n += *p == '.';
	if (n == 2)
		aml_num(a, 0x2e, 1);
	if (n > 2) {
		aml_num(a, 0x2f, 1);
		aml_num(a, n, 1);
	}
	while (*name)
		name = name_seg(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		aml_num(a, v, 1);
		return;
	}
	if (v == UINT64_MAX) {
		aml_num(a, AML_ONES, 1);
		return;
	}
	if (v >> 32) {
		aml_num(a, 0x0e, 1);
		aml_num(a, v, 8);
	} else if (v >> 16) {
		aml_num(a, 0x0c, 1);
		aml_num(a, v, 4);
	} else if (v >> 8) {
		aml_num(a, 0x0b, 1);
		aml_num(a, v, 2);
	} else {
		aml_num(a, 0x0a, 1);
		aml_num(a, v, 1);
	}
}

void aml_str(struct aml *a, const char *s)
{
	aml_num(a, 0x0d, 1);
	aml_bytes(a, s, strlen(s) + 1);
}

/* Three compressed letters and four hex digits, big endian (ACPI 6.5, 19.3.4). */
void aml_eisaid(struct aml *a, const char *id)
{
	uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 | (uint32_t)(id[2] - '@') << 16;

	v |= (uint32_t)strtoul(id + 3, NULL, 16);
	aml_num(a, 0x0c, 1);
	aml_num(a, __builtin_bswap32(v), 4);
}

void aml_end(struct aml *a, size_t mark)
{
	size_t body = a->len - mark, n = body + 1 < 64 ? 1 : body + 2 < 4096 ? 2 : body + 3 < 1 << 20 ? 3 : 4;
	size_t total = body + n;
	uint8_t enc[4];

	if (a->failed || !room(a, n))
		return;
	enc[0] = n == 1 ? (uint8_t)total : (uint8_t)((n - 1) << 6 | (total & 15));
	for (size_t i = 1; i < n; i++)
		enc[i] = (uint8_t)(total >> (8 * i - 4));
	memmove(a->buf + mark + n, a->buf + mark, body);
	memcpy(a->buf + mark, enc, n);
	a->len += n;
}

void aml_buffer(struct aml *a, const void *p, size_t n)
{
	size_t mark;

	aml_op(a, 0x11);
	mark = a->len;
	aml_int(a, n);
	aml_bytes(a, p, n);
	aml_end(a, mark);
}

size_t aml_scope(struct aml *a, const char *name)
{
	size_t mark;

	aml_op(a, 0x10);
	mark = a->len;
	aml_path(a, name);
	return mark;
}

size_t aml_device(struct aml *a, const char *name)
{
	size_t mark;

	aml_num(a, 0x825b, 2);
	mark = a->len;
	aml_path(a, name);
	return mark;
}

size_t aml_method(struct aml *a, const char *name, unsigned args, bool serialized)
{
	size_t mark;

	aml_op(a, 0x14);
	mark = a->len;
	aml_path(a, name);
	aml_op(a, (uint8_t)(args | serialized << 3));
	return mark;
}

size_t aml_package(struct aml *a, unsigned elements)
{
	size_t mark;

	aml_op(a, 0x12);
	mark = a->len;
	aml_op(a, (uint8_t)elements);
	return mark;
}

size_t aml_if(struct aml *a)
{
	aml_op(a, 0xa0);
	return a->len;
}

size_t aml_else(struct aml *a)
{
	aml_op(a, 0xa1);
	return a->len;
}

size_t aml_while(struct aml *a)
{
	aml_op(a, 0xa2);
	return a->len;
}

size_t aml_field(struct aml *a, const char *region, uint8_t flags)
{
	size_t mark;

	aml_num(a, 0x815b, 2);
	mark = a->len;
	aml_path(a, region);
	aml_op(a, flags);
	return mark;
}

void aml_name(struct aml *a, const char *name)
{
	aml_op(a, 0x08);
	aml_path(a, name);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_str(struct aml *a, const char *name, const char *s)
{
	aml_name(a, name);
	aml_str(a, s);
}

void aml_name_eisaid(struct aml *a, const char *name, const char *id)
{
	aml_name(a, name);
	aml_eisaid(a, id);
}

void aml_region(struct aml *a, const char *name, uint8_t space, uint64_t off, uint64_t len)
{
	aml_num(a, 0x805b, 2);
	aml_path(a, name);
	aml_op(a, space);
	aml_int(a, off);
	aml_int(a, len);
}

void aml_mutex(struct aml *a, const char *name)
{
	aml_num(a, 0x015b, 2);
	aml_path(a, name);
	aml_op(a, 0);		/* sync level */
}

void aml_acquire(struct aml *a, const char *name)
{
	aml_num(a, 0x235b, 2);
	aml_path(a, name);
	aml_num(a, 0xffff, 2);
}

void aml_release(struct aml *a, const char *name)
{
	aml_num(a, 0x275b, 2);
	aml_path(a, name);
}

void aml_field_unit(struct aml *a, const char *name, unsigned bits)
{
	if (name)
		aml_path(a, name);
	else
		aml_op(a, 0);
	/* A PkgLength that counts bits. */
	if (bits < 64) {
		aml_op(a, (uint8_t)bits);
		return;
	}
	aml_op(a, (uint8_t)(0x40 | (bits & 15)));
	aml_op(a, (uint8_t)(bits >> 4));
}

/* --- resource descriptors --- */

size_t aml_crs_begin(struct aml *a)
{
	return a->len;
}

/* Wraps what was appended since the mark into a Buffer with an end tag
 * (checksum 0 means: not used). */
void aml_crs_end(struct aml *a, size_t mark)
{
	struct aml body = { 0 };

	aml_num(a, 0x0079, 2);
	if (a->failed)
		return;
	aml_bytes(&body, a->buf + mark, a->len - mark);
	a->len = mark;
	a->failed = body.failed;
	aml_buffer(a, body.buf, body.len);
	aml_free(&body);
}

void aml_crs_io(struct aml *a, uint16_t base, uint8_t len)
{
	aml_op(a, 0x47);
	aml_op(a, 1);		/* 16-bit decode */
	aml_num(a, base, 2);
	aml_num(a, base, 2);
	aml_op(a, 1);		/* alignment */
	aml_op(a, len);
}

void aml_crs_irq(struct aml *a, unsigned irq)
{
	aml_op(a, 0x22);
	aml_num(a, 1u << irq, 2);
}

void aml_crs_dma(struct aml *a, unsigned channel)
{
	aml_op(a, 0x2a);
	aml_op(a, (uint8_t)(1u << channel));
	aml_op(a, 0);
}

void aml_crs_mem32(struct aml *a, uint32_t base, uint32_t len)
{
	aml_op(a, 0x86);
	aml_num(a, 9, 2);
	aml_op(a, 1);		/* writable */
	aml_num(a, base, 4);
	aml_num(a, len, 4);
}

void aml_crs_interrupt(struct aml *a, uint32_t gsi, bool level, bool shared)
{
	aml_op(a, 0x89);
	aml_num(a, 6, 2);
	aml_op(a, (uint8_t)(1 | !level << 1 | shared << 3));	/* consumer, active high */
	aml_op(a, 1);
	aml_num(a, gsi, 4);
}

/* Address space descriptors (ACPI 6.5, 6.4.3.5): fixed at both ends, producer. */
static void window(struct aml *a, uint8_t tag, uint8_t kind, uint8_t flags, uint64_t first, uint64_t last,
		   unsigned size)
{
	aml_op(a, tag);
	aml_num(a, 3 + 5 * size, 2);
	aml_op(a, kind);
	aml_op(a, 0x0c);
	aml_op(a, flags);
	aml_num(a, 0, size);
	aml_num(a, first, size);
	aml_num(a, last, size);
	aml_num(a, 0, size);
	aml_num(a, last - first + 1, size);
}

void aml_crs_bus(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, 0x88, 2, 0, first, last, 2);
}

void aml_crs_window_io(struct aml *a, uint16_t first, uint16_t last)
{
	window(a, 0x88, 1, 3, first, last, 2);
}

void aml_crs_window_mem32(struct aml *a, uint32_t first, uint32_t last)
{
	window(a, 0x87, 0, 1, first, last, 4);
}

void aml_crs_window_mem64(struct aml *a, uint64_t first, uint64_t last)
{
	window(a, 0x8a, 0, 3, first, last, 8);	/* cacheable, writable */
}
