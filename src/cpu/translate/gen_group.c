/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pass two: accesses whose addresses differ by constants share a probe. */
#include "cpu/translate/gen.h"

#define M(x) ZYDIS_MNEMONIC_##x

/* --- pass two: groups of accesses --- */

struct access {
	uint8_t base, index, scale;
	bool write;
	int32_t off;
	unsigned len;
};

/* The one access that an instruction makes by itself, without what registers have changed; false: none, or not one
 * for a group. */
static bool access_of(const struct gen *g, const struct gen_insn *gi, struct access *m)
{
	const struct insn *i = &gi->i;

	*m = (struct access){ .base = X86_RSP, .index = INSN_NOREG, .len = g->word };
	switch (gi->kind) {
	case GI_PUSH: case GI_PUSH_MEM: case GI_CALL:
		m->write = true;
		m->off -= (int32_t)g->word;
		return true;
	case GI_POP: case GI_RET:
		return true;
	case GI_COPY: case GI_JMP_IND:
		if (!i->has_mem || gi->x87 >= GX_STORES_ENV || gi->masked || i->asz != g->word || i->mem_seg >= X86_FS || i->mem_base == INSN_NOREG)
			return false;
		m->base = i->mem_base;
		m->index = i->mem_index;
		m->scale = i->mem_scale;
		m->off = (int32_t)i->mem_disp;
		if (m->base == INSN_RIP)
			m->off += gi->off + i->len;
		m->write = gi->kind == GI_COPY && i->mem_write;
		m->len = gi->kind == GI_COPY ? i->mem_size : g->word;
		return m->off > -(1 << 30) && m->off < 1 << 30;
	default:
		return false;
	}
}

static bool writes_reg(const struct gen_insn *gi, unsigned reg)
{
	const struct insn *i = &gi->i;

	if (gi->kind == GI_COUNT && reg == X86_RCX)
		return true;
	if (gi->kind == GI_LEAVE && (reg == X86_RBP || reg == X86_RSP))
		return true;
	for (unsigned k = 0; k < i->n_ops; k++)
		if (i->op[k].kind == INSN_OP_GPR && i->op[k].write && i->op[k].reg == reg)
			return true;
	return false;
}

/* So that a block's worth of them, scaled, is far from overflow. */
static bool small(int64_t by) { return by > -(1 << 20) && by < 1 << 20; }

/* How a register changes; false: not by a constant. */
static bool step_of(const struct gen *g, const struct gen_insn *gi, unsigned reg, int32_t *by)
{
	const struct insn *i = &gi->i;

	*by = 0;
	if (reg == X86_RSP)
		switch (gi->kind) {
		case GI_PUSH: case GI_PUSH_MEM: *by = -(int32_t)g->word; return true;
		case GI_POP: *by = (int32_t)g->word; return i->op[0].reg != X86_RSP;
		case GI_CALLOUT: return false;
		default: break;
		}
	if (!writes_reg(gi, reg))
		return true;
	if (i->op[0].kind != INSN_OP_GPR || i->op[0].reg != reg || i->op[0].high8 || i->op[0].size != g->word)
		return false;
	if (gi->kind == GI_LEA) {
		*by = (int32_t)i->mem_disp;
		return i->mem_base == reg && i->mem_index == INSN_NOREG && i->asz == g->word && small(i->mem_disp);
	}
	if (gi->kind != GI_COPY)
		return false;
	switch (i->mnemonic) {
	case M(ADD): *by = small(gen_imm(i)) ? (int32_t)gen_imm(i) : 0; break;
	case M(SUB): *by = small(gen_imm(i)) ? (int32_t)-gen_imm(i) : 0; break;
	case M(INC): *by = 1; return true;
	case M(DEC): *by = -1; return true;
	default: return false;
	}
	return i->op[1].kind == INSN_OP_IMM && small(gen_imm(i));
}

/* Can one probe serve the access as well?  A write joins reads only on the straight line behind them: the page may
 * never be writable where a branch goes past it. */
static bool joins(const struct gen_group *r, const struct access *m, unsigned branch)
{
	if (r->base != m->base || r->index != m->index || r->scale != m->scale)
		return false;
	if (m->write && !r->write && (r->split || r->begin < branch))
		return false;
	return (int64_t)MAX(r->max, m->off + (int32_t)m->len) - MIN(r->min, m->off) <= GEN_GROUP_SPAN;
}

/* What is known of a register while the block is gone through. */
struct stepped {
	int32_t by;		/* it is what it was at the block's start, and this */
	bool lost;		/* no, but this lies between two places where it is */
};

static int32_t delta_of(const struct stepped *r, const struct access *m)
{
	int32_t d = m->base < 16 ? r[m->base].by : 0;

	return d + (m->index < 16 ? r[m->index].by * (1 << m->scale) : 0);
}

static bool lost(const struct stepped *r, const struct access *m)
{
	return (m->base < 16 && r[m->base].lost) || (m->index < 16 && r[m->index].lost);
}

/* The group that the access is of, in groups[]; GEN_MAX_GROUPS: none. */
static unsigned group_for(struct gen *g, const bool *open, const struct access *m, unsigned n, unsigned branch, bool hoisted)
{
	struct gen_insn *gi = &g->insn[n];
	unsigned k;

	for (k = 0; k < g->n_groups; k++)
		if (open[k] && joins(&g->groups[k], m, branch))
			return k;
	if (k == GEN_MAX_GROUPS)
		return k;
	g->groups[g->n_groups++] = (struct gen_group){ .base = m->base, .index = m->index, .scale = m->scale, .write = m->write,
		.min = m->off, .max = m->off + (int32_t)m->len, .begin = n, .hoisted = hoisted,
		/* (Where a hoisted one's page cannot be written to, the other variant of the block is gone to.) */
		.split = !hoisted && !m->write && (*xl_place(g->xe, g->page->gpa | gi->off) & XL_PLACE_SPLIT) };
	gi->group_first = !hoisted;
	return k;
}

static void join(struct gen *g, struct gen_insn *gi, const struct access *m, unsigned k)
{
	struct gen_group *r = &g->groups[k];

	r->min = MIN(r->min, m->off);
	r->max = MAX(r->max, m->off + (int32_t)m->len);
	r->write |= m->write;
	r->n++;
	gi->group = (uint8_t)k;
	gi->group_off = m->off;
}

/* Whether the group's address is still what it was, but for known constants, behind the instruction. */
static bool stays(const struct gen *g, const struct gen_insn *gi, const struct gen_group *r)
{
	int32_t by;

	if (gi->kind == GI_CALLOUT || (gi->kind == GI_SYS && gen_sys_remaps(gi)))
		return false;
	return (r->base >= 16 || step_of(g, gi, r->base, &by)) && (r->index >= 16 || step_of(g, gi, r->index, &by));
}

void gen_find_groups(struct gen *g)
{
	struct stepped reg[16] = { 0 };
	bool open[GEN_MAX_GROUPS] = { false };
	unsigned branch = 0;	/* instructions up to the last conditional branch */

	g->in_loop = g->live_in ? 0 : g->loop * g->copies;
	for (unsigned n = 0; n < g->n; n++) {
		struct gen_insn *gi = &g->insn[n];
		struct access m;

		if (n && n == g->in_loop)	/* what follows shares no probe with it, which may be made in vain */
			memset(open, 0, sizeof(open));
		if (access_of(g, gi, &m)) {
			unsigned k;

			gi->delta = delta_of(reg, &m);
			m.off += gi->delta;
			k = group_for(g, open, &m, n, branch, n < g->in_loop && !lost(reg, &m));
			if (k < GEN_MAX_GROUPS) {
				open[k] = true;
				join(g, gi, &m, k);
			}
		}
		if (gen_conditional(gi) && !gi->inverted)
			branch = n + 1;
		for (unsigned k = 0; k < g->n_groups; k++)
			open[k] &= stays(g, gi, &g->groups[k]);
		for (unsigned k = 0; k < 16; k++) {
			int32_t by;

			reg[k].lost |= !step_of(g, gi, k, &by) || __builtin_add_overflow(reg[k].by, by, &reg[k].by);
		}
	}
	/* One access is no group. */
	for (unsigned n = 0; n < g->n; n++)
		if (g->insn[n].group != GEN_NO_GROUP && g->groups[g->insn[n].group].n == 1 && !g->groups[g->insn[n].group].hoisted)
			g->insn[n].group = GEN_NO_GROUP;
}
