/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87 and MMX instructions: copied, on the guest's registers in the host's x87
 * (x87.c), control word, tags and pending errors included.  FNSAVE, FXSAVE and the
 * like stay interp's.
 *
 * What FXSAVE and FNSTENV tell of the last x87 instruction (FOP, FIP, FDP) is
 * recorded after each: one store of a constant for FOP and the offset in the
 * page, once per block the page's RIP, and the operand's effective address.  It
 * must be right wherever the guest can get control, and that includes the next
 * instruction, which may report an unmasked error of this one; but where the next
 * one can do nothing else, the table of host faults knows it (x87_late).
 */
#include "cpu/translate/gen.h"

#include "cpu/interp/exec_priv.h"

#define M(x) ZYDIS_MNEMONIC_##x

#define XO_FDP (XO(ic.c.s.fpu) + (int32_t)offsetof(struct x86_fpu, fx) + 16)

bool gen_x87_copies(struct gen *g, struct gen_insn *gi, const struct exec *x)
{
	if (!(g->key & XL_KEY_X87))
		return false;
	gi->x87 = x->x87 == EXEC_X87_STUB ? GX_NOTED : GX_USES;
	gi->fop = x->fop;
	return true;
}

bool gen_x87_control(struct gen *g, struct gen_insn *gi)
{
	const struct exec *x;

	switch (gi->i.mnemonic) {
	case M(FLDCW): case M(FNSTCW): case M(FNSTSW): case M(FNCLEX): case M(FWAIT): case M(EMMS): gi->x87 = GX_USES; break;
	case M(FNSTENV): gi->x87 = GX_STORES_ENV; break;
	case M(FLDENV): gi->x87 = GX_LOADS_ENV; break;
	default: return false;
	}
	if (gi->x87 >= GX_STORES_ENV && gi->i.has_66)	/* the short one */
		return false;
	if (!(g->key & XL_KEY_X87) || !(x = exec_get(g->xe->exec, &gi->i)) || !x->features_ok)
		return false;
	gi->i.mem_size = x->mem_size;
	gi->i.mem_read = x->mem_read;
	gi->i.mem_write = x->mem_write;
	return true;
}

void gen_x87_use(struct gen *g, const struct gen_insn *gi)
{
	struct gen_slow *s;

	if (g->x87_ok)
		return;
	gen_flags_clobber(g, gi->need);
	s = gen_slow_new(g, SLOW_X87);
	a_cmp_si8(&g->a, true, XO(ic.c.x87_away), 0);
	s->at = a_jcc_fwd(&g->a, CC_E);
	s->back = a_here(&g->a);
	g->x87_ok = true;
	g->x87_page_ok = false;		/* loading sets x87_page too */
}

/* After a store R10 and R11 are not free to compute its address with. */
static bool address_needs_r10(const struct insn *i)
{
	return i->mem_base == INSN_RIP || (i->mem_base != INSN_NOREG && in_memory(i->mem_base));
}

void gen_x87_operand(struct gen *g, const struct gen_insn *gi)
{
	if (!gi->i.mem_write || !address_needs_r10(&gi->i))
		return;
	gen_ea(g, gi, H_R10);
	a_st(&g->a, H_R10, XO(x87_ea));
}

/* FDP, which the instruction has not changed if it faulted. */
static void note_operand(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;

	if (!gi->i.mem_write) {
		gen_ea(g, gi, H_R10);
		a_st(a, H_R10, XO_FDP);
		return;
	}
	if (address_needs_r10(&gi->i))
		a_ld(a, H_R11, XO(x87_ea));
	else
		gen_ea(g, gi, H_R11);
	a_st(a, H_R11, XO_FDP);
}

/* Can the next instruction leave in no other way than by a host fault, or leave a note itself? */
static bool next_tells(const struct gen *g, const struct gen_insn *gi)
{
	const struct gen_insn *next = gi + 1;

	return next < g->insn + g->n && next->kind == GI_COPY && next->x87 == GX_NOTED &&
	       (!next->i.has_mem || gen_quiet_access(next)) && !gi->i.mem_write;
}

void gen_x87_note(struct gen *g, const struct gen_insn *gi)
{
	bool keep = gi->i.has_mem && gi->i.mem_write && gi->group == GEN_NO_GROUP;
	struct xasm *a = &g->a;

	if (keep)
		a_st(a, H_R11, XO(tmp2));
	if (gi->i.has_mem)
		note_operand(g, gi);
	if (next_tells(g, gi)) {
		g->x87_late = true;
	} else {
		if (!g->x87_page_ok) {
			a_ld(a, H_R11, XO(ic.c.blk_rip));
			a_st(a, H_R11, XO(x87_page));
			g->x87_page_ok = true;
		}
		a_st32_i(a, XO(x87_last), XL_X87_LAST(gi->fop, gi->off));
	}
	if (keep)
		a_ld(a, H_R11, XO(tmp2));
}

/* By way of the vCPU block: what the host stores has its own pointers in it, which
 * another vCPU could see. */
void gen_x87_store_env(struct gen *g, int32_t disp)
{
	struct xasm *a = &g->a;

	/* If the address is none, it faults here: FNSTENV has masked all errors by then. */
	a_rm(a, 0, 0x8b, H_R11, H_R10, H_NONE, 0, disp);
	a_rs(a, 0, 0xd9, 6, XO(x87_env));	/* fnstenv */
	for (int n = 0; n < 3; n++) {
		a_ld32(a, H_R11, XO(x87_env) + 4 * n);
		a_rm(a, 0, 0x89, H_R11, H_R10, H_NONE, 0, disp + 4 * n);
	}
	a_rs(a, 0, 0x0fb7, H_R11, XO(x87_last));	/* movzx: the offset */
	a_rs(a, 0, 0x03, H_R11, XO(x87_page));
	a_rm(a, 0, 0x89, H_R11, H_R10, H_NONE, 0, disp + 12);
	a_ld32(a, H_R11, XO(x87_last));
	a_alu_ri(a, 0, 4, H_R11, 0x7ff0000);
	a_rm(a, 0, 0x89, H_R11, H_R10, H_NONE, 0, disp + 16);
	a_ld32(a, H_R11, XO_FDP);
	a_rm(a, 0, 0x89, H_R11, H_R10, H_NONE, 0, disp + 20);
	a_rm(a, 0, 0xc7, 0, H_R10, H_NONE, 0, disp + 24);
	a_d(a, 0xffff0000u);
}

void gen_x87_load_env(struct gen *g, int32_t disp)
{
	struct xasm *a = &g->a;

	a_rm(a, 0, 0x8b, H_R11, H_R10, H_NONE, 0, disp + 12);
	a_st(a, H_R11, XO(x87_page));
	g->x87_page_ok = false;
	a_st32_i(a, XO(x87_last), 0);
	a_rm(a, 0, 0x0fb7, H_R11, H_R10, H_NONE, 0, disp + 18);
	a_b(a, 0x66);
	a_rs(a, 0, 0x89, H_R11, XO(x87_last) + 2);
	a_rm(a, 0, 0x8b, H_R11, H_R10, H_NONE, 0, disp + 20);
	a_st(a, H_R11, XO_FDP);
}
