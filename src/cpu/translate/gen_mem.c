/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pass three: from a guest address to a host address, and what follows a store.
 *
 *	lea r10, [address]; pext r11, r10, [page number's bits]
 *	xor r10, [tag + r11 * 8]; cmp r10, 4096 - length; ja miss
 *	add r10, [host + r11 * 8]; access [r10]
 *
 * The tag is the page's address, so what the XOR leaves is the offset within it,
 * or more. Tags and host addresses are apart: programs use neighbouring pages, and
 * a cache line has those of eight. (A memory of its own for each place in the
 * code, which costs fewer cycles of latency, was tried: large programs have more
 * places than any cache holds, and gcc took twice as long.)
 *
 * With one vCPU nothing follows a store: a page that holds code has no entry that
 * allows writing, so the store misses, is made by a copy of itself out of line,
 * and what it hit is looked at there. With more, another vCPU may begin to
 * translate from the page between probe and store, so the look comes behind it.
 */
#include "cpu/translate/gen.h"

static int32_t tlb_field(const struct gen *g, size_t field, unsigned how)
{
	return XO(tlb) + (int32_t)(g->acc * sizeof(struct xl_tlb) + field + how * sizeof(uint64_t) * XL_TLB_SIZE);
}

#define SCRATCH(n) (XO(scratch) + 8 * (int32_t)(n))
#define SCRATCH_FLAGS(n) (XO(scratch_flags) + 8 * (int32_t)(n))

/* --- addresses --- */

static void emit_ea_of(struct gen *g, unsigned mem_base, unsigned mem_index, unsigned scale, int32_t disp, unsigned asz, unsigned dst)
{
	unsigned base = H_NONE, index = H_NONE;
	struct xasm *a = &g->a;

	if (mem_base == INSN_RIP) {
		a_ld(a, base = H_R10, XO(ic.c.blk_rip));
	} else if (mem_base != INSN_NOREG) {
		base = host_reg(mem_base);
		if (in_memory(mem_base))
			a_ld(a, base = H_R10, XO_GPR(mem_base));
	}
	if (mem_index != INSN_NOREG) {
		index = host_reg(mem_index);
		if (in_memory(mem_index))
			a_ld(a, index = H_R11, XO_GPR(mem_index));
	}
	if (base != H_NONE && index == H_NONE && !disp && (!g->w || asz == 8))
		a_mov_rr(a, g->w, dst, base);
	else
		a_lea(a, asz == 8, dst, base, index, scale, disp);
}

void gen_ea(struct gen *g, const struct gen_insn *gi, unsigned dst)
{
	const struct insn *i = &gi->i;
	int32_t disp = (int32_t)i->mem_disp;

	if (i->mem_base == INSN_RIP)
		disp += gi->off + i->len;
	emit_ea_of(g, i->mem_base, i->mem_index, i->mem_scale, disp, i->asz, dst);
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

/* R10 = linear address of what the instruction accesses. */
static void emit_lin(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;

	switch (gi->kind) {
	case GI_PUSH: case GI_CALL:
		a_lea(a, g->w, H_R10, H_R9, H_NONE, 0, -(int32_t)g->word);
		return;
	case GI_POP: case GI_RET:
		a_mov_rr(a, g->w, H_R10, H_R9);
		return;
	case GI_LEAVE:
		a_mov_rr(a, g->w, H_R10, H_RBP);
		return;
	default:
		gen_ea(g, gi, H_R10);
	}
	if (gi->i.mem_seg < X86_FS)
		return;
	if (!g->w) {
		based32(g, gi);
		return;
	}
	a_ld(a, H_R11, seg_base(gi));
	a_lea(a, 1, H_R10, H_R10, H_R11, 0, 0);
}

/* The base's displacement that makes [base + index] the group's address with displacement `off`. */
static int32_t group_disp(const struct gen_insn *gi, int32_t off)
{
	return off - gi->delta;
}

static void emit_group_lin(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_group *r = &g->groups[gi->group];

	emit_ea_of(g, r->base, r->index, r->scale, group_disp(gi, r->min), g->word, H_R10);
}

/* --- probes: R10 is a linear address before and a host address after --- */

/* For the check engine's statistics; the host's flags are gone anyway. */
static void count_probe(struct gen *g, unsigned how)
{
	if (unlikely(g->xe->turn != NULL))
		a_rs(&g->a, 1, 0xff, 0, XO(n_probe) + (int32_t)(sizeof(uint64_t) * (2 * g->acc + how)));
}

/* R11 = index of the page of R10. */
static void emit_tlb_index(struct gen *g)
{
	struct xasm *a = &g->a;

	if (g->xe->host.pext) {
		a_pext_s(a, H_R11, H_R10, XO(tlb_bits));
		return;
	}
	a_mov_rr(a, 1, H_R11, H_R10);
	a_shift_ri(a, 1, 5, H_R11, 12);
	a_alu_ri(a, 0, 4, H_R11, XL_TLB_SIZE - 1);
}

static struct gen_slow *emit_probe(struct gen *g, unsigned how, unsigned len)
{
	struct gen_slow *s = gen_slow_new(g, SLOW_MISS);
	struct xasm *a = &g->a;

	s->back = a_here(a);
	emit_tlb_index(g);
	a_rsx(a, 1, 0x33, H_R10, H_R11, s->tag = tlb_field(g, offsetof(struct xl_tlb, tag), how));
	a_alu_ri(a, 1, 7, H_R10, (int32_t)(PAGE_4K - len));
	s->at = a_jcc_fwd(a, CC_A);
	a_rsx(a, 1, 0x03, H_R10, H_R11, tlb_field(g, offsetof(struct xl_tlb, host), how));
	s->done = a_here(a);
	count_probe(g, how);
	return s;
}

/* R11 = TLB index -> the pointer to the page's flags, kept. */
static void keep_flags(struct gen *g, int32_t at)
{
	a_rsx(&g->a, 1, 0x8b, H_R11, H_R11, tlb_field(g, offsetof(struct xl_tlb, flags), 0));
	a_st(&g->a, H_R11, at);
}

static uint32_t desc_of(const struct gen_insn *gi, unsigned how, unsigned len)
{
	return XL_DESC(gi->off, how, len) | (gi->aligned ? XL_DESC_ALIGNED : 0);
}

/* An access by itself. */
static struct gen_at single(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	struct gen_at at = { .base = H_R10, .index = H_NONE, .flags = SCRATCH_FLAGS(XL_SCRATCH) };
	struct gen_slow *s;

	emit_lin(g, gi);
	s = emit_probe(g, how, len);
	if (how == X86_WRITE && !g->guarded)
		keep_flags(g, at.flags);
	s->desc = desc_of(gi, how, len);
	s->desc2 = gi->masked || gi->x87 >= GX_STORES_ENV ? XL_DESC2_PARTS : 0;
	if (how == X86_WRITE)
		g->probe = s;
	return at;
}

/* The first access of a group: the probe is for all of them. */
static struct gen_at first(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	const struct gen_group *r = &g->groups[gi->group];
	unsigned all = r->write ? X86_WRITE : X86_READ, span = (unsigned)(r->max - r->min);
	struct gen_at at = { .base = H_R10, .index = H_NONE, .disp = gi->group_off - r->min, .flags = SCRATCH_FLAGS(gi->group) };
	struct gen_slow *s;

	emit_group_lin(g, gi);
	s = emit_probe(g, all, span);
	a_st(&g->a, H_R10, SCRATCH(gi->group));
	if (r->write && !g->guarded)
		keep_flags(g, at.flags);
	s->desc = desc_of(gi, all, span);
	s->desc2 = XL_DESC2(gi->group_off - r->min, len) | (how != all ? XL_DESC2_SOFT : 0);
	return at;
}

/* A further one: where the group is is known.  Leaves the flags alone. */
static struct gen_at further(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_group *r = &g->groups[gi->group];

	unsigned base = g->held[1] == gi->group ? H_R11 : H_R10;

	if (g->held[0] != gi->group && g->held[1] != gi->group)
		a_ld(&g->a, H_R10, SCRATCH(gi->group));
	return (struct gen_at){ (uint8_t)base, H_NONE, gi->group_off - r->min, SCRATCH_FLAGS(gi->group) };
}

unsigned gen_probe_group(struct gen *g, unsigned group)
{
	const struct gen_group *r = &g->groups[group];
	unsigned how = r->write ? X86_WRITE : X86_READ, at;
	struct xasm *a = &g->a;

	emit_ea_of(g, r->base, r->index, r->scale, r->min, g->word, H_R10);
	emit_tlb_index(g);
	a_rsx(a, 1, 0x33, H_R10, H_R11, tlb_field(g, offsetof(struct xl_tlb, tag), how));
	a_alu_ri(a, 1, 7, H_R10, (int32_t)PAGE_4K - (r->max - r->min));
	at = a_jcc_fwd(a, CC_A);
	a_rsx(a, 1, 0x03, H_R10, H_R11, tlb_field(g, offsetof(struct xl_tlb, host), how));
	if (group != g->held[0])
		a_st(a, H_R10, SCRATCH(group));
	if (r->write && !g->guarded)
		keep_flags(g, SCRATCH_FLAGS(group));
	count_probe(g, how);
	return at;
}

void gen_group_host(struct gen *g, unsigned group, unsigned reg) { a_ld(&g->a, reg, SCRATCH(group)); }

struct gen_at gen_access(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	if (gi->group == GEN_NO_GROUP)
		return single(g, gi, how, len);
	return gi->group_first ? first(g, gi, how, len) : further(g, gi);
}

void gen_at_op(struct gen *g, unsigned w, unsigned op, unsigned reg, const struct gen_at *at)
{
	a_rm(&g->a, w, op, reg, at->base, at->index, 0, at->disp);
}

/* What may fault for its data's sake: interp's, where a copy of the store would do it out of line. */
static bool may_fault(const struct gen_insn *gi)
{
	return gi->x87 || (gi->vec && gi->i.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH);
}

/* One of a group: if the page held code, this would be the block without groups. */
static struct gen_slow *stored_guarded(struct gen *g, const struct gen_insn *gi, unsigned len)
{
	struct gen_slow *s = g->probe;

	if (gi->group != GEN_NO_GROUP)
		return &g->slow[GEN_MAX_SLOW - 1];
	if (may_fault(gi)) {
		s->desc2 |= XL_DESC2_PAGE;
		return s;
	}
	s->after = a_here(&g->a);
	s->desc_after = XL_DESC(gi->off + gi->i.len, X86_WRITE, len);
	s->flags_after = gi->live_after && (g->fl == FL_HOST || g->fl == FL_BOTH);
	return s;
}

struct gen_slow *gen_stored(struct gen *g, const struct gen_insn *gi, const struct gen_at *at, unsigned len)
{
	struct xasm *a = &g->a;
	struct gen_slow *s;

	if (g->guarded)
		return stored_guarded(g, gi, len);
	if (g->fl == FL_HOST && gi->live_after) {
		s = gen_slow_new(g, SLOW_STORED_H);
		a_ld(a, H_R11, at->flags);
		a_rm(a, 0, 0x0fb6, H_R11, H_R11, H_NONE, 0, 0);
		s->at = gen_if_r11(g);
	} else {
		gen_flags_clobber(g, 0);
		s = gen_slow_new(g, SLOW_STORED_M);
		a_ld(a, H_R11, at->flags);
		a_rm(a, 0, 0xf6, 0, H_R11, H_NONE, 0, 0);
		a_b(a, MEM_PG_CODE);
		s->at = a_jcc_fwd(a, CC_NE);
	}
	s->back = a_here(a);
	s->desc = XL_DESC(gi->off + gi->i.len, X86_WRITE, len);
	s->to = *at;
	return s;
}
