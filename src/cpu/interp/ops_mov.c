/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data movement, exchanges, the stack, addresses; and the slow halves of memory access. */
#include "cpu/interp/interp.h"
#include "cpu/x86/trial.h"

/* --- slow memory --- */

/* What address forms without segment checks leave to be looked at: non-canonical
 * addresses, and operands that run over the end of a flat segment.  SS gives #SS(0). */
static void check_canonical(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned len)
{
	uint64_t last = lin + len - 1;
	bool ok = true;

	if (c->mode == X86_MODE_LONG64)
		ok = x86_canonical(c, lin) && x86_canonical(c, last);
	else if (c->flat && u->seg < X86_FS)
		ok = last <= 0xffffffffu;
	if (!ok)
		x86_raise_err(c, u->seg == X86_SS ? X86_EX_SS : X86_EX_GP, 0);
}

uint64_t interp_ld_slow(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned len)
{
	check_canonical(c, u, lin, len);
	return x86_ld(c, lin, len, c->acc);
}

void interp_st_slow(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned len, uint64_t v)
{
	check_canonical(c, u, lin, len);
	x86_st(c, lin, len, v, c->acc);
}

void interp_rmw_slow(struct x86_cpu *c, const struct uop *u, struct rmw *r, unsigned len)
{
	const struct x86_tlb_entry *e = NULL;

	check_canonical(c, u, r->lin, len);
	if (!c->watch && c->acc != X86_ACC_USER_AC && (r->lin & 0xfff) <= PAGE_4K - len)
		e = x86_tlb_fill(c, r->lin, X86_WRITE, c->acc);
	if (e) {
		if (unlikely(c->trial))
			x86_trial_store(c, e, r->lin, len);
		r->e = e;
		r->p = (void *)(r->lin + e->addend);
		return;
	}
	/* Device memory, two pages, or a watched page: not one access. */
	x86_mem_probe(c, r->lin, len, X86_WRITE, c->acc);
	r->e = NULL;
	r->tmp = x86_ld(c, r->lin, len, c->acc);
	r->p = &r->tmp;
}

void interp_rmw_slow_end(struct x86_cpu *c, struct rmw *r, unsigned len)
{
	x86_st(c, r->lin, len, r->tmp, c->acc);
}

/* --- MOV --- */

#define MOVS_(T, bits) \
	static UOP(mov_rr##bits) { MOV_WR(bits, R##bits(c, u->src)); return u + 1; } \
	static UOP(mov_rm##bits) { MOV_WR(bits, ld##bits(c, u, uop_lin(c, u, sizeof(T), X86_READ))); return u + 1; } \
	static UOP(mov_mr##bits) \
	{ \
		st##bits(c, u, uop_lin(c, u, sizeof(T), X86_WRITE), R##bits(c, u->src)); \
		return NEXT_ST(c, u); \
	} \
	static UOP(mov_ri##bits) { MOV_WR(bits, (T)u->imm64); return u + 1; } \
	static UOP(mov_mi##bits) \
	{ \
		st##bits(c, u, uop_lin(c, u, sizeof(T), X86_WRITE), (T)u->imm); \
		return NEXT_ST(c, u); \
	}
#define MOV_WR(bits, v) MOV_WR##bits(v)
#define MOV_WR8(v) (R8(c, u->dst) = (v))
#define MOV_WR16(v) (R16(c, u->dst) = (v))
#define MOV_WR32(v) (R64(c, u->dst) = (uint32_t)(v))
#define MOV_WR64(v) (R64(c, u->dst) = (v))
MOVS_(uint8_t, 8)
MOVS_(uint16_t, 16)
MOVS_(uint32_t, 32)
MOVS_(uint64_t, 64)

#define ROW(form) { mov_##form##8, mov_##form##16, mov_##form##32, mov_##form##64 }
const uop_fn interp_mov[5][4] = { ROW(rr), ROW(rm), ROW(mr), ROW(ri), ROW(mi) };

/* Accumulator and absolute address (imm64). */
UOP(op_mov_ao)
{
	reg_set(c, GPR_OFF(X86_RAX), u->osz, ld_n(c, u, uop_lin_at(c, u, (uint64_t)u->imm64, u->osz, X86_READ), u->osz));
	return u + 1;
}
UOP(op_mov_oa)
{
	st_n(c, u, uop_lin_at(c, u, (uint64_t)u->imm64, u->osz, X86_WRITE), u->osz, c->s.gpr[X86_RAX]);
	return NEXT_ST(c, u);
}

/* --- MOVZX, MOVSX, MOVSXD --- */

#define MOVX(name, ST, DT, sbits, dbits) \
	static UOP(name##_r_##sbits##_##dbits) { MOV_WR(dbits, (DT)(ST)R##sbits(c, u->src)); return u + 1; } \
	static UOP(name##_m_##sbits##_##dbits) \
	{ \
		MOV_WR(dbits, (DT)(ST)ld##sbits(c, u, uop_lin(c, u, sbits / 8, X86_READ))); \
		return u + 1; \
	}
MOVX(zx, uint8_t, uint16_t, 8, 16)
MOVX(zx, uint8_t, uint32_t, 8, 32)
MOVX(zx, uint8_t, uint64_t, 8, 64)
MOVX(zx, uint16_t, uint16_t, 16, 16)
MOVX(zx, uint16_t, uint32_t, 16, 32)
MOVX(zx, uint16_t, uint64_t, 16, 64)
MOVX(sx, int8_t, uint16_t, 8, 16)
MOVX(sx, int8_t, uint32_t, 8, 32)
MOVX(sx, int8_t, uint64_t, 8, 64)
MOVX(sx, int16_t, uint16_t, 16, 16)
MOVX(sx, int16_t, uint32_t, 16, 32)
MOVX(sx, int16_t, uint64_t, 16, 64)
MOVX(sx, int32_t, uint16_t, 32, 16)
MOVX(sx, int32_t, uint32_t, 32, 32)
MOVX(sx, int32_t, uint64_t, 32, 64)

#define XROW(n, k, s) { NULL, n##_##k##_##s##_16, n##_##k##_##s##_32, n##_##k##_##s##_64 }
const uop_fn interp_movx[2][2][3][4] = {
	{ { XROW(zx, r, 8), XROW(zx, r, 16) }, { XROW(zx, m, 8), XROW(zx, m, 16) } },
	{ { XROW(sx, r, 8), XROW(sx, r, 16), XROW(sx, r, 32) }, { XROW(sx, m, 8), XROW(sx, m, 16), XROW(sx, m, 32) } },
};

UOP(op_lea64) { R64(c, u->dst) = u->asz == 8 ? uop_off(c, u) : (uint32_t)uop_off(c, u); return u + 1; }
UOP(op_lea32)
{
	uint32_t v = (uint32_t)uop_off(c, u);

	R64(c, u->dst) = u->asz == 2 ? (uint16_t)v : v;
	return u + 1;
}
UOP(op_lea16) { R16(c, u->dst) = (uint16_t)uop_off(c, u); return u + 1; }

UOP(op_cbw)	/* CBW, CWDE, CDQE */
{
	uint64_t a = c->s.gpr[X86_RAX];

	switch (u->osz) {
	case 2: R16(c, GPR_OFF(X86_RAX)) = (uint16_t)(int8_t)a; break;
	case 4: c->s.gpr[X86_RAX] = (uint32_t)(int16_t)a; break;
	default: c->s.gpr[X86_RAX] = (uint64_t)(int32_t)a; break;
	}
	return u + 1;
}

UOP(op_cwd)	/* CWD, CDQ, CQO */
{
	uint64_t a = c->s.gpr[X86_RAX];

	reg_set(c, GPR_OFF(X86_RDX), u->osz, (a >> (u->osz * 8 - 1)) & 1 ? ~0ull : 0);
	return u + 1;
}

UOP(op_xlat)
{
	uint64_t off = c->s.gpr[X86_RBX] + (uint8_t)c->s.gpr[X86_RAX];

	R8(c, GPR_OFF(X86_RAX)) = ld8(c, u, uop_lin_at(c, u, off, 1, X86_READ));
	return u + 1;
}

/* --- exchanges --- */

UOP(op_xchg_rr)
{
	uint64_t a = reg_get(c, u->dst, u->osz), b = reg_get(c, u->src, u->osz);

	reg_set(c, u->dst, u->osz, b);
	reg_set(c, u->src, u->osz, a);
	return u + 1;
}

/* With memory XCHG is always locked. */
UOP(op_xchg_mr)
{
	struct rmw r;
	uint64_t old, v = reg_get(c, u->src, u->osz);

	rmw_begin(c, u, &r, u->osz);
	switch (u->osz) {
	case 1: old = __atomic_exchange_n((uint8_t *)r.p, (uint8_t)v, __ATOMIC_SEQ_CST); break;
	case 2: old = __atomic_exchange_n((uint16_t *)r.p, (uint16_t)v, __ATOMIC_SEQ_CST); break;
	case 4: old = __atomic_exchange_n((uint32_t *)r.p, (uint32_t)v, __ATOMIC_SEQ_CST); break;
	default: old = __atomic_exchange_n((uint64_t *)r.p, v, __ATOMIC_SEQ_CST); break;
	}
	rmw_end(c, &r, u->osz);
	reg_set(c, u->src, u->osz, old);
	return NEXT_ST(c, u);
}

/* The host's CMPXCHG on the accumulator: flags as of CMP accumulator, destination. */
#define CMPXCHG(T, sfx, reg) \
	static bool cmpxchg_##sfx(struct x86_cpu *c, T *p, uint64_t *acc, T src) \
	{ \
		uint64_t a = *acc, old; \
		__asm__ volatile("lock cmpxchg" #sfx " %[s],%[m]\n\tmov %%rax,%[o]\n\tlahf\n\tseto %%al" \
				 : "+&a"(a), [m] "+m"(*p), [o] "=&r"(old) : [s] reg(src) : "cc", "memory"); \
		c->lf = (uint32_t)a; \
		*acc = old; \
		return c->lf & X86_LF_ZF; \
	}
CMPXCHG(uint8_t, b, "q")
CMPXCHG(uint16_t, w, "r")
CMPXCHG(uint32_t, l, "r")
CMPXCHG(uint64_t, q, "r")

static void cmpxchg(struct x86_cpu *c, const struct uop *u, void *p)
{
	uint64_t acc = c->s.gpr[X86_RAX], src = reg_get(c, u->src, u->osz);
	bool equal;

	switch (u->osz) {
	case 1: equal = cmpxchg_b(c, p, &acc, (uint8_t)src); break;
	case 2: equal = cmpxchg_w(c, p, &acc, (uint16_t)src); break;
	case 4: equal = cmpxchg_l(c, p, &acc, (uint32_t)src); break;
	default: equal = cmpxchg_q(c, p, &acc, src); break;
	}
	if (!equal)
		reg_set(c, GPR_OFF(X86_RAX), u->osz, acc);
}

UOP(op_cmpxchg_r)
{
	uint64_t v = reg_get(c, u->dst, u->osz);

	/* Unlike one in memory, a register is not touched (not even extended) on failure. */
	cmpxchg(c, u, &v);
	if (c->lf & X86_LF_ZF)
		reg_set(c, u->dst, u->osz, v);
	return u + 1;
}

UOP(op_cmpxchg_m)
{
	struct rmw r;

	rmw_begin(c, u, &r, u->osz);
	cmpxchg(c, u, r.p);
	rmw_end(c, &r, u->osz);
	return NEXT_ST(c, u);
}

UOP(op_cmpxchg8b)
{
	uint64_t want = c->s.gpr[X86_RDX] << 32 | (uint32_t)c->s.gpr[X86_RAX];
	uint64_t with = c->s.gpr[X86_RCX] << 32 | (uint32_t)c->s.gpr[X86_RBX];
	struct rmw r;

	rmw_begin(c, u, &r, 8);
	if (__atomic_compare_exchange_n((uint64_t *)r.p, &want, with, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
		c->lf |= X86_LF_ZF;
	} else {
		c->lf &= ~X86_LF_ZF;
		c->s.gpr[X86_RAX] = (uint32_t)want;
		c->s.gpr[X86_RDX] = want >> 32;
	}
	rmw_end(c, &r, 8);
	return NEXT_ST(c, u);
}

UOP(op_cmpxchg16b)
{
	uint64_t lo = c->s.gpr[X86_RAX], hi = c->s.gpr[X86_RDX];
	uint64_t lin = uop_lin(c, u, 16, X86_WRITE), pair[2];
	bool equal;
	void *p;

	if (lin & 15)
		x86_gp(c, 0);
	check_canonical(c, u, lin, 16);
	p = x86_mem_host(c, lin, 16, X86_WRITE, c->acc);
	if (p) {
		__asm__ volatile("lock cmpxchg16b %[m]" : "+a"(lo), "+d"(hi), [m] "+m"(*(char(*)[16])p), "=@ccz"(equal)
				 : "b"(c->s.gpr[X86_RBX]), "c"(c->s.gpr[X86_RCX]) : "memory");
		if (equal)
			x86_mem_stored(c, lin, 16, c->acc);
	} else {
		x86_mem_probe(c, lin, 16, X86_WRITE, c->acc);
		x86_mem_read(c, lin, pair, 16, c->acc);
		equal = pair[0] == lo && pair[1] == hi;
		lo = pair[0];
		hi = pair[1];
		if (equal) {
			pair[0] = c->s.gpr[X86_RBX];
			pair[1] = c->s.gpr[X86_RCX];
		}
		x86_mem_write(c, lin, pair, 16, c->acc);
	}
	if (equal) {
		c->lf |= X86_LF_ZF;
	} else {
		c->lf &= ~X86_LF_ZF;
		c->s.gpr[X86_RAX] = lo;
		c->s.gpr[X86_RDX] = hi;
	}
	return NEXT_ST(c, u);
}

#define XADD(T, sfx, reg) \
	static T xadd_##sfx(struct x86_cpu *c, T *p, T v) \
	{ \
		uint32_t lf; \
		__asm__ volatile("lock xadd" #sfx " %[v],%[m]\n\tlahf\n\tseto %%al" \
				 : "=&a"(lf), [m] "+m"(*p), [v] "+&" reg(v) : : "cc", "memory"); \
		c->lf = lf; \
		return v; \
	}
XADD(uint8_t, b, "q")
XADD(uint16_t, w, "r")
XADD(uint32_t, l, "r")
XADD(uint64_t, q, "r")

static uint64_t xadd(struct x86_cpu *c, const struct uop *u, void *p)
{
	uint64_t v = reg_get(c, u->src, u->osz);

	switch (u->osz) {
	case 1: return xadd_b(c, p, (uint8_t)v);
	case 2: return xadd_w(c, p, (uint16_t)v);
	case 4: return xadd_l(c, p, (uint32_t)v);
	default: return xadd_q(c, p, v);
	}
}

UOP(op_xadd_r)
{
	uint64_t sum = reg_get(c, u->dst, u->osz);
	uint64_t old = xadd(c, u, &sum);

	reg_set(c, u->src, u->osz, old);
	reg_set(c, u->dst, u->osz, sum);	/* last: it wins when both are one register */
	return u + 1;
}

UOP(op_xadd_m)
{
	struct rmw r;
	uint64_t old;

	rmw_begin(c, u, &r, u->osz);
	old = xadd(c, u, r.p);
	rmw_end(c, &r, u->osz);
	reg_set(c, u->src, u->osz, old);
	return NEXT_ST(c, u);
}

/* --- stack --- */

/* The stack segment as the seg of a uop, for the fault. */
static const struct uop stack_uop = { .seg = X86_SS };

static void push64(struct x86_cpu *c, uint64_t v)
{
	uint64_t sp = c->s.gpr[X86_RSP] - 8;

	st64(c, &stack_uop, sp, v);
	c->s.gpr[X86_RSP] = sp;
}

UOP(op_push64_r) { push64(c, R64(c, u->src)); return NEXT_ST(c, u); }
UOP(op_push64_i) { push64(c, (uint64_t)u->imm); return NEXT_ST(c, u); }
UOP(op_pop64_r)
{
	uint64_t v = ld64(c, &stack_uop, c->s.gpr[X86_RSP]);

	c->s.gpr[X86_RSP] += 8;
	R64(c, u->dst) = v;
	return u + 1;
}

/* Flat 32-bit. */
static void push32(struct x86_cpu *c, uint32_t v)
{
	uint32_t sp = (uint32_t)c->s.gpr[X86_RSP] - 4;

	st32(c, &stack_uop, sp, v);
	c->s.gpr[X86_RSP] = sp;
}
UOP(op_push32_r) { push32(c, R32(c, u->src)); return NEXT_ST(c, u); }
UOP(op_push32_i) { push32(c, (uint32_t)u->imm); return NEXT_ST(c, u); }
UOP(op_pop32_r)
{
	uint32_t v = ld32(c, &stack_uop, (uint32_t)c->s.gpr[X86_RSP]);

	c->s.gpr[X86_RSP] = (uint32_t)(c->s.gpr[X86_RSP] + 4);
	R64(c, u->dst) = v;
	return u + 1;
}

/* Any width: osz bytes from src (aux 0) or imm (aux 1). */
UOP(op_push)
{
	x86_push(c, u->osz, u->aux ? (uint64_t)u->imm : reg_get(c, u->src, u->osz));
	return NEXT_ST(c, u);
}
UOP(op_push_m)
{
	x86_push(c, u->osz, ld_n(c, u, uop_lin(c, u, u->osz, X86_READ), u->osz));
	return NEXT_ST(c, u);
}
UOP(op_pop)
{
	reg_set(c, u->dst, u->osz, x86_pop(c, u->osz));
	return u + 1;
}
/* POP m: an RSP base is the incremented one; a faulting store leaves RSP alone. */
UOP(op_pop_m)
{
	uint64_t sp = c->s.gpr[X86_RSP], v = x86_pop(c, u->osz), after = c->s.gpr[X86_RSP], lin;

	c->s.gpr[X86_RSP] = sp;
	lin = uop_lin_at(c, u, uop_off(c, u) + (u->base == GPR_OFF(X86_RSP) ? after - sp : 0), u->osz, X86_WRITE);
	st_n(c, u, lin, u->osz, v);
	c->s.gpr[X86_RSP] = after;
	return NEXT_ST(c, u);
}

/* Sets (E/R)SP by the stack's width. */
static void sp_set(struct x86_cpu *c, uint64_t v)
{
	reg_set(c, GPR_OFF(X86_RSP), c->stack_size, v);
}

UOP(op_leave)
{
	uint64_t v;

	if (c->mode == X86_MODE_LONG64 && u->osz == 8) {
		v = ld64(c, &stack_uop, c->s.gpr[X86_RBP]);
		c->s.gpr[X86_RSP] = c->s.gpr[X86_RBP] + 8;
		c->s.gpr[X86_RBP] = v;
		return u + 1;
	}
	/* x86_pop may fault: RSP must be the old one then. The frame is read first. */
	v = c->s.gpr[X86_RBP];
	if (c->stack_size != 8)
		v &= c->stack_size == 4 ? 0xffffffffu : 0xffffu;
	x86_mem_probe(c, x86_seg_lin(c, X86_SS, v, u->osz, X86_READ), u->osz, X86_READ, c->acc);
	sp_set(c, c->s.gpr[X86_RBP]);
	v = x86_pop(c, u->osz);
	reg_set(c, GPR_OFF(X86_RBP), u->osz, v);
	return u + 1;
}

/* ENTER size, level (SDM vol. 2). imm = size, aux = level & 31. */
UOP(op_enter)
{
	uint64_t old_sp = c->s.gpr[X86_RSP], old_bp = c->s.gpr[X86_RBP], frame, bp = old_bp;
	uint64_t mask = c->stack_size == 8 ? ~0ull : c->stack_size == 4 ? 0xffffffffu : 0xffffu;
	unsigned osz = u->osz, level = u->aux & 31, words = level ? level + 1 : 1;
	uint64_t low = (old_sp - (uint64_t)words * osz - (uint64_t)u->imm) & mask;
	uint64_t base = c->mode == X86_MODE_LONG64 ? 0 : c->s.seg[X86_SS].base;

	/* Everything it may touch, before anything changes; the new top must be writable. */
	x86_mem_probe(c, base + ((old_sp - osz) & mask), osz, X86_WRITE, c->acc);
	x86_mem_probe(c, base + low, 1, X86_WRITE, c->acc);
	for (unsigned i = 1; i < level; i++) {
		bp = (bp - osz) & mask;
		x86_mem_probe(c, c->mode == X86_MODE_LONG64 ? bp : x86_seg_lin(c, X86_SS, bp, osz, X86_READ), osz, X86_READ, c->acc);
	}
	bp = old_bp;
	x86_push(c, osz, reg_get(c, GPR_OFF(X86_RBP), osz));
	frame = c->s.gpr[X86_RSP];
	for (unsigned i = 1; i < level; i++) {
		uint64_t v;

		bp = (bp - osz) & mask;
		v = x86_ld(c, c->mode == X86_MODE_LONG64 ? bp : x86_seg_lin(c, X86_SS, bp, osz, X86_READ), osz, c->acc);
		x86_push(c, osz, v);
	}
	if (level)
		x86_push(c, osz, frame);
	reg_set(c, GPR_OFF(X86_RBP), osz, frame);
	sp_set(c, c->s.gpr[X86_RSP] - (uint64_t)u->imm);
	return NEXT_ST(c, u);
}

UOP(op_pusha)
{
	uint64_t sp = c->s.gpr[X86_RSP];
	uint64_t mask = c->stack_size == 4 ? 0xffffffffu : 0xffffu;

	/* All eight or nothing: probe the ends. */
	x86_mem_probe(c, x86_seg_lin(c, X86_SS, (sp - 8u * u->osz) & mask, u->osz, X86_WRITE), u->osz, X86_WRITE, c->acc);
	for (unsigned r = 0; r < 8; r++)
		x86_push(c, u->osz, r == X86_RSP ? sp : c->s.gpr[r]);
	return NEXT_ST(c, u);
}

UOP(op_popa)
{
	uint64_t sp = c->s.gpr[X86_RSP], v[8];
	uint64_t mask = c->stack_size == 4 ? 0xffffffffu : 0xffffu;

	x86_mem_probe(c, x86_seg_lin(c, X86_SS, (sp + 7u * u->osz) & mask, u->osz, X86_READ), u->osz, X86_READ, c->acc);
	for (int r = 7; r >= 0; r--)
		v[r] = x86_pop(c, u->osz);
	for (unsigned r = 0; r < 8; r++)
		if (r != X86_RSP)
			reg_set(c, GPR_OFF(r), u->osz, v[r]);
	return u + 1;
}
