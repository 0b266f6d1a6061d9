/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loops of one block: a few rounds one after the other, with the probes for all of
 * them before the first.
 *
 * A round's accesses lie a constant away from those of the round before, so they
 * are of the same groups (gen_group.c).  Before the first round nothing has
 * happened yet: where a probe fails there, for want of a translation or because a
 * group lies in two pages, the block's variant without groups goes through the loop
 * once, does what there is to do about that, and comes back.
 *
 * For short loops over memory, where probes are most of what is done: the inner
 * loop of a matrix product and one with an AES round a turn take half the time.
 */
#include "cpu/translate/gen.h"

#define LONGEST (XL_MAX_INSNS * 7 / 8 / 2)	/* instructions of a loop that is unrolled */
#define ROUNDS 8u

unsigned gen_loop_copies(const struct gen *g)
{
	uint32_t killed = 0;
	bool any = false;

	if (g->n > LONGEST || g->verp2 || g->xe->turn || g->xe->spoil)
		return 0;
	for (unsigned n = 0; n < g->n; n++) {
		const struct gen_insn *gi = &g->insn[n];

		if ((n + 1 < g->n && gi->kind != GI_NOP && gi->kind != GI_COPY && gi->kind != GI_LEA) || gi->x87 || (gi->reads & ~killed))
			return 0;
		any |= gi->kind == GI_COPY && gi->i.has_mem;
		killed |= gi->kill;
	}
	/* Flags must be dead where it begins: the probes are in their way. */
	if (!any || killed != X86_FL_ARITH)
		return 0;
	return MIN(ROUNDS, 2 * LONGEST / g->n);
}

static bool of_memory(const struct insn *i)
{
	for (unsigned k = 0; k < i->n_ops; k++)
		if (i->op[k].kind == INSN_OP_GPR && (i->op[k].reg >= 9 && i->op[k].reg <= 11))
			return true;
	return (i->mem_base >= 9 && i->mem_base <= 11) || (i->mem_index >= 9 && i->mem_index <= 11);
}

/* What of R10 (bit 0) and R11 (bit 1) the instruction needs for itself. */
static unsigned takes(const struct gen *g, const struct gen_insn *gi)
{
	unsigned t = gi->n_temps == 2 ? 3 : gi->n_temps ? 2 : 0;

	if (gi->kind == GI_LEA && (of_memory(&gi->i) || gi->i.mem_base == INSN_RIP))
		return 3;
	if (gi->kind != GI_COPY || !gi->i.has_mem)
		return t;
	if (gi->group == GEN_NO_GROUP || !g->groups[gi->group].hoisted)
		return 3;
	return t | (gi->i.mem_write && !g->guarded ? 2 : 0);
}

void gen_loop_hold(struct gen *g)
{
	unsigned taken = 0, n = 0, k[2] = { GEN_NO_GROUP, GEN_NO_GROUP };

	for (unsigned i = 0; i < g->in_loop; i++)
		taken |= takes(g, &g->insn[i]);
	for (unsigned i = 0; i < g->n_groups; i++) {
		if (!g->groups[i].hoisted)
			continue;
		if (!n++ || g->groups[i].n > g->groups[k[0]].n) {
			k[1] = k[0];
			k[0] = i;
		} else if (k[1] == GEN_NO_GROUP || g->groups[i].n > g->groups[k[1]].n) {
			k[1] = i;
		}
	}
	/* R10 is what the others are reached through. */
	if (!(taken & 2)) {
		g->held[1] = (uint8_t)k[0];
		if (n == 2 && !(taken & 1))
			g->held[0] = (uint8_t)k[1];
	} else if (n == 1 && !(taken & 1)) {
		g->held[0] = (uint8_t)k[0];
	}
}

static void probe(struct gen *g, unsigned group)
{
	unsigned at = gen_probe_group(g, group);

	gen_slow_new(g, SLOW_PLAIN)->at = at;
}

void gen_loop_head(struct gen *g)
{
	for (unsigned n = 0; n < g->in_loop; n++)
		if (g->insn[n].vec)
			gen_use_vectors(g, 0);
	for (unsigned k = 0; k < g->n_groups; k++)
		if (g->groups[k].hoisted && k != g->held[0])
			probe(g, k);
	if (g->held[0] != GEN_NO_GROUP)
		probe(g, g->held[0]);
	if (g->held[1] != GEN_NO_GROUP)
		gen_group_host(g, g->held[1], H_R11);
}

void gen_loop_plain(struct gen *g)
{
	unsigned off = g->insn[0].off;
	struct xl_exit *e;

	if (g->plain_at) {
		a_jmp(&g->a, g->plain_at);
		return;
	}
	g->plain_at = a_here(&g->a);
	e = gen_link(g, 16, off, (int32_t)off);
	e->nogroup = true;
	e->forward = true;	/* pending events have been looked at */
}
