/* SPDX-License-Identifier: GPL-2.0-or-later */
/* FXSAVE and the XSAVE family: enable checks, then cpu/x86/xsave.c. */
#include "cpu/interp/exec_priv.h"
#include "cpu/x86/xsave.h"

#define M(n) ZYDIS_MNEMONIC_##n

static void check_fx(struct x86_cpu *c)
{
	if (c->s.cr0 & (X86_CR0_EM | X86_CR0_TS))
		x86_raise(c, X86_EX_NM);
}

static void check_xsave(struct x86_cpu *c)
{
	if (!(c->s.cr4 & X86_CR4_OSXSAVE))
		x86_ud(c);
	if (c->s.cr0 & X86_CR0_TS)
		x86_raise(c, X86_EX_NM);
}

static void fxsave(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	check_fx(c);
	x86_fxsave(c, lin, x->i.rex_w && x->i.ssz == 8);
}

static void fxrstor(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	check_fx(c);
	x86_fxrstor(c, lin, x->i.rex_w && x->i.ssz == 8);
}

static void xsave(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	enum x86_xsave_kind k = X86_XSAVE;

	check_xsave(c);
	switch (x->i.mnemonic) {
	case M(XSAVEOPT): case M(XSAVEOPT64): k = X86_XSAVEOPT; break;
	case M(XSAVEC): case M(XSAVEC64): k = X86_XSAVEC; break;
	case M(XSAVES): case M(XSAVES64): k = X86_XSAVES; break;
	default: break;
	}
	x86_xsave(c, lin, k, x->i.rex_w && x->i.ssz == 8);
}

static void xrstor(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	check_xsave(c);
	x86_xrstor(c, lin, x->i.mnemonic == M(XRSTORS) || x->i.mnemonic == M(XRSTORS64),
		   x->i.rex_w && x->i.ssz == 8);
}

exec_fn *exec_c_ctx(const struct insn *i)
{
	switch (i->mnemonic) {
	case M(FXSAVE): case M(FXSAVE64): return fxsave;
	case M(FXRSTOR): case M(FXRSTOR64): return fxrstor;
	case M(XSAVE): case M(XSAVE64): case M(XSAVEOPT): case M(XSAVEOPT64): case M(XSAVEC):
	case M(XSAVEC64): case M(XSAVES): case M(XSAVES64): return xsave;
	case M(XRSTOR): case M(XRSTOR64): case M(XRSTORS): case M(XRSTORS64): return xrstor;
	default: return NULL;
	}
}
