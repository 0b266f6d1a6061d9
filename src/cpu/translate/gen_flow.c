/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pass three: branches, calls, returns, and the ways out of a block. */
#include "cpu/translate/gen.h"

static int32_t jc_rip(const struct gen *g)
{
	return XO(jc) + (int32_t)(g->acc * sizeof(struct xl_jc) + offsetof(struct xl_jc, rip));
}
static int32_t jc_code(const struct gen *g)
{
	return XO(jc) + (int32_t)(g->acc * sizeof(struct xl_jc) + offsetof(struct xl_jc, code));
}
/* --- pass three: leaving --- */

static struct xl_exit *exit_new(struct gen *g, unsigned off, int32_t target)
{
	struct xl_exit *e = &g->b->exits[g->b->n_exits];

	if (g->b->n_exits == XL_MAX_EXITS - 1)
		g->a.over = true;
	else
		g->b->n_exits++;
	e->from = g->b;
	e->target = target;
	e->acc = (uint8_t)g->acc;
	e->forward = target > (int32_t)off;
	e->nogroup = (g->key & XL_KEY_NOGROUP) && !g->plain;
	return e;
}

struct xl_exit *gen_link(struct gen *g, unsigned cc, unsigned off, int32_t target)
{
	struct gen_slow *s = gen_slow_new(g, SLOW_LINK);
	unsigned opcode = cc == 16 ? 1 : 2;
	struct xasm *a = &g->a;

	/* The displacement must not straddle what one store can change: an aligned word of eight bytes. */
	if ((a_here(a) + opcode) % 8 > 4)
		a_nops(a, 8 - (unsigned)((a_here(a) + opcode) % 8));
	s->at = cc == 16 ? a_jmp_fwd(a) : a_jcc_fwd(a, cc);
	s->exit = exit_new(g, off, target);
	s->exit->patch = (uint32_t)(a->run + s->at - (uintptr_t)g->xe->rx);
	return s->exit;
}

/* R11 = xl_jc_index of R10 */
static void emit_jc_index(struct gen *g)
{
	struct xasm *a = &g->a;

	if (g->xe->host.pext) {
		a_pext_s(a, H_R11, H_R10, XO(jc_bits));
		return;
	}
	a_mov_rr(a, 0, H_R11, H_R10);
	a_shift_ri(a, 0, 5, H_R11, XL_JC_SHIFT);
	a_alu_ri(a, 0, 4, H_R11, XL_JC_SIZE - 1);
}

/* To the RIP in R10; flags are in c->lf or dead. canonical: R10 comes from the
 * guest and must be checked (then the instruction is interp's). */
void gen_indirect(struct gen *g, const struct gen_insn *gi, bool check, int32_t pop)
{
	struct xasm *a = &g->a;
	struct gen_slow *s = gen_slow_new(g, SLOW_INDIRECT);

	emit_jc_index(g);
	a_rsx(a, 1, 0x3b, H_R10, H_R11, jc_rip(g));
	s->at = a_jcc_fwd(a, CC_NE);
	if (pop)
		a_lea(a, g->w, H_R9, H_R9, H_NONE, 0, pop);
	a_rsx(a, 0, 0xff, 4, H_R11, jc_code(g));	/* jmp [...] */
	s->check = check && g->w;	/* any 32-bit target lies within CS */
	s->pop = pop;
	s->off = gi->off;
}

void gen_goto(struct gen *g, const struct gen_insn *gi, int32_t target)
{
	if (gen_in_page(target)) {
		if (g->live_out)
			gen_flags_restore(g);
		gen_link(g, 16, gi->off, target);
		return;
	}
	gen_flags_clobber(g, X86_FL_ARITH);
	gen_rip_at(g, H_R10, target);
	gen_indirect(g, gi, false, 0);
}

/* Pushes the address of the next instruction. If the store hits code, execution goes on at the target. */
static struct gen_slow *emit_push_next(struct gen *g, const struct gen_insn *gi)
{
	struct gen_insn push = *gi;
	struct gen_at at;

	push.kind = GI_CALL;
	at = gen_stack_access(g, &push, X86_WRITE);
	gen_rip_at(g, H_R11, gi->off + gi->i.len);
	gen_at_op(g, g->w, 0x89, H_R11, &at);
	return gen_pushed(g, &push, &at);
}

void gen_call(struct gen *g, const struct gen_insn *gi)
{
	struct gen_slow *s = emit_push_next(g, gi);

	s->elsewhere = true;
	s->rel = gen_target_of(gi);
	gen_goto(g, gi, gen_target_of(gi));
}

/* R10 = the operand of an indirect branch. */
static void emit_target(struct gen *g, const struct gen_insn *gi)
{
	const struct insn_op *o = &gi->i.op[0];

	if (gi->i.has_mem) {
		struct gen_at at = gen_access(g, gi, X86_READ, g->word);

		gen_fault_here(g, gi);
		gen_at_op(g, g->w, 0x8b, H_R10, &at);
	} else if (in_memory(o->reg)) {
		a_ld(&g->a, H_R10, XO_GPR(o->reg));
	} else {
		a_mov_rr(&g->a, g->w, H_R10, host_reg(o->reg));
	}
}

void gen_call_indirect(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;
	struct gen_slow *s;

	gen_flags_clobber(g, gi->need);
	emit_target(g, gi);
	a_st(a, H_R10, XO(tmp));
	if (g->w) {	/* what the jump cache knows is canonical */
		emit_jc_index(g);
		a_rsx(a, 1, 0x3b, H_R10, H_R11, jc_rip(g));
		s = gen_slow_new(g, SLOW_CANONICAL);
		s->at = a_jcc_fwd(a, CC_NE);
		s->back = a_here(a);
		s->off = gi->off;
	}
	emit_push_next(g, gi)->to_tmp = true;
	a_ld(a, H_R10, XO(tmp));
	gen_indirect(g, gi, false, 0);
}

void gen_jmp_indirect(struct gen *g, const struct gen_insn *gi)
{
	gen_flags_clobber(g, gi->need);
	emit_target(g, gi);
	gen_indirect(g, gi, true, 0);
}

void gen_ret(struct gen *g, const struct gen_insn *gi)
{
	int32_t pop = (int32_t)g->word + (gi->i.imm_size ? (uint16_t)gen_imm(&gi->i) : 0);
	struct gen_at at = gen_stack_access(g, gi, X86_READ);

	gen_flags_clobber(g, X86_FL_ARITH);
	gen_at_op(g, g->w, 0x8b, H_R10, &at);
	gen_indirect(g, gi, true, pop);
}

void gen_jcc(struct gen *g, const struct gen_insn *gi)
{
	int32_t to = gen_target_of(gi);
	unsigned cc = (gi->i.opcode & 15) ^ gi->inverted;

	gen_flags_restore(g);
	if (gen_in_page(to)) {
		gen_link(g, cc, gi->off, to);
	} else {
		struct gen_slow *s = gen_slow_new(g, SLOW_FAR_JCC);

		s->at = a_jcc_fwd(&g->a, cc);
		s->rel = to;
		s->save = g->fl == FL_HOST;
		s->off = gi->off;
	}
}

/*
 * LOOP and JRCXZ, which leave flags alone.  What looks at RCX without touching them reaches 127 bytes, so it goes
 * past the branch, or to it.
 */
void gen_count(struct gen *g, const struct gen_insn *gi)
{
	bool loop = gi->i.opcode == 0xe2, whole = gi->i.asz == 8;
	int32_t to = gen_target_of(gi);
	struct xasm *a = &g->a;
	unsigned zero, past = 0;

	gen_flags_restore(g);
	if (loop)
		a_lea(a, whole, X86_RCX, X86_RCX, H_NONE, 0, -1);
	if (!whole)
		a_b(a, 0x67);
	a_bytes(a, "\xe3\x00", 2);	/* jrcxz */
	zero = a->n;
	if (!loop) {
		a_bytes(a, "\xeb\x00", 2);	/* jmp */
		past = a->n;
		a_bind8(a, zero);
	}
	if (gen_in_page(to)) {
		gen_link(g, 16, gi->off, to);
	} else {
		struct gen_slow *s = gen_slow_new(g, SLOW_FAR_JCC);

		s->at = a_jmp_fwd(a);
		s->rel = to;
		s->save = g->fl == FL_HOST;
		s->off = gi->off;
	}
	a_bind8(a, loop ? zero : past);
}

void gen_step(struct gen *g, int32_t off)
{
	gen_rip_at(g, H_R10, off);
	a_st(&g->a, H_R10, XO(ic.c.s.rip));
	a_rs(&g->a, 0, 0xc6, 0, XO(step));
	a_b(&g->a, 1);
	a_jmp(&g->a, g->xe->t.fault_m);
}

void gen_canonical_or_step(struct gen *g, int32_t off)
{
	struct xasm *a = &g->a;
	unsigned ok;

	a_mov_rr(a, 1, H_R11, H_R10);
	a_shift_ri(a, 1, 4, H_R11, 16);
	a_rr(a, 1, 0xc1, 7, H_R11);	/* sar r11, 16 */
	a_b(a, 16);
	a_rr(a, 1, 0x3b, H_R11, H_R10);
	ok = a_jcc_fwd(a, CC_E);
	gen_step(g, off);
	a_bind(a, ok);
}
