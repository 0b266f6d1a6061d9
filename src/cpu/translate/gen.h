/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The translator's working memory for one block (gen.c). */
#ifndef LODGE_CPU_TRANSLATE_GEN_H
#define LODGE_CPU_TRANSLATE_GEN_H

#include "cpu/translate/translate.h"

enum {
	GI_NOP, GI_COPY, GI_LEA, GI_PUSH, GI_PUSH_MEM, GI_POP, GI_LEAVE, GI_JCC,
	GI_COUNT,		/* LOOP, JRCXZ */
	GI_CALLOUT,		/* one of interp's handlers does it */
	GI_SYS,			/* gen_sys.c */
	GI_FIRST_END,		/* from here on: the block ends with it */
	GI_JMP = GI_FIRST_END, GI_CALL, GI_JMP_IND, GI_CALL_IND, GI_RET,
};

struct gen_insn {
	struct insn i;
	uint16_t off;		/* page offset */
	uint8_t kind;
	bool aligned;		/* a misaligned operand is #GP before it is #PF */
	bool masked;		/* a mask says which bytes of the operand are accessed */
	bool ends, vec, high8, renamed;
	bool inverted;		/* GI_JCC of an unrolled loop: out of it where the condition does not hold, else on */
	uint8_t x87;		/* GX_* */
	uint16_t fop;		/* GX_NOTED: FOP */
	uint8_t as[INSN_ENC_OPCODE + 1];	/* host register for each field, INSN_NOREG: as it is */
	uint8_t variant;	/* of 32-bit code: as which insn_rename proves right */
	uint8_t n_temps;
	uint8_t sys;		/* of GI_SYS: which, for gen_sys.c */
	struct { uint8_t guest, host; bool load, store; } temp[2];
	/* Memory access as pass two sees it, see struct gen_group. */
	uint8_t group;		/* or GEN_NO_GROUP */
	bool group_first;
	int32_t group_off;	/* the access's own, as in struct gen_group's min and max */
	int32_t delta;		/* of its address, as far as registers have changed by constants since the block's start */
	unsigned uop;
	unsigned host;		/* where its code begins, from that of the emitted */
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
	int32_t min, max;	/* of the span, exclusive; from the address with displacement 0 and registers as at the block's start */
	bool split;		/* takes no writes */
	unsigned begin;		/* instruction with its first access */
	bool hoisted;		/* probed where the block begins */
};

/* Where an access's host address is: [base + index + disp], and in the vCPU block
 * the pointer to its page's flags. */
struct gen_at {
	uint8_t base, index;	/* index: H_NONE without one */
	int32_t disp;
	int32_t flags;
};
#define GEN_NO_GROUP 0xff
#define GEN_MAX_GROUPS XL_SCRATCH
#define GEN_GROUP_SPAN 512

/* What an instruction has to do with the x87 state: nothing, uses it, and is the one that FIP tells of,
 * stores or loads the environment. */
enum { GX_NONE, GX_USES, GX_NOTED, GX_STORES_ENV, GX_LOADS_ENV };

/* Where the guest's arithmetic flags are at a point of the emitted code. */
enum { FL_DEAD, FL_HOST, FL_MEM, FL_BOTH };

enum { SLOW_MISS, SLOW_STORED_H, SLOW_STORED_M, SLOW_LINK, SLOW_VEC, SLOW_X87, SLOW_POLL, SLOW_POLL_LIVE, SLOW_INDIRECT, SLOW_CANONICAL,
       SLOW_FAR_JCC, SLOW_CALLOUT, SLOW_PLAIN };

struct gen_slow {
	uint8_t what, acc;
	unsigned uop;
	bool check, save, to_tmp, elsewhere, cold, shadow;
	struct gen_at to;	/* what was stored to */
	uint32_t desc2;
	/* SLOW_MISS of a store by itself to guarded memory: where the block goes on behind it, and what follows then. */
	uintptr_t after;
	uint32_t desc_after;
	bool flags_after;
	unsigned at;		/* branch that comes here */
	uintptr_t back, done;
	uint32_t desc;
	int32_t tag, pop, rel;
	uint16_t off;
	struct xl_exit *exit;
};

#define GEN_MAX_SLOW 400
#define GEN_MAX_CODE 32768u
#define GEN_LITTLE_CODE 4096u	/* does for nearly every block */

struct gen {
	struct xl_cpu *x;
	struct xl_engine *xe;
	struct xl_block *b;
	struct xasm a;		/* where code goes: at first what usually runs, then what is out of line */
	struct xasm hot, out_of_line;	/* the former when it is complete; the latter before it is begun */
	bool cold;		/* that is where code goes now */
	const struct x86_tlb_entry *page;
	const uint8_t *bytes;	/* of the guest's page */
	_Atomic uint32_t *verp2;	/* the block is one instruction that ends on this page, or NULL */
	uint32_t version2;
	uint32_t key, version, live_in, live_out, undefined, undefined_now;
	unsigned bits, word;	/* of the guest's code: 64 or 32; bytes of an address and of a stack slot: 8 or 4 */
	bool w;			/* word == 8: registers are worked on whole (else what is 32 bits wide wraps there) */
	unsigned acc, n, next, n_uops, n_slow, n_faults, code0;
	uint64_t marked;	/* granules of the page that are marked as code, at `version` */
	bool vec_ok;
	bool shadow;		/* STI's is over the next instruction */
	bool x87_ok, x87_page_ok, x87_late;	/* gen_x87.c */
	int fl;
	bool guarded;		/* xl_guards */
	struct gen_slow *probe;	/* the last for a store by itself */
	/* The block begins with a loop: so many of the instructions are in it, and it is there more than once; plain: this
	 * is the variant that goes through it once, without groups (see gen_loop.c). */
	unsigned loop, copies;
	bool plain;
	uintptr_t plain_at;	/* jump to that variant */
	unsigned in_loop;	/* instructions of the loop and its copies, if groups are probed before it, else 0 */
	uint8_t held[2];	/* groups whose host addresses R10 and R11 hold there, or GEN_NO_GROUP */
	unsigned n_groups;
	struct gen_group groups[GEN_MAX_GROUPS];
	struct gen_insn insn[XL_MAX_INSNS];
	struct xl_uop uops[XL_MAX_INSNS];
	struct gen_slow slow[GEN_MAX_SLOW];
	struct xl_insn faults[XL_MAX_INSNS];
};

/* --- where guest registers are --- */
static inline bool in_memory(unsigned g) { return g >= 9 && g <= 11; }
static inline unsigned host_reg(unsigned g) { return g == X86_RSP ? H_R9 : g; }

/* The instruction's immediate, sign-extended. */
static inline int64_t gen_imm(const struct insn *i)
{
	switch (i->imm_size) {
	case 1: return (int8_t)i->bytes[i->imm_off];
	case 2: return (int16_t)ld_le16(i->bytes + i->imm_off);
	case 4: return (int32_t)ld_le32(i->bytes + i->imm_off);
	default: return 0;
	}
}
/* Of a direct branch: offset of its target from the start of the page. */
static inline int32_t gen_target_of(const struct gen_insn *gi)
{
	return (int32_t)(gi->off + gi->i.len + (gi->inverted ? 0 : gi->i.op[0].imm));
}

/* May the block go on behind it, or elsewhere? */
static inline bool gen_conditional(const struct gen_insn *gi) { return gi->kind == GI_JCC || gi->kind == GI_COUNT; }

static inline bool gen_in_page(int32_t target) { return target >= 0 && target < (int32_t)PAGE_4K; }

/* --- pass one and two: gen_scan.c, gen_group.c --- */
/* Decodes the block at page offset `off`. False: the code changed under our hands. */
bool gen_collect(struct gen *g, unsigned off);
void gen_liveness(struct gen *g);
void gen_find_groups(struct gen *g);

/* --- gen_loop.c --- */
/* The last instruction is a branch back to the block's start: how many times the loop is to be there; 0: it is not unrolled. */
unsigned gen_loop_copies(const struct gen *g);
/* Which groups' addresses stay in registers in the loop. */
void gen_loop_hold(struct gen *g);
/* The probes that are made before the loop. */
void gen_loop_head(struct gen *g);
void gen_loop_plain(struct gen *g);	/* SLOW_PLAIN */

/* --- pass three: gen.c --- */
/* Both take R11. */
void gen_flags_restore(struct gen *g);
/* The host's flags are about to be destroyed; `live` of the guest's still matter. */
void gen_flags_clobber(struct gen *g, uint32_t live);
/* An out-of-line piece, emitted after the block's straight line. */
struct gen_slow *gen_slow_new(struct gen *g, int what);
/* A branch that is taken if R11 is not zero, without touching flags; returns as a_jmp_fwd. */
unsigned gen_if_r11(struct gen *g);
/* reg = RIP at a page offset. */
void gen_rip_at(struct gen *g, unsigned reg, int32_t off);

/* --- dump.c --- */
/* The block that g holds has been published; engine.dump is set. */
void xl_dump_block(const struct gen *g, uint64_t rip);

/* --- gen_mem.c --- */
/* dst = effective address of the memory operand (without segment base). */
void gen_ea(struct gen *g, const struct gen_insn *gi, unsigned dst);
/*
 * Makes `len` bytes accessible at gi's memory operand, or its slot on the stack.
 * Destroys R10 and R11 (R11 stays the instruction's if keep_r11) and the host's
 * flags unless gen_quiet_access says not.
 */
struct gen_at gen_access(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len);
static inline bool gen_quiet_access(const struct gen_insn *gi) { return gi->group != GEN_NO_GROUP && !gi->group_first; }
/* The probe of a group where the block begins; returns the branch taken where there is no translation, or it
 * would not be in one page. */
unsigned gen_probe_group(struct gen *g, unsigned group);
/* reg = host address of a group. */
void gen_group_host(struct gen *g, unsigned group, unsigned reg);
/* The access by a move between it and a host register, at->disp included. */
void gen_at_op(struct gen *g, unsigned w, unsigned op, unsigned reg, const struct gen_at *at);
/* After a store: does the page hold code? Destroys R11, and the host's flags unless they are the guest's and live.
 * What it returns tells where to go on if so: as it is, at the next instruction. */
struct gen_slow *gen_stored(struct gen *g, const struct gen_insn *gi, const struct gen_at *at, unsigned len);

/* --- gen_copy.c --- */
/* Vector registers are the guest's from here on. need: live flags. */
void gen_use_vectors(struct gen *g, uint32_t need);
/* 32-bit code: finds how to copy it; false: not possible. */
bool gen_copies32(struct gen *g, struct gen_insn *gi);
void gen_copy(struct gen *g, struct gen_insn *gi);
void gen_lea(struct gen *g, const struct gen_insn *gi);
void gen_push(struct gen *g, const struct gen_insn *gi);
void gen_pop(struct gen *g, const struct gen_insn *gi);
void gen_leave(struct gen *g, const struct gen_insn *gi);
/* The slot of the stack that a push or pop (kind) uses. */
struct gen_at gen_stack_access(struct gen *g, const struct gen_insn *gi, unsigned how);
/* After the store of a push: RSP moves on. */
struct gen_slow *gen_pushed(struct gen *g, const struct gen_insn *gi, struct gen_at *at);
/* What follows may fault on the host's CPU: then the instruction is interp's. */
void gen_fault_here(struct gen *g, const struct gen_insn *gi);

/* --- gen_x87.c --- */
struct exec;
/* Is this x87 or MMX instruction, which has a stub, to be copied? */
bool gen_x87_copies(struct gen *g, struct gen_insn *gi, const struct exec *x);
/* One without a stub that the host performs as it is. */
bool gen_x87_control(struct gen *g, struct gen_insn *gi);
/* Before the instruction, before its operand's address, and after it (before what follows a store). */
void gen_x87_use(struct gen *g, const struct gen_insn *gi);
void gen_x87_operand(struct gen *g, const struct gen_insn *gi);
void gen_x87_note(struct gen *g, const struct gen_insn *gi);
/* FNSTENV to [R10 + disp], in place of the instruction (R11 is free, flags dead); what follows FLDENV from there. */
void gen_x87_store_env(struct gen *g, int32_t disp);
void gen_x87_load_env(struct gen *g, int32_t disp);

/* --- gen_sys.c --- */
/* True: it is a GI_SYS, with a uop for the cases that are not simple. */
bool gen_sys_classify(struct gen *g, struct gen_insn *gi);
bool gen_sys_ends(const struct gen_insn *gi);		/* the block */
bool gen_sys_flags(const struct gen_insn *gi);		/* wants all arithmetic flags in c->lf */
bool gen_sys_remaps(const struct gen_insn *gi);		/* host addresses found before may be wrong after it */
void gen_sys(struct gen *g, const struct gen_insn *gi);
/* Behind the instruction in the shadow of STI. */
void gen_shadow_ends(struct gen *g);
void gen_shadow_over(struct gen *g);	/* takes it away */

/* --- gen_stack.c --- */
void gen_push_mem(struct gen *g, const struct gen_insn *gi);

/* A block that ends on another page: is that what it was? */
void gen_page2(struct gen *g);

/* --- gen_flow.c --- */
void gen_jcc(struct gen *g, const struct gen_insn *gi);
void gen_count(struct gen *g, const struct gen_insn *gi);
/* A branch (cc: 16 = always) of the instruction at `off` to another place of the page, patched when
 * that is translated. */
struct xl_exit *gen_link(struct gen *g, unsigned cc, unsigned off, int32_t target);
void gen_call(struct gen *g, const struct gen_insn *gi);
void gen_call_indirect(struct gen *g, const struct gen_insn *gi);
void gen_jmp_indirect(struct gen *g, const struct gen_insn *gi);
void gen_ret(struct gen *g, const struct gen_insn *gi);
/* On to the code at an offset from the page's start. */
void gen_goto(struct gen *g, const struct gen_insn *gi, int32_t target);
/* To the RIP in R10; flags are in c->lf or dead. check: R10 comes from the guest and
 * may be non-canonical (then the instruction is interp's). */
void gen_indirect(struct gen *g, const struct gen_insn *gi, bool check, int32_t pop);
void gen_canonical_or_step(struct gen *g, int32_t off);
/* To interp with the instruction at `off`; flags are in c->lf or dead. */
void gen_step(struct gen *g, int32_t off);

#endif
