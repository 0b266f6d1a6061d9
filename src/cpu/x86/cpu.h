/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The software CPU's working state, shared by interp and (to come) translate,
 * and the contract between their parts.
 *
 * Rules every function that takes a struct x86_cpu obeys:
 *  - It runs on that vCPU's thread, inside the engine's run loop.
 *  - A guest exception is raised by x86_raise*(), which does not return: it
 *    longjmps to the run loop, which delivers the exception with s.rip being
 *    the faulting instruction's (faults) or the next one's (traps).  Therefore
 *    nothing architectural may be changed before the last access that can
 *    fault, and no lock or allocation may be held across one.
 *  - s.rip is maintained lazily: inside a handler called for an instruction
 *    x86_rip(cpu) is its address, x86_next_rip(cpu) the following one's.
 *    System helpers that change control flow store the new value to s.rip; the
 *    caller ends the block.
 *  - After changing CR0, CR4, EFER, CS, SS attributes, EFLAGS.VM/AC/TF, DR7,
 *    CPL the function calls x86_mode_update(cpu).
 */
#ifndef LODGE_CPU_X86_CPU_H
#define LODGE_CPU_X86_CPU_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bits.h"
#include "cpu/debug.h"
#include "cpu/x86/state.h"
#include "machine/machine.h"

/* Access classes = separate software TLBs. */
enum x86_acc {
	X86_ACC_SUP,		/* supervisor, SMAP enforced (also implicit accesses at CPL 3) */
	X86_ACC_SUP_AC,		/* supervisor with EFLAGS.AC=1: SMAP does not apply */
	X86_ACC_USER,
	X86_ACC_USER_AC,	/* user with alignment checking (CR0.AM, EFLAGS.AC): never cached */
	X86_N_ACC,
};

enum x86_how { X86_READ = 0, X86_WRITE = 1, X86_EXEC = 2 };

#define X86_FLUSH_ALL (~0ull)
#define X86_FLUSH_NONGLOBAL (~1ull)
#define X86_LARGE_WORDS 16

#define X86_TLB_BITS 12
#define X86_TLB_SIZE (1u << X86_TLB_BITS)
#define X86_TLB_GEN_MAX 0xffeu	/* so that no tag's complement is 0 */

/*
 * Direct-mapped software TLB entry for a 4 KiB page. tag[how] is the linear
 * page address | generation (low 12 bits) when that access is allowed and the
 * page is plain RAM, else a value that cannot match.  host = lin + addend.
 */
struct x86_tlb_entry {
	uint64_t tag[3];
	uintptr_t addend;
	uint64_t gpa;			/* page's guest-physical address */
	_Atomic uint8_t *flags;		/* MEM_PG_* of the page */
	_Atomic uint32_t *version;	/* code version of the page */
	bool global;			/* its leaf has G set, and CR4.PGE is */
};

struct x86_codemap;

/* Arithmetic flags as LAHF and SETO leave them in AX: AH = SF ZF 0 AF 0 PF 1 CF,
 * AL = OF. */
#define X86_LF_OF 0x0001u
#define X86_LF_CF 0x0100u
#define X86_LF_PF 0x0400u
#define X86_LF_AF 0x1000u
#define X86_LF_ZF 0x4000u
#define X86_LF_SF 0x8000u

enum x86_mode { X86_MODE_REAL, X86_MODE_VM86, X86_MODE_PM16, X86_MODE_PM32, X86_MODE_LONG64 };
/* PM16/PM32: protected or compatibility mode with CS.D = 0/1. */

struct x86_cpu_model;

struct x86_event {
	uint8_t vector;
	uint8_t kind;		/* X86_EV_* */
	bool has_err;
	uint32_t err;
	uint64_t cr2;		/* #PF */
	uint64_t dr6;		/* #DB: bits to OR into DR6 */
};
enum { X86_EV_FAULT,	/* exception raised by an instruction; rip = that instruction */
       X86_EV_TRAP,	/* exception after an instruction (#DB traps); rip = next */
       X86_EV_SOFT,	/* INT n, INT3, INTO: DPL checked; rip pushed = next */
       X86_EV_SOFT_ICEBP, /* INT1: no DPL check, rip pushed = next */
       X86_EV_INTR,	/* external interrupt */
       X86_EV_NMI,
       X86_EV_DEBUG };	/* not the guest's: the debugger's INT3 */

struct x86_cpu {
	struct vcpu vcpu;		/* first */

	/* Right before s, so that one byte tells these and the general registers apart. */
	alignas(64) uint64_t zero;	/* stands for an absent base or index register */
	uint64_t one_gib;		/* 1 << 30: brings a displacement into 32 bits */
	uint64_t blk_rip;		/* RIP of the running block's first instruction */
	const void *cur_uop;		/* engine's own form of the instruction being executed */
	struct x86_tlb_entry *tlb_now;	/* tlb[acc] */
	uint64_t cs_base;		/* 0 in 64-bit mode */
	uint32_t tlb_gen;		/* 1..X86_TLB_GEN_MAX */
	uint32_t lf;			/* arithmetic flags while a block runs; merged into s.rflags at its edges */
	uint32_t block_key;		/* mode bits that change decoding or block semantics */

	struct x86_state s;

	/* Derived by x86_mode_update. */
	uint8_t mode;			/* enum x86_mode */
	uint8_t cpl;
	uint8_t acc;			/* enum x86_acc of ordinary accesses now */
	bool long_mode;			/* EFER.LMA */
	bool paging;
	bool smap_checks_ac;
	uint8_t stack_size;		/* 2, 4, 8: width of the stack pointer */
	bool step_mode;			/* TF, enabled breakpoints, shadow: run instruction by instruction */

	/* Where we are. */
	uint64_t cur_rip, next_rip;	/* of the instruction being executed (see x86_rip) */
	bool watch;			/* DR7 arms a data breakpoint: pages that hold one are not cached */
	struct x86_codemap *codemap;
	uint64_t tsc_base_offset;	/* guest TSC = host TSC + this + s.tsc_offset */
	uint64_t tsc_zero;		/* guest TSC at guest time 0 = this + s.tsc_offset */

	struct x86_event pending;	/* what x86_raise left for the run loop */
	jmp_buf *fault_jmp;
	/* >=0 while delivering: vector class for double-fault detection (x86_deliver). */
	int delivering;
	bool smc_hit;			/* a store hit code: leave the block after this instruction */
	bool intr_maybe;		/* the interrupt controller may have something deliverable */
	bool flat;			/* CS DS ES SS: base 0, limit 4 GiB, usual types (outside 64-bit mode) */
	uint64_t seg_odd[2];		/* FS, GS: 0 or 1 << 63: limit or type need a look (outside 64-bit mode) */
	bool cs_limited;		/* CS.limit below 4 GiB matters (outside 64-bit mode) */
	bool leave_block;		/* something wants the run loop after this instruction */
	bool has_1g;			/* from the model */
	bool has_syscall32;		/* SYSCALL outside 64-bit mode: from the model */
	uint8_t phys_bits;		/* MAXPHYADDR, from the model */
	uint64_t fill_gpa;		/* x86_tlb_fill: the address it translated to */
	bool flush_keeps;		/* x86_tlb_flush_nonglobal: what is tagged by CR3 may stay */
	bool light, light_failed;	/* within x86_tlb_look; it met what needs x86_tlb_fill */
	bool apic_base_known;
	uint64_t light_wrote;		/* page-table entry changed there, still to be told of, or 0 */
	uint64_t apic_base_now;		/* the interrupt controller's, if known */
	uint64_t n_mmio, n_pio, n_exc, n_intr, n_decode, n_block;	/* statistics */
	uint32_t n_pause;
	bool shutdown;			/* triple fault */
	/* The debugger's, by x86_debug_set; NULL: none. */
	const struct cpu_debug *debug;
	bool debug_step;		/* stop behind one instruction */
	bool debug_done;		/* which has been begun */
	bool debug_exec, debug_data;	/* there are such points */
	bool debug_hit;			/* debug_stop is filled: stop before anything else */
	struct cpu_debug_stop debug_stop;
	struct x86_event db_trap;	/* pending single-step / data-breakpoint #DB, dr6 bits */

	/* The ranges that page tables and pages were last found in. */
	struct mem_range ranges[2];
	unsigned range_turn;
	/* Which 2 MiB and 1 GiB regions the TLB may hold pieces of large pages of, by hash of the region. */
	uint64_t large[2][X86_LARGE_WORDS];
	/* Told of every flush (X86_FLUSH_* or one page's address) if an engine keeps copies of the TLB; or NULL. */
	void (*tlb_flushed)(struct x86_cpu *c, uint64_t page);
	/* The x87 part of s.fpu.fx is stale: an engine has it in the host's registers (of the vCPU's
	 * thread), where it stays until somebody asks. */
	bool x87_away;
	void (*x87_fetch)(struct x86_cpu *c);
	const struct x86_cpu_model *model;
	struct { uint16_t off, size; } xsave_at[10];	/* components of XSAVE areas by the model's CPUID, if xsave_known */
	bool xsave_known;
	void *engine;			/* engine-private */
	uint64_t n_insn;		/* retired, approximately; for statistics */
	struct x86_trial *trial;	/* stores are noted, what cannot be taken back is refused (trial.h); or NULL */
	uint64_t write_mask;		/* XORed into write tags of the TLB: ~0 makes every store take the slow way */

	struct x86_tlb_entry tlb[X86_N_ACC][X86_TLB_SIZE];
};

/* --- raising (cpu/x86/except.c) --- */
/* To vcpu_run, which returns VCPU_STOP_DEBUG with RIP at this instruction. */
_Noreturn void x86_leave_debug(struct x86_cpu *c);
_Noreturn void x86_raise(struct x86_cpu *c, int vector);			/* fault without error code */
_Noreturn void x86_raise_err(struct x86_cpu *c, int vector, uint32_t err);
_Noreturn void x86_raise_pf(struct x86_cpu *c, uint64_t lin, uint32_t err);
/* #UD, #GP(0), shorthand. */
#define x86_ud(c) x86_raise(c, X86_EX_UD)
#define x86_gp(c, err) x86_raise_err(c, X86_EX_GP, err)

static inline uint64_t x86_rip(const struct x86_cpu *c) { return c->cur_rip; }
static inline uint64_t x86_next_rip(const struct x86_cpu *c) { return c->next_rip; }

/* Before anything looks at s.fpu.fx, or changes it; on the vCPU's thread. */
static inline void x86_x87_sync(struct x86_cpu *c)
{
	if (c->x87_away)
		c->x87_fetch(c);
}

/* --- mode (cpu/x86/mode.c) --- */
void x86_mode_update(struct x86_cpu *c);
/* Of it, what follows from SS and EFLAGS.AC, all else being as before, in 64-bit mode. */
void x86_level_update(struct x86_cpu *c);

/* --- code map (cpu/x86/codemap.c): which RAM holds code an engine has cached --- */
/* One per engine.  Marks are per 64-byte granule, so data beside code is free
 * to change.  A store that hits a mark bumps the page's version. */
#define X86_CODE_GRANULE 64u
int x86_codemap_new(struct machine *m, struct x86_codemap **out);
void x86_codemap_free(struct x86_codemap *map);
/* Marks [off, off+len) of the page as code and returns the page's version; the
 * bytes must be read after the call. */
uint32_t x86_codemap_mark(struct x86_codemap *map, const struct x86_tlb_entry *page, unsigned off, unsigned len);
/* A CPU stored [off, off+len) of a page whose flags have MEM_PG_CODE. True: code was hit. */
bool x86_codemap_hit(struct x86_codemap *map, const struct x86_tlb_entry *page, unsigned off, unsigned len);
/* fn is told, on the thread that stored, of each page whose version a hit has bumped.  One listener. */
void x86_codemap_on_hit(struct x86_codemap *map, void (*fn)(void *opaque, _Atomic uint32_t *version), void *opaque);
/* fn is told, on the thread that marks and before it reads the bytes, of each page of RAM (`page` of its backing) that held
 * no code until then.  One listener. */
void x86_codemap_on_mark(struct x86_codemap *map, void (*fn)(void *opaque, _Atomic uint8_t *flags, uint64_t page), void *opaque);
/* Is there code in it?  Changes nothing. */
bool x86_codemap_marked(struct x86_codemap *map, const struct x86_tlb_entry *page, unsigned off, unsigned len);
/* The same as x86_codemap_hit for a page known by the address of its flags. */
bool x86_codemap_hit_page(struct x86_codemap *map, _Atomic uint8_t *flags, unsigned off, unsigned len);

/* --- linear memory (cpu/x86/mmu.c) --- */
/* Any size up to 64 KiB, page crossings handled, MMIO dispatched.  A store checks both
 * pages before it writes either. */
void x86_mem_read(struct x86_cpu *c, uint64_t lin, void *buf, unsigned len, enum x86_acc acc);
void x86_mem_write(struct x86_cpu *c, uint64_t lin, const void *buf, unsigned len, enum x86_acc acc);
/* Raises the fault that a write (or read) of len bytes would raise. */
void x86_mem_probe(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_how how, enum x86_acc acc);
static inline uint64_t x86_ld(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_acc acc)
{
	uint64_t v = 0;

	x86_mem_read(c, lin, &v, len, acc);
	return v;
}
static inline void x86_st(struct x86_cpu *c, uint64_t lin, unsigned len, uint64_t v, enum x86_acc acc)
{
	x86_mem_write(c, lin, &v, len, acc);
}
/* Locked compare-and-exchange of 1, 2, 4 or 8 bytes at lin; true if stored.
 * Used for descriptor accessed/busy bits and page-crossing locked operations. */
bool x86_mem_cmpxchg(struct x86_cpu *c, uint64_t lin, unsigned len, uint64_t *expected, uint64_t desired,
		     enum x86_acc acc);
/* Host pointer for [lin, lin+len) inside one RAM page with `how` allowed, or
 * NULL if it crosses a page, is MMIO or needs the slow path; raises faults. */
void *x86_mem_host(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_how how, enum x86_acc acc);
/* After a store through x86_mem_host's pointer: code on the page? */
void x86_mem_stored(struct x86_cpu *c, uint64_t lin, unsigned len, enum x86_acc acc);

void x86_tlb_flush(struct x86_cpu *c);				/* everything */
/* The memory map has changed: forgets where guest memory was found, and flushes. */
void x86_map_changed(struct x86_cpu *c);
void x86_tlb_flush_nonglobal(struct x86_cpu *c);
/* CR3 := v, which has been checked; keep: entries of its PCID are good still. */
void x86_load_cr3(struct x86_cpu *c, uint64_t v, bool keep);
void x86_tlb_flush_page(struct x86_cpu *c, uint64_t lin);	/* INVLPG */
/* Loads and validates the four PDPTEs in PAE paging. False: reserved bits set (#GP). */
bool x86_load_pdpte(struct x86_cpu *c, uint64_t cr3);
/* The TLB entry that allows `how` at lin (filled if need be): raises faults;
 * NULL if the page is not memory (MMIO) or may not be cached. */
const struct x86_tlb_entry *x86_tlb_fill(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc);
/* The same if it is in the TLB already, else NULL: walks nothing, marks nothing. */
/*
 * A page of RAM that user code may access, as the tables of long mode say now; nothing is
 * marked, so accessed (and for `write` dirty) bits have to be set already.  With size
 * 2 MiB what is told is of the whole large page lin lies in.
 */
struct x86_user_page {
	uint64_t size, offset;		/* bytes; in the RAM backing, of its first byte */
	uint8_t *host;
	_Atomic uint8_t *flags;		/* MEM_PG_*, of its first 4 KiB */
	bool write, exec;
};
bool x86_user_page(struct x86_cpu *c, uint64_t lin, struct x86_user_page *p);
const struct x86_tlb_entry *x86_tlb_cached(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc);
/*
 * The same without raising anything, in general registers only: translated code
 * calls it with the guest's vector registers in the host's.  FAULT: *err is the
 * #PF's error code.  NONE: ask x86_tlb_fill.
 */
enum { X86_LOOK_OK, X86_LOOK_FAULT, X86_LOOK_NONE };
int x86_tlb_look(struct x86_cpu *c, uint64_t lin, enum x86_how how, enum x86_acc acc, const struct x86_tlb_entry **e,
		 uint32_t *err);
/* A store of len bytes at page offset off of a page with MEM_PG_CODE happened. */
void x86_code_stored(struct x86_cpu *c, const struct x86_tlb_entry *e, unsigned off, unsigned len);
/* Page walk without side effects or faults (debugger, reports): false if unmapped. */
bool x86_debug_translate(struct x86_cpu *c, uint64_t lin, uint64_t *gpa);

/* --- segmentation (cpu/x86/seg.c) --- */
/* Linear address of an access through a segment: canonical and limit checks,
 * type checks; raises #GP(0) or #SS(0). off is already truncated to the address size. */
uint64_t x86_seg_lin(struct x86_cpu *c, int seg, uint64_t off, unsigned len, enum x86_how how);
/* MOV/POP/LxS to a segment register; CS is refused with #UD by the caller. */
void x86_load_seg(struct x86_cpu *c, int seg, uint16_t sel);
/* Reads an 8- (or 16-) byte descriptor; raises err_vec(sel & ~3) if outside its table. */
struct x86_desc {
	uint32_t lo, hi, up;		/* up: third dword of a 16-byte one */
	uint64_t lin;			/* where it is */
};
void x86_read_desc(struct x86_cpu *c, uint16_t sel, struct x86_desc *d, int err_vec);
void x86_seg_from_desc(struct x86_seg *s, uint16_t sel, const struct x86_desc *d);

void x86_lldt(struct x86_cpu *c, uint16_t sel);
void x86_ltr(struct x86_cpu *c, uint16_t sel);
/* LAR, LSL, VERR, VERW: true = ZF; *out the result of LAR/LSL. */
bool x86_lar(struct x86_cpu *c, uint16_t sel, uint32_t *out);
bool x86_lsl(struct x86_cpu *c, uint16_t sel, uint32_t *out);
bool x86_ver(struct x86_cpu *c, uint16_t sel, bool write);

/* --- control transfers (cpu/x86/far.c) --- osz = operand size in bytes; they set s.rip. */
void x86_jmp_far(struct x86_cpu *c, uint16_t sel, uint64_t off, unsigned osz);
void x86_call_far(struct x86_cpu *c, uint16_t sel, uint64_t off, unsigned osz);
void x86_ret_far(struct x86_cpu *c, unsigned osz, uint16_t pop);
void x86_iret(struct x86_cpu *c, unsigned osz);
void x86_syscall(struct x86_cpu *c);
void x86_sysret(struct x86_cpu *c, unsigned osz);	/* 8 or 4 */
void x86_sysenter(struct x86_cpu *c);
void x86_sysexit(struct x86_cpu *c, unsigned osz);
/* INT n, INT3, INTO, INT1 (vector given); includes the VM86/VME rules. */
void x86_soft_int(struct x86_cpu *c, int vector, int kind);
/* Delivers through the IDT or IVT.  Called by the run loop with fault_jmp set;
 * nested faults come back through x86_raise with c->delivering telling which
 * event was being delivered (SDM vol. 3, table 6-5): x86_deliver_merge decides
 * what to deliver next, or sets c->shutdown. */
void x86_deliver(struct x86_cpu *c, const struct x86_event *ev);
bool x86_deliver_merge(struct x86_cpu *c, const struct x86_event *first, struct x86_event *second);

/* --- stack helpers used by the above and by interp --- (SS, current stack width) */
void x86_push(struct x86_cpu *c, unsigned osz, uint64_t v);
uint64_t x86_pop(struct x86_cpu *c, unsigned osz);

/* --- system registers (cpu/x86/ctrl.c) --- all checks; raise #UD/#GP */
uint64_t x86_get_cr(struct x86_cpu *c, unsigned n);
void x86_set_cr(struct x86_cpu *c, unsigned n, uint64_t v);
void x86_lmsw(struct x86_cpu *c, uint16_t v);
void x86_clts(struct x86_cpu *c);
uint64_t x86_get_dr(struct x86_cpu *c, unsigned n);
void x86_set_dr(struct x86_cpu *c, unsigned n, uint64_t v);
void x86_xsetbv(struct x86_cpu *c, uint32_t idx, uint64_t v);
uint64_t x86_xgetbv(struct x86_cpu *c, uint32_t idx);
void x86_invpcid(struct x86_cpu *c, uint64_t type, uint64_t pcid, uint64_t lin);
void x86_invlpg(struct x86_cpu *c, uint64_t lin);
uint64_t x86_rdtsc(struct x86_cpu *c);			/* no privilege check */
void x86_rdmsr(struct x86_cpu *c, uint32_t msr, uint64_t *v);	/* raises #GP */
void x86_wrmsr(struct x86_cpu *c, uint32_t msr, uint64_t v);
void x86_cpuid(struct x86_cpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);
/* IOPL and the TSS I/O bitmap (SDM vol. 1, 19.5); raises #GP(0). */
void x86_io_check(struct x86_cpu *c, uint16_t port, unsigned len);
/* POPF/IRET-style flag write under the current CPL, IOPL and mode. */
void x86_set_flags(struct x86_cpu *c, uint64_t v, unsigned osz);
/* Does DR7 arm an instruction breakpoint at lin / a data one on [lin, lin+len)?  Returns DR6 bits. */
uint32_t x86_bp_exec(struct x86_cpu *c, uint64_t lin);
uint32_t x86_bp_data(struct x86_cpu *c, uint64_t lin, unsigned len, bool write);
/* A debugger's points from now on; NULL: none. [vCPU not running] */
void x86_debug_set(struct x86_cpu *c, const struct cpu_debug *d, bool step);
/* An instruction at lin is about to be executed: is that a point? Fills debug_stop. */
bool x86_debug_at(struct x86_cpu *c, uint64_t lin);
/* It is an INT3: leaves if it is the debugger's. */
void x86_debug_int3(struct x86_cpu *c, uint64_t lin);
/* Memory was accessed. */
void x86_debug_data(struct x86_cpu *c, uint64_t lin, unsigned len, bool write);
/* Is there a point on this page of data? */
bool x86_debug_page(const struct x86_cpu *c, uint64_t lin);
uint32_t x86_bp_io(struct x86_cpu *c, uint16_t port, unsigned len);

/* Host tick helper shared by engines. */
static inline uint64_t x86_host_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

/* Bases held in registers and tables (descriptor tables, FS and GS base, MSRs) are
 * checked against the widest linear address the CPU supports, whatever CR4.LA57 is. */
bool x86_canonical_base(const struct x86_cpu *c, uint64_t base);

static inline bool x86_canonical(const struct x86_cpu *c, uint64_t lin)
{
	unsigned sh = (c->s.cr4 & X86_CR4_LA57) ? 7 : 16;

	return (uint64_t)((int64_t)(lin << sh) >> sh) == lin;
}

#endif
