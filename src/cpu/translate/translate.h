/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The translator: 64-bit and flat 32-bit guest code turned into 64-bit host code,
 * block by block.
 *
 * It is a tier on top of interp: whatever it does not translate, and every
 * access that is not plain RAM in one page, is done by interp's own handlers on
 * the same vCPU state.
 *
 * While translated code runs
 *  - RSP points at struct xl_cpu: the vCPU state is [rsp + disp], no register is
 *    spent on it;
 *  - guest registers sit in the host registers of the same number, but for RSP,
 *    which is in R9, and R9 to R11, which stay in memory: R10 and R11 are scratch;
 *  - guest arithmetic flags are the host's, or in c->lf, as the translator knows
 *    at every point;
 *  - vector registers, opmasks and MXCSR are the host's if vec_live is set, else
 *    in memory; a block that uses them checks once;
 *  - x87 and MMX registers are the host's if c->x87_away is set, else in memory; a
 *    block that uses them checks once.  They stay there while C runs (x87.c);
 *  - c->blk_rip is the RIP of the first byte of the running code page: blocks
 *    are keyed by physical address and know no linear one, so all address spaces
 *    share them;
 *  - in 32-bit code addresses, RIPs and ESP are computed with 32-bit operations, so
 *    they wrap where they should; upper halves of registers are as interp has them.
 *
 * Blocks are chained directly within a page only, so everything that can jump
 * into a block directly dies with it when its page's code changes.  Its entry is
 * then patched to leave, and chains to it are led back to where they were before.
 * Between pages, and for indirect transfers, a per-vCPU cache maps RIPs to entries.
 * Pending events are looked at where control comes from the jump cache or goes
 * backwards in the page: no loop is without.
 */
#ifndef LODGE_CPU_TRANSLATE_TRANSLATE_H
#define LODGE_CPU_TRANSLATE_TRANSLATE_H

#include <pthread.h>

#include "cpu/interp/interp.h"
#include "cpu/translate/asm.h"

#define XL_TLB_BITS 12
#define XL_TLB_SIZE (1u << XL_TLB_BITS)
#define XL_JC_BITS 16
#define XL_JC_SIZE (1u << XL_JC_BITS)
#define XL_SCRATCH 32
#define XL_USED_MAX 512
#define XL_JC_USED_MAX 2048
#define XL_N_ACC 3		/* enum x86_acc without X86_ACC_USER_AC */

/* Copies of TLB entries in the form emitted code wants. */
struct xl_tlb {
	/* By X86_READ and X86_WRITE: a copy's source and destination do not meet. */
	uint64_t tag[2][XL_TLB_SIZE];	/* page address */
	uint64_t host[2][XL_TLB_SIZE];	/* of the page's first byte */
	_Atomic uint8_t *flags[XL_TLB_SIZE + 1];	/* the last stands for the bounce buffer */
	uint8_t global[2][XL_TLB_SIZE];
	uint16_t used[XL_USED_MAX];	/* entries (| how << XL_TLB_BITS) that are not global: the next flush clears them */
	unsigned n_used;		/* > XL_USED_MAX: all */
	unsigned n_global;
};

/* Why translated code came back to the run loop. */
enum { XL_WHY_LINK, XL_WHY_INDIRECT, XL_WHY_EVENT, XL_WHY_STEP, XL_WHY_LEAVE, XL_N_WHY };
#define XL_N_MNEMONICS (ZYDIS_MNEMONIC_MAX_VALUE + 1)

struct xl_jc {
	uint64_t rip[XL_JC_SIZE];
	void *code[XL_JC_SIZE];
	uint16_t used[XL_JC_USED_MAX];	/* as in struct xl_tlb */
	unsigned n_used, n_global;
	uint64_t pages[16];		/* pages there may be entries for, by hash */
};

/*
 * What the jump cache has forgotten, by where the code lies in RAM: TLB flushes
 * do not touch it.  Blocks that run together lie together, and a look is one line
 * of memory where the table of blocks takes two that are far apart.
 */
#define XL_KNOWN_BITS 16
struct xl_known {
	uint64_t at;			/* of the page's version word and the offset in the page, see xl_known_at; 0: empty */
	uint32_t code;			/* ientry, from the start of the code cache */
	uint32_t key;
};

/* A direct exit within the page. */
struct xl_exit {
	struct xl_block *from;
	uint32_t patch;			/* offset in the code cache of the branch's displacement */
	int32_t target;			/* offset from the page's start */
	uint8_t acc;			/* access class there: STAC and CLAC change it within a block */
	bool nogroup;			/* to the target's variant without groups */
	bool forward;			/* the target lies behind the branch: pending events need no look there */
	uint32_t unlinked;		/* the displacement as it was emitted */
	struct xl_exit *to_next, **to_prev;	/* of those linked to the same block; to_prev NULL: not linked */
};

/* Where a host fault belongs. */
struct xl_insn {
	uint32_t host;			/* offset from the block's code start */
	uint32_t off : 12;		/* page offset of the guest instruction */
	uint32_t flags_host : 1;	/* guest flags are in the host's here */
	uint32_t x87_late : 1;		/* the entry before is an x87 instruction that has left no note of itself */
	uint32_t fop : 11;		/* x87: its opcode as FOP has it */
};

/* What a callout runs. */
struct xl_uop {
	struct uop u;			/* first */
	uint16_t mnemonic;
};

#define XL_MAX_INSNS 64
#define XL_MAX_EXITS 18
#define XL_MAX_JCCS 6		/* conditional branches, without those of loops that are there more than once */

struct xl_block {
	_Atomic(struct xl_block *) hash_next;
	struct xl_block *page_next;
	uint64_t gpa;
	uint32_t key;
	uint32_t version;
	_Atomic uint32_t *verp;
	_Atomic bool dead;
	bool listed;			/* has been published */
	/* From the jump cache (R10 = RIP, flags in c->lf); from a chain, flags in the host's: with
	 * a look at pending events, and without. */
	uint8_t *ientry, *entry, *entry_past;
	uint32_t code, code_len;	/* in the code cache */
	uint16_t n_insns, n_exits;
	uint16_t guest_len;		/* bytes of guest code, from gpa */
	uint32_t version2;		/* as version, of the page where its one instruction ends, if that is another */
	_Atomic uint32_t *verp2;	/* or NULL */
	uint16_t undefined;		/* flags that may have no defined value after it */
	struct xl_uop *uops;
	struct xl_exit *exits;		/* its own */
	struct xl_exit *from;		/* those that lead here */
	struct xl_insn insns[];
};

#define XL_HASH_BITS 18
#define XL_PLACE_BITS 16
#define XL_MAX_REGIONS 32

/* See region.c. */
struct xl_region {
	size_t code, cold, meta;	/* bytes in use; cold: of out-of-line code */
	_Atomic uint32_t n;		/* blocks */
	bool retired;
	/* When it was retired: which vCPUs were inside, and in which of their stays. */
	bool was_inside[MACHINE_MAX_VCPUS];
	uint32_t entered[MACHINE_MAX_VCPUS];
};

struct xl_cpu;
struct xl_check;
struct xl_turn;
struct xl_dump;
struct xl_direct;

/* Light calls (light.c), without the miss. */
enum { XL_LT_INDIRECT, XL_LT_PAGE2, XL_LT_SYSCALL, XL_LT_SYSRET, XL_LT_IRET, XL_LT_PUSHF, XL_LT_POPF, XL_LT_BT, XL_LT_MOVS,
       XL_LT_STOS, XL_LT_LODS, XL_LT_SCAS, XL_LT_CMPS, XL_LT_BASE, XL_LT_SEG, XL_LT_CR3, XL_LT_INVLPG, XL_LT_RDMSR, XL_LT_WRMSR, XL_LT_N };
extern uintptr_t (*const xl_light[XL_LT_N])(struct xl_cpu *x, const struct uop *u, uint64_t arg);
uintptr_t xl_lt_miss(struct xl_cpu *x, uint64_t lin);

/* Does what light calls run keep off vector registers?  Not with sanitizers, whose run time does
 * not, nor with a compiler that calls libc to copy. */
#ifdef LODGE_LIGHT_PURE
#define XL_LIGHT_PURE true
#else
#define XL_LIGHT_PURE false
#endif

struct xl_thunks {
	void *(*enter)(struct xl_cpu *x, void *ientry);
	uintptr_t exit_link;		/* R10: struct xl_exit; flags in the host's */
	uintptr_t exit_rip_h, exit_rip_m;	/* R10: RIP; flags in the host's, in c->lf */
	uintptr_t fault_h, fault_m;	/* s.rip set; the instruction there is interp's */
	uintptr_t callout;		/* R10: uop; vec_live is clear afterwards */
	uintptr_t miss;			/* R10: linear address; xl_cpu.desc */
	uintptr_t light[XL_LT_N];	/* R10: uop, R11: argument; see light.c */
	uintptr_t indirect;		/* R10: RIP that the jump cache does not know; flags in c->lf */
	uintptr_t callout_again, miss_again;	/* for light calls to return: the full path */
	uintptr_t stored_h, stored_m;	/* R10: host address, R11: page flags; xl_cpu.desc */
	uintptr_t vec_load, x87_load;
	uintptr_t end;			/* of all thunks */
};

struct xl_engine {
	pthread_mutex_t lock;		/* translation, linking, giving code up; taken first */
	pthread_mutex_t page_lock;	/* the tables, the patching of entries and links; a leaf, so that
					 * stores from within translated code may take it */
	struct gen *gen;
	uint8_t *rw, *rx;		/* two mappings of the code cache */
	size_t size, start;		/* start: after the thunks */
	struct xl_thunks t;
	uint8_t *meta;			/* struct xl_block and what belongs to it */
	size_t meta_size;
	struct xl_region region[XL_MAX_REGIONS];
	unsigned n_regions, cur;
	uint32_t filling;		/* number of times that a region was begun */
	size_t region_code, region_meta;	/* bytes of each */
	size_t region_hot;		/* of region_code, in the current region; the rest is for out-of-line code */
	size_t filled_hot, filled_cold;	/* of it in use */
	struct exec_cache *exec;	/* stubs used from translated code */
	_Atomic(struct xl_block *) hash[1u << XL_HASH_BITS];
	struct xl_block *pages[1u << XL_HASH_BITS];	/* by version word */
	_Atomic uint32_t generation;	/* grows when blocks go for good */
	struct xl_cpu *cpus[MACHINE_MAX_VCPUS];
	unsigned n_cpus;
	struct xl_dump *dump;		/* or NULL */
	enum cpu_direct direct;
	struct xl_turn *turn;		/* check: vCPUs run one at a time */
	unsigned spoil;			/* check: instructions until one is translated wrong; 0: none is */
	bool heat_fixed;
	unsigned heat_least;		/* what heat is while the cache is large enough */
	uint64_t tsc_filling, tsc_spent;	/* host TSC when the current region was begun; ticks of translating since */
	_Atomic unsigned heat;		/* a block is translated when it has run this often */
	struct mem_listener listener;
	struct machine *m;
	struct { bool avx, avx512f, avx512bw, pext; } host;
	/* By xl_place: what is known of places in the code, XL_PLACE_*. */
	uint8_t places[1u << XL_PLACE_BITS];
	unsigned n_places;		/* noted since it was empty */
	uint64_t n_blocks, n_insns, n_invalidated, n_stubs_forgotten, n_bytes, n_loops, n_retired, n_no_room, most_code, most_meta;
};

struct xl_cpu {
	struct interp_cpu ic;		/* first */
	struct xl_engine *xe;
	uint64_t host_rsp, sv_rax, sv_r10, sv_r11, tmp, tmp2;
	uint32_t host_mxcsr;
	struct xl_direct *direct;	/* native user code (direct.h), or NULL */
	uint64_t user_since;		/* host TSC */
	bool was_user;			/* CPL was 3 when last looked at */
	bool direct_on;			/* user code is to run natively from here */
	bool direct_ran;		/* it did, since it was come to */
	uint32_t desc;			/* XL_DESC of the access in trouble */
	uint8_t vec_live, vec_was;	/* vec_was: around a light call, if not XL_LIGHT_PURE */
	bool bounced;			/* the miss ends with R10 pointing at bounce, or into a page with code that is stored to */
	bool step;			/* the next instruction is interp's */
	const char *own_stubs;		/* ic.stubs outside calls of handlers */
	struct xl_check *check;		/* or NULL: nothing is compared */
	struct xl_exit *exit;		/* by which translated code left, or NULL */
	_Atomic bool inside;		/* translated code may run: entries must stay */
	_Atomic uint32_t entered;	/* times it went inside */
	uint32_t generation;
	uint32_t jc_key[XL_N_ACC];	/* the jump caches' entries are for */
	bool nogroup;			/* go on in a block without groups */
	unsigned n_unsure;
	uint32_t desc2;			/* XL_DESC2 of a group's first access, or 0 */
	/* While x87_away: XL_X87_LAST of the last x87 instruction, and the RIP that its offset counts from. */
	uint32_t x87_last;
	uint64_t x87_page;
	uint64_t x87_ea;		/* of the operand that is being stored */
	uint32_t x87_env[7];		/* as the host stores it */
	uint64_t tlb_bits;		/* of a linear address, that select its TLB entry */
	uint64_t jc_bits;		/* of a RIP, that select its jump cache entry */
	uint64_t scratch[XL_SCRATCH];	/* host address of each group's lowest byte */
	uint64_t scratch_flags[XL_SCRATCH + 1];	/* and its page's flags; the last: of single accesses */
	uint64_t n_enter, n_link, n_slow, n_light, n_fault;	/* statistics from here on */
	uint64_t n_miss[XL_N_ACC][2];	/* by access class, and read or write */
	uint64_t n_probe[XL_N_ACC][2];	/* the same, of all probes: counted by the check engine only */
	uint64_t n_exit[XL_N_WHY];
	uint32_t n_callout[XL_N_MNEMONICS];
	/* An operand astride two pages; stores go on to memory from here. */
	alignas(64) uint8_t bounce[64];
	uint64_t uppers[8];		/* of vector registers: all of them, or-ed */
	uint64_t bounce_lin;
	unsigned bounce_len;
	_Atomic uint8_t bounce_flags;	/* MEM_PG_CODE: so that the store is looked at */
	_Atomic uint8_t *store_flags;	/* with bounced: of the page, or bounce_flags */
	struct xl_tlb tlb[XL_N_ACC];
	struct xl_jc jc[XL_N_ACC];
	alignas(64) struct xl_known known[1u << XL_KNOWN_BITS];
};

/* No two calls return to places within four bytes. */
#define XL_JC_SHIFT 2
static inline unsigned xl_jc_index(uint64_t rip) { return (uint32_t)rip >> XL_JC_SHIFT & (XL_JC_SIZE - 1); }
static inline struct xl_cpu *xl_of(struct x86_cpu *c) { return (struct xl_cpu *)c; }

/* Page offset of an instruction (or of the next one), how it accesses, how much. */
#define XL_DESC(off, how, len) ((uint32_t)((off) | (unsigned)(how) << 13 | (unsigned)(len) << 16))

/* Groups: where the first access lies in the span, and its length. */
#define XL_DESC2(off, len) (XL_DESC2_GROUP | (uint32_t)(off) | (unsigned)(len) << 16)
#define XL_DESC_ALIGNED (1u << 15)
/* The group writes, but its first access reads: the page must be writable already. */
#define XL_DESC2_SOFT (1u << 30)
#define XL_DESC2_GROUP (1u << 31)
/* No group: which bytes are accessed, or missed first, is for interp to say (masks, x87 environments), so only a
 * page that is in the TLB already will do. */
#define XL_DESC2_PARTS (1u << 29)

/* No store by itself to what is no page of the TLB: interp does it. */
#define XL_DESC2_PAGE (1u << 28)

/* FOP and page offset of an x87 instruction. */
#define XL_X87_LAST(fop, off) ((uint32_t)(fop) << 16 | (uint32_t)(off))

#define XO(field) ((int32_t)offsetof(struct xl_cpu, field))
#define XO_GPR(n) (XO(ic.c.s.gpr) + 8 * (int)(n))

/* Blocks of code that means the same: what decoding, access class and enabled
 * vector state depend on. */
uint32_t xl_key(const struct x86_cpu *c);
#define XL_KEY_MODE(k) ((k) & 7)	/* enum x86_mode */
#define XL_KEY_OTHER (1u << 3)	/* not what can be translated */
#define XL_KEY_ACC(k) ((k) >> 8 & 3)
#define XL_KEY_ACC_MASK (3u << 8)
#define XL_KEY_OF_ACC(acc) ((uint32_t)(acc) << 8)
#define XL_KEY_CPL(k) ((k) >> 4 & 3)
#define XL_KEY_SSE (1u << 10)
#define XL_KEY_AVX (1u << 11)
#define XL_KEY_AVX512 (1u << 12)
#define XL_KEY_NOGROUP (1u << 13)
#define XL_KEY_X87 (1u << 20)

/* --- gen.c --- */
/* Translates at s.rip, in `page`, in the current mode. NULL: nothing translatable
 * there, it changed meanwhile, or there is no room just now.  Lock held; raises
 * nothing. */
struct xl_block *xl_translate(struct xl_cpu *x, const struct x86_tlb_entry *page, uint32_t key);

/* --- thunk.c --- */
int xl_thunks_make(struct xl_engine *xe);

/* --- cache.c --- */
/* verp: the page behind gpa may have been changed for another. */
struct xl_block *xl_lookup(struct xl_engine *xe, uint64_t gpa, uint32_t key, const _Atomic uint32_t *verp);
/* False: the code changed before it could be. */
bool xl_publish(struct xl_engine *xe, struct xl_block *b);
/* Off the tables, if it is on them; its entries lead out. */
void xl_unpublish(struct xl_engine *xe, struct xl_block *b);
/* Found to be stale: it will not be entered again. */
void xl_block_drop(struct xl_engine *xe, struct xl_block *b);
/* Code of the backing page with this version word changed. */
void xl_page_changed(struct xl_engine *xe, _Atomic uint32_t *verp);
void xl_tlb_put(struct xl_cpu *x, const struct x86_tlb_entry *e, uint64_t lin, unsigned how);
/*
 * With one vCPU emitted code does not look after a store whether the page holds code: such a page has no entry that
 * allows writing.  (Another vCPU could make it such between a probe and its store.)
 */
static inline bool xl_guards(const struct xl_engine *xe) { return xe->n_cpus == 1; }
static inline bool xl_guarded(const struct xl_cpu *x, const struct x86_tlb_entry *e, unsigned how)
{
	return how == X86_WRITE && xl_guards(x->xe) && (atomic_load_explicit(e->flags, memory_order_relaxed) & MEM_PG_CODE);
}
/* The page with these flags does from now on. */
void xl_page_has_code(struct xl_engine *xe, const _Atomic uint8_t *flags);
/* A store by itself to a guarded page is made there, out of line, and looked at. */
static inline void xl_store_at(struct xl_cpu *x, const struct x86_tlb_entry *e, uint64_t lin)
{
	x->bounced = true;
	x->store_flags = e->flags;
	x->sv_r10 = lin + e->addend;
}
/* Something (XL_PLACE_*) is known of the instruction at gpa: the blocks of its page, which are linked to each other,
 * are to be made anew. */
#define XL_PLACE_SPLIT 1	/* no page that it reads is ever writable: it shares no probe with writes */
void xl_place_is(struct xl_engine *xe, uint64_t gpa, const _Atomic uint32_t *verp, unsigned what);
static inline uint8_t *xl_place(struct xl_engine *xe, uint64_t gpa)
{
	return &xe->places[gpa * 0x9e3779b97f4a7c15ull >> (64 - XL_PLACE_BITS)];
}
void xl_jc_put(struct xl_cpu *x, uint64_t rip, const struct xl_block *b, bool global);
/* Where translated code for a RIP in e's page begins, if it is known to this vCPU; or NULL. The block may be dead. */
uint8_t *xl_known(struct xl_cpu *x, const struct x86_tlb_entry *e, uint64_t rip, uint32_t key);
void xl_jc_clear(struct xl_cpu *x, unsigned acc);
void xl_forget_code(struct xl_cpu *x);	/* everything that leads into the code cache */
/* A vCPU of zeros remembers nothing, but for the entries that 0 would hit; so pages of one that never runs are never touched. */
void xl_cpu_fresh(struct xl_cpu *x);
/* Makes one so again, and gives the memory back.  It does not run. */
void xl_cpu_drop(struct xl_cpu *x);
void xl_flushed(struct x86_cpu *c, uint64_t page);

/* --- x87.c --- */
void xl_x87_fetch(struct x86_cpu *c);
/* Would an x87 instruction of translated code report an error now?  (It has the state loaded before anything else.) */
static inline bool xl_x87_error(const struct x86_cpu *c)
{
	uint16_t sw;

	if (!c->x87_away)
		return false;
	__asm__ volatile("fnstsw %0" : "=a"(sw));
	return sw & 0x80;
}
int xl_do_x87_load(struct xl_cpu *x);	/* called by emitted code */

/* --- run.c: what the tier offers interp --- */
void xl_run(struct interp_cpu *ic);
void xl_aborted(struct interp_cpu *ic);
/* Its pieces, for check.c. */
bool xl_can_translate(const struct x86_cpu *c);
void xl_interp_once(struct xl_cpu *x);
void xl_go_inside(struct xl_cpu *x);
/* The block at s.rip, whose page is e, translated if need be; inside, unless NULL is returned. */
struct xl_block *xl_block_here(struct xl_cpu *x, const struct x86_tlb_entry *e);
void xl_thread_is(struct xl_cpu *x);
/* Runs b and what it leads to; inside.  x->exit and s.rip tell where it came out. */
void xl_enter(struct xl_cpu *x, const struct xl_block *b);

/* --- dump.c --- */
int xl_dump_init(struct xl_engine *xe, const struct cpu_engine_config *cfg, struct err *err);
void xl_dump_fini(struct xl_engine *xe);

/* --- region.c --- */
struct xl_room { size_t at, size, cold_at, cold_size; };
void xl_regions_init(struct xl_engine *xe);
/* Is there room for the exec stubs of another block?  False: not until code has been given up. */
bool xl_stub_room(struct xl_engine *xe);
/* Where the next block goes in the cache, `meta` bytes at what is returned.
 * NULL: there is none until other vCPUs have left translated code. */
struct xl_block *xl_region_room(struct xl_engine *xe, size_t meta, struct xl_room *room);
/* The room was too little: if an empty region has more, the next block gets one. */
void xl_region_short(struct xl_engine *xe, const struct xl_room *room);
/* The block made there, which took so much, stays; to be published. */
void xl_region_keep(struct xl_engine *xe, const struct xl_block *b, size_t code, size_t cold, size_t meta);
void xl_link(struct xl_engine *xe, struct xl_exit *e, struct xl_block *to);
void xl_unlink_all(struct xl_engine *xe, struct xl_block *to);	/* page lock held */
/* The block that has its code there, alive or not; for a vCPU that is inside. */
const struct xl_block *xl_at_host(const struct xl_engine *xe, uintptr_t pc);

/* --- stats.c --- */
void xl_stats(void *xe, engine_stat_fn fn, void *opaque);
/* Translated code has come back. */
static inline void xl_count_exit(struct xl_cpu *x)
{
	x->n_exit[x->exit ? XL_WHY_LINK : x->step ? XL_WHY_STEP : x->ic.c.leave_block ? XL_WHY_LEAVE :
		  atomic_load_explicit(&x->ic.c.vcpu.events, memory_order_relaxed) ? XL_WHY_EVENT : XL_WHY_INDIRECT]++;
}

/* --- check.c: the tier of the engine that compares --- */
int xl_check_init(struct xl_engine *xe);
void xl_check_fini(struct xl_engine *xe);
int xl_check_cpu_init(struct xl_cpu *x);
void xl_check_cpu_fini(struct xl_cpu *x);
void xl_check_run(struct interp_cpu *ic);
void xl_check_aborted(struct interp_cpu *ic);
void xl_check_report(struct interp_cpu *ic, char *buf, size_t len);
void xl_check_stats(const struct xl_engine *xe, engine_stat_fn fn, void *opaque);

/*
 * Who runs emitted code sees what was written before the code could be reached.  It is the code's own bytes
 * that carry this order, which ThreadSanitizer cannot see and is told: xl_order_made before code is led
 * somewhere, xl_order_seen in C that emitted code has handed a pointer.
 */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define XL_TSAN 1
#endif
#endif
#ifdef XL_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
static inline void xl_order_made(struct xl_engine *xe) { __tsan_release(xe); }
static inline void xl_order_seen(struct xl_engine *xe) { __tsan_acquire(xe); }
#else
static inline void xl_order_made(struct xl_engine *xe) { (void)xe; }
static inline void xl_order_seen(struct xl_engine *xe) { (void)xe; }
#endif

/* --- called by emitted code (run.c) --- */
int xl_do_callout(struct xl_cpu *x, const struct uop *u);
int xl_do_miss(struct xl_cpu *x, uint64_t lin);
int xl_do_stored(struct xl_cpu *x, uint64_t host, _Atomic uint8_t *flags);

#endif
