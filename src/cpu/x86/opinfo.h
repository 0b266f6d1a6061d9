/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What must be known of an instruction to let the host execute it in the
 * guest's place: which registers of which kind it touches, which processor
 * state and CPUID features must be enabled, whether it depends on MXCSR, how its
 * memory operand must be aligned, and which part of that operand a mask can
 * switch off.
 *
 * Slow (it decodes again): meant to be asked once per distinct instruction.
 */
#ifndef LODGE_CPU_X86_OPINFO_H
#define LODGE_CPU_X86_OPINFO_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/x86/decode.h"

/* Processor state the instruction lives in: decides its enable checks. */
enum op_state {
	OP_STATE_INT,		/* general registers only; VEX-encoded ones need protected mode */
	OP_STATE_X87,
	OP_STATE_MMX,		/* also SSE extensions that touch MMX registers only */
	OP_STATE_SSE,
	OP_STATE_AVX,
	OP_STATE_AVX512,
	OP_STATE_OTHER,		/* not for execution on the host */
};

/* How EVEX write masks (or VMASKMOV's vector masks) act on the memory operand. */
enum op_mask {
	OP_MASK_NONE,		/* all of it is accessed, whatever the mask */
	OP_MASK_ELEM,		/* element n is accessed if mask bit n is set */
	OP_MASK_BCAST,		/* element n is accessed if any mask bit m with m % elems == n is set */
	OP_MASK_PACK,		/* as many elements as the mask has bits, from the first on (VPEXPAND, VPCOMPRESS) */
};

/* Fields that hold a general register's number, as bits. */
enum op_field { OP_FIELD_NONE, OP_FIELD_REG = 1, OP_FIELD_RM = 2, OP_FIELD_VVVV = 4 };

struct op_feature {
	uint8_t word;		/* enum x86_feature_word */
	uint32_t bit;		/* mask */
};

#define OP_MAX_FEATURES 4

struct op_info {
	uint8_t state;			/* enum op_state */
	bool vex;			/* VEX, XOP or EVEX encoding: undefined in real and virtual-8086 mode */
	bool known;			/* its features are known; otherwise it must not run */
	bool mxcsr;			/* reads or writes MXCSR */
	bool legacy_vec;		/* legacy encoding with XMM operands: upper parts are kept */
	uint8_t n_features;
	struct op_feature feature[OP_MAX_FEATURES];

	uint32_t gpr_read, gpr_write;	/* memory addressing registers not counted */
	uint32_t vec_read, vec_write;
	uint8_t vec_width;		/* widest vector operand in bytes: 16, 32, 64 */
	uint8_t k_read, k_write;
	uint8_t mm_read, mm_write;
	uint8_t rsp_fields;		/* enum op_field: where RSP is named */
	bool rsp_fixed;			/* RSP is used otherwise: cannot be renamed */
	bool is4;			/* a register number in bits 7:4 of the immediate */
	bool has_high8;			/* AH, CH, DH or BH: no REX prefix may be added */

	uint8_t align;			/* required alignment of the memory operand (#GP), 0 or 1: none */
	uint8_t mem_size;		/* bytes of the memory operand, 0 unknown */
	uint8_t mask;			/* enum op_mask */
	uint8_t mask_k;			/* k register that masks, 0 none */
	uint8_t mask_bits;		/* number of significant mask bits */
	uint8_t elem_size, elems;	/* of the memory operand, when mask != OP_MASK_NONE */
	uint8_t index_size;		/* VSIB: bytes of an index element; elem_size is a data element's */
};

/* 0 or -EINVAL if the bytes do not decode as 16, 32 or 64-bit code (i->ssz tells). */
int op_info_get(const struct insn *i, struct op_info *o);

#endif
