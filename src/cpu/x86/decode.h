/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Instruction decoding: Zydis behind our own struct, so that the rest of the
 * engine never sees the library's (only its mnemonic numbers).
 */
#ifndef LODGE_CPU_X86_DECODE_H
#define LODGE_CPU_X86_DECODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Mnemonic.h>

#define INSN_MAX_LEN 15
#define INSN_MAX_OPS 10

enum insn_op_kind {
	INSN_OP_NONE,
	INSN_OP_GPR,		/* reg 0..15; high8: AH CH DH BH (reg 0..3) */
	INSN_OP_SEG, INSN_OP_CR, INSN_OP_DR,
	INSN_OP_MMX, INSN_OP_X87,
	INSN_OP_VEC,		/* reg 0..31, size 16, 32, 64 */
	INSN_OP_K,
	INSN_OP_MEM,		/* the instruction's one explicit or implicit memory operand; see mem in struct insn */
	INSN_OP_MEM_IMPL,	/* implicit memory: stack, string; reg = base GPR */
	INSN_OP_IMM,
	INSN_OP_REL,		/* branch displacement in imm */
	INSN_OP_PTR,		/* far pointer: imm = offset; ptr_sel of the instruction */
	INSN_OP_OTHER,		/* flags, IP, MXCSR, XCR0, tables ... */
};

/* The field of the encoding that holds a register operand's number. */
enum insn_op_enc { INSN_ENC_NONE, INSN_ENC_REG, INSN_ENC_RM, INSN_ENC_VVVV, INSN_ENC_OPCODE };

struct insn_op {
	uint8_t kind;		/* enum insn_op_kind */
	uint8_t enc;		/* enum insn_op_enc */
	uint8_t reg;
	uint8_t size;		/* bytes; 0 when not meaningful */
	bool high8;
	bool read, write;	/* unconditional or conditional */
	bool hidden;		/* implicit in the encoding */
	int64_t imm;
};

enum insn_encoding { INSN_LEGACY, INSN_3DNOW, INSN_XOP, INSN_VEX, INSN_EVEX };

#define INSN_NOREG 0xff
#define INSN_RIP 0x10

struct insn {
	uint16_t mnemonic;	/* ZYDIS_MNEMONIC_* */
	uint8_t len;
	uint8_t bytes[INSN_MAX_LEN];
	uint8_t encoding;	/* enum insn_encoding */
	uint8_t map, opcode;	/* opcode map 0, 1 = 0F, 2 = 0F38, 3 = 0F3A, 5, 6; opcode byte */
	uint8_t osz, asz, ssz;	/* operand, address, stack width in bytes */
	bool lock, rep, repne, has_66, rex_w;
	bool has_modrm;
	uint8_t mod, reg, rm;	/* as in the byte, not extended */
	uint8_t modrm_off, disp_off, disp_size, imm_off, imm_size, imm2_off, imm2_size, opcode_off, prefix_len;
	uint8_t vec_len;	/* 16, 32, 64 for VEX/EVEX */
	uint8_t n_ops;
	bool imm_signed;
	uint16_t ptr_sel;	/* of INSN_OP_PTR */
	/* The ModRM memory operand (or moffs), if any. */
	bool has_mem;
	uint8_t mem_seg;	/* X86_ES.. effective segment */
	uint8_t mem_base;	/* 0..15, INSN_RIP, INSN_NOREG */
	uint8_t mem_index;	/* 0..15, INSN_NOREG; VSIB: vector register number, mem_vsib set */
	bool mem_vsib;
	uint8_t mem_scale;	/* 0..3 shift */
	uint8_t mem_size;	/* bytes accessed; 0: not a plain access (LEA, prefetch, XSAVE ...) or > 64 */
	bool mem_read, mem_write;
	int64_t mem_disp;
	uint32_t flags_read, flags_written;	/* X86_FL_ARITH bits (and DF) tested / possibly modified */
	uint32_t flags_defined;	/* those of flags_written that get a defined value (if the instruction does anything) */
	uint8_t isa;		/* coarse class: INSN_ISA_* */
	struct insn_op op[INSN_MAX_OPS];	/* last, see struct insn_memo */
};

enum { INSN_ISA_INT, INSN_ISA_X87, INSN_ISA_MMX, INSN_ISA_SSE, INSN_ISA_AVX, INSN_ISA_AVX512, INSN_ISA_XSAVE, INSN_ISA_SYS };

/* bits: 16, 32 or 64 (code size).  Returns 0, -EINVAL: undefined opcode (the
 * length is not meaningful), -ENODATA: the bytes end before the instruction
 * does, -E2BIG: longer than 15 bytes. */
int insn_decode(struct insn *i, const uint8_t *bytes, unsigned n, unsigned bits);

/*
 * The same, remembering.  What instruction bytes mean depends on nothing else, and
 * what stands before displacement and immediate decides all but these two, so
 * that they are put into a copy of what is known.  Zeroed at first; one thread at
 * a time.
 */
#define INSN_MEMO_BITS 11
#define INSN_MEMO_OPS 5		/* instructions with more operands are not remembered */
struct insn_memo {
	struct insn_memo_entry {
		uint64_t head;		/* the bytes up to displacement or immediate, as many as n_head */
		uint8_t n_head;		/* 0: empty */
		uint8_t bits;
		bool exact;		/* what follows the head must be the same too */
		uint8_t imm_op;		/* operand that has the immediate, or INSN_NOREG */
		uint8_t insn[offsetof(struct insn, op) + INSN_MEMO_OPS * sizeof(struct insn_op)];
	} e[1u << INSN_MEMO_BITS];
};
int insn_decode_memo(struct insn_memo *m, struct insn *i, const uint8_t *bytes, unsigned n, unsigned bits);

#endif
