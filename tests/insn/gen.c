/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random instructions that may run in user mode, with a state that makes them
 * do something: memory operands mostly land in the data pages, at all
 * alignments and across page ends; vector registers hold integers, floating
 * point numbers and special values.
 *
 * Left out: what user mode may not or cannot compare (I/O, system calls, time,
 * CPUID, random numbers), far transfers, segment loads, FS and GS (they belong
 * to the C library in the child), and flags that would end the experiment.
 */
#include <string.h>

#include "base/bits.h"
#include "cpu/x86/decode.h"
#include "rig.h"

static uint64_t next(uint64_t *s)
{
	uint64_t z = *s += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static unsigned upto(uint64_t *s, unsigned n) { return (unsigned)(next(s) % n); }
static bool chance(uint64_t *s, unsigned percent) { return upto(s, 100) < percent; }

/* --- bytes --- */
struct code {
	uint8_t b[24];
	unsigned n, bits;
};

static void add(struct code *c, unsigned v)
{
	if (c->n < sizeof(c->b))
		c->b[c->n++] = (uint8_t)v;
}

static void add_operands(uint64_t *s, struct code *c)
{
	uint8_t modrm = (uint8_t)next(s);

	if (chance(s, 30))
		modrm |= 0xc0;
	add(c, modrm);
	if (modrm < 0xc0 && (modrm & 7) == 4)
		add(c, (unsigned)next(s));
	for (unsigned n = 0; n < 10; n++)	/* displacement and immediate: as many as it takes */
		add(c, (unsigned)next(s));
}

static void add_prefixes(uint64_t *s, struct code *c, unsigned map)
{
	static const uint8_t segs[] = { 0x26, 0x2e, 0x36, 0x3e };
	unsigned rep = map ? 30 : 8;

	if (chance(s, 3))
		add(c, segs[upto(s, 4)]);
	if (chance(s, 25))
		add(c, 0x66);
	if (chance(s, 4))
		add(c, 0x67);
	if (chance(s, rep))
		add(c, chance(s, 50) ? 0xf2 : 0xf3);
	if (map < 2 && chance(s, 2))
		add(c, 0xf0);
	if (c->bits == 64 && chance(s, 55))
		add(c, 0x40 | upto(s, 16));
}

static void legacy(uint64_t *s, struct code *c, unsigned map)
{
	add_prefixes(s, c, map);
	if (map)
		add(c, 0x0f);
	if (map > 1)
		add(c, map == 2 ? 0x38 : 0x3a);
	add(c, (unsigned)next(s));
	add_operands(s, c);
}

static void x87(uint64_t *s, struct code *c)
{
	add(c, 0xd8 + upto(s, 8));
	add_operands(s, c);
}

static void vex(uint64_t *s, struct code *c)
{
	unsigned r = (unsigned)next(s);

	if (chance(s, 3))
		add(c, 0x67);
	if (chance(s, 30)) {
		add(c, 0xc5);
		add(c, c->bits != 64 ? r | 0xc0 : r);
	} else {
		unsigned w = (unsigned)next(s);

		add(c, 0xc4);
		add(c, (c->bits != 64 ? 0xc0 | (r & 0x20) : r & 0xe0) | (1 + upto(s, 3)));
		add(c, chance(s, 30) ? w | 0x78 : w);
	}
	add(c, (unsigned)next(s));
	add_operands(s, c);
}

static void evex(uint64_t *s, struct code *c)
{
	unsigned p0 = (unsigned)next(s), p1 = (unsigned)next(s), p2 = (unsigned)next(s);

	add(c, 0x62);
	add(c, ((c->bits != 64 ? p0 | 0xc0 : p0) & 0xf0) | (1 + upto(s, 3)));
	add(c, p1 | 4 | (chance(s, 25) ? 0x78 : 0));
	if (chance(s, 50))
		p2 &= 0xe8 | (p2 & 7);
	if (chance(s, 25))
		p2 = (p2 & 0x78) | 8;
	if (chance(s, 60))
		p2 = (p2 & 0x9f) | 0x40;
	add(c, p2);
	add(c, (unsigned)next(s));
	add_operands(s, c);
}

/* A register, or [register + small displacement]. */
static void add_near_operand(uint64_t *s, struct code *c)
{
	unsigned modrm = upto(s, 256);

	if (chance(s, 50) || (modrm & 7) == 4) {
		add(c, modrm | 0xc0);
		return;
	}
	add(c, (modrm & 0x3f) | 0x40);
	add(c, upto(s, 64));
}

static void x87_or_mmx(uint64_t *s, struct code *c)
{
	static const uint8_t rare[] = { 0x9b, 0xae, 0x77 };
	unsigned k = upto(s, 100);

	if (c->bits == 64 && chance(s, 20))
		add(c, 0x40 | upto(s, 16));
	if (k < 72) {
		add(c, 0xd8 + upto(s, 8));
	} else if (k < 95) {	/* MMX; with 66, F2 and F3 there are some that move between MMX and XMM */
		uint8_t op = (uint8_t)next(s);

		if (chance(s, 10) && !c->n)
			add(c, (const uint8_t[]){ 0x66, 0xf2, 0xf3 }[upto(s, 3)]);
		add(c, 0x0f);
		add(c, op < 0x60 ? (op & 3) | 0x2c : op < 0x80 || op >= 0xc0 ? op : op | 0x40);
	} else {
		uint8_t op = rare[upto(s, sizeof(rare))];

		if (op != 0x9b)
			add(c, 0x0f);
		add(c, op);
	}
	add_near_operand(s, c);
	for (unsigned n = 0; n < 4; n++)
		add(c, (unsigned)next(s));
}

static void make_code(uint64_t *s, struct code *c)
{
	unsigned k = upto(s, 100);

	if (k < 22)
		legacy(s, c, 0);
	else if (k < 42)
		legacy(s, c, 1);
	else if (k < 50)
		legacy(s, c, 2);
	else if (k < 54)
		legacy(s, c, 3);
	else if (k < 60)
		x87(s, c);
	else if (k < 76)
		vex(s, c);
	else
		evex(s, c);
}

/* --- what must not run --- */
#define M(n) ZYDIS_MNEMONIC_##n

static bool is_image(const struct insn *i)
{
	return i->mnemonic == M(FXSAVE) || i->mnemonic == M(FXSAVE64) || i->mnemonic == M(FNSAVE) || i->mnemonic == M(FNSTENV);
}

static bool excluded(const struct insn *i)
{
	switch (i->mnemonic) {
	case M(SYSCALL): case M(SYSENTER): case M(SYSRET): case M(SYSEXIT): case M(INT): case M(INT1): case M(INT3):
	case M(INTO): case M(IRET): case M(IRETD): case M(IRETQ): case M(HLT): case M(CLI): case M(STI):
	case M(IN): case M(OUT): case M(INSB): case M(INSW): case M(INSD): case M(OUTSB): case M(OUTSW):
	case M(OUTSD): case M(RDTSC): case M(RDTSCP): case M(RDPMC): case M(CPUID): case M(RDRAND): case M(RDSEED):
	case M(RDPID): case M(XGETBV): case M(XSETBV): case M(RDPKRU): case M(WRPKRU): case M(SGDT): case M(SIDT):
	case M(SLDT): case M(SMSW): case M(STR): case M(LGDT): case M(LIDT): case M(LLDT): case M(LMSW): case M(LTR):
	case M(VERR): case M(VERW): case M(LAR): case M(LSL): case M(PUSHF): case M(PUSHFD): case M(PUSHFQ):
	case M(POPF): case M(POPFD): case M(POPFQ): case M(RDFSBASE): case M(RDGSBASE): case M(WRFSBASE):
	case M(WRGSBASE): case M(SWAPGS): case M(LSS): case M(LFS): case M(LGS): case M(CLTS): case M(INVD):
	case M(WBINVD): case M(INVLPG): case M(INVPCID): case M(RDMSR): case M(WRMSR): case M(MONITOR): case M(MWAIT):
	case M(MONITORX): case M(MWAITX): case M(CLZERO): case M(RDPRU): case M(INVLPGB): case M(TLBSYNC):
	case M(VMCALL): case M(VMMCALL): case M(VMRUN): case M(VMLOAD): case M(VMSAVE): case M(STGI): case M(CLGI):
	case M(SKINIT): case M(INVLPGA): case M(XBEGIN): case M(XEND): case M(XABORT): case M(XTEST): case M(RSM):
	case M(UD0): case M(UD1): case M(UD2): case M(PSMASH): case M(PVALIDATE): case M(RMPADJUST): case M(RMPUPDATE):
	case M(ENCLU): case M(ENCLS): case M(ENCLV): case M(GETSEC): case M(SALC): case M(MCOMMIT): case M(SERIALIZE):
	case M(XSAVE): case M(XSAVE64): case M(XSAVEOPT): case M(XSAVEOPT64): case M(XSAVEC): case M(XSAVEC64):
	case M(XSAVES): case M(XSAVES64): case M(XRSTOR): case M(XRSTOR64): case M(XRSTORS): case M(XRSTORS64):
	case M(FXSAVE): case M(FXSAVE64): case M(FNSAVE): case M(FNSTENV): /* pointers differ by vendor */
	case M(LDS): case M(LES): case M(BOUND): case M(ARPL): /* selectors; MPX */
	case M(UMWAIT): case M(UMONITOR): case M(TPAUSE): case M(PTWRITE): case M(CLAC): case M(STAC): case M(CLUI):
	case M(STUI): case M(TESTUI): case M(UIRET): case M(SENDUIPI): case M(ENQCMD): case M(ENQCMDS): case M(LWPINS):
	case M(LWPVAL): case M(LLWPCB): case M(SLWPCB): return true;
	default: break;
	}
	/* Never offered (SSE4A, FMA4): undefined to the guest, whatever the host has. */
	switch (i->mnemonic) {
	case M(EXTRQ): case M(INSERTQ): case M(MOVNTSS): case M(MOVNTSD): case M(VPERMIL2PS): case M(VPERMIL2PD):
	case M(VFMADDPS): case M(VFMADDPD): case M(VFMADDSS): case M(VFMADDSD): case M(VFMSUBPS): case M(VFMSUBPD):
	case M(VFMSUBSS): case M(VFMSUBSD): case M(VFNMADDPS): case M(VFNMADDPD): case M(VFNMADDSS):
	case M(VFNMADDSD): case M(VFNMSUBPS): case M(VFNMSUBPD): case M(VFNMSUBSS): case M(VFNMSUBSD):
	case M(VFMADDSUBPS): case M(VFMADDSUBPD): case M(VFMSUBADDPS): case M(VFMSUBADDPD): return true;
	default: break;
	}
	/* Vendors differ: the operand size of near branches, hinting NOPs of 0F 0D. */
	for (unsigned n = 0; n < i->n_ops; n++)
		if (i->op[n].kind == INSN_OP_REL && i->has_66 && i->ssz == 8)
			return true;
	if (i->has_66 && i->ssz == 8 && (i->mnemonic == M(RET) || i->mnemonic == M(CALL) || i->mnemonic == M(JMP)))
		return true;
	if (i->map == 1 && i->opcode == 0x0d)
		return true;
	/* Intel ignores W outside 64-bit mode here, AMD does not. */
	if (i->ssz != 8 && i->encoding == INSN_VEX && i->rex_w && i->map == 3 && (i->opcode == 0x22 || i->opcode == 0x16))
		return true;
	/* A mask spares a segment's limit on silicon; not so here (QUIRKS). */
	if (i->ssz == 2 && i->has_mem &&
	    (i->encoding == INSN_EVEX || i->mnemonic == M(VMASKMOVPS) || i->mnemonic == M(VMASKMOVPD) ||
	     i->mnemonic == M(VPMASKMOVD) || i->mnemonic == M(VPMASKMOVQ)))
		return true;
	/* AMD: REP and REPNE override the E of LOOPE, and F3 41 90 is XCHG. */
	if (i->map == 0 && (i->rep || i->repne) && ((i->opcode & 0xfc) == 0xe0 || i->opcode == 0x90))
		return true;
	if (i->encoding == INSN_XOP || i->encoding == INSN_3DNOW)
		return true;
	for (unsigned n = 0; n < i->n_ops; n++) {
		const struct insn_op *o = &i->op[n];

		if (o->kind == INSN_OP_PTR || o->kind == INSN_OP_CR || o->kind == INSN_OP_DR)
			return true;
		if (i->ssz == 2 && o->kind == INSN_OP_GPR && o->reg == X86_RSP && !o->high8 && !o->hidden)
			return true;	/* the host's kernel uses the upper half */
		if (o->kind == INSN_OP_SEG)	/* selectors differ as well */
			return true;
	}
	if ((i->mnemonic == M(CALL) || i->mnemonic == M(JMP)) && i->opcode == 0xff && (i->reg == 3 || i->reg == 5))
		return true;
	if (i->mnemonic == M(RET) && (i->opcode == 0xca || i->opcode == 0xcb))
		return true;
	return i->mem_seg == X86_FS || i->mem_seg == X86_GS;
}

/* --- state --- */
static uint64_t pick_address(uint64_t *s)
{
	unsigned k = upto(s, 100);

	if (k < 60)
		return RIG_DATA + 0x400 + 64 * upto(s, 64);
	if (k < 70)
		return RIG_DATA + 0x400 + 16 * upto(s, 256);
	if (k < 85)
		return RIG_DATA + 0x100 + upto(s, 0x1d00);
	if (k < 90)
		return RIG_DATA + 0x1000 - upto(s, 80);
	if (k < 94)
		return RIG_RODATA - upto(s, 80);
	if (k < 96)
		return RIG_RODATA + upto(s, 0xf00);
	return RIG_RODATA + RIG_PAGE - upto(s, 80);
}

static void random_float(uint64_t *s, uint8_t *p, unsigned size)
{
	static const double some[] = { 0.0, -0.0, 1.0, -1.0, 0.5, 3.14159, 1e10, -1e-10, 65504.0, 2147483648.0,
				       1e300, 1e-310, __builtin_inf(), -__builtin_inf(), __builtin_nan("1") };
	double d = some[upto(s, ARRAY_LEN(some))];
	float f = (float)d;

	if (chance(s, 50)) {
		d = (double)(int64_t)next(s) / 1048576.0;
		f = (float)(int32_t)next(s) / 1024.0f;
	}
	if (size == 8)
		memcpy(p, &d, 8);
	else
		memcpy(p, &f, 4);
}

static void random_vector(uint64_t *s, uint8_t *v)
{
	unsigned k = upto(s, 4);

	for (unsigned n = 0; n < 8; n++)
		st_le64(v + 8 * n, next(s));
	if (k == 0)
		for (unsigned n = 0; n < 8; n++)
			random_float(s, v + 8 * n, 8);
	else if (k == 1)
		for (unsigned n = 0; n < 16; n++)
			random_float(s, v + 4 * n, 4);
	else if (k == 2)
		for (unsigned n = 0; n < 64; n += 1 + upto(s, 8))
			v[n] = 0;
}

static void random_x87(uint64_t *s, struct x86_fpu *f)
{
	memset(f->fx, 0, sizeof(f->fx));
	st_le16(f->fx, chance(s, 60) ? 0x37f : (uint16_t)((next(s) & 0xf3f) | 0x40));
	st_le16(f->fx + 2, (uint16_t)((next(s) & 0x7f00)));
	f->fx[4] = chance(s, 50) ? 0xff : (uint8_t)next(s);
	for (unsigned n = 0; n < 8; n++) {
		long double x;
		double d;

		if (chance(s, 20)) {
			st_le64(f->fx + 32 + 16 * n, next(s));
			st_le16(f->fx + 40 + 16 * n, (uint16_t)next(s));
			continue;
		}
		random_float(s, (uint8_t *)&d, 8);
		x = (long double)d;
		memcpy(f->fx + 32 + 16 * n, &x, 10);
	}
}

static void random_fpu(uint64_t *s, struct x86_fpu *f)
{
	memset(f, 0, sizeof(*f));
	for (unsigned n = 0; n < 32; n++)
		random_vector(s, f->zmm[n]);
	for (unsigned n = 0; n < 8; n++)
		f->k[n] = chance(s, 30) ? ~0ull : next(s);
	f->mxcsr = chance(s, 60) ? 0x1f80 : (uint32_t)next(s) & (chance(s, 50) ? 0xffc0 : 0xffff);
	random_x87(s, f);
}

/* Index elements that stay near the base most of the time. */
static void tame_indices(uint64_t *s, struct rig_case *c, const struct insn *i)
{
	uint8_t *v = c->fpu.zmm[i->mem_index];
	bool wide = i->opcode & 1;	/* odd opcodes: 64-bit indices */

	for (unsigned n = 0; n < (wide ? 8u : 16u); n++) {
		int32_t x = (int32_t)upto(s, 0x800) - 0x200;

		x /= 1 << i->mem_scale;
		if (chance(s, 2))
			x = (int32_t)next(s);
		if (wide)
			st_le64(v + 8 * n, (uint64_t)(int64_t)x);
		else
			st_le32(v + 4 * n, (uint32_t)x);
	}
}

/* Makes the memory operand land where we want it. */
static void aim(uint64_t *s, struct rig_case *c, const struct insn *i)
{
	uint64_t at = pick_address(s), rest = (uint64_t)i->mem_disp;

	if (c->bits == 16)
		at -= RIG_DATA;

	if (i->mem_vsib) {
		at = (c->bits == 16 ? 0 : RIG_DATA) + 0x1000 + 8 * upto(s, 16);
		tame_indices(s, c, i);
	} else if (i->mem_index != INSN_NOREG) {
		rest += c->gpr[i->mem_index] << i->mem_scale;
	}
	if (i->mem_base == INSN_RIP || i->mem_base == INSN_NOREG) {
		if (i->disp_size == 2)
			st_le16(c->code + i->disp_off, (uint16_t)at);
		if (i->disp_size == 4)
			st_le32(c->code + i->disp_off,
				(uint32_t)(at - (i->mem_base == INSN_RIP ? RIG_CODE + c->code_off + i->len : 0)));
		return;
	}
	if (i->mem_base != i->mem_index || i->mem_vsib)
		c->gpr[i->mem_base] = i->asz == 2 ? (uint16_t)(at - rest) : c->bits != 64 ? (uint32_t)(at - rest) : at - rest;
}

static void random_gprs(uint64_t *s, struct rig_case *c)
{
	for (unsigned n = 0; n < 16; n++) {
		unsigned k = upto(s, 100);

		if (k < 40)
			c->gpr[n] = pick_address(s);
		else if (k < 60)
			c->gpr[n] = upto(s, 256);
		else if (k < 70)
			c->gpr[n] = 0ull - upto(s, 256);
		else if (k < 75)
			c->gpr[n] = 1ull << upto(s, 64);
		else
			c->gpr[n] = next(s);
	}
	c->gpr[X86_RSP] = RIG_DATA + 0x800 + 8 * upto(s, 256);
}

static bool is_bit_string(const struct insn *i)
{
	return i->mnemonic == M(BT) || i->mnemonic == M(BTS) || i->mnemonic == M(BTR) || i->mnemonic == M(BTC);
}

static bool uses_string(const struct insn *i)
{
	for (unsigned n = 0; n < i->n_ops; n++)
		if (i->op[n].kind == INSN_OP_MEM_IMPL && (i->op[n].reg == X86_RSI || i->op[n].reg == X86_RDI))
			return true;
	return false;
}

bool rig_generate(uint64_t seed, unsigned bits, struct rig_case *c) { return rig_generate_mix(seed, bits, RIG_ALL, c); }

bool rig_generate_mix(uint64_t seed, unsigned bits, enum rig_mix mix, struct rig_case *c)
{
	uint64_t s = seed * 0x2545f4914f6cdd1dull + 99;
	struct code code = { .bits = bits };
	struct insn i;

	if (mix != RIG_ALL && chance(&s, 85))
		x87_or_mmx(&s, &code);
	else
		make_code(&s, &code);
	if (insn_decode(&i, code.b, code.n, bits) < 0 || (excluded(&i) && (mix != RIG_X87_IMAGES || !is_image(&i))))
		return false;
	memset(c, 0, sizeof(*c));
	c->seed = seed;
	c->len = i.len;
	c->bits = bits;
	memcpy(c->code, i.bytes, i.len);
	c->code_off = 0x100 + upto(&s, 0x800);
	c->rflags = X86_FL_FIXED | X86_FL_IF | (next(&s) & (X86_FL_ARITH | (chance(&s, 20) ? X86_FL_DF : 0)));
	random_gprs(&s, c);
	for (unsigned n = X86_RCX; mix != RIG_ALL && n < 12; n++)	/* others than EAX: FNSTSW */
		c->gpr[n] = n == X86_RSP ? c->gpr[n] : pick_address(&s);
	for (unsigned n = 0; bits != 64 && n < 16; n++)
		c->gpr[n] = (uint32_t)(bits == 16 && c->gpr[n] - RIG_DATA < 0x4000 ? c->gpr[n] - RIG_DATA : c->gpr[n]);
	random_fpu(&s, &c->fpu);
	for (unsigned n = 0; n < RIG_DATA_SIZE; n += 64)
		random_vector(&s, c->data + n);
	if (uses_string(&i)) {
		c->gpr[X86_RCX] = upto(&s, 10);
		c->gpr[X86_RSI] = pick_address(&s) - (bits == 16 ? RIG_DATA : 0);
		c->gpr[X86_RDI] = pick_address(&s) - (bits == 16 ? RIG_DATA : 0);
	}
	if (is_bit_string(&i) && i.has_mem && !i.imm_size) {
		unsigned r = i.op[1].reg;

		if (i.op[1].kind == INSN_OP_GPR)
			c->gpr[r] = (uint64_t)((int64_t)upto(&s, 2048) - 1024);
	}
	if (i.has_mem && chance(&s, 93))
		aim(&s, c, &i);
	return true;
}
