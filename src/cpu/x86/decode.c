/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Decoding through Zydis (SDM vol. 2 is the reference it follows).
 *
 * The library validates: reserved encodings, LOCK where it is not allowed and
 * VEX with legacy prefixes come back as undefined opcodes.  What is optional in
 * the architecture and not offered by Lodge (MPX, CET) is decoded as the no-op
 * it is on a CPU without it.
 */
#include "cpu/x86/decode.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <Zydis/Zydis.h>

#include "base/bits.h"
#include "cpu/x86/state.h"

static int decoder_init(ZydisDecoder *d, unsigned bits)
{
	ZyanStatus st;

	switch (bits) {
	case 64: st = ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64); break;
	case 32: st = ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32); break;
	default: st = ZydisDecoderInit(d, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16); break;
	}
	if (!ZYAN_SUCCESS(st))
		return -EINVAL;
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	return 0;
}

static uint8_t gpr_number(ZydisRegister r)
{
	return (uint8_t)ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
}

static uint8_t mem_register(ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_NONE)
		return INSN_NOREG;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP || r == ZYDIS_REGISTER_IP)
		return INSN_RIP;
	return gpr_number(r);
}

static uint8_t seg_number(ZydisRegister r)
{
	switch (r) {
	case ZYDIS_REGISTER_ES: return X86_ES;
	case ZYDIS_REGISTER_CS: return X86_CS;
	case ZYDIS_REGISTER_SS: return X86_SS;
	case ZYDIS_REGISTER_FS: return X86_FS;
	case ZYDIS_REGISTER_GS: return X86_GS;
	default: return X86_DS;
	}
}

static void operand_reg(struct insn_op *o, ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		o->kind = INSN_OP_GPR;
		if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
			o->high8 = true;
			o->reg = (uint8_t)(r - ZYDIS_REGISTER_AH);
		} else {
			o->reg = gpr_number(r);
		}
		break;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		o->kind = INSN_OP_GPR;
		o->reg = gpr_number(r);
		break;
	case ZYDIS_REGCLASS_SEGMENT: o->kind = INSN_OP_SEG; o->reg = seg_number(r); break;
	case ZYDIS_REGCLASS_CONTROL: o->kind = INSN_OP_CR; o->reg = (uint8_t)(r - ZYDIS_REGISTER_CR0); break;
	case ZYDIS_REGCLASS_DEBUG: o->kind = INSN_OP_DR; o->reg = (uint8_t)(r - ZYDIS_REGISTER_DR0); break;
	case ZYDIS_REGCLASS_MMX: o->kind = INSN_OP_MMX; o->reg = (uint8_t)(r - ZYDIS_REGISTER_MM0); break;
	case ZYDIS_REGCLASS_X87: o->kind = INSN_OP_X87; o->reg = (uint8_t)(r - ZYDIS_REGISTER_ST0); break;
	case ZYDIS_REGCLASS_XMM: o->kind = INSN_OP_VEC; o->reg = (uint8_t)(r - ZYDIS_REGISTER_XMM0); break;
	case ZYDIS_REGCLASS_YMM: o->kind = INSN_OP_VEC; o->reg = (uint8_t)(r - ZYDIS_REGISTER_YMM0); break;
	case ZYDIS_REGCLASS_ZMM: o->kind = INSN_OP_VEC; o->reg = (uint8_t)(r - ZYDIS_REGISTER_ZMM0); break;
	case ZYDIS_REGCLASS_MASK: o->kind = INSN_OP_K; o->reg = (uint8_t)(r - ZYDIS_REGISTER_K0); break;
	default: o->kind = INSN_OP_OTHER; o->reg = 0; break;
	}
}

/* The ModRM operand (or moffs), as opposed to what string and stack
 * instructions access without naming it. */
static bool is_modrm_memory(const ZydisDecodedOperand *z)
{
	return z->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
	       z->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64;
}

static void operand_mem(struct insn *i, struct insn_op *o, const ZydisDecodedOperand *z)
{
	if (!is_modrm_memory(z)) {
		o->kind = INSN_OP_MEM_IMPL;
		o->reg = mem_register(z->mem.base);
		if (!i->has_mem && (i->mem_seg == 0xff || z->mem.segment != ZYDIS_REGISTER_ES))
			i->mem_seg = seg_number(z->mem.segment);
		return;
	}
	o->kind = INSN_OP_MEM;
	i->has_mem = true;
	i->mem_seg = seg_number(z->mem.segment);
	i->mem_base = mem_register(z->mem.base);
	i->mem_vsib = z->mem.type == ZYDIS_MEMOP_TYPE_VSIB;
	if (i->mem_vsib) {
		struct insn_op v = { 0 };

		operand_reg(&v, z->mem.index);
		i->mem_index = v.reg;
	} else if (z->mem.type == ZYDIS_MEMOP_TYPE_MIB) {
		i->mem_index = INSN_NOREG;
	} else {
		i->mem_index = mem_register(z->mem.index);
	}
	i->mem_scale = (uint8_t)(z->mem.scale ? __builtin_ctz(z->mem.scale) : 0);
	i->mem_disp = z->mem.disp.has_displacement ? z->mem.disp.value : 0;
	if (z->mem.type == ZYDIS_MEMOP_TYPE_MEM && z->size <= 512)
		i->mem_size = (uint8_t)(z->size / 8);
	i->mem_read = o->read;
	i->mem_write = o->write;
}

static void convert_operand(struct insn *i, struct insn_op *o, const ZydisDecodedOperand *z)
{
	o->read = z->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	o->write = z->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	o->hidden = z->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN;
	switch (z->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG: o->enc = INSN_ENC_REG; break;
	case ZYDIS_OPERAND_ENCODING_MODRM_RM: o->enc = INSN_ENC_RM; break;
	case ZYDIS_OPERAND_ENCODING_NDSNDD: o->enc = INSN_ENC_VVVV; break;
	case ZYDIS_OPERAND_ENCODING_OPCODE: o->enc = INSN_ENC_OPCODE; break;
	default: o->enc = INSN_ENC_NONE; break;
	}
	o->size = (uint8_t)(z->size <= 512 ? z->size / 8 : 0);
	switch (z->type) {
	case ZYDIS_OPERAND_TYPE_REGISTER: operand_reg(o, z->reg.value); break;
	case ZYDIS_OPERAND_TYPE_MEMORY: operand_mem(i, o, z); break;
	case ZYDIS_OPERAND_TYPE_POINTER:
		o->kind = INSN_OP_PTR;
		o->imm = z->ptr.offset;
		i->ptr_sel = z->ptr.segment;
		break;
	case ZYDIS_OPERAND_TYPE_IMMEDIATE:
		o->kind = z->imm.is_relative ? INSN_OP_REL : INSN_OP_IMM;
		o->imm = z->imm.is_signed ? z->imm.value.s : (int64_t)z->imm.value.u;
		break;
	default: o->kind = INSN_OP_NONE; break;
	}
}

static uint8_t isa_class(const ZydisDecodedInstruction *z)
{
	switch (z->meta.isa_ext) {
	case ZYDIS_ISA_EXT_X87: return INSN_ISA_X87;
	case ZYDIS_ISA_EXT_MMX:
	case ZYDIS_ISA_EXT_AMD3DNOW: return INSN_ISA_MMX;
	case ZYDIS_ISA_EXT_XSAVE:
	case ZYDIS_ISA_EXT_XSAVEC:
	case ZYDIS_ISA_EXT_XSAVEOPT:
	case ZYDIS_ISA_EXT_XSAVES: return INSN_ISA_XSAVE;
	case ZYDIS_ISA_EXT_SSE:
	case ZYDIS_ISA_EXT_SSE2:
	case ZYDIS_ISA_EXT_SSE3:
	case ZYDIS_ISA_EXT_SSSE3:
	case ZYDIS_ISA_EXT_SSE4:
	case ZYDIS_ISA_EXT_SSE4A:
	case ZYDIS_ISA_EXT_AES:
	case ZYDIS_ISA_EXT_PCLMULQDQ:
	case ZYDIS_ISA_EXT_SHA:
	case ZYDIS_ISA_EXT_GFNI: return z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY ? INSN_ISA_SSE : INSN_ISA_AVX;
	default: break;
	}
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		return INSN_ISA_AVX512;
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return INSN_ISA_AVX;
	return INSN_ISA_INT;
}

static void convert_raw(struct insn *i, const ZydisDecodedInstruction *z)
{
	i->prefix_len = z->raw.prefix_count;
	i->has_modrm = z->attributes & ZYDIS_ATTRIB_HAS_MODRM;
	i->mod = z->raw.modrm.mod;
	i->reg = z->raw.modrm.reg;
	i->rm = z->raw.modrm.rm;
	i->modrm_off = z->raw.modrm.offset;
	i->disp_off = z->raw.disp.offset;
	i->disp_size = z->raw.disp.size / 8;
	i->imm_off = z->raw.imm[0].offset;
	i->imm_size = z->raw.imm[0].size / 8;
	i->imm_signed = z->raw.imm[0].is_signed;
	i->imm2_off = z->raw.imm[1].offset;
	i->imm2_size = z->raw.imm[1].size / 8;
	/* The opcode byte stands right before ModRM, or before what follows it. */
	if (i->has_modrm)
		i->opcode_off = (uint8_t)(i->modrm_off - 1);
	else if (i->disp_size)
		i->opcode_off = (uint8_t)(i->disp_off - 1);
	else if (i->imm_size)
		i->opcode_off = (uint8_t)(i->imm_off - 1);
	else
		i->opcode_off = (uint8_t)(i->len - 1);
	for (unsigned p = 0; p < z->raw.prefix_count; p++) {
		uint8_t v = z->raw.prefixes[p].value;

		i->lock |= v == 0xf0;
		i->has_66 |= v == 0x66;
		if (v == 0xf3 || v == 0xf2) {
			i->rep = v == 0xf3;
			i->repne = v == 0xf2;
		}
	}
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
		i->rex_w = z->raw.rex.W;
	else if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		i->rex_w = z->raw.vex.W;
	else if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		i->rex_w = z->raw.evex.W;
}

/* CLZERO's operand is a register to the library; its segment is that of memory at [rAX]. */
static uint8_t segment_prefix(const struct insn *i, unsigned bits)
{
	uint8_t seg = X86_DS;

	for (unsigned n = 0; n < i->opcode_off; n++) {
		switch (i->bytes[n]) {
		case 0x64: seg = X86_FS; break;
		case 0x65: seg = X86_GS; break;
		case 0x26: seg = bits == 64 ? seg : X86_ES; break;
		case 0x2e: seg = bits == 64 ? seg : X86_CS; break;
		case 0x36: seg = bits == 64 ? seg : X86_SS; break;
		case 0x3e: seg = bits == 64 ? seg : X86_DS; break;
		default: break;
		}
	}
	return seg;
}

int insn_decode(struct insn *i, const uint8_t *bytes, unsigned n, unsigned bits)
{
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction z;
	ZydisDecoder d;
	ZyanStatus st;

	if (decoder_init(&d, bits) < 0)
		return -EINVAL;
	if (n > INSN_MAX_LEN)
		n = INSN_MAX_LEN;
	st = ZydisDecoderDecodeFull(&d, bytes, n, &z, ops);
	if (!ZYAN_SUCCESS(st)) {
		/* SYSCALL and SYSRET exist outside 64-bit mode too on AMD; x86_syscall decides. */
		if (bits != 64 && n >= 2 && bytes[0] == 0x0f && (bytes[1] == 0x05 || bytes[1] == 0x07))
			return insn_decode(i, bytes, 2, 64);
		if (st == ZYDIS_STATUS_NO_MORE_DATA)
			return n == INSN_MAX_LEN ? -E2BIG : -ENODATA;
		return st == ZYDIS_STATUS_INSTRUCTION_TOO_LONG ? -E2BIG : -EINVAL;
	}
	memset(i, 0, sizeof(*i));
	i->mnemonic = (uint16_t)z.mnemonic;
	i->len = z.length;
	memcpy(i->bytes, bytes, z.length);
	i->encoding = (uint8_t)z.encoding;
	i->map = (uint8_t)z.opcode_map;
	i->opcode = z.opcode;
	i->osz = z.operand_width / 8;
	i->asz = z.address_width / 8;
	i->ssz = z.stack_width / 8;
	i->mem_base = i->mem_index = INSN_NOREG;
	i->mem_seg = 0xff;
	convert_raw(i, &z);
	if (z.avx.vector_length)
		i->vec_len = (uint8_t)(z.avx.vector_length / 8);
	i->n_ops = (uint8_t)MIN(z.operand_count, INSN_MAX_OPS);
	for (unsigned k = 0; k < i->n_ops; k++)
		convert_operand(i, &i->op[k], &ops[k]);
	if (i->mem_seg == 0xff)
		i->mem_seg = z.mnemonic == ZYDIS_MNEMONIC_CLZERO ? segment_prefix(i, bits) : X86_DS;
	/* SIB base 5 with mod 0 is no base even if REX.B is set: library 4.0 gets
	 * that wrong with 32-bit addresses. */
	if (i->has_mem && i->has_modrm && i->mod == 0 && i->rm == 4 && i->asz != 2 && z.raw.sib.base == 5) {
		i->mem_base = INSN_NOREG;
		i->mem_disp = z.raw.disp.value;
	}
	if (z.cpu_flags) {
		i->flags_read = z.cpu_flags->tested & (X86_FL_ARITH | X86_FL_DF);
		i->flags_written = (z.cpu_flags->modified | z.cpu_flags->set_0 | z.cpu_flags->set_1 |
				    z.cpu_flags->undefined) & (X86_FL_ARITH | X86_FL_DF);
	}
	if (z.cpu_flags)
		i->flags_defined = (z.cpu_flags->modified | z.cpu_flags->set_0 | z.cpu_flags->set_1) & (X86_FL_ARITH | X86_FL_DF);
	i->isa = isa_class(&z);
	return 0;
}

_Static_assert((int)INSN_LEGACY == ZYDIS_INSTRUCTION_ENCODING_LEGACY && (int)INSN_VEX == ZYDIS_INSTRUCTION_ENCODING_VEX &&
	       (int)INSN_EVEX == ZYDIS_INSTRUCTION_ENCODING_EVEX && (int)INSN_XOP == ZYDIS_INSTRUCTION_ENCODING_XOP,
	       "enum insn_encoding follows the library");

/* --- remembering --- */

/* Opcodes with a ModRM byte, one bit each: of map 0, of map 1. */
static const uint16_t has_modrm[2][16] = {
	{ 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a0c, 0, 0xffff, 0, 0, 0, 0x00f3, 0xff0f, 0, 0xc0c0 },
	{ 0xa00f, 0xffff, 0xffff, 0, 0xffff, 0xffff, 0xffff, 0xff7f, 0, 0xffff, 0xf8f8, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff },
};

static bool is_prefix(uint8_t b, unsigned bits)
{
	switch (b) {
	case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
	case 0x66: case 0x67: case 0xf0: case 0xf2: case 0xf3: return true;
	default: return bits == 64 && (b & 0xf0) == 0x40;
	}
}

static uint8_t at(const uint8_t *b, unsigned n, unsigned k) { return k < n ? b[k] : 0; }

/*
 * How many bytes stand before displacement and immediate; 0: more than are seen or remembered.  No more
 * than a guess: whether it is right is known when the decoder's answer is remembered.
 */
static unsigned head_length(const uint8_t *b, unsigned n, unsigned bits)
{
	bool modrm = true, sib = true;
	unsigned k = 0;
	uint8_t op;

	for (; k < n && is_prefix(b[k], bits); k++)
		sib &= bits == 64 || b[k] != 0x67;
	op = at(b, n, k++);
	if (op == 0x0f) {
		op = at(b, n, k++);
		if (op == 0x38 || op == 0x3a)
			k++;
		else
			modrm = has_modrm[1][op >> 4] >> (op & 15) & 1;
	} else if ((op == 0xc4 || op == 0xc5 || op == 0x62) && (bits == 64 || at(b, n, k) >= 0xc0)) {
		k += op == 0x62 ? 4 : op == 0xc4 ? 3 : 2;	/* with the opcode */
	} else {
		modrm = has_modrm[0][op >> 4] >> (op & 15) & 1;
	}
	if (modrm) {
		uint8_t m = at(b, n, k++);

		k += sib && m < 0xc0 && (m & 7) == 4;
	}
	return k <= n && k <= sizeof(uint64_t) ? k : 0;
}

static uint64_t head_of(const uint8_t *b, unsigned n, unsigned len)
{
	uint64_t v = 0;

	if (n >= sizeof(v))
		return ld_le64(b) & ~0ull >> (64 - 8 * len);
	memcpy(&v, b, len);
	return v;
}

static int64_t number_at(const uint8_t *b, unsigned size, bool is_signed)
{
	switch (size) {
	case 1: return is_signed ? (int8_t)b[0] : b[0];
	case 2: return is_signed ? (int16_t)ld_le16(b) : ld_le16(b);
	case 4: return is_signed ? (int32_t)ld_le32(b) : (int64_t)ld_le32(b);
	default: return (int64_t)ld_le64(b);
	}
}

/* Do the first `head` bytes decide all but displacement and immediate, and these as recall() fills them in? */
static bool head_decides(const struct insn *i, unsigned head, uint8_t *imm_op)
{
	unsigned n = 0;

	/* Immediates with registers in them, scaled displacements, opcodes at the end. */
	if (i->encoding != INSN_LEGACY && (i->encoding != INSN_VEX || i->imm_size))
		return false;
	if (head + i->disp_size + i->imm_size != i->len || i->imm2_size)
		return false;
	if (i->disp_size && (i->disp_off != head || !i->has_mem || i->mem_disp != number_at(i->bytes + head, i->disp_size, true)))
		return false;
	if (!i->imm_size)
		return true;
	for (unsigned k = 0; k < i->n_ops; k++) {
		if (i->op[k].kind == INSN_OP_PTR)
			return false;
		if (i->op[k].kind == INSN_OP_IMM || i->op[k].kind == INSN_OP_REL) {
			*imm_op = (uint8_t)k;
			n++;
		}
	}
	return n == 1 && i->imm_off == head + i->disp_size &&
	       i->op[*imm_op].imm == number_at(i->bytes + i->imm_off, i->imm_size, i->imm_signed);
}

static void remember(struct insn_memo_entry *e, const struct insn *i, uint64_t head, unsigned n_head, unsigned bits)
{
	if (i->n_ops > INSN_MEMO_OPS || n_head > i->len)
		return;
	e->head = head;
	e->n_head = (uint8_t)n_head;
	e->bits = (uint8_t)bits;
	e->imm_op = INSN_NOREG;
	e->exact = !head_decides(i, n_head, &e->imm_op);
	memcpy(e->insn, i, sizeof(e->insn));
}

/* False: more bytes decide than the head, and they differ; or there are not enough. */
static bool recall(const struct insn_memo_entry *e, struct insn *i, const uint8_t *bytes, unsigned n)
{
	memcpy(i, e->insn, sizeof(e->insn));
	if (i->len > n || (e->exact && memcmp(i->bytes, bytes, i->len) != 0))
		return false;
	memset((uint8_t *)i + sizeof(e->insn), 0, sizeof(*i) - sizeof(e->insn));
	if (e->exact)
		return true;
	for (unsigned k = e->n_head; k < i->len; k++)
		i->bytes[k] = bytes[k];
	if (i->disp_size)
		i->mem_disp = number_at(bytes + i->disp_off, i->disp_size, true);
	if (e->imm_op != INSN_NOREG)
		i->op[e->imm_op].imm = number_at(bytes + i->imm_off, i->imm_size, i->imm_signed);
	return true;
}

int insn_decode_memo(struct insn_memo *m, struct insn *i, const uint8_t *bytes, unsigned n, unsigned bits)
{
	unsigned n_head = bits == 16 ? 0 : head_length(bytes, n, bits);
	struct insn_memo_entry *e;
	uint64_t head;
	int r;

	if (!n_head)
		return insn_decode(i, bytes, n, bits);
	head = head_of(bytes, n, n_head);
	e = &m->e[(head ^ (uint64_t)(bits + n_head) << 58) * 0x9e3779b97f4a7c15ull >> (64 - INSN_MEMO_BITS)];
	if (e->head == head && e->n_head == n_head && e->bits == bits && recall(e, i, bytes, n))
		return 0;
	r = insn_decode(i, bytes, n, bits);
	if (r == 0)
		remember(e, i, head, n_head, bits);
	return r;
}
