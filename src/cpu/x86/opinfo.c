/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Derives struct op_info from the decoder library's tables.  What those tables
 * do not say or say wrongly (MXCSR dependence of MMX conversions, alignment,
 * features that come in pairs) is listed here by mnemonic.
 */
#include "cpu/x86/opinfo.h"

#include <errno.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "cpu/x86/cpuid.h"

#define M(x) ZYDIS_MNEMONIC_##x

static void need(struct op_info *o, uint8_t word, unsigned bit)
{
	if (o->n_features < OP_MAX_FEATURES)
		o->feature[o->n_features++] = (struct op_feature){ word, BIT(bit) };
}

struct isa_row {
	uint16_t first, last;	/* ZYDIS_ISA_SET_*, inclusive */
	uint8_t word, bit;
};

/* Instruction sets in which each row (name) stands for one CPUID bit. */
static const struct isa_row isa_rows[] = {
#define ROW(set, word, bit) { ZYDIS_ISA_SET_##set, ZYDIS_ISA_SET_##set, X86_F_##word, bit }
#define ROWS(a, b, word, bit) { ZYDIS_ISA_SET_##a, ZYDIS_ISA_SET_##b, X86_F_##word, bit }
	ROW(ADOX_ADCX, 7_EBX, 19),
	ROW(AES, 1_ECX, 25),
	ROW(AVX, 1_ECX, 28),
	ROW(AVX2, 7_EBX, 5),
	ROW(AVX2GATHER, 7_EBX, 5),
	ROW(AVXAES, 1_ECX, 28), ROW(AVXAES, 1_ECX, 25),
	ROW(AVX_GFNI, 1_ECX, 28), ROW(AVX_GFNI, 7_ECX, 8),
	ROW(AVX_VNNI, 7_1_EAX, 4),
	ROW(BMI1, 7_EBX, 3),
	ROW(BMI2, 7_EBX, 8),
	ROW(F16C, 1_ECX, 29),
	ROW(CLZERO, 88_EBX, 0),
	ROW(FCMOV, 1_EDX, 15),
	ROW(FMA, 1_ECX, 12),
	ROW(FMA4, 81_ECX, 16),
	ROW(FXSAVE, 1_EDX, 24), ROW(FXSAVE64, 1_EDX, 24),
	ROW(GFNI, 7_ECX, 8),
	ROW(LZCNT, 81_ECX, 5),
	ROW(MOVBE, 1_ECX, 22),
	ROW(PCLMULQDQ, 1_ECX, 1),
	ROW(PENTIUMMMX, 1_EDX, 23),
	ROW(POPCNT, 1_ECX, 23),
	ROW(RDPID, 7_ECX, 22),
	ROW(RDRAND, 1_ECX, 30),
	ROW(RDSEED, 7_EBX, 18),
	ROW(SHA, 7_EBX, 29),
	ROW(SSE, 1_EDX, 25), ROW(SSEMXCSR, 1_EDX, 25),
	ROW(SSE2, 1_EDX, 26), ROW(SSE2MMX, 1_EDX, 26),
	ROW(SSE3, 1_ECX, 0), ROW(SSE3X87, 1_ECX, 0),
	ROW(SSE4, 1_ECX, 19), ROW(SSE42, 1_ECX, 20), ROW(SSE4A, 81_ECX, 6),
	ROW(SSSE3, 1_ECX, 9), ROW(SSSE3MMX, 1_ECX, 9),
	ROW(TBM, 81_ECX, 21),
	ROW(VAES, 7_ECX, 9), ROW(VAES, 1_ECX, 28),
	ROW(VPCLMULQDQ, 7_ECX, 10), ROW(VPCLMULQDQ, 1_ECX, 28),
	ROW(X87, 1_EDX, 0),
	ROW(XOP, 81_ECX, 11),
	ROW(XSAVE, 1_ECX, 26), ROW(XSAVEC, D_1_EAX, 1), ROW(XSAVEOPT, D_1_EAX, 0), ROW(XSAVES, D_1_EAX, 3),

	ROWS(AVX512BW_128, AVX512BW_KOP, 7_EBX, 30),
	ROWS(AVX512CD_128, AVX512CD_512, 7_EBX, 28),
	ROWS(AVX512DQ_128, AVX512DQ_SCALAR, 7_EBX, 17),
	ROWS(AVX512F_128, AVX512F_SCALAR, 7_EBX, 16),
	ROWS(AVX512_BF16_128, AVX512_BF16_512, 7_1_EAX, 5),
	ROWS(AVX512_BITALG_128, AVX512_BITALG_512, 7_ECX, 12),
	ROWS(AVX512_FP16_128, AVX512_FP16_SCALAR, 7_EDX, 23),
	ROWS(AVX512_GFNI_128, AVX512_GFNI_512, 7_ECX, 8),
	ROWS(AVX512_IFMA_128, AVX512_IFMA_512, 7_EBX, 21),
	ROWS(AVX512_VAES_128, AVX512_VAES_512, 7_ECX, 9),
	ROWS(AVX512_VBMI2_128, AVX512_VBMI2_512, 7_ECX, 6),
	ROWS(AVX512_VBMI_128, AVX512_VBMI_512, 7_ECX, 1),
	ROWS(AVX512_VNNI_128, AVX512_VNNI_512, 7_ECX, 11),
	ROWS(AVX512_VP2INTERSECT_128, AVX512_VP2INTERSECT_512, 7_EDX, 8),
	ROWS(AVX512_VPCLMULQDQ_128, AVX512_VPCLMULQDQ_512, 7_ECX, 10),
	ROWS(AVX512_VPOPCNTDQ_128, AVX512_VPOPCNTDQ_512, 7_ECX, 14),
#undef ROW
#undef ROWS
};

/* 128 and 256-bit AVX-512 forms need AVX512VL; moves of one element ("128N")
 * and scalar ones do not. */
static bool needs_vl(uint16_t set)
{
	switch (set) {
	case ZYDIS_ISA_SET_AVX512BW_128: case ZYDIS_ISA_SET_AVX512BW_256:
	case ZYDIS_ISA_SET_AVX512CD_128: case ZYDIS_ISA_SET_AVX512CD_256:
	case ZYDIS_ISA_SET_AVX512DQ_128: case ZYDIS_ISA_SET_AVX512DQ_256:
	case ZYDIS_ISA_SET_AVX512F_128: case ZYDIS_ISA_SET_AVX512F_256:
	case ZYDIS_ISA_SET_AVX512_BF16_128: case ZYDIS_ISA_SET_AVX512_BF16_256:
	case ZYDIS_ISA_SET_AVX512_BITALG_128: case ZYDIS_ISA_SET_AVX512_BITALG_256:
	case ZYDIS_ISA_SET_AVX512_FP16_128: case ZYDIS_ISA_SET_AVX512_FP16_256:
	case ZYDIS_ISA_SET_AVX512_GFNI_128: case ZYDIS_ISA_SET_AVX512_GFNI_256:
	case ZYDIS_ISA_SET_AVX512_IFMA_128: case ZYDIS_ISA_SET_AVX512_IFMA_256:
	case ZYDIS_ISA_SET_AVX512_VAES_128: case ZYDIS_ISA_SET_AVX512_VAES_256:
	case ZYDIS_ISA_SET_AVX512_VBMI2_128: case ZYDIS_ISA_SET_AVX512_VBMI2_256:
	case ZYDIS_ISA_SET_AVX512_VBMI_128: case ZYDIS_ISA_SET_AVX512_VBMI_256:
	case ZYDIS_ISA_SET_AVX512_VNNI_128: case ZYDIS_ISA_SET_AVX512_VNNI_256:
	case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_128: case ZYDIS_ISA_SET_AVX512_VP2INTERSECT_256:
	case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_128: case ZYDIS_ISA_SET_AVX512_VPCLMULQDQ_256:
	case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_128: case ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_256: return true;
	default: return false;
	}
}

static bool is_avx512_set(uint16_t set)
{
	return set >= ZYDIS_ISA_SET_AVX512BW_128 && set <= ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512;
}

static void features(struct op_info *o, const ZydisDecodedInstruction *z)
{
	uint16_t set = (uint16_t)z->meta.isa_set;

	for (unsigned n = 0; n < ARRAY_LEN(isa_rows); n++) {
		if (set < isa_rows[n].first || set > isa_rows[n].last)
			continue;
		need(o, isa_rows[n].word, isa_rows[n].bit);
		o->known = true;
	}
	if (set == ZYDIS_ISA_SET_MOVDIR) {
		need(o, X86_F_7_ECX, z->mnemonic == M(MOVDIRI) ? 27 : 28);
		o->known = true;
	}
	if (z->mnemonic == M(BSF) || z->mnemonic == M(BSR))
		o->known = true;
	/* CMOV and FCMOV's other half, and what the library files under PPRO. */
	if (set == ZYDIS_ISA_SET_PPRO && z->meta.isa_ext == ZYDIS_ISA_EXT_X87) {
		need(o, X86_F_1_EDX, 0);
		o->known = true;
	}
	if (is_avx512_set(set)) {
		need(o, X86_F_7_EBX, 16);
		if (needs_vl(set))
			need(o, X86_F_7_EBX, 31);
	}
	if (o->state == OP_STATE_X87)
		need(o, X86_F_1_EDX, 0);
}

/* --- MXCSR --- */
static bool class_without_mxcsr(ZydisExceptionClass c)
{
	switch (c) {
	case ZYDIS_EXCEPTION_CLASS_SSE1: case ZYDIS_EXCEPTION_CLASS_SSE4: case ZYDIS_EXCEPTION_CLASS_SSE5:
	case ZYDIS_EXCEPTION_CLASS_SSE7: case ZYDIS_EXCEPTION_CLASS_AVX1: case ZYDIS_EXCEPTION_CLASS_AVX4:
	case ZYDIS_EXCEPTION_CLASS_AVX5: case ZYDIS_EXCEPTION_CLASS_AVX6: case ZYDIS_EXCEPTION_CLASS_AVX7:
	case ZYDIS_EXCEPTION_CLASS_AVX8: case ZYDIS_EXCEPTION_CLASS_AVX12: case ZYDIS_EXCEPTION_CLASS_E1:
	case ZYDIS_EXCEPTION_CLASS_E1NF: case ZYDIS_EXCEPTION_CLASS_E4: case ZYDIS_EXCEPTION_CLASS_E4NF:
	case ZYDIS_EXCEPTION_CLASS_E5: case ZYDIS_EXCEPTION_CLASS_E5NF: case ZYDIS_EXCEPTION_CLASS_E6:
	case ZYDIS_EXCEPTION_CLASS_E6NF: case ZYDIS_EXCEPTION_CLASS_E7NM: case ZYDIS_EXCEPTION_CLASS_E7NM128:
	case ZYDIS_EXCEPTION_CLASS_E9NF: case ZYDIS_EXCEPTION_CLASS_E12: case ZYDIS_EXCEPTION_CLASS_E12NP:
	case ZYDIS_EXCEPTION_CLASS_K20: case ZYDIS_EXCEPTION_CLASS_K21: return true;
	default: return false;
	}
}

static bool uses_mxcsr(const ZydisDecodedInstruction *z, const struct op_info *o)
{
	if (o->state < OP_STATE_SSE || o->state > OP_STATE_AVX512)
		return false;
	switch (z->mnemonic) {
	/* Denormals are zeros to these if DAZ is set, though they raise nothing. */
	case M(VRCP14PS): case M(VRCP14PD): case M(VRCP14SS): case M(VRCP14SD):
	case M(VRSQRT14PS): case M(VRSQRT14PD): case M(VRSQRT14SS): case M(VRSQRT14SD):
	case M(VFPCLASSPS): case M(VFPCLASSPD): case M(VFPCLASSSS): case M(VFPCLASSSD):
	case M(CVTSI2SS): case M(CVTSI2SD): case M(VCVTSI2SS): case M(VCVTSI2SD):
	case M(VCVTUSI2SS): case M(VCVTUSI2SD): return true;
	case M(MOVQ2DQ): case M(MOVDQ2Q): return false;
	default: return !class_without_mxcsr(z->meta.exception_class);
	}
}

/* --- alignment (SDM vol. 1, 4.6.4 and vol. 2, 2.7) --- */
static uint8_t alignment(const ZydisDecodedInstruction *z, const struct op_info *o)
{
	switch (z->mnemonic) {
	case M(MOVUPS): case M(MOVUPD): case M(MOVDQU): case M(LDDQU):
	case M(PCMPISTRI): case M(PCMPISTRM): case M(PCMPESTRI): case M(PCMPESTRM): return 0;
	/* Intel wants these aligned, AMD does not: the host's own check decides. */
	case M(SHA1RNDS4): case M(SHA1NEXTE): case M(SHA1MSG1): case M(SHA1MSG2):
	case M(SHA256RNDS2): case M(SHA256MSG1): case M(SHA256MSG2): return 0;
	case M(VMOVAPS): case M(VMOVAPD): case M(VMOVDQA): case M(VMOVDQA32): case M(VMOVDQA64):
	case M(VMOVNTPS): case M(VMOVNTPD): case M(VMOVNTDQ): case M(VMOVNTDQA): return o->mem_size;
	default: break;
	}
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && o->state == OP_STATE_SSE && o->mem_size == 16)
		return 16;
	return 0;
}

/* --- masks --- */
static bool is_packed_store(ZydisMnemonic m)
{
	switch (m) {
	case M(VPCOMPRESSB): case M(VPCOMPRESSW): case M(VPCOMPRESSD): case M(VPCOMPRESSQ):
	case M(VCOMPRESSPS): case M(VCOMPRESSPD): case M(VPEXPANDB): case M(VPEXPANDW):
	case M(VPEXPANDD): case M(VPEXPANDQ): case M(VEXPANDPS): case M(VEXPANDPD): return true;
	default: return false;
	}
}

static bool is_broadcast(ZydisMnemonic m)
{
	switch (m) {
	case M(VBROADCASTSS): case M(VBROADCASTSD): case M(VBROADCASTF32X2): case M(VBROADCASTF32X4):
	case M(VBROADCASTF32X8): case M(VBROADCASTF64X2): case M(VBROADCASTF64X4): case M(VBROADCASTI32X2):
	case M(VBROADCASTI32X4): case M(VBROADCASTI32X8): case M(VBROADCASTI64X2): case M(VBROADCASTI64X4):
	case M(VPBROADCASTB): case M(VPBROADCASTW): case M(VPBROADCASTD): case M(VPBROADCASTQ): return true;
	default: return false;
	}
}

static bool is_vmaskmov(ZydisMnemonic m)
{
	return m == M(VMASKMOVPS) || m == M(VMASKMOVPD) || m == M(VPMASKMOVD) || m == M(VPMASKMOVQ);
}

/* SDM vol. 2, 2.8.5: a mask does not spare these (results that mix elements). */
static bool suppresses_faults(ZydisMnemonic m, ZydisExceptionClass c)
{
	switch (m) {
	case M(VGF2P8AFFINEQB): case M(VGF2P8AFFINEINVQB): case M(VDBPSADBW): case M(VPSHUFBITQMB):
	case M(VCVTNE2PS2BF16): return false;
	default: break;
	}
	switch (c) {
	case ZYDIS_EXCEPTION_CLASS_E1: case ZYDIS_EXCEPTION_CLASS_E2: case ZYDIS_EXCEPTION_CLASS_E3:
	case ZYDIS_EXCEPTION_CLASS_E4: case ZYDIS_EXCEPTION_CLASS_E5: case ZYDIS_EXCEPTION_CLASS_E6:
	case ZYDIS_EXCEPTION_CLASS_E10: case ZYDIS_EXCEPTION_CLASS_E11: return true;
	default: return false;
	}
}

static bool is_scalar(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_AVX512F_SCALAR: case ZYDIS_ISA_SET_AVX512DQ_SCALAR:
	case ZYDIS_ISA_SET_AVX512_FP16_SCALAR: return true;
	default: return false;
	}
}

/* Bytes of the widest element among vector and memory operands: what one mask
 * bit governs (the narrower side of a conversion has as many elements). */
static unsigned widest_element(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	unsigned w = 1;

	for (unsigned n = 0; n < z->operand_count; n++) {
		const ZydisDecodedOperand *p = &ops[n];
		bool vec = p->type == ZYDIS_OPERAND_TYPE_REGISTER &&
			   ZydisRegisterGetClass(p->reg.value) != ZYDIS_REGCLASS_MASK &&
			   ZydisRegisterGetClass(p->reg.value) >= ZYDIS_REGCLASS_XMM;

		if (vec || p->type == ZYDIS_OPERAND_TYPE_MEMORY)
			w = MAX(w, (unsigned)p->element_size / 8);
	}
	return w;
}

static void evex_mask(struct op_info *o, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	unsigned vl = z->avx.vector_length / 8, wide = widest_element(z, ops);

	o->mask_k = (uint8_t)(z->avx.mask.reg - ZYDIS_REGISTER_K0);
	if (!o->mask_k || !suppresses_faults(z->mnemonic, z->meta.exception_class) || !o->mem_size || !vl)
		return;
	if (is_scalar(z)) {
		o->mask = OP_MASK_ELEM;
		o->elem_size = o->mem_size;
		o->elems = o->mask_bits = 1;
	} else if (is_packed_store(z->mnemonic)) {
		o->mask = OP_MASK_PACK;
		o->elem_size = (uint8_t)wide;
		o->elems = o->mask_bits = (uint8_t)(vl / wide);
	} else if (is_broadcast(z->mnemonic)) {
		unsigned dst = (unsigned)ops[0].element_size / 8;

		o->mask = OP_MASK_BCAST;
		o->elem_size = (uint8_t)MIN(dst, (unsigned)o->mem_size);
		o->elems = (uint8_t)(o->mem_size / o->elem_size);
		o->mask_bits = (uint8_t)(vl / o->elem_size);
	} else if (z->avx.broadcast.mode != ZYDIS_BROADCAST_MODE_INVALID) {
		o->mask = OP_MASK_BCAST;
		o->elem_size = o->mem_size;
		o->elems = 1;
		o->mask_bits = (uint8_t)(vl / wide);
	} else {
		o->mask = OP_MASK_ELEM;
		o->elems = o->mask_bits = (uint8_t)(vl / wide);
		o->elem_size = (uint8_t)(o->mem_size / o->elems);
		if (!o->elem_size)
			o->mask = OP_MASK_NONE;
	}
}

/* --- operands --- */
static uint8_t field_of(const ZydisDecodedOperand *p)
{
	switch (p->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: return OP_FIELD_REG;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM: return OP_FIELD_RM;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: return OP_FIELD_VVVV;
	default: return OP_FIELD_NONE;
	}
}

static void add_gpr(struct op_info *o, const ZydisDecodedOperand *p, bool rd, bool wr)
{
	ZydisRegister r = p->reg.value;
	unsigned n;

	if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
		n = (unsigned)(r - ZYDIS_REGISTER_AH);
		o->has_high8 = true;
	} else {
		n = (unsigned)ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r)) & 15;
	}
	if (n == 4) {
		uint8_t f = field_of(p);

		if (f == OP_FIELD_NONE)
			o->rsp_fixed = true;
		o->rsp_fields |= f;
	}
	/* Results of less than 32 bits, and conditional ones, keep the rest. */
	if (rd || wr)
		o->gpr_read |= BIT(n);
	if (wr)
		o->gpr_write |= BIT(n);
}

static void add_vec(struct op_info *o, unsigned n, unsigned width, bool rd, bool wr, bool legacy)
{
	/* A scalar or masked result merges: whatever is written is loaded first
	 * unless the encoding zeroes or overwrites all (cheap enough not to ask). */
	if (rd || wr)
		o->vec_read |= BIT(n);
	if (wr)
		o->vec_write |= BIT(n);
	o->vec_width = (uint8_t)MAX((unsigned)o->vec_width, width);
	o->legacy_vec |= legacy;
}

static void add_reg(struct op_info *o, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *p)
{
	bool rd = p->actions & ZYDIS_OPERAND_ACTION_MASK_READ, wr = p->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	bool legacy = z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	ZydisRegister r = p->reg.value;

	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8: case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32: case ZYDIS_REGCLASS_GPR64: add_gpr(o, p, rd, wr); break;
	case ZYDIS_REGCLASS_XMM: add_vec(o, (unsigned)(r - ZYDIS_REGISTER_XMM0), 16, rd, wr, legacy); break;
	case ZYDIS_REGCLASS_YMM: add_vec(o, (unsigned)(r - ZYDIS_REGISTER_YMM0), 32, rd, wr, legacy); break;
	case ZYDIS_REGCLASS_ZMM: add_vec(o, (unsigned)(r - ZYDIS_REGISTER_ZMM0), 64, rd, wr, legacy); break;
	case ZYDIS_REGCLASS_MMX:
		o->mm_read |= (uint8_t)BIT(r - ZYDIS_REGISTER_MM0);
		if (wr)
			o->mm_write |= (uint8_t)BIT(r - ZYDIS_REGISTER_MM0);
		break;
	case ZYDIS_REGCLASS_MASK:
		o->k_read |= (uint8_t)BIT(r - ZYDIS_REGISTER_K0);
		if (wr)
			o->k_write |= (uint8_t)BIT(r - ZYDIS_REGISTER_K0);
		break;
	default: break;
	}
	if (p->encoding == ZYDIS_OPERAND_ENCODING_IS4)
		o->is4 = true;
}

/* VP2INTERSECT writes the named k register and its neighbour. */
static void pair_mask(struct op_info *o, ZydisMnemonic m)
{
	if (m != M(VP2INTERSECTD) && m != M(VP2INTERSECTQ))
		return;
	for (unsigned n = 0; n < 8; n += 2) {
		if (o->k_write & (3u << n)) {
			o->k_write |= (uint8_t)(3u << n);
			o->k_read |= (uint8_t)(3u << n);
		}
	}
}

/* Conversions of floating point in memory: SSE's rules though no XMM register is named. */
static bool is_sse_conversion(ZydisMnemonic m)
{
	switch (m) {
	case M(CVTPS2PI): case M(CVTTPS2PI): case M(CVTPD2PI): case M(CVTTPD2PI):
	case M(CVTSS2SI): case M(CVTTSS2SI): case M(CVTSD2SI): case M(CVTTSD2SI): return true;
	default: return false;
	}
}

static uint8_t state_of(const ZydisDecodedInstruction *z, const struct op_info *o)
{
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_X87: return OP_STATE_X87;
	case ZYDIS_ISA_EXT_XSAVE: case ZYDIS_ISA_EXT_XSAVEC: case ZYDIS_ISA_EXT_XSAVEOPT:
	case ZYDIS_ISA_EXT_XSAVES: return OP_STATE_OTHER;
	default: break;
	}
	switch (z->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_EVEX: return OP_STATE_AVX512;
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
	case ZYDIS_INSTRUCTION_ENCODING_XOP:
		if (is_avx512_set((uint16_t)z->meta.isa_set))
			return OP_STATE_AVX512;
		if (z->meta.isa_set == ZYDIS_ISA_SET_BMI1 || z->meta.isa_set == ZYDIS_ISA_SET_BMI2 ||
		    z->meta.isa_set == ZYDIS_ISA_SET_TBM)
			return OP_STATE_INT;
		return OP_STATE_AVX;
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY: break;
	default: return OP_STATE_OTHER;
	}
	if (z->mnemonic == M(FISTTP))
		return OP_STATE_X87;
	if (o->vec_read || z->meta.isa_set == ZYDIS_ISA_SET_SSEMXCSR || is_sse_conversion(z->mnemonic))
		return OP_STATE_SSE;
	if (o->mm_read || z->meta.isa_set == ZYDIS_ISA_SET_PENTIUMMMX)
		return OP_STATE_MMX;
	return OP_STATE_INT;
}

static void vsib(struct op_info *o, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops)
{
	switch (z->mnemonic) {
	case M(VPGATHERDD): case M(VGATHERDPS): case M(VPSCATTERDD): case M(VSCATTERDPS):
		o->index_size = 4, o->elem_size = 4; break;
	case M(VPGATHERDQ): case M(VGATHERDPD): case M(VPSCATTERDQ): case M(VSCATTERDPD):
		o->index_size = 4, o->elem_size = 8; break;
	case M(VPGATHERQD): case M(VGATHERQPS): case M(VPSCATTERQD): case M(VSCATTERQPS):
		o->index_size = 8, o->elem_size = 4; break;
	case M(VPGATHERQQ): case M(VGATHERQPD): case M(VPSCATTERQQ): case M(VSCATTERQPD):
		o->index_size = 8, o->elem_size = 8; break;
	default: o->known = false; return;
	}
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		o->mask_k = (uint8_t)(z->avx.mask.reg - ZYDIS_REGISTER_K0);
	o->elems = (uint8_t)(z->avx.vector_length / 8 / MAX(o->index_size, o->elem_size));
}

static void memory(struct op_info *o, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops,
		   const ZydisDecodedOperand *p)
{
	if (p->mem.type == ZYDIS_MEMOP_TYPE_VSIB) {
		vsib(o, z, ops);
		return;
	}
	o->mem_size = (uint8_t)(p->size <= 512 ? p->size / 8 : 0);
	o->align = alignment(z, o);
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && z->avx.mask.reg != ZYDIS_REGISTER_NONE)
		evex_mask(o, z, ops);
	if (is_vmaskmov(z->mnemonic)) {
		o->mask = OP_MASK_ELEM;
		o->elem_size = z->mnemonic == M(VMASKMOVPS) || z->mnemonic == M(VPMASKMOVD) ? 4 : 8;
		o->elems = o->mask_bits = (uint8_t)(z->avx.vector_length / 8 / o->elem_size);
	}
}

int op_info_get(const struct insn *i, struct op_info *o)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder d;
	ZyanStatus st;

	memset(o, 0, sizeof(*o));
	switch (i->ssz) {
	case 8: st = ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); break;
	case 4: st = ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32); break;
	default: st = ZydisDecoderInit(&d, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16); break;
	}
	if (!ZYAN_SUCCESS(st) || !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, i->bytes, i->len, &z, ops)))
		return -EINVAL;
	for (unsigned n = 0; n < z.operand_count; n++)
		if (ops[n].type == ZYDIS_OPERAND_TYPE_REGISTER)
			add_reg(o, &z, &ops[n]);
	pair_mask(o, z.mnemonic);
	o->vex = z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY;
	o->state = state_of(&z, o);
	features(o, &z);
	for (unsigned n = 0; n < z.operand_count; n++)
		if (ops[n].type == ZYDIS_OPERAND_TYPE_MEMORY && ops[n].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM)
			memory(o, &z, ops, &ops[n]);
	o->mxcsr = uses_mxcsr(&z, o);
	return 0;
}
