/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Re-encoding a guest instruction for execution by the 64-bit host: the memory
 * operand becomes [register], a general register may be renamed, prefixes that
 * only matter for addressing disappear, and 16 and 32-bit code gets the encoding
 * that means the same in 64-bit code.
 *
 * Done on the bytes (legacy, VEX, XOP and EVEX layouts: SDM vol. 2, 2.1 to 2.7),
 * then proved by decoding the result: same mnemonic, same operands but for what
 * was to change.  What cannot be proved equal is refused.
 */
#ifndef LODGE_CPU_X86_REWRITE_H
#define LODGE_CPU_X86_REWRITE_H

#include <stdint.h>

#include "cpu/x86/decode.h"
#include "cpu/x86/opinfo.h"

struct rewrite {
	/* in */
	uint8_t mem_reg;	/* 0..15: base for the memory operand; INSN_NOREG if it has none */
	uint8_t rsp_as;		/* 0..15: stands in for RSP as a data operand; INSN_NOREG: no renaming */
	/* insn_rename only: the register that takes each field's place, INSN_NOREG: as it is */
	uint8_t field_as[INSN_ENC_OPCODE + 1];
	uint8_t variant;	/* insn_rename of 32-bit code only: below REWRITE_VARIANTS32 */
	/* insn_rename only: the operand is [mem_reg + mem_disp], or with has_index [mem_reg + mem_index + mem_disp]. */
	int32_t mem_disp;
	bool has_index;
	uint8_t mem_index;	/* not RSP */
	/* out */
	uint8_t len;
	uint8_t bytes[INSN_MAX_LEN + 3];
};

/*
 * i: any instruction with at most one ModRM memory operand (not moffs, not
 * VSIB); o: op_info_get's answer for it.  0, or -EINVAL: no such encoding.
 */
int insn_rewrite(const struct insn *i, const struct op_info *o, struct rewrite *r);
/*
 * The same for 64 and 32-bit code, with any general register renamed by the field that
 * names it (field_as; rsp_as is not looked at) and without the proof: the caller
 * vouches that the named fields hold general registers, and that no operand is
 * AH..BH if an extended register or a memory operand comes in.  What 32-bit code means
 * depends on how bits count that it ignores: the caller tries each variant until
 * its proof holds.  Of 32-bit code, MOV with an absolute address is taken too.
 */
#define REWRITE_VARIANTS32 4u
int insn_rename(const struct insn *i, struct rewrite *r);

#endif
