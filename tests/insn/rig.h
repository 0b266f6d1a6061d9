/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One instruction, one state, one result: what the instruction tests run on
 * every executor they have (the host's own CPU, interp, KVM) and compare.
 *
 * All executors see the same little address space: a code page, two writable
 * data pages, a read-only one, and nothing else.  64-bit,
 * 32-bit or 16-bit user mode.
 */
#ifndef TESTS_INSN_RIG_H
#define TESTS_INSN_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/x86/state.h"

#define RIG_CODE 0x40000000ull		/* one page; the next is absent */
#define RIG_DATA 0x40010000ull		/* two writable pages */
#define RIG_DATA_SIZE 0x2000u
#define RIG_RODATA 0x40012000ull	/* one read-only page; the next is absent */
#define RIG_PAGE 0x1000u

#define RIG_CODE_MAX 64
#define RIG_FILLER 0xf1			/* INT1: what the code page holds beside the code, for all executors */
#define RIG_NO_FAULT 0xff

struct rig_case {
	uint64_t seed;
	uint8_t code[RIG_CODE_MAX];
	unsigned len;
	unsigned bits;			/* 64; 32: compatibility mode, flat; 16: segments at RIG_CODE and RIG_DATA */
	unsigned code_off;		/* in the code page */
	unsigned steps;			/* instructions to run; 0: one */
	unsigned repeat;		/* times to run before the result counts; 0: once */
	/* System registers that differ from the usual (engines only). */
	uint64_t cr0_set, cr0_clear, cr4_clear, xcr0_clear;
	uint64_t dr[4], dr7;
	struct x86_seg fs_gs[2];	/* where attr is not 0 */
	uint64_t gpr[16];
	uint64_t rflags;
	struct x86_fpu fpu;
	uint8_t data[RIG_DATA_SIZE];
};

struct rig_result {
	bool valid;			/* the executor got through */
	uint8_t fault;			/* vector or RIG_NO_FAULT */
	uint32_t err;
	uint64_t cr2;
	uint64_t dr6;			/* engines only */
	uint64_t gpr[16];
	uint64_t rip, rflags;
	struct x86_fpu fpu;
	uint8_t data[RIG_DATA_SIZE];
};

struct rig_engine;

/* Has the case's instruction a REP prefix (and so traps at every iteration)? */
bool rig_has_rep(const struct rig_case *c);
/* Is it a gather or scatter, which may trap before it is through? */
bool rig_goes_on(const struct rig_case *c);
/* The read-only page's contents, the same for all. */
void rig_fill_rodata(uint8_t page[RIG_PAGE]);

/* --- native.c: a sandboxed child --- */
struct native;
/* 16-bit code needs modify_ldt. */
bool native_can(unsigned bits);
struct native *native_new(void);
void native_free(struct native *n);
/* Runs the case; r->valid false if the child did not survive it (it is replaced). */
void native_run(struct native *n, const struct rig_case *c, struct rig_result *r);

/* --- engine.c --- */
/* name: "stub" (exec stubs only, called directly), "interp", "translate", "check", "kvm"; "translate:small": with
 * the smallest code cache; "translate:smp": with two vCPUs; "check:N": the N-th instruction it translates comes out wrong.  NULL: not available here. */
struct rig_engine *rig_engine_new(const char *name);
/* With a CPU model ("x86-64-v2") other than the fullest. */
struct rig_engine *rig_engine_new_model(const char *name, const char *model);
void rig_engine_free(struct rig_engine *e);
/* Why it cannot go on, after a run that was not valid. */
void rig_engine_report(struct rig_engine *e, char *buf, size_t len);
void rig_engine_run(struct rig_engine *e, const struct rig_case *c, struct rig_result *r);
/* From now on instructions run without single step until one after them stops
 * it (as "translate" always does): for blocks of several. */
void rig_engine_free_run(struct rig_engine *e);
/* One of the engine's statistics, or the sum of those with "NAME, something"; 0: there is none. */
uint64_t rig_engine_stat(struct rig_engine *e, const char *name);
/* Can this executor run it at all? (stub: exec_handles) */
bool rig_engine_takes(struct rig_engine *e, const struct rig_case *c);

/* --- compare.c --- */
/* Differences between what two executors made of c, as text; 0 if none that counts. */
int rig_compare(const struct rig_case *c, const struct rig_result *want, const struct rig_result *got,
		char *text, unsigned len);
/* FOP, FIP and FDP, which engines must agree on. */
int rig_compare_x87_pointers(const struct rig_result *want, const struct rig_result *got, char *text, unsigned len);

/* --- gen.c --- */
/* A case made from the seed; false: try the next seed. */
bool rig_generate(uint64_t seed, unsigned bits, struct rig_case *c);
/* RIG_X87: mostly x87 and MMX, with addresses that do.  RIG_X87_IMAGES: stores of their
 * whole state too, which are comparable between engines only. */
enum rig_mix { RIG_ALL, RIG_X87, RIG_X87_IMAGES };
bool rig_generate_mix(uint64_t seed, unsigned bits, enum rig_mix mix, struct rig_case *c);

#endif
