/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compares two results of one case, leaving out what the architecture leaves
 * undefined.  Undefined flags come from the decoder library's tables, which the
 * shifts and rotates need corrected by their count.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "cpu/x86/cpu.h"
#include "rig.h"

struct out {
	char *p;
	unsigned n, len;
	int diffs;
};

static void __attribute__((format(printf, 2, 3))) say(struct out *o, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(o->p + o->n, o->len - o->n, fmt, ap);
	va_end(ap);
	if (n > 0)
		o->n = MIN(o->n + (unsigned)n, o->len - 1);
	o->diffs++;
}

static bool decode(const struct rig_case *c, ZydisDecodedInstruction *z, ZydisDecodedOperand *ops)
{
	ZydisDecoder d;

	if (c->bits == 16)
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
	else if (c->bits == 32)
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, c->code, c->len, z, ops));
}

/* The count operand of a shift, as the CPU masks it. */
static unsigned shift_count(const struct rig_case *c, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	unsigned mask = z->operand_width == 64 ? 63 : 31;

	for (unsigned n = 1; n < z->operand_count; n++) {
		if (ops[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return ops[n].imm.value.u & mask;
		if (ops[n].type == ZYDIS_OPERAND_TYPE_REGISTER && ops[n].reg.value == ZYDIS_REGISTER_CL)
			return c->gpr[X86_RCX] & mask;
	}
	return 1;
}

static uint32_t undefined_flags(const struct rig_case *c, const ZydisDecodedInstruction *z,
				const ZydisDecodedOperand *ops)
{
	unsigned size = ops[0].size, n;
	uint32_t f = z->cpu_flags ? z->cpu_flags->undefined & X86_FL_ARITH : 0;

	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_SHL: case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR:
		n = shift_count(c, z, ops);
		if (!n)
			return 0;
		f = X86_FL_AF | (n != 1 ? X86_FL_OF : 0);
		if (n >= size && z->mnemonic != ZYDIS_MNEMONIC_SAR)
			f |= X86_FL_CF;
		return f;
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD:
		n = shift_count(c, z, ops);
		if (!n)
			return 0;
		return n > size ? X86_FL_ARITH : X86_FL_AF | (n != 1 ? X86_FL_OF : 0);
	case ZYDIS_MNEMONIC_ROL: case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL: case ZYDIS_MNEMONIC_RCR:
		n = shift_count(c, z, ops);
		return n > 1 ? X86_FL_OF : 0;
	case ZYDIS_MNEMONIC_BSF: case ZYDIS_MNEMONIC_BSR: return X86_FL_ARITH & ~X86_FL_ZF;
	default: return f;
	}
}

static bool result_undefined(const struct rig_case *c, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	if (z->mnemonic == ZYDIS_MNEMONIC_SHLD || z->mnemonic == ZYDIS_MNEMONIC_SHRD)
		return shift_count(c, z, ops) > ops[0].size;
	return z->mnemonic == ZYDIS_MNEMONIC_BSWAP && z->operand_width == 16;
}

/* Which byte of a multi-part operand across two pages faults first is the
 * implementation's choice. */
static bool any_byte_first(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_CMPSB: case ZYDIS_MNEMONIC_CMPSW: case ZYDIS_MNEMONIC_CMPSD: case ZYDIS_MNEMONIC_CMPSQ: return true;
	default: break;
	}
	return m == ZYDIS_MNEMONIC_FLDENV || m == ZYDIS_MNEMONIC_FRSTOR || m == ZYDIS_MNEMONIC_FXRSTOR ||
	       m == ZYDIS_MNEMONIC_FXRSTOR64;
}

static void compare_fpu(struct out *o, const struct x86_fpu *a, const struct x86_fpu *b)
{
	for (unsigned n = 0; n < 32; n++) {
		if (!memcmp(a->zmm[n], b->zmm[n], 64))
			continue;
		for (unsigned q = 0; q < 8; q++)
			if (ld_le64(a->zmm[n] + 8 * q) != ld_le64(b->zmm[n] + 8 * q))
				say(o, "  zmm%u[%u] want %016" PRIx64 " got %016" PRIx64 "\n", n, q,
				    ld_le64(a->zmm[n] + 8 * q), ld_le64(b->zmm[n] + 8 * q));
	}
	for (unsigned n = 0; n < 8; n++)
		if (a->k[n] != b->k[n])
			say(o, "  k%u want %" PRIx64 " got %" PRIx64 "\n", n, a->k[n], b->k[n]);
	if (a->mxcsr != b->mxcsr)
		say(o, "  mxcsr want %x got %x\n", a->mxcsr, b->mxcsr);
	for (unsigned n = 0; n < 6; n += 2)	/* control, status, tags; pointers are not comparable */
		if (ld_le16(a->fx + n) != ld_le16(b->fx + n))
			say(o, "  %s want %04x got %04x\n", n == 0 ? "fcw" : n == 2 ? "fsw" : "ftw", ld_le16(a->fx + n),
			    ld_le16(b->fx + n));
	for (unsigned n = 0; n < 8; n++)
		if (memcmp(a->fx + 32 + 16 * n, b->fx + 32 + 16 * n, 10))
			say(o, "  st%u want %04x:%016" PRIx64 " got %04x:%016" PRIx64 "\n", n,
			    ld_le16(a->fx + 40 + 16 * n), ld_le64(a->fx + 32 + 16 * n),
			    ld_le16(b->fx + 40 + 16 * n), ld_le64(b->fx + 32 + 16 * n));
}

static void compare_data(struct out *o, const uint8_t *a, const uint8_t *b)
{
	int shown = 0;

	if (!memcmp(a, b, RIG_DATA_SIZE))
		return;
	for (unsigned n = 0; n < RIG_DATA_SIZE && shown < 16; n++)
		if (a[n] != b[n] && shown++ < 16)
			say(o, "  [%" PRIx64 "] want %02x got %02x\n", (uint64_t)(RIG_DATA + n), a[n], b[n]);
}

static uint64_t register_mask(const struct rig_case *c, unsigned n)
{
	if (c->bits == 16 && n == X86_RSP)	/* the host's kernel uses the upper half */
		return 0xffff;
	return c->bits == 64 ? ~0ull : 0xffffffff;
}

int rig_compare(const struct rig_case *c, const struct rig_result *want, const struct rig_result *got, char *text,
		unsigned len)
{
	struct out o = { .p = text, .len = len };
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	uint64_t fl = X86_FL_ARITH | X86_FL_DF;
	ZydisDecodedInstruction z;
	uint32_t err_mask = ~0u;
	bool ok = decode(c, &z, ops);

	text[0] = 0;
	/* A failing ENTER may have pushed something, and looks at the stack in an order of its own. */
	if (ok && z.mnemonic == ZYDIS_MNEMONIC_ENTER && want->fault != RIG_NO_FAULT && got->fault != RIG_NO_FAULT)
		return 0;
	/* Segment limit or alignment first: #SS or #GP is the implementation's choice. */
	if (c->bits == 16 && want->fault == X86_EX_GP && got->fault == X86_EX_SS)
		return 0;
	/* Flat 32-bit segments end at 4 GiB; engines let an operand wrap there (QUIRKS). */
	if (c->bits == 32 && want->fault == X86_EX_GP && got->fault == X86_EX_PF && got->cr2 >= 0xffffff00u)
		return 0;
	if (want->fault != got->fault) {
		say(&o, "  fault want %d(%x) cr2 %" PRIx64 " got %d(%x) cr2 %" PRIx64 "\n",
		    want->fault == RIG_NO_FAULT ? -1 : want->fault, want->err, want->cr2,
		    got->fault == RIG_NO_FAULT ? -1 : got->fault, got->err, got->cr2);
		return o.diffs;
	}
	/* Outside the rig's pages the child has others (its own, the kernel's) than the engine. */
	if (want->fault == X86_EX_PF && (want->cr2 < RIG_CODE || want->cr2 > RIG_RODATA + 2 * RIG_PAGE))
		err_mask = ~1u;
	if (want->fault != RIG_NO_FAULT && ((want->err ^ got->err) & err_mask))
		say(&o, "  error code want %x got %x\n", want->err, got->err);
	if (want->fault == X86_EX_PF && want->cr2 != got->cr2 && !any_byte_first(ok ? z.mnemonic : 0))
		say(&o, "  cr2 want %" PRIx64 " got %" PRIx64 "\n", want->cr2, got->cr2);
	if (want->rip != got->rip)
		say(&o, "  rip want %" PRIx64 " got %" PRIx64 "\n", want->rip, got->rip);
	if (ok && want->fault == RIG_NO_FAULT) {
		fl &= ~(uint64_t)undefined_flags(c, &z, ops);
		if (result_undefined(c, &z, ops))
			return o.diffs;
	}
	if ((want->rflags ^ got->rflags) & fl)
		say(&o, "  flags want %" PRIx64 " got %" PRIx64 "\n", want->rflags & fl, got->rflags & fl);
	/* Outside 64-bit mode the upper halves, and R8 to R15, are nobody's business. */
	for (unsigned n = 0; n < (c->bits == 64 ? 16 : 8); n++)
		if ((want->gpr[n] ^ got->gpr[n]) & register_mask(c, n))
			say(&o, "  gpr%u want %" PRIx64 " got %" PRIx64 "\n", n, want->gpr[n], got->gpr[n]);
	compare_fpu(&o, &want->fpu, &got->fpu);
	compare_data(&o, want->data, got->data);
	return o.diffs;
}

int rig_compare_x87_pointers(const struct rig_result *want, const struct rig_result *got, char *text, unsigned len)
{
	const uint8_t *a = want->fpu.fx, *b = got->fpu.fx;
	struct out o = { .p = text, .len = len };

	text[0] = 0;
	if (memcmp(a + 6, b + 6, 18))
		say(&o, "  FOP FIP FDP want %03x %" PRIx64 " %" PRIx64 " got %03x %" PRIx64 " %" PRIx64 "\n", ld_le16(a + 6),
		    ld_le64(a + 8), ld_le64(a + 16), ld_le16(b + 6), ld_le64(b + 8), ld_le64(b + 16));
	return o.diffs;
}
