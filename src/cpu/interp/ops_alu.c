/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Arithmetic, logic, shifts and rotates: the host's own instruction does the work
 * and its flags are the guest's.
 *
 * LAHF and SETO fetch the flags without touching the stack; "addb $0x7f,%al;
 * sahf" brings them back (the addition sets OF exactly when AL was 1), for
 * instructions that read or keep some.
 */
#include "cpu/interp/interp.h"

#define SAVE "\n\tlahf\n\tseto %%al"
#define LOAD "addb $0x7f,%%al\n\tsahf\n\t"

/* X(T, bits, suffix, log2, register constraint, modifier) */
#define SIZES(X, ...) \
	X(uint8_t, 8, "b", 0, "q", __VA_ARGS__) \
	X(uint16_t, 16, "w", 1, "r", __VA_ARGS__) \
	X(uint32_t, 32, "l", 2, "r", __VA_ARGS__) \
	X(uint64_t, 64, "q", 3, "r", __VA_ARGS__)

#define WR(c, off, bits, v) WR##bits(c, off, v)
#define WR8(c, off, v) (R8(c, off) = (v))
#define WR16(c, off, v) (R16(c, off) = (v))
#define WR32(c, off, v) (R64(c, off) = (uint32_t)(v))
#define WR64(c, off, v) (R64(c, off) = (v))

/* PRE is LOAD or empty.  `a` op= `b` in a register; in memory; locked in memory. */
#define ALU_CORE(T, bits, sfx, log, rc, name, insn, PRE) \
	static inline T name##_core##bits(struct x86_cpu *c, T a, T b) \
	{ \
		uint32_t lf = c->lf; \
		__asm__(PRE insn sfx " %[b],%[a]" SAVE \
			: "+&a"(lf), [a] "+&" rc(a) : [b] rc(b) : "cc"); \
		c->lf = lf; \
		return a; \
	} \
	static inline void name##_mem##bits(struct x86_cpu *c, T *p, T b) \
	{ \
		uint32_t lf = c->lf; \
		__asm__ volatile(PRE insn sfx " %[b],%[a]" SAVE \
				 : "+&a"(lf), [a] "+m"(*p) : [b] rc(b) : "cc", "memory"); \
		c->lf = lf; \
	}
#define ALU_LOCKED(T, bits, sfx, log, rc, name, insn, PRE) \
	static inline void name##_lock##bits(struct x86_cpu *c, T *p, T b) \
	{ \
		uint32_t lf = c->lf; \
		__asm__ volatile(PRE "lock " insn sfx " %[b],%[a]" SAVE \
				 : "+&a"(lf), [a] "+m"(*p) : [b] rc(b) : "cc", "memory"); \
		c->lf = lf; \
	}

#define ALU_HANDLERS(T, bits, sfx, log, rc, name, insn, PRE) \
	static UOP(name##_rr##bits) \
	{ \
		WR(c, u->dst, bits, name##_core##bits(c, R##bits(c, u->dst), R##bits(c, u->src))); \
		return u + 1; \
	} \
	static UOP(name##_ri##bits) \
	{ \
		WR(c, u->dst, bits, name##_core##bits(c, R##bits(c, u->dst), (T)u->imm)); \
		return u + 1; \
	} \
	static UOP(name##_rm##bits) \
	{ \
		T b = ld##bits(c, u, uop_lin(c, u, sizeof(T), X86_READ)); \
		WR(c, u->dst, bits, name##_core##bits(c, R##bits(c, u->dst), b)); \
		return u + 1; \
	} \
	static UOP(name##_mr##bits) \
	{ \
		struct rmw r; \
		rmw_begin(c, u, &r, sizeof(T)); \
		name##_mem##bits(c, r.p, R##bits(c, u->src)); \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	} \
	static UOP(name##_mi##bits) \
	{ \
		struct rmw r; \
		rmw_begin(c, u, &r, sizeof(T)); \
		name##_mem##bits(c, r.p, (T)u->imm); \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	} \
	static UOP(name##_lmr##bits) \
	{ \
		struct rmw r; \
		rmw_begin(c, u, &r, sizeof(T)); \
		name##_lock##bits(c, r.p, R##bits(c, u->src)); \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	} \
	static UOP(name##_lmi##bits) \
	{ \
		struct rmw r; \
		rmw_begin(c, u, &r, sizeof(T)); \
		name##_lock##bits(c, r.p, (T)u->imm); \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	}

#define ALU_OP(name, insn, PRE) \
	SIZES(ALU_CORE, name, insn, PRE) \
	SIZES(ALU_LOCKED, name, insn, PRE) \
	SIZES(ALU_HANDLERS, name, insn, PRE)

ALU_OP(add, "add", "")
ALU_OP(or, "or", "")
ALU_OP(adc, "adc", LOAD)
ALU_OP(sbb, "sbb", LOAD)
ALU_OP(and, "and", "")
ALU_OP(sub, "sub", "")
ALU_OP(xor, "xor", "")

/* CMP and TEST write nothing but flags. */
#define CMP_HANDLERS(T, bits, sfx, log, rc, name, insn) \
	static inline void name##_core##bits(struct x86_cpu *c, T a, T b) \
	{ \
		uint32_t lf; \
		__asm__(insn sfx " %[b],%[a]" SAVE : "=&a"(lf) : [a] rc(a), [b] rc(b) : "cc"); \
		c->lf = lf; \
	} \
	static UOP(name##_rr##bits) \
	{ \
		name##_core##bits(c, R##bits(c, u->dst), R##bits(c, u->src)); \
		return u + 1; \
	} \
	static UOP(name##_ri##bits) \
	{ \
		name##_core##bits(c, R##bits(c, u->dst), (T)u->imm); \
		return u + 1; \
	} \
	static UOP(name##_rm##bits) \
	{ \
		T b = ld##bits(c, u, uop_lin(c, u, sizeof(T), X86_READ)); \
		name##_core##bits(c, R##bits(c, u->dst), b); \
		return u + 1; \
	} \
	static UOP(name##_mr##bits) \
	{ \
		T a = ld##bits(c, u, uop_lin(c, u, sizeof(T), X86_READ)); \
		name##_core##bits(c, a, R##bits(c, u->src)); \
		return u + 1; \
	} \
	static UOP(name##_mi##bits) \
	{ \
		T a = ld##bits(c, u, uop_lin(c, u, sizeof(T), X86_READ)); \
		name##_core##bits(c, a, (T)u->imm); \
		return u + 1; \
	}
SIZES(CMP_HANDLERS, cmp, "cmp")
SIZES(CMP_HANDLERS, test, "test")

#define ROW(name, form) { name##_##form##8, name##_##form##16, name##_##form##32, name##_##form##64 }
#define ALU_ROWS(name) \
	{ [FORM_RR] = ROW(name, rr), [FORM_RM] = ROW(name, rm), [FORM_MR] = ROW(name, mr), \
	  [FORM_RI] = ROW(name, ri), [FORM_MI] = ROW(name, mi), [FORM_LMR] = ROW(name, lmr), \
	  [FORM_LMI] = ROW(name, lmi) }
#define CMP_ROWS(name) \
	{ [FORM_RR] = ROW(name, rr), [FORM_RM] = ROW(name, rm), [FORM_MR] = ROW(name, mr), \
	  [FORM_RI] = ROW(name, ri), [FORM_MI] = ROW(name, mi) }

const uop_fn interp_alu[ALU_N][FORM_N][4] = {
	[ALU_ADD] = ALU_ROWS(add), [ALU_OR] = ALU_ROWS(or), [ALU_ADC] = ALU_ROWS(adc),
	[ALU_SBB] = ALU_ROWS(sbb), [ALU_AND] = ALU_ROWS(and), [ALU_SUB] = ALU_ROWS(sub),
	[ALU_XOR] = ALU_ROWS(xor), [ALU_CMP] = CMP_ROWS(cmp), [ALU_TEST] = CMP_ROWS(test),
};

/* --- one operand --- */

#define UNARY(T, bits, sfx, log, rc, name, insn, PRE) \
	static UOP(name##_r##bits) \
	{ \
		uint32_t lf = c->lf; \
		T a = R##bits(c, u->dst); \
		__asm__(PRE insn sfx " %[a]" SAVE : "+&a"(lf), [a] "+&" rc(a) : : "cc"); \
		c->lf = lf; \
		WR(c, u->dst, bits, a); \
		return u + 1; \
	} \
	static UOP(name##_m##bits) \
	{ \
		struct rmw r; \
		uint32_t lf; \
		rmw_begin(c, u, &r, sizeof(T)); \
		lf = c->lf; \
		__asm__ volatile(PRE insn sfx " %[a]" SAVE \
				 : "+&a"(lf), [a] "+m"(*(T *)r.p) : : "cc", "memory"); \
		c->lf = lf; \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	} \
	static UOP(name##_l##bits) \
	{ \
		struct rmw r; \
		uint32_t lf; \
		rmw_begin(c, u, &r, sizeof(T)); \
		lf = c->lf; \
		__asm__ volatile(PRE "lock " insn sfx " %[a]" SAVE \
				 : "+&a"(lf), [a] "+m"(*(T *)r.p) : : "cc", "memory"); \
		c->lf = lf; \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	}
SIZES(UNARY, inc, "inc", LOAD)
SIZES(UNARY, dec, "dec", LOAD)
SIZES(UNARY, neg, "neg", "")
SIZES(UNARY, not, "not", LOAD)

#define UN_ROWS(name) { ROW(name, r), ROW(name, m), ROW(name, l) }
const uop_fn interp_unary[UN_N][3][4] = {
	[UN_INC] = UN_ROWS(inc), [UN_DEC] = UN_ROWS(dec), [UN_NEG] = UN_ROWS(neg), [UN_NOT] = UN_ROWS(not),
};

/* --- shifts and rotates: the count is in CL; zero counts leave flags alone --- */

#define SHIFT(T, bits, sfx, log, rc, name, insn) \
	static inline T name##_core##bits(struct x86_cpu *c, T a, uint8_t n) \
	{ \
		uint32_t lf = c->lf; \
		__asm__(LOAD insn sfx " %%cl,%[a]" SAVE : "+&a"(lf), [a] "+&" rc(a) : "c"(n) : "cc"); \
		c->lf = lf; \
		return a; \
	} \
	static UOP(name##_ri##bits) \
	{ \
		WR(c, u->dst, bits, name##_core##bits(c, R##bits(c, u->dst), (uint8_t)u->imm)); \
		return u + 1; \
	} \
	static UOP(name##_rc##bits) \
	{ \
		WR(c, u->dst, bits, name##_core##bits(c, R##bits(c, u->dst), (uint8_t)c->s.gpr[X86_RCX])); \
		return u + 1; \
	} \
	static inline const struct uop *name##_m##bits(struct x86_cpu *c, const struct uop *u, uint8_t n) \
	{ \
		struct rmw r; \
		rmw_begin(c, u, &r, sizeof(T)); \
		*(T *)r.p = name##_core##bits(c, *(T *)r.p, n); \
		rmw_end(c, &r, sizeof(T)); \
		return NEXT_ST(c, u); \
	} \
	static UOP(name##_mi##bits) { return name##_m##bits(c, u, (uint8_t)u->imm); } \
	static UOP(name##_mc##bits) { return name##_m##bits(c, u, (uint8_t)c->s.gpr[X86_RCX]); }
SIZES(SHIFT, rol, "rol")
SIZES(SHIFT, ror, "ror")
SIZES(SHIFT, rcl, "rcl")
SIZES(SHIFT, rcr, "rcr")
SIZES(SHIFT, shl, "shl")
SIZES(SHIFT, shr, "shr")
SIZES(SHIFT, sar, "sar")

#define SH_ROWS(name) { ROW(name, ri), ROW(name, mi), ROW(name, rc), ROW(name, mc) }
const uop_fn interp_shift[SH_N][4][4] = {
	[SH_ROL] = SH_ROWS(rol), [SH_ROR] = SH_ROWS(ror), [SH_RCL] = SH_ROWS(rcl), [SH_RCR] = SH_ROWS(rcr),
	[SH_SHL] = SH_ROWS(shl), [SH_SHR] = SH_ROWS(shr), [SH_SAR] = SH_ROWS(sar),
};

/* SHLD/SHRD: aux bit 0: right; imm = count or -1 for CL. A 16-bit shift by more
 * than 16 is undefined: the host decides. */
#define SHXD(T, bits, sfx) \
	static T shxd##bits(struct x86_cpu *c, bool right, T a, T b, uint8_t n) \
	{ \
		uint32_t lf = c->lf; \
		if (right) \
			__asm__(LOAD "shrd" sfx " %%cl,%[b],%[a]" SAVE \
				: "+&a"(lf), [a] "+&r"(a) : [b] "r"(b), "c"(n) : "cc"); \
		else \
			__asm__(LOAD "shld" sfx " %%cl,%[b],%[a]" SAVE \
				: "+&a"(lf), [a] "+&r"(a) : [b] "r"(b), "c"(n) : "cc"); \
		c->lf = lf; \
		return a; \
	}
SHXD(uint16_t, 16, "w")
SHXD(uint32_t, 32, "l")
SHXD(uint64_t, 64, "q")

static uint64_t shxd(struct x86_cpu *c, const struct uop *u, uint64_t a)
{
	uint8_t n = u->imm < 0 ? (uint8_t)c->s.gpr[X86_RCX] : (uint8_t)u->imm;
	uint64_t b = reg_get(c, u->src, u->osz);

	switch (u->osz) {
	case 2: return shxd16(c, u->aux, (uint16_t)a, (uint16_t)b, n);
	case 4: return shxd32(c, u->aux, (uint32_t)a, (uint32_t)b, n);
	default: return shxd64(c, u->aux, a, b, n);
	}
}

UOP(op_shxd_r)
{
	reg_set(c, u->dst, u->osz, shxd(c, u, reg_get(c, u->dst, u->osz)));
	return u + 1;
}

UOP(op_shxd_m)
{
	struct rmw r;
	uint64_t v = 0;

	rmw_begin(c, u, &r, u->osz);
	memcpy(&v, r.p, u->osz);
	v = shxd(c, u, v);
	memcpy(r.p, &v, u->osz);
	rmw_end(c, &r, u->osz);
	return NEXT_ST(c, u);
}

/* --- multiplication and division --- aux: operand is memory; src: register */

static uint64_t source(struct x86_cpu *c, const struct uop *u)
{
	return u->aux ? ld_n(c, u, uop_lin(c, u, u->osz, X86_READ), u->osz) : reg_get(c, u->src, u->osz);
}

#define MUL1(name, insn) \
	UOP(name) \
	{ \
		uint64_t b = source(c, u), a = c->s.gpr[X86_RAX], d = c->s.gpr[X86_RDX], f; \
		\
		/* Flags by PUSHF would use the red zone: collect them in registers. */ \
		switch (u->osz) { \
		case 1: \
			__asm__(insn "b %b[b]\n\tmovzwl %%ax,%%edx\n\tlahf\n\tseto %%al" : "+&a"(a), "=&d"(f) : [b] "r"(b) : "cc"); \
			c->lf = (uint32_t)a; \
			R16(c, GPR_OFF(X86_RAX)) = (uint16_t)f; \
			return u + 1; \
		case 2: \
			__asm__(insn "w %w[b]\n\tmovzwl %%ax,%k[f]\n\tlahf\n\tseto %%al" \
				: "+&a"(a), "+&d"(d), [f] "=&r"(f) : [b] "r"(b) : "cc"); \
			c->lf = (uint32_t)a; \
			R16(c, GPR_OFF(X86_RAX)) = (uint16_t)f; \
			R16(c, GPR_OFF(X86_RDX)) = (uint16_t)d; \
			return u + 1; \
		case 4: \
			__asm__(insn "l %k[b]\n\tmov %%eax,%k[f]\n\tlahf\n\tseto %%al" \
				: "+&a"(a), "+&d"(d), [f] "=&r"(f) : [b] "r"(b) : "cc"); \
			c->lf = (uint32_t)a; \
			c->s.gpr[X86_RAX] = (uint32_t)f; \
			c->s.gpr[X86_RDX] = (uint32_t)d; \
			return u + 1; \
		default: \
			__asm__(insn "q %[b]\n\tmov %%rax,%[f]\n\tlahf\n\tseto %%al" \
				: "+&a"(a), "+&d"(d), [f] "=&r"(f) : [b] "r"(b) : "cc"); \
			c->lf = (uint32_t)a; \
			c->s.gpr[X86_RAX] = f; \
			c->s.gpr[X86_RDX] = d; \
			return u + 1; \
		} \
	}
MUL1(op_mul, "mul")
MUL1(op_imul1, "imul")

/* Two and three operands: dst = src * (imm or dst); rep: 1 = immediate form. */
UOP(op_imul2)
{
	uint64_t b = source(c, u), a = u->rep ? (uint64_t)u->imm : reg_get(c, u->dst, u->osz);
	uint32_t lf;

	switch (u->osz) {
	case 2: __asm__("imulw %w[b],%w[a]" SAVE : "=&a"(lf), [a] "+&r"(a) : [b] "r"(b) : "cc"); break;
	case 4: __asm__("imull %k[b],%k[a]" SAVE : "=&a"(lf), [a] "+&r"(a) : [b] "r"(b) : "cc"); break;
	default: __asm__("imulq %[b],%[a]" SAVE : "=&a"(lf), [a] "+&r"(a) : [b] "r"(b) : "cc"); break;
	}
	c->lf = lf;
	reg_set(c, u->dst, u->osz, a);
	return u + 1;
}

/* The flags after a division are undefined; they stay as they were. */
UOP(op_div)
{
	uint64_t b = source(c, u), a = c->s.gpr[X86_RAX], d = c->s.gpr[X86_RDX];
	uint64_t n, q;

	if (!b)
		x86_raise(c, X86_EX_DE);
	switch (u->osz) {
	case 1:
		n = (uint16_t)a;
		if (n / b > 0xff)
			x86_raise(c, X86_EX_DE);
		R16(c, GPR_OFF(X86_RAX)) = (uint16_t)((n % b) << 8 | n / b);
		return u + 1;
	case 2:
		n = (d & 0xffff) << 16 | (a & 0xffff);
		if (n / b > 0xffff)
			x86_raise(c, X86_EX_DE);
		R16(c, GPR_OFF(X86_RAX)) = (uint16_t)(n / b);
		R16(c, GPR_OFF(X86_RDX)) = (uint16_t)(n % b);
		return u + 1;
	case 4:
		n = d << 32 | (uint32_t)a;
		q = n / b;
		if (q > 0xffffffffu)
			x86_raise(c, X86_EX_DE);
		c->s.gpr[X86_RAX] = q;
		c->s.gpr[X86_RDX] = n % b;
		return u + 1;
	default:
		if (d >= b)
			x86_raise(c, X86_EX_DE);
		__asm__("divq %[b]" : "+a"(a), "+d"(d) : [b] "r"(b) : "cc");
		c->s.gpr[X86_RAX] = a;
		c->s.gpr[X86_RDX] = d;
		return u + 1;
	}
}

static const struct uop *idiv_store(struct x86_cpu *c, const struct uop *u, int64_t n, int64_t b, int64_t lo, int64_t hi)
{
	int64_t q, r;

	if (b == 0 || (b == -1 && n == INT64_MIN))
		x86_raise(c, X86_EX_DE);
	q = n / b;
	r = n % b;
	if (q < lo || q > hi)
		x86_raise(c, X86_EX_DE);
	if (u->osz == 1) {
		R16(c, GPR_OFF(X86_RAX)) = (uint16_t)((uint8_t)q | (uint16_t)((uint8_t)r << 8));
	} else {
		reg_set(c, GPR_OFF(X86_RAX), u->osz, (uint64_t)q);
		reg_set(c, GPR_OFF(X86_RDX), u->osz, (uint64_t)r);
	}
	return u + 1;
}

UOP(op_idiv)
{
	uint64_t b = source(c, u), a = c->s.gpr[X86_RAX], d = c->s.gpr[X86_RDX];
	__int128 n;

	switch (u->osz) {
	case 1: return idiv_store(c, u, (int16_t)a, (int8_t)b, INT8_MIN, INT8_MAX);
	case 2: return idiv_store(c, u, (int32_t)((d & 0xffff) << 16 | (a & 0xffff)), (int16_t)b, INT16_MIN, INT16_MAX);
	case 4: return idiv_store(c, u, (int64_t)(d << 32 | (uint32_t)a), (int32_t)b, INT32_MIN, INT32_MAX);
	default:
		n = (__int128)((unsigned __int128)d << 64 | a);
		if (!b || (n == (__int128)((unsigned __int128)1 << 127) && (int64_t)b == -1))
			x86_raise(c, X86_EX_DE);
		if (n / (int64_t)b > INT64_MAX || n / (int64_t)b < INT64_MIN)
			x86_raise(c, X86_EX_DE);
		c->s.gpr[X86_RAX] = (uint64_t)(n / (int64_t)b);
		c->s.gpr[X86_RDX] = (uint64_t)(n % (int64_t)b);
		return u + 1;
	}
}

/* --- bits --- */

/* aux: 0 BT, 1 BTS, 2 BTR, 3 BTC.  CF is the bit; the other flags are left alone
 * (architecturally undefined but for ZF, which BT keeps). */
static uint64_t bit_op(struct x86_cpu *c, unsigned op, uint64_t v, unsigned n)
{
	uint64_t m = 1ull << n;

	c->lf = v & m ? c->lf | X86_LF_CF : c->lf & ~X86_LF_CF;
	switch (op) {
	case 1: return v | m;
	case 2: return v & ~m;
	case 3: return v ^ m;
	default: return v;
	}
}

/* rep: 1 = immediate bit number, else in src. */
UOP(op_bt_r)
{
	uint64_t n = u->rep ? (uint64_t)u->imm : reg_get(c, u->src, u->osz);
	uint64_t v = bit_op(c, u->aux, reg_get(c, u->dst, u->osz), (unsigned)n & (u->osz * 8 - 1));

	if (u->aux)
		reg_set(c, u->dst, u->osz, v);
	return u + 1;
}

static void bit_op_mem(struct x86_cpu *c, const struct uop *u, uint64_t lin, unsigned n, bool lock)
{
	struct rmw r;
	uint64_t v = 0, old;

	if (u->aux == 0) {
		bit_op(c, 0, ld_n(c, u, lin, u->osz), n);
		return;
	}
	rmw_begin_at(c, u, &r, lin, u->osz);
	do {
		v = 0;
		memcpy(&v, r.p, u->osz);
		old = v;
		v = bit_op(c, u->aux, v, n);
		if (!lock || !r.e) {
			memcpy(r.p, &v, u->osz);
			break;
		}
	} while (u->osz == 2 ? !__sync_bool_compare_and_swap((uint16_t *)r.p, (uint16_t)old, (uint16_t)v)
		: u->osz == 4 ? !__sync_bool_compare_and_swap((uint32_t *)r.p, (uint32_t)old, (uint32_t)v)
			      : !__sync_bool_compare_and_swap((uint64_t *)r.p, old, v));
	rmw_end(c, &r, u->osz);
}

/* With a register bit number the operand is a bit string: the address moves by
 * the number's operand-size part (SDM vol. 2, BT). scale 4 of aux2: locked. */
UOP(op_bt_m)
{
	uint64_t off = uop_off(c, u);
	uint64_t n = u->rep ? (uint64_t)u->imm : reg_get(c, u->src, u->osz);
	int64_t sn = u->osz == 2 ? (int16_t)n : u->osz == 4 ? (int32_t)n : (int64_t)n;
	unsigned bits = u->osz * 8u;
	uint64_t lin;

	if (!u->rep)
		off += (uint64_t)((sn >> (u->osz == 2 ? 4 : u->osz == 4 ? 5 : 6)) * u->osz);
	lin = uop_lin_at(c, u, off, u->osz, u->aux ? X86_WRITE : X86_READ);
	bit_op_mem(c, u, lin, (unsigned)n & (bits - 1), u->dst != 0);
	return NEXT_ST(c, u);
}

/* BSF (rep 0), BSR (rep 1). A zero source leaves the destination as it is, all 64
 * bits of it, as silicon does. */
UOP(op_bsx)
{
	uint64_t v = source(c, u), r;
	uint32_t lf = c->lf;

	if (u->osz == 2)
		v &= 0xffff;
	/* Let the host set the flags, undefined ones included. */
	if (u->rep)
		__asm__(LOAD "bsrq %[v],%[r]" SAVE : "+&a"(lf), [r] "=&r"(r) : [v] "r"(v) : "cc");
	else
		__asm__(LOAD "bsfq %[v],%[r]" SAVE : "+&a"(lf), [r] "=&r"(r) : [v] "r"(v) : "cc");
	c->lf = lf;
	if (v)
		reg_set(c, u->dst, u->osz, r);
	return u + 1;
}

UOP(op_bswap)
{
	if (u->osz == 8)
		R64(c, u->dst) = __builtin_bswap64(R64(c, u->dst));
	else if (u->osz == 4)
		R64(c, u->dst) = __builtin_bswap32(R32(c, u->dst));
	else
		R16(c, u->dst) = 0;	/* undefined; zero as on current CPUs */
	return u + 1;
}

/* --- flags as operands --- */

UOP(op_cmc) { c->lf ^= X86_LF_CF; return u + 1; }
UOP(op_clc) { c->lf &= ~X86_LF_CF; return u + 1; }
UOP(op_stc) { c->lf |= X86_LF_CF; return u + 1; }
UOP(op_cld) { c->s.rflags &= ~(uint64_t)X86_FL_DF; return u + 1; }
UOP(op_std) { c->s.rflags |= X86_FL_DF; return u + 1; }
UOP(op_lahf) { R8(c, GPR_OFF(X86_RAX) + 1) = (uint8_t)(((c->lf >> 8) & 0xd5) | 2); return u + 1; }
UOP(op_sahf)
{
	c->lf = (c->lf & 1) | (uint32_t)((R8(c, GPR_OFF(X86_RAX) + 1) & 0xd5) | 2) << 8;
	return u + 1;
}
UOP(op_salc) { R8(c, GPR_OFF(X86_RAX)) = c->lf & X86_LF_CF ? 0xff : 0; return u + 1; }

UOP(op_setcc_r) { R8(c, u->dst) = cond_true(c->lf, u->aux); return u + 1; }
UOP(op_setcc_m)
{
	st8(c, u, uop_lin(c, u, 1, X86_WRITE), cond_true(c->lf, u->aux));
	return NEXT_ST(c, u);
}
UOP(op_cmov_r)
{
	uint64_t v = reg_get(c, cond_true(c->lf, u->aux) ? u->src : u->dst, u->osz);

	reg_set(c, u->dst, u->osz, v);	/* a 32-bit move clears the upper half either way */
	return u + 1;
}
UOP(op_cmov_m)
{
	uint64_t v = ld_n(c, u, uop_lin(c, u, u->osz, X86_READ), u->osz);

	reg_set(c, u->dst, u->osz, cond_true(c->lf, u->aux) ? v : reg_get(c, u->dst, u->osz));
	return u + 1;
}

/* --- decimal adjustment (16- and 32-bit modes): aux = opcode --- SDM vol. 2 */

static void bcd_flags(struct x86_cpu *c, uint8_t al, bool af, bool cf)
{
	test_core8(c, al, al);
	c->lf &= ~(X86_LF_AF | X86_LF_CF);
	c->lf |= (af ? X86_LF_AF : 0) | (cf ? X86_LF_CF : 0);
}

static void daa_das(struct x86_cpu *c, bool sub)
{
	uint8_t *al = &R8(c, GPR_OFF(X86_RAX)), old = *al;
	bool cf = c->lf & X86_LF_CF, af = c->lf & X86_LF_AF, old_cf = cf;

	if ((old & 15) > 9 || af) {
		cf = old_cf || (sub ? old < 6 : old > 0xf9);
		*al = (uint8_t)(sub ? *al - 6 : *al + 6);
		af = true;
	} else {
		af = false;
		cf = false;
	}
	if (old > 0x99 || old_cf) {
		*al = (uint8_t)(sub ? *al - 0x60 : *al + 0x60);
		cf = true;
	} else if (!sub) {
		cf = false;
	}
	bcd_flags(c, *al, af, cf);
}

static void aaa_aas(struct x86_cpu *c, bool sub)
{
	uint16_t *ax = &R16(c, GPR_OFF(X86_RAX));
	bool adjust = (*ax & 15) > 9 || (c->lf & X86_LF_AF);

	if (adjust)
		*ax = (uint16_t)(sub ? *ax - 0x106 : *ax + 0x106);
	*ax &= 0xff0f;
	bcd_flags(c, (uint8_t)*ax, adjust, adjust);
}

UOP(op_bcd)
{
	uint16_t *ax = &R16(c, GPR_OFF(X86_RAX));
	uint8_t imm = (uint8_t)u->imm;

	switch (u->aux) {
	case 0x27: daa_das(c, false); break;
	case 0x2f: daa_das(c, true); break;
	case 0x37: aaa_aas(c, false); break;
	case 0x3f: aaa_aas(c, true); break;
	case 0xd4:
		if (!imm)
			x86_raise(c, X86_EX_DE);
		*ax = (uint16_t)(((*ax & 0xff) / imm) << 8 | (*ax & 0xff) % imm);
		bcd_flags(c, (uint8_t)*ax, false, false);
		break;
	default:
		*ax = (uint8_t)((*ax & 0xff) + (*ax >> 8) * imm);
		bcd_flags(c, (uint8_t)*ax, false, false);
		break;
	}
	return u + 1;
}
