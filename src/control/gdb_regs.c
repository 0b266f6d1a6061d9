// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Registers as gdb knows them: the features of "Debugging with GDB", G.5.5, and one
 * of our own with what a kernel's debugger wants to see.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/gdb_int.h"

enum feature { CORE, SSE, SEGMENTS, AVX, AVX512, SYSTEM, N_FEATURES };
enum kind { PLAIN, WORD, FTAG };	/* WORD: two bytes in the state, four here */

struct reg {
	char name[10];
	uint8_t feature, kind, bytes;
	uint16_t offset;
	const char *type;
};

#define MAX_REGS 192
#define S(field) offsetof(struct x86_state, field)
#define FX(off) (offsetof(struct x86_state, fpu.fx) + (off))

static struct reg reg[MAX_REGS];
static unsigned n_regs;

static void add(enum feature f, enum kind k, unsigned bytes, size_t offset, const char *type, const char *name)
{
	struct reg *r = &reg[n_regs++];

	*r = (struct reg){ .feature = f, .kind = k, .bytes = (uint8_t)bytes, .offset = (uint16_t)offset, .type = type };
	snprintf(r->name, sizeof(r->name), "%.9s", name);
}

/* name0, name1, ... with `end` behind; stride between them in the state. */
static void add_row(enum feature f, unsigned from, unsigned n, unsigned bytes, size_t offset, size_t stride, const char *type,
		    const char *name, const char *end)
{
	char text[10];

	for (unsigned i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "%.4s%u%.1s", name, from + i, end);
		add(f, PLAIN, bytes, offset + i * stride, type, text);
	}
}

static void add_core(void)
{
	static const struct { char name[4]; uint8_t n; } gpr[] = {
		{ "rax", X86_RAX }, { "rbx", X86_RBX }, { "rcx", X86_RCX }, { "rdx", X86_RDX },
		{ "rsi", X86_RSI }, { "rdi", X86_RDI }, { "rbp", X86_RBP }, { "rsp", X86_RSP },
	};
	static const struct { char name[3]; uint8_t n; } seg[] = {
		{ "cs", X86_CS }, { "ss", X86_SS }, { "ds", X86_DS }, { "es", X86_ES }, { "fs", X86_FS }, { "gs", X86_GS },
	};
	/* FIP and FDP are 64 bits: what gdb calls the segment is their upper half. */
	static const struct { char name[6]; uint8_t off, kind; } x87[] = {
		{ "fctrl", 0, WORD }, { "fstat", 2, WORD }, { "ftag", 4, FTAG }, { "fiseg", 12, PLAIN }, { "fioff", 8, PLAIN },
		{ "foseg", 20, PLAIN }, { "fooff", 16, PLAIN }, { "fop", 6, WORD },
	};

	for (unsigned i = 0; i < ARRAY_LEN(gpr); i++)
		add(CORE, PLAIN, 8, S(gpr) + 8u * gpr[i].n, gpr[i].n == X86_RBP || gpr[i].n == X86_RSP ? "data_ptr" : "int64", gpr[i].name);
	add_row(CORE, 8, 8, 8, S(gpr[8]), 8, "int64", "r", "");
	add(CORE, PLAIN, 8, S(rip), "code_ptr", "rip");
	add(CORE, PLAIN, 4, S(rflags), "i386_eflags", "eflags");
	for (unsigned i = 0; i < ARRAY_LEN(seg); i++)
		add(CORE, WORD, 4, S(seg) + seg[i].n * sizeof(struct x86_seg) + offsetof(struct x86_seg, sel), "int32", seg[i].name);
	add_row(CORE, 0, 8, 10, FX(32), 16, "i387_ext", "st", "");
	for (unsigned i = 0; i < ARRAY_LEN(x87); i++)
		add(CORE, x87[i].kind, 4, FX(x87[i].off), "int", x87[i].name);
}

static void make_table(void)
{
	if (n_regs)
		return;
	add_core();
	add_row(SSE, 0, 16, 16, S(fpu.zmm), 64, "vec128", "xmm", "");
	add(SSE, PLAIN, 4, S(fpu.mxcsr), "int", "mxcsr");
	add(SEGMENTS, PLAIN, 8, S(seg[X86_FS].base), "int", "fs_base");
	add(SEGMENTS, PLAIN, 8, S(seg[X86_GS].base), "int", "gs_base");
	add_row(AVX, 0, 16, 16, S(fpu.zmm) + 16, 64, "uint128", "ymm", "h");
	add_row(AVX512, 0, 8, 8, S(fpu.k), 8, "uint64", "k", "");
	add_row(AVX512, 0, 16, 32, S(fpu.zmm) + 32, 64, "v2ui128", "zmm", "h");
	add_row(AVX512, 16, 16, 16, S(fpu.zmm[16]), 64, "vec128", "xmm", "");
	add_row(AVX512, 16, 16, 16, S(fpu.zmm[16]) + 16, 64, "uint128", "ymm", "h");
	add_row(AVX512, 16, 16, 32, S(fpu.zmm[16]) + 32, 64, "v2ui128", "zmm", "h");
	add(SYSTEM, PLAIN, 8, S(kernel_gs_base), "int64", "k_gs_base");
	add(SYSTEM, PLAIN, 8, S(cr0), "int64", "cr0");
	add(SYSTEM, PLAIN, 8, S(cr2), "int64", "cr2");
	add(SYSTEM, PLAIN, 8, S(cr3), "int64", "cr3");
	add(SYSTEM, PLAIN, 8, S(cr4), "int64", "cr4");
	add(SYSTEM, PLAIN, 8, S(efer), "int64", "efer");
}

unsigned gdb_regs(void)
{
	make_table();
	return n_regs;
}

unsigned gdb_reg_bytes(unsigned n) { return reg[n].bytes; }

/* SDM vol. 1, 8.1.7: 3 empty, 2 special, 1 zero, 0 valid, by physical register; FXSAVE has a bit for "not empty". */
static unsigned full_tags(const uint8_t *fx)
{
	unsigned top = fx[3] >> 3 & 7, tags = 0;

	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *st = fx + 32 + 16 * ((i - top) & 7);
		unsigned exp = ld_le16(st + 8) & 0x7fff;
		uint64_t frac = ld_le64(st);
		unsigned tag = !(fx[4] >> i & 1) ? 3 : !exp && !frac ? 1 : !exp || exp == 0x7fff || !(frac >> 63) ? 2 : 0;

		tags |= tag << (2 * i);
	}
	return tags;
}

void gdb_reg_get(const struct x86_state *s, unsigned n, uint8_t *out)
{
	const struct reg *r = &reg[n];
	const uint8_t *at = (const uint8_t *)s + r->offset;

	switch (r->kind) {
	case WORD: st_le32(out, ld_le16(at)); break;
	case FTAG: st_le32(out, full_tags(s->fpu.fx)); break;
	default: memcpy(out, at, r->bytes); break;
	}
}

void gdb_reg_set(struct x86_state *s, unsigned n, const uint8_t *in)
{
	const struct reg *r = &reg[n];
	uint8_t *at = (uint8_t *)s + r->offset;

	if (r->kind == WORD) {
		st_le16(at, ld_le16(in));
	} else if (r->kind == FTAG) {
		at[0] = 0;
		for (unsigned i = 0; i < 8; i++)
			at[0] |= (uint8_t)((ld_le16(in) >> (2 * i) & 3) != 3) << i;
	} else {
		memcpy(at, in, r->bytes);
	}
}

/* ---- description ---- */

static const char *const feature_name[N_FEATURES] = {
	"org.gnu.gdb.i386.core", "org.gnu.gdb.i386.sse", "org.gnu.gdb.i386.segments", "org.gnu.gdb.i386.avx",
	"org.gnu.gdb.i386.avx512", "org.lodge.i386.system",
};

#define FLAG(name, bit) "<field name=\"" name "\" start=\"" #bit "\" end=\"" #bit "\"/>"
#define FLAGS "<flags id=\"i386_eflags\" size=\"4\">" \
	FLAG("CF", 0) FLAG("", 1) FLAG("PF", 2) FLAG("AF", 4) FLAG("ZF", 6) FLAG("SF", 7) FLAG("TF", 8) FLAG("IF", 9) \
	FLAG("DF", 10) FLAG("OF", 11) FLAG("NT", 14) FLAG("RF", 16) FLAG("VM", 17) FLAG("AC", 18) FLAG("VIF", 19) \
	FLAG("VIP", 20) FLAG("ID", 21) "</flags>"
#define VEC(id, of, n) "<vector id=\"" id "\" type=\"" of "\" count=\"" #n "\"/>"
#define VEC128 VEC("v4f", "ieee_single", 4) VEC("v2d", "ieee_double", 2) VEC("v16i8", "int8", 16) VEC("v8i16", "int16", 8) \
	VEC("v4i32", "int32", 4) VEC("v2i64", "int64", 2) \
	"<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>" \
	"<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>" \
	"<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"

static const char *const feature_types[N_FEATURES] = {
	[CORE] = FLAGS, [SSE] = VEC128, [AVX512] = VEC128 VEC("v2ui128", "uint128", 2),
};

char *gdb_reg_xml(void)
{
	char *out = NULL;
	size_t len;
	FILE *f = open_memstream(&out, &len);

	if (!f)
		return NULL;
	make_table();
	fputs("<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
	      "<architecture>i386:x86-64</architecture>", f);
	for (unsigned i = 0, feature = N_FEATURES; i < n_regs; i++) {
		if (reg[i].feature != feature) {
			if (i)
				fputs("</feature>", f);
			feature = reg[i].feature;
			fprintf(f, "<feature name=\"%s\">%s", feature_name[feature], feature_types[feature] ? feature_types[feature] : "");
		}
		fprintf(f, "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\" regnum=\"%u\"/>", reg[i].name, reg[i].bytes * 8u, reg[i].type, i);
	}
	fputs("</feature></target>", f);
	if (fclose(f)) {
		free(out);
		return NULL;
	}
	return out;
}
