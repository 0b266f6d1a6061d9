/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * x87 control instructions in C (SDM vol. 1, 8.1 and 8.3.10), and MMX's view of
 * the x87 registers.
 *
 * The image in struct x86_fpu is FXSAVE's: registers in stack order, one tag
 * bit per physical register.  Segment selectors of the last instruction and
 * operand are not kept: they read as zero, as on CPUs that deprecate them
 * (CPUID.7.EBX[13]).
 */
#include <string.h>

#include "cpu/interp/exec_priv.h"

#define FSW_TOP_SHIFT 11

static unsigned top(const struct x86_fpu *f) { return exec_fsw(f) >> FSW_TOP_SHIFT & 7; }
static void set_fsw(struct x86_fpu *f, uint16_t v) { st_le16(f->fx + 2, v); }

/* ES and B follow from the flags and the masks. */
static void update_es(struct x86_fpu *f)
{
	uint16_t sw = exec_fsw(f) & 0x7f7f;

	if (sw & 0x3f & ~exec_fcw(f))
		sw |= 0x8080;
	set_fsw(f, sw);
}

/* Reserved bits: 6 reads as one, the others as zero. */
static void set_fcw(struct x86_fpu *f, uint16_t v)
{
	st_le16(f->fx, (uint16_t)((v & 0x1f3f) | 0x40));
	update_es(f);
}

/* The image is in stack order: a change of TOP alone, which leaves the physical
 * registers where they are, turns it. */
static void turn(struct x86_fpu *f, unsigned from, unsigned to)
{
	uint8_t old[128];

	if (from == to)
		return;
	memcpy(old, f->fx + 32, sizeof(old));
	for (unsigned n = 0; n < 8; n++)
		memcpy(f->fx + 32 + 16 * n, old + 16 * ((n + to - from) & 7), 16);
}

static void init(struct x86_fpu *f)
{
	turn(f, top(f), 0);
	memset(f->fx, 0, 24);
	st_le16(f->fx, 0x37f);
}

void exec_x87_enter_mmx(struct x86_fpu *f)
{
	unsigned t = top(f);

	f->fx[4] = 0xff;
	if (!t)
		return;
	turn(f, t, 0);
	set_fsw(f, exec_fsw(f) & (uint16_t)~(7u << FSW_TOP_SHIFT));
}

void exec_x87_leave_mmx(struct x86_fpu *f, uint8_t written)
{
	for (unsigned n = 0; n < 8; n++)
		if (written & BIT(n))
			st_le16(f->fx + 32 + 16 * n + 8, 0xffff);
}

/* The two-bit tag of the register in image slot n (SDM vol. 1, 8.1.7). */
static unsigned tag_of(const struct x86_fpu *f, unsigned n)
{
	uint64_t man = ld_le64(f->fx + 32 + 16 * n);
	unsigned exp = ld_le16(f->fx + 32 + 16 * n + 8) & 0x7fff;

	if (!exp && !man)
		return 1;
	if (!exp || exp == 0x7fff || !(man >> 63))
		return 2;
	return 0;
}

static uint16_t full_tags(const struct x86_fpu *f)
{
	unsigned t = top(f);
	uint16_t tw = 0;

	for (unsigned r = 0; r < 8; r++) {
		unsigned tag = (f->fx[4] & BIT(r)) ? tag_of(f, (r - t) & 7) : 3;

		tw |= (uint16_t)(tag << 2 * r);
	}
	return tw;
}

static uint8_t abridged(uint16_t tw)
{
	uint8_t v = 0;

	for (unsigned r = 0; r < 8; r++)
		if ((tw >> 2 * r & 3) != 3)
			v |= (uint8_t)BIT(r);
	return v;
}

/* --- environments: 14 or 28 bytes, protected or real-address layout --- */
bool exec_x87_small_env(const struct insn *i)
{
	return (i->ssz == 2) != i->has_66 && !(i->ssz == 8 && i->rex_w);
}

static bool real_layout(const struct x86_cpu *c) { return c->mode <= X86_MODE_VM86; }

static unsigned put_env(const struct x86_cpu *c, const struct exec *x, uint8_t *p)
{
	const struct x86_fpu *f = &c->s.fpu;
	uint32_t fip = ld_le32(f->fx + 8), fdp = ld_le32(f->fx + 16), fop = ld_le16(f->fx + 6) & 0x7ff;
	bool real = real_layout(c);

	if (exec_x87_small_env(&x->i)) {
		uint16_t v[7] = { exec_fcw(f), exec_fsw(f), full_tags(f), (uint16_t)fip, 0, (uint16_t)fdp, 0 };

		if (real) {
			v[4] = (uint16_t)((fip >> 16 & 0xf) << 12 | fop);
			v[6] = (uint16_t)((fdp >> 16 & 0xf) << 12);
		}
		memcpy(p, v, sizeof(v));
		return sizeof(v);
	}
	uint32_t v[7] = { 0xffff0000u | exec_fcw(f), 0xffff0000u | exec_fsw(f), 0xffff0000u | full_tags(f),
			  fip, fop << 16, fdp, 0xffff0000u };
	if (real) {
		v[3] = 0xffff0000u | (fip & 0xffff);
		v[4] = (fip >> 16) << 12 | fop;
		v[5] = 0xffff0000u | (fdp & 0xffff);
		v[6] = (fdp >> 16) << 12;
	}
	memcpy(p, v, sizeof(v));
	return sizeof(v);
}

static void get_env(struct x86_cpu *c, const struct exec *x, const uint8_t *p)
{
	struct x86_fpu *f = &c->s.fpu;
	bool small = exec_x87_small_env(&x->i), real = real_layout(c);
	unsigned old_top = top(f);
	uint32_t v[7];

	for (unsigned n = 0; n < 7; n++)
		v[n] = small ? ld_le16(p + 2 * n) : ld_le32(p + 4 * n);
	memset(f->fx + 6, 0, 18);
	set_fsw(f, (uint16_t)v[1]);
	set_fcw(f, (uint16_t)v[0]);
	f->fx[4] = abridged((uint16_t)v[2]);
	f->fx[5] = 0;
	turn(f, old_top, top(f));
	if (real) {
		unsigned hi = small ? 0xf0000u : 0xffff0000u;

		st_le16(f->fx + 6, v[4] & 0x7ff);
		st_le32(f->fx + 8, (v[3] & 0xffff) | (v[4] << 4 & hi));
		st_le32(f->fx + 16, (v[5] & 0xffff) | (v[6] << 4 & hi));
		return;
	}
	if (!small)
		st_le16(f->fx + 6, v[4] >> 16 & 0x7ff);
	st_le32(f->fx + 8, v[3]);
	st_le32(f->fx + 16, v[5]);
}

/* Which of its bytes the processor (AMD's) misses first: one of the first piece, then the last one. */
static void look_at_ends(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	enum x86_how how = x->mem_write ? X86_WRITE : X86_READ;

	x86_mem_probe(c, lin, x->piece, how, c->acc);
	x86_mem_probe(c, lin + x->last_byte, 1, how, c->acc);
}

static void fnstenv(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	uint8_t env[28];

	look_at_ends(c, x, lin);
	x86_mem_write(c, lin, env, put_env(c, x, env), c->acc);
	set_fcw(&c->s.fpu, exec_fcw(&c->s.fpu) | 0x3f);
}

static void fldenv(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	uint8_t env[28];

	look_at_ends(c, x, lin);
	x86_mem_read(c, lin, env, exec_x87_small_env(&x->i) ? 14 : 28, c->acc);
	get_env(c, x, env);
}

static void fnsave(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	struct x86_fpu *f = &c->s.fpu;
	uint8_t img[108];
	unsigned n = put_env(c, x, img);

	look_at_ends(c, x, lin);
	for (unsigned r = 0; r < 8; r++)
		memcpy(img + n + 10 * r, f->fx + 32 + 16 * r, 10);
	x86_mem_write(c, lin, img, n + 80, c->acc);
	init(f);
}

static void frstor(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	struct x86_fpu *f = &c->s.fpu;
	unsigned n = exec_x87_small_env(&x->i) ? 14 : 28;
	uint8_t img[108];

	look_at_ends(c, x, lin);
	x86_mem_read(c, lin, img, n + 80, c->acc);
	get_env(c, x, img);
	for (unsigned r = 0; r < 8; r++) {
		memcpy(f->fx + 32 + 16 * r, img + n + 10 * r, 10);
		memset(f->fx + 32 + 16 * r + 10, 0, 6);
	}
}

/* --- words --- */
static void fldcw(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	set_fcw(&c->s.fpu, (uint16_t)x86_ld(c, lin, 2, c->acc));
}

static void fnstcw(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	x86_st(c, lin, 2, exec_fcw(&c->s.fpu), c->acc);
}

static void fnstsw(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	if (x->i.has_mem)
		x86_st(c, lin, 2, exec_fsw(&c->s.fpu), c->acc);
	else
		st_le16(&c->s.gpr[X86_RAX], exec_fsw(&c->s.fpu));
}

static void fninit(struct x86_cpu *c, const struct exec *x, uint64_t lin) { init(&c->s.fpu); }

static void fnclex(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	set_fsw(&c->s.fpu, exec_fsw(&c->s.fpu) & 0x7f00);
}

static void nothing(struct x86_cpu *c, const struct exec *x, uint64_t lin) {}

/* TS matters to WAIT only with MP set. */
static void fwait(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	uint64_t both = X86_CR0_MP | X86_CR0_TS;

	if ((c->s.cr0 & both) == both)
		x86_raise(c, X86_EX_NM);
	if (exec_fsw(&c->s.fpu) & EXEC_FSW_ES)
		x86_raise(c, X86_EX_MF);
}

static void emms(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	exec_x87_enter_mmx(&c->s.fpu);
	c->s.fpu.fx[4] = 0;
}

#define M(n) ZYDIS_MNEMONIC_##n

exec_fn *exec_c_x87(const struct insn *i)
{
	switch (i->mnemonic) {
	case M(FNSTENV): return fnstenv;
	case M(FLDENV): return fldenv;
	case M(FNSAVE): return fnsave;
	case M(FRSTOR): return frstor;
	case M(FLDCW): return fldcw;
	case M(FNSTCW): return fnstcw;
	case M(FNSTSW): return fnstsw;
	case M(FNINIT): return fninit;
	case M(FNCLEX): return fnclex;
	case M(FENI8087_NOP): case M(FDISI8087_NOP): case M(FSETPM287_NOP): return nothing;
	case M(FWAIT): return fwait;
	case M(EMMS): return emms;
	default: return NULL;
	}
}

bool exec_x87_waits(const struct insn *i)
{
	switch (i->mnemonic) {
	case M(FNSTENV): case M(FNSAVE): case M(FNSTCW): case M(FNSTSW): case M(FNINIT): case M(FNCLEX):
	case M(FENI8087_NOP): case M(FDISI8087_NOP): case M(FSETPM287_NOP): case M(FWAIT): return false;
	default: return true;
	}
}
