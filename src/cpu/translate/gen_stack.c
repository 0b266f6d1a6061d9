/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pass three: moves between memory and the stack. */
#include "cpu/translate/gen.h"

/* Both accesses may fault, and nothing has changed by then. */
void gen_push_mem(struct gen *g, const struct gen_insn *gi)
{
	struct gen_insn load = *gi;	/* the group, if there is one, is the slot's */
	bool spilled = gi->group == GEN_NO_GROUP;
	struct xasm *a = &g->a;
	int32_t d;

	load.group = GEN_NO_GROUP;
	gen_flags_clobber(g, gi->need);
	gen_lin(g, &load);
	d = gen_access(g, &load, X86_READ, g->word);
	a_rm(a, g->w, 0x8b, H_R10, H_R10, H_NONE, 0, d);
	a_st(a, H_R10, XO(tmp));
	d = gen_push_access(g, gi);
	if (spilled)
		a_st(a, H_R11, XO(tmp2));
	a_ld(a, H_R11, XO(tmp));
	a_rm(a, g->w, 0x89, H_R11, H_R10, H_NONE, 0, d);
	a_lea(a, g->w, H_R9, H_R9, H_NONE, 0, -(int32_t)g->word);
	if (spilled)
		a_ld(a, H_R11, XO(tmp2));
	gen_stored(g, gi, d, g->word);
}
