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

/* The one access that an instruction makes by itself; false: none, or not one for a group. */
static bool access_of(const struct gen *g, const struct gen_insn *gi, struct access *m)
{
	const struct insn *i = &gi->i;

	*m = (struct access){ .base = X86_RSP, .index = INSN_NOREG, .off = gi->delta, .len = g->word };
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
		if (m->base == X86_RSP)
			m->off += gi->delta;
		if (m->base == INSN_RIP)
			m->off += gi->off + i->len;
		m->write = gi->kind == GI_COPY && i->mem_write;
		m->len = gi->kind == GI_COPY ? i->mem_size : g->word;
		return m->off > -(1 << 30) && m->off < 1 << 30;
	default:
		return false;
	}
}

/* How RSP changes; false: not by a constant. */
static bool rsp_step(const struct gen *g, const struct gen_insn *gi, int32_t *by)
{
	const struct insn *i = &gi->i;

	*by = 0;
	switch (gi->kind) {
	case GI_PUSH: case GI_PUSH_MEM: *by = -(int32_t)g->word; return true;
	case GI_POP: *by = (int32_t)g->word; return i->op[0].reg != X86_RSP;
	case GI_LEAVE: case GI_CALLOUT: return false;
	case GI_LEA:
		if (i->op[0].reg != X86_RSP)
			return true;
		*by = (int32_t)i->mem_disp;
		return i->mem_base == X86_RSP && i->mem_index == INSN_NOREG && i->op[0].size == g->word && i->asz == g->word;
	case GI_COPY:
		for (unsigned k = 0; k < i->n_ops; k++) {
			if (i->op[k].kind != INSN_OP_GPR || i->op[k].reg != X86_RSP || !i->op[k].write || i->op[k].high8)
				continue;
			if (k || i->op[1].kind != INSN_OP_IMM || i->op[0].size != g->word || (i->mnemonic != M(ADD) && i->mnemonic != M(SUB)))
				return false;
			*by = (int32_t)(i->mnemonic == M(ADD) ? gen_imm(i) : -gen_imm(i));
		}
		return true;
	default: return true;
	}
}

static bool writes_reg(const struct gen_insn *gi, unsigned reg)
{
	const struct insn *i = &gi->i;

	if (gi->kind == GI_LEAVE && reg == X86_RBP)
		return true;
	for (unsigned k = 0; k < i->n_ops; k++)
		if (i->op[k].kind == INSN_OP_GPR && i->op[k].write && i->op[k].reg == reg)
			return true;
	return false;
}

/* Can one probe serve the access as well?  A write joins reads only on the straight line behind them: the page may
 * never be writable where a branch goes past it. */
static bool joins(const struct gen_group *r, const struct access *m, unsigned branch)
{
	if (r->base != m->base || r->index != m->index || r->scale != m->scale)
		return false;
	if (m->write && !r->write && (r->split || r->begin < branch))
		return false;
	return MAX(r->max, m->off + (int32_t)m->len) - MIN(r->min, m->off) <= GEN_GROUP_SPAN;
}

void gen_find_groups(struct gen *g)
{
	bool open[GEN_MAX_GROUPS] = { false };
	unsigned branch = 0;	/* instructions up to the last conditional branch */
	int32_t delta = 0, by;

	for (unsigned n = 0; n < g->n; n++) {
		struct gen_insn *gi = &g->insn[n];
		struct access m;
		bool stepped;

		gi->delta = delta;
		if (access_of(g, gi, &m)) {
			unsigned k;

			for (k = 0; k < g->n_groups; k++) {
				struct gen_group *r = &g->groups[k];

				if (open[k] && joins(r, &m, branch))
					break;
			}
			if (k == g->n_groups && k < GEN_MAX_GROUPS) {
				g->groups[g->n_groups++] = (struct gen_group){ .base = m.base, .index = m.index, .scale = m.scale,
					.write = m.write, .min = m.off, .max = m.off + (int32_t)m.len };
				g->groups[k].begin = n;
				g->groups[k].split = !m.write && (*xl_place(g->xe, g->page->gpa | gi->off) & XL_PLACE_SPLIT);
				open[k] = true;
				gi->group_first = true;
			}
			if (k < GEN_MAX_GROUPS) {
				struct gen_group *r = &g->groups[k];

				r->min = MIN(r->min, m.off);
				r->max = MAX(r->max, m.off + (int32_t)m.len);
				r->write |= m.write;
				r->n++;
				gi->group = (uint8_t)k;
				gi->group_off = m.off;
			}
		}
		if (gi->kind == GI_JCC)
			branch = n + 1;
		stepped = rsp_step(g, gi, &by);
		delta += by;
		for (unsigned k = 0; k < g->n_groups; k++) {
			const struct gen_group *r = &g->groups[k];

			if (gi->kind == GI_CALLOUT || (gi->kind == GI_SYS && gen_sys_remaps(gi)) || (r->base == X86_RSP ? !stepped : r->base != INSN_RIP && writes_reg(gi, r->base)) ||
			    (r->index != INSN_NOREG && writes_reg(gi, r->index)))
				open[k] = false;
		}
	}
	/* One access is no group. */
	for (unsigned n = 0; n < g->n; n++)
		if (g->insn[n].group != GEN_NO_GROUP && g->groups[g->insn[n].group].n == 1)
			g->insn[n].group = GEN_NO_GROUP;
}
