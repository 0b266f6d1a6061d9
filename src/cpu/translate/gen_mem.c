/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pass three: from a guest address to a host address, and what follows a store.
 *
 * Each place in the code that accesses memory (each group of accesses, where there
 * is one) has a slot in the vCPU block that holds the page it met last:
 *
 *	lea r10, [address]; sub r10, [slot.page]; cmp r10, 4096 - span; ja miss
 *	add r10, [slot.host]; access [r10]
 *
 * The slot's own address is constant, so the processor has loaded it long before
 * the access's address is known: the check costs three cycles of latency where a
 * TLB lookup by address costs ten.  Further accesses of a group are
 * [base + slot.addend + disp].  A miss refills the slot from the TLB (thunk.c).
 * Places that go from page to page at random (xl_scattered) look into the TLB
 * themselves.
 */
#include "cpu/translate/gen.h"

static int32_t tlb_field(const struct gen *g, size_t field, unsigned how)
{
	return XO(tlb) + (int32_t)(g->acc * sizeof(struct xl_tlb) + field + how * sizeof(uint64_t) * XL_TLB_SIZE);
}

static int32_t slot_at(const struct gen *g, unsigned how, unsigned n, size_t field)
{
	return XO(slots) + (int32_t)(g->acc * sizeof(struct xl_slots) + (how * XL_SLOTS + n) * sizeof(struct xl_slot) + field);
}

#define SLOT(g, how, n, field) slot_at(g, how, n, offsetof(struct xl_slot, field))
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
static int32_t group_disp(const struct gen_group *r, const struct gen_insn *gi, int32_t off)
{
	return r->base == X86_RSP ? off - gi->delta : off;
}

static void emit_group_lin(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_group *r = &g->groups[gi->group];

	emit_ea_of(g, r->base, r->index, r->scale, group_disp(r, gi, r->min), g->word, H_R10);
}

/* --- probes: R10 is a linear address before and a host address after --- */

/* For the check engine's statistics; the host's flags are gone anyway. */
static void count_probe(struct gen *g, unsigned how)
{
	if (unlikely(g->xe->turn != NULL))
		a_rs(&g->a, 1, 0xff, 0, XO(n_probe) + (int32_t)(sizeof(uint64_t) * (2 * g->acc + how)));
}

static struct gen_slow *emit_tlb_probe(struct gen *g, unsigned how, unsigned len)
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
	a_rsx(a, 1, 0x33, H_R10, H_R11, s->tag = tlb_field(g, offsetof(struct xl_tlb, tag), how));
	a_alu_ri(a, 1, 7, H_R10, (int32_t)(PAGE_4K - len));
	s->at = a_jcc_fwd(a, CC_A);
	a_rsx(a, 1, 0x03, H_R10, H_R11, tlb_field(g, offsetof(struct xl_tlb, host), how));
	s->done = a_here(a);
	count_probe(g, how);
	return s;
}

static struct gen_slow *emit_slot_probe(struct gen *g, unsigned how, unsigned len, unsigned slot)
{
	struct gen_slow *s = gen_slow_new(g, SLOW_MISS);
	struct xasm *a = &g->a;

	s->slot = slot;
	s->back = a_here(a);
	a_rs(a, 1, 0x2b, H_R10, s->tag = SLOT(g, how, slot, page));
	a_alu_ri(a, 1, 7, H_R10, (int32_t)(PAGE_4K - len));
	s->at = a_jcc_fwd(a, CC_A);
	a_rs(a, 1, 0x03, H_R10, SLOT(g, how, slot, host));
	s->done = a_here(a);
	count_probe(g, how);
	return s;
}

static unsigned new_slot(struct gen *g, unsigned how)
{
	uint32_t *n = &g->xe->slot_next[g->acc][how];

	*n = *n % (XL_SLOTS - 1) + 1;
	return *n;
}

static bool is_scattered(const struct gen *g, const struct gen_insn *gi)
{
	return *xl_place(g->xe, g->page->gpa | gi->off) & XL_PLACE_SCATTERED;
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
	struct gen_at at = { .base = H_R10, .index = H_NONE };
	struct gen_slow *s;

	emit_lin(g, gi);
	if (is_scattered(g, gi)) {
		s = emit_tlb_probe(g, how, len);
		at.flags = SCRATCH_FLAGS(XL_SCRATCH);
		if (how == X86_WRITE)
			keep_flags(g, at.flags);
	} else {
		unsigned slot = new_slot(g, how);

		s = emit_slot_probe(g, how, len, slot);
		at.flags = SLOT(g, how, slot, flags);
	}
	s->desc = desc_of(gi, how, len);
	s->desc2 = gi->masked ? XL_DESC2_MASKED : 0;
	return at;
}

/* The first access of a group: the probe is for all of them. */
static struct gen_at first(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	struct gen_group *r = &g->groups[gi->group];
	unsigned all = r->write ? X86_WRITE : X86_READ, span = (unsigned)(r->max - r->min);
	struct gen_at at = { .base = H_R10, .index = H_NONE, .disp = gi->group_off - r->min };
	struct gen_slow *s;

	emit_group_lin(g, gi);
	r->scattered = is_scattered(g, gi) && g->n_scratch < XL_SCRATCH;
	if (r->scattered) {
		s = emit_tlb_probe(g, all, span);
		r->slot = g->n_scratch++;
		a_st(&g->a, H_R10, SCRATCH(r->slot));
		at.flags = SCRATCH_FLAGS(r->slot);
		if (r->write)
			keep_flags(g, at.flags);
	} else {
		r->slot = new_slot(g, all);
		s = emit_slot_probe(g, all, span, r->slot);
		at.flags = SLOT(g, all, r->slot, flags);
	}
	s->desc = desc_of(gi, all, span);
	s->desc2 = XL_DESC2(gi->group_off - r->min, len) | (how != all ? XL_DESC2_SOFT : 0);
	return at;
}

static bool writes_base(const struct gen_insn *gi, unsigned base)
{
	for (unsigned k = 0; k < gi->i.n_ops; k++)
		if (gi->i.op[k].kind == INSN_OP_GPR && gi->i.op[k].write && gi->i.op[k].reg == base)
			return true;
	return false;
}

/* A further one: where the group is is known.  Leaves the flags alone. */
static struct gen_at further(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_group *r = &g->groups[gi->group];
	unsigned how = r->write ? X86_WRITE : X86_READ;
	int32_t disp = group_disp(r, gi, gi->group_off);
	struct xasm *a = &g->a;

	if (r->scattered) {
		a_ld(a, H_R10, SCRATCH(r->slot));
		return (struct gen_at){ H_R10, H_NONE, gi->group_off - r->min, SCRATCH_FLAGS(r->slot) };
	}
	/* 32-bit addresses wrap, so they are computed by themselves. */
	if (g->w && r->index == INSN_NOREG && r->base != INSN_RIP && r->base != INSN_NOREG && !in_memory(r->base) &&
	    !writes_base(gi, r->base)) {
		a_ld(a, H_R10, SLOT(g, how, r->slot, addend));
		return (struct gen_at){ (uint8_t)host_reg(r->base), H_R10, disp, SLOT(g, how, r->slot, flags) };
	}
	emit_ea_of(g, r->base, r->index, r->scale, disp, g->word, H_R10);
	a_ld(a, H_R11, SLOT(g, how, r->slot, addend));
	a_lea(a, 1, H_R10, H_R10, H_R11, 0, 0);
	return (struct gen_at){ H_R10, H_NONE, 0, SLOT(g, how, r->slot, flags) };
}

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

void gen_stored(struct gen *g, const struct gen_insn *gi, const struct gen_at *at, unsigned len)
{
	struct xasm *a = &g->a;
	struct gen_slow *s;

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
}
