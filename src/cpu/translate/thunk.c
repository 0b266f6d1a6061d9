/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fixed pieces of emitted code: in and out of translated code, calls to C,
 * saving and loading of vector state.  Made once, at the start of the cache.
 *
 * A thunk that is called (rather than jumped to) finds RSP 8 below the vCPU
 * block; the assembler's bias takes care.  C runs on the thread's own stack.
 */
#include <errno.h>

#include "cpu/translate/translate.h"

#define XO_FPU(f) (XO(ic.c.s.fpu) + (int32_t)offsetof(struct x86_fpu, f))

static const uint8_t host_of[16] = { H_RAX, H_RCX, H_RDX, H_RBX, H_R9, H_RBP, H_RSI, H_RDI,
				     H_R8, H_NONE, H_NONE, H_NONE, H_R12, H_R13, H_R14, H_R15 };

static void gprs(struct xasm *a, bool load)
{
	for (unsigned g = 0; g < 16; g++)
		if (host_of[g] != H_NONE)
			a_rs(a, 1, load ? 0x8b : 0x89, host_of[g], XO_GPR(g));
}

static void flags_to_lf(struct xasm *a)
{
	a_st(a, H_RAX, XO(sv_rax));
	a_b(a, 0x9f);			/* lahf */
	a_bytes(a, "\x0f\x90\xc0", 3);	/* seto al */
	a_st32(a, H_RAX, XO(ic.c.lf));
	a_ld(a, H_RAX, XO(sv_rax));
}

/* vmovups zmm/ymm or movups xmm <-> [rsp + disp]. */
static void vec_move(struct xasm *a, const struct xl_engine *xe, bool load, unsigned r, int32_t disp)
{
	unsigned op = load ? 0x10 : 0x11;

	if (xe->host.avx512f) {
		a_b(a, 0x62);
		a_b(a, ((r & 8) ? 0 : 0x80) | 0x60 | ((r & 16) ? 0 : 0x10) | 1);
		a_b(a, 0x7c);
		a_b(a, 0x48);
	} else if (xe->host.avx) {
		a_b(a, 0xc5);
		a_b(a, ((r & 8) ? 0 : 0x80) | 0x7c);
	} else {
		if (r & 8)
			a_b(a, 0x44);
		a_b(a, 0x0f);
	}
	a_b(a, op);
	a_b(a, 0x80 | (r & 7) << 3 | 4);
	a_b(a, 0x24);
	a_d(a, (uint32_t)(disp + a->bias));
}

static void k_move(struct xasm *a, const struct xl_engine *xe, bool load, unsigned k, int32_t disp)
{
	a_bytes(a, xe->host.avx512bw ? "\xc4\xe1\xf8" : "\xc4\xe1\x78", 3);
	a_b(a, load ? 0x90 : 0x91);
	a_b(a, 0x80 | k << 3 | 4);
	a_b(a, 0x24);
	a_d(a, (uint32_t)(disp + a->bias));
}

/*
 * Loading a whole register leaves its upper part "dirty" even if it is zero, and
 * then legacy SSE instructions merge with what the register held before: each
 * waits for the last writer (measured: a loop of MULPS 7.5 times as long instead
 * of 3.5).  VZEROUPPER tells the processor otherwise. Uses R11 and flags.
 */
static void clean_uppers(struct xasm *a, const struct xl_engine *xe)
{
	unsigned dirty;

	if (!xe->host.avx)
		return;
	if (xe->host.avx512f) {
		vec_move(a, xe, true, 31, XO_FPU(zmm));
		for (int r = 1; r < 16; r++) {
			a_bytes(a, "\x62\x61\x85\x40\xeb\xbc\x24", 7);	/* vporq zmm31, zmm31, [rsp + disp32] */
			a_d(a, (uint32_t)(XO_FPU(zmm) + 64 * r + a->bias));
		}
		vec_move(a, xe, false, 31, XO(uppers));
		vec_move(a, xe, true, 31, XO_FPU(zmm) + 64 * 31);
		a_ld(a, H_R11, XO(uppers) + 16);
		for (int k = 3; k < 8; k++)
			a_rs(a, 1, 0x0b, H_R11, XO(uppers) + 8 * k);
	} else {
		a_rr(a, 0, 0x33, H_R11, H_R11);
		for (int r = 0; r < 16; r++)
			for (int k = 2; k < 4; k++)
				a_rs(a, 1, 0x0b, H_R11, XO_FPU(zmm) + 64 * r + 8 * k);
	}
	a_rr(a, 1, 0x85, H_R11, H_R11);
	dirty = a_jcc_fwd(a, CC_NE);
	a_bytes(a, "\xc5\xf8\x77", 3);	/* vzeroupper */
	a_bind(a, dirty);
}

/* A subroutine; touches no general register but R11, and flags only when it loads. */
static uintptr_t make_vec(struct xasm *a, const struct xl_engine *xe, bool load, int bias)
{
	unsigned n = xe->host.avx512f ? 32 : 16;
	uintptr_t at;

	a_align(a, 16);
	at = a_here(a);
	a->bias = bias;
	for (unsigned r = 0; r < n; r++)
		vec_move(a, xe, load, r, XO_FPU(zmm) + 64 * (int)r);
	if (xe->host.avx512f)
		for (unsigned k = 0; k < 8; k++)
			k_move(a, xe, load, k, XO_FPU(k) + 8 * (int)k);
	if (load)
		clean_uppers(a, xe);
	a_rs(a, 0, 0x0fae, load ? 2 : 3, XO_FPU(mxcsr));
	if (!load) {
		a_rs(a, 0, 0x0fae, 2, XO(host_mxcsr));
		if (xe->host.avx)
			a_bytes(a, "\xc5\xf8\x77", 3);	/* vzeroupper */
	}
	a_rs(a, 0, 0xc6, 0, XO(vec_live));	/* mov byte [vec_live], load */
	a_b(a, load);
	a_b(a, 0xc3);
	a->bias = 0;
	return at;
}

/* Back to the caller of enter; everything is in memory. RSP is the vCPU block (+ bias). */
static void leave(struct xasm *a)
{
	static const uint8_t regs[] = { H_R15, H_R14, H_R13, H_R12, H_RBP, H_RBX };

	a_ld(a, H_RSP, XO(host_rsp));
	a_alu_ri(a, 1, 0, H_RSP, 8);
	for (unsigned k = 0; k < sizeof(regs); k++)
		a_push_pop(a, false, regs[k]);
	a_b(a, 0xc3);
}

static void make_enter(struct xasm *a, struct xl_engine *xe)
{
	static const uint8_t regs[] = { H_RBX, H_RBP, H_R12, H_R13, H_R14, H_R15 };

	a_align(a, 16);
	xe->t.enter = (void *(*)(struct xl_cpu *, void *))a_here(a);
	for (unsigned k = 0; k < sizeof(regs); k++)
		a_push_pop(a, true, regs[k]);
	a_alu_ri(a, 1, 5, H_RSP, 8);
	a_st(a, H_RDI, 0);		/* light calls find their way back by it */
	a_rm(a, 1, 0x89, H_RSP, H_RDI, H_NONE, 0, XO(host_rsp));
	a_mov_rr(a, 1, H_RSP, H_RDI);
	a_st(a, H_RSI, XO(tmp));
	a_ld(a, H_R10, XO(ic.c.s.rip));
	gprs(a, true);
	a_rs(a, 0, 0xff, 4, XO(tmp));	/* jmp [tmp] */
}

struct subs {
	uintptr_t save8, save16, load16, load8;
};

enum { OUT_LINK, OUT_RIP, OUT_FAULT };

static uintptr_t make_exit(struct xasm *a, const struct subs *s, int what, bool flags)
{
	uintptr_t at;
	unsigned skip;

	a_align(a, 16);
	at = a_here(a);
	if (what == OUT_RIP)
		a_st(a, H_R10, XO(ic.c.s.rip));
	if (flags)
		flags_to_lf(a);
	if (what != OUT_LINK)
		a_rr(a, 0, 0x33, H_R10, H_R10);
	a_st(a, H_R10, XO(exit));
	gprs(a, false);
	a_cmp_si8(a, true, XO(vec_live), 0);
	skip = a_jcc_fwd(a, CC_E);
	a_call(a, s->save8);
	a_bind(a, skip);
	leave(a);
	return at;
}

/* Calls fn(cpu, r10, r11); 0: back to where it was called from, else leaves.
 * keep_flags: the host's flags are the guest's and stay so.  cur_uop: R10 is a uop;
 * vector registers are then left in memory, the block looks again. */
static uintptr_t make_call(struct xasm *a, const struct subs *s, uintptr_t fn, bool cur_uop, bool keep_flags)
{
	unsigned no_vec, out, no_load;
	uintptr_t at;

	a_align(a, 16);
	at = a_here(a);
	a->bias = 8;
	if (keep_flags)
		flags_to_lf(a);
	gprs(a, false);
	a_st(a, H_R10, XO(sv_r10));
	a_st(a, H_R11, XO(sv_r11));
	if (cur_uop)
		a_st(a, H_R10, XO(ic.c.cur_uop));
	a_rs(a, 0, 0x0fb6, H_R12, XO(vec_live));
	a_rr(a, 0, 0x85, H_R12, H_R12);
	no_vec = a_jcc_fwd(a, CC_E);
	a_call(a, s->save16);
	a_bind(a, no_vec);
	a_lea(a, 1, H_RDI, H_RSP, H_NONE, 0, 8);
	a_mov_rr(a, 1, H_RSI, H_R10);
	a_mov_rr(a, 1, H_RDX, H_R11);
	a_mov_rr(a, 1, H_RBX, H_RSP);
	a_ld(a, H_RSP, XO(host_rsp));
	a_mov_i(a, H_RAX, fn);
	a_bytes(a, "\xff\xd0", 2);	/* call rax */
	a_mov_rr(a, 1, H_RSP, H_RBX);
	a_rr(a, 0, 0x85, H_RAX, H_RAX);
	out = a_jcc_fwd(a, CC_NE);
	if (!cur_uop) {
		a_rr(a, 0, 0x85, H_R12, H_R12);
		no_load = a_jcc_fwd(a, CC_E);
		a_call(a, s->load16);
		a_bind(a, no_load);
	}
	if (keep_flags) {
		a_ld32(a, H_RAX, XO(ic.c.lf));
		a_bytes(a, "\x04\x7f\x9e", 3);	/* add al, 0x7f; sahf */
	}
	gprs(a, true);
	a_ld(a, H_R10, XO(sv_r10));
	a_ld(a, H_R11, XO(sv_r11));
	a_b(a, 0xc3);
	a_bind(a, out);
	leave(a);
	a->bias = 0;
	return at;
}

/* What C may change and does not give back; R9 holds RSP. */
static void caller_saved(struct xasm *a, bool load)
{
	static const uint8_t regs[] = { X86_RAX, X86_RCX, X86_RDX, X86_RSP, X86_RSI, X86_RDI, 8 };

	for (unsigned n = 0; n < sizeof(regs); n++)
		a_rs(a, 1, load ? 0x8b : 0x89, host_of[regs[n]], XO_GPR(regs[n]));
}

/* Where C does use vector registers (XL_LIGHT_PURE): saved around light calls. RSP is 8 below the vCPU block. */
static void light_vec_save(struct xasm *a, const struct subs *s)
{
	unsigned none;

	if (XL_LIGHT_PURE)
		return;
	a_rs(a, 0, 0x0fb6, H_RAX, XO(vec_live));
	a_rs(a, 0, 0x88, H_RAX, XO(vec_was));
	a_cmp_si8(a, true, XO(vec_live), 0);
	none = a_jcc_fwd(a, CC_E);
	a_call(a, s->save16);
	a_bind(a, none);
}

static void light_vec_load(struct xasm *a, const struct subs *s)
{
	unsigned none;

	if (XL_LIGHT_PURE)
		return;
	a_cmp_si8(a, true, XO(vec_was), 0);
	none = a_jcc_fwd(a, CC_E);
	/* Below the way back to emitted code, which is at [RSP - 8]. */
	a_lea(a, 1, H_RSP, H_RSP, H_NONE, 0, -8);
	a_call(a, s->load16);
	a_lea(a, 1, H_RSP, H_RSP, H_NONE, 0, 8);
	a_bind(a, none);
}

/* Calls fn(cpu, r10, r11) of light.c.  0: back to where it was called from, R10 and R11 as
 * they were; else on at what it returned, R10 being s.rip. */
static uintptr_t make_light(struct xasm *a, const struct subs *s, uintptr_t fn)
{
	uintptr_t at;
	unsigned out;

	a_align(a, 16);
	at = a_here(a);
	a->bias = 8;
	caller_saved(a, false);
	a_st(a, H_R10, XO(sv_r10));
	a_st(a, H_R11, XO(sv_r11));
	light_vec_save(a, s);
	a_lea(a, 1, H_RDI, H_RSP, H_NONE, 0, 8);
	a_mov_rr(a, 1, H_RSI, H_R10);
	a_mov_rr(a, 1, H_RDX, H_R11);
	a_ld(a, H_RSP, XO(host_rsp));
	a_mov_i(a, H_RAX, fn);
	a_bytes(a, "\xff\xd0", 2);	/* call rax */
	a->bias = 0;
	a_ld(a, H_RSP, 0);		/* see make_enter */
	light_vec_load(a, s);
	a_rr(a, 1, 0x85, H_RAX, H_RAX);
	out = a_jcc_fwd(a, CC_NE);
	caller_saved(a, true);
	a_ld(a, H_R10, XO(sv_r10));
	a_ld(a, H_R11, XO(sv_r11));
	a_lea(a, 1, H_RSP, H_RSP, H_NONE, 0, -8);
	a_b(a, 0xc3);
	a_bind(a, out);
	a_mov_rr(a, 1, H_R11, H_RAX);	/* the block may hold something in xl_cpu.tmp */
	caller_saved(a, true);
	a_ld(a, H_R10, XO(ic.c.s.rip));
	a_bytes(a, "\x41\xff\xe3", 3);	/* jmp r11 */
	return at;
}

/* A light call was not enough: the same place calls what is. */
static uintptr_t make_again(struct xasm *a, uintptr_t to)
{
	uintptr_t at;

	a_align(a, 16);
	at = a_here(a);
	a_ld(a, H_R10, XO(sv_r10));
	a_ld(a, H_R11, XO(sv_r11));
	a_lea(a, 1, H_RSP, H_RSP, H_NONE, 0, -8);
	a_jmp(a, to);
	return at;
}

static void light_thunks(struct xasm *a, const struct subs *s, struct xl_thunks *t)
{
	t->callout_again = make_again(a, t->callout);
	t->miss_again = make_again(a, make_call(a, s, (uintptr_t)xl_do_miss, false, false));
	t->miss = make_light(a, s, (uintptr_t)xl_lt_miss);
	for (unsigned n = 0; n < XL_LT_N; n++)
		t->light[n] = make_light(a, s, (uintptr_t)xl_light[n]);
	a_align(a, 16);
	t->indirect = a_here(a);
	a_st(a, H_R10, XO(ic.c.s.rip));
	a_lea(a, 1, H_RSP, H_RSP, H_NONE, 0, -8);
	a_jmp(a, t->light[XL_LT_INDIRECT]);
}

int xl_thunks_make(struct xl_engine *xe)
{
	struct xasm a = { .p = xe->rw, .run = (uintptr_t)xe->rx, .size = (unsigned)xe->size };
	struct xl_thunks *t = &xe->t;
	struct subs s;

	s.save8 = make_vec(&a, xe, false, 8);
	s.save16 = make_vec(&a, xe, false, 16);
	s.load16 = make_vec(&a, xe, true, 16);
	t->vec_load = s.load8 = make_vec(&a, xe, true, 8);
	make_enter(&a, xe);
	t->exit_link = make_exit(&a, &s, OUT_LINK, true);
	t->exit_rip_h = make_exit(&a, &s, OUT_RIP, true);
	t->exit_rip_m = make_exit(&a, &s, OUT_RIP, false);
	t->fault_h = make_exit(&a, &s, OUT_FAULT, true);
	t->fault_m = make_exit(&a, &s, OUT_FAULT, false);
	t->callout = make_call(&a, &s, (uintptr_t)xl_do_callout, true, false);
	t->stored_h = make_call(&a, &s, (uintptr_t)xl_do_stored, false, true);
	t->stored_m = make_call(&a, &s, (uintptr_t)xl_do_stored, false, false);
	t->x87_load = make_call(&a, &s, (uintptr_t)xl_do_x87_load, false, false);
	light_thunks(&a, &s, t);
	a_align(&a, 64);
	t->end = a_here(&a);
	xe->start = a.n;
	return a.over ? -ENOMEM : 0;
}
