/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pass one: decodes and classifies what a block is made of.  Pass two: which
 * arithmetic flags are live where.
 */
#include "cpu/translate/gen.h"

#include "cpu/interp/exec_priv.h"

#define M(x) ZYDIS_MNEMONIC_##x

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
	case M(CMC): case M(CLC): case M(STC): case M(LAHF): case M(SAHF): case M(LFENCE): case M(MFENCE): case M(SFENCE):
		return true;
	case M(BT): case M(BTS): case M(BTR): case M(BTC):
		return !i->has_mem || i->op[1].kind == INSN_OP_IMM;	/* a register reaches beyond the operand */
	default:
		return i->map == 1 && ((i->opcode & 0xf0) == 0x90 || (i->opcode & 0xf0) == 0x40) &&
		       i->op[0].kind != INSN_OP_K;		/* SETcc, CMOVcc */
	}
}

/* C in interp, which has the registers in memory. */
static bool needs_no_stub(const struct insn *i)
{
	switch (i->mnemonic) {
	case M(VZEROUPPER): case M(VZEROALL): return i->ssz == 8;	/* of eight registers elsewhere */
	case M(STMXCSR): case M(VSTMXCSR): return true;
	default: return false;
	}
}

/* Vector and bit-manipulation instructions: those with an exec stub whose
 * conditions hold for this block's key. */
static bool stub_copies(struct gen *g, struct gen_insn *gi)
{
	const struct insn *i = &gi->i;
	bool as_is = needs_no_stub(i);
	const struct exec *x;

	if (!exec_handles(i) || !(x = exec_get(g->xe->exec, i)) || !(x->code || as_is) || !x->features_ok ||
	    (x->x87 != EXEC_X87_NONE && !gen_x87_copies(g, gi, x)))
		return false;
	gi->masked = i->has_mem && x->run == exec_run_masked && x->o.mask == OP_MASK_ELEM;
	if (as_is)
		;
	else if (i->has_mem ? (!gi->masked && (x->run != exec_run_mem || x->o.mask != OP_MASK_NONE)) || !x->mem_size : !exec_is_plain_reg(x))
		return false;
	gi->aligned = x->align;
	gi->i.mem_size = x->mem_size;
	gi->i.mem_read = x->mem_read;
	gi->i.mem_write = x->mem_write;
	switch (x->o.state) {
	case OP_STATE_INT: case OP_STATE_X87: case OP_STATE_MMX: return true;
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
	bool moffs64 = i->has_mem && !i->has_modrm && i->ssz == 8;
	unsigned spare = i->has_mem ? 1 : 2;

	memset(gi->as, INSN_NOREG, sizeof(gi->as));
	for (unsigned k = 0; k < i->n_ops; k++) {
		const struct insn_op *o = &i->op[k];
		unsigned as;

		if (o->kind == INSN_OP_SEG || o->kind == INSN_OP_CR || o->kind == INSN_OP_DR || o->kind == INSN_OP_MEM_IMPL ||
		    (!gi->x87 && (o->kind == INSN_OP_X87 || o->kind == INSN_OP_MMX)))
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
	return !(gi->high8 && gi->renamed) && !i->mem_vsib && !moffs64;
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
	if (i->map == 0 && (i->opcode == 0xe2 || i->opcode == 0xe3) && i->asz >= 4)
		return GI_COUNT;
	return GI_CALLOUT;
}

static uint8_t stack_kind(const struct insn *i)
{
	if (i->encoding != INSN_LEGACY || i->osz != i->ssz)
		return GI_CALLOUT;
	if (i->mnemonic == M(PUSH) && (i->op[0].kind == INSN_OP_GPR || i->op[0].kind == INSN_OP_IMM))
		return GI_PUSH;
	if (i->mnemonic == M(PUSH) && i->op[0].kind == INSN_OP_MEM)
		return GI_PUSH_MEM;
	if (i->mnemonic == M(POP) && i->op[0].kind == INSN_OP_GPR)
		return GI_POP;
	return i->mnemonic == M(LEAVE) ? GI_LEAVE : GI_CALLOUT;
}

/* Can gen_ea form the address? */
static bool address_fits(const struct gen_insn *gi)
{
	int64_t d = gi->i.mem_disp + (gi->i.mem_base == INSN_RIP ? gi->off + gi->i.len : 0);

	if (gi->i.ssz != 8)	/* 16-bit addresses wrap elsewhere; data in CS may not be readable */
		return gi->i.asz == 4 && gi->i.mem_seg != X86_CS && !gi->i.mem_vsib;
	return d == (int32_t)d && !gi->i.mem_vsib;
}

static void classify(struct gen *g, struct gen_insn *gi)
{
	const struct insn *i = &gi->i;

	gi->kind = GI_CALLOUT;
	if (is_nop(i) || (i->mnemonic == M(PAUSE) && g->x->ic.c.vcpu.m->n_vcpus == 1)) {	/* there is nobody to wait for */
		gi->kind = GI_NOP;
	} else if ((i->has_mem && !address_fits(gi)) || gen_sys_classify(g, gi)) {
		return;
	} else if (i->mnemonic == M(LEA) && i->encoding == INSN_LEGACY) {
		gi->kind = i->op[0].size >= 4 ? GI_LEA : GI_CALLOUT;
	} else if ((gi->kind = stack_kind(i)) != GI_CALLOUT || (gi->kind = control_kind(i)) != GI_CALLOUT) {
		;
	} else if ((copies_well(i) || stub_copies(g, gi) || gen_x87_control(g, gi)) && plan_registers(gi) &&
		   (!i->has_mem || i->mem_size) && (i->ssz == 8 || gen_copies32(g, gi))) {
		gi->kind = GI_COPY;
		gi->aligned |= i->mnemonic == M(CMPXCHG16B);
	}
	if (gi->kind != GI_COPY) {
		gi->vec = false;
		gi->x87 = GX_NONE;
	}
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
		return X86_FL_ARITH;	/* AF and OF have no value then that depends on what they were */
	/* So has AF here: the instruction itself gives it whatever it gets on silicon. */
	case M(AND): case M(OR): case M(XOR): case M(TEST): return i->flags_written & X86_FL_ARITH;
	case M(BSF): case M(BSR): return X86_FL_ZF;
	default: return i->flags_defined & X86_FL_ARITH;
	}
}

static void flag_use(struct gen_insn *gi)
{
	const struct insn *i = &gi->i;

	switch (gi->kind) {
	case GI_SYS:
	case GI_CALLOUT:
		if (gi->kind == GI_SYS && !gen_sys_flags(gi))
			break;
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
	return insn_decode_memo(&g->x->ic.memo, i, g->bytes + off, MIN((unsigned)PAGE_4K - off, INSN_MAX_LEN), g->bits) == 0;
}

/* False: the page has changed since its first bytes were looked at. */
static bool mark(struct gen *g, unsigned from, unsigned to)
{
	uint64_t granules;
	uint32_t v;

	to = MIN(to, (unsigned)PAGE_4K);
	granules = (~0ull << from / X86_CODE_GRANULE) & (~0ull >> (63 - (to - 1) / X86_CODE_GRANULE));
	if (!(granules & ~g->marked))
		return true;
	v = x86_codemap_mark(g->x->ic.c.codemap, g->page, from, to - from);
	if (!g->marked)
		g->version = v;
	g->marked |= granules;
	return v == g->version;
}

/* The instruction at `off` ends on the next page, as that is mapped now. */
static bool straddles(struct gen *g, unsigned off, struct insn *i)
{
	struct x86_cpu *c = &g->x->ic.c;
	uint64_t lin = (c->s.rip & ~0xfffull) + PAGE_4K;
	unsigned first = (unsigned)PAGE_4K - off;
	const struct x86_tlb_entry *e;
	uint8_t bytes[INSN_MAX_LEN];
	uint32_t err;

	if (!g->w)
		lin = (uint32_t)lin;
	if (first >= INSN_MAX_LEN || x86_tlb_look(c, lin, X86_EXEC, (enum x86_acc)c->acc, &e, &err) != X86_LOOK_OK)
		return false;
	g->version2 = x86_codemap_mark(c->codemap, e, 0, INSN_MAX_LEN - first);
	memcpy(bytes, g->bytes + off, first);
	memcpy(bytes + first, (const void *)(lin + e->addend), INSN_MAX_LEN - first);
	if (insn_decode(i, bytes, INSN_MAX_LEN, g->bits) < 0 || i->len <= first)
		return false;
	g->verp2 = e->version;
	return true;
}

static bool build_uop(struct gen *g, struct gen_insn *gi)
{
	struct interp_cpu *ic = &g->x->ic;
	struct exec_cache *own = ic->exec;
	const char *own_stubs = ic->stubs;
	struct uop *u = &g->uops[g->n_uops].u;
	bool ends;

	memset(u, 0, sizeof(*u));
	u->off = gi->off;
	g->uops[g->n_uops].mnemonic = gi->i.mnemonic;
	gi->uop = g->n_uops++;
	ic->exec = g->xe->exec;
	ic->stubs = exec_cache_pool(g->xe->exec);
	ends = interp_build(ic, u, &gi->i);
	ic->exec = own;
	ic->stubs = own_stubs;
	return ends;
}

/*
 * Keeps account of flags that have no defined value (g->undefined: at some exit), which interp and
 * the host may give different ones.  True: gi looks at one that the block left; where the two are
 * compared, the block ends before.
 */
static bool reads_undefined(struct gen *g, const struct gen_insn *gi)
{
	if (g->n && (gi->reads & g->undefined_now))
		return true;
	if (gen_conditional(gi) || gi->kind >= GI_FIRST_END)
		g->undefined |= g->undefined_now;
	if (gi->kind == GI_COPY)
		g->undefined_now = (g->undefined_now & ~gi->kill) | (gi->i.flags_written & ~gi->i.flags_defined & X86_FL_ARITH);
	return false;
}

/* False: the code changed under our hands. */
bool gen_collect(struct gen *g, unsigned off)
{
	unsigned jccs = 0, start = off;

	for (g->n = 0; g->n < XL_MAX_INSNS; ) {
		struct gen_insn *gi = &g->insn[g->n];
		bool ends;

		if (off >= PAGE_4K)
			return true;
		if (!mark(g, off, off + INSN_MAX_LEN))
			return false;
		memset(gi, 0, sizeof(*gi));
		/* What is undefined is interp's; what straddles is a block of its own. */
		if (!decode_at(g, off, &gi->i) && (g->n || !straddles(g, off, &gi->i)))
			return true;
		gi->off = (uint16_t)off;
		gi->group = GEN_NO_GROUP;
		classify(g, gi);
		flag_use(gi);
		if (reads_undefined(g, gi) && g->xe->turn)
			return true;
		ends = gi->kind >= GI_FIRST_END;
		if (gi->kind == GI_CALLOUT)
			ends = build_uop(g, gi);
		if (gi->kind == GI_SYS) {
			build_uop(g, gi);
			ends = gen_sys_ends(gi);
		}
		gi->ends = ends;
		g->n++;
		off += gi->i.len;
		g->next = off;
		if (ends || (gen_conditional(gi) && ++jccs == XL_MAX_JCCS))
			return true;
		if (gi->kind == GI_JCC && !g->loop && gen_target_of(gi) == (int32_t)start) {
			g->copies = gen_loop_copies(g);
			g->loop = g->copies ? g->n : 0;
			g->plain = g->loop && (g->key & XL_KEY_NOGROUP);
			if (g->plain)
				return true;
		}
		if (gi->kind == GI_JCC && g->n < g->loop * g->copies) {
			gi->inverted = true;
			jccs--;
			off = start;
		}
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
			gi.kind = copies_well(&gi.i) || gi.i.isa == INSN_ISA_X87 || gi.i.isa == INSN_ISA_MMX ? GI_COPY : GI_CALLOUT;
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

void gen_liveness(struct gen *g)
{
	const struct gen_insn *last = &g->insn[g->n - 1];
	uint32_t live = X86_FL_ARITH;

	if (last->kind == GI_JMP || last->kind == GI_CALL)
		live = wanted_at(g, gen_target_of(last));
	else if (!last->ends)
		live = wanted_at(g, (int32_t)g->next);
	g->live_out = live;
	for (unsigned n = g->n; n-- > 0; ) {
		struct gen_insn *gi = &g->insn[n];

		gi->live_after = live;
		if (gen_conditional(gi))
			live |= wanted_at(g, gen_target_of(gi));
		live = gi->reads | (live & ~gi->kill);
		gi->need = live;
	}
	g->live_in = live;
}
