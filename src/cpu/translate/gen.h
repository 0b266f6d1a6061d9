/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translator's working memory for one block (gen.c). */
#ifndef LODGE_CPU_TRANSLATE_GEN_H
#define LODGE_CPU_TRANSLATE_GEN_H

#include "cpu/translate/translate.h"

enum {
	GI_NOP, GI_COPY, GI_LEA, GI_PUSH, GI_POP, GI_LEAVE, GI_JCC,
	GI_CALLOUT,		/* one of interp's handlers does it */
	GI_FIRST_END,		/* from here on: the block ends with it */
	GI_JMP = GI_FIRST_END, GI_CALL, GI_JMP_IND, GI_CALL_IND, GI_RET,
};

struct gen_insn {
	struct insn i;
	uint16_t off;		/* page offset */
	uint8_t kind;
	bool aligned;		/* a misaligned operand is #GP before it is #PF */
	bool ends, vec, high8, renamed;
	uint8_t as[INSN_ENC_OPCODE + 1];	/* host register for each field, INSN_NOREG: as it is */
	uint8_t n_temps;
	struct { uint8_t guest, host; bool load, store; } temp[2];
	/* Memory access as pass two sees it, see struct gen_group. */
	uint8_t group;		/* or GEN_NO_GROUP */
	bool group_first;
	int32_t group_off;	/* from the group's lowest byte */
	int32_t delta;		/* RSP here less RSP at the block's start */
	unsigned uop;
	bool writes;		/* arithmetic flags */
	uint32_t reads, kill, live_after, need;
};

/*
 * Accesses whose addresses differ by constants only: one probe serves them all.
 * It wants the whole span in one page; where that fails, the block's variant
 * without groups runs.
 */
struct gen_group {
	uint8_t base, index, scale, write;
	unsigned n;		/* accesses */
	int32_t min, max;	/* of the span, exclusive; from the address with displacement 0 (and RSP at the block's start) */
	int slot;		/* in xl_cpu, or -1: too few accesses to be one */
};
#define GEN_NO_GROUP 0xff
#define GEN_MAX_GROUPS 32
#define GEN_GROUP_SPAN 512

/* Where the guest's arithmetic flags are at a point of the emitted code. */
enum { FL_DEAD, FL_HOST, FL_MEM, FL_BOTH };

enum { SLOW_MISS, SLOW_STORED_H, SLOW_STORED_M, SLOW_LINK, SLOW_VEC, SLOW_POLL, SLOW_INDIRECT, SLOW_CANONICAL, SLOW_FAR_JCC };

struct gen_slow {
	uint8_t what;
	bool check, save, to_tmp;
	int slot;		/* of the group whose page is stored to, or -1 */
	uint32_t desc2;
	unsigned at;		/* branch that comes here */
	uintptr_t back, done;
	uint32_t desc;
	int32_t tag, idx, pop, rel, disp;
	uint16_t off;
	struct xl_exit *exit;
};

#define GEN_MAX_SLOW 400
#define GEN_MAX_CODE 32768u

struct gen {
	struct xl_cpu *x;
	struct xl_engine *xe;
	struct xl_block *b;
	struct xasm a;
	const struct x86_tlb_entry *page;
	const uint8_t *bytes;	/* of the guest's page */
	uint32_t key, version, live_in, live_out;
	unsigned acc, n, next, n_uops, n_slow, n_faults, code0;
	bool have_version, vec_ok;
	int fl;
	unsigned n_groups, n_slots;
	struct gen_group groups[GEN_MAX_GROUPS];
	struct gen_insn insn[XL_MAX_INSNS];
	struct uop uops[XL_MAX_INSNS];
	struct gen_slow slow[GEN_MAX_SLOW];
	struct xl_insn faults[XL_MAX_INSNS];
};

#endif
