/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reference CPU: guest code decoded once into micro-operations ("uops"),
 * one per instruction, grouped in basic blocks that are cached per vCPU.
 *
 * A uop is a handler with its operands prepared: registers as byte offsets into
 * struct x86_cpu (from its field zero on), so that a handler never asks what kind
 * of register it has; addresses as base + index << scale + disp with an absent
 * register standing for a field that is always zero.  A handler returns the next
 * uop, or NULL to leave the block, after storing s.rip.  What a uop refers to it
 * names by distance, so it takes half a cache line and can be copied.
 *
 * Arithmetic flags live in c->lf in the form LAHF and SETO give; the host's own
 * instructions compute them, undefined bits included.
 *
 * Blocks are keyed by physical address and mode, and know no absolute address, so
 * every process that maps a library runs the same ones.  They stay
 * valid as long as the version of the page(s) they came from does not change
 * (cpu/x86/codemap.c); no other vCPU ever touches them.
 */
#ifndef LODGE_CPU_INTERP_INTERP_H
#define LODGE_CPU_INTERP_INTERP_H

#include "cpu/engine.h"
#include "cpu/interp/exec.h"
#include "cpu/x86/cpu.h"
#include "cpu/x86/decode.h"

struct uop;
typedef const struct uop *(*uop_fn)(struct x86_cpu *c, const struct uop *u);

/* How the effective address becomes linear. */
enum uop_ea {
	EA_FLAT64,	/* 64-bit mode, no segment base */
	EA_BASE64,	/* 64-bit mode, FS or GS */
	EA_FLAT64_A32,	/* 64-bit mode, 32-bit address size */
	EA_BASE64_A32,
	EA_FLAT32,	/* flat 32-bit */
	EA_SEG,		/* the whole segmentation, 32-bit address size */
	EA_SEG16,	/* the same, 16-bit */
};

struct uop {
	uop_fn fn;
	union {
		struct {
			int32_t imm;	/* sign-extended where it stands for 64 bits */
			int32_t disp;
		};
		int64_t imm64;		/* MOV r64, imm64; MOV with a 64-bit address */
	};
	int32_t ref;			/* uop_exec: the stub; uop_sys: the function */
	uint8_t dst, src, base, index;	/* byte offsets, see R8 */
	uint8_t scale, ea;
	uint8_t osz, aux, rep;		/* osz: bytes; aux: free for the handler; rep: 0, 0xf3, 0xf2 */
	uint8_t seg : 4, asz : 4;	/* asz: bytes */
	uint16_t off : 12, len : 4;	/* off: of the instruction from the block's start */
};
_Static_assert(sizeof(struct uop) == 32, "two uops to a cache line");

#define BLOCK_MAX_UOPS 32
#define ARENA_SEG (256u << 10)
#define ARENA_SEGS 128u

struct block {
	uint64_t gpa;
	_Atomic uint32_t *verp;
	uint32_t version;
	uint32_t key;
	uint32_t hash_next : 24;	/* unit of the arena, or 0 */
	uint32_t two : 1;		/* lies on two pages: a struct block_page2 follows the ops */
	uint32_t used : 1;		/* looked up again since its segment was last gone through */
	uint32_t heat : 6;		/* times run, for a tier's choice of what to translate */
	uint16_t end;			/* offset of the byte after the last instruction */
	uint8_t n;			/* instructions */
	uint8_t units;			/* size in BLOCK_UNITs, with what follows the ops */
	struct uop ops[];
};

/* The second page of a block that is one instruction astride two pages. */
struct block_page2 {
	uint64_t gpa;
	_Atomic uint32_t *verp;
	uint32_t version;
	uint32_t pad[3];
};
#define BLOCK_UNIT 32u
#define BLOCK_MAX_UNITS (1u + BLOCK_MAX_UOPS + 1u + 1u)
_Static_assert(sizeof(struct block) == BLOCK_UNIT && sizeof(struct uop) == BLOCK_UNIT &&
	       sizeof(struct block_page2) == BLOCK_UNIT, "blocks are made of units");

/* The block last seen at a linear address: found without hashing.  Never stale by
 * itself: the version, the mode and the page's translation are compared. */
#define FRONT_BITS 13
#define FRONT_SIZE (1u << FRONT_BITS)

#define BHASH_BITS 15
#define GHOST_BITS 13

/*
 * Where the blocks of one vCPU live: a ring of segments, of which as many are in
 * use as the guest's code turns out to need (arena.c).
 */
struct arena {
	uint8_t *base;			/* ARENA_MAX bytes of address space */
	uint32_t n;			/* segments in use */
	uint32_t cur;			/* segment being filled */
	uint32_t fill[ARENA_SEGS];	/* bytes used of each */
	uint32_t hash[1u << BHASH_BITS]; /* by address: first unit of a chain, or 0 */
	uint16_t ghost[1u << GHOST_BITS]; /* of blocks given up lately: part of their address */
	uint64_t run, again;		/* instructions executed and decoded again, of the last few turns */
	uint64_t turned_at;		/* c.n_insn at the last turn */
	uint64_t n_again, n_kept;	/* blocks, for statistics */
};

struct interp_engine;
struct interp_cpu;

/*
 * A faster tier on top: it runs the code it can and has interp do the rest.  All
 * but stats are called with the vCPU's own thread or before it exists.
 */
struct interp_tier {
	const struct cpu_engine_ops *ops;	/* of the engine as users know it */
	int (*engine_init)(struct cpu_engine *e, const struct cpu_engine_config *cfg, void **tier_engine, struct err *err);
	void (*engine_free)(void *tier_engine);
	/* Is the guest's TSC to be the host's, instead of beginning at 0? [once, behind engine_init] */
	bool (*host_tsc)(void *tier_engine);
	/* The vCPU, zeroed, beginning with struct interp_cpu; NULL: no memory. */
	struct interp_cpu *(*cpu_new)(void *tier_engine);
	void (*cpu_free)(struct interp_cpu *ic);
	/* Runs blocks until something wants the outer loop; flags are in c->lf. */
	void (*run)(struct interp_cpu *ic);
	/* A fault came out of run: its thread is back in the outer loop. */
	void (*aborted)(struct interp_cpu *ic);
	void (*stats)(void *tier_engine, engine_stat_fn fn, void *opaque);
	/* The vCPU is `outside`, and an event is there. [any thread] */
	void (*kick)(struct interp_cpu *ic);
	/* Forgets all that was cached for the vCPU, and gives the memory back. [while it does not run] */
	void (*cpu_drop)(struct interp_cpu *ic);
	/* Text for a vCPU that is broken; or NULL. */
	void (*report)(struct interp_cpu *ic, char *buf, size_t len);
};

/* The last IN, for interp_poll. */
struct interp_poll {
	uint64_t rip, regs;
	uint32_t n;			/* times it came by as it did before */
	uint16_t port;
};

struct interp_cpu {
	struct x86_cpu c;		/* first */
	struct interp_engine *e;
	const struct interp_tier *tier;	/* or NULL */
	void *tier_engine;
	struct block *front[FRONT_SIZE];
	struct arena arena;
	struct exec_cache *exec;
	const char *stubs;		/* exec_cache_pool(exec) */
	struct insn_memo memo;
	struct block *scratch;		/* a block used once (stepping, code in MMIO) */
	_Atomic int sleeping;		/* waits for the futex `events`: in HLT, or between polls */
	_Atomic bool outside;		/* the tier waits for a process: to be kicked */
	struct interp_poll poll;
	uint64_t n_flush, n_blocks_made, n_halts, n_polls_slept;
	struct x86_event ev;		/* being delivered, or to be: deliver_pending */
	bool deliver_pending;
	bool broken;			/* the tier cannot go on: VCPU_STOP_ERROR */
	bool in_block;			/* c->lf holds the flags, c->cur_uop says where we are */
};

static inline struct interp_cpu *interp_of(struct x86_cpu *c) { return (struct interp_cpu *)c; }

static inline unsigned front_index(uint64_t lin)
{
	return (unsigned)(lin ^ lin >> FRONT_BITS) & (FRONT_SIZE - 1);
}
/* Its instruction and the end of the block come first. */
static inline struct block_page2 *block_page2(const struct block *b) { return (struct block_page2 *)&b->ops[2]; }
static inline bool block_current(const struct block *b)
{
	if (b->version != atomic_load_explicit(b->verp, memory_order_acquire))
		return false;
	return likely(!b->two) ||
	       block_page2(b)->version == atomic_load_explicit(block_page2(b)->verp, memory_order_acquire);
}

/* --- where blocks live (arena.c) --- */
int arena_init(struct interp_cpu *ic);		/* 0 or -ENOMEM */
void arena_free(struct interp_cpu *ic);
/* Room for the largest block, zeroed or not; may give up other blocks. */
struct block *arena_room(struct interp_cpu *ic);
/* The block made there stays: b->units, gpa and key are set. */
void arena_keep(struct interp_cpu *ic, struct block *b);
struct block *arena_first(const struct interp_cpu *ic, uint64_t gpa);
struct block *arena_next(const struct interp_cpu *ic, const struct block *b);
void arena_unlink(struct interp_cpu *ic, struct block *b);
void arena_drop(struct interp_cpu *ic);		/* all blocks */

/* --- blocks (block.c) --- */
/* The block at s.rip in the current mode; raises fetch faults.  single: one
 * instruction, not cached. */
struct block *interp_block(struct interp_cpu *ic, bool single);
void interp_blocks_drop(struct interp_cpu *ic);
/* The block at s.rip, found or made: the hot loop's first half. Raises fetch faults. */
struct block *interp_next_block(struct interp_cpu *ic);
/* NULL: it takes more than a look to find it.  Raises nothing. */
struct block *interp_known_block(struct interp_cpu *ic);
/* And the second. */
static inline void interp_run_block(struct x86_cpu *c, const struct block *b)
{
	const struct uop *u = b->ops;

	c->blk_rip = c->s.rip;
	c->n_insn += b->n;
	do {
		c->cur_uop = u;
		u = u->fn(c, u);
	} while (u);
}
/* Before IN reads the port: may sleep if the guest does nothing else, and the chip has no news. Machine lock not held. (poll.c) */
void interp_poll(struct interp_cpu *ic, uint16_t port, unsigned osz);
/* The engine with a tier on top (NULL: none); as cpu_engine_ops.init. */
int interp_engine_new(struct machine *m, const struct cpu_engine_config *cfg, const struct interp_tier *tier,
		      struct cpu_engine **out, struct err *err);
struct x86_codemap *interp_engine_codemap(struct cpu_engine *e);
const struct x86_cpu_model *interp_engine_model(struct cpu_engine *e);
/* Fills u for one decoded instruction. True: it ends the block. (build.c) */
bool interp_build(struct interp_cpu *ic, struct uop *u, const struct insn *i);

/* --- flags --- */
static inline uint32_t flags_of_lf(uint32_t lf)
{
	return ((lf >> 8) & (X86_FL_ARITH & 0xff)) | (lf & 1) << 11;
}
static inline uint32_t lf_of_flags(uint64_t f)
{
	return (uint32_t)((f & 0xd5) << 8 | ((f >> 11) & 1) | 0x200);
}
static inline void flags_out(struct x86_cpu *c)
{
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FL_ARITH) | flags_of_lf(c->lf);
}
static inline void flags_in(struct x86_cpu *c) { c->lf = lf_of_flags(c->s.rflags); }

/* --- registers --- */
#define REG_BASE offsetof(struct x86_cpu, zero)
#define GPR_OFF(n) ((uint8_t)(offsetof(struct x86_cpu, s.gpr) - REG_BASE + 8 * (n)))
#define ZERO_OFF ((uint8_t)0)
#define ONE_GIB_OFF ((uint8_t)(offsetof(struct x86_cpu, one_gib) - REG_BASE))
#define BLK_RIP_OFF ((uint8_t)(offsetof(struct x86_cpu, blk_rip) - REG_BASE))
_Static_assert(offsetof(struct x86_cpu, s.gpr) - REG_BASE + sizeof(((struct x86_state *)0)->gpr) <= 256,
	       "a byte reaches every register");
#define R8(c, o) (*(uint8_t *)((char *)(c) + REG_BASE + (o)))
#define R16(c, o) (*(uint16_t *)((char *)(c) + REG_BASE + (o)))
#define R32(c, o) (*(uint32_t *)((char *)(c) + REG_BASE + (o)))
#define R64(c, o) (*(uint64_t *)((char *)(c) + REG_BASE + (o)))

static inline uint64_t reg_get(const struct x86_cpu *c, unsigned off, unsigned size)
{
	switch (size) {
	case 1: return R8(c, off);
	case 2: return R16(c, off);
	case 4: return R32(c, off);
	default: return R64(c, off);
	}
}
/* 32-bit writes clear the upper half, as the architecture does. */
static inline void reg_set(struct x86_cpu *c, unsigned off, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: R8(c, off) = (uint8_t)v; break;
	case 2: R16(c, off) = (uint16_t)v; break;
	case 4: R64(c, off) = (uint32_t)v; break;
	default: R64(c, off) = v; break;
	}
}

/* --- addresses --- */
static inline uint64_t uop_off(const struct x86_cpu *c, const struct uop *u)
{
	return R64(c, u->base) + (R64(c, u->index) << u->scale) + (uint64_t)(int64_t)u->disp;
}
/* Linear address of an operand at off; len and how are for the segment checks. */
static inline uint64_t uop_lin_at(struct x86_cpu *c, const struct uop *u, uint64_t off, unsigned len, enum x86_how how)
{
	switch (u->ea) {
	case EA_FLAT64: return off;
	case EA_BASE64: return off + c->s.seg[u->seg].base;
	case EA_FLAT64_A32:
	case EA_FLAT32: return (uint32_t)off;
	case EA_BASE64_A32: return (uint32_t)off + c->s.seg[u->seg].base;
	case EA_SEG: return x86_seg_lin(c, u->seg, (uint32_t)off, len, how);
	default: return x86_seg_lin(c, u->seg, (uint16_t)off, len, how);
	}
}
/* Of the memory operand. */
static inline uint64_t uop_lin(struct x86_cpu *c, const struct uop *u, unsigned len, enum x86_how how)
{
	return uop_lin_at(c, u, uop_off(c, u), len, how);
}

/* --- memory --- */
uint64_t interp_ld_slow(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned len);
void interp_st_slow(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned len, uint64_t v);

static inline struct x86_tlb_entry *tlb_at(struct x86_cpu *c, uint64_t lin)
{
	return &c->tlb_now[(lin >> 12) & (X86_TLB_SIZE - 1)];
}
static inline bool tlb_ok(const struct x86_cpu *c, const struct x86_tlb_entry *e, uint64_t lin, unsigned len, int how)
{
	return likely(e->tag[how] == ((lin & ~0xfffull) | c->tlb_gen)) && likely((lin & 0xfff) <= 4096 - len);
}

#define DEFINE_LD(T, bits) \
	static inline T ld##bits(struct x86_cpu *c, const struct uop *u, uint64_t lin) \
	{ \
		struct x86_tlb_entry *e = tlb_at(c, lin); \
		if (tlb_ok(c, e, lin, sizeof(T), X86_READ)) \
			return *(volatile T *)(lin + e->addend); \
		return (T)interp_ld_slow(c, u, lin, sizeof(T)); \
	}
DEFINE_LD(uint8_t, 8)
DEFINE_LD(uint16_t, 16)
DEFINE_LD(uint32_t, 32)
DEFINE_LD(uint64_t, 64)

static inline void st_check(struct x86_cpu *c, const struct x86_tlb_entry *e, uint64_t lin, unsigned len)
{
	__asm__ volatile("" ::: "memory");
	if (unlikely(atomic_load_explicit(e->flags, memory_order_relaxed) & MEM_PG_CODE))
		x86_code_stored(c, e, lin & 0xfff, len);
}
#define DEFINE_ST(T, bits) \
	static inline void st##bits(struct x86_cpu *c, const struct uop *u, uint64_t lin, T v) \
	{ \
		struct x86_tlb_entry *e = tlb_at(c, lin); \
		if (tlb_ok(c, e, lin, sizeof(T), X86_WRITE)) { \
			*(volatile T *)(lin + e->addend) = v; \
			st_check(c, e, lin, sizeof(T)); \
		} else { \
			interp_st_slow(c, u, lin, sizeof(T), v); \
		} \
	}
DEFINE_ST(uint8_t, 8)
DEFINE_ST(uint16_t, 16)
DEFINE_ST(uint32_t, 32)
DEFINE_ST(uint64_t, 64)

static inline uint64_t ld_n(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned n)
{
	switch (n) {
	case 1: return ld8(c, u, lin);
	case 2: return ld16(c, u, lin);
	case 4: return ld32(c, u, lin);
	default: return ld64(c, u, lin);
	}
}
static inline void st_n(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned n, uint64_t v)
{
	switch (n) {
	case 1: st8(c, u, lin, (uint8_t)v); break;
	case 2: st16(c, u, lin, (uint16_t)v); break;
	case 4: st32(c, u, lin, (uint32_t)v); break;
	default: st64(c, u, lin, v); break;
	}
}

/*
 * Read-modify-write: rmw_begin gives a host pointer to operate on, guest RAM
 * itself if possible (then a LOCK prefix on the host is one for the guest), else
 * a copy that rmw_end writes back; all faults happen in rmw_begin.
 */
struct rmw {
	void *p;
	const struct x86_tlb_entry *e;	/* NULL: p is &tmp */
	uint64_t lin;
	uint64_t tmp;
};
void interp_rmw_slow(struct x86_cpu *c, const struct uop *u, struct rmw *r, unsigned len);
void interp_rmw_slow_end(struct x86_cpu *c, struct rmw *r, unsigned len);

static inline void rmw_begin_at(struct x86_cpu *c, const struct uop *u, struct rmw *r, uint64_t lin, unsigned len)
{
	struct x86_tlb_entry *e = tlb_at(c, lin);

	r->lin = lin;
	if (tlb_ok(c, e, r->lin, len, X86_WRITE)) {
		r->e = e;
		r->p = (void *)(r->lin + e->addend);
	} else {
		interp_rmw_slow(c, u, r, len);
	}
}
static inline void rmw_begin(struct x86_cpu *c, const struct uop *u, struct rmw *r, unsigned len)
{
	rmw_begin_at(c, u, r, uop_lin(c, u, len, X86_WRITE), len);
}
static inline void rmw_end(struct x86_cpu *c, struct rmw *r, unsigned len)
{
	if (likely(r->e != NULL))
		st_check(c, r->e, r->lin, len);
	else
		interp_rmw_slow_end(c, r, len);
}

/* --- leaving a handler --- */
/* RIP at `rel` bytes from the block's start. */
static inline uint64_t blk_rip(const struct x86_cpu *c, int64_t rel)
{
	uint64_t rip = c->blk_rip + (uint64_t)rel;

	return likely(c->mode == X86_MODE_LONG64) ? rip : rip & 0xffffffffu;
}
static inline uint64_t uop_rip(const struct x86_cpu *c, const struct uop *u) { return blk_rip(c, u->off); }
static inline uint64_t uop_next(const struct x86_cpu *c, const struct uop *u) { return blk_rip(c, (int64_t)u->off + u->len); }
static inline const struct uop *uop_leave(struct x86_cpu *c, const struct uop *u)
{
	c->s.rip = uop_next(c, u);
	return NULL;
}
/* After a store: the block may have changed itself. */
#define NEXT_ST(c, u) (unlikely((c)->leave_block) ? uop_leave(c, u) : (u) + 1)

/* Conditions in the order of their encoding (Jcc 0..15), from c->lf. */
static inline bool cond_true(uint32_t lf, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = lf & X86_LF_OF; break;
	case 1: r = lf & X86_LF_CF; break;
	case 2: r = lf & X86_LF_ZF; break;
	case 3: r = lf & (X86_LF_CF | X86_LF_ZF); break;
	case 4: r = lf & X86_LF_SF; break;
	case 5: r = lf & X86_LF_PF; break;
	case 6: r = !!(lf & X86_LF_SF) != (lf & X86_LF_OF); break;
	default: r = (lf & X86_LF_ZF) || !!(lf & X86_LF_SF) != (lf & X86_LF_OF); break;
	}
	return r ^ (cc & 1);
}

/* Handler tables, by operation, form and log2 of the operand size. */
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP, ALU_TEST, ALU_N };
enum { FORM_RR, FORM_RM, FORM_MR, FORM_RI, FORM_MI, FORM_LMR, FORM_LMI, FORM_N };
extern const uop_fn interp_alu[ALU_N][FORM_N][4];
enum { UN_INC, UN_DEC, UN_NEG, UN_NOT, UN_N };		/* forms: 0 register, 1 memory, 2 locked */
extern const uop_fn interp_unary[UN_N][3][4];
enum { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAR, SH_N };
extern const uop_fn interp_shift[SH_N][4][4];		/* form 0 r,imm 1 m,imm 2 r,CL 3 m,CL */
extern const uop_fn interp_mov[5][4];			/* 0 rr 1 rm 2 mr 3 ri 4 mi */
extern const uop_fn interp_jcc[16];
extern const uop_fn interp_movx[2][2][3][4];		/* sign, memory, log2 source, log2 destination */

/* Handlers in ops_*.c that build.c refers to. */
#define UOP(name) const struct uop *name(struct x86_cpu *c, const struct uop *u)
UOP(op_nop); UOP(op_end); UOP(op_ud); UOP(op_gp_limit); UOP(op_sys_end); UOP(op_sys_cont); UOP(op_exec); UOP(op_exec_mem);
UOP(op_mov_ao); UOP(op_mov_oa); UOP(op_lea64); UOP(op_lea32); UOP(op_lea16); UOP(op_xchg_rr); UOP(op_xchg_mr); UOP(op_cmpxchg_r); UOP(op_cmpxchg_m);
UOP(op_xadd_r); UOP(op_xadd_m); UOP(op_cmpxchg8b); UOP(op_cmpxchg16b); UOP(op_bswap);
UOP(op_cmov_r); UOP(op_cmov_m); UOP(op_setcc_r); UOP(op_setcc_m);
UOP(op_bt_r); UOP(op_bt_m); UOP(op_bsx); UOP(op_shxd_r); UOP(op_shxd_m);
UOP(op_mul); UOP(op_imul1); UOP(op_imul2); UOP(op_div); UOP(op_idiv);
UOP(op_cbw); UOP(op_cwd); UOP(op_push64_r); UOP(op_pop64_r); UOP(op_push64_i); UOP(op_push); UOP(op_push_m); UOP(op_pop); UOP(op_pop_m);
UOP(op_push32_r); UOP(op_pop32_r); UOP(op_push32_i);
UOP(op_jmp); UOP(op_jmp_r); UOP(op_jmp_m); UOP(op_call64); UOP(op_call); UOP(op_call_r); UOP(op_call_m); UOP(op_ret64); UOP(op_ret);
UOP(op_loop); UOP(op_jcxz); UOP(op_leave); UOP(op_enter); UOP(op_pusha); UOP(op_popa);
UOP(op_movs); UOP(op_stos); UOP(op_lods); UOP(op_scas); UOP(op_cmps); UOP(op_ins); UOP(op_outs);
UOP(op_cmc); UOP(op_clc); UOP(op_stc); UOP(op_cld); UOP(op_std); UOP(op_lahf); UOP(op_sahf); UOP(op_salc); UOP(op_xlat);
UOP(op_bcd); UOP(op_pause); UOP(op_bound);
/* System instructions: functions called by op_sys_*. (ops_sys.c) */
typedef void (*sys_fn)(struct x86_cpu *c, const struct uop *u);
/* They lie within 2 GiB of op_nop, being of the same program. */
static inline void uop_set_sys(struct uop *u, sys_fn fn) { u->ref = (int32_t)((intptr_t)fn - (intptr_t)op_nop); }
static inline sys_fn uop_sys(const struct uop *u) { return (sys_fn)((intptr_t)op_nop + u->ref); }
/* A stub is a place in the vCPU's own pool of stubs. */
static inline void uop_set_exec(struct interp_cpu *ic, struct uop *u, const struct exec *x)
{
	u->ref = (int32_t)((const char *)x - ic->stubs);
}
static inline const struct exec *uop_exec(struct x86_cpu *c, const struct uop *u)
{
	return (const struct exec *)(interp_of(c)->stubs + u->ref);
}
sys_fn interp_sys(const struct insn *i, bool *ends);
/* INT n leaves no single-step trap behind; SYSCALL and SYSRET raise their own. */
bool interp_swallows_tf(const struct uop *u);

#endif
