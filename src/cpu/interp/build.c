/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a decoded instruction to a uop: chooses the handler, prepares the
 * operands.  What is not spelled out here is an exec stub (SIMD, x87 and the
 * rest of what the host may execute for us), a system instruction (ops_sys.c), or
 * undefined.
 */
#include "cpu/interp/interp.h"

#define M(x) ZYDIS_MNEMONIC_##x

static uint8_t reg_off(const struct insn_op *o)
{
	return (uint8_t)(GPR_OFF(o->reg) + (o->high8 ? 1 : 0));
}

/* The immediate as encoded, sign-extended. */
static int64_t simm64(const struct insn *i)
{
	switch (i->imm_size) {
	case 1: return (int8_t)i->bytes[i->imm_off];
	case 2: return (int16_t)ld_le16(i->bytes + i->imm_off);
	case 4: return (int32_t)ld_le32(i->bytes + i->imm_off);
	case 8: return (int64_t)ld_le64(i->bytes + i->imm_off);
	default: return 0;
	}
}

/* The same where the architecture has no 64-bit ones. */
static int32_t simm(const struct insn *i) { return (int32_t)simm64(i); }

static unsigned log2_size(unsigned n) { return n == 1 ? 0 : n == 2 ? 1 : n == 4 ? 2 : 3; }

static uint8_t address_form(const struct x86_cpu *c, const struct insn *i)
{
	bool based = i->mem_seg >= X86_FS;

	if (c->mode == X86_MODE_LONG64) {
		if (i->asz == 8)
			return based ? EA_BASE64 : EA_FLAT64;
		return based ? EA_BASE64_A32 : EA_FLAT64_A32;
	}
	if (i->asz == 2)
		return EA_SEG16;
	return c->flat && !based && i->mem_seg != X86_CS ? EA_FLAT32 : EA_SEG;
}

static void set_mem(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	u->base = i->mem_base == INSN_NOREG || i->mem_base == INSN_RIP ? ZERO_OFF : GPR_OFF(i->mem_base);
	u->index = i->mem_index == INSN_NOREG || i->mem_vsib ? ZERO_OFF : GPR_OFF(i->mem_index);
	u->scale = i->mem_scale;
	u->disp = (int32_t)i->mem_disp;
	if (i->mem_base == INSN_RIP) {
		int64_t disp = i->mem_disp + u->off + i->len;

		u->base = BLK_RIP_OFF;
		if (disp > INT32_MAX) {
			u->index = ONE_GIB_OFF;
			u->scale = 0;
			disp -= 1 << 30;
		}
		u->disp = (int32_t)disp;
	}
	u->seg = i->mem_seg;
	u->ea = address_form(c, i);
	u->asz = i->asz;
}

/* Two-operand integer instruction in one of the FORM_* shapes. */
static bool set_alu(struct x86_cpu *c, struct uop *u, const struct insn *i, const uop_fn forms[FORM_N][4])
{
	const struct insn_op *d = &i->op[0], *s = &i->op[1];
	unsigned size = d->size, form;

	if (d->kind == INSN_OP_MEM) {
		set_mem(c, u, i);
		size = i->mem_size;
		if (s->kind == INSN_OP_IMM)
			form = i->lock ? FORM_LMI : FORM_MI;
		else
			form = i->lock ? FORM_LMR : FORM_MR;
	} else if (s->kind == INSN_OP_MEM) {
		set_mem(c, u, i);
		form = FORM_RM;
	} else {
		form = s->kind == INSN_OP_IMM ? FORM_RI : FORM_RR;
	}
	if (d->kind == INSN_OP_GPR)
		u->dst = reg_off(d);
	if (s->kind == INSN_OP_GPR)
		u->src = reg_off(s);
	u->imm = simm(i);
	u->osz = (uint8_t)size;
	u->fn = forms[form][log2_size(size)];
	return u->fn != NULL;
}

static int alu_of(uint16_t mn)
{
	switch (mn) {
	case M(ADD): return ALU_ADD;
	case M(OR): return ALU_OR;
	case M(ADC): return ALU_ADC;
	case M(SBB): return ALU_SBB;
	case M(AND): return ALU_AND;
	case M(SUB): return ALU_SUB;
	case M(XOR): return ALU_XOR;
	case M(CMP): return ALU_CMP;
	case M(TEST): return ALU_TEST;
	default: return -1;
	}
}

static int shift_of(uint16_t mn)
{
	switch (mn) {
	case M(ROL): return SH_ROL;
	case M(ROR): return SH_ROR;
	case M(RCL): return SH_RCL;
	case M(RCR): return SH_RCR;
	case M(SHL): return SH_SHL;
	case M(SHR): return SH_SHR;
	case M(SAR): return SH_SAR;
	default: return -1;
	}
}

static int unary_of(uint16_t mn)
{
	switch (mn) {
	case M(INC): return UN_INC;
	case M(DEC): return UN_DEC;
	case M(NEG): return UN_NEG;
	case M(NOT): return UN_NOT;
	default: return -1;
	}
}

static bool set_shift(struct x86_cpu *c, struct uop *u, const struct insn *i, int op)
{
	const struct insn_op *d = &i->op[0], *n = &i->op[1];
	bool mem = d->kind == INSN_OP_MEM, by_cl = n->kind == INSN_OP_GPR;
	unsigned size = mem ? i->mem_size : d->size;

	if (mem)
		set_mem(c, u, i);
	else
		u->dst = reg_off(d);
	u->imm = i->imm_size ? simm(i) : 1;
	u->osz = (uint8_t)size;
	u->fn = interp_shift[op][(by_cl ? 2 : 0) + (mem ? 1 : 0)][log2_size(size)];
	return true;
}

static bool set_unary(struct x86_cpu *c, struct uop *u, const struct insn *i, int op)
{
	bool mem = i->op[0].kind == INSN_OP_MEM;
	unsigned size = mem ? i->mem_size : i->op[0].size;

	if (mem)
		set_mem(c, u, i);
	else
		u->dst = reg_off(&i->op[0]);
	u->fn = interp_unary[op][mem ? (i->lock ? 2 : 1) : 0][log2_size(size)];
	return true;
}

/* MOV between the accumulator and a 64-bit absolute address. */
static bool set_moffs(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	bool load = i->op[0].kind == INSN_OP_GPR;

	u->ea = address_form(c, i);
	u->seg = i->mem_seg;
	u->imm64 = i->mem_disp;
	u->osz = i->mem_size;
	u->fn = load ? op_mov_ao : op_mov_oa;
	return true;
}

static bool set_mov(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	const struct insn_op *d = &i->op[0], *s = &i->op[1];
	unsigned size = d->kind == INSN_OP_MEM ? i->mem_size : d->size, form;

	if (i->disp_size == 8)
		return set_moffs(c, u, i);
	if (i->has_mem)
		set_mem(c, u, i);
	if (d->kind == INSN_OP_GPR)
		u->dst = reg_off(d);
	if (s->kind == INSN_OP_GPR)
		u->src = reg_off(s);
	if (i->has_mem)
		u->imm = simm(i);
	else
		u->imm64 = simm64(i);
	if (d->kind == INSN_OP_MEM)
		form = s->kind == INSN_OP_IMM ? 4 : 2;
	else
		form = s->kind == INSN_OP_MEM ? 1 : s->kind == INSN_OP_IMM ? 3 : 0;
	u->osz = (uint8_t)size;
	u->fn = interp_mov[form][log2_size(size)];
	return true;
}

static bool set_movx(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	const struct insn_op *d = &i->op[0], *s = &i->op[1];
	bool mem = s->kind == INSN_OP_MEM;
	unsigned from = mem ? i->mem_size : s->size;

	if (mem)
		set_mem(c, u, i);
	else
		u->src = reg_off(s);
	u->dst = reg_off(d);
	u->fn = interp_movx[i->mnemonic != M(MOVZX)][mem][log2_size(from)][log2_size(d->size)];
	return u->fn != NULL;
}

/* Source operand in src or memory (aux), as ops_alu.c's source() wants it. */
static void set_source(struct x86_cpu *c, struct uop *u, const struct insn *i, unsigned k)
{
	u->aux = i->op[k].kind == INSN_OP_MEM;
	if (u->aux)
		set_mem(c, u, i);
	else
		u->src = reg_off(&i->op[k]);
}

/* An instruction whose first operand is register or memory and whose second is a register. */
static void set_rm_r(struct x86_cpu *c, struct uop *u, const struct insn *i, uop_fn reg, uop_fn mem)
{
	bool m = i->op[0].kind == INSN_OP_MEM;

	u->osz = m ? i->mem_size : i->op[0].size;
	if (m)
		set_mem(c, u, i);
	else
		u->dst = reg_off(&i->op[0]);
	if (i->op[1].kind == INSN_OP_GPR)
		u->src = reg_off(&i->op[1]);
	u->fn = m ? mem : reg;
}

static bool set_branch(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	bool lm = c->mode == X86_MODE_LONG64;

	u->disp = u->off + i->len;
	u->imm = simm(i);
	u->osz = lm ? 8 : i->osz;
	u->asz = i->asz;
	if (i->map == 0 && (i->opcode & 0xf0) == 0x70) {
		u->fn = interp_jcc[i->opcode & 15];
	} else if (i->map == 1 && (i->opcode & 0xf0) == 0x80) {
		u->fn = interp_jcc[i->opcode & 15];
	} else if (i->opcode >= 0xe0 && i->opcode <= 0xe2) {
		u->aux = i->opcode == 0xe2 ? 0 : i->opcode == 0xe1 ? 1 : 2;
		u->fn = op_loop;
	} else if (i->opcode == 0xe3) {
		u->fn = op_jcxz;
	} else if (i->mnemonic == M(CALL)) {
		u->fn = lm ? op_call64 : op_call;
	} else {
		u->fn = op_jmp;
	}
	return true;
}

static bool set_indirect(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	bool call = i->mnemonic == M(CALL), mem = i->has_mem;

	u->osz = c->mode == X86_MODE_LONG64 ? 8 : i->osz;
	if (mem)
		set_mem(c, u, i);
	else
		u->src = reg_off(&i->op[0]);
	u->fn = call ? (mem ? op_call_m : op_call_r) : (mem ? op_jmp_m : op_jmp_r);
	return true;
}

static bool set_stack(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	bool push = i->mnemonic == M(PUSH);
	const struct insn_op *o = &i->op[0];
	bool fast64 = c->mode == X86_MODE_LONG64 && i->osz == 8, fast32 = c->flat && i->osz == 4;

	u->osz = i->osz;
	if (o->kind == INSN_OP_MEM) {
		set_mem(c, u, i);
		u->fn = push ? op_push_m : op_pop_m;
		return true;
	}
	if (o->kind == INSN_OP_IMM) {
		u->imm = simm(i);
		u->aux = 1;
		u->fn = fast64 ? op_push64_i : fast32 ? op_push32_i : op_push;
		return true;
	}
	u->src = u->dst = reg_off(o);
	if (push)
		u->fn = fast64 ? op_push64_r : fast32 ? op_push32_r : op_push;
	else
		u->fn = fast64 ? op_pop64_r : fast32 ? op_pop32_r : op_pop;
	return true;
}

/* A4..A7 AA..AF 6C..6F; the same mnemonics name SSE instructions in other maps. */
static bool set_string(struct uop *u, const struct insn *i)
{
	static const struct { uint8_t op; uop_fn fn; } ops[] = {
		{ 0xa4, op_movs }, { 0xa6, op_cmps }, { 0xaa, op_stos }, { 0xac, op_lods }, { 0xae, op_scas },
		{ 0x6c, op_ins }, { 0x6e, op_outs },
	};

	if (i->map != 0 || i->encoding != INSN_LEGACY)
		return false;
	for (unsigned k = 0; k < ARRAY_LEN(ops); k++) {
		if (ops[k].op != (i->opcode & 0xfe))
			continue;
		u->fn = ops[k].fn;
		u->osz = i->opcode & 1 ? i->osz : 1;
		if ((i->opcode & 0xfc) == 0x6c && u->osz == 8)
			u->osz = 4;
		u->asz = i->asz;
		u->seg = i->mem_seg;
		u->rep = i->rep ? 0xf3 : i->repne ? 0xf2 : 0;
		return true;
	}
	return false;
}

static bool set_bit_test(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	u->aux = i->mnemonic == M(BT) ? 0 : i->mnemonic == M(BTS) ? 1 : i->mnemonic == M(BTR) ? 2 : 3;
	set_rm_r(c, u, i, op_bt_r, op_bt_m);
	u->rep = i->op[1].kind == INSN_OP_IMM;
	u->imm = i->imm_size ? (uint8_t)simm(i) : 0;
	if (i->has_mem) {
		u->dst = i->lock;
		if (u->rep)
			u->imm &= u->osz * 8 - 1;
	}
	return true;
}

static bool set_muldiv(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	unsigned last;

	u->osz = i->op[0].kind == INSN_OP_MEM ? i->mem_size : i->op[0].size;
	if (i->mnemonic != M(IMUL) || (i->map == 0 && (i->opcode & 0xfe) == 0xf6)) {
		set_source(c, u, i, 0);
		u->fn = i->mnemonic == M(MUL) ? op_mul : i->mnemonic == M(IMUL) ? op_imul1
			: i->mnemonic == M(DIV) ? op_div : op_idiv;
		return true;
	}
	last = 1;
	set_source(c, u, i, last);
	u->dst = reg_off(&i->op[0]);
	u->rep = i->imm_size != 0;
	u->imm = simm(i);
	u->fn = op_imul2;
	return true;
}

static bool set_lea(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	set_mem(c, u, i);
	u->dst = reg_off(&i->op[0]);
	u->fn = i->op[0].size == 8 ? op_lea64 : i->op[0].size == 4 ? op_lea32 : op_lea16;
	return true;
}

static uint8_t cond_of(const struct insn *i) { return i->opcode & 15; }

/* Classic integer instructions. False: not one of them. *ends: closes the block. */
static bool build_integer(struct x86_cpu *c, struct uop *u, const struct insn *i, bool *ends)
{
	int k;

	if ((k = alu_of(i->mnemonic)) >= 0)
		return set_alu(c, u, i, interp_alu[k]);
	if ((k = shift_of(i->mnemonic)) >= 0)
		return set_shift(c, u, i, k);
	if ((k = unary_of(i->mnemonic)) >= 0)
		return set_unary(c, u, i, k);
	if (set_string(u, i))
		return true;
	u->osz = i->osz;
	u->asz = i->asz;
	switch (i->mnemonic) {
	case M(MOV): return set_mov(c, u, i);
	case M(MOVZX):
	case M(MOVSX):
	case M(MOVSXD):
		if (i->mnemonic == M(MOVSXD) && i->op[0].size == 4)
			return set_mov(c, u, i);	/* no extension to do */
		return set_movx(c, u, i);
	case M(LEA): return set_lea(c, u, i);
	case M(PUSH):
	case M(POP): return set_stack(c, u, i);
	case M(NOP): case M(PREFETCHT0): case M(PREFETCHT1): case M(PREFETCHT2): case M(PREFETCHNTA):
	case M(PREFETCH): case M(PREFETCHW): case M(PREFETCHWT1): case M(ENDBR64): case M(ENDBR32):
	case M(SERIALIZE): case M(CLDEMOTE):
		u->fn = op_nop;
		return true;
	case M(PAUSE): u->fn = op_pause; return true;
	case M(XCHG):
		if (i->op[1].kind == INSN_OP_MEM) {	/* memory may be named second */
			u->osz = i->mem_size;
			set_mem(c, u, i);
			u->src = reg_off(&i->op[0]);
			u->fn = op_xchg_mr;
			return true;
		}
		set_rm_r(c, u, i, op_xchg_rr, op_xchg_mr);
		return true;
	case M(CMPXCHG): set_rm_r(c, u, i, op_cmpxchg_r, op_cmpxchg_m); return true;
	case M(XADD): set_rm_r(c, u, i, op_xadd_r, op_xadd_m); return true;
	case M(CMPXCHG8B): set_mem(c, u, i); u->fn = op_cmpxchg8b; return true;
	case M(CMPXCHG16B): set_mem(c, u, i); u->fn = op_cmpxchg16b; return true;
	case M(BSWAP): u->dst = reg_off(&i->op[0]); u->osz = i->op[0].size; u->fn = op_bswap; return true;
	case M(BT): case M(BTS): case M(BTR): case M(BTC): return set_bit_test(c, u, i);
	case M(BSF): case M(BSR):
		u->osz = i->op[0].size;
		u->dst = reg_off(&i->op[0]);
		u->rep = i->mnemonic == M(BSR);
		set_source(c, u, i, 1);
		u->fn = op_bsx;
		return true;
	case M(SHLD): case M(SHRD):
		set_rm_r(c, u, i, op_shxd_r, op_shxd_m);
		u->aux = i->mnemonic == M(SHRD);
		u->imm = i->imm_size ? (uint8_t)simm(i) : -1;
		return true;
	case M(MUL): case M(IMUL): case M(DIV): case M(IDIV): return set_muldiv(c, u, i);
	case M(CBW): case M(CWDE): case M(CDQE): u->fn = op_cbw; return true;
	case M(CWD): case M(CDQ): case M(CQO): u->fn = op_cwd; return true;
	case M(CMC): u->fn = op_cmc; return true;
	case M(CLC): u->fn = op_clc; return true;
	case M(STC): u->fn = op_stc; return true;
	case M(CLD): u->fn = op_cld; return true;
	case M(STD): u->fn = op_std; return true;
	case M(LAHF): u->fn = op_lahf; return true;
	case M(SAHF): u->fn = op_sahf; return true;
	case M(SALC): u->fn = op_salc; return true;
	case M(XLAT): u->seg = i->mem_seg; u->ea = address_form(c, i); u->fn = op_xlat; return true;
	case M(DAA): case M(DAS): case M(AAA): case M(AAS): case M(AAM): case M(AAD):
		u->aux = i->opcode;
		u->imm = simm(i);
		u->fn = op_bcd;
		return true;
	case M(PUSHA): case M(PUSHAD): u->fn = op_pusha; return true;
	case M(POPA): case M(POPAD): u->fn = op_popa; return true;
	case M(LEAVE): u->fn = op_leave; return true;
	case M(ENTER):
		u->imm = ld_le16(i->bytes + i->imm_off);
		u->aux = i->bytes[i->imm_off + 2];
		u->fn = op_enter;
		return true;
	case M(BOUND):
		set_mem(c, u, i);
		u->dst = reg_off(&i->op[0]);
		u->osz = i->op[0].size;
		u->fn = op_bound;
		return true;
	case M(RET):
		*ends = true;
		u->imm = i->imm_size ? (uint16_t)simm(i) : 0;
		u->osz = c->mode == X86_MODE_LONG64 ? 8 : i->osz;
		u->fn = c->mode == X86_MODE_LONG64 ? op_ret64 : op_ret;
		return true;
	default: break;
	}
	if (i->mnemonic == M(CALL) || i->mnemonic == M(JMP) || i->op[0].kind == INSN_OP_REL) {
		*ends = true;
		return i->op[0].kind == INSN_OP_REL ? set_branch(c, u, i) : set_indirect(c, u, i);
	}
	if (i->map == 1 && (i->opcode & 0xf0) == 0x90 && i->encoding == INSN_LEGACY) {
		set_rm_r(c, u, i, op_setcc_r, op_setcc_m);
		u->aux = cond_of(i);
		return true;
	}
	if (i->map == 1 && (i->opcode & 0xf0) == 0x40 && i->encoding == INSN_LEGACY) {
		u->osz = i->op[0].size;
		u->dst = reg_off(&i->op[0]);
		if (i->op[1].kind == INSN_OP_MEM)
			set_mem(c, u, i);
		else
			u->src = reg_off(&i->op[1]);
		u->fn = i->op[1].kind == INSN_OP_MEM ? op_cmov_m : op_cmov_r;
		u->aux = cond_of(i);
		return true;
	}
	return false;
}

/* Operands of a system instruction as ops_sys.c expects them. */
static void set_system(struct x86_cpu *c, struct uop *u, const struct insn *i)
{
	const struct insn_op *d = &i->op[0], *s = &i->op[1];
	bool lm = c->mode == X86_MODE_LONG64;

	u->osz = i->osz;
	u->asz = i->asz;
	u->imm = simm(i);
	u->aux = i->has_mem;
	if (i->has_mem)
		set_mem(c, u, i);
	for (unsigned k = 0; k < 2; k++)
		if (i->op[k].kind == INSN_OP_SEG && !i->op[k].hidden)
			u->rep = i->op[k].reg;
	if (d->kind == INSN_OP_GPR) {
		u->dst = reg_off(d);
		u->src = s->kind == INSN_OP_GPR ? reg_off(s) : u->dst;
	} else if (s->kind == INSN_OP_GPR) {
		u->src = reg_off(s);
	}
	switch (i->mnemonic) {
	case M(MOV):
		if (d->kind == INSN_OP_CR || d->kind == INSN_OP_DR)
			u->aux = d->reg;
		else if (s->kind == INSN_OP_CR || s->kind == INSN_OP_DR)
			u->aux = s->reg;
		else if (d->kind == INSN_OP_GPR)
			u->osz = d->size;
		break;
	case M(PUSHF): case M(POPF): u->osz = 2; break;
	case M(PUSHFD): case M(POPFD): u->osz = 4; break;
	case M(PUSHFQ): case M(POPFQ): u->osz = 8; break;
	case M(IRET): u->osz = 2; break;
	case M(IRETD): u->osz = 4; break;
	case M(IRETQ): u->osz = 8; break;
	case M(SYSRET): case M(SYSEXIT): u->osz = i->rex_w ? 8 : 4; break;
	case M(INT3): u->imm = X86_EX_BP; break;
	case M(INT): u->imm = (uint8_t)u->imm; break;
	case M(RET): u->imm = i->imm_size ? (uint16_t)u->imm : 0; break;
	case M(CALL):
	case M(JMP):
		if (d->kind == INSN_OP_PTR) {
			u->imm = (int32_t)d->imm;
			u->disp = i->ptr_sel;
		}
		break;
	case M(LDS): u->rep = X86_DS; break;
	case M(LES): u->rep = X86_ES; break;
	case M(LFS): u->rep = X86_FS; break;
	case M(LGS): u->rep = X86_GS; break;
	case M(LSS): u->rep = X86_SS; break;
	case M(RDFSBASE): u->rep = X86_FS; u->aux = 0; u->osz = d->size; break;
	case M(RDGSBASE): u->rep = X86_GS; u->aux = 0; u->osz = d->size; break;
	case M(WRFSBASE): u->rep = X86_FS; u->aux = 1; u->osz = d->size; break;
	case M(WRGSBASE): u->rep = X86_GS; u->aux = 1; u->osz = d->size; break;
	case M(INVPCID): u->osz = lm ? 8 : 4; break;
	case M(SLDT): case M(STR): case M(SMSW): case M(LAR): case M(LSL):
		if (d->kind == INSN_OP_GPR)
			u->osz = d->size;
		break;
	case M(IN):
		u->osz = d->size;
		u->aux = s->kind == INSN_OP_IMM;
		u->imm = (uint8_t)u->imm;
		break;
	case M(OUT):
		u->osz = s->size;
		u->aux = d->kind == INSN_OP_IMM;
		u->imm = (uint8_t)u->imm;
		break;
	default: break;
	}
}

static bool build_exec(struct interp_cpu *ic, struct uop *u, const struct insn *i)
{
	const struct exec *x;

	if (!exec_handles(i))
		return false;
	x = exec_get(ic->exec, i);
	if (!x)
		return false;
	uop_set_exec(ic, u, x);
	u->fn = op_exec;
	if (i->has_mem) {
		set_mem(&ic->c, u, i);
		u->osz = i->mem_size ? i->mem_size : 1;
		if (i->mnemonic == M(FNSAVE) || i->mnemonic == M(FRSTOR))
			u->osz = (i->ssz == 2) != i->has_66 ? 94 : 108;
		u->aux = i->mem_write;
		u->fn = op_exec_mem;
	}
	return true;
}

bool interp_build(struct interp_cpu *ic, struct uop *u, const struct insn *i)
{
	struct x86_cpu *c = &ic->c;
	bool ends = false;
	sys_fn fn;

	u->len = i->len;
	u->base = u->index = ZERO_OFF;
	u->seg = i->mem_seg;
	if (i->encoding == INSN_LEGACY && (fn = interp_sys(i, &ends)) != NULL) {
		set_system(c, u, i);
		uop_set_sys(u, fn);
		u->fn = ends ? op_sys_end : op_sys_cont;
		return ends;
	}
	ends = false;
	if (build_exec(ic, u, i))
		return false;
	if (i->encoding == INSN_LEGACY && build_integer(c, u, i, &ends))
		return ends;
	u->fn = op_ud;
	return true;
}
