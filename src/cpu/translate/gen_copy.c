/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pass three: instructions the host performs as they are, moves to and from the stack. */
#include "cpu/translate/gen.h"

#include "cpu/x86/rewrite.h"

/* --- pass three: instructions --- */

void gen_fault_here(struct gen *g, const struct gen_insn *gi)
{
	const struct xl_insn *last = g->n_faults ? &g->faults[g->n_faults - 1] : NULL;
	bool host = g->fl == FL_HOST;

	/* The second access of an instruction: what is known of the first is true of it. */
	if (last && last->off == gi->off && last->flags_host == host)
		return;
	if (g->n_faults == g->n) {	/* one each is what the block has room for */
		g->a.over = true;
		return;
	}
	g->faults[g->n_faults++] = (struct xl_insn){ .host = (uint32_t)(g->a.n - g->code0), .off = gi->off & 0xfff,
						     .flags_host = host, .x87_late = g->x87_late, .fop = gi->fop & 0x7ff };
	g->x87_late = false;
}

void gen_use_vectors(struct gen *g, uint32_t live)
{
	struct gen_slow *s;

	if (g->vec_ok)
		return;
	gen_flags_clobber(g, live);
	s = gen_slow_new(g, SLOW_VEC);
	a_cmp_si8(&g->a, true, XO(vec_live), 0);
	s->at = a_jcc_fwd(&g->a, CC_E);
	s->back = a_here(&g->a);
	g->vec_ok = true;
}

static bool same_size(const struct insn *i, const struct insn_op *a, const struct insn_op *b)
{
	/* The library gives some hidden operands of 32-bit code no size; EFLAGS and RFLAGS differ. */
	return a->size == b->size || (i->ssz != 8 && ((a->hidden && !a->size) || a->kind == INSN_OP_OTHER));
}

/* Is what insn_rename made the guest's instruction on the registers and the
 * address meant?  This is the wall between guest and host, so it is not trusted. */
static bool proven(struct gen *g, const struct gen_insn *gi, const struct rewrite *r)
{
	const struct insn *i = &gi->i;
	struct insn n;

	if (insn_decode_memo(&g->x->ic.memo, &n, r->bytes, r->len, 64) < 0 || n.len != r->len || n.mnemonic != i->mnemonic || n.n_ops != i->n_ops ||
	    n.encoding != i->encoding || n.has_mem != i->has_mem || n.lock != i->lock || n.vec_len != i->vec_len)
		return false;
	if (n.has_mem && (n.mem_base != r->mem_reg || n.mem_index != (r->has_index ? r->mem_index : INSN_NOREG) || n.mem_scale ||
			  n.mem_disp != r->mem_disp || n.mem_seg >= X86_FS || n.mem_vsib))
		return false;
	for (unsigned k = 0; k < n.n_ops; k++) {
		const struct insn_op *a = &i->op[k], *b = &n.op[k];
		unsigned reg = a->reg;

		if (a->kind == INSN_OP_GPR && !a->high8 && a->enc != INSN_ENC_NONE && r->field_as[a->enc] != INSN_NOREG)
			reg = r->field_as[a->enc];
		if (b->kind != a->kind || b->reg != reg || b->high8 != a->high8 || !same_size(i, a, b) || b->read != a->read ||
		    b->write != a->write || b->imm != a->imm)
			return false;
		if (b->kind == INSN_OP_GPR && b->reg == H_RSP && !b->high8)
			return false;
	}
	return true;
}

bool gen_copies32(struct gen *g, struct gen_insn *gi)
{
	struct rewrite r = { .mem_reg = gi->i.has_mem ? H_R10 : INSN_NOREG };

	memcpy(r.field_as, gi->as, sizeof(r.field_as));
	for (r.variant = 0; r.variant < REWRITE_VARIANTS32; r.variant++) {
		if (insn_rename(&gi->i, &r) == 0 && proven(g, gi, &r)) {
			gi->variant = r.variant;
			return true;
		}
	}
	return false;
}

void gen_copy(struct gen *g, struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	struct rewrite r = { .mem_reg = INSN_NOREG, .variant = gi->variant };
	bool write = i->has_mem && i->mem_write;
	struct xasm *a = &g->a;
	struct gen_at at;

	if (gi->vec)
		gen_use_vectors(g, gi->need);
	if (gi->x87)
		gen_x87_use(g, gi);
	if (i->has_mem) {
		if (!gen_quiet_access(gi) || gi->x87 == GX_STORES_ENV)
			gen_flags_clobber(g, gi->need);
		if (gi->x87 == GX_NOTED)
			gen_x87_operand(g, gi);
		at = gen_access(g, gi, write ? X86_WRITE : X86_READ, i->mem_size);
		r.mem_reg = at.base;
		r.has_index = at.index != H_NONE;
		r.mem_index = at.index;
		r.mem_disp = at.disp;
	}
	if (gi->reads || (gi->writes && (gi->live_after & ~gi->kill)))
		gen_flags_restore(g);
	for (unsigned n = 0; n < gi->n_temps; n++)
		if (gi->temp[n].load)
			a_ld(a, gi->temp[n].host, XO_GPR(gi->temp[n].guest));
	gen_fault_here(g, gi);
	memcpy(r.field_as, gi->as, sizeof(r.field_as));
	if (gi->x87 == GX_STORES_ENV)
		gen_x87_store_env(g, r.mem_disp);
	else if (g->w && !i->has_mem && !gi->renamed)
		a_bytes(a, i->bytes, i->len);
	else if (insn_rename(i, &r) == 0 && proven(g, gi, &r))
		a_bytes(a, r.bytes, r.len);
	else
		a->over = true;
	for (unsigned n = 0; n < gi->n_temps; n++)
		if (gi->temp[n].store)
			a_st(a, gi->temp[n].host, XO_GPR(gi->temp[n].guest));
	if (gi->writes)
		g->fl = FL_HOST;
	if (gi->x87 == GX_NOTED)
		gen_x87_note(g, gi);
	if (gi->x87 == GX_LOADS_ENV)
		gen_x87_load_env(g, r.mem_disp);
	if (write)
		gen_stored(g, gi, &at, i->mem_size);
}

void gen_lea(struct gen *g, const struct gen_insn *gi)
{
	const struct insn_op *d = &gi->i.op[0];
	bool mem = in_memory(d->reg);
	unsigned to = mem ? H_R10 : host_reg(d->reg);

	gen_ea(g, gi, to);
	if (d->size == 4 && gi->i.asz == 8)	/* never so in 32-bit code */
		a_mov_rr(&g->a, 0, to, to);
	if (mem)
		a_st(&g->a, H_R10, XO_GPR(d->reg));
}

struct gen_at gen_stack_access(struct gen *g, const struct gen_insn *gi, unsigned how)
{
	struct gen_at at;

	if (!gen_quiet_access(gi))
		gen_flags_clobber(g, gi->need);
	at = gen_access(g, gi, how, g->word);
	gen_fault_here(g, gi);
	return at;
}

struct gen_slow *gen_pushed(struct gen *g, const struct gen_insn *gi, struct gen_at *at)
{
	a_lea(&g->a, g->w, H_R9, H_R9, H_NONE, 0, -(int32_t)g->word);
	if (at->base == H_R9)
		at->disp += (int32_t)g->word;
	return gen_stored(g, gi, at, g->word);
}

void gen_push(struct gen *g, const struct gen_insn *gi)
{
	struct gen_at at = gen_stack_access(g, gi, X86_WRITE);
	const struct insn_op *o = &gi->i.op[0];
	struct xasm *a = &g->a;

	if (o->kind == INSN_OP_IMM) {
		gen_at_op(g, g->w, 0xc7, 0, &at);
		a_d(a, (uint32_t)gen_imm(&gi->i));
	} else if (in_memory(o->reg)) {
		a_ld(a, H_R11, XO_GPR(o->reg));
		gen_at_op(g, g->w, 0x89, H_R11, &at);
	} else {
		gen_at_op(g, g->w, 0x89, host_reg(o->reg), &at);
	}
	gen_pushed(g, gi, &at);
}

void gen_pop(struct gen *g, const struct gen_insn *gi)
{
	struct gen_at at = gen_stack_access(g, gi, X86_READ);
	unsigned reg = gi->i.op[0].reg;
	struct xasm *a = &g->a;

	if (in_memory(reg)) {
		gen_at_op(g, g->w, 0x8b, H_R11, &at);
		a_st(a, H_R11, XO_GPR(reg));
	} else {
		gen_at_op(g, g->w, 0x8b, host_reg(reg), &at);
	}
	if (reg != X86_RSP)
		a_lea(a, g->w, H_R9, H_R9, H_NONE, 0, (int32_t)g->word);
}

void gen_leave(struct gen *g, const struct gen_insn *gi)
{
	struct gen_at at = gen_stack_access(g, gi, X86_READ);

	a_lea(&g->a, g->w, H_R9, H_RBP, H_NONE, 0, (int32_t)g->word);
	gen_at_op(g, g->w, 0x8b, H_RBP, &at);
}
