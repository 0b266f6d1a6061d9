/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Exec stubs: instructions the interpreter does not spell out in C are
 * performed by the host's own CPU.
 *
 * A stub is a few dozen bytes of host code: it loads the guest registers the
 * instruction uses, executes the very guest instruction with its memory operand
 * redirected to [register], and stores the results.  The decoder's output
 * decides what is loaded and stored; the encoding is verified by decoding it
 * again before it may run (cpu/x86/rewrite.h).  Where the host's version would
 * not do (gathers, FXSAVE and XSAVE, masked stores near a page's end, VZEROALL,
 * x87 environments ...) the same interface runs C.
 *
 * Covered: x87, MMX, SSE to AVX-512 and the integer extensions BMI1, BMI2, ADX,
 * CRC32, POPCNT, LZCNT, TZCNT, MOVBE, RDRAND, RDSEED, RDPID, MOVDIRI.  Not
 * covered: prefetches, cache flushes and fences (no effect here), XGETBV and
 * XSETBV, CMPXCHG16B.
 */
#ifndef LODGE_CPU_INTERP_EXEC_H
#define LODGE_CPU_INTERP_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/x86/cpu.h"
#include "cpu/x86/decode.h"

struct exec;
struct exec_cache;

/*
 * Installs handlers for SIGSEGV, SIGBUS, SIGFPE and SIGILL, which know faults of
 * stubs and pass all others to whatever was installed before (default action:
 * the process dies of the signal as if there were no handler).  Process-wide,
 * idempotent (takes back what others took since), any thread.  0 or -errno.
 */
int exec_signals_install(void);
/*
 * Gives the calling thread an alternate signal stack if it has none: once per
 * vCPU thread, before its first exec_run.  0 or -errno.  exec_thread_fini
 * before the thread ends.
 */
/* Asked first about such faults on this thread; true: it has seen to it. */
extern _Thread_local bool (*exec_fault_hook)(void *ucontext);
int exec_thread_init(void);
void exec_thread_fini(void);

/*
 * One cache of stubs, bounded.  It may be shared by all vCPUs (exec_get locks),
 * or each may have its own, which makes resetting it easy.  NULL: no memory or
 * no executable mapping, *err tells (-errno).
 */
struct exec_cache *exec_cache_new(int *err);
void exec_cache_free(struct exec_cache *x);
/* Every struct exec of the cache lies within 2 GiB from here on. */
const void *exec_cache_pool(const struct exec_cache *x);
/* All vCPUs that use the cache have this model (kept by reference): saves
 * asking at every execution.  Before the first exec_get. */
void exec_cache_set_model(struct exec_cache *x, const struct x86_cpu_model *m);
/*
 * True when the next block of instructions (up to EXEC_ROOM) might not fit any
 * more.  The owner then forgets every struct exec pointer it holds and calls
 * exec_cache_reset, with no thread inside exec_run on this cache.
 */
#define EXEC_ROOM 256
bool exec_cache_full(const struct exec_cache *x);
void exec_cache_reset(struct exec_cache *x);
/*
 * The other way, for a cache whose users hold their pointers for a time: keep says
 * of a stub (`at` bytes from exec_cache_pool) that somebody holds it since
 * `time` (1 or more, growing), forget drops those that nobody has been said to hold since `before`,
 * of which none may be in use; what comes next may get their places.
 */
void exec_cache_keep(struct exec_cache *x, uint32_t at, uint32_t time);
void exec_cache_forget(struct exec_cache *x, uint32_t before);

/* Is this instruction performed here?  Says nothing about CPUID features. */
bool exec_handles(const struct insn *i);
/*
 * The means to run it, made once for all instructions alike (displacement and
 * addressing do not count, but for x87, whose FOP tells of them); valid until
 * exec_cache_reset.  NULL: this encoding cannot run or the cache's model has no
 * such instruction (#UD), or the cache is full.
 */
struct exec *exec_get(struct exec_cache *x, const struct insn *i);
/*
 * Performs the instruction completely: CR0, CR4, XCR0, CPUID and mode checks in
 * the SDM's order, pending x87 errors, memory, registers, flags; raises what
 * silicon raises (does not return then).  off_lin: linear address of the memory
 * operand, segment checks of limit and type done, canonical or not (for VSIB that of base + displacement; 0 without
 * memory operand).  RIP is left to the caller.
 */
void exec_run(struct x86_cpu *c, const struct exec *x, uint64_t off_lin);
/* Its checks that need no operand: where a segment's are to follow.  Returns how many bytes of the operand are
 * accessed before its end is looked at (the limit's exception comes after their page's), or 0. */
unsigned exec_check(struct x86_cpu *c, const struct exec *x);
#endif
