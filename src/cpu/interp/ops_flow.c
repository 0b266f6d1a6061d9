/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Near control transfers, the ends of blocks, and what wraps calls into the
 * system part.  A near target must lie within CS (or be canonical); this is
 * checked before anything is pushed or popped, but a push that would fail is
 * reported first. */
#include <sched.h>

#include "cpu/interp/interp.h"

static const struct uop stack_uop = { .seg = X86_SS };

UOP(op_nop) { return u + 1; }
UOP(op_ud) { x86_ud(c); }
UOP(op_gp_limit) { x86_gp(c, 0); }

/* The block was cut here: imm is where it goes on. */
UOP(op_end)
{
	c->s.rip = blk_rip(c, u->imm);
	return NULL;
}

/*
 * Spin-wait hint: when another vCPU may want this host CPU, let it have it.  Not every time: on a busy
 * host each call may cost a time slice of everybody else, and guests count their PAUSEs to limit a wait.
 */
UOP(op_pause)
{
	if (++c->n_pause % 64 == 0 && c->vcpu.m->n_vcpus > 1)
		sched_yield();
	return u + 1;
}

static inline bool target_ok(const struct x86_cpu *c, uint64_t rip)
{
	return c->mode == X86_MODE_LONG64 ? x86_canonical(c, rip) : rip <= c->s.seg[X86_CS].limit;
}

static inline void check_target(struct x86_cpu *c, uint64_t rip)
{
	if (unlikely(!target_ok(c, rip)))
		x86_gp(c, 0);
}

static inline uint64_t mask_rip(const struct uop *u, uint64_t rip)
{
	return u->osz == 2 ? rip & 0xffff : u->osz == 4 ? rip & 0xffffffffu : rip;
}

/* Target of a direct branch: imm from the next instruction, which is disp from the
 * block's start, cut to the operand size.  In 64-bit mode a non-canonical one faults when it is fetched, as on AMD. */
static inline uint64_t direct_target(struct x86_cpu *c, const struct uop *u)
{
	uint64_t to = c->blk_rip + (uint64_t)((int64_t)u->disp + u->imm);

	if (likely(c->mode == X86_MODE_LONG64))
		return to;
	to = mask_rip(u, to);
	check_target(c, to);
	return to;
}

/* The same with the operand size's cut only, for calls. */
static inline uint64_t call_target(const struct x86_cpu *c, const struct uop *u)
{
	return mask_rip(u, c->blk_rip + (uint64_t)((int64_t)u->disp + u->imm));
}

UOP(op_jmp)
{
	c->s.rip = direct_target(c, u);
	return NULL;
}

#define JCC(cc) \
	static UOP(jcc##cc) \
	{ \
		c->s.rip = cond_true(c->lf, 0x##cc) ? direct_target(c, u) : blk_rip(c, u->disp); \
		return NULL; \
	}
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7)
JCC(8) JCC(9) JCC(a) JCC(b) JCC(c) JCC(d) JCC(e) JCC(f)
const uop_fn interp_jcc[16] = { jcc0, jcc1, jcc2, jcc3, jcc4, jcc5, jcc6, jcc7,
				jcc8, jcc9, jcca, jccb, jccc, jccd, jcce, jccf };

UOP(op_jmp_r)
{
	uint64_t to = mask_rip(u, reg_get(c, u->src, u->osz));

	check_target(c, to);
	c->s.rip = to;
	return NULL;
}

UOP(op_jmp_m)
{
	uint64_t to = ld_n(c, u, uop_lin(c, u, u->osz, X86_READ), u->osz);

	check_target(c, to);
	c->s.rip = to;
	return NULL;
}

static void push_return(struct x86_cpu *c, const struct uop *u)
{
	uint64_t ret = uop_next(c, u);

	if (c->mode == X86_MODE_LONG64) {
		uint64_t sp = c->s.gpr[X86_RSP] - 8;

		st64(c, &stack_uop, sp, ret);
		c->s.gpr[X86_RSP] = sp;
	} else {
		x86_push(c, u->osz, mask_rip(u, ret));
	}
}

/* A call to nowhere: the fault its push would raise, or else #GP. */
static _Noreturn void __attribute__((noinline)) bad_call(struct x86_cpu *c, const struct uop *u)
{
	uint64_t mask = c->stack_size == 8 ? ~0ull : c->stack_size == 4 ? 0xffffffffu : 0xffffu;
	uint64_t lin = x86_seg_lin(c, X86_SS, (c->s.gpr[X86_RSP] - u->osz) & mask, u->osz, X86_WRITE);

	x86_mem_probe(c, lin, u->osz, X86_WRITE, c->acc);
	x86_gp(c, 0);
}

static inline const struct uop *call_to(struct x86_cpu *c, const struct uop *u, uint64_t to)
{
	if (unlikely(!target_ok(c, to)))
		bad_call(c, u);
	push_return(c, u);
	c->s.rip = to;
	return NULL;
}

UOP(op_call64)
{
	push_return(c, u);
	c->s.rip = direct_target(c, u);
	return NULL;
}

UOP(op_call)
{
	return call_to(c, u, call_target(c, u));
}

UOP(op_call_r)
{
	return call_to(c, u, mask_rip(u, reg_get(c, u->src, u->osz)));
}

UOP(op_call_m)
{
	return call_to(c, u, ld_n(c, u, uop_lin(c, u, u->osz, X86_READ), u->osz));
}

UOP(op_ret64)
{
	uint64_t to = ld64(c, &stack_uop, c->s.gpr[X86_RSP]);

	if (unlikely(!x86_canonical(c, to)))
		x86_gp(c, 0);
	c->s.gpr[X86_RSP] += 8 + (uint64_t)u->imm;
	c->s.rip = to;
	return NULL;
}

UOP(op_ret)
{
	uint64_t sp = c->s.gpr[X86_RSP], to = mask_rip(u, x86_pop(c, u->osz)), after = c->s.gpr[X86_RSP];

	c->s.gpr[X86_RSP] = sp;
	check_target(c, to);
	reg_set(c, GPR_OFF(X86_RSP), c->stack_size, after + (uint64_t)u->imm);
	c->s.rip = to;
	return NULL;
}

/* LOOP, LOOPE, LOOPNE: aux 0 plain, 1 while ZF, 2 while not ZF; asz = counter width. */
UOP(op_loop)
{
	uint64_t n = reg_get(c, GPR_OFF(X86_RCX), u->asz) - 1;
	bool zf = c->lf & X86_LF_ZF, go;

	n &= u->asz == 8 ? ~0ull : u->asz == 4 ? 0xffffffffu : 0xffffu;
	go = n && (u->aux == 0 || (u->aux == 1) == zf);
	c->s.rip = go ? direct_target(c, u) : blk_rip(c, u->disp);
	reg_set(c, GPR_OFF(X86_RCX), u->asz, n);
	return NULL;
}

UOP(op_jcxz)
{
	bool go = !reg_get(c, GPR_OFF(X86_RCX), u->asz);

	c->s.rip = go ? direct_target(c, u) : blk_rip(c, u->disp);
	return NULL;
}

UOP(op_bound)
{
	uint64_t lin = uop_lin(c, u, 2u * u->osz, X86_READ);
	int64_t i, lo, hi;

	if (u->osz == 2) {
		i = (int16_t)R16(c, u->dst);
		lo = (int16_t)ld_n(c, u, lin, 2);
		hi = (int16_t)ld_n(c, u, lin + 2, 2);
	} else {
		i = (int32_t)R32(c, u->dst);
		lo = (int32_t)ld_n(c, u, lin, 4);
		hi = (int32_t)ld_n(c, u, lin + 4, 4);
	}
	if (i < lo || i > hi)
		x86_raise(c, X86_EX_BR);
	return u + 1;
}

/* --- calls into the shared x86 code --- */

static void sys_call(struct x86_cpu *c, const struct uop *u)
{
	c->cur_rip = uop_rip(c, u);
	c->next_rip = uop_next(c, u);
	flags_out(c);
	uop_sys(u)(c, u);
	flags_in(c);
}

/* The function may have set s.rip; it is the next instruction beforehand. */
UOP(op_sys_end)
{
	uop_leave(c, u);
	sys_call(c, u);
	c->leave_block = true;
	return NULL;
}

UOP(op_sys_cont)
{
	sys_call(c, u);
	return NEXT_ST(c, u);
}

UOP(op_exec)
{
	c->cur_rip = uop_rip(c, u);
	c->next_rip = uop_next(c, u);
	flags_out(c);
	exec_run(c, uop_exec(c, u), 0);
	flags_in(c);
	return NEXT_ST(c, u);
}

/* Segment checks come after those of CR0 and the like; and of an operand that is accessed in
 * pieces the limit at its end is looked at when the first one could be accessed. */
static void __attribute__((noinline)) exec_segmented(struct x86_cpu *c, const struct uop *u)
{
	enum x86_how how = u->aux ? X86_WRITE : X86_READ;
	unsigned piece = exec_check(c, uop_exec(c, u));

	if (piece)
		x86_mem_probe(c, uop_lin(c, u, piece, how), piece, how, c->acc);
}

UOP(op_exec_mem)
{
	uint64_t lin;

	c->cur_rip = uop_rip(c, u);
	c->next_rip = uop_next(c, u);
	if (unlikely(u->ea >= EA_SEG))
		exec_segmented(c, u);
	lin = uop_lin(c, u, u->osz, u->aux ? X86_WRITE : X86_READ);
	flags_out(c);
	exec_run(c, uop_exec(c, u), lin);
	flags_in(c);
	return NEXT_ST(c, u);
}
