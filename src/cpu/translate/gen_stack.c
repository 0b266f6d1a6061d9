/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pass three: moves between memory and the stack. */
#include "cpu/translate/gen.h"

/* Both accesses may fault, and nothing has changed by then. */
void gen_push_mem(struct gen *g, const struct gen_insn *gi)
{
	struct gen_insn load = *gi, push = *gi;	/* the group, if there is one, is the slot's */
	struct xasm *a = &g->a;
	struct gen_at at;

	load.kind = GI_JMP_IND;
	load.group = GEN_NO_GROUP;
	push.kind = GI_PUSH;
	gen_flags_clobber(g, gi->need);
	at = gen_access(g, &load, X86_READ, g->word);
	gen_fault_here(g, gi);
	gen_at_op(g, g->w, 0x8b, H_R10, &at);
	a_st(a, H_R10, XO(tmp));
	at = gen_stack_access(g, &push, X86_WRITE);
	a_ld(a, H_R11, XO(tmp));
	gen_at_op(g, g->w, 0x89, H_R11, &at);
	gen_pushed(g, gi, &at);
}
