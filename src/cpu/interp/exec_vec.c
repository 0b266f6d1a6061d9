/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Vector instructions whose memory accesses a stub cannot make in the guest's
 * place: gathers and scatters, masked loads and stores with faults suppressed,
 * MASKMOVDQU; and those that need no host at all (VZEROUPPER, MXCSR, RDPID).
 */
#include <string.h>

#include "cpu/interp/exec_priv.h"

#define MXCSR_MASK 0xffffu
#define M(n) ZYDIS_MNEMONIC_##n

/* --- masked memory operands --- */
static uint64_t vector_mask(const struct x86_fpu *f, const struct exec *x)
{
	const uint8_t *v = f->zmm[x->i.op[1].reg];
	uint64_t m = 0;

	for (unsigned n = 0; n < x->o.elems; n++)
		if (v[(n + 1) * x->o.elem_size - 1] & 0x80)
			m |= BIT64(n);
	return m;
}

static uint64_t low_bits(unsigned n) { return n >= 64 ? ~0ull : BIT64(n) - 1; }

/* Which elements of the memory operand are accessed. */
static uint64_t active_elements(const struct x86_fpu *f, const struct exec *x)
{
	const struct op_info *o = &x->o;
	uint64_t m = o->mask_k ? f->k[o->mask_k] : vector_mask(f, x), act = 0;

	m &= low_bits(o->mask_bits);
	switch (o->mask) {
	case OP_MASK_PACK: return low_bits((unsigned)__builtin_popcountll(m)) & (m ? ~0ull : 0);
	case OP_MASK_BCAST:
		for (unsigned n = 0; n < o->mask_bits; n++)
			if (m & BIT64(n))
				act |= BIT64(n % o->elems);
		return act;
	default: return m;
	}
}

/* Calls fn for each maximal run of accessed bytes. */
struct run { unsigned off, len; };

static bool next_run(uint64_t *act, unsigned elem, struct run *r)
{
	unsigned first, n;

	if (!*act)
		return false;
	first = (unsigned)__builtin_ctzll(*act);
	n = ~(*act >> first) ? (unsigned)__builtin_ctzll(~(*act >> first)) : 64 - first;
	r->off = first * elem;
	r->len = n * elem;
	*act &= ~(low_bits(n) << first);
	return true;
}

void exec_run_masked(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	uint64_t act = active_elements(&c->s.fpu, x), a;
	alignas(64) uint8_t buf[192];
	uint8_t *p = buf + (lin & 63);
	struct run r;

	if (act && (lin & x->align))
		x86_gp(c, 0);
	if (act && c->mode == X86_MODE_LONG64 && !x86_canonical(c, lin))
		x86_raise_err(c, x->i.mem_seg == X86_SS ? X86_EX_SS : X86_EX_GP, 0);
	if (act == low_bits(x->o.elems)) {
		exec_run_mem(c, x, lin);
		return;
	}
	memset(p, 0, x->mem_size);
	for (a = act; next_run(&a, x->o.elem_size, &r);) {
		if (x->mem_write)
			x86_mem_probe(c, lin + r.off, r.len, X86_WRITE, c->acc);
		if (x->mem_read)
			x86_mem_read(c, lin + r.off, p + r.off, r.len, c->acc);
	}
	exec_call(c, x, p, lin);
	if (!x->mem_write)
		return;
	for (a = act; next_run(&a, x->o.elem_size, &r);)
		x86_mem_write(c, lin + r.off, p + r.off, r.len, c->acc);
}

/* MASKMOVQ, MASKMOVDQU: byte mask, implicit [rDI]. */
static void maskmov(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	struct x86_fpu *f = &c->s.fpu;
	bool mmx = x->i.mnemonic == M(MASKMOVQ);
	const struct insn_op *src = &x->i.op[0], *msk = &x->i.op[1];
	unsigned n = mmx ? 8 : 16;
	uint8_t data[16], mask[16];
	uint64_t act = 0, a, off = c->s.gpr[X86_RDI];
	struct run r;

	if (src->kind == INSN_OP_MEM || src->kind == INSN_OP_MEM_IMPL)
		src = &x->i.op[1], msk = &x->i.op[2];
	if (mmx)	/* becomes MMX state even if the store then faults */
		exec_x87_enter_mmx(f);
	memcpy(data, mmx ? f->fx + 32 + 16 * src->reg : f->zmm[src->reg], n);
	memcpy(mask, mmx ? f->fx + 32 + 16 * msk->reg : f->zmm[msk->reg], n);
	for (unsigned k = 0; k < n; k++)
		if (mask[k] & 0x80)
			act |= BIT64(k);
	if (x->i.asz < 8)
		off &= x->i.asz == 4 ? 0xffffffffu : 0xffffu;
	/* Faults as for all bytes, whatever the mask: the implementation may choose.  The
	 * page of the first comes before the segment's limit at the last. */
	x86_mem_probe(c, x86_seg_lin(c, x->i.mem_seg, off, 1, X86_WRITE), 1, X86_WRITE, c->acc);
	lin = x86_seg_lin(c, x->i.mem_seg, off, n, X86_WRITE);
	x86_mem_probe(c, lin, n, X86_WRITE, c->acc);
	for (a = act; next_run(&a, 1, &r);)
		x86_mem_write(c, lin + r.off, data + r.off, r.len, c->acc);
}

/* --- VSIB --- */
struct vsib {
	uint64_t base;		/* effective address of base + displacement */
	unsigned seg, esz;
	enum x86_how how;
};

static uint64_t element_lin(struct x86_cpu *c, const struct exec *x, const struct vsib *v, unsigned n)
{
	const uint8_t *idx = c->s.fpu.zmm[x->i.mem_index] + n * x->o.index_size;
	int64_t i = x->o.index_size == 4 ? (int32_t)ld_le32(idx) : (int64_t)ld_le64(idx);
	uint64_t off = v->base + ((uint64_t)i << x->i.mem_scale);

	if (x->i.asz == 4)
		off = (uint32_t)off;
	return x86_seg_lin(c, (int)v->seg, off, v->esz, v->how);
}

static void vsib_begin(struct x86_cpu *c, const struct exec *x, uint64_t lin, enum x86_how how, struct vsib *v)
{
	*v = (struct vsib){ .base = lin - c->s.seg[x->i.mem_seg].base, .seg = x->i.mem_seg,
			    .esz = x->o.elem_size, .how = how };
}

/*
 * Elements are loaded from the first on; each clears its mask element when
 * done, so that a fault in the middle leaves a state to continue from.
 */
static void gather(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	struct x86_fpu *f = &c->s.fpu;
	unsigned dst = x->i.op[0].reg, esz = x->o.elem_size, n = x->o.elems;
	uint8_t *vm = x->o.mask_k ? NULL : f->zmm[x->i.op[2].reg];
	struct vsib v;

	vsib_begin(c, x, lin, X86_READ, &v);
	for (unsigned k = 0; k < n; k++) {
		bool on = vm ? vm[(k + 1) * esz - 1] & 0x80 : f->k[x->o.mask_k] >> k & 1;

		if (on) {
			uint8_t tmp[8];

			x86_mem_read(c, element_lin(c, x, &v, k), tmp, esz, c->acc);
			memcpy(f->zmm[dst] + k * esz, tmp, esz);
		}
		if (vm)
			memset(vm + k * esz, 0, esz);
		else
			f->k[x->o.mask_k] &= ~BIT64(k);
	}
	memset(f->zmm[dst] + n * esz, 0, 64 - n * esz);
	if (vm)
		memset(vm, 0, 64);
	else
		f->k[x->o.mask_k] = 0;
}

static void scatter(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	struct x86_fpu *f = &c->s.fpu;
	unsigned esz = x->o.elem_size;
	const struct insn_op *src = &x->i.op[x->i.n_ops > 2 ? 2 : 1];
	struct vsib v;

	vsib_begin(c, x, lin, X86_WRITE, &v);
	for (unsigned k = 0; k < x->o.elems; k++) {
		if (!(f->k[x->o.mask_k] >> k & 1))
			continue;
		x86_mem_write(c, element_lin(c, x, &v, k), f->zmm[src->reg] + k * esz, esz, c->acc);
		f->k[x->o.mask_k] &= ~BIT64(k);
	}
	f->k[x->o.mask_k] = 0;
}

/* --- no host needed --- */
static void vzero(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	unsigned regs = c->mode == X86_MODE_LONG64 ? 16 : 8;
	unsigned from = x->i.mnemonic == M(VZEROALL) ? 0 : 16;

	for (unsigned n = 0; n < regs; n++)
		memset(c->s.fpu.zmm[n] + from, 0, 64 - from);
}

static void ldmxcsr(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	uint32_t v = (uint32_t)x86_ld(c, lin, 4, c->acc);

	if (v & ~MXCSR_MASK)
		x86_gp(c, 0);
	c->s.fpu.mxcsr = v;
}

static void stmxcsr(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	x86_st(c, lin, 4, c->s.fpu.mxcsr, c->acc);
}

static void rdpid(struct x86_cpu *c, const struct exec *x, uint64_t lin)
{
	c->s.gpr[x->i.op[0].reg] = (uint32_t)c->s.tsc_aux;
}

exec_fn *exec_c_vec(const struct insn *i)
{
	switch (i->mnemonic) {
	case M(VPGATHERDD): case M(VPGATHERDQ): case M(VPGATHERQD): case M(VPGATHERQQ):
	case M(VGATHERDPS): case M(VGATHERDPD): case M(VGATHERQPS): case M(VGATHERQPD): return gather;
	case M(VPSCATTERDD): case M(VPSCATTERDQ): case M(VPSCATTERQD): case M(VPSCATTERQQ):
	case M(VSCATTERDPS): case M(VSCATTERDPD): case M(VSCATTERQPS): case M(VSCATTERQPD): return scatter;
	case M(MASKMOVQ): case M(MASKMOVDQU): case M(VMASKMOVDQU): return maskmov;
	case M(VZEROUPPER): case M(VZEROALL): return vzero;
	case M(LDMXCSR): case M(VLDMXCSR): return ldmxcsr;
	case M(STMXCSR): case M(VSTMXCSR): return stmxcsr;
	case M(RDPID): return rdpid;
	default: return NULL;
	}
}
