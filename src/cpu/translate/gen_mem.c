/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pass three: from a guest address to a host address, and what follows a store. */
#include "cpu/translate/gen.h"

static int32_t tlb_at_how(const struct gen *g, unsigned how)
{
	return XO(tlb) + (int32_t)(g->acc * sizeof(struct xl_tlb) + offsetof(struct xl_tlb, tag) + how * sizeof(uint64_t) * XL_TLB_SIZE);
}
static int32_t tlb_host(const struct gen *g, unsigned how)
{
	return XO(tlb) + (int32_t)(g->acc * sizeof(struct xl_tlb) + offsetof(struct xl_tlb, host) + how * sizeof(uint64_t) * XL_TLB_SIZE);
}
static int32_t tlb_flags(const struct gen *g)
{
	return XO(tlb) + (int32_t)(g->acc * sizeof(struct xl_tlb) + offsetof(struct xl_tlb, flags));
}/* --- pass three: memory --- */

void gen_ea(struct gen *g, const struct gen_insn *gi, unsigned dst)
{
	const struct insn *i = &gi->i;
	unsigned base = H_NONE, index = H_NONE;
	int32_t disp = (int32_t)i->mem_disp;
	struct xasm *a = &g->a;

	if (i->mem_base == INSN_RIP) {
		a_ld(a, base = H_R10, XO(ic.c.blk_rip));
		disp += gi->off + i->len;
	} else if (i->mem_base != INSN_NOREG) {
		base = host_reg(i->mem_base);
		if (in_memory(i->mem_base))
			a_ld(a, base = H_R10, XO_GPR(i->mem_base));
	}
	if (i->mem_index != INSN_NOREG) {
		index = host_reg(i->mem_index);
		if (in_memory(i->mem_index))
			a_ld(a, index = H_R11, XO_GPR(i->mem_index));
	}
	if (base != H_NONE && index == H_NONE && !disp && (!g->w || i->asz == 8))
		a_mov_rr(a, g->w, dst, base);
	else
		a_lea(a, i->asz == 8, dst, base, index, i->mem_scale, disp);
}

static int32_t seg_base(const struct gen_insn *gi)
{
	return XO(ic.c.s.seg) + (int32_t)(gi->i.mem_seg * sizeof(struct x86_seg) + offsetof(struct x86_seg, base));
}

/* R10 = FS or GS base + R10 in 32-bit code, bit 63 set (so that the probe misses)
 * where the offset wraps within the operand or the segment is an odd one. */
static void based32(struct gen *g, const struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	unsigned last = (gi->kind == GI_COPY ? i->mem_size : g->word) - 1;
	bool fixed = i->mem_base == INSN_NOREG && i->mem_index == INSN_NOREG;
	int32_t odd = XO(ic.c.seg_odd) + 8 * (int)(i->mem_seg - X86_FS);
	struct xasm *a = &g->a;

	if (fixed && (uint32_t)i->mem_disp <= UINT32_MAX - last) {
		a_rs(a, 0, 0x03, H_R10, seg_base(gi));
		a_rs(a, 1, 0x0b, H_R10, odd);
		return;
	}
	a_lea(a, 1, H_R11, H_R10, H_NONE, 0, (int32_t)last);
	a_shift_ri(a, 1, 5, H_R11, 32);
	a_shift_ri(a, 1, 4, H_R11, 63);
	a_rs(a, 1, 0x0b, H_R11, odd);
	a_rs(a, 0, 0x03, H_R10, seg_base(gi));
	a_rr(a, 1, 0x0b, H_R10, H_R11);
}

void gen_lin(struct gen *g, const struct gen_insn *gi)
{
	gen_ea(g, gi, H_R10);
	if (gi->i.mem_seg < X86_FS)
		return;
	if (!g->w) {
		based32(g, gi);
		return;
	}
	a_ld(&g->a, H_R11, seg_base(gi));
	a_lea(&g->a, 1, H_R10, H_R10, H_R11, 0, 0);
}

void gen_probe(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	struct gen_slow *s = gen_slow_new(g, SLOW_MISS);
	struct xasm *a = &g->a;

	s->back = a_here(a);
	if (g->xe->host.bmi2) {
		a_bytes(a, "\xc4\x43\xfb\xf0\xda\x0c", 6);	/* rorx r11, r10, 12 */
	} else {
		a_mov_rr(a, 1, H_R11, H_R10);
		a_shift_ri(a, 1, 5, H_R11, 12);
	}
	a_alu_ri(a, 0, 4, H_R11, XL_TLB_SIZE - 1);
	a_rsx(a, 1, 0x33, H_R10, H_R11, tlb_at_how(g, how));
	a_alu_ri(a, 1, 7, H_R10, (int32_t)(PAGE_4K - len));
	s->at = a_jcc_fwd(a, CC_A);
	a_rsx(a, 1, 0x03, H_R10, H_R11, tlb_host(g, how));
	s->done = a_here(a);
	if (unlikely(g->xe->turn != NULL))	/* the host's flags are gone anyway */
		a_rs(a, 1, 0xff, 0, XO(n_probe) + (int32_t)(sizeof(uint64_t) * (2 * g->acc + how)));
	s->desc = XL_DESC(gi->off, how, len) | (gi->aligned ? XL_DESC_ALIGNED : 0);
	s->tag = tlb_at_how(g, how);
}

void gen_group_lin(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_group *r = &g->groups[gi->group];
	struct gen_insn low = *gi;

	low.i.mem_base = r->base;
	low.i.mem_index = r->index;
	low.i.mem_scale = r->scale;
	low.i.mem_disp = r->min;
	low.i.asz = (uint8_t)g->word;
	if (r->base == X86_RSP)
		low.i.mem_disp -= gi->delta;
	if (r->base == INSN_RIP)
		low.i.mem_disp -= gi->off + gi->i.len;
	gen_ea(g, &low, H_R10);
}

int32_t gen_access(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	const struct gen_group *r = &g->groups[gi->group];
	struct xasm *a = &g->a;
	struct gen_slow *s;

	if (gi->group == GEN_NO_GROUP) {
		gen_probe(g, gi, how, len);
		return 0;
	}
	if (!gi->group_first) {
		a_ld(a, H_R10, XO(slot) + 8 * r->slot);
		return gi->group_off;
	}
	s = &g->slow[g->n_slow];
	gen_probe(g, gi, how, (unsigned)(r->max - r->min));
	s->desc2 = XL_DESC2(gi->group_off, len);
	a_st(a, H_R10, XO(slot) + 8 * r->slot);
	if (how == X86_WRITE) {
		a_rsx(a, 1, 0x8b, H_R11, H_R11, tlb_flags(g));
		a_st(a, H_R11, XO(slot_flags) + 8 * r->slot);
	}
	return gi->group_off;
}

/* R11 = the flags of the page that was stored to. */
static void emit_page_flags(struct gen *g, const struct gen_insn *gi)
{
	if (gi->group == GEN_NO_GROUP)
		a_rsx(&g->a, 1, 0x8b, H_R11, H_R11, tlb_flags(g));
	else
		a_ld(&g->a, H_R11, XO(slot_flags) + 8 * g->groups[gi->group].slot);
}

/* After a store through R10 + disp (without a group, R11: TLB entry): does the page hold code? */
void gen_stored(struct gen *g, const struct gen_insn *gi, int32_t disp, unsigned len)
{
	struct xasm *a = &g->a;
	struct gen_slow *s;

	if (g->fl == FL_HOST && gi->live_after) {
		unsigned skip;

		if (gi->group == GEN_NO_GROUP)
			a_st(a, H_R11, XO(tmp2));
		emit_page_flags(g, gi);
		s = gen_slow_new(g, SLOW_STORED_H);
		a_rm(a, 0, 0x0fb6, H_R11, H_R11, H_NONE, 0, 0);
		a_rr(a, 1, 0x87, H_RCX, H_R11);
		a_bytes(a, "\xe3\x00", 2);		/* jrcxz over the next two */
		skip = a->n;
		a_rr(a, 1, 0x87, H_RCX, H_R11);
		s->at = a_jmp_fwd(a);
		if (!a->over)
			a->p[skip - 1] = (uint8_t)(a->n - skip);
		a_rr(a, 1, 0x87, H_RCX, H_R11);
	} else {
		gen_flags_clobber(g, 0);
		emit_page_flags(g, gi);
		s = gen_slow_new(g, SLOW_STORED_M);
		a_rm(a, 0, 0xf6, 0, H_R11, H_NONE, 0, 0);
		a_b(a, MEM_PG_CODE);
		s->at = a_jcc_fwd(a, CC_NE);
	}
	s->back = a_here(a);
	s->desc = XL_DESC(gi->off + gi->i.len, X86_WRITE, len);
	s->idx = tlb_flags(g);
	s->slot = gi->group == GEN_NO_GROUP ? -1 : g->groups[gi->group].slot;
	s->disp = disp;
}
