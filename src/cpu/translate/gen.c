/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From guest instructions to host code: one block.
 *
 * Pass one decodes and classifies up to XL_MAX_INSNS instructions within the
 * page, over the not-taken side of conditional branches.  Pass two goes
 * backwards and finds which arithmetic flags are live where.  Pass three emits.
 *
 * Most instructions are copied, with registers renamed where the host register
 * of that number is taken, and their memory operand replaced by [R10], where the
 * TLB probe leaves the host address.  The probe changes the host's flags: if the
 * guest's are live there they are saved in c->lf first, and come back when an
 * instruction wants them.  Dead flags are not kept: an exception frame may show
 * other values in flags that the program is about to overwrite (docs/QUIRKS.md).
 */
#include "cpu/translate/gen.h"

#include "cpu/interp/exec_priv.h"

#define M(x) ZYDIS_MNEMONIC_##x

/* --- where guest registers are --- */

static bool in_memory(unsigned g) { return g >= 9 && g <= 11; }
static unsigned host_reg(unsigned g) { return g == X86_RSP ? H_R9 : g; }

/* --- pass one --- */

static int64_t imm_of(const struct insn *i)
{
	switch (i->imm_size) {
	case 1: return (int8_t)i->bytes[i->imm_off];
	case 2: return (int16_t)ld_le16(i->bytes + i->imm_off);
	case 4: return (int32_t)ld_le32(i->bytes + i->imm_off);
	default: return 0;
	}
}

/* Integer instructions that the host performs as they are. */
static bool copies_well(const struct insn *i)
{
	if (i->encoding != INSN_LEGACY)
		return false;
	switch (i->mnemonic) {
	case M(ADD): case M(OR): case M(ADC): case M(SBB): case M(AND): case M(SUB): case M(XOR): case M(CMP): case M(TEST):
	case M(MOV): case M(MOVZX): case M(MOVSX): case M(MOVSXD): case M(INC): case M(DEC): case M(NEG): case M(NOT):
	case M(ROL): case M(ROR): case M(RCL): case M(RCR): case M(SHL): case M(SHR): case M(SAR): case M(SHLD): case M(SHRD):
	case M(IMUL): case M(MUL): case M(DIV): case M(IDIV): case M(BSF): case M(BSR): case M(BSWAP):
	case M(CBW): case M(CWDE): case M(CDQE): case M(CWD): case M(CDQ): case M(CQO):
	case M(XCHG): case M(XADD): case M(CMPXCHG): case M(CMPXCHG8B): case M(CMPXCHG16B):
	case M(CMC): case M(CLC): case M(STC): case M(LAHF): case M(SAHF):
		return true;
	case M(BT): case M(BTS): case M(BTR): case M(BTC):
		return !i->has_mem || i->op[1].kind == INSN_OP_IMM;	/* a register reaches beyond the operand */
	default:
		return i->map == 1 && ((i->opcode & 0xf0) == 0x90 || (i->opcode & 0xf0) == 0x40) &&
		       i->op[0].kind != INSN_OP_K;		/* SETcc, CMOVcc */
	}
}

/* Vector and bit-manipulation instructions: those with an exec stub whose
 * conditions hold for this block's key. */
static bool stub_copies(struct gen *g, struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	const struct exec *x;

	if (!exec_handles(i) || !(x = exec_get(g->xe->exec, i)) || !x->code || !x->features_ok || x->x87 != EXEC_X87_NONE)
		return false;
	if (i->has_mem ? x->run != exec_run_mem || x->o.mask != OP_MASK_NONE || !x->mem_size : !exec_is_plain_reg(x))
		return false;
	gi->aligned = x->align;
	gi->i.mem_size = x->mem_size;
	gi->i.mem_read = x->mem_read;
	gi->i.mem_write = x->mem_write;
	switch (x->o.state) {
	case OP_STATE_INT: return true;
	case OP_STATE_SSE: gi->vec = true; return g->key & XL_KEY_SSE;
	case OP_STATE_AVX: gi->vec = true; return g->key & XL_KEY_AVX;
	case OP_STATE_AVX512: gi->vec = true; return g->key & XL_KEY_AVX512;
	default: return false;
	}
}

/* Writes all of its destination whatever happens. */
static bool plain_move(const struct insn *i)
{
	return i->mnemonic == M(MOV) || i->mnemonic == M(MOVZX) || i->mnemonic == M(MOVSX) || i->mnemonic == M(MOVSXD);
}

/* Can its registers be renamed with the scratch registers there are? */
static bool plan_registers(struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	unsigned spare = i->has_mem ? 1 : 2;

	memset(gi->as, INSN_NOREG, sizeof(gi->as));
	for (unsigned k = 0; k < i->n_ops; k++) {
		const struct insn_op *o = &i->op[k];
		unsigned as;

		if (o->kind == INSN_OP_SEG || o->kind == INSN_OP_CR || o->kind == INSN_OP_DR || o->kind == INSN_OP_MEM_IMPL ||
		    o->kind == INSN_OP_X87 || o->kind == INSN_OP_MMX)
			return false;
		if (o->kind != INSN_OP_GPR)
			continue;
		if (o->high8) {
			if (i->has_mem)
				return false;
			gi->high8 = true;
			continue;
		}
		if (o->reg == X86_RSP) {
			as = H_R9;
		} else if (in_memory(o->reg)) {
			unsigned n;

			for (n = 0; n < gi->n_temps && gi->temp[n].guest != o->reg; n++)
				;
			if (n == gi->n_temps) {
				if (n == spare)
					return false;
				gi->temp[n].guest = o->reg;
				gi->temp[n].host = n ? H_R10 : H_R11;
				gi->n_temps++;
			}
			gi->temp[n].load |= o->read || o->size < 4 || !plain_move(i);
			gi->temp[n].store |= o->write;
			as = gi->temp[n].host;
		} else {
			continue;
		}
		if (o->enc == INSN_ENC_NONE)
			return false;
		gi->as[o->enc] = (uint8_t)as;
		gi->renamed = true;
	}
	return !(gi->high8 && gi->renamed) && !(i->has_mem && (i->mem_vsib || !i->has_modrm));
}

static bool is_nop(const struct insn *i)
{
	if (i->encoding != INSN_LEGACY)
		return false;
	switch (i->mnemonic) {
	case M(NOP): case M(ENDBR64): case M(ENDBR32): case M(PREFETCH): case M(PREFETCHNTA): case M(PREFETCHT0):
	case M(PREFETCHT1): case M(PREFETCHT2): case M(PREFETCHW): return true;
	default: return false;
	}
}

static uint8_t control_kind(const struct insn *i)
{
	bool rel = i->op[0].kind == INSN_OP_REL, far = i->op[0].kind == INSN_OP_PTR;

	if (i->encoding != INSN_LEGACY || far || i->osz == 2)
		return GI_CALLOUT;
	switch (i->mnemonic) {
	case M(JMP):
		if (!rel && i->map == 0 && i->opcode == 0xff && i->reg == 4)
			return GI_JMP_IND;
		return rel ? GI_JMP : GI_CALLOUT;
	case M(CALL):
		if (!rel && i->map == 0 && i->opcode == 0xff && i->reg == 2)
			return GI_CALL_IND;
		return rel ? GI_CALL : GI_CALLOUT;
	case M(RET): return i->opcode == 0xc3 || i->opcode == 0xc2 ? GI_RET : GI_CALLOUT;
	default: break;
	}
	if ((i->map == 0 && (i->opcode & 0xf0) == 0x70) || (i->map == 1 && (i->opcode & 0xf0) == 0x80))
		return GI_JCC;
	return GI_CALLOUT;
}

static uint8_t stack_kind(const struct insn *i)
{
	if (i->encoding != INSN_LEGACY || i->osz != 8)
		return GI_CALLOUT;
	if (i->mnemonic == M(PUSH) && (i->op[0].kind == INSN_OP_GPR || i->op[0].kind == INSN_OP_IMM))
		return GI_PUSH;
	if (i->mnemonic == M(POP) && i->op[0].kind == INSN_OP_GPR)
		return GI_POP;
	return i->mnemonic == M(LEAVE) ? GI_LEAVE : GI_CALLOUT;
}

static bool disp_fits(const struct gen_insn *gi)
{
	int64_t d = gi->i.mem_disp + (gi->i.mem_base == INSN_RIP ? gi->off + gi->i.len : 0);

	return d == (int32_t)d && !gi->i.mem_vsib;
}

static void classify(struct gen *g, struct gen_insn *gi)
{
	const struct insn *i = &gi->i;

	gi->kind = GI_CALLOUT;
	if (i->has_mem && !disp_fits(gi))
		return;
	if (is_nop(i)) {
		gi->kind = GI_NOP;
	} else if (i->mnemonic == M(LEA) && i->encoding == INSN_LEGACY) {
		gi->kind = i->op[0].size >= 4 ? GI_LEA : GI_CALLOUT;
	} else if ((gi->kind = stack_kind(i)) != GI_CALLOUT || (gi->kind = control_kind(i)) != GI_CALLOUT) {
		;
	} else if ((copies_well(i) || stub_copies(g, gi)) && plan_registers(gi) && (!i->has_mem || i->mem_size)) {
		gi->kind = GI_COPY;
		gi->aligned |= i->mnemonic == M(CMPXCHG16B);
	}
	if (gi->kind != GI_COPY)
		gi->vec = false;
}

/* What flags it certainly gives new values, whatever its operands are. */
static uint32_t kills(const struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	unsigned count;

	switch (i->mnemonic) {
	case M(ROL): case M(ROR): case M(RCL): case M(RCR): case M(SHL): case M(SHR): case M(SAR): case M(SHLD): case M(SHRD):
		if (i->encoding != INSN_LEGACY)
			return 0;
		if (i->imm_size)
			count = i->bytes[i->imm_off] & (i->osz == 8 ? 63 : 31);
		else
			count = i->op[1].kind == INSN_OP_GPR ? 0 : 1;	/* by CL: may be nothing */
		if ((i->mnemonic == M(SHLD) || i->mnemonic == M(SHRD)) && (!i->imm_size || i->osz == 2))
			count = 0;
		if (!count)
			return 0;
		if (i->mnemonic == M(RCL) || i->mnemonic == M(RCR) || i->mnemonic == M(ROL) || i->mnemonic == M(ROR))
			return X86_FL_CF;
		return i->flags_defined & X86_FL_ARITH & ~X86_FL_OF & ~X86_FL_AF;
	case M(BSF): case M(BSR): return X86_FL_ZF;
	default: return i->flags_defined & X86_FL_ARITH;
	}
}

static void flag_use(struct gen_insn *gi)
{
	const struct insn *i = &gi->i;

	switch (gi->kind) {
	case GI_CALLOUT:
		gi->reads = X86_FL_ARITH;
		gi->writes = true;
		break;
	case GI_COPY:
		gi->reads = i->flags_read & X86_FL_ARITH;
		gi->writes = i->flags_written & X86_FL_ARITH;
		gi->kill = kills(gi);
		break;
	case GI_JCC:
		gi->reads = i->flags_read & X86_FL_ARITH;
		break;
	default:
		break;
	}
}

static bool decode_at(struct gen *g, unsigned off, struct insn *i)
{
	return insn_decode(i, g->bytes + off, MIN((unsigned)PAGE_4K - off, INSN_MAX_LEN), 64) == 0;
}

static bool mark(struct gen *g, unsigned from, unsigned to)
{
	uint32_t v = x86_codemap_mark(g->x->ic.c.codemap, g->page, from, MIN(to, (unsigned)PAGE_4K) - from);

	if (!g->have_version)
		g->version = v;
	g->have_version = true;
	return v == g->version;
}

static bool build_uop(struct gen *g, struct gen_insn *gi)
{
	struct interp_cpu *ic = &g->x->ic;
	struct exec_cache *own = ic->exec;
	const char *own_stubs = ic->stubs;
	struct uop *u = &g->uops[g->n_uops];
	bool ends;

	memset(u, 0, sizeof(*u));
	u->off = gi->off;
	gi->uop = g->n_uops++;
	ic->exec = g->xe->exec;
	ic->stubs = exec_cache_pool(g->xe->exec);
	ends = interp_build(ic, u, &gi->i);
	ic->exec = own;
	ic->stubs = own_stubs;
	return ends;
}

/* False: the code changed under our hands. */
static bool collect(struct gen *g, unsigned off)
{
	unsigned jccs = 0;

	for (g->n = 0; g->n < XL_MAX_INSNS; ) {
		struct gen_insn *gi = &g->insn[g->n];
		bool ends;

		if (off >= PAGE_4K)
			return true;
		if (!mark(g, off, off + INSN_MAX_LEN))
			return false;
		memset(gi, 0, sizeof(*gi));
		/* What straddles or is undefined is interp's, in a block of its own. */
		if (!decode_at(g, off, &gi->i))
			return true;
		gi->off = (uint16_t)off;
		gi->group = GEN_NO_GROUP;
		classify(g, gi);
		flag_use(gi);
		ends = gi->kind >= GI_FIRST_END;
		if (gi->kind == GI_CALLOUT)
			ends = build_uop(g, gi);
		gi->ends = ends;
		g->n++;
		off += gi->i.len;
		g->next = off;
		if (ends || (gi->kind == GI_JCC && ++jccs == XL_MAX_EXITS / 2))
			return true;
	}
	return true;
}

/* --- pass two --- */

/* Flags that code at a page offset may want: looks a few instructions ahead. */
static uint32_t wanted_at(struct gen *g, int32_t off)
{
	uint32_t want = 0, killed = 0;

	for (unsigned n = 0; n < 8; n++) {
		struct gen_insn gi = { 0 };

		if (off < 0 || off >= (int32_t)PAGE_4K || !mark(g, (unsigned)off, (unsigned)off + INSN_MAX_LEN) ||
		    !decode_at(g, (unsigned)off, &gi.i))
			break;
		if (is_nop(&gi.i) || gi.i.mnemonic == M(LEA))
			gi.kind = GI_NOP;
		else if (stack_kind(&gi.i) != GI_CALLOUT)
			gi.kind = GI_PUSH;
		else if (control_kind(&gi.i) == GI_JMP) {
			off += gi.i.len + (int32_t)gi.i.op[0].imm;
			continue;
		} else
			gi.kind = copies_well(&gi.i) ? GI_COPY : GI_CALLOUT;
		if (gi.kind == GI_CALLOUT && gi.i.isa != INSN_ISA_SSE && gi.i.isa != INSN_ISA_AVX)
			break;
		if (gi.kind == GI_CALLOUT)
			gi.kind = GI_NOP;
		flag_use(&gi);
		want |= gi.reads & ~killed;
		killed |= gi.kill;
		if (killed == X86_FL_ARITH)
			return want;
		off += gi.i.len;
	}
	return want | (X86_FL_ARITH & ~killed);
}

static int32_t target_of(const struct gen_insn *gi)
{
	return (int32_t)(gi->off + gi->i.len + gi->i.op[0].imm);
}

static void liveness(struct gen *g)
{
	const struct gen_insn *last = &g->insn[g->n - 1];
	uint32_t live = X86_FL_ARITH;

	if (last->kind == GI_JMP)
		live = wanted_at(g, target_of(last));
	else if (!last->ends)
		live = wanted_at(g, (int32_t)g->next);
	g->live_out = live;
	for (unsigned n = g->n; n-- > 0; ) {
		struct gen_insn *gi = &g->insn[n];

		gi->live_after = live;
		if (gi->kind == GI_JCC)
			live |= wanted_at(g, target_of(gi));
		live = gi->reads | (live & ~gi->kill);
		gi->need = live;
	}
	g->live_in = live;
}

/* --- pass two: groups of accesses --- */

struct access {
	uint8_t base, index, scale;
	bool write;
	int32_t off;
	unsigned len;
};

/* The one access that an instruction makes by itself; false: none, or not one for a group. */
static bool access_of(const struct gen_insn *gi, struct access *m)
{
	const struct insn *i = &gi->i;

	*m = (struct access){ .base = X86_RSP, .index = INSN_NOREG, .off = gi->delta, .len = 8 };
	switch (gi->kind) {
	case GI_PUSH: case GI_CALL:
		m->write = true;
		m->off -= 8;
		return true;
	case GI_POP: case GI_RET:
		return true;
	case GI_COPY: case GI_JMP_IND:
		if (!i->has_mem || i->asz != 8 || i->mem_seg >= X86_FS || i->mem_base == INSN_NOREG)
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
		m->len = gi->kind == GI_COPY ? i->mem_size : 8;
		return m->off > -(1 << 30) && m->off < 1 << 30;
	default:
		return false;
	}
}

/* How RSP changes; false: not by a constant. */
static bool rsp_step(const struct gen_insn *gi, int32_t *by)
{
	const struct insn *i = &gi->i;

	*by = 0;
	switch (gi->kind) {
	case GI_PUSH: *by = -8; return true;
	case GI_POP: *by = 8; return i->op[0].reg != X86_RSP;
	case GI_LEAVE: case GI_CALLOUT: return false;
	case GI_LEA:
		if (i->op[0].reg != X86_RSP)
			return true;
		*by = (int32_t)i->mem_disp;
		return i->mem_base == X86_RSP && i->mem_index == INSN_NOREG && i->op[0].size == 8 && i->asz == 8;
	case GI_COPY:
		for (unsigned k = 0; k < i->n_ops; k++) {
			if (i->op[k].kind != INSN_OP_GPR || i->op[k].reg != X86_RSP || !i->op[k].write || i->op[k].high8)
				continue;
			if (k || i->op[1].kind != INSN_OP_IMM || i->op[0].size != 8 || (i->mnemonic != M(ADD) && i->mnemonic != M(SUB)))
				return false;
			*by = (int32_t)(i->mnemonic == M(ADD) ? imm_of(i) : -imm_of(i));
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

static void find_groups(struct gen *g)
{
	bool open[GEN_MAX_GROUPS] = { false };
	int32_t delta = 0, by;

	for (unsigned n = 0; n < g->n; n++) {
		struct gen_insn *gi = &g->insn[n];
		struct access m;
		bool stepped;

		gi->delta = delta;
		if (access_of(gi, &m)) {
			unsigned k;

			for (k = 0; k < g->n_groups; k++) {
				struct gen_group *r = &g->groups[k];

				if (open[k] && r->base == m.base && r->index == m.index && r->scale == m.scale && r->write == m.write &&
				    MAX(r->max, m.off + (int32_t)m.len) - MIN(r->min, m.off) <= GEN_GROUP_SPAN)
					break;
			}
			if (k == g->n_groups && k < GEN_MAX_GROUPS) {
				g->groups[g->n_groups++] = (struct gen_group){ .base = m.base, .index = m.index, .scale = m.scale,
					.write = m.write, .min = m.off, .max = m.off + (int32_t)m.len, .slot = -1 };
				open[k] = true;
				gi->group_first = true;
			}
			if (k < GEN_MAX_GROUPS) {
				struct gen_group *r = &g->groups[k];

				r->min = MIN(r->min, m.off);
				r->max = MAX(r->max, m.off + (int32_t)m.len);
				r->n++;
				gi->group = (uint8_t)k;
				gi->group_off = m.off;
			}
		}
		stepped = rsp_step(gi, &by);
		delta += by;
		for (unsigned k = 0; k < g->n_groups; k++) {
			const struct gen_group *r = &g->groups[k];

			if (gi->kind == GI_CALLOUT || (r->base == X86_RSP ? !stepped : r->base != INSN_RIP && writes_reg(gi, r->base)) ||
			    (r->index != INSN_NOREG && writes_reg(gi, r->index)))
				open[k] = false;
		}
	}
	for (unsigned k = 0; k < g->n_groups; k++)
		if (g->groups[k].n > 1 && g->n_slots < XL_SLOTS)
			g->groups[k].slot = (int)g->n_slots++;
	for (unsigned n = 0; n < g->n; n++) {
		struct gen_insn *gi = &g->insn[n];

		if (gi->group == GEN_NO_GROUP)
			continue;
		gi->group_off -= g->groups[gi->group].min;
		if (g->groups[gi->group].slot < 0)
			gi->group = GEN_NO_GROUP;
	}
}

/* --- pass three: flags --- */

static void flags_save(struct gen *g)
{
	struct xasm *a = &g->a;

	if (g->fl != FL_HOST)
		return;
	a_st(a, H_RAX, XO(sv_rax));
	a_bytes(a, "\x9f\x0f\x90\xc0", 4);	/* lahf; seto al */
	a_st32(a, H_RAX, XO(ic.c.lf));
	a_ld(a, H_RAX, XO(sv_rax));
	g->fl = FL_BOTH;
}

static void flags_restore(struct gen *g)
{
	struct xasm *a = &g->a;

	if (g->fl != FL_MEM)
		return;
	a_st(a, H_RAX, XO(sv_rax));
	a_ld32(a, H_RAX, XO(ic.c.lf));
	a_bytes(a, "\x04\x7f\x9e", 3);		/* add al, 0x7f; sahf */
	a_ld(a, H_RAX, XO(sv_rax));
	g->fl = FL_BOTH;
}

/* The host's flags are about to be destroyed; `live` of the guest's still matter. */
static void flags_clobber(struct gen *g, uint32_t live)
{
	if (live)
		flags_save(g);
	g->fl = g->fl == FL_BOTH || g->fl == FL_MEM ? FL_MEM : FL_DEAD;
}

/* --- pass three: out-of-line pieces --- */

static struct gen_slow *slow_new(struct gen *g, int what)
{
	struct gen_slow *s = &g->slow[g->n_slow];

	if (g->n_slow == GEN_MAX_SLOW - 1)
		g->a.over = true;
	else
		g->n_slow++;
	memset(s, 0, sizeof(*s));
	s->what = what;
	return s;
}

static void rip_at(struct gen *g, unsigned reg, int32_t off)
{
	a_ld(&g->a, reg, XO(ic.c.blk_rip));
	a_lea(&g->a, 1, reg, reg, H_NONE, 0, off);
}

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
}
static int32_t jc_rip(const struct gen *g)
{
	return XO(jc) + (int32_t)(g->acc * sizeof(struct xl_jc) + offsetof(struct xl_jc, rip));
}
static int32_t jc_code(const struct gen *g)
{
	return XO(jc) + (int32_t)(g->acc * sizeof(struct xl_jc) + offsetof(struct xl_jc, code));
}

/* --- pass three: memory --- */

/* dst = effective address (without segment base). */
static void emit_ea(struct gen *g, const struct gen_insn *gi, unsigned dst)
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
	if (base != H_NONE && index == H_NONE && !disp && i->asz == 8)
		a_mov_rr(a, 1, dst, base);
	else
		a_lea(a, i->asz == 8, dst, base, index, i->mem_scale, disp);
}

/* R10 = linear address of the memory operand. */
static void emit_lin(struct gen *g, const struct gen_insn *gi)
{
	emit_ea(g, gi, H_R10);
	if (gi->i.mem_seg >= X86_FS) {
		a_ld(&g->a, H_R11, XO(ic.c.s.seg) + (int32_t)(gi->i.mem_seg * sizeof(struct x86_seg) + offsetof(struct x86_seg, base)));
		a_lea(&g->a, 1, H_R10, H_R10, H_R11, 0, 0);
	}
}

/* R10: linear address -> host address of `len` bytes; R11: index of the TLB
 * entry.  Destroys the host's flags. */
static void emit_probe(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	struct gen_slow *s = slow_new(g, SLOW_MISS);
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
	s->desc = XL_DESC(gi->off, how, len) | (gi->aligned ? XL_DESC_ALIGNED : 0);
	s->tag = tlb_at_how(g, how);
}

/* R10 = linear address of the lowest byte of an access's group. */
static void emit_group_lin(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_group *r = &g->groups[gi->group];
	struct gen_insn low = *gi;

	low.i.mem_base = r->base;
	low.i.mem_index = r->index;
	low.i.mem_scale = r->scale;
	low.i.mem_disp = r->min;
	low.i.asz = 8;
	if (r->base == X86_RSP)
		low.i.mem_disp -= gi->delta;
	if (r->base == INSN_RIP)
		low.i.mem_disp -= gi->off + gi->i.len;
	emit_ea(g, &low, H_R10);
}

/*
 * R10 + the displacement returned = host address of the access.  Without a group
 * R10 holds the linear address before and R11 the TLB index after; with one, R11
 * is free.  Destroys the host's flags unless quiet_access says not.
 */
static int32_t emit_access(struct gen *g, const struct gen_insn *gi, unsigned how, unsigned len)
{
	const struct gen_group *r = &g->groups[gi->group];
	struct xasm *a = &g->a;
	struct gen_slow *s;

	if (gi->group == GEN_NO_GROUP) {
		emit_probe(g, gi, how, len);
		return 0;
	}
	if (!gi->group_first) {
		a_ld(a, H_R10, XO(slot) + 8 * r->slot);
		return gi->group_off;
	}
	s = &g->slow[g->n_slow];
	emit_probe(g, gi, how, (unsigned)(r->max - r->min));
	s->desc2 = XL_DESC2(gi->group_off, len);
	a_st(a, H_R10, XO(slot) + 8 * r->slot);
	if (how == X86_WRITE) {
		a_rsx(a, 1, 0x8b, H_R11, H_R11, tlb_flags(g));
		a_st(a, H_R11, XO(slot_flags) + 8 * r->slot);
	}
	return gi->group_off;
}

/* Does emit_access leave the host's flags alone? */
static bool quiet_access(const struct gen_insn *gi) { return gi->group != GEN_NO_GROUP && !gi->group_first; }

/* R11 = the flags of the page that was stored to. */
static void emit_page_flags(struct gen *g, const struct gen_insn *gi)
{
	if (gi->group == GEN_NO_GROUP)
		a_rsx(&g->a, 1, 0x8b, H_R11, H_R11, tlb_flags(g));
	else
		a_ld(&g->a, H_R11, XO(slot_flags) + 8 * g->groups[gi->group].slot);
}

/* After a store through R10 + disp (without a group, R11: TLB entry): does the page hold code? */
static void emit_stored(struct gen *g, const struct gen_insn *gi, int32_t disp, unsigned len)
{
	struct xasm *a = &g->a;
	struct gen_slow *s;

	if (g->fl == FL_HOST && gi->live_after) {
		unsigned skip;

		if (gi->group == GEN_NO_GROUP)
			a_st(a, H_R11, XO(tmp2));
		emit_page_flags(g, gi);
		s = slow_new(g, SLOW_STORED_H);
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
		flags_clobber(g, 0);
		emit_page_flags(g, gi);
		s = slow_new(g, SLOW_STORED_M);
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

/* --- pass three: leaving --- */

static struct xl_exit *exit_new(struct gen *g, int32_t target)
{
	struct xl_exit *e = &g->b->exits[g->b->n_exits];

	if (g->b->n_exits == XL_MAX_EXITS - 1)
		g->a.over = true;
	else
		g->b->n_exits++;
	e->from = g->b;
	e->target = target;
	return e;
}

/* A branch (cc: 16 = always) to another place of the page, patched when that
 * is translated. */
static void emit_link(struct gen *g, unsigned cc, int32_t target)
{
	struct gen_slow *s = slow_new(g, SLOW_LINK);
	struct xasm *a = &g->a;

	/* The displacement must not straddle what one store can change. */
	while ((a_here(a) + (cc == 16 ? 1 : 2)) & 3)
		a_b(a, 0x90);
	s->at = cc == 16 ? a_jmp_fwd(a) : a_jcc_fwd(a, cc);
	s->exit = exit_new(g, target);
	s->exit->patch = (uint32_t)(a->run + s->at - (uintptr_t)g->xe->rx);
}

/* To the RIP in R10; flags are in c->lf or dead. canonical: R10 comes from the
 * guest and must be checked (then the instruction is interp's). */
static void emit_indirect(struct gen *g, const struct gen_insn *gi, bool check, int32_t pop)
{
	struct xasm *a = &g->a;
	struct gen_slow *s = slow_new(g, SLOW_INDIRECT);

	a_mov_rr(a, 0, H_R11, H_R10);
	a_alu_ri(a, 0, 4, H_R11, XL_JC_SIZE - 1);
	a_rsx(a, 1, 0x3b, H_R10, H_R11, jc_rip(g));
	s->at = a_jcc_fwd(a, CC_NE);
	if (pop)
		a_lea(a, 1, H_R9, H_R9, H_NONE, 0, pop);
	a_rsx(a, 0, 0xff, 4, H_R11, jc_code(g));	/* jmp [...] */
	s->check = check;
	s->pop = pop;
	s->off = gi->off;
}

static void emit_goto(struct gen *g, const struct gen_insn *gi, int32_t target)
{
	if (target >= 0 && target < (int32_t)PAGE_4K) {
		if (g->live_out)
			flags_restore(g);
		emit_link(g, 16, target);
		return;
	}
	flags_clobber(g, X86_FL_ARITH);
	rip_at(g, H_R10, target);
	emit_indirect(g, gi, false, 0);
}

/* --- pass three: instructions --- */

static void fault_here(struct gen *g, const struct gen_insn *gi)
{
	struct xl_insn *f = &g->faults[g->n_faults++];

	f->host = (uint32_t)(g->a.n - g->code0);
	f->off = gi->off;
	f->flags_host = g->fl == FL_HOST;
}

static void use_vectors(struct gen *g, uint32_t live)
{
	struct gen_slow *s;

	if (g->vec_ok)
		return;
	flags_clobber(g, live);
	s = slow_new(g, SLOW_VEC);
	a_cmp_si8(&g->a, true, XO(vec_live), 0);
	s->at = a_jcc_fwd(&g->a, CC_E);
	s->back = a_here(&g->a);
	g->vec_ok = true;
}

/* Is what insn_rename made the guest's instruction on the registers and the
 * address meant?  This is the wall between guest and host, so it is not trusted. */
static bool proven(const struct gen_insn *gi, const struct rewrite *r)
{
	const struct insn *i = &gi->i;
	struct insn n;

	if (insn_decode(&n, r->bytes, r->len, 64) < 0 || n.len != r->len || n.mnemonic != i->mnemonic || n.n_ops != i->n_ops ||
	    n.encoding != i->encoding || n.has_mem != i->has_mem || n.lock != i->lock || n.vec_len != i->vec_len)
		return false;
	if (n.has_mem && (n.mem_base != H_R10 || n.mem_index != INSN_NOREG || n.mem_disp != r->mem_disp || n.mem_seg >= X86_FS ||
			  n.mem_vsib))
		return false;
	for (unsigned k = 0; k < n.n_ops; k++) {
		const struct insn_op *a = &i->op[k], *b = &n.op[k];
		unsigned reg = a->reg;

		if (a->kind == INSN_OP_GPR && !a->high8 && a->enc != INSN_ENC_NONE && r->field_as[a->enc] != INSN_NOREG)
			reg = r->field_as[a->enc];
		if (b->kind != a->kind || b->reg != reg || b->high8 != a->high8 || b->size != a->size || b->read != a->read ||
		    b->write != a->write || b->imm != a->imm)
			return false;
		if (b->kind == INSN_OP_GPR && b->reg == H_RSP && !b->high8)
			return false;
	}
	return true;
}

static void emit_copy(struct gen *g, struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	struct rewrite r = { .mem_reg = i->has_mem ? H_R10 : INSN_NOREG };
	bool write = i->has_mem && i->mem_write, spilled = false;
	struct xasm *a = &g->a;

	if (gi->vec)
		use_vectors(g, gi->need);
	if (i->has_mem) {
		if (!quiet_access(gi))
			flags_clobber(g, gi->need);
		if (gi->group == GEN_NO_GROUP)
			emit_lin(g, gi);
		else if (gi->group_first)
			emit_group_lin(g, gi);
		r.mem_disp = emit_access(g, gi, write ? X86_WRITE : X86_READ, i->mem_size);
		if (write && gi->n_temps && gi->group == GEN_NO_GROUP) {
			a_st(a, H_R11, XO(tmp2));
			spilled = true;
		}
	}
	for (unsigned n = 0; n < gi->n_temps; n++)
		if (gi->temp[n].load)
			a_ld(a, gi->temp[n].host, XO_GPR(gi->temp[n].guest));
	if (gi->reads || (gi->writes && (gi->live_after & ~gi->kill)))
		flags_restore(g);
	fault_here(g, gi);
	memcpy(r.field_as, gi->as, sizeof(r.field_as));
	if (!i->has_mem && !gi->renamed)
		a_bytes(a, i->bytes, i->len);
	else if (insn_rename(i, &r) == 0 && proven(gi, &r))
		a_bytes(a, r.bytes, r.len);
	else
		a->over = true;
	for (unsigned n = 0; n < gi->n_temps; n++)
		if (gi->temp[n].store)
			a_st(a, gi->temp[n].host, XO_GPR(gi->temp[n].guest));
	if (gi->writes)
		g->fl = FL_HOST;
	if (write) {
		if (spilled)
			a_ld(a, H_R11, XO(tmp2));
		emit_stored(g, gi, r.mem_disp, i->mem_size);
	}
}

static void emit_lea(struct gen *g, const struct gen_insn *gi)
{
	const struct insn_op *d = &gi->i.op[0];
	bool mem = in_memory(d->reg);
	unsigned to = mem ? H_R10 : host_reg(d->reg);

	emit_ea(g, gi, to);
	if (d->size == 4 && gi->i.asz == 8)
		a_mov_rr(&g->a, 0, to, to);
	if (mem)
		a_st(&g->a, H_R10, XO_GPR(d->reg));
}

/* The slot below the stack's top; returns as emit_access. */
static int32_t emit_push_access(struct gen *g, const struct gen_insn *gi)
{
	if (!quiet_access(gi))
		flags_clobber(g, gi->need);
	if (gi->group == GEN_NO_GROUP)
		a_lea(&g->a, 1, H_R10, H_R9, H_NONE, 0, -8);
	else if (gi->group_first)
		emit_group_lin(g, gi);
	return emit_access(g, gi, X86_WRITE, 8);
}

static int32_t emit_pop_access(struct gen *g, const struct gen_insn *gi)
{
	if (!quiet_access(gi))
		flags_clobber(g, gi->need);
	if (gi->group == GEN_NO_GROUP)
		a_mov_rr(&g->a, 1, H_R10, H_R9);
	else if (gi->group_first)
		emit_group_lin(g, gi);
	return emit_access(g, gi, X86_READ, 8);
}

static void emit_push(struct gen *g, const struct gen_insn *gi)
{
	const struct insn_op *o = &gi->i.op[0];
	int32_t d = emit_push_access(g, gi);
	struct xasm *a = &g->a;
	bool spilled = false;

	if (o->kind == INSN_OP_IMM) {
		a_rm(a, 1, 0xc7, 0, H_R10, H_NONE, 0, d);
		a_d(a, (uint32_t)imm_of(&gi->i));
	} else if (in_memory(o->reg)) {
		spilled = gi->group == GEN_NO_GROUP;
		if (spilled)
			a_st(a, H_R11, XO(tmp2));
		a_ld(a, H_R11, XO_GPR(o->reg));
		a_rm(a, 1, 0x89, H_R11, H_R10, H_NONE, 0, d);
	} else {
		a_rm(a, 1, 0x89, host_reg(o->reg), H_R10, H_NONE, 0, d);
	}
	a_lea(a, 1, H_R9, H_R9, H_NONE, 0, -8);
	if (spilled)
		a_ld(a, H_R11, XO(tmp2));
	emit_stored(g, gi, d, 8);
}

static void emit_pop(struct gen *g, const struct gen_insn *gi)
{
	int32_t d = emit_pop_access(g, gi);
	unsigned reg = gi->i.op[0].reg;
	struct xasm *a = &g->a;

	if (in_memory(reg)) {
		a_rm(a, 1, 0x8b, H_R11, H_R10, H_NONE, 0, d);
		a_st(a, H_R11, XO_GPR(reg));
	} else {
		a_rm(a, 1, 0x8b, host_reg(reg), H_R10, H_NONE, 0, d);
	}
	if (reg != X86_RSP)
		a_lea(a, 1, H_R9, H_R9, H_NONE, 0, 8);
}

static void emit_leave(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;

	flags_clobber(g, gi->need);
	a_mov_rr(a, 1, H_R10, H_RBP);
	emit_probe(g, gi, X86_READ, 8);
	a_lea(a, 1, H_R9, H_RBP, H_NONE, 0, 8);
	a_rm(a, 1, 0x8b, H_RBP, H_R10, H_NONE, 0, 0);
}

/* Pushes the address of the next instruction; returns as emit_access. */
static int32_t emit_push_next(struct gen *g, const struct gen_insn *gi)
{
	int32_t d = emit_push_access(g, gi);
	struct xasm *a = &g->a;

	if (gi->group == GEN_NO_GROUP)
		a_st(a, H_R11, XO(tmp2));
	rip_at(g, H_R11, gi->off + gi->i.len);
	a_rm(a, 1, 0x89, H_R11, H_R10, H_NONE, 0, d);
	a_lea(a, 1, H_R9, H_R9, H_NONE, 0, -8);
	if (gi->group == GEN_NO_GROUP)
		a_ld(a, H_R11, XO(tmp2));
	return d;
}

static void emit_call(struct gen *g, const struct gen_insn *gi)
{
	struct gen_insn at = *gi;
	int32_t d;

	d = emit_push_next(g, gi);
	/* If the store hit code, execution goes on at the target, not behind the call. */
	at.off = 0;
	at.i.len = 0;
	emit_stored(g, &at, d, 8);
	g->slow[g->n_slow - 1].rel = target_of(gi);
	emit_goto(g, gi, target_of(gi));
}

/* R10 = the operand of an indirect branch. */
static void emit_target(struct gen *g, const struct gen_insn *gi)
{
	const struct insn_op *o = &gi->i.op[0];

	if (gi->i.has_mem) {
		int32_t d;

		if (gi->group == GEN_NO_GROUP)
			emit_lin(g, gi);
		else if (gi->group_first)
			emit_group_lin(g, gi);
		d = emit_access(g, gi, X86_READ, 8);
		a_rm(&g->a, 1, 0x8b, H_R10, H_R10, H_NONE, 0, d);
	} else if (in_memory(o->reg)) {
		a_ld(&g->a, H_R10, XO_GPR(o->reg));
	} else {
		a_mov_rr(&g->a, 1, H_R10, host_reg(o->reg));
	}
}

static void emit_call_indirect(struct gen *g, const struct gen_insn *gi)
{
	struct gen_insn at = *gi;
	struct gen_slow *s;
	struct xasm *a = &g->a;
	int32_t d;

	flags_clobber(g, gi->need);
	emit_target(g, gi);
	a_st(a, H_R10, XO(tmp));
	/* What the jump cache knows is canonical. */
	a_mov_rr(a, 0, H_R11, H_R10);
	a_alu_ri(a, 0, 4, H_R11, XL_JC_SIZE - 1);
	a_rsx(a, 1, 0x3b, H_R10, H_R11, jc_rip(g));
	s = slow_new(g, SLOW_CANONICAL);
	s->at = a_jcc_fwd(a, CC_NE);
	s->back = a_here(a);
	s->off = gi->off;
	d = emit_push_next(g, gi);
	at.off = 0;
	at.i.len = 0;
	emit_stored(g, &at, d, 8);
	g->slow[g->n_slow - 1].to_tmp = true;
	a_ld(a, H_R10, XO(tmp));
	emit_indirect(g, gi, false, 0);
}

static void emit_ret(struct gen *g, const struct gen_insn *gi)
{
	int32_t pop = 8 + (gi->i.imm_size ? (uint16_t)imm_of(&gi->i) : 0), d;
	struct xasm *a = &g->a;

	d = emit_pop_access(g, gi);
	flags_clobber(g, X86_FL_ARITH);
	a_rm(a, 1, 0x8b, H_R10, H_R10, H_NONE, 0, d);
	emit_indirect(g, gi, true, pop);
}

static void emit_jcc(struct gen *g, const struct gen_insn *gi)
{
	int32_t to = target_of(gi);
	unsigned cc = gi->i.opcode & 15;

	flags_restore(g);
	if (to >= 0 && to < (int32_t)PAGE_4K) {
		emit_link(g, cc, to);
	} else {
		struct gen_slow *s = slow_new(g, SLOW_FAR_JCC);

		s->at = a_jcc_fwd(&g->a, cc);
		s->rel = to;
		s->save = g->fl == FL_HOST;
		s->off = gi->off;
	}
}

static void emit_callout(struct gen *g, const struct gen_insn *gi)
{
	flags_clobber(g, X86_FL_ARITH);
	a_mov_i(&g->a, H_R10, (uintptr_t)(g->b->uops + gi->uop));
	a_call(&g->a, g->xe->t.callout);
	g->fl = FL_MEM;
}

static void emit_insn(struct gen *g, struct gen_insn *gi)
{
	switch (gi->kind) {
	case GI_NOP: break;
	case GI_COPY: emit_copy(g, gi); break;
	case GI_LEA: emit_lea(g, gi); break;
	case GI_PUSH: emit_push(g, gi); break;
	case GI_POP: emit_pop(g, gi); break;
	case GI_LEAVE: emit_leave(g, gi); break;
	case GI_JCC: emit_jcc(g, gi); break;
	case GI_CALLOUT: emit_callout(g, gi); break;
	case GI_JMP: emit_goto(g, gi, target_of(gi)); break;
	case GI_CALL: emit_call(g, gi); break;
	case GI_CALL_IND: emit_call_indirect(g, gi); break;
	case GI_JMP_IND:
		flags_clobber(g, gi->need);
		emit_target(g, gi);
		emit_indirect(g, gi, true, 0);
		break;
	case GI_RET: emit_ret(g, gi); break;
	default: g->a.over = true; break;
	}
}

/* The two entries (see cache.c for what they must begin with) and the look at
 * pending events. */
static void emit_entries(struct gen *g)
{
	struct xl_block *b = g->b;
	unsigned off = b->gpa & 0xfff, skip;
	struct xasm *a = &g->a;
	struct gen_slow *s;

	a_align(a, 8);
	g->code0 = a->n;
	b->ientry = (uint8_t *)a_here(a);
	a_bytes(a, "\x4d\x8d\x92", 3);		/* lea r10, [r10 + disp32] */
	a_d(a, -off);
	a_st(a, H_R10, XO(ic.c.blk_rip));
	g->fl = g->live_in ? FL_MEM : FL_DEAD;
	if (g->live_in)
		flags_restore(g);
	a_align(a, 8);
	b->entry = (uint8_t *)a_here(a);
	g->fl = g->live_in ? FL_HOST : FL_DEAD;
	s = slow_new(g, SLOW_POLL);
	s->off = (uint16_t)off;
	if (g->live_in) {
		a_ld32(a, H_R11, XO(ic.c.vcpu.events));
		a_rr(a, 1, 0x87, H_RCX, H_R11);
		a_bytes(a, "\xe3\x00", 2);
		skip = a->n;
		a_rr(a, 1, 0x87, H_RCX, H_R11);
		s->at = a_jmp_fwd(a);
		if (!a->over)
			a->p[skip - 1] = (uint8_t)(a->n - skip);
		a_rr(a, 1, 0x87, H_RCX, H_R11);
	} else {
		a_cmp_si8(a, false, XO(ic.c.vcpu.events), 0);
		s->at = a_jcc_fwd(a, CC_NE);
	}
}

/* To interp with the instruction at `off`; flags are in c->lf or dead. */
static void emit_step(struct gen *g, int32_t off)
{
	rip_at(g, H_R10, off);
	a_st(&g->a, H_R10, XO(ic.c.s.rip));
	a_rs(&g->a, 0, 0xc6, 0, XO(step));
	a_b(&g->a, 1);
	a_jmp(&g->a, g->xe->t.fault_m);
}

static void emit_canonical_or_step(struct gen *g, int32_t off)
{
	struct xasm *a = &g->a;
	unsigned ok;

	a_mov_rr(a, 1, H_R11, H_R10);
	a_shift_ri(a, 1, 4, H_R11, 16);
	a_rr(a, 1, 0xc1, 7, H_R11);	/* sar r11, 16 */
	a_b(a, 16);
	a_rr(a, 1, 0x3b, H_R11, H_R10);
	ok = a_jcc_fwd(a, CC_E);
	emit_step(g, off);
	a_bind(a, ok);
}

static void emit_slow_stored(struct gen *g, const struct gen_slow *s)
{
	struct xasm *a = &g->a;

	a_st32_i(a, XO(desc), s->desc);
	if (s->what == SLOW_STORED_H && s->slot >= 0) {	/* R11 was lost to the test */
		a_ld(a, H_R11, XO(slot_flags) + 8 * s->slot);
	} else if (s->what == SLOW_STORED_H) {
		a_ld(a, H_R11, XO(tmp2));
		a_rsx(a, 1, 0x8b, H_R11, H_R11, s->idx);
	}
	if (s->disp)
		a_lea(a, 1, H_R10, H_R10, H_NONE, 0, s->disp);
	if (s->to_tmp) {
		a_st(a, H_R11, XO(tmp2));
		a_ld(a, H_R11, XO(tmp));
		a_st(a, H_R11, XO(ic.c.s.rip));
		a_ld(a, H_R11, XO(tmp2));
	} else {
		a_st(a, H_R10, XO(tmp));
		rip_at(g, H_R10, s->rel ? s->rel : (int32_t)(s->desc & 0x1fff));
		a_st(a, H_R10, XO(ic.c.s.rip));
		a_ld(a, H_R10, XO(tmp));
	}
	a_call(a, s->what == SLOW_STORED_H ? g->xe->t.stored_h : g->xe->t.stored_m);
	a_jmp(a, s->back);
}

static void emit_slow(struct gen *g, const struct gen_slow *s)
{
	const struct xl_thunks *t = &g->xe->t;
	struct xasm *a = &g->a;

	a_bind(a, s->at);
	switch (s->what) {
	case SLOW_MISS:
		a_rsx(a, 1, 0x33, H_R10, H_R11, s->tag);
		a_st32_i(a, XO(desc), s->desc);
		if (s->desc2)
			a_st32_i(a, XO(desc2), s->desc2);
		a_call(a, t->miss);
		a_cmp_si8(a, true, XO(bounced), 0);
		a_jcc(a, CC_E, s->back);
		a_jmp(a, s->done);
		break;
	case SLOW_STORED_H:
	case SLOW_STORED_M:
		emit_slow_stored(g, s);
		break;
	case SLOW_LINK:
		a_mov_i(a, H_R10, (uintptr_t)s->exit);
		a_jmp(a, t->exit_link);
		break;
	case SLOW_VEC:
		a_call(a, t->vec_load);
		a_jmp(a, s->back);
		break;
	case SLOW_POLL:
		g->b->dead_entry = (uint8_t *)a_here(a);
		rip_at(g, H_R10, s->off);
		a_jmp(a, t->exit_rip_h);
		break;
	case SLOW_INDIRECT:
		if (s->check)
			emit_canonical_or_step(g, s->off);
		if (s->pop)
			a_lea(a, 1, H_R9, H_R9, H_NONE, 0, s->pop);
		a_jmp(a, t->exit_rip_m);
		break;
	case SLOW_CANONICAL:
		emit_canonical_or_step(g, s->off);
		a_jmp(a, s->back);
		break;
	case SLOW_FAR_JCC: {
		struct gen_insn at = { .off = s->off };

		g->fl = s->save ? FL_HOST : FL_BOTH;
		flags_clobber(g, X86_FL_ARITH);
		rip_at(g, H_R10, s->rel);
		emit_indirect(g, &at, false, 0);
		break;
	}
	default: a->over = true; break;
	}
}

static bool emit_block(struct gen *g)
{
	struct gen_insn *last = &g->insn[g->n - 1];

	emit_entries(g);
	for (unsigned n = 0; n < g->n; n++)
		emit_insn(g, &g->insn[n]);
	if (last->kind == GI_CALLOUT || !last->ends)
		emit_goto(g, last, (int32_t)g->next);
	for (unsigned n = 0; n < g->n_slow; n++)	/* more may be added on the way */
		emit_slow(g, &g->slow[n]);
	return !g->a.over;
}

static size_t meta_size(const struct gen *g)
{
	return align_up(sizeof(struct xl_block) + g->n * sizeof(struct xl_insn), 64) + g->n_uops * sizeof(struct uop);
}

struct xl_block *xl_translate(struct xl_cpu *x, const struct x86_tlb_entry *page, uint32_t key, bool *full)
{
	struct xl_engine *xe = x->xe;
	struct x86_cpu *c = &x->ic.c;
	struct gen *g = xe->gen;
	unsigned off = c->s.rip & 0xfff;
	size_t need;

	memset(g, 0, offsetof(struct gen, insn));
	g->x = x;
	g->xe = xe;
	g->key = key;
	g->acc = XL_KEY_ACC(g->key);
	if (exec_cache_full(xe->exec)) {
		*full = true;
		return NULL;
	}
	g->page = page;
	g->bytes = (const uint8_t *)((c->s.rip & ~0xfffull) + g->page->addend);
	if (!collect(g, off) || g->n == 0)
		return NULL;
	liveness(g);
	if (!(key & XL_KEY_NOGROUP))
		find_groups(g);
	need = meta_size(g);
	if (xe->used + GEN_MAX_CODE > xe->size || xe->meta_used + need > xe->meta_size) {
		*full = true;
		return NULL;
	}
	g->b = (struct xl_block *)(xe->meta + xe->meta_used);
	memset(g->b, 0, sizeof(*g->b));
	g->b->gpa = g->page->gpa | off;
	g->b->key = g->key;
	g->b->version = g->version;
	g->b->verp = g->page->version;
	g->b->uops = (struct uop *)((char *)g->b + align_up(sizeof(struct xl_block) + g->n * sizeof(struct xl_insn), 64));
	memcpy(g->b->uops, g->uops, g->n_uops * sizeof(struct uop));
	g->a = (struct xasm){ .p = xe->rw + xe->used, .run = (uintptr_t)xe->rx + xe->used, .size = GEN_MAX_CODE };
	if (!emit_block(g))
		return NULL;
	memcpy(g->b->insns, g->faults, g->n_faults * sizeof(struct xl_insn));
	g->b->n_insns = (uint16_t)g->n_faults;
	g->b->code = (uint32_t)(xe->used + g->code0);
	g->b->code_len = g->a.n - g->code0;
	g->b->dead_ientry = (uint8_t *)xe->t.exit_rip_m;
	if (!xl_publish(xe, g->b))
		return NULL;
	xe->used += align_up(g->a.n, 16);
	xe->meta_used += align_up(need, 64);
	xe->n_bytes += g->a.n;
	return g->b;
}
