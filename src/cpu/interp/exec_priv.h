/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files behind exec.h share: the stub's descriptor and helpers. */
#ifndef LODGE_CPU_INTERP_EXEC_PRIV_H
#define LODGE_CPU_INTERP_EXEC_PRIV_H

#include "cpu/interp/exec.h"
#include "cpu/x86/opinfo.h"
#include "cpu/x86/rewrite.h"

typedef void exec_fn(struct x86_cpu *c, const struct exec *x, uint64_t lin);

/* What an instruction does about x87 state around it. */
enum { EXEC_X87_NONE, EXEC_X87_STUB, EXEC_X87_MMX };

struct exec {
	exec_fn *run;
	/* The stub: returns the host's flags, or EXEC_FAULT | kind << 32 | MXCSR. */
	uint64_t (*code)(struct x86_state *s, void *mem, uint64_t flags);
	uint64_t xcr0_need;
	uint32_t cr0_bad;		/* EM and TS as far as they matter */
	uint32_t cr4_need;
	uint32_t flags_written;		/* X86_FL_* */
	uint32_t flags_read;
	uint8_t x87;			/* EXEC_X87_* */
	bool image;			/* works on the x87 image in s.fpu.fx */
	bool waits;			/* a pending x87 error is reported first */
	bool vex;			/* undefined in real and virtual-8086 mode */
	bool mem_read, mem_write;
	bool features_ok;		/* the cache's model has them: no need to ask again */
	bool simple;			/* registers only, no x87: nothing around the stub */
	bool own_address;		/* one address, which must be canonical */
	uint8_t mem_size, align;	/* align: bits of the address that must be clear */
	uint8_t piece;			/* x87: an operand of more than 8 bytes is accessed in pieces; bytes of the first, or 0 */
	uint16_t last_byte;		/* offset of the operand's last byte, as far as it is checked beforehand */
	uint16_t fop;			/* x87 opcode as FXSAVE shows it */

	uintptr_t lo, hi;		/* host addresses at which a fault is the guest's */
	uintptr_t recover;		/* and where to go on */
	struct op_info o;
	struct insn i;			/* one instance: displacement not to be relied on */
	struct exec *next;		/* hash chain, or list of those forgotten */
	uint32_t kept;			/* exec_cache_keep's newest time */
	uint8_t key[24];
};

#define EXEC_FAULT (1ull << 63)
enum { EXEC_FAULT_GP = 1, EXEC_FAULT_AC, EXEC_FAULT_XM, EXEC_FAULT_UD };

/* --- exec_emit.c --- */
/* Room for a stub; they take 60 to 160 bytes. */
#define EXEC_STUB_MAX 256
/* What of its vector registers the host can load and store. */
struct exec_host {
	bool avx, avx512f, avx512bw;
};
void exec_host_probe(struct exec_host *h);
/*
 * Emits the stub for x (o, i and flags_* set) at `at`, whose executable alias
 * is `run_at`.  Fills code, lo, hi, recover.  Bytes used, or -EINVAL.
 */
int exec_emit(struct exec *x, const struct exec_host *h, const struct rewrite *r, uint8_t *at, uintptr_t run_at);
/* Register the stub will hold the operand's address in, and what to call RSP. */
void exec_pick_regs(const struct op_info *o, struct rewrite *r);

/* --- exec_signal.c --- */
/* The stub this thread is in, for the signal handler. */
extern _Thread_local const struct exec *volatile exec_current;

/* --- exec_vec.c, exec_x87.c, exec_ctx.c: C for what stubs cannot do --- */
exec_fn *exec_c_vec(const struct insn *i);
exec_fn *exec_c_x87(const struct insn *i);
exec_fn *exec_c_ctx(const struct insn *i);
bool exec_is_plain_reg(const struct exec *x);
/* A masked access to memory: only what the mask selects is touched. */
void exec_run_masked(struct x86_cpu *c, const struct exec *x, uint64_t lin);
/* Calls the stub with its memory operand at mem (already vouched for). */
void exec_call(struct x86_cpu *c, const struct exec *x, void *mem, uint64_t lin);
/* The ordinary case: the whole operand. */
void exec_run_mem(struct x86_cpu *c, const struct exec *x, uint64_t lin);

/* --- x87 image, exec_x87.c --- */
/* Does a pending x87 error stop this instruction? */
bool exec_x87_waits(const struct insn *i);
/* Has the environment that it loads or stores 14 bytes, not 28? */
bool exec_x87_small_env(const struct insn *i);
void exec_x87_enter_mmx(struct x86_fpu *f);
void exec_x87_leave_mmx(struct x86_fpu *f, uint8_t written);
static inline uint16_t exec_fcw(const struct x86_fpu *f) { return ld_le16(f->fx); }
static inline uint16_t exec_fsw(const struct x86_fpu *f) { return ld_le16(f->fx + 2); }
#define EXEC_FSW_ES 0x80u

#endif
