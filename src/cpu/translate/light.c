/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Light calls: what emitted code calls with the guest's vector registers in the
 * host's, and some general ones (RBX, RBP, R12 to R15) not in c->s.gpr.
 *
 * A function here returns 0 to go on behind the call, or the address of code to
 * go on at: a block's, or a thunk's, with c->s.rip set.  It raises nothing, waits
 * for nothing, and neither it nor what it calls may use vector registers; the
 * files that hold all this are compiled for that, and tools/light checks it in the
 * program.  What is not simple goes to the full path (heavy).
 */
#include "cpu/x86/fast.h"
#include "cpu/translate/direct.h"
#include "cpu/translate/light.h"

static uintptr_t find(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	const struct xl_block *b;
	uint32_t key = x->jc_key[c->acc], err;
	uint8_t *ientry;

	if (x86_tlb_look(c, c->s.rip, X86_EXEC, (enum x86_acc)c->acc, &e, &err) != X86_LOOK_OK)
		return x->xe->t.fault_m;
	ientry = xl_known(x, e, c->s.rip, key);
	if (likely(ientry != NULL))
		return (uintptr_t)ientry;
	b = xl_lookup(x->xe, e->gpa | (c->s.rip & 0xfff), key, e->version);
	if (!b)
		return x->xe->t.fault_m;
	xl_jc_put(x, c->s.rip, b, e->global);
	return (uintptr_t)b->ientry;
}

/* On at s.rip in the mode that is now. */
static uintptr_t go(struct xl_cpu *x)
{
	struct x86_cpu *c = &x->ic.c;
	const struct xl_jc *j;
	unsigned i = xl_jc_index(c->s.rip);

	x->exit = NULL;
	x->n_light++;
	if (unlikely(x->check != NULL))	/* looks at every block */
		return x->xe->t.fault_m;
	/* If the jump cache is for another mode, the run loop makes it for this one. */
	if (unlikely(c->leave_block || c->acc >= XL_N_ACC || x->jc_key[c->acc] != xl_key(c) || (c->intr_maybe && (c->s.rflags & X86_FL_IF))))
		return leave(x);
	if (xl_direct_crosses(x) && xl_direct_crossed(x))
		return x->xe->t.fault_m;
	j = &x->jc[c->acc];
	return likely(j->rip[i] == c->s.rip) ? (uintptr_t)j->code[i] : find(x);
}

LIGHT(xl_lt_indirect) { return go(x); }

/* u is a block. Its instruction is interp's this time if the page where it ends is not what it was. */
LIGHT(xl_lt_page2)
{
	struct xl_block *b = (struct xl_block *)(uintptr_t)u;
	struct x86_cpu *c = &x->ic.c;
	uint64_t lin = c->blk_rip + PAGE_4K;
	const struct x86_tlb_entry *e;
	uint32_t err;

	if (c->mode != X86_MODE_LONG64)
		lin = (uint32_t)lin;
	if (x86_tlb_look(c, lin, X86_EXEC, (enum x86_acc)c->acc, &e, &err) == X86_LOOK_OK && e->version == b->verp2) {
		if (likely(b->version2 == atomic_load_explicit(b->verp2, memory_order_acquire)))
			return 0;
		xl_block_drop(x->xe, b);
	}
	c->s.rip = c->blk_rip + (b->gpa & 0xfff);
	x->step = true;
	x->exit = NULL;
	return x->xe->t.fault_m;
}

LIGHT(xl_lt_syscall)
{
	struct x86_cpu *c = &x->ic.c;

	flags_out(c);
	if (!x86_fast_syscall(c, uop_next(c, u)))
		return heavy(x);
	flags_in(c);
	return go(x);
}

LIGHT(xl_lt_sysret)
{
	struct x86_cpu *c = &x->ic.c;

	if (!x86_fast_sysret(c, u->osz))
		return heavy(x);
	flags_in(c);
	return go(x);
}

LIGHT(xl_lt_iret)
{
	struct x86_cpu *c = &x->ic.c;

	flags_out(c);
	if (!x86_fast_iret(c))
		return heavy(x);
	flags_in(c);
	return go(x);
}

/* A group of accesses cannot be probed at once: on at this instruction in the variant of the block without groups. */
static uintptr_t apart(struct xl_cpu *x, unsigned off)
{
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	const struct xl_block *b;
	uint32_t key = xl_key(c), err;

	c->s.rip = c->blk_rip + off;
	if (x->check || c->s.shadow || x->jc_key[c->acc] != key || xl_x87_error(c) ||
	    x86_tlb_look(c, c->s.rip, X86_EXEC, (enum x86_acc)c->acc, &e, &err) != X86_LOOK_OK)
		return x->xe->t.miss_again;
	b = xl_lookup(x->xe, e->gpa | (c->s.rip & 0xfff), key | XL_KEY_NOGROUP, e->version);
	if (!b)
		return x->xe->t.miss_again;
	x->exit = NULL;
	x->desc2 = 0;
	x->n_light++;
	return (uintptr_t)b->ientry;
}

/* An access that the emitted probe did not find; arguments as xl_do_miss. */
uintptr_t xl_lt_miss(struct xl_cpu *x, uint64_t lin)
{
	unsigned off = x->desc & 0x1fff, how = x->desc >> 13 & 3, len = x->desc >> 16;
	struct x86_event ev = { .vector = X86_EX_PF, .kind = X86_EV_FAULT, .has_err = true };
	struct x86_cpu *c = &x->ic.c;
	const struct x86_tlb_entry *e;
	bool soft;

	if ((lin & 0xfff) + len > PAGE_4K)
		return x->desc2 & XL_DESC2_GROUP ? apart(x, off) : x->xe->t.miss_again;
	if (x->desc2 & XL_DESC2_GROUP) {
		lin += x->desc2 & 0xffff;	/* if it faults, it does so there */
		len = x->desc2 >> 16 & 0xff;
	}
	if (((x->desc & XL_DESC_ALIGNED) && (lin & (len - 1))) || (c->mode != X86_MODE_LONG64 && lin + len > 1ull << 32))
		return x->xe->t.miss_again;
	if ((x->desc2 & XL_DESC2_PARTS) && !x86_tlb_cached(c, lin, (enum x86_how)how, (enum x86_acc)c->acc))
		return x->xe->t.miss_again;
	soft = x->desc2 & XL_DESC2_SOFT;
	switch (x86_tlb_look(c, lin, soft ? X86_READ : (enum x86_how)how, (enum x86_acc)c->acc, &e, &ev.err)) {
	case X86_LOOK_OK:
		if (soft && !x86_tlb_cached(c, lin, X86_WRITE, (enum x86_acc)c->acc))
			return ++x->n_unsure % 64 ? apart(x, off) : x->xe->t.miss_again;
		if (unlikely(xl_guarded(x, e, how)) && (x->desc2 & (XL_DESC2_GROUP | XL_DESC2_PAGE)))
			return x->desc2 & XL_DESC2_GROUP ? apart(x, off) : x->xe->t.miss_again;
		x->n_miss[c->acc][how]++;
		x->bounced = false;
		x->desc2 = 0;
		if (unlikely(xl_guarded(x, e, how)))
			xl_store_at(x, e, lin);
		else
			xl_tlb_put(x, e, lin, how);
		return 0;
	case X86_LOOK_FAULT:
		if (unlikely(xl_x87_error(c)))	/* #MF comes first */
			return x->xe->t.miss_again;
		flags_out(c);
		c->s.rip = c->blk_rip + off;
		ev.cr2 = lin;
		if (!x86_fast_deliver(c, &ev))
			return x->xe->t.miss_again;
		x->n_miss[c->acc][how]++;
		x->desc2 = 0;
		c->n_exc++;
		return go(x);
	default:
		return x->xe->t.miss_again;
	}
}

/* --- memory --- */

/* As uop_lin_at, for the forms that raise nothing. */
static uint64_t lin_at(const struct x86_cpu *c, const struct uop *u, uint64_t off)
{
	if (u->ea == EA_FLAT64_A32 || u->ea == EA_BASE64_A32 || u->ea == EA_FLAT32)
		off = (uint32_t)off;
	return u->ea == EA_BASE64 || u->ea == EA_BASE64_A32 ? off + c->s.seg[u->seg].base : off;
}

/* RSP, or ESP in 32-bit code, moved. */
static uint64_t stack_at(const struct x86_cpu *c, unsigned osz, uint64_t by)
{
	return osz == 4 ? (uint32_t)(c->s.gpr[X86_RSP] + by) : c->s.gpr[X86_RSP] + by;
}

LIGHT(xl_lt_pushf)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t lin = stack_at(c, u->osz, 0ull - u->osz), v;
	const struct x86_tlb_entry *e;
	void *p = host(c, lin, u->osz, X86_WRITE, &e);

	if (!p)
		return heavy(x);
	flags_out(c);
	v = c->s.rflags & ~(uint64_t)(X86_FL_VM | X86_FL_RF);
	if (u->osz == 4)
		__atomic_store_n((uint32_t *)p, (uint32_t)v, __ATOMIC_RELAXED);
	else
		__atomic_store_n((uint64_t *)p, v, __ATOMIC_RELAXED);
	stored(c, e, lin, u->osz);
	c->s.gpr[X86_RSP] = lin;
	return next(x, u);
}

/* What changes more than flags, or lets an interrupt in, is not for here. */
LIGHT(xl_lt_popf)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t mask = X86_FL_ARITH | X86_FL_DF | X86_FL_NT | X86_FL_ID | (c->cpl ? 0 : X86_FL_IOPL | X86_FL_IF);
	const struct x86_tlb_entry *e;
	const void *p = host(c, stack_at(c, u->osz, 0), u->osz, X86_READ, &e);
	uint64_t v, diff;

	if (!p)
		return heavy(x);
	v = u->osz == 4 ? __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED) : __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
	flags_out(c);
	diff = v ^ c->s.rflags;
	if ((diff & (X86_FL_TF | X86_FL_AC)) || (c->cpl && (c->s.rflags & X86_FL_IOPL)) ||
	    ((diff & v & X86_FL_IF) && (c->intr_maybe || atomic_load_explicit(&c->vcpu.events, memory_order_relaxed))))
		return heavy(x);
	c->s.rflags = (c->s.rflags & ~mask) | (v & mask) | X86_FL_FIXED;
	flags_in(c);
	c->s.gpr[X86_RSP] = stack_at(c, u->osz, u->osz);
	return 0;
}

/* A bit of memory, numbered by a register: as op_bt_m. */
static uint64_t bit_of(uint64_t *p, unsigned osz, unsigned op, bool lock, unsigned n)
{
	uint64_t m = 1ull << n, v;

	if (op == 0 || !lock) {
		v = osz == 2 ? *(uint16_t *)p : osz == 4 ? *(uint32_t *)p : *p;
		if (op) {
			uint64_t to = op == 1 ? v | m : op == 2 ? v & ~m : v ^ m;

			if (osz == 2)
				*(uint16_t *)p = (uint16_t)to;
			else if (osz == 4)
				*(uint32_t *)p = (uint32_t)to;
			else
				*p = to;
		}
		return v & m;
	}
#define LOCKED(T) (op == 1 ? __atomic_fetch_or((T *)p, (T)m, __ATOMIC_SEQ_CST) : \
		   op == 2 ? __atomic_fetch_and((T *)p, (T)~m, __ATOMIC_SEQ_CST) : __atomic_fetch_xor((T *)p, (T)m, __ATOMIC_SEQ_CST))
	v = osz == 2 ? LOCKED(uint16_t) : osz == 4 ? LOCKED(uint32_t) : LOCKED(uint64_t);
#undef LOCKED
	return v & m;
}

LIGHT(xl_lt_bt)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t n = reg_get(c, u->src, u->osz), off = uop_off(c, u), lin;
	int64_t sn = u->osz == 2 ? (int16_t)n : u->osz == 4 ? (int32_t)n : (int64_t)n;
	enum x86_how how = u->aux ? X86_WRITE : X86_READ;
	const struct x86_tlb_entry *e;
	uint64_t *p;

	off += (uint64_t)((sn >> (u->osz == 2 ? 4 : u->osz == 4 ? 5 : 6)) * u->osz);
	lin = lin_at(c, u, off);
	p = host(c, lin, u->osz, how, &e);
	if (!p)
		return heavy(x);
	if (bit_of(p, u->osz, u->aux, u->dst != 0, (unsigned)n & (u->osz * 8u - 1)))
		c->lf |= X86_LF_CF;
	else
		c->lf &= ~X86_LF_CF;
	if (u->aux)
		stored(c, e, lin, u->osz);
	return next(x, u);
}

/* --- system registers --- */

LIGHT(xl_lt_base)	/* aux: write */
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t *base = &c->s.seg[u->rep].base;

	if (!(c->s.cr4 & X86_CR4_FSGSBASE) || (u->aux && u->osz == 8 && !x86_canonical_base(c, R64(c, u->dst))))
		return heavy(x);
	if (u->aux)
		*base = reg_get(c, u->dst, u->osz);
	else
		reg_set(c, u->dst, u->osz, *base);
	return 0;
}

LIGHT(xl_lt_seg)	/* MOV of a segment register to memory */
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t lin = lin_at(c, u, uop_off(c, u));
	const struct x86_tlb_entry *e;
	uint16_t *p = host(c, lin, 2, X86_WRITE, &e);

	if (!p)
		return heavy(x);
	__atomic_store_n(p, c->s.seg[u->rep].sel, __ATOMIC_RELAXED);
	stored(c, e, lin, 2);
	return next(x, u);
}

LIGHT(xl_lt_cr3)
{
	struct x86_cpu *c = &x->ic.c;
	bool keep = (c->s.cr4 & X86_CR4_PCIDE) && (R64(c, u->src) & X86_CR3_NOFLUSH);
	uint64_t v = R64(c, u->src) & ~(keep ? X86_CR3_NOFLUSH : 0);

	if (v >> c->phys_bits)
		return heavy(x);
	x86_load_cr3(c, v, keep);
	return 0;
}

LIGHT(xl_lt_invlpg)
{
	struct x86_cpu *c = &x->ic.c;

	x86_tlb_flush_page(c, lin_at(c, u, uop_off(c, u)));
	return 0;
}

static uint64_t *base_msr(struct x86_cpu *c)
{
	switch ((uint32_t)c->s.gpr[X86_RCX]) {
	case 0xc0000100: return &c->s.seg[X86_FS].base;
	case 0xc0000101: return &c->s.seg[X86_GS].base;
	case 0xc0000102: return &c->s.kernel_gs_base;
	default: return NULL;
	}
}

LIGHT(xl_lt_rdmsr)
{
	struct x86_cpu *c = &x->ic.c;
	const uint64_t *v = base_msr(c);

	if (!v)
		return heavy(x);
	c->s.gpr[X86_RAX] = (uint32_t)*v;
	c->s.gpr[X86_RDX] = *v >> 32;
	return 0;
}

LIGHT(xl_lt_wrmsr)
{
	struct x86_cpu *c = &x->ic.c;
	uint64_t *to = base_msr(c), v = c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX];

	if (!to || !x86_canonical_base(c, v))
		return heavy(x);
	*to = v;
	return 0;
}

uintptr_t (*const xl_light[XL_LT_N])(struct xl_cpu *x, const struct uop *u, uint64_t arg) = {
	[XL_LT_INDIRECT] = xl_lt_indirect,
	[XL_LT_PAGE2] = xl_lt_page2,
	[XL_LT_SYSCALL] = xl_lt_syscall,
	[XL_LT_SYSRET] = xl_lt_sysret,
	[XL_LT_IRET] = xl_lt_iret,
	[XL_LT_PUSHF] = xl_lt_pushf,
	[XL_LT_POPF] = xl_lt_popf,
	[XL_LT_BT] = xl_lt_bt,
	[XL_LT_MOVS] = xl_lt_movs,
	[XL_LT_STOS] = xl_lt_stos,
	[XL_LT_LODS] = xl_lt_lods,
	[XL_LT_SCAS] = xl_lt_scas,
	[XL_LT_CMPS] = xl_lt_cmps,
	[XL_LT_BASE] = xl_lt_base,
	[XL_LT_SEG] = xl_lt_seg,
	[XL_LT_CR3] = xl_lt_cr3,
	[XL_LT_INVLPG] = xl_lt_invlpg,
	[XL_LT_RDMSR] = xl_lt_rdmsr,
	[XL_LT_WRMSR] = xl_lt_wrmsr,
};
