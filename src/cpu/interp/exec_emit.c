/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Emits exec stubs.  A stub is an ordinary System V function
 *
 *	uint64_t stub(struct x86_state *s, void *mem, uint64_t flags)
 *
 * that loads what the instruction reads from s, executes it, and stores what it
 * wrote.  Guest registers sit in the host registers of the same number, except
 * RSP, which is renamed: the host's stack stays the host's.  Two registers the
 * instruction does not use hold s and mem.  Between `lo` and `hi` a fault is
 * the guest's: the signal handler continues at `recover`, which leaves without
 * storing anything.
 */
#include "cpu/interp/exec_priv.h"

#include <cpuid.h>
#include <errno.h>
#include <string.h>

struct buf {
	uint8_t *p;
	unsigned n;
	bool over;
};

static void b1(struct buf *b, uint8_t v)
{
	if (b->n < EXEC_STUB_MAX)
		b->p[b->n++] = v;
	else
		b->over = true;
}

static void bn(struct buf *b, const void *v, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		b1(b, ((const uint8_t *)v)[k]);
}

static void b4(struct buf *b, uint32_t v) { bn(b, &v, 4); }

#define STR(b, s) bn(b, s, sizeof(s) - 1)

/* ModRM and disp32 for [base + disp], base not RSP or R12. */
static void modrm_disp(struct buf *b, unsigned reg, unsigned base, uint32_t disp)
{
	b1(b, (uint8_t)(0x80 | (reg & 7) << 3 | (base & 7)));
	b4(b, disp);
}

/* mov r64, [base+disp] (load) or its reverse. */
static void gpr_move(struct buf *b, bool load, unsigned reg, unsigned base, uint32_t disp)
{
	b1(b, (uint8_t)(0x48 | (reg & 8) >> 1 | (base & 8) >> 3));
	b1(b, load ? 0x8b : 0x89);
	modrm_disp(b, reg, base, disp);
}

static void gpr_copy(struct buf *b, unsigned dst, unsigned src)
{
	b1(b, (uint8_t)(0x48 | (src & 8) >> 1 | (dst & 8) >> 3));
	b1(b, 0x89);
	b1(b, (uint8_t)(0xc0 | (src & 7) << 3 | (dst & 7)));
}

static void push_pop(struct buf *b, bool push, unsigned reg)
{
	if (reg & 8)
		b1(b, 0x41);
	b1(b, (uint8_t)((push ? 0x50 : 0x58) | (reg & 7)));
}

/* movups xmm, legacy: keeps the register's upper part as it is (zero). */
static void xmm_move(struct buf *b, bool load, unsigned reg, unsigned base, uint32_t disp)
{
	if ((reg | base) & 8)
		b1(b, (uint8_t)(0x40 | (reg & 8) >> 1 | (base & 8) >> 3));
	b1(b, 0x0f);
	b1(b, load ? 0x10 : 0x11);
	modrm_disp(b, reg, base, disp);
}

/* vmovups xmm or ymm. */
static void vex_move(struct buf *b, bool load, unsigned width, unsigned reg, unsigned base, uint32_t disp)
{
	b1(b, 0xc4);
	b1(b, (uint8_t)(((reg & 8) ? 0 : 0x80) | 0x40 | ((base & 8) ? 0 : 0x20) | 1));
	b1(b, (uint8_t)(0x78 | (width == 32 ? 4 : 0)));
	b1(b, load ? 0x10 : 0x11);
	modrm_disp(b, reg, base, disp);
}

/* vmovups zmm. */
static void evex_move(struct buf *b, bool load, unsigned reg, unsigned base, uint32_t disp)
{
	b1(b, 0x62);
	b1(b, (uint8_t)(((reg & 8) ? 0 : 0x80) | 0x40 | ((base & 8) ? 0 : 0x20) | ((reg & 16) ? 0 : 0x10) | 1));
	b1(b, 0x7c);
	b1(b, 0x48);
	b1(b, load ? 0x10 : 0x11);
	modrm_disp(b, reg, base, disp);
}

/* kmovq, or kmovw where the host has no AVX512BW. */
static void k_move(struct buf *b, const struct exec_host *h, bool load, unsigned k, unsigned base, uint32_t disp)
{
	b1(b, 0xc4);
	b1(b, (uint8_t)(0xc0 | ((base & 8) ? 0 : 0x20) | 1));
	b1(b, h->avx512bw ? 0xf8 : 0x78);
	b1(b, load ? 0x90 : 0x91);
	modrm_disp(b, k, base, disp);
}

static void mm_move(struct buf *b, bool load, unsigned mm, unsigned base, uint32_t disp)
{
	if (base & 8)
		b1(b, 0x41);
	b1(b, 0x0f);
	b1(b, load ? 0x6f : 0x7f);
	modrm_disp(b, mm, base, disp);
}

/* 0F AE /reg [base+disp]: 2 ldmxcsr, 3 stmxcsr; with REX.W 0 fxsave64, 1 fxrstor64. */
static void group15(struct buf *b, unsigned reg, bool w, unsigned base, uint32_t disp)
{
	if (w || (base & 8))
		b1(b, (uint8_t)(0x40 | (w ? 8 : 0) | (base & 8) >> 3));
	b1(b, 0x0f);
	b1(b, 0xae);
	modrm_disp(b, reg, base, disp);
}

#define S_GPR(n) ((uint32_t)(offsetof(struct x86_state, gpr) + 8u * (n)))
#define S_ZMM(n) ((uint32_t)(offsetof(struct x86_state, fpu) + offsetof(struct x86_fpu, zmm) + 64u * (n)))
#define S_FX ((uint32_t)(offsetof(struct x86_state, fpu) + offsetof(struct x86_fpu, fx)))
#define S_K(n) ((uint32_t)(offsetof(struct x86_state, fpu) + offsetof(struct x86_fpu, k) + 8u * (n)))
#define S_MXCSR ((uint32_t)(offsetof(struct x86_state, fpu) + offsetof(struct x86_fpu, mxcsr)))

void exec_host_probe(struct exec_host *h)
{
	h->avx = __builtin_cpu_supports("avx");
	h->avx512f = __builtin_cpu_supports("avx512f");
	h->avx512bw = __builtin_cpu_supports("avx512bw");
}

static unsigned first_free(uint32_t used, const uint8_t *order, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		if (!(used & BIT(order[k])))
			return order[k];
	return INSN_NOREG;
}

static const uint8_t low_regs[] = { 6, 7, 1, 0, 2, 3 };	/* rsi rdi rcx rax rdx rbx: need no REX */
static const uint8_t state_regs[] = { 8, 9, 10, 11 };

void exec_pick_regs(const struct op_info *o, struct rewrite *r)
{
	uint32_t used = o->gpr_read | o->gpr_write;

	r->mem_reg = (uint8_t)first_free(used, low_regs, ARRAY_LEN(low_regs));
	r->rsp_as = INSN_NOREG;
	if (used & BIT(4))
		r->rsp_as = (uint8_t)first_free(used | BIT(r->mem_reg), low_regs, ARRAY_LEN(low_regs));
}

struct plan {
	const struct exec *x;
	const struct exec_host *h;
	const struct rewrite *r;
	uint32_t saved;		/* callee-saved registers the stub changes */
	unsigned sreg;		/* holds s */
	bool wide;		/* dirties upper halves: VZEROUPPER before leaving */
};

static unsigned host_gpr(const struct plan *p, unsigned n)
{
	return n == 4 ? p->r->rsp_as : n;
}

/* Where MMX register n lies in the image: TOP is 0 while MMX code runs. */
static uint32_t mm_at(unsigned n) { return S_FX + 32 + 16 * n; }

static void vec_load(struct buf *b, const struct plan *p, unsigned n)
{
	const struct op_info *o = &p->x->o;

	if (o->legacy_vec)
		xmm_move(b, true, n, p->sreg, S_ZMM(n));
	else if (n >= 16 || o->vec_width == 64)
		evex_move(b, true, n, p->sreg, S_ZMM(n));
	else
		vex_move(b, true, o->vec_width, n, p->sreg, S_ZMM(n));
}

static void vec_store(struct buf *b, const struct plan *p, unsigned n)
{
	if (p->x->o.legacy_vec)
		xmm_move(b, false, n, p->sreg, S_ZMM(n));
	else if (p->h->avx512f)
		evex_move(b, false, n, p->sreg, S_ZMM(n));
	else
		vex_move(b, false, 32, n, p->sreg, S_ZMM(n));
}

static void emit_loads(struct buf *b, const struct plan *p)
{
	const struct op_info *o = &p->x->o;

	for (unsigned n = 0; n < 32; n++)
		if (o->vec_read & BIT(n))
			vec_load(b, p, n);
	for (unsigned n = 0; n < 8; n++)
		if (o->k_read & BIT(n))
			k_move(b, p->h, true, n, p->sreg, S_K(n));
	for (unsigned n = 0; n < 8; n++)
		if (o->mm_read & BIT(n))
			mm_move(b, true, n, p->sreg, mm_at(n));
	if (p->x->x87 == EXEC_X87_STUB)
		group15(b, 1, true, p->sreg, S_FX);
	if (o->mxcsr)
		group15(b, 2, false, p->sreg, S_MXCSR);
	for (unsigned n = 0; n < 16; n++)
		if (o->gpr_read & BIT(n))
			gpr_move(b, true, host_gpr(p, n), p->sreg, S_GPR(n));
}

/* Back to what the C code around expects of the FPU; also on faults. */
static void emit_host_fpu(struct buf *b, const struct plan *p, unsigned mxcsr_at)
{
	if (p->x->o.mxcsr) {	/* ldmxcsr [rip+disp] */
		STR(b, "\x0f\xae\x15");
		b4(b, mxcsr_at - (b->n + 4));
	}
	if (p->x->o.mm_read)
		STR(b, "\x0f\x77");	/* emms */
	if (p->wide)
		STR(b, "\xc5\xf8\x77");	/* vzeroupper */
}

/* FNINIT costs more than this: clear a pending error, empty the registers, control word. */
static void emit_host_x87(struct buf *b, const struct plan *p, unsigned fcw_at)
{
	b1(b, (uint8_t)(0x40 | (p->sreg & 8) >> 3));	/* test byte [s + fsw], ES */
	b1(b, 0xf6);
	modrm_disp(b, 0, p->sreg, S_FX + 2);
	b1(b, EXEC_FSW_ES);
	STR(b, "\x74\x02\xdb\xe2");	/* jz +2; fnclex */
	STR(b, "\x0f\x77\xd9\x2d");	/* emms; fldcw [rip+disp] */
	b4(b, fcw_at - (b->n + 4));
}

static void emit_stores(struct buf *b, const struct plan *p, unsigned fcw_at)
{
	const struct op_info *o = &p->x->o;

	for (unsigned n = 0; n < 16; n++)
		if (o->gpr_write & BIT(n))
			gpr_move(b, false, host_gpr(p, n), p->sreg, S_GPR(n));
	if (p->x->flags_written)
		STR(b, "\x9c\x58");		/* pushfq; pop rax */
	else
		STR(b, "\x31\xc0");		/* xor eax, eax */
	if (o->mxcsr)
		group15(b, 3, false, p->sreg, S_MXCSR);
	for (unsigned n = 0; n < 32; n++)
		if (o->vec_write & BIT(n))
			vec_store(b, p, n);
	for (unsigned n = 0; n < 8; n++)
		if (o->k_write & BIT(n))
			k_move(b, p->h, false, n, p->sreg, S_K(n));
	for (unsigned n = 0; n < 8; n++)
		if (o->mm_write & BIT(n))
			mm_move(b, false, n, p->sreg, mm_at(n));
	if (p->x->x87 == EXEC_X87_STUB) {
		group15(b, 0, true, p->sreg, S_FX);
		emit_host_x87(b, p, fcw_at);
	}
}

static void emit_leave(struct buf *b, const struct plan *p)
{
	for (unsigned n = 16; n-- > 0;)
		if (p->saved & BIT(n))
			push_pop(b, false, n);
	b1(b, 0xc3);
}

#define CALLEE_SAVED (BIT(3) | BIT(5) | BIT(12) | BIT(13) | BIT(14) | BIT(15))

static void make_plan(struct plan *p)
{
	const struct op_info *o = &p->x->o;
	uint32_t used = o->gpr_read | o->gpr_write;

	p->sreg = first_free(used, state_regs, ARRAY_LEN(state_regs));
	if (p->r->rsp_as != INSN_NOREG)
		used |= BIT(p->r->rsp_as);
	if (p->x->i.has_mem && p->r->mem_reg != INSN_NOREG)
		used |= BIT(p->r->mem_reg);
	p->saved = used & CALLEE_SAVED;
	p->wide = !o->legacy_vec && o->vec_width > 16;
	if (!o->legacy_vec && (o->vec_read >> 16))
		p->wide = true;
}

int exec_emit(struct exec *x, const struct exec_host *h, const struct rewrite *r, uint8_t *at, uintptr_t run_at)
{
	struct plan p = { .x = x, .h = h, .r = r };
	struct buf b = { .p = at };
	unsigned lo, hi, start;

	if ((x->o.vec_width > 32 || (x->o.vec_read >> 16) || x->o.k_read) && !h->avx512f)
		return -EINVAL;
	make_plan(&p);
	if (p.sreg == INSN_NOREG || (x->i.has_mem && r->mem_reg == INSN_NOREG))
		return -EINVAL;
	/* Constants first: MXCSR and x87 control word of C code. */
	b4(&b, 0x1f80);
	b4(&b, 0x037f);
	STR(&b, "\xcc\xcc\xcc\xcc\xcc\xcc\xcc\xcc");
	start = b.n;
	for (unsigned n = 0; n < 16; n++)
		if (p.saved & BIT(n))
			push_pop(&b, true, n);
	if (x->flags_read)
		STR(&b, "\x52\x9d");		/* push rdx; popfq */
	gpr_copy(&b, p.sreg, 7);
	if (x->i.has_mem && r->mem_reg != 6)
		gpr_copy(&b, r->mem_reg, 6);
	lo = b.n;
	emit_loads(&b, &p);
	bn(&b, r->bytes, r->len);
	hi = b.n;
	emit_stores(&b, &p, 4);
	emit_host_fpu(&b, &p, 0);
	emit_leave(&b, &p);
	x->recover = run_at + b.n;
	emit_host_fpu(&b, &p, 0);
	if (x->x87 == EXEC_X87_STUB)
		STR(&b, "\xdb\xe3");		/* fninit */
	emit_leave(&b, &p);
	if (b.over)
		return -EINVAL;
	x->lo = run_at + lo;
	x->hi = run_at + hi;
	x->code = (uint64_t(*)(struct x86_state *, void *, uint64_t))(run_at + start);
	return (int)b.n;
}

_Static_assert(offsetof(struct x86_state, fpu) % 64 == 0 && offsetof(struct x86_fpu, fx) % 16 == 0,
	       "FXSAVE's alignment");
