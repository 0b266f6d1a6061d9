/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * System instructions: those a kernel runs all the time are emitted inline or, in
 * 64-bit code, as light calls (light.c), and need not leave the block.
 *
 * What is inline relies on the block's key (CPL) and CPU model; what depends on
 * state that changes more freely is tested where it runs, and the odd case is a
 * callout, as for any other instruction.
 */
#include "cpu/translate/gen.h"

#include "cpu/x86/cpuid.h"

#define M(x) ZYDIS_MNEMONIC_##x

#define RFLAGS (XO(ic.c.s.rflags))

enum { SYS_CLI, SYS_STI, SYS_CLD, SYS_STD, SYS_SWAPGS, SYS_CLAC, SYS_STAC, SYS_RDTSC, SYS_RDTSCP, SYS_FROM_CR, SYS_FROM_SEG,
       SYS_LIGHT };

static bool has(const struct gen *g, enum x86_feature_word w, unsigned bit) { return x86_has(g->x->ic.c.model, w, BIT(bit)); }

/* At CPL 0. */
static int kernel_op(const struct gen *g, const struct insn *i)
{
	switch (i->mnemonic) {
	case M(CLI): return SYS_CLI;
	case M(STI): return SYS_STI;
	case M(SWAPGS): return SYS_SWAPGS;
	case M(CLAC): return has(g, X86_F_7_EBX, 20) ? SYS_CLAC : -1;
	case M(STAC): return has(g, X86_F_7_EBX, 20) ? SYS_STAC : -1;
	case M(SYSRET): return SYS_LIGHT + XL_LT_SYSRET;
	case M(IRETQ): return SYS_LIGHT + XL_LT_IRET;
	case M(INVLPG): return i->mem_seg == X86_CS ? -1 : SYS_LIGHT + XL_LT_INVLPG;
	case M(RDMSR): return SYS_LIGHT + XL_LT_RDMSR;
	case M(WRMSR): return SYS_LIGHT + XL_LT_WRMSR;
	case M(MOV):
		if (i->op[0].kind == INSN_OP_CR && i->op[0].reg == 3)
			return SYS_LIGHT + XL_LT_CR3;
		if (i->op[1].kind == INSN_OP_CR && (i->op[1].reg == 0 || (i->op[1].reg >= 2 && i->op[1].reg <= 4)))
			return SYS_FROM_CR;
		return -1;
	default: return -1;
	}
}

static int string_op(const struct gen *g, const struct insn *i, int op)
{
	return i->map == 0 && i->asz == g->word && i->mem_seg < X86_FS ? op : -1;
}

/* Has a memory operand whose linear address needs no check. */
static bool plain_address(const struct gen *g, const struct insn *i)
{
	return i->has_mem && (g->w || (i->asz == 4 && i->mem_seg < X86_FS && i->mem_seg != X86_CS));
}

static int op_of(const struct gen *g, const struct insn *i)
{
	if (i->encoding != INSN_LEGACY)
		return -1;
	switch (i->mnemonic) {
	case M(CLD): return SYS_CLD;
	case M(STD): return SYS_STD;
	case M(SYSCALL): return SYS_LIGHT + XL_LT_SYSCALL;
	case M(RDTSC): return SYS_RDTSC;
	case M(RDTSCP): return has(g, X86_F_81_EDX, 27) ? SYS_RDTSCP : -1;
	case M(PUSHFD): case M(PUSHFQ): return SYS_LIGHT + XL_LT_PUSHF;
	case M(POPFD): case M(POPFQ): return SYS_LIGHT + XL_LT_POPF;
	case M(BT): case M(BTS): case M(BTR): case M(BTC):
		return plain_address(g, i) && i->op[1].kind == INSN_OP_GPR ? SYS_LIGHT + XL_LT_BT : -1;
	case M(MOVSB): case M(MOVSW): case M(MOVSD): case M(MOVSQ): return string_op(g, i, SYS_LIGHT + XL_LT_MOVS);
	case M(STOSB): case M(STOSW): case M(STOSD): case M(STOSQ): return string_op(g, i, SYS_LIGHT + XL_LT_STOS);
	case M(LODSB): case M(LODSW): case M(LODSD): case M(LODSQ): return string_op(g, i, SYS_LIGHT + XL_LT_LODS);
	case M(SCASB): case M(SCASW): case M(SCASD): case M(SCASQ): return string_op(g, i, SYS_LIGHT + XL_LT_SCAS);
	case M(CMPSB): case M(CMPSW): case M(CMPSD): case M(CMPSQ): return string_op(g, i, SYS_LIGHT + XL_LT_CMPS);
	case M(RDFSBASE): case M(RDGSBASE): case M(WRFSBASE): case M(WRGSBASE): return SYS_LIGHT + XL_LT_BASE;
	case M(MOV):
		if (i->op[1].kind == INSN_OP_SEG && i->op[0].kind == INSN_OP_GPR)
			return SYS_FROM_SEG;
		if (i->op[1].kind == INSN_OP_SEG && i->has_mem)
			return SYS_LIGHT + XL_LT_SEG;
		break;
	default: break;
	}
	return XL_KEY_CPL(g->key) ? -1 : kernel_op(g, i);
}

/* CPL changes and paging of a 32-bit kernel are left to interp. */
static bool in_32bit_code(int op)
{
	switch (op) {
	case SYS_LIGHT + XL_LT_SYSCALL: case SYS_LIGHT + XL_LT_PUSHF: case SYS_LIGHT + XL_LT_POPF: case SYS_LIGHT + XL_LT_BT:
	case SYS_LIGHT + XL_LT_MOVS: case SYS_LIGHT + XL_LT_STOS: case SYS_LIGHT + XL_LT_LODS: case SYS_LIGHT + XL_LT_SCAS:
	case SYS_LIGHT + XL_LT_CMPS: return true;
	default: return op < SYS_LIGHT;
	}
}

bool gen_sys_classify(struct gen *g, struct gen_insn *gi)
{
	int op = op_of(g, &gi->i);

	if (op < 0 || (!g->w && !in_32bit_code(op)))
		return false;
	gi->kind = GI_SYS;
	gi->sys = (uint8_t)op;
	return true;
}

bool gen_sys_ends(const struct gen_insn *gi)
{
	switch (gi->sys) {
	case SYS_LIGHT + XL_LT_SYSCALL:
	case SYS_LIGHT + XL_LT_SYSRET:
	case SYS_LIGHT + XL_LT_IRET:
	case SYS_LIGHT + XL_LT_CR3:
	case SYS_LIGHT + XL_LT_INVLPG:
	case SYS_LIGHT + XL_LT_POPF:	/* as in interp */
	case SYS_LIGHT + XL_LT_WRMSR: return true;
	default: return false;
	}
}

bool gen_sys_flags(const struct gen_insn *gi)
{
	return gi->sys >= SYS_LIGHT || gi->sys == SYS_RDTSC || gi->sys == SYS_RDTSCP;
}

bool gen_sys_remaps(const struct gen_insn *gi) { return gen_sys_flags(gi) || gi->sys == SYS_CLAC || gi->sys == SYS_STAC; }

/* or/and dword [rsp + disp], imm32 */
static void alu_si(struct xasm *a, unsigned ext, int32_t disp, uint32_t v)
{
	a_rs(a, 0, 0x81, ext, disp);
	a_d(a, v);
}

static void set_flag(struct xasm *a, uint32_t flag) { alu_si(a, 1, RFLAGS, flag); }
static void clear_flag(struct xasm *a, uint32_t flag) { alu_si(a, 4, RFLAGS, ~flag); }

/*
 * Unless nothing waits for IF, interp does it, shadow and all.  Something may come
 * before the next instruction is through, and that may leave translated code (a
 * TLB miss; interp then does this one instruction): so the shadow is there for it,
 * and the emitter of instructions takes it away behind it, and where its store hits
 * code.  What branches by way of memory, or is in another block, is
 * out of its reach: interp again.
 */
static void emit_sti(struct gen *g, const struct gen_insn *gi)
{
	const struct gen_insn *next = gi + 1 < g->insn + g->n ? gi + 1 : NULL;
	struct xasm *a = &g->a;
	struct gen_slow *s = gen_slow_new(g, SLOW_CALLOUT);

	s->uop = gi->uop;
	if (!next || (next->kind >= GI_FIRST_END && next->kind != GI_JMP)) {
		s->at = a_jmp_fwd(a);
		s->back = a_here(a);
		return;
	}
	a_rs(a, 0, 0x0fb6, H_R10, XO(ic.c.intr_maybe));
	a_rs(a, 0, 0x0b, H_R10, XO(ic.c.vcpu.events));
	s->at = a_jcc_fwd(a, CC_NE);
	set_flag(a, X86_FL_IF);
	g->shadow = next->kind != GI_CALLOUT && next->kind != GI_SYS && next->kind != GI_JMP && !gen_conditional(next);
	if (g->shadow) {
		a_rs(a, 0, 0xc6, 0, XO(ic.c.s.shadow));	/* mov byte [shadow], X86_SHADOW_STI */
		a_b(a, X86_SHADOW_STI);
	}
	s->back = a_here(a);
}

void gen_shadow_over(struct gen *g)
{
	a_rs(&g->a, 0, 0xc6, 0, XO(ic.c.s.shadow));
	a_b(&g->a, 0);
}

void gen_shadow_ends(struct gen *g)
{
	if (!g->shadow)
		return;
	gen_shadow_over(g);
	g->shadow = false;
}

static void emit_swapgs(struct xasm *a)
{
	int32_t base = XO(ic.c.s.seg) + (int32_t)(X86_GS * sizeof(struct x86_seg) + offsetof(struct x86_seg, base));

	a_ld(a, H_R10, base);
	a_ld(a, H_R11, XO(ic.c.s.kernel_gs_base));
	a_st(a, H_R11, base);
	a_st(a, H_R10, XO(ic.c.s.kernel_gs_base));
}

/* From here on the block is of the other access class, and of its jump cache if that is for this mode. */
static void emit_acc(struct gen *g, const struct gen_insn *gi, bool ac)
{
	struct xasm *a = &g->a;
	struct gen_slow *s;

	g->acc = ac ? X86_ACC_SUP_AC : X86_ACC_SUP;
	a_rs(a, 0, 0x81, 7, XO(jc_key) + 4 * (int32_t)g->acc);
	a_d(a, (g->key & ~(XL_KEY_ACC_MASK | XL_KEY_NOGROUP)) | XL_KEY_OF_ACC(g->acc));
	s = gen_slow_new(g, SLOW_CALLOUT);
	s->at = a_jcc_fwd(a, CC_NE);
	s->uop = gi->uop;
	s->back = a_here(a);
	if (ac)
		set_flag(a, X86_FL_AC);
	else
		clear_flag(a, X86_FL_AC);
	a_rs(a, 0, 0xc6, 0, XO(ic.c.acc));
	a_b(a, g->acc);
	a_lea(a, 1, H_R10, H_RSP, H_NONE, 0, XO(ic.c.tlb) + (int32_t)(g->acc * sizeof(((struct x86_cpu *)0)->tlb[0])));
	a_st(a, H_R10, XO(ic.c.tlb_now));
}

static void emit_rdtsc(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;

	if (XL_KEY_CPL(g->key)) {
		struct gen_slow *s = gen_slow_new(g, SLOW_CALLOUT);

		a_rs(a, 0, 0xf7, 0, XO(ic.c.s.cr4));
		a_d(a, X86_CR4_TSD);
		s->at = a_jcc_fwd(a, CC_NE);
		s->uop = gi->uop;
	}
	if (gi->sys == SYS_RDTSCP)
		a_bytes(a, "\x0f\xae\xe8", 3);	/* lfence: not before what comes before */
	a_bytes(a, "\x0f\x31", 2);		/* rdtsc */
	a_shift_ri(a, 1, 4, H_RDX, 32);
	a_lea(a, 1, H_RAX, H_RAX, H_RDX, 0, 0);
	a_rs(a, 1, 0x03, H_RAX, XO(ic.c.tsc_base_offset));
	a_rs(a, 1, 0x03, H_RAX, XO(ic.c.s.tsc_offset));
	a_mov_rr(a, 1, H_RDX, H_RAX);
	a_shift_ri(a, 1, 5, H_RDX, 32);
	a_mov_rr(a, 0, H_RAX, H_RAX);
	if (gi->sys == SYS_RDTSCP)
		a_ld32(a, H_RCX, XO(ic.c.s.tsc_aux));
	if (XL_KEY_CPL(g->key)) {
		g->slow[g->n_slow - 1].back = a_here(a);
		g->vec_ok = g->x87_ok = false;	/* behind the callout */
	}
}

static void emit_from_cr(struct gen *g, const struct gen_insn *gi)
{
	static const int32_t at[5] = { XO(ic.c.s.cr0), 0, XO(ic.c.s.cr2), XO(ic.c.s.cr3), XO(ic.c.s.cr4) };
	unsigned reg = gi->i.op[0].reg;

	a_rs(&g->a, g->w, 0x8b, in_memory(reg) ? H_R10 : host_reg(reg), at[gi->i.op[1].reg]);
	if (in_memory(reg))
		a_st(&g->a, H_R10, XO_GPR(reg));
}

static void emit_from_seg(struct gen *g, const struct gen_insn *gi)
{
	int32_t sel = XO(ic.c.s.seg) + (int32_t)(gi->i.op[1].reg * sizeof(struct x86_seg) + offsetof(struct x86_seg, sel));
	bool whole = gi->i.op[0].size > 2;	/* zero-extended */
	unsigned reg = gi->i.op[0].reg;
	struct xasm *a = &g->a;

	a_rs(a, 0, 0x0fb7, H_R10, sel);
	if (!whole)
		a_b(a, 0x66);
	if (in_memory(reg))
		a_rs(a, whole, 0x89, H_R10, XO_GPR(reg));
	else
		a_rr(a, whole, 0x89, H_R10, host_reg(reg));
}

/* Registers that C keeps are not in memory for a light call, if it wants them. */
static void light_regs(struct gen *g, const struct insn *i, bool load)
{
	static const uint8_t kept[] = { X86_RBX, X86_RBP, 12, 13, 14, 15 };

	for (unsigned n = 0; n < sizeof(kept); n++) {
		bool uses = i->has_mem && (i->mem_base == kept[n] || i->mem_index == kept[n]), writes = false;

		for (unsigned k = 0; k < i->n_ops; k++) {
			if (i->op[k].kind != INSN_OP_GPR || i->op[k].reg != kept[n])
				continue;
			uses = true;
			writes |= i->op[k].write;
		}
		if (load ? writes : uses)
			a_rs(&g->a, 1, load ? 0x8b : 0x89, kept[n], XO_GPR(kept[n]));
	}
}

/* Where the block goes on after a light call that ends it. */
static void emit_light_end(struct gen *g, const struct gen_insn *gi)
{
	int32_t next = gi->off + gi->i.len;

	if (!gen_sys_ends(gi))
		return;
	switch (gi->sys) {
	case SYS_LIGHT + XL_LT_CR3:
	case SYS_LIGHT + XL_LT_INVLPG:	/* the next instruction's page may be another one now */
		gen_rip_at(g, H_R10, next);
		gen_indirect(g, gi, false, 0);
		break;
	case SYS_LIGHT + XL_LT_POPF:
	case SYS_LIGHT + XL_LT_WRMSR: gen_goto(g, gi, next); break;
	default: a_bytes(&g->a, "\x0f\x0b", 2); break;	/* it does not come back */
	}
}

static void emit_light(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;

	light_regs(g, &gi->i, false);
	a_mov_i(a, H_R10, (uintptr_t)&g->b->uops[gi->uop].u);
	a_call(a, g->xe->t.light[gi->sys - SYS_LIGHT]);
	g->vec_ok = g->x87_ok = false;	/* it may have become a callout */
	light_regs(g, &gi->i, true);
	emit_light_end(g, gi);
}

void gen_page2(struct gen *g)
{
	gen_flags_clobber(g, g->live_in);
	a_mov_i(&g->a, H_R10, (uintptr_t)g->b);
	a_call(&g->a, g->xe->t.light[XL_LT_PAGE2]);
}

void gen_sys(struct gen *g, const struct gen_insn *gi)
{
	struct xasm *a = &g->a;

	if (gi->sys == SYS_SWAPGS) {
		emit_swapgs(a);
		return;
	}
	if (gi->sys == SYS_FROM_CR) {
		emit_from_cr(g, gi);
		return;
	}
	if (gi->sys == SYS_FROM_SEG) {
		emit_from_seg(g, gi);
		return;
	}
	/* What may end in a callout leaves the flags in c->lf. */
	gen_flags_clobber(g, gen_sys_flags(gi) ? X86_FL_ARITH : gi->live_after);
	if (gen_sys_flags(gi))
		g->fl = FL_MEM;
	switch (gi->sys) {
	case SYS_CLI: clear_flag(a, X86_FL_IF); break;
	case SYS_STI: emit_sti(g, gi); break;
	case SYS_CLD: clear_flag(a, X86_FL_DF); break;
	case SYS_STD: set_flag(a, X86_FL_DF); break;
	case SYS_CLAC: emit_acc(g, gi, false); break;
	case SYS_STAC: emit_acc(g, gi, true); break;
	case SYS_RDTSC:
	case SYS_RDTSCP: emit_rdtsc(g, gi); break;
	default: emit_light(g, gi); break;
	}
}
